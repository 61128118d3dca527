"""Log-densities against mpmath, at their limits and on both sides: value and derivatives, edges, JAX's transformations.

``density_points.py`` holds formulas and points and writes the references; ``density_reference.py`` bounds the errors.
"""

from __future__ import annotations

from typing import Any

import jax
import numpy as np
import pytest
from scipy import stats

from mlejax import special
from tests.density_points import DENSITIES, records
from tests.density_reference import computed, load, misfits

BOUNDS = (1e-12, 1e-12, 1e-12, 1e-9)
# Arguments outside of the support, and parameters outside of their space.
OUTSIDE: dict[str, list[tuple[float, ...]]] = {
    "nb2_logpmf": [(-1.0, 2.0, 0.5), (-1.0, 2.0, 0.0), (3.0, 0.0, 0.5)],
    "t_logpdf": [(np.inf, 3.0, 0.0, 1.0), (-np.inf, np.inf, 0.0, 1.0)],
    "gpd_logpdf": [(-1.0, 1.0, 0.2), (-1.0, 1.0, 0.0), (3.0, 1.0, -0.5), (2.0, 1.0, -0.5), (np.inf, 1.0, 0.1)],
    "gev_logpdf": [(-6.0, 0.0, 1.0, 0.2), (6.0, 0.0, 1.0, -0.2), (5.0, 0.0, 1.0, -0.2), (-1e3, 0.0, 1.0, 0.0)],
}
ILLEGAL: dict[str, list[tuple[float, ...]]] = {
    "nb2_logpmf": [(1.0, -2.0, 0.5), (1.0, 2.0, -0.1), (np.nan, 1.0, 1.0), (1.0, np.nan, 1.0), (1.0, 1.0, np.nan)],
    "t_logpdf": [(1.0, 0.0, 0.0, 1.0), (1.0, 2.0, 0.0, -1.0), (np.nan, 2.0, 0.0, 1.0), (1.0, np.nan, 0.0, 1.0)],
    "gpd_logpdf": [(1.0, 0.0, 0.1), (1.0, -1.0, 0.1), (1.0, 1.0, np.nan), (np.nan, 1.0, 0.1)],
    "gev_logpdf": [(1.0, 0.0, 0.0, 0.1), (1.0, 0.0, 1.0, np.nan), (np.nan, 0.0, 1.0, 0.1)],
}
NAMES = sorted(DENSITIES)


def function(name: str) -> Any:
    return getattr(special, name)


def check(name: str, reference: dict[str, np.ndarray], order: int) -> None:
    for k, found in enumerate(misfits(function(name), reference, order)):
        worst = int(np.argmax(np.where(np.isnan(found), np.inf, found)))
        assert found[worst] <= BOUNDS[k], (name, k, tuple(reference["points"][worst]), found[worst])


@pytest.mark.parametrize("name", NAMES)
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
    for i, record in enumerate(records(name, DENSITIES[name].points[::every])):
        for key, value in record.items():
            np.testing.assert_allclose(known[key][::every][i], value, rtol=1e-14, atol=1e-40)


@pytest.mark.parametrize("name", NAMES)
def test_outside_of_the_support_and_of_the_parameters(name: str) -> None:
    f = function(name)
    # As many points as in the test above, so that its program serves again.
    outside = np.resize(np.array(OUTSIDE[name]), load(name)["points"].shape)
    value, gradient, hessian = computed(f, outside, 2)
    assert (value == -np.inf).all()
    assert not gradient.any()
    assert not hessian.any()
    with jax.enable_x64(True):
        assert np.isnan(f(*np.array(ILLEGAL[name]).T)).all()


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


@pytest.mark.parametrize("kind", ["cdf", "sf", "logcdf", "logsf"])
def test_tails_of_the_extremes(kind: str) -> None:
    x = np.linspace(0.1, 4.0, 9)
    with jax.enable_x64(True):
        for xi in (-0.2, 0.0, 0.3):
            gpd, gev = function(f"gpd_{kind}"), function(f"gev_{kind}")
            np.testing.assert_allclose(gpd(x, 1.5, xi), getattr(stats.genpareto(xi, scale=1.5), kind)(x), rtol=1e-12)
            np.testing.assert_allclose(
                gev(x, 0.5, 1.5, xi), getattr(stats.genextreme(-xi, 0.5, 1.5), kind)(x), rtol=1e-12
            )
        below, above = {"cdf": (0, 1), "sf": (1, 0), "logcdf": (-np.inf, 0), "logsf": (0, -np.inf)}[kind]
        np.testing.assert_array_equal(function(f"gpd_{kind}")(np.array([-1.0, 9.0]), 1.0, -0.2), [below, above])
        assert function(f"gev_{kind}")(-9.0, 0.0, 1.0, 0.2) == below
        assert function(f"gev_{kind}")(9.0, 0.0, 1.0, -0.2) == above


def test_infinite_degrees_of_freedom() -> None:
    with jax.enable_x64(True):
        f = lambda x, df: special.t_logpdf(x, df, 0.5, 2.0)
        assert float(f(1.5, np.inf)) == pytest.approx(stats.norm.logpdf(1.5, 0.5, 2.0), rel=1e-15)
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
        np.testing.assert_allclose(f(0.25, z), special.t_logpdf(z, 4.0), rtol=1e-15)
