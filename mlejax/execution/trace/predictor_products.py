"""Sums of outer products of scores through linear predictors.

The score of row i is s_i = sum_a (dl_i / deta_a) x_ia for the coefficients of the predictors, so that the products are, as in
the Hessian, X_a' diag(.) X_b: no scores of single rows are stored.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from mlejax.execution.trace.dummies import PredictorSums, crossed, pair_sums, rows_times, times
from mlejax.execution.trace.linear_predictors import Traced
from mlejax.shapes import Either


def score_products(traced: Traced, u: Either, others: list[jax.Array], weights: jax.Array) -> PredictorSums:
    """Return sums over a block of rows from which `assemble` makes, in place of a Hessian, sum_i w_i s_i s_i' with s_i the score
    of row i; the value and the gradient that `assemble` makes of them are 0.

    ``traced``: the traced terms, whose ``inner`` must not be None; ``u``, ``others``: arguments of the traced function;
    ``weights``: w_i (N,).
    """
    assert traced.inner is not None
    inner, n = traced.inner, weights.shape[0]
    matrices = traced.matrices(traced.data(u, *others), n)
    etas = [times(x, u[at]) for x, at in zip(matrices, traced.places, strict=True)]
    q, s, p = len(etas), traced.theta.size, u.shape[0]
    terms = lambda t, predictors: inner(t, *others, *traced.arguments(predictors))[0]
    dt = np.zeros((q + s, p), u.dtype)
    dt[q + np.arange(s), traced.theta] = 1.0
    on = np.eye(q + s, dtype=u.dtype)
    de = [jnp.broadcast_to(on[:, a, None], (q + s, n)) for a in range(q)]
    slopes = jax.vmap(lambda t, e: jax.jvp(terms, (u, etas), (t, e))[1])(jnp.asarray(dt), de)
    weighted = slopes * weights
    bend = [[weighted[b] * slopes[a] for a in range(q)] for b in range(q)]
    pairs = pair_sums(matrices, bend, lambda a, w, b: crossed(a, w, b, lambda x, v, y: (x * v[:, None]).T @ y))
    crosses = [rows_times(slopes[q:] * weighted[a], matrices[a]).T for a in range(q)]
    theta = jnp.zeros((s, p), u.dtype).at[:, traced.theta].set(weighted[q:] @ slopes[q:].T)
    betas = [jnp.zeros(at.size, u.dtype) for at in traced.places]
    return PredictorSums(jnp.zeros((), u.dtype), jnp.zeros(p, u.dtype), betas, pairs, crosses, theta)
