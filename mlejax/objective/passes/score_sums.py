"""Sums of outer products of scores over partitions, for sandwich covariances; with clusters, from a table of sums by
cluster.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from mlejax.data import Prepared, Table, group_codes
from mlejax.objective.objective import Objective
from mlejax.objective.passes.jobs import EffectValues, Place
from mlejax.objective.passes.partitioned import PartitionedEvaluator, added
from mlejax.shapes import Either, Float, Host, PyTree

Tables = tuple[tuple[Any, Float[Host, "_ _"]], ...]


def _weighted(objective: Objective, u: Either) -> PyTree:
    return objective.scores(u) * objective.prepared.weights[:, None]


@dataclass(frozen=True)
class _WithEffects:
    """The task that returns scores and, last, the derivative of each row's log-likelihood by its effect, unweighted (N, p + 1).

    Attributes:
        position: position of the column of effects.
    """

    position: int

    def __call__(self, objective: Objective, u: Either) -> PyTree:
        rows = objective.prepared.rows
        total = lambda a: jnp.sum(objective.contributions(u, (*rows[: self.position], a, *rows[self.position + 1 :])))
        alone = jax.grad(total)(jnp.asarray(rows[self.position]))
        return jnp.concatenate([objective.scores(u), alone[:, None]], axis=1)


@dataclass(frozen=True, eq=False)
class Partialled:
    """Scores from which the effects of levels are partialled out: s_u - lever_g s_alpha for a row of level g, with s_u its
    score in u and s_alpha its score in the effect.

    Attributes:
        position: position of the column of level codes.
        values: the effects (G,).
        lever: minus the derivative of the maximising effects by u (G, p).
    """

    position: int
    values: Float[Host, " levels"]
    lever: Float[Host, "levels p"]

    @property
    def effects(self) -> EffectValues:
        """The effects, for a pass."""
        return EffectValues(self.position, self.values)

    def of(self, scores: Float[Host, "N k"], chunk: Prepared) -> Float[Host, "N p"]:
        """Return the partialled scores of a chunk (N, p) from its scores in u and, in the last column, in the effects (N, p + 1).
        """
        return scores[:, :-1] - self.lever[self.effects.codes(chunk)] * scores[:, -1:]


@dataclass(frozen=True, eq=False)
class _Finished:
    """The function that a pass applies to the scores of a chunk, the scores in the effects included: it returns sums by
    cluster, or without clusters the summed outer products.

    Attributes:
        partialled: the `Partialled` by which effects are partialled out.
        by_root: True if products are weighted by w, False by w^2; not used with clusters.
        groups: sums by cluster, or None.
    """

    partialled: Partialled
    by_root: bool
    groups: ByCluster | None

    def __call__(self, scores: Float[Host, "N k"], chunk: Prepared, table: Table, place: Place) -> Any:
        own, weights = self.partialled.of(scores, chunk), np.asarray(chunk.weights)[:, None]
        if self.groups is not None:
            return self.groups(own * weights, chunk, table, place)
        weighted = own * (np.sqrt(weights) if self.by_root else weights)
        return np.einsum("ni,nj->ij", weighted, weighted)  # no BLAS: its threads would wait for those of the passes


@dataclass(frozen=True)
class ByCluster:
    """Sums of the weighted scores of a chunk by cluster label, for each grouping; with two groupings also by pair of
    labels.

    Attributes:
        groups: names of the columns of cluster labels.
        of_all: if True, a row of weight 0 takes part too: the order of the clusters is that of all rows.
    """

    groups: tuple[str, ...]
    of_all: bool = False

    def __call__(self, scores: Float[Host, "N p"], chunk: Prepared, table: Table, place: Place) -> Tables:
        used, *labels = self.labels(chunk, table, place)
        if len(labels) == 2:
            pairs = np.empty(len(labels[0]), object)
            pairs[:] = list(zip(*(each.tolist() for each in labels), strict=True))
            labels.append(pairs)
        return tuple(_summed(each, scores[: int(chunk.n)][used]) for each in labels)

    def labels(self, chunk: Prepared, table: Table, place: Place) -> tuple[Any, ...]:
        """Return a mask of the chunk's rows whose scores are summed (n,), and for each grouping the cluster labels of these
        rows.
        """
        m = int(chunk.n)
        used = self.of_all | (np.asarray(chunk.weights[:m]) > 0)  # a row of weight 0 makes no cluster
        out = []
        for name in self.groups:
            part = place.of_terms(table.column(name), f"groups column {name!r}")
            codes, found = group_codes(part, f"groups column {name!r}")
            out.append(found[codes][used])
        return used, *out


def _summed(labels: Host, scores: Float[Host, "n p"]) -> tuple[Any, Float[Host, "G p"]]:
    if not len(labels):
        return labels, scores
    codes, found = group_codes(labels, "groups")
    out = np.zeros((len(found), scores.shape[1]))
    np.add.at(out, codes, scores)
    return found, out


def by_label(a: Tables, b: Tables) -> Tables:
    """Merge two tables of sums by label."""
    joined = lambda x, y: _summed(np.concatenate([x[0], y[0]]), np.concatenate([x[1], y[1]]))
    return tuple(joined(x, y) for x, y in zip(a, b, strict=True))


def streamed_products(
    evaluator: PartitionedEvaluator,
    partialled: Partialled | None,
    u: Float[Host, " p"],
    by_root: bool,
    groups: Sequence[str] = (),
) -> tuple[list[Float[Host, "p p"]], list[int]]:
    """Return the summed outer products of scores in u, and the numbers of clusters ([0] without groups).

    Without groups there is one matrix, of the scores of rows or units.  With groups there is one for each column, of the sums
    of weighted scores by cluster, and with two columns a third one, of the sums by pair of labels.

    Args:
        evaluator: evaluator of the log-likelihood without penalty.
        partialled: the `Partialled` by which effects are partialled out of the scores; None without effects.
        u: point of evaluation (p,).
        by_root: if True, products are weighted by w, otherwise by w^2; not used with groups.  w are the weights as given.
        groups: names of the columns of cluster labels, one or two.

    Raises:
        DataError: a missing cluster label, or values that cannot be labels.
    """
    scale = evaluator.rows.cut.scale
    by = ByCluster(tuple(groups)) if groups else None
    if by is None and partialled is None:
        return [evaluator.products(u, by_root) * (scale if by_root else scale**2)], [0]
    rows = evaluator.rows.with_columns(groups)
    evaluator = PartitionedEvaluator(evaluator.spec, rows, evaluator.some, evaluator.fixed)
    if partialled is None:
        found = evaluator.map_reduce(_weighted, by_label, u, by)
    else:
        task, finish = _WithEffects(partialled.position), _Finished(partialled, by_root, by)
        found = evaluator.map_reduce(task, added if by is None else by_label, u, finish, effects=partialled.effects)
    if by is None:
        return [found * (scale if by_root else scale**2)], [0]
    return [scale**2 * sums.T @ sums for _, sums in found], [len(labels) for labels, _ in found]


def nested_in_clusters(evaluator: PartitionedEvaluator, position: int, groups: str, u: Float[Host, " p"]) -> bool:
    """True if all rows of positive weight of each level are in one cluster of a column, by one pass.

    Args:
        evaluator: evaluator of a stream with effects.
        position: position of the column of level codes.
        groups: name of the column of clusters.
        u: any point (p,); the answer does not depend on it.
    """
    rows = evaluator.rows.with_columns([groups])
    within = PartitionedEvaluator(evaluator.spec, rows, evaluator.some, evaluator.fixed)
    *_, alone = within.map_reduce(_weights, _joined, u, _ClusterOfLevel(position, ByCluster((groups,))))
    return bool(alone)


def _weights(objective: Objective, u: Either) -> PyTree:
    return objective.prepared.weights


@dataclass(frozen=True)
class _ClusterOfLevel:
    """The function that a pass applies to a chunk: it returns the codes of the chunk's levels (m,), a cluster of each level
    (m,), and False if a level has rows in several clusters (else True).

    Attributes:
        position: position of the column of level codes.
        clusters: sums by the clusters.
    """

    position: int
    clusters: ByCluster

    def __call__(self, weights: Float[Host, " N"], chunk: Prepared, table: Table, place: Place) -> Any:
        used, labels = self.clusters.labels(chunk, table, place)
        return _one_of_each(np.array(chunk.rows[self.position][: int(chunk.n)])[used], labels)


def _one_of_each(codes: Float[Host, " m"], labels: Host) -> tuple[Any, Any, Any]:
    """Return the distinct codes (k,), the label of each (k,), and False if a code has several labels (else True)."""
    if not len(codes):
        return codes, labels, np.asarray(True)
    numbers, found = group_codes(labels, "groups")
    order = np.argsort(codes, kind="stable")
    codes, numbers = codes[order], numbers[order]
    new = np.append(True, codes[1:] != codes[:-1])
    several = (numbers[1:] != numbers[:-1])[~new[1:]].any()
    return codes[new], found[numbers[new]], np.asarray(not several)


def _joined(a: tuple[Any, ...], b: tuple[Any, ...]) -> tuple[Any, ...]:
    codes, labels, alone = _one_of_each(np.concatenate([a[0], b[0]]), np.concatenate([a[1], b[1]]))
    return codes, labels, alone & a[2] & b[2]
