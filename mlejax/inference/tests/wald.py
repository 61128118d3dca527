r"""Wald tests of linear hypotheses R theta = r, from estimates and their covariance V.

.. math:: W = (R\hat\theta - r)' (R V R')^{-} (R\hat\theta - r) \sim \chi^2_q, \qquad q = rank(R V R').

The covariance of *reported* entries may be singular (all K entries of a simplex):
the inverse is a pseudo-inverse and q the rank. They come from the eigenvalues of R V R', scaled to unit diagonal; an
eigenvalue counts if it exceeds the rounding error of the sums along its eigenvector.

If R V R' is singular, some combination of the restrictions has no sampling variation at all. If the estimate
satisfies that combination, it is redundant and dropped. If not, the hypothesis contradicts a relation that holds
exactly in the model (three probabilities of 0.5 each): it is false for all data, so W is infinite, p is 0, and
the note says why. Restrictions that contradict each other (a = 1 and a = 2) are an error.

A NaN in V matters only if a restriction uses it; then the whole joint test has no statistic. A test without a statistic is
NaN and has a reason: also if the null value of a single entry is at a bound of its support or outside.

With few clusters or a survey design, W / q is compared with F(q, df) in place of chi-squared.

Silvey (1959); for singular covariances Andrews (1987), *Asymptotic results for generalized Wald tests*.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from mlejax.covariance import Factored
from mlejax.inference.covariances.combinations import ROUNDING, Spread, linear_covariance
from mlejax.inference.tests.chi_squared import ChiSquared

# A restriction without sampling variation counts as satisfied when it holds to this relative accuracy.
_SATISFIED = 1e-8
NO_COVARIANCE = "the covariance of the tested entries is not available"
Support = tuple[np.ndarray, np.ndarray]
"""Lower and upper bounds of the supports of the entries of theta, (k,) each."""


@dataclass(frozen=True, eq=False, repr=False)
class WaldTest(ChiSquared):
    """Result of a joint Wald test of restrictions, with ``statistic``, ``df``, ``pvalue``, ``note`` and ``reason`` (why there is
    no result) as in :class:`ChiSquared`.

    Attributes:
      df_denominator: denominator degrees of freedom of F, if the covariance has t intervals (few clusters, surveys); the
          statistic is then W / df.  Else inf.
    """

    df_denominator: float = np.inf
    title = "Wald test"

    @property
    def distribution(self) -> str:
        """Reference distribution: ``F`` if ``df_denominator`` is finite, else ``chi2``."""
        return "chi2" if np.isinf(self.df_denominator) else "F"

    @property
    def _degrees(self) -> str:
        return f"{self.df}" if np.isinf(self.df_denominator) else f"{self.df}, {self.df_denominator:g}"


def wald_test(
    R: ArrayLike,
    r: ArrayLike,
    theta: ArrayLike,
    cov: ArrayLike,
    *,
    labels: Sequence[str] = (),
    reason: str = "",
    support: Support | None = None,
    rank: float = np.inf,
    df: float = np.inf,
) -> WaldTest:
    """Test R theta = r jointly (Wald test).

    Args:
      R: restrictions (m, k).
      r: right-hand side, (m,) or a scalar.
      theta: estimates (k,).
      cov: covariance of the estimates (k, k), possibly singular, NaN where it does not exist.
      labels: m labels of the restrictions.
      reason: why the covariance has NaN, if known; repeated in a result without a statistic.
      support: lower and upper bounds of the entries' supports, (k,) each: a null value at a bound or outside gives no
          result.
      rank: rank of the covariance, if the number of clusters limits it.
      df: degrees of freedom of the covariance: W / q is compared with F(q, df) if they are finite.

    Returns:
      `WaldTest`; NaN with a `reason` if an estimate that is used is not finite, a needed covariance is NaN or not positive
      semi-definite, the null value of a single entry is not an interior point of its support, or no restriction has sampling
      variation; infinite with a `note` if the restrictions contradict a relation that holds exactly.

    Raises:
      ValueError: shapes do not agree, R or r is not finite, R has a row of zeros, the covariance is not symmetric, or the
        restrictions contradict each other or are more than ``rank``.

    >>> wald_test([[1.0, -1.0]], 0.0, [1.0, 3.0], [[1.0, 0.0], [0.0, 1.0]])
    WaldTest(chi2(1) = 2.000, p = 0.1573)
    """
    R_, r_, theta_, cov_ = check_arguments(R, r, theta, cov)
    labels = tuple(labels) if labels else tuple(f"restriction {i}" for i in range(r_.size))
    _check_consistent(R_, r_)
    if np.isfinite(rank) and (wanted := int(np.linalg.matrix_rank(R_))) > rank:
        raise ValueError(
            f"{wanted} restrictions cannot be tested jointly with a covariance of rank {rank:g}, as too few clusters give; test "
            "fewer at a time"
        )

    def refused(why: str) -> WaldTest:
        return WaldTest(np.nan, 0, np.nan, labels, "", why)

    used = np.any(R_ != 0, axis=0)
    if not np.all(np.isfinite(theta_[used])):
        return refused("an estimate that is tested is not finite")
    if outside := outside_support(R_, r_, support, labels):
        return refused("; ".join(outside.values()))
    spread = linear_covariance(R_, cov_)
    if np.isnan(spread.cov).any():
        return refused(reason or NO_COVARIANCE)
    gap = R_ @ np.where(used, theta_, 0.0) - r_
    size = np.abs(R_) @ np.abs(np.where(used, theta_, 0.0)) + np.abs(r_)
    form = _quadratic_form(gap, size, spread)
    if form.negative:
        return refused(reason or "the covariance of the restrictions is not positive semi-definite")
    if form.contradicted:
        impossible = (
            "the hypothesis contradicts a relation that holds exactly among these entries "
            "(such as probabilities that sum to 1), so it is false for all data"
        )
        return WaldTest(np.inf, max(form.rank, 1), 0.0, labels, impossible)
    if form.rank == 0:
        return refused("no tested combination has any sampling variation")
    note = ""
    if form.rank < r_.size:
        note = f"{r_.size - form.rank} of {r_.size} restrictions follow from the others, so the test has df {form.rank}"
    if np.isfinite(df):
        from scipy.special import fdtrc

        value = form.value / form.rank
        return WaldTest(value, form.rank, float(fdtrc(form.rank, df, value)), labels, note, df_denominator=df)
    from scipy.special import chdtrc  # scipy.stats takes half a second to import

    return WaldTest(form.value, form.rank, float(chdtrc(form.rank, form.value)), labels, note)


def outside_support(R: np.ndarray, r: np.ndarray, support: Support | None, labels: Sequence[str]) -> dict[int, str]:
    """Return {position: reason} for the restrictions of single entries whose null value is at a bound of the support or
    outside; empty without ``support``.

    >>> outside_support(np.eye(1), np.zeros(1), (np.zeros(1), np.full(1, np.inf)), ["sigma = 0"])
    {0: 'sigma = 0 is not an interior point of the support (0, inf), so that a Wald statistic has no chi2 distribution'}
    """
    if support is None:
        return {}
    out = {}
    for i in np.flatnonzero((R != 0).sum(axis=1) == 1).tolist():
        j = int(np.flatnonzero(R[i])[0])
        low, high = float(support[0][j]), float(support[1][j])
        if not low < r[i] / R[i, j] < high:
            out[i] = (
                f"{labels[i]} is not an interior point of the support ({low:g}, {high:g}), so that a Wald statistic has no chi2 "
                "distribution"
            )
    return out


class _Form(NamedTuple):
    value: float
    rank: int
    contradicted: bool
    negative: bool


def _quadratic_form(gap: np.ndarray, size: np.ndarray, spread: Spread) -> _Form:
    """Return gap' pinv(cov) gap, the rank of cov, whether the gap has a part in its null space, and whether cov has a
    negative eigenvalue, all beyond rounding.

    Args:
        gap: R theta - r (m,).
        size: sums of the absolute terms of which the gap is the sum (m,).
        spread: covariance of R theta.
    """
    m = gap.size
    variance, bound = np.diag(spread.cov), np.diag(spread.bound)
    scale = np.where(variance > ROUNDING * bound, variance, np.where(bound > 0, bound, 1.0))
    scale = 1.0 / np.sqrt(scale)
    if spread.factor is None:
        values, vectors = np.linalg.eigh(spread.cov * np.outer(scale, scale))
    else:
        vectors, roots, _ = np.linalg.svd(spread.factor * scale[:, None])
        values = np.concatenate([roots, np.zeros(m - min(m, roots.size))]) ** 2
    # Rounding of the eigenvalue solver, and of the sums that made the covariance, direction by direction.
    reach = np.abs(vectors) * scale[:, None]
    own = np.sum(reach * (spread.bound @ reach), axis=0)
    threshold = np.maximum(ROUNDING * own, 8 * m * np.finfo(np.float64).eps * np.abs(values).max(initial=0.0))
    kept = values > threshold
    along = vectors.T @ (scale * gap)
    noise = reach.T @ size
    contradicted = bool(np.any(~kept & (np.abs(along) > _SATISFIED * noise)))
    total = float(np.sum(along[kept] ** 2 / values[kept]))
    return _Form(total, int(kept.sum()), contradicted, bool(np.any(values < -threshold)))


def check_arguments(
    R: ArrayLike, r: ArrayLike, theta: ArrayLike, cov: ArrayLike
) -> tuple[np.ndarray, np.ndarray, np.ndarray, Any]:
    """Return R (m, k), r (m,), theta (k,) and cov (k, k) or its factor as float64; one number r is repeated.

    Raises:
        ValueError: their shapes do not agree, R or r is not finite, or cov is not symmetric (NaN excepted).
    """
    theta_, cov_ = np.asarray(theta, np.float64), np.asarray(cov, np.float64)
    kept = cov if isinstance(cov, Factored) else cov_
    k = theta_.size
    if theta_.ndim != 1 or cov_.shape != (k, k):
        raise ValueError(f"expected theta (k,) and its covariance (k, k), got {theta_.shape} and {cov_.shape}")
    known = np.where(np.isfinite(cov_), cov_, 0.0)
    if np.abs(known - known.T).max(initial=0.0) > 1e-6 * np.abs(known).max(initial=0.0):
        raise ValueError("cov is not symmetric: expected the covariance matrix of theta")
    R_ = np.atleast_2d(np.asarray(R, np.float64))
    if R_.ndim != 2 or R_.shape[1] != k or R_.shape[0] == 0:
        raise ValueError(f"R: expected shape (m, {k}), one column per entry of theta, got {R_.shape}")
    r_ = np.asarray(r, np.float64)
    if r_.ndim > 1 or r_.size not in (1, R_.shape[0]):
        raise ValueError(f"r: expected a scalar or {R_.shape[0]} values, got shape {r_.shape}")
    if not (np.all(np.isfinite(R_)) and np.all(np.isfinite(r_))):
        raise ValueError("R and r: expected finite numbers")
    return R_, np.broadcast_to(r_.ravel(), R_.shape[0]).copy(), theta_, kept


def _check_consistent(R: np.ndarray, r: np.ndarray) -> None:
    """Raise ValueError if no theta satisfies R theta = r, or R has a row of zeros."""
    used = np.any(R != 0, axis=0)
    if np.all((R != 0).sum(axis=1) == 1) and used.sum() == r.size:
        return  # one entry each, all different
    size = np.abs(R).max(axis=1)
    if np.any(size == 0):
        raise ValueError("R has a row of zeros, which tests nothing: leave it out")
    matrix, value = R[:, used] / size[:, None], r / size
    solution, *_ = np.linalg.lstsq(matrix, value, rcond=None)
    if np.abs(matrix @ solution - value).max() > _SATISFIED * max(np.abs(value).max(), 1e-300):
        raise ValueError(
            "the restrictions contradict each other: no value of the parameters satisfies them all; leave "
            "one out"
        )
