"""The functions cdf, sf, logcdf and logsf of a distribution, chosen by name, from one of its tails."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from mlejax.special.kernels import log1mexp, one_minus_exp

# Values of each function below and above the support.
ENDS = {
    "logpdf": (-jnp.inf, -jnp.inf),
    "cdf": (0.0, 1.0),
    "sf": (1.0, 0.0),
    "logcdf": (-jnp.inf, 0.0),
    "logsf": (0.0, -jnp.inf),
}
MIRROR = {"cdf": "sf", "sf": "cdf", "logcdf": "logsf", "logsf": "logcdf"}


def by_ends(kind: str, inside: jax.Array, legal: jax.Array, low: jax.Array, value: jax.Array) -> jax.Array:
    """Return the function ``kind`` of a distribution: ``value`` inside of its support, the constants of ``ENDS`` outside, NaN
    where the parameters are not valid.

    Args:
        kind: a key of ``ENDS``.
        inside: True where x is inside of the support and the parameters are valid.
        legal: True where the parameters are valid and x is not NaN.
        low: True where x is below the support; where it is False, and ``inside`` too, x is above.
        value: the function inside of the support, an array of the same shape.
    """
    below, above = ENDS[kind]
    return jnp.where(inside, value, jnp.where(legal, jnp.where(low, below, above), jnp.nan))


def of_exponential(kind: str, t: jax.Array) -> jax.Array:
    """Return cdf, sf, logcdf or logsf (``kind``) of the distribution whose cdf is 1 - exp(-t), t >= 0, elementwise."""
    if kind == "logcdf":
        return log1mexp(t)
    return -t if kind == "logsf" else jnp.exp(-t) if kind == "sf" else one_minus_exp(t)


def of_gumbel(kind: str, t: jax.Array) -> jax.Array:
    """Return cdf, sf, logcdf or logsf (``kind``) of the Gumbel distribution, whose cdf is exp(-exp(-t)), elementwise."""
    u = jnp.exp(-t)
    if kind == "logsf":
        # log(1 - exp(-u)) = -t - u/2 + u^2/24 - ... far up, also where u is below the smallest number.
        far = t > 12.0
        return jnp.where(far, -t - u * (0.5 - u / 24.0), log1mexp(jnp.where(far, 1.0, u)))
    return of_exponential(MIRROR[kind], u)


def side(kind: str, log_tail: jax.Array, upper: jax.Array) -> jax.Array:
    """Return cdf, sf, logcdf or logsf (``kind``) from ``log_tail``, the log-probability of one tail: of the upper one where
    ``upper`` is True, else of the lower one.
    """
    same = upper == kind.endswith("sf")
    if kind.startswith("log"):
        return jnp.where(same, log_tail, log1mexp(jnp.where(same, 1.0, -log_tail)))
    return jnp.where(same, jnp.exp(log_tail), one_minus_exp(-log_tail))
