"""From the user's data to the arrays of a fit, and to labels per contribution."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import jax
import numpy as np

from mlejax import data as data_room
from mlejax.fit.common import Problem
from mlejax.likelihood import Likelihood, trace_reads


@dataclass(frozen=True, eq=False)
class Loaded:
    """Checked data with what the results need to know about them.

    Attributes:
        problem: arrays for the compiled programs, with the layout of the parameters.
        rows: the checked rows before grouping and padding.
        source: the data as they came (for groups).
        unit_codes: the unit of each row, for models of units.
        fingerprint: of the data.
    """

    problem: Problem
    rows: data_room.Rows
    source: data_room.Source
    unit_codes: np.ndarray | None
    fingerprint: data_room.Fingerprint


def n_contributions(data: data_room.Prepared) -> int:
    """How many contributions the log-likelihood sums: rows, units, or the entries of a whole model."""
    return int(data.weights.shape[0]) if data.mode == "whole" else int(data.n)


def load(likelihood: Likelihood, data: Any, start: Any, missing: str, groups: str | None = None) -> Loaded:
    """Read, check, convert and pad the data; call inside ``jax.enable_x64(True)``.

    ``groups`` is a column used elsewhere (clusters): its missing values count under ``missing="drop"``.
    """
    source = data_room.ingest(data)
    space = likelihood.space(source, start)
    names, n_out = trace_reads(likelihood, source, space)
    if missing != "raise" and likelihood.mode == "whole":
        raise ValueError(
            "missing='drop' is refused for rowwise=False: dropping rows changes what the whole function sees (the lags of "
            "a time series); treat missing values inside the function or beforehand"
        )
    others = [name for name in (likelihood.unit, groups) if name is not None]
    for name in others:
        source.column(name)
    rows = source.convert(names, missing=missing, others=others)
    codes = None
    packed: data_room.Prepared
    if likelihood.unit is not None:
        grouped = data_room.units(rows, rows.select(source.column(likelihood.unit)), likelihood.unit)
        codes = grouped.codes
        packed = data_room.pack(grouped.rows, mode="units")
    elif likelihood.mode == "whole":
        packed = data_room.pack(rows, np.ones(n_out), mode="whole")
    else:
        packed = data_room.pack(rows)
    packed = replace(packed, rows=tuple(_own(leaf, rows.leaves) for leaf in packed.rows))
    return Loaded(Problem(packed, space), rows, source, codes, data_room.fingerprint(rows))


def _own(leaf: Any, users: tuple[np.ndarray, ...]) -> Any:
    """A copy of what is still the user's own memory: scores are taken long after the fit, and must not change with it."""
    return np.array(leaf) if any(np.may_share_memory(leaf, other) for other in users) else leaf


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


def column_unchanged(loaded: Loaded) -> bool:
    """The user's table still holds the rows that were fitted, in their order."""
    rows = loaded.rows
    if loaded.source.kind != "mapping" or loaded.unit_codes is not None or rows.n_dropped:
        return True
    now = loaded.source.convert(rows.layout.keys).leaves
    return all(np.array_equal(a, np.asarray(b)[: rows.n]) for a, b in zip(now, loaded.problem.data.rows, strict=True))


def prepare(likelihood: Likelihood, data: Any, *, start: Any = None, missing: str = "raise") -> Problem:
    """Data -> the pytree that :func:`mlejax.solve` takes."""
    with jax.enable_x64(True):
        return load(likelihood, data, start, missing).problem
