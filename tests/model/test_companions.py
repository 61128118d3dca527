"""Simulators, distribution functions and means: registered once, inherited by regressed models."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest
from jax.scipy.stats import norm

import mlejax as mle


@mle.model(mu=mle.Real(), sigma=mle.Positive())
def gaussian(params: Any, data: Any) -> Any:
    return norm.logpdf(data["y"], params["mu"], params["sigma"])


@gaussian.simulator
def _(key: Any, params: Any, data: Any) -> Any:
    return {"y": params["mu"] + params["sigma"] * jax.random.normal(key, data["y"].shape)}


@gaussian.cdf
def _(params: Any, data: Any) -> Any:
    return norm.cdf(data["y"], params["mu"], params["sigma"])


@gaussian.mean
def _(params: Any, data: Any) -> Any:
    return params["mu"] + 0.0 * data["y"]


line = gaussian.regress(mu="x")


def test_simulate_from_a_number_of_rows_and_from_data() -> None:
    drawn = gaussian.simulate({"mu": 3.0, "sigma": 2.0}, 20_000, seed=1)["y"]
    assert drawn.dtype == np.float64
    assert drawn.mean() == pytest.approx(3.0, abs=4 * 2 / np.sqrt(20_000))
    assert drawn.std() == pytest.approx(2.0, abs=4 * 2 / np.sqrt(40_000))
    again = gaussian.simulate({"mu": 3.0, "sigma": 2.0}, {"y": np.zeros(20_000), "text": ["a"] * 20_000}, seed=1)["y"]
    np.testing.assert_array_equal(again, drawn)
    assert not np.array_equal(gaussian.simulate({"mu": 3.0, "sigma": 2.0}, 20_000, seed=2)["y"], drawn)
    assert jax.config.jax_enable_x64 is False


def test_regressed_models_inherit() -> None:
    x = np.linspace(-1, 1, 5000)
    y = line.simulate({"mu": [1.0, 2.0], "sigma": 0.5}, {"x": x, "g": ["a", "b"] * 2500})["y"]
    assert np.polyfit(x, y, 1) == pytest.approx([2.0, 1.0], abs=0.05)
    res = line.fit({"x": x, "y": y})
    table = res.predict("mean", {"x": [0.0, 1.0], "y": [0.0, 0.0]})
    direct = res.predict({"x": [0.0, 1.0]})
    np.testing.assert_allclose(table["estimate"], direct["estimate"], rtol=1e-12)
    np.testing.assert_allclose(table["std_error"], direct["std_error"], rtol=1e-9)
    found = res.predict("cdf", {"x": [0.0], "y": [1.0]})["estimate"].iloc[0]
    assert found == pytest.approx(float(norm.cdf(1.0, res.params["mu[Intercept]"], res.params["sigma"])), rel=1e-6)


def test_what_is_absent_says_what_to_add() -> None:
    @mle.model(rate=mle.Positive())
    def exponential(params: Any, data: Any) -> Any:
        return jnp.log(params["rate"]) - params["rate"] * data["t"]

    with pytest.raises(
        mle.CompanionError, match=r"(?s)@exponential.simulator\n    def _\(key, params, data\):\n        ret"
    ):
        exponential.simulate({"rate": 1.0}, 10)
    res = exponential.fit({"t": [1.0, 2.0, 6.0]})
    for name in ("mean", "cdf"):
        with pytest.raises(
            mle.CompanionError, match=rf"(?s)@exponential.{name}\n    def _\(params, data\):\n        ret"
        ):
            res.predict(name, {"t": [1.0]})


def test_simulators_that_do_not_do_what_they_should() -> None:
    def model_with(simulator: Any) -> Any:
        @mle.model(mu=mle.Real())
        def plain(params: Any, data: Any) -> Any:
            return norm.logpdf(data["y"], params["mu"])

        plain.simulator(simulator)
        return plain

    draw = lambda key, n: jax.random.normal(key, (n,))
    for simulator, said in (
        (lambda key, p, d: draw(key, d.n_rows), "return a dict"),
        (lambda key, p, d: {"y": draw(key, 3)}, "7 rows"),
        (lambda key, p, d: {"y": draw(key, d.n_rows) + d["x"]}, "reads 'x'"),
        (lambda key, p, d: {"y": np.asarray(draw(key, d.n_rows))}, "cannot be traced"),
    ):
        with pytest.raises(mle.CompanionError, match=said):
            model_with(simulator).simulate({"mu": 0.0}, 7)
    for empty in ({}, pd.DataFrame()):
        with pytest.raises(mle.DataError, match="number of rows is unknown"):
            gaussian.simulate({"mu": 0.0, "sigma": 1.0}, empty)
    with pytest.raises(ValueError, match="no value for sigma"):
        gaussian.simulate({"mu": 0.0}, 7)
    with pytest.raises(ValueError, match="has formulas; expected data"):
        line.simulate({"mu": [0.0, 1.0], "sigma": 1.0}, 7)
    passed = model_with(lambda key, p, d: {**d, "y": draw(key, d.n_rows) + d["x"]})
    assert set(passed.simulate({"mu": 0.0}, {"x": np.zeros(4)})) == {"y"}
