r"""Distributions of lifetimes, with their tails for censored rows: Weibull and generalised gamma.

The generalised gamma distribution is that of Prentice: with :math:`w = (\log x - \mu)/\sigma` its log-density in w is
:math:`-S(w, q)` and a Stirling remainder in :math:`q^2`, both analytic at q = 0 (:mod:`mlejax.special.exponentials`).
Its tail is integrated directly in w up to :math:`|q| = 1`; beyond it is an incomplete gamma function.
"""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp
from jax import lax
from jax.typing import ArrayLike

from mlejax.special.exponentials import expm1_over, expm1_rest
from mlejax.special.incomplete import gamma_tail
from mlejax.special.kernels import (
    HALF_LOG_2PI,
    floats,
    gumbel_exponent,
    integrate,
    reach,
    stirling_of_inverse,
)
from mlejax.special.tails import MIRROR, by_ends, of_gumbel, side

__all__ = [
    "gengamma_cdf",
    "gengamma_logcdf",
    "gengamma_logpdf",
    "gengamma_logsf",
    "gengamma_sf",
    "weibull_cdf",
    "weibull_logcdf",
    "weibull_logpdf",
    "weibull_logsf",
    "weibull_sf",
]

# exp of more leaves float64 after two multiplications: the density is 0.
_HIGHEST = {4: 80.0, 8: 600.0}
_TINY = -36.0  # exp of less is below the rounding of 1


def weibull_logpdf(x: ArrayLike, shape: ArrayLike, scale: ArrayLike) -> jax.Array:
    r"""Return the log-density of the Weibull distribution.

    .. math:: \log\frac{k}{x} + k \log\frac{x}{\lambda} - \left(\frac{x}{\lambda}\right)^k, \qquad x > 0

    Args:
        x: lifetime, > 0.
        shape: k, > 0, without unit; 1 gives the exponential distribution.
        scale: :math:`\lambda`, > 0, on the scale of x. The three broadcast.

    Returns:
        The log-density, with derivatives of every order in all arguments; -inf with derivatives 0 outside of the support
        and where (x/scale)^shape > exp(600) (exp(80) in float32), NaN for invalid parameters and at NaN. At x = 0 it is
        -log(scale) for shape 1, inf for a smaller and -inf for a larger shape.

    Example:
        >>> from mlejax.special import weibull_logpdf
        >>> round(float(weibull_logpdf(2.0, 1.0, 2.0)), 6)  # -1 - log(2)
        -1.693147

    References:
        Kalbfleisch & Prentice (2002), The Statistical Analysis of Failure Time Data, 2nd ed., section 2.2.
    """
    return _weibull("logpdf", *floats(x, shape, scale))


def weibull_cdf(x: ArrayLike, shape: ArrayLike, scale: ArrayLike) -> jax.Array:
    """Return P(X <= x) of the Weibull distribution with this shape and scale; 0 for x <= 0.

    NaN for invalid parameters.  Arguments and derivatives are those of :func:`weibull_logpdf`.

    Example:
        >>> round(float(weibull_cdf(2.0, 1.0, 2.0)), 6)  # 1 - exp(-1)
        0.632121
    """
    return _weibull("cdf", *floats(x, shape, scale))


def weibull_sf(x: ArrayLike, shape: ArrayLike, scale: ArrayLike) -> jax.Array:
    """Return P(X > x) of the Weibull distribution with this shape and scale; 1 for x <= 0.

    NaN for invalid parameters.  Arguments and derivatives are those of :func:`weibull_logpdf`.

    Example:
        >>> round(float(weibull_sf(2.0, 1.0, 2.0)), 6)
        0.367879
    """
    return _weibull("sf", *floats(x, shape, scale))


def weibull_logcdf(x: ArrayLike, shape: ArrayLike, scale: ArrayLike) -> jax.Array:
    """Return log P(X <= x) of the Weibull distribution with this shape and scale; -inf for x <= 0.

    NaN for invalid parameters.  Arguments and derivatives are those of :func:`weibull_logpdf`.

    Example:
        >>> round(float(weibull_logcdf(2.0, 1.0, 2.0)), 6)
        -0.458675
    """
    return _weibull("logcdf", *floats(x, shape, scale))


def weibull_logsf(x: ArrayLike, shape: ArrayLike, scale: ArrayLike) -> jax.Array:
    """Return log P(X > x) of the Weibull distribution with this shape and scale; 0 for x <= 0.

    NaN for invalid parameters.  Arguments and derivatives are those of :func:`weibull_logpdf`.

    Example:
        >>> round(float(weibull_logsf(4.0, 2.0, 2.0)), 6)
        -4.0
    """
    return _weibull("logsf", *floats(x, shape, scale))


def gengamma_logpdf(x: ArrayLike, mu: ArrayLike, sigma: ArrayLike, q: ArrayLike) -> jax.Array:
    r"""Return the log-density of the generalised gamma distribution in the parametrisation of Prentice, Stata and flexsurv.

    .. math:: \log\frac{|q|}{\sigma x\,\Gamma(a)} + a \log a + a (q w - e^{qw}), \qquad a = q^{-2},\;
              w = \frac{\log x - \mu}{\sigma}

    Args:
        x: lifetime, > 0.
        mu: location of log x, real.
        sigma: scale of log x, > 0.
        q: shape, real, without unit: lognormal at 0, Weibull (shape 1/sigma, scale exp(mu)) at 1, gamma at sigma, inverse
            gamma at -sigma. The four broadcast.

    Returns:
        The log-density, with derivatives of every order in all arguments, at q = 0 too; -inf with derivatives 0 outside
        of the support and where q w > 600 (80 in float32), NaN for invalid parameters and at NaN.

    Example:
        >>> import jax
        >>> from mlejax.special import gengamma_logpdf
        >>> with jax.enable_x64(True):
        ...     print(f"{gengamma_logpdf(1.0, 0.0, 1.0, 0.0):.6f} {gengamma_logpdf(2.0, 0.0, 1.0, 1.0):.6f}")
        -0.918939 -2.000000

    References:
        Prentice (1974), A log gamma model and its maximum likelihood estimation, Biometrika 61.
        Cox, Chu, Schneider & Munoz (2007), Statistics in Medicine 26.
    """
    return _gengamma("logpdf", *floats(x, mu, sigma, q))


def gengamma_cdf(x: ArrayLike, mu: ArrayLike, sigma: ArrayLike, q: ArrayLike) -> jax.Array:
    """Return P(X <= x) of Prentice's generalised gamma distribution with mu, sigma and shape q; 0 for x <= 0.

    NaN for invalid parameters.  Arguments and derivatives are those of :func:`gengamma_logpdf`.

    Example:
        >>> round(float(gengamma_cdf(1.0, 0.0, 1.0, 0.0)), 6)
        0.5
    """
    return _gengamma("cdf", *floats(x, mu, sigma, q))


def gengamma_sf(x: ArrayLike, mu: ArrayLike, sigma: ArrayLike, q: ArrayLike) -> jax.Array:
    """Return P(X > x) of Prentice's generalised gamma distribution with mu, sigma and shape q; 1 for x <= 0.

    NaN for invalid parameters.  Arguments and derivatives are those of :func:`gengamma_logpdf`.

    Example:
        >>> round(float(gengamma_sf(2.0, 0.0, 1.0, 1.0)), 6)  # exp(-2)
        0.135335
    """
    return _gengamma("sf", *floats(x, mu, sigma, q))


def gengamma_logcdf(x: ArrayLike, mu: ArrayLike, sigma: ArrayLike, q: ArrayLike) -> jax.Array:
    """Return log P(X <= x) of Prentice's generalised gamma distribution with mu, sigma and shape q; -inf for x <= 0.

    NaN for invalid parameters.  Arguments and derivatives are those of :func:`gengamma_logpdf`.  Far into the lower tail for q
    above 1 this function of log x is nearly linear: its curvature, of 1e-7 and less, has an absolute error of 1e-16.

    Example:
        >>> round(float(gengamma_logcdf(1.0, 0.0, 1.0, 0.0)), 6)
        -0.693147
    """
    return _gengamma("logcdf", *floats(x, mu, sigma, q))


def gengamma_logsf(x: ArrayLike, mu: ArrayLike, sigma: ArrayLike, q: ArrayLike) -> jax.Array:
    """Return log P(X > x) of Prentice's generalised gamma distribution with mu, sigma and shape q; 0 for x <= 0.

    NaN for invalid parameters.  Arguments and derivatives are those of :func:`gengamma_logpdf`.  Far into the upper tail for q
    below -1 this function of log x is nearly linear: its curvature, of 1e-7 and less, has an absolute error of 1e-16.

    Example:
        >>> round(float(gengamma_logsf(2.0, 0.0, 1.0, 1.0)), 6)
        -2.0
    """
    return _gengamma("logsf", *floats(x, mu, sigma, q))


@partial(jax.jit, static_argnums=0)
def _weibull(kind: str, x: jax.Array, shape: jax.Array, scale: jax.Array) -> jax.Array:
    legal = (scale > 0) & (scale < jnp.inf) & (shape > 0) & (shape < jnp.inf) & ~jnp.isnan(x)
    inside = legal & (x > 0) & (x < jnp.inf)
    at_one = -jnp.log(jnp.where(inside | (scale <= 0), 1.0, scale))
    boundary = jnp.where(shape == 1, at_one, jnp.where(shape < 1, jnp.inf, -jnp.inf))
    k, scale = jnp.where(inside, shape, 1.0), jnp.where(inside, scale, 1.0)
    z = jnp.where(inside, x, 1.0)
    t = k * jnp.log(z / scale)
    high = t > _HIGHEST[t.dtype.itemsize]
    t, at_zero, inside = jnp.where(high, 0.0, t), legal & (x == 0), inside & ~high
    if kind == "logpdf":
        found = by_ends(kind, inside, legal, x <= 0, jnp.log(k) - jnp.log(z) - gumbel_exponent(-t))
        return jnp.where(at_zero, boundary, found)
    return by_ends(kind, inside, legal, x <= 0, of_gumbel(MIRROR[kind], -t))


@partial(jax.jit, static_argnums=0)
def _gengamma(kind: str, x: jax.Array, mu: jax.Array, sigma: jax.Array, q: jax.Array) -> jax.Array:
    legal = (sigma > 0) & (sigma < jnp.inf) & (jnp.abs(mu) < jnp.inf) & (jnp.abs(q) < jnp.inf) & ~jnp.isnan(x)
    inside = legal & (x > 0) & (x < jnp.inf)
    z, sigma = jnp.where(inside, x, 1.0), jnp.where(inside, sigma, 1.0)
    mu, q = jnp.where(inside, mu, 0.0), jnp.where(inside, q, 0.0)
    w = (jnp.log(z) - mu) / sigma
    high = q * w > _HIGHEST[w.dtype.itemsize]
    low = jnp.where(high, q < 0, x <= 0)
    w, inside = jnp.where(high, 0.0, w), inside & ~high
    value = _log_density(q, w) - jnp.log(sigma) - jnp.log(z) if kind == "logpdf" else side(kind, *_log_tail(q, w))
    return by_ends(kind, inside, legal, low, value)


def _log_density(q: jax.Array, w: jax.Array) -> jax.Array:
    """Return the log-density of w = (log x - mu) / sigma, for x of the generalised gamma distribution with shape q."""
    return -HALF_LOG_2PI - stirling_of_inverse(q * q) - expm1_rest(w, q)


def _log_tail(q: jax.Array, w: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Return (log-probability of the tail beyond w, True where this is the upper tail) of (log x - mu) / sigma, for any q."""
    direct = jnp.abs(q) <= 1.0
    near, near_upper = _direct_tail(jnp.where(direct, q, 0.0), w)
    wide = jnp.where(direct, 2.0, jnp.abs(q))
    a = 1.0 / (wide * wide)
    qw = jnp.where(direct, 0.0, q * w)
    tiny = qw < _TINY  # there the first two terms of the series, since derivatives by exp(q w) overflow
    least = a * (jnp.log(a) + qw) - lax.lgamma(a + 1.0) - a * a / (a + 1.0) * jnp.exp(qw)
    beyond, beyond_upper = gamma_tail(a, a * jnp.exp(jnp.where(tiny, 0.0, qw)))
    far, far_upper = jnp.where(tiny, least, beyond), beyond_upper & ~tiny
    return jnp.where(direct, near, far), jnp.where(direct, near_upper, far_upper == (q > 0))


def _direct_tail(q: jax.Array, w: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Return (log-probability of the tail beyond w, True where this is the upper tail) of (log x - mu) / sigma, abs(q) <= 1.

    The upper tail for w >= 0, else the lower.  By the integral of exp(S(w) - S(w + h)) over h, with S(w) = (exp(q w) - 1 - q w)
    / q^2 and its derivative R(w): S(w + h) - S(w) = exp(q w) S(h) + h R(w).
    """
    upper = w >= 0
    sign = jnp.where(upper, 1.0, -1.0).astype(w.dtype)
    q0, grown, slope = (lax.stop_gradient(v) for v in (q, jnp.exp(q * w), expm1_over(w, q)))

    def exponent(r: jax.Array) -> tuple[jax.Array, jax.Array]:
        h = sign * r
        return grown * expm1_rest(h, q0) + h * slope, sign * (grown * expm1_over(h, q0) + slope)

    length = reach(exponent, jnp.abs(slope), grown)
    q_, w_, sign = q[..., None], w[..., None], sign[..., None]

    def rise(r: jax.Array) -> jax.Array:
        h = sign * r
        return jnp.exp(q_ * w_) * expm1_rest(h, jnp.broadcast_to(q_, h.shape)) + h * expm1_over(w_, q_)

    return _log_density(q, w) + jnp.log(integrate(length, rise)), upper
