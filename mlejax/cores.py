"""The cores of the host, and work on long arrays that is shared among them."""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")
MOST_THREADS = 8


def n_cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def in_parts(work: Callable[[slice], T], n: int, least: int) -> list[T]:
    """``work`` on the parts of 0..n, one a core, each of at least ``least``; it must let go of the interpreter's lock.

    >>> in_parts(lambda part: part, 10, least=100)
    [slice(0, 10, None)]
    """
    parts = max(min(n_cores(), MOST_THREADS, n // max(least, 1)), 1)
    cuts = [slice(n * i // parts, n * (i + 1) // parts) for i in range(parts)]
    if parts == 1:
        return [work(cuts[0])]
    with ThreadPoolExecutor(parts - 1) as pool:
        others = [pool.submit(work, cut) for cut in cuts[1:]]
        return [work(cuts[0]), *(other.result() for other in others)]
