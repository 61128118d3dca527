"""Load the user's data into the arrays of a fit."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from mlejax import data as data_room
from mlejax.data.formulas import Designs, add_designs, formula_columns, has_designs
from mlejax.data.read import refuse_gaps, without_gaps
from mlejax.data.read.checked import CHAIN, DROP
from mlejax.data.read.table import check_missing
from mlejax.execution import aligned, cached, float64, limits
from mlejax.fit.common import Problem
from mlejax.fit.prepare.loaded import Loaded
from mlejax.latent import LEVELS, THERE, mixture_of
from mlejax.likelihood import ExpectedTotal, Likelihood, regressed_reads, trace_reads
from mlejax.objective.blocks import contributions_at_once
from mlejax.parameters import Space
from mlejax.shapes import Data, Either, Host, PyTree, Shaped

LATENT_NUMBERS = 16_384  # most values (rows times quadrature points) that are evaluated at once


class Reading(NamedTuple):
    """A table with its design matrices, and the names of the columns that the likelihood reads.

    Attributes:
        table: the data, with design matrices as further columns.
        designs: design matrices of the parameters that have formulas, or None.
        space: the layout of the parameters.
        names: names of the columns that the user's function reads.
        n_out: number of values that the function returns, for ``rowwise=False``.
    """

    table: data_room.Table
    designs: Designs | None
    space: Space
    names: tuple[Any, ...]
    n_out: int


def reading_of(
    likelihood: Likelihood,
    table: data_room.Table,
    start: PyTree,
    missing: str | None,
    others: Sequence[str],
    beside: Sequence[tuple[str, Any]] = (),
    example: np.ndarray | None = None,
    coded: bool = False,
) -> Reading:
    """Evaluate the formulas on a table, and trace the likelihood to find which columns it reads.

    Args:
        likelihood: the model.
        table: the data.
        start: example parameters of a model without declared parameters.
        missing: "raise" or "drop" for rows with missing values; None leaves out every row with a missing or infinite value.
        others: names of further columns in use (units, groups, weights).
        beside: (name, values) of weights that are not a column of the data.
        example: row numbers of one data set, on which a function of the whole data is traced; None for all rows.
        coded: categorical predictors with many levels may be stored as integer codes instead of dummy columns.

    Raises:
        DataError, DataTypeError, MissingColumnError: a column does not exist, or cannot be used for what it is read for; data
            without names for formulas.
        LikelihoodError: the function cannot be traced.
        ValueError: no start in a model without declared parameters, or a formula that cannot be evaluated.
    """
    designs, columns = None, likelihood.open_columns
    table = data_room.with_observed(table, columns, to_fit=True)
    if likelihood.effects and likelihood.effects[0] not in table:
        table = data_room.with_effects(table, likelihood.effects)
        table = data_room.with_codes(table, likelihood.coded) if likelihood.coded else table
    if likelihood.predictors and not has_designs(table):
        if table.kind != "mapping":
            raise data_room.DataTypeError(
                f"{likelihood.name}: formulas need data with names, a dict or a DataFrame, got a {type(table.raw).__name__}"
            )
        assert likelihood.natural is not None
        used = formula_columns(likelihood.predictors, table)
        unknown = [name for name in used if name in columns.names]
        if unknown:
            option = "optional=" if unknown[0] in columns.optional else "infinite="
            raise data_room.DataError(
                f"column {unknown[0]!r} is declared {option}, and a formula uses it: a predictor needs a finite value in every "
                "row; drop the rows without one, or impute it"
            )
        natural = likelihood.natural.space(table)
        view, reads = regressed_reads(likelihood, table, natural)
        rows, gaps = table.read(reads, [*others, *used], beside)
        refused = [] if missing is None else [g for g in gaps if g.infinite or missing == "raise"]
        refuse_gaps(rows, refused, closed=[*others, *used])
        rows = without_gaps(rows, gaps)
        table, designs = add_designs(likelihood.predictors, table, rows, natural, view, used, others, coded)
    space = likelihood.space(table, start)
    traced = table if example is None or likelihood.mode != "whole" else data_room.ingest(table.take(example))
    names, n_out = trace_reads(likelihood, traced, space, data_room.by_row(table.keys))
    return Reading(table, designs, space, names, n_out)


def check_missing_allowed(likelihood: Likelihood, missing: str) -> None:
    """Raise DataError or ValueError if ``missing=`` is not "raise" or "drop", or not supported for this likelihood."""
    check_missing(missing)
    if missing != "raise" and likelihood.mode == "whole":
        raise ValueError(
            "missing='drop' is not supported for rowwise=False: dropping rows changes the data that the function receives as a "
            "whole (the lags of a time series); treat missing values inside the function or beforehand"
        )
    if missing != "raise" and likelihood.joint is not None and likelihood.joint.chain and likelihood.joint.time is None:
        raise ValueError(
            "missing='drop' is not supported for mle.Markov without time=: the chain would go from the row before a dropped row "
            "to the row after it in one step.  Keep these rows: declare the outcome in optional=, and give it a log density of 0 "
            "where data['observed'] is False"
        )


def load(
    likelihood: Likelihood,
    data: Data,
    start: PyTree,
    missing: str,
    groups: Sequence[str] = (),
    weights: Any = None,
    weight_kind: str | None = None,
) -> Loaded:
    """Read, check, convert and pad the data; call inside ``float64()``.

    Args:
        likelihood: the model.
        data: the user's table.
        start: example parameters of a model without declared parameters.
        missing: "raise" or "drop".
        groups: names of further columns (clusters); rows with missing values in them are dropped too under "drop".
        weights: name of a column, or one number per row (for ``rowwise=False``: per value that the function returns); rows with
            missing weights are dropped under "drop".
        weight_kind: "frequency", "sampling" or "importance".

    Raises:
        DataError, DataTypeError, MissingColumnError: data, weights or labels that cannot be used.
        ValueError: ``missing`` or ``weight_kind`` is unknown or not supported for this model, or weights for a function that
            returns one number.
        LikelihoodError, ValueError: as in `reading_of`.
    """
    source = data_room.ingest(data)
    kind = data_room.check_weight_kind(weights, weight_kind)
    check_missing_allowed(likelihood, missing)
    whole = likelihood.mode == "whole"
    time = None if likelihood.joint is None else likelihood.joint.time
    by = [key.by for key in (*likelihood.effects, *likelihood.coded)]
    others = [name for name in (*likelihood.grouping, time, *by, *groups) if name is not None]
    beside: list[tuple[str, Any]] = []
    if isinstance(weights, str) and not whole:
        others.append(weights)
    elif weights is not None and not whole:
        beside.append(("weights", weights))
    for name in others:
        source.contents(name)
    reading, designs, space, names, n_out = reading_of(
        likelihood, source, start, missing, others, beside, coded=likelihood.mode == "rows"
    )
    # the gaps of weights beside the data are gaps of the designs now
    advice = DROP if time is None else CHAIN
    rows = reading.convert(names, missing, others, beside if designs is None else (), advice)
    del reading  # where rows are dropped, designs of all rows
    weighing = None if kind is None else _read_weights(likelihood, source, rows, kind, weights, n_out)
    codes, unit_labels, crossed = None, None, None
    if likelihood.unit is not None:
        grouped, crossed = into_units(likelihood, rows, lambda name: rows.select(source.column(name)))
        codes, unit_labels = grouped.codes, grouped.labels
        _check_classes_of_units(likelihood, rows, codes, unit_labels)
        if time is not None:
            data_room.check_steps(rows.select(source.column(time)), codes, unit_labels, likelihood.unit, time)
        if weighing is not None:
            per_unit = data_room.constant_within(weighing.values, codes, grouped.labels, rows=rows)
            weighing = data_room.make_weights(weighing.kind, weighing.name, per_unit, len(grouped.labels))
    levels = _levels(likelihood.effects[0], source, rows, weighing) if likelihood.effects else None
    coded: tuple[data_room.Coded, ...] = ()
    if levels is not None and likelihood.coded:
        coded = tuple(_coded(key, rows) for key in data_room.codes_keys(rows.layout.keys))
        rows, space, coded = _recoded(rows, space, coded, levels, weighing)
        made = space
        space = cached(likelihood, ("space", made), lambda: made)
        if designs is not None:
            designs = replace(designs, natural=_with_coefficients(designs.natural, coded))
    by_term = rows if likelihood.unit is None else grouped.rows
    scaled = None if weighing is None else weighing.values / weighing.scale
    if whole and scaled is None:
        scaled = np.ones(n_out)
    if likelihood.joint is not None and likelihood.mode == "units":
        most: int | None = most_units(likelihood, grouped.mask.shape[1])
    else:
        most = contributions_at_once(likelihood, space, by_term.leaves, by_term.shared, by_term.layout)
    block = limits().block_rows if most is None else min(limits().block_rows, most)
    packed: data_room.Prepared = data_room.pack(by_term, scaled, mode=likelihood.mode, block=block)
    if (
        packed.rows is rows.leaves
    ):  # the user's own memory: scores are computed after the fit, from the data that were fitted
        packed = replace(packed, rows=tuple(map(_copy, rows.leaves)))
    moments = None if weighing is None else weighing.moments()
    found = data_room.fingerprint(rows, moments) if designs is None else designs.fingerprint(moments)
    return Loaded(
        Problem(packed, space),
        rows,
        source,
        codes,
        found,
        weighing,
        designs,
        unit_labels=unit_labels,
        levels=levels,
        coded=coded,
        crossing=crossed,
        with_total=isinstance(likelihood.function, ExpectedTotal),
    )


def into_units(
    likelihood: Likelihood, rows: data_room.Rows, labels: Callable[[str], Any]
) -> tuple[data_room.Units, data_room.Crossing | None]:
    """Group the rows by unit; with random effects of several columns also return their levels (`Crossing`), else None.

    ``labels``: name of a column -> its values, one per row.

    Raises:
        DataError, DataTypeError: missing labels, values that cannot be labels, or values that must be constant within units and
            are not.
    """
    assert likelihood.unit is not None
    factors = () if likelihood.joint is None else likelihood.joint.factors
    if not factors:
        return data_room.units(rows, labels(likelihood.unit), likelihood.unit, likelihood.per_unit), None
    nested = likelihood.unit in likelihood.grouping
    found = data_room.crossing(factors, labels, likelihood.unit if nested else None)
    grouped = data_room.units(found.levels_of(rows, LEVELS), found.units, likelihood.unit)
    return replace(grouped, rows=found.there(grouped.rows, THERE)), found


def _coded(key: data_room.CodesKey, rows: data_room.Rows) -> data_room.Coded:
    """Return the fixed effects of one column that are coefficients (of all levels, used or not), with the level of each row."""
    codes = np.asarray(rows[key]).astype(np.int64) - 1
    return data_room.Coded(key, data_room.Levels(codes, np.array(key.labels, object)))


def _recoded(
    rows: data_room.Rows,
    space: Space,
    coded: tuple[data_room.Coded, ...],
    levels: data_room.Levels,
    weights: data_room.Weights | None,
) -> tuple[data_room.Rows, Space, tuple[data_room.Coded, ...]]:
    """Reduce the coefficients of coded fixed effects to those that are identified.

    Those are the levels that occur in the data, except one for each connected component of levels.

    Returns:
        Rows with new codes, the layout with these coefficients, and the coded effects.
    """
    used = np.ones(rows.n, bool) if weights is None else weights.used
    found = []
    for one in coded:
        now, codes = one.among(levels, used)
        entries = [e._replace(key=now.key) if e.key == one.key else e for e in rows.layout.entries]
        position = next(e.slots[0].position for e in entries if e.key == now.key)
        leaves = (*rows.leaves[:position], codes, *rows.leaves[position + 1 :])
        rows = replace(rows, leaves=leaves, layout=replace(rows.layout, entries=tuple(entries)))
        found.append(now)
    return rows, _with_coefficients(space, found), tuple(found)


def _with_coefficients(space: Space, coded: Sequence[data_room.Coded]) -> Space:
    """Return the layout in which the coefficients of the coded effects have the shapes and labels of ``coded``."""
    labels = {one.key.parameter: one.key.labels for one in coded}
    of = lambda x: replace(x, shape=(len(labels[x.name]),), labels=labels[x.name]) if x.name in labels else x
    return replace(space, leaves=tuple(map(of, space.leaves)))


def _levels(
    key: data_room.EffectKey, source: data_room.Table, rows: data_room.Rows, w: data_room.Weights | None
) -> data_room.Levels:
    """Return the level of each row for fixed effects; a row of weight 0 gets that of the first row of positive weight."""
    levels = data_room.levels_of(rows.select(source.column(key.by)), key.by)
    if w is None or w.used.all():
        return levels
    return levels.of_rows(np.where(w.used, np.arange(len(w.used)), np.argmax(w.used)))


def leave_out(loaded: Loaded, gone: np.ndarray) -> Loaded:
    """Return the data of a row-wise model without the rows of a mask ``gone``, (n,), which are counted as dropped."""
    kept = np.flatnonzero(~gone)
    rows = replace(loaded.rows.take(kept), n_dropped=loaded.rows.n_dropped + int(gone.sum()))
    w, block = loaded.weights, loaded.problem.data.block
    weights = None if w is None else data_room.make_weights(w.kind, w.name, w.values[kept], rows.n)
    scaled = None if weights is None else weights.values / weights.scale
    levels, coded, space = loaded.levels, tuple(one.of_rows(kept) for one in loaded.coded), loaded.problem.space
    if levels is not None:
        levels = levels.of_rows(kept)
        rows, space, coded = _recoded(rows, space, coded, levels, weights)
    packed = data_room.pack(rows, scaled, mode="rows", block=max(block, limits().block_rows))
    designs = loaded.designs
    if designs is not None and coded:
        designs = replace(designs, natural=_with_coefficients(designs.natural, coded))
    data = Problem(packed, space)
    return replace(loaded, problem=data, rows=rows, weights=weights, designs=designs, levels=levels, coded=coded)


def class_covariates(likelihood: Likelihood, layout: data_room.Layout) -> tuple[tuple[int, str], ...]:
    """Return, for classes of units, the arrays that are predictors of class probabilities, which must be constant within units:
    (position among the arrays of the rows, name for messages) of each.

    ``layout``: the layout of the rows.
    """
    mixture = mixture_of(likelihood)
    if mixture is None:
        return ()
    probs = set(mixture.latent.names(mixture.name).values()) - mixture.latent.square(mixture.name)
    entries = [e for e in layout.entries if isinstance(e.key, data_room.DesignKey) and e.key.parameter in probs]
    return tuple((slot.position, f"covariates of {e.key.parameter}") for e in entries for slot in e.slots)  # type: ignore[attr-defined]


def _check_classes_of_units(likelihood: Likelihood, rows: data_room.Rows, codes: np.ndarray, labels: Host) -> None:
    """Raise DataError if predictors of class probabilities, for classes of units, vary within a unit."""
    for position, name in class_covariates(likelihood, rows.layout):
        for column in np.reshape(rows.leaves[position], (rows.n, -1)).T:
            data_room.constant_within(column, codes, labels, name, rows)


def most_units(likelihood: Likelihood, length: int) -> int:
    """Return how many units of ``length`` rows are evaluated at once, so that values at all quadrature points fit the cache."""
    assert likelihood.joint is not None
    return max(LATENT_NUMBERS // (length * likelihood.joint.evaluations), 1)


def _read_weights(
    likelihood: Likelihood, source: data_room.Table, rows: data_room.Rows, kind: str, weights: Any, n_out: int
) -> data_room.Weights:
    """Check and convert weights of the rows, or of the ``n_out`` values that a function of the whole data returns.

    Args:
        likelihood: the model.
        source: the user's table.
        rows: the rows that are used.
        kind: "frequency", "sampling" or "importance".
        weights: name of a column, or numbers.
        n_out: number of values that a function of the whole data returns; the expected total, its last, may have no weight.

    Raises:
        ValueError: a function of the whole data that returns one number.
        DataError, DataTypeError, MissingColumnError: no such column, another number of weights, or weights that are not valid
            (not numbers, missing, infinite, negative, all zero, or frequencies that are not whole numbers).
    """
    name, values = (weights, source.column(weights)) if isinstance(weights, str) else ("", weights)
    if likelihood.mode != "whole":
        return data_room.make_weights(kind, name, rows.select(values), rows.n, rows.index)
    if n_out == 1:
        raise ValueError(
            f"weights= multiplies separate log-likelihood terms, but {likelihood.name} returns one number; return one value per "
            "time point or group"
        )
    if isinstance(likelihood.function, ExpectedTotal) and len(values) == n_out - 1:
        values = np.append(np.asarray(values, np.float64), 1.0)  # the total stands in the log-likelihood as it is
    if len(values) != n_out:
        raise data_room.DataError(
            f"weights: expected one for each of the {n_out} values that {likelihood.name} returns, got {len(values)}"
        )
    return data_room.make_weights(kind, name, values, n_out)


def _copy(column: Shaped[Host, "n ..."]) -> Shaped[Host, "n ..."]:
    """Return a copy of an array in memory aligned for XLA (`aligned`)."""
    copied = aligned(column.shape, column.dtype)
    copied[...] = column
    return copied


def prepare(likelihood: Likelihood, data: Data, *, start: PyTree = None, missing: str = "raise") -> Problem:
    """Load the data and return the `Problem`, a pytree, that :func:`mlejax.solve` takes; arguments and errors as in `load`."""
    with float64():
        problem = load(likelihood, data, start, missing).problem
    if problem.data.streamed:  # whoever takes the tree apart takes all rows
        problem = replace(problem, data=replace(problem.data, rows=tuple(map(np.asarray, problem.data.rows))))
    return problem


def evaluate(likelihood: Likelihood, params: PyTree, data: Data) -> Either:
    """Return the log-likelihood terms, (n,), of a model with formulas at the coefficients ``params``, natural scale.

    ``params`` may be traced; the data may not, and errors of `load` are raised for them.
    """
    problem = prepare(likelihood, data)
    arrays = problem.data
    out = likelihood.contributions(params, jax.tree.map(jnp.asarray, arrays.rows), arrays.shared, arrays.statics)
    return out[: arrays.n_contributions]
