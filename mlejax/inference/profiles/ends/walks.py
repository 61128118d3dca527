"""Steps along a profile by constrained fits, for confidence limits that Newton's method does not reach from the estimate.

A walk leaves the estimate in growing steps, each a constrained fit started on the tangent at the last point, until the profile
falls below the cut; the crossing is then bracketed.  There may be no crossing: the support can end above the cut, the profile
can approach a limit above it or rise above the estimate, or the log-likelihood can lose its digits.

A constrained fit runs the library's Newton method over all coordinates but q, which follow from the values of the targets.
Many walks run together: each is a generator that yields the point u to be evaluated next.
"""

from __future__ import annotations

from itertools import pairwise
from typing import NamedTuple

import numpy as np

from mlejax.inference.profiles.ends.constrained_fits import Asks, constrained_fit
from mlejax.inference.profiles.ends.crossings import Points, rounding_of
from mlejax.inference.profiles.paths import Paths, newton
from mlejax.objective import Evaluation
from mlejax.shapes import Float, Host

MOST_STEPS = 100  # of a walk
FIRST_STEP = 0.5  # standard errors
HIGHER = 1e-6  # log-likelihood above the estimate's that is another maximum
ROUNDED = 1e-4  # log-likelihood: a gap that may be rounding, which is judged later
LEVELLED = 0.01  # error of where the profile levels off, log-likelihood
SHRINKS = 0.6  # fall over a doubling as a share of the one before, at most, where the profile levels off
MOST_FAILED = 12  # steps that led nowhere


class Stop(NamedTuple):
    """How a walk ended: ``finite``, ``infinite``, ``on the boundary``, ``higher maximum found`` or ``not computable``.

    Attributes:
        status: one of these strings.
        point: the confidence limit, or the last evaluated point, as `Points` of length 1; None if there is none.
        limit: for an infinite limit, the log-likelihood that the profile approaches; else NaN.
    """

    status: str
    point: Points | None
    limit: float = float("nan")


def walk(path: Paths, start: Points | None = None) -> Asks[Stop]:
    """Step from the estimate, or the point ``start`` on the profile, to the point where the profile falls below the cut.

    Ends before that at the bound of the support, at a log-likelihood above that of the estimate, where the profile levels
    off above the cut, after 100 steps, or after 13 steps at which no constrained maximum was found.
    """
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
    """Return the estimate of a single path as a point on the profile, rho = 0, in u; its tangent du / drho comes from the
    information there, with 0 for entries that are not finite.
    """
    zero = np.zeros(1)
    at = Evaluation(path.u0, path.loglik0, np.zeros_like(path.u0), path.information0)
    equations = newton(path, path.u0, at, path.constraints(path.u0))
    curvature = (equations.kappa1 * path.direction).sum(axis=1)
    tangent = np.where(np.isfinite(equations.d1), equations.d1, 0.0)
    return Points(path.u0, zero, path.loglik0, at.score, zero, curvature, tangent, zero, zero == 0, np.zeros(1, int))  # type: ignore[arg-type]


def _next(last: Points, level: float, cap: float) -> float:
    """Return rho of the next step: just beyond where the quadratic at the last point falls to the cut ``level``.

    It is at least 0.25 and at most the larger of rho and 0.5 beyond the last point, and at most ``cap``; the largest if the
    profile rises.
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
    """Return the log-likelihood that the profile approaches as rho doubles again and again, if its changes over the last four
    doublings shrink fast enough to tell it to 0.01; else None.

    ``seen``: (rho, log-likelihood) of the points so far, rho increasing.
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
    """Find the crossing of the cut between the points ``one`` and ``other`` of the path, of which one is above it and the
    other below, in either order.

    The status is ``finite``, or ``not computable`` if the bracket cannot be narrowed to the tolerance.
    """
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
    """Return rho in (low, high) where the quadratic at a point of the profile crosses the cut ``level``, the nearest if there
    are two; None if there is none.
    """
    gap, slope, half = float(at.loglik[0]) - level, float(at.slope[0]), 0.5 * float(at.curvature[0])
    inside = [rho for x in _roots(half, slope, gap) if low < (rho := float(at.rho[0]) + x) < high]
    return min(inside, key=lambda rho: abs(rho - float(at.rho[0])), default=None)


def _roots(a: float, b: float, c: float) -> list[float]:
    """Return the real roots of a x^2 + b x + c, computed without cancellation; without real roots (or for NaN) that of
    b x + c, if b is not 0.
    """
    root = b * b - 4.0 * a * c
    if not root >= 0.0:
        return [-c / b] if b else []
    q = -0.5 * (b + np.copysign(np.sqrt(root), b))
    return [float(x / y) for x, y in ((q, a), (c, q)) if y]


def _hermite(a: Points, b: Points, share: float) -> Float[Host, " p"]:
    """Return u on the cubic Hermite interpolant between the points a and b of a profile, at a share in [0, 1] of the way from
    a to b in rho.
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
    """Return the highest point found by bisection between a, where the profile rises, and b, where it falls; None if no
    point could be computed.  It stops at a log-likelihood above that of the estimate.
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
    """Return the point on the profile at rho, by a constrained fit that starts on the tangent at the point ``last``, or, if
    that fails, at ``last`` itself; None if both fail.
    """
    along = last.u[0] + (rho - last.rho[0]) * last.tangent[0]  # the tangent may lead astray
    return (yield from _reached(path, rho, along, last.u[0]))


def _reached(path: Paths, rho: float, *starts: Float[Host, " p"]) -> Asks[Points | None]:
    """Return the point on the profile at rho, by a constrained fit from the first of the starts that leads to one; None if
    none does.

    The last start is tried again moved away from bounds: at a variance of 0 the score is 0 even if the log-likelihood rises.
    """
    for u in (*starts, _off_bounds(path, starts[-1])):
        found = yield from constrained_fit(path, rho, u)
        if found is not None and found.reached[0]:
            return found
    return None


def _off_bounds(path: Paths, u: Float[Host, " p"]) -> Float[Host, " p"]:
    """Return u with coordinates at a bound moved inside by a tenth of a standard error, at most half of the distance to the
    other bound.
    """
    step = 0.1 / np.sqrt(np.maximum(np.abs(np.diag(path.information0[0])), 1e-12))
    step = np.minimum(step, 0.5 * (path.upper - path.lower))
    return np.asarray(u + np.where(u <= path.lower, step, np.where(u >= path.upper, -step, 0.0)))


def _is_higher(path: Paths, point: Points) -> bool:
    """True if the log-likelihood at the point is above that of the estimate by more than rounding."""
    top = float(path.loglik0[0])
    return bool(point.loglik[0] > top + HIGHER + 1e-10 * abs(top))
