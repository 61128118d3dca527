"""Content with a page: it prints as text, shows as HTML in a notebook, and is exported to LaTeX and Markdown."""

from __future__ import annotations

from abc import ABC, abstractmethod

from mlejax.report.page import Page
from mlejax.report.writers.html import write_html
from mlejax.report.writers.latex import write_latex
from mlejax.report.writers.markdown import write_markdown
from mlejax.report.writers.text import write_text


class Printed(ABC):
    """Content with a page."""

    @abstractmethod
    def page(self) -> Page:
        """The content as strings, before any layout."""

    def as_text(self) -> str:
        """The page as text."""
        return write_text(self.page())

    def to_html(self) -> str:
        """The page as an HTML fragment."""
        return write_html(self.page())

    def to_latex(self, *, caption: str | None = None, label: str | None = None) -> str:
        r"""The page for LaTeX's booktabs package, in a ``table`` environment.

        Args:
          caption: its text; by default the title, nothing if empty.
          label: for ``\\ref``.
        """
        return write_latex(self.page(), caption, label)

    def to_markdown(self) -> str:
        """The page as Markdown of GitHub's flavour."""
        return write_markdown(self.page())

    def __str__(self) -> str:
        return self.as_text()

    __repr__ = __str__

    def _repr_html_(self) -> str:
        return self.to_html()
