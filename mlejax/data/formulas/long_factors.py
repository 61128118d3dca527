"""Factors with many levels in formulas, represented by the level code of each row in place of a dummy column for each
level.

Where ``C(region)`` is a term of its own beside an intercept, with treatment coding, the coefficient of a row is looked up by its
level.  Otherwise (an interaction with the factor, another coding, a formula without intercept) the dummy columns are made.
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

MOST_COLUMNS = 20  # factors with more levels than this have level codes in place of dummy columns


def long_factors(parsed: Formula, frame: pd.DataFrame) -> dict[str, str]:
    """Return the terms that are factors with more than `MOST_COLUMNS` levels, each with the name of its column.

    Such a term is the column alone, ``region`` (not numeric) or ``C(region)``, and the column occurs in no other term. Empty
    for a formula without intercept.

    Args:
        parsed: formulaic's formula.
        frame: the columns of the formula, a DataFrame.
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
        category = (
            CATEGORY.fullmatch(factor.expr) if factor.eval_method.value == "python" and "C" not in frame else None
        )
        name = category[1] if category is not None else factor.expr if factor.eval_method.value == "lookup" else None
        if name is None or name not in frame or (category is None and is_number(frame[name])):
            continue
        found[str(term)] = name
    few = slice(0, 4 * MOST_COLUMNS)  # most columns show there that they are no long factors, or that they are
    many = lambda column: column.iloc[few].nunique() > MOST_COLUMNS or column.nunique() > MOST_COLUMNS
    return {term: name for term, name in found.items() if uses.count(name) == 1 and many(frame[name])}


def _names(factor: Factor) -> list[str]:
    """Return the names that a factor of a term uses, those of functions included."""
    kind = factor.eval_method.value
    if kind == "literal":
        return []
    return [factor.expr] if kind == "lookup" else [name for name, _ in names_in(factor.expr)]


def whole_formula(parsed: Formula, short: ModelSpec, materialise: Callable[[Any], Any]) -> ModelSpec:
    """Return formulaic's ModelSpec of a whole formula: the transforms and levels of its short terms come from all rows, the
    levels of its factors with many levels from a few rows that contain them all.

    Args:
        parsed: formulaic's formula.
        short: the ModelSpec of the terms that are not factors with many levels, evaluated on all rows.
        materialise: function from the method ``ModelSpec.get_model_matrix`` to the model matrix of the few rows.
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
    """Return the level code of every row (n,): j for the j-th level of the formula, 0 for the first (the reference), -1 for a
    missing or unknown one.

    Args:
        whole: the ModelSpec of the formula.
        term: the factor's term in it.
        column: the values of the factor.
    """
    import pandas as pd

    levels = list(whole.encoder_state[term][1]["categories"])
    codes, found = pd.factorize(column)  # so that each level is looked up once, and not every row
    return np.append(np.asarray(pd.Categorical(found, categories=levels).codes, np.float64), -1.0)[codes]
