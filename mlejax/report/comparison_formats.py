"""A comparison as text, HTML, LaTeX and Markdown; all lay out the same cells (:func:`mlejax.report.comparison.body`)."""

from __future__ import annotations

from html import escape

from mlejax.report import html, latex, markdown
from mlejax.report.comparison import Body, Cell, Comparison, Row, body
from mlejax.report.markup import latex as latex_text
from mlejax.report.markup import latex_cell, markdown_code
from mlejax.report.markup import markdown as markdown_text
from mlejax.report.text import WIDTH, wrapped

TITLE = "Comparison of fits"


def as_text(table: Comparison) -> str:
    """Text, 78 characters wide or as wide as the fits need; digits stand below digits."""
    found = body(table)
    rows = (*found.terms, *found.facts)
    hang = max([1, *(len(_mark(c.mark)) for row in rows for c in row.cells)])
    cells = [[_hung(c, hang) for c in row.cells] for row in rows]
    heads = [c.name + " " * (hang - 1) for c in table.columns]
    widths = [max(len(head), *(len(row[j]) for row in cells)) for j, head in enumerate(heads)]
    names = max(len(row.name) for row in rows)
    room = WIDTH - names - sum(widths)
    gap = max(2, min(4, room // len(widths)))
    names = max(names, WIDTH - sum(widths) - gap * len(widths))
    width = names + sum(widths) + gap * len(widths)

    def line(name: str, parts: list[str]) -> str:
        return (
            name.ljust(names) + "".join(" " * gap + p.rjust(w) for p, w in zip(parts, widths, strict=True))
        ).rstrip()

    lines = [TITLE.center(width).rstrip(), "=" * width, line("", heads), "-" * width]
    lines += [line(row.name, parts) for row, parts in zip(found.terms, cells, strict=False)]
    lines.append("-" * width)
    lines += [line(row.name, parts) for row, parts in zip(found.facts, cells[len(found.terms) :], strict=True)]
    lines.append("=" * width)
    for marker, note in found.notes:
        lines += wrapped(note, width, f"({marker}) " if marker else "")
    return "\n".join(lines)


def _hung(cell: Cell, hang: int) -> str:
    """The cell with its mark; a closing parenthesis hangs too, so that digits stand below digits."""
    text, mark = cell.text, _mark(cell.mark)
    if text.startswith("(") and text.endswith(")"):
        text, mark = text[:-1], ")" + mark
        return text + mark.ljust(hang) if len(mark) <= hang else text + mark
    return text + mark.ljust(hang) if text or mark else ""


def _mark(mark: str) -> str:
    """Stars as they are; the marker of a note after a caret, so that it does not run into a word."""
    return f"^{mark}" if mark and not mark.startswith("*") else mark


def as_html(table: Comparison) -> str:
    """One HTML fragment with its own style; names are escaped."""
    found = body(table)
    lines = ['<div class="mlejax">', f"<style>{html.STYLE}</style>", '<table class="estimates">', "<thead>"]
    heads = "".join(f'<th scope="col">{escape(c.name)}</th>' for c in table.columns)
    lines += [f'<tr><th scope="col"></th>{heads}</tr>', "</thead>", "<tbody>"]
    lines += [_html_row(row, False) for row in found.terms]
    lines += [_html_row(row, i == 0) for i, row in enumerate(found.facts)]
    lines += ["</tbody>", "</table>"]
    for marker, note in found.notes:
        lead = f"<sup>{escape(marker)}</sup> " if marker else ""
        lines.append(f'<p class="note">{lead}{escape(note)}</p>')
    return "\n".join([*lines, "</div>"])


def _html_row(row: Row, opens: bool) -> str:
    cells = "".join(f"<td>{escape(c.text)}{f'<sup>{escape(c.mark)}</sup>' if c.mark else ''}</td>" for c in row.cells)
    opening = '<tr class="group">' if opens else "<tr>"
    return f'{opening}<th scope="row" class="name">{escape(row.name)}</th>{cells}</tr>'


def as_latex(table: Comparison, caption: str | None, label: str | None) -> str:
    """A ``table`` for booktabs."""
    found = body(table)
    lines = [rf"\begin{{tabular}}{{l{'r' * len(table.columns)}}}", r"\toprule"]
    lines += [" & ".join(["", *(latex_text(c.name) for c in table.columns)]).lstrip(" ") + r" \\", r"\midrule"]
    lines += [_latex_row(row) for row in found.terms]
    lines += [r"\midrule", *(_latex_row(row) for row in found.facts), r"\bottomrule", r"\end{tabular}"]
    notes = [latex.marked(m, note) if m else latex_text(note) for m, note in found.notes]
    return latex.float_table([lines], notes, TITLE if caption is None else caption, label)


def _latex_row(row: Row) -> str:
    cells = []
    for cell in row.cells:
        text = latex_cell(cell.text)
        if cell.text.startswith("(") and cell.text.endswith(")"):
            text = f"({latex_cell(cell.text[1:-1])})"
        cells.append(text + (rf"\textsuperscript{{{latex_text(cell.mark)}}}" if cell.mark else ""))
    return " & ".join([latex_text(row.name), *cells]) + r" \\"


def as_markdown(table: Comparison) -> str:
    """A table of GitHub's flavour, errors below the estimates in rows of their own."""
    found: Body = body(table)
    rows = []
    for row in (*found.terms, *found.facts):
        name = markdown_code(row.name) if row.is_term else markdown_text(row.name)
        rows.append([name, *(_markdown_cell(c) for c in row.cells)])
    heads = ["", *(markdown_text(c.name) for c in table.columns)]
    parts = [markdown.rows_of(heads, rows, [":--", *["--:"] * len(table.columns)])]
    for marker, note in found.notes:
        parts += [markdown.marked(marker, note)] if marker else markdown.paragraphs([note])
    return "\n\n".join(parts)


def _markdown_cell(cell: Cell) -> str:
    mark = (
        f"<sup>{markdown_text(cell.mark)}</sup>"
        if cell.mark and not cell.mark.startswith("*")
        else markdown_text(cell.mark)
    )
    return markdown_text(cell.text) + mark
