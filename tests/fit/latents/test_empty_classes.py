"""Probabilities of classes and states that are 0 at the maximum, against models without them."""

from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest
from jax.scipy.stats import norm, poisson
from mpmath import mp, mpf

import mlejax as mle
from tests.fit.latents.test_class_search import quiet
from tests.latent import high_precision
from tests.latent.discrete.test_chains import QUAKES, model

COUNTS = {"y": np.repeat([0.0, 1.0, 2.0, 3.0, 4.0, 5.0], [4, 30, 50, 50, 25, 9])}  # fewer zeros than a Poisson law has


@mle.model(rate=mle.Positive(), z=mle.Discrete(2))
def with_zeros(params: Any, data: Any) -> Any:
    """A Poisson law, or 0."""
    impossible = jnp.where(data["y"] == 0, 0.0, -1e3)
    return jnp.where(params["z"] == 0, poisson.logpmf(data["y"], params["rate"]), impossible)


@pytest.fixture(scope="module")
def zeros() -> mle.Results:
    return with_zeros.fit(COUNTS)


def test_a_class_without_rows_is_on_the_edge_of_its_support(zeros: mle.Results) -> None:
    """The zero-inflated Poisson model where there are few zeros is the Poisson model: rate its mean, error sqrt(mean / n)."""
    y = COUNTS["y"]
    assert zeros.verdict.code == "boundary"
    assert "the class 1 of z is empty; z_probs[1] is at the bound 0 of its support" in zeros.verdict.statement
    assert zeros.verdict.advice == "The data show fewer classes than 2: fit 1."
    assert zeros.params["z_probs[1]"] == 0.0
    assert zeros.llf == pytest.approx(float(poisson.logpmf(y, y.mean()).sum()), rel=1e-6)
    assert zeros.params["rate"] == pytest.approx(y.mean(), rel=1e-9)
    assert zeros.bse["rate"] == pytest.approx(np.sqrt(y.mean() / len(y)), rel=1e-8)
    assert np.isnan(zeros.bse[["z_probs[0]", "z_probs[1]"]]).all()
    multiplier = next(m for name, _, m in zeros.verdict.evidence["edges"] if name == "z_probs[1]")
    assert multiplier == pytest.approx((y == 0).sum() * np.exp(y.mean()) - len(y), rel=1e-6)


def test_it_travels_and_counts_its_edge(zeros: mle.Results, tmp_path: Path) -> None:
    """AIC counts a parameter on its edge, as pscl does."""
    assert zeros.aic == pytest.approx(-2.0 * zeros.llf + 4.0)
    zeros.save(tmp_path / "zeros.json")
    again = mle.load(tmp_path / "zeros.json")
    np.testing.assert_allclose(again.bse, zeros.bse)
    assert again.verdict.code == "boundary"


def test_data_sets_of_a_batch_are_on_their_edges(zeros: mle.Results) -> None:
    """Beside one with zeros enough: there the share of zeros that a Poisson law does not have is the moment equation's."""
    y = COUNTS["y"]
    many = np.where(np.arange(len(y)) < 60, 0.0, y)
    batch = with_zeros.fit_batch({"y": np.stack([y, many])})
    assert batch.verdict.tolist() == ["boundary", "verified"]
    assert batch.params["z_probs[1]"].tolist()[0] == 0.0
    rate, share = batch.params["rate"], batch.params["z_probs[1]"]
    assert rate[0] == pytest.approx(y.mean(), rel=1e-9)
    assert batch.bse["rate"][0] == pytest.approx(np.sqrt(y.mean() / len(y)), rel=1e-8)
    assert rate[1] / (1.0 - np.exp(-rate[1])) == pytest.approx(many[many > 0].mean(), rel=1e-8)
    assert share[1] + (1.0 - share[1]) * np.exp(-rate[1]) == pytest.approx((many == 0).mean(), rel=1e-8)
    alone = batch[0]
    assert alone.verdict.statement == zeros.verdict.statement
    assert batch.llf[0] == pytest.approx(zeros.llf, rel=1e-12)
    table = batch.tidy().set_index(["group", "term"]).loc[0]
    wanted = zeros.tidy()[["term", *table.columns]]
    pd.testing.assert_frame_equal(table.reset_index(), wanted, check_dtype=False, check_names=False)
    assert batch.glance()["aic"][0] == pytest.approx(zeros.aic)
    robust = batch.with_cov("HC0")
    assert robust.bse["rate"][0] == pytest.approx(zeros.with_cov("HC0").bse["rate"], rel=1e-9)


@pytest.mark.slow
def test_the_first_state_of_one_series() -> None:
    """It is certain; log-likelihood, score and errors of all else against 50 digits, the first state known."""
    series = {"y": [1, 0, 7, 9, 1, 2, 8, 6, 0, 1, 1, 9], "t": range(12), "g": ["a"] * 12}
    res = model(2, "g", "t", "y", initial="free").fit(series)
    assert res.verdict.code == "boundary"
    assert "s_initial[1] is at the bound 0 of its support" in res.verdict.statement
    assert res.params["s_initial[0]"] == 1.0
    names = ["rate[0]", "rate[1]", "s_transition[0,0]", "s_transition[1,1]"]
    at = res.params[names].tolist()

    def loglik(t: Any) -> Any:
        density = lambda value, k: high_precision.poisson(value, t[k])
        step = [[t[2], 1 - t[2]], [1 - t[3], t[3]]]
        return mp.log(high_precision.chain([mpf(v) for v in series["y"]], [mpf(1), mpf(0)], step, density))

    assert res.llf == pytest.approx(float(loglik([mpf(x) for x in at])), rel=1e-12)
    errors = high_precision.errors(loglik, at)
    np.testing.assert_allclose(res.bse[names], errors, rtol=1e-7)
    assert np.abs(high_precision.score(loglik, at) * errors).max() < 1e-6


@pytest.mark.slow
def test_three_states_of_the_earthquakes() -> None:
    """From the third state no step leads to the first: Zucchini & MacDonald (2009), section 3, -llf 329.4603."""
    res = model(3).fit(QUAKES)
    assert res.llf == pytest.approx(-329.4603, abs=5e-5)
    assert res.verdict.code == "boundary"
    assert "s_transition[2,0] is at the bound 0 of its support" in res.verdict.statement
    assert np.isnan(res.bse["s_transition[2,0]"])
    assert res.bse["s_transition[2,1]"] == res.bse["s_transition[2,2]"] > 0.05
    kept = model(3).fit(QUAKES, penalty=lambda p: -0.1 * jnp.log(p["s_transition"]).sum())
    assert kept.verdict.code == "verified"
    assert np.isfinite(kept.bse).all()


@pytest.mark.slow
def test_a_rare_step_beside_one_that_never_happens() -> None:
    """States that the counts give away: transitions are shares of steps, with binomial errors; one is 1 in 300, one 0."""
    rng = np.random.default_rng(2)
    steps = np.array([[0.85, 0.144, 0.006], [0.2, 0.8, 0.0], [0.3, 0.2, 0.5]])
    states = [0]
    for _ in range(1500):
        states.append(rng.choice(3, p=steps[states[-1]]))
    s = np.array(states)
    y = rng.poisson(np.array([4.0, 80.0, 400.0])[s])
    series = {"y": y, "t": np.arange(len(s)), "g": ["a"] * len(s)}
    start = {"rate": [4.0, 80.0, 400.0]}
    res = model(3, "g", "t", "y", initial="free").fit(series, start=start)
    n = np.zeros((3, 3))
    np.add.at(n, (s[:-1], s[1:]), 1.0)
    p = n / n.sum(axis=1, keepdims=True)
    assert 0.0 < p[0, 2] < 0.01
    assert n[1, 2] == 0.0
    assert res.verdict.code == "boundary"
    errors = np.where(p == 0.0, np.nan, np.sqrt(p * (1.0 - p) / n.sum(axis=1, keepdims=True)))
    named = [f"s_transition[{i},{j}]" for i in range(3) for j in range(3)]
    np.testing.assert_allclose(res.params[named], p.ravel(), atol=1e-6)
    np.testing.assert_allclose(res.bse[named], errors.ravel(), rtol=1e-4)


@pytest.mark.slow
def test_classes_that_are_the_same_are_named() -> None:
    """Two clusters without tails, and three classes: the likelihood says two."""

    @mle.model(mu=mle.Real(shape=3), sigma=mle.Positive(), z=mle.Discrete(3))
    def three(params: Any, data: Any) -> Any:
        return norm.logpdf(data["y"], params["mu"][params["z"]], params["sigma"])

    rng = np.random.default_rng(1)
    y = np.where(rng.random(60) < 0.4, 0.0, 5.0) + rng.uniform(-1.0, 1.0, 60)
    res = quiet(three.fit, {"y": y})
    assert res.verdict.code == "not_identified"
    assert "the classes 1 and 2 of z are the same" in res.verdict.statement
    assert res.verdict.advice == "The data show fewer classes than 3: fit 2."
    assert res.verdict.evidence["classes"] == ((1, 2),)
    assert res.bse.isna().all()  # those of means depend on how the probability is shared out, which is arbitrary
