"""Rows of a stream whose log-likelihood is not finite, by partition."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from mlejax.data import Prepared, Table
from mlejax.objective.objective import Objective
from mlejax.objective.passes.partitioned import PartitionedEvaluator, Place
from mlejax.shapes import Either, Float, Host, PyTree

SHOWN = 5


class BadRows(NamedTuple):
    """Rows whose log-likelihood is not finite.

    Attributes:
        n: their number.
        first: partition, number of the row in it and value, of the first five at most.
    """

    n: int
    first: tuple[tuple[str, int, float], ...]


def bad_rows(evaluator: PartitionedEvaluator, u: Float[Host, " p"]) -> BadRows:
    """Return the rows of positive weight whose log-likelihood is not finite at u (p,), by one pass."""
    found: BadRows = evaluator.map_reduce(_terms, _together, u, _bad)
    return found


def _terms(objective: Objective, u: Either) -> PyTree:
    return objective.all_contributions(u)


def _bad(values: Float[Host, " N"], chunk: Prepared, table: Table, place: Place) -> BadRows:
    bad = np.flatnonzero(~np.isfinite(values[: int(chunk.n)]) & (np.asarray(chunk.weights)[: int(chunk.n)] > 0))
    first = tuple((place.partition, place.rows.start + int(i), float(values[i])) for i in bad[:SHOWN])
    return BadRows(bad.size, first)


def _together(a: BadRows, b: BadRows) -> BadRows:
    return BadRows(int(a.n) + int(b.n), (*a.first, *b.first)[:SHOWN])
