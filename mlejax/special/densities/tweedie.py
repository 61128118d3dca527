r"""The Tweedie distribution of a sum of gamma variables, Poisson in number: zeros and a positive continuous part.

For y > 0 the density is written as that at :math:`\mu = y` times the exponential of a unit deviance. With
:math:`\lambda = y^{2-p}/(\phi(2-p))` and :math:`\kappa = (2-p)/(p-1)` the former is :math:`e^B/y`,

.. math:: B(\lambda, \kappa) = \log \sum_{j \ge 1} \frac{\lambda^j e^{-\lambda}}{j!}\,
          \frac{(\lambda\kappa)^{j\kappa} e^{-\lambda\kappa}}{\Gamma(j\kappa)},

the series of Dunn and Smyth, whose terms have a Gaussian shape around :math:`j = \lambda` with variance
:math:`\lambda/(1 + \kappa)`. Where that covers many terms the sum is an integral over log j to the last digit, and its
nodes, placed in standard deviations, are far fewer.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.typing import ArrayLike

from mlejax.special.exponentials import expm1_over, expm1_rest
from mlejax.special.kernels import HALF_LOG_2PI, floats, gamma_kernel, last_axis, log_ratio_minus, stirling

__all__ = ["tweedie_logpdf"]

# Where (1 + kappa) lambda and the variance of j exceed these, the sum is an integral up to 1e-17.
_SHARP, _SMOOTH = 100.0, 2.0
_TERMS = np.arange(192.0)
_STEP = 0.65
_PLACES = _STEP * np.arange(-22, 16)
_ANGLES, _WEIGHTS = np.polynomial.legendre.leggauss(12)


def tweedie_logpdf(y: ArrayLike, mu: ArrayLike, phi: ArrayLike, power: ArrayLike) -> jax.Array:
    r"""Return the log-density of the Tweedie distribution with variance :math:`\phi\mu^p`, 1 < p < 2, with a mass at 0.

    .. math:: \log a(y, \phi, p) + \frac1\phi\left(\frac{y\,\mu^{1-p}}{1-p} - \frac{\mu^{2-p}}{2-p}\right), \qquad
              P(Y = 0) = \exp\left(-\frac{\mu^{2-p}}{\phi(2-p)}\right)

    Args:
        y: outcome, >= 0; at 0 the log-probability of 0 is returned.
        mu: mean, > 0, on the scale of y.
        phi: dispersion, > 0.
        power: p, between 1 and 2, both excluded. The four broadcast.

    Returns:
        The log-density, with derivatives of every order in all arguments; -inf with derivatives 0 for negative or infinite y,
        NaN for invalid parameters and at NaN. Towards power = 2 second derivatives in the power have a relative error of about
        1e-14 / (2 - power)^2: 1e-10 at 1.98, and third ones up to 3e-8 there.

    Example:
        >>> import jax
        >>> from mlejax.special import tweedie_logpdf
        >>> with jax.enable_x64(True):
        ...     print(f"{tweedie_logpdf(0.0, 1.0, 2.0, 1.5):.6f} {tweedie_logpdf(1.0, 1.0, 2.0, 1.5):.6f}")  # -2 + log I1(2)
        -1.000000 -1.535866

    References:
        Dunn & Smyth (2005), Series evaluation of Tweedie exponential dispersion model densities, Statistics and Computing 15.
    """
    return _tweedie(*floats(y, mu, phi, power))


@jax.jit
def _tweedie(y: jax.Array, mu: jax.Array, phi: jax.Array, p: jax.Array) -> jax.Array:
    legal = (mu > 0) & (mu < jnp.inf) & (phi > 0) & (phi < jnp.inf) & (p > 1) & (p < 2) & ~jnp.isnan(y)
    inside = legal & (y >= 0) & (y < jnp.inf)
    positive = inside & (y > 0)
    mu, phi, p = jnp.where(inside, mu, 1.0), jnp.where(inside, phi, 1.0), jnp.where(inside, p, 1.5)
    zero = -jnp.exp((2.0 - p) * jnp.log(mu)) / (phi * (2.0 - p))
    y = jnp.where(positive, y, 1.0)
    log_y = jnp.log(y)
    rate = jnp.exp((2.0 - p) * log_y) / (phi * (2.0 - p))
    value = _log_series(rate, (2.0 - p) / (p - 1.0)) - log_y - _half_deviance(y, mu, p) / phi
    return jnp.where(inside, jnp.where(positive, value, zero), jnp.where(legal, -jnp.inf, jnp.nan))


def _half_deviance(y: jax.Array, mu: jax.Array, p: jax.Array) -> jax.Array:
    """Return half the unit deviance, the integral of (y - t)/t^p over t from mu to y, for y, mu > 0.

    It is y^(2-p) times the integral of expm1(s) exp((p-2) s) over s from 0 to log(y/mu).
    """
    w = jnp.log(y / mu)
    near = jnp.abs(w) < 1.0
    small, large = jnp.where(near, w, 0.0), jnp.where(near, 1.0, w)
    s = small[..., None] * last_axis(0.5 * (_ANGLES + 1.0), w)
    inner = jnp.sum(last_axis(0.5 * _WEIGHTS, w) * jnp.expm1(s) * jnp.exp((p - 2.0)[..., None] * s), axis=-1)
    apart = expm1_over(large, p - 1.0) - expm1_over(large, p - 2.0)
    return jnp.exp((2.0 - p) * jnp.log(y)) * jnp.where(near, small * inner, apart)


def _log_series(rate: jax.Array, kappa: jax.Array) -> jax.Array:
    """Return the logarithm B(rate, kappa) of the series of Dunn and Smyth, by `_by_sum` or, for large rates, by `_by_integral`.

    The series is the sum over j >= 1 of rate^j exp(-rate) / j! (rate kappa)^(j kappa) exp(-rate kappa) / Gamma(j kappa).
    """
    smooth = ((1.0 + kappa) * rate >= _SHARP) & (rate >= _SMOOTH * (1.0 + kappa))
    return jnp.where(
        smooth,
        _by_integral(jnp.where(smooth, rate, 2.0 * _SHARP), jnp.where(smooth, kappa, 1.0)),
        _by_sum(jnp.where(smooth, 1.0, rate), jnp.where(smooth, 1.0, kappa)),
    )


def _by_sum(rate: jax.Array, kappa: jax.Array) -> jax.Array:
    """Return B(rate, kappa), the logarithm of the series, from 192 consecutive terms.

    j begins 9 standard deviations sqrt(rate / (1 + kappa)) below the largest term (near j = rate), or at 1.
    """
    spread = jnp.sqrt(rate / (1.0 + kappa))
    first = lax.stop_gradient(jnp.maximum(1.0, jnp.floor(rate - 9.0 * spread)))
    j = first[..., None] + last_axis(_TERMS, rate)
    rate, kappa = rate[..., None], kappa[..., None]
    poisson = j * log_ratio_minus(rate / j, (rate - j) / j) - 0.5 * jnp.log(j) - HALF_LOG_2PI - stirling(j)
    return jax.scipy.special.logsumexp(poisson + gamma_kernel(j * kappa, rate * kappa), axis=-1)


def _by_integral(rate: jax.Array, kappa: jax.Array) -> jax.Array:
    """Return B(rate, kappa) by an integral over log j, for large rates.

    With t = j/rate = exp(s/sqrt(n)), n = (1 + kappa) rate, the exponent is -n (t log t - t + 1).
    """
    n = (1.0 + kappa) * rate
    v = jnp.asarray(last_axis(_PLACES, rate)) / jnp.sqrt(n)[..., None]
    t = jnp.exp(v)
    # t v - t + 1 = t (expm1(-v) + v) = t S(-v, 1).
    exponent = -n[..., None] * t * expm1_rest(-v, jnp.ones_like(v)) + v
    lam, k = rate[..., None], kappa[..., None]
    exponent = exponent - stirling(lam * t) - stirling(k * lam * t)
    factor = 0.5 * jnp.log(kappa) - 2.0 * HALF_LOG_2PI + jnp.log(rate) - 0.5 * jnp.log(n) + float(np.log(_STEP))
    return factor + jax.scipy.special.logsumexp(exponent, axis=-1)
