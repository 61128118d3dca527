"""Starting values: found by the library, given by the user, unusable, or hopeless."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.scipy.special import logsumexp
from jax.scipy.stats import norm

import mlejax as mle
from mlejax.batch.reading import stacked
from mlejax.fit.prepare.loading import load
from mlejax.fit.start import acceptable, candidates, first_guess, scatter
from mlejax.fit.start.summaries import MAX_ROWS
from mlejax.objective import sample_rows, with_leading_axis
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


def test_a_start_of_a_fixed_entry_is_said_to_be_unused() -> None:
    fixed = {"mu": 0.5}
    res = GAUSSIAN.plain.fit(DATA, start={"mu": 1.0, "sigma": 2.0}, fixed=fixed)
    assert "start= is not used for mu, fixed at another value." in str(res.summary())
    np.testing.assert_allclose(res.params["sigma"], np.sqrt(np.mean((DATA["y"] - 0.5) ** 2)), rtol=1e-8)
    for start in ({"mu": 0.5, "sigma": 2.0}, {"sigma": 2.0}):
        assert "start=" not in str(GAUSSIAN.plain.fit(DATA, start=start, fixed=fixed).summary())
    coefficient = REGRESSION.plain.fit(REGRESSION.make(21), start=REGRESSION.start, fixed={"beta[1]": -0.5})
    assert "start= is not used for beta[1], fixed" in str(coefficient.summary())


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
    assert "is not finite at the first start" in " ".join(str(res.summary()).split())


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
    assert "(row 7)" in statement
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


@mle.model(
    a=mle.Real(), b=mle.Positive(shape=2), c=mle.Interval(0, 1), d=mle.Ordered(3), e=mle.Simplex(3),
    f=mle.Covariance(2), g=mle.NonNegative(), h=mle.Real(shape=2), k=mle.Correlation(2),
)  # fmt: skip
def everything(params: Any, data: Any) -> Any:
    return data["y"] * params["a"] + data["x"]


def starts_of(model: Any, data: Any, **options: Any) -> list[np.ndarray]:
    """The candidates of a single fit, one array a leaf, (m, ...)."""
    with jax.enable_x64(True):
        loaded = load(model.likelihood, data, None, "raise", **options)
        space, none = loaded.problem.space, [None] * len(loaded.problem.space.leaves)
        batch = with_leading_axis(loaded.problem.data)
        return [v[0] for v in candidates(space, none, [False] * len(none), np.zeros(1, int), batch, 5)]


def test_the_candidates_of_a_data_set_do_not_depend_on_its_company() -> None:
    rng = np.random.default_rng(0)
    data = {"y": rng.normal(3, 2, (4, 25)), "x": rng.normal(-5, 10, (4, 25))}
    data["y"][1] = 7.0  # without spread
    with jax.enable_x64(True):
        sets = stacked(everything.likelihood, data, None, "raise")
        none = [None] * len(sets.space.leaves)
        which = np.array([2, 0, 1, 3])
        many = candidates(sets.space, none, [False] * len(none), which, sets.fetch(which, 4), 5)
    for place, i in enumerate(which):
        alone = starts_of(everything, {k: v[i] for k, v in data.items()})
        for together, one in zip(many, alone, strict=True):
            np.testing.assert_allclose(together[place], one, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("n", [40, 300, MAX_ROWS + 500])
def test_rows_of_weight_zero_change_no_start(n: int) -> None:
    rng = np.random.default_rng(1)
    w = rng.integers(0, 3, n).astype(float)
    data = {"y": np.where(w > 0, rng.normal(3, 2, n), 1e6), "x": np.where(w > 0, rng.normal(-5, 10, n), -1e9)}
    weighted = starts_of(everything, data, weights=w, weight_kind="frequency")
    left = starts_of(everything, {k: v[w > 0] for k, v in data.items()})
    for a, b in zip(weighted, left, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-10, atol=1e-12)


def test_a_sample_of_rows_is_spread_over_those_that_count() -> None:
    with jax.enable_x64(True):
        w = np.ones(1000)
        w[::2] = 0.0
        data = load(GAUSSIAN.plain.likelihood, {"y": np.arange(1000.0)}, None, "raise", (), w, "frequency").problem.data
        batch = with_leading_axis(data)
        few, all_of_them = sample_rows(batch, 64), sample_rows(batch, 600)
    y = few.rows[0][0]
    assert y.shape == (64,)
    assert (y % 2 == 1).all()
    assert y[0] == 1
    assert y[-1] == 999
    assert (np.diff(y) > 0).all()
    assert all_of_them.weights.sum() == 500
    assert len(np.unique(all_of_them.rows[0][0][all_of_them.weights[0] > 0])) == 500
    assert sample_rows(batch, 5000) is batch


def test_an_acceptable_start_is_concave_and_promises_one_unit_a_row_at_most() -> None:
    """A quadratic with information A and Newton step d rises by half its decrement d'Ad, which is the bound."""
    A = np.array([[4.0, 1.0], [1.0, 2.0]])
    d = np.array([1.0, -2.0])
    rise = d @ A @ d
    saddle, flat, lost = np.diag([1.0, -1.0]), np.ones((2, 2)), np.full((2, 2), np.nan)
    information = np.stack([A, A, saddle, flat, lost, A])
    score = np.stack([A @ d, A @ d, d, np.zeros(2), d, np.array([np.inf, 0.0])])
    flags = acceptable(score, information, np.array([1.01 * rise, 0.99 * rise, 1e9, 1e9, 1e9, 1e9]))
    assert flags.tolist() == [True, False, False, False, False, False]


def test_no_first_guess_where_parameters_could_be_exchanged() -> None:
    def guess(**declared: Any) -> Any:
        model = mle.model(params=declared)(lambda params, data: data["y"])
        with jax.enable_x64(True):
            space = load(model.likelihood, {"y": [1.0, 2.0]}, None, "raise").problem.space
        return first_guess(space, [None] * len(space.leaves))

    assert guess(a=mle.Real(), s=mle.Positive()) is not None
    assert guess(b=mle.Real(3), s=mle.Positive()) is not None
    assert guess(a=mle.Real(), b=mle.Real()) is None
    assert guess(s=mle.Positive(2)) is None
    assert guess(w=mle.Simplex(3)) is None


def test_scattered_starts_are_inside_the_support_and_their_own() -> None:
    rng = np.random.default_rng(0)
    data = {"y": rng.normal(3, 2, (3, 25)), "x": rng.normal(-5, 10, (3, 25))}
    with jax.enable_x64(True):
        sets = stacked(everything.likelihood, data, None, "raise")
        space, none = sets.space, [None] * len(sets.space.leaves)
        u = rng.normal(size=(3, space.n_free))
        information = np.broadcast_to(np.eye(space.n_free), (3, space.n_free, space.n_free))
        which = np.arange(3)
        many = scatter(space, sets.fetch(which, 3), none, u, information, 9, 4)
        alone = scatter(space, sets.fetch(which[1:2], 1), none, u[1:2], information[1:2], 9, 4)
        other = scatter(space, sets.fetch(which[1:2], 1), none, u[1:2], None, 9, 5)
    assert many.shape == (3, 9, space.n_free)
    assert np.isfinite(many).all()
    assert (many >= space.lower).all()
    np.testing.assert_allclose(many[1], alone[0], rtol=1e-12)
    assert (np.abs(other - alone) > 1e-3).any(axis=2).all()
