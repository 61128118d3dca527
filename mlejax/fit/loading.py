"""From the user's data to the arrays of a fit, and to labels per contribution."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from mlejax import data as data_room
from mlejax.compiling import on_cpu
from mlejax.fit.common import Problem
from mlejax.fit.lapack import contributions_at_once
from mlejax.fit.regression import Designs, with_designs
from mlejax.likelihood import Likelihood, trace_reads

BLOCK, BLOCK_GPU = 4096, 1 << 17  # rows (or units) whose derivatives are taken together: they fit the cache; they fill a GPU


@dataclass(frozen=True)
class Remembered:
    """What is known of data that did not come along with a saved result.

    Attributes:
        nobs, n_units: observations and contributions that count.
        versions: of what made the result.
    """

    nobs: float
    n_units: float
    versions: Mapping[str, str]


@dataclass(frozen=True, eq=False)
class Loaded:
    """Checked data with what the results need to know about them.

    Attributes:
        problem: arrays for the compiled programs, with the layout of the parameters.
        rows: the checked rows before grouping and padding.
        source: the data as they came (for groups).
        unit_codes: the unit of each row, for models of units.
        fingerprint: of the data.
        weights: of the contributions, or None.
        designs: of the regressed parameters, or None.
        hyper: hyper-parameters of the penalty, or None.
        remembered: what is known of data that are not here, of a result from a file.
    """

    problem: Problem
    rows: data_room.Rows
    source: data_room.Source
    unit_codes: np.ndarray | None
    fingerprint: data_room.Fingerprint
    weights: data_room.Weights | None = None
    designs: Designs | None = None
    hyper: Any = None
    remembered: Remembered | None = None

    @property
    def scale(self) -> float:
        """What the log-likelihood of the optimiser has to be multiplied by."""
        return 1.0 if self.weights is None else self.weights.scale


def counts(loaded: Loaded) -> tuple[float, float]:
    """Observations and contributions that count: the sum of frequency weights, else the number of positive ones."""
    if loaded.remembered is not None:
        return loaded.remembered.nobs, loaded.remembered.n_units
    data, n = loaded.problem.data, n_contributions(loaded.problem.data)
    w = loaded.weights
    if w is None:
        return float(n if data.mode == "whole" and n > 1 else loaded.rows.n), float(n)
    size = w.values if w.kind == "frequency" else w.used.astype(np.float64)
    rows = size if loaded.unit_codes is None else size[loaded.unit_codes]
    return float(rows.sum()), float(size.sum())


def unscaled(loaded: Loaded) -> Loaded:
    """The same data with sampling weights as they were given: against a penalty their scale means something."""
    w = loaded.weights
    if w is None or w.scale == 1.0:
        return loaded
    data = loaded.problem.data
    problem = replace(loaded.problem, data=replace(data, weights=data.weights * w.scale))
    return replace(loaded, problem=problem, weights=replace(w, scale=1.0))


def rows_that_count(loaded: Loaded) -> tuple[np.ndarray, ...]:
    """The checked columns without the rows of weight 0."""
    w = loaded.weights
    if w is None or w.used.all() or loaded.problem.data.mode == "whole":
        return loaded.rows.leaves
    used = w.used if loaded.unit_codes is None else w.used[loaded.unit_codes]
    return tuple(leaf[used] for leaf in loaded.rows.leaves)


def n_contributions(data: data_room.Prepared) -> int:
    """How many contributions the log-likelihood sums: rows, units, or the entries of a whole model."""
    return int(data.weights.shape[0]) if data.mode == "whole" else int(data.n)


def load(
    likelihood: Likelihood,
    data: Any,
    start: Any,
    missing: str,
    groups: Sequence[str] = (),
    weights: Any = None,
    weight_kind: str | None = None,
) -> Loaded:
    """Read, check, convert and pad the data; call inside ``jax.enable_x64(True)``.

    ``groups`` are columns used elsewhere (clusters): their missing values count under ``missing="drop"``, and so do those
    of the weights (a column's name or one number per row; per entry returned by a whole model).
    """
    source = reading = data_room.ingest(data)
    kind = data_room.check_weight_kind(weights, weight_kind)
    whole = likelihood.mode == "whole"
    others = [name for name in (likelihood.unit, *groups) if name is not None]
    beside = []
    if isinstance(weights, str) and not whole:
        others.append(weights)
    elif weights is not None and not whole:
        beside.append(("weights", weights))
    designs = None
    if likelihood.predictors and not any(isinstance(key, data_room.DesignKey) for key in source.keys):
        reading, designs = with_designs(likelihood, source, missing, others, beside)
        beside = []  # their gaps are gaps of the designs now
    space = likelihood.space(reading, start)
    names, n_out = trace_reads(likelihood, reading, space, data_room.by_row(reading.keys))
    if missing != "raise" and likelihood.mode == "whole":
        raise ValueError(
            "missing='drop' is refused for rowwise=False: dropping rows changes what the whole function sees (the lags of "
            "a time series); treat missing values inside the function or beforehand"
        )
    for name in others:
        source.column(name)
    rows = reading.convert(names, missing=missing, others=others, beside=beside)
    del reading  # where rows are dropped, designs of all rows
    weighing = None if kind is None else _read_weights(likelihood, source, rows, kind, weights, n_out)
    codes = None
    packed: data_room.Prepared

    def bounded(rows: data_room.Rows) -> int:
        """Rows or units of a block."""
        most = contributions_at_once(likelihood, space, rows.leaves, rows.shared, rows.layout)
        block = BLOCK if on_cpu() else BLOCK_GPU
        return block if most is None else min(block, most)

    if likelihood.unit is not None:
        grouped = data_room.units(rows, rows.select(source.column(likelihood.unit)), likelihood.unit)
        codes = grouped.codes
        if weighing is not None:
            per_unit = data_room.constant_within(weighing.values, codes, grouped.labels)
            weighing = data_room.make_weights(weighing.kind, weighing.name, per_unit, len(grouped.labels))
        packed = data_room.pack(grouped.rows, _scaled(weighing), mode="units", block=bounded(grouped.rows))
    elif whole:
        packed = data_room.pack(rows, np.ones(n_out) if weighing is None else _scaled(weighing), mode="whole")
    else:
        packed = data_room.pack(rows, _scaled(weighing), block=bounded(rows))
    if not packed.streamed and any(np.may_share_memory(a, b) for a in packed.rows for b in rows.leaves):
        packed = replace(packed, rows=tuple(_own(leaf, rows.leaves) for leaf in packed.rows))
    if weighing is None and designs is None and packed.mode == "rows":
        found = data_room.awaited_fingerprint(rows, packed.rows)
    else:
        moments = None if weighing is None else weighing.moments()
        found = data_room.fingerprint(rows, moments) if designs is None else designs.fingerprint(moments)
    return Loaded(Problem(packed, space), rows, source, codes, found, weighing, designs)


def _scaled(weights: data_room.Weights | None) -> np.ndarray | None:
    return None if weights is None else weights.values / weights.scale


def _read_weights(
    likelihood: Likelihood, source: data_room.Source, rows: data_room.Rows, kind: str, weights: Any, n_out: int
) -> data_room.Weights:
    """Checked weights of the rows, or of the entries that a whole model returns."""
    name, values = (weights, source.column(weights)) if isinstance(weights, str) else ("", weights)
    if likelihood.mode != "whole":
        return data_room.make_weights(kind, name, rows.select(values), rows.n, rows.index)
    if n_out == 1:
        raise ValueError(
            f"weights= multiplies separate contributions, but {likelihood.name} returns one scalar; return one value per "
            "time point or group"
        )
    if len(values) != n_out:
        raise data_room.DataError(
            f"weights: expected one for each of the {n_out} values that {likelihood.name} returns, got {len(values)}"
        )
    return data_room.make_weights(kind, name, values, n_out)


def _own(leaf: Any, users: tuple[np.ndarray, ...]) -> Any:
    """A copy of what is still the user's own memory: scores are taken long after the fit, and must not change with it."""
    if not any(np.may_share_memory(leaf, other) for other in users):
        return leaf
    own = data_room.aligned(leaf.shape, leaf.dtype)
    own[...] = leaf
    return own


def labels_per_contribution(loaded: Loaded, values: Any, name: str) -> np.ndarray:
    """Codes 0..G-1, one for each contribution, of labels given per row, per unit or per entry.

    Raises:
        DataError: another number of labels, missing labels, another row index, labels that vary within a unit.
    """
    rows, n = loaded.rows, n_contributions(loaded.problem.data)
    before = rows.n + rows.n_dropped
    allowed = {n, before} if loaded.problem.data.mode == "whole" else {rows.n, before}
    if len(values) not in allowed:
        raise data_room.DataError(f"{name}: expected one label per row ({before}), got {len(values)}")
    index = getattr(values, "index", None)
    if len(values) == before and rows.n_dropped:
        values = rows.select(values)
    elif len(values) == rows.n and index is not None and hasattr(index, "equals") and _moved(index, rows.index):
        raise data_room.DataError(
            f"{name}: the row labels (index) differ from those of the data.  Rows are matched by position, never by "
            "label: align them, or pass .to_numpy() if the positions are right"
        )
    if loaded.unit_codes is not None and len(values) == rows.n:
        return data_room.constant_within(data_room.group_codes(values, name)[0], loaded.unit_codes, name=name)
    if len(values) != n:
        raise data_room.DataError(f"{name}: expected one label per contribution ({n}), got {len(values)}")
    return data_room.group_codes(values, name)[0]


def _moved(index: Any, rows: Any) -> bool:
    """Row labels that differ from those of the data, where both have some."""
    return rows is not None and not index.equals(rows)


def column_unchanged(loaded: Loaded, unit: str | None = None) -> bool:
    """The user's table still holds the rows that were fitted, in their order; ``unit`` is the column of units, if any.

    It is read anew: a table that was sorted in place has other columns than those that were seen before.
    """
    rows, data, raw = loaded.rows, loaded.problem.data, loaded.source.raw
    if loaded.source.kind != "mapping":
        return True
    if rows.n_dropped:
        if not hasattr(raw, "iloc") or len(raw) != rows.n + rows.n_dropped:
            return not hasattr(raw, "iloc")
        raw = raw.iloc[rows.kept]
    try:
        source = data_room.ingest(raw)
        own = [key for key in rows.layout.keys if key in source]  # designs come after the user's columns
        now = source.convert(own)
        if unit is not None:
            now = data_room.units(now, source.column(unit), unit).rows
    except (ValueError, TypeError, KeyError):
        return False
    w = loaded.weights
    kept = np.ones(now.n, bool) if w is None or data.mode == "whole" or len(w.used) != now.n else w.used
    return all(
        np.shape(a) == np.shape(b[: now.n]) and np.array_equal(a[kept], b[: now.n][kept])
        for a, b in zip(now.leaves, map(as_fitted, data.rows), strict=False)
    )


def as_fitted(leaf: Any) -> np.ndarray:
    """A column that no program has to see, without its padding if it is long: refused if it was changed in place."""
    if not isinstance(leaf, data_room.Tall):
        return np.asarray(leaf)
    leaf.check()
    return leaf.values


def prepare(likelihood: Likelihood, data: Any, *, start: Any = None, missing: str = "raise") -> Problem:
    """Data -> the pytree that :func:`mlejax.solve` takes."""
    with jax.enable_x64(True):
        problem = load(likelihood, data, start, missing).problem
    if problem.data.streamed:  # whoever takes the tree apart takes all rows
        problem = replace(problem, data=replace(problem.data, rows=tuple(map(np.asarray, problem.data.rows))))
    return problem


def evaluate(likelihood: Likelihood, params: Any, data: Any) -> Any:
    """Contributions of a regressed model at coefficients ``params``; data are numbers, params may be traced."""
    problem = prepare(likelihood, data)
    arrays = problem.data
    out = likelihood.contributions(params, jax.tree.map(jnp.asarray, arrays.rows), arrays.shared, arrays.statics)
    return out[: n_contributions(arrays)]
