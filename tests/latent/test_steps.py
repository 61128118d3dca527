"""How many steps a fit with latents takes."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
import numpy as np
from jax.scipy.stats import poisson

import mlejax as mle


@mle.model(b=mle.Real(shape=2), sd=mle.NonNegative(), u=mle.Latent(by="g"))
def counts(p: Any, d: Any) -> Any:
    return poisson.logpmf(d["y"], jnp.exp(p["b"][0] + p["b"][1] * d["x"] + p["sd"] * p["u"]))


def test_held_points_do_not_make_the_search_creep() -> None:
    """Their score is not that of points that move: Newton's method crept for 150 steps where a few do."""
    rng = np.random.default_rng(3)
    g, x, u = np.repeat(np.arange(80), 5), rng.normal(size=400), np.repeat(rng.normal(size=80), 5)
    res = counts.fit({"y": rng.poisson(np.exp(0.3 + 0.5 * x + 0.6 * u)).astype(float), "x": x, "g": g})
    assert res.verdict.code == "verified"
    assert res.n_steps <= 15
