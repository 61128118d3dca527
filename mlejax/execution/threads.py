"""Run tasks on threads of the host, with a progress bar; Ctrl-C stops them."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from functools import cache
from typing import TypeVar

from .activity import progress_bar
from .chunking import Budget
from .precision import float64

__all__ = ["kept_pool", "run_tasks"]

T = TypeVar("T")


def run_tasks(tasks: Sequence[T], work: Callable[[T], int], budget: Budget, unit: str, total: int) -> bool:
    """Call ``work(task)`` for every task, on several threads, in float64; show a progress bar.

    Args:
        tasks: arguments of ``work``; begun in this order.
        work: function of one task that returns how many units it finished, for the bar.  It must not call `run_tasks`: it would
            wait for its own thread.
        budget: gives the number of threads (with one, the caller's thread does the work), and whether a bar is shown.
        unit, total: name of what is counted in the bar, and how many there are.

    Returns:
        True if all tasks are done; False after Ctrl-C, which lets running tasks finish and begins no others.  An error of
        ``work`` does so too, and is raised.
    """
    stop = threading.Event()

    def guarded(task: T) -> int:
        if stop.is_set():
            return 0
        with float64():
            return work(task)

    with progress_bar(budget.progress, unit, total) as advance:
        pending: set[Future[int]] = set()
        try:
            if budget.workers == 1 or len(tasks) == 1:
                for task in tasks:
                    advance(guarded(task))
                return True
            for task in tasks:
                pending.add(kept_pool("mlejax", budget.workers).submit(guarded, task))
            while pending:
                done, pending = wait(pending, timeout=0.5, return_when=FIRST_COMPLETED)
                for future in done:
                    advance(future.result())
        except KeyboardInterrupt:
            return False
        finally:
            stop.set()
            wait(pending)
    return True


@cache
def kept_pool(name: str, n: int) -> ThreadPoolExecutor:
    """Return a pool of n threads, made at the first call with this name and size and kept for the whole process.

    A task must not wait for another task of the same pool.  New threads for each call would cost a millisecond.
    """
    return ThreadPoolExecutor(n, name)
