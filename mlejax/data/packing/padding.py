"""Padding of rows to few distinct sizes, so that few programs are compiled.

A sum over n rows is compiled for a size N >= n, and the N - n additional rows get weight 0. Two rules keep the sum exact:

* A padded row repeats a real row of positive weight, never zeros: with zeros, ``0 * log(0)`` is NaN, and a ``where``
  around it repairs the value but not its derivative.
* A row of weight 0 never reaches the user's function. Its values are replaced by those of a row with positive weight,
  for the same reason: the row that a resample leaves out may be the one that makes the likelihood 0.

One data set of rows is padded to one of few sizes (`size_class`), since compiling costs more than evaluating additional rows; it
is divided into blocks, of which only those with real rows are evaluated. Units, and rows of many data sets, are padded to one of
8 sizes per octave (`bucket`), so that less than 1/8 of the work is padding.
"""

from __future__ import annotations

from typing import Any

import jax
import numpy as np

from mlejax.data.errors import DataError
from mlejax.execution import aligned
from mlejax.shapes import PyTree

MIN_BLOCK = 16


def bucket(n: int) -> int:
    """Return the smallest padded size for n rows: 8 sizes per octave, so that less than 1/8 is padding; n itself up to 16.
    DataError for n < 1.

    >>> [bucket(n) for n in (1, 7, 16, 17, 33, 1000)]
    [1, 7, 16, 18, 36, 1024]
    """
    if n < 1:
        raise DataError(f"a padded size needs n >= 1 rows, got n = {n}")
    step = 1 << max((n - 1).bit_length() - 4, 0)
    return -(-n // step) * step


def size_class(n: int) -> int:
    """Return the padded number of rows of one data set of n rows: one of 9 sizes up to 16,384, of 2 per octave up to 131,072,
    then `bucket`.

    >>> [size_class(n) for n in (3, 17, 100, 300, 1000, 5000, 20_000, 100_000, 1_000_000)]
    [16, 64, 256, 512, 1024, 8192, 24576, 131072, 1048576]
    """
    if n > 1 << 17:
        return bucket(n)
    power = 1 << (max(n, 16) - 1).bit_length()
    if power <= 256:
        return {32: 64, 128: 256}.get(power, power)
    return power * 3 // 4 if power > 1 << 14 and 4 * n <= 3 * power else power


def divisor(n: int, most: int) -> int:
    """Return the largest divisor of n that is at most ``most``; both at least 1.

    >>> divisor(104, 16), divisor(13, 12), divisor(13, 13)
    (13, 1, 13)
    """
    return max(d for d in range(1, min(n, most) + 1) if n % d == 0)


def blocks(n: int, block: int = 4096) -> tuple[int, int]:
    """Return the number and the size of the blocks for n rows: ``n_blocks * size == bucket(n)``, size <= block.

    One block if ``bucket(n) <= block``; otherwise the number of blocks is a power of two and the size is in (block/2, block],
    so that division into blocks adds neither padding to `bucket` nor further shapes. For ``block`` below 16 the size is the
    largest divisor of ``bucket(n)`` up to ``block``. DataError for n < 1 or ``block`` < 1.

    >>> blocks(100), blocks(4097), blocks(1_000_000), blocks(100, 6)
    ((1, 104), (2, 2304), (256, 4096), (26, 4))
    """
    if block < 1:
        raise DataError(f"expected block >= 1 rows, got {block}")
    if block < MIN_BLOCK:
        size = divisor(bucket(n), block)
        return bucket(n) // size, size
    size, n_blocks = bucket(n), 1
    while size > block:
        # A size above 16 is k * 2^j with k in 9..16 and j >= 1, so that halving is exact.
        size, n_blocks = size // 2, n_blocks * 2
    return n_blocks, size


def row_blocks(n: int, block: int = 4096) -> tuple[int, int]:
    """Return the number and the size of the blocks for rows of one data set: ``n_blocks * size == size_class(n)``, the size
    a power of two <= block.

    The size is also at most the largest of ``size_class(n) / 4``, ``block / 4`` and 1024, so that blocks without a real row are
    small and little padding is evaluated. DataError for ``block`` < 1.

    >>> row_blocks(100), row_blocks(1025), row_blocks(5000), row_blocks(20_000), row_blocks(1_000_000)
    ((1, 256), (2, 1024), (4, 2048), (6, 4096), (256, 4096))
    """
    if block < 1:
        raise DataError(f"expected block >= 1 rows, got {block}")
    full = size_class(n)
    most = min(block, max(full // 4, block // 4, 1024))
    size = min(full & -full, 1 << (most.bit_length() - 1))
    return full // size, size


def pad(rows: PyTree, weights: Any, n_padded: int) -> tuple[Any, np.ndarray]:
    """Pad rows and weights to n_padded rows; the padding, and rows of weight 0, get the values of the first row of positive
    weight.

    Args:
        rows: pytree of NumPy arrays (n, ...).
        weights: (n,) checked numbers >= 0, not all 0, or None for ones.
        n_padded: the length to reach, >= n.

    Returns:
        The tree with leaves (n_padded, ...), ``rows`` itself if nothing changes; and the weights (n_padded,), 0 in the padding.

    Raises:
        DataError: ``n_padded`` < n, or there are neither arrays nor weights.

    >>> rows, w = pad({"x": np.array([5.0, -1.0])}, np.array([0.0, 2.0]), 3)
    >>> rows["x"], w
    (array([-1., -1., -1.]), array([0., 2., 0.]))
    """
    leaves, treedef = jax.tree_util.tree_flatten(rows)
    if not leaves and weights is None:
        raise DataError("nothing to pad: no columns and no weights")
    n = int(leaves[0].shape[0]) if leaves else int(np.shape(weights)[0])
    if n_padded < n:
        raise DataError(f"expected n_padded >= {n}, the number of rows, got {n_padded}")
    zero, has_zero, donor = None, False, 0
    if weights is None:
        full = aligned((n_padded,), np.float64)
        full[:n], full[n:] = 1.0, 0.0
    else:
        full = np.asarray(weights, np.float64)
        zero = full == 0
        has_zero, donor = bool(zero.any()), int(np.argmax(full > 0))
        if n_padded > n:
            given, full = full, aligned((n_padded,), np.float64)
            full[:n], full[n:] = given, 0.0
    if not has_zero and n_padded == n:
        return rows, full

    def fill(x: np.ndarray) -> np.ndarray:
        x = np.asarray(x)
        out = aligned((n_padded, *x.shape[1:]), x.dtype)
        out[:n] = x
        out[n:] = x[donor]
        if has_zero:
            out[:n][zero] = x[donor]
        return out

    return jax.tree_util.tree_unflatten(treedef, [fill(x) for x in leaves]), full
