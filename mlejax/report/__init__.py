"""Reports: the numbers of a result as text, HTML, LaTeX, Markdown and data frames. No number is computed here."""

from mlejax.report.comparison import Column, Comparison, compare
from mlejax.report.frames import glance, history, modes_table, tidy
from mlejax.report.summary import SUMMARISED_ABOVE, Leaf, Summary, Term, leaf_row

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
    "tidy",
]
