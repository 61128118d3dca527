"""Score tests against statsmodels and closed forms, and what is refused."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest
import statsmodels.api as sm
from jax.scipy.special import gammaln
from jax.scipy.stats import norm

import mlejax as mle


@mle.model(p=mle.Interval(0, 1))
def bernoulli(params: Any, data: Any) -> Any:
    return jnp.where(data["y"] == 1, jnp.log(params["p"]), jnp.log1p(-params["p"]))


@mle.model(mu=mle.Positive())
def poisson(params: Any, data: Any) -> Any:
    return data["k"] * jnp.log(params["mu"]) - params["mu"] - gammaln(data["k"] + 1.0)


@mle.model(mu=mle.Positive(), alpha=mle.NonNegative())
def negbin(params: Any, data: Any) -> Any:
    return mle.special.nb2_logpmf(data["k"], params["mu"], params["alpha"])


@mle.model(mu=mle.Real(), sigma=mle.Positive())
def gaussian(params: Any, data: Any) -> Any:
    return norm.logpdf(data["v"], params["mu"], params["sigma"])


def draw(seed: int = 0, n: int = 300) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    df = pd.DataFrame({"x": rng.normal(size=n), "z": rng.normal(size=n), "g": rng.choice(list("abc"), n)})
    df["y"] = (rng.uniform(size=n) < 1 / (1 + np.exp(-0.3 - 0.5 * df["x"] - 0.2 * df["z"]))).astype(float)
    df["k"] = rng.poisson(np.exp(0.2 * df["x"] + 0.3 * rng.normal(size=n))).astype(float)
    df["v"] = 1 + df["x"] + np.exp(0.3 * df["z"]) * rng.normal(size=n)
    return df


frame = draw()
extra = np.column_stack([frame["z"], frame["g"] == "b", frame["g"] == "c"]).astype(float)


@pytest.fixture(scope="module")
def logit() -> mle.Results:
    return bernoulli.regress(p="x").fit(frame)


@pytest.fixture(scope="module")
def full() -> mle.Results:
    return bernoulli.regress(p="x + z + g").fit(frame)


def test_added_terms_are_those_of_statsmodels(logit: mle.Results, full: mle.Results) -> None:
    """For a canonical link the observed information is the expected one."""
    theirs = sm.GLM(frame["y"], sm.add_constant(frame[["x"]]), family=sm.families.Binomial()).fit(tol=1e-14)
    expected = theirs.score_test(exog_extra=extra)
    fixed = full.model.fit(frame, fixed={"p[z]": 0.0, "p[g[T.b]]": 0.0, "p[g[T.c]]": 0.0})
    for found in (logit.score_test("+ z + g"), logit.score_test(full.model), fixed.score_test()):
        assert found.statistic == pytest.approx(expected.statistic.item(), rel=1e-8)
        assert found.pvalue == pytest.approx(expected.pvalue.item(), rel=1e-8)
        assert found.df == 3
    assert found.restrictions == ("p[z] = 0", "p[g[T.b]] = 0", "p[g[T.c]] = 0")
    assert found.frame()["statistic"].item() == found.statistic


def test_some_of_what_is_fixed(full: mle.Results) -> None:
    """Freeing one entry while the others stay fixed is adding its column."""
    fixed = full.model.fit(frame, fixed={"p[z]": 0.0, "p[g[T.b]]": 0.0, "p[g[T.c]]": 0.0})
    theirs = sm.GLM(frame["y"], sm.add_constant(frame[["x"]]), family=sm.families.Binomial()).fit(tol=1e-14)
    expected = theirs.score_test(exog_extra=extra[:, :1])
    assert fixed.score_test("p[z]").statistic == pytest.approx(expected.statistic.item(), rel=1e-8)


def test_the_robust_form_of_a_logit(logit: mle.Results) -> None:
    """Boos (1992) by matrices: S2' (s2 - A21 A11^-1 s1) with its own sum of squares."""
    X = np.column_stack([np.ones(len(frame)), frame["x"]])
    p = 1 / (1 + np.exp(-X @ logit.params.to_numpy()))
    w, e = p * (1 - p), frame["y"].to_numpy() - p
    across = np.linalg.solve(X.T @ (w[:, None] * X), X.T @ (w[:, None] * extra))
    s = e[:, None] * (extra - X @ across)
    expected = s.sum(axis=0) @ np.linalg.solve(s.T @ s, s.sum(axis=0))
    assert logit.score_test("+ z + g", cov_type="HC0").statistic == pytest.approx(expected, rel=1e-8)
    assert logit.with_cov("HC0").score_test("+ z + g").statistic == pytest.approx(expected, rel=1e-8)


def test_unequal_variances() -> None:
    """log sigma = a + b z in a linear regression: score and observed information by hand."""
    res = gaussian.regress(mu="x").fit(frame)
    X, z = np.column_stack([np.ones(len(frame)), frame["x"]]), frame["z"].to_numpy()
    e = frame["v"].to_numpy() - X @ res.params.to_numpy()[:2]
    r = e / np.sqrt(np.mean(e**2))
    Z = np.column_stack([np.ones(len(frame)), z])
    score = np.concatenate([np.zeros(3), [z @ (r**2 - 1)]])
    cross = 2 * X.T @ (r[:, None] * Z)
    information = np.block([[X.T @ X, cross], [cross.T, 2 * Z.T @ (r[:, None] ** 2 * Z)]])
    expected = score @ np.linalg.solve(information, score)
    assert res.score_test("+ z", param="sigma").statistic == pytest.approx(expected, rel=1e-7)


def test_overdispersion_is_tested_on_the_edge() -> None:
    """NB2 against Poisson: score and observed information at alpha = 0 by the series of the density; one-sided."""
    res = poisson.regress(mu="x").fit(frame)
    found = res.score_test(negbin.regress(mu="x"), null={"alpha": 0.0})
    X, k = np.column_stack([np.ones(len(frame)), frame["x"]]), frame["k"].to_numpy()
    m = np.exp(X @ res.params.to_numpy())
    s = 0.5 * np.sum((k - m) ** 2 - k)
    own = np.sum(k * (k - 1) * (2 * k - 1) / 6 - k * m**2 + 2 * m**3 / 3)
    cross = X.T @ ((k - m) * m)
    expected = s**2 / (own - cross @ np.linalg.solve(X.T @ (m[:, None] * X), cross))
    from scipy.stats import chi2

    assert found.one_sided
    assert found.statistic == pytest.approx(expected, rel=1e-7)
    assert found.pvalue == pytest.approx(0.5 * chi2.sf(expected, 1), rel=1e-6)
    rng = np.random.default_rng(1)
    under = frame.assign(k=rng.binomial(3, 0.5, len(frame)).astype(float))
    none = poisson.regress(mu="x").fit(under).score_test(negbin.regress(mu="x"), null={"alpha": 0.0})
    assert (none.statistic, none.pvalue) == (0.0, 1.0)


def test_terms_of_formulas(full: mle.Results) -> None:
    joint = full.wald_test("p[g[T.b]] = 0, p[g[T.c]] = 0")
    for name in ("g", "p[g]"):
        assert full.wald_test(name).statistic == pytest.approx(joint.statistic, rel=1e-12)
    table = full.wald_terms().frame()
    theirs = sm.Logit.from_formula("y ~ x + z + g", frame).fit(disp=0, tol=1e-14).wald_test_terms(scalar=True).table
    np.testing.assert_allclose(table["statistic"], theirs["statistic"].to_numpy()[[2, 3, 1]], rtol=1e-7)
    assert list(table.index) == ["p[x]", "p[z]", "p[g]"]
    assert "p[g]" in repr(full.wald_terms())
    omnibus = full.wald_test("p[x] = 0, p[z] = 0, p[g[T.b]] = 0, p[g[T.c]] = 0")
    assert f"All slopes are 0: {omnibus.statement}." in str(full.summary())


def test_restrictions_as_a_function(full: mle.Results) -> None:
    """By the delta method: statsmodels has no such test; the gradient of b1 b2 - 1 by hand."""
    b, V = full.params.to_numpy(), full.cov_params().to_numpy()
    gradient = np.array([0.0, b[2], b[1], 0.0, 0.0])
    expected = (b[1] * b[2] - 1) ** 2 / (gradient @ V @ gradient)
    with pytest.raises(ValueError, match=r"params\['p'\] has a formula.*5 coefficients.*params\['p\[.+\]'\]"):
        full.wald_test(lambda p: p["p"][1] * p["p"][2] - 1)
    assert full.wald_test(lambda p: p["p[x]"] * p["p[z]"], 1.0).statistic == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "neither: name terms"),
        (("p[x]",), "expected entries that the fit has fixed"),
        ((3,), "expected terms to add"),
        (("+ x",), "expected a model with more free parameters"),
    ],
)
def test_what_is_no_restriction_is_refused(logit: mle.Results, arguments: Any, message: str) -> None:
    with pytest.raises((ValueError, TypeError), match=message):
        logit.score_test(*arguments)


def test_singular_products_of_scores_leave_the_information() -> None:
    """The rows with x = 1 lie on the mean, so that the score of x is 0 in every row; the information is X'X."""
    res = gaussian.regress(mu="1").fit({"v": [-1.0, 2.0, -1.0, 0.0], "x": [0.0, 0.0, 0.0, 1.0]}, fixed={"sigma": 1.0})
    with pytest.raises(ValueError, match=r"products of scores .* but its information is: leave out cov_type='opg'"):
        res.score_test("+ x", cov_type="opg")
    assert res.score_test("+ x").statistic == pytest.approx(0.0, abs=1e-12)


def test_other_refusals(logit: mle.Results) -> None:
    with pytest.raises(ValueError, match=r"give the value under the null hypothesis, null=\{'alpha': 0.0\}"):
        poisson.regress(mu="x").fit(frame).score_test(negbin.regress(mu="x"))
    with pytest.raises(ValueError, match="not nested"):
        logit.score_test(bernoulli.regress(p="z + g"))
    with pytest.raises(ValueError, match="missing"):
        bernoulli.regress(p="x").fit(frame.assign(w=np.where(np.arange(300) < 2, np.nan, 1.0))).score_test("+ w")
    with pytest.raises(ValueError, match=r"not a term of a formula of this fit; its terms are: 'x'"):
        logit.wald_test("C(region)")
    with pytest.raises(ValueError, match="name the parameter that the terms are for"):
        gaussian.fit(frame).score_test("+ x")


def test_fixed_values_keep_their_digits(full: mle.Results) -> None:
    """A fixed 0.1 is not rounded to float32, outside of a scope of float64 too."""
    from mlejax.fit.prepare.arguments import fix_on_host

    _, values = fix_on_host(full.model.fit(frame)._fit.loaded.problem.space, {"p[z]": 0.1})
    assert values is not None
    assert values.dtype == np.float64
    assert 0.1 in values.tolist()
