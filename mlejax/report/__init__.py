"""Reports of a result as text, HTML, LaTeX, Markdown and data frames. No statistic is computed here."""

from mlejax.report.comparison import Comparison, ComparisonColumn, compare
from mlejax.report.frames import glance, history, modes_table, tidy
from mlejax.report.presentation import STARS_SAID, Presentation, readable
from mlejax.report.summary import SUMMARISED_ABOVE, Summary, leaf_row
from mlejax.report.term_rows import LargeArray, Term

__all__ = [
    "STARS_SAID",
    "SUMMARISED_ABOVE",
    "Comparison",
    "ComparisonColumn",
    "LargeArray",
    "Presentation",
    "Summary",
    "Term",
    "compare",
    "glance",
    "history",
    "leaf_row",
    "modes_table",
    "readable",
    "tidy",
]
