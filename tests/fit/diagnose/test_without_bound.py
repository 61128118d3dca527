"""A log-likelihood without a bound may have a finite maximum beside it, which further starts find.

* Extreme values, written with a guard (`jnp.maximum(1 + xi z, 1e-300)`): outside the support the guard gives 690 (1 + 1/xi) a
  row, and for xi < -1 it rises without bound, as the density itself does (Smith 1985).  The maximum is scipy's.
* A mixture of two normals, one of which starts on a single row (Kiefer & Wolfowitz 1956).  The maximum is that of EM in NumPy.
"""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest
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


@pytest.mark.parametrize("i", [0, 1])
def test_a_finite_maximum_is_found_beside_a_guard(many: Any, i: int) -> None:
    y = extreme_values((3, 5)[i])
    c, loc, scale = stats.genextreme.fit(y)
    at = [loc, scale, -c]
    assert many[i].verdict.code == "verified"
    np.testing.assert_allclose(many[i].llf, stats.genextreme.logpdf(y, c, loc, scale).sum(), rtol=1e-7)
    np.testing.assert_allclose(list(many[i].params), at, rtol=1e-3)


def test_that_the_log_likelihood_has_no_bound_is_said(many: Any) -> None:
    one = guarded_gev.fit({"y": extreme_values(3)})
    assert one.verdict.code == "verified"
    assert "rises without bound" in one.verdict.statement
    assert many[0].verdict.statement == one.verdict.statement


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
