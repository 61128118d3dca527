"""Derivatives by linear predictors equal those that JAX takes without them, of every order and argument."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.scipy.stats import norm

import mlejax as mle
from mlejax.latent.by_predictors import by_predictors

X = np.random.default_rng(1).normal(size=(6, 2))
Y = np.array([0.0, 1.0, 2.0, 0.0, 3.0, 1.0])


def counts(predictors, others):
    """Negative binomial log-likelihood of every row, without constants, and a second predictor as the log of its size."""
    alpha, y = others
    mu, size = jnp.exp(predictors[0]), jnp.exp(predictors[-1]) if len(predictors) > 1 else 1.0 / alpha
    return y * jnp.log(mu / (mu + size)) + size * jnp.log(size / (mu + size)) + y * alpha


@pytest.mark.parametrize("n", [1, pytest.param(2, marks=pytest.mark.slow), pytest.param(3, marks=pytest.mark.slow)])
def test_derivatives_of_every_order(n):
    """Up to the fifth order, along coefficients, another parameter and the data, in forward and reverse mode."""
    with jax.enable_x64(True):
        _compare(by_predictors(counts, n), n)


def _compare(ruled, n):
    def total(function, u):
        y = jnp.asarray(Y) * (1.0 + u[-1])
        return jnp.sum(function([X @ u[2 * a : 2 * a + 2] for a in range(n)], (jnp.exp(u[-2]), y)))

    u = jnp.linspace(-0.4, 0.5, 2 * n + 2)
    mine, plain = (lambda t, f=f: total(f, t) for f in (ruled, counts))
    np.testing.assert_allclose(mine(u), plain(u), rtol=1e-14)
    along = jnp.cos(jnp.arange(2.0 * n + 2))
    for _ in range(5 if n == 1 else 3):
        mine, plain = (lambda t, f=f: jax.jvp(f, (t,), (along,))[1] for f in (mine, plain))
        np.testing.assert_allclose(jax.jit(mine)(u), jax.jit(plain)(u), rtol=1e-11)
    mine, plain = (lambda t, f=f: total(f, t) for f in (ruled, counts))
    twice = [jax.jit(jax.jacfwd(jax.grad(f)))(u) for f in (mine, plain)]
    np.testing.assert_allclose(*twice, rtol=1e-11, atol=1e-12)


def test_each_order_is_traced_once():
    """A function of rows is not traced again for further tangents or calls of the same shape."""
    calls = []

    def counted(predictors, others):
        calls.append(1)
        return counts(predictors, others)

    ruled = by_predictors(counted, 1)
    first = lambda b: jnp.sum(ruled([X @ b], (0.5, jnp.asarray(Y))))
    jax.hessian(first)(jnp.zeros(2))
    once = len(calls)
    jax.hessian(first)(jnp.ones(2))
    assert once == len(calls) <= 3


def test_rows_that_use_the_predictors_of_others_are_differentiated_as_written():
    """A mean that depends on the row before: derivatives row by row would be wrong, and no search could end at a maximum."""

    @mle.model(mu=mle.Real())
    def lagged(params, data):
        before = jnp.concatenate([jnp.zeros(1), params["mu"][:-1]])
        return norm.logpdf(data["y"], params["mu"] + 0.5 * before, 1.0)

    rng = np.random.default_rng(0)
    data = {"y": rng.normal(size=60), "x": rng.normal(size=60), "g": np.repeat(np.arange(12), 5)}
    res = lagged.regress(mu=mle.Linear("x", random="1 | g")).fit(data, integrate=mle.Quadrature(9))
    assert res.verdict.code == "verified", res.verdict
