"""Several data sets with parameters in common, against closed forms and the fit of all rows at once."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest
from jax.scipy.stats import norm, poisson

import mlejax as mle


@mle.model(mu=mle.Real(), sigma=mle.Positive())
def gaussian(params: Any, data: Any) -> Any:
    return norm.logpdf(data["y"], params["mu"], params["sigma"])


@mle.model(rate=mle.Positive())
def counts(params: Any, data: Any) -> Any:
    return poisson.logpmf(data["k"], params["rate"])


@mle.model(mu=mle.Real(), sigma=mle.Positive(), unit="g")
def by_unit(params: Any, data: Any) -> Any:
    return jnp.sum(jnp.where(data["mask"], norm.logpdf(data["y"], params["mu"], params["sigma"]), 0.0))


@pytest.fixture(scope="module")
def sets() -> tuple[pd.DataFrame, pd.DataFrame]:
    rng = np.random.default_rng(0)
    made = []
    for n, sd in ((40, 1.0), (60, 3.0)):
        x = rng.normal(size=n)
        made.append(pd.DataFrame({"x": x, "y": 1 + 2 * x + sd * rng.normal(size=n), "g": np.arange(n) % 7}))
    return made[0], made[1]


def test_one_regression_with_two_variances(sets: tuple[pd.DataFrame, pd.DataFrame]) -> None:
    """Weighted least squares iterated by hand; the information is a block for the coefficients and one for each sigma."""
    X = [np.column_stack([np.ones(len(d)), d["x"]]) for d in sets]
    y = [d["y"].to_numpy() for d in sets]
    variance = np.ones(2)
    for _ in range(200):
        A = sum(x.T @ x / v for x, v in zip(X, variance, strict=True))
        b = np.linalg.solve(A, sum(x.T @ z / v for x, z, v in zip(X, y, variance, strict=True)))
        variance = np.array([np.mean((z - x @ b) ** 2) for x, z in zip(X, y, strict=True)])
    reg = gaussian.regress(mu="x")
    res = mle.joint([reg, reg], shared="mu").fit(list(sets))
    assert list(res.params.index) == ["mu[Intercept]", "mu[x]", "sigma_1", "sigma_2"]
    np.testing.assert_allclose(res.params, [*b, *np.sqrt(variance)], rtol=1e-7)
    C = [-2 * x.T @ (z - x @ b) / v**1.5 for x, z, v in zip(X, y, variance, strict=True)]  # observed, not expected
    information = np.block([
        [A, -C[0][:, None], -C[1][:, None]],
        [-C[0][None], np.array([[2 * len(y[0]) / variance[0], 0]])],
        [-C[1][None], np.array([[0, 2 * len(y[1]) / variance[1]]])],
    ])  # fmt: skip
    np.testing.assert_allclose(res.bse, np.sqrt(np.diag(np.linalg.inv(information))), rtol=1e-6)
    assert (res.nobs, res.converged) == (100, True)


def test_all_in_common_is_the_fit_of_all_rows(sets: tuple[pd.DataFrame, pd.DataFrame]) -> None:
    """Estimates, robust and clustered errors, weights; rows as units too."""
    reg, everything = gaussian.regress(mu="x"), pd.concat(sets, ignore_index=True)
    both = mle.joint([reg, reg], shared=["mu", "sigma"])
    groups = everything["g"].to_numpy()
    for options in ({"cov_type": "HC1"}, {"cov_type": "cluster", "cov_kwds": {"groups": groups}}):
        one, all_ = both.fit(list(sets), **options), reg.fit(everything, **options)
        np.testing.assert_allclose([one.params, one.bse], [all_.params, all_.bse], rtol=1e-7)
    w = 1 + np.arange(100) % 3
    one = both.fit(list(sets), weights=[w[:40], w[40:]], weight_kind="frequency")
    all_ = reg.fit(everything, weights=w, weight_kind="frequency")
    np.testing.assert_allclose([one.llf, *one.bse], [all_.llf, *all_.bse], rtol=1e-7)


def test_units_beside_rows(sets: tuple[pd.DataFrame, pd.DataFrame]) -> None:
    res = mle.joint([by_unit, gaussian], shared=["mu", "sigma"]).fit(list(sets))
    y = np.concatenate([d["y"] for d in sets])
    np.testing.assert_allclose(res.params, [y.mean(), y.std()], rtol=1e-7)
    np.testing.assert_allclose(res.bse, [y.std() / 10, y.std() / np.sqrt(200)], rtol=1e-6)
    assert res.n_units == 67


def test_single_coefficients_are_bound_by_constraints(sets: tuple[pd.DataFrame, pd.DataFrame]) -> None:
    """Two intercepts, one slope, one sigma: least squares with a dummy."""
    reg = gaussian.regress(mu="x")
    res = mle.joint([reg, reg], shared="sigma").fit(list(sets), constraints="mu_1[x] = mu_2[x]")
    rows = pd.concat(sets, ignore_index=True)
    X = np.column_stack([np.arange(100) < 40, np.arange(100) >= 40, rows["x"]]).astype(float)
    b = np.linalg.lstsq(X, rows["y"], rcond=None)[0]
    np.testing.assert_allclose(
        res.params[["mu_1[Intercept]", "mu_2[Intercept]", "mu_1[x]", "mu_2[x]"]], [b[0], b[1], b[2], b[2]], rtol=1e-6
    )


def test_what_joint_refuses(sets: tuple[pd.DataFrame, pd.DataFrame]) -> None:
    reg = gaussian.regress(mu="x")
    with pytest.raises(ValueError, match="shared='nu': expected a parameter of two models or more"):
        mle.joint([reg, reg], shared="nu").fit(list(sets))
    with pytest.raises(
        ValueError, match=r"declare it differently \(Coefficients Intercept, x; Real \(\)\).*mu_1\[x\] = mu_2"
    ):
        mle.joint([reg, gaussian], shared="mu").fit(list(sets))
    with pytest.raises(ValueError, match="2 data sets in a list, one for each model, got 1"):
        mle.joint([reg, reg], shared="mu").fit([sets[0]])
    with pytest.raises(ValueError, match="2 data sets in a list, one for each model, got DataFrame"):
        mle.joint([reg, reg], shared="mu").fit(sets[0])  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="got str as number 2"):
        mle.joint([counts, "rate"], shared="rate")  # type: ignore[list-item]
