"""Newton's method with the exact Hessian, made globally convergent by a trust region.

Steps and the stopping rule are those of `trust_region`: full Newton steps if the Hessian is positive definite and the step lies
within the trust region, else trust-region steps. Invariant to rescaling of u.

References: More & Sorensen (1983), SIAM J. Sci. Stat. Comput. 4, 553; More (1978), Lecture Notes in Mathematics 630,
105; Bertsekas (1982), SIAM J. Control Optim. 20, 221; Conn, Gould & Toint (2000), Trust-Region Methods.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from mlejax import misuse
from mlejax.optimize.methods.trust_region import TrustRegion

__all__ = ["Newton"]


@misuse.constructor
@dataclass(frozen=True)
class Newton(TrustRegion):
    """Newton's method: exact Hessian, trust region, quadratic convergence.

    Args:
        tol: stop when the Newton decrement s'I^-1 s (score s, information I; log-likelihood units) is at most this, before and
            after one further full step. Before that step the point is within about sqrt(tol) standard errors of the maximum.
        max_steps: most evaluations after the start, rejected steps included.

    Raises:
        ValueError: tol is not a positive number, or max_steps not a positive whole number.

    Example:
        >>> from mlejax.optimize import Newton
        >>> Newton(tol=1e-12)
        Newton(tol=1e-12, max_steps=500)
    """

    tol: float = 1e-10
    max_steps: int = 500
    curvature: ClassVar[Literal["none", "hessian", "opg"]] = "hessian"
