"""Several grouping factors of random effects: the level of every row, and the units, which are groups of rows such that
no two units share a level.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import jax
import numpy as np

from mlejax.data.packing.layout import Layout
from mlejax.data.packing.padding import bucket
from mlejax.data.read.checked import Rows
from mlejax.data.units import group_codes
from mlejax.shapes import Host, Int


@dataclass(frozen=True, eq=False)
class Crossing:
    """The levels of several grouping factors, and the units that contain them.

    Attributes:
        codes: for each factor, the level of every row, numbered from 0 within the row's unit (n,).
        units: the unit of every row, as labels (n,).
        labels: for each factor, the names of its G levels (G,); names from several columns are joined by colons.
        unit: for each factor, the number of the unit of each level (G,).
        within: for each factor, the number of each level within its unit (G,).
    """

    codes: tuple[Int[Host, " n"], ...]
    units: np.ndarray
    labels: tuple[np.ndarray, ...]
    unit: tuple[Int[Host, " g"], ...]
    within: tuple[Int[Host, " g"], ...]

    def levels_of(self, rows: Rows, key: Hashable) -> Rows:
        """Return the rows with ``codes``, a tuple of one array for each factor, as a further column under ``key``."""
        return replace(
            rows, leaves=(*rows.leaves, *self.codes), layout=_with(rows.layout, key, len(rows.leaves), len(self.codes))
        )

    def there(self, units: Rows, key: Hashable) -> Rows:
        """Return the units with a further column under ``key``: for each factor an array (n_units, size), True for the levels
        that a unit has; ``size`` is the `bucket` of the largest number of levels in a unit.
        """
        flags = []
        for unit, within in zip(self.unit, self.within, strict=True):
            out = np.zeros((units.n, bucket(int(within.max()) + 1)), bool)
            out[unit, within] = True
            flags.append(out)
        layout = _with(units.layout, key, len(units.leaves), len(flags))
        return replace(units, leaves=(*units.leaves, *flags), layout=layout)


def _with(layout: Layout, key: Hashable, index: int, n: int) -> Layout:
    return layout.with_column(key, jax.tree.structure((0,) * n), index)


def crossing(factors: Sequence[Sequence[str]], column: Callable[[str], Any], outer: str | None) -> Crossing:
    """Return the levels of rows and the units that contain them.

    Args:
        factors: for each factor, the names of the columns whose combined values are its levels.
        column: function from the name of a column to its values in the rows that are used.
        outer: the column of units, in which all levels are nested (not checked); None: units are the connected components of
            the rows that share levels, named by a factor that has one level in each unit, else numbered.

    Raises:
        DataError, DataTypeError: a column cannot be labels of groups; see `group_codes`.
    """
    found = [_codes(names, column) for names in factors]
    if outer is None:
        units = _connected([codes for codes, _ in found])
        single = [labels for codes, labels in found if len(labels) == units.max() + 1]
        if single:  # every unit has one level of this factor
            codes = next(codes for codes, labels in found if labels is single[0])
            named = np.empty(len(single[0]), object)
            named[units] = single[0][codes]
            units = named[units]
    else:
        units = column(outer)
    numbers, _ = group_codes(units)
    local, of_levels, places = [], [], []
    for codes, labels in found:
        unit = np.zeros(len(labels), np.int64)
        unit[codes] = numbers
        order = np.argsort(unit, kind="stable")
        counts = np.bincount(unit)
        within = np.empty(len(labels), np.int64)
        within[order] = np.arange(len(labels)) - np.repeat(np.cumsum(counts) - counts, counts)
        local.append(within[codes])
        of_levels.append(unit)
        places.append(within)
    return Crossing(tuple(local), units, tuple(labels for _, labels in found), tuple(of_levels), tuple(places))


def _codes(names: Sequence[str], column: Callable[[str], Any]) -> tuple[np.ndarray, np.ndarray]:
    """Return the level codes (n,) and level labels (G,) of the values of one column, or of the combined values of several
    (``names``), whose labels are joined by colons; ``column``: function from the name of a column to its values (n,).
    """
    codes, labels = group_codes(column(names[0]), names[0])
    for name in names[1:]:
        more, further = group_codes(column(name), name)
        both, pairs = group_codes(codes * len(further) + more)
        text = [f"{labels[p // len(further)]}:{further[p % len(further)]}" for p in pairs]
        codes, labels = both, np.array(text, object)
    return codes, labels


def _connected(codes: Sequence[np.ndarray]) -> np.ndarray:
    """Return the connected component of each row (n,), numbered in order of first appearance; rows that share a level of any
    factor are connected. ``codes`` has, for each factor, the level of every row (n,), numbered in order of first appearance.
    """
    if len(codes) == 1:
        return codes[0]
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    first = np.cumsum([0, *(int(c.max()) + 1 for c in codes)])
    ends = [(codes[0], first[k] + c) for k, c in enumerate(codes) if k > 0]
    row, col = (np.concatenate(part) for part in zip(*ends, strict=True))
    graph = coo_array((np.ones(len(row)), (row, col)), shape=(first[-1], first[-1]))
    return group_codes(connected_components(graph, directed=False)[1][codes[0]])[0]
