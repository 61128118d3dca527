"""The cells of the tables: a report's content turned into strings, before any layout.

Text and HTML differ only in what they put around these cells. ``.`` is a number that should be there and is not (its
marker leads to the reason); an empty cell is one that has no meaning for the row, such as z where 0 is not interior to
the support.
"""

from __future__ import annotations

import math
from typing import NamedTuple

from mlejax.inference.formatting import (
    MISSING,
    format_estimates,
    format_number,
    format_p,
    format_statistic,
    percent_labels,
)
from mlejax.report.content import Summary, Term, note_markers


class Grid(NamedTuple):
    """A table of strings.

    Attributes:
      heads: column heads; the first column holds names.
      rows: one tuple of cells per row, as long as `heads`.
      breaks: positions in `rows` before which a new group begins.
      notes: (marker, text) pairs of the last column's markers.
    """

    heads: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    breaks: tuple[int, ...]
    notes: tuple[tuple[str, str], ...]


def estimates_grid(summary: Summary) -> Grid:
    """The table of estimates as strings.

    Args:
      summary: content.

    Returns:
      `Grid` with a last column of markers if any term has a note.

    >>> from mlejax.report.content import Summary, Term
    >>> estimates_grid(Summary("", terms=(Term("mu", 1.0, fixed=True),))).rows
    (('mu', '1.0000', '(fixed)', '', '', '', ''),)
    """
    terms = summary.terms
    texts = format_estimates([(t.coef, _nan_if(t.fixed, t.std_err), t.low, t.high) for t in terms])
    markers = note_markers([t.note for t in terms])
    letter = summary.stat_label
    heads = ["", summary.coef_label, "std err", letter, f"P>|{letter}|", *percent_labels(summary.alpha)]
    rows = []
    for term, text in zip(terms, texts, strict=True):
        row = _estimate_row(term, text)
        rows.append((*row, markers.get(term.note, "")) if markers else row)
    if markers:
        heads.append("")
    breaks = tuple(i for i in range(1, len(terms)) if terms[i].group != terms[i - 1].group)
    return Grid(tuple(heads), tuple(rows), breaks, tuple((m, note) for note, m in markers.items()))


def leaves_grid(summary: Summary) -> Grid:
    """The table of large structures as strings, with the markers continued after those of the estimates.

    Args:
      summary: content.

    Returns:
      `Grid`.
    """
    before = [t.note for t in summary.terms]
    markers = note_markers(before + [leaf.note for leaf in summary.leaves])
    own = any(leaf.note for leaf in summary.leaves)
    rows = []
    for leaf in summary.leaves:
        shape = " x ".join(map(str, leaf.shape)) or "scalar"
        numbers = (format_number(x, 4) for x in (leaf.minimum, leaf.mean, leaf.maximum, leaf.norm))
        row = (leaf.name, shape, *numbers)
        rows.append((*row, markers.get(leaf.note, "")) if own else row)
    heads = ("", "shape", "min", "mean", "max", "norm") + (("",) if own else ())
    said = tuple((m, note) for note, m in markers.items() if note not in set(before))
    return Grid(heads, tuple(rows), (), said)


def _nan_if(condition: bool, x: float) -> float:
    return math.nan if condition else x


def _estimate_row(term: Term, text: tuple[str, str, str, str]) -> tuple[str, ...]:
    coef, error, low, high = text
    if term.fixed:
        return (term.name, coef, "(fixed)", "", "", "", "")
    if math.isnan(term.std_err):
        # A limit without a standard error can exist: a profile interval.
        return (term.name, coef, MISSING, MISSING, MISSING, low, high)
    z = "" if math.isnan(term.z) else format_statistic(term.z)
    p = "" if math.isnan(term.p) else format_p(term.p)
    return (term.name, coef, error, z, p, low, high)
