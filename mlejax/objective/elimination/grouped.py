"""Rows sorted by level and cut into chunks, with sums of numbers by row over the levels."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import numpy as np

from mlejax.data import Prepared, bucket
from mlejax.execution import aligned, float64, kept_pool, limits, n_cores
from mlejax.shapes import Bool, Float, Host, Int, PyTree

FEW = 0.25  # share of the rows up to which those of some levels are copied into chunks of their own
CODES_OF_16_BITS = 1 << 16  # levels up to which NumPy sorts in linear time


@dataclass(frozen=True, eq=False)
class LevelChunk:
    """Neighbouring rows in the order of their levels.

    Attributes:
        data: the rows, N of them; those of weight 0 at the end are padding.
        codes: the level of every row, counted from the first one here, (N,).
        levels: the levels that the rows belong to.
    """

    data: Prepared
    codes: Int[Host, " n"]
    levels: slice


class RowsByLevel:
    """The rows of one data set, by level; those of weight 0 are left out.

    Args:
        data: the rows, in the user's order.
        codes: the level of every row (n,), each of them with a row of positive weight.
        n_levels: their number.
        position: which array by row holds the effects.
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
        """A program on every chunk, its terms by row summed over the levels.

        Args:
            program: rows, the effects among them, -> (anything, terms by row (n_terms, N)).
            values: the effects.
            n_terms: how many terms.
            some: levels whose sums are wanted; None for all.

        Returns:
            What the program made of each chunk, and the sums; they mean nothing for other levels than those.
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
        """The chunks with rows of these levels; of few rows chunks of their own, for the same program."""
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
    """Chunks of so many rows as a block of the data has; views."""
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
