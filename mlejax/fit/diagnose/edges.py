"""Whether an edge of a parameter's support is the maximum, where the score on it does not say so.

On an edge where the score vanishes by symmetry (the standard deviation of an effect, the inefficiency of a frontier) the
log-likelihood may rise at third order only, and no derivative on the edge sees it.  So its profile is climbed like a ladder:
the parameter is put at h = 2^j / sqrt(information), inside its support, and the others are maximised again.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from mlejax import linalg, optimize
from mlejax.fit.diagnose.ends import CLEAR, interior
from mlejax.fit.diagnose.rounding.digits import bar_of_value
from mlejax.objective import SingleEvaluator
from mlejax.optimize import OptimizeResult
from mlejax.shapes import Bool, Float, Host
from mlejax.status import End

RUNGS = np.arange(-2, 12)
ENOUGH = 2.0  # log-likelihood below the edge at which the ladder ends
RISE = 1e-6
UNSEEN = 3.0  # a peak a h^3 - b h^4 (or h^2) over the highest rung of it, at most: rungs are a factor of 2 apart
STEPS = 100


def unclear(end: OptimizeResult, lower: Float[Host, " p"], upper: Float[Host, " p"]) -> Bool[Host, " p"]:
    """Flags of the coordinates on an edge whose score does not push against it clearly, in units of no scale."""
    assert end.information is not None
    size = np.sqrt(np.abs(linalg.symmetric(end.information).diagonal()) + 1e-300)
    with np.errstate(invalid="ignore"):
        return ((end.u <= lower) & (-end.score < CLEAR * size)) | ((end.u >= upper) & (end.score < CLEAR * size))


def off_the_edges(evaluator: SingleEvaluator, end: OptimizeResult) -> Float[Host, " p"] | None:
    """A point (p,) in u, off an edge where the end lies, at which the log-likelihood is higher; None if there is none.

    Raises:
        KeyboardInterrupt: from a run of the optimiser.
    """
    space = evaluator.spec.space
    if not space.boxed or end.information is None or interior(space, end.u).all():
        return None
    on_edge, diagonal = unclear(end, space.lower, space.upper), linalg.symmetric(end.information).diagonal()
    for e in np.flatnonzero(on_edge).tolist():
        inward = 1.0 if end.u[e] <= space.lower[e] else -1.0
        best = climbed(evaluator, end, e, inward, float(1.0 / np.sqrt(abs(diagonal[e]) + 1e-300)))
        if best is not None:
            return best[1]
    return None


def decided_within(evaluator: SingleEvaluator, end: OptimizeResult) -> float | None:
    """The rise of the profile off the edges of an end that its ladder would not have seen; None where no ladder was needed."""
    space = evaluator.spec.space
    if not space.boxed or end.information is None or not unclear(end, space.lower, space.upper).any():
        return None
    return max(UNSEEN * RISE, bar_of_value(evaluator, end.u))


def climbed(
    evaluator: SingleEvaluator, end: OptimizeResult, e: int, side: float, unit: float
) -> tuple[float, Float[Host, " p"]] | None:
    """The gain and the point (p,) of the first peak of the profile of coordinate e to one side; None where it does not rise.

    Args:
        evaluator: of one data set.
        end: where the ladder stands.
        e: the coordinate; the others are maximised at each of its values.
        side: 1 or -1.
        unit: length of a rung of number 0.
    """
    space, u, best = evaluator.spec.space, np.array(end.u), None
    for h in unit * 2.0**RUNGS:
        u[e] = end.u[e] + side * h
        if not (np.isfinite(h) and space.lower[e] < u[e] < space.upper[e]):
            break
        u, loglik = others_maximised(evaluator, u, e)
        gain = loglik - float(end.loglik)
        if gain > max(RISE, 0.0 if best is None else best[0]):
            best = gain, u.copy()
        if not gain > -ENOUGH or (best is not None and gain < best[0]):
            break
    return best


def held_on_edges(evaluator: SingleEvaluator, u: Float[Host, " p"], end: OptimizeResult) -> OptimizeResult:
    """The maximum with the coordinates on edges of u (p,) held there; the whole search that led to ``end`` is counted.

    Where the score vanishes on the edge, that of a mean may be collinear with it, and a search over both does not converge.
    """
    carry, whole = _maximised(evaluator, u, ~interior(evaluator.spec.space, u))
    found = evaluator.evaluate(whole[None])
    assert found.score is not None
    assert found.information is not None
    return end._replace(
        u=whole,
        loglik=found.loglik[0],
        score=found.score[0],
        information=found.information[0],
        decrements=np.asarray(carry.decrements),
        mismatch=np.asarray(carry.mismatch),
        n_steps=np.asarray(end.n_steps + carry.n_steps),
        status=np.asarray(carry.status),
    )


def others_maximised(evaluator: SingleEvaluator, u: Float[Host, " p"], e: int) -> tuple[Float[Host, " p"], float]:
    """The maximum (p,) over all coordinates but one, and the log-likelihood there."""
    carry, whole = _maximised(evaluator, u, np.arange(u.size) == e)
    return whole, -float(carry.f) * float(evaluator.total_weights[0])


def _maximised(
    evaluator: SingleEvaluator, u: Float[Host, " p"], held: Bool[Host, " p"]
) -> tuple[optimize.Carry, Float[Host, " p"]]:
    """The search over all coordinates that are not held, from u on, and its end (p,)."""
    space, others, method = evaluator.spec.space, ~held, optimize.Newton(max_steps=STEPS)
    whole, scale = u.copy(), float(evaluator.total_weights[0])

    def evaluate(some: Float[Host, " q"]) -> tuple[Any, Any, Any]:
        whole[others] = some
        found = evaluator.evaluate(whole[None])
        assert found.score is not None
        assert found.information is not None
        curvature = linalg.symmetric(found.information[0]).block(others)
        return -found.loglik[0] / scale, -found.score[0, others] / scale, curvature / scale

    if not others.any():
        done = optimize.begin(method, u[others])
        return done._replace(f=evaluate(u[others])[0], status=np.int32(End.CONVERGED)), whole
    bounds = (space.lower[others], space.upper[others])
    carry = optimize.run_on_host(method, evaluate, u[others], bounds, scale)
    if int(carry.status) == int(End.INTERRUPTED):
        raise KeyboardInterrupt
    whole[others] = carry.u
    return carry, whole
