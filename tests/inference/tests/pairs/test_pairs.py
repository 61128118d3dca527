"""Tests that compare two fits, or a fit with data drawn from it: closed forms, R, exact distributions."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest
from jax.scipy.special import gammaln
from jax.scipy.stats import norm

import mlejax as mle
from mlejax.inference.tests.pairs.chi_bar_square import ChiSquaredWeights, chi_bar_tail, chi_bar_weights
from mlejax.inference.tests.weighted_chi_squared import tail

ROOT = Path(__file__).parents[4]
R = json.loads((ROOT / "tests" / "references" / "vuong.json").read_text())


@mle.model(rate=mle.Positive())
def exponential(params: Any, data: Any) -> Any:
    return jnp.log(params["rate"]) - params["rate"] * data["t"]


@exponential.simulator
def _draw(key: Any, params: Any, data: Any) -> Any:
    return {"t": jax.random.exponential(key, (data.n_rows,)) / params["rate"]}


@mle.model(mu=mle.Positive())
def poisson(params: Any, data: Any) -> Any:
    return data["breaks"] * jnp.log(params["mu"]) - params["mu"] - gammaln(data["breaks"] + 1.0)


@mle.model(mu=mle.Positive(), share=mle.Interval(0, 1))
def inflated(params: Any, data: Any) -> Any:
    y, mu, share = data["breaks"], params["mu"], params["share"]
    some = jnp.log1p(-share) + y * jnp.log(mu) - mu - gammaln(y + 1.0)
    return jnp.where(y == 0, jnp.log(share + (1 - share) * jnp.exp(-mu)), some)


@mle.model(s=mle.Positive(), a=mle.NonNegative(), b=mle.NonNegative())
def variances(params: Any, data: Any) -> Any:
    return norm.logpdf(data["y"], 0.0, jnp.sqrt(params["s"] + params["a"] * data["u"] + params["b"] * data["v"]))


@mle.model(s=mle.Positive(), a=mle.NonNegative(), b=mle.NonNegative())
def deviations(params: Any, data: Any) -> Any:
    total = params["s"] + params["a"] ** 2 * data["u"] + params["b"] ** 2 * data["v"]
    return norm.logpdf(data["y"], 0.0, jnp.sqrt(total))


def noise() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(5)
    u, v = rng.exponential(size=(2, 250))
    v = 0.6 * u + 0.4 * v
    return {"u": u, "v": v, "y": rng.normal(size=250) * np.sqrt(1.0 + 0.2 * u + 0.1 * v)}


times = {"t": np.random.default_rng(3).exponential(size=40) * np.repeat([1.0, 1.5], 20), "g": np.repeat([0.0, 1.0], 20)}


def test_weights_of_three_edges() -> None:
    """The closed form of Silvapulle & Sen (2005, Constrained Statistical Inference, section 3.5)."""
    C = np.array([[1.0, 0.3, -0.2], [0.3, 1.0, 0.5], [-0.2, 0.5, 1.0]])
    partial = lambda i, j, k: (C[i, j] - C[i, k] * C[j, k]) / np.sqrt((1 - C[i, k] ** 2) * (1 - C[j, k] ** 2))
    three = (2 * np.pi - np.arccos([C[0, 1], C[0, 2], C[1, 2]]).sum()) / (4 * np.pi)
    two = (3 * np.pi - np.arccos([partial(0, 1, 2), partial(0, 2, 1), partial(1, 2, 0)]).sum()) / (4 * np.pi)
    found = chi_bar_weights(np.linalg.inv(C), np.ones(3, bool))
    np.testing.assert_allclose(found.values, [0.5 - two, 0.5 - three, two, three], atol=5e-3)
    assert found.simulated
    p, error = chi_bar_tail(4.0, found, 3)
    assert 0 < error < 1e-3
    assert p == pytest.approx(
        chi_bar_tail(4.0, ChiSquaredWeights(np.array([0.5 - two, 0.5 - three, two, three]), 0), 3)[0], abs=5 * error
    )


@pytest.mark.parametrize("model", [variances, deviations], ids=["variances", "standard deviations"])
def test_two_edges(model: mle.Model) -> None:
    """Efficient information at the restricted fit by hand: observed, or by products where the score vanishes."""
    data = noise()
    full, null = model.fit(data), model.fit(data, fixed={"a": 0.0, "b": 0.0})
    y, s = data["y"], float(null.params["s"])
    z = np.column_stack([np.ones(250), data["u"], data["v"]])
    if model is variances:
        information = z.T @ ((y**2 / s**3 - 0.5 / s**2)[:, None] * z)
    else:
        scores = 0.5 * (y**2 / s**2 - 1 / s)[:, None] * z
        information = scores.T @ scores
    V = np.linalg.inv(information)[1:, 1:]
    none = np.arccos(V[0, 1] / np.sqrt(V[0, 0] * V[1, 1])) / (2 * np.pi)
    test = full.lr_test(null, 2)
    np.testing.assert_allclose(test.weights, [none, 0.5, 0.5 - none], rtol=1e-6)
    from scipy.stats import chi2

    p = (0.5 * chi2.sf(test.statistic, 1)) + (0.5 - none) * chi2.sf(test.statistic, 2)
    assert test.pvalue == pytest.approx(p, rel=1e-6)
    assert "2 restrictions are at bounds" in test.summary()
    with pytest.raises(ValueError, match="has a, b at a bound of the support, where the ratio is not chi-squared: boundary=2"):
        full.lr_test(null)
    with pytest.raises(ValueError, match="all of them tested, got: none"):
        full.lr_test(model.fit(data, fixed={"a": 0.1, "b": 0.1}), 2)


def test_a_standard_deviation_of_zero_has_a_score_test() -> None:
    """In its square, by products of scores; the other one is not in the model."""
    data = noise()
    null = deviations.fit(data, fixed={"a": 0.0, "b": 0.0})
    y, s = data["y"], float(null.params["s"])
    z = np.column_stack([np.ones(250), data["u"]])
    scores = 0.5 * (y**2 / s**2 - 1 / s)[:, None] * z
    total = scores.sum(axis=0)
    expected = total @ np.linalg.solve(scores.T @ scores, total)
    found = null.score_test("a")
    assert found.statistic == pytest.approx(expected, rel=1e-6)
    assert found.one_sided
    assert found.restrictions == ("a^2 = 0",)


def test_a_bootstrap_has_the_exact_distribution() -> None:
    """Two groups of exponential times: the ratio depends on a gamma ratio alone, drawn here by NumPy."""
    full = exponential.regress(rate="g").fit(times)
    null = exponential.regress(rate="1").fit(times)
    test = full.lr_test(null, bootstrap=399, seed=1)
    rng = np.random.default_rng(0)
    share = rng.beta(20, 20, 400_000)
    ratios = -2 * 20 * np.log(4 * share * (1 - share))
    exact = (ratios >= test.statistic).mean()
    assert test.failed == 0
    assert abs(test.pvalue - exact) < 4 * np.sqrt(exact * (1 - exact) / 400)
    assert np.quantile(test.replicates, 0.9) == pytest.approx(np.quantile(ratios, 0.9), rel=0.25)
    assert test.pvalue == (1 + (test.replicates >= test.statistic).sum()) / 400
    assert "drawn from exponential(rate ~ 1)" in test.summary()
    assert test.frame()["distribution"].item() == "LR"


def test_information_matrix() -> None:
    """n R^2 by least squares; the distribution does not depend on the rate, and is drawn by NumPy."""

    def statistic(t: np.ndarray) -> np.ndarray:
        s = 1 - t / t.mean(axis=-1, keepdims=True)
        Z = np.stack([s, s**2 - 1], axis=-1)
        total = Z.sum(axis=-2)
        return (total * np.linalg.solve(np.swapaxes(Z, -1, -2) @ Z, total[..., None])[..., 0]).sum(axis=-1)

    res = exponential.fit(times)
    found = res.information_matrix_test(bootstrap=199, seed=2)
    assert found.statistic == pytest.approx(float(statistic(times["t"])), rel=1e-8)
    assert found.df == 1
    drawn = statistic(np.random.default_rng(0).exponential(size=(50_000, 40)))
    exact = (drawn >= found.statistic).mean()
    assert abs(found.pvalue - exact) < 4 * np.sqrt(exact * (1 - exact) / 200)
    assert np.median(found.replicates) == pytest.approx(np.median(drawn), rel=0.25)
    assert "rejects true models" in res.information_matrix_test(bootstrap=None).note


def test_tail_of_weighted_sums() -> None:
    """Pairs of equal weights are exponential variables, whose sum has a closed form; signs are allowed."""
    a, b, q = 1.3, 0.4, 5.0
    expected = (a * np.exp(-q / (2 * a)) - b * np.exp(-q / (2 * b))) / (a - b)
    assert tail(q, np.array([a, a, b, b])) == pytest.approx(expected, abs=1e-9)
    assert tail(q, np.array([a, a, -b, -b])) == pytest.approx(a / (a + b) * np.exp(-q / (2 * a)), abs=1e-9)
    z = np.random.default_rng(0).standard_normal((400_000, 3)) ** 2 @ np.array([1.0, 0.5, -0.2])
    assert tail(2.0, np.array([1.0, 0.5, -0.2])) == pytest.approx((z > 2).mean(), abs=4e-3)


@pytest.fixture(scope="module")
def breaks() -> pd.DataFrame:
    frame = pd.read_csv(ROOT / "examples" / "data" / "warpbreaks.csv").astype(float)
    return frame.assign(trend=np.sqrt(np.arange(len(frame))))


def test_vuong_against_r(breaks: pd.DataFrame) -> None:
    one = poisson.regress(mu="wool_b").fit(breaks)
    other = poisson.regress(mu="tension_m + tension_h").fit(breaks)
    found, r = one.vuong_test(other), R["vuong"]
    assert found.statistic_variance == pytest.approx(r["statistic"], rel=1e-7)
    assert found.statistic == pytest.approx(r["z"], rel=1e-7)
    assert found.llr == pytest.approx(r["llr"], rel=1e-9)
    assert found.p_variance == pytest.approx(tail(r["statistic"], np.array(list(R["weights"].values())) ** 2), rel=1e-4)
    for name in ("aic", "bic"):
        assert one.vuong_test(other, name).statistic == pytest.approx(r[name], rel=1e-7)
    assert "poisson(mu ~ wool_b)" in str(found)
    assert other.vuong_test(one).statistic == pytest.approx(-r["z"], rel=1e-7)


def test_vuong_of_nested_models(breaks: pd.DataFrame) -> None:
    """The ratio is tested, with the robust weight: A^-1 B of the added coefficient, given the other."""
    zeros = breaks.assign(breaks=np.where(breaks["breaks"] < 15, 0.0, breaks["breaks"]))
    small, large = poisson.regress(mu="1").fit(breaks), poisson.regress(mu="wool_b").fit(breaks)
    found = large.vuong_test(small)
    assert found.nested
    assert found.statistic == pytest.approx(2 * (large.llf - small.llf), rel=1e-9)
    assert found.pvalue > 10 * large.lr_test(small).pvalue  # overdispersed: the variance is four times the mean
    with pytest.raises(ValueError, match=r"with share at a bound .* lr_test"):
        inflated.fit(zeros).vuong_test(poisson.fit(zeros))
    with pytest.raises(ValueError, match="different data"):
        small.vuong_test(poisson.fit(breaks.assign(breaks=breaks["breaks"] + 1)))


def test_hausman_by_stacked_scores(breaks: pd.DataFrame) -> None:
    """A coefficient with and without a covariate: the influence functions of both Poisson regressions by hand."""
    small = poisson.regress(mu="wool_b").fit(breaks)
    large = poisson.regress(mu="wool_b + trend").fit(breaks)
    moved, gap = [], []
    for res, names in ((small, ["wool_b"]), (large, ["wool_b", "trend"])):
        X = np.column_stack([np.ones(len(breaks)), *(breaks[n] for n in names)])
        mu = np.exp(X @ res.params.to_numpy())
        influence = np.linalg.solve(X.T @ (mu[:, None] * X), (X * (breaks["breaks"].to_numpy() - mu)[:, None]).T).T
        moved.append(influence[:, 1])
        gap.append(res.params.iloc[1])
    expected = (gap[0] - gap[1]) ** 2 / ((moved[0] - moved[1]) ** 2).sum()
    found = small.hausman_test(large, "mu[wool_b]")
    assert found.statistic == pytest.approx(expected, rel=1e-7)
    clusters = np.arange(len(breaks)) % 9
    by_cluster = np.bincount(clusters, moved[0] - moved[1])
    expected = (gap[0] - gap[1]) ** 2 / (by_cluster**2).sum()
    assert small.hausman_test(large, "mu[wool_b]", groups=clusters).statistic == pytest.approx(expected, rel=1e-7)
    assert small.hausman_test(large).df == 2
    with pytest.raises(ValueError, match="expected entries that both fits estimate"):
        large.hausman_test(small, "mu[trend]")
    shrunk = poisson.regress(mu="wool_b").fit(breaks, penalty=mle.l2(1.0, "mu"))
    reduced = poisson.regress(mu="wool_b").fit(breaks, bias_reduction="jeffreys")
    for other, what in ((shrunk, "penalised"), (reduced, "bias-reduced")):
        for test in (large.hausman_test, large.vuong_test):
            with pytest.raises(ValueError, match=rf"the fit of \w+ is {what} \(its verdict"):
                test(other)


def test_bootstrap_against_a_model_without_free_parameters() -> None:
    """n rate mean is Gamma(n, 1), so that the law of LR = 2 (n log(n / S) - n + S) is known."""
    from scipy import optimize, stats

    t = np.random.default_rng(8).exponential(size=10)
    test = exponential.fit({"t": t}).lr_test(exponential.fit({"t": t}, fixed={"rate": 1.0}), bootstrap=999, seed=3)
    law, n = stats.gamma(t.size), t.size
    ratio = lambda s: 2 * (n * np.log(n / s) - n + s)
    assert test.statistic == pytest.approx(ratio(t.sum()), rel=1e-6)
    low, high = optimize.brentq(lambda s: ratio(s) - 4.0, 1e-3, n), optimize.brentq(lambda s: ratio(s) - 4.0, n, 99.0)
    exact = law.cdf(low) + law.sf(high)
    assert np.mean(test.replicates >= 4.0) == pytest.approx(exact, abs=3.5 * np.sqrt(exact * (1 - exact) / 999))
