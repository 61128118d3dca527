"""What a resample is: a weight for every contribution, drawn by case, by cluster, or by the Bayesian bootstrap.

Draws are made in blocks of 64 replicates, each from its own stream of the seed, so that a replicate is the same whatever
others are asked for, and a matrix of all of them need not be in memory.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from mlejax import data as data_room
from mlejax.fit import Fit, Loaded, labels_per_contribution, n_contributions

BLOCK = 64
KEPT = 256 * 1024 * 1024  # bytes of weights that are drawn once and kept
Draws = Callable[[np.ndarray], np.ndarray]
"""Numbers of replicates (k,) -> their weights (k, n_contributions)."""


@dataclass(frozen=True, eq=False)
class Pool:
    """What is drawn from.

    Attributes:
        what: "rows", "units", "entries" or "clusters".
        codes: (n,) the resampled thing that each contribution belongs to, -1 for contributions of weight 0.
        base: (n,) the weights of the fit, as the optimiser sees them.
        copies: (m,) how many equal ones each resampled thing stands for (frequency weights), else ones.
        frequency: copies are drawn apart, so that a draw replaces the weight instead of multiplying it.
    """

    what: str
    codes: np.ndarray
    base: np.ndarray
    copies: np.ndarray
    frequency: bool

    @property
    def m(self) -> int:
        """How many different things there are."""
        return len(self.copies)

    @property
    def total(self) -> int:
        """How many are drawn: their number, copies included."""
        return int(self.copies.sum())

    def spread(self, each: np.ndarray) -> np.ndarray:
        """Weights (k, n) of the contributions from numbers (k, m) of the things drawn."""
        if self.m == len(self.codes) and not self.frequency and (self.base == 1.0).all():
            return each.astype(np.float64)
        out = each[:, np.maximum(self.codes, 0)] * np.where(self.codes < 0, 0.0, 1.0)
        return out if self.frequency else out * self.base


def clusters_of(loaded: Loaded, groups: object) -> np.ndarray:
    """The cluster (0, 1, ...) of every contribution, from a column's name or one label for each row."""
    name = f"groups column {groups!r}" if isinstance(groups, str) else "groups"
    values = loaded.source.column(groups) if isinstance(groups, str) else groups
    return labels_per_contribution(loaded, values, name)


def pool_of(fit: Fit, groups: object) -> Pool:
    """What there is to draw: clusters if groups are given, else units or rows; those of weight 0 are no data.

    Raises:
        DataError: labels that do not fit; fewer than two to draw from.
    """
    loaded, data = fit.loaded, fit.loaded.problem.data
    n = n_contributions(data)
    base = np.asarray(data.weights, np.float64)[:n]
    frequency = fit.weight_kind == "frequency"
    if groups is None:
        labels, what = np.arange(n), data.mode if data.mode != "whole" else "entries"
    else:
        labels, what, frequency = clusters_of(loaded, groups), "clusters", False
    used = base > 0
    codes = np.full(n, -1)
    distinct, inside = np.unique(labels[used], return_inverse=True)
    codes[used] = inside
    copies = base[used].astype(np.int64) if frequency else np.ones(len(distinct), np.int64)
    if int(copies.sum()) < 2:
        raise data_room.DataError(f"resampling needs at least two {what}, got {int(copies.sum())}")
    return Pool(what, codes, base, copies, frequency)


def draws(pool: Pool, kind: str, seed: int, n: int) -> Draws:
    """Weights (k, n_contributions) of the replicates asked for; kept where all of them are small enough."""

    def block(number: int) -> np.ndarray:
        return _drawn(pool, kind, np.random.default_rng([seed, number]))

    def fresh(lanes: np.ndarray) -> np.ndarray:
        out = np.empty((len(lanes), len(pool.codes)))
        for number in np.unique(lanes // BLOCK):
            mine = lanes // BLOCK == number
            out[mine] = pool.spread(block(int(number))[lanes[mine] % BLOCK])
        return out

    kind_of = np.float64 if kind == "bayesian" else np.uint16 if pool.total < 65_000 else np.uint32
    n_blocks = -(-n // BLOCK)
    if n_blocks * BLOCK * pool.m * np.dtype(kind_of).itemsize > KEPT:
        return fresh
    kept = np.concatenate([block(i).astype(kind_of) for i in range(n_blocks)])
    return lambda lanes: pool.spread(kept[lanes])


def _drawn(pool: Pool, kind: str, rng: np.random.Generator) -> np.ndarray:
    """Numbers (64, m) of the things drawn, summing to their total."""
    m, total = pool.m, pool.total
    if kind == "bayesian":
        share = rng.standard_gamma(np.broadcast_to(pool.copies.astype(float), (BLOCK, m)))
        return np.asarray(share * (total / share.sum(axis=1, keepdims=True)))
    if total != m:
        return np.asarray(rng.multinomial(total, pool.copies / total, size=BLOCK))
    at = rng.integers(0, m, (BLOCK, m)) + m * np.arange(BLOCK)[:, None]
    return np.bincount(at.ravel(), minlength=BLOCK * m).reshape(BLOCK, m)


def without_one(pool: Pool) -> Draws:
    """Weights (k, n_contributions) of all but one: replicate j leaves out thing j, one copy of it."""

    def lanes_of(lanes: np.ndarray) -> np.ndarray:
        each = np.broadcast_to(pool.copies.astype(float) if pool.frequency else np.ones(pool.m), (len(lanes), pool.m))
        each = np.array(each)
        each[np.arange(len(lanes)), lanes] -= 1.0
        return pool.spread(each)

    return lanes_of
