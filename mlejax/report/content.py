"""What a report shows, as plain data: the same content goes to text, to HTML and to data frames.

Nothing here computes an inference. A number that does not exist is NaN, and its `note` says why.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

SUMMARISED_ABOVE = 200
"""A structure of more numbers than this is shown leaf by leaf."""

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
      fixed: whether the entry was held at this value.
      group: rows of one group stand together, with a light rule between groups.
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
class Leaf:
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


@dataclass(frozen=True, repr=False)
class Summary:
    """A whole report; prints as the text table, and shows as HTML in a notebook.

    Attributes:
      title: first line.
      header: (label, value) pairs of text; shown in two columns, the first half on the left.
      terms: rows of the table of estimates.
      notes: remarks below the table, one string each.
      footer: the verdict, one string per statement.
      alpha: 1 - coverage of the limits.
      coef_label: head of the column of estimates.
      stat_label: ``"z"`` or ``"t"``.
      leaves: large structures, summarised.
    """

    title: str
    header: tuple[tuple[str, str], ...] = ()
    terms: tuple[Term, ...] = ()
    notes: tuple[str, ...] = ()
    footer: tuple[str, ...] = ()
    alpha: float = 0.05
    coef_label: str = "coef"
    stat_label: str = "z"
    leaves: tuple[Leaf, ...] = ()

    def as_text(self) -> str:
        """The text table."""
        from mlejax.report.text import render_text

        return render_text(self)

    def as_html(self) -> str:
        """The HTML table."""
        from mlejax.report.html import render_html

        return render_html(self)

    def to_latex(self, *, caption: str | None = None, label: str | None = None) -> str:
        r"""The table for LaTeX's booktabs package, in a ``table`` environment.

        Args:
          caption: its text; by default the title, nothing if empty.
          label: for ``\\ref``.
        """
        from mlejax.report.latex import render_latex

        return render_latex(self, caption=caption, label=label)

    def to_markdown(self) -> str:
        """The table as Markdown of GitHub's flavour."""
        from mlejax.report.markdown import render_markdown

        return render_markdown(self)

    __str__ = as_text
    __repr__ = as_text
    _repr_html_ = as_html


def leaf_row(name: str, value: Any) -> Leaf:
    """Summarise one array: shape, extremes, mean and norm of its finite entries.

    Args:
      name: address of the leaf.
      value: array of any shape.

    Returns:
      `Leaf`; NaN statistics for an array without a finite entry, and a note that counts those that are not finite.

    >>> leaf_row("net.w", [[3.0, -4.0]])
    Leaf(name='net.w', shape=(1, 2), minimum=-4.0, mean=-0.5, maximum=3.0, norm=5.0, note='')
    """
    array = np.asarray(value, np.float64)
    finite = array[np.isfinite(array)]
    lost = array.size - finite.size
    note = f"{lost} of {array.size} entries are not finite" if lost else ""
    if finite.size == 0:
        return Leaf(name, array.shape, _NAN, _NAN, _NAN, _NAN, note or "empty")
    norm = float(np.linalg.norm(finite.ravel()))
    return Leaf(name, array.shape, float(finite.min()), float(finite.mean()), float(finite.max()), norm, note)


def note_markers(notes: Sequence[str]) -> dict[str, str]:
    """A marker for every distinct note, in order of appearance: a, b, ..., z, aa, ab, ...

    Args:
      notes: notes of the rows; empty ones get no marker.

    Returns:
      note -> marker.

    >>> note_markers(["edge", "", "flat", "edge"])
    {'edge': 'a', 'flat': 'b'}
    """
    found: dict[str, str] = {}
    for note in notes:
        if note and note not in found:
            found[note] = _letters(len(found))
    return found


def _letters(i: int) -> str:
    text = ""
    i += 1
    while i:
        i, last = divmod(i - 1, 26)
        text = chr(ord("a") + last) + text
    return text
