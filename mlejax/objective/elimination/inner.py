"""The maximising effect of every level at given parameters, by Newton's method in one dimension for all levels at once.

Levels have no row in common, so that each has its own maximum.  A step is accepted if the level's log-likelihood does not
decrease; otherwise a quarter of it is tried, or the midpoint of an interval that brackets the maximum (by signs of the score).  A
level whose score does not change its sign has no finite maximum: all its outcomes are zero, or all of them are one.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from mlejax.shapes import Bool, Float, Host

TOLERANCE = 1e-12  # a level has converged if its Newton decrement is at most this
NEARBY = 0.01  # largest Newton decrement of a level that may count as found before it has converged
ROUNDING = 1e-11  # decreases of a level's log-likelihood up to this, relative to 1 + its absolute value, are rounding
FIRST_REACH = 8.0  # largest first step of an effect; doubled after each accepted step of this length
SHORTEST = 1e-15  # steps of an effect up to this, relative to 1 + its absolute value, are rounding
LOOK_AFTER = 12  # steps after which levels that have not converged are first tested for divergence
MOST_STEPS = 100
WAY = (6.0, 12.0, 24.0, 48.0)  # multiples of the last step at which a level is tested for divergence
FAR = 1e6  # effects from this size on are not tested for divergence, because of rounding
LEVELS_OFF = 0.01  # a diverging level gains in the last interval at most this share of its gain in the first

Terms = Callable[[Float[Host, " levels"], "Bool[Host, ' levels'] | None"], Float[Host, "3 levels"]]


class Settled(NamedTuple):
    """Effects of the levels, with the log-likelihood there.

    Attributes:
        values: the effects (G,).
        terms: log-likelihood, score and minus the second derivative of every level (3, G).
        open: True for levels that have not converged (G,), but for those that ended early.
        early: True if levels ended early, as ``slack`` of `settle` allows: their ``values`` are then one Newton step beyond the
            effects at which ``terms`` were evaluated.
    """

    values: Float[Host, " levels"]
    terms: Float[Host, "3 levels"]
    open: Bool[Host, " levels"]
    early: bool = False


def settle(
    terms: Terms,
    values: Float[Host, " levels"],
    free: Bool[Host, " levels"],
    most: int = MOST_STEPS,
    here: Float[Host, "3 levels"] | None = None,
    slack: float = 0.0,
) -> Settled:
    """Return the effects that maximise the log-likelihood of every level, by Newton's method from ``values``.

    Args:
        terms: function (effects (G,), flags of the needed levels or None for all) -> log-likelihood, score and minus the second
            derivative of every level (3, G).
        values: start values (G,); 0 replaces those at which the log-likelihood is not finite.
        free: True for levels whose effect is estimated (G,); the other effects do not change.
        most: largest number of steps.
        here: the terms at ``values``, if they are known.
        slack: error of the log-likelihood, summed over the levels, up to which levels may end before they have converged; then
            they end after a Newton step whose end is not evaluated.
    """
    with np.errstate(all="ignore"):
        here = terms(values, None) if here is None else here
        lost = ~np.isfinite(here).all(axis=0) & free
        if lost.any():
            values = np.where(lost, 0.0, values)
            here = np.where(lost, terms(values, lost), here)
        length, reach = np.ones(values.size), np.full(values.size, FIRST_REACH)
        low, high = np.full(values.size, -np.inf), np.full(values.size, np.inf)
        for _ in range(most):
            step, still = newton_steps(here, free)
            step = np.where(here[2] == 0, np.sign(step) * reach, np.clip(length * step, -reach, reach))
            still &= np.abs(step) > SHORTEST * (1.0 + np.abs(values))
            if not still.any():
                break
            if slack > 0.0 and still_to_gain(here, still, 2.0) <= slack:
                return Settled(np.where(still, values + here[1] / here[2], values), here, free & ~(here[2] > 0), True)
            low, high = np.where(here[1] > 0, values, low), np.where(here[1] < 0, values, high)
            trial = np.where(still, values + step, values)
            trial = np.where(still & ((trial <= low) | (trial >= high)) & np.isfinite(high - low), 0.5 * (low + high), trial)
            there = terms(trial, still)
            fine = still & np.isfinite(there).all(axis=0)
            better = fine & ~(there[0] < here[0] - ROUNDING * (1.0 + np.abs(here[0])))
            low, high = np.where(fine & (there[1] > 0), trial, low), np.where(fine & (there[1] < 0), trial, high)
            reach = np.where(better & (np.abs(step) >= reach), 2.0 * reach, reach)
            values, here = np.where(better, trial, values), np.where(better, there, here)
            length = np.where(better, np.minimum(1.0, 4.0 * length), np.where(still, 0.25 * length, length))
        return Settled(values, here, newton_steps(here, free)[1] | (free & ~(here[2] > 0)))


def still_to_gain(
    terms: Float[Host, "3 levels"], open_: Bool[Host, " levels"], power: float = 1.0
) -> float:
    """Return the order of the error of the log-likelihood, summed over the open levels, that is left by one Newton step of each
    from here: the Newton decrement to the power 3/2, since the error is of third order in the step.

    Inf if a level is not concave here or its decrement is above `NEARBY` (0.01), where that order says nothing.

    Args:
        terms: log-likelihood, score and minus the second derivative of every level (3, G).
        open_: True for levels that have not converged (G,).
        power: 2 for the error that two Newton steps leave, since the decrement after a step is of the order of its square.
    """
    _, score, curvature = terms[:, open_]
    with np.errstate(all="ignore"):
        return excess((score * score / curvature) ** power) if (curvature > 0).all() else float("inf")


def excess(decrements: Float[Host, " levels"]) -> float:
    """Return the sum of the decrements to the power 3/2; inf if one of them is above `NEARBY` (0.01)."""
    return float(np.sum(decrements**1.5)) if (decrements <= NEARBY).all() else float("inf")


def newton_steps(
    terms: Float[Host, "3 levels"], free: Bool[Host, " levels"]
) -> tuple[Float[Host, " levels"], Bool[Host, " levels"]]:
    """Return the Newton step of every level (uphill also if the log-likelihood is not concave there), and True for levels
    that have not converged.

    Args:
        terms: log-likelihood, score and minus the second derivative of every level, (3, levels).
        free: True for levels whose effect is to be found; the step of the others, and where the score is not finite, is 0.
    """
    _, score, curvature = terms
    with np.errstate(all="ignore"):
        size = np.where(curvature != 0, np.abs(curvature), 1.0)
        step = np.where(free & np.isfinite(score), score / size, 0.0)
        settled = (curvature > 0) & (score * step <= TOLERANCE)
    return step, free & ~settled & (step != 0)


def infinite(terms: Terms, at: Settled) -> Float[Host, " levels"]:
    """Return 1 or -1 for levels that have not converged because their effect diverges to plus or minus infinity, 0 for all
    others (G,).

    At growing effects the log-likelihood of such a level approaches a limit and its score keeps its sign.
    """
    step = newton_steps(at.terms, at.open)[0]
    sign = np.sign(np.where(step != 0, step, at.values))
    unit = np.maximum(np.abs(step), 1.0)
    going, values = at.open & (sign != 0) & (np.abs(at.values) < FAR), [at.terms[0]]
    with np.errstate(all="ignore"):
        for way in WAY:
            there = terms(np.where(going, at.values + sign * way * unit, at.values), going)
            slack = ROUNDING * (1.0 + np.abs(values[-1]))
            going &= np.isfinite(there[0]) & (there[0] >= values[-1] - slack) & ~(there[1] * sign < 0)
            values.append(np.where(going, there[0], values[-1]))
        step = newton_steps(there, going)[0]
        going &= there[1] * step <= LEVELS_OFF  # it has levelled off in its own units, too
        first, last = values[1] - values[0], values[-1] - values[-2]
        going &= last <= LEVELS_OFF * np.maximum(first, 0.0) + ROUNDING * (1.0 + np.abs(values[-1]))
    return np.where(going, sign, 0.0)
