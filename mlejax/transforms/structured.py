"""Structured bijections on the last axis: simplex and ordered vector.

- simplex: baseline softmax, the last entry is the baseline;
- ordered: the first entry, then logarithms of the differences.
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
    Logit,
    Shape,
    Transform,
    as_float,
    first_bad,
)

# Largest deviation of a given value from a sum of 1, a unit diagonal or symmetry; one beyond it is outside the support.
SLACK = 1e-8


def _vector_shape(name: str, shape: Shape, smallest: int) -> tuple[Shape, int]:
    """Return the leading shape and the length of the last axis; ValueError, with ``name``, if there is none or it is shorter than
    ``smallest``.
    """
    if len(shape) < 1 or shape[-1] < smallest:
        raise ValueError(f"{name}: expected a shape (..., K) with K >= {smallest}, got {tuple(shape)}")
    return tuple(shape[:-1]), shape[-1]


class Structured(Transform):
    """Base class of bijections of vectors or matrices on the trailing axes; leading axes are stacked copies."""

    elementwise: ClassVar[bool] = False

    def _impossible(self, a: np.ndarray) -> str | None:
        """Return a phrase that says why the transform cannot have a value of the shape of ``a``; None if it can."""
        try:
            self.n_free(a.shape)
        except ValueError as error:
            return str(error).partition(": ")[2]
        return None


@dataclass(frozen=True)
class Simplex(Structured):
    """Positive entries that sum to 1 along the last axis: value_k = exp(u_k) / (1 + sum_j exp(u_j)), u_K = 0.

    K - 1 coordinates for K entries; the last entry is the baseline. A probability is at least the smallest normal number of
    its dtype, so that its logarithm is finite.

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
        """Return a phrase on the first vector along the last axis that does not sum to 1 (up to 1e-8); None if all do."""
        total = a.sum(axis=-1)
        for index in np.argwhere(np.abs(total - 1.0) > SLACK):
            row = f"row {index.tolist()} " if index.size else ""
            return f"{row}sums to {float(total[tuple(index)]):.12g}, expected 1"
        return None


@dataclass(frozen=True)
class ClosedSimplex(Simplex):
    """Entries >= 0 that sum to 1 along the last axis, some of which may be 0: the coordinates are all entries but one, in [0, 1].

    Args:
        rest: for each of the stacked vectors the position of the entry that is 1 minus the others; it must stay positive.
        edges: positions, in the flattened value, of entries that are 0 at the estimate.

    Example:
        >>> ClosedSimplex((1,), (0,)).forward([0.0, 0.25], (3,)).tolist()
        [0.0, 0.75, 0.25]
    """

    rest: tuple[int, ...]
    edges: tuple[int, ...] = ()
    unchanged: ClassVar[bool] = True

    def _follows(self, shape: Shape) -> np.ndarray:
        """Return a mask of this shape, (..., K), True for the entries that are 1 minus the others."""
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

    def derivative_mask(self, shape: Shape) -> np.ndarray:
        """Return a boolean matrix (n_entries, k): False where the entry is 1 minus others of its vector and the coordinate is
        one of these that is 0 at the estimate (in ``edges``), unless all of these are; True elsewhere.
        """
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

    Differences below the spacing of float64 numbers vanish: entries near 1 differ by at least 1e-16.

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
