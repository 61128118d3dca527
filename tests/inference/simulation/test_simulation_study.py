"""Simulation studies against what is known of the normal, exponential and logistic models."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.scipy.stats import norm

import mlejax as mle

R = 2000


@mle.model(mu=mle.Real(), var=mle.Positive())
def gaussian(params: Any, data: Any) -> Any:
    return norm.logpdf(data["y"], params["mu"], jnp.sqrt(params["var"]))


@gaussian.simulator
def _(key: Any, params: Any, data: Any) -> Any:
    return {"y": params["mu"] + jnp.sqrt(params["var"]) * jax.random.normal(key, (data.n_rows,))}


@mle.model(p=mle.Interval(0, 1))
def bernoulli(params: Any, data: Any) -> Any:
    return jnp.where(data["y"] > 0.5, jnp.log(params["p"]), jnp.log1p(-params["p"]))


@bernoulli.simulator
def _(key: Any, params: Any, data: Any) -> Any:
    return {"y": 1.0 * jax.random.bernoulli(key, params["p"], (data.n_rows,))}


@pytest.fixture(scope="module")
def study() -> Any:
    return mle.simulation_study(gaussian, {"mu": 1.0, "var": 4.0}, [20, 100], R, seed=1)


def coverage_of_the_mean(n: int) -> float:
    """P(|t_{n-1}| < z sqrt((n-1)/n)): the interval has the error of the maximum-likelihood variance, and z for t."""
    stats = pytest.importorskip("scipy.stats")
    return float(1 - 2 * stats.t.sf(stats.norm.isf(0.025) * np.sqrt((n - 1) / n), n - 1))


def test_normal_mean_and_variance(study: Any) -> None:
    table = study.frame().set_index(["n", "term"])
    for n in (20, 100):
        mu, var = table.loc[(n, "mu")], table.loc[(n, "var")]
        assert mu["bias_mc"] == pytest.approx(2 / np.sqrt(n * R), rel=0.1)
        assert abs(mu["bias"]) < 4 * mu["bias_mc"]
        assert var["bias"] == pytest.approx(-4 / n, abs=4 * var["bias_mc"])
        truth = coverage_of_the_mean(n)
        assert mu["coverage_mc"] == pytest.approx(np.sqrt(truth * (1 - truth) / R), rel=0.2)
        assert mu["coverage"] == pytest.approx(truth, abs=4 * mu["coverage_mc"])
        assert mu["efficiency"] == pytest.approx(1.0, abs=4 * mu["efficiency_mc"])
        # var(var-hat) = 2 sigma^4 (n-1) / n^2, the bound 2 sigma^4 / n
        assert var["efficiency"] == pytest.approx(n / (n - 1), abs=4 * var["efficiency_mc"])
        assert mu["efficiency_mc"] == pytest.approx(np.sqrt(2 / R), rel=0.2)
        assert mu["rmse"] ** 2 == pytest.approx(mu["bias"] ** 2 + mu["sd"] ** 2 * (R - 1) / R, rel=1e-9)
        assert var["mean_se"] == pytest.approx(4 * np.sqrt(2 / n) * (n - 1) / n, rel=0.03)
    assert (study.verdicts()["verified"] == 1.0).all()
    assert study.params(20).shape == (R, 2)
    assert not np.allclose(study.params(20)["mu"].std(), study.params(100)["mu"].std(), rtol=0.2)
    with pytest.raises(KeyError, match="no data sets of 7 rows"):
        study.params(7)


def test_what_is_printed_and_drawn(study: Any) -> None:
    text = str(study)
    assert "2000 data sets of each size" in text
    assert "Verdicts at n = 100: verified 100 %" in text
    assert "nan" not in text
    figure = study.plot()
    assert [axis.get_ylabel() for axis in figure.axes[::2]] == ["bias", "spread", "coverage", "efficiency"]
    assert figure.axes[0].get_title() == "mu"


def test_fits_are_those_of_the_same_data() -> None:
    """The numbers of a study are those of fits of the data sets drawn, and the same for the same seed."""
    one = mle.simulation_study(gaussian, {"mu": 1.0, "var": 4.0}, 20, 5, seed=3)
    again = mle.simulation_study(gaussian, {"mu": 1.0, "var": 4.0}, 20, 5, seed=3, start="search")
    np.testing.assert_allclose(one.params(20), again.params(20), rtol=1e-6)
    y = gaussian.simulate({"mu": 1.0, "var": 4.0}, 20, seed=3)["y"]  # the first of them
    np.testing.assert_allclose(one.params(20).iloc[0], [y.mean(), y.var()], rtol=1e-7)
    assert one.bse(20).iloc[0]["mu"] == pytest.approx(y.std() / np.sqrt(20), rel=1e-7)


def test_regressed_model_on_its_covariates() -> None:
    rng = np.random.default_rng(0)
    data = {"x": rng.normal(size=40), "g": ["a", "b"] * 20, "unused": [None] * 40}
    reg = gaussian.regress(mu="x + C(g)")
    truth = {"mu": [1.0, 2.0, -1.0], "var": 1.0}
    study = mle.simulation_study(reg, truth, data, 400, seed=2)
    table = study.frame().set_index("term")
    columns = {"mu[Intercept]": np.ones(40), "mu[x]": data["x"], "mu[C(g)[T.b]]": np.array([0.0, 1.0] * 20)}
    assert set(table.index) == {*columns, "var"}
    assert list(table["truth"]) == [1.0, 2.0, -1.0, 1.0]
    names = list(table.index[:3])
    X = np.column_stack([columns[name] for name in names])
    exact = np.sqrt(np.diag(np.linalg.inv(X.T @ X)))
    np.testing.assert_allclose(table.loc[names, "sd"], exact, rtol=4 / np.sqrt(2 * 400))
    assert (np.abs(table.loc[names, "bias"]) < 4 * table.loc[names, "bias_mc"]).all()
    assert (np.abs(table.loc[names, "efficiency"] - 1) < 4 * table.loc[names, "efficiency_mc"]).all()


def test_data_sets_without_a_maximum_are_counted() -> None:
    """A share of 0 or 1 has its maximum at infinity on the logit scale: (0.8^5 + 0.2^5) of samples of 5."""
    study = mle.simulation_study(bernoulli, {"p": 0.2}, 5, R, seed=1)
    share = 0.8**5 + 0.2**5
    good = study.verdicts().get("verified", 0.0).iloc[0]
    assert good == pytest.approx(1 - share, abs=4 * np.sqrt(share * (1 - share) / R))
    assert int(study.frame()["n_good"].iloc[0]) == round(good * R)
    assert "fits without a maximum are left out" in str(study)
    assert study.params(5)["p"].isna().mean() == pytest.approx(1 - good)


def test_what_is_refused() -> None:
    with pytest.raises(mle.CompanionError, match="simulator"):
        mle.simulation_study(mle.model(lambda params, data: data["y"]), {"mu": 1.0}, 10)
    with pytest.raises(TypeError, match="expected a model"):
        mle.simulation_study(gaussian.likelihood, {"mu": 1.0}, 10)
    with pytest.raises(ValueError, match="no value for var"):
        mle.simulation_study(gaussian, {"mu": 1.0}, 10)
    with pytest.raises(ValueError, match="least 2"):
        mle.simulation_study(gaussian, {"mu": 1.0, "var": 1.0}, 10, 1)
    with pytest.raises(ValueError, match="start="):
        mle.simulation_study(gaussian, {"mu": 1.0, "var": 1.0}, 10, 5, start="zero")
    with pytest.raises(ValueError, match="has formulas; expected data"):
        mle.simulation_study(gaussian.regress(mu="x"), {"mu": [1.0, 2.0], "var": 1.0}, 10)


@pytest.mark.slow
def test_coverage_of_a_logistic_regression() -> None:
    rng = np.random.default_rng(0)
    X = np.column_stack([np.ones(300), rng.normal(size=(300, 2))])

    @mle.model(beta=mle.Real(shape=3))
    def logit(params: Any, data: Any) -> Any:
        return jax.nn.log_sigmoid(data["s"] * (data["X"] @ params["beta"]))

    @logit.simulator
    def _(key: Any, params: Any, data: Any) -> Any:
        up = jax.random.bernoulli(key, jax.nn.sigmoid(data["X"] @ params["beta"]))
        return {"s": jnp.where(up, 1.0, -1.0)}

    study = mle.simulation_study(logit, {"beta": [0.3, 1.0, -0.5]}, {"X": X}, 10_000, seed=4)
    table = study.frame()
    assert (np.abs(table["coverage"] - 0.95) < 4 * table["coverage_mc"] + 0.005).all()
    assert (np.abs(table["mean_se"] / table["sd"] - 1) < 0.04).all()
    assert (table["efficiency"] < 1.02).all()


@mle.model(rate=mle.Positive(), infinite=["high"])
def censored(params: Any, data: Any) -> Any:
    """Exponential times, known up to ``t``; ``high`` is infinite where they go on."""
    return jnp.where(data["observed"]["high"], jnp.log(params["rate"]), 0.0) - params["rate"] * data["t"]


@censored.simulator
def _(key: Any, params: Any, data: Any) -> Any:
    t = jax.random.exponential(key, (data.n_rows,)) / params["rate"]
    return {"t": jnp.minimum(t, 1.0), "high": jnp.where(t < 1.0, t, jnp.inf)}


def test_drawn_columns_with_infinite_entries_have_new_masks() -> None:
    """Times censored at 1: the error of the rate is rate / sqrt(n (1 - exp(-rate))), and the estimate events / total time."""
    t = np.random.default_rng(0).exponential(size=400)
    res = censored.fit({"t": np.minimum(t, 1.0), "high": np.where(t < 1.0, t, np.inf)})
    rate = res.params["rate"]
    assert rate == pytest.approx((t < 1.0).sum() / np.minimum(t, 1.0).sum(), rel=1e-8)
    error = rate / np.sqrt(400 * (1 - np.exp(-rate)))
    assert res.bootstrap(400, kind="parametric", seed=1).bse["rate"] == pytest.approx(error, rel=0.12)  # without: half
    again = res.simulate(seed=3)
    assert np.isinf(again["high"]).sum() == (again["t"] == 1.0).sum() > 0  # as they can be fitted again
    table = {"t": np.ones(400), "high": np.ones(400)}  # of whose rows none is censored
    study = mle.simulation_study(censored, {"rate": 1.0}, table, 400, seed=1)
    row = study.frame().set_index("term").loc["rate"]
    assert abs(row["bias"]) < 0.02
    assert row["coverage"] > 0.92
    with pytest.raises(ValueError, match="that draws a column of optional= or infinite=, here 'high'"):
        res.with_cov("expected")


@pytest.mark.parametrize(
    ("y", "words"),
    [
        (lambda key, p, n: p["mu"] + np.random.default_rng(0).normal(size=n), "does not use its key"),
        (lambda key, p, n: p["mu"] + p["sgma"] * jax.random.normal(key, (n,)), r"params\['sgma'\], which is not"),
        (lambda key, p, n: p["mu"] + p["z"] + jax.random.normal(key, (n,)), "but classes are not drawn for it"),
    ],
)
def test_simulators_that_draw_nothing_or_read_what_does_not_exist(y: Any, words: str) -> None:
    @mle.model(mu=mle.Real(), low=mle.Positive(), z=mle.Discrete(2))
    def model(params: Any, data: Any) -> Any:
        return norm.logpdf(data["y"], params["mu"] + params["low"] * params["z"], 1.0)

    model.simulator(lambda key, params, data: {"y": y(key, params, data.n_rows)})
    with pytest.raises(ValueError, match=words):
        model.simulate({"mu": 0.0, "low": 1.0, "z_probs": [0.5, 0.5]}, 10)
