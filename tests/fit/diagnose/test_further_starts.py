"""A search that ends where the formula has no digits or no finite number begins elsewhere before anything is said.

Truth: the maximum of scipy's own densities, found from the moments by L-BFGS-B.
"""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest
from jax.scipy.special import gammaln
from scipy import stats
from scipy.optimize import minimize

import mlejax as mle

FAR = 1e14  # a start at which the textbook formula has no digits


@mle.model(mu=mle.Positive(), theta=mle.Positive())
def negative_binomial(params: Any, data: Any) -> Any:
    y, mu, theta = data["y"], params["mu"], params["theta"]
    ways = gammaln(y + theta) - gammaln(theta) - gammaln(y + 1.0)
    return ways + theta * jnp.log(theta / (theta + mu)) + y * jnp.log(mu / (theta + mu))


@mle.model(a=mle.Real(), s=mle.Positive())
def root(params: Any, data: Any) -> Any:
    """A normal law that is written so that it is finite only for a > -3."""
    z = (data["y"] - params["a"]) / params["s"]
    return -0.5 * z**2 - jnp.log(params["s"]) + 0.0 * jnp.sqrt(params["a"] + 3.0)


def counts() -> np.ndarray:
    return np.random.default_rng(4).negative_binomial(2, 0.3, size=200) * 1.0


def truth(y: np.ndarray) -> tuple[float, float]:
    """The highest log-likelihood of a negative binomial by scipy, and its theta; mu is the mean."""

    def minus(log_theta: Any) -> float:
        theta = np.exp(log_theta[0])
        return -float(stats.nbinom.logpmf(y, theta, theta / (theta + y.mean())).sum())

    found = minimize(minus, [0.0], method="L-BFGS-B", options={"ftol": 1e-15, "gtol": 1e-9})
    return -float(found.fun), float(np.exp(found.x[0]))


def test_a_start_without_digits_is_not_the_end() -> None:
    llf, theta = truth(counts())
    res = negative_binomial.fit({"y": counts()}, start={"theta": FAR})
    assert res.verdict.code == "verified"
    assert res.llf == pytest.approx(llf, abs=1e-6)
    assert res.params["theta"] == pytest.approx(theta, rel=1e-4)
    assert "another start led here" in str(res.summary())


def test_so_it_is_in_batches() -> None:
    y = counts()
    llf = truth(y)[0]
    many = negative_binomial.fit_batch({"y": np.stack([y, y[::-1]])}, start={"theta": np.array([FAR, 1.0])})
    assert list(many.verdict) == ["verified"] * 2
    assert many.llf.to_numpy() == pytest.approx(llf, abs=1e-6)


def test_a_start_without_numbers_is_not_the_end() -> None:
    y = np.random.default_rng(1).normal(size=60)
    res = root.fit({"y": y}, start={"a": -4.0})
    assert res.verdict.code == "verified"
    assert res.params.to_numpy() == pytest.approx([y.mean(), y.std()], abs=1e-7)
