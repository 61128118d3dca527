r"""The Box-Cox transform of a positive outcome, :math:`\lambda = 0` included, and the logarithm of its Jacobian."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from mlejax.special.exponentials import expm1_over
from mlejax.special.kernels import floats

__all__ = ["boxcox", "boxcox_logjac"]


def boxcox(y: ArrayLike, lam: ArrayLike) -> jax.Array:
    r"""Return the Box-Cox transform :math:`(y^\lambda - 1)/\lambda`, log y at :math:`\lambda = 0`.

    Args:
        y: outcome, > 0.
        lam: power :math:`\lambda`, real. y and lam broadcast.

    Returns:
        The transform, with derivatives of every order in both arguments, at lam = 0 too; NaN where y is not positive and finite,
        or lam is not finite.

    Example:
        A linear model of the transformed outcome has the log-likelihood of a row

        >>> import jax
        >>> from jax.scipy.stats import norm
        >>> from mlejax.special import boxcox, boxcox_logjac
        >>> def boxcox_logpdf(y, lam, mu, sigma):
        ...     return norm.logpdf(boxcox(y, lam), mu, sigma) + boxcox_logjac(y, lam)
        >>> with jax.enable_x64(True):
        ...     print(f"{boxcox(3.0, 0.0):.6f} {boxcox(3.0, 0.5):.6f} {jax.grad(boxcox, 1)(3.0, 0.0):.6f}")
        1.098612 1.464102 0.603474

    References:
        Box & Cox (1964), An analysis of transformations, Journal of the Royal Statistical Society B 26.
    """
    y, lam = floats(y, lam)
    inside = (y > 0) & (y < jnp.inf) & (jnp.abs(lam) < jnp.inf)
    value = expm1_over(jnp.log(jnp.where(inside, y, 1.0)), jnp.where(inside, lam, 0.0))
    return jnp.where(inside, value, jnp.nan)


def boxcox_logjac(y: ArrayLike, lam: ArrayLike) -> jax.Array:
    r"""Return the log-Jacobian of the Box-Cox transform, :math:`(\lambda - 1) \log y`, to be added to a row's log-density.

    Without it log-likelihoods at different powers are not comparable. Arguments, shape and NaN are those of :func:`boxcox`.

    Example:
        >>> round(float(boxcox_logjac(3.0, 0.5)), 6)
        -0.549306
    """
    y, lam = floats(y, lam)
    inside = (y > 0) & (y < jnp.inf) & (jnp.abs(lam) < jnp.inf)
    value = (jnp.where(inside, lam, 1.0) - 1.0) * jnp.log(jnp.where(inside, y, 1.0))
    return jnp.where(inside, value, jnp.nan)
