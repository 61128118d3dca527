"""The same report as a self-contained HTML table, for notebooks.

No script, no external style sheet, no fixed colours (a notebook may be dark): borders take the colour of the text.
Everything that comes from outside is escaped.
"""

from __future__ import annotations

from html import escape

from mlejax.report.cells import Grid, estimates_grid, leaves_grid
from mlejax.report.content import Summary

STYLE = """
.mlejax { font-size: 0.9em; line-height: 1.35; max-width: 60em; overflow-x: auto; }
.mlejax table { border-collapse: collapse; margin: 0 0 0.6em 0; font-variant-numeric: tabular-nums; }
.mlejax caption { caption-side: top; text-align: left; font-weight: bold; padding: 0.2em 0; color: inherit; }
.mlejax th, .mlejax td { padding: 0.15em 0.7em; text-align: right; border: none; background: none; }
.mlejax th.name, .mlejax td.text { text-align: left; }
.mlejax th.name, .mlejax .label { font-weight: normal; }
.mlejax .label { text-align: left; opacity: 0.75; }
.mlejax table.estimates, .mlejax table.leaves { border-top: 2px solid; border-bottom: 2px solid; }
.mlejax thead th { border-bottom: 1px solid; }
.mlejax tr.group th, .mlejax tr.group td { border-top: 1px solid; }
.mlejax p { margin: 0.2em 0; }
"""


def render_html(summary: Summary) -> str:
    """The whole report as one HTML fragment.

    Args:
      summary: content.

    Returns:
      A ``<div class="mlejax">`` with its own style; what came from the user is escaped.

    >>> from mlejax.report.content import Summary
    >>> "&lt;b&gt;" in render_html(Summary("<b>"))
    True
    """
    parts = ['<div class="mlejax">', f"<style>{STYLE}</style>", _header(summary)]
    estimates, leaves = estimates_grid(summary), leaves_grid(summary)
    for grid, kind in ((estimates, "estimates"), (leaves, "leaves")):
        if grid.rows:
            parts.append(_table(grid, kind))
    for marker, note in (*estimates.notes, *leaves.notes):
        parts.append(f'<p class="note"><sup>{escape(marker)}</sup> {_lines(note)}</p>')
    parts += [f'<p class="note">{_lines(note)}</p>' for note in summary.notes]
    parts += [f'<p class="verdict">{_lines(statement)}</p>' for statement in summary.footer]
    return "\n".join([*parts, "</div>"])


def _lines(text: str) -> str:
    return escape(text).replace("\n", "<br>")


def _header(summary: Summary) -> str:
    split = (len(summary.header) + 1) // 2
    left, right = summary.header[:split], summary.header[split:]
    lines = ['<table class="header">', f"<caption>{escape(summary.title)}</caption>", "<tbody>"]
    for i, pair in enumerate(left):
        cells = [_pair(*pair), *([_pair(*right[i])] if i < len(right) else [])]
        lines.append(f"<tr>{''.join(cells)}</tr>")
    return "\n".join([*lines, "</tbody>", "</table>"])


def _pair(label: str, value: str) -> str:
    return f'<th scope="row" class="label">{escape(label)}</th><td class="text">{_lines(value)}</td>'


def _table(grid: Grid, kind: str) -> str:
    marked = grid.heads[-1] == ""
    heads = grid.heads[:-1] if marked else grid.heads
    lines = [f'<table class="{kind}">', "<thead>"]
    lines.append("<tr>" + "".join(f'<th scope="col">{escape(head)}</th>' for head in heads) + "</tr>")
    lines += ["</thead>", "<tbody>"]
    for i, row in enumerate(grid.rows):
        name, *cells = row[: len(heads)]
        marker = f"<sup>{escape(row[-1])}</sup>" if marked and row[-1] else ""
        body = "".join(f"<td>{escape(cell)}</td>" for cell in cells)
        opening = '<tr class="group">' if i in grid.breaks else "<tr>"
        lines.append(f'{opening}<th scope="row" class="name">{escape(name)}{marker}</th>{body}</tr>')
    return "\n".join([*lines, "</tbody>", "</table>"])
