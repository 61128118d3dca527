"""Errors for array-likes that cannot be a numeric column. The messages say what was expected, what came, where, and what to do.

These functions run only when an error is raised, so that their search through all elements costs nothing otherwise.
"""

from __future__ import annotations

import datetime
import decimal
import fractions
import os
from collections.abc import Iterator
from typing import Any

import jax
import numpy as np

from mlejax.data.errors import DataError, DataTypeError, listing, rows_phrase, type_name
from mlejax.data.packing.layout import Shared, Static
from mlejax.data.read.columns import NUMERIC, Column, is_missing, is_pandas, probe, probe_dtype
from mlejax.data.read.trees import is_column
from mlejax.shapes import Data

_EXPECTED = "expected numbers or booleans"
_FORMULAS = "formulas, groups and `by` can use text and categories as they are"

TRACER = (
    "the data hold tracers of an outer JAX transformation (jit, vmap or grad), whose values cannot be checked. "
    "Prepare the data outside and call mle.solve(model, prepared, start) inside"
)


def refusal(column: Column) -> Exception:
    """Return the error for a column whose values are not numeric: a DataTypeError, or a DataError for duplicate names and for
    sequences as values.

    >>> print(refusal(Column(np.array(["a", "b"]), "column 'x'")))
    column 'x': expected numbers or booleans, got text (dtype <U1): 2 values are not numbers, first 'a' in row 0. \
Make codes or dummies of it; formulas, groups and `by` can use text and categories as they are
    """
    kind, where = column.probe.kind, column.where
    if kind == "tracer":
        return DataTypeError(f"{where}: {TRACER}")
    if kind in ("scalar", "string", "none"):
        return _single(column, kind)
    if kind == "frame":
        frame: Any = column.raw
        j = next(j for j, dtype in enumerate(frame.dtypes) if probe_dtype(dtype) not in NUMERIC)
        return refusal(Column(frame.iloc[:, j], f"{where} (entry {frame.columns[j]!r})"))
    if kind == "duplicates":
        columns = column.raw.columns
        return DataError(
            f"{where}: duplicate column names {listing(columns[columns.duplicated()].unique())}; "
            "expected each name once: rename or drop the duplicates"
        )
    if kind in ("ragged", "arrays"):
        return _lists(column, kind)
    if kind in ("text", "object"):
        return _elements(column)
    dtype = getattr(column.raw, "dtype", None)
    # Some types are plainer by their own name: "a set", "a memoryview".
    came = f"a {type_name(column.raw)}" if kind == "unknown" or dtype is None else kind
    if dtype is not None:
        came += f" (dtype {dtype})"
    return DataTypeError(f"{where}: {_EXPECTED}, got {came}. {_ADVICE.get(kind, _ADVICE['unknown'])}")


_ADVICE = {
    "categorical": f"Use the codes (.cat.codes) or dummies (pd.get_dummies); {_FORMULAS}",
    "datetime": "Make numbers of it, such as seconds since a start: (t - t.min()).dt.total_seconds(), "
    "or (t - t.min()) / np.timedelta64(1, 's') in NumPy",
    "timedelta": "Make numbers of it, such as seconds: t.dt.total_seconds(), or t / np.timedelta64(1, 's') in NumPy",
    "period": "Make numbers of it, such as seconds since a start, after .dt.to_timestamp()",
    "interval": "Use the ends (.array.left, .array.right) or the middle (.array.mid) as columns",
    "decimal": "Cast it to a float: .cast(pl.Float64) in polars, CAST(x AS DOUBLE) in SQL",
    "lists": "Give every list the same length (an Array in polars, a fixed-size list in Arrow), or write one row per value",
    "complex": "Pass the real and the imaginary part as two columns",
    "sparse": "Make it dense: .toarray() in SciPy, .sparse.to_dense() in pandas",
    "structured": "Pass its fields as a dict: {name: a[name] for name in a.dtype.names}",
    "key": "Pass jax.random.key_data(key) as mle.Shared",
    "unknown": "Pass a NumPy or JAX array, a list, a pandas Series or a DataFrame; for any other table, "
    "{name: np.asarray(table[name]) for name in its columns}",
}


def _single(column: Column, kind: str) -> Exception:
    got = "None" if kind == "none" else f"a single {type_name(column.raw)} (0-d)"
    if kind == "string":
        got = f"the single string {column.raw!r}"
    static = "mle.Static(value) for a Python value that is part of the model (a number of categories, a lag)"
    share = f"Use mle.Shared(value) for numbers that all rows share, {static}"
    if column.shared:
        return DataTypeError(f"{column.where}: expected numbers in mle.Shared, got {got}. Use {static}")
    note = "; a tuple is a structure of columns, so write the values of one column as a list or an array"
    return DataTypeError(f"{column.where}: expected one value per row, got {got}. {share}{note}")


def _lists(column: Column, kind: str) -> Exception:
    if kind == "arrays":
        t = type_name(next(v for v in column.raw if not isinstance(v, (int, float, str))))
        return DataTypeError(
            f"{column.where}: expected one value per row, got a list that holds a {t}. If these are rows of a matrix, use "
            "np.stack(values); for several columns a tuple; for dicts pd.DataFrame(records)"
        )
    sizes = [len(v) if hasattr(v, "__len__") and not isinstance(v, str) else -1 for v in column.raw]
    odd = next((i for i, size in enumerate(sizes) if size != sizes[0]), None)
    where = "the nesting differs inside"
    if odd is not None:
        where = f"row 0 has {_size(sizes[0])}, row {odd} has {_size(sizes[odd])}"
    return DataError(
        f"{column.where}: expected rows of equal length, got a ragged list: {where}. "
        "Pad the rows to one length with a mask column, or write one row per value (long format) and use unit="
    )


def _size(size: int) -> str:
    return "a single value" if size < 0 else f"{size} values"


def _flat(column: Column) -> Iterator[tuple[int, Any]]:
    """Yield (row number, element) for all elements of a column, row by row; masked entries are None."""
    raw: Any = column.array if column.array is not None else column.raw
    if isinstance(raw, np.ma.MaskedArray):
        gaps = np.ma.getmaskarray(raw)
        raw = np.array(raw.data, dtype=object)
        raw[gaps] = None
    array = raw.to_numpy(dtype=object) if hasattr(raw, "to_numpy") else np.asarray(raw)
    array = array.reshape(array.shape[0], -1) if array.ndim else array.reshape(1, 1)
    for row in range(array.shape[0]):
        for value in array[row]:
            yield row, value


def _sort_of(value: object) -> str:
    if is_missing(value):
        return "missing"
    if isinstance(value, (complex, np.complexfloating)) and not isinstance(value, (float, int)):
        return "complex"
    if isinstance(value, (bool, int, float, np.bool_, np.integer, np.floating, decimal.Decimal, fractions.Fraction)):
        return "number"
    if isinstance(value, (str, bytes)):
        return "text"
    if isinstance(value, (datetime.date, datetime.time, datetime.timedelta, np.datetime64, np.timedelta64)):
        return "date"
    if isinstance(value, (list, tuple, np.ndarray, jax.Array)):
        return "sequence"
    return "object"


def _elements(column: Column) -> Exception:
    """Return the error for a column of text or objects, whose message says what the elements are; if they are of several
    kinds, what most are, and the first that is different with its row.
    """
    rows: dict[str, list[int]] = {}
    first: dict[str, Any] = {}
    not_numbers: list[tuple[int, Any]] = []
    count = 0
    for row, value in _flat(column):
        sort = _sort_of(value)
        rows.setdefault(sort, []).append(row)
        first.setdefault(sort, value)
        count += 1
        if sort == "text" and not _parses(value):
            not_numbers.append((row, value))
    dtype = getattr(column.raw, "dtype", None)
    came = f"(dtype {dtype})" if dtype is not None else f"(a {type_name(column.raw)})"
    sorts = set(rows) - {"missing"}
    missing = rows.get("missing", [])
    also = f"; {len(missing)} are missing, at {rows_phrase(missing, column.index)}" if missing else ""
    expected = f"{column.where}: {_EXPECTED}, got"
    if sorts <= {"number"}:
        what = "numbers stored as Python objects" if sorts else "only missing values, stored as Python objects"
        big = [(r, v) for r, v in _flat(column) if isinstance(v, int) and (abs(v) >= 2**63 or int(float(v)) != v)]
        range_ = f"; {big[0][1]} in row {big[0][0]} cannot be stored exactly in 64 bits" if big else ""
        return DataTypeError(
            f"{expected} {what} {came}{also}{range_}. Convert with pd.to_numeric(column), np.asarray(column, float), "
            "or polars' cast(pl.Float64)"
        )
    if sorts == {"text"}:
        return _text(column, expected, came + also, count - len(missing), not_numbers)
    if sorts == {"date"}:
        return DataTypeError(f"{expected} dates or times as Python objects {came}{also}. {_ADVICE['datetime']}")
    if "sequence" in sorts and sorts <= {"sequence", "number"}:
        single = f", but a single value in {rows_phrase(rows['number'], column.index)}" if "number" in rows else ""
        start = f"first {_short(first['sequence'])} in row {rows['sequence'][0]}"
        return DataError(
            f"{expected} sequences {came}, {start}{single}{also}. For rows of equal length use np.stack(list(column)); "
            "ragged rows: pad them with a mask column, or use long format with unit="
        )
    if len(sorts) == 1:
        sort = next(iter(sorts))
        what = "complex numbers" if sort == "complex" else f"Python objects ({type_name(first[sort])})"
        return DataTypeError(f"{expected} {what} {came}{also}. {_ADVICE.get(sort, _ADVICE['unknown'])}")
    main = max(sorts, key=lambda s: (len(rows[s]), s == "number"))
    odd_rows = sorted(r for s in sorts - {main} for r in rows[s])
    odd_sort = min(sorts - {main}, key=lambda s: rows[s][0])
    return DataTypeError(
        f"{expected} mixed types {came}: most are {_PLURAL[main]}, but {len(odd_rows)} of {count} are not, at "
        f"{rows_phrase(odd_rows, column.index)}; first such value {_short(first[odd_sort])} "
        f"({type_name(first[odd_sort])}) in row {rows[odd_sort][0]}{also}. Correct these values, or turn them into "
        "missing ones with pd.to_numeric(column, errors='coerce') and decide what to do with them"
    )


_PLURAL = {
    "number": "numbers", "text": "text", "date": "dates", "sequence": "sequences", "complex": "complex numbers",
    "object": "objects",
}  # fmt: skip


def _text(column: Column, expected: str, came: str, count: int, not_numbers: list[tuple[int, Any]]) -> Exception:
    if not not_numbers:
        return DataTypeError(
            f"{expected} numbers written as text {came}. Convert with pd.to_numeric(column), .astype(float), or "
            "polars' cast(pl.Float64)"
        )
    row, value = not_numbers[0]
    label = "" if column.index is None else rows_phrase([row], column.index).partition("(")[2]
    at = f"row {row}" + (f" ({label}" if label else "")
    few = len(not_numbers) < count
    fix = "Correct these values, then convert with pd.to_numeric(column)" if few else "Make codes or dummies of it"
    return DataTypeError(
        f"{expected} text {came}: {len(not_numbers)} values are not numbers, first {_short(value)} in {at}. "
        f"{fix}; {_FORMULAS}"
    )


def _parses(text: Any) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _short(value: object) -> str:
    text = repr(value.item() if isinstance(value, np.generic) else value)
    return text if len(text) <= 40 else text[:37] + "..."



def refuse_foreign(data: Data) -> None:
    """Raise DataTypeError for tracers and for objects that are neither arrays nor trees of arrays."""
    if isinstance(data, jax.core.Tracer):
        raise DataTypeError(f"the data: {TRACER}")
    if isinstance(data, (np.ndarray, jax.Array, list, tuple)) or is_pandas(data, "Series", "Index"):
        return
    if isinstance(data, (Shared, Static)):
        raise DataTypeError(
            f"the data: expected a dict that holds columns with rows, got a {type_name(data)} alone, which has no rows"
        )
    known = probe(data).kind
    leaves = jax.tree_util.tree_leaves(data, is_leaf=is_column)
    if known == "unknown" and not (len(leaves) == 1 and leaves[0] is data):
        return  # a registered tree
    if known in NUMERIC and np.ndim(data):
        return
    instead = "For another kind of table write {name: np.asarray(table[name]) for name in its columns}"
    if isinstance(data, (str, os.PathLike)):
        instead = "Read a file first, pd.read_csv(path), or give mle.Parquet(path)"
    raise DataTypeError(
        f"the data: expected a dict of arrays, a table (pandas, polars, pyarrow, DuckDB, ...) or a tree of arrays, got a "
        f"{type_name(data)}. {instead}"
    )
