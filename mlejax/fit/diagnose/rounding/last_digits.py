"""Final points at which rounding errors dominate: evaluate the profile of the coordinate that went to an extreme value.

That coordinate is set to points between its start and its final value, and the others are maximised at each.  Over the points
with small rounding errors the profile has a maximum, or levels off, or still rises at the last of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from itertools import pairwise, takewhile
from typing import NamedTuple

import numpy as np

from mlejax import linalg
from mlejax.fit.diagnose import ends
from mlejax.fit.diagnose.bounds import others_maximised
from mlejax.fit.diagnose.directions import movements, rays
from mlejax.fit.diagnose.rounding.digits import ALLOWED, digits, far_from_start, gain_is_real, lost, value_is_real
from mlejax.fit.diagnose.rounding.ends_of_numbers import STAYS_FINITE, where_it_ends
from mlejax.fit.prepare.loaded import Loaded
from mlejax.objective import SingleEvaluator
from mlejax.optimize import OptimizeResult
from mlejax.parameters import Space
from mlejax.shapes import Float, Host
from mlejax.status import End
from mlejax.verdict import Direction

RUNGS = 60
CLOSE_TO_BOUND = 2.0**-20, 2.0**-21  # shares of the way from a bound to the start of the search
SAME_LIMIT = 1e-3  # log-likelihood
ALONG = 0.1  # share of the way of a coordinate that another goes which moves along with it
LONGEST = 41.0  # way of a logarithm, that many doublings
REST = 0.01  # error of what is left to rise where the log-likelihood levels off
HALVES, FALL = 24, 1e-3  # of a way on which the log-likelihood falls, and the fall that is looked for
FLAT = 1e-7  # gain of a doubling that is none
LITTLE = 1.0  # rise to the end of the numbers that may be rounding; one without bound is larger, unless numbers end early
FALLEN = 10.0  # log-likelihood below the highest point of the profile, and falling, at which its maximum is behind
END_OF_NUMBERS = 100.0  # logarithms and logits from 0, within which a formula ought to be finite
# gain of a doubling over that of the one before, below which the log-likelihood levels off: 0.5 where the rest goes like 1/x,
# 0.71 where it goes like the root of that
SHRINKS = 0.75
DOUBLINGS, SAME_GAIN = 16, 1e-3  # equal gains, and their relative difference, of what rises without bound


# What users' formulas lose digits on, and the functions that keep them: the one list for messages.
STABLE_FORMS = (
    "counts whose overdispersion or correlation goes to 0 (nb2_logpmf, betabinom_logpmf), tails that become normal (t_logpdf, "
    "t_logpdf_inverse, skewt_logpdf), shapes and powers that go through 0 (gev_logpdf, gpd_logpdf, gengamma_logpdf, boxcox), and "
    "concentrations that grow (gamma_logpdf, invgauss_logpdf, vonmises_logpdf, tweedie_logpdf)"
)
STABLE_FORM = (
    f"Fix the parameter there, or write the formula with a stable one of mle.special, which has {STABLE_FORMS}."
)
OR_ANOTHER_START = (
    f"Begin elsewhere, with another start=, or write the formula with a stable one of mle.special, which has {STABLE_FORMS}."
)
LOST_WHERE_IT_ENDED = "the formula has lost its digits where the search ended"
LOST_AT_START = "the formula has lost its digits where the search began and where it ended"


class Regained(NamedTuple):
    """What the profile shows over the points with small rounding errors.

    Attributes:
        point: where to continue the search, (p,), if the profile has a maximum; else None.
        end: the last point with small rounding errors; the final point of the search if there is none.
        direction: the direction along which the log-likelihood rises: with its supremum if it levels off, or without bound; else
            None.
        words: a statement if none of these is seen; else empty.
        at_start: rounding errors dominate at the start already.
        on_bound: ``end`` is the limit at a bound of the support, where the log-likelihood is highest.
    """

    point: Float[Host, " p"] | None
    end: OptimizeResult
    direction: Direction | None
    words: str
    at_start: bool = False
    on_bound: bool = False


def regained(evaluator: SingleEvaluator, u0: Float[Host, " p"], end: OptimizeResult, e: int) -> Regained:
    """Evaluate the profile of the coordinate that moved furthest, from its start on, while rounding errors are small.

    Args:
        evaluator: evaluator of one data set.
        u0: start of the search, (p,).
        end: its final point, where rounding errors dominate.
        e: number of the coordinate to use if none moved far; if it did not move either, the start alone is judged.
    """
    space = evaluator.spec.space
    far = far_from_start(end.u, u0, space)
    e = int(np.argmax(np.where(far, travelled(end.u, u0, space), -1.0))) if far.any() else e
    moved = end.u[e] != u0[e]  # a coordinate that no step moved has no way to be followed on
    way = _way(float(u0[e]), float(end.u[e]), space, e) if moved else ()
    u = np.array(u0)
    found: list[tuple[float, np.ndarray, OptimizeResult]] = []
    for at in way:
        u[e] = at
        u, loglik = others_maximised(evaluator, u, e)
        here = end_at(evaluator, u, end)
        kept = None if here is None else digits(evaluator, here, held=e)
        if not np.isfinite(loglik) or here is None or (kept is not None and not kept.good):
            break
        gains = np.diff([value for value, _, _ in found])
        if kept is not None and found and abs(loglik - found[-1][0]) <= kept.loglik and rest_to_rise(gains) is not None:
            break  # it has levelled off, and what follows is rounding
        found.append((loglik, u.copy(), here))
        if (gains[-1:] < 0.0).any() and loglik < min(found[-2][0], max(value for value, _, _ in found) - FALLEN):
            break
    if not found:  # at the start, or where the other coordinates ran away from it
        first = end_at(evaluator, u0, end)
        kept = None if first is None else digits(evaluator, first)
        if first is None or (kept is not None and not kept.good):
            return Regained(None, end, None, LOST_AT_START, at_start=True)
        return Regained(None, end, None, LOST_WHERE_IT_ENDED)
    values = np.array([loglik for loglik, _, _ in found])
    last, best = found[-1][2], int(np.argmax(values))
    gains = np.diff(values)
    if best < len(values) - 1 and values[best] > values[-1] + FLAT:
        return Regained(found[best][1], last, None, "")
    rest = rest_to_rise(gains)
    if rest is not None and np.isfinite([space.lower[e], space.upper[e]]).any():  # the limit needs the score of e
        accurate = list(takewhile(lambda point: not lost(evaluator, point[2]), found))
        settled = rest_to_rise(np.diff([value for value, _, _ in accurate])) is not None
        limit = _limit_on_bound(space, [end for _, _, end in accurate[-2:]], e) if settled else None
        if limit is not None:
            return Regained(None, limit, None, "", on_bound=True)
    onward = along(evaluator, found[-2][1] if len(found) > 1 else u0, last.u, e)
    if rest is not None:
        risen = replace(onward, gain=float(values[-1] - values[0]), supremum=float(values[-1]) + rest)
        return Regained(None, last, risen, "")
    if is_steady(gains):
        return Regained(None, last, replace(onward, gain=float(values[-1] - values[0]), bounded=False), "")
    movement = onward.movement
    rise = f", where it still rises by {gains[-1]:.2g} a doubling" if gains.size else ""
    said = f"the formula loses its digits along {movement}: from log-likelihood {values[-1]:.6g} on{rise}"
    return Regained(None, last, None, said)


def along(evaluator: SingleEvaluator, before: Float[Host, " p"], last: Float[Host, " p"], e: int) -> Direction:
    """Return the direction, of behaviour ``rises``, from one point of the profile of coordinate e to another, (p,) each.

    Coordinates that change by less than a tenth of the change of e are left out.
    """
    space, way = evaluator.spec.space, last - before
    vector = np.where(np.abs(way) > ALONG * abs(way[e]), way, 0.0)
    vector /= np.abs(vector).max()
    words = partial(movements.describe_movement, last, last + 10.0 * vector, space, evaluator.fixed)
    return Direction("rises", vector, words=words)


def limit_on_bound(evaluator: SingleEvaluator, u0: Float[Host, " p"], end: OptimizeResult) -> OptimizeResult | None:
    """Return the limit of the profile at a final point on one bound where the score is not finite (that of p**y at p = 0 with y
    = 0, for instance); None if there is none.

    The limit is extrapolated from two points close to the bound. It is returned only if the score there points out of the
    support and the log-likelihood at the bound differs from the limit by at most 0.001.

    Args:
        evaluator: evaluator of one data set.
        u0: start of the search, (p,).
        end: the final point.
    """
    space, last = evaluator.spec.space, []
    on_bound = np.flatnonzero(~ends.interior(space, end.u))
    if len(on_bound) != 1 or not np.isfinite(end.loglik):
        return None
    e = int(on_bound[0])
    for share in CLOSE_TO_BOUND:
        u = end.u.copy()
        u[e] += share * (u0[e] - end.u[e])
        if not np.isfinite(evaluator.logliks({0: u[None]})[0]).all():
            return None
        here = end_at(evaluator, others_maximised(evaluator, u, e)[0], end)
        if here is None:
            return None
        last.append(here)
    limit = _limit_on_bound(space, last, e)
    return limit if limit is not None and abs(limit.loglik - end.loglik) <= SAME_LIMIT else None


def _limit_on_bound(space: Space, last: Sequence[OptimizeResult], e: int) -> OptimizeResult | None:
    """Extrapolate the last two points of the profile to the bound that coordinate e approaches.

    The second is half as far from the bound as the first. Score, information and the other coordinates are extrapolated, and
    the log-likelihood follows from the score by the trapezoidal rule. Return None if there is no bound, or if the score there
    points into the support.
    """
    before, after = last
    bound = space.lower[e] if after.u[e] < before.u[e] else space.upper[e]
    if not np.isfinite(bound):
        return None
    u, score = 2.0 * after.u - before.u, 2.0 * after.score - before.score
    information = 2.0 * linalg.dense_each(after.information) - linalg.dense_each(before.information)
    u[e] = bound
    loglik = after.loglik - 0.5 * (after.u[e] - bound) * (after.score[e] + score[e])
    others = np.arange(u.size) != e
    score[others] = 0.0
    pushing = -score[e] if bound == space.lower[e] else score[e]
    if not pushing > -ends.CLEAR * np.sqrt(abs(information[e, e])):
        return None
    done = np.asarray(int(End.CONVERGED), np.int32)
    known = after.decrements * 0.0
    return after._replace(
        u=u, loglik=np.asarray(loglik), score=score, information=information, decrements=known, status=done
    )


def rest_to_rise(gains: Float[Host, " k"]) -> float | None:
    """Estimate how much a sequence will still rise, from its last gains, (k,), which shrink about geometrically.

    0 if the last three are so small that the rise has ended.  None if there are fewer than three, they do not shrink, or the
    estimate is not accurate to 0.01.
    """
    if len(gains) < 3:
        return None
    last = gains[-3:]
    if (np.abs(last) <= FLAT).all():
        return 0.0
    if not (last[1] <= SHRINKS * last[0] + FLAT and last[2] <= SHRINKS * last[1] + FLAT):
        return None
    before, rest = (
        max(b, 0.0) * share / (1.0 - share)
        for a, b in pairwise(last)
        for share in [float(np.clip(b / a if a > FLAT else 0.5, 0.0, SHRINKS))]
    )
    return float(rest) if abs(before - last[2] - rest) <= REST else None


def is_steady(gains: Float[Host, " k"]) -> bool:
    """True if a log-likelihood rose by the same amount with each of the last 16 doublings of a parameter, like a multiple of its
    logarithm: it rises without bound.
    """
    last = gains[-DOUBLINGS:]
    return bool(last.size == DOUBLINGS and last.min() > ALLOWED and np.ptp(last) <= SAME_GAIN * last.max())


def travelled(u: Float[Host, " p"], u0: Float[Host, " p"], space: Space) -> Float[Host, " p"]:
    """Return the distance that each coordinate moved from u0 to u, (p,): the difference in u for transformed ones, the
    difference of the logarithm of the distance to the bound for bounded ones, 0 for others.
    """
    bent = ends.curved(space)
    with np.errstate(invalid="ignore", divide="ignore"):
        before, after = (np.minimum(x - space.lower, space.upper - x) for x in (u0, u))
        return np.where(bent, np.abs(u - u0), np.where(np.isfinite(after), np.abs(np.log(after / before)), 0.0))


def _way(start: float, stop: float, space: Space, e: int) -> Float[Host, " k"]:
    """Return values for coordinate e from ``start`` to ``stop``, (k,): for a logarithm in equal steps of log 2, for a bounded
    coordinate at halves of the distance to the bound.

    An untransformed coordinate is treated as a logarithm, because the user's function may take its exponential; if it moved by
    41 or more, each step is twice the one before.
    """
    k = np.arange(RUNGS)
    bent = ends.curved(space)[e]
    if bent or not np.isfinite([space.lower[e], space.upper[e]]).any():
        steps = np.log(2.0) * k if bent or abs(stop - start) < LONGEST else 2.0 ** (k - 3.0)
        points = start + np.sign(stop - start) * steps
        return points[np.abs(points - start) <= abs(stop - start)]
    bound = space.lower[e] if stop - space.lower[e] <= space.upper[e] - stop else space.upper[e]
    points = bound + (start - bound) * 0.5**k
    return points[np.abs(points - bound) >= abs(stop - bound)]


def end_at(evaluator: SingleEvaluator, u: Float[Host, " p"], like: OptimizeResult) -> OptimizeResult | None:
    """Evaluate u, (p,), as an `OptimizeResult` with the other fields of ``like``; None if its score or information is not
    finite; the log-likelihood may be not finite.
    """
    found = evaluator.evaluate(u[None])
    assert found.score is not None
    assert found.information is not None
    if not (linalg.all_finite(found.score) and linalg.finite_each(found.information).all()):
        return None
    return like._replace(u=u.copy(), loglik=found.loglik[0], score=found.score[0], information=found.information[0])


def with_good_digits(
    evaluator: SingleEvaluator, loaded: Loaded, u0: Float[Host, " p"], end: OptimizeResult, found: Sequence[Direction]
) -> tuple[tuple[Direction, ...], str, str]:
    """Check the directions found by ray tests against rounding errors.

    A higher point, a supremum, and a rise of at most one unit that seems unbounded count if the gain is at least ten times the
    error bar at their farthest point, or that is not known; a supremum also if the gain is at most 0.01.  A larger unbounded rise
    counts if the error bar at the final point is at most half a unit or a thousandth of the rise since the start.  Other such
    directions are followed again, only as far as error bars are small.  A direction that is level on one side becomes flat if its
    fall on the other side may be rounding.

    Returns:
        The directions that remain, and, if the function stops being accurate or finite while the log-likelihood still rises,
        a statement and what to do (else empty).
    """
    real, space = [], evaluator.spec.space
    if any(d.behaviour == "rises" and not d.bounded for d in found) and not value_is_real(evaluator, end.u, u0):
        found = [d for d in found if d.behaviour != "rises" or d.bounded]
    for d in found:
        rises = d.behaviour == "rises"
        if d.fell is not None and not _fall_is_real(evaluator, end, d.fell):
            origin = rays.Origin(end.u, float(end.loglik), linalg.dense_each(end.information), space, evaluator.fixed)
            real.append(rays.flat_direction(d.vector, origin))
        elif (
            d.point is None
            or (rises and (d.gain <= ALLOWED if d.bounded else d.gain > LITTLE))
            or gain_is_real(evaluator, d.point, d.gain)
        ):
            real.append(d)
        else:
            real.append(_cut(evaluator, end, d))
    early = next((d for d in real if _numbers_end(evaluator.spec.space, d)), None)
    if early is not None:
        words = (
            f"the formula cannot be evaluated accurately along {early.movement} beyond a log-likelihood of "
            f"{early.supremum:.6g}, where it still rises"
        )
        return tuple(d for d in real if d.behaviour != "rises" or d.bounded), words, STABLE_FORM
    for d in (d for d in real if d.behaviour == "rises"):
        words = where_it_ends(evaluator, loaded, end, d, _levelled(evaluator, end, d))
        if words:
            return tuple(d for d in real if d.behaviour != "rises"), words, STAYS_FINITE
    return tuple(real), "", ""


def _levelled(evaluator: SingleEvaluator, end: OptimizeResult, d: Direction) -> bool:
    """True if the log-likelihood levels off along a rising direction, so that hardly anything of the rise is left.

    This is estimated from its gains over three doublings of the distance; False for a direction that is not bounded or has no
    point.
    """
    if not d.bounded or d.point is None:
        return False
    points = end.u + 0.5 ** np.arange(3, -1, -1)[:, None] * (d.point - end.u)
    return rest_to_rise(np.diff(evaluator.logliks({0: points})[0])) is not None


def _fall_is_real(evaluator: SingleEvaluator, end: OptimizeResult, far: Float[Host, " p"]) -> bool:
    """True if the fall of the log-likelihood from the final point to ``far``, (p,), is at least ten times the rounding error
    there, or if that error is not known.

    The step to ``far`` may be so long that rounding dominates there (for a curvature of 1e-8 a step is 1e4). Then the points at
    halves of the distance are tried, and the first at which the log-likelihood is lower decides.
    """
    points = end.u + 0.5 ** np.arange(HALVES)[:, None] * (far - end.u)
    falls = end.loglik - evaluator.logliks({0: points})[0]
    seen = np.flatnonzero(np.isfinite(falls) & (falls > FALL))
    return any(gain_is_real(evaluator, points[k], float(falls[k])) for k in {0, *seen[-1:].tolist()})


def _numbers_end(space: Space, d: Direction) -> bool:
    """True for an unbounded rise along logarithms and logits that becomes not finite or inaccurate before they reach 100."""
    if d.point is None or d.behaviour != "rises" or d.bounded:
        return False
    share = np.abs(d.vector) / np.maximum(1.0, np.abs(d.point))
    moved = share > 0.01 * share.max()
    return bool(ends.curved(space)[moved].all() and (np.abs(d.point[moved]) < END_OF_NUMBERS).all())


def _cut(evaluator: SingleEvaluator, end: OptimizeResult, d: Direction) -> Direction:
    """Test the direction again, using only points where the rounding error of the log-likelihood is small.

    A gain of at most 0.01 at these points counts as levelled off (``bounded``).
    """

    def digits_only(points: Float[Host, "m p"]) -> Float[Host, " m"]:
        """Return the log-likelihoods (m,), NaN where they are not finite or their rounding error is known to exceed 0.1."""
        values = evaluator.logliks({0: points})[0]
        good = [bool(np.isfinite(v)) and gain_is_real(evaluator, u, 1.0) for u, v in zip(points, values, strict=True)]
        return np.where(good, values, np.nan)

    space, information = evaluator.spec.space, linalg.dense_each(end.information)
    origin = rays.Origin(end.u, float(end.loglik), information, space, evaluator.fixed)
    ray = rays.make_rays(d.vector[None], end.u, end.score, information, ends.curved(space))[0]
    cut = rays.answered(rays.follow(ray, origin), digits_only)
    return replace(cut, bounded=True) if cut.gain <= ALLOWED else cut
