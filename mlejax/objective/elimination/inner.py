"""The best effect of every level at given parameters: Newton's method in one unknown for all levels at once.

Levels have no row in common, so that each has its own maximum.  A step counts where the level's log-likelihood does not fall;
else a quarter of it is tried, or the middle between points whose scores point at each other.  A level whose score keeps its
sign however far its effect goes has no finite maximum: all its outcomes are zero, or all of them are one.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from mlejax.shapes import Bool, Float, Host

TOLERANCE = 1e-12  # decrement of a level below which it has settled
ROUNDING = 1e-11  # fall of a level's log-likelihood that is none, relative to 1 + its size
FIRST_REACH = 8.0  # longest step of an effect; twice as long after each that was good
SHORTEST = 1e-15  # step of an effect, relative to 1 + its size, that is rounding
LOOK_AFTER = 12  # steps after which levels that have not settled are looked at for the first time
MOST_STEPS = 100
WAY = (6.0, 12.0, 24.0, 48.0)  # steps beyond the last one at which a level is followed
FAR = 1e6  # an effect beyond which steps of that size are lost in rounding
LEVELS_OFF = 0.01  # share of the first gain on that way that the last part may still gain

Terms = Callable[[Float[Host, " levels"], "Bool[Host, ' levels'] | None"], Float[Host, "3 levels"]]


class Settled(NamedTuple):
    """Effects, and what is known there.

    Attributes:
        values: the effects (G,).
        terms: value, score and curvature of every level, (3, G).
        open: levels that have not settled (G,).
    """

    values: Float[Host, " levels"]
    terms: Float[Host, "3 levels"]
    open: Bool[Host, " levels"]


def settle(
    terms: Terms, values: Float[Host, " levels"], free: Bool[Host, " levels"], most: int = MOST_STEPS
) -> Settled:
    """The effects that maximise the log-likelihood of every level, from ``values`` on.

    Args:
        terms: (effects, levels that are wanted or None for all) -> value, score and curvature of every level.
        values: where to begin; where nothing is finite, 0 is tried.
        free: levels whose effect is to be found; the others keep theirs.
        most: steps.
    """
    with np.errstate(all="ignore"):
        here = terms(values, None)
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


def newton_steps(
    terms: Float[Host, "3 levels"], free: Bool[Host, " levels"]
) -> tuple[Float[Host, " levels"], Bool[Host, " levels"]]:
    """The step of every level, and which levels have not settled; uphill where the log-likelihood is not concave."""
    _, score, curvature = terms
    with np.errstate(all="ignore"):
        size = np.where(curvature != 0, np.abs(curvature), 1.0)
        step = np.where(free & np.isfinite(score), score / size, 0.0)
        settled = (curvature > 0) & (score * step <= TOLERANCE)
    return step, free & ~settled & (step != 0)


def infinite(terms: Terms, at: Settled) -> Float[Host, " levels"]:
    """The sign of the infinity of levels that have not settled and have no finite effect, 0 for all others.

    Followed on, such a level gains ever less and its score never turns.
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
