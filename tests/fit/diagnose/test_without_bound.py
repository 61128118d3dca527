"""Ends at infinity and ends whose last digits are lost: a finite maximum beside them, or a limit, is found.

* Extreme values, written with a guard (`jnp.maximum(1 + xi z, 1e-300)`): outside the support the guard gives 690 (1 + 1/xi) a
  row, and for xi < -1 it rises without bound, as the density itself does (Smith 1985).  The maximum is scipy's.
* Michaelis and Menten's curve of straight data, whose limit is a line; a beta of nearly equal shares, by mpmath.
* A mixture of two normals, one of which starts on a single row (Kiefer & Wolfowitz 1956).  The maximum is that of EM in NumPy.
"""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
import mpmath
import numpy as np
import pytest
from jax.scipy.special import gammaln
from jax.scipy.stats import norm
from scipy import stats

import mlejax as mle
from mlejax.shapes import Float, Host


@mle.model(loc=mle.Real(), scale=mle.Positive(), xi=mle.Real())
def guarded_gev(params: Any, data: Any) -> Any:
    t = jnp.maximum(1 + params["xi"] * (data["y"] - params["loc"]) / params["scale"], 1e-300)
    return -jnp.log(params["scale"]) - (1 + 1 / params["xi"]) * jnp.log(t) - t ** (-1 / params["xi"])


@mle.model(share=mle.Interval(0, 1), m=mle.Real(shape=2), s=mle.Positive(shape=2))
def two_normals(params: Any, data: Any) -> Any:
    share, m, s = params["share"], params["m"], params["s"]
    first = jnp.log(share) + norm.logpdf(data["y"], m[0], s[0])
    return jnp.logaddexp(first, jnp.log1p(-share) + norm.logpdf(data["y"], m[1], s[1]))


def extreme_values(seed: int) -> Float[Host, " n"]:
    return stats.genextreme.rvs(0.1, loc=20.0, scale=5.0, size=60, random_state=np.random.default_rng(seed))


@pytest.fixture(scope="module")
def many() -> Any:
    with pytest.warns(mle.ConvergenceWarning):  # a constant outcome has no other maximum
        return guarded_gev.fit_batch({"y": np.stack([extreme_values(3), extreme_values(5), np.full(60, 2.0)])})


def highest(y: Float[Host, " n"]) -> float:
    c, loc, scale = stats.genextreme.fit(y)
    return float(stats.genextreme.logpdf(y, c, loc, scale).sum())


def test_a_finite_maximum_is_found_beside_a_guard_and_both_are_said() -> None:
    one = guarded_gev.fit({"y": extreme_values(3)})
    assert one.verdict.code == "verified"
    assert "rises without bound" in one.verdict.statement
    np.testing.assert_allclose(one.llf, highest(extreme_values(3)), rtol=1e-7)


@pytest.mark.slow
@pytest.mark.parametrize(("i", "seed"), [(0, 3), (1, 5)])
def test_in_a_batch_too(many: Any, i: int, seed: int) -> None:
    assert many[i].verdict.code == "verified"
    assert "rises without bound" in many[i].verdict.statement
    np.testing.assert_allclose(many[i].llf, highest(extreme_values(seed)), rtol=1e-7)


@pytest.mark.slow
def test_without_another_maximum_the_advice_names_further_starts(many: Any) -> None:
    assert many[2].verdict.code == "no_finite_maximum"
    assert "n_starts=" in many[2].verdict.advice


def by_em(y: Float[Host, " n"], m: list[float], s: list[float]) -> float:
    """The maximum of the mixture that EM reaches from equal shares."""
    share, centre, scale = 0.5, np.array(m), np.array(s)
    for _ in range(3000):
        parts = np.array([share, 1 - share])[:, None] * stats.norm.pdf(y, centre[:, None], scale[:, None])
        r = parts / parts.sum(axis=0)
        share, centre = float(r[0].mean()), (r @ y) / r.sum(axis=1)
        scale = np.sqrt((r * (y - centre[:, None]) ** 2).sum(axis=1) / r.sum(axis=1))
    return float(np.log(parts.sum(axis=0)).sum())


@pytest.mark.slow
def test_a_mixture_that_starts_on_one_row_goes_to_a_maximum() -> None:
    rng = np.random.default_rng(0)
    y = np.concatenate([rng.normal(0.0, 1.0, 60), rng.normal(6.0, 1.5, 60)])
    start = {"share": 0.01, "m": [y[7], 3.0], "s": [1e-3, 3.0]}
    res = two_normals.fit({"y": y}, start=start)
    assert res.verdict.code == "verified"
    assert "rises without bound" in res.verdict.statement
    np.testing.assert_allclose(res.llf, by_em(y, [0.0, 6.0], [1.0, 1.5]), rtol=1e-8)


@mle.model(V=mle.Positive(), K=mle.Positive(), sigma=mle.Positive())
def michaelis_menten(params: Any, data: Any) -> Any:
    return norm.logpdf(data["y"], params["V"] * data["x"] / (params["K"] + data["x"]), params["sigma"])


def test_a_curve_of_straight_data_levels_off_at_the_line() -> None:
    """V and K to infinity together: a line through 0, whose maximum is in closed form.  V / K stays: flat for many doublings."""
    rng = np.random.default_rng(4)
    x = rng.uniform(0.1, 3.0, (6, 60))
    y = 2.0 * x + 0.1 * x**2 + 0.3 * rng.normal(size=x.shape)  # bends upwards, which the curve cannot
    slope = (x * y).sum(axis=1) / (x * x).sum(axis=1)
    line = -30.0 * (np.log(2 * np.pi * ((y - slope[:, None] * x) ** 2).mean(axis=1)) + 1.0)
    with pytest.warns(mle.ConvergenceWarning):
        sets = michaelis_menten.fit_batch({"x": x, "y": y})
    with pytest.warns(mle.ConvergenceWarning):
        one = michaelis_menten.fit({"x": x[0], "y": y[0]})
    for verdict, level in zip([one.verdict, *(sets[i].verdict for i in range(6))], [line[0], *line], strict=True):
        assert verdict.code == "no_finite_maximum"
        np.testing.assert_allclose(verdict.supremum, level, atol=1e-3)


def test_scales_of_which_only_the_product_counts_are_not_identified() -> None:
    @mle.model(a=mle.Positive(), b=mle.Positive())
    def product(params: Any, data: Any) -> Any:
        return norm.logpdf(data["y"], 0.0, params["a"] * params["b"])

    with pytest.warns(mle.ConvergenceWarning):
        assert product.fit({"y": np.random.default_rng(0).normal(size=40)}).verdict.code == "not_identified"


@mle.model(m=mle.Interval(0, 1), phi=mle.Positive())
def beta_by_precision(params: Any, data: Any) -> Any:
    a, b, y = params["m"] * params["phi"], (1 - params["m"]) * params["phi"], data["y"]
    return (a - 1) * jnp.log(y) + (b - 1) * jnp.log1p(-y) + gammaln(a + b) - gammaln(a) - gammaln(b)


def test_where_the_value_has_fewer_digits_than_the_score_the_score_decides() -> None:
    """A beta of shares within 1e-4 of one another: its value is right to 1e-4, and gains of 1e-6 cannot be seen in it.

    The maximum is where the two equations of the score hold, solved by mpmath with 40 digits.
    """
    rng = np.random.default_rng(1373)
    y = np.clip(0.4 + 1e-4 * rng.normal(size=(6, 80)), 0.0, 1.0)
    many = beta_by_precision.fit_batch({"y": y})
    with mpmath.workdps(40):
        for i in range(6):
            shares = [mpmath.mpf(float(v)) for v in y[i]]
            first, second = (mpmath.fsum(map(mpmath.log, s)) / 80 for s in (shares, [1 - v for v in shares]))

            def score(a: Any, b: Any, first: Any = first, second: Any = second) -> list[Any]:
                both = mpmath.digamma(a + b)
                return [mpmath.digamma(a) - both - first, mpmath.digamma(b) - both - second]

            m, phi = map(float, many[i].params)
            a, b = mpmath.findroot(score, (m * phi, (1 - m) * phi))
            assert many[i].verdict.code == "verified"
            np.testing.assert_allclose(m, float(a / (a + b)), rtol=1e-8)
            np.testing.assert_allclose(phi, float(a + b), rtol=1e-3)  # its standard error is 0.16 of it
