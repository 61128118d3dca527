"""Two readers, one result: a stack of arrays, or one long table with groups, become many data sets in one table.

Rows are kept once, in the user's memory where that is possible; a data set is a run of positions into them, so that a
batch larger than the memory that may be used is cut and copied piece by piece.  A data set that cannot be used (a missing
or infinite value, no row left) keeps its place, with the reason.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Any

import jax
import numpy as np

from mlejax import data as data_room
from mlejax.batch.parts import Part, Rows, Slice, array_of, map_arrays
from mlejax.batch.sets import WHOLE_BLOCK, DataSets, padded_size
from mlejax.batch.weighing import Weighing, read_weights, weighed
from mlejax.data import DataError, DataTypeError, Shared, Static
from mlejax.data.held import is_leaf
from mlejax.data.tolerant import Gap, convert_with_gaps
from mlejax.fit.regression import Designs, with_designs
from mlejax.likelihood import Likelihood, trace_reads
from mlejax.objective.blocks import contributions_at_once
from mlejax.parameters import Space

MISSING = ("raise", "drop")


# ---- a stack of arrays


def _in_float64(function: Callable[..., DataSets]) -> Callable[..., DataSets]:
    """Shapes are traced as a fit traces them."""

    @functools.wraps(function)
    def call(*args: Any, **kwargs: Any) -> DataSets:
        with jax.enable_x64(True):
            return function(*args, **kwargs)

    return call


@_in_float64
def stacked(
    likelihood: Likelihood,
    data: Any,
    start: Any,
    missing: str,
    others: Sequence[str] = (),
    weights: Any = None,
    weight_kind: str | None = None,
) -> DataSets:
    """Arrays (n_datasets, n_rows, ...) -> data sets; weights are a column or (n_datasets, n_rows).

    Raises:
        DataError, DataTypeError: arrays of different numbers of data sets or rows, or no arrays.
    """
    _check_missing(missing, likelihood)
    if isinstance(data, (Shared, Static, str)) or data is None:
        raise DataTypeError("fit_batch: expected a dict or tree of arrays (n_datasets, n_rows, ...)")
    n_sets, n = _stack_shape(data)
    flat = map_arrays(data, lambda a: a.reshape(n_sets * n, *a.shape[2:]))
    others = [*([likelihood.unit] if likelihood.unit else []), *others]
    source = reading = data_room.ingest(flat)
    first = data_room.ingest(map_arrays(data, lambda a: a[0]))
    one: Callable[[int], Any] = Slice(data)
    table_rows = Rows(None, np.arange(n_sets) * n, np.full(n_sets, n))
    designs = None
    if likelihood.predictors and not any(isinstance(key, data_room.DesignKey) for key in source.keys):
        reading, designs = with_designs(likelihood, source, "drop", others)
        one = Part(None, reading, table_rows)
        first = data_room.ingest(one(0))
    space = likelihood.space(first, start)
    names, n_out = trace_reads(likelihood, first, space, data_room.by_row(first.keys))
    begins = np.arange(n_sets, dtype=np.int64) * n
    return _gather(
        likelihood,
        source,
        reading,
        designs,
        names,
        others=others if designs is None else [*others, *designs.used],
        order=None,
        begins=begins,
        lengths=np.full(n_sets, n, np.int64),
        missing=missing,
        n_out=lambda length: n_out,
        labels=np.arange(n_sets),
        label_names=("dataset",),
        one=one,
        table_rows=table_rows,
        space=space,
        equal=True,
        index=False,
        weights=weights,
        weight_kind=weight_kind,
    )


def _stack_shape(data: Any) -> tuple[int, int]:
    seen: dict[str, tuple[int, ...]] = {}
    for name, leaf in _named_leaves(data):
        if isinstance(leaf, (Shared, Static)):
            continue
        shape = array_of(leaf, name).shape
        if len(shape) < 2:
            raise DataError(
                f"{name}: expected an array (n_datasets, n_rows, ...), got shape {shape}; what all data sets share is marked "
                "mle.Shared(...), and one long table with a column of groups goes to fit_groups"
            )
        seen[name] = shape[:2]
    if not seen:
        raise DataError("fit_batch: expected arrays (n_datasets, n_rows, ...), got none")
    if len(set(seen.values())) > 1:
        each = ", ".join(f"{name} has {shape}" for name, shape in list(seen.items())[:20])
        raise DataError(
            f"the arrays differ in their first two axes, (n_datasets, n_rows): {each}.  Data sets of different length go to "
            "fit_groups as one long table"
        )
    n_sets, n = next(iter(seen.values()))
    if n_sets == 0 or n == 0:
        raise DataError(f"fit_batch: expected at least one data set of one row, got {n_sets} of {n} rows")
    return n_sets, n


def _named_leaves(data: Any) -> list[tuple[str, Any]]:
    """The leaves with their paths, whatever the names of columns are."""
    parts = [(f"[{key!r}]", value) for key, value in data.items()] if isinstance(data, Mapping) else [("", data)]
    return [
        (name + jax.tree_util.keystr(path) or "the data", leaf)
        for name, part in parts
        for path, leaf in jax.tree_util.tree_flatten_with_path(part, is_leaf=is_leaf)[0]
    ]


# ---- one long table


@_in_float64
def grouped(
    likelihood: Likelihood,
    frame: Any,
    by: Any,
    start: Any,
    missing: str,
    others: Sequence[str] = (),
    weights: Any = None,
    weight_kind: str | None = None,
) -> DataSets:
    """One long table with a column of groups (or several) -> data sets, in order of first appearance.

    Raises:
        DataError, MissingColumnError: no such column, a group label missing, a table without rows.
    """
    _check_missing(missing, likelihood)
    others = [*([likelihood.unit] if likelihood.unit else []), *others]
    source = reading = data_room.ingest(frame)
    codes, labels, label_names = _groups(source, by)
    designs = None
    if likelihood.predictors:  # one set of transforms and levels for all groups
        reading, designs = with_designs(likelihood, source, "drop", others)
    n_groups = len(labels)
    lengths = np.bincount(codes, minlength=n_groups)
    rows_of = np.argsort(codes, kind="stable")
    begins = np.concatenate([[0], np.cumsum(lengths)[:-1]]).astype(np.int64)
    order = None if (np.diff(codes) >= 0).all() else rows_of
    space = likelihood.space(reading, start)
    whole = likelihood.mode == "whole"
    table_rows = Rows(rows_of, begins, lengths)
    one = Part(frame if designs is None else None, reading, table_rows)
    names, _ = trace_reads(
        likelihood, data_room.ingest(one(0)) if whole else reading, space, data_room.by_row(reading.keys)
    )
    if source.kind == "mapping" and source.length([*names] or source.keys) != codes.size:
        raise DataError(f"by=: expected one label per row, got {codes.size} labels")
    by_length: dict[int, int] = {}

    def n_out(length: int) -> int:
        if length not in by_length:
            lane = int(np.flatnonzero(lengths == length)[0])
            by_length[length] = trace_reads(likelihood, data_room.ingest(one(lane)), space)[1]
        return by_length[length]

    return _gather(
        likelihood,
        source,
        reading,
        designs,
        names,
        others=others if designs is None else [*others, *designs.used],
        order=order,
        begins=begins,
        lengths=lengths.astype(np.int64),
        missing=missing,
        n_out=n_out,
        labels=labels,
        label_names=label_names,
        one=one,
        table_rows=table_rows,
        space=space,
        equal=False,
        index=True,
        weights=weights,
        weight_kind=weight_kind,
    )


def _groups(source: data_room.Source, by: Any) -> tuple[np.ndarray, Any, tuple[str, ...]]:
    """Codes 0..G-1 of every row in order of first appearance, labels (tuples for several columns), names."""
    if (
        isinstance(by, (list, tuple))
        and by
        and all(isinstance(b, str) for b in by)
        and (isinstance(by, list) or by not in source)
    ):
        parts = [data_room.group_codes(source.column(name), f"by column {name!r}") for name in by]
        if len(parts) == 1:
            return parts[0][0], list(parts[0][1]), (str(by[0]),)
        joint = np.zeros(len(parts[0][0]), np.int64)
        for codes, labels in parts:
            joint = joint * len(labels) + codes
        codes, distinct = data_room.group_codes(joint, "by")
        out: list[Any] = []
        for value in distinct.tolist():
            entry: list[Any] = []
            for _, labels in reversed(parts):
                value, position = divmod(value, len(labels))
                entry.append(labels[position])
            out.append(tuple(reversed(entry)))
        return codes, out, tuple(str(b) for b in by)
    if isinstance(by, Hashable) and (isinstance(by, str) or by in source):
        codes, labels = data_room.group_codes(source.column(by), f"by column {by!r}")
        return codes, list(labels), (str(by),)
    codes, labels = data_room.group_codes(by, "by")
    name = getattr(by, "name", None)
    return codes, list(labels), (str(name) if name is not None else "group",)


# ---- what both share


def _check_missing(missing: str, likelihood: Likelihood) -> None:
    if missing not in MISSING:
        raise DataError(f"missing={missing!r}: expected 'raise' or 'drop'")
    if missing != "raise" and likelihood.mode == "whole":
        raise ValueError(
            "missing='drop' is refused for rowwise=False: dropping rows changes what the whole function sees (the lags of "
            "a time series); treat missing values inside the function or beforehand"
        )


def _gather(
    likelihood: Likelihood,
    source: data_room.Source,
    reading: data_room.Source,
    designs: Designs | None,
    names: Any,
    *,
    others: Sequence[str],
    order: np.ndarray | None,
    begins: np.ndarray,
    lengths: np.ndarray,
    missing: str,
    n_out: Callable[[int], int],
    labels: Any,
    label_names: tuple[str, ...],
    one: Callable[[int], Any],
    table_rows: Callable[[int], np.ndarray],
    space: Space,
    equal: bool,
    index: bool,
    weights: Any,
    weight_kind: str | None,
) -> DataSets:
    for name in others:
        source.column(name)
    rows, gaps = convert_with_gaps(reading, names, others)
    if designs is not None:  # theirs are those of the columns that they are made of
        gaps = [gap for gap in gaps if not gap.leaf.where.startswith("column <")]
    bad: dict[int, str] = {}
    n_dropped = np.zeros(len(lengths), np.int64)
    full = int(lengths.max())
    weighing = read_weights(source, weights, weight_kind, rows.n)
    if weighing is not None:
        if likelihood.mode == "whole":
            raise ValueError(
                "weights= in a batch is for models by row or unit; with rowwise=False fit the data sets one by one, or multiply "
                "inside the function"
            )
        gaps += weighing.gaps()
    if gaps:
        order, begins, lengths, n_dropped, bad = _without_gaps(
            gaps, order, begins, lengths, missing, rows.index if index else None
        )
    n_rows: np.ndarray = lengths.copy()
    by_contribution = None
    if weighing is not None:
        order = np.arange(rows.n) if order is None else order
        order, begins, lengths, n_rows = weighed(weighing, order, begins, lengths, bad)
        by_contribution = weighing.values
        full = max(int(lengths.max()), 1)
    leaves, layout = rows.leaves, rows.layout
    if likelihood.unit is not None:
        leaves, layout, order, begins, lengths, by_contribution = _units(
            rows, source.column(likelihood.unit), likelihood.unit, order, begins, lengths, by_contribution, bad
        )
        full = int(lengths.max())
    whole = likelihood.mode == "whole"
    if whole:
        sizes = lengths.copy()
    elif equal:
        sizes = np.full(len(lengths), full if full <= WHOLE_BLOCK else data_room.bucket(full), np.int64)
    else:
        sizes = np.array([padded_size(int(n)) for n in lengths], np.int64)
    used = {int(n) for i, n in enumerate(lengths) if i not in bad} if whole else set()
    return DataSets(
        leaves=leaves,
        shared=rows.shared,
        layout=layout,
        mode=likelihood.mode,
        order=order,
        begins=begins,
        lengths=lengths,
        sizes=sizes,
        n_out={n: n_out(n) for n in sorted(used)},
        weighing=weighing,
        weights=by_contribution,
        scale=_scales(weighing, by_contribution, order, begins, lengths),
        n_rows=n_rows,
        n_dropped=n_dropped,
        ragged=not equal and not whole,
        most_rows=contributions_at_once(likelihood, space, leaves, rows.shared, layout),
        bad=bad,
        labels=labels,
        label_names=label_names,
        one=one,
        table_rows=table_rows,
        source=source,
        space=space,
        designs=designs,
    )


def _scales(
    weighing: Weighing | None, weights: Any, order: np.ndarray | None, begins: np.ndarray, lengths: np.ndarray
) -> np.ndarray:
    """The mean of each data set's sampling weights; 1 for others."""
    scale = np.ones(len(lengths))
    if weighing is not None and weighing.kind == "sampling" and order is not None:
        owner = np.repeat(np.arange(len(lengths)), lengths)
        total = np.bincount(owner, weights[order], minlength=len(lengths))
        scale = np.where(lengths > 0, total / np.maximum(lengths, 1), 1.0)
    return scale


def _without_gaps(
    gaps: list[Gap], order: np.ndarray | None, begins: np.ndarray, lengths: np.ndarray, missing: str, index: Any
) -> tuple[np.ndarray | None, np.ndarray, np.ndarray, np.ndarray, dict[int, str]]:
    """Data sets with unusable values lose these rows (missing values, missing="drop") or are set aside with the reason."""
    n = gaps[0].rows.shape[0]
    given, order = order, np.arange(n) if order is None else order
    owner = np.repeat(np.arange(len(lengths)), lengths)
    gone = np.zeros(n, bool)
    hit: dict[int, list[Gap]] = {}
    for gap in gaps:
        where = gap.rows[order]
        if missing == "drop" and not gap.infinite:
            gone |= where
            continue
        for i in np.unique(owner[where]).tolist():
            hit.setdefault(i, []).append(gap)
    bad: dict[int, str] = {}
    for i, found in hit.items():
        mine = order[begins[i] : begins[i] + lengths[i]]
        bad[i] = "; ".join(g.phrase(mine, index) for g in found)
    n_dropped = np.bincount(owner[gone], minlength=len(lengths)).astype(np.int64)
    if not gone.any():
        return given, begins, lengths, n_dropped, bad
    left = lengths - n_dropped
    for i in np.flatnonzero(left == 0).tolist():
        bad.setdefault(
            i, f"missing='drop' leaves no row: all {lengths[i]} have a missing value in a column that is used"
        )
    order = order[~gone]
    return order, np.concatenate([[0], np.cumsum(left)[:-1]]).astype(np.int64), left, n_dropped, bad


def _units(
    rows: data_room.Rows,
    values: Any,
    name: str,
    order: np.ndarray | None,
    begins: np.ndarray,
    lengths: np.ndarray,
    weights: np.ndarray | None,
    bad: dict[int, str],
) -> tuple[Any, Any, np.ndarray, np.ndarray, np.ndarray, np.ndarray | None]:
    """Rows -> padded units; a unit belongs to one data set, and the same label in another one is another unit."""
    order = np.arange(rows.n) if order is None else order
    owner = np.repeat(np.arange(len(lengths)), lengths)
    inside = data_room.group_codes(values, f"unit column {name!r}")[0][order]
    joint = owner * (int(inside.max(initial=0)) + 1) + inside
    made = data_room.units(rows.take(order), joint, name)
    of_unit = np.empty(len(made.labels), np.int64)
    of_unit[made.codes] = owner
    counts = np.bincount(of_unit, minlength=len(lengths)).astype(np.int64)
    if weights is not None:
        each = weights[order]
        first = np.unique(made.codes, return_index=True)[1]
        weights = each[first]
        for i in np.unique(owner[weights[made.codes] != each]).tolist():
            bad.setdefault(i, "weights: expected one value per unit, but they vary within one")
    return (
        made.rows.leaves,
        made.rows.layout,
        np.argsort(of_unit, kind="stable"),
        np.concatenate([[0], np.cumsum(counts)[:-1]]).astype(np.int64),
        counts,
        weights,
    )
