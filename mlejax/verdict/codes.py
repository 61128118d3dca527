"""The codes of verdicts, the advice that each gives, and what a fit is worth."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from mlejax.misuse import PAGE
from mlejax.notebook import in_notebooks
from mlejax.shapes import Reduced

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
