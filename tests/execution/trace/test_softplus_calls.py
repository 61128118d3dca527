"""JAX's own softplus, however it is written, is replaced by that of `mlejax.special` and by no other function."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mlejax.execution.trace.jaxprs import part_of
from mlejax.execution.trace.softplus_calls import replaced
from mlejax.special import softplus

AT = np.array([-np.inf, -800.0, -30.0, -1.0, 0.0, 0.5, 40.0, 800.0, np.inf, np.nan])


@jax.custom_jvp
def other(x: Any, y: Any) -> Any:
    return jnp.maximum(x, y) + 1.0


@other.defjvp
def _other(primals: Any, tangents: Any) -> Any:
    return other(*primals), 7.0 * tangents[0]


def counted(function: Callable[[Any], Any]) -> tuple[Any, int]:
    """What the traced function is afterwards, and how often it calls the replacement."""
    calls = []

    def mine(x: Any) -> Any:
        calls.append(x)
        return softplus(x)

    return replaced(jax.make_jaxpr(function)(jnp.asarray(AT)), mine), len(calls)


@pytest.mark.parametrize(
    "function",
    [
        jax.nn.softplus,
        jax.nn.log_sigmoid,
        lambda x: jnp.logaddexp(x, 0.0),
        lambda x: jnp.logaddexp(0.0, -x),
        jax.jit(lambda x: 2.0 * jax.nn.softplus(jnp.sin(x))),
    ],
)
def test_values_and_two_derivatives_are_those_of_jax(function: Callable[[Any], Any]) -> None:
    with jax.enable_x64(True):
        closed, n_calls = counted(function)
        assert n_calls == 1
        made = lambda x: part_of(closed)(x)[0]
        np.testing.assert_allclose(made(AT), function(jnp.asarray(AT)), rtol=4e-16)
        finite = jnp.asarray(AT[1:-2])
        for derivative, digits in ((jax.grad, 0.0), (jax.hessian, 2e-15)):  # digits that the rule of JAX's cancels
            each = [jax.vmap(derivative(lambda x, f=f: f(jnp.full(AT.size, x))[0]))(finite) for f in (made, function)]
            np.testing.assert_allclose(*each, rtol=1e-14, atol=digits)


def test_the_second_derivative_keeps_its_digits() -> None:
    """sigma(x) sigma(-x) in one form without cancellation."""
    with jax.enable_x64(True):
        closed, _ = counted(jax.nn.softplus)
        found = jax.vmap(jax.hessian(lambda x: part_of(closed)(jnp.full(AT.size, x))[0][0]))(jnp.asarray(AT[1:-2]))
        e = np.exp(-np.abs(AT[1:-2]))
        np.testing.assert_allclose(found, e / (1.0 + e) ** 2, rtol=1e-14)


@pytest.mark.parametrize(
    "function",
    [
        lambda x: jnp.logaddexp(x, 1.0),
        lambda x: jnp.logaddexp(x, 2.0 * x),
        lambda x: other(x, 0.0),
        lambda x: jnp.log1p(jnp.exp(x)),
        lambda x: jnp.logaddexp(x[:1], jnp.zeros(3)),
    ],
)
def test_other_functions_stay(function: Callable[[Any], Any]) -> None:
    with jax.enable_x64(True):
        traced = jax.make_jaxpr(function)(jnp.asarray(AT))
        assert replaced(traced, softplus) is traced
