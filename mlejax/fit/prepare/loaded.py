"""What a fit knows of its data: the arrays of the programs, the rows, weights, designs, effects, and how much they count."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from mlejax import data as data_room
from mlejax.data.formulas import Designs
from mlejax.data.streams import Streamed
from mlejax.fit.common import Problem
from mlejax.shapes import PyTree

NOTHING_LEFT_OUT = np.zeros(0, object), np.zeros(0), np.zeros(0, np.int64)


@dataclass(frozen=True)
class Remembered:
    """Facts about the data of a saved result, which does not contain them.

    Attributes:
        nobs, n_units: observations and contributions that count.
        versions: of what made the result.
    """

    nobs: float
    n_units: float
    versions: Mapping[str, str]


@dataclass(frozen=True, eq=False)
class Effects:
    """Effects by index at an estimate.

    Attributes:
        key: their parameter and the column of their levels.
        levels: row by row.
        values: of each level, (G,).
        counts: rows of each level, (G,).
        given: levels whose effect is 0 because it is redundant beside an intercept, (G,).
        curvature: minus the second derivative of the log-likelihood by the effect, (G,).
        lever: minus the derivative of the best effects by theta, (G, p).
        left_out: levels without a finite effect, whose rows were left out: labels, signs of their infinity, and rows.
    """

    key: data_room.EffectKey
    levels: data_room.Levels
    values: np.ndarray
    counts: np.ndarray
    given: np.ndarray
    curvature: np.ndarray
    lever: np.ndarray
    left_out: tuple[np.ndarray, np.ndarray, np.ndarray]

    @property
    def n_free(self) -> int:
        """Effects that were estimated."""
        return int((~self.given).sum())


@dataclass(frozen=True, eq=False)
class Loaded:
    """Checked data, and the facts about them that results need.

    Attributes:
        problem: arrays for the compiled programs, with the layout of the parameters.
        rows: the checked rows before grouping and padding.
        source: the data as they came (for groups).
        unit_codes: the unit of each row, for models of units.
        unit_labels: their names.
        fingerprint: of the data.
        weights: of the contributions, or None.
        designs: of the regressed parameters, or None.
        hyper: hyper-parameters of the penalty, or None.
        remembered: facts about data that are not here, of a result from a file.
        stream: rows that are read in every pass, of data larger than memory; then ``problem``, ``rows`` and ``source`` refuse.
        of_sample: some of these rows, loaded as data in memory are.
        levels: of the effects by index, row by row; None for most models.
        coded: effects of further columns, which have coefficients.
        left_out: levels that were left out, as in `Effects`.
        effects: these at the estimate, once it is known.
        crossing: the levels of latents of several columns; None for most models.
        with_total: the last term is the expected total of an extended likelihood, which is no observation.
    """

    problem: Problem
    rows: data_room.Rows
    source: data_room.Table
    unit_codes: np.ndarray | None
    fingerprint: data_room.Fingerprint
    weights: data_room.Weights | None = None
    designs: Designs | None = None
    hyper: PyTree = None
    remembered: Remembered | None = None
    unit_labels: np.ndarray | None = None
    stream: Streamed | None = None
    of_sample: Loaded | None = None
    levels: data_room.Levels | None = None
    coded: tuple[data_room.Coded, ...] = ()
    left_out: tuple[np.ndarray, np.ndarray, np.ndarray] = NOTHING_LEFT_OUT
    effects: Effects | None = None
    crossing: data_room.Crossing | None = None
    with_total: bool = False

    @property
    def seen(self) -> Loaded:
        """Data in memory: all rows, or the sample of a stream."""
        return self if self.of_sample is None else self.of_sample

    @property
    def scale(self) -> float:
        """What the log-likelihood of the optimiser has to be multiplied by."""
        return 1.0 if self.weights is None else self.weights.scale


def counts(loaded: Loaded) -> tuple[float, float]:
    """Observations and contributions that count: the sum of frequency weights, else the number of positive ones."""
    if loaded.remembered is not None:
        return loaded.remembered.nobs, loaded.remembered.n_units
    if loaded.stream is not None:
        frequency = loaded.weights is not None and loaded.weights.kind == "frequency"
        count = loaded.stream.sum_weights if frequency else float(loaded.stream.n_used)
        return count, count
    data = loaded.problem.data
    n = data.n_contributions - loaded.with_total
    w = loaded.weights
    if w is None:
        return float(n if data.mode == "whole" and n > 1 else loaded.rows.n), float(n)
    size = (w.values if w.kind == "frequency" else w.used.astype(np.float64))[:n]
    rows = size if loaded.unit_codes is None else size[loaded.unit_codes]
    return float(rows.sum()), float(size.sum())


def unscaled(loaded: Loaded) -> Loaded:
    """The same data with sampling weights as they were given: against a penalty their scale means something."""
    w = loaded.weights
    if w is None or w.scale == 1.0:
        return loaded
    if loaded.stream is not None:
        sample = None if loaded.of_sample is None else unscaled(loaded.of_sample)
        return replace(loaded, stream=loaded.stream.unscaled(), weights=replace(w, scale=1.0), of_sample=sample)
    data = loaded.problem.data
    problem = replace(loaded.problem, data=replace(data, weights=data.weights * w.scale))
    return replace(loaded, problem=problem, weights=replace(w, scale=1.0))
