"""Loops of a length that is known only as they run: the same fit as the closed form of what they compute."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.scipy.stats import norm

import mlejax as mle

RNG = np.random.default_rng(3)
X = RNG.normal(size=60)
DATA = {"x": X, "y": 1.0 + 0.5 * X + RNG.normal(size=60), "g": np.repeat(np.arange(20), 3)}


def exponential(a: Any) -> Any:
    """exp(a) by its series, summed until a term changes nothing."""

    def more(carry: Any) -> Any:
        return jnp.max(jnp.abs(carry[1])) > 1e-18

    def add(carry: Any) -> Any:
        k, term, total = carry
        return k + 1, term * a / k, total + term

    return jax.lax.while_loop(more, add, (1.0, jnp.ones_like(a), jnp.zeros_like(a)))[2]


def line(exp: Any, **how: Any) -> Any:
    @mle.model(a=mle.Real(), b=mle.Real(), s=mle.Positive(), **how)
    def terms(p: Any, d: Any) -> Any:
        return norm.logpdf(d["y"], exp(p["a"]) + p["b"] * d["x"], p["s"])

    return terms


def unit_line(exp: Any) -> Any:
    @mle.model(a=mle.Real(), b=mle.Real(), s=mle.Positive(), unit="g")
    def terms(p: Any, d: Any) -> Any:
        return jnp.sum(jnp.where(d["mask"], norm.logpdf(d["y"], exp(p["a"]) + p["b"] * d["x"], p["s"]), 0.0))

    return terms


@pytest.mark.parametrize(
    "make", [line, unit_line, lambda exp: line(exp, rowwise=False)], ids=["rows", "units", "whole"]
)
def test_the_fit_is_that_of_the_closed_form(make: Any) -> None:
    looped, closed = make(exponential).fit(DATA), make(jnp.exp).fit(DATA)
    assert looped.verdict.code == "verified"
    np.testing.assert_allclose(looped.params, closed.params, rtol=1e-9)
    for kind in ("nonrobust", "HC0"):
        np.testing.assert_allclose(looped.with_cov(kind).bse, closed.with_cov(kind).bse, rtol=1e-8)


def test_regressed_parameters_and_other_methods() -> None:
    looped, closed = (line(exp).regress(a="x") for exp in (exponential, jnp.exp))
    data = {"x": DATA["x"], "y": DATA["y"]}
    fixed = {"b": 0.0}
    for method in ("newton", "lbfgs"):
        a, b = (m.fit(data, fixed=fixed, method=method) for m in (looped, closed))
        np.testing.assert_allclose(a.params, b.params, rtol=1e-6)
        np.testing.assert_allclose(a.bse, b.bse, rtol=1e-6)


def test_derivatives_of_the_third_order_are_refused_with_the_reason() -> None:
    with pytest.raises(mle.LikelihoodError, match=r"(?s)while_loop.*fori_loop with fixed bounds"):
        line(exponential).fit(DATA, bias_reduction="jeffreys")
