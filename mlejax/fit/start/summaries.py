"""Statistics of the data's columns from which starts are made: means, standard deviations, minima, for each data set.

Only rows of positive weight are used, and at most 4096 of them, spread over all.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from mlejax.data import Prepared
from mlejax.objective.sampling import counted, spread
from mlejax.shapes import Bool, Float, Host

MAX_COLUMNS = 8  # columns of which statistics are taken
MAX_ROWS = 4096  # rows (or units) of which statistics are taken


class ColumnStatistics(NamedTuple):
    """Statistics of the first K <= 8 numeric columns with one number per row, of L data sets.

    Attributes:
        mean, sd, low: mean, standard deviation and minimum, (L, K); columns that vary and are finite come first.
        varies: whether a column varies and is finite, (L, K).
        n_columns: number of numeric columns in the data.
    """

    mean: Float[Host, "sets columns"]
    sd: Float[Host, "sets columns"]
    low: Float[Host, "sets columns"]
    varies: Bool[Host, "sets columns"]
    n_columns: int


def columns_of(data: Prepared, n_sets: int) -> ColumnStatistics:
    """Compute the statistics of the columns of the first ``n_sets`` data sets."""
    rows, inside, lead = _rows(data, n_sets)
    numeric = [a for a in rows if a.ndim == lead and a.dtype.kind in "fi"]
    found = np.empty((4, n_sets, min(len(numeric), MAX_COLUMNS)))
    with np.errstate(all="ignore"):
        for k, a in enumerate(numeric[:MAX_COLUMNS]):
            found[:, :, k] = _moments(a.astype(np.float64, copy=False), inside)
        mean, sd, low, high = found
        varies = np.isfinite(mean) & np.isfinite(sd) & (sd > 0) & (low < high)
    first = np.argsort(~varies, axis=1, kind="stable")
    mean, sd, low = np.take_along_axis(found[:3], first[None], axis=2)
    return ColumnStatistics(mean, sd, low, np.take_along_axis(varies, first, axis=1), len(numeric))


def small_effect(data: Prepared, n_sets: int) -> Float[Host, " sets"]:
    """Return a small coefficient for each of the first ``n_sets`` data sets, (L,): 0.01 divided by the largest root mean square
    of a numeric column, at most 0.01.

    Design matrices, and columns with NaN or infinite values, are left out.
    """
    rows, inside, lead = _rows(data, n_sets)
    largest = np.ones(n_sets)
    with np.errstate(over="ignore", invalid="ignore"):
        for a in rows:
            if a.dtype.kind not in "fi" or not a.size:
                continue
            if inside is None:
                flat = a.astype(np.float64, copy=False).reshape(n_sets, -1)
                squares = np.einsum("ln,ln->l", flat, flat) / flat.shape[1]
            else:
                wide = a.astype(np.float64, copy=False).reshape(*a.shape[:lead], -1)
                squares = _mean(np.einsum("...k,...k->...", wide, wide) / wide.shape[-1], inside)
            largest = np.fmax(largest, np.where(np.isinf(squares), 1.0, np.sqrt(squares)))
    return 0.01 / largest


def _rows(data: Prepared, n_sets: int) -> tuple[list[np.ndarray], np.ndarray | None, int]:
    """Return the columns of the first ``n_sets`` data sets to summarise, without design matrices and padding; of long ones a
    sample.

    Returns:
        Arrays (L, n, ...), or (L, n, length, ...) for units; the mask of rows with positive weight (None: all); and the number
        of axes before those of a value, 2 or 3.
    """
    own = data.rows[: data.statics.position("mask") + 1] if data.mode == "units" else data.rows
    hidden = {slot.position for entry in data.statics.entries if isinstance(entry.key, tuple) for slot in entry.slots}
    rows = [np.asarray(leaf)[:n_sets] for i, leaf in enumerate(own) if i not in hidden]
    rows, inside = _without_padding(rows, counted(data, n_sets))
    if inside.shape[1] > MAX_ROWS:
        index, inside = spread(inside, MAX_ROWS)
        rows, inside = _without_padding([a[np.arange(n_sets)[:, None], index] for a in rows], inside)
    if data.mode == "units":
        inside = inside[:, :, None] & rows[-1]
    return rows, None if inside.all() else inside, 3 if data.mode == "units" else 2


def _without_padding(rows: list[np.ndarray], inside: np.ndarray) -> tuple[list[np.ndarray], np.ndarray]:
    """Return the columns and the mask ``inside`` as views without the rows after the last one that counts in any data set, if all
    rows before that count; else unchanged.
    """
    n = int(inside.sum(axis=1).max(initial=0))
    return ([a[:, :n] for a in rows], inside[:, :n]) if inside[:, :n].all() else (rows, inside)


def _mean(a: np.ndarray, inside: np.ndarray | None) -> np.ndarray:
    """Return the mean of a column for each data set, (L,), over the rows of the mask ``inside`` (None: all)."""
    axes = tuple(range(1, a.ndim))
    if inside is None:
        return np.asarray(a.mean(axis=axes))
    return np.asarray(np.where(inside, a, 0.0).sum(axis=axes) / np.maximum(inside.sum(axis=axes), 1))


def _moments(a: np.ndarray, inside: np.ndarray | None) -> tuple[np.ndarray, ...]:
    """Return the mean, standard deviation, minimum and maximum, (L,) each, of a column over the rows of the mask ``inside``
    (None: all).
    """
    mean, axes = _mean(a, inside), tuple(range(1, a.ndim))
    sd = np.sqrt(_mean(np.square(a - mean.reshape(-1, *(1,) * (a.ndim - 1))), inside))
    low, high = (a, a) if inside is None else (np.where(inside, a, np.inf), np.where(inside, a, -np.inf))
    return mean, sd, low.min(axis=axes, initial=np.inf), high.max(axis=axes, initial=-np.inf)
