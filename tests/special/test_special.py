"""Special functions against mpmath: values, all first and second derivatives, tails, edges, transformations of JAX.

How the references are computed is in ``special_reference.py``; Student's t is in ``test_special_student.py``.
"""

import jax
import jax.numpy as jnp
import mpmath as mp
import numpy as np
import pytest
from jax.scipy import stats

from mlejax import special
from tests.special.special_reference import (
    WORKING_DIGITS,
    check_logarithms,
    check_values,
    gradients,
    lower_beta,
    lower_gamma,
    upper_beta,
    upper_gamma,
)

GAMMA_POINTS = [
    (0.5, 0.3),
    (1.0, 1.0),
    (1.0, 0.999),
    (2.5, 2.5),
    (2.5, 1e-6),
    (2.5, 60.0),
    (0.02, 1e-8),
    (0.02, 0.5),
    (0.02, 3.0),
    (0.9999, 0.7),
    (7.9, 12.0),
    (8.1, 4.0),
    (30.0, 3.0),
    (30.0, 29.5),
    (30.0, 120.0),
    (800.0, 790.0),
    (800.0, 1000.0),
    (2e4, 1.96e4),
    (2e4, 2.03e4),
]
BETA_POINTS = [
    (0.5, 0.5, 0.3),
    (1.0, 1.0, 0.5),
    (2.0, 3.0, 0.4),
    (2.0, 3.0, 1e-9),
    (2.0, 3.0, 1 - 2.0**-30),
    (0.03, 0.04, 0.2),
    (0.03, 5.0, 1e-4),
    (0.03, 5.0, 0.6),
    (6.0, 0.03, 0.7),
    (6.0, 0.03, 1 - 2.0**-40),
    (1.0, 0.02, 0.4999),
    (40.0, 2.0, 0.96),
    (40.0, 2.0, 0.5),
    (300.0, 500.0, 0.36),
    (300.0, 500.0, 0.45),
    (2000.0, 0.7, 0.9995),
    (0.7, 2000.0, 2e-4),
    (2000.0, 3600.0, 0.35),
]
FUNCTIONS = [
    (special.gammainc, lower_gamma, GAMMA_POINTS),
    (special.gammaincc, upper_gamma, GAMMA_POINTS),
    (special.betainc, lower_beta, BETA_POINTS),
    (special.betaincc, upper_beta, BETA_POINTS),
]
LOGARITHMS = [
    (special.log_gammainc, lower_gamma, GAMMA_POINTS),
    (special.log_gammaincc, upper_gamma, GAMMA_POINTS),
    (special.log_betainc, lower_beta, BETA_POINTS),
    (special.log_betaincc, upper_beta, BETA_POINTS),
]


@pytest.mark.parametrize(("f", "exact", "points"), FUNCTIONS, ids=lambda p: getattr(p, "__name__", None))
def test_value_and_derivatives(f, exact, points):
    check_values(f, exact, points)


@pytest.mark.parametrize(("f", "exact", "points"), LOGARITHMS, ids=lambda p: getattr(p, "__name__", None))
def test_logarithm_and_derivatives(f, exact, points):
    check_logarithms(f, exact, points)


def test_the_reference_is_the_incomplete_beta_function():
    with mp.workdps(40):
        for a, b, x in ((2.0, 3.0, 0.4), (0.5, 7.0, 0.2), (3.0, 0.5, 0.99)):
            exact = mp.betainc(a, b, 0, x, regularized=True)
            assert abs(lower_beta(mp.mpf(a), mp.mpf(b), mp.mpf(x)) / exact - 1) < 1e-35


@pytest.mark.parametrize(
    ("f", "exact", "point"),
    [
        (special.log_gammainc, lower_gamma, (500.0, 1.0)),
        (special.log_gammaincc, upper_gamma, (2.5, 3000.0)),
        (special.log_betainc, lower_beta, (400.0, 3.0, 1e-3)),
        (special.log_betaincc, upper_beta, (3.0, 400.0, 0.999)),
    ],
)
def test_logarithms_beyond_the_range_of_float64(f, exact, point):
    with jax.enable_x64(True), mp.workdps(60):
        expected = mp.log(exact(*(mp.mpf(v) for v in point)))
        assert expected < -745
        assert float(f(*point)) == pytest.approx(float(expected), rel=1e-14)


def test_derivatives_in_x_are_densities():
    with jax.enable_x64(True):
        x = jnp.linspace(0.05, 0.95, 7)
        slope = gradients(special.betainc, [(2.5, 0.7, v) for v in x])[:, 2]
        np.testing.assert_allclose(slope, stats.beta.pdf(x, 2.5, 0.7), rtol=1e-13)
        slope = gradients(special.gammainc, [(2.5, v) for v in x])[:, 1]
        np.testing.assert_allclose(slope, stats.gamma.pdf(x, 2.5), rtol=1e-13)


def test_third_derivative_in_the_shape():
    """One order more than a likelihood needs."""
    with jax.enable_x64(True):
        third = jax.jit(jax.grad(jax.grad(jax.grad(special.gammainc))))(1.7, 2.0)
    with mp.workdps(WORKING_DIGITS):
        expected = float(mp.diff(lambda a: lower_gamma(a, mp.mpf(2)), mp.mpf(1.7), 3))
    assert float(third) == pytest.approx(expected, rel=1e-10)


@pytest.mark.parametrize(
    ("f", "points", "expected"),
    [
        (special.gammainc, [(2.0, 0.0), (2.0, np.inf)], [0.0, 1.0]),
        (special.gammaincc, [(2.0, 0.0), (2.0, np.inf)], [1.0, 0.0]),
        (special.log_gammainc, [(2.0, 0.0), (2.0, np.inf)], [-np.inf, 0.0]),
        (special.log_gammaincc, [(2.0, 0.0), (2.0, np.inf)], [0.0, -np.inf]),
        (special.betainc, [(2.0, 3.0, 0.0), (2.0, 3.0, 1.0)], [0.0, 1.0]),
        (special.betaincc, [(2.0, 3.0, 0.0), (2.0, 3.0, 1.0)], [1.0, 0.0]),
        (special.log_betainc, [(2.0, 3.0, 0.0), (2.0, 3.0, 1.0)], [-np.inf, 0.0]),
        (special.log_betaincc, [(2.0, 3.0, 0.0), (2.0, 3.0, 1.0)], [0.0, -np.inf]),
        (special.gammainc, [(-1.0, 1.0), (0.0, 1.0), (1.0, -1.0), (np.nan, 1.0), (1.0, np.nan)], [np.nan] * 5),
        (special.betainc, [(0.0, 1.0, 0.5), (1.0, -1.0, 0.5), (1.0, 1.0, 1.5), (1.0, 1.0, np.nan)], [np.nan] * 4),
    ],
)
def test_ends_of_the_support_and_beyond(f, points, expected):
    with jax.enable_x64(True):
        np.testing.assert_array_equal(f(*np.array(points).T), expected)


def test_derivatives_at_the_ends_of_the_support_are_not_nan():
    """A censoring point at 0 has the value 0 for every shape; the slope there is the density."""
    with jax.enable_x64(True):
        points = [(2.0, 0.0), (1.0, 0.0), (0.5, 0.0), (2.0, np.inf)]
        expected = [[0.0, 0.0], [0.0, 1.0], [0.0, np.inf], [0.0, 0.0]]
        np.testing.assert_array_equal(gradients(special.gammainc, points), expected)
        # Densities: beta(2, 3) has 0 at both ends, beta(1, 3) has 3 at 0, beta(3, 1) has 3 at 1.
        points = [(2.0, 3.0, 0.0), (2.0, 3.0, 1.0), (1.0, 3.0, 0.0), (3.0, 1.0, 1.0), (3.0, 0.5, 1.0)]
        expected = [[0.0, 0.0, slope] for slope in (0.0, 0.0, 3.0, 3.0, np.inf)]
        np.testing.assert_array_equal(gradients(special.betainc, points), expected)


def test_broadcasting_precision_and_integer_arguments():
    with jax.enable_x64(True):
        assert special.betainc(np.ones((3, 1)), 2.0, np.full(4, 0.5)).shape == (3, 4)
        assert float(special.gammainc(1, 1)) == pytest.approx(1 - np.exp(-1), rel=1e-14)
        assert special.gammainc(jnp.float32(2), jnp.float32(1)).dtype == np.float32
    single = special.betainc(jnp.float32(2), jnp.float32(2), jnp.float32(0.25))
    assert single.dtype == np.float32
    assert float(single) == pytest.approx(0.15625, rel=3e-6)


def test_hessian_of_a_censored_likelihood_by_row_blocks():
    """jit(scan(hessian)), as a fit evaluates it, against the plain sum; the censoring points are data."""
    with jax.enable_x64(True):
        y = jnp.asarray(np.random.default_rng(4).gamma(2.0, 1.0, size=24))

        def total(theta, y):
            return jnp.sum(special.log_gammaincc(jnp.exp(theta[0]), y * jnp.exp(theta[1])))

        def blocked(theta):
            add = lambda h, block: (h + jax.hessian(total)(theta, block), None)
            return jax.lax.scan(add, jnp.zeros((2, 2)), y.reshape(3, 8))[0]

        theta = jnp.array([0.5, -0.2])
        whole = jax.jit(jax.hessian(total))(theta, y)
        np.testing.assert_allclose(jax.jit(blocked)(theta), whole, rtol=1e-13)
        step = 1e-5
        gradient = jax.jit(jax.grad(total))
        differences = [(gradient(theta + step * e, y) - gradient(theta - step * e, y)) / (2 * step) for e in np.eye(2)]
        np.testing.assert_allclose(whole, differences, rtol=1e-8)
