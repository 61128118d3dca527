"""Models with random effects by brute force: the trapezoidal rule on a fixed grid, in NumPy's longdouble, nothing of mlejax.

    log L = sum_i log int prod_j f(y_ij | x_ij'beta + z_ij' L t) phi(t) dt,    L lower triangular

Score and information of the integral are exact under the integral sign (Fisher, Louis): with weights w over the grid, the
conditional law of t given the unit's rows, score = E s and information = -E h - Var s.  Newton's method takes the estimates to
the last digits.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

LD = np.longdouble
AXIS = {1: np.linspace(-9.0, 9.0, 801).astype(LD), 2: np.linspace(-8.0, 8.0, 81).astype(LD)}
Family = Callable[[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray, np.ndarray]]


class Truth(NamedTuple):
    """The maximum: estimates (p,), with the lower factor row by row last, log-likelihood and standard errors (p,)."""

    estimates: np.ndarray
    loglik: float
    errors: np.ndarray


def poisson(y: np.ndarray) -> Family:
    """Log density of some rows without log y!, and its first two derivatives in eta (rows, grid)."""

    def at(rows: np.ndarray, eta: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        k, mean = y[rows, None], np.exp(eta)
        return k * eta - mean, k - mean, -mean

    return at


def binomial(y: np.ndarray, size: np.ndarray) -> Family:
    """The same of binomial counts without the coefficient, by the logit link."""

    def at(rows: np.ndarray, eta: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        k, n = y[rows, None], size[rows, None]
        p = 1 / (1 + np.exp(-eta))
        return k * eta - n * np.logaddexp(LD(0), eta), k - n * p, -n * p * (1 - p)

    return at


def evaluate(
    family: Family, x: np.ndarray, z: np.ndarray, unit: np.ndarray, theta: np.ndarray
) -> tuple[LD, np.ndarray, np.ndarray]:
    """Log-likelihood, score (p,) and information (p, p)."""
    q, axis = z.shape[1], AXIS[z.shape[1]]
    nodes = np.stack(np.meshgrid(*[axis] * q, indexing="ij"), axis=-1).reshape(-1, q)
    log_law = -(nodes**2).sum(axis=1) / 2 + q * (np.log(axis[1] - axis[0]) - np.log(2 * LD(np.pi)) / 2)
    row, column = np.tril_indices(q)
    wide = np.concatenate([x, z[:, row]], axis=1)  # the linear predictor is linear in theta: wide * factor
    factor = np.concatenate([np.ones((len(nodes), x.shape[1])), nodes[:, column].astype(float)], axis=1)
    p = wide.shape[1]
    loglik, score, information = LD(0), np.zeros(p), np.zeros((p, p))
    for u in np.unique(unit):
        rows = np.flatnonzero(unit == u)
        own = wide[rows]
        value, slope, bend = family(rows, own @ (factor * theta).T)
        log_joint = value.sum(axis=0) + log_law
        weights = np.exp(log_joint - log_joint.max())
        loglik += log_joint.max() + np.log(weights.sum())
        weights /= weights.sum()
        # the digits of the log-likelihood matter; matrix products of its derivatives are of ordinary numbers, and fast
        weights, slope, bend, own = (a.astype(float) for a in (weights, slope, bend, own))
        scores = (slope.T @ own) * factor
        mean = weights @ scores
        score += mean
        pairs = ((bend * weights).T @ (own[:, :, None] * own[:, None, :]).reshape(len(rows), -1)).reshape(-1, p, p)
        information -= (pairs * factor[:, :, None] * factor[:, None, :]).sum(axis=0)
        information -= (weights[:, None] * scores).T @ scores - np.outer(mean, mean)
    return loglik, score, information


def maximum(family: Family, x: np.ndarray, z: np.ndarray, unit: np.ndarray, start: np.ndarray, constant: float = 0.0) -> Truth:
    """The maximum by Newton's method from near it; ``constant`` is added to the log-likelihood."""
    x, z, theta = np.asarray(x, LD), np.asarray(z, LD), np.asarray(start, LD)
    for _ in range(12):
        loglik, score, information = evaluate(family, x, z, unit, theta)
        step = np.linalg.solve(information, score)
        theta = theta + step
        if np.abs(step).max() < 1e-10:  # it converges quadratically
            break
    errors = np.sqrt(np.linalg.inv(information).diagonal())
    return Truth(theta.astype(float), float(loglik) + constant, errors)
