"""Confidence intervals from a bootstrap distribution, computed as in R's package ``boot``."""

from __future__ import annotations

from statistics import NormalDist

import numpy as np

_NORMAL = NormalDist()


def quantiles(t: np.ndarray, alpha: np.ndarray) -> tuple[np.ndarray, bool]:
    """Return quantiles of replicates t (R,) at the levels alpha (k,): order statistic (R+1) alpha, interpolated on the normal
    scale (Davison & Hinkley 1997, eq. 5.8), or the smallest or largest replicate where that does not exist.

    Also returns True if that happened for some level.

    >>> quantiles(np.arange(1.0, 20.0), np.array([0.05, 0.5]))[0].tolist()
    [1.0, 10.0]
    """
    ordered, n = np.sort(t), len(t)
    out, extreme = np.empty(len(alpha)), False
    for i, a in enumerate(alpha):
        rank = (n + 1) * float(a)
        k = int(np.floor(rank + 1e-9))
        if k < 1 or k > n or (k == n and rank - k > 1e-9):
            out[i], extreme = ordered[0 if k < 1 else n - 1], True
        elif abs(rank - k) <= 1e-9:
            out[i] = ordered[k - 1]
        else:
            at, low, high = (_NORMAL.inv_cdf(q) for q in (float(a), k / (n + 1), (k + 1) / (n + 1)))
            out[i] = ordered[k - 1] + (at - low) / (high - low) * (ordered[k] - ordered[k - 1])
    return out, extreme


def influence_of(values: np.ndarray, copies: np.ndarray) -> np.ndarray:
    """Return jackknife influence values (N - 1) (mean - estimate without i), (m, r), with the mean over the N estimates.

    ``values``: estimates without each i (m, r); ``copies``: how many equal rows each stands for (m,), N their sum.
    """
    total = copies.sum()
    mean = copies @ values / total
    return np.asarray((total - 1.0) * (mean - values))


def acceleration(influence: np.ndarray, copies: np.ndarray) -> np.ndarray:
    """Return the acceleration a = sum L^3 / (6 (sum L^2)^1.5), (r,), from influence values L (m, r), each counted ``copies``
    times; NaN if all are 0.
    """
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray(copies @ influence**3 / (6.0 * (copies @ influence**2) ** 1.5))


def bca_levels(t: np.ndarray, estimate: float, a: float, alpha: float) -> np.ndarray:
    """Return the two quantile levels of a BCa interval (Efron 1987), of replicates t and acceleration ``a``; NaN if all
    replicates are on one side of the estimate, or ``a`` is not finite.
    """
    share = float(np.mean(t < estimate))
    if not 0.0 < share < 1.0 or not np.isfinite(a):
        return np.full(2, np.nan)
    w = _NORMAL.inv_cdf(share)
    z = np.array([w + _NORMAL.inv_cdf(q) for q in (alpha / 2, 1 - alpha / 2)])
    return np.array([_NORMAL.cdf(x) for x in w + z / (1.0 - a * z)])
