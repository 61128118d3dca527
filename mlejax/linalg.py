"""Safeguarded linear algebra for small symmetric matrices.

Nothing here raises inside `jit`, and nothing returns NaN to mean failure: a success flag comes with every result, and a
failed result is finite (it was computed from harmless stand-ins), so that selecting by the flag is safe under `vmap`
and differentiation.

    unit_diagonal   A = D^1/2 C D^1/2 with C of unit diagonal (the test of definiteness is made on C: rescaling the
                    variables must not change the answer)
    cholesky        C = L L', flag
    solve_spd       C x = b through the LDL' factors, flag; written out entry by entry for small matrices
    scaled_inverse  an inverse on the host, in NumPy, with the eigenvalues of C

A matrix is accepted as positive definite when its pivots, or the eigenvalues of C, exceed a small multiple of p times
the rounding unit: below that their sign is not known (Higham 2002, Accuracy and Stability of Numerical Algorithms,
sec. 10.1).
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

__all__ = [
    "ScaledInverse",
    "cholesky",
    "pivot_floor",
    "rounding_unit",
    "scaled_inverse",
    "solve_spd",
    "solve_spd_host",
    "unit_diagonal",
]

# Written out entry by entry up to this size: faster than a library call per matrix, several times so in batches of tiny
# systems. Above it the program would take longer to compile than it ever saves.
UNROLLED = 5
REMEMBERED_SIZE = 32  # up to which inverses of the same matrix are computed once


def pivot_floor(p: int, dtype: Any) -> float:
    """Smallest pivot of a unit-diagonal p x p matrix that counts as positive: 450 p eps, 1e-13 p in float64.

    Example:
        >>> import numpy as np
        >>> from mlejax.linalg import pivot_floor
        >>> f"{pivot_floor(4, np.float64):.1e}"
        '4.0e-13'
    """
    return 450.0 * max(p, 1) * rounding_unit(dtype)


@lru_cache
def rounding_unit(dtype: Any) -> float:
    """The distance from 1 to the next number, 2.2e-16 in float64."""
    return float(np.finfo(dtype).eps)


def unit_diagonal(A: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Scale a symmetric matrix to unit diagonal.

    Args:
        A: symmetric, shape (p, p).

    Returns:
        (C, root, ok): C = A / (root root'), root = sqrt(diag A) with 1 where the diagonal is not positive and finite,
        and whether every diagonal entry was.

    Example:
        >>> import jax.numpy as jnp
        >>> from mlejax.linalg import unit_diagonal
        >>> C, root, ok = unit_diagonal(jnp.array([[4.0, 1.0], [1.0, 9.0]]))
        >>> root.tolist(), bool(ok)
        ([2.0, 3.0], True)
    """
    diagonal = jnp.diagonal(A)
    good = (diagonal > 0) & jnp.isfinite(diagonal)
    root = jnp.sqrt(jnp.where(good, diagonal, 1.0))
    return A / root[:, None] / root[None, :], root, jnp.all(good)


def cholesky(A: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Lower Cholesky factor of a symmetric matrix of unit (or about unit) diagonal, with a success flag.

    Args:
        A: symmetric, shape (p, p).

    Returns:
        (L, ok): L with A = L L' when ok, else the identity; ok is False for a pivot at or below `pivot_floor`.

    Example:
        >>> import jax.numpy as jnp
        >>> from mlejax.linalg import cholesky
        >>> L, ok = cholesky(jnp.array([[1.0, 2.0], [2.0, 1.0]]))
        >>> bool(ok), L.tolist()
        (False, [[1.0, 0.0], [0.0, 1.0]])
    """
    p = A.shape[-1]
    eye = jnp.eye(p, dtype=A.dtype)
    if p == 0:
        return eye, jnp.asarray(True)
    finite = jnp.all(jnp.isfinite(A))
    # a failed factorisation is computed again from the identity, so that derivatives of the kept branch stay finite
    trial = jax.lax.stop_gradient(jnp.linalg.cholesky(jnp.where(finite, A, eye)))
    pivots = jnp.diagonal(trial) ** 2
    ok = finite & jnp.all(pivots > pivot_floor(p, A.dtype))  # NaN compares as False
    return jnp.linalg.cholesky(jnp.where(ok, A, eye)), ok


def solve_spd(A: jax.Array, b: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Solve A x = b for a symmetric positive definite A of unit (or about unit) diagonal.

    Args:
        A: symmetric, shape (p, p).
        b: shape (p,).

    Returns:
        (x, ok): the solution, and whether all pivots exceeded `pivot_floor`; x is finite but meaningless otherwise
        (as long as b is finite).

    Example:
        >>> import jax.numpy as jnp
        >>> from mlejax.linalg import solve_spd
        >>> x, ok = solve_spd(jnp.array([[1.0, 0.5], [0.5, 1.0]]), jnp.array([1.5, 1.5]))
        >>> [round(float(v), 6) for v in x], bool(ok)
        ([1.0, 1.0], True)
    """
    p = A.shape[-1]
    if p == 0:
        return b, jnp.asarray(True)
    eye = jnp.eye(p, dtype=A.dtype)
    A = jnp.where(jnp.all(jnp.isfinite(A)), A, -eye)
    if p <= UNROLLED:
        return _solve_unrolled(A, b)
    L = jnp.linalg.cholesky(A)
    pivots = jnp.diagonal(L) ** 2
    ok = jnp.all(pivots > pivot_floor(p, A.dtype))
    return jax.scipy.linalg.cho_solve((jnp.where(ok, L, eye), True), b), ok


def _solve_unrolled(A: jax.Array, b: jax.Array) -> tuple[jax.Array, jax.Array]:
    """LDL' entry by entry: no array operation, so that a batch of systems becomes one elementwise kernel."""
    p = A.shape[-1]
    floor = pivot_floor(p, A.dtype)
    L: list[list[Any]] = [[None] * p for _ in range(p)]
    pivots: list[Any] = []
    ok = jnp.asarray(True)
    for j in range(p):
        pivot = A[j, j]
        for k in range(j):
            pivot = pivot - L[j][k] * L[j][k] * pivots[k]
        good = pivot > floor
        ok = ok & good
        pivots.append(jnp.where(good, pivot, 1.0))
        for i in range(j + 1, p):
            entry = A[i, j]
            for k in range(j):
                entry = entry - L[i][k] * L[j][k] * pivots[k]
            L[i][j] = jnp.where(good, entry, 0.0) / pivots[j]
    x: list[Any] = [b[i] for i in range(p)]
    for i in range(p):
        for k in range(i):
            x[i] = x[i] - L[i][k] * x[k]
    x = [x[i] / pivots[i] for i in range(p)]
    for i in range(p - 1, -1, -1):
        for k in range(i + 1, p):
            x[i] = x[i] - L[k][i] * x[k]
    return jnp.stack(x), ok


def solve_spd_host(A: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, np.bool_]:
    """`solve_spd` on the host, in NumPy: the same test on the same pivots.

    Args:
        A: symmetric, of unit (or about unit) diagonal, shape (p, p).
        b: shape (p,).

    Returns:
        (x, ok): the solution, and whether all pivots exceeded `pivot_floor`; x is b where they did not.

    Example:
        >>> import numpy as np
        >>> from mlejax.linalg import solve_spd_host
        >>> x, ok = solve_spd_host(np.array([[1.0, 0.5], [0.5, 1.0]]), np.array([1.5, 1.5]))
        >>> x.round(12).tolist(), bool(ok)
        ([1.0, 1.0], True)
    """
    if A.shape[-1] <= UNROLLED:
        return _solve_unrolled_host(A, b)
    try:
        pivots = np.linalg.cholesky(A).diagonal() ** 2
    except np.linalg.LinAlgError:
        return b, np.False_
    if not (pivots > pivot_floor(A.shape[-1], A.dtype)).all():  # NaN compares as False
        return b, np.False_
    return np.linalg.solve(A, b), np.True_


def _solve_unrolled_host(A: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, np.bool_]:
    """`_solve_unrolled` in Python's numbers: for so small a system a tenth of the time of two calls of LAPACK."""
    rows, x = A.tolist(), b.tolist()
    p, floor = len(x), pivot_floor(len(x), A.dtype)
    pivots: list[float] = []
    for j in range(p):
        row = rows[j]
        for k in range(j):  # rows[j][k] becomes L_jk
            entry = row[k]
            for i in range(k):
                entry -= row[i] * rows[k][i] * pivots[i]
            row[k] = entry / pivots[k]
        pivot = row[j]
        for k in range(j):
            pivot -= row[k] * row[k] * pivots[k]
            x[j] -= row[k] * x[k]
        if not floor < pivot < np.inf:  # NaN compares as False
            return b, np.False_
        pivots.append(pivot)
    for i in range(p - 1, -1, -1):
        x[i] /= pivots[i]
        for k in range(i + 1, p):
            x[i] -= rows[k][i] * x[k]
    return np.array(x, A.dtype), np.True_


class ScaledInverse(NamedTuple):
    """An inverse with the evidence for trusting it.

    Attributes:
        inverse: shape (p, p); NaN throughout when refused.
        ok: whether the matrix is finite and safely positive definite.
        smallest: smallest eigenvalue of the matrix scaled to unit diagonal (NaN when it cannot be scaled).
        condition: ratio of the largest to the smallest of those eigenvalues (inf when not positive).
    """

    inverse: np.ndarray
    ok: bool
    smallest: float
    condition: float


def scaled_inverse(A: Any) -> ScaledInverse:
    """Inverse of a symmetric positive definite matrix on the host, refused when it cannot be trusted.

    Scales to unit diagonal, C = D^-1/2 A D^-1/2, and inverts C by its eigenvalues; A^-1 = D^-1/2 C^-1 D^-1/2. Refused
    unless A is finite, its diagonal is positive and the smallest eigenvalue of C exceeds p * 1e-13: eigenvalues of C
    are known to about p eps, so below that even the sign, let alone the inverse, is mostly rounding.

    Args:
        A: symmetric, shape (p, p), anything NumPy reads.

    Returns:
        `ScaledInverse(inverse, ok, smallest, condition)`.

    Raises:
        ValueError: A is not square.

    Example:
        >>> from mlejax.linalg import scaled_inverse
        >>> scaled_inverse([[4.0, 0.0], [0.0, 1e-12]]).inverse.tolist()
        [[0.25, 0.0], [0.0, 1000000000000.0]]
        >>> scaled_inverse([[1.0, 1.0], [1.0, 1.0]]).ok
        False
    """
    A = np.asarray(A, np.float64)
    if A.ndim != 2 or A.shape[0] != A.shape[1]:
        raise ValueError(f"expected a square matrix, got shape {A.shape}")
    p = A.shape[0]
    if p == 0:
        return ScaledInverse(A.copy(), True, 1.0, 1.0)
    if p > REMEMBERED_SIZE:
        return _scaled_inverse(A)
    found = _remembered(A.tobytes(), p)
    return found._replace(inverse=found.inverse.copy())


@lru_cache(maxsize=256)
def _remembered(content: bytes, p: int) -> ScaledInverse:
    """The end of a fit is looked at by several rules, each of which asks for the inverse of the same small matrix."""
    return _scaled_inverse(np.frombuffer(content).reshape(p, p))


def _scaled_inverse(A: np.ndarray) -> ScaledInverse:
    p = A.shape[0]
    refused = np.full((p, p), np.nan)
    if not np.all(np.isfinite(A)) or not np.all(np.diagonal(A) > 0):
        return ScaledInverse(refused, False, float("nan"), float("inf"))
    root = np.sqrt(np.diagonal(A))
    C = A / root[:, None] / root[None, :]
    values, vectors = np.linalg.eigh((C + C.T) / 2)
    smallest, largest = float(values[0]), float(values[-1])
    condition = largest / smallest if smallest > 0 else float("inf")
    if not smallest > p * 1e-13:
        return ScaledInverse(refused, False, smallest, condition)
    inverse = (vectors / values) @ vectors.T / root[:, None] / root[None, :]
    inverse = (inverse + inverse.T) / 2
    if not np.all(np.isfinite(inverse)):
        return ScaledInverse(refused, False, smallest, condition)
    return ScaledInverse(inverse, True, smallest, condition)
