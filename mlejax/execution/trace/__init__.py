"""Analyses of traced programs: functions of the data alone, linear predictors, row independence, calls of LAPACK, rounding."""

from .invariants import Split, split
from .lapack_calls import lapack_calls
from .row_independence import rows_apart

__all__ = ["Split", "lapack_calls", "rows_apart", "split"]
