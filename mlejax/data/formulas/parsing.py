"""Parsing of formulas: the columns that they name, and errors that are found before anything is evaluated."""

from __future__ import annotations

import ast
import builtins
import re
from collections.abc import Iterator
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np

from mlejax.data.errors import missing_column
from mlejax.data.read.table import Table

if TYPE_CHECKING:
    from formulaic import Formula
    from formulaic.parser.types import Factor

_QUOTED = re.compile(r"`([^`]*)`")
_GRAMMARS = (  # of other programs: what a formula that cannot be read has, and what to write
    (r"\bas\.factor\(|\bis\.", "as.factor(x) is C(x); other functions of R make columns before the fit"),
    (r"\|", "random effects are mle.Linear('x', random='1 | firm')"),
    (r"#", "Stata's a#b is a:b, and a##b is a * b"),
    (r"[<>=]", "a comparison is I(age > 30)"),
    (r",", "terms are joined by +"),
)
_FUNCTIONS = {"factor": "C(x)", "i": "C(x)", "relevel": "C(x, Treatment(level))", "ifelse": "np.where(x > 0, 1, 0)"}  # of R
_COLOURS = re.compile(r"\x1b\[[0-9;]*m|[⧛⧚]")


def plain_text(error: Exception) -> str:
    """Return formulaic's error message on one line, without colour codes."""
    return " ".join(_COLOURS.sub("", str(error)).split())


def check_formula(text: str, parameter: str) -> str:
    """Return the right-hand side of a formula, without a leading ``~``.

    Args:
        text: the formula.
        parameter: the parameter that has it, for messages.

    Raises:
        ValueError: the formula is empty, has a left-hand side, '.' or more than one part, or formulaic cannot parse it.
    """
    what = f"regress({parameter}={text!r})"
    left, tilde, right = text.partition("~")
    if tilde and left.strip():
        raise ValueError(
            f"{what}: expected no left-hand side, because the log-likelihood itself reads the outcome; write the right-hand "
            f"side alone, {parameter}={right.strip()!r}"
        )
    rhs = (right if tilde else text).strip()
    if not rhs:
        raise ValueError(f"{what}: the formula is empty; write '1' for an intercept alone")
    if re.search(r"(?<![\w.)\]`])\.(?!\w)", rhs):
        raise ValueError(f"{what}: '.' would include every column, the outcome too; name the columns one by one")
    if not rhs.isidentifier():
        parse(rhs, what)
    return rhs


def parse(rhs: str, what: str) -> Formula:
    """Return formulaic's formula of a right-hand side.

    Raises:
        ValueError: formulaic cannot parse it, it has several parts, or a power in it is not a power (`_refuse_powers`); the
            message begins with ``what``.
    """
    import formulaic

    meant = next((f" ({advice})" for pattern, advice in _GRAMMARS if re.search(pattern, _QUOTED.sub("", rhs))), "")
    try:
        found = formulaic.Formula(rhs)
    except Exception as error:
        raise ValueError(
            f"{what}: formulaic cannot read this formula; correct its syntax{meant}. formulaic says: {plain_text(error)}"
        ) from error
    if not isinstance(found, formulaic.SimpleFormula):
        raise ValueError(f"{what}: expected one right-hand side, such as 'age + C(region)', without '~' and '|'{meant}")
    _refuse_powers(rhs, what)
    return found


def _refuse_powers(rhs: str, what: str) -> None:
    """Raise ValueError for ``x ** 2`` and ``x ^ 2`` of one term, which the grammar of formulas reads as ``x``, and for ``^`` in
    a Python expression, such as ``I(x ^ 2)``, where it is the exclusive or of bits.
    """
    if "^" not in rhs and "**" not in rhs:
        return
    from formulaic.parser import DefaultFormulaParser
    from formulaic.parser.types import ASTNode, Token

    nodes: list[Any] = [DefaultFormulaParser().get_ast(rhs)]
    while nodes:
        node = nodes.pop()
        if isinstance(node, ASTNode):
            nodes += node.args
            symbol, first = node.operator.symbol, node.args[0]
            if symbol in ("**", "^") and isinstance(first, Token):
                power = f"{first.token} {symbol} {node.args[1]}"
                raise ValueError(
                    f"{what}: in the grammar of formulas, {power} is {first.token} itself, without interactions; write "
                    f"I({first.token} ** {node.args[1]}) for a power"
                )
        elif isinstance(node, Token) and node.kind is Token.Kind.PYTHON and _has_xor(node.token):
            raise ValueError(f"{what}: inside a function, ^ is Python's exclusive or of bits; write ** for a power, I(age ** 2)")


def _has_xor(expression: str) -> bool:
    """True if a Python expression of a formula has the operator ``^``."""
    try:
        tree = ast.parse(_QUOTED.sub("0", expression), mode="eval")
    except SyntaxError:
        return False
    return any(isinstance(node, ast.BitXor) for node in ast.walk(tree))


def terms_of(rhs: str, what: str) -> tuple[str, ...]:
    """Return the terms of a formula as strings, "Intercept" for the constant; errors as in `parse`."""
    return tuple("Intercept" if str(term) == "1" else str(term) for term in parse(rhs, what))


@lru_cache(maxsize=256)
def columns_in_terms(rhs: str, name: str) -> tuple[str, ...]:
    """Return, as strings, the terms of the formula ``rhs`` that use the column ``name``.

    >>> columns_in_terms("x + log(x):z + poly(y, 2)", "x")
    ('x', 'log(x):z')
    """
    return tuple(str(term) for term in parse(rhs, rhs) if any(uses(factor, name) for factor in term.factors))


def uses(factor: Factor, name: str) -> bool:
    """True if a factor of one of formulaic's terms is the column ``name`` or a Python expression with it."""
    python = factor.eval_method.value == "python"
    return factor.expr == name or (python and name in {found for found, _ in names_in(factor.expr)})


def names_in(expression: str) -> Iterator[tuple[str, bool]]:
    """Yield (name, True if it is called as a function) for every occurrence of a name in a Python expression of a formula;
    names in backquotes first.
    """
    for name in _QUOTED.findall(expression):
        yield name, False
    tree = ast.parse(_QUOTED.sub("0", expression), mode="eval")
    called = {id(node.func) for node in ast.walk(tree) if isinstance(node, ast.Call)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Name):
            yield node.id, id(node) in called


def columns_of(text: str, table: Table, what: str) -> tuple[str, ...]:
    """Return the names of the columns of the data that a formula uses.

    Args:
        text: a formula, or the exact name of a column or matrix.
        table: the data.
        what: the beginning of error messages.

    Raises:
        MissingColumnError: a name is neither a column nor a name of formulaic or Python's builtins.
        ValueError: an unknown function is called, offset() or exposure() is in the formula, or it cannot be parsed.
    """
    if text in table:
        return (text,)
    from formulaic.transforms import TRANSFORMS

    found: dict[str, None] = {}
    for term in parse(text, what):
        for factor in term.factors:
            kind = factor.eval_method.value
            if kind == "literal":
                continue
            for name, called in [(factor.expr, False)] if kind == "lookup" else names_in(factor.expr):
                if name in table:
                    found[name] = None
                elif name not in TRANSFORMS and not hasattr(builtins, name):
                    raise _unknown(name, called, table, what)
    return tuple(found)


def _unknown(name: str, called: bool, table: Table, what: str) -> Exception:
    if called and name in ("offset", "exposure"):
        return ValueError(
            f"{what}: {name}() is not part of a formula; write mle.Linear('...', {name}='column') for a term whose "
            "coefficient is 1"
        )
    if called and (name in _FUNCTIONS or isinstance(getattr(np, name, None), np.ufunc)):
        return ValueError(f"{what}: unknown function {name!r}; write {_FUNCTIONS.get(name, f'np.{name}(x)')}")
    if called:
        return ValueError(
            f"{what}: unknown function {name!r}; formulas can use columns, formulaic's transforms (C, log, exp, scale, center, "
            "poly, bs, cr, np. ...) and Python's builtins: make a column of its values before the fit"
        )
    stata = re.fullmatch(r"(?:i|c|ib?\d+)\.(\w+)", name)
    if stata:
        column = stata[1]
        levels = column if name.startswith("c.") else f"C({column}) (base level 2: C({column}, Treatment(2)))"
        return ValueError(f"{what}: no column {name!r} in the data; Stata's {name} is {levels}")
    return missing_column(name, table.keys, what)
