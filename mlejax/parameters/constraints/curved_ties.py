r"""Nonlinear equality constraints c(params) = 0: some coordinates stay free ("kept"), the others solve the equations.

The determined coordinates, d, are the root of c(kept, d) = 0 near a reference point that satisfies it. Newton's method finds
the root, and this search is not differentiated; two more steps from the root are. The first makes the error of d of second
order in a change of the kept coordinates, the second of fourth order, so that derivatives up to the third are exact. By the
implicit function theorem the score and information over the kept coordinates are then those of the constrained problem:

    s = Z' g,        I = Z' ( I_full + sum_j kappa_j d^2 c_j ) Z,        A Z = 0,   kappa the multipliers,

and Cov = Z I^-1 Z' is the covariance that the constraints imply (Aitchison & Silvey 1958, Annals of Mathematical Statistics 29).

The reference is stored in the vector of fixed values, at the positions of the free entries.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from mlejax.parameters.addresses import with_addresses
from mlejax.parameters.constraints.ties import Ties
from mlejax.portable import reduced
from mlejax.shapes import Device, Either, Float, Host, Params, PyTree, Reduced

if TYPE_CHECKING:
    from mlejax.parameters.space import Space

MOST_STEPS = 60
CLOSE = 1e-13  # Newton's method has converged if its relative step is at most this
ROOT = 1e-8  # no root was found if the last relative step exceeds this


@dataclass(frozen=True)
class CurvedTies:
    """Nonlinear constraints by which the ``kept`` coordinates determine all others; hashable, part of the compilation key.

    Attributes:
        kept: positions of the coordinates that stay free, among all n.
        n: number of all coordinates.
        functions: functions of params; each returns numbers g(params) constrained to 0.
        linear_bytes: (R, r) of additional linear constraints R x = r on the entries x that tables show, R (m, n_reported)
            and r (m,), as bytes; or None.
        regressed: names of the parameters with a formula, which the functions cannot read as a whole.
        matrix_bytes: derivative of all natural coordinates with respect to the kept ones at the reference (n, kept), as
            bytes; not a part of the compilation key.
        reference_bytes: all natural coordinates at the reference (n,), as bytes; not a part of the compilation key.
    """

    kept: tuple[int, ...]
    n: int
    functions: tuple[Callable[[Any], Any], ...]
    linear_bytes: tuple[bytes, bytes] | None = None
    regressed: tuple[str, ...] = ()
    matrix_bytes: bytes = field(default=b"", compare=False)
    reference_bytes: bytes = field(default=b"", compare=False)

    def __reduce__(self) -> Reduced:
        return reduced(self, "functions")

    @cached_property
    def index(self) -> np.ndarray:
        """``kept`` as an array."""
        return np.array(self.kept, np.int64)

    @cached_property
    def dependent(self) -> np.ndarray:
        """Positions of the coordinates that the constraints determine, ascending."""
        return np.setdiff1d(np.arange(self.n), self.index)

    @cached_property
    def matrix(self) -> np.ndarray:
        """Derivative of all natural coordinates with respect to the kept ones at the reference (n, kept)."""
        return np.frombuffer(self.matrix_bytes, np.float64).reshape(self.n, len(self.kept))

    def tangent_at(self, kept: Float[Host, " kept"]) -> Ties:
        """Return the linear constraints that are tangent to these at the reference point, whose kept natural coordinates are
        ``kept``.
        """
        offset = np.frombuffer(self.reference_bytes, np.float64) - self.matrix @ kept
        return Ties(self.kept, offset.tobytes(), self.matrix_bytes, self.n)

    def residuals(self, space: Space, params: Params) -> Either:
        """Return c(params) (m,): the values of the functions, then R x - r of the linear constraints; it can be traced.

        Args:
            space: the parameter space without constraints.
            params: the parameters in the user's structure.
        """
        parts: list[Any] = []
        for function in self.functions:
            found = with_addresses(function, space, self.regressed)(params)
            parts += [jnp.ravel(jnp.asarray(leaf)) for leaf in jax.tree.leaves(found)]
        if self.linear_bytes is not None:
            R, r = (np.frombuffer(part, np.float64) for part in self.linear_bytes)
            each = [jnp.ravel(v)[lf.reported_index] for lf, v in zip(space.leaves, space.split(params), strict=True)]
            parts.append(R.reshape(r.size, -1) @ jnp.concatenate(each) - r)
        return jnp.concatenate(parts)

    def in_u(self, space: Space, u: Float[Either, " kept"], fixed: Either) -> Either:
        """Return all coordinates of u (n,) from the kept ones. The determined coordinates are NaN if Newton's method finds no
        root from the reference. In a space with bounds all coordinates are NaN in that case, and also if a determined
        coordinate is beyond its bound.

        Args:
            space: the parameter space without constraints.
            u: the kept coordinates.
            fixed: all entries of params (n_values,): fixed values, and the reference for the others.
        """
        start = space.u_from_params(space.at_fixed(fixed))
        found = self._completed(lambda x: self.residuals(space, space.params_from_u(x, fixed)), u, start)
        if not space.boxed:
            return found
        inside = jnp.all((found >= space.lower) & (found <= space.upper))
        return jnp.where(inside, found, jnp.nan)

    def in_theta(self, space: Space, theta: Float[Either, " kept"], fixed: Either) -> Either:
        """Return all natural coordinates theta (n,) from the kept ones, ``theta``; the determined ones are NaN if Newton's method
        finds no root from the reference.  Bounds are not checked; the other arguments are those of `in_u`.
        """
        start = space.theta_from_u(space.u_from_params(space.at_fixed(fixed)))
        return self._completed(lambda x: self.residuals(space, space.params_from_theta(x, fixed)), theta, start)

    def _completed(self, residual: Callable[[Any], Any], kept: Either, reference: Any) -> Either:
        reference = lax.stop_gradient(reference)
        whole = lambda k, d: reference.at[self.index].set(k).at[self.dependent].set(d)
        d = root(lambda d: residual(whole(lax.stop_gradient(kept), d)), reference[self.dependent])
        d = lax.stop_gradient(d)
        step = d
        for _ in range(2):
            step = newton_step(lambda d: residual(whole(kept, d)), d)
            d = d + step
        left = lax.stop_gradient(jnp.max(jnp.abs(step) / (1.0 + jnp.abs(d))))
        return whole(kept, jnp.where(left <= ROOT, d, jnp.nan))


def newton_step(function: Callable[[Any], Any], d: Float[Either, " m"]) -> Either:
    """Return the Newton step (m,) from d for function(d) = 0, an array (m,); it can be traced. Infinite or NaN if the derivative
    is singular.
    """
    value, slope = function(d), jax.jacfwd(function)(d)
    return -value / slope[0] if d.shape[0] == 1 else -jnp.linalg.solve(slope, value)


def root(function: Callable[[Any], Any], start: Float[Either, " m"]) -> Either:
    """Return the last point (m,) of Newton's method for function(d) = 0 from ``start``; it can be traced.

    A step that does not reduce the largest equation (divided by its largest derivative at the start) is taken back and divided
    by four. The method ends at a root, at a step of relative size 1e-13, or after 60 trials; whether the last point is a root
    is not checked.
    """
    slope = jax.jacfwd(function)(start)
    weight = 1.0 / jnp.maximum(jnp.max(jnp.abs(slope), axis=1), 1e-300)
    size_of = lambda c: jnp.max(jnp.abs(c) * weight)

    def going(state: PyTree) -> Device:
        _, _, step, size, n = state
        return (n < MOST_STEPS) & (size > 0) & (jnp.max(jnp.abs(step)) > 0)

    def turn(state: PyTree) -> PyTree:
        d, full, step, size, n = state
        new = d + step
        new_size = size_of(function(new))
        better = new_size < size
        d = jnp.where(better, new, d)
        full = jnp.where(better, newton_step(function, d), full)
        small = jnp.max(jnp.abs(step) / (1.0 + jnp.abs(d))) <= CLOSE
        step = jnp.where(small, 0.0, jnp.where(better, full, 0.25 * step))
        return d, full, step, jnp.where(better, new_size, size), n + np.int32(1)

    first = newton_step(function, start)
    return lax.while_loop(going, turn, (start, first, first, size_of(function(start)), np.int32(0)))[0]
