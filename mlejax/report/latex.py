r"""The report as LaTeX: a ``table`` in the style of the booktabs package, ready to be ``\input``.

Needs ``\usepackage{booktabs}`` in the preamble and nothing else. Everything that comes from outside is escaped, so
that a column named ``log_pop`` or ``50%`` neither breaks the document nor changes its meaning.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from mlejax.report.cells import Grid, estimates_grid, leaves_grid
from mlejax.report.content import Summary
from mlejax.report.markup import latex, latex_cell

_SHORT = 36  # a fact that is longer goes below the table


def render_latex(summary: Summary, *, caption: str | None = None, label: str | None = None) -> str:
    r"""The whole report as one LaTeX ``table``.

    Args:
      summary: content.
      caption: text of the caption (escaped); the report's title by default, none if empty.
      label: for ``\ref``.

    Returns:
      Lines joined by newlines, without a final one.

    >>> from mlejax.report.content import Summary, Term
    >>> print(render_latex(Summary("Fit", terms=(Term("a_1", -1.5, 0.25, -6.0, 2e-9, -1.99, -1.01),))))
    % needs \usepackage{booktabs}
    \begin{table}[htbp]
    \centering
    \caption{Fit}
    \begin{tabular}{lrrrrrr}
    \toprule
     & coef & std err & z & P\textgreater{}\textbar{}z\textbar{} & {}[0.025 & 0.975] \\
    \midrule
    a\_1 & $-1.500$ & 0.250 & $-6.000$ & $<0.001$ & $-1.990$ & $-1.010$ \\
    \bottomrule
    \end{tabular}
    \end{table}
    """
    short = [(k, v) for k, v in summary.header if len(k) + len(v) <= _SHORT]
    long = [f"{k}: {v}" for k, v in summary.header if len(k) + len(v) > _SHORT]
    grids = [grid for grid in (estimates_grid(summary), leaves_grid(summary)) if grid.rows]
    blocks = [facts_rows(short)] if short else []
    blocks += [tabular(grid) for grid in grids]
    notes = [latex(text) for text in long]
    notes += [marked(marker, note) for grid in grids for marker, note in grid.notes]
    notes += [latex(text) for text in (*summary.notes, *summary.footer)]
    return float_table(blocks, notes, summary.title if caption is None else caption, label)


def float_table(blocks: Sequence[list[str]], notes: Iterable[str], caption: str, label: str | None) -> str:
    """Tabulars and notes (LaTeX already) inside one ``table``."""
    lines = [r"% needs \usepackage{booktabs}", r"\begin{table}[htbp]", r"\centering"]
    if caption:
        lines.append(rf"\caption{{{latex(caption)}}}")
    if label:
        lines.append(rf"\label{{{checked_label(label)}}}")
    for i, block in enumerate(blocks):
        lines += [*([r"\par\medskip"] if i else []), *block]
    said = list(notes)
    if said:
        lines += [r"\par\smallskip", r"\begin{minipage}{\linewidth}\footnotesize\raggedright"]
        lines += ["\\par\n".join(said), r"\end{minipage}"]
    return "\n".join([*lines, r"\end{table}"])


def checked_label(label: str) -> str:
    r"""The label, which is no text: what ``\label`` cannot take is refused.

    >>> checked_label("tab:fit_1")
    'tab:fit_1'
    """
    if not label.isprintable() or any(c in "\\{}#%~^&$," for c in label):
        raise ValueError(
            f"label={label!r}: expected letters, digits and marks such as : - _ . that LaTeX's \\label takes"
        )
    return label


def marked(marker: str, note: str) -> str:
    """A note with its marker."""
    return rf"\textsuperscript{{{latex(marker)}}} {latex(note)}"


def facts_rows(facts: Sequence[tuple[str, str]]) -> list[str]:
    """The header's facts as a tabular of two pairs a row."""
    split = (len(facts) + 1) // 2
    lines = [r"\begin{tabular}{lrlr}", r"\toprule"]
    for i in range(split):
        pairs = [facts[i], *([facts[split + i]] if split + i < len(facts) else [])]
        cells = [part for label, value in pairs for part in (latex(label), latex_cell(value))]
        lines.append(" & ".join(cells + [""] * (4 - len(cells))).rstrip() + r" \\")
    return [*lines, r"\bottomrule", r"\end{tabular}"]


def tabular(grid: Grid) -> list[str]:
    """A table of strings, its last column of markers set as superscripts of the names."""
    has_marks = grid.heads[-1] == ""
    heads = grid.heads[:-1] if has_marks else grid.heads
    lines = [rf"\begin{{tabular}}{{l{'r' * (len(heads) - 1)}}}", r"\toprule"]
    lines += [" & ".join(latex_cell(head) for head in heads) + r" \\", r"\midrule"]
    for i, row in enumerate(grid.rows):
        if i in grid.breaks:
            lines.append(r"\midrule")
        name, *cells = row[: len(heads)]
        mark = rf"\textsuperscript{{{latex(row[-1])}}}" if has_marks and row[-1] else ""
        lines.append(" & ".join([latex(name) + mark, *map(latex_cell, cells)]) + r" \\")
    return [*lines, r"\bottomrule", r"\end{tabular}"]
