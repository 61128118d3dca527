"""Refits of one data set under many weight vectors, on which resampling is built."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import mlejax as mle
from mlejax import optimize
from mlejax.batch import limits, one_step, refit, row_derivatives
from mlejax.status import End
from tests.batch.test_fit_batch import START, logit, logits

LIMITS = limits(None, False)


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
        lambda lanes: w[lanes],
        70,
        fit.u,
        None,
        limits(300_000, False),
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
