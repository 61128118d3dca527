"""Reports: what is already in a result, as text, HTML, LaTeX, Markdown and data frames. No number is computed here."""

from mlejax.report.comparison import Column, Comparison, compare
from mlejax.report.content import SUMMARISED_ABOVE, Leaf, Summary, Term, leaf_row
from mlejax.report.frames import glance, history, modes_table, tidy
from mlejax.report.html import render_html
from mlejax.report.latex import render_latex
from mlejax.report.markdown import render_markdown
from mlejax.report.text import render_text

__all__ = [
    "SUMMARISED_ABOVE",
    "Column",
    "Comparison",
    "Leaf",
    "Summary",
    "Term",
    "compare",
    "glance",
    "history",
    "leaf_row",
    "modes_table",
    "render_html",
    "render_latex",
    "render_markdown",
    "render_text",
    "tidy",
]
