"""Write a report as text, in the style of statsmodels and Stata.

It has a title, a header of two columns, one row for each estimate, the notes with their markers, and the verdict. It is
78 characters wide, or more if names and numbers need it; nothing is cut. ASCII, apart from the user's own names.
"""

from __future__ import annotations

import textwrap

from mlejax.inference.tables.formatting import table_lines
from mlejax.report.page import Cell, Page, TextTable, in_pairs

WIDTH = 78
_BETWEEN = 4


def write_text(page: Page) -> str:
    """Return the report as text, without a final newline.

    >>> from mlejax.report.page import Line
    >>> row = Line(Cell("mu"), (Cell("1.500"), Cell("0.250")))
    >>> print(write_text(Page("Fit", (), (TextTable(("", "coef", "std err"), (row,)),), ())))
                                         Fit
    ==============================================================================
                                                                      coef    std err
    ------------------------------------------------------------------------------
    mu                                                               1.500      0.250
    ==============================================================================
    """
    blocks = [_spread(table) for table in page.tables]
    width = max([WIDTH, *(len(line) for block in blocks for line in block)])
    lines = [page.title.center(width).rstrip(), "=" * width]
    if page.facts:
        lines += [*_header(page.facts, width), "=" * width]
    for table, block in zip(page.tables, blocks, strict=True):
        lines += [block[0], "-" * width]
        for i, line in enumerate(block[1:]):
            lines += ["-" * width, line] if i in table.breaks else [line]
        lines.append("=" * width)
    for marker, note in page.notes:
        lines += wrapped(note, width, f"({marker}) " if marker else "")
    if page.footer and page.notes:
        lines.append("-" * width)
    for statement in page.footer:
        lines += wrapped(statement, width, "")
    return "\n".join(lines)


def _spread(table: TextTable) -> list[str]:
    """Return the lines of a table, heads first; a narrow table is widened to 78 characters.

    Names are left-aligned, numbers right-aligned; markers of names are in a last column.
    """
    hang = max([1, *(len(_mark(c.mark)) for line in table.lines for c in line.cells)]) if table.hanging else 0
    marked = any(line.name.mark for line in table.lines)
    cells = [(table.heads[0], *(head + " " * max(hang - 1, 0) for head in table.heads[1:]), *([""] if marked else []))]
    for line in table.lines:
        last = (line.name.mark,) if marked else ()
        cells.append((line.name.text, *(_hung(c, hang) for c in line.cells), *last))
    gaps = len(cells[0]) - 1
    widths = [max(len(row[j]) for row in cells) for j in range(gaps + 1)]
    spare = WIDTH - sum(widths) - 2 * gaps
    if spare <= 0:
        return table_lines(cells)
    gap = 2 + min(spare // gaps, 2)
    names = WIDTH - sum(widths[1:]) - gap * gaps  # what the gaps leave over goes between the names and the numbers
    return table_lines([(row[0].ljust(names), *row[1:]) for row in cells], gap=gap)


def _hung(cell: Cell, hang: int) -> str:
    """Return the text of a cell followed by its mark, padded to ``hang`` characters; if ``hang`` > 0, the parenthesis that
    closes a cell in parentheses belongs to the mark, so that digits are aligned.
    """
    text, mark = cell.text, _mark(cell.mark)
    if hang and text.startswith("(") and text.endswith(")"):
        text, mark = text[:-1], ")" + mark
    return text + mark.ljust(hang) if text or mark else ""


def _mark(mark: str) -> str:
    """Return stars unchanged, the marker of a note after a caret, "^a", and an empty string for no mark."""
    return f"^{mark}" if mark and not mark.startswith("*") else mark


def _header(facts: tuple[tuple[str, str], ...], width: int) -> list[str]:
    """Return the lines of the header, ``width`` characters: two columns of label and value; a long pair is wrapped on lines
    of its own below.
    """
    half = (width - _BETWEEN) // 2
    short = [pair for pair in facts if len(pair[0]) + len(pair[1]) + 3 <= half]
    lines = []
    for pairs in in_pairs(short):
        cells = [_pair(*pair, w) for pair, w in zip(pairs, (half, width - half - _BETWEEN), strict=False)]
        lines.append((" " * _BETWEEN).join(cells))
    for label, value in [pair for pair in facts if pair not in short]:
        lines += wrapped(value, width, f"{label}:  ")
    return lines


def _pair(label: str, value: str, width: int) -> str:
    return f"{label}:" + value.rjust(width - len(label) - 1)


def wrapped(text: str, width: int, lead: str) -> list[str]:
    """Wrap paragraphs to ``width`` characters after the string ``lead``, with continuation lines indented; long words are
    not broken.
    """
    lines: list[str] = []
    indent = " " * len(lead)
    for paragraph in text.split("\n"):
        first = indent if lines else lead
        lines += textwrap.wrap(
            paragraph,
            width,
            initial_indent=first,
            subsequent_indent=indent,
            break_long_words=False,
            break_on_hyphens=False,
        ) or [first.rstrip()]
    return lines
