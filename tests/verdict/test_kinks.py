"""Maxima at a kink or at an edge of the support that moves: the search ends there, and no statement denies that it is one.

The truth is a closed form: the Laplace at its median (any point between the two middle rows of an even number), the uniform at
its largest row.
"""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest

import mlejax as mle

pytestmark = pytest.mark.filterwarnings("ignore::mlejax.ConvergenceWarning")


@mle.model(m=mle.Real(), s=mle.Positive())
def laplace(p: Any, d: Any) -> Any:
    return -jnp.log(2.0 * p["s"]) - jnp.abs(d["y"] - p["m"]) / p["s"]


@mle.model(top=mle.Positive())
def uniform(p: Any, d: Any) -> Any:
    return jnp.where(d["y"] <= p["top"], -jnp.log(p["top"]), -jnp.inf)


def of_laplace(y: np.ndarray) -> float:
    return float(-y.size * (np.log(2.0 * np.abs(y - np.median(y)).mean()) + 1.0))


CASES = [
    (laplace, of_laplace, lambda rng: rng.laplace(size=30)),
    (laplace, of_laplace, lambda rng: rng.laplace(size=31)),
    (uniform, lambda y: float(-y.size * np.log(y.max())), lambda rng: 3.0 * rng.random(30)),
]


@pytest.mark.parametrize("case", range(len(CASES)))
@pytest.mark.parametrize("seed", range(3))
def test_a_maximum_without_curvature_is_not_said_to_be_none(case: int, seed: int) -> None:
    model, truth, draw = CASES[case]
    y = draw(np.random.default_rng(seed))
    res = model.fit({"y": y})
    assert res.llf == pytest.approx(truth(y), abs=0.02)
    assert not res.verdict.converged  # there are no standard errors
    for untrue in ("not a maximum", "far from a maximum", "loses its digits", "lost its digits", "without bound", "keeps rising"):
        assert untrue not in res.verdict.statement
