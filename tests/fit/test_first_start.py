"""The start of a regression with many rows and levels: a step of the coefficients, and the closed-form estimates from there."""

from __future__ import annotations

import numpy as np
import pandas as pd
from jax.scipy.stats import norm

import mlejax as mle

N, LEVELS = 66_000, 90


@mle.model(mu=mle.Real(), sigma=mle.Positive())
def normal(params, data):
    return norm.logpdf(data["y"], params["mu"], params["sigma"])


def test_a_normal_regression_on_many_levels_takes_few_steps_to_least_squares():
    """Mean and scale of every level in closed form; the coefficients are found in the first step, the scale from there."""
    rng = np.random.default_rng(4)
    g = rng.integers(0, LEVELS, N)
    y = 0.5 * rng.standard_normal(LEVELS)[g] + 0.9 * rng.standard_normal(N)
    res = normal.regress(mu="C(g)").fit(pd.DataFrame({"y": y, "g": g}))
    means = np.bincount(g, y) / np.bincount(g)
    sigma = np.sqrt(np.mean((y - means[g]) ** 2))
    np.testing.assert_allclose(res.params.to_numpy()[:-1], means - np.append(0.0, np.repeat(means[0], LEVELS - 1)), rtol=1e-9)
    np.testing.assert_allclose(res.params["sigma"], sigma, rtol=1e-10)
    np.testing.assert_allclose(res.bse["sigma"], sigma / np.sqrt(2 * N), rtol=1e-9)
    variances = 1.0 / np.bincount(g) + np.append(0.0, np.repeat(1.0 / np.bincount(g)[0], LEVELS - 1))
    np.testing.assert_allclose(res.bse.to_numpy()[:-1], sigma * np.sqrt(variances), rtol=1e-9)
    assert res.verdict.code == "verified"
    assert res.n_steps <= 5
