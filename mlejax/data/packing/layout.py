"""The structure of the data that a user's function reads, without the numbers: hashable, part of the compilation key.

A `Layout` says how row-wise arrays, arrays that all rows share (`Shared`) and Python values (`Static`) are put
together into the dict or pytree that the function sees. Two data sets of the same layout share a compiled program.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from typing import Any, NamedTuple

import jax

from mlejax.data.errors import DataError, DataTypeError, type_name
from mlejax.shapes import Data, PyTree, Reduced

ROOT: Hashable = None  # the key of data that are not a mapping
MASK_TAKEN = "the data have a column 'mask', but with unit= data['mask'] marks the real rows of a unit: rename the column"
UNIT_NEEDS_NAMES = "unit= needs data with column names (a dict or a DataFrame), since the function reads data['mask']"


@dataclass(frozen=True, eq=False)
class Shared:
    """Mark data that do not vary by row, such as knots or a distance matrix. The user's function gets ``value`` itself.

    Infinite values are allowed (an open cutpoint), NaN is not.

    Args:
        value: an array, or a pytree (tuple, list of arrays, dict) of arrays, of any shape.

    >>> Shared([0.0, 0.5, 1.0])
    Shared(value=[0.0, 0.5, 1.0])
    """

    value: PyTree

    def __post_init__(self) -> None:
        if isinstance(self.value, (Shared, Static)):
            raise DataTypeError(f"Shared: expected an array or a tree of arrays, got a {type_name(self.value)}")


@dataclass(frozen=True, eq=False)
class Static:
    """Mark a hashable Python value (a number of categories, a lag) that is part of the compilation key.

    The user's function gets the value itself. A new value causes a new compilation. Values of different type are different,
    even if Python compares them equal: ``Static(1) != Static(1.0) != Static(True)``.

    Raises:
        DataTypeError: the value is not hashable.

    >>> Static(3) == Static(3), Static(3) == Static(3.0)
    (True, False)
    """

    value: Hashable

    def __post_init__(self) -> None:
        if isinstance(self.value, (Shared, Static)):
            raise DataTypeError(f"Static: expected a plain Python value, got a {type_name(self.value)}")
        try:
            hash(self.value)
        except TypeError:
            raise DataTypeError(
                f"Static: expected a hashable Python value, got a {type_name(self.value)}, which is not hashable. "
                "Use Shared(value) for arrays, a tuple instead of a list, tuple(sorted(d.items())) instead of a dict"
            ) from None

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Static) and _typed(self.value) == _typed(other.value)

    def __hash__(self) -> int:
        return hash(_typed(self.value))


def _typed(value: PyTree) -> Any:
    """Return the value with its type at every level of nesting, so that 1, 1.0 and True are three compilation keys."""
    if isinstance(value, tuple):
        return type(value), tuple(_typed(v) for v in value)
    if isinstance(value, frozenset):
        return type(value), frozenset(_typed(v) for v in value)
    return type(value), value.hex() if isinstance(value, float) else value


class Slot(NamedTuple):
    """Where a leaf of the data comes from: the i-th row-wise array, the i-th shared array (with its own tree), or a static
    value.
    """

    source: str  # "row", "shared", "shared_tree" (position of its first array; value: its tree and count), "static"
    position: int = 0
    value: Static | None = None


class Entry(NamedTuple):
    """One key of the data: the tree under it (None: a single leaf) and the source of each of its leaves."""

    key: Hashable
    treedef: jax.tree_util.PyTreeDef
    slots: tuple[Slot, ...]


@dataclass(frozen=True)
class Layout:
    """How row-wise arrays, shared arrays and static values make up the data that the user's function sees. Hashable.

    Attributes:
        kind: "mapping" (the function gets a dict) or "tree" (it gets the user's own structure).
        entries: one per key, in the order of the user's data.
    """

    kind: str
    entries: tuple[Entry, ...]

    def __hash__(self) -> int:
        return self._hash

    @cached_property
    def _hash(self) -> int:
        return hash((self.kind, self.entries))

    def __reduce__(self) -> Reduced:
        return Layout, (self.kind, self.entries)  # without the hash: the hash of a text differs between processes

    @staticmethod
    @lru_cache(maxsize=256)
    def of(kind: str, entries: tuple[Entry, ...]) -> Layout:
        """Return the layout with these entries, the same object for equal entries (cached), since it is looked up at every
        call.
        """
        return Layout(kind, entries)

    @property
    def keys(self) -> tuple[Hashable, ...]:
        """The keys of its entries (the names of columns)."""
        return tuple(entry.key for entry in self.entries)

    @cached_property
    def n_leaves(self) -> int:
        """The number of row-wise arrays."""
        return len({slot.position for entry in self.entries for slot in entry.slots if slot.source == "row"})

    def position(self, key: Hashable) -> int:
        """Return the position, among the row-wise arrays, of the first array under a key; the key must exist."""
        return next(entry.slots[0].position for entry in self.entries if entry.key == key)

    def with_mask(self, index: int) -> Layout:
        """Return the layout with a further column "mask", the index-th row-wise array; for models of units."""
        if self.kind != "mapping":
            raise DataError(UNIT_NEEDS_NAMES)
        if "mask" in self.keys:
            raise DataError(MASK_TAKEN)
        return self.with_column("mask", None, index)

    def with_column(self, key: Hashable, treedef: jax.tree_util.PyTreeDef, index: int) -> Layout:
        """Return the layout with a further column, a tree (None: one array) whose row-wise arrays begin with the index-th."""
        n = 1 if treedef is None else treedef.num_leaves
        slots = tuple(Slot("row", index + i) for i in range(n))
        return replace(self, entries=(*self.entries, Entry(key, treedef, slots)))


def assemble(rows: Sequence[Any], shared: Sequence[Any], layout: Layout) -> Data:
    """Return the data as the user's function sees them: a plain dict, or the user's own structure, with nothing wrapped.

    Args:
        rows: the row-wise arrays, of one common length: all rows, a block, or one unit; they may be tracers.
        shared: the arrays that do not vary by row.
        layout: how they are put together.

    >>> x, k = Entry("x", None, (Slot("row"),)), Entry("k", None, (Slot("static", 0, Static(2)),))
    >>> assemble([5.0], [], Layout("mapping", (x, k)))
    {'x': 5.0, 'k': 2}
    """
    built = {entry.key: build(entry, rows, shared) for entry in layout.entries}
    return built if layout.kind == "mapping" else built[ROOT]


def build(entry: Entry, rows: Sequence[Any], shared: Sequence[Any]) -> Data:
    """Return the array, value or tree under one key of the data."""
    leaves = [_leaf(slot, rows, shared) for slot in entry.slots]
    return leaves[0] if entry.treedef is None else jax.tree_util.tree_unflatten(entry.treedef, leaves)


def _leaf(slot: Slot, rows: Sequence[Any], shared: Sequence[Any]) -> PyTree:
    if slot.source == "row":
        return rows[slot.position]
    if slot.source == "shared":
        return shared[slot.position]
    assert slot.value is not None
    if slot.source == "static":
        return slot.value.value
    inner: Any = slot.value.value
    treedef, count = inner
    return jax.tree_util.tree_unflatten(treedef, shared[slot.position : slot.position + count])
