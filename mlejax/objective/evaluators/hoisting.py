"""Intermediate values of the log-likelihood that depend on the data alone: computed once and stored beside the data."""

from __future__ import annotations

import math
from dataclasses import replace
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from mlejax.data import Prepared
from mlejax.execution import cached, compiled, limits
from mlejax.likelihood import example_params
from mlejax.objective.specification import Spec
from mlejax.shapes import Count, PyTree


def blocks_used(data: Prepared) -> Count:
    """Return the number of blocks that contain real rows."""
    return jnp.minimum(-(-data.n // data.block), data.n_blocks)


def hoists(spec: Spec, data: Prepared) -> bool:
    """True if a part of the log-likelihood depends on the data alone and is small enough to be stored as further columns.

    False for models of the whole data, and for very large data, whose columns are not copied (`StreamedColumn`).
    """
    if data.mode == "whole" or data.streamed:
        return False
    shapes = (
        tuple((a.shape[1:], a.dtype) for a in data.rows),
        tuple((np.shape(a), np.result_type(a)) for a in data.shared),
    )
    key = ("splits", data.statics, spec.space, data.block, shapes)

    def worth() -> bool:
        block = tuple(jax.ShapeDtypeStruct((data.block, *a.shape[1:]), a.dtype) for a in data.rows)
        parts = spec.likelihood.split(example_params(spec.space), block, data.shared, data.statics)
        size = lambda arrays: sum(math.prod(a.shape) * a.dtype.itemsize for a in arrays)
        return parts is not None and size(parts.shapes) <= limits().invariants_memory * size(block)

    return cached(spec.likelihood, key, worth)


def with_invariants(spec: Spec, data: Prepared) -> Prepared:
    """Return a chunk with the intermediate values that depend on the data alone as further row-wise arrays, computed if it does
    not have them already.
    """
    if len(data.rows) > data.statics.n_leaves:
        return data
    return replace(data, rows=(*data.rows, *_invariants(spec, data)))


@partial(compiled, static=("spec",))
def _invariants(spec: Spec, data: Prepared) -> PyTree:
    likelihood, filled = spec.likelihood, blocks_used(data)
    blocks = jax.tree.map(lambda a: jnp.reshape(a, (data.n_blocks, data.block, *a.shape[1:])), data.rows)

    def of(rows: PyTree) -> PyTree:
        parts = likelihood.split(example_params(spec.space), rows, data.shared, data.statics)
        return () if parts is None else parts.known(rows, data.shared)

    def block(part: PyTree) -> PyTree:
        i, rows = part
        return lax.cond(i < filled, of, lambda r: jax.tree.map(jnp.zeros_like, jax.eval_shape(of, r)), rows)

    found = lax.map(block, (jnp.arange(data.n_blocks), blocks))
    return jax.tree.map(lambda a: jnp.reshape(a, (-1, *a.shape[2:])), found)
