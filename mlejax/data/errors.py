"""The three errors about data, and functions that write their messages.

Every message says what was expected, what came (column, dtype, first rows, how many) and what to do. The three classes
are subclasses of the built-in error that a caller would catch:

* `DataError` (a ``ValueError``): the values are wrong: missing, infinite, of differing lengths, no rows.
* `DataTypeError` (a ``TypeError``): the type is wrong: text, dates, categories, objects, 0-d values.
* `MissingColumnError` (a ``KeyError``): there is no such column.
"""

from __future__ import annotations

import difflib
from collections.abc import Hashable, Iterable, Sequence
from typing import Any

import numpy as np

from mlejax.misuse import linked

SHOWN_ROWS = 5
SHOWN_COLUMNS = 20


class DataError(ValueError):
    """The values of the data are not usable, or columns do not fit together; the message says which, where, and what to do."""


class DataTypeError(TypeError):
    """The type of the data is not usable; the message names the column and its type and says what to do."""


class MissingColumnError(KeyError):
    """The data have no column of this name; the message lists similar names and the columns of the data.

    Its arguments are the message and, where it is known, the name.

    >>> str(MissingColumnError("no column 'x'"))
    "no column 'x'"
    """

    def __str__(self) -> str:
        # KeyError shows the repr of its argument, which would print the message in quotes with escapes.
        return str(self.args[0]) if self.args else ""


def listing(items: Iterable[Any], limit: int = SHOWN_COLUMNS) -> str:
    """Return the repr of the first ``limit`` items, separated by commas, and the number of all items if there are more; NumPy's
    numbers as those of Python.

    >>> listing(["a", "b", "c"], limit=2)
    "'a', 'b', ... (3 in all)"
    """
    items = list(items)
    text = ", ".join(repr(item.item() if isinstance(item, np.generic) else item) for item in items[:limit])
    return text if len(items) <= limit else f"{text}, ... ({len(items)} in all)"


def rows_phrase(rows: Sequence[int] | np.ndarray, index: Any = None) -> str:
    """Return the numbers (from 0) of the first five rows as a phrase, with their index labels if one differs from its number.

    Args:
        rows: numbers of rows.
        index: labels of all rows of the table, or None.

    >>> rows_phrase([3])
    'row 3'
    >>> rows_phrase([1, 4, 9])
    'rows 1, 4, 9'
    """
    rows = [int(r) for r in rows[: SHOWN_ROWS + 1]]
    shown = rows[:SHOWN_ROWS]
    dots = ", ..." if len(rows) > SHOWN_ROWS else ""
    text = ("row " if len(rows) == 1 else "rows ") + ", ".join(str(r) for r in shown) + dots
    labels = [] if index is None else [index[r] for r in shown]
    if all(isinstance(each, (int, np.integer)) and each == r for each, r in zip(labels, shown, strict=False)):
        return text
    word = "index label" if len(rows) == 1 else "index labels"
    return f"{text} ({word} {', '.join(label(each) for each in labels)}{dots})"


def label(value: object) -> str:
    """Return an index label as text: strings in quotes, numbers without NumPy's type around them."""
    return repr(value) if isinstance(value, (str, bytes)) else str(value)


def near_matches(name: Hashable, known: Iterable[Any]) -> list[Any]:
    """Return up to three known names that resemble ``name``, the most similar first. Upper and lower case count as
    equal; of known names that differ only in case, the first is used.

    >>> near_matches("Heigth", ["height", "weight", "age"])
    ['height', 'weight']
    """
    by_text: dict[str, Any] = {}
    for item in known:
        by_text.setdefault(str(item).lower(), item)
    return [by_text[text] for text in difflib.get_close_matches(str(name).lower(), by_text, n=3, cutoff=0.6)]


def missing_column(name: Hashable, known: Iterable[Any], what: str = "") -> MissingColumnError:
    """Return the error for a missing column.

    Args:
        name: the name that was not found.
        known: names of the columns of the data; None among them is left out.
        what: the beginning of the message, such as a formula; may be empty.
    """
    known = [one for one in known if one is not None]
    near = near_matches(name, known)
    hint = f" Near matches: {listing(near)}." if near else ""
    if name == "observed":
        hint = " Only models declared with optional= or infinite= have data['observed']: @mle.model(..., infinite=['high'])."
    have = f" The data have the columns {listing(known)}." if known else " The data have no columns with names."
    return linked(
        MissingColumnError(f"{what and what + ': '}no column {name!r} in the data.{hint}{have}", name), "no-column"
    )


def type_name(value: object) -> str:
    """Return the name of a value's type: of a built-in type the name alone, of any other class after that of its package.

    >>> type_name(np.zeros(2)), type_name([1.0])
    ('numpy.ndarray', 'list')
    """
    cls = type(value)
    module = cls.__module__.split(".")[0]
    return cls.__qualname__ if module == "builtins" else f"{module}.{cls.__qualname__}"
