"""Where the search of every data set in a batch begins: where a fit of it alone begins."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest
from jax.scipy.stats import norm

import mlejax as mle
from mlejax.batch import starts
from mlejax.fit import recipe
from mlejax.fit.loading import load
from mlejax.objective import Spec


@mle.model(beta=mle.Real(columns="X"))
def logit(params: Any, data: Any) -> Any:
    eta = data["X"] @ params["beta"]
    return data["y"] * eta - jnp.logaddexp(0.0, eta)


@mle.model(mu=mle.Real(), sigma=mle.Positive())
def gaussian(params: Any, data: Any) -> Any:
    return norm.logpdf(data["y"], params["mu"], params["sigma"])


def alone(likelihood: Any, data: Any) -> np.ndarray:
    """u of the start of a single fit."""
    with jax.enable_x64(True):
        loaded = load(likelihood, data, None, "raise", [], None, None)
        spec = Spec(likelihood, loaded.problem.space, None)
        given = [None] * len(loaded.problem.space.leaves)
        return np.asarray(recipe._start(spec, recipe.optimize.Newton(), loaded, given, None, 0)[0])


def searched(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The lanes whose candidates are ranked from now on."""
    seen: list[int] = []
    inner = starts.best_starts

    def spy(spec: Any, sets: Any, lanes: np.ndarray, *rest: Any) -> Any:
        seen.extend(lanes.tolist())
        return inner(spec, sets, lanes, *rest)

    monkeypatch.setattr(starts, "best_starts", spy)
    return seen


def test_ordinary_data_sets_start_plainly_without_a_search(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = searched(monkeypatch)
    rng = np.random.default_rng(0)
    X = rng.normal(size=(6, 40, 3)) * np.array([1.0, 30.0, 0.01])
    data = {"X": X, "y": (rng.random((6, 40)) < 0.4).astype(float)}
    res = logit.fit_batch(data)
    assert not seen
    assert res.converged.all()
    for i in range(6):
        one = {"X": X[i], "y": data["y"][i]}
        np.testing.assert_allclose(res._batch.u0[i], alone(logit.likelihood, one), rtol=1e-12)


def test_what_lies_far_from_the_plain_start_is_searched_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = searched(monkeypatch)
    rng = np.random.default_rng(1)
    y = rng.normal(size=(4, 50)) + np.array([0.0, 5000.0, 0.2, -300.0])[:, None]
    res = gaussian.fit_batch({"y": y})
    assert seen == [1, 3]
    np.testing.assert_allclose(res.params["mu"], y.mean(axis=1), rtol=1e-9)
    np.testing.assert_allclose(res.params["sigma"], y.std(axis=1), rtol=1e-7)
    for i in range(4):
        np.testing.assert_allclose(res._batch.u0[i], alone(gaussian.likelihood, {"y": y[i]}), rtol=1e-12, atol=1e-12)


def test_ragged_groups_with_covariates_start_where_each_would_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = searched(monkeypatch)
    rng = np.random.default_rng(2)
    sizes = [42, 70, 33]
    frame = pd.DataFrame({"g": np.repeat([0, 1, 2], sizes), "x": rng.normal(size=145) * 20.0})
    frame["y"] = 0.5 + 0.01 * frame["x"] + rng.normal(size=145)
    res = gaussian.regress(mu="x", sigma="1").fit_groups(frame, by="g")
    assert not seen
    for g in range(3):
        part = frame[frame["g"] == g]
        fit = np.polyfit(part["x"], part["y"], 1)
        np.testing.assert_allclose(res.params.loc[g, "mu[x]"], fit[0], rtol=1e-7)
        assert abs(res._batch.u0[g][1]) < 1e-12  # no effect


def test_exchangeable_parameters_are_searched_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two means of one kind may belong to a mixture, of which equal ones are a saddle point."""
    seen = searched(monkeypatch)

    @mle.model(a=mle.Real(), b=mle.Real())
    def mixture(params: Any, data: Any) -> Any:
        return jnp.logaddexp(norm.logpdf(data["y"], params["a"]), norm.logpdf(data["y"], params["b"]))

    rng = np.random.default_rng(3)
    mixture.fit_batch({"y": rng.normal(size=(3, 60)) + 3.0 * (rng.random((3, 60)) < 0.5)})
    assert seen == [0, 1, 2]
