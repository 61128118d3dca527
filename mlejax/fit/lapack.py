"""How much of a model that calls LAPACK is evaluated at a time.

A call for many matrices (a Cholesky factor for every unit, under ``vmap``) is cut up by jaxlib 0.10 among the threads of the
pool that it runs on itself, and waits for them: on few cores two such calls can wait for each other for ever.  So contributions
are summed over blocks, and data sets worked on side by side, of which no call is large enough to be cut up.  The smaller
blocks are used whatever the version of jaxlib: they stay in the cache.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import jax
import numpy as np

from mlejax import linalg
from mlejax.compiling import on_cpu
from mlejax.data import Prepared
from mlejax.likelihood import Likelihood
from mlejax.objective.objective import Spec, objective_of
from mlejax.parameters import Space

POINTS = 8  # at which a log-likelihood is evaluated in one call, at most; derivatives are taken in p directions


def contributions_at_once(likelihood: Likelihood, space: Space, rows: Any, shared: Any, layout: Any) -> int | None:
    """Rows (or units) of a block, at most; None where nothing bounds them: for models that call no LAPACK for each of them.

    Args:
        rows: the arrays by row or unit, (N, ...).
        shared, layout: as in `Prepared`.
    """
    if not on_cpu() or not likelihood.calls_lapack or likelihood.mode == "whole":
        return None
    key = ("lapack of two", space, layout, tuple(a.shape[1:] for a in rows), tuple(np.shape(a) for a in shared))
    if key not in likelihood.memory:
        two = tuple(jax.ShapeDtypeStruct((2, *a.shape[1:]), a.dtype) for a in rows)
        weights, n = jax.ShapeDtypeStruct((2,), np.float64), jax.ShapeDtypeStruct((), np.int64)
        spec, data = Spec(likelihood, space), Prepared(two, shared, weights, n, layout, likelihood.mode, 2)
        likelihood.memory[key] = _at_once(lambda u, data: objective_of(spec, data, None, None).value(u), space, data)
    return likelihood.memory[key]


def lanes_at_once(spec: Spec, one: Prepared, fixed: Any, hyper: Any) -> int | None:
    """Data sets under one ``vmap``, at most; None where nothing bounds them.

    Args:
        one: the largest data set, (N, ...).
        fixed, hyper: its own, as in `objective_of`.
    """
    if not on_cpu() or not (spec.likelihood.calls_lapack or spec.penalty is not None):
        return None
    value = lambda u, data: objective_of(spec, data, fixed, hyper).value(u)
    struct = lambda a: jax.ShapeDtypeStruct((2, *np.shape(a)), np.result_type(a))
    two = replace(one, rows=jax.tree.map(struct, one.rows), weights=struct(one.weights), n=struct(one.n))
    axes = replace(two, rows=0, shared=None, weights=0, n=0)
    return _at_once(jax.vmap(value, in_axes=(0, axes)), spec.space, two, 2)


def _at_once(value: Callable[[Any, Prepared], Any], space: Space, two: Prepared, *lead: int) -> int | None:
    """How many at a time, given a function of two of them."""
    u = jax.ShapeDtypeStruct((*lead, space.n_free), np.float64)
    with jax.enable_x64(True):
        calls = list(linalg.lapack_calls(jax.make_jaxpr(value)(u, two).eqns))
    # one matrix alone is never cut up; nor are its derivatives, whose directions JAX makes columns of one right-hand side
    each = max((m * work // 2 for m, work in calls if m > 1), default=0)
    return max(linalg.ALONE // (each * max(space.n_free, POINTS)), 1) if each else None
