"""Searches that creep along a ridge that bends: location, scale and shape run away together, and no straight ray stays on it.

The truth is the log-likelihood of the family at the limit, at its closed-form maximum.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.scipy.special import gammaln
from scipy import optimize, stats

import mlejax as mle

pytestmark = pytest.mark.filterwarnings("ignore::mlejax.ConvergenceWarning")


@mle.model(c=mle.Positive(), loc=mle.Real(), scale=mle.Positive())
def log_gamma(p: Any, d: Any) -> Any:
    z = (d["y"] - p["loc"]) / p["scale"]
    return p["c"] * z - jnp.exp(z) - gammaln(p["c"]) - jnp.log(p["scale"])


@mle.model(a=mle.Positive(), c=mle.Positive(), scale=mle.Positive())
def generalised_gamma(p: Any, d: Any) -> Any:
    z = d["y"] / p["scale"]
    return jnp.log(p["c"]) + (p["c"] * p["a"] - 1) * jnp.log(z) - z ** p["c"] - gammaln(p["a"]) - jnp.log(p["scale"])


def normals(skewed: bool, n: int, seed: int) -> np.ndarray:
    """Normal samples with the sample skewness that a log-gamma cannot follow, or can."""
    rng, found = np.random.default_rng(seed), list[np.ndarray]()
    while len(found) < n:
        y = rng.normal(10.0, 3.0, size=100)
        if (stats.skew(y) < -0.05) == skewed:
            found.append(y)
    return np.stack(found)


def test_a_log_gamma_of_symmetric_data_levels_off_at_the_normal() -> None:
    """It is skewed to the left: samples skewed to the right are best described by its limit."""
    y = normals(False, 3, 0)
    many, highest = log_gamma.fit_batch({"y": y}), stats.norm.logpdf(y.T, y.mean(axis=1), y.std(axis=1)).sum(axis=0)
    for i, verdict in enumerate([*(many[i].verdict for i in range(3)), log_gamma.fit({"y": y[0]}).verdict]):
        assert verdict.code == "no_finite_maximum"
        assert verdict.evidence["supremum"] == pytest.approx(highest[i % 3], abs=0.01)
        assert "c -> +inf" in verdict.statement


def test_of_data_skewed_to_the_left_it_has_a_maximum() -> None:
    y = normals(True, 2, 1)
    many, normal = log_gamma.fit_batch({"y": y}), stats.norm.logpdf(y.T, y.mean(axis=1), y.std(axis=1)).sum(axis=0)
    assert (many.verdict == "verified").all()
    assert (many.llf > normal).all()


def test_no_log_likelihood_is_said_to_rise_without_bound_beyond_the_supremum_at_the_lognormal() -> None:
    """A scale of 1e-154, where (y / scale)**c is nearly constant: the others have to follow it."""
    y = np.exp(normals(False, 3, 2) / 4.0)
    z = np.log(y)
    highest = stats.norm.logpdf(z.T, z.mean(axis=1), z.std(axis=1)).sum(axis=0) - z.sum(axis=1)
    many = generalised_gamma.fit_batch({"y": y})
    for i in range(3):
        verdict = many[i].verdict
        if verdict.code == "no_finite_maximum":
            assert verdict.evidence["supremum"] == pytest.approx(highest[i], abs=0.01)
        else:
            assert verdict.code == "verified"
            assert many.llf[i] >= highest[i]


@mle.model(b=mle.Positive(), scale=mle.Positive())
def rice(p: Any, d: Any) -> Any:
    z = d["y"] / p["scale"]
    return jnp.log(z) - 0.5 * (z - p["b"]) ** 2 + jnp.log(jax.scipy.special.i0e(z * p["b"])) - jnp.log(p["scale"])


def test_a_maximum_flatter_than_quadratic_is_one_where_its_digits_are_good() -> None:
    """Near b = 0 the log-likelihood moves with b**4: scipy's has its maximum at the same point, of the same height."""
    y = np.asarray(stats.rayleigh.rvs(scale=3.0, size=(6, 100), random_state=np.random.default_rng(11)))
    many = rice.fit_batch({"y": y})
    for i in np.flatnonzero(many.verdict == "verified"):
        of = lambda q, y=y[i]: -stats.rice.logpdf(y, np.exp(q[0]), scale=np.exp(q[1])).sum()
        best = min(optimize.minimize(of, [np.log(b), np.log(3.0)], method="Nelder-Mead").fun for b in (0.3, 1.0))
        assert many.llf[i] == pytest.approx(-best, abs=1e-5)
    levels = stats.rayleigh.logpdf(y, scale=np.sqrt((y**2).mean(axis=1, keepdims=True) / 2)).sum(axis=1)
    for i in np.flatnonzero(many.verdict == "no_finite_maximum"):
        assert many[i].verdict.evidence["supremum"] == pytest.approx(levels[i], abs=0.01)
    assert set(many.verdict) == {"verified", "no_finite_maximum"}


@mle.model(a=mle.Real(), b=mle.Positive(), loc=mle.Real(), s=mle.Positive())
def johnson_su(p: Any, d: Any) -> Any:
    z = (d["y"] - p["loc"]) / p["s"]
    density = stats_norm(p["a"] + p["b"] * jnp.arcsinh(z))
    return density + jnp.log(p["b"]) - jnp.log(p["s"]) - 0.5 * jnp.log1p(z * z)


def stats_norm(x: Any) -> Any:
    return -0.5 * x**2 - 0.5 * jnp.log(2.0 * jnp.pi)


def highest_lognormal(y: np.ndarray) -> float:
    """Of lognormals beyond a threshold, mirrored or not, and of their limit, the normal; given the threshold in closed form."""

    def minus(log_distance: float, sign: float) -> float:
        z = np.log(sign * y - (sign * y).min() + np.exp(log_distance))
        return -float(stats.norm.logpdf(z, z.mean(), z.std()).sum() - z.sum())

    ends = [optimize.minimize_scalar(minus, bounds=(-2.0, 12.0), args=(sign,), method="bounded") for sign in (1.0, -1.0)]
    return max(stats.norm.logpdf(y, y.mean(), y.std()).sum(), *(-end.fun for end in ends))


@pytest.mark.parametrize("seed", [4, pytest.param(0, marks=pytest.mark.slow), pytest.param(6, marks=pytest.mark.slow)])
def test_a_johnson_su_of_light_tails_levels_off_at_the_lognormal(seed: int) -> None:
    """Its limits have a boundary of their own, the normal: scale, location and skewness run away at different paces."""
    y = np.random.default_rng(seed).normal(size=100)
    assert stats.kurtosis(y) < 0.0
    verdict = johnson_su.fit({"y": y}).verdict
    assert verdict.code == "no_finite_maximum"
    assert verdict.evidence["supremum"] == pytest.approx(highest_lognormal(y), abs=0.01)
