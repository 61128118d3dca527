"""One column of the user's data, and the kind of values that it holds.

`probe` looks only at types, dtypes and shapes, so that unused columns cost nothing. A list has no dtype and is converted to an
array, once.
"""

from __future__ import annotations

import collections
import contextlib
import math
import sys
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from mlejax.data.read.foreign import ForeignColumn, foreign_series
from mlejax.shapes import Host

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


class Probe(NamedTuple):
    """The kind of an array-like ("float", "int", "bool", or the reason why it is not numeric, such as "text") and its shape."""

    kind: str
    shape: tuple[int, ...]


@dataclass(frozen=True, eq=False)
class Column:
    """One array-like of the user's data.

    Attributes:
        given: the object that the user passed, or a column of a table of another library (`ForeignColumn`).
        where: its name in messages, such as "column 'x'".
        key: its key in the table, or None (an array that is no column of the table).
        shared: True inside `Shared`, where a single number is allowed.
    """

    given: Any
    where: str
    key: Hashable = None
    shared: bool = False

    @cached_property
    def _foreign(self) -> ForeignColumn | None:
        return self.given if isinstance(self.given, ForeignColumn) else foreign_series(self.given)

    @cached_property
    def raw(self) -> Any:
        """The values: those of another library as a NumPy array or pandas Series, anything else as the user passed it."""
        if type(self.given) is np.ndarray:
            return self.given
        return self.given if self._foreign is None else self._foreign.values

    @cached_property
    def _sequence(self) -> tuple[np.ndarray | None, str] | None:
        return _from_sequence(self.given) if isinstance(self.given, _SEQUENCES) else None

    @property
    def array(self) -> np.ndarray | None:
        """The array made of a list, range or deque; None for other types, and for lists that do not make an array."""
        return None if self._sequence is None else self._sequence[0]

    @cached_property
    def probe(self) -> Probe:
        """The kind and the shape of the values; a single number outside of `Shared` has the kind "scalar"."""
        if self._foreign is not None:
            return Probe(self._foreign.kind, self._foreign.shape)
        if self._sequence is None:
            found = probe(self.given)
        else:
            array, kind = self._sequence
            found = Probe(kind, (len(self.raw),) if array is None else array.shape)
        alone = found.shape == () and not self.shared and found.kind in NUMERIC
        return Probe("scalar", ()) if alone else found

    @property
    def name(self) -> str:
        """The name in fingerprints: the key of a column of a table, if it is a string; ``where`` for anything else."""
        return self.key if isinstance(self.key, str) and self.where == f"column {self.key!r}" else self.where

    @property
    def index(self) -> Any:
        """The index of a pandas Series or DataFrame; None for anything else."""
        return self.given.index if is_pandas(self.given, "Series", "DataFrame") else None


def is_pandas(value: object, *names: str) -> bool:
    """True if the value is an instance of one of these classes, given by name; False if pandas was not imported yet."""
    pandas = sys.modules.get("pandas")
    if type(value) is np.ndarray or not hasattr(pandas, "DataFrame"):  # another thread may be importing pandas
        return False
    return isinstance(value, tuple(getattr(pandas, name) for name in names))


def is_extension_array(value: object) -> bool:
    """True if the value is a pandas extension array outside of a Series (a Categorical, an IntegerArray, ...)."""
    pandas = sys.modules.get("pandas")
    return pandas is not None and isinstance(value, pandas.api.extensions.ExtensionArray)


def probe_dtype(dtype: np.dtype) -> str:
    """Return the kind of a NumPy, JAX or pandas dtype: "float", "int", "bool", or another word, such as "text", for one that is
    not numeric; "unknown" for any other dtype.

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
        with contextlib.suppress(TypeError):  # a dtype that JAX does not know
            if jnp.issubdtype(dtype, group):
                return kind
    return _KINDS.get(getattr(dtype, "kind", "?"), "unknown")


def probe(value: Any) -> Probe:
    """Return the kind and shape of an array-like by its type and dtype, without looking at the values; "unknown" and () for
    anything else, lists included.

    >>> probe(np.zeros((3, 2), np.float32))
    Probe(kind='float', shape=(3, 2))
    """
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
    named = hasattr(value, "__array__") and hasattr(value, "shape") and hasattr(value, "dtype")
    if named or isinstance(value, memoryview) or type(value).__name__ == "array":
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
    """Return the array made of a list, range or deque, and its kind as in `Probe`.

    Numbers with None or NA among them give an object array of kind "float". The array is None, with the kind "tracer",
    "arrays" (arrays or dicts among the items) or "ragged" (lists of different length), if none can be made.
    """
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


def _exact(array: np.ndarray, values: Sequence[Any] | Host, types: set[type]) -> tuple[np.ndarray, str]:
    """Return the array and its kind; an array of the original objects, of kind "object", if NumPy rounded integers to floats.

    Args:
        array: the array that NumPy made of the values.
        values: the values, one for each entry.
        types: their types.
    """
    large = array.dtype.kind == "f" and int in types and bool((np.abs(array) >= 2.0**53).any())
    if large and (float not in types or any(isinstance(v, int) and int(float(v)) != v for v in values)):
        objects = np.empty(len(values), object)
        objects[:] = values
        return objects.reshape(array.shape), "object"
    return array, _KINDS[array.dtype.kind]


def _is_container(t: type) -> bool:
    """True for types of arrays, dicts and other sized objects; False for lists, tuples and strings."""
    return not issubclass(t, (list, tuple, str, bytes)) and (
        issubclass(t, (np.ndarray, jax.Array, dict)) or hasattr(t, "__array__") or hasattr(t, "__len__")
    )


def _from_nested(values: list[Any]) -> tuple[np.ndarray | None, str]:
    """Return the array made of a list of lists or tuples, and its kind, as `_from_sequence`; None and "ragged" if there is none.
    """
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


def missing_entries(array: Any) -> np.ndarray | None:
    """Return flags, True for missing entries, of the shape of a column; None for a type whose missing entries are not known
    (anything but NumPy arrays and pandas objects).

    >>> missing_entries(np.array(["a", None], dtype=object)), missing_entries(np.array([0.5, np.nan]))
    (array([False,  True]), array([False,  True]))
    """
    if is_pandas(array, "Series", "DataFrame", "Index") or is_extension_array(array):
        return np.asarray(array.isna(), dtype=np.bool_)
    if isinstance(array, np.ma.MaskedArray):
        return np.ma.getmaskarray(array)
    if not isinstance(array, np.ndarray):
        return None
    if array.dtype == object:
        return np.array([is_missing(v) for v in array.flat], np.bool_).reshape(array.shape)
    if array.dtype.kind in "fcmM":
        return np.isnat(array) if array.dtype.kind in "mM" else np.isnan(array)
    return np.zeros(array.shape, np.bool_) if array.dtype.kind in "biuUST" else None


def is_missing(value: object) -> bool:
    """True if a single Python value is one of the marks of a missing value: None, NaN, pd.NA, NaT.

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
