"""Trust-region steps for methods with a curvature matrix, shared by Newton's method and BHHH.

At the kept point, with gradient g, curvature H and a diagonal scaling D, the next step minimises the model

    m(s) = g's + s'Hs / 2   subject to   |s|_D = sqrt(s'Ds) <= radius,

which is the Newton step if H is positive definite and that step is short enough: one factorisation. Otherwise the
trust-region subproblem is solved (`subproblem`), in a `while_loop` that runs only if it is needed; under `vmap`, as long as
one data set needs it.

    scaling      D_i is the largest |H_ii| so far (More 1978), so rescaling u changes nothing, and a radius of 1 is a
                 step whose curvature alone changes the mean log-likelihood by about half a unit.
    gain ratio   a step is accepted when the objective falls by more than 1e-4 of the predicted reduction. Where the predicted
                 reduction is below the rounding of f, it is accepted when the scores became smaller.
    large f      if f exceeds `LARGE`, the model is that of LARGE log f: g / f and H / f - gg' / f^2, times LARGE. Along
                 an exponential a Newton step has length 1, while the logarithm is linear and allows long
                 steps. Both have the same minima, and near a minimum both give the same step.
    bounds       coordinates at a bound with -g pointing across it are active and do not move (Bertsekas 1982); those
                 that a step would take across are set to the bound, and the others are solved for again.

The search stops when the decrement N = scale * g'H^-1 g is at most tol, H is safely positive definite, and one further full
step has been made to a point that passes the same test. The curvature along that step must not have vanished: on a likelihood
that is flat towards infinity N falls below any tolerance too, but each further step then loses the share 1 - 1/e of
the curvature (a quartic minimum loses 5/9), while near a regular maximum it loses nothing. If rounding allows no further
progress, the same step is made from the best point reached. With many rows, whose evaluations are expensive, a full step that
took the decrement from tol^(1/2) or less to tol^2 or less needs no confirmation: only at a maximum is convergence so fast.
From n = 100,000 rows on, tol^2 n / 100,000 is enough, where the estimates are as near to the maximum in units of the data.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from mlejax.linalg import rounding_unit
from mlejax.optimize.arrays import maximum, namespace, norm, not_, possible, scalar, select, solve_scaled, where
from mlejax.optimize.box import active_bounds, clip, outside
from mlejax.optimize.method import Count, Flag, Method, Point, Setting, Step, check_options
from mlejax.optimize.methods.subproblem import bounded_step, without
from mlejax.shapes import Bool, Either, Float, Scalar
from mlejax.status import End

__all__ = ["TrustRegion", "TrustState"]

LEAST_GAIN_RATIO = 1e-4
GROW, SHRINK = 3.0, 0.25
VANISHING = 0.7  # least share of the curvature along the last step that must be left after it
LARGE = 1000.0  # f, minus the mean log-likelihood, above which its logarithm is modelled
NO_MINIMUM = 1e-3  # part of the Newton step left by the model of the logarithm, below which that has no minimum
ROUNDING_LOSS = 1e-8  # log-likelihood that the confirming step may lose
PRECISION_TOL = 1e-6  # decrement that is good enough where rounding allows no better
MANY = 1000  # contributions from which on a step with quadratic convergence needs no confirmation
VERY_MANY = 1e5  # contributions above which the decrement after such a step may grow with their number
SURE = 1e-7  # tolerance above which such a step must still reach SURE^2: the end is within 1e-7 standard errors
BELOW_ROUNDING, STALLED_AFTER = 5, 40  # turns
NONE = np.int32(0)
RUNNING, CONVERGED, PRECISION_FLOOR, STALLED, SINGULAR, DIVERGED = (
    np.int32(end) for end in (End.RUNNING, End.CONVERGED, End.PRECISION_FLOOR, End.STALLED, End.SINGULAR, End.DIVERGED)
)


class TrustState(NamedTuple):
    """State between turns.

    Attributes:
        scaling: the diagonal D, shape (p,).
        radius: radius of the trust region in that scaling, ().
        step: next step from the kept point, not evaluated yet, shape (p,).
        predicted: reduction of f that the quadratic model predicts for it, ().
        length: length |s|_D of that step, ().
        full: whether it is a full Newton step, ().
        confirming: whether it is the last one, which confirms convergence, ().
        newton_decrement: Newton decrement at the kept point, log-likelihood units, ().
        rejected: number of steps rejected in a row, ().
        below_rounding: number of evaluations in a row with a predicted reduction below the rounding error of f, ().
    """

    scaling: Float[Either, " p"]
    radius: Scalar
    step: Float[Either, " p"]
    predicted: Scalar
    length: Scalar
    full: Flag
    confirming: Flag
    newton_decrement: Scalar
    rejected: Count
    below_rounding: Count


class Judgement(NamedTuple):
    """Decision about a new point.

    Attributes:
        accepted: whether it is accepted, ().
        below_rounding: whether the predicted reduction was below the rounding error of f, ().
        radius: the new radius, ().
        rejected: the new number of steps rejected in a row, ().
    """

    accepted: Flag
    below_rounding: Flag
    radius: Scalar
    rejected: Count


class Proposal(NamedTuple):
    """The next step from a point.

    Attributes:
        step: the step, (p,).
        predicted: reduction of f that the quadratic model predicts, ().
        length: its length |s|_D, ().
        full: whether it is a full Newton step, ().
        newton_decrement: Newton decrement at the point, log-likelihood units, (); inf unless positive definite.
        definite: whether the curvature matrix at the point is positive definite, ().
    """

    step: Float[Either, " p"]
    predicted: Scalar
    length: Scalar
    full: Flag
    newton_decrement: Scalar
    definite: Flag


class TrustRegion(Method):
    """Base class of methods with trust-region steps; a subclass has the options ``tol`` and ``max_steps``, and ``curvature``."""

    def __post_init__(self) -> None:
        check_options(self)

    def init(self, u: Float[Either, " p"]) -> TrustState:
        """Return the state before the first evaluation: step 0, radius 1."""
        zero, one, infinite = (scalar(x, u.dtype) for x in (0.0, 1.0, np.inf))
        vector, no = namespace(u).zeros(u.shape, u.dtype), np.False_
        return TrustState(vector, one, vector, zero, zero, no, no, infinite, NONE, NONE)

    def propose(self, state: TrustState, kept: Point) -> Float[Either, " p"]:
        """Return the kept point plus the next step, (p,)."""
        return kept.u + state.step

    def update(self, state: TrustState, kept: Point, new: Point, setting: Setting) -> tuple[TrustState, Step]:
        """Accept or reject the new point, then find the next step from the point that is kept; arguments as in `Method.update`.

        Status CONVERGED after the confirming step, or, with many rows, after a step of quadratic convergence; DIVERGED if the
        curvature vanished along the confirming step; PRECISION_FLOOR, after it or without progress, if only rounding prevents
        a smaller decrement, otherwise STALLED without progress; SINGULAR where the model is flat and not convex.
        """
        later = kept.f < np.inf  # the start has been evaluated
        accepted, below_rounding, radius, rejected = _judge(state, kept, new, setting)
        nearest = select(accepted, new, kept)
        scaling, weight, radius = _rescaled(state.scaling, radius, kept, nearest, accepted, setting)
        # where f is lost in rounding, the confirming step is made from the best point reached
        precision = maximum(PRECISION_TOL, setting.scale * _rounding(_level(nearest.f)))
        enough = where(state.below_rounding >= BELOW_ROUNDING, precision, self.tol)
        step, predicted, length, full, decrement, definite = _propose(nearest, weight, radius, enough, setting)
        below_tolerance = definite & (decrement <= enough)

        # the step to the new point was the confirming one, and its end passes the same test
        confirmed = state.confirming & accepted & below_tolerance
        lasting = confirmed & _curvature_lasts(kept, new) if possible(confirmed) else confirmed
        worse = lasting & (decrement > state.newton_decrement)  # by rounding only: both ends pass the test
        no_progress = below_rounding & (decrement >= 0.5 * state.newton_decrement)
        turns = where(no_progress, state.below_rounding + 1, NONE)
        stalled = (turns >= BELOW_ROUNDING + 3) | (rejected >= STALLED_AFTER) | (state.confirming & (rejected > 0))
        flat = (predicted <= 0.5 * self.tol / setting.scale) & (predicted >= 0) & (radius >= 1.0)
        small = min(self.tol, SURE)
        quadratic = below_tolerance & accepted & state.full & later & (setting.scale >= MANY)
        least = where(setting.scale > VERY_MANY, setting.scale / VERY_MANY, 1.0) * small**2
        least = where(least < SURE**2, least, SURE**2)
        quadratic = quadratic & (state.newton_decrement <= small**0.5) & (decrement <= least)

        status = where(definite & (decrement <= precision), PRECISION_FLOOR, STALLED)
        status = where(stalled, status, RUNNING)
        status = where(not_(definite) & (rejected == 0) & flat, SINGULAR, status)
        status = where(quadratic, CONVERGED, status)
        if possible(confirmed):
            reached = where(decrement <= self.tol, CONVERGED, PRECISION_FLOOR)
            status = where(confirmed, where(lasting, reached, DIVERGED), status)
        after = TrustState(scaling, radius, step, predicted, length, full, below_tolerance, decrement, rejected, turns)
        return after, Step(accepted & not_(worse), status, accepted, decrement)


def _curvature_lasts(kept: Point, new: Point) -> Flag:
    """True if the curvature along the step from ``kept`` to ``new`` is at its end at least 0.7 of that at its beginning."""
    s: Either = new.u - kept.u
    return s.dot(new.H.dot(s)) >= VANISHING * s.dot(kept.H.dot(s))


def _level(f: Scalar) -> Scalar:
    """Return the function of f that the quadratic model approximates: f, or LARGE (1 + log(f / LARGE)) if f exceeds LARGE."""
    large = f > LARGE
    return where(large, LARGE * (1.0 + namespace(f).log(maximum(f, LARGE) / LARGE)), f) if possible(large) else f


def _slope_of_level(f: Scalar) -> Scalar:
    """Return the derivative of `_level` by f: 1, or LARGE / f if f exceeds LARGE."""
    return LARGE / maximum(f, LARGE) if possible(f > LARGE) else 1.0


def _rounding(level: Any) -> Scalar:
    """Return a bound on the rounding error of the objective at this `_level`, (); smaller changes are not significant."""
    return 50.0 * rounding_unit(level.dtype) * maximum(1.0, abs(level))


def _judge(state: TrustState, kept: Point, new: Point, setting: Setting) -> Judgement:
    """Accept or reject the new point, and adapt the radius; arguments are those of `TrustRegion.update`.

    The start is accepted; the confirming step if f does not grow beyond rounding; a step whose predicted reduction is below
    rounding if the scaled gradient became smaller too; any other by its gain ratio. A step to a point where f is not finite is
    never accepted.
    """
    predicted: Any = state.predicted
    first, finite = kept.f == np.inf, new.f < np.inf
    before = _level(where(first, 0.0, kept.f))
    rounding = _rounding(before)
    gain = before - _level(new.f)
    below_rounding = finite & (abs(predicted) <= rounding) & not_(first)
    gain_ratio = gain / where(predicted > 0, predicted, 1.0)
    accepted = (predicted > 0) & (gain_ratio > LEAST_GAIN_RATIO)
    if possible(below_rounding):
        quieter = (gain >= -10.0 * rounding) & not_(_scores_grew(state.scaling, kept, new, setting))
        accepted = where(below_rounding, quieter, accepted)
    no_loss = gain >= -maximum(10.0 * rounding, ROUNDING_LOSS / setting.scale)
    accepted = finite & (where(state.confirming, no_loss, accepted) | first)

    gain_ratio = where(below_rounding, 1.0, gain_ratio)
    at_radius = state.length > 0.9 * state.radius
    radius = where(gain_ratio < 0.25, SHRINK * state.length, state.radius)
    grown = where(gain_ratio < 0.9, 2.0, GROW) * state.radius
    radius = where((gain_ratio > 0.75) & at_radius, grown, radius)
    radius = where(accepted, radius, SHRINK * where(state.length < state.radius, state.length, state.radius))
    radius = where(first | state.confirming, state.radius, radius)
    rejected = where(accepted, NONE, state.rejected + 1)
    return Judgement(accepted, below_rounding, radius, rejected)


def _scores_grew(scaling: Float[Either, " p"], kept: Point, new: Point, setting: Setting) -> Flag:
    """True if the squared norm of the gradient, divided by the root of ``scaling`` and without active coordinates, is larger at
    the new point than at the kept one.
    """
    size = lambda point: without(point.g, _active(point, setting)) ** 2
    return ((size(new) - size(kept)) / _positive(scaling)).sum() > 0


def _rescaled(
    scaling: Float[Either, " p"],
    radius: Scalar,
    kept: Point,
    nearest: Point,
    accepted: Flag,
    setting: Setting,
) -> tuple[Float[Either, " p"], Float[Either, " p"], Scalar]:
    """Return the diagonal scaling after an evaluation, (p,), its square root, (p,), and the radius in that scaling, ().

    Args:
        scaling, radius: those before.
        kept: the point kept before the evaluation.
        nearest: the point kept after it.
        accepted: whether the new point was accepted; otherwise the scaling stays.
        setting: the bounds.
    """
    first = kept.f == np.inf
    slope = _slope_of_level(nearest.f)
    diagonal: Any = nearest.H.diagonal()
    size = abs(diagonal) * slope
    scaling = _positive(where(accepted, maximum(size, scaling), scaling))
    root = namespace(scaling).sqrt(scaling)
    # coming from a plateau the scaling jumps: a radius in its old units would take many turns to recover
    length = norm((nearest.u - kept.u) * root)
    last = where(accepted & not_(first), SHRINK * where(length < 1.0, length, 1.0), 0.0)
    radius = maximum(radius, last)
    if possible(first):
        gradient = without(nearest.g, _active(nearest, setting)) * slope
        radius = where(first, maximum(1.0, 0.1 * norm(gradient / root)), radius)
    return scaling, root, radius


def _propose(point: Point, weight: Float[Either, " p"], radius: Scalar, enough: Scalar, setting: Setting) -> Proposal:
    """Return the next step: the Newton step if it lies within radius and bounds, else the solution of the trust-region
    subproblem.

    A step of steepest descent is returned if the solution predicts no reduction because of the bounds, and NaN if the subproblem
    has to be solved but the setting does not allow it (``allow_trust_region_solve``).

    Args:
        point: the kept point.
        weight: square root of the scaling, (p,).
        radius: radius of the trust region, ().
        enough: decrement up to which the Newton step is taken whatever its length, ().
        setting: bounds and scale.
    """
    u, f, g, H = point
    active = _active(point, setting)
    x, product, definite = solve_scaled(_among_free(H, active), without(g, active))
    newton = without(-x, active)
    decrement = where(definite, setting.scale * product, np.inf)

    # the model of the logarithm has the Newton step of f, lengthened (Sherman & Morrison), or no minimum at all
    large, left = f > LARGE, scalar(1.0, g.dtype)
    if possible(large):
        safe, slope = maximum(f, LARGE), _slope_of_level(f)
        left = where(large, 1.0 - product / safe, 1.0)
        newton = newton / where(left < NO_MINIMUM, 1.0, left)
        H = slope * (H - where(large, 1.0 / safe, 0.0) * g[:, None] * g[None, :])
        g = slope * g

    length = norm(newton * weight)
    # the confirming step is always whole
    full = definite & (left >= NO_MINIMUM) & ((length <= radius) | (decrement <= enough))
    if setting.lower is not None:
        full = full & ~outside(u + newton, setting).any()
    allowed = setting.allow_trust_region_solve
    needed = not_(full) if allowed is None else not_(full) & allowed
    s = newton
    if possible(needed):
        s = bounded_step(Point(u, f, g, H), active, (needed, newton), weight, radius, setting)
        length = norm(s * weight)
    predicted = -s.dot(g + 0.5 * H.dot(s))
    if setting.lower is not None:
        # a step cut by the box may predict no reduction: then steepest descent in the scaling, cut in the same way
        down = -without(g, active) / weight**2
        down = down * (radius / maximum(norm(down * weight), np.finfo(u.dtype).tiny))
        down = clip(u + down, setting) - u
        cut = not_(predicted > 0) & not_(full)
        s = where(cut, down, s)
        predicted, length = where(cut, -s.dot(g + 0.5 * H.dot(s)), predicted), norm(s * weight)
    if allowed is not None:
        s = where(full | allowed, s, np.nan)
    return Proposal(s, predicted, length, full & (left > 0.9), decrement, definite)


def _active(point: Point, setting: Setting) -> Bool[Either, " p"] | None:
    """Return `active_bounds` of a point, (p,), or None if the setting has no bounds, so that no code for them is compiled."""
    return None if setting.lower is None else active_bounds(point, setting)


def _positive(x: Either) -> Any:
    """Return x with entries that are not positive replaced by 1."""
    return where(x > 0, x, 1.0)


def _among_free(H: Float[Either, "p p"], active: Bool[Either, " p"] | None) -> Float[Either, "p p"]:
    """Return H (p, p) with the rows and columns of the active coordinates replaced by those of the identity; H itself if
    ``active`` is None.
    """
    if active is None:
        return H
    xp = namespace(H)
    free = ~active
    return where(free[:, None] & free[None, :], H, xp.eye(H.shape[0], dtype=H.dtype))
