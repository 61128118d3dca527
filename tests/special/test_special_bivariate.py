"""The bivariate normal distribution function against mpmath, closed forms and scipy; quasi-random draws against scipy's."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import mpmath as mp
import numpy as np
import pytest
from scipy.stats import multivariate_normal, norm, qmc

from mlejax.special import bvn_cdf, halton, sobol

cdf = jax.jit(bvn_cdf)
CORRELATIONS = (-0.99999, -0.99, -0.926, -0.924, -0.5, -1e-3, 0.0, 0.3, 0.85, 0.924, 0.926, 0.99, 0.99999)


def exact(x: float, y: float, rho: float) -> mp.mpf:
    """The integral of the conditional law over the marginal one, to 25 digits, cut where the integrand turns."""
    with mp.workdps(25):
        a, b, r = map(mp.mpf, (x, y, rho))
        c = mp.sqrt(1 - r * r)
        centre = b / r if r else mp.mpf(0)
        cuts = [centre + k * c for k in (-10, -3, 0, 3, 10)] + [mp.mpf(k) for k in (-8, -3, 0, 3)]
        points = [mp.mpf(-40), *sorted(p for p in set(cuts) if -40 < p < a), a]
        return mp.quad(lambda t: mp.npdf(t) * mp.ncdf((b - r * t) / c), points)


@pytest.mark.parametrize("rho", CORRELATIONS)
def test_values_have_all_digits(rho: float) -> None:
    at = np.random.default_rng(1).normal(scale=2.0, size=(4, 2))
    at = np.concatenate([at, [[-6.0, -5.0], [0.4, -0.4], [0.7, 0.7]]])
    with jax.enable_x64(True):
        found = cdf(at[:, 0], at[:, 1], rho)
    wanted = np.array([float(exact(*row, rho)) for row in at])
    np.testing.assert_allclose(found, wanted, rtol=1e-13 if rho >= 0 else 0.0, atol=1e-15 if rho < 0 else 0.0)
    if abs(rho) < 0.999:
        theirs = [multivariate_normal([0, 0], [[1, rho], [rho, 1]]).cdf(row) for row in at]
        np.testing.assert_allclose(found, theirs, atol=1e-8)


def test_closed_forms_and_ends() -> None:
    """A quarter and the arc sine; the smaller of both at correlation 1; margins at infinity."""
    with jax.enable_x64(True):
        rho = jnp.array(CORRELATIONS)
        np.testing.assert_allclose(cdf(0.0, 0.0, rho), 0.25 + np.arcsin(rho) / (2 * np.pi), atol=2e-16)
        np.testing.assert_allclose(cdf(jnp.inf, 0.3, rho), norm.cdf(0.3), atol=2e-16)
        assert (cdf(-jnp.inf, 0.3, rho) == 0.0).all()
        assert (cdf(jnp.inf, jnp.inf, rho) == 1.0).all()
        assert float(cdf(0.2, 0.3, 1.0)) == pytest.approx(norm.cdf(0.2), rel=1e-15)
        assert float(cdf(0.2, 0.3, -1.0)) == pytest.approx(norm.cdf(0.2) - norm.cdf(-0.3), rel=1e-14)
        assert np.isnan(cdf(0.2, 0.3, jnp.array([1.5, -1.5, jnp.nan]))).all()
        second = jax.jit(jax.hessian(lambda p: bvn_cdf(*p)))
        assert np.isfinite(second(jnp.array([jnp.inf, 0.3, 0.5]))).all()
        # Plackett: the second derivative in x and y is the first in the correlation
        at = jnp.array([0.3, -0.5, 0.6])
        assert float(second(at)[0, 1]) == pytest.approx(float(jax.grad(bvn_cdf, 2)(*at)), rel=1e-14)


@pytest.mark.slow
@pytest.mark.parametrize("rho", [-0.95, -0.4, 0.0, 0.6, 0.97])
def test_derivatives_are_those_of_the_integral(rho: float) -> None:
    """First and second ones in all arguments, by mpmath's differences of 25 digits."""
    x, y = 0.3, -0.5
    orders = [(1, 0, 0), (0, 1, 0), (0, 0, 1), (2, 0, 0), (1, 1, 0), (0, 1, 1), (0, 0, 2)]
    with jax.enable_x64(True):
        p = jnp.array([x, y, rho])
        f = lambda p: bvn_cdf(*p)
        first, second = jax.grad(f)(p), jax.jit(jax.hessian(f))(p)
    for order in orders:
        where = [i for i, k in enumerate(order) for _ in range(k)]
        found = float(first[where[0]] if len(where) == 1 else second[where[0], where[1]])
        with mp.workdps(25):
            wanted = mp.diff(lambda a, b, r: exact(a, b, r), (x, y, rho), order, h=mp.mpf("1e-6"))
        assert found == pytest.approx(float(wanted), rel=1e-6, abs=1e-8)


def test_draws_are_those_of_scipy() -> None:
    rng = lambda: np.random.default_rng(3)
    np.testing.assert_array_equal(halton(100, 3, seed=3), qmc.Halton(3, rng=rng()).random(100))
    np.testing.assert_array_equal(sobol(64, 3, seed=3), qmc.Sobol(3, rng=rng()).random(64))
    np.testing.assert_array_equal(halton(5, 2, scramble=False), qmc.Halton(2, scramble=False).random(5))
    with pytest.raises(ValueError, match=r"power of 2.* got 100; use 128"):
        sobol(100)
