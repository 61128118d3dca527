r"""Derivatives of every row's log-likelihood with respect to its own effect, and mixed derivatives with the other parameters.

With l_i(u, a) the weighted log-likelihood of row i at its effect a = alpha_g(i), the sums over the rows of a level are

.. math:: s_g = \sum_i \partial l_i/\partial a, \quad h_g = -\sum_i \partial^2 l_i/\partial a^2, \quad
          c_g = \sum_i \partial^2 l_i/\partial a\,\partial u.

Rows are independent, so that one forward tangent of ones gives the derivatives of all rows with respect to their own effect.  If
the other parameters enter through linear predictors, each predictor needs one tangent (`execution.trace.linear_predictors`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from mlejax.data import Prepared
from mlejax.execution import compiled
from mlejax.execution.trace import dummies, linear_predictors
from mlejax.execution.trace.jaxprs import dependence, is_literal
from mlejax.objective.specification import Spec
from mlejax.shapes import Device, Either, Float, PyTree

ALONE = 3  # number of row values of `by_effect`: log-likelihood, score, minus the second derivative


def _contributions(spec: Spec, data: Prepared, position: int) -> Callable[..., Device]:
    """Return the function (u, effects (N,), fixed values, shared arrays, rows) -> log-likelihoods of the rows (N,).

    The effects replace the column at ``position`` of the rows, here and in `_by_effect`, `_by_all` and `effect_scores`.
    """

    def function(u: Either, effects: PyTree, fixed: Either | None, shared: PyTree, rows: PyTree) -> Device:
        params = spec.space.params_from_u(u, fixed)
        every = (*rows[:position], effects, *rows[position + 1 :])
        return spec.likelihood.contributions(params, every, shared, data.statics)

    return function


def _by_effect(spec: Spec, position: int, u: Either, data: Prepared, fixed: Either | None) -> tuple[tuple[()], Any]:
    """Return an empty tuple, since nothing is summed, and log-likelihood, score and minus the second derivative of every row with
    respect to its own effect, weighted (3, N).
    """
    contributions = _contributions(spec, data, position)

    def slope(effects: PyTree) -> tuple[Any, Any]:
        def total(a: PyTree) -> tuple[Any, Any]:
            each = data.weights * contributions(u, a, fixed, data.shared, data.rows)
            return jnp.sum(each), each

        (_, values), score = jax.value_and_grad(total, has_aux=True)(effects)
        return score, values

    effects = jnp.asarray(data.rows[position])
    score, bend, values = jax.jvp(slope, (effects,), (jnp.ones_like(effects),), has_aux=True)
    return (), jnp.stack([values, score, -bend])


def _by_all(spec: Spec, position: int, u: Either, data: Prepared, fixed: Either | None) -> tuple[Any, Any]:
    """Return the summed gradient (p,) and Hessian (p, p) in u, and row values (3 + p, N): log-likelihood, score and minus
    the second derivative with respect to the effect, and mixed derivatives with respect to effect and u; all weighted.
    """
    contributions = _contributions(spec, data, position)
    leaves, tree = jax.tree.flatten((fixed, data.shared, data.rows))
    effects = jnp.asarray(data.rows[position])
    n, p = effects.shape[0], u.shape[0]

    def of_leaves(t: PyTree, a: PyTree, *others: Device) -> PyTree:
        return contributions(t, a, *jax.tree.unflatten(tree, others))

    traced = linear_predictors.trace(of_leaves, u, [effects, *leaves], effects=True)
    if traced.inner is None or _depend_on(lambda a: traced.data(u, a, *leaves), effects):
        traced = linear_predictors.Traced(traced.whole, traced.whole, lambda *_: [], (), np.arange(p))
    inner, theta = traced.inner, traced.theta
    assert inner is not None
    matrices = traced.matrices(traced.data(u, effects, *leaves), n)
    etas = [dummies.times(x, u[at]) for x, at in zip(matrices, traced.places, strict=True)]
    # predictors that are added to the effects have the derivatives by the effects
    firsts = [a for a in traced.firsts if traced.groups[a] != traced.own]
    g, s = len(firsts), theta.size
    m = g + s + 1

    def pair(t: PyTree, moving: PyTree, a: PyTree) -> PyTree:
        def total(t: PyTree, moving: PyTree, a: PyTree) -> tuple[Any, Any]:
            predictors = list(etas)
            for b, eta in zip(firsts, moving, strict=True):
                predictors[b] = eta
            each = data.weights * inner(t, a, *leaves, *traced.arguments(predictors))[0]
            return jnp.sum(each), each

        (_, values), grads = jax.value_and_grad(total, argnums=(0, 1, 2), has_aux=True)(t, moving, a)
        return grads, (values, grads)

    moving = [etas[b] for b in firsts]

    def along(dt: Device, de: PyTree, da: PyTree) -> PyTree:
        _, bend, at = jax.jvp(pair, (u, moving, effects), (dt, de, da), has_aux=True)
        return bend, at

    dt = np.zeros((m, p))
    dt[g + np.arange(s), theta] = 1.0
    on = np.eye(m)
    de = [jnp.broadcast_to(jnp.asarray(on[:, i, None], u.dtype), (m, n)) for i in range(g)]
    da = jnp.broadcast_to(jnp.asarray(on[:, -1:], u.dtype), (m, n))
    (bend_u, bend_e, bend_a), (values, (grad, slopes, score)) = jax.vmap(along, out_axes=(0, None))(
        jnp.asarray(dt, u.dtype), de, da
    )
    # in the order of the tangents: sums of predictors, entries of theta, effects
    tangent = {traced.groups[b]: i for i, b in enumerate(firsts)} | {traced.own: m - 1}
    slope_of, bend_of = [*slopes, *[None] * s, score], [*bend_e, *[None] * s, bend_a]
    matrices, places, groups = dummies.side_by_side(matrices, traced.places, traced.groups)
    of = [tangent[group] for group in groups]
    crosses = jnp.zeros((p, n), u.dtype).at[theta].set(bend_a[g : g + s])
    rows_times, crossed = dummies.rows_times, dummies.crossed
    q = len(matrices)
    sums = dummies.PredictorSums(
        jnp.sum(values),
        grad,
        [rows_times(slope_of[i][None], x)[0] for i, x in zip(of, matrices, strict=True)],
        [crossed(matrices[b], bend_of[of[c]][of[b]], matrices[c], _weighted) for b in range(q) for c in range(b, q)],
        [rows_times(bend_of[i][g : g + s], x).T for i, x in zip(of, matrices, strict=True)],
        bend_u[g : g + s],
    )
    _, grad, hessian = linear_predictors.assemble(places, theta, sums, p)
    for i, x, at in zip(of, matrices, places, strict=True):
        if isinstance(x, dummies.Dummies):
            crosses = x.placed(crosses, at, bend_a[i])
        else:
            crosses = crosses.at[at].add((x * bend_a[i][:, None]).T)
    return (grad, hessian), jnp.concatenate([jnp.stack([values, score, -bend_a[-1]]), crosses])


def _weighted(x: Device, w: Device, y: Device) -> PyTree:
    return (x * w[:, None]).T @ y


def _depend_on(function: Callable[..., Any], effects: PyTree) -> bool:
    """True if the values of a function depend on the effects."""
    jaxpr = jax.make_jaxpr(function)(effects).jaxpr
    depends = set(jaxpr.invars)
    for eqn, touched in dependence(jaxpr, jaxpr.invars):
        if touched:
            depends.update(eqn.outvars)
    return any(not is_literal(v) and v in depends for v in jaxpr.outvars)


by_effect = {how: compiled(_by_effect, static=("spec", "position"), how=how) for how in ("quick", "careful")}
by_all = {how: compiled(_by_all, static=("spec", "position"), how=how) for how in ("quick", "careful")}


@partial(compiled, static=("spec", "position"))
def effect_scores(spec: Spec, position: int, u: Either, data: Prepared, fixed: Either | None) -> Float[Device, " n"]:
    """Return the derivative of every row's log-likelihood with respect to its effect, unweighted (N,)."""
    contributions = _contributions(spec, data, position)

    def total(a: PyTree) -> PyTree:
        return jnp.sum(contributions(u, a, fixed, data.shared, data.rows))

    return jax.grad(total)(jnp.asarray(data.rows[position]))


@dataclass(frozen=True, eq=False)
class RowTermsByLevel:
    """The program of `by_effect` or `by_all` as a function of rows, with their effects; it can be pickled.

    Attributes:
        of: "effect" or "all".
        how: effort of the compilation.
        spec, position: what is compiled, and the position of the column of effects among the row-wise arrays.
        u, fixed: the point (p,), and values under ``fixed=``, or None.
    """

    of: str
    how: str
    spec: Spec
    position: int
    u: Either
    fixed: Either | None

    def __call__(self, rows: Prepared) -> tuple[Any, Any]:
        """Return the results of the program for ``rows``: what is summed over all rows (gradient and Hessian in u of `by_all`,
        nothing of `by_effect`), and the values of each row (n_terms, N).
        """
        program = (by_effect if self.of == "effect" else by_all)[self.how]
        return program(self.spec, self.position, self.u, rows, self.fixed)
