"""Score, per-row scores and Hessian by automatic differentiation; nothing is inverted here.

The Hessian is forward over reverse, ``jacfwd`` of ``value_and_grad``, so that the user's function is traced once for
value, score and Hessian together.  Where JAX has no second derivative (the shape of ``gammainc``), the gradient is
exact and its Jacobian is taken by central differences with one Richardson step, error O(h^4).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

Array = Any
MOST_PRODUCTS = 144  # of two columns, up to which they are formed for weights that are many


@dataclass(frozen=True)
class RowFunction:
    """``function(u, rows) -> (N,)`` and whether entry i uses row i only."""

    function: Callable[[Array, Any], Array]
    separable: bool


def value_grad_hessian(function: Callable[[Array], Array], u: Array) -> tuple[Array, Array, Array]:
    """Value (), gradient (p,) and Hessian (p, p) of a scalar function, tracing it once."""

    def pair(t: Array) -> tuple[Array, tuple[Array, Array]]:
        value, grad = jax.value_and_grad(function)(t)
        return grad, (value, grad)

    hessian, (value, grad) = jax.jacfwd(pair, has_aux=True)(u)
    return value, grad, hessian


def weighted_products(x: Array, w: Array, y: Array, common: bool = False) -> Array:
    """X' diag(w) Y (k, l), for X (N, k), w (N,) and Y (N, l).

    ``common``: X and Y serve many vectors of weights under one ``vmap``. Then the products of their columns, formed once,
    make of all these sums one product of matrices, weights times rows.
    """
    k, m = x.shape[1], y.shape[1]
    if not common or k * m > MOST_PRODUCTS:
        return (x * w[:, None]).T @ y
    if x is not y:
        return jnp.reshape(w @ jnp.reshape(x[:, :, None] * y[:, None, :], (-1, k * m)), (k, m))
    i, j = np.triu_indices(k)
    place = np.zeros((k, k), np.int64)
    place[i, j] = place[j, i] = np.arange(i.size)
    return (w @ (x[:, i] * x[:, j]))[place]


def through_predictors(
    function: Callable[[Array, Array], Array],
    etas: Array,
    designs: Sequence[Array],
    w: Array,
    common: bool = False,
) -> tuple[Array, Array, Array]:
    """Value, gradient and Hessian where coefficients act through linear predictors alone, eta_a = X_a b_a (+ offset).

    ``function(etas, w)`` is a sum over rows, and row i depends on the predictors of row i only.  Then

        d2 / db_a db_c' = X_a' diag(d2 l_i / d eta_a d eta_c) X_c,

    which needs as many derivatives as there are predictors, however many coefficients they have.

    Args:
        function: (etas (N, M), w (q,)) -> ().
        etas: (N, M).
        designs: X_a (N, k_a), one for each of the M predictors.
        w: all other coordinates, (q,).
        common: as in :func:`weighted_products`.

    Returns:
        Value (), gradient (p,) and Hessian (p, p) for the coefficients, predictor after predictor, and then w.
    """
    n, m = etas.shape
    q = w.shape[0]

    def gradient(e: Array, v: Array) -> tuple[tuple[Array, Array], Array]:
        value, (by_eta, by_w) = jax.value_and_grad(function, argnums=(0, 1))(e, v)
        return (by_eta, by_w), value

    unit = jnp.eye(m + q, dtype=etas.dtype)
    towards = jnp.broadcast_to(unit[:, None, :m], (m + q, n, m)), unit[:, m:]

    def push(tangent_eta: Array, tangent_w: Array) -> Any:
        return jax.jvp(gradient, (etas, w), (tangent_eta, tangent_w), has_aux=True)

    at, along, value = jax.vmap(push, out_axes=(None, 0, None))(*towards)
    (by_eta, by_w), (eta_along, w_along) = at, along
    blocks = [
        [weighted_products(designs[a], eta_along[c, :, a], designs[c], common) for c in range(m)]
        + [designs[a].T @ eta_along[m:, :, a].T]
        for a in range(m)
    ]
    corner = [blocks[a][m].T for a in range(m)]
    grad = jnp.concatenate([*(designs[a].T @ by_eta[:, a] for a in range(m)), by_w])
    return value, grad, jnp.block([*blocks, [*corner, w_along[m:]]])


def values_and_scores(rows_of: RowFunction, u: Array, rows: Any) -> tuple[Array, Array]:
    """Contributions (N,) and their gradients (N, p).

    Separable functions are differentiated row by row (reverse mode, ``vmap`` of single rows); others through the
    whole vector, forward mode.
    """
    if not rows_of.separable:

        def pair(t: Array) -> tuple[Array, Array]:
            values = rows_of.function(t, rows)
            return values, values

        scores, values = jax.jacfwd(pair, has_aux=True)(u)
        return values, scores

    def one(row: Any) -> tuple[Array, Array]:
        alone = jax.tree.map(lambda a: a[None], row)
        return jax.value_and_grad(lambda t: rows_of.function(t, alone)[0])(u)

    return jax.vmap(one)(rows)


def differenced_jacobian(gradient: Callable[[Array], Array], u: Array, step: float = 1e-3) -> Array:
    """Symmetrised Jacobian (p, p) of an exact gradient by central differences and one Richardson extrapolation.

    Step ``h_j = step * max(1, |u_j|)``; error O(h^4) plus rounding of order eps / h.
    """
    h = step * jnp.maximum(1.0, jnp.abs(u))

    def column(j: Array) -> Array:
        e = jnp.zeros_like(u).at[j].set(h[j])
        near = gradient(u + e) - gradient(u - e)
        far = gradient(u + 2 * e) - gradient(u - 2 * e)
        return (8.0 * near - far) / (12.0 * h[j])

    jacobian = lax.map(column, jnp.arange(u.shape[0]))
    return 0.5 * (jacobian + jacobian.T)
