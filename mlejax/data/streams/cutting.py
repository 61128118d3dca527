"""Division of a partition into chunks of `Prepared` of one shape, and checksums of their values.

Columns stay in memory in their decoded dtype (such as float32); one chunk at a time is converted to float64 in a buffer that
stays in the cache and is overwritten by the next chunk.  The checksum of a chunk is the sum of the products of its values with
fixed random numbers, so that a changed order of the rows is detected too.
"""

from __future__ import annotations

import threading
from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, NamedTuple

import numpy as np

from mlejax.data.errors import DataError, DataTypeError
from mlejax.data.formulas import Designs
from mlejax.data.formulas.designs import with_designs_again
from mlejax.data.packing.layout import Layout
from mlejax.data.packing.prepared import Prepared
from mlejax.data.read import Table, ingest, refuse_gaps
from mlejax.data.streams.sources import Partition
from mlejax.data.weights import check_weights, weight_column, weight_values, wrong_weights
from mlejax.execution import aligned
from mlejax.shapes import Float, Host

FILTER = "exclude these rows when the data are read, by filters= of mle.Parquet or in the query"
_FORMULAS = threading.Lock()  # Python 3.11 may parse wrongly what two threads parse at once
RTOL = 1e-9  # of checksums: other processors add in another order


class Seen(NamedTuple):
    """The summary of a partition that is kept from the first pass, to detect changes.

    Attributes:
        n: number of rows.
        checksum: one number for each column and the weights (k,).
        size: scale of rounding errors of the checksums (k,).
        moments: sum and sum of squares of every column (k, 2).
    """

    n: int
    checksum: Float[Host, " k"]
    size: Float[Host, " k"]
    moments: Float[Host, "k 2"]

    def same(self, other: Seen) -> bool:
        """True if the rows and their order are the same, by number of rows and checksums."""
        return self.n == other.n and bool((np.abs(self.checksum - other.checksum) <= RTOL * self.size).all())


@dataclass(frozen=True, eq=False)
class Cut:
    """How partitions are divided into chunks; it can be pickled.

    Attributes:
        keys: the columns, one array each, in the order of the layout.
        dtypes: dtypes of the columns in a chunk.
        trailing: for each column, the shape of one row.
        shared, layout: as in `Prepared`.
        weights: name of the column of weights, or "".
        weight_kind: kind of the weights.
        scale: number by which the weights are divided.
        designs: designs of the parameters with a formula, or None.
        columns: names of all columns in use, including those of formulas and weights.
        size: number of rows of a chunk.
        block: number of rows of a block.
    """

    keys: tuple[Any, ...]
    dtypes: tuple[np.dtype[Any], ...]
    trailing: tuple[tuple[int, ...], ...]
    shared: tuple[np.ndarray, ...]
    layout: Layout
    weights: str
    weight_kind: str
    scale: float
    designs: Designs | None
    columns: tuple[str, ...]
    size: int
    block: int
    _random: Float[Host, " size"] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_random", 1.0 + np.random.default_rng(20).random(self.size))

    def table(self, partition: Partition) -> Table | None:
        """Read a partition and return its columns as a table, or None if it has no rows."""
        with naming(partition.name):
            table = ingest(partition.read(self.columns))
            return table if has_rows(table, self.columns) else None

    def arrays(self, table: Table, name: str) -> tuple[list[np.ndarray], np.ndarray | None]:
        """Return the columns in their dtype in memory, and the weights (None without)."""
        with naming(name):
            if self.designs is not None:
                others = [self.weights] if self.weights else []
                with _FORMULAS:
                    rows = with_designs_again(self.designs, table, "raise", others).convert(self.keys)
                found = [np.asarray(rows[key]) for key in self.keys]
            else:
                found = [self._raw(table, key) for key in self.keys]
            weights = None
            if self.weights:
                weights = weight_values(weight_column(table.column(self.weights), self.weights), len(found[0]))
            lengths = {len(a) for a in found}
            if len(lengths) > 1:
                table.convert(self.keys)  # says which
            return found, weights

    def _raw(self, table: Table, key: Hashable) -> np.ndarray:
        wrong = table.refusal(key)
        if wrong is not None:
            raise wrong
        found = table.contents(key).rows[0]
        raw = found.array if found.array is not None else found.raw
        if isinstance(raw, np.ndarray) and not isinstance(raw, np.ma.MaskedArray) and raw.dtype != object:
            return raw
        return np.asarray(table.convert([key])[key])

    def chunks(self, arrays: Sequence[np.ndarray], weights: np.ndarray | None) -> Iterator[Prepared]:
        """Yield chunks in the order of the rows. A chunk is valid until the next but one is requested (two buffers are
        reused).
        """
        n = len(arrays[0])
        sets = [self._buffers() for _ in range(2)]
        for i, at in enumerate(range(0, n, self.size)):
            m = min(self.size, n - at)
            buffers, full = sets[i % 2]
            full[:m] = 1.0 if weights is None else weights[at : at + m] / self.scale
            full[m:] = 0.0
            used = full[:m] > 0.0
            donor = 0 if weights is None else int(np.argmax(used))
            for buffer, array in zip(buffers, arrays, strict=True):
                buffer[:m] = array[at : at + m]
                buffer[m:] = buffer[donor]
                if weights is not None and not used.all():
                    buffer[:m][~used] = buffer[donor]
            if weights is None or used.any():
                yield Prepared(
                    tuple(buffers), self.shared, full, np.asarray(m, np.int64), self.layout, "rows", self.block
                )

    def _buffers(self) -> tuple[list[np.ndarray], np.ndarray]:
        shapes = zip(self.trailing, self.dtypes, strict=True)
        return [aligned((self.size, *shape), dtype) for shape, dtype in shapes], aligned((self.size,), np.float64)

    def seen(self, chunk: Prepared, number: int, whole: bool) -> Seen:
        """Return the summary of the chunk with this number in a partition; sums and sums of squares only if ``whole`` (on
        the first pass).
        """
        m, weights = int(chunk.n), np.asarray(chunk.weights)
        columns = [*chunk.rows, weights]
        place = 1.0 + (number * 0.6180339887498949) % 1.0  # chunks in another order have another sum
        checksum, size, moments = np.zeros(len(columns)), np.zeros(len(columns)), np.zeros((len(columns), 2))
        for j, column in enumerate(columns):
            values = np.asarray(column[:m], np.float64).reshape(m, -1)
            # no BLAS: its threads would wait for each other in the threads of the passes
            if values.shape[1] == 1:
                total = np.einsum("i,i->", values[:, 0], self._random[:m])
            else:
                total = np.einsum("ij,i,j->", values, self._random[:m], 1.0 + np.arange(values.shape[1]))
            checksum[j] = place * total
            if whole:
                with np.errstate(over="ignore", invalid="ignore"):
                    flat = values.reshape(-1)
                    moments[j] = np.add.reduce(flat), np.einsum("i,i->", flat, flat)
                size[j] = 4.0 * np.sqrt(m * moments[j, 1] * values.shape[1]) * values.shape[1]
        return Seen(m, checksum, size, moments)

    def refuse(self, table: Table, name: str) -> None:
        """Raise DataError with the partition, the column and the rows if values are missing, infinite or wrong weights."""
        with naming(name):
            keys = self.keys if self.designs is None else self.designs.rows.layout.keys
            others = () if self.designs is None else self.designs.used
            rows, gaps = table.read(keys, others)
            refuse_gaps(rows, gaps, FILTER)
            if self.weights:
                column = table.column(self.weights)
                values = weight_values(weight_column(column, self.weights), rows.n)
                if any(True for _ in wrong_weights(values, self.weight_kind)):
                    check_weights(column, rows.n, self.weights, kind=self.weight_kind)


def has_rows(table: Table, columns: Sequence[str]) -> bool:
    """True if any column of a partition has at least one row."""
    return any(c.probe.shape and c.probe.shape[0] for name in columns for c in table.contents(name).rows)


class naming:
    """Context manager: errors about data raised inside begin with the name of the partition."""

    def __init__(self, name: str) -> None:
        self.name = name

    def __enter__(self) -> None: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        if isinstance(error, (DataError, DataTypeError, KeyError)) and not str(error).startswith(self.name):
            said = error.args[0] if error.args else error
            raise (DataTypeError if isinstance(error, DataTypeError) else DataError)(f"{self.name}: {said}") from error


def joined(a: Seen, b: Seen) -> Seen:
    """Return the summary of two chunks of a partition together."""
    return Seen(a.n + b.n, a.checksum + b.checksum, a.size + b.size, a.moments + b.moments)
