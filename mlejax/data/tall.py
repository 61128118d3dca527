"""Columns of very many rows, of which no copy is made: they are read in chunks where they lie.

A `Tall` column stands among the rows of `Prepared` for an array with its padding. What takes chunks or some of the rows gets
views and small copies. What takes all rows at once, as any compiled program does that is handed the whole data, gets a padded
copy, made then: the tree of JAX has that copy in the column's place.

The array is most often the user's own, who may write into it later. Its sums are taken when it comes, and compared when
a copy is made: scores and bootstraps, long after the fit, are of the data that were fitted, or refused.
"""

from __future__ import annotations

from typing import Any

import jax
import numpy as np

from .errors import DataError
from .padding import aligned

STREAMED = 256 * 1024 * 1024  # bytes of a table from which its rows are not copied
PIECE = 1 << 16


@jax.tree_util.register_pytree_node_class
class Tall:
    """An array (n, ...) as the first rows of one (N, ...), whose further rows repeat the first.

    Attributes:
        values: (n, ...), not ours to write to.
        shape: (N, ...).

    >>> column = Tall(np.array([2.0, 3.0]), 4)
    >>> column[1:3], column[np.array([0, 3])], np.asarray(column)
    (array([3., 2.]), array([2., 2.]), array([2., 3., 2., 2.]))
    """

    def __init__(self, values: np.ndarray, n_padded: int) -> None:
        self.values = values
        self.shape = (n_padded, *values.shape[1:])
        self._sums = _sums(values)
        self._padded: np.ndarray | None = None

    @property
    def dtype(self) -> np.dtype[Any]:
        """That of the values."""
        return self.values.dtype

    @property
    def ndim(self) -> int:
        """That of the values."""
        return self.values.ndim

    @property
    def moments(self) -> tuple[float, float]:
        """Sum and sum of squares."""
        return self._sums[:2]

    @property
    def copied(self) -> bool:
        """Whether something asked for all rows at once."""
        return self._padded is not None

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, at: slice | np.ndarray) -> np.ndarray:
        """Rows by a slice without a step, a view where none of them is padding; or by their numbers (m,)."""
        n = len(self.values)
        if not isinstance(at, slice):
            return self.values[np.where(np.asarray(at) < n, at, 0)]
        begin, end, _ = at.indices(len(self))
        if end <= n:
            return self.values[begin:end]
        out = aligned((end - begin, *self.shape[1:]), self.dtype)
        held = max(n - begin, 0)
        out[:held] = self.values[begin:n]
        out[held:] = self.values[0]
        return out

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        """The padded copy.

        Raises:
            DataError: the values are not those that came.
        """
        if self._padded is None:
            self.check()
            self._padded = self[:]
        return self._padded if dtype is None else self._padded.astype(dtype, copy=False)

    def check(self) -> None:
        """Refuse values that were written into since they came.

        Raises:
            DataError: their sums differ.
        """
        if _sums(self.values) != self._sums:
            raise DataError(
                "the data were changed in place after the fit. Arrays of more than 256 MB are not copied, so that what is "
                "computed later (scores, robust covariances, bootstraps, predictions of the fitted rows) needs them as they "
                "were: pass a copy to fit if you go on writing into them"
            )

    def tree_flatten(self) -> tuple[tuple[np.ndarray], None]:
        """The padded copy as the one child."""
        return (np.asarray(self),), None

    @classmethod
    def tree_unflatten(cls, _: None, children: tuple[Any]) -> Any:
        """What stands in the column's place, as it is: traced, most often."""
        return children[0]


def _sums(values: np.ndarray) -> tuple[float, float, float]:
    """Sum, sum of squares, and a sum that tells the order, over contiguous pieces of fixed size."""
    total = square = order = 0.0
    step = max(1, PIECE // max(1, int(np.prod(values.shape[1:]))))
    ramp = np.arange(1.0, max(PIECE, int(np.prod(values.shape[1:]))) + 1)
    with np.errstate(over="ignore", invalid="ignore"):
        for number, start in enumerate(range(0, values.shape[0], step), 1):
            piece = np.ascontiguousarray(values[start : start + step], dtype=np.float64).reshape(-1)
            total += float(np.add.reduce(piece))
            square += float(np.dot(piece, piece))
            order += number * float(np.dot(piece, ramp[: piece.size]))
    return total, square, order
