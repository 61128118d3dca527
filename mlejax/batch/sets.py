"""Many data sets in one table: a range of positions for each, from which chunks of data sets are copied."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import cached_property, lru_cache
from typing import Any

import jax
import numpy as np

from mlejax import data as data_room
from mlejax.data import Prepared, Weights
from mlejax.data.formulas import Designs
from mlejax.data.packing.layout import Layout
from mlejax.execution import aligned, limits, on_cpu
from mlejax.execution.chunking import can_be_viewed, view_chunk, viewable_run
from mlejax.parameters import Space
from mlejax.shapes import Bool, Data, Float, Host, Int, PyTree

WHOLE_BLOCK = 4096
SMALLEST = 8
BLOCKS = 16  # of rows, at most; fewer where they would hold less than 8 rows


@dataclass(frozen=True, eq=False)
class Runs:
    """The rows of L data sets in one table: each data set is a contiguous range in an ordering of the rows.

    Attributes:
        order: row numbers in the table, data set by data set, (n,); None if the table is in this order already.
        begins, lengths: first position of each data set in that order, and its number of rows, (L,).

    >>> runs = Runs.of(np.array([2, 0, 1]), np.array([1, 2]))
    >>> runs(1), runs.only(np.array([True, False, True])).lengths
    (array([0, 1]), array([1, 1]))
    """

    order: np.ndarray | None
    begins: np.ndarray
    lengths: np.ndarray

    @staticmethod
    def of(order: Int[Host, " n"] | None, lengths: Int[Host, " L"]) -> Runs:
        """Return the `Runs` of data sets with these numbers of rows that follow one another in ``order`` (None: in the table)."""
        begins = np.concatenate([[0], np.cumsum(lengths)[:-1]]).astype(np.int64)
        return Runs(order, begins, np.asarray(lengths, np.int64))

    def __len__(self) -> int:
        return len(self.lengths)

    def __call__(self, i: int) -> Int[Host, " n_i"]:
        """Return the row numbers, in the table, of data set i, (n_i,)."""
        run = slice(self.begins[i], self.begins[i] + self.lengths[i])
        return np.arange(run.start, run.stop) if self.order is None else self.order[run]

    @property
    def n(self) -> int:
        """Number of rows of all data sets together."""
        return int(self.lengths.sum())

    @cached_property
    def positions(self) -> Int[Host, " n"]:
        """Row numbers in the table, data set by data set, (n,)."""
        return np.arange(self.n) if self.order is None else self.order

    @cached_property
    def owner(self) -> Int[Host, " n"]:
        """For each of the `positions` the number of its data set, (n,)."""
        return np.repeat(np.arange(len(self)), self.lengths)

    def only(self, kept: Bool[Host, " rows"]) -> Runs:
        """Return the same data sets with only the rows where a mask over the table is True; some may have none left."""
        flags = kept[self.positions]
        return Runs.of(self.positions[flags], np.bincount(self.owner[flags], minlength=len(self)))

    def with_any(self, flags: Bool[Host, " rows"]) -> tuple[Int[Host, " m"], Int[Host, " m"]]:
        """Return the numbers of the data sets that have rows where a mask over the table is True, and how many each has, (m,)
        each.
        """
        return np.unique(self.owner[flags[self.positions]], return_counts=True)

    def sums(self, values: Float[Host, " rows"]) -> Float[Host, " L"]:
        """Return the sums over the rows of each data set, (L,), of ``values``, one for each row of the table."""
        return np.bincount(self.owner, values[self.positions], minlength=len(self))


@dataclass(frozen=True, eq=False)
class DataSets:
    """L data sets in one table; "terms" are rows, or units for models with ``unit=``.

    Attributes:
        leaves: columns over all terms: rows (R, ...), or padded units (R, length, ...) with their mask last.
        shared: arrays common to all data sets.
        layout: how these arrays make up the ``data`` argument of the user's function.
        mode: "rows", "units" or "whole".
        order: numbers of the terms in the order of the data sets, (R',); None if they are in it already.
        begins, lengths: first position of each data set in that order, and its number of terms (rows, for "whole"), (L,).
        sizes: padded number of terms, (L,); data sets of equal size share a program.
        n_out: for "whole", the number of values that the function returns, by number of rows; otherwise empty.
        weighing: weights of the rows, or None.
        weights: positive weights of the terms, (R,); None for ones.
        scale: divisor of the weights (the mean of sampling weights; else 1), (L,).
        n_rows, n_dropped: number of rows used (sum of frequency weights), and of rows left out as missing, (L,).
        ragged: True if the data sets may differ in length, so that they are summed in blocks of rows.
        most_rows: most rows of a block, or None for no limit.
        bad: for the data sets that cannot be used, the reason, by number of the data set.
        labels: labels of the data sets, (L,).
        label_names: names of the columns of labels.
        table_rows: rows of each data set in the whole table, before any was dropped.
        source: the whole table.
        reading: the same table with design matrices as further columns.
        space: the parameter space.
        designs: designs of the parameters that have formulas, or None.
        hyper, own_hyper: second argument of the penalty; True if its arrays have a leading axis L.
    """

    leaves: tuple[np.ndarray, ...]
    shared: tuple[np.ndarray, ...]
    layout: Layout
    mode: str
    order: np.ndarray | None
    begins: np.ndarray
    lengths: np.ndarray
    sizes: np.ndarray
    n_out: dict[int, int]
    weighing: Weights | None
    weights: np.ndarray | None
    scale: np.ndarray
    n_rows: np.ndarray
    n_dropped: np.ndarray
    ragged: bool
    most_rows: int | None
    bad: dict[int, str]
    labels: Any
    label_names: tuple[str, ...]
    table_rows: Runs = field(repr=False)
    source: data_room.Table = field(repr=False)
    reading: data_room.Table = field(repr=False)
    space: Space = field(repr=False)
    designs: Designs | None = field(default=None, repr=False)
    hyper: PyTree = field(default=None, repr=False)
    own_hyper: bool = False

    def __len__(self) -> int:
        return len(self.lengths)

    def one(self, i: int) -> Data:
        """Return the rows of data set i, without any left out, as a table that ``model.fit`` takes, with designs as columns."""
        return self.reading.take(self.table_rows(i))

    @property
    def own_rows(self) -> bool:
        """True, since every data set has its own rows; those of `Reweighted`, with the same interface, share them."""
        return True

    @property
    def unweighted(self) -> bool:
        """True if there are no weights and the mode is not "whole", so that weights sum to the number of terms."""
        return self.weights is None and self.mode != "whole"

    @cached_property
    def total_weights(self) -> np.ndarray:
        """The sum of the weights of each data set, divided by its ``scale``, (L,); without weights its number of terms, or, for
        "whole", of values that the function returns.
        """
        if self.mode == "whole":
            return np.array([self.n_out.get(int(n), n) for n in self.lengths], np.float64)
        if self.weights is None:
            return self.lengths.astype(np.float64)
        each = self.weights if self.order is None else self.weights[self.order]
        total = np.concatenate([[0.0], np.cumsum(each)])
        return (total[self.begins + self.lengths] - total[self.begins]) / self.scale

    @property
    def usable(self) -> np.ndarray:
        """The numbers of the data sets that can be used (are not in ``bad``), ascending."""
        return np.delete(np.arange(len(self)), list(self.bad))

    def rows_used(self, i: int) -> np.ndarray:
        """Return the row numbers, in the whole table, of the rows of data set i that are used; not for models with ``unit=``,
        whose terms are units.
        """
        return Runs(self.order, self.begins, self.lengths)(i)

    def data_set_bytes(self, size: int) -> int:
        """Return the number of bytes of the arrays of one data set of this padded size: 8 a number, its weights included."""
        per = sum(8 * int(np.prod(leaf.shape[1:], dtype=np.int64)) for leaf in self.leaves)
        return int(size) * (per + 8)

    @cached_property
    def in_place(self) -> bool:
        """True if the data sets can be read without a copy: they have one size, no weights and no padding, and follow one another
        in arrays that JAX on the CPU can view.
        """
        size = int(self.sizes[0])
        return (
            on_cpu()
            and self.order is None
            and self.weights is None
            and bool((self.sizes == size).all() and (self.lengths == size).all())
            and bool((self.begins == np.arange(len(self)) * size).all())
            and all(can_be_viewed(leaf) for leaf in self.leaves)
        )

    def viewable_run(self, capacity: int) -> tuple[int, int]:
        """Return the range (first, stop) of the data sets, which must be `in_place`, that are read without a copy in chunks of
        ``capacity`` data sets; others are copied.
        """
        size = int(self.sizes[0])
        runs = [viewable_run(leaf, size, capacity) for leaf in self.leaves]
        first, stop = max((a for a, _ in runs), default=0), min((b for _, b in runs), default=0)
        return first, max(stop - limits().max_width, first)  # a chunk also reads the data sets that fill its last block

    def fetch(self, which: np.ndarray, capacity: int, *, views: bool = False) -> Prepared:
        """Return the data of some data sets as `Prepared` with arrays (capacity, size, ...).

        Args:
            which: numbers of the data sets, at most ``capacity``, all of one padded size.
            capacity: length of the leading axis. Entries after those of ``which`` hold other data sets or are not set, and are
                to be ignored.
            views: if True, and the data sets are `in_place` without rows of weight 0, the rows are `ChunkView` objects, without
                a copy.
        """
        worked = min(capacity, len(which) + limits().max_width) if on_cpu() else capacity
        size = int(self.sizes[which[0]])
        begins, lengths = self.begins[which], self.lengths[which]
        block = size if self.mode == "whole" else self.block_of(size)
        n = np.ones(capacity, np.int64)
        n[: len(which)] = lengths
        n_out = self.n_out[size] if self.mode == "whole" else size
        steps = np.diff(begins)
        n_copied = len(which)  # data sets in the arrays that are copied
        whole = self.weights is None and bool((lengths == size).all())  # no row of weight 0
        if whole and views and self.in_place:
            rows: PyTree = tuple(view_chunk(leaf, which, size, capacity, worked) for leaf in self.leaves)
            return Prepared(rows, self.shared, _ones(capacity, n_out), n, self.layout, self.mode, block)
        if whole and self.order is None and (steps == size).all():
            begin = int(begins[0])
            # the data sets that follow fill the places that are left as well as repeats of one, without a copy
            n_copied = capacity if begin + size * capacity <= len(self.leaves[0]) else n_copied
            positions: Any = slice(begin, begin + size * n_copied)
            weights = _ones(capacity, n_out)
        else:
            weights = aligned((capacity, n_out), np.float64)
            weights[...] = 1.0
            within = np.arange(size)
            inside = within[None, :] < lengths[:, None]
            flat = begins[:, None] + np.where(inside, within[None, :], 0)
            positions = (flat if self.order is None else self.order[flat]).reshape(-1)
            if self.mode != "whole":
                weights[: len(which)] = inside
            if self.weights is not None:
                weights[: len(which)] *= self.weights[positions].reshape(inside.shape) / self.scale[which][:, None]
                weights[len(which) :] = weights[0]

        def cut(leaf: np.ndarray) -> np.ndarray:
            copied = leaf[positions].reshape(n_copied, size, *leaf.shape[1:])
            if copied.dtype.kind == "f" and copied.dtype != np.float64:
                copied = copied.astype(np.float64)
            if n_copied == capacity:
                return copied
            out = aligned((capacity, *copied.shape[1:]), copied.dtype)
            out[: len(which)] = copied
            out[len(which) : worked] = copied[0]
            return out

        rows = tuple(cut(leaf) for leaf in self.leaves)
        return Prepared(rows, self.shared, weights, n, self.layout, self.mode, block)

    def hyper_at(self, i: int) -> PyTree:
        """Return the hyper-parameters of data set i, the second argument of the penalty."""
        return jax.tree.map(lambda a: a[i], self.hyper) if self.own_hyper else self.hyper

    def block_of(self, size: int) -> int:
        """Return the number of rows per block for a padded size: all of them if data sets have equal length and at most 4096
        rows; of ragged ones a sixteenth, between 8 and 4096; at most ``most_rows``, which it then divides.
        """
        if self.ragged:
            block = max(SMALLEST, min(size // BLOCKS, WHOLE_BLOCK))
        else:
            block = data_room.blocks(size, WHOLE_BLOCK)[1] if size > WHOLE_BLOCK else size
        return block if self.most_rows is None else data_room.divisor(block, self.most_rows)

    def single(self, i: int) -> Prepared:
        """Return the padded data of data set i, without a leading axis over data sets."""
        many = self.fetch(np.array([i]), 1)
        return replace(many, rows=tuple(leaf[0] for leaf in many.rows), weights=many.weights[0], n=many.n[0])


@lru_cache(maxsize=4)
def _ones(capacity: int, n: int) -> np.ndarray:
    """Return an array of ones, (capacity, n), read-only and cached: the weights of a chunk of unweighted data sets."""
    ones = aligned((capacity, n), np.float64)
    ones[...] = 1.0
    ones.setflags(write=False)
    return ones


def padded_size(n: int) -> int:
    """Return the padded size for n rows: the smallest of 8, 32, 128, ... that is at least n.

    >>> [padded_size(n) for n in (3, 9, 100, 129)]
    [8, 32, 128, 512]
    """
    size = SMALLEST
    while size < n:
        size *= 4
    return size
