"""Arrow matrices: a large diagonal block with a border of a few rows and columns, solved by elimination."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from mlejax.shapes import Bool, Float, Host, Int

POWER_STEPS = 300


@dataclass(frozen=True, eq=False)
class Arrow:
    """The matrix A = [[diag(shaft), border], [border', head]], (p, p) with p = m + k, a `Symmetric` that is never formed.

    With the Schur complement S = head - border' diag(shaft)^-1 border, products and solutions cost O(m k + k^3), and so does
    any entry of the inverse.

    Attributes:
        shaft: diagonal of the large diagonal block, (m,).
        border: the border, (m, k).
        head: the small dense block, (k, k).

    Example:
        >>> import numpy as np
        >>> from mlejax.linalg import Arrow
        >>> A = Arrow(np.array([2.0, 4.0]), np.array([[1.0], [2.0]]), np.array([[3.0]]))
        >>> A.schur.tolist(), A.solve(np.array([3.0, 6.0, 6.0])).round(12).tolist()
        ([[1.5]], [1.0, 1.0, 1.0])
    """

    shaft: Float[Host, " m"]
    border: Float[Host, "m k"]
    head: Float[Host, "k k"]

    @cached_property
    def lever(self) -> Float[Host, "m k"]:
        """diag(shaft)^-1 border, (m, k); not finite in rows whose ``shaft`` is 0."""
        with np.errstate(all="ignore"):
            return self.border / self.shaft[:, None]

    @cached_property
    def schur(self) -> Float[Host, "k k"]:
        """The Schur complement head - border' diag(shaft)^-1 border, (k, k)."""
        with np.errstate(all="ignore"):
            return np.asarray(self.head - self.border.T @ self.lever)

    @cached_property
    def ok(self) -> bool:
        """True if A is finite and safely positive definite: ``shaft`` and the diagonal of ``head`` are positive, and the smallest
        eigenvalue of the Schur complement, scaled by the diagonal of ``head``, is above 1e-12.
        """
        if not (np.isfinite(self.shaft).all() and (self.shaft > 0).all() and np.isfinite(self.schur).all()):
            return False
        root = np.sqrt(np.abs(self.head.diagonal()))
        return bool((root > 0).all() and np.linalg.eigvalsh(self.schur / root[:, None] / root)[0] > 1e-12)

    @cached_property
    def _schur_inverse(self) -> Float[Host, "k k"]:
        """The inverse of the Schur complement, (k, k)."""
        return np.linalg.inv(self.schur)

    def diagonal(self) -> Float[Host, " p"]:
        """Return the diagonal of A, (p,)."""
        return np.concatenate([self.shaft, self.head.diagonal()])

    def matvec(self, v: Float[Host, " p"]) -> Float[Host, " p"]:
        """Return A v, (p,)."""
        a, b = np.split(v, [self.shaft.size])
        return np.concatenate([self.shaft * a + self.border @ b, self.border.T @ a + self.head @ b])

    def solve(self, b: Float[Host, " p"]) -> Float[Host, " p"]:
        """Return the solution x of A x = b, (p,); NaN if A is not ``ok``."""
        if not self.ok:
            return np.full(b.size, np.nan)
        first, last = np.split(b, [self.shaft.size])
        tail = np.linalg.solve(self.schur, last - self.lever.T @ first)
        return np.concatenate([first / self.shaft - self.lever @ tail, tail])

    def inverse_diagonal(self) -> Float[Host, " p"]:
        """Return the diagonal of the inverse of A, (p,); NaN if A is not ``ok``."""
        if not self.ok:
            return np.full(self.shaft.size + len(self.head), np.nan)
        spread = np.einsum("mk,kl,ml->m", self.lever, self._schur_inverse, self.lever)
        return np.concatenate([1.0 / self.shaft + spread, self._schur_inverse.diagonal()])

    def block(self, index: Int[Host, " k"] | Bool[Host, " p"]) -> Float[Host, "k k"]:
        """Return the submatrix of A with these rows and columns (numbers or a mask), as an array."""
        p = self.shaft.size + len(self.head)
        at = np.arange(p)[index]
        columns = [self.matvec(np.eye(1, p, j)[0])[at] for j in at]
        return np.reshape(columns, (at.size, at.size))

    def among(self, free: Bool[Host, " p"]) -> Arrow:
        """Return the submatrix of A with the rows and columns where the mask ``free`` is True, as an `Arrow`."""
        a, b = np.split(free, [self.shaft.size])
        return Arrow(self.shaft[a], self.border[a][:, b], self.head[np.ix_(b, b)])

    def conditioning(self) -> tuple[float, float]:
        """Return the smallest eigenvalue and the condition number of A scaled to unit diagonal, by 300 steps of power iteration.

        (NaN, inf) if the diagonal is not positive, (0, inf) if A is not ``ok``.
        """
        if not (self.diagonal() > 0).all():
            return float("nan"), float("inf")
        if not self.ok:
            return 0.0, float("inf")
        smallest = 1.0 / self._power(lambda v, root: root * self.solve(root * v))
        return smallest, self._power(lambda v, root: self.matvec(v / root) / root) / smallest

    def _power(self, apply: Callable[[Any, Any], Any]) -> float:
        """Return the largest eigenvalue of a positive definite linear map, by power iteration from a fixed random vector.

        Args:
            apply: function from a vector (p,) and the square root of the diagonal of A (p,) to the map's value at the vector.
        """
        root = np.sqrt(self.diagonal())
        v = np.random.default_rng(0).standard_normal(root.size)
        for _ in range(POWER_STEPS):
            v = apply(v / np.linalg.norm(v), root)
        return float(np.linalg.norm(v))
