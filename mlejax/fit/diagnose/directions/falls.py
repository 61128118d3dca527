"""The fall test: one standard error from a maximum the log-likelihood is half a unit lower.

It replaces error bars of score and information if a function has operations whose rounding error is not known.  If rounding
dominates the second derivatives, the log-likelihood one standard error away differs from that.
"""

from __future__ import annotations

import numpy as np

from mlejax import linalg
from mlejax.fit.diagnose.ends import interior
from mlejax.objective import SingleEvaluator
from mlejax.optimize import OptimizeResult

LEAST, MOST = 0.25, 1.0  # falls over one standard error that a maximum may have, where a parabola has 0.5
SHARES = tuple(0.5**k for k in range(7))  # of a standard error: nearer to a maximum the log-likelihood is a parabola
NEAREST = 0.25  # where nothing is known of the rounding
SURE = 0.01  # error bar over the fall expected, up to which a fall counts
MOST_COORDINATES = 50


def falls_as_it_should(evaluator: SingleEvaluator, end: OptimizeResult, bar: float | None) -> bool:
    """True if the log-likelihood falls by about half a unit (0.25 to 1) over one standard error, on the mean of both sides.

    Tested along every coordinate, with the others changing as the covariance says, and along the eigenvector of the smallest
    eigenvalue of the information.  A direction that fails is tested again over a half, a quarter and so on of a standard error,
    where higher derivatives matter less, as far as rounding allows.

    Args:
        evaluator: evaluator of one data set.
        end: the final point.
        bar: bound on the rounding error of the log-likelihood there, or None if it is not known.
    """
    free = interior(evaluator.spec.space, end.u)
    found = linalg.scaled_inverse(linalg.symmetric(end.information).block(free))
    if not found.ok:
        return True  # no standard errors are given there, whose digits could be lost
    V = found.inverse
    along = V / np.sqrt(V.diagonal())  # columns: one standard error of a coordinate
    weakest = np.linalg.eigh(V)[1][:, -1]
    weakest = (V @ weakest) / np.sqrt(weakest @ V @ weakest)
    directions = np.zeros((min(len(V), MOST_COORDINATES) + 1, free.size))
    directions[:, free] = np.vstack([along.T[:MOST_COORDINATES], weakest])
    for share in SHARES:
        if share < NEAREST if bar is None else bar > SURE * 0.5 * share**2:
            break
        steps = share * directions
        values = evaluator.logliks({0: end.u + np.concatenate([steps, -steps])})[0]
        low, high = np.split((end.loglik - values) / share**2, 2)
        with np.errstate(invalid="ignore"):
            mean = 0.5 * (low + high)
            failed = ~((mean >= LEAST) & (mean <= MOST))
        directions = directions[failed]
        if not len(directions):
            return True
    return False
