"""Searches that advanced slowly along a curved ridge: the profile along it shows where the log-likelihood levels off.

If a family has a simpler one as a limit, location, scale and shape often go to infinity together (a log-gamma that becomes a
normal). Straight rays do not stay on such a ridge, nor where the log-likelihood levels off so fast that the search ends before
the limit: for a normal sample grouped in two cells the scale goes to 0, and the mean goes to the limit between the cells at the
same pace.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from mlejax import linalg
from mlejax.covariance import NULL_EIGENVALUE
from mlejax.fit.diagnose import ends
from mlejax.fit.diagnose.bounds import others_maximised
from mlejax.fit.diagnose.rounding.digits import digits, far_from_start
from mlejax.fit.diagnose.rounding.last_digits import FLAT, REST, along, end_at, rest_to_rise, travelled
from mlejax.objective import SingleEvaluator
from mlejax.optimize import OptimizeResult
from mlejax.parameters import Space
from mlejax.shapes import Float, Host
from mlejax.status import End
from mlejax.verdict import Direction

FAR_REAL = 10.0  # way of a coordinate without bounds, in units of 1 or of the start
WAYS_BACK, LEAST_POINTS = 7, 4
AHEAD, MOST_COORDINATES = 3, 50
LEVEL = 2e-15  # relative rounding of two sums of nearly the same numbers
LEAST_RISE = 1e-6  # log-likelihood over all points, below which the ridge is flat


def levelled(evaluator: SingleEvaluator, u0: Float[Host, " p"], end: OptimizeResult) -> Direction | None:
    """Return the direction along which the log-likelihood levels off on a curved ridge.

    None if the log-likelihood does not level off. None too if no standard error is implausibly large or infinite (see
    `_level_side`) and either no coordinate went far from the start or the search converged.

    The profile of the coordinate that moved furthest is evaluated at points back towards its start: at halves of the
    parameter (for logarithms and logits), then at halves of the distance in u.  If the profile is higher at one of them, the
    direction has the behaviour ``higher`` and that ``point``.
    """
    space = evaluator.spec.space
    straight = ~(ends.curved(space) | np.isfinite(space.lower) | np.isfinite(space.upper))
    way = np.where(straight, np.abs(end.u - u0) / np.maximum(1.0, np.abs(u0)), 0.0)
    far = far_from_start(end.u, u0, space)
    if end.end == End.CONVERGED or not (far.any() or way.max() > FAR_REAL):
        return _level_side(evaluator, end)
    e = int(np.argmax(np.where(far, travelled(end.u, u0, space), -1.0) if far.any() else way))
    went = float(end.u[e] - u0[e])
    halves = [went * 0.5**k for k in range(WAYS_BACK)]
    logs = [went - np.sign(went) * np.log(2.0) * k for k in range(WAYS_BACK)]
    for ways in (logs, halves) if ends.curved(space)[e] else (halves,):
        found = _back_along(evaluator, end, e, [float(u0[e]) + w for w in ways if w * went > 0.0])
        if found is not None:
            return found
    return _level_side(evaluator, end)


def _level_side(evaluator: SingleEvaluator, end: OptimizeResult) -> Direction | None:
    """Return the direction of a parameter with an unusually large or infinite standard error in which the log-likelihood has
    levelled off: the profile is constant, up to rounding, at three points in that direction, and lower in the opposite one.

    None if there is no such parameter. A maximum on a long flat stretch gives None, because the profile is lower on both sides.
    """
    e = _least_known(end, evaluator.spec.space)
    if e is None:
        return None
    noise = LEVEL * max(1.0, abs(float(end.loglik)))
    ahead = {sign: _profile(evaluator, end, e, sign) for sign in (-1.0, 1.0)}
    level = [sign for sign, (_, values) in ahead.items() if (values >= end.loglik - noise).all()]
    if len(level) != 1:
        return None
    steps = level[0] * np.log(2.0) * np.arange(AHEAD, -WAYS_BACK, -1)
    return _back_along(evaluator, end._replace(u=ahead[level[0]][0]), e, (end.u[e] + steps).tolist())


def _least_known(end: OptimizeResult, space: Space) -> int | None:
    """Return the number of the coordinate that the final point determines worst, or None if all are determined well.

    It is the coordinate with the largest ratio of its standard error to the largest usual one (`usual`), if that exceeds 1; if
    the information is singular, the logarithm or logit with the largest entry in the null vector.
    """
    free = ends.interior(space, end.u)
    if end.information is None or not free.any() or free.sum() > MOST_COORDINATES:
        return None
    information, size = linalg.symmetric(end.information).block(free), np.zeros(free.size)
    found = linalg.scaled_inverse(information)
    if found.ok and found.smallest > NULL_EIGENVALUE:
        size[free] = np.sqrt(found.inverse.diagonal())
        size /= np.maximum(ends.usual(end.u, space), 1e-300)
        size = np.where(free & (size > 1.0), size, 0.0)
    elif np.isfinite(information).all():
        diagonal = information.diagonal()
        with np.errstate(divide="ignore", invalid="ignore"):
            d = np.where(diagonal > 0.0, 1.0 / np.sqrt(diagonal), 0.0)
        size[free] = np.abs(np.linalg.eigh(d[:, None] * information * d)[1][:, 0])
        size = np.where(ends.curved(space), size, 0.0)
    return int(np.argmax(size)) if size.any() else None


def _profile(
    evaluator: SingleEvaluator, end: OptimizeResult, e: int, sign: float
) -> tuple[Float[Host, " p"], Float[Host, " k"]]:
    """Evaluate the profile of coordinate e at k points beyond a final point: e is moved by log 2, 2 log 2, ..., upwards if
    ``sign`` is 1 and downwards if -1, and the other coordinates are maximised at each.

    Returns the last point, (p,), and the log-likelihoods, (k,).
    """
    u, out = np.array(end.u), []
    for _ in range(AHEAD):
        u[e] += sign * np.log(2.0)
        u, loglik = others_maximised(evaluator, u, e)
        out.append(loglik)
    return u, np.array(out)


def _back_along(evaluator: SingleEvaluator, end: OptimizeResult, e: int, at: Sequence[float]) -> Direction | None:
    """Evaluate the profile of coordinate e at the values ``at`` (final point first) and return the direction that it shows.

    If the profile is higher at one of these values than at the first, the behaviour is ``higher``, with that ``point``; if it
    levels off towards the first, ``rises``, with the supremum. Values where rounding dominates are left out. Return None if fewer
    than four values remain, or in other cases.
    """
    u, found, farthest = np.array(end.u), list[tuple[float, Float[Host, " p"]]](), None
    for value in at:
        start = u if len(found) < 2 else 2.0 * u - found[-2][1]  # the others go on as they went
        start = np.where(np.arange(u.size) == e, value, start)
        u, loglik = others_maximised(evaluator, start, e)
        here = end_at(evaluator, u, end)
        known = digits(evaluator, here) if here is not None and np.isfinite(loglik) else None
        if here is None or not np.isfinite(loglik) or (known is not None and not known.first):
            if found:
                break
            u = np.array(end.u)  # the numbers end where the search ended
            continue
        farthest = here if farthest is None else farthest
        found.append((loglik, u.copy()))
    if len(found) < LEAST_POINTS:
        return None
    values = np.array([loglik for loglik, _ in found])
    if values.max() > values[0] + FLAT:
        best, gain = int(np.argmax(values)), float(values.max() - end.loglik)
        return replace(along(evaluator, end.u, found[best][1], e), behaviour="higher", point=found[best][1], gain=gain)
    rest = rest_to_rise(np.diff(values[::-1]))
    risen = float(values[0] - values[-1])
    if rest is None or risen <= LEAST_RISE:
        return None
    assert farthest is not None
    supremum, settled = float(values[0]) + rest, _others_settled(farthest, e)
    return replace(along(evaluator, found[1][1], found[0][1], e), gain=risen, supremum=supremum, settled=settled)


def _others_settled(at: OptimizeResult, e: int) -> bool:
    """True if the Newton decrement over all coordinates but e is at most 0.01: these are at their maximum given that one."""
    others = np.arange(at.u.size) != e
    inverse = linalg.scaled_inverse(linalg.symmetric(at.information).block(others))
    return inverse.ok and bool(at.score[others] @ inverse.inverse @ at.score[others] <= REST)
