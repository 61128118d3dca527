"""One data set whose rows are divided over several devices: each device sums its own rows, and ``psum`` adds the sums.

Derivatives are taken inside each shard.  With ``shard_map``'s default check of varying values the gradient with respect to the
common point would already be summed over the devices, and ``psum`` would multiply score and information by the number of
devices: so the check is off, and a test compares the information.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cached_property
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from mlejax import optimize
from mlejax.data import DataError, Prepared
from mlejax.execution import cached, mesh_of
from mlejax.objective.evaluators.chunked import ChunkedEvaluator, Minimised
from mlejax.objective.objective import objective_of
from mlejax.objective.specification import Spec
from mlejax.optimize import Method
from mlejax.shapes import Either, Host, PyTree

AXIS = "rows"


class ShardedEvaluator(ChunkedEvaluator):
    """One data set on several devices; a :class:`mlejax.objective.SingleEvaluator`.

    Args:
        spec: what is compiled: likelihood, parameter space, penalty.
        data: the prepared rows, on the host.
        fixed, hyper: values under ``fixed=`` and the second argument of the penalty, or None.
        devices: a list of JAX devices, one device, or a Mesh.

    Raises:
        DataError: a model with rowwise=False, or bias reduction.
    """

    def __init__(
        self,
        spec: Spec,
        data: Prepared,
        fixed: Host | None,
        hyper: PyTree = None,
        devices: Sequence[jax.Device] | Mesh = (),
    ) -> None:
        super().__init__(spec, data, fixed, hyper)
        if data.mode == "whole":
            raise DataError(
                "on= divides rows or units over devices, which is not possible for a model with rowwise=False: leave out on="
            )
        if spec.reduction is not None:
            raise DataError(
                "bias_reduction= needs the sums over all rows in one program and does not support on=: leave out on="
            )
        self._on = devices
        self._embedding = None

    def with_spec(self, spec: Spec) -> ShardedEvaluator:
        """Return the same data with another specification of the same parameter space."""
        return ShardedEvaluator(spec, self.data, self.fixed, self.hyper, self._on)

    @cached_property
    def mesh(self) -> Mesh:
        """The devices as a mesh with one axis."""
        return mesh_of(self._on, AXIS)

    @cached_property
    def placed(self) -> Prepared:
        """The rows on their devices, padded with rows of weight 0 to the same number of blocks on each."""
        data, n = self.data, self.mesh.size
        missing = -(-data.n_blocks // n) * n * data.block - data.n_padded
        index = np.minimum(np.arange(data.n_padded + missing), data.n_padded - 1)
        index[data.n_padded :] = 0
        sharding = NamedSharding(self.mesh, PartitionSpec(AXIS))
        rows = tuple(jax.device_put(np.asarray(leaf)[index], sharding) for leaf in data.rows)
        weights = np.concatenate([np.asarray(data.weights), np.zeros(missing)])
        return replace(data, rows=rows, weights=jax.device_put(weights, sharding))

    def _summed(self, method: Method, u: Host) -> Minimised:
        data, spec = self.placed, replace(self.spec, penalty=None)
        evaluating = optimize.evaluating(method)
        key = "sharded", spec, evaluating, self.mesh, data.statics, data.block
        program = cached(spec.likelihood, key, lambda: self._program(spec, evaluating))
        value, grad, curvature = program(u, data.rows, data.weights, data.shared, self.fixed)
        return tuple(np.asarray(a) / self.scale for a in (value, grad, curvature))  # type: ignore[return-value]

    def _program(self, spec: Spec, method: optimize.Method) -> Callable[..., Any]:
        statics, mode, block = self.data.statics, self.data.mode, self.data.block

        def local(u: Either, rows: PyTree, weights: Either, shared: PyTree, fixed: Either | None) -> PyTree:
            mine = Prepared(rows, shared, weights, np.int64(weights.shape[0]), statics, mode, block)
            objective = objective_of(spec, mine, fixed, None)
            sums = jax.tree.map(lambda a: a * objective.scale, method.evaluate(objective, u))
            return jax.lax.psum(sums, AXIS)

        one, by_row = PartitionSpec(), PartitionSpec(AXIS)
        places = (one, by_row, by_row, one, one)
        return jax.jit(jax.shard_map(local, mesh=self.mesh, in_specs=places, out_specs=one, check_vma=False))
