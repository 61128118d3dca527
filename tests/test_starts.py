"""Starting values: found by the library, given by the user, unusable, or hopeless."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest
from jax.scipy.special import logsumexp
from jax.scipy.stats import norm

import mlejax as mle
from mlejax.data import ingest
from mlejax.fit import starts
from mlejax.fit.closed import to_u
from mlejax.fit.recipe import _plainest
from tests.zoo import FAMILY, GAUSSIAN, REGRESSION, truth

DATA = GAUSSIAN.make(21)


@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e6])
@pytest.mark.parametrize("location", [0.0, 30.0])
def test_no_start_on_any_scale(scale: float, location: float) -> None:
    data = {**DATA, "y": scale * (DATA["y"] + location)}
    res = GAUSSIAN.plain.fit(data)
    want = truth(GAUSSIAN, data)
    assert res.verdict.code == "verified", res.verdict
    np.testing.assert_allclose(res.params, want.values, rtol=1e-8)
    np.testing.assert_allclose(res.bse, np.sqrt(np.diag(want.covariance("nonrobust"))), rtol=1e-8)


def test_no_start_for_a_regression_on_wide_scales() -> None:
    data = REGRESSION.make(21)
    X = data["X"] * np.array([1.0, 1e4, 1e-3])
    scaled = {**data, "X": X, "y": 1e3 * data["y"]}
    res = REGRESSION.plain.fit(scaled)
    want = truth(REGRESSION, scaled)
    assert res.verdict.code == "verified", res.verdict
    np.testing.assert_allclose(res.params, want.values, rtol=1e-7)


def test_no_start_for_units_and_a_closed_support() -> None:
    data = FAMILY.make(21)
    res = FAMILY.plain.fit(data)
    assert res.verdict.code == "verified"
    np.testing.assert_allclose(res.params, truth(FAMILY, data).values, rtol=1e-8)


def test_a_start_at_the_maximum_is_the_maximum() -> None:
    """No step to learn from: the verdict has to come from the curvature there."""
    best = truth(GAUSSIAN, DATA)
    res = GAUSSIAN.plain.fit(DATA, start=best.params)
    assert res.verdict.code == "verified", res.verdict
    np.testing.assert_allclose(res.params, best.values, rtol=1e-12)
    again = GAUSSIAN.plain.fit(DATA, start=res.params_tree)
    assert again.verdict.code == "verified"
    np.testing.assert_allclose(again.bse, res.bse, rtol=1e-10)


def test_components_of_a_mixture_start_apart() -> None:
    """Equal components are a saddle; without a start the fit has to end with two different ones."""

    @mle.model(share=mle.Interval(0, 1), mu=mle.Real(2), sigma=mle.Positive(2))
    def mixture(params: Any, data: Any) -> Any:
        parts = norm.logpdf(data["y"][:, None], params["mu"], params["sigma"])
        return logsumexp(parts + jnp.log(jnp.stack([params["share"], 1 - params["share"]])), axis=1)

    rng = np.random.default_rng(4)
    first = rng.random(300) < 0.35
    y = np.where(first, rng.normal(-2.0, 0.8, 300), rng.normal(3.0, 1.1, 300))
    res = mixture.fit({"y": y})
    assert res.verdict.code == "verified", res.verdict
    order = np.argsort(res.params_tree["mu"])
    mu, sigma = res.params_tree["mu"][order], res.params_tree["sigma"][order]
    share = res.params["share"] if order[0] == 0 else 1 - res.params["share"]
    # the components hardly overlap: their own moments, to a few standard errors
    for i, part in enumerate((y[first], y[~first])):
        error = part.std() / np.sqrt(part.size)
        assert abs(mu[i] - part.mean()) < 3 * error
        assert abs(sigma[i] - part.std()) < 3 * error
    assert share == pytest.approx(first.mean(), abs=0.03)


def test_a_start_that_is_not_finite_is_left_and_said() -> None:
    """sigma = 1e-200 is in the support, but the log-likelihood there is -inf."""
    res = GAUSSIAN.plain.fit(DATA, start={"mu": 0.0, "sigma": 1e-200})
    assert res.verdict.code == "verified"
    np.testing.assert_allclose(res.params, truth(GAUSSIAN, DATA).values, rtol=1e-8)
    assert "start was not usable" in " ".join(str(res.summary()).split())


def test_no_finite_point_names_the_rows() -> None:
    @mle.model(mu=mle.Real())
    def impossible(params: Any, data: Any) -> Any:
        return -((data["y"] - params["mu"]) ** 2) + jnp.log(data["x"])

    y = DATA["y"][:20]
    x = np.ones(20)
    x[[4, 11]] = -1.0
    with pytest.warns(mle.ConvergenceWarning, match="not_computable"):
        res = impossible.fit({"y": y, "x": x})
    assert res.verdict.code == "not_computable"
    assert not res.converged
    assert "2 of 20" in res.verdict.statement
    assert "rows 4, 11" in res.verdict.statement
    assert res.bse.isna().all()
    assert res.conf_int().isna().all().all()


def test_a_score_that_is_not_finite_names_rows_and_parameters() -> None:
    """The classic jnp.where whose unused branch has no derivative."""

    @mle.model(mu=mle.Real(), power=mle.Real())
    def careless(params: Any, data: Any) -> Any:
        x = data["x"]
        bent = jnp.where(x > 0, jnp.sqrt(x * jnp.exp(params["power"])), 0.0)
        return norm.logpdf(data["y"], params["mu"] + bent, 1.0)

    rng = np.random.default_rng(0)
    x = rng.random(20)
    x[7] = 0.0
    with pytest.warns(mle.ConvergenceWarning, match="not_computable"):
        res = careless.fit({"y": rng.normal(size=20), "x": x}, start={"mu": 0.0, "power": 0.0})
    statement = res.verdict.statement
    assert "finite but its score is not" in statement
    assert "rows 7" in statement
    assert "power" in statement
    assert res.bse.isna().all()


def test_partial_starts_by_name_and_address() -> None:
    data = REGRESSION.make(21)
    want = truth(REGRESSION, data)
    for start in ({"sigma": 2.0}, {"beta[1]": -1.0}, {"beta": [0.0, -1.0, 0.0], "sigma": 1.0}):
        res = REGRESSION.plain.fit(data, start=start)
        assert res.verdict.code == "verified"
        np.testing.assert_allclose(res.params, want.values, rtol=1e-8)


@pytest.mark.parametrize(
    ("start", "message"),
    [
        ({"sigma": -1.0}, "sigma is declared Positive"),
        ({"mu": np.zeros(2)}, r"mu: expected shape \(\), got \(2,\)"),
        ({"mu": "high"}, "mu: expected numbers"),
        ({"mo": 1.0}, "no parameter 'mo' .did you mean mu"),
        ({"mu": np.nan}, "mu is declared Real"),
        (3.0, "start= expected a dict of parameters"),
    ],
)
def test_wrong_starts(start: Any, message: str) -> None:
    with pytest.raises((ValueError, TypeError), match=message):
        GAUSSIAN.plain.fit(DATA, start=start)


def test_the_search_is_seeded() -> None:
    a, b = (GAUSSIAN.plain.fit(DATA, seed=5) for _ in range(2))
    np.testing.assert_array_equal(a.params, b.params)
    assert a.n_steps == b.n_steps


@pytest.mark.parametrize("y", [np.full(61, 2.0), np.array([2.0])], ids=["constant", "one row"])
def test_a_response_without_spread_has_no_maximum(y: np.ndarray) -> None:
    """sigma -> 0 raises the log-likelihood without bound: no maximum, and no standard error for anything."""
    with pytest.warns(mle.ConvergenceWarning):
        res = GAUSSIAN.plain.fit({"y": y})
    assert res.verdict.code == "no_finite_maximum"
    assert "sigma -> 0" in res.verdict.statement
    assert res.bse.isna().all()


@pytest.mark.parametrize(
    "declared",
    [{"a": mle.Real()}, {"b": mle.Real(shape=3), "s": mle.Positive()}, {"a": mle.Real(), "b": mle.Real(shape=4)}],
    ids=str,
)
def test_the_plainest_start_is_the_first_candidate_at_any_scale(declared: Any) -> None:
    space = mle.model(params=declared)(lambda params, data: data["y"]).likelihood.space(ingest({"y": [1.0, 2.0]}))
    begin, slope = _plainest(space)
    for scale in (1e-3, 1.0, 7.0, 1e9):
        rows = (scale * np.random.default_rng(0).normal(size=(50, 2)),)
        first = starts.candidates(space, [None] * len(space.leaves), rows)[0]
        assert to_u(space, first).tolist() == (begin + starts.smallness(rows) * slope).tolist()
    simplex = mle.model(w=mle.Simplex(3))(lambda params, data: data["y"]).likelihood.space(ingest({"y": [1.0]}))
    assert _plainest(simplex) is None
