"""Products of scores through linear predictors are those of the scores of single rows, by reverse mode."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import mlejax as mle
from mlejax.fit.prepare.loading import load
from mlejax.objective import Spec, objective_of
from tests.data.streams.samples import frame

COLUMNS = ["x0", "x1"]


@mle.model(b=mle.Real(columns=COLUMNS), s=mle.Positive(columns=COLUMNS), shift=mle.Real())
def two_predictors(params: Any, data: Any) -> Any:
    x = jnp.stack([data["x0"], data["x1"]], axis=1)
    scale = jnp.exp(0.1 * (x @ params["s"])) + 1.0
    return -jnp.log(scale) - 0.5 * ((data["y"] - x @ params["b"] - jnp.tanh(params["shift"])) / scale) ** 2


@mle.model(b=mle.Real(columns=COLUMNS))
def one_predictor(params: Any, data: Any) -> Any:
    eta = jnp.stack([data["x0"], data["x1"]], axis=1) @ params["b"]
    return data["y"] * eta - jax.nn.softplus(eta)


@mle.model(m=mle.Real(), s=mle.Positive())
def no_predictor(params: Any, data: Any) -> Any:
    return -jnp.log(params["s"]) - 0.5 * ((data["x0"] - params["m"]) / params["s"]) ** 2


@pytest.mark.parametrize("model", [two_predictors, one_predictor, no_predictor], ids=lambda m: m.likelihood.name)
@pytest.mark.parametrize("weighted", [False, True])
def test_products_of_scores(model: Any, weighted: bool) -> None:
    options = ("w", "importance") if weighted else (None, None)
    with jax.enable_x64(True):
        loaded = load(model.likelihood, frame(), None, "raise", (), *options)
        data, space = loaded.problem.data, loaded.problem.space
        objective = objective_of(Spec(model.likelihood, space), data, None, None)
        u = np.array([0.1, -0.2, 0.3, 0.1, 0.4])[: space.n_free]
        scores, w = np.asarray(objective.scores(u)), np.asarray(data.weights)
        for by_root in (True, False):
            found = objective.score_products(jnp.asarray(u), by_root)
            np.testing.assert_allclose(found, (scores * (w if by_root else w**2)[:, None]).T @ scores, rtol=1e-11)
        value, grad, hessian = objective.with_hessian(jnp.asarray(u))
        together, products = objective.with_hessian_and_products(jnp.asarray(u), False)
        for one, two in zip((value, grad, hessian), together, strict=True):
            np.testing.assert_allclose(two, one, rtol=1e-13, atol=1e-15)
        np.testing.assert_allclose(products, found, rtol=1e-13)
