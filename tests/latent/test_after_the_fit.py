"""Predictions, margins, residuals and data of models with random effects, against closed forms."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest
from jax.scipy.stats import norm, poisson
from scipy.stats import t

import mlejax as mle
from tests.cases import Case

SLEEP = pd.DataFrame(Case("sleepstudy_ri").data)
SD, SIGMA = 36.0, 31.0


@mle.model(mu=mle.Real(), sigma=mle.Positive())
def gaussian(params: Any, data: Any) -> Any:
    return norm.logpdf(data["reaction"], params["mu"], params["sigma"])


@gaussian.mean
def _(params: Any, data: Any) -> Any:
    return params["mu"]


@gaussian.variance
def _(params: Any, data: Any) -> Any:
    return params["sigma"] ** 2 + 0.0 * params["mu"]


@gaussian.cdf
def _(params: Any, data: Any) -> Any:
    return norm.cdf(data["reaction"], params["mu"], params["sigma"])


@gaussian.simulator
def _(key: Any, params: Any, data: Any) -> Any:
    return {"reaction": params["mu"] + params["sigma"] * jax.random.normal(key, (data.n_rows,))}


@mle.model(rate=mle.Positive())
def counts(params: Any, data: Any) -> Any:
    return poisson.logpmf(data["y"], params["rate"])


INTERCEPTS = gaussian.regress(mu=mle.Linear("days", random="1 | subject"))


@pytest.fixture(scope="module")
def res() -> mle.Results:
    return INTERCEPTS.fit(SLEEP, fixed={"sd(mu|subject)": [SD], "sigma": SIGMA})


def design(data: pd.DataFrame) -> np.ndarray:
    return np.stack([np.ones(len(data)), data["days"]], axis=1)


def henderson(res: mle.Results) -> tuple[np.ndarray, np.ndarray]:
    """Estimates and predictors of the mixed model equations, and the covariance of their errors (Henderson 1975)."""
    z = np.asarray(SLEEP["subject"].to_numpy()[:, None] == SLEEP["subject"].unique(), float)
    w = np.concatenate([design(SLEEP), z], axis=1)
    inverse = np.linalg.inv(w.T @ w + np.diag([0.0, 0.0, *[SIGMA**2 / SD**2] * 18]))
    return inverse @ w.T @ SLEEP["reaction"].to_numpy(), SIGMA**2 * inverse


def test_modes_have_the_errors_of_the_mixed_model_equations(res: mle.Results) -> None:
    solution, cov = henderson(res)
    new = SLEEP.iloc[[0, 15, 179]]
    own = (new["subject"].to_numpy()[:, None] == SLEEP["subject"].unique()).astype(float)
    w = np.concatenate([design(new), own], axis=1)
    for found in (res.predict("mean", new, random="mode"), res.predict(new, random="mode")):
        np.testing.assert_allclose(found["estimate"], w @ solution, rtol=1e-9)
        np.testing.assert_allclose(found["std_error"], np.sqrt(np.einsum("ij,jk,ik->i", w, cov, w)), rtol=1e-6)


def test_intervals_at_the_modes_are_students_t_where_errors_are_clustered() -> None:
    """t(G - 1), as every interval of the fit has: G = 18 subjects."""
    kwds = {"groups": "subject"}
    res = INTERCEPTS.fit(SLEEP, fixed={"sd(mu|subject)": [SD], "sigma": SIGMA}, cov_type="CR3", cov_kwds=kwds)
    for found in (res.predict("mean", SLEEP.iloc[:3], random=random) for random in ("mode", "integrate")):
        reach = (found["conf_high"] - found["estimate"]) / found["std_error"]
        np.testing.assert_allclose(reach, t.ppf(0.975, 17), rtol=1e-9)


def test_averages_over_the_law_and_zero(res: mle.Results) -> None:
    new = pd.DataFrame({"days": [0.0, 4.0], "subject": ["new", "too"]})
    eta = design(new) @ res.params.iloc[:2].to_numpy()
    grown = lambda params, data: jnp.exp(params["mu"] / 100.0)
    averaged = res.predict(grown, new)
    np.testing.assert_allclose(averaged["estimate"], np.exp(eta / 100 + (SD / 100) ** 2 / 2), rtol=1e-9)
    np.testing.assert_allclose(res.predict(grown, new, random="zero")["estimate"], np.exp(eta / 100), rtol=1e-12)
    margin = res.margins(of=grown, data=new)
    np.testing.assert_allclose(margin.params[0], averaged["estimate"].mean(), rtol=1e-12)
    slope = res.margins("days", of=grown, data=new, random="zero")
    np.testing.assert_allclose(slope.params[0], res.params["mu[days]"] / 100 * np.exp(eta / 100).mean(), rtol=1e-8)


def test_a_regressed_parameter_is_averaged_too() -> None:
    """exp(eta + b), b normal: its mean is exp(eta + sd^2 / 2); never silently b = 0."""
    data = pd.DataFrame({"y": [3, 4, 2, 9, 8, 11, 1, 1, 0, 5], "site": list("aaabbbcccd")})
    res = counts.regress(rate=mle.Linear("1", random="1 | site")).fit(data, fixed={"sd(rate|site)": [0.8]})
    eta = res.params["rate[Intercept]"]
    found = res.predict({"site": ["new"]})
    np.testing.assert_allclose(found["estimate"], np.exp(eta + 0.32), rtol=1e-9)
    assert found["conf_low"][0] > 0.0
    np.testing.assert_allclose(found["std_error"], found["estimate"] * res.bse["rate[Intercept]"], rtol=1e-6)
    np.testing.assert_allclose(res.predict({"site": ["new"]}, random="zero")["estimate"], np.exp(eta), rtol=1e-12)
    link = res.predict(data.iloc[:1], random="mode", scale="link")["estimate"]
    np.testing.assert_allclose(link, eta + res.latent()["mode"][0], rtol=1e-9)


def test_residuals(res: mle.Results) -> None:
    solution, _ = henderson(res)
    gap = SLEEP["reaction"] - design(SLEEP) @ solution[:2]
    total = gap / np.hypot(SD, SIGMA)
    np.testing.assert_allclose(res.residuals("pearson").values, total, rtol=1e-9)
    # the grid of the law reaches far, but its averages of a distribution function end at about 1e-4
    np.testing.assert_allclose(res.residuals("quantile").values, total, atol=5e-3)
    own = (gap - solution[2:][np.unique(SLEEP["subject"], return_inverse=True)[1]]) / SIGMA
    np.testing.assert_allclose(res.residuals("pearson", random="mode").values, own, rtol=1e-8)
    np.testing.assert_allclose(res.residuals("quantile", random="mode").values, own, rtol=1e-6, atol=1e-8)


def test_simulated_units_have_effects_of_their_own() -> None:
    """Two rows of a unit correlate by sd^2 / (sd^2 + sigma^2), within 4 standard errors."""
    rows = pd.DataFrame({"days": np.tile([0.0, 1.0], 3000), "subject": np.repeat(np.arange(3000), 2)})
    params = {"mu": np.array([250.0, 10.0]), "sigma": SIGMA, "sd(mu|subject)": np.array([SD])}
    drawn = np.asarray(INTERCEPTS.simulate(params, rows, seed=1)["reaction"]).reshape(3000, 2)
    assert np.corrcoef(drawn.T)[0, 1] == pytest.approx(SD**2 / (SD**2 + SIGMA**2), abs=4 * 0.43 / np.sqrt(3000))
    assert drawn.std(axis=0) == pytest.approx(np.hypot(SD, SIGMA), rel=4 / np.sqrt(6000))
    np.testing.assert_allclose(drawn.mean(axis=0), [250.0, 260.0], atol=4 * 47.5 / np.sqrt(3000))


def test_what_is_refused(res: mle.Results) -> None:
    new = SLEEP.head(2)
    for call, message in (
        (lambda: res.predict(new.assign(subject=99), random="mode"), "subject 99 had no rows in the fit"),
        (lambda: res.predict("mean", new, random="none"), "'integrate', 'mode' or 'zero'"),
        (lambda: res.margins("days", random="mode", at_means=True), "a row of means belongs to no unit"),
        (lambda: res.margins("days", random="mode", unconditional=True), "given, not a sample"),
        (lambda: res.simulate(new.assign(subject=99), random="mode"), "subject 99 had no rows in the fit"),
        (lambda: INTERCEPTS.simulate(res.params_tree, new, random="mode"), "needs the units of a fit"),
        (lambda: res.cross_validate(3, random="mode"), "no rows in the refit and no mode"),
        (lambda: res.bootstrap(9, random="zero"), "draws units with their rows"),
        (lambda: res.bootstrap(9, kind="parametric", random="none"), "'integrate', 'mode' or 'zero'"),
    ):
        with pytest.raises(ValueError, match=message):
            call()
    plain = gaussian.regress(mu="days").fit(SLEEP)
    for refused in (
        lambda: plain.predict(new, random="mode"),
        lambda: plain.simulate(random="zero"),
        lambda: plain.cross_validate(3, random="zero"),
        lambda: plain.bootstrap(9, kind="parametric", random="mode"),
    ):
        with pytest.raises(ValueError, match="has none"):
            refused()


@pytest.mark.slow
def test_refits_with_large_factors_are_maxima() -> None:
    """Entries of a lower factor are no logarithms: one above 25 is as good as another."""
    res = gaussian.regress(mu=mle.Linear("days", random="1 + days | subject")).fit(SLEEP)
    done = res.bootstrap(12, kind="parametric", progress=False)
    assert done.n_failed == 0
    assert done.replicates["chol(mu|subject)[Intercept,Intercept]"].max() > 25.0
