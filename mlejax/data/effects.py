"""Effects of the levels of a column (``mle.Real(by=...)``): a parameter with one value for every level.

The user's function receives the value of each row's own level, in a further column of the data.  While the table is read that
column holds zeros; they are replaced when the effects are known.

The effects of one such column are eliminated.  The levels of a second column have coefficients in the vector of parameters,
which are looked up by level code.  In each connected component of the graph of both (levels that share a row are joined) a
constant can be added to the effects of one column and subtracted from those of the other without any change: the first level
of the second column there is the reference, with effect 0 (Abowd, Creecy & Kramarz 2002).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from mlejax.data.errors import DataError, DataTypeError
from mlejax.data.further_columns import joined
from mlejax.data.packing.layout import Layout
from mlejax.data.read.table import Table
from mlejax.data.units import group_codes
from mlejax.shapes import Bool, Float, Host, Int


@dataclass(frozen=True)
class EffectKey:
    """The key, in the table, of the column with each row's effect.

    Attributes:
        parameter: name of the declared parameter.
        by: name of the column whose levels have one effect each.
    """

    parameter: str
    by: str

    def __repr__(self) -> str:
        return f"<{self.parameter} by {self.by}>"


@dataclass(frozen=True)
class CodesKey:
    """The key of the column of level codes of effects that are not eliminated: 0 for a reference level, j for the j-th
    label.

    Attributes:
        parameter: name of the declared parameter.
        by: name of the column of levels.
        labels: the levels that have a coefficient, in the order of the coefficients.
        references: the reference levels, whose effect is 0.
    """

    parameter: str
    by: str
    labels: tuple[str, ...]
    references: tuple[str, ...] = ()

    def __repr__(self) -> str:
        return f"<{self.parameter} by {self.by}>"


@dataclass(frozen=True, eq=False)
class Levels:
    """The level of every row of one factor.

    Attributes:
        codes: the level of every row, as a position in ``labels`` (n,).
        labels: the levels (G,), in order of first appearance.
    """

    codes: Int[Host, " n"]
    labels: np.ndarray

    def __len__(self) -> int:
        return len(self.labels)

    def of_rows(self, rows: Int[Host, " m"]) -> Levels:
        """Return the levels of the rows at these positions (m,); levels that none of them has are left out."""
        codes = self.codes[rows]
        there = np.bincount(codes, minlength=len(self)) > 0
        return Levels((np.cumsum(there) - 1)[codes], self.labels[there])


def levels_of(values: Any, name: str) -> Levels:
    """Return the `Levels` of the rows from one label per row, ``values`` (n,). ``name``: name of the column, for
    messages; errors as in `group_codes`.
    """
    return Levels(*group_codes(values, name))


def with_effects(table: Table, keys: Sequence[EffectKey], known: Sequence[Float[Host, " n"]] = ()) -> Table:
    """Return the table with one further column for each key: the effects of the rows.

    Args:
        table: the data.
        keys: the keys of the new columns.
        known: the effects, one array for each key; empty for zeros.

    Raises:
        DataTypeError: the data have no column names.
        MissingColumnError: ``known`` is empty, and there is no column of levels.
        DataError: ``known`` is empty, and the column of levels has no rows or a name that occurs twice.
    """
    if table.kind != "mapping":
        raise DataTypeError(
            f"{keys[0].parameter} is declared with by={keys[0].by!r}: expected data with column names, a dict or a DataFrame, "
            f"got a {type(table.raw).__name__}"
        )
    columns = known or [np.zeros(table.length([key.by])) for key in keys]
    return joined(table, table.keys, dict(zip(keys, columns, strict=True)))


def with_codes(table: Table, keys: Sequence[EffectKey]) -> Table:
    """Return the table with one further column for each of the ``keys``, under the `CodesKey` of its parameter: the level code of
    each row, 1, 2, ... in sorted order of the levels, NaN where the level is missing.
    """
    import pandas as pd

    more = {}
    for key in keys:
        codes, labels = pd.factorize(np.asarray(table.column(key.by)), sort=True)
        more[CodesKey(key.parameter, key.by, tuple(map(str, labels)))] = np.where(codes < 0, np.nan, codes + 1.0)
    return joined(table, table.keys, more)


def codes_keys(keys: Iterable[Any]) -> list[CodesKey]:
    """Return those of the ``keys`` of a table that are a `CodesKey` (keys of columns of level codes)."""
    return [key for key in keys if isinstance(key, CodesKey)]


@dataclass(frozen=True, eq=False)
class Coded:
    """Effects of the levels of a column that have coefficients in the vector of parameters (they are not eliminated).

    Attributes:
        key: the key of their column of codes.
        levels: levels of all rows; the labels are strings.
    """

    key: CodesKey
    levels: Levels

    def among(self, eliminated: Levels, used: Bool[Host, " n"]) -> tuple[Coded, Float[Host, " n"]]:
        """Return the effects with a coefficient for every level of the rows used except one reference level in each connected
        component, and the codes of all rows (n,): j for the j-th coefficient, 0 for a reference level and for a level that
        only rows not used have.

        Args:
            eliminated: the levels of the rows, of the effects that are eliminated.
            used: True for rows of positive weight (n,).
        """
        from scipy.sparse import coo_matrix
        from scipy.sparse.csgraph import connected_components

        own, n = self.levels.codes, len(self.levels)
        ends = own[used], n + eliminated.codes[used]
        graph = coo_matrix((np.ones(len(ends[0])), ends), shape=(n + len(eliminated),) * 2)
        component = connected_components(graph, directed=False)[1][:n]
        there = np.flatnonzero(np.bincount(ends[0], minlength=n))
        reference = np.zeros(n, bool)
        reference[there[np.unique(component[there], return_index=True)[1]]] = True
        free = np.zeros(n, bool)
        free[there] = ~reference[there]
        place = np.where(free, np.cumsum(free), 0)
        named = lambda flags: tuple(self.levels.labels[flags].tolist())
        key = replace(self.key, labels=named(free), references=named(reference))
        return replace(self, key=key), place[own].astype(np.float64)

    def of_rows(self, rows: Int[Host, " m"]) -> Coded:
        """Return the same effects for the rows at these positions (m,); ``labels`` keeps the levels that none of these
        rows has."""
        return replace(self, levels=Levels(self.levels.codes[rows], self.levels.labels))


def effect_position(layout: Layout, key: EffectKey) -> int:
    """Return the position, among the row-wise arrays of the layout, of the column of effects under ``key``.

    Raises:
        DataError: the layout, which holds the columns that the function reads, has no such column.
    """
    for entry in layout.entries:
        if entry.key == key:
            return entry.slots[0].position
    raise DataError(
        f"{key.parameter} is declared with by={key.by!r}, but the log-likelihood does not read params[{key.parameter!r}]: "
        "use it, or drop its declaration"
    )
