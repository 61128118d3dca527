r"""Centred and scaled coordinates v for optimisation, for covariates far from 0 or of very different scales.

    u = origin + matrix v

For a covariate x = c + z with |c| far above the spread of z, sums of products of (1, x) lose the digits of z: its information
cancels to 1e-16 c^2.  With v the map is applied in the tangents, before anything is summed: the derivative of a row's predictor
with respect to v is (1, x) times a column of the matrix, which is centred row by row, and the error falls to 1e-16 c.

A :class:`~mlejax.parameters.space.Space` with ``mapped`` converts from v.  The numbers of the map are appended to the vector of
values under ``fixed=``, so that one compiled program serves all maps.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from mlejax.shapes import Either, Float, Host
from mlejax.transforms import Ordered

if TYPE_CHECKING:
    from .space import Space


class Coordinates(NamedTuple):
    """The affine map u = origin + matrix v, as NumPy arrays or as traced arrays of a program.

    Attributes:
        origin: origin (p,); 0 for coordinates that are not mapped.
        matrix: invertible matrix (p, p); rows of the identity for coordinates that are not mapped.
    """

    origin: Either
    matrix: Any

    def to_u(self, v: Float[Either, "*m p"]) -> Any:
        """Return u of v, both (..., p)."""
        return self.origin + v @ self.matrix.T

    def to_v(self, u: Float[Host, " p"]) -> Float[Host, " p"]:
        """Return v (p,) of u (p,)."""
        return np.linalg.solve(self.matrix, u - self.origin)

    def in_theta(self, space: Space) -> Coordinates:
        """Return the same map for theta. The map may change only coordinates that are the same in u and theta, and first entries
        of ordered vectors, which in theta are a part of every entry of the vector.
        """
        sums, at = np.eye(space.n_free), 0
        for leaf in space.leaves if space.ties is None else ():
            if isinstance(leaf.transform, Ordered):
                k = leaf.shape[-1]
                block = np.kron(np.eye(leaf.n_free // k), np.tril(np.ones((k, k))))
                sums[at : at + leaf.n_free, at : at + leaf.n_free] = block
            at += leaf.n_free
        return Coordinates(sums @ self.origin, sums @ self.matrix @ np.linalg.inv(sums))

    def score_in_u(self, score: Float[Host, " p"]) -> Float[Host, " p"]:
        """Return the gradient with respect to u (p,) of a function, from that with respect to v (p,)."""
        return np.linalg.solve(self.matrix.T, score)

    def information_in_u(self, information: Float[Host, "p p"]) -> Float[Host, "p p"]:
        """Return the second derivatives with respect to u (p, p), symmetric, from those with respect to v (p, p); they lose the
        digits that v was chosen to keep.
        """
        half = np.linalg.solve(self.matrix.T, information)
        full = np.linalg.solve(self.matrix.T, half.T)
        return 0.5 * (full + full.T)

    def after(self, fixed: Either | None, n_values: int) -> Float[Host, " k"]:
        """Return the vector (n_values + p + p^2,) of the values under ``fixed=`` (n_values,), zeros if ``fixed`` is None, then
        the origin, then the matrix row by row.
        """
        values = np.zeros(n_values) if fixed is None else np.asarray(fixed, np.float64)
        return np.concatenate([values, self.origin, self.matrix.ravel()])


def split_constants(constants: Either, p: int) -> tuple[Coordinates, Any]:
    """Return the map of p coordinates and the values under ``fixed=`` from their common vector ``constants``, which
    :meth:`Coordinates.after` makes.
    """
    n = constants.shape[0] - p - p * p
    origin, matrix = constants[n : n + p], constants[n + p :].reshape(p, p)
    return Coordinates(origin, matrix), constants[:n]
