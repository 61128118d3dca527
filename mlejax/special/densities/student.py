"""Student's t: density and distribution function with derivatives in the degrees of freedom, up to infinity.

The log-density is a function of 1/df that is analytic at 0, the normal distribution.

Up to 20 degrees of freedom it is an incomplete beta function. Above, its derivative in df is a difference of almost
equal terms there (the distribution changes like 1/df, the terms do not), so the density is integrated directly: the
exponent E(df, u^2) = (df+1)/2 log(1 + u^2/df) and the normalising constant have derivatives in df written without
cancellation, and the nodes take no part in differentiation. The tail is integrated in log u, the centre in u.

References: DLMF 8.17; Abramowitz & Stegun 26.7.
"""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.custom_derivatives import SymbolicZero
from jax.typing import ArrayLike

from mlejax.special.incomplete import beta_tail
from mlejax.special.kernels import (
    HALF_LOG_2PI,
    floats,
    horner,
    integrate,
    log1p_over,
    log_ratio_minus,
    log_rising,
    reach,
    stirling,
)

_LOG_2 = float(np.log(2.0))
_DIRECT_FROM = 20.0
# log Gamma((df+1)/2) - log Gamma(df/2) - log(df/2)/2 in odd powers of 1/df: -B_2k (1 - 4^-k) 2^(2k-1) / (k (2k-1)).
_RATIO_SERIES = np.array([-1 / 4, 1 / 24, -1 / 20, 17 / 112, -31 / 36, 691 / 88, -5461 / 52, 929569 / 480])


@jax.custom_jvp
def _exponent(df: jax.Array, q: jax.Array) -> jax.Array:
    """Return E(df, q) = (df + 1)/2 log(1 + q/df), with accurate derivatives; q = u^2."""
    return 0.5 * (df + 1.0) * jnp.log1p(q / df)


@_exponent.defjvp
def _exponent_jvp(primals: tuple[jax.Array, ...], tangents: tuple[jax.Array, ...]) -> tuple[jax.Array, jax.Array]:
    (df, q), (d_df, dq) = primals, tangents
    w = q / df
    slope = 0.5 * (log_ratio_minus(1.0 + w, w) + w * (q - 1.0) / (df + q))
    return _exponent(df, q), slope * d_df + 0.5 * (df + 1.0) / (df + q) * dq


def _log_constant(df: jax.Array) -> jax.Array:
    """Return the log-density of Student's t at 0."""
    large = df >= _DIRECT_FROM
    big, h = jnp.where(large, df, _DIRECT_FROM), 0.5 * jnp.where(large, 1.0, df)
    series = horner(_RATIO_SERIES, 1.0 / (big * big)) / big
    direct = h * jnp.log1p(0.5 / h) - 0.5 + stirling(h + 0.5) - stirling(h)
    return jnp.where(large, series, direct) - HALF_LOG_2PI


def _direct_piece(df: jax.Array, t: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Return (log P(0 < T < t), True) where t^2 < 2, else (log P(T > t), False), by integration; df >= 20, t > 0."""
    central = t * t < 2.0
    df0, t0 = lax.stop_gradient(df), lax.stop_gradient(jnp.where(central, 2.0, t))
    share = t0 * t0 / (df0 + t0 * t0)

    def exponent(r: jax.Array) -> tuple[jax.Array, jax.Array]:
        z = share * jnp.expm1(r)
        value = 0.5 * (df0 + 1.0) * jnp.log1p(z) - 0.5 * r
        return value, 0.5 * (df0 + 1.0) * (z + share) / (1.0 + z) - 0.5

    slope = 0.5 * df0 * (t0 * t0 - 1.0) / (df0 + t0 * t0)
    length = reach(exponent, slope, 0.5 * (df0 + 1.0) * share * (1.0 - share))
    length = jnp.where(central, 1.0, length)
    at_t = jnp.where(central, 0.0, _exponent(df, t * t))
    mid, nu, u0, start = (v[..., None] for v in (central, df, t, at_t))

    def relative(r: jax.Array) -> jax.Array:
        u = u0 * jnp.where(mid, r, jnp.exp(0.5 * r))
        return _exponent(nu, u * u) - start - jnp.where(mid, 0.0, 0.5 * r)

    scale = jnp.where(central, t, 0.5 * t)
    return _log_constant(df) - at_t + jnp.log(scale) + jnp.log(integrate(length, relative)), central


def _beta_piece(df: jax.Array, t: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Return (log P(0 < T < t), True) or (log P(T > t), False) for df degrees of freedom, whichever of them `beta_tail` computes;
    t > 0.
    """
    total = df + t * t
    log_tail, central = beta_tail(0.5 * df, jnp.full_like(df, 0.5), df / total, t * t / total)
    return log_tail - _LOG_2, central


def _value(log: bool, df: jax.Array, t: jax.Array) -> jax.Array:
    inside = (df > 0) & (t != 0) & (jnp.abs(t) < jnp.inf)
    # At 1e16 degrees of freedom the distribution is the normal one to the last bit.
    nu = jnp.where((df > 0) & (jnp.abs(t) < jnp.inf), jnp.where(df < jnp.inf, df, 1e16), 1.0)
    size = jnp.where(inside, jnp.abs(t), 1.0)
    direct = nu >= _DIRECT_FROM
    big, big_central = _direct_piece(jnp.where(direct, nu, _DIRECT_FROM), size)
    small, small_central = _beta_piece(jnp.where(direct, 1.0, nu), size)
    piece, central = jnp.where(direct, big, small), jnp.where(direct, big_central, small_central)
    mass = jnp.exp(piece)
    # At 0 the series: its value there and, which is why it is one, its derivatives.
    at_zero = jnp.where(t == 0, t, 0.0)
    beside = jnp.exp(_log_constant(nu)) * at_zero * (1.0 - (1.0 + 1.0 / nu) * at_zero * at_zero / 6.0)
    tail = jnp.where(central, 0.5 - mass, mass)
    if log:
        left = jnp.where(central, jnp.log1p(-2.0 * jnp.where(central, mass, 0.0)) - _LOG_2, piece)
        cdf = jnp.where(t < 0, left, jnp.log1p(-tail))
        ends = jnp.where(t == 0, jnp.log1p(2.0 * beside) - _LOG_2, jnp.where(t < 0, -jnp.inf, 0.0))
    else:
        cdf = jnp.where(t < 0, tail, 1.0 - tail)
        ends = jnp.where(t == 0, 0.5 + beside, jnp.where(t < 0, 0.0, 1.0))
    return jnp.where(inside, cdf, jnp.where((df > 0) & ~jnp.isnan(t), ends, jnp.nan))


@partial(jax.custom_jvp, nondiff_argnums=(0,))
def _cdf(log: bool, df: jax.Array, t: jax.Array) -> jax.Array:
    return _value(log, df, t)


def _cdf_jvp(log: bool, primals: tuple[jax.Array, ...], tangents: tuple[jax.Array, ...]) -> tuple[jax.Array, jax.Array]:
    (df, t), (d_df, dt) = primals, tangents
    if isinstance(d_df, SymbolicZero):
        out, tangent = _cdf(log, df, t), jnp.zeros_like(t)
    else:
        out, tangent = jax.jvp(lambda df: _value(log, df, t), (df,), (d_df,))
    if not isinstance(dt, SymbolicZero):
        nu = jnp.where(df > 0, jnp.where(df < jnp.inf, df, 1e16), 1.0)
        finite = jnp.abs(t) < jnp.inf
        u = jnp.where(finite, t, 0.0)
        log_pdf = _log_constant(nu) - _exponent(nu, u * u)
        log_slope = log_pdf - (jnp.where(finite, out, 0.0) if log else 0.0)
        slope = jnp.where(finite, jnp.exp(log_slope), jnp.where(jnp.isnan(out), jnp.nan, 0.0))
        if log:
            slope = _tail_slope(nu, t, slope)
        tangent = tangent + slope * dt
    return out, tangent


def _tail_slope(nu: jax.Array, t: jax.Array, slope: jax.Array) -> jax.Array:
    """Return the derivative of log P(T <= t) in t for nu degrees of freedom: ``slope``, except far in the lower tail for nu >=
    20.

    There density and tail are both as small as exp(-t^2 / 2), so that neither their ratio nor its derivative has digits; the
    derivative of the logarithm of the integral has.
    """
    far = (nu >= _DIRECT_FROM) & (t < -2.0) & (t > -jnp.inf)
    big, size = jnp.where(far, nu, _DIRECT_FROM), jnp.where(far, -t, 2.0)
    _, slope_of_tail = jax.jvp(lambda u: _direct_piece(big, u)[0], (size,), (jnp.ones_like(size),))
    return jnp.where(far, -slope_of_tail, slope)


_cdf.defjvp(_cdf_jvp, symbolic_zeros=True)
_cdf_compiled = jax.jit(_cdf, static_argnums=0)


def stdtr(df: ArrayLike, t: ArrayLike) -> jax.Array:
    """Return the distribution function of Student's t, P(T <= t).

    Args:
        df: degrees of freedom, > 0; infinity gives the normal distribution.
        t: real or infinite; broadcasts with ``df``. The arguments are in the order of ``scipy.special.stdtr``.

    Returns:
        Values in [0, 1], with derivatives of every order in ``df`` and ``t``; NaN for other arguments. Relative errors
        in float64 are about 1e-13 for the value and for first and second derivatives, for any df above 0.01; where
        the value is near 1, that holds for one minus it.

    Example:
        >>> round(float(stdtr(1.0, 1.0)), 4)  # Cauchy
        0.75
    """
    return _cdf_compiled(False, *floats(df, t))


def log_stdtr(df: ArrayLike, t: ArrayLike) -> jax.Array:
    """Return log P(T <= t) for Student's t, finite far into the left tail; log P(T > t) is ``log_stdtr(df, -t)``.

    Arguments, derivatives and accuracy as for ``stdtr``.

    Example:
        >>> round(float(log_stdtr(1.0, -1.0)), 4)  # log(1/4)
        -1.3863
    """
    return _cdf_compiled(True, *floats(df, t))


def t_logpdf(x: ArrayLike, df: ArrayLike, loc: ArrayLike = 0.0, scale: ArrayLike = 1.0) -> jax.Array:
    r"""Return the log-density of Student's t with location and scale.

    .. math:: \log\frac{\Gamma((\nu + 1)/2)}{\Gamma(\nu/2)\sqrt{\nu\pi}\,\sigma}
              - \frac{\nu + 1}{2} \log\left(1 + \frac{z^2}{\nu}\right), \qquad z = \frac{x - \mu}{\sigma}

    Args:
        x: outcome, real.
        df: degrees of freedom :math:`\nu`, > 0; infinity gives the normal distribution.
        loc: location :math:`\mu`, on the scale of x.
        scale: scale :math:`\sigma`, > 0, on the scale of x. The four broadcast.

    Returns:
        The log-density, with derivatives of every order in all arguments; -inf with derivatives 0 at infinite x, NaN for
        invalid parameters and at NaN. At df = inf the derivatives in df are 0: estimate 1/df, by
        :func:`t_logpdf_inverse`, where the normal distribution may be the maximum.

        For z^2/df above 1e5 the mixed second derivative in x (or loc) and scale has a relative error of 1e-16 z^2/df, as
        it is a difference of larger terms; everything else stays within 1e-12.

    Example:
        >>> import jax
        >>> from mlejax.special import t_logpdf
        >>> with jax.enable_x64(True):
        ...     print(f"{t_logpdf(1.0, 1.0):.6f} {t_logpdf(1.0, float('inf')):.6f}")  # Cauchy; normal
        -1.837877 -1.418939

    References:
        Lange, Little & Taylor (1989), Robust statistical modeling using the t distribution, JASA 84.
    """
    x, df, loc, scale = floats(x, df, loc, scale)
    positive = df > 0
    return _t_logpdf(x, jnp.where(positive, 1.0 / jnp.where(positive, df, 1.0), jnp.nan), loc, scale)


def t_logpdf_inverse(x: ArrayLike, inverse_df: ArrayLike, loc: ArrayLike = 0.0, scale: ArrayLike = 1.0) -> jax.Array:
    """Return the log-density of Student's t with 1/inverse_df degrees of freedom; inverse_df may be 0 (the normal distribution).

    Args:
        x: outcome, real.
        inverse_df: one over the degrees of freedom, >= 0 (``mle.NonNegative()``); 0 gives the normal distribution.
        loc: location, on the scale of x.
        scale: scale, > 0, on the scale of x. The four broadcast.

    Returns:
        The log-density of :func:`t_logpdf`, with derivatives of every order in all arguments, at inverse_df = 0 too; NaN for
        negative or infinite inverse_df.

    Example:
        >>> import jax
        >>> from mlejax.special import t_logpdf_inverse
        >>> with jax.enable_x64(True):
        ...     print(f"{jax.grad(t_logpdf_inverse, 1)(2.0, 0.0):.6f}")  # (z^4 - 2 z^2 - 1) / 4
        1.750000
    """
    return _t_logpdf(*floats(x, inverse_df, loc, scale))


@jax.jit
def _t_logpdf(x: jax.Array, h: jax.Array, loc: jax.Array, scale: jax.Array) -> jax.Array:
    legal = (h >= 0) & (h < jnp.inf) & (scale > 0) & (scale < jnp.inf) & (jnp.abs(loc) < jnp.inf) & ~jnp.isnan(x)
    inside = legal & (jnp.abs(x) < jnp.inf)
    h, scale = jnp.where(inside, h, 1.0), jnp.where(inside, scale, 1.0)
    z = (jnp.where(inside, x, 0.0) - jnp.where(inside, loc, 0.0)) / scale
    value = t_log_density(z, h) - jnp.log(scale)
    return jnp.where(inside, value, jnp.where(legal, -jnp.inf, jnp.nan))


def t_log_density(z: jax.Array, h: jax.Array) -> jax.Array:
    """Return the log-density at z of Student's t with 1/h degrees of freedom, h >= 0; the normal one at h = 0."""
    q = z * z
    return log_rising(jnp.full_like(h, 0.5), 2.0 * h) - HALF_LOG_2PI - 0.5 * (1.0 + h) * log1p_over(q, h)


def t_cdf(x: ArrayLike, df: ArrayLike, loc: ArrayLike = 0.0, scale: ArrayLike = 1.0) -> jax.Array:
    """Return P(X <= x) of Student's t with df degrees of freedom, location and scale.

    NaN for invalid parameters.  Arguments and derivatives are those of :func:`t_logpdf`; the accuracy is that of :func:`stdtr`.

    Example:
        >>> round(float(t_cdf(3.0, 1.0, 2.0)), 6)
        0.75
    """
    return _t_tail(False, 1.0, x, df, loc, scale)


def t_sf(x: ArrayLike, df: ArrayLike, loc: ArrayLike = 0.0, scale: ArrayLike = 1.0) -> jax.Array:
    """Return P(X > x) of Student's t with df degrees of freedom, location and scale.

    NaN for invalid parameters.  Arguments and derivatives are those of :func:`t_logpdf`.

    Example:
        >>> round(float(t_sf(3.0, 1.0, 2.0)), 6)
        0.25
    """
    return _t_tail(False, -1.0, x, df, loc, scale)


def t_logcdf(x: ArrayLike, df: ArrayLike, loc: ArrayLike = 0.0, scale: ArrayLike = 1.0) -> jax.Array:
    """Return log P(X <= x) of Student's t with df degrees of freedom, location and scale.

    NaN for invalid parameters.  Arguments and derivatives are those of :func:`t_logpdf`.

    Example:
        >>> round(float(t_logcdf(1.0, 1.0, 2.0)), 4)  # log(1/4)
        -1.3863
    """
    return _t_tail(True, 1.0, x, df, loc, scale)


def t_logsf(x: ArrayLike, df: ArrayLike, loc: ArrayLike = 0.0, scale: ArrayLike = 1.0) -> jax.Array:
    """Return log P(X > x) of Student's t with df degrees of freedom, location and scale.

    NaN for invalid parameters.  Arguments and derivatives are those of :func:`t_logpdf`.

    Example:
        >>> round(float(t_logsf(3.0, 1.0, 2.0)), 4)
        -1.3863
    """
    return _t_tail(True, -1.0, x, df, loc, scale)


def _t_tail(log: bool, sign: float, x: ArrayLike, df: ArrayLike, loc: ArrayLike, scale: ArrayLike) -> jax.Array:
    x, df, loc, scale = floats(x, df, loc, scale)
    legal = (scale > 0) & (scale < jnp.inf) & (jnp.abs(loc) < jnp.inf)
    z = (x - jnp.where(legal, loc, 0.0)) / jnp.where(legal, scale, 1.0)
    return jnp.where(legal, _cdf_compiled(log, df, sign * z), jnp.nan)


def skewt_logpdf(x: ArrayLike, df: ArrayLike, loc: ArrayLike, scale: ArrayLike, skew: ArrayLike) -> jax.Array:
    r"""Return the log-density of the skew-t distribution of Azzalini and Capitanio.

    .. math:: \log\frac{2}{\sigma} + \log t_\nu(z) + \log T_{\nu + 1}\!\left(\alpha z \sqrt{\frac{\nu + 1}{\nu + z^2}}\right),
              \qquad z = \frac{x - \mu}{\sigma}

    with the density t and distribution function T of Student's t.

    Args:
        x: outcome, real.
        df: degrees of freedom :math:`\nu`, > 0; infinity gives the skew-normal distribution.
        loc: location :math:`\mu`, on the scale of x (not the mean).
        scale: scale :math:`\sigma`, > 0, on the scale of x.
        skew: slant :math:`\alpha`, real; 0 gives Student's t. The five broadcast.

    Returns:
        The log-density, with derivatives of every order in all arguments; -inf with derivatives 0 at infinite x, NaN for
        invalid parameters and at NaN. At df = inf the derivatives in df are 0.

    Example:
        >>> import jax
        >>> from mlejax.special import skewt_logpdf, t_logpdf
        >>> with jax.enable_x64(True):
        ...     print(f"{skewt_logpdf(1.0, 3.0, 0.0, 1.0, 0.0) - t_logpdf(1.0, 3.0):.1e}")
        ...     print(f"{skewt_logpdf(0.0, float('inf'), 0.0, 1.0, 2.0):.6f}")  # 2 phi(0) Phi(0)
        0.0e+00
        -0.918939

    References:
        Azzalini & Capitanio (2003), Distributions generated by perturbation of symmetry with emphasis on a multivariate
        skew t distribution, JRSS B 65.
    """
    return _skewt(*floats(x, df, loc, scale, skew))


@jax.jit
def _skewt(x: jax.Array, df: jax.Array, loc: jax.Array, scale: jax.Array, skew: jax.Array) -> jax.Array:
    legal = (df > 0) & (scale > 0) & (scale < jnp.inf) & ~jnp.isnan(x)
    legal = legal & (jnp.abs(loc) < jnp.inf) & (jnp.abs(skew) < jnp.inf)
    inside = legal & (jnp.abs(x) < jnp.inf)
    df, scale, skew = jnp.where(inside, df, 1.0), jnp.where(inside, scale, 1.0), jnp.where(inside, skew, 0.0)
    z = (jnp.where(inside, x, 0.0) - jnp.where(inside, loc, 0.0)) / scale
    h = 1.0 / df
    slanted = skew * z * jnp.sqrt((1.0 + h) / (1.0 + h * z * z))
    value = t_log_density(z, h) - jnp.log(scale) + _LOG_2 + _cdf(True, df + 1.0, slanted)
    return jnp.where(inside, value, jnp.where(legal, -jnp.inf, jnp.nan))
