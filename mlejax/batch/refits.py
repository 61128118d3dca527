"""Refit one data set under many weight vectors, for bootstraps, the jackknife and cross-validation.

The rows are shared (:class:`mlejax.objective.Reweighted`).  A row of weight 0 is evaluated and multiplied by 0; a refit that
does not reach a clear maximum is run again with such rows replaced by a row of positive weight.

The one-step approximation takes a single Newton step from the estimate,

    u_b = u + ( sum_i w_bi H_i )^-1 sum_i w_bi s_i,

with s_i the scores and H_i minus the Hessians of the rows there: for all refits together two matrix products.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import jax
import numpy as np

from mlejax import optimize
from mlejax.batch.fitting import budget_for_largest
from mlejax.batch.sets import DataSets
from mlejax.data import Prepared
from mlejax.execution import compiled, float64
from mlejax.execution.chunking import Budget
from mlejax.fit.diagnose import clean, interior, is_clean, lost, near_a_bound, on_nearest_bounds, suspect
from mlejax.fit.finish.natural import in_theta, theta_and_params
from mlejax.fit.latents.labels import exchangeable, in_order, order_of
from mlejax.fit.maximise.maximise import maximise
from mlejax.linalg import scaled_inverse
from mlejax.objective import (
    ChunkedEvaluator,
    DataSetsEvaluator,
    Reweighted,
    SeparateEvaluator,
    Spec,
    Weights,
    objective_of,
)
from mlejax.objective.blocks import budget_for
from mlejax.optimize import Method, OptimizeResult
from mlejax.parameters import Space
from mlejax.shapes import Bool, Device, Either, Float, Host, PyTree
from mlejax.status import End

AT_THE_START = 1e-16  # a decrement this small after two steps or less: the start was the maximum
FALLEN = np.array([1.0, 1e-3, 1e-12, 1e-24])  # decrements that stand for those of such a search
FIRST_STEP_LIMIT = 20_000_000  # numbers in the derivatives of all rows
# Refits of so few, on so many rows in all, take less time one by one than the program for many takes to compile (3 to 12 s).
FEW, FEW_ROWS = 64, 5_000_000


@dataclass(frozen=True, eq=False)
class Refits:
    """Results of B refits: NumPy arrays with a leading axis B.

    Attributes:
        u, theta: estimates in unconstrained and in natural coordinates, (B, p).
        params: the user's structure, natural scale, arrays with a leading axis B.
        llf: weighted log-likelihoods, (B,); NaN for one-step refits.
        clean: whether the refit reached a clear maximum (as :func:`mlejax.fit.diagnose.clean`, without ray tests), (B,); for
            one-step refits whether the information is positive definite.
        end: ``End`` codes, (B,); RUNNING for one-step refits.
        n_steps: number of accepted steps, (B,).
        finished: False if Ctrl-C interrupted the refits; those not run have the code INTERRUPTED.
    """

    u: np.ndarray
    theta: np.ndarray
    params: PyTree
    llf: np.ndarray
    clean: np.ndarray
    end: np.ndarray
    n_steps: np.ndarray
    finished: bool = True


def refit(
    spec: Spec,
    method: Method,
    data: Prepared,
    weights: Weights,
    n_refits: int,
    u0: np.ndarray,
    fixed: Host | None,
    budget: Budget,
    hyper: PyTree = None,
) -> Refits:
    """Maximise the log-likelihood of one data set under many weight vectors.

    Args:
        spec: specification of the fit (``Fit.spec``).
        method: an optimiser object.
        data: data of the fit (``Fit.loaded.problem.data``), one data set.
        weights: (B, n) >= 0, one for each row or unit (padding may be left out), which include the fit's own weights as
            factors; or a function ``which (k,) -> (k, n)``, so that they need not all be in memory.
        n_refits: number B of refits.
        u0: starts, (p,) for all or (B, p): ``Fit.u`` for warm starts.
        fixed: values under ``fixed=``, (n_values,), or None.
        budget: limits of memory and threads, from ``mlejax.batch.budget(memory_limit, progress)``.
        hyper: second argument of the penalty, common to all; or None.

    Returns:
        The `Refits`, weighted log-likelihoods included.

    Raises:
        ValueError: a memory limit that is too small for the data.
    """
    with float64():
        starts = np.broadcast_to(np.asarray(u0, np.float64), (n_refits, spec.space.n_free))
        separate = not budget.given and n_refits <= FEW and n_refits * int(data.n) <= FEW_ROWS
        data = data if separate else data.trimmed()
        shared = Reweighted(jax.tree.map(np.asarray, data), weights, n_refits)
        kind = SeparateEvaluator if separate else DataSetsEvaluator
        near = None
        if not separate:
            budget = budget_for(spec, shared.data, shared.data_set_bytes(data.n_padded), fixed, hyper, budget)
            near = _first_steps(spec, method, shared, u0, fixed)
        evaluator = kind(spec, shared, budget, fixed, hyper)
        _, ends = maximise(evaluator, method, starts if near is None else near)
        ends, good = _ended(spec.space, ends, fixed, None if separate else budget)
        stopped = ends.status == int(End.INTERRUPTED)
        again = np.flatnonzero(~good & ~stopped)
        if again.size and not stopped.any() and data.mode != "whole":
            apart = kind(spec, replace(shared, own_rows=True), budget, fixed, hyper)
            ends.put(again, maximise(apart, method, starts, again)[1].of(again))
            ends, good = _ended(spec.space, ends, fixed, None if separate else budget)
        good = good & ~_digits_lost(evaluator, ends, good, starts)
        return _refits(spec.space, _relabelled(spec, ends, good, starts[0], data, fixed), good, fixed)


def refit_data(
    spec: Spec,
    method: Method,
    sets: DataSets,
    u0: np.ndarray,
    fixed: Host | None,
    budget: Budget,
    hyper: PyTree = None,
) -> Refits:
    """Maximise the log-likelihood of many data sets from one start u0 (p,), without ray tests or other starts.

    Args:
        spec, method, fixed, budget, hyper: as in :func:`refit`.
        sets: the data sets; unusable ones get NaN and the code START_NOT_FINITE.
        u0: the start, (p,), the same for all.
    """
    n = len(sets)
    with float64():
        starts = np.broadcast_to(np.asarray(u0, np.float64), (n, spec.space.n_free))
        budget = budget_for_largest(spec, sets, fixed, budget) if sets.usable.size else budget
        evaluator = DataSetsEvaluator(spec, sets, budget, fixed, hyper)
        _, ends = maximise(evaluator, method, starts, sets.usable)
        ends.status[list(sets.bad)] = int(End.START_NOT_FINITE)
        ends, good = _ended(spec.space, ends, fixed, budget)
        good = good & ~_digits_lost(evaluator, ends, good, starts)
        if good.any():
            ends = _relabelled(spec, ends, good, starts[0], sets.single(int(np.flatnonzero(good)[0])), fixed)
        return _refits(spec.space, ends, good, fixed)


def _relabelled(
    spec: Spec, ends: OptimizeResult, good: Bool[Host, " B"], u0: Float[Host, " p"], data: Prepared, fixed: Any
) -> OptimizeResult:
    """Return the results ``ends`` with latent classes sorted in each ``good`` one, if the model has classes that can be
    exchanged and they are sorted at the estimate u0, (p,); otherwise unchanged. ``data``: those of a fit, for tracing.
    """
    leaves = exchangeable(spec, u0, data, fixed)
    if leaves is None:
        return ends
    order = np.asarray(order_of(spec.space, spec.space.params_from_u(u0, fixed), leaves))
    return in_order(spec, ends, good, data, fixed) if (np.diff(order) > 0).all() else ends


def _digits_lost(
    evaluator: SeparateEvaluator | DataSetsEvaluator,
    ends: OptimizeResult,
    good: Bool[Host, " B"],
    starts: Float[Host, "B p"],
) -> Bool[Host, " B"]:
    """Return a mask, (B,), True for the ``good`` results that are suspect and at which rounding errors dominate.

    Args:
        evaluator: evaluator of all refits.
        ends, good: their results, and the mask of clear maxima, (B,).
        starts: their starts, (B, p).
    """
    spec, out = evaluator.spec, np.zeros(len(good), bool)
    for i in np.flatnonzero(good & suspect(evaluator, ends, starts, good)).tolist():
        one = ChunkedEvaluator(spec, evaluator.sets.single(i), evaluator.fixed, evaluator.hyper)
        out[i] = lost(one, ends.of(i))
    return out


def _refits(space: Space, ends: OptimizeResult, good: Host, fixed: Host | None) -> Refits:
    """Return the `Refits` made from results in u and the mask ``good`` of clear maxima; ``fixed`` as in `refit`."""
    theta, params = theta_and_params(space, ends.u, fixed)
    loglik, status, n_steps = (np.asarray(a) for a in (ends.loglik, ends.status, ends.n_steps))
    return Refits(ends.u, theta, params, loglik, good, status, n_steps, not (status == int(End.INTERRUPTED)).any())


def _first_steps(spec: Spec, method: Method, work: Reweighted, u0: np.ndarray, fixed: Host | None) -> np.ndarray | None:
    """Take the first Newton step of all refits from a common start u0, (p,), by one matrix product; return the points, (B, p).

    ``work``: the data, and the weights of all refits.
    Refits with a Newton decrement above 10 p + 20, or whose information is not positive definite, stay at the start.  None if
    this is not possible (starts of their own, another method, a model of the whole data, a penalty or bias reduction, bounds, no
    second derivatives by JAX) or would take more memory or time than it saves.
    """
    data, p = work.data, spec.space.n_free
    rows = data.n_padded * p * p
    if np.ndim(u0) != 1 or not isinstance(method, optimize.Newton) or data.mode == "whole" or rows > FIRST_STEP_LIMIT:
        return None
    if spec.adjusted or spec.space.boxed or spec.hessian != "autodiff" or rows > work.n * data.n_padded:
        return None
    scores, hessians = row_derivatives(spec, u0, data, fixed)
    columns = np.concatenate([scores, hessians.reshape(-1, p * p)], axis=1)
    out = np.empty((work.n, p))
    for begin in range(0, work.n, 1024):
        which = np.arange(begin, min(begin + 1024, work.n))
        steps, decrement = _steps(work.of(which)[:, : len(columns)] @ columns, p)
        out[which] = u0 + np.where((decrement <= 20.0 + 10.0 * p)[:, None], steps, 0.0)
    return out


def _steps(sums: Float[Host, "B k"], p: int) -> tuple[Float[Host, "B p"], Float[Host, " B"]]:
    """Return Newton steps, (B, p), and decrements, (B,), from sums of scores and information, (B, p + p^2); a step of 0 and a
    decrement of inf if the information is not finite and positive definite.
    """
    gradient, information = sums[:, :p], sums[:, p:].reshape(-1, p, p)
    diagonal = np.einsum("bii->bi", information)
    good = np.isfinite(sums).all(axis=1) & (diagonal > 0).all(axis=1)
    root = np.sqrt(np.where(good[:, None], diagonal, 1.0))
    scaled = np.where(good[:, None, None], information / root[:, :, None] / root[:, None, :], np.eye(p))
    good &= np.linalg.eigvalsh(scaled)[:, 0] > p * 1e-13
    scaled = np.where(good[:, None, None], scaled, np.eye(p))
    slope = np.where(good[:, None], gradient / root, 0.0)
    x = np.linalg.solve(scaled, slope[:, :, None])[:, :, 0]
    return x / root, np.where(good, (x * slope).sum(axis=1), np.inf)


def _ended(
    space: Space, ends: OptimizeResult, fixed: Host | None, budget: Budget | None
) -> tuple[OptimizeResult, Bool[Host, " B"]]:
    """Set coordinates within 1e-4 standard errors of a bound to it, and find which results are clear maxima.

    Clear maxima are those that `clean` accepts, and those at a bound where the score vanishes (`_maximum_on_bound`).  A search
    that began at the maximum has no decrements to compare: whether it converged faster than linearly is not tested.  Without
    second derivatives no coordinate is set, and none is a clear maximum.

    Args:
        space, fixed: layout of the parameters and values under ``fixed=``, as in `refit`.
        ends: results of the B searches.
        budget: its limits; None: each result is judged by itself, and no program is compiled for all.

    Returns:
        The results, and a mask, (B,), True for clear maxima.
    """
    if ends.information is None:
        return ends, np.zeros(len(ends.u), bool)
    if space.boxed:
        with np.errstate(invalid="ignore", divide="ignore"):
            errors = 1.0 / np.sqrt(np.maximum(np.einsum("lii->li", ends.information), 0.0))
            near = near_a_bound(ends.u, np.where(np.isfinite(errors), errors, 0.0), space)
        ends = ends._replace(u=on_nearest_bounds(ends.u, near, space))
    at_start = (ends.n_steps <= 2) & (ends.decrement >= 0) & (ends.decrement <= AT_THE_START)
    judged = ends._replace(decrements=np.where(at_start[:, None], FALLEN, ends.decrements))
    good = clean(judged, space, None if budget is None else in_theta(space, judged, fixed, budget))
    free = interior(space, ends.u)
    on_bound = np.flatnonzero(~good & ~free.all(axis=1) & (ends.status == int(End.CONVERGED)))
    for i in on_bound.tolist():
        good[i] = _maximum_on_bound(judged.of(i), space)
    return ends, good


def _maximum_on_bound(end: OptimizeResult, space: Space) -> bool:
    """True if the result ``end`` of one refit is a maximum at a bound where the score vanishes by symmetry (a standard deviation
    at 0).

    That is, the information is positive definite in the coordinates at the bound too, and it would be a clear maximum if the
    score there pointed across the bound.
    """
    free = interior(space, end.u)
    outward = np.where(end.u <= space.lower, -1.0, 1.0)
    pushing = outward * end.score
    scale = np.sqrt(np.abs(np.diag(end.information))) + 1e-300  # type: ignore[arg-type]
    inside = end._replace(score=np.where(free, end.score, outward * 1e6 * scale))
    if not (pushing > -1e-6 * scale)[~free].all():
        return False
    return scaled_inverse(np.asarray(end.information)).ok and is_clean(inside, space)


@partial(compiled, static=("spec",))
def _row_derivatives(spec: Spec, u: Either, data: Prepared, fixed: Either | None) -> tuple[Device, Device]:
    return objective_of(spec, data, fixed, None).row_derivatives(u)


def row_derivatives(spec: Spec, u: np.ndarray, data: Prepared, fixed: Host | None) -> tuple[np.ndarray, np.ndarray]:
    """Return the scores, (n, p), and minus the Hessians, (n, p, p), of every row or unit with respect to u, unweighted, at the
    point u, (p,); padding is left out. Not for models of the whole data.
    """
    with float64():
        scores, hessians = (np.asarray(a) for a in _row_derivatives(spec, u, data, fixed))
    n = int(data.n)
    return scores[:n], hessians[:n]


def one_step(
    spec: Spec,
    u: np.ndarray,
    data: Prepared,
    weights: np.ndarray,
    fixed: Host | None,
    derivatives: tuple[np.ndarray, np.ndarray] | None = None,
) -> Refits:
    """Take one Newton step from u, (p,), under each weight vector, (B, n): an approximation of :func:`refit`.

    Estimates are NaN, and ``clean`` False, where the information is not positive definite.

    Args:
        spec, data, fixed: as in :func:`refit`; a penalty is ignored.
        u: the estimate.
        weights: one weight for each row or unit, which includes the fit's own weight as a factor.
        derivatives: the result of :func:`row_derivatives` at u, if it is known.

    Raises:
        ValueError: a model of the whole data (``rowwise=False``), whose terms have no Hessians of their own.
    """
    if data.mode == "whole":
        raise ValueError(
            "one-step refits need a model by row or unit, got one with rowwise=False: leave approximate= out"
        )
    scores, hessians = row_derivatives(spec, u, data, fixed) if derivatives is None else derivatives
    p = len(u)
    return one_step_of(spec, u, weights[:, : len(scores)] @ np.concatenate([scores, hessians.reshape(-1, p * p)], axis=1), fixed)


def one_step_of(spec: Spec, u: np.ndarray, sums: Float[Host, "B k"], fixed: Host | None) -> Refits:
    """Take one Newton step from u, (p,), for each row of weighted sums of scores and informations, k = p + p^2; return the
    `Refits` as `one_step` does.
    """
    steps, decrement = _steps(sums, len(u))
    good = np.isfinite(decrement)
    points = u + np.where(good[:, None], steps, np.nan)
    with float64():
        theta, params = theta_and_params(spec.space, points, fixed)
    n, nothing = len(points), np.full(len(points), np.nan)
    return Refits(points, theta, params, nothing, good, np.full(n, int(End.RUNNING)), np.ones(n, np.int64))
