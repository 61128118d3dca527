"""Tables of rows for predictions: the rows of the fit, with some columns replaced, in groups, or at their means."""

from __future__ import annotations

import itertools
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from mlejax.data import MissingColumnError, columns_of
from mlejax.data.errors import missing_column
from mlejax.fit import Fit
from mlejax.shapes import Data, Float, Host, PyTree


def rows_of(fit: Fit, data: Data, what: str = "margins", option: str = "data=") -> tuple[Any, Float[Host, " n"]]:
    """Return the rows to average over, as a DataFrame or a dict of columns, and their weights (n,).

    Args:
        fit: the fit, whose rows and weights are taken if ``data`` is None (weight 1 without weights).
        data: new data, with weight 1 for each row; or None.
        what: the feature, first words of the messages.
        option: its option for data, which messages name; empty if it has none.

    Raises:
        ValueError: the rows of the fit are not in memory (a result from a file), or have no named columns.
    """
    if data is not None:
        columns = columns_of(data)
        data = data if columns is None else dict(columns)
        return data, np.ones(_n_rows(data))
    loaded = fit.loaded
    if loaded.remembered is not None:
        again = f"pass the data again, {option}" if option else "fit the model again"
        raise ValueError(f"{what}: a result from a file does not hold its data; {again}")
    rows = np.arange(loaded.rows.n) if loaded.rows.kept is None else np.asarray(loaded.rows.kept)
    table = loaded.source.take(rows)
    if not isinstance(table, Mapping) and not hasattr(table, "columns"):
        more = f", or give one as {option}" if option else ""
        raise ValueError(f"{what} needs data with named columns: fit a DataFrame or a dict of columns{more}")
    w = loaded.weights
    if w is None:
        return table, np.ones(rows.size)
    values = np.asarray(w.values, float)
    return table, values if loaded.unit_codes is None else values[loaded.unit_codes]


def _n_rows(table: Data) -> int:
    return len(table) if hasattr(table, "columns") else len(next(iter(table.values())))


def column_of(table: Data, name: str) -> np.ndarray:
    """Return a column of a DataFrame or a dict as an array (n,); MissingColumnError if it does not exist."""
    names = list(table.columns if hasattr(table, "columns") else table)
    if name not in names:
        raise missing_column(name, names, "margins")
    return np.asarray(table[name])


def levels_in(table: Data, name: str) -> list[Any]:
    """Return the levels of a column that occur in it: in the order of a categorical, else sorted; ValueError if it has fewer
    than two.
    """
    column = table[name]
    values = column.cat.categories if hasattr(column, "cat") else np.unique(np.asarray(column))
    present = set(np.unique(np.asarray(column).astype(object)))
    levels = [v for v in np.asarray(values).tolist() if v in present]
    if len(levels) < 2:
        raise ValueError(f"margins: a contrast needs two levels, and column {name!r} has only {levels}; name another column")
    return levels


def changed(table: Data, values: Mapping[str, Any], like: Data) -> Data:
    """Return the table with some columns replaced.

    Args:
        table: DataFrame or dict of columns, n rows.
        values: name -> one value for all rows, or an array (n,).
        like: table that has these columns; a categorical one gives its categories to the new column.
    """
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
    """Concatenate tables of the same columns along the rows: DataFrames (their index is dropped), or dicts of columns."""
    if hasattr(tables[0], "columns"):
        import pandas as pd

        return pd.concat(tables, ignore_index=True)
    return {name: np.concatenate([np.asarray(t[name]) for t in tables]) for name in tables[0]}


def taken_rows(table: Data, rows: np.ndarray) -> Data:
    """Return the rows at the given positions of a DataFrame or a dict of columns."""
    return table.iloc[rows] if hasattr(table, "iloc") else {k: np.asarray(v)[rows] for k, v in table.items()}


def grouped_rows(table: Data, over: str | Sequence[str] | None) -> Iterator[tuple[dict[str, Any], np.ndarray]]:
    """Yield for each group of rows with equal values in the columns ``over`` a dict, column -> value, and the positions of
    its rows; all rows and an empty dict if ``over`` is None.  ValueError: a column does not exist.
    """
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
    """Yield every combination of the values in ``at``, column -> value; one empty dict if ``at`` is empty.

    ``at``: column -> value or list of values.  ValueError: a column is not in ``table``.
    """
    for name in at:
        column_of(table, name)
    lists = [np.atleast_1d(np.asarray(v, object)).tolist() for v in at.values()]
    for values in itertools.product(*lists):
        yield dict(zip(at, values, strict=True))


def check_means(table: Data, row: Data, needed: Collection[str]) -> None:
    """Raise MissingColumnError if a column in ``needed`` is in the table but not in its row of means ``row``."""
    there, known = (set(x.columns if hasattr(x, "columns") else x) for x in (table, row))
    if lost := sorted(name for name in needed if name in there and name not in known):
        level = column_of(table, lost[0]).tolist()[0]
        raise MissingColumnError(
            f"margins(at_means=True): expected numeric columns, but {lost[0]!r} has levels and no mean; give its value, "
            f"at={{{lost[0]!r}: {level!r}}}",
            lost[0],
        )


def mean_row(table: Data, weights: Float[Host, " n"]) -> tuple[Any, Float[Host, " one"]]:
    """Return a table with one row, the weighted means of the numeric columns, and its weight 1.

    Other columns are kept only if they are constant; the values of the rest must come from ``at=``.
    """
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
