"""Columns far from 0 and of any size: verdict, slopes, errors and predictions are those of the centred columns.

The reference is the closed form of least squares from centred data: x = c + z with z a multiple of 2^-12, so that x and its
differences are exact in binary, and b = z'y / z'z (z centred), sigma^2 = mean residual square, se(b) = sigma / sqrt(z'z), and
the standard error of the mean at the mean of x is sigma / sqrt(n).
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.scipy.stats import norm

import mlejax as mle

N = 64


@mle.model(a=mle.Real(), b=mle.Real(), sigma=mle.Positive())
def line(params: Any, data: Any) -> Any:
    return norm.logpdf(data["y"], params["a"] + params["b"] * data["x"], params["sigma"])


@mle.model(beta=mle.Real(columns="X"), sigma=mle.Positive())
def columns(params: Any, data: Any) -> Any:
    return norm.logpdf(data["y"], data["X"] @ params["beta"], params["sigma"])


@mle.model(mu=mle.Real(), sigma=mle.Positive())
def gaussian(params: Any, data: Any) -> Any:
    return norm.logpdf(data["y"], params["mu"], params["sigma"])


@mle.model(p=mle.Interval(0, 1))
def bernoulli(params: Any, data: Any) -> Any:
    return jnp.where(data["y"] > 0, jnp.log(params["p"]), jnp.log1p(-params["p"]))


@mle.model(b=mle.Real(), c=mle.Ordered(shape=2))
def grades(params: Any, data: Any) -> Any:
    cuts = jnp.concatenate([jnp.array([-1e300]), params["c"], jnp.array([1e300])])
    grade, eta = data["grade"].astype(int), params["b"] * data["x"]
    return jnp.log(jax.nn.sigmoid(cuts[grade + 1] - eta) - jax.nn.sigmoid(cuts[grade] - eta))


class Line(NamedTuple):
    """A covariate with its outcome, and the closed form."""

    x: Any
    y: Any
    slope: float
    error: float
    at_mean: float
    error_at_mean: float


def sample(shift: float, scale: float, seed: int = 0) -> Line:
    rng = np.random.default_rng(seed)
    z = np.round(rng.normal(size=N) * 2**12) / 2**12
    y = 1.0 + z + rng.normal(size=N)
    centred = z - z.mean()
    slope = centred @ y / (centred @ centred)
    sigma = np.sqrt(np.mean((y - y.mean() - slope * centred) ** 2))
    error = sigma / np.sqrt(centred @ centred)
    return Line((shift + z) * scale, y, slope / scale, error / scale, y.mean(), sigma / np.sqrt(N))


def assert_right(res: mle.Results, name: str, right: Line) -> None:
    assert res.verdict.code == "verified", res.verdict
    assert res.params[name] == pytest.approx(right.slope, rel=1e-6)
    assert res.bse[name] == pytest.approx(right.error, rel=1e-6)
    test = res.wald_test(f"{name} = 0")
    assert test.statistic == pytest.approx((right.slope / right.error) ** 2, rel=1e-5)


FAST = [(2.0**20, 1.0), (-(2.0**17), 2.0**30), (2.0**20, 2.0**-30)]
MANY = [(s * 2.0**k, 2.0**m) for s in (1, -1) for k in (10, 14, 17, 18, 20) for m in (-30, 0, 30)]


@pytest.mark.parametrize(("shift", "scale"), FAST)
def test_a_line_written_by_hand(shift: float, scale: float) -> None:
    right = sample(shift, scale)
    res = line.fit({"x": right.x, "y": right.y})
    assert_right(res, "b", right)
    center = right.x.mean()
    found = res.nlcom(lambda p: p["a"] + p["b"] * center)
    assert found.params[0] == pytest.approx(right.at_mean, rel=1e-6)
    assert found.bse[0] == pytest.approx(right.error_at_mean, rel=1e-6)
    assert res.t_test(np.array([[1.0, center, 0.0]])).bse[0] == pytest.approx(right.error_at_mean, rel=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize(("shift", "scale"), MANY)
@pytest.mark.parametrize("order", [[0, 1], [1, 0]])
def test_shifts_scales_and_orders_of_columns(shift: float, scale: float, order: list[int]) -> None:
    right = sample(shift, scale, seed=1)
    X = np.column_stack([right.x, np.ones(N)])[:, order]
    res = columns.fit({"X": X, "y": right.y})
    assert_right(res, f"beta[{order.index(0)}]", right)
    mean = X.mean(axis=0)
    assert res.nlcom(lambda p: p["beta"] @ mean).bse[0] == pytest.approx(right.error_at_mean, rel=1e-6)


@pytest.mark.parametrize("shift", [2.0**20, 2.0**26])
def test_a_design_from_a_formula(shift: float) -> None:
    right = sample(shift, 1.0)
    res = gaussian.regress(mu="x").fit({"x": right.x, "y": right.y})
    assert_right(res, "mu[x]", right)
    assert "collinear" not in res.verdict.statement
    found = res.predict({"x": [right.x.mean()]})
    assert found["estimate"].iloc[0] == pytest.approx(right.at_mean, rel=1e-6)
    assert found["std_error"].iloc[0] == pytest.approx(right.error_at_mean, rel=1e-6)


def test_a_saved_result_keeps_the_digits(tmp_path: Any) -> None:
    right = sample(2.0**20, 1.0)
    reg = gaussian.regress(mu="x")
    reg.fit({"x": right.x, "y": right.y}).save(tmp_path / "line.json")
    again = mle.load(tmp_path / "line.json", model=reg)
    assert again.predict({"x": [right.x.mean()]})["std_error"].iloc[0] == pytest.approx(right.error_at_mean, rel=1e-6)
    assert again.with_cov("nonrobust").bse["mu[x]"] == pytest.approx(right.error, rel=1e-6)


@pytest.mark.parametrize(("shift", "scale"), [(2.0**20, 1.0), (2.0**20, 2.0**-30), (0.0, 2.0**30)])
def test_check_finds_nothing_wrong_with_shifts_and_scales(shift: float, scale: float) -> None:
    right = sample(shift, scale)
    assert not line.check({"x": right.x, "y": right.y}).findings


def test_robust_errors_are_those_of_the_centred_column() -> None:
    right, centred = sample(2.0**20, 1.0), sample(0.0, 1.0)
    far, near = (line.fit({"x": s.x, "y": s.y}, cov_type="HC1") for s in (right, centred))
    np.testing.assert_allclose(far.bse[["b", "sigma"]], near.bse[["b", "sigma"]], rtol=1e-6)


def test_each_data_set_of_a_batch() -> None:
    each = [sample(shift, scale, seed) for seed, (shift, scale) in enumerate([(0.0, 1.0), *FAST])]
    res = line.fit_batch({"x": np.stack([s.x for s in each]), "y": np.stack([s.y for s in each])})
    for i, right in enumerate(each):
        assert res[i].verdict.code == "verified"
        np.testing.assert_allclose(
            [res.params["b"].iloc[i], res.bse["b"].iloc[i]], [right.slope, right.error], rtol=1e-6
        )
        assert_right(res[i], "b", right)


@pytest.mark.parametrize("apart", [1e-6, 1e-8])
def test_columns_that_differ_by_little_are_told_apart(apart: float) -> None:
    """(1, x, x + h e) spans what (1, x, e) spans: coefficients and errors by least squares on the latter."""
    rng = np.random.default_rng(3)
    x = rng.normal(size=200)
    X = np.column_stack([np.ones(200), x, x + apart * rng.normal(size=200)])
    y = x + rng.normal(size=200)
    res = columns.fit({"X": X, "y": y})
    Z = np.column_stack([X[:, :2], (X[:, 2] - X[:, 1]) / apart])
    b = np.linalg.lstsq(Z, y, rcond=None)[0]
    error = np.sqrt(np.mean((y - Z @ b) ** 2) * np.diag(np.linalg.inv(Z.T @ Z)))
    assert res.verdict.code == "verified"
    assert res.params["beta[2]"] * apart == pytest.approx(b[2], rel=1e-6)
    assert res.bse["beta[2]"] * apart == pytest.approx(error[2], rel=1e-6)
    both = res.nlcom(lambda p: p["beta"][1] + p["beta"][2])
    assert both.bse[0] == pytest.approx(error[1], rel=1e-6)


def test_collinear_columns_far_from_0_are_still_not_identified() -> None:
    right = sample(2.0**20, 1.0)
    X = np.column_stack([np.ones(N), right.x, 2.0 * right.x - 3.0])
    with pytest.warns(mle.ConvergenceWarning):
        res = columns.fit({"X": X, "y": right.y})
    assert res.verdict.code == "not_identified"
    assert "beta[2]" in res.verdict.statement


@pytest.mark.parametrize("shift", [0.0, pytest.param(2.0**17, marks=pytest.mark.slow)])
def test_separated_data_have_no_maximum_at_any_shift(shift: float) -> None:
    x = shift + np.arange(20.0)
    with pytest.warns(mle.ConvergenceWarning):
        res = bernoulli.regress(p="x").fit({"x": x, "y": (x > shift + 9.5) * 1.0})
    assert res.verdict.code == "no_finite_maximum"
    assert res.verdict.evidence["supremum"] == pytest.approx(0.0, abs=1e-2)


@pytest.mark.parametrize("kind", ["nonrobust", pytest.param("HC0", marks=pytest.mark.slow)])
def test_cutpoints_take_up_the_shift_of_a_covariate(kind: Any) -> None:
    """The cutpoints at x are c - b x, with the errors of the centred fit; those of c itself are far larger."""
    rng = np.random.default_rng(11)
    z = np.round(rng.normal(size=150) * 2**12) / 2**12
    grade = np.digitize(0.8 * z + rng.logistic(size=150), [-0.5, 1.0])
    base = grades.fit({"x": z, "grade": grade}, cov_type=kind)
    for shift, scale in ((2.0**20, 1.0), (-(2.0**17), 2.0**-30)):
        res = grades.fit({"x": (z + shift) * scale, "grade": grade}, cov_type=kind)
        assert res.verdict.code == "verified"
        assert res.params["b"] * scale == pytest.approx(base.params["b"], rel=1e-6)
        assert res.bse["b"] * scale == pytest.approx(base.bse["b"], rel=1e-6)
        found = res.nlcom(lambda p, at=shift * scale: p["c"] - p["b"] * at)
        np.testing.assert_allclose(found.params, base.params[["c[0]", "c[1]"]], rtol=1e-6)
        np.testing.assert_allclose(found.bse, base.bse[["c[0]", "c[1]"]], rtol=1e-6)


@pytest.mark.parametrize("kind", ["jeffreys", "empirical"])
def test_bias_reduction_in_any_units(kind: Any) -> None:
    rng = np.random.default_rng(0)
    z = np.round(10.0 * rng.normal(size=60) * 2**10) / 2**10
    y = (rng.uniform(size=60) < 1.0 / (1.0 + np.exp(-z / 10.0))) * 1.0
    model = bernoulli.regress(p="x")
    base = model.fit({"x": z, "y": y}, bias_reduction=kind)
    assert base.verdict.code == "verified"
    for shift, scale in ((0.0, 2.0**20), (2.0**20, 1.0), (50.0, 2.0**-30)):
        res = model.fit({"x": (shift + z) * scale, "y": y}, bias_reduction=kind)
        assert res.verdict.code == "verified"
        assert res.params["p[x]"] * scale == pytest.approx(base.params["p[x]"], rel=1e-6)
        assert res.bse["p[x]"] * scale == pytest.approx(base.bse["p[x]"], rel=1e-6)
        assert res.llf == pytest.approx(base.llf, rel=1e-9)
