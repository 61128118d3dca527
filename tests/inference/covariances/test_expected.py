"""Errors from the expected information: R's glm and glm.nb, the published beta regression, closed forms."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest
from jax.scipy.special import gammaln, polygamma
from jax.scipy.stats import norm, poisson

import mlejax as mle

ROOT = Path(__file__).parents[3]
R = json.loads((ROOT / "tests/references/expected.json").read_text())
BINARY = {"outcomes": {"low": [0, 1]}}


def binary(share: Any) -> mle.Model:
    @mle.model(eta=mle.Real())
    def low_weight(params: Any, data: Any) -> Any:
        p = share(params["eta"])
        return jnp.where(data["low"] == 1, jnp.log(p), jnp.log1p(-p))

    return low_weight


probit = binary(norm.cdf)
cloglog = binary(lambda eta: -jnp.expm1(-jnp.exp(eta)))


@probit.simulator
def _(key: Any, params: Any, data: Any) -> Any:
    return {"low": (jax.random.uniform(key, (data.n_rows,)) < norm.cdf(params["eta"])).astype(float)}


@mle.model(mu=mle.Positive(), alpha=mle.Positive())
def negbin(params: Any, data: Any) -> Any:
    mu, r, y = params["mu"], 1 / params["alpha"], data["y"]
    return gammaln(y + r) - gammaln(r) - gammaln(y + 1) + r * jnp.log(r / (r + mu)) + y * jnp.log(mu / (r + mu))


@mle.model(mu=mle.Interval(0, 1), phi=mle.Positive())
def beta(params: Any, data: Any) -> Any:
    y, mu, phi = data["yield"], params["mu"], params["phi"]
    constant = gammaln(phi) - gammaln(mu * phi) - gammaln((1 - mu) * phi)
    return constant + (mu * phi - 1) * jnp.log(y) + ((1 - mu) * phi - 1) * jnp.log1p(-y)


@beta.expected_information
def _(params: Any, data: Any) -> Any:
    """Of (mu, phi) of one row (Ferrari & Cribari-Neto 2004, Journal of Applied Statistics 31, equation (6) and appendix A)."""
    mu, phi = params["mu"], params["phi"]
    a, b = polygamma(1, mu * phi), polygamma(1, (1 - mu) * phi)
    cross = phi * (a * mu - b * (1 - mu))
    both = a * mu**2 + b * (1 - mu) ** 2 - polygamma(1, phi)
    return jnp.stack([phi**2 * (a + b), cross, cross, both], axis=-1).reshape(-1, 2, 2)


@pytest.fixture(scope="module")
def birthwt() -> pd.DataFrame:
    return pd.read_csv(ROOT / "examples/data/birthwt.csv")


@pytest.fixture(scope="module")
def fitted(birthwt: pd.DataFrame) -> mle.Results:
    return probit.regress(eta="age + lwt + smoke").fit(birthwt)


def test_links_that_are_not_canonical_have_the_errors_of_glm(birthwt: pd.DataFrame, fitted: mle.Results) -> None:
    np.testing.assert_allclose(fitted.with_cov("expected", BINARY).bse, list(R["probit"].values()), rtol=1e-6)
    assert not np.allclose(fitted.bse, list(R["probit"].values()), rtol=1e-3)
    other = cloglog.regress(eta="age + lwt + smoke").fit(birthwt, cov_type="expected", cov_kwds=BINARY)
    np.testing.assert_allclose(other.bse, list(R["cloglog"].values()), rtol=1e-6)
    assert "summed over 2 outcomes" in str(other.summary())


def test_the_score_test_is_raos(birthwt: pd.DataFrame) -> None:
    """As R's anova(test = "Rao"), which takes the expected information."""
    small = probit.regress(eta="age + lwt").fit(birthwt)
    found = small.score_test("+ smoke", cov_type="expected", cov_kwds=BINARY)
    assert found.statistic == pytest.approx(R["rao"], rel=1e-6)


def test_simulation_comes_as_near_as_it_says(fitted: mle.Results) -> None:
    """The Monte Carlo error, about 0.2 %, is printed with the covariance."""
    found = fitted.with_cov("expected", {"n": 100, "seed": 1})
    np.testing.assert_allclose(found.bse, list(R["probit"].values()), rtol=0.01)
    assert "100 simulated data" in str(found.summary())


def test_beta_regression_has_the_published_errors() -> None:
    """Cribari-Neto & Zeileis (2010), Journal of Statistical Software 34(2), section 4.1, betareg(yield ~ batch + temp)."""
    petrol = pd.read_csv(ROOT / "tests/cases/petrol_beta/data.csv")
    res = beta.regress(mu="C(batch, contr.treatment(base=9)) + temp").fit(petrol, cov_type="expected")
    published = [
        0.1823247, 0.1012294, 0.1179020, 0.1161045, 0.1023598, 0.1035232, 0.1060365, 0.1091275, 0.1089257, 0.1185933, 0.0004126,
    ]  # fmt: skip
    np.testing.assert_allclose(res.bse[:-1], published, atol=6e-8)
    assert res.bse["phi"] == pytest.approx(110.0, abs=0.05)
    assert "as the model declares it" in str(res.summary())


@pytest.mark.slow
def test_glm_nb_holds_theta_which_the_expected_information_leaves_alone() -> None:
    """Its block of mu and theta is 0, so that glm.nb's errors are those of the whole matrix."""
    epil = pd.read_csv(ROOT / "examples/data/epil.csv")
    res = negbin.regress(mu="trt + lbase + lage").fit(epil)
    found = res.with_cov("expected", {"outcomes": {"y": range(1200)}})
    np.testing.assert_allclose(found.bse[:-1], list(R["negbin"].values()), rtol=1e-6)
    assert found.params["alpha"] == pytest.approx(1 / R["theta"], rel=1e-6)


def test_counts_with_frequency_weights() -> None:
    """A Poisson mean with mu itself the parameter: n / mu, w of them a row."""

    @mle.model(mu=mle.Positive())
    def counts(params: Any, data: Any) -> Any:
        return poisson.logpmf(data["y"], params["mu"])

    res = counts.fit({"y": [1.0, 0.0, 4.0]}, weights=[2, 0, 3], weight_kind="frequency")
    found = res.with_cov("expected", {"outcomes": {"y": range(40)}})
    assert found.bse["mu"] == pytest.approx(np.sqrt(2.8 / 5), rel=1e-9)


@mle.model(a=mle.Real(by="race"), s=mle.Positive())
def levels(params: Any, data: Any) -> Any:
    return norm.logpdf(data["lwt"], params["a"], params["s"])


def test_what_cannot_be_formed_is_refused_in_words(birthwt: pd.DataFrame, fitted: mle.Results) -> None:
    with pytest.raises(ValueError, match="the probabilities of these outcomes sum to 0"):
        fitted.with_cov("expected", {"outcomes": {"low": [0]}})
    with pytest.raises(ValueError, match="'lo': expected a column with one number for each row that"):
        fitted.with_cov("expected", {"outcomes": {"lo": [0, 1]}})
    with pytest.raises(ValueError, match="needs one of three"):
        cloglog.regress(eta="age").fit(birthwt, cov_type="expected")
    with pytest.raises(ValueError, match=r"does not support effects of mle.Real\(by=...\); use 'nonrobust'"):
        levels.fit(birthwt, cov_type="expected")
    with pytest.raises(ValueError, match="expected a dict of a column and its values"):
        fitted.with_cov("expected", {"outcomes": [0, 1]})
    with pytest.raises(ValueError, match="is not supported with sampling weights"):
        probit.fit(birthwt, weights="lwt", weight_kind="sampling", cov_type="expected")
