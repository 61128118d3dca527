"""Escape strings, such as a user's column names, so that LaTeX or Markdown shows exactly these strings."""

from __future__ import annotations

import re
import unicodedata

# a number as the tables print it: -0.1793, 1.25e-08, inf, and the shortened p-value <0.001
_NUMBER = re.compile(r"(<?)([-+]?)(\d+(?:\.\d+)?|inf)(?:e([-+]?\d+))?")

_LATEX = {
    "\\": r"\textbackslash{}",
    "&": r"\&",
    "%": r"\%",
    "$": r"\$",
    "#": r"\#",
    "_": r"\_",
    "{": r"\{",
    "}": r"\}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    '"': r"{\ttfamily\char34}",
    "`": r"\textasciigrave{}",
    "-": "-{}",  # -- and --- would become dashes
}
_MARKDOWN = re.compile(r"([\\`*_\[\]<>|$~&#!])")
_BLOCK = re.compile(r"^([-+=]|\d+(?=[.)](\s|$)))")


def one_line(text: str) -> str:
    """Replace line breaks and runs of blanks by one blank, and remove control characters.

    >>> one_line("a\\n b\\x00")
    'a b'
    """
    printable = "".join(" " if c.isspace() else c for c in text if c.isspace() or unicodedata.category(c) != "Cc")
    return " ".join(printable.split())


def latex(text: str) -> str:
    r"""Escape a string so that LaTeX prints it unchanged (package ``textcomp``, part of LaTeX since 2020).

    >>> print(latex("mu[log_pop] & 5%"))
    mu[log\_pop] \& 5\%
    """
    line = one_line(text)
    out = "".join(_LATEX.get(c, c) for c in line)
    out = re.sub(r"-\{\}(?!-)", "-", out)
    # after \\ and \midrule a bracket or a star would be read as an option
    return "{}" + out if line[:1] in ("[", "*") else out


def latex_cell(text: str) -> str:
    r"""Return a table cell in LaTeX: signed or scientific numbers in math mode, other strings escaped.

    >>> print(latex_cell("-0.18"), latex_cell("1.2e-08"), latex_cell("<0.001"), latex_cell("[0.025"))
    $-0.18$ $1.2\times 10^{-8}$ $<0.001$ {}[0.025
    """
    found = _NUMBER.fullmatch(text)
    if found is None:
        return latex(text)
    less, sign, digits, exponent = found.groups()
    if not (less or sign or exponent) and digits != "inf":
        return text
    body = r"\infty" if digits == "inf" else digits
    power = rf"\times 10^{{{int(exponent)}}}" if exponent is not None else ""
    return f"${less}{sign}{body}{power}$"


def markdown(text: str) -> str:
    r"""Escape a string so that Markdown (CommonMark with GitHub's tables) shows it inside a line: on one line, with single
    blanks. At the beginning of a line use `markdown_paragraph`.

    >>> print(markdown("P>|z| of x_1"))
    P\>\|z\| of x\_1
    """
    return _MARKDOWN.sub(r"\\\1", one_line(text))


def markdown_paragraph(text: str) -> str:
    r"""Escape a string for the beginning of a line, where a dash or a number with a dot would start a list.

    >>> print(markdown_paragraph("1. no"), markdown_paragraph("- 3"))
    1\. no \- 3
    """
    return _BLOCK.sub(lambda m: f"{m[1]}\\" if m[1].isdigit() else f"\\{m[1]}", markdown(text))


def markdown_code(text: str) -> str:
    r"""Return a name as a Markdown code span that can be used in a table cell.

    >>> print(markdown_code("mu[C(region)[T.north]]"), markdown_code("a`b|c"))
    `mu[C(region)[T.north]]` `` a`b\|c ``
    """
    line = one_line(text)
    if not line:
        return ""
    longest = max((len(run) for run in re.findall("`+", line)), default=0)
    fence, pad = "`" * (longest + 1), " " if longest else ""
    return f"{fence}{pad}{line}{pad}{fence}".replace("|", "\\|")
