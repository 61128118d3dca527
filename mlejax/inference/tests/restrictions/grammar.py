r"""Parser from the text of linear hypotheses to linear forms (the grammar is in `hypotheses`).

A tokenizer that keeps the text in square brackets, then recursive descent. Every parsing function is pure: it
takes a position and returns its value and the next position. Unreadable text is a ValueError with a caret.
"""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, NoReturn

import numpy as np

Resolve = Callable[[str], Any]

_NUMBER = re.compile(r"(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?")
_NAME = re.compile(r"[^\W\d]\w*")
_DOTTED = re.compile(r"\.\w+")
_DEEPEST = 50
_WINDOW = 60


class _Token(NamedTuple):
    kind: str  # "number", "address", "end", or the operator itself
    text: str
    start: int


class LinearForm(NamedTuple):
    """A linear form: sum of weight * theta[indices] + constant, elementwise over indices of one common length (or length
    one).
    """

    terms: tuple[tuple[np.ndarray, float], ...]
    constant: float


class Row(NamedTuple):
    """One restriction, linear = 0, with its text as written by the user; elementwise if a name selects several entries."""

    linear: LinearForm
    text: str


# ---- text -> tokens ---------------------------------------------------------------------------------------------


def _refuse(text: str, position: int, expected: str) -> NoReturn:
    """Raise ValueError with a message, what was ``expected``, that marks the position in the text with a caret."""
    flat = "".join(c if c.isprintable() else " " for c in text)
    first = max(0, min(position - _WINDOW // 2, len(flat) - _WINDOW))
    last = min(len(flat), first + _WINDOW)
    head, tail = "..." if first else "", "..." if last < len(flat) else ""
    caret = " " * (len(head) + position - first) + "^"
    raise ValueError(f"cannot read the hypothesis: {expected}\n    {head}{flat[first:last]}{tail}\n    {caret}")


def _tokens(text: str, names: Sequence[str] = ()) -> list[_Token]:
    """Split the text into tokens, the last of which is "end"; those of ``names`` that have unbalanced brackets, or that begin
    with the spread of random effects, ``sd(mu|patient)``, are recognised first.  ValueError: a character that no hypothesis has,
    or an inequality.
    """
    found: list[_Token] = []
    spreads = {n.partition("[")[0] for n in names if "|" in n.partition("[")[0]}
    whole = {n for n in names if n.count("[") != n.count("]") or n.partition("[")[0] in spreads}
    odd = sorted(whole | spreads, key=len, reverse=True)
    i = 0
    while i < len(text):
        c = text[i]
        known = next((n for n in odd if text.startswith(n, i)), None)
        if known is not None:
            end = i + len(known)
            end = _closing_bracket(text, end) + 1 if known in spreads and text.startswith("[", end) else end
            found.append(_Token("address", text[i:end], i))
            i = end
        elif c.isspace():
            i += 1
        elif text.startswith("==", i):
            found.append(_Token("=", "==", i))
            i += 2
        elif c in "+-*/=,()":
            found.append(_Token(c, c, i))
            i += 1
        elif number := _NUMBER.match(text, i):
            i = number.end()
            if i < len(text) and (_NAME.match(text, i) or text[i] in "[`"):
                _refuse(text, i, f"expected an operator after {number.group()} (write 2*beta, not 2beta)")
            found.append(_Token("number", number.group(), number.start()))
        elif c == "`" or _NAME.match(text, i):
            address, end = _address(text, i)
            found.append(_Token("address", address, i))
            i = end
        elif c in "<>!~":
            _refuse(text, i, "only equalities can be tested, so expected '='")
        else:
            _refuse(text, i, f"unexpected character {c!r}")
    return [*found, _Token("end", "", len(text))]


def _address(text: str, start: int) -> tuple[str, int]:
    """Return the name of an entry that begins at `start`, without backticks, and the position after it; ValueError if a
    bracket or backtick is not closed.
    """
    if text[start] == "`":
        close = text.find("`", start + 1)
        if close <= start + 1:
            _refuse(text, start, "expected a name closed by a second backtick")
        head, i = text[start + 1 : close], close + 1
    else:
        name = _NAME.match(text, start)
        assert name is not None
        head, i = name.group(), name.end()
    rest = i
    while i < len(text):
        if text[i] == "[":
            i = _closing_bracket(text, i) + 1
        elif dotted := _DOTTED.match(text, i):
            i = dotted.end()
        else:
            break
    return head + text[rest:i], i


def _closing_bracket(text: str, start: int) -> int:
    depth = 0
    for i in range(start, len(text)):
        depth += (text[i] == "[") - (text[i] == "]")
        if depth == 0:
            return i
    _refuse(text, start, "this bracket is never closed")


# ---- tokens -> linear forms -------------------------------------------------------------------------------------


class _Source(NamedTuple):
    """What the parsing functions read; each of them takes a position in ``tokens`` and returns its value and the next position.

    Attributes:
        text: the hypothesis.
        tokens: its tokens.
        resolve: function from a name to positions of entries.
        n: number of entries.
    """

    text: str
    tokens: list[_Token]
    resolve: Resolve
    n: int

    def refuse(self, position: int, expected: str) -> NoReturn:
        _refuse(self.text, self.tokens[position].start, expected)


def read_text(text: str, resolve: Resolve, n: int, names: Sequence[str] = ()) -> list[Row]:
    """Return the restrictions in one string.

    ``resolve``: function from the name of an entry or parameter to positions in 0..n-1; ``names``: names of all entries.

    Raises:
        ValueError: the string is empty, or cannot be read; a restriction has no parameter, or sides of different lengths.

    >>> [row.text for row in read_text("a = b, 2*c", {"a": [0], "b": [1], "c": [2]}.__getitem__, 3)]
    ['a = b', '2*c = 0']
    """
    if not text.strip():
        raise ValueError("the hypothesis is empty: expected something like 'mu = 0' or 'beta[1] = beta[2]'")
    source = _Source(text, _tokens(text, names), resolve, n)
    rows: list[Row] = []
    at = 0
    while True:
        found, at = _restriction(source, at, 0)
        rows += found
        kind = source.tokens[at].kind
        if kind == "end":
            return rows
        if kind != ",":
            source.refuse(at, _after_operand(source, at))
        at += 1


def _after_operand(source: _Source, at: int) -> str:
    if source.tokens[at].kind == "(" and at > 0 and source.tokens[at - 1].kind == "address":
        return f"functions such as {source.tokens[at - 1].text}(...) are not linear: use nlcom for them"
    return "expected an operator, '=', ',' or the end"


def _restriction(source: _Source, at: int, depth: int) -> tuple[list[Row], int]:
    """Read one restriction from token ``at``, such as ``a = b = 0``, which may stand in parentheses; return its rows, one for
    each equals sign ("= 0" is added if there is none), and the position after it.

    ``depth``: number of parentheses around it.  ValueError, with the position: it cannot be read, or contains no parameter.
    """
    inside = _parenthesised_restriction(source, at)
    if inside is not None:
        if depth >= _DEEPEST:
            source.refuse(at, f"parentheses nested deeper than {_DEEPEST}")
        rows, end = _restriction(source, at + 1, depth + 1)
        if end != inside:
            source.refuse(end, _after_operand(source, end))
        return rows, end + 1
    sides: list[tuple[LinearForm, str]] = []
    start = at
    while True:
        side, end = _sum(source, at, depth)
        text = source.text[source.tokens[at].start : source.tokens[end].start].strip()
        sides.append((side, " ".join(text.split())))
        if source.tokens[end].kind != "=":
            break
        at = end + 1
    if len(sides) == 1:
        sides.append((LinearForm((), 0.0), "0"))
    rows = []
    for (left, left_text), (right, right_text) in itertools.pairwise(sides):
        linear = LinearForm(left.terms + _scaled(right, -1.0).terms, left.constant - right.constant)
        if not linear.terms:
            source.refuse(start, "this restriction contains no parameter")
        _check_sizes(source, start, linear)
        rows.append(Row(linear, f"{left_text} = {right_text}"))
    return rows, end


def _parenthesised_restriction(source: _Source, at: int) -> int | None:
    """Return the position of the closing parenthesis if it encloses a whole restriction, as in '(a = b), (c = 0)'; else
    None.
    """
    if source.tokens[at].kind != "(":
        return None
    depth, equal = 0, False
    for i in range(at, len(source.tokens)):
        kind = source.tokens[i].kind
        depth += (kind == "(") - (kind == ")")
        equal = equal or kind == "="
        if depth == 0:
            return i if equal else None
    return None


def _sum(source: _Source, at: int, depth: int) -> tuple[LinearForm, int]:
    """Read terms joined by + and - from token ``at``; return their linear form and the position after them."""
    total, at = _term(source, at, depth)
    terms, constant = list(total.terms), total.constant
    while source.tokens[at].kind in ("+", "-"):
        sign = 1.0 if source.tokens[at].kind == "+" else -1.0
        term, at = _term(source, at + 1, depth)
        terms += _scaled(term, sign).terms
        constant += sign * term.constant
    return LinearForm(tuple(terms), constant), at


def _term(source: _Source, at: int, depth: int) -> tuple[LinearForm, int]:
    """Read factors joined by * and / from token ``at``; return their linear form and the position after them.

    ValueError, with the position: a product or a ratio of parameters, a division by zero, or a number too large.
    """
    product, at = _factor(source, at, depth)
    while source.tokens[at].kind in ("*", "/"):
        operator = at
        factor, at = _factor(source, at + 1, depth)
        if source.tokens[operator].kind == "/":
            if factor.terms:
                source.refuse(operator, "a parameter in a denominator is not linear: use nlcom for ratios")
            if factor.constant == 0:
                source.refuse(operator, "division by zero")
            product = _scaled(product, 1.0 / factor.constant)
        elif product.terms and factor.terms:
            source.refuse(operator, "a product of parameters is not linear: use nlcom for it")
        elif factor.terms:
            product = _scaled(factor, product.constant)
        else:
            product = _scaled(product, factor.constant)
        if not all(math.isfinite(w) for w in (product.constant, *(w for _, w in product.terms))):
            source.refuse(operator, "this number is too large")
    return product, at


def _factor(source: _Source, at: int, depth: int) -> tuple[LinearForm, int]:
    """Read a number, the name of an entry or a sum in parentheses, with signs before it; return its linear form and the position
    after it.  ValueError, with the position, if there is none.
    """
    sign = 1.0
    while source.tokens[at].kind in ("+", "-"):
        sign = -sign if source.tokens[at].kind == "-" else sign
        at += 1
    token = source.tokens[at]
    if token.kind == "number":
        number = float(token.text)
        if not math.isfinite(number):
            source.refuse(at, "this number is too large")
        return LinearForm((), sign * number), at + 1
    if token.kind == "address":
        return LinearForm(((entry_indices(token.text, source.resolve, source.n), sign),), 0.0), at + 1
    if token.kind == "(":
        if depth >= _DEEPEST:
            source.refuse(at, f"parentheses nested deeper than {_DEEPEST}")
        inner, end = _sum(source, at + 1, depth + 1)
        if source.tokens[end].kind != ")":
            source.refuse(end, "expected ')' or an operator")
        return _scaled(inner, sign), end + 1
    source.refuse(at, "expected a number, the name of an entry or '(' here")


def _scaled(linear: LinearForm, factor: float) -> LinearForm:
    return LinearForm(tuple((i, w * factor) for i, w in linear.terms), linear.constant * factor)


def entry_indices(address: str, resolve: Resolve, n: int) -> np.ndarray:
    """Return the positions 0..n-1 of the entries that a name selects, by ``resolve``.

    Raises:
        ValueError: it selects none, or a position outside 0..n-1; others are those of ``resolve``.

    >>> entry_indices("beta", {"beta": [2, 3]}.__getitem__, 4).tolist()
    [2, 3]
    """
    found = np.asarray(resolve(address))
    if found.size == 0:
        raise ValueError(f"{address!r} selects no estimated entry; expected the name of one")
    if found.dtype.kind not in "iu" or found.min() < 0 or found.max() >= n:
        raise ValueError(f"{address!r}: expected indices in 0..{n - 1}, got {found!r}")
    return found.ravel()


def _check_sizes(source: _Source, at: int, linear: LinearForm) -> None:
    sizes = {i.size for i, _ in linear.terms} - {1}
    if len(sizes) > 1:
        a, b = sorted(sizes)[:2]
        source.refuse(at, f"the two sides have different lengths, {a} and {b}")
