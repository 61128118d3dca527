"""Effects by index: a parameter with one value for every level of a column, as one more column of the data.

The user's function sees the value of each row's own level.  While the table is read that column holds zeros; whoever knows
the values puts them there.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from mlejax.data.errors import DataError, DataTypeError
from mlejax.data.formulas.designs import joined
from mlejax.data.layout import Layout
from mlejax.data.read.table import Table
from mlejax.data.units import group_codes
from mlejax.shapes import Float, Host, Int


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
