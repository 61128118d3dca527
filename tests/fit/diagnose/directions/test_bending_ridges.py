"""Rounded samples in two neighbouring cells: the scale goes to 0 and the location to the limit between them at the same pace.

The truth is the binomial's maximum, n1 log(n1/n) + n0 log(n0/n), or with a covariate the probit's, by Newton's method in NumPy:
the two cells together have probability 1 at most, and in the limit 1.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.scipy.stats import norm
from scipy import optimize, stats

import mlejax as mle

pytestmark = pytest.mark.filterwarnings("ignore::mlejax.ConvergenceWarning")

N = 60
CDF: dict[str, Callable[..., Any]] = {"normal": norm.cdf, "logistic": jax.nn.sigmoid}


def cells(cdf: Callable[..., Any]) -> Callable[..., Any]:
    def function(params: Any, data: Any) -> Any:
        low, high = ((data[side] - params["mu"]) / params["sigma"] for side in ("lo", "hi"))
        return jnp.log(cdf(high) - cdf(low))

    return function


MODELS = {name: mle.model(mu=mle.Real(), sigma=mle.Positive())(cells(cdf)) for name, cdf in CDF.items()}


@mle.model(mu=mle.Real(), log_sigma=mle.Real())
def in_logarithms(params: Any, data: Any) -> Any:
    return cells(norm.cdf)({"mu": params["mu"], "sigma": jnp.exp(params["log_sigma"])}, data)


@mle.model(a=mle.Real(), b=mle.Real(), sigma=mle.Positive())
def line(params: Any, data: Any) -> Any:
    return cells(norm.cdf)({"mu": params["a"] + params["b"] * data["x"], "sigma": params["sigma"]}, data)


def rounded(seed: int, width: float = 1.0) -> tuple[dict[str, np.ndarray], float]:
    """A normal sample rounded down to 10 and 11 (times ``width``), and the binomial's maximum."""
    low = np.floor(np.random.default_rng(seed).normal(10.9, 0.2, N))
    assert set(low) == {10.0, 11.0}
    share = float((low == 11.0).mean())
    return {"lo": width * low, "hi": width * low + 1.0}, N * (share * np.log(share) + (1.0 - share) * np.log(1.0 - share))


def levels_off(verdict: mle.Verdict, supremum: float) -> None:
    assert verdict.code == "no_finite_maximum", verdict
    assert verdict.evidence["supremum"] == pytest.approx(supremum, abs=1e-6)


@pytest.mark.parametrize("seed", range(4))
def test_two_cells_level_off_at_the_binomial(seed: int) -> None:
    data, supremum = rounded(seed)
    named = ((MODELS["normal"], "sigma -> 0"), (MODELS["logistic"], "sigma -> 0"), (in_logarithms, "log_sigma -> -inf"))
    for model, name in named:
        verdict = model.fit(data).verdict
        levels_off(verdict, supremum)
        assert name in verdict.statement


def test_it_is_so_in_batches() -> None:
    each = [rounded(seed) for seed in range(4)]
    many = MODELS["normal"].fit_batch({k: np.stack([data[k] for data, _ in each]) for k in ("lo", "hi")})
    for i, (_, supremum) in enumerate(each):
        levels_off(many[i].verdict, supremum)


def test_with_a_covariate_it_levels_off_at_the_probit() -> None:
    rng = np.random.default_rng(1)
    x = rng.normal(size=N)
    up = 5.9 + 0.3 * x + 0.2 * rng.normal(size=N) > 6.0
    side = np.where(up, 1.0, -1.0)
    fall = lambda b: -stats.norm.logcdf(side * (b[0] + b[1] * x)).sum()
    probit = optimize.minimize(fall, np.zeros(2), method="BFGS", options={"gtol": 1e-9})
    levels_off(line.fit({"lo": 5.0 + up, "hi": 6.0 + up, "x": x}).verdict, -probit.fun)


def test_cells_that_are_no_neighbours_or_more_than_two_have_a_maximum() -> None:
    apart, _ = rounded(0, width=5.0)
    low = np.floor(np.random.default_rng(0).normal(10.9, 0.6, N))
    for data in (apart, {"lo": low, "hi": low + 1.0}):
        fall = lambda t, d=data: -np.log(
            stats.norm.cdf((d["hi"] - t[0]) / np.exp(t[1])) - stats.norm.cdf((d["lo"] - t[0]) / np.exp(t[1]))
        ).sum()
        best = optimize.minimize(
            fall, [data["lo"].mean() + 0.5, 0.5], method="Nelder-Mead", options={"xatol": 1e-9, "fatol": 1e-12}
        )
        for model in (MODELS["normal"], in_logarithms):
            res = model.fit(data)
            assert res.verdict.code == "verified", res.verdict
            assert res.llf == pytest.approx(-best.fun, abs=1e-7)


@mle.model(mu=mle.Real())
def in_large_units(params: Any, data: Any) -> Any:
    return norm.logpdf(data["y"], params["mu"], 1e7)


def test_a_mean_near_zero_in_large_units_is_a_maximum() -> None:
    """Its standard error is a million times the estimate, without any flat stretch."""
    y = np.random.default_rng(0).normal(0.0, 1e7, N)
    res = in_large_units.fit({"y": y - y.mean()})
    assert res.verdict.code == "verified"
    assert res.bse["mu"] == pytest.approx(1e7 / np.sqrt(N), rel=1e-9)
