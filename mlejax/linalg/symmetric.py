"""A symmetric matrix known by what it does, so that it need not be formed.

A matrix of few coordinates is an array (p, p).  One of many is often sparse: effects of groups that meet only through a few
common coordinates make an arrow, block-diagonal with a dense border, which is solved block by block through its Schur
complement.  Whoever asks only for what `Symmetric` offers works with both.

Several matrices are an array (..., p, p), or an array of objects (...,) that are `Symmetric`; the functions ``*_each`` take
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
    """A symmetric matrix A (p, p) on the host."""

    def diagonal(self) -> Float[Host, " p"]:
        """The diagonal of A; finite where A is."""
        ...

    def matvec(self, v: Float[Host, " p"]) -> Float[Host, " p"]:
        """A v."""
        ...

    def solve(self, b: Float[Host, " p"]) -> Float[Host, " p"]:
        """The solution x of A x = b; NaN where A is not safely positive definite."""
        ...

    def inverse_diagonal(self) -> Float[Host, " p"]:
        """The diagonal of the inverse of A; NaN where A is not safely positive definite."""
        ...

    def logdet(self) -> float:
        """log det A; NaN where A is not safely positive definite."""
        ...

    def block(self, index: Int[Host, " k"] | Bool[Host, " p"]) -> Float[Host, "k k"]:
        """Rows and columns of A, by their numbers or by flags, as an array."""
        ...

    def among(self, free: Bool[Host, " p"]) -> Symmetric:
        """A without the rows and columns that are not flagged."""
        ...

    def conditioning(self) -> tuple[float, float]:
        """The smallest eigenvalue of A scaled to unit diagonal, NaN where it cannot be scaled; and its condition number, inf
        where that is not positive."""
        ...

    @property
    def ok(self) -> bool:
        """Whether A is finite and safely positive definite."""
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
        return _inverse_of(np.asarray(self.array, np.float64).tobytes(), len(self.array))

    def diagonal(self) -> Float[Host, " p"]:
        """The diagonal."""
        return self.array.diagonal()

    def matvec(self, v: Float[Host, " p"]) -> Float[Host, " p"]:
        """A v."""
        return self.array @ v

    def solve(self, b: Float[Host, " p"]) -> Float[Host, " p"]:
        """The solution x of A x = b."""
        return self._inverted.inverse @ b

    def inverse_diagonal(self) -> Float[Host, " p"]:
        """The diagonal of the inverse."""
        return self._inverted.inverse.diagonal()

    def logdet(self) -> float:
        """log det A."""
        return float(np.linalg.slogdet(self.array)[1]) if self.ok else float("nan")

    def block(self, index: Int[Host, " k"] | Bool[Host, " p"]) -> Float[Host, "k k"]:
        """Rows and columns."""
        return self.array[np.ix_(index, index)]

    def among(self, free: Bool[Host, " p"]) -> Dense:
        """The flagged rows and columns."""
        return self if free.all() else Dense(self.block(free))

    def conditioning(self) -> tuple[float, float]:
        """The smallest eigenvalue and the condition number of the matrix scaled to unit diagonal."""
        return self._inverted.smallest, self._inverted.condition

    @property
    def ok(self) -> bool:
        """Whether it is finite and safely positive definite."""
        return self._inverted.ok


@lru_cache(maxsize=1)  # of an end, several ask for the same one
def _inverse_of(numbers: bytes, p: int) -> ScaledInverse:
    return scaled_inverse(np.frombuffer(numbers).reshape(p, p))


def symmetric(a: Any) -> Symmetric:
    """An array, or what is `Symmetric` already, as the latter."""
    return Dense(a) if isinstance(a, np.ndarray) else a


def diagonal_each(a: Shaped[Host, ...]) -> Float[Host, "*sets p"]:
    """The diagonals of several matrices."""
    return np.stack([m.diagonal() for m in a]) if a.dtype == object else np.einsum("...ii->...i", a)


def finite_each(a: Shaped[Host, ...]) -> Bool[Host, "*sets"]:
    """Flags of the matrices that are finite throughout."""
    if a.dtype == object:
        return np.array([all_finite(m.diagonal()) for m in a])
    return np.asarray(np.isfinite(a).all(axis=(-2, -1)))


def dense_each(a: Any) -> Float[Host, "*sets p p"]:
    """Several matrices, or one, as an array: for what asks for all eigenvectors, of few coordinates."""
    if isinstance(a, np.ndarray):
        return np.stack([dense_each(m) for m in a]) if a.dtype == object else a
    return a.block(np.arange(len(a.diagonal())))
