"""The report of one fit, as data and as a printed table.

No statistic is computed here. A number that does not exist is NaN, and the `note` of its row says why; z and p are NaN without a
note where 0 is not interior to the support. In the table ``.`` is a missing number (with the marker of a note), and an empty
cell a number that is not defined for the row, such as z where 0 is not interior to the support.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np

from mlejax.inference.tables.formatting import (
    MISSING,
    format_estimates,
    format_number,
    format_p,
    format_statistic,
    percent_labels,
)
from mlejax.report.page import Cell, Line, Page, TextTable, note_markers
from mlejax.report.presentation import Presentation, marked
from mlejax.report.printed import Printed
from mlejax.report.term_rows import LargeArray, Term

SUMMARISED_ABOVE = 200
"""If there are more parameters than this, the table has one row for each array instead of each number."""

_NAN = float("nan")


@dataclass(frozen=True, repr=False)
class Summary(Printed):
    """The report of one fit; prints as a text table, and shows as HTML in a notebook.

    Attributes:
      title: first line.
      header: (label, value) pairs of strings; printed in two columns, the first half on the left.
      terms: rows of the table of estimates.
      notes: remarks below the table, one string each.
      footer: the verdict, one string per statement.
      alpha: 1 - coverage of the confidence limits.
      coef_label: header of the column of estimates.
      stat_label: ``"z"`` or ``"t"``.
      leaves: summaries of large arrays of parameters.
      presentation: digits, columns and stars.
    """

    title: str
    header: tuple[tuple[str, str], ...] = ()
    terms: tuple[Term, ...] = ()
    notes: tuple[str, ...] = ()
    footer: tuple[str, ...] = ()
    alpha: float = 0.05
    coef_label: str = "coef"
    stat_label: str = "z"
    leaves: tuple[LargeArray, ...] = ()
    presentation: Presentation = field(default_factory=Presentation)

    def page(self) -> Page:
        """Return the contents of the report: header, the tables of estimates and of large arrays (each if it has rows), notes
        and verdict.
        """
        markers = note_markers([t.note for t in self.terms] + [leaf.note for leaf in self.leaves])
        tables = [self._estimates(markers), _leaves(self.leaves, markers)]
        notes = [(marker, note) for note, marker in markers.items()] + [("", note) for note in self.notes]
        return Page(self.title, self.header, tuple(t for t in tables if t.lines), tuple(notes), self.footer)

    def _estimates(self, markers: dict[str, str]) -> TextTable:
        terms, letter, wanted = self.terms, self.stat_label, self.presentation
        texts = format_estimates(
            [(t.coef, _NAN if t.fixed else t.std_err, t.low, t.high) for t in terms], wanted.digits
        )
        chosen = _COLUMNS[wanted.show]
        lines = []
        for t, text in zip(terms, texts, strict=True):
            cells = [Cell(c) for c in _cells(t, text)]
            cells[0] = Cell(cells[0].text, marked(t.p) if wanted.stars else "")
            lines.append(Line(Cell(t.name, markers.get(t.note, "")), tuple(cells[i] for i in chosen)))
        breaks = tuple(i for i in range(1, len(terms)) if terms[i].group != terms[i - 1].group)
        heads = (self.coef_label, "std err", letter, f"P>|{letter}|", *percent_labels(self.alpha))
        return TextTable(("", *(heads[i] for i in chosen)), tuple(lines), breaks, hanging=wanted.stars)


_COLUMNS: dict[str | None, tuple[int, ...]] = {
    None: (0, 1, 2, 3, 4, 5), "se": (0, 1, 3), "t": (0, 2, 3), "ci": (0, 4, 5),
}  # fmt: skip


def _cells(term: Term, text: tuple[str, str, str, str]) -> tuple[str, ...]:
    coef, error, low, high = text
    if term.fixed:
        return (coef, "(fixed)", "", "", "", "")
    if math.isnan(term.std_err):  # a limit without a standard error can exist: a profile interval
        return (coef, MISSING, MISSING, MISSING, low, high)
    z = "" if math.isnan(term.z) else format_statistic(term.z)
    return (coef, error, z, "" if math.isnan(term.p) else format_p(term.p), low, high)


def _leaves(leaves: tuple[LargeArray, ...], markers: dict[str, str]) -> TextTable:
    lines = []
    for leaf in leaves:
        numbers = [format_number(x, 4) for x in (leaf.minimum, leaf.mean, leaf.maximum, leaf.norm)]
        cells = map(Cell, (" x ".join(map(str, leaf.shape)) or "scalar", *numbers))
        lines.append(Line(Cell(leaf.name, markers.get(leaf.note, "")), tuple(cells)))
    return TextTable(("", "shape", "min", "mean", "max", "norm"), tuple(lines), kind="leaves")


def leaf_row(name: str, value: object) -> LargeArray:
    """Summarise one array: shape, minimum, maximum, mean and norm of its finite entries.

    Args:
      name: name of the parameter.
      value: an array of any shape.

    Returns:
      `LargeArray`; statistics are NaN for an array without a finite entry; a note counts entries that are not finite.

    >>> leaf_row("net.w", [[3.0, -4.0]])
    LargeArray(name='net.w', shape=(1, 2), minimum=-4.0, mean=-0.5, maximum=3.0, norm=5.0, note='')
    """
    array = np.asarray(value, np.float64)
    finite = array[np.isfinite(array)]
    lost = array.size - finite.size
    note = f"{lost} of {array.size} entries are not finite" if lost else ""
    if finite.size == 0:
        return LargeArray(name, array.shape, _NAN, _NAN, _NAN, _NAN, note or "empty")
    norm = float(np.linalg.norm(finite.ravel()))
    return LargeArray(name, array.shape, float(finite.min()), float(finite.mean()), float(finite.max()), norm, note)
