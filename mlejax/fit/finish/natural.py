r"""Convert points, scores and informations from unconstrained coordinates u to natural ones theta, for one data set or many.

Exact, and without differentiating the likelihood again: with J = d theta / d u,

    score_theta = J^-T score_u,
    I_theta = J^-T ( I_u + sum_k score_theta,k  d^2 theta_k / du du' ) J^-1.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from mlejax import linalg
from mlejax.execution import compiled, lapack, limits, on_cpu, run_tasks
from mlejax.execution.chunking import Budget
from mlejax.objective import filled
from mlejax.optimize import OptimizeResult
from mlejax.parameters import Space
from mlejax.shapes import Bool, Device, Either, Float, Host, Params, PyTree


class NaturalEstimates(NamedTuple):
    """The estimates of one data set in natural coordinates.

    Attributes:
        theta: free parameters, natural scale, (p,).
        jacobian: d theta / d u, (p, p).
        score: gradient of the log-likelihood with respect to theta, (p,).
        information: minus its Hessian with respect to theta, (p, p).
    """

    theta: Float[Host, " p"]
    jacobian: Float[Host, "p p"]
    score: Float[Host, " p"]
    information: Float[Host, "p p"]


class InTheta(NamedTuple):
    """Final points of L data sets in natural coordinates.

    Attributes:
        theta, score, information, jacobian: as in `NaturalEstimates`, with a leading axis L.
        inverse: inverse of the information with respect to theta over the coordinates that are not at a bound, 0 elsewhere,
            (L, p, p).  It, ``errors_u`` and ``trace`` mean something only where ``definite`` is True.
        errors_u: standard errors in u, (L, p).
        trace: trace of the inverse of the information in u scaled to unit diagonal, (L,); all its eigenvalues are at least
            1 / trace.
        definite: whether the information is positive definite in u and in theta, (L,).
        params: the user's structure, arrays with a leading axis L.
    """

    theta: Float[Host, "L p"]
    score: Float[Host, "L p"]
    information: Float[Host, "L p p"]
    jacobian: Float[Host, "L p p"]
    inverse: Float[Host, "L p p"]
    errors_u: Float[Host, "L p"]
    trace: Float[Host, " L"]
    definite: Bool[Host, " L"]
    params: PyTree


def to_theta(space: Space, u: Any, fixed: Either | None, score: Any, information: Any) -> PyTree:
    """Convert score, (p,), and information, (p, p), at u, (p,), to `NaturalEstimates` (module docstring); traceable by JAX."""
    theta_of: Callable[..., Any] = partial(space.theta_from_u, fixed=fixed)
    if all(leaf.transform.unchanged for leaf in space.leaves):
        identity: Any = jnp.eye(u.shape[0], dtype=u.dtype)
        return NaturalEstimates(u, identity, score, information)
    if all(leaf.transform.elementwise for leaf in space.leaves):
        one: Device = jnp.ones_like(u)
        first, second = jax.jvp(lambda t: jax.jvp(theta_of, (t,), (one,))[1], (u,), (one,))
        natural = score / first
        inner = information + jnp.diag(natural * second)
        slopes: Any = jnp.diag(first)
        return NaturalEstimates(theta_of(u), slopes, natural, inner / (first[:, None] * first[None, :]))
    jacobian: Any = jax.jacfwd(theta_of)(u)
    natural = jnp.linalg.solve(jacobian.T, score)
    inner = information + jax.hessian(lambda t: natural @ theta_of(t))(u)
    left = jnp.linalg.solve(jacobian.T, inner)
    full = jnp.linalg.solve(jacobian.T, left.T).T
    return NaturalEstimates(theta_of(u), jacobian, natural, 0.5 * (full + full.T))


def off_bounds(space: Space, u: Either) -> Either:
    """Move coordinates of u, (p,), that are at a bound a small step inside, since the score may vanish there by symmetry.

    The step is a thousandth of the distance between the bounds, or 0.01 if the other bound is infinite.
    """
    if not space.boxed:
        return u
    width = space.upper - space.lower
    step = jnp.asarray(np.where(np.isfinite(width), 1e-3 * width, 1e-2))
    u = jnp.where(u <= space.lower, space.lower + step, u)
    return jnp.where(u >= space.upper, space.upper - step, u)


@partial(compiled, how="host", static=("space",))
def _estimates(
    space: Space, u: Either, score: Either, information: Either, fixed: Either | None
) -> tuple[NaturalEstimates, Any]:
    """Return the results of `to_theta` and the user's params at u, compiled; ``score``, ``information``: with respect to u."""
    return to_theta(space, u, fixed, score, information), space.params_from_u(u, fixed)


def estimates(space: Space, u: Any, score: Any, information: Any, fixed: Any) -> tuple[NaturalEstimates, Any]:
    """Return the `NaturalEstimates` and the user's params of one data set from u, score and information in u; NumPy arrays."""
    found, params = _estimates(space, u, score, linalg.dense_each(information), fixed)
    return jax.tree.map(np.asarray, found), jax.tree.map(np.array, params)


@partial(compiled, how="host", static=("space",))
def _to_u(space: Space, values: list[Any]) -> Either:
    """Convert natural values, one array per leaf, to u, (p,), with coordinates at a bound moved a small step inside; compiled,
    for `to_u`.
    """
    return off_bounds(space, space.u_from_params(space.build(values)))


def to_u(space: Space, values: list[Any]) -> Float[Host, " p"]:
    """Convert natural values, one array per leaf, to u, (p,), with coordinates at a bound moved a small step inside."""
    return np.asarray(_to_u(space, values))


@partial(compiled, how="host", static=("space",))
def _many_to_u(space: Space, values: list[Any]) -> Either:
    """Convert natural values, one array (L, ...) per leaf, to u, (L, p), with coordinates at a bound moved a small step inside;
    compiled, for `many_to_u`.
    """
    return jax.vmap(lambda parts: off_bounds(space, space.u_from_params(space.build(parts))))(values)


def many_to_u(space: Space, values: list[Any]) -> Float[Host, "L p"]:
    """Convert the natural values of L points, one array (L, ...) per leaf, to u, (L, p), with coordinates at a bound moved a
    small step inside.
    """
    if len(values[0]) == 1:
        return to_u(space, [v[0] for v in values])[None]
    return np.asarray(_many_to_u(space, values))


@partial(compiled, how="host", static=("space",))
def _many_params(space: Space, u: Either, fixed: Either | None) -> Params:
    """Convert u, (L, p), to theta and params with a leading axis L; compiled, for `theta_and_params`."""
    return jax.vmap(lambda t: (space.theta_from_u(t, fixed), space.params_from_u(t, fixed)))(u)


def theta_and_params(space: Space, u: Float[Host, "L p"], fixed: Either | None) -> tuple[Float[Host, "L p"], Any]:
    """Convert u, (L, p), to theta, (L, p), and to params with a leading axis L."""
    return jax.tree.map(np.asarray, _many_params(space, u, fixed))


def _inverse(a: Either, free: Either) -> tuple[Any, Any, Any]:
    """Invert a symmetric matrix, (p, p), over the coordinates of a mask, (p,).

    Returns:
        The inverse with 0 elsewhere, (p, p); the trace of the inverse of the matrix scaled to unit diagonal; whether it is
        positive definite.
    """
    eye = jnp.eye(a.shape[0], dtype=a.dtype)
    both = free[:, None] & free[None, :]
    scaled, root, positive = linalg.unit_diagonal(jnp.where(both, a, eye))
    x, ok = jax.vmap(linalg.solve_spd, in_axes=(None, 0))(scaled, eye)
    x = 0.5 * (x + x.T)
    trace = jnp.sum(jnp.where(free, jnp.diagonal(x), 0.0))
    return jnp.where(both, x / root[:, None] / root[None, :], 0.0), trace, jnp.all(ok) & positive


@partial(compiled, how="side by side", static=("space",))
def _in_theta(space: Space, u: Either, score: Either, information: Either, fixed: Either | None) -> PyTree:
    """Convert score and information of one chunk of data sets from u to natural coordinates, compiled; see `in_theta`."""

    def one(u: Either, score: Either, information: Either) -> PyTree:
        at = to_theta(space, u, fixed, score, information)
        free = (u > space.lower) & (u < space.upper)
        inverse_u, trace, ok_u = _inverse(information, free)
        inverse, _, ok = _inverse(at.information, free)
        errors_u: Any = jnp.sqrt(jnp.maximum(jnp.diagonal(inverse_u), 0.0))
        params = space.params_from_u(u, fixed)
        return InTheta(at.theta, at.score, at.information, at.jacobian, inverse, errors_u, trace, ok & ok_u, params)

    if on_cpu() and space.n_free > linalg.UNROLLED:
        at_once = lapack.side_by_side(space.n_free)
        return lax.map(lambda a: one(*a), (u, score, information), batch_size=at_once if at_once > 1 else None)
    return jax.vmap(one)(u, score, information)


def in_theta(space: Space, result: OptimizeResult, fixed: Either | None, budget: Budget) -> InTheta:
    """Convert the final points of L data sets to natural coordinates, in chunks of one size so that one program serves all L.

    ``result``: the final points, with score and information in u; ``budget`` limits the threads.  After Ctrl-C the rest is
    converted in this thread.
    """
    n, p = result.u.shape
    at_once = limits().described_numbers
    size = 1 << (at_once // min(max(p, 4), at_once)).bit_length() - 1 if on_cpu() else limits().chunk_data_sets
    whole: PyTree = None
    lock = threading.Lock()

    def work(cuts: list[slice]) -> int:
        nonlocal whole
        at: PyTree = (result.u, result.score, result.information)
        out = [_in_theta(space, *(filled(np.asarray(a[cut]), size) for a in at), fixed) for cut in cuts]
        for cut, part in zip(cuts, out, strict=True):
            parts = jax.tree.map(np.asarray, part)
            with lock:
                if whole is None:
                    whole = jax.tree.map(lambda a: np.empty((n, *a.shape[1:]), a.dtype), parts)
            for a, b in zip(jax.tree.leaves(whole), jax.tree.leaves(parts), strict=True):
                a[cut] = b[: cut.stop - cut.start]
        return 0

    cuts = [slice(begin, min(begin + size, n)) for begin in range(0, n, size)]
    tasks = [cuts] if n * p**2 < limits().threaded_numbers else [[cut] for cut in cuts]
    if not run_tasks(tasks, work, replace(budget, progress=False), "data set", 0):
        for task in tasks:  # the searches have ended: what was interrupted here takes a moment
            work(task)
    done: InTheta = whole
    return done
