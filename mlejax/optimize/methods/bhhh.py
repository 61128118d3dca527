"""BHHH: Newton's method with the sum of outer products of the scores in place of the information.

At the true parameters the mean outer product of the scores estimates the information, and it is never indefinite. It
needs first derivatives only, but converges linearly, at a rate that depends on how well the model fits.

Reference: Berndt, Hall, Hall & Hausman (1974), Annals of Economic and Social Measurement 3, 653.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from mlejax import misuse
from mlejax.optimize.methods.trust_region import TrustRegion

__all__ = ["BHHH"]


@misuse.constructor
@dataclass(frozen=True)
class BHHH(TrustRegion):
    """BHHH: Newton-type steps with outer products of scores as curvature, in a trust region; converges linearly.

    Args:
        tol: stop when s'B^-1 s (score s, sum B of outer products of the terms' scores), the decrement in log-likelihood units, is
            at most this, before and after one further full step.
        max_steps: most evaluations after the start, rejected steps included.

    Raises:
        ValueError: tol is not a positive number, or max_steps not a positive whole number.

    Example:
        >>> from mlejax.optimize import BHHH
        >>> BHHH()
        BHHH(tol=1e-10, max_steps=500)
    """

    tol: float = 1e-10
    max_steps: int = 500
    curvature: ClassVar[Literal["none", "hessian", "opg"]] = "opg"
