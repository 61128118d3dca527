"""The mode of one unit's integrand by a safeguarded Newton method, in a loop that is not differentiated."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from mlejax.linalg import entrywise
from mlejax.shapes import Count, Device, Either

MOST_STEPS = 100
CLOSE = 1e-13  # converged if the Newton decrement (log-likelihood units) is at most this

Integrand = Callable[[Any], Any]  # z (q,) -> log of the integrand, ()


class IntegrandCurve(NamedTuple):
    """The log of an integrand at z: value (), gradient (q,) and minus its Hessian (q, q)."""

    value: Device
    gradient: Device
    curvature: Device


def curve(f: Integrand, z: Either) -> IntegrandCurve:
    """Evaluate value, gradient and minus the Hessian of f at z, by forward mode since z has few entries."""
    if z.shape[0] == 1:  # without a ``vmap`` over one direction
        along = lambda t: jax.jvp(f, (t,), (jnp.ones(1),))
        (value, slope), (_, bend) = jax.jvp(along, (z,), (jnp.ones(1),))
        return IntegrandCurve(value, slope[None], -bend[None, None])

    def first(t: Device) -> tuple[Any, Any]:
        return jax.jacfwd(lambda s: (f(s),) * 2, has_aux=True)(t)

    def second(t: Device) -> tuple[Any, tuple[Any, Any]]:
        gradient, value = first(t)
        return gradient, (value, gradient)

    hessian, (value, gradient) = jax.jacfwd(second, has_aux=True)(z)
    return IntegrandCurve(value, gradient, -hessian)


def gradient(f: Integrand, z: Either) -> Device:
    """Evaluate the gradient of f at z (q,), by forward mode."""
    return jax.jvp(f, (z,), (jnp.ones(1),))[1][None] if z.shape[0] == 1 else jax.jacfwd(f)(z)


class _ModeState(NamedTuple):
    z: Either
    at: IntegrandCurve
    step: Either
    length: Either
    decrement: Either
    n: Count


class InnerMode(NamedTuple):
    """The mode z (q,) of an integrand, value, gradient and curvature there, and the Newton decrement (), which is above 1e-13
    or NaN if no mode was found.
    """

    z: Either
    at: IntegrandCurve
    decrement: Either


def find(f: Integrand, z0: Either) -> InnerMode:
    """Find a mode of f by at most 100 Newton steps from z0 (q,); if none is found, return the point of the last step.

    A step that does not increase f, or leads to values that are not finite, is made shorter.
    ``f`` must not contain tracers that are differentiated: make it with ``lax.stop_gradient`` of the parameters.
    """
    return climb(lambda z: curve(f, z), z0)


def climb(evaluate: Callable[[Any], IntegrandCurve], z0: Either) -> InnerMode:
    """Find a mode by at most 100 Newton steps from z0 (q,), as :func:`find` does, of a function whose derivatives are known.

    ``evaluate``: z (q,) -> `IntegrandCurve`, the function's value, gradient and curvature.
    """

    def going(state: _ModeState) -> Either:
        return (state.n < MOST_STEPS) & ~(state.decrement <= CLOSE)

    def turn(state: _ModeState) -> _ModeState:
        trial = state.z + state.length * state.step
        there = evaluate(trial)
        slack = 1e-12 * (1.0 + jnp.abs(there.value))
        known = jnp.isfinite(there.value) & jnp.isfinite(there.gradient).all() & jnp.isfinite(there.curvature).all()
        better = known & (there.value >= state.at.value - slack)
        step = entrywise.solve(entrywise.cholesky(there.curvature, safe=True), there.gradient)
        moved = _ModeState(trial, there, step, jnp.ones(()), jnp.dot(step, there.gradient), state.n + 1)
        shorter = state._replace(length=0.25 * state.length, n=state.n + 1)
        return jax.tree.map(lambda a, b: jnp.where(better, a, b), moved, shorter)

    q = z0.shape[0]
    nowhere = IntegrandCurve(jnp.array(-jnp.inf), jnp.zeros(q), jnp.eye(q))
    begun = _ModeState(z0, nowhere, jnp.zeros(q), jnp.ones(()), jnp.array(jnp.inf), jnp.zeros((), jnp.int32))
    state = lax.while_loop(going, turn, begun)
    return InnerMode(state.z, state.at, state.decrement)
