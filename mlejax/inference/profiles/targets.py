"""What a profile is taken of: an entry of the parameters or any smooth function of them, as a function of u.

An entry that is one coordinate of u by itself is profiled in that coordinate (profiles do not depend on the scale), so that
nothing has to be differentiated.  Other entries (of a simplex, of a covariance, tied ones) are functions of u on the scale of
their interval's link, and functions of the user are taken as they come.
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
    """An entry that is a coordinate of u by itself.

    Attributes:
        label: its address.
        space: the layout.
        j: which coordinate.
        link: the bijection from the coordinate to the entry.
    """

    label: str
    space: Space
    j: int
    link: Transform

    @property
    def bounds(self) -> tuple[float, float]:
        """Closed bounds of the coordinate, infinite where there is none."""
        return float(self.space.lower[self.j]), float(self.space.upper[self.j])

    def at(self, u: Float[Host, "m p"]) -> Derivatives:
        """The coordinate at m points."""
        gradients = np.zeros(u.shape)
        gradients[:, self.j] = 1.0
        return Derivatives(u[:, self.j], gradients, None)

    def natural(self, values: Float[Host, " m"]) -> Float[Host, " m"]:
        """Values of the coordinate as values of the entry."""
        return _forward(self.link, values)


@dataclass(frozen=True, eq=False)
class OfParams:
    """A function of the parameters.

    Attributes:
        label: its name.
        space: the layout.
        function: params -> a number; or None for the reported entry of number ``entry`` on the scale of its link.
        fixed: values under ``fixed=``, or None.
        entry: which of the reported entries.
        link: the bijection from the target to what is shown, or None.
    """

    label: str
    space: Space
    function: Callable[[Any], Any] | None
    fixed: Either | None
    entry: int = 0
    link: Transform | None = None

    @property
    def bounds(self) -> tuple[float, float]:
        """None are known."""
        return -np.inf, np.inf

    def at(self, u: Float[Host, "m p"]) -> Derivatives:
        """The function at m points."""
        parts = []
        with float64(), np.errstate(all="ignore"):
            for begin in range(0, len(u), POINTS):
                part = u[begin : begin + POINTS]
                full = np.concatenate([part, np.broadcast_to(part[:1], (POINTS - len(part), u.shape[1]))])
                found = _derivatives(self.function, self.space, full, self.fixed, np.int32(self.entry))
                parts.append([np.asarray(a)[: len(part)] for a in found])
        return Derivatives(*(np.concatenate(each) for each in zip(*parts, strict=True)))

    def natural(self, values: Float[Host, " m"]) -> Float[Host, " m"]:
        """Values as they are shown."""
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
    def value(t: Device) -> PyTree:
        params = space.params_from_u(t, fixed)
        if function is None:
            return _on_links(space, params)[entry]
        return jnp.reshape(jax.tree.leaves(with_addresses(function, space)(params))[0], ()).astype(t.dtype)

    def one(t: Device) -> PyTree:
        return value(t), jax.grad(value)(t), jax.hessian(value)(t)

    return jax.vmap(one)(u)


def _on_links(space: Space, params: Params) -> PyTree:
    """All reported entries on the scales of their links, traced."""
    parts = [jnp.ravel(v)[leaf.reported_index] for leaf, v in zip(space.leaves, space.split(params), strict=True)]
    entries = jnp.concatenate(parts)
    return jnp.concatenate([jnp.reshape(link.inverse(entries[k : k + 1]), (1,)) for k, link in enumerate(space.links)])


def entry_targets(space: Space, fixed: Either | None, entries: Any) -> list[Target]:
    """Targets of reported entries, by number; those that are fixed have none and must be left out by the caller."""
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
    """For each reported entry the coordinate of u that it is a function of by itself, -1 where there is none."""
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
    """The target of a user's function of params; those that are ``regressed`` are refused by their name alone.

    Raises:
        TypeError: it is no function, or cannot be differentiated.
        ValueError: it returns more than one number, or does not depend on the parameters.
    """
    of_params = with_addresses(function, space, regressed)
    found: Linearised = linearise(lambda t: of_params(space.params_from_theta(t, fixed)), theta)
    name = getattr(function, "__name__", "function")
    if found.values.size != 1:
        raise ValueError(
            f"a profile is of one number, but the function returns {found.values.size} ({', '.join(found.labels[:6])}); "
            "give a function of one of them"
        )
    label = found.labels[0]
    label = ("function" if name == "<lambda>" else name) if label == "value" else label
    if not (np.isfinite(found.values).all() and np.isfinite(found.jacobian).all()):
        raise ValueError(f"{label}: its value or derivative at the estimate is not finite, so that it has no profile")
    if not found.jacobian.any():
        raise ValueError(
            f"{label}: its derivative by the parameters is 0 at the estimate.  A function that does not depend on them has no "
            "profile; profile what it is a function of, and map the ends"
        )
    return OfParams(label, space, function, fixed)
