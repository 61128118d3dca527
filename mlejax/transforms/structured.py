"""Structured bijections on the trailing axes: simplex, ordered vector, covariance, its factor, and correlation matrix.

- simplex: baseline softmax, the last entry is the baseline;
- ordered: the first entry, then logarithms of the differences;
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

_LOG_2 = float(np.log(2.0))
# How far a typed or computed value may be from a sum of 1, a unit diagonal or symmetry before it is refused.
_SLACK = 1e-8


def _vector_shape(name: str, shape: Shape, smallest: int) -> tuple[Shape, int]:
    """Leading shape and length of the last axis."""
    if len(shape) < 1 or shape[-1] < smallest:
        raise ValueError(f"{name}: expected a shape (..., K) with K >= {smallest}, got {tuple(shape)}")
    return tuple(shape[:-1]), shape[-1]


def _lower(d: int, strict: bool) -> tuple[np.ndarray, np.ndarray]:
    """Rows and columns of the (strict) lower triangle, row by row."""
    return np.tril_indices(d, -1 if strict else 0)


def _positions(d: int, strict: bool, mirror: bool) -> np.ndarray:
    """(d, d) positions in the packed lower triangle; entries outside point one past its end, unless mirrored."""
    rows, cols = _lower(d, strict)
    at = np.full((d, d), len(rows))
    at[rows, cols] = np.arange(len(rows))
    if mirror:
        at[cols, rows] = np.arange(len(rows))
    return at


def _unpack(packed: jax.Array, d: int, strict: bool, mirror: bool = False, fill: float = 0.0) -> jax.Array:
    """(..., k) packed triangles as (..., d, d) matrices, ``fill`` outside the triangle."""
    pad = jnp.full((*packed.shape[:-1], 1), fill, packed.dtype)
    return jnp.concatenate([packed, pad], axis=-1)[..., _positions(d, strict, mirror)]


def _gram(factor: jax.Array) -> jax.Array:
    """L L', symmetric to the last bit."""
    product = jnp.matmul(factor, jnp.swapaxes(factor, -1, -2), precision=lax.Precision.HIGHEST)
    return 0.5 * (product + jnp.swapaxes(product, -1, -2))


def _matrix_problem(a: np.ndarray, unit_diagonal: bool) -> str | None:
    """What is wrong with finite (..., d, d) matrices: diagonal, symmetry, range, definiteness, in that order."""
    d = a.shape[-1]
    diagonal = np.eye(d, dtype=bool)
    if unit_diagonal:
        bad = diagonal & (np.abs(a - 1.0) > _SLACK)
        found = first_bad(a, bad, "1 on the diagonal of a correlation matrix")
    else:
        found = first_bad(a, diagonal & (a <= 0), "a variance > 0")
    if found:
        return found
    scale = np.sqrt(np.diagonal(a, axis1=-2, axis2=-1))
    unit = a / scale[..., :, None] / scale[..., None, :]
    for i in np.argwhere(np.abs(unit - np.swapaxes(unit, -1, -2)) > _SLACK):
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


class Structured(Transform):
    """Bijections on the trailing axes; leading axes are stacked copies."""

    elementwise: ClassVar[bool] = False

    def _impossible(self, a: np.ndarray) -> str | None:
        """Why a value cannot have this shape; None if it can."""
        try:
            self.n_free(a.shape)
        except ValueError as error:
            return str(error).partition(": ")[2]
        return None


class Triangular(Structured):
    """Matrices on the last two axes, described by their lower triangle row by row."""

    strict: ClassVar[bool]  # without the diagonal, which is 1

    def _matrices(self, shape: Shape) -> tuple[Shape, int]:
        """Leading shape and dimension of the square matrices."""
        if len(shape) < 2 or shape[-1] != shape[-2] or shape[-1] < 1:
            name = type(self).__name__
            raise ValueError(f"{name}: expected a shape (..., d, d) of square matrices, got {tuple(shape)}")
        return tuple(shape[:-2]), shape[-1]

    def _packed(self, x: ArrayLike, shape: Shape) -> jax.Array:
        """Coordinates (k,) as packed triangles (..., k')."""
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
class Simplex(Structured):
    """Positive entries that sum to 1 along the last axis: value_k = exp(u_k) / (1 + sum_j exp(u_j)), u_K = 0.

    K - 1 coordinates for K entries; the last entry is the baseline. A probability below the smallest normal number of
    the precision is held there, so that its logarithm is finite.

    Example:
        >>> Simplex().forward([0.0], (2,)).tolist()
        [0.5, 0.5]
        >>> Simplex().problem([0.5, 0.4])
        'sums to 0.9, expected 1'
    """

    def n_free(self, shape: Shape) -> int:
        lead, size = _vector_shape("Simplex", shape, 2)
        return prod(lead) * (size - 1)

    def forward(self, u: ArrayLike, shape: Shape) -> jax.Array:
        lead, size = _vector_shape("Simplex", shape, 2)
        logits = as_float(u).reshape(*lead, size - 1)
        logits = jnp.concatenate([logits, jnp.zeros((*lead, 1), logits.dtype)], axis=-1)
        p = jax.nn.softmax(logits, axis=-1)
        return p + lax.stop_gradient(jnp.maximum(p, jnp.finfo(p.dtype).tiny) - p)

    def inverse(self, value: ArrayLike) -> jax.Array:
        logs = jnp.log(as_float(value))
        return (logs[..., :-1] - logs[..., -1:]).reshape(-1)

    def free(self, value: ArrayLike) -> jax.Array:
        return as_float(value)[..., :-1].reshape(-1)

    def expand(self, theta: ArrayLike, shape: Shape) -> jax.Array:
        lead, size = _vector_shape("Simplex", shape, 2)
        most = as_float(theta).reshape(*lead, size - 1)
        return jnp.concatenate([most, 1.0 - jnp.sum(most, axis=-1, keepdims=True)], axis=-1)

    def interval_links(self, shape: Shape) -> tuple[Transform, ...]:
        return (Logit(0.0, 1.0),) * prod(shape)

    def _outside(self, a: np.ndarray) -> str | None:
        return self._impossible(a) or first_bad(a, a <= 0, "> 0") or self._off_one(a)

    def _off_one(self, a: np.ndarray) -> str | None:
        """Which vector does not sum to 1."""
        total = a.sum(axis=-1)
        for index in np.argwhere(np.abs(total - 1.0) > _SLACK):
            row = f"row {index.tolist()} " if index.size else ""
            return f"{row}sums to {float(total[tuple(index)]):.12g}, expected 1"
        return None


@dataclass(frozen=True)
class ClosedSimplex(Simplex):
    """Entries >= 0 that sum to 1 along the last axis, of which some may be 0: the coordinates are all entries but one, boxed.

    Args:
        rest: for each of the stacked vectors the position of the entry that follows from the others; it must be large.
        edges: positions, in the flattened value, of entries that are 0 at the estimate.

    Example:
        >>> ClosedSimplex((1,), (0,)).forward([0.0, 0.25], (3,)).tolist()
        [0.0, 0.75, 0.25]
    """

    rest: tuple[int, ...]
    edges: tuple[int, ...] = ()
    unchanged: ClassVar[bool] = True

    def _follows(self, shape: Shape) -> np.ndarray:
        """Flags (..., K) of the entries that follow from the others."""
        _, size = _vector_shape("ClosedSimplex", shape, 2)
        return (np.array(self.rest)[:, None] == np.arange(size)).reshape(shape)

    def forward(self, u: ArrayLike, shape: Shape) -> jax.Array:
        return self.expand(u, shape)

    def inverse(self, value: ArrayLike) -> jax.Array:
        return self.free(value)

    def free(self, value: ArrayLike) -> jax.Array:
        v = as_float(value)
        return v.reshape(-1)[np.flatnonzero(~self._follows(v.shape))]

    def expand(self, theta: ArrayLike, shape: Shape) -> jax.Array:
        follows, most = self._follows(shape), as_float(theta)
        place = np.where(follows.ravel(), most.size, np.cumsum(~follows.ravel()) - 1)
        v = jnp.concatenate([most, jnp.zeros(1, most.dtype)])[place].reshape(shape)
        return jnp.where(follows, 1.0 - jnp.sum(v, axis=-1, keepdims=True), v)

    def bounds(self, shape: Shape) -> tuple[np.ndarray, np.ndarray]:
        k = self.n_free(shape)
        return np.zeros(k), np.ones(k)

    def interval_links(self, shape: Shape) -> tuple[Transform, ...]:
        return tuple(Box(0.0, 1.0) if i in self.edges else Logit(0.0, 1.0) for i in range(prod(shape)))

    def not_held(self, shape: Shape) -> np.ndarray:
        """Flags (entries, coordinates): False where an entry follows from a coordinate on its edge and from others off it."""
        follows = self._follows(shape)
        own, vector = np.flatnonzero(~follows), np.arange(prod(shape)) // shape[-1]
        on_edge, flags = np.isin(own, self.edges), np.ones((prod(shape), len(own)), bool)
        for entry in np.flatnonzero(follows):
            beside = vector[own] == vector[entry]
            flags[entry] = ~(beside & on_edge) | bool((beside & on_edge).sum() == beside.sum())
        return flags

    def _outside(self, a: np.ndarray) -> str | None:
        return self._impossible(a) or first_bad(a, a < 0, ">= 0") or self._off_one(a)


@dataclass(frozen=True)
class Ordered(Structured):
    """Increasing entries along the last axis: value_0 = u_0, value_k = value_{k-1} + exp(u_k).

    Differences below float64's spacing at the size of the entries vanish: entries near 1 cannot be nearer than 1e-16.

    Example:
        >>> Ordered().forward([1.0, 0.0, 0.0], (3,)).tolist()
        [1.0, 2.0, 3.0]
        >>> Ordered().problem([0.0, 2.0, 2.0])
        'entry [2] is 2.0, not above entry [1], which is 2.0'
    """

    def n_free(self, shape: Shape) -> int:
        _vector_shape("Ordered", shape, 1)
        return prod(shape)

    def forward(self, u: ArrayLike, shape: Shape) -> jax.Array:
        u = self.expand(u, shape)
        return jnp.cumsum(jnp.concatenate([u[..., :1], jnp.exp(u[..., 1:])], axis=-1), axis=-1)

    def inverse(self, value: ArrayLike) -> jax.Array:
        v = as_float(value)
        return jnp.concatenate([v[..., :1], jnp.log(v[..., 1:] - v[..., :-1])], axis=-1).reshape(-1)

    def interval_links(self, shape: Shape) -> tuple[Transform, ...]:
        return (Identity(),) * prod(shape)

    def _outside(self, a: np.ndarray) -> str | None:
        if found := self._impossible(a):
            return found
        for i in np.argwhere(a[..., 1:] <= a[..., :-1]):
            below, above = tuple(i.tolist()), (*i[:-1].tolist(), int(i[-1]) + 1)
            return (
                f"entry {list(above)} is {float(a[above])!r}, "
                f"not above entry {list(below)}, which is {float(a[below])!r}"
            )
        return None


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

    The coordinates are the entries of the lower triangle row by row; those of the diagonal are boxed, so that the
    covariance may end singular.

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
