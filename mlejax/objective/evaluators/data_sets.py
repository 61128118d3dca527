"""Many data sets on the host, evaluated in chunks of data sets by compiled programs, on all cores, within a limit on memory.

In a round every chunk is advanced by a limited number of iterations.  Data sets that have not converged are gathered into new
chunks for the next round, with more iterations in each round, so that a few slow data sets do not delay the others.  A data set
that needs more than a Newton step is deferred to the second round, as long as few do:
under ``vmap`` the other data sets of its chunk would have to do as many operations.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import cache
from typing import Any, Literal, TypeVar

import jax
import numpy as np

from mlejax import optimize
from mlejax.data import Prepared
from mlejax.execution import aligned, is_aligned, limits, on_cpu, run_tasks
from mlejax.execution.chunking import Budget, ChunkSource, ChunkView, chunks
from mlejax.objective.evaluator import Evaluation, FromData, Report
from mlejax.objective.evaluators.programs import advance_sets, evaluate_sets, logliks_of_sets
from mlejax.objective.objective import to_loglik
from mlejax.objective.sampling import sample_rows
from mlejax.objective.specification import Spec
from mlejax.optimize import Method, OptimizeResult
from mlejax.shapes import Host, PyTree
from mlejax.status import End

ROUNDS = (8, 8, 16, 64, 1024)  # iterations in each round; the last number is repeated
FEW_LEFT = 64  # iterations of a round if all remaining data sets fit in one block
OFTEN = 0.25  # steps are no longer deferred once more than this share of a chunk's data sets defers them
POINTS = 96  # points of a data set are padded to a multiple of this, so that few programs are compiled

Task = tuple[np.ndarray, int, int]
D = TypeVar("D", bound="DataSetsEvaluator")


def filled(a: np.ndarray, capacity: int) -> np.ndarray:
    """Return an array extended along its leading axis to length ``capacity`` by repeats of its first entry."""
    if a.shape[0] == capacity:
        return a
    out = aligned((capacity, *a.shape[1:]), a.dtype)
    out[: a.shape[0]] = a
    out[a.shape[0] :] = a[0]
    return out


class DataSetsEvaluator:
    """Many data sets of one model; a :class:`mlejax.objective.Evaluator` with L >= 1.

    Args:
        spec: what is compiled: likelihood, parameter space, penalty.
        sets: the data sets.
        budget: limits of memory and threads, and progress messages.
        fixed, hyper: fixed values and hyper-parameters, common to all data sets, or with a leading axis (L, ...) if ``own``.
        own: True for fixed values, and for hyper-parameters, if each data set has its own.
    """

    def __init__(
        self,
        spec: Spec,
        sets: ChunkSource,
        budget: Budget,
        fixed: Host | None = None,
        hyper: PyTree = None,
        own: tuple[bool, bool] = (False, False),
    ) -> None:
        self.spec, self.sets, self.budget = spec, sets, budget
        self.fixed, self.hyper = fixed, hyper
        self.own = (sets.own_rows, own[0] and fixed is not None, own[1])
        self._room = 0  # points of a data set: one program serves what is requested later

    @property
    def n_sets(self) -> int:
        """The number L of data sets."""
        return len(self.sets.sizes)

    def with_spec(self: D, spec: Spec) -> D:
        """Return the same data with another specification of the same parameter space."""
        return type(self)(spec, self.sets, self.budget, self.fixed, self.hyper, self.own[1:])

    @property
    def total_weights(self) -> np.ndarray:
        """The sum of the weights of each data set (L,)."""
        return self.sets.total_weights

    def evaluate(self, u: Host | FromData, order: Literal[0, 1, 2] = 2, which: Host | None = None) -> Evaluation:
        """Return (penalised) log-likelihoods, scores and information of the data sets ``which`` (None: all) at u (m, p), or at
        the points that ``u(which, data)`` returns.

        Scores and information are evaluated whatever the ``order``.  NaN for data sets that were not evaluated because of a
        KeyboardInterrupt.
        """
        which = np.arange(self.n_sets) if which is None else which
        m, p = len(which), self.spec.space.n_free
        out = Evaluation(*(np.full((m, *shape), np.nan) for shape in ((p,), (), (p,), (p, p))))
        place = self._places(which)

        def work(task: Task) -> int:
            mine, width, capacity = task
            data, fixed, hyper = self._chunk(mine, capacity)
            at = filled(u(mine, data) if callable(u) else u[place[mine]], capacity)
            n_blocks = np.int32(-(-mine.size // width))
            found = evaluate_sets(self.spec, width, self.own, at, data, fixed, hyper, n_blocks)
            for whole, part in zip(out, (at, *found), strict=True):
                assert whole is not None
                whole[place[mine]] = np.asarray(part)[: mine.size]
            return int(mine.size)

        self.each_chunk(which, work, "evaluation")
        return out

    def best(self, points: FromData, which: Host | None = None, n_rows: int | None = None) -> np.ndarray:
        """Return, of the points (m, k, p) that ``points(which, data)`` returns, the one with the highest log-likelihood for
        each data set (m, p).

        They are compared on at most ``n_rows`` rows.  NaN for data sets not evaluated because of a KeyboardInterrupt.
        """
        which = np.arange(self.n_sets) if which is None else which
        out, place = np.full((len(which), self.spec.space.n_free), np.nan), self._places(which)

        def work(task: Task) -> int:
            mine, width, capacity = task
            data, fixed, hyper = self._chunk(mine, capacity)
            own = (True, *self.own[1:])
            if not self.own[0]:
                data = replace(data, rows=tuple(np.broadcast_to(a, (capacity, *a.shape)) for a in data.rows))
            at = filled(points(mine, data), capacity)
            data = data if n_rows is None else sample_rows(data, n_rows)
            numbers = np.int32(at.shape[1]), data, fixed, hyper, np.int32(-(-mine.size // width))
            values = np.asarray(logliks_of_sets(self.spec, width, own, at, *numbers))[: mine.size]
            best = np.argmax(np.where(np.isfinite(values), values, -np.inf), axis=1)
            out[place[mine]] = at[np.arange(mine.size), best]
            return int(mine.size)

        self.each_chunk(which, work, "start")
        return out

    def _places(self, which: np.ndarray) -> np.ndarray:
        """Return, for each data set by number, its position in ``which`` (L,); undefined for others."""
        place = np.empty(self.n_sets, np.int64)
        place[which] = np.arange(len(which))
        return place

    def logliks(self, points: Mapping[int, np.ndarray]) -> dict[int, np.ndarray]:
        """Return the (penalised) log-likelihoods (m,) of some data sets, by number, each at its own points (m, p).

        Raises:
            KeyboardInterrupt: the user interrupted it.
        """
        answers: dict[int, np.ndarray] = {}
        p = self.spec.space.n_free
        self._room = max(self._room, -(-max(len(at) for at in points.values()) // POINTS) * POINTS)

        def work(task: Task) -> int:
            mine, width, capacity = task
            asked = [points[i] for i in mine.tolist()]
            at = np.zeros((capacity, self._room, p))
            for row, part in zip(at, asked, strict=False):
                row[:] = np.resize(part, row.shape)
            at[len(mine) :] = at[0]
            n_points, n_blocks = max(len(part) for part in asked), -(-mine.size // width)
            data, fixed, hyper = self._chunk(mine, capacity)
            values = logliks_of_sets(
                self.spec, width, self.own, at, np.int32(n_points), data, fixed, hyper, np.int32(n_blocks)
            )
            for i, part, found in zip(mine.tolist(), asked, np.asarray(values), strict=False):
                answers[i] = found[: len(part)]
            return int(mine.size)

        which = np.array(sorted(points), np.int64)
        if not self.each_chunk(which, work, "ray test", limits().answered_data_sets if on_cpu() else None):
            raise KeyboardInterrupt
        return answers

    def each_chunk(self, which: np.ndarray, work: Callable[[Task], int], unit: str, most: int | None = None) -> bool:
        """Call ``work((data sets, width, capacity))`` for every chunk of the data sets ``which``, of at most ``most``; return
        False if a KeyboardInterrupt stopped it.  ``unit``: what is counted, for the progress shown.
        """
        tasks = chunks(self.sets, which, self.spec.space.n_free, self.budget, most)
        return run_tasks(tasks, work, self.budget, unit, len(which))

    def _chunk(self, mine: np.ndarray, capacity: int, views: bool = False) -> tuple[Any, Any, Any]:
        """Return data, fixed values and hyper-parameters of the data sets ``mine``, extended to ``capacity`` data sets.

        ``views``: arrays of the data may be a `ChunkView` of the table instead of a copy.
        """

        def taken(a: Any) -> np.ndarray:
            return filled(np.asarray(a)[mine], capacity)

        data = self.sets.fetch(mine, capacity, views=views)
        _, own_fixed, own_hyper = self.own
        hyper = jax.tree.map(taken, self.hyper) if own_hyper else self.hyper
        return data, taken(self.fixed) if own_fixed else self.fixed, hyper

    def run(
        self, method: Method, u0: np.ndarray, which: np.ndarray | None = None, report: Report | None = None
    ) -> OptimizeResult:
        """Run the method from u0 (L, p) for the data sets ``which`` (None: all), in rounds; the status is INTERRUPTED for those
        that did not end because of a KeyboardInterrupt.  ``report`` is not used.
        """
        which = np.arange(self.n_sets) if which is None else which
        p, n = self.spec.space.n_free, len(u0)
        ends = OptimizeResult.empty(n, p, method.dense)
        template = jax.tree.map(np.asarray, optimize.begin(method, np.zeros(p)))
        running = jax.tree.map(lambda a: np.empty((n, *a.shape), a.dtype), template)  # states of those that run on
        begun = cache(lambda capacity: jax.tree.map(lambda a: filled(a[None], capacity), template))

        def carried(at: PyTree, n: int, capacity: int, first: bool) -> PyTree:
            """Return the states of the n data sets ``at``, at their starts if ``first`` is True, followed by ``capacity - n``
            states that do not run.
            """
            if first:
                start = filled(u0[at], capacity)
                carry = begun(capacity)._replace(u=start, trial=start, status=np.array(begun(capacity).status))
            else:
                carry = jax.tree.map(lambda a: filled(a[at], capacity), running)
            carry.status[n:] = int(End.CONVERGED)
            return carry

        memory = threading.local()  # where a thread puts its chunks
        defer_no_more = threading.Event()  # affects speed, not results
        waiting, finished = which, True
        for r in range(10_000):
            few = waiting.size <= limits().few_data_sets  # no neighbours that would be held up by many
            if few or r:
                defer_no_more.set()

            def work(task: Task, turns: int = _turns(r, few), first: bool = r == 0) -> int:
                mine, width, capacity = task
                data, fixed, hyper = self._chunk(mine, capacity, views=True)
                data = _aligned_rows(data, self.sets.own_rows, memory)
                at = _as_slice(mine)
                out = advance_sets(
                    self.spec,
                    method,
                    width,
                    self.own,
                    carried(at, mine.size, capacity, first),
                    data,
                    fixed,
                    hyper,
                    np.int32(turns),
                    np.int32(-(-mine.size // width)),
                    np.bool_(defer_no_more.is_set()) if method.dense else None,
                )
                out = jax.tree.map(lambda a: np.asarray(a)[: mine.size], out)
                scale = data.n if self.sets.unweighted else np.asarray(data.weights).sum(axis=-1)
                ends.put(at, _result(out, np.maximum(scale[: mine.size], 1e-300), method.dense))
                on = np.flatnonzero(out.status == int(End.RUNNING))
                if on.size:
                    for a, b in zip(jax.tree.leaves(running), jax.tree.leaves(out), strict=True):
                        a[mine[on]] = b[on]
                if on.size > OFTEN * mine.size:
                    defer_no_more.set()
                return int(mine.size - on.size)

            finished = self.each_chunk(waiting, work, "data set")
            waiting = waiting[ends.status[waiting] == int(End.RUNNING)]
            if not finished or not waiting.size:
                break
        ends.status[waiting] = int(End.INTERRUPTED)
        return ends


def _turns(r: int, few: bool) -> int:
    """Return the number of iterations of round r; ``few``: all remaining data sets fit in one block."""
    turns = ROUNDS[min(r, len(ROUNDS) - 1)]
    return max(turns, FEW_LEFT) if few and r != 1 else turns  # in the second round some have only begun


def _result(carry: Any, scale: np.ndarray, dense: bool) -> OptimizeResult:
    loglik, score, information = to_loglik(carry.f, carry.g, carry.H if dense else None, scale)
    return OptimizeResult(
        carry.u, loglik, score, information, carry.decrements, carry.mismatch, carry.n_steps, carry.status
    )


def _aligned_rows(data: Prepared, own_rows: bool, memory: threading.local) -> Prepared:
    """Return a chunk in aligned memory (a multiple of 64 bytes), which XLA reads in place.

    Otherwise XLA would copy it into new memory, for which threads wait.  Each thread has one buffer for its chunks, in
    ``memory``; the next chunk overwrites the last, whose results have all been fetched.  Unchanged if the data sets have no rows
    of their own (``own_rows``), if they are viewed in place, or on another device than a CPU.
    """
    if not on_cpu() or not own_rows or any(isinstance(leaf, ChunkView) for leaf in data.rows):
        return data
    kept = memory.__dict__

    def place(i: int, a: np.ndarray) -> np.ndarray:
        if is_aligned(a) or not a.flags.c_contiguous:
            return a
        out = kept.get(str(i))
        if out is None or out.shape != a.shape or out.dtype != a.dtype:
            out = kept[str(i)] = aligned(a.shape, a.dtype)
        out[...] = a
        return out

    return replace(data, rows=tuple(place(i, a) for i, a in enumerate(data.rows)))


def _as_slice(which: np.ndarray) -> Host | slice:
    """Return consecutive numbers as a slice, which is faster to copy; other numbers unchanged."""
    follow = which.size and which[-1] - which[0] + 1 == which.size and (np.diff(which) == 1).all()
    return slice(int(which[0]), int(which[-1]) + 1) if follow else which
