"""Inflection points: leave a stationary point with nearly singular information on the side where the log-likelihood rises.

At an inflection (the skew normal at 0) score and curvature both vanish along one direction, and the log-likelihood changes
at third order only: Newton's steps halve, standard errors are implausibly large, and the log-likelihood falls along straight rays
to both sides because the ridge is curved.  So the profile is evaluated to both sides of the point, as next to a bound (`bounds`).
"""

from __future__ import annotations

from functools import partial

import numpy as np

from mlejax import linalg
from mlejax.fit.diagnose.bounds import climbed
from mlejax.fit.diagnose.directions import movements
from mlejax.fit.diagnose.directions.probes import scaled
from mlejax.fit.diagnose.ends import interior
from mlejax.fit.diagnose.rounding.digits import gain_is_real
from mlejax.objective import SingleEvaluator
from mlejax.optimize import OptimizeResult
from mlejax.verdict import Direction

SINGULAR = 1e-4  # eigenvalue of the scaled information below which a direction is nearly singular
TAKES_PART = 0.3  # in that eigenvector


def off_an_inflection(evaluator: SingleEvaluator, end: OptimizeResult) -> tuple[Direction, ...]:
    """Find a direction from a final point with nearly singular information to a point of higher log-likelihood.

    Returns:
        A tuple with one `Direction`, or an empty tuple if none is found.

    Raises:
        KeyboardInterrupt: Ctrl-C during a search over the other parameters.
    """
    assert end.information is not None
    space, information = evaluator.spec.space, linalg.dense_each(end.information)
    free = np.flatnonzero(interior(space, end.u))
    if not free.size or not linalg.all_finite(information):
        return ()
    correlation, d = scaled(information[np.ix_(free, free)])
    values, vectors = np.linalg.eigh(correlation)
    if not (d > 0).all() or values[0] > SINGULAR:
        return ()
    part = np.abs(vectors[:, 0])
    for k in sorted(np.flatnonzero(part > TAKES_PART), key=lambda k: -part[k]):
        ways = [climbed(evaluator, end, int(free[k]), side, float(d[k])) for side in (1.0, -1.0)]
        found = [way for way in ways if way is not None and gain_is_real(evaluator, way[1], way[0])]
        if found:
            gain, point = max(found, key=lambda way: way[0])
            words = partial(movements.describe_movement, end.u, point, space, evaluator.fixed, information)
            return (Direction("inflection", point - end.u, gain, words=words, point=point),)
    return ()
