"""The fast logarithm of the gamma function against mpmath, and its place in a likelihood."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import mpmath
import numpy as np
import pytest
from scipy import stats

import mlejax as mle
from mlejax.special import betaln, digamma, gammaln

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


def test_log_beta_and_two_derivatives() -> None:
    """On both sides of 8, where Stirling's series begins, where a = b, and far apart."""
    rng = np.random.default_rng(0)
    a = np.concatenate([rng.uniform(0.1, 30.0, 60), 10.0 ** rng.uniform(-4, 9, 60), [1.0, 8.0, 50.0]])
    b = np.concatenate([rng.uniform(0.1, 30.0, 60), 10.0 ** rng.uniform(-4, 9, 60), [1.0, 8.0, 50.0]])
    with jax.enable_x64(True):
        first, second = jax.grad(betaln), jax.grad(jax.grad(betaln))
        found = [np.asarray(jax.vmap(f)(a, b)) for f in (betaln, first, second, jax.grad(first, 1))]
    with mpmath.workdps(60):
        for i, (x, y) in enumerate(zip(map(mpmath.mpf, a.tolist()), map(mpmath.mpf, b.tolist()), strict=True)):
            slope, other = (mpmath.digamma(z) - mpmath.digamma(x + y) for z in (x, y))
            bend, mixed = mpmath.polygamma(1, x) - mpmath.polygamma(1, x + y), -mpmath.polygamma(1, x + y)
            value = mpmath.loggamma(x) + mpmath.loggamma(y) - mpmath.loggamma(x + y)
            size = abs(value) + abs(x * slope) + abs(y * other)
            assert abs(found[0][i] - value) <= 1e-14 * size
            assert abs(found[1][i] - slope) <= 1e-11 * (abs(slope) + abs(x * bend) + abs(y * mixed))
            assert abs(found[2][i] - bend) <= 1e-10 * abs(bend)
            assert abs(found[3][i] - mixed) <= 1e-13 * abs(mixed)


def test_a_beta_with_a_large_argument_is_fitted_as_by_scipy_and_that_of_jax_is_named() -> None:
    """JAX's betaln is wrong by 1e-6 a row there: the log-likelihood by 1e-4, of 100 rows."""
    y = np.asarray(stats.beta.rvs(3.0, 12.0, size=100, random_state=np.random.default_rng(0)))
    declared = {"a": mle.Positive(), "b": mle.Positive()}

    @mle.model(params=declared)
    def ours(p: Any, d: Any) -> Any:
        return (p["a"] - 1) * jnp.log(d["y"]) + (p["b"] - 1) * jnp.log1p(-d["y"]) - betaln(p["a"], p["b"])

    @mle.model(params=declared)
    def of_jax(p: Any, d: Any) -> Any:
        return jax.scipy.stats.beta.logpdf(d["y"], p["a"], p["b"])

    a, b, _, _ = stats.beta.fit(y, floc=0, fscale=1)
    res = ours.fit({"y": y})
    assert res.params.tolist() == pytest.approx([a, b], rel=1e-5)  # scipy stops there
    assert res.llf == pytest.approx(stats.beta.logpdf(y, *res.params).sum(), abs=1e-11)
    with pytest.warns(RuntimeWarning, match=r"uses jax.scipy.special.betaln .* Use mle.special.betaln"):
        other = of_jax.fit({"y": y})
    assert abs(other.llf - res.llf) > 1e-6
