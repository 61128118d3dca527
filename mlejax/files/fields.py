"""Kinds of fields: how one value of a file is checked and read.  A kind takes (JSON, place) and returns the value.

Numbers that are not finite stand in a file as the texts ``"nan"``, ``"inf"`` and ``"-inf"``.  What has another type, unknown
fields or missing fields is a :class:`FileError` with its place.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any, NoReturn, TypeAlias, TypeVar

import numpy as np

from mlejax.files.container import FileError, Json
from mlejax.shapes import Float, Host

T = TypeVar("T")
Field: TypeAlias = Callable[[Json, str], T]
Label: TypeAlias = "str | float | int | bool"

NOT_FINITE = {"nan": math.nan, "inf": math.inf, "-inf": -math.inf}
MAX_COUNT = 1 << 53


def refuse(where: str, expected: str, value: object) -> NoReturn:
    """FileError: what was expected at this place, and what stands there."""
    raise FileError(f"{where}: expected {expected}, got {str(value)[:60]!r} ({type(value).__name__})")


def text(value: Json, where: str) -> str:
    """A text."""
    return value if isinstance(value, str) else refuse(where, "a text", value)


def flag(value: Json, where: str) -> bool:
    """true or false."""
    return value if isinstance(value, bool) else refuse(where, "true or false", value)


def count(value: Json, where: str) -> int:
    """An integer from 0."""
    if type(value) is not int or not 0 <= value < MAX_COUNT:
        refuse(where, "a count", value)
    return value


def number(value: Json, where: str) -> float:
    """A float64, or one of the texts for what is not finite.

    >>> number(1, "here"), number("-inf", "here")
    (1.0, -inf)
    """
    if isinstance(value, str) and value in NOT_FINITE:
        return NOT_FINITE[value]
    if type(value) is float and math.isfinite(value):
        return value
    return float(value) if type(value) is int and abs(value) < MAX_COUNT else refuse(where, "a number", value)


def label(value: Json, where: str) -> Label:
    """A level of a category: a text, a number or a flag."""
    if isinstance(value, bool) or (type(value) is int and abs(value) < 1 << 63):
        return value
    return value if isinstance(value, str) else number(value, where)


def plain(value: Json, where: str) -> Any:
    """Any JSON: lists become tuples, ``{"number": "nan"}`` a number."""
    if isinstance(value, list):
        return tuple(plain(v, where) for v in value)
    if isinstance(value, dict):
        return number(value["number"], where) if set(value) == {"number"} else {k: plain(v, where) for k, v in value.items()}
    return value if value is None or isinstance(value, str) else label(value, where)


def vector(value: Json, where: str) -> Float[Host, " n"]:
    """A list of numbers as an array (n,)."""
    if not isinstance(value, list):
        refuse(where, "a list of numbers", value)
    if set(map(type, value)) <= {float}:
        out = np.array(value, np.float64)
        if np.isfinite(out).all():
            return out
    return np.array([number(v, where) for v in value], np.float64)


def matrix(value: Json, where: str) -> Float[Host, "n k"]:
    """A list of rows of equal length as an array (n, k)."""
    rows = list_of(vector)(value, where)
    if len({row.size for row in rows}) > 1:
        refuse(where, "rows of equal length", [row.size for row in rows[:5]])
    return np.array(rows, np.float64).reshape(len(rows), rows[0].size if rows else 0)


def optional(field: Field[T]) -> Field[T | None]:
    """null, or the kind."""
    return lambda value, where: None if value is None else field(value, where)


def one_of(*words: str) -> Field[str]:
    """One of some texts."""

    def read(value: Json, where: str) -> str:
        return value if isinstance(value, str) and value in words else refuse(where, f"one of {', '.join(words)}", value)

    return read


def list_of(field: Field[T]) -> Field[tuple[T, ...]]:
    """A list of one kind, as a tuple."""

    def read(value: Json, where: str) -> tuple[T, ...]:
        if not isinstance(value, list):
            refuse(where, "a list", value)
        return tuple(field(v, f"{where}[{i}]") for i, v in enumerate(value))

    return read


def mapping_of(field: Field[T]) -> Field[dict[str, T]]:
    """An object with any keys and values of one kind."""

    def read(value: Json, where: str) -> dict[str, T]:
        if not isinstance(value, dict):
            refuse(where, "an object", value)
        return {k: field(v, f"{where}.{k[:60]}") for k, v in value.items()}

    return read


def record(**fields: Field[Any]) -> Field[dict[str, Any]]:
    """An object with exactly these fields.

    >>> record(a=count)({"a": 1, "b": 2}, "here")
    Traceback (most recent call last):
    ...
    mlejax.files.container.FileError: here: unknown fields: b; missing fields: none
    """

    def read(value: Json, where: str) -> dict[str, Any]:
        if not isinstance(value, dict):
            refuse(where, "an object", value)
        unknown, missing = sorted(set(value) - set(fields)), sorted(set(fields) - set(value))
        if unknown or missing:
            said = [", ".join(names)[:200] or "none" for names in (unknown, missing)]
            raise FileError(f"{where}: unknown fields: {said[0]}; missing fields: {said[1]}")
        return {name: field(value[name], f"{where}.{name}") for name, field in fields.items()}

    return read


def to_json(value: Any, where: str = "content") -> Json:
    """Plain values as JSON: the inverse of all kinds.

    Raises:
        TypeError: something that is neither plain nor an array, with its place.

    >>> to_json({"a": (1, float("inf")), "b": np.eye(2)})
    {'a': [1, 'inf'], 'b': [[1.0, 0.0], [0.0, 1.0]]}
    """
    if isinstance(value, np.ndarray) and value.dtype.kind in "fiub":
        finite = value.dtype.kind != "f" or bool(np.isfinite(value).all())
        return value.tolist() if finite else to_json(value.tolist(), where)
    if isinstance(value, (np.bool_, np.integer, np.floating)):
        return to_json(value.item(), where)
    if value is None or isinstance(value, (bool, int, str)):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else repr(value)
    if isinstance(value, (tuple, list)):
        return [to_json(v, f"{where}[{i}]") for i, v in enumerate(value)]
    if isinstance(value, Mapping):
        return {str(k): to_json(v, f"{where}.{k}") for k, v in value.items()}
    raise TypeError(f"{where}: a {type(value).__name__} cannot be saved")
