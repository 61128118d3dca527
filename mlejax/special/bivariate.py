r"""The bivariate normal distribution function, with derivatives of every order in all three arguments.

With :math:`c^2 = 1 - \rho^2` the first derivatives are closed forms, from which JAX makes all others:

.. math:: \partial_x \Phi_2 = \varphi(x)\, \Phi\Bigl(\frac{y - \rho x}{c}\Bigr), \qquad
          \partial_\rho \Phi_2 = \frac{1}{2 \pi c} \exp\Bigl(-\frac{x^2 - 2 \rho x y + y^2}{2 c^2}\Bigr).

The value integrates the second over the correlation, from 0 by Gauss-Legendre quadrature of 20 points, or, above 0.925 in size,
from 1 with the singular part taken out (Drezner & Wesolowsky 1990, Journal of Statistical Computation and Simulation 35; Genz
2004, Statistics and Computing 14, 251).
"""

from __future__ import annotations

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from mlejax.shapes import Device

_NODES, _WEIGHTS = np.polynomial.legendre.leggauss(20)
_FAR = 38.0  # beyond which normal probabilities are 0 in float64
_SWITCH = 0.925


def _ndtr(x: Any) -> Device:
    return jax.scipy.special.ndtr(x)  # which JAX imports when it is requested


def _near_zero(h: Any, k: Any, rho: Any) -> Device:
    """Return P(X > h, Y > k) for scalars and rho below 0.925 in size, by integration over the correlation from 0 to rho."""
    half = jnp.arcsin(rho) / 2.0
    sine = jnp.sin(half * (1.0 + _NODES))
    inner = jnp.exp((sine * h * k - (h * h + k * k) / 2.0) / (1.0 - sine * sine))
    return inner @ _WEIGHTS * half / (2.0 * jnp.pi) + _ndtr(-h) * _ndtr(-k)


def _near_one(h: Any, k: Any, rho: Any) -> Device:
    """Return P(X > h, Y > k) for scalars and rho from 0.925 in size on, by integration over the correlation from +-1 to rho."""
    sign = jnp.where(rho < 0, -1.0, 1.0)
    k = sign * k
    hk, gap = h * k, (h - k) ** 2
    rest = (1.0 - rho) * (1.0 + rho)
    a = jnp.sqrt(jnp.where(rest > 0, rest, 1.0))
    c, d = (4.0 - hk) / 8.0, (12.0 - hk) / 80.0
    power = lambda value: jnp.where(value > -100.0, jnp.exp(jnp.clip(value, -100.0, 700.0)), 0.0)
    first = a * power(-(gap / a**2 + hk) / 2.0) * (1.0 - c * (gap - a**2) * (1.0 - d * gap) / 3.0 + c * d * a**4)
    b = jnp.sqrt(gap)
    first -= power(-hk / 2.0) * jnp.sqrt(2.0 * jnp.pi) * _ndtr(-b / a) * b * (1.0 - c * gap * (1.0 - d * gap) / 3.0)
    x = (a / 2.0 * (1.0 + _NODES)) ** 2
    root = jnp.sqrt(1.0 - x)
    series = 1.0 + c * x * (1.0 + 5.0 * d * x)
    exact = jnp.exp(-hk / 2.0 * x / (1.0 + root) ** 2) / root
    size = power(-(gap / x + hk) / 2.0)
    integral = jnp.where(size > 0, size * (series - exact), 0.0) @ _WEIGHTS
    missing = jnp.where(rest > 0, (a / 2.0 * integral - first) / (2.0 * jnp.pi), 0.0)
    above = _ndtr(-jnp.maximum(h, k)) + missing
    between = jnp.where(h < 0, _ndtr(k) - _ndtr(h), _ndtr(-h) - _ndtr(-k))
    return jnp.where(sign > 0, above, jnp.where(h >= k, 0.0, between) - missing)


@partial(jnp.vectorize, signature="(),(),()->()")
def _value(x: Any, y: Any, rho: Any) -> Device:
    h, k = -jnp.clip(x, -_FAR, _FAR), -jnp.clip(y, -_FAR, _FAR)
    inner = jnp.clip(rho, -_SWITCH, _SWITCH)
    outer = jnp.where(jnp.abs(rho) < _SWITCH, _SWITCH, rho)
    found = jnp.where(jnp.abs(rho) < _SWITCH, _near_zero(h, k, inner), _near_one(h, k, outer))
    return jnp.where(jnp.abs(rho) <= 1.0, jnp.clip(found, 0.0, 1.0), jnp.nan)


@jax.custom_jvp
def bvn_cdf(x: Any, y: Any, rho: Any) -> jax.Array:
    """Return P(X <= x, Y <= y) for two standard normal variables with correlation rho.

    Args:
        x, y: real or infinite, of any shapes that broadcast.
        rho: correlation, from -1 to 1; at both ends derivatives do not exist (they are NaN or infinite).

    Returns:
        An array of the broadcast shape, NaN for other correlations and where an argument is NaN. The error of the value is at
        most 1e-15; relative to the value it is as small for rho >= 0, while for rho < 0 a value far below 1e-15 has no correct
        digits. Derivatives are closed forms.

    Source:
        Genz (2004), Numerical computation of rectangular bivariate and trivariate normal and t probabilities, Statistics and
        Computing 14, 251-260.

    Example:
        >>> import jax
        >>> from mlejax.special import bvn_cdf
        >>> with jax.enable_x64(True):
        ...     print(bvn_cdf(0.0, 0.0, 0.5), jax.grad(bvn_cdf, 2)(0.0, 0.0, 0.0) * 2 * 3.141592653589793)
        0.3333333333333333 1.0
    """
    return _value(*jnp.broadcast_arrays(x, y, rho))


@bvn_cdf.defjvp
def _bvn_jvp(primals: tuple[jax.Array, ...], tangents: tuple[jax.Array, ...]) -> tuple[Any, Any]:
    x, y, rho = primals
    u, v = jnp.clip(x, -_FAR, _FAR), jnp.clip(y, -_FAR, _FAR)
    c = jnp.sqrt((1.0 - rho) * (1.0 + rho))
    density = lambda z: jnp.exp(-0.5 * z * z) / jnp.sqrt(2.0 * jnp.pi)
    slopes = (
        density(u) * _ndtr((v - rho * u) / c),
        density(v) * _ndtr((u - rho * v) / c),
        density(u) * density((v - rho * u) / c) / c,
    )
    return bvn_cdf(x, y, rho), sum(s * t for s, t in zip(slopes, tangents, strict=True))
