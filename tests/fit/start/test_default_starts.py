"""Densities of location, scale and shapes, and recursions, from no start; the truth is scipy's density at its own maximum."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from jax.scipy.special import gammaln, log_ndtr
from jax.scipy.stats import norm
from scipy import stats
from scipy.optimize import minimize

import mlejax as mle
from mlejax.fit.prepare.loading import load
from mlejax.fit.start import first_guess
from mlejax.objective import with_leading_axis


@mle.model(loc=mle.Real(), scale=mle.Positive(), xi=mle.Real())
def gev(p: Any, d: Any) -> Any:
    """As textbooks write it, with the usual guard at xi = 0."""
    z = (d["y"] - p["loc"]) / p["scale"]
    tiny = jnp.abs(p["xi"]) < 1e-8
    xi = jnp.where(tiny, 1.0, p["xi"])
    t = 1 + xi * z
    inside = t > 0
    w = jnp.where(tiny, z, jnp.log(jnp.where(inside, t, 1.0)) / xi)
    value = -jnp.log(p["scale"]) - jnp.where(tiny, 1.0, 1 + xi) * w - jnp.exp(-w)
    return jnp.where(tiny | inside, value, -jnp.inf)


@mle.model(s=mle.Positive(), xi=mle.Real())
def gpd(p: Any, d: Any) -> Any:
    z = d["y"] / p["s"]
    tiny = jnp.abs(p["xi"]) < 1e-8
    xi = jnp.where(tiny, 1.0, p["xi"])
    t = 1 + xi * z
    inside = t > 0
    return -jnp.log(p["s"]) - jnp.where(
        tiny, z, jnp.where(inside, (1 + 1 / xi) * jnp.log(jnp.where(inside, t, 1.0)), jnp.inf)
    )


def highest(
    logpdf: Callable[..., Any], y: np.ndarray, starts: Sequence[Sequence[float]], positive: Sequence[int]
) -> float:
    """The maximum of scipy's log-likelihood, from these parameters, of which some are logarithms in the search."""

    def minus(u: np.ndarray) -> float:
        q = np.array(u)
        q[list(positive)] = np.exp(q[list(positive)])
        with np.errstate(all="ignore"):
            value = -np.sum(logpdf(y, *q))
        return float(value) if np.isfinite(value) else 1e10

    found = []
    for start in starts:
        u = np.array(start, float)
        u[list(positive)] = np.log(u[list(positive)])
        best = minimize(minus, u, method="Nelder-Mead", options={"maxfev": 1000, "xatol": 1e-6, "fatol": 1e-8})
        found.append(-best.fun)
    return float(max(found))


@pytest.mark.parametrize("every", [6, pytest.param(2, marks=pytest.mark.slow)])
def test_extreme_values_of_any_location_and_scale(every: int) -> None:
    """60 samples; xi is in no unit, so that a start on the scale of the data is far from any maximum."""
    rng = np.random.default_rng(0)
    places = [(0.0, 1.0), (30.0, 10.0), (300.0, 50.0), (5.0, 0.5), (-20.0, 3.0), (1000.0, 1.0)]
    true = [(-xi, *places[k % 6]) for xi in (0.0, 0.2, -0.2, 0.1, -0.1) for k in range(12)]
    y = np.stack([stats.genextreme.rvs(*q, size=100, random_state=rng) for q in true])
    res = gev.fit_batch({"y": y})
    assert (res.verdict == "verified").all(), res.verdict.value_counts()
    for i, q in list(enumerate(true))[::every]:
        mine = stats.genextreme.logpdf(y[i], -res.params["xi"][i], res.params["loc"][i], res.params["scale"][i]).sum()
        assert mine == pytest.approx(res.llf[i], abs=1e-8)
        assert mine >= highest(stats.genextreme.logpdf, y[i], [q], [2]) - 1e-6
    for i in (5, 17, 40):
        one = gev.fit({"y": y[i]})
        assert one.verdict.code == "verified"
        np.testing.assert_allclose(one.params, res.params.iloc[i], rtol=1e-6)


@pytest.mark.parametrize(("unit", "every"), [(1.0, 8), (1e8, 8), pytest.param(1.0, 1, marks=pytest.mark.slow)])
def test_a_guard_at_the_limit_of_a_shape_is_no_start(unit: float, every: int) -> None:
    """At |xi| < 1e-8 the formula is that of the exponential law, in which xi has no score and no information."""
    rng = np.random.default_rng(0)
    true = [(xi, 3.0 * unit) for xi in (-0.3, -0.1, 0.0, 0.1, 0.3, 0.6) for _ in range(8)]
    y = np.stack([stats.genpareto.rvs(xi, scale=s, size=150, random_state=rng) for xi, s in true])
    res = gpd.fit_batch({"y": y})
    assert (res.verdict == "verified").all(), res.verdict.value_counts()
    for i, (xi, s) in list(enumerate(true))[::every]:
        mine = stats.genpareto.logpdf(y[i], res.params["xi"][i], scale=res.params["s"][i]).sum()
        best = highest(lambda y, c, s: stats.genpareto.logpdf(y, c, scale=s), y[i], [(xi + 0.01, s)], [1])
        assert mine >= best - 1e-6
    one = gpd.fit({"y": y[20]})
    assert one.verdict.code == "verified"
    np.testing.assert_allclose(one.params, res.params.iloc[20], rtol=1e-6)


def test_a_real_scalar_beside_others_starts_off_zero() -> None:
    with jax.enable_x64(True):
        problem = load(gpd.likelihood, {"y": [1.0, 2.0, 4.0]}, None, "raise").problem
        guess = first_guess(problem.space, [None, None])
        assert guess is not None
        s, xi = guess(with_leading_axis(problem.data), 1)
    assert s.tolist() == [1.0]
    assert 1e-8 < xi[0] <= 0.01


LOCATED = {"loc": mle.Real(), "scale": mle.Positive()}


def inside(z: Any, f: Callable[[Any], Any]) -> Any:
    """f(z) where z > 0, else minus infinity."""
    return jnp.where(z > 0, f(jnp.where(z > 0, z, 1.0)), -jnp.inf)


def t(q: Any, z: Any) -> Any:
    v = q["df"]
    return gammaln((v + 1) / 2) - gammaln(v / 2) - 0.5 * jnp.log(v * jnp.pi) - (v + 1) / 2 * jnp.log1p(z * z / v)


# scipy's name -> declared shapes, whether there is a location, true values, log-density of z = (y - loc) / scale
FAMILIES: dict[str, tuple[dict[str, Any], bool, tuple[float, ...], Callable[[Any, Any], Any]]] = {
    "t": ({"df": mle.Positive()}, True, (4.0, 30.0, 2.0), t),
    "skewnorm": (
        {"a": mle.Real()},
        True,
        (4.0, 30.0, 5.0),
        lambda q, z: jnp.log(2.0) + norm.logpdf(z) + log_ndtr(q["a"] * z),
    ),
    "weibull_min": (
        {"c": mle.Positive()},
        True,
        (2.5, 300.0, 20.0),
        lambda q, z: inside(z, lambda z: jnp.log(q["c"]) + (q["c"] - 1) * jnp.log(z) - z ** q["c"]),
    ),
    "lognorm": (
        {"s": mle.Positive()},
        True,
        (0.7, 30.0, 10.0),
        lambda q, z: inside(z, lambda z: norm.logpdf(jnp.log(z) / q["s"]) - jnp.log(q["s"] * z)),
    ),
    "burr12": (
        {"c": mle.Positive(), "d": mle.Positive()},
        False,
        (3.0, 2.0, 300.0),
        lambda q, z: jnp.log(q["c"] * q["d"]) + (q["c"] - 1) * jnp.log(z) - (q["d"] + 1) * jnp.log1p(z ** q["c"]),
    ),
    "betaprime": (
        {"a": mle.Positive(), "b": mle.Positive()},
        False,
        (3.0, 4.0, 20.0),
        lambda q, z: (q["a"] - 1) * jnp.log(z) - (q["a"] + q["b"]) * jnp.log1p(z) - mle.special.betaln(q["a"], q["b"]),
    ),
}


QUICK = ("t", "burr12")


@pytest.mark.parametrize("family", [pytest.param(f, marks=() if f in QUICK else pytest.mark.slow) for f in FAMILIES])
def test_families_of_scipy_without_a_start(family: str) -> None:
    shapes, located, true, log_density = FAMILIES[family]
    declared = {**shapes, **(LOCATED if located else {"scale": mle.Positive()})}

    @mle.model(params=declared)
    def model(q: Any, data: Any) -> Any:
        return log_density(q, (data["y"] - q.get("loc", 0.0)) / q["scale"]) - jnp.log(q["scale"])

    logpdf = getattr(stats, family).logpdf
    of = logpdf if located else lambda y, *q: logpdf(y, *q[:-1], 0.0, q[-1])
    rng = np.random.default_rng(7)
    full = true if located else (*true[:-1], 0.0, true[-1])
    y = np.stack([getattr(stats, family).rvs(*full, size=100, random_state=rng) for _ in range(4)])
    res = model.fit_batch({"y": y})
    positive = [i for i, parameter in enumerate(declared.values()) if parameter.kind == "Positive"]
    for i in range(len(y)):
        assert res.verdict[i] == "verified", (i, res.params.loc[i])
        mine = of(y[i], *res.params.loc[i]).sum()
        assert mine >= highest(of, y[i], [true], positive) - 1e-5
    assert model.fit({"y": y[0]}).llf == pytest.approx(res.llf[0], abs=1e-7)


def test_recursions_start_inside_the_unit_circle() -> None:
    """ARMA(1,1), conditional on the first value, at every location and scale; the truth is the search from the true values."""

    @mle.model(c=mle.Real(), ar=mle.Real(), ma=mle.Real(), sigma=mle.Positive(), rowwise=False)
    def arma(p: Any, d: Any) -> Any:
        def step(before: Any, y: Any) -> Any:
            error = y - p["c"] - p["ar"] * before[0] - p["ma"] * before[1]
            return (y, error), norm.logpdf(error, 0.0, p["sigma"])

        return lax.scan(step, (d["y"][0], jnp.zeros_like(d["y"][0])), d["y"][1:])[1]

    rng = np.random.default_rng(1)
    for c, ar, ma, sigma in [
        (1.0, 0.6, 0.3, 1.0),
        (50.0, 0.5, -0.4, 3.0),
        (100.0, 0.2, 0.3, 10.0),
        (0.01, 0.8, -0.3, 0.02),
    ]:
        error = sigma * rng.standard_normal(250)
        y = np.full(250, c / (1 - ar))
        for i in range(1, 250):
            y[i] = c + ar * y[i - 1] + error[i] + ma * error[i - 1]
        data = {"y": y[50:]}
        res = arma.fit(data)
        assert res.verdict.code == "verified", res.verdict
        assert abs(res.params["ma"]) < 1
        near = arma.fit(data, start={"c": c, "ar": ar, "ma": ma, "sigma": sigma})
        assert res.llf >= near.llf - 1e-8
