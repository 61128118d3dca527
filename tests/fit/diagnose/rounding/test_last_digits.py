"""Searches that ended where rounding dominates, seen from the points before."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
import pytest
from jax.scipy.stats import norm

import mlejax as mle
from mlejax.fit.diagnose.rounding.last_digits import DOUBLINGS, is_steady


def test_equal_gains_of_every_doubling_are_those_of_a_logarithm() -> None:
    doublings = np.log(2.0) * np.arange(DOUBLINGS + 5)
    assert is_steady(np.diff(4.0 * doublings))
    assert not is_steady(np.diff(4.0 * doublings)[: DOUBLINGS - 1])
    assert not is_steady(np.diff(np.exp(doublings)))
    assert not is_steady(np.diff(-np.exp(-doublings)))
    assert not is_steady(np.diff(np.log1p(doublings)))
    assert not is_steady(np.zeros(DOUBLINGS))


@pytest.mark.filterwarnings("ignore::mlejax.ConvergenceWarning")
@pytest.mark.parametrize("scale", [mle.Positive(), mle.NonNegative(start=1.0)])
def test_as_many_coefficients_as_rows_leave_no_scale(scale: mle.Positive | mle.NonNegative) -> None:
    """At the coefficients that fit every row the log-likelihood is -n log(s) + constant: it rises without bound as s falls."""

    @mle.model(b=mle.Real(columns="X"), s=scale)
    def linear(params, data):
        return norm.logpdf(data["y"], jnp.sum(data["X"] * params["b"], axis=-1), params["s"])

    rng = np.random.default_rng(1)
    X, y = rng.normal(size=(2, 3, 3)), rng.normal(size=(2, 3))
    many = linear.fit_batch({"X": X, "y": y})
    for res in (linear.fit({"X": X[0], "y": y[0]}), many[0], many[1]):
        assert res.verdict.code == "no_finite_maximum"
        assert "rises without bound along s -> 0" in res.verdict.statement
        assert "4 parameters, but 3 rows" in res.verdict.statement
        assert np.isnan(res.bse).all()
