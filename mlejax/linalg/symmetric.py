"""The interface `Symmetric` of symmetric matrices, which need not be formed as arrays.

A small matrix is an array (p, p).  A large one is often sparse: with fixed effects of many groups and a few common parameters
it is an arrow, block-diagonal with a dense border, which is solved block by block through its Schur
complement.  Code that uses only the methods of `Symmetric` works with both.

Several matrices are an array (..., p, p), or an object array (...,) of `Symmetric` matrices; the functions ``*_each`` take
either.
"""

from __future__ import annotations

from functools import cached_property, lru_cache
from typing import Any, Protocol, runtime_checkable

import numpy as np

from mlejax.linalg.safeguarded import ScaledInverse, all_finite, scaled_inverse
from mlejax.shapes import Bool, Float, Host, Int, Shaped

__all__ = ["Dense", "Symmetric", "dense_each", "diagonal_each", "finite_each", "symmetric"]


@runtime_checkable
class Symmetric(Protocol):
    """A symmetric matrix A, (p, p), in NumPy."""

    def diagonal(self) -> Float[Host, " p"]:
        """Return the diagonal of A, (p,); all finite only if all of A is."""
        ...

    def matvec(self, v: Float[Host, " p"]) -> Float[Host, " p"]:
        """Return A v, (p,)."""
        ...

    def solve(self, b: Float[Host, " p"]) -> Float[Host, " p"]:
        """Return the solution x of A x = b, (p,); NaN if A is not ``ok``."""
        ...

    def inverse_diagonal(self) -> Float[Host, " p"]:
        """Return the diagonal of the inverse of A, (p,); NaN if A is not ``ok``."""
        ...

    def block(self, index: Int[Host, " k"] | Bool[Host, " p"]) -> Float[Host, "k k"]:
        """Return the submatrix of A with these rows and columns (k numbers, or a mask), as an array, (k, k)."""
        ...

    def among(self, free: Bool[Host, " p"]) -> Symmetric:
        """Return the submatrix of A with the rows and columns where the mask ``free`` is True, as a `Symmetric`."""
        ...

    def conditioning(self) -> tuple[float, float]:
        """Return the smallest eigenvalue (NaN if the diagonal is not positive) and the condition number (inf if that eigenvalue
        is not positive) of A scaled to unit diagonal.
        """
        ...

    @property
    def ok(self) -> bool:
        """True if A is finite and safely positive definite."""
        ...


class Dense:
    """An array (p, p) as a `Symmetric`.

    Example:
        >>> import numpy as np
        >>> from mlejax.linalg import Dense
        >>> A = Dense(np.array([[4.0, 0.0], [0.0, 0.25]]))
        >>> A.solve(np.array([8.0, 0.5])).tolist(), A.inverse_diagonal().tolist(), A.conditioning()
        ([2.0, 2.0], [0.25, 4.0], (1.0, 1.0))
    """

    def __init__(self, array: Float[Host, "p p"]) -> None:
        self.array = array

    @cached_property
    def _inverted(self) -> ScaledInverse:
        """The result of `scaled_inverse` for the array."""
        return _inverse_of(np.asarray(self.array, np.float64).tobytes(), len(self.array))

    def diagonal(self) -> Float[Host, " p"]:
        """Return the diagonal, (p,)."""
        return self.array.diagonal()

    def matvec(self, v: Float[Host, " p"]) -> Float[Host, " p"]:
        """Return A v, (p,)."""
        return self.array @ v

    def solve(self, b: Float[Host, " p"]) -> Float[Host, " p"]:
        """Return the solution x of A x = b, (p,); NaN if A is not ``ok``."""
        return self._inverted.inverse @ b

    def inverse_diagonal(self) -> Float[Host, " p"]:
        """Return the diagonal of the inverse, (p,); NaN if A is not ``ok``."""
        return self._inverted.inverse.diagonal()

    def block(self, index: Int[Host, " k"] | Bool[Host, " p"]) -> Float[Host, "k k"]:
        """Return the submatrix with these rows and columns (k numbers, or a mask), (k, k)."""
        return self.array[np.ix_(index, index)]

    def among(self, free: Bool[Host, " p"]) -> Dense:
        """Return the submatrix with the rows and columns where the mask ``free`` is True, as a `Dense`; itself if all are."""
        return self if free.all() else Dense(self.block(free))

    def conditioning(self) -> tuple[float, float]:
        """Return the smallest eigenvalue and the condition number of A scaled to unit diagonal, as in `Symmetric`."""
        return self._inverted.smallest, self._inverted.condition

    @property
    def ok(self) -> bool:
        """True if A is finite and safely positive definite, as in `scaled_inverse`."""
        return self._inverted.ok


@lru_cache(maxsize=1)  # one after the other, several functions need the same one
def _inverse_of(numbers: bytes, p: int) -> ScaledInverse:
    """Return the result of `scaled_inverse` for a float64 matrix (p, p) given as bytes; the last one is cached."""
    return scaled_inverse(np.frombuffer(numbers).reshape(p, p))


def symmetric(a: Any) -> Symmetric:
    """Return a `Symmetric`: an array (p, p) as `Dense`, anything else unchanged."""
    return Dense(a) if isinstance(a, np.ndarray) else a


def diagonal_each(a: Shaped[Host, ...]) -> Float[Host, "*sets p"]:
    """Return the diagonals, (..., p), of an array of matrices (..., p, p), or of an object array (n,) of `Symmetric` ones."""
    return np.stack([m.diagonal() for m in a]) if a.dtype == object else np.einsum("...ii->...i", a)


def finite_each(a: Shaped[Host, ...]) -> Bool[Host, "*sets"]:
    """Return flags, (...), True for matrices whose entries are all finite, of an array of matrices (..., p, p) or an object array
    (n,) of `Symmetric` ones, whose diagonals are tested.
    """
    if a.dtype == object:
        return np.array([all_finite(m.diagonal()) for m in a])
    return np.asarray(np.isfinite(a).all(axis=(-2, -1)))


def dense_each(a: Any) -> Float[Host, "*sets p p"]:
    """Return one matrix, or an array of them, as an array of numbers, (..., p, p); an array of numbers itself."""
    if isinstance(a, np.ndarray):
        return np.stack([dense_each(m) for m in a]) if a.dtype == object else a
    return a.block(np.arange(len(a.diagonal())))
