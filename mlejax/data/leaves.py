"""One array-like of the user's data: what it is, by its type alone, and its values as a canonical NumPy array.

`probe` looks only at types, dtypes and shapes, so that columns which are never read cost nothing (a list has no dtype,
and is converted once). `read` converts, preserving values: floats to float64, integers to int64, booleans as they are.
What cannot be converted without loss is refused, mostly by `refusals.refusal`.
"""

from __future__ import annotations

import collections
import math
import sys
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from .errors import DataError, DataTypeError, rows_phrase

NUMERIC = {"float": np.dtype(np.float64), "int": np.dtype(np.int64), "bool": np.dtype(np.bool_)}
_KINDS = {
    "f": "float", "i": "int", "u": "int", "b": "bool", "c": "complex", "U": "text", "S": "text", "T": "text",
    "O": "object", "M": "datetime", "m": "timedelta",
}  # fmt: skip
_PANDAS_TYPES = {
    "CategoricalDtype": "categorical", "DatetimeTZDtype": "datetime", "PeriodDtype": "period",
    "IntervalDtype": "interval", "SparseDtype": "sparse", "StringDtype": "text",
}  # fmt: skip
_SEQUENCES = (list, range, collections.deque)
_PLAIN = {float, int, bool}
_pandas_classes: dict[tuple[str, ...], tuple[type, ...]] = {}  # filled once pandas is there


class Probe(NamedTuple):
    """What an array-like is: "float", "int", "bool", or the name of the reason why it is not numeric; and its shape."""

    kind: str
    shape: tuple[int, ...]


@dataclass(slots=True)
class Leaf:
    """One array-like, how to name it to the user, and what is known of it so far."""

    raw: Any
    where: str
    shared: bool = False
    probe_: Probe | None = field(default=None, repr=False)
    array: Any = field(default=None, repr=False)  # a list, converted

    @property
    def probe(self) -> Probe:
        if self.probe_ is None:
            if type(self.raw) is not np.ndarray and isinstance(self.raw, _SEQUENCES):
                self.array, kind = _from_sequence(self.raw)
                self.probe_ = Probe(kind, (len(self.raw),) if self.array is None else self.array.shape)
            else:
                self.probe_ = probe(self.raw)
            if self.probe_.shape == () and not self.shared and self.probe_.kind in NUMERIC:
                self.probe_ = Probe("scalar", ())
        return self.probe_

    @property
    def index(self) -> Any:
        """The pandas index of the rows, or None."""
        return self.raw.index if is_pandas(self.raw, "Series", "DataFrame") else None


def is_pandas(value: Any, *names: str) -> bool:
    """Whether the value is an instance of one of these pandas classes, without importing pandas."""
    if type(value) is np.ndarray:
        return False
    classes = _pandas_classes.get(names)
    if classes is None:
        pandas = sys.modules.get("pandas")
        if pandas is None or not hasattr(pandas, "DataFrame"):  # not imported, or being imported by another thread
            return False
        classes = _pandas_classes[names] = tuple(getattr(pandas, name) for name in names)
    return isinstance(value, classes)


def is_extension_array(value: Any) -> bool:
    """Whether the value is a bare pandas extension array (a Categorical, an IntegerArray, ...)."""
    pandas = sys.modules.get("pandas")
    return pandas is not None and isinstance(value, pandas.api.extensions.ExtensionArray)


def probe_dtype(dtype: Any) -> str:
    """The kind of a NumPy, JAX or pandas dtype.

    >>> probe_dtype(np.dtype("float32")), probe_dtype(np.dtype("<M8[s]"))
    ('float', 'datetime')
    """
    if isinstance(dtype, np.dtype):
        if dtype.names is not None:
            return "structured"
        if dtype.kind in _KINDS:
            return _KINDS[dtype.kind]
    for cls in type(dtype).__mro__:
        if cls.__name__ in _PANDAS_TYPES:
            return _PANDAS_TYPES[cls.__name__]
    # The dtypes of ml_dtypes (bfloat16, float8, int4) have the NumPy kind "V".
    for group, kind in ((jax.dtypes.prng_key, "key"), (jnp.floating, "float"), (jnp.integer, "int")):
        if _is_sub(dtype, group):
            return kind
    return _KINDS.get(getattr(dtype, "kind", "?"), "unknown")


def _is_sub(dtype: Any, group: Any) -> bool:
    try:
        return bool(jnp.issubdtype(dtype, group))
    except TypeError:
        return False


def probe(value: Any) -> Probe:
    """What this array-like is, by its type alone.

    >>> probe(np.zeros((3, 2), np.float32))
    Probe(kind='float', shape=(3, 2))
    """
    if type(value) is np.ndarray:
        return Probe(_KINDS.get(value.dtype.kind) or probe_dtype(value.dtype), value.shape)
    if isinstance(value, jax.core.Tracer):
        return Probe("tracer", value.shape)
    if isinstance(value, (np.ndarray, jax.Array, np.generic)):
        return Probe(probe_dtype(value.dtype), value.shape)
    if is_pandas(value, "DataFrame"):
        return _probe_frame(value)
    if is_pandas(value, "Series", "Index"):
        return Probe(probe_dtype(value.dtype), value.shape)
    if is_extension_array(value):
        return Probe(probe_dtype(value.dtype), (len(value),))
    if value is None:
        return Probe("none", ())
    if isinstance(value, (bool, int, float)):
        return Probe("bool" if isinstance(value, bool) else "int" if isinstance(value, int) else "float", ())
    if isinstance(value, (str, bytes)):
        return Probe("string", ())
    if hasattr(value, "toarray") or hasattr(value, "todense") or "sparse" in type(value).__module__:
        return Probe("sparse", tuple(getattr(value, "shape", ())))
    if hasattr(value, "__array__") and hasattr(value, "shape") and hasattr(value, "dtype"):
        array = np.asarray(value)
        return Probe(probe_dtype(array.dtype), array.shape)
    if isinstance(value, (memoryview,)) or type(value).__name__ == "array":
        array = np.asarray(value)
        return Probe(probe_dtype(array.dtype), array.shape)
    return Probe("unknown", ())


def _probe_frame(frame: Any) -> Probe:
    kinds = {probe_dtype(dtype) for dtype in set(frame.dtypes)}
    if not frame.columns.is_unique:
        return Probe("duplicates", frame.shape)
    if not kinds <= NUMERIC.keys():
        return Probe("frame", frame.shape)
    kind = "float" if not kinds or "float" in kinds else "int" if "int" in kinds else "bool"
    return Probe(kind, frame.shape)


def _from_sequence(values: Any) -> tuple[np.ndarray | None, str]:
    """The array of a list and its kind; numbers with None among them become an object array of kind "float"."""
    types = set(map(type, values))
    if types <= _PLAIN:
        array = np.asarray(values if isinstance(values, (list, range)) else list(values))
        return _exact(array, values, types)
    values = list(values)
    if any(issubclass(t, jax.core.Tracer) for t in types):
        return None, "tracer"
    if any(_is_container(t) for t in types) and any(np.ndim(v) > 0 or isinstance(v, dict) for v in values):
        return None, "arrays"
    if types <= {list, tuple}:
        return _from_nested(values)
    array = np.empty(len(values), object)
    for i, value in enumerate(values):
        array[i] = value.item() if isinstance(value, (np.generic, jax.Array)) and np.ndim(value) == 0 else value
    if any(issubclass(t, (np.datetime64, np.timedelta64)) for t in types):
        return array, "datetime"
    numbers = [v for v in array if not is_missing(v)]
    if all(isinstance(v, (bool, int, float)) for v in numbers):
        if len(numbers) == len(values):
            plain = np.asarray(array.tolist())
            return _exact(plain, array, set(map(type, array)))
        return array, "float" if len(numbers) else "object"
    return array, "text" if all(isinstance(v, (str, bytes)) for v in array) else "object"


def _exact(array: np.ndarray, values: Any, types: set[type]) -> tuple[np.ndarray, str]:
    """The array, unless NumPy made floats of integers and rounded them (from 2**53 on): then an array of objects."""
    large = array.dtype.kind == "f" and int in types and bool((np.abs(array) >= 2.0**53).any())
    if large and (float not in types or any(isinstance(v, int) and int(float(v)) != v for v in values)):
        objects = np.empty(len(values), object)
        objects[:] = values
        return objects.reshape(array.shape), "object"
    return array, _KINDS[array.dtype.kind]


def _is_container(t: type) -> bool:
    return not issubclass(t, (list, tuple, str, bytes)) and (
        issubclass(t, (np.ndarray, jax.Array, dict)) or hasattr(t, "__array__") or hasattr(t, "__len__")
    )


def _from_nested(values: list[Any]) -> tuple[np.ndarray | None, str]:
    try:
        array = np.asarray(values)
    except (ValueError, TypeError):
        return None, "ragged"
    if array.dtype.kind in "US":  # NumPy writes numbers beside text as text: keep the original elements
        array = np.asarray(values, dtype=object)
        return array, "text" if all(isinstance(v, (str, bytes)) for v in array.flat) else "object"
    if array.dtype == object:
        numbers = [v for v in array.flat if not is_missing(v)]
        if numbers and all(type(v) in _PLAIN for v in numbers) and len(numbers) < array.size:
            return array, "float"
        return array, "object"
    if array.dtype.kind == "f" and bool((np.abs(array) >= 2.0**53).any()):
        flat = list(np.asarray(values, dtype=object).flat)
        return _exact(array, flat, set(map(type, flat)))
    return array, probe_dtype(array.dtype)


def is_missing(value: Any) -> bool:
    """Whether a single Python value stands for a missing one: None, NaN, pd.NA, NaT.

    >>> [is_missing(v) for v in (None, float("nan"), 0.0, "")]
    [True, True, False, False]
    """
    if value is None:
        return True
    if isinstance(value, (float, np.floating)):
        return bool(math.isnan(value))
    if isinstance(value, (np.datetime64, np.timedelta64)):
        return bool(np.isnat(value))
    return type(value).__name__ in ("NAType", "NaTType")


def canonical(array: np.ndarray, where: str, index: Any = None) -> np.ndarray:
    """float64, int64 or bool with the same values; the array itself where it is that already.

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


def read(leaf: Leaf) -> tuple[np.ndarray, np.ndarray | None]:
    """The values of a numeric leaf in canonical dtype, and a mask of the missing entries (None: no mask was needed).

    NaN in a float array is not in the mask; the caller looks for it together with infinities.
    """
    raw, where = leaf.raw, leaf.where
    if type(raw) is np.ndarray:
        return canonical(raw, where), None
    if leaf.array is not None:
        return _read_sequence(leaf)
    if isinstance(raw, np.ma.MaskedArray):
        mask = np.ma.getmaskarray(raw)
        data = np.asarray(raw.data)
        if mask.any():
            data = data.copy()
            data[mask] = np.zeros((), data.dtype)
        return canonical(data, where), mask if mask.any() else None
    if is_pandas(raw, "DataFrame"):
        return _read_frame(raw, where, leaf.probe.kind)
    if is_pandas(raw, "Series", "Index") or is_extension_array(raw):
        return _read_pandas(raw, where, leaf.index)
    return canonical(np.asarray(raw), where, leaf.index), None


def _read_sequence(leaf: Leaf) -> tuple[np.ndarray, np.ndarray | None]:
    array = leaf.array
    if array.dtype != object:
        return canonical(array, leaf.where), None
    missing = np.array([is_missing(v) for v in array.flat], bool).reshape(array.shape)
    filled = array.copy()
    filled[missing] = 0
    plain = np.asarray(filled.tolist())
    if plain.dtype == object:
        raise DataTypeError(f"{leaf.where}: integers beyond the range of int64 among missing values; recode them")
    return canonical(plain, leaf.where), missing


def _read_pandas(column: Any, where: str, index: Any) -> tuple[np.ndarray, np.ndarray | None]:
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


def _read_frame(frame: Any, where: str, kind: str) -> tuple[np.ndarray, np.ndarray | None]:
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
                f"{where} (entry {name!r}): integers beyond 2**53 beside float columns would be rounded, at "
                f"{rows_phrase(at, frame.index)}; pass the column on its own, or as float"
            )
        out[:, j] = values
        if mask is not None:
            missing[:, j] = mask
    return out, missing if missing.any() else None


def narrow_float(leaf: Leaf) -> bool:
    """Whether the values came as floats of less than 64 bits, which carry rounding that a caller may warn of."""
    if leaf.probe.kind != "float":
        return False
    dtype = getattr(leaf.raw, "dtype", None)
    if dtype is None:
        dtypes = set(leaf.raw.dtypes) if is_pandas(leaf.raw, "DataFrame") else set()
        return any(probe_dtype(d) == "float" and getattr(d, "itemsize", 8) < 8 for d in dtypes)
    return getattr(dtype, "itemsize", 8) < 8
