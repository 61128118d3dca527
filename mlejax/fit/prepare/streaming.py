"""Data larger than memory (streams): a sample of rows is loaded, and all rows are evaluated in passes over partitions.

What must be known of all rows before the fit is collected by a survey (:mod:`mlejax.fit.prepare.stream_survey`).
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, TypeAlias

import jax
import numpy as np

from mlejax import data as data_room
from mlejax import optimize
from mlejax.data import DataError, Elsewhere, Prepared
from mlejax.data.formulas import category_columns, with_designs_again
from mlejax.data.read import ingest
from mlejax.data.streams import (
    Cut,
    Engine,
    GroupedRows,
    InUnits,
    KeptPasses,
    LevelCodes,
    RowOfLevel,
    Source,
    Streamed,
    Threads,
)
from mlejax.execution import limits
from mlejax.fit.common import Problem
from mlejax.fit.effects_evaluation import effects_evaluator_of, refuse_effects
from mlejax.fit.prepare.loaded import Loaded
from mlejax.fit.prepare.loading import load
from mlejax.fit.prepare.stream_survey import InUse, Wanted, learnt_designs, survey
from mlejax.fit.prepare.stream_units import chunks_of_units, in_units, lengthened, refuse_crossed
from mlejax.likelihood import Likelihood
from mlejax.objective import ChunkedEvaluator, EffectsEvaluator, PartitionedEvaluator, ShardedEvaluator, Spec
from mlejax.optimize import Method
from mlejax.shapes import Bool, Data, Host, PyTree


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
    """Load a stream: survey it, load a sample of its rows, and return the `Loaded` of the whole stream.

    Its ``stream`` makes the passes over all rows, its ``of_sample`` is the sample, and the rows themselves are placeholders
    (`Elsewhere`). Arguments as in `load`, but ``missing`` must be "raise", and ``weights`` the name of a column; ``source``: the
    stream; ``engine``: runs its passes, default threads.

    Raises:
        DataError: ``missing="drop"``, weights that are not the name of a column, ``optional=`` or ``infinite=``; a model with
            ``rowwise=False`` or with latents of several columns; the errors of `survey`.
        ValueError: weights without a valid kind, or a kind without weights.
        Errors of `load` for the sample.
    """
    kind = _check_options(likelihood, missing, groups, weights, weight_kind)
    if likelihood.open_columns.names:
        raise DataError(
            "optional= and infinite= are not supported for a stream: load the columns that are used into memory"
        )
    engine = Threads() if engine is None else engine
    peek = ingest(source.peek())
    joint = likelihood.joint
    key = likelihood.effects[0] if likelihood.effects else None
    by = [likelihood.unit, None if joint is None else joint.time, None if key is None else key.by]
    others = [*([weights] if weights else []), *groups, *(name for name in by if name is not None)]
    for name in others:
        peek.contents(name)
    in_use = InUse.of(likelihood, peek, start)
    reads = tuple(name for name in in_use.reads if name != key)
    columns = tuple(dict.fromkeys([*reads, *in_use.used, *others]))
    categories, whole = category_columns(likelihood.predictors, peek)
    unit, of_effects = likelihood.unit or "", "" if key is None else key.by
    wanted = Wanted(columns, str(weights or ""), kind or "", categories, whole, reads, unit=unit, effects=of_effects)
    read: Source | GroupedRows = source
    if likelihood.unit is not None and not hasattr(source, "grouped"):  # the partitions of an engine's table stay as they are
        read = GroupedRows(source, (likelihood.unit,), columns)
    known, rows = survey(read, engine, wanted)
    designs = None
    table: Any = rows
    if likelihood.predictors:
        sampled = ingest(rows) if key is None else data_room.with_effects(ingest(rows), [key])
        designs = learnt_designs(likelihood, sampled, in_use, known, others, coded=True)
        table = with_designs_again(designs, sampled, "raise", others)
    sample = load(likelihood, table, start, "raise", groups, weights, weight_kind)
    sample = replace(sample, designs=designs)
    scale = known.sum_weights / known.n_used if kind == "sampling" else 1.0
    units, counts, labels, levels, sizes = None, None, None, None, None
    if known.units is not None:
        units, counts, labels = in_units(likelihood, sample, known.units.longest), known.units.counts, known.units.labels
        sample = lengthened(sample, units.length)
    if key is not None:
        assert known.sizes is not None
        names, sizes = known.sizes
        there = sizes[:, 1] > 0  # in rows of positive weight
        levels, sizes = LevelCodes(key, names, np.where(there, np.cumsum(there) - 1, -1)), sizes[there]
    cut = _cut_of(likelihood, sample, wanted, scale, units, levels)
    streamed = Streamed(read, cut, known.n, known.n_used, known.sum_weights, engine, counts, sizes)
    return replace(_elsewhere(sample, streamed, kind), unit_labels=labels)


def _elsewhere(sample: Loaded, streamed: Streamed, kind: str | None) -> Loaded:
    """Return the `Loaded` of a stream: that of its sample, with placeholders (`Elsewhere`) for what is not in memory.

    ``streamed``: the stream, with the conversion of its partitions to chunks; ``kind``: of the weights, None without weights.
    """
    data: Prepared = sample.problem.data
    n = streamed.n_terms
    known = {
        "mode": data.mode,
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
    dropped = streamed.n_left_out
    rows = Elsewhere(
        n=streamed.n - dropped,
        n_dropped=dropped,
        kept=None,
        index=None,
        names=sample.rows.names,
        float32=(),
        layout=sample.rows.layout,
    )
    coded = streamed.cut.levels
    return replace(
        sample,
        problem=Problem(Elsewhere(**known, shared=data.shared, block=data.block), sample.problem.space),  # type: ignore[arg-type]
        rows=rows,  # type: ignore[arg-type]
        source=Elsewhere(raw=None, kind="mapping"),  # type: ignore[arg-type]
        unit_codes=None if streamed.units is None else Elsewhere(),  # type: ignore[arg-type]
        fingerprint=data_room.Fingerprint(streamed.n, {}),
        weights=weighing,
        stream=streamed,
        of_sample=sample,
        levels=None if coded is None else data_room.Levels(np.zeros(0, np.int64), coded.kept),
    )


def without_levels(loaded: Loaded, gone: Bool[Host, " levels"]) -> Loaded:
    """Return the data of a stream without the rows of some levels of the effects (mask, (G,)); these rows are counted as
    dropped.
    """
    assert loaded.stream is not None
    return _of_stream(loaded, loaded.stream.without_levels(gone))


def without_rows_of_stream(loaded: Loaded, rows: Sequence[RowOfLevel]) -> Loaded:
    """Return the data of a stream with effects without some rows, which are counted as dropped; unchanged if ``rows`` is empty.
    """
    assert loaded.stream is not None
    return _of_stream(loaded, loaded.stream.without_rows(rows)) if rows else loaded


def _of_stream(loaded: Loaded, streamed: Streamed) -> Loaded:
    """Return the data of a stream of which only the rows of ``streamed`` are used."""
    assert loaded.of_sample is not None
    made = _elsewhere(loaded.of_sample, streamed, None if loaded.weights is None else loaded.weights.kind)
    return replace(made, hyper=loaded.hyper, left_out=loaded.left_out)


def _check_options(
    likelihood: Likelihood, missing: str, groups: Sequence[str], weights: Any, weight_kind: str | None
) -> str | None:
    """Return the kind of the weights (None without weights).

    Raises:
        ValueError: weights without a valid kind, or a kind without weights.
        DataError: options that streams do not support: models of the whole data, latents of several columns,
            ``missing="drop"``, weights that are not the name of a column.
    """
    kind = data_room.check_weight_kind(weights, weight_kind)
    if likelihood.mode == "whole":
        raise DataError(
            f"{likelihood.name}: models with rowwise=False need their data in memory; streams support models of rows and of "
            "units (unit=). Load the columns in use into memory"
        )
    refuse_crossed(likelihood)
    if missing != "raise":
        raise DataError(
            "missing='drop' is not supported for a stream: exclude these rows where they are read, by filters= of mle.Parquet or "
            "in the query"
        )
    if weights is not None and not isinstance(weights, str):
        raise DataError(
            f"weights=: with a stream, expected the name of a column, got {type(weights).__name__}"
        )
    return kind


def _cut_of(
    likelihood: Likelihood,
    sample: Loaded,
    wanted: Wanted,
    scale: float,
    units: InUnits | None,
    levels: LevelCodes | None,
) -> Cut:
    """Return the conversion (`Cut`) of partitions to chunks, with the layout, dtypes and designs of the loaded sample.

    ``scale``: divisor of the weights; ``units``: how rows become units, None for models of rows; ``levels``: codes of the levels
    of effects, or None.

    Raises:
        DataError: a column is a structure of several arrays.
    """
    rows, data = sample.rows, sample.problem.data
    keys: dict[int, Any] = {}
    for entry in rows.layout.entries:
        by_row = [slot for slot in entry.slots if slot.source == "row"]
        if entry.treedef is not None or len(entry.slots) > 1:
            raise DataError(f"column {entry.key!r}: expected a plain column in a stream, got a structure of several arrays")
        keys |= {slot.position: entry.key for slot in by_row}
    size = limits().chunk_rows or limits().block_rows
    block = min(data.block, size) if size % min(data.block, size) == 0 else size
    if units is not None:
        size, block = chunks_of_units(likelihood, data, units.length)
    return Cut(
        keys=tuple(keys[i] for i in range(len(rows.leaves))),
        dtypes=tuple(a.dtype for a in rows.leaves),
        trailing=tuple(a.shape[1:] for a in rows.leaves),
        shared=rows.shared,
        layout=rows.layout if units is None else data.statics,
        weights=wanted.weights,
        weight_kind=wanted.kind,
        scale=scale,
        designs=sample.designs,
        columns=wanted.columns,
        size=size,
        block=block,
        units=units,
        levels=levels,
    )


AnyEvaluator: TypeAlias = ChunkedEvaluator | EffectsEvaluator | PartitionedEvaluator


def evaluator_of(spec: Spec, loaded: Loaded, fixed: Host | None, devices: Any = None) -> AnyEvaluator:
    """Return the evaluator for loaded data: in memory or in partitions of a stream, with fixed effects or without, or on several
    devices.

    Args:
        spec: the specification.
        loaded: the data.
        fixed: values under ``fixed=``, or None.
        devices: devices over which rows in memory are divided, or None.

    Raises:
        ValueError: devices with fixed effects.
    """
    if loaded.stream is not None:
        if loaded.levels is not None:
            return effects_evaluator_of(spec, loaded, fixed)
        return PartitionedEvaluator(spec, loaded.stream, loaded.seen.problem.data, fixed, loaded.hyper)
    if loaded.levels is not None:
        if devices is not None:
            refuse_effects(spec.likelihood, "on= several devices", "leave out on=")
        return effects_evaluator_of(spec, loaded, fixed)
    if devices is not None:
        return ShardedEvaluator(spec, loaded.problem.data, fixed, loaded.hyper, devices)
    return ChunkedEvaluator(spec, loaded.problem.data, fixed, loaded.hyper)


def keep_passes(loaded: Loaded, folder: str | os.PathLike[str] | None) -> None:
    """Store the results of all further passes over a stream in ``folder``, given as ``resume=``; with None, stop storing them.

    Raises:
        ValueError: the data are in memory, or in several processes.
    """
    if loaded.stream is None:
        if folder is not None:
            raise ValueError(
                "resume= stores the progress of passes over a stream (mle.Parquet, mle.Stream): leave it out for data in memory"
            )
        return
    if folder is not None and jax.process_count() > 1:
        raise ValueError(
            "resume= is not supported for rows of several processes, which make their passes together: leave it out"
        )
    loaded.stream.kept = None if folder is None else KeptPasses(folder, loaded.seen.problem.data)


def check_place(data: Data, on: Any, engine: Engine | None) -> None:
    """Raise DataError for data in memory if ``on=`` is an engine (then ``engine`` is it), and for a stream if it is devices."""
    if engine is not None and not is_stream(data):
        raise DataError(
            f"on={type(on).__name__} needs files that its workers read: give mle.Parquet(...), not data in memory"
        )
    if on is not None and engine is None and is_stream(data):
        raise DataError(
            "on= with devices is not supported for a stream, which is read by the host's cores or by an engine: leave it out"
        )


def with_fingerprint(loaded: Loaded) -> Loaded:
    """Return the loaded data with the fingerprint of a stream, computed in its first pass; unchanged for data in memory."""
    if loaded.stream is None:
        return loaded
    return replace(
        loaded, fingerprint=loaded.stream.fingerprint(None if loaded.weights is None else loaded.weights.kind)
    )


def check_stream_options(method: Method, bias_reduction: str | None, validation: Any) -> None:
    """Raise ValueError for options that need all rows in memory: methods without curvature or on minibatches, bias reduction and
    validation data."""
    name = type(method).__name__.lower()
    if optimize.batched(method):
        raise ValueError(
            f"method={name!r} with batch_size= is not supported for a stream: minibatches are drawn from all rows, in memory. "
            "Load the columns in use into memory, or use method='newton' or 'bhhh'"
        )
    if not method.dense:
        raise ValueError(
            f"method={name!r} is not supported for a stream, since each of its many steps would be a pass over the data: use a "
            "method with curvature, such as 'newton' or 'bhhh', or fit a sample in memory"
        )
    if bias_reduction is not None:
        raise ValueError(
            "bias_reduction= is not supported for a stream, which has so many rows that bias is negligible: leave it out"
        )
    if validation is not None:
        raise ValueError(
            "validation= is not supported for a stream: it needs minibatches, and these all rows in memory: leave it out"
        )


def is_stream(data: Data) -> bool:
    """True if the data are a stream (have ``partitions`` and ``peek``)."""
    return hasattr(data, "partitions") and hasattr(data, "peek")
