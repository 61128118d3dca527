"""Compiled programs that evaluate the objective of all data sets of a chunk.

A chunk has ``C`` data sets of one padded number of rows.  Its first ``n_blocks * width`` data sets are evaluated,
``width`` at a time under ``vmap``, so that their arrays stay in the cache (one large ``vmap`` is two to eight times
slower on CPU, since it takes as long as its slowest data set).  ``n_blocks`` is an argument: one program serves any number of
data sets up to C.  Data are arguments, never closures.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from mlejax import optimize
from mlejax.data import Prepared
from mlejax.execution import compiled
from mlejax.execution.chunking import ChunkView
from mlejax.objective.objective import Objective, objective_of
from mlejax.objective.specification import Spec
from mlejax.optimize import Carry, Method
from mlejax.shapes import Count, Device, Either, PyTree


def _over_blocks(
    function: Callable[..., Any], width: int, n_blocks: Count, out: PyTree, sets: PyTree, data: Prepared
) -> PyTree:
    """Apply ``function`` of one data set to the first ``n_blocks`` blocks, of ``width`` data sets each, of ``sets`` (a pytree
    with a leading axis), and return ``out`` with the results in their places.

    Data sets of one padded size may differ in length: only as many blocks of rows are summed as the longest data set of a block
    has (from ``data.n``).
    """
    is_window = lambda a: isinstance(a, ChunkView)

    def take(a: Any, first: Count) -> PyTree:
        return a.block(first, width) if is_window(a) else lax.dynamic_slice_in_dim(a, first, width)

    def body(i: Count, out: PyTree) -> PyTree:
        part = jax.tree.map(lambda a: take(a, i * width), (sets, out), is_leaf=is_window)
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


class _Split:
    """A chunk divided into arrays that each data set has of its own and arrays common to all.

    Args:
        own: True for rows, fixed values, and hyper-parameters if they have a leading axis of data sets.
    """

    def __init__(
        self, spec: Spec, data: Prepared, fixed: Either | None, hyper: PyTree, own: tuple[bool, bool, bool]
    ) -> None:
        self.spec, self.data, self.fixed, self.hyper, self.own = spec, data, fixed, hyper, own
        rows, own_fixed, own_hyper = (a if mine else () for a, mine in zip((data.rows, fixed, hyper), own, strict=True))
        self.sets = rows, data.weights, data.n, own_fixed, own_hyper

    def objective(self, part: PyTree, n_blocks_used: Count | None) -> Objective:
        """Return the objective of one data set from its own arrays ``part``, summed over ``n_blocks_used`` blocks of rows (None:
        all).
        """
        rows, weights, n, fixed, hyper = part
        own_rows, own_fixed, own_hyper = self.own
        one = replace(self.data, rows=rows if own_rows else self.data.rows, weights=weights, n=n)
        fixed, hyper = fixed if own_fixed else self.fixed, hyper if own_hyper else self.hyper
        return replace(objective_of(self.spec, one, fixed, hyper, n_blocks_used), shared_rows=not own_rows)


@partial(compiled, how="side by side", static=("spec", "method", "width", "own"))
def advance_sets(
    spec: Spec,
    method: Method,
    width: int,
    own: tuple[bool, bool, bool],
    carry: Carry,
    data: Prepared,
    fixed: Any,
    hyper: PyTree,
    n_turns: Count,
    n_blocks: Count,
    allow_trust_region_solve: Either | None = None,
) -> PyTree:
    """Return the states of the optimiser of every data set after at most ``n_turns`` further iterations.

    Args:
        spec, method, width: static arguments of the compiled program.
        own: True for rows, fixed values, and hyper-parameters if they have a leading axis (C, ...), False if common.
        carry: states of the optimiser, as from ``optimize.begin``, with a leading axis (C, ...); only RUNNING ones change.
        data: leaves (C, N, ...), or `ChunkView`; ``rows`` (N, ...) where all data sets share them.
        fixed, hyper: fixed values and hyper-parameters, with or without a leading axis by ``own``.
        n_turns, n_blocks: number of iterations, and of blocks of ``width`` data sets.
        allow_trust_region_solve: as in ``optimize.advance``.
    """
    split, space = _Split(spec, data, fixed, hyper, own), spec.space

    def one(part: PyTree, state: Carry, used: Count | None) -> PyTree:
        objective = split.objective(part, used)
        return optimize.advance(
            method, objective, state, space.lower, space.upper, objective.scale, n_turns, allow_trust_region_solve
        )

    return _over_blocks(one, width, n_blocks, carry, split.sets, data)


@partial(compiled, how="side by side", static=("spec", "width", "own"))
def logliks_of_sets(
    spec: Spec,
    width: int,
    own: tuple[bool, bool, bool],
    points: Either,
    n_points: Count,
    data: Prepared,
    fixed: Either | None,
    hyper: PyTree,
    n_blocks: Count,
) -> PyTree:
    """Return (penalised) log-likelihoods (C, m) of every data set at the first ``n_points`` of its own points (C, m, p).

    Zeros beyond these points, and for the data sets after the first ``n_blocks`` blocks of ``width``.  ``own``: whether rows,
    fixed values and hyper-parameters differ between the data sets.
    """
    split = _Split(spec, data, fixed, hyper, own)

    def one(part: PyTree, _: PyTree, used: Count | None) -> PyTree:
        own_part, at = part
        objective = split.objective(own_part, used)

        def put(j: Count, found: Device) -> PyTree:
            return found.at[j].set(-objective.value(at[j]) * objective.scale)

        return lax.fori_loop(0, n_points, put, jnp.zeros(at.shape[:1], at.dtype))

    out = jnp.zeros(points.shape[:2], jnp.result_type(float))
    return _over_blocks(one, width, n_blocks, out, (split.sets, points), data)


@partial(compiled, how="side by side", static=("spec", "width", "own"))
def evaluate_sets(
    spec: Spec,
    width: int,
    own: tuple[bool, bool, bool],
    u: Either,
    data: Prepared,
    fixed: Either | None,
    hyper: PyTree,
    n_blocks: Count,
) -> tuple[Any, Any, Any]:
    """Return (penalised) log-likelihoods (C,), scores (C, p) and information (C, p, p) of every data set at its own u (C, p).

    Zeros for the data sets after the first ``n_blocks`` blocks of ``width``.  ``own``: whether rows, fixed values and
    hyper-parameters differ between the data sets.
    """
    split, (c, p), dtype = _Split(spec, data, fixed, hyper, own), u.shape, jnp.result_type(float)

    def one(part: PyTree, _: PyTree, used: Count | None) -> PyTree:
        own_part, at = part
        objective = split.objective(own_part, used)
        return objective.in_loglik_units(*objective.with_hessian(at))

    out = (jnp.zeros((c,), dtype), jnp.zeros((c, p), dtype), jnp.zeros((c, p, p), dtype))
    return _over_blocks(one, width, n_blocks, out, (split.sets, u), data)


@partial(compiled, how="side by side", static=("spec", "width", "n_clusters"))
def products_of_sets(
    spec: Spec,
    width: int,
    u: Either,
    data: Prepared,
    fixed: Either | None,
    codes: Device | None,
    n_blocks: Count,
    n_clusters: int = 0,
) -> PyTree:
    """Return the summed outer products of weighted scores in u (C, p, p): over rows or units, or over clusters with ``codes``
    (C, N) < n_clusters if that is above 0.

    Zeros for the data sets after the first ``n_blocks`` blocks of ``width``.
    """
    split, p = _Split(spec, data, fixed, None, (True, False, False)), u.shape[1]

    def one(part: PyTree, _: PyTree, __: PyTree) -> PyTree:
        own_part, at, clusters = part
        objective = split.objective(own_part, None)
        scores = objective.scores(at) * objective.prepared.weights[:, None]
        if n_clusters:
            scores = jax.ops.segment_sum(scores, clusters, num_segments=n_clusters)
        return scores.T @ scores

    out = jnp.zeros((u.shape[0], p, p), jnp.result_type(float))
    of_rows = codes if n_clusters else jnp.zeros((u.shape[0], 0), jnp.int32)
    return _over_blocks(one, width, n_blocks, out, (split.sets, u, of_rows), data)
