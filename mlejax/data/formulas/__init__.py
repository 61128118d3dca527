"""Formulas, evaluated by formulaic: their parsing, their columns on the data of a fit and on new data, and the designs of
parameters with a formula.
"""

from mlejax.data.formulas.collinearity import collinear, null_directions, remark
from mlejax.data.formulas.design_keys import (
    DesignKey,
    DesignValues,
    LevelsKey,
    by_row,
    design_labels,
    has_designs,
    levels_key,
)
from mlejax.data.formulas.designs import (
    Design,
    Designs,
    add_designs,
    category_columns,
    design_columns,
    first_design,
    formula_columns,
    with_designs_again,
)
from mlejax.data.formulas.evaluation import FittedFormula, evaluate, evaluate_again, levels, materialise
from mlejax.data.formulas.long_factors import MOST_COLUMNS
from mlejax.data.formulas.parsing import check_formula, columns_in_terms, columns_of, terms_of

__all__ = [
    "MOST_COLUMNS",
    "Design",
    "DesignKey",
    "DesignValues",
    "Designs",
    "FittedFormula",
    "LevelsKey",
    "add_designs",
    "by_row",
    "category_columns",
    "check_formula",
    "collinear",
    "columns_in_terms",
    "columns_of",
    "design_columns",
    "design_labels",
    "evaluate",
    "evaluate_again",
    "first_design",
    "formula_columns",
    "has_designs",
    "levels",
    "levels_key",
    "materialise",
    "null_directions",
    "remark",
    "terms_of",
    "with_designs_again",
]
