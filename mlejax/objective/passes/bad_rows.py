"""Rows (or units) of a stream whose log-likelihood or score is not finite, by partition."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from mlejax.data import Prepared, Table
from mlejax.objective.objective import Objective
from mlejax.objective.passes.jobs import Place
from mlejax.shapes import Bool, Either, Float, Host, PyTree

SHOWN = 5


class BadRows(NamedTuple):
    """Rows, or units, whose log-likelihood, or whose score, is not finite.

    Attributes:
        n: their number.
        first: partition, number of the row in it (of a unit, that of its first row) and log-likelihood of the row or unit, of
            the first five at most.
        lost: if scores were tested, True for the coordinates of u in which some are not finite (p,); if the log-likelihood was
            tested, True if there are such rows (1,).
    """

    n: int
    first: tuple[tuple[str, int, float], ...]
    lost: Bool[Host, " p"]


def bad_rows(evaluator: Any, u: Float[Host, " p"], scores: bool = False) -> BadRows:
    """Return the rows (or units) of positive weight whose log-likelihood (``scores``: whose score) is not finite at u (p,), by
    one pass.

    ``evaluator``: a `PartitionedEvaluator`, or an `EffectsEvaluator` of a stream.
    """
    n, first, lost = evaluator.map_reduce(_scores if scores else _terms, _together, u, _bad)
    return BadRows(int(n), tuple((name, int(row), float(value)) for name, row, value in first), lost)


def _terms(objective: Objective, u: Either) -> PyTree:
    values = objective.all_contributions(u)
    return values, values[:, None]


def _scores(objective: Objective, u: Either) -> PyTree:
    return objective.values_and_scores(u)


def _bad(found: PyTree, chunk: Prepared, table: Table, place: Place) -> BadRows:
    n = int(chunk.n)
    values, looked_at = (a[:n] for a in found)
    lost = ~np.isfinite(looked_at) & (np.asarray(chunk.weights)[:n, None] > 0)
    bad = np.flatnonzero(lost.any(axis=1))
    at = bad if place.units is None else np.searchsorted(place.units, bad)
    first = tuple((place.partition, place.rows.start + int(i), float(values[j])) for i, j in zip(at[:SHOWN], bad, strict=False))
    return BadRows(bad.size, first, lost.any(axis=0))


def _together(a: BadRows, b: BadRows) -> BadRows:
    return BadRows(int(a.n) + int(b.n), (*a.first, *b.first)[:SHOWN], a.lost | b.lost)
