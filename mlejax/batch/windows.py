"""Lanes read where they lie: a chunk of data sets as a window on the table that holds them.

XLA takes an array of NumPy without a copy only where it begins at a multiple of 64 bytes, and a chunk of data sets begins
anywhere. So a program gets a flat view that begins a few numbers before its chunk, and how many these are, and cuts its blocks of
lanes out of that, which it does anyway.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import numpy as np
from jax import lax

from mlejax.data import aligned

ITEM = 8  # bytes of a number
STEP = 64 // ITEM  # numbers between places where a view may begin


@partial(jax.tree_util.register_dataclass, data_fields=["values", "shift"], meta_fields=["shape"])
@dataclass(frozen=True)
class Window:
    """The lanes of a chunk, one after the other.

    Attributes:
        values: (C * size of a lane + STEP,) numbers.
        shift: () where in them the first lane begins.
        shape: of one lane.
    """

    values: Any
    shift: Any
    shape: tuple[int, ...]

    def block(self, first: Any, width: int) -> Any:
        """Some lanes, (width, ...)."""
        each = math.prod(self.shape)
        return lax.dynamic_slice_in_dim(self.values, self.shift + first * each, width * each).reshape(width, *self.shape)


def can_be_window(leaf: np.ndarray) -> bool:
    """Whether lanes of this table can be read where they lie."""
    whole = leaf.flags.c_contiguous and leaf.flags.aligned and leaf.size > 0
    return whole and leaf.dtype in (np.dtype(np.float64), np.dtype(np.int64))


def _aligned_from(flat: np.ndarray) -> int:
    """The first number of a flat array at a multiple of 64 bytes."""
    return -(flat.ctypes.data // ITEM) % STEP


def within_reach(leaf: np.ndarray, size: int, capacity: int) -> tuple[int, int]:
    """The run of lanes that a view can hold: not those that begin or end within a step of the ends of the table.

    >>> table = aligned((40, 3), np.float64)
    >>> within_reach(table, 4, 2), within_reach(table[1:], 4, 2)
    ((0, 10), (1, 9))
    """
    flat, each = leaf.reshape(-1), size * math.prod(leaf.shape[1:])
    from_, n = _aligned_from(flat), capacity * each + STEP
    if flat.size - from_ < n:
        return 0, 0
    return -(-from_ // each), (from_ + (flat.size - n - from_) // STEP * STEP + n) // each


def window(leaf: np.ndarray, lanes: np.ndarray, size: int, capacity: int, worked: int) -> Window:
    """Lanes of ``size`` rows of a table (R, ...), in which lane i begins at row i * size.

    Args:
        lanes: which, at most ``capacity``. A run within reach is a view, others are copied.
        worked: how many a program looks at; those too many repeat the first one or are the next in the table.
    """
    shape = (size, *leaf.shape[1:])
    each = math.prod(shape)
    n = capacity * each + STEP
    flat = leaf.reshape(-1)
    begin, end = int(lanes[0]) * each, (int(lanes[-1]) + 1) * each
    from_ = _aligned_from(flat)
    follow = end - begin == each * len(lanes) and bool((np.diff(lanes) == 1).all())
    start = from_ + min((begin - from_) // STEP, (flat.size - n - from_) // STEP) * STEP
    if follow and start >= 0 and start + n >= begin + worked * each:
        return Window(flat[start : start + n], np.int32(begin - start), shape)
    values = aligned((n,), leaf.dtype)
    part = values[: capacity * each].reshape(capacity, each)
    table = flat.reshape(-1, each)
    part[: len(lanes)] = table[lanes[0] : lanes[-1] + 1] if follow else table[lanes]
    part[len(lanes) : worked] = part[0]
    return Window(values, np.int32(0), shape)
