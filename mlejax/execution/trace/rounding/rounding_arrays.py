"""Rounding of operations on whole arrays: rearrangement, selection, indexing; sums are in `rounding_sums`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from mlejax.execution.trace.rounding.rounding_rules import Bound, Operation, Rule
from mlejax.shapes import Host

from . import rounding_sums


def _moved(make: Callable[[Operation], Callable[[Any], Any]]) -> Callable[[Operation], Rule]:
    """Return the rule of an operation that rearranges its operand (reshape, slice, ...): the bound is rearranged alike.

    ``make``: function that returns the operation as a function of its operands; the same in `_joined` and `_indexed`.
    """

    def of(operation: Operation) -> Rule:
        function = make(operation)
        return lambda a, ea: (function(a), None if ea is None else function(ea))

    return of


def _zeros(values: Sequence[Any], bounds: Sequence[Bound]) -> list[Any]:
    return [np.zeros(np.shape(v)) if e is None else e for v, e in zip(values, bounds, strict=True)]


def _joined(make: Callable[[Operation], Callable[..., Any]]) -> Callable[[Operation], Rule]:
    """Return the rule of an operation that joins several operands (concatenate, stack): the bounds are joined alike."""

    def of(operation: Operation) -> Rule:
        function = make(operation)

        def rule(*operands: Host) -> tuple[Any, Bound]:
            values, bounds = operands[: len(operands) // 2], operands[len(operands) // 2 :]
            exact = all(e is None for e in bounds)
            return function(*values), None if exact else function(*_zeros(values, bounds))

        return rule

    return of


def _indexed(make: Callable[[Operation], Callable[..., Any]]) -> Callable[[Operation], Rule]:
    """Return the rule of an operation that indexes its first operand by the others: the bound is indexed alike."""

    def of(operation: Operation) -> Rule:
        function = make(operation)

        def rule(a: Host, *others: Host) -> tuple[Any, Bound]:
            n = len(others) // 2
            ea = others[n]
            return function(a, *others[:n]), None if ea is None else function(ea, *others[:n])

        return rule

    return of


# ---- moving numbers


def _reshape(operation: Operation) -> Callable[[Any], Any]:
    shape = operation.out.shape
    return lambda a: a.reshape(shape)


def _broadcast(operation: Operation) -> Callable[[Any], Any]:
    shape = operation.out.shape
    kept = [1] * len(shape)
    for at, size in zip(operation.params["broadcast_dimensions"], operation.shapes[0], strict=True):
        kept[at] = size
    if tuple(kept) == shape:
        return lambda a: a.reshape(shape)
    return lambda a: np.broadcast_to(a.reshape(kept), shape)


def _transpose(operation: Operation) -> Callable[[Any], Any]:
    return lambda a: np.transpose(a, operation.params["permutation"])


def _slice(operation: Operation) -> Callable[[Any], Any]:
    p = operation.params
    strides = p["strides"] or [1] * len(p["start_indices"])
    at = tuple(slice(*three) for three in zip(p["start_indices"], p["limit_indices"], strides, strict=True))
    return lambda a: a[at]


def _reverse(operation: Operation) -> Callable[[Any], Any]:
    return lambda a: np.flip(a, operation.params["dimensions"])


def _concatenate(operation: Operation) -> Callable[..., Any]:
    return lambda *parts: np.concatenate(parts, axis=operation.params["dimension"])


def _stack(operation: Operation) -> Callable[..., Any]:
    return lambda *parts: np.stack(parts, axis=operation.params["axis"])


def _pad(operation: Operation) -> Rule:
    shape, at, crop = operation.out.shape, [], []
    for (low, high, inside), size in zip(operation.params["padding_config"], operation.shapes[0], strict=True):
        spread = np.arange(size) * (inside + 1) + low
        kept = np.flatnonzero((spread >= 0) & (spread < size + max(size - 1, 0) * inside + low + high))
        first, last = (int(kept[0]), int(kept[-1])) if kept.size else (0, -1)
        crop.append(slice(first, last + 1))
        start = int(spread[first]) if kept.size else 0
        at.append(slice(start, start + (last - first) * (inside + 1) + 1 if kept.size else start, inside + 1))
    to, of = tuple(at), tuple(crop)

    def filled(a: Host, fill: Host | float) -> Host:
        out = np.empty(shape, a.dtype)
        out[...] = fill
        out[to] = a[of]
        return out

    def rule(a: Host, fill: Host, ea: Bound, ef: Bound) -> tuple[Any, Bound]:
        if ea is None and ef is None:
            return filled(a, fill), None
        return filled(a, fill), filled(np.zeros(a.shape) if ea is None else ea, 0.0 if ef is None else ef)

    return rule


def _pieces(cut: Callable[[Operation], Callable[[Any], tuple[Any, ...]]]) -> Callable[[Operation], Rule]:
    """Return the rounding rule of an operation that divides its operand into several results: the bound of the operand is
    divided in the same way.
    """

    def of(operation: Operation) -> Rule:
        function = cut(operation)

        def rule(a: Host, ea: Bound) -> tuple[Any, Any]:
            parts = function(a)
            return parts, (None,) * len(parts) if ea is None else function(ea)

        return rule

    return of


def _split(operation: Operation) -> Callable[[Any], tuple[Any, ...]]:
    ends = np.cumsum(operation.params["sizes"])[:-1]
    return lambda a: tuple(np.split(a, ends, axis=operation.params["axis"]))


def _unstack(operation: Operation) -> Callable[[Any], tuple[Any, ...]]:
    return lambda a: tuple(np.moveaxis(a, operation.params["axis"], 0))


def _together(operation: Operation) -> Rule:
    """Return the rule of ``optimization_barrier``, whose results are its operands."""
    n = len(operation.shapes)
    return lambda *operands: (operands[:n], operands[n:])


def _iota(operation: Operation) -> Rule:
    shape, at = operation.out.shape, operation.params["dimension"]
    kept = [shape[at] if i == at else 1 for i in range(len(shape))]
    value = np.broadcast_to(np.arange(shape[at], dtype=operation.out.dtype).reshape(kept), shape)
    return lambda *_: (value, None)


# ---- choices


def _select(operation: Operation) -> Rule:
    def choose(which: Host, cases: Sequence[Any]) -> Host:
        if len(cases) == 2:
            return np.where(which, cases[1], cases[0])
        return np.choose(np.broadcast_to(which, np.shape(cases[0])), cases)

    def rule(which: Host, *others: Host) -> tuple[Any, Bound]:
        n = len(others) // 2
        cases, bounds = others[:n], others[n + 1 :]
        if all(e is None for e in bounds):
            return choose(which, cases), None
        if np.ndim(which) and n == 2:
            bounds = tuple(0.0 if e is None else e for e in bounds)
        else:
            bounds = tuple(_zeros(cases, bounds))
        return choose(which, cases), choose(which, bounds)

    return rule


def _sort(operation: Operation) -> Rule | None:
    if operation.params["num_keys"] != 1:
        return None
    axis = operation.params["dimension"]

    def rule(*operands: Host) -> tuple[Any, Any]:
        n = len(operands) // 2
        order = np.argsort(operands[0], axis=axis, kind="stable")
        moved = [None if a is None else np.take_along_axis(a, order, axis) for a in operands]
        return tuple(moved[:n]), tuple(moved[n:])

    return rule


# ---- indexing


def _dynamic_slice(operation: Operation) -> Callable[..., Any]:
    sizes, shape = operation.params["slice_sizes"], operation.shapes[0]

    def function(a: Host, *starts: Host) -> Host:
        first = [int(np.clip(s, 0, n - m)) for s, n, m in zip(starts, shape, sizes, strict=True)]
        return a[tuple(slice(f, f + m) for f, m in zip(first, sizes, strict=True))]

    return function


def _places(
    operation: Operation, starts: Host, windows: Sequence[int], sizes: Sequence[int], shape: Sequence[int], dims: Any
) -> tuple[tuple[Any, ...], Any]:
    """Return the places in the operand of each entry of a gather's result or a scatter's updates: one index array for each axis
    of the operand, which broadcast to ``shape``; and a mask, True where the whole window lies inside the operand.  Other windows
    are shifted inside.

    Args:
        operation: the gather or scatter.
        starts: the array of start indices (..., k).
        windows: axes of the result that run over a window of the operand.
        sizes: sizes of the windows along the axes of the operand that are neither collapsed nor batched.
        shape: shape of the result (gather) or of the updates (scatter).
        dims: (collapsed axes, axes of the operand that the k indices refer to, batched axes of the operand, those of starts).
    """
    collapsed, addressed, batching, batching_starts = dims
    others = [i for i in range(len(shape)) if i not in windows]
    operand = operation.shapes[0]
    kept = [d for d in range(len(operand)) if d not in collapsed and d not in batching]
    inside: Any = np.True_
    places: list[Any] = []
    for d, size in enumerate(operand):
        place: Any = np.int64(0)
        window = 1
        if d in kept:
            axis = windows[kept.index(d)]
            window = sizes[kept.index(d)]
            place = np.arange(window).reshape([window if i == axis else 1 for i in range(len(shape))])
        if d in addressed:
            start = np.asarray(starts[..., addressed.index(d)], np.int64)
            start = start.reshape([start.shape[others.index(i)] if i in others else 1 for i in range(len(shape))])
            good = (start >= 0) & (start <= size - window)
            inside = inside & good
            place = place + np.where(good, start, np.clip(start, 0, size - window))
        if d in batching:
            axis = others[batching_starts[batching.index(d)]]
            place = np.arange(size).reshape([size if i == axis else 1 for i in range(len(shape))])
        places.append(place)
    return tuple(places), inside


def _gather(operation: Operation) -> Callable[..., Any]:
    p, shape = operation.params, operation.out.shape
    numbers = p["dimension_numbers"]
    collapsed, batching = numbers.collapsed_slice_dims, numbers.operand_batching_dims
    sizes = [s for d, s in enumerate(p["slice_sizes"]) if d not in collapsed and d not in batching]
    dims = (collapsed, numbers.start_index_map, batching, numbers.start_indices_batching_dims)
    fills = "FILL" in str(p["mode"])

    def function(a: Host, starts: Host) -> Host:
        places, inside = _places(operation, starts, numbers.offset_dims, sizes, shape, dims)
        out = np.broadcast_to(np.asarray(a)[places], shape)
        return np.where(inside, out, np.nan if p["fill_value"] is None else p["fill_value"]) if fills else out

    return function


def _scatter_add(operation: Operation) -> Rule:
    numbers, updates_shape = operation.params["dimension_numbers"], operation.shapes[2]
    collapsed, batching = numbers.inserted_window_dims, numbers.operand_batching_dims
    sizes = [updates_shape[i] for i in numbers.update_window_dims]
    dims = (collapsed, numbers.scatter_dims_to_operand_dims, batching, numbers.scatter_indices_batching_dims)
    drops = "CLIP" not in str(operation.params["mode"])

    def added(a: Host, starts: Host, updates: Host) -> Host:
        places, inside = _places(operation, starts, numbers.update_window_dims, sizes, updates_shape, dims)
        out = np.array(a)
        updates = np.where(inside, updates, 0.0) if drops else np.asarray(updates)
        np.add.at(out, tuple(np.broadcast_to(place, updates_shape) for place in places), updates)
        return out

    def rule(a: Host, starts: Host, updates: Host, ea: Bound, _: Bound, eu: Bound) -> tuple[Any, Bound]:
        most = added(np.zeros(np.shape(a)), starts, np.ones(updates_shape))  # additions at each place
        own = most * added(abs(a), starts, abs(updates))
        first, more = _zeros([a, updates], [ea, eu])
        carried = added(first, starts, more)
        return added(a, starts, updates), own + carried

    return rule


RULES: dict[str, Callable[[Operation], Rule | None]] = {
    "reshape": _moved(_reshape),
    "squeeze": _moved(_reshape),
    "expand_dims": _moved(_reshape),
    "broadcast_in_dim": _moved(_broadcast),
    "transpose": _moved(_transpose),
    "slice": _moved(_slice),
    "rev": _moved(_reverse),
    "concatenate": _joined(_concatenate),
    "stack": _joined(_stack),
    "pad": _pad,
    "split": _pieces(_split),
    "unstack": _pieces(_unstack),
    "optimization_barrier": _together,
    "iota": _iota,
    "platform_index": lambda operation: lambda: (np.int32(0), None),  # the branch is chosen when a program is entered
    "select_n": _select,
    "sort": _sort,
    "dynamic_slice": _indexed(_dynamic_slice),
    "gather": _indexed(_gather),
    "scatter-add": _scatter_add,
    **rounding_sums.RULES,
}
