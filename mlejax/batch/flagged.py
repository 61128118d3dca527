"""The data sets whose end is not clean: ray tests, restarts and verdicts, as in a fit of each alone.

The code is that of a single fit.  Only the log-likelihoods along the first rays, which are most of its work on the device,
are computed for all these data sets together beforehand; and what a verdict says in words waits until it is asked for.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from mlejax.batch.engine import Ends, Limits, chunks, run_tasks
from mlejax.batch.programs import loglik_lanes
from mlejax.batch.reading import DataSets
from mlejax.fit import evidence, recipe
from mlejax.fit.programs import Ended
from mlejax.fit.search import FALLS, evidence_at, followed, search
from mlejax.fit.standing import Found
from mlejax.objective import Spec
from mlejax.parameters import Space
from mlejax.status import End
from mlejax.verdict import judge

__all__ = ["search", "settle", "write"]

DIRECTIONS = 4  # directions are padded to a multiple of this, so that few programs are compiled


def settle(
    spec: Spec,
    algorithm: Any,
    sets: DataSets,
    held: Any,
    u0: np.ndarray,
    ends: list[tuple[int, Ended]],
    given_of: Callable[[int], list[Any]],
    seed: int,
    limits: Limits,
    alone: Callable[[DataSets, int, Space], Any],
) -> list[tuple[int, Ended, Found, str, str]]:
    """For each data set (number, end): its final end, what was found, the verdict's code, and a remark on the start."""
    seen = _along_first_rays(spec, sets, held, u0, ends, limits)
    out = []
    for i, ended in ends:
        loaded = alone(sets, i, spec.space)
        note = ""
        _, ended, found = search(spec, algorithm, loaded, u0[i], held, None, ended, seen=seen.get(i))
        if ended.end == End.START_NOT_FINITE:
            opened = [
                v if leaf.kind == "Free" else None for v, leaf in zip(given_of(i), spec.space.leaves, strict=True)
            ]
            other = recipe._first_point(spec, loaded, opened, held, seed, thorough=True)
            _, again, found_there = search(spec, algorithm, loaded, other, held, None)
            if again.end != End.START_NOT_FINITE:
                note = f"The first start was not usable ({found.rows}); started elsewhere."
                ended, found = again, found_there
        if spec.penalty is None:
            code = judge(evidence_at(spec, held, ended, found)).code
        else:  # a kink of the penalty may be what stopped it
            code = recipe._finish(spec, loaded, held, ended, found, algorithm).verdict.code
        out.append((i, ended, found, code, note))
    return out


def _along_first_rays(
    spec: Spec, sets: DataSets, held: Any, u0: np.ndarray, ends: list[tuple[int, Ended]], limits: Limits
) -> dict[int, dict[bytes, np.ndarray]]:
    """By data set: the log-likelihoods at the first points of every direction that will be followed."""
    wanted: dict[int, list[np.ndarray]] = {}
    seen: dict[int, dict[bytes, np.ndarray]] = {}
    for i, e in ends:
        if e.information is None or not (np.isfinite(e.loglik) and np.isfinite(e.score).all()):
            continue
        with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
            vectors = followed(spec, e, u0[i])
            points = [evidence.first_points(v, e.u, e.score, e.information, spec.space) for v in vectors]
        if points:
            wanted[i] = points
            seen[i] = {e.u.tobytes(): np.array(vectors)}
    by_number = dict(ends)
    if len(wanted) < 2:
        return {}
    m = evidence.STEPS.size * 2
    most = -(-max(len(points) for points in wanted.values()) // DIRECTIONS) * DIRECTIONS

    def work(task: tuple[np.ndarray, int, int]) -> int:
        mine, width, capacity = task
        at = np.zeros((capacity, most * m, spec.space.n_free))
        for row, i in zip(at, mine.tolist(), strict=False):
            flat = np.concatenate(wanted[i])
            row[:] = np.resize(flat, row.shape)
        at[len(mine) :] = at[0]
        blocks = np.int32(-(-mine.size // width))
        values = np.asarray(
            loglik_lanes(
                spec, width, at, sets.fetch(mine, capacity), held, sets.hyper_of(mine, capacity), blocks, sets.own_hyper
            )
        )
        for found, i in zip(values, mine.tolist(), strict=False):
            k = len(wanted[i])
            for points, part in zip(wanted[i], found[: k * m].reshape(k, m), strict=True):
                seen[i][points.tobytes()] = part
            end = by_number[i]
            plain = (
                np.zeros(k, bool)
                if spec.space.boxed
                else evidence.plainly_falls(found[: k * m].reshape(k, m), end.loglik)
            )
            seen[i][FALLS + end.u.tobytes()] = plain
        return int(mine.size)

    lanes = np.array(sorted(wanted), np.int64)
    run_tasks(chunks(sets, lanes, spec.space.n_free, limits), work, limits, "ray test", lanes.size)
    return seen


def write(ends: Ends, i: int, ended: Ended) -> None:
    """One data set's end into the arrays."""
    ends.u[i], ends.loglik[i], ends.score[i] = ended.u, ended.loglik, ended.score
    ends.n_steps[i], ends.end[i] = ended.n_steps, int(ended.end)
    if ended.information is not None:
        ends.information[i] = ended.information
        ends.decrements[i] = ended.decrements
