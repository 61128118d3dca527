"""Codes of the levels whose effects are estimated (``mle.Real(by=...)``), in the partitions of a stream.

The survey collects the labels of all rows once.  A partition is then coded by itself, so that neither the rows nor the labels of
a partition have to be in any order.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from mlejax.data.effects import EffectKey
from mlejax.data.errors import DataError
from mlejax.data.further_columns import joined
from mlejax.data.read.table import Table
from mlejax.data.units import group_codes
from mlejax.shapes import Bool, Float, Host, Int, Reduced

if TYPE_CHECKING:
    import pandas as pd

Sizes = tuple[np.ndarray, Float[Host, "levels 3"]]


@dataclass(frozen=True, eq=False)
class LevelCodes:
    """The code of every level of a column.

    Attributes:
        key: the key, in the table, of the column of codes, which is that of the effects.
        labels: all labels of the stream, in order of first appearance (m,).
        place: for each of them its code 0, 1, ..., G - 1, or -1 if its rows are left out (m,).
    """

    key: EffectKey
    labels: np.ndarray
    place: Int[Host, " m"]

    @property
    def kept(self) -> np.ndarray:
        """The labels that have a code, in the order of the codes (G,)."""
        return self.labels[self.place >= 0]

    def without(self, gone: Bool[Host, " levels"]) -> LevelCodes:
        """Return the codes without the levels that a mask over the codes (G,) names, whose rows are left out."""
        code = np.where(gone, -1, np.cumsum(~gone) - 1)
        return replace(self, place=np.where(self.place >= 0, code[self.place], -1))

    def beside(self, table: Table) -> Table:
        """Return the table with the code of each row's level (-1: left out) in a further column, as float64.

        Raises:
            DataError: a missing label, or one that was not there when the labels were collected.
        """
        return joined(table, table.keys, {self.key: self.of(table.column(self.key.by)).astype(np.float64)})

    def of(self, column: Any) -> Int[Host, " n"]:
        """Return the code of each row (n,), -1 for rows that are left out; errors as in `beside`."""
        values = column.to_numpy() if hasattr(column, "to_numpy") and isinstance(column.dtype, np.dtype) else column
        if isinstance(values, np.ndarray) and values.dtype.kind in "iu" and self.labels.dtype.kind in "iu":
            at = self._index.get_indexer(values)
        else:
            codes, found = _coded(column, self.key.by)
            at = self._index.get_indexer(found.astype(object) if found.dtype.kind in "US" else found)[codes]
        unknown = at < 0
        if unknown.any():
            raise DataError(
                f"column {self.key.by!r} has a label that it did not have when its labels were collected: "
                f"{np.asarray(column)[int(np.argmax(unknown))]!r}. A fit reads the data several times, and every pass has to "
                "give the same rows: write the data to Parquet once, and fit that"
            )
        return self.place[at]

    @cached_property
    def _index(self) -> pd.Index:
        import pandas as pd

        return pd.Index(self.labels)

    def __reduce__(self) -> Reduced:
        return LevelCodes, (self.key, self.labels, self.place)


def _coded(column: Any, name: str) -> tuple[Int[Host, " n"], np.ndarray]:
    """Return the codes and labels of `group_codes`; text of Arrow tables is hashed by pandas, eight times as fast."""
    if hasattr(column, "dtype") and not isinstance(column.dtype, np.dtype):
        import pandas as pd

        codes, found = pd.factorize(column)
        if not (codes < 0).any():
            return codes, group_codes(found, name)[1]
    return group_codes(column, name)


def level_sizes(column: Any, name: str, weights: Float[Host, " n"] | None) -> Sizes:
    """Return the labels of a column in order of first appearance (m,), and for each its number of rows, its number of rows of
    positive weight and its sum of weights (m, 3).

    ``weights``: of the rows, None for ones; ``name``: that of the column, for messages.  DataError or DataTypeError as in
    `group_codes`.
    """
    codes, labels = _coded(column, name)
    n = len(labels)
    if weights is None:
        return labels, np.repeat(np.bincount(codes, minlength=n)[:, None], 3, axis=1).astype(np.float64)
    sizes = [np.bincount(codes, each, minlength=n) for each in (np.ones(len(codes)), weights > 0, weights)]
    return labels, np.stack(sizes, axis=1)


def together(a: Sizes | None, b: Sizes | None) -> Sizes | None:
    """Return the labels and sizes (`level_sizes`) of the rows of ``a`` and of ``b`` together; None stands for no rows."""
    if a is None or b is None:
        return b if a is None else a
    codes, labels = group_codes(np.concatenate([a[0], b[0]]), "levels")
    n = len(labels)
    return labels, np.stack([np.bincount(codes, each, minlength=n) for each in np.concatenate([a[1], b[1]]).T], axis=1)
