"""The keys under which designs stand in a table, beside the user's own columns."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from mlejax.data.read.table import Table, column_labels
from mlejax.data.read.view import View


@dataclass(frozen=True)
class DesignKey:
    """The key of a design matrix, or of an offset, in the table.

    Attributes:
        parameter: the regressed parameter.
        part: "design", "offset" or "random".
        view: "array": the function gets the parameter as an array by row; "row": it is called row by row.
    """

    parameter: str
    part: str
    view: str

    def __repr__(self) -> str:
        return f"<{self.part} of {self.parameter}>"


@dataclass(frozen=True)
class LevelsKey:
    """The key of the levels of long factors of a formula, which stand for columns of the design.

    The values are (n, m) for m factors: 0 for the level that the others are compared with, j for the j-th of the others.

    Attributes:
        parameter: the regressed parameter.
        view: as of `DesignKey`.
        factors: of each the place of its first coefficient among those of the design, and their labels.
    """

    parameter: str
    view: str
    factors: tuple[tuple[int, tuple[str, ...]], ...]

    def __repr__(self) -> str:
        return f"<levels of {self.parameter}>"

    @property
    def places(self) -> tuple[tuple[int, int], ...]:
        """Of each factor the first of its coefficients, and how many there are."""
        return tuple((start, len(labels)) for start, labels in self.factors)

    def among(self, labels: Sequence[str]) -> list[str]:
        """Those of the other columns with those of the factors at their places."""
        out = list(labels)
        for start, own in self.factors:
            out[start:start] = own
        return out


def levels_key(columns: Any, parameter: str) -> LevelsKey | None:
    """The key of the levels of long factors of a parameter's formula, among those of some columns or of a table."""
    keys = columns.names if isinstance(columns, View) else getattr(columns, "keys", columns)
    keys = keys() if callable(keys) else keys
    return next((key for key in keys if isinstance(key, LevelsKey) and key.parameter == parameter), None)


def design_labels(table: Table, key: DesignKey) -> tuple[tuple[str, ...] | None, int]:
    """Labels and number of the coefficients of a design, long factors included."""
    labels, k = column_labels(table, key)
    levels = levels_key(table, key.parameter)
    if levels is None or labels is None:
        return labels, k
    every = levels.among(labels)
    return tuple(every), len(every)


def by_row(keys: Iterable[Any]) -> bool:
    """Whether these columns are meant for a function that is called row by row."""
    return any(isinstance(key, DesignKey) and key.part == "design" and key.view == "row" for key in keys)


def has_designs(table: Table) -> bool:
    """Whether the table has designs already."""
    return any(isinstance(key, DesignKey) for key in table.keys)
