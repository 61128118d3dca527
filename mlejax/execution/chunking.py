"""How the work is cut: data sets into chunks and blocks, within a bound on memory, for as many threads as may share it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol

import jax
import numpy as np
from jax import lax

from . import lapack
from .devices import aligned, free_memory, n_cores, on_cpu

WIDEST = 64  # data sets that are worked on at once, at most, on CPU
CACHE_BYTES = 1024 * 1024
CHUNK_BYTES = 16 * 1024 * 1024  # twice that where the optimiser copies nothing
MAX_LANES = 2048
CHUNK_BYTES_GPU, MAX_LANES_GPU = 256 * 1024 * 1024, 16_384  # fewer and larger chunks: each waits for its copy
ROWS_GPU = 1 << 22  # worked on at once
WORKERS_GPU = 2  # one chunk is copied while another one is worked on
ONE_BY_ONE = 5000  # rows from which on a data set fills the cache by itself
MAX_WORKERS = 16
MEMORY_SHARE = 0.25  # of what is free, where the user sets no limit


@dataclass(frozen=True)
class Budget:
    """How the work is cut.

    Attributes:
        memory: bytes that chunks in flight may take; what is below a single data set is refused only where the user set it.
        workers: host threads.
        progress: a bar; None shows one for what takes long.
        given: the user set the bound on memory.
        most_at_once: worked on side by side, or None.
    """

    memory: int
    workers: int
    progress: bool | None = None
    given: bool = True
    most_at_once: int | None = None


def budget(memory_limit: float | None, progress: bool | None) -> Budget:
    """The bound on memory (default: a quarter of what is free on the device or host) and the threads.

    On several cores there is one thread more than these (at most MAX_WORKERS), so that no core waits while two threads take
    turns in Python.

    Raises:
        ValueError: a limit that is not a positive number of bytes.
    """
    if memory_limit is not None and not (isinstance(memory_limit, (int, float)) and memory_limit > 0):
        raise ValueError(f"memory_limit= expected a positive number of bytes, 2e9 say, got {memory_limit!r}")
    cores = n_cores()
    workers = min(cores + 1, MAX_WORKERS) if cores > 1 else 1
    memory = free_memory() * MEMORY_SHARE if memory_limit is None else memory_limit
    return Budget(int(memory), workers if on_cpu() else WORKERS_GPU, progress, memory_limit is not None)


def width_of(size: int, data_set_bytes: int, p: int) -> int:
    """Lanes worked on at once: a power of two, so that data and derivatives stay in the cache (GPU: so that there is work)."""
    if not on_cpu():
        return int(min(1 << max((ROWS_GPU // size).bit_length() - 1, 0), MAX_LANES_GPU))
    if size >= ONE_BY_ONE:
        return 1
    wanted = CACHE_BYTES // max(data_set_bytes + 8 * size * (p + 2), 1)
    return int(min(1 << max(wanted.bit_length() - 1, 0), WIDEST, lapack.side_by_side(p)))


def capacity_of(size: int, data_set_bytes: int, p: int, limits: Budget, in_place: bool = False) -> tuple[int, int]:
    """(width, lanes of a chunk): depends on sizes, threads and the bound alone, never on how many data sets there are.

    Every thread has one chunk in the hands of the host and one of the device.
    """
    memory = limits.memory // max(2 * limits.workers, 1)
    width = width_of(size, data_set_bytes, p)
    while limits.most_at_once is not None and width > limits.most_at_once:
        width //= 2
    each = data_set_bytes + 8 * p * (p + 12)
    while width > 1 and width * each > memory:
        width //= 2
    if width * each > memory and limits.given:
        raise ValueError(
            f"memory_limit={limits.memory:.3g} bytes do not hold one data set of {size} rows, on the host and on the device; "
            f"that takes {2 * limits.workers * each:.3g}"
        )
    most, size_of_chunk = (MAX_LANES, CHUNK_BYTES << in_place) if on_cpu() else (MAX_LANES_GPU, CHUNK_BYTES_GPU)
    lanes = min(size_of_chunk, memory) // each
    capacity = max(width, min(1 << max(int(lanes).bit_length() - 1, 0), most) // width * width)
    return width, int(capacity)


class ChunkSource(Protocol):
    """What the engine needs to know of the data sets: their padded sizes, and how to get the arrays of some of them."""

    @property
    def sizes(self) -> np.ndarray:
        """(L,) padded numbers of contributions."""
        ...

    @property
    def own_rows(self) -> bool:
        """Each lane has rows of its own; else all share them, and differ in their weights."""
        ...

    @property
    def unweighted(self) -> bool:
        """The weights of a lane sum to its number of contributions."""
        ...

    @property
    def total_weights(self) -> np.ndarray:
        """(L,) the sum of the weights of each."""
        ...

    @property
    def in_place(self) -> bool:
        """Chunks of them can be read where they lie."""
        ...

    def viewable_run(self, capacity: int) -> tuple[int, int]:
        """The run of lanes of which that is true."""
        ...

    @property
    def lengths(self) -> np.ndarray | None:
        """(L,) contributions in use, or None where all have the same."""
        ...

    def data_set_bytes(self, size: int) -> int:
        """Bytes of one lane of this size."""
        ...

    def fetch(self, lanes: np.ndarray, capacity: int, *, views: bool = False) -> Any:
        """Their data, with a leading axis (capacity, ...); ``windows``: as `ChunkView` where they are `in_place`."""
        ...


def chunks(
    sets: ChunkSource, lanes: np.ndarray, p: int, limits: Budget, most: int | None = None
) -> list[tuple[np.ndarray, int, int]]:
    """(lanes, width, capacity): parts of at most ``most`` lanes of one size, in whole blocks, as many for every core."""
    out, last = [], []  # last: what fills the time of a core that is done before the others
    at_work = min(limits.workers, n_cores()) if on_cpu() else limits.workers
    sizes = sets.sizes[lanes]
    for size in np.unique(sizes)[::-1]:
        mine = lanes[sizes == size]
        if sets.lengths is not None:
            mine = mine[np.argsort(-sets.lengths[mine], kind="stable")]  # lanes side by side are about equally long
        width, capacity = capacity_of(int(size), sets.data_set_bytes(int(size)), p, limits, sets.in_place)
        if most is not None:
            capacity = min(capacity, max(most // width, 1) * width)
        if not on_cpu():  # few lanes, or few that are left, in one of a few smaller programs
            width = min(width, 1 << -(-max(mine.size - 1, 1).bit_length() // 2) * 2)
            capacity = width if mine.size <= width else capacity
        if sets.in_place and capacity < mine.size == mine[-1] - mine[0] + 1:
            # the first and last lanes of a table have to be copied, which is not to cost two whole chunks
            first, stop = (int(np.searchsorted(mine, i)) for i in sets.viewable_run(capacity))
            first, stop = -(-first // width) * width, stop // width * width
            edges = np.concatenate([mine[:first], mine[stop:]])
            if first < stop and 0 < edges.size <= capacity:
                last.append((edges, width, capacity))
                mine = mine[first:stop]
        # about equally many blocks each, and as many chunks for every core, so that all end at about the same time; few
        # chunks, because each is a call that costs a thread about a millisecond while the cores are busy
        blocks = -(-mine.size // width)
        n = -(-blocks // (capacity // width))
        n = min(-(-n // at_work) * at_work, blocks)
        cuts = np.arange(n + 1) * blocks // n
        out += [(part, width, capacity) for part in np.split(mine, cuts[1:-1] * width)]
    return out + last


ITEM = 8  # bytes of a number
STEP = 64 // ITEM  # numbers between places where a view may begin


@partial(jax.tree_util.register_dataclass, data_fields=["values", "shift"], meta_fields=["shape"])
@dataclass(frozen=True)
class ChunkView:
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
        return lax.dynamic_slice_in_dim(self.values, self.shift + first * each, width * each).reshape(
            width, *self.shape
        )


def can_be_viewed(leaf: np.ndarray) -> bool:
    """Whether lanes of this table can be read where they lie."""
    whole = leaf.flags.c_contiguous and leaf.flags.aligned and leaf.size > 0
    return whole and leaf.dtype in (np.dtype(np.float64), np.dtype(np.int64))


def _aligned_from(flat: np.ndarray) -> int:
    """The first number of a flat array at a multiple of 64 bytes."""
    return -(flat.ctypes.data // ITEM) % STEP


def viewable_run(leaf: np.ndarray, size: int, capacity: int) -> tuple[int, int]:
    """The run of lanes that a view can hold: not those that begin or end within a step of the ends of the table.

    >>> table = aligned((40, 3), np.float64)
    >>> viewable_run(table, 4, 2), viewable_run(table[1:], 4, 2)
    ((0, 10), (1, 9))
    """
    flat, each = leaf.reshape(-1), size * math.prod(leaf.shape[1:])
    from_, n = _aligned_from(flat), capacity * each + STEP
    if flat.size - from_ < n:
        return 0, 0
    return -(-from_ // each), (from_ + (flat.size - n - from_) // STEP * STEP + n) // each


def view_chunk(leaf: np.ndarray, lanes: np.ndarray, size: int, capacity: int, worked: int) -> ChunkView:
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
        return ChunkView(flat[start : start + n], np.int32(begin - start), shape)
    values = aligned((n,), leaf.dtype)
    part = values[: capacity * each].reshape(capacity, each)
    table = flat.reshape(-1, each)
    part[: len(lanes)] = table[lanes[0] : lanes[-1] + 1] if follow else table[lanes]
    part[len(lanes) : worked] = part[0]
    return ChunkView(values, np.int32(0), shape)
