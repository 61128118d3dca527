"""The pure core under jit, vmap and grad: implicit derivatives against closed forms and refits, and its precision."""

from __future__ import annotations

import warnings
from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import mlejax as mle
from tests.zoo import FAMILY, GAUSSIAN, REGRESSION, truth

DATA = GAUSSIAN.make(11)
Y = DATA["y"]
N = Y.size
BEST = truth(GAUSSIAN, DATA)
MU, SIGMA = BEST.params["mu"], BEST.params["sigma"]
PREPARED = GAUSSIAN.plain.prepare(DATA)
START = {"mu": 0.5, "sigma": 1.0}


def solve(**options: Any) -> mle.Solution:
    return mle.solve(GAUSSIAN.plain, PREPARED, START, **options)


def with_y(y: Any) -> mle.Problem:
    """The problem with other responses in the real rows; the padded rows have weight 0."""
    (rows,) = PREPARED.data.rows
    return replace(PREPARED, data=replace(PREPARED.data, rows=(jnp.asarray(rows).at[:N].set(y),)))


def estimate_of_y(y: Any) -> Any:
    params = mle.solve(GAUSSIAN.plain, with_y(y), START).params
    return jnp.stack([params["mu"], params["sigma"]])


@pytest.mark.parametrize("mode", ["forward", "reverse"])
def test_derivatives_by_the_data(mode: str) -> None:
    """d mu / d y_i = 1/n and d sigma / d y_i = (y_i - mu) / (n sigma)."""
    derivative = jax.jacfwd if mode == "forward" else jax.jacrev
    with jax.enable_x64(True):
        got = np.asarray(jax.jit(derivative(estimate_of_y))(Y))
    np.testing.assert_allclose(got[0], np.full(N, 1 / N), rtol=1e-8)
    np.testing.assert_allclose(got[1], (Y - MU) / (N * SIGMA), rtol=1e-7, atol=1e-12)


@pytest.mark.parametrize("mode", ["forward", "reverse"])
def test_derivatives_by_the_weights_are_influences(mode: str) -> None:
    """d theta / d w_i = I^-1 s_i at weights of 1."""
    derivative = jax.jacfwd if mode == "forward" else jax.jacrev
    with jax.enable_x64(True):
        got = np.asarray(jax.jit(derivative(lambda w: solve(weights=w).theta))(np.ones(N)))
    want = np.linalg.solve(BEST.information, BEST.scores.T)
    np.testing.assert_allclose(got, want, rtol=1e-7, atol=1e-11)


def test_weights_are_frequencies() -> None:
    """Integer weights, 0 among them, give the estimates of the rows repeated so many times."""
    counts = np.random.default_rng(1).integers(0, 4, N).astype(float)
    repeated = np.repeat(Y, counts.astype(int))
    with jax.enable_x64(True):
        found = jax.jit(lambda w: solve(weights=w))(counts)
    assert float(found.params["mu"]) == pytest.approx(repeated.mean(), rel=1e-9)
    assert float(found.params["sigma"]) == pytest.approx(repeated.std(), rel=1e-9)
    want = truth(GAUSSIAN, {**DATA, "y": repeated})
    assert float(found.llf) == pytest.approx(want.llf, rel=1e-12)
    np.testing.assert_allclose(found.information, want.information, rtol=1e-8, atol=1e-6)


def test_a_row_of_weight_zero_may_be_outside_the_support() -> None:
    """Its -inf never meets the 0: neither estimates nor derivatives become NaN."""

    @mle.model(rate=mle.Positive())
    def exponential(params: Any, data: Any) -> Any:
        return jnp.log(params["rate"]) - params["rate"] * jnp.exp(jnp.log(data["t"]))

    t = np.array([1.0, -1.0, 2.0, 6.0])
    with jax.enable_x64(True):
        prepared = exponential.prepare({"t": t})
        weights = np.array([1.0, 0.0, 1.0, 1.0])
        value, slope = jax.jit(
            jax.value_and_grad(lambda w: mle.solve(exponential, prepared, {"rate": 1.0}, weights=w).params["rate"])
        )(weights)
    assert float(value) == pytest.approx(1 / 3, rel=1e-9)
    assert np.isfinite(slope).all()
    # rate = sum w / sum w t
    np.testing.assert_allclose(np.asarray(slope)[[0, 2, 3]], 1 / 9 - t[[0, 2, 3]] * 3 / 81, rtol=1e-8)


def test_derivatives_by_a_fixed_value() -> None:
    """sigma(mu) = root mean square about mu: first and second derivative, and differences of refits."""

    def sigma(mu: Any) -> Any:
        return solve(fixed={"mu": mu}).params["sigma"]

    at = 0.9
    want = np.sqrt(np.mean((Y - at) ** 2))
    first = -np.mean(Y - at) / want
    with jax.enable_x64(True):
        value, slope = jax.jit(jax.value_and_grad(sigma))(at)
        forward = jax.jit(jax.jacfwd(sigma))(at)
        curvature = jax.jit(jax.grad(jax.grad(sigma)))(at)
    assert float(value) == pytest.approx(want, rel=1e-9)
    assert float(slope) == pytest.approx(first, rel=1e-8)
    assert float(forward) == pytest.approx(first, rel=1e-8)
    assert float(curvature) == pytest.approx((1 - first**2) / want, rel=1e-7)
    step = 1e-4
    up, down = (GAUSSIAN.plain.fit(DATA, start=START, fixed={"mu": at + s}).params["sigma"] for s in (step, -step))
    assert float(slope) == pytest.approx((up - down) / (2 * step), rel=1e-6)


def test_the_profile_has_no_first_order_slope() -> None:
    """The maximised log-likelihood differentiated by a fixed value is the partial derivative (envelope theorem)."""
    with jax.enable_x64(True):
        slope = jax.jit(jax.grad(lambda mu: solve(fixed={"mu": mu}).llf))(0.9)
    held = truth(GAUSSIAN, DATA, {"mu": 0.9})
    want = GAUSSIAN.scores(held.params, DATA)[:, 0].sum()
    assert float(slope) == pytest.approx(want, rel=1e-8)


def test_second_derivatives_by_weights() -> None:
    """mu(t) with weights 1 + t v is sum (1 + t v) y / sum (1 + t v)."""
    v = np.random.default_rng(2).random(N)

    def mu(t: Any) -> Any:
        return solve(weights=1.0 + t * v).params["mu"]

    with jax.enable_x64(True):
        second = jax.jit(jax.grad(jax.grad(mu)))(0.0)
        mixed = jax.jit(jax.jacfwd(jax.grad(mu)))(0.0)
    slope = v @ (Y - MU) / N
    want = -2 * slope * v.sum() / N
    assert float(second) == pytest.approx(want, rel=1e-7)
    assert float(mixed) == pytest.approx(want, rel=1e-7)


def test_derivatives_are_conditional_on_an_edge() -> None:
    """On its edge a parameter does not move; the others move as if it were held there."""
    variant = FAMILY.bounded[0]
    data = variant.shift(FAMILY.make(5))
    prepared = FAMILY.plain.prepare(data)
    with jax.enable_x64(True):
        got = jax.jit(jax.jacrev(lambda w: mle.solve(FAMILY.plain, prepared, FAMILY.start, weights=w).theta))(
            np.ones(24)
        )
    want = truth(FAMILY, data, edge=variant.edge)
    free = want.open
    np.testing.assert_array_equal(np.asarray(got)[~free], 0.0)
    inverse = np.linalg.inv(want.information[np.ix_(free, free)])
    np.testing.assert_allclose(np.asarray(got)[free], inverse @ want.scores[:, free].T, rtol=1e-6, atol=1e-9)


def test_derivatives_are_nan_where_the_information_fails() -> None:
    data = REGRESSION.make(11)
    collinear = {**data, "X": data["X"][:, [0, 1, 1]]}
    prepared = REGRESSION.plain.prepare(collinear)
    with jax.enable_x64(True):
        value, slope = jax.jit(
            jax.value_and_grad(
                lambda w: mle.solve(REGRESSION.plain, prepared, REGRESSION.start, weights=w).params["beta"][1]
            )
        )(np.ones(61))
    assert np.isfinite(value)
    assert np.isnan(slope).all(), "a derivative of something that the data do not determine"


def test_vmap_over_fixed_values_is_a_profile() -> None:
    grid = np.linspace(0.5, 2.5, 5)
    with jax.enable_x64(True):
        found = jax.jit(jax.vmap(lambda mu: solve(fixed={"mu": mu})))(grid)
    want = [truth(GAUSSIAN, DATA, {"mu": mu}) for mu in grid]
    np.testing.assert_allclose(found.llf, [w.llf for w in want], rtol=1e-12)
    np.testing.assert_allclose(found.params["sigma"], [w.params["sigma"] for w in want], rtol=1e-8)
    np.testing.assert_allclose(found.params["mu"], grid)
    assert found.theta.shape == (5, 1)
    assert found.information.shape == (5, 1, 1)


def test_penalty_and_its_strength() -> None:
    """A ridge on mu with sigma held: mu = sum(y) / (n + 2 h sigma^2), differentiable in h; llf leaves it out."""

    def mu(h: Any) -> Any:
        return solve(fixed={"sigma": 1.3}, hyper=h, penalty=lambda p, h: h * p["mu"] ** 2)

    h, s2 = 4.0, 1.3**2
    want = Y.sum() / (N + 2 * h * s2)
    with jax.enable_x64(True):
        found = jax.jit(mu)(h)
        slope = jax.jit(jax.grad(lambda h: mu(h).params["mu"]))(h)
    assert float(found.params["mu"]) == pytest.approx(want, rel=1e-9)
    assert float(slope) == pytest.approx(-2 * s2 * want / (N + 2 * h * s2), rel=1e-8)
    llf = np.sum(GAUSSIAN.loglik({"mu": want, "sigma": 1.3}, DATA))
    assert float(found.llf) == pytest.approx(llf, rel=1e-12)


def test_precision_follows_the_surroundings() -> None:
    def estimate(problem: mle.Problem) -> mle.Solution:
        return mle.solve(GAUSSIAN.plain, problem, START)

    assert not jax.config.jax_enable_x64
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        single = jax.jit(estimate)(PREPARED)
    assert {np.asarray(a).dtype for a in (single.theta, single.llf, single.information)} == {np.dtype("float32")}
    assert float(single.params["mu"]) == pytest.approx(MU, rel=1e-4)
    with jax.enable_x64(True):
        double = jax.jit(estimate)(PREPARED)
    assert {np.asarray(a).dtype for a in (double.theta, double.llf, double.information)} == {np.dtype("float64")}
    assert float(double.params["mu"]) == pytest.approx(MU, rel=1e-10)


def test_a_fit_leaves_the_global_precision_alone() -> None:
    before = jax.config.jax_enable_x64
    inside: list[bool] = []

    @mle.model(mu=mle.Real())
    def spying(params: Any, data: Any) -> Any:
        inside.append(data["y"].dtype == jnp.float64 and params["mu"].dtype == jnp.float64)
        return -((data["y"] - params["mu"]) ** 2)

    res = spying.fit({"y": Y.astype(np.float32)}, start={"mu": 0.0})
    assert inside
    assert all(inside)
    assert jax.config.jax_enable_x64 is before
    assert jnp.ones(2).dtype == (jnp.float64 if before else jnp.float32)
    for value in (res.params.to_numpy(), res.params_tree["mu"], res.cov_params().to_numpy(), res.score_obs.to_numpy()):
        assert isinstance(value, (np.ndarray, np.float64))
        assert value.dtype == np.float64
    assert type(res.llf) is float


@pytest.mark.parametrize("transform", ["jit", "vmap", "grad"])
def test_fit_on_tracers_is_refused(transform: str) -> None:
    def llf(y: Any) -> Any:
        return GAUSSIAN.plain.fit({"y": y}, start=START).llf

    wrapped = {"jit": jax.jit(llf), "vmap": jax.vmap(llf), "grad": jax.grad(llf)}[transform]
    argument = np.stack([Y, Y]).astype(np.float32) if transform == "vmap" else Y.astype(np.float32)
    with pytest.raises(TypeError, match=r"(?s)tracers.*mle\.solve"):
        wrapped(argument)


def test_misuse_of_solve() -> None:
    with jax.enable_x64(True):
        with pytest.raises(ValueError, match="unknown method 'newtn'"):
            solve(method="newtn")
        with pytest.raises(ValueError, match="no parameter 'sgma'"):
            solve(fixed={"sgma": 1.0})
        with pytest.raises(ValueError, match="weights: expected one per row or unit"):
            solve(weights=np.ones(500))
        with pytest.raises(ValueError, match=r"missing: \['sigma'\]"):
            mle.solve(GAUSSIAN.plain, PREPARED, {"mu": 0.0})
        with pytest.raises(TypeError, match=r"expected the data as model.prepare\(data\) returns them, got dict"):
            mle.solve(GAUSSIAN.plain, {"y": Y}, START)  # type: ignore[arg-type]


def test_fit_of_concrete_data_inside_a_transformation_is_refused_clearly() -> None:
    with pytest.raises(TypeError, match=r"mle\.solve"):
        jax.jit(lambda x: x + GAUSSIAN.plain.fit(DATA, start=START).llf)(1.0)


def test_vmap_over_data_sets_without_jit() -> None:
    """The start is concrete, the data are traced; the mean and the standard deviation are known."""

    @mle.model(mu=mle.Real(), sigma=mle.Positive())
    def gaussian(params, data):
        return -0.5 * ((data["y"] - params["mu"]) / params["sigma"]) ** 2 - jnp.log(params["sigma"])

    y = np.random.default_rng(0).normal(1.0, 2.0, (7, 50))
    with jax.enable_x64(True):
        stacked = jax.tree.map(lambda *a: jnp.stack(a), *[gaussian.prepare({"y": row}) for row in y])
        found = jax.vmap(lambda one: mle.solve(gaussian, one, {"mu": 0.0, "sigma": 1.0}).theta)(stacked)
    np.testing.assert_allclose(found, np.stack([y.mean(axis=1), y.std(axis=1)], axis=1), rtol=1e-9)
