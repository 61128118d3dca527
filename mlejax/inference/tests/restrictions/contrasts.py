r"""Linear combinations of estimates, each by itself: value, standard error, test and interval.

For a row R_i of the restrictions, :math:`z_i = (R_i \hat\theta - r_i) / \sqrt{R_i V R_i'}`, against the normal
distribution. A combination whose variance is zero up to rounding is known exactly: its standard error is 0 and it has no
test.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike

from mlejax.inference.covariances.combinations import linear_covariance, standard_errors
from mlejax.inference.normal import critical_value, z_tests
from mlejax.inference.tables.estimates import Estimates
from mlejax.inference.tests.wald import NO_COVARIANCE, Support, check_arguments, outside_support

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True, eq=False, repr=False)
class TTest(Estimates):
    """Linear combinations R theta, each tested on its own; prints as a table.

    Attributes:
        null_value: right-hand sides r (m,).
        cov: covariance of the combinations, R V R' (m, m).
        df: degrees of freedom of Student's t, inf for the normal distribution.
    """

    null_value: np.ndarray
    cov: np.ndarray
    df: float = np.inf

    def cov_params(self) -> pd.DataFrame:
        """Return the covariance of the combinations (m, m); NaN where that of the estimates is missing."""
        import pandas as pd

        return pd.DataFrame(self.cov, index=list(self.labels), columns=list(self.labels))


def t_test(
    R: ArrayLike,
    r: ArrayLike,
    theta: ArrayLike,
    cov: ArrayLike,
    *,
    alpha: float = 0.05,
    labels: Sequence[str] = (),
    reason: str = "",
    support: Support | None = None,
    df: float = np.inf,
) -> TTest:
    """Test every restriction by itself: R theta, its standard error, the z test against r and an interval.

    Args:
      R: restrictions (m, k).
      r: null values, (m,) or a scalar.
      theta: estimates (k,).
      cov: covariance of theta (k, k), NaN where it does not exist.
      alpha: 1 - coverage of the intervals, which are symmetric on the natural scale.
      labels: m labels.
      reason: why the covariance has NaN, if known.
      support: lower and upper bounds of the entries' supports, (k,) each: a null value at a bound or outside has no test.
      df: degrees of freedom of Student's t; inf for the normal distribution.

    Returns:
      `TTest`. A combination without sampling variation has standard error 0, no statistic and a note; one that uses a
      missing covariance or an estimate that is not finite has NaN and a note.

    Raises:
      ValueError: shapes do not agree, numbers are not finite, the covariance is not symmetric, or alpha is outside (0, 0.5].

    >>> test = t_test([[1.0, -1.0]], 0.0, [1.0, 3.0], [[1.0, 0.0], [0.0, 1.0]])
    >>> test.params.tolist(), test.bse.round(4).tolist(), test.pvalues.round(4).tolist()
    ([-2.0], [1.4142], [0.1573])
    """
    reach = critical_value(alpha, df)
    R_, r_, theta_, cov_ = check_arguments(R, r, theta, cov)
    labels = tuple(labels) if labels else tuple(f"restriction {i}" for i in range(r_.size))
    # 0 times NaN is 0 here as well: an entry that is not used cannot spoil a combination.
    used = R_ != 0
    params = np.sum(np.where(used, R_ * np.where(used, theta_, 0.0), 0.0), axis=1)
    bse = standard_errors(R_, cov_)
    outside = outside_support(R_, r_, support, labels)
    notes = []
    for i, (value, error) in enumerate(zip(params, bse, strict=True)):
        if not np.isfinite(value):
            notes.append("one of the estimates in it is not finite")
        elif np.isnan(error):
            notes.append(reason or NO_COVARIANCE)
        elif error == 0:
            notes.append("known exactly: no sampling variation")
        else:
            notes.append(outside.get(i, ""))
    z, p = z_tests(params, bse, r_, testable=[i not in outside for i in range(r_.size)], df=df)
    limits = params - reach * bse, params + reach * bse
    cov = linear_covariance(R_, cov_).cov
    return TTest(
        "Tests of linear restrictions", labels, params, bse, z, p, *limits, tuple(notes), float(alpha), r_, cov, df
    )
