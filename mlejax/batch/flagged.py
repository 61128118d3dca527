"""The data sets whose end is not clean: ray tests, restarts and verdicts, as in a fit of each alone.

The code is that of a single fit.  Only the log-likelihoods along the first rays, which are most of its work on the device,
are computed for all these data sets together beforehand; and what a verdict says in words waits until it is asked for.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from mlejax.batch.engine import Ends, Limits, chunks, filled, run_tasks
from mlejax.batch.programs import loglik_lanes
from mlejax.batch.reading import DataSets
from mlejax.fit import evidence, recipe
from mlejax.fit.programs import Ended
from mlejax.fit.search import Looked, evidence_at, followed, search
from mlejax.fit.standing import Found, curved
from mlejax.objective import Spec
from mlejax.parameters import Space
from mlejax.status import End
from mlejax.verdict import code_of

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
            code = code_of(evidence_at(spec, held, ended, found))
        else:  # a kink of the penalty may be what stopped it
            code = recipe._finish(spec, loaded, held, ended, found, algorithm).verdict.code
        out.append((i, ended, found, code, note))
    return out


def _along_first_rays(
    spec: Spec, sets: DataSets, held: Any, u0: np.ndarray, ends: list[tuple[int, Ended]], limits: Limits
) -> dict[int, Looked]:
    """By data set: every direction that will be followed, with the log-likelihoods at its first points."""
    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
        usable = [
            (i, e)
            for i, e in ends
            if e.information is not None and np.isfinite(e.loglik) and np.isfinite(e.score).all()
        ]
        if len(usable) < 2:
            return {}
        vectors = followed(spec, [e for _, e in usable], [u0[i] for i, _ in usable])
        counts = [len(v) for v in vectors]
        if not all(counts):
            return {}
        each = lambda name: np.repeat([getattr(e, name) for _, e in usable], counts, axis=0)
        u = each("u")
        bent = curved(spec.space)
        looks = evidence.first_looks(np.concatenate(vectors), u, each("score"), each("information"), bent)
        values = _values_at(
            spec, sets, held, [i for i, _ in usable], counts, evidence.first_points(looks, u, spec.space), limits
        )
        falls = evidence.plainly_falls(values, each("loglik")) & (not spec.space.boxed)
    looks = [look._replace(values=v) for look, v in zip(looks, values, strict=True)]
    last = np.cumsum(counts)
    return {
        i: Looked(e.u, looks[end - k : end], falls[end - k : end])
        for (i, e), k, end in zip(usable, counts, last.tolist(), strict=True)
    }


def _values_at(
    spec: Spec, sets: DataSets, held: Any, numbers: list[int], counts: list[int], points: np.ndarray, limits: Limits
) -> np.ndarray:
    """Log-likelihoods (K, m) at points (K, m, p), of which the data sets have ``counts`` each, one after the other."""
    k, m, p = points.shape
    most = -(-max(counts) // DIRECTIONS) * DIRECTIONS
    ends = np.cumsum(counts)
    # for every data set as many places: those too many repeat its last direction
    places = np.minimum(np.arange(most)[None, :] + (ends - counts)[:, None], ends[:, None] - 1)
    used = np.arange(most)[None, :] < np.array(counts)[:, None]
    row_of = {i: j for j, i in enumerate(numbers)}
    out = np.empty((k, m))

    def work(task: tuple[np.ndarray, int, int]) -> int:
        mine, width, capacity = task
        rows = np.array([row_of[i] for i in mine.tolist()])
        at = filled(points[places[rows]].reshape(len(mine), most * m, p), capacity)
        blocks, data, hyper = (
            np.int32(-(-mine.size // width)),
            sets.fetch(mine, capacity),
            sets.hyper_of(mine, capacity),
        )
        found = np.asarray(loglik_lanes(spec, width, at, data, held, hyper, blocks, sets.own_hyper))[: len(mine)]
        out[places[rows][used[rows]]] = found.reshape(len(mine), most, m)[used[rows]]
        return int(mine.size)

    lanes = np.sort(np.array(numbers, np.int64))
    run_tasks(chunks(sets, lanes, p, limits), work, limits, "ray test", lanes.size)
    return out


def write(ends: Ends, i: int, ended: Ended) -> None:
    """One data set's end into the arrays."""
    ends.u[i], ends.loglik[i], ends.score[i] = ended.u, ended.loglik, ended.score
    ends.n_steps[i], ends.end[i] = ended.n_steps, int(ended.end)
    if ended.information is not None:
        ends.information[i] = ended.information
        ends.decrements[i] = ended.decrements
