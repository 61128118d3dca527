"""BHHH: Newton's method with the outer product of the contributions' gradients in place of the Hessian.

At the true parameters the mean outer product of the scores estimates the information, and it is never indefinite. It
needs first derivatives only, but converges linearly, at a rate that depends on how well the model fits.

Reference: Berndt, Hall, Hall & Hausman (1974), Annals of Economic and Social Measurement 3, 653.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from mlejax.optimize.methods.trust_region import TrustRegion

__all__ = ["BHHH"]


@dataclass(frozen=True)
class BHHH(TrustRegion):
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
    curvature: ClassVar[Literal["none", "hessian", "opg"]] = "opg"
