"""Data frames with broom's columns, and the summaries of large structures."""

import math

import numpy as np
import pytest

from mlejax.report import glance, leaf_row, tidy
from tests.report.samples import SAMPLES

BROOM = ["term", "estimate", "std_error", "statistic", "p_value", "conf_low", "conf_high", "note"]


def test_tidy_has_brooms_columns_and_keeps_every_digit():
    terms = SAMPLES["regression"].terms
    frame = tidy(terms)
    assert list(frame.columns) == BROOM
    assert len(frame) == len(terms)
    assert frame["term"].tolist() == [t.name for t in terms]
    np.testing.assert_array_equal(frame["estimate"], [t.coef for t in terms])
    np.testing.assert_array_equal(frame["p_value"], [t.p for t in terms])
    assert (frame[BROOM[1:7]].dtypes == np.float64).all()
    assert frame["note"].tolist() == ["", "", "", "", "fixed"]


def test_tidy_of_nothing():
    frame = tidy([])
    assert list(frame.columns) == BROOM
    assert len(frame) == 0


def test_glance_is_one_row():
    frame = glance({"nobs": np.int64(10), "llf": np.float64(-1.5), "converged": np.True_, "label": "a", "bic": None})
    assert frame.shape == (1, 5)
    assert frame.loc[0, "llf"] == -1.5
    assert frame["nobs"].dtype.kind == "i"
    assert frame["converged"].dtype.kind == "b"
    assert frame["bic"].isna().all()


def test_glance_refuses_what_is_not_a_scalar():
    with pytest.raises(ValueError, match="'cov': expected a scalar"):
        glance({"cov": np.eye(2)})


def test_leaf_rows():
    leaf = leaf_row("w", np.array([[3.0, -4.0], [0.0, 0.0]]))
    assert (leaf.shape, leaf.minimum, leaf.mean, leaf.maximum, leaf.norm) == ((2, 2), -4.0, -0.25, 3.0, 5.0)
    partly = leaf_row("w", [1.0, np.nan, np.inf])
    assert (partly.minimum, partly.note) == (1.0, "2 of 3 entries are not finite")
    assert math.isnan(leaf_row("w", np.nan).norm)
    assert leaf_row("w", np.zeros((0, 3))).note == "empty"
