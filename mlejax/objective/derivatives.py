"""Score, row scores and Hessian by automatic differentiation.

The Hessian is forward over reverse, ``jacfwd`` of ``value_and_grad``, so that the user's function is traced once for
value, score and Hessian together.  If JAX has no second derivative (of ``gammainc`` by its shape), the gradient is
exact and the Hessian is its central difference with one Richardson step, error O(h^4).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from mlejax.shapes import Device, Either, Float, PyTree

MOST_PRODUCTS = 144  # most products of two columns that are stored for use with many weight vectors


@dataclass(frozen=True)
class RowFunction:
    """A function of rows, ``function(u, rows) -> (N,)``, and whether its entry i depends on row i only (``separable``)."""

    function: Callable[[Any, Any], Any]
    separable: bool


def value_grad_hessian(function: Callable[[Any], Any], u: Either) -> tuple[Any, Any, Any]:
    """Return value (), gradient (p,) and Hessian (p, p) of a scalar function, tracing it once."""

    def pair(t: Device) -> tuple[Any, tuple[Any, Any]]:
        value, grad = jax.value_and_grad(function)(t)
        return grad, (value, grad)

    hessian, (value, grad) = jax.jacfwd(pair, has_aux=True)(u)
    return value, grad, hessian


def products_of_shared(
    x: Float[Device, "n k"], w: Float[Device, " n"], y: Float[Device, "n l"]
) -> Float[Device, "k l"]:
    """Return X' diag(w) Y, for X and Y that are common to many weight vectors w under one ``vmap``.

    The products of their columns are computed once, so that all these sums are one matrix product of weights and column products.
    """
    k, m = x.shape[1], y.shape[1]
    if k * m > MOST_PRODUCTS:
        return (x * w[:, None]).T @ y
    if x is not y:
        return jnp.reshape(w @ jnp.reshape(x[:, :, None] * y[:, None, :], (-1, k * m)), (k, m))
    upper = jnp.concatenate([x[:, i : i + 1] * x[:, i:] for i in range(k)], axis=1)
    i, j = np.triu_indices(k)
    place = np.zeros((k, k), np.int64)
    place[i, j] = place[j, i] = np.arange(i.size)
    return (w @ upper)[place]


def values_and_scores(rows_of: RowFunction, u: Either, rows: PyTree) -> tuple[Any, Any]:
    """Return the values of all rows (N,) and their gradients in u (N, p), for the function ``rows_of`` of u and rows.

    Separable functions are differentiated row by row (reverse mode, ``vmap`` over single rows), others as a whole vector
    (forward mode).
    """
    if not rows_of.separable:

        def pair(t: Device) -> tuple[Any, Any]:
            values = rows_of.function(t, rows)
            return values, values

        scores, values = jax.jacfwd(pair, has_aux=True)(u)
        return values, scores

    def one(row: PyTree) -> tuple[Any, Any]:
        alone = jax.tree.map(lambda a: a[None], row)
        return jax.value_and_grad(lambda t: rows_of.function(t, alone)[0])(u)

    return jax.vmap(one)(rows)


def differenced(value_and_grad: Callable[[Any], tuple[Any, Any]], u: Either) -> tuple[Any, Any, Any]:
    """Return value (), exact gradient (p,), and the Hessian (p, p) by central differences of the gradient with one
    extrapolation; ``value_and_grad``: function of u (p,) that returns both.

    Step ``h_j = 1e-3 max(1, |u_j|)``; error O(h^4) plus rounding of order eps / h.  One program evaluates all 4p + 1 points.
    """
    p = u.shape[0]
    h = 1e-3 * jnp.maximum(1.0, jnp.abs(u))
    shifts = jnp.concatenate([jnp.zeros((1, p)), *(k * jnp.diag(h) for k in (1.0, -1.0, 2.0, -2.0))]).astype(u.dtype)
    values, grads = lax.map(value_and_grad, u[None] + shifts)
    near, far = grads[1 : p + 1] - grads[p + 1 : 2 * p + 1], grads[2 * p + 1 : 3 * p + 1] - grads[3 * p + 1 :]
    hessian = (8.0 * near - far) / (12.0 * h[:, None])
    return values[0], grads[0], 0.5 * (hessian + hessian.T)
