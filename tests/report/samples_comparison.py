"""Comparisons used by the golden tests; like the samples, numbers chosen to be hard to print."""

from dataclasses import replace

from mlejax.data import Fingerprint
from mlejax.inference import FitFacts
from mlejax.report import ComparisonColumn, Presentation, Term, compare, leaf_row
from tests.report.samples import FLAT, term


def facts(llf, k, n=100.0, **more):
    return FitFacts(llf, k, n, more.pop("fingerprint", Fingerprint(int(n), {"y": (1.5, 2.5)})), **more)


SMALL = ComparisonColumn("small", (term("mu", 1.5, 0.25), term("sigma", 2.0, 0.1, tested=False)), facts(-150.5, 2))
LARGE = ComparisonColumn(
    "large",
    (
        term("mu", 1.25, 0.5),
        term("b[x_1 & <i>50%</i>|*]", -0.75, 0.125),
        term("sigma", 1.75, 0.0875, tested=False),
        Term("nu", 4.0, fixed=True),
    ),
    facts(-140.25, 3),
    cov="nonrobust",
)
LOST = ComparisonColumn(
    "lost_fit",
    (Term("mu", 0.5, note=FLAT), term("b[x_1 & <i>50%</i>|*]", 12.5, 3.75)),
    facts(-149.0, 2, converged=False),
    code="not_identified",
    statement="not_identified: a - b is not identified; a + b is",
    no_criterion="because the log-likelihood was not maximised (stopped early)",
)
ROBUST = replace(
    LARGE,
    name="robust",
    facts=replace(LARGE.facts, pseudolikelihood=True, cov_type="HC0"),
    cov="HC0",
    no_criterion="with cov_type='HC0'",
    n_units=20,
)
NET = ComparisonColumn("net", (), facts(-80.0, 221), leaves=(leaf_row("net.w", [[1.0, 2.0], [3.0, 4.0]]),))
OTHER = replace(SMALL, name="other", facts=facts(-90.0, 2, 60.0))

COMPARISONS = {
    "compare_plain": compare([SMALL, LARGE]),
    "compare_stars": compare(
        [SMALL, LARGE, LOST, ROBUST], names=["(1)", "(2)", "a_b", "[*]"], presentation=Presentation(stars=True)
    ),
    "compare_criteria": compare([SMALL, NET], criteria=["aic", "aicc", "bic", "hqic"]),
    "compare_different_data": compare([SMALL, OTHER, SMALL]),
}
