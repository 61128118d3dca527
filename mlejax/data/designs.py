"""The names under which design matrices and offsets stand among the user's columns."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class DesignKey:
    """The name under which a design matrix, or an offset, stands among the data.

    Attributes:
        parameter: the regressed parameter.
        part: "design" or "offset".
        view: "array": the function gets the parameter as an array by row; "row": it is called row by row.
    """

    parameter: str
    part: str
    view: str

    def __repr__(self) -> str:
        return f"<{self.part} of {self.parameter}>"


def by_row(keys: Iterable[Any]) -> bool:
    """Whether these columns are meant for a function that is called row by row."""
    return any(isinstance(key, DesignKey) and key.part == "design" and key.view == "row" for key in keys)
