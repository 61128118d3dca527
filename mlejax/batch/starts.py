"""Where the search of every data set begins: given points, the plainest guess, the best of many, or the pooled estimates."""

from __future__ import annotations

from typing import Any

import numpy as np

from mlejax import data as data_room
from mlejax.batch import flagged as flagged_room
from mlejax.batch.cutting import Limits, chunks
from mlejax.batch.engine import best_starts, filled, run_tasks
from mlejax.batch.programs import evaluate_lanes, many_to_u
from mlejax.batch.sets import DataSets
from mlejax.fit import recipe, start
from mlejax.fit.common import POLISH_LIMIT, Problem
from mlejax.fit.loading import Loaded
from mlejax.fit.programs import to_u
from mlejax.objective import Spec


def first_points(
    spec: Spec,
    sets: DataSets,
    lanes: np.ndarray,
    given: list[Any],
    own: list[bool],
    held: Any,
    seed: int,
    limits: Limits,
) -> np.ndarray | None:
    """u0 (L, p): the start that was given, or the best among each data set's own candidates."""
    space, declared = spec.space, spec.likelihood.parameters or {}
    known = [v if v is not None and not np.isnan(v).any() else None for v in given]
    if all(v is not None or leaf.all_fixed for v, leaf in zip(known, space.leaves, strict=True)):
        values = [np.zeros(leaf.shape) if v is None else v for v, leaf in zip(given, space.leaves, strict=True)]
        if not any(own):
            return np.repeat(np.asarray(to_u(space, values))[None], len(sets), axis=0)
        each = [
            v if mine else np.broadcast_to(v, (len(sets), *np.shape(v))) for v, mine in zip(values, own, strict=True)
        ]
        return np.asarray(many_to_u(space, each))
    u0, rest = np.zeros((len(sets), space.n_free)), lanes
    guess = start.first_guess(space, given, sets.designs, declared)
    if guess is not None and 0 < space.n_free <= POLISH_LIMIT:
        plain = _plain_starts(spec, sets, lanes, guess, held, limits)
        if plain is None:
            return None
        u0, good = plain
        rest = lanes[~good[lanes]]
    if not rest.size:
        return u0
    found = best_starts(
        spec,
        sets,
        rest,
        lambda mine, data: start.candidates(space, given, own, mine, data, seed, sets.designs, declared),
        lambda data: start.sample_rows(data, recipe.N_SAMPLED),
        held,
        limits,
    )
    if found is None:
        return None
    u0[rest] = found[rest]
    return u0


def _plain_starts(
    spec: Spec, sets: DataSets, lanes: np.ndarray, guess: start.FirstGuess, held: Any, limits: Limits
) -> tuple[np.ndarray, np.ndarray] | None:
    """u (L, p) of every data set's plainest start, and flags (L,) where that will do, by the test of a single fit.

    None if interrupted.
    """
    p, n = spec.space.n_free, len(sets)
    u0, good = np.zeros((n, p)), np.zeros(n, bool)

    def work(task: tuple[np.ndarray, int, int]) -> int:
        mine, width, capacity = task
        data = sets.fetch(mine, capacity)
        values = [filled(v, capacity) for v in guess(data, len(mine))]
        at = np.asarray(many_to_u(spec.space, values))
        blocks = np.int32(-(-mine.size // width))
        hyper = sets.hyper_of(mine, capacity)
        out = evaluate_lanes(spec, width, at, data, held, hyper, blocks, own_hyper=sets.own_hyper)
        loglik, score, information = (np.asarray(part)[: mine.size] for part in out)
        total = np.asarray(data.weights)[: mine.size].sum(axis=-1)
        u0[mine] = at[: mine.size]
        good[mine] = np.isfinite(loglik) & start.acceptable(score, information, total)
        return int(mine.size)

    try:
        done = run_tasks(chunks(sets, lanes, p, limits), work, limits, "start", 0)
    except NotImplementedError:  # without a second derivative
        return u0, good
    return (u0, good) if done else None


def pooled(
    spec: Spec, sets: DataSets, lanes: np.ndarray, given: list[Any], held: Any, algorithm: Any, seed: int
) -> np.ndarray:
    """The estimates from all data sets together, as one start for each."""
    if sets.mode == "whole":
        raise ValueError(
            "start='pooled' needs contributions that can be pooled; with rowwise=False give start= or leave it out"
        )
    if sets.own_hyper:
        raise ValueError(
            "start='pooled' fits all data sets as one, which a penalty of another strength for each does not allow"
        )
    positions = np.concatenate([np.arange(sets.begins[i], sets.begins[i] + sets.lengths[i]) for i in lanes])
    positions = positions if sets.order is None else sets.order[positions]
    leaves = tuple(np.asarray(leaf[positions]) for leaf in sets.leaves)
    rows = data_room.Rows(leaves, sets.shared, sets.layout, len(positions))
    packed = data_room.pack(rows, mode=sets.mode)
    pooled: Any = Loaded(Problem(packed, spec.space), rows, None, None, None, designs=sets.designs, hyper=sets.hyper)  # type: ignore[arg-type]
    u0 = recipe._first_point(spec, pooled, given, held, seed)
    _, ended, _ = flagged_room.search(spec, algorithm, pooled, u0, held, None)
    return np.asarray(ended.u if np.isfinite(ended.u).all() else u0)
