"""Support for `jax.lax.while_loop` in a user's function: loops whose length is known only at run time.

JAX differentiates such a loop in forward mode only. The terms of the log-likelihood then get a custom derivative rule with their
Jacobian by forward mode, so that other code can differentiate them in reverse mode too.
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
    """True if JAX cannot differentiate the terms in reverse mode because of a ``jax.lax.while_loop``.

    Of the arguments of ``terms`` only shapes and types are used.
    """
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
    """Return the terms (N,) with a derivative rule that uses their Jacobian (N, k) in ``params``, by forward mode; derivatives in
    ``rows`` and ``shared`` are 0.
    """
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
