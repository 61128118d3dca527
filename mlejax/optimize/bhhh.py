"""BHHH: Newton's method with the outer product of the contributions' gradients in place of the Hessian.

At the true parameters the mean outer product of the scores estimates the information, and it is never indefinite. It
needs first derivatives only, but converges linearly, at a rate that depends on how well the model fits.

Reference: Berndt, Hall, Hall & Hausman (1974), Annals of Economic and Social Measurement 3, 653.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import jax

from mlejax.optimize import trust
from mlejax.optimize.contract import Point, Setting, Update
from mlejax.optimize.options import check

__all__ = ["BHHH"]


@dataclass(frozen=True)
class BHHH:
    """BHHH: outer products of scores as curvature, trust region, linear convergence.

    Args:
        tol: stop when scale * g'B^-1 g is at most this, confirmed by one further step.
        max_steps: steps tried after the start.

    Raises:
        ValueError: tol or max_steps is not positive.

    Example:
        >>> from mlejax.optimize import BHHH
        >>> BHHH()
        BHHH(tol=1e-10, max_steps=500)
    """

    tol: float = 1e-10
    max_steps: int = 500
    dense: ClassVar[bool] = True

    def __post_init__(self) -> None:
        check(self)

    def evaluate(self, objective: Any, u: jax.Array) -> tuple[Any, Any, Any]:
        """Value, gradient and mean outer product of the contributions' gradients."""
        return objective.with_opg(u)

    def start(self, u0: Any) -> trust.TrustState:
        """Memory before the first evaluation."""
        return trust.start(u0)

    def update(
        self, inner: trust.TrustState, old: Point, new: Point, first: Any, finite: Any, setting: Setting
    ) -> Update:
        """One turn of the trust-region method."""
        return trust.update(self.tol, inner, old, new, first, finite, setting)
