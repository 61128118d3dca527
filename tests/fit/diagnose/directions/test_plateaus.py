"""Flat ridges and plateaus of the function are no rise: a change of 0, or an end of the numbers, is none."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats
from jax.scipy.stats import norm

import mlejax as mle

pytestmark = pytest.mark.filterwarnings("ignore::mlejax.ConvergenceWarning")

Y = np.random.default_rng(0).normal(size=100) * 2.0 + 1.0
SIGMA = float(np.sqrt(np.mean(Y**2)))
BEST = float(scipy.stats.norm.logpdf(Y, 0.0, SIGMA).sum())
AT_MEAN = float(scipy.stats.norm.logpdf(Y, Y.mean(), 2.0).sum())


def declared(density: Callable[..., Any], **parameters: Any) -> mle.Model:
    @mle.model(**parameters)
    def model(params: Any, data: Any) -> Any:
        return density(data["y"], **params)

    return model


FLAT = {
    "odds": (lambda y, a, p: norm.logpdf(y, 0.0, a * p / (1.0 - p)), {"a": mle.Positive(), "p": mle.Interval(0, 1)}, BEST),
    "logit": (
        lambda y, a, p: norm.logpdf(y, jnp.log(a) + jnp.log(p / (1.0 - p)), 2.0),
        {"a": mle.Positive(), "p": mle.Interval(0, 1)},
        AT_MEAN,
    ),
    "unused": (lambda y, a, m: norm.logpdf(y, m, 2.0) + 0.0 * a, {"a": mle.NonNegative(), "m": mle.Real()}, AT_MEAN),
    "box": (
        lambda y, a, b: norm.logpdf(y, a + b, 2.0),
        {"a": mle.Interval(-1, 1, closed="both"), "b": mle.Interval(-1, 1, closed="both")},
        AT_MEAN,
    ),
    "circle": (lambda y, a, b: norm.logpdf(y, a**2 + b**2, 2.0), {"a": mle.Real(), "b": mle.Real()}, AT_MEAN),
}


@pytest.mark.parametrize("name", FLAT)
def test_a_ridge_is_not_identified_up_to_where_its_numbers_or_its_box_end(name: str) -> None:
    density, parameters, best = FLAT[name]
    verdict = (res := declared(density, **parameters).fit({"y": Y})).verdict
    assert verdict.code == "not_identified", verdict
    assert "a" in verdict.statement
    assert res.llf == pytest.approx(best, abs=1e-7)


def test_a_constant_log_likelihood_below_a_kink_is_a_plateau() -> None:
    model = declared(lambda y, s: norm.logpdf(y, 0.0, jnp.maximum(s, 5.0)), s=mle.Positive())
    level = float(scipy.stats.norm.logpdf(Y, 0.0, 5.0).sum())
    alone = model.fit({"y": Y}).verdict
    assert alone.code == "not_identified"
    assert f"exactly {level:.6g} along s -> 0, a plateau from s = 5 on" in alone.statement
    batch = model.fit_batch({"y": np.stack([Y, 2.0 * Y, 4.0 * Y])})
    assert [batch[i].verdict.code for i in range(3)] == ["not_identified", "not_identified", "verified"]
    assert batch[2].params["s"] == pytest.approx(4.0 * SIGMA, rel=1e-8)


def test_a_clipped_separated_logit_is_a_plateau() -> None:
    """The probabilities are exactly at their clip from where the row nearest to the threshold reaches it."""
    nearest = float(np.abs(Y - 1.5).min())

    def logit(y: Any, b: Any) -> Any:
        p = jnp.clip(jax.nn.sigmoid(b * (y - 1.5)), 1e-9, 1.0 - 1e-9)
        return jnp.where(y > 1.5, jnp.log(p), jnp.log1p(-p))

    verdict = declared(logit, b=mle.Real()).fit({"y": Y}).verdict
    assert verdict.code == "not_identified"
    end = float(np.log(1e9) / nearest)
    assert f"a plateau from b = {end:.4g} on" in verdict.statement


def test_a_maximum_beyond_the_end_of_a_plateau_is_found() -> None:
    model = declared(lambda y, s: norm.logpdf(y, 0.0, jnp.maximum(s, 0.5)), s=mle.Positive())
    res = model.fit({"y": Y}, start={"s": 0.1})
    assert res.verdict.code == "verified"
    assert res.params["s"] == pytest.approx(SIGMA, rel=1e-8)


def test_a_smooth_limit_is_no_plateau_where_the_search_went_far() -> None:
    model = declared(lambda y, k: norm.logpdf(y, Y.mean() + 1.0 - 5.0 * jnp.exp(-k), 2.0) - 0.0, k=mle.Positive())
    assert model.fit({"y": Y}, start={"k": 50.0}).verdict.code == "verified"
    model = declared(lambda y, k: norm.logpdf(y, Y.mean() - 1.0 - 5.0 * jnp.exp(-k), 2.0) - 0.0, k=mle.Positive())
    res = model.fit({"y": Y}, start={"k": 50.0})
    assert res.verdict.code == "no_finite_maximum"
    assert res.verdict.supremum == pytest.approx(float(scipy.stats.norm.logpdf(Y, Y.mean() - 1.0, 2.0).sum()), abs=1e-6)
