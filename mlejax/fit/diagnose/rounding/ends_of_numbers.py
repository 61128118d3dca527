"""Rises of the log-likelihood that end where it is no longer a finite number: which terms are not finite there, and which
operation of the function makes them so.

A logit written as log(exp(e) / (1 + exp(e))) is NaN in a row once e exceeds 709. If the terms of other rows still rise along a
ray at such a point, the log-likelihood beyond it is not known. A rise counts as real if it has levelled off before that point,
or if the terms that are not finite are those that rise (a spike, or a scale that underflows in all terms).
"""

from __future__ import annotations

import numpy as np

from mlejax import linalg
from mlejax.fit.diagnose.directions.movements import describe_movement
from mlejax.fit.diagnose.ends import interior
from mlejax.fit.diagnose.evidence import explain
from mlejax.fit.prepare.loaded import Loaded
from mlejax.objective import SingleEvaluator, row_terms
from mlejax.optimize import OptimizeResult
from mlejax.shapes import Float, Host
from mlejax.status import End
from mlejax.verdict import Direction

LEAST_PROMISE = 1e-6  # decrement, above which an end is no maximum
N_HALVES, STUCK = 50, 0.1  # of a step, and the share of its promise that a search may leave at points it can reach
CARRIED = 0.5  # share of a rise by terms that stay finite, above which the terms that end do not carry it
STAYS_FINITE = (
    "Write it with a form that stays finite: mle.special.log_sigmoid(e) and log_sigmoid(-e) for the logarithms of a logit's "
    "probabilities, jax.scipy.stats.norm.logcdf(e) and logcdf(-e) for a probit's, jax.nn.log_softmax for those of several "
    "outcomes, jax.scipy.special.logsumexp for logarithms of sums, jnp.log(-jnp.expm1(-h)) for log(1 - exp(-h)).  Or scale "
    "columns with values far from the others, or begin with another start=."
)


def where_it_ends(
    evaluator: SingleEvaluator, loaded: Loaded, end: OptimizeResult, d: Direction, levelled: bool
) -> str:
    """Return a statement on a rise along d beyond whose farthest point terms are not finite, while most of the rise is that of
    other terms; else empty.

    Args:
        evaluator, loaded: evaluator of one data set, and its data.
        end: the final point from which d starts.
        d: a direction of behaviour ``rises``.
        levelled: the log-likelihood levels off before.
    """
    if d.point is None or d.behaviour != "rises" or levelled:
        return ""
    space = evaluator.spec.space
    beyond = np.clip(2.0 * d.point - end.u, space.lower, space.upper)
    if np.isfinite(evaluator.logliks({0: beyond[None]})[0][0]):
        return ""
    here, far, ended = (row_terms(evaluator, u) for u in (end.u, d.point, beyond))
    bad = ~np.isfinite(ended.values) & (ended.weights > 0)
    change = np.where(here.weights > 0, here.weights * (far.values - here.values), 0.0)
    rise = change.sum()
    if not bad.any() or not rise > 0.0 or not change[~bad].sum() > CARRIED * rise:
        return ""
    return _not_known_beyond(evaluator, loaded, beyond, d.movement)


def where_it_stopped(evaluator: SingleEvaluator, loaded: Loaded, end: OptimizeResult) -> str:
    """Return a statement on a search that stopped short of a maximum because the function is not finite just beyond; else
    empty.

    That is, a Newton step predicts a rise, mostly of terms that stay finite, and the log-likelihood hardly rises at those
    fractions (1/2, 1/4, ...) of the step at which the function is finite.
    """
    space = evaluator.spec.space
    free = interior(space, end.u)
    inverse = linalg.scaled_inverse(linalg.symmetric(end.information).block(free))
    if end.end == End.CONVERGED or not inverse.ok or not end.decrement > LEAST_PROMISE:
        return ""
    step = np.zeros(free.size)
    step[free] = inverse.inverse @ end.score[free]
    points = np.clip(end.u + 0.5 ** np.arange(N_HALVES)[:, None] * step, space.lower, space.upper)
    values = evaluator.logliks({0: points})[0]
    finite = np.isfinite(values)
    if finite.all() or (values[finite] - end.loglik > STUCK * end.decrement).any():
        return ""
    beyond = points[np.flatnonzero(~finite)[-1]]
    here, ended = row_terms(evaluator, end.u), row_terms(evaluator, beyond)
    bad = ~np.isfinite(ended.values) & (ended.weights > 0)
    assert here.scores is not None
    promised = np.where(here.weights > 0, here.weights * (here.scores @ step), 0.0)
    if not bad.any() or not promised[~bad].sum() > CARRIED * promised.sum():
        return ""
    return _not_known_beyond(evaluator, loaded, beyond, describe_movement(end.u, end.u + step, space, evaluator.fixed)[0])


def _not_known_beyond(evaluator: SingleEvaluator, loaded: Loaded, beyond: Float[Host, " p"], movement: str) -> str:
    """Return the statement on a rise that ends at the point ``beyond``, (p,), where the function is not finite."""
    return (
        f"the log-likelihood still rises along {movement} up to a point beyond which the function is not finite, so that it is "
        f"not known whether there is a maximum beyond: {explain(evaluator, loaded, beyond)}"
    )
