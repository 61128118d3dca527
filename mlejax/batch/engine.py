"""Lanes in, ends out: chunks of data sets through the compiled core, on all cores, within a bound on memory.

A chunk is read where it lies or copied from NumPy, advanced by a limited number of turns, and brought back; lanes that are
still running then are gathered into new chunks (so a few hard data sets do not hold up their neighbours), with more turns each
round.  A lane that needs more than a Newton step waits for the second round, as long as few do: its neighbours would pay for
it.  Host threads, each inside its own ``enable_x64``, take chunks from one queue; which thread takes which changes no number
beyond rounding.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import jax
import numpy as np

from mlejax import optimize
from mlejax.batch.cutting import Lanes, Limits, chunks
from mlejax.batch.programs import advance_lanes, rank_lanes
from mlejax.batch.sets import WIDEST, DataSets
from mlejax.batch.windows import Window
from mlejax.compiling import on_cpu
from mlejax.data import aligned
from mlejax.objective import Spec
from mlejax.status import End

ROUNDS = (8, 8, 16, 64, 1024)  # turns a round; the last one is repeated
FEW_LEFT = 64  # turns, where no more lanes are left than are worked on at once
OFTEN = 0.25  # share of lanes that wait for a longer turn, above which such turns are made at once


@dataclass(eq=False)
class Ends:
    """Where the optimiser ended, lane by lane (L, ...), log-likelihood units, in u; filled chunk by chunk."""

    u: np.ndarray
    loglik: np.ndarray
    score: np.ndarray
    information: np.ndarray
    decrements: np.ndarray
    n_steps: np.ndarray
    end: np.ndarray

    @staticmethod
    def empty(n: int, p: int, dense: bool) -> Ends:
        """Nothing done yet: every lane INTERRUPTED until its end is known."""
        q = p if dense else 0
        nan = lambda *shape: np.full(shape, np.nan)
        return Ends(
            nan(n, p),
            nan(n),
            nan(n, p),
            nan(n, q, q),
            nan(n, 4),
            np.zeros(n, np.int64),
            np.full(n, int(End.INTERRUPTED)),
        )


def run_tasks(tasks: list[Any], work: Callable[[Any], int], limits: Limits, unit: str, total: int) -> bool:
    """Every task through ``work`` on the threads that there are; False if the keyboard interrupted it.

    ``work`` returns how many lanes it finished, for the bar; it must not come back here, to wait for the thread that it is on.
    """
    stop = threading.Event()

    def guarded(task: Any) -> int:
        if stop.is_set():
            return 0
        with jax.enable_x64(True):
            return work(task)

    with _bar(limits.progress, unit, total) as advance:
        if limits.workers == 1 or len(tasks) == 1:
            try:
                for task in tasks:
                    advance(guarded(task))
            except KeyboardInterrupt:
                return False
            return True
        pending: set[Any] = set()
        try:
            for task in tasks:
                pending.add(_threads(limits.workers).submit(guarded, task))
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
def _threads(n: int) -> ThreadPoolExecutor:
    """Threads that are kept: to start them anew costs a millisecond, and their memory has to be found again."""
    return ThreadPoolExecutor(n, "mlejax")


@contextmanager
def _bar(progress: bool | None, unit: str, total: int) -> Iterator[Callable[[int], Any]]:
    if progress is False:
        yield lambda n: None
        return
    from tqdm.auto import tqdm

    with tqdm(
        total=total, unit=unit, delay=0.0 if progress else 5.0, disable=None if progress is None else False
    ) as bar:
        yield bar.update


def best_starts(
    spec: Spec,
    sets: DataSets,
    lanes: np.ndarray,
    candidates: Callable[[np.ndarray, Any], list[np.ndarray]],
    sample: Any,
    fixed: Any,
    limits: Limits,
) -> np.ndarray | None:
    """u (L, p) of the best candidate of every lane, ranked on its own rows; None if interrupted."""
    u0 = np.zeros((len(sets), spec.space.n_free))

    def work(task: tuple[np.ndarray, int, int]) -> int:
        mine, width, capacity = task
        data = sets.fetch(mine, capacity)
        values = [filled(v, capacity) for v in candidates(mine, data)]
        points, _ = rank_lanes(
            spec,
            width,
            values,
            sample(data),
            fixed,
            np.int32(-(-mine.size // width)),
            sets.hyper_of(mine, capacity),
            sets.own_hyper,
        )
        u0[mine] = np.asarray(points)[: mine.size]
        return int(mine.size)

    done = run_tasks(chunks(sets, lanes, spec.space.n_free, limits), work, limits, "start", len(lanes))
    return u0 if done else None


def filled(a: np.ndarray, capacity: int) -> np.ndarray:
    """An array with a leading axis of lanes, made ``capacity`` long by repeats of the first."""
    if a.shape[0] == capacity:
        return a
    out = aligned((capacity, *a.shape[1:]), a.dtype)
    out[: a.shape[0]] = a
    out[a.shape[0] :] = a[0]
    return out


def optimise(
    spec: Spec,
    method: Any,
    sets: Lanes,
    lanes: np.ndarray,
    u0: np.ndarray,
    fixed: Any,
    limits: Limits,
    *,
    hyper: Any = None,
    own: tuple[bool, bool] = (False, False),
) -> tuple[Ends, bool]:
    """The optimiser to its end for the given lanes, in rounds; and whether all were finished.

    Args:
        u0: (L, p) starts, by lane.
        fixed, hyper: common, or (L, ...) where ``own`` says so.
    """
    p = spec.space.n_free
    ends = Ends.empty(len(u0), p, method.dense)
    template = optimize.begin(method, np.zeros(p))
    state = jax.tree.map(lambda a: np.empty((len(u0), *np.shape(a)), np.asarray(a).dtype), template)  # of those that run on

    @cache
    def begun(capacity: int) -> Any:
        return jax.tree.map(lambda a: filled(np.asarray(a)[None], capacity), template)

    def carried(at: Any, n: int, capacity: int, first: bool) -> Any:
        """The states of n lanes, and of others that do not run."""
        if first:
            start = filled(u0[at], capacity)
            carry = begun(capacity)._replace(u=start, trial=start, status=np.array(begun(capacity).status))
        else:
            carry = jax.tree.map(lambda a: filled(a[at], capacity), state)
        carry.status[n:] = int(End.CONVERGED)
        return carry

    waiting, total_turns, finished = lanes, 0, True
    places = threading.local()  # where a thread puts its chunks
    at_once = threading.Event()  # no lane waits; who waits changes no number beyond rounding
    for r in range(10_000):
        turns = ROUNDS[min(r, len(ROUNDS) - 1)]
        few = waiting.size <= WIDEST  # no neighbours that would be held up by many
        if few and r != 1:  # in the second round some have only begun
            turns = max(turns, FEW_LEFT)
        if few or r:
            at_once.set()

        def work(task: tuple[np.ndarray, int, int], turns: int = turns, first: bool = r == 0) -> int:
            mine, width, capacity = task
            data = _placed(sets.fetch(mine, capacity, windows=True), sets.own_rows, places)
            at = _run_of(mine)
            strip = lambda a, mine_only: filled(np.asarray(a)[mine], capacity) if mine_only and a is not None else a
            out = advance_lanes(
                spec,
                method,
                width,
                carried(at, mine.size, capacity, first),
                data,
                strip(fixed, own[0]),
                jax.tree.map(lambda a: strip(a, own[1]), hyper),
                np.int32(turns),
                np.int32(-(-mine.size // width)),
                own_rows=sets.own_rows,
                own=own,
                bends=np.bool_(at_once.is_set()) if method.dense else None,
            )
            out = jax.tree.map(lambda a: np.asarray(a)[: mine.size], out)
            scale = (data.n if sets.unweighted else np.asarray(data.weights).sum(axis=-1))[: mine.size]
            _record(ends, out, at, np.maximum(scale, 1e-300), method.dense)
            running = np.flatnonzero(out.status == int(End.RUNNING))
            if running.size:
                for a, b in zip(jax.tree.leaves(state), jax.tree.leaves(out), strict=True):
                    a[mine[running]] = b[running]
            if running.size > OFTEN * mine.size:
                at_once.set()
            return int(mine.size - running.size)

        finished = run_tasks(chunks(sets, waiting, p, limits), work, limits, "data set", len(waiting))
        waiting = waiting[ends.end[waiting] == int(End.RUNNING)]
        total_turns += turns
        if not finished or not waiting.size:
            break
    ends.end[waiting] = int(End.INTERRUPTED)
    return ends, finished


def _placed(data: Any, own_rows: bool, places: threading.local) -> Any:
    """A chunk where XLA reads it as it lies, at a multiple of 64 bytes.

    Else XLA would copy it into new memory, for which threads queue.  Here each thread has one place for its chunks; the next one
    is written over the last, of which all results have been waited for.
    """
    if not on_cpu() or not own_rows or any(isinstance(leaf, Window) for leaf in data.rows):
        return data
    kept = places.__dict__

    def place(i: int, a: np.ndarray) -> np.ndarray:
        if a.ctypes.data % 64 == 0 or not a.flags.c_contiguous:
            return a
        out = kept.get(str(i))
        if out is None or out.shape != a.shape or out.dtype != a.dtype:
            out = kept[str(i)] = aligned(a.shape, a.dtype)
        out[...] = a
        return out

    return replace(data, rows=tuple(place(i, a) for i, a in enumerate(data.rows)))


def _run_of(lanes: np.ndarray) -> Any:
    """The same lanes as a slice where they follow each other, which is faster to copy."""
    follow = lanes.size and lanes[-1] - lanes[0] + 1 == lanes.size and (np.diff(lanes) == 1).all()
    return slice(int(lanes[0]), int(lanes[-1]) + 1) if follow else lanes


def _record(ends: Ends, state: Any, mine: Any, scale: np.ndarray, dense: bool) -> None:
    """Into ``ends``, at the lanes ``mine``, the states of these in the same order."""
    ends.u[mine] = state.u
    ends.loglik[mine] = -state.f * scale
    ends.score[mine] = -state.g * scale[:, None]
    if dense:
        ends.information[mine] = state.H * scale[:, None, None]
        ends.decrements[mine] = state.decrements
    ends.n_steps[mine] = state.n_steps
    ends.end[mine] = state.status
