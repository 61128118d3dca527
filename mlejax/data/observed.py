"""Columns whose missing or infinite entries are part of the model: an outcome that was not observed, a bound that does not
exist.

In the place of each such entry the user's function gets a finite value of the same column, so that no branch of a ``where`` is
NaN, and a mask, ``data["observed"][name]``, which is False there.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from mlejax.data.errors import DataError, DataTypeError, missing_column
from mlejax.data.further_columns import joined
from mlejax.data.read import Table
from mlejax.data.read.columns import NUMERIC, Column
from mlejax.data.read.values import read
from mlejax.data.read.view import MASKS

OBSERVED = MASKS


@dataclass(frozen=True)
class OpenColumns:
    """The columns that a model declares with ``optional=`` and ``infinite=``.

    Attributes:
        optional: names of the columns that may have missing entries.
        infinite: names of the columns that may have infinite entries.
    """

    optional: tuple[str, ...] = ()
    infinite: tuple[str, ...] = ()

    @property
    def names(self) -> tuple[str, ...]:
        """All declared names, each once."""
        return tuple(dict.fromkeys((*self.optional, *self.infinite)))


def with_observed(table: Table, columns: OpenColumns, *, to_fit: bool = False) -> Table:
    """Return the table with finite numbers in place of missing entries of the columns ``optional`` and of infinite ones of the
    columns ``infinite``, and a further column "observed": a dict with a mask of each, True for its observed entries.

    The first finite value of the column replaces a missing entry, the largest replaces +inf, and the smallest -inf.

    Returns the table itself if no column is declared, if the table has none of the declared columns (``to_fit`` False), or if
    it has the column of masks already.

    Args:
        table: the data.
        columns: the columns that may have missing or infinite entries.
        to_fit: if True, a column that the table lacks or that has no finite value is an error. If False, columns that it lacks
            are skipped, and a column without a finite value (a prediction for one row whose bound is infinite) is filled
            with 1.

    Raises:
        MissingColumnError: a column does not exist.
        DataError: a column has no finite value, or both +inf and -inf under ``infinite``; or the data have a column "observed".
        DataTypeError: the data have no column names, or a column is not one numeric array.

    >>> from mlejax.data.read import ingest
    >>> made = with_observed(ingest({"wage": [np.nan, 3.0, 5.0]}), OpenColumns(("wage",)))
    >>> made.raw["wage"], made.raw["observed"]["wage"]
    (array([3., 3., 5.]), array([False,  True,  True]))
    """
    if not columns.names:
        return table
    if table.kind != "mapping":
        raise DataTypeError(
            "optional= and infinite= name columns of the data: pass data with column names, a dict or a DataFrame"
        )
    if OBSERVED in table:
        if set(columns.names) <= set(table.raw[OBSERVED] if isinstance(table.raw[OBSERVED], Mapping) else ()):
            return table
        raise DataError(
            f"the data have a column {OBSERVED!r}, but with optional= or infinite= data['{OBSERVED}'] holds the masks of "
            "observed entries: rename the column"
        )
    absent = [name for name in columns.names if name not in table] if to_fit else []
    if absent:
        raise missing_column(absent[0], table.keys, "optional= and infinite= of the model")
    filled: dict[Any, Any] = {}
    masks: dict[str, np.ndarray] = {}
    for name in columns.names:
        if name in table:
            column = _column(table, name)
            filled[name], masks[name] = _filled(column, name in columns.optional, name in columns.infinite, to_fit)
    keys = [key for key in table.keys if key not in filled]
    return joined(table, keys, {**filled, OBSERVED: masks}) if masks else table


def observed_in_sets(
    drawn: Mapping[Any, Any], columns: OpenColumns, masks: Mapping[str, np.ndarray], where: str
) -> dict[Any, Any]:
    """Return drawn columns of k data sets (k, n, ...) as the user's function sees them: declared columns among them filled as
    `with_observed` does, each data set by itself, and a column "observed" with the masks of all declared columns.

    Returns the columns as they are if no declared column is among them, or if "observed" is.

    Args:
        drawn: the columns, name -> array (k, n, ...).
        columns: the columns that may have missing or infinite entries.
        masks: name -> mask (n, ...) of declared columns that were not drawn.
        where: what drew them, the beginning of messages.

    Raises:
        DataError: a column has +inf and -inf.

    >>> found = observed_in_sets({"t": np.array([[1.0, np.inf]])}, OpenColumns((), ("t",)), {}, "it")
    >>> found["t"], found["observed"]["t"]
    (array([[1., 1.]]), array([[ True, False]]))
    """
    mine = [name for name in columns.names if name in drawn]
    if not mine or OBSERVED in drawn:
        return dict(drawn)
    k = len(drawn[mine[0]])
    out: dict[Any, Any] = dict(drawn)
    out[OBSERVED] = {name: np.broadcast_to(mask, (k, *np.shape(mask))) for name, mask in masks.items()}
    for name in mine:
        values = np.array(drawn[name], np.float64)
        for one in values:
            if np.isposinf(one).any() and np.isneginf(one).any() and name in columns.infinite:
                raise DataError(f"{where} draws both +inf and -inf in column {name!r}; expected only one of them")
        gone, endless = np.isnan(values) & (name in columns.optional), np.isinf(values) & (name in columns.infinite)
        for one, missing, infinite in zip(values, gone, endless, strict=True):
            known = one[np.isfinite(one)] if np.isfinite(one).any() else np.ones(1)
            one[missing] = known[0]
            one[infinite] = np.where(one[infinite] > 0, known.max(), known.min())
        out[name], out[OBSERVED][name] = values, ~gone & ~endless
    return out


def _column(table: Table, name: str) -> Column:
    """Return a declared column; DataTypeError unless it is one array of numbers."""
    rows = table.contents(name).rows
    if len(rows) != 1 or rows[0].probe.kind not in NUMERIC:
        raise DataTypeError(
            f"column {name!r} is declared in optional= or infinite=: expected one array of numbers, with None or NaN where one "
            "is missing, not strings, dates or a structure of several arrays"
        )
    return rows[0]


def _filled(column: Column, optional: bool, infinite: bool, to_fit: bool) -> tuple[np.ndarray, np.ndarray]:
    """Return the values with finite numbers in place of missing or infinite ones, float64, and a mask that is True for observed
    entries; both have the shape of the column.

    Args:
        column: a numeric column.
        optional: if True, missing entries become the first finite value and False in the mask; otherwise they stay.
        infinite: if True, infinite entries become the largest finite value (+inf) or the smallest (-inf) and False in the
            mask; otherwise they stay. DataError if both signs occur.
        to_fit: if True, DataError if no value is finite; otherwise 1 is taken as the only finite value.
    """
    values, mask = read(column)
    values = np.array(values, np.float64)
    gone = np.isnan(values) if mask is None else mask | np.isnan(values)
    endless = np.isinf(values) & ~gone
    known = values[~gone & ~endless]
    if not known.size and to_fit:
        raise DataError(
            f"{column.where}: expected at least one finite value, got none: remove the column from the model"
        )
    known = known if known.size else np.ones(1)
    observed = np.ones(values.shape, bool)
    if optional:
        values[gone], observed = known[0], observed & ~gone
    if infinite:
        signs = np.sign(values[endless])
        if signs.size and signs.min() != signs.max():
            raise DataError(
                f"{column.where} has both +inf and -inf; expected only one of them, because its mask cannot tell them apart: "
                "make two columns of it, a lower and an upper bound"
            )
        values[endless], observed = known.max() if (signs > 0).any() else known.min(), observed & ~endless
    return values, observed
