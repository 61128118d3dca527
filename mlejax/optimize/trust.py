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
             would take across are put on the edge, and the others are solved for again. Without a box none of it is there.
    plateau  a direction of negative curvature that promises next to nothing is not followed to the radius.

It stops when the decrement N = scale * g'H^-1 g is at most tol, H is safely positive definite, and one further full
step has been made whose end passes the same test. The curvature along that step must not have faded: on a likelihood
that is flat towards infinity N falls below any tolerance too, but each further step then loses the share 1 - 1/e of
the curvature (a quartic minimum loses 5/9), where near a maximum it loses nothing. Where rounding allows no further
progress, the same step is made from as near as it got. Of many rows, whose evaluations cost something, a full step that
took the decrement from tol^(1/2) or less to tol^2 or less needs no other: nothing but a maximum is approached so fast.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any, NamedTuple

import jax
import numpy as np

from mlejax.linalg import pivot_floor, rounding_unit
from mlejax.optimize.arrays import HOST, arrays
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
MANY = 1000  # contributions from which on a step that fell far enough confirms itself
SURE = 1e-7  # tolerance above which that takes no larger fall to be enough: the end is within 1e-7 standard errors
PATIENCE_FLOOR, PATIENCE_STALL = 5, 40
NONE = np.int32(0)
RUNNING, CONVERGED, PRECISION_FLOOR, STALLED, SINGULAR, DIVERGED = (
    np.int32(end) for end in (End.RUNNING, End.CONVERGED, End.PRECISION_FLOOR, End.STALLED, End.SINGULAR, End.DIVERGED)
)


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


def start(u0: Any) -> TrustState:
    """Memory before the first evaluation; u0 has shape (p,)."""
    xp = arrays(u0)
    return _at_rest(u0.shape, u0.dtype) if xp is HOST else _started(xp, u0.shape, u0.dtype)


@lru_cache(maxsize=64)
def _at_rest(shape: tuple[int, ...], dtype: Any) -> TrustState:
    """`start` on the host, shared by all fits: nothing can be written into it."""
    state = _started(HOST, shape, dtype)
    state.metric.setflags(write=False)
    return state


def _started(xp: Any, shape: tuple[int, ...], dtype: Any) -> TrustState:
    return TrustState(
        metric=xp.zeros(shape, dtype),
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
    accepted, drowned, radius, rejected = _judge(xp, state, old, new, first, finite, setting)
    nearest = xp.either(accepted, new, old)
    metric, weight, radius = _measure(xp, state.metric, radius, old, nearest, accepted, first, setting)
    # where f drowns in rounding the confirming step is made from as near as one gets
    nearly = lambda: xp.maximum(NEARLY, setting.scale * _noise(xp, _level(xp, nearest.f)))
    slow = state.idle >= PATIENCE_FLOOR
    enough = tol if xp.never(slow) else xp.where(slow, nearly(), tol)
    s, promised, length, full, decrement, definite = _propose(xp, nearest, weight, radius, enough, setting)
    calm = definite & (decrement <= enough)

    # the confirming step: was the pending one, is the next one
    confirmed = state.confirming & accepted & calm
    faded = confirmed if xp.never(confirmed) else confirmed & _faded(old, new)
    back = confirmed & ~faded & (decrement > state.decrement)  # rounding only: both ends pass the test
    kept = xp.either(back, old, nearest)

    idle = xp.where(drowned & ~(decrement < 0.5 * state.decrement), state.idle + 1, NONE)
    worn = (idle >= PATIENCE_FLOOR + 3) | (rejected >= PATIENCE_STALL) | (state.confirming & ~accepted)
    singular = ~definite & (rejected == 0) & (promised <= 0.5 * tol / setting.scale) & (promised >= 0) & (radius >= 1.0)
    status: Any = RUNNING
    if not xp.never(worn):
        near = definite & (decrement <= nearly())
        status = xp.where(worn, xp.where(near, PRECISION_FLOOR, STALLED), status)
    status = xp.where(singular, SINGULAR, status)
    small = min(tol, SURE)
    sealed = calm & accepted & state.full & ~first & (state.decrement <= small**0.5) & (decrement <= small**2)
    sealed = sealed & (setting.scale >= MANY)
    if not xp.never(sealed):
        status = xp.where(sealed, CONVERGED, status)
    if not xp.never(confirmed):
        reached = xp.where(decrement <= tol, CONVERGED, PRECISION_FLOOR)
        status = xp.where(confirmed, xp.where(faded, DIVERGED, reached), status)
    return Update(
        kept=kept,
        accepted=accepted,
        trial=clip(kept.u + s, setting),
        decrement=decrement,
        full=state.full & (rejected == 0) & ~first,
        status=status,
        inner=TrustState(metric, radius, promised, length, full, calm, decrement, rejected, idle),
    )


def _faded(old: Point, new: Point) -> jax.Array:
    """Whether little curvature is left along the last step, as it was rounded, which may be none at all."""
    s = new.u - old.u
    return s @ (new.H @ s) < FADE * (s @ (old.H @ s))


def _level(xp: Any, f: jax.Array) -> jax.Array:
    """What the model models: f, or FAR (1 + log(f / FAR)) above FAR."""
    far = f > FAR
    return f if xp.never(far) else xp.where(far, FAR * (1.0 + xp.log(xp.where(far, f, FAR) / FAR)), f)


def _slope_of_level(xp: Any, f: jax.Array) -> Any:
    """Derivative of `_level`: 1, or FAR / f above FAR."""
    far = f > FAR
    return 1.0 if xp.never(far) else xp.where(far, FAR / xp.where(far, f, FAR), 1.0)


def _noise(xp: Any, level: jax.Array) -> jax.Array:
    """Rounding in the objective where it has this `_level`: changes below it mean nothing."""
    return 50.0 * rounding_unit(level.dtype) * xp.maximum(1.0, xp.abs(level))


def _held(point: Point, setting: Setting) -> jax.Array | None:
    """Coordinates at an edge that descent would push out of the box, shape (p,), bool; None without a box."""
    return None if setting.lower is None else outward(point.u, point.g, setting)


def _open(x: jax.Array, held: jax.Array | None) -> jax.Array:
    """x (p,), 0 in the coordinates that are held."""
    return x if held is None else arrays(x).where(held, 0.0, x)


def _judge(
    xp: Any, state: TrustState, old: Point, new: Point, first: Any, finite: Any, setting: Setting
) -> tuple[Any, Any, Any, Any]:
    """Whether to keep the new point, whether its gain drowned; radius and count of rejections that follow from it."""
    before = xp.where(first, 0.0, old.f)
    level = _level(xp, before)
    noise = _noise(xp, level)
    gain = level - _level(xp, new.f)
    drowned = finite & (xp.abs(state.promised) <= noise) & ~first
    ratio = gain / xp.where(state.promised > 0, state.promised, 1.0)
    accepted = (state.promised > 0) & (ratio > GAIN)
    if not xp.never(drowned) and not xp.surely(state.confirming):
        quieter = (gain >= -10.0 * noise) & ~_louder(xp, state.metric, old, new, setting)
        accepted = xp.where(drowned, quieter, accepted)
    if not xp.never(state.confirming):
        accepted = xp.where(state.confirming, gain >= -xp.maximum(10.0 * noise, WORSE / setting.scale), accepted)
    accepted = finite & (accepted | first)

    radius = state.radius
    if not xp.surely(first | state.confirming):
        ratio = xp.where(drowned, 1.0, ratio)
        at_edge = state.length > 0.9 * state.radius
        radius = xp.where(ratio < 0.25, SHRINK * state.length, state.radius)
        radius = xp.where((ratio > 0.75) & at_edge, xp.where(ratio < 0.9, 2.0, GROW) * state.radius, radius)
        refused = SHRINK * xp.minimum(state.length, state.radius)
        radius = xp.where(first | state.confirming, state.radius, xp.where(accepted, radius, refused))
    return accepted, drowned, radius, xp.where(accepted, NONE, state.rejected + 1)


def _louder(xp: Any, metric: jax.Array, old: Point, new: Point, setting: Setting) -> jax.Array:
    """Whether the scores are larger at the new point, in the metric."""
    scores = lambda point: _open(point.g, _held(point, setting)) ** 2
    return ((scores(new) - scores(old)) / xp.positive(metric)).sum() > 0


def _measure(
    xp: Any, metric: Any, radius: Any, old: Point, kept: Point, accepted: Any, first: Any, setting: Setting
) -> tuple[Any, Any, Any]:
    """Metric at the kept point, its square root, and the radius carried over to it."""
    slope = _slope_of_level(xp, kept.f)
    if not xp.never(accepted):
        size = xp.abs(kept.H.diagonal()) * slope
        metric = xp.where(accepted, xp.where(first, size, xp.maximum(size, metric)), metric)
    metric = xp.positive(metric)
    root = xp.sqrt(metric)
    if not xp.surely(first):
        # coming from a plateau the metric jumps: a radius of its old units would take many turns to recover
        last = SHRINK * xp.minimum(1.0, xp.norm((kept.u - old.u) * root))
        radius = xp.maximum(radius, xp.where(accepted, last, 0.0))
    if not xp.never(first):
        pull = _open(kept.g, _held(kept, setting)) * slope
        radius = xp.where(first, xp.maximum(1.0, 0.1 * xp.norm(pull / root)), radius)
    return metric, root, radius


def _propose(xp: Any, point: Point, weight: Any, radius: Any, enough: Any, setting: Setting) -> tuple[Any, ...]:
    """The step from a point: a Newton step if it may be taken, else one from `_bounded`.

    Returns:
        The step (p,), the fall that the model promises, the step's length in the metric, whether it is a whole Newton
        step; the decrement at the point, and whether the curvature is positive definite there.
    """
    u, f, g, H = point
    held = _held(point, setting)
    x, product, definite = xp.solve_scaled(_among(H, held), _open(g, held))
    newton = _open(-x, held)
    decrement = xp.where(definite, setting.scale * product, np.inf)

    # the model of the logarithm has the Newton step of f, lengthened (Sherman & Morrison), or no lowest point at all
    far = f > FAR
    fit, left = definite, 1.0
    if not xp.never(far):
        safe = xp.where(far, f, 1.0)
        left = xp.where(far, 1.0 - product / safe, 1.0)
        bottomless = left < 1e-3
        newton = newton / xp.where(bottomless, 1.0, left)
        fit = definite & ~bottomless
        level = _slope_of_level(xp, f)
        H = level * (H - xp.where(far, g[:, None] / safe * g[None, :], 0.0))
        g = level * g

    length = xp.norm(newton * weight)
    whole = fit & ((length <= radius) | (decrement <= enough))  # the confirming step is whole in any case
    if setting.lower is not None:
        whole = whole & ~_crossing(u + newton, setting).any()
    s = newton
    if not xp.surely(whole):
        needed = ~whole if setting.bends is None else ~whole & setting.bends
        s = _bounded(u, g, H, held, needed, newton, weight, radius, setting)
    promised = -(g.dot(s) + (0.5 * s).dot(H.dot(s)))
    if setting.lower is not None:
        # a step bent by the box may promise nothing: then steepest descent in the metric, bent in the same way
        down = -_open(g, held) / weight**2
        down = down * (radius / xp.maximum(xp.norm(down * weight), np.finfo(u.dtype).tiny))
        down = clip(u + down, setting) - u
        bent = ~(promised > 0) & ~whole
        s = xp.where(bent, down, s)
        promised = xp.where(bent, -(g @ s + 0.5 * s @ (H @ s)), promised)
    if setting.bends is not None:
        s = xp.where(whole | setting.bends, s, np.nan)
    if not xp.surely(whole):
        length = xp.norm(s * weight)
    return s, promised, length, whole & (left > 0.9), decrement, definite


def _among(H: jax.Array, held: jax.Array | None) -> jax.Array:
    """H (p, p) with the rows and columns of the coordinates that are held replaced by those of the identity."""
    if held is None:
        return H
    xp = arrays(H)
    free = ~held
    return xp.where(free[:, None] & free[None, :], H, xp.eye(H.shape[0], dtype=H.dtype))


def _crossing(u: jax.Array, setting: Setting) -> jax.Array:
    """Coordinates outside the box, shape (p,), bool."""
    if setting.lower is None or setting.upper is None:
        return arrays(u).zeros(u.shape, bool)
    return (u < setting.lower) | (u > setting.upper)


def _bounded(
    u: jax.Array,
    g: jax.Array,
    H: jax.Array,
    held: jax.Array | None,
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

    first = xp.where(needed, xp.zeros(u.shape, u.dtype), newton)
    fixed = xp.zeros(u.shape, bool) if held is None else held
    return xp.while_loop(more, solve, (needed, xp.integer(0), H, fixed, first))[4]


def _within(A: jax.Array, g: jax.Array, radius: jax.Array) -> jax.Array:
    """Minimiser of g's + s'As/2 over |s| <= radius, through the eigenvalues of A (at most about 1 in size)."""
    xp = arrays(A)
    values, vectors = xp.eigh(A)
    slopes = vectors.T @ g
    tiny = np.finfo(A.dtype).tiny
    size = xp.norm(slopes)
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
    high = xp.maximum(xp.log(xp.maximum(xp.norm(slopes) / radius, tiny)), low)

    def halve(_: Any, bracket: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        low, high = bracket
        middle = 0.5 * (low + high)
        long = xp.norm(slopes / (gaps + xp.exp(middle))) > radius
        return xp.where(long, middle, low), xp.where(long, high, middle)

    low, high = xp.fori_loop(0, 30, halve, (low, high))
    interior = (lowest > 0) & (xp.norm(slopes / (gaps + floor)) <= radius)
    return vectors @ (-slopes / (gaps + xp.where(interior, floor, xp.exp(high))))
