"""Weights: the expanded data, R's numbers, invariance to scale, zero weights, counts and refusals."""

from __future__ import annotations

import functools
import json
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest
from jax.scipy.stats import poisson

import mlejax as mle
from tests.cases import Case, supports
from tests.zoo import FAMILY, REGRESSION

ROOT = Path(__file__).parents[2]
R = json.loads((ROOT / "tests" / "references" / "weights.json").read_text())
SEED = 13


@mle.model(beta=mle.Real(columns="X"))
def logit(params: Any, data: Any) -> Any:
    eta = data["X"] @ params["beta"]
    return data["low"] * eta - jnp.logaddexp(0.0, eta)


@mle.model(beta=mle.Real(columns="X"))
def counts(params: Any, data: Any) -> Any:
    return poisson.logpmf(data["breaks"], data["exposure"] * jnp.exp(data["X"] @ params["beta"]))


@mle.model(beta=mle.Real(columns="X"), sigma=mle.Positive())
def normal_regression(params: Any, data: Any) -> Any:
    return jax.scipy.stats.norm.logpdf(data["y"], data["X"] @ params["beta"], params["sigma"])


@functools.cache
def warpbreaks() -> dict[str, Any]:
    d = pd.read_csv(ROOT / "examples" / "data" / "warpbreaks.csv")
    i = np.arange(len(d))
    X = np.column_stack([np.ones(len(d)), d[["wool_b", "tension_m", "tension_h"]]])
    return {"breaks": d["breaks"].to_numpy(), "X": X, "exposure": 1.0 + i % 5, "w": i % 4, "g": i % 6}


@functools.cache
def birthwt() -> dict[str, Any]:
    d = pd.read_csv(ROOT / "examples" / "data" / "birthwt.csv")
    i = np.arange(len(d))
    X = np.column_stack([np.ones(len(d)), d[["age", "lwt", "smoke", "ht"]]])
    pw = np.where(i % 11 == 5, 0.0, 0.25 + (i % 7) / 3)
    return {"low": d["low"].to_numpy(), "X": X, "pw": pw, "g": i % 13, "i": i}


@functools.cache
def frequency() -> mle.Results:
    return counts.fit(warpbreaks(), weights="w", weight_kind="frequency")


@functools.cache
def sampling() -> mle.Results:
    return logit.fit(birthwt(), weights="pw", weight_kind="sampling")


def take(data: dict[str, Any], rows: Any) -> dict[str, Any]:
    return {name: np.asarray(column)[rows] for name, column in data.items()}


@functools.cache
def expanded() -> mle.Results:
    data = warpbreaks()
    return counts.fit(take(data, np.repeat(np.arange(54), data["w"])))


# ---- frequency weights


def test_frequency_weights_against_glm() -> None:
    want, res = R["frequency"], frequency()
    np.testing.assert_allclose(res.params, list(want["params"].values()), rtol=1e-9)
    np.testing.assert_allclose(res.bse, list(want["se"].values()), rtol=1e-8)
    np.testing.assert_allclose(res.with_cov("HC0").bse, list(want["se_hc0"].values()), rtol=1e-8)
    np.testing.assert_allclose(res.with_cov("HC1").bse, list(want["se_hc1"].values()), rtol=1e-8)
    assert res.llf == pytest.approx(want["loglik"], rel=1e-11)
    assert res.nobs == res.n_units == want["nobs"]


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("nonrobust", None),
        ("opg", None),
        ("HC0", None),
        ("HC1", None),
        ("cluster", {"groups": "g", "correction": "none"}),
        ("cluster", {"groups": "g"}),
        ("cluster", {"groups": "g", "correction": "full"}),
    ],
)
def test_frequency_weights_are_expanded_rows(kind: str, options: Any) -> None:
    one, other = frequency().with_cov(kind, options), expanded().with_cov(kind, options)
    np.testing.assert_allclose(one.params, other.params, rtol=1e-10)
    np.testing.assert_allclose(one.cov_params(), other.cov_params(), rtol=1e-9)
    assert one.cov_type == kind


def test_frequency_weights_count_as_expanded_rows() -> None:
    one, other = frequency(), expanded()
    for name in ("llf", "aic", "bic", "nobs", "n_units", "df_model", "df_resid"):
        assert getattr(one, name) == pytest.approx(getattr(other, name), rel=1e-12), name
    assert "frequency (w), sum 79, 14 of weight 0" in " ".join(str(one.summary()).split())
    assert "Weights" not in str(other.summary())


def test_units_weigh_as_wholes() -> None:
    data = FAMILY.make(SEED)
    unit = FAMILY.plain.likelihood.unit
    label = np.asarray(data[unit])
    codes = np.unique(label, return_inverse=True)[1]
    w = (codes % 3).astype(float)
    res = FAMILY.plain.fit({**data, "w": w}, start=FAMILY.start, weights="w", weight_kind="frequency")
    rows = [np.flatnonzero(codes == c) for c in range(codes.max() + 1) for _ in range(c % 3)]
    again = take(data, np.concatenate(rows))
    again[unit] = np.repeat(np.arange(len(rows)), [len(r) for r in rows])
    want = FAMILY.plain.fit(again, start=FAMILY.start)
    for kind in ("nonrobust", "HC1"):
        np.testing.assert_allclose(res.with_cov(kind).bse, want.with_cov(kind).bse, rtol=1e-8)
    np.testing.assert_allclose(res.params, want.params, rtol=1e-9)
    assert (res.nobs, res.n_units) == (want.nobs, want.n_units)
    assert res.llf == pytest.approx(want.llf, rel=1e-12)
    w[0] += 1
    with pytest.raises(mle.DataError, match="one value per unit"):
        FAMILY.plain.fit(data, start=FAMILY.start, weights=w, weight_kind="frequency")


# ---- sampling weights


def test_sampling_weights_against_survey_and_sandwich() -> None:
    want, res = R["sampling"], sampling()
    assert res.cov_type == "HC0"
    np.testing.assert_allclose(res.params, list(want["params"].values()), rtol=1e-8)
    np.testing.assert_allclose(res.bse, list(want["se_hc0"].values()), rtol=1e-7)
    assert res.llf == pytest.approx(want["loglik"], rel=1e-10)
    assert res.nobs == want["nobs"]
    # svyglm's factor n/(n-1): of rows, or of clusters, those of positive weight
    rows = res.with_cov("cluster", {"groups": birthwt()["i"]})
    np.testing.assert_allclose(rows.bse, list(want["se_svyglm"].values()), rtol=1e-7)
    clusters = res.with_cov("cluster", {"groups": "g"})
    np.testing.assert_allclose(clusters.bse, list(want["se_svyglm_clusters"].values()), rtol=1e-7)


@pytest.mark.parametrize("scale", [1e-9, 7.0, 1e9])
def test_scale_of_sampling_weights_changes_nothing(scale: float) -> None:
    data, one = birthwt(), sampling()
    res = logit.fit({**data, "pw": scale * data["pw"]}, weights="pw", weight_kind="sampling", cov_type="HC1")
    np.testing.assert_allclose(res.params, one.params, rtol=1e-10)
    np.testing.assert_allclose(res.bse, one.with_cov("HC1").bse, rtol=1e-10)
    assert res.verdict.code == "verified"
    assert res.llf == pytest.approx(scale * one.llf, rel=1e-12), "of the weights as given"
    np.testing.assert_allclose(res.information, scale * one.information, rtol=1e-9)


def test_sampling_weights_make_a_pseudolikelihood() -> None:
    res = sampling()
    text = " ".join(str(res.summary()).split())
    assert "Log-pseudolikelihood" in text
    assert "AIC" not in text
    assert "sampling (pw)" in text
    for name in ("aic", "bic"):
        with pytest.raises(ValueError, match=r"sampling weights.*pseudolikelihood"):
            getattr(res, name)
    smaller = logit.fit(birthwt(), fixed={"beta[1]": 0.0}, weights="pw", weight_kind="sampling")
    with pytest.raises(ValueError, match="pseudolikelihood"):
        res.lr_test(smaller)
    for kind in ("nonrobust", "opg"):
        with pytest.raises(ValueError, match=f"cov_type='{kind}'.*sampling weights"):
            res.with_cov(kind)
    assert res.with_cov().cov_type == "HC0"


@pytest.mark.slow
def test_several_starts_report_the_weights_as_given() -> None:
    data = birthwt()
    res = logit.fit(data, weights="pw", weight_kind="sampling", n_starts=4)
    assert res.llf == pytest.approx(sampling().llf, rel=1e-10)
    assert res.modes["llf"].iloc[0] == pytest.approx(res.llf, rel=1e-10)


@pytest.mark.slow
def test_intervals_cover_under_informative_sampling() -> None:
    """Rows kept with a probability that rises with y: unweighted fits are off, weighted intervals cover in 95 of 100."""
    rng = np.random.default_rng(11)
    covered, off, n_draws = 0, 0, 400
    for _ in range(n_draws):
        x = rng.normal(size=3000)
        y = 1.0 + 0.5 * x + rng.normal(size=3000)
        p = 0.05 + 0.9 / (1 + np.exp(-(y - 1)))
        kept = np.flatnonzero(rng.random(3000) < p)[:400]
        data = {"y": y[kept], "X": np.column_stack([np.ones(400), x[kept]]), "w": 1 / p[kept]}
        start = {"beta": np.zeros(2), "sigma": 1.0}
        res = normal_regression.fit(data, start=start, weights="w", weight_kind="sampling")
        low, high = res.conf_int().loc["beta[1]"]
        covered += low < 0.5 < high
        off += abs(normal_regression.fit(data, start=start).params["beta[0]"] - 1.0) > 0.15
    assert abs(covered / n_draws - 0.95) < 0.035
    assert off > 0.9 * n_draws


# ---- regressed parameters


def test_weights_of_regressed_parameters() -> None:
    """By formula, with gaps in weights, groups and covariates, two-way clusters: the expanded complete rows."""

    @mle.model(mu=mle.Real(), sigma=mle.Positive())
    def gaussian(params: Any, data: Any) -> Any:
        return jax.scipy.stats.norm.logpdf(data["y"], params["mu"], params["sigma"])

    rng = np.random.default_rng(0)
    df = pd.DataFrame({"x": rng.normal(size=90), "r": rng.choice(["a", "b"], 90), "w": rng.integers(0, 4, 90) * 1.0})
    df["y"] = 1 + df["x"] + rng.normal(size=90)
    df["firm"], df["year"] = np.arange(90) % 14 * 1.0, np.arange(90) % 9
    df.loc[3, "w"] = df.loc[5, "firm"] = df.loc[7, "x"] = np.nan
    reg = gaussian.regress(mu="x + C(r)")
    groups = {"groups": ("firm", "year"), "correction": "full"}
    res = reg.fit(df, weights="w", weight_kind="frequency", missing="drop", cov_type="cluster", cov_kwds=groups)
    complete = df.dropna()
    rows = complete.loc[np.repeat(complete.index, complete["w"].astype(int))].reset_index(drop=True)
    want = reg.fit(rows, cov_type="cluster", cov_kwds=groups)
    np.testing.assert_allclose(res.params, want.params, rtol=1e-10)
    np.testing.assert_allclose(res.cov_params(), want.cov_params(), rtol=1e-8, atol=1e-12)
    assert (res.nobs, res.n_dropped) == (want.nobs, 3)


# ---- importance weights


def test_importance_weights_multiply_contributions() -> None:
    """Fractions are welcome, and every kind follows from w l: information and scores are those of w l."""
    data = birthwt()
    w = data["pw"]
    res = logit.fit(data, weights=w, weight_kind="importance")
    np.testing.assert_allclose(res.params, sampling().params, rtol=1e-9)
    p = 1 / (1 + np.exp(-data["X"] @ res.params.to_numpy()))
    information = (data["X"] * (w * p * (1 - p))[:, None]).T @ data["X"]
    scores = data["X"] * (w * (data["low"] - p))[:, None]
    bread = np.linalg.inv(information)
    np.testing.assert_allclose(res.bse, np.sqrt(np.diag(bread)), rtol=1e-8)
    np.testing.assert_allclose(res.score_obs, scores, atol=1e-8)
    np.testing.assert_allclose(res.score_obs.sum(), 0.0, atol=1e-6)
    np.testing.assert_allclose(res.with_cov("HC0").cov_params(), bread @ scores.T @ scores @ bread, rtol=1e-7)
    unweighted = data["X"] * (data["low"] - p)[:, None]  # their products stand for the information: w and not w^2
    np.testing.assert_allclose(res.with_cov("opg").cov_params(), np.linalg.inv(unweighted.T @ scores), rtol=1e-7)
    assert np.isfinite(res.aic)


# ---- rows of weight 0


def test_rows_of_weight_zero_are_as_if_they_were_not_there() -> None:
    """The GEV's largest value sets its support; far out, the log-likelihood is -inf with it and NaN with 0 times it."""
    case = Case("portpirie_gev")
    model = mle.model(params=supports(case))(case.loglik)
    y = np.asarray(case.data["sea_level"])
    out = int(np.argmax(y))
    without = model.fit({"sea_level": np.delete(y, out)}, start=case.init)
    w = np.ones(y.size)
    w[out] = 0.0
    for far in (y[out], 1e6):
        data = {"sea_level": np.where(np.arange(y.size) == out, far, y)}
        for kind in ("frequency", "importance"):
            res = model.fit(data, start=case.init, weights=w, weight_kind=kind)
            np.testing.assert_allclose(res.params, without.params, rtol=1e-8)
            np.testing.assert_allclose(res.bse, without.bse, rtol=1e-7)
            assert res.llf == pytest.approx(without.llf, rel=1e-12)
            assert res.nobs == y.size - 1
            assert (res.score_obs.iloc[out] == 0).all()
            np.testing.assert_allclose(res.with_cov("HC1").bse, without.with_cov("HC1").bse, rtol=1e-7)
    sampled = model.fit(data, start=case.init, weights=w, weight_kind="sampling", cov_type="HC1")
    np.testing.assert_allclose(sampled.bse, without.with_cov("HC1").bse, rtol=1e-7)
    assert np.abs(without.params - model.fit(case.data, start=case.init).params).max() > 1e-3, "or it would not matter"


def test_zero_weights_do_not_move_the_search_for_a_start() -> None:
    data = warpbreaks()
    wild = {**data, "breaks": np.where(data["w"] == 0, 10**9, data["breaks"])}
    res = counts.fit(wild, weights="w", weight_kind="frequency")
    np.testing.assert_allclose(res.params, frequency().params, rtol=1e-9)


# ---- whole models


@functools.cache
def walk() -> Any:
    @mle.model(phi=mle.Interval(-1, 1), sigma=mle.Positive(), rowwise=False)
    def ar1(params: Any, data: Any) -> Any:
        y = data["y"]
        return jax.scipy.stats.norm.logpdf(y[1:], params["phi"] * y[:-1], params["sigma"])

    return ar1


def test_whole_models_weigh_what_they_return() -> None:
    y = np.cumsum(np.random.default_rng(3).normal(size=41)) * 0.3
    w = (np.arange(40) % 4).astype(float)
    res = walk().fit({"y": y}, weights=w, weight_kind="frequency")
    x, z = np.repeat(y[:-1], w.astype(int)), np.repeat(y[1:], w.astype(int))
    phi = x @ z / (x @ x)
    sigma = np.sqrt(np.mean((z - phi * x) ** 2))
    np.testing.assert_allclose(res.params, [phi, sigma], rtol=1e-8)
    np.testing.assert_allclose(res.bse, [sigma / np.sqrt(x @ x), sigma / np.sqrt(2 * x.size)], rtol=1e-6)
    assert res.nobs == x.size
    with pytest.raises(mle.DataError, match="each of the 40 values"):
        walk().fit({"y": y}, weights=np.ones(41), weight_kind="frequency")


def test_a_scalar_cannot_be_weighted() -> None:
    @mle.model(mu=mle.Real(), rowwise=False)
    def joint(params: Any, data: Any) -> Any:
        return -jnp.sum((data["y"] - params["mu"]) ** 2)

    with pytest.raises(ValueError, match="returns one number"):
        joint.fit({"y": np.arange(3.0)}, weights=[1.0], weight_kind="importance")


# ---- missing values, other data


def test_missing_weights_are_dropped_or_refused() -> None:
    data = REGRESSION.make(SEED)
    w = 1.0 + np.arange(61) % 3
    gaps = w.copy()
    gaps[[4, 50]] = np.nan
    y = data["y"].copy()
    y[7] = np.nan
    holes = {**data, "y": y, "w": gaps}
    with pytest.raises(mle.DataError, match=r"'w'.*missing"):
        REGRESSION.plain.fit({**data, "w": gaps}, start=REGRESSION.start, weights="w", weight_kind="frequency")
    kept = np.delete(np.arange(61), [4, 7, 50])
    want = REGRESSION.plain.fit(take(data, kept), start=REGRESSION.start, weights=w[kept], weight_kind="frequency")
    for given in ("w", gaps, pd.Series(gaps), list(gaps)):
        res = REGRESSION.plain.fit(
            holes, start=REGRESSION.start, weights=given, weight_kind="frequency", missing="drop"
        )
        assert (res.n_dropped, res.nobs) == (3, w[kept].sum())
        np.testing.assert_allclose(res.params, want.params, rtol=1e-10)
        np.testing.assert_allclose(res.bse, want.bse, rtol=1e-10)


def test_lr_test_compares_the_weights() -> None:
    data = REGRESSION.make(SEED)
    w = 1.0 + np.arange(61) % 2

    def fit(fixed: Any = None, **kwargs: Any) -> mle.Results:
        return REGRESSION.plain.fit(data, start=REGRESSION.start, fixed=fixed, **kwargs)

    full, plain = fit(weights=w, weight_kind="importance"), fit()
    held = {"beta[1]": 0.0}
    assert full.lr_test(fit(held, weights=w, weight_kind="importance")).df == 1
    for other in (fit(held), fit(held, weights=w[::-1] + 1, weight_kind="importance")):
        with pytest.raises(ValueError, match=r"different data: .*weight"):
            full.lr_test(other)
    with pytest.raises(ValueError, match="different data: only one of them is weighted"):
        plain.lr_test(fit(held, weights=w, weight_kind="importance"))


# ---- refusals


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"weights": "w"}, ValueError, "needs weight_kind"),
        ({"weight_kind": "sampling"}, ValueError, "without weights"),
        ({"weights": "w", "weight_kind": "analytic"}, ValueError, "not supported.*sigma / jnp.sqrt"),
        ({"weights": "w", "weight_kind": "pweight"}, ValueError, "did you mean 'sampling'"),
        ({"weights": "v", "weight_kind": "sampling"}, KeyError, "no column 'v'"),
        ({"weights": np.ones(53), "weight_kind": "sampling"}, mle.DataError, "different length"),
        ({"weights": np.ones((54, 2)), "weight_kind": "sampling"}, mle.DataError, "one number for each row"),
        ({"weights": np.zeros(54), "weight_kind": "sampling"}, mle.DataError, "all 54 are zero"),
        ({"weights": -np.ones(54), "weight_kind": "sampling"}, mle.DataError, "negative"),
        ({"weights": np.full(54, np.inf), "weight_kind": "sampling"}, mle.DataError, "infinite"),
        ({"weights": np.full(54, 0.5), "weight_kind": "frequency"}, mle.DataError, "whole numbers"),
        ({"weights": ["a"] * 54, "weight_kind": "sampling"}, TypeError, "weights"),
        ({"weights": "w", "weight_kind": "sampling", "cov_type": "nonrobust"}, ValueError, "sampling weights"),
    ],
)
def test_weights_that_make_no_sense(options: Any, error: Any, message: str) -> None:
    with pytest.raises(error, match=message):
        counts.fit(warpbreaks(), **options)


# ---- the pure core


def test_solve_takes_one_weight_per_contribution() -> None:
    data = warpbreaks()
    prepared = counts.prepare(data)
    start = {"beta": np.zeros(4)}
    padded = prepared.data.weights.shape[0]
    assert padded > 54

    @jax.jit
    def solve(problem: Any, w: Any) -> Any:
        return mle.solve(counts, problem, start, weights=w)

    w = data["w"].astype(float)
    with jax.enable_x64(True):
        for given in (w, np.concatenate([w, np.zeros(padded - 54)]), np.concatenate([w, np.ones(padded - 54)])):
            found = solve(prepared, given)
            np.testing.assert_allclose(found.params["beta"], frequency().params, rtol=1e-8)
        short = solve(prepared, np.ones(53))
        assert not bool(short.converged), "n is traced: the shape alone cannot tell"
        assert np.isnan(short.llf)
        for bad in (np.ones(53), np.ones(padded + 1), np.ones((54, 1)), np.float64(1.0)):
            with pytest.raises(ValueError, match="one per row or unit"):
                mle.solve(counts, prepared, start, weights=bad)
        with pytest.raises(ValueError, match=">= 0"):
            mle.solve(counts, prepared, start, weights=-w)


def test_solve_refuses_fixed_values_outside_their_support() -> None:
    data = REGRESSION.make(SEED)
    prepared = REGRESSION.plain.prepare(data)
    with jax.enable_x64(True), pytest.raises(ValueError, match=r"sigma is declared Positive.*-1"):
        mle.solve(REGRESSION.plain, prepared, REGRESSION.start, fixed={"sigma": -1.0})
