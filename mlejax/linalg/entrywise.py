"""Small linear systems written out entry by entry, so that under ``vmap`` each entry is a vector and LAPACK is not called."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp

from mlejax.shapes import Either

Entries = list[list[Any]]  # lower triangle, row by row


def cholesky(matrix: Either, safe: bool = False) -> Entries:
    """Return the lower Cholesky factor of a symmetric matrix as a list of rows of entries.

    Args:
        matrix: the matrix, (q, q) with small q, of which the lower triangle is read.
        safe: if True, pivots that are not clearly positive are replaced by positive ones (modified Cholesky factorisation),
            which is suitable for ascent directions, not for determinants; if False, entries are NaN or infinite unless the
            matrix is positive definite.
    """
    q = matrix.shape[0]
    factor: Entries = []
    for i in range(q):
        row: list[Any] = []
        for j in range(i):
            row.append((matrix[i, j] - _dot(row, factor[j][:j])) / factor[j][j])
        pivot = matrix[i, i] - _dot(row, row)
        if safe:
            least = 1e-6 * jnp.abs(matrix[i, i]) + 1e-10
            pivot = jnp.where(pivot > least, pivot, jnp.maximum(jnp.abs(pivot), 1e-2 * jnp.abs(matrix[i, i]) + 1e-3))
        row.append(jnp.sqrt(pivot))
        factor.append(row)
    return factor


def _dot(a: Sequence[Any], b: Any) -> Either:
    """Return the sum of products of the entries of two sequences, (), as far as the shorter one goes."""
    return sum((x * y for x, y in zip(a, b, strict=False)), jnp.zeros(()))


def solve_lower(factor: Entries, b: Any) -> list[Any]:
    """Return L^-1 b, as a list of q entries, for a lower factor L and b, (q,) or a sequence of q entries."""
    out: list[Any] = []
    for i, row in enumerate(factor):
        out.append((b[i] - _dot(row, out)) / row[i])
    return out


def solve_upper(factor: Entries, b: Any) -> list[Any]:
    """Return L'^-1 b, as a list of q entries, for a lower factor L and b, (q,) or a sequence of q entries."""
    q = len(factor)
    out: list[Any] = [None] * q
    for i in reversed(range(q)):
        rest = [factor[k][i] for k in range(i + 1, q)]
        out[i] = (b[i] - _dot(rest, out[i + 1 :])) / factor[i][i]
    return out


def solve(factor: Entries, b: Any) -> Either:
    """Return (L L')^-1 b, (q,), for a lower factor L."""
    return jnp.stack(solve_upper(factor, solve_lower(factor, b)))


def multiply(factor: Entries, b: Any) -> Any:
    """Return L b, (q,), for a lower factor L."""
    return jnp.stack([_dot(row, b) for row in factor])


def rows_of(matrix: Either) -> Entries:
    """Return the lower triangle of a matrix, (q, q), as a list of rows of entries."""
    return [[matrix[i, j] for j in range(i + 1)] for i in range(matrix.shape[0])]


def log_diagonal(factor: Entries) -> Either:
    """Return log det L of a lower factor, (): the sum of the logarithms of its diagonal."""
    return sum((jnp.log(row[-1]) for row in factor), jnp.zeros(()))
