"""Tables of rows for predictions: those of the fit, at other values, in groups, at their means."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from mlejax.data import columns_of
from mlejax.fit import Fit
from mlejax.shapes import Data, Float, Host, PyTree

if TYPE_CHECKING:
    pass


def rows_of(fit: Fit, data: Data, what: str = "margins") -> tuple[Any, Float[Host, " n"]]:
    """The rows to average over, as a DataFrame or a dict of columns, and their weights."""
    if data is not None:
        columns = columns_of(data)
        data = data if columns is None else dict(columns)
        return data, np.ones(_n_rows(data))
    loaded = fit.loaded
    if loaded.remembered is not None:
        raise ValueError("a result from a file does not hold its data: give them, data=")
    rows = np.arange(loaded.rows.n) if loaded.rows.kept is None else np.asarray(loaded.rows.kept)
    table = loaded.source.take(rows)
    if not isinstance(table, Mapping) and not hasattr(table, "columns"):
        raise ValueError(f"{what}: columns are changed by name: fit a DataFrame or a dict of columns, or give data=")
    w = loaded.weights
    if w is None:
        return table, np.ones(rows.size)
    values = np.asarray(w.values, float)
    return table, values if loaded.unit_codes is None else values[loaded.unit_codes]


def _n_rows(table: Data) -> int:
    return len(table) if hasattr(table, "columns") else len(next(iter(table.values())))


def column_of(table: Data, name: str) -> np.ndarray:
    """A column, or ValueError with the names of those that there are."""
    names = list(table.columns if hasattr(table, "columns") else table)
    if name not in names:
        raise ValueError(f"margins: no column {name!r}; the columns are {', '.join(map(str, names))}")
    return np.asarray(table[name])


def levels_in(table: Data, name: str) -> list[Any]:
    """The levels of a column: those that a categorical declares and has, in their order; else sorted."""
    column = table[name]
    values = column.cat.categories if hasattr(column, "cat") else np.unique(np.asarray(column))
    present = set(np.unique(np.asarray(column).astype(object)))
    levels = [v for v in np.asarray(values).tolist() if v in present]
    if len(levels) < 2:
        raise ValueError(f"margins: column {name!r} has one level here, {levels}, so that there is nothing to contrast")
    return levels


def changed(table: Data, values: Mapping[str, Any], like: Data) -> Data:
    """The table with some columns replaced, each by a value for all rows, of the kind of the column in ``like``, or by one
    value a row."""
    if not values:
        return table
    n, frame = _n_rows(table), hasattr(table, "columns")
    new = {name: value if np.ndim(value) else _filled(like[name], value, n) for name, value in values.items()}
    return table.assign(**new) if frame else {**table, **new}


def _filled(column: PyTree, value: Any, n: int) -> Data:
    if hasattr(column, "cat"):
        import pandas as pd

        return pd.Categorical([value] * n, dtype=column.dtype)
    return np.full(n, value) if not isinstance(value, str) else np.array([value] * n, dtype=object)


def joined_tables(tables: Sequence[Any]) -> Data:
    """Tables of the same columns below each other."""
    if hasattr(tables[0], "columns"):
        import pandas as pd

        return pd.concat(tables, ignore_index=True)
    return {name: np.concatenate([np.asarray(t[name]) for t in tables]) for name in tables[0]}


def taken_rows(table: Data, rows: np.ndarray) -> Data:
    """These rows of a DataFrame or a dict of columns, by position."""
    return table.iloc[rows] if hasattr(table, "iloc") else {k: np.asarray(v)[rows] for k, v in table.items()}


def grouped_rows(table: Data, over: str | Sequence[str] | None) -> Iterator[tuple[dict[str, Any], np.ndarray]]:
    """(description, numbers of the rows) of each group."""
    n = _n_rows(table)
    if over is None:
        yield {}, np.arange(n)
        return
    names = [over] if isinstance(over, str) else list(over)
    columns = [column_of(table, name) for name in names]
    for values in itertools.product(*(np.unique(c).tolist() for c in columns)):
        rows = np.flatnonzero(np.all([c == v for c, v in zip(columns, values, strict=True)], axis=0))
        if rows.size:
            yield dict(zip(names, values, strict=True)), rows


def combinations_of(at: Mapping[str, Any], table: Data) -> Iterator[dict[str, Any]]:
    """Every combination of the values in ``at``; ValueError for a name that is no column."""
    for name in at:
        column_of(table, name)
    lists = [np.atleast_1d(np.asarray(v, object)).tolist() for v in at.values()]
    for values in itertools.product(*lists):
        yield dict(zip(at, values, strict=True))


def mean_row(table: Data, weights: Float[Host, " n"]) -> tuple[Any, Float[Host, " one"]]:
    """One row with the means of the numeric columns; of others only those with one value: the rest has to be in ``at=``."""
    share, out = weights / weights.sum(), {}
    for name in table.columns if hasattr(table, "columns") else table:
        column = np.asarray(table[name])
        numeric = column.dtype.kind in "iuf" and column.ndim == 1
        if numeric or (column.ndim == 1 and len(set(column.tolist())) == 1):
            out[name] = [share @ column] if numeric else table[name][:1]
    if hasattr(table, "columns"):
        import pandas as pd

        return pd.DataFrame({k: np.asarray(v) for k, v in out.items()}), np.ones(1)
    return {k: np.asarray(v) for k, v in out.items()}, np.ones(1)
