"""What is under one key of the data: a tree whose leaves are arrays by row, shared arrays and static values."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np

from .errors import DataTypeError
from .layout import Shared, Slot, Static
from .leaves import NUMERIC, Leaf, is_pandas

_ONE_ROW = (Slot("row", 0),)


def _is_numeric(leaf: Leaf) -> bool:
    return leaf.probe.kind in NUMERIC


@dataclass(slots=True)
class Held:
    """What is under one key of the data: its layout (with indices from 0) and its leaves."""

    treedef: Any
    slots: tuple[Slot, ...]
    rows: tuple[Leaf, ...]
    shared: tuple[Leaf, ...]

    @property
    def readable(self) -> bool:
        return all(map(_is_numeric, (*self.rows, *self.shared)))


def hold(value: Any, key: Hashable, kind: str) -> Held:
    """The leaves of a value and where they belong."""
    where = "the data" if kind == "tree" else f"column {key!r}"
    if type(value) is np.ndarray or is_pandas(value, "Series", "DataFrame"):
        return Held(None, _ONE_ROW, (Leaf(value, where),), ())
    leaves, treedef = _flatten(value, where)
    slots: list[Slot] = []
    rows: list[Leaf] = []
    shared: list[Leaf] = []
    single = treedef is None
    for path, leaf in leaves:
        name = where if single else ("data" if kind == "tree" else f"data[{key!r}]") + path
        if isinstance(leaf, Static):
            slots.append(Slot("static", 0, leaf))
        elif isinstance(leaf, Shared):
            shared_leaves, shared_tree = _flatten(leaf.value, f"Shared {name}", _is_shared_leaf)
            inside = [Leaf(v, f"Shared {name}{p}", shared=True) for p, v in shared_leaves]
            if shared_tree is None:
                slots.append(Slot("shared", len(shared)))
            else:
                slots.append(Slot("shared_tree", len(shared), Static((shared_tree, len(inside)))))
            shared += inside
        else:
            slots.append(Slot("row", len(rows)))
            rows.append(Leaf(leaf, name))
    return Held(treedef, tuple(slots), tuple(rows), tuple(shared))


def _flatten(value: Any, where: str, stop: Any = None) -> tuple[list[tuple[str, Any]], Any]:
    """Leaves with their paths, and the tree; None for the tree of a single leaf."""
    stop = stop or is_leaf
    if stop(value) or isinstance(value, (np.ndarray, jax.Array)):
        return [("", value)], None
    try:
        pairs, treedef = jax.tree_util.tree_flatten_with_path(value, is_leaf=stop)
    except (ValueError, TypeError) as error:
        raise DataTypeError(f"{where}: the structure cannot be used as a tree of arrays ({error})") from None
    if len(pairs) == 1 and not pairs[0][0]:
        return [("", pairs[0][1])], None
    return [(jax.tree_util.keystr(path), leaf) for path, leaf in pairs], treedef


def is_leaf(value: Any) -> bool:
    """Whether the value is one column (or a wrapper), not a tree of columns."""
    if value is None or isinstance(value, (list, Shared, Static)):
        return True
    if isinstance(value, (tuple, Mapping)):
        return False
    # An iterable that is no tree (range, deque, generator, set) is one value, and JAX's sparse matrices are trees of
    # their entries, which are not rows.
    return hasattr(value, "__iter__") or hasattr(value, "todense")


def _is_shared_leaf(value: Any) -> bool:
    """In `Shared`, a list of arrays is a tree as in JAX, and a list of numbers is an array."""
    if isinstance(value, list):
        return not any(isinstance(v, dict) or (isinstance(v, (np.ndarray, jax.Array)) and v.ndim > 0) for v in value)
    return value is None or (hasattr(value, "__iter__") and not isinstance(value, (tuple, Mapping)))


def shift(slots: tuple[Slot, ...], n_rows: int, n_shared: int) -> tuple[Slot, ...]:
    """The slots with their positions counted from n_rows and n_shared."""
    if slots is _ONE_ROW:
        return (Slot("row", n_rows),)
    by = {"row": n_rows, "shared": n_shared, "shared_tree": n_shared, "static": 0}
    return tuple(Slot(s.source, s.position + by[s.source], s.value) for s in slots)
