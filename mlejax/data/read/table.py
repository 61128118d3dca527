"""The user's table, and its conversion to checked columns.

`ingest` keeps the user's object and checks nothing. The user's function is traced with the abstract arrays of
`Table.abstract`, read through `Table.view`, which records the columns that it reads. Only these are converted and checked
by `Table.convert`: text, NaN or a wrong length in a column that is not used causes no error.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping, MutableSet
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import jax
import numpy as np

from mlejax.data.errors import DataError, DataTypeError, listing, missing_column, type_name
from mlejax.data.packing.layout import MASK_TAKEN, ROOT, UNIT_NEEDS_NAMES, Entry, Layout, Static, build
from mlejax.data.read.checked import DROP, Gap, Rows, common_length, read_columns, refuse_gaps, without_gaps
from mlejax.data.read.columns import NUMERIC, Column, is_pandas
from mlejax.data.read.foreign import Frame, columns_of
from mlejax.data.read.refusals import refusal, refuse_foreign
from mlejax.data.read.trees import Contents, contents_of, map_columns
from mlejax.data.read.view import Part, View
from mlejax.shapes import Data


@dataclass(frozen=True, eq=False)
class Table:
    """Data as the user passed them, unconverted. Made by `ingest`.

    Attributes:
        kind: "mapping" (a dict, Mapping or any table) or "tree" (anything else: a tuple, a named tuple, one array).
        raw: the user's object, or a mapping from names to its columns.
        keys: the names of the columns, each once; ``(None,)`` for a tree.
    """

    kind: str
    raw: Any = field(repr=False)
    keys: tuple[Hashable, ...]

    @cached_property
    def _key_set(self) -> frozenset[Hashable]:
        return frozenset(self.keys)

    @cached_property
    def _duplicates(self) -> frozenset[Hashable]:
        if not is_pandas(self.raw, "DataFrame"):
            return frozenset()
        return frozenset(self.raw.columns[self.raw.columns.duplicated()])

    @cached_property
    def _contents(self) -> dict[Hashable, Contents]:
        """The contents of the columns that were used so far, by key, so that a list is converted only once."""
        return {}

    def __contains__(self, key: Hashable) -> bool:
        return key in self._key_set

    def contents(self, key: Hashable) -> Contents:
        """Return the arrays under a key, with their tree.

        Raises:
            MissingColumnError: there is no such key.
            DataError: columns of a DataFrame have this name more than once.
            DataTypeError: the value is not a pytree that JAX can flatten.
        """
        found = self._contents.get(key)
        if found is not None:
            return found
        if key not in self._key_set:
            raise missing_column(key, () if self.kind == "tree" else self.keys)
        if key in self._duplicates:
            raise DataError(
                f"column {key!r}: {int((self.raw.columns == key).sum())} columns of the DataFrame have this name; "
                "expected it once: rename or drop the others"
            )
        if isinstance(self.raw, Frame):
            value: object = self.raw.column(str(key))
        else:
            value = self.raw if self.kind == "tree" else self.raw[key]
        return self._contents.setdefault(key, contents_of(value, key, self.kind))

    def refusal(self, key: Hashable) -> Exception | None:
        """Return the error for a column that a function cannot read (not numeric, absent, twice); None if it can."""
        try:
            wrong = self.contents(key).not_numeric
        except (DataError, DataTypeError, KeyError) as error:
            return error
        return None if wrong is None else refusal(wrong)

    def _refusal_of(self, key: Hashable) -> Exception:
        return self.refusal(key) or DataTypeError(f"column {key!r}: expected numbers")

    @cached_property
    def _open(self) -> tuple[Hashable, ...]:
        """The keys of the columns that a function may read: numeric, and not duplicate."""
        return tuple(k for k in self.keys if k not in self._duplicates and self.contents(k).not_numeric is None)

    @cached_property
    def n_rows(self) -> int:
        """The number of rows of all columns; errors as in `length`."""
        return self.length(self.keys)

    def length(self, names: Iterable[Hashable]) -> int:
        """Return the number of rows of these columns.

        Raises:
            DataError: they differ in length or have zero rows, a name occurs twice, or no row-wise column is named.
            DataTypeError: a column is a single value without a row axis.
            MissingColumnError: a column does not exist.
        """
        return common_length([column for key in names for column in self.contents(key).rows])

    @cached_property
    def most_rows(self) -> int:
        """The number of rows; if the columns differ in length, the most frequent length above 0. Errors as in `length` if
        there is no such length.
        """
        try:
            return self.n_rows
        except (DataError, DataTypeError):
            shapes = [column.probe.shape for key in self.keys for column in self.contents(key).rows]
            lengths = [shape[0] for shape in shapes if shape and shape[0]]
            if not lengths:
                raise
            return max(lengths, key=lengths.count)

    @cached_property
    def signature(self) -> Hashable:
        """A hashable summary of the data without their numbers of rows: the keys, trees and static values, the kind of every
        row-wise array and the shape of one of its rows, and the kind and shape of every shared array.
        """
        parts: list[Hashable] = []
        for key in self.keys:
            if key not in self._duplicates:
                found = self.contents(key)
                by_row = tuple((column.probe.kind, column.probe.shape[1:]) for column in found.rows)
                parts.append((found.entry, by_row, tuple(column.probe for column in found.shared)))
        return self.kind, tuple(parts), self._duplicates

    def abstract(self, n_rows: int | None = None) -> tuple[jax.ShapeDtypeStruct, ...]:
        """Return the shapes and dtypes of everything that a function may read, for tracing; nothing is converted.

        Args:
            n_rows: length of the row axis in the trace; None for each column's own.

        Returns:
            One struct per array, in the order that `view` expects.
        """
        structs: list[jax.ShapeDtypeStruct] = []
        for key in self._open:
            for column in self.contents(key).rows:
                kind, shape = column.probe
                lead = shape[:1] if n_rows is None else (n_rows,)
                structs.append(jax.ShapeDtypeStruct((*lead, *shape[1:]), NUMERIC[kind]))
            shared = [column.probe for column in self.contents(key).shared]
            structs += [jax.ShapeDtypeStruct(shape, NUMERIC[kind]) for kind, shape in shared]
        return tuple(structs)

    def view(self, arrays: Iterable[Any], reads: MutableSet[Any], extra: Mapping[Any, Any] | None = None) -> Data:
        """Return what the user's function gets while it is traced: arrays (tracers) in place of the data.

        Args:
            arrays: one array for each struct of `abstract`, in that order.
            reads: a set to which the names of the columns read are added (for a tree: the key None, at once).
            extra: further entries that are not columns, such as ``{"mask": ...}`` for models of units; reading them is not
                recorded. Only for data of kind "mapping".

        Returns:
            A read-only mapping for data of kind "mapping"; otherwise the user's structure.

        Raises:
            DataError: ``extra`` is given for a tree, or a column has the name of one of its entries.
            DataError, DataTypeError: an array of a tree is not numeric.
        """
        iterator = iter(arrays)
        values: dict[Hashable, Any] = {}
        for key in self._open:
            found = self.contents(key)
            rows = [next(iterator) for _ in found.rows]
            value = build(found.entry, rows, [next(iterator) for _ in found.shared])
            named = self.kind == "mapping" and type(value) is dict
            values[key] = Part(value, f"data[{key!r}]") if named else value
        if self.kind == "mapping":
            if extra and not self._key_set.isdisjoint(extra):
                raise DataError(MASK_TAKEN)
            return View(values, self.keys, self._refusal_of, reads, extra)
        if extra:
            raise DataError(UNIT_NEEDS_NAMES)
        if ROOT not in values:
            raise self._refusal_of(ROOT)
        reads.add(ROOT)
        return values[ROOT]

    def read(
        self,
        names: Iterable[Hashable] | None = None,
        others: Iterable[Hashable] = (),
        beside: Iterable[tuple[str, Any]] = (),
    ) -> tuple[Rows, list[Gap]]:
        """Return the columns in use, converted to float64, int64 or bool, and their missing and infinite entries.

        Args:
            names: names of the columns, as recorded by `view`, in any order; None for all. A tree is always read whole.
            others: further columns in use (in formulas, groups, weights), of any type; they are not converted, but their
                lengths, row labels and missing entries are checked.
            beside: (name, values) of arrays that are not columns of the table (such as weights), treated like ``others``.

        Returns:
            The columns, in which NaN and infinities remain, and the missing and infinite entries of each column.

        Raises:
            MissingColumnError: a column does not exist.
            DataTypeError: a column of ``names`` is not numeric, or its values do not fit into 64 bits.
            DataError: columns differ in length or in their row labels, a name occurs twice, there are no rows or no row-wise
                column, or an array in `Shared` has missing values.

        >>> rows, gaps = ingest({"x": [1.0, float("nan")]}).read(["x"])
        >>> rows.leaves[0], gaps[0].rows
        (array([ 1., nan]), array([False,  True]))
        """
        wanted = self._key_set if names is None or self.kind == "tree" else frozenset(names)
        others = list(others)
        if isinstance(self.raw, Frame):
            self.raw.load([*wanted, *others])
        entries: list[Entry] = []
        rows: list[Column] = []
        shared: list[Column] = []
        for key in wanted - self._key_set:
            raise missing_column(key, self.keys)
        for key in (k for k in self.keys if k in wanted):
            wrong = self.refusal(key)
            if wrong is not None:
                raise wrong
            found = self.contents(key)
            entries.append(found.entry_from(len(rows), len(shared)))
            rows += found.rows
            shared += found.shared
        rest = [column for key in others if key not in wanted for column in self.contents(key).rows]
        rest += [Column(values, name) for name, values in beside]
        return read_columns(Layout.of(self.kind, tuple(entries)), rows, shared, rest)

    def convert(
        self,
        names: Iterable[Hashable] | None = None,
        missing: str = "raise",
        others: Iterable[Hashable] = (),
        beside: Iterable[tuple[str, Any]] = (),
        advice: str = DROP,
    ) -> Rows:
        """Return the columns in use as `read` does, but all values finite.

        Args:
            names: names of the columns; None for all.
            others, beside: names of further columns, and (name, values) of arrays, that are in use: their lengths, row labels and
                missing entries are checked, but they are not returned.
            missing: "raise": raise DataError for missing values; "drop": leave out the rows with one in any column in use, and
                count them.
            advice: the end of the error message: how rows with missing values can be left out.

        Raises:
            DataError: infinite values; missing values under "raise"; no row is left under "drop"; another ``missing``.
            MissingColumnError, DataError, DataTypeError: as in `read`.

        >>> ingest({"x": [1, 2], "name": ["a", "b"]}).convert(["x"]).leaves
        (array([1, 2]),)
        """
        check_missing(missing)
        others = list(others)
        rows, gaps = self.read(names, others, beside)
        refuse_gaps(rows, [gap for gap in gaps if missing == "raise" or gap.infinite], advice, others)
        return without_gaps(rows, gaps)

    def take(self, rows: np.ndarray | slice) -> Any:
        """Return the rows at these positions (m,) or in a slice: of a DataFrame a DataFrame, of any other table a dict, of a
        tree a tree; `Shared` and `Static` stay as they are.
        """
        if hasattr(self.raw, "iloc"):
            return self.raw.iloc[rows]
        return map_columns(lambda c: c.iloc[rows] if hasattr(c, "iloc") else np.asarray(c)[rows], self.raw)

    def column(self, key: Hashable) -> Any:
        """Return what is under a name: one row-wise column as `Column.raw`, anything else as passed; errors as in `contents`."""
        found = self.contents(key)
        return found.rows[0].raw if found.entry.treedef is None and len(found.rows) == 1 else self.raw[key]


def check_missing(missing: str) -> None:
    """Raise DataError unless ``missing`` is "raise" or "drop"."""
    if not isinstance(missing, str) or missing not in ("raise", "drop"):
        raise DataError(f"missing={missing!r}: expected 'raise' or 'drop'")


def ingest(data: Data) -> Table:
    """Return the user's data as a `Table`, ready to be read by a traced function. Nothing is converted or checked yet.

    Args:
        data: a dict (or other Mapping) of columns; a table of pandas, polars (lazy ones too), pyarrow (Datasets too), DuckDB,
            or any other that narwhals or the Arrow C stream read; an xarray Dataset, a structured array, a list of
            records (dicts); or any pytree (tuple, named tuple, one array) of arrays with a leading row axis. A column is a
            NumPy or JAX array, a list, a Series of pandas or polars, an Arrow array, or a pandas DataFrame (a matrix with
            labels), or a dict or tuple of these. `Shared` and `Static` mark values that do not vary by row.

    Raises:
        DataTypeError: ``data`` is a string, a number, None, a tracer, `Shared` or `Static` alone, a table of an unknown kind, or
            one that is read by a package that is not installed.
        DataError: an xarray Dataset has no variables, or these differ in their first dimension.

    >>> table = ingest({"height": [1.0, 2.0], "k": Static(3)})
    >>> table.kind, table.keys, table.n_rows
    ('mapping', ('height', 'k'), 2)
    """
    if isinstance(data, Table):
        return data
    if is_pandas(data, "DataFrame"):
        return Table("mapping", data, tuple(data.columns.unique()))
    columns = columns_of(data)
    if columns is None and isinstance(data, Mapping):
        columns = data
    if columns is not None:
        return Table("mapping", columns, tuple(columns))
    refuse_foreign(data)
    return Table("tree", data, (ROOT,))


def column_labels(table: Table, names: Any) -> tuple[tuple[str, ...] | None, int]:
    """Return the labels and the length k of a parameter vector with one entry for each of some columns of the data.

    Args:
        table: the data.
        names: the name of a matrix (n, k) in the data, or a list or tuple of names of single columns.

    Returns:
        The labels (those of a DataFrame, or the names listed; None for a matrix without labels) and k.

    Raises:
        MissingColumnError: a column does not exist.
        DataError: ``names`` is empty, names one column that is not a matrix, or a list in which a column is not single; or the
            data have no column names.
        DataTypeError: a column is not numeric.

    >>> column_labels(ingest({"X": np.zeros((5, 2)), "a": [1.0] * 5}), "X")
    (None, 2)
    >>> column_labels(ingest({"a": [1.0], "b": [2.0]}), ["a", "b"])
    (('a', 'b'), 2)
    """
    if isinstance(names, list) or (isinstance(names, tuple) and names not in table):
        if not names:
            raise DataError("columns=[]: expected at least one name")
        for name in names:
            column = _single_column(table, name)
            if len(column.probe.shape) != 1:
                raise DataError(
                    f"columns={listing(names)}: expected single columns, but {column.where} has shape "
                    f"{column.probe.shape}; write columns={name!r} for a matrix"
                )
        return tuple(str(name) for name in names), len(names)
    column = _single_column(table, names)
    if len(column.probe.shape) != 2:
        hint = f"; write columns=[{names!r}] for one column" if len(column.probe.shape) == 1 else ""
        raise DataError(f"columns={names!r}: expected a matrix of shape (n, k), got shape {column.probe.shape}{hint}")
    labels = tuple(str(c) for c in column.raw.columns) if is_pandas(column.raw, "DataFrame") else None
    return labels, column.probe.shape[1]


def _single_column(table: Table, name: Hashable) -> Column:
    if table.kind != "mapping":
        raise DataError(
            f"columns={name!r} needs data with column names (a dict or a DataFrame), got a {type_name(table.raw)}"
        )
    wrong = table.refusal(name)
    if wrong is not None:
        raise wrong
    found = table.contents(name)
    columns = found.rows or found.shared
    if found.entry.treedef is not None or len(columns) != 1:
        value = table.raw[name]
        if isinstance(value, Static):
            raise DataError(f"columns={name!r}: expected an array, got a Static; name columns of numbers")
        raise DataError(
            f"columns={name!r}: expected an array, got a {type_name(value)}; make its arrays columns of the data, and list their "
            "names"
        )
    return columns[0]
