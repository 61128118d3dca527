"""Sums over the rows of each level of a stream, in passes: the rows need not be sorted by level.

The sums of a level add up over partitions, so that a pass returns a table with one row for each of G levels, 3 + p numbers each,
whatever the order of the rows.  Levels whose effect takes many steps to find, or diverges, are few after some passes: their
rows are then gathered into memory by one pass, and the further steps are made there.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import jax
import numpy as np

from mlejax.data import Levels, Prepared
from mlejax.data.streams import Partition, Seen, Streamed, naming
from mlejax.data.streams.cutting import Cut
from mlejax.objective.elimination.grouped import RowsByLevel
from mlejax.objective.elimination.inner import LOOK_AFTER, WAY, infinite, newton_steps, settle
from mlejax.objective.elimination.row_derivatives import ALONE, RowTermsByLevel
from mlejax.objective.evaluator import Task
from mlejax.objective.evaluators.chunked import POINTS
from mlejax.objective.passes.effect_sums import RowDerivatives
from mlejax.objective.passes.facts_of_passes import facts_of
from mlejax.objective.passes.jobs import EffectValues, ReadChunks
from mlejax.objective.passes.partitioned import InPairs, PartitionedEvaluator, added
from mlejax.objective.sampling import sample_of_one
from mlejax.objective.specification import Spec
from mlejax.shapes import Bool, Float, Host, Int, PyTree

AT_ONCE = 1 << 18  # rows whose values are summed by level together
GATHERED_NUMBERS = 1 << 24  # rows of some levels are gathered in memory up to this many numbers (128 MB)
FEW = 0.25  # and up to this share of all rows


@dataclass(frozen=True, eq=False)
class LevelJob:
    """The sums of one partition by level at m points, as a function of the partition.

    Attributes:
        cut: how a partition is divided into chunks.
        programs: for each point the function from rows, with their effects, to (summed results, row values (n_terms, N)).
        effects: for each point the effects of the levels.
    """

    cut: Cut
    programs: tuple[RowTermsByLevel | RowDerivatives, ...]
    effects: tuple[EffectValues, ...]

    def __call__(self, partition: Partition, first: bool) -> tuple[Seen | None, Any]:
        """Return the summary of the partition, and for each point the summed results and the sums by level (n_terms, G); (None,
        None) for a partition without a row of positive weight.

        ``first``: True in the first pass, in which the values are checked; errors as in `Job`.
        """
        chunks, tables = ReadChunks(self.cut, partition, first), [_LevelSums(len(e.values)) for e in self.effects]
        waiting: Any = None
        for chunk, _ in chunks:
            codes = self.effects[0].codes(chunk)
            with naming(partition.name):
                found = [f(e.put(chunk)) for f, e in zip(self.programs, self.effects, strict=True)]
            if waiting is not None:
                self._add(tables, *waiting)
            waiting = codes, found
        if waiting is None:
            return None, None
        self._add(tables, *waiting)
        return chunks.seen, [table.total() for table in tables]

    def _add(self, tables: list[_LevelSums], codes: Int[Host, " N"], found: list[tuple[Any, Any]]) -> None:
        for table, one in zip(tables, found, strict=True):
            table.add(codes, one)


class _LevelSums:
    """Sums of the results of chunks, and of their row values by level; row values are summed some 2^18 rows at a time.

    Args:
        n_levels: number of levels.
    """

    def __init__(self, n_levels: int) -> None:
        self.n_levels, self.n_waiting = n_levels, 0
        self.waiting: list[tuple[Int[Host, " N"], Float[Host, "terms N"]]] = []
        self.made: Any = None
        self.sums: Any = None

    def add(self, codes: Int[Host, " N"], found: tuple[Any, Any]) -> None:
        """Add the results of a chunk with these level codes."""
        made, terms = jax.tree.map(np.array, found)  # copies: they may lie in a buffer of the chunk
        self.made = made if self.made is None else added(self.made, made)
        self.waiting.append((codes, terms))
        self.n_waiting += len(codes)
        if self.n_waiting >= AT_ONCE:
            self._flush()

    def _flush(self) -> None:
        codes, terms = (np.concatenate(parts, axis=-1) for parts in zip(*self.waiting, strict=True))
        found = np.stack([np.bincount(codes, term, self.n_levels) for term in terms])
        self.sums = found if self.sums is None else self.sums + found
        self.waiting, self.n_waiting = [], 0

    def total(self) -> tuple[Any, Float[Host, "terms levels"]]:
        """Return the summed results of all chunks, of which there is at least one, and the sums of their row values by level
        (n_terms, G).
        """
        if self.waiting:
            self._flush()
        return self.made, self.sums


@dataclass(frozen=True, eq=False)
class GatherJob:
    """The rows of some levels of one partition, as a function of the partition.

    Attributes:
        cut: how a partition is divided into chunks.
        position: position of the column of codes.
        some: True for the levels (G,).
    """

    cut: Cut
    position: int
    some: Bool[Host, " levels"]

    def __call__(self, partition: Partition, first: bool) -> tuple[Seen | None, Any]:
        """Return the summary of the partition; and its name, with the arrays of the rows of the levels ``some``: every column,
        the weights, and the row numbers in the partition.  (None, None) for a partition without a row of positive weight.

        ``first``: True in the first pass, in which the values are checked; errors as in `Job`.
        """
        chunks, out = ReadChunks(self.cut, partition, first), []
        for chunk, place in chunks:
            m = int(chunk.n)
            weights = np.asarray(chunk.weights)[:m]
            codes = np.asarray(chunk.rows[self.position])[:m].astype(np.int64)
            at = np.flatnonzero(self.some[codes] & (weights > 0))
            out.append((*(np.asarray(a)[at] for a in chunk.rows), weights[at], place.rows.start + at))
        if not out:
            return None, None
        return chunks.seen, (partition.name, tuple(np.concatenate(parts) for parts in zip(*out, strict=True)))


class StreamedLevels:
    """The rows of a stream by level, with the methods that :class:`RowsByLevel` has for rows in memory.

    Args:
        rows: the stream, whose chunks have the codes of levels in their column of effects.
        sample: a sample of its rows in memory, with a column of effects.
        sample_levels: the level of each row of the sample.

    Attributes:
        n_levels, counts: number of levels, and their numbers of rows of positive weight (G,).
        n_rows: number of rows of positive weight.
    """

    def __init__(self, rows: Streamed, sample: Prepared, sample_levels: Levels) -> None:
        assert rows.sizes is not None
        assert rows.cut.position is not None
        self.rows, self.sample_rows, self.sample_levels = rows, sample, sample_levels
        self.position, self.n_levels = rows.cut.position, len(rows.sizes)
        self.counts = rows.sizes[:, 1].astype(np.int64)
        self.n_rows = int(self.counts.sum())
        self.total_weight = rows.sum_weights / rows.cut.scale
        self._inside: tuple[Bool[Host, " levels"], RowsByLevel] | None = None

    def run(
        self,
        program: RowTermsByLevel | RowDerivatives,
        values: Float[Host, " levels"],
        n_terms: int,
        some: Bool[Host, " levels"] | None = None,
    ) -> tuple[list[Any], Float[Host, "terms levels"]]:
        """Run a program on every chunk by one pass, or on the gathered rows if all rows of the levels ``some`` are in memory, and
        sum its row values over the levels.

        Args:
            program: function from rows, with their effects, to (any result, row values (n_terms, N)).
            values: the effects of the levels (G,).
            n_terms: number of row values.
            some: True for levels whose sums are needed (G,); None for all.

        Returns:
            A list of the program's results: after a pass one entry, their sum over all chunks, else one for each chunk of the
            gathered rows; and the sums of the row values (n_terms, G), which are valid for the levels ``some`` only (None: all).
        """
        ((made, sums),) = self.run_at_points([program], values[None], n_terms, some)
        return made, sums

    def run_at_points(
        self,
        programs: Sequence[RowTermsByLevel | RowDerivatives],
        values: Float[Host, "m levels"],
        n_terms: int,
        some: Bool[Host, " levels"] | None = None,
    ) -> list[tuple[list[Any], Float[Host, "terms levels"]]]:
        """Run m programs, each at its own effects (m, G), by one pass, or on the gathered rows if all rows of the levels ``some``
        are in memory; return for each what `run` returns.
        """
        if some is not None and self.at_hand(some):
            inside = self._inside
            assert inside is not None
            return [inside[1].run(p, v, n_terms, some) for p, v in zip(programs, values, strict=True)]
        effects = tuple(EffectValues(self.position, v) for v in values)

        def work() -> list[Any]:
            found = InPairs(added)
            self.rows.pass_over(LevelJob(self.rows.cut, tuple(programs), effects), found.add)
            return found.total

        def facts() -> tuple[Any, ...]:
            own = [{name: value for name, value in vars(p).items() if name != "spec"} for p in programs]
            return [(facts_of(p.spec, p.fixed, self.sample_rows), type(p)) for p in programs], own, values

        return [([made], sums) for made, sums in self.rows.kept_pass(facts, work)]

    def logliks(
        self, programs: Sequence[RowTermsByLevel], begin: Float[Host, "m levels"], free: Bool[Host, " levels"]
    ) -> list[float]:
        """Return the log-likelihoods at m points, each maximised over its effects, which are sought for 24 points together.

        Args:
            programs: derivatives by the effects at the points.
            begin: effects at which the searches begin.
            free: True for levels whose effect is estimated (G,).
        """
        out: list[float] = []
        for at in range(0, len(programs), POINTS):
            here, values = programs[at : at + POINTS], begin[at : at + POINTS]
            terms, open_ = partial(self._terms_at_points, here), np.tile(free, len(here))
            found = settle(terms, values.reshape(-1), open_, LOOK_AFTER)
            if found.open.any():
                signs = infinite(terms, found)
                open_ &= signs == 0
                found = settle(terms, found.values + signs * WAY[-1], open_)
            step, _ = newton_steps(found.terms, open_)
            each = found.terms[0] + 0.5 * found.terms[1] * step
            out += each.reshape(values.shape).sum(axis=1).tolist()
        return out

    def _terms_at_points(
        self, programs: Sequence[RowTermsByLevel], values: Float[Host, " m_levels"], some: Bool[Host, " m_levels"] | None
    ) -> Float[Host, "3 m_levels"]:
        """Return log-likelihood, score and minus the second derivative of every level at m points, one point after the other."""
        needed = None if some is None else np.asarray(some.reshape(len(programs), -1).any(axis=0))
        found = self.run_at_points(programs, values.reshape(len(programs), -1), ALONE, needed)
        return np.concatenate([sums for _, sums in found], axis=1)

    def at_hand(self, some: Bool[Host, " levels"]) -> bool:
        """True if all rows of some levels (G,) are in memory; they are gathered by a pass if they are few."""
        if self._inside is not None and not (some & ~self._inside[0]).any():
            return True
        n = int(self.counts[some].sum())
        cut = self.rows.cut
        width = sum(int(np.prod(shape)) for shape in cut.trailing) + 2
        if n == 0 or n > FEW * self.n_rows or n * width > GATHERED_NUMBERS:
            return False
        data = self.gathered(some)[0]
        codes = np.asarray(data.rows[self.position]).astype(np.int64)
        self._inside = some, RowsByLevel(data, codes, self.n_levels, self.position)
        return True

    def gathered(self, some: Bool[Host, " levels"]) -> tuple[Prepared, list[tuple[str, Int[Host, " m"]]]]:
        """Return the rows of some levels (G,) in memory, in their order, with their codes in the column of effects; and for each
        partition its name and the numbers of these rows in it.
        """
        job = GatherJob(self.rows.cut, self.position, some)
        parts = self.rows.kept_pass(lambda: ("rows of levels", some), lambda: self.rows.pass_over(job))
        *columns, weights, _ = (np.concatenate(each) for each in zip(*(found for _, found in parts), strict=True))
        n, cut = len(weights), self.rows.cut
        data = Prepared(tuple(columns), cut.shared, weights, np.asarray(n, np.int64), cut.layout, "rows", n)
        return data, [(name, found[-1]) for name, found in parts]

    def map_reduce(
        self,
        spec: Spec,
        fixed: Host | None,
        u: Float[Host, " p"],
        values: Float[Host, " levels"],
        task: Task,
        merge: Callable[[Any, Any], Any],
        finish: Callable[..., Any] | None = None,
    ) -> PyTree:
        """Return ``task(objective of a chunk with these effects, u)`` of all chunks by one pass; as
        `PartitionedEvaluator.map_reduce`.
        """
        within = PartitionedEvaluator(spec, self.rows, self.sample_rows, fixed)
        return within.map_reduce(task, merge, u, finish, effects=EffectValues(self.position, values))

    def sample(self, values: Float[Host, " levels"], n_rows: int) -> Prepared:
        """Return at most ``n_rows`` rows of the sample with these effects, and with weights under which their sums estimate those
        of all rows.
        """
        assert self.rows.cut.levels is not None
        code = self.rows.cut.levels.of(self.sample_levels.labels)[self.sample_levels.codes]
        data, n = self.sample_rows, len(code)
        weights, column = np.array(data.weights), np.zeros(data.n_padded)
        weights[:n] = np.where(code < 0, 0.0, weights[:n])
        column[:n] = values[code]
        used = weights > 0
        column[~used] = column[used][0] if used.any() else 0.0
        rows = (*data.rows[: self.position], column, *data.rows[self.position + 1 :])
        some = sample_of_one(replace(data, rows=rows, weights=weights), n_rows)
        return replace(some, weights=np.asarray(some.weights) * (self.total_weight / max(some.total_weight, 1e-300)))


class LastEvaluation:
    """The sums of the last evaluation of all derivatives at some u.

    Args:
        grouped: the rows.
        program, alone: programs of all derivatives, and of those by the effects.
        n_terms: number of row values of ``program``.

    Attributes:
        values: the effects (G,), or None before the first evaluation.
        made, terms: what ``run`` of the rows returned: the results of ``program``, and the sums by level (n_terms, G).
    """

    def __init__(
        self, grouped: RowsByLevel | StreamedLevels, program: RowTermsByLevel, alone: RowTermsByLevel, n_terms: int
    ) -> None:
        self.grouped, self.program, self.alone, self.n_terms = grouped, program, alone, n_terms
        self.values: Any = None

    def every(self, values: Float[Host, " levels"]) -> None:
        """Run the program of all derivatives for all levels at the effects ``values`` and store its results in ``made`` and the
        sums by level in ``terms``, unless the last evaluation was at these effects.
        """
        if self.values is None or not np.array_equal(values, self.values):
            self.made, self.terms = self.grouped.run(self.program, values, self.n_terms)
            self.values = values

    def of_some(self, values: Float[Host, " levels"], some: Host | None) -> np.ndarray:
        """Return the first `ALONE` terms (derivatives by the effects alone) of the levels of the mask ``some`` (None: of all
        levels) at the effects ``values``; only the rows of these levels are evaluated if they are in memory, else all rows.
        """
        if some is not None and isinstance(self.grouped, StreamedLevels) and self.grouped.at_hand(some):
            return self.grouped.run(self.alone, values, ALONE, some)[1]
        self.every(values)
        return self.terms[:ALONE]
