"""Rows sorted by level and divided into chunks, and sums over the rows of each level."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
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
    """The rows of one data set sorted by level; rows of weight 0 are left out.

    Args:
        data: the rows, in the user's order.
        codes: the level of every row (n,); each level has a row of positive weight.
        n_levels: number of levels.
        position: position, among the row-wise arrays, of the column of effects.
    """

    def __init__(self, data: Prepared, codes: Int[Host, " n"], n_levels: int, position: int) -> None:
        weights = np.asarray(data.weights)[: len(codes)]
        few = codes.astype(np.uint16) if n_levels <= CODES_OF_16_BITS else codes
        order = np.argsort(few, kind="stable")
        if not weights.all():
            order = order[weights[order] > 0]
        self.n_levels, self.position, self.n_rows = n_levels, position, order.size
        most = limits().chunk_rows
        size = order.size if most is None or order.size <= most else most
        size = bucket(size)
        n_chunks = -(-order.size // size)
        index = np.concatenate([order, np.full(n_chunks * size - order.size, order[-1])])
        leaves = tuple(_sorted(leaf, index) for leaf in data.rows)
        full = _sorted(weights, index)
        full[order.size :] = 0.0
        self._sorted = replace(data, rows=leaves, weights=full, n=np.asarray(size, np.int64), block=size)
        self._codes = codes[index]
        self.chunks = _cut(self._sorted, self._codes)
        self.counts = np.bincount(codes[order], minlength=n_levels)
        self.threads = min(n_cores(), len(self.chunks), limits().max_threads)
        self.pool = kept_pool("mlejax rows", self.threads - 1) if self.threads > 1 else None

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
        waiting = [self.pool.submit(self._in_thread, program, values, run) for run in runs[1:]] if self.pool else []
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
        if n_some > FEW * self.n_rows or not n_some:
            return [c for c in self.chunks if some[c.levels].any()]
        data, size = self._sorted, self._sorted.block
        index = np.flatnonzero(some[self._codes[: self.n_rows]])
        index = np.concatenate([index, np.full(-index.size % size, index[-1])])
        weights = _sorted(data.weights, index)
        weights[n_some:] = 0.0
        rows = tuple(_sorted(leaf, index) for leaf in data.rows)
        return _cut(replace(data, rows=rows, weights=weights), self._codes[index])

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


def _sorted(values: PyTree, index: Int[Host, " n"]) -> np.ndarray:
    array = np.asarray(values)
    out = aligned((index.size, *array.shape[1:]), array.dtype)
    np.take(array, index, axis=0, out=out)
    return out
