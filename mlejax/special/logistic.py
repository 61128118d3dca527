r"""The logarithm of the logistic function, with one exponential for value and derivatives together.

.. math:: \log\sigma(x) = \min(x, 0) - \log(1 + e^{-|x|}), \qquad (\log\sigma)' = \sigma(-x), \qquad
          (\log\sigma)'' = -\sigma(x)\,\sigma(-x).

Automatic differentiation of ``jax.nn.log_sigmoid`` or ``jnp.logaddexp(0, x)`` gives the same numbers, from several
exponentials and logarithms; in a logit these are most of the work, and this form takes about half the time.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

__all__ = ["log_sigmoid", "softplus"]


@jax.custom_jvp
def log_sigmoid(x: Any) -> jax.Array:
    """Return log(1 / (1 + exp(-x))), elementwise, without overflow, with fast derivatives.

    Args:
        x: real or infinite, of any shape.

    Returns:
        An array of the same shape, at most 0; NaN at NaN.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> from mlejax.special import log_sigmoid
        >>> with jax.enable_x64(True):
        ...     print(log_sigmoid(jnp.array([-800.0, 0.0])), jax.grad(log_sigmoid)(0.0), jax.hessian(log_sigmoid)(0.0))
        [-8.00000000e+02 -6.93147181e-01] 0.5 -0.25
    """
    x = jnp.asarray(x)
    return jnp.minimum(x, 0.0) - jnp.log1p(jnp.exp(-jnp.abs(x)))


@jax.custom_jvp
def _complement(x: Any) -> jax.Array:
    """Return 1 - 1 / (1 + exp(-x)), elementwise, without cancellation."""
    e = jnp.exp(-jnp.abs(x))
    return jnp.where(x >= 0, e, 1.0) / (1.0 + e)


@log_sigmoid.defjvp
def _log_sigmoid_jvp(primals: tuple[Any], tangents: tuple[Any]) -> tuple[Any, Any]:
    (x,), (t,) = primals, tangents
    return log_sigmoid(x), _complement(x) * t


@_complement.defjvp
def _complement_jvp(primals: tuple[Any], tangents: tuple[Any]) -> tuple[Any, Any]:
    (x,), (t,) = primals, tangents
    s = _complement(x)
    return s, -s * _complement(-x) * t


def softplus(x: Any) -> jax.Array:
    """Return log(1 + exp(x)), elementwise, without overflow: ``-log_sigmoid(-x)``.

    Args:
        x: real or infinite, of any shape.

    Returns:
        An array of the same shape, at least 0, with the derivatives of ``log_sigmoid``; NaN at NaN.

    Example:
        >>> from mlejax.special import softplus
        >>> round(float(softplus(0.0)), 6)
        0.693147
    """
    return -log_sigmoid(-jnp.asarray(x))
