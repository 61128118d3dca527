"""What a run ended with, in log-likelihood units; of one data set, or of many along a leading axis."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from mlejax.optimize.method import HISTORY, Carry
from mlejax.shapes import Float, Host, Scalar
from mlejax.status import End

__all__ = ["OptimizeResult"]


class OptimizeResult(NamedTuple):
    """Where an optimiser ended, on the host; every array may have a leading axis (L, ...), one entry a data set.

    Attributes:
        u: kept point, shape (p,).
        loglik: (penalised) log-likelihood there, ().
        score: its gradient in u, shape (p,).
        information: minus its Hessian in u, or what the method used in its place, shape (p, p); None for methods without.
        decrements: Newton decrements of the last four accepted points, log-likelihood units, most recent last, shape (4,).
        n_steps: accepted steps, an int or (L,).
        status: `End` code, an int or (L,).
        polished: whether Newton steps followed a first-order method or BHHH.
        message: what else a user should know; empty in most cases.

    Example:
        >>> from mlejax.optimize import OptimizeResult
        >>> many = OptimizeResult.empty(3, 2, curvature=True)
        >>> one = many[0]._replace(u=np.array([1.0, 2.0]), status=1)
        >>> many.put([1], one).u[1].tolist(), many.put([1], one).status.tolist()
        ([1.0, 2.0], [9, 1, 9])
    """

    u: Float[Host, "*batch p"]
    loglik: Float[Host, "*batch"] | float
    score: Float[Host, "*batch p"]
    information: Float[Host, "*batch p p"] | None
    decrements: Float[Host, "*batch 4"]
    n_steps: Any
    status: Any
    polished: bool = False
    message: str = ""

    @classmethod
    def from_carry(cls, carry: Carry, scale: Scalar) -> OptimizeResult:
        """The end of a driver's run.

        Args:
            carry: from a driver; with a leading axis (L, ...) on every array, or without.
            scale: what the log-likelihood was divided by, () or (L,).
        """
        u, f, g, H = (np.asarray(a) for a in carry[:4])
        scale = np.asarray(scale)
        single = u.ndim == 1
        dense = H.size > 0 or u.shape[-1] == 0
        return cls(
            u=u,
            loglik=float(-f * scale) if single else -f * scale,
            score=-g * scale[..., None],
            information=H * scale[..., None, None] if dense else None,
            decrements=np.asarray(carry.decrements),
            n_steps=int(carry.n_steps) if single else np.asarray(carry.n_steps),
            status=int(carry.status) if single else np.asarray(carry.status),
        )

    @classmethod
    def empty(cls, n: int, p: int, curvature: bool) -> OptimizeResult:
        """Of n data sets whose runs have not ended: NaN, with status INTERRUPTED."""
        nan = lambda *shape: np.full((n, *shape), np.nan)
        information = nan(p, p) if curvature else None
        return cls(
            u=nan(p),
            loglik=nan(),
            score=nan(p),
            information=information,
            decrements=nan(HISTORY),
            n_steps=np.zeros(n, np.int64),
            status=np.full(n, int(End.INTERRUPTED)),
        )

    def __getitem__(self, which: Any) -> OptimizeResult:
        """The result of one data set, or of some: ``which`` indexes the leading axis."""
        *arrays, polished, message = self
        return OptimizeResult._make([*(None if a is None else a[which] for a in arrays), polished, message])

    def put(self, which: Any, other: OptimizeResult) -> OptimizeResult:
        """The same results with those at ``which`` of the leading axis replaced by those of ``other``, in its order."""
        *arrays, polished, message = self
        copies = [None if a is None else np.array(a) for a in arrays]
        for ours, theirs in zip(copies, other, strict=False):
            if ours is not None and theirs is not None:
                ours[which] = theirs
        return OptimizeResult._make([*copies, polished or other.polished, message])
