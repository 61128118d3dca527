"""The adjoint bound holds for factorisations and recursions, and names what it does not know."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import mpmath as mp
import numpy as np
import pytest
from jax import lax
from jax.scipy.linalg import solve_triangular

from mlejax.execution.trace.rounding.adjoint_rounding import AdjointBound

X = np.linspace(0.0, 5.0, 20)


def gaussian_process(u: Any, x: Any) -> Any:
    covariance = jnp.exp(-0.5 * (x[:, None] - x[None, :]) ** 2) + jnp.exp(u) * jnp.eye(len(x))
    factor = jnp.linalg.cholesky(covariance)
    z = solve_triangular(factor, jnp.sin(x), lower=True)
    return -0.5 * jnp.sum(z * z) - jnp.sum(jnp.log(jnp.diag(factor)))


def gaussian_process_truth(u: float) -> mp.mpf:
    n, x = len(X), [mp.mpf(v) for v in X.tolist()]
    nugget = mp.exp(mp.mpf(u))
    covariance = mp.matrix(n, n)
    for i in range(n):
        for j in range(n):
            covariance[i, j] = mp.exp(-((x[i] - x[j]) ** 2) / 2) + (nugget if i == j else 0)
    factor = mp.cholesky(covariance)
    z = mp.lu_solve(factor, mp.matrix([mp.sin(v) for v in x]))
    return -sum(v * v for v in z) / 2 - sum(mp.log(factor[i, i]) for i in range(n))


@pytest.mark.parametrize("u", [-2.0, -15.0, -25.0])
def test_a_factorisation_that_loses_digits(u: float) -> None:
    with jax.enable_x64(True):
        program = AdjointBound(jax.make_jaxpr(gaussian_process)(u, X))
        computed = float(gaussian_process(u, X))
        value, bar = program([u, X])
    assert program.unknown == ()
    with mp.workdps(50):
        error = abs(float(mp.mpf(computed) - gaussian_process_truth(u)))
    assert value == pytest.approx(computed, abs=bar)
    assert error <= bar <= 1e4 * error


def test_operations_without_a_rule_are_named() -> None:
    def looping(x: Any) -> Any:
        return lax.while_loop(lambda s: s < 3.0, lambda s: s + x, x) + jnp.linalg.svd(jnp.eye(2) * x)[1][0]

    def within(x: Any) -> Any:
        return lax.scan(lambda s, _: (s + looping(x), None), 0.0, None, length=3)[0]

    with jax.enable_x64(True):
        assert AdjointBound(jax.make_jaxpr(looping)(1.0)).unknown == ("while", "svd")
        assert AdjointBound(jax.make_jaxpr(within)(1.0)).unknown == ("while", "svd")
