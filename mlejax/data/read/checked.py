"""Checks of the columns in use: arrays of one length, and their missing and infinite entries.

Types are checked first, then lengths, row labels of pandas objects, and infinite and missing values. The caller decides what
happens to rows with missing or infinite entries: a fit raises an error or drops the rows, a batch leaves the data set out.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Hashable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from mlejax.data.errors import SHOWN_ROWS, DataError, label, listing, rows_phrase
from mlejax.data.packing.layout import Layout, assemble, build
from mlejax.data.read.columns import NUMERIC, Column, is_extension_array, is_pandas, missing_entries
from mlejax.data.read.refusals import refusal
from mlejax.data.read.values import is_narrow_float, read
from mlejax.misuse import linked
from mlejax.shapes import Bool, Data, Host, Int, Shaped


@dataclass(frozen=True, eq=False)
class Rows:
    """Checked data: arrays of n rows, ready for padding, grouping and devices.

    Attributes:
        leaves: the columns, arrays (n, ...) of float64, int64 or bool. They may be the user's own arrays: never write to them.
        shared: arrays that do not vary by row.
        layout: how they make up the data that the user's function receives; hashable.
        n: the number of rows (after dropping).
        names: names of the columns, for messages and fingerprints.
        n_dropped: number of rows dropped under missing="drop".
        kept: positions in the user's table of these rows (n,), or None if they are all rows in order.
        float32: names of the columns that were given as floats of less than 64 bits.
        index: the labels of the rows (a pandas index), or None if no column is a pandas object.
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

    def tree(self) -> Data:
        """Return the data as the user's function receives them: a dict of columns, or the user's own pytree."""
        return assemble(self.leaves, self.shared, self.layout)

    def __getitem__(self, key: Hashable) -> Data:
        for entry in self.layout.entries:
            if entry.key == key:
                return build(entry, self.leaves, self.shared)
        raise KeyError(key)

    def select(self, values: Any) -> Any:
        """Return, of values with one entry per row of the user's table, those of the rows ``kept``; all if it is None.

        Args:
            values: weights, groups or a column of `Table.column`. Pandas objects keep their type, a list or tuple gives a
                list, anything else a NumPy array.
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

    def numbered(self, at: Int[Host, " m"]) -> Int[Host, " m"]:
        """Return the numbers in the user's table of the rows at these positions (m,)."""
        return np.asarray(at) if self.kept is None else np.asarray(self.kept[at])

    def phrase(self, at: Int[Host, " m"]) -> str:
        """Return a phrase with the numbers, in the user's table, of the rows at these positions (m,), as `rows_phrase` writes it;
        with their index labels if the table has an index and a label differs from its row's number.

        >>> Rows((), (), None, 2, kept=np.array([0, 3])).phrase(np.array([1]))
        'row 3'
        """
        numbers = self.numbered(at)
        labels = None if self.index is None else {int(numbers[j]): self.index[i] for j, i in enumerate(at[:SHOWN_ROWS])}
        return rows_phrase(numbers, labels)

    def take(self, rows: Int[Host, " m"]) -> Rows:
        """Return the rows at these positions (m,), in this order; a position may be repeated (a resample)."""
        leaves = tuple(leaf[rows] for leaf in self.leaves)
        index = None if self.index is None else self.index[rows]
        kept = rows if self.kept is None else self.kept[rows]
        return replace(self, leaves=leaves, n=len(rows), index=index, kept=kept)


@dataclass(frozen=True, eq=False)
class Gap:
    """The missing, or the infinite, entries of one column.

    Attributes:
        column: the column.
        entries: True for these entries, the shape of the column (n, ...).
        infinite: True if the entries are infinite, False if they are missing.
    """

    column: Column
    entries: np.ndarray
    infinite: bool = False

    @property
    def rows(self) -> Bool[Host, " n"]:
        """Flags (n,), True for the rows with at least one of these entries."""
        return np.asarray(self.entries.reshape(len(self.entries), -1).any(axis=1))

    def phrase(self, index: Any, rows: Int[Host, " m"] | None = None) -> str:
        """Return a phrase for messages: the column, the number and kind of the entries, and the first rows.

        Args:
            index: labels of the rows, or None.
            rows: positions (m,) of the rows of one data set; the phrase counts these alone and numbers them from 0. None for
                all rows.
        """
        entries = self.entries if rows is None else self.entries[rows]
        labels = index if rows is None or index is None else index[rows]
        what = "infinite values" if self.infinite else "missing values (NaN or NA)"
        return f"{self.column.where}: {int(entries.sum())} {what}, at {_at(entries, self.column, labels)}"


def common_length(columns: Sequence[Column]) -> int:
    """Return the number of rows of all these columns.

    Raises:
        DataError: the columns differ in length or have zero rows, or there are no columns.
        DataTypeError: a column is a single value without a row axis.
    """
    lengths = set()
    for column in columns:
        if not column.probe.shape:
            raise refusal(column)
        lengths.add(column.probe.shape[0])
    if lengths == {0}:
        where, shape = columns[0].where, columns[0].probe.shape
        raise DataError(
            f"the data have zero rows ({where} has shape {shape}); expected at least one: check how they were read and selected"
        )
    if len(lengths) == 1:
        return lengths.pop()
    if not lengths:
        raise DataError(
            "the number of rows is unknown, because no row-wise column is used: expected a log-likelihood that reads at "
            "least one array with a leading row axis (mle.Shared and mle.Static have none)"
        )
    each = ", ".join(f"{column.where} has {column.probe.shape[0]}" for column in columns[:40])
    raise DataError(
        f"columns of different length: {each}. Expected one row per observation in each "
        "(repeat a value of a unit in each of its rows, by a merge); wrap arrays that do not vary by row as mle.Shared(...)"
    )


def read_columns(
    layout: Layout, rows: Sequence[Column], shared: Sequence[Column], others: Sequence[Column]
) -> tuple[Rows, list[Gap]]:
    """Return the columns in use as checked arrays, and their missing and infinite entries; errors as in `Table.read`.

    Args:
        layout: how the row-wise and shared arrays make up the data of the user's function.
        rows, shared: the columns that the layout refers to, converted to float64, int64 or bool.
        others: further columns in use, of any type; only their lengths, row labels and gaps are checked.
    """
    used = [*rows, *others]
    n = common_length(used)
    index = _common_index(used)
    arrays: list[np.ndarray] = []
    gaps: list[Gap] = []
    for column in rows:
        values, mask = read(column)
        arrays.append(values)
        gaps += _gaps(column, values, mask)
    for column in others:
        gaps += _gaps_of_any_type(column)
    found = Rows(
        leaves=tuple(arrays),
        shared=tuple(_read_shared(column) for column in shared),
        layout=layout,
        n=n,
        names=tuple(column.name for column in rows),
        float32=tuple(column.name for column in rows if is_narrow_float(column)),
        index=index,
    )
    return found, gaps


def _common_index(columns: Sequence[Column]) -> Any:
    """Return the pandas index that the columns share; None if none of them has one. DataError if two have different labels or
    another order of labels.
    """
    first: Column | None = None
    for column in columns:
        index = column.index
        if index is None:
            continue
        if first is None:
            first = column
        elif index is not first.index and not index.equals(first.index):
            a, b = first.index, index
            row = next((i for i in range(len(a)) if repr(a[i]) != repr(b[i])), 0)
            raise DataError(
                f"the row labels (index) of {first.where} and {column.where} differ, first in row {row}: "
                f"{label(a[row])} and {label(b[row])}. Rows are matched by position, never by label: "
                "align them (pd.concat([a, b], axis=1)), or pass .to_numpy() if the positions are right"
            )
    return None if first is None else first.index


def _gaps(column: Column, values: Shaped[Host, "n ..."], mask: Bool[Host, "n ..."] | None) -> list[Gap]:
    """Return the gaps of a numeric column: one for its infinite entries, then one for its missing entries (NaN, or True in
    ``mask``); none of a kind that does not occur. ``values`` and ``mask`` are those that `read` returns for it.
    """
    found = []
    if values.dtype == np.float64 and not is_finite(values):
        infinite, nan = np.isinf(values), np.isnan(values)
        if mask is not None:
            infinite, nan = infinite & ~mask, nan | mask
        mask = nan
        if infinite.any():
            found.append(Gap(column, infinite, infinite=True))
    if mask is not None and mask.any():
        found.append(Gap(column, mask))
    return found


def is_finite(values: Shaped[Host, ...]) -> bool:
    """True if all entries of a float array are finite, or if it is empty; entries are tested only if their sum is not finite."""
    with np.errstate(all="ignore"):  # the sum may overflow, or be of both infinities
        total = float(np.add.reduce(values, axis=None))
    return math.isfinite(total) or bool(np.isfinite(values).all())


def _at(mask: Bool[Host, "n ..."], column: Column, index: Any) -> str:
    """Return a phrase with the first five rows where a mask is True, with their labels in ``index`` (or None); for a matrix also
    with the first five such columns, named by those of a DataFrame in ``column``.
    """
    text = rows_phrase(np.flatnonzero(mask.reshape(len(mask), -1).any(axis=1)), index)
    if mask.ndim == 2:
        js = np.flatnonzero(mask.any(axis=0))
        labels = list(column.raw.columns[js]) if is_pandas(column.raw, "DataFrame") else js.tolist()
        text += f" ({'columns' if len(js) > 1 else 'column'} {listing(labels, 5)} of the matrix)"
    return text


def _gaps_of_any_type(column: Column) -> list[Gap]:
    """Return the gaps of a column of any type: missing entries, of numbers also infinite ones. DataError or DataTypeError for
    complex numbers and for a type whose missing entries are not known.
    """
    if column.probe.kind in NUMERIC:
        return _gaps(column, *read(column))
    gap = missing_entries(column.array if column.array is not None else column.raw)
    if gap is None or column.probe.kind == "complex":
        raise refusal(column)
    return [Gap(column, gap)] if gap.any() else []


def _read_shared(column: Column) -> np.ndarray:
    """Return the values of an array in `Shared`, which may be infinite; DataError if some are missing."""
    values, mask = read(column)
    gap = mask if mask is not None else np.isnan(values) if values.dtype == np.float64 else None
    if gap is not None and gap.any():
        raise DataError(
            f"{column.where}: {int(gap.sum())} of {gap.size} values are missing (NaN); expected numbers, which may be infinite: "
            "replace the missing ones, or give them and a mask as columns"
        )
    return values


def rows_of(gaps: Sequence[Gap], n: int) -> Bool[Host, " n"]:
    """Return flags (n,), True for the rows with any of the missing or infinite entries of these ``gaps``."""
    rows = np.zeros(n, bool)
    for gap in gaps:
        rows |= gap.rows
    return rows


DROP = "leave the rows out with missing='drop', which counts them"


CHAIN = "let the function return 0 for such a row, since a chain needs a row for every time"


def refuse_gaps(rows: Rows, gaps: Sequence[Gap], advice: str = DROP, closed: Collection[Any] = ()) -> None:
    """Raise DataError if there are gaps. The message is about the first column with infinite values; if there is none, about
    the missing values of all columns.

    Args:
        rows, gaps: as returned by `read_columns`.
        advice: the end of the message: how rows with missing values can be left out.
        closed: keys of columns that cannot be declared optional= or infinite= (of formulas, groups, weights).
    """
    fitting = advice in (DROP, CHAIN)
    declared = lambda gap, option, where: _declared(gap, option, where) if fitting and gap.column.key not in closed else ""
    infinite = next((gap for gap in gaps if gap.infinite), None)
    if infinite is not None:
        values = np.asarray(read(infinite.column)[0])
        raise linked(
            DataError(
                f"{infinite.phrase(rows.index)}; first: {values[infinite.entries][0]}. "
                f"Expected finite numbers: correct them, or {'make them missing (NaN) and ' if advice is DROP else ''}{advice}"
                + declared(infinite, "infinite", "an infinite value means that there is no bound")
            ),
            "infinite-values",
        )
    if gaps:
        phrases = [gap.phrase(rows.index) for gap in gaps[:10]]
        if len(gaps) > 10:
            phrases.append(f"and {len(gaps) - 10} further columns")
        raise linked(
            DataError(
                f"{'; '.join(phrases)}. {int(rows_of(gaps, rows.n).sum())} of {rows.n} rows are affected. "
                f"Impute them, or {advice}"
                + declared(gaps[0], "optional", "a value is missing because it could not be observed")
            ),
            "missing-values",
        )


def _declared(gap: Gap, option: str, where: str) -> str:
    """Return the sentence "Where ``where``, declare @mle.model(..., ``option``=[column])"; an empty string if the column is
    not one of the table with a string as name (weights, an array of a pytree).
    """
    key = gap.column.key
    return f". Where {where}, declare @mle.model(..., {option}=[{key!r}])" if isinstance(key, str) else ""


def without_gaps(rows: Rows, gaps: Sequence[Gap]) -> Rows:
    """Return the rows without any of these gaps, with the number of the others as ``n_dropped``; the same object if there are
    no gaps. DataError if no row is left.
    """
    if not gaps:
        return rows
    gone = rows_of(gaps, rows.n)
    if gone.all():
        each = ", ".join(f"{gap.column.where} ({int(gap.entries.sum())})" for gap in gaps[:10])
        raise DataError(
            f"missing='drop' leaves no row: each of the {rows.n} has a missing value in a column that is used: {each}. "
            "Leave out the column with the most missing values, or impute them"
        )
    return replace(rows.take(np.flatnonzero(~gone)), n_dropped=int(gone.sum()))
