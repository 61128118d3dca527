r"""The log of one unit's integral by adaptive Gauss-Hermite quadrature; with one point it is Laplace's approximation.

    log int exp f(z) dz  ~  log |C| + (q/2) log 2 + log sum_k w_k exp( f(zhat + sqrt(2) C t_k) + |t_k|^2 ),

zhat the mode of f, C C' the inverse of its curvature there, t_k and w_k the Gauss-Hermite points and weights of a grid.
Mode and curvature depend on the parameters: the loop that finds the mode is not differentiated, and two Newton steps after it,
with constant curvature, give the mode its exact first and second derivatives.
"""

from __future__ import annotations

from functools import lru_cache
from itertools import product
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from mlejax.latent.mode import Integrand, IntegrandCurve, curve, find, gradient
from mlejax.latent.variable import Quadrature
from mlejax.linalg import entrywise
from mlejax.shapes import Device


@lru_cache(maxsize=64)
def grid(points: int, q: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the points sqrt(2) t_k (m, q) of a Gauss-Hermite grid, m = points ** q, and log w_k + |t_k|^2 (m,), for the nodes
    t_k and weights w_k of the weight function exp(-|t|^2).
    """
    t, w = np.polynomial.hermite.hermgauss(points)
    log_w = np.log(w) + t * t
    at = np.array(list(product(range(points), repeat=q)), np.int64).reshape(-1, q)
    return np.sqrt(2.0) * t[at], log_w[at].sum(axis=1)


def centred(f: Integrand, stopped: Integrand, q: int) -> tuple[Any, IntegrandCurve]:
    """Return the mode of f (q,), with derivatives in the parameters of f, and the value, gradient and curvature there.

    Where no mode is found the point is that of the last step.

    Args:
        f: the log of the integrand, as a function of z (q,).
        stopped: the same function without derivatives in its parameters.
        q: the number of latent variables.
    """
    mode = jax.tree.map(lax.stop_gradient, find(stopped, jnp.zeros(q)))
    factor = entrywise.cholesky(mode.at.curvature, safe=True)
    z = mode.z
    for _ in range(2):
        z = z + entrywise.solve(factor, gradient(f, z))
    return z, curve(f, z)


def log_integral(f: Integrand, stopped: Integrand, q: int, how: Quadrature) -> Device:
    """Return log int exp f(z) dz (); NaN if the curvature at the point found is not positive definite.

    With ``how.fixed_mode`` derivatives in the parameters treat mode and curvature as constants. Other arguments as in
    :func:`centred`.
    """
    points = how.points
    z, at = jax.tree.map(lax.stop_gradient, find(stopped, jnp.zeros(q)))[:2] if how.fixed_mode else centred(f, stopped, q)
    factor = entrywise.cholesky(at.curvature)
    log_scale = 0.5 * q * np.log(2.0) - entrywise.log_diagonal(factor)
    if points == 1:
        return at.value + log_scale + 0.5 * q * np.log(np.pi)
    where, log_w = grid(points, q)
    values = jax.vmap(lambda t: f(z + jnp.stack(entrywise.solve_upper(factor, t))))(jnp.asarray(where))
    return log_scale + jax.nn.logsumexp(values + log_w)
