"""Likelihood-ratio tests printed below the table of a fit: against intercepts alone, and against a variance of 0.

McFadden's R^2 is 1 - llf / llf_0, llf_0 being the log-likelihood of the same model with all slopes at 0 (McFadden 1974). A
parameter whose support includes the bound 0 is tested against 0 by the likelihood ratio, whose null distribution is half a point
mass at 0 and half chi2(1) (Self & Liang 1987).
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from mlejax import fit as fit_room
from mlejax.covariance import check_kind
from mlejax.inference.checking import facts_of
from mlejax.inference.covariances.covariances import covariance_of
from mlejax.inference.tables.entries import Entries
from mlejax.inference.tables.formatting import format_statistic, format_test_p
from mlejax.inference.tests import LRTest, UnknownMixtureError, lr_test, slopes_of
from mlejax.transforms import Box


def null_statements(entries: Entries) -> tuple[str, ...]:
    """Fit the null models, and return McFadden's R2, the test against intercepts alone, and the tests of scalar parameters
    whose support starts at 0 and includes it and whose estimate is positive, one sentence each.

    An empty tuple for a model without slopes and without such parameters; R2 only if both log-likelihoods are negative.

    Raises:
        ValueError: the fit has no maximum, or its log-likelihood cannot be compared (sampling weights, a penalty).
    """
    return (*_against_intercepts(entries), *_against_edges(entries))


def _against_intercepts(entries: Entries) -> Iterator[str]:
    """Yield McFadden's R2, if both log-likelihoods are negative, and the likelihood-ratio test against the model without slopes;
    nothing if no slope is estimated.
    """
    space = entries.space
    slopes = [int(j) for j in slopes_of(space) if not space.reported_fixed[j]]
    if not slopes:
        return
    test = _against(entries, {space.labels[j]: 0.0 for j in slopes})
    if test.llf_full < 0.0 and test.llf_restricted < 0.0:
        r2 = 1.0 - test.llf_full / test.llf_restricted
        yield f"McFadden's R2: {r2:.4f}, from the log-likelihood {test.llf_restricted:.4f} of intercepts alone."
    yield f"Against intercepts alone: {_said(test)}."


def _against_edges(entries: Entries) -> Iterator[str]:
    """Yield the likelihood-ratio test that a scalar parameter is at its lower bound 0, for each whose estimate is positive.
    """
    space = entries.space
    for leaf in space.leaves:
        edged = isinstance(leaf.transform, Box) and leaf.transform.lo == 0.0 and leaf.shape == () and not leaf.all_fixed
        if edged and entries.params[space.labels.index(leaf.name)] > 0.0:
            try:
                yield f"{leaf.name} = 0: {_said(_against(entries, {leaf.name: 0.0}, boundary=1))}."
            except UnknownMixtureError:
                yield f"{leaf.name} = 0: the likelihood ratio has no known distribution; use lr_test(..., bootstrap=999)."


def _against(entries: Entries, values: dict[str, float], boundary: int = 0) -> LRTest:
    """Return the likelihood-ratio test of the fit against a new fit with the entries in ``values`` (name -> value) fixed as
    well; ``boundary``: how many of these values are bounds of supports.
    """
    space = entries.space
    fixed = {space.labels[j]: float(entries.params[j]) for j in np.flatnonzero(space.reported_fixed)}
    null = fit_room.with_fixed(entries.fit, {**fixed, **values})
    kind, options = check_kind(None, None, null.weight_kind, null.penalised is not None)
    return lr_test(
        facts_of(entries.fit, entries.cov), facts_of(null, covariance_of(null, kind, options)), boundary=boundary
    )


def _said(test: LRTest) -> str:
    reference = "half of chi2(1)" if test.boundary else f"chi2({test.df})"
    return f"likelihood ratio {format_statistic(test.statistic)}, {reference}, p = {format_test_p(test.pvalue)}"
