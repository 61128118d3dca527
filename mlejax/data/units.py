"""Codes of group labels, and rows grouped into padded units.

A unit (a subject, a choice situation, a cluster with a random effect) is a set of rows. The user's function gets one unit at a
time, padded to a common length: shorter units repeat their own last row, and a mask marks the real rows.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from mlejax.data.errors import DataError, DataTypeError, label, rows_phrase, type_name
from mlejax.data.packing.padding import bucket
from mlejax.data.read.checked import Rows
from mlejax.data.read.columns import is_extension_array, is_pandas, missing_entries
from mlejax.shapes import Host, Int

COMPACT = 4  # integers are coded by a lookup table if their range is less than this many times the number of rows
TRACED_UNIT_LENGTH = 3  # rows of a unit while the user's function is traced to find the columns that it reads


@dataclass(frozen=True, eq=False)
class Units:
    """Rows grouped into units of one padded length.

    Attributes:
        rows: the data, leaves (n_units, length, ...), with the mask as the last leaf and as ``data["mask"]`` in the
            layout; its n is the number of units.
        mask: True for real rows, False for the padding (n_units, length).
        lengths: number of real rows of each unit (n_units,).
        labels: names of the units (n_units,), in order of first appearance.
        codes: for each of the n checked rows, the number of its unit, from 0 (n,).
        positions: for each entry, the position of its row among the checked rows (n_units, length).
    """

    rows: Rows
    mask: np.ndarray
    lengths: np.ndarray
    labels: np.ndarray
    codes: np.ndarray
    positions: np.ndarray


def group_codes(values: Any, name: str = "groups") -> tuple[np.ndarray, np.ndarray]:
    """Return integer codes 0..G-1 of group labels, numbered in order of first appearance, and the labels.

    Args:
        values: (n,) strings, numbers, booleans, dates or categories: an array, a list, a tuple or a Series.
        name: the name of the labels in error messages.

    Returns:
        codes (n,) int64 and labels (G,), with ``labels[codes] == values``.

    Raises:
        DataError: missing values, zero rows, or more than one dimension.
        DataTypeError: a single value, a DataFrame, complex numbers, or values that are not hashable.

    >>> group_codes(["b", "a", "b"])
    (array([0, 1, 0]), array(['b', 'a'], dtype=object))
    """
    array, index = _as_labels(values, name)
    if array.ndim != 1:
        raise DataError(f"{name}: expected one label per row, shape (n,), got shape {array.shape}")
    if array.size == 0:
        raise DataError(f"{name}: zero rows; expected at least one")
    gaps = np.asarray(missing_entries(array))
    if gaps.any():
        at = np.flatnonzero(gaps)
        raise DataError(
            f"{name}: {at.size} of {array.size} labels are missing, at {rows_phrase(at, index)}; expected a label for "
            "every row: give these rows a label of their own, or leave them out"
        )
    if array.dtype.kind in "iu" and int(array.max()) - int(array.min()) < COMPACT * array.size:
        return _codes_of_integers(array)
    if array.dtype != object:
        labels, first, codes = np.unique(array, return_index=True, return_inverse=True)
        order = np.argsort(first, kind="stable")
        rank = np.empty_like(order)
        rank[order] = np.arange(order.size)
        return rank[codes.reshape(-1)].astype(np.int64), labels[order]
    seen: dict[Any, int] = {}
    try:
        codes = np.fromiter((seen.setdefault(v, len(seen)) for v in array), np.int64, array.size)
    except TypeError:
        bad = next((i for i, v in enumerate(array) if not isinstance(v, Hashable)), 0)
        raise DataTypeError(
            f"{name}: expected text, numbers or dates as labels, got a {type_name(array[bad])} in row {bad}: make strings of them"
        ) from None
    labels = np.empty(len(seen), object)
    labels[:] = list(seen)
    return codes, labels


def _codes_of_integers(array: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the codes (n,) and labels (G,) of `group_codes` for an integer array whose range is short, without sorting it."""
    wide = array.astype(np.int64) if array.dtype.kind == "i" else array
    offset = (wide - wide.min()).astype(np.int64)
    first = np.full(int(offset.max()) + 1, -1, np.int64)
    first[offset[::-1]] = np.arange(array.size - 1, -1, -1)  # of equal ones the last to be written stands
    there = np.flatnonzero(first >= 0)
    order = there[np.argsort(first[there], kind="stable")]
    rank = np.empty(first.size, np.int64)
    rank[order] = np.arange(order.size)
    return rank[offset], array[first[order]]


def _as_labels(values: Any, name: str) -> tuple[np.ndarray, Any]:
    """Return labels as an array, and the index of a Series (else None).

    The array keeps a NumPy dtype that the labels have, and a list of integers becomes one of integers; any other labels are
    objects, with None where they are masked.

    DataTypeError as in `group_codes`, except for labels that are not hashable.
    """
    index = values.index if is_pandas(values, "Series") else None
    if is_pandas(values, "Series", "Index") or is_extension_array(values):
        if isinstance(values.dtype, np.dtype):
            return values.to_numpy(), index
        return np.asarray(values.astype(object)), index
    if is_pandas(values, "DataFrame") or isinstance(values, (str, bytes)) or not hasattr(values, "__len__"):
        raise DataTypeError(
            f"{name}: expected one label per row (an array, a list or a Series), got a {type_name(values)}"
        )
    if isinstance(values, np.ma.MaskedArray):
        labels = np.array(values.data, dtype=object)
        labels[np.ma.getmaskarray(values)] = None
        return labels, index
    if isinstance(values, (list, tuple)):
        out: np.ndarray = np.empty(len(values), object)
        for i, value in enumerate(values):
            out[i] = value
        # A list of plain integers is sorted as an array; everything else keeps its own objects.
        return (np.asarray(values), index) if set(map(type, values)) == {int} else (out, index)
    array = np.asarray(values)
    if array.ndim == 0:
        raise DataTypeError(f"{name}: expected one label per row, got a single {type_name(values)}")
    if array.dtype.kind in "cV":
        raise DataTypeError(f"{name}: expected text, numbers or dates as labels, got dtype {array.dtype}: make strings of them")
    return array, index


def units(rows: Rows, unit_values: Any, name: str = "unit", same: Sequence[str] = ()) -> Units:
    """Group rows into units of one padded length, in order of first appearance.

    Rows keep their order within a unit. The common length is the `bucket` of the longest unit, so that data sets of similar
    longest units share a compiled program; shorter units repeat their own last row.

    Args:
        rows: n checked rows.
        unit_values: label of each row's unit (n,); the rows of a unit need not be adjacent.
        name: the name of the labels in error messages.
        same: names of columns that must be constant within each unit; those that the rows do not have are skipped.

    Raises:
        DataError: there is not one label per row, labels are missing, a column is called "mask", the data have no column
            names, or a column of ``same`` varies within a unit.
        DataTypeError: the values cannot be labels; see `group_codes`.

    >>> from mlejax.data import ingest
    >>> u = units(ingest({"y": [1.0, 2.0, 3.0]}).convert(["y"]), ["a", "b", "a"])
    >>> u.rows["y"], u.mask
    (array([[1., 3.],
           [2., 2.]]), array([[ True,  True],
           [ True, False]]))
    """
    codes, labels = group_codes(unit_values, name)
    if codes.size != rows.n:
        raise DataError(f"{name}: expected one label per row, {rows.n}, got {codes.size}")
    for column in same:
        if column in rows.layout.keys:
            constant_within(rows[column], codes, labels, f"column {column!r} (per_unit=)", rows)
    layout = rows.layout.with_mask(len(rows.leaves))
    lengths = np.bincount(codes, minlength=len(labels))
    order = np.argsort(codes, kind="stable")
    starts = np.concatenate([[0], np.cumsum(lengths)[:-1]])
    length = bucket(int(lengths.max()))
    mask = np.arange(length) < lengths[:, None]
    positions = order[padded_positions(starts, lengths, length)]
    leaves = tuple(leaf[positions] for leaf in rows.leaves)
    grouped = replace(
        rows, leaves=(*leaves, mask), layout=layout, n=len(labels), names=(*rows.names, "mask"), kept=None, index=None
    )
    return Units(grouped, mask, lengths, labels, codes, positions)


def padded_positions(starts: Int[Host, " G"], lengths: Int[Host, " G"], length: int) -> Int[Host, "G length"]:
    """Return the positions of the rows of units that begin at ``starts``, padded to one length: shorter units repeat their last
    row.

    >>> padded_positions(np.array([0, 2]), np.array([2, 3]), 3)
    array([[0, 1, 1],
           [2, 3, 4]])
    """
    return starts[:, None] + np.minimum(np.arange(length), lengths[:, None] - 1)


def constant_within(
    values: Any, codes: np.ndarray, labels: Any = None, name: str = "weights", rows: Rows | None = None
) -> np.ndarray:
    """Return one value per unit, from row values that must not vary within a unit.

    Args:
        values: (n,) one value per row (weights, cluster labels).
        codes: (n,) units 0..G-1, every one with at least one row.
        labels: (G,) names of the units, for the message.
        name: the name of the values in error messages.
        rows: the rows, with their numbers in the user's table, for the message; None if the values are of all rows.

    Returns:
        The value of each unit (G,).

    Raises:
        DataError: a unit has two different values (NaN differs from itself), with the unit and the rows in the message; or
            there is not one value per row.

    >>> constant_within(np.array([2.0, 5.0, 2.0]), np.array([0, 1, 0]))
    array([2., 5.])
    """
    array = np.asarray(values)
    if array.shape != codes.shape:
        raise DataError(f"{name}: expected one value per row, {codes.size}, got shape {array.shape}")
    _, first = np.unique(codes, return_index=True)
    per_unit = array[first]
    differs = np.asarray(per_unit[codes] != array)
    if differs.any():
        row = int(np.flatnonzero(differs)[0])
        unit, start = int(codes[row]), int(first[codes[row]])
        name_of_unit = unit if labels is None else labels[unit]
        n_units = np.unique(codes[differs]).size
        at = (start, row) if rows is None else rows.numbered(np.array([start, row])).tolist()
        raise DataError(
            f"{name}: expected one value per unit, but unit {label(name_of_unit)} has {array[start]} in row {at[0]} and "
            f"{array[row]} in row {at[1]} ({n_units} units vary). Make the values constant within each unit"
        )
    return per_unit
