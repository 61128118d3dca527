"""Streams of units: what the survey collects of them, whole units for the sample, and chunks of units of one padded length."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from mlejax.data import DataError, Prepared, bucket, constant_within
from mlejax.data.streams import Groups, InUnits, UnitCounts, check_whole
from mlejax.execution import limits
from mlejax.fit.prepare.loaded import Loaded
from mlejax.fit.prepare.loading import class_covariates, most_units
from mlejax.likelihood import Likelihood
from mlejax.shapes import Float, Host, Int

RUNS = 4  # of neighbouring rows or units, in each partition of the sample


@dataclass(frozen=True, eq=False)
class UnitSurvey:
    """What the survey collected of the units of one partition, or of all.

    Attributes:
        place: name of the partition, or "".
        labels: name of each unit (G,).
        longest: number of rows of the longest unit.
        counts: number of units, of rows in units of positive weight, and sum over rows of the weights of their units.
    """

    place: str
    labels: np.ndarray
    longest: int
    counts: UnitCounts


def units_of(place: str, groups: Groups, values: Float[Host, " n"] | None) -> tuple[UnitSurvey, Float[Host, " G"]]:
    """Return the survey of the units of a partition, called ``place``, and the weight of each.

    Raises:
        DataError: the weights of the rows, ``values`` (None: 1), vary within a unit.
    """
    of_unit = np.ones(len(groups.labels)) if values is None else constant_within(values, groups.codes, groups.labels)
    rows = groups.lengths[of_unit > 0]
    counts = UnitCounts(len(of_unit), int(rows.sum()), float(groups.lengths @ of_unit))
    return UnitSurvey(place, groups.labels, int(groups.lengths.max()), counts), of_unit


def spread_runs(good: Int[Host, " n"], most: int) -> Int[Host, " m"]:
    """Return about ``most`` of the numbers ``good`` (n,): four runs of neighbours, spread evenly."""
    n = len(good)
    size = max(1, min(n, most) // RUNS)
    chosen = np.zeros(n, bool)
    for begin in np.linspace(0, n - size, RUNS if n > size else 1).astype(int):
        chosen[begin : begin + size] = True
    return good[chosen]


def rows_of_some(groups: Groups, most: int) -> Int[Host, " m"]:
    """Return the numbers of the rows of some whole units, about ``most`` rows."""
    n = len(groups.labels)
    units = spread_runs(np.arange(n), max(RUNS, n * most // len(groups.codes)))
    chosen = np.zeros(n, bool)
    chosen[units] = True
    return np.flatnonzero(chosen[groups.codes])


def merged_units(parts: Sequence[UnitSurvey], unit: str) -> UnitSurvey:
    """Combine the surveys of the units of all partitions; DataError if a unit is in two of them.  ``unit``: their column."""
    labels = check_whole([(s.place, s.labels) for s in parts], unit)
    counts = UnitCounts(*(sum(of) for of in zip(*(s.counts for s in parts), strict=True)))
    return UnitSurvey("", labels, max(s.longest for s in parts), counts)


def refuse_crossed(likelihood: Likelihood) -> None:
    """Raise DataError for latent variables of several columns, which connect units that are not next to each other."""
    if likelihood.joint is not None and likelihood.joint.factors:
        columns = ", ".join(map(repr, likelihood.grouping))
        raise DataError(
            f"{likelihood.name}: nested or crossed latents (of {columns}) are not supported for a stream, which is read in parts "
            "of whole units of one column: load the columns that are used into memory, or give latents of one column"
        )


def in_units(likelihood: Likelihood, sample: Loaded, longest: int) -> InUnits:
    """Return how the rows of a stream become units; ``sample``: the loaded sample, ``longest``: number of rows of the longest
    unit.
    """
    assert likelihood.unit is not None
    time = None if likelihood.joint is None else likelihood.joint.time
    layout = sample.rows.layout
    own = [(e.slots[0].position, f"column {e.key!r} (per_unit=)") for e in layout.entries if e.key in likelihood.per_unit]
    return InUnits(likelihood.unit, bucket(longest), (*own, *class_covariates(likelihood, layout)), time or "")


def lengthened(sample: Loaded, length: int) -> Loaded:
    """Return the sample with its units padded to ``length`` rows, the length of the units of the stream."""
    data = sample.problem.data
    at = data.statics.position("mask")
    missing = length - data.rows[at].shape[1]
    if missing <= 0:
        return sample

    def longer(leaf: np.ndarray, mask: bool) -> np.ndarray:
        last = np.zeros_like(leaf[:, :1]) if mask else leaf[:, -1:]
        return np.concatenate([leaf, np.repeat(last, missing, axis=1)], axis=1)

    rows = tuple(longer(np.asarray(leaf), i == at) for i, leaf in enumerate(data.rows))
    return replace(sample, problem=replace(sample.problem, data=replace(data, rows=rows)))


def chunks_of_units(likelihood: Likelihood, data: Prepared, length: int) -> tuple[int, int]:
    """Return the number of units of a chunk, and of a block, of ``length`` rows each; ``data``: the sample of the stream."""
    at_once = max(1, (limits().chunk_rows or limits().block_rows) // length)
    block = data.block if likelihood.joint is None else most_units(likelihood, length)
    block = min(block, limits().block_rows, at_once)
    return block * max(1, at_once // block), block
