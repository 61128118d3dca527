"""Critical values, p-values and z statistics, by the normal distribution or Student's t."""

from __future__ import annotations

from math import erfc, inf, sqrt
from statistics import NormalDist

import numpy as np
from numpy.typing import ArrayLike

from mlejax.shapes import Float, Host


def check_alpha(alpha: float) -> None:
    """Raise ValueError unless 0 < alpha <= 0.5, and TypeError if alpha is no number.

    >>> check_alpha(0.05)
    """
    if not isinstance(alpha, (int, float, np.number)):
        raise TypeError(f"alpha is 1 - coverage: expected a number above 0 and at most 0.5 (0.05 for 95 %), got {alpha!r:.60}")
    if not 0 < alpha <= 0.5:
        meant = f"; for {alpha:.6g} coverage write alpha={1 - alpha:.6g}" if 0.5 < alpha < 1 else ""
        covers = f", and alpha={alpha!r} would be an interval of {1 - alpha:.6g} coverage" if meant else ""
        raise ValueError(
            f"alpha is 1 - coverage: expected a number above 0 and at most 0.5 (0.05 for 95 %), got {alpha!r}{covers}{meant}"
        )


def critical_value(alpha: float, df: float = inf) -> float:
    """Return the two-sided critical value, the 1 - alpha/2 quantile.

    Args:
      alpha: 1 - coverage, in (0, 0.5]; ValueError otherwise.
      df: degrees of freedom of Student's t; inf for the normal distribution.

    >>> round(critical_value(0.05), 6)
    1.959964
    """
    check_alpha(alpha)
    if df < inf:
        from scipy.special import stdtrit  # scipy.stats takes half a second to import

        return -float(stdtrit(df, alpha / 2))
    return -NormalDist().inv_cdf(alpha / 2)  # the lower tail: 1 - alpha/2 rounds to 1 for a very small alpha


def stretched(bse: Float[Host, " m"], alpha: float, df: Float[Host, " m"]) -> Float[Host, " m"]:
    """Return standard errors (m,) times the critical value of t(df) over that of the normal distribution, for coverage
    1 - alpha, so that normal intervals made with them are those of t(df); unchanged where df is infinite.

    >>> stretched(np.ones(2), 0.05, np.array([5.0, inf])).round(4).tolist()
    [1.3115, 1.0]
    """
    few = np.isfinite(df)
    if not few.any():
        return bse
    from scipy.special import stdtrit

    return bse * np.where(few, -stdtrit(np.where(few, df, 1.0), alpha / 2) / critical_value(alpha), 1.0)


def two_sided_p(z: ArrayLike, df: ArrayLike = inf) -> Float[Host, ...]:
    """Return two-sided p-values of z, in its shape, accurate in the far tail; by Student's t where ``df`` is finite, else by
    the normal distribution.  NaN gives NaN.

    >>> f"{float(two_sided_p(20.0)):.4e}"
    '5.5072e-89'
    """
    size = np.abs(np.asarray(z, np.float64))
    few = np.asarray(df) < inf
    if few.all():
        from scipy.special import stdtr

        return np.asarray(2.0 * stdtr(df, -size))
    normal = np.reshape([erfc(x / sqrt(2.0)) for x in size.ravel()], size.shape)
    return np.where(few, two_sided_p(z, np.where(few, df, 1.0)), normal) if few.any() else normal


def z_tests(
    params: ArrayLike, bse: ArrayLike, null: ArrayLike = 0.0, *, testable: ArrayLike = True, df: ArrayLike = inf
) -> tuple[Float[Host, ...], Float[Host, ...]]:
    """Return z statistics and two-sided p-values, (m,) each.

    Args:
      params: (m,) estimates, natural scale.
      bse: standard errors (m,); an entry that is not positive and finite gives NaN, and so does an estimate not finite.
      null: values under the null hypothesis.
      testable: True for entries whose null value is an interior point of the support; others get NaN.
      df: degrees of freedom of Student's t, inf for the normal distribution.

    >>> z, p = z_tests([1.0, 2.0], [0.5, 0.5], testable=[True, False])
    >>> z.tolist(), p.round(4).tolist()
    ([2.0, nan], [0.0455, nan])
    """
    params, bse = np.broadcast_arrays(np.asarray(params, np.float64), np.asarray(bse, np.float64))
    usable = np.asarray(testable, bool) & np.isfinite(bse) & (bse > 0) & np.isfinite(params)
    z = np.where(usable, (params - np.asarray(null)) / np.where(usable, bse, 1.0), np.nan)
    return z, two_sided_p(z, df)
