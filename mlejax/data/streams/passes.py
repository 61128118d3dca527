"""Passes over the partitions of a source: a task is run on every partition in threads, and the rows are checked for
changes.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from concurrent.futures import Future, wait
from contextlib import closing
from dataclasses import replace
from typing import Any, NamedTuple, Protocol, runtime_checkable

import numpy as np

from mlejax.data.errors import DataError
from mlejax.data.fingerprint import Fingerprint
from mlejax.data.formulas.design_keys import DesignKey
from mlejax.data.streams.checksums import Seen
from mlejax.data.streams.cutting import Cut
from mlejax.data.streams.kept_passes import KeptPasses
from mlejax.data.streams.sorted_rows import GroupedRows
from mlejax.data.streams.sources import Partition, Source
from mlejax.execution import doing, float64, kept_pool, n_cores
from mlejax.shapes import Bool, Float, Host

Work = Callable[[Partition], Any]


@runtime_checkable
class Engine(Protocol):
    """An executor that runs a task on partitions: `Threads` in this process, or an engine of `mlejax.engines` in other
    processes or on other machines.
    """

    def map(self, work: Work, partitions: Iterable[Partition]) -> Generator[Any, None, None]:
        """Yield ``work(partition)`` for every partition, in order; an error in one is raised, and the others are cancelled.

        A caller that stops before the end must close the generator (``contextlib.closing``).
        """
        ...


class Threads:
    """Engine that runs a task in threads of this process; partitions are requested from the source only as they are needed.

    Args:
        n: number of threads; None: the number of cores plus one, so that all cores have work while one thread waits for a
            partition, but one thread on a single core.
    """

    def __init__(self, n: int | None = None) -> None:
        cores = n_cores()
        self.n = (cores + 1 if cores > 1 else 1) if n is None else n

    def map(self, work: Work, partitions: Iterable[Partition]) -> Generator[Any, None, None]:
        """Yield ``work(partition)`` for every partition, in order, evaluated in threads; an error in one is raised, and the
        others are cancelled.
        """
        stop = threading.Event()

        def guarded(partition: Partition) -> Any:
            if stop.is_set():
                return None
            with float64():  # a thread does not inherit the scope that it was started in
                return work(partition)

        waiting: deque[Future[Any]] = deque()
        pool = kept_pool("mlejax partitions", self.n)
        try:
            for partition in partitions:
                waiting.append(pool.submit(guarded, partition))
                if len(waiting) > self.n:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            stop.set()
            for future in waiting:
                future.cancel()
            wait(waiting)  # nothing goes on behind the caller's back


class UnitCounts(NamedTuple):
    """Numbers of a stream of units.

    Attributes:
        n: number of units.
        n_rows_used: number of rows in units of positive weight.
        sum_over_rows: the sum over the rows of the weights of their units, as given.
    """

    n: int
    n_rows_used: int
    sum_over_rows: float


class RowOfLevel(NamedTuple):
    """A row of a stream: the name of its partition, its number there, the label of its level, and its weight as given."""

    partition: str
    number: int
    label: Any
    weight: float


class Streamed:
    """The rows of a source, with their numbers and weights, and passes over them.

    Args:
        source: the source of the partitions.
        cut: how partitions are divided into chunks.
        n: number of rows, those left out included.
        n_used: number of rows (or units) of positive weight.
        sum_weights: the sum of the weights (of rows or units) as given.
        engine: executor of the passes.
        units: numbers of the units; None for models of rows.
        sizes: with effects, for each level its number of rows, its number of rows of positive weight and its sum of weights
            (G, 3); else None.

    Attributes:
        n_left_out: number of rows of levels that are left out; ``n_used`` and ``sum_weights`` are without them.
        whole: the stream that includes the rows left out; None if no rows are left out.
        products_wanted: True if the fit needs sums of products of scores weighted by w, False if weighted by w^2, None if none.
        kept: the folder under ``resume=``, or None.
        products: where these sums were evaluated, and the sums, if the last pass of the fit computed them.
    """

    def __init__(
        self,
        source: Source | GroupedRows,
        cut: Cut,
        n: int,
        n_used: int,
        sum_weights: float,
        engine: Engine,
        units: UnitCounts | None = None,
        sizes: Float[Host, "levels 3"] | None = None,
    ) -> None:
        self.source, self.cut, self.engine, self.units, self.sizes = source, cut, engine, units, sizes
        self.n, self.n_used, self.sum_weights, self.n_left_out = n, n_used, sum_weights, 0
        self.seen: list[Seen | None] | None = None
        self.products_wanted: bool | None = None
        self.products: tuple[Any, Float[Host, "p p"]] | None = None
        self.n_passes = 0
        self.whole: Streamed | None = None
        self.kept: KeptPasses | None = None

    @property
    def n_terms(self) -> int:
        """The number of terms of the log-likelihood: units, or rows without those left out."""
        return self.n - self.n_left_out if self.units is None else self.units.n

    def kept_pass(self, facts: Callable[[], Any], work: Callable[[], Any]) -> Any:
        """Return the result of a pass from the folder under ``resume=`` if an earlier run stored it; else that of ``work``, which
        makes it.  ``facts``: returns what the pass computes, as in `KeptPasses.result`.
        """
        return work() if self.kept is None else self.kept.result(self, facts(), work)

    def pass_over(
        self, work: Callable[[Partition, bool], tuple[Seen | None, Any]], take: Callable[[Any], None] | None = None
    ) -> list[Any]:
        """Run a task on every partition; return its results for those that have rows, in order (an empty list with ``take``).

        Args:
            work: function (partition, True on the first pass) -> (summary of its rows, result); the summary is None if it has no
                rows.
            take: function that is called with each result, in order, in place of keeping it in the list that is returned.

        Raises:
            DataError: the partitions or their rows are not those of the first pass, or no partition has rows. Errors of the
                task are raised too.
        """
        first = self.seen is None
        last = "" if self.seen is None else f" of {len(self.seen)}"
        seen: list[Seen | None] = []
        out: list[Any] = []
        take = out.append if take is None else take
        some = False
        # closed here when a partition is refused: the garbage collector might close it in one of the pass's own threads, which
        # would then wait for itself
        with closing(self.engine.map(_Bound(work, first), self.source.partitions())) as found:
            for i, (name, mine, result) in enumerate(found):
                doing(f"pass {self.n_passes + 1}: {i + 1} partitions{last}")
                if not first:
                    self._compare(i, name, mine)
                seen.append(mine)
                if mine is not None:
                    some = True
                    take(result)
        n = sum(s.n for s in seen if s is not None)
        if first and n > self.n:
            raise self._changed(f"{self.n} rows", f"{n}")
        if first:
            self.seen = seen
        elif len(seen) != len(self.seen or ()):
            raise self._changed(f"{len(self.seen or ())} partitions", f"{len(seen)}")
        self.n_passes += 1
        if not some:
            raise DataError("the stream has zero rows; expected at least one: check its files, its filters or its query")
        return out

    def _compare(self, i: int, name: str, mine: Seen | None) -> None:
        """Raise DataError unless partition i, called ``name``, has the summary of the first pass (None for one without rows)."""
        known = (self.seen or [])[i] if i < len(self.seen or ()) else None
        if (known is None) != (mine is None):
            n, m = (0 if s is None else s.n for s in (known, mine))
            raise self._changed(f"{name} with {n} rows", f"{m}")
        if known is not None and mine is not None and not known.same(mine):
            how = "other values, or rows in another order"
            if known.n != mine.n:
                how = f"{known.n} rows then, {mine.n} now"
            raise DataError(
                f"{name} is not what it was in the first pass: {how}. A fit reads the data several times, and every "
                "pass has to give the same rows in the same order: write the data to Parquet once, fix the seed of any random "
                "order or draws, or persist the table in its engine, and fit that"
            )

    def _changed(self, before: str, now: str) -> DataError:
        return DataError(
            f"the data changed between two passes: {before} in the first, now {now}. Write the data to Parquet once, or "
            "persist the table in its engine, and fit that"
        )

    def unscaled(self) -> Streamed:
        """Return the stream with the weights as they were given; its first pass has not been run yet."""
        return self._with_cut(replace(self.cut, scale=1.0))

    def with_columns(self, names: Sequence[str]) -> Streamed:
        """Return the stream with the columns ``names`` among those that are read, and with the summaries of the first pass."""
        made = self._with_cut(replace(self.cut, columns=tuple(dict.fromkeys([*self.cut.columns, *names]))))
        made.seen = self.seen
        return made

    def without_levels(self, gone: Bool[Host, " levels"]) -> Streamed:
        """Return the stream without the rows of the levels that a mask over the codes (G,) names."""
        assert self.sizes is not None
        return self._without(gone, self.sizes[gone].sum(axis=0), self.sizes[~gone], self.cut.left_out)

    def without_rows(self, rows: Sequence[RowOfLevel]) -> Streamed:
        """Return the stream without some rows of positive weight, and without the levels that then have no such row."""
        assert self.sizes is not None
        assert self.cut.levels is not None
        weights, sizes = np.array([row.weight for row in rows]), self.sizes.copy()
        lost = np.stack([np.ones(len(rows)), np.ones(len(rows)), weights], axis=1)
        np.subtract.at(sizes, [self.cut.levels.kept.tolist().index(row.label) for row in rows], lost)
        gone = sizes[:, 1] == 0
        left_out = {name: [row.number for row in rows if row.partition == name] for name in {row.partition for row in rows}}
        arrays = {name: np.array(numbers) for name, numbers in left_out.items()}
        return self._without(gone, lost.sum(axis=0) + sizes[gone].sum(axis=0) * [1, 0, 0], sizes[~gone], arrays)

    def _without(
        self, gone: Bool[Host, " levels"], lost: Host, sizes: Float[Host, "levels 3"], left_out: Mapping[str, Any]
    ) -> Streamed:
        """Return the stream without some of its rows; its first pass has not been run yet, and sampling weights are divided by
        their new mean.

        Args:
            gone: True for levels that are left out (G,).
            lost: number of rows, of rows of positive weight, and sum of weights that are left out.
            sizes: ``sizes`` of the levels that remain.
            left_out: rows that are left out, as in `Cut`.
        """
        assert self.cut.levels is not None
        made = self._with_cut(replace(self.cut, levels=self.cut.levels.without(gone), left_out=left_out))
        made.sizes, made.n_left_out, made.whole = sizes, self.n_left_out + int(lost[0]), self.whole or self
        made.n_used, made.sum_weights = self.n_used - int(lost[1]), self.sum_weights - float(lost[2])
        if self.cut.scale != 1.0:
            made.cut = replace(made.cut, scale=made.sum_weights / made.n_used)
        return made

    def _with_cut(self, cut: Cut) -> Streamed:
        source = self.source.with_columns(cut.columns) if isinstance(self.source, GroupedRows) else self.source
        made = Streamed(source, cut, self.n, self.n_used, self.sum_weights, self.engine, self.units, self.sizes)
        made.products_wanted, made.n_left_out, made.whole = self.products_wanted, self.n_left_out, self.whole
        made.kept = self.kept
        return made

    def fingerprint(self, weight_kind: str | None) -> Fingerprint:
        """Return the fingerprint of the columns that the user's function reads, in all rows, with weights as given if
        ``weight_kind`` is not None; only the number of rows if the first pass was interrupted.
        """
        if self.whole is not None:
            return self.whole.fingerprint(weight_kind)
        if not self.seen:
            return Fingerprint(self.n, {})
        total = np.sum([s.moments for s in self.seen if s is not None], axis=0)
        named = zip(self.cut.keys, total, strict=False)
        columns = {str(key): (float(a), float(b)) for key, (a, b) in named if not isinstance(key, DesignKey)}
        if self.cut.levels is not None:
            del columns[str(self.cut.levels.key)]
        a, scale = total[-1], self.cut.scale
        weights = None if weight_kind is None else (weight_kind, float(a[0] * scale), float(a[1] * scale**2))
        return Fingerprint(self.n, columns, weights)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "engine": None, "kept": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self.engine = Threads()


class _Bound:
    """The function partition -> (its name, *work(partition, first)), which can be pickled."""

    def __init__(self, work: Callable[..., Any], first: bool) -> None:
        self.work, self.first = work, first

    def __call__(self, partition: Partition) -> Any:
        return partition.name, *self.work(partition, self.first)
