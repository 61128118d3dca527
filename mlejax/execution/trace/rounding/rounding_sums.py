"""Rounding of reductions, running sums and products of matrices.

The rules of ``reduce_sum`` and ``dot_general`` take, before the operands, the rounding of the sum in units of 2**-53:
`sum_units` of the number of terms, which is the product of the lengths that :func:`terms` returns.  For a sum over all rows the
caller may give it at run time.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from mlejax.execution.trace.rounding.rounding_rules import Bound, Operation, Rule, exact_factor, sum_units
from mlejax.shapes import Host

SUMS = frozenset({"reduce_sum", "dot_general"})


def terms(operation: Operation) -> tuple[int, ...]:
    """Return the lengths of the axes over which a ``reduce_sum`` or ``dot_general`` sums."""
    p = operation.params
    axes = p["axes"] if operation.name == "reduce_sum" else p["dimension_numbers"][0][0]
    return tuple(operation.shapes[0][i] for i in axes)


def _reduce_sum(operation: Operation) -> Rule:
    axes = tuple(operation.params["axes"])
    exact = operation.out.dtype.kind != "f"

    def rule(units: Host, a: Host, _: Bound, ea: Bound) -> tuple[Any, Bound]:
        v = np.add.reduce(a, axis=axes)
        if exact:
            return v, None
        e = units * np.add.reduce(abs(a), axis=axes)
        return v, e if ea is None else e + np.add.reduce(ea, axis=axes)

    return rule


def _reduce_extreme(function: Callable[..., Any]) -> Callable[[Operation], Rule]:
    def of(operation: Operation) -> Rule:
        axes = tuple(operation.params["axes"])

        def rule(a: Host, ea: Bound) -> tuple[Any, Bound]:
            v = function(a, axis=axes, keepdims=True)
            e = None if ea is None else np.max(np.where(a == v, ea, 0.0), axis=axes)
            return np.reshape(v, operation.out.shape), e

        return rule

    return of


def _reduce_exact(function: Callable[..., Any]) -> Callable[[Operation], Rule]:
    def of(operation: Operation) -> Rule:
        axes = tuple(operation.params["axes"])
        return lambda a, ea: (function(a, axis=axes), None)

    return of


def _first_extreme(function: Callable[..., Any]) -> Callable[[Operation], Rule]:
    def of(operation: Operation) -> Rule:
        (axis,), dtype = operation.params["axes"], operation.params["index_dtype"]
        return lambda a, ea: (np.asarray(function(a, axis=axis), dtype), None)

    return of


def _reduce_product(operation: Operation) -> Rule:
    axes = tuple(operation.params["axes"])
    n = int(np.prod([operation.shapes[0][i] for i in axes], dtype=np.int64))

    def rule(a: Host, ea: Bound) -> tuple[Any, Bound]:
        v = np.prod(a, axis=axes)
        e = n * abs(v)
        return v, e if ea is None else e + abs(v) * np.sum(ea / abs(a), axis=axes)

    return rule


def _running_sum(operation: Operation) -> Rule:
    axis, backwards = operation.params["axis"], operation.params["reverse"]
    units = sum_units(operation.shapes[0][axis])
    turned = (lambda a: np.flip(a, axis)) if backwards else (lambda a: a)

    def rule(a: Host, ea: Bound) -> tuple[Any, Bound]:
        total = lambda x: turned(np.cumsum(turned(x), axis=axis))
        e = units * total(abs(a))
        return total(a), e if ea is None else e + total(ea)

    return rule


def _dot(operation: Operation) -> Rule:
    (ca, cb), (ba, bb) = operation.params["dimension_numbers"]
    sa, sb = operation.shapes[:2]
    fa = [i for i in range(len(sa)) if i not in ca and i not in ba]
    fb = [i for i in range(len(sb)) if i not in cb and i not in bb]
    size = lambda shape, axes: int(np.prod([shape[i] for i in axes], dtype=np.int64))
    batch, inner = [sa[i] for i in ba], size(sa, ca)
    order_a, shape_a = [*ba, *fa, *ca], [*batch, size(sa, fa), inner]
    order_b, shape_b = [*bb, *cb, *fb], [*batch, inner, size(sb, fb)]
    out = operation.out.shape
    selects = any(_selects(c, axes) for c, axes in zip(operation.constants[:2], (ca, cb), strict=True))
    turn_a, turn_b = order_a != list(range(len(sa))), order_b != list(range(len(sb)))

    def product(a: Host, b: Host) -> Host:
        a = (a.transpose(order_a) if turn_a else a).reshape(shape_a)
        b = (b.transpose(order_b) if turn_b else b).reshape(shape_b)
        return np.matmul(a, b).reshape(out)

    def rule(units: Host, a: Host, b: Host, _: Bound, ea: Bound, eb: Bound) -> tuple[Any, Bound]:
        if selects and ea is None and eb is None:
            return product(a, b), None
        size_a, size_b = abs(a), abs(b)
        e = 0.0 if selects else (units + 1.0) * product(size_a, size_b)
        if ea is not None:
            e = e + product(ea, size_b)
        return product(a, b), e if eb is None else e + product(size_a, eb)

    return rule


def _selects(constant: Any, axes: Sequence[int]) -> bool:
    """Return True if products with a constant matrix are exact: entries 0 or powers of two, at most one of them not 0 along the
    summed ``axes``; False for None, an operand that is no constant.
    """
    return exact_factor(constant) and bool(np.all(np.count_nonzero(constant, axis=tuple(axes)) <= 1))


RULES: dict[str, Callable[[Operation], Rule | None]] = {
    "reduce_sum": _reduce_sum,
    "reduce_max": _reduce_extreme(np.max),
    "reduce_min": _reduce_extreme(np.min),
    "argmax": _first_extreme(np.argmax),
    "argmin": _first_extreme(np.argmin),
    "reduce_and": _reduce_exact(np.all),
    "reduce_or": _reduce_exact(np.any),
    "reduce_prod": _reduce_product,
    "cumsum": _running_sum,
    "dot_general": _dot,
}
