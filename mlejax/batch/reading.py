"""Read many data sets from one table: it is read once, like a single data set, and then split by group.

A stack of arrays (n_datasets, n_rows, ...) is a table of n_datasets x n_rows rows in groups of equal size.  The rows are not
copied if possible; a data set is a range of positions into them, so that a batch larger than the memory limit is copied chunk
by chunk.  A data set that cannot be used (a missing or infinite value, no row left) stays in the batch, with the reason.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from mlejax import data as data_room
from mlejax.batch.sets import WHOLE_BLOCK, DataSets, Runs, padded_size
from mlejax.batch.stacks import refuse_tables, stack_shape
from mlejax.data import DataError, DataTypeError, DesignKey, Gap, Shared, Static
from mlejax.data.errors import type_name
from mlejax.data.read import map_columns
from mlejax.data.read.checked import rows_of
from mlejax.data.weights import weight_column, weight_values, wrong_weights
from mlejax.execution import float64
from mlejax.fit.prepare.loading import Reading, check_missing_allowed, into_units, reading_of
from mlejax.likelihood import Likelihood, trace_reads
from mlejax.objective.blocks import contributions_at_once
from mlejax.shapes import Data, Float, Host, Int, PyTree


class _Groups(NamedTuple):
    """The data sets that a table is split into.

    Attributes:
        runs: the rows of each data set.
        labels: labels of the data sets, (L,).
        label_names: names of the columns of labels.
        equal: True if the table is a stack of data sets of one length.
    """

    runs: Runs
    labels: Any
    label_names: tuple[str, ...]
    equal: bool


def stacked(
    likelihood: Likelihood,
    data: Data,
    start: PyTree,
    missing: str,
    others: Sequence[str] = (),
    weights: Any = None,
    weight_kind: str | None = None,
) -> DataSets:
    """Read stacked arrays (n_datasets, n_rows, ...) into `DataSets`, as ``Model.fit_batch`` does.

    Args:
        likelihood: the model.
        data: a dict or tree of the arrays; `Shared` and `Static` are common to all data sets.
        start: start values, for the shapes of parameters that are not declared.
        missing: "raise" or "drop", for missing values of single data sets.
        others: names of further columns in use (clusters).
        weights, weight_kind: name of a column, or numbers (n_datasets, n_rows) or (n_datasets * n_rows,), and their kind.

    Raises:
        DataError: arrays with different numbers of data sets or rows, fewer than two axes, zero rows, or no arrays.
        DataTypeError: tables, tracers, text, or data of another kind.
        ValueError: weights without a kind, or for a model of the whole data.
    """
    if isinstance(data, (Shared, Static, str)) or data is None:
        raise DataTypeError(
            f"fit_batch: expected a dict or tree of arrays (n_datasets, n_rows, ...), got a {type_name(data)}"
        )
    refuse_tables(data)
    n_sets, n = stack_shape(data)
    flat = map_columns(lambda a: np.asarray(a).reshape(n_sets * n, *np.shape(a)[2:]), data)
    runs = Runs.of(None, np.full(n_sets, n, np.int64))
    if np.ndim(weights) == 2:
        weights = np.asarray(weights).reshape(-1)
    groups = _Groups(runs, np.arange(n_sets), ("dataset",), True)
    return _split(likelihood, data_room.ingest(flat), groups, start, missing, others, weights, weight_kind)


def grouped(
    likelihood: Likelihood,
    frame: Any,
    by: Any,
    start: PyTree,
    missing: str,
    others: Sequence[str] = (),
    weights: Any = None,
    weight_kind: str | None = None,
) -> DataSets:
    """Split a long table by groups into `DataSets`, in order of first appearance, as ``Model.fit_groups`` does.

    Args:
        likelihood: the model.
        frame: the table.
        by: name of the column of groups, a list of names (groups are their combinations), or one label for each row.
        start, missing, others, weights, weight_kind: as in `stacked`; weights as numbers are (n,).

    Raises:
        MissingColumnError: no such column.
        DataError: a missing group label, not one label for each row, or a table without rows.
        DataTypeError: values that cannot be labels, or a column in use that is not numeric. ValueError: as in `stacked`.
    """
    table = data_room.ingest(frame)
    codes, labels, label_names = _group_codes(table, by)
    in_order = bool((np.diff(codes) >= 0).all())
    order = None if in_order else np.argsort(codes, kind="stable")
    runs = Runs.of(order, np.bincount(codes, minlength=len(labels)))
    groups = _Groups(runs, labels, label_names, False)
    return _split(likelihood, table, groups, start, missing, others, weights, weight_kind)


def _group_codes(table: data_room.Table, by: Any) -> tuple[Int[Host, " n"], Any, tuple[str, ...]]:
    """Group the rows of a table by ``by``: the name of a column, a list of names, or one label for each row.

    Returns:
        The group 0..G-1 of each row, in order of first appearance; the labels of the groups, tuples for several columns; the
        names of the columns ("group" for labels without a name). Errors as in `grouped`.
    """
    several = isinstance(by, (list, tuple)) and len(by) > 0 and all(isinstance(b, str) for b in by)
    if several and (isinstance(by, list) or by not in table):
        found = [data_room.group_codes(table.column(name), f"by column {name!r}") for name in by]
        joint = np.zeros(len(found[0][0]), np.int64)
        for codes, labels in found:
            joint = joint * len(labels) + codes
        codes, _ = data_room.group_codes(joint, "by")
        first = np.unique(codes, return_index=True)[1]
        columns = [labels[each[first]] for each, labels in found]
        made = list(columns[0]) if len(by) == 1 else list(zip(*columns, strict=True))
        return codes, made, tuple(by)
    if isinstance(by, Hashable) and (isinstance(by, str) or by in table):
        codes, labels = data_room.group_codes(table.column(by), f"by column {by!r}")
        return codes, list(labels), (str(by),)
    codes, labels = data_room.group_codes(by, "by")
    name = getattr(by, "name", None)
    return codes, list(labels), (str(name) if name is not None else "group",)


def _split(
    likelihood: Likelihood,
    table: data_room.Table,
    groups: _Groups,
    start: PyTree,
    missing: str,
    others: Sequence[str],
    weights: Any,
    weight_kind: str | None,
) -> DataSets:
    """Read the table once and split it into `DataSets`; arguments and errors are those of `stacked` and `grouped`.

    Data sets with gaps, without rows or with unusable weights stay, with the reason in ``bad``.
    """
    check_missing_allowed(likelihood, missing)
    kind, whole = _kind_of_weights(likelihood, weights, weight_kind), likelihood.mode == "whole"
    runs, labels, label_names, equal = groups
    time = None if likelihood.joint is None else likelihood.joint.time
    others = [name for name in (*likelihood.grouping, time, *others) if name is not None]
    bad: dict[int, str] = {}
    with float64():
        reading = reading_of(likelihood, table, start, None, others, example=runs(0))
        rows, gaps = reading.table.read(
            reading.names, others if reading.designs is None else [*others, *reading.designs.used]
        )
        if rows.n != runs.n:
            raise DataError(f"by=: expected one label per row, {rows.n}, got {runs.n} labels")
        # a design is missing where one of its own columns is
        gaps = [gap for gap in gaps if not isinstance(gap.column.key, DesignKey)]
        weighing, more = _weights_of(table, weights, kind, rows.n)
        used = _without_gaps(runs, [*gaps, *more], missing, rows.index, bad)
        n_dropped = runs.lengths - used.lengths
        by_term = None
        if weighing is not None:
            used, by_term = _without_zero_weights(used, weighing, bad), weighing.values
        n_rows = used.sums(by_term) if by_term is not None and kind == "frequency" else used.lengths.copy()
        if likelihood.unit is not None:
            if time is not None:
                _check_steps(rows, used, table, likelihood.unit, time)
            rows, used, by_term = _into_units(rows, used, table, likelihood, by_term, bad)
        n_out = _lengths_returned(likelihood, reading, runs, bad) if whole else {}
        most_rows = contributions_at_once(likelihood, reading.space, rows.leaves, rows.shared, rows.layout)
    scale = np.ones(len(runs))
    if by_term is not None and kind == "sampling":
        scale = np.where(used.lengths > 0, used.sums(by_term) / np.maximum(used.lengths, 1), 1.0)
    return DataSets(
        leaves=rows.leaves,
        shared=rows.shared,
        layout=rows.layout,
        mode=likelihood.mode,
        order=used.order,
        begins=used.begins,
        lengths=used.lengths,
        sizes=_padded_sizes(used.lengths, equal, whole),
        n_out=n_out,
        weighing=weighing,
        weights=by_term,
        scale=scale,
        n_rows=n_rows,
        n_dropped=n_dropped,
        ragged=not equal and not whole,
        most_rows=most_rows,
        bad=bad,
        labels=labels,
        label_names=label_names,
        table_rows=runs,
        source=table,
        reading=reading.table,
        space=reading.space,
        designs=reading.designs,
    )


def _kind_of_weights(likelihood: Likelihood, weights: Any, weight_kind: str | None) -> str | None:
    """Return the kind of the weights, or None without weights. ValueError for weights with ``rowwise=False``, and as in
    `check_weight_kind`.
    """
    kind = data_room.check_weight_kind(weights, weight_kind)
    if kind is not None and likelihood.mode == "whole":
        raise ValueError(
            "weights= in a batch is supported for models by row or unit only; with rowwise=False fit the data sets one by one, "
            "or make the weights a column of the data and multiply by them inside the function"
        )
    return kind


def _lengths_returned(likelihood: Likelihood, reading: Reading, runs: Runs, bad: Mapping[int, str]) -> dict[int, int]:
    """Return, for a model of the whole data (``rowwise=False``), the number of values that the function returns, by the
    number of rows of a data set. Only numbers of rows of data sets that are not in ``bad`` are included.
    """
    example = {int(n): i for i, n in enumerate(runs.lengths) if i not in bad}
    one = {n: data_room.ingest(reading.table.take(runs(i))) for n, i in sorted(example.items())}
    return {n: trace_reads(likelihood, table, reading.space)[1] for n, table in one.items()}


def _weights_of(
    table: data_room.Table, weights: Any, kind: str | None, n: int
) -> tuple[data_room.Weights | None, list[Gap]]:
    """Return the weights of all n rows of the table, unscaled and NaN where missing, and the gaps among them: infinite and
    missing values. (None, []) without weights (``kind`` None).
    """
    if kind is None:
        return None, []
    name = weights if isinstance(weights, str) else ""
    column = weight_column(table.column(name) if name else weights, name)
    values = weight_values(column, n)
    found = [Gap(column, np.isinf(values), infinite=True), Gap(column, np.isnan(values))]
    return data_room.Weights(kind, name, values), [gap for gap in found if gap.entries.any()]


def _padded_sizes(lengths: Int[Host, " L"], equal: bool, whole: bool) -> Int[Host, " L"]:
    """Return the padded number of rows (or units) of each data set, (L,): of a stack (``equal``) the largest length for all,
    above 4096 its `bucket`; otherwise the `padded_size` of each; for a model of the whole data (``whole``) the lengths
    themselves.
    """
    if whole:
        return lengths.copy()
    if equal:
        full = max(int(lengths.max()), 1)
        return np.full(len(lengths), full if full <= WHOLE_BLOCK else data_room.bucket(full), np.int64)
    return np.array([padded_size(int(n)) for n in lengths], np.int64)


def _without_gaps(runs: Runs, gaps: Sequence[Gap], missing: str, index: Any, bad: dict[int, str]) -> Runs:
    """Return the data sets without their rows with missing values if ``missing`` is "drop"; unchanged if it is "raise".

    Data sets with gaps that stay (missing values under "raise", infinite values always), and those without a row left, are added
    to ``bad`` with the reason. ``index`` has the labels of the rows of the table, or is None.
    """
    dropped = [gap for gap in gaps if missing == "drop" and not gap.infinite]
    phrases: dict[int, list[str]] = {}
    for gap in gaps:
        if gap not in dropped:
            for i in runs.with_any(gap.rows)[0].tolist():
                drop = "" if gap.infinite else "; missing='drop' leaves such rows out"
                phrases.setdefault(i, []).append(gap.phrase(index, runs(i)) + drop)
    bad.update({i: "; ".join(found) for i, found in phrases.items()})
    if not dropped:
        return runs
    left = runs.only(~rows_of(dropped, runs.n))
    for i in np.flatnonzero(left.lengths == 0).tolist():
        bad.setdefault(
            i, f"missing='drop' leaves no row: all {runs.lengths[i]} have a missing value in a column that is used"
        )
    return left


def _without_zero_weights(runs: Runs, weighing: data_room.Weights, bad: dict[int, str]) -> Runs:
    """Return the data sets without rows whose weight is not positive. Those with unusable weights (missing, infinite, negative,
    fractional frequencies), and those without a row left, are added to ``bad`` with the reason.
    """
    where = f"weights column {weighing.name!r}" if weighing.name else "weights"
    for flags, words in wrong_weights(weighing.values, weighing.kind):
        for i, count in zip(*runs.with_any(flags), strict=True):
            bad.setdefault(int(i), f"{where}: {count} of {runs.lengths[i]} are {words}")
    left = runs.only(weighing.values > 0)
    for i in np.flatnonzero(left.lengths == 0).tolist():
        bad.setdefault(i, f"{where}: all {runs.lengths[i]} are zero, so that no row is left")
    return left


def _check_steps(rows: data_room.Rows, runs: Runs, table: data_room.Table, unit: str, time: str) -> None:
    """Raise DataError unless the times, in the column ``time``, of each unit (column ``unit``) of each data set increase by one
    constant step in the rows that are used (`check_steps`).
    """
    taken = rows.take(runs.positions)
    series, times = np.asarray(taken.select(table.column(unit))), taken.select(table.column(time))
    inside = data_room.group_codes(series, f"unit column {unit!r}")[0]
    _, first, codes = np.unique(
        runs.owner * (int(inside.max(initial=0)) + 1) + inside, return_index=True, return_inverse=True
    )
    data_room.check_steps(times, codes, series[first], unit, time)


def _into_units(
    rows: data_room.Rows,
    runs: Runs,
    table: data_room.Table,
    likelihood: Likelihood,
    weights: Float[Host, " n"] | None,
    bad: dict[int, str],
) -> tuple[data_room.Rows, Runs, Float[Host, " n_units"] | None]:
    """Return the padded units that the rows form, the units of each data set, and the weights of the units (None without).

    A unit belongs to one data set: the same label in another one is another unit. Data sets with weights that vary within a unit
    are added to ``bad`` with the reason. Errors are those of `into_units`.
    """
    owner, taken = runs.owner, rows.take(runs.positions)

    def labels(name: str) -> Int[Host, " n"]:
        inside = data_room.group_codes(taken.select(table.column(name)), f"unit column {name!r}")[0]
        return owner * (int(inside.max(initial=0)) + 1) + inside

    made = into_units(likelihood, taken, labels)[0]
    first = np.unique(made.codes, return_index=True)[1]
    if weights is not None:
        each = weights[runs.positions]
        weights = each[first]
        for i in np.unique(owner[weights[made.codes] != each]).tolist():
            bad.setdefault(i, "weights: expected the same value in all rows of a unit, but they differ within a unit")
    of_unit = owner[first]
    return made.rows, Runs.of(np.argsort(of_unit, kind="stable"), np.bincount(of_unit, minlength=len(runs))), weights
