"""What a hostile statistician tried: each of these once printed a number or a verdict that looked right and was not."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.scipy.special import gammaln
from jax.scipy.stats import norm

import mlejax as mle

RNG = np.random.default_rng(1)


@pytest.mark.filterwarnings("ignore::mlejax.ConvergenceWarning")
def test_negative_binomial_on_underdispersed_counts_runs_to_poisson() -> None:
    """A numerically stable form: the log-likelihood rises to the Poisson's as theta -> inf, without a maximum."""
    y = np.random.default_rng(0).binomial(10, 0.4, 100)

    @mle.model(b=mle.Real(), theta=mle.Positive())
    def model(params, data):
        n, r = data["y"], params["theta"]
        j = jnp.arange(10.0)
        rising = jnp.where(j < n[:, None], jnp.log1p(j / r), 0.0).sum(1)
        return rising + n * params["b"] - gammaln(n + 1.0) - (n + r) * jnp.log1p(jnp.exp(params["b"]) / r)

    res = model.fit({"y": y})
    assert res.verdict.code == "no_finite_maximum", res.verdict
    assert "theta -> +inf" in res.verdict.statement
    assert res.bse.isna().all()


@mle.model(b=mle.Real(columns="X"))
def logit(params, data):
    return jax.nn.log_sigmoid((2 * data["y"] - 1) * (data["X"] @ params["b"]))


@pytest.mark.filterwarnings("ignore::mlejax.ConvergenceWarning")
def test_quasi_separation_from_a_far_start() -> None:
    x = RNG.normal(size=(200, 2))
    dummy = (np.arange(200) < 20).astype(float)
    y = np.where(dummy > 0, 1.0, (RNG.random(200) < 0.5).astype(float))
    design = np.column_stack([np.ones(200), x, dummy])
    res = logit.fit({"X": design, "y": y}, start={"b": [0.0, 0.0, 0.0, 45.0]})
    assert res.verdict.code == "no_finite_maximum", res.verdict
    assert "b[3] -> +inf" in res.verdict.statement


@pytest.mark.filterwarnings("ignore::mlejax.ConvergenceWarning")
def test_every_parameter_named_as_unidentified_loses_its_error() -> None:
    a, c = 1e3 * RNG.normal(size=80), 1e-3 * RNG.normal(size=80)
    y = (RNG.random(80) < 0.5).astype(float)
    res = logit.fit({"X": np.column_stack([a, a + c, c]), "y": y})
    if res.verdict.code == "not_identified":
        named = [name for name in res.params.index if name in res.verdict.statement]
        assert res.bse[named].isna().all()
    else:
        assert not res.converged


def test_too_few_clusters_for_a_joint_test_are_refused() -> None:
    x = RNG.normal(size=(60, 4))

    @mle.model(a=mle.Real(), b=mle.Real(columns="X"), s=mle.Positive())
    def linear(params, data):
        return norm.logpdf(data["y"], params["a"] + data["X"] @ params["b"], params["s"])

    groups = np.repeat(np.arange(4), 15)
    res = linear.fit({"X": x, "y": RNG.normal(size=60)}, cov_type="cluster", cov_kwds={"groups": groups})
    with pytest.raises(ValueError, match="too few clusters"):
        res.wald_test("b = 0")
    assert 0.0 <= res.wald_test("b[0] = 0, b[1] = 0").pvalue <= 1.0


def test_units_that_count_their_padding_are_refused() -> None:
    data = {"y": [0.0, 1.0, 2.0, 3.0, 4.0, 10.0], "g": [1, 1, 1, 1, 1, 2]}

    @mle.model(unit="g", m=mle.Real(), s=mle.Positive())
    def careless(params, d):
        return norm.logpdf(d["y"], params["m"], params["s"]).sum()

    @mle.model(unit="g", m=mle.Real(), s=mle.Positive())
    def careful(params, d):
        return jnp.sum(jnp.where(d["mask"], norm.logpdf(d["y"], params["m"], params["s"]), 0.0))

    with pytest.raises(mle.LikelihoodError, match="padded rows"):
        careless.fit(data)
    assert careful.fit(data).params["m"] == pytest.approx(20.0 / 6.0)


def test_a_scalar_whole_model_counts_rows() -> None:
    y = RNG.normal(size=50)

    @mle.model(rowwise=False, m=mle.Real(), s=mle.Positive())
    def joint(params, data):
        return norm.logpdf(data["y"], params["m"], params["s"]).sum()

    res = joint.fit({"y": y})
    assert res.nobs == 50
    assert res.bic == pytest.approx(-2 * res.llf + 2 * np.log(50))


@pytest.mark.parametrize("size", [50, 5000])
def test_standardising_inside_a_rowwise_function_is_refused(size: int) -> None:
    x = np.sort(RNG.normal(size=size))

    @mle.model(a=mle.Real(), b=mle.Real(), s=mle.Positive())
    def model(params, data):
        z = (data["x"] - data["x"].mean()) / data["x"].std()
        return norm.logpdf(data["y"], params["a"] + params["b"] * z, params["s"])

    with pytest.raises(mle.LikelihoodError, match="other rows"):
        model.fit({"x": x, "y": x})


@mle.model(mu=mle.Real(), sigma=mle.Positive())
def gaussian(params, data):
    return norm.logpdf(data["y"], params["mu"], params["sigma"])


def test_results_do_not_change_with_the_users_arrays() -> None:
    y = RNG.normal(5.0, 2.0, size=64)
    res = gaussian.fit({"y": y})
    before = res.with_cov("HC0").bse.to_numpy()
    y *= 10
    np.testing.assert_array_equal(res.with_cov("HC0").bse.to_numpy(), before)
    mine = res.params
    mine.iloc[0] = 99.0
    assert res.params["mu"] != 99.0


def test_labels_of_clusters_must_fit_the_rows() -> None:
    res = gaussian.fit({"y": RNG.normal(size=63)})
    with pytest.raises(mle.DataError, match="one label per row"):
        res.with_cov("cluster", {"groups": np.arange(200)})


def test_overlapping_fixed_addresses_are_refused() -> None:
    with pytest.raises(ValueError, match="is given twice"):
        logit.fit({"X": RNG.normal(size=(30, 3)), "y": np.arange(30) % 2}, fixed={"b[1]": 1.0, "b[-2]": 2.0})


def test_options_are_checked_before_the_fit() -> None:
    calls = []

    @mle.model(mu=mle.Real())
    def counted(params, data):
        calls.append(1)
        return norm.logpdf(data["y"], params["mu"], 1.0)

    with pytest.raises(ValueError, match="cov_type"):
        counted.fit({"y": [1.0, 2.0]}, cov_type="HC9")
    assert not calls


@pytest.mark.filterwarnings("ignore::mlejax.ConvergenceWarning")
@pytest.mark.parametrize("apart", [1e-12, 1e-14])
def test_columns_that_differ_by_next_to_nothing_are_named(apart: float) -> None:
    """To the accuracy of the arithmetic they are one column: no maximum at 1e11 and no "rise" towards it is claimed."""
    rng = np.random.default_rng(3)
    x = rng.normal(size=200)
    data = {"X": np.column_stack([np.ones(200), x, x + apart * rng.normal(size=200)]), "y": x + rng.normal(size=200)}

    @mle.model(b=mle.Real(columns="X"), s=mle.Positive())
    def linear(params, data):
        return norm.logpdf(data["y"], data["X"] @ params["b"], params["s"])

    res = linear.fit(data)
    assert str(res.verdict) == "not_identified: b[1] - b[2] is not identified; b[1] + b[2] is"
    assert res.bse.isna().tolist() == [False, True, True, False]


@pytest.mark.filterwarnings("ignore::mlejax.ConvergenceWarning")
def test_an_empty_middle_category_closes_its_cutpoints() -> None:
    rng = np.random.default_rng(4)
    x = rng.normal(size=100)

    @mle.model(cut=mle.Ordered(2), slope=mle.Real())
    def ordered(params, data):
        eta, c, y = params["slope"] * data["x"], params["cut"], data["y"]
        low, high = c[0] - eta, c[1] - eta
        middle = jax.nn.log_sigmoid(high) + jax.nn.log_sigmoid(-low) + jnp.log(-jnp.expm1(low - high))
        return jnp.where(y == 0, jax.nn.log_sigmoid(low), jnp.where(y == 2, jax.nn.log_sigmoid(-high), middle))

    res = ordered.fit({"x": x, "y": 2.0 * (x + rng.logistic(size=100) > 0)})
    assert res.verdict.code == "no_finite_maximum"
    assert "cut[1] - cut[0] -> 0" in res.verdict.statement


@pytest.mark.filterwarnings("ignore::mlejax.ConvergenceWarning")
def test_as_many_coefficients_as_rows_leave_no_scale() -> None:
    @mle.model(b=mle.Real(columns="X"), s=mle.Positive())
    def linear(params, data):
        return norm.logpdf(data["y"], data["X"] @ params["b"], params["s"])

    rng = np.random.default_rng(5)
    res = linear.fit({"X": rng.normal(size=(6, 6)), "y": rng.normal(size=6)})
    assert res.verdict.code == "no_finite_maximum"
    assert "s -> 0" in res.verdict.statement


@pytest.mark.filterwarnings("ignore::mlejax.ConvergenceWarning")
def test_a_formula_that_loses_its_digits_is_not_verified() -> None:
    """The textbook form of the negative binomial on underdispersed counts: its own rounding makes a maximum at theta = 1e16."""
    y = np.random.default_rng(0).binomial(8, 0.5, 60)

    @mle.model(b=mle.Real(), theta=mle.Positive())
    def textbook(params, data):
        mu, r, n = jnp.exp(params["b"]), params["theta"], data["y"]
        return gammaln(n + r) - gammaln(r) - gammaln(n + 1.0) + r * jnp.log(r / (r + mu)) + n * jnp.log(mu / (r + mu))

    for seed in range(6):
        y = np.random.default_rng(seed).binomial(8, 0.5, 60)
        res = textbook.fit({"y": y})
        assert not res.converged, (seed, res.verdict, res.params)
        assert res.bse.isna().all()
