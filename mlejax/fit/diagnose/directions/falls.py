"""The fall test: one standard error from a maximum the log-likelihood is half a unit lower.

It replaces error bars of score and information if a function has operations whose rounding error is not known. If rounding
dominates the second derivatives, the log-likelihood one standard error away differs from half a unit below the maximum.

The module also searches for minima: a function that has a minimum and no maximum may return minus the log-likelihood.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from mlejax import linalg, optimize
from mlejax.fit.diagnose.ends import curved, interior
from mlejax.objective import SingleEvaluator, evaluate_one
from mlejax.optimize import OptimizeResult
from mlejax.shapes import Float, Host
from mlejax.status import End

LEAST, MOST = 0.25, 1.0  # falls over one standard error that a maximum may have, where a parabola has 0.5
SHARES = tuple(0.5**k for k in range(7))  # of a standard error: nearer to a maximum the log-likelihood is a parabola
NEAREST = 0.25  # where nothing is known of the rounding
SURE = 0.01  # error bar over the fall expected, up to which a fall counts
MOST_COORDINATES = 50
TO_A_MINIMUM = 40  # steps
AROUND = 2.0 ** np.arange(6)  # standard errors from a minimum at which the function is higher than there
FARTHEST = 4.0  # the same in logarithms and logits, at most


def falls_as_it_should(evaluator: SingleEvaluator, end: OptimizeResult, bar: float | None) -> bool:
    """True if the log-likelihood falls by about half a unit (0.25 to 1) over one standard error, on the mean of both sides.

    Tested along the coordinates (the first 50), with the others changing as the covariance says, and along the eigenvector of
    the smallest eigenvalue of the information.  A direction that fails is tested again over a half, a quarter and so on of a
    standard error, where higher derivatives matter less, as far as rounding allows; False if it allows no test.  True without a
    test if the information is not positive definite, so that there are no standard errors.

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


def minimum_of(evaluator: SingleEvaluator, u0: Float[Host, " p"]) -> Float[Host, " p"] | None:
    """Return a minimum of the function, (p,), or None; if a minimum is where a log-likelihood would have its maximum, the sign
    of the function may be wrong.

    The search begins at u0, (p,), at u0 with transformed coordinates 0, or at 0, where the function is lowest. It is made only if
    the function curves upwards in some parameter there and has second derivatives. A minimum is off all bounds, curves upwards
    in every direction, and is lower than all points up to 32 standard errors away along the coordinates. A log-likelihood
    without a maximum has saddle points instead.

    Raises:
        KeyboardInterrupt: from a run of the optimiser.
    """
    space, scale = evaluator.spec.space, float(evaluator.total_weights[0])
    simple = np.clip(np.stack([u0, np.where(curved(space), 0.0, u0), np.zeros(u0.size)]), space.lower, space.upper)
    u0 = simple[np.argmin(np.nan_to_num(evaluator.logliks({0: simple})[0], nan=np.inf))]
    information = evaluator.evaluate(u0[None]).information
    if information is None or not (linalg.dense_each(information)[0].diagonal() < 0.0).any():
        return None

    def turned(u: Float[Host, " p"]) -> tuple[Any, Any, Any]:
        loglik, score, information = evaluate_one(evaluator, u)
        return loglik / scale, score / scale, -linalg.dense_each(information) / scale

    carry = optimize.run_on_host(optimize.Newton(max_steps=TO_A_MINIMUM), turned, u0, (space.lower, space.upper), scale)
    if int(carry.status) == int(End.INTERRUPTED):
        raise KeyboardInterrupt
    u = np.asarray(carry.u)
    found = linalg.scaled_inverse(carry.H * scale)
    if int(carry.status) not in (int(End.CONVERGED), int(End.PRECISION_FLOOR)) or not found.ok or not interior(space, u).all():
        return None
    errors = np.sqrt(found.inverse.diagonal())
    far = np.minimum(AROUND[:, None] * errors, np.where(curved(space), FARTHEST, np.inf))
    steps = (far[:, :, None] * np.eye(u.size)).reshape(-1, u.size)
    around = np.clip(u + np.concatenate([steps, -steps]), space.lower, space.upper)
    values = evaluator.logliks({0: around})[0]
    return None if (np.isfinite(values) & (values < float(carry.f) * scale - SURE)).any() else u
