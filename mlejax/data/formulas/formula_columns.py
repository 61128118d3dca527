"""The columns of the data as formulaic takes them: a DataFrame of the columns that a formula names."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from mlejax.data.errors import DataError, DataTypeError
from mlejax.data.read.columns import Column, is_pandas
from mlejax.data.read.refusals import refusal
from mlejax.data.read.table import Table
from mlejax.shapes import Host, Int

if TYPE_CHECKING:
    import pandas as pd


def n_axes(table: Table, name: str) -> int:
    """Return the number of axes of a column: 1, or 2 for a matrix; 0 for a structure of several arrays and for `Shared` and
    `Static`.
    """
    found = table.contents(name)
    return len(found.rows[0].probe.shape) if found.entry.treedef is None and len(found.rows) == 1 else 0


def frame_of(table: Table, columns: Sequence[str], kept: Int[Host, " m"] | None, what: str) -> pd.DataFrame:
    """Return the columns of a formula as a DataFrame of the kept rows, numbered from 0.

    Args:
        table: the data.
        columns: names of the columns; if empty, the DataFrame has rows but no columns.
        kept: positions of the rows to use, or None for all.
        what: the formula, the beginning of error messages.

    Raises:
        DataTypeError: a column is a matrix, a structure of several arrays, dates, durations, decimal or complex
            numbers.
    """
    import pandas as pd

    out: dict[str, Any] = {}
    for name in columns:
        if (axes := n_axes(table, name)) != 1:
            if axes > 1:
                raise DataTypeError(
                    f"{what}: expected single columns, but {name!r} has {axes} axes; a matrix can only be the whole formula: "
                    "give its name alone"
                )
            by_row = bool(table.contents(name).rows)
            came = "is a structure of several arrays" if by_row else "does not vary by row (mle.Shared, mle.Static)"
            raise DataTypeError(f"{what}: expected single columns, but {name!r} {came}; make columns of it")
        out[name] = _series(table.column(name), kept, name, what)
    if out:
        return pd.DataFrame(out, copy=False)
    return pd.DataFrame(index=range(table.most_rows if kept is None else len(kept)))


def _series(raw: Any, kept: Int[Host, " m"] | None, name: str, what: str) -> pd.Series:
    """Return the kept rows of a column as a pandas Series, numbered from 0, of a type that formulaic takes: numbers, booleans,
    strings, or the categories that occur. DataTypeError for dates, durations, decimal and complex numbers; arguments as in
    `frame_of`.
    """
    import pandas as pd

    series = raw
    if not is_pandas(raw, "Series"):
        as_it_is = isinstance(raw, list) or is_pandas(raw, "Index") or hasattr(raw, "isna")
        series = pd.Series(raw if as_it_is else np.asarray(raw))
    series = (series if kept is None else series.iloc[kept]).reset_index(drop=True)
    if series.dtype == object:
        series = series.infer_objects()
    dtype, types = series.dtype, pd.api.types
    arrow = getattr(dtype, "pyarrow_dtype", None)
    if "decimal" in str(arrow) or (types.is_object_dtype(dtype) and types.infer_dtype(series, skipna=True) == "decimal"):
        raise DataTypeError(
            f"{what}: column {name!r} holds decimal numbers, which a formula would take as categories; make floats of it, "
            "column.astype(float), or text for categories"
        )
    if types.is_datetime64_any_dtype(dtype) or types.is_timedelta64_dtype(dtype):
        raise DataTypeError(
            f"{what}: column {name!r} holds dates or durations ({dtype}); make numbers of it, such as "
            "(t - t.min()).dt.days, or text for categories (t.dt.month_name())"
        )
    if types.is_complex_dtype(dtype):
        raise refusal(Column(series.to_numpy(), f"{what}: column {name!r}"))
    if isinstance(dtype, pd.CategoricalDtype):
        return series.cat.remove_unused_categories()
    if types.is_float_dtype(dtype):
        return series.astype("float64")
    if types.is_extension_array_dtype(dtype):
        return series.astype(
            "bool" if types.is_bool_dtype(dtype) else "int64" if types.is_integer_dtype(dtype) else object
        )
    return series


def refuse_other_kinds(rows: pd.DataFrame, frame: pd.DataFrame, what: str) -> None:
    """Raise DataError, which begins with ``what``, if a column of ``frame``, new data, has text or categories where ``rows``,
    some rows of the first data, have numbers.
    """
    from pandas.api.types import is_numeric_dtype

    for name in rows.columns:
        if is_numeric_dtype(rows[name]) and not is_numeric_dtype(frame[name]):
            raise DataError(
                f"{what}: column {name!r} has numbers in the data of the fit, but values of type {frame[name].dtype} here: "
                "convert it with pd.to_numeric(column)"
            )
