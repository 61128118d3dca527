"""Checks of models and fits: information criteria, residuals, influence, standard errors of a subset of the parameters,
`model.check`.
"""

from mlejax.inference.checking.criteria import (
    CRITERIA,
    aic,
    aicc,
    bic,
    criterion,
    df_model,
    effective_df,
    facts_of,
    hqic,
    incomparable,
    info_criterion,
    llf_penalized,
    no_criterion,
    pseudolikelihood,
)
from mlejax.inference.checking.model_check import Check, Finding, check
from mlejax.inference.checking.subset import SubsetErrors, subset_errors_of

__all__ = [
    "CRITERIA",
    "Check",
    "Finding",
    "SubsetErrors",
    "aic",
    "aicc",
    "bic",
    "check",
    "criterion",
    "df_model",
    "effective_df",
    "facts_of",
    "hqic",
    "incomparable",
    "info_criterion",
    "llf_penalized",
    "no_criterion",
    "pseudolikelihood",
    "subset_errors_of",
]
