"""Student's t distribution function against mpmath: both routes (df below and above 20), tails, centre, edges."""

import itertools

import jax
import mpmath as mp
import numpy as np
import pytest
from jax.scipy import stats

from mlejax import special
from tests.special.special_reference import check_logarithms, check_values, gradients, student

POINTS = [
    (df, t)
    for df, t in itertools.product((0.05, 1.0, 4.5, 19.99, 20.01, 300.0, 1e6), (-25.0, -3.0, -1.42, -1.41, -0.2))
    if not (df == 1e6 and t == -25.0)
]


def test_value_and_derivatives():
    check_values(special.stdtr, student, POINTS)


def test_logarithm_and_derivatives():
    check_logarithms(special.log_stdtr, student, POINTS)


def test_logarithm_beyond_the_range_of_float64():
    with jax.enable_x64(True), mp.workdps(60):
        expected = mp.log(student(mp.mpf(300), mp.mpf(-1e6)))
        assert expected < -745
        assert float(special.log_stdtr(300.0, -1e6)) == pytest.approx(float(expected), rel=1e-13)


def test_symmetry_edges_and_limits():
    with jax.enable_x64(True):
        t = np.array([0.3, 2.0, 9.0, 0.0, -np.inf, np.inf, np.nan, 1.0])
        df = np.array([3.0, 3.0, 50.0, 3.0, 3.0, 3.0, 3.0, -1.0])
        left, right = np.asarray(special.stdtr(df, -t)), np.asarray(special.stdtr(df, t))
        np.testing.assert_allclose((left + right)[:6], 1.0, rtol=1e-14)
        np.testing.assert_array_equal(right[3:], [0.5, 0.0, 1.0, np.nan, np.nan])
        # Infinitely many degrees of freedom: the normal distribution.
        z = np.array([-8.0, -1.0, 0.5, 3.0, -1.42, -1.41, 0.0, 1.0])
        np.testing.assert_allclose(special.stdtr(np.full(8, np.inf), z), stats.norm.cdf(z), rtol=1e-12)


def test_slope_in_t_is_the_density():
    with jax.enable_x64(True):
        points = [(2.5, -4.0), (2.5, 0.7), (60.0, 1.1), (2.0, 0.0), (2.0, np.inf)]
        slopes = gradients(special.stdtr, points)
        expected = [float(stats.t.pdf(t, df)) for df, t in points[:3]]
        # The density of t with 2 degrees of freedom at 0 is 1/sqrt(8).
        np.testing.assert_allclose(slopes[:, 1], [*expected, 1 / np.sqrt(8), 0.0], rtol=1e-13)
        assert slopes[3, 0] == 0.0
        assert slopes[4, 0] == 0.0


def test_second_derivatives_at_zero():
    """log P(T <= 0): the mixed derivative in df and t is that of 2 pdf(0), the one in t twice is -4 pdf(0)^2."""
    with jax.enable_x64(True):
        hessian = jax.hessian(special.log_stdtr, (0, 1))(3.0, 0.0)
        pdf = lambda df: jax.numpy.exp(special.t_logpdf(0.0, df))
        np.testing.assert_allclose(hessian[1][1], -4 * pdf(3.0) ** 2, rtol=1e-13)
        for mixed in (hessian[0][1], hessian[1][0]):
            np.testing.assert_allclose(mixed, 2 * jax.grad(pdf)(3.0), rtol=1e-13)
