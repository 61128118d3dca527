"""Log-likelihoods of models with classes in mpmath, and their information by differences: nothing of mlejax.

With 50 digits a central difference of step 1e-12 has an error of 1e-24 and loses 24 digits, so that standard errors are right to
far more digits than float64 has.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from mpmath import mp, mpf

mp.dps = 50
STEP = mpf(10) ** -12

Params = Sequence[Any]
Function = Callable[[Params], Any]


def normal(y: Any, mu: Any, sigma: Any) -> Any:
    """The density of N(mu, sigma^2)."""
    return mp.exp(-((y - mu) ** 2) / (2 * sigma**2)) / (sigma * mp.sqrt(2 * mp.pi))


def poisson(y: Any, rate: Any) -> Any:
    """The probability of a count."""
    return mp.exp(-rate) * rate**y / mp.factorial(int(y))


def chain(y: Sequence[Any], start: Sequence[Any], step: Any, density: Callable[[Any, int], Any]) -> Any:
    """The likelihood of one series of a hidden Markov chain, as the sum over all paths of states."""
    n, total = len(start), mpf(0)
    given = [[density(value, k) for k in range(n)] for value in y]
    for path in itertools.product(range(n), repeat=len(y)):
        p = start[path[0]] * given[0][path[0]]
        for t in range(1, len(y)):
            p *= step[path[t - 1]][path[t]] * given[t][path[t]]
        total += p
    return total


def information(loglik: Function, at: Params) -> np.ndarray:
    """Minus the Hessian (p, p) of a log-likelihood of p numbers."""
    at = [mpf(float(x)) for x in at]
    p = len(at)

    def moved(*by: tuple[int, int]) -> Any:
        there = list(at)
        for i, sign in by:
            there[i] += sign * STEP
        return loglik(there)

    middle, out = loglik(at), np.zeros((p, p))
    for i in range(p):
        out[i, i] = -(moved((i, 1)) - 2 * middle + moved((i, -1))) / STEP**2
        for j in range(i):
            four = moved((i, 1), (j, 1)) - moved((i, 1), (j, -1)) - moved((i, -1), (j, 1)) + moved((i, -1), (j, -1))
            out[i, j] = out[j, i] = -four / (4 * STEP**2)
    return out


def score(loglik: Function, at: Params) -> np.ndarray:
    """The gradient (p,)."""
    at = [mpf(float(x)) for x in at]
    sides = lambda i, sign: loglik([x + sign * STEP * (j == i) for j, x in enumerate(at)])
    return np.array([float((sides(i, 1) - sides(i, -1)) / (2 * STEP)) for i in range(len(at))])


def errors(loglik: Function, at: Params) -> np.ndarray:
    """Standard errors (p,)."""
    return np.sqrt(np.linalg.inv(information(loglik, at)).diagonal())
