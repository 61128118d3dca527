"""The compiled programs of the batch: the one core of a fit, over the lanes of a chunk.

A *lane* is one data set.  A chunk holds ``C`` lanes of one padded number of rows; its first ``n_blocks * width`` lanes are
worked on, ``width`` at a time under ``vmap``, so that what they need stays in the cache (one big ``vmap`` is two to eight
times slower on CPU: every lane pays for the slowest).  ``n_blocks`` is an argument, so one program serves any number of
lanes up to C.  Data are arguments, never closures.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from mlejax import linalg, optimize
from mlejax.batch.windows import Window
from mlejax.compiling import compiled, on_cpu
from mlejax.data import Prepared
from mlejax.fit.common import objective_of, off_edges, to_theta
from mlejax.objective import Spec
from mlejax.parameters import Space

Array = Any


def _block(lanes: Any, first: Array, width: int) -> Array:
    return lanes.block(first, width) if isinstance(lanes, Window) else lax.dynamic_slice_in_dim(lanes, first, width)


def _over_blocks(
    function: Callable[..., Any], width: int, n_blocks: Array, out: Any, lanes: Any, data: Prepared
) -> Any:
    """``function`` of one lane over the first blocks of ``lanes`` (a tree with a leading axis), written into ``out``.

    Lanes of different length in one padded size: rows are summed over the blocks of rows that the longest lane beside
    needs, a number that the program takes from ``data.n``.
    """

    def body(i: Array, out: Any) -> Any:
        part = jax.tree.map(lambda a: _block(a, i * width, width), (lanes, out), is_leaf=lambda a: isinstance(a, Window))
        used = None
        if data.n_blocks > 1:
            longest = jnp.max(lax.dynamic_slice_in_dim(jnp.asarray(data.n), i * width, width))
            used = (longest + data.block - 1) // data.block
        if width == 1:
            one = function(*jax.tree.map(lambda a: a[0], part), used)
            new = jax.tree.map(lambda a: jnp.asarray(a)[None], one)
        else:
            new = jax.vmap(lambda a, b: function(a, b, used))(*part)
        return jax.tree.map(lambda a, b: lax.dynamic_update_slice_in_dim(a, b.astype(a.dtype), i * width, 0), out, new)

    return lax.fori_loop(0, n_blocks, body, jax.tree.map(jnp.asarray, out))


def _split(
    data: Prepared, own_rows: bool, fixed: Any, hyper: Any, own: tuple[bool, bool]
) -> tuple[Any, Callable[..., Any]]:
    """What every lane has of its own, and a function that puts a lane's data, fixed values and hyper together again."""
    lanes = (
        data.rows if own_rows else (),
        data.weights,
        data.n,
        fixed if own[0] else (),
        hyper if own[1] else (),
    )

    def joined(part: Any) -> tuple[Prepared, Any, Any]:
        rows, weights, n, held, strength = part
        one = replace(data, rows=rows if own_rows else data.rows, weights=weights, n=n)
        return one, held if own[0] else fixed, strength if own[1] else hyper

    return lanes, joined


@partial(compiled, how="side by side", static=("spec", "method", "width", "own_rows", "own"))
def advance_lanes(
    spec: Spec,
    method: Any,
    width: int,
    carry: Any,
    data: Prepared,
    fixed: Any,
    hyper: Any,
    n_turns: Array,
    n_blocks: Array,
    own_rows: bool = True,
    own: tuple[bool, bool] = (False, False),
    bends: Array | None = None,
) -> Any:
    """At most ``n_turns`` further turns of every lane.

    Args:
        carry: of ``optimize.begin``, with a leading axis (C, ...); what is not RUNNING passes through.
        data: leaves (C, N, ...), or `Window`; ``rows`` (N, ...) where all lanes share them (``own_rows`` False); ``shared``
            as ever.
        fixed, hyper: with a leading axis where ``own`` says so, else common.
        bends: as in ``optimize.advance``: False lets the others go on where a lane needs more than a Newton step.
    """
    lanes, joined = _split(data, own_rows, fixed, hyper, own)

    def one(part: Any, state: Any, used: Any) -> Any:
        lane, held, strength = joined(part)
        objective = replace(objective_of(spec, lane, held, strength, used), common=not own_rows)
        lower, upper = spec.space.lower, spec.space.upper
        return optimize.advance(method, objective, state, lower, upper, objective.scale, n_turns, bends)

    return _over_blocks(one, width, n_blocks, carry, lanes, data)


@partial(compiled, how="side by side", static=("spec", "width", "own_hyper"))
def rank_lanes(
    spec: Spec,
    width: int,
    values: list[Array],
    data: Prepared,
    fixed: Any,
    n_blocks: Array,
    hyper: Any = None,
    own_hyper: bool = False,
) -> tuple[Array, Array]:
    """The best of each lane's candidate starts: u (C, p) and its log-likelihood (C,).

    Args:
        values: one array a leaf, natural scale, (C, m, ...).
    """
    lanes, joined = _split(data, True, fixed, hyper, (False, own_hyper))
    space = spec.space

    def one(part: Any, _: Any, used: Any) -> tuple[Array, Array]:
        lane, candidates = part
        one_lane, held, strength = joined(lane)
        objective = objective_of(spec, one_lane, held, strength, used)

        def value(natural: list[Array]) -> tuple[Array, Array]:
            u = off_edges(space, space.u_from_params(space.build(natural)))
            return u, -objective.value(u) * objective.scale

        points, found = lax.map(value, candidates)
        best = jnp.argmax(jnp.where(jnp.isfinite(found), found, -jnp.inf))
        return points[best], found[best]

    capacity = data.weights.shape[0]
    dtype = jnp.result_type(float)
    out = (jnp.zeros((capacity, space.n_free), dtype), jnp.zeros((capacity,), dtype))
    return _over_blocks(one, width, n_blocks, out, (lanes, values), data)


@partial(compiled, how="side by side", static=("spec", "width", "own_hyper"))
def loglik_lanes(
    spec: Spec,
    width: int,
    points: Array,
    n_points: Array,
    data: Prepared,
    fixed: Any,
    hyper: Any,
    n_blocks: Array,
    own_hyper: bool = False,
) -> Array:
    """Log-likelihoods (C, m) of every lane at the first ``n_points`` of its own points (C, m, p)."""
    lanes, joined = _split(data, True, fixed, hyper, (False, own_hyper))

    def one(part: Any, _: Any, used: Any) -> Array:
        lane, at = part
        one_lane, held, strength = joined(lane)
        objective = objective_of(spec, one_lane, held, strength, used)

        def put(j: Array, found: Array) -> Array:
            return found.at[j].set(-objective.value(at[j]) * objective.scale)

        return lax.fori_loop(0, n_points, put, jnp.zeros(at.shape[:1], at.dtype))

    out = jnp.zeros(points.shape[:2], jnp.result_type(float))
    return _over_blocks(one, width, n_blocks, out, (lanes, points), data)


@partial(compiled, how="side by side", static=("spec", "width", "n_clusters"))
def meat_lanes(
    spec: Spec, width: int, u: Array, data: Prepared, fixed: Any, codes: Any, n_blocks: Array, n_clusters: int = 0
) -> Array:
    """Sums of products of scores in u (C, p, p): over contributions, or over clusters ``codes`` (C, N) < n_clusters."""
    lanes, joined = _split(data, True, fixed, None, (False, False))
    p = u.shape[1]

    def one(part: Any, _: Any, __: Any) -> Array:
        lane, at, clusters = part
        one_lane = joined(lane)[0]
        scores = objective_of(spec, one_lane, fixed, None).scores(at) * one_lane.weights[:, None]
        if n_clusters:
            scores = jax.ops.segment_sum(scores, clusters, num_segments=n_clusters)
        return scores.T @ scores

    out = jnp.zeros((u.shape[0], p, p), jnp.result_type(float))
    lanes_codes = codes if n_clusters else jnp.zeros((u.shape[0], 0), jnp.int32)
    return _over_blocks(one, width, n_blocks, out, (lanes, u, lanes_codes), data)


@partial(compiled, how="side by side", static=("spec", "width", "own_hyper"))
def evaluate_lanes(
    spec: Spec,
    width: int,
    u: Array,
    data: Prepared,
    fixed: Any,
    hyper: Any,
    n_blocks: Array,
    own_hyper: bool = False,
) -> tuple[Array, Array, Array]:
    """(Penalised) log-likelihood (C,), score (C, p) and information (C, p, p) in u."""
    lanes, joined = _split(data, True, fixed, hyper, (False, own_hyper))
    p = u.shape[1]

    def one(part: Any, _: Any, used: Any) -> tuple[Array, Array, Array]:
        lane, at = part
        one_lane, held, strength = joined(lane)
        objective = objective_of(spec, one_lane, held, strength, used)
        value, grad, hessian = objective.with_hessian(at)
        return -value * objective.scale, -grad * objective.scale, hessian * objective.scale

    c, dtype = u.shape[0], jnp.result_type(float)
    out = (jnp.zeros((c,), dtype), jnp.zeros((c, p), dtype), jnp.zeros((c, p, p), dtype))
    return _over_blocks(one, width, n_blocks, out, (lanes, u), data)


class Described(NamedTuple):
    """Every lane's end in natural coordinates, (C, ...).

    Attributes:
        theta, score, information: as in ``AtOptimum``.
        jacobian: d theta / d u (p, p).
        inverse: of the information in theta over the coordinates off their edges; 0 elsewhere.
        root_u: square roots of the diagonal of the inverse information in u.
        trace: of the inverse of the information in u scaled to unit diagonal; the reciprocal bounds its eigenvalues below.
        definite: both inverses stand.
        params: the user's structure.
    """

    theta: Array
    score: Array
    information: Array
    jacobian: Array
    inverse: Array
    root_u: Array
    trace: Array
    definite: Array
    params: Any


def _inverse(a: Array, free: Array) -> tuple[Array, Array, Array]:
    eye = jnp.eye(a.shape[0], dtype=a.dtype)
    both = free[:, None] & free[None, :]
    scaled, root, positive = linalg.unit_diagonal(jnp.where(both, a, eye))
    x, ok = jax.vmap(linalg.solve_spd, in_axes=(None, 0))(scaled, eye)
    x = 0.5 * (x + x.T)
    trace = jnp.sum(jnp.where(free, jnp.diagonal(x), 0.0))
    return jnp.where(both, x / root[:, None] / root[None, :], 0.0), trace, jnp.all(ok) & positive


@partial(compiled, how="side by side", static=("spec", "own_fixed"))
def describe(spec: Spec, u: Array, score: Array, information: Array, fixed: Any, own_fixed: bool = False) -> Described:
    """From u to theta, with inverses, for lanes (C, ...); one program for all sizes of data."""
    space = spec.space

    def one(u: Array, score: Array, information: Array, fixed: Any) -> Described:
        at = to_theta(space, u, fixed, score, information)
        free = (u > space.lower) & (u < space.upper)
        inverse_u, trace, ok_u = _inverse(information, free)
        inverse, _, ok = _inverse(at.information, free)
        root_u = jnp.sqrt(jnp.maximum(jnp.diagonal(inverse_u), 0.0))
        return Described(
            at.theta,
            at.score,
            at.information,
            at.jacobian,
            inverse,
            root_u,
            trace,
            ok & ok_u,
            space.params_from_u(u, fixed),
        )

    if on_cpu() and space.n_free > linalg.UNROLLED:
        lanes = (u, score, information, fixed if own_fixed else ())
        each = lambda a: one(a[0], a[1], a[2], a[3] if own_fixed else fixed)
        at_once = linalg.side_by_side(space.n_free)
        return lax.map(each, lanes, batch_size=at_once if at_once > 1 else None)
    return jax.vmap(one, in_axes=(0, 0, 0, 0 if own_fixed else None))(u, score, information, fixed)


@partial(compiled, how="side by side", static=("space",))
def many_to_u(space: Space, values: list[Array]) -> Array:
    """Natural values, one array a leaf with a leading axis (L, ...), -> u (L, p)."""
    return jax.vmap(lambda parts: off_edges(space, space.u_from_params(space.build(parts))))(values)


@partial(compiled, how="side by side", static=("spec", "own_fixed"))
def natural(spec: Spec, u: Array, fixed: Any, own_fixed: bool = False) -> tuple[Array, Any]:
    """theta (C, p) and params of lanes without second derivatives."""
    space = spec.space
    one = lambda u, held: (space.theta_from_u(u, held), space.params_from_u(u, held))
    return jax.vmap(one, in_axes=(0, 0 if own_fixed else None))(u, fixed)
