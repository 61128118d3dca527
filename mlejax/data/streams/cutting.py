"""Division of a partition into chunks of `Prepared` of one shape, with checksums of their values.

Columns stay in memory in their decoded dtype (such as float32); one chunk at a time is converted to float64 in a buffer that
stays in the cache and is overwritten by the next chunk.  Units are padded instead (:mod:`mlejax.data.streams.unit_chunks`).
"""

from __future__ import annotations

import threading
from collections.abc import Hashable, Iterator, Mapping, Sequence
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
from mlejax.data.streams.checksums import Seen, place_of, sums_of_column
from mlejax.data.streams.level_codes import LevelCodes
from mlejax.data.streams.sorted_rows import Groups
from mlejax.data.streams.sources import Partition
from mlejax.data.streams.unit_chunks import CutChunk, InUnits, Shape, unit_chunks
from mlejax.data.weights import check_weights, weight_column, weight_values, wrong_weights
from mlejax.execution import aligned
from mlejax.shapes import Float, Host, Int

FILTER = "exclude these rows when the data are read, by filters= of mle.Parquet or in the query"
_FORMULAS = threading.Lock()  # Python 3.11 may parse wrongly what two threads parse at once


@dataclass(frozen=True, eq=False)
class Cut:
    """How partitions are divided into chunks; it can be pickled.

    Attributes:
        keys: the columns, one array each, in the order of the layout.
        dtypes: dtypes of the columns in a chunk.
        trailing: for each column, the shape of one row.
        shared, layout: arrays that do not vary by row, and how they and the columns make up the data of the user's function.
        weights: name of the column of weights, or "".
        weight_kind: kind of the weights.
        scale: number by which the weights are divided.
        designs: designs of the parameters with a formula, or None.
        columns: names of all columns in use, including those of formulas and weights.
        size: number of rows (or units) of a chunk.
        block: number of rows (or units) of a block.
        units: how rows become units; None for models of rows.
        levels: codes of the levels of effects, which the column of effects contains in place of the effects; or None.
        left_out: name of a partition -> numbers of its rows that are left out, besides those of levels without a code.
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
    units: InUnits | None = None
    levels: LevelCodes | None = None
    left_out: Mapping[str, Int[Host, " m"]] = field(default_factory=dict)
    _random: Float[Host, " size"] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_random", 1.0 + np.random.default_rng(20).random(self.size))

    @property
    def mode(self) -> str:
        """What a term of the log-likelihood belongs to: "rows" or "units"."""
        return "rows" if self.units is None else "units"

    def table(self, partition: Partition) -> Table | None:
        """Read a partition and return its columns as a table, or None if it has no rows. Errors begin with its name; they are
        those of its ``read``, and MissingColumnError becomes a DataError.
        """
        with naming(partition.name):
            table = ingest(partition.read(self.columns))
            if not has_rows(table, self.columns):
                return None
            return table if self.levels is None else self.levels.beside(table)

    def arrays(self, table: Table, name: str) -> tuple[list[np.ndarray], np.ndarray | None]:
        """Return the columns of a partition (``keys``), in their dtype in memory, with designs evaluated as in the first rows,
        and the weights as given (None without), 0 for rows that are left out. Missing and infinite values raise an error only if
        there are designs.

        Args:
            table: the partition, from `table`.
            name: its name, with which errors begin.

        Raises:
            DataError, DataTypeError: a column does not exist, is not numeric, or has another length; or as in
                `with_designs_again`.
        """
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
            return found, weights if self.position is None else self._without_left_out(found[self.position], weights, name)

    def _without_left_out(self, codes: Float[Host, " n"], weights: np.ndarray | None, name: str) -> np.ndarray | None:
        """Return ``weights`` (None stands for ones) with 0 for the rows that are left out: those with a negative code, and those
        in ``left_out`` of the partition ``name``; ``weights`` itself if there are no such rows.
        """
        gone = codes < 0
        gone[self.left_out.get(name, np.zeros(0, np.int64))] = True
        return np.where(gone, 0.0, 1.0 if weights is None else weights) if gone.any() else weights

    @property
    def position(self) -> int | None:
        """The position of the column of level codes among ``keys``, or None without effects."""
        return None if self.levels is None else self.keys.index(self.levels.key)

    def _raw(self, table: Table, key: Hashable) -> np.ndarray:
        """Return a numeric column in its own dtype, or, if it is masked or no NumPy array, in the dtype that `Table.convert`
        gives; errors as in `arrays`.
        """
        wrong = table.refusal(key)
        if wrong is not None:
            raise wrong
        found = table.contents(key).rows[0]
        raw = found.array if found.array is not None else found.raw
        if isinstance(raw, np.ndarray) and not isinstance(raw, np.ma.MaskedArray) and raw.dtype != object:
            return raw
        return np.asarray(table.convert([key])[key])

    def groups(
        self, table: Table, name: str, arrays: Sequence[np.ndarray], weights: np.ndarray | None, check: bool
    ) -> Groups | None:
        """Return the units of the rows of a partition, called ``name``; None for models of rows.

        ``arrays``, ``weights``: its columns and weights, by row; ``check``: if True, DataError if a column, the weights or the
        times are not as they must be within units.  Other errors as in `InUnits.groups`; all begin with the name.
        """
        if self.units is None:
            return None
        with naming(name):
            return self.units.groups(table, arrays, weights, check)

    def chunks(
        self, arrays: Sequence[np.ndarray], weights: np.ndarray | None, whole: bool, groups: Groups | None = None
    ) -> Iterator[CutChunk]:
        """Yield chunks of ``size`` rows (or units) in the order of the rows; those without a row of positive weight are left
        out. Padding and rows of weight 0 repeat a row of positive weight. A chunk of rows is valid until the next but one is
        requested (two buffers are reused).

        Args:
            arrays, weights: as `arrays` returns them.
            whole: if True (the first pass), the summaries have sums and sums of squares.
            groups: the units, as `groups` returns them.
        """
        n = len(arrays[0])
        if self.units is not None and groups is not None:
            shape = Shape(self.dtypes, self.shared, self.layout, self.scale, self.size, self.block)
            yield from unit_chunks(shape, self.units.length, arrays, weights, groups, whole)
            return
        sets = [_Buffers.of(self) for _ in range(2)]
        for i, at in enumerate(range(0, n, self.size)):
            m = min(self.size, n - at)
            buffers = sets[i % 2]
            full = buffers.weights
            full[:m] = 1.0 if weights is None else weights[at : at + m] / self.scale
            full[m:] = 0.0
            used = full[:m] > 0.0 if weights is not None else None
            donor = 0 if used is None else int(np.argmax(used))
            for buffer, array in zip(buffers.rows, arrays, strict=True):
                buffer[:m] = array[at : at + m]
                buffer[m:] = buffer[donor]
                if used is not None and not used.all():
                    buffer[:m][~used] = buffer[donor]
            if used is None or used.any():
                n_rows = np.asarray(m, np.int64)
                chunk = Prepared(tuple(buffers.rows), self.shared, full, n_rows, self.layout, "rows", self.block)
                yield CutChunk(chunk, self._summary(buffers, m, i, whole), slice(at, at + m), None)

    def _summary(self, buffers: _Buffers, m: int, number: int, whole: bool) -> Seen:
        """Return the summary of the first m rows of the chunk with this number in its partition; ``size`` and ``moments`` are 0
        unless ``whole``.
        """
        random = self._random[:m]
        k = len(buffers.rows) + 1
        checksum, size, moments = np.zeros(k), np.zeros(k), np.zeros((k, 2))
        # no BLAS: its threads would wait for each other in the threads of the passes
        plain = buffers.plain[:, :m]
        checksum[buffers.places] = np.einsum("ki,i->k", plain, random)
        if whole:
            with np.errstate(over="ignore", invalid="ignore"):
                moments[buffers.places] = np.stack([plain.sum(1), np.einsum("ki,ki->k", plain, plain)], 1)
                size[buffers.places] = 4.0 * np.sqrt(m * moments[buffers.places, 1])
        for j in buffers.others:
            checksum[j], size[j], moments[j] = sums_of_column(buffers.rows[j][:m], random, whole)
        return Seen(m, place_of(number) * checksum, size, moments)

    def refuse(self, table: Table, name: str) -> None:
        """Raise DataError if a partition, called ``name``, has missing or infinite values or weights that cannot be used; the
        message says in which column and rows.
        """
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


class _Buffers(NamedTuple):
    """Arrays for the columns of a chunk and its weights, which are overwritten by later chunks.

    Attributes:
        plain: float64 columns of one number per row, and the weights last (k, size).
        places: for each row of ``plain``, the position of the column; that of the weights is the number of columns.
        rows: all columns; those of ``plain`` are views of it.
        others: positions of the columns that are not in ``plain``.
    """

    plain: Float[Host, "k size"]
    places: list[int]
    rows: list[np.ndarray]
    others: list[int]

    @property
    def weights(self) -> Float[Host, " size"]:
        return self.plain[-1]

    @staticmethod
    def of(cut: Cut) -> _Buffers:
        columns = list(enumerate(zip(cut.trailing, cut.dtypes, strict=True)))
        places = [j for j, (shape, dtype) in columns if shape == () and dtype == np.float64]
        plain = aligned((len(places) + 1, cut.size), np.float64)
        views = dict(zip(places, plain, strict=False))
        rows = [views[j] if j in views else aligned((cut.size, *shape), dtype) for j, (shape, dtype) in columns]
        others = [j for j, _ in columns if j not in views]
        return _Buffers(plain, [*places, len(columns)], rows, others)


def has_rows(table: Table, columns: Sequence[str]) -> bool:
    """True if any of these columns of a partition has at least one row; MissingColumnError if one does not exist."""
    return any(c.probe.shape and c.probe.shape[0] for name in columns for c in table.contents(name).rows)


class naming:
    """Context manager: DataError and DataTypeError raised inside begin with the name of the partition; a KeyError, such as
    MissingColumnError, becomes a DataError.
    """

    def __init__(self, partition: str) -> None:
        self.partition = partition

    def __enter__(self) -> None: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        if isinstance(error, (DataError, DataTypeError, KeyError)) and not str(error).startswith(self.partition):
            said = error.args[0] if error.args else error
            raise (DataTypeError if isinstance(error, DataTypeError) else DataError)(f"{self.partition}: {said}") from error
