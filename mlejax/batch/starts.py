"""Where the search of every data set begins: given points, the plainest guess, the best of many, or the pooled estimates."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from mlejax import data as data_room
from mlejax.batch import flagged as flagged_room
from mlejax.batch import starting
from mlejax.batch.engine import best_starts, filled
from mlejax.batch.programs import evaluate_lanes, many_to_u
from mlejax.batch.sets import DataSets
from mlejax.execution import run_tasks
from mlejax.execution.chunking import Budget, chunks
from mlejax.fit import recipe, starts
from mlejax.fit.common import POLISH_LIMIT, Problem
from mlejax.fit.loading import Loaded
from mlejax.fit.programs import to_u
from mlejax.likelihood import Likelihood
from mlejax.objective import Spec
from mlejax.parameters import Space


def starts_given(spec: Spec, sets: DataSets, start: Any, likelihood: Likelihood) -> tuple[list[Any], list[bool]]:
    """For each leaf its start or None, and whether it has one for each data set (a leading axis)."""
    if isinstance(start, str):
        if start != "pooled":
            raise ValueError(f"start={start!r}: expected a dict of starts, one for all or one each, or 'pooled'")
        return list(starts.given_values(spec.space, likelihood.parameters, None)), [False] * len(spec.space.leaves)
    n = len(sets)
    entries, per_set = start, {}
    if hasattr(start, "columns") and hasattr(start, "to_numpy"):  # estimates of another batch: one column an address
        if len(start) != n:
            raise ValueError(f"start=: expected one row for each of {n} data sets, got {len(start)}")
        start = {str(c): start[c].to_numpy(dtype=float) for c in start.columns}
    if isinstance(start, Mapping) and all(isinstance(k, str) for k in start):
        entries = {}
        for key, value in start.items():
            shape = _shape_at(spec.space, key)
            if shape is not None and np.shape(value) == (n, *shape):
                per_set[key] = np.asarray(value, np.float64)
                if not np.isfinite(per_set[key]).all():
                    raise ValueError(f"start={key!r}: expected finite numbers for every data set")
                entries[key] = per_set[key][0]
            else:
                entries[key] = value
    given = list(starts.given_values(spec.space, likelihood.parameters, entries))
    own = [False] * len(given)
    for key, values in per_set.items():
        for i, flat in spec.space.locate(key):
            leaf = spec.space.leaves[i]
            if not own[i]:
                given[i] = np.repeat(np.asarray(given[i])[None], n, axis=0)
                own[i] = True
            if flat is None:
                given[i] = values.reshape(n, *leaf.shape).copy()
            else:
                np.asarray(given[i]).reshape(n, -1)[:, flat] = values.reshape(n, -1)
    for i, leaf in enumerate(spec.space.leaves):
        if own[i]:
            problem = leaf.transform.problem(given[i]) if leaf.transform.elementwise else None
            if problem is not None:
                raise ValueError(f"start: {leaf.name} is declared {leaf.kind}: {problem}")
    return given, own


def _shape_at(space: Space, address: str) -> tuple[int, ...] | None:
    """Shape of what an address names: a whole leaf, or one entry."""
    located = space.locate(address)
    if len(located) != 1:
        return None
    i, flat = located[0]
    if flat is None:
        return space.leaves[i].shape
    return () if len(flat) == 1 else (len(flat),)


def first_points(
    spec: Spec,
    sets: DataSets,
    lanes: np.ndarray,
    given: list[Any],
    own: list[bool],
    held: Any,
    seed: int,
    limits: Budget,
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
    guess = starting.first_guesses(space, given, sets.designs, declared)
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
        lambda mine, data: starting.candidates(space, given, own, mine, data, seed, sets.designs, declared),
        starting.sample(recipe.N_SAMPLED),
        held,
        limits,
    )
    if found is None:
        return None
    u0[rest] = found[rest]
    return u0


def _plain_starts(
    spec: Spec, sets: DataSets, lanes: np.ndarray, guess: starting.FirstGuess, held: Any, limits: Budget
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
        good[mine] = np.isfinite(loglik) & _promising(score, information, total)
        return int(mine.size)

    try:
        done = run_tasks(chunks(sets, lanes, p, limits), work, limits, "start", 0)
    except NotImplementedError:  # without a second derivative
        return u0, good
    return (u0, good) if done else None


def _promising(score: np.ndarray, information: np.ndarray, scale: np.ndarray) -> np.ndarray:
    """Flags (L,): safely concave there, and no more than a unit of log-likelihood a row to be gained by Newton's step."""
    with np.errstate(all="ignore"):
        root = np.sqrt(np.einsum("lii->li", information))
        scaled, direction = information / root[:, :, None] / root[:, None, :], score / root
    good = np.isfinite(scaled).all(axis=(1, 2)) & np.isfinite(direction).all(axis=1)
    scaled[~good], direction[~good] = np.eye(score.shape[1]), 0.0
    good &= np.linalg.eigvalsh(scaled)[:, 0] > recipe.CONCAVE
    scaled[~good] = np.eye(score.shape[1])
    rise = (direction * np.linalg.solve(scaled, direction[:, :, None])[:, :, 0]).sum(axis=1)
    return np.asarray(good & (rise <= scale))


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
