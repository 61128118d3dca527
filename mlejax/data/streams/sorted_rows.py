"""Division of rows that are sorted by group, from files or an engine, into tables of complete groups."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from mlejax.data.streams.sources import Source, StreamBatch
from mlejax.execution.limits import limits


def whole_groups(tables: Iterable[Any], by: Sequence[str]) -> Iterator[Any]:
    """Yield pyarrow tables of complete groups; all tables but the last have at least about ``limits().grouped_rows`` rows.

    Args:
        tables: tables of any kind that pyarrow takes, with the rows of a group next to each other, also across tables; otherwise
            a group is in several of the tables that are yielded.
        by: names of the columns that define the groups, which have no missing values.
    """
    import pyarrow as pa

    held: list[Any] = []
    n = 0
    for given in tables:
        table = pa.Table.from_batches([given]) if isinstance(given, pa.RecordBatch) else pa.table(given)
        held.append(table)
        n += table.num_rows
        if n < limits().grouped_rows or not table.num_rows:
            continue
        together = pa.concat_tables(held)
        at = _last_group(together, by)
        if at:
            yield together.slice(0, at)
        held = [together.slice(at)]
        n = held[0].num_rows
    if n:
        yield pa.concat_tables(held)


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
        """Yield the partitions in order, each a `StreamBatch` of one table of `whole_groups`."""
        tables = (partition.read(self.columns) for partition in self.source.partitions())
        for i, table in enumerate(whole_groups(tables, self.by)):
            yield StreamBatch(f"groups {i}", table)
