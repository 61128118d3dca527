"""Evaluation of formulas in chunks of rows, which needs little memory beside the design matrix.

formulaic keeps every factor, every coded column and their table at once, three times the design.  Where each row of a formula's
columns depends on that row only, given the levels of its categories, chunks of rows give the same numbers.  That is decided
from the formula's text and the types of the columns: plain columns, categories (``C(region)`` too), arithmetic and functions
that work entry by entry.  All other formulas (``scale``, ``poly``, ``bs``, ``x - x.mean()``) are evaluated on all rows at once.
"""

from __future__ import annotations

import ast
import gc
import re
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from mlejax.execution import aligned, limits

if TYPE_CHECKING:
    import pandas as pd
    from formulaic import Formula

BY_ENTRY = frozenset(("I", "log", "log10", "log2", "exp", "exp2"))
BY_ENTRY_NUMPY = frozenset(
    "abs arctan cos exp exp2 expm1 log log10 log1p log2 sign sin sqrt square tanh".split()  # noqa: SIM905
)
CATEGORY = re.compile(r"C\(\s*([^\W\d]\w*)\s*\)")
_ARITHMETIC = (ast.Expression, ast.BinOp, ast.UnaryOp, ast.operator, ast.unaryop, ast.Load)


def in_chunks(
    parsed: Formula, frame: pd.DataFrame, materialise: Callable[[Any, Any], Any]
) -> tuple[Any, np.ndarray] | None:
    """Return the design of a formula, evaluated in chunks of its rows.

    Args:
        parsed: formulaic's formula.
        frame: the columns of the formula, a DataFrame of n rows numbered from 0.
        materialise: function (method of a formula or ModelSpec, frame) -> model matrix.

    Returns:
        formulaic's ModelSpec and the columns (n, k), float64; None if there are at most 2 ``limits().read_rows`` rows, more
        levels than fit into ``limits().read_rows`` rows, or no columns, or if the formula may need all rows at once.
    """
    if len(frame) <= 2 * limits().read_rows:
        return None
    categories = categories_of(parsed, frame)
    if categories is None:
        return None
    try:
        rows = rows_with_levels(frame, categories)
    except TypeError:  # values that cannot be told apart
        return None
    if rows.size > limits().read_rows:
        return None
    spec = materialise(parsed.get_model_matrix, frame.iloc[rows].reset_index(drop=True)).model_spec
    if spec.transform_state or not spec.column_names:
        return None
    out = aligned((len(frame), len(spec.column_names)), np.float64)
    for run in chunks(len(frame)):
        out[run] = materialise(spec.get_model_matrix, frame.iloc[run].reset_index(drop=True))
        collect_cycles()
    return spec, out


def collect_cycles() -> None:
    """Collect the recent reference cycles that keep formulaic's temporary columns alive."""
    gc.collect(1)


def chunks(n: int) -> Iterator[slice]:
    """Yield slices of at most ``limits().read_rows`` rows that together cover all n rows."""
    return (slice(at, min(at + limits().read_rows, n)) for at in range(0, n, limits().read_rows))


def rows_with_levels(frame: pd.DataFrame, categories: set[str]) -> np.ndarray:
    """Return the positions, ascending, of the first two rows of ``frame`` and of those in which a level of a column of
    ``categories`` first occurs.
    """
    wanted = np.zeros(len(frame), bool)
    wanted[:2] = True
    for name in categories:
        wanted |= ~frame[name].duplicated().to_numpy()
    return np.flatnonzero(wanted)


def categories_of(parsed: Formula, frame: pd.DataFrame) -> set[str] | None:
    """Return the names of the columns that formulaic's formula ``parsed`` treats as categorical, from its text and the types of
    the columns in ``frame``; None if the values in a row may depend on other rows (any function outside `BY_ENTRY`,
    `BY_ENTRY_NUMPY` and ``C(column)``).
    """
    found: set[str] = set()
    for term in parsed:
        for factor in term.factors:
            kind, text = factor.eval_method.value, factor.expr
            if kind == "literal":
                continue
            category = CATEGORY.fullmatch(text) if kind == "python" else None
            if kind == "lookup" and text in frame:
                if not is_number(frame[text]):
                    found.add(text)
            elif category is not None and category[1] in frame and "C" not in frame:
                found.add(category[1])
            elif kind != "python" or not _by_entry(text, frame):
                return None
    return found


def is_number(column: pd.Series) -> bool:
    """True if a column has a NumPy dtype of integers or floats, not of booleans."""
    return isinstance(column.dtype, np.dtype) and column.dtype.kind in "fiu"


def _by_entry(text: str, frame: pd.DataFrame) -> bool:
    """True if a Python expression has a column of ``frame``, and only numeric columns, numbers, arithmetic without ``@``, and the
    functions in `BY_ENTRY` and `BY_ENTRY_NUMPY` of one argument.
    """
    if "`" in text:
        return False
    tree = ast.parse(text, mode="eval")
    functions = {id(node.func) for node in ast.walk(tree) if isinstance(node, ast.Call)}
    n_columns = 0
    for node in ast.walk(tree):
        if isinstance(node, ast.Name):
            if node.id in frame:
                if id(node) in functions or not is_number(frame[node.id]):
                    return False
                n_columns += 1
            elif node.id != "np" and not (id(node) in functions and node.id in BY_ENTRY):
                return False
        elif isinstance(node, ast.Call):
            if len(node.args) != 1 or node.keywords:
                return False
        elif isinstance(node, ast.Attribute):
            if not (isinstance(node.value, ast.Name) and node.value.id == "np" and node.attr in BY_ENTRY_NUMPY):
                return False
        elif isinstance(node, ast.Constant):
            if type(node.value) not in (int, float):
                return False
        elif not isinstance(node, _ARITHMETIC) or isinstance(node, ast.MatMult):
            return False
    return n_columns > 0
