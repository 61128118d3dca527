"""Rows sorted by level and divided into chunks, and sums over the rows of each level."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import pairwise
from typing import Any

import numpy as np

from mlejax.data import Prepared, bucket
from mlejax.execution import aligned, float64, kept_pool, limits, n_cores
from mlejax.shapes import Bool, Float, Host, Int, PyTree

FEW = 0.25  # rows of some levels are copied into chunks of their own up to this share of all rows
CODES_OF_16_BITS = 1 << 16  # NumPy sorts codes of up to this many levels (16 bits) in linear time


@dataclass(frozen=True, eq=False)
class LevelChunk:
    """Consecutive rows in the order of their levels.

    Attributes:
        data: the rows, N of them; rows of weight 0 at the end are padding.
        codes: the level of every row, counted from the first level of the chunk (N,).
        levels: the levels that the rows belong to, as a slice of all levels.
    """

    data: Prepared
    codes: Int[Host, " n"]
    levels: slice


class RowsByLevel:
    """The rows of one data set sorted by level, when they are first used; rows of weight 0 are left out.

    Args:
        data: the rows, in the user's order.
        codes: the level of every row (n,); each level has a row of positive weight.
        n_levels: number of levels.
        position: position, among the row-wise arrays, of the column of effects.
        complete: function that adds further arrays to a chunk, for programs that use them, called if there are several chunks;
            None for no such arrays.
    """

    def __init__(
        self,
        data: Prepared,
        codes: Int[Host, " n"],
        n_levels: int,
        position: int,
        complete: Callable[[Prepared], Prepared] | None = None,
    ) -> None:
        self._complete = complete
        self._before: tuple[RowsByLevel, Bool[Host, " levels"]] | None = None
        self._data, self._all_codes, self.n_levels, self.position = data, codes, n_levels, position
        used = np.asarray(data.weights)[: len(codes)] > 0
        self.counts = np.bincount(codes if used.all() else codes[used], minlength=n_levels)
        self.n_rows = int(self.counts.sum())

    def without(self, data: Prepared, codes: Int[Host, " n"], gone: Bool[Host, " levels"]) -> RowsByLevel:
        """Return the rows without those of some levels (G,), sorted as these are.

        Args:
            data, codes: the rows that are left, with the same weights, in the user's order, and the level of each among those
                left.
            gone: True for the levels that are left out (G,).
        """
        one = RowsByLevel(data, codes, int((~gone).sum()), self.position, self._complete)
        one._before = self, gone
        return one

    def few(self, some: Bool[Host, " levels"]) -> bool:
        """True if the rows of some levels (G,) are so few that they get own chunks: at most a quarter of all, but not none."""
        return 0 < int(self.counts[some].sum()) <= FEW * self.n_rows

    @cached_property
    def _sorted(self) -> tuple[Prepared, Int[Host, " n"]]:
        """The rows sorted by level, padded to whole chunks, and their codes."""
        if self._before is not None:
            (before, gone), self._before = self._before, None
            found, codes = before._sorted
            index = np.flatnonzero(~gone[codes[: before.n_rows]])
            codes = (np.cumsum(~gone) - 1)[codes[index]]
            return _padded(found, index, codes)
        data, codes = self._data, self._all_codes
        few = codes.astype(np.uint16) if self.n_levels <= CODES_OF_16_BITS else codes
        order = np.argsort(few, kind="stable")
        if order.size > self.n_rows:
            order = order[np.asarray(data.weights)[order] > 0]
        found, codes = _padded(data, order, codes[order])
        leaves = found.rows
        if self._complete is not None and len(codes) > found.block:
            parts = [self._complete(chunk.data).rows[len(leaves) :] for chunk in _cut(found, codes)]
            found = replace(found, rows=(*leaves, *(_joined(more) for more in zip(*parts, strict=True))))
        return found, codes

    @cached_property
    def chunks(self) -> list[LevelChunk]:
        """The sorted rows in chunks of one size."""
        return _cut(*self._sorted)

    @cached_property
    def threads(self) -> int:
        """The number of threads that evaluate chunks."""
        return min(n_cores(), len(self.chunks), limits().max_threads)

    def run(
        self,
        program: Callable[[Prepared], Any],
        values: Float[Host, " levels"],
        n_terms: int,
        some: Bool[Host, " levels"] | None = None,
    ) -> tuple[list[Any], Float[Host, "terms levels"]]:
        """Run a program on every chunk, and sum its row values over the levels.

        Args:
            program: function from rows, with their effects, to (any result, row values (n_terms, N)).
            values: the effects of the levels (G,).
            n_terms: number of row values.
            some: True for levels whose sums are needed (G,); None for all.

        Returns:
            The results for each chunk, and the sums (n_terms, G), which are valid for the needed levels only.
        """
        wanted = self.chunks if some is None else self._chunks_of(some)
        ends = [round(i * len(wanted) / self.threads) for i in range(self.threads + 1)]
        runs = [wanted[a:b] for a, b in pairwise(ends)]
        pool = kept_pool("mlejax rows", self.threads - 1) if self.threads > 1 else None
        waiting = [pool.submit(self._in_thread, program, values, run) for run in runs[1:]] if pool else []
        found = self._sums(program, values, runs[0])
        for other in waiting:
            found += other.result()
        total = np.zeros((n_terms, self.n_levels))
        for chunk, (_, sums) in zip(wanted, found, strict=True):
            total[:, chunk.levels] += sums
        return [made for made, _ in found], total

    def _chunks_of(self, some: Bool[Host, " levels"]) -> list[LevelChunk]:
        """Return the chunks that contain rows of the levels of the mask ``some``; if the rows are few, they are copied into new
        chunks of the same size.
        """
        n_some = int(self.counts[some].sum())
        if not self.few(some):
            return [c for c in self.chunks if some[c.levels].any()]
        data, codes = self._sorted
        size = data.block
        index = np.flatnonzero(some[codes[: self.n_rows]])
        index = np.concatenate([index, np.full(-index.size % size, index[-1])])
        weights = _taken(data.weights, index)
        weights[n_some:] = 0.0
        rows = tuple(_taken(leaf, index) for leaf in data.rows)
        return _cut(replace(data, rows=rows, weights=weights), codes[index])

    def _in_thread(self, program: Callable[..., Any], values: PyTree, run: list[LevelChunk]) -> list[tuple[Any, Any]]:
        with float64():  # a thread does not inherit the scope that it was started in
            return self._sums(program, values, run)

    def _sums(self, program: Callable[..., Any], values: PyTree, run: list[LevelChunk]) -> list[tuple[Any, Any]]:
        out = []
        for chunk in run:
            rows = list(chunk.data.rows)
            rows[self.position] = values[chunk.levels][chunk.codes]
            made, terms = program(replace(chunk.data, rows=tuple(rows)))
            n = chunk.levels.stop - chunk.levels.start
            sums = np.stack([np.bincount(chunk.codes, term, n) for term in np.asarray(terms)])
            out.append((made, sums))
        return out


def _cut(data: Prepared, codes: Int[Host, " n"]) -> list[LevelChunk]:
    """Return chunks of as many rows as a block of the data has, as views; ``codes``: level of every row, ascending."""
    out = []
    for begin in range(0, len(codes), data.block):
        run = slice(begin, begin + data.block)
        part = replace(data, rows=tuple(leaf[run] for leaf in data.rows), weights=data.weights[run])
        first, last = int(codes[begin]), int(codes[run][-1])
        out.append(LevelChunk(part, codes[run] - first, slice(first, last + 1)))
    return out


def _padded(data: Prepared, order: Int[Host, " m"], codes: Int[Host, " m"]) -> tuple[Prepared, Int[Host, " n"]]:
    """Return some rows in this order, with rows of weight 0 at the end that fill the last chunk, and their levels.

    Args:
        data: the rows.
        order: numbers of the rows in use, in the order of their levels (m,).
        codes: the level of each of these (m,).
    """
    most, n = limits().chunk_rows, order.size
    size = bucket(n if most is None or n <= most else most)
    more = -n % size
    index = np.concatenate([order, np.full(more, order[-1])])
    weights = _taken(data.weights, index)
    weights[n:] = 0.0
    rows = tuple(_taken(leaf, index) for leaf in data.rows)
    found = replace(data, rows=rows, weights=weights, n=np.asarray(size, np.int64), block=size)
    return found, np.concatenate([codes, np.full(more, codes[-1])])


def _taken(values: PyTree, index: Int[Host, " n"]) -> np.ndarray:
    array = np.asarray(values)
    out = aligned((index.size, *array.shape[1:]), array.dtype)
    np.take(array, index, axis=0, out=out)
    return out


def _joined(parts: Sequence[PyTree]) -> np.ndarray:
    arrays = [np.asarray(part) for part in parts]
    out = aligned((sum(map(len, arrays)), *arrays[0].shape[1:]), arrays[0].dtype)
    return np.concatenate(arrays, out=out)
