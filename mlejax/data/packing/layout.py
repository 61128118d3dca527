"""The structure of the data that a user's function reads, without the numbers: hashable, part of the compilation key.

A `Layout` says how row-wise arrays, arrays that all rows share (`Shared`) and Python values (`Static`) are put
together into the dict or pytree that the function receives. Two data sets of the same layout share a compiled program.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from typing import Any, NamedTuple

import jax

from mlejax.data.errors import DataError, DataTypeError, type_name
from mlejax.misuse import constructor
from mlejax.shapes import Data, PyTree, Reduced

ROOT: Hashable = None  # the key of data that are not a mapping
MASK_TAKEN = (
    "the data have a column 'mask', but with unit= data['mask'] marks the real rows of a unit: rename the column"
)
UNIT_NEEDS_NAMES = "unit= needs data with column names (a dict or a DataFrame), since the function reads data['mask']"


@constructor
@dataclass(frozen=True, eq=False)
class Shared:
    """Mark data that do not vary by row, such as knots or a distance matrix. The user's function gets them as arrays, in the
    structure of ``value``, without an added row axis.

    Infinite values are allowed (an open cutpoint); NaN raises DataError in a fit.

    Args:
        value: a number, an array, a list of numbers, or a pytree (tuple, list of arrays, dict) of arrays, of any shape.

    Raises:
        DataTypeError: the value is itself a `Shared` or `Static`.

    >>> Shared([0.0, 0.5, 1.0])
    Shared(value=[0.0, 0.5, 1.0])
    """

    value: PyTree

    def __post_init__(self) -> None:
        if isinstance(self.value, (Shared, Static)):
            raise DataTypeError(
                f"Shared: expected an array or a tree of arrays, got a {type_name(self.value)}: pass its attribute .value"
            )


@constructor
@dataclass(frozen=True, eq=False)
class Static:
    """Mark a hashable Python value (a number of categories, a lag) that is part of the compilation key.

    The user's function gets the value itself. A new value causes a new compilation. Values of different type are different,
    even if Python compares them equal: ``Static(1) != Static(1.0) != Static(True)``.

    Args:
        value: any hashable value.

    Raises:
        DataTypeError: the value is not hashable, or is itself a `Shared` or `Static`.

    >>> Static(3) == Static(3), Static(3) == Static(3.0)
    (True, False)
    """

    value: Hashable

    def __post_init__(self) -> None:
        if isinstance(self.value, (Shared, Static)):
            raise DataTypeError(f"Static: expected a plain Python value, got a {type_name(self.value)}: pass its .value")
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
    """Return a hashable key of a value: the value with its type, inside tuples and frozensets too, so that 1, 1.0 and True are
    three keys. Floats are equal if their bits are: 0.0 and -0.0 differ, and NaN equals NaN.
    """
    if isinstance(value, tuple):
        return type(value), tuple(_typed(v) for v in value)
    if isinstance(value, frozenset):
        return type(value), frozenset(_typed(v) for v in value)
    return type(value), value.hex() if isinstance(value, float) else value


class Slot(NamedTuple):
    """Where a leaf of the data comes from: the row-wise array at ``position``, the shared array (or tree of shared arrays) that
    begins at ``position``, or a static ``value``.
    """

    source: str  # "row", "shared", "shared_tree" (position of its first array; value: its tree and count), "static"
    position: int = 0
    value: Static | None = None


class Entry(NamedTuple):
    """One key of the data: the tree under it (None: a single leaf) and, for each of its leaves, where it comes from."""

    key: Hashable
    treedef: jax.tree_util.PyTreeDef
    slots: tuple[Slot, ...]


@dataclass(frozen=True)
class Layout:
    """How row-wise arrays, shared arrays and static values make up the data that the user's function receives. Hashable.

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
        """Return the layout of this kind with these entries; usually the same object for equal arguments (a cache of 256), so
        that comparing layouts is fast.
        """
        return Layout(kind, entries)

    @property
    def keys(self) -> tuple[Hashable, ...]:
        """The keys of the entries, in order: the names of columns, or ``(None,)`` for a tree."""
        return tuple(entry.key for entry in self.entries)

    @cached_property
    def n_leaves(self) -> int:
        """The number of row-wise arrays in the entries."""
        return len({slot.position for entry in self.entries for slot in entry.slots if slot.source == "row"})

    def position(self, key: Hashable) -> int:
        """Return the position, among the row-wise arrays, of the first array under a key, which must exist and be row-wise."""
        return next(entry.slots[0].position for entry in self.entries if entry.key == key)

    def with_mask(self, index: int) -> Layout:
        """Return the layout with a further column "mask", the index-th row-wise array; for models of units.

        Raises:
            DataError: the data have no column names, or already have a column "mask".
        """
        if self.kind != "mapping":
            raise DataError(UNIT_NEEDS_NAMES)
        if "mask" in self.keys:
            raise DataError(MASK_TAKEN)
        return self.with_column("mask", None, index)

    def with_column(self, key: Hashable, treedef: jax.tree_util.PyTreeDef, index: int) -> Layout:
        """Return the layout with a further column at the end.

        Args:
            key: the key of the column, which must be new.
            treedef: the tree of its arrays; None for one array.
            index: position of its first array among the row-wise arrays, where the others follow.
        """
        n = 1 if treedef is None else treedef.num_leaves
        slots = tuple(Slot("row", index + i) for i in range(n))
        return replace(self, entries=(*self.entries, Entry(key, treedef, slots)))


def assemble(rows: Sequence[Any], shared: Sequence[Any], layout: Layout) -> Data:
    """Return the data as the user's function receives them: a plain dict, or the user's own pytree, with arrays and static values
    in place of `Shared` and `Static`.

    Args:
        rows: the row-wise arrays: of all rows, a block, one row or one unit; they may be tracers.
        shared: the arrays that do not vary by row.
        layout: how they are put together.

    >>> x, k = Entry("x", None, (Slot("row"),)), Entry("k", None, (Slot("static", 0, Static(2)),))
    >>> assemble([5.0], [], Layout("mapping", (x, k)))
    {'x': 5.0, 'k': 2}
    """
    built = {entry.key: build(entry, rows, shared) for entry in layout.entries}
    return built if layout.kind == "mapping" else built[ROOT]


def build(entry: Entry, rows: Sequence[Any], shared: Sequence[Any]) -> Data:
    """Return the array, static value or tree under the key of an entry of the layout, from the arrays that `assemble` takes."""
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
