r"""Wald tests of linear hypotheses R theta = r, from estimates and their covariance V.

.. math:: W = (R\hat\theta - r)' (R V R')^{-} (R\hat\theta - r) \sim \chi^2_q, \qquad q = rank(R V R'),

or W / q against F(q, df_denom). The covariance of *reported* entries may be singular (all K entries of a simplex):
the inverse is a pseudo-inverse and q the rank, from the eigenvalues of R V R' scaled to unit diagonal, each compared
with the rounding error that its own cancellation can cause.

Where R V R' is singular, some combination of the restrictions has no sampling variation at all. If the estimate
satisfies that combination it is redundant, and dropped. If not, the hypothesis contradicts a relation that holds
exactly in the model (three probabilities of 0.5 each): it is false whatever the data, so W is infinite, p is 0, and
the note says why. Restrictions that contradict each other (a = 1 and a = 2) are an error.

Entries of V that are NaN spoil only the restrictions that use them. A refused test has NaN and a reason.

Silvey (1959); for singular covariances Andrews (1987), *Asymptotic results for generalized Wald tests*.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from mlejax.inference.numbers import format_statistic, format_test_p

# An eigenvalue below this share of the sum of absolute terms it was computed from is rounding error, that is, zero.
_ROUNDING = 1e-13
# A restriction without sampling variation counts as satisfied when it holds to this relative accuracy.
_SATISFIED = 1e-8
NO_COVARIANCE = "the covariance of the tested entries is not available"


class Spread(NamedTuple):
    """Covariance of R theta, with the size of the terms that were added up to make it.

    Attributes:
      cov: (m, m) R V R'; NaN where it depends on a NaN of V.
      bound: (m, m) |R| |V| |R|', the scale against which a difference is zero.
    """

    cov: np.ndarray
    bound: np.ndarray


def linear_covariance(matrix: ArrayLike, cov: ArrayLike) -> Spread:
    """R V R', where a NaN in V spoils only what really uses it (0 times NaN is 0 here).

    Args:
      matrix: (m, k) R, or a Jacobian.
      cov: (k, k) V.

    Returns:
      `Spread`.

    >>> linear_covariance([[1.0, 0.0], [0.0, 1.0]], [[4.0, np.nan], [np.nan, np.nan]]).cov.tolist()
    [[4.0, nan], [nan, nan]]
    """
    matrix_, cov_ = np.asarray(matrix, np.float64), np.asarray(cov, np.float64)
    known = np.isfinite(cov_)
    values = np.where(known, cov_, 0.0)
    product = matrix_ @ values @ matrix_.T
    product = 0.5 * (product + product.T)
    size = np.abs(matrix_)
    bound = size @ np.abs(values) @ size.T
    if not known.all():
        uses = (matrix_ != 0).astype(np.float64)
        product = np.where(uses @ (~known).astype(np.float64) @ uses.T > 0, np.nan, product)
    return Spread(product, bound)


def standard_errors(matrix: ArrayLike, cov: ArrayLike) -> np.ndarray:
    """Standard errors of R theta, without forming its covariance.

    Exactly 0 where only rounding is left (a sum of probabilities), NaN where the variance is negative or uses a NaN.

    Args:
      matrix: (m, k) R, or a Jacobian.
      cov: (k, k) V.

    Returns:
      (m,) standard errors.

    >>> standard_errors([[1.0, 1.0], [1.0, 0.0]], [[0.04, -0.04], [-0.04, 0.04]]).tolist()
    [0.0, 0.2]
    """
    matrix_, cov_ = np.asarray(matrix, np.float64), np.asarray(cov, np.float64)
    known = np.isfinite(cov_)
    values = np.where(known, cov_, 0.0)
    variance = ((matrix_ @ values) * matrix_).sum(axis=1)
    size = np.abs(matrix_)
    bound = ((size @ np.abs(values)) * size).sum(axis=1)
    error = np.where(variance > _ROUNDING * bound, np.sqrt(np.maximum(variance, 0.0)), 0.0)
    error[variance < -_ROUNDING * bound] = np.nan
    if not known.all():
        uses = (matrix_ != 0).astype(np.float64)
        error[np.sum((uses @ (~known).astype(np.float64)) * uses, axis=1) > 0] = np.nan
    return error


@dataclass(frozen=True, eq=False)
class WaldTest:
    """A Wald test of linear restrictions, all at once.

    Attributes:
      statistic: W for chi2, W / df for F; NaN when the test is refused.
      df: degrees of freedom, the rank of the restrictions' covariance.
      p_value: upper tail probability.
      distribution: ``"chi2"`` or ``"F"``.
      df_denom: denominator degrees of freedom for F, else None.
      restrictions: one label per restriction.
      note: what to know about the result (redundant or impossible restrictions); may be empty.
      reason: why there is no result; empty when there is one.
    """

    statistic: float
    df: int
    p_value: float
    distribution: str
    df_denom: float | None = None
    restrictions: tuple[str, ...] = ()
    note: str = ""
    reason: str = ""

    @property
    def pvalue(self) -> float:
        """The p-value, under statsmodels' name."""
        return self.p_value

    def summary(self) -> str:
        """The restrictions and the test, as text.

        >>> print(WaldTest(5.31, 2, 0.0703, "chi2", restrictions=("a = b", "c = 1")).summary())
        Wald test
          (1)  a = b
          (2)  c = 1
        <BLANKLINE>
          chi2(2) = 5.310    Prob > chi2 = 0.0703
        """
        lines = ["Wald test", *numbered(self.restrictions), ""]
        if self.reason:
            lines.append(f"  not available: {self.reason}")
        else:
            lines.append(f"  {self._name()} = {format_statistic(self.statistic)}    {self._tail()}")
            if self.note:
                lines.append(f"  note: {self.note}")
        return "\n".join(lines)

    def _name(self) -> str:
        inside = f"{self.df}" if self.df_denom is None else f"{self.df}, {self.df_denom:g}"
        return f"{self.distribution}({inside})"

    def _tail(self) -> str:
        return f"Prob > {self.distribution} = {format_test_p(self.p_value)}"

    def __repr__(self) -> str:
        if self.reason:
            return f"WaldTest(not available: {self.reason})"
        return f"WaldTest({self._name()} = {format_statistic(self.statistic)}, p = {format_test_p(self.p_value)})"


def numbered(restrictions: Sequence[str], most: int = 20) -> list[str]:
    """``(1)  a = b`` lines, the middle of a long list left out.

    >>> numbered(["a = b"])
    ['  (1)  a = b']
    """
    width = len(str(len(restrictions)))
    lines = [f"  ({i + 1:>{width}})  {text}" for i, text in enumerate(restrictions)]
    if len(lines) > most:
        half = most // 2
        return [*lines[:half], f"  ... {len(lines) - 2 * half} more ...", *lines[-half:]]
    return lines


def wald_test(
    R: ArrayLike,
    r: ArrayLike,
    theta: ArrayLike,
    cov: ArrayLike,
    *,
    df_denom: float | None = None,
    labels: Sequence[str] = (),
    reason: str = "",
) -> WaldTest:
    """Joint Wald test of R theta = r.

    Args:
      R: (m, k) restrictions.
      r: (m,) or scalar right-hand side.
      theta: (k,) estimates.
      cov: (k, k) covariance of the estimates, possibly singular, NaN where it does not exist.
      df_denom: denominator degrees of freedom: W / df is compared with F instead of W with chi2.
      labels: m labels of the restrictions.
      reason: why the covariance has NaN, if the caller knows; repeated in a refused result.

    Returns:
      `WaldTest`; refused (NaN and `reason`) when a needed covariance is NaN or not positive semi-definite,
      or when nothing that is tested has sampling variation.

    Raises:
      ValueError: wrong shapes, a covariance that is not symmetric, or restrictions that contradict each other.

    >>> wald_test([[1.0, -1.0]], 0.0, [1.0, 3.0], [[1.0, 0.0], [0.0, 1.0]])
    WaldTest(chi2(1) = 2.000, p = 0.1573)
    """
    R_, r_, theta_, cov_ = check_arguments(R, r, theta, cov)
    labels = tuple(labels) if labels else tuple(f"restriction {i}" for i in range(r_.size))
    _check_consistent(R_, r_)
    name = "chi2" if df_denom is None else "F"

    def refused(why: str) -> WaldTest:
        return WaldTest(np.nan, 0, np.nan, name, df_denom, labels, "", why)

    used = np.any(R_ != 0, axis=0)
    if not np.all(np.isfinite(theta_[used])):
        return refused("an estimate that is tested is not finite")
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
            "(such as probabilities that sum to 1), so it is false whatever the data"
        )
        return WaldTest(np.inf, max(form.rank, 1), 0.0, name, df_denom, labels, impossible)
    if form.rank == 0:
        return refused("nothing that is tested has any sampling variation")
    note = ""
    if form.rank < r_.size:
        note = f"{r_.size - form.rank} of {r_.size} restrictions follow from the others, so the test has df {form.rank}"
    statistic = form.value if df_denom is None else form.value / form.rank
    return WaldTest(statistic, form.rank, _upper_tail(statistic, form.rank, df_denom), name, df_denom, labels, note)


class _Form(NamedTuple):
    value: float
    rank: int
    contradicted: bool
    negative: bool


def _quadratic_form(gap: np.ndarray, size: np.ndarray, spread: Spread) -> _Form:
    """gap' pinv(cov) gap in coordinates scaled to unit variance, with the rank and what the null space says."""
    m = gap.size
    variance, bound = np.diag(spread.cov), np.diag(spread.bound)
    scale = np.where(variance > _ROUNDING * bound, variance, np.where(bound > 0, bound, 1.0))
    scale = 1.0 / np.sqrt(scale)
    scaled = spread.cov * np.outer(scale, scale)
    values, vectors = np.linalg.eigh(scaled)
    # Rounding of the eigenvalue solver, and of the sums that made the covariance, direction by direction.
    reach = np.abs(vectors) * scale[:, None]
    own = np.sum(reach * (spread.bound @ reach), axis=0)
    threshold = np.maximum(_ROUNDING * own, 8 * m * np.finfo(np.float64).eps * np.abs(values).max(initial=0.0))
    kept = values > threshold
    along = vectors.T @ (scale * gap)
    noise = reach.T @ size
    contradicted = bool(np.any(~kept & (np.abs(along) > _SATISFIED * noise)))
    total = float(np.sum(along[kept] ** 2 / values[kept]))
    return _Form(total, int(kept.sum()), contradicted, bool(np.any(values < -threshold)))


def _upper_tail(statistic: float, df: int, df_denom: float | None) -> float:
    from scipy import special  # scipy.stats takes half a second to import

    return float(special.chdtrc(df, statistic) if df_denom is None else special.fdtrc(df, df_denom, statistic))


def check_arguments(
    R: ArrayLike, r: ArrayLike, theta: ArrayLike, cov: ArrayLike
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """R (m, k), r (m,), theta (k,) and cov (k, k) as float64, or a ValueError about their shapes."""
    theta_, cov_ = np.asarray(theta, np.float64), np.asarray(cov, np.float64)
    k = theta_.size
    if theta_.ndim != 1 or cov_.shape != (k, k):
        raise ValueError(f"expected theta (k,) and its covariance (k, k), got {theta_.shape} and {cov_.shape}")
    known = np.where(np.isfinite(cov_), cov_, 0.0)
    if np.abs(known - known.T).max(initial=0.0) > 1e-6 * np.abs(known).max(initial=0.0):
        raise ValueError("the covariance is not symmetric")
    R_ = np.atleast_2d(np.asarray(R, np.float64))
    if R_.ndim != 2 or R_.shape[1] != k or R_.shape[0] == 0:
        raise ValueError(f"R: expected shape (m, {k}), one column per entry of theta, got {R_.shape}")
    r_ = np.asarray(r, np.float64)
    if r_.ndim > 1 or r_.size not in (1, R_.shape[0]):
        raise ValueError(f"r: expected a scalar or {R_.shape[0]} values, got shape {r_.shape}")
    if not (np.all(np.isfinite(R_)) and np.all(np.isfinite(r_))):
        raise ValueError("R and r: expected finite numbers")
    return R_, np.broadcast_to(r_.ravel(), R_.shape[0]).copy(), theta_, cov_


def _check_consistent(R: np.ndarray, r: np.ndarray) -> None:
    """ValueError when no theta at all satisfies R theta = r."""
    used = np.any(R != 0, axis=0)
    if np.all((R != 0).sum(axis=1) == 1) and used.sum() == r.size:
        return  # one entry each, all different
    size = np.abs(R).max(axis=1)
    if np.any(size == 0):
        raise ValueError("R has a row of zeros: there is nothing to test")
    matrix, value = R[:, used] / size[:, None], r / size
    solution, *_ = np.linalg.lstsq(matrix, value, rcond=None)
    if np.abs(matrix @ solution - value).max() > _SATISFIED * max(np.abs(value).max(), 1e-300):
        raise ValueError("the restrictions contradict each other: no value of the parameters satisfies them all")
