"""Refits of one data set under many weight vectors, on which resampling is built."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import mlejax as mle
from mlejax import optimize
from mlejax.batch import budget, one_step, refit, row_derivatives
from mlejax.status import End
from tests.batch.test_fit_batch import START, logit, logits

LIMITS = budget(None, False)


@pytest.fixture(scope="module")
def fitted() -> Any:
    data = {k: v[0] for k, v in logits(1, 150, seed=4).items()}
    return logit.fit(data, START)


def weights(n_refits: int, n: int) -> np.ndarray:
    return np.random.default_rng(0).multinomial(n, np.full(n, 1 / n), size=n_refits).astype(float)


def test_refits_equal_weighted_fits(fitted: Any) -> None:
    fit = fitted._fit
    w = weights(70, 150)
    done = refit(fit.spec, optimize.Newton(), fit.loaded.problem.data, w, 70, fit.u, None, LIMITS)
    assert done.clean.all()
    data = {k: v[0] for k, v in logits(1, 150, seed=4).items()}
    for i in (0, 33, 69):
        one = logit.fit(data, START, weights=w[i], weight_kind="frequency")
        assert done.llf[i] == pytest.approx(one.llf, rel=1e-10)
        np.testing.assert_allclose(done.params["beta"][i], one.params, atol=1e-7 * one.bse.min())
    streamed = refit(
        fit.spec,
        optimize.Newton(),
        fit.loaded.problem.data,
        lambda which: w[which],
        70,
        fit.u,
        None,
        budget(300_000, False),
    )
    np.testing.assert_allclose(streamed.u, done.u, rtol=1e-12, atol=1e-14)


def test_one_step_is_near_and_exact_for_a_quadratic(fitted: Any) -> None:
    fit = fitted._fit
    w = weights(40, 150)
    data = fit.loaded.problem.data
    near = one_step(fit.spec, fit.u, data, w, None)
    exact = refit(fit.spec, optimize.Newton(), data, w, 40, fit.u, None, LIMITS)
    assert near.clean.all()
    gap = np.abs(near.u - exact.u).mean()
    assert 0 < gap < 0.3 * np.abs(exact.u - fit.u).mean()
    scores, hessians = row_derivatives(fit.spec, fit.u, data, None)
    np.testing.assert_allclose(scores.sum(axis=0), 0.0, atol=1e-9)
    np.testing.assert_allclose(hessians.sum(axis=0), fitted.information, rtol=1e-10)

    @mle.model(mu=mle.Real())
    def quadratic(params: Any, data: Any) -> Any:
        return -0.5 * (data["y"] - params["mu"]) ** 2

    y = np.random.default_rng(1).normal(3, 1, 30)
    res = quadratic.fit({"y": y}, {"mu": 0.0})
    w = weights(5, 30)
    step = one_step(res._fit.spec, res._fit.u, res._fit.loaded.problem.data, w, None)
    np.testing.assert_allclose(step.u[:, 0], w @ y / 30, rtol=1e-12)


def test_a_row_of_weight_zero_that_is_outside_the_support_does_no_harm() -> None:
    """y <= upper: leaving out the largest row lets the estimate of the end move below it."""

    @mle.model(gap=mle.Positive())
    def beta_like(params: Any, data: Any) -> Any:
        end = 1.0 + params["gap"]
        return jnp.log(3.0) + 2.0 * jnp.log(end - data["y"]) - 3.0 * jnp.log(end)

    y = np.sort(np.random.default_rng(2).uniform(0.0, 1.0, 40))
    y = np.append(y, 1.5)
    res = beta_like.fit({"y": y}, {"gap": 2.0})
    w = np.ones((2, 41))
    w[1, -1] = 0.0
    fit = res._fit
    done = refit(fit.spec, optimize.Newton(), fit.loaded.problem.data, w, 2, fit.u, None, LIMITS)
    alone = beta_like.fit({"y": y[:-1]}, {"gap": 2.0})
    assert done.end[1] == End.CONVERGED
    assert done.params["gap"][1] == pytest.approx(alone.params["gap"], rel=1e-7)
    assert done.llf[1] == pytest.approx(alone.llf, rel=1e-10)
    assert jax.config.jax_enable_x64 is False


def test_a_refit_that_starts_at_its_maximum_is_clean(fitted: Any) -> None:
    """A resample that happens to hold every row once has no decrements that could fall."""
    fit = fitted._fit
    w = np.stack([np.ones(150), weights(1, 150)[0]])
    done = refit(fit.spec, optimize.Newton(), fit.loaded.problem.data, w, 2, fit.u, None, LIMITS)
    assert done.clean.all()
    np.testing.assert_allclose(done.u[0], fit.u, rtol=1e-9)


@mle.model(b=mle.Real(columns="X"), g=mle.Real(columns="Z"))
def spread(params: Any, data: Any) -> Any:
    """A location with three coefficients and the logarithm of a scale with two."""
    location, log_scale = data["X"] @ params["b"], data["Z"] @ params["g"]
    return -log_scale - 0.5 * jnp.exp(-2.0 * log_scale) * (data["y"] - location) ** 2


@pytest.mark.parametrize("regressed", [False, True])
def test_refits_through_two_predictors_equal_weighted_fits(regressed: bool) -> None:
    """Their rows are common to all refits: the sums over rows are one product of matrices, of columns that differ."""
    rng = np.random.default_rng(6)
    X = np.column_stack([np.ones(120), rng.normal(size=(120, 2))])
    Z = X[:, [0, 2]] * [1.0, 0.5]
    y = X @ [1.0, 0.5, -0.5] + np.exp(Z @ [0.1, 0.4]) * rng.normal(size=120)
    data: dict[str, np.ndarray] = {"X": X, "Z": Z, "y": y}
    model: Any = spread
    if regressed:

        @mle.model(mu=mle.Real(), sigma=mle.Positive())
        def gaussian(params: Any, data: Any) -> Any:
            return -jnp.log(params["sigma"]) - 0.5 * ((data["y"] - params["mu"]) / params["sigma"]) ** 2

        model = gaussian.regress(mu="X", sigma="Z")
    fit = model.fit(data)._fit
    w = weights(20, 120)
    done = refit(fit.spec, optimize.Newton(), fit.loaded.problem.data, w, 20, fit.u, None, LIMITS)
    assert done.clean.all()
    for i in (0, 7, 19):
        one = model.fit(data, weights=w[i], weight_kind="frequency")
        assert done.llf[i] == pytest.approx(one.llf, rel=1e-10)
        np.testing.assert_allclose(done.theta[i], one.params, atol=1e-7 * one.bse.min())


def test_products_of_common_columns_are_those_of_each_alone() -> None:
    from mlejax.objective.derivatives import products_of_shared

    rng = np.random.default_rng(0)
    w, x, y = rng.normal(size=(6, 50)), rng.normal(size=(50, 4)), rng.normal(size=(50, 3))
    with jax.enable_x64(True):
        for left, right in ((x, x), (x, y), (y, x), (x, x.copy())):
            a, b = jnp.asarray(left), jnp.asarray(right)
            b = a if right is left else b
            found = jax.jit(jax.vmap(lambda v, a=a, b=b: products_of_shared(a, v, b)))(jnp.asarray(w))
            np.testing.assert_allclose(found, np.einsum("ni,ln,nj->lij", left, w, right), rtol=1e-11, atol=1e-12)
