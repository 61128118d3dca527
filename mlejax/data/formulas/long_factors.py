"""Factors of many levels in formulas, known by the level of each row: no column for each level is made.

Where ``C(region)`` is a term of its own beside an intercept, with treatment coding, the coefficient of a row is looked up by its
level.  Everything else (an interaction with the factor, another coding, a formula without intercept) keeps its columns.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from mlejax.data.formulas.parsing import names_in
from mlejax.data.formulas.row_chunks import CATEGORY, is_number
from mlejax.shapes import Float, Host

if TYPE_CHECKING:
    import pandas as pd
    from formulaic import Formula, ModelSpec
    from formulaic.parser.types import Factor

MOST_COLUMNS = 20  # levels up to which a factor has a column for each


def long_factors(parsed: Formula, frame: pd.DataFrame) -> dict[str, str]:
    """Terms that are factors of many levels, and their columns.

    Args:
        parsed: formulaic's formula.
        frame: its columns, a DataFrame.
    """
    terms = list(parsed)
    if not any(str(term) == "1" for term in terms):
        return {}
    found: dict[str, str] = {}
    uses: list[str] = []
    for term in terms:
        uses += [name for factor in term.factors for name in _names(factor)]
        if len(term.factors) != 1:
            continue
        factor = term.factors[0]
        category = CATEGORY.fullmatch(factor.expr) if factor.eval_method.value == "python" and "C" not in frame else None
        name = category[1] if category is not None else factor.expr if factor.eval_method.value == "lookup" else None
        if name is None or name not in frame or (category is None and is_number(frame[name])):
            continue
        found[str(term)] = name
    few = slice(0, 4 * MOST_COLUMNS)  # most columns show there that they are no long factors, or that they are
    many = lambda column: column.iloc[few].nunique() > MOST_COLUMNS or column.nunique() > MOST_COLUMNS
    return {term: name for term, name in found.items() if uses.count(name) == 1 and many(frame[name])}


def _names(factor: Factor) -> list[str]:
    kind = factor.eval_method.value
    if kind == "literal":
        return []
    return [factor.expr] if kind == "lookup" else [name for name, _ in names_in(factor.expr)]


def whole_formula(parsed: Formula, short: Formula, materialise: Callable[[Any], Any]) -> Formula:
    """The ModelSpec of a formula, from that of its short terms in all rows and from a few rows with all levels of the long ones.

    Args:
        parsed: formulaic's formula.
        short: the ModelSpec of the short terms.
        materialise: method of a spec -> model matrix of the few rows.
    """
    import formulaic

    spec = formulaic.ModelSpec(
        formula=parsed,
        output="numpy",
        na_action="ignore",
        transform_state=dict(short.transform_state),
        encoder_state=dict(short.encoder_state),
    )
    return materialise(spec.get_model_matrix).model_spec


def codes_of(whole: ModelSpec, term: str, column: pd.Series) -> Float[Host, " n"]:
    """The level of every row, in the order that the formula knows; 0 for the first, which has no column."""
    import pandas as pd

    levels = list(whole.encoder_state[term][1]["categories"])
    return np.asarray(pd.Categorical(column, categories=levels).codes, np.float64)
