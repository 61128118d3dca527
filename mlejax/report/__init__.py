"""Reports: what is already in a result, as text, HTML and data frames. No number is computed here."""

from mlejax.report.content import SUMMARISED_ABOVE, Leaf, Summary, Term, leaf_row
from mlejax.report.html import render_html
from mlejax.report.tables import glance, tidy
from mlejax.report.text import render_text

__all__ = ["SUMMARISED_ABOVE", "Leaf", "Summary", "Term", "glance", "leaf_row", "render_html", "render_text", "tidy"]
