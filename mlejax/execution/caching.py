"""Caches that keep a value as long as the user's function, or likelihood, from which it was made.

Two caches, both keyed explicitly:

* `cached` keeps a value beside its owner (a likelihood), in an attribute that only this module reads.  A value may refer to
  its owner: the garbage collector frees such cycles.
* `ByOwners` is a table whose keys may contain owners and do not keep them alive.  An entry goes when one of them goes.

An owner is whatever hashes by identity and can be referred to weakly: a function, a likelihood.
"""

from __future__ import annotations

import types
import weakref
from collections.abc import Callable, Hashable
from dataclasses import fields, is_dataclass
from typing import Any, Generic, TypeVar

from mlejax.shapes import Reduced

__all__ = ["ByOwners", "cached"]

T = TypeVar("T")
_HIDDEN, _REFERENCE = "_kept_by_mlejax", "reference"
_BY_IDENTITY: Callable[[object], int] = object.__hash__
_PLAIN = frozenset({int, float, bool, str, bytes, type(None)})


class _Kept(dict[Hashable, Any]):
    """The values kept with one owner, by key; pickles and copies as an empty dict."""

    def __reduce__(self) -> Reduced:
        return _Kept, ()


def cached(owner: Any, key: Hashable, make: Callable[[], T], keep: Callable[[T], bool] = lambda value: True) -> T:
    """Return the value of ``make()`` for this owner and key, computed once and kept as long as the owner lives.

    Args:
        owner: an object with a ``__dict__``, where the value is kept under a hidden name.
        key: everything that the value depends on beside the owner.
        make: computes the value.
        keep: function of a new value: True if the value may be kept for later calls.

    Example:
        >>> class Owner: ...
        >>> owner = Owner()
        >>> cached(owner, "size", lambda: 3), cached(owner, "size", lambda: 4)
        (3, 3)
    """
    store: dict[Hashable, T] = owner.__dict__.get(_HIDDEN)
    if store is None:
        store = owner.__dict__.setdefault(_HIDDEN, _Kept())
    if key in store:
        return store[key]
    value = make()
    return store.setdefault(key, value) if keep(value) else value


class _Weakly:
    """Key of a value that contains owners (a tuple, method or dataclass): equal for equal values, with weak references only."""

    __slots__ = ("hash", "owners", "parts")

    def __init__(self, kind: type, parts: list[Any]) -> None:
        self.parts = (kind, *parts)
        self.owners = [owner for part in parts for owner in _owners(part)]
        self.hash = hash(self.parts)

    def __hash__(self) -> int:
        return self.hash

    def __eq__(self, other: object) -> bool:
        return self is other or (isinstance(other, _Weakly) and self.parts == other.parts)


def _owners(reference: Hashable) -> list[weakref.ref[Any]]:
    """Return weak references to the owners in one part of a key."""
    if isinstance(reference, weakref.ref):
        return [reference]
    return reference.owners if isinstance(reference, _Weakly) else []


def _reference(value: object) -> Any:
    """Return what stands for a value in a key: a weak reference if it is an owner, `_Weakly` if it is a tuple, method or
    dataclass with an owner inside, else the value.
    """
    if type(value) in _PLAIN:
        return value
    try:
        return value.__dict__[_HIDDEN][_REFERENCE]
    except (AttributeError, KeyError):
        if is_dataclass(value) and hasattr(value, "__dict__"):
            return cached(value, _REFERENCE, lambda: _new_reference(value))
        return _new_reference(value)


def _new_reference(value: object) -> Any:
    """Return a new reference to a value, as `_reference` does; for a value that cannot be referred to weakly, the value itself.
    """
    kind = type(value)
    if kind.__hash__ is _BY_IDENTITY and not isinstance(value, type):
        try:
            return weakref.ref(value)
        except TypeError:  # a function of an extension module, which lasts
            return value
    if isinstance(value, tuple):
        parts: tuple[Any, ...] = value
    elif isinstance(value, types.MethodType):
        parts = value.__self__, value.__func__
    elif is_dataclass(value) and not isinstance(value, type):
        parts = tuple(getattr(value, f.name) for f in fields(value) if f.compare)
    else:
        return value
    references = [_reference(part) for part in parts]
    same = all(reference is part for reference, part in zip(references, parts, strict=True))
    return value if same else _Weakly(kind, references)


class ByOwners(Generic[T]):
    """A table of values by key, which drops an entry when an owner in its key is garbage-collected.

    Example:
        >>> table = ByOwners[int]()
        >>> f = lambda x: x
        >>> table.get(("a", f), lambda: 1), table.get(("a", f), lambda: 2), len(table)
        (1, 1, 1)
        >>> del f
        >>> len(table)
        0
    """

    def __init__(self) -> None:
        self._entries: dict[Any, tuple[T, list[Any]]] = {}

    def __len__(self) -> int:
        return len(self._entries)

    def get(self, values: tuple[Any, ...], make: Callable[[], T]) -> T:
        """Return the entry for the key ``values``, computed by ``make()`` if it is missing; an entry must not refer to the owners
        in its key.
        """
        key = tuple([_reference(value) for value in values])
        found = self._entries.get(key)
        if found is None:
            entries = self._entries
            watched = [
                weakref.ref(owner(), lambda _: entries.pop(key, None)) for part in key for owner in _owners(part)
            ]
            found = entries.setdefault(key, (make(), watched))
        return found[0]
