"""Units whose integrals are least accurate, and units without a mode: of data in memory, or in a pass over a stream."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from mlejax.data import Prepared, Table
from mlejax.fit.finish.finish import Fit
from mlejax.fit.prepare.streaming import evaluator_of
from mlejax.latent import Quadrature, checks
from mlejax.objective import Place
from mlejax.shapes import Float, Host

WORST = 10  # units that are looked at on a fixed grid


class WorstUnits(NamedTuple):
    """Units whose log-likelihoods by two quadratures differ most, at most ten, the largest difference first.

    Attributes:
        gaps: the differences, 0 for a unit of weight 0 (m,).
        found: their integrals and modes.
        labels: names of the units (m,).
        rows: their arrays, as in `Prepared` (m, length, ...).
    """

    gaps: Float[Host, " m"]
    found: checks.Compared
    labels: np.ndarray
    rows: tuple[Any, ...]


def _ten(found: checks.Compared, weights: Float[Host, " n"], labels: np.ndarray, data: Prepared) -> WorstUnits:
    """Return the ten units with the largest differences of n units, whose arrays are the first n in ``data``; ``found`` has the
    two log-likelihoods of each.
    """
    gaps = np.where(weights > 0, np.abs(found.values[:, 1] - found.values[:, 0]), 0.0)
    worst = np.argsort(-gaps, kind="stable")[:WORST]
    some = checks.Compared._make(a[worst] for a in found)
    return WorstUnits(gaps[worst], some, labels[worst], data.taken(worst))


def _merged(a: WorstUnits, b: WorstUnits) -> WorstUnits:
    order = np.argsort(-np.concatenate([a.gaps, b.gaps]), kind="stable")[:WORST]
    joined = lambda x, y: np.concatenate([x, y])[order]
    rows = tuple(joined(x, y) for x, y in zip(a.rows, b.rows, strict=True))
    found = checks.Compared._make(joined(x, y) for x, y in zip(a.found, b.found, strict=True))
    return WorstUnits(joined(a.gaps, b.gaps), found, joined(a.labels, b.labels), rows)


@dataclass(frozen=True)
class _OfChunk:
    """A function of a chunk of a stream that returns its `WorstUnits`; ``unit``: the column of units."""

    unit: str

    def __call__(self, found: checks.Compared, chunk: Prepared, table: Table, place: Place) -> WorstUnits:
        n = int(chunk.n)
        found = checks.Compared._make(np.asarray(a)[:n] for a in found)
        return _ten(found, np.asarray(chunk.weights)[:n], place.of_units(table.column(self.unit)), chunk)


def worst_units(done: Fit, finer: Quadrature) -> tuple[WorstUnits, Prepared]:
    """Return the units of a fit whose log-likelihoods by its quadrature and by a ``finer`` one differ most, and their data."""
    spec, loaded = done.spec, done.loaded
    if loaded.stream is None:
        data = loaded.problem.data
        all_units = checks.two_values(spec, finer, done.u, data, done.fixed)
        assert loaded.unit_labels is not None
        found = _ten(all_units, np.asarray(data.weights)[: len(all_units.values)], np.asarray(loaded.unit_labels), data)
        shared, statics = data.shared, data.statics
    else:
        evaluator: Any = evaluator_of(spec, loaded, done.fixed)
        assert spec.likelihood.unit is not None
        ten = evaluator.map_reduce(checks.TwoValues(finer), _merged, done.u, _OfChunk(spec.likelihood.unit))
        gaps, integrals, *rest = ten  # of a kept pass plain tuples
        found = WorstUnits(gaps, checks.Compared._make(integrals), *rest)
        shared, statics = loaded.stream.cut.shared, loaded.stream.cut.layout
    m = len(found.gaps)
    return found, Prepared(found.rows, shared, np.ones(m), np.int64(m), statics, "units", m)


@dataclass(frozen=True)
class _WithoutMode:
    """A function of a chunk of a stream that returns the labels of its units that have no mode; ``unit``: the column of units.
    """

    unit: str

    def __call__(self, has: Host, chunk: Prepared, table: Table, place: Place) -> np.ndarray:
        n = int(chunk.n)
        bad = ~has[:n] & (np.asarray(chunk.weights)[:n] > 0)
        return place.of_units(table.column(self.unit))[bad]


def without_mode(done: Fit) -> list[Any]:
    """Return the labels of the units of a fit whose integrand has no maximum in the latent variables."""
    loaded, unit = done.loaded, done.spec.likelihood.unit
    if loaded.stream is None:
        found = checks.without_mode(done.spec, done.u, loaded.problem.data, done.fixed)
        return np.asarray(loaded.unit_labels)[found].tolist() if len(found) else []
    assert unit is not None
    evaluator: Any = evaluator_of(done.spec.plain, loaded, done.fixed)
    joined = lambda a, b: np.concatenate([a, b])
    return evaluator.map_reduce(checks.has_mode, joined, done.u, _WithoutMode(unit)).tolist()
