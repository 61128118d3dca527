"""From the leaves that are used to validated arrays of one length.

In order: types (already checked), lengths, row labels of pandas objects, infinities, missing values. All columns with
missing values are named in one message.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from .errors import DataError, label, listing, rows_phrase
from .layout import Layout, assemble, build
from .leaves import NUMERIC, Leaf, is_extension_array, is_missing, is_pandas, narrow_float, read
from .refusals import refusal


@dataclass(frozen=True, eq=False)
class Rows:
    """Checked data: arrays of n rows, ready for padding, grouping and devices.

    Attributes:
        leaves: arrays (n, ...), float64, int64 or bool. They may be the user's own memory: never write to them.
        shared: arrays that are not by row.
        layout: how they make up what the function sees; hashable.
        n: the number of rows (after dropping).
        names: of the leaves, for messages and fingerprints.
        n_dropped: rows left out under missing="drop".
        kept: (n,) the numbers of the rows kept, or None if none was dropped.
        float32: names of the columns that came as floats of less than 64 bits.
        index: the labels of the rows (a pandas index), or None.
    """

    leaves: tuple[np.ndarray, ...]
    shared: tuple[np.ndarray, ...]
    layout: Layout
    n: int
    names: tuple[str, ...] = ()
    n_dropped: int = 0
    kept: np.ndarray | None = field(default=None, repr=False)
    float32: tuple[str, ...] = ()
    index: Any = field(default=None, repr=False)

    def tree(self) -> Any:
        """The data as the user's function sees them."""
        return assemble(self.leaves, self.shared, self.layout)

    def __getitem__(self, key: Hashable) -> Any:
        for name, treedef, slots in self.layout.entries:
            if name == key:
                return build(treedef, slots, self.leaves, self.shared)
        raise KeyError(key)

    def select(self, values: Any) -> Any:
        """The entries, of one per row of the user's table, that belong to the rows kept; all if none was dropped.

        Args:
            values: raw weights, groups or a column of `Source.column`: NumPy, pandas or a list.
        """
        if self.kept is None:
            return values
        if is_pandas(values, "Series", "DataFrame"):
            return values.iloc[self.kept]
        if is_pandas(values, "Index") or is_extension_array(values):
            return values[self.kept]
        if isinstance(values, (list, tuple)):
            return [values[i] for i in self.kept]
        return np.asarray(values)[self.kept]

    def take(self, rows: np.ndarray) -> Rows:
        """The rows with these numbers, repetition allowed (a resample, the data of one group)."""
        leaves = tuple(leaf[rows] for leaf in self.leaves)
        index = None if self.index is None else self.index[rows]
        kept = rows if self.kept is None else self.kept[rows]
        return replace(self, leaves=leaves, n=len(rows), index=index, kept=kept)


def common_length(leaves: Sequence[Leaf]) -> int:
    """The number of rows of all these leaves. Raises DataError if they differ, or if there are none."""
    lengths: dict[int, list[Leaf]] = {}
    for leaf in leaves:
        shape = leaf.probe.shape
        if not shape:
            raise refusal(leaf)
        lengths.setdefault(shape[0], []).append(leaf)
    if len(lengths) == 1:
        n = next(iter(lengths))
        if n == 0:
            first = leaves[0]
            raise DataError(
                f"the data have zero rows ({first.where} has shape {first.probe.shape}); expected at least one"
            )
        return n
    if not lengths:
        raise DataError(
            "the number of rows is unknown: no column by row is used. A log-likelihood reads at least one array with a "
            "leading row axis; mle.Shared and mle.Static have none"
        )
    each = ", ".join(f"{leaf.where} has {leaf.probe.shape[0]}" for leaf in leaves[:40])
    raise DataError(
        f"columns of different length: {each}. Expected one row per observation in each; "
        "wrap what is not by row as mle.Shared(...)"
    )


def convert_leaves(
    layout: Layout, rows: Sequence[Leaf], shared: Sequence[Leaf], others: Sequence[Leaf], missing: str
) -> Rows:
    """Checked arrays of the leaves in use; see `Source.convert`."""
    used = [*rows, *others]
    n = common_length(used)
    index = _common_index(used)
    arrays: list[np.ndarray] = []
    gaps: list[tuple[Leaf, np.ndarray]] = []
    with np.errstate(all="ignore"):  # sums of huge values overflow
        for leaf in rows:
            values, mask = read(leaf)
            arrays.append(values)
            gap = _gaps(leaf, values, mask, index)
            if gap is not None:
                gaps.append((leaf, gap))
        for leaf in others:
            gap = _gaps_of_any_type(leaf, index)
            if gap is not None:
                gaps.append((leaf, gap))
    out = Rows(
        leaves=tuple(arrays),
        shared=tuple([_read_shared(leaf) for leaf in shared]),
        layout=layout,
        n=n,
        names=tuple([_name(leaf) for leaf in rows]),
        float32=tuple([_name(leaf) for leaf in rows if narrow_float(leaf)]),
        index=index,
    )
    if not gaps:
        return out
    if missing == "raise":
        raise _missing_values(gaps, n, index)
    return _drop(out, gaps, index)


def _name(leaf: Leaf) -> str:
    return leaf.where[8:-1] if leaf.where.startswith("column '") else leaf.where


def _common_index(leaves: Sequence[Leaf]) -> Any:
    """The pandas index that the columns share; None without pandas. Raises DataError where the labels differ."""
    first: Leaf | None = None
    for leaf in leaves:
        index = leaf.index
        if index is None:
            continue
        if first is None:
            first = leaf
        elif index is not first.index and not index.equals(first.index):
            a, b = first.index, index
            row = next((i for i in range(len(a)) if repr(a[i]) != repr(b[i])), 0)
            raise DataError(
                f"the row labels (index) of {first.where} and {leaf.where} differ, first in row {row}: "
                f"{label(a[row])} and {label(b[row])}. Rows are matched by position, never by label: "
                "align them (pd.concat([a, b], axis=1)), or pass .to_numpy() if the positions are right"
            )
    return None if first is None else first.index


def _gaps(leaf: Leaf, values: np.ndarray, mask: np.ndarray | None, index: Any) -> np.ndarray | None:
    """(n, ...) mask of missing entries, or None. Raises DataError for infinities."""
    if values.dtype != np.float64 or is_finite(values):
        return mask
    bad = ~np.isfinite(values)
    nan = np.isnan(values)
    infinite = bad & ~nan
    if mask is not None:
        infinite &= ~mask
    if infinite.any():
        first = values[infinite][0]
        raise DataError(
            f"{leaf.where}: {int(infinite.sum())} infinite values, at {_at(infinite, leaf, index)}; first: {first}. "
            "Expected finite numbers: correct them, or make them missing (NaN) and use missing='drop'"
        )
    if mask is not None:
        nan |= mask
    return nan if nan.any() else None


def is_finite(values: np.ndarray) -> bool:
    """Whether a float array is finite throughout: one pass, by its sum; only if that is not finite, by element."""
    with np.errstate(all="ignore"):  # the sum may overflow, or be of both infinities
        total = float(np.add.reduce(values, axis=None))
    return math.isfinite(total) or bool(np.isfinite(values).all())


def _at(mask: np.ndarray, leaf: Leaf, index: Any) -> str:
    """The first rows of a mask; for a matrix also its columns."""
    by_row = mask if mask.ndim == 1 else mask.reshape(len(mask), -1).any(axis=1)
    text = rows_phrase(np.flatnonzero(by_row), index)
    if mask.ndim == 2:
        js = np.flatnonzero(mask.any(axis=0))
        labels = list(leaf.raw.columns[js]) if is_pandas(leaf.raw, "DataFrame") else js.tolist()
        text += f" ({'columns' if len(js) > 1 else 'column'} {listing(labels, 5)} of the matrix)"
    return text


def _gaps_of_any_type(leaf: Leaf, index: Any) -> np.ndarray | None:
    """The missing entries of a column of any type (text, categories, dates)."""
    kind = leaf.probe.kind
    if kind in NUMERIC:
        values, mask = read(leaf)
        return _gaps(leaf, values, mask, index)
    raw = leaf.array if leaf.array is not None else leaf.raw
    if is_pandas(raw, "Series", "DataFrame", "Index") or is_extension_array(raw):
        gap = np.asarray(raw.isna(), bool)
    elif isinstance(raw, np.ma.MaskedArray):
        gap = np.ma.getmaskarray(raw)
    elif isinstance(raw, np.ndarray) and raw.dtype.kind in "mM":
        gap = np.isnat(raw)
    elif isinstance(raw, np.ndarray) and raw.dtype == object:
        gap = np.array([is_missing(v) for v in raw.flat], bool).reshape(raw.shape)
    elif isinstance(raw, np.ndarray) and raw.dtype.kind in "USTc":
        gap = np.isnan(raw) if raw.dtype.kind == "c" else np.zeros(raw.shape, bool)
    else:
        raise refusal(leaf)
    return gap if gap.any() else None


def _read_shared(leaf: Leaf) -> np.ndarray:
    values, mask = read(leaf)
    gap = mask if mask is not None else np.isnan(values) if values.dtype == np.float64 else None
    if gap is not None and gap.any():
        raise DataError(
            f"{leaf.where}: {int(gap.sum())} of {gap.size} values are missing (NaN); expected numbers "
            "(infinities are allowed in mle.Shared, missing values are not)"
        )
    return values


def _missing_values(gaps: list[tuple[Leaf, np.ndarray]], n: int, index: Any) -> DataError:
    parts = []
    for leaf, gap in gaps[:10]:
        parts.append(f"{leaf.where}: {int(gap.sum())} missing values (NaN or NA), at {_at(gap, leaf, index)}")
    if len(gaps) > 10:
        parts.append(f"and {len(gaps) - 10} further columns")
    rows = _any_gap(gaps, n)
    return DataError(
        f"{'; '.join(parts)}. {int(rows.sum())} of {n} rows are affected. "
        "Impute them, or leave the rows out with missing='drop', which counts them"
    )


def _any_gap(gaps: list[tuple[Leaf, np.ndarray]], n: int) -> np.ndarray:
    rows = np.zeros(n, bool)
    for _, gap in gaps:
        rows |= gap if gap.ndim == 1 else gap.reshape(n, -1).any(axis=1)
    return rows


def _drop(rows: Rows, gaps: list[tuple[Leaf, np.ndarray]], index: Any) -> Rows:
    gone = _any_gap(gaps, rows.n)
    kept = np.flatnonzero(~gone)
    if kept.size == 0:
        each = ", ".join(f"{leaf.where} ({int(gap.sum())})" for leaf, gap in gaps[:10])
        raise DataError(
            f"missing='drop' leaves no row: all {rows.n} have a missing value in a column that is used: {each}. "
            "Leave out the worst column, or impute"
        )
    return replace(rows.take(kept), n_dropped=int(gone.sum()))
