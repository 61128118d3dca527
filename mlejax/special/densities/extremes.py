r"""Distributions of extremes, shape 0 included: generalised extreme value and generalised Pareto.

Both are functions of :math:`T = \log(1 + \xi z)/\xi = z\,L(\xi z)`, and :math:`L(w) = \log(1 + w)/w` is analytic at 0. The
sign of the shape is that of the hydrologists' and of R's packages: :math:`\xi > 0` is heavy-tailed.
"""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from mlejax.special.exponentials import expm1_over
from mlejax.special.kernels import floats, gumbel_exponent, log1mexp, log1p_over
from mlejax.special.tails import by_ends, of_exponential, of_gumbel

__all__ = [
    "gev_cdf",
    "gev_logcdf",
    "gev_logpdf",
    "gev_logsf",
    "gev_sf",
    "gpd_cdf",
    "gpd_logcdf",
    "gpd_logpdf",
    "gpd_logsf",
    "gpd_sf",
]

# exp(-T) beyond here leaves float64 after two multiplications: the density is 0.
_DEEPEST = {4: -80.0, 8: -600.0}


def gpd_logpdf(x: ArrayLike, scale: ArrayLike, xi: ArrayLike) -> jax.Array:
    r"""Return the log-density of the generalised Pareto distribution of exceedances.

    .. math:: -\log\sigma - (1 + 1/\xi) \log(1 + \xi x/\sigma), \qquad x \ge 0,\; 1 + \xi x/\sigma > 0

    Args:
        x: exceedance over the threshold, >= 0.
        scale: :math:`\sigma`, > 0, on the scale of x.
        xi: shape, without unit: heavy-tailed above 0, exponential at 0, bounded by -scale/xi below. The three broadcast.

    Returns:
        The log-density, with derivatives of every order in all arguments, at xi = 0 too; -inf with derivatives 0 outside
        of the support, NaN for invalid parameters and at NaN.

        For xi x/scale above 1e4 the mixed second derivative in x and scale has a relative error of 1e-16 xi x/scale, as
        it is a difference of larger terms; everything else stays within 1e-12.

    Example:
        >>> import jax
        >>> from mlejax.special import gpd_logpdf
        >>> with jax.enable_x64(True):
        ...     print(f"{gpd_logpdf(2.0, 1.0, 0.0):.6f} {gpd_logpdf(2.0, 1.0, 0.5):.6f}")
        ...     print(f"{jax.grad(gpd_logpdf, 2)(2.0, 1.0, 0.0):.6f}")  # z^2/2 - z
        -2.000000 -2.079442
        0.000000

    References:
        Coles (2001), An Introduction to Statistical Modeling of Extreme Values, section 4.2.
    """
    return _gpd("logpdf", *floats(x, scale, xi))


def gpd_cdf(x: ArrayLike, scale: ArrayLike, xi: ArrayLike) -> jax.Array:
    """Return P(X <= x) of the generalised Pareto distribution with this scale and shape xi; 0 for x <= 0.

    NaN for invalid parameters.  Arguments and derivatives are those of :func:`gpd_logpdf`.

    Example:
        >>> round(float(gpd_cdf(2.0, 1.0, 0.0)), 6)  # 1 - exp(-2)
        0.864665
    """
    return _gpd("cdf", *floats(x, scale, xi))


def gpd_sf(x: ArrayLike, scale: ArrayLike, xi: ArrayLike) -> jax.Array:
    """Return P(X > x) of the generalised Pareto distribution with this scale and shape xi; 1 for x <= 0.

    It is (1 + xi x/scale)^(-1/xi).  NaN for invalid parameters.  Arguments and derivatives are those of :func:`gpd_logpdf`.

    Example:
        >>> round(float(gpd_sf(2.0, 1.0, 0.5)), 6)
        0.25
    """
    return _gpd("sf", *floats(x, scale, xi))


def gpd_logcdf(x: ArrayLike, scale: ArrayLike, xi: ArrayLike) -> jax.Array:
    """Return log P(X <= x) of the generalised Pareto distribution with this scale and shape xi; -inf for x <= 0.

    NaN for invalid parameters.  Arguments and derivatives are those of :func:`gpd_logpdf`.

    Example:
        >>> round(float(gpd_logcdf(2.0, 1.0, 0.5)), 6)  # log(3/4)
        -0.287682
    """
    return _gpd("logcdf", *floats(x, scale, xi))


def gpd_logsf(x: ArrayLike, scale: ArrayLike, xi: ArrayLike) -> jax.Array:
    """Return log P(X > x) of the generalised Pareto distribution with this scale and shape xi; 0 for x <= 0.

    NaN for invalid parameters.  Arguments and derivatives are those of :func:`gpd_logpdf`.

    Example:
        >>> round(float(gpd_logsf(2.0, 1.0, 0.0)), 6)
        -2.0
    """
    return _gpd("logsf", *floats(x, scale, xi))


def gev_logpdf(x: ArrayLike, loc: ArrayLike, scale: ArrayLike, xi: ArrayLike) -> jax.Array:
    r"""Return the log-density of the generalised extreme value distribution of maxima.

    .. math:: -\log\sigma - (1 + \xi) T - e^{-T}, \qquad T = \log(1 + \xi z)/\xi,\; z = (x - \mu)/\sigma

    Args:
        x: maximum, with 1 + xi z > 0.
        loc: :math:`\mu`, on the scale of x.
        scale: :math:`\sigma`, > 0, on the scale of x.
        xi: shape, without unit: Fréchet above 0, Gumbel at 0 (T = z), Weibull below. The four broadcast.

    Returns:
        The log-density, with derivatives of every order in all arguments, at xi = 0 too; -inf with derivatives 0 outside
        of the support and where T < -600 (-80 in float32), NaN for invalid parameters and at NaN.

        For xi z above 1e4 the mixed second derivative in x (or loc) and scale has a relative error of 1e-16 xi z, as it is
        a difference of larger terms; at xi = 1000 the second derivative in scale has one of 4e-12. Else within 1e-12.

    Example:
        >>> import jax
        >>> from mlejax.special import gev_logpdf
        >>> with jax.enable_x64(True):
        ...     print(f"{gev_logpdf(0.0, 0.0, 1.0, 0.0):.6f} {gev_logpdf(2.0, 0.0, 1.0, 0.5):.6f}")
        -1.000000 -2.329442

    References:
        Coles (2001), An Introduction to Statistical Modeling of Extreme Values, section 3.1.
        Prescott & Walden (1980), Biometrika 67: the derivatives.
    """
    return _gev("logpdf", *floats(x, loc, scale, xi))


def gev_cdf(x: ArrayLike, loc: ArrayLike, scale: ArrayLike, xi: ArrayLike) -> jax.Array:
    """Return P(X <= x) = exp(-exp(-T)) of the generalised extreme value distribution; 0 below its support, 1 above.

    T = log(1 + xi z)/xi with z = (x - loc)/scale.  NaN for invalid parameters.  Arguments and derivatives are those of
    :func:`gev_logpdf`.

    Example:
        >>> round(float(gev_cdf(0.0, 0.0, 1.0, 0.0)), 6)  # exp(-1)
        0.367879
    """
    return _gev("cdf", *floats(x, loc, scale, xi))


def gev_sf(x: ArrayLike, loc: ArrayLike, scale: ArrayLike, xi: ArrayLike) -> jax.Array:
    """Return P(X > x) of the generalised extreme value distribution; 1 below its support, 0 above.

    NaN for invalid parameters.  Arguments and derivatives are those of :func:`gev_logpdf`.

    Example:
        >>> round(float(gev_sf(0.0, 0.0, 1.0, 0.3)), 6)
        0.632121
    """
    return _gev("sf", *floats(x, loc, scale, xi))


def gev_logcdf(x: ArrayLike, loc: ArrayLike, scale: ArrayLike, xi: ArrayLike) -> jax.Array:
    """Return log P(X <= x) of the generalised extreme value distribution; -inf below its support, 0 above.

    NaN for invalid parameters.  Arguments and derivatives are those of :func:`gev_logpdf`.

    Example:
        >>> round(float(gev_logcdf(0.0, 0.0, 1.0, 0.3)), 6)
        -1.0
    """
    return _gev("logcdf", *floats(x, loc, scale, xi))


def gev_logsf(x: ArrayLike, loc: ArrayLike, scale: ArrayLike, xi: ArrayLike) -> jax.Array:
    """Return log P(X > x) of the generalised extreme value distribution; 0 below its support, -inf above.

    NaN for invalid parameters.  Arguments and derivatives are those of :func:`gev_logpdf`.

    Example:
        >>> round(float(gev_logsf(40.0, 0.0, 1.0, 0.0)), 6)
        -40.0
    """
    return _gev("logsf", *floats(x, loc, scale, xi))


@partial(jax.jit, static_argnums=0)
def _gpd(kind: str, x: jax.Array, scale: jax.Array, xi: jax.Array) -> jax.Array:
    legal = (scale > 0) & (scale < jnp.inf) & (jnp.abs(xi) < jnp.inf) & ~jnp.isnan(x)
    reach = 1.0 + xi * (x / scale)
    inside = legal & (x >= 0) & (x < jnp.inf) & (reach > 0)
    if kind == "logcdf":
        inside = inside & (x > 0)
    scale, xi = jnp.where(inside, scale, 1.0), jnp.where(inside, xi, 0.0)
    z = jnp.where(inside, x, 1.0) / scale
    t = log1p_over(z, xi)
    if kind == "logpdf":
        value = -jnp.log(scale) - (1.0 + xi) * t
    elif kind == "logcdf":
        # log(1 - exp(-t)) = log x - log scale + ..., whose mixed derivatives are far smaller than those of log t.
        small = t < 0.6931471805599453
        low, w, one = jnp.where(small, t, 0.0), jnp.where(small, xi * z, 0.0), jnp.ones_like(t)
        near = jnp.log(jnp.where(inside, x, 1.0)) - jnp.log(scale)
        near = near + jnp.log(log1p_over(one, w)) + jnp.log(expm1_over(one, -low))
        value = jnp.where(small, near, log1mexp(jnp.where(small, 1.0, t)))
    else:
        value = of_exponential(kind, t)
    return by_ends(kind, inside, legal, x <= 0, value)


@partial(jax.jit, static_argnums=0)
def _gev(kind: str, x: jax.Array, loc: jax.Array, scale: jax.Array, xi: jax.Array) -> jax.Array:
    legal = (scale > 0) & (scale < jnp.inf) & (jnp.abs(loc) < jnp.inf) & (jnp.abs(xi) < jnp.inf) & ~jnp.isnan(x)
    inside = legal & (jnp.abs(x) < jnp.inf) & (1.0 + xi * ((x - loc) / scale) > 0)
    low = jnp.where(jnp.isinf(x), x < 0, jnp.where(xi == 0, x < loc, xi > 0))
    scale, xi = jnp.where(inside, scale, 1.0), jnp.where(inside, xi, 0.0)
    z = (jnp.where(inside, x, 0.0) - jnp.where(inside, loc, 0.0)) / scale
    t = log1p_over(z, xi)
    deep = t < _DEEPEST[t.dtype.itemsize]
    low, inside, t = low | deep, inside & ~deep, jnp.where(deep, 0.0, t)
    value = -jnp.log(scale) - xi * t - gumbel_exponent(t) if kind == "logpdf" else of_gumbel(kind, t)
    return by_ends(kind, inside, legal, low, value)
