"""What is known at the end of a fit: numbers of the optimiser, and what the log-likelihood does along directions."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from mlejax.shapes import Bool, Float, Host, Reduced
from mlejax.status import End

SMALL_DECREMENT = 1e-9  # log-likelihood units

Words = tuple[str, tuple[str, ...]]


@dataclass(frozen=True)
class Direction:
    """What the log-likelihood does along one direction: ``falls``, ``rises`` (to ``supremum``), ``flat``,
    ``ridge`` (flat only where the search ended), ``higher``, ``inflection`` (higher on one side, at third order), or
    ``unknown`` where it could not be evaluated.

    ``words``: the movement and the names of what moves, or what makes them when they are first asked for.
    """

    behaviour: str
    vector: np.ndarray
    gain: float = 0.0
    supremum: float = float("nan")
    words: Words | Callable[[], Words] = ("", ())
    bounded: bool = True
    point: np.ndarray | None = None

    @cached_property
    def _said(self) -> Words:
        with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
            return self.words() if callable(self.words) else self.words

    @property
    def movement(self) -> str:
        """Where the direction leads, in the user's addresses."""
        return self._said[0]

    @property
    def names(self) -> tuple[str, ...]:
        """The addresses that it moves, strongest first."""
        return self._said[1]

    def __reduce__(self) -> Reduced:
        parts = (self.behaviour, self.vector, self.gain, self.supremum, self._said, self.bounded, self.point)
        return Direction, parts


@dataclass(frozen=True)
class Evidence:
    """What is known at the end of a fit, on the host.

    Attributes:
        end: why the optimiser stopped.
        decrement: Newton decrement g' H^-1 g, log-likelihood units (over the coordinates not on an edge).
        decrements: the last undamped ones, most recent last.
        smallest_eigenvalue, condition: of the scaled information over the same coordinates.
        definite: the scaled information is positive definite.
        mismatch: share of the score's change along the last step but for the smallest that the information does not explain,
            inf if there was none; above 0.003 the error bars of the rounding are looked at.
        doubtful: so it is, but some standard error is beyond belief (a plateau, or rounding).
        blurred: the log-likelihood does not follow its score and information: rounding.
        edges: addresses on a closed edge of their support, with the edge and the multiplier.
        directions: ray tests, where they were needed.
        rows: for a log-likelihood or score that is not finite: text on which rows.
        rounding: what is known of the rounding of the log-likelihood there, where it was looked at.
        limit: the end is a limit on an edge, where the formula itself has no digits.
        within: log-likelihood by which the profile off an edge could be higher unseen, where that profile decided; else None.
        deciding: the rows or units that make the log-likelihood rise without a maximum, where they are few, and the
            same in words.
        n_steps: steps taken.
        dense: a Hessian was available (False for first-order fits of many parameters).
        convex: where the search began the log-likelihood curves upwards in every parameter.
        beside: that the log-likelihood has no bound elsewhere, in words, where the first search went there.
        n_retried: further starts from which no maximum was found.
        contributions: how many the log-likelihood sums, and what one is, ``(3, "rows")``; where it is known.
        n_free: free parameters.
        message: of an end without a Hessian, the statement in place of the usual one.
        advice: in place of the usual one.
    """

    end: End
    decrement: float
    decrements: tuple[float, ...]
    smallest_eigenvalue: float
    condition: float
    definite: bool
    mismatch: float = float("inf")
    doubtful: bool = False
    blurred: bool = False
    rounding: str = ""
    limit: bool = False
    within: float | None = None
    edges: tuple[tuple[str, float, float], ...] = ()
    directions: tuple[Direction, ...] = ()
    rows: str = ""
    deciding: tuple[tuple[Any, ...], str] = ((), "")
    n_steps: int = 0
    dense: bool = True
    convex: bool = False
    beside: str = ""
    n_retried: int = 0
    contributions: tuple[float, str] = (float("inf"), "")
    n_free: int = 0
    message: str = ""
    advice: str = ""


def superlinear(decrements: Float[Host, "*sets history"]) -> Bool[Host, "*sets"]:
    """Flags: the last decrements fell faster than linearly, by a factor below 0.05 on the way to 1e-10.

    A fall by 1/e a step is what every run to infinity shows; quadratic convergence passes far below it.  Values at
    the rounding floor, where ratios mean nothing, count only together with a preceding fall.
    """
    d = np.asarray(decrements)
    before, after = d[..., :-1], d[..., 1:]
    with np.errstate(invalid="ignore"):
        known = np.isfinite(before) & np.isfinite(after) & (before >= 0) & (after >= 0)
        return np.asarray((known & (after <= 1e-10) & (after < 0.05 * before)).any(axis=-1))


def steepest(directions: tuple[Direction, ...]) -> Direction | None:
    """Of the directions along which the log-likelihood rises without a maximum, the one that says most.

    Of those without bound the one that moves the fewest entries (others go along for the ride), else the one with the
    largest gain.
    """
    rising = [d for d in directions if d.behaviour == "rises"]
    unbounded = [d for d in rising if not d.bounded]
    if unbounded:
        return min(unbounded, key=lambda d: (len(d.names), -d.gain))
    return max(rising, key=lambda d: d.gain, default=None)
