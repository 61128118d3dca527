"""Log-densities against mpmath, at their limits and on both sides: value and derivatives, edges, JAX's transformations.

``density_points.py`` holds formulas and points and writes the references; ``density_reference.py`` bounds the errors. The
distribution functions are in ``test_special_tails.py``.
"""

from __future__ import annotations

from typing import Any

import jax
import numpy as np
import pytest
from scipy import stats

from mlejax import special
from tests.special.densities.density_points import DENSITIES, records
from tests.special.densities.density_reference import computed, load, misfits, unpacked

BOUNDS = (1e-12, 1e-12, 1e-12, 1e-9)
# Second derivatives that the docstrings name; third ones at these points may have a thousand times that error.
WIDER: dict[tuple[str, tuple[float, ...]], float] = {
    ("betabinom_logpmf", (0.0, 1.0, 0.3, 0.95)): 2e-12,
    ("betabinom_logpmf", (2.0, 40.0, 1e-3, 0.95)): 2e-12,
    ("tweedie_logpdf", (3.0, 2.9, 0.4, 1.98)): 3e-10,
    ("tweedie_logpdf", (1.0, 1.0, 1.0, 1.98)): 1e-10,
    ("tweedie_logpdf", (0.01, 1.5, 2.0, 1.98)): 2e-12,
}
# Arguments outside of the support, and parameters outside of their space.
OUTSIDE: dict[str, list[tuple[float, ...]]] = {
    "betabinom_logpmf": [(-1.0, 2.0, 0.5, 0.1), (3.0, 2.0, 0.5, 0.0), (1.0, 2.0, 0.0, 0.1), (1.0, 2.0, 1.0, 0.1)],
    "gamma_logpdf": [(-1.0, 1.0, 1.0), (0.0, 1.0, 2.0), (np.inf, 1.0, 2.0)],
    "gengamma_logpdf": [(-1.0, 0.0, 1.0, 0.5), (0.0, 0.0, 1.0, 0.0), (np.inf, 0.0, 1.0, 0.5), (1e9, 0.0, 0.1, 5.0)],
    "invgauss_logpdf": [(-1.0, 1.0, 1.0), (0.0, 1.0, 1.0), (np.inf, 1.0, 1.0)],
    "skewt_logpdf": [(np.inf, 3.0, 0.0, 1.0, 2.0), (-np.inf, np.inf, 0.0, 1.0, 2.0)],
    "tweedie_logpdf": [(-1.0, 1.0, 1.0, 1.5), (np.inf, 1.0, 1.0, 1.5)],
    "weibull_logpdf": [(-1.0, 1.0, 1.0), (0.0, 2.0, 1.0), (np.inf, 1.0, 1.0), (1e9, 100.0, 1.0)],
    "nb2_logpmf": [(-1.0, 2.0, 0.5), (-1.0, 2.0, 0.0), (3.0, 0.0, 0.5)],
    "t_logpdf": [(np.inf, 3.0, 0.0, 1.0), (-np.inf, np.inf, 0.0, 1.0)],
    "gpd_logpdf": [(-1.0, 1.0, 0.2), (-1.0, 1.0, 0.0), (3.0, 1.0, -0.5), (2.0, 1.0, -0.5), (np.inf, 1.0, 0.1)],
    "gev_logpdf": [(-6.0, 0.0, 1.0, 0.2), (6.0, 0.0, 1.0, -0.2), (5.0, 0.0, 1.0, -0.2), (-1e3, 0.0, 1.0, 0.0)],
}
ILLEGAL: dict[str, list[tuple[float, ...]]] = {
    "betabinom_logpmf": [(1.0, 2.0, -0.1, 0.1), (1.0, 2.0, 0.5, 1.0), (1.0, 2.0, 0.5, -0.1), (np.nan, 2.0, 0.5, 0.1)],
    "boxcox": [(0.0, 1.0), (-1.0, 0.0), (np.nan, 0.0), (1.0, np.nan)],
    "boxcox_logjac": [(0.0, 1.0), (-1.0, 0.0), (1.0, np.nan)],
    "gamma_logpdf": [(1.0, 0.0, 1.0), (1.0, 1.0, -1.0), (np.nan, 1.0, 1.0), (1.0, np.nan, 1.0)],
    "gengamma_logpdf": [
        (1.0, np.nan, 1.0, 0.0),
        (1.0, 0.0, -1.0, 0.0),
        (np.nan, 0.0, 1.0, 0.0),
        (1.0, 0.0, 1.0, np.nan),
    ],
    "invgauss_logpdf": [(1.0, -1.0, 1.0), (1.0, 1.0, 0.0), (np.nan, 1.0, 1.0), (1.0, np.nan, 1.0)],
    "skewt_logpdf": [(1.0, 0.0, 0.0, 1.0, 0.0), (1.0, 1.0, 0.0, -1.0, 0.0), (np.nan, 1.0, 0.0, 1.0, 0.0)],
    "tweedie_logpdf": [(1.0, 0.0, 1.0, 1.5), (1.0, 1.0, -1.0, 1.5), (1.0, 1.0, 1.0, 2.0), (1.0, 1.0, 1.0, 1.0)],
    "vonmises_logpdf": [(1.0, 0.0, -1.0), (np.inf, 0.0, 1.0), (np.nan, 0.0, 1.0), (1.0, np.nan, 1.0)],
    "weibull_logpdf": [(1.0, 0.0, 1.0), (1.0, 1.0, 0.0), (np.nan, 1.0, 1.0)],
    "nb2_logpmf": [(1.0, -2.0, 0.5), (1.0, 2.0, -0.1), (np.nan, 1.0, 1.0), (1.0, np.nan, 1.0), (1.0, 1.0, np.nan)],
    "t_logpdf": [(1.0, 0.0, 0.0, 1.0), (1.0, 2.0, 0.0, -1.0), (np.nan, 2.0, 0.0, 1.0), (1.0, np.nan, 0.0, 1.0)],
    "gpd_logpdf": [(1.0, 0.0, 0.1), (1.0, -1.0, 0.1), (1.0, 1.0, np.nan), (np.nan, 1.0, 0.1)],
    "gev_logpdf": [(1.0, 0.0, 0.0, 0.1), (1.0, 0.0, 1.0, np.nan), (np.nan, 0.0, 1.0, 0.1)],
}
NAMES = sorted(DENSITIES)


def skewnormal(x: Any, loc: Any, scale: Any, skew: Any) -> Any:
    return special.skewt_logpdf(x, np.inf, loc, scale, skew)


def function(name: str) -> Any:
    return skewnormal if name == "skewnormal" else getattr(special, name)


def check(name: str, reference: dict[str, np.ndarray], order: int) -> None:
    for k, found in enumerate(misfits(function(name), reference, order)):
        bounds = [WIDER.get((name, tuple(point)), 0.0) for point in reference["points"].tolist()]
        allowed = np.maximum(BOUNDS[k], np.array(bounds) * {2: 1.0, 3: 1e3}.get(k, 0.0))
        worst = int(np.argmax(np.where(np.isnan(found), np.inf, found / allowed)))
        assert found[worst] <= allowed[worst], (name, k, tuple(reference["points"][worst]), found[worst])


SLOWLY = [pytest.param(n, marks=pytest.mark.slow) if n == "skewt_logpdf" else n for n in NAMES]  # to compile


@pytest.mark.parametrize("name", SLOWLY)
def test_value_first_and_second_derivatives(name: str) -> None:
    check(name, load(name), 2)


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_third_derivatives(name: str) -> None:
    with jax.disable_jit():  # XLA takes long over third derivatives
        check(name, load(name), 3)


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_the_committed_references_are_those_of_the_formulas(name: str) -> None:
    known = load(name)
    every = max(1, len(known["points"]) // 10)
    for key, value in unpacked(records(DENSITIES[name], DENSITIES[name].points[::every])).items():
        # third derivatives that are 0 are the rounding of differences with 50 digits, up to 4e-40
        np.testing.assert_allclose(known[key][::every], value, rtol=1e-14, atol=1e-38)


@pytest.mark.parametrize("name", sorted(OUTSIDE))
def test_outside_of_the_support_and_of_the_parameters(name: str) -> None:
    f = function(name)
    # As many points as in the test above, so that its program serves again.
    outside = np.resize(np.array(OUTSIDE[name]), load(name)["points"].shape)
    value, gradient, hessian = computed(f, outside, 2)
    assert (value == -np.inf).all()
    assert not gradient.any()
    assert not hessian.any()


@pytest.mark.parametrize("name", sorted(ILLEGAL))
def test_illegal_parameters_give_nan(name: str) -> None:
    with jax.enable_x64(True):
        assert np.isnan(function(name)(*np.array(ILLEGAL[name]).T)).all()


@pytest.mark.parametrize("name", NAMES)
def test_strict_dtypes_ranks_and_single_precision(name: str) -> None:
    f, point = function(name), DENSITIES[name].points[-1]
    with jax.enable_x64(True), jax.numpy_dtype_promotion("strict"), jax.numpy_rank_promotion("raise"):
        column = np.full(3, point[0])
        found = f(column, *point[1:])
        assert found.dtype == np.float64
        assert found.shape == (3,)
        np.testing.assert_allclose(f(np.full(3, 2, dtype=np.int32), *point[1:]), f(2.0, *point[1:]), rtol=1e-12)
    with jax.numpy_dtype_promotion("strict"), jax.numpy_rank_promotion("raise"):
        reference = load(name)
        keep = (np.abs(reference["points"]) < 1e4).all(axis=1) & (np.abs(reference["value"]) < 1e4)
        moved = (np.abs(reference["gradient"]) * np.abs(reference["points"])).sum(axis=1)
        single = f(*reference["points"][keep].T.astype(np.float32))
        assert single.dtype == np.float32
        size = (np.abs(reference["value"]) + moved)[keep]
        assert (np.abs(np.asarray(single, dtype=float) - reference["value"][keep]) <= 3e-5 * size + 1e-37).all()


def test_infinite_degrees_of_freedom() -> None:
    with jax.enable_x64(True):
        f = lambda x, df: special.t_logpdf(x, df, 0.5, 2.0)
        assert float(f(1.5, np.inf)) == pytest.approx(stats.norm.logpdf(1.5, 0.5, 2.0), rel=1e-14)
        np.testing.assert_array_equal(jax.grad(f, (0, 1))(1.5, np.inf), (-0.25, 0.0))


def test_inverse_degrees_of_freedom_at_and_beside_zero() -> None:
    """At 0: score and curvature in 1/df from the expansion of the log-density, by hand."""
    z = np.array([0.0, 0.4, -2.0, 5.0])
    with jax.enable_x64(True):
        f = lambda h, z: special.t_logpdf_inverse(z, h)
        slope, curve = jax.vmap(jax.grad(f), (None, 0)), jax.vmap(jax.grad(jax.grad(f)), (None, 0))
        for h in (0.0, 1e-300, 1e-30, 1e-18):
            np.testing.assert_allclose(slope(h, z), (z**4 - 2 * z**2 - 1) / 4, rtol=1e-12)
            np.testing.assert_allclose(curve(h, z), z**4 / 2 - z**6 / 3, rtol=1e-12, atol=1e-13)
        np.testing.assert_allclose(f(0.25, z), special.t_logpdf(z, 4.0), rtol=1e-14)


def test_scipy_has_the_same_densities() -> None:
    """scipy.stats, and R's statmod and flexsurv parametrisations by way of it."""
    with jax.enable_x64(True):
        x = np.array([0.2, 1.0, 3.5])
        np.testing.assert_allclose(
            special.gamma_logpdf(x, 2.0, 3.0), stats.gamma.logpdf(x, 3.0, scale=2 / 3), rtol=1e-13
        )
        np.testing.assert_allclose(
            special.invgauss_logpdf(x, 2.0, 3.0), stats.invgauss.logpdf(x, 2 / 3, scale=3), rtol=1e-13
        )
        np.testing.assert_allclose(
            special.weibull_logpdf(x, 0.7, 2.0), stats.weibull_min.logpdf(x, 0.7, scale=2), rtol=1e-13
        )
        np.testing.assert_allclose(special.vonmises_logpdf(x, 0.3, 2.0), stats.vonmises.logpdf(x, 2.0, 0.3), rtol=1e-12)
        np.testing.assert_allclose(
            special.gengamma_logpdf(x, 0.4, 0.8, 0.0), stats.lognorm.logpdf(x, 0.8, scale=np.exp(0.4))
        )
        weibull = stats.weibull_min.logpdf(x, 1 / 0.8, scale=np.exp(0.4))
        np.testing.assert_allclose(special.gengamma_logpdf(x, 0.4, 0.8, 1.0), weibull, rtol=1e-12)
        # rho = 1/(a + b + 1)
        k = np.arange(6.0)
        betabinom = stats.betabinom.logpmf(k, 5, 2.0, 3.0)
        np.testing.assert_allclose(special.betabinom_logpmf(k, 5.0, 0.4, 1 / 6), betabinom, rtol=1e-12)


def test_densities_integrate_to_one_or_have_their_edges() -> None:
    with jax.enable_x64(True):
        for function, at_one in ((special.gamma_logpdf, -np.log(3.0)), (special.weibull_logpdf, -np.log(3.0))):
            arguments = (
                ((0.0, 3.0, 1.0), (0.0, 3.0, 0.5))
                if function is special.gamma_logpdf
                else ((0.0, 1.0, 3.0), (0.0, 0.5, 3.0))
            )
            assert float(function(*arguments[0])) == pytest.approx(at_one, rel=1e-14)
            assert float(function(*arguments[1])) == np.inf
        assert float(special.betabinom_logpmf(0.0, 4.0, 0.0, 0.1)) == 0.0
        assert float(special.betabinom_logpmf(4.0, 4.0, 1.0, 0.1)) == 0.0
        for p, phi in ((1.1, 0.5), (1.5, 2.0), (1.9, 0.02)):
            z, w = np.polynomial.legendre.leggauss(400)
            log_y = 0.5 * (z + 1.0) * 40.0 - 35.0
            density = np.exp(special.tweedie_logpdf(np.exp(log_y), 1.5, phi, p) + log_y)
            at_zero = np.exp(float(special.tweedie_logpdf(0.0, 1.5, phi, p)))
            assert at_zero + 20.0 * w @ np.asarray(density) == pytest.approx(1.0, abs=1e-6)


def test_limits_by_their_other_formulas() -> None:
    with jax.enable_x64(True):
        x = np.array([-2.0, 0.1, 3.0])
        f = special.skewt_logpdf
        np.testing.assert_allclose(f(x, 3.0, 0.5, 2.0, 0.0), special.t_logpdf(x, 3.0, 0.5, 2.0), rtol=1e-14)
        np.testing.assert_allclose(f(x, np.inf, 0.5, 2.0, -3.0), stats.skewnorm.logpdf(x, -3.0, 0.5, 2.0), rtol=1e-12)
        levy = stats.levy.logpdf(x[1:], scale=2.0)
        np.testing.assert_allclose(special.invgauss_logpdf(x[1:], np.inf, 2.0), levy, rtol=1e-14)
        np.testing.assert_array_equal(jax.grad(special.invgauss_logpdf, 1)(1.0, np.inf, 2.0), 0.0)
