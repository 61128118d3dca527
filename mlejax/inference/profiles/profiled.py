"""Fits prepared for profile likelihood, and the search for their confidence limits.

All limits are computed as one batch, on the same data for one fit, on each fit's own data for many.  Newton's method is tried
first; a limit where it fails, or where the profile looks irregular, is found by steps along the profile from the estimate.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np

from mlejax.batch import Batch
from mlejax.execution import float64
from mlejax.fit import Fit
from mlejax.inference.profiles.ends.constrained_fits import side_by_side
from mlejax.inference.profiles.ends.crossings import Points, empty, solve
from mlejax.inference.profiles.ends.walks import Stop, walk
from mlejax.inference.profiles.paths import Order, Paths, newton
from mlejax.inference.profiles.targets import Coordinate, Target
from mlejax.objective import DataSetsEvaluator, Evaluation, PointsEvaluator, Spec
from mlejax.shapes import Bool, Float, Host, Int

MOST_PARAMETERS = 500
MANY_PRODUCTS = 100_000  # of columns, over all rows, from which scores cost much less than information
IRREGULAR = 3.0  # ratio of slopes of the signed root beyond which an end is walked to


@dataclass(frozen=True, eq=False)
class Profiled:
    """L >= 1 fits of one specification, with the function that evaluates them.

    Attributes:
        spec: specification of the fits.
        evaluate: (points u (m, p), numbers of their fits (m,), order) -> their log-likelihoods and scores, and of order 2 their
            information, in the optimiser's units: with weights divided by their scale.
        u: estimates (L, p).
        loglik: log-likelihoods at the estimates, in these units, including the term of bias reduction if there is one (L,).
        information: information at the estimates in u, in these units (L, p, p).
        scale: scale of the weights, by which these units are multiplied to give the summed log-likelihood (L,).
        lags: True if information costs so much more than scores that it is not evaluated at every point.
    """

    spec: Spec
    evaluate: Callable[[Float[Host, "m p"], Int[Host, " m"], Order], Evaluation]
    u: Float[Host, "L p"]
    loglik: Float[Host, " L"]
    information: Float[Host, "L p p"]
    scale: Float[Host, " L"]
    lags: bool = False


def profiled_fit(fit: Fit) -> Profiled:
    """Return one fit as a `Profiled` with L = 1, which is evaluated at many points by one program."""
    with float64():
        points = PointsEvaluator(fit.spec, fit.loaded.problem.data.trimmed(), fit.fixed)

        def evaluate(u: Float[Host, "m p"], sets: Int[Host, " m"], order: Order) -> Evaluation:
            with float64():
                return points.evaluate(u, order)

        u, scale = fit.u[None], fit.loaded.scale
        if fit.interior.all() and fit.spec.reduction is None:  # the score is 0 there, so that information is a tensor
            assert fit.information is not None
            assert fit.jacobian is not None
            information = fit.jacobian.T @ fit.information @ fit.jacobian / scale
            loglik, information = np.array([fit.llf / scale]), 0.5 * (information + information.T)[None]
        else:
            at = evaluate(u, np.zeros(1, np.int64), 2)
            assert at.information is not None
            loglik, information = at.loglik, at.information
    # on a bound the curvature tells whether a parameter leaves it: it is evaluated at every point
    lags = (
        bool(fit.interior.all())
        and fit.spec.reduction is None
        and fit.loaded.problem.data.n_padded * u.size**2 >= MANY_PRODUCTS
    )
    return Profiled(fit.spec, evaluate, u, loglik, information, np.array([scale]), lags)


def profiled_batch(batch: Batch) -> Profiled:
    """Return the fits of a batch as a `Profiled`; a data set that is requested at several points takes several calls."""
    spec, sets = batch.spec, batch.sets
    assert batch.budget is not None
    assert batch.ends.information is not None
    many = DataSetsEvaluator(spec, sets, batch.budget, batch.fixed, sets.hyper, (False, sets.own_hyper))

    def evaluate(u: Float[Host, "m p"], which: Int[Host, " m"], order: Order) -> Evaluation:
        p = u.shape[1]
        out = Evaluation(u, np.empty(len(u)), np.empty((len(u), p)), np.empty((len(u), p, p)))
        turn = _occurrence(which)
        with float64():
            for k in range(int(turn.max(initial=-1)) + 1):
                mine = np.flatnonzero(turn == k)
                found = many.evaluate(u[mine], order, which[mine])
                for whole, part in zip(out[1:], found[1:], strict=True):
                    whole[mine] = part  # type: ignore[index]
        return out

    ends = batch.ends
    return Profiled(
        spec, evaluate, ends.u, ends.loglik, np.asarray(ends.information), np.broadcast_to(sets.scale, len(sets))
    )


def _occurrence(which: Int[Host, " m"]) -> Int[Host, " m"]:
    """Return for each entry how often its value occurred before it, (m,)."""
    order = np.argsort(which, kind="stable")
    ranked = which[order]
    first = np.searchsorted(ranked, ranked)
    out = np.empty(len(which), np.int64)
    out[order] = np.arange(len(which)) - first
    return out


def make_paths(
    fits: Profiled,
    targets: Sequence[Target],
    which: Int[Host, "m q"],
    sets: Int[Host, " m"],
    direction: Float[Host, "m q"],
    drop: Float[Host, " m"],
) -> Paths:
    """Return paths from the estimates, scaled so that at rho = 1 the quadratic approximation of the profile log-likelihood has
    fallen by 1/2: one standard error (with sampling weights, for weights of mean 1).

    Args:
        fits: the fits.
        targets: the different targets.
        which: positions in ``targets`` of the targets of each path (m, q).
        sets: number of the fit of each path (m,).
        direction: direction of change of the targets (m, q), any length; kept as it is if the approximation does not fall.
        drop: difference between the log-likelihood at the estimate and the cut, in the optimiser's units (m,).
    """
    m, space = len(sets), fits.spec.space
    u, nothing = fits.u[sets], np.zeros(m)
    start = Paths(
        fits.evaluate, targets, which, sets, u, fits.loglik[sets], fits.loglik[sets] - drop, fits.information[sets],
        np.zeros_like(direction), direction, nothing + np.inf, space.lower, space.upper, np.zeros_like(u), fits.lags,
    )  # fmt: skip
    constraints = start.constraints(u)
    equations = newton(start, u, at_estimates(start), constraints)
    curvature = (equations.kappa1 * direction).sum(axis=1)
    with np.errstate(all="ignore"):
        unit = np.where(np.isfinite(curvature) & (curvature < 0), 1.0 / np.sqrt(-curvature), 1.0)
        direction = direction * unit[:, None]
        farthest = np.full(m, np.inf)
        for k in range(which.shape[1]):
            bounds = np.array([t.bounds for t in targets])[which[:, k]]
            bound = np.where(direction[:, k] > 0, bounds[:, 1], bounds[:, 0])
            room = (bound - constraints.values[:, k]) / direction[:, k]
            farthest = np.fmin(farthest, np.where(direction[:, k] == 0, np.inf, room))
        tangent = equations.d1 * unit[:, None]
    farthest = np.maximum(farthest, 0.0)
    return replace(start, origin=constraints.values, direction=direction, farthest=farthest, tangent=tangent)


def at_estimates(paths: Paths) -> Evaluation:
    """Return the evaluation at the estimates of all paths, with a score of 0 (also for coordinates at a bound)."""
    return Evaluation(paths.u0, paths.loglik0, np.zeros_like(paths.u0), paths.information0)


class Ends(NamedTuple):
    """Points where m profiles cross their cuts or end, and how the search ended.

    Attributes:
        status: m strings: ``finite``, ``infinite``, ``on the boundary``, ``higher maximum found`` or ``not computable``.
        points: the points where profiles cross their cuts; if the status is not ``finite``, the last evaluated point (NaN if
            no point was evaluated).
        limit: for an infinite limit, the log-likelihood that the profile approaches (m,).
    """

    status: list[str]
    points: Points
    limit: Float[Host, " m"]


def find_ends(paths: Paths) -> Ends:
    """Return the confidence limits of all paths, by Newton's method, or by a walk where that fails or is doubtful."""
    m, p = paths.u0.shape
    with np.errstate(all="ignore"):
        rho = np.sqrt(2.0 * (paths.loglik0 - paths.level))
        start = paths.u0 + np.minimum(rho, paths.farthest)[:, None] * paths.tangent
        usable = np.isfinite(start).all(axis=1) & (paths.farthest > 0)
    points = empty(m, p)
    first = np.flatnonzero(usable)
    if first.size:
        points.put(first, solve(paths.of(first), start[first]))
    doubtful = ~points.reached | _irregular(paths, points)
    status, limit = ["finite"] * m, np.full(m, np.nan)
    positions = np.flatnonzero(doubtful).tolist()
    stops = side_by_side({i: walk(paths.of(np.array([i]))) for i in positions}, paths.evaluate, paths.sets)
    for i, stop in stops.items():
        status[i], limit[i] = stop.status, stop.limit
        points.put(np.array([i]), empty(1, p) if stop.point is None else stop.point)
    return Ends(status, points, limit)


def _irregular(paths: Paths, points: Points) -> Bool[Host, " m"]:
    """Return True where the signed root of the profile is far from a straight line, so that an earlier crossing of the cut is
    possible, (m,): its mean slope from the estimate to the point differs from 1, or its slope at the point from the mean slope,
    by a factor of 3 or more.
    """
    z = np.sqrt(2.0 * (paths.loglik0 - paths.level))
    with np.errstate(all="ignore"):
        mean, last = z / points.rho, -points.slope / z
        straight = (np.abs(np.log(mean)) < np.log(IRREGULAR)) & (np.abs(np.log(last / mean)) < np.log(IRREGULAR))
    return np.asarray(~straight)


def on_bounds(paths: Paths, u: Float[Host, "m p"]) -> Bool[Host, " m"]:
    """Return True for each path at whose point u[i] a coordinate other than its targets is at a bound, (m,)."""
    bound = paths.on_bound(u)
    for k in range(paths.which.shape[1]):
        for i, number in enumerate(paths.which[:, k].tolist()):
            target = paths.targets[number]
            if isinstance(target, Coordinate):
                bound[i, target.j] = False
    return np.asarray(bound.any(axis=1))


def refused(fit: Fit) -> str:
    """Return the reason why a fit has no profile likelihood; empty if it has.

    That is: a penalty, bias reduction other than Jeffreys', no free parameter, more than 500 or no Hessian, or no maximum.
    """
    verdict, p = fit.verdict, fit.spec.space.n_free
    if fit.penalised is not None:
        return (
            "the log-likelihood of a penalised fit is not at its maximum, so that its profile has no chi-squared cut.  Fit "
            "without penalty=, or with bias_reduction='jeffreys', whose penalised profile is used"
        )
    reduction = fit.spec.reduction
    if reduction is not None and reduction.kind != "jeffreys":
        return f"bias_reduction={reduction.kind!r} maximises no likelihood that could be profiled; use 'jeffreys'"
    if p == 0:
        return "every parameter is fixed; leave one out of fixed="
    if p > MOST_PARAMETERS:
        return f"it needs the information matrix of all parameters; expected at most {MOST_PARAMETERS} parameters, got {p}"
    if fit.information is None:
        return "it needs the information matrix, which this fit does not have; use method='newton'"
    if not verdict.converged:
        return f"the fit did not end at a maximum ({verdict.code}: {verdict.statement})"
    return ""


__all__ = [
    "Ends",
    "Profiled",
    "Stop",
    "find_ends",
    "make_paths",
    "on_bounds",
    "profiled_batch",
    "profiled_fit",
    "refused",
]
