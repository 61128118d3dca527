"""Latents integrated out by simulation: against quadrature, NumPy and xlogit; Monte Carlo errors that hold what they say."""

import json
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest
from jax.scipy.stats import poisson
from scipy import stats

import mlejax as mle
from benchmarks import mixed_logit
from tests.latent import brute_force

XLOGIT = json.loads((Path(__file__).parent.parent / "references" / "xlogit.json").read_text())


@mle.model(beta=mle.Real(shape=2), sd=mle.NonNegative(), u=mle.Latent(by="g"))
def counts(params: Any, data: Any) -> Any:
    eta = params["beta"][0] + params["beta"][1] * data["x"] + params["sd"] * params["u"]
    return poisson.logpmf(data["y"], jnp.exp(eta))


@mle.model(beta=mle.Real(shape=2), sd=mle.NonNegative(shape=2), b=mle.Latent(2, by="g", cov="sd"))
def binary(params: Any, data: Any) -> Any:
    b = params["beta"] + params["b"]
    eta = b[:, 0] + b[:, 1] * data["x"]
    return mle.special.log_sigmoid(jnp.where(data["y"] == 1, eta, -eta))


def drawn(groups: int, rows: int, seed: int) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    g = np.repeat(np.arange(groups), rows)
    x, u = rng.normal(size=len(g)), rng.normal(size=(groups, 2))
    y = rng.poisson(np.exp(0.5 + 0.3 * x + 0.7 * u[g, 0]))
    won = rng.random(len(g)) < 1.0 / (1.0 + np.exp(-(0.3 + u[g, 0] + (0.7 + 0.8 * u[g, 1]) * x)))
    return {"y": y.astype(float), "x": x, "g": g, "won": won.astype(float)}


COUNTS = drawn(60, 5, 0)


@pytest.fixture(scope="module")
def sobol() -> mle.Results:
    return counts.fit(COUNTS, integrate=mle.Sobol(256))


def test_sobol_points_agree_with_quadrature_within_their_error(sobol: mle.Results) -> None:
    exact = counts.fit(COUNTS, integrate=mle.Quadrature(31))
    found = sobol.integration
    assert found is not None
    shift = np.abs((sobol.params - exact.params) / exact.bse).to_numpy()
    assert (shift <= stats.t.ppf(0.999, found.repeats - 1) * np.array(found.monte_carlo)).all()
    assert 1e-4 < max(found.monte_carlo) <= 0.05
    assert sobol.llf == pytest.approx(exact.llf, abs=4.0 * np.sqrt(2.0 * found.loglik))
    np.testing.assert_allclose(sobol.bse, exact.bse, rtol=0.01)
    np.testing.assert_allclose(sobol.latent()["mean"], exact.latent()["mean"], atol=0.03)


def test_the_statement_is_in_the_summary_and_survives_a_file(sobol: mle.Results, tmp_path: Path) -> None:
    assert "by simulation with 256 draws; Monte Carlo errors" in str(sobol.summary()).replace("\n", " ")
    sobol.save(tmp_path / "fit.mle")
    again = mle.load(tmp_path / "fit.mle").integration
    assert str(again) == str(sobol.integration)
    assert "simulation" in str(again)


def test_draws_are_added_until_the_error_is_small() -> None:
    few = mle.Sobol(16, repeats=4, within=None)
    found = counts.fit(COUNTS, integrate=few).integration
    assert found is not None
    assert (found.points, found.repeats) == (16, 4)
    assert max(found.monte_carlo) > 0.03
    more = counts.fit(COUNTS, integrate=mle.Sobol(16, repeats=4, within=0.03)).integration
    assert more is not None
    assert more.points > 16
    assert max(more.monte_carlo) <= 0.03


def test_given_draws_give_the_plain_simulated_log_likelihood() -> None:
    """The mean over draws, by NumPy and SciPy."""
    z = np.random.default_rng(3).normal(size=(60, 40, 1))
    at = {"beta": [0.5, 0.3], "sd": 0.6}
    res = counts.fit(COUNTS, integrate=mle.Draws(z), fixed=at)
    eta = 0.5 + 0.3 * COUNTS["x"][:, None] + 0.6 * z[COUNTS["g"], :, 0]
    logs = stats.poisson.logpmf(COUNTS["y"][:, None], np.exp(eta))
    each = np.exp(np.add.reduceat(logs, np.arange(0, 300, 5), axis=0)).mean(axis=1)
    assert res.llf == pytest.approx(np.log(each).sum(), rel=1e-12)


@pytest.mark.parametrize(
    ("how", "message"),
    [
        (mle.Draws(np.zeros((5, 4, 1))), "expected draws for each of the 60 g"),
        (mle.Draws(np.zeros((60, 4, 2))), "expected 1 numbers in each draw"),
        ("sobol", "expected 'auto', 'laplace', mle.Quadrature"),
    ],
)
def test_draws_that_do_not_fit_are_refused(how: Any, message: str) -> None:
    with pytest.raises((ValueError, TypeError), match=message):
        counts.fit(COUNTS, integrate=how)


def test_what_is_no_number_of_draws_is_refused() -> None:
    with pytest.raises(ValueError, match="repeats= expected a whole number from 2"):
        mle.Sobol(100, repeats=1)
    with pytest.raises(ValueError, match="shape \\(units, at least 2 draws"):
        mle.Draws(np.zeros((4, 3)))
    with pytest.raises(ValueError, match="not supported for many data sets"):
        counts.fit_groups(COUNTS, by="won", integrate=mle.Sobol(100))


@pytest.mark.slow
def test_mixed_logit_is_that_of_xlogit_on_the_same_draws() -> None:
    model, data = mixed_logit.declared()
    at = {"beta": XLOGIT["coef"][:4], "sd": XLOGIT["coef"][4:]}
    given = mle.Draws(mixed_logit.draws())
    assert model.fit(data, integrate=given, fixed=at).llf == pytest.approx(XLOGIT["llf"], abs=1e-8)
    res = model.fit(data, integrate=given)
    assert res.llf >= XLOGIT["llf"]
    np.testing.assert_allclose((res.params - XLOGIT["coef"]) / res.bse, 0.0, atol=1e-3)


@pytest.mark.slow
def test_the_monte_carlo_error_is_honest() -> None:
    """Of 200 seeds at least 180 lie within t of the value of 65,536 draws, for every parameter; and the error is no larger
    than it has to be."""
    columns = drawn(60, 6, 5)
    data = {"y": columns["won"], "x": columns["x"], "g": columns["g"]}
    truth = binary.fit(data, integrate=mle.Sobol(65536, within=None))
    off, error = [], []
    for seed in range(200):
        res = binary.fit(data, integrate=mle.Sobol(64, seed=seed, within=None))
        assert res.integration is not None
        off.append((res.params - truth.params) / res.bse)
        error.append(res.integration.monte_carlo)
    ratio = np.array(off) / np.array(error)
    assert ((np.abs(ratio) <= stats.t.ppf(0.975, 7)).sum(axis=0) >= 180).all()
    assert (np.sqrt((ratio**2).mean(axis=0)) > 0.5).all()


@pytest.mark.slow
def test_points_go_on_to_79_a_dimension_where_39_are_too_few() -> None:
    """Binary intercepts and slopes of large spread, six rows a unit, against brute force."""

    @mle.model(beta=mle.Real(shape=2), L=mle.Cholesky(shape=2), u=mle.Latent(2, by="unit", cov="L"))
    def slopes(params: Any, data: Any) -> Any:
        b = params["beta"] + params["u"]
        eta = b[:, 0] + b[:, 1] * data["x"]
        return mle.special.log_sigmoid(jnp.where(data["y"] == 1, eta, -eta))

    rng = np.random.default_rng([7, 2])
    unit = np.repeat(np.arange(30), 6)
    x = rng.normal(size=180)
    sd, correlation = rng.uniform(0.5, 1.2, 2), rng.uniform(-0.7, 0.7)
    z = rng.normal(size=(30, 2))
    z[:, 1] = correlation * z[:, 0] + np.sqrt(1 - correlation**2) * z[:, 1]
    b = np.array([rng.uniform(-0.5, 0.8), rng.uniform(-0.7, 0.7)]) + (sd * z)[unit]
    y = (rng.random(180) < 1 / (1 + np.exp(-(b[:, 0] + b[:, 1] * x)))).astype(float)
    res = slopes.fit({"y": y, "x": x, "unit": unit})
    assert res.integration is not None
    assert (res.integration.points, res.integration.accepted) == (79, True)
    columns = np.stack([np.ones(180), x], axis=1)
    family = brute_force.binomial(y.astype(np.longdouble), np.ones(180, np.longdouble))
    truth = brute_force.maximum(family, columns, columns, unit, res.params.to_numpy())
    assert res.llf == pytest.approx(truth.loglik, rel=1e-8)
    np.testing.assert_allclose((res.params - truth.estimates) / truth.errors, 0.0, atol=1e-4)
    np.testing.assert_allclose(res.bse, truth.errors, rtol=1e-6)
