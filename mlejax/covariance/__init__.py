"""Arrays -> the covariance matrix of the estimates, of every kind, or the reason why there is none."""

from mlejax.covariance.factored import Factored, factor_of
from mlejax.covariance.options import (
    CLUSTERED,
    CORRECTIONS,
    COVARIANCE_LIMIT,
    KINDS,
    LEVERAGE,
    MODEL_BASED,
    NEEDS_SCORES,
    SANDWICH,
    CovarianceKind,
    check_kind,
)
from mlejax.covariance.sandwich import NULL_EIGENVALUE, Covariances, Sums, covariance, no_covariances, score_products
from mlejax.covariance.survey import Survey, survey_meat
from mlejax.covariance.wording import TOO_FEW, CovarianceResult, described, entry_reason, too_few

__all__ = [
    "CLUSTERED",
    "CORRECTIONS",
    "COVARIANCE_LIMIT",
    "KINDS",
    "LEVERAGE",
    "MODEL_BASED",
    "NEEDS_SCORES",
    "NULL_EIGENVALUE",
    "SANDWICH",
    "TOO_FEW",
    "CovarianceKind",
    "CovarianceResult",
    "Covariances",
    "Factored",
    "Sums",
    "Survey",
    "check_kind",
    "covariance",
    "described",
    "entry_reason",
    "factor_of",
    "no_covariances",
    "score_products",
    "survey_meat",
    "too_few",
]
