"""Functions of one operand: the value in NumPy, the derivative, and the rounding of the function itself.

The rounding was measured for XLA's functions on the CPU against 40 digits: `log1p` loses 8 bits near -0.41, and with it `atanh`
and `erf_inv`; `erfc` is 1 - erf below 1 and loses x**2 units in its tail; `sinh` and `cosh` are exp(|x| - log 2) for large |x|;
`lgamma` and `digamma` have absolute errors at their zeros.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from jax.typing import ArrayLike

from mlejax.shapes import Host

_2_PI = 2.0 / math.sqrt(math.pi)
_RELATIVE = {"expm1": 6.0, "sqrt": 2.0, "rsqrt": 2.0, "cbrt": 8.0, "tanh": 8.0, "bessel_i0e": 8.0, "bessel_i1e": 16.0}
_ABSOLUTE: dict[str, Callable[[Any, Any, Any], Any]] = {
    "exp2": lambda x, v, xp: abs(v) * (4.0 + abs(x)),
    "sinh": lambda x, v, xp: abs(v) * (6.0 + abs(x)),
    "cosh": lambda x, v, xp: abs(v) * (6.0 + abs(x)),
    "log1p": lambda x, v, xp: abs(v) * xp.where((x > -0.45) & (x < -0.34), 256.0, 4.0),
    "atanh": lambda x, v, xp: abs(v) * xp.where((abs(x) > 0.3) & (abs(x) < 0.5), 160.0, 4.0),
    "lgamma": lambda x, v, xp: 8.0 * abs(v) + 40.0,
    "digamma": lambda x, v, xp: 4.0 * abs(v) + 24.0,
    "erfc": lambda x, v, xp: (
        abs(v) * (4.0 + xp.where(v > 0.0, xp.maximum(x, 0.0), 0.0) ** 2)  # exact at inf and -inf
        + xp.where(abs(x) < 1.0, 3.0, 0.0)
    ),
    "erf_inv": lambda x, v, xp: (
        xp.where((abs(x) > 0.58) & (abs(x) < 0.68), 32.0, 4.0) * (abs(v) + abs(x) * xp.exp(v * v) / _2_PI)
    ),
}


def own_rounding_of_function(name: str, x: Any, v: Any, xp: Any) -> Any:
    """Return a bound of the rounding of the function itself, in units of 2**-53: four times the absolute value, unless the
    function is listed in `_ABSOLUTE` or `_RELATIVE`.

    Args:
        name: name of the primitive.
        x: its operand.
        v: its value.
        xp: ``numpy`` or ``jax.numpy``.
    """
    return _ABSOLUTE[name](x, v, xp) if name in _ABSOLUTE else _RELATIVE.get(name, 4.0) * abs(v)


def _special(name: str) -> Callable[..., Any]:
    def call(*args: Host) -> Host:
        from scipy import special

        return getattr(special, name)(*args)

    return call


def polygamma(m: Host, a: Host) -> Host:
    """Return the derivative of order m of the digamma function at a."""
    from scipy import special

    if np.ndim(m) == 0 and m == 0:
        return special.psi(a)
    return np.where(np.asarray(m) % 2 == 0, -1.0, 1.0) * special.gamma(m + 1.0) * special.zeta(m + 1.0, a)


def polygamma_most(m: ArrayLike, a: Host) -> Host:
    """Return an upper bound of |psi^(m)(a)| for a > 0, within a factor of two; inf elsewhere."""
    if np.ndim(m) == 0 and m == 0:
        most = abs(np.log(a)) + 1.0 / a
    else:
        from scipy import special

        most = special.gamma(m) * (1.0 + m / a) / a**m
    return np.where(a > 0, most, np.inf)


# the function in NumPy, and (operand, value) -> its derivative
FUNCTIONS: dict[str, tuple[Callable[..., Any], Callable[[Any, Any], Any]]] = {
    "exp": (np.exp, lambda a, v: v),
    "exp2": (np.exp2, lambda a, v: v * math.log(2.0)),
    "log": (np.log, lambda a, v: 1.0 / a),
    "log2": (np.log2, lambda a, v: 1.0 / (math.log(2.0) * a)),  # of JAX 0.12
    "log1p": (np.log1p, lambda a, v: 1.0 / (1.0 + a)),
    "expm1": (np.expm1, lambda a, v: v + 1.0),
    "tanh": (np.tanh, lambda a, v: 1.0 - v * v),
    "one_minus_square": (lambda a: (1.0 - a) * (1.0 + a), lambda a, v: 2.0 * a),  # of JAX 0.12, in the derivative of tanh
    "logistic": (lambda a: 1.0 / (1.0 + np.exp(-a)), lambda a, v: v * (1.0 - v)),
    "sin": (np.sin, lambda a, v: np.cos(a)),
    "cos": (np.cos, lambda a, v: np.sin(a)),
    "tan": (np.tan, lambda a, v: 1.0 + v * v),
    "asin": (np.arcsin, lambda a, v: 1.0 / np.sqrt(1.0 - a * a)),
    "acos": (np.arccos, lambda a, v: 1.0 / np.sqrt(1.0 - a * a)),
    "atan": (np.arctan, lambda a, v: 1.0 / (1.0 + a * a)),
    "sinh": (np.sinh, lambda a, v: np.cosh(a)),
    "cosh": (np.cosh, lambda a, v: np.sinh(a)),
    "asinh": (np.arcsinh, lambda a, v: 1.0 / np.sqrt(1.0 + a * a)),
    "acosh": (np.arccosh, lambda a, v: 1.0 / np.sqrt((a - 1.0) * (a + 1.0))),
    "atanh": (np.arctanh, lambda a, v: 1.0 / (1.0 - a * a)),
    "sqrt": (np.sqrt, lambda a, v: 0.5 / v),
    "rsqrt": (lambda a: 1.0 / np.sqrt(a), lambda a, v: 0.5 * v / a),
    "cbrt": (np.cbrt, lambda a, v: v / (3.0 * a)),
    "lgamma": (_special("gammaln"), lambda a, v: polygamma_most(0, a)),
    "digamma": (_special("psi"), lambda a, v: polygamma_most(1.0, a)),
    "erf": (_special("erf"), lambda a, v: _2_PI * np.exp(-a * a)),
    "erfc": (_special("erfc"), lambda a, v: _2_PI * np.exp(-a * a)),
    "erf_inv": (_special("erfinv"), lambda a, v: np.exp(v * v) / _2_PI),
    "bessel_i0e": (_special("i0e"), lambda a, v: _special("i1e")(a) - np.sign(a) * v),
    "bessel_i1e": (_special("i1e"), lambda a, v: _special("i0e")(a) - (np.sign(a) + 1.0 / a) * v),
}
