r"""Negative binomial and beta-binomial distributions, accurate near and at their Poisson and binomial limits.

The textbook form of the negative binomial has :math:`\log\Gamma(y + 1/\alpha) - \log\Gamma(1/\alpha)`, a difference of
numbers of the size of :math:`\log(1/\alpha)/\alpha` that loses every digit as :math:`\alpha \to 0`. Here all terms are
analytic in :math:`\alpha` at 0, and large counts are written by deviances (Loader 2000). The tail is an integral over
the mean, of :math:`p(y; m)\,(1 + \alpha y)/(1 + \alpha m)`. The beta-binomial is the ratio of negative binomial
probabilities: that of the successes, times that of the failures, over that of the trials.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
from jax import lax
from jax.typing import ArrayLike

from mlejax.execution import inlined
from mlejax.special.incomplete import beta_tail
from mlejax.special.kernels import (
    HALF_LOG_2PI,
    derivatives_at_hand,
    floats,
    integrate,
    log1p_over,
    log1p_rest,
    log_ratio,
    log_ratio_minus,
    log_rising,
    reach,
    relative_excess,
    stirling_inverse,
    stirling_of_inverse,
)
from mlejax.special.tails import MIRROR, by_ends, of_exponential, side

__all__ = ["betabinom_logpmf", "nb2_cdf", "nb2_logcdf", "nb2_logpmf", "nb2_logsf", "nb2_sf"]

# Counts from here on are written by deviances and Stirling's series in 1/y.
_LARGE = 8.0


def nb2_logpmf(y: ArrayLike, mu: ArrayLike, alpha: ArrayLike) -> jax.Array:
    r"""Return the log-probability of a negative binomial count with mean mu and variance :math:`\mu + \alpha\mu^2` (NB2).

    .. math:: \log\frac{\Gamma(y + 1/\alpha)}{\Gamma(1/\alpha)\, y!} - \tfrac1\alpha \log(1 + \alpha\mu)
              + y \log\frac{\alpha\mu}{1 + \alpha\mu}

    Args:
        y: count, >= 0; values between integers are interpolated by the gamma function.
        mu: mean, >= 0, on the scale of the counts; 0 gives probability 1 to y = 0.
        alpha: overdispersion, >= 0, without unit; 0 gives the Poisson distribution. The three broadcast.

    Returns:
        The log-probability, with derivatives of every order in all arguments, at alpha = 0 too; -inf with derivatives 0
        for negative or infinite y, NaN for invalid parameters and at NaN.

    Example:
        >>> import jax
        >>> from mlejax.special import nb2_logpmf
        >>> with jax.enable_x64(True):
        ...     print(f"{nb2_logpmf(3.0, 2.0, 0.0):.6f}", f"{nb2_logpmf(3.0, 2.0, 0.5):.6f}")  # Poisson; NB2
        ...     print(f"{jax.grad(nb2_logpmf, 2)(3.0, 2.0, 0.0):.6f}")  # ((y - mu)^2 - y) / 2
        -1.712318 -2.079442
        -1.000000

    References:
        Cameron & Trivedi (2013), Regression Analysis of Count Data, 2nd ed., section 3.3.
        Loader (2000), Fast and Accurate Computation of Binomial Probabilities.
    """
    y, mu, _ = floats(y, mu, alpha)
    return _nb2(y, mu, jnp.asarray(alpha, y.dtype))


def nb2_cdf(y: ArrayLike, mu: ArrayLike, alpha: ArrayLike) -> jax.Array:
    """Return P(Y <= y) of the negative binomial with mean mu and variance mu + alpha mu^2; alpha = 0 gives the Poisson.

    Args:
        y: real; the function steps at whole numbers, and its derivative in y is 0.
        mu: mean, >= 0.
        alpha: overdispersion, >= 0. The three broadcast.

    Returns:
        Values in [0, 1], with derivatives of every order in mu and alpha, at alpha = 0 too; NaN for invalid parameters and at
        NaN. One tail, about the smaller one, is integrated, and the other is one minus it. Beyond alpha = 1 second derivatives
        have errors of up to 3e-12, else of 1e-12 at most.

    Example:
        >>> round(float(nb2_cdf(1.0, 2.0, 0.0)), 6)  # 3 exp(-2)
        0.406006
    """
    return _nb2_tails("cdf", *floats(y, mu, alpha))


def nb2_sf(y: ArrayLike, mu: ArrayLike, alpha: ArrayLike) -> jax.Array:
    """Return P(Y > y) of the negative binomial with mean mu and variance mu + alpha mu^2; 1 for y < 0.

    NaN for invalid parameters.  Arguments and derivatives are those of :func:`nb2_cdf`.

    Example:
        >>> round(float(nb2_sf(0.0, 2.0, 0.5)), 6)  # 1 - (1 + alpha mu)^(-1/alpha)
        0.75
    """
    return _nb2_tails("sf", *floats(y, mu, alpha))


def nb2_logcdf(y: ArrayLike, mu: ArrayLike, alpha: ArrayLike) -> jax.Array:
    """Return log P(Y <= y) of the negative binomial with mean mu and variance mu + alpha mu^2; -inf for y < 0.

    NaN for invalid parameters.  Arguments and derivatives are those of :func:`nb2_cdf`.

    Example:
        >>> round(float(nb2_logcdf(0.0, 2.0, 0.0)), 6)
        -2.0
    """
    return _nb2_tails("logcdf", *floats(y, mu, alpha))


def nb2_logsf(y: ArrayLike, mu: ArrayLike, alpha: ArrayLike) -> jax.Array:
    """Return log P(Y > y) of the negative binomial with mean mu and variance mu + alpha mu^2; 0 for y < 0.

    NaN for invalid parameters.  Arguments and derivatives are those of :func:`nb2_cdf`.

    Example:
        >>> round(float(nb2_logsf(0.0, 2.0, 0.5)), 6)
        -0.287682
    """
    return _nb2_tails("logsf", *floats(y, mu, alpha))


def betabinom_logpmf(y: ArrayLike, n: ArrayLike, mu: ArrayLike, rho: ArrayLike) -> jax.Array:
    r"""Return the log-probability of a beta-binomial count of successes, by mean probability and intraclass correlation.

    .. math:: \log\binom{n}{y} + \log\frac{B(y + a,\, n - y + b)}{B(a, b)}, \qquad
              a = \mu\,\frac{1 - \rho}{\rho},\; b = (1 - \mu)\,\frac{1 - \rho}{\rho}

    Args:
        y: successes, 0 <= y <= n; values between integers are interpolated by the gamma function.
        n: trials, >= 0.
        mu: mean probability of success, in [0, 1].
        rho: correlation of two trials, 0 <= rho < 1; 0 gives the binomial distribution. The variance is
            n mu (1 - mu) (1 + (n - 1) rho). The four broadcast.

    Returns:
        The log-probability, with derivatives of every order in all arguments, at rho = 0 too; -inf with derivatives 0
        outside of the support, NaN for invalid parameters and at NaN. At mu = 0 and 1 all derivatives are 0; at rho = 0.95
        second derivatives in rho have errors of 2e-12.

    Example:
        >>> import jax
        >>> from mlejax.special import betabinom_logpmf
        >>> with jax.enable_x64(True):
        ...     print(f"{betabinom_logpmf(1.0, 2.0, 0.5, 0.0):.6f}")  # log(1/2)
        ...     print(f"{betabinom_logpmf(1.0, 2.0, 0.5, 1 / 3):.6f}")  # uniform on 0, 1, 2
        -0.693147
        -1.098612

    References:
        Prentice (1986), Binary regression using an extended beta-binomial distribution, JASA 81.
    """
    return _betabinom(*floats(y, n, mu, rho))


@inlined  # so that the factorials are seen to depend on the data alone
def _nb2(y: jax.Array, mu: jax.Array, alpha: jax.Array) -> jax.Array:
    """Return the log-probabilities of `nb2_logpmf`; y and mu have one shape, ``alpha`` may have fewer entries, which broadcast:
    its functions are then evaluated once for each entry.
    """
    count = (y >= 0) & (y < jnp.inf)
    factorial = log_rising(jnp.where(count & (y < _LARGE), y, 0.0), jnp.ones((), y.dtype))
    spread = (alpha >= 0) & (alpha < jnp.inf)
    legal = (mu >= 0) & (mu < jnp.inf) & spread & ~jnp.isnan(y)
    inside = legal & count & ((mu > 0) | (y == 0))
    y, mu, alpha = jnp.where(inside, y, 1.0), jnp.where(inside, mu, 1.0), jnp.where(spread, alpha, 0.0)
    value = _of_mean(y, mu, alpha) + (_of_count(y, alpha) - factorial)
    return jnp.where(inside, value, jnp.where(legal, -jnp.inf, jnp.nan))


def _by_size(y: jax.Array, many: Callable[[jax.Array], jax.Array], few: Callable[[jax.Array], jax.Array]) -> jax.Array:
    """Return ``many`` of large counts (y >= 8) and ``few`` of small ones; each function gets counts of its own range only."""
    large = y >= _LARGE
    return jnp.where(large, many(jnp.where(large, y, _LARGE)), few(jnp.where(large, 1.0, y)))


def _along(function: Callable[[jax.Array], jax.Array], x: jax.Array) -> jax.Array:
    """Return the derivative of an elementwise function."""
    return jax.jvp(function, (x,), (jnp.ones_like(x),))[1]


def _rising_slope(y: jax.Array, a: jax.Array) -> jax.Array:
    """Return the derivative in a of `log_rising`, 0 <= y <= 8.

    Term by term that of y log(1 + 8 a) - sum over k < 8 of log(1 + y a / (1 + k a)), and of the rest, a function of
    s = a / (1 + 8 a), whose derivative in s is `_rest_slope`.
    """
    raised = 1.0 / (1.0 + _LARGE * a)
    terms = jnp.zeros_like(y + a)
    for k in range(int(_LARGE)):
        terms = terms + (2.0 * k + y - _LARGE + k * (k + y) * a) / ((1.0 + k * a) * (1.0 + (k + y) * a))
    return y * a * raised * terms + raised**2 * _rest_slope(y, a * raised)


def _rising_bend(y: jax.Array, a: jax.Array) -> jax.Array:
    """Return the second derivative in a of `log_rising`, 0 <= y <= 8; see `_rising_slope`."""
    raised = 1.0 / (1.0 + _LARGE * a)
    s, terms = a * raised, -(_LARGE**2) * raised**2
    for k in range(int(_LARGE)):
        apart, at, after = (1.0 + k * a) * (1.0 + (k + y) * a), k / (1.0 + k * a), (k + y) / (1.0 + (k + y) * a)
        terms = terms + (at + after) / apart
    w, near = y * s, 1.0 / (1.0 + y * s)
    change = (stirling_inverse(s * near, 2) * near - 2.0 * y * stirling_inverse(s * near, 1)) * near**3
    bend = y**3 * log1p_rest(w, order=1) + 0.5 * (y * near) ** 2 + change - stirling_inverse(s, 2)
    return y * terms - 2.0 * _LARGE * raised**3 * _rest_slope(y, s) + raised**4 * bend


def _rest_slope(y: jax.Array, s: jax.Array) -> jax.Array:
    """Return the derivative in s of (y + 1/s - 1/2) log(1 + y s) - y plus the change of Stirling's remainder, 0 <= s <= 1/8."""
    near = 1.0 / (1.0 + y * s)
    change = stirling_inverse(s * near, 1) * near**2 - stirling_inverse(s, 1)
    return y * y * log1p_rest(y * s) - 0.5 * y * near + change


def _terms_of_count(y: jax.Array, alpha: jax.Array) -> jax.Array:
    """Return the terms of the log-probability without the mean: the log-probability at mu = y for large counts (y >= 8).

    For small counts: the logarithm of the rising factorial, without y!.
    """

    def many(y: jax.Array) -> jax.Array:
        spread = 1.0 + alpha * y
        remainders = stirling_of_inverse(alpha) + stirling_inverse(1.0 / y) - stirling_inverse(alpha / spread)
        return -0.5 * (jnp.log(y) + jnp.log(spread)) - HALF_LOG_2PI - remainders

    return _by_size(y, many, lambda y: log_rising(y, alpha))


def _count_slope(y: jax.Array, alpha: jax.Array) -> jax.Array:
    """Return the derivative of `_terms_of_count` in alpha."""

    def many(y: jax.Array) -> jax.Array:
        shrink = 1.0 / (1.0 + alpha * y)
        return stirling_inverse(alpha * shrink, 1) * shrink**2 - 0.5 * y * shrink - _along(stirling_of_inverse, alpha)

    return _by_size(y, many, lambda y: _rising_slope(y, alpha))


def _count_bend(y: jax.Array, alpha: jax.Array) -> jax.Array:
    """Return the second derivative of `_terms_of_count` in alpha."""

    def many(y: jax.Array) -> jax.Array:
        shrink = 1.0 / (1.0 + alpha * y)
        moved = (stirling_inverse(alpha * shrink, 2) * shrink - 2.0 * y * stirling_inverse(alpha * shrink, 1)) * shrink**3
        return moved + 0.5 * (y * shrink) ** 2 - _along(partial(_along, stirling_of_inverse), alpha)

    return _by_size(y, many, lambda y: _rising_bend(y, alpha))


_of_count = derivatives_at_hand(_terms_of_count, None, derivatives_at_hand(_count_slope, None, _count_bend, orders=1))


def _residual(y: jax.Array, mu: jax.Array, alpha: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array, jax.Array]:
    """Return (m, r, M(alpha r), M'(alpha r)): m = y for large counts (y >= 8), else 0; r = (m - mu) / (1 + alpha mu).

    M is `log1p_rest`.
    """
    m = jnp.where(y >= _LARGE, y, 0.0)
    grow, spread = 1.0 + alpha * mu, 1.0 + alpha * m
    excess = relative_excess(spread, grow, alpha * (m - mu))
    return m, (m - mu) / grow, log1p_rest(excess, spread / grow), log1p_rest(excess, spread / grow, 1)


def _odds(y: jax.Array, mu: jax.Array, alpha: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Return mu / (1 + alpha mu), divided by its value at mu = y for large counts (y >= 8), and the quotient minus 1.

    For small counts the second result is 1, which means: not near 0.
    """
    large = y >= _LARGE
    at = jnp.where(large, y / (1.0 + alpha * y), 1.0)
    grow = 1.0 + alpha * mu
    excess = (mu - y) / (jnp.where(large, y, 1.0) * grow)
    return jnp.where(mu > 0, mu, 1.0) / (at * grow), jnp.where(large, excess, 1.0)


def _slope_in_y(y: jax.Array, mu: jax.Array, alpha: jax.Array) -> jax.Array:
    return log_ratio(*_odds(y, mu, alpha))


def _slope_in_mu(y: jax.Array, mu: jax.Array, alpha: jax.Array) -> jax.Array:
    return (y / jnp.where(mu > 0, mu, 1.0) - 1.0) / (1.0 + alpha * mu)  # mu = 0 is legal with y = 0


def _bend_in_mu(y: jax.Array, mu: jax.Array, alpha: jax.Array) -> jax.Array:
    return -(y / jnp.where(mu > 0, mu, 1.0) ** 2 + alpha * _slope_in_mu(y, mu, alpha)) / (1.0 + alpha * mu)


def _bend_in_both(y: jax.Array, mu: jax.Array, alpha: jax.Array) -> jax.Array:
    return (mu - y) / (1.0 + alpha * mu) ** 2


def _slope_in_alpha(y: jax.Array, mu: jax.Array, alpha: jax.Array) -> jax.Array:
    m, r, rest = _residual(y, mu, alpha)[:3]
    return r * (r * rest + (y - m))


def _bend_in_alpha(y: jax.Array, mu: jax.Array, alpha: jax.Array) -> jax.Array:
    m, r, rest, slope = _residual(y, mu, alpha)
    return r * (r * r * slope - mu * (2.0 * r * rest + (y - m))) / (1.0 + alpha * mu)


def _terms_of_mean(y: jax.Array, mu: jax.Array, alpha: jax.Array) -> jax.Array:
    """Return y log(mu) - (y + 1/alpha) log(1 + alpha mu); for large counts (y >= 8) minus its value at mu = y."""
    _, r, rest, _ = _residual(y, mu, alpha)
    odds, excess = _odds(y, mu, alpha)
    more = jnp.where(y >= _LARGE, 0.0, r + y)  # else they cancel
    return y * log_ratio_minus(odds, excess) + more - alpha * (r * r) * rest


_of_mean = derivatives_at_hand(
    _terms_of_mean,
    _slope_in_y,
    derivatives_at_hand(_slope_in_mu, None, _bend_in_mu, _bend_in_both, orders=1),
    derivatives_at_hand(_slope_in_alpha, None, _bend_in_both, _bend_in_alpha, orders=1),
)


@jax.jit
def _betabinom(y: jax.Array, n: jax.Array, mu: jax.Array, rho: jax.Array) -> jax.Array:
    legal = (mu >= 0) & (mu <= 1) & (rho >= 0) & (rho < 1) & (n >= 0) & (n < jnp.inf) & ~jnp.isnan(y)
    support = legal & (y >= 0) & (y <= n)
    inside = support & (mu > 0) & (mu < 1)
    certain = support & jnp.where(mu == 0, y == 0, (mu == 1) & (y == n))
    y, n = jnp.where(inside, y, 0.0), jnp.where(inside, n, 1.0)
    mu, rho = jnp.where(inside, mu, 0.5), jnp.where(inside, rho, 0.0)
    theta, failing = rho / (1.0 - rho), 1.0 - mu
    counts, means = jnp.stack([y, n - y, n]), jnp.stack([n * mu, n * failing, n])
    success, failure, trials = _nb2(counts, means, jnp.stack([theta / mu, theta / failing, theta]))
    boundary = jnp.where(certain, 0.0, jnp.where(legal, -jnp.inf, jnp.nan))
    return jnp.where(inside, success + failure - trials, boundary)


@partial(jax.jit, static_argnums=0)
def _nb2_tails(kind: str, y: jax.Array, mu: jax.Array, alpha: jax.Array) -> jax.Array:
    legal = (mu >= 0) & (mu < jnp.inf) & (alpha >= 0) & (alpha < jnp.inf) & ~jnp.isnan(y)
    inside = legal & (mu > 0) & (y >= 0) & (y < jnp.inf)
    k = lax.stop_gradient(jnp.floor(jnp.where(inside, y, 0.0)))
    alpha, mu = jnp.where(inside, alpha, 0.0), jnp.where(inside, mu, 1.0)
    none = k == 0  # P(Y = 0) is elementary, and its logarithm almost linear in the mean
    # As a function of the mean, P(Y <= y) is an upper tail.
    some = side(MIRROR[kind], *_log_tail(jnp.where(none, 1.0, k), alpha, mu))
    value = jnp.where(none, of_exponential(MIRROR[kind], log1p_over(mu, alpha)), some)
    return by_ends(kind, inside, legal, y < 0, value)


def _log_density(k: jax.Array, alpha: jax.Array, mu: jax.Array) -> jax.Array:
    """Return log(-dP(Y <= k)/dmu) of the negative binomial with mean mu and overdispersion alpha."""
    return _nb2(k, mu, alpha) + jnp.log1p(alpha * k) - jnp.log1p(alpha * mu)


def _log_tail(k: jax.Array, alpha: jax.Array, mu: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Return (log P(Y <= k), True) or (log P(Y > k), False) of the negative binomial with mean mu, for any alpha >= 0, whichever
    is computed directly: for alpha <= 1 by `_direct_tail`, else from the incomplete beta function.
    """
    direct = alpha <= 1.0
    near, near_upper = _direct_tail(k, jnp.where(direct, alpha, 0.0), mu)
    wide = jnp.where(direct, 1.0, alpha)
    rate = wide * mu
    far, far_upper = beta_tail(k + 1.0, 1.0 / wide, rate / (1.0 + rate), 1.0 / (1.0 + rate))
    return jnp.where(direct, near, far), jnp.where(direct, near_upper, far_upper)


def _direct_tail(k: jax.Array, alpha: jax.Array, mu: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Return (log P(Y <= k), True) where mu >= k + 1, else (log P(Y > k), False), of the negative binomial for alpha <= 1.

    The probability is -mu dP(Y <= k)/dmu times the integral over log m from mu on of exp(-phi), where
    phi(r) = log(1 + alpha z)/alpha + (k+1) (log(1 + alpha z) -+ r) and z = mu expm1(+-r) / (1 + alpha mu).
    """
    n = k + 1.0
    upper = mu >= n
    sign = jnp.where(upper, 1.0, -1.0).astype(mu.dtype)
    a0, m0 = lax.stop_gradient(alpha), lax.stop_gradient(mu)

    def exponent(r: jax.Array) -> tuple[jax.Array, jax.Array]:
        h = sign * r
        z, m = m0 * jnp.expm1(h) / (1.0 + a0 * m0), m0 * jnp.exp(h)
        value = log1p_over(z, a0) + n * (jnp.log1p(a0 * z) - h)
        return value, sign * (m - n) / (1.0 + a0 * m)

    curve = (1.0 + n * a0) * m0 / (1.0 + a0 * m0) ** 2
    length = reach(exponent, jnp.abs(m0 - n) / (1.0 + a0 * m0), curve)
    a, m, n_, sign = alpha[..., None], mu[..., None], n[..., None], sign[..., None]

    def rise(r: jax.Array) -> jax.Array:
        h = sign * r
        z = m * jnp.expm1(h) / (1.0 + a * m)
        return log1p_over(z, jnp.broadcast_to(a, z.shape)) + n_ * (jnp.log1p(a * z) - h)

    return _log_density(k, alpha, mu) + jnp.log(mu) + jnp.log(integrate(length, rise)), upper
