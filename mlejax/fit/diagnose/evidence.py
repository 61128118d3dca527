"""The evidence at a final point, from which `verdict.judge` makes a verdict, and the rows whose values are not finite."""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

import numpy as np

from mlejax.fit.diagnose import ends
from mlejax.fit.diagnose.ends import information_over, interior
from mlejax.fit.diagnose.rounding.first_operation import first_derivative, first_operation
from mlejax.fit.prepare.loaded import Loaded, named_terms
from mlejax.fit.prepare.penalties import finite_penalty
from mlejax.linalg import dense_each, scaled_inverse
from mlejax.objective import EffectsEvaluator, PartitionedEvaluator, SingleEvaluator, bad_rows, row_terms
from mlejax.optimize import OptimizeResult
from mlejax.parameters import Space
from mlejax.shapes import Bool, Float, Host
from mlejax.verdict import Evidence, Findings

ADVICE_AFTER_TRAINING = (
    "Training on minibatches stops after the epochs requested and does not reach a maximum, so that there are no standard "
    "errors. res.subset_errors(...) gives errors of some parameters and says what they mean; "
    "fit(start=res.params_tree, fixed=...) maximises over a few parameters, with the others fixed."
)


def blurred(evaluator: SingleEvaluator, end: OptimizeResult) -> bool:
    """True if, in a coordinate with an implausibly large standard error, rounding dominates the log-likelihood; False if there is
    no such coordinate, or the information is not positive definite.

    The log-likelihood's change from half a unit of u below the point (one standard error for untransformed coordinates) to as
    far above is compared with the integral of the score, by Simpson's rule: they agree unless rounding dominates.
    """
    assert end.information is not None
    space = evaluator.spec.space
    free = interior(space, end.u)
    errors = ends.errors_over(information_over(end.information, free), free)
    bent = ends.curved(space)
    for j in np.flatnonzero(free & (errors > ends.believable(end.u, space))):
        h = 0.5 if bent[j] else errors[j]
        at = np.tile(end.u, (2, 1))
        at[:, j] += [-h, h]
        at = np.clip(at, space.lower, space.upper)
        low, high = (evaluator.evaluate(u[None], 1) for u in at)
        values = np.array([low.loglik[0], high.loglik[0]])
        if not np.isfinite(values).all():
            continue  # the numbers end there, which ray tests see
        slope = sum(np.asarray(at.score)[0, j] for at in (low, high)) + 4.0 * end.score[j]
        if not abs(values[1] - values[0] - h / 3.0 * slope) <= 0.05 * np.abs(values - end.loglik).max() + 1e-9:
            return True
    return False


def explain(evaluator: SingleEvaluator, loaded: Loaded, u: Float[Host, " p"]) -> str:
    """Return a statement that names the rows and parameters for which the log-likelihood or its score is not finite at u, (p,),
    and the first operation of the function that makes it so.

    If log-likelihood and score of every row are finite, the statement names the quantity that is not: the bias reduction, the
    penalty, or the sum over the rows. ``loaded``: the data of the evaluator, with the numbers of the rows in the user's table.
    """
    spec, fixed = evaluator.spec, evaluator.fixed
    own, fixed_values = spec.space.in_own(u, fixed)
    theta = np.asarray(spec.space.own.theta_from_u(own, fixed_values))
    shown = [f"{name} = {x:.6g}" for name, x in zip(spec.space.theta_labels, theta, strict=True)]
    at = ", ".join(shown[:6]) or "the fixed values"
    found = non_finite_terms(evaluator, loaded, u, at)
    if found:
        return found
    if spec.reduction is not None:
        said = f"bias reduction ({spec.reduction.kind}) is not defined at {at}"
        plain = evaluator.with_spec(replace(spec, reduction=None)).evaluate(u[None], 2)
        if not scaled_inverse(dense_each(plain.information)[0]).ok:
            said += ", where the information is not positive definite"
        return f"{said}; give a start= nearer to the maximum, such as the estimates of a fit without bias_reduction="
    if spec.penalty is not None and not finite_penalty(spec, u, fixed, evaluator.hyper):
        return f"the penalty, its gradient or its curvature is not finite at {at}"
    sums = evaluator.evaluate(u[None], 1)
    for what, total in (("log-likelihood", sums.loglik), ("score", sums.score)):
        if not np.isfinite(np.asarray(total)).all():
            return f"the {what} of every term is finite at {at}, but the sum over the terms overflows"
    return f"log-likelihood and score of every term are finite at {at}, but the search met a number that is not finite there"


class _Terms(NamedTuple):
    """Terms of which the log-likelihood, or the score, is not finite.

    Attributes:
        n, of: their number, and the number of terms that were examined.
        which: phrase that lists the first five.
        first: log-likelihood of the first of them.
        lost: mask of the coordinates of the scores that are not finite, (p,); of length 1 for log-likelihoods.
    """

    n: int
    of: int
    which: str
    first: float
    lost: Bool[Host, " p"]


def _not_finite(evaluator: SingleEvaluator, loaded: Loaded, u: Float[Host, " p"], scores: bool) -> _Terms:
    """Return the terms of positive weight whose log-likelihood (``scores``: whose score) is not finite at u, (p,)."""
    in_passes = isinstance(evaluator, EffectsEvaluator) and evaluator.streamed is not None
    if isinstance(evaluator, PartitionedEvaluator) or in_passes:
        bad = bad_rows(evaluator, u, scores)
        which = "; ".join(f"{partition}, row {row}" for partition, row, _ in bad.first) + ("; ..." if bad.n > 5 else "")
        return _Terms(bad.n, evaluator.n_contributions, which, bad.first[0][2] if bad.n else 0.0, bad.lost)
    found = row_terms(evaluator, u)
    used = found.weights > 0
    lost = ~np.isfinite(found.scores if scores else found.values[:, None]) & used[:, None]
    at = np.flatnonzero(lost.any(axis=1))
    if not at.size:
        return _Terms(0, int(used.sum()), "", 0.0, lost.any(axis=0))
    which = named_terms(loaded, evaluator.spec.likelihood, at)[1]
    return _Terms(at.size, int(used.sum()), which, float(found.values[at[0]]), lost.any(axis=0))


def non_finite_terms(evaluator: SingleEvaluator, loaded: Loaded, u: Float[Host, " p"], at: str) -> str:
    """Return a statement on the terms of positive weight or, if these are finite, the scores that are not finite at u, (p,),
    with the first five of them and the operation that makes them so; empty if all are finite.

    Args:
        evaluator, loaded: the model and its data.
        u: point of evaluation.
        at: text of the parameter values, for the statement.
    """
    kind = {"rows": "rows", "units": "units", "whole": "log-likelihood terms"}[evaluator.spec.likelihood.mode]
    bad = _not_finite(evaluator, loaded, u, scores=False)
    if bad.n:
        made = first_operation(evaluator, u)
        return (
            f"the log-likelihood is not finite at {at}: {bad.n} of {bad.of} {kind} ({bad.which}; first: {bad.first:g})"
            + (f", because {made} there" if made else "")
        )
    bad = _not_finite(evaluator, loaded, u, scores=True)
    if not bad.n:
        return ""
    names = [evaluator.spec.space.theta_labels[int(j)] for j in np.flatnonzero(bad.lost)]
    made = first_derivative(evaluator, u)
    return (
        f"the log-likelihood is finite but its score is not at {at}: {bad.n} of {bad.of} {kind} ({bad.which}), "
        f"parameters {', '.join(names[:5])}{made and '; ' + made}"
    )


def evidence_at(space: Space, fixed: Host | None, end: OptimizeResult, findings: Findings) -> Evidence:
    """Collect the `Evidence` for :func:`mlejax.verdict.judge`.

    Args:
        space: the layout of the parameters.
        fixed: values under ``fixed=``, or None.
        end: the final point of one data set.
        findings: what the diagnosis found.
    """
    if findings.mapped is not None:
        space, fixed, end = findings.mapped.space, findings.mapped.constants, findings.mapped.end
    free = interior(space, end.u)
    smallest, condition, definite, doubted = float("nan"), float("nan"), False, False
    if end.information is not None:
        inner = information_over(end.information, free)
        (smallest, condition), definite = inner.conditioning(), inner.ok
        if definite:
            doubted = bool((np.sqrt(inner.inverse_diagonal()) > ends.believable(end.u, space)[free]).any())
    if end.message and not (findings.rows or findings.advice):
        findings = replace(findings, advice=ADVICE_AFTER_TRAINING)
    theta = np.asarray(space.theta_from_u(end.u, fixed)) if not free.all() else end.u
    bounds = tuple((space.theta_labels[j], float(theta[j]), float(end.score[j])) for j in np.flatnonzero(~free).tolist())
    return Evidence(
        end=end.end,
        decrement=float(end.decrement),
        decrements=() if end.information is None else tuple(end.decrements.tolist()),
        mismatch=float(end.mismatch),
        smallest_eigenvalue=smallest,
        condition=condition,
        definite=definite,
        bounds=bounds,
        doubtful=doubted,
        n_steps=int(end.n_steps),
        dense=end.information is not None,
        message=end.message,
        findings=findings,
    )
