"""Input and output of the pure core `solve`: a problem and its solution."""

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
    """Data prepared for `solve` by ``model.prepare(data)``, with the layout of the parameters.

    A JAX pytree: the arrays in ``data`` are its leaves, so that it may be an argument of the user's own ``jit``,
    ``vmap`` and ``grad``.

    Attributes:
        data: rows, weights and shared arrays, padded.
        space: layout of the parameters (static under ``jit``).
    """

    data: Prepared
    space: Space = field(metadata={"static": True})


@jax.tree_util.register_dataclass
@dataclass(frozen=True, eq=False)
class Solution:
    """The result of `solve`: arrays only, a JAX pytree.

    Attributes:
        params: estimates in the user's structure, natural scale.
        theta: free parameters on the natural scale, as a vector, (p,).
        u: the same parameters in the optimiser's unconstrained coordinates, (p,).
        llf: log-likelihood, summed and weighted, without penalty, ().
        score: gradient of the (penalised) log-likelihood with respect to theta, (p,).
        information: minus the Hessian of the (penalised) log-likelihood with respect to theta, (p, p).
        decrement: Newton decrement g' H^-1 g, log-likelihood units, ().
        n_steps: number of optimiser steps, ().
        status: an ``End`` code, ().
        converged: True if the optimiser met its tolerance, or stopped because of rounding with a Newton decrement of at most
            1e-6, ().
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
    """Return the value as an int; ValueError unless it is a whole number from ``least`` to 100 million (a seed may be larger).

    ``name``: name of the argument, for the message; "seed" has no upper limit.
    """
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or value < least:
        raise ValueError(f"{name}= expected a whole number of at least {least}, got {value!r}")
    if value > MOST and name != "seed":
        raise ValueError(f"{name}= expected at most {MOST:,}, got a larger number")
    return int(value)
