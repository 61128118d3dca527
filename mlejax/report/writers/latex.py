r"""Write a report as LaTeX: a ``table`` in the style of the booktabs package, ready to be ``\input``.

Needs ``\usepackage{booktabs}`` in the preamble and nothing else. All strings of the report are escaped, so
that a column named ``log_pop`` or ``50%`` neither breaks the document nor changes its meaning.
"""

from __future__ import annotations

from collections.abc import Sequence

from mlejax.report.page import Cell, Page, TextTable, in_pairs
from mlejax.report.writers.markup import latex, latex_cell

_SHORT = 36  # a fact that is longer goes below the table


def write_latex(page: Page, caption: str | None = None, label: str | None = None) -> str:
    r"""Return the report as one LaTeX ``table``, without a final newline.

    Args:
      page: the report.
      caption: text of the caption (escaped); by default the report's title, none if empty.
      label: label for ``\ref``; ValueError if it has characters that ``\label`` does not allow.

    >>> from mlejax.report.page import Line
    >>> row = Line(Cell("a_1"), (Cell("-1.500"), Cell("0.250")))
    >>> print(write_latex(Page("Fit", (), (TextTable(("", "coef", "[0.025"), (row,)),), ())))
    % needs \usepackage{booktabs}
    \begin{table}[htbp]
    \centering
    \caption{Fit}
    \begin{tabular}{lrr}
    \toprule
     & coef & {}[0.025 \\
    \midrule
    a\_1 & $-1.500$ & 0.250 \\
    \bottomrule
    \end{tabular}
    \end{table}
    """
    short = [(k, v) for k, v in page.facts if len(k) + len(v) <= _SHORT]
    notes = [latex(f"{k}: {v}") for k, v in page.facts if len(k) + len(v) > _SHORT]
    notes += [rf"\textsuperscript{{{latex(m)}}} {latex(note)}" if m else latex(note) for m, note in page.notes]
    notes += [latex(text) for text in page.footer]
    lines = [r"% needs \usepackage{booktabs}", r"\begin{table}[htbp]", r"\centering"]
    title = page.title if caption is None else caption
    if title:
        lines.append(rf"\caption{{{latex(title)}}}")
    if label:
        lines.append(rf"\label{{{checked_label(label)}}}")
    for i, block in enumerate([*([_facts(short)] if short else []), *map(_tabular, page.tables)]):
        lines += [*([r"\par\medskip"] if i else []), *block]
    if notes:
        lines += [r"\par\smallskip", r"\begin{minipage}{\linewidth}\footnotesize\raggedright"]
        lines += ["\\par\n".join(notes), r"\end{minipage}"]
    return "\n".join([*lines, r"\end{table}"])


def checked_label(label: str) -> str:
    r"""Return the label unchanged; ValueError if it has characters that ``\label`` does not allow.

    >>> checked_label("tab:fit_1")
    'tab:fit_1'
    """
    if not label.isprintable() or any(c in "\\{}#%~^&$," for c in label):
        raise ValueError(
            f"label={label!r}: expected letters, digits and marks such as : - _ . that LaTeX's \\label takes; leave out "
            "line breaks, backslashes and { } # % ~ ^ & $ ,"
        )
    return label


def _facts(facts: Sequence[tuple[str, str]]) -> list[str]:
    """Return the lines of a LaTeX tabular with two of the (label, value) pairs in each row, the first half on the left."""
    lines = [r"\begin{tabular}{lrlr}", r"\toprule"]
    for pairs in in_pairs(facts):
        cells = [part for label, value in pairs for part in (latex(label), latex_cell(value))]
        lines.append(" & ".join(cells + [""] * (4 - len(cells))).rstrip() + r" \\")
    return [*lines, r"\bottomrule", r"\end{tabular}"]


def _tabular(table: TextTable) -> list[str]:
    lines = [rf"\begin{{tabular}}{{l{'r' * (len(table.heads) - 1)}}}", r"\toprule"]
    lines += [" & ".join(latex_cell(head) for head in table.heads) + r" \\", r"\midrule"]
    for i, line in enumerate(table.lines):
        if i in table.breaks:
            lines.append(r"\midrule")
        name = latex(line.name.text) + _mark(line.name)
        lines.append(" & ".join([name, *map(_number, line.cells)]) + r" \\")
    return [*lines, r"\bottomrule", r"\end{tabular}"]


def _number(cell: Cell) -> str:
    inside = cell.text.startswith("(") and cell.text.endswith(")")
    text = f"({latex_cell(cell.text[1:-1])})" if inside else latex_cell(cell.text)
    return text + _mark(cell)


def _mark(cell: Cell) -> str:
    return rf"\textsuperscript{{{latex(cell.mark)}}}" if cell.mark else ""
