"""Bias reduction against brglm2 and closed forms.

Jeffreys: `tests/references/jeffreys_*.json` (brglm2, type MPL_Jeffreys).  Closed forms: a Poisson log-rate has
exp(eta) = (sum y + 1/2) / n, a logit intercept has odds (y + 1/2) / (n - y + 1/2) (Firth 1993); the empirical adjustment of an
exponential rate solves n / a - sum t + mean t - a mean t^2 = 0, from l - tr(I^-1 E) / 2 with I = n / a^2.
"""

from __future__ import annotations

import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest
from jax.scipy.stats import norm, poisson

import mlejax as mle

ROOT = Path(__file__).parents[1]


@mle.model(intercept=mle.Real(), beta=mle.Real(columns="X"))
def logit(params, data):
    eta = params["intercept"] + data["X"] @ params["beta"]
    return jax.nn.log_sigmoid((2 * data["y"] - 1) * eta)


@mle.model(intercept=mle.Real(), beta=mle.Real(columns="X"))
def log_linear(params, data):
    return poisson.logpmf(data["y"], jnp.exp(params["intercept"] + data["X"] @ params["beta"]))


def reference(name: str) -> dict:
    return json.loads((ROOT / "references" / f"jeffreys_{name}.json").read_text())


def table(name: str) -> tuple[mle.Model, dict]:
    if name == "separated":
        d = pd.read_csv(ROOT / "cases" / "iris_separated" / "data.csv")
        return logit, {"y": d["versicolor"], "X": d[["petal_length"]]}
    if name == "logit":
        d = pd.read_csv(ROOT.parent / "examples" / "data" / "birthwt.csv")
        d["black"], d["other"] = d["race"] == "black", d["race"] == "other"
        return logit, {"y": d["low"], "X": d[["age", "lwt", "black", "other", "smoke", "ht", "ui"]].astype(float)}
    d = pd.read_csv(ROOT.parent / "examples" / "data" / "warpbreaks.csv")
    return log_linear, {"y": d["breaks"], "X": d[["wool_b", "tension_m", "tension_h"]]}


@pytest.mark.parametrize("name", ["separated", "logit", "poisson"])
def test_jeffreys_equals_brglm2(name: str) -> None:
    model, data = table(name)
    want = reference(name)
    res = model.fit(data, bias_reduction="jeffreys")
    assert res.verdict.code == "verified"
    assert list(res.params.index) == list(want["params"])
    np.testing.assert_allclose(res.params.to_numpy(), list(want["params"].values()), rtol=1e-8)
    np.testing.assert_allclose(res.bse.to_numpy(), list(want["se"].values()), rtol=1e-8)
    assert res.llf == pytest.approx(want["loglik"], rel=1e-9)
    sign, half = np.linalg.slogdet(res.information.to_numpy())
    assert sign == 1
    assert res.llf_penalized == pytest.approx(res.llf + half / 2, rel=1e-10)


def test_the_table_says_what_it_is_and_criteria_are_refused() -> None:
    model, data = table("separated")
    res = model.fit(data, bias_reduction="jeffreys")
    text = str(res.summary())
    assert "Bias-reduced maximum likelihood" in text
    assert "Jeffreys (Firth 1993), observed information" in text
    assert "AIC" not in text
    with pytest.raises(ValueError, match="bias-reduced"):
        _ = res.aic
    with pytest.raises(ValueError, match="bias-reduced"):
        _ = res.bic
    with pytest.warns(mle.ConvergenceWarning, match="bias_reduction='jeffreys'"):
        plain = model.fit(data)
    assert plain.verdict.code == "no_finite_maximum"


@mle.model(eta=mle.Real())
def rate(params, data):
    return poisson.logpmf(data["y"], jnp.exp(params["eta"]))


@pytest.mark.parametrize("y", [[0, 0, 0, 0], [3, 1, 0, 2]])
def test_jeffreys_closed_form_of_a_poisson_rate(y: list[int]) -> None:
    res = rate.fit({"y": y}, bias_reduction="jeffreys")
    assert np.exp(res.params["eta"]) == pytest.approx((sum(y) + 0.5) / len(y), rel=1e-10)
    assert res.bse["eta"] == pytest.approx((sum(y) + 0.5) ** -0.5, rel=1e-10)


def test_jeffreys_on_weighted_rows_equals_the_expanded_rows() -> None:
    data = {"y": [0.0, 1.0, 1.0], "X": np.array([[0.0], [0.0], [1.0]]), "w": [5, 3, 4]}
    weighted = logit.fit(data, weights="w", weight_kind="frequency", bias_reduction="jeffreys")
    # two saturated cells: odds (y + 1/2) / (n - y + 1/2) in each
    assert weighted.params["intercept"] == pytest.approx(np.log(3.5 / 5.5), rel=1e-9)
    assert weighted.params.iloc[1] == pytest.approx(np.log(4.5 / 0.5) - np.log(3.5 / 5.5), rel=1e-9)
    index = np.repeat(np.arange(3), data["w"])
    expanded = logit.fit({k: np.asarray(data[k])[index] for k in ("y", "X")}, bias_reduction="jeffreys")
    np.testing.assert_allclose(weighted.bse, expanded.bse, rtol=1e-9)


@mle.model(a=mle.Positive())
def exponential(params, data):
    return jnp.log(params["a"]) - params["a"] * data["t"]


def test_empirical_closed_form_of_an_exponential_rate() -> None:
    t = np.array([0.3, 1.1, 2.2, 0.7, 4.0, 0.1])
    c, b, a = t.size, -t.sum() + t.mean(), -np.mean(t**2)
    want = max(np.roots([a, b, c]).real)
    res = exponential.fit({"t": t}, bias_reduction="empirical")
    assert res.verdict.code == "verified"
    assert res.params["a"] == pytest.approx(want, rel=1e-10)
    assert res.bse["a"] == pytest.approx(want / np.sqrt(t.size), rel=1e-10)
    assert res.llf_penalized == pytest.approx(res.llf - np.mean((1 - want * t) ** 2) / 2, rel=1e-10)
    twice = exponential.fit(
        {"t": t, "w": np.full(6, 2)}, weights="w", weight_kind="frequency", bias_reduction="empirical"
    )
    expanded = exponential.fit({"t": np.tile(t, 2)}, bias_reduction="empirical")
    assert twice.params["a"] == pytest.approx(expanded.params["a"], rel=1e-10)


def test_jeffreys_in_natural_coordinates_of_a_positive_parameter() -> None:
    """l + log(n / a^2) / 2 = (n - 1) log a - a sum t: the rate (n - 1) / sum t, which is unbiased."""
    t = np.array([0.3, 1.1, 2.2, 0.7, 4.0, 0.1])
    res = exponential.fit({"t": t}, bias_reduction="jeffreys")
    assert res.params["a"] == pytest.approx((t.size - 1) / t.sum(), rel=1e-10)


def test_a_declared_expected_information_is_used() -> None:
    """Probit intercept: with the expected information p is found from the root of Firth's modified score, by bisection."""
    y = np.array([1.0, 1.0, 1.0, 0.0, 1.0, 1.0])

    @mle.model(a=mle.Real())
    def probit(params, data):
        return norm.logcdf((2 * data["y"] - 1) * params["a"])

    @probit.expected_information
    def _(params, data):
        p = norm.cdf(params["a"])
        return jnp.full((data["y"].shape[0], 1, 1), norm.pdf(params["a"]) ** 2 / (p * (1 - p)))

    from scipy.optimize import minimize_scalar
    from scipy.stats import norm as scipy_norm

    def minus(a: float) -> float:
        p, d = scipy_norm.cdf(a), scipy_norm.pdf(a)
        return -(y.sum() * np.log(p) + (y.size - y.sum()) * np.log(1 - p) + 0.5 * np.log(y.size * d**2 / (p * (1 - p))))

    want = minimize_scalar(minus, bracket=(0.0, 1.0), tol=1e-13).x
    res = probit.fit({"y": y}, bias_reduction="jeffreys")
    assert res.params["a"] == pytest.approx(want, rel=1e-6)
    assert "expected information" in str(res.summary())


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"bias_reduction": "firth"}, "expected one of 'jeffreys', 'empirical'"),
        ({"bias_reduction": True}, "expected one of"),
        ({"bias_reduction": "jeffreys", "penalty": mle.l2(1.0)}, "not both"),
        ({"bias_reduction": "empirical", "weights": [1.0, 2.0, 1.0], "weight_kind": "sampling"}, "sampling weights"),
    ],
)
def test_bad_options(options: dict, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        exponential.fit({"t": [1.0, 2.0, 3.0]}, **options)


def test_information_that_is_not_positive_definite_is_refused() -> None:
    x = np.array([0.0, 1.0, 2.0, 3.0])
    with pytest.warns(mle.ConvergenceWarning, match="not positive definite"):
        res = logit.fit({"X": np.column_stack([x, 2 * x]), "y": [0, 1, 0, 1]}, bias_reduction="jeffreys")
    assert res.verdict.code == "not_computable"
    assert res.bse.isna().all()
