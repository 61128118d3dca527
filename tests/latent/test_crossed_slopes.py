"""Crossed random effects with slopes, by formula: lme4, glmmTMB, closed forms of normal models, and what is refused."""

import json
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest
from jax.scipy.stats import norm, poisson
from scipy.stats import multivariate_normal

import mlejax as mle

HERE = Path(__file__).parent
REFERENCE = json.loads((HERE.parent / "references" / "crossed_slopes.json").read_text())
VERBAL = pd.read_csv(HERE.parents[1] / "examples" / "data" / "verbagg_modes.csv")


@mle.model(mu=mle.Real(), sigma=mle.Positive())
def gaussian(params: Any, data: Any) -> Any:
    return norm.logpdf(data["score"], params["mu"], params["sigma"])


@mle.model(p=mle.Real())
def binary(params: Any, data: Any) -> Any:
    return mle.special.log_sigmoid(jnp.where(data["y"] == 1, params["p"], -params["p"]))


@mle.model(rate=mle.Positive())
def counts(params: Any, data: Any) -> Any:
    return poisson.logpmf(data["y"], params["rate"])


@pytest.fixture(scope="module")
def some() -> mle.Results:
    """Scores of the first 25 persons, with independent effects of persons and one slope of items."""
    random = "(1 + does || person) + (0 + male | item)"
    return gaussian.regress(mu=mle.Linear("does", random=random)).fit(VERBAL[VERBAL["person"] <= VERBAL["person"].iloc[24]])


def test_a_normal_model_and_its_levels_are_those_of_the_closed_form(some: mle.Results) -> None:
    """The normal law of all rows, its score 0, and the conditional law of the effects, z ~ N(0, I)."""
    table = VERBAL[VERBAL["person"] <= VERBAL["person"].iloc[24]]
    assert list(some.params.index) == [
        "mu[Intercept]", "mu[does]", "sigma", "sd(mu|person)[Intercept]", "sd(mu|person)[does]", "sd(mu|item)[male]",
    ]  # fmt: skip
    person, item = (pd.get_dummies(table[name]).to_numpy(float) for name in ("person", "item"))
    does, male = (table[[name]].to_numpy(float) for name in ("does", "male"))

    def parts(t: np.ndarray) -> tuple[Any, Any]:
        mean = t[0] + t[1] * does[:, 0]
        return mean, np.hstack([t[3] * person, t[4] * does * person, t[5] * male * item])

    def loglik(t: np.ndarray) -> float:
        mean, z = parts(t)
        return float(multivariate_normal(mean, z @ z.T + t[2] ** 2 * np.eye(len(z))).logpdf(table["score"]))

    theta, h = some.params.to_numpy(), 1e-5
    assert some.verdict.code == "verified"
    assert some.llf == pytest.approx(loglik(theta), rel=1e-11)
    score = np.array([loglik(theta + e) - loglik(theta - e) for e in h * np.eye(6)]) / (2 * h)
    np.testing.assert_allclose(score * some.bse, 0.0, atol=1e-5)
    mean, z = parts(theta)
    inverse = np.linalg.inv(np.eye(z.shape[1]) + z.T @ z / theta[2] ** 2)
    sds = np.repeat(theta[3:], [25, 25, item.shape[1]])
    mode = sds * (inverse @ z.T @ (table["score"] - mean) / theta[2] ** 2)
    found = some.latent()
    np.testing.assert_allclose(found["mode"], mode, atol=1e-8)
    np.testing.assert_allclose(found["sd"], sds * np.sqrt(np.diag(inverse)), rtol=1e-8)


@pytest.mark.slow
def test_a_linear_model_is_that_of_lme4_and_glmmtmb() -> None:
    """Log-likelihood and estimates of lme4, exact to its optimiser; errors of all parameters by glmmTMB."""
    random = "(1 + does | person) + (1 + male | item)"
    res = gaussian.regress(mu=mle.Linear("does + male", random=random)).fit(VERBAL)
    llf, *estimates = REFERENCE["linear"]
    beta, spread, sigma = np.array(estimates[:3]), np.array(estimates[3:9]), estimates[9]
    of_beta, of_spread = np.split(np.array(REFERENCE["linear_errors"]), [3])
    table = res.random_effects()
    assert list(table.index[2:4]) == ["corr(mu|person)[does,Intercept]", "sd(mu|item)[Intercept]"]
    assert res.verdict.code == "verified"
    assert res.llf == pytest.approx(llf, abs=1e-6)
    np.testing.assert_allclose((res.params[:3] - beta) / of_beta, 0.0, atol=1e-3)
    assert res.params["sigma"] == pytest.approx(sigma, rel=1e-4)
    np.testing.assert_allclose((table["estimate"] - spread) / of_spread, 0.0, atol=1e-3)
    np.testing.assert_allclose(res.bse[:3], of_beta, rtol=1e-3)
    np.testing.assert_allclose(table["std_error"], of_spread, rtol=1e-3)


@pytest.mark.slow
def test_a_binary_model_is_that_of_glmmtmb() -> None:
    """Laplace's approximation by another program, with errors of all parameters."""
    res = binary.regress(p=mle.Linear("does + male", random="(1 + does | person) + (1 | item)")).fit(VERBAL)
    llf, *estimates = REFERENCE["binary"]
    errors, table = np.array(REFERENCE["binary_errors"]), res.random_effects()
    found = np.r_[res.params[:3], table["estimate"]]
    assert res.llf == pytest.approx(llf, abs=1e-6)
    np.testing.assert_allclose((found - estimates) / errors, 0.0, atol=1e-3)
    np.testing.assert_allclose(np.r_[res.bse[:3], table["std_error"]], errors, rtol=1e-3)


@pytest.mark.slow
def test_independent_slopes_are_those_of_lme4() -> None:
    """lmer(score ~ does + (1 + does || person) + (1 | item), REML = FALSE)."""
    res = gaussian.regress(mu=mle.Linear("does", random="(1 + does || person) + (1 | item)")).fit(VERBAL)
    llf, *estimates = REFERENCE["independent"]
    assert res.llf == pytest.approx(llf, abs=1e-6)
    found = res.params.to_numpy()[[0, 1, 3, 4, 5, 2]]
    np.testing.assert_allclose((found - estimates) / res.bse.to_numpy()[[0, 1, 3, 4, 5, 2]], 0.0, atol=1e-3)


@pytest.mark.slow
def test_predictions_are_averaged_over_the_effects_of_both_columns() -> None:
    """exp(eta + z'b), b normal: its mean is exp(eta + z'Vz / 2), and the slope that of this in x, which varies in both parts."""
    rng, n = np.random.default_rng(4), 400
    data = pd.DataFrame({"g": rng.integers(0, 12, n), "h": rng.integers(0, 10, n), "x": rng.normal(size=n)})
    eta = 0.5 + 0.3 * data["x"] + 0.5 * rng.normal(size=12)[data["g"]] + 0.3 * rng.normal(size=10)[data["h"]] * data["x"]
    data["y"] = rng.poisson(np.exp(eta)).astype(float)
    spreads = {"sd(rate|g)": [0.5, 0.2], "sd(rate|h)": [0.3]}
    res = counts.regress(rate=mle.Linear("x", random="(1 + x || g) + (0 + x | h)")).fit(data, fixed=spreads)
    a, b, x = res.params["rate[Intercept]"], res.params["rate[x]"], np.array([-0.5, 0.8])
    new = pd.DataFrame({"g": [0, 1], "h": [0, 1], "x": x})
    mean = np.exp(a + b * x + 0.5 * (0.25 + 0.04 * x**2 + 0.09 * x**2))
    np.testing.assert_allclose(res.predict(new, param="rate")["estimate"], mean, rtol=1e-6)
    slope = res.margins("x", of="rate", data=new)
    np.testing.assert_allclose(slope.params, (mean * (b + 0.13 * x)).mean(), rtol=1e-6)
    np.testing.assert_allclose(res.predict(new, param="rate", random="zero")["estimate"], np.exp(a + b * x), rtol=1e-9)


@pytest.mark.parametrize(
    ("random", "message"),
    [
        ("(1 + does | person) + (1 | person)", "person has effects in two parts; expected all effects of a column in one"),
        ("(1 | person) + (1 | person/item)", "person has effects in two parts"),
        ("(1 + does | person) + (1 | item", "expected a formula and a grouping column"),
        ("(1 | person) + item", "expected a formula and a grouping column"),
        ("(1 | person) + ()", "a bar and a grouping column"),
        ("(1 + kind | person) + (1 | item)", r"1 \+ \{\(kind == 'b'\) \* 1.0\} \+ \{\(kind == 'c'\) \* 1.0\}"),
        ("(1 + C(level) | person) + (1 | item)", r"C\(level\)\[T.2\]: make a numeric dummy column of each level, and name these"),
        ("(1 + kind:does | person) + (1 | item)", "make a numeric dummy column of each level, and name these"),
        ("(1 + does + male + y | person) + (1 + does + male + y + kind | item)", "at most 8 latent variables"),
    ],
)
def test_what_is_refused(random: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        gaussian.regress(mu=mle.Linear("does", random=random)).fit(
            VERBAL.assign(kind=np.array(list("abc"))[VERBAL["item"] % 3], level=VERBAL["item"] % 3)
        )


@pytest.mark.slow
def test_a_factor_by_indicators_is_a_dummy_column_for_each_level() -> None:
    """The text that the message about a factor says to write gives the likelihood of dummy columns made beforehand."""
    table = VERBAL[VERBAL["person"] <= VERBAL["person"].iloc[24]]
    table = table.assign(kind=np.array(list("abc"))[table["item"] % 3])
    table = table.assign(b=(table["kind"] == "b") * 1.0, c=(table["kind"] == "c") * 1.0)
    texts = "(1 + {(kind == 'b') * 1.0} + {(kind == 'c') * 1.0} || person) + (1 | item)", "(1 + b + c || person) + (1 | item)"
    inline, columns = (gaussian.regress(mu=mle.Linear("does", random=text)).fit(table) for text in texts)
    assert "sd(mu|person)[(kind == 'b') * 1.0]" in inline.params.index
    assert inline.llf == pytest.approx(columns.llf, rel=1e-12)
    np.testing.assert_allclose(inline.bse, columns.bse, rtol=1e-6)
