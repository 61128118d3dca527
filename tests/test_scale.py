"""Columns and responses on scales from 1e-8 to 1e8 give the same table, rescaled: Newton is invariant to them."""

from __future__ import annotations

import jax
import numpy as np
import pytest
from jax.scipy.stats import norm

import mlejax as mle

RNG = np.random.default_rng(0)
X = RNG.normal(size=(500, 3))
BETA = np.array([0.5, -1.0, 0.3])
Y = 1.0 + X @ BETA + RNG.normal(size=500)
HIT = (RNG.random(500) < 1.0 / (1.0 + np.exp(-0.2 - X @ BETA))).astype(float)
SCALES = [(1e-8, 1.0, 1e8), (1e8, 1e8, 1e8), (1e-8, 1e-8, 1e-8), (1e4, 1e-4, 1.0)]


@mle.model(a=mle.Real(), b=mle.Real(columns="X"))
def logit(params, data):
    return jax.nn.log_sigmoid((2 * data["y"] - 1) * (params["a"] + data["X"] @ params["b"]))


@mle.model(a=mle.Real(), b=mle.Real(columns="X"), sigma=mle.Positive())
def linear(params, data):
    return norm.logpdf(data["y"], params["a"] + data["X"] @ params["b"], params["sigma"])


def assert_same_table(res: mle.Results, base: mle.Results, factors: np.ndarray) -> None:
    assert res.verdict.code == base.verdict.code == "verified"
    for got, want in ((res.params, base.params), (res.bse, base.bse)):
        np.testing.assert_allclose(got.to_numpy() * factors, want.to_numpy(), rtol=1e-9)
    np.testing.assert_allclose(res.tvalues, base.tvalues, rtol=1e-8)


@pytest.mark.parametrize("scales", SCALES)
def test_covariates_of_a_logit(scales: tuple[float, ...]) -> None:
    base = logit.fit({"X": X, "y": HIT})
    res = logit.fit({"X": X * np.array(scales), "y": HIT})
    assert_same_table(res, base, np.array([1.0, *scales]))
    assert res.llf == pytest.approx(base.llf, rel=1e-12)


@pytest.mark.parametrize("scales", SCALES)
@pytest.mark.parametrize("unit", [1.0, 1e8, 1e-8])
def test_covariates_and_response_of_a_regression(scales: tuple[float, ...], unit: float) -> None:
    base = linear.fit({"X": X, "y": Y})
    res = linear.fit({"X": X * np.array(scales), "y": Y * unit})
    assert_same_table(res, base, np.array([1.0, *scales, 1.0]) / unit)
    assert res.llf == pytest.approx(base.llf - Y.size * np.log(unit), rel=1e-9)
