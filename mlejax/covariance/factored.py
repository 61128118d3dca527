r"""Covariance matrices stored by a factor, V = F F', if V itself would lose digits.

For a predictor x = c + z, the intercept's variance is c^2 times that of the mean of y, and the variance of a prediction,
x' V x, is a difference of terms c^2 times as large.  From the factor it is a sum of squares, |F' x|^2, which loses fewer digits.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from mlejax.shapes import DTypeLike, Float, Host


@dataclass(frozen=True, eq=False)
class Factored:
    """A covariance matrix V = F F', (p, p), stored by its factor; NumPy converts it to the matrix.

    Attributes:
        factor: F, (p, r); NaN in the rows of parameters without a covariance.
    """

    factor: Float[Host, "p r"]

    def __array__(self, dtype: DTypeLike | None = None, copy: bool | None = None) -> Host:
        return np.asarray(self.factor @ self.factor.T, dtype)


def factor_of(matrix: Float[Host, "p p"]) -> Float[Host, "p p"]:
    """Return F, (p, p), with F F' = V for a covariance matrix V, from the eigenvectors of its correlations.

    Rows and columns of V whose diagonal is not finite give rows of NaN in F, and columns of 0 elsewhere; negative eigenvalues
    are set to 0.

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
