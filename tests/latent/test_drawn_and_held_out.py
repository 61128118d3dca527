"""``random=`` of simulated data, parametric bootstraps, cross-validation and margins, against the normal model's closed forms.

With the standard deviations fixed, estimates are b = A y, A = (X' V^-1 X)^-1 X' V^-1, the predictors of the effects are
Henderson's (1975), and a unit of m rows is normal with covariance V = sd^2 J + sigma^2 I.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest
from jax.scipy.stats import norm
from scipy.stats import multivariate_normal
from scipy.stats import norm as scipy_norm

import mlejax as mle
from tests.latent.test_after_the_fit import INTERCEPTS, SD, SIGMA, SLEEP, design, henderson

SUBJECTS = SLEEP["subject"].unique()
X, Y = design(SLEEP), SLEEP["reaction"].to_numpy()
Z = np.asarray(SLEEP["subject"].to_numpy()[:, None] == SUBJECTS, float)
V = SD**2 * Z @ Z.T + SIGMA**2 * np.eye(len(Y))


def gls(rows: np.ndarray) -> np.ndarray:
    """The estimator of the coefficients from some rows, (2, rows)."""
    weighted = np.linalg.solve(V[np.ix_(rows, rows)], X[rows]).T
    return np.linalg.solve(weighted @ X[rows], weighted)


@mle.model(
    mu=mle.Real(), slope=mle.Real(), sd=mle.NonNegative(), sigma=mle.Positive(), u=mle.Latent(by="subject")
)
def declared(params: Any, data: Any) -> Any:
    mean = params["mu"] + params["slope"] * data["days"] + params["sd"] * params["u"]
    return norm.logpdf(data["reaction"], mean, params["sigma"])


@declared.simulator
def _(key: Any, params: Any, data: Any) -> Any:
    mean = params["mu"] + params["slope"] * data["days"] + params["sd"] * params["u"]
    return {"reaction": mean + params["sigma"] * jax.random.normal(key, (data.n_rows,))}


@pytest.fixture(scope="module")
def res() -> mle.Results:
    return INTERCEPTS.fit(SLEEP, fixed={"sd(mu|subject)": [SD], "sigma": SIGMA})


@pytest.fixture(scope="module")
def of_declared() -> mle.Results:
    return declared.fit(SLEEP, fixed={"sd": SD, "sigma": SIGMA})


@pytest.fixture(params=["res", pytest.param("of_declared", marks=pytest.mark.slow)])
def either(request: pytest.FixtureRequest) -> Any:
    """The model by formula, and as a function that names its latent."""
    return request.getfixturevalue(request.param)


@pytest.mark.parametrize("random", ["integrate", "mode", "zero"])
def test_simulated_rows_have_the_mean_and_the_covariance(either: mle.Results, random: Any) -> None:
    """Each subject 300 times over as new subjects, or as itself: mean and covariance of its ten rows, within 4.5 errors."""
    n, solution = 300, henderson(either)[0]
    table = pd.concat([SLEEP] * n, ignore_index=True)
    if random == "integrate":
        table["subject"] = np.arange(len(table)) // 10
    drawn = np.asarray(either.simulate(table, seed=3, random=random)["reaction"]).reshape(n, len(Y))
    mean = X @ solution[:2] + (Z @ solution[2:] if random == "mode" else 0.0)
    total = np.hypot(SD, SIGMA) if random == "integrate" else SIGMA
    np.testing.assert_allclose(drawn.mean(axis=0), mean, atol=4.5 * total / np.sqrt(n))
    gaps = (drawn - mean).reshape(-1, 10)
    rho = SD**2 / total**2 if random == "integrate" else 0.0
    cov = total**2 * ((1 - rho) * np.eye(10) + rho)
    error = np.sqrt((np.outer(np.diag(cov), np.diag(cov)) + cov**2) / len(gaps))
    np.testing.assert_allclose((gaps.T @ gaps / len(gaps) - cov) / error, np.zeros((10, 10)), atol=4.5)


def test_own_rows_are_those_of_the_fit(either: mle.Results) -> None:
    again = either.simulate(SLEEP, seed=5, random="mode")["reaction"]
    np.testing.assert_array_equal(either.simulate(seed=5, random="mode")["reaction"], again)
    assert not np.array_equal(either.simulate(seed=6, random="mode")["reaction"], again)


def test_held_out_units_have_their_marginal_density(res: mle.Results) -> None:
    for random in ("integrate", "zero"):
        found = res.cross_validate(3, seed=1, random=random, progress=False)
        for i in range(18):
            inside, own = np.flatnonzero(found.fold[np.argmax(Z, axis=1)] != found.fold[i]), np.flatnonzero(Z[:, i])
            mean = X[own] @ gls(inside) @ Y[inside]
            exact = multivariate_normal.logpdf(Y[own], mean, V[np.ix_(own, own)])
            exact = exact if random == "integrate" else scipy_norm.logpdf(Y[own], mean, SIGMA).sum()
            assert found.by_contribution[i] == pytest.approx(exact, rel=1e-9)
    whole = scipy_norm.logpdf(Y, X @ gls(np.arange(len(Y))) @ Y, SIGMA).sum()
    assert found.in_sample == pytest.approx(whole, rel=1e-9)
    assert "effects of 0" in str(found)


@pytest.mark.parametrize("random", ["integrate", "mode", "zero"])
def test_parametric_bootstraps_have_the_covariance_of_gls(res: mle.Results, random: Any) -> None:
    """Of 300 replicates: A V A', or sigma^2 A A' where effects stay as they are; means around A E y."""
    n, solution, a = 300, henderson(res)[0], gls(np.arange(len(Y)))
    cov = a @ (V if random == "integrate" else SIGMA**2 * np.eye(len(Y))) @ a.T
    mean = a @ (X @ solution[:2] + (Z @ solution[2:] if random == "mode" else 0.0))
    found = res.bootstrap(n, kind="parametric", seed=2, random=random, progress=False)
    drawn = found.replicates[["mu[Intercept]", "mu[days]"]].to_numpy()
    np.testing.assert_allclose((drawn.mean(axis=0) - mean) / np.sqrt(np.diag(cov) / n), 0.0, atol=4.0)
    np.testing.assert_allclose(drawn.std(axis=0) / np.sqrt(np.diag(cov)), 1.0, atol=4.0 / np.sqrt(2 * n))
    said = {"integrate": "data sets", "mode": "data sets with the modes of units", "zero": "data sets with effects of 0"}
    assert found.drawn == said[random]


def test_margins_at_modes_have_the_errors_of_the_mixed_model_equations(res: mle.Results) -> None:
    solution, cov = henderson(res)
    some = SLEEP.iloc[[0, 3, 15, 179]]
    grown = lambda params, data: jnp.exp(params["mu"] / 100.0)
    w = np.concatenate([design(some), (some["subject"].to_numpy()[:, None] == SUBJECTS).astype(float)], axis=1)

    def at(days: float) -> tuple[float, np.ndarray]:
        moved = w.copy()
        moved[:, 1] = days
        value = np.exp(moved @ solution / 100.0)
        return value.mean(), value @ moved / 100.0 / len(some)

    (low, low_slope), (high, high_slope) = at(1.0), at(6.0)
    found = res.margins(of=grown, data=some, at={"days": [1.0, 6.0]}, random="mode")
    np.testing.assert_allclose(found.params, [low, high], rtol=1e-9)
    slopes = np.stack([low_slope, high_slope])
    np.testing.assert_allclose(found.bse, np.sqrt(np.diag(slopes @ cov @ slopes.T)), rtol=1e-6)
    value = np.exp(w @ solution / 100.0)
    slope = res.margins("days", of=grown, data=some, random="mode")
    np.testing.assert_allclose(slope.params, (value * solution[1] / 100.0).mean(), rtol=1e-9)
    gradient = (value * solution[1] / 1e4) @ w / len(some)
    gradient[1] += value.mean() / 100.0
    np.testing.assert_allclose(slope.bse, np.sqrt(gradient @ cov @ gradient), rtol=1e-6)
    levels = some.assign(late=np.array(["no", "yes", "no", "yes"]))
    same = res.margins("late", of=grown, data=levels, random="mode")  # of a column that the model does not have
    np.testing.assert_allclose([same.params, same.bse], 0.0, atol=1e-12)


@pytest.mark.slow
def test_ranks_among_simulated_data_sets_follow_the_effects(of_declared: mle.Results) -> None:
    """Without a distribution function: u of the unit's own law, within 4 binomial errors of 250 draws."""
    solution = henderson(of_declared)[0]
    mean = X @ solution[:2] + Z @ solution[2:]
    exact = scipy_norm.cdf(Y, mean, SIGMA)
    found = of_declared.residuals("quantile", response="reaction", random="mode").uniform
    assert np.abs((found - exact) / np.sqrt((exact * (1 - exact) + 0.004) / 250)).max() < 4.0


def test_effects_by_index_are_those_of_each_level() -> None:
    """Least squares on dummies; each row 400 times over has its mean and variance, within 4.5 errors."""

    @mle.model(beta=mle.Real(), sigma=mle.Positive(), alpha=mle.Real(by="subject"))
    def fixed_effects(params: Any, data: Any) -> Any:
        return norm.logpdf(data["reaction"], params["beta"] * data["days"] + params["alpha"], params["sigma"])

    @fixed_effects.simulator
    def _(key: Any, params: Any, data: Any) -> Any:
        mean = params["beta"] * data["days"] + params["alpha"]
        return {"reaction": mean + params["sigma"] * jax.random.normal(key, (data.n_rows,))}

    fitted = fixed_effects.fit(SLEEP)
    w = np.concatenate([X[:, 1:], Z], axis=1)
    mean = w @ np.linalg.lstsq(w, Y, rcond=None)[0]
    sigma = np.sqrt(np.mean((Y - mean) ** 2))
    drawn = np.asarray(fitted.simulate(pd.concat([SLEEP] * 400), seed=1)["reaction"]).reshape(400, -1)
    np.testing.assert_allclose((drawn.mean(axis=0) - mean) / (sigma / 20.0), 0.0, atol=4.5)
    np.testing.assert_allclose(((drawn - mean) ** 2).mean() / sigma**2, 1.0, atol=4.5 * np.sqrt(2 / drawn.size))
    assert fitted.simulate()["reaction"].shape == (180,)
    with pytest.raises(ValueError, match="were not in the data of the fit"):
        fitted.simulate(SLEEP.assign(subject=99))
    with pytest.raises(ValueError, match=r"simulate\(\) of a result has those of its fit"):
        fixed_effects.simulate({"beta": 1.0, "sigma": 1.0}, SLEEP)
