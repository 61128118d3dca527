"""Covariance matrices of the estimates, of every ``cov_type``, computed from arrays; or the reason why there is none."""

from mlejax.covariance.factored import Factored, factor_of
from mlejax.covariance.kinds import KINDS, CovarianceKind, Kind
from mlejax.covariance.options import CORRECTIONS, COVARIANCE_LIMIT, check_kind
from mlejax.covariance.sandwich import (
    NULL_EIGENVALUE,
    Covariances,
    Sums,
    covariance,
    default_lags,
    no_covariances,
    score_products,
    summed_by_cluster,
)
from mlejax.covariance.survey import Survey, survey_meat
from mlejax.covariance.wording import TOO_FEW, CovarianceResult, covariance_result, entry_reason, too_few_message

__all__ = [
    "CORRECTIONS",
    "COVARIANCE_LIMIT",
    "KINDS",
    "NULL_EIGENVALUE",
    "TOO_FEW",
    "CovarianceKind",
    "CovarianceResult",
    "Covariances",
    "Factored",
    "Kind",
    "Sums",
    "Survey",
    "check_kind",
    "covariance",
    "covariance_result",
    "default_lags",
    "entry_reason",
    "factor_of",
    "no_covariances",
    "score_products",
    "summed_by_cluster",
    "survey_meat",
    "too_few_message",
]
