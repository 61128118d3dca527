r"""A covariance kept as its factor, V = F F': where V itself cannot hold what the factor knows.

For a covariate x = c + z, the intercept's variance is c^2 times that of the mean of y, and the variance of a prediction,
x' V x, is what is left of terms c^2 times as large.  From the factor it is a sum of squares, |F' x|^2, and only x' F cancels.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from mlejax.shapes import DTypeLike, Float, Host


@dataclass(frozen=True, eq=False)
class Factored:
    """A covariance V = F F'.

    Attributes:
        factor: F, (p, r); NaN in the rows of entries without a covariance.
    """

    factor: Float[Host, "p r"]

    def __array__(self, dtype: DTypeLike | None = None, copy: bool | None = None) -> Host:
        return np.asarray(self.factor @ self.factor.T, dtype)


def factor_of(matrix: Float[Host, "p p"]) -> Float[Host, "p p"]:
    """F with V = F F' of a covariance V, scaled to unit diagonal beforehand; NaN in the rows in which it is.

    Example:
        >>> import numpy as np
        >>> F = factor_of(np.array([[4.0, 1.0, np.nan], [1.0, 1.0, np.nan], [np.nan, np.nan, np.nan]]))
        >>> (F @ F.T).round(12)[:2, :2].tolist(), np.isnan(F[2]).all()
        ([[4.0, 1.0], [1.0, 1.0]], np.True_)
    """
    known = np.isfinite(np.diag(matrix))
    root = np.sqrt(np.maximum(np.diag(matrix)[known], 1e-300))
    values, vectors = np.linalg.eigh(matrix[np.ix_(known, known)] / np.outer(root, root))
    out = np.full(matrix.shape, np.nan)
    out[known] = 0.0
    out[np.ix_(known, known)] = root[:, None] * vectors * np.sqrt(np.maximum(values, 0.0))
    return out
