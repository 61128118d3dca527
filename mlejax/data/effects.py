"""Effects by index: a parameter with one value for every level of a column, as one more column of the data.

The user's function sees the value of each row's own level.  While the table is read that column holds zeros; whoever knows
the values puts them there.

Beside the levels that are eliminated, a second column of levels has a coefficient for each in the vector of parameters, which
is looked up by codes.  In each connected component of the graph of both (levels that meet in a row are joined) a number added
to one kind of effects and taken from the other changes nothing: the first level there is the reference, and has none
(Abowd, Creecy & Kramarz 2002).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from mlejax.data.errors import DataError, DataTypeError
from mlejax.data.formulas.designs import joined
from mlejax.data.packing.layout import Layout
from mlejax.data.read.table import Table
from mlejax.data.units import group_codes
from mlejax.shapes import Bool, Float, Host, Int


@dataclass(frozen=True)
class EffectKey:
    """The key of the column of effects.

    Attributes:
        parameter: the declared parameter.
        by: the column whose levels have one value each.
    """

    parameter: str
    by: str

    def __repr__(self) -> str:
        return f"<{self.parameter} by {self.by}>"


@dataclass(frozen=True)
class CodesKey:
    """The key of the column of codes of effects that are not eliminated: 0 for a reference, j for the j-th label.

    Attributes:
        parameter: the declared parameter.
        by: the column of the levels.
        labels: of the coefficients.
        references: the levels without one.
    """

    parameter: str
    by: str
    labels: tuple[str, ...]
    references: tuple[str, ...] = ()

    def __repr__(self) -> str:
        return f"<{self.parameter} by {self.by}>"


@dataclass(frozen=True, eq=False)
class Levels:
    """The levels of the rows.

    Attributes:
        codes: the level of every row, (n,).
        labels: (G,), in order of first appearance.
    """

    codes: Int[Host, " n"]
    labels: np.ndarray

    def __len__(self) -> int:
        return len(self.labels)

    def of_rows(self, rows: Int[Host, " m"]) -> Levels:
        """Those of some rows, by their numbers; levels without a row are left out."""
        codes = self.codes[rows]
        there = np.bincount(codes, minlength=len(self)) > 0
        return Levels((np.cumsum(there) - 1)[codes], self.labels[there])


def levels_of(values: Any, name: str) -> Levels:
    """The levels of the rows, from one label a row."""
    return Levels(*group_codes(values, name))


def with_effects(table: Table, keys: Sequence[EffectKey], known: Sequence[Float[Host, " n"]] = ()) -> Table:
    """The table with columns of effects: zeros, or values that are known."""
    if table.kind != "mapping":
        raise DataTypeError(
            f"{keys[0].parameter} is declared by={keys[0].by!r}: the data need names, a dict or a DataFrame, got a "
            f"{type(table.raw).__name__}"
        )
    columns = known or [np.zeros(table.length([key.by])) for key in keys]
    return joined(table, table.keys, dict(zip(keys, columns, strict=True)))


def with_codes(table: Table, keys: Sequence[EffectKey]) -> Table:
    """The table with columns of codes of all levels, in their order; NaN where they are missing."""
    import pandas as pd

    more = {}
    for key in keys:
        codes, labels = pd.factorize(np.asarray(table.column(key.by)), sort=True)
        more[CodesKey(key.parameter, key.by, tuple(map(str, labels)))] = np.where(codes < 0, np.nan, codes + 1.0)
    return joined(table, table.keys, more)


def codes_keys(keys: Iterable[Any]) -> list[CodesKey]:
    """Those of effects that are not eliminated."""
    return [key for key in keys if isinstance(key, CodesKey)]


@dataclass(frozen=True, eq=False)
class Coded:
    """Effects that have coefficients.

    Attributes:
        key: of the column of their codes.
        levels: of the rows, all of them; the labels are text.
    """

    key: CodesKey
    levels: Levels

    def among(self, eliminated: Levels, used: Bool[Host, " n"]) -> tuple[Coded, Float[Host, " n"]]:
        """Coefficients for the levels that occur, but for a reference in each connected component, and their codes (n,).

        Args:
            eliminated: the levels of the rows that are eliminated.
            used: rows of positive weight.
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
        """Those of some rows."""
        return replace(self, levels=Levels(self.levels.codes[rows], self.levels.labels))


def effect_position(layout: Layout, key: EffectKey) -> int:
    """Which array by row is the column of effects.

    Raises:
        DataError: the function does not read the effects.
    """
    for entry in layout.entries:
        if entry.key == key:
            return entry.slots[0].position
    raise DataError(
        f"{key.parameter} is declared by={key.by!r}, but the log-likelihood does not read params[{key.parameter!r}]: use it, or "
        "drop its declaration"
    )
