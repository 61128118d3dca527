"""Kinds of fields of a file: how a value is written, and how it is checked and read.

Numbers that are not finite are written as the strings ``"nan"``, ``"inf"`` and ``"-inf"``.  A value of another type, an
unknown field or a missing one raises :class:`FileError` with its position.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any, Generic, NamedTuple, NoReturn, TypeAlias, TypeVar

import numpy as np

from mlejax.files.container import FileError, Json
from mlejax.shapes import Float, Host

T = TypeVar("T")
Label: TypeAlias = "str | float | int | bool"

NOT_FINITE = {"nan": math.nan, "inf": math.inf, "-inf": -math.inf}
MAX_COUNT = 1 << 53


def refuse(where: str, expected: str, value: object) -> NoReturn:
    """Raise FileError that says what was ``expected`` at the position ``where`` of the content, and the ``value`` that was
    found there.
    """
    raise FileError(f"{where}: expected {expected}, got {str(value)[:60]!r} ({type(value).__name__})")


def require(condition: object, what: str) -> None:
    """Raise FileError unless ``condition`` is true; ``what`` names the parts of the file that do not match."""
    if not condition:
        raise FileError(f"the file is inconsistent: {what} do not match; save the result again")


def to_json(value: Any, where: str = "content") -> Json:
    """Convert numbers, strings, None, arrays, lists, tuples and dicts to JSON; arrays and tuples become lists, keys strings,
    and numbers that are not finite the strings "nan", "inf", "-inf".

    Raises:
        TypeError: a value of another type; the message has its position, which begins with ``where``.

    >>> to_json({"a": (1, float("inf")), "b": np.eye(2)})
    {'a': [1, 'inf'], 'b': [[1.0, 0.0], [0.0, 1.0]]}
    """
    if isinstance(value, (np.ndarray, np.generic)):
        finite = value.dtype.kind in "iub" or (value.dtype.kind == "f" and bool(np.isfinite(value).all()))
        return value.tolist() if finite else to_json(value.tolist(), where)
    if value is None or isinstance(value, (bool, int, str)):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else repr(value)
    if isinstance(value, (tuple, list)):
        return [to_json(v, f"{where}[{i}]") for i, v in enumerate(value)]
    if isinstance(value, Mapping):
        return {str(k): to_json(v, f"{where}.{k}") for k, v in value.items()}
    raise TypeError(f"{where}: a {type(value).__name__} cannot be saved")


class Field(NamedTuple, Generic[T]):
    """One kind of field of a file.

    Attributes:
        read: function (JSON, position) -> the checked value.
        write: function (value, position) -> JSON.
        absent: (default,) if the field may be missing: a default value is not written; empty if the field is required.
    """

    read: Callable[[Json, str], T]
    write: Callable[[Any, str], Json] = to_json
    absent: tuple[Any, ...] = ()


# ---- single values


def _number(value: Json, where: str) -> float:
    if isinstance(value, str) and value in NOT_FINITE:
        return NOT_FINITE[value]
    if type(value) is float and math.isfinite(value):
        return value
    return float(value) if type(value) is int and abs(value) < MAX_COUNT else refuse(where, "a number", value)


def _count(value: Json, where: str) -> int:
    return value if type(value) is int and 0 <= value < MAX_COUNT else refuse(where, "a count", value)


def _label(value: Json, where: str) -> Label:
    if isinstance(value, str) or (isinstance(value, int) and abs(value) < 1 << 63):
        return value
    return _number(value, where)


def _plain(value: Json, where: str) -> Any:
    if isinstance(value, list):
        return tuple(_plain(v, where) for v in value)
    if isinstance(value, dict):
        marked = set(value) == {"number"}
        return _number(value["number"], where) if marked else {k: _plain(v, where) for k, v in value.items()}
    return value if value is None else _label(value, where)


def _vector(value: Json, where: str) -> Float[Host, " n"]:
    if isinstance(value, list) and set(map(type, value)) <= {float}:
        out = np.array(value, np.float64)
        if np.isfinite(out).all():
            return out
    return np.array(list_of(number).read(value, where), np.float64)


def _matrix(value: Json, where: str) -> Float[Host, "n k"]:
    rows = list_of(vector).read(value, where)
    if len({row.size for row in rows}) > 1:
        refuse(where, "rows of equal length", [row.size for row in rows[:5]])
    return np.array(rows, np.float64).reshape(len(rows), rows[0].size if rows else 0)


text: Field[str] = Field(lambda value, where: value if isinstance(value, str) else refuse(where, "a string", value))
flag: Field[bool] = Field(
    lambda value, where: value if isinstance(value, bool) else refuse(where, "true or false", value)
)
count = Field(_count)  # an integer from 0
number = Field(_number)  # a float64
label = Field(_label)  # a level of a category: a string, a number or a flag
plain = Field(_plain)  # any JSON: lists become tuples, {"number": "nan"} a number
vector = Field(_vector)  # a list of numbers, (n,)
matrix = Field(_matrix)  # a list of rows of equal length, (n, k)


# ---- combinations


def one_of(*words: str) -> Field[str]:
    """Return a field whose value is one of the strings ``words``."""
    return Field(lambda value, where: value if value in words else refuse(where, f"one of {', '.join(words)}", value))


def optional(field: Field[T]) -> Field[T | None]:
    """Return a field whose value is null (None) or of the kind ``field``."""
    return Field(
        lambda value, where: None if value is None else field.read(value, where),
        lambda value, where: None if value is None else field.write(value, where),
    )


def list_of(field: Field[T]) -> Field[tuple[T, ...]]:
    """Return a field whose value is a list with entries of the kind ``field``, read as a tuple."""

    def read(value: Json, where: str) -> tuple[T, ...]:
        if not isinstance(value, list):
            refuse(where, "a list", value)
        return tuple(field.read(v, f"{where}[{i}]") for i, v in enumerate(value))

    return Field(read, lambda values, where: [field.write(v, f"{where}[{i}]") for i, v in enumerate(values)])


def mapping_of(field: Field[T]) -> Field[dict[str, T]]:
    """Return a field whose value is an object with any keys and values of the kind ``field``, read as a dict."""

    def read(value: Json, where: str) -> dict[str, T]:
        if not isinstance(value, dict):
            refuse(where, "an object", value)
        return {k: field.read(v, f"{where}.{k[:60]}") for k, v in value.items()}

    return Field(read, lambda values, where: {str(k): field.write(v, f"{where}.{k}") for k, v in values.items()})


def record(make: Callable[..., T], **fields: Field[Any] | tuple[str, Field[Any]]) -> Field[T]:
    """Return a field whose value is an object with these fields and no others; ``make`` is called with them, and they are
    written from attributes of the same names.  A field with a default (`Field.absent`) may be missing: it is read as the
    default, and not written if it has that value.

    A field ``name=("attribute", kind)`` has another name of the attribute and of the argument of ``make``.

    >>> record(dict, a=count).read({"a": 1, "b": 2}, "here")
    Traceback (most recent call last):
    ...
    mlejax.files.container.FileError: here: unknown fields: b; missing fields: none
    """
    pairs = {name: (name, f) if isinstance(f, Field) else f for name, f in fields.items()}

    def read(value: Json, where: str) -> T:
        if not isinstance(value, dict):
            refuse(where, "an object", value)
        needed = {name for name, (_, f) in pairs.items() if not f.absent}
        unknown, missing = sorted(set(value) - set(pairs)), sorted(needed - set(value))
        if unknown or missing:
            said = [", ".join(names)[:200] or "none" for names in (unknown, missing)]
            raise FileError(f"{where}: unknown fields: {said[0]}; missing fields: {said[1]}")
        one = lambda name, f: f.read(value[name], f"{where}.{name}") if name in value else f.absent[0]
        return make(**{a: one(name, f) for name, (a, f) in pairs.items()})

    def write(value: Any, where: str) -> Json:
        values = {name: (getattr(value, a), f) for name, (a, f) in pairs.items()}
        return {
            name: f.write(v, f"{where}.{name}") for name, (v, f) in values.items() if not f.absent or v != f.absent[0]
        }

    return Field(read, write)
