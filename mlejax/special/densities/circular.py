r"""The von Mises distribution of directions, from the uniform (:math:`\kappa = 0`) to the normal limit.

:math:`\log(e^{-\kappa} I_0(\kappa))` is the logarithm of the mean of :math:`e^{-\kappa(1 - \cos\theta)}`: a sum over equally
spaced angles, which converges geometrically, and for large :math:`\kappa` Hankel's series (DLMF 10.32.1, 10.40.1). Every
derivative of the sum is a cumulant of numbers between 0 and 2, and keeps its digits.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from mlejax.special.kernels import HALF_LOG_2PI, floats, horner, last_axis

__all__ = ["vonmises_logpdf"]

_LARGE = 20.0
_ANGLES = 64
_HALVES = np.arange(_ANGLES // 2 + 1)
_FALL = 2.0 * np.sin(np.pi * _HALVES / _ANGLES) ** 2
_SHARE = np.where((_HALVES == 0) | (_HALVES == _ANGLES // 2), 1.0, 2.0) / _ANGLES
# prod (2j - 1)^2 / (j! 8^j): the series of I0(k) exp(-k) sqrt(2 pi k) in 1/k, up to its smallest term at k = 20.
_HANKEL = np.cumprod(np.concatenate([[1.0], [(2 * j - 1) ** 2 / (8.0 * j) for j in range(1, 35)]]))


def vonmises_logpdf(x: ArrayLike, mu: ArrayLike, kappa: ArrayLike) -> jax.Array:
    r"""Return the log-density of the von Mises distribution on the circle.

    .. math:: \kappa \cos(x - \mu) - \log(2\pi I_0(\kappa))

    Args:
        x: direction in radians; directions that differ by full turns are the same.
        mu: mean direction in radians.
        kappa: concentration, >= 0, without unit; 0 gives the uniform distribution, large values the normal one with
            variance 1/kappa. The three broadcast.

    Returns:
        The log-density, with derivatives of every order in all arguments, at kappa = 0 too; NaN for directions that are not
        finite, and for negative or infinite kappa.

    Example:
        >>> import jax
        >>> from mlejax.special import vonmises_logpdf
        >>> with jax.enable_x64(True):
        ...     print(f"{vonmises_logpdf(1.0, 0.0, 0.0):.6f}")  # -log(2 pi)
        ...     print(f"{vonmises_logpdf(0.0, 0.0, 1e12):.6f}")  # log(1e12 / (2 pi)) / 2
        -1.837877
        12.896572

    References:
        Mardia & Jupp (2000), Directional Statistics, section 3.5.4.
    """
    x, mu, kappa = floats(x, mu, kappa)
    return _vonmises(x, mu, kappa)


@jax.jit
def _vonmises(x: jax.Array, mu: jax.Array, kappa: jax.Array) -> jax.Array:
    inside = (kappa >= 0) & (kappa < jnp.inf) & (jnp.abs(x) < jnp.inf) & (jnp.abs(mu) < jnp.inf)
    kappa = jnp.where(inside, kappa, 1.0)
    half = jnp.sin(0.5 * (jnp.where(inside, x, 0.0) - jnp.where(inside, mu, 0.0)))
    value = -2.0 * kappa * half * half - 2.0 * HALF_LOG_2PI - log_i0e(kappa)
    return jnp.where(inside, value, jnp.nan)


def log_i0e(kappa: jax.Array) -> jax.Array:
    """Return log(exp(-kappa) I0(kappa)) for kappa >= 0, elementwise; I0 is the modified Bessel function."""
    large = kappa > _LARGE
    small, big = jnp.where(large, 1.0, kappa), jnp.where(large, kappa, 2.0 * _LARGE)
    terms = last_axis(_SHARE, small) * jnp.exp(-small[..., None] * last_axis(_FALL, small))
    asymptotic = jnp.log(horner(_HANKEL, 1.0 / big)) - 0.5 * jnp.log(big) - HALF_LOG_2PI
    return jnp.where(large, asymptotic, jnp.log(jnp.sum(terms, axis=-1)))
