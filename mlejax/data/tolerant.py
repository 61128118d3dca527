"""Reading one table that holds many data sets: what cannot be used is noted by row, not refused for all.

A missing or infinite value costs the data set that holds it, and nothing else; so here it is a mask, and who reads decides.
What is wrong with the whole table (a column that is not numeric, columns of different length) is refused as ever.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from .convert import Rows, _at, _common_index, _gaps_of_any_type, _name, _read_shared, common_length, is_finite
from .errors import DataError, missing_column
from .held import shift
from .layout import Entry, Layout
from .leaves import Leaf, narrow_float, read
from .source import Source


@dataclass(frozen=True, eq=False)
class Gap:
    """The entries of one column that cannot be used.

    Attributes:
        leaf: the column.
        rows: (n,) rows with such an entry.
        entries: (n, ...) the entries themselves.
        infinite: they are infinite, not missing.
    """

    leaf: Leaf
    rows: np.ndarray
    entries: np.ndarray
    infinite: bool

    def phrase(self, positions: np.ndarray, index: Any) -> str:
        """What is wrong with the rows at these positions, in words; row numbers count from 0 within them."""
        entries = self.entries[positions]
        what = "infinite values" if self.infinite else "missing values (NaN or NA)"
        labels = None if index is None else index[positions]
        return f"{self.leaf.where}: {int(entries.sum())} {what}, at {_at(entries, self.leaf, labels)}"


def convert_with_gaps(
    source: Source, names: Iterable[Hashable], others: Iterable[Hashable] = ()
) -> tuple[Rows, list[Gap]]:
    """As `Source.convert`, but missing and infinite values come back as masks; the arrays hold NaN or inf there.

    >>> from mlejax.data import ingest
    >>> rows, gaps = convert_with_gaps(ingest({"x": [1.0, float("nan")]}), ["x"])
    >>> rows.leaves[0], gaps[0].rows
    (array([ 1., nan]), array([False,  True]))
    """
    wanted = frozenset(source.keys) if source.kind == "tree" else frozenset(names)
    unknown = wanted - frozenset(source.keys)
    if unknown:
        raise missing_column(next(iter(unknown)), source.keys)
    entries: list[Entry] = []
    rows: list[Leaf] = []
    shared: list[Leaf] = []
    for key in (k for k in source.keys if k in wanted):
        held = source.held(key)
        if not held.readable:
            raise source.refusal(key)
        entries.append(Entry(key, held.treedef, shift(held.slots, len(rows), len(shared))))
        rows += held.rows
        shared += held.shared
    rest = [leaf for key in others for leaf in source.held(key).rows if key not in wanted]
    n = common_length([*rows, *rest])
    gaps: list[Gap] = []
    arrays = []
    for leaf in rows:
        values, mask = read(leaf)
        if mask is not None and values.dtype != np.float64:
            values = np.where(mask, values.dtype.type(0), values)
        arrays.append(values)
        gaps += _gaps_of(leaf, values, mask)
    for leaf in rest:
        try:
            lost = _gaps_of_any_type(leaf, None)
        except DataError:  # infinite
            lost = ~np.isfinite(read(leaf)[0])
        if lost is not None:
            gaps.append(Gap(leaf, _by_row(lost), lost, False))
    out = Rows(
        leaves=tuple(arrays),
        shared=tuple(_read_shared(leaf) for leaf in shared),
        layout=Layout(source.kind, tuple(entries)),
        n=n,
        names=tuple(_name(leaf) for leaf in rows),
        float32=tuple(_name(leaf) for leaf in rows if narrow_float(leaf)),
        index=_common_index([*rows, *rest]),
    )
    return out, gaps


def _gaps_of(leaf: Leaf, values: np.ndarray, mask: np.ndarray | None) -> list[Gap]:
    found = []
    if values.dtype == np.float64 and not is_finite(values):
        infinite = np.isinf(values) if mask is None else np.isinf(values) & ~mask
        if infinite.any():
            found.append(Gap(leaf, _by_row(infinite), infinite, True))
        nan = np.isnan(values)
        mask = nan if mask is None else mask | nan
    if mask is not None and mask.any():
        found.append(Gap(leaf, _by_row(mask), mask, False))
    return found


def _by_row(mask: np.ndarray) -> np.ndarray:
    return mask if mask.ndim == 1 else np.asarray(mask.reshape(len(mask), -1).any(axis=1))
