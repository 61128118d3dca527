r"""Simultaneous inference: critical values and p-values that hold for several estimates jointly.

With m estimates whose z statistics have correlation R of rank r, an interval estimate -+ c se covers all m with probability
1 - alpha where

============== ==========================================================================
bonferroni     c = z(1 - alpha / 2m)
sidak          c = z(1 - a/2), a = 1 - (1 - alpha)^(1/m)
scheffe        c^2 = chi2(r; 1 - alpha), or r F(r, df): for every linear combination of them
max-z          P(max |Z_j| <= c) = 1 - alpha, Z normal (or t) with correlation R
============== ==========================================================================

Max-z is exact, the others are bounds.  Z = rho F v with R = F F', v uniform on the sphere and rho^2 chi-squared with r df (r
times F(r, df)), so that P(max |Z_j| > c) = E_v P(rho > c / max |F v|), a mean of smooth functions over scrambled Sobol points.

Holm's p-values (1979) step down from Bonferroni's.  Scheffé (1953) Biometrika 40; Hothorn, Bretz & Westfall (2008) Biometrical
Journal 50 (R's multcomp, whose "single-step" is max-z); Deák (1980) on the sphere.
"""

from __future__ import annotations

from typing import Literal, TypeAlias, get_args

import numpy as np
from numpy.typing import ArrayLike

from mlejax.inference.normal import check_alpha, critical_value, two_sided_p
from mlejax.shapes import Float, Host

Simultaneous: TypeAlias = Literal["bonferroni", "sidak", "scheffe", "max-z"]
Adjustment: TypeAlias = Literal["holm", "bonferroni", "sidak", "scheffe", "max-z"]
MANY = 64  # ranks above which fewer points are used


def pointwise_alpha(method: str, alpha: float, cov: ArrayLike, df: float = np.inf) -> float:
    """Return the alpha of single intervals that jointly cover all estimates with probability 1 - alpha.

    Args:
        method: one of `Simultaneous`.
        alpha: 1 - joint coverage, in (0, 0.5].
        cov: covariance of the estimates (m, m); entries without a positive variance do not count.
        df: degrees of freedom of Student's t; inf for the normal distribution.

    Raises:
        ValueError: another method, or alpha outside (0, 0.5].

    >>> pointwise_alpha("bonferroni", 0.05, np.eye(5))
    0.01
    """
    check_alpha(alpha)
    if method not in get_args(Simultaneous):
        raise ValueError(
            f"method={method!r}: expected 'wald', 'profile' or one of {', '.join(map(repr, get_args(Simultaneous)))}"
        )
    half = _factor(cov)
    m = max(len(half), 1)
    if method == "bonferroni":
        return alpha / m
    if method == "sidak":
        return -float(np.expm1(np.log1p(-alpha) / m))
    if len(half) == 0:
        return alpha
    from scipy.optimize import brentq

    radii = _radii(half) if method == "max-z" else np.ones(1)
    exceeded = lambda c: float(_tail(np.array([c]), radii, half.shape[1], df)[0]) - alpha
    upper = 2.0 * critical_value(alpha / m, df)
    while exceeded(upper) > 0:
        upper *= 2.0
    return float(two_sided_p(brentq(exceeded, 0.1, upper, xtol=1e-10), df))


def adjusted_pvalues(method: str, z: ArrayLike, cov: ArrayLike, df: float = np.inf) -> Float[Host, " m"]:
    """Return p-values adjusted for multiple tests: they control the family-wise error rate.

    Args:
        method: one of `Adjustment`.
        z: test statistics (m,); NaN for entries that are not tested, which do not count.
        cov: covariance of the estimates (m, m), used by "scheffe" and "max-z" only.
        df: degrees of freedom of Student's t; inf for the normal distribution.

    Returns:
        p-values (m,), NaN for entries that are not tested.

    Raises:
        ValueError: another method.

    >>> adjusted_pvalues("holm", [3.0, 2.0, np.nan], np.eye(3)).round(4).tolist()
    [0.0054, 0.0455, nan]
    """
    if method not in get_args(Adjustment):
        raise ValueError(f"method={method!r}: expected one of {', '.join(map(repr, get_args(Adjustment)))}")
    size = np.abs(np.asarray(z, np.float64))
    tested = np.isfinite(size)
    out, m = np.full(size.shape, np.nan), int(tested.sum())
    if not m:
        return out
    p = two_sided_p(size[tested], df)
    if method == "bonferroni":
        out[tested] = np.minimum(1.0, m * p)
    elif method == "sidak":
        with np.errstate(divide="ignore"):
            out[tested] = -np.expm1(m * np.log1p(-p))
    elif method == "holm":
        order = np.argsort(p, kind="stable")
        steps = np.maximum.accumulate(p[order] * np.arange(m, 0, -1))
        p[order] = np.minimum(1.0, steps)
        out[tested] = p
    else:
        half = _factor(np.asarray(cov, np.float64)[np.ix_(tested, tested)])
        radii = _radii(half) if method == "max-z" else np.ones(1)
        out[tested] = _tail(size[tested], radii, half.shape[1], df)
    return out


def _factor(cov: ArrayLike) -> Float[Host, "m r"]:
    """Return F (m, r) with rows of length 1, so that F F' is the correlation, of rank r, of the m entries of ``cov`` that have
    a positive and finite variance.
    """
    V = np.asarray(cov, np.float64)
    variance = np.diag(V)
    known = np.isfinite(variance) & (variance > 0)
    V = V[np.ix_(known, known)]
    scale = 1.0 / np.sqrt(np.diag(V))
    values, vectors = np.linalg.eigh(V * np.outer(scale, scale))
    kept = values > 1e-10 * values.max(initial=0.0)
    half = vectors[:, kept] * np.sqrt(values[kept])
    return np.asarray(half / np.linalg.norm(half, axis=1, keepdims=True))


def _radii(half: Float[Host, "m r"]) -> Float[Host, " n"]:
    """Return max_j |F_j v| for n points v spread evenly over the unit sphere (Sobol points), (n,); [1] for rank 1."""
    rank = half.shape[1]
    if rank == 1:
        return np.ones(1)
    from scipy.special import ndtri
    from scipy.stats import qmc

    points = qmc.Sobol(rank, rng=np.random.default_rng(0)).random(2**16 if rank <= MANY else 2**13)
    normal = ndtri(np.clip(points, 1e-12, 1.0 - 1e-12))
    return np.asarray(np.abs(normal @ half.T).max(axis=1) / np.linalg.norm(normal, axis=1))


def _tail(c: Float[Host, " k"], radii: Float[Host, " n"], rank: int, df: float) -> Float[Host, " k"]:
    """Return P(max |Z_j| > c) for each c (k,), as the mean over directions on the sphere.

    Args:
        c: critical values.
        radii: max_j |F_j v| in n directions v on the sphere (`_radii`); [1] for Scheffe's bound.
        rank: rank of the correlation of Z.
        df: degrees of freedom of Student's t; inf for normal Z.
    """
    from scipy.special import chdtrc, fdtrc

    square = (c[:, None] / radii) ** 2
    each = chdtrc(rank, square) if np.isinf(df) else fdtrc(rank, df, square / rank)
    return np.asarray(each.mean(axis=1))
