"""Data larger than memory: a sample is loaded as any data are, and the rest is known by passes over its partitions.

Row counts come from the footers of Parquet files.  What a fit has to know of all rows beforehand, such as the sum of the
weights and the levels of categories, is collected in one pass over these columns alone; a reader's batches are counted in it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from typing import Any, TypeAlias

import numpy as np

from mlejax import data as data_room
from mlejax import optimize
from mlejax.data import DataError, DataTypeError, Prepared
from mlejax.data.errors import listing
from mlejax.data.formulas import Design, Designs, category_columns, first_design, formula_columns, with_designs_again
from mlejax.data.read import Table, ingest, refuse_gaps
from mlejax.data.streams import (
    FILTER,
    Cut,
    Engine,
    Parquet,
    Partition,
    Source,
    Stream,
    Streamed,
    Threads,
    has_rows,
    naming,
)
from mlejax.data.weights import make_weights, weight_column, weight_values
from mlejax.execution import limits
from mlejax.fit.common import Problem
from mlejax.fit.elimination_checks import effects_evaluator_of, refuse_effects
from mlejax.fit.loading import Loaded, load
from mlejax.likelihood import Likelihood, regressed_reads, trace_reads
from mlejax.objective import ChunkedEvaluator, EffectsEvaluator, PartitionedEvaluator, ShardedEvaluator, Spec
from mlejax.parameters import Space
from mlejax.shapes import Host, Int

SAMPLED_ROWS, SAMPLED_BYTES = 1 << 19, 1 << 27
BATCH_SAMPLE = 8192  # rows of a batch
RUNS = 4  # of neighbouring rows, in each partition of the sample
SAMPLED_PARTITIONS = 8
LEARNT_BYTES = 1 << 30  # of columns that a formula has to see as a whole


class Elsewhere:
    """In place of rows that are not in memory: what is known of them; whatever needs the rows themselves is refused."""

    def __init__(self, **known: Any) -> None:
        self.__dict__.update(known)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        raise DataError(
            "this needs all rows in memory, and the data are a stream (mle.Parquet or mle.Stream). Of a stream there are "
            "estimates, tests, intervals (wald), functions (nlcom), predictions for new data, and the covariances nonrobust, "
            "opg, HC0, HC1 and cluster; for profiles, bootstrap, margins, score_obs and checks by row fit a sample in memory"
        )


@dataclass
class Survey:
    """What one pass has collected of a partition.

    Attributes:
        n, n_used, sum_weights: rows, those of positive weight, and the sum of the weights.
        levels: of the categories, in the order of their type or of appearance.
        whole: columns that formulas have to see as a whole.
        some: a few rows with all columns in use, or None.
    """

    n: int
    n_used: int
    sum_weights: float
    levels: dict[str, list[Any]] = field(default_factory=dict)
    whole: dict[str, Any] = field(default_factory=dict)
    some: dict[str, Any] | None = None


@dataclass(frozen=True)
class Surveying:
    """The work of the survey on one partition; it travels in a pickle.

    Attributes:
        columns: to read.
        weights, weight_kind: the column of weights, and their kind.
        categories: columns of which all levels are needed.
        whole: columns that are needed as a whole.
        per_partition: rows for the sample, of which the values are checked.
        numeric: columns that the function reads.
    """

    columns: tuple[str, ...]
    weights: str
    weight_kind: str
    categories: tuple[str, ...]
    whole: tuple[str, ...]
    per_partition: int
    numeric: tuple[Any, ...]

    def __call__(self, partition: Partition) -> Survey | None:
        """What is known of the partition; None if it has no rows."""
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
            used, total = (n, float(n)) if values is None else (int((values > 0).sum()), float(values.sum()))
            levels = {name: _levels(table.column(name)) for name in self.categories}
            whole = {name: table.column(name) for name in self.whole}
            some = None
            if self.per_partition:
                others = [name for name in self.columns if name not in self.numeric]
                rows, gaps = table.read(self.numeric, others)
                refuse_gaps(rows, gaps, FILTER)
                some = _some_rows(table, self.columns, n, self.per_partition)
            return Survey(n, used, total, levels, whole, some)


def _levels(column: Any) -> list[Any]:
    import pandas as pd

    series = column if isinstance(column, pd.Series) else pd.Series(np.asarray(column))
    if isinstance(series.dtype, pd.CategoricalDtype):
        there = set(series.dropna().unique())
        return [level for level in series.cat.categories if level in there]
    return series.dropna().unique().tolist()


def _some_rows(table: Table, columns: Sequence[str], n: int, most: int) -> dict[str, Any]:
    """Runs of neighbouring rows, spread over a table, with these columns."""
    size = max(1, min(n, most) // RUNS)
    begins = np.unique(np.linspace(0, n - size, RUNS if n > size else 1).astype(int))
    rows = np.unique(np.concatenate([np.arange(b, b + size) for b in begins]))
    return {name: _taken(table.column(name), rows) for name in columns}


def _taken(column: Any, rows: Int[Host, " m"]) -> Any:
    if hasattr(column, "iloc"):
        if isinstance(column.dtype, np.dtype) and column.dtype.kind in "fiub":
            return column.to_numpy()[rows]
        return column.iloc[rows].reset_index(drop=True)
    return column[rows] if isinstance(column, np.ndarray) else np.asarray(column)[rows]


def _together(parts: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Rows of several partitions, one below the other."""
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


def load_stream(
    likelihood: Likelihood,
    source: Source,
    start: Any,
    missing: str,
    groups: Sequence[str] = (),
    weights: Any = None,
    weight_kind: str | None = None,
    engine: Engine | None = None,
) -> Loaded:
    """As `load`, of data that are read in passes.

    Raises:
        DataError, DataTypeError: options that need all rows in memory; what `load` refuses of the sample.
    """
    kind = _check_options(likelihood, missing, groups, weights, weight_kind)
    if likelihood.open_columns.names:
        raise DataError("optional= and infinite= need all rows at once: load the columns that are used into memory")
    engine = Threads() if engine is None else engine
    peek = ingest(source.peek())
    if peek.kind != "mapping":
        raise DataTypeError(f"a stream needs columns with names, got batches of type {type(peek.raw).__name__}")
    others = [*([weights] if weights else []), *groups]
    for name in others:
        peek.contents(name)
    reads, used, natural, view = _columns_in_use(likelihood, peek, start)
    columns = tuple(dict.fromkeys([*reads, *used, *others]))
    categories, whole = category_columns(likelihood.predictors, peek)
    wanted = Wanted(columns, str(weights or ""), kind or "", categories, whole, tuple(reads))
    known, rows = _survey(source, engine, wanted)
    designs = None
    table: Any = rows
    if likelihood.predictors:
        sampled = ingest(rows)
        seen = sampled.convert(reads, others=[*others, *used])
        formulas = _formulas_of(likelihood, sampled, natural, used, known)
        designs = Designs(formulas, view, seen, natural, tuple(used), {})
        table = with_designs_again(designs, sampled, "raise", others)
    sample = load(likelihood, table, start, "raise", groups, weights, weight_kind)
    sample = replace(sample, designs=designs)
    scale = known.sum_weights / known.n_used if kind == "sampling" else 1.0
    streamed = Streamed(source, _cut_of(sample, wanted, scale), known.n, known.n_used, known.sum_weights, engine)
    return _elsewhere(sample, streamed, kind)


def _elsewhere(sample: Loaded, streamed: Streamed, kind: str | None) -> Loaded:
    """The loaded data of a stream, from those of its sample."""
    data: Prepared = sample.problem.data
    n = streamed.n
    known = {
        "mode": "rows",
        "n": np.int64(n),
        "n_padded": n,
        "n_contributions": n,
        "statics": data.statics,
        "streamed": True,
    }
    weighing = None
    if kind is not None:
        name, scale = streamed.cut.weights, streamed.cut.scale
        said = f"{kind} ({name}), sum {streamed.sum_weights:.8g}"
        zeros = n - streamed.n_used
        said += f", {zeros} of weight 0" if zeros else ""
        weighing = data_room.Weights(kind, name, np.zeros(0), scale, said)
    rows = Elsewhere(
        n=n, n_dropped=0, kept=None, index=None, names=sample.rows.names, float32=(), layout=sample.rows.layout
    )
    return replace(
        sample,
        problem=Problem(Elsewhere(**known, shared=data.shared, block=data.block), sample.problem.space),  # type: ignore[arg-type]
        rows=rows,  # type: ignore[arg-type]
        source=Elsewhere(raw=None, kind="mapping"),  # type: ignore[arg-type]
        fingerprint=data_room.Fingerprint(n, {}),
        weights=weighing,
        stream=streamed,
        of_sample=sample,
    )


def _check_options(
    likelihood: Likelihood, missing: str, groups: Sequence[str], weights: Any, weight_kind: Any
) -> str | None:
    """The kind of the weights; options that a stream does not offer are refused by name."""
    kind = data_room.check_weight_kind(weights, weight_kind)
    if likelihood.mode != "rows":
        what = f"unit={likelihood.unit!r}" if likelihood.mode == "units" else "rowwise=False"
        raise DataError(
            f"{likelihood.name}: models with {what} need their data in memory; a stream is for models by row. Load the columns "
            "in use, or fit a sample of whole units"
        )
    if missing != "raise":
        raise DataError(
            "missing='drop' is not offered for a stream: exclude these rows where they are read, by filters= of mle.Parquet or "
            "in the query"
        )
    if weights is not None and not isinstance(weights, str):
        raise DataError(
            "weights= of a stream is the name of a column, not numbers: their rows would have to be matched"
        )
    return kind


def _columns_in_use(likelihood: Likelihood, peek: Table, start: Any) -> tuple[list[Any], list[str], Any, str]:
    """What the function reads, what the formulas use, the layout as declared, and the view of regressed parameters."""
    if not likelihood.predictors:
        space = likelihood.space(peek, start)
        return list(trace_reads(likelihood, peek, space)[0]), [], space, ""
    assert likelihood.natural is not None
    natural = likelihood.natural.space(peek)
    view, reads = regressed_reads(likelihood, peek, natural)
    return list(reads), list(formula_columns(likelihood.predictors, peek)), natural, view


@dataclass(frozen=True)
class Wanted:
    """What has to be known of all rows before a fit.

    Attributes:
        columns: in use.
        weights, kind: the column of weights and their kind, or "".
        categories, whole: columns whose levels are needed, and columns that are needed as a whole.
        numeric: columns that the function reads.
    """

    columns: tuple[str, ...]
    weights: str
    kind: str
    categories: tuple[str, ...]
    whole: tuple[str, ...]
    numeric: tuple[Any, ...]

    def work(self, columns: tuple[str, ...], n_sampled: int) -> Surveying:
        """The survey of one partition: of these columns, with so many rows for the sample."""
        return Surveying(columns, self.weights, self.kind, self.categories, self.whole, n_sampled, self.numeric)


def _survey(source: Source, engine: Engine, wanted: Wanted) -> tuple[Survey, dict[str, Any]]:
    """What has to be known of all rows, and a sample of them."""
    if isinstance(source, Parquet):
        known, sample = _survey_files(source, engine, wanted)
    else:
        known, sample = _survey_batches(source, engine, wanted)
    size = known.n * 8 * len(wanted.whole)
    if size > LEARNT_BYTES:
        raise DataError(
            f"the formula has to see all rows of {listing(wanted.whole)} at once (scale, poly, splines, or functions of a "
            f"column's mean), which takes {size / 2**30:.1f} GB: make these columns beforehand, and name them in the formula"
        )
    if known.n_used == 0:
        raise DataError(f"weights column {wanted.weights!r}: all {known.n} are zero, so that no row is left")
    return known, sample


def _survey_files(source: Parquet, engine: Engine, wanted: Wanted) -> tuple[Survey, dict[str, Any]]:
    """Row counts are in the footers; a pass reads the columns of weights, levels and knots alone; some row groups are sampled."""
    groups = [g for g in source.partitions() if g.n_rows]
    if not groups:
        raise DataError(f"{source!r}: there are no rows, or none that passes the filters; expected at least one")
    n = sum(g.n_rows for g in groups)
    needed = tuple(dict.fromkeys([*([wanted.weights] if wanted.weights else []), *wanted.categories, *wanted.whole]))
    known = _merged(engine.map(wanted.work(needed, 0), groups)) if needed else Survey(n, n, float(n))
    chosen = [groups[i] for i in np.unique(np.linspace(0, len(groups) - 1, SAMPLED_PARTITIONS).astype(int))]
    per = max(RUNS, -(-_rows_sampled(wanted) // len(chosen)))
    found = engine.map(Surveying(wanted.columns, "", "", (), (), per, wanted.numeric), chosen)
    return known, _together([s.some for s in found if s is not None and s.some])


def _survey_batches(source: Stream, engine: Engine, wanted: Wanted) -> tuple[Survey, dict[str, Any]]:
    """One pass over all columns in use, which counts the rows and keeps some of every batch, or of every second, fourth, ..."""
    found: list[Survey] = []
    parts: list[dict[str, Any]] = []
    stride = 1
    with closing(engine.map(wanted.work(wanted.columns, BATCH_SAMPLE), source.partitions())) as surveys:
        for i, s in enumerate(surveys):
            if s is None:
                continue
            if i % stride == 0 and s.some:
                parts.append(s.some)
                if len(parts) * BATCH_SAMPLE > 2 * _rows_sampled(wanted):
                    parts, stride = parts[::2], stride * 2
            found.append(replace(s, some=None))
    return _merged(iter(found)), _together(parts)


def _rows_sampled(wanted: Wanted) -> int:
    """Rows of the sample: so many that few passes are left to do, and no more than memory allows for many columns."""
    return min(SAMPLED_ROWS, SAMPLED_BYTES // (8 * max(len(wanted.columns), 1)))


def _merged(found: Iterator[Survey | None]) -> Survey:
    """The surveys of all partitions, in order."""
    parts = [s for s in found if s is not None]
    if not parts:
        raise DataError("the data have zero rows; expected at least one")
    levels = {name: list(dict.fromkeys(level for s in parts for level in s.levels[name])) for name in parts[0].levels}
    whole = _together([s.whole for s in parts]) if parts[0].whole else {}
    totals = [sum(s.n for s in parts), sum(s.n_used for s in parts), float(np.sum([s.sum_weights for s in parts]))]
    return Survey(int(totals[0]), int(totals[1]), totals[2], levels, whole)


def _formulas_of(
    likelihood: Likelihood, table: Table, natural: Space, used: Sequence[str], known: Survey
) -> tuple[Design, ...]:
    """The designs of the regressed parameters, whose levels and transforms are those of all rows."""
    wide = _with_every_level(table, used, known.levels)
    made = []
    for p in likelihood.predictors:
        own = formula_columns([p], table)
        whole = bool(own) and all(name in known.whole for name in own)
        of = ingest({name: known.whole[name] for name in own}) if whole else wide
        made.append(first_design(p, of, None, natural)[0])
    return tuple(made)


def _with_every_level(table: Table, used: Sequence[str], levels: Mapping[str, list[Any]]) -> Table:
    """The columns of formulas with further rows, in which every level occurs."""
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


def _cut_of(sample: Loaded, wanted: Wanted, scale: float) -> Cut:
    """How partitions become chunks, from how the sample did."""
    rows, data = sample.rows, sample.problem.data
    keys: dict[int, Any] = {}
    for entry in rows.layout.entries:
        by_row = [slot for slot in entry.slots if slot.source == "row"]
        if entry.treedef is not None or len(entry.slots) > 1:
            raise DataError(f"column {entry.key!r}: a stream has plain columns, got a structure of several arrays")
        keys |= {slot.position: entry.key for slot in by_row}
    size = limits().chunk_rows or limits().block_rows
    block = min(data.block, size) if size % min(data.block, size) == 0 else size
    return Cut(
        keys=tuple(keys[i] for i in range(len(rows.leaves))),
        dtypes=tuple(a.dtype for a in rows.leaves),
        trailing=tuple(a.shape[1:] for a in rows.leaves),
        shared=rows.shared,
        layout=rows.layout,
        weights=wanted.weights,
        weight_kind=wanted.kind,
        scale=scale,
        designs=sample.designs,
        columns=wanted.columns,
        size=size,
        block=block,
    )


AnyEvaluator: TypeAlias = ChunkedEvaluator | EffectsEvaluator | PartitionedEvaluator


def evaluator_of(spec: Spec, loaded: Loaded, fixed: Any, resume: Any = None, devices: Any = None) -> AnyEvaluator:
    """The evaluator of loaded data: in memory, there over several devices, or in partitions."""
    if loaded.stream is not None:
        return PartitionedEvaluator(spec, loaded.stream, loaded.seen.problem.data, fixed, loaded.hyper, resume)
    if resume is not None:
        raise ValueError(
            "resume= keeps the passes over a stream (mle.Parquet, mle.Stream); data in memory are fitted anew"
        )
    if loaded.levels is not None:
        if devices is not None:
            refuse_effects(spec.likelihood, "on= several devices", "leave out on=")
        return effects_evaluator_of(spec, loaded, fixed)
    if devices is not None:
        return ShardedEvaluator(spec, loaded.problem.data, fixed, loaded.hyper, devices)
    return ChunkedEvaluator(spec, loaded.problem.data, fixed, loaded.hyper)


def check_place(data: Any, on: Any, engine: Engine | None) -> None:
    """Raise DataError where ``on=`` does not suit the data."""
    if engine is not None and not is_stream(data):
        raise DataError(
            f"on={type(on).__name__} runs passes over files that its workers read: give mle.Parquet(...), not data in memory"
        )
    if on is not None and engine is None and is_stream(data):
        raise DataError(
            "on= with devices divides rows in memory; a stream is read by the host's cores, or by an engine"
        )


def with_fingerprint(loaded: Loaded) -> Loaded:
    """With the fingerprint of a stream's rows, which the first pass has summed."""
    if loaded.stream is None:
        return loaded
    return replace(
        loaded, fingerprint=loaded.stream.fingerprint(None if loaded.weights is None else loaded.weights.kind)
    )


def check_stream_options(method: Any, bias_reduction: Any, validation: Any) -> None:
    """Raise ValueError for options that need all rows in memory."""
    name = type(method).__name__.lower()
    if not method.dense or optimize.batched(method):
        raise ValueError(
            f"method={name!r} takes many short steps, and each would be a pass over the stream; use 'newton' or 'bhhh', or fit a "
            "sample in memory"
        )
    if bias_reduction is not None:
        raise ValueError(
            "bias_reduction= needs all rows in memory; with as many rows as a stream has, bias is negligible"
        )
    if validation is not None:
        raise ValueError("validation= goes with minibatches, which need all rows in memory")


def is_stream(data: Any) -> bool:
    """Whether these data are read in passes."""
    return hasattr(data, "partitions") and hasattr(data, "peek")
