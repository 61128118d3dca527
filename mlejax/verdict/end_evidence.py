"""The evidence at the final point of a fit: numbers of the optimiser, and what the log-likelihood does along directions."""

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
    """What the log-likelihood does along a straight line from the final point of a search.

    Attributes:
        behaviour: ``falls``, ``rises`` (without a maximum), ``flat``, ``plateau`` (flat to one side, up to a kink), ``ridge``
            (flat at the final point only), ``higher`` (at some distance), ``inflection`` (higher on one side, by the third
            derivative), or ``unknown`` (not evaluable).
        vector: the direction, unconstrained coordinates, (p,).
        gain: increase of the log-likelihood along it, ().
        supremum: for ``rises`` the limit of the log-likelihood if it levels off, else the highest value seen, (); for ``flat``
            and ``plateau`` the value at the final point; NaN for other behaviours, and where it was not recorded.
        words: (movement, names), or a function that makes them when first needed.
        bounded: the log-likelihood levels off.
        point: where the log-likelihood was higher, unconstrained coordinates (p,); or None.
        fell: where the log-likelihood is lower, far on the other side of a direction that is flat nearby, (p,), or None.
        settled: the log-likelihood levels off with all other parameters at their maximum, so that steps in these gain nothing.
    """

    behaviour: str
    vector: np.ndarray
    gain: float = 0.0
    supremum: float = float("nan")
    words: Words | Callable[[], Words] = ("", ())
    bounded: bool = True
    point: np.ndarray | None = None
    fell: np.ndarray | None = None
    settled: bool = False

    @cached_property
    def _said(self) -> Words:
        """(movement, names): ``words``, or what it returns if it is a function."""
        with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
            return self.words() if callable(self.words) else self.words

    @property
    def movement(self) -> str:
        """Where the parameters go, such as ``"beta[x] -> +inf"``."""
        return self._said[0]

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the parameters that change along the direction, the largest change first."""
        return self._said[1]

    def __reduce__(self) -> Reduced:
        words, far = self._said, (self.bounded, self.point, self.fell, self.settled)
        return Direction, (self.behaviour, self.vector, self.gain, self.supremum, words, *far)


@dataclass(frozen=True)
class Findings:
    """What the diagnosis of one final point found, beyond what the optimiser returned.

    Attributes:
        directions: what ray tests found; empty where they were not needed.
        rows: statement on what is not finite or not defined at the final point, with the rows concerned if they are known; empty
            if nothing is.
        advice: replaces the usual advice of the codes ``not_computable`` and ``stopped_early``; empty keeps that.
        blurred: rounding errors dominate the log-likelihood or its derivatives, by their error bars or, if these are not
            known, by finite differences.
        rounding: statement on the rounding error of the log-likelihood; empty if it was not estimated.
        limit: the final point is a limit at a bound, where the function itself cannot be evaluated accurately.
        within: how much higher the profile log-likelihood could be away from a bound without being noticed,
            log-likelihood units; None unless that profile was evaluated.
        deciding: labels of the few rows or units because of which the log-likelihood rises without a maximum, and a phrase
            that lists them; empty if they are many.
        negated: the function has a minimum and no maximum was found; False also if that was not checked.
        beside: statement that the log-likelihood is unbounded elsewhere, if the first search went there; else empty.
        n_retried: number of further starts from which no maximum was found.
        mapped: a `Mapped`, the result in centred and scaled coordinates, in which ``directions`` then are; None if these
            coordinates were not used.
    """

    directions: tuple[Direction, ...] = ()
    rows: str = ""
    advice: str = ""
    blurred: bool = False
    rounding: str = ""
    limit: bool = False
    within: float | None = None
    deciding: tuple[tuple[Any, ...], str] = ((), "")
    negated: bool = False
    beside: str = ""
    n_retried: int = 0
    mapped: Any = None


@dataclass(frozen=True)
class Evidence:
    """What is known of the final point of a search; numbers are Python floats or NumPy arrays.

    Attributes:
        end: why the optimiser stopped.
        decrement: Newton decrement g' H^-1 g over the coordinates that are not at a bound, log-likelihood units.
        decrements: Newton decrements at the last four accepted points, most recent last; empty without a Hessian.
        smallest_eigenvalue, condition: smallest eigenvalue and condition number of the information scaled to unit diagonal,
            over the same coordinates.
        definite: the scaled information is positive definite.
        mismatch: share of the change of the score along the last sizeable step that the information at both its ends does
            not explain, as `OptimizeResult.mismatch`; inf if there was none.  Above 0.003 rounding errors are estimated.
        doubtful: the information is positive definite, but some standard error is implausibly large (a plateau, or rounding).
        findings: what the diagnosis found.
        bounds: (name, bound, score in u there, its Lagrange multiplier) of each parameter at a bound of its support.
        n_steps: number of accepted steps.
        dense: a Hessian was available (False for first-order fits of many parameters).
        contributions: number of terms that the log-likelihood sums and what one is, ``(3, "rows")``; inf if unknown.
        n_free: number of free parameters.
        message: statement that replaces the usual one if there is no Hessian.
    """

    end: End
    decrement: float
    decrements: tuple[float, ...]
    smallest_eigenvalue: float
    condition: float
    definite: bool
    mismatch: float = float("inf")
    doubtful: bool = False
    findings: Findings = Findings()
    bounds: tuple[tuple[str, float, float], ...] = ()
    n_steps: int = 0
    dense: bool = True
    contributions: tuple[float, str] = (float("inf"), "")
    n_free: int = 0
    message: str = ""


def superlinear(decrements: Float[Host, "*sets history"]) -> Bool[Host, "*sets"]:
    """Return True for data sets whose Newton decrements, (..., history), oldest first, show superlinear convergence; (...).

    That is, some decrement is at most 1e-10 and less than 0.05 times the one before it; pairs with a negative, infinite or
    NaN decrement do not count.  Where parameters go to infinity, decrements fall by about 1/e per iteration.
    """
    d = np.asarray(decrements)
    before, after = d[..., :-1], d[..., 1:]
    with np.errstate(invalid="ignore"):
        known = np.isfinite(before) & np.isfinite(after) & (before >= 0) & (after >= 0)
        return np.asarray((known & (after <= 1e-10) & (after < 0.05 * before)).any(axis=-1))


def steepest(directions: tuple[Direction, ...]) -> Direction | None:
    """Return the most informative direction along which the log-likelihood rises without a maximum; None if there is none.

    If the log-likelihood is unbounded along some of them: the one of those that changes the fewest parameters, and of
    several the one with the largest gain.  Else the one with the largest gain.
    """
    rising = [d for d in directions if d.behaviour == "rises"]
    unbounded = [d for d in rising if not d.bounded]
    if unbounded:
        return min(unbounded, key=lambda d: (len(d.names), -d.gain))
    return max(rising, key=lambda d: d.gain, default=None)
