"""Models with random effects by brute force, on a grid for each unit that its conditional law centres and scales; no mlejax.

    log L = sum_i log int prod_j f(y_ij | x_ij'beta + z_ij' L t) phi(t) dt,    L lower triangular

The trapezoidal rule in t = mode + C s, C C' the inverse of the curvature at the mode, s on a rectangle outside of which the
integrand is below exp(-46) of its largest value: its error falls like exp(-c / h) for integrands analytic around the real axis
(Trefethen & Weideman 2014, SIAM Review 56, 385).  Score and information under the integral sign (Fisher, Louis) by Newton's
method; the log-likelihood is summed in NumPy's longdouble.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

LD = np.longdouble
POINTS = {1: 201, 2: 101}
FALL = 46.0  # of the log integrand, at the edges of its grid


class Truth(NamedTuple):
    """The maximum: estimates (p,), with the lower factor row by row last, log-likelihood and standard errors (p,)."""

    estimates: np.ndarray
    loglik: float
    errors: np.ndarray


class Unit(NamedTuple):
    """The rows of one unit: outcomes, numbers of trials, and the predictor by theta, (m, p)."""

    y: np.ndarray
    size: np.ndarray
    wide: np.ndarray


def density(family: str, unit: Unit, eta: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Log density of rows and its first two derivatives in eta (m, grid); constants left out."""
    y, size = unit.y[:, None], unit.size[:, None]
    if family == "poisson":
        mean = np.exp(eta)
        return y * eta - mean, y - mean, -mean
    p = 1 / (1 + np.exp(-eta))
    return y * eta - size * np.logaddexp(eta.dtype.type(0), eta), y - size * p, -size * p * (1 - p)


def _multipliers(nodes: np.ndarray, k: int) -> np.ndarray:
    """What multiplies each entry of theta in the linear predictor at effects t, (grid, p)."""
    column = np.tril_indices(nodes.shape[1])[1]
    return np.concatenate([np.ones((len(nodes), k), nodes.dtype), nodes[:, column]], axis=1)


def _mode(family: str, unit: Unit, theta: np.ndarray, q: int) -> tuple[np.ndarray, np.ndarray]:
    """The mode in t (q,) and C (q, q), C C' the inverse of the curvature there."""
    k, column = len(theta) - q * (q + 1) // 2, np.tril_indices(q)[1]
    slope = np.zeros((len(unit.y), q))
    for j, (own, c) in enumerate(zip(unit.wide[:, k:].T, column, strict=True)):
        slope[:, c] += own * theta[k + j]  # d eta / d t
    value = lambda t: density(family, unit, unit.wide @ (_multipliers(t[None], k) * theta).T)
    total = lambda t: value(t)[0].sum() - t @ t / 2
    t = np.zeros(q)
    for _ in range(200):
        _, first, second = (a[:, 0] for a in value(t))
        gradient, curvature = slope.T @ first - t, np.eye(q) - (slope * second[:, None]).T @ slope
        step = np.linalg.solve(curvature, gradient)
        while total(t + step) < total(t) - 1e-12 and np.abs(step).max() > 1e-14:
            step /= 4
        t = t + step
        if np.abs(step).max() < 1e-12:
            break
    return t, np.linalg.inv(np.linalg.cholesky(curvature)).T


def _grid(family: str, unit: Unit, theta: np.ndarray, q: int) -> tuple[np.ndarray, float]:
    """Nodes (grid, q) and the log of the volume of a cell."""
    k = len(theta) - q * (q + 1) // 2
    mode, scale = _mode(family, unit, theta, q)

    def logs(s: np.ndarray) -> np.ndarray:
        t = mode + s @ scale.T
        return density(family, unit, unit.wide @ (_multipliers(t, k) * theta).T)[0].sum(axis=0) - (t**2).sum(axis=1) / 2

    top, ends = logs(np.zeros((1, q)))[0], np.array([[-6.0] * q, [6.0] * q])
    across = np.linspace(-1.0, 1.0, 41)
    for side in range(2):
        for j in range(q):
            face = np.zeros((41, q))
            if q == 2:
                face[:, 1 - j] = 20.0 * across
            while True:
                face[:, j] = ends[side, j]
                if logs(face).max() < top - FALL or abs(ends[side, j]) > 400:
                    break
                ends[side, j] *= 1.1
    axes = [np.linspace(a, b, POINTS[q]) for a, b in ends.T]
    s = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, q)
    cell = sum(np.log(a[1] - a[0]) for a in axes) + np.log(np.diag(scale)).sum()
    return mode + s @ scale.T, float(cell)


def evaluate(family: str, units: list[Unit], theta: np.ndarray, q: int, exact: bool) -> tuple[Any, np.ndarray, np.ndarray]:
    """Log-likelihood (in longdouble where ``exact``), score (p,) and information (p, p)."""
    p, k = len(theta), len(theta) - q * (q + 1) // 2
    loglik, score, information = LD(0), np.zeros(p), np.zeros((p, p))
    kind = LD if exact else np.float64
    for unit in units:
        nodes, cell = _grid(family, unit, theta, q)
        factor = _multipliers(nodes, k)
        own = Unit(*(a.astype(kind) for a in unit))
        value, slope, bend = density(family, own, own.wide @ (factor.astype(kind) * theta.astype(kind)).T)
        law = -(nodes.astype(kind) ** 2).sum(axis=1) / 2 + kind(cell) - q * np.log(2 * kind(np.pi)) / 2
        log_joint = value.sum(axis=0) + law
        weights = np.exp(log_joint - log_joint.max())
        loglik += LD(log_joint.max() + np.log(weights.sum()))
        weights /= weights.sum()
        w, slope, bend = (a.astype(float) for a in (weights, slope, bend))
        scores = (slope.T @ unit.wide) * factor
        mean = w @ scores
        score += mean
        pairs = ((bend * w).T @ (unit.wide[:, :, None] * unit.wide[:, None, :]).reshape(len(unit.y), -1)).reshape(-1, p, p)
        information -= (pairs * factor[:, :, None] * factor[:, None, :]).sum(axis=0)
        information -= (w[:, None] * scores).T @ scores - np.outer(mean, mean)
    return loglik, score, information


def maximum(family: str, data: Mapping[str, Any], start: np.ndarray, constant: float | None = None) -> Truth:
    """The maximum by Newton's method from near it.

    Args:
        family: "poisson", or another word for binomial counts without the coefficient.
        data: columns ``y``, ``size`` (of binomial counts), ``X`` (n, k), ``Z`` (n, q) and ``unit``.
        start: theta (p,): coefficients, then the lower factor row by row.
        constant: added to the log-likelihood; by default -sum log y! of counts.
    """
    from scipy.special import gammaln

    y, x, z = (np.asarray(data[name], float) for name in ("y", "X", "Z"))
    size, q, row = np.asarray(data.get("size", np.ones_like(y)), float), z.shape[1], np.tril_indices(z.shape[1])[0]
    wide = np.concatenate([x, z[:, row]], axis=1)
    codes = np.unique(np.asarray(data["unit"]), return_inverse=True)[1]
    units = [Unit(y[codes == i], size[codes == i], wide[codes == i]) for i in range(codes.max() + 1)]
    theta = np.asarray(start, float)
    for _ in range(12):
        _, score, information = evaluate(family, units, theta, q, exact=False)
        step = np.linalg.solve(information, score)
        theta = theta + step
        if np.abs(step).max() < 1e-9:  # it converges quadratically
            break
    loglik, _, information = evaluate(family, units, theta, q, exact=True)
    if constant is None:
        constant = -float(gammaln(y + 1).sum()) if family == "poisson" else 0.0
    return Truth(theta, float(loglik) + constant, np.sqrt(np.linalg.inv(information).diagonal()))
