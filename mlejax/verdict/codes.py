"""Verdicts: their codes, the advice for each code, and the class `Verdict`."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from mlejax.misuse import IN_THE_DOCUMENTATION, PAGE
from mlejax.notebook import Text, in_notebooks
from mlejax.shapes import Reduced

CODES = ("verified", "boundary", "no_finite_maximum", "not_identified", "saddle", "stopped_early", "not_computable")
CONVERGED = ("verified", "boundary")  # the codes of maxima
SEVERAL_STARTS = "; n_starts=50 looks for one"

NO_ESTIMATES = "The estimates printed are where the search was stopped, not a maximum; no standard errors are given."
ADVICE = {
    "verified": f"That no higher maximum exists elsewhere is not claimed{SEVERAL_STARTS}.",
    "boundary": (
        "The estimate is at a bound of its support. It has no Wald standard error, and the standard errors of the other "
        "parameters treat it as fixed there. Use a likelihood-ratio test (its null distribution is a mixture of chi-squares) or "
        "res.conf_int(method='profile'), or fit without the parameter."
    ),
    "no_finite_maximum": (
        f"{NO_ESTIMATES} Drop or merge the covariate or component whose parameters the statement names, fit the simpler model "
        "that they approach, collect more data, bound the parameters, penalise, or use bias_reduction='jeffreys'."
    ),
    "not_identified": (
        "The log-likelihood does not change along a direction, so the data cannot tell these parameters apart. Drop a "
        "collinear column or an unused parameter, or fix one of them with fixed=."
    ),
    "saddle": "The score is zero, but the log-likelihood rises in some direction. Give another start=.",
    "stopped_early": (
        "The estimates are the best point found, not a maximum. Raise max_steps, give a better start=, or use another method=."
    ),
    "not_computable": (
        "The log-likelihood, its score or a term added to it is not finite at the values in the statement. Look at the rows that "
        "it names, if it names any; let both branches of each jnp.where be finite; or give another start=."
    ),
}


class Facts(Mapping[str, Any]):
    """A read-only mapping, name -> number, of the evidence behind a verdict; some values are computed when first read.

    Args:
        known: name -> value.
        later: name -> function without arguments that computes the value; its result is kept.
    """

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
    """Warning that a fit did not reach a maximum; its message holds the verdict, which says what was found instead."""


@in_notebooks
@dataclass(frozen=True)
class Verdict:
    """Whether a fit reached a maximum of the log-likelihood, and if not, what was found.

    Attributes:
        code: one of :data:`CODES`.
        statement: one line that names the parameters concerned, as tables print them.
        evidence: name -> number that led to the code.  ``"error_bars"`` bound the effect of floating-point rounding on the
            log-likelihood (``loglik``, its units), on the estimates (``score``, in standard errors) and on the standard errors
            (``information``, relative), NaN where not known.  They are computed when first read; if the fit had reason to
            compute them, the verdict is ``verified`` only if each is at most 0.01.
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
        return self.code in CONVERGED

    @property
    def supremum(self) -> float | None:
        """For ``no_finite_maximum`` with a bounded log-likelihood: the value that it approaches as parameters go to a limit.

        If it levels off along several directions, the largest of these values.  None for other codes, and where the
        log-likelihood has no bound.
        """
        return self.evidence.get("supremum") if self.code == "no_finite_maximum" else None

    def amended(
        self,
        code: str = "",
        statement: str = "",
        advice: str = "",
        *,
        note: str = "",
        starts: bool = True,
        facts: Mapping[str, Any] | None = None,
    ) -> Verdict:
        """Return a copy changed by what was found after :func:`mlejax.verdict.judge`.

        Args:
            code, statement, advice: replace those of the verdict; an empty string keeps them.
            note: appended to the statement after a semicolon; nothing if empty.
            starts: False removes the advice to use several starts (``n_starts=50``).
            facts: further evidence, name -> value, or a function that computes the value when it is first read; it replaces
                evidence of the same name.
        """
        statement, advice, evidence = statement or self.statement, advice or self.advice, self.evidence
        if facts:
            known, later = (evidence.known, evidence.later) if isinstance(evidence, Facts) else (evidence, {})
            evidence = Facts(known, later)
            for name, value in facts.items():
                (evidence.later if callable(value) else evidence.known)[name] = value
        return Verdict(
            code or self.code,
            f"{statement}; {note}" if note else statement,
            evidence,
            advice if starts else advice.replace(SEVERAL_STARTS, ""),
        )

    @property
    def address(self) -> str:
        """Page and anchor of the row of the documentation that explains this code: "messages.html#saddle"."""
        return f"{PAGE}#{self.code}"

    def __str__(self) -> str:
        return f"{self.code}: {self.statement}"

    def _shown(self) -> Text:
        return Text([str(self), *([self.advice] if self.advice else []), f"See {self.address} {IN_THE_DOCUMENTATION}"])
