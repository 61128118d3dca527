"""Newton's method for confidence limits, where profiles cross the cut, or for profiles at given values; many at once.

From the estimate the first step leads to the limits of the Wald interval, and the steps converge quadratically.  If scores
cost less than information matrices, the information at the estimate is used for the second step too, and the last evaluated
one for steps close to a limit.  Limits that do not converge are found by steps along the profile
(:mod:`mlejax.inference.profiles.ends.walks`).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from mlejax.inference.profiles.paths import Order, Paths, newton
from mlejax.objective import Evaluation
from mlejax.shapes import Bool, Float, Host, Int

MOST_TURNS = 14
GAP = 1e-9  # log-likelihood: distance from the level
DECREMENT = 1e-10  # log-likelihood: what maximising the others further is worth, twice
OFF_PATH = 1e-9  # in units of the path's direction
MOST_SHORTENED = 6
NEAR = 0.01  # log-likelihood: within this of an end, an information that was evaluated serves for the next step too
FALLS = 0.01  # and as long as the distance falls to this share at each step


class Points(NamedTuple):
    """Points on m profiles, constrained maxima at given values of the profiled quantity.

    Attributes:
        u: coordinates (m, p).
        rho: coordinate along the path, 0 at the estimate (m,).
        loglik: log-likelihood (m,).
        score: score in u (m, p).
        slope, curvature: first and second derivative of the profile log-likelihood with respect to rho (m,).
        tangent: du / drho along the profile (m, p).
        decrement: Newton decrement over the other parameters, 0 at a constrained maximum (m,).
        reached: True if the equations are solved and the point is a maximum over the other parameters (m,).
        n_evaluations: number of evaluations of the log-likelihood with derivatives that it took (m,).
    """

    u: Float[Host, "m p"]
    rho: Float[Host, " m"]
    loglik: Float[Host, " m"]
    score: Float[Host, "m p"]
    slope: Float[Host, " m"]
    curvature: Float[Host, " m"]
    tangent: Float[Host, "m p"]
    decrement: Float[Host, " m"]
    reached: Bool[Host, " m"]
    n_evaluations: Int[Host, " m"]

    def of(self, positions: Int[Host, " k"]) -> Points:
        """Return the k points at ``positions``."""
        return Points(*(a[positions] for a in self))

    def put(self, positions: Int[Host, " k"], other: Points) -> None:
        """Overwrite the points at ``positions`` by the k points ``other``, in place."""
        for mine, theirs in zip(self, other, strict=True):
            mine[positions] = theirs


def empty(m: int, p: int) -> Points:
    """Return m points of p coordinates, all NaN, not reached and without evaluations."""
    nan, rows = np.full(m, np.nan), np.full((m, p), np.nan)
    none = np.zeros(m, np.int64)
    return Points(rows, nan, nan.copy(), rows.copy(), nan.copy(), nan.copy(), rows.copy(), nan.copy(), none > 0, none)


def rounding_of(loglik: Float[Host, " m"]) -> Float[Host, " m"]:
    """Return the tolerance for the difference from the cut, log-likelihood units (m,): 1e-9, or 16 machine epsilons of the
    log-likelihood if that is more.
    """
    return np.maximum(GAP, 16.0 * np.finfo(float).eps * np.abs(loglik))


def solve(paths: Paths, u: Float[Host, "m p"], rho: Float[Host, " m"] | None = None) -> Points:
    """Solve, from the starts u, for the points where the profiles cross their cuts; or for the constrained maxima at given
    path coordinates ``rho``.

    Returns:
        `Points`; those with ``reached`` False did not converge and must not be used.
    """
    m, p = u.shape
    out, u = empty(m, p), np.clip(u, paths.lower, paths.upper)
    before, step = u.copy(), np.zeros((m, p))
    shortened, running = np.zeros(m, np.int64), np.ones(m, bool)
    information, full, distance = paths.information0.copy(), np.full(m, not paths.lags), np.zeros(m)
    with np.errstate(all="ignore"):
        for _ in range(MOST_TURNS):
            positions = np.flatnonzero(running)
            if not positions.size:
                break
            some = paths if positions.size == m else paths.of(positions)
            at = _evaluated(some, u[positions], information[positions], full[positions])
            information[positions] = at.information
            out.n_evaluations[positions] += 1
            assert at.score is not None
            assert at.information is not None
            good = np.isfinite(at.loglik) & np.isfinite(at.score).all(axis=1)
            good &= np.isfinite(at.information).all(axis=(1, 2))
            if rho is None:
                good &= at.loglik > some.level - 5.0 * (some.loglik0 - some.level) - 2.0
            if not good.all():
                back = positions[~good]
                shortened[back] += 1
                step[back] *= 0.3
                u[back] = np.clip(before[back] + step[back], paths.lower, paths.upper)
                running[back] = shortened[back] <= MOST_SHORTENED
                positions, some = positions[good], some.of(np.flatnonzero(good))
                if not positions.size:
                    continue
                at = at._replace(**{k: getattr(at, k)[good] for k in at._fields})
            done, d, left = _iterate(some, at, out, positions, None if rho is None else rho[positions])
            if paths.lags:
                full[positions] = np.where(full[positions], left > NEAR, left > FALLS * distance[positions])
                distance[positions] = left
            running[positions[done]] = False
            before[positions], step[positions] = u[positions], d
            lost = ~np.isfinite(d).all(axis=1)
            running[positions[lost]] = False
            moved = positions[~done & ~lost]
            u[moved] = np.clip(u[moved] + step[moved], paths.lower, paths.upper)
    return out


def _evaluated(some: Paths, u: Float[Host, "k p"], information: Float[Host, "k p p"], full: Bool[Host, " k"]) -> Evaluation:
    """Return log-likelihoods, scores and information at u; the information is evaluated where ``full`` is True, and is the
    given one elsewhere.
    """
    if full.all():
        return some.evaluate(u, some.sets, 2)
    out = Evaluation(u, np.empty(len(u)), np.empty(u.shape), information)
    orders: tuple[Order, ...] = (1, 2)
    for order in orders:
        mine = np.flatnonzero(full == (order == 2))
        if mine.size:
            found = some.evaluate(u[mine], some.sets[mine], order)
            for whole, part in zip(out[1 : 2 + order], found[1 : 2 + order], strict=True):
                whole[mine] = part  # type: ignore[index]
    return out


def _iterate(
    some: Paths, at: Evaluation, out: Points, positions: Int[Host, " k"], rho: Float[Host, " k"] | None
) -> tuple[Bool[Host, " k"], Float[Host, "k p"], Float[Host, " k"]]:
    """Do one Newton iteration for the paths ``some`` and record their points in ``out`` at ``positions``.

    Args:
        some: the k paths.
        at: log-likelihood, score and information at their present points.
        out: points of all paths.
        positions: positions of the k paths in ``out``.
        rho: path coordinates at which maxima are sought; None: the cuts are.

    Returns:
        True for each path that converged (k,), the next steps (k, p), and the remaining error in log-likelihood units (k,).
    """
    u = at.u
    constraints = some.constraints(u)
    equations = newton(some, u, at, constraints)
    here = some.rho_of(constraints.values) if rho is None else rho
    gap = at.loglik - some.level if rho is None else np.zeros(len(positions))
    off = np.sqrt(((constraints.values - some.at(here)) ** 2).sum(axis=1) / (some.direction**2).sum(axis=1))
    inner = equations.step(here)
    decrement = equations.decrement(inner)
    done = (np.abs(gap) <= rounding_of(at.loglik)) & (np.abs(decrement) <= DECREMENT)
    left = np.abs(gap) + np.abs(decrement)
    done &= off <= OFF_PATH * np.maximum(1.0, here)
    slope = (equations.kappa(here) * some.direction).sum(axis=1)
    curvature = (equations.kappa1 * some.direction).sum(axis=1)
    values = (u, here, at.loglik, at.score, slope, curvature, equations.d1, decrement)
    for mine, theirs in zip(out, values, strict=False):
        mine[positions] = theirs
    out.reached[positions] = done & equations.regular & (here >= 0)
    if rho is not None:
        return done, inner, left
    d = equations.step(_crossing(equations.model(at.loglik), some.level, here))
    length = np.sqrt(np.maximum(np.einsum("mi,mij,mj->m", d, some.information0, d), 0.0))
    longest = 1.05 * np.sqrt(2.0 * (some.loglik0 - some.level))
    return done, d * np.minimum(1.0, longest / np.maximum(length, 1e-300))[:, None], left


def _crossing(model: tuple[np.ndarray, ...], level: Float[Host, " m"], here: Float[Host, " m"]) -> Float[Host, " m"]:
    """Return rho where a + b rho - c rho^2 / 2 falls to ``level``, (m,), ``model`` = (a, b, c).

    If the quadratic has no maximum (c <= 0), return rho where its tangent at rho = ``here`` falls to ``level``; NaN if the
    tangent does not fall.
    """
    a, b, c = model
    root = b * b + 2.0 * c * (a - level)
    slope, value = b - c * here, a + b * here - 0.5 * c * here * here
    straight = here - (value - level) / slope
    bent = (b + np.sqrt(np.maximum(root, 0.0))) / c
    return np.where((c > 0) & np.isfinite(bent), bent, np.where(slope < 0, straight, np.nan))
