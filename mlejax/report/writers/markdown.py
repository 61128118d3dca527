"""Write a report as Markdown, with tables in GitHub's flavour, which notebooks, Quarto and pandoc read as well.

Names of parameters are code spans; all other strings are escaped.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from mlejax.report.page import Cell, Page, TextTable, in_pairs
from mlejax.report.writers.markup import markdown, markdown_code, markdown_paragraph


def write_markdown(page: Page) -> str:
    r"""Return the whole report as Markdown.

    >>> from mlejax.report.page import Line
    >>> row = Line(Cell("a_1"), (Cell("-1.500"), Cell("<0.001")))
    >>> print(write_markdown(Page("Fit", (), (TextTable(("", "coef", "P>|z|"), (row,)),), ())))
    **Fit**
    <BLANKLINE>
    |  | coef | P\>\|z\| |
    |:--|--:|--:|
    | `a_1` | -1.500 | \<0.001 |
    """
    parts = [f"**{markdown(page.title)}**"] if page.title else []
    if page.facts:
        # Markdown has no table without a head
        rows = [[markdown(part) for pair in (*pairs, ("", ""))[:2] for part in pair] for pairs in in_pairs(page.facts)]
        parts.append(_rows(["", "", "", ""], rows, [":--", "--:", ":--", "--:"]))
    parts += [_table(table) for table in page.tables]
    for marker, note in page.notes:
        parts.append(f"({markdown(marker)}) {markdown(note)}" if marker else _paragraph(note))
    return "\n\n".join([*parts, *map(_paragraph, page.footer)])


def _paragraph(text: str) -> str:
    """Return a paragraph as Markdown that keeps its line breaks."""
    return "  \n".join(markdown_paragraph(line) for line in text.split("\n"))


def _rows(heads: Sequence[str], rows: Iterable[Sequence[str]], align: Sequence[str]) -> str:
    """Return a Markdown table of ``heads`` and ``rows``, which must be Markdown already; ``align``: ":--" or "--:" for each
    column.
    """
    lines = [f"| {' | '.join(cells)} |" for cells in (heads, *rows)]
    return "\n".join([lines[0], "|" + "|".join(align) + "|", *lines[1:]])


def _table(table: TextTable) -> str:
    rows = []
    for line in table.lines:
        name = markdown_code(line.name.text) if line.code else markdown(line.name.text)
        mark = f" ({line.name.mark})" if line.name.mark else ""
        rows.append([name + mark, *map(_cell, line.cells)])
    return _rows([markdown(head) for head in table.heads], rows, [":--", *["--:"] * (len(table.heads) - 1)])


def _cell(cell: Cell) -> str:
    mark = markdown(cell.mark)
    return markdown(cell.text) + (mark if not mark or cell.mark.startswith("*") else f"<sup>{mark}</sup>")
