"""Every pass over traced programs, on one set of programs that use each construct of the installed JAX.

A pass may find nothing.  What it returns must compute the same, and what it claims must be true.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from mlejax.execution.trace import lapack_calls, linear_predictors, rows_apart, split
from mlejax.objective.derivatives import value_grad_hessian

N, P = 6, 4
RNG = np.random.default_rng(0)
B = RNG.standard_normal(P)
ROWS = [RNG.standard_normal((N, P)), np.exp(RNG.standard_normal(N)), RNG.integers(0, P, N)]


@jax.custom_jvp
def squared(t: Any) -> Any:
    return t * t


squared.defjvp(lambda primals, tangents: (squared(primals[0]), 2.0 * primals[0] * tangents[0]))


@jax.custom_vjp
def cubed(t: Any) -> Any:
    return t**3


cubed.defvjp(lambda t: (t**3, t), lambda t, g: (3.0 * t**2 * g,))


def halved(y: Any) -> Any:
    """Of the data alone: a loop of unknown length, without derivatives."""
    return lax.while_loop(lambda t: jnp.any(t > 1.0), lambda t: jnp.where(t > 1.0, t / 2.0, t), y)


Function = Callable[[Any, Any, Any, Any], Any]
# f(b (P,), X (N, P), y (N,), g (N,) of integers) -> (N,), in which row i depends on row i of the data only
PROGRAMS: dict[str, Function] = {
    "elementwise": lambda b, X, y, g: jnp.log(y) * b[0] - jnp.exp(-y * b[1]) + X[:, 0] * b[2] * b[3],
    "matmul": lambda b, X, y, g: -0.5 * (jnp.log(y) - X @ b) ** 2,
    "scan": lambda b, X, y, g: lax.scan(lambda t, x: (t + jnp.tanh(x), None), X @ b, jnp.stack([y, X[:, 1]]))[0],
    "while": lambda b, X, y, g: halved(y) * (X @ b),
    "cond": lambda b, X, y, g: lax.cond(b[0] > 0, lambda t: t * b[1], jnp.sin, jnp.log(y) + X @ b),
    "switch": lambda b, X, y, g: lax.switch(1, [jnp.sin, jnp.cos], y * (X @ b)),
    "custom_jvp": lambda b, X, y, g: squared(jnp.sqrt(y) + X @ b),
    "jit": lambda b, X, y, g: jax.jit(lambda t, z: jnp.log(z) * t)(X @ b, y),
    "jit in jit": lambda b, X, y, g: jax.jit(lambda t, z: jax.jit(jnp.log)(z) * t)(X @ b, y),
    "remat": lambda b, X, y, g: jax.checkpoint(lambda t, z: jnp.sin(t) * jnp.log(z))(X @ b, y),
    "gather": lambda b, X, y, g: b[g] * jnp.sqrt(y),
    "vmap": lambda b, X, y, g: jax.vmap(lambda x, t: jnp.log(t) * jnp.tanh(x @ b))(X, y),
    "reductions": lambda b, X, y, g: jnp.sum(X * b, axis=1) - jnp.log(y) * jnp.max(X, axis=1),
    "sort": lambda b, X, y, g: jnp.sort(X, axis=1)[:, 0] * b[0] + jnp.cumsum(X, axis=1)[:, -1] * b[1],
    "cholesky": lambda b, X, y, g: jnp.linalg.cholesky(jnp.eye(P) + jnp.outer(b, b))[0, 0] * jnp.log(y),
}
WITHOUT_HESSIAN: dict[str, Function] = {
    "custom_vjp": lambda b, X, y, g: cubed(X @ b) * jnp.log(y),
    "while over parameters": lambda b, X, y, g: halved(jnp.exp(X @ b)) * jnp.log(y),
}
EVERY = PROGRAMS | WITHOUT_HESSIAN
PROVED = {
    "elementwise",
    "matmul",
    "custom_jvp",
    "jit",
    "jit in jit",
    "remat",
    "gather",
    "vmap",
    "reductions",
}


@pytest.fixture(autouse=True)
def float64() -> Any:
    with jax.enable_x64(True):
        yield


def traced(function: Function) -> Any:
    return jax.make_jaxpr(function)(B, *ROWS).jaxpr


def independent(function: Function) -> bool:
    def rows(n: int) -> list[Any]:
        return [jax.ShapeDtypeStruct((n, *a.shape[1:]), a.dtype) for a in ROWS]

    return rows_apart(lambda b, columns, _: function(b, *columns), jnp.asarray(B), rows, [])


@pytest.mark.parametrize("name", EVERY)
def test_what_depends_on_the_data_alone_is_split_off_and_changes_nothing(name: str) -> None:
    function = EVERY[name]
    parts = split(lambda b, rows, shared: function(b, *rows), B, ROWS, ())
    if parts is None:
        return
    made = parts.known(ROWS, ())
    assert [(a.shape, a.dtype) for a in made] == [(s.shape, s.dtype) for s in parts.shapes]
    np.testing.assert_allclose(parts.rest(B, ROWS, (), made), function(B, *ROWS), rtol=1e-14)
    if name in PROGRAMS:
        slopes = [jax.jacrev(f)(B) for f in (lambda b: parts.rest(b, ROWS, (), made), lambda b: function(b, *ROWS))]
        np.testing.assert_allclose(*slopes, rtol=1e-13, atol=1e-14)


def test_logarithms_of_the_data_are_split_off() -> None:
    found = {name for name, f in EVERY.items() if split(lambda b, rows, _, f=f: f(b, *rows), B, ROWS, ()) is not None}
    assert {"elementwise", "matmul", "cond", "vmap", "while", "gather"} <= found


@pytest.mark.parametrize("name", PROGRAMS)
def test_derivatives_through_linear_predictors_are_the_plain_ones(name: str) -> None:
    function, weights = PROGRAMS[name], np.linspace(0.5, 2.0, N)
    want = value_grad_hessian(lambda b: jnp.sum(weights * function(b, *ROWS)), jnp.asarray(B))
    found = linear_predictors.trace(function, B, ROWS)
    if found.inner is None:
        got = value_grad_hessian(lambda b: jnp.sum(weights * found.whole(b, *ROWS)[0]), jnp.asarray(B))
    else:
        sums = linear_predictors.sums(found, jnp.asarray(B), ROWS, jnp.asarray(weights))
        got = linear_predictors.assemble(found.places, found.theta, sums, P)
    for a, b in zip(want, got, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("name", EVERY)
def test_rows_that_are_independent_are_proved_so_or_left_open(name: str) -> None:
    proved = independent(EVERY[name])
    if name in PROVED:
        assert proved
    if proved:
        alone = [EVERY[name](B, *(a[i : i + 1] for a in ROWS))[0] for i in range(N)]
        np.testing.assert_allclose(EVERY[name](B, *ROWS), alone, rtol=1e-12)


@pytest.mark.parametrize("name", EVERY)
@pytest.mark.parametrize("mixed", ["centred", "turned"])
def test_rows_that_depend_on_others_are_never_proved_independent(name: str, mixed: str) -> None:
    def function(b: Any, X: Any, y: Any, g: Any) -> Any:
        if mixed == "turned":
            return EVERY[name](b, X[::-1], y, g[::-1])
        return EVERY[name](b, X - X.mean(axis=0), jnp.exp(jnp.log(y) - jnp.log(y).mean()), jnp.sort(g))

    assert not independent(function)


@pytest.mark.parametrize("name", EVERY)
def test_lapack_is_found_where_it_is_called(name: str) -> None:
    assert list(lapack_calls(traced(EVERY[name]))) == ([(1, P**3)] if name == "cholesky" else [])


def factor(t: Any) -> Any:
    return jnp.linalg.cholesky(jnp.eye(3) * (1.0 + t * t))[0, 0]


@jax.custom_jvp
def factor_with_a_rule(t: Any) -> Any:
    return factor(t)


factor_with_a_rule.defjvp(lambda primals, tangents: (factor(primals[0]), tangents[0]))
WRAPPED: dict[str, Callable[[Any], Any]] = {
    "jit": jax.jit(factor),
    "remat": jax.checkpoint(factor),
    "custom_jvp": factor_with_a_rule,
    "scan": lambda t: lax.scan(lambda s, _: (factor(s), None), t, None, length=3)[0],
    "while": lambda t: lax.while_loop(lambda s: s > 2.0, factor, t),
    "cond": lambda t: lax.cond(t > 0, factor, jnp.sin, t),
    "map": lambda t: lax.map(factor, jnp.stack([t, t]))[0],
    "gradient": jax.grad(factor_with_a_rule),
}


@pytest.mark.parametrize("name", WRAPPED)
def test_lapack_is_found_inside_of(name: str) -> None:
    calls = list(lapack_calls(jax.make_jaxpr(WRAPPED[name])(1.0).jaxpr))
    assert (1, 27) in calls
