"""The text table, in the style that users of statsmodels and Stata know.

A title, a header of two columns, one row per estimate, the notes keyed by markers, and the verdict. The table is
78 characters wide and grows with its names and numbers; nothing is ever cut. ASCII, apart from the user's own names.
"""

from __future__ import annotations

import textwrap

from mlejax.inference.formatting import table_lines
from mlejax.report.cells import Grid, estimates_grid, leaves_grid
from mlejax.report.content import Summary

WIDTH = 78
_BETWEEN = 4


def render_text(summary: Summary) -> str:
    """The whole report as text.

    Args:
      summary: content.

    Returns:
      Lines joined by newlines, without a final one.

    >>> from mlejax.report.content import Summary, Term
    >>> print(render_text(Summary("Fit", terms=(Term("mu", 1.5, 0.25, 6.0, 2e-9, 1.01, 1.99),))))
                                         Fit
    ==============================================================================
                      coef    std err        z     P>|z|    [0.025    0.975]
    ------------------------------------------------------------------------------
    mu               1.500      0.250    6.000    <0.001     1.010     1.990
    ==============================================================================
    """
    tables = [grid for grid in (estimates_grid(summary), leaves_grid(summary)) if grid.rows]
    blocks = [_spread(grid) for grid in tables]
    width = max([WIDTH, *(len(line) for block in blocks for line in block)])
    lines = [summary.title.center(width).rstrip(), "=" * width]
    if summary.header:
        lines += _header(summary.header, width)
        lines.append("=" * width)
    for grid, block in zip(tables, blocks, strict=True):
        lines += [block[0], "-" * width]
        for i, line in enumerate(block[1:]):
            if i in grid.breaks:
                lines.append("-" * width)
            lines.append(line)
        lines.append("=" * width)
    for grid in tables:
        for marker, note in grid.notes:
            lines += wrapped(note, width, f"({marker}) ")
    for note in summary.notes:
        lines += wrapped(note, width, "")
    if summary.footer:
        if any(grid.notes for grid in tables) or summary.notes:
            lines.append("-" * width)
        for statement in summary.footer:
            lines += wrapped(statement, width, "")
    return "\n".join(lines)


def _spread(grid: Grid) -> list[str]:
    """The table's lines; a narrow table is spread to the standard width, its numbers flush with the right edge."""
    cells = [grid.heads, *grid.rows]
    spare = WIDTH - max(map(len, table_lines(cells)))
    if spare <= 0:
        return table_lines(cells)
    gap = 2 + min(spare // (len(grid.heads) - 1), 2)
    # What the gaps leave over goes between the names and the numbers.
    left = WIDTH - max(map(len, table_lines(cells, gap=gap)))
    names = max(len(row[0]) for row in cells)
    return table_lines([(row[0].ljust(names + left), *row[1:]) for row in cells], gap=gap)


def _header(header: tuple[tuple[str, str], ...], width: int) -> list[str]:
    """Two columns, label left and value right in each; a pair that is too long takes a line of its own, below."""
    half = (width - _BETWEEN) // 2
    short = [pair for pair in header if len(pair[0]) + len(pair[1]) + 3 <= half]
    long = [pair for pair in header if len(pair[0]) + len(pair[1]) + 3 > half]
    split = (len(short) + 1) // 2
    left = [_pair(*pair, half) for pair in short[:split]]
    right = [_pair(*pair, width - half - _BETWEEN) for pair in short[split:]]
    right += [""] * (len(left) - len(right))
    lines = [(a + " " * _BETWEEN + b).rstrip() for a, b in zip(left, right, strict=True)]
    for label, value in long:
        lines += wrapped(value, width, f"{label}:  ")
    return lines


def _pair(label: str, value: str, width: int) -> str:
    return f"{label}:" + value.rjust(width - len(label) - 1)


def wrapped(text: str, width: int, lead: str) -> list[str]:
    """Paragraphs wrapped to the table's width, continued under the text after the lead; long words are never cut."""
    lines: list[str] = []
    for paragraph in text.split("\n"):
        first = lead if not lines else " " * len(lead)
        wrapped = textwrap.wrap(
            paragraph,
            width,
            initial_indent=first,
            subsequent_indent=" " * len(lead),
            break_long_words=False,
            break_on_hyphens=False,
        )
        lines += wrapped or [first.rstrip()]
    return lines
