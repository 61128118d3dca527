"""Rounding of the incomplete gamma functions P(a, x), Q = 1 - P and dP/da, which JAX sums as series and continued fractions.

Both are multiplied by x**a exp(-x) / Gamma(a), whose exponent has the rounding of its terms.  Measured against 30 digits.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from mlejax.shapes import Either, Host

TERMS_SUFFICE = 1e5  # JAX sums at most 2000 terms, which are not enough for larger a
STEP, STEP_OF_SLOPE = 1e-5, 1e-3  # of differences in a, relative


def own_rounding(name: str, a: Either, x: Either, v: Either, lgamma: Callable[[Any], Any], xp: Any) -> Any:
    """Return a bound of the rounding of ``igamma``, ``igammac`` or ``igamma_grad_a``, in units of 2**-53: inf for a above 1e5;
    0 for ``igamma`` and ``igammac`` where x <= 0 or x is inf, since they are exact there.

    Args:
        name: name of the primitive.
        a, x: its operands.
        v: its value.
        lgamma: the log-gamma function of ``xp``.
        xp: ``numpy`` or ``jax.numpy``.
    """
    size = xp.where(a > TERMS_SUFFICE, xp.inf, 24.0 + 4.0 * abs(a * xp.log(x)) + 2.0 * (x + a) + 8.0 * abs(lgamma(a)))
    if name == "igamma_grad_a":
        return 4.0 * size * abs(v)
    by_fraction = (x > 1.0) & (x > a)  # then Q is computed and P is 1 - Q, else the reverse
    other = by_fraction if name == "igamma" else ~by_fraction
    e = xp.where(other, size * abs(1.0 - v) + 1.0, size * abs(v))
    return xp.where((x <= 0.0) | (x == xp.inf), 0.0, e)


def _values(name: str, a: Host, x: Host) -> tuple[Any, Any, Any]:
    """Return the value of the function ``name`` and the absolute values of its derivatives in a and x."""
    from scipy import special

    P = special.gammainc
    density = np.exp((a - 1.0) * np.log(x) - x - special.gammaln(a))
    h = a * STEP
    in_a = (P(a + h, x) - P(a - h, x)) / (2.0 * h)
    if name != "igamma_grad_a":
        return (P if name == "igamma" else special.gammaincc)(a, x), abs(in_a), density
    h = a * STEP_OF_SLOPE
    bend = (P(a + h, x) - 2.0 * P(a, x) + P(a - h, x)) / h**2
    return in_a, abs(bend), density * abs(np.log(x) - special.psi(a))


def _rule(name: str) -> Callable[..., tuple[Any, Any]]:
    def rule(a: Host, x: Host, ea: Any, ex: Any) -> tuple[Any, Any]:
        from scipy import special

        v, in_a, in_x = _values(name, a, x)
        e = own_rounding(name, a, x, v, special.gammaln, np)
        e = e if ea is None else e + in_a * ea
        return v, e if ex is None else e + in_x * ex

    return rule


RULES = {name: _rule(name) for name in ("igamma", "igammac", "igamma_grad_a")}
