"""Safeguarded linear algebra for small symmetric matrices.

Nothing here raises inside `jit`, and every result comes with a boolean ``ok``.  If it is False, the result of a traced function
is finite (computed from the identity instead), so that selecting by ``ok`` is safe under `vmap` and differentiation; that of
`scaled_inverse` is NaN.

    unit_diagonal   A = D^1/2 C D^1/2 with C of unit diagonal; definiteness is tested on C, so that the units of the
                    variables do not matter
    cholesky        C = L L', flag
    solve_spd       C x = b by the LDL' factors, flag; written out entry by entry for small matrices
    solve_scaled    A x = b by those of C
    scaled_inverse  an inverse on the host, in NumPy, with the eigenvalues of C

A matrix counts as positive definite if its pivots, or the eigenvalues of C, exceed a small multiple of p times the rounding
unit: below that their sign is not known (Higham 2002, Accuracy and Stability of Numerical Algorithms, sec. 10.1).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import ArrayLike

from mlejax.shapes import Bool, Device, Float, Host, Shaped

__all__ = [
    "ScaledInverse",
    "all_finite",
    "cholesky",
    "pivot_floor",
    "rounding_unit",
    "scaled_inverse",
    "solve_scaled",
    "solve_scaled_host",
    "solve_spd",
    "solve_spd_host",
    "unit_diagonal",
]

# Up to this size systems are written out entry by entry, which is faster than one library call per matrix; above it the
# program would take longer to compile than it ever saves.
UNROLLED = 5
FEW = 64  # numbers up to which Python's own functions are faster than NumPy's


def pivot_floor(p: int, dtype: Any) -> float:
    """Return the bound above which a pivot of a p x p matrix of unit diagonal counts as positive: 450 p eps, 1e-13 p in float64.

    Example:
        >>> import numpy as np
        >>> from mlejax.linalg import pivot_floor
        >>> f"{pivot_floor(4, np.float64):.1e}"
        '4.0e-13'
    """
    return 450.0 * max(p, 1) * rounding_unit(dtype)


@lru_cache
def rounding_unit(dtype: Any) -> float:
    """Return the distance from 1 to the next larger number of a floating-point dtype: 2.2e-16 in float64."""
    return float(np.finfo(dtype).eps)


def all_finite(a: Shaped[Host, ...]) -> bool:
    """True if all entries of a NumPy array are finite, or if it is empty.

    Example:
        >>> import numpy as np
        >>> from mlejax.linalg import all_finite
        >>> all_finite(np.array([1.0, 1e200])), all_finite(np.array([1.0, np.nan]))
        (True, False)
    """
    return all(map(math.isfinite, a.ravel().tolist())) if a.size <= FEW else bool(np.isfinite(a).all())


def unit_diagonal(
    A: Float[Device, "p p"],
) -> tuple[Float[Device, "p p"], Float[Device, " p"], Bool[Device, ""]]:
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


def cholesky(A: Float[Device, "p p"]) -> tuple[Float[Device, "p p"], Bool[Device, ""]]:
    """Return the lower Cholesky factor of a symmetric matrix of unit (or about unit) diagonal, and whether it is one.

    Args:
        A: symmetric, shape (p, p).

    Returns:
        (L, ok): L with A = L L' if ok, else the identity; ok is False if an entry of A is not finite, or a squared diagonal
        entry of L is not above `pivot_floor`.

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


def solve_spd(A: Float[Device, "p p"], b: Float[Device, " p"]) -> tuple[Float[Device, " p"], Bool[Device, ""]]:
    """Solve A x = b for a symmetric positive definite A of unit (or about unit) diagonal.

    Args:
        A: symmetric, shape (p, p).
        b: shape (p,).

    Returns:
        (x, ok): the solution, and whether A is finite and all pivots exceed `pivot_floor`; otherwise x is meaningless, but
        finite if b is.

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
        entries = [[A[i, j] for j in range(i + 1)] for i in range(p)]
        x, ok = _solve_entries(entries, [b[i] for i in range(p)], pivot_floor(p, A.dtype), jnp.where)
        return jnp.stack(x), ok
    L = jnp.linalg.cholesky(A)
    pivots = jnp.diagonal(L) ** 2
    ok = jnp.all(pivots > pivot_floor(p, A.dtype))
    return jax.scipy.linalg.cho_solve((jnp.where(ok, L, eye), True), b), ok


def _solve_entries(
    A: Sequence[Any], b: Sequence[Any], floor: float, where: Callable[..., Any]
) -> tuple[list[Any], Any]:
    """Solve A x = b by LDL' factors, entry by entry, for JAX arrays or Python numbers.

    Args:
        A: p sequences of p numbers, of which the lower triangle is read.
        b: p numbers.
        floor: smallest accepted ratio of a pivot to the diagonal entry of A.
        where: as `jnp.where`, for these numbers.

    Returns:
        x as p numbers, meaningless unless all pivots exceed the floor; and whether they do.
    """
    p = len(A)
    L: list[list[Any]] = [[] for _ in range(p)]
    pivots: list[Any] = []
    ok: Any = True
    for j in range(p):
        pivot = A[j][j]
        for k in range(j):
            pivot = pivot - L[j][k] * L[j][k] * pivots[k]
        good = pivot > floor * A[j][j]  # NaN compares as False
        ok = ok & good
        sure = good is True  # of Python numbers: nothing to choose
        pivots.append(pivot if sure else where(good, pivot, 1.0))
        for i in range(j + 1, p):
            entry = A[i][j]
            for k in range(j):
                entry = entry - L[i][k] * L[j][k] * pivots[k]
            L[i].append((entry if sure else where(good, entry, 0.0)) / pivots[j])
    x = list(b)
    for i in range(p):
        for k in range(i):
            x[i] = x[i] - L[i][k] * x[k]
    x = [x[i] / pivots[i] for i in range(p)]
    for i in range(p - 1, -1, -1):
        for k in range(i + 1, p):
            x[i] = x[i] - L[k][i] * x[k]
    return x, ok


def solve_spd_host(A: Float[Host, "p p"], b: Float[Host, " p"]) -> tuple[Float[Host, " p"], np.bool_]:
    """Solve A x = b as `solve_spd` does, in NumPy.

    Args:
        A: symmetric, of unit (or about unit) diagonal, shape (p, p).
        b: shape (p,).

    Returns:
        (x, ok): the solution, and whether A is finite and all pivots exceed `pivot_floor`; x is b if not.

    Example:
        >>> import numpy as np
        >>> from mlejax.linalg import solve_spd_host
        >>> x, ok = solve_spd_host(np.array([[1.0, 0.5], [0.5, 1.0]]), np.array([1.5, 1.5]))
        >>> x.round(12).tolist(), bool(ok)
        ([1.0, 1.0], True)
    """
    p = A.shape[-1]
    floor = pivot_floor(p, A.dtype)
    if p <= UNROLLED:
        x, ok = _solve_entries(A.tolist(), b.tolist(), floor, lambda condition, yes, no: yes if condition else no)
        return (np.array(x, A.dtype), np.True_) if ok else (b, np.False_)
    try:
        pivots = np.linalg.cholesky(A).diagonal() ** 2
    except np.linalg.LinAlgError:
        return b, np.False_
    if not (pivots > floor).all():  # NaN compares as False
        return b, np.False_
    return np.linalg.solve(A, b), np.True_


def solve_scaled(
    A: Float[Device, "p p"], b: Float[Device, " p"]
) -> tuple[Float[Device, " p"], Float[Device, ""], Bool[Device, ""]]:
    """Solve A x = b for a symmetric positive definite A of any scales, through C of unit diagonal.

    Args:
        A: symmetric, shape (p, p).
        b: shape (p,).

    Returns:
        (x, b'x, ok): the solution, its product with b, and whether A is finite and all pivots of C exceed `pivot_floor`;
        otherwise the first two are meaningless, but finite if b is. Up to 5 rows the pivots of A are compared with its diagonal
        instead, without scaling.

    Example:
        >>> import jax.numpy as jnp
        >>> from mlejax.linalg import solve_scaled
        >>> x, product, ok = solve_scaled(jnp.array([[4.0, 0.0], [0.0, 0.25]]), jnp.array([8.0, 0.5]))
        >>> x.tolist(), float(product), bool(ok)
        ([2.0, 2.0], 17.0, True)
    """
    if A.shape[-1] <= UNROLLED:
        x, ok = solve_spd(A, b)
        return x, (x * b).sum(), ok
    diagonal = A.diagonal()
    root = jnp.sqrt(jnp.where(diagonal > 0, diagonal, 1.0))
    scaled = b / root
    # where the diagonal is not positive, neither is a pivot
    x, ok = solve_spd(A / root[:, None] / root[None, :], scaled)
    return x / root, (x * scaled).sum(), ok


def solve_scaled_host(A: Float[Host, "p p"], b: Float[Host, " p"]) -> tuple[Float[Host, " p"], np.float64, np.bool_]:
    """Solve A x = b as `solve_scaled` does, in NumPy: return (x, b'x, ok); the first two are meaningless if not ok.

    Example:
        >>> import numpy as np
        >>> from mlejax.linalg import solve_scaled_host
        >>> x, product, ok = solve_scaled_host(np.array([[4.0, 0.0], [0.0, 0.25]]), np.array([8.0, 0.5]))
        >>> x.tolist(), float(product), bool(ok)
        ([2.0, 2.0], 17.0, True)
    """
    if A.shape[-1] <= UNROLLED:
        x, ok = solve_spd_host(A, b)
        return x, x.dot(b), ok
    diagonal = A.diagonal()
    root = np.sqrt(np.where(diagonal > 0, diagonal, 1.0))
    scaled = b / root
    x, ok = solve_spd_host(A / root[:, None] / root[None, :], scaled)
    return x / root, np.float64(x.dot(scaled)), ok


class ScaledInverse(NamedTuple):
    """The inverse of a matrix, with eigenvalues that show how accurate it is.

    Attributes:
        inverse: inverse, (p, p); NaN throughout if not ``ok``.
        ok: whether the matrix is finite and safely positive definite.
        smallest: smallest eigenvalue of the matrix scaled to unit diagonal; NaN if it is not finite or its diagonal not positive.
        condition: ratio of the largest to the smallest of those eigenvalues; inf if the smallest is not positive or NaN.
    """

    inverse: Float[Host, "p p"]
    ok: bool
    smallest: float
    condition: float


def scaled_inverse(A: ArrayLike) -> ScaledInverse:
    """Invert a symmetric positive definite matrix in NumPy; NaN if it is not safely positive definite.

    Scales to unit diagonal, C = D^-1/2 A D^-1/2, and inverts C by its eigenvalues; A^-1 = D^-1/2 C^-1 D^-1/2. It is ``ok`` if
    A and its inverse are finite, the diagonal of A is positive and the smallest eigenvalue of C exceeds p * 1e-13: eigenvalues
    of C are accurate to about p eps, so that below that even their sign is mostly rounding error. The empty matrix is ``ok``.

    Args:
        A: symmetric, shape (p, p), anything that NumPy converts to an array.

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
    diagonal = A.diagonal()
    if not all_finite(A) or not (diagonal > 0).all():
        return ScaledInverse(np.full((p, p), np.nan), False, float("nan"), float("inf"))
    root = np.sqrt(diagonal)
    C = A / root[:, None] / root[None, :]
    values, vectors = np.linalg.eigh((C + C.T) / 2)
    smallest, largest = float(values[0]), float(values[-1])
    condition = largest / smallest if smallest > 0 else float("inf")
    if not smallest > p * 1e-13:
        return ScaledInverse(np.full((p, p), np.nan), False, smallest, condition)
    inverse = (vectors / values) @ vectors.T / root[:, None] / root[None, :]
    inverse = (inverse + inverse.T) / 2
    if not all_finite(inverse):
        return ScaledInverse(np.full((p, p), np.nan), False, smallest, condition)
    return ScaledInverse(inverse, True, smallest, condition)
