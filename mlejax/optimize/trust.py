"""Trust-region steps for methods with a curvature matrix: what Newton's method and BHHH share.

At the kept point, with gradient g, curvature H and a diagonal metric D, the next step minimises the model

    m(s) = g's + s'Hs / 2   subject to   |s|_D = sqrt(s'Ds) <= radius,

which is the plain Newton step wherever H is positive definite and that step is short enough: one factorisation.
Otherwise s solves (H + tD) s = -g for the t >= 0 that meets the radius (More & Sorensen 1983), through the eigenvalues
of D^-1/2 H D^-1/2; a zero gradient at an indefinite H gets a step along the most negative eigenvalue. That part sits
in a `while_loop` that runs only when needed: under `vmap`, as long as some lane needs it.

    metric   D_i is the largest |H_ii| met so far (More 1978), so rescaling u changes nothing, and a radius of 1 is a
             step that the curvature alone would make worth about half a unit of mean log-likelihood.
    gain     a step is kept when the objective falls by more than 1e-4 of what the model promised. Where the promise
             drowns in the rounding of f, it is kept when the scores got smaller instead.
    far off  where f exceeds FAR, the model is that of FAR log f instead: g / f and H / f - gg' / f^2, times FAR. Down
             an exponential a Newton step only ever moves by 1, while the logarithm is straight there and takes long
             steps. A maximum is one of both, and near it both give the same step.
    box      coordinates at an edge with the gradient pointing outwards are held (Bertsekas 1982); those that a step
             would take across are put on the edge, and the others are solved for again.
    plateau  a direction of negative curvature that promises next to nothing is not followed to the radius.

It stops when the decrement N = scale * g'H^-1 g is at most tol, H is safely positive definite, and one further full
step has been made whose end passes the same test. The curvature along that step must not have faded: on a likelihood
that is flat towards infinity N falls below any tolerance too, but each further step then loses the share 1 - 1/e of
the curvature (a quartic minimum loses 5/9), where near a maximum it loses nothing. Where rounding allows no further
progress, the same step is made from as near as it got.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import numpy as np

from mlejax.linalg import pivot_floor
from mlejax.optimize.arrays import arrays
from mlejax.optimize.box import clip, outward
from mlejax.optimize.contract import Point, Setting, Update
from mlejax.status import End

__all__ = ["TrustState", "start", "update"]

GAIN = 1e-4  # share of the promised fall that a step must deliver
GROW, SHRINK = 3.0, 0.25
FADE = 0.7  # least share of the curvature along the last step that must be left after it
FAR = 1000.0  # f, minus the mean log-likelihood, above which its logarithm is modelled
FAINT = 0.01  # share of the fall below which a direction of negative curvature is not followed to the radius
WORSE = 1e-8  # log-likelihood that the confirming step may lose to rounding
NEARLY = 1e-6  # decrement that is good enough where rounding allows no better
PATIENCE_FLOOR, PATIENCE_STALL = 5, 40


class TrustState(NamedTuple):
    """Memory between turns.

    Attributes:
        metric: D, shape (p,).
        radius: of the trust region in that metric.
        promised: fall that the model promised for the pending step.
        length: of the pending step in the metric.
        full: whether the pending step is a whole Newton step.
        confirming: whether the pending step is the last, confirming one.
        decrement: at the kept point.
        rejected: steps rejected in a row, int32.
        idle: turns in a row whose promise drowned in rounding, int32.
    """

    metric: Any
    radius: Any
    promised: Any
    length: Any
    full: Any
    confirming: Any
    decrement: Any
    rejected: Any
    idle: Any


class _Judged(NamedTuple):
    accepted: jax.Array
    drowned: jax.Array
    state: TrustState


class _Step(NamedTuple):
    s: jax.Array
    promised: jax.Array
    length: jax.Array
    full: jax.Array
    decrement: jax.Array
    definite: jax.Array


def start(u0: Any) -> TrustState:
    """Memory before the first evaluation; u0 has shape (p,)."""
    xp = arrays(u0)
    dtype = u0.dtype
    return TrustState(
        metric=xp.zeros(u0.shape, dtype),
        radius=xp.scalar(1.0, dtype),
        promised=xp.scalar(0.0, dtype),
        length=xp.scalar(0.0, dtype),
        full=xp.scalar(False, bool),
        confirming=xp.scalar(False, bool),
        decrement=xp.scalar(np.inf, dtype),
        rejected=xp.integer(0),
        idle=xp.integer(0),
    )


def update(tol: float, state: TrustState, old: Point, new: Point, first: Any, finite: Any, setting: Setting) -> Update:
    """One turn: judge the new point, then propose the next from the one that is kept."""
    xp = arrays(new.u)
    judged = _judge(state, old, new, first, finite, setting)
    accepted = judged.accepted
    kept = Point(*(xp.where(accepted, b, a) for a, b in zip(old, new, strict=True)))
    state = _measure(judged.state, old, kept, accepted, first, setting)
    # where f drowns in rounding the confirming step is made from as near as one gets
    nearly = xp.maximum(NEARLY, setting.scale * _noise(kept.f))
    enough = xp.where(state.idle >= PATIENCE_FLOOR, nearly, tol)
    step = _propose(kept, state, enough, setting)
    calm = step.definite & (step.decrement <= enough)

    # the confirming step: was the pending one, is the next one
    confirmed = state.confirming & accepted & calm
    s = new.u - old.u
    faded = s @ (new.H @ s) < FADE * (s @ (old.H @ s))  # of the step as it was rounded, which may be none at all
    back = confirmed & ~faded & (step.decrement > state.decrement)  # rounding only: both ends pass the test
    kept = Point(*(xp.where(back, a, b) for a, b in zip(old, kept, strict=True)))

    gain_left = 0.5 * tol / setting.scale
    idle = xp.where(judged.drowned & ~(step.decrement < 0.5 * state.decrement), state.idle + 1, 0)
    worn = (idle >= PATIENCE_FLOOR + 3) | (state.rejected >= PATIENCE_STALL) | (state.confirming & ~accepted)
    singular = ~step.definite & (state.rejected == 0) & (step.promised <= gain_left)
    singular = singular & (step.promised >= 0) & (state.radius >= 1.0)
    ended = xp.where(step.definite & (step.decrement <= nearly), int(End.PRECISION_FLOOR), int(End.STALLED))
    status = xp.where(worn, ended, int(End.RUNNING))
    status = xp.where(singular, int(End.SINGULAR), status)
    reached = xp.where(step.decrement <= tol, int(End.CONVERGED), int(End.PRECISION_FLOOR))
    status = xp.where(confirmed, xp.where(faded, int(End.DIVERGED), reached), status)

    trial = clip(kept.u + step.s, setting)
    return Update(
        kept=kept,
        accepted=accepted,
        trial=trial,
        decrement=step.decrement,
        full=state.full & (state.rejected == 0) & ~first,
        status=status,
        inner=state._replace(
            promised=step.promised,
            length=step.length,
            full=step.full,
            confirming=calm,
            decrement=step.decrement,
            idle=xp.integer(idle),
        ),
    )


def _level(f: jax.Array) -> jax.Array:
    """What the model models: f, or FAR (1 + log(f / FAR)) above FAR."""
    xp = arrays(f)
    return xp.where(f > FAR, FAR * (1.0 + xp.log(xp.where(f > FAR, f, FAR) / FAR)), f)


def _slope_of_level(f: jax.Array) -> jax.Array:
    """Derivative of `_level`: 1, or FAR / f above FAR."""
    xp = arrays(f)
    return xp.where(f > FAR, FAR / xp.where(f > FAR, f, FAR), 1.0)


def _noise(f: jax.Array) -> jax.Array:
    """Rounding in the objective: changes below this mean nothing."""
    xp = arrays(f)
    return 50.0 * float(np.finfo(f.dtype).eps) * xp.maximum(1.0, xp.abs(_level(f)))


def _norm(x: jax.Array) -> jax.Array:
    return arrays(x).sqrt((x * x).sum())


def _judge(state: TrustState, old: Point, new: Point, first: Any, finite: Any, setting: Setting) -> _Judged:
    """Whether to keep the new point; radius and count of rejections that follow from it."""
    xp = arrays(new.u)
    before = xp.where(first, 0.0, old.f)
    noise = _noise(before)
    gain = _level(before) - _level(new.f)
    drowned = finite & (xp.abs(state.promised) <= noise) & ~first
    scores = lambda point: xp.where(outward(point.u, point.g, setting), 0.0, point.g) ** 2
    louder = ((scores(new) - scores(old)) / xp.where(state.metric > 0, state.metric, 1.0)).sum() > 0
    quieter = (gain >= -10.0 * noise) & ~louder
    ratio = gain / xp.where(state.promised > 0, state.promised, 1.0)
    good = (state.promised > 0) & (ratio > GAIN)
    accepted = xp.where(drowned, quieter, good)
    accepted = xp.where(state.confirming, gain >= -xp.maximum(10.0 * noise, WORSE / setting.scale), accepted)
    accepted = finite & (accepted | first)

    ratio = xp.where(drowned, 1.0, ratio)
    at_edge = state.length > 0.9 * state.radius
    radius = xp.where(ratio < 0.25, SHRINK * state.length, state.radius)
    radius = xp.where((ratio > 0.75) & at_edge, xp.where(ratio < 0.9, 2.0, GROW) * state.radius, radius)
    refused = SHRINK * xp.minimum(state.length, state.radius)
    radius = xp.where(first | state.confirming, state.radius, xp.where(accepted, radius, refused))
    rejected = xp.integer(xp.where(accepted, 0, state.rejected + 1))
    return _Judged(accepted, drowned, state._replace(radius=radius, rejected=rejected))


def _measure(state: TrustState, old: Point, kept: Point, accepted: Any, first: Any, setting: Setting) -> TrustState:
    """Metric at the kept point, and the radius carried over to it."""
    xp = arrays(kept.u)
    size = xp.abs(kept.H.diagonal()) * _slope_of_level(kept.f)
    metric = xp.where(accepted, xp.where(first, size, xp.maximum(size, state.metric)), state.metric)
    metric = xp.where(metric > 0, metric, 1.0)
    root = xp.sqrt(metric)
    pull = xp.where(outward(kept.u, kept.g, setting), 0.0, kept.g) * _slope_of_level(kept.f)
    opening = xp.maximum(1.0, 0.1 * _norm(pull / root))
    # coming from a plateau the metric jumps: a radius of its old units would take many turns to recover
    last = xp.where(accepted, SHRINK * xp.minimum(1.0, _norm((kept.u - old.u) * root)), 0.0)
    return state._replace(metric=metric, radius=xp.where(first, opening, xp.maximum(state.radius, last)))


def _propose(point: Point, state: TrustState, enough: Any, setting: Setting) -> _Step:
    """The step from a point: a Newton step if it may be taken, else one from `_bounded`."""
    xp = arrays(point.u)
    u, f, g, H = point
    held = outward(u, g, setting)
    slope = xp.where(held, 0.0, g)
    diagonal = H.diagonal()
    usable = held | (diagonal > 0)
    root = xp.sqrt(xp.where(usable & ~held, diagonal, 1.0))
    free = ~held
    both = free[:, None] & free[None, :]
    eye = xp.eye(u.shape[0], dtype=u.dtype)
    unit = xp.where(both, H / root[:, None] / root[None, :], eye)
    x, definite = xp.solve_spd(unit, slope / root)
    definite = definite & usable.all()
    newton = xp.where(held, 0.0, -x / root)
    decrement = xp.where(definite, setting.scale * (x * (slope / root)).sum(), np.inf)

    # the model of the logarithm has the Newton step of f, lengthened (Sherman & Morrison), or no lowest point at all
    far = f > FAR
    left = xp.where(far, 1.0 - (x * (slope / root)).sum() / xp.where(far, f, 1.0), 1.0)
    bottomless = left < 1e-3
    newton = newton / xp.where(bottomless, 1.0, left)
    level = _slope_of_level(f)
    g, slope = level * g, level * slope
    H = level * (H - xp.where(far, point.g[:, None] / xp.where(far, f, 1.0) * point.g[None, :], 0.0))

    weight = xp.sqrt(state.metric)
    length = _norm(newton * weight)
    short = (length <= state.radius) | (decrement <= enough)  # the confirming step is whole in any case
    whole = definite & ~bottomless & short & ~_crossing(u + newton, setting).any()
    s = _bounded(u, g, H, held, ~whole, newton, weight, state.radius, setting)
    promised = -(g @ s + 0.5 * s @ (H @ s))
    if setting.lower is not None:
        # a step bent by the box may promise nothing: then steepest descent in the metric, bent in the same way
        down = -slope / state.metric
        down = down * (state.radius / xp.maximum(_norm(down * weight), np.finfo(u.dtype).tiny))
        down = clip(u + down, setting) - u
        bent = ~(promised > 0) & ~whole
        s = xp.where(bent, down, s)
        promised = xp.where(bent, -(g @ s + 0.5 * s @ (H @ s)), promised)
    return _Step(s, promised, _norm(s * weight), whole & (left > 0.9), decrement, definite)


def _crossing(u: jax.Array, setting: Setting) -> jax.Array:
    """Coordinates outside the box, shape (p,), bool."""
    if setting.lower is None or setting.upper is None:
        return arrays(u).zeros(u.shape, bool)
    return (u < setting.lower) | (u > setting.upper)


def _bounded(
    u: jax.Array,
    g: jax.Array,
    H: jax.Array,
    held: jax.Array,
    needed: jax.Array,
    newton: jax.Array,
    weight: jax.Array,
    radius: Any,
    setting: Setting,
) -> jax.Array:
    """The step within radius and box; `newton` as it is where no such step is needed.

    Coordinates that cross the box are put on its edge and the rest is solved for again, at most p times.
    """
    xp = arrays(u)
    p = u.shape[0]

    def more(state: tuple[Any, ...]) -> Any:
        return state[0]

    def solve(state: tuple[Any, ...]) -> tuple[Any, ...]:
        _, passes, H, fixed, s = state
        free = ~fixed
        gradient = xp.where(free, (g + H @ xp.where(fixed, s, 0.0)) / weight, 0.0)
        both = free[:, None] & free[None, :]
        scaled = xp.where(both, H / weight[:, None] / weight[None, :], xp.eye(p, dtype=u.dtype))
        s = xp.where(free, _within(scaled, gradient, radius) / weight, s)
        crossing = free & _crossing(u + s, setting)
        s = xp.where(crossing, clip(u + s, setting) - u, s)
        again = crossing.any() & (passes < p)
        # H is carried, and given up at the end: what depends on unchanging arrays only is moved out of a loop by XLA,
        # and so would be computed whether or not the loop runs
        return again, passes + 1, xp.where(again, H, 0.0), fixed | crossing, s

    first = xp.where(needed, 0.0, newton)
    return xp.while_loop(more, solve, (needed, xp.integer(0), H, held, first))[4]


def _within(A: jax.Array, g: jax.Array, radius: jax.Array) -> jax.Array:
    """Minimiser of g's + s'As/2 over |s| <= radius, through the eigenvalues of A (at most about 1 in size)."""
    xp = arrays(A)
    values, vectors = xp.eigh(A)
    slopes = vectors.T @ g
    tiny = np.finfo(A.dtype).tiny
    size = _norm(slopes)
    # directions with neither slope nor curvature beyond rounding: stay put there rather than wander
    rounding = pivot_floor(A.shape[0], A.dtype)
    blank = (xp.abs(values) <= 10.0 * rounding) & (xp.abs(slopes) <= rounding * xp.maximum(1.0, size))
    values = xp.where(blank, 1.0, values)
    slopes = xp.where(blank, 0.0, slopes)
    # negative curvature is followed to the radius only where that pays: a plateau, whose curvature is negative but
    # faint, would otherwise be crossed at full length while the fall comes from elsewhere
    height = xp.abs(slopes)
    reach = height * radius + 0.5 * xp.abs(values) * radius**2
    convex = xp.where(values > 0, xp.minimum(0.5 * height**2 / xp.where(values > 0, values, 1.0), height * radius), 0.0)
    faint = (values < 0) & (reach < FAINT * convex.sum())
    values = xp.where(faint, xp.maximum(-values, height / radius), values)
    lowest = values.min()
    # at a saddle the slope along the most negative curvature may vanish: give it a little, with the sign it has
    push = 1e-6 * xp.maximum(size, -lowest * radius)
    most = (values == lowest) & (lowest < 0) & (xp.abs(slopes) < push)
    slopes = xp.where(most, xp.where(slopes < 0, -push, push), slopes)
    gaps = values - lowest

    # (A + (t - lowest) I) s = -g; t is bracketed by the slope along the lowest eigenvalue alone, and by all of the
    # slope
    floor = xp.maximum(lowest, tiny)
    low = xp.log(xp.maximum(xp.where(gaps <= 0, xp.abs(slopes), 0.0).max() / radius, floor))
    high = xp.maximum(xp.log(xp.maximum(_norm(slopes) / radius, tiny)), low)

    def halve(_: Any, bracket: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        low, high = bracket
        middle = 0.5 * (low + high)
        long = _norm(slopes / (gaps + xp.exp(middle))) > radius
        return xp.where(long, middle, low), xp.where(long, high, middle)

    low, high = xp.fori_loop(0, 30, halve, (low, high))
    interior = (lowest > 0) & (_norm(slopes / (gaps + floor)) <= radius)
    return vectors @ (-slopes / (gaps + xp.where(interior, floor, xp.exp(high))))
