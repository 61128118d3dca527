"""The values of a numeric column as an array of one of three dtypes: float64, int64 or bool.

Values do not change: floats become float64, integers int64, booleans stay. Values that would be rounded raise an error.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from mlejax.data.errors import DataError, DataTypeError, rows_phrase
from mlejax.data.read.columns import NUMERIC, Column, is_extension_array, is_pandas, missing_entries, probe_dtype

if TYPE_CHECKING:
    import pandas as pd


def canonical(array: np.ndarray, where: str, index: Any = None) -> np.ndarray:
    """Return the same values as float64, int64 or bool; the array itself if it has one of these dtypes.

    Args:
        array: floats, integers or booleans of any size.
        where: name of the array in messages.
        index: labels of the rows, for messages, or None.

    Raises:
        DataTypeError: a value would be rounded (long double), or an unsigned integer is beyond int64.

    >>> canonical(np.array([1, 2], np.uint8), "x").dtype
    dtype('int64')
    """
    dtype = array.dtype
    if dtype == np.float64 or dtype == np.int64 or dtype == np.bool_:
        return array
    kind = probe_dtype(dtype)
    if kind == "int":
        if dtype.kind == "u" and dtype.itemsize == 8 and array.size and array.max() > np.iinfo(np.int64).max:
            at = np.argwhere(array > np.iinfo(np.int64).max)
            raise DataTypeError(
                f"{where}: {len(at)} integers of dtype uint64 are beyond the range of int64, at "
                f"{rows_phrase(at[:, 0] if at.shape[1] else [], index)}; first: {array[tuple(at[0])]}. "
                "Expected integers below 2**63: convert to float64 (and lose digits) or recode them"
            )
        return array.astype(np.int64)
    wide = array.astype(np.float64)
    if dtype.kind == "f" and dtype.itemsize > 8:
        lost = (wide.astype(dtype) != array) & ~np.isnan(array)
        if lost.any():
            at = np.argwhere(lost)[:, 0] if array.ndim else np.array([0])
            raise DataTypeError(
                f"{where}: values of dtype {dtype} do not fit into float64 without rounding, at "
                f"{rows_phrase(at, index)}; write .astype(numpy.float64) to round them"
            )
    return wide


def read(column: Column) -> tuple[np.ndarray, np.ndarray | None]:
    """Return the values of a numeric column as float64, int64 or bool, and a mask that is True for its missing entries, whose
    values are 0 or False.

    The mask is None if no entry is masked, NA or None. NaN in a float array is not in the mask: the caller finds it together
    with infinities. Errors as in `canonical`, and DataError if integers beside floats in a DataFrame would be rounded.
    """
    raw, where = column.raw, column.where
    if column.array is not None:
        return _read_sequence(column)
    if isinstance(raw, np.ma.MaskedArray):
        mask = np.ma.getmaskarray(raw)
        data = np.asarray(raw.data)
        if mask.any():
            data = data.copy()
            data[mask] = np.zeros((), data.dtype)
        return canonical(data, where), mask if mask.any() else None
    if is_pandas(raw, "DataFrame"):
        return _read_frame(raw, where, column.probe.kind)
    if is_pandas(raw, "Series", "Index") or is_extension_array(raw):
        return _read_pandas(raw, where, column.index)
    return canonical(np.asarray(raw), where, column.index), None


def _read_sequence(column: Column) -> tuple[np.ndarray, np.ndarray | None]:
    array = np.asarray(column.array)
    if array.dtype != object:
        return canonical(array, column.where), None
    missing = np.asarray(missing_entries(array))
    filled = array.copy()
    filled[missing] = 0
    plain = np.asarray(filled.tolist())
    if plain.dtype == object:
        raise DataTypeError(
            f"{column.where}: a list with missing values has integers beyond the range of int64; expected integers below 2**63: "
            "convert them to floats (and lose digits) or recode them"
        )
    return canonical(plain, column.where), missing


def _read_pandas(column: pd.Series, where: str, index: Any) -> tuple[np.ndarray, np.ndarray | None]:
    if isinstance(column.dtype, np.dtype):
        return canonical(column.to_numpy(), where, index), None
    kind = probe_dtype(column.dtype)
    missing = np.asarray(column.isna(), dtype=bool)
    has = bool(missing.any())
    target: np.dtype[Any] = NUMERIC[kind]
    if kind == "int" and str(column.dtype).lower().startswith("uint"):
        target = np.dtype(np.uint64)
    filled = column.fillna(False if kind == "bool" else 0) if has else column
    values = filled.to_numpy(dtype=target)
    return canonical(values, where, index), missing if has else None


def _read_frame(frame: pd.DataFrame, where: str, kind: str) -> tuple[np.ndarray, np.ndarray | None]:
    dtypes = set(frame.dtypes)
    if len(dtypes) == 1 and isinstance(next(iter(dtypes)), np.dtype):
        return canonical(frame.to_numpy(), where, frame.index), None
    out = np.empty(frame.shape, NUMERIC[kind])
    missing = np.zeros(frame.shape, bool)
    for j, name in enumerate(frame.columns):
        values, mask = _read_pandas(frame.iloc[:, j], f"{where} (entry {name!r})", frame.index)
        if kind == "float" and values.dtype == np.int64 and (np.abs(values) > 2**53).any():
            at = np.flatnonzero(np.abs(values) > 2**53)
            raise DataError(
                f"{where} (entry {name!r}): integers beyond 2**53 in one array with float columns would be rounded, at "
                f"{rows_phrase(at, frame.index)}; pass the column on its own, or as float"
            )
        out[:, j] = values
        if mask is not None:
            missing[:, j] = mask
    return out, missing if missing.any() else None


def is_narrow_float(column: Column) -> bool:
    """True if the values, or a column of a DataFrame, were given as floats of less than 64 bits."""
    raw = column.raw
    dtypes = set(raw.dtypes) if is_pandas(raw, "DataFrame") else {getattr(raw, "dtype", None)}
    return any(probe_dtype(d) == "float" and getattr(d, "itemsize", 8) < 8 for d in dtypes if d is not None)
