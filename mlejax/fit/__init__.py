"""The one recipe of a fit: a pure core (:mod:`mlejax.fit.solve`) and a thin host shell (:mod:`mlejax.fit.recipe`)."""

from mlejax.fit.checking import Check, Finding
from mlejax.fit.common import Problem, Solution
from mlejax.fit.covariances import COVARIANCE_LIMIT, covariance_of, weighted_scores
from mlejax.fit.curvature import curvature_of
from mlejax.fit.finish import Fit
from mlejax.fit.loading import (
    Loaded,
    Remembered,
    column_unchanged,
    counts,
    evaluate,
    labels_per_contribution,
    n_contributions,
    prepare,
)
from mlejax.fit.penalties import l2
from mlejax.fit.recipe import check, fit
from mlejax.fit.simulating import simulate
from mlejax.fit.solve import solve
from mlejax.likelihood import regressed

__all__ = [
    "COVARIANCE_LIMIT",
    "Check",
    "Finding",
    "Fit",
    "Loaded",
    "Problem",
    "Remembered",
    "Solution",
    "check",
    "column_unchanged",
    "counts",
    "covariance_of",
    "curvature_of",
    "evaluate",
    "fit",
    "l2",
    "labels_per_contribution",
    "n_contributions",
    "prepare",
    "regressed",
    "simulate",
    "solve",
    "weighted_scores",
]
