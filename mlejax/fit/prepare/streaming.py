"""Data larger than memory: a sample is loaded as any data are, and the rest is known by passes over its partitions.

What a fit has to know of all rows beforehand is collected by a survey (:mod:`mlejax.fit.prepare.stream_survey`).
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, TypeAlias

import numpy as np

from mlejax import data as data_room
from mlejax import optimize
from mlejax.data import DataError, Prepared
from mlejax.data.formulas import category_columns, with_designs_again
from mlejax.data.read import ingest
from mlejax.data.streams import Cut, Engine, Source, Streamed, Threads
from mlejax.execution import limits
from mlejax.fit.common import Problem
from mlejax.fit.elimination_checks import effects_evaluator_of, refuse_effects
from mlejax.fit.prepare.loaded import Loaded
from mlejax.fit.prepare.loading import load
from mlejax.fit.prepare.stream_survey import InUse, Wanted, learnt_designs, survey
from mlejax.likelihood import Likelihood
from mlejax.objective import ChunkedEvaluator, EffectsEvaluator, PartitionedEvaluator, ShardedEvaluator, Spec
from mlejax.optimize import Method
from mlejax.shapes import Data, Host, PyTree

OF_ROWS = (
    "this needs all rows in memory, and the data are a stream (mle.Parquet or mle.Stream). Of a stream there are estimates, "
    "tests, intervals (wald), functions (nlcom), predictions for new data, and the covariances nonrobust, opg, HC0, HC1 and "
    "cluster; for profiles, bootstrap, margins, score_obs and checks by row fit a sample in memory"
)


class Elsewhere:
    """In place of rows that are not in memory: what is known of them; whatever needs the rows themselves is refused.

    Args:
        refusal: what is said then.
        **known: attributes.
    """

    def __init__(self, refusal: str = OF_ROWS, **known: object) -> None:
        self.__dict__.update(known, refusal=refusal)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        raise DataError(self.__dict__.get("refusal", OF_ROWS))

    def __call__(self, *_: object) -> Any:
        """DataError."""
        raise DataError(self.refusal)

    def __getitem__(self, _: object) -> Any:
        raise DataError(self.refusal)


def load_stream(
    likelihood: Likelihood,
    source: Source,
    start: PyTree,
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
    others = [*([weights] if weights else []), *groups]
    for name in others:
        peek.contents(name)
    in_use = InUse.of(likelihood, peek, start)
    columns = tuple(dict.fromkeys([*in_use.reads, *in_use.used, *others]))
    categories, whole = category_columns(likelihood.predictors, peek)
    wanted = Wanted(columns, str(weights or ""), kind or "", categories, whole, in_use.reads)
    known, rows = survey(source, engine, wanted)
    designs = None
    table: Any = rows
    if likelihood.predictors:
        sampled = ingest(rows)
        designs = learnt_designs(likelihood, sampled, in_use, known, others)
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
    likelihood: Likelihood, missing: str, groups: Sequence[str], weights: Any, weight_kind: str | None
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


def evaluator_of(
    spec: Spec, loaded: Loaded, fixed: Host | None, resume: str | os.PathLike[str] | None = None, devices: Any = None
) -> AnyEvaluator:
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


def check_place(data: Data, on: Any, engine: Engine | None) -> None:
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


def check_stream_options(method: Method, bias_reduction: str | None, validation: Any) -> None:
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


def is_stream(data: Data) -> bool:
    """Whether these data are read in passes."""
    return hasattr(data, "partitions") and hasattr(data, "peek")
