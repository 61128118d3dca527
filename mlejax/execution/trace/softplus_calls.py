"""Calls of softplus in a traced program: ``jax.nn.softplus``, ``jax.nn.log_sigmoid`` and ``jnp.logaddexp(x, 0)``.

All three are one call of ``logaddexp`` with 0. It is recognised by comparing its program with that of ``jnp.logaddexp`` itself,
and replaced by a function of the same values whose derivatives need no further exponentials.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from .jaxprs import Equation, is_literal


def replaced(closed: Any, softplus: Callable[[Any], Any]) -> Any:
    """Return a closed jaxpr with its calls of softplus replaced by ``softplus``; ``closed`` itself if there are none.

    Args:
        closed: a closed jaxpr.
        softplus: function x -> log(1 + exp(x)), elementwise.

    Example:
        >>> closed = jax.make_jaxpr(jax.nn.log_sigmoid)(1.0)
        >>> "logaddexp" in str(closed), "logaddexp" in str(replaced(closed, lambda x: jnp.maximum(x, 0.0)))
        (True, False)
    """
    from jax.extend import core

    def in_program(program: Any) -> Any:
        eqns = [in_equation(eqn) for eqn in program.eqns]
        same = all(a is b for a, b in zip(eqns, program.eqns, strict=True))
        return program if same else program.replace(eqns=eqns)

    def in_equation(eqn: Any) -> Any:
        if eqn.primitive.name in ("jit", "pjit"):
            inner = eqn.params["jaxpr"]
            made = in_program(inner.jaxpr)
            closed = core.ClosedJaxpr(made, inner.consts)
            return eqn if made is inner.jaxpr else eqn.replace(params={**eqn.params, "jaxpr": closed})
        x = _argument(eqn)
        if x is None:
            return eqn
        call = jax.make_jaxpr(jax.jit(lambda x: softplus(x)))(x.aval).jaxpr.eqns[0]
        return call.replace(invars=[x], outvars=eqn.outvars)

    made = in_program(closed.jaxpr)
    return closed if made is closed.jaxpr else core.ClosedJaxpr(made, closed.consts)


def _argument(eqn: Equation) -> Any:
    """Return the variable x if the equation is ``logaddexp(x, 0)`` or ``logaddexp(0, x)``; else None."""
    if eqn.primitive.name != "custom_jvp_call" or len(eqn.invars) != 2 or len(eqn.outvars) != 1:
        return None
    shape = eqn.outvars[0].aval.shape
    for x, other in (eqn.invars, eqn.invars[::-1]):
        if is_literal(other) and not is_literal(x) and x.aval.shape == shape and not np.any(getattr(other, "val", 1)):
            return x if _program(eqn) == _logaddexp(*(v.aval for v in eqn.invars)) else None
    return None


def _program(eqn: Equation) -> str:
    return str(eqn.params["call_jaxpr"])


def _logaddexp(*avals: Any) -> str:
    """Return the program of ``jnp.logaddexp`` for operands of these types, as text; empty if JAX does not trace it as one call.
    """
    eqns: Any = jax.make_jaxpr(jnp.logaddexp)(*(jax.ShapeDtypeStruct(a.shape, a.dtype) for a in avals)).jaxpr.eqns
    return _program(eqns[0]) if len(eqns) == 1 and eqns[0].primitive.name == "custom_jvp_call" else ""
