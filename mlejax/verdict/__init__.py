"""Turn the evidence at the final point of a fit into a verdict: a code, a one-line statement that names parameters, and advice.

Seven codes.  ``verified``: a local maximum (not necessarily the highest).  ``boundary``: a maximum with a parameter at a bound
that belongs to its support.  The other five mean that no maximum was found: ``no_finite_maximum`` (the log-likelihood keeps
rising, or levels off, along a direction), ``not_identified`` (a flat direction), ``saddle``, ``stopped_early`` and
``not_computable``.  ``converged`` is true for the first two only.

Why Newton decrements are compared: on completely separated data the scaled information stays positive definite while the
decrement falls below any tolerance; but it falls by a factor near 1/e per iteration, and at a proper maximum it falls
faster than linearly.  Linear convergence therefore calls for a ray test (:mod:`mlejax.fit.diagnose.directions.rays`).
"""

from mlejax.verdict.codes import ADVICE, CODES, CONVERGED, ConvergenceWarning, Facts, Verdict
from mlejax.verdict.end_evidence import SMALL_DECREMENT, Direction, Evidence, Findings, steepest, superlinear
from mlejax.verdict.rules import NEGATED, code_of, judge

__all__ = [
    "ADVICE",
    "CODES",
    "CONVERGED",
    "NEGATED",
    "SMALL_DECREMENT",
    "ConvergenceWarning",
    "Direction",
    "Evidence",
    "Facts",
    "Findings",
    "Verdict",
    "code_of",
    "judge",
    "steepest",
    "superlinear",
]
