"""Many data sets in one table: a run of positions for each, from which chunks of data sets are copied."""

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
from mlejax.shapes import Bool, Float, Host, Int, PyTree

WHOLE_BLOCK = 4096
SMALLEST = 8
BLOCKS = 16  # of rows, at most; fewer where they would hold less than 8 rows


@dataclass(frozen=True, eq=False)
class Runs:
    """The rows of many data sets in one table: a data set is a run of positions in an order of the rows.

    Attributes:
        order: (n,) the rows, data set by data set; None where they are in this order already.
        begins, lengths: (L,) where a data set begins in that order, and its number of rows.

    >>> runs = Runs.of(np.array([2, 0, 1]), np.array([1, 2]))
    >>> runs(1), runs.only(np.array([True, False, True])).lengths
    (array([0, 1]), array([1, 1]))
    """

    order: np.ndarray | None
    begins: np.ndarray
    lengths: np.ndarray

    @staticmethod
    def of(order: Int[Host, " n"] | None, lengths: Int[Host, " L"]) -> Runs:
        """Data sets of these lengths, one after the other."""
        begins = np.concatenate([[0], np.cumsum(lengths)[:-1]]).astype(np.int64)
        return Runs(order, begins, np.asarray(lengths, np.int64))

    def __len__(self) -> int:
        return len(self.lengths)

    def __call__(self, i: int) -> Int[Host, " n_i"]:
        """The rows of one data set."""
        run = slice(self.begins[i], self.begins[i] + self.lengths[i])
        return np.arange(run.start, run.stop) if self.order is None else self.order[run]

    @property
    def n(self) -> int:
        """The number of rows of all data sets."""
        return int(self.lengths.sum())

    @cached_property
    def positions(self) -> Int[Host, " n"]:
        """The rows, data set by data set."""
        return np.arange(self.n) if self.order is None else self.order

    @cached_property
    def owner(self) -> Int[Host, " n"]:
        """The data set of each of the `positions`."""
        return np.repeat(np.arange(len(self)), self.lengths)

    def only(self, kept: Bool[Host, " rows"]) -> Runs:
        """The rows of the table that are flagged."""
        flags = kept[self.positions]
        return Runs.of(self.positions[flags], np.bincount(self.owner[flags], minlength=len(self)))

    def with_any(self, flags: Bool[Host, " rows"]) -> tuple[Int[Host, " m"], Int[Host, " m"]]:
        """The data sets with flagged rows, and how many each has."""
        return np.unique(self.owner[flags[self.positions]], return_counts=True)

    def sums(self, values: Float[Host, " rows"]) -> Float[Host, " L"]:
        """The sum of a number per row of the table over each data set."""
        return np.bincount(self.owner, values[self.positions], minlength=len(self))


@dataclass(frozen=True, eq=False)
class DataSets:
    """Many data sets in one table.

    Attributes:
        leaves: columns by contribution (R, ...): rows, or padded units (R, length, ...) with their mask last.
        shared: arrays that all share.
        layout: how they make up what the function sees.
        mode: "rows", "units" or "whole".
        order: (R',) the contributions in the order of the data sets, or None where they are in it already.
        begins, lengths: (L,) where a data set begins in that order and how many contributions (rows, for "whole") it has.
        sizes: (L,) the padded number of contributions; data sets of equal size share a program.
        n_out: length of what a whole model returns, by length of the data.
        weighing: the weights of the rows, or None.
        weights: (R,) of the contributions, positive, or None for ones.
        scale: (L,) what they are divided by (their mean, of sampling weights; else 1).
        n_rows, n_dropped: (L,) rows used (the sum of frequency weights), and rows left out as missing.
        ragged: they differ in length, and are summed over blocks of rows.
        most_rows: of a block, or None.
        bad: why a data set cannot be used, by its number.
        labels: (L,) names of the data sets.
        label_names: what the labels are called, one or several.
        table_rows: the rows of each data set in the whole table, before any was dropped.
        source: the whole table.
        reading: the same with the designs of regressed parameters beside the columns in use.
        space: the layout of the parameters.
        designs: of the regressed parameters, or None.
        hyper, own_hyper: second argument of a penalty, common or with a leading axis (L, ...).
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

    def one(self, i: int) -> Prepared:
        """One data set, as ``model.fit`` would take it."""
        return self.reading.take(self.table_rows(i))

    @property
    def own_rows(self) -> bool:
        """Every data set has rows of its own."""
        return True

    @property
    def unweighted(self) -> bool:
        """The weights of a data set sum to its number of contributions."""
        return self.weights is None and self.mode != "whole"

    @cached_property
    def total_weights(self) -> np.ndarray:
        """The sum of the weights of each data set, (L,)."""
        if self.mode == "whole":
            return np.array([self.n_out.get(int(n), n) for n in self.lengths], np.float64)
        if self.weights is None:
            return self.lengths.astype(np.float64)
        each = self.weights if self.order is None else self.weights[self.order]
        total = np.concatenate([[0.0], np.cumsum(each)])
        return (total[self.begins + self.lengths] - total[self.begins]) / self.scale

    @property
    def usable(self) -> np.ndarray:
        """The numbers of the data sets that can be used."""
        return np.delete(np.arange(len(self)), list(self.bad))

    def rows_used(self, i: int) -> np.ndarray:
        """The rows of one data set in the whole table that are used (not for units)."""
        flat = np.arange(self.begins[i], self.begins[i] + self.lengths[i])
        return flat if self.order is None else self.order[flat]

    def data_set_bytes(self, size: int) -> int:
        """Bytes of one data set of this padded size."""
        per = sum(8 * int(np.prod(leaf.shape[1:], dtype=np.int64)) for leaf in self.leaves)
        return int(size) * (per + 8)

    @cached_property
    def in_place(self) -> bool:
        """Data sets of one size, one after the other in tables that can be read where they lie."""
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
        """The first and the last data set + 1 of those that are read in place, if they are `in_place`; the others are copied."""
        size = int(self.sizes[0])
        runs = [viewable_run(leaf, size, capacity) for leaf in self.leaves]
        first, stop = max((a for a, _ in runs), default=0), min((b for _, b in runs), default=0)
        return first, max(stop - limits().max_width, first)  # a chunk also reads the data sets that fill its last block

    def fetch(self, which: np.ndarray, capacity: int, *, views: bool = False) -> Prepared:
        """The data of some data sets of one size, (capacity, size, ...); ``views``: as `ChunkView`, if they are `in_place`.

        The places that are left repeat the first data set or hold the next ones, as far as these are computed together; the rest
        is never used.
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
        """The hyper-parameters of one data set."""
        return jax.tree.map(lambda a: a[i], self.hyper) if self.own_hyper else self.hyper

    def block_of(self, size: int) -> int:
        """Rows of a block in this padded size: one block where all data sets are equally long and short enough."""
        if self.ragged:
            block = max(SMALLEST, min(size // BLOCKS, WHOLE_BLOCK))
        else:
            block = data_room.blocks(size, WHOLE_BLOCK)[1] if size > WHOLE_BLOCK else size
        return block if self.most_rows is None else data_room.divisor(block, self.most_rows)

    def single(self, i: int) -> Prepared:
        """One data set without the batch axis."""
        many = self.fetch(np.array([i]), 1)
        return replace(many, rows=tuple(leaf[0] for leaf in many.rows), weights=many.weights[0], n=many.n[0])


@lru_cache(maxsize=4)
def _ones(capacity: int, n: int) -> np.ndarray:
    """Weights of a chunk of unweighted data sets (capacity, n), which all such chunks share; nothing can be written into them."""
    ones = aligned((capacity, n), np.float64)
    ones[...] = 1.0
    ones.setflags(write=False)
    return ones


def padded_size(n: int) -> int:
    """The size whose program takes n rows: 8, 32, 128, ...; only the blocks with rows are summed.

    >>> [padded_size(n) for n in (3, 9, 100, 129)]
    [8, 32, 128, 512]
    """
    size = SMALLEST
    while size < n:
        size *= 4
    return size
