"""Likelihoods on functions of which JAX lacks derivatives: the differenced Hessian, our own rules, and the refusal."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
import pytest
from jax.scipy.special import betainc, gammaincc, gammaln

import mlejax as mle

RNG = np.random.default_rng(0)
TIMES = RNG.gamma(2.0, 3.0, size=200)
CENSORED = {"t": np.minimum(TIMES, 10.0), "event": (TIMES < 10.0).astype(float)}


def censored_gamma(survival):
    @mle.model(shape=mle.Positive(), scale=mle.Positive())
    def model(params, data):
        a, b = params["shape"], params["scale"]
        x = data["t"] / b
        density = (a - 1) * jnp.log(data["t"]) - x - a * jnp.log(b) - gammaln(a)
        return jnp.where(data["event"] > 0, density, jnp.log(survival(a, x)))

    return model


def test_the_differenced_hessian_agrees_with_exact_derivatives_and_is_said() -> None:
    """JAX has no second derivative of gammaincc in its shape; ``mle.special`` has."""
    differenced = censored_gamma(gammaincc).fit(CENSORED)
    exact = censored_gamma(mle.special.gammaincc).fit(CENSORED)
    np.testing.assert_allclose(differenced.params, exact.params, rtol=1e-9)
    np.testing.assert_allclose(differenced.bse, exact.bse, rtol=1e-8)
    assert "differences" in str(differenced.summary())
    assert "differences" not in str(exact.summary())


def test_what_cannot_be_differentiated_is_refused_with_the_way_out() -> None:
    @mle.model(a=mle.Positive(), b=mle.Positive())
    def model(params, data):
        return jnp.log(betainc(params["a"], params["b"], data["x"]))

    with pytest.raises(mle.LikelihoodError, match=r"(?s)Betainc.*mle\.special"):
        model.fit({"x": np.linspace(0.1, 0.9, 9)})
