"""Why an optimiser stopped, and whether a covariance matrix could be computed.

Codes are small integers so that they can be stored in arrays (one per data set of a batch) and pass through `jit`. Every
code has advice: what happened, the usual causes (a), (b), (c), and what to do about it.

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
        """One paragraph in English: what happened, the usual causes, what to do."""
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
        """One paragraph in English: what happened, the usual causes, what to do."""
        return _COVARIANCE_ADVICE[self]


_END_ADVICE: dict[End, str] = {
    End.RUNNING: "The optimiser has not finished; the values are those of the best point so far. Continue it.",
    End.CONVERGED: (
        "Converged: the Newton decrement is below the tolerance in log-likelihood units, a further full step"
        " confirmed it, and the information there is positive definite and did not shrink along the last step. This is"
        " a local maximum; other starts may find a higher one."
    ),
    End.MAX_STEPS: (
        "The steps allowed were used up before the optimum was reached. Usual causes: (a) a start far away, so that the"
        " search is still under way: continue it, or raise max_steps; (b) parameters that are nearly not identified, so"
        " that it advances slowly along a curved ridge: simplify or reparametrise the model; (c) a likelihood without a"
        " maximum: look for parameters that keep growing."
    ),
    End.PRECISION_FLOOR: (
        "No step improves the log-likelihood any more in floating point, although the tolerance was not reached. Usual"
        " causes: (a) variables on very different scales or large offsets, which cost digits: centre and scale them;"
        " (b) a formula with cancellation, such as log(1 - exp(x)) or log(exp(x)): use log1p, expm1, logsumexp; (c) float32"
        " arithmetic: use float64. The point is usually an optimum to fewer digits than requested: check the decrement."
    ),
    End.STALLED: (
        "The search is stuck at a point that is not a maximum: every step tried, however short, was worse or not"
        " finite. Usual causes: (a) the boundary of the region where the likelihood is finite, such as a support that"
        " depends on the parameters: bound the parameters, or start elsewhere; (b) a likelihood that is unbounded,"
        " such as a scale that shrinks around one observation: bound the scale or add a penalty; (c) a derivative"
        " that does not belong to the function: a kink, a table, a `where` with a non-finite branch, or a custom"
        " rule that is wrong."
    ),
    End.DIVERGED: (
        "No finite maximum was found: the log-likelihood goes on rising, ever more slowly, as parameters go to infinity."
        " Each full Newton step gains, but the curvature shrinks along it. Usual causes: (a) separation: a combination of"
        " covariates predicts the outcome perfectly; (b) a parameter whose best value lies at infinity or at the"
        " bound of its support, such as a dispersion or a mixing probability that the data do not need: fix it, or"
        " drop it; (c) a start so far out that the likelihood is flat there: start nearer to the data."
    ),
    End.SINGULAR: (
        "The score is zero but the curvature is zero as well in some direction: the maximum, if it is one, is not"
        " unique to the accuracy of the arithmetic. Usual causes: (a) collinear covariates or a parameter that the"
        " likelihood does not use; (b) two components that have become identical; (c) a flat region far from the"
        " data. Drop or fix a parameter, add a penalty, or start elsewhere."
    ),
    End.SETTLED: (
        "A first-order method stopped because the log-likelihood no longer improved by more than its tolerance."
        " Nothing is known about the curvature, so this alone is no proof of a maximum: (a) the optimum may have"
        " been reached; (b) the learning rate may be too small, or too large, to make progress; (c) the surface may"
        " be flat here. Polish with Newton's method, or continue with a smaller tolerance or another learning rate."
    ),
    End.START_NOT_FINITE: (
        "The log-likelihood, its score or its curvature is not finite at the start, so there is nothing to climb. Usual"
        " causes: (a) a start outside the support of some observation; (b) overflow, such as exp of a large linear"
        " predictor: scale the covariates, or start coefficients at 0; (c) missing or infinite data. Give another"
        " start."
    ),
    End.INTERRUPTED: (
        "Interrupted: (a) by Ctrl-C, (b) by a time limit or (c) by the caller. The values are those of the"
        " best point so far, not an optimum. Continue from there."
    ),
}

_COVARIANCE_ADVICE: dict[CovarianceState, str] = {
    CovarianceState.OK: "The covariance matrix was computed: the information is finite and safely positive definite.",
    CovarianceState.NOT_POSITIVE_DEFINITE: (
        "The information is not safely positive definite, so it has no inverse that means anything. Usual causes:"
        " (a) parameters that are not identified, such as collinear covariates; (b) a point that is not a maximum,"
        " such as a saddle; (c) scales so different that the digits are lost. Remove or fix a parameter, try another"
        " start, or rescale the variables."
    ),
    CovarianceState.NOT_FINITE: (
        "The information has entries that are not finite. Usual causes: (a) an estimate at the bound of the support;"
        " (b) overflow in the likelihood or its derivatives; (c) a `where` whose unused branch is not finite, which"
        " spoils derivatives although the value looks right. Make both branches safe, or bound the parameters."
    ),
    CovarianceState.NOT_CONVERGED: (
        "The optimiser did not reach a maximum, and standard errors at any other point have no meaning. Usual causes:"
        " (a) it was stopped early; (b) the likelihood has no maximum; (c) the start was poor. Read why the"
        " optimiser stopped."
    ),
    CovarianceState.TOO_FEW_CLUSTERS: (
        "There are too few clusters for a cluster-robust covariance: with G clusters its rank is at most G - 1, and"
        " with one cluster it is exactly zero. Usual causes: (a) a grouping that is too coarse; (b) the wrong column"
        " as groups; (c) rows lost to missing values. Use a finer grouping, or another kind of covariance."
    ),
    CovarianceState.TOO_FEW_ROWS: (
        "There are too few rows or units for this covariance: a small-sample factor such as n/(n-k) does not exist, or"
        " there are as many lags as log-likelihood terms. Usual causes: (a) a small group among many; (b) rows lost to"
        " missing values; (c) too many parameters. Use a covariance without a factor, fewer parameters, or more data."
    ),
    CovarianceState.INTERRUPTED: (
        "Ctrl-C was pressed before the products of scores of this data set were summed. Either (a) compute the covariance"
        " again, `with_cov(...)`; (b) use a kind that needs no products of scores, 'nonrobust'; or (c) fit this data set alone."
    ),
    CovarianceState.NO_SCORES: (
        "This covariance sums products of scores over rows or units, which were not summed or are not finite. Usual causes:"
        " (a) the likelihood returns a single number; (b) the score of a row is NaN or infinite; (c) the rows are not in"
        " memory. Return one value per observation or unit, or use the observed information."
    ),
    CovarianceState.SINGULAR_SCORES: (
        "The scores span fewer directions than there are parameters, so the sum of their products is singular"
        " and the standard errors from it would be zero or infinite. Usual causes: (a) fewer units or clusters than"
        " parameters; (b) an observation or group that fits exactly; (c) pairs of observations that mirror each"
        " other. Use the observed information, or more and smaller groups."
    ),
    CovarianceState.PENALTY_NOT_SMOOTH: (
        "The penalty has a kink at the estimate, where it has no curvature, so that no standard errors follow from the"
        " information. Usual causes: (a) an absolute value at 0 (a lasso); (b) a norm of several entries that are all 0"
        " (a group lasso); (c) a difference that is fused to 0. Use a smooth penalty such as mle.l2, or refit without"
        " the entries that were set to 0; standard errors then ignore the selection."
    ),
    CovarianceState.ON_BOUNDARY: (
        "This estimate is at, or within two standard errors of, a bound that belongs to its support, where the normal"
        " approximation fails. Usual causes: (a) a variance component that the data do not need; (b) a bound that is"
        " active; (c) too little data. Use"
        " conf_int(method='profile'), or fix the parameter at the bound and refit."
    ),
    CovarianceState.NOT_IDENTIFIED: (
        "The data do not identify this parameter separately from the others: the information is singular in its direction."
        " Usual causes: (a) collinear covariates; (b) a parameter that the likelihood does not use; (c) too few"
        " observations in some cell. Drop or fix one of the parameters involved."
    ),
}
