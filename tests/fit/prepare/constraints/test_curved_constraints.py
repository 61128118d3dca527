"""Constraints that are functions: equal to the reparametrised model and to published numbers, refused with the reason."""

from __future__ import annotations

import functools
import pickle
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest
from jax.scipy.stats import norm

import mlejax as mle


@mle.model(beta=mle.Real(shape=3), sigma=mle.Positive())
def linear(params: Any, data: Any) -> Any:
    return norm.logpdf(data["y"], data["X"] @ params["beta"], params["sigma"])


@mle.model(b=mle.Real(shape=2), sigma=mle.Positive())
def reparametrised(params: Any, data: Any) -> Any:
    """beta[1] = 1 / sigma, written into the model."""
    beta = jnp.stack([params["b"][0], 1.0 / params["sigma"], params["b"][1]])
    return norm.logpdf(data["y"], data["X"] @ beta, params["sigma"])


@mle.model(a=mle.Real(), b=mle.Real())
def point(params: Any, data: Any) -> Any:
    return norm.logpdf(data["x"], params["a"], 1.0) + norm.logpdf(data["y"], params["b"], 1.0)


@mle.model(p=mle.Simplex(shape=3, labels=["M", "MN", "N"]))
def genotypes(params: Any, data: Any) -> Any:
    return jnp.log(params["p"][data["g"]])


def inverse(params: Any) -> Any:
    return params["beta"][1] * params["sigma"] - 1.0


def circle(params: Any) -> Any:
    return params["a"] ** 2 + params["b"] ** 2 - 1.0


def hardy_weinberg(params: Any) -> Any:
    return params["p[MN]"] ** 2 - 4.0 * params["p[M]"] * params["p[N]"]


@functools.cache
def data() -> dict[str, Any]:
    rng = np.random.default_rng(0)
    X = np.column_stack([np.ones(200), rng.normal(size=(200, 2))])
    return {"X": X, "y": X @ [1.0, 2.0, 0.5] + 0.7 * rng.normal(size=200), "g": np.arange(200) % 13}


@functools.cache
def cloud() -> dict[str, Any]:
    rng = np.random.default_rng(1)
    return {"x": rng.normal(-2.0, 1.0, 50), "y": rng.normal(-3.0, 1.0, 50)}


@functools.cache
def free() -> mle.Results:
    return linear.fit(data())


@functools.cache
def bound() -> mle.Results:
    return linear.fit(data(), constraints=inverse)


@functools.cache
def written() -> mle.Results:
    return reparametrised.fit(data())


@pytest.mark.parametrize(
    ("kind", "options"), [("nonrobust", None), ("HC0", None), ("opg", None), ("cluster", {"groups": "g"})]
)
def test_a_constraint_equals_the_reparametrised_model(kind: str, options: Any) -> None:
    one, other = bound().with_cov(kind, options), written().with_cov(kind, options)
    b0, b1, sigma = other.params
    np.testing.assert_allclose(one.params, [b0, 1 / sigma, b1, sigma], rtol=1e-10)
    Z = np.array([[1, 0, 0], [0, 0, -1 / sigma**2], [0, 1, 0], [0, 0, 1]])
    np.testing.assert_allclose(one.cov_params(), Z @ other.cov_params() @ Z.T, rtol=1e-8, atol=1e-14)


def test_what_such_a_fit_reports() -> None:
    one, other = bound(), written()
    for name in ("llf", "aic", "bic", "df_model", "nobs"):
        assert getattr(one, name) == pytest.approx(getattr(other, name), rel=1e-12), name
    assert one.verdict.code == "verified"
    assert "inverse(params) = 0" in str(one.summary())
    assert abs(one.params["beta[1]"] * one.params["sigma"] - 1) < 1e-15
    ours, theirs = one.nlcom(lambda p: p["beta"][1] ** 2).frame(), other.nlcom(lambda p: p["sigma"] ** -2.0).frame()
    np.testing.assert_allclose(ours.iloc[0, :2].astype(float), theirs.iloc[0, :2].astype(float), rtol=1e-8)


def test_against_the_free_fit() -> None:
    """LR, Wald and score tests of the restriction have one degree of freedom; Wald's is the delta method's."""
    lr, wald, score = free().lr_test(bound()), free().wald_test(inverse), bound().score_test()
    assert lr.df == wald.df == score.df == 1
    assert lr.statistic == pytest.approx(2 * (free().llf - bound().llf), rel=1e-10)
    b, V = free().params.to_numpy(), free().cov_params().to_numpy()
    gradient = np.array([0, b[3], 0, b[1]])
    assert wald.statistic == pytest.approx((b[1] * b[3] - 1) ** 2 / (gradient @ V @ gradient), rel=1e-10)
    X, y, at = data()["X"], data()["y"], bound().params.to_numpy()
    e, s = y - X @ at[:3], at[3]
    full = np.append(X.T @ e / s**2, -len(y) / s + e @ e / s**3)
    information = np.zeros((4, 4))
    information[:3, :3], information[3, 3] = X.T @ X / s**2, -len(y) / s**2 + 3 * e @ e / s**4
    information[:3, 3] = information[3, :3] = 2 * X.T @ e / s**3
    assert score.statistic == pytest.approx(full @ np.linalg.solve(information, full), rel=1e-8)


def test_a_quarter_of_a_turn_away() -> None:
    """The point of the unit circle nearest to the means, with the covariance of its angle: V = t t' / (n |mean|)."""
    res = point.fit(cloud(), start={"a": 0.1, "b": 0.9}, constraints=circle)
    mean = np.array([cloud()["x"].mean(), cloud()["y"].mean()])
    length = np.linalg.norm(mean)
    along = np.array([-mean[1], mean[0]]) / length
    np.testing.assert_allclose(res.params, mean / length, rtol=1e-10)
    np.testing.assert_allclose(res.cov_params(), np.outer(along, along) / (50 * length), atol=1e-12)
    assert res.verdict.code == "verified"
    assert "start= does not satisfy the constraints" in str(res.summary())


def test_several_starts_find_both_ends_of_a_circle() -> None:
    """The farthest point is a minimum, so that every start that can be moved onto the circle ends at the nearest."""
    res = point.fit(cloud(), start={"a": 1.0, "b": 1e-9}, constraints=circle, n_starts=6)
    kinds = res.modes["kind"]
    assert (kinds == "maximum").sum() == 1
    assert res.params["a"] < 0 > res.params["b"]


def test_hardy_and_weinbergs_law() -> None:
    """Blood types of Hong Kong, 1937: 342 M, 500 MN, 187 N.  Rice (2007), Mathematical Statistics and Data Analysis, section
    8.5.1: the frequency of N is .4247, its standard error .011; multinomial, p = ((1-q)^2, 2q(1-q), q^2)."""
    g = np.repeat([0, 1, 2], [342, 500, 187])
    res = genotypes.fit({"g": g}, constraints=hardy_weinberg)
    q, n = (2 * 187 + 500) / (2 * 1029), 1029
    assert round(q, 4) == 0.4247
    np.testing.assert_allclose(res.params, [(1 - q) ** 2, 2 * q * (1 - q), q**2], rtol=1e-10)
    error = np.sqrt(q * (1 - q) / (2 * n))
    assert round(error, 3) == 0.011
    slopes = np.array([2 * (1 - q), 2 * abs(1 - 2 * q), 2 * q])
    np.testing.assert_allclose(res.bse, slopes * error, rtol=1e-8)
    test = genotypes.fit({"g": g}).lr_test(res)
    observed, expected = np.array([342, 500, 187]), n * res.params.to_numpy()
    assert test.df == 1
    assert test.statistic == pytest.approx(2 * (observed * np.log(observed / expected)).sum(), rel=1e-8)


def test_a_common_factor_beside_a_linear_constraint() -> None:
    """y = a + r y(-1) + b x - r b x(-1): the bordered information of Aitchison & Silvey (1958), derivatives by hand."""
    rng = np.random.default_rng(4)
    x, e, y = np.cumsum(rng.normal(size=121)), rng.normal(size=121), np.zeros(121)
    for t in range(1, 121):
        y[t] = 0.5 + 0.6 * y[t - 1] + 1.5 * x[t] - 0.8 * x[t - 1] + e[t]
    X = np.column_stack([y[:-1], x[1:], x[:-1]])
    factor = lambda p: p["beta"][2] + p["beta"][0] * p["beta"][1]
    res = linear.fit({"X": X, "y": y[1:]}, constraints=[factor, "sigma = 1"])
    b = res.params.to_numpy()[:3]
    assert b[2] == pytest.approx(-b[0] * b[1], rel=1e-13)
    assert res.params["sigma"] == pytest.approx(1.0, rel=1e-14)
    score, A = X.T @ (y[1:] - X @ b), np.array([b[1], b[0], 1.0])
    kappa = score[2]
    np.testing.assert_allclose(score, kappa * A, atol=1e-7)
    W = X.T @ X + kappa * np.array([[0, 1, 0], [1, 0, 0], [0, 0, 0]])
    border = np.block([[W, A[:, None]], [A[None], np.zeros((1, 1))]])
    np.testing.assert_allclose(res.cov_params().iloc[:3, :3], np.linalg.inv(border)[:3, :3], rtol=1e-8, atol=1e-12)
    assert res.df_model == 2
    assert res.bse["sigma"] == 0.0


def test_files_hold_the_covariance_and_pickles_the_function(tmp_path: Path) -> None:
    bound().save(tmp_path / "bound.json")
    loaded, carried = mle.load(tmp_path / "bound.json"), pickle.loads(pickle.dumps(bound()))
    np.testing.assert_array_equal(loaded.bse, bound().bse)
    function = lambda p: p["beta"][1] + p["sigma"] ** 2
    np.testing.assert_allclose(loaded.nlcom(function).bse, bound().nlcom(function).bse, rtol=1e-12)
    assert free().lr_test(loaded).statistic == free().lr_test(bound()).statistic
    np.testing.assert_allclose(carried.with_cov("HC0").bse, bound().with_cov("HC0").bse, rtol=1e-12)


def test_coefficients_are_named_by_their_addresses() -> None:
    @mle.model(mu=mle.Real(), sigma=mle.Positive())
    def gaussian(params: Any, data: Any) -> Any:
        return norm.logpdf(data["y"], params["mu"], params["sigma"])

    table = {"y": data()["y"], "x1": data()["X"][:, 1], "x2": data()["X"][:, 2]}
    model = gaussian.regress(mu="x1 + x2")
    res = model.fit(table, constraints=lambda p: p["mu[x1]"] * p["sigma"] - 1.0)
    np.testing.assert_allclose(res.bse, bound().bse, rtol=1e-9)
    with pytest.raises(ValueError, match=r"params\['mu'\] has a formula"):
        model.fit(table, constraints=lambda p: p["mu"][1] * p["sigma"] - 1.0)


@pytest.mark.slow
def test_what_is_fitted_again_keeps_the_constraint() -> None:
    """Profiles and the bootstrap are those of the reparametrised model; a simulated or resampled fit satisfies it."""
    one, other = bound(), written()
    ours, theirs = (res.conf_int(method="profile") for res in (one, other))
    for mine, name in (("beta[0]", "b[0]"), ("beta[2]", "b[1]"), ("sigma", "sigma")):
        np.testing.assert_allclose(ours.loc[mine][:2].astype(float), theirs.loc[name][:2].astype(float), rtol=1e-7)
    ends = ours.loc["beta[1]"][["upper", "lower"]].astype(float)
    np.testing.assert_allclose(1 / ends, theirs.loc["sigma"][:2].astype(float), rtol=1e-7)
    a, b = (res.bootstrap(50, seed=3).replicates.to_numpy() for res in (one, other))
    np.testing.assert_allclose(a[:, [0, 2, 3]], b, rtol=1e-6)
    np.testing.assert_allclose(a[:, 1] * a[:, 3], 1.0, rtol=1e-12)


def test_what_a_file_holds_of_a_curved_constraint(tmp_path: Any) -> None:
    """Its tangent, which is all that intervals and tests of functions use; what evaluates the likelihood is refused."""
    res = bound()
    res.save(tmp_path / "bound.mle")
    back = mle.load(tmp_path / "bound.mle")
    ratio = lambda p: p["beta"][0] ** 2 * jnp.exp(p["beta"][1]) / p["sigma"]
    pd.testing.assert_frame_equal(back.nlcom(ratio).frame(), res.nlcom(ratio).frame(), rtol=1e-9)
    pd.testing.assert_frame_equal(back.conf_int(), res.conf_int(), rtol=1e-9)
    pd.testing.assert_frame_equal(back.cov_params(), res.cov_params(), rtol=1e-9)
    one, other = (r.wald_test(lambda p: p["beta"][0] - p["beta"][1] ** 2) for r in (back, res))
    assert one.pvalue == pytest.approx(other.pvalue, rel=1e-9)
    with pytest.raises(ValueError, match="neither the function nor the data"):
        back.profile("sigma")


@pytest.mark.parametrize(
    ("constraints", "kind", "message"),
    [
        (lambda p: p["a"] ** 2 + p["b"] ** 2 + 1, ValueError, "At the nearest, function 1.* = 0 is violated by 1"),
        (lambda p: (p["a"] - p["b"]) ** 2, ValueError, "derivative is 0 where the constraint is satisfied, as that of a"),
        (lambda p: jnp.stack([p["a"], p["b"]]), ValueError, "2 equations for 2 free parameters"),
        (lambda p, data: p["a"], TypeError, "expected a function of params alone.*got one of 2 arguments"),
        (lambda p: p["a"] == p["b"], TypeError, "booleans; return the difference"),
        (lambda p: jnp.ones(()), ValueError, "does not depend on the free parameters"),
        (lambda p: jnp.log(-p["a"] ** 2 - 1), ValueError, "its value is not finite at the start and near it; give a start="),
        (
            lambda p: jnp.sqrt(p["a"] - p["a"]) + p["b"],
            ValueError,
            "its value or a derivative is not finite at the start and near it; give a start=",
        ),
        (lambda p: float(p["a"]) - 1, TypeError, "cannot trace it.*jax.numpy"),
        (lambda p: p["a"] + "b", TypeError, r"cannot trace it.*\); correct it"),
        (lambda p: p["c"], ValueError, "no parameter 'c'"),
        (lambda p: None, TypeError, "expected a function that returns floating-point numbers, got nothing"),
        ([circle, {"a": 1.0}], TypeError, "expected a list of functions of params and strings .* got a dict"),
    ],
)
def test_constraints_that_make_no_sense(constraints: Any, kind: type, message: str) -> None:
    with pytest.raises(kind, match=message):
        point.fit(cloud(), constraints=constraints)


def test_equations_that_contradict_each_other_or_restrict_no_further() -> None:
    circle = lambda p: p["beta"][0] ** 2 + p["beta"][1] ** 2 - 1.0
    with pytest.raises(ValueError, match="cannot be satisfied"):
        linear.fit(data(), constraints=[circle, "beta[0] = 3"])
    product = lambda p: p["beta"][0] * p["beta"][1] - 1.0
    with pytest.raises(ValueError, match=r"beta\[1\] = 1 follows from the others.*leave it out"):
        linear.fit(data(), constraints=[product, "beta[0] = 1", "beta[1] = 1"])
    with pytest.raises(ValueError, match=r"derivatives of rank 1 of 2 where they are satisfied.*is tangent to"):
        linear.fit(data(), constraints=[circle, "beta[0] = 1"])


def test_what_does_not_go_with_functions() -> None:
    with pytest.raises(ValueError, match=r"bias_reduction= is not supported with constraints= given as functions"):
        linear.fit(data(), constraints=inverse, bias_reduction="jeffreys")
    with pytest.raises(TypeError, match=r"fit_batch has no option constraints=.*a loop of model.fit"):
        point.fit_batch({k: v[None] for k, v in cloud().items()}, constraints=circle)  # type: ignore[call-arg]
