"""The report as Markdown: tables of GitHub's flavour, which notebooks, Quarto and pandoc read as well.

Names of parameters are code spans; everything else that comes from outside is escaped.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from mlejax.report.cells import Grid, estimates_grid, leaves_grid
from mlejax.report.content import Summary
from mlejax.report.markup import markdown, markdown_code, markdown_paragraph


def render_markdown(summary: Summary) -> str:
    r"""The whole report as Markdown.

    Args:
      summary: content.

    Returns:
      Lines joined by newlines, without a final one.

    >>> from mlejax.report.content import Summary, Term
    >>> print(render_markdown(Summary("Fit", terms=(Term("a_1", -1.5, 0.25, -6.0, 2e-9, -1.99, -1.01),))))
    **Fit**
    <BLANKLINE>
    |  | coef | std err | z | P\>\|z\| | \[0.025 | 0.975\] |
    |:--|--:|--:|--:|--:|--:|--:|
    | `a_1` | -1.500 | 0.250 | -6.000 | \<0.001 | -1.990 | -1.010 |
    """
    parts = [f"**{markdown(summary.title)}**"] if summary.title else []
    if summary.header:
        parts.append(facts_table(summary.header))
    grids = [grid for grid in (estimates_grid(summary), leaves_grid(summary)) if grid.rows]
    parts += [_table(grid) for grid in grids]
    parts += [marked(marker, note) for grid in grids for marker, note in grid.notes]
    parts += paragraphs(summary.notes)
    parts += paragraphs(summary.footer)
    return "\n\n".join(parts)


def paragraphs(texts: Iterable[str]) -> list[str]:
    """Texts as paragraphs, their line breaks kept."""
    return ["  \n".join(markdown_paragraph(line) for line in text.split("\n")) for text in texts]


def marked(marker: str, note: str) -> str:
    """A note with its marker."""
    return f"({markdown(marker)}) {markdown(note)}"


def rows_of(heads: Sequence[str], rows: Iterable[Sequence[str]], align: Sequence[str]) -> str:
    """A table whose cells are Markdown already."""
    lines = [_row(heads), "|" + "|".join(align) + "|", *map(_row, rows)]
    return "\n".join(lines)


def facts_table(facts: Sequence[tuple[str, str]]) -> str:
    """The header's facts, two pairs a row, under an empty head (Markdown has no table without one)."""
    split = (len(facts) + 1) // 2
    rows = []
    for i in range(split):
        pairs = [facts[i], facts[split + i] if split + i < len(facts) else ("", "")]
        rows.append([markdown(part) for pair in pairs for part in pair])
    return rows_of(["", "", "", ""], rows, [":--", "--:", ":--", "--:"])


def _table(grid: Grid) -> str:
    heads = [markdown(head) for head in grid.heads]
    rows = [[markdown_code(row[0]), *map(markdown, row[1:])] for row in grid.rows]
    if grid.heads[-1] == "":
        heads = heads[:-1]
        rows = [[f"{row[0]} ({row[-1]})" if row[-1] else row[0], *row[1:-1]] for row in rows]
    return rows_of(heads, rows, [":--", *["--:"] * (len(heads) - 1)])


def _row(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"
