"""Covariances and standard errors of linear combinations R theta, where entries of the covariance may be missing."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from mlejax.covariance import Factored
from mlejax.shapes import Float, Host

ROUNDING = (
    1e-13  # a variance below this share of the sum of absolute terms it was computed from is rounding, that is, 0
)


class Spread(NamedTuple):
    """Covariance of R theta, with the size of the terms that it is the sum of.

    Attributes:
      cov: R V R' (m, m); NaN where it depends on a NaN of V.
      bound: |R| |V| |R|' (m, m), with NaN of V as 0; variances below `ROUNDING` times it are rounding.  With a factor,
        `ROUNDING` times |R| |F| (|R| |F|)' in its place, because R F, and not its square, is exact to `ROUNDING` of its terms.
      factor: R F (m, r) if V was given as a factor, V = F F'; else None.
    """

    cov: Float[Host, "m m"]
    bound: Float[Host, "m m"]
    factor: Float[Host, "m r"] | None = None

    @property
    def full(self) -> Float[Host, "m m"] | Factored:
        """The covariance in its most accurate form: its factor if there is one, else ``cov``."""
        return self.cov if self.factor is None else Factored(self.factor)


def linear_covariance(matrix: ArrayLike, cov: ArrayLike | Factored) -> Spread:
    """Return the covariance R V R' of R theta; a NaN in V affects only the entries that use it (0 times NaN is 0 here).

    Args:
      matrix: R or a Jacobian, (m, k).
      cov: covariance V (k, k), or its factor.

    >>> linear_covariance([[1.0, 0.0], [0.0, 1.0]], [[4.0, np.nan], [np.nan, np.nan]]).cov.tolist()
    [[4.0, nan], [nan, nan]]
    """
    if isinstance(cov, Factored):
        half, size = _combined(np.asarray(matrix, np.float64), cov)
        return Spread(half @ half.T, ROUNDING * size @ size.T, half)
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


def _combined(matrix: Float[Host, "m k"], cov: Factored) -> tuple[Float[Host, "m r"], Float[Host, "m r"]]:
    """Return R F for the matrix R and the factor F, with NaN in the rows that use an entry without a covariance, and
    |R| |F|, in which NaN of F counts as 0; (m, r) each.
    """
    known = np.isfinite(cov.factor).all(axis=1)
    factor = np.where(known[:, None], cov.factor, 0.0)
    missing = (matrix[:, ~known] != 0).any(axis=1)
    return np.where(missing[:, None], np.nan, matrix @ factor), np.abs(matrix) @ np.abs(factor)


def standard_errors(matrix: ArrayLike, cov: ArrayLike | Factored) -> Float[Host, "... m"]:
    """Return standard errors of R theta, without computing its covariance.

    An error is exactly 0 where the variance is below rounding (a sum of probabilities), and NaN where the variance is
    negative beyond rounding or uses a NaN.

    Args:
      matrix: R or a Jacobian, (m, k).
      cov: covariances V (..., k, k) of one or many data sets, or the factor of one.

    Returns:
      (..., m) standard errors.

    >>> standard_errors([[1.0, 1.0], [1.0, 0.0]], [[0.04, -0.04], [-0.04, 0.04]]).tolist()
    [0.0, 0.2]
    """
    if isinstance(cov, Factored):
        half, size = _combined(np.asarray(matrix, np.float64), cov)
        found = np.sqrt((half**2).sum(axis=1))
        return np.where(found <= ROUNDING * np.sqrt((size**2).sum(axis=1)), 0.0, found)
    matrix_, cov_ = np.asarray(matrix, np.float64), np.asarray(cov, np.float64)
    known = np.isfinite(cov_)
    values = np.where(known, cov_, 0.0)
    variance = ((matrix_ @ values) * matrix_).sum(axis=-1)
    size = np.abs(matrix_)
    bound = ((size @ np.abs(values)) * size).sum(axis=-1)
    error = np.where(variance > ROUNDING * bound, np.sqrt(np.maximum(variance, 0.0)), 0.0)
    error[variance < -ROUNDING * bound] = np.nan
    if not known.all():
        uses = (matrix_ != 0).astype(np.float64)
        error[np.sum((uses @ (~known).astype(np.float64)) * uses, axis=-1) > 0] = np.nan
    return error
