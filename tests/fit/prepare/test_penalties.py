"""Penalties: mgcv's ridge, closed forms in natural coordinates, what is refused, kinks, programs that are not recompiled."""

from __future__ import annotations

import functools
import json
import warnings
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest
from jax.scipy.stats import norm

import mlejax as mle
from mlejax.execution import Limits, use_limits
from tests.test_compilations import compilations

ROOT = Path(__file__).parents[3]
R = json.loads((ROOT / "tests" / "references" / "penalty.json").read_text())
STRENGTH = 7.0
COLUMNS = ["age", "lwt", "smoke", "ht", "ui"]


@mle.model(intercept=mle.Real(), beta=mle.Real(columns="X"))
def logit(params: Any, data: Any) -> Any:
    eta = params["intercept"] + data["X"] @ params["beta"]
    return data["low"] * eta - jnp.logaddexp(0.0, eta)


@mle.model(rate=mle.Positive())
def exponential(params: Any, data: Any) -> Any:
    return jnp.log(params["rate"]) - params["rate"] * data["t"]


@mle.model(beta=mle.Real(shape=3), sigma=mle.Positive())
def linear(params: Any, data: Any) -> Any:
    return norm.logpdf(data["y"], data["X"] @ params["beta"], params["sigma"])


def square(params: Any, hyper: Any) -> Any:
    return 0.5 * hyper * params["rate"] ** 2


def lasso(params: Any, hyper: Any) -> Any:
    return hyper * jnp.sum(jnp.abs(params["beta"]))


@functools.cache
def birthwt() -> dict[str, Any]:
    d = pd.read_csv(ROOT / "examples" / "data" / "birthwt.csv")
    X = d[COLUMNS].astype(float)
    return {"low": d["low"].to_numpy(), "X": (X - X.mean()) / X.std(), "g": np.arange(len(d)) % 9}


@functools.cache
def ridge() -> mle.Results:
    return logit.fit(birthwt(), penalty=mle.l2(STRENGTH, "beta"))


@functools.cache
def noise() -> dict[str, Any]:
    rng = np.random.default_rng(0)
    X = rng.normal(size=(50, 3))
    return {"X": X, "y": X @ [1.0, 0.1, -1.0] + rng.normal(size=50)}


def times() -> dict[str, Any]:
    return {"t": np.random.default_rng(5).exponential(2.0, 40)}


# ---- against mgcv


def test_ridge_against_mgcv() -> None:
    res = ridge()
    assert list(res.params.index) == list(R["params"])
    np.testing.assert_allclose(res.params, list(R["params"].values()), rtol=1e-8)
    np.testing.assert_allclose(res.bse, list(R["se_nonrobust"].values()), rtol=1e-7)
    np.testing.assert_allclose(res.with_cov("bayes").bse, list(R["se_bayes"].values()), rtol=1e-7)
    assert res.edf == pytest.approx(R["edf"], rel=1e-8)
    assert res.llf == pytest.approx(R["loglik"], rel=1e-10)
    assert res.llf_penalized == pytest.approx(R["loglik"] - R["penalty"], rel=1e-10)
    assert res.aic == pytest.approx(-2 * R["loglik"] + 2 * R["edf"], rel=1e-9)
    assert res.df_model == 6
    assert res.verdict.code == "verified"


def test_the_table_says_so() -> None:
    text = " ".join(str(ridge().summary()).split())
    for part in ("Penalised maximum likelihood", "Gray 1992", "Effective df", "l2('beta')", "Penalised log-lik", "AIC"):
        assert part in text, part
    assert "BIC" not in text
    assert "bayes (inverse penalised information)" in " ".join(str(ridge().with_cov("bayes").summary()).split())
    assert np.isnan(float(ridge().glance()["bic"].iloc[0] or np.nan))


# ---- closed forms


@pytest.mark.parametrize("hyper", [0.0, 3.0, 50.0])
def test_information_of_the_loglik_in_natural_coordinates(hyper: float) -> None:
    """l = n log r - r S, P = h r^2 / 2: I = n / r^2 and H_P = I + h, although the score of l is h r and not 0."""
    t = times()["t"]
    res = exponential.fit(times(), penalty=square, hyper=hyper)
    n, S = t.size, t.sum()
    rate = n / S if hyper == 0 else (-S + np.sqrt(S**2 + 4 * hyper * n)) / (2 * hyper)
    info, scores = n / rate**2, 1 / rate - t
    curvature = info + hyper
    assert res.params["rate"] == pytest.approx(rate, rel=1e-9)
    assert float(res.information.iloc[0, 0]) == pytest.approx(info, rel=1e-8)
    assert res.bse["rate"] == pytest.approx(np.sqrt(info) / curvature, rel=1e-8)
    assert res.with_cov("bayes").bse["rate"] == pytest.approx(curvature**-0.5, rel=1e-8)
    assert res.with_cov("HC0").bse["rate"] == pytest.approx(np.sqrt(scores @ scores) / curvature, rel=1e-7)
    pairs = scores.reshape(20, 2).sum(axis=1)
    clustered = res.with_cov("cluster", {"groups": np.arange(40) // 2, "correction": "none"})
    assert clustered.bse["rate"] == pytest.approx(np.sqrt(pairs @ pairs) / curvature, rel=1e-7)
    assert float(res.score_obs.sum().iloc[0]) == pytest.approx(hyper * rate, rel=1e-6, abs=1e-6)
    assert res.edf == pytest.approx(info / curvature, rel=1e-8)
    assert res.llf == pytest.approx(n * np.log(rate) - rate * S, rel=1e-10)
    assert res.llf_penalized == pytest.approx(res.llf - 0.5 * hyper * rate**2, rel=1e-10)


def test_weights_and_penalty() -> None:
    t = times()["t"]
    w = np.arange(40) % 3
    res = exponential.fit(times(), penalty=square, hyper=3.0, weights=w, weight_kind="frequency")
    want = exponential.fit({"t": np.repeat(t, w)}, penalty=square, hyper=3.0)
    assert res.params["rate"] == pytest.approx(want.params["rate"], rel=1e-9)
    assert res.bse["rate"] == pytest.approx(want.bse["rate"], rel=1e-9)
    # a penalty stands against the weights as they are given
    sampled = exponential.fit(times(), penalty=square, hyper=3.0, weights=2.0 * w, weight_kind="sampling")
    half = exponential.fit(times(), penalty=square, hyper=1.5, weights=w, weight_kind="sampling")
    assert sampled.params["rate"] == pytest.approx(half.params["rate"], rel=1e-9)
    assert sampled.bse["rate"] == pytest.approx(half.bse["rate"], rel=1e-9)
    with pytest.raises(ValueError, match="sampling weights"):
        sampled.with_cov("bayes")


def test_addresses_of_l2() -> None:
    space = linear.prepare(noise()).space
    params = {"beta": np.array([1.0, -2.0, 3.0]), "sigma": np.asarray(0.5)}
    squares = {(): 14.25, ("beta",): 14.0, ("beta[1]",): 4.0, ("beta[0]", "beta"): 14.0, ("sigma",): 0.25}
    for names, total in squares.items():
        assert float(mle.l2(4.0, *names).bind(space)(params)) == pytest.approx(2.0 * total, rel=1e-6)


@pytest.mark.slow
def test_ridge_in_closed_form() -> None:
    d, sigma = noise(), 1.3
    res = linear.fit(d, fixed={"sigma": sigma}, penalty=mle.l2(4.0, "beta[1]", "beta[2]"))
    D = np.diag([0.0, 4.0, 4.0])
    want = np.linalg.solve(d["X"].T @ d["X"] / sigma**2 + D, d["X"].T @ d["y"] / sigma**2)
    np.testing.assert_allclose(res.params[:3], want, rtol=1e-8)


@pytest.mark.slow
def test_a_penalty_gives_separated_data_a_maximum() -> None:
    x = np.arange(20.0)[:, None] - 9.5
    data = {"low": (x[:, 0] > 0).astype(float), "X": np.column_stack([x, np.sin(x), np.cos(x), x**2, np.tanh(x)])}
    with pytest.warns(mle.ConvergenceWarning, match="no_finite_maximum"):
        logit.fit(data)
    res = logit.fit(data, penalty=mle.l2(1.0))
    assert res.verdict.code == "verified"
    assert np.isfinite(res.bse).all()


# ---- kinks


def test_a_kink_refuses_standard_errors() -> None:
    with pytest.warns(mle.ConvergenceWarning, match=r"the penalty has a kink in beta\[1\]"):
        res = linear.fit(noise(), penalty=lasso, hyper=12.0)
    assert abs(res.params["beta[1]"]) < 1e-9
    assert res.bse.isna().all()
    assert "kink" in str(res.verdict)
    with pytest.raises(ValueError, match="AIC is not defined"):
        res.aic  # noqa: B018
    away = linear.fit(noise(), penalty=lasso, hyper=0.5)  # smooth where it ends
    assert away.converged
    assert away.bse.notna().all()


@pytest.mark.slow
def test_a_kink_is_seen_whatever_the_optimiser_says() -> None:
    """|b - c| where the data put b = c exactly: the score is 0 from symmetry, the curvature means nothing."""

    def tied(params: Any) -> Any:
        return jnp.abs(params["beta"][0] - params["beta"][1]) + 0.0 * params["sigma"]

    y = np.array([1.0, -1.0, 0.5, -0.5])
    data = {"y": np.concatenate([y, y, y]), "X": np.kron(np.eye(3), np.ones((4, 1)))}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", mle.ConvergenceWarning)
        res = linear.fit(data, penalty=tied, start={"beta": np.zeros(3), "sigma": 1.0})
    assert res.bse.isna().all()
    assert "not smooth" in " ".join(str(res.summary()).split()) or "kink" in str(res.verdict)


# ---- what is refused


def test_criteria_and_tests_that_need_a_maximum() -> None:
    res = ridge()
    with pytest.raises(ValueError, match="BIC is not defined for a penalised fit"):
        res.bic  # noqa: B018
    smaller = logit.fit(birthwt(), fixed={"beta[ui]": 0.0}, penalty=mle.l2(STRENGTH, "beta"))
    with pytest.raises(ValueError, match="is penalised"):
        res.lr_test(smaller)
    with pytest.raises(ValueError, match=r"opg.*penalty"):
        res.with_cov("opg")
    with pytest.raises(ValueError, match="AIC is not defined"):
        res.with_cov("HC0").aic  # noqa: B018
    assert "penalised" in str(mle.compare(res, smaller))


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"hyper": 1.0}, ValueError, "give penalty= too"),
        ({"penalty": 2.0}, TypeError, r"expected a function penalty\(params\)"),
        ({"penalty": square}, TypeError, "give hyper= as well"),
        ({"penalty": lambda p: p["rate"] ** 2, "hyper": 1.0}, TypeError, "which it does not take"),
        ({"penalty": square, "hyper": "strong"}, TypeError, "expected numbers"),
        ({"penalty": square, "hyper": np.nan}, ValueError, "finite numbers"),
        ({"penalty": lambda p: jnp.stack([p["rate"]])}, mle.LikelihoodError, r"shape \(1,\); sum over"),
        ({"penalty": lambda p: (p["rate"], 1.0)}, mle.LikelihoodError, "one number, got tuple"),
        ({"penalty": lambda p: np.log(np.asarray(p["rate"]))}, mle.LikelihoodError, "use jax.numpy"),
        ({"penalty": lambda p: 1.0 if p["rate"] > 1 else 2.0}, mle.LikelihoodError, r"jnp\.where"),
        ({"penalty": lambda p: p["rat"]}, KeyError, "rat"),
        ({"penalty": mle.l2(1.0, "rat")}, mle.AddressError, "did you mean rate"),
        ({"penalty": mle.l2(None)}, ValueError, "give it as hyper="),
        ({"cov_type": "bayes"}, ValueError, "no penalty"),
    ],
)
def test_penalties_that_make_no_sense(options: Any, error: Any, message: str) -> None:
    with pytest.raises(error, match=message):
        exponential.fit(times(), **options)


@pytest.mark.parametrize("strength", [-1.0, np.inf, "beta", [1.0, 2.0]])
def test_strengths_that_make_no_sense(strength: Any) -> None:
    with pytest.raises(ValueError, match="strength >= 0"):
        mle.l2(strength)


def test_a_penalty_that_is_not_finite_is_named() -> None:
    with pytest.warns(mle.ConvergenceWarning, match="the penalty, its gradient or its curvature is not finite"):
        res = exponential.fit(times(), penalty=lambda p: jnp.log(p["rate"] - 1e6))
    assert res.verdict.code == "not_computable"


# ---- programs


def test_another_strength_is_no_other_program() -> None:
    logit.fit(birthwt(), penalty=mle.l2(2.0, "beta"))
    with compilations() as n:
        a = logit.fit(birthwt(), penalty=mle.l2(9.0, "beta"))
        b = logit.fit(birthwt(), penalty=mle.l2(None, "beta"), hyper=9.0)
    assert n[0] == 0
    np.testing.assert_array_equal(a.params, b.params)


def test_a_penalised_fit_has_the_program_of_the_plain_one() -> None:
    """Of many rows the chunks are those of the plain fit, and the penalty is added once, not once a chunk."""
    t = np.random.default_rng(1).exponential(2.0, 5_000)
    exponential.fit({"t": t})
    with use_limits(Limits(chunk_rows=1_024)):
        plain = exponential.fit({"t": t})
        with compilations() as n:
            res = exponential.fit({"t": t}, penalty=square, hyper=300.0)
    assert n[0] <= 3, "the penalty with its derivatives, no log-likelihood"
    assert plain.params["rate"] == pytest.approx(1 / t.mean(), rel=1e-9)
    rate = (-t.sum() + np.sqrt(t.sum() ** 2 + 4 * 300 * t.size)) / 600
    assert res.params["rate"] == pytest.approx(rate, rel=1e-9)
    assert res.bse["rate"] == pytest.approx(np.sqrt(t.size / rate**2) / (t.size / rate**2 + 300), rel=1e-8)


def test_solve_varies_the_hyper_parameter() -> None:
    t = times()["t"]
    strengths = np.array([0.5, 3.0, 20.0])
    with jax.enable_x64(True):
        prepared = exponential.prepare(times())

        def one(h: Any) -> Any:
            found = mle.solve(exponential, prepared, {"rate": 1.0}, penalty=square, hyper=h)
            return found.params["rate"], found.llf

        rates, llf = jax.jit(jax.vmap(one))(strengths)
    want = (-t.sum() + np.sqrt(t.sum() ** 2 + 4 * strengths * t.size)) / (2 * strengths)
    np.testing.assert_allclose(rates, want, rtol=1e-8)
    np.testing.assert_allclose(llf, t.size * np.log(want) - want * t.sum(), rtol=1e-9)
    with jax.enable_x64(True), pytest.raises(TypeError, match="give hyper="):
        mle.solve(exponential, prepared, {"rate": 1.0}, penalty=square)


@pytest.mark.slow
@pytest.mark.parametrize("method", ["bhhh", "lbfgs", "adam"])
def test_every_optimiser_finds_the_penalised_maximum(method: str) -> None:
    res = logit.fit(birthwt(), penalty=mle.l2(STRENGTH, "beta"), method=method)
    np.testing.assert_allclose(res.params, ridge().params, rtol=1e-6)
    np.testing.assert_allclose(res.bse, ridge().bse, rtol=1e-6)
