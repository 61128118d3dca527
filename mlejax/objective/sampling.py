"""Samples of rows that are spread evenly over a data set."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import jax
import numpy as np

from mlejax.data import Prepared, StreamedColumn, divisor
from mlejax.shapes import Bool, Float, Host, Int

MOST_COLUMNS = 32  # of an array of the data, whose extreme rows are looked for
JOINED = 64  # rows of a table that are one long row where the largest value of each column is found


def with_leading_axis(data: Prepared) -> Prepared:
    """Return one data set on the host as a batch of one data set: rows (1, N, ...), weights (1, N) and n (1,), as views; columns
    that are `StreamedColumn` without their padding.
    """
    rows = tuple(np.asarray(leaf.values if isinstance(leaf, StreamedColumn) else leaf)[None] for leaf in data.rows)
    return replace(data, rows=rows, weights=np.asarray(data.weights)[None], n=np.asarray(data.n)[None])


def sample_rows(data: Prepared, n: int) -> Prepared:
    """Return at most n rows (or units) of every data set (L, N, ...), spread evenly, with their own weights; data of mode
    "whole", or with at most n padded rows, unchanged.

    Rows of weight 0 are left out; if a data set has fewer than n other rows, the sample is padded with weight 0.
    """
    if data.mode == "whole" or data.n_padded <= n:
        return data
    index, inside = spread(counted(data, len(data.weights)), n)
    sets = np.arange(len(index))[:, None]
    return replace(
        data,
        rows=jax.tree.map(lambda a: a[sets, index], data.rows),
        weights=np.where(inside, np.take_along_axis(np.asarray(data.weights), index, axis=1), 0.0),
        n=np.full(len(index), n),
        block=divisor(n, data.block),
    )


def sample_of_one(data: Prepared, n: int, chosen: Int[Host, " m"] | None = None) -> Prepared:
    """Return at most n rows (or units) of one data set on the host, with weights under which their sums estimate the sums
    over all rows.

    Data of mode "whole", or with at most n rows, are returned unchanged.  Rows of weight 0 are left out.

    Args:
        data: one data set (N, ...).
        n: largest number of rows.
        chosen: numbers of rows that must be in the sample, with their own weights. The rows of `extreme_rows` are in the sample
            too, since a formula may overflow or lose digits in these alone.
    """
    if data.mode == "whole" or data.n_padded <= n:
        return data
    weights = np.asarray(data.weights)
    named = np.zeros(0, np.int64) if chosen is None else chosen[:n]
    first = np.unique(np.concatenate([named, extreme_rows(data)[: n // 4]]))[:n]
    others = weights > 0
    others[first] = False
    rest = np.flatnonzero(others)
    m = min(n - first.size, rest.size)
    spaced = rest[np.linspace(0, rest.size - 1, m).astype(np.int64)] if m else rest[:0]
    kept = np.concatenate([first, spaced])
    order = np.argsort(kept)
    index = np.resize(kept[order], n)
    factor = np.repeat([1.0, rest.size / max(m, 1), 0.0], [first.size, m, n - first.size - m])
    scaled = weights[index] * np.concatenate([factor[: kept.size][order], factor[kept.size :]])
    rows = tuple(np.asarray((np.asarray(leaf) if isinstance(leaf, jax.Array) else leaf)[index]) for leaf in data.rows)
    return replace(data, rows=rows, weights=scaled, n=np.int64(n), block=divisor(n, data.block))


def extreme_rows(data: Prepared) -> Int[Host, " m"]:
    """Return the numbers of the rows (or units) that have the largest or smallest value of a column of floats of one data set,
    and a positive weight; of a matrix only the first 32 columns are searched.
    """
    weights, found = np.asarray(data.weights), []
    for leaf in data.rows:
        values = np.asarray(leaf.values if isinstance(leaf, StreamedColumn) else leaf)[: int(data.n)]
        if values.dtype.kind == "f" and values.size:
            columns = values.reshape(len(values), -1)[:, :MOST_COLUMNS]
            found += [at_extreme(columns, np.argmax), at_extreme(columns, np.argmin)]
    index = np.concatenate(found) if found else np.zeros(0, np.int64)
    return index[weights[index] > 0]


def at_extreme(columns: Float[Host, "n k"], find: Any) -> Int[Host, " k"]:
    """Return, for each column, the number of a row with its largest (``find`` is np.argmax) or smallest value (np.argmin).

    Every 64 rows are joined to one long row, since NumPy searches short rows ten times as slowly as long ones: the place within a
    long row is found first, then which long row it is.
    """
    n, k = columns.shape
    if n < JOINED or not columns.flags.c_contiguous:
        return np.asarray(find(columns, axis=0))
    long = columns[: n - n % JOINED].reshape(-1, JOINED * k)
    place = find((np.max if find is np.argmax else np.min)(long, axis=0).reshape(JOINED, k), axis=0)
    rows = find(long.reshape(-1, JOINED, k)[:, place, np.arange(k)], axis=0) * JOINED + place
    last = np.arange(n - n % JOINED, n)
    among = np.concatenate([rows[None], np.broadcast_to(last[:, None], (last.size, k))])
    return np.asarray(among[find(columns[among, np.arange(k)], axis=0), np.arange(k)])


def counted(data: Prepared, n_sets: int) -> Bool[Host, "sets rows"]:
    """Return True for rows of positive weight of the first ``n_sets`` data sets; for mode "whole" all rows, since its weights
    belong to the terms that the function returns.
    """
    if data.mode == "whole":
        return np.ones((n_sets, int(np.max(data.n))), bool)
    return np.asarray(data.weights)[:n_sets] > 0


def spread(counted: Bool[Host, "sets rows"], most: int) -> tuple[Int[Host, "sets most"], Bool[Host, "sets most"]]:
    """Return the numbers of at most ``most`` counted rows of each data set, spread evenly, and True for the numbers that
    are not padding.  Each data set must have a counted row.
    """
    index, inside = np.zeros((len(counted), most), np.int64), np.zeros((len(counted), most), bool)
    for i, flags in enumerate(counted):
        used = np.flatnonzero(flags)
        m = min(used.size, most)
        index[i] = used[0]
        index[i, :m] = used[np.linspace(0, used.size - 1, m).astype(np.int64)]
        inside[i, :m] = True
    return index, inside
