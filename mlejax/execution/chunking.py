"""Division of many data sets into chunks that fit into memory, and threads that evaluate them.

A *chunk* is what one call of a program gets; a *block* is ``width`` data sets of a chunk that the program works on together.

XLA reads an array of NumPy without a copy only if it begins at a multiple of 64 bytes, and a chunk of data sets in a table begins
anywhere.  A `ChunkView` is therefore a flat, aligned view that begins a few numbers before its chunk, and the number of these;
the program cuts its blocks out of it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple, Protocol, runtime_checkable

import jax
import numpy as np
from jax import lax

from mlejax.shapes import Count, Either, Host, Int, PyTree, Shaped

from . import lapack
from .devices import ALIGNMENT, aligned, free_memory, n_cores
from .limits import limits

ITEM = 8  # bytes of a number
STEP = ALIGNMENT // ITEM  # numbers between places where a view may begin


@dataclass(frozen=True)
class Budget:
    """Memory and threads for the evaluation of data sets in chunks.

    Attributes:
        memory: bytes for all chunks that are in memory at a time, on the host and on the device.
        workers: number of host threads.
        progress: True shows a progress bar, False none; None shows one in a terminal, for long work.
        given: True if the user set ``memory``; then it is an error if one data set needs more.
        most_at_once: largest number of data sets evaluated together; None for no bound.
    """

    memory: int
    workers: int
    progress: bool | None = None
    given: bool = True
    most_at_once: int | None = None


class Chunk(NamedTuple):
    """Some data sets of one padded size.

    Attributes:
        which: indices of the data sets, (m,).
        width: number of data sets in a block.
        capacity: number of data sets in the arguments of the program, a multiple of width, >= m.
    """

    which: Int[Host, " m"]
    width: int
    capacity: int


@runtime_checkable
class ChunkSource(Protocol):
    """L data sets that can be evaluated in chunks: their padded sizes, and the arrays of some of them."""

    @property
    def sizes(self) -> Int[Host, " L"]:
        """Numbers of terms of the log-likelihood of each data set, padding included (L,)."""

    @property
    def own_rows(self) -> bool:
        """True if each data set has its own rows; False if all have the same rows and differ in their weights only."""

    @property
    def unweighted(self) -> bool:
        """True if the weights of each data set sum to its number of terms of the log-likelihood."""

    @property
    def total_weights(self) -> np.ndarray:
        """Sum of the weights of each data set (L,)."""
        ...

    @property
    def in_place(self) -> bool:
        """True if chunks can be views of the table, without a copy."""

    def viewable_run(self, capacity: int) -> tuple[int, int]:
        """Return the range (first, stop) of data sets that chunks of this capacity can hold as views of the table."""

    @property
    def lengths(self) -> Int[Host, " L"] | None:
        """Numbers of terms of the log-likelihood of each data set without padding (L,); None if nothing is padded."""

    def data_set_bytes(self, size: int) -> int:
        """Return the bytes that one data set of this padded size takes."""

    def fetch(self, which: Int[Host, " m"], capacity: int, *, views: bool = False) -> PyTree:
        """Return the data of these data sets, arrays (capacity, ...); with ``views`` and `in_place`, `ChunkView` objects."""

    def single(self, i: int) -> PyTree:
        """Return the data of data set i, without the axis of data sets."""


def budget(memory_limit: float | None, progress: bool | None) -> Budget:
    """Return the budget for ``memory_limit`` bytes (None: a share of the free memory), with the number of threads and with
    ``progress``.

    On several cores there is one thread more than cores, so that no core is idle while two threads take turns in Python.

    Raises:
        ValueError: the limit is not a positive, finite number.
    """
    if memory_limit is not None and not (isinstance(memory_limit, (int, float)) and 0 < memory_limit < math.inf):
        raise ValueError(f"memory_limit=: expected a positive, finite number of bytes, such as 2e9, got {memory_limit!r}")
    most, cores = limits().max_workers, n_cores()
    workers = 1 if limits().on_cpu and cores == 1 else min(cores + 1, most) if limits().on_cpu else most
    memory = free_memory() * limits().memory_share if memory_limit is None else memory_limit
    return Budget(int(memory), workers, progress, memory_limit is not None)


def width_of(size: int, data_set_bytes: int, p: int) -> int:
    """Return the number of data sets in a block, a power of two: they fit the cache of a CPU, or fill a GPU.

    Args:
        size: padded rows of a data set.
        data_set_bytes: size of the data of one data set.
        p: number of coordinates of u.
    """
    at = limits()
    if not at.on_cpu:
        return min(_power_of_two(at.rows_at_once // size), at.max_width)
    if size >= at.single_rows:
        return 1
    fitting = at.cache_bytes // max(data_set_bytes + ITEM * size * (p + 2), 1)
    return min(_power_of_two(fitting), at.max_width, lapack.side_by_side(p))


def capacity_of(size: int, data_set_bytes: int, p: int, budget: Budget, in_place: bool = False) -> tuple[int, int]:
    """Return (width, capacity): the number of data sets in a block, which a program works on together, and in a chunk, which one
    call of it gets; the latter is a multiple of the former. They do not depend on how many data sets there are.

    Every thread has one chunk on the host and one on the device. Both numbers are at least 1, even if memory is too small for
    that, unless the user set the limit.

    Args:
        size: padded number of rows of a data set.
        data_set_bytes: bytes of its arrays.
        p: number of free parameters.
        budget: limits of memory and threads.
        in_place: the data are read without a copy, so that a chunk may be larger (on a CPU).

    Raises:
        ValueError: the user's ``memory_limit`` is too small for one data set.
    """
    memory = budget.memory // max(2 * budget.workers, 1)
    width = width_of(size, data_set_bytes, p)
    each = data_set_bytes + ITEM * p * (p + 12)
    while width > 1 and (width * each > memory or width > (budget.most_at_once or width)):
        width //= 2
    if width * each > memory and budget.given:
        raise ValueError(
            f"memory_limit={budget.memory:.3g} bytes are too few for one data set of {size} rows for each thread, on host "
            f"and device: expected at least {2 * budget.workers * each:.3g}"
        )
    in_place = in_place and limits().on_cpu
    fitting = min(limits().chunk_bytes << in_place, memory) // each
    return width, max(width, min(_power_of_two(fitting), limits().chunk_data_sets) // width * width)


def _power_of_two(n: int) -> int:
    """Return the largest power of two that is at most n; 1 for n < 1."""
    return 1 << max(int(n).bit_length() - 1, 0)


def chunks(sets: ChunkSource, which: Int[Host, " m"], p: int, budget: Budget, most: int | None = None) -> list[Chunk]:
    """Divide data sets into chunks, each of one padded size, with about equal work for every core.

    Args:
        sets: the data sets.
        which: indices of the data sets to evaluate (m,).
        p: number of coordinates of u.
        budget: memory and threads.
        most: largest number of data sets in a chunk; None for no bound beyond the budget's.

    Raises:
        ValueError: the user's ``memory_limit`` is too small for one data set.
    """
    out: list[Chunk] = []
    last: list[Chunk] = []  # small chunks, scheduled last to balance the load
    n_at_work = min(budget.workers, n_cores()) if limits().on_cpu else budget.workers
    sizes = sets.sizes[which]
    for size in np.unique(sizes)[::-1]:
        mine = which[sizes == size]
        if sets.lengths is not None:  # the data sets of a block are about equally long
            mine = mine[np.argsort(-sets.lengths[mine], kind="stable")]
        width, capacity = capacity_of(int(size), sets.data_set_bytes(int(size)), p, budget, sets.in_place)
        if most is not None:
            capacity = min(capacity, max(most // width, 1) * width)
        if not limits().on_cpu:  # few data sets are worked on by one of a few smaller programs
            width = min(width, 1 << -(-max(mine.size - 1, 1).bit_length() // 2) * 2)
            capacity = width if mine.size <= width else capacity
        if sets.in_place and capacity < mine.size == mine[-1] - mine[0] + 1:
            mine, edges = _without_edges(sets, mine, width, capacity)
            last += [Chunk(edges, width, capacity)] if edges.size else []
        # about equally many blocks each, and equally many chunks for every core, so that all end at about the same time;
        # few chunks, because each call costs a thread about a millisecond while the cores are busy
        n_blocks = -(-mine.size // width)
        n = -(-n_blocks // (capacity // width))
        n = min(-(-n // n_at_work) * n_at_work, n_blocks)
        ends = np.arange(n + 1) * n_blocks // n
        out += [Chunk(part, width, capacity) for part in np.split(mine, ends[1:-1] * width)]
    return out + last


def _without_edges(
    sets: ChunkSource, mine: Int[Host, " m"], width: int, capacity: int
) -> tuple[Int[Host, " a"], Int[Host, " b"]]:
    """Split a range of data sets, ``mine``, into those whose chunks can be views, in whole blocks of ``width``, and the others,
    which are copied.

    All are in the first part if the second would need more than one chunk.
    """
    first, stop = (int(np.searchsorted(mine, i)) for i in sets.viewable_run(capacity))
    first, stop = -(-first // width) * width, stop // width * width
    edges = np.concatenate([mine[:first], mine[stop:]])
    return (mine[first:stop], edges) if first < stop and edges.size <= capacity else (mine, edges[:0])


@partial(jax.tree_util.register_dataclass, data_fields=["values", "shift"], meta_fields=["shape"])
@dataclass(frozen=True)
class ChunkView:
    """The data of a chunk as one flat, aligned array, the data sets one after the other.

    Attributes:
        values: (capacity * numbers of a data set + STEP,).
        shift: position in ``values`` where the first data set begins ().
        shape: shape of one data set.
    """

    values: Host
    shift: Count
    shape: tuple[int, ...]

    def block(self, first: Int[Either, ""] | int, width: int) -> jax.Array:
        """Return ``width`` data sets of the chunk, from number ``first`` on, as an array (width, *shape)."""
        each = math.prod(self.shape)
        flat = lax.dynamic_slice_in_dim(self.values, self.shift + first * each, width * each)
        return flat.reshape(width, *self.shape)


def can_be_viewed(leaf: Shaped[Host, ...]) -> bool:
    """Return True if chunks of this table can be views: contiguous float64 or int64, not empty."""
    whole = leaf.flags.c_contiguous and leaf.flags.aligned and leaf.size > 0
    return whole and leaf.dtype in (np.dtype(np.float64), np.dtype(np.int64))


def _first_aligned(flat: Shaped[Host, " n"]) -> int:
    """Return the index of the first entry of a flat array whose address is a multiple of 64 bytes."""
    return -(flat.ctypes.data // ITEM) % STEP


def viewable_run(leaf: Shaped[Host, ...], size: int, capacity: int) -> tuple[int, int]:
    """Return the range (first, stop) of data sets of a table that aligned views can hold; a few at its ends may be outside.

    ``leaf`` is the table, with ``size`` rows for each data set; a view holds ``capacity`` data sets.

    >>> table = aligned((40, 3), np.float64)
    >>> viewable_run(table, 4, 2), viewable_run(table[1:], 4, 2)
    ((0, 10), (1, 9))
    """
    flat, each = leaf.reshape(-1), size * math.prod(leaf.shape[1:])
    begin, n = _first_aligned(flat), capacity * each + STEP
    if flat.size - begin < n:
        return 0, 0
    return -(-begin // each), (begin + (flat.size - n - begin) // STEP * STEP + n) // each


def view_chunk(leaf: Shaped[Host, "R ..."], which: Int[Host, " m"], size: int, capacity: int, worked: int) -> ChunkView:
    """Return a chunk of data sets of a table, in which data set i begins at row i * size.

    Args:
        leaf: the table.
        which: indices of the data sets, at most ``capacity``; consecutive ones in the viewable range become a view, others are
            copied.
        size: rows of a data set.
        capacity: number of data sets in the argument of the program.
        worked: number of data sets that the program reads; those after the ones in ``which`` have arbitrary data.
    """
    shape = (size, *leaf.shape[1:])
    each = math.prod(shape)
    n = capacity * each + STEP
    flat = leaf.reshape(-1)
    begin, end = int(which[0]) * each, (int(which[-1]) + 1) * each
    first = _first_aligned(flat)
    is_run = end - begin == each * len(which) and bool((np.diff(which) == 1).all())
    start = first + min((begin - first) // STEP, (flat.size - n - first) // STEP) * STEP
    if is_run and start >= 0 and start + n >= begin + worked * each:
        return ChunkView(flat[start : start + n], np.int32(begin - start), shape)
    values = aligned((n,), leaf.dtype)
    part = values[: capacity * each].reshape(capacity, each)
    table = flat.reshape(-1, each)
    part[: len(which)] = table[which[0] : which[-1] + 1] if is_run else table[which]
    part[len(which) : worked] = part[0]
    return ChunkView(values, np.int32(0), shape)
