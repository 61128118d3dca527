"""What the log-likelihood does around the point where a fit ended: ray tests and eigen-analysis, on the host.

Runs only on fits that did not end cleanly.  A direction is tested in units of its own standard error (d' I d = 1): at a
proper maximum the log-likelihood falls by t^2/2 on both sides, so that a side on which it does not fall over hundreds of
such units shows a plateau, and two such sides a flat direction.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from mlejax.covariance import NULL_EIGENVALUE
from mlejax.fit import words
from mlejax.fit.standing import curved
from mlejax.parameters import Space
from mlejax.verdict import Direction

STEPS = 2.0 ** np.arange(-2, 10)
FLAT = 1e-3  # change of the log-likelihood over 512 standard errors of what moves, below which a direction is flat
MAX_COORDINATES = 12  # up to so many parameters every one is followed by itself too

LogLik = Callable[[np.ndarray], np.ndarray]


def scaled(information: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Information scaled to a unit diagonal and the scale d (p,), 0 where the diagonal is not positive."""
    diagonal = np.diag(information)
    d = np.zeros_like(diagonal)
    positive = np.isfinite(diagonal) & (diagonal > 0)
    d[positive] = 1.0 / np.sqrt(diagonal[positive])
    return information * np.outer(d, d), d


def suspicious_directions(
    u: np.ndarray, score: np.ndarray, information: np.ndarray, free: np.ndarray, origin: np.ndarray
) -> list[np.ndarray]:
    """Directions in u (p,) worth a ray test: the Newton step, weak and negative eigenvectors, zero rows, the path so far,
    and, where there are few, the coordinates."""
    out: list[np.ndarray] = []
    inside = np.flatnonzero(free)
    if not np.isfinite(information).all():
        information = np.where(np.isfinite(information), information, 0.0)
    s, d = scaled(information[np.ix_(inside, inside)])
    for j in inside[d == 0]:
        e = np.zeros_like(u)
        e[j] = max(1.0, abs(u[j]))
        out.append(e)
    if inside.size and (d > 0).any():
        values, vectors = np.linalg.eigh(np.nan_to_num(s[np.ix_(d > 0, d > 0)]))
        at = inside[d > 0]
        scale = d[d > 0]
        for value, vector in zip(values, vectors.T, strict=True):
            if value < NULL_EIGENVALUE:
                out.append(_embed(u.size, at, scale * vector))
        inverse = (vectors / np.maximum(np.abs(values), 1e-12)) @ vectors.T
        newton = scale * (inverse @ (scale * np.nan_to_num(score[at])))
        out.append(_embed(u.size, at, newton))
    out.append(np.where(free, u - origin, 0.0))
    if inside.size <= MAX_COORDINATES:
        out += [_embed(u.size, np.array([j]), np.array([max(1.0, abs(u[j]))])) for j in inside]
    return [v for v in out if np.isfinite(v).all() and np.abs(v).max(initial=0.0) > 0.0]


def _embed(p: int, at: np.ndarray, values: np.ndarray) -> np.ndarray:
    out = np.zeros(p)
    out[at] = values
    return out


def without(vectors: list[np.ndarray], known: Sequence[np.ndarray]) -> list[np.ndarray]:
    """The directions without their parts along known ones, each coordinate in its own scale; those that vanish are left out."""
    size = np.max(np.abs(np.stack([*vectors, *known])), axis=0)
    size = np.where(size > 0, size, 1.0)
    basis = np.linalg.qr((np.stack(known) / size).T)[0]
    out = []
    for vector in vectors:
        scaled_ = vector / size
        rest = scaled_ - basis @ (basis.T @ scaled_)
        if np.abs(rest).max() > 1e-6 * np.abs(scaled_).max():
            out.append(rest * size)
    return out


def flat_direction(vector: np.ndarray, u: np.ndarray, value: float, space: Space, fixed: Any) -> Direction:
    """A direction that is known to be flat."""
    unit = vector / float(np.max(np.abs(vector) / np.maximum(1.0, np.abs(u))))
    text, names = words.describe_flat(u, unit, space, fixed)
    return Direction("flat", unit, 0.0, value, text, names)


class Chart(NamedTuple):
    """The coordinates in which rays are straight: their box, and the way to u of many points (m, p)."""

    lower: np.ndarray
    upper: np.ndarray
    to_u: Callable[[np.ndarray], np.ndarray]


def chart_of(space: Space) -> Chart:
    """Rays straight in u."""
    return Chart(space.lower, space.upper, lambda points: points)


def probe(
    vector: np.ndarray,
    u: np.ndarray,
    value: float,
    score: np.ndarray,
    information: np.ndarray,
    loglik: LogLik,
    space: Space,
    fixed: Any,
    chart: Chart | None = None,
) -> Direction:
    """Follow the log-likelihood along plus and minus one direction.

    Where it still slopes the unit is at most what a straight line would need for a gain of 1: with next to no curvature
    (down a spike) the standard error is far too long a step.  ``chart``: other coordinates than u, in which ``u``,
    ``vector``, ``score`` and ``information`` are given, and ``loglik`` takes points.
    """
    straight = chart_of(space) if chart is None else chart
    unit, first, steep = _unit(vector, u, score, information, curved(space) if chart is None else None)
    noise = 1e-8 + 1e-10 * abs(value)
    if not steep and _lost(vector, information):
        noise = max(noise, FLAT)
    rays = _rays(unit, first, steep, u, value, loglik, straight)
    sides = [_side(ray.change, noise, ray.expected) for ray in rays]
    # steps that are lost in the rounding of u say nothing
    moves = bool((np.abs(rays[0].unit) * STEPS[-1] > 1e-9 * np.abs(u)).any())

    def in_u(point: np.ndarray) -> np.ndarray:
        return straight.to_u(point[None])[0]

    at = in_u(u)
    roots = words.roots_of(information) if chart is None else None
    for i, (ray, (behaviour, gain, last, bounded), (other, *_)) in enumerate(
        zip(rays, sides, sides[::-1], strict=True)
    ):
        if behaviour == "still" and other == "falls" and moves and _lopsided(ray, rays[1 - i], last, noise):
            behaviour = "flat"
        if behaviour == "rises" or (behaviour == "flat" and other in ("falls", "unknown") and moves):
            far = np.clip(ray.points[last], straight.lower, straight.upper)
            turned = False
            if behaviour == "rises" and not bounded:
                far, gain, bounded, turned = _follow(u, ray.unit, value, far, gain, noise, loglik, straight)
            far = in_u(far)
            movement, names = words.describe_movement(at, far, space, fixed, roots)
            along = ray.unit if chart is None else far - at
            if turned:
                return Direction("higher", along, gain, movement=movement, names=names, point=far)
            return Direction("rises", along, gain, value + gain, movement, names, bounded)
    if sides[0][0] == "flat" and sides[1][0] == "flat" and moves:
        text, names = words.describe_flat(at, rays[0].unit, space, fixed, roots)
        return Direction("flat", rays[0].unit, 0.0, value, text, names)
    gain = max(side[1] for side in sides)
    if gain > 10 * noise:
        highest = np.stack([np.where(np.isfinite(ray.change), ray.change, -np.inf) for ray in rays])
        side, k = np.unravel_index(int(np.argmax(highest)), highest.shape)
        ray, best = rays[side], in_u(rays[side].points[k])
        movement, names = words.describe_movement(at, best, space, fixed, roots)
        along = ray.unit if chart is None else best - at
        return Direction("higher", along, gain, movement=movement, names=names, point=best)
    return Direction("falls" if any(s[0] == "falls" for s in sides) else "unknown", unit)


def _lost(vector: np.ndarray, information: np.ndarray) -> bool:
    """The coordinates that the direction moves are known well one by one, and their information cancels along it to rounding."""
    diagonal = np.diag(information)
    alone = vector**2 * np.where(np.isfinite(diagonal), diagonal, 0.0)
    return bool(np.isfinite(information).all() and alone.sum() > 0 and (alone > 1e-3 * alone.sum()).sum() >= 2)


def _unit(
    vector: np.ndarray, u: np.ndarray, score: np.ndarray, information: np.ndarray, bent: np.ndarray | None
) -> tuple[np.ndarray, float, bool]:
    """The unit of a direction, the share of it that is taken first, and whether its curvature says what to expect.

    A direction without curvature of its own is measured by the coordinate that it moves most: in standard errors given
    the others where these are small, so that columns of any scale are alike.  In logarithms and logits a step is at most 1.
    """
    if not np.isfinite(information).all():
        information = np.where(np.isfinite(information), information, 0.0)
    curvature = float(vector @ information @ vector)
    diagonal = np.maximum(information.diagonal(), 0.0)
    plain = np.maximum(1.0, np.abs(u))
    size = float(np.max(np.abs(vector) / plain))
    least = max(1e-14 * size**2, 1e-11 * float(vector**2 @ diagonal))
    steep = bool(np.isfinite(curvature) and curvature > least)
    if steep:
        unit = vector / np.sqrt(curvature)
    else:
        scale = np.where(diagonal > 0, np.minimum(plain, 1.0 / np.sqrt(np.where(diagonal > 0, diagonal, 1.0))), plain)
        unit = vector / float(np.max(np.abs(vector) / scale))
    slope = abs(float(score @ unit))
    if not np.isfinite(slope):
        slope = abs(float(np.nan_to_num(score) @ unit))
    farthest = float(np.max(np.abs(unit[bent]), initial=0.0)) if bent is not None else 0.0
    return unit, 1.0 / max(slope, farthest, 1.0), steep


def _points(u: np.ndarray, units: list[np.ndarray]) -> np.ndarray:
    """The points (2, m, p) of both sides of a direction."""
    return u + np.asarray(units)[:, None, :] * STEPS[:, None]


def first_points(
    vector: np.ndarray, u: np.ndarray, score: np.ndarray, information: np.ndarray, space: Space
) -> np.ndarray:
    """The points (m, p) at which :func:`probe` asks for the log-likelihood first, to the last bit."""
    unit, first, _ = _unit(vector, u, score, information, curved(space))
    return np.clip(_points(u, [first * unit, -first * unit]), space.lower, space.upper).reshape(-1, u.size)


def plainly_falls(values: np.ndarray, value: float) -> np.ndarray:
    """Flags (k,) of directions that :func:`probe` would find to fall on both sides, from the values (k, m) it asks for first.

    Enough, not needed: all values are finite, both sides fall by more than any rounding, and none rises beyond it.
    """
    with np.errstate(invalid="ignore"):
        change = values.reshape(len(values), 2, -1) - value
        noise = 1e-8 + 1e-10 * abs(value)
        falls = change.min(axis=2) < -max(noise, FLAT)
        return np.asarray(
            np.isfinite(change).all(axis=(1, 2)) & falls.all(axis=1) & (change.max(axis=(1, 2)) <= 10.0 * noise)
        )


class _Ray(NamedTuple):
    """One side of a direction: its unit (p,), points (m, p), changes of the log-likelihood there (m,), NaN outside the
    box, and the falls (m,) that a proper maximum of this curvature would show."""

    unit: np.ndarray
    points: np.ndarray
    change: np.ndarray
    expected: np.ndarray


def _rays(
    unit: np.ndarray, first: float, steep: bool, u: np.ndarray, value: float, loglik: LogLik, space: Chart
) -> list[_Ray]:
    """Both sides of a direction, in units of ``first``, and from so near that the first points are finite, where that can be."""
    nearer = STEPS[0] / STEPS[-1]
    shrunk = np.full(2, first)
    for _ in range(4):
        units = [shrunk[0] * unit, -shrunk[1] * unit]
        points = _points(u, units)
        inside = np.all((points >= space.lower) & (points <= space.upper), axis=2)
        values = loglik(np.clip(points, space.lower, space.upper).reshape(-1, u.size)).reshape(inside.shape)
        change = np.where(inside, values - value, np.nan)
        lost = ~np.isfinite(change[:, :3]).all(axis=1)
        # one side alone only where its curvature says what to expect so near
        again = lost & (lost.all() | np.logical_and(steep, inside[:, :3].all(axis=1)))
        if not again.any():
            break
        shrunk[again] *= nearer
    none = np.full(STEPS.size, np.inf)
    return [_Ray(units[k], points[k], change[k], 0.5 * (shrunk[k] * STEPS) ** 2 if steep else none) for k in range(2)]


def _follow(
    u: np.ndarray,
    unit: np.ndarray,
    value: float,
    far: np.ndarray,
    gain: float,
    noise: float,
    loglik: LogLik,
    space: Chart,
) -> tuple[np.ndarray, float, bool, bool]:
    """A ray that still rises as steeply as at first, followed on: (farthest point, gain there, levels off, turned down).

    Far from a maximum any log-likelihood rises like a straight line for a while; only what rises until the numbers end is
    called unbounded.
    """
    for _ in range(4):
        unit = unit * STEPS[-1]
        points = u + np.outer(STEPS, unit)
        inside = ((points >= space.lower) & (points <= space.upper)).all(axis=1)
        change = np.where(inside, loglik(np.clip(points, space.lower, space.upper)) - value, np.nan)
        behaviour, best, last, levels = _side(change, noise, np.full(STEPS.size, np.inf))
        if behaviour in ("falls", "higher") and best > gain:
            return points[int(np.nanargmax(np.where(np.isfinite(change), change, -np.inf)))], best, True, True
        if behaviour in ("falls", "higher"):
            return far, gain, True, True
        if behaviour != "rises":
            break
        far, gain = points[last], best
        if levels:
            return far, gain, True, False
    return far, gain, False, False


def _lopsided(still: _Ray, other: _Ray, last: int, noise: float) -> bool:
    """The other side falls a hundred times as far as the curvature promises where this one has not moved: no maximum."""
    ratio = float(np.max(np.abs(other.unit)) / np.max(np.abs(still.unit)))
    near = STEPS * ratio <= STEPS[last]
    with np.errstate(invalid="ignore"):
        return bool((near & (other.change < -(100.0 * other.expected + 10.0 * noise))).any())


def _side(change: np.ndarray, noise: float, expected: np.ndarray) -> tuple[str, float, int, bool]:
    """(behaviour, largest gain, index of the last usable point, whether the gain levels off) along one side."""
    finite = np.isfinite(change)
    stop = int(np.argmin(finite)) if not finite.all() else change.size
    usable = change[:stop]
    if stop < 3:
        return "unknown", 0.0, max(stop - 1, 0), True
    gain, last = float(usable.max()), stop - 1
    if usable.min() < -noise:
        return "falls", max(gain, 0.0), last, True
    steps = np.diff(np.concatenate([[0.0], usable]))
    if (steps < -noise).any():
        return "higher", gain, last, True
    if gain <= noise:
        # no fall where a maximum of this curvature would show one; too near to tell otherwise
        return ("flat" if expected[last] > 10 * noise else "still"), max(gain, 0.0), last, True
    levels = bool(steps[-1] <= 0.75 * max(steps[-2], noise))
    return "rises", gain, last, levels
