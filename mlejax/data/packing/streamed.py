"""Large columns of which no copy is made: they are read in chunks from the user's own array.

In the rows of `Prepared` a `StreamedColumn` replaces a padded array. Code that takes chunks or some of the rows
gets views and small copies. Code that takes all rows at once, such as a compiled program of the whole data, gets a padded
copy, which is made at that time: flattened as a JAX pytree, the column is that copy.

The array usually belongs to the user, who may write into it later. A hash of its bytes is taken at the fit and compared
when a copy is made: scores and bootstraps after the fit use the data that were fitted, or raise DataError.
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
    """An array (n, ...) presented as a padded array of N = ``n_padded`` rows (N, ...), whose further rows repeat its first row;
    no copy is made.

    Attributes:
        values: the user's array (n, ...), n >= 1; it must not be written to.
        shape: the padded shape (N, ...).

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
        """The dtype of the values."""
        return self.values.dtype

    @property
    def ndim(self) -> int:
        """The number of axes of the values."""
        return self.values.ndim

    @property
    def copied(self) -> bool:
        """True if the padded copy was made and is kept."""
        return self._padded is not None

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, at: slice | np.ndarray) -> np.ndarray:
        """Return the rows of the padded array at a slice without a step (a view if none of them is padding), or at positions
        (m,).
        """
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
        """Return the padded copy, which is made once, in another dtype if one is given.

        Raises:
            DataError: the values were changed after this column was made and before the copy.
        """
        if self._padded is None:
            self.check()
            self._padded = self[:]
        return self._padded if dtype is None else self._padded.astype(dtype, copy=False)

    def check(self) -> None:
        """Check that the values are unchanged since this column was made.

        Raises:
            DataError: they were changed in place.
        """
        if _hash(self.values) != self._hash:
            raise DataError(
                "the data were changed in place after the fit. Data of more than 256 MB are not copied, so that scores, robust "
                "covariances, bootstraps and predictions of the fitted rows need them unchanged: restore them or fit again, and "
                "pass a copy to fit if you write into them later"
            )

    def tree_flatten(self) -> tuple[tuple[np.ndarray], None]:
        """Return the padded copy as the only leaf of the pytree, and no static data."""
        return (np.asarray(self),), None

    @classmethod
    def tree_unflatten(cls, _: None, children: tuple[Any]) -> Self:
        """Return the leaf itself, an array or a tracer, in place of the column."""
        return children[0]

    def __getstate__(self) -> dict[str, Any]:
        """Return the state for pickling, with the values once: taken from the padded copy if there is one."""
        values = self.values if self._padded is None else self._padded[: len(self.values)]
        return {**self.__dict__, "values": values, "_padded": None}


def _hash(values: Shaped[Host, "n ..."]) -> int:
    """Return the CRC-32 checksum of the values in the order of rows, computed in chunks so that no copy of all is made."""
    found = 0
    step = max(1, limits().read_rows // max(1, int(np.prod(values.shape[1:]))))
    for start in range(0, values.shape[0], step):
        found = zlib.crc32(np.ascontiguousarray(values[start : start + step]).data, found)
    return found
