"""Reports used by the golden tests: numbers chosen to be hard to print, not results of fits."""

import math

import numpy as np

from mlejax.report import Summary, Term, leaf_row

Z = 1.959963984540054


def term(name, coef, err, *, tested=True, **more):
    """A row with the z, p and symmetric limits that belong to an estimate and its error."""
    z = coef / err if tested else math.nan
    p = math.erfc(abs(z) / math.sqrt(2)) if tested else math.nan
    return Term(name, coef, err, z, p, coef - Z * err, coef + Z * err, **more)


EDGE = "at its lower edge 0: no standard error; use a profile interval"
FLAT = "not identified: the likelihood does not change along mu[b], mu[c]"

SAMPLES = {
    "regression": Summary(
        "gaussian: maximum likelihood",
        (
            ("Method", "newton, 6 steps"),
            ("Covariance", "cluster (village)"),
            ("Clusters", "48, factor G/(G-1)"),
            ("Converged", "yes"),
            ("g'H^-1 g", "3.1e-17"),
            ("dtype, device", "float64, cpu"),
            ("Rows", "1,000"),
            ("Free parameters", "4"),
            ("Log-pseudolikelihood", "-1423.123"),
            ("AIC", "not defined"),
            ("BIC", "not defined"),
        ),
        (
            term("mu[Intercept]", 104.2341, 1.2345, group="mu"),
            term("mu[C(region)[T.north]]", -2.3451, 0.5432, group="mu"),
            term("mu[age]", 0.00123, 0.0456, group="mu"),
            term("sigma", 10.1234, 0.2263, tested=False, group="sigma"),
            Term("nu", 4.0, fixed=True, group="nu"),
        ),
        ("Limits of entries with a bounded support are computed on the scale of its link.",),
        (
            "Maximum: the score is zero to working accuracy (g'H^-1 g = 3.1e-17), and the information matrix is "
            "positive definite with condition number 8.1e+02.",
        ),
    ),
    "missing": Summary(
        "mixture: maximum likelihood",
        (("Method", "newton"), ("Rows", "20")),
        (
            term("mu[a]", 0.5, 0.25),
            Term("mu[b]", 1.25, note=FLAT),
            Term("mu[c]", -1.25, note=FLAT),
            Term("tau2", 0.0, note=EDGE),
            Term("shape", 0.31, 0.2, low=0.02, high=0.9, note="profile interval"),
        ),
        footer=("No maximum: 2 of 5 parameters are not identified.", "Advice: fix one of them, or drop it."),
    ),
    "magnitudes": Summary(
        "scales",
        (),
        (
            term("tiny", 1.2345e-8, 2.5e-9),
            term("huge", 1.234e8, 2.0e5),
            term("usual", 0.5, 0.1),
            term("zero", 0.0, 0.1),
            term("null", 1e-9, 0.1),
            term("precise", 12345678.9, 1e-3),
            term("flat", 0.5, 1e12),
        ),
    ),
    "year": Summary(
        "an intercept far away", (), (term("intercept", -1523.4, 12.3), term("year", 0.7654, 0.00613)), alpha=0.1
    ),
    "long_names": Summary(
        "names are never cut",
        (("Model", "m"), ("A header that does not fit into its half of the table", "stands alone, " * 4 + "wrapped")),
        (
            term(
                "C(occupation)[T.skilled agricultural, forestry and fishery workers]:C(region)[T.Oesterreich]", 1.5, 0.5
            ),
            term("b", -0.25, 0.125),
        ),
        stat_label="t",
        coef_label="odds",
    ),
    "network": Summary(
        "net",
        (("Method", "adam, polished by 3 Newton steps"), ("Parameters", "221")),
        (term("sigma", 1.2, 0.1, tested=False),),
        footer=("Stopped early: no standard errors are given for the network.",),
        leaves=(
            leaf_row("net.layer0.w", np.linspace(-1, 2, 200).reshape(10, 20)),
            leaf_row("net.layer0.b", np.arange(20.0)),
            leaf_row("net.scale", np.nan),
        ),
    ),
    "escaped": Summary(
        "<script>alert('title')</script>",
        (("<b>label</b>", "a & b"),),
        (term('x["<i>"]', 1.0, 0.5, note="5 < 6 & 7"),),
        ("<note>",),
        ("<verdict>\nsecond line",),
    ),
}
