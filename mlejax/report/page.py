"""A page of tables as strings, before any layout: what text, HTML, LaTeX and Markdown are written from."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple


class Cell(NamedTuple):
    """A text, and what hangs at its upper right: stars, or the marker of a note."""

    text: str
    mark: str = ""


class Line(NamedTuple):
    """A row of a table: its name (an address if ``code``, else words) and a cell for each column."""

    name: Cell
    cells: tuple[Cell, ...]
    code: bool = True


class TextTable(NamedTuple):
    """A table of strings.

    Attributes:
      heads: column heads; the first is of the column of names.
      lines: the rows.
      breaks: positions in `lines` before which a new group begins.
      kind: what it shows: ``"estimates"`` or ``"leaves"``.
      hanging: marks and closing parentheses hang at the right of the numbers.
    """

    heads: tuple[str, ...]
    lines: tuple[Line, ...]
    breaks: tuple[int, ...] = ()
    kind: str = "estimates"
    hanging: bool = False


class Page(NamedTuple):
    """Tables between a title and notes.

    Attributes:
      title: first line.
      facts: (label, value) pairs above the tables.
      tables: those with rows.
      notes: (marker, text) pairs below them; a marker may be empty.
      footer: statements at the end.
    """

    title: str
    facts: tuple[tuple[str, str], ...]
    tables: tuple[TextTable, ...]
    notes: tuple[tuple[str, str], ...]
    footer: tuple[str, ...] = ()


def note_markers(notes: Sequence[str]) -> dict[str, str]:
    """A marker for every distinct note, in order of appearance: a, b, ..., z, aa, ab, ...

    Args:
      notes: notes of the rows; empty ones get no marker.

    Returns:
      note -> marker.

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
    """Facts side by side, the first half on the left.

    >>> in_pairs([("a", "1"), ("b", "2"), ("c", "3")])
    [[('a', '1'), ('c', '3')], [('b', '2')]]
    """
    split = (len(facts) + 1) // 2
    return [[facts[i], *facts[split + i : split + i + 1]] for i in range(split)]
