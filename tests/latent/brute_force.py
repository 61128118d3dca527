"""Random-intercept models by brute force: the trapezoidal rule on a fixed grid, in NumPy's longdouble, nothing of mlejax.

    log L = sum_i log int prod_j f(y_ij | x_ij'beta + sd z) phi(z) dz

Score and information of the integral are exact under the integral sign (Fisher, Louis): with weights w over the grid, the
conditional law of z given the unit's rows, score = E s and information = -E h - Var s.  Newton's method takes the estimates to
the last digits.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

LD = np.longdouble
GRID = np.linspace(-9.0, 9.0, 201).astype(LD)


class Truth(NamedTuple):
    """The maximum: estimates (p,), with the standard deviation last, log-likelihood and standard errors (p,)."""

    estimates: np.ndarray
    loglik: float
    errors: np.ndarray


def poisson(y: np.ndarray, eta: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Log density without log y!, and its first two derivatives in eta."""
    mean = np.exp(eta)
    return y * eta - mean, y - mean, -mean


def binomial(y: np.ndarray, size: np.ndarray) -> Callable[..., tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """The same of binomial counts without the coefficient, by the logit link."""

    def at(_: np.ndarray, eta: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        k, n = y[:, None], size[:, None]
        p = 1 / (1 + np.exp(-eta))
        return k * eta - n * np.logaddexp(LD(0), eta), k - n * p, -n * p * (1 - p)

    return at


def evaluate(
    family: Callable[..., tuple[np.ndarray, np.ndarray, np.ndarray]], y: np.ndarray, x: np.ndarray, unit: np.ndarray,
    theta: np.ndarray,
) -> tuple[LD, np.ndarray, np.ndarray]:  # fmt: skip
    """Log-likelihood, score (p,) and information (p, p)."""
    p, n_units = x.shape[1] + 1, int(unit.max()) + 1
    eta = (x @ theta[:-1])[:, None] + theta[-1] * GRID[None, :]
    value, slope, bend = family(y[:, None], eta)

    def by_unit(a: np.ndarray) -> np.ndarray:
        out = np.zeros((n_units, *a.shape[1:]), LD)
        np.add.at(out, unit, a)
        return out

    log_joint = by_unit(value) - GRID**2 / 2 - np.log(2 * LD(np.pi)) / 2 + np.log(GRID[1] - GRID[0])
    top = log_joint.max(axis=1, keepdims=True)
    weights = np.exp(log_joint - top)
    loglik = top[:, 0] + np.log(weights.sum(axis=1))
    weights /= weights.sum(axis=1, keepdims=True)
    columns = [*np.broadcast_to(x.T[:, :, None], (p - 1, *eta.shape)), np.broadcast_to(GRID, eta.shape)]
    scores = np.stack([by_unit(slope * c) for c in columns], axis=-1)  # unit, grid, p
    mean = np.einsum("ik,ikp->ip", weights, scores)
    information = -np.einsum("ik,ikp,ikq->pq", weights, scores, scores) + mean.T @ mean
    for i in range(p):
        for j in range(p):
            information[i, j] -= (weights * by_unit(bend * columns[i] * columns[j])).sum()
    return loglik.sum(), mean.sum(axis=0), information


def maximum(family: Callable[..., tuple[np.ndarray, np.ndarray, np.ndarray]], y: np.ndarray, x: np.ndarray,
            unit: np.ndarray, start: np.ndarray, constant: float = 0.0) -> Truth:  # fmt: skip
    """The maximum by Newton's method from near it; ``constant`` is added to the log-likelihood."""
    y, x, theta = np.asarray(y, LD), np.asarray(x, LD), np.asarray(start, LD)
    codes = np.unique(unit, return_inverse=True)[1]
    for _ in range(12):
        loglik, score, information = evaluate(family, y, x, codes, theta)
        step = np.linalg.solve(information.astype(float), score.astype(float))
        theta = theta + step
        if np.abs(step).max() < 1e-13:
            break
    errors = np.sqrt(np.linalg.inv(information.astype(float)).diagonal())
    return Truth(theta.astype(float), float(loglik) + constant, errors)
