"""The keys of design matrices and of their parts in a table, beside the keys of the user's own columns."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from mlejax.data.read.table import Table, column_labels
from mlejax.data.read.view import View


@dataclass(frozen=True)
class DesignKey:
    """The key, in the table, of a design matrix, an offset or the columns of random effects.

    Attributes:
        parameter: name of the parameter that has a formula.
        part: "design", "offset" or "random".
        view: "array": the user's function gets the parameter as an array with a row axis; "row": the function is called row
            by row.
    """

    parameter: str
    part: str
    view: str

    def __repr__(self) -> str:
        return f"<{self.part} of {self.parameter}>"


@dataclass(frozen=True)
class LevelsKey:
    """The key of the level codes of factors with many levels, which replace the dummy columns of these factors in the
    design.

    The values are (n, m) for m factors: 0 for the reference level, j for the j-th of the other levels.

    Attributes:
        parameter: name of the parameter that has a formula.
        view: as in `DesignKey`.
        factors: for each factor, the position of its first coefficient among those of the whole design, and the labels of
            its coefficients.
    """

    parameter: str
    view: str
    factors: tuple[tuple[int, tuple[str, ...]], ...]

    def __repr__(self) -> str:
        return f"<levels of {self.parameter}>"

    @property
    def places(self) -> tuple[tuple[int, int], ...]:
        """For each factor: the position of its first coefficient, and its number of coefficients."""
        return tuple((start, len(labels)) for start, labels in self.factors)

    def among(self, labels: Sequence[str]) -> list[str]:
        """Return the labels of all coefficients: those of the other columns, with the labels of the factors inserted at
        their positions.
        """
        out = list(labels)
        for start, own in self.factors:
            out[start:start] = own
        return out


def levels_key(columns: Any, parameter: str) -> LevelsKey | None:
    """Return the key of the level codes for a parameter's formula, among the keys of a table or of columns; None if there
    is none.
    """
    keys = columns.names if isinstance(columns, View) else getattr(columns, "keys", columns)
    keys = keys() if callable(keys) else keys
    return next((key for key in keys if isinstance(key, LevelsKey) and key.parameter == parameter), None)


def design_labels(table: Table, key: DesignKey) -> tuple[tuple[str, ...] | None, int]:
    """Return the labels of the coefficients of a design and their number, including those of factors with many levels."""
    labels, k = column_labels(table, key)
    levels = levels_key(table, key.parameter)
    if levels is None or labels is None:
        return labels, k
    every = levels.among(labels)
    return tuple(every), len(every)


def by_row(keys: Iterable[Any]) -> bool:
    """True if one of these keys is of a design for a function that is called row by row."""
    return any(isinstance(key, DesignKey) and key.part == "design" and key.view == "row" for key in keys)


def has_designs(table: Table) -> bool:
    """True if the table already has design matrices."""
    return any(isinstance(key, DesignKey) for key in table.keys)
