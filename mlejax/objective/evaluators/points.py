"""One data set at many points: value, score and, on request, information at all of them in one compiled call.

A few points at a time are evaluated over the same rows under ``vmap``, so that their linear predictors are one matrix
product, and so are their information matrices.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from mlejax.data import Prepared
from mlejax.execution import compiled, limits
from mlejax.objective.blocks import data_sets_at_once
from mlejax.objective.evaluator import Evaluation
from mlejax.objective.evaluators.chunked import Chunks, blocks_used
from mlejax.objective.objective import objective_of, to_loglik
from mlejax.objective.specification import Spec
from mlejax.shapes import Count, Device, Either, Float, Host, PyTree

MOST_POINTS = 32  # most points of one call


@partial(compiled, static=("spec", "width", "order"))
def _at_points(spec: Spec, width: int, order: int, u: Either, data: Prepared, fixed: Either | None, n_blocks: Count) -> PyTree:
    """Return the objective, its gradient and (if order is 2) its Hessian as one row for each of the first ``n_blocks *
    width`` points.
    """
    used = None if data.n_blocks <= 1 or spec.reduction is not None else blocks_used(data)
    objective = replace(objective_of(spec, data, fixed, None, used), shared_rows=True)
    p = u.shape[1]

    def one(point: Device) -> PyTree:
        found = objective.with_hessian(point) if order == 2 else objective.value_and_grad(point)
        return jnp.concatenate([jnp.ravel(part) for part in found])

    def block(i: Count, out: PyTree) -> PyTree:
        part = lax.dynamic_slice_in_dim(u, i * width, width)
        found = one(part[0])[None] if width == 1 else jax.vmap(one)(part)
        return lax.dynamic_update_slice_in_dim(out, found.astype(out.dtype), i * width, 0)

    n_numbers = 1 + p + (p * p if order == 2 else 0)
    return lax.fori_loop(0, n_blocks, block, jnp.zeros((u.shape[0], n_numbers), jnp.result_type(float)))


class PointsEvaluator:
    """The log-likelihood of one data set (with its bias reduction, if any) at many points; without a penalty.

    Args:
        spec: what is compiled: likelihood, parameter space, bias reduction.
        data: the prepared rows.
        fixed: values under ``fixed=``, or None.
    """

    def __init__(self, spec: Spec, data: Prepared, fixed: Host | None) -> None:
        self.spec, self.data, self.fixed = spec, data, fixed
        self.scale = max(data.total_weight, 1e-300)
        self._chunks = Chunks(spec, data, fixed, self.scale, None, None)
        self._width = _width(spec, data, fixed)

    def evaluate(self, u: Float[Host, "m p"], order: int = 2) -> Evaluation:
        """Evaluate log-likelihoods (m,), scores (m, p) and information (m, p, p; None if order is 1) at the points."""
        m, p = u.shape
        capacity = max(min(MOST_POINTS, (1 << 22) // (p * p)) // self._width, 1) * self._width
        parts = []
        for begin in range(0, m, capacity):
            part = u[begin : begin + capacity]
            at = np.concatenate([part, np.broadcast_to(part[:1], (capacity - len(part), p))])
            n = np.int32(-(-len(part) // self._width))
            found = self._chunks.total(
                lambda chunk, at=at, n=n: _at_points(self.spec, self._width, order, at, chunk, self.fixed, n)  # type: ignore[misc]
            )
            parts.append(found[: len(part)])
        out, scale = np.concatenate(parts), np.full(m, self.scale)
        hessian = out[:, p + 1 :].reshape(m, p, p) if order == 2 else None
        return Evaluation(u, *to_loglik(out[:, 0], out[:, 1 : p + 1], hessian, scale))


def _width(spec: Spec, data: Prepared, fixed: Either | None) -> int:
    """Return the number of points evaluated together, limited by the cache (points share the products of a block's columns)
    and such that the 2 p limits of p profiles are divided evenly.
    """
    if spec.reduction is not None:  # it factorises by LAPACK and takes many gradients by itself
        return 1
    each = 8 * data.block * (spec.space.n_free + 2)
    fitting = min(8 * limits().cache_bytes // each, MOST_POINTS)
    allowed = data_sets_at_once(spec, data, fixed, None)
    fitting, ends = max(fitting if allowed is None else min(fitting, allowed), 1), 2 * spec.space.n_free
    return -(-ends // -(-ends // int(fitting)))
