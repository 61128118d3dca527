"""Division of rows that are sorted by group, from files or an engine, into tables of complete groups.

The rows alone determine where the tables are divided. Rows that are not sorted are detected by the labels of their groups,
within a table by :func:`groups_of` and between tables by :func:`check_whole`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np

from mlejax.data.errors import DataError, label
from mlejax.data.streams.sources import Source, StreamBatch
from mlejax.data.units import group_codes
from mlejax.execution.limits import limits
from mlejax.shapes import Data, Host, Int


class Piece(NamedTuple):
    """Consecutive rows of a partition: its name, the number of their first row in it, and a pyarrow table."""

    name: str
    first: int
    table: Any

    @property
    def place(self) -> str:
        """A phrase for messages: the name of the partition, and the number of the first row in it if that is not 0."""
        return f"{self.name}, from row {self.first} on" if self.first else self.name


def whole_groups(tables: Iterable[Any], by: Sequence[str]) -> Iterator[Any]:
    """Yield pyarrow tables of complete groups; all tables but the last have at least about ``limits().grouped_rows`` rows.

    Args:
        tables: tables of any kind that pyarrow takes, with the rows of a group next to each other, also across tables; otherwise
            a group is in several of the tables that are yielded.
        by: names of the columns that define the groups, which have no missing values.
    """
    return (piece.table for piece in _cut((("", table) for table in tables), by))


def _cut(tables: Iterable[tuple[str, Any]], by: Sequence[str]) -> Iterator[Piece]:
    """Yield the tables of `whole_groups`, each with the name of the table in which it begins and the number of its first row in
    that table.
    """
    pending: list[Piece] = []
    n = 0
    for name, given in tables:
        table = _arrow(name, given)
        pending.append(Piece(name, 0, table))
        n += table.num_rows
        if n < limits().grouped_rows or not table.num_rows:
            continue
        together = _together(pending)
        at = _last_group(together, by)
        if at:
            yield _from_first(pending, together.slice(0, at))
        pending = _after(pending, at)
        n -= at
    if n:
        yield _from_first(pending, _together(pending))


def _arrow(name: str, given: Any) -> Any:
    import pyarrow as pa

    try:
        return pa.Table.from_batches([given]) if isinstance(given, pa.RecordBatch) else pa.table(given)
    except (TypeError, ValueError) as error:  # what pyarrow's errors derive from
        raise DataError(
            f"{name}: expected a table of plain columns, which pyarrow takes, since its rows are divided by group, got a "
            f"{type(given).__name__}: {error}"
        ) from error


def _together(pieces: Sequence[Piece]) -> Any:
    import pyarrow as pa

    try:
        return pa.concat_tables([piece.table for piece in pieces])
    except ValueError as error:  # what pyarrow's errors derive from
        raise DataError(
            f"{pieces[-1].name}: expected the columns and types of the rows before it ({pieces[0].place}): {error}"
        ) from error


def _from_first(pieces: Sequence[Piece], table: Any) -> Piece:
    """Return the first of these pieces that has rows, with its table replaced by ``table``."""
    first = next(piece for piece in pieces if piece.table.num_rows)
    return first._replace(table=table)


def _after(pieces: Sequence[Piece], at: int) -> list[Piece]:
    """Return what is left of the pieces without their first ``at`` rows."""
    left = []
    for piece in pieces:
        gone = min(at, piece.table.num_rows)
        at -= gone
        if gone < piece.table.num_rows:
            left.append(Piece(piece.name, piece.first + gone, piece.table.slice(gone)))
    return left


def _last_group(table: Any, by: Sequence[str]) -> int:
    """Return the position of the first row of the last group of a table (columns ``by``); 0 if it has one group only."""
    import pyarrow.compute as pc

    other = np.zeros(table.num_rows, bool)
    for name in by:
        column = table[name]
        other |= ~pc.fill_null(pc.equal(column, column[-1]), False).to_numpy()
    where = np.flatnonzero(other)
    return int(where[-1]) + 1 if where.size else 0


@dataclass(frozen=True)
class GroupedRows:
    """A source whose rows are sorted by group, read one partition after the other, as partitions of complete groups.

    Attributes:
        source: the source of the rows, which are not checked to be sorted.
        by, columns: names of the columns that define the groups, and of all columns in use.
    """

    source: Source
    by: tuple[str, ...]
    columns: tuple[str, ...]

    def partitions(self) -> Iterator[StreamBatch]:
        """Yield the partitions in order, each a `StreamBatch` of one table of `whole_groups`, named by where it begins."""
        tables = ((partition.name, partition.read(self.columns)) for partition in self.source.partitions())
        return (StreamBatch(piece.place, piece.table) for piece in _cut(tables, self.by))

    def peek(self) -> Data:
        """Return the first rows, as the source does."""
        return self.source.peek()

    def with_columns(self, columns: Sequence[str]) -> GroupedRows:
        """Return the same source, of which these columns are read."""
        return replace(self, columns=tuple(columns))


class Groups(NamedTuple):
    """The groups of the rows of a table, whose rows are next to each other.

    Attributes:
        codes: number of the group of each row, from 0 (n,).
        labels: name of each group (G,).
        lengths: number of rows of each group (G,).
    """

    codes: Int[Host, " n"]
    labels: np.ndarray
    lengths: Int[Host, " G"]

    @property
    def starts(self) -> Int[Host, " G"]:
        """The first row of each group (G,)."""
        return np.cumsum(self.lengths) - self.lengths


def groups_of(values: Any, name: str) -> Groups:
    """Return the groups of rows that are sorted by group.

    Args:
        values: (n,) label of each row.
        name: name of their column.

    Raises:
        DataError: the rows of a group are in several places, or labels are missing.
        DataTypeError: the values cannot be labels.

    >>> groups_of(["b", "b", "a"], "patient").lengths
    array([2, 1])
    """
    codes, labels = group_codes(values, f"column {name!r}")
    back = np.flatnonzero(np.diff(codes) < 0)
    if back.size:
        row = int(back[0]) + 1
        first = int(np.flatnonzero(codes == codes[row])[0])
        raise DataError(in_several_places(name, labels[codes[row]], f"at row {first} and again at row {row}"))
    return Groups(codes, labels, np.bincount(codes, minlength=len(labels)))


def check_whole(parts: Sequence[tuple[str, np.ndarray]], name: str) -> np.ndarray:
    """Return the labels of the groups of all partitions together, in order.

    Args:
        parts: the name of each partition, and the labels of its groups.
        name: name of the column of labels.

    Raises:
        DataError: a label is in two partitions.
    """
    each = [labels for _, labels in parts]
    together = np.concatenate([a.astype(object) for a in each] if len({a.dtype.kind for a in each}) > 1 else each)
    codes, distinct = group_codes(together, f"column {name!r}")
    if len(distinct) < len(together):
        again = int(np.flatnonzero(np.diff(codes, prepend=-1) != 1)[0])  # a new label has the next number
        places = [place for place, labels in parts for _ in range(len(labels))]
        first = int(np.flatnonzero(codes == codes[again])[0])
        raise DataError(in_several_places(name, together[again], f"in {places[first]}, and again in {places[again]}"))
    return together


def in_several_places(name: str, group: object, where: str) -> str:
    """Return the message on a group whose rows are not next to each other; ``where``: the two places."""
    return (
        f"the rows of {name} {label(group)} are in several places: {where}. Expected rows that are sorted by {name}, since a "
        f"stream is read in parts of whole groups: sort them before they are written, such as df.sort_values({name!r}), or load "
        "the columns in use into memory"
    )
