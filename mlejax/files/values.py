"""Python values as JSON and back, exactly: every float64 to its last bit, NaN and infinities included.

====================  ===============================================================================
None, bool, int, str  themselves
float                 a number with a point or an exponent; ``{"$float": "nan"}``, ``"inf"``, ``"-inf"``
list, dict            themselves (a dict whose keys begin with ``$`` or are not text: ``{"$dict": [[key, value], ...]}``)
tuple                 ``{"$tuple": [...]}``
array                 ``{"$array": {"dtype": "float64", "shape": [2, 3], "data": [...]}}``, C order, ``"nan"`` in place
object                ``{"$object": "Verdict", "fields": {...}}``, of the classes in a table given by the caller
====================  ===============================================================================

What comes from a file is checked before it is used: an array's data must have its type and number, an object must be in
the table and have its fields. Anything else is a :class:`FileError`.
"""

from __future__ import annotations

import dataclasses
import enum
import math
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np

from mlejax.files.container import FileError

_DTYPES = ("float64", "float32", "int64", "int32", "bool")
_WORDS = {"nan": math.nan, "inf": math.inf, "-inf": -math.inf}
MAX_DEPTH = 100


class Codec(NamedTuple):
    """How one class is written: its fields by name, and how it is made of them.

    Attributes:
        name: what the file calls it.
        cls: the class.
        fields: object -> fields.
        make: fields -> object; what it raises becomes a FileError.
    """

    name: str
    cls: type
    fields: Callable[[Any], dict[str, Any]]
    make: Callable[..., Any]


def of_dataclass(cls: type, leave_out: tuple[str, ...] = ()) -> Codec:
    """A codec for a frozen dataclass that is made of its fields.

    A field with a default may be missing in a file (it was written before the field existed).
    """
    names = [f.name for f in dataclasses.fields(cls) if f.init and f.name not in leave_out]

    def fields(value: Any) -> dict[str, Any]:
        return {name: getattr(value, name) for name in names}

    def make(**found: Any) -> Any:
        unknown = sorted(set(found) - set(names))
        if unknown:
            raise FileError(f"{cls.__name__} has no fields {unknown}")
        return cls(**found)

    return Codec(cls.__name__, cls, fields, make)


def encode(value: Any, codecs: tuple[Codec, ...] = (), where: str = "") -> Any:
    """A value -> JSON.

    Raises:
        TypeError: something that cannot be in a file, with its place.

    >>> encode({"a": (1, float("inf"))})
    {'a': {'$tuple': [1, {'$float': 'inf'}]}}
    """
    if value is None or isinstance(value, (bool, str)):
        return value
    if isinstance(value, enum.IntEnum):
        return int(value)
    if isinstance(value, (np.bool_, np.integer, np.floating)):
        value = value.item()
    if isinstance(value, (bool, int)):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else {"$float": repr(value)}
    if isinstance(value, np.ndarray):
        return {"$array": _encode_array(value, where)}
    if isinstance(value, (tuple, list)) and type(value) in (tuple, list):
        items = [encode(v, codecs, f"{where}[{i}]") for i, v in enumerate(value)]
        return items if isinstance(value, list) else {"$tuple": items}
    if isinstance(value, Mapping):
        pairs = {k: encode(v, codecs, f"{where}[{k!r}]") for k, v in value.items()}
        if all(isinstance(k, str) and not k.startswith("$") for k in pairs):
            return pairs
        return {"$dict": [[encode(k, codecs, where), v] for k, v in pairs.items()]}
    for codec in codecs:
        if type(value) is codec.cls:
            inside = {k: encode(v, codecs, f"{where}.{k}") for k, v in codec.fields(value).items()}
            return {"$object": codec.name, "fields": inside}
    raise TypeError(f"{where or 'value'}: a {type(value).__name__} cannot be saved")


def _encode_array(value: np.ndarray, where: str) -> dict[str, Any]:
    dtype = value.dtype.name
    if dtype not in _DTYPES:
        raise TypeError(f"{where}: an array of {value.dtype} cannot be saved")
    flat: list[Any] = value.ravel().tolist()
    if dtype.startswith("float") and not np.isfinite(value).all():
        flat = [x if math.isfinite(x) else repr(x) for x in flat]
    return {"dtype": dtype, "shape": list(value.shape), "data": flat}


def decode(value: Any, codecs: Mapping[str, Codec] | None = None, where: str = "content", depth: int = 0) -> Any:
    """JSON -> the value, checked.

    Raises:
        FileError: anything that :func:`encode` does not write, with its place.

    >>> decode({"a": {"$tuple": [1, {"$float": "inf"}]}})
    {'a': (1, inf)}
    """
    if depth > MAX_DEPTH:
        raise FileError(f"{where}: nested more than {MAX_DEPTH} deep")
    if value is None or isinstance(value, (bool, str, int, float)):
        return value
    if isinstance(value, list):
        return [decode(v, codecs, f"{where}[{i}]", depth + 1) for i, v in enumerate(value)]
    if not isinstance(value, dict):
        raise FileError(f"{where}: a {type(value).__name__} is not expected")
    tag = next(iter(value), "")
    if not tag.startswith("$"):
        if any(k.startswith("$") for k in value):
            raise FileError(f"{where}: mixes fields and tags")
        return {k: decode(v, codecs, f"{where}.{k}", depth + 1) for k, v in value.items()}
    if tag == "$object":
        return _decode_object(value, codecs or {}, where, depth)
    inside = value[tag]
    if len(value) != 1:
        raise FileError(f"{where}: {tag} stands alone, got also {sorted(set(value) - {tag})}")
    if tag == "$float" and isinstance(inside, str) and inside in _WORDS:
        return _WORDS[inside]
    if tag == "$tuple" and isinstance(inside, list):
        return tuple(decode(v, codecs, f"{where}[{i}]", depth + 1) for i, v in enumerate(inside))
    if tag == "$dict" and isinstance(inside, list):
        return _decode_pairs(inside, codecs, where, depth)
    if tag == "$array" and isinstance(inside, dict):
        return _decode_array(inside, where)
    raise FileError(f"{where}: {tag} is not understood")


def _decode_pairs(pairs: list[Any], codecs: Any, where: str, depth: int) -> dict[Any, Any]:
    out: dict[Any, Any] = {}
    for pair in pairs:
        if not isinstance(pair, list) or len(pair) != 2:
            raise FileError(f"{where}: $dict holds pairs")
        key = decode(pair[0], codecs, where, depth + 1)
        if not isinstance(key, (str, int, float, bool, tuple, type(None))):
            raise FileError(f"{where}: a {type(key).__name__} is no key")
        try:
            out[key] = decode(pair[1], codecs, where, depth + 1)
        except TypeError:
            raise FileError(f"{where}: a key that is not hashable") from None
    return out


def _decode_object(value: dict[str, Any], codecs: Mapping[str, Codec], where: str, depth: int) -> Any:
    name, fields = value["$object"], value.get("fields")
    if set(value) != {"$object", "fields"} or not isinstance(fields, dict) or not isinstance(name, str):
        raise FileError(f"{where}: an object has a name and fields")
    if name not in codecs:
        raise FileError(f"{where}: objects of type {name[:60]!r} are not known")
    found = {k: decode(v, codecs, f"{where}.{k}", depth + 1) for k, v in fields.items()}
    try:
        return codecs[name].make(**found)
    except FileError:
        raise
    except (TypeError, ValueError, KeyError, IndexError, AttributeError, OverflowError, ArithmeticError) as error:
        raise FileError(f"{where}: no {name} can be made of this ({error})") from None


def _decode_array(spec: dict[str, Any], where: str) -> np.ndarray:
    if set(spec) != {"dtype", "shape", "data"}:
        raise FileError(f"{where}: an array has dtype, shape and data")
    dtype, shape, data = spec["dtype"], spec["shape"], spec["data"]
    if not isinstance(dtype, str) or dtype not in _DTYPES:
        raise FileError(f"{where}: arrays of {str(dtype)[:60]!r} are not read; expected one of {', '.join(_DTYPES)}")
    if not isinstance(shape, list) or not all(type(s) is int and 0 <= s < 2**40 for s in shape) or len(shape) > 32:
        raise FileError(f"{where}: {str(shape)[:60]} is no shape")
    if not isinstance(data, list) or len(data) != math.prod(shape):
        n = len(data) if isinstance(data, list) else "no"
        raise FileError(f"{where}: shape {tuple(shape)} holds {math.prod(shape)} numbers, got {n}")
    kinds = set(map(type, data))
    by_kind: dict[str, set[type]] = {"f": {float, int, str}, "i": {int}, "b": {bool}}
    allowed = by_kind[dtype[0]]
    if not kinds <= allowed:
        raise FileError(f"{where}: an array of {dtype} holds {', '.join(sorted(k.__name__ for k in kinds - allowed))}")
    if str in kinds:
        unknown = {x for x in data if isinstance(x, str)} - set(_WORDS)
        if unknown:
            raise FileError(f"{where}: {sorted(unknown)[0][:60]!r} is no number")
        data = [_WORDS[x] if isinstance(x, str) else x for x in data]
    try:
        return np.array(data, dtype=dtype).reshape(shape)
    except (OverflowError, ValueError) as error:
        raise FileError(f"{where}: {error}") from None
