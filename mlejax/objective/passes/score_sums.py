"""Sums of outer products of scores over partitions, for sandwich covariances; with clusters, from a table of sums by
cluster.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from mlejax.data import Prepared, Table, group_codes
from mlejax.objective.objective import Objective
from mlejax.objective.passes.partitioned import PartitionedEvaluator, Place
from mlejax.shapes import Either, Float, Host, PyTree

Tables = tuple[tuple[Any, Float[Host, "_ p"]], ...]


def _weighted(objective: Objective, u: Either) -> PyTree:
    return objective.scores(u) * objective.prepared.weights[:, None]


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
        m = int(chunk.n)
        used = self.of_all | (np.asarray(chunk.weights[:m]) > 0)  # a row of weight 0 makes no cluster
        labels = []
        for name in self.groups:
            part = place.of_terms(table.column(name), f"groups column {name!r}")
            codes, found = group_codes(part, f"groups column {name!r}")
            labels.append(found[codes][used])
        if len(labels) == 2:
            pairs = np.empty(len(labels[0]), object)
            pairs[:] = list(zip(*(each.tolist() for each in labels), strict=True))
            labels.append(pairs)
        return tuple(_summed(each, scores[:m][used]) for each in labels)


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
    evaluator: PartitionedEvaluator, u: Float[Host, " p"], by_root: bool, groups: Sequence[str] = ()
) -> tuple[list[Float[Host, "p p"]], list[int]]:
    """Return the summed outer products of scores in u, one matrix for each grouping (a single one without groups; with two
    columns a third one, of pairs of labels), and the numbers of clusters ([0] without groups).

    Args:
        evaluator: evaluator of the log-likelihood without penalty.
        u: point of evaluation (p,).
        by_root: if True, products are weighted by w, otherwise by w^2.
        groups: names of the columns of cluster labels, one or two.

    Raises:
        DataError: a missing cluster label, or values that cannot be labels.
    """
    scale = evaluator.rows.cut.scale
    if not groups:
        return [evaluator.products(u, by_root) * (scale if by_root else scale**2)], [0]
    rows = evaluator.rows.with_columns(groups)
    evaluator = PartitionedEvaluator(evaluator.spec, rows, evaluator.some, evaluator.fixed)
    tables = evaluator.map_reduce(_weighted, by_label, u, ByCluster(tuple(groups)))
    return [scale**2 * sums.T @ sums for _, sums in tables], [len(labels) for labels, _ in tables]
