"""Bijections on matrices, the two trailing axes: covariance, its factor, and correlation matrix.

- covariance: S = L L', L lower triangular with log diagonal (log-Cholesky);
- lower factor: L itself, with diagonal entries >= 0;
- correlation: R = L L', the rows of L on the unit sphere by canonical partial correlations z = tanh(u):
  L_ij = z_ij prod_{k<j} sech(u_ik), L_ii = prod_{k<i} sech(u_ik).
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.typing import ArrayLike

from mlejax.transforms.elementwise import (
    Box,
    Identity,
    Log,
    Logit,
    Shape,
    Transform,
    as_float,
    first_bad,
    indices,
)
from mlejax.transforms.structured import SLACK, Structured

_LOG_2 = float(np.log(2.0))


def _lower(d: int, strict: bool) -> tuple[np.ndarray, np.ndarray]:
    """Return the row and the column indices of the lower triangle of a d x d matrix, row by row; without its diagonal if
    ``strict``.
    """
    return np.tril_indices(d, -1 if strict else 0)


def _positions(d: int, strict: bool, mirror: bool) -> np.ndarray:
    """Return, for each entry of a d x d matrix, its position in the packed lower triangle, (d, d).

    Entries outside of the triangle get the position one past its end; with ``mirror`` those above the diagonal get that of their
    mirror image. ``strict``: the triangle is without its diagonal.
    """
    rows, cols = _lower(d, strict)
    at = np.full((d, d), len(rows))
    at[rows, cols] = np.arange(len(rows))
    if mirror:
        at[cols, rows] = np.arange(len(rows))
    return at


def _unpack(packed: jax.Array, d: int, strict: bool, mirror: bool = False, fill: float = 0.0) -> jax.Array:
    """Return matrices, (..., d, d), from packed lower triangles, (..., k), with ``fill`` in all other entries; with ``mirror``
    they are symmetric. ``strict``: the triangles are without the diagonal.
    """
    pad = jnp.full((*packed.shape[:-1], 1), fill, packed.dtype)
    return jnp.concatenate([packed, pad], axis=-1)[..., _positions(d, strict, mirror)]


def _gram(factor: jax.Array) -> jax.Array:
    """Return L L' of factors L, (..., d, d), exactly symmetric."""
    product = jnp.matmul(factor, jnp.swapaxes(factor, -1, -2), precision=lax.Precision.HIGHEST)
    return 0.5 * (product + jnp.swapaxes(product, -1, -2))


def _matrix_problem(a: np.ndarray, unit_diagonal: bool) -> str | None:
    """Return a phrase on the first thing that is wrong with finite matrices (..., d, d): diagonal, symmetry, range or
    definiteness; None if they are covariance matrices, or, if ``unit_diagonal``, correlation matrices.
    """
    d = a.shape[-1]
    diagonal = np.eye(d, dtype=bool)
    if unit_diagonal:
        bad = diagonal & (np.abs(a - 1.0) > SLACK)
        found = first_bad(a, bad, "1 on the diagonal of a correlation matrix")
    else:
        found = first_bad(a, diagonal & (a <= 0), "a variance > 0")
    if found:
        return found
    scale = np.sqrt(np.diagonal(a, axis1=-2, axis2=-1))
    unit = a / scale[..., :, None] / scale[..., None, :]
    for i in np.argwhere(np.abs(unit - np.swapaxes(unit, -1, -2)) > SLACK):
        at, mirror = tuple(i.tolist()), (*i[:-2].tolist(), int(i[-1]), int(i[-2]))
        if at[-2] > at[-1]:
            return (
                f"not symmetric: entry {list(at)} is {float(a[at])!r}, but entry {list(mirror)} is {float(a[mirror])!r}"
            )
    if unit_diagonal:
        found = first_bad(a, np.tril(np.abs(a) >= 1.0, -1), "a correlation between -1 and 1")
        if found:
            return found
    for index in np.ndindex(*a.shape[:-2]):
        # On the correlation scale, so that the units of the variables do not matter.
        smallest = float(np.linalg.eigvalsh(unit[index])[0])
        if smallest <= d * np.finfo(np.float64).eps:
            matrix = f"matrix {list(index)} is " if index else ""
            return f"{matrix}not positive definite: the smallest eigenvalue of its correlations is {smallest:.3g}"
    return None


class Triangular(Structured):
    """Base class of bijections of matrices on the last two axes, whose coordinates are a lower triangle, row by row.

    Attributes:
        strict: True if the triangle is without the diagonal, which is 1.
    """

    strict: ClassVar[bool]

    def _matrices(self, shape: Shape) -> tuple[Shape, int]:
        """Return the leading shape and the dimension d of a shape (..., d, d); ValueError for any other shape."""
        if len(shape) < 2 or shape[-1] != shape[-2] or shape[-1] < 1:
            name = type(self).__name__
            raise ValueError(f"{name}: expected a shape (..., d, d) of square matrices, got {tuple(shape)}")
        return tuple(shape[:-2]), shape[-1]

    def _packed(self, x: ArrayLike, shape: Shape) -> jax.Array:
        """Return coordinates x, (k,), as packed triangles, one for each of the stacked matrices of this shape, (..., d (d + 1)
        / 2) or, without the diagonal, (..., d (d - 1) / 2).
        """
        lead, d = self._matrices(shape)
        return as_float(x).reshape(*lead, len(_lower(d, self.strict)[0]))

    def n_free(self, shape: Shape) -> int:
        lead, d = self._matrices(shape)
        return prod(lead) * len(_lower(d, self.strict)[0])

    def free(self, value: ArrayLike) -> jax.Array:
        v = as_float(value)
        rows, cols = _lower(v.shape[-1], self.strict)
        return v[..., rows, cols].reshape(-1)

    def expand(self, theta: ArrayLike, shape: Shape) -> jax.Array:
        return _unpack(self._packed(theta, shape), shape[-1], self.strict, mirror=True, fill=float(self.strict))

    def reported(self, shape: Shape) -> tuple[Shape, ...]:
        lead, d = self._matrices(shape)
        rows, cols = _lower(d, self.strict)
        return tuple((*i, int(r), int(c)) for i in indices(lead) for r, c in zip(rows, cols, strict=True))

    def _outside(self, a: np.ndarray) -> str | None:
        return self._impossible(a) or _matrix_problem(a, unit_diagonal=self.strict)


@dataclass(frozen=True)
class Covariance(Triangular):
    """Symmetric positive definite matrices on the last two axes: S = L L' with a log diagonal of L.

    The coordinates are the lower triangle of L row by row, its diagonal entries in logarithms.

    Example:
        >>> Covariance().forward([0.0, 1.0, 0.0], (2, 2)).tolist()
        [[1.0, 1.0], [1.0, 2.0]]
    """

    strict: ClassVar[bool] = False

    def forward(self, u: ArrayLike, shape: Shape) -> jax.Array:
        packed, d = self._packed(u, shape), shape[-1]
        rows, cols = _lower(d, strict=False)
        on_diagonal = rows == cols
        # The inner where keeps exp of a large off-diagonal entry from overflowing into the derivatives.
        packed = jnp.where(on_diagonal, jnp.exp(jnp.where(on_diagonal, packed, 0.0)), packed)
        return _gram(_unpack(packed, d, strict=False))

    def inverse(self, value: ArrayLike) -> jax.Array:
        factor = jnp.linalg.cholesky(as_float(value))
        rows, cols = _lower(factor.shape[-1], strict=False)
        packed = factor[..., rows, cols]
        on_diagonal = rows == cols
        return jnp.where(on_diagonal, jnp.log(jnp.where(on_diagonal, packed, 1.0)), packed).reshape(-1)

    def interval_links(self, shape: Shape) -> tuple[Transform, ...]:
        return tuple(Log() if i[-1] == i[-2] else Identity() for i in self.reported(shape))


@dataclass(frozen=True)
class Cholesky(Triangular):
    """Lower triangular matrices on the last two axes, with diagonal entries >= 0: factors L of covariances L L'.

    The coordinates are the entries of the lower triangle row by row; those of the diagonal are bounded below by 0, so that the
    covariance may be singular at the estimate.

    Example:
        >>> Cholesky().forward([1.0, 2.0, 0.0], (2, 2)).tolist()
        [[1.0, 0.0], [2.0, 0.0]]
    """

    strict: ClassVar[bool] = False
    unchanged: ClassVar[bool] = True

    def forward(self, u: ArrayLike, shape: Shape) -> jax.Array:
        return self.expand(u, shape)

    def inverse(self, value: ArrayLike) -> jax.Array:
        return self.free(value)

    def expand(self, theta: ArrayLike, shape: Shape) -> jax.Array:
        return _unpack(self._packed(theta, shape), shape[-1], self.strict)

    def bounds(self, shape: Shape) -> tuple[np.ndarray, np.ndarray]:
        on_diagonal = np.array([i[-1] == i[-2] for i in self.reported(shape)])
        return np.where(on_diagonal, 0.0, -np.inf), np.full(len(on_diagonal), np.inf)

    def interval_links(self, shape: Shape) -> tuple[Transform, ...]:
        return tuple(Box(0.0, np.inf) if i[-1] == i[-2] else Identity() for i in self.reported(shape))

    def _outside(self, a: np.ndarray) -> str | None:
        if found := self._impossible(a):
            return found
        d = a.shape[-1]
        return first_bad(a, np.triu(a != 0.0, 1), "0 above the diagonal of a lower factor") or first_bad(
            a, np.eye(d, dtype=bool) & (a < 0), ">= 0 on the diagonal of a factor"
        )


@dataclass(frozen=True)
class Correlation(Triangular):
    """Correlation matrices on the last two axes, by canonical partial correlations tanh(u).

    The coordinates are the strict lower triangle row by row; for d = 2 the correlation is tanh(u). The diagonal of
    the value is exactly 1.

    Example:
        >>> Correlation().forward([0.0], (2, 2)).tolist()
        [[1.0, 0.0], [0.0, 1.0]]
    """

    strict: ClassVar[bool] = True

    def forward(self, u: ArrayLike, shape: Shape) -> jax.Array:
        d = shape[-1]
        z = _unpack(self._packed(u, shape), d, strict=True)
        log_sech = _LOG_2 - jnp.logaddexp(z, -z)
        before = jnp.concatenate([jnp.zeros_like(log_sech[..., :1]), log_sech[..., :-1]], axis=-1)
        remaining = jnp.exp(jnp.cumsum(before, axis=-1))
        identity = jnp.eye(d, dtype=z.dtype)
        product = _gram((jnp.tanh(z) + identity) * remaining)
        return jnp.where(identity == 1.0, identity, product)

    def inverse(self, value: ArrayLike) -> jax.Array:
        factor = jnp.linalg.cholesky(as_float(value))
        d = factor.shape[-1]
        # Norm of what is left of each row to the right of column j: sinh(u_ij) = L_ij / that norm, no cancellation.
        from_here = jnp.flip(jnp.cumsum(jnp.flip(jnp.square(factor), -1), -1), -1)
        rows, cols = _lower(d, strict=True)
        return jnp.arcsinh(factor[..., rows, cols] / jnp.sqrt(from_here[..., rows, cols + 1])).reshape(-1)

    def interval_links(self, shape: Shape) -> tuple[Transform, ...]:
        return (Logit(-1.0, 1.0),) * self.n_free(shape)
