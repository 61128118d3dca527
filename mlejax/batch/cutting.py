"""How the work is cut: data sets into chunks and blocks, within a bound on memory, for as many threads as may share it."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from typing import Any, Protocol

import jax
import numpy as np

from mlejax import linalg
from mlejax.batch.sets import WIDEST
from mlejax.compiling import on_cpu
from mlejax.data import Prepared
from mlejax.objective.chunked import n_cores
from mlejax.fit.lapack import lanes_at_once
from mlejax.objective.objective import Spec

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
class Limits:
    """How the work is cut.

    Attributes:
        memory: bytes that chunks in flight may take; what is below a single data set is refused only where the user set it.
        workers: host threads.
        progress: a bar; None shows one for what takes long.
        given: the user set the bound on memory.
        most_lanes: worked on side by side, or None.
    """

    memory: int
    workers: int
    progress: bool | None = None
    given: bool = True
    most_lanes: int | None = None


def limits(memory_limit: float | None, progress: bool | None) -> Limits:
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
    memory = _free_memory() * MEMORY_SHARE if memory_limit is None else memory_limit
    return Limits(int(memory), workers if on_cpu() else WORKERS_GPU, progress, memory_limit is not None)


def _free_memory() -> float:
    if not on_cpu():
        found = jax.devices()[0].memory_stats() or {}
        if "bytes_limit" in found:
            return float(found["bytes_limit"] - found.get("bytes_in_use", 0))
    try:
        return float(os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
    except (ValueError, OSError, AttributeError):
        return 4e9


def width_of(size: int, lane_bytes: int, p: int) -> int:
    """Lanes worked on at once: a power of two, so that data and derivatives stay in the cache (GPU: so that there is work)."""
    if not on_cpu():
        return int(min(1 << max((ROWS_GPU // size).bit_length() - 1, 0), MAX_LANES_GPU))
    if size >= ONE_BY_ONE:
        return 1
    wanted = CACHE_BYTES // max(lane_bytes + 8 * size * (p + 2), 1)
    return int(min(1 << max(wanted.bit_length() - 1, 0), WIDEST, linalg.side_by_side(p)))


def capacity_of(size: int, lane_bytes: int, p: int, limits: Limits, in_place: bool = False) -> tuple[int, int]:
    """(width, lanes of a chunk): depends on sizes, threads and the bound alone, never on how many data sets there are.

    Every thread has one chunk in the hands of the host and one of the device.
    """
    memory = limits.memory // max(2 * limits.workers, 1)
    width = width_of(size, lane_bytes, p)
    while limits.most_lanes is not None and width > limits.most_lanes:
        width //= 2
    each = lane_bytes + 8 * p * (p + 12)
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


def limits_for(spec: Spec, one: Prepared, lane_bytes: int, fixed: Any, hyper: Any, limits: Limits) -> Limits:
    """The limits for these data: threads that can all hold the largest one, lanes as LAPACK bears.

    See `mlejax.fit.lapack`.

    Args:
        one: the largest data set, (N, ...).
        lane_bytes: what it takes.
        fixed, hyper: its own.
    """
    each = 2 * (lane_bytes + 8 * spec.space.n_free * (spec.space.n_free + 12))
    workers = max(min(limits.workers, limits.memory // max(each, 1)), 1)
    return replace(limits, workers=workers, most_lanes=lanes_at_once(spec, one, fixed, hyper))


class Lanes(Protocol):
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

    def within_reach(self, capacity: int) -> tuple[int, int]:
        """The run of lanes of which that is true."""
        ...

    @property
    def lengths(self) -> np.ndarray | None:
        """(L,) contributions in use, or None where all have the same."""
        ...

    def lane_bytes(self, size: int) -> int:
        """Bytes of one lane of this size."""
        ...

    def fetch(self, lanes: np.ndarray, capacity: int, *, windows: bool = False) -> Any:
        """Their data, with a leading axis (capacity, ...); ``windows``: as `Window` where they are `in_place`."""
        ...


def chunks(
    sets: Lanes, lanes: np.ndarray, p: int, limits: Limits, most: int | None = None
) -> list[tuple[np.ndarray, int, int]]:
    """(lanes, width, capacity): parts of at most ``most`` lanes of one size, in whole blocks, as many for every core."""
    out, last = [], []  # last: what fills the time of a core that is done before the others
    at_work = min(limits.workers, n_cores()) if on_cpu() else limits.workers
    sizes = sets.sizes[lanes]
    for size in np.unique(sizes)[::-1]:
        mine = lanes[sizes == size]
        if sets.lengths is not None:
            mine = mine[np.argsort(-sets.lengths[mine], kind="stable")]  # lanes side by side are about equally long
        width, capacity = capacity_of(int(size), sets.lane_bytes(int(size)), p, limits, sets.in_place)
        if most is not None:
            capacity = min(capacity, max(most // width, 1) * width)
        if not on_cpu():  # few lanes, or few that are left, in one of a few smaller programs
            width = min(width, 1 << -(-max(mine.size - 1, 1).bit_length() // 2) * 2)
            capacity = width if mine.size <= width else capacity
        if sets.in_place and capacity < mine.size == mine[-1] - mine[0] + 1:
            # the first and last lanes of a table have to be copied, which is not to cost two whole chunks
            first, stop = (int(np.searchsorted(mine, i)) for i in sets.within_reach(capacity))
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
