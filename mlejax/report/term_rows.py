"""Rows of a table of estimates, as plain data."""

from __future__ import annotations

from dataclasses import dataclass

_NAN = float("nan")


@dataclass(frozen=True)
class Term:
    """One row of the table of estimates.

    Attributes:
      name: address of the entry, never shortened.
      coef: estimate, natural scale.
      std_err: standard error; NaN if there is none.
      z: statistic against 0; NaN where 0 is not interior to the support.
      p: two-sided p-value of z.
      low: lower confidence limit.
      high: upper confidence limit.
      note: why something is missing, or what to know about the row; equal notes share a marker.
      fixed: whether the entry is fixed at this value.
      group: rows of one group are adjacent, with a light rule between groups.
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
    """A large array, summarised in one row.

    Attributes:
      name: address of the leaf.
      shape: its shape.
      minimum: smallest entry.
      mean: mean of the entries.
      maximum: largest entry.
      norm: Euclidean norm.
      note: what to know about it, for instance entries that are not finite.
    """

    name: str
    shape: tuple[int, ...]
    minimum: float
    mean: float
    maximum: float
    norm: float
    note: str = ""
