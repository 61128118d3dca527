"""Sources of tables that are larger than memory: Parquet files, or a function that opens a reader.

A source is a sequence of partitions (row groups of files, batches of a reader), in an order that is the same in every pass
over the data.  Only the columns in use are read; pyarrow applies filters, which skips files and row groups by their
statistics.
"""

from __future__ import annotations

import glob
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import numpy as np

from mlejax.data.errors import DataError, DataTypeError, listing, missing_column, type_name
from mlejax.data.read import ingest
from mlejax.misuse import constructor
from mlejax.shapes import Data, Reduced

if TYPE_CHECKING:
    import pyarrow as pa

PEEKED = 256  # rows that are read to learn the types of the columns
_WAYS_OUT = "Write the file again, leave it out of path=, or correct filters= whose values do not suit their column"


@runtime_checkable
class Partition(Protocol):
    """Some consecutive rows of a source.

    Attributes:
        name: its name in messages, such as "trips/a.parquet, row group 3".
    """

    @property
    def name(self) -> str: ...

    def read(self, columns: Sequence[str] | None = None) -> Data:
        """Return a table of these columns (None: all), of any kind that a fit takes; it may have further columns. For a column
        that does not exist, raise DataError or return a table without it.
        """
        ...


@dataclass(frozen=True)
class RowGroup:
    """A row group of a Parquet file; it can be pickled.

    Attributes:
        name: name of the file and number of the row group.
        n_rows: number of rows that pass the filter.
        fragment: pyarrow's fragment, of this row group only.
        schema: the schema of all files.
        filter: the rows that are read, or None for all.
    """

    name: str
    n_rows: int
    fragment: pa.dataset.Fragment = field(repr=False)
    schema: pa.Schema = field(repr=False)
    filter: pa.compute.Expression | None = field(default=None, repr=False)

    def read(self, columns: Sequence[str] | None = None) -> Data:
        """Return these columns (None: all) of the rows that pass the filter as a pyarrow Table, decoded in this thread.

        Raises:
            DataError: the file lacks a column that other files have, or cannot be read.
        """
        wanted = None if columns is None else list(columns)
        self._refuse_absent(wanted or ())
        try:
            # in one batch, so that a column is one piece of memory, which NumPy views without a copy
            size = max(1, sum(group.num_rows for group in self.fragment.row_groups))
            options: dict[str, Any] = {"batch_size": size, "use_threads": False, **_scanning(self.fragment)}
            return self.fragment.to_table(self.schema, columns=wanted, filter=self.filter, **options)
        except (OSError, ValueError, TypeError) as error:  # what pyarrow's errors derive from
            raise DataError(f"{self.name}: the file cannot be read: {error}. {_WAYS_OUT}") from error

    def _refuse_absent(self, columns: Sequence[str]) -> None:
        import pyarrow.dataset

        known = {
            *self.fragment.physical_schema.names,
            *pyarrow.dataset.get_partition_keys(self.fragment.partition_expression),
        }
        absent = [name for name in columns if name in self.schema.names and name not in known]
        if absent:
            raise DataError(
                f"{self.name}: the file has no column {listing(absent)}, which the first file has; expected the same columns in "
                "every file: write it again, or leave it out of path="
            )


def _scanning(fragment: pa.dataset.Fragment) -> dict[str, Any]:
    """Return pyarrow's options for a fragment of a local file: read column by column, without the bytes of the whole row group in
    memory; no options for other file systems.
    """
    import pyarrow.dataset
    import pyarrow.fs

    if not isinstance(fragment.filesystem, pyarrow.fs.LocalFileSystem):
        return {}
    options = pyarrow.dataset.ParquetFragmentScanOptions(pre_buffer=False, use_buffered_stream=True)
    return {"fragment_scan_options": options}


@dataclass(frozen=True)
class StreamBatch:
    """One batch that a reader returned.

    Attributes:
        name: its name in messages, such as "batch 3".
        table: a table of any kind that a fit takes.
    """

    name: str
    table: pa.Table = field(repr=False)

    def read(self, columns: Sequence[str] | None = None) -> Data:
        """Return the whole table of the batch; ``columns`` are ignored."""
        return self.table


@constructor
@dataclass(frozen=True)
class Parquet:
    """Parquet files that are read one row group at a time, in every pass over the data.

    Only columns in use are decoded.  Files and row groups that the filters exclude by their statistics are not read, and
    without filters the number of rows comes from the footers.

    Args:
        path: a file, a folder (``year=2025/`` in it is a column ``year``), a pattern such as ``"trips/*.parquet"``, or a
            list of files.  Files of a list are read in its order, others in the order of their names.
        filters: conditions ``(column, operator, value)`` that all hold, or lists of conditions, of which one list holds, as in
            ``pyarrow.parquet.read_table``; None for all rows.

    Raises:
        DataError: in the fit: no such file exists, one is not a Parquet file or lacks a column that the first has, filters
            cannot be parsed, or no row passes them.
        MissingColumnError: in the fit: a filter names a column that does not exist.
        DataTypeError: in the fit: pyarrow is not installed.

    Example:
        >>> import os, tempfile
        >>> import numpy as np, pyarrow as pa, pyarrow.parquet
        >>> import mlejax as mle
        >>> from jax.scipy.stats import norm
        >>> folder = tempfile.mkdtemp()
        >>> for i in range(3):
        ...     rows = pa.table({"y": np.arange(100.0) + i})
        ...     pa.parquet.write_table(rows, os.path.join(folder, f"{i}.parquet"), row_group_size=40)
        >>> @mle.model(mu=mle.Real(), sigma=mle.Positive())
        ... def gaussian(params, data):
        ...     return norm.logpdf(data["y"], params["mu"], params["sigma"])
        >>> res = gaussian.fit(mle.Parquet(folder + "/*.parquet"))
        >>> int(res.nobs), round(float(res.params["mu"]), 6)
        (300, 50.5)
    """

    path: str | os.PathLike[str] | Sequence[str]
    filters: Any = None

    @cached_property
    def _dataset(self) -> Any:
        try:
            import pyarrow.dataset
        except ImportError as error:
            raise DataTypeError(
                "mle.Parquet needs pyarrow, which is not installed: pip install 'mlejax[arrow]'"
            ) from error
        where: Any = [os.fspath(p) for p in self.path] if isinstance(self.path, (list, tuple)) else os.fspath(self.path)  # type: ignore[arg-type]
        if isinstance(where, str) and glob.has_magic(where):
            found = sorted(glob.glob(where, recursive=True))
            if not found:
                raise DataError(f"mle.Parquet: no file matches {where!r} (looked from {os.getcwd()}); correct path=")
            where = found
        try:
            return pyarrow.dataset.dataset(where, format="parquet", partitioning="hive")
        except (OSError, ValueError, TypeError) as error:
            raise DataError(
                f"mle.Parquet: {self.path!r} cannot be read as Parquet: {error}. Expected a file, a folder, a pattern or a list "
                "of Parquet files"
            ) from error

    @cached_property
    def _filter(self) -> Any:
        if self.filters is None:
            return None
        import pyarrow.parquet

        flat = [c for part in self.filters for c in (part if isinstance(part, list) else [part])]
        known = self._dataset.schema.names
        for condition in flat:
            if isinstance(condition, tuple) and condition and condition[0] not in known:
                raise missing_column(condition[0], known)
        try:
            return pyarrow.parquet.filters_to_expression(list(self.filters))
        except (ValueError, TypeError) as error:
            raise DataError(
                f"mle.Parquet: filters= expected conditions such as [('year', '==', 2025)], got {self.filters!r} ({error})"
            ) from error

    @cached_property
    def _groups(self) -> list[RowGroup]:
        dataset, found = self._dataset, []
        files = list(dataset.files)
        root = os.path.commonpath([os.path.dirname(file) for file in files]) if files else ""
        for fragment in dataset.get_fragments(filter=self._filter):
            name = os.path.relpath(fragment.path, root)
            try:
                for group in fragment.split_by_row_group(self._filter, dataset.schema):
                    footer = group.row_groups[0]
                    number, n = footer.id, int(footer.num_rows)
                    if self._filter is not None:
                        n = int(group.scanner(dataset.schema, columns=[], filter=self._filter).count_rows())
                    found.append(RowGroup(f"{name}, row group {number}", n, group, dataset.schema, self._filter))
            except (OSError, ValueError, TypeError) as error:
                raise DataError(f"{name}: the file cannot be read as Parquet: {error}. {_WAYS_OUT}") from error
        return found

    def peek(self) -> Data:
        """Return the first rows, at most 256 of one row group, that pass the filters, with all columns, as a pyarrow Table;
        errors as in the class.
        """
        dataset = self._dataset
        for fragment in dataset.get_fragments(
            filter=self._filter
        ):  # one file after the other, so that a bad one is named
            try:
                for group in fragment.split_by_row_group(self._filter, dataset.schema):  # a scan of the file reads ahead
                    options = _scanning(fragment)
                    found = group.scanner(dataset.schema, filter=self._filter, **options).head(PEEKED)
                    if found.num_rows:
                        return found
            except (OSError, ValueError, TypeError) as error:
                raise DataError(f"{fragment.path}: the first rows cannot be read: {error}. {_WAYS_OUT}") from error
        why = "the files have no rows" if self.filters is None else f"no row passes filters={self.filters!r}"
        raise DataError(f"mle.Parquet: {why}; expected at least one: correct path= or filters=")

    def partitions(self) -> list[RowGroup]:
        """Return the row groups, in order, without those that the filters exclude by their statistics; found at the first call.
        """
        return self._groups

    def __reduce__(self) -> Reduced:
        return Parquet, (self.path, self.filters)


@constructor
@dataclass(frozen=True)
class Stream:
    """Rows that a function of the user reads, batch by batch, each time that it is called.

    A fit reads the data four to eight times, and calls the function once for each pass.  Every pass has to give the same
    batches: their numbers of rows and checksums are compared, and the fit raises an error if a batch changed.

    Args:
        factory: a function without arguments that opens the data and returns batches one after the other: a reader, a
            generator, a list.  A batch is a table of any kind that ``fit`` takes, best of 10,000 rows and more.

    Raises:
        DataTypeError: ``factory`` is not a function; in the fit: it returns something that is not a sequence of batches, or
            the same reader twice.
        DataError: in the fit: no batch has rows, or batches differ from those of the first pass.

    Example:
        >>> import numpy as np
        >>> import mlejax as mle
        >>> from jax.scipy.stats import norm
        >>> @mle.model(mu=mle.Real(), sigma=mle.Positive())
        ... def gaussian(params, data):
        ...     return norm.logpdf(data["y"], params["mu"], params["sigma"])
        >>> def batches():
        ...     for i in range(5):
        ...         yield {"y": np.arange(100.0) + i}
        >>> res = gaussian.fit(mle.Stream(batches))
        >>> int(res.nobs), round(float(res.params["mu"]), 6)
        (500, 51.5)
    """

    factory: Callable[[], Iterable[Any]]

    def __post_init__(self) -> None:
        if not callable(self.factory):
            raise DataTypeError(
                f"mle.Stream expected a function that opens the data, got a {type_name(self.factory)}. A reader can be read only "
                "once, and a fit reads the data several times: write mle.Stream(lambda: open_the_reader())"
            )

    def _open(self) -> Iterator[Any]:
        reader = self.factory()
        try:
            return iter(reader)
        except TypeError:
            raise DataTypeError(
                "mle.Stream: expected that the function returns batches one after the other (a list, a generator, a reader), got "
                f"a {type_name(reader)}; for a single table write mle.Stream(lambda: [table])"
            ) from None

    def peek(self) -> Data:
        """Return the first batch that has rows; errors as in the class."""
        first, second = self._open(), self._open()
        if first is second:
            raise DataTypeError(
                "mle.Stream: the function returned the same reader twice. A reader can be read only once, and a fit reads the "
                "data several times: open the data inside the function, mle.Stream(lambda: open_the_reader())"
            )
        for table in first:
            if any(len(column) for column in _lengths(table)):
                return table
        raise DataError("mle.Stream: the function gave no rows; expected at least one: check the query or the path inside it")

    def partitions(self) -> Iterator[StreamBatch]:
        """Yield the batches, read one after the other by a new call of the function, as partitions "batch 0", "batch 1", ..."""
        for i, table in enumerate(self._open()):
            yield StreamBatch(f"batch {i}", table)


Source = Parquet | Stream


def _lengths(table: pa.Table) -> Iterator[Any]:
    """Return one empty array of shape (n_rows,) for each row-wise column of a batch that is not a scalar; only their
    lengths are used.
    """
    found = ingest(table)
    return (np.empty(c.probe.shape[:1]) for key in found.keys for c in found.contents(key).rows if c.probe.shape)
