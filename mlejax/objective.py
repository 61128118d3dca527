r"""The function that is minimised: the only minus sign and the only 1/n of the library.

    f(u) = -( sum_i w_i l_i(params(u)) - P(params(u)) ) / scale,

with l_i the user's contributions (rows, units, or the entries of a *whole* model), w_i their weights, P the
penalty and ``scale`` the number of contributions, so that ``scale * g' H^-1 g`` is the Newton decrement in
log-likelihood units.  How the sum over rows is taken is a reducer: here a ``lax.scan`` over blocks of rows, each
with its own derivatives, which keeps the working set in cache (several times faster than derivatives of the whole
sum, at a hundredth of the memory).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property, partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from mlejax import derivatives
from mlejax.data import DesignKey, Prepared, by_row
from mlejax.execution.trace import linear_predictors
from mlejax.likelihood import Likelihood
from mlejax.parameters import Space
from mlejax.portable import portable, restore
from mlejax.reduction import Reduction, adjustment, value_grad_hessian

Array = Any


@dataclass(frozen=True)
class Spec:
    """What is fixed at compilation: the declaration, the layout, penalty, bias reduction, the route to the Hessian."""

    likelihood: Likelihood
    space: Space
    penalty: Callable[..., Any] | None = None
    hessian: str = "autodiff"
    reduction: Reduction | None = None

    def __hash__(self) -> int:
        return self._hash

    @cached_property
    def _hash(self) -> int:
        return hash((self.likelihood, self.space, self.penalty, self.hessian, self.reduction))

    def __reduce__(self) -> Any:
        return _spec, (self.likelihood, self.space, portable(self.penalty), self.hessian, self.reduction)

    @property
    def plain(self) -> Spec:
        """The same for the log-likelihood alone."""
        return replace(self, penalty=None, reduction=None)

    @property
    def adjusted(self) -> bool:
        """Whether something is subtracted from the log-likelihood."""
        return self.penalty is not None or self.reduction is not None


def _spec(likelihood: Likelihood, space: Space, penalty: Any, hessian: str, reduction: Any) -> Spec:
    return Spec(likelihood, space, restore(penalty), hessian, reduction)


def sum_over_blocks(
    function: Callable[[Any, Array], Any], rows: Any, weights: Array, n_blocks: int, n_used: Array | None = None
) -> Any:
    """Sum of ``function(rows of a block, weights of a block)`` over ``n_blocks`` equal blocks; any pytree of sums.

    With ``n_used``, which may be traced, over the first so many blocks: one program for data of different length.
    """
    if n_blocks <= 1:
        return function(rows, weights)
    cut = jax.tree.map(lambda a: jnp.reshape(a, (n_blocks, a.shape[0] // n_blocks, *a.shape[1:])), (rows, weights))
    zero = jax.tree.map(
        lambda s: jnp.zeros(s.shape, s.dtype), jax.eval_shape(function, *jax.tree.map(lambda a: a[0], cut))
    )
    if n_used is not None:
        take = lambda i: jax.tree.map(lambda a: lax.dynamic_index_in_dim(a, i, keepdims=False), cut)
        return lax.fori_loop(0, n_used, lambda i, total: jax.tree.map(jnp.add, total, function(*take(i))), zero)
    return lax.scan(lambda total, part: (jax.tree.map(jnp.add, total, function(*part)), None), zero, cut)[0]


@dataclass(frozen=True)
class Objective:
    """The objective of one data set, in u; built inside a traced function, closing over its arrays.

    Attributes:
        spec: what is fixed at compilation.
        prepared: the data (rows, weights, shared).
        fixed: values held fixed, (n_values,) or None.
        hyper: what ``penalty(params, hyper)`` receives, or None.
        scale: the number of contributions, a float.
        n_used: the number of blocks that hold rows, or None for all.
        common: many objectives under one ``vmap`` have the same rows, and differ in their weights.
    """

    spec: Spec
    prepared: Prepared
    fixed: Array | None
    hyper: Any
    scale: Array
    n_used: Array | None = None
    common: bool = False

    def contributions(self, u: Array, rows: Any) -> Array:
        """l_i(u) for the given rows, (N,)."""
        params = self.spec.space.params_from_u(u, self.fixed)
        return self.spec.likelihood.contributions(params, rows, self.prepared.shared, self.prepared.statics)

    def _sum(self, function: Callable[[Any, Array], Any]) -> Any:
        prepared = self.prepared
        return sum_over_blocks(function, prepared.rows, prepared.weights, prepared.n_blocks, self.n_used)

    def _block_loglik(self, u: Array, rows: Any, weights: Array) -> Array:
        weighted = weights * self.contributions(u, rows)
        if self.prepared.mode == "whole":  # nothing of a whole model can be replaced: an entry of weight 0 is left out
            weighted = jnp.where(weights > 0, weighted, 0.0)
        return jnp.sum(weighted)

    def adjustment(self, u: Array) -> Array:
        """What is subtracted from the log-likelihood: the penalty, or what reduces bias; ()."""
        total = jnp.zeros((), jnp.result_type(float))
        if self.spec.penalty is not None:
            total = total + self._penalty(u)
        if self.spec.reduction is not None:
            total = total + self._reduction(u)
        return total

    def _reduction(self, u: Array) -> Array:
        """The adjustment of :mod:`mlejax.reduction`, in theta, ()."""
        assert self.spec.reduction is not None
        kind, expected = self.spec.reduction.kind, self.spec.reduction.expected
        space, likelihood, prepared = self.spec.space, self.spec.likelihood, self.prepared
        theta = space.theta_from_u(u, self.fixed)

        def at(t: Array, rows: Any) -> Array:
            params = space.params_from_theta(t, self.fixed)
            return likelihood.contributions(params, rows, prepared.shared, prepared.statics)

        @jax.checkpoint  # what it holds for its derivatives is cheaper computed again than kept for every row
        def block(rows: Any, weights: Array) -> tuple[Array, Array]:
            nothing = jnp.zeros((theta.shape[0],) * 2, theta.dtype)
            if expected is not None:
                params = space.params_from_theta(theta, self.fixed)
                return likelihood.weighted_sum(expected, params, rows, weights, prepared), nothing
            information = -jax.hessian(lambda t: jnp.sum(weights * at(t, rows)))(theta)
            if kind == "jeffreys":
                return information, nothing
            row_function = derivatives.RowFunction(at, separable=prepared.mode != "whole")
            scores = derivatives.values_and_scores(row_function, theta, rows)[1]
            return information, (scores * weights[:, None]).T @ scores

        information, meat = self._sum(block)
        return adjustment(kind, information, meat)

    def _penalty(self, u: Array) -> Array:
        assert self.spec.penalty is not None
        params = self.spec.space.params_from_u(u, self.fixed)
        value = self.spec.penalty(params) if self.hyper is None else self.spec.penalty(params, self.hyper)
        return jnp.asarray(value, jnp.result_type(float))

    def loglik(self, u: Array) -> Array:
        """The log-likelihood itself, summed and weighted, without penalty; ()."""
        return self._sum(lambda rows, weights: self._block_loglik(u, rows, weights))

    def value(self, u: Array) -> Array:
        """f(u), ()."""
        total = self.loglik(u)
        if self.spec.adjusted:
            total = total - self.adjustment(u)
        return -total / self.scale

    def value_and_grad(self, u: Array) -> tuple[Array, Array]:
        """f(u) () and its gradient (p,)."""
        sums = self._sum(lambda rows, weights: jax.value_and_grad(lambda t: self._block_loglik(t, rows, weights))(u))
        if self.spec.adjusted:
            sums = _minus(sums, jax.value_and_grad(self.adjustment)(u))
        return self._negate(sums)

    def with_hessian(self, u: Array) -> tuple[Array, Array, Array]:
        """f(u) (), its gradient (p,) and its Hessian (p, p)."""
        if self.spec.hessian == "differenced":
            value, grad = self.value_and_grad(u)
            return value, grad, derivatives.differenced_jacobian(lambda t: self.value_and_grad(t)[1], u)
        paths = predictor_paths(self.spec, self.prepared)
        if paths is not None:
            sums = self._sum(lambda rows, weights: self._by_predictors(paths, u, rows, weights))
        elif self.prepared.mode == "rows":
            sums = self._rows_with_hessian(u)
        else:
            sums = self._any_with_hessian(u)
        if self.spec.penalty is not None:
            sums = _minus(sums, derivatives.value_grad_hessian(self._penalty, u))
        if self.spec.reduction is not None:
            sums = _minus(sums, value_grad_hessian(self._reduction, u))
        value, grad, hessian = self._negate(sums)
        return value, grad, 0.5 * (hessian + hessian.T)

    def _by_predictors(self, paths: Paths, u: Array, rows: Any, weights: Array) -> tuple[Array, Array, Array]:
        """Value, gradient and Hessian in u of a block of rows, through the linear predictors of regressed parameters.

        The likelihood is called with a design of one column for each predictor, the predictor itself, and coefficients
        that pick it out.
        """
        params = self.spec.space.params_from_u(u, self.fixed)
        designs, etas, unit = [], [], {}
        for name, slot in paths.slots:
            coefficients = jnp.atleast_2d(params[name])
            coefficients = jnp.reshape(coefficients, (-1, coefficients.shape[-1]))
            m = coefficients.shape[0]
            etas.append(rows[slot] @ coefficients.T)
            designs += [rows[slot]] * m
            one = jnp.eye(m, dtype=u.dtype)
            unit[name] = one[0] if params[name].ndim == 1 else jnp.reshape(one, (*params[name].shape[:-1], m))
        ends = np.cumsum([e.shape[1] for e in etas])

        def function(predictors: Array, w: Array) -> Array:
            replaced = list(rows)
            for (_, slot), part in zip(paths.slots, jnp.split(predictors, ends[:-1], axis=1), strict=True):
                replaced[slot] = part
            at = self.spec.space.params_from_u(u.at[paths.others].set(w), self.fixed)
            values = self.spec.likelihood.contributions(
                {**at, **unit}, tuple(replaced), self.prepared.shared, self.prepared.statics
            )
            return jnp.sum(weights * values)

        value, grad, hessian = derivatives.through_predictors(
            function, jnp.concatenate(etas, axis=1), designs, u[paths.others], self.common
        )
        return value, grad[paths.order], hessian[paths.order][:, paths.order]

    def _any_with_hessian(self, u: Array) -> tuple[Array, Array, Array]:
        return self._sum(
            lambda rows, weights: derivatives.value_grad_hessian(lambda t: self._block_loglik(t, rows, weights), u)
        )

    def _rows_with_hessian(self, u: Array) -> tuple[Array, Array, Array]:
        """The log-likelihood with its derivatives where rows do not mix: through linear predictors if there are any."""
        prepared = self.prepared
        beside, structure = jax.tree.flatten((self.fixed, prepared.shared))
        leaves, tree = jax.tree.flatten(prepared.rows)
        n = len(leaves)

        def contributions(t: Array, *arrays: Array) -> Array:
            fixed, shared = jax.tree.unflatten(structure, arrays[n:])
            params = self.spec.space.params_from_u(t, fixed)
            rows = jax.tree.unflatten(tree, arrays[:n])
            return self.spec.likelihood.contributions(params, rows, shared, prepared.statics)

        size = prepared.weights.shape[0] // prepared.n_blocks
        block = [jax.ShapeDtypeStruct((size, *a.shape[1:]), jnp.result_type(a)) for a in leaves]
        traced = linear_predictors.trace(contributions, u, [*block, *beside])
        if traced.inner is None:

            def plainly(rows: Any, weights: Array) -> tuple[Array, Array, Array]:
                arrays = [*jax.tree.leaves(rows), *beside]
                return derivatives.value_grad_hessian(lambda t: jnp.sum(weights * traced.whole(t, *arrays)[0]), u)

            return self._sum(plainly)
        products = partial(derivatives.weighted_products, common=True) if self.common else None
        found = self._sum(
            lambda rows, w: linear_predictors.sums(traced, u, [*jax.tree.leaves(rows), *beside], w, products)
        )
        return linear_predictors.assemble(traced, found, u.shape[0])

    def with_opg(self, u: Array) -> tuple[Array, Array, Array]:
        """f(u) (), its gradient (p,) and the mean outer product of the weighted scores (p, p)."""

        def block(rows: Any, weights: Array) -> tuple[Array, Array, Array]:
            values, scores = derivatives.values_and_scores(self._row_function(), u, rows)
            return jnp.sum(weights * values), weights @ scores, (scores * weights[:, None]).T @ scores

        value, grad, opg = self._sum(block)
        if self.spec.adjusted:
            value, grad = _minus((value, grad), jax.value_and_grad(self.adjustment)(u))
        value, grad = self._negate((value, grad))
        return value, grad, opg / self.scale

    def scores(self, u: Array) -> Array:
        """Scores in u of every contribution, unweighted, (N, p), in row blocks."""
        return self._map_rows(lambda rows: derivatives.values_and_scores(self._row_function(), u, rows)[1])

    def all_contributions(self, u: Array) -> Array:
        """l_i(u) of every contribution, unweighted, (N,), in row blocks."""
        return self._map_rows(lambda rows: self.contributions(u, rows))

    def _map_rows(self, function: Callable[[Any], Array]) -> Array:
        n_blocks = self.prepared.n_blocks
        if n_blocks <= 1:
            return function(self.prepared.rows)
        cut = jax.tree.map(
            lambda a: jnp.reshape(a, (n_blocks, a.shape[0] // n_blocks, *a.shape[1:])), self.prepared.rows
        )
        out = lax.map(function, cut)
        return jnp.reshape(out, (-1, *out.shape[2:]))

    def _row_function(self) -> derivatives.RowFunction:
        """How scores may be taken: entry by entry where entry i uses row i only, else through the whole vector."""
        return derivatives.RowFunction(self.contributions, separable=self.prepared.mode != "whole")

    def _negate(self, sums: Any) -> Any:
        return jax.tree.map(lambda a: -a / self.scale, sums)


class Paths(NamedTuple):
    """How coefficients reach the rows through linear predictors.

    Attributes:
        slots: (parameter, position of its design among the rows' arrays) of each regressed parameter.
        others: positions in u of all other coordinates.
        order: for each entry of u its place among coefficients, predictor after predictor, and others.
    """

    slots: tuple[tuple[str, int], ...]
    others: np.ndarray
    order: np.ndarray


MOST_PREDICTORS = 6


def predictor_paths(spec: Spec, prepared: Prepared) -> Paths | None:
    """The paths where derivatives through linear predictors are right and cheaper; None for the ordinary way.

    Where all predictors are scalars and the function takes them as vectors, the compiler finds the same savings itself.
    """
    space, predictors = spec.space, spec.likelihood.predictors
    if not predictors or prepared.mode != "rows" or space.ties is not None:
        return None
    if all(p.scalar for p in predictors) and not by_row(prepared.statics.keys):
        return None
    found = {
        e.key.parameter: e.slots[0].position
        for e in prepared.statics.entries
        if isinstance(e.key, DesignKey) and e.key.part == "design"
    }
    slots, position, taken = [], 0, np.zeros(space.n_free, bool)
    order = np.zeros(space.n_free, np.int64)
    n_predictors = 0
    for p in predictors:
        i = next(i for i, leaf in enumerate(space.leaves) if leaf.name == p.name)
        leaf, at = space.leaves[i], space.u_slices[i]
        slots.append((p.name, found[p.name]))
        free = np.flatnonzero(np.ones(leaf.size, bool) if leaf.free is None else np.asarray(leaf.free))
        order[at] = position + free
        taken[at] = True
        position += leaf.size
        n_predictors += leaf.size // leaf.shape[-1]
    others = np.flatnonzero(~taken)
    order[others] = position + np.arange(others.size)
    if n_predictors > MOST_PREDICTORS or n_predictors + others.size >= space.n_free:
        return None
    return Paths(tuple(slots), others, order)


def _minus(a: Any, b: Any) -> Any:
    return jax.tree.map(jnp.subtract, a, b)
