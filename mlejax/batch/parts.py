"""One data set of many, as the user would pass it to ``fit``: parts of a stack or of a long table, that can be pickled."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np

from mlejax import data as data_room
from mlejax.data import DataTypeError, Shared, Static
from mlejax.data.held import is_leaf


def array_of(leaf: Any, name: str) -> np.ndarray:
    """A leaf of a stack as an array; a table is pointed elsewhere."""
    if hasattr(leaf, "iloc"):
        raise DataTypeError(
            f"{name}: expected an array (n_datasets, n_rows, ...), got a {type(leaf).__name__}; one long table goes to "
            "fit_groups(frame, by=...)"
        )
    if isinstance(leaf, jax.core.Tracer):
        raise DataTypeError("fit_batch needs numbers: inside jit or vmap use mle.solve")
    return np.asarray(leaf)


def map_arrays(data: Any, function: Callable[[np.ndarray], Any]) -> Any:
    """The data with a function applied to every array in them; what is shared or static stays."""

    def each(leaf: Any) -> Any:
        return leaf if isinstance(leaf, (Shared, Static)) else function(array_of(leaf, "the data"))

    return map_tree(each, data)


def map_tree(each: Callable[[Any], Any], data: Any) -> Any:
    """``tree_map`` that keeps the order of the columns, which JAX would sort."""
    if isinstance(data, Mapping):
        return {key: jax.tree_util.tree_map(each, value, is_leaf=is_leaf) for key, value in data.items()}
    return jax.tree_util.tree_map(each, data, is_leaf=is_leaf)


@dataclass(frozen=True, eq=False)
class Slice:
    """Number of a data set -> its part of a stack."""

    data: Any

    def __call__(self, i: int) -> Any:
        return map_arrays(self.data, lambda a: a[i])


@dataclass(frozen=True, eq=False)
class Rows:
    """Number of a data set -> its rows (n,) in the whole table; ``order`` None: as they stand."""

    order: np.ndarray | None
    begins: np.ndarray
    lengths: np.ndarray

    def __call__(self, i: int) -> np.ndarray:
        if self.order is None:
            return np.arange(self.begins[i], self.begins[i] + self.lengths[i])
        return self.order[self.begins[i] : self.begins[i] + self.lengths[i]]


@dataclass(frozen=True, eq=False)
class Part:
    """Number of a data set -> its part of a long table."""

    frame: Any
    source: data_room.Source
    rows: Rows

    def __call__(self, i: int) -> Any:
        return rows_of(self.frame, self.source, self.rows(i))


def rows_of(frame: Any, source: data_room.Source, rows: np.ndarray) -> Any:
    """The rows of one group, as the user would pass them to ``fit``."""
    if hasattr(frame, "iloc"):
        return frame.iloc[rows]

    def each(leaf: Any) -> Any:
        if isinstance(leaf, (Shared, Static)):
            return leaf
        return leaf.iloc[rows] if hasattr(leaf, "iloc") else np.asarray(leaf)[rows]

    return map_tree(each, source.raw)
