"""A decorator for methods that only call a function: their docstring is that of the function."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

F = TypeVar("F", bound=Callable[..., Any])


def documented_by(function: Callable[..., Any]) -> Callable[[F], F]:
    """Return a decorator that gives a method the docstring of the function that does its work.

    >>> def twice(x):
    ...     "Two times x."
    >>> @documented_by(twice)
    ... def method(self, x): ...
    >>> method.__doc__
    'Two times x.'
    """

    def document(method: F) -> F:
        method.__doc__ = function.__doc__
        return method

    return document
