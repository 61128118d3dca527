"""Columns whose gaps or infinite entries belong to the model: an outcome that was not observed, a bound that is not there.

The user's function gets a finite value that occurs in the column in the place of each, so that no branch of a ``where`` is NaN,
and a mask, ``data["observed"][name]``, which is False there.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from mlejax.data.errors import DataError, DataTypeError
from mlejax.data.formulas.designs import joined
from mlejax.data.read import Table
from mlejax.data.read.columns import NUMERIC, Column
from mlejax.data.read.values import read

OBSERVED = "observed"


@dataclass(frozen=True)
class OpenColumns:
    """The columns of a model that may have such entries.

    Attributes:
        optional: names of those with missing entries.
        infinite: names of those with infinite entries.
    """

    optional: tuple[str, ...] = ()
    infinite: tuple[str, ...] = ()

    @property
    def names(self) -> tuple[str, ...]:
        """All of them, each once."""
        return tuple(dict.fromkeys((*self.optional, *self.infinite)))


def with_observed(table: Table, columns: OpenColumns, *, to_fit: bool = False) -> Table:
    """The table with finite columns and their masks; the same one where the masks are there already.

    Args:
        table: columns.
        columns: those that may be open.
        to_fit: refuse a column without any finite value, of which nothing can be estimated. Elsewhere (a prediction for one
            row whose bound is infinite) such a column is filled with 1.

    Raises:
        DataError: a column without any value, or of bounds in both directions; a column of the user's called "observed".
        DataTypeError: data without names.

    >>> from mlejax.data.read import ingest
    >>> made = with_observed(ingest({"wage": [np.nan, 3.0, 5.0]}), OpenColumns(("wage",)))
    >>> made.raw["wage"], made.raw["observed"]["wage"]
    (array([3., 3., 5.]), array([False,  True,  True]))
    """
    if not columns.names:
        return table
    if table.kind != "mapping":
        raise DataTypeError("optional= and infinite= need data with names, a dict or a DataFrame")
    if OBSERVED in table:
        if set(columns.names) <= set(table.raw[OBSERVED] if isinstance(table.raw[OBSERVED], Mapping) else ()):
            return table
        raise DataError(
            f"the data have a column {OBSERVED!r}, but with optional= or infinite= data['{OBSERVED}'] says what was observed: "
            "rename it"
        )
    filled: dict[Any, Any] = {}
    masks: dict[str, np.ndarray] = {}
    for name in columns.names:
        if name in table:
            column = _column(table, name)
            filled[name], masks[name] = _filled(column, name in columns.optional, name in columns.infinite, to_fit)
    keys = [key for key in table.keys if key not in filled]
    return joined(table, keys, {**filled, OBSERVED: masks}) if masks else table


def _column(table: Table, name: str) -> Column:
    rows = table.contents(name).rows
    if len(rows) != 1 or rows[0].probe.kind not in NUMERIC:
        raise DataTypeError(
            f"column {name!r}: expected one number for each row, since it is declared optional or infinite"
        )
    return rows[0]


def _filled(column: Column, optional: bool, infinite: bool, to_fit: bool) -> tuple[np.ndarray, np.ndarray]:
    """The values, finite where they may be open, and flags of those that were observed."""
    values, mask = read(column)
    values = np.array(values, np.float64)
    gone = np.isnan(values) if mask is None else mask | np.isnan(values)
    endless = np.isinf(values) & ~gone
    known = values[~gone & ~endless]
    if not known.size and to_fit:
        raise DataError(f"{column.where} has no finite value; expected some")
    known = known if known.size else np.ones(1)
    observed = np.ones(values.shape, bool)
    if optional:
        values[gone], observed = known[0], observed & ~gone
    if infinite:
        signs = np.sign(values[endless])
        if signs.size and signs.min() != signs.max():
            raise DataError(
                f"{column.where} has both +inf and -inf; expected one, so that its mask says which: make two columns of it, a "
                "lower and an upper bound"
            )
        values[endless], observed = known.max() if (signs > 0).any() else known.min(), observed & ~endless
    return values, observed
