"""Tests of hypotheses: Wald, score, likelihood-ratio, Hausman, Vuong and information-matrix tests, z tests of linear
combinations.
"""

from mlejax.inference.tests.information_matrix import InformationMatrixTest, information_matrix_test
from mlejax.inference.tests.pairs.hausman import HausmanTest, hausman_test
from mlejax.inference.tests.pairs.likelihood_ratio import LRTest, check_likelihood, lr_test
from mlejax.inference.tests.pairs.nested_fits import UnknownMixtureError
from mlejax.inference.tests.pairs.nesting import closed_bounds
from mlejax.inference.tests.pairs.same_data import FitFacts, data_difference
from mlejax.inference.tests.pairs.vuong import VuongTest, vuong_test
from mlejax.inference.tests.restrictions.contrasts import TTest, t_test
from mlejax.inference.tests.restrictions.hypotheses import Hypotheses, parse_constraints, parse_hypotheses
from mlejax.inference.tests.restrictions.terms import TermTests, slopes_of, term_named, terms_of
from mlejax.inference.tests.score import ScoreTest, score_test
from mlejax.inference.tests.wald import WaldTest, wald_test

__all__ = [
    "FitFacts",
    "HausmanTest",
    "Hypotheses",
    "InformationMatrixTest",
    "LRTest",
    "ScoreTest",
    "TTest",
    "TermTests",
    "UnknownMixtureError",
    "VuongTest",
    "WaldTest",
    "check_likelihood",
    "closed_bounds",
    "data_difference",
    "hausman_test",
    "information_matrix_test",
    "lr_test",
    "parse_constraints",
    "parse_hypotheses",
    "score_test",
    "slopes_of",
    "t_test",
    "term_named",
    "terms_of",
    "vuong_test",
    "wald_test",
]
