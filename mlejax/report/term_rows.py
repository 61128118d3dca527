"""Rows of a table of estimates, as data."""

from __future__ import annotations

from dataclasses import dataclass

_NAN = float("nan")


@dataclass(frozen=True)
class Term:
    """One row of the table of estimates.

    Attributes:
      name: name of the entry, never shortened.
      coef: estimate, natural scale; exponentiated if the table shows exp(coef).
      std_err: standard error of ``coef``; NaN if there is none.
      z: z or t statistic of the hypothesis that the entry (before exponentiation) is 0; NaN without a standard error, and if 0 is
          not interior to the support.
      p: two-sided p-value of z, NaN where that is.
      low, high: confidence limits; NaN if there are none.
      note: why a number is missing, or another remark on the row; equal notes share a marker.
      fixed: True if the entry is fixed at this value.
      group: name of a group; rows of one group are adjacent, with a rule between groups.
    """

    name: str
    coef: float
    std_err: float = _NAN
    z: float = _NAN
    p: float = _NAN
    low: float = _NAN
    high: float = _NAN
    note: str = ""
    fixed: bool = False
    group: str = ""


@dataclass(frozen=True)
class LargeArray:
    """Summary of a large array of parameters in one row.

    Attributes:
      name: name of the parameter.
      shape: shape of the array.
      minimum, mean, maximum: of the finite entries; NaN if there are none.
      norm: Euclidean norm of the finite entries; NaN if there are none.
      note: remark on the array, such as entries that are not finite.
    """

    name: str
    shape: tuple[int, ...]
    minimum: float
    mean: float
    maximum: float
    norm: float
    note: str = ""
