"""A resample as a weight for every contribution, drawn by case, by cluster, or by the Bayesian bootstrap.

Draws are made in blocks of 64 replicates, each from its own stream of the seed, so that a replicate does not depend on
the number of replicates, and a matrix of all of them need not be in memory.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from mlejax import data as data_room
from mlejax.fit import Fit, Loaded, labels_per_contribution

BLOCK = 64
Draws = Callable[[np.ndarray], np.ndarray]
"""Numbers of replicates (k,) -> their weights (k, n_contributions)."""


@dataclass(frozen=True, eq=False)
class Pool:
    """The rows, units or clusters that are drawn.

    Attributes:
        what: what is drawn: "rows", "units", "entries", "clusters" or "levels of firm".
        codes: (n,) which resampled row, unit or cluster each contribution belongs to, -1 for contributions of weight 0.
        base: (n,) the weights of the fit, as the optimiser sees them.
        copies: (m,) number of equal rows that each represents (frequency weights), else ones.
        frequency: copies are drawn apart, so that a draw replaces the weight instead of multiplying it.
        with_total: the last contribution is an expected total, which is in every resample; each is drawn a Poisson number of
            times then, since how many there are is an outcome.
    """

    what: str
    codes: np.ndarray
    base: np.ndarray
    copies: np.ndarray
    frequency: bool
    with_total: bool = False

    @property
    def m(self) -> int:
        """Number of different rows, units or clusters."""
        return len(self.copies)

    @property
    def total(self) -> int:
        """Number of draws in a resample: copies counted."""
        return int(self.copies.sum())

    def spread(self, each: np.ndarray) -> np.ndarray:
        """Weights (k, n) of the contributions from the number of times (k, m) that each was drawn."""
        if self.m == len(self.codes) and not self.frequency and (self.base == 1.0).all():
            return each.astype(np.float64)
        out = each[:, np.maximum(self.codes, 0)] * np.where(self.codes < 0, 0.0, 1.0)
        out = out if self.frequency else out * self.base
        if self.with_total:
            out[:, -1] = self.base[-1]
        return out


def clusters_of(loaded: Loaded, groups: object) -> np.ndarray:
    """The cluster (0, 1, ...) of every contribution, from a column's name or one label for each row."""
    name = f"groups column {groups!r}" if isinstance(groups, str) else "groups"
    values = loaded.source.column(groups) if isinstance(groups, str) else groups
    return labels_per_contribution(loaded, values, name)


def pool_of(fit: Fit, groups: object) -> Pool:
    """The pool of a fit: clusters if groups are given, else levels of effects, units or rows, without those of weight 0.

    Raises:
        DataError: labels that do not fit; fewer than two to draw from.
        ValueError: groups of an extended likelihood.
    """
    loaded, data = fit.loaded, fit.loaded.problem.data
    if loaded.with_total and groups is not None:
        raise ValueError("groups= is refused for an extended likelihood, whose rows are independent; leave it out")
    n = data.n_contributions
    base = np.asarray(data.weights, np.float64)[:n]
    frequency = fit.weight_kind == "frequency"
    if groups is None and loaded.effects is not None:
        labels, what, frequency = loaded.effects.levels.codes, f"levels of {loaded.effects.key.by}", False
    elif groups is None:
        labels, what = np.arange(n), "rows" if loaded.with_total else data.mode if data.mode != "whole" else "entries"
    else:
        labels, what, frequency = clusters_of(loaded, groups), "clusters", False
    used = base > 0
    used[-1] &= not loaded.with_total
    codes = np.full(n, -1)
    distinct, inside = np.unique(labels[used], return_inverse=True)
    codes[used] = inside
    copies = base[used].astype(np.int64) if frequency else np.ones(len(distinct), np.int64)
    if int(copies.sum()) < 2:
        raise data_room.DataError(f"resampling needs at least two {what}, got {int(copies.sum())}")
    return Pool(what, codes, base, copies, frequency, loaded.with_total)


def draws(pool: Pool, kind: str, seed: int) -> Draws:
    """Weights (k, n_contributions) of the replicates asked for, by their numbers."""

    def weights(numbers: np.ndarray) -> np.ndarray:
        out = np.empty((len(numbers), len(pool.codes)))
        for block in np.unique(numbers // BLOCK):
            mine = numbers // BLOCK == block
            drawn = _drawn(pool, kind, np.random.default_rng([seed, int(block)]))
            out[mine] = pool.spread(drawn[numbers[mine] % BLOCK])
        return out

    return weights


def _drawn(pool: Pool, kind: str, rng: np.random.Generator) -> np.ndarray:
    """Numbers of times (64, m) that each is drawn; every row sums to the total, but for Poisson numbers of rows."""
    m, total = pool.m, pool.total
    if pool.with_total and kind != "bayesian":
        return np.asarray(rng.poisson(pool.copies, (BLOCK, m)))
    if kind == "bayesian":
        share = rng.standard_gamma(np.broadcast_to(pool.copies.astype(float), (BLOCK, m)))
        if pool.with_total:
            return np.asarray(share)
        return np.asarray(share * (total / share.sum(axis=1, keepdims=True)))
    if total != m:
        return np.asarray(rng.multinomial(total, pool.copies / total, size=BLOCK))
    at = rng.integers(0, m, (BLOCK, m)) + m * np.arange(BLOCK)[:, None]
    return np.bincount(at.ravel(), minlength=BLOCK * m).reshape(BLOCK, m)


def without_one(pool: Pool) -> Draws:
    """Weights (k, n_contributions) of all but one: replicate j leaves out one copy of number j."""

    def weights_of(numbers: np.ndarray) -> np.ndarray:
        each = np.broadcast_to(pool.copies.astype(float) if pool.frequency else np.ones(pool.m), (len(numbers), pool.m))
        each = np.array(each)
        each[np.arange(len(numbers)), numbers] -= 1.0
        return pool.spread(each)

    return weights_of
