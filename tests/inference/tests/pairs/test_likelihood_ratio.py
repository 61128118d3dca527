"""Likelihood-ratio tests: numbers of R, and every pair that must not be compared."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest
from jax.scipy.stats import norm, poisson
from scipy import optimize, stats

import mlejax as mle
from mlejax.data import Fingerprint
from mlejax.inference import FitFacts, lr_test
from mlejax.inference.tests import data_difference

# R 4, budworm data of ?MASS::dose.p: full <- glm(SF ~ sex*ldose, binomial); null <- glm(SF ~ ldose, binomial)
# logLik(full); logLik(null); anova(null, full, test = "LRT")
FULL, NULL = -17.552064154518405, -23.547216834155684
DEVIANCE, P = 11.990305359274565, 0.0024907966506949645

DATA = Fingerprint(12, {"SF": (111.0, 1625.0), "ldose": (30.0, 110.0)})
full = FitFacts(FULL, 4, 12, DATA, label="interaction")
null = FitFacts(NULL, 2, 12, DATA, label="dose only")


def ratio(llf_full, k_full, llf_restricted, k_restricted, boundary=0):
    return lr_test(FitFacts(llf_full, k_full, 50), FitFacts(llf_restricted, k_restricted, 50), boundary=boundary)


def test_against_r():
    test = lr_test(full, null)
    assert test.statistic == pytest.approx(DEVIANCE, rel=1e-12)
    assert test.df == 2
    assert test.pvalue == pytest.approx(P, rel=1e-12)


def test_far_tail():
    # R: pchisq(1000, 3, lower.tail = FALSE)
    assert ratio(-100.0, 5, -600.0, 2).pvalue == pytest.approx(1.7994208765314476e-216, rel=1e-9)


def test_equal_log_likelihoods():
    test = ratio(-10.0, 3, -10.0 + 5e-7, 2)
    assert test.statistic == 0.0
    assert test.pvalue == 1.0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"converged": False}, "dose only fit did not converge"),
        ({"pseudolikelihood": True, "cov_type": "HC0"}, "pseudolikelihood .*'HC0'.*wald_test"),
        ({"penalised": True}, "penalised"),
        ({"nobs": 11}, "12 observations .interaction. against 11"),
        ({"df_model": 5}, "expected the larger model first; exchange the two"),
        ({"df_model": 4}, "neither is a restriction"),
        ({"llf": FULL + 1e-4}, "the restricted fit has the higher log-likelihood .* fit the full model again with start= at"),
        ({"llf": float("nan")}, "expected a finite number"),
        ({"fingerprint": Fingerprint(12, {"SF": (112.0, 1625.0)})}, "different data: column 'SF'"),
    ],
)
def test_refused(change, message):
    with pytest.raises(ValueError, match=message):
        lr_test(full, dataclasses.replace(null, **change))


def test_the_full_fit_is_checked_too():
    with pytest.raises(ValueError, match="interaction fit did not converge"):
        lr_test(dataclasses.replace(full, converged=False), null)


def test_nested_models_may_read_different_columns():
    fewer = Fingerprint(12, {"SF": (111.0 * (1 + 1e-14), 1625.0)})
    assert lr_test(full, dataclasses.replace(null, fingerprint=fewer)).df == 2
    other = Fingerprint(12, {"y": (111.0, 1625.0)})
    with pytest.raises(ValueError, match="no column in common, SF, ldose against y"):
        lr_test(full, dataclasses.replace(null, fingerprint=other))


def test_differences_of_fingerprints():
    a = Fingerprint(2, {"x": (3.0, 5.0)})
    assert data_difference(None, a) == ""
    assert data_difference(a, Fingerprint(2, {"x": (3.0, 5.0), "z": (0.0, 2.0)})) == ""
    assert data_difference(a, Fingerprint(2, {"formula x": (3.0, 5.0)})) == "", "the same column, in a formula"
    assert data_difference(a, Fingerprint(2, {"x": (4.0, 10.0)})) == "column 'x' has different values"
    assert data_difference(a, Fingerprint(3, {"x": (3.0, 5.0)})) == "2 rows and 3 rows"
    assert data_difference(a, Fingerprint(2, {"y": (3.0, 5.0)})) == "they have no column in common, x against y"


def test_boundary_mixture():
    # Self & Liang (1987): a variance that may be 0 has half the p-value of chi2(1); with one more parameter,
    # half chi2(1) and half chi2(2).
    test = ratio(-10.0, 3, -11.5, 2, boundary=1)
    assert test.pvalue == pytest.approx(0.5 * stats.chi2.sf(3.0, 1), rel=1e-14)
    two = ratio(-10.0, 4, -11.5, 2, boundary=1)
    assert two.pvalue == pytest.approx(0.5 * stats.chi2.sf(3.0, 1) + 0.5 * stats.chi2.sf(3.0, 2), rel=1e-14)
    assert ratio(-10.0, 3, -10.0, 2, boundary=1).pvalue == 1.0
    assert "chibar2(0, 1)" in repr(test)
    assert "mixture" in test.summary()
    with pytest.raises(ValueError, match="needs the data of both fits"):
        ratio(-10.0, 4, -11.5, 2, boundary=2)
    with pytest.raises(ValueError, match="the number of the 2 restrictions"):
        ratio(-10.0, 4, -11.5, 2, boundary=3)


@pytest.mark.parametrize(("further", "printed"), [(0, 2.71), (1, 5.14), (2, 7.05)])
def test_critical_values_of_a_variance_component(further, printed):
    """5 % of half chi2(q) and half chi2(q + 1) (Self & Liang 1987; Stram & Lee 1994), of drawn normals at the edge.

    With q covariances beside it, the statistic is the squared length of q normals, and of one more where that one is positive.
    """
    p = lambda x: ratio(0.0, 3 + further, -x / 2, 2, boundary=1).pvalue
    critical = optimize.brentq(lambda x: p(x) - 0.05, 1.0, 20.0)
    assert critical == pytest.approx(printed, abs=0.006)
    z = np.random.default_rng(0).normal(size=(400_000, 1 + further))
    statistic = np.maximum(z[:, 0], 0.0) ** 2 + (z[:, 1:] ** 2).sum(1)
    assert np.mean(statistic > critical) == pytest.approx(0.05, abs=3 * np.sqrt(0.05 * 0.95 / len(z)))


def test_summary_names_the_fits():
    text = lr_test(full, null).summary()
    assert "interaction  log-likelihood = -17.55206415" in text
    assert "chi2(2) = 11.990    Prob > chi2 = 0.0025" in text


@mle.model(mu=mle.Positive(), pi=mle.Interval(0, 1, closed="left"))
def inflated(params, data):
    y, q = data["y"], params["pi"]
    log_p = poisson.logpmf(y, params["mu"])
    return jnp.where(y > 0, jnp.log1p(-q) + log_p, jnp.log(q + (1 - q) * jnp.exp(log_p)))


@pytest.mark.parametrize("seed", range(3))
def test_on_the_edge_itself_p_is_one_and_aic_counts_the_parameter(seed):
    """Underdispersed counts: the share of zeros is 0, both fits are the same, and P(chibar2 >= 0) = 1.

    AIC counts the parameter on the edge, as R's pscl does for zeroinfl: -2 llf + 4.
    """
    y = np.random.default_rng(seed).binomial(6, 0.5, size=200).astype(float)
    full, at_zero = inflated.fit({"y": y}), inflated.fit({"y": y}, fixed={"pi": 0.0})
    assert full.verdict.code == "boundary"
    test = full.lr_test(at_zero, boundary=1)
    assert (test.statistic, test.pvalue) == (0.0, 1.0)
    assert full.aic == pytest.approx(-2 * full.llf + 4, rel=1e-14)
    assert full.info_criteria("aic", count="interior") == pytest.approx(-2 * full.llf + 2, rel=1e-14)
    assert full.df_model == 2
    assert "2 (1 at a bound)" in str(full.summary())


@mle.model(mu=mle.Positive())
def counts(params, data):
    return poisson.logpmf(data["y"], params["mu"])


@counts.simulator
def _(key, params, data):
    return {"y": jax.random.poisson(key, params["mu"], (data.n_rows,)).astype(float)}


@mle.model(mu=mle.Positive(), pi=mle.Interval(0, 1))
def inside(params, data):
    return inflated.likelihood.function(params, data)


@pytest.mark.parametrize("model", [inflated, inside], ids=["closed", "open"])
def test_a_function_that_is_another_at_a_bound_has_the_mixture(model):
    """Zero inflation against none: half of chi2(1) (Wilson 2015), with the maximum of the inflated Poisson by scipy."""
    rng = np.random.default_rng(0)
    y = np.where(rng.random(200) < 0.12, 0.0, rng.poisson(2.0, 200))

    def llf(mu, pi):
        p = (1 - pi) * stats.poisson.pmf(y, mu) + pi * (y == 0)
        return np.log(p).sum()

    best = optimize.minimize(lambda t: -llf(*t), [2.0, 0.1], method="Nelder-Mead", options={"xatol": 1e-9, "fatol": 1e-11})
    statistic = 2 * (-best.fun - llf(y.mean(), 0.0))
    full, none = model.fit({"y": y}), counts.fit({"y": y})
    with pytest.raises(ValueError, match=r"counts is .* with pi at a bound of its support.*not chi-squared: boundary=1"):
        full.lr_test(none)
    test = full.lr_test(none, boundary=1)
    assert test.statistic == pytest.approx(statistic, rel=1e-6)
    assert test.pvalue == pytest.approx(0.5 * stats.chi2.sf(statistic, 1), rel=1e-5)
    assert "was not checked to be nested" in test.summary()


def test_slopes_of_a_share_of_zero_are_not_identified():
    rng = np.random.default_rng(0)
    y = np.where(rng.random(200) < 0.2, 0.0, rng.poisson(2.0, 200))
    data = {"y": y, "x": rng.normal(size=200)}
    full, none = inside.regress(pi="x").fit(data), counts.fit(data)
    for boundary in (0, 1):
        with pytest.raises(ValueError, match=r"the coefficients of pi are not identified.*bootstrap=999"):
            full.lr_test(none, boundary=boundary)
    test = full.lr_test(none, bootstrap=39)
    assert (test.distribution, test.pvalue) == ("LR", 1 / (len(test.replicates) + 1))


@mle.model(mu=mle.Real(), sv=mle.Positive(), su=mle.NonNegative())
def frontier(params, data):
    e, su, sv = data["y"] - params["mu"], params["su"], params["sv"]
    s = jnp.sqrt(su**2 + sv**2)
    return jnp.log(2.0) + norm.logpdf(e, 0.0, s) + norm.logcdf(su / sv * e / s)


@frontier.simulator
def _(key, params, data):
    u, v = jax.random.normal(key, (2, data.n_rows))
    return {"y": params["mu"] + params["su"] * jnp.abs(u) + params["sv"] * v}


def test_a_frontier_has_a_singular_information_and_no_mixture():
    """At su = 0 its score is sqrt(2 / pi) times that of the intercept (Lee 1993, Econometric Theory 9, 413)."""
    rng = np.random.default_rng(2)
    y = rng.normal(size=150) + np.abs(rng.normal(size=150))
    full, none = frontier.fit({"y": y}), frontier.fit({"y": y}, fixed={"su": 0.0})
    with pytest.raises(ValueError, match=r"not chi-squared: bootstrap=999 compares it with drawn data"):
        full.lr_test(none)
    with pytest.raises(ValueError, match=r"the information of the full model is singular .* use bootstrap=999"):
        full.lr_test(none, boundary=1)
    with pytest.raises(ValueError, match=r"neither the information .* use lr_test\(..., bootstrap=999\)"):
        none.score_test("su")
    assert "su = 0: the distribution of the likelihood ratio is not known" in str(full.summary(null=True))
    # su is 0 where the residuals are skewed to the left (Waldman 1982, J. Econometrics 18, 275): half of all samples
    test = full.lr_test(none, bootstrap=199)
    assert test.failed == 0
    assert np.mean(test.replicates < 1e-6) == pytest.approx(0.5, abs=4 * 0.5 / np.sqrt(199))


def test_fits_that_differ_in_what_is_fixed_have_two_names():
    y = {"y": np.array([0.0, 0.0, 0.0, 2.0, 3.0])}
    text = inside.fit(y).lr_test(inside.fit(y, fixed={"pi": 0.2})).summary()
    assert "inside            log" in text
    assert "inside, pi fixed  log" in text


@mle.model(mu=mle.Real(), sigma=mle.Positive())
def gauss(params, data):
    return norm.logpdf(data["y"], params["mu"], params["sigma"])


def behind_formulas():
    rng = np.random.default_rng(0)
    x, z = rng.normal(size=(2, 100))
    return pd.DataFrame({"x": x, "z": z, "w": z**2, "y": x + 0.5 * z + rng.normal(size=100)})


def test_other_rows_behind_a_formula_are_refused():
    d = behind_formulas()
    full = gauss.regress(mu="x + z").fit(d)
    # R: lmtest::lrtest(lm(y ~ x + z), lm(y ~ x)) is n log(RSS0 / RSS1)
    rss = []
    for names in (["x"], ["x", "z"]):
        X = np.column_stack([np.ones(100), d[names]])
        rss.append(np.sum((d["y"] - X @ np.linalg.lstsq(X, d["y"], rcond=None)[0]) ** 2))
    test = full.lr_test(gauss.regress(mu="x").fit(d))
    assert test.statistic == pytest.approx(100 * np.log(rss[0] / rss[1]), rel=1e-7)
    with pytest.raises(ValueError, match="not in the same rows"):
        full.lr_test(gauss.regress(mu="x").fit(d.assign(y=d["y"].to_numpy()[::-1])))
    # sorted as a whole, they are the same data
    again = full.lr_test(gauss.regress(mu="x").fit(d.sort_values("y")))
    assert again.statistic == pytest.approx(test.statistic, rel=1e-6)


@pytest.mark.parametrize(("full", "restricted"), [("x + z", "w"), ("x + z + I(x**2)", "exp(x)"), ("x", "w - 1")])
def test_models_that_are_not_nested_are_refused(full, restricted):
    d = behind_formulas()
    with pytest.raises(ValueError, match="not nested: mu of the restricted fit takes values"):
        gauss.regress(mu=full).fit(d).lr_test(gauss.regress(mu=restricted).fit(d))


def test_models_that_are_nested_in_other_columns_are_not_refused():
    """Column spaces are compared, not names; without covariates mu is a constant, which needs an intercept."""
    d = behind_formulas()
    for full, restricted in (("bs(x, df=6)", "x"), ("poly(x, 2) + z", "I(3 * x) + I(x**2)"), ("x + z", "I(x + z)")):
        assert gauss.regress(mu=full).fit(d).lr_test(gauss.regress(mu=restricted).fit(d)).statistic >= 0
    assert gauss.regress(mu="x").fit(d).lr_test(gauss.fit(d)).df == 1
    with pytest.raises(ValueError, match="not nested"):
        gauss.regress(mu="x + z - 1", sigma="x").fit(d).lr_test(gauss.fit(d))
    held = gauss.regress(mu="x + z").fit(d, fixed={"mu[z]": 0.25})
    assert gauss.regress(mu="x + z").fit(d).lr_test(held).df == 1


def test_nesting_of_two_functions_is_the_users_claim():
    d = behind_formulas()

    @mle.model(a=mle.Real(), b=mle.Real(), sigma=mle.Positive())
    def line(params, data):
        return norm.logpdf(data["y"], params["a"] + params["b"] * data["x"], params["sigma"])

    assert "was not checked to be nested in line" in line.fit(d).lr_test(gauss.fit(d)).summary()


def test_a_wald_test_on_an_open_edge_is_refused_as_the_table_does():
    res = gauss.fit(behind_formulas())
    for hypothesis in ("sigma = 0", "mu = 0, sigma = 0", {"sigma": -1.0}):
        test = res.wald_test(hypothesis)
        assert np.isnan(test.pvalue)
        assert "not an interior point of the support (0, inf)" in test.reason
    assert np.isnan(res.t_test("sigma = 0").pvalues[0])
    assert np.isnan(res.pvalues["sigma"])
    assert res.wald_test("sigma = 1").pvalue < 1


def test_the_data_are_blamed_only_where_they_were_not_compared():
    higher = dataclasses.replace(null, llf=FULL + 1e-4)
    with pytest.raises(ValueError, match=r"check that the models are nested$"):
        lr_test(full, higher)
    with pytest.raises(ValueError, match=r"check that the models are nested and have the same data$"):
        lr_test(full, dataclasses.replace(higher, fingerprint=None))


def test_dropped_rows_are_counted():
    d = behind_formulas()
    d.loc[:2, "z"] = np.nan
    with pytest.raises(ValueError, match=r"97 observations .* 3 and 0 rows with missing values were dropped"):
        gauss.regress(mu="x + z").fit(d, missing="drop").lr_test(gauss.regress(mu="x").fit(d))
    with pytest.raises(ValueError, match=r"97 observations .*; fit both to one table\n"):
        gauss.regress(mu="x + w").fit(d[3:]).lr_test(gauss.regress(mu="x").fit(d))


def test_what_the_objective_adds_is_named():
    d = {"y": behind_formulas()["y"]}
    plain, shrunk = gauss.fit(d), gauss.fit(d, fixed={"mu": 0.0}, penalty=mle.l2(1.0, "sigma"))
    with pytest.raises(ValueError, match=r"fit is penalised: .* or fit without penalty=\n"):
        plain.lr_test(shrunk)
    reduced = gauss.fit(d, fixed={"mu": 0.0}, bias_reduction="jeffreys")
    with pytest.raises(ValueError, match=r"fit is bias-reduced: .* or fit without bias_reduction=\n"):
        plain.lr_test(reduced)
