"""Data in the form that compiled code takes: padded, weighted, with static values in the pytree's structure.

`Prepared` is a JAX pytree: two of them with the same statics, mode, block and shapes share a compiled program, even if
their numbers of rows differ (n is an array, not part of the structure).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property, partial
from typing import Any

import jax
import numpy as np

from mlejax.data.errors import DataError
from mlejax.data.packing.layout import Layout
from mlejax.data.packing.padding import blocks, pad, row_blocks
from mlejax.data.packing.streamed import StreamedColumn
from mlejax.data.read.checked import Rows
from mlejax.execution import limits
from mlejax.shapes import Host, PyTree

MODES = ("rows", "units", "whole")


@partial(
    jax.tree_util.register_dataclass,
    data_fields=["rows", "shared", "weights", "n"],
    meta_fields=["statics", "mode", "block"],
)
@dataclass(frozen=True, eq=False)
class Prepared:
    """Data ready for compiled code. A JAX pytree; its arrays may be tracers, or have a further leading axis for vmap.

    Attributes:
        rows: tuple of arrays (N, ...) of N padded rows, or (N, length, ...) of N padded units. Very large ones may be
            `StreamedColumn`, of which programs over all rows get a padded copy.
        shared: tuple of arrays that do not vary by row.
        weights: weights (N,), 0 in the padding. With mode "whole": weights of the terms that the function returns, by
            default ones (n,).
        n: () integer, the number of real rows or units; with mode "whole" of rows.
        statics: the layout by which `assemble` makes the data of the user's function, with the static values. Hashable.
        mode: what a term of the log-likelihood belongs to: "rows" or "units"; "whole": the function gets all data at once.
        block: rows or units per block; N is a multiple of it. With mode "whole" the number of rows.
    """

    rows: PyTree
    shared: PyTree
    weights: Any
    n: Any
    statics: Layout
    mode: str
    block: int

    @property
    def n_blocks(self) -> int:
        """The number of blocks; 1 for mode "whole"."""
        return 1 if self.mode == "whole" else int(self.weights.shape[-1]) // self.block

    @cached_property
    def total_weight(self) -> float:
        """The sum of the weights, as a float; fails for traced data."""
        return float(np.sum(np.asarray(self.weights)))

    @property
    def streamed(self) -> bool:
        """True if some columns are the user's own arrays, evaluated in chunks of rows without a padded copy."""
        return any(isinstance(leaf, StreamedColumn) for leaf in self.rows)

    def taken(self, at: Host | slice) -> tuple[Any, ...]:
        """Return the rows of every column at a slice without a step, or at positions (m,), among the N padded ones."""
        return tuple(leaf[at] for leaf in self.rows)

    def trimmed(self) -> Prepared:
        """Return the data of mode "rows" with the smaller padding of `blocks`, for programs that evaluate the same rows very
        often; the data themselves in another mode, or if that padding is no smaller.
        """
        n_blocks, size = blocks(int(self.n), max(self.block, 1024))
        if self.mode != "rows" or n_blocks * size >= self.n_padded:
            return self
        run = slice(n_blocks * size)
        return replace(self, rows=self.taken(run), weights=self.weights[run], block=size)

    @property
    def n_contributions(self) -> int:
        """The number of terms of the log-likelihood, without padding: rows, units, or, with mode "whole", weights."""
        return self.n_padded if self.mode == "whole" else int(self.n)

    @property
    def n_padded(self) -> int:
        """The number N of rows or units, padding included; with mode "whole" the number of weights."""
        return int(self.weights.shape[-1])


def pack(rows: Rows, weights: Any = None, *, mode: str = "rows", block: int = 4096) -> Prepared:
    """Pad checked rows (or units) to blocks, with weight 0 in the padding, and return them as `Prepared`.

    Rows that take at least ``limits().streamed_bytes`` in mode "rows", none of weight 0, are not copied: they become
    `StreamedColumn`.

    Args:
        rows: n checked rows; `Units.rows` for mode "units".
        weights: (n,) checked numbers >= 0, or None for ones. Rows of weight 0 take the values of a row of positive weight.
        mode: "rows" or "units" are padded; "whole" never is, and its weights have the length of what the function
            returns (None gives ones of length n).
        block: largest number of rows in a block.

    Raises:
        DataError: ``mode`` is unknown.

    >>> from mlejax.data import ingest
    >>> prepared = pack(ingest({"x": np.arange(17.0)}).convert(["x"]))
    >>> prepared.rows[0].shape, prepared.weights[-2:].tolist(), int(prepared.n), prepared.block
    ((64,), [0.0, 0.0], 17, 64)
    """
    if mode not in MODES:
        raise DataError(f"mode={mode!r}: expected one of {', '.join(MODES)}")
    n = np.asarray(rows.n, np.int64)
    if mode == "whole":
        full = np.ones(rows.n) if weights is None else np.asarray(weights, np.float64)
        return Prepared(rows.leaves, rows.shared, full, n, rows.layout, mode, rows.n)
    n_blocks, size = (row_blocks if mode == "rows" else blocks)(rows.n, block)
    large = mode == "rows" and sum(leaf.nbytes for leaf in rows.leaves) >= limits().streamed_bytes
    if large and (weights is None or weights.all()):
        full = pad((), np.ones(rows.n) if weights is None else weights, n_blocks * size)[1]
        leaves: tuple[Any, ...] = tuple(StreamedColumn(leaf, n_blocks * size) for leaf in rows.leaves)
    else:
        leaves, full = pad(rows.leaves, weights, n_blocks * size)
    return Prepared(leaves, rows.shared, full, n, rows.layout, mode, size)
