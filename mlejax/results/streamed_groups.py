"""Fits of groups that are not in memory: complete groups are read and fitted in batches, and the estimates are collected."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from typing import Any

import jax
import numpy as np

from mlejax import batch as batch_room
from mlejax.batch.without_rows import joined, without_rows
from mlejax.covariance import Covariances
from mlejax.data import DataError
from mlejax.data.formulas import Designs, category_columns, with_designs_again
from mlejax.data.read import ingest
from mlejax.data.streams import Engine, GroupedRows, Partition, Threads, has_rows
from mlejax.execution import float64
from mlejax.fit.prepare.stream_survey import InUse, Wanted, learnt_designs, survey
from mlejax.fit.start import given_for_each
from mlejax.likelihood import Likelihood
from mlejax.results.batch_results import BatchResults
from mlejax.shapes import Data

__all__ = ["FitGroups", "fit_streamed_groups"]

ONE_START = (
    "fit_groups of a stream: expected one start= for all groups, as numbers, because the order of the groups is not known"
)


class Here:
    """An engine that is this process: it fits one batch of groups after the other, since such a fit uses all cores itself."""

    def map(self, work: Any, partitions: Any) -> Any:
        """Yield ``work(partition)`` for every partition; see `mlejax.data.streams.Engine.map`."""
        return (work(partition) for partition in partitions)


@dataclass(frozen=True, eq=False)
class FitGroups:
    """A function that fits all groups of a partition; it can be pickled.

    Attributes:
        model, likelihood: the model, and its likelihood with latent variables integrated out.
        by: name or names of the columns that define the groups.
        columns: names of the columns of clusters and units, in which missing values are checked.
        options: options of the fits.
        covariance: kind and options of the covariance.
        weights: name of the column of weights and their kind, or None for both.
        memory_limit: most bytes of data on the device at a time; None: a quarter of the free memory.
        designs: designs of the parameters with a formula, or None.
    """

    model: Any
    likelihood: Likelihood
    by: Any
    columns: tuple[str, ...]
    options: Mapping[str, Any]
    covariance: tuple[Any, Any]
    weights: tuple[str | None, str | None]
    memory_limit: float | None
    designs: Designs | None = field(default=None, repr=False)

    def __call__(self, partition: Partition) -> BatchResults | None:
        """Return the results of the groups of a partition, without their rows; None for a partition without rows.

        Raises:
            DataError: ``start`` has values for each group.
        """
        table, columns = ingest(partition.read(None)), self.columns
        names = (self.by,) if isinstance(self.by, str) else self.by
        if not has_rows(table, names):
            return None
        weights, kind = self.weights
        if self.designs is not None:
            others = [*names, *columns, *([weights] if weights else [])]
            table, columns = with_designs_again(self.designs, table, "drop", others), (*columns, *self.designs.used)
        start, missing = self.options["start"], self.options["missing"]
        sets = batch_room.grouped(self.likelihood, table, self.by, start, missing, columns, weights, kind)
        if any(given_for_each(sets.space, len(sets), start, self.likelihood.parameters)[1]):
            raise DataError(ONE_START)
        cut = batch_room.budget(self.memory_limit, False)
        done = batch_room.fit_many(
            self.likelihood, replace(sets, designs=self.designs), budget=cut, columns=columns, **self.options
        )
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            made = BatchResults.make(self.model, done, *self.covariance)
            return replace(made, _batch=without_rows(made._batch), _absent=made._unused)


def fit_streamed_groups(work: FitGroups, source: Data, engine: Engine | None) -> BatchResults:
    """Return the results of all groups of a source, in order of first appearance, or sorted by group if an engine divides
    its table.

    Args:
        work: the model and the options of the fits.
        source: the partitions: an engine's table, which has ``grouped(by, columns)``, or a source whose rows are sorted by group.
        engine: the engine that runs the fits; None: this process.

    Raises:
        DataError: an option needs all rows at once, the rows of a group are not adjacent, or there are no rows.
    """
    by = (work.by,) if isinstance(work.by, str) else tuple(work.by)
    shuffles = hasattr(source, "grouped")
    _check_options(work, by, shuffles, engine)
    peek = ingest(source.peek())
    likelihood, weights = work.likelihood, work.weights[0]
    with float64():
        in_use = InUse.of(likelihood, peek, work.options["start"])
    others = [*by, *work.columns, *likelihood.grouping, *([weights] if weights else [])]
    for name in others:
        peek.contents(name)
    columns = tuple(dict.fromkeys([*in_use.reads, *in_use.used, *others]))
    if likelihood.predictors:
        categories, whole = category_columns(likelihood.predictors, peek)
        wanted = Wanted(columns, "", "", categories, whole, in_use.reads, gaps=True)
        known, rows = survey(source, Threads() if engine is None else engine, wanted)
        work = replace(work, designs=learnt_designs(likelihood, ingest(rows), in_use, known, others))
    grouped = source.grouped(by, columns) if shuffles else GroupedRows(source, by, columns)
    with closing((Here() if engine is None else engine).map(work, grouped.partitions())) as found:
        parts = [part for part in found if part is not None]
    if not parts:
        raise DataError("fit_groups: the data have zero rows; expected at least one")
    return _together(work.model, parts, shuffles)


def _check_options(work: FitGroups, by: Sequence[Any], shuffles: bool, engine: Engine | None) -> None:
    """Raise DataError for options that fits of groups from a stream do not support.

    Args:
        work: the options of the fits.
        by: columns that define the groups.
        shuffles: True if the source is the table of an engine, which divides it by group.
        engine: the engine, or None.
    """
    start, (weights, _) = work.options["start"], work.weights
    leaves = jax.tree.leaves(work.options["hyper"])
    groups = (work.covariance[1] or {}).get("groups", ())
    named = all(isinstance(g, str) for g in (groups if isinstance(groups, tuple) else (groups,)))
    if not all(isinstance(name, str) for name in by):
        raise DataError(f"fit_groups of a stream: by= expected the name of a column, or several, got {work.by!r}")
    if engine is not None and not shuffles:
        raise DataError(
            "fit_groups with on= expected a table of the engine, which it can divide by group: "
            "dask.dataframe.read_parquet(path), ray.data.read_parquet(path), spark.read.parquet(path)"
        )
    if shuffles and work.likelihood.mode == "whole":
        raise DataError(
            "models with rowwise=False may depend on the order of the rows, which an engine does not keep when it divides them "
            "by group: fit files that are sorted by group, mle.Parquet(...)"
        )
    if work.likelihood.predictors and work.likelihood.open_columns.names:
        raise DataError(
            "fit_groups of a stream: optional= and infinite= together with formulas need all rows at once; load the columns in "
            "use into memory"
        )
    if isinstance(start, str) or hasattr(start, "columns"):
        raise DataError(ONE_START)
    if any(np.ndim(leaf) for leaf in leaves):
        raise DataError("fit_groups of a stream: expected single numbers in hyper=, the same for all groups, got arrays")
    if not (weights is None or isinstance(weights, str)) or not named:
        raise DataError(
            "fit_groups of a stream: expected names of columns as weights= and clusters, got arrays; add them as columns"
        )


def _together(model: Any, parts: Sequence[BatchResults], by_label: bool) -> BatchResults:
    batch, order = joined([part._batch for part in parts], by_label)
    cov = Covariances(*(np.concatenate(a)[order] for a in zip(*(p._cov for p in parts), strict=True)))
    first, place = np.cumsum([0, *map(len, parts)]), np.argsort(order)
    absent = [
        np.column_stack([place[a + p._unused[:, 0]], p._unused[:, 1]]) for a, p in zip(first, parts, strict=False)
    ]
    return replace(parts[0], model=model, _batch=batch, _cov=cov, _absent=np.concatenate(absent))
