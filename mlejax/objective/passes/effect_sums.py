r"""Derivatives of every row by the parameters u and by its own effect, and what a Newton step of both needs for a resample.

If cluster k has weight w_k, the sums of level g are those of its pairs with clusters,

.. math:: s_g = \sum_k w_k s_{gk}, \quad h_g = \sum_k w_k h_{gk}, \quad c_g = \sum_k w_k c_{gk},

with the score by the effect, minus its second derivative, and the mixed derivative by effect and u.  One Newton step of u and all
effects together moves u by I^-1 s with

.. math:: s = s_u + \sum_g c_g s_g / h_g, \qquad I = I_{uu} - \sum_g c_g c_g' / h_g.

A level that is in one cluster has the same c/h under every weight, so that its part is linear in w, and a table of sums by
cluster is all that is needed.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from mlejax.data import Prepared, Table, group_codes
from mlejax.execution import compiled
from mlejax.objective.objective import Objective, objective_of
from mlejax.objective.passes.jobs import EffectValues, Place
from mlejax.objective.passes.partitioned import PartitionedEvaluator
from mlejax.objective.passes.resampled_sums import check_rows_at_once, derivatives_of_rows
from mlejax.objective.passes.score_sums import ByCluster, by_label
from mlejax.objective.specification import Spec
from mlejax.shapes import Either, Float, Host, Int, PyTree


@dataclass(frozen=True)
class DerivativesWithEffects:
    """The task that returns derivatives of every row, unweighted (N, p + p^2 + 2 + p): score and information in u, then the
    score by its effect, minus the second derivative, and the mixed derivatives by effect and u.

    Attributes:
        position: position of the column of effects.
    """

    position: int

    def __call__(self, objective: Objective, u: Either) -> PyTree:
        rows = objective.prepared.rows
        effects = jnp.asarray(rows[self.position])

        def slope(t: PyTree, a: PyTree) -> PyTree:
            total = lambda b: jnp.sum(objective.contributions(t, (*rows[: self.position], b, *rows[self.position + 1 :])))
            return jax.grad(total)(a)

        score, bend = jax.jvp(lambda a: slope(u, a), (effects,), (jnp.ones_like(effects),))
        mixed = jax.jacfwd(lambda t: slope(t, effects))(u)
        return jnp.concatenate([derivatives_of_rows(objective, u), score[:, None], -bend[:, None], mixed], axis=1)


class EffectSums(NamedTuple):
    """Weighted sums of derivatives over clusters, and over the rows of a level in a cluster.

    Attributes:
        clusters: score and information in u of each of K clusters (K, p + p^2).
        pairs: for each of m pairs of a level and a cluster, the score by the effect, minus the second derivative, and the mixed
            derivatives (m, 2 + p).
        level, cluster: numbers of the level and the cluster of each pair (m,).
    """

    clusters: Float[Host, "K k"]
    pairs: Float[Host, "m q"]
    level: Int[Host, " m"]
    cluster: Int[Host, " m"]

    @property
    def nested(self) -> bool:
        """True if every level is in one cluster."""
        return np.unique(self.level).size == self.level.size

    def with_effects_eliminated(self) -> Float[Host, "K k"]:
        """Return the sums by cluster from which the effects are eliminated (K, p + p^2), if every level is in one cluster."""
        out = np.array(self.clusters)
        np.add.at(out, self.cluster, _eliminated(self.pairs))
        return out

    def weighted(self, weights: Float[Host, "B K"]) -> Float[Host, "B k"]:
        """Return score and information in u, the effects eliminated, under each of B weights of the clusters (B, p + p^2)."""
        if self.nested:
            return weights @ self.with_effects_eliminated()
        out, n_levels = weights @ self.clusters, int(self.level.max()) + 1
        for b, mine in enumerate(weights[:, self.cluster]):
            each = self.pairs * mine[:, None]
            sums = np.stack([np.bincount(self.level, column, n_levels) for column in each.T], axis=1)
            there = np.bincount(self.level, mine, n_levels) > 0
            out[b] += _eliminated(sums[there]).sum(axis=0)
        return out


def _eliminated(levels: Float[Host, "G q"]) -> Float[Host, "G k"]:
    """Return the change of score and information in u by the elimination of the effect of each level (G, p + p^2); NaN for a
    level whose log-likelihood has no maximum in its effect.
    """
    score, shaft, border = levels[:, :1], levels[:, 1:2], levels[:, 2:]
    lever = border / np.where(shaft > 0, shaft, np.nan)
    squares = -lever[:, :, None] * border[:, None, :]
    return np.concatenate([lever * score, squares.reshape(len(levels), -1)], axis=1)


def _sums_of(values: Float[Host, "n k"], codes: Int[Host, " n"], n: int) -> Float[Host, "n_codes k"]:
    return np.stack([np.bincount(codes, column, n) for column in values.T], axis=1)


@partial(compiled, static=("spec", "task"))
def _run(spec: Spec, task: DerivativesWithEffects, u: Either, data: Prepared, fixed: Either | None) -> PyTree:
    return task(objective_of(spec, data, fixed, None), u)


def derivatives_in_memory(
    spec: Spec, position: int, u: Float[Host, " p"], data: Prepared, fixed: Host | None
) -> Float[Host, "n k"]:
    """Return, for rows in memory with their effects in the column at ``position``, the unweighted derivatives (n,
    p + p^2 + 2 + p) of `DerivativesWithEffects`, without padding.
    """
    return np.asarray(_run(spec, DerivativesWithEffects(position), u, data, fixed))[: int(data.n)]


def effect_sums(
    values: Float[Host, "n k"], p: int, levels: Int[Host, " n"], clusters: Int[Host, " n"]
) -> EffectSums:
    """Return the `EffectSums` of some rows: sums by cluster, and by pair of a level and a cluster.

    Args:
        values: weighted derivatives of `DerivativesWithEffects`.
        p: number of parameters in u.
        levels, clusters: numbers of the level and the cluster of each row; clusters are numbered without gaps.
    """
    m, n_levels = p + p * p, int(levels.max()) + 1
    pairs, inside = np.unique(clusters * n_levels + levels, return_inverse=True)
    by_cluster = _sums_of(values[:, :m], clusters, int(clusters.max()) + 1)
    return EffectSums(by_cluster, _sums_of(values[:, m:], inside, len(pairs)), pairs % n_levels, pairs // n_levels)


@dataclass(frozen=True)
class _WithWeights:
    """The task that returns the derivatives of `DerivativesWithEffects` times the weight of each row, and the weights as the
    last column.
    """

    of: DerivativesWithEffects

    def __call__(self, objective: Objective, u: Either) -> PyTree:
        weights = objective.prepared.weights[:, None]
        return jnp.concatenate([self.of(objective, u) * weights, weights], axis=1)


@dataclass(frozen=True)
class _ByPair:
    """Sums over a chunk of weighted derivatives by cluster, and by pair (label of the cluster, code of the level).

    Attributes:
        position: position of the column of level codes.
        p: number of parameters in u.
        groups: the column of clusters.
    """

    position: int
    p: int
    groups: str

    def __call__(self, values: Float[Host, "N k"], chunk: Prepared, table: Table, place: Place) -> Any:
        n, m = int(chunk.n), self.p + self.p**2
        codes, values = np.asarray(chunk.rows[self.position])[:n].astype(np.int64), values[:n]
        _, labels = ByCluster((self.groups,), of_all=True).labels(chunk, table, place)
        numbers, names = group_codes(labels, "groups")
        width = int(codes.max()) + 1
        pairs, inside = np.unique(numbers * width + codes, return_inverse=True)
        keys = np.empty(len(pairs), object)
        keys[:] = list(zip(names[pairs // width].tolist(), (pairs % width).tolist(), strict=True))
        of_clusters = np.concatenate([values[:, :m], values[:, -1:]], axis=1)
        return (names, _sums_of(of_clusters, numbers, len(names))), (keys, _sums_of(values[:, m:], inside, len(pairs)))


def streamed_effect_sums(
    evaluator: PartitionedEvaluator, effects: EffectValues, u: Float[Host, " p"], groups: str
) -> EffectSums:
    """Return the `EffectSums` of the rows of a stream by one pass: sums by cluster, and by pair of a level and a cluster;
    clusters without a row of positive weight are left out.

    Args:
        evaluator: evaluator of the log-likelihood without penalty.
        effects: the effects.
        u: point of evaluation (p,).
        groups: the column of clusters, which are in the order of their first rows.

    Raises:
        DataError: too many parameters for the memory, or the column cannot be labels.
    """
    check_rows_at_once(evaluator, "one-step resampling of a stream")
    within = PartitionedEvaluator(evaluator.spec, evaluator.rows.with_columns([groups]), evaluator.some, evaluator.fixed)
    task, finish = _WithWeights(DerivativesWithEffects(effects.position)), _ByPair(effects.position, len(u), groups)
    (names, sums), (keys, pairs) = within.map_reduce(task, by_label, u, finish, effects=effects)
    used = np.flatnonzero(sums[:, -1] > 0)
    number = {name: i for i, name in enumerate(np.asarray(names)[used].tolist())}
    there = pairs[:, -1] > 0
    level = np.array([code for _, code in keys], np.int64)[there]
    cluster = np.array([number.get(label, -1) for label, _ in keys], np.int64)[there]
    return EffectSums(sums[used, :-1], pairs[there, :-1], level, cluster)


@dataclass(frozen=True, eq=False)
class RowDerivatives:
    """The weighted derivatives of `DerivativesWithEffects` as row values of a pass by level, (p + p^2 + 2 + p, N).

    Attributes:
        spec, fixed: what is compiled, without a penalty, and values under ``fixed=``.
        position: position of the column of effects.
        u: point of evaluation (p,).
    """

    spec: Spec
    position: int
    u: Either
    fixed: Either | None

    @property
    def n_terms(self) -> int:
        """Number of row values."""
        return 2 + 2 * len(self.u) + len(self.u) ** 2

    def __call__(self, rows: Prepared) -> tuple[tuple[()], Float[Host, "k N"]]:
        """Return the pair (no summed results, row values) for a chunk of rows."""
        found = _run(self.spec, DerivativesWithEffects(self.position), self.u, rows, self.fixed)
        return (), np.asarray(found).T * np.asarray(rows.weights)


def sums_by_level(sums: Float[Host, "k G"], p: int) -> EffectSums:
    """Return the sums over the levels, each of which is a cluster, from those of `RowDerivatives` by level."""
    m, each = p + p * p, np.arange(sums.shape[1])
    return EffectSums(sums[:m].T, sums[m:].T, each, each)
