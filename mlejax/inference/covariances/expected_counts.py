"""Detect extended likelihoods that are written row by row, with the expected count divided by the number of rows.

An extended likelihood is sum_i log lambda(x_i) - Lambda, where the number of rows is itself an outcome. Written as
log lambda(x_i) - Lambda / n it has the right estimates and the right inverse information. Its scores by row, and data sets of n
rows drawn from it, take n as fixed: the standard error of the expected count is then 0.
"""

from __future__ import annotations

import numpy as np

from mlejax import misuse
from mlejax.fit import Fit


def warn_of_count(fit: Fit, what: str) -> None:
    """Warn (RuntimeWarning) if a row-wise log-likelihood reads a `Shared` or `Static` number that is its number of rows.

    Args:
        fit: the fit.
        what: name of the computation that takes this number as fixed, for the warning.
    """
    data, n = fit.loaded.problem.data, fit.loaded.rows.n
    statics = [
        slot.value.value for e in data.statics.entries for slot in e.slots if slot.source == "static" and slot.value
    ]
    numbers = [*(np.asarray(a) for a in data.shared), *(np.asarray(s) for s in statics if isinstance(s, (int, float)))]
    if data.mode == "rows" and n > 1 and any(a.shape == () and a == n for a in numbers):
        misuse.warn(
            f"{fit.spec.likelihood.name} reads {n}, the number of its rows, as mle.Shared or mle.Static.  If the function "
            f"divides an expected count by this number (an extended likelihood), {what} takes the number of rows as fixed, and "
            "the standard error of the count is too small: declare the count by mle.extended(total=lambda params: ...), or use "
            "cov_type='nonrobust'",
            RuntimeWarning,
            "number-of-rows",
            stacklevel=2,
        )
