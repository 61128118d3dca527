"""Linear predictors found in a traced log-likelihood: the derivatives are those of automatic differentiation."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import mlejax as mle
from mlejax.execution.trace import linear_predictors
from mlejax.fit.common import objective_of
from mlejax.objective import Spec
from mlejax.objective.derivatives import value_grad_hessian
from mlejax.parameters import looked_up
from mlejax.special import gammaln, softplus

N = 40
_rng = np.random.default_rng(8)
X, Z = _rng.standard_normal((N, 4)), _rng.standard_normal((N, 3))
Y = _rng.poisson(2.0, N).astype(float)
W = _rng.exponential(size=N)


def negbin(u: Any, x: Any, z: Any, y: Any) -> Any:
    mu, a = jnp.exp(x @ u[:4]), jnp.exp(-u[4])
    return gammaln(y + a) - gammaln(a) + a * jnp.log(a / (a + mu)) + y * jnp.log(mu / (a + mu))


def location_and_scale(u: Any, x: Any, z: Any, y: Any) -> Any:
    log_s = z @ u[4:7]
    return -0.5 * ((y - x @ u[:4]) * jnp.exp(-log_s)) ** 2 - log_s


def one_matrix_twice(u: Any, x: Any, z: Any, y: Any) -> Any:
    return -0.5 * ((y - x @ u[:4]) * jnp.exp(-0.1 * (x @ u[4:8]))) ** 2 - jnp.sin(x @ u[:4]) * u[8]


def also_elsewhere(u: Any, x: Any, z: Any, y: Any) -> Any:
    return -0.5 * (y - x @ u[:4]) ** 2 - y**2 * jnp.cos(u[2] * u[4])


def overlapping(u: Any, x: Any, z: Any, y: Any) -> Any:
    eta = x @ u[:4] + z @ u[1:4]
    return y * eta - softplus(eta)


def from_columns(u: Any, x: Any, z: Any, y: Any) -> Any:
    design = jnp.stack([jnp.ones(y.shape), x[:, 1], z[:, 0] ** 2, jnp.round(z[:, 1]).astype(int)], axis=1)
    return y * (design @ u[:4]) - softplus(design @ u[:4] + 0.3 * y)


def row_by_row(u: Any, x: Any, z: Any, y: Any) -> Any:
    return jax.vmap(lambda a, b: b * jnp.tanh(a[None] @ u[:4])[0])(x, y)


def left_product(u: Any, x: Any, z: Any, y: Any) -> Any:
    return y * jnp.tanh(u[:4] @ x.T) + 0.0 * u[0]


def many_classes(u: Any, x: Any, z: Any, y: Any) -> Any:
    eta = x @ u[:8].reshape(4, 2)
    return eta[:, 0] * (y > 1) - jnp.log(1.0 + jnp.sum(jnp.exp(eta), axis=1))


def classes_on_the_left(u: Any, x: Any, z: Any, y: Any) -> Any:
    """As designs of a parameter with several entries are multiplied; three classes of one matrix, entries used elsewhere too."""
    eta = jnp.einsum("ck,nk->cn", u[:12].reshape(3, 4), x)
    return eta[1] * (y > 1) - jnp.log(1.0 + jnp.sum(jnp.exp(eta), axis=0)) - u[12] ** 2 * jnp.tanh(y * u[13] * u[3])


def classes_and_a_scale(u: Any, x: Any, z: Any, y: Any) -> Any:
    eta = z @ u[:9].reshape(3, 3).T
    return jnp.exp(-0.1 * (x @ u[9:13])) * jax.nn.log_softmax(eta, axis=1)[:, 0] * u[13]


def added(u: Any, x: Any, z: Any, y: Any) -> Any:
    """As a formula with a factor: the look-up gives 0 for its first level, and only the sum of both enters; a scale beside."""
    eta = x @ u[:4] + 0.1 * y + looked_up(u[4:9], jnp.clip(jnp.round(3.0 * z[:, 0]), -1, 5))
    return -0.5 * (y - eta) ** 2 * jnp.exp(-u[9]) - 0.5 * u[9]


def scalars(u: Any, x: Any, z: Any, y: Any) -> Any:
    return -0.5 * ((y - u[0]) * jnp.exp(-u[1])) ** 2 - u[1]


def scaled_coefficients(u: Any, x: Any, z: Any, y: Any) -> Any:
    return -0.5 * (y - x @ jnp.exp(u[:4])) ** 2


CASES: dict[str, tuple[Callable[..., Any], int, int | None]] = {
    "negative binomial": (negbin, 5, 1),
    "location and scale": (location_and_scale, 7, 2),
    "one matrix twice": (one_matrix_twice, 9, 3),
    "also elsewhere": (also_elsewhere, 5, 1),
    "overlapping": (overlapping, 4, 2),
    "from columns": (from_columns, 4, 2),
    "row by row": (row_by_row, 4, 1),
    "left product": (left_product, 4, 1),
    "many classes": (many_classes, 8, 2),
    "classes on the left": (classes_on_the_left, 14, 3),
    "classes and a scale": (classes_and_a_scale, 14, 4),
    "added": (added, 10, 2),
    "scalars": (scalars, 2, None),
    "scaled coefficients": (scaled_coefficients, 4, None),
}


@pytest.mark.parametrize("name", CASES)
def test_derivatives(name: str) -> None:
    function, p, n_products = CASES[name]
    others = [X, Z, Y]
    u = 0.3 * np.random.default_rng(3).standard_normal(p)
    with jax.enable_x64(True):

        @jax.jit
        def both(u: Any, others: Any) -> Any:
            traced = linear_predictors.trace(function, u, others)
            plain = value_grad_hessian(lambda t: jnp.sum(W * function(t, *others)), u)
            if traced.inner is None:
                assert n_products is None, "linear predictors were not found"
                return plain, value_grad_hessian(lambda t: jnp.sum(W * traced.whole(t, *others)[0]), u)
            assert len(traced.places) == n_products
            return plain, linear_predictors.assemble(
                traced.places, traced.theta, linear_predictors.sums(traced, u, others, W), p
            )

        plain, found = both(u, others)
    for want, got in zip(plain, found, strict=True):
        np.testing.assert_allclose(got, want, rtol=1e-12, atol=1e-12 * np.abs(want).max())


@mle.model(beta=mle.Real(columns="X"), sigma=mle.Positive())
def weibull(params: Any, data: Any) -> Any:
    z = (data["t"] - data["X"] @ params["beta"]) / params["sigma"]
    return z - jnp.log(params["sigma"]) - jnp.exp(z)


def test_blocks_batches_and_derivatives_of_derivatives() -> None:
    """The whole objective: padded blocks, vmap over u, and the derivative of the Hessian by the data."""
    n = 5000  # two blocks
    rng = np.random.default_rng(0)
    data = {"X": np.column_stack([np.ones(n), rng.standard_normal((n, 3))]), "t": rng.gumbel(size=n)}
    problem = weibull.prepare(data)
    spec = Spec(weibull.likelihood, problem.space)
    points = 0.2 * rng.standard_normal((3, 5))
    with jax.enable_x64(True):
        objective = objective_of(spec, problem.data, None, None)
        found = jax.jit(jax.vmap(objective._rows_with_hessian))(points)
        plain = jax.jit(jax.vmap(objective._any_with_hessian))(points)
        for got, want in zip(found, plain, strict=True):
            np.testing.assert_allclose(got, want, rtol=1e-11, atol=1e-11 * np.abs(want).max())

        def bend(way: str, shift: Any) -> Any:
            moved = jax.tree.map(jnp.asarray, problem.data)
            rows = tuple(a + shift if a.ndim == 1 else a for a in moved.rows)
            shifted = objective_of(spec, replace(moved, rows=rows), None, None)
            return getattr(shifted, way)(points[0])[2]

        one = jax.jit(jax.jacfwd(lambda s: bend("_rows_with_hessian", s)))(0.1)
        other = jax.jit(jax.jacfwd(lambda s: bend("_any_with_hessian", s)))(0.1)
    np.testing.assert_allclose(one, other, rtol=1e-10, atol=1e-10 * np.abs(other).max())


def test_terms_of_one_sum_share_their_tangent() -> None:
    """Two terms of one sum, of which a third is a function of the data; a predictor that is used twice is in no sum."""
    with jax.enable_x64(True):
        traced = linear_predictors.trace(added, jnp.zeros(10), [X, Z, Y])
        assert traced.groups == (0, 0)

        def again(u: Any, x: Any, z: Any, y: Any) -> Any:
            eta = x @ u[:4]
            return jnp.sin(eta + z @ u[4:7]) + jnp.cos(eta)

        assert linear_predictors.trace(again, jnp.zeros(7), [X, Z, Y]).groups == (0, 1)

        def beside(u: Any, a: Any, x: Any) -> Any:
            return jnp.tanh(x[:, 0] * u[0] + a + x[:, 1] * u[1]) + jnp.cos(x[:, 2] * u[2])

        found = linear_predictors.trace(beside, jnp.zeros(3), [Y, X], effects=True)
    assert found.groups.count(found.own) == 2
    assert len(found.firsts) == 2
