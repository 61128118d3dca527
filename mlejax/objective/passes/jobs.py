"""The work on one partition in a pass: its chunks are read, checked and evaluated by one compiled program."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import jax
import numpy as np

from mlejax.data import Prepared, Table, constant_within, group_codes
from mlejax.data.streams import Partition, Seen, joined, naming
from mlejax.data.streams.cutting import Cut
from mlejax.execution import compiled
from mlejax.objective.evaluator import Task
from mlejax.objective.evaluators.hoisting import blocks_used
from mlejax.objective.objective import objective_of
from mlejax.objective.specification import Spec
from mlejax.shapes import Either, Float, Host, Int, PyTree


def _program(spec: Spec, task: Task, u: Either, data: Prepared, fixed: Either | None) -> PyTree:
    return task(objective_of(spec, data, fixed, None, blocks_used(data)), u)


_RUN = compiled(_program, static=("spec", "task"))  # half the compile time; passes are as fast within a tenth


class Place(NamedTuple):
    """The partition, and the numbers of the rows, from which a chunk was made.

    Attributes:
        partition: name of the partition.
        rows: the numbers of the chunk's rows in the partition.
        units: for each of these rows, the number of its unit within the chunk (m,); None for models of rows.
    """

    partition: str
    rows: slice
    units: Int[Host, " m"] | None

    def of_rows(self, column: Any) -> Any:
        """Return the values of a column of the partition for the rows of the chunk."""
        return column.iloc[self.rows] if hasattr(column, "iloc") else column[self.rows]

    def of_units(self, column: Any) -> np.ndarray:
        """Return the values of a column of the partition in the first row of each unit of the chunk (N,)."""
        assert self.units is not None
        codes, labels = group_codes(self.of_rows(column), "units")
        return labels[codes[np.searchsorted(self.units, np.arange(self.units[-1] + 1))]]

    def of_terms(self, column: Any, name: str) -> Any:
        """Return the values of a column of the partition, one for each term of the chunk: for each row, or for each unit,
        within which the column must be constant.

        Raises:
            DataError: the column varies within a unit; the message calls it ``name``.
        """
        part = self.of_rows(column)
        if self.units is None:
            return part
        codes, labels = group_codes(part, name)
        with naming(self.partition):
            return labels[constant_within(codes, self.units, name=name)]


class EffectValues(NamedTuple):
    """The effects of all levels, and the position, among the columns of a chunk, of the column with the codes of the levels.

    Attributes:
        position: position of the column of codes.
        values: the effects of the G levels (G,).
    """

    position: int
    values: Float[Host, " levels"]

    def codes(self, chunk: Prepared) -> Int[Host, " N"]:
        """Return the level codes of the rows of a chunk (N,), a new array of int64."""
        return np.asarray(chunk.rows[self.position]).astype(np.int64)

    def put(self, chunk: Prepared) -> Prepared:
        """Return the chunk with the effects of its rows in place of their codes."""
        column = self.values[self.codes(chunk)]
        return replace(chunk, rows=(*chunk.rows[: self.position], column, *chunk.rows[self.position + 1 :]))


class ReadChunks:
    """The chunks of a partition, each with its `Place`; a chunk is valid until two more have been read, since two buffers are
    used in turn.

    Args:
        cut: how the partition is divided into chunks.
        partition: the partition.
        first: True in the first pass, in which the values are checked.

    Attributes:
        table: the columns of the partition, once the first chunk was read.
        seen: the summary of the partition; None if it has no rows, or every weight is 0.
    """

    table: Table

    def __init__(self, cut: Cut, partition: Partition, first: bool) -> None:
        self.cut, self.partition, self.first = cut, partition, first
        self.seen: Seen | None = None

    def __iter__(self) -> Iterator[tuple[Prepared, Place]]:
        """Yield each chunk of rows (units) of the partition, in order, with its `Place`: the partition's name, and which of its
        rows the chunk has. Chunks without a row of positive weight are left out.

        Raises:
            DataError: a value is missing or infinite, or a weight is not valid; without formulas, only the first pass checks it.
        """
        cut, name = self.cut, self.partition.name
        table = cut.table(self.partition)
        if table is None:
            return
        self.table = table
        if self.first and (cut.designs is not None or cut.weights):
            cut.refuse(table, name)
        arrays, weights = cut.arrays(table, name)
        groups = cut.groups(table, name, arrays, weights, self.first)
        for chunk, mine, rows, units in cut.chunks(arrays, weights, self.first, groups):
            if self.first and not np.isfinite(mine.moments).all():
                cut.refuse(table, name)
            self.seen = (mine if self.seen is None else joined(self.seen, mine))._replace(n=len(arrays[0]))
            yield chunk, Place(name, rows, units)


@dataclass(frozen=True, eq=False)
class Job:
    """The work on one partition, as a function of the partition; it is pickled and sent to where the partition is.

    Attributes:
        spec, fixed: what is compiled, and values under ``fixed=``.
        cut: how a partition is divided into chunks.
        task: function of (objective of a chunk, u).
        merge: function that merges the results of two consecutive chunks.
        u: point of evaluation.
        finish: function applied on the host to the result of a chunk, ``finish(result, chunk, table, place)``; or None.
        effects: effects of levels, which the task receives in place of the codes in the chunk; or None.
    """

    spec: Spec
    fixed: Either | None
    cut: Cut
    task: Task
    merge: Callable[[Any, Any], Any]
    u: Either
    finish: Callable[..., Any] | None = None
    effects: EffectValues | None = None

    def of_chunk(self, chunk: Prepared) -> PyTree:
        """Return the result of the task on a chunk."""
        chunk = chunk if self.effects is None else self.effects.put(chunk)
        return _RUN(self.spec, self.task, self.u, chunk, self.fixed)

    def __call__(self, partition: Partition, first: bool) -> tuple[Seen | None, Any]:
        """Return the summary of the partition and the merged result of its chunks; (None, None) for an empty partition, or one in
        which every weight is 0.

        ``first``: in the first pass the values are checked.

        Raises:
            DataError: a value is missing or infinite, or a weight is not valid.
        """
        chunks = ReadChunks(self.cut, partition, first)
        total, waiting = None, None
        for chunk, place in chunks:
            with naming(partition.name):
                given = self.of_chunk(chunk)
            if waiting is not None:
                total = self._merged(total, waiting)
            waiting = given
            if self.finish is not None:
                waiting = self.finish(jax.tree.map(np.asarray, given), chunk, chunks.table, place)
        if waiting is None:
            return None, None
        return chunks.seen, self._merged(total, waiting)

    def _merged(self, total: PyTree, part: PyTree) -> PyTree:
        part = jax.tree.map(np.array, part)  # copies: what a program returns as it came lies in a buffer of the chunk
        return part if total is None else self.merge(total, part)
