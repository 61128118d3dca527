"""Columns of very many rows, of which no copy is made: they are read in chunks where they lie.

In the rows of `Prepared` a `StreamedColumn` replaces an array with its padding. Code that takes chunks or some of the rows
gets views and small copies. Code that takes all rows at once, such as a compiled program of the whole data, gets a padded
copy, which is made then: in JAX's tree that copy replaces the column.

The array is most often the user's own, who may write into it later. A hash of its bytes is taken when it comes, and compared
when a copy is made: scores and bootstraps, long after the fit, are of the data that were fitted, or refused.
"""

from __future__ import annotations

import zlib
from typing import Any, Self

import jax
import numpy as np

from mlejax.data.errors import DataError
from mlejax.execution import aligned, limits
from mlejax.shapes import DTypeLike, Host, Shaped


@jax.tree_util.register_pytree_node_class
class StreamedColumn:
    """An array (n, ...) as the first rows of one (N, ...), whose further rows repeat the first; no copy is made.

    Attributes:
        values: (n, ...), not ours to write to.
        shape: (N, ...).

    >>> column = StreamedColumn(np.array([2.0, 3.0]), 4)
    >>> column[1:3], column[np.array([0, 3])], np.asarray(column)
    (array([3., 2.]), array([2., 2.]), array([2., 3., 2., 2.]))
    """

    def __init__(self, values: np.ndarray, n_padded: int) -> None:
        self.values = values
        self.shape = (n_padded, *values.shape[1:])
        self._hash = _hash(values)
        self._padded: np.ndarray | None = None

    @property
    def dtype(self) -> np.dtype[Any]:
        """As of the values."""
        return self.values.dtype

    @property
    def ndim(self) -> int:
        """As of the values."""
        return self.values.ndim

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
        n_real = max(n - begin, 0)
        out[:n_real] = self.values[begin:n]
        out[n_real:] = self.values[0]
        return out

    def __array__(self, dtype: DTypeLike | None = None, copy: bool | None = None) -> np.ndarray:
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
            DataError: their hash is another.
        """
        if _hash(self.values) != self._hash:
            raise DataError(
                "the data were changed in place after the fit. Arrays of more than 256 MB are not copied, so that what is "
                "computed later (scores, robust covariances, bootstraps, predictions of the fitted rows) needs them as they "
                "were: pass a copy to fit if you go on writing into them"
            )

    def tree_flatten(self) -> tuple[tuple[np.ndarray], None]:
        """The padded copy as the one child."""
        return (np.asarray(self),), None

    @classmethod
    def tree_unflatten(cls, _: None, children: tuple[Any]) -> Self:
        """The array in the column's place, most often a traced one."""
        return children[0]

    def __getstate__(self) -> dict[str, Any]:
        """The values once: as they were, where there is a copy."""
        values = self.values if self._padded is None else self._padded[: len(self.values)]
        return {**self.__dict__, "values": values, "_padded": None}


def _hash(values: Shaped[Host, "n ..."]) -> int:
    """A checksum of the bytes in their order, chunk by chunk, so that no copy of all of them is made."""
    found = 0
    step = max(1, limits().read_rows // max(1, int(np.prod(values.shape[1:]))))
    for start in range(0, values.shape[0], step):
        found = zlib.crc32(np.ascontiguousarray(values[start : start + step]).data, found)
    return found
