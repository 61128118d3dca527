"""Whether an edge of a parameter's support is the maximum, where the score on it does not say so.

On an edge where the score vanishes by symmetry (the standard deviation of an effect, the inefficiency of a frontier) the
log-likelihood may rise at third order only, and no derivative on the edge sees it.  So its profile is climbed like a ladder:
the parameter is put at h = 2^j / sqrt(information), inside its support, and the others are maximised again.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from mlejax import optimize
from mlejax.fit.diagnose.ends import CLEAR, interior
from mlejax.objective import ChunkedEvaluator
from mlejax.optimize import OptimizeResult
from mlejax.shapes import Bool, Float, Host
from mlejax.status import End

RUNGS = np.arange(-2, 12)
ENOUGH = 2.0  # log-likelihood below the edge at which the ladder ends
RISE = 1e-6
STEPS = 30


def unclear(end: OptimizeResult, lower: Float[Host, "*sets p"], upper: Float[Host, "*sets p"]) -> Bool[Host, "*sets p"]:
    """Flags of the coordinates on an edge whose score does not push against it clearly, in units of no scale."""
    assert end.information is not None
    size = np.sqrt(np.abs(np.diagonal(end.information, axis1=-2, axis2=-1)) + 1e-300)
    with np.errstate(invalid="ignore"):
        return ((end.u <= lower) & (-end.score < CLEAR * size)) | ((end.u >= upper) & (end.score < CLEAR * size))


def off_the_edges(evaluator: ChunkedEvaluator, end: OptimizeResult) -> Float[Host, " p"] | None:
    """A point (p,) in u, off an edge where the end lies, at which the log-likelihood is higher; None if there is none.

    Raises:
        KeyboardInterrupt: from a run of the optimiser.
    """
    space = evaluator.spec.space
    if not space.boxed or end.information is None or interior(space, end.u).all():
        return None
    on_edge = unclear(end, space.lower, space.upper)
    for e in np.flatnonzero(on_edge).tolist():
        inward = 1.0 if end.u[e] <= space.lower[e] else -1.0
        unit = 1.0 / np.sqrt(abs(end.information[e, e]) + 1e-300)
        u, best = np.array(end.u), None
        for h in unit * 2.0**RUNGS:
            u[e] = end.u[e] + inward * h
            if not (np.isfinite(h) and space.lower[e] < u[e] < space.upper[e]):
                break
            u, loglik = others_maximised(evaluator, u, e)
            gain = loglik - float(end.loglik)
            if gain > max(RISE, 0.0 if best is None else best[0]):
                best = gain, u.copy()
            if not gain > -ENOUGH or (best is not None and gain < best[0]):
                break
        if best is not None:
            return best[1]
    return None


def others_maximised(evaluator: ChunkedEvaluator, u: Float[Host, " p"], e: int) -> tuple[Float[Host, " p"], float]:
    """The maximum (p,) over all coordinates but one, and the log-likelihood there."""
    space, others, method = evaluator.spec.space, np.arange(u.size) != e, optimize.Newton(max_steps=STEPS)
    whole = u.copy()

    def evaluate(some: Float[Host, " q"]) -> tuple[Any, Any, Any]:
        whole[others] = some
        value, gradient, curvature = evaluator.minimised(method, whole)
        return value, gradient[others], curvature[np.ix_(others, others)]

    if not others.any():
        return whole, -float(evaluator.minimised(method, whole)[0]) * evaluator.scale
    bounds = (space.lower[others], space.upper[others])
    carry = optimize.run_on_host(method, evaluate, u[others], bounds, evaluator.scale)
    if int(carry.status) == int(End.INTERRUPTED):
        raise KeyboardInterrupt
    whole[others] = carry.u
    return whole, -float(carry.f) * evaluator.scale
