"""Evidence -> what a fit is worth: a code, a one-line statement in the user's addresses, and advice.

Seven codes.  ``verified``: a local maximum (never a claim that it is the highest).  ``boundary``: a maximum on a
closed edge of the support.  The other five are no maximum: ``no_finite_maximum`` (the log-likelihood keeps rising, or
flattens, along a direction), ``not_identified`` (a flat direction), ``saddle``, ``stopped_early`` and
``not_computable``.  ``converged`` is true for the first two only.

Why decrements are looked at: on completely separated data the scaled information stays positive definite while the
Newton decrement falls below any tolerance; but it falls by a factor near 1/e a step, and at a proper maximum it falls
faster than linearly.  A linear sequence therefore calls for a ray test (:mod:`mlejax.fit.diagnose.directions.rays`).
"""

from mlejax.verdict.codes import ADVICE, CODES, SEVERAL_STARTS, ConvergenceWarning, Facts, Verdict
from mlejax.verdict.end_evidence import SMALL_DECREMENT, Direction, Evidence, steepest, superlinear
from mlejax.verdict.rules import NEGATED, code_of, judge

__all__ = [
    "ADVICE",
    "CODES",
    "NEGATED",
    "SEVERAL_STARTS",
    "SMALL_DECREMENT",
    "ConvergenceWarning",
    "Direction",
    "Evidence",
    "Facts",
    "Verdict",
    "code_of",
    "judge",
    "steepest",
    "superlinear",
]
