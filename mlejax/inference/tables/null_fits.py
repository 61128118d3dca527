"""Likelihood-ratio tests printed below the table of a fit: against intercepts alone, and against a variance of 0.

McFadden's R^2 is 1 - llf / llf_0, llf_0 being the log-likelihood of the same model with all slopes at 0 (McFadden 1974). A
parameter whose support includes the bound 0 is tested against 0 by the likelihood ratio, whose null distribution is half a point
mass at 0 and half chi2(1) (Self & Liang 1987), if no other parameter is at a bound. At an estimate of 0 the ratio is 0.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from mlejax import fit as fit_room
from mlejax.covariance import check_kind
from mlejax.inference.checking import facts_of
from mlejax.inference.covariances.covariances import covariance_of
from mlejax.inference.tables.entries import Entries
from mlejax.inference.tables.formatting import format_statistic, stated_p
from mlejax.inference.tests import (
    FitFacts,
    LRTest,
    UnknownMixtureError,
    check_likelihood,
    closed_bounds,
    lr_test,
    slopes_of,
)

BOOTSTRAP = "use lr_test(..., bootstrap=999)"


def null_statements(entries: Entries) -> tuple[str, ...]:
    """Fit the null models, and return McFadden's R2, the test against intercepts alone, and the tests of parameters of one
    entry whose support ends at 0 and includes it, one sentence each.

    A test that the fit does not allow (not a maximum, a penalty, sampling weights, robust errors) is a sentence that says why.
    An empty tuple for a model without slopes and without such parameters; R2 only if both log-likelihoods are negative maxima.
    """
    space, full = entries.space, facts_of(entries.fit, entries.cov)
    slopes = [space.labels[int(j)] for j in slopes_of(space) if not space.reported_fixed[j]]
    ending_at_zero = _ending_at_zero(entries)
    try:
        check_likelihood(full, full.label)
    except ValueError as error:
        out = list(_mcfadden(full, _null(entries, slopes))) if slopes and full.pseudolikelihood and full.converged else []
        tests = [*(["against intercepts alone"] if slopes else []), *(f"of {name} = 0" for name in ending_at_zero)]
        return (*out, f"No likelihood-ratio test {', '.join(tests)}: {error}.") if tests else ()
    return (*(_against_intercepts(entries, full, slopes) if slopes else ()), *_against_bounds(entries, full, ending_at_zero))


def _against_intercepts(entries: Entries, full: FitFacts, slopes: list[str]) -> Iterator[str]:
    """Yield McFadden's R2, if both log-likelihoods are negative, and the likelihood-ratio test against the model without slopes,
    or why there is none.
    """
    try:
        null = _null(entries, slopes)
        yield from _mcfadden(full, null)
        yield f"Against intercepts alone: {_said(lr_test(full, null))}."
    except ValueError as error:
        yield f"No likelihood-ratio test against intercepts alone: {error}."


def _mcfadden(full: FitFacts, null: FitFacts) -> Iterator[str]:
    """Yield McFadden's R2 if both log-likelihoods are negative, and that of intercepts alone is a maximum or a limit."""
    if (null.converged or null.limit) and not full.penalised and full.llf < 0.0 and null.llf < 0.0:
        r2 = 1.0 - full.llf / null.llf
        yield f"McFadden's R2: {r2:.4f}, from the log-likelihood {null.llf:.4f} of intercepts alone."


def _ending_at_zero(entries: Entries) -> dict[str, float]:
    """Return the estimates, by name, of the parameters of one entry whose support ends at 0 and includes it."""
    space = entries.space
    found = [
        rows for leaf, rows in zip(space.leaves, space.reported_slices, strict=True)
        if leaf.size == 1 and not leaf.all_fixed and 0.0 in closed_bounds(leaf.transform)
    ]  # fmt: skip
    return {space.labels[rows][0]: float(entries.params[rows][0]) for rows in found}


def _against_bounds(entries: Entries, full: FitFacts, ending_at_zero: dict[str, float]) -> Iterator[str]:
    """Yield the likelihood-ratio test that a parameter is 0, or why there is none, for each of ``ending_at_zero`` (name ->
    estimate): scalar parameters with a closed bound at 0."""
    labels, inside = entries.fit.spec.space.theta_labels, entries.fit.interior
    bounded = [name for name, free in zip(labels, inside, strict=False) if not free]
    for name, estimate in ending_at_zero.items():
        if estimate == 0.0:
            yield f"{name} = 0: likelihood ratio {format_statistic(0.0)}, p = 1, because the estimate is 0."
            continue
        try:
            yield f"{name} = 0: {_said(lr_test(full, _null(entries, [name]), boundary=1))}."
        except UnknownMixtureError:
            why = f", because {', '.join(bounded)} is at a bound as well" if bounded else ""
            yield f"{name} = 0: the distribution of the likelihood ratio is not known{why}; {BOOTSTRAP}."
        except ValueError as error:
            yield f"No likelihood-ratio test of {name} = 0: {error}."


def _null(entries: Entries, names: list[str]) -> FitFacts:
    """Fit the model again with the named entries fixed at 0 as well, and return what a likelihood-ratio test needs of it."""
    space = entries.space
    fixed = {space.labels[j]: float(entries.params[j]) for j in np.flatnonzero(space.reported_fixed)}
    null = fit_room.with_fixed(entries.fit, {**fixed, **dict.fromkeys(names, 0.0)})
    kind, options = check_kind(None, None, null.weight_kind, null.penalised is not None)
    return facts_of(null, covariance_of(null, kind, options))


def _said(test: LRTest) -> str:
    reference = "half of chi2(1)" if test.boundary else f"chi2({test.df})"
    return f"likelihood ratio {format_statistic(test.statistic)}, {reference}, {stated_p(test.pvalue)}"
