"""Recursions, the rounding of whose derivatives is not known: the fall of the log-likelihood decides."""

from __future__ import annotations

import os
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

import mlejax as mle
from mlejax.fit.diagnose.directions.falls import falls_as_it_should
from mlejax.optimize import OptimizeResult
from tests.fit.diagnose.rounding.test_digits import nb2, negative_binomial

pytestmark = pytest.mark.filterwarnings("ignore::mlejax.ConvergenceWarning")


@mle.model(mu=mle.Positive(), alpha=mle.Positive(), rowwise=False)
def recursion(p: Any, d: Any) -> Any:
    """The negative binomial of gamma functions, added up row by row."""
    return jax.lax.scan(lambda sum, y: (sum + negative_binomial(p, {"y": y}), None), jnp.zeros(()), d["y"])[0]


@mle.model(mu=mle.Positive(), alpha=mle.Positive())
def stable(p: Any, d: Any) -> Any:
    return mle.special.nb2_logpmf(d["y"], p["mu"], p["alpha"])


def counts(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).poisson(3.0, 120).astype(float)


@pytest.mark.parametrize("seed", [1, 6])
def test_a_recursion_that_loses_its_digits_levels_off_at_the_poisson(seed: int) -> None:
    """Searches ended in rounding: at a log-likelihood of 4e57, or where it "rises without bound"."""
    y = counts(seed)
    assert y.var() < y.mean()  # then the supremum is the Poisson's (Levin & Reeds 1977)
    poisson = stats.poisson.logpmf(y, y.mean()).sum()
    res = recursion.fit({"y": y})
    assert res.verdict.code == "no_finite_maximum"
    assert "alpha -> 0" in res.verdict.statement
    assert res.verdict.supremum == pytest.approx(poisson, abs=0.01)
    assert res.llf == pytest.approx(poisson, abs=0.01)


@pytest.fixture(scope="module")
def flat() -> Any:
    """An error of several units in the logarithm of alpha: the log-likelihood is a parabola only over a small part of it."""
    return recursion.fit({"y": counts(10)})


@pytest.mark.slow
def test_a_flat_maximum_of_a_recursion_stays_verified(flat: Any) -> None:
    res, other = flat, stable.fit({"y": counts(10)})
    assert res.verdict.code == other.verdict.code == "verified"
    np.testing.assert_allclose(res.bse, other.bse, rtol=1e-6)
    assert res.verdict.evidence["error_bars"]["unknown"] == ("scan",)


class Parabola:
    """An evaluator of a log-likelihood -c u^2 / 2 + cubic u^3 in the first coordinate, -v^2 / 2 in the second."""

    def __init__(self, spec: Any, curvature: float, cubic: float) -> None:
        self.spec, self.curvature, self.cubic = spec, curvature, cubic

    def logliks(self, points: Any) -> Any:
        u, v = points[0].T
        return {0: -0.5 * self.curvature * u**2 + self.cubic * u**3 - 0.5 * v**2}


@pytest.mark.skipif("MLEJAX_CHECK_SHAPES" in os.environ, reason="hands in a stand-in for the evaluator")
@pytest.mark.parametrize(
    ("curvature", "cubic", "good"), [(1.0, 0.0, True), (1.0, 0.3, True), (30.0, 0.0, False), (0.01, 0.0, False)]
)
def test_the_fall_over_one_standard_error(flat: Any, curvature: float, cubic: float, good: bool) -> None:
    """The end says that the curvature is 1."""
    at = dict.fromkeys(OptimizeResult._fields)
    at |= {"u": np.zeros(2), "information": np.eye(2), "score": np.zeros(2), "loglik": np.asarray(0.0)}
    evaluator: Any = Parabola(flat._fit.spec, curvature, cubic)
    assert falls_as_it_should(evaluator, OptimizeResult(**at), 1e-9) is good  # type: ignore[arg-type]


def test_error_bars_stand_in_the_evidence_of_every_end() -> None:
    y = np.random.default_rng(6).negative_binomial(2, 0.4, 120).astype(float)
    bars = nb2.fit({"y": y}).verdict.evidence["error_bars"]
    assert sorted(bars) == ["information", "loglik", "score"]
    assert all(0.0 < bar < 1e-9 for bar in bars.values())
    far = nb2.fit({"y": y}, fixed={"alpha": 1e-7}).verdict.evidence["error_bars"]
    # at alpha = 1e-7 of 200 rows the log-likelihood is off by 7e-7 (mpmath): the bound is above, within a factor of 100
    assert 1e-8 < far["loglik"] < 1e-3


def test_a_log_likelihood_of_rounding_is_not_shown() -> None:
    res = nb2.fit({"y": counts(6)}, start={"mu": 3.0, "alpha": 1e-40})
    assert res.verdict.code == "not_computable"
    assert np.isnan(res.llf)
    assert "special" in res.verdict.advice
    assert "jnp.where" not in res.verdict.advice  # blames what was not tested
