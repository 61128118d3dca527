"""Write a report as a self-contained HTML fragment, for notebooks.

No script, no external style sheet, no fixed colours (a notebook may be dark): borders take the colour of the text.
All strings of the report are escaped.
"""

from __future__ import annotations

from html import escape

from mlejax.notebook import STYLE
from mlejax.report.page import Cell, Page, TextTable, in_pairs


def write_html(page: Page) -> str:
    """Return the report as an HTML fragment, a ``<div class="mlejax">`` with its own style; all strings are escaped.

    >>> "&lt;b&gt;" in write_html(Page("<b>", (), (), ()))
    True
    """
    parts = ['<div class="mlejax">', f"<style>{STYLE}</style>", _header(page)]
    parts += [_table(table) for table in page.tables]
    for marker, note in page.notes:
        lead = f"<sup>{escape(marker)}</sup> " if marker else ""
        parts.append(f'<p class="note">{lead}{_lines(note)}</p>')
    parts += [f'<p class="verdict">{_lines(statement)}</p>' for statement in page.footer]
    return "\n".join([*parts, "</div>"])


def _lines(text: str) -> str:
    return escape(text).replace("\n", "<br>")


def _header(page: Page) -> str:
    lines = ['<table class="header">', f"<caption>{escape(page.title)}</caption>", "<tbody>"]
    lines += [f"<tr>{''.join(_pair(*pair) for pair in pairs)}</tr>" for pairs in in_pairs(page.facts)]
    return "\n".join([*lines, "</tbody>", "</table>"])


def _pair(label: str, value: str) -> str:
    return f'<th scope="row" class="label">{escape(label)}</th><td class="text">{_lines(value)}</td>'


def _cell(cell: Cell) -> str:
    return escape(cell.text) + (f"<sup>{escape(cell.mark)}</sup>" if cell.mark else "")


def _table(table: TextTable) -> str:
    heads = "".join(f'<th scope="col">{escape(head)}</th>' for head in table.heads)
    lines = [f'<table class="{table.kind}">', "<thead>", f"<tr>{heads}</tr>", "</thead>", "<tbody>"]
    for i, line in enumerate(table.lines):
        body = "".join(f"<td>{_cell(c)}</td>" for c in line.cells)
        opening = '<tr class="group">' if i in table.breaks else "<tr>"
        lines.append(f'{opening}<th scope="row" class="name">{_cell(line.name)}</th>{body}</tr>')
    return "\n".join([*lines, "</tbody>", "</table>"])
