"""The fall test: at a maximum the log-likelihood one standard error away is half a unit lower.

It stands in for error bars of score and information where a formula has operations whose rounding is not known.  A formula that
has lost its digits in its second derivatives has standard errors over which its log-likelihood does something else.
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
    """Whether the log-likelihood falls by about half a unit over one standard error, on the mean of both sides.

    Tried along every coordinate, the others following to first order, and along the weakest direction of the information;
    the mean of both sides is free of the third derivative.  A direction that fails over a whole standard error is tried over
    a half, a quarter and so on of it, where higher derivatives count less, as far as the digits allow.

    Args:
        evaluator, end: the end of a search.
        bar: the error bar of the log-likelihood there, or None where it is not known.
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
