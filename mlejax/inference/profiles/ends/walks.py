"""Steps along a profile by constrained fits, for confidence limits that Newton's method does not reach from the estimate.

A walk leaves the estimate in growing steps, each a constrained fit started on the tangent at the last point, until the profile
falls below the cut; the crossing is then bracketed.  There may be no crossing: the support can end above the cut, the profile
can approach a limit above it or rise above the estimate, or the log-likelihood can lose its digits.

A constrained fit runs the library's Newton method over all coordinates but q, which follow from the values of the targets.
Many walks run together: each is a generator that yields the point u to be evaluated next.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from itertools import pairwise
from typing import Any, Literal, NamedTuple, TypeVar

import numpy as np

from mlejax import optimize
from mlejax.inference.profiles.ends.crossings import DECREMENT, Points, rounding_of
from mlejax.inference.profiles.paths import Paths, newton
from mlejax.objective import Evaluation
from mlejax.shapes import Bool, Float, Host
from mlejax.status import End

MOST_STEPS = 100  # of a walk
FIRST_STEP = 0.5  # standard errors
FIT_STEPS = 60  # evaluations of a constrained fit
HIGHER = 1e-6  # log-likelihood above the estimate's that is another maximum
ROUNDED = 1e-4  # log-likelihood: a gap that may be rounding, which is judged later
LEVELLED = 0.01  # error of where the profile levels off, log-likelihood
SHRINKS = 0.6  # fall over a doubling as a share of the one before, at most, where the profile levels off
MOST_FAILED = 12  # steps that led nowhere

T = TypeVar("T")
Asks = Generator[Float[Host, " p"], Evaluation, T]


class Stop(NamedTuple):
    """How a walk ended: ``finite``, ``infinite``, ``on the boundary``, ``higher maximum found`` or ``not computable``.

    Attributes:
        status: one of these strings.
        point: the confidence limit, or the last evaluated point, as `Points` of length 1; None if there is none.
        limit: for an infinite limit, the log-likelihood that the profile approaches.
    """

    status: str
    point: Points | None
    limit: float = float("nan")


def side_by_side(asks: dict[int, Asks[T]], evaluate: Callable[[Any, Any, Literal[2]], Evaluation], sets: Any) -> dict[int, T]:
    """Run several walks together and return their results by number; the points they ask for are evaluated in one call.

    Args:
        asks: the walks (generators) by number.
        evaluate: as in `Paths`.
        sets: number of the data set of each walk (m,).
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
                lanes = np.array(list(wanted))
                at = evaluate(np.stack(list(wanted.values())), np.asarray(sets)[lanes], 2)
                for k, i in enumerate(wanted):
                    answers[i] = Evaluation(*(a[k : k + 1] for a in at))  # type: ignore[index]
    return found


# ---- one constrained fit


def constrained_fit(path: Paths, rho: float, u: Float[Host, " p"]) -> Asks[Points | None]:
    """Maximise the log-likelihood with the targets at c(rho), from a start u near by; None if no maximum can be computed."""
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
    """Choose the q coordinates that follow from the targets' values: those with the largest effect per standard error, not
    at bounds (p,).
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
    """Return u with the dependent coordinates solved so that the targets have these values; None if no solution is found
    near by.
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
    inside = (u >= path.lower) & (u <= path.upper)
    near = (u >= path.lower - 1e-12) & (u <= path.upper + 1e-12)
    return np.clip(u, path.lower, path.upper) if near[dependent].all() or inside[dependent].all() else None


def _reduced(path: Paths, at: Evaluation, dependent: Bool[Host, " p"]) -> tuple[Any, Any, Any]:
    """Return minus the log-likelihood, its gradient and Hessian over the other coordinates, with the targets fixed."""
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
    """Return the result of a constrained fit as a point on the profile; None if it is not finite."""
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


# ---- a walk


def walk(path: Paths, start: Points | None = None) -> Asks[Stop]:
    """Step from the estimate (or a point on the profile) to the point where the profile falls below the cut."""
    level, farthest = float(path.level[0]), float(path.farthest[0])
    if farthest <= 0.0:
        return Stop("on the boundary", None)
    last = start or _at_estimate(path)
    longest, failed, seen, n = np.inf, 0, list[tuple[float, float]](), 0
    for _ in range(MOST_STEPS):
        rho = min(_next(last, level, farthest), float(last.rho[0]) + longest)
        found = yield from _near(path, rho, last)
        if found is None:
            failed, longest = failed + 1, 0.25 * (rho - float(last.rho[0]))
            if failed > MOST_FAILED:
                break
            continue
        n, longest = n + int(found.n_evaluations[0]), 4.0 * longest
        found = found._replace(n_evaluations=np.array([n]))
        if _is_higher(path, found):
            return Stop("higher maximum found", found)
        if found.loglik[0] < level - rounding_of(found.loglik)[0]:
            return (yield from _between(path, last, found))
        seen.append((rho, float(found.loglik[0])))
        last = found
        if rho >= farthest:
            return Stop("on the boundary", last)
        limit = _levels_off(seen)
        if limit is not None and limit > level + LEVELLED:
            return Stop("infinite", last, limit)
    return Stop("not computable", last)


def _at_estimate(path: Paths) -> Points:
    """Return the estimate as a point on the profile, with the tangent from its information."""
    zero = np.zeros(1)
    at = Evaluation(path.u0, path.loglik0, np.zeros_like(path.u0), path.information0)
    equations = newton(path, path.u0, at, path.constraints(path.u0))
    curvature = (equations.kappa1 * path.direction).sum(axis=1)
    tangent = np.where(np.isfinite(equations.d1), equations.d1, 0.0)
    return Points(path.u0, zero, path.loglik0, at.score, zero, curvature, tangent, zero, zero == 0, np.zeros(1, int))  # type: ignore[arg-type]


def _next(last: Points, level: float, cap: float) -> float:
    """Return rho of the next step: where the quadratic at the last point falls below the cut, at most twice the last rho
    (at least FIRST_STEP more).
    """
    rho, slope, curvature = float(last.rho[0]), float(last.slope[0]), float(last.curvature[0])
    farthest = max(2.0 * rho, rho + FIRST_STEP)
    if slope > 0.0:
        return min(farthest, cap)
    drop = float(last.loglik[0]) - level
    root = slope**2 - 2.0 * min(curvature, 0.0) * drop
    ahead = 2.0 * drop / (-slope + np.sqrt(root)) if root > 0 and -slope + np.sqrt(root) > 0 else np.inf
    return float(min(max(rho + 1.02 * ahead, rho + 0.5 * FIRST_STEP), farthest, cap))


def _levels_off(seen: list[tuple[float, float]]) -> float | None:
    """Return the log-likelihood that the profile approaches as rho doubles, if its changes shrink fast enough to tell it to
    0.01; else None.
    """
    distance, values = np.array(seen).T
    if distance[0] > distance[-1] / 16.0:
        return None
    loglik = np.interp(np.log(distance[-1]) - np.log(2.0) * np.arange(4, -1, -1), np.log(distance), values)
    changes = np.diff(loglik)
    size, noise = np.abs(changes), 1e-9 + 1e-12 * np.abs(loglik).max()
    if not (size[1:] <= SHRINKS * size[:-1] + noise).all():
        return None
    shares = [min(b / a if a > noise else 0.5, SHRINKS) for a, b in pairwise(size[1:])]
    before, rest = (d * s / (1.0 - s) for d, s in zip(changes[2:], shares, strict=True))
    return float(loglik[-1] + rest) if abs(before - changes[-1] - rest) <= LEVELLED else None


def _between(path: Paths, one: Points, other: Points) -> Asks[Stop]:
    """Find the crossing of the cut between a point above it and a point below it, in either order."""
    level, n = float(path.level[0]), int(other.n_evaluations[0])
    a, b = (one, other) if one.rho[0] < other.rho[0] else (other, one)
    for turn in range(80):
        low, high = float(a.rho[0]), float(b.rho[0])
        nearest = a if abs(a.loglik[0] - level) < abs(b.loglik[0] - level) else b
        rho = _quadratic_root(nearest, level, low, high)
        if rho is None or turn % 4 == 3:  # every fourth step halves what the curve does not
            rho = 0.5 * (low + high)
        if not low < rho < high:
            break
        found = yield from _reached(path, rho, _hermite(a, b, (rho - low) / (high - low)), nearest.u[0])
        if found is None:
            break
        n += int(found.n_evaluations[0])
        found = found._replace(n_evaluations=np.array([n]))
        if abs(found.loglik[0] - level) <= rounding_of(found.loglik)[0]:
            return Stop("finite", found)
        a, b = (found, b) if (found.loglik[0] > level) == (a.loglik[0] > level) else (a, found)
    nearest = a if abs(a.loglik[0] - level) < abs(b.loglik[0] - level) else b
    if abs(nearest.loglik[0] - level) <= ROUNDED:
        return Stop("finite", nearest)
    return Stop("not computable", a if a.loglik[0] > level else b)


def _quadratic_root(at: Points, level: float, low: float, high: float) -> float | None:
    """Return rho in (low, high) where the quadratic at a point of the profile crosses the cut, or None."""
    gap, slope, half = float(at.loglik[0]) - level, float(at.slope[0]), 0.5 * float(at.curvature[0])
    inside = [rho for x in _roots(half, slope, gap) if low < (rho := float(at.rho[0]) + x) < high]
    return min(inside, key=lambda rho: abs(rho - float(at.rho[0])), default=None)


def _roots(a: float, b: float, c: float) -> list[float]:
    """Return the real roots of a x^2 + b x + c, computed without cancellation."""
    root = b * b - 4.0 * a * c
    if not root >= 0.0:
        return [-c / b] if b else []
    q = -0.5 * (b + np.copysign(np.sqrt(root), b))
    return [float(x / y) for x, y in ((q, a), (c, q)) if y]


def _hermite(a: Points, b: Points, share: float) -> Float[Host, " p"]:
    """Return u on the cubic Hermite interpolant between two points of a profile, at a share in [0, 1] of the distance in
    rho.
    """
    h = float(b.rho[0] - a.rho[0])
    s, t = share, 1.0 - share
    mixed = (1 + 2 * s) * t**2 * a.u[0] + s**2 * (3 - 2 * s) * b.u[0]
    out: Float[Host, " p"] = mixed + h * s * t * (t * a.tangent[0] - s * b.tangent[0])
    return out


class Beyond(NamedTuple):
    """Points and further intervals found beyond a confidence limit.

    Attributes:
        points: the evaluated points.
        pieces: further intervals above the cut, each as its nearer and its farther limit.
        higher: a point above the estimate's log-likelihood, or None.
    """

    points: list[Points]
    pieces: list[tuple[Points, Stop]]
    higher: Points | None


def beyond(path: Paths, end: Points, steps: Float[Host, " k"]) -> Asks[Beyond]:
    """Evaluate the profile beyond a confidence limit, at the path coordinates ``steps`` (rho, 0 at the estimate) and at
    maxima between them.

    Finds further intervals above the cut; stops at a point whose log-likelihood is above that of the estimate.
    """
    level = float(path.level[0])
    out, last, entered = Beyond([], [], None), end, None
    for rho in steps:
        if rho <= last.rho[0] or rho > path.farthest[0]:
            continue
        found = yield from _near(path, float(rho), last)
        if found is None:
            continue
        met = [found]
        if last.slope[0] > 0.0 > found.slope[0] and max(last.loglik[0], found.loglik[0]) < level:
            peak = yield from _peak(path, last, found)
            met = [found] if peak is None else [peak, found]
        for point in met:
            out.points.append(point)
            if _is_higher(path, point):
                return out._replace(higher=point)
            above = bool(point.loglik[0] > level)
            if above != (entered is not None):
                stop = yield from _between(path, last, point)
                if stop.point is not None and stop.status == "finite":
                    if entered is not None:
                        out.pieces.append((entered, stop))
                    entered = stop.point if above else None
            last = point
    if entered is not None:
        out.pieces.append((entered, (yield from walk(path, last))))
    return out


def _peak(path: Paths, a: Points, b: Points) -> Asks[Points | None]:
    """Return the maximum between a point where the profile rises and one where it falls; stop early above the estimate's
    log-likelihood.
    """
    best = None
    for _ in range(40):
        found = yield from _near(path, 0.5 * float(a.rho[0] + b.rho[0]), a if a.loglik[0] > b.loglik[0] else b)
        if found is None:
            return best
        best = found if best is None or found.loglik[0] > best.loglik[0] else best
        if _is_higher(path, found) or abs(found.slope[0]) <= 1e-6:
            return best
        a, b = (found, b) if found.slope[0] > 0 else (a, found)
    return best


def _near(path: Paths, rho: float, last: Points) -> Asks[Points | None]:
    """The point on the profile at rho: along the tangent of another point, or straight from that."""
    along = last.u[0] + (rho - last.rho[0]) * last.tangent[0]  # the tangent may lead astray
    return (yield from _reached(path, rho, along, last.u[0]))


def _reached(path: Paths, rho: float, *starts: Float[Host, " p"]) -> Asks[Points | None]:
    """The point on the profile at rho from the first start that leads to one; the last one is taken off its edges, too.

    At a variance of 0 the score is 0 also where the log-likelihood rises from there.
    """
    for u in (*starts, _off_edges(path, starts[-1])):
        found = yield from constrained_fit(path, rho, u)
        if found is not None and found.reached[0]:
            return found
    return None


def _off_edges(path: Paths, u: Float[Host, " p"]) -> Float[Host, " p"]:
    """u a tenth of a standard error inside of the bounds that it lies on, at most half of their distance."""
    step = 0.1 / np.sqrt(np.maximum(np.abs(np.diag(path.information0[0])), 1e-12))
    step = np.minimum(step, 0.5 * (path.upper - path.lower))
    return np.asarray(u + np.where(u <= path.lower, step, np.where(u >= path.upper, -step, 0.0)))


def _is_higher(path: Paths, point: Points) -> bool:
    """True if the log-likelihood is above that of the estimate."""
    top = float(path.loglik0[0])
    return bool(point.loglik[0] > top + HIGHER + 1e-10 * abs(top))
