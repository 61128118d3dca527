"""Passes over traced programs: what they compute of the data alone, through linear predictors, row by row, with LAPACK."""

from .invariants import Split, split
from .lapack_calls import lapack_calls
from .row_independence import rows_apart

__all__ = ["Split", "lapack_calls", "rows_apart", "split"]
