"""The line below a table of a model with formulas: the joint Wald test of all slopes."""

from __future__ import annotations

import numpy as np

from mlejax.inference.tables.entries import Entries
from mlejax.inference.tests import slopes_of, wald_test


def omnibus(entries: Entries) -> str:
    """Return the joint Wald test that all coefficients except intercepts are 0, as a sentence.

    Coefficients that are fixed or have no standard error are left out.  Empty without slopes, with more slopes than the rank
    of the covariance, above 2,000 parameters, or if the test has no result.
    """
    if entries.too_large:
        return ""
    slopes = slopes_of(entries.space)
    slopes = slopes[~entries.space.reported_fixed[slopes]]
    slopes = slopes[np.isfinite(entries.bse[slopes])]
    if not slopes.size or slopes.size > entries.rank:
        return ""
    eye = np.eye(entries.space.n_reported)
    found = wald_test(eye[slopes], 0.0, entries.params, entries.full_covariance, df=entries.cov.df)
    return "" if found.reason else f"All slopes are 0: {found.statement}."
