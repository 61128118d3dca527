"""Evidence -> what a fit is worth: a code, a one-line statement in the user's addresses, and advice.

Seven codes.  ``verified``: a local maximum (never a claim that it is the highest).  ``boundary``: a maximum on a
closed edge of the support.  The other five are no maximum: ``no_finite_maximum`` (the log-likelihood keeps rising, or
flattens, along a direction), ``not_identified`` (a flat direction), ``saddle``, ``stopped_early`` and
``not_computable``.  ``converged`` is true for the first two only.

Why decrements are looked at: on completely separated data the scaled information stays positive definite while the
Newton decrement falls below any tolerance; but it falls by a factor near 1/e a step, and at a proper maximum it falls
faster than linearly.  A linear sequence therefore calls for a ray test (:mod:`mlejax.fit.diagnose.directions.rays`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from typing import Any

import numpy as np

from mlejax.misuse import PAGE
from mlejax.notebook import in_notebooks
from mlejax.shapes import Bool, Float, Host, Reduced
from mlejax.status import End

SMALL_DECREMENT = 1e-9  # log-likelihood units
UNSETTLED = 0.1  # log-likelihood units that a Newton step still promises where the steps ran out
CODES = ("verified", "boundary", "no_finite_maximum", "not_identified", "saddle", "stopped_early", "not_computable")
SEVERAL_STARTS = "; n_starts=50 looks for one"

NO_ESTIMATES = "The estimates printed are where the search was stopped, not a maximum; no standard errors are given."
ADVICE = {
    "verified": f"That no higher maximum exists elsewhere is not claimed{SEVERAL_STARTS}.",
    "boundary": (
        "The estimate lies on a closed edge of its support. No Wald error is given for it, and those of the others hold it "
        "there. Use a likelihood-ratio test (its null distribution is a mixture of chi-squares) or "
        "res.conf_int(method='profile'), or fit without the parameter."
    ),
    "no_finite_maximum": (
        f"{NO_ESTIMATES} Causes: (a) separation: a covariate predicts the outcome perfectly; (b) a scale that can shrink to 0 on "
        "a few rows (a mixture component on one point, a constant response); (c) counts or outcomes that are all zero; (d) a "
        "parameter at whose limit the model becomes a simpler one, which then fits as well. Drop or merge the covariate or "
        "component, collect more data, fit the simpler model, bound the parameter, penalise, or use bias_reduction='jeffreys'."
    ),
    "not_identified": (
        "The log-likelihood does not change along a direction, so the data cannot tell these parameters apart. Drop a "
        "collinear column or an unused parameter, or hold one of them with fixed=."
    ),
    "saddle": "The score is zero, but the log-likelihood rises in some direction. Give another start=.",
    "stopped_early": (
        "The estimates are the best point found, not a maximum. Raise max_steps, give a better start=, or use another method=."
    ),
    "not_computable": (
        "The log-likelihood or its score is not a finite number. Look at the rows named: a logarithm of zero, a value "
        "outside the support, or, where the value is finite but the score is not, a jnp.where whose unused branch divides "
        "by zero or takes the root or logarithm of zero: put a safe value inside the branch too. Or give another start=."
    ),
}


class Facts(Mapping[str, Any]):
    """The evidence behind a verdict: numbers that are known, and further ones that are computed when they are first read."""

    def __init__(self, known: Mapping[str, Any], later: Mapping[str, Callable[[], Any]] | None = None) -> None:
        self.known, self.later = dict(known), dict(later or {})

    def __getitem__(self, name: str) -> Any:
        if name in self.later:
            self.known[name] = self.later.pop(name)()
        return self.known[name]

    def __iter__(self) -> Iterator[str]:
        return iter((*self.known, *self.later))

    def __len__(self) -> int:
        return len(self.known) + len(self.later)

    def __repr__(self) -> str:
        return repr(dict(self))

    def __reduce__(self) -> Reduced:
        return Facts, (self.known,)


class ConvergenceWarning(UserWarning):
    """A fit did not end at a maximum; the verdict in the message says what was found instead."""


@in_notebooks
@dataclass(frozen=True)
class Verdict:
    """What a fit is worth.

    Attributes:
        code: one of :data:`CODES`.
        statement: one line, in the user's addresses.
        evidence: the numbers behind it.  ``"error_bars"`` bound how far rounding of the formula may have moved the
            log-likelihood (``loglik``, its units), the score (``score``, standard errors) and the standard errors
            (``information``, relative), each at most 0.01 where the verdict is ``verified``; they are computed when first read.
        advice: what to do.
    """

    code: str
    statement: str
    evidence: Mapping[str, Any] = field(default_factory=dict)
    advice: str = ""

    def __reduce__(self) -> Reduced:
        return Verdict, (self.code, self.statement, self.evidence, self.advice)

    @property
    def converged(self) -> bool:
        """True for ``verified`` and ``boundary``."""
        return self.code in ("verified", "boundary")

    @property
    def supremum(self) -> float | None:
        """The log-likelihood that is approached and never reached, where it levels off; None elsewhere."""
        return self.evidence.get("supremum") if self.code == "no_finite_maximum" else None

    def with_note(self, note: str) -> Verdict:
        """The same verdict after several starts: more said at the end of its statement, and none advised."""
        advice = self.advice.replace(SEVERAL_STARTS, "")
        return replace(self, statement=f"{self.statement}; {note}", advice=advice)

    @property
    def address(self) -> str:
        """The row of the documentation that explains this code."""
        return f"{PAGE}#{self.code}"

    def __str__(self) -> str:
        return f"{self.code}: {self.statement}"


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


def superlinear(
    decrements: Float[Host, "*sets history"], tolerance: float = 1e-10, ratio: float = 0.05
) -> Bool[Host, "*sets"]:
    """Flags: the last decrements fell faster than linearly, by a factor below ``ratio`` on the way to the tolerance.

    A fall by 1/e a step is what every run to infinity shows; quadratic convergence passes far below it.  Values at
    the rounding floor, where ratios mean nothing, count only together with a preceding fall.
    """
    d = np.asarray(decrements)
    before, after = d[..., :-1], d[..., 1:]
    with np.errstate(invalid="ignore"):
        known = np.isfinite(before) & np.isfinite(after) & (before >= 0) & (after >= 0)
        return np.asarray((known & (after <= tolerance) & (after < ratio * before)).any(axis=-1))


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


NEGATED = (
    "where the search began the function curves upwards in every parameter, as minus a log-likelihood does: if it returns that, "
    "leave out the minus sign"
)


def judge(e: Evidence) -> Verdict:
    """Evidence -> verdict; rules in the order in which a problem outweighs the next."""
    facts: dict[str, Any] = {
        "decrement": e.decrement,
        "decrements": e.decrements,
        "smallest_eigenvalue": e.smallest_eigenvalue,
        "condition": e.condition,
        "n_steps": e.n_steps,
        "optimiser": e.end.name,
    }
    code, said = _rule(e)
    statement = said() if callable(said) else said
    if e.directions:
        facts["directions"] = tuple((d.behaviour, d.names, d.gain) for d in e.directions)
        risen = [d for d in e.directions if d.behaviour == "rises"]
        if risen and all(d.bounded for d in risen):
            facts["supremum"] = max(d.supremum for d in risen)
        if risen and e.deciding[0]:
            facts["rows"] = e.deciding[0]
    if e.edges:
        facts["edges"] = e.edges
    if e.dense:
        facts["mismatch"] = e.mismatch
    if e.limit:
        facts["limit"] = True
    if e.edges and e.within is not None:
        facts["decided_within"] = e.within
    if e.rounding:
        facts["rounding"] = e.rounding
    if code in ("verified", "boundary") and e.beside:
        statement = f"{statement}; {e.beside}"
    advice = e.advice if e.advice and code in ("stopped_early", "not_computable") else ADVICE[code]
    if code == "no_finite_maximum":
        if e.convex:
            advice = advice.replace("Causes:", "If the function does return the log-likelihood, causes are:")
        elif e.contributions[0] <= e.n_free:
            advice = NO_ESTIMATES + " Collect more data, or estimate fewer parameters (fixed=)."
        elif e.n_retried:
            advice += f" No finite maximum was met from {e.n_retried} other starts{SEVERAL_STARTS}."
    return Verdict(code, statement, Facts(facts), advice)


def code_of(e: Evidence) -> str:
    """The code alone, without the words of :func:`judge`."""
    return _rule(e)[0]


def _rule(e: Evidence) -> tuple[str, str | Callable[[], str]]:
    """The code, and the statement or what writes it."""
    if e.end == End.INTERRUPTED and not e.n_steps:
        return "stopped_early", "interrupted before the first step; the values are those of the start"
    if e.rows:
        return "not_computable", e.rows
    if not e.dense:
        usual = f"a first-order end after {e.n_steps} steps ({_ended(e.end)}); not checked by second derivatives"
        return "stopped_early", e.message or usual
    rising = steepest(e.directions)
    unsettled = e.end == End.MAX_STEPS and not e.decrement <= UNSETTLED  # what rises here may rise further elsewhere
    if rising is not None and not (unsettled and rising.bounded):
        return "no_finite_maximum", partial(_risen, rising, e)
    flat = [d for d in e.directions if d.behaviour == "flat"]
    if flat:
        return "not_identified", lambda: "; ".join(dict.fromkeys(d.movement for d in flat))
    higher = [d for d in e.directions if d.behaviour == "higher"]
    best = max(higher, key=lambda d: d.gain) if higher else None
    settled = e.end in (End.CONVERGED, End.PRECISION_FLOOR, End.SINGULAR)
    if best is not None and settled and not e.definite:
        return "saddle", f"a stationary point, but the log-likelihood is {best.gain:.3g} higher along {best.movement}"
    for d in e.directions:
        if d.behaviour == "inflection":
            return "saddle", (
                f"an inflection: the score is zero and the information nearly singular, but the log-likelihood is {d.gain:.3g} "
                f"higher along {d.movement}"
            )
    return _curved(e, best) if e.definite else ("stopped_early", _indefinite(e))


def _indefinite(e: Evidence) -> str:
    """What is said where the search stopped and the information is not positive definite."""
    if any(d.behaviour == "ridge" for d in e.directions):
        return (
            f"the information is singular where the search stopped ({_ended(e.end)} after {e.n_steps} steps), but not beside it: "
            "two components have become one, or the start was too far; give another start="
        )
    if e.end == End.INTERRUPTED:
        return f"interrupted after {e.n_steps} steps, before a maximum was near"
    if e.end == End.MAX_STEPS:
        negated = f"; {NEGATED}" if e.convex else ""
        return f"max_steps was reached after {e.n_steps} steps, before a maximum was near{negated}"
    if np.isnan(e.smallest_eigenvalue):
        return (
            f"the log-likelihood does not curve downwards in every parameter where the search stopped ({_ended(e.end)} after "
            f"{e.n_steps} steps): no maximum"
        )
    return (
        f"the information is too close to singular to be inverted where the search stopped ({_ended(e.end)} after "
        f"{e.n_steps} steps; smallest scaled eigenvalue {e.smallest_eigenvalue:.2g}): parameters that can hardly be told apart, "
        "or no maximum"
    )


def _curved(e: Evidence, best: Direction | None) -> tuple[str, str]:
    """The code and the statement where the information is positive definite; ``best`` is a direction to higher values."""
    # every suspicious ray was followed and falls: that outweighs what the optimiser could tell from its last step
    fell = bool(e.directions) and all(d.behaviour == "falls" for d in e.directions)
    followed = fell and e.decrement <= SMALL_DECREMENT and not (e.doubtful and e.end == End.DIVERGED)
    stopped = f"{_ended(e.end)} after {e.n_steps} steps"
    if e.blurred and not e.doubtful:
        return "stopped_early", (
            f"{stopped}, where the log-likelihood one standard error away does not fall as its "
            "second derivatives say: the formula has lost its digits, or is not smooth there"
        )
    if e.blurred:
        return "stopped_early", (
            f"{stopped}, where a standard error is beyond belief and the log-likelihood does not "
            "follow its own score: a plateau, on which the formula loses its digits (a difference of large terms)"
        )
    if e.doubtful and e.end != End.CONVERGED and not followed:
        return "stopped_early", f"{stopped}, where a standard error is beyond belief: a plateau"
    if e.end == End.CONVERGED or followed:
        if e.edges:
            where = ", ".join(f"{name} is on its edge {edge:g}" for name, edge, _ in e.edges)
            limit = "; the log-likelihood there is the limit of a formula that has no digits" if e.limit else ""
            ladder = "" if e.within is None else f"; near it the log-likelihood is not higher, decided to within {e.within:.1g}"
            return "boundary", f"{where}{ladder}; standard errors of the others hold it there{limit}"
        elsewhere = f"; a higher value was met along {best.movement}" if best is not None else ""
        return "verified", f"a local maximum{elsewhere}"
    if e.end == End.PRECISION_FLOOR and e.decrement <= 1e3 * SMALL_DECREMENT:
        return (
            "verified",
            f"a local maximum to the precision of the arithmetic: the decrement {e.decrement:.1e} cannot be made smaller",
        )
    # on a ridge that bends a maximum may be far higher than the curvature promises: no distance is stated
    left = f"; g'H^-1 g = {e.decrement:.1e}" if np.isfinite(e.decrement) else ""
    return "stopped_early", f"{stopped}{left}"


def _risen(rising: Direction, e: Evidence) -> str:
    deciding, (n, kind) = e.deciding[1], e.contributions
    where = f"along {rising.movement}" + (f" (decided by {deciding})" if deciding else "")
    few = f"; there are {e.n_free} parameters, but {n:g} {kind} to estimate them from" if n <= e.n_free else ""
    if rising.bounded:
        return f"the log-likelihood keeps rising towards {rising.supremum:.6g} {where}{few}"
    return f"the log-likelihood rises without bound {where}" + (f"; {NEGATED}" if e.convex else few)


def _ended(end: End) -> str:
    return end.name.lower().replace("_", " ")
