"""Resamples as weights of the terms of the log-likelihood: by case, by cluster, or by the Bayesian bootstrap.

Draws are made in blocks of 64 replicates, each from its own random stream of the seed, so that a replicate does not depend
on the number of replicates, and not all of them need to be in memory.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from mlejax import data as data_room
from mlejax.fit import Fit, Loaded, labels_per_contribution

BLOCK = 64
Draws = Callable[[np.ndarray], np.ndarray]
"""Function from the numbers of k replicates (k,) to their weights (k, n)."""


@dataclass(frozen=True, eq=False)
class Pool:
    """The rows, units or clusters that resamples draw from.

    Attributes:
        what: what is drawn: "rows", "units", "entries" (values that a model with ``rowwise=False`` returns), "clusters" or
            "levels of firm".
        codes: number of the row, unit or cluster that each term belongs to (n,), -1 for terms of weight 0.
        base: weights of the fit, divided by their scale (n,).
        copies: number of equal rows that each of the m rows, units or clusters represents (frequency weights), else ones (m,).
        frequency: True for frequency weights, where the number of draws replaces the weight instead of multiplying it.
        with_total: True if the last term is the expected total of an extended likelihood: it is in every resample, and each
            row is drawn a Poisson number of times.
    """

    what: str
    codes: np.ndarray
    base: np.ndarray
    copies: np.ndarray
    frequency: bool
    with_total: bool = False

    @property
    def m(self) -> int:
        """Number of rows, units or clusters to draw from; a row of frequency weight w counts once."""
        return len(self.copies)

    @property
    def total(self) -> int:
        """Number of draws in a resample; a row of frequency weight w counts w times."""
        return int(self.copies.sum())

    def spread(self, each: np.ndarray) -> np.ndarray:
        """Return the weights of the terms (k, n) in k resamples, from the number of times that each row, unit or cluster was
        drawn (k, m); 0 for terms of weight 0.
        """
        if self.m == len(self.codes) and not self.frequency and (self.base == 1.0).all():
            return each.astype(np.float64)
        out = each[:, np.maximum(self.codes, 0)] * np.where(self.codes < 0, 0.0, 1.0)
        out = out if self.frequency else out * self.base
        if self.with_total:
            out[:, -1] = self.base[-1]
        return out


def clusters_of(loaded: Loaded, groups: object) -> np.ndarray:
    """Return the cluster number (0, 1, ...) of every term (n,), from the name of a column or one label for each row.

    Raises:
        DataError: another number of labels, missing labels, or labels that vary within a unit.
    """
    name = f"groups column {groups!r}" if isinstance(groups, str) else "groups"
    values = loaded.source.column(groups) if isinstance(groups, str) else groups
    return labels_per_contribution(loaded, values, name)


def pool_of(fit: Fit, groups: object, by_level: bool = True) -> Pool:
    """Return the pool to resample from; terms of weight 0 are left out.

    Args:
        fit: the fit.
        groups: clusters (the name of a column, or one label for each row) to draw from; None: levels of ``mle.Real(by=...)``
            if the model has such effects, else units or rows.
        by_level: False: rows in place of those levels.

    Raises:
        DataError: not one label for each row, or fewer than two rows, units or clusters to draw from.
        ValueError: groups are given for an extended likelihood.
    """
    loaded, data = fit.loaded, fit.loaded.problem.data
    if loaded.with_total and groups is not None:
        raise ValueError("groups= is not supported for an extended likelihood, whose rows are independent; leave it out")
    n = data.n_contributions
    base = np.asarray(data.weights, np.float64)[:n]
    frequency = fit.weight_kind == "frequency"
    if groups is None and loaded.effects is not None and by_level:
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
        raise data_room.DataError(
            f"resampling needs at least two {what} with positive weight, got {int(copies.sum())}: use more data, or res.bse"
        )
    return Pool(what, codes, base, copies, frequency, loaded.with_total)


def draws(pool: Pool, kind: str, seed: int) -> Draws:
    """Return the function from the numbers of k replicates (k,) to their weights (k, n).

    ``kind``: "case", "cluster" or "bayesian"; ``seed``: that of the draws.
    """

    def weights(numbers: np.ndarray) -> np.ndarray:
        out = np.empty((len(numbers), len(pool.codes)))
        for block in np.unique(numbers // BLOCK):
            mine = numbers // BLOCK == block
            drawn = _drawn(pool, kind, np.random.default_rng([seed, int(block)]))
            out[mine] = pool.spread(drawn[numbers[mine] % BLOCK])
        return out

    return weights


def _drawn(pool: Pool, kind: str, rng: np.random.Generator) -> np.ndarray:
    """Return how often each row, unit or cluster is drawn in a block of 64 replicates (64, m).

    Whole numbers by multinomial draws, or real ones by Dirichlet draws ("bayesian"), which sum to ``pool.total`` in each
    replicate; of an extended likelihood independent Poisson numbers or exponential ones, with any sum.
    """
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
    """Return the function from the numbers of k replicates (k,) to their weights (k, n): replicate j leaves out row, unit or
    cluster j; of a row of frequency weight w, one of its w copies.
    """

    def weights_of(numbers: np.ndarray) -> np.ndarray:
        each = np.tile(pool.copies.astype(float), (len(numbers), 1))
        each[np.arange(len(numbers)), numbers] -= 1.0
        return pool.spread(each)

    return weights_of
