"""Inference from an estimate and its covariance: pure functions of arrays and small callables.

Delta method, Wald and likelihood-ratio tests, intervals and criteria. Nothing here fits, prints or knows the
results object; everything that is missing carries its reason.
"""

from mlejax.inference.contrasts import TTest, t_test
from mlejax.inference.criteria import aic, aicc, bic, hqic, incomparable
from mlejax.inference.cross_validation import CrossValidation, cross_validate
from mlejax.inference.delta import DeltaResult, Linearised, delta_method, linearise, nlcom
from mlejax.inference.hypotheses import Hypotheses, parse_hypotheses
from mlejax.inference.intervals import (
    Intervals,
    confidence_intervals,
    critical_value,
    supports,
    two_sided_p,
    z_tests,
)
from mlejax.inference.prediction import exponentiated, predict_function, predict_parameter
from mlejax.inference.ratio import FitFacts, LRTest, data_differences, likelihood_ratio, lr_test, same_rows
from mlejax.inference.refitting import reported
from mlejax.inference.resample import bootstrap, jackknife
from mlejax.inference.resample_table import Bootstrap, Jackknife
from mlejax.inference.simulation import simulation_study
from mlejax.inference.simulation_table import SimulationStudy
from mlejax.inference.subset import dense_cost, subset_of
from mlejax.inference.subset_table import SubsetErrors
from mlejax.inference.wald import WaldTest, linear_covariance, standard_errors, wald_test

__all__ = [
    "Bootstrap",
    "CrossValidation",
    "DeltaResult",
    "FitFacts",
    "Hypotheses",
    "Intervals",
    "Jackknife",
    "LRTest",
    "Linearised",
    "SimulationStudy",
    "SubsetErrors",
    "TTest",
    "WaldTest",
    "aic",
    "aicc",
    "bic",
    "bootstrap",
    "confidence_intervals",
    "critical_value",
    "cross_validate",
    "data_differences",
    "delta_method",
    "dense_cost",
    "exponentiated",
    "hqic",
    "incomparable",
    "jackknife",
    "likelihood_ratio",
    "linear_covariance",
    "linearise",
    "lr_test",
    "nlcom",
    "parse_hypotheses",
    "predict_function",
    "predict_parameter",
    "reported",
    "same_rows",
    "simulation_study",
    "standard_errors",
    "subset_of",
    "supports",
    "t_test",
    "two_sided_p",
    "wald_test",
    "z_tests",
]
