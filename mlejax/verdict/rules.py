"""The rules from evidence to a verdict; of several problems the most severe decides the code."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from mlejax.status import End
from mlejax.verdict.codes import ADVICE, CONVERGED, NO_ESTIMATES, SEVERAL_STARTS, Facts, Verdict
from mlejax.verdict.end_evidence import SMALL_DECREMENT, Direction, Evidence, steepest

UNSETTLED = 0.1  # Newton decrement, log-likelihood units, above which a search that used up max_steps is far from an optimum
NEGATED = (
    "does the function return minus the log-likelihood? It has a minimum where a log-likelihood has its maximum; leave out the "
    "minus sign then"
)


def judge(e: Evidence) -> Verdict:
    """Return the verdict for this evidence: code, statement, advice, and the numbers that led to it.

    Of several problems the first in the order of `_rule` decides the code.
    """
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
    if e.findings.directions:
        facts["directions"] = tuple((d.behaviour, d.names, d.gain) for d in e.findings.directions)
        risen = [d for d in e.findings.directions if d.behaviour == "rises"]
        if risen and all(d.bounded for d in risen):
            facts["supremum"] = max(d.supremum for d in risen)
        if risen and e.findings.deciding[0]:
            facts["rows"] = e.findings.deciding[0]
    if e.bounds:
        facts["edges"] = e.bounds
    if e.dense:
        facts["mismatch"] = e.mismatch
    if e.findings.limit:
        facts["limit"] = True
    if e.bounds and e.findings.within is not None:
        facts["decided_within"] = e.findings.within
    if e.findings.rounding:
        facts["rounding"] = e.findings.rounding
    if code in CONVERGED and e.findings.beside:
        statement = f"{statement}; {e.findings.beside}"
    asked = e.findings.negated and code in ("no_finite_maximum", "saddle", "stopped_early", "not_computable")
    if asked:
        statement = f"{statement}; {NEGATED}"
    advice = e.findings.advice if e.findings.advice and code in ("stopped_early", "not_computable") else ADVICE[code]
    if asked:
        advice = advice.replace(NO_ESTIMATES, f"{NO_ESTIMATES} If the function does return the log-likelihood:")
    elif code == "no_finite_maximum":
        if e.contributions[0] <= e.n_free:
            advice = NO_ESTIMATES + " Collect more data, or estimate fewer parameters (fixed=)."
        elif e.findings.n_retried:
            advice += f" {e.findings.n_retried} other starts reached no finite maximum either{SEVERAL_STARTS}."
    elif code == "not_computable" and e.findings.n_retried:
        advice += f" {e.findings.n_retried} other starts reached no maximum either{SEVERAL_STARTS}."
    return Verdict(code, statement, Facts(facts), advice)


def code_of(e: Evidence) -> str:
    """Return the code of the verdict that :func:`judge` would return for this evidence, without making its statement."""
    return _rule(e)[0]


def _rule(e: Evidence) -> tuple[str, str | Callable[[], str]]:
    """Return the code, and the statement or a function that makes it when it is needed.

    In this order: interrupted before the first step, rows that are not finite, no Hessian, a direction along which the
    log-likelihood rises without a maximum, flat directions, saddles and inflections; else the information decides.
    """
    if e.end == End.INTERRUPTED and not e.n_steps:
        return "stopped_early", "interrupted before the first step; the values are those of the start"
    if e.findings.rows:
        return "not_computable", e.findings.rows
    if not e.dense:
        usual = f"a first-order method stopped after {e.n_steps} steps ({_ended(e.end)}); not checked by second derivatives"
        return "stopped_early", e.message or usual
    rising = steepest(e.findings.directions)
    unsettled = e.end == End.MAX_STEPS and not e.decrement <= UNSETTLED  # what rises here may rise further elsewhere
    if rising is not None and (rising.settled or not (unsettled and rising.bounded)):
        return "no_finite_maximum", partial(_risen, rising, e)
    flat = [d for d in e.findings.directions if d.behaviour in ("flat", "plateau")]
    if flat:
        return "not_identified", lambda: "; ".join(dict.fromkeys(d.movement for d in flat))
    higher = [d for d in e.findings.directions if d.behaviour == "higher"]
    best = max(higher, key=lambda d: d.gain) if higher else None
    settled = e.end in (End.CONVERGED, End.PRECISION_FLOOR, End.SINGULAR)
    if best is not None and settled and not e.definite:
        return "saddle", f"a stationary point, but the log-likelihood is {best.gain:.3g} higher along {best.movement}"
    for d in e.findings.directions:
        if d.behaviour == "inflection":
            return "saddle", (
                f"an inflection: the score is zero and the information nearly singular, but the log-likelihood is {d.gain:.3g} "
                f"higher along {d.movement}"
            )
    return _curved(e, best) if e.definite else ("stopped_early", _indefinite(e))


def _indefinite(e: Evidence) -> str:
    """Return the statement for a final point where the information is not positive definite (code ``stopped_early``)."""
    if any(d.behaviour == "ridge" for d in e.findings.directions):
        return (
            f"the information is singular where the search stopped ({_ended(e.end)} after {e.n_steps} steps), but not at points "
            "nearby; give another start="
        )
    if e.end == End.INTERRUPTED:
        return f"interrupted after {e.n_steps} steps, where the information is not positive definite"
    if e.end == End.MAX_STEPS:
        return f"max_steps was reached after {e.n_steps} steps, where the information is not positive definite"
    if np.isnan(e.smallest_eigenvalue):
        return (
            f"the log-likelihood does not curve downwards in every parameter where the search stopped ({_ended(e.end)} after "
            f"{e.n_steps} steps), so that second derivatives show no maximum there"
        )
    return (
        f"the information is too close to singular to be inverted where the search stopped ({_ended(e.end)} after "
        f"{e.n_steps} steps; smallest scaled eigenvalue {e.smallest_eigenvalue:.2g})"
    )


def _curved(e: Evidence, best: Direction | None) -> tuple[str, str]:
    """Return the code (verified, boundary or stopped_early) and the statement for a positive definite information.

    ``best``: the direction with the largest gain of those along which the log-likelihood is higher at some distance, or
    None.
    """
    # the log-likelihood falls along every suspicious ray: that outweighs what the optimiser could tell from its last step
    fell = bool(e.findings.directions) and all(d.behaviour == "falls" for d in e.findings.directions)
    followed = fell and e.decrement <= SMALL_DECREMENT and not (e.doubtful and e.end == End.DIVERGED)
    stopped = f"{_ended(e.end)} after {e.n_steps} steps"
    if e.findings.blurred and not e.doubtful:
        return "stopped_early", (
            f"{stopped}, where the log-likelihood one standard error away does not fall as its "
            "second derivatives say"
        )
    if e.findings.blurred:
        return "stopped_early", (
            f"{stopped}, where a standard error is implausibly large and rounding errors are too large to trust it"
        )
    if e.doubtful and e.end != End.CONVERGED and not followed:
        return "stopped_early", (
            f"{stopped}, where a standard error is implausibly large, because the log-likelihood is almost flat there"
        )
    if e.end == End.CONVERGED or followed:
        if e.bounds:
            where = ", ".join(f"{name} is at the bound {bound:g} of its support" for name, bound, _ in e.bounds)
            limit = "; the log-likelihood there is a limit, because the formula has no digits at the bound"
            limit = limit if e.findings.limit else ""
            ladder = (
                ""
                if e.findings.within is None
                else f"; the log-likelihood is not higher near the bound, to within {e.findings.within:.1g}"
            )
            return "boundary", f"{where}{ladder}; standard errors of the others treat it as fixed there{limit}"
        elsewhere = f"; the log-likelihood is higher along {best.movement}" if best is not None else ""
        return "verified", f"a local maximum{elsewhere}"
    if e.end == End.PRECISION_FLOOR and e.decrement <= 1e3 * SMALL_DECREMENT:
        return (
            "verified",
            f"a local maximum to the precision of the arithmetic: the decrement {e.decrement:.1e} cannot be made smaller",
        )
    # on a ridge that bends a maximum may be far higher than the curvature promises: no distance is stated
    left = f"; g'H^-1 g = {e.decrement:.1e}" if np.isfinite(e.decrement) else ""
    few = f"; the formula has too few digits there ({e.findings.rounding})" if e.findings.rounding and e.findings.advice else ""
    return "stopped_early", f"{stopped}{left}{few}"


def _risen(rising: Direction, e: Evidence) -> str:
    """Return the statement for a log-likelihood that rises without a maximum along a direction: its limit or that it is
    unbounded, the rows that decide it, and whether there are no more terms than parameters.
    """
    deciding, (n, kind) = e.findings.deciding[1], e.contributions
    where = f"along {rising.movement}" + (f" (decided by {deciding})" if deciding else "")
    few = f"; there are {e.n_free} parameters, but {n:g} {kind} to estimate them from" if n <= e.n_free else ""
    if rising.bounded:
        return f"the log-likelihood keeps rising towards {rising.supremum:.6g} {where}{few}"
    return f"the log-likelihood rises without bound {where}{'' if e.findings.negated else few}"


def _ended(end: End) -> str:
    """Return the name of an optimiser status in small letters with spaces: "precision floor"."""
    return end.name.lower().replace("_", " ")
