r"""Densities of counts that hold through their limits: negative binomial and beta-binomial.

The textbook form of the negative binomial has :math:`\log\Gamma(y + 1/\alpha) - \log\Gamma(1/\alpha)`, a difference of
numbers of the size of :math:`\log(1/\alpha)/\alpha` that loses every digit as :math:`\alpha \to 0`. Here all terms are
analytic in :math:`\alpha` at 0, and large counts are written by deviances (Loader 2000).
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from mlejax.special.kernels import (
    HALF_LOG_2PI,
    floats,
    last_axis,
    log1p_over,
    log1p_rest,
    log_rising,
    relative_excess,
    stirling_inverse,
)

__all__ = ["nb2_logpmf"]

# Counts from here on are written by deviances and Stirling's series in 1/y.
_LARGE = 8.0


def nb2_logpmf(y: ArrayLike, mu: ArrayLike, alpha: ArrayLike) -> jax.Array:
    r"""Log-probability of a negative binomial count with mean mu and variance :math:`\mu + \alpha\mu^2` (NB2).

    .. math:: \log\frac{\Gamma(y + 1/\alpha)}{\Gamma(1/\alpha)\, y!} - \tfrac1\alpha \log(1 + \alpha\mu)
              + y \log\frac{\alpha\mu}{1 + \alpha\mu}

    Args:
        y: count, >= 0; values between integers are interpolated by the gamma function.
        mu: mean, > 0, on the scale of the counts.
        alpha: overdispersion, >= 0, without unit; 0 gives the Poisson distribution. The three broadcast.

    Returns:
        The log-probability, with derivatives of every order in all arguments, at alpha = 0 too; -inf with derivatives 0
        for negative y, NaN for parameters outside of their space.

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
    return _nb2(*floats(y, mu, alpha))


@jax.jit
def _nb2(y: jax.Array, mu: jax.Array, alpha: jax.Array) -> jax.Array:
    legal = (mu >= 0) & (mu < jnp.inf) & (alpha >= 0) & (alpha < jnp.inf) & ~jnp.isnan(y)
    support = (y >= 0) & (y < jnp.inf) & ((mu > 0) | (y == 0))
    inside = legal & support
    y, alpha = jnp.where(inside, y, 1.0), jnp.where(inside, alpha, 0.0)
    mu = jnp.where(inside, mu, 1.0)
    large = y >= _LARGE
    value = jnp.where(
        large,
        _nb2_large(jnp.where(large, y, _LARGE), jnp.where(mu > 0, mu, 1.0), alpha),
        _nb2_small(jnp.where(large, 1.0, y), mu, alpha),
    )
    return jnp.where(inside, value, jnp.where(legal, -jnp.inf, jnp.nan))


def _nb2_small(y: jax.Array, mu: jax.Array, alpha: jax.Array) -> jax.Array:
    """By rising factorials; y! is the one with alpha = 1."""
    rate = alpha * mu
    logarithm = jnp.log(jnp.where(mu > 0, mu, 1.0)) - jnp.log1p(rate)
    rising, factorial = log_rising(jnp.stack([y, y]), jnp.stack([alpha, jnp.ones_like(alpha)]))
    return y * logarithm + (rising - factorial) - log1p_over(mu, alpha)


def _nb2_large(y: jax.Array, mu: jax.Array, alpha: jax.Array) -> jax.Array:
    """By the deviance and Stirling remainders."""
    grow, spread = 1.0 + alpha * mu, 1.0 + alpha * y
    size = relative_excess(spread, grow, alpha * (y - mu))
    mean = relative_excess(mu * spread, y * grow, mu - y)
    near = jnp.abs(mean) < 0.5
    mean, ratio = jnp.where(near, mean, 0.0), jnp.where(near, mu / y * (spread / grow), 1.0)
    residual = (y - mu) / grow
    close = alpha * (residual * residual) * log1p_rest(size, spread / grow) + y * (mean * mean) * log1p_rest(
        mean, ratio
    )
    apart = y * (jnp.log(mu / y) + jnp.log1p(alpha * y) - jnp.log1p(alpha * mu))
    apart = apart + log1p_over(y, alpha) - log1p_over(mu, alpha)
    deviance = jnp.where(near, close, -apart)
    remainders = _stirling_of_inverse(alpha) + stirling_inverse(1.0 / y) - stirling_inverse(alpha / spread)
    return -deviance - 0.5 * (jnp.log(y) + jnp.log1p(alpha * y)) - HALF_LOG_2PI - remainders


def _stirling_of_inverse(alpha: jax.Array) -> jax.Array:
    """Stirling's remainder of log Gamma at 1/alpha, for alpha >= 0."""
    large = alpha <= 0.125
    a = jnp.where(large, 0.125, alpha)
    raised = (8.0 - 0.5) * jnp.log1p(8.0 * a) - 64.0 * a * log1p_rest(8.0 * a)
    steps = jnp.log1p(a[..., None] * last_axis(np.arange(1, 8), a))
    raised = raised - jnp.sum(steps, axis=-1) + stirling_inverse(a / (1.0 + 8.0 * a))
    return jnp.where(large, stirling_inverse(jnp.where(large, alpha, 0.0)), raised)
