"""Find the rows because of which there is no maximum: those whose log-likelihood rises along the direction d without a maximum.

If the log-likelihood is unbounded, the rows whose terms (of each row, or unit) rise further along d are named.  If it levels off,
little is left to gain at the final point, so the line is followed backwards, to u - t d with the smallest t at which the whole
log-likelihood is lower by at least the number of terms (or, if it is nowhere, the t with the lowest value), and the rows whose
terms fall there are named.  For a linear predictor those are the rows with x'd != 0: the rows of a dummy under quasi-complete
separation, all rows under complete separation (Albert & Anderson 1984).
"""

from __future__ import annotations

from typing import Any

import numpy as np

from mlejax.fit.prepare.loaded import Loaded, named_terms
from mlejax.objective import SingleEvaluator, row_terms
from mlejax.optimize import OptimizeResult
from mlejax.shapes import Float, Host
from mlejax.verdict import Direction, steepest

STEPS = 2.0 ** np.arange(-8, 16)
SHARE = 0.95  # of all changes along the direction
FELT = 1e-6  # of the largest: a row that moves less does not move
FEW = 5
FEW_SHARE = 0.01


def telling_point(d: Direction, end: OptimizeResult, evaluator: SingleEvaluator) -> Float[Host, " p"] | None:
    """Return a point on the line of a rising direction, (p,), where the terms of influential rows differ from those at the final
    point: forwards if the log-likelihood is unbounded, else backwards.

    None if the log-likelihood, unbounded, rises by no more than 1 forwards, or, bounded, hardly falls backwards.
    """
    space, value = evaluator.spec.space, float(end.loglik)
    unit = d.vector / np.max(np.abs(d.vector) / np.maximum(1.0, np.abs(end.u)))
    points = np.clip(end.u + np.outer(-STEPS if d.bounded else STEPS, unit), space.lower, space.upper)
    change = evaluator.logliks({0: points})[0] - value
    usable = np.isfinite(change)
    if not d.bounded:
        best = int(np.argmax(np.where(usable, change, -np.inf)))
        return points[best] if change[best] > 1.0 else None
    lost = np.where(usable, -change, -np.inf)
    enough = np.flatnonzero(lost >= evaluator.n_contributions)
    at = int(enough[0]) if enough.size else int(np.argmax(lost))
    return points[at] if lost[at] > 1e-6 + 1e-9 * abs(value) else None


def few_that_move(change: np.ndarray) -> tuple[int, ...]:
    """Return the positions of the few entries that make up 95 % of the total absolute change (n,); empty if they are many, if
    all are 0, or if one is not finite.

    Few means at most five, or 1 % of n.  If the entries that change at all are few, they are all included.

    >>> few_that_move(np.array([0.0, 1e-9, 3.0, 0.0, 2.0, 0.0, 0.0]))
    (2, 4)
    >>> few_that_move(np.ones(200))
    ()
    """
    size = np.abs(change)
    if not np.isfinite(size).all() or not size.sum() > 0.0:
        return ()
    order = np.argsort(-size, kind="stable")
    count = int(np.searchsorted(np.cumsum(size[order]), SHARE * size.sum())) + 1
    few = min(max(FEW, FEW_SHARE * size.size), size.size - 1)
    if count > few:
        return ()
    all_that_move = int((size > FELT * size.max()).sum())
    count = max(count, all_that_move) if all_that_move <= few else count
    return tuple(sorted(int(i) for i in order[:count]))


def influential_rows(
    evaluator: SingleEvaluator, loaded: Loaded, end: OptimizeResult, directions: tuple[Direction, ...]
) -> tuple[tuple[Any, ...], str]:
    """Find the few rows, units or terms because of which the log-likelihood rises without a maximum.

    Returns:
        Their numbers in the user's table (labels of units; positions of the terms of a function of the whole data), and a phrase
        that lists them; ``((), "")`` if they are many, if the log-likelihood rises along none of the directions, or if it
        hardly changes along the steepest.
    """
    rising = steepest(directions)
    if rising is None:
        return (), ""
    with np.errstate(over="ignore", invalid="ignore"):
        far = telling_point(rising, end, evaluator)
    if far is None:
        return (), ""
    here, there = row_terms(evaluator, end.u), row_terms(evaluator, far)
    few = few_that_move(here.weights * (here.values - there.values))
    return named_terms(loaded, evaluator.spec.likelihood, np.array(few)) if few else ((), "")
