"""Derivatives by effects and parameters: those of automatic differentiation of the joint log-likelihood."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest

import mlejax as mle
from mlejax.execution import use_limits
from mlejax.execution.limits import Limits
from mlejax.fit.prepare.loading import load
from mlejax.objective import EffectsEvaluator, Spec

_rng = np.random.default_rng(3)
N, LEVELS = 900, 40
FRAME = pd.DataFrame({"x1": _rng.standard_normal(N), "x2": _rng.standard_normal(N), "firm": _rng.integers(0, LEVELS, N)})
FRAME["y"] = _rng.negative_binomial(2.0, 0.4, N)
CODES = pd.factorize(FRAME["firm"])[0]
U = np.array([0.3, -0.2, 0.1])


def columns(params: Any, data: Any) -> Any:
    eta = data["x1"] * params["beta"][0] + data["x2"] * params["beta"][1] + params["alpha"]
    return mle.special.nb2_logpmf(data["y"], jnp.exp(eta), params["size"])


def twice(params: Any, data: Any) -> Any:
    """The effect enters a scale, too, so that no sum is all that matters."""
    eta = data["x1"] * params["beta"][0] + data["x2"] * params["beta"][1] + params["alpha"]
    return -0.5 * (data["y"] - jnp.exp(eta)) ** 2 / params["size"] - 0.1 * params["alpha"] ** 2 - jnp.log(params["size"])


def product(params: Any, data: Any) -> Any:
    x = jnp.stack([data["x1"], data["x2"]], axis=1)
    return mle.special.nb2_logpmf(data["y"], jnp.exp(params["alpha"] + x @ params["beta"]), params["size"])


DECLARED = {"beta": mle.Real(shape=2), "alpha": mle.Real(by="firm"), "size": mle.Positive()}
MODELS = {f.__name__: (f, mle.model(params=DECLARED)(f)) for f in (columns, twice, product)}


def evaluator_of(name: str) -> EffectsEvaluator:
    likelihood = MODELS[name][1].likelihood
    loaded = load(likelihood, FRAME, None, "raise")
    return EffectsEvaluator(Spec(likelihood, loaded.problem.space), loaded.problem.data, None, levels=loaded.levels)


@pytest.mark.parametrize("name", MODELS)
def test_they_are_those_of_the_joint_log_likelihood(name: str) -> None:
    data = {key: jnp.asarray(FRAME[key].to_numpy(float)) for key in ("x1", "x2", "y")}

    def joint(v: Any) -> Any:
        params = {"beta": v[:2], "size": jnp.exp(v[2]), "alpha": v[3:][CODES]}
        return jnp.sum(MODELS[name][0](params, data))

    with jax.enable_x64(True):
        data = {key: jnp.asarray(FRAME[key].to_numpy(float)) for key in ("x1", "x2", "y")}
        at = evaluator_of(name).exactly(U)
        v = jnp.concatenate([U, at.effects])
        value, score, hessian = joint(v), jax.grad(joint)(v), -jax.hessian(joint)(v)
    close = lambda got, want: np.testing.assert_allclose(got, want, rtol=1e-10, atol=1e-10 * np.abs(want).max())
    close(at.loglik, float(value))
    close(at.score, np.asarray(score[:3]))
    close(at.arrow.shaft, np.diagonal(hessian)[3:])
    close(at.arrow.border, np.asarray(hessian[3:, :3]))
    close(at.arrow.head, np.asarray(hessian[:3, :3]))


def test_functions_of_the_data_are_computed_once_where_rows_are_in_chunks() -> None:
    """Several chunks have further columns of such functions, and give the same as one chunk, which has none."""
    with jax.enable_x64(True):
        whole = evaluator_of("columns")
        one = whole.eliminated(U)
        with use_limits(Limits(chunk_rows=128, block_rows=128)):
            cut = evaluator_of("columns")
            many = cut.eliminated(U)
    assert len(whole.grouped.chunks) == 1
    assert len(whole.grouped.chunks[0].data.rows) < len(cut.grouped.chunks[0].data.rows)
    for got, want in ((many.loglik, one.loglik), (many.score, one.score), (many.information, one.information)):
        np.testing.assert_allclose(got, want, rtol=1e-12, atol=1e-10)


def test_without_some_levels_it_knows_what_an_evaluation_of_the_others_finds() -> None:
    gone = np.arange(LEVELS) % 9 == 2
    rest = FRAME[~gone[CODES]]
    likelihood = MODELS["columns"][1].likelihood
    with jax.enable_x64(True), use_limits(Limits(chunk_rows=128, block_rows=128)):
        every = evaluator_of("columns")
        every.eliminated(U)
        loaded = load(likelihood, rest, None, "raise")
        data, levels = loaded.problem.data, loaded.levels
        known = every.without_levels(gone, data, levels, U)
        fresh = EffectsEvaluator(Spec(likelihood, loaded.problem.space), data, None, levels=levels)
        for got, want in zip((known.eliminated(U), known.eliminated(U + 0.1)), map(fresh.eliminated, (U, U + 0.1)), strict=True):
            np.testing.assert_allclose(got.effects, want.effects, rtol=1e-9, atol=1e-9)
            np.testing.assert_allclose(got.loglik, want.loglik, rtol=1e-12)
            np.testing.assert_allclose(got.score, want.score, rtol=1e-9, atol=1e-9)
            np.testing.assert_allclose(got.information, want.information, rtol=1e-9, atol=1e-8)
