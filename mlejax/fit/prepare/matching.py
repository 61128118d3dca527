"""Match labels and columns that are given or read after a fit to the rows that were fitted."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from jax.typing import ArrayLike

from mlejax import data as data_room
from mlejax.fit.prepare.loaded import Loaded
from mlejax.likelihood import Likelihood


def labels_per_contribution(loaded: Loaded, values: Any, name: str) -> np.ndarray:
    """Convert group labels to integer codes 0..G-1, one for each log-likelihood term (row, unit, or value of a whole model).

    Args:
        loaded: the data of the fit.
        values: labels, one per row of the user's table or per term.
        name: name of the labels, for messages.

    Raises:
        DataError: another number of labels, missing labels, another row index, labels that vary within a unit.
    """
    rows, n = loaded.rows, loaded.problem.data.n_contributions
    before = rows.n + rows.n_dropped
    allowed = {n, before} if loaded.problem.data.mode == "whole" else {rows.n, before}
    if len(values) not in allowed:
        of_values = loaded.problem.data.mode == "whole" and n != rows.n
        wanted = f"for each of the {n} values that the model returns" if of_values else f"per row ({before})"
        raise data_room.DataError(f"{name}: expected one label {wanted}, got {len(values)}")
    index: Any = getattr(values, "index", None)  # of a list it is a method
    if len(values) == before and rows.n_dropped:
        values = rows.select(values)
    elif len(values) == rows.n and hasattr(index, "equals") and rows.index is not None and not index.equals(rows.index):
        raise data_room.DataError(
            f"{name}: the row labels (index) differ from those of the data.  Rows are matched by position, never by "
            "label: align them, or pass .to_numpy() if the positions are right"
        )
    if loaded.unit_codes is not None and len(values) == rows.n:
        codes = data_room.group_codes(values, name)[0]
        try:
            return data_room.constant_within(codes, loaded.unit_codes, name=name, rows=rows)
        except data_room.DataError as error:
            if loaded.crossing is None:
                raise
            raise data_room.DataError(
                f"{error}.  The model has latents of several columns, so that its units are sets of rows connected by shared "
                "levels: a group must contain all rows of each level of all latents"
            ) from None
    if len(values) != n:
        raise data_room.DataError(
            f"{name}: expected one label for each of the {n} values that the model returns, got {len(values)}"
        )
    return data_room.group_codes(values, name)[0]


def refuse_connected(loaded: Loaded, likelihood: Likelihood, what: str) -> None:
    """Raise ValueError if random effects of several columns connect all rows, so that there is a single log-likelihood term.

    ``what``: the feature that needs several terms, first words of the message.
    """
    if loaded.crossing is not None and loaded.problem.data.n_contributions == 1:
        raise ValueError(
            f"{what} is not supported: latents of {likelihood.unit} connect all rows, so that the log-likelihood has one term "
            "only.  For standard errors use cov_type='nonrobust'; or use a model with latents of one of the columns, which has "
            "one term per level"
        )



def rows_unchanged(loaded: Loaded, likelihood: Likelihood) -> bool:
    """True if the user's table still holds the rows that were fitted, in the same order; the table is read again.

    The result is False, for instance, if the table was sorted in place, or cannot be read any more. Rows of weight 0 may have
    changed. Data that are not a dict or DataFrame, and a dict of which rows with missing values were dropped, are not compared:
    the result is True.
    """
    rows, data, raw = loaded.rows, loaded.problem.data, loaded.source.raw
    if loaded.source.kind != "mapping":
        return True
    if rows.n_dropped:
        if not hasattr(raw, "iloc") or len(raw) != rows.n + rows.n_dropped:
            return not hasattr(raw, "iloc")
        raw = raw.iloc[rows.kept]
    try:
        source, unit = data_room.with_observed(data_room.ingest(raw), likelihood.open_columns), likelihood.unit
        own = [key for key in rows.layout.keys if key in source]  # designs come after the user's columns
        now = source.convert(own)
        if unit is not None:
            labels = source.column(unit) if loaded.crossing is None else loaded.crossing.units
            now = data_room.units(now, labels, unit).rows
            now = replace(now, leaves=now.leaves[:-1])  # without the mask, which comes after the designs
    except (ValueError, TypeError, KeyError):
        return False
    w = loaded.weights
    kept = np.ones(now.n, bool) if w is None or data.mode == "whole" or len(w.used) != now.n else w.used
    return all(
        np.shape(a) == np.shape(b[: now.n]) and np.array_equal(a[kept], b[: now.n][kept])
        for a, b in zip(now.leaves, map(as_fitted, data.rows), strict=False)
    )


def as_fitted(leaf: ArrayLike) -> np.ndarray:
    """Return the column as a NumPy array; DataError if a column that was not copied was changed in place since the fit."""
    if not isinstance(leaf, data_room.StreamedColumn):
        return np.asarray(leaf)
    leaf.check()
    return leaf.values
