"""Products of small matrices, one for each of n units in the last axis, written out over their few rows and columns; sums of
products over units.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from itertools import combinations_with_replacement, product
from typing import Any

import jax.numpy as jnp
import numpy as np

from mlejax.shapes import Device


def padded(a: Device, before: int = 0, after: int = 0) -> Device:
    """Return the array with zeros before and after it in its first axis."""
    return jnp.pad(a, ((before, after), *[(0, 0)] * (a.ndim - 1))) if before or after else a


def summed(terms: Iterable[Any]) -> Any:
    """Return the sum of arrays, at least one."""
    first, *others = terms
    return sum(others, first)


def transposed(a: Device) -> Device:
    """Return the matrices (..., i, j, n) transposed."""
    return jnp.swapaxes(a, -3, -2)


def times(a: Device, b: Device) -> Device:
    """Return the products of matrices (..., i, j, n) and (..., j, l, n)."""
    return summed(a[..., :, j, None, :] * b[..., j, None, :, :] for j in range(a.shape[-2]))


def apply(a: Device, v: Device) -> Device:
    """Return the products of matrices (..., i, j, n) and vectors (..., j, n)."""
    return summed(a[..., :, j, :] * v[..., j, None, :] for j in range(a.shape[-2]))


def upper_half(a: Device) -> Device:
    """Return the upper triangles of matrices (..., q, q, n), with half of the diagonals."""
    q = a.shape[-2]
    return a * (np.triu(np.ones((q, q)), 1) + 0.5 * np.eye(q))[:, :, None]


def gram(a: Device, b: Device) -> Device:
    """Return the matrix (k, k) of sums of products of a[i] and b[j] over all axes but the first."""
    return a.reshape(a.shape[0], -1) @ b.reshape(b.shape[0], -1).T


def total(a: Device, b: Device) -> Device:
    """Return the sum of a[i] * b over all axes of b, for each i (k,)."""
    return a.reshape(a.shape[0], -1) @ b.reshape(-1)


def symmetric(function: Callable[..., Device], q: int, order: int) -> Device:
    """Return the array of order 2 or 3 whose entry is a function of its sorted indices, each below q."""
    kept = {index: function(*index) for index in combinations_with_replacement(range(q), order)}
    flat = jnp.stack([kept[tuple(sorted(index))] for index in product(range(q), repeat=order)])
    return flat.reshape(*[q] * order, *flat.shape[1:])
