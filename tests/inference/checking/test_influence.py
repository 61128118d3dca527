"""Influence against statsmodels' GLMInfluence and exact refits; residuals against statsmodels, scipy and closed forms."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest
import statsmodels.api as sm
from jax.scipy.special import gammaln, xlogy
from jax.scipy.stats import norm
from jax.scipy.stats import poisson as law
from scipy import optimize, stats

import mlejax as mle


@mle.model(p=mle.Interval(0, 1))
def bernoulli(params: Any, data: Any) -> Any:
    return jnp.where(data["y"] == 1, jnp.log(params["p"]), jnp.log1p(-params["p"]))


@mle.model(mu=mle.Positive())
def poisson(params: Any, data: Any) -> Any:
    return xlogy(data["k"], params["mu"]) - params["mu"] - gammaln(data["k"] + 1.0)


@poisson.cdf
def _cdf(params: Any, data: Any) -> Any:
    return jnp.where(data["k"] < 0, 0.0, law.cdf(data["k"], params["mu"]))


@poisson.mean
def _mean(params: Any, data: Any) -> Any:
    return params["mu"]


@poisson.variance
def _variance(params: Any, data: Any) -> Any:
    return params["mu"]


@poisson.saturated
def _saturated(params: Any, data: Any) -> Any:
    return xlogy(data["k"], data["k"]) - data["k"] - gammaln(data["k"] + 1.0) + 0.0 * params["mu"]


@mle.model(mu=mle.Real(), sigma=mle.Positive())
def tobit(params: Any, data: Any) -> Any:
    y, mu, sigma = data["v"], params["mu"], params["sigma"]
    return jnp.where(y <= 0, norm.logcdf(-mu / sigma), norm.logpdf(y, mu, sigma))


@tobit.simulator
def _draw(key: Any, params: Any, data: Any) -> Any:
    return {"v": jnp.maximum(params["mu"] + params["sigma"] * jax.random.normal(key, (data.n_rows,)), 0.0)}


def draw() -> pd.DataFrame:
    rng = np.random.default_rng(0)
    df = pd.DataFrame({"x": rng.normal(size=120), "z": rng.normal(size=120), "g": np.arange(120) % 8})
    df["y"] = (rng.uniform(size=120) < 1 / (1 + np.exp(-0.3 - df["x"]))).astype(float)
    df["k"] = rng.poisson(np.exp(0.3 + 0.4 * df["x"])).astype(float)
    df["v"] = np.maximum(0.5 + rng.normal(size=120), 0.0)
    return df


frame = draw()


@pytest.fixture(scope="module")
def logit() -> mle.Results:
    return bernoulli.regress(p="x + z").fit(frame)


@pytest.fixture(scope="module")
def counts() -> mle.Results:
    return poisson.regress(mu="x").fit(frame)


def glm(y: str, columns: list[str], family: Any) -> Any:
    return sm.GLM(frame[y], sm.add_constant(frame[columns]), family=family).fit(tol=1e-15, maxiter=200)


def test_influence_on_a_logit_is_that_of_statsmodels(logit: mle.Results) -> None:
    theirs = glm("y", ["x", "z"], sm.families.Binomial()).get_influence(observed=True)
    ours = logit.influence(leverage=True)
    np.testing.assert_allclose(ours.dfbeta, theirs.d_params, atol=1e-8)
    np.testing.assert_allclose(ours.leverage, theirs.hat_matrix_diag, rtol=1e-8)
    np.testing.assert_allclose(ours.cooks_distance, theirs.cooks_distance[0], rtol=1e-7)
    np.testing.assert_allclose(ours.dfbetas, theirs.dfbetas, rtol=1e-7)
    assert ours.leverage.sum() == pytest.approx(3.0, rel=1e-10)
    assert list(ours.frame().columns)[-1] == "dfbeta p[z]"
    assert str(int(np.argmax(ours.cooks_distance))) in repr(ours)


def test_the_infinitesimal_jackknife_is_a_sandwich(logit: mle.Results) -> None:
    np.testing.assert_allclose(logit.influence().cov_params(), logit.with_cov("HC0").cov_params(), rtol=1e-9)
    np.testing.assert_allclose(
        logit.influence(leverage=True).cov_params(), logit.with_cov("HC3").cov_params(), rtol=1e-8
    )
    clusters = {"groups": "g", "correction": "none"}
    by_cluster = logit.influence("g")
    np.testing.assert_allclose(by_cluster.cov_params(), logit.with_cov("cluster", clusters).cov_params(), rtol=1e-9)
    assert (by_cluster.what, by_cluster.index.tolist()) == ("clusters", list(range(8)))
    assert by_cluster.loglik.sum() == pytest.approx(logit.llf, rel=1e-10)


def test_exact_refits_without_a_cluster(counts: mle.Results) -> None:
    """The Newton step of the others is near the refit, nearer than the first order; so is the log-likelihood left out."""
    first, newton = counts.influence("g"), counts.influence("g", leverage=True)
    exact = counts.params.to_numpy() - counts.jackknife("g").replicates.to_numpy()
    assert np.abs(newton.dfbeta - exact).max() < 0.1 * np.abs(exact).max()
    assert np.abs(newton.dfbeta - exact).sum() < np.abs(first.dfbeta - exact).sum()
    out = []
    for g in range(8):
        mine = frame["g"] == g
        b = counts.params.to_numpy() - exact[g]
        out.append(stats.poisson.logpmf(frame["k"][mine], np.exp(b[0] + b[1] * frame["x"][mine])).sum())
    np.testing.assert_allclose(newton.loglik_out, out, atol=0.05)
    assert abs(newton.loglik_out.sum() - sum(out)) < 0.1 * abs(newton.loglik.sum() - sum(out))


def test_classical_residuals(counts: mle.Results) -> None:
    theirs = glm("k", ["x"], sm.families.Poisson())
    np.testing.assert_allclose(counts.residuals("pearson").values, theirs.resid_pearson, rtol=1e-7, atol=1e-9)
    np.testing.assert_allclose(counts.residuals("deviance").values, theirs.resid_deviance, rtol=1e-6, atol=1e-7)
    np.testing.assert_allclose(counts.residuals("response").values, theirs.resid_response, rtol=1e-7, atol=1e-9)
    np.testing.assert_array_equal(counts.residuals("score"), counts.score_obs)


def test_quantile_residuals_of_counts(counts: mle.Results) -> None:
    """Uniform between the steps of scipy's distribution function."""
    found = counts.residuals(seed=3)
    mu = np.exp(counts.params.iloc[0] + counts.params.iloc[1] * frame["x"])
    low, high = stats.poisson.cdf(frame["k"] - 1, mu), stats.poisson.cdf(frame["k"], mu)
    v = np.random.default_rng(3).uniform(size=len(frame))
    np.testing.assert_allclose(found.uniform, low + v * (high - low), rtol=1e-7)
    np.testing.assert_allclose(found.values, stats.norm.ppf(found.uniform), rtol=1e-9)
    assert stats.kstest(found.values, "norm").pvalue > 0.01
    assert "randomised at whole outcomes" in repr(found)


def test_whole_numbers_of_a_continuous_outcome_are_no_atoms() -> None:
    """Where the likelihood is the derivative of the distribution function; a function that is not 0 below 0 is refused."""
    y = np.array([1.0, 2.0, 6.0, 3.0, 5.0])
    likelihood = tobit.likelihood.with_companion("cdf", lambda p, d: norm.cdf(d["v"], p["mu"], p["sigma"]))
    res = mle.Model(likelihood).fit({"v": y})
    np.testing.assert_allclose(res.residuals().values, (y - y.mean()) / y.std(), rtol=1e-6)
    assert "randomised" in repr(res.residuals(discrete=True))
    for cdf, said in (
        (lambda p, d: norm.cdf(-d["v"]), "decreases at 1:"),
        (lambda p, d: jnp.where(d["v"] < 2, 0.5, jnp.nan), "is NaN at 2:"),
    ):
        with pytest.raises(ValueError, match=f"the declared cdf {said}"):
            mle.Model(tobit.likelihood.with_companion("cdf", cdf)).fit({"v": y}).residuals()
    flat = mle.Model(poisson_without_zero()).fit({"k": [0.0, 1.0, 2.0, 4.0]})
    with pytest.raises(ValueError, match=r"row 0: the declared cdf is 0.17.* at 0 and at -1"):
        flat.residuals()


def poisson_without_zero() -> Any:
    """Poisson counts with a distribution function that is not 0 below 0."""

    @mle.model(rate=mle.Positive())
    def poisson(params: Any, data: Any) -> Any:
        return data["k"] * jnp.log(params["rate"]) - params["rate"]

    return poisson.likelihood.with_companion(
        "cdf", lambda p, d: jax.scipy.special.gammaincc(jnp.floor(jnp.maximum(d["k"], 0.0)) + 1.0, p["rate"])
    )


def test_quantile_residuals_of_a_cdf_that_indexes_by_the_outcome() -> None:
    """Three ordered classes without a covariate: F are the cumulated shares, between which each outcome's u lies."""

    def up_to(params: Any, data: Any, k: Any) -> Any:
        inside = jax.nn.sigmoid(params["c"])
        return jnp.concatenate([jnp.zeros(1), inside, jnp.ones(1)])[data["y"] + k]

    @mle.model(c=mle.Ordered(shape=2))
    def ordered(params: Any, data: Any) -> Any:
        return jnp.log(up_to(params, data, 1) - up_to(params, data, 0))

    ordered.cdf(lambda params, data: up_to(params, data, 1))
    y = np.repeat([0, 1, 2], [20, 30, 50])
    res = ordered.fit({"y": y})
    u = res.residuals(seed=1).frame()["uniform"].to_numpy()
    edges = np.array([0.0, 0.2, 0.5, 1.0])
    assert ((u >= edges[y] - 1e-9) & (u <= edges[y + 1] + 1e-9)).all()
    assert np.unique(u).size == 100
    with pytest.raises(ValueError, match="the declared cdf indexes by 'y'"):
        res.residuals(discrete=False)


def test_quantile_residuals_of_censored_rows_are_drawn_beyond_them() -> None:
    """Exponential survival in whole days: u = F(t) of the dead, above F(t) of those censored at t, and uniform together."""

    @mle.model(mean=mle.Positive())
    def exponential(params: Any, data: Any) -> Any:
        return jnp.where(data["died"], -jnp.log(params["mean"]), 0.0) - data["days"] / params["mean"]

    @exponential.cdf
    def _(params: Any, data: Any) -> Any:
        return -jnp.expm1(-data["days"] / params["mean"])

    rng = np.random.default_rng(4)
    t, end = np.ceil(rng.exponential(300.0, 400)), np.ceil(rng.uniform(50, 600, 400))
    days, died = np.minimum(t, end), t <= end
    res = exponential.fit({"days": days, "died": died})
    assert res.params["mean"] == pytest.approx(days.sum() / died.sum(), rel=1e-9)
    found = res.residuals(response="days")
    at = 1.0 - np.exp(-days / res.params["mean"])
    np.testing.assert_allclose(found.uniform[died], at[died], atol=1e-9)
    assert (found.uniform[~died] > at[~died]).all()
    assert f"{(~died).sum()} censored rows" in repr(found)
    assert stats.kstest(found.uniform, "uniform").pvalue > 0.05


def test_ranks_among_simulated_data_stand_for_a_distribution_function() -> None:
    """Of a censored outcome, against the exact u where it is not censored."""
    res = tobit.fit(frame)
    found = res.residuals(seed=1)
    exact = stats.norm.cdf(frame["v"], *res.params)
    inside = frame["v"].to_numpy() > 0
    assert np.abs(found.uniform - exact)[inside].max() < 5 * np.sqrt(0.25 / 250)
    assert (found.uniform[~inside] <= exact[~inside] + 0.1).all()
    assert stats.kstest(found.uniform, "uniform").pvalue > 0.01
    tobit_cdf = tobit.likelihood.with_companion(
        "cdf", lambda p, d: jnp.where(d["v"] < 0, 0.0, norm.cdf(d["v"], p["mu"], p["sigma"]))
    )
    again = mle.Model(tobit_cdf).fit(frame).residuals(seed=1)
    np.testing.assert_allclose(again.uniform[inside], exact[inside], rtol=1e-6)
    assert f"{int((~inside).sum())} atoms" in again.note


def test_pictures(counts: mle.Results, logit: mle.Results) -> None:
    found = counts.residuals()
    line = found.plot("qq").get_lines()[0]
    np.testing.assert_array_equal(line.get_ydata(), np.sort(found.values))
    assert sum(p.get_height() * p.get_width() for p in found.plot("pit").patches) == pytest.approx(1.0)
    assert len(found.plot("index", x=frame["x"]).get_lines()[0].get_xdata()) == 120
    assert logit.influence().plot().get_ylabel() == "Cook's distance"
    with pytest.raises(ValueError, match="quantile residuals"):
        counts.residuals("pearson").plot("pit")


def test_refusals(logit: mle.Results, counts: mle.Results) -> None:
    with pytest.raises(ValueError, match=r"needs the simulator of bernoulli"):
        logit.residuals()
    with pytest.raises(ValueError, match=r"needs the variance of tobit"):
        mle.Model(tobit.likelihood.with_companion("mean", lambda p, d: p["mu"] + 0.0 * d["v"])).fit(frame).residuals(
            "pearson"
        )
    with pytest.raises(ValueError, match="expected 'quantile'"):
        counts.residuals("working")  # type: ignore[arg-type]
    with pytest.raises(mle.MissingColumnError, match="response=: no column"):
        counts.residuals(response="nope")
    with pytest.raises(ValueError, match="a leverage of 1"):
        poisson.regress(mu="C(g)").fit(frame).influence("g", leverage=True)


def test_skewness_and_reversals() -> None:
    """Of a logit with an intercept alone: third derivative -n p q (1 - 2p), and a Wald statistic that falls beyond p = 0.917."""
    for ones, reversed_ in ((88, False), (95, True)):
        res = bernoulli.regress(p="1").fit({"y": np.arange(100) < ones})
        p = ones / 100
        found = res.diagnose()
        assert found.skewness[0] == pytest.approx(-(1 - 2 * p) / np.sqrt(100 * p * (1 - p)), rel=1e-3)
        assert found.reversal[0] == reversed_
        logit = lambda q: np.log(q / (1 - q))
        fall = lambda q, n=ones, p=p: 2 * (n * np.log(p / q) + (100 - n) * np.log((1 - p) / (1 - q))) - stats.chi2.ppf(0.95, 1)
        ends = np.array([optimize.brentq(fall, 0.5, p), optimize.brentq(fall, p, 1 - 1e-9)])
        se = 1 / np.sqrt(100 * p * (1 - p))
        apart = np.abs(logit(ends) - logit(p) - stats.norm.ppf([0.025, 0.975]) * se).max() / se
        assert found.profile[0] == pytest.approx(apart, abs=1e-5)
        assert found.ratio[0] == pytest.approx(1.0, rel=1e-8)  # of a saturated model
    assert "Hauck & Donner" in repr(found)
    assert found.frame()["reversal"].item()
    wide = poisson.regress(mu="1").fit({"k": np.repeat([0.0, 8.0], 20)}).diagnose()
    assert wide.ratio[0] == pytest.approx(2.0, rel=1e-8)  # sd 4 where a Poisson of mean 4 has 2
    assert "information_matrix_test" in wide.remarks[0]
