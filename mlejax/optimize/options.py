"""Options that every algorithm has, checked in one place."""

from __future__ import annotations

from typing import Any

__all__ = ["check"]


def check(method: Any) -> None:
    """Refuse options that could not work; called when an algorithm is made.

    Raises:
        ValueError: tol is not positive, or max_steps is not a positive whole number.
    """
    name = type(method).__name__
    if not (isinstance(method.tol, int | float) and method.tol > 0):
        raise ValueError(f"{name}(tol={method.tol!r}): expected a positive number, in log-likelihood units")
    if not (isinstance(method.max_steps, int) and method.max_steps > 0):
        raise ValueError(f"{name}(max_steps={method.max_steps!r}): expected a positive whole number")
