"""Rounding of single operations: the value in NumPy, and a first-order bound of its absolute error.

A rule is called with the operands and then their bounds, in units of rounding (2**-53); a bound of None says that the operand
is exact.  It returns the value and its bound: for each operand |partial derivative| times its bound, and the rounding of the
operation itself.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, TypeAlias

import jax
import numpy as np
from jax.typing import ArrayLike

from mlejax.execution.trace.rounding import rounding_incomplete
from mlejax.execution.trace.rounding.rounding_functions import (
    FUNCTIONS,
    own_rounding_of_function,
    polygamma,
    polygamma_most,
)
from mlejax.shapes import Host

__all__ = ["Bound", "Operation", "Rule", "exact_factor", "scalar_rule", "sum_units"]

Bound: TypeAlias = Any  # an array of the shape of the value, or None for an exact value
Rule: TypeAlias = Callable[..., tuple[Any, Bound]]


SMALLEST = 2.0**-1022  # positive normal number of float64: XLA may set smaller ones to 0
UNDERFLOW = SMALLEST * 2.0**53  # in units of rounding


class Operation(NamedTuple):
    """One operation of a traced program, from which its rule is made.

    Attributes:
        name: name of the primitive.
        params: parameters of the equation.
        shapes: shapes of the operands.
        constants: values of the operands that are constant, None for the others.
        out: shape and type of the first result.
    """

    name: str
    params: Mapping[str, Any]
    shapes: Sequence[tuple[int, ...]]
    constants: Sequence[Any]
    out: jax.core.ShapedArray


def sum_units(n: int) -> float:
    """Return the rounding of a sum of n terms, in units of 2**-53 of the sum of absolute terms: XLA adds in windows of 32."""
    depth, left = 0, n
    while left > 1:
        depth, left = depth + min(left, 32) - 1, -(-left // 32)
    return float(depth)


def exact_factor(constant: ArrayLike | None) -> bool:
    """Return True if products with this constant are exact: all its entries are floats that are 0 or powers of two (up to sign);
    False for None, an operand that is no constant.
    """
    if constant is None or np.asarray(constant).dtype.kind != "f":
        return False
    mantissa = abs(np.frexp(constant)[0])
    return bool(np.all((mantissa == 0.5) | (mantissa == 0.0)))


def _sum(bound: Bound, *others: Bound) -> Bound:
    """Return the sum of ``bound`` and the other bounds, added in place; a bound of None counts as 0."""
    for other in others:
        if other is not None:
            bound += other
    return bound


# ---- arithmetic


def _add(a: Host, b: Host, ea: Bound, eb: Bound) -> tuple[Any, Bound]:
    v = a + b
    return v, _sum(abs(v), ea, eb)


def _sub(a: Host, b: Host, ea: Bound, eb: Bound) -> tuple[Any, Bound]:
    v = a - b
    return v, _sum(abs(v), ea, eb)


def _mul(a: Host, b: Host, ea: Bound, eb: Bound) -> tuple[Any, Bound]:
    v = a * b
    e = abs(v)
    if ea is not None:
        e += abs(b) * ea
    if eb is not None:
        e += abs(a) * eb
    return v, e


def _mul_exact(a: Host, b: Host, ea: Bound, eb: Bound) -> tuple[Any, Bound]:
    v, e = a * b, None
    if ea is not None:
        e = abs(b) * ea
    elif eb is not None:
        e = abs(a) * eb
    return v, e


def _div(a: Host, b: Host, ea: Bound, eb: Bound) -> tuple[Any, Bound]:
    v = a / b
    e = abs(v)
    size = abs(b)
    if eb is not None:
        e *= 1.0 + eb / size
    if ea is not None:
        e += ea / size
    return v, e


def _div_exact(a: Host, b: Host, ea: Bound, eb: Bound) -> tuple[Any, Bound]:
    return a / b, None if ea is None else ea / abs(b)


def _pow(a: Host, b: Host, ea: Bound, eb: Bound) -> tuple[Any, Bound]:
    v = np.power(a, b)
    e = 2.0 * abs(v)
    if ea is not None:
        e = e + abs(b * np.power(a, np.where(b == 0, 0.0, b - 1.0))) * ea  # a**0 is 1, also where a is 0
    if eb is not None:
        e = e + np.where(eb == 0, 0.0, abs(v * np.where(v == 0, 0.0, np.log(abs(a)))) * eb)
    return v, e


def _atan2(a: Host, b: Host, ea: Bound, eb: Bound) -> tuple[Any, Bound]:
    v, square = np.arctan2(a, b), a * a + b * b
    of_a = None if ea is None else abs(b) / square * ea
    return v, _sum(4.0 * abs(v), of_a, None if eb is None else abs(a) / square * eb)


def _integer_power(operation: Operation) -> Rule:
    power = int(operation.params["y"])
    n = abs(power)

    def rule(a: Host, ea: Bound) -> tuple[Any, Bound]:
        base = 1.0 / a if power < 0 else a
        v, square, left = None, base, n
        while left:
            if left & 1:
                v = square if v is None else v * square
            left >>= 1
            square = square * square if left else square
        v = np.ones_like(a) if v is None else v
        e = n * abs(v)
        if ea is None:
            return v, e
        slope = np.ones_like(a) if power == 1 else n * abs(v / a) if power < 0 else n * abs(a) ** (n - 1)
        return v, e + slope * ea

    return rule


def _square(a: Host, ea: Bound) -> tuple[Any, Bound]:
    v = a * a
    return v, v if ea is None else v + 2.0 * abs(a) * ea


def _neg(a: Host, ea: Bound) -> tuple[Any, Bound]:
    return -a, ea


def _abs(a: Host, ea: Bound) -> tuple[Any, Bound]:
    return abs(a), ea


def _chosen(pick: Callable[[Any, Any], Any], function: Callable[[Any, Any], Any]) -> Rule:
    def rule(a: Host, b: Host, ea: Bound, eb: Bound) -> tuple[Any, Bound]:
        v = function(a, b)
        if ea is None and eb is None:
            return v, None
        e = np.where(pick(a, b), 0.0 if ea is None else ea, 0.0 if eb is None else eb)
        return v, e if e.shape == np.shape(v) else np.broadcast_to(e, np.shape(v))

    return rule


def _remainder(a: Host, b: Host, ea: Bound, eb: Bound) -> tuple[Any, Bound]:
    """Return fmod(a, b) and its bound; the operation itself has no rounding."""
    if ea is None and eb is None:
        return np.fmod(a, b), None
    return np.fmod(a, b), (0.0 if ea is None else ea) + (0.0 if eb is None else abs(np.trunc(a / b)) * eb)


def _clamp(low: Host, a: Host, high: Host, *bounds: Bound) -> tuple[Any, Bound]:
    v, e = _MAX(low, a, *bounds[:2])
    return _MIN(v, high, e, bounds[2])


_MAX = _chosen(np.greater_equal, np.maximum)
_MIN = _chosen(np.less_equal, np.minimum)


def _with_underflow(rule: Rule, n_factors: int) -> Rule:
    """Return the rule with a bound that also covers underflow: a result below the smallest normal number, although no factor is
    0.

    The square of 1 / (1 + exp(407)) is 0; times exp(407)**2 it would be 1, as in the second derivative of log(1 + exp(e)).

    Args:
        rule: the rule of a product, a quotient, a power or an exponential.
        n_factors: number of operands, from the first on, that are factors: the result is 0 where one of them is 0.
    """

    def guarded(*operands: Host) -> tuple[Any, Bound]:
        v, e = rule(*operands)
        low = abs(v) < SMALLEST
        if e is None or not low.any():
            return v, e
        for factor in operands[:n_factors]:
            low = low & (factor != 0)
        return v, e + np.where(low, UNDERFLOW, 0.0)

    return guarded


# ---- functions


def _unary(name: str) -> Rule:
    """Return the rule of a function of one operand."""
    function, slope = FUNCTIONS[name]

    def rule(a: Host, ea: Bound) -> tuple[Any, Bound]:
        v = function(a)
        e = own_rounding_of_function(name, a, v, np)
        return v, e if ea is None else e + abs(slope(a, v)) * ea

    return rule


def _polygamma_rule(m: Host, a: Host, _: Bound, ea: Bound) -> tuple[Any, Bound]:
    v = polygamma(m, a)
    e = 16.0 * abs(v)
    return v, e if ea is None else e + polygamma_most(m + 1.0, a) * ea


_RULES: dict[str, Rule] = {
    "square": _square,
    "neg": _neg,
    "abs": _abs,
    "add": _add,
    "add_any": _add,
    "sub": _sub,
    "mul": _mul,
    "div": _div,
    "pow": _pow,
    "atan2": _atan2,
    "max": _MAX,
    "min": _MIN,
    "rem": _remainder,
    "polygamma": _polygamma_rule,
    "clamp": _clamp,
    **rounding_incomplete.RULES,
}

# how many of the first operands make a result 0 where they are 0; where none is, a result of 0 is an underflow
_UNDERFLOWING = {"mul": 2, "div": 1, "integer_pow": 1, "square": 1, "pow": 1, "exp": 0, "exp2": 0, "erfc": 0, "logistic": 0}

# ---- operations without rounding, on exact operands or on numbers that are no floats


def _exact(function: Callable[..., Any]) -> Rule:
    def rule(*operands: Host) -> tuple[Any, Bound]:
        return function(*operands[: len(operands) // 2]), None

    return rule


def _integer_division(a: Host, b: Host) -> Host:
    return np.trunc(a / b).astype(np.result_type(a))


_EXACT: dict[str, Callable[..., Any]] = {
    "eq": np.equal,
    "ne": np.not_equal,
    "lt": np.less,
    "le": np.less_equal,
    "gt": np.greater,
    "ge": np.greater_equal,
    "and": np.bitwise_and,
    "or": np.bitwise_or,
    "xor": np.bitwise_xor,
    "not": np.invert,
    "is_finite": np.isfinite,
    "sign": np.sign,
    "floor": np.floor,
    "ceil": np.ceil,
}
_TO_EVEN = 1  # the rounding method of `lax.round` that is NumPy's
_INTEGER: dict[str, Callable[..., Any]] = {
    "add": np.add,
    "sub": np.subtract,
    "mul": np.multiply,
    "div": _integer_division,
    "rem": np.fmod,
    "max": np.maximum,
    "min": np.minimum,
    "neg": np.negative,
    "abs": abs,
    "square": np.square,
    "clamp": lambda low, a, high: np.minimum(np.maximum(low, a), high),
}


def _converted(operation: Operation) -> Rule:
    dtype = np.dtype(operation.params["new_dtype"])

    def rule(a: Host, ea: Bound) -> tuple[Any, Bound]:
        return np.asarray(a).astype(dtype, copy=False), ea if dtype.kind == "f" else None

    return rule


def _bits(operation: Operation) -> Rule | None:
    """Return the rule of ``bitcast_convert_type``, whose bound stays with the bits; None for a type of another size.

    JAX 0.12 clears the lower half of the bits of x, and computes x**2 exactly as a sum with the square of what is left.  Such a
    function is piecewise constant, and exact like `floor`.
    """
    dtype, same_size = operation.out.dtype, operation.shapes[0] == operation.out.shape
    return (lambda a, ea: (np.asarray(a).view(dtype)[()], ea)) if same_size else None


_IDENTITY = frozenset({"copy", "copy_p", "stop_gradient", "reduce_precision", "real"})


def scalar_rule(operation: Operation) -> Rule | None:
    """Return the rule of an elementwise operation, which gives value and rounding bound from those of the operands; None if there
    is none for this operation or type."""
    name, kind = operation.name, operation.out.dtype.kind
    if name in _EXACT:
        return _exact(_EXACT[name])
    if name == "round":
        to_even = int(operation.params["rounding_method"]) == _TO_EVEN
        return _exact(np.rint if to_even else lambda a: np.copysign(np.floor(abs(a) + 0.5), a))
    if name == "convert_element_type":
        return _converted(operation) if kind in "fiub" else None
    if name == "bitcast_convert_type":
        return _bits(operation)
    if name in _IDENTITY:
        return lambda a, ea: (a, ea)
    if kind in "iub":
        return _exact(_INTEGER[name]) if name in _INTEGER else None
    if kind != "f":
        return None
    rule = _float_rule(operation)
    return _with_underflow(rule, _UNDERFLOWING[name]) if rule is not None and name in _UNDERFLOWING else rule


def _float_rule(operation: Operation) -> Rule | None:
    """Return the rule of an elementwise operation with a floating-point result, as `scalar_rule`; None if there is none."""
    name = operation.name
    if name == "integer_pow":
        return _integer_power(operation)
    if name in ("mul", "div") and any(exact_factor(c) for c in operation.constants[name == "div" :]):
        return _mul_exact if name == "mul" else _div_exact
    if name in FUNCTIONS:
        return _unary(name)
    return _RULES.get(name)
