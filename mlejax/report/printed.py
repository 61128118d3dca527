"""Base class of reports: they print as text, show as HTML in notebooks, and export to LaTeX and Markdown."""

from __future__ import annotations

from abc import ABC, abstractmethod

from mlejax.report.page import Page
from mlejax.report.writers.html import write_html
from mlejax.report.writers.latex import write_latex
from mlejax.report.writers.markdown import write_markdown
from mlejax.report.writers.text import write_text


class Printed(ABC):
    """A report that can be written as text, HTML, LaTeX and Markdown."""

    @abstractmethod
    def page(self) -> Page:
        """Return the contents of the report as strings, from which every format is written."""

    def as_text(self) -> str:
        """Return the report as text."""
        return write_text(self.page())

    def to_html(self) -> str:
        """Return the report as an HTML fragment."""
        return write_html(self.page())

    def to_latex(self, *, caption: str | None = None, label: str | None = None) -> str:
        r"""Return the report in LaTeX, as a ``table`` environment for the booktabs package.

        Args:
          caption: text of the caption; by default the title, none if empty.
          label: label for ``\\ref``; ValueError if it has characters that LaTeX does not allow there.
        """
        return write_latex(self.page(), caption, label)

    def to_markdown(self) -> str:
        """Return the report as GitHub-flavoured Markdown."""
        return write_markdown(self.page())

    def __str__(self) -> str:
        return self.as_text()

    __repr__ = __str__

    def _repr_html_(self) -> str:
        return self.to_html()
