"""Run a method from given starts, with a fallback if second derivatives are missing, and Newton steps after other methods."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, TypeVar

import numpy as np

from mlejax import optimize
from mlejax.execution import limits
from mlejax.linalg import finite_each
from mlejax.objective import SearchEvaluator, Spec
from mlejax.objective.evaluator import Report
from mlejax.optimize import Method, OptimizeResult
from mlejax.shapes import Float, Host, Int
from mlejax.status import End

POLISH_LIMIT = 500  # parameters up to which other methods end with Newton steps
POLISH_STEPS = 10

E = TypeVar("E", bound=SearchEvaluator)


def maximise(
    evaluator: E,
    method: Method,
    u0: Float[Host, "L p"],
    which: Int[Host, " m"] | None = None,
    report: Report | None = None,
) -> tuple[E, OptimizeResult]:
    """Run a method from u0, then up to ten Newton steps if it is not Newton's method (p <= 500; none after Ctrl-C or from a start
    that is not finite).

    Score and information at the final point are then exact whatever the method was.

    Args:
        evaluator: L >= 1 data sets.
        method: an optimiser object.
        u0: starts, (L, p).
        which: numbers of the data sets to work on; default all.
        report: called after each step with (number of steps, mean log-likelihood).

    Returns:
        The evaluator, with a differenced Hessian in its specification if JAX lacked a second derivative or it was not finite;
        and the results of all L data sets.  After another method than Newton's without Newton steps the information is None;
        after such steps it is NaN for data sets whose start is not finite, and those that are not in ``which``.

    Raises:
        ValueError: too many parameters for Newton's method.
    """
    p = evaluator.spec.space.n_free
    newton = isinstance(method, optimize.Newton)
    most = limits().dense_parameters
    if newton and p > most:
        raise ValueError(
            f"method='newton' needs a Hessian of {p} x {p} numbers ({8 * p * p / 1e9:.3g} GB) and supports at most {most} "
            "parameters; use method='lbfgs' or 'adam'"
        )
    which = np.arange(evaluator.n_sets) if which is None else which
    evaluator, result = _run(evaluator, method, u0, which, report)
    if newton:
        return evaluator, result
    result = result._replace(information=None)  # the curvature of other methods is not the information
    unusable = np.isin(result.status[which], (int(End.START_NOT_FINITE), int(End.INTERRUPTED)))
    which = which[~unusable]
    if p > POLISH_LIMIT or not which.size or (result.status == int(End.INTERRUPTED)).any():
        return evaluator, result
    evaluator, polished = _run(evaluator, optimize.Newton(max_steps=POLISH_STEPS), result.u, which, report)
    polished = polished.of(which)
    polished = polished._replace(n_steps=polished.n_steps + result.n_steps[which])
    result = result._replace(information=np.full((evaluator.n_sets, p, p), np.nan), polished=True)
    result.put(which, polished)
    return evaluator, result


def maximise_one(evaluator: E, method: Method, u0: Float[Host, " p"]) -> tuple[E, OptimizeResult]:
    """Run a method on one data set from u0, (p,), as `maximise` does; return the evaluator in use, and the result, without a
    leading axis."""
    after, result = maximise(evaluator, method, u0[None])
    return after, result.of(0)


def _run(evaluator: E, method: Method, u0: Host, which: Any, report: Report | None) -> tuple[E, OptimizeResult]:
    """Run a method from u0, for the data sets ``which``; if second derivatives are missing or not finite, run it again with a
    differenced Hessian (not with fixed effects whose information was finite at the start).

    ``report``: as of the evaluator's ``run``, or None.  Returns the evaluator in use, and the result.
    """
    try:
        result = evaluator.run(method, u0, which, report)
    except NotImplementedError as error:
        evaluator = evaluator.with_spec(differenced(evaluator.spec, error))
        return evaluator, evaluator.run(method, u0, which, report)
    if evaluator.spec.hessian == "differenced" or not _only_curvature_missing(result, which):
        return evaluator, result
    if evaluator.spec.likelihood.effects:
        at_start = evaluator.evaluate(u0).information
        if at_start is not None and finite_each(at_start).all():
            return evaluator, result  # effects run away where they are separated, and take the curvature with them
    evaluator = evaluator.with_spec(replace(evaluator.spec, hessian="differenced"))
    return evaluator, evaluator.run(method, u0, which, report)


def _only_curvature_missing(result: OptimizeResult, which: Int[Host, " m"]) -> bool:
    """True if at all these final points log-likelihood and score are finite, but second derivatives are not (as of 0**k)."""
    if result.information is None or not len(which):
        return False
    finite = np.isfinite(result.loglik[which]) & np.isfinite(result.score[which]).all(axis=-1)
    return bool((finite & ~finite_each(result.information[which])).all())


def differenced(spec: Spec, error: NotImplementedError) -> Spec:
    """Return the specification with a differenced Hessian, if the error says that JAX lacks a derivative.

    The error is raised if it says something else, or if the Hessian is differenced already.

    JAX marks a missing differentiation rule by the text of this error only.
    """
    if spec.hessian == "differenced" or "ifferentiation rule" not in str(error):
        raise error
    return replace(spec, hessian="differenced")
