"""Final points of a search at which rounding errors dominate: replace them by accurate points, or say why there is none."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from mlejax import linalg
from mlejax.fit.diagnose.directions.falls import falls_as_it_should
from mlejax.fit.diagnose.ends import is_clean
from mlejax.fit.diagnose.problems import Diagnosed
from mlejax.fit.diagnose.rounding.digits import HALF, digits, suspect, value_is_real, with_differences
from mlejax.fit.diagnose.rounding.last_digits import LOST_WHERE_IT_ENDED, OR_ANOTHER_START, STABLE_FORM, regained
from mlejax.fit.maximise.maximise import maximise_one
from mlejax.objective import SingleEvaluator
from mlejax.optimize import Newton, OptimizeResult
from mlejax.shapes import Float, Host
from mlejax.status import End
from mlejax.verdict import SMALL_DECREMENT, Findings

CALLED_MAXIMUM = 1e3 * SMALL_DECREMENT  # decrement up to which an end may be called a maximum


def without_noise(evaluator: SingleEvaluator, u0: Float[Host, " p"], found: Diagnosed) -> Diagnosed:
    """Return the diagnosis with a log-likelihood of NaN if its rounding error exceeds half a unit and the end is not clearly a
    maximum.

    Unless the log-likelihood rose from the start by a thousand times that error, the status also becomes DIVERGED, the directions
    are dropped, and the statement says that the formula lost its digits.  Unchanged after Ctrl-C, without second
    derivatives, and where a limit at a bound or a statement on rows was found.
    """
    end, findings = found.end, found.findings
    if end.information is None or findings.limit or findings.rows or end.end == End.INTERRUPTED:
        return found
    if not np.isfinite(end.loglik) or is_clean(end, found.spec.space) or value_is_real(evaluator, end.u):
        return found
    if not value_is_real(evaluator, end.u, u0):
        findings = replace(findings, directions=(), rows=LOST_WHERE_IT_ENDED, advice=OR_ANOTHER_START)
        end = end._replace(status=np.asarray(int(End.DIVERGED), np.int32))
    return found._replace(end=end._replace(loglik=np.asarray(np.nan)), findings=findings)


def accurate_end(
    evaluator: SingleEvaluator, u0: Float[Host, " p"], end: OptimizeResult, last: bool = False
) -> tuple[SingleEvaluator, OptimizeResult | Diagnosed]:
    """Return the final point if its rounding errors are small; else another point at which they are small, or a diagnosis that
    says why there is none.

    ``last``: the rays from the final point have been tested.  Only then may the diagnosis say that rounding dominates while
    the log-likelihood still rises, and only of a point that would otherwise be called a maximum.

    Returns:
        The evaluator (with a differenced Hessian if only second derivatives were inaccurate), and a result to continue with,
        or a final diagnosis.
    """
    if end.end == End.INTERRUPTED or not np.isfinite(end.loglik) or not linalg.all_finite(end.score):
        return evaluator, end
    nowhere_up = end.end == End.STALLED and not np.isfinite(end.decrement)  # curved upwards, and yet no step gains
    if end.information is None or not (nowhere_up or suspect(evaluator, end.alone(), u0[None])[0]):
        return evaluator, end
    with np.errstate(all="ignore"):
        found = digits(evaluator, end)
        if found is None or not found.known:
            bar = None if found is None else found.loglik
            tried = last or is_clean(end, evaluator.spec.space)
            believed = falls_as_it_should(evaluator, end, bar) if tried else True
            if found is None:
                return evaluator, end if believed else Diagnosed(evaluator.spec, end, Findings(blurred=True))
            found = found._replace(second=found.second and believed)
        risen = found.loglik > HALF and not is_clean(end, evaluator.spec.space) and value_is_real(evaluator, end.u, u0)
        if found.good or risen:
            return evaluator, end
        better = with_differences(evaluator, end, found) if found.known else None
        if better is not None:
            return better
        back = regained(evaluator, u0, end, found.worst)
    if back.point is not None:
        evaluator, again = maximise_one(evaluator, Newton(), back.point)
        return evaluator, again._replace(n_steps=end.n_steps + again.n_steps, polished=end.polished)
    if back.on_bound:
        return evaluator, Diagnosed(evaluator.spec, back.end, Findings(limit=True))
    nothing_left, noise = back.at_start and not found.first, found.loglik > HALF
    maximum = end.decrement <= CALLED_MAXIMUM or is_clean(end, evaluator.spec.space)
    if back.words and not (last and (nothing_left or noise or maximum)):
        return evaluator, end
    at = back.end._replace(status=np.asarray(int(End.DIVERGED), np.int32))
    nowhere = back.end is end  # no point on the way has good digits
    if nowhere and noise:
        at = at._replace(loglik=np.asarray(np.nan))  # its own rounding exceeds half a unit: no number to show
    along = () if back.direction is None else (back.direction,)
    advice = "" if not back.words else OR_ANOTHER_START if nowhere else STABLE_FORM
    return evaluator, Diagnosed(evaluator.spec, at, Findings(along, rows=back.words, advice=advice))
