"""The tree of arrays under one key of a table: row-wise columns, shared arrays and static values."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np

from mlejax.data.errors import DataTypeError
from mlejax.data.packing.layout import Entry, Shared, Slot, Static
from mlejax.data.read.columns import NUMERIC, Column
from mlejax.data.read.foreign import ForeignColumn
from mlejax.shapes import Data, PyTree


@dataclass(frozen=True, eq=False)
class Contents:
    """The columns under one key of a table.

    Attributes:
        entry: the tree under the key; its positions refer to ``rows`` and ``shared``.
        rows: the row-wise columns.
        shared: the arrays that do not vary by row.
    """

    entry: Entry
    rows: tuple[Column, ...]
    shared: tuple[Column, ...]

    @property
    def not_numeric(self) -> Column | None:
        """The first row-wise or shared array that a function cannot read because it is not numeric; None if all are numeric."""
        for column in (*self.rows, *self.shared):
            if column.probe.kind not in NUMERIC:
                return column
        return None

    def entry_from(self, n_rows: int, n_shared: int) -> Entry:
        """Return ``entry`` for lists of arrays in which ``n_rows`` row-wise and ``n_shared`` shared ones come before its own."""
        begin = {"row": n_rows, "shared": n_shared, "shared_tree": n_shared, "static": 0}
        slots = tuple(Slot(s.source, s.position + begin[s.source], s.value) for s in self.entry.slots)
        return self.entry._replace(slots=slots)


def contents_of(value: object, key: Hashable, kind: str) -> Contents:
    """Return the columns of a value and their tree.

    Args:
        value: an array, a pytree of arrays, or `Shared` or `Static`, also as leaves of the tree.
        key: its key in the table, for messages.
        kind: that of the table, "mapping" (``value`` is one of its entries) or "tree" (it is the whole data).

    Raises:
        DataTypeError: JAX cannot flatten the value.
    """
    where = "the data" if kind == "tree" else f"column {key!r}"
    columns, treedef = _flatten(value, where, is_column)
    slots: list[Slot] = []
    rows: list[Column] = []
    shared: list[Column] = []
    for path, column in columns:
        name = where if treedef is None else ("data" if kind == "tree" else f"data[{key!r}]") + path
        if isinstance(column, Static):
            slots.append(Slot("static", 0, column))
        elif isinstance(column, Shared):
            inside, tree = _flatten(column.value, f"Shared {name}", _is_shared_array)
            static = None if tree is None else Static((tree, len(inside)))
            slots.append(Slot("shared" if tree is None else "shared_tree", len(shared), static))
            shared += [Column(v, f"Shared {name}{p}", key, shared=True) for p, v in inside]
        else:
            slots.append(Slot("row", len(rows)))
            rows.append(Column(column, name, key))
    return Contents(Entry(key, treedef, tuple(slots)), tuple(rows), tuple(shared))


def _flatten(value: object, where: str, stop: Callable[[Any], bool]) -> tuple[list[tuple[str, Any]], Any]:
    """Return (path, leaf) for the leaves of a value, and the tree definition; for a single leaf its path is "" and the tree
    definition None.

    Args:
        value: a pytree.
        where: its name in the message of the DataTypeError for a value that JAX cannot flatten.
        stop: function that is True for a value that is a leaf.
    """
    if stop(value):
        return [("", value)], None
    try:
        pairs, treedef = jax.tree_util.tree_flatten_with_path(value, is_leaf=stop)
    except (ValueError, TypeError) as error:
        raise DataTypeError(
            f"{where}: expected an array, or a dict, tuple or other JAX pytree of arrays; JAX cannot flatten it ({error})"
        ) from None
    if len(pairs) == 1 and not pairs[0][0]:
        return [("", pairs[0][1])], None
    return [(jax.tree_util.keystr(path), leaf) for path, leaf in pairs], treedef


def is_column(value: object) -> bool:
    """True if the value is one column, `Shared` or `Static` (a list, an array, a Series, a DataFrame, None, any other
    iterable); False for tuples, dicts and other pytrees of columns, and for single values such as numbers.
    """
    if value is None or isinstance(value, (list, np.ndarray, jax.Array, Shared, Static, ForeignColumn)):
        return True
    if isinstance(value, (tuple, Mapping)):
        return False
    # An iterable that is no tree (range, deque, generator, set) is one value. JAX's sparse matrices are trees of their
    # entries, which are not rows.
    return hasattr(value, "__iter__") or hasattr(value, "todense")


def _is_shared_array(value: object) -> bool:
    """True if a value inside `Shared` is one array and not a tree: a list is an array unless a dict, or an array with an axis,
    is among its items or theirs; tuples and dicts are trees; None and other iterables are arrays.
    """
    if isinstance(value, list):
        return not any(_has_columns(v) for v in value)
    return value is None or (hasattr(value, "__iter__") and not isinstance(value, (tuple, Mapping)))


def _has_columns(value: object) -> bool:
    """True for a dict, an array with an axis, and a list or tuple that has one of them inside, at any depth."""
    if isinstance(value, (list, tuple)):
        return any(_has_columns(v) for v in value)
    return isinstance(value, Mapping) or (isinstance(value, (np.ndarray, jax.Array)) and value.ndim > 0)


def map_columns(function: Callable[[Any], Any], data: Data) -> Any:
    """Return the user's data with a function applied to every row-wise column; `Shared` and `Static` stay as they are.

    A mapping gives a dict with the same order of columns (``jax.tree.map`` would sort them), anything else its own pytree.
    """

    def each(leaf: PyTree) -> Any:
        return leaf if isinstance(leaf, (Shared, Static)) else function(leaf)

    if isinstance(data, Mapping):
        return {key: jax.tree_util.tree_map(each, value, is_leaf=is_column) for key, value in data.items()}
    return jax.tree_util.tree_map(each, data, is_leaf=is_column)
