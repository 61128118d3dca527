"""Bijections between a parameter's natural value and the coordinates that an optimiser sees.

Three descriptions of one value, of shape ``shape``:

- the *value* itself, on the natural scale (a standard deviation, a vector of probabilities, a covariance matrix);
- ``theta``, shape (k,): its free natural coordinates (a simplex without its last entry, a lower triangle);
- ``u``, shape (k,): unconstrained coordinates, or boxed ones where the support is closed.

``value = forward(u)`` and ``u = inverse(value)``; ``theta = free(value)`` selects, ``value = expand(theta)`` is the
affine way back. The *reported* entries are the distinct entries of a value, those that a table shows.

Every transform is a frozen, hashable dataclass that holds Python numbers only, so that it can be a static argument of
a compiled function. Elementwise ones take any shape, ``()`` included; structured ones act on the trailing axes, and
leading axes are stacked copies. No parameter names here.

References: Stan Reference Manual, "Constraint Transforms"; Pinheiro & Bates (1996), Statistics and Computing 6
(log-Cholesky); Lewandowski, Kurowicka & Joe (2009), J. Multivariate Analysis 100 (canonical partial correlations).
"""

from __future__ import annotations

from typing import ClassVar, Protocol

import jax
import numpy as np
from jax.typing import ArrayLike

from mlejax.transforms.elementwise import Box, HalfOpen, Identity, Log, Logit
from mlejax.transforms.structured import Correlation, Covariance, Ordered, Simplex

__all__ = [
    "Box",
    "Correlation",
    "Covariance",
    "HalfOpen",
    "Identity",
    "Log",
    "Logit",
    "Ordered",
    "Simplex",
    "Transform",
]


class Transform(Protocol):
    """The interface of every bijection of this room.

    ``shape`` is always the shape of the value, a tuple of ints; ``k = n_free(shape)``. ``forward``, ``inverse``,
    ``free`` and ``expand`` are pure JAX functions in the ambient precision; the others run on the host.
    A shape that the transform cannot have raises ValueError.
    """

    elementwise: ClassVar[bool]

    def n_free(self, shape: tuple[int, ...]) -> int:
        """Number k of coordinates of ``u``, which is also that of ``theta``."""

    def forward(self, u: ArrayLike, shape: tuple[int, ...]) -> jax.Array:
        """The value, natural scale, at coordinates ``u`` of shape (k,); first and second derivatives are finite."""

    def inverse(self, value: ArrayLike) -> jax.Array:
        """The coordinates ``u``, shape (k,), of a value inside the support."""

    def free(self, value: ArrayLike) -> jax.Array:
        """The free natural coordinates ``theta``, shape (k,), a selection of the value's entries."""

    def expand(self, theta: ArrayLike, shape: tuple[int, ...]) -> jax.Array:
        """The value at free natural coordinates ``theta`` of shape (k,): affine, the inverse of ``free``."""

    def bounds(self, shape: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
        """Lower and upper bounds of ``u``, float64 of shape (k,) each, infinite where there is none."""

    def reported(self, shape: tuple[int, ...]) -> tuple[tuple[int, ...], ...]:
        """Index tuples of the value's distinct entries, in the order in which tables show them."""

    def interval_links(self, shape: tuple[int, ...]) -> tuple[Transform, ...]:
        """For each reported entry the elementwise bijection on whose ``u`` scale its confidence interval is built."""

    def problem(self, value: ArrayLike) -> str | None:
        """Why a concrete value is not in the support, in words that can follow a parameter's name; None if it is."""
