"""Stacks of data sets of one length, arrays (n_datasets, n_rows, ...): their shape, and what is refused."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import jax
import numpy as np

from mlejax.data import DataError, DataTypeError, Shared, Static
from mlejax.data.read import is_column
from mlejax.shapes import Data, PyTree


def stack_shape(data: Data) -> tuple[int, int]:
    """Return the numbers of data sets and of rows of stacked arrays; DataError if arrays differ in these, or one is 0."""
    seen: dict[str, tuple[int, ...]] = {}
    few: list[tuple[str, tuple[int, ...]]] = []
    common = False
    parts = [(f"[{key!r}]", value) for key, value in data.items()] if isinstance(data, Mapping) else [("", data)]
    for name, part in parts:
        for path, leaf in jax.tree_util.tree_flatten_with_path(part, is_leaf=is_column)[0]:
            if isinstance(leaf, (Shared, Static)):
                common = True
            else:
                where = name + jax.tree_util.keystr(path) or "the data"
                shape = _stacked_array(leaf, where).shape
                if len(shape) < 2:
                    few.append((where, shape))
                seen[where] = shape[:2]
    if few:
        raise _too_few_axes(*few[0], [shape for shape in seen.values() if len(shape) == 2])
    if not seen:
        got = "only mle.Shared and mle.Static" if common else "none"
        raise DataError(f"fit_batch: expected at least one array (n_datasets, n_rows, ...), got {got}")
    if len(set(seen.values())) > 1:
        each = ", ".join(f"{name} has {shape}" for name, shape in list(seen.items())[:20])
        raise DataError(
            f"the arrays differ in their first two axes, (n_datasets, n_rows): {each}.  Data sets of different length go to "
            "fit_groups as one long table"
        )
    n_sets, n = next(iter(seen.values()))
    if n_sets == 0 or n == 0:
        raise DataError(f"fit_batch: expected at least one data set and one row, got {n_sets} data sets of {n} rows")
    return n_sets, n


def refuse_tables(data: Data) -> None:
    """Raise DataTypeError if the data are a list, tuple or dict of tables, one for each data set."""
    inside = list(data.values()) if isinstance(data, Mapping) else list(data) if isinstance(data, (list, tuple)) else []
    if inside and all(hasattr(part, "columns") for part in inside):
        kind = "dict" if isinstance(data, Mapping) else type(data).__name__
        tables = "table" if len(inside) == 1 else "tables"
        raise DataTypeError(
            f"fit_batch: expected a dict or tree of arrays (n_datasets, n_rows, ...), got a {kind} of {len(inside)} {tables}.  "
            "Concatenate them into one long table with a column that tells them apart, and call fit_groups(table, "
            "by='dataset'); with pandas: table = pd.concat([first.assign(dataset=0), second.assign(dataset=1)], "
            "ignore_index=True)"
        )


def _stacked_array(leaf: PyTree, where: str) -> np.ndarray:
    """Return ``leaf``, an array of the stack, as a NumPy array; ``where`` is its name in messages. DataTypeError for a pandas
    object or a tracer.
    """
    if hasattr(leaf, "iloc"):
        raise DataTypeError(
            f"{where}: expected an array (n_datasets, n_rows, ...), got a {type(leaf).__name__}; fit one long table by "
            "fit_groups(frame, by=...)"
        )
    if isinstance(leaf, jax.core.Tracer):
        raise DataTypeError("fit_batch expected numbers, got a traced array: inside jit, vmap or grad use mle.solve")
    return np.asarray(leaf)


def _too_few_axes(where: str, shape: tuple[int, ...], others: Sequence[tuple[int, ...]]) -> DataError:
    """Return the error for an array of fewer than two axes, which says how to give it: repeated if it has one value for each row
    of a data set, ``mle.Shared`` otherwise. ``others``: (n_datasets, n_rows) of the other arrays.
    """
    got = f"{where}: expected an array (n_datasets, n_rows, ...), got shape {shape}; "
    if shape and any(shape[0] == n_rows for _, n_rows in others):
        n_sets = next(n_sets for n_sets, n_rows in others if n_rows == shape[0])
        return DataError(
            f"{got}if it has one value for each row of a data set, repeat it for all data sets, np.broadcast_to(values, "
            f"({n_sets}, {shape[0]})), and if it is not by row, wrap it in mle.Shared(...)"
        )
    return DataError(
        f"{got}wrap numbers that are not by row and common to all data sets in mle.Shared(...), and fit one long table with a "
        "column of groups by fit_groups"
    )
