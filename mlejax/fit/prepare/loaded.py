"""The data of a fit: padded arrays for compiled programs, the checked rows before grouping and padding, weights, design matrices,
fixed effects, and numbers of observations.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from mlejax import data as data_room
from mlejax.data.formulas import Designs
from mlejax.data.streams import Streamed
from mlejax.fit.common import Problem
from mlejax.likelihood import Likelihood
from mlejax.objective import Eliminated
from mlejax.shapes import Host, Int, PyTree

NOTHING_LEFT_OUT = np.zeros(0, object), np.zeros(0), np.zeros(0, np.int64)


@dataclass(frozen=True)
class Remembered:
    """Facts about the data of a result from a file, which does not contain the data.

    Attributes:
        nobs, n_units: number of observations and of log-likelihood terms (see `counts`).
        versions: package name -> version with which the result was made.
    """

    nobs: float
    n_units: float
    versions: Mapping[str, str]


@dataclass(frozen=True, eq=False)
class Effects:
    """Estimated fixed effects of ``mle.Real(by=...)``, of G levels.

    Attributes:
        key: their parameter and the column of their levels.
        levels: the level of each row.
        values: estimated effect of each level, (G,).
        counts: number of rows of each level, (G,).
        given: mask of levels whose effect is fixed at 0 because it is redundant with an intercept, (G,).
        curvature: minus the second derivative of the log-likelihood with respect to each effect, (G,).
        lever: minus the derivative of the maximising effects with respect to theta, (G, p).
        left_out: levels without a finite effect, whose rows were left out: labels, signs of their effects, numbers of rows.
        at: log-likelihood, score and information in u at the estimate, maximised over the effects; None for a result from a file.
    """

    key: data_room.EffectKey
    levels: data_room.Levels
    values: np.ndarray
    counts: np.ndarray
    given: np.ndarray
    curvature: np.ndarray
    lever: np.ndarray
    left_out: tuple[np.ndarray, np.ndarray, np.ndarray]
    at: Eliminated | None = None

    @property
    def n_free(self) -> int:
        """Number of effects that were estimated, those fixed at 0 excluded."""
        return int((~self.given).sum())


@dataclass(frozen=True, eq=False)
class Loaded:
    """Checked data of a fit, and what results need to know of them.

    Attributes:
        problem: arrays for the compiled programs, with the layout of the parameters.
        rows: the checked rows before grouping and padding.
        source: the user's data (from which group columns are read later).
        unit_codes: number of the unit of each row, (n,); None for models without ``unit=``.
        unit_labels: labels of the units, or None.
        fingerprint: summary of the data, by which two fits are recognised as of the same data.
        weights: weights of the rows or units, or None.
        designs: design matrices of the parameters that have formulas, or None.
        hyper: hyper-parameters of the penalty, or None.
        remembered: facts about the data, if the result comes from a file without them; else None.
        stream: source of rows that are read in every pass, for data larger than memory; then ``problem``, ``rows`` and
            ``source`` raise DataError when rows are accessed.
        of_sample: a sample of a stream's rows, loaded in memory; else None.
        levels: level of the eliminated fixed effect of each row; None without fixed effects.
        coded: fixed effects of further columns, which are estimated as coefficients.
        left_out: labels of the levels that were left out, signs of their infinite effects, and numbers of their rows.
        effects: the estimated fixed effects, once they are known.
        crossing: levels of random effects of several columns, or None.
        with_total: the last log-likelihood term is the expected total of an extended likelihood, not an observation.
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
        """The data in memory: ``self``, or the sample of a stream."""
        return self if self.of_sample is None else self.of_sample

    @property
    def scale(self) -> float:
        """Factor by which the optimiser's log-likelihood is multiplied to give the reported one (rescaling of weights)."""
        return 1.0 if self.weights is None else self.weights.scale


def named_terms(loaded: Loaded, likelihood: Likelihood, at: Int[Host, " m"]) -> tuple[tuple[Any, ...], str]:
    """Return the names of the log-likelihood terms at these positions (m,), and a phrase that lists the first five.

    The names are the numbers of rows in the user's table (dropped rows counted), labels of units, or positions of the terms of
    a function of the whole data.
    """
    rows, unit = loaded.rows, likelihood.unit
    if likelihood.mode == "whole":
        return tuple(at.tolist()), data_room.rows_phrase(at).replace("rows", "entries").replace("row", "entry")
    if unit is None and loaded.stream is not None:  # the rows of a stream have no index
        return tuple(at.tolist()), data_room.rows_phrase(at)
    if unit is None:
        return tuple(rows.numbered(at).tolist()), rows.phrase(at)
    dots = ", ..." if len(at) > data_room.SHOWN_ROWS else ""
    if loaded.unit_codes is None:  # one data set of a batch, without its table
        shown = ", ".join(str(i) for i in at[: data_room.SHOWN_ROWS].tolist())
        return tuple(at.tolist()), f"numbers in the order of {unit}: {shown}{dots}"
    if loaded.stream is not None:
        assert loaded.unit_labels is not None
        units = tuple(loaded.unit_labels[at])
    else:
        column = np.asarray(rows.select(loaded.source.column(unit)) if loaded.crossing is None else loaded.crossing.units)
        units = tuple(column[np.argmax(loaded.unit_codes == i)] for i in at)
    return units, f"{unit} {', '.join(str(label) for label in units[: data_room.SHOWN_ROWS])}{dots}"


def counts(loaded: Loaded) -> tuple[float, float]:
    """Return the number of observations and the number of log-likelihood terms, (nobs, n_terms).

    Observations are rows, or the values that a function of the whole data returns, if they are several. The terms are rows,
    units, or these values. Those of weight 0 are not counted; with frequency weights each counts as often as its weight says.
    The expected total of an extended likelihood is not counted.
    """
    if loaded.remembered is not None:
        return loaded.remembered.nobs, loaded.remembered.n_units
    if loaded.stream is not None:
        frequency = loaded.weights is not None and loaded.weights.kind == "frequency"
        count = loaded.stream.sum_weights if frequency else float(loaded.stream.n_used)
        units = loaded.stream.units
        if units is None:
            return count, count
        return units.sum_over_rows if frequency else float(units.n_rows_used), count
    data = loaded.problem.data
    n = data.n_contributions - loaded.with_total
    w = loaded.weights
    if w is None:
        return float(n if data.mode == "whole" and n > 1 else loaded.rows.n), float(n)
    size = (w.values if w.kind == "frequency" else w.used.astype(np.float64))[:n]
    rows = size if loaded.unit_codes is None else size[loaded.unit_codes]
    return float(rows.sum()), float(size.sum())


def unscaled(loaded: Loaded) -> Loaded:
    """Return the data with sampling weights as the user gave them, not rescaled, because a penalty depends on their scale."""
    w = loaded.weights
    if w is None or w.scale == 1.0:
        return loaded
    if loaded.stream is not None:
        sample = None if loaded.of_sample is None else unscaled(loaded.of_sample)
        return replace(loaded, stream=loaded.stream.unscaled(), weights=replace(w, scale=1.0), of_sample=sample)
    data = loaded.problem.data
    problem = replace(loaded.problem, data=replace(data, weights=data.weights * w.scale))
    return replace(loaded, problem=problem, weights=replace(w, scale=1.0))
