"""Fits along a profile: the maximum at one value of the target, from a point near by; several run side by side."""

from __future__ import annotations

from collections.abc import Callable, Generator
from typing import Any, Literal, TypeVar

import numpy as np

from mlejax import optimize
from mlejax.inference.profiles.ends.crossings import DECREMENT, Points
from mlejax.inference.profiles.paths import Paths, newton
from mlejax.objective import Evaluation
from mlejax.shapes import Bool, Float, Host
from mlejax.status import End

FIT_STEPS = 60  # evaluations of a constrained fit

T = TypeVar("T")
Asks = Generator[Float[Host, " p"], Evaluation, T]


def side_by_side(
    asks: dict[int, Asks[T]], evaluate: Callable[[Any, Any, Literal[2]], Evaluation], sets: Any
) -> dict[int, T]:
    """Run several generators together and return their results by number.

    Each yields points u (p,) at which it needs the log-likelihood with derivatives, and is sent an `Evaluation` of one point;
    the points of all generators are evaluated in one call.

    Args:
        asks: the generators by number.
        evaluate: function of points u (m, p), numbers of their data sets (m,) and the order 2, which returns their `Evaluation`.
        sets: number of the data set of each generator, by its number (m,).
    """
    found: dict[int, T] = {}
    answers: dict[int, Any] = dict.fromkeys(asks)
    with np.errstate(all="ignore"):
        while answers:
            wanted = {}
            for i, answer in answers.items():
                try:
                    wanted[i] = asks[i].send(answer)
                except StopIteration as end:
                    found[i] = end.value
            answers = {}
            if wanted:
                positions = np.array(list(wanted))
                at = evaluate(np.stack(list(wanted.values())), np.asarray(sets)[positions], 2)
                for k, i in enumerate(wanted):
                    answers[i] = Evaluation(*(a[k : k + 1] for a in at))  # type: ignore[index]
    return found


def constrained_fit(path: Paths, rho: float, u: Float[Host, " p"]) -> Asks[Points | None]:
    """Maximise the log-likelihood with the targets at c(rho), from a start u near by (a generator for `side_by_side`).

    Returns the highest point found, whether or not it is a maximum (its ``reached`` says so); None if the targets cannot be
    set to c(rho) near u, or no point is finite.
    """
    values = path.at(np.array([rho]))
    dependent = _dependent(path, u)
    start = _onto(path, values, u, dependent)
    if start is None:
        return None
    others = np.flatnonzero(~dependent)
    if not others.size:
        at = yield start
        return _point(path, rho, at, 1)
    method = optimize.Newton(max_steps=FIT_STEPS)
    bounds = (path.lower[others], path.upper[others])
    boxed = np.isfinite(bounds[0]).any() or np.isfinite(bounds[1]).any()
    lower, upper = bounds if boxed else (None, None)
    carry = optimize.begin(method, start[others], lower, upper)
    setting = optimize.setting_of(carry.u, lower, upper, 1.0)
    best: Evaluation | None = None
    highest, n = -np.inf, 0
    while carry.status == int(End.RUNNING):
        trial = start.copy()
        trial[others] = carry.trial
        whole = _onto(path, values, trial, dependent)
        if whole is None:
            reduced: tuple[Any, ...] = (np.inf, np.zeros(others.size), np.eye(others.size))
        else:
            at = yield whole
            n += 1
            reduced = _reduced(path, at, dependent)
            if at.loglik[0] >= highest:
                best, highest = at, float(at.loglik[0])
        carry = optimize.take_turn(method, reduced, carry, setting)
    return None if best is None else _point(path, rho, best, n)


def _dependent(path: Paths, u: Float[Host, " p"]) -> Bool[Host, " p"]:
    """Return True for the q coordinates that are solved for, given the targets' values: those with the largest effect per
    standard error, at a bound only if no other has an effect; (p,).
    """
    gradients = path.constraints(u[None]).gradients[0]
    scale = 1.0 / np.sqrt(np.maximum(np.abs(np.diag(path.information0[0])), 1e-300))
    rest = gradients * np.where(path.on_bound(u[None])[0] & ((gradients != 0).sum(axis=0) != 1), 1e-8, 1.0) * scale
    chosen = np.zeros(u.size, bool)
    for _ in range(len(gradients)):
        size = np.where(chosen, -1.0, np.abs(rest).max(axis=0))
        j = int(np.argmax(size))
        chosen[j] = True
        i = int(np.argmax(np.abs(rest[:, j])))
        if rest[i, j]:
            rest = rest - np.outer(rest[:, j] / rest[i, j], rest[i])
    return chosen


def _onto(
    path: Paths, values: Float[Host, "1 q"], u: Float[Host, " p"], dependent: Bool[Host, " p"]
) -> Float[Host, " p"] | None:
    """Return u with the ``dependent`` coordinates changed so that the targets have these values (Newton's method); None if
    that fails, or if one of them leaves the box.
    """
    unit = np.abs(path.direction[0])
    unit = np.where(unit > 0, unit, unit.max())
    small = 1e-12 * max(1.0, float(np.abs(values).max() / unit.max()))
    step, kept, off = np.zeros(int(dependent.sum())), u, np.inf
    for _ in range(60):
        u = kept.copy()
        u[dependent] += step
        constraints = path.constraints(u[None])
        rest = (values - constraints.values)[0]
        size = float(np.abs(rest / unit).max())
        if not size < off:  # shorter, unless it is rounding that is left
            if off <= 1e3 * small:
                u = kept
                break
            step = 0.25 * step
            continue
        if size <= small:
            break
        kept, off = u, size
        try:
            step = np.linalg.solve(constraints.gradients[0][:, dependent], rest)
        except np.linalg.LinAlgError:
            return None
    else:
        return None
    near = (u >= path.lower - 1e-12) & (u <= path.upper + 1e-12)
    return np.clip(u, path.lower, path.upper) if near[dependent].all() else None


def _reduced(path: Paths, at: Evaluation, dependent: Bool[Host, " p"]) -> tuple[Any, Any, Any]:
    """Return minus the log-likelihood, its gradient and Hessian over the coordinates that are not ``dependent``, with the
    targets fixed; inf, 0 and the identity if the dependent ones cannot be solved for.
    """
    assert at.score is not None
    assert at.information is not None
    constraints = path.constraints(at.u)
    A, g, W = constraints.gradients[0], at.score[0], np.array(at.information[0])
    try:
        kappa = np.linalg.solve(A[:, dependent].T, g[dependent])
        tangent = -np.linalg.solve(A[:, dependent], A[:, ~dependent])
    except np.linalg.LinAlgError:
        return np.inf, np.zeros((~dependent).sum()), np.eye((~dependent).sum())
    if constraints.hessians is not None:
        W += np.einsum("q,qij->ij", kappa, constraints.hessians[0])
    Z = np.zeros((g.size, tangent.shape[1]))
    Z[~dependent], Z[dependent] = np.eye(tangent.shape[1]), tangent
    return -at.loglik[0], -(g @ Z), Z.T @ W @ Z


def _point(path: Paths, rho: float, at: Evaluation, n: int) -> Points | None:
    """Return an evaluation with the targets at c(rho) as a point on the profile, ``n``: number of evaluations so far; None if
    it is not finite.
    """
    if not (np.isfinite(at.loglik).all() and np.isfinite(at.score).all() and np.isfinite(at.information).all()):  # type: ignore[arg-type]
        return None
    equations = newton(path, at.u, at, path.constraints(at.u))
    here = np.array([rho])
    inner = equations.step(here)
    decrement = equations.decrement(inner)
    reached = equations.regular & (np.abs(decrement) <= max(DECREMENT, 1e-12 * abs(at.loglik[0])))
    slope = (equations.kappa(here) * path.direction).sum(axis=1)
    curvature = (equations.kappa1 * path.direction).sum(axis=1)
    assert at.score is not None
    count = np.array([n])
    found = Points(at.u, here, at.loglik, at.score, slope, curvature, equations.d1, decrement, reached, count)
    return found if np.isfinite(decrement).all() else None
