"""Sandwiches for few clusters against R's sandwich and clubSandwich, t and F tests, wild draws by enumeration."""

from __future__ import annotations

import itertools
import json
import tempfile
from pathlib import Path
from typing import Any, get_args

import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest
from jax.scipy.special import gammaln
from jax.scipy.stats import norm
from scipy import stats

import mlejax as mle
from mlejax.covariance import KINDS, CovarianceKind, Kind, options, sandwich
from mlejax.covariance.sandwich import Sums, covariance
from mlejax.inference.covariances import covariances

ROOT = Path(__file__).parents[3]
R = json.loads((ROOT / "tests" / "references" / "clusters.json").read_text())
GROUPS = {"groups": "c"}


@mle.model(mu=mle.Positive())
def poisson(params: Any, data: Any) -> Any:
    return data["breaks"] * jnp.log(params["mu"]) - params["mu"] - gammaln(data["breaks"] + 1.0)


@mle.model(mu=mle.Real(), sigma=mle.Positive())
def gaussian(params: Any, data: Any) -> Any:
    return norm.logpdf(data["breaks"], params["mu"], params["sigma"])


frame = pd.read_csv(ROOT / "examples" / "data" / "warpbreaks.csv").astype(float)
frame["far"] = np.exp(np.arange(len(frame)) / 6)
frame["c"] = np.arange(len(frame)) % 7


@pytest.fixture(scope="module")
def counts() -> mle.Results:
    return poisson.regress(mu="wool_b + tension_m").fit(frame)


@pytest.fixture(scope="module")
def line() -> mle.Results:
    """Least squares: a known scale, whatever it is, leaves the sandwich as it is."""
    return gaussian.regress(mu="wool_b + tension_m").fit(frame, fixed={"sigma": 10.0})


@pytest.mark.parametrize("kind", ["HC2", "HC3", "CR2", "CR3"])
def test_leverages_of_least_squares(line: mle.Results, kind: str) -> None:
    """vcovHC of sandwich; CR2 and CR3 are those of Bell & McCaffrey, by clubSandwich."""
    found = line.with_cov(kind, GROUPS if kind[0] == "C" else None).bse.to_numpy()[:3]
    np.testing.assert_allclose(found, list(R[f"lm_{kind}"].values()), rtol=1e-8)


@pytest.fixture(scope="module")
def far() -> mle.Results:
    return poisson.regress(mu="wool_b + far").fit(frame)


@pytest.mark.parametrize("kind", ["HC3", "HC4"])
def test_rows_far_from_the_others(far: mle.Results, kind: str) -> None:
    """vcovHC of sandwich: leverages from 0.7 to 6 times their mean, on both sides of the 4 of HC4."""
    line = gaussian.regress(mu="wool_b + far").fit(frame, fixed={"sigma": 10.0}, cov_type=kind)  # type: ignore[arg-type]
    np.testing.assert_allclose(line.bse.to_numpy()[:3], list(R[f"far_{kind}"].values()), rtol=1e-8)
    if kind == "HC4":
        np.testing.assert_allclose(far.with_cov(kind).bse, list(R["glm_far_HC4"].values()), rtol=1e-7)


def test_no_two_kinds_have_the_same_numbers(far: mle.Results) -> None:
    """A kind that is in the table without a formula of its own would have another one's numbers under its name."""
    asked = {name: GROUPS for name in KINDS if KINDS[name].scores_of == "clusters"}
    asked |= {name: {} for name in KINDS if name == "nonrobust" or KINDS[name].scores_of in ("rows", "lags")}
    errors = {name: far.with_cov(name, options).bse.to_numpy() for name, options in asked.items()}  # type: ignore[arg-type]
    assert len(errors) == len(KINDS) - len({"expected", "bayes", "bootstrap", "survey"})
    for one, other in itertools.combinations(errors, 2):
        assert np.max(np.abs(errors[one] / errors[other] - 1.0)) > 1e-3, (one, other)


def test_a_kind_without_a_formula_is_refused(far: mle.Results, monkeypatch: pytest.MonkeyPatch) -> None:
    """A row of the table that says nothing of how the covariance is made."""
    assert get_args(CovarianceKind) == (*KINDS, "robust")
    table = {**KINDS, "HC9": Kind("HC9", "sandwich")}  # type: ignore[arg-type]
    for module in (options, sandwich, covariances):
        monkeypatch.setattr(module, "KINDS", table)
    with pytest.raises(ValueError, match=r"'HC9': expected sums= of products of scores, got None"):
        far.with_cov("HC9")  # type: ignore[arg-type]


def test_sums_go_with_the_kinds_that_use_them() -> None:
    free, sums = np.ones((1, 1), bool), Sums(np.ones((1, 1, 1, 1)), np.full(1, 9), np.zeros((1, 1), int))
    with pytest.raises(ValueError, match="'bootstrap': it is the covariance of refits"):
        covariance("bootstrap", np.ones((1, 1, 1)), free=free)
    with pytest.raises(ValueError, match="'nonrobust' uses no products of scores: expected sums=None"):
        covariance("nonrobust", np.ones((1, 1, 1)), free=free, sums=sums)


@pytest.mark.parametrize("kind", ["HC2", "HC3", "CR3"])
def test_leverages_of_a_poisson_regression(counts: mle.Results, kind: str) -> None:
    """CR2 has another square root there: the next test."""
    found = counts.with_cov(kind, GROUPS if kind[0] == "C" else None).bse.to_numpy()
    np.testing.assert_allclose(found, list(R[f"glm_{kind}"].values()), rtol=1e-8)


def test_two_square_roots_of_a_poisson_regression(counts: mle.Results) -> None:
    """CR2 wants A_g with A_g (Phi_g - D_g M D_g') A_g' = Phi_g for residuals of variance Phi = mu, D = d mu / d beta = mu X.

    Roots of matrices are not unique.  Ours is symmetric in units of a standard deviation (Bell & McCaffrey 2002),

        A_g = Phi^(1/2) (I - Phi^(-1/2) D M D' Phi^(-1/2))^(-1/2) Phi^(-1/2),

    which needs scores and informations only; clubSandwich's (Pustejovsky & Tipton 2018, eq. 8) is
    Phi^(1/2) (Phi^(1/2) (Phi - D M D') Phi^(1/2))^(-1/2) Phi^(1/2).  They agree where the variances in a cluster are equal.
    """
    X = np.column_stack([np.ones(len(frame)), frame["wool_b"], frame["tension_m"]])
    mu = np.exp(X @ counts.params.to_numpy())
    M, e = np.linalg.inv(X.T @ (mu[:, None] * X)), frame["breaks"].to_numpy() - mu

    def power(S: np.ndarray) -> np.ndarray:
        values, vectors = np.linalg.eigh(S)
        return (vectors * values**-0.5) @ vectors.T

    ours, theirs = np.zeros((3, 3)), np.zeros((3, 3))
    for c in range(7):
        i = (frame["c"] == c).to_numpy()
        root, D = np.diag(mu[i] ** 0.5), mu[i, None] * X[i]
        Q, inverse = root**2 - D @ M @ D.T, np.linalg.inv(root)
        first = root @ power(inverse @ Q @ inverse) @ inverse
        second = root @ power(root @ Q @ root) @ root
        for A in (first, second):
            np.testing.assert_allclose(A @ Q @ A.T, root**2, atol=1e-9)
        for total, A in ((ours, first), (theirs, second)):
            score = X[i].T @ A @ e[i]
            total += np.outer(score, score)
    np.testing.assert_allclose(counts.with_cov("CR2", GROUPS).bse, np.sqrt(np.diag(M @ ours @ M)), rtol=1e-8)
    np.testing.assert_allclose(list(R["glm_CR2"].values()), np.sqrt(np.diag(M @ theirs @ M)), rtol=1e-8)


def test_few_clusters_have_t_and_f_tests(counts: mle.Results) -> None:
    res = counts.with_cov("CR3", GROUPS)
    b, se = res.params["mu[wool_b]"], res.bse["mu[wool_b]"]
    assert res.pvalues["mu[wool_b]"] == pytest.approx(2 * stats.t.sf(abs(b / se), 6), rel=1e-10)
    low, high = res.conf_int().loc["mu[wool_b]"]
    np.testing.assert_allclose([low, high], b + stats.t.ppf([0.025, 0.975], 6) * se, rtol=1e-10)
    assert "P>|t|" in str(res.summary())
    one = res.t_test("mu[wool_b] = 0")
    assert one.pvalues[0] == pytest.approx(res.pvalues["mu[wool_b]"], rel=1e-10)
    assert "P>|t|" in repr(one)
    assert res.nlcom(lambda p: p["mu[wool_b]"]).pvalues[0] == pytest.approx(res.pvalues["mu[wool_b]"], rel=1e-10)
    joint, names = res.wald_test("mu[wool_b] = 0, mu[tension_m] = 0"), ["mu[wool_b]", "mu[tension_m]"]
    v = res.params[names].to_numpy()
    F = v @ np.linalg.solve(res.cov_params().loc[names, names].to_numpy(), v) / 2
    assert joint.statistic == pytest.approx(F, rel=1e-9)
    assert joint.pvalue == pytest.approx(stats.f.sf(F, 2, 6), rel=1e-9)
    assert "F(2, 6) = " in repr(joint)
    with tempfile.TemporaryDirectory() as folder:
        res.save(Path(folder) / "res.json")
        assert str(mle.load(Path(folder) / "res.json").summary()) == str(res.summary())


def test_a_batch_has_the_t_intervals_of_its_fits() -> None:
    """Data sets of 7 and of 5 clusters side by side."""
    table = pd.concat([frame.assign(d=0), frame[frame["c"] < 5].assign(d=1)])
    many = poisson.regress(mu="wool_b").fit_groups(table, "d", cov_type="CR3", cov_kwds=GROUPS)
    ends, tidy = many.conf_int(), many.tidy()
    for label in (0, 1):
        one = many[label].with_cov("CR3", GROUPS)
        np.testing.assert_allclose(ends.loc[label], one.conf_int(), rtol=1e-7)
        p = tidy.loc[tidy["d"] == label, "p_value"]
        np.testing.assert_allclose(p, one.pvalues, rtol=1e-6)


def test_factors_of_stata(counts: mle.Results) -> None:
    n = len(frame)
    np.testing.assert_allclose(counts.with_cov("stata").bse, counts.with_cov("HC0").bse * np.sqrt(n / (n - 1)))
    np.testing.assert_allclose(counts.with_cov("stata", GROUPS).bse, counts.with_cov("cluster", GROUPS).bse)
    assert "7 clusters are few" in str(counts.with_cov("cluster", GROUPS).summary())


def test_a_covariance_of_resamples(counts: mle.Results) -> None:
    """That of the bootstrap's replicates, by row and by cluster."""
    boot = counts.bootstrap(60, seed=4)
    found = counts.with_cov("bootstrap", {"n": 60, "seed": 4})
    np.testing.assert_allclose(found.bse, boot.bse, rtol=1e-10)
    boot = counts.bootstrap(60, "cluster", seed=4, groups="c")
    found = counts.with_cov("bootstrap", {"n": 60, "seed": 4, "groups": "c"})
    np.testing.assert_allclose(found.cov_params(), boot.cov_params(), rtol=1e-10)
    assert "60 resamples of 7 clusters" in str(found.summary())


def test_wild_draws_are_all_signs_of_few_clusters() -> None:
    """The restricted score bootstrap by matrices: 128 signs of 7 clusters, one by one."""
    res = poisson.regress(mu="wool_b").fit(frame)
    found = res.score_test("+ tension_m", cov_type="cluster", cov_kwds=GROUPS, bootstrap=999)
    X = np.column_stack([np.ones(len(frame)), frame["wool_b"], frame["tension_m"]])
    mu = np.exp(X[:, :2] @ res.params.to_numpy())
    s = X * (frame["breaks"].to_numpy() - mu)[:, None]
    by = np.array([s[frame["c"] == c].sum(axis=0) for c in range(7)])
    along = np.linalg.inv(X.T @ (mu[:, None] * X))[2] @ by.T
    statistic = lambda w: (w @ along) ** 2 / ((w * along) ** 2).sum()
    every = np.array([statistic(np.array(w)) for w in itertools.product((-1, 1), repeat=7)])
    assert found.pvalue == (every >= statistic(np.ones(7)) * (1 - 1e-10)).sum() / 128
    assert "all 128 signs" in found.note
    drawn = res.score_test("+ tension_m", cov_type="cluster", cov_kwds=GROUPS, bootstrap=99)
    assert "99 wild draws (Webb)" in drawn.note
    with pytest.raises(ValueError, match=r"needs cov_type=.HC0. or one-way"):
        res.score_test("+ tension_m", bootstrap=99)


@pytest.mark.parametrize(
    ("kind", "options", "message"),
    [
        ("CR3", None, "needs cov_kwds"),
        ("HC3", GROUPS, "are not options of cov_type='HC3'"),
        ("CR2", {"groups": ["c", "wool_b"]}, "one-way clusters only"),
        ("bootstrap", {"n": 3}, "at least 20"),
        ("CR3", {"groups": np.zeros(54)}, "needs at least two clusters, got 1"),
    ],
)
def test_refusals(counts: mle.Results, kind: Any, options: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        counts.with_cov(kind, options)


def test_a_cluster_alone_with_its_parameter() -> None:
    res = poisson.regress(mu="C(c)").fit(frame)
    with pytest.raises(ValueError, match=r"7 clusters determine a parameter alone .* use 'CR2'"):
        res.with_cov("CR3", GROUPS)
