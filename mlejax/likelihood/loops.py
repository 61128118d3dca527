"""Loops of a length that is known only as they run: `jax.lax.while_loop` in a user's function.

JAX differentiates such a loop forward and not backward. The terms of a log-likelihood then get the Jacobian in the few
parameters by forward mode, as a rule of their own, so that what differentiates them elsewhere need not know.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from mlejax.execution.trace.jaxprs import Program, inner_programs
from mlejax.shapes import Device, Params, PyTree

Terms = Callable[[Any, Any, Any], jax.Array]


def needs_forward_mode(terms: Terms, params: Params, rows: PyTree, shared: PyTree) -> bool:
    """Whether JAX refuses to differentiate the terms backward because of such a loop."""
    arguments = jax.tree.map(lambda a: jax.ShapeDtypeStruct(jnp.shape(a), jnp.result_type(a)), (params, rows, shared))
    if not _has_while(jax.make_jaxpr(terms)(*arguments).jaxpr):
        return False
    try:
        jax.make_jaxpr(jax.grad(lambda *args: jnp.sum(terms(*args))))(*arguments)
    except ValueError:
        return True
    return False


def _has_while(program: Program) -> bool:
    return any(
        eqn.primitive.name == "while" or any(_has_while(inner) for inner in inner_programs(eqn)) for eqn in program.eqns
    )


def by_forward_mode(terms: Terms, params: Params, rows: PyTree, shared: PyTree) -> jax.Array:
    """The terms (N,), which depend on the parameters by their Jacobian (N, k) of forward mode."""
    from jax.flatten_util import ravel_pytree  # only where it is needed: it is not among what JAX imports

    flat, unflatten = ravel_pytree(params)

    @jax.custom_jvp
    def function(theta: PyTree, rows: PyTree, shared: PyTree) -> jax.Array:
        return terms(unflatten(theta), rows, shared)

    @function.defjvp
    def _(primals: tuple[PyTree, ...], tangents: tuple[PyTree, ...]) -> tuple[jax.Array, jax.Array]:
        theta, *data = primals

        def twice(t: Device) -> tuple[jax.Array, jax.Array]:
            values = terms(unflatten(t), *data)
            return values, values

        jacobian, values = jax.jacfwd(twice, has_aux=True)(theta)
        return values, jacobian @ tangents[0]

    return function(flat, rows, shared)
