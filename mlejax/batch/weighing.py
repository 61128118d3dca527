"""Weights of many data sets in one table: read, checked by data set, and rows of weight 0 left out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from mlejax.data import DataError, Source
from mlejax.data.leaves import NUMERIC, Leaf, read
from mlejax.data.refusals import refusal
from mlejax.data.tolerant import Gap


@dataclass(frozen=True, eq=False)
class Weighing:
    """Weights of all rows of the table.

    Attributes:
        kind: "frequency", "sampling" or "importance".
        given: a column's name or the numbers, as the user gave them.
        values: (R,) one for each row of the table; NaN where missing.
        leaf: for messages.
    """

    kind: str
    given: Any
    values: np.ndarray
    leaf: Leaf

    def gaps(self) -> list[Gap]:
        """Missing and infinite weights."""
        found = [
            Gap(self.leaf, bad, bad, infinite)
            for bad, infinite in ((np.isinf(self.values), True), (np.isnan(self.values), False))
        ]
        return [gap for gap in found if gap.rows.any()]

    def of(self, rows: np.ndarray) -> Any:
        """The weights of some rows, as a fit of them alone takes them."""
        return self.given if isinstance(self.given, str) else self.values[rows]


def read_weights(source: Source, given: Any, kind: str | None, n: int) -> Weighing | None:
    """Weights of n rows: a column's name, (n,) numbers, or (n_datasets, n_rows) numbers.

    Raises:
        DataError, DataTypeError: not numbers, or not one for each row.
    """
    if kind is None:
        return None
    name = f"weights column {given!r}" if isinstance(given, str) else "weights"
    raw = source.column(given) if isinstance(given, str) else given
    if getattr(raw, "ndim", 1) == 2:
        raw = np.asarray(raw).reshape(-1)
    leaf = Leaf(raw, name)
    if leaf.probe.kind not in NUMERIC:
        raise refusal(leaf)
    values, mask = read(leaf)
    if values.shape != (n,):
        raise DataError(f"{name}: expected one number for each of {n} rows, got shape {values.shape}")
    values = values.astype(np.float64)
    return Weighing(kind, given, values if mask is None else np.where(mask, np.nan, values), leaf)


def weighed(
    weighing: Weighing, order: np.ndarray, begins: np.ndarray, lengths: np.ndarray, bad: dict[int, str]
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Rows of weight 0 left out, and data sets with weights that cannot be used set aside in ``bad``.

    Returns:
        order (R',), begins, lengths (L,), and the number of observations by data set (L,).
    """
    owner = np.repeat(np.arange(len(lengths)), lengths)
    w = weighing.values[order]
    wrong = [(w < 0, "negative")]
    if weighing.kind == "frequency":
        wrong.append((np.isfinite(w) & (w != np.rint(w)), "no whole numbers, as frequencies are"))
    for flags, what in wrong:
        for i in np.unique(owner[flags]).tolist():
            count = int(flags[owner == i].sum())
            bad.setdefault(i, f"{weighing.leaf.where}: {count} of {lengths[i]} weights are {what}")
    kept = w > 0
    left = np.bincount(owner[kept], minlength=len(lengths)).astype(np.int64)
    for i in np.flatnonzero(left == 0).tolist():
        bad.setdefault(i, f"{weighing.leaf.where}: all {lengths[i]} are zero, so that no row is left")
    size = (
        np.bincount(owner[kept], w[kept], minlength=len(lengths))
        if weighing.kind == "frequency"
        else left.astype(float)
    )
    return order[kept], np.concatenate([[0], np.cumsum(left)[:-1]]).astype(np.int64), left, size
