"""A log-likelihood as declared, the trace of its function, and the checks that each term is a function of its row or unit."""

from mlejax.likelihood.declaration import Likelihood, LikelihoodError, example_params
from mlejax.likelihood.derivative_errors import missing_derivatives
from mlejax.likelihood.regressed import Regressed, regressed
from mlejax.likelihood.row_checks import check_rows_once
from mlejax.likelihood.tracing import calls_lapack, regressed_reads, trace_reads

__all__ = [
    "Likelihood",
    "LikelihoodError",
    "Regressed",
    "calls_lapack",
    "check_rows_once",
    "example_params",
    "missing_derivatives",
    "regressed",
    "regressed_reads",
    "trace_reads",
]
