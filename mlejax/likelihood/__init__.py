"""A log-likelihood as declared, the trace of its function, and the checks that each term is a function of its row or unit."""

from mlejax.likelihood.declaration import Likelihood, LikelihoodError, example_params
from mlejax.likelihood.derivative_errors import missing_derivatives
from mlejax.likelihood.regressed import Regressed, regressed
from mlejax.likelihood.row_checks import (
    N_CHECKED_ROWS,
    refuse_dependent_rows,
    refuse_unmasked_units,
    row_check,
    unit_check,
)
from mlejax.likelihood.tracing import calls_lapack, regressed_reads, trace_reads

__all__ = [
    "N_CHECKED_ROWS",
    "Likelihood",
    "LikelihoodError",
    "Regressed",
    "calls_lapack",
    "example_params",
    "missing_derivatives",
    "refuse_dependent_rows",
    "refuse_unmasked_units",
    "regressed",
    "regressed_reads",
    "row_check",
    "trace_reads",
    "unit_check",
]
