"""Show objects in notebooks as HTML: tables of the printed text as tables, lines as paragraphs and lists.

A printed text is a :class:`Text`, which stores its parts; a part that is a table is a :class:`CellText`, which stores its cells.
The style has no fixed colours, since a notebook may be dark: rules take the colour of the text.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from html import escape
from itertools import groupby
from typing import Any, TypeVar

Class = TypeVar("Class", bound=type)
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


class CellText(str):
    """The text of an aligned table, with its cells.

    Attributes:
        cells: the rows of the table as strings, the first of them the column heads (all empty if there are none).
        left: number of columns, from the first, that are aligned at the left.
    """

    cells: tuple[tuple[str, ...], ...]
    left: int

    def __new__(cls, text: str, cells: Iterable[Sequence[str]], left: int = 1) -> CellText:
        """Make a string that prints as ``text``; other arguments are the attributes."""
        made = super().__new__(cls, text)
        made.cells, made.left = tuple(map(tuple, cells)), left
        return made

    def to_html(self) -> str:
        """Return the cells as an HTML ``<table>``; without a head if all heads are empty."""
        side = lambda tag, j: f'<{tag} class="text" style="text-align: left">' if j < self.left else f"<{tag}>"
        rows = [
            "<tr>" + "".join(f"{side(tag, j)}{escape(cell)}</{tag}>" for j, cell in enumerate(row)) + "</tr>"
            for tag, rows in (("th", self.cells[:1]), ("td", self.cells[1:]))
            for row in rows
        ]
        head = f"<thead>{rows[0]}</thead>" if any(self.cells[0]) else ""
        return f'<table class="estimates">{head}<tbody>{"".join(rows[1:])}</tbody></table>'


class Text(str):
    """Lines that print as they are, at the prompt too, and show as HTML in a notebook.

    >>> Text(["Test", "  (1)  a < b"])
    Test
      (1)  a < b
    """

    parts: tuple[str, ...]

    def __new__(cls, parts: Sequence[str]) -> Text:
        """Join parts by line breaks: strings of one or more lines, `CellText` tables, and other `Text` (by its parts)."""
        made = super().__new__(cls, "\n".join(parts))
        made.parts = tuple(inner for part in parts for inner in (part.parts if isinstance(part, Text) else [part]))
        return made

    def __reduce__(self) -> tuple[type, tuple[str]]:
        return str, (str(self),)

    def __repr__(self) -> str:
        return str(self)

    def _repr_html_(self) -> str:
        """Return HTML: tables as tables, indented lines as a list, a first line above others as a bold title, other lines as
        paragraphs; empty lines and lines of dashes are left out.

        >>> Text(["Test", "  a < b"])._repr_html_().split("</style>")[1]
        '<p><strong>Test</strong></p><ul style="margin: 0.2em 0"><li>a &lt; b</li></ul></div>'
        """
        lines = [line for part in self.parts for line in ([part] if isinstance(part, CellText) else part.split("\n"))]
        lines = [line for line in lines if line.strip(" -")]
        kind_of = lambda line: "table" if isinstance(line, CellText) else "li" if line[0] == " " else "p"
        spaced, shown = re.compile("  +"), []
        for kind, run in groupby(lines, key=kind_of):
            if kind == "table":
                shown += [line.to_html() for line in run if isinstance(line, CellText)]
            else:
                each = [f"<{kind}>{spaced.sub('&emsp;', escape(line.strip()))}</{kind}>" for line in run]
                shown.append(f'<ul style="margin: 0.2em 0">{"".join(each)}</ul>' if kind == "li" else "".join(each))
        if len(lines) > 1 and shown[0].startswith("<p>"):
            shown[0] = shown[0].replace("<p>", "<p><strong>", 1).replace("</p>", "</strong></p>", 1)
        return f'<div class="mlejax"><style>{STYLE}</style>{"".join(shown)}</div>'


def in_notebooks(cls: Class) -> Class:
    """Class decorator: notebooks show an object as HTML made from the text of ``_shown()``, else ``summary()``, else
    ``__str__()``, the first of these that the class has.

    >>> @in_notebooks
    ... class Pair:
    ...     __str__ = lambda self: "a < b"
    >>> Pair()._repr_html_().split("</style>")[1]
    '<p>a &lt; b</p></div>'
    """

    door = next(name for name in ("_shown", "summary", "__str__") if hasattr(cls, name))

    def _repr_html_(self: Any) -> str:
        text = getattr(self, door)()
        return (text if isinstance(text, Text) else Text([text]))._repr_html_()

    cls._repr_html_ = _repr_html_  # type: ignore[attr-defined]
    return cls
