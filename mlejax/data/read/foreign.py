"""Tables of other libraries: polars, pyarrow, DuckDB, and others that narwhals or the Arrow C stream read; xarray; records.

Columns of numbers are taken as NumPy arrays, without a copy where the library allows it; text, categories and dates become
pandas Series. Of lazy queries only the columns in use are computed, all at once. A query may return its rows in another order
each time, so that when a further column is needed later, the columns computed before are compared with the new ones.
Results that are tables are of the same kind as the user's table.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from mlejax.data.errors import DataError, DataTypeError, listing, type_name
from mlejax.shapes import Data

if TYPE_CHECKING:
    import narwhals as nw
    import pyarrow as pa

_KINDS = {
    "String": "text", "Categorical": "categorical", "Enum": "categorical", "Date": "datetime", "Datetime": "datetime",
    "Time": "datetime", "Duration": "timedelta", "Decimal": "decimal", "List": "lists",
}  # fmt: skip


class ForeignColumn:
    """One column of a table of another library; its values are converted when they are first used.

    Args:
        dtype: the narwhals dtype.
        n: number of rows.
        take: function that returns the column as a narwhals Series.

    Attributes:
        kind: "float", "int", "bool", or the reason why the values are not numeric, such as "text".
        shape: (n,), or (n, ...) for a column of arrays of fixed shape.
        dtype: the narwhals dtype; None after unpickling.
    """

    def __init__(self, dtype: nw.dtypes.DType, n: int, take: Callable[[], Any]) -> None:
        self.kind, inner = _kind(dtype)
        self.dtype, self.shape, self._take = dtype, (n, *inner), take

    @cached_property
    def values(self) -> Any:
        """Numbers, booleans and arrays as a NumPy array, masked if single numbers are missing; other kinds as a pandas Series."""
        return _values(self._take(), self.kind, self.shape)

    def __getstate__(self) -> dict[str, Any]:
        return {"kind": self.kind, "dtype": None, "shape": self.shape, "values": self.values}


class Frame(Mapping[str, Any]):
    """A table of another library as a mapping from names to columns.

    Attributes:
        native: the user's object; None after unpickling.
    """

    def __init__(self, native: Any, narwhal: Any) -> None:
        self.native, self._lazy, self._eager = native, None, narwhal
        if not hasattr(narwhal, "get_column"):
            self._lazy, self._eager = narwhal, None
        self._schema = dict(narwhal.collect_schema())
        self._columns: dict[str, ForeignColumn] = {}

    @cached_property
    def n_rows(self) -> int:
        """The number of rows; of a lazy query it is counted without its columns."""
        return len(self._eager) if self._lazy is None else int(self._lazy.count_rows())

    def column(self, name: str) -> ForeignColumn:
        """Return a column, without converting its values yet; KeyError if there is none of this name."""
        if name not in self._columns:
            taken = self._eager
            # of a table in memory no cycle with this object: tables of a stream are freed at once, not by the garbage collector
            series = (lambda: taken[name]) if self._lazy is None else (lambda: self._series(name))
            self._columns[name] = ForeignColumn(self._schema[name], self.n_rows, series)
        return self._columns[name]

    def __getitem__(self, name: str) -> Any:
        if name not in self._schema:
            raise KeyError(name)
        return self.column(name).values

    def __iter__(self) -> Iterator[str]:
        return iter(self._schema)

    def __len__(self) -> int:
        return len(self._schema)

    def load(self, names: Iterable[Any]) -> None:
        """Compute those of these columns of a lazy query that are not loaded yet, all at once; nothing for a table in memory,
        and names that are not in the table are ignored.

        Raises:
            DataError: the query now gives another number of rows, or other values in the columns loaded before.
        """
        have = () if self._eager is None else self._eager.columns
        more = [name for name in self._schema if name in set(names) and name not in have]
        if self._lazy is None or not more:
            return
        found = self._lazy.collect([*have, *more])
        if len(found) != self.n_rows or any(not _equal(found[name], self._eager[name]) for name in have):
            raise DataError(
                f"the data, a {type_name(self.native)}, are a query that returned other rows, or rows in another order, "
                "when it was computed again: compute it once and pass its result (.collect() in polars, .arrow() in DuckDB)"
            )
        self._eager = found

    def _series(self, name: str) -> nw.Series:
        self.load([name])
        return self._eager[name]

    def __getstate__(self) -> dict[str, Any]:
        """Return the state for pickling: the columns of a table in memory, of a query those that were loaded."""
        taken = {"native": None, "_lazy": None, "_eager": self._eager, "n_rows": self.n_rows}
        return {**taken, "_columns": {}, "_schema": self._schema}


class _Query:
    """A narwhals LazyFrame, of which some columns or the number of rows can be computed."""

    def __init__(self, query: Any, native: Any) -> None:
        self.query, self.native = query, native
        self.collect_schema = query.collect_schema

    def count_rows(self) -> int:
        import narwhals as nw

        return int(_needing_arrow(self.native, lambda: self.query.select(nw.len()).collect().item()))

    def collect(self, names: list[str]) -> Any:
        return _needing_arrow(self.native, lambda: self.query.select(names).collect())


class _Dataset:
    """A pyarrow Dataset: files of which some columns can be read."""

    def __init__(self, dataset: pa.dataset.Dataset) -> None:
        self.dataset = dataset

    def collect_schema(self) -> nw.Schema:
        import narwhals as nw

        return nw.from_native(self.dataset.schema.empty_table()).collect_schema()

    def count_rows(self) -> int:
        return int(self.dataset.count_rows())

    def collect(self, names: list[str]) -> Any:
        import narwhals as nw

        return nw.from_native(self.dataset.to_table(columns=names))


def columns_of(data: Data) -> Mapping[Any, Any] | None:
    """Return the columns of a table by name: of a structured array, a list of records (dicts; a key that a record lacks is
    None), an xarray Dataset, or a table of polars, pyarrow, DuckDB or another library that narwhals or Arrow's stream reads.

    None for anything else, such as a dict, a pandas DataFrame or an empty list.

    Raises:
        DataError: an xarray Dataset without variables, or whose variables differ in their first dimension.
        DataTypeError: the table is read by a package that is not installed.

    >>> columns_of([{"x": 1.0, "g": "a"}, {"x": 2.0}])
    {'x': [1.0, 2.0], 'g': ['a', None]}
    >>> columns_of(np.array([(1.0, 2)], [("x", float), ("k", int)]))["k"]
    array([2])
    """
    if isinstance(data, np.ndarray):
        return None if data.dtype.names is None else {name: data[name] for name in data.dtype.names}
    if isinstance(data, list):
        if not data or not all(isinstance(record, Mapping) for record in data):
            return None
        return {name: [record.get(name) for record in data] for name in dict.fromkeys(k for r in data for k in r)}
    library = type(data).__module__.partition(".")[0]
    if library in ("builtins", "jax", "jaxlib", "pandas"):
        return None
    if library == "xarray":
        return _xarray_columns(data) if hasattr(data, "data_vars") else None
    if isinstance(data, Mapping):
        return None
    if library == "pyarrow" and hasattr(data, "to_table") and hasattr(data, "count_rows"):
        return Frame(data, _Dataset(data))
    import narwhals as nw

    found = nw.from_native(data, pass_through=True)
    if isinstance(found, nw.LazyFrame):
        return Frame(data, _Query(found, data))
    if isinstance(found, nw.DataFrame):
        return Frame(data, found)
    if hasattr(data, "__arrow_c_stream__"):
        table = _needing_arrow(data, lambda: importlib.import_module("pyarrow").table(data))
        return Frame(data, nw.from_native(table))
    return None


def foreign_series(value: object) -> ForeignColumn | None:
    """Return a Series or an array that has Arrow's interface (polars, pyarrow, ...) as a `ForeignColumn`; None for anything
    else, NumPy, JAX and pandas included.
    """
    library = type(value).__module__.partition(".")[0]
    if library in ("numpy", "jax", "jaxlib", "builtins", "pandas") or not (
        hasattr(value, "__arrow_c_stream__") or hasattr(value, "__arrow_c_array__")
    ):
        return None
    import narwhals as nw

    if hasattr(value, "__arrow_c_array__") and library == "pyarrow" and hasattr(value, "type"):
        import pyarrow as pa

        value = pa.chunked_array([value])
    found = nw.from_native(value, series_only=True, pass_through=True)
    return ForeignColumn(found.dtype, len(found), lambda: found) if isinstance(found, nw.Series) else None


def like(source: Any, frame: Any) -> Any:
    """Return a pandas DataFrame of results as a table of the same kind as ``source``, the user's object or a `Table` of it.

    Of polars it is a polars DataFrame, of DuckDB its relation, of other libraries that use Arrow a pyarrow Table; in these,
    row labels that are named, multi-level or not numbers become columns, and others are left out. Of pandas, dicts and
    everything else it is ``frame`` itself.
    """
    source = getattr(source, "raw", source)
    if not isinstance(source, Frame):
        found = None if isinstance(source, (Mapping, list, tuple, np.ndarray)) else columns_of(source)
        if not isinstance(found, Frame):
            return frame
        source = found
    import narwhals as nw
    import pandas as pd

    kind = _answer_kind(source)
    if kind is None:
        return frame
    if frame.index.nlevels > 1 or frame.index.name is not None or not pd.api.types.is_numeric_dtype(frame.index.dtype):
        frame = frame.reset_index()
    columns = {str(name): _plain(frame[name]) for name in frame.columns}
    made = nw.from_dict(columns, backend=kind).to_native()
    if type(source.native).__module__.partition(".")[0] in ("duckdb", "_duckdb"):
        import duckdb

        return duckdb.from_arrow(made)
    return made


def _answer_kind(source: Frame) -> Literal["polars", "pyarrow"] | None:
    """Return the library that makes tables of results for this table, "polars" or "pyarrow"; None: neither of them."""
    narwhal = source._eager if source._lazy is None else getattr(source._lazy, "query", None)
    name = "pyarrow" if narwhal is None else str(narwhal.implementation)
    if "polars" in name.lower():
        return "polars"
    return "pyarrow" if any(word in name.lower() for word in ("arrow", "duckdb")) else None


def _plain(series: Any) -> Any:
    return series.tolist() if series.dtype.kind not in "fiubmM" else series.to_numpy()


def _kind(dtype: Any) -> tuple[str, tuple[int, ...]]:
    """Return the kind of values of a narwhals dtype, as in `Probe`, and the shape of one entry, () but for arrays."""
    name = type(dtype).__name__ if not isinstance(dtype, type) else dtype.__name__
    if name == "Array":
        inner = dtype.inner if not isinstance(dtype.inner, type) else dtype.inner()
        return _kind(inner)[0], tuple(dtype.shape)
    if dtype.is_float():
        return "float", ()
    if dtype.is_integer():
        return "int", ()
    return ("bool" if name == "Boolean" else _KINDS.get(name, "object")), ()


def _values(series: nw.Series, kind: str, shape: tuple[int, ...]) -> Any:
    if len(shape) > 1:
        return np.asarray(series.to_list()).reshape(shape)
    if kind in ("float", "int", "bool"):
        if not series.null_count():
            return series.to_numpy()
        missing = np.asarray(series.is_null().to_numpy(), bool)
        return np.ma.MaskedArray(series.fill_null(False if kind == "bool" else 0).to_numpy(), missing)
    import pandas as pd

    try:
        return series.to_pandas()
    except ImportError:  # polars without pyarrow
        values = pd.Series(series.to_list(), dtype=object)
        if kind != "categorical":
            return values
        return values.astype(pd.CategoricalDtype(series.cat.get_categories().to_list()))


def _equal(a: Any, b: Any) -> bool:
    """True if two columns have the same length, the same number of missing entries, and the same other entries in order."""
    if len(a) != len(b) or a.null_count() != b.null_count():
        return False
    x, y = (np.asarray(s.drop_nulls().to_numpy()) for s in (a, b))
    same = (x == y) | ((x != x) & (y != y))
    return bool(np.all(same))


def _needing_arrow(data: Data, take: Callable[[], Any]) -> Any:
    """Return ``take()``, which reads the data; if that needs a package that is not installed, raise DataTypeError."""
    try:
        return take()
    except ImportError as error:
        raise DataTypeError(
            f"the data, a {type_name(data)}, are read through Arrow, which needs the package {error.name or 'pyarrow'}, which is "
            "not installed: pip install 'mlejax[arrow]'"
        ) from error


def _xarray_columns(dataset: Any) -> Mapping[str, Any]:
    """Return the variables of an xarray Dataset and its coordinates as columns.

    Variables that all have the same dimensions are flattened: a row is a point of the grid, and coordinates are repeated to its
    size. Otherwise rows are the dimension that is the first of every variable, a variable with further dimensions is a matrix,
    and coordinates without this first dimension are left out. DataError if there are no variables, or if their first dimensions
    differ.
    """
    dims = {tuple(v.dims) for v in dataset.data_vars.values()}
    if not dims:
        raise DataError(
            "the data, an xarray Dataset, have no data variables; expected at least one: write dataset.reset_coords() to make "
            "coordinates variables"
        )
    if len(dims) == 1:
        (grid,) = dims
        sizes = tuple(dataset.sizes[d] for d in grid)
        flat = {str(name): np.asarray(v.values).reshape(-1) for name, v in dataset.data_vars.items()}
        for name, coordinate in dataset.coords.items():
            if set(coordinate.dims) <= set(grid):
                place = [dataset.sizes[d] if d in coordinate.dims else 1 for d in grid]
                ordered = coordinate.transpose(*(d for d in grid if d in coordinate.dims)).values
                flat[str(name)] = np.broadcast_to(np.asarray(ordered).reshape(place), sizes).reshape(-1)
        return flat
    first = {each[0] if each else None for each in dims}
    if len(first) > 1 or None in first:
        raise DataError(
            "the data, an xarray Dataset: expected variables that all have the same dimensions, or the same first dimension (the "
            f"rows); got {listing(sorted(map(str, dims)))}. Transpose or drop the others, or "
            "write dataset.to_dataframe().reset_index()"
        )
    (rows,) = first
    wanted = {**dataset.data_vars, **{k: v for k, v in dataset.coords.items() if v.dims[:1] == (rows,)}}
    return {str(name): np.asarray(v.values) for name, v in wanted.items()}
