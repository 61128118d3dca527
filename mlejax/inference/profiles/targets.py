"""The profiled quantity (target): an entry of the parameters or any smooth function of them, as a function of u.

An entry that is a function of one coordinate of u is profiled in that coordinate (profiles do not depend on the scale), so
that nothing has to be differentiated.  Other entries (of a simplex, of a covariance, tied ones) are functions of u on the scale
of their interval's link; functions of the user are not transformed.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from mlejax.execution import compiled, float64
from mlejax.inference.intervals.delta import Linearised, linearise
from mlejax.parameters import Space, with_addresses
from mlejax.shapes import Count, Device, Either, Float, Host, Params, PyTree
from mlejax.transforms import Box, Identity, Log, Transform

POINTS = 32  # of one call of the compiled derivatives


class Derivatives(NamedTuple):
    """A target at m points: values (m,), gradients (m, p) and Hessians (m, p, p) in u; None for Hessians that are 0."""

    values: Float[Host, " m"]
    gradients: Float[Host, "m p"]
    hessians: Float[Host, "m p p"] | None


@dataclass(frozen=True, eq=False)
class Coordinate:
    """A target that is an entry determined by one coordinate of u.

    Attributes:
        label: name of the entry.
        space: the parameter space.
        j: position of the coordinate in u.
        link: the bijection from the coordinate to the entry.
    """

    label: str
    space: Space
    j: int
    link: Transform

    @property
    def bounds(self) -> tuple[float, float]:
        """Lower and upper bound of the coordinate of u, -inf and inf where it has none."""
        return float(self.space.lower[self.j]), float(self.space.upper[self.j])

    def at(self, u: Float[Host, "m p"]) -> Derivatives:
        """Return the coordinate at m points u, and its derivatives there (a unit gradient, no Hessian)."""
        gradients = np.zeros(u.shape)
        gradients[:, self.j] = 1.0
        return Derivatives(u[:, self.j], gradients, None)

    def natural(self, values: Float[Host, " m"]) -> Float[Host, " m"]:
        """Return the entry, natural scale (m,), for values of the coordinate (m,)."""
        return _forward(self.link, values)


@dataclass(frozen=True, eq=False)
class OfParams:
    """A target that is a function of the parameters.

    Attributes:
        label: its name.
        space: the parameter space.
        function: maps params to one number; None for the reported entry at position ``entry``, on the scale of its link.
        fixed: vector with the values of fixed entries, or None.
        entry: position of the reported entry, if ``function`` is None.
        link: the bijection from the target to the value that is shown; None if they are the same.
    """

    label: str
    space: Space
    function: Callable[[Any], Any] | None
    fixed: Either | None
    entry: int = 0
    link: Transform | None = None

    @property
    def bounds(self) -> tuple[float, float]:
        """-inf and inf: the range of the function is not known."""
        return -np.inf, np.inf

    def at(self, u: Float[Host, "m p"]) -> Derivatives:
        """Return the function at m points u, with its gradients and Hessians there."""
        parts = []
        with float64(), np.errstate(all="ignore"):
            for begin in range(0, len(u), POINTS):
                part = u[begin : begin + POINTS]
                full = np.concatenate([part, np.broadcast_to(part[:1], (POINTS - len(part), u.shape[1]))])
                found = _derivatives(self.function, self.space, full, self.fixed, np.int32(self.entry))
                parts.append([np.asarray(a)[: len(part)] for a in found])
        return Derivatives(*(np.concatenate(each) for each in zip(*parts, strict=True)))

    def natural(self, values: Float[Host, " m"]) -> Float[Host, " m"]:
        """Return the values to show (m,) for values of the target (m,): mapped by ``link``, else unchanged."""
        return values if self.link is None else _forward(self.link, values)


Target = Coordinate | OfParams


def _forward(link: Transform, values: Float[Host, " m"]) -> Float[Host, " m"]:
    if isinstance(link, (Identity, Log, Box)):
        with np.errstate(over="ignore"):
            return np.exp(values) if isinstance(link, Log) else values
    with float64(), np.errstate(all="ignore"):
        return np.asarray(_mapped(link, np.asarray(values, np.float64)))


@partial(compiled, how="hasty", static=("link",))
def _mapped(link: Transform, values: Host) -> PyTree:
    return link.forward(values, values.shape)


@partial(compiled, static=("function", "space"))
def _derivatives(function: Callable[..., Any], space: Space, u: Any, fixed: Either | None, entry: Count) -> PyTree:
    """Return value (m,), gradient (m, p) and Hessian (m, p, p) of a target at points u (m, p): of ``function`` of params, or, if
    that is None, of entry ``entry`` on its link scale.
    """
    def value(t: Device) -> PyTree:
        params = space.params_from_u(t, fixed)
        if function is None:
            return _on_links(space, params)[entry]
        return jnp.reshape(jax.tree.leaves(with_addresses(function, space)(params))[0], ()).astype(t.dtype)

    def one(t: Device) -> PyTree:
        return value(t), jax.grad(value)(t), jax.hessian(value)(t)

    return jax.vmap(one)(u)


def _on_links(space: Space, params: Params) -> PyTree:
    """Return all reported entries of params, each on the unconstrained scale of its link (r,); traced by JAX."""
    parts = [jnp.ravel(v)[leaf.reported_index] for leaf, v in zip(space.leaves, space.split(params), strict=True)]
    entries = jnp.concatenate(parts)
    return jnp.concatenate([jnp.reshape(link.inverse(entries[k : k + 1]), (1,)) for k, link in enumerate(space.links)])


def entry_targets(space: Space, fixed: Either | None, entries: Any) -> list[Target]:
    """Return the targets of the reported entries at the positions ``entries``, which must not be fixed.

    ``fixed``: vector with the values of fixed entries, or None.
    """
    own = _coordinates(space)
    out: list[Target] = []
    for k in entries:
        link, label = space.links[k], space.labels[k]
        if own[k] >= 0:
            out.append(Coordinate(label, space, int(own[k]), link))
        else:
            out.append(OfParams(label, space, None, fixed, int(k), link))
    return out


def _coordinates(space: Space) -> np.ndarray:
    """Return for each entry that tables show the position of the coordinate of u that alone determines it; -1 if none does,
    or if the entry is fixed (r,).
    """
    place = {int(j): i for i, j in enumerate(range(space.n_free) if space.ties is None else space.ties.kept)}
    out = np.full(space.n_reported, -1)
    for leaf, at, rows in zip(space.leaves, space.u_slices, space.reported_slices, strict=True):
        if leaf.n_free and leaf.transform.elementwise:
            index = leaf.free_index if leaf.partly_fixed else np.arange(leaf.size)
            out[rows.start + index] = [place.get(at.start + i, -1) for i in range(leaf.n_free)]
    return out


def function_target(
    function: Callable[[Any], Any], space: Space, theta: Either, fixed: Either | None, regressed: Collection[str] = ()
) -> OfParams:
    """Return the target of a user's function of params.

    Args:
        function: maps params, natural scale, to one number; it may read entries by name, p["mu[age]"].
        space: the parameter space.
        theta: estimates (p,).
        fixed: vector with the values of fixed entries, or None.
        regressed: names of the parameters with a formula, which cannot be read without an entry.

    Raises:
        TypeError: the function does not return numbers, or cannot be differentiated by JAX.
        ValueError: it returns more than one number, is not finite at the estimate, or has derivative 0 there.
    """
    of_params = with_addresses(function, space, regressed)
    found: Linearised = linearise(lambda t: of_params(space.params_from_theta(t, fixed)), theta)
    name = getattr(function, "__name__", "function")
    if found.values.size != 1:
        raise ValueError(
            f"profile: expected a function that returns one number, got {found.values.size} ({', '.join(found.labels[:6])}); "
            "return one of them"
        )
    label = found.labels[0]
    label = ("function" if name == "<lambda>" else name) if label == "value" else label
    for what, part in (("value", found.values), ("derivative", found.jacobian)):
        if not np.isfinite(part).all():
            raise ValueError(
                f"{label}: its {what} at the estimate is not finite, so that it has no profile; profile the parameters that it "
                "depends on"
            )
    if not found.jacobian.any():
        raise ValueError(
            f"{label}: its derivative with respect to the parameters is 0 at the estimate, so that it has no profile; profile "
            "the parameters that it depends on, and transform the limits"
        )
    return OfParams(label, space, function, fixed)
