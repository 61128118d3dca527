"""Formulas, by formulaic: their text, their columns on first and on new data, and the designs of regressed parameters."""

from typing import TypeAlias

from mlejax.data.formulas.collinearity import collinear, null_directions, remark
from mlejax.data.formulas.designs import (
    Design,
    DesignKey,
    Designs,
    DesignValues,
    add_designs,
    by_row,
    category_columns,
    design_columns,
    first_design,
    formula_columns,
    has_designs,
    joined,
    with_designs_again,
)
from mlejax.data.formulas.evaluation import FittedFormula, evaluate, evaluate_again, levels, materialise
from mlejax.data.formulas.parsing import check_formula, columns_in_terms, columns_of, terms_of

Piece: TypeAlias = FittedFormula  # its name of before, for other rooms

__all__ = [
    "Design",
    "DesignKey",
    "DesignValues",
    "Designs",
    "FittedFormula",
    "Piece",
    "add_designs",
    "by_row",
    "category_columns",
    "check_formula",
    "collinear",
    "columns_in_terms",
    "columns_of",
    "design_columns",
    "evaluate",
    "evaluate_again",
    "first_design",
    "formula_columns",
    "has_designs",
    "joined",
    "levels",
    "materialise",
    "null_directions",
    "remark",
    "terms_of",
    "with_designs_again",
]
