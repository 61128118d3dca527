"""The fast logarithm of the gamma function against mpmath, and its place in a likelihood."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import mpmath
import numpy as np
import pytest

from mlejax.special import digamma, gammaln

X = np.concatenate(
    [
        [1e-300, 1e-20, 1e-8, 1e-3, 0.1, 0.5],
        np.linspace(0.9, 2.1, 13),
        np.linspace(2.5, 20.0, 36),
        [7.999999999, 8.0, 1e3, 1e8, 1e300],
    ]
)


def reference(x: np.ndarray, order: int) -> np.ndarray:
    """log Gamma, or the polygamma function of order - 1, to 40 digits."""
    with mpmath.workdps(40):
        f = mpmath.loggamma if order == 0 else lambda v: mpmath.polygamma(order - 1, v)
        return np.array([float(f(mpmath.mpf(float(v)))) for v in x])


@pytest.mark.parametrize("order", [0, 1, 2])
def test_value_and_two_derivatives(order: int) -> None:
    f: Any = gammaln
    for _ in range(order):
        f = jax.grad(f)
    x = X if order < 2 else X[1:-1]  # the second derivative leaves float64 at both ends
    with jax.enable_x64(True):
        found = np.asarray(jax.jit(jax.vmap(f))(x))
    want = reference(x, order)
    np.testing.assert_allclose(found, want, rtol=1e-14, atol=1e-14 if order < 2 else 0.0)


def test_the_third_derivative_and_the_name_of_the_first() -> None:
    with jax.enable_x64(True):
        third = jax.grad(jax.grad(jax.grad(gammaln)))(2.5)
        assert float(third) == pytest.approx(reference(np.array([2.5]), 3)[0], rel=1e-13)
        np.testing.assert_array_equal(digamma(X), jax.vmap(jax.grad(gammaln))(X))


def test_edges_and_types() -> None:
    with jax.enable_x64(True):
        assert gammaln(0.0) == jnp.inf
        assert np.isnan(np.asarray(gammaln(np.array([-0.5, np.nan])))).all()
        assert gammaln(np.inf) == jnp.inf
        assert np.isnan(np.asarray(jax.vmap(jax.grad(gammaln))(jnp.array([-0.5, 0.0])))).all()
    assert gammaln(jnp.float32(4.5)).dtype == jnp.float32
    assert float(gammaln(5)) == pytest.approx(np.log(24.0), rel=1e-6)
