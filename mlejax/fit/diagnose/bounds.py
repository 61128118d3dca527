"""Decide whether a bound of a parameter's support is the maximum, if the score at the bound does not tell.

At a bound where the score vanishes by symmetry (the standard deviation of a random effect, the inefficiency of a frontier) the
log-likelihood may rise at third order only, which no derivative at the bound shows.  So the profile log-likelihood is evaluated
at growing distances h = 2^j / sqrt(information) from the bound, inside the support.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from mlejax import linalg, optimize
from mlejax.fit.diagnose.ends import CLEAR, interior
from mlejax.fit.diagnose.rounding.digits import bar_of_value
from mlejax.objective import SingleEvaluator, evaluate_one
from mlejax.optimize import OptimizeResult
from mlejax.shapes import Bool, Float, Host, Int
from mlejax.status import End

RUNGS = np.arange(-10, 12)  # from a bound: a peak h^2 nearer than the first rises by less than RISE
FIRST = -2  # of a ladder elsewhere
ENOUGH = 2.0  # log-likelihood below the bound at which the ladder ends
RISE = 1e-6
UNSEEN = 3.0  # a peak a h^3 - b h^4 (or h^2) over the highest rung of it, at most: rungs are a factor of 2 apart
STEPS = 100
PACE = 15  # turns over which the pace of a search over the other parameters is measured
STANDSTILL = 1e-7  # log-likelihood: a search that would not gain as much in all its further turns has ended


def unclear(end: OptimizeResult, lower: Float[Host, " p"], upper: Float[Host, " p"]) -> Bool[Host, " p"]:
    """Return a boolean mask, (p,), of the coordinates at a bound whose score, divided by the square root of their information,
    points out of the support by less than 0.01, or points into the support. ``lower`` and ``upper`` are the bounds, (p,).
    """
    assert end.information is not None
    size = np.sqrt(np.abs(linalg.symmetric(end.information).diagonal()) + 1e-300)
    with np.errstate(invalid="ignore"):
        return ((end.u <= lower) & (-end.score < CLEAR * size)) | ((end.u >= upper) & (end.score < CLEAR * size))


def off_the_bounds(evaluator: SingleEvaluator, end: OptimizeResult) -> Float[Host, " p"] | None:
    """Return a point in u, (p,), away from the bounds of the final point, with a higher log-likelihood; None if none is found.

    Raises:
        KeyboardInterrupt: Ctrl-C during a search over the other parameters.
    """
    space = evaluator.spec.space
    if not space.boxed or end.information is None or interior(space, end.u).all():
        return None
    for e in np.flatnonzero(unclear(end, space.lower, space.upper)).tolist():
        inward = 1.0 if end.u[e] <= space.lower[e] else -1.0
        best = climbed(evaluator, end, e, inward, _unit(end, e, interior(space, end.u)), RUNGS)
        if best is not None:
            return best[1]
    return None


def _unit(end: OptimizeResult, e: int, others: Bool[Host, " p"]) -> float:
    """Return 1 / sqrt(curvature) along coordinate e: the shorter of two distances: one from the curvature with the others
    (mask, (p,)) fixed, and one from the curvature with the others at their maximum given e, if that is finite.

    Along the profile the log-likelihood may rise over a far shorter distance.
    """
    information = linalg.symmetric(end.information)
    column = information.matvec(np.eye(1, others.size, e)[0])
    with np.errstate(all="ignore"):
        profile = column[e] - (column[others] @ information.among(others).solve(column[others]) if others.any() else 0.0)
    conditional = abs(column[e])
    return float(1.0 / np.sqrt((max(conditional, abs(profile)) if np.isfinite(profile) else conditional) + 1e-300))


def decided_within(evaluator: SingleEvaluator, end: OptimizeResult) -> float | None:
    """Return how much the profile could rise away from the bounds without `off_the_bounds` noticing, log-likelihood units: 3e-6,
    or the error bar of the log-likelihood if that is larger.

    None if no coordinate is at a bound, the score decides there, or there are no second derivatives.
    """
    space = evaluator.spec.space
    if not space.boxed or end.information is None or not unclear(end, space.lower, space.upper).any():
        return None
    return max(UNSEEN * RISE, bar_of_value(evaluator, end.u))


def climbed(
    evaluator: SingleEvaluator,
    end: OptimizeResult,
    e: int,
    side: float,
    unit: float,
    rungs: Int[Host, " rungs"] = RUNGS[RUNGS >= FIRST],
) -> tuple[float, Float[Host, " p"]] | None:
    """Follow the profile log-likelihood of coordinate e to one side, at distances unit * 2^j, up to its first peak.

    Args:
        evaluator: evaluator of one data set.
        end: the final point from which distances count.
        e: number of the coordinate; the others are maximised at each of its values.
        side: 1 or -1.
        unit: distance for j = 0.
        rungs: the j, in increasing order.

    Returns:
        Increase of the log-likelihood at the peak, and the point, (p,); None if the profile does not rise.

    Raises:
        KeyboardInterrupt: Ctrl-C during a search over the other coordinates.
    """
    space, u, best = evaluator.spec.space, np.array(end.u), None
    for h in unit * 2.0**rungs:
        u[e] = end.u[e] + side * h
        if not (np.isfinite(h) and space.lower[e] < u[e] < space.upper[e]):
            break
        u, loglik = others_maximised(evaluator, u, e, float(end.loglik) + (RISE if best is None else best[0]))
        gain = loglik - float(end.loglik)
        if gain > max(RISE, 0.0 if best is None else best[0]):
            best = gain, u.copy()
        if not gain > -ENOUGH or (best is not None and gain < best[0]):
            break
    return best


def maximised_on_bounds(evaluator: SingleEvaluator, u: Float[Host, " p"], end: OptimizeResult) -> OptimizeResult:
    """Maximise over the coordinates of u, (p,), that are not at a bound, with those at a bound fixed there.

    If the score vanishes at a bound, the scores of other parameters may be collinear with it, and a search over all does not
    converge.

    Returns:
        ``end`` with the point found, derivatives in all coordinates there, and the status of this search, whose steps are added
        to its own.

    Raises:
        KeyboardInterrupt: after Ctrl-C.
    """
    carry, whole = _maximised(evaluator, u, ~interior(evaluator.spec.space, u))
    # n_steps counts both searches: the decrements of so few steps are NaN before the first, not inf as where it is not concave
    since = np.arange(carry.decrements.size)[::-1] <= int(carry.n_steps)
    loglik, score, information = evaluate_one(evaluator, whole)
    return end._replace(
        u=whole,
        loglik=loglik,
        score=score,
        information=information,
        decrements=np.where(since, carry.decrements, np.nan),
        mismatch=np.asarray(carry.mismatch),
        n_steps=np.asarray(end.n_steps + carry.n_steps),
        status=np.asarray(carry.status),
    )


def others_maximised(
    evaluator: SingleEvaluator, u: Float[Host, " p"], e: int, level: float | None = None
) -> tuple[Float[Host, " p"], float]:
    """Maximise over all coordinates but number e, from u, (p,); return the point, (p,), and its log-likelihood.

    The search ends early if, at the pace of its last evaluations, the remaining ones would not reach the log-likelihood
    ``level`` (None: would not gain 1e-7).  KeyboardInterrupt after Ctrl-C.
    """
    carry, whole = _maximised(evaluator, u, np.arange(u.size) == e, _Pace(float(evaluator.total_weights[0]), level))
    return whole, -float(carry.f) * float(evaluator.total_weights[0])


class _Pace:
    """Called with the state of a search after each evaluation: True if the remaining evaluations, at the pace of the last
    fifteen, would not reach the log-likelihood ``level`` (None: would not gain 1e-7).

    Where the log-likelihood is flat, a search would use all its evaluations although only the first few raise the
    log-likelihood.
    """

    def __init__(self, scale: float, level: float | None) -> None:
        self.scale, self.level, self.logliks = scale, level, list[float]()

    def __call__(self, carry: optimize.Carry) -> bool:
        self.logliks.append(-float(carry.f) * self.scale)
        turns = len(self.logliks)
        if turns <= PACE:
            return False
        now, before = self.logliks[-1], self.logliks[-1 - PACE]
        level = now + STANDSTILL if self.level is None else self.level
        return now < level and now + (now - before) * (STEPS - turns) / PACE < level


def _maximised(
    evaluator: SingleEvaluator, u: Float[Host, " p"], fixed: Bool[Host, " p"], enough: _Pace | None = None
) -> tuple[optimize.Carry, Float[Host, " p"]]:
    """Maximise the log-likelihood over the coordinates outside the mask ``fixed``, from u; ``enough`` may end the search early.

    Returns:
        The state of the optimiser (whose objective is minus the mean log-likelihood), and the point, (p,).

    Raises:
        KeyboardInterrupt: after Ctrl-C.
    """
    space, others, method = evaluator.spec.space, ~fixed, optimize.Newton(max_steps=STEPS)
    whole, scale = u.copy(), float(evaluator.total_weights[0])

    def evaluate(some: Float[Host, " q"]) -> tuple[Any, Any, Any]:
        whole[others] = some
        loglik, score, information = evaluate_one(evaluator, whole)
        return -loglik / scale, -score[others] / scale, linalg.symmetric(information).block(others) / scale

    if not others.any():
        done = optimize.begin(method, u[others])
        return done._replace(f=evaluate(u[others])[0], status=np.int32(End.CONVERGED)), whole
    bounds = (space.lower[others], space.upper[others])
    carry = optimize.run_on_host(method, evaluate, u[others], bounds, scale, enough=enough)
    if int(carry.status) == int(End.INTERRUPTED):
        raise KeyboardInterrupt
    whole[others] = carry.u
    return carry, whole
