"""Tables as strings before formatting; text, HTML, LaTeX and Markdown are written from these."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple


class Cell(NamedTuple):
    """The string of a table cell, and its superscript mark: stars, or the marker of a note."""

    text: str
    mark: str = ""


class Line(NamedTuple):
    """A row of a table: its name (the name of an entry if ``code``, else words) and a cell for each column."""

    name: Cell
    cells: tuple[Cell, ...]
    code: bool = True


class TextTable(NamedTuple):
    """A table of strings.

    Attributes:
      heads: headers of the columns; the first is that of the names.
      lines: the rows of the table.
      breaks: positions in `lines` at which a new group begins.
      kind: what the table shows: ``"estimates"`` or ``"leaves"`` (summaries of arrays).
      hanging: True if marks and closing parentheses are placed to the right of the aligned numbers.
    """

    heads: tuple[str, ...]
    lines: tuple[Line, ...]
    breaks: tuple[int, ...] = ()
    kind: str = "estimates"
    hanging: bool = False


class Page(NamedTuple):
    """A report: tables between a title and notes.

    Attributes:
      title: first line.
      facts: (label, value) pairs printed above the tables.
      tables: the tables that have rows.
      notes: (marker, text) pairs printed below the tables; a marker may be empty.
      footer: statements printed at the end.
    """

    title: str
    facts: tuple[tuple[str, str], ...]
    tables: tuple[TextTable, ...]
    notes: tuple[tuple[str, str], ...]
    footer: tuple[str, ...] = ()


def note_markers(notes: Sequence[str]) -> dict[str, str]:
    """Return a marker for every distinct note, in order of appearance: a, b, ..., z, aa, ab, ...

    Args:
      notes: notes of the rows; empty ones get no marker.

    Returns:
      dict from note to marker.

    >>> note_markers(["edge", "", "flat", "edge"])
    {'edge': 'a', 'flat': 'b'}
    """
    distinct = dict.fromkeys(note for note in notes if note)
    return {note: _letters(i) for i, note in enumerate(distinct)}


def _letters(i: int) -> str:
    text = ""
    i += 1
    while i:
        i, last = divmod(i - 1, 26)
        text = chr(ord("a") + last) + text
    return text


def in_pairs(facts: Sequence[tuple[str, str]]) -> list[list[tuple[str, str]]]:
    """Return rows of two facts, the first half of the facts on the left; the last row has one if their number is odd.

    >>> in_pairs([("a", "1"), ("b", "2"), ("c", "3")])
    [[('a', '1'), ('c', '3')], [('b', '2')]]
    """
    split = (len(facts) + 1) // 2
    return [[facts[i], *facts[split + i : split + i + 1]] for i in range(split)]
