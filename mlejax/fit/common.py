"""What the pure core takes and gives: a problem, and its solution."""

from __future__ import annotations

from dataclasses import dataclass, field

import jax
import numpy as np

from mlejax.data import Prepared
from mlejax.fit.maximise.maximise import POLISH_LIMIT, POLISH_STEPS
from mlejax.objective import objective_of
from mlejax.parameters import Space
from mlejax.shapes import Either, PyTree

__all__ = ["POLISH_LIMIT", "POLISH_STEPS", "Problem", "Solution", "check_count", "objective_of"]

MOST = 100_000_000  # of what is counted


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

    params: PyTree
    theta: Either
    u: Either
    llf: Either
    score: Either
    information: Either
    decrement: Either
    n_steps: Either
    status: Either
    converged: Either


def check_count(name: str, value: object, least: int) -> int:
    """The value as an int, refused unless it is a whole number >= ``least``, and of memory's order (seeds may be any)."""
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or value < least:
        raise ValueError(f"{name}= expected a whole number of at least {least}, got {value!r}")
    if value > MOST and name != "seed":
        raise ValueError(f"{name}= expected at most {MOST:,}, got a larger number")
    return int(value)
