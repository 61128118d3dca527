"""A fingerprint of the data of a fit, by which two results can tell whether they were fitted to the same data.

It is the number of rows and, by column, the sum and the sum of squares. Sums are taken over contiguous chunks of
fixed size, so that they do not depend on the memory layout; they are compared with a tolerance for rounding.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from mlejax.data.read.checked import Rows
from mlejax.shapes import Host, Int

_CHUNK = 1 << 16
_RTOL = 1e-10


@dataclass(frozen=True, eq=False)
class Fingerprint:
    """The number of rows, and the name, sum and sum of squares of every column used.

    Two are equal if they have the same columns in the same order and `difference` is None. Plain numbers throughout, so that
    it can be saved as JSON.

    Attributes:
        rows: the number of rows.
        columns: name -> (sum, sum of squares).
        weights: kind, sum and sum of squares of the weights, or None.
    """

    rows: int
    columns: Mapping[str, tuple[float, float]]
    weights: tuple[str, float, float] | None = None

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Fingerprint):
            return NotImplemented
        return tuple(self.columns) == tuple(other.columns) and self.difference(other) is None

    def __hash__(self) -> int:
        return hash((self.rows, tuple(self.columns)))

    def difference(self, other: Fingerprint) -> str | None:
        """Return in words the first difference between two data: number of rows, columns, weights; None if there is none.

        Columns that only one of them uses are not compared. Sums may differ by rounding: by 1e-10 of sqrt(n * sum of squares),
        sums of squares by 1e-10 of themselves.

        >>> a, b = Fingerprint(2, {"x": (3.0, 5.0)}), Fingerprint(2, {"x": (4.0, 10.0), "z": (0.0, 2.0)})
        >>> a.difference(b)
        "column 'x' has different values"
        """
        if self.rows != other.rows:
            return f"{self.rows} rows and {other.rows} rows"
        for name, (total, square) in self.columns.items():
            if name not in other.columns:
                continue
            total2, square2 = other.columns[name]
            # A sum is known to rounding relative to its terms, not to itself: that of a centred column is about 0.
            scale = math.sqrt(self.rows * max(square, square2))
            if not (_close(total, total2, scale) and _close(square, square2, max(square, square2))):
                return f"column {name!r} has different values"
        return self._other_weights(other.weights)

    def _other_weights(self, other: tuple[str, float, float] | None) -> str | None:
        if self.weights is None or other is None:
            return None if self.weights is other else "only one of them is weighted"
        (kind, total, square), (kind2, total2, square2) = self.weights, other
        if kind != kind2:
            return f"{kind} weights and {kind2} weights"
        same = _close(total, total2, max(total, total2)) and _close(square, square2, max(square, square2))
        return None if same else "the weights differ"


def _close(a: float, b: float, scale: float) -> bool:
    """True if two numbers are equal, or differ by at most 1e-10 of a ``scale`` that is finite."""
    if a == b:
        return True
    return math.isfinite(scale) and abs(a - b) <= _RTOL * scale


def fingerprint(rows: Rows, weights: tuple[str, float, float] | None = None, **extra: np.ndarray | KeptRows) -> Fingerprint:
    """Return the fingerprint of checked rows.

    Args:
        rows: the columns used.
        weights: kind, sum and sum of squares of the weights (`Weights.moments`), or None without weights.
        extra: further (n, ...) numeric arrays by name, such as the columns of formulas.

    >>> from mlejax.data import ingest
    >>> fingerprint(ingest({"x": [1, 2]}).convert(["x"]))
    Fingerprint(rows=2, columns={'x': (3.0, 5.0)}, weights=None)
    """
    named = [*zip(rows.names, rows.leaves, strict=True), *extra.items()]
    return Fingerprint(rows.n, {name: moments(values) for name, values in named}, weights)


def moments(values: np.ndarray | KeptRows) -> tuple[float, float]:
    """Return the sum and the sum of squares of all entries of an array, added over contiguous chunks of fixed size."""
    total = square = 0.0
    per_row = max(1, int(np.prod(values.shape[1:])))
    step = max(1, _CHUNK // per_row)
    with np.errstate(over="ignore"):
        for start in range(0, values.shape[0], step):
            chunk = np.ascontiguousarray(values[start : start + step], dtype=np.float64).reshape(-1)
            total += float(np.add.reduce(chunk))
            square += float(np.einsum("i,i->", chunk, chunk))  # no BLAS: starting its threads takes longer
    return total, square


class KeptRows:
    """Selected rows of a column, copied only when they are read: a slice of the selection does not copy the column.

    Attributes:
        values: the whole column (n, ...).
        kept: numbers of the selected rows (m,).
        shape: that of the rows (m, ...).
    """

    def __init__(self, values: np.ndarray, kept: Int[Host, " m"]) -> None:
        self.values, self.kept, self.shape = values, kept, (len(kept), *values.shape[1:])

    def __getitem__(self, at: Any) -> np.ndarray:
        return np.asarray(self.values[self.kept[at]])

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return np.asarray(self[:], dtype)


def numbers_of(values: Any, rows: Rows) -> np.ndarray | KeptRows:
    """Return the kept rows of a column as numbers, for the fingerprint; anything but numbers and booleans becomes its rank among
    the levels sorted as strings.

    Args:
        values: the column in all rows of the user's table, as `Table.column` returns it.
        rows: the checked rows, which know the rows kept.
    """
    import pandas as pd

    if isinstance(getattr(values, "dtype", None), pd.StringDtype):  # pandas finds levels of its strings without Python's
        codes, levels = pd.factorize(rows.select(values))
        shape = codes.shape
    else:
        whole = np.asarray(values)
        if whole.dtype.kind in "fiub":
            return whole if rows.kept is None else KeptRows(whole, rows.kept)
        array = np.asarray(rows.select(values))
        codes, levels = pd.factorize(array.reshape(-1))
        shape = array.shape
    rank = np.argsort(np.argsort([str(level) for level in levels], kind="stable"))
    return rank[codes].astype(np.float64).reshape(shape)
