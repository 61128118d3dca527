"""Chunks of units, padded to one length, from a partition whose rows are sorted by unit."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from mlejax.data.packing.layout import Layout
from mlejax.data.packing.prepared import Prepared
from mlejax.data.packing.times import check_steps
from mlejax.data.read import Table
from mlejax.data.streams.checksums import Seen, place_of, sums_of_column
from mlejax.data.streams.sorted_rows import Groups, groups_of
from mlejax.data.units import constant_within, padded_positions
from mlejax.execution import aligned
from mlejax.shapes import Float, Host, Int


class CutChunk(NamedTuple):
    """A part of a partition.

    Attributes:
        data: the rows or units, ready for the compiled program.
        seen: the summary of the rows.
        rows: the numbers of the rows in the partition.
        units: for each of these rows, the number of its unit in ``data`` (m,); None for models of rows.
    """

    data: Prepared
    seen: Seen
    rows: slice
    units: Int[Host, " m"] | None


@dataclass(frozen=True)
class InUnits:
    """How the rows of a partition become units.

    Attributes:
        by: name of the column of units.
        length: number of rows to which units are padded.
        constant: positions of the columns that must be constant within units, among all columns, and their names in messages.
        time: name of a column of times that must increase by one step within units, or "".
    """

    by: str
    length: int
    constant: tuple[tuple[int, str], ...] = ()
    time: str = ""

    def groups(
        self, table: Table, arrays: Sequence[np.ndarray], weights: Float[Host, " n"] | None, check: bool
    ) -> Groups:
        """Return the units of the rows of a partition.

        Args:
            table: the partition.
            arrays, weights: its columns and weights, by row.
            check: if True, columns and weights that must be constant within units, and times, are checked.

        Raises:
            DataError: the rows of a unit are in several places, labels are missing, or a check fails.
        """
        found = groups_of(table.column(self.by), self.by)
        if check:
            for position, name in self.constant:
                for column in np.reshape(arrays[position], (len(found.codes), -1)).T:
                    constant_within(column, found.codes, found.labels, name)
            if weights is not None:
                constant_within(weights, found.codes, found.labels)
            if self.time:
                check_steps(table.column(self.time), found.codes, found.labels, self.by, self.time)
        return found


class Shape(NamedTuple):
    """What the chunks of a stream of units have in common.

    Attributes:
        dtypes: dtypes of the columns.
        shared, layout: arrays that do not vary by row, and how they, the columns and the mask of units make up the user's data.
        scale: number by which the weights are divided.
        size, block: number of units of a chunk, and of a block of it.
    """

    dtypes: tuple[np.dtype[Any], ...]
    shared: tuple[np.ndarray, ...]
    layout: Layout
    scale: float
    size: int
    block: int


def unit_chunks(
    shape: Shape,
    length: int,
    arrays: Sequence[np.ndarray],
    weights: Float[Host, " n"] | None,
    groups: Groups,
    whole: bool,
) -> Iterator[CutChunk]:
    """Yield chunks of ``shape.size`` units in their order; those without a unit of positive weight are left out.

    Padding and units of weight 0 repeat a unit of positive weight.

    Args:
        shape: what all chunks have in common.
        length: number of rows to which units are padded.
        arrays, weights: columns and weights of the partition, by row; weights are constant within units.
        groups: the units.
        whole: if True (the first pass), the summaries have sums and sums of squares.
    """
    starts, lengths = groups.starts, groups.lengths
    by_unit = np.ones(len(lengths)) if weights is None else weights[starts] / shape.scale
    for number, at in enumerate(range(0, len(lengths), shape.size)):
        m = min(shape.size, len(lengths) - at)
        full = aligned((shape.size,), np.float64)
        full[:m], full[m:] = by_unit[at : at + m], 0.0
        used = full > 0.0
        if not used.any():
            continue
        units = np.where(used, at + np.arange(shape.size), at + int(np.argmax(used)))
        positions = padded_positions(starts[units], lengths[units], length)
        leaves = [_taken(a, positions, dtype) for a, dtype in zip(arrays, shape.dtypes, strict=True)]
        mask = np.arange(length) < lengths[units][:, None]
        n = np.asarray(m, np.int64)
        data = Prepared((*leaves, mask), shape.shared, full, n, shape.layout, "units", shape.block)
        rows = slice(int(starts[at]), int(starts[at + m - 1] + lengths[at + m - 1]))
        codes = groups.codes[rows] - at
        yield CutChunk(data, _summary([a[rows] for a in arrays], codes, full[:m], number, whole), rows, codes)


def _taken(array: np.ndarray, positions: Int[Host, "units length"], dtype: np.dtype[Any]) -> np.ndarray:
    """Return the rows at these positions (units, length, ...), converted to ``dtype``, in aligned memory."""
    out = aligned((*positions.shape, *array.shape[1:]), dtype)
    out[...] = array[positions]
    return out


def _summary(
    columns: Sequence[np.ndarray], codes: Int[Host, " m"], weights: Float[Host, " G"], number: int, whole: bool
) -> Seen:
    """Return the summary of the rows of a chunk: of its columns, of the numbers of the units, and of the weights of units."""
    random = 1.0 + np.random.default_rng(20).random(len(codes))
    parts = [sums_of_column(column, random, whole) for column in (*columns, codes)]
    parts.append(sums_of_column(weights, random[: len(weights)], whole))
    checksum, size, moments = (np.array(part) for part in zip(*parts, strict=True))
    return Seen(len(codes), place_of(number) * checksum, size, moments)
