"""Confidence limits of profiles on the natural scale, with their status and a note in words."""

from __future__ import annotations

from collections.abc import Callable
from statistics import NormalDist

import numpy as np

from mlejax.inference.profiles.paths import Paths
from mlejax.inference.profiles.profile import ProfileEnd, chi2_cut
from mlejax.inference.profiles.profiled import Ends, on_bounds
from mlejax.inference.profiles.targets import Target
from mlejax.shapes import Float, Host

EXACT = 1e-8  # log-likelihood: how near to its level a verified end lies, unless the formula is rougher than that
ROUGH = 0.01  # error bar of a log-likelihood from which no profile is said to level off

Rounding = Callable[[Float[Host, " p"]], float]


def described(paths: Paths, ends: Ends, alpha: float, rounding: Rounding = lambda u: 0.0) -> list[ProfileEnd]:
    """Return each confidence limit as a `ProfileEnd`: value on the natural scale, status, accuracy and note.

    Args:
        paths, ends: the profiles' paths and the points where they cross the cut or end.
        alpha: 1 - coverage.
        rounding: function from a point u to a bound of the rounding error of the log-likelihood; called only where needed.
    """
    bound = on_bounds(paths, ends.points.u) | on_bounds(paths, paths.u0)
    out = []
    for i, status in enumerate(ends.status):
        say = {"finite": _finite, "infinite": _infinite, "on the boundary": _on_boundary}.get(status, _missing)
        value, status, note = say(paths, ends, i, alpha, rounding)
        if bound[i] and status in ("finite", "infinite"):
            status += ", nuisance at a bound"
            note = (f"{note}; " if note else "") + (
                "another parameter is at a bound of its support, so that the chi-squared cut is an approximation: compare "
                "with res.bootstrap()"
            )
        p = ends.points
        gap = float(p.loglik[i] - paths.level[i])
        out.append(ProfileEnd(value, status, gap, float(p.decrement[i]), int(p.n_evaluations[i]), note))
    return out


Said = tuple[float, str, str]


def _target(paths: Paths, i: int) -> Target:
    return paths.targets[int(paths.which[i, 0])]


def _seen(paths: Paths, ends: Ends, i: int) -> float:
    """Return the value of the target at the last evaluated point of path i, natural scale; NaN if no point was evaluated."""
    return natural_value(_target(paths, i), float(paths.origin[i, 0] + ends.points.rho[i] * paths.direction[i, 0]))


def _ratio(paths: Paths, i: int, loglik: float, alpha: float) -> float:
    """Return the likelihood-ratio statistic of a log-likelihood on path i against the fit's maximum, scaled so that it is the
    1 - ``alpha`` quantile of chi-squared(1) at the cut.
    """
    return float((paths.loglik0[i] - loglik) / (paths.loglik0[i] - paths.level[i])) * chi2_cut(alpha)


def _finite(paths: Paths, ends: Ends, i: int, alpha: float, rounding: Rounding) -> Said:
    """Describe limit i, where the profile crosses the cut: its value, status and note; NaN and "not computable" if the
    log-likelihood there misses the cut by more than 1e-8 and its rounding error.
    """
    gap = abs(float(ends.points.loglik[i] - paths.level[i]))
    if gap > EXACT and gap > (bar := rounding(ends.points.u[i])):
        return (
            np.nan,
            "not computable",
            f"|log-likelihood - cut| = {gap:.1e} exceeds 1e-8 and the rounding error of the log-likelihood, {bar:.1e}",
        )
    return _seen(paths, ends, i), "finite", ""


def _infinite(paths: Paths, ends: Ends, i: int, alpha: float, rounding: Rounding) -> Said:
    """Describe limit i, where the profile levels off above the cut: an infinite value, or the bound that it tends to
    ("on the boundary"); NaN and "not computable" if the rounding error of the log-likelihood exceeds 0.01 there.
    """
    bar = rounding(ends.points.u[i])
    if bar > ROUGH:
        seen = _seen(paths, ends, i)
        return (
            np.nan,
            "not computable",
            f"the log-likelihood loses its digits at large values: at {seen:.6g} its rounding error is up to {bar:.1e}",
        )
    value = natural_value(_target(paths, i), float(paths.direction[i, 0]) * np.inf)
    limit = _ratio(paths, i, float(ends.limit[i]), alpha)
    note = f"the profile levels off at a likelihood ratio of {limit:.4g}, below {chi2_cut(alpha):.4g}"
    return value, "on the boundary" if np.isfinite(value) else "infinite", note


def _on_boundary(paths: Paths, ends: Ends, i: int, alpha: float, rounding: Rounding) -> Said:
    """Return value, status and note of path i, whose profile is above the cut up to a bound of the support.

    The note says whether the bound belongs to the interval: if the likelihood ratio is at most the quantile of half of
    chi-squared(1), half at 0.
    """
    c = float(paths.origin[i, 0] + paths.farthest[i] * paths.direction[i, 0])
    loglik, half = float(ends.points.loglik[i]), NormalDist().inv_cdf(alpha) ** 2
    ratio = 0.0 if np.isnan(loglik) else _ratio(paths, i, loglik, alpha)
    belongs, sign = ("belongs", "<=") if ratio <= half else ("does not belong", ">")
    value = natural_value(_target(paths, i), c)
    note = f"the bound {value:g} {belongs} to the interval: likelihood ratio {ratio:.4g} {sign} {half:.4g}"
    return value, "on the boundary", note


def _missing(paths: Paths, ends: Ends, i: int, alpha: float, rounding: Rounding) -> Said:
    """Describe limit i, for which a higher maximum or no constrained maximum was found: NaN, the status, and where that was.
    """
    seen, loglik = _seen(paths, ends, i), float(ends.points.loglik[i])
    if ends.status[i] == "higher maximum found":
        gain = loglik - float(paths.loglik0[i])
        return np.nan, ends.status[i], f"at {seen:.6g} the log-likelihood is {gain:.4g} higher than the fit's"
    bar = rounding(ends.points.u[i])
    why = f"the rounding error of the log-likelihood is up to {bar:.1e} there" if bar > ROUGH else (
        "check that the log-likelihood is finite there"
    )  # fmt: skip
    ratio = _ratio(paths, i, loglik, alpha)
    note = f"no constrained maximum was found beyond {seen:.6g}, where the likelihood ratio is {ratio:.4g}: {why}"
    return np.nan, "not computable", note


def natural_value(target: Target, c: float) -> float:
    """Return the value that is shown, natural scale, for the value c of a target on its own scale."""
    return float(target.natural(np.array([c]))[0])


def natural_slope(target: Target, c: float) -> float:
    """Return the derivative of :func:`natural_value` at c, by a central difference."""
    h = 1e-6 * max(1.0, abs(c))
    a, b = target.natural(np.array([c - h, c + h]))
    return float(b - a) / (2.0 * h)
