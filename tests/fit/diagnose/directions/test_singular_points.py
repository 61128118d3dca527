"""Inflections, ridges that bend, and searches that ran out of steps.

* Skew normal, sampled at alpha = 0, where the information is singular and the log-likelihood an inflection (Azzalini 1985;
  Hallin & Ley 2012).  The reference is the best of eight BFGS runs of scipy on scipy's functions.
* Box-Cox with outcomes in small units: profiled over the transformed outcome's mean and variance in closed form, the
  log-likelihood is a function of lambda alone, which scipy maximises (Box & Cox 1964).
"""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
import mpmath
import numpy as np
import pytest
from jax.scipy.stats import norm
from scipy import optimize, stats

import mlejax as mle


@mle.model(xi=mle.Real(), omega=mle.Positive(), alpha=mle.Real())
def skew_normal(params: Any, data: Any) -> Any:
    z = (data["y"] - params["xi"]) / params["omega"]
    return jnp.log(2.0) + norm.logpdf(z) - jnp.log(params["omega"]) + norm.logcdf(params["alpha"] * z)


@mle.model(power=mle.Real(), mu=mle.Real(), sigma=mle.Positive())
def box_cox(params: Any, data: Any) -> Any:
    z = (data["y"] ** params["power"] - 1.0) / params["power"]
    return norm.logpdf(z, params["mu"], params["sigma"]) + (params["power"] - 1.0) * jnp.log(data["y"])


@mle.model(a=mle.Real(), b=mle.Real())
def logit(params: Any, data: Any) -> Any:
    eta = (2.0 * data["y"] - 1.0) * (params["a"] + params["b"] * data["x"])
    return -jnp.log1p(jnp.exp(-eta))


def loglik_of(t: Any, y: Any) -> float:
    z = (y - t[0]) * np.exp(-t[1])
    return float((np.log(2.0) + stats.norm.logpdf(z) - t[1] + stats.norm.logcdf(t[2] * z)).sum())


def highest(y: Any) -> float:
    """The highest of the finite ends, alpha below 50, of eight starts with the sample's mean and variance; -inf for none."""
    ends = []
    for alpha in (-20.0, -5.0, -2.0, -1.0, 1.0, 2.0, 5.0, 20.0):
        delta = alpha / np.hypot(1.0, alpha)
        omega = y.std() / np.sqrt(1.0 - 2.0 * delta**2 / np.pi)
        start = [y.mean() - omega * delta * np.sqrt(2.0 / np.pi), np.log(omega), alpha]
        ends.append(optimize.minimize(lambda t: -loglik_of(t, y), start, options={"gtol": 1e-7}))
    return max((-float(end.fun) for end in ends if abs(end.x[2]) < 50.0), default=-np.inf)


def error_of_alpha(y: Any, params: Any) -> float:
    """The standard error of alpha by second differences in 40 digits, at a point that has to be a maximum."""
    with mpmath.workdps(40):
        point = tuple(mpmath.mpf(float(params[name])) for name in ("xi", "omega", "alpha"))

        def loglik(xi: Any, omega: Any, alpha: Any) -> Any:
            z = [(mpmath.mpf(float(v)) - xi) / omega for v in y]
            return sum(mpmath.log(2 * mpmath.npdf(v) * mpmath.ncdf(alpha * v) / omega) for v in z)

        order = lambda i, j: tuple(int(k == i) + int(k == j) for k in range(3))
        information = -mpmath.matrix([[mpmath.diff(loglik, point, order(i, j)) for j in range(3)] for i in range(3)])
        mpmath.cholesky(information)  # raises where it is no maximum
        return float(mpmath.sqrt((information**-1)[2, 2]))


def half_normal(y: Any) -> float:
    """The log-likelihood of the limits alpha = +-inf."""
    sides = [(1.0, y.min()), (-1.0, y.max())]
    scales = [(s, e, np.sqrt(np.mean((y - e) ** 2))) for s, e in sides]
    return max(float((np.log(2.0) + stats.norm.logpdf((y - e) / w) - np.log(w)).sum()) for _, e, w in scales)


def assert_highest(y: Any, verdict: Any, llf: float) -> None:
    """The highest finite maximum, or the limit where that is higher: both are true there, no other end is."""
    finite, limit = highest(y), half_normal(y)
    if verdict.code == "verified":
        # where the sample is next to symmetrical there are two maxima, of next to the same height
        assert llf > finite - 5e-3
    else:
        assert limit > finite - 1e-6, verdict
        assert verdict.code == "no_finite_maximum", verdict
        assert verdict.evidence["supremum"] == pytest.approx(limit, abs=0.01)


def symmetric_samples(n: int, n_samples: int) -> Any:
    return np.stack([np.random.default_rng(seed).normal(size=n) for seed in range(n_samples)])


@pytest.mark.filterwarnings("ignore::mlejax.ConvergenceWarning")
@pytest.mark.parametrize(
    ("n", "n_samples"),
    [(100, 6), pytest.param(100, 30, marks=pytest.mark.slow), pytest.param(200, 30, marks=pytest.mark.slow)],
)
def test_the_search_leaves_the_inflection_of_a_skew_normal(n: int, n_samples: int) -> None:
    for y in symmetric_samples(n, n_samples):
        res = skew_normal.fit({"y": y})
        assert_highest(y, res.verdict, res.llf)
        limit = max(1.0, abs(res.params["alpha"]))
        assert not res.bse["alpha"] > 15.0 * limit  # 20 to 66 at the inflection
        if res.bse["alpha"] > 10.0 * limit:  # 10.04649635 in one sample
            assert res.bse["alpha"] == pytest.approx(error_of_alpha(y, res.params), rel=1e-6)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::mlejax.ConvergenceWarning")
def test_in_a_batch_too() -> None:
    y = symmetric_samples(100, 30)
    res = skew_normal.fit_batch({"y": y})
    for i in range(len(y)):
        assert_highest(y[i], res[i].verdict, float(res.llf[i]))


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::mlejax.ConvergenceWarning")
def test_skewed_samples_have_a_maximum_or_level_off_at_the_half_normal() -> None:
    for seed in range(20):
        y = stats.skewnorm.rvs(8.0, size=40, random_state=seed)
        res = skew_normal.fit({"y": y})
        assert_highest(y, res.verdict, res.llf)


def box_cox_profile(power: float, y: Any) -> float:
    z = np.expm1(power * np.log(y)) / power
    return float(-len(y) / 2.0 * (np.log(2.0 * np.pi * z.var()) + 1.0) + (power - 1.0) * np.log(y).sum())


@pytest.mark.parametrize(
    "unit", [1.0, 1e-6, pytest.param(1e-9, marks=pytest.mark.slow), pytest.param(1e6, marks=pytest.mark.slow)]
)
@pytest.mark.parametrize("seed", [5, 7])
def test_box_cox_in_any_units(unit: float, seed: int) -> None:
    y = np.random.default_rng(seed).gamma(3.0, 1.0, size=150) * unit
    best = optimize.minimize_scalar(lambda power: -box_cox_profile(power, y), bounds=(0.05, 1.0), method="bounded")
    res = box_cox.fit({"y": y}, start={"power": 1.0})
    assert res.verdict.code == "verified"
    assert res.llf == pytest.approx(-best.fun, abs=1e-6)
    assert res.params["power"] == pytest.approx(best.x, abs=1e-3 * res.bse["power"])


def test_steps_that_run_out_are_said_and_no_limit_is() -> None:
    x = np.arange(20.0) - 9.5
    data = {"x": x, "y": (x > 0) * 1.0}
    with pytest.warns(mle.ConvergenceWarning):
        early = logit.fit(data, method=mle.Newton(max_steps=3))
    assert early.verdict.code == "stopped_early"
    assert "max steps" in early.verdict.statement
    assert "below a maximum" not in early.verdict.statement
    with pytest.warns(mle.ConvergenceWarning):
        late = logit.fit(data)
    assert late.verdict.code == "no_finite_maximum"
    assert late.verdict.evidence["supremum"] == pytest.approx(0.0, abs=1e-2)
