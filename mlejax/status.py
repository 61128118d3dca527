"""Why an optimiser stopped, and whether a covariance matrix could be computed.

Codes are small integers so that they can be stored in arrays (one per data set of a batch) and pass through `jit`. Every
code has advice: what happened, what it usually comes from, and what to do about it.

    End              why an optimiser stopped
    CovarianceState  whether a covariance matrix could be computed; some codes apply to single parameters
"""

from __future__ import annotations

import enum

__all__ = ["CovarianceState", "End"]


class End(enum.IntEnum):
    """Why the optimiser stopped.

    Example:
        >>> from mlejax.status import End
        >>> End(1).name
        'CONVERGED'
        >>> print(End.MAX_STEPS.advice.split(".")[0])
        The steps allowed were used up before the optimum was reached
    """

    RUNNING = 0
    CONVERGED = 1
    MAX_STEPS = 2
    PRECISION_FLOOR = 3
    STALLED = 4
    DIVERGED = 5
    SINGULAR = 6
    SETTLED = 7
    START_NOT_FINITE = 8
    INTERRUPTED = 9

    @property
    def advice(self) -> str:
        """One paragraph in English: what the code means, what it usually comes from, and what to do."""
        return _END_ADVICE[self]


class CovarianceState(enum.IntEnum):
    """Whether a covariance matrix could be computed, and if not, why not.

    `ON_BOUNDARY`, `NOT_IDENTIFIED` and `SINGULAR_SCORES` may apply to single parameters, while the others have standard errors.

    Example:
        >>> from mlejax.status import CovarianceState
        >>> CovarianceState.OK.value
        0
    """

    OK = 0
    NOT_POSITIVE_DEFINITE = 1
    NOT_FINITE = 2
    NOT_CONVERGED = 3
    TOO_FEW_CLUSTERS = 4
    NO_SCORES = 5
    ON_BOUNDARY = 6
    NOT_IDENTIFIED = 7
    SINGULAR_SCORES = 8
    PENALTY_NOT_SMOOTH = 9
    TOO_FEW_ROWS = 10
    INTERRUPTED = 11

    @property
    def advice(self) -> str:
        """One paragraph in English: what the code means, what it usually comes from, and what to do."""
        return _COVARIANCE_ADVICE[self]


_END_ADVICE: dict[End, str] = {
    End.RUNNING: "The optimiser has not finished; the values are those of the best point so far. Continue the search.",
    End.CONVERGED: (
        "Converged: the Newton decrement is below the tolerance in log-likelihood units, a further full step"
        " confirmed it, and the information there is positive definite and did not shrink along the last step. This is"
        " a local maximum; other starts may find a higher one."
    ),
    End.MAX_STEPS: (
        "The steps allowed were used up before the optimum was reached. After a start far away, continue the search, or"
        " raise max_steps. If parameters are nearly not identified, the search advances slowly along a curved ridge:"
        " simplify or reparametrise the model. If parameters keep growing, the likelihood may have no maximum."
    ),
    End.PRECISION_FLOOR: (
        "No step improves the log-likelihood any more in floating point, although the tolerance was not reached."
        " Variables on very different scales or with large offsets cost digits: centre and scale them. So does a formula"
        " with cancellation, such as log(1 - exp(x)) or log(exp(x)): use log1p, expm1, logsumexp. With float32"
        " arithmetic, use float64. The point is usually an optimum to fewer digits than requested: check the decrement."
    ),
    End.STALLED: (
        "The search is stuck at a point that is not a maximum: every step tried, however short, was worse or not"
        " finite. If the likelihood is not finite beyond this point, as where a support depends on the parameters, bound"
        " the parameters, or start elsewhere. If the likelihood is unbounded, as where a scale shrinks around one"
        " observation, bound the scale or add a penalty. Otherwise the derivatives may not belong to the function: look"
        " for a kink, a table, a `where` with a non-finite branch, or a custom rule that is wrong."
    ),
    End.DIVERGED: (
        "No finite maximum was found: the log-likelihood goes on rising, ever more slowly, as parameters go to infinity."
        " Each full Newton step gains, but the curvature shrinks along it. That happens under separation, where a"
        " combination of covariates predicts the outcome perfectly. It also happens to a parameter whose best value is at"
        " infinity or at the bound of its support, such as a dispersion or a mixing probability that the data do not"
        " need: fix it, or drop it. Far from the data the likelihood may be flat: start nearer to them."
    ),
    End.SINGULAR: (
        "The score is zero but the curvature is zero as well in some direction: the maximum, if it is one, is not"
        " unique to the accuracy of the arithmetic. This happens with collinear covariates, with a parameter that the"
        " likelihood does not use, with two components that have become identical, and in a flat region far from the"
        " data. Drop or fix a parameter, add a penalty, or start elsewhere."
    ),
    End.SETTLED: (
        "A first-order method stopped because the log-likelihood no longer improved by more than its tolerance."
        " Nothing is known about the curvature, so this alone is no proof of a maximum: the learning rate may be too"
        " small, or too large, to make progress, or the log-likelihood may be flat here. Polish with Newton's method, or"
        " continue with a smaller tolerance or another learning rate."
    ),
    End.START_NOT_FINITE: (
        "The log-likelihood, its score or its curvature is not finite at the start, so there is no direction in which to"
        " search. The start may be outside the support of an observation; a term may overflow, such as exp of a large"
        " linear predictor (scale the covariates, or start coefficients at 0); or data are missing or infinite. Give"
        " another start."
    ),
    End.INTERRUPTED: (
        "Interrupted by Ctrl-C, by a time limit or by the caller. The values are those of the best point so far, not an"
        " optimum. Continue from there."
    ),
}

_COVARIANCE_ADVICE: dict[CovarianceState, str] = {
    CovarianceState.OK: "The covariance matrix was computed: the information is finite and safely positive definite.",
    CovarianceState.NOT_POSITIVE_DEFINITE: (
        "The information is not safely positive definite, so it has no inverse that means anything. Parameters may not be"
        " identified, as with collinear covariates; the point may be no maximum but a saddle; or scales may be so"
        " different that the digits are lost. Remove or fix a parameter, try another start, or rescale the variables."
    ),
    CovarianceState.NOT_FINITE: (
        "The information has entries that are not finite. That happens with an estimate at the bound of the support, with"
        " overflow in the likelihood or its derivatives, and with a `where` whose unused branch is not finite, which"
        " spoils derivatives although the value looks right. Make both branches safe, or bound the parameters."
    ),
    CovarianceState.NOT_CONVERGED: (
        "The optimiser did not reach a maximum, and standard errors at any other point have no meaning. The search was"
        " stopped early, the likelihood has no maximum, or the start was poor: read why the optimiser stopped."
    ),
    CovarianceState.TOO_FEW_CLUSTERS: (
        "There are too few clusters for a cluster-robust covariance: with G clusters its rank is at most G - 1, and"
        " with one cluster it is exactly zero. Check that groups= is the right column, and whether rows were lost to"
        " missing values. Use a finer grouping, or another kind of covariance."
    ),
    CovarianceState.TOO_FEW_ROWS: (
        "There are too few rows or units for this covariance: a small-sample factor such as n/(n-k) does not exist, or"
        " there are as many lags as log-likelihood terms. Check whether rows were lost to missing values. Use a covariance"
        " without a factor, fewer parameters, or more data."
    ),
    CovarianceState.INTERRUPTED: (
        "Ctrl-C was pressed before the products of scores of this data set were summed. Compute the covariance again,"
        " `with_cov(...)`; use 'nonrobust', which needs no products of scores; or fit this data set alone."
    ),
    CovarianceState.NO_SCORES: (
        "This covariance sums products of scores over rows or units, which were not summed or are not finite. The"
        " likelihood returns a single number, the score of a row is NaN or infinite, or the rows are not in memory."
        " Return one value per observation or unit, or use the observed information."
    ),
    CovarianceState.SINGULAR_SCORES: (
        "The scores span fewer directions than there are parameters, so the sum of their products is singular"
        " and the standard errors from it would be zero or infinite. That happens with fewer units or clusters than"
        " parameters, with an observation or group that fits exactly, and with pairs of observations that mirror each"
        " other. Use the observed information, or more and smaller groups."
    ),
    CovarianceState.PENALTY_NOT_SMOOTH: (
        "The penalty has a kink at the estimate, where it has no curvature, so that no standard errors follow from the"
        " information. A kink is at an absolute value of 0 (lasso), at a norm of several entries that are all 0"
        " (group lasso), and at a difference of 0 (fused lasso). Use a smooth penalty such as mle.l2, or refit without"
        " the entries that were set to 0; standard errors then ignore the selection."
    ),
    CovarianceState.ON_BOUNDARY: (
        "This estimate is at, or within two standard errors of, a bound that belongs to its support, where the normal"
        " approximation fails, as for a variance component that the data do not need. Use conf_int(method='profile'), or"
        " fix the parameter at the bound and refit."
    ),
    CovarianceState.NOT_IDENTIFIED: (
        "The data do not identify this parameter separately from the others: the information is singular in its direction."
        " That happens with collinear covariates, with a parameter that the likelihood does not use, and with too few"
        " observations in some cell. Drop or fix one of the parameters involved."
    ),
}
