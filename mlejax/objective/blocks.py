"""Limits on the number of rows, or of data sets, evaluated in one call of a model that calls LAPACK (see
`mlejax.execution.lapack`).
"""

from __future__ import annotations

from dataclasses import replace

import jax
import numpy as np

from mlejax.data import Layout, Prepared
from mlejax.execution import cached, on_cpu
from mlejax.execution.chunking import Budget
from mlejax.execution.lapack import most_at_once
from mlejax.likelihood import Likelihood, calls_lapack
from mlejax.objective.objective import objective_of
from mlejax.objective.specification import Spec
from mlejax.parameters import Space
from mlejax.shapes import Either, PyTree


def contributions_at_once(
    likelihood: Likelihood, space: Space, rows: PyTree, shared: PyTree, layout: Layout
) -> int | None:
    """Return the largest number of rows (or units) of a block; None without a limit: for models that do not call LAPACK for each
    row, for models of the whole data, and on other devices than the CPU.

    Args:
        likelihood, space: the model and its parameter space.
        rows: the row-wise (or unit-wise) arrays (N, ...).
        shared, layout: arrays that do not vary by row, and how all arrays make up the data of the user's function.
    """
    if not on_cpu() or likelihood.mode == "whole":
        return None
    key = ("at once", space, layout, tuple((a.shape[1:], a.dtype) for a in rows), tuple(map(np.shape, shared)))

    def count() -> int | None:
        two = tuple(jax.ShapeDtypeStruct((2, *a.shape[1:]), a.dtype) for a in rows)
        weights, n = jax.ShapeDtypeStruct((2,), np.float64), jax.ShapeDtypeStruct((), np.int64)
        spec, data = Spec(likelihood, space), Prepared(two, shared, weights, n, layout, likelihood.mode, 2)
        value = lambda u, data: objective_of(spec, data, None, None).value(u)
        u = jax.ShapeDtypeStruct((space.n_free,), np.float64)
        return most_at_once(value, u, data, p=space.n_free)

    return cached(likelihood, key, count)


def data_sets_at_once(spec: Spec, one: Prepared, fixed: Either | None, hyper: PyTree) -> int | None:
    """Return the largest number of data sets under one ``vmap``; None if LAPACK calls set no limit.

    Args:
        spec: what is compiled.
        one: the largest data set (N, ...).
        fixed, hyper: its values under ``fixed=`` and the second argument of its penalty, or None.
    """
    likelihood, space = spec.likelihood, spec.space
    if not on_cpu():
        return None
    if spec.penalty is None and not calls_lapack(likelihood, space, one.rows, one.shared, one.statics):
        return None
    value = lambda u, data: objective_of(spec, data, fixed, hyper).value(u)
    struct = lambda a: jax.ShapeDtypeStruct((2, *np.shape(a)), np.result_type(a))
    two = replace(one, rows=jax.tree.map(struct, one.rows), weights=struct(one.weights), n=struct(one.n))
    axes = replace(two, rows=0, shared=None, weights=0, n=0)
    u = jax.ShapeDtypeStruct((2, space.n_free), np.float64)
    return most_at_once(jax.vmap(value, in_axes=(0, axes)), u, two, p=space.n_free)


def budget_for(
    spec: Spec, one: Prepared, data_set_bytes: int, fixed: Either | None, hyper: PyTree, limits: Budget
) -> Budget:
    """Return the budget with as many threads as can hold the largest data set in memory, and the limit of data sets at
    once.

    Args:
        spec: what is compiled.
        one: the largest data set (N, ...).
        data_set_bytes: its size in bytes.
        fixed, hyper: its fixed values and hyper-parameters.
        limits: the budget before.
    """
    each = 2 * (data_set_bytes + 8 * spec.space.n_free * (spec.space.n_free + 12))
    workers = max(min(limits.workers, limits.memory // max(each, 1)), 1)
    return replace(limits, workers=workers, most_at_once=data_sets_at_once(spec, one, fixed, hyper))
