r"""Gamma and inverse Gaussian distributions by their mean, as generalised linear models have them.

Both log-densities are a unit deviance of x from the mean, which is written without cancellation near it, and a term of the
precision alone (Jorgensen 1997). The tail of the inverse Gaussian is integrated in log x.
"""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp
from jax import lax
from jax.typing import ArrayLike

from mlejax.special.exponentials import differentiated_as
from mlejax.special.kernels import FINE, HALF_LOG_2PI, floats, integrate, log_ratio_minus, reach, stirling
from mlejax.special.tails import by_ends, side

__all__ = ["gamma_logpdf", "invgauss_cdf", "invgauss_logcdf", "invgauss_logpdf", "invgauss_logsf", "invgauss_sf"]


def gamma_logpdf(x: ArrayLike, mean: ArrayLike, shape: ArrayLike) -> jax.Array:
    r"""Return the log-density of the gamma distribution by its mean and shape, the parametrisation of generalised linear models.

    .. math:: a \log\frac{a x}{m} - \frac{a x}{m} - \log x - \log\Gamma(a)

    The variance is :math:`m^2/a`: 1/a is the dispersion of a gamma regression, m/a the scale, a/m the rate. Mean and
    shape are orthogonal. As the shape grows the distribution becomes a narrow normal one, and no digit is lost.

    Args:
        x: outcome, > 0.
        mean: m, > 0, on the scale of x.
        shape: a, > 0, without unit; 1 gives the exponential distribution. The three broadcast.

    Returns:
        The log-density, with derivatives of every order in all arguments; -inf with derivatives 0 for negative or infinite x, NaN
        for invalid parameters and at NaN. At x = 0 it is -log(mean) for shape 1, inf for a smaller and -inf for a larger shape.

    Example:
        >>> from mlejax.special import gamma_logpdf
        >>> round(float(gamma_logpdf(2.0, 2.0, 1.0)), 6)  # -1 - log(2)
        -1.693147

    References:
        McCullagh & Nelder (1989), Generalized Linear Models, 2nd ed., section 8.2.
    """
    return _gamma(*floats(x, mean, shape))


def invgauss_logpdf(x: ArrayLike, mu: ArrayLike, lam: ArrayLike) -> jax.Array:
    r"""Return the log-density of the inverse Gaussian (Wald) distribution by its mean and shape.

    .. math:: \tfrac12 \log\frac{\lambda}{2\pi x^3} - \frac{\lambda (x - \mu)^2}{2\mu^2 x}, \qquad x > 0

    Args:
        x: outcome, > 0.
        mu: mean, > 0, on the scale of x; infinity gives the Levy distribution.
        lam: shape :math:`\lambda`, > 0, on the scale of x; the variance is :math:`\mu^3/\lambda`, and 1/lam the dispersion
            of a generalised linear model. The three broadcast.

    Returns:
        The log-density, with derivatives of every order in all arguments (those in mu are 0 at infinity); -inf with derivatives 0
        where x is not positive and finite, NaN for invalid parameters and at NaN.

    Example:
        >>> from mlejax.special import invgauss_logpdf
        >>> round(float(invgauss_logpdf(1.0, 1.0, 1.0)), 6)  # -log(2 pi) / 2
        -0.918939

    References:
        Tweedie (1957), Statistical properties of inverse Gaussian distributions, Annals of Mathematical Statistics 28.
    """
    return _invgauss("logpdf", *floats(x, mu, lam))


def invgauss_cdf(x: ArrayLike, mu: ArrayLike, lam: ArrayLike) -> jax.Array:
    """Return P(X <= x) of the inverse Gaussian distribution with mean mu and shape lam; 0 for x <= 0.

    NaN for invalid parameters.  Arguments and derivatives are those of :func:`invgauss_logpdf`.

    Example:
        >>> round(float(invgauss_cdf(1.0, 1.0, 1.0)), 6)
        0.668102
    """
    return _invgauss("cdf", *floats(x, mu, lam))


def invgauss_sf(x: ArrayLike, mu: ArrayLike, lam: ArrayLike) -> jax.Array:
    """Return P(X > x) of the inverse Gaussian distribution with mean mu and shape lam; 1 for x <= 0.

    NaN for invalid parameters.  Arguments and derivatives are those of :func:`invgauss_logpdf`.

    Example:
        >>> round(float(invgauss_sf(1.0, 1.0, 1.0)), 6)
        0.331898
    """
    return _invgauss("sf", *floats(x, mu, lam))


def invgauss_logcdf(x: ArrayLike, mu: ArrayLike, lam: ArrayLike) -> jax.Array:
    """Return log P(X <= x) of the inverse Gaussian distribution with mean mu and shape lam; -inf for x <= 0.

    NaN for invalid parameters.  Arguments and derivatives are those of :func:`invgauss_logpdf`.

    Example:
        >>> round(float(invgauss_logcdf(1.0, 1.0, 1.0)), 6)
        -0.403315
    """
    return _invgauss("logcdf", *floats(x, mu, lam))


def invgauss_logsf(x: ArrayLike, mu: ArrayLike, lam: ArrayLike) -> jax.Array:
    """Return log P(X > x) of the inverse Gaussian distribution with mean mu and shape lam; 0 for x <= 0.

    NaN for invalid parameters.  Arguments and derivatives are those of :func:`invgauss_logpdf`.

    Example:
        >>> round(float(invgauss_logsf(1.0, 1.0, 1.0)), 6)
        -1.102927
    """
    return _invgauss("logsf", *floats(x, mu, lam))


@differentiated_as(lambda x, mean: jnp.log(x) - jnp.log(mean) - x / mean)
def _gamma_deviance(x: jax.Array, mean: jax.Array) -> jax.Array:
    """Return log(x/mean) - (x - mean)/mean, which is -1/2 times the unit deviance of the gamma distribution."""
    return log_ratio_minus(x / mean, (x - mean) / mean)


@jax.jit
def _gamma(x: jax.Array, mean: jax.Array, shape: jax.Array) -> jax.Array:
    legal = (mean > 0) & (mean < jnp.inf) & (shape > 0) & (shape < jnp.inf) & ~jnp.isnan(x)
    inside = legal & (x > 0) & (x < jnp.inf)
    at_one = -jnp.log(jnp.where(inside | (mean <= 0), 1.0, mean))
    boundary = jnp.where(x == 0, jnp.where(shape == 1, at_one, jnp.where(shape < 1, jnp.inf, -jnp.inf)), -jnp.inf)
    x, mean, a = (jnp.where(inside, v, 1.0) for v in (x, mean, shape))
    value = a * _gamma_deviance(x, mean) + 0.5 * jnp.log(a) - HALF_LOG_2PI - stirling(a) - jnp.log(x)
    return jnp.where(inside, value, jnp.where(legal, boundary, jnp.nan))


@differentiated_as(lambda x, mu: x / (mu * mu) - 2.0 / mu + 1.0 / x)
def _invgauss_deviance(x: jax.Array, mu: jax.Array) -> jax.Array:
    """Return (x - mu)^2 / (mu^2 x), the unit deviance of the inverse Gaussian distribution."""
    z = (x - mu) / mu
    return z * z / x


@differentiated_as(lambda x, mu: x / (mu * mu) - 1.0 / x)
def _invgauss_tilt(x: jax.Array, mu: jax.Array) -> jax.Array:
    """Return x/mu^2 - 1/x, without cancellation near x = mu."""
    return (x - mu) / mu * ((x + mu) / mu) / x


def _log_density(mu: jax.Array, lam: jax.Array, x: jax.Array) -> jax.Array:
    """Return the log-density at x > 0 of the inverse Gaussian distribution with finite mean mu and shape lam."""
    return 0.5 * jnp.log(lam) - 1.5 * jnp.log(x) - HALF_LOG_2PI - 0.5 * lam * _invgauss_deviance(x, mu)


def _log_tail(mu: jax.Array, lam: jax.Array, x: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Return (log-probability of the tail beyond x, True where this is the upper tail) of the inverse Gaussian distribution.

    By integration over log x of exp(-phi), phi(r) = +-r/2 + lam/2 (expm1(+-r) tilt + 4 sinh(r/2)^2 / x), where tilt is
    x/mu^2 - 1/x.
    """
    slope = 0.5 + 0.5 * lam * _invgauss_tilt(x, mu)
    upper = slope >= 0
    sign = jnp.where(upper, 1.0, -1.0).astype(x.dtype)
    tilt0, lam0, x0 = (lax.stop_gradient(v) for v in (_invgauss_tilt(x, mu), lam, x))

    def exponent(r: jax.Array) -> tuple[jax.Array, jax.Array]:
        h, half = sign * r, jnp.sinh(0.5 * r)
        value = 0.5 * h + 0.5 * lam0 * (jnp.expm1(h) * tilt0 + 4.0 * half * half / x0)
        return value, sign * (0.5 + 0.5 * lam0 * (jnp.exp(h) * tilt0 + 2.0 * jnp.sinh(h) / x0))

    curve = 0.5 * lam0 * (tilt0 + 2.0 / x0)
    length = reach(exponent, jnp.abs(lax.stop_gradient(slope)), curve)
    lam_, x_, tilt, sign = (v[..., None] for v in (lam, x, _invgauss_tilt(x, mu), sign))

    def rise(r: jax.Array) -> jax.Array:
        h, half = sign * r, jnp.sinh(0.5 * r)
        return 0.5 * h + 0.5 * lam_ * (jnp.expm1(h) * tilt + 4.0 * half * half / x_)

    return _log_density(mu, lam, x) + jnp.log(x) + jnp.log(integrate(length, rise, FINE)), upper


@partial(jax.jit, static_argnums=0)
def _invgauss(kind: str, x: jax.Array, mu: jax.Array, lam: jax.Array) -> jax.Array:
    legal = (mu > 0) & (lam > 0) & (lam < jnp.inf) & ~jnp.isnan(x)
    inside = legal & (x > 0) & (x < jnp.inf)
    z, mu, lam = (
        jnp.where(inside, v, 1.0) for v in (x, jnp.minimum(mu, 1e100 if x.dtype.itemsize == 8 else 1e15), lam)
    )
    value = _log_density(mu, lam, z) if kind == "logpdf" else side(kind, *_log_tail(mu, lam, z))
    return by_ends(kind, inside, legal, x <= 0, value)
