"""Ray tests: evaluate the log-likelihood along a straight line through the final point of a search, to both sides.

Only final points that are not clearly maxima are tested. A direction d is scaled to its own standard error (d' I d = 1): at a
regular maximum the log-likelihood falls by t^2/2 on both sides. If the log-likelihood does not fall over hundreds of standard
errors on one side, the direction leads to a plateau; if it falls on neither side, the direction is flat.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple, TypeVar

import numpy as np

from mlejax.fit.diagnose.directions import movements, plateaus
from mlejax.fit.diagnose.directions.behaviours import Behaviour, behaviour_of
from mlejax.parameters import Space
from mlejax.shapes import Bool, Float, Host
from mlejax.verdict import Direction

STEPS = 2.0 ** np.arange(-2, 10)
FLAT = 1e-3  # change of the log-likelihood over 512 standard errors below which a direction is flat

T = TypeVar("T")
# a generator that yields points (m, p) in u, is sent the log-likelihoods (m,) there, and returns what it found
Asks = Generator[Float[Host, "m p"], Float[Host, " m"], T]


def answer_together(
    asks: Mapping[int, Asks[T]], logliks: Callable[[dict[int, Any]], dict[int, Float[Host, " m"]]]
) -> dict[int, T]:
    """Run several generators to their end and return their return values, by number.

    Points that they yield are evaluated together: ``logliks`` takes points (m, p) by number and returns log-likelihoods (m,) by
    number.  Overflow along a ray causes no warnings.
    """
    found: dict[int, T] = {}
    answers: dict[int, Any] = dict.fromkeys(asks)
    with np.errstate(all="ignore"):
        while answers:
            questions = {}
            for i, answer in answers.items():
                try:
                    questions[i] = asks[i].send(answer)
                except StopIteration as end:
                    found[i] = end.value
            answers = logliks(questions) if questions else {}
    return found


def answered(asks: Asks[T], loglik: Callable[[Any], Float[Host, " m"]]) -> T:
    """Run one generator to its end, sending ``loglik(points)`` for the points that it yields; return its return value."""
    return answer_together({0: asks}, lambda questions: {0: loglik(questions[0])})[0]


class Chart(NamedTuple):
    """Coordinates in which rays are straight lines.

    Attributes:
        lower, upper: bounds in these coordinates, (p,).
        to_u: converts points (m, p) to u, (m, p).
    """

    lower: Float[Host, " p"]
    upper: Float[Host, " p"]
    to_u: Callable[[Any], Float[Host, "m p"]]


class Origin(NamedTuple):
    """The final point from which rays start.

    Attributes:
        at: the point, in u or in the coordinates of ``chart``, (p,).
        value: the log-likelihood there.
        information: the information there, in the same coordinates, (p, p).
        space: the layout of the parameters.
        fixed: values under ``fixed=``, or None.
        chart: coordinates other than u in which rays are straight, or None.
    """

    at: Float[Host, " p"]
    value: float
    information: Float[Host, "p p"]
    space: Space
    fixed: Host | None
    chart: Chart | None = None

    @property
    def straight(self) -> Chart:
        """``chart``, or u with its bounds if that is None."""
        return Chart(self.space.lower, self.space.upper, lambda points: points) if self.chart is None else self.chart

    def in_u(self, point: Float[Host, " p"]) -> Float[Host, " p"]:
        """Convert one point, (p,), from the coordinates of rays to u."""
        return self.straight.to_u(point[None])[0]


class ScaledRay(NamedTuple):
    """A direction, with step lengths.

    Attributes:
        unit: the direction, scaled to one standard error along it, (p,).
        first: factor on all steps, at most 1.
        steep: whether the information along it is large enough to predict the fall of the log-likelihood.
        values: log-likelihoods at the first points of both sides, (2 m,); None before they are evaluated.
    """

    unit: Float[Host, " p"]
    first: float
    steep: bool
    values: Float[Host, " m"] | None = None


class Side(NamedTuple):
    """One side of a ray.

    Attributes:
        unit: the scaled direction, (p,).
        points: the points evaluated, nearest first, (m, p).
        change: change of the log-likelihood at the points, NaN outside the bounds, (m,).
        expected: fall of the log-likelihood at the points that the information predicts, (m,); inf if it predicts none.
    """

    unit: Float[Host, " p"]
    points: Float[Host, "m p"]
    change: Float[Host, " m"]
    expected: Float[Host, " m"]


def flat_direction(vector: Float[Host, " p"], origin: Origin) -> Direction:
    """Return a `Direction` of behaviour ``flat`` for a vector, (p,), known to be flat without a test.

    The vector is scaled so that the largest change of a coordinate, divided by max(1, its size at the origin), is 1.
    """
    unit = vector / float(np.max(np.abs(vector) / np.maximum(1.0, np.abs(origin.at))))
    words = partial(movements.describe_flat, origin.at, unit, origin.space, origin.fixed)
    return Direction("flat", unit, 0.0, origin.value, words)


def make_rays(
    vectors: Float[Host, "k p"],
    u: Float[Host, "*k p"],
    score: Float[Host, "*k p"],
    information: Float[Host, "*k p p"],
    bent: Bool[Host, " p"] | None,
) -> list[ScaledRay]:
    """Scale directions to one standard error each.

    A direction without curvature is scaled by the coordinate that it changes most, in conditional standard errors if these are
    small, so that the scale of a column does not matter. `ScaledRay.first` is 1, or less if a step of one standard error would
    change a logarithm or logit by more than 1, or if the score predicts that it raises the log-likelihood by more than 1.

    Args:
        vectors: directions, (k, p).
        u, score, information: the final point, and score and information there; for all directions, or with a leading axis k.
        bent: mask of the coordinates that are logarithms, logits and the like, (p,); or None.
    """
    if not len(vectors):
        return []
    v = np.asarray(vectors)
    k, p = v.shape
    u, score = np.broadcast_to(u, (k, p)), np.broadcast_to(score, (k, p))
    information = np.broadcast_to(np.where(np.isfinite(information), information, 0.0), (k, p, p))
    curvature = np.einsum("kp,kpq,kq->k", v, information, v)
    diagonal = np.maximum(np.einsum("kpp->kp", information), 0.0)
    plain = np.maximum(1.0, np.abs(u))
    size = (np.abs(v) / plain).max(axis=1)
    least = np.maximum(1e-14 * size**2, 1e-11 * np.einsum("kp,kp->k", v**2, diagonal))
    steep = np.isfinite(curvature) & (curvature > least)
    scale = np.where(diagonal > 0, np.minimum(plain, 1.0 / np.sqrt(np.where(diagonal > 0, diagonal, 1.0))), plain)
    unit = v / np.where(steep, np.sqrt(np.where(steep, curvature, 1.0)), (np.abs(v) / scale).max(axis=1))[:, None]
    slope = np.abs(np.einsum("kp,kp->k", score, unit))
    unknown = ~np.isfinite(slope)
    if unknown.any():
        slope[unknown] = np.abs(np.einsum("kp,kp->k", np.nan_to_num(score[unknown]), unit[unknown]))
    farthest = np.abs(unit[:, bent]).max(axis=1, initial=0.0) if bent is not None else np.zeros(k)
    # where it still slopes, the first step is at most what a straight line needs for a gain of 1: with next to no
    # curvature (down a spike) the standard error is far too long a step
    first = 1.0 / np.maximum(np.maximum(slope, farthest), 1.0)
    return [ScaledRay(*each) for each in zip(unit, first.tolist(), steep.tolist(), strict=True)]


def follow_all(rays: Sequence[ScaledRay], origin: Origin) -> Asks[tuple[Direction, ...]]:
    """Test all rays, to both sides, and return a `Direction` for each (a generator that is sent log-likelihoods)."""
    if not rays:
        return ()
    straight, p = origin.straight, origin.at.size
    units = np.array([ray.first for ray in rays])[:, None] * np.array([ray.unit for ray in rays])
    points = origin.at + np.stack([units, -units], axis=1)[:, :, None, :] * STEPS[:, None]
    points = np.clip(points, straight.lower, straight.upper)
    values = (yield straight.to_u(points.reshape(-1, p))).reshape(len(rays), -1)
    # outside of a box nothing is known of a side
    falls = np.zeros(len(rays), bool) if origin.space.boxed else plainly_falls(values, origin.value)
    found = []
    for ray, first, fell in zip(rays, values, falls, strict=True):
        if fell:
            found.append(Direction("falls", ray.unit))
        else:
            found.append((yield from follow(ray._replace(values=first), origin)))
    return tuple(found)


def plainly_falls(values: Float[Host, "k m"], value: float) -> Bool[Host, " k"]:
    """Return a boolean mask, (k,), of rays along which the log-likelihood clearly falls on both sides.

    True if all values are finite, both sides fall by more than rounding errors and 0.001, and no value is higher than at the
    final point by more than ten rounding errors.  :func:`follow` finds the same, and may find others to fall.

    Args:
        values: log-likelihoods at the first m points of one side, then of the other, of each ray, (k, 2 m).
        value: log-likelihood at the final point.
    """
    with np.errstate(invalid="ignore"):
        change = values.reshape(len(values), 2, -1) - value
        noise = _noise(value)
        falls = change.min(axis=2) < -max(noise, FLAT)
        return np.asarray(
            np.isfinite(change).all(axis=(1, 2)) & falls.all(axis=1) & (change.max(axis=(1, 2)) <= 10.0 * noise)
        )


def _noise(value: float) -> float:
    """Return the size of changes of a log-likelihood of this value that may be rounding errors."""
    return 1e-8 + 1e-10 * abs(value)


def follow(ray: ScaledRay, origin: Origin) -> Asks[Direction]:
    """Test one ray, to both sides, and return its `Direction` (a generator that is sent log-likelihoods)."""
    noise, space, fixed = _noise(origin.value), origin.space, origin.fixed
    if not ray.steep and _curvature_cancels(ray.unit, origin.information):
        noise = max(noise, FLAT)
    sides = yield from _both_sides(ray, origin)
    seen = [behaviour_of(side.change, noise, side.expected) for side in sides]
    # steps that are lost in the rounding of u say nothing
    moves = bool((np.abs(sides[0].unit) * STEPS[-1] > 1e-9 * np.abs(origin.at)).any())
    information = origin.information if origin.chart is None else None
    for side, opposite, this, other in zip(sides, sides[::-1], seen, seen[::-1], strict=True):
        flat = this.name == "flat" or (
            this.name == "still" and other.name == "falls" and moves and _lopsided(side, opposite, this.last, noise)
        )
        if this.name == "rises":
            return (yield from _rising(side, this, origin, noise))
        if flat and moves and other.name == "unknown":  # outside of its box, or of the function's domain
            return flat_direction(side.unit, origin)
        if flat and moves and other.name == "falls" and other.gain <= 10 * noise:
            ends = yield from plateaus.kink(side, opposite, this.last, origin)
            if ends is not None:
                return plateaus.direction(side, this.last, ends, origin)
            fell = opposite.points[int(np.argmax(opposite.change < -noise))]
            return replace((yield from _rising(side, this, origin, noise)), fell=origin.in_u(fell))
    at = origin.in_u(origin.at)
    if seen[0].name == seen[1].name == "flat" and moves:
        levels = yield from plateaus.far_along(sides, origin, noise)
        if levels is not None:
            return levels
        words = partial(movements.describe_flat, at, sides[0].unit, space, fixed, information)
        return Direction("flat", sides[0].unit, 0.0, origin.value, words)
    gain = max(one.gain for one in seen)
    if gain > 10 * noise:
        highest = np.stack([np.where(np.isfinite(side.change), side.change, -np.inf) for side in sides])
        i, k = np.unravel_index(int(np.argmax(highest)), highest.shape)
        best = origin.in_u(sides[i].points[k])
        along = sides[i].unit if origin.chart is None else best - at
        words = partial(movements.describe_movement, at, best, space, fixed, information)
        return Direction("higher", along, gain, words=words, point=best)
    return Direction("falls" if any(one.name == "falls" for one in seen) else "unknown", ray.unit)


def _rising(side: Side, seen: Behaviour, origin: Origin, noise: float) -> Asks[Direction]:
    """Return the `Direction` of a side that rises or does not fall: to a supremum, without bound, or up to a higher point.

    ``seen``: what the side does; ``noise``: changes of the log-likelihood that may be rounding.
    """
    straight = origin.straight
    far = np.clip(side.points[seen.last], straight.lower, straight.upper)
    gain, bounded, turned = seen.gain, seen.bounded, False
    if seen.name == "rises" and not bounded:
        far, gain, bounded, turned = yield from _extended(side.unit, far, gain, noise, origin)
    at, far = origin.in_u(origin.at), origin.in_u(far)
    information = origin.information if origin.chart is None else None
    words = partial(movements.describe_movement, at, far, origin.space, origin.fixed, information)
    along = side.unit if origin.chart is None else far - at
    if turned:
        return Direction("higher", along, gain, words=words, point=far)
    return Direction("rises", along, gain, origin.value + gain, words, bounded, far)


def _curvature_cancels(vector: Float[Host, " p"], information: Float[Host, "p p"]) -> bool:
    """True if the information along the direction is the difference of large terms, so that it may be a rounding error.

    That is, at least two coordinates with sizeable information of their own take part in the direction.
    """
    diagonal = np.diag(information)
    each = vector**2 * np.where(np.isfinite(diagonal), diagonal, 0.0)
    return bool(np.isfinite(information).all() and each.sum() > 0 and (each > 1e-3 * each.sum()).sum() >= 2)


def _both_sides(ray: ScaledRay, origin: Origin) -> Asks[list[Side]]:
    """Evaluate both sides of a ray; if the first points are not finite, repeat with shorter steps, up to three times."""
    nearer, straight = STEPS[0] / STEPS[-1], origin.straight
    values, shrunk = ray.values, np.full(2, ray.first)
    for _ in range(4):
        units = np.stack([shrunk[0] * ray.unit, -shrunk[1] * ray.unit])
        points = origin.at + units[:, None, :] * STEPS[:, None]
        inside = np.all((points >= straight.lower) & (points <= straight.upper), axis=2)
        if values is None:
            values = yield straight.to_u(np.clip(points, straight.lower, straight.upper).reshape(-1, origin.at.size))
        change = np.where(inside, values.reshape(inside.shape) - origin.value, np.nan)
        values = None
        lost = ~np.isfinite(change[:, :3]).all(axis=1)
        # one side by itself only where its curvature says what to expect so near
        again = lost & (lost.all() | np.logical_and(ray.steep, inside[:, :3].all(axis=1)))
        if not again.any():
            break
        shrunk[again] *= nearer
    nothing = np.full(STEPS.size, np.inf)
    return [
        Side(units[k], points[k], change[k], 0.5 * (shrunk[k] * STEPS) ** 2 if ray.steep else nothing) for k in (0, 1)
    ]


def _extended(
    unit: Float[Host, " p"], far: Float[Host, " p"], gain: float, noise: float, origin: Origin
) -> Asks[tuple[Float[Host, " p"], float, bool, bool]]:
    """Follow a side of a ray whose log-likelihood rises to its farthest point to far greater distances.

    Far from a maximum any log-likelihood rises linearly for a while; it is called unbounded only if it rises to the largest
    distances at which it is finite.

    Args:
        unit: the step of the side, (p,).
        far, gain: its farthest point so far, (p,), and the increase of the log-likelihood from the origin to it.
        noise: a change that may be rounding.
        origin: the point at which the ray begins.

    Returns:
        The highest point found, (p,), the increase from the origin to it, whether the rise ends (the side levels off or falls),
        and whether it falls.
    """
    straight = origin.straight
    for _ in range(4):
        unit = unit * STEPS[-1]
        points = origin.at + np.outer(STEPS, unit)
        inside = ((points >= straight.lower) & (points <= straight.upper)).all(axis=1)
        values = yield straight.to_u(np.clip(points, straight.lower, straight.upper))
        change = np.where(inside, values - origin.value, np.nan)
        seen = behaviour_of(change, noise, np.full(STEPS.size, np.inf))
        if seen.name in ("falls", "higher") and seen.gain > gain:
            highest = int(np.nanargmax(np.where(np.isfinite(change), change, -np.inf)))
            return points[highest], seen.gain, True, True
        if seen.name in ("falls", "higher"):
            return far, gain, True, True
        if seen.name != "rises":
            break
        far, gain = points[seen.last], seen.gain
        if seen.bounded:
            return far, gain, True, False
    return far, gain, False, False


def _lopsided(still: Side, other: Side, last: int, noise: float) -> bool:
    """True if the ``other`` side falls over a hundred times as much as its information predicts, at distances at which the
    log-likelihood on the side ``still`` has not changed; at a maximum that does not happen.

    ``last``: number of the furthest point of ``still`` without a change; ``noise``: changes that may be rounding.
    """
    ratio = float(np.max(np.abs(other.unit)) / np.max(np.abs(still.unit)))
    near = STEPS * ratio <= STEPS[last]
    with np.errstate(invalid="ignore"):
        return bool((near & (other.change < -(100.0 * other.expected + 10.0 * noise))).any())
