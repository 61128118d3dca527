"""Objects that print as text show as that text in notebooks, line by line."""

from __future__ import annotations

from html import escape
from typing import Any, TypeVar

Class = TypeVar("Class", bound=type)


def in_notebooks(cls: Class) -> Class:
    """The class, whose objects show in notebooks as their summary, or as what they print; a decorator.

    >>> @in_notebooks
    ... class Pair:
    ...     __str__ = lambda self: "a < b"
    >>> Pair()._repr_html_()
    '<pre class="mlejax">a &lt; b</pre>'
    """

    def _repr_html_(self: Any) -> str:
        text = self.summary() if callable(getattr(self, "summary", None)) else str(self)
        return f'<pre class="mlejax">{escape(str(text))}</pre>'

    cls._repr_html_ = _repr_html_  # type: ignore[attr-defined]
    return cls
