"""Newton's method with the exact Hessian, made globally convergent by a trust region.

Steps and stopping are those of `trust_region`: full Newton steps wherever the Hessian is positive definite and the quadratic
model has proved good that far, trust-region steps elsewhere. Invariant to rescaling of u.

References: More & Sorensen (1983), SIAM J. Sci. Stat. Comput. 4, 553; More (1978), Lecture Notes in Mathematics 630,
105; Bertsekas (1982), SIAM J. Control Optim. 20, 221; Conn, Gould & Toint (2000), Trust-Region Methods.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from mlejax.optimize.methods.trust_region import TrustRegion

__all__ = ["Newton"]


@dataclass(frozen=True)
class Newton(TrustRegion):
    """Newton's method: exact Hessian, trust region, quadratic convergence.

    Args:
        tol: stop when the decrement scale * g'H^-1 g, in log-likelihood units, is at most this, confirmed by one
            further full step. The estimate is then within about sqrt(tol) standard errors of the maximum before that
            step.
        max_steps: steps tried after the start.

    Raises:
        ValueError: tol or max_steps is not positive.

    Example:
        >>> from mlejax.optimize import Newton
        >>> Newton(tol=1e-12)
        Newton(tol=1e-12, max_steps=500)
    """

    tol: float = 1e-10
    max_steps: int = 500
    curvature: ClassVar[Literal["none", "hessian", "opg"]] = "hessian"
