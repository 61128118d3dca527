"""Passes over traced programs (jaxprs)."""

from .invariants import Split, called, split
from .lapack_calls import lapack_calls
from .row_independence import is_literal, rows_apart

__all__ = ["Split", "called", "is_literal", "lapack_calls", "rows_apart", "split"]
