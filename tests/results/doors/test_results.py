"""What a result says: numbers, intervals, tests, tables, refusals; against closed forms of the zoo."""

from __future__ import annotations

import functools
import math
import warnings
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.scipy.stats import norm
from scipy import stats

import mlejax as mle
from tests.zoo import BERNOULLI, FAMILY, GAUSSIAN, MULTINOMIAL, POISSON, REGRESSION, Member, Truth, truth

Z = stats.norm.ppf(0.975)
SEED = 13


@functools.cache
def fitted(member: Member) -> tuple[mle.Results, Truth]:
    data = member.make(SEED)
    return member.plain.fit(data, start=member.start), truth(member, data)


def spread(want: Truth) -> np.ndarray:
    return np.sqrt(np.diag(want.covariance("nonrobust")))


# ---- the table


def test_series_carry_addresses() -> None:
    res, want = fitted(REGRESSION)
    names = ["beta[0]", "beta[1]", "beta[2]", "sigma"]
    for series, name in ((res.params, "coef"), (res.bse, "std err"), (res.tvalues, "z"), (res.pvalues, "P>|z|")):
        assert list(series.index) == names
        assert series.name == name
        assert series.dtype == np.float64
    z = want.values / spread(want)
    np.testing.assert_allclose(res.tvalues[:3], z[:3], rtol=1e-7)
    np.testing.assert_allclose(res.pvalues[:3], 2 * stats.norm.sf(np.abs(z[:3])), rtol=1e-6)
    assert math.isnan(res.tvalues["sigma"]), "0 is no interior point of the support of sigma"
    assert math.isnan(res.pvalues["sigma"])
    for frame in (res.cov_params(), res.information, res.hessian):
        assert list(frame.index) == list(frame.columns) == names


def test_intervals_on_the_scale_of_the_support() -> None:
    res, want = fitted(GAUSSIAN)
    mu, sigma = want.values
    se = spread(want)
    link = res.conf_int()
    assert list(link.columns) == ["lower", "upper"]
    np.testing.assert_allclose(link.loc["mu"], [mu - Z * se[0], mu + Z * se[0]], rtol=1e-7)
    np.testing.assert_allclose(link.loc["sigma"], sigma * np.exp([-Z * se[1] / sigma, Z * se[1] / sigma]), rtol=1e-7)
    plain = res.conf_int(scale="natural")
    np.testing.assert_allclose(plain.loc["sigma"], [sigma - Z * se[1], sigma + Z * se[1]], rtol=1e-7)
    narrow = res.conf_int(alpha=0.5).loc["mu"]
    np.testing.assert_allclose(narrow, mu + stats.norm.ppf(0.75) * se[0] * np.array([-1, 1]), rtol=1e-7)
    with pytest.raises(ValueError, match="scale"):
        res.conf_int(scale="log")
    with pytest.raises(ValueError, match="alpha"):
        res.conf_int(alpha=1.5)


def test_interval_of_a_probability_is_a_logit_interval() -> None:
    res, want = fitted(BERNOULLI)
    (p,), (se,) = want.values, spread(want)
    half = Z * se / (p * (1 - p))
    expected = 1 / (1 + np.exp(-(np.log(p / (1 - p)) + np.array([-half, half]))))
    np.testing.assert_allclose(res.conf_int().loc["p"], expected, rtol=1e-7)
    assert math.isnan(res.tvalues["p"])


def test_no_interval_near_a_closed_edge() -> None:
    """Within two standard errors of 0, and at 0: no Wald interval on any scale, and the note says so."""
    data = FAMILY.bounded[0].shift(FAMILY.make(SEED))
    res = FAMILY.plain.fit(data, start=FAMILY.start)
    assert res.verdict.code == "boundary"
    for scale in ("link", "natural"):
        assert res.conf_int(scale=scale).loc["tau2"].isna().all()
        assert res.conf_int(scale=scale).loc[["mu", "sigma2"]].notna().all().all()
    assert "at a bound of its support" in res.tidy().set_index("term")["note"]["tau2"]
    near = FAMILY.make(SEED)
    y = near["y"].reshape(24, 4)
    between = y.mean(axis=1, keepdims=True) - y.mean()
    within = np.sum((y - y.mean(axis=1, keepdims=True)) ** 2) / (24 * 3)
    smaller = np.sqrt(1.25 * within / (4 * np.mean(between**2)))  # whole = 1.25 sigma2, tau2 = sigma2 / 16
    near = {**near, "y": (y + (smaller - 1) * between).ravel()}
    close = FAMILY.plain.fit(near, start=FAMILY.start)
    want = truth(FAMILY, near)
    assert 0 < want.params["tau2"] < 2 * spread(want)[1], "or the case is not what it should be"
    assert close.verdict.code == "verified"
    assert close.bse["tau2"] == pytest.approx(spread(want)[1], rel=1e-6)
    assert close.conf_int().loc["tau2"].isna().all()
    assert close.tidy().set_index("term")["note"]["tau2"]


def test_tidy_and_glance() -> None:
    res, want = fitted(REGRESSION)
    table = res.tidy()
    assert list(table.columns) == [
        "term",
        "estimate",
        "std_error",
        "statistic",
        "p_value",
        "conf_low",
        "conf_high",
        "note",
    ]
    np.testing.assert_allclose(table["estimate"], want.values, rtol=1e-8)
    np.testing.assert_allclose(table["std_error"], spread(want), rtol=1e-8)
    np.testing.assert_allclose(table[["conf_low", "conf_high"]], res.conf_int(), rtol=1e-12)
    (row,) = res.glance().to_dict("records")
    assert row["nobs"] == row["n_units"] == 61
    assert row["df_model"] == 4
    assert row["llf"] == pytest.approx(want.llf, rel=1e-12)
    assert row["aic"] == res.aic
    assert row["bic"] == res.bic
    assert row["converged"] is True
    assert (row["verdict"], row["cov_type"]) == ("verified", "nonrobust")
    robust = res.with_cov("HC0").glance().iloc[0]
    assert robust["aic"] is None or np.isnan(robust["aic"])
    assert robust["cov_type"] == "HC0"


def test_summary_as_text_and_html() -> None:
    res, want = fitted(REGRESSION)
    text = str(res.summary())
    for part in ("beta[0]", "sigma", "std err", "P>|z|", "[0.025", "0.975]", "61", f"{want.llf:.6f}"):
        assert part in text, part
    for part in ("AIC", "BIC", "newton", "nonrobust", "verified"):
        assert part in text, part
    assert "yes (g'H^-1 g" in " ".join(text.split())
    html = res._repr_html_()
    for part in ("<table", "beta[1]", "sigma", "verified"):
        assert part in html
    robust = str(res.with_cov("cluster", {"groups": "village"}).summary())
    assert "Log-pseudolikelihood" in robust
    assert "9 clusters" in " ".join(robust.split())
    assert "AIC" not in robust
    assert "verified" in repr(res)
    wide = str(res.summary(alpha=0.1))
    assert "[0.05" in wide
    assert "0.95]" in wide


# ---- derivatives


def test_scores_and_information_belong_together() -> None:
    res, want = fitted(REGRESSION)
    scores = res.score_obs
    assert scores.shape == (61, 4)
    np.testing.assert_allclose(scores.sum(), 0.0, atol=1e-7)
    np.testing.assert_allclose(scores, want.scores, rtol=1e-7, atol=1e-9)
    opg = np.linalg.inv(scores.T @ scores)
    np.testing.assert_allclose(res.with_cov("opg").cov_params(), opg, rtol=1e-7, atol=1e-12)
    np.testing.assert_array_equal(res.hessian, -res.information)
    np.testing.assert_allclose(np.linalg.inv(res.information), res.cov_params(), rtol=1e-9, atol=1e-12)


def test_params_tree_is_accepted_everywhere() -> None:
    for member in (REGRESSION, MULTINOMIAL):
        res, want = fitted(member)
        with jax.enable_x64(True):
            rows = {k: jnp.asarray(v) for k, v in want.data.items() if k != "village"}
            value = float(jnp.sum(member.plain(res.params_tree, rows)))
        assert value == pytest.approx(res.llf, rel=1e-12)
        again = member.plain.fit(want.data, start=res.params_tree)
        assert again.verdict.code == "verified"
        np.testing.assert_allclose(again.params, res.params, rtol=1e-9)
        assert jax.tree.structure(res.params_tree) == jax.tree.structure(member.start)


# ---- tests


def wald(R: np.ndarray, r: np.ndarray, want: Truth) -> float:
    gap = R @ want.values - r
    return float(gap @ np.linalg.solve(R @ want.covariance("nonrobust") @ R.T, gap))


def test_wald_test_of_strings_dicts_and_matrices() -> None:
    res, want = fitted(REGRESSION)
    R = np.array([[0.0, 1.0, -1.0, 0.0], [0.0, 0.0, 0.0, 1.0]])
    r = np.array([0.0, 1.0])
    statistic = wald(R, r, want)
    for test in (
        res.wald_test("beta[1] = beta[2], sigma = 1"),
        res.wald_test(["beta[1] - beta[2] = 0", "sigma = 1"]),
        res.wald_test(R, r),
    ):
        assert test.statistic == pytest.approx(statistic, rel=1e-7)
        assert test.df == 2
        assert test.pvalue == pytest.approx(stats.chi2.sf(statistic, 2), rel=1e-6)
    one = res.wald_test({"beta[1]": -0.7})
    assert one.statistic == pytest.approx(((want.values[1] + 0.7) / spread(want)[1]) ** 2, rel=1e-7)
    all_of_it = res.wald_test("beta = 0")
    assert all_of_it.df == 3
    assert all_of_it.statistic == pytest.approx(wald(np.eye(4)[:3], np.zeros(3), want), rel=1e-7)
    with pytest.raises(ValueError, match="no parameter 'betta'"):
        res.wald_test("betta = 0")


def test_wald_test_uses_the_covariance_of_the_result() -> None:
    res, want = fitted(GAUSSIAN)
    robust = want.covariance("HC0")
    assert res.with_cov("HC0").wald_test("mu = 1").statistic == pytest.approx(
        (want.values[0] - 1) ** 2 / robust[0, 0], rel=1e-7
    )


def test_wald_test_of_a_simplex_uses_its_rank() -> None:
    """Pearson's chi-square with the estimated probabilities below: n sum (p - q)^2 / p, 3 degrees of freedom."""
    res, want = fitted(MULTINOMIAL)
    p = want.values
    cov = res.cov_params().to_numpy()
    np.testing.assert_allclose(cov, (np.diag(p) - np.outer(p, p)) / 61, rtol=1e-7, atol=1e-12)
    assert np.linalg.matrix_rank(cov, tol=1e-10) == 3
    np.testing.assert_allclose(res.bse, np.sqrt(p * (1 - p) / 61), rtol=1e-8)
    q = np.array([0.2, 0.3, 0.2, 0.3])
    test = res.wald_test({f"pi[{k}]": q[k] for k in range(4)})
    assert test.df == 3
    assert test.statistic == pytest.approx(61 * np.sum((p - q) ** 2 / p), rel=1e-6)
    impossible = res.wald_test("pi = 0.3")
    assert impossible.pvalue == 0.0
    assert impossible.note


def test_t_test() -> None:
    res, want = fitted(REGRESSION)
    table = res.t_test("beta[1] = -0.5, beta[1] + beta[2] = 0")
    R = np.array([[0.0, 1.0, 0.0, 0.0], [0.0, 1.0, 1.0, 0.0]])
    z = (R @ want.values - [-0.5, 0.0]) / np.sqrt(np.diag(R @ want.covariance("nonrobust") @ R.T))
    np.testing.assert_allclose(table.tvalues, z, rtol=1e-7)


def test_delta_method() -> None:
    res, want = fitted(GAUSSIAN)
    mu, sigma = want.values
    V = want.covariance("nonrobust")
    found = res.nlcom(
        lambda p: {"signal": p["mu"] / p["sigma"], "both": jnp.stack([p["mu"] ** 2, jnp.log(p["sigma"])])}
    )
    J = np.array([[1 / sigma, -mu / sigma**2], [2 * mu, 0.0], [0.0, 1 / sigma]])
    table = found.frame()
    order = [list(table.index).index(name) for name in ("signal", "both[0]", "both[1]")]
    np.testing.assert_allclose(np.asarray(found.params)[order], [mu / sigma, mu**2, np.log(sigma)], rtol=1e-8)
    np.testing.assert_allclose(table["std_error"].to_numpy()[order], np.sqrt(np.diag(J @ V @ J.T)), rtol=1e-8)


def test_delta_method_of_structured_parameters() -> None:
    """A log odds of a simplex: variance (1/p0 + 1/p1) / n."""
    res, want = fitted(MULTINOMIAL)
    p = want.values
    found = res.nlcom(lambda params: jnp.log(params["pi"][0] / params["pi"][3]))
    assert float(found.frame()["std_error"].iloc[0]) == pytest.approx(np.sqrt((1 / p[0] + 1 / p[3]) / 61), rel=1e-7)


def test_predict() -> None:
    import pandas as pd

    res, want = fitted(REGRESSION)
    X = np.array([[1.0, 0.5, -1.0], [1.0, 2.0, 0.0]])
    V = want.covariance("nonrobust")[:3, :3]
    table = res.predict(lambda p, d: d["X"] @ p["beta"], {"X": X})
    np.testing.assert_allclose(table["estimate"], X @ want.values[:3], rtol=1e-8)
    np.testing.assert_allclose(table["std_error"], np.sqrt(np.einsum("ni,ij,nj->n", X, V, X)), rtol=1e-7)
    frame = pd.DataFrame({"age": [0.5, 2.0], "unused": ["a", "b"]}, index=["ann", "bob"])
    named = res.predict(lambda p, d: p["beta"][0] + p["beta"][1] * d["age"], frame)
    assert list(named.index) == ["ann", "bob"]
    np.testing.assert_allclose(named["estimate"], want.values[0] + want.values[1] * frame["age"], rtol=1e-8)
    with pytest.raises(KeyError, match="height"):
        res.predict(lambda p, d: d["height"] * p["sigma"], frame)


# ---- likelihood ratios and criteria


def test_lr_test() -> None:
    res, want = fitted(REGRESSION)
    restricted = REGRESSION.plain.fit(want.data, start=REGRESSION.start, fixed={"beta[1]": 0.0})
    smaller = truth(REGRESSION, want.data, {"beta[1]": 0.0})
    test = res.lr_test(restricted)
    statistic = 2 * 61 * np.log(smaller.params["sigma"] / want.params["sigma"])
    assert test.statistic == pytest.approx(statistic, rel=1e-8)
    assert test.df == 1
    assert test.pvalue == pytest.approx(stats.chi2.sf(statistic, 1), rel=1e-6)
    with pytest.raises(ValueError, match=r"boundary=1: expected that many parameters at a bound .* got: none"):
        res.lr_test(restricted, boundary=1)
    with pytest.raises(ValueError, match="exchange the two"):
        restricted.lr_test(res)
    with pytest.raises(ValueError, match="pseudolikelihood"):
        res.with_cov("HC0").lr_test(restricted)
    with pytest.raises(ValueError, match="pseudolikelihood"):
        res.lr_test(restricted.with_cov("cluster", {"groups": "village"}))
    with pytest.raises(ValueError, match="4 free parameters"):
        res.lr_test(res)


def test_lr_test_refuses_other_data() -> None:
    res, want = fitted(REGRESSION)
    y = want.data["y"].copy()
    y[3] += 1e-3
    other = REGRESSION.plain.fit({**want.data, "y": y}, start=REGRESSION.start, fixed={"beta[1]": 0.0})
    with pytest.raises(ValueError, match="different data"):
        res.lr_test(other)


def test_lr_test_refuses_what_did_not_converge() -> None:
    _, want = fitted(REGRESSION)
    collinear = {**want.data, "X": want.data["X"][:, [0, 1, 1]]}
    with pytest.warns(mle.ConvergenceWarning, match="not_identified") as caught:
        bad = REGRESSION.plain.fit(collinear, start=REGRESSION.start)
    assert not bad.converged
    assert "NO" in str(bad.summary())
    fixed = REGRESSION.plain.fit(collinear, start=REGRESSION.start, fixed={"beta[2]": 0.0})
    assert fixed.converged
    lost, kept = ["beta[1]", "beta[2]"], ["beta[0]", "sigma"]
    assert bad.bse[lost].isna().all()
    assert bad.conf_int().loc[lost].isna().all().all()
    assert bad.tidy().set_index("term")["note"][lost].str.contains("not identified").all()
    np.testing.assert_allclose(bad.bse[kept], fixed.bse[kept], rtol=1e-6)
    assert bad.params["beta[1]"] + bad.params["beta[2]"] == pytest.approx(fixed.params["beta[1]"], rel=1e-6)
    assert caught[0].filename == __file__, "the warning points at the user's line"
    assert bad.verdict.advice in str(caught[0].message)
    with pytest.raises(ValueError, match="did not converge"):
        bad.lr_test(fixed)
    test = bad.wald_test("beta[1] = 0")
    assert math.isnan(test.statistic)
    assert "not identified" in test.reason


@pytest.mark.parametrize("kind", ["HC0", "HC1", "cluster"])
def test_criteria_refuse_pseudolikelihoods(kind: str) -> None:
    res, _ = fitted(REGRESSION)
    robust = res.with_cov(kind, {"groups": "village"} if kind == "cluster" else None)
    for name in ("aic", "bic"):
        with pytest.raises(
            ValueError, match=f"{name.upper()} is not defined with cov_type='{kind}'.*pseudolikelihood.*with_cov"
        ):
            getattr(robust, name)
    assert math.isfinite(res.with_cov("opg").aic)


# ---- covariance types


def test_with_cov_does_not_refit_or_write_back() -> None:
    calls: list[int] = []

    @mle.model(mu=mle.Real(), sigma=mle.Positive())
    def counted(params: Any, data: Any) -> Any:
        calls.append(1)
        return norm.logpdf(data["y"], params["mu"], params["sigma"])

    data = GAUSSIAN.make(SEED)
    res = counted.fit(data, start=GAUSSIAN.start)
    before = res.bse.copy()
    res.score_obs  # noqa: B018
    traced = len(calls)
    robust = res.with_cov("HC0")
    again = robust.with_cov("nonrobust")
    assert len(calls) == traced
    np.testing.assert_array_equal(res.bse, before)
    np.testing.assert_array_equal(again.bse, before)
    np.testing.assert_array_equal(robust.params, res.params)
    assert robust.n_steps == res.n_steps
    assert not np.allclose(robust.bse, before)


def test_clusters_by_column_by_labels_and_by_unit() -> None:
    for member in (REGRESSION, FAMILY):
        res, want = fitted(member)
        by_column = res.with_cov("cluster", {"groups": "village"})
        by_row = res.with_cov("cluster", {"groups": list(want.data["village"])})
        np.testing.assert_array_equal(by_column.bse, by_row.bse)
        # every contribution its own cluster: HC0 times n / (n - 1)
        n = res.n_units
        each = member.plain.likelihood.unit or np.arange(n)
        own = res.with_cov("cluster", {"groups": each, "correction": "none"})
        np.testing.assert_allclose(own.bse, res.with_cov("HC0").bse, rtol=1e-10)
        scaled = res.with_cov("cluster", {"groups": each})
        np.testing.assert_allclose(scaled.bse, own.bse * np.sqrt(n / (n - 1)), rtol=1e-10)


@pytest.mark.parametrize(
    ("kind", "options", "message"),
    [
        ("white", None, "did you mean 'HC0'"),
        ("hc1", None, "did you mean 'HC1'"),
        ("HC9", None, "is not known; choose from"),
        ("HC0", {"groups": "village"}, "are not options of cov_type='HC0'"),
        ("cluster", None, "needs cov_kwds"),
        ("cluster", {"groups": "village", "correction": "g"}, "correction='g' is not known"),
        ("cluster", {"groups": "vilage"}, "vilage"),
        ("cluster", {"groups": np.zeros(61)}, "at least two clusters"),
        ("cluster", {"groups": np.zeros(60)}, "expected one label per row"),
    ],
)
def test_covariance_types_that_make_no_sense(kind: str, options: Any, message: str) -> None:
    res, _ = fitted(REGRESSION)
    with pytest.raises((ValueError, KeyError), match=message):
        res.with_cov(kind, options)


def test_few_clusters_are_noted() -> None:
    res, _ = fitted(REGRESSION)
    few = res.with_cov("cluster", {"groups": np.arange(61) % 3})
    assert "3 clusters for 4 parameters" in " ".join(str(few.summary()).split())
    with pytest.raises(ValueError, match="too few clusters"):
        few.wald_test("beta = 0, sigma = 1")


# ---- counts, warnings, nothing to estimate


def test_dropped_rows_are_counted() -> None:
    data = GAUSSIAN.make(SEED)
    y = data["y"].copy()
    y[[2, 30]] = np.nan
    with pytest.raises(mle.DataError, match="missing"):
        GAUSSIAN.plain.fit({**data, "y": y}, start=GAUSSIAN.start)
    res = GAUSSIAN.plain.fit({**data, "y": y}, start=GAUSSIAN.start, missing="drop")
    assert (res.nobs, res.n_dropped) == (59, 2)
    want = truth(GAUSSIAN, {"y": np.delete(data["y"], [2, 30]), "village": np.delete(data["village"], [2, 30])})
    np.testing.assert_allclose(res.params, want.values, rtol=1e-9)
    assert "59 (2 dropped)" in str(res.summary())
    by_column = res.with_cov("cluster", {"groups": "village"})
    np.testing.assert_allclose(by_column.bse, np.sqrt(np.diag(want.covariance("cluster"))), rtol=1e-8)
    all_labels = res.with_cov("cluster", {"groups": data["village"]})
    np.testing.assert_array_equal(by_column.bse, all_labels.bse)


def test_a_clean_fit_does_not_warn() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        res = GAUSSIAN.plain.fit(GAUSSIAN.make(SEED), start=GAUSSIAN.start)
    assert res.converged


def test_a_fit_stops_at_its_limit_and_says_so() -> None:
    with pytest.warns(mle.ConvergenceWarning, match="stopped_early"):
        res = GAUSSIAN.plain.fit(GAUSSIAN.make(SEED), start=GAUSSIAN.start, method=mle.Newton(max_steps=1))
    assert res.n_steps == 1
    assert res.bse.isna().all()


def test_everything_fixed() -> None:
    data = POISSON.make(SEED)
    res = POISSON.plain.fit(data, fixed={"lambda": 2.0})
    want = truth(POISSON, data, {"lambda": 2.0})
    assert res.llf == pytest.approx(want.llf, rel=1e-12)
    assert res.converged
    assert res.df_model == 0
    assert res.params["lambda"] == 2.0
    assert math.isnan(res.bse["lambda"])
    assert res.aic == pytest.approx(-2 * want.llf)
    assert res.information.shape == (0, 0)
    assert res.score_obs.shape == (61, 0)
    assert "(fixed)" in str(res.summary())
    full = POISSON.plain.fit(data, start=POISSON.start)
    test = full.lr_test(res)
    rate = data["y"].mean()
    assert test.statistic == pytest.approx(2 * (data["y"].sum() * np.log(rate / 2) - 61 * (rate - 2)), rel=1e-8)


def test_a_joint_test_with_a_fixed_entry_names_it() -> None:
    data = REGRESSION.make(SEED)
    res = REGRESSION.plain.fit(data, start=REGRESSION.start, fixed={"beta[1]": 0.0})
    test = res.wald_test("beta = 0")
    assert math.isfinite(test.statistic) or "beta[1]" in test.reason
