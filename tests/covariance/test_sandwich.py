"""Two-way clusters and HAC: against sandwich, their factors, what is refused and what is said."""

from __future__ import annotations

import functools
import json
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest
from jax.scipy.stats import norm, poisson

import mlejax as mle
from tests.zoo import FAMILY

ROOT = Path(__file__).parents[2]
R = json.loads((ROOT / "tests" / "references" / "covariances.json").read_text())
SEED = 13


def matrix(name: str) -> np.ndarray:
    """A symmetric matrix from the names of its entries."""
    entries = {tuple(key.split()): value for key, value in R[name].items()}
    names = sorted({a for pair in entries for a in pair})
    return np.array([[entries.get((a, b), entries.get((b, a))) for b in names] for a in names])


@mle.model(beta=mle.Real(columns="X"))
def counts(params: Any, data: Any) -> Any:
    return poisson.logpmf(data["breaks"], jnp.exp(data["X"] @ params["beta"]))


@mle.model(beta=mle.Real(columns="X"), sigma=mle.Positive())
def linear(params: Any, data: Any) -> Any:
    return norm.logpdf(data["y"], data["X"] @ params["beta"], params["sigma"])


@functools.cache
def table() -> dict[str, Any]:
    d = pd.read_csv(ROOT / "examples" / "data" / "warpbreaks.csv")
    i = np.arange(len(d))
    X = np.column_stack([np.ones(len(d)), d[["wool_b", "tension_m", "tension_h"]]])
    names = {"a": i % 10, "b": ((11 * i) // 3) % 12, "c": i % 2, "e": (i // 3) % 2, "one": 0 * i, "i": i}
    return {"breaks": d["breaks"].to_numpy(), "X": X, **names}


@functools.cache
def fitted() -> mle.Results:
    return counts.fit(table())


@functools.cache
def lake() -> mle.Results:
    y = np.asarray(R["lake"])
    X = np.column_stack([np.ones(y.size), 1.0 + np.arange(y.size)])
    return linear.fit({"y": y, "X": X})


def header(res: mle.Results) -> str:
    return " ".join(str(res.summary()).split())


# ---- two-way clusters


@pytest.mark.parametrize("correction", ["none", "G", "full"])
def test_two_way_clusters_against_sandwich(correction: str) -> None:
    res = fitted().with_cov("cluster", {"groups": ("a", "b"), "correction": correction})
    np.testing.assert_allclose(res.cov_params(), matrix(f"two_way_{correction}"), rtol=1e-7, atol=1e-12)


def test_two_way_clusters_however_they_are_given() -> None:
    data = table()
    want = fitted().with_cov("cluster", {"groups": ("a", "b")})
    pair = np.column_stack([data["a"], data["b"]])
    for groups in (
        ["b", "a"],
        (data["a"], data["b"]),
        ("a", data["b"]),
        pair,
        pair.tolist(),
        pd.DataFrame({"firm": [f"f{x}" for x in data["a"]], "year": pd.to_datetime(data["b"], unit="D")}),
    ):
        np.testing.assert_allclose(
            fitted().with_cov("cluster", {"groups": groups}).cov_params(), want.cov_params(), rtol=1e-9
        )
    both = np.unique(pair, axis=0).shape[0]
    assert f"two-way, 10 and 12 clusters, {both} intersections, G/(G-1) = 1.111, 1.091" in header(want)
    assert "Log-pseudolikelihood" in header(want)


def test_two_ways_that_are_one() -> None:
    """The same clusters twice, or clusters within clusters: the two-way matrix is the one of the coarser."""
    res, data = fitted(), table()
    coarse = data["a"] % 5
    one = res.with_cov("cluster", {"groups": coarse, "correction": "none"})
    for pair in ((coarse, coarse), (coarse, "a")):
        two = res.with_cov("cluster", {"groups": pair, "correction": "none"})
        np.testing.assert_allclose(two.cov_params(), one.cov_params(), rtol=1e-9)


def test_negative_eigenvalues_become_zero_and_are_said() -> None:
    res = fitted().with_cov("cluster", {"groups": ("c", "e")})
    found = res.cov_params().to_numpy()
    np.testing.assert_allclose(found, matrix("two_way_fixed"), rtol=1e-6, atol=1e-12)
    assert np.linalg.eigvalsh(found).min() > -1e-12
    assert "negative eigenvalue" in header(res)
    assert "set to 0" in header(res)
    assert "set to 0" not in header(fitted().with_cov("cluster", {"groups": ("a", "b")}))


def test_missing_values_in_either_way_count() -> None:
    data = {**table(), "b": np.where(table()["i"] == 4, np.nan, table()["b"].astype(float))}
    with pytest.raises(mle.DataError, match="'b'"):
        counts.fit(data, cov_type="cluster", cov_kwds={"groups": ("a", "b")})
    res = counts.fit(data, cov_type="cluster", cov_kwds={"groups": ("a", "b")}, missing="drop")
    assert (res.nobs, res.n_dropped) == (53, 1)


# ---- HAC


@pytest.mark.parametrize(
    ("name", "options"), [("hac_default", None), ("hac_0", {"maxlags": 0}), ("hac_7", {"maxlags": 7})]
)
def test_hac_against_sandwich(name: str, options: Any) -> None:
    res = fitted().with_cov("HAC", options)
    np.testing.assert_allclose(res.cov_params(), matrix(name), rtol=1e-7, atol=1e-12)
    lags = {"hac_default": "3 lags", "hac_0": "0 lags", "hac_7": "7 lags"}[name]
    assert f"HAC (Bartlett, {lags}, no factor)" in header(res)
    assert "Log-pseudolikelihood" in header(res)


def test_hac_of_a_trend() -> None:
    res = lake().with_cov("HAC", {"maxlags": 5})
    np.testing.assert_allclose(res.cov_params().iloc[:2, :2], matrix("lake_hac_5"), rtol=1e-6)
    assert res.bse["beta[1]"] > 1.3 * lake().bse["beta[1]"], "or the errors were not autocorrelated"
    np.testing.assert_allclose(lake().with_cov("HAC", {"maxlags": 0}).bse, lake().with_cov("HC0").bse, rtol=1e-12)


@pytest.mark.slow
def test_hac_of_a_whole_model_sums_over_what_it_returns() -> None:
    @mle.model(mu=mle.Real(), sigma=mle.Positive(), rowwise=False)
    def steps(params: Any, data: Any) -> Any:
        return norm.logpdf(jnp.diff(data["y"]), params["mu"], params["sigma"])

    y = np.asarray(R["lake"])
    whole = steps.fit({"y": y}).with_cov("HAC", {"maxlags": 4})
    d = np.diff(y)
    e = d - d.mean()
    size = e @ e + 2 * sum((1 - j / 5) * (e[j:] @ e[:-j]) for j in range(1, 5))
    assert whole.bse["mu"] == pytest.approx(np.sqrt(size) / d.size, rel=1e-7)


# ---- weights, and what is refused


def test_sampling_weights_keep_their_place_in_time() -> None:
    """A row of weight 0 is a gap in time, not a row that is not there."""
    data, w = table(), np.where(table()["i"] % 5 == 2, 0.0, 1.0 + table()["i"] % 3)
    res = counts.fit(data, weights=w, weight_kind="sampling", cov_type="HAC", cov_kwds={"maxlags": 2})
    mu = np.exp(data["X"] @ res.params.to_numpy())
    s = data["X"] * (w * (data["breaks"] - mu))[:, None]
    bread = np.linalg.inv((data["X"] * (w * mu)[:, None]).T @ data["X"])
    total = s.T @ s
    for j in (1, 2):
        total += (1 - j / 3) * (s[j:].T @ s[:-j] + s[:-j].T @ s[j:])
    np.testing.assert_allclose(res.cov_params(), bread @ total @ bread, rtol=1e-7)
    two = res.with_cov("cluster", {"groups": ("a", "b"), "correction": "none"})
    used = w > 0
    parts = []
    for codes in (data["a"], data["b"], 100 * data["a"] + data["b"]):
        sums = np.array([s[used & (codes == c)].sum(axis=0) for c in np.unique(codes[used])])
        parts.append(sums.T @ sums)
    values, vectors = np.linalg.eigh(bread @ (parts[0] + parts[1] - parts[2]) @ bread)
    assert values.min() < 0
    mended = (vectors * np.maximum(values, 0)) @ vectors.T
    np.testing.assert_allclose(two.cov_params(), mended, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize(
    ("kind", "options", "message"),
    [
        ("cluster", {"groups": ("a", "b", "c")}, "one or two ways"),
        ("cluster", {"groups": ()}, "one or two ways"),
        ("cluster", {"groups": ("a", "one")}, "two clusters in each way, got 1"),
        ("cluster", {"groups": ("a", "bb")}, "bb"),
        ("cluster", {"groups": ("a", np.zeros(50))}, "expected one label per row"),
        ("cluster", {"groups": ("a", "b"), "maxlags": 2}, "are not options of cov_type='cluster'"),
        ("HAC", {"groups": "a"}, "are not options of cov_type='HAC'.*maxlags"),
        ("HAC", {"maxlags": 54}, "fewer lags"),
        ("HAC", {"maxlags": -1}, "whole number of lags"),
        ("HAC", {"maxlags": 1.5}, "whole number of lags"),
        ("hac", None, "did you mean 'HAC'"),
        ("bayes", None, "no penalty"),
    ],
)
def test_what_makes_no_sense(kind: str, options: Any, message: str) -> None:
    with pytest.raises((ValueError, KeyError), match=message):
        fitted().with_cov(kind, options)


def test_hac_needs_an_order() -> None:
    data = table()
    res = counts.fit(data, weights=1 + data["c"], weight_kind="frequency")
    with pytest.raises(ValueError, match="frequency weights"):
        res.with_cov("HAC")
    units = FAMILY.plain.fit(FAMILY.make(SEED), start=FAMILY.start)
    with pytest.raises(ValueError, match="which have no order"):
        units.with_cov("HAC")


def test_dropped_rows_are_gaps_in_time() -> None:
    y = np.array(R["lake"])
    y[10] = np.nan
    X = np.column_stack([np.ones(y.size), 1.0 + np.arange(y.size)])
    res = linear.fit({"y": y, "X": X}, missing="drop", cov_type="HAC")
    assert "1 rows were dropped: lags count the rows that are left" in header(res)


def test_every_factor_is_stated() -> None:
    res = fitted()
    assert "HC0 (sandwich, no factor)" in header(res.with_cov("HC0"))
    assert f"n/(n-k) = {54 / 50:.4g}" in header(res.with_cov("HC1"))
    assert "10 clusters, G/(G-1) = 1.111" in header(res.with_cov("cluster", {"groups": "a"}))
    full = header(res.with_cov("cluster", {"groups": "a", "correction": "full"}))
    assert f"G/(G-1) (n-1)/(n-k) = {10 / 9 * 53 / 50:.4g}" in full
    assert "10 clusters, no correction" in header(res.with_cov("cluster", {"groups": "a", "correction": "none"}))


def test_default_lags_count_rows_of_positive_weight() -> None:
    """floor(4 (n/100)^(2/9)) of the 11 rows of weight 1 among 54: 2 lags, where all 54 would give 3."""
    w = (table()["i"] % 5 == 2).astype(float)
    assert w.sum() == 11
    res = counts.fit(table(), weights=w, weight_kind="importance", cov_type="HAC")
    assert "HAC (Bartlett, 2 lags, no factor)" in header(res)
    with pytest.raises(ValueError, match="fewer lags than rows or units, 11"):
        res.with_cov("HAC", {"maxlags": 11})


@pytest.mark.parametrize("w", [1.0, 2.0, 9.0])
def test_opg_of_constant_importance_weights(w: float) -> None:
    """sum w s s' estimates the information of the weighted log-likelihood: of a constant w the errors are those of
    frequency weights, and of w = 1 divided by sqrt(w)."""
    data = {**table(), "w": np.full(54, w)}
    found = [
        counts.fit(data, weights="w", weight_kind=kind, cov_type="opg").bse for kind in ("importance", "frequency")
    ]
    np.testing.assert_allclose(found[0], found[1], rtol=1e-9)
    np.testing.assert_allclose(found[0], fitted().with_cov("opg").bse / np.sqrt(w), rtol=1e-6)
    one = counts.fit_batch({key: np.asarray(v)[None] for key, v in data.items()}, weights="w", weight_kind="importance")
    np.testing.assert_allclose(one.with_cov("opg").bse.iloc[0], found[0], rtol=1e-6)
