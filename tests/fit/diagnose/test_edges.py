"""Edges whose score vanishes by symmetry: decided by the profile off them."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest
from jax.scipy.stats import norm
from scipy import optimize, stats

import mlejax as mle


@mle.model(b=mle.Real(), sv=mle.Positive(), su=mle.NonNegative())
def frontier(p: Any, d: Any) -> Any:
    """Half-normal production frontier (Aigner, Lovell & Schmidt 1977): y = b + v - u."""
    s, lam = jnp.sqrt(p["sv"] ** 2 + p["su"] ** 2), p["su"] / p["sv"]
    e = (d["y"] - p["b"]) / s
    return jnp.log(2.0) - jnp.log(s) + norm.logpdf(e) + norm.logcdf(-e * lam)


def by_scipy(y: np.ndarray) -> float:
    """The highest of several starts, in scipy's own skew-normal, of which this is another name."""
    # y = b + sqrt(sv^2 + su^2) Z with Z skew-normal of shape -su / sv <= 0
    minus = lambda x: -stats.skewnorm.logpdf(y, -np.exp(x[0]), x[1], np.exp(x[2])).sum()
    starts = [(a, y.mean() + c, np.log(y.std())) for a in (-1.0, 0.5, 1.5) for c in (0.0, 1.0)]
    return float(max(-optimize.minimize(minus, x, method="Nelder-Mead", options={"maxiter": 4000}).fun for x in starts))


@pytest.mark.parametrize("seed", range(8))
def test_a_skewed_frontier_leaves_its_edge(seed: int) -> None:
    rng = np.random.default_rng(seed)
    y = 1.0 + rng.normal(size=120) * 0.6 - np.abs(rng.normal(size=120)) * 0.9
    res = frontier.fit({"y": y}, start={"b": y.mean(), "sv": y.std(), "su": 0.0})
    if stats.skew(y) < 0:
        assert res.verdict.code == "verified"
        assert res.params["su"] > 0.1
        assert res.llf == pytest.approx(by_scipy(y), abs=1e-4)
    else:  # Waldman 1982: least squares is a maximum where the residuals are skewed the wrong way
        assert res.verdict.code == "boundary"
        assert res.params["su"] == 0.0
        assert res.llf == pytest.approx(stats.norm.logpdf(y, y.mean(), y.std()).sum(), rel=1e-9)


@pytest.mark.parametrize("seed", range(6))
def test_beside_a_slope_the_mean_is_collinear_with_the_edge(seed: int) -> None:
    """With su = 0 the scores of su and of the intercept are the same, so that a search over both stops at a singular matrix."""

    @mle.model(b=mle.Real(shape=2), sv=mle.Positive(), su=mle.NonNegative())
    def regression(p: Any, d: Any) -> Any:
        at = {"b": p["b"][0] + p["b"][1] * d["x"], "sv": p["sv"], "su": p["su"]}
        return frontier.likelihood.function(at, d)

    rng = np.random.default_rng(100 + seed)
    x, v, u = rng.normal(size=200), rng.normal(size=200), np.abs(rng.normal(size=200))
    y = 1.0 + 0.5 * x + 0.5 * v - 0.5 * u
    X = np.column_stack([np.ones(200), x])
    rest = y - X @ np.linalg.lstsq(X, y, rcond=None)[0]
    res = regression.fit({"x": x, "y": y})
    assert res.verdict.code == ("verified" if stats.skew(rest) < 0 else "boundary")
    assert res.llf >= stats.norm.logpdf(rest, 0.0, rest.std()).sum() - 1e-9


@mle.model(p=mle.Interval(0, 1, closed="both"))
def shares(q: Any, d: Any) -> Any:
    """Its score is NaN at p = 0 where y = 0, and at p = 1 where y = n: a float power of 0."""
    return jnp.log(q["p"] ** d["y"] * (1 - q["p"]) ** (d["n"] - d["y"]))


@pytest.mark.parametrize("edge", [0.0, 1.0])
def test_an_edge_on_which_the_score_is_no_number_is_decided_by_its_limit(edge: float) -> None:
    """All failures, or all successes: the likelihood (1 - p)**n or p**n is highest on the edge, where it is 1."""
    n = np.arange(1.0, 21.0)
    res = shares.fit({"y": edge * n, "n": n})
    assert res.verdict.code == "boundary", res.verdict
    assert res.params["p"] == edge
    assert res.llf == pytest.approx(0.0, abs=1e-9)
    many = shares.fit_batch({"y": np.stack([edge * n] * 2), "n": np.stack([n] * 2)})
    assert list(many.verdict) == ["boundary"] * 2


@mle.model(m=mle.Real(), s=mle.Positive())
def gaussian(p: Any, d: Any) -> Any:
    return norm.logpdf(d["y"], p["m"], p["s"])


@pytest.mark.parametrize(("seed", "spread"), [(1, 2.5), (11, 1.0)])
def test_a_small_standard_deviation_beside_one_on_its_edge_is_a_maximum(seed: int, spread: float) -> None:
    """The log-likelihood is even in a standard deviation: of one with an error 9 to 25 times its size, the score changes over
    0.001 standard errors by several per cent more or less than the information says.

    The maximum by scipy, of the units' normal densities in closed form.
    """
    rng, clinic = np.random.default_rng(seed), np.repeat(np.arange(40), 5)
    dose = rng.uniform(0, 1, 200)
    y = 120 + 5 * dose + spread * rng.normal(size=40)[clinic] + 8 * rng.normal(size=200)

    def minus(t: np.ndarray) -> float:
        x, e = dose.reshape(40, 5), (y - t[0] - t[1] * dose).reshape(40, 5)
        V = np.exp(2 * t[2]) * np.eye(5) + t[3] ** 2 + t[4] ** 2 * x[:, :, None] * x[:, None, :]
        within = np.einsum("ki,kij,kj->k", e, np.linalg.inv(V), e)
        return float(0.5 * (5 * np.log(2 * np.pi) + np.linalg.slogdet(V)[1] + within).sum())

    best = optimize.minimize(minus, [120.0, 5.0, 2.0, 0.3, 1.0], method="BFGS", options={"gtol": 1e-6})
    model = gaussian.regress(m=mle.Linear("dose", random="1 + dose || clinic"))
    res = model.fit({"y": y, "dose": dose, "clinic": clinic})
    assert res.verdict.code == "boundary"
    assert "sd(m|clinic)[Intercept] is at the bound 0" in res.verdict.statement
    assert res.llf == pytest.approx(-best.fun, abs=1e-6)
    assert res.params["sd(m|clinic)[dose]"] == pytest.approx(abs(best.x[4]), abs=0.01)  # its error is 6 to 10
