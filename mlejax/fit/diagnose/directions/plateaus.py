"""Plateaus: the log-likelihood is exactly constant from a point to infinity on one side, as a function that clips or takes a
maximum makes it.

At a limit (a simpler model, separation) the log-likelihood levels off smoothly, so that its first changes are as small as
rounding. A plateau ends at a kink, beyond which changes are larger at once.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from mlejax.fit.diagnose.directions import movements
from mlejax.fit.diagnose.ends import curved
from mlejax.shapes import Float, Host
from mlejax.verdict import Direction

if TYPE_CHECKING:
    from mlejax.fit.diagnose.directions.rays import Asks, Origin, Side

LOGARITHMS = 2.0 ** np.arange(7)  # and logits, in which a flat direction is followed to both ends
SEEN = 1e-3  # change of the log-likelihood up to which the kink is looked for
CUTS, NEARER, ROUNDS = 32, 3, 7  # of the way to that change
BEYOND = 1e-3  # share of the way to that change at which the change beyond the kink is looked at
SHARES = np.append(BEYOND, np.geomspace(1e-6, 0.9, 63))  # where the log-likelihood may be higher
LEAST = 1e-9  # share of the change there, below which it is no kink
ULPS = 2e-15  # relative difference of two sums of the same numbers
DIGITS = 2e-13  # relative rounding of a log-likelihood, and what a smooth limit adds to it over so short a way


class Kink(NamedTuple):
    """The kink at which a plateau ends.

    Attributes:
        at: the kink, in the coordinates of the `Origin` (u or its chart), (p,).
        higher: a point beyond the kink, in these coordinates, at which the log-likelihood is higher by more than 0.001, (p,);
            None if none was found.
        gain: largest change of the log-likelihood at the points beyond the kink.
    """

    at: Float[Host, " p"]
    higher: Float[Host, " p"] | None
    gain: float


def kink(level: Side, other: Side, last: int, origin: Origin) -> Asks[Kink | None]:
    """Find the kink at which a plateau ends: the log-likelihood is constant on the side ``level`` of the origin and from there up
    to the kink, which is on the side ``other``.

    A generator: it yields points (m, p) in u, is sent their log-likelihoods, and returns a `Kink`, or None without a plateau.

    Args:
        level: the side without any change.
        other: the side on which the log-likelihood changes.
        last: number of the last finite point of ``level``.
        origin: from where both start.
    """
    straight, rounding = origin.straight, ULPS * max(1.0, abs(origin.value))
    with np.errstate(invalid="ignore"):
        seen = np.flatnonzero(np.abs(other.change) > SEEN)
    if (np.abs(level.change[: last + 1]) > rounding).any() or not seen.size:
        return None
    start, near = origin.at, other.points[seen[0]]
    for _ in range(NEARER):  # the points of a side may lie far apart
        points = start + np.outer(np.arange(1, CUTS + 1) / CUTS, near - start)
        changes = (yield straight.to_u(points)) - origin.value
        first = int(np.argmax(~(np.abs(changes) <= SEEN)))
        start, near, change = (points[first - 1] if first else start), points[first], changes[first]
    inner, way = origin.at, near - origin.at
    for _ in range(ROUNDS):
        points = inner + np.outer(np.arange(1, CUTS) / CUTS, way)
        moved = ~(np.abs((yield straight.to_u(points)) - origin.value) <= rounding)  # also where it is no number
        first = int(np.argmax(moved)) if moved.any() else CUTS - 1
        inner, way = (points[first - 1] if first else inner), way / CUTS
    beyond = inner + np.outer(SHARES, other.points[seen[0]] - inner)
    beyond[0] = inner + BEYOND * (near - inner)
    values = (yield straight.to_u(beyond)) - origin.value
    if not abs(values[0]) > max(LEAST * abs(change), DIGITS * max(1.0, abs(origin.value))):
        return None
    best = int(np.argmax(np.where(np.isfinite(values), values, -np.inf)))
    higher = values[best] > SEEN
    return Kink(inner, beyond[best] if higher else None, float(values[best]))


def direction(level: Side, last: int, kink: Kink, origin: Origin) -> Direction:
    """Return the `Direction` of a side on which the log-likelihood is exactly constant, behaviour ``plateau``; or, if the
    log-likelihood is higher beyond the kink, the direction to that point, behaviour ``higher``.

    Args:
        level: the side.
        last: number of its last finite point.
        kink: where the constant part ends, and what is beyond.
        origin: the final point.
    """
    at, far, ends = origin.in_u(origin.at), origin.in_u(level.points[last]), origin.in_u(kink.at)
    if kink.higher is not None:
        best = origin.in_u(kink.higher)
        words = partial(movements.describe_movement, at, best, origin.space, origin.fixed)
        return Direction("higher", best - at, kink.gain, words=words, point=best)
    words = partial(movements.describe_plateau, at, far, ends, origin.space, origin.fixed, origin.value)
    return Direction("plateau", level.unit if origin.chart is None else far - at, 0.0, origin.value, words)


def far_along(sides: list[Side], origin: Origin, noise: float) -> Asks[Direction | None]:
    """Follow a direction of logarithms and logits, along which the log-likelihood is flat nearby, to much larger distances on
    both sides.

    Returns a direction of behaviour ``rises`` if the log-likelihood falls on just one side and stays, within ``noise``, level
    on the other; else None; None too for a direction that changes other parameters as well.
    """
    unit = sides[0].unit / np.abs(sides[0].unit).max()
    moved = np.abs(unit) > 0.01
    if origin.chart is not None or not curved(origin.space)[moved].all():
        return None
    unit = np.where(moved, unit, 0.0)
    points = origin.at + np.concatenate([np.outer(LOGARITHMS, unit), np.outer(LOGARITHMS, -unit)])
    change = ((yield points) - origin.value).reshape(2, -1)
    lower = np.isfinite(change) & (change < -SEEN)  # not where the numbers or the domain end
    falls = [bool(c.any()) for c in lower]
    level = [np.flatnonzero(np.abs(c) <= noise) for c in change]
    if falls[0] == falls[1]:
        return None
    k = falls.index(False)
    if not level[k].size:
        return None
    far = points.reshape(2, -1, unit.size)[k, level[k][-1]]
    along = unit if k == 0 else -unit
    words = partial(movements.describe_movement, origin.at, far, origin.space, origin.fixed, origin.information)
    fell = points.reshape(2, -1, unit.size)[1 - k, np.argmax(lower[1 - k])]
    return Direction("rises", along, 0.0, origin.value, words, True, far, fell)
