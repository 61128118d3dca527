"""The data sets whose end is not clean: ray tests, restarts and verdicts, as in a fit of each alone.

The code is that of a single fit, which asks for the log-likelihoods along its rays; here many data sets ask, and are answered
together.  What a verdict says in words waits until it is asked for.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from mlejax.batch.engine import Ends
from mlejax.batch.programs import loglik_lanes
from mlejax.batch.sets import DataSets
from mlejax.execution import on_cpu, run_tasks
from mlejax.execution.chunking import Budget, chunks
from mlejax.fit import ending, evidence, recipe
from mlejax.fit.programs import Ended, logliks
from mlejax.fit.search import Looked, evidence_at, followed, onwards, search
from mlejax.fit.standing import Found, curved
from mlejax.objective import Spec
from mlejax.parameters import Space
from mlejax.status import End
from mlejax.verdict import code_of

__all__ = ["search", "settle", "write"]

POINTS = 4 * 2 * evidence.STEPS.size  # points are padded to a multiple of this, so that few programs are compiled
TOGETHER = 1024  # data sets that ask at one time, at most
ANSWERED = 64  # lanes of a chunk on CPU: few of the lanes that are made up where there are few to answer


def settle(
    spec: Spec,
    algorithm: Any,
    sets: DataSets,
    held: Any,
    u0: np.ndarray,
    ends: list[tuple[int, Ended]],
    given_of: Callable[[int], list[Any]],
    seed: int,
    limits: Budget,
    alone: Callable[[DataSets, int, Space], Any],
) -> Iterator[tuple[int, Ended, Found, str, str]]:
    """For each data set (number, end): its final end, what was found, the verdict's code, and a remark on the start.

    Raises:
        KeyboardInterrupt: what has been yielded until then stands.
    """
    room = limits.memory // max(sets.data_set_bytes(int(sets.sizes.max(initial=1))), 1)
    together = int(min(max(room, 2), TOGETHER))
    ask = _Together(spec, sets, held, limits)
    for k in range(0, len(ends), together):
        some = ends[k : k + together]
        loaded = {i: alone(sets, i, spec.space) for i, _ in some}
        laid = _laid_out(spec, u0, some)
        asks = {i: onwards(spec, algorithm, loaded[i], u0[i], held, None, ended, laid.get(i)) for i, ended in some}
        if len(ends) == 1:
            i = some[0][0]
            answers = {i: evidence.answered(asks[i], logliks(spec, loaded[i].problem.data, held, loaded[i].hyper))}
        else:
            answers = evidence.answer_together(asks, ask)
        for i, _ in some:
            _, ended, found = answers[i]
            note = ""
            if ended.end == End.START_NOT_FINITE:
                opened = [
                    v if leaf.kind == "Free" else None for v, leaf in zip(given_of(i), spec.space.leaves, strict=True)
                ]
                other = recipe._first_point(spec, loaded[i], opened, held, seed, thorough=True)
                _, again, found_there = search(spec, algorithm, loaded[i], other, held, None)
                if again.end != End.START_NOT_FINITE:
                    note = f"The first start was not usable ({found.rows}); started elsewhere."
                    ended, found = again, found_there
            if spec.penalty is None:
                code = code_of(evidence_at(spec, held, ended, found))
            else:  # a kink of the penalty may be what stopped it
                code = ending.finish(spec, loaded[i], held, ended, found, algorithm).verdict.code
            yield i, ended, found, code, note


def _laid_out(spec: Spec, u0: np.ndarray, ends: list[tuple[int, Ended]]) -> dict[int, Looked]:
    """By data set: the directions that will be followed from its end."""
    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
        usable = [(i, e) for i, e in ends if e.information is not None and np.isfinite(e.score).all()]
        if not usable:
            return {}
        vectors = followed(spec, [e for _, e in usable], [u0[i] for i, _ in usable])
        counts = [len(v) for v in vectors]
        each = lambda name: np.repeat([getattr(e, name) for _, e in usable], counts, axis=0)
        together = np.concatenate(vectors)
        looks = evidence.first_looks(together, each("u"), each("score"), each("information"), curved(spec.space))
    last = np.cumsum(counts).tolist()
    return {i: Looked(e.u, looks[n - k : n]) for (i, e), k, n in zip(usable, counts, last, strict=True)}


class _Together:
    """Log-likelihoods at points (m, p) of many data sets, by number, in chunks of lanes."""

    def __init__(self, spec: Spec, sets: DataSets, held: Any, limits: Budget) -> None:
        self.spec, self.sets, self.held, self.limits = spec, sets, held, limits
        self.room = 0  # points of a lane: what was needed once, so that one program serves what is asked later

    def __call__(self, questions: dict[int, np.ndarray]) -> dict[int, np.ndarray]:
        answers: dict[int, np.ndarray] = {}
        p = self.spec.space.n_free
        self.room = max(self.room, -(-max(len(q) for q in questions.values()) // POINTS) * POINTS)

        def work(task: tuple[np.ndarray, int, int]) -> int:
            mine, width, capacity = task
            asked = [questions[i] for i in mine.tolist()]
            at = np.zeros((capacity, self.room, p))
            for row, points in zip(at, asked, strict=False):
                row[:] = np.resize(points, row.shape)
            at[len(mine) :] = at[0]
            n_points, blocks = max(len(points) for points in asked), -(-mine.size // width)
            data, hyper = self.sets.fetch(mine, capacity), self.sets.hyper_of(mine, capacity)
            values = loglik_lanes(
                self.spec, width, at, np.int32(n_points), data, self.held, hyper, np.int32(blocks), self.sets.own_hyper
            )
            for i, points, found in zip(mine.tolist(), asked, np.asarray(values), strict=False):
                answers[i] = found[: len(points)]
            return int(mine.size)

        lanes = np.array(sorted(questions), np.int64)
        tasks = chunks(self.sets, lanes, p, self.limits, ANSWERED if on_cpu() else None)
        if not run_tasks(tasks, work, self.limits, "ray test", lanes.size):
            raise KeyboardInterrupt
        return answers


def write(ends: Ends, i: int, ended: Ended) -> None:
    """One data set's end into the arrays."""
    ends.u[i], ends.loglik[i], ends.score[i] = ended.u, ended.loglik, ended.score
    ends.n_steps[i], ends.end[i] = ended.n_steps, int(ended.end)
    if ended.information is not None:
        ends.information[i] = ended.information
        ends.decrements[i] = ended.decrements
