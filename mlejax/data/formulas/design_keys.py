"""The columns of design matrices, and the keys under which a table has them beside the user's own columns."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from mlejax.data.read.table import Table, column_labels
from mlejax.data.read.view import View


@dataclass(frozen=True)
class DesignKey:
    """The key, in the table, of a design matrix, an offset or the columns of random effects.

    Attributes:
        parameter: name of the parameter that has a formula.
        part: "design" (n, k), "offset" (n, ...) or "random" (n, q), the columns of the formula of random effects.
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
        view: "array" or "row": how the user's function takes the parameter, as in `DesignKey`.
        factors: for each factor, the position of its first coefficient among those of the whole design, and the labels of
            its coefficients, one for each level but the reference.
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
        """Return the labels of all coefficients of the design, from ``labels``, those of the columns that are no factors with
        many levels.
        """
        out = list(labels)
        for start, own in self.factors:
            out[start:start] = own
        return out


class DesignValues(NamedTuple):
    """The columns of a design in some rows, in the form that `Predictor.value` takes.

    Attributes:
        design: the design matrix (n, k).
        offset: the offset (n, ...), or None.
        random: columns of random effects, (n, q), or None.
        levels: level codes (n, m) of the factors whose dummy columns are not in ``design``; or None.
    """

    design: Any
    offset: Any
    random: Any = None
    levels: Any = None


def levels_key(columns: Any, parameter: str) -> LevelsKey | None:
    """Return the key of the level codes for a parameter's formula; None if there is none.

    Args:
        columns: a `Table`, `Layout`, `View` or mapping, or the keys themselves.
        parameter: name of the parameter.
    """
    keys = columns.names if isinstance(columns, View) else getattr(columns, "keys", columns)
    keys = keys() if callable(keys) else keys
    return next((key for key in keys if isinstance(key, LevelsKey) and key.parameter == parameter), None)


def design_labels(table: Table, key: DesignKey) -> tuple[tuple[str, ...] | None, int]:
    """Return the labels of the coefficients of the design under ``key`` and their number, factors with many levels included; for
    a matrix without labels None and the number of its columns.
    """
    labels, k = column_labels(table, key)
    levels = levels_key(table, key.parameter)
    if levels is None or labels is None:
        return labels, k
    every = levels.among(labels)
    return tuple(every), len(every)


def by_row(keys: Iterable[Any]) -> bool:
    """True if one of these keys of a table is of a design whose user function is called row by row (``view="row"``)."""
    return any(isinstance(key, DesignKey) and key.part == "design" and key.view == "row" for key in keys)


def has_designs(table: Table) -> bool:
    """True if the table has a design matrix, an offset or columns of random effects under a `DesignKey`."""
    return any(isinstance(key, DesignKey) for key in table.keys)
