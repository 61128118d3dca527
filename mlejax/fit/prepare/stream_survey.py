"""Survey of a stream before a fit: a pass over the data that collects what must be known of all rows, and a sample of rows.

That is: the number of rows (from the footers of Parquet files, else counted), the sum of weights, the levels of categorical
columns, the labels of effects with their numbers of rows, and whole columns for splines.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import numpy as np

from mlejax.data import DataError, DataTypeError, with_effects
from mlejax.data.errors import listing
from mlejax.data.formulas import Design, Designs, first_design, formula_columns
from mlejax.data.read import Table, ingest, refuse_gaps
from mlejax.data.read.checked import rows_of
from mlejax.data.streams import (
    FILTER,
    Engine,
    GroupedRows,
    Parquet,
    Partition,
    Sizes,
    Source,
    Stream,
    groups_of,
    has_rows,
    level_sizes,
    naming,
    together,
)
from mlejax.data.weights import make_weights, weight_column, weight_values
from mlejax.execution import limits
from mlejax.fit.prepare.stream_units import RUNS, UnitSurvey, merged_units, rows_of_some, spread_runs, units_of
from mlejax.likelihood import Likelihood, regressed_reads, trace_reads
from mlejax.parameters import Space
from mlejax.shapes import Host, Int, PyTree

SAMPLED_BYTES = 1 << 27
SAMPLED_PARTITIONS = 8
LEARNT_BYTES = 1 << 30  # of columns that a formula has to see as a whole


@dataclass
class StreamSurvey:
    """What the survey collected from one partition, or from all.

    Attributes:
        n: number of rows.
        n_used: number of rows (or units) with positive weight.
        sum_weights: sum of the weights (of rows or units).
        levels: column -> levels, for categorical columns, in the order of their type or of appearance.
        whole: column -> all values, for columns that formulas need as a whole.
        some: column -> values of a sample of rows, or None.
        units: what was collected of the units; None for models of rows.
        sizes: labels of the levels of effects (m,), and their numbers of rows, of rows of positive weight, and sums of weights
            (m, 3); None without effects.
    """

    n: int
    n_used: int
    sum_weights: float
    levels: dict[str, list[Any]] = field(default_factory=dict)
    whole: dict[str, Any] = field(default_factory=dict)
    some: dict[str, Any] | None = None
    units: UnitSurvey | None = None
    sizes: Sizes | None = None


@dataclass(frozen=True)
class Surveying:
    """The survey of one partition: a callable that can be pickled and sent to workers.

    Attributes:
        columns: names of the columns to read.
        weights, weight_kind: name and kind of the weight column; empty without weights.
        categories: columns of which all levels are needed.
        whole: columns that are needed as a whole.
        per_partition: number of rows for the sample, whose values are checked; 0 for none.
        numeric: names of the columns that the user's function reads.
        gaps, unit, effects: as in `Wanted`.
    """

    columns: tuple[str, ...]
    weights: str
    weight_kind: str
    categories: tuple[str, ...]
    whole: tuple[str, ...]
    per_partition: int
    numeric: tuple[Any, ...]
    gaps: bool = False
    unit: str = ""
    effects: str = ""

    def __call__(self, partition: Partition) -> StreamSurvey | None:
        """Survey one partition; None if it has no rows.  DataError for weights that are not valid and, unless ``gaps``, missing
        values in sampled partitions.
        """
        with naming(partition.name):
            table = ingest(partition.read(self.columns))
            n = table.length(self.columns) if has_rows(table, self.columns) else 0
            if not n:
                return None
            values = None
            if self.weights:
                column = table.column(self.weights)
                numbers = weight_values(weight_column(column, self.weights), n)
                values = numbers if not (numbers > 0).any() and (numbers == 0).all() else None
                values = make_weights(self.weight_kind, self.weights, column, n).values if values is None else values
            groups, units = None, None
            if self.unit:
                groups = groups_of(table.column(self.unit), self.unit)
                units, values = units_of(partition.name, groups, values)
            used, total = (n, float(n)) if values is None else (int((values > 0).sum()), float(values.sum()))
            levels = {name: _levels(table.column(name)) for name in self.categories}
            whole = {name: table.column(name) for name in self.whole}
            some = None
            if self.per_partition:
                others = [name for name in self.columns if name not in self.numeric]
                rows, gaps = table.read(self.numeric, others)
                if not self.gaps:
                    refuse_gaps(rows, gaps, FILTER)
                good = np.flatnonzero(~rows_of(gaps, n)) if gaps else np.arange(n)
                chosen = spread_runs(good, self.per_partition) if groups is None else rows_of_some(groups, self.per_partition)
                some = {name: _taken(table.column(name), chosen) for name in self.columns} if good.size else None
            sizes = level_sizes(table.column(self.effects), self.effects, values) if self.effects else None
            return StreamSurvey(n, used, total, levels, whole, some, units, sizes)


def _levels(column: Any) -> list[Any]:
    """Return the levels that occur in a column, without missing values, in the order of its categorical type or of appearance."""
    import pandas as pd

    series = column if isinstance(column, pd.Series) else pd.Series(np.asarray(column))
    if isinstance(series.dtype, pd.CategoricalDtype):
        there = set(series.dropna().unique())
        return [level for level in series.cat.categories if level in there]
    return series.dropna().unique().tolist()


def _taken(column: Any, rows: Int[Host, " m"]) -> Any:
    """Select rows, by number, of a column: a NumPy array or pandas Series."""
    if hasattr(column, "iloc"):
        if isinstance(column.dtype, np.dtype) and column.dtype.kind in "fiub":
            return column.to_numpy()[rows]
        return column.iloc[rows].reset_index(drop=True)
    return column[rows] if isinstance(column, np.ndarray) else np.asarray(column)[rows]


def _together(parts: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Concatenate the columns of several partitions, at least one; categories, and columns of different types, become objects."""
    import pandas as pd

    def column(values: list[Any]) -> Any:
        if any(isinstance(v, pd.Series) for v in values):
            series = [pd.Series(v) for v in values]
            if len({str(s.dtype) for s in series}) > 1 or isinstance(series[0].dtype, pd.CategoricalDtype):
                series = [s.astype(object) for s in series]
            return pd.concat(series, ignore_index=True)
        return (
            np.ma.concatenate(values)
            if any(isinstance(v, np.ma.MaskedArray) for v in values)
            else np.concatenate(values)
        )

    return {name: column([part[name] for part in parts]) for name in parts[0]}


class InUse(NamedTuple):
    """Columns of a stream that a model uses.

    Attributes:
        reads: names of the columns that the user's function reads, with the keys of effects.
        used: names of the columns that formulas use.
        natural: the layout of the parameters as declared, without formulas.
        view: how the function takes parameters that have formulas: "row", as one row's values, or "array", as vectors over rows;
            "" without formulas.
    """

    reads: tuple[Any, ...]
    used: tuple[str, ...]
    natural: Space
    view: str

    @staticmethod
    def of(likelihood: Likelihood, peek: Table, start: PyTree) -> InUse:
        """Find the columns in use from a table of some rows, ``peek``; ``start``: the structure of undeclared parameters.

        Raises:
            DataTypeError: the columns have no names.
            LikelihoodError, DataError, MissingColumnError, ValueError: the function cannot be traced on these rows, or a formula
                uses a column that does not exist.
        """
        if peek.kind != "mapping":
            raise DataTypeError(f"a stream needs columns with names, got batches of type {type(peek.raw).__name__}")
        if likelihood.effects:
            peek = with_effects(peek, likelihood.effects)
        if not likelihood.predictors:
            space = likelihood.space(peek, start)
            return InUse(tuple(trace_reads(likelihood, peek, space)[0]), (), space, "")
        assert likelihood.natural is not None
        natural = likelihood.natural.space(peek)
        view, reads = regressed_reads(likelihood, peek, natural)
        return InUse(tuple(reads), formula_columns(likelihood.predictors, peek), natural, view)


@dataclass(frozen=True)
class Wanted:
    """What the survey must collect.

    Attributes:
        columns: names of all columns in use.
        weights, kind: name and kind of the weight column; empty without weights.
        categories: columns whose levels are needed.
        whole: columns that are needed as a whole.
        numeric: names of the columns that the user's function reads.
        gaps: if True, rows of the sample with missing values are left out; else they raise DataError.
        unit: name of the column of units, whose rows are next to each other; "" for models of rows.
        effects: column whose labels have effects; empty without effects.
    """

    columns: tuple[str, ...]
    weights: str
    kind: str
    categories: tuple[str, ...]
    whole: tuple[str, ...]
    numeric: tuple[Any, ...]
    gaps: bool = False
    unit: str = ""
    effects: str = ""

    def work(self, columns: tuple[str, ...], n_sampled: int) -> Surveying:
        """Return the survey of one partition that reads ``columns`` and samples ``n_sampled`` rows."""
        categories, whole = self.categories, self.whole
        return Surveying(
            columns, self.weights, self.kind, categories, whole, n_sampled, self.numeric, self.gaps, self.unit, self.effects
        )


def survey(source: Source | GroupedRows, engine: Engine, wanted: Wanted) -> tuple[StreamSurvey, dict[str, Any]]:
    """Survey a stream; return what was collected of all rows, and a sample of rows, column -> values.

    Args:
        source: the stream.
        engine: where its partitions are read.
        wanted: what to collect.

    Raises:
        DataError: no rows, no row of positive weight, invalid weights, missing values in the sample, a unit in several places, or
            a formula that needs all rows of columns at once that take more than 1 GiB.
    """
    if isinstance(source, Parquet):
        known, sample = _survey_files(source, engine, wanted)
    else:
        known, sample = _survey_batches(source, engine, wanted)
    size = known.n * 8 * len(wanted.whole)
    if size > LEARNT_BYTES:
        raise DataError(
            f"the formula needs all rows of {listing(wanted.whole)} at once, as scale, poly, splines and functions of a column's "
            f"mean do; they take {size / 2**30:.1f} GB: compute these columns beforehand, and name them in the formula"
        )
    if known.n_used == 0:
        raise DataError(f"weights column {wanted.weights!r}: expected positive weights, but all {known.n} are zero")
    return known, sample


def _survey_files(source: Parquet, engine: Engine, wanted: Wanted) -> tuple[StreamSurvey, dict[str, Any]]:
    """Survey Parquet files: row counts from their footers, one pass over the columns that are needed, a sample of row groups.

    Returns as :func:`survey`; DataError if there are no rows.
    """
    groups = [g for g in source.partitions() if g.n_rows]
    if not groups:
        which = "no row" if source.filters is None else "no row that passes the filters"
        raise DataError(f"{source!r}: expected at least one row, but there is {which}")
    n = sum(g.n_rows for g in groups)
    others = [name for name in (wanted.weights, wanted.effects) if name]
    needed = tuple(dict.fromkeys([*others, *wanted.categories, *wanted.whole]))
    known = _merged(engine.map(wanted.work(needed, 0), groups)) if needed else StreamSurvey(n, n, float(n))
    chosen = [groups[i] for i in np.unique(np.linspace(0, len(groups) - 1, SAMPLED_PARTITIONS).astype(int))]
    per = max(RUNS, -(-_rows_sampled(wanted) // len(chosen)))
    found = engine.map(Surveying(wanted.columns, "", "", (), (), per, wanted.numeric, wanted.gaps), chosen)
    return known, _together([s.some for s in found if s is not None and s.some])


def _survey_batches(source: Stream | GroupedRows, engine: Engine, wanted: Wanted) -> tuple[StreamSurvey, dict[str, Any]]:
    """Survey a stream of batches (or of whole units) in one pass over all columns in use: count rows, and sample rows of evenly
    spaced batches.

    Returns as :func:`survey`; DataError if there are no rows, or the rows of a unit are in several places.
    """
    found: list[StreamSurvey] = []
    sizes: Sizes | None = None
    parts: list[dict[str, Any]] = []
    stride, per_batch = 1, limits().batch_sample_rows
    with closing(engine.map(wanted.work(wanted.columns, per_batch), source.partitions())) as surveys:
        for i, s in enumerate(surveys):
            if s is None:
                continue
            if i % stride == 0 and s.some:
                parts.append(s.some)
                if len(parts) * per_batch > 2 * _rows_sampled(wanted):
                    parts, stride = parts[::2], stride * 2
            sizes = together(sizes, s.sizes)  # at once: one for each batch may be more than the memory has
            found.append(replace(s, some=None, sizes=None))
    known = replace(_merged(found), sizes=sizes)
    if wanted.unit:
        units = [s.units for s in found if s.units is not None]
        known.units = merged_units(units, wanted.unit)
    return known, _together(parts)


def _rows_sampled(wanted: Wanted) -> int:
    """Return the number of rows of the sample: 524,288, or fewer if there are many columns (128 MB in all)."""
    return min(limits().stream_sample_rows, SAMPLED_BYTES // (8 * max(len(wanted.columns), 1)))


def _merged(found: Iterable[StreamSurvey | None]) -> StreamSurvey:
    """Combine the surveys of all partitions (None for empty ones) into one, without sample and units.

    Raises:
        DataError: all partitions are empty.
    """
    parts: list[StreamSurvey] = []
    sizes: Sizes | None = None
    for s in found:
        if s is not None:
            sizes = together(sizes, s.sizes)
            parts.append(replace(s, sizes=None))
    if not parts:
        raise DataError("the data have zero rows; expected at least one")
    levels = {name: list(dict.fromkeys(level for s in parts for level in s.levels[name])) for name in parts[0].levels}
    whole = _together([s.whole for s in parts]) if parts[0].whole else {}
    totals = [sum(s.n for s in parts), sum(s.n_used for s in parts), float(np.sum([s.sum_weights for s in parts]))]
    return StreamSurvey(int(totals[0]), int(totals[1]), totals[2], levels, whole, sizes=sizes)


def learnt_designs(
    likelihood: Likelihood,
    sampled: Table,
    in_use: InUse,
    known: StreamSurvey,
    others: Sequence[str],
    coded: bool = False,
) -> Designs:
    """Return the designs of the parameters that have formulas, made from the sample, with levels and knots from all rows.

    Args:
        likelihood: the model.
        sampled: the sample of rows.
        in_use: columns in use.
        known: the survey of all rows.
        others: names of further columns (weights, groups).
        coded: factors with many levels may be integer codes of levels instead of dummy columns.
    """
    seen = sampled.convert(in_use.reads, others=[*others, *in_use.used])
    made = _formulas_of(likelihood, sampled, in_use, known, coded)
    return Designs(made, in_use.view, seen, in_use.natural, in_use.used, {})


def _formulas_of(
    likelihood: Likelihood, table: Table, in_use: InUse, known: StreamSurvey, coded: bool
) -> tuple[Design, ...]:
    """Return the design of each parameter that has a formula, made from the sample, with levels and knots from the survey."""
    wide = _with_every_level(table, in_use.used, known.levels)
    made = []
    for p in likelihood.predictors:
        own = formula_columns([p], table)
        whole = bool(own) and all(name in known.whole for name in own)
        of = ingest({name: known.whole[name] for name in own}) if whole else wide
        made.append(first_design(p, of, None, in_use.natural, coded)[0])
    return tuple(made)


def _with_every_level(table: Table, used: Sequence[str], levels: Mapping[str, list[Any]]) -> Table:
    """Return the columns ``used`` by formulas as a table, with rows appended so that every one of the ``levels`` (column ->
    levels) occurs.

    If there are no levels, nothing is appended; if no columns are used, ``table`` itself is returned.
    """
    import pandas as pd

    columns = {name: table.column(name) for name in used}
    if not levels:
        return ingest(columns) if columns else table
    most = max(map(len, levels.values()))
    out: dict[str, Any] = {}
    for name, column in columns.items():
        plain = np.asarray(column)
        more = np.resize(np.array(levels[name], dtype=object), most) if name in levels else np.resize(plain[:1], most)
        joined = np.concatenate([plain.astype(object) if name in levels else plain, more])
        if name in levels and isinstance(getattr(column, "dtype", None), pd.CategoricalDtype):
            out[name] = pd.Series(pd.Categorical(joined, categories=levels[name]))
        else:
            out[name] = pd.Series(joined).infer_objects() if name in levels else joined
    return ingest(out)
