"""What the log-likelihood does around the point where a fit ended: ray tests and eigen-analysis, on the host.

Runs only on fits that did not end cleanly.  A direction is tested in units of its own standard error (d' I d = 1): at a
proper maximum the log-likelihood falls by t^2/2 on both sides, so that a side on which it does not fall over hundreds of
such units shows a plateau, and two such sides a flat direction.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple, TypeVar

import numpy as np

from mlejax.covariance import NULL_EIGENVALUE
from mlejax.fit import words
from mlejax.parameters import Space
from mlejax.verdict import Direction

STEPS = 2.0 ** np.arange(-2, 10)
FLAT = 1e-3  # change of the log-likelihood over 512 standard errors of what moves, below which a direction is flat
MAX_COORDINATES = 12  # up to so many parameters every one is followed by itself, not only those in doubt

LogLik = Callable[[np.ndarray], np.ndarray]
T = TypeVar("T")
# yields points (m, p) in u, is sent the log-likelihoods (m,) there, and returns what it found
Asks = Generator[np.ndarray, np.ndarray, T]


def answer_together(
    asks: Mapping[int, Asks[T]], loglik: Callable[[dict[int, np.ndarray]], dict[int, np.ndarray]]
) -> dict[int, T]:
    """What each of the questioners found, where all that wait for log-likelihoods get them at one time.

    ``loglik`` takes and gives one array each.  Where the numbers end along a ray is no cause for warnings.
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
            answers = loglik(questions) if questions else {}
    return found


def answered(asks: Asks[T], loglik: LogLik) -> T:
    """What one questioner found."""
    return answer_together({0: asks}, lambda questions: {0: loglik(questions[0])})[0]


def scaled(information: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Information (..., p, p) scaled to a unit diagonal and the scale d (..., p), 0 where the diagonal is not positive."""
    diagonal = np.einsum("...ii->...i", information)
    positive = np.isfinite(diagonal) & (diagonal > 0)
    d = np.where(positive, 1.0 / np.sqrt(np.where(positive, diagonal, 1.0)), 0.0)
    return information * (d[..., :, None] * d[..., None, :]), d


def suspicious_directions(
    u: np.ndarray, score: np.ndarray, information: np.ndarray, free: np.ndarray, origin: np.ndarray, believed: np.ndarray
) -> list[np.ndarray]:
    """For each of L ends the directions in u (k, p) worth a ray test: zero rows, weak and negative eigenvectors, the Newton
    step, the path so far, and the coordinates: all where there are few, else those whose error is beyond belief.

    Args:
        u, score, free, origin: (L, p).
        information: (L, p, p).
        believed: the largest errors (L, p) that are believed.
    """
    p, eye = u.shape[1], np.eye(u.shape[1])
    s, d = scaled(np.where(np.isfinite(information), information, 0.0))
    d = np.where(free, d, 0.0)
    curves = d > 0
    # what is set apart gets an eigenvalue of its own, beyond those of all others
    apart = ~(curves[:, :, None] & curves[:, None, :])
    s = np.where(apart, (2.0 * p + 2.0) * eye, np.nan_to_num(s))
    values, vectors = np.linalg.eigh(s)
    inverse = (vectors / np.maximum(np.abs(values), 1e-12)[:, None, :]) @ vectors.swapaxes(1, 2)
    newton = d[:, None, :] * (inverse @ (d * np.nan_to_num(score))[:, :, None]).swapaxes(1, 2)
    plain = np.maximum(1.0, np.abs(u))[:, :, None] * eye
    # weak eigenvectors are followed themselves, not every coordinate that has a part in them
    strong = np.where(values < NULL_EIGENVALUE, 0.0, 1.0 / np.maximum(np.abs(values), 1e-12))
    errors = d * np.sqrt(np.einsum("lik,lk->li", vectors**2, strong))
    alone = free & ((free.sum(axis=1, keepdims=True) <= MAX_COORDINATES) | (errors > believed))
    path = np.where(free, u - origin, 0.0)[:, None, :]
    whole = np.concatenate([plain, d[:, None, :] * vectors.swapaxes(1, 2), newton, path, plain], axis=1)
    always = np.ones((len(u), 1), bool)
    wanted = np.concatenate(
        [free & ~curves, values < NULL_EIGENVALUE, curves.any(axis=1, keepdims=True), always, alone], axis=1
    )
    wanted &= np.isfinite(whole).all(axis=2) & (np.abs(whole).max(axis=2, initial=0.0) > 0.0)
    return [rows[keep] for rows, keep in zip(whole, wanted, strict=True)]


def without(vectors: Iterable[np.ndarray], known: Sequence[np.ndarray]) -> list[np.ndarray]:
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
    return Direction("flat", unit, 0.0, value, partial(words.describe_flat, u, unit, space, fixed))


class Chart(NamedTuple):
    """The coordinates in which rays are straight: their box, and the way to u of many points (m, p)."""

    lower: np.ndarray
    upper: np.ndarray
    to_u: Callable[[np.ndarray], np.ndarray]


def chart_of(space: Space) -> Chart:
    """Rays straight in u."""
    return Chart(space.lower, space.upper, lambda points: points)


class Look(NamedTuple):
    """A direction as a ray test takes it.

    Attributes:
        unit: the unit of the direction (p,).
        first: the share of it that is taken first.
        steep: its curvature says what to expect.
        values: the log-likelihoods (2 m,) at the first points of both sides, once they are known.
    """

    unit: np.ndarray
    first: float
    steep: bool
    values: np.ndarray | None = None


def probe_all(
    looks: Sequence[Look],
    u: np.ndarray,
    value: float,
    information: np.ndarray,
    space: Space,
    fixed: Any,
    chart: Chart | None = None,
) -> Asks[tuple[Direction, ...]]:
    """Follow the log-likelihood along plus and minus each direction, from a point (p,) where it is ``value``.

    ``chart``: other coordinates than u, in which ``u``, the directions and ``information`` are given.
    """
    if not looks:
        return ()
    straight = chart_of(space) if chart is None else chart
    points = first_points(looks, np.broadcast_to(u, (len(looks), u.size)), straight)
    values = (yield straight.to_u(points.reshape(-1, u.size))).reshape(len(looks), -1)
    # outside of a box nothing is known of a side
    falls = np.zeros(len(looks), bool) if space.boxed else plainly_falls(values, np.full(len(looks), value))
    found = []
    for look, first, fell in zip(looks, values, falls, strict=True):
        if fell:
            found.append(Direction("falls", look.unit))
        else:
            direction = yield from probe(look._replace(values=first), u, value, information, space, fixed, chart)
            found.append(direction)
    return tuple(found)


def probe(
    look: Look,
    u: np.ndarray,
    value: float,
    information: np.ndarray,
    space: Space,
    fixed: Any,
    chart: Chart | None = None,
) -> Asks[Direction]:
    """Follow the log-likelihood along plus and minus one direction.

    Where it still slopes the unit is at most what a straight line would need for a gain of 1: with next to no curvature
    (down a spike) the standard error is far too long a step.
    """
    straight = chart_of(space) if chart is None else chart
    noise = 1e-8 + 1e-10 * abs(value)
    if not look.steep and _lost(look.unit, information):
        noise = max(noise, FLAT)
    rays = yield from _rays(look, u, value, straight)
    sides = [_side(ray.change, noise, ray.expected) for ray in rays]
    # steps that are lost in the rounding of u say nothing
    moves = bool((np.abs(rays[0].unit) * STEPS[-1] > 1e-9 * np.abs(u)).any())

    def in_u(point: np.ndarray) -> np.ndarray:
        return straight.to_u(point[None])[0]

    at = in_u(u)
    curving = information if chart is None else None
    for i, (ray, (behaviour, gain, last, bounded), (other, *_)) in enumerate(
        zip(rays, sides, sides[::-1], strict=True)
    ):
        if behaviour == "still" and other == "falls" and moves and _lopsided(ray, rays[1 - i], last, noise):
            behaviour = "flat"
        if behaviour == "rises" or (behaviour == "flat" and other in ("falls", "unknown") and moves):
            far = np.clip(ray.points[last], straight.lower, straight.upper)
            turned = False
            if behaviour == "rises" and not bounded:
                far, gain, bounded, turned = yield from _follow(u, ray.unit, value, far, gain, noise, straight)
            far = in_u(far)
            described = partial(words.describe_movement, at, far, space, fixed, curving)
            along = ray.unit if chart is None else far - at
            if turned:
                return Direction("higher", along, gain, words=described, point=far)
            return Direction("rises", along, gain, value + gain, described, bounded)
    if sides[0][0] == "flat" and sides[1][0] == "flat" and moves:
        flat = partial(words.describe_flat, at, rays[0].unit, space, fixed, curving)
        return Direction("flat", rays[0].unit, 0.0, value, flat)
    gain = max(side[1] for side in sides)
    if gain > 10 * noise:
        highest = np.stack([np.where(np.isfinite(ray.change), ray.change, -np.inf) for ray in rays])
        side, k = np.unravel_index(int(np.argmax(highest)), highest.shape)
        ray, best = rays[side], in_u(rays[side].points[k])
        along = ray.unit if chart is None else best - at
        described = partial(words.describe_movement, at, best, space, fixed, curving)
        return Direction("higher", along, gain, words=described, point=best)
    return Direction("falls" if any(s[0] == "falls" for s in sides) else "unknown", look.unit)


def _lost(vector: np.ndarray, information: np.ndarray) -> bool:
    """The coordinates that the direction moves are known well one by one, and their information cancels along it to rounding."""
    diagonal = np.diag(information)
    alone = vector**2 * np.where(np.isfinite(diagonal), diagonal, 0.0)
    return bool(np.isfinite(information).all() and alone.sum() > 0 and (alone > 1e-3 * alone.sum()).sum() >= 2)


def first_looks(
    vectors: Sequence[np.ndarray] | np.ndarray,
    u: np.ndarray,
    score: np.ndarray,
    information: np.ndarray,
    bent: np.ndarray | None,
) -> list[Look]:
    """The directions (k,) of (p,) as ray tests take them; ``u``, ``score``, ``information`` of all, or of each (k, ...).

    A direction without curvature of its own is measured by the coordinate that it moves most: in standard errors given
    the others where these are small, so that columns of any scale are alike.  In logarithms and logits (flags ``bent``) a
    step is at most 1.
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
    lost = ~np.isfinite(slope)
    if lost.any():
        slope[lost] = np.abs(np.einsum("kp,kp->k", np.nan_to_num(score[lost]), unit[lost]))
    farthest = np.abs(unit[:, bent]).max(axis=1, initial=0.0) if bent is not None else np.zeros(k)
    first = 1.0 / np.maximum(np.maximum(slope, farthest), 1.0)
    return [Look(*each) for each in zip(unit, first.tolist(), steep.tolist(), strict=True)]


def _points(u: np.ndarray, units: list[np.ndarray]) -> np.ndarray:
    """The points (2, m, p) of both sides of a direction."""
    return u + np.asarray(units)[:, None, :] * STEPS[:, None]


def first_points(looks: Sequence[Look], u: np.ndarray, space: Space | Chart) -> np.ndarray:
    """The points (k, 2 m, p) at which :func:`probe` asks for the log-likelihood first, from u (k, p)."""
    units = np.array([look.first for look in looks])[:, None] * np.array([look.unit for look in looks])
    points = u[:, None, None, :] + np.stack([units, -units], axis=1)[:, :, None, :] * STEPS[:, None]
    return np.clip(points, space.lower, space.upper).reshape(len(looks), -1, u.shape[1])


def plainly_falls(values: np.ndarray, value: np.ndarray) -> np.ndarray:
    """Flags (k,) of directions that :func:`probe` would find to fall on both sides, from the values (k, 2 m) it asks for
    first and those (k,) where it begins.

    Enough, not needed: all values are finite, both sides fall by more than any rounding, and none rises beyond it.
    """
    with np.errstate(invalid="ignore"):
        change = values.reshape(len(values), 2, -1) - value[:, None, None]
        noise = 1e-8 + 1e-10 * np.abs(value)
        falls = change.min(axis=2) < -np.maximum(noise, FLAT)[:, None]
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


def _rays(look: Look, u: np.ndarray, value: float, space: Chart) -> Asks[list[_Ray]]:
    """Both sides of a direction, in units of ``first``, and from so near that the first points are finite, where that can be."""
    nearer = STEPS[0] / STEPS[-1]
    steep, values = look.steep, look.values
    shrunk = np.full(2, look.first)
    for _ in range(4):
        units = [shrunk[0] * look.unit, -shrunk[1] * look.unit]
        points = _points(u, units)
        inside = np.all((points >= space.lower) & (points <= space.upper), axis=2)
        if values is None:
            values = yield space.to_u(np.clip(points, space.lower, space.upper).reshape(-1, u.size))
        change = np.where(inside, values.reshape(inside.shape) - value, np.nan)
        values = None
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
    space: Chart,
) -> Asks[tuple[np.ndarray, float, bool, bool]]:
    """A ray that still rises as steeply as at first, followed on: (farthest point, gain there, levels off, turned down).

    Far from a maximum any log-likelihood rises like a straight line for a while; only what rises until the numbers end is
    called unbounded.
    """
    for _ in range(4):
        unit = unit * STEPS[-1]
        points = u + np.outer(STEPS, unit)
        inside = ((points >= space.lower) & (points <= space.upper)).all(axis=1)
        values = yield space.to_u(np.clip(points, space.lower, space.upper))
        change = np.where(inside, values - value, np.nan)
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
