"""The declaration of a log-likelihood, the trace of its function, and checks that each term depends on its own row or unit
only.
"""

from mlejax.likelihood.declaration import EVERY_ROW, Joint, Likelihood, LikelihoodError, example_params
from mlejax.likelihood.derivative_errors import missing_derivatives
from mlejax.likelihood.forms.expected_total import ExpectedTotal, scores_of_rows
from mlejax.likelihood.forms.natural_values import natural_values
from mlejax.likelihood.forms.of_unit import OfUnit
from mlejax.likelihood.forms.regressed import Regressed, regressed
from mlejax.likelihood.forms.with_effects import declared_likelihood, eliminating
from mlejax.likelihood.row_checks import check_rows_once
from mlejax.likelihood.tracing import calls_lapack, regressed_reads, trace_reads

__all__ = [
    "EVERY_ROW",
    "ExpectedTotal",
    "Joint",
    "Likelihood",
    "LikelihoodError",
    "OfUnit",
    "Regressed",
    "calls_lapack",
    "check_rows_once",
    "declared_likelihood",
    "eliminating",
    "example_params",
    "missing_derivatives",
    "natural_values",
    "regressed",
    "regressed_reads",
    "scores_of_rows",
    "trace_reads",
]
