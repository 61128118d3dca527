"""Tests of hypotheses: Wald, z tests of linear combinations, likelihood ratio."""

from mlejax.inference.tests.contrasts import TTest, t_test
from mlejax.inference.tests.hypotheses import Hypotheses, parse_hypotheses
from mlejax.inference.tests.likelihood_ratio import FitFacts, LRTest, lr_test
from mlejax.inference.tests.same_data import data_difference
from mlejax.inference.tests.wald import WaldTest, wald_test

__all__ = [
    "FitFacts",
    "Hypotheses",
    "LRTest",
    "TTest",
    "WaldTest",
    "data_difference",
    "lr_test",
    "parse_hypotheses",
    "t_test",
    "wald_test",
]
