"""How a user's functions travel: by the name under which they can be imported, and what stands in where they cannot.

A function decorated by ``@mle.model`` is hidden behind its model, so that pickle's own rule (the object of that name is this
very function) fails for it; here the name may lead to the model as well.
"""

from __future__ import annotations

import importlib
import pickle
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

__all__ = ["Absent", "AbsentError", "find", "name_of", "portable", "restore"]


class AbsentError(ValueError):
    """Something needs a function or data that did not come along with a saved or pickled result."""


@dataclass(frozen=True)
class Absent:
    """Stands where a function was that did not come along; calling it says so.

    Attributes:
        name: of the function.
        why: how the result came here without it.
    """

    name: str
    why: str

    @property
    def __name__(self) -> str:
        return self.name

    def __call__(self, *_: Any, **__: Any) -> Any:
        """AbsentError."""
        raise AbsentError(
            f"this needs the log-likelihood {self.name}, but {self.why}.  Estimates, tables, intervals, tests and predictions "
            "are there; for what evaluates the likelihood again, fit the model anew"
        )


PICKLED = "its function could not be pickled (a lambda, or defined in a function or a notebook), so that it is not here"


@dataclass(frozen=True)
class Named:
    """A function, or what it decorates, by module and qualified name."""

    module: str
    name: str


def name_of(function: Any) -> Named | None:
    """Under which name a function, or the model around it, can be imported; None if under none."""
    module, name = getattr(function, "__module__", None), getattr(function, "__qualname__", None)
    if not isinstance(module, str) or not isinstance(name, str) or "<" in name:
        return None
    there = find(Named(module, name))
    inside = (there, getattr(there, "__wrapped__", None))
    return Named(module, name) if any(part is function for part in inside) else None


def find(named: Named) -> Any:
    """What stands under a name, or None."""
    try:
        found = importlib.import_module(named.module)
        for part in named.name.split("."):
            found = getattr(found, part)
    except (ImportError, AttributeError):
        return None
    return found


def portable(function: Any) -> Any:
    """A function as something that pickles: its name, itself, or an :class:`Absent`."""
    if function is None or isinstance(function, Absent):
        return function
    named = name_of(function)
    if named is not None:
        return named, getattr(function, "__name__", named.name)
    try:
        pickle.dumps(function)
    except Exception:
        return Absent(getattr(function, "__name__", type(function).__name__), PICKLED)
    return function


def restore(carried: Any) -> Callable[..., Any]:
    """The inverse of :func:`portable`; an :class:`Absent` where the name leads nowhere here."""
    if isinstance(carried, tuple) and len(carried) == 2 and isinstance(carried[0], Named):
        named, name = carried
        found = find(named)
        wrapped = getattr(found, "__wrapped__", None)
        function = found if wrapped is None else wrapped
        return function if callable(function) else Absent(name, f"{named.module}.{named.name} cannot be imported here")
    return carried
