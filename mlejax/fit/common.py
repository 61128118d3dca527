r"""What the pure core and the host shell share: the problem, its objective, and the way from u to theta.

From u to theta at the optimum, exactly and without differentiating the likelihood again: with J = d theta / d u,

    score_theta = J^-T score_u,
    I_theta = J^-T ( I_u + sum_k score_theta,k  d^2 theta_k / du du' ) J^-1.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from mlejax import transforms
from mlejax.data import Prepared
from mlejax.objective import Objective, Spec
from mlejax.parameters import Space

Array = Any
POLISH_LIMIT = 500
POLISH_STEPS = 10


@jax.tree_util.register_dataclass
@dataclass(frozen=True, eq=False)
class Problem:
    """A log-likelihood with its data ready for the pure core; made by ``model.prepare(data)``.

    A JAX pytree: the arrays in ``data`` are its leaves, so that it may be an argument of the user's own ``jit``,
    ``vmap`` and ``grad``.

    Attributes:
        data: rows, weights and shared arrays, padded.
        space: layout of the parameters (static).
    """

    data: Prepared
    space: Space = field(metadata={"static": True})


@jax.tree_util.register_dataclass
@dataclass(frozen=True, eq=False)
class Solution:
    """What the pure core returns: arrays only, a JAX pytree.

    Attributes:
        params: estimates in the user's structure, natural scale.
        theta: free natural coordinates, (p,).
        u: the same in the optimiser's coordinates, (p,).
        llf: log-likelihood, summed and weighted, without penalty, ().
        score: gradient of the (penalised) log-likelihood in theta, (p,).
        information: minus its Hessian in theta, (p, p).
        decrement: Newton decrement g' H^-1 g, log-likelihood units, ().
        n_steps: steps of the optimiser, ().
        status: an ``End`` code, ().
        converged: the optimiser met its tolerance at positive definite information, ().
    """

    params: Any
    theta: Array
    u: Array
    llf: Array
    score: Array
    information: Array
    decrement: Array
    n_steps: Array
    status: Array
    converged: Array


class AtOptimum(NamedTuple):
    """Theta with its derivatives by u, and score and information in theta."""

    theta: Array
    jacobian: Array
    score: Array
    information: Array


def objective_of(spec: Spec, data: Prepared, fixed: Array | None, hyper: Any, n_used: Array | None = None) -> Objective:
    """The objective of one data set; ``scale`` is the sum of the weights, ``n_used`` the blocks in use (default: all)."""
    return Objective(spec, data, fixed, hyper, jnp.maximum(jnp.sum(data.weights), 1e-300), n_used)


def to_theta(space: Space, u: Array, fixed: Array | None, score: Array, information: Array) -> AtOptimum:
    """Score and information from u to theta (module docstring)."""
    theta_of = partial(space.theta_from_u, fixed=fixed)
    if all(isinstance(leaf.transform, (transforms.Identity, transforms.Box)) for leaf in space.leaves):
        return AtOptimum(u, jnp.eye(u.shape[0], dtype=u.dtype), score, information)
    if all(leaf.transform.elementwise for leaf in space.leaves):
        one = jnp.ones_like(u)

        def slope(t: Array) -> Array:
            return jax.jvp(theta_of, (t,), (one,))[1]

        first, second = jax.jvp(slope, (u,), (one,))
        natural = score / first
        inner = information + jnp.diag(natural * second)
        return AtOptimum(theta_of(u), jnp.diag(first), natural, inner / (first[:, None] * first[None, :]))
    jacobian = jax.jacfwd(theta_of)(u)
    natural = jnp.linalg.solve(jacobian.T, score)
    inner = information + jax.hessian(lambda t: natural @ theta_of(t))(u)
    left = jnp.linalg.solve(jacobian.T, inner)
    full = jnp.linalg.solve(jacobian.T, left.T).T
    return AtOptimum(theta_of(u), jacobian, natural, 0.5 * (full + full.T))


def off_edges(space: Space, u: Array) -> Array:
    """A small step into the box from its edges, where the score may vanish by symmetry."""
    if not space.boxed:
        return u
    width = space.upper - space.lower
    step = jnp.asarray(np.where(np.isfinite(width), 1e-3 * width, 1e-2))
    u = jnp.where(u <= space.lower, space.lower + step, u)
    return jnp.where(u >= space.upper, space.upper - step, u)
