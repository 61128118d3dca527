"""Newton's method with the exact Hessian, made globally convergent by a trust region.

Steps and stopping are those of `mlejax.optimize.trust`: full Newton steps wherever the Hessian is positive definite and
the quadratic model has proved good that far, shorter and bent ones elsewhere. Invariant to rescaling of u.

References: More & Sorensen (1983), SIAM J. Sci. Stat. Comput. 4, 553; More (1978), Lecture Notes in Mathematics 630,
105; Bertsekas (1982), SIAM J. Control Optim. 20, 221; Conn, Gould & Toint (2000), Trust-Region Methods.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import jax

from mlejax.optimize import trust
from mlejax.optimize.contract import Point, Setting, Update
from mlejax.optimize.options import check

__all__ = ["Newton"]


@dataclass(frozen=True)
class Newton:
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
    dense: ClassVar[bool] = True

    def __post_init__(self) -> None:
        check(self)

    def evaluate(self, objective: Any, u: jax.Array) -> tuple[Any, Any, Any]:
        """Value, gradient and Hessian."""
        return objective.with_hessian(u)

    def start(self, u0: Any) -> trust.TrustState:
        """Memory before the first evaluation."""
        return trust.start(u0)

    def update(
        self, inner: trust.TrustState, old: Point, new: Point, first: Any, finite: Any, setting: Setting
    ) -> Update:
        """One turn of the trust-region method."""
        return trust.update(self.tol, inner, old, new, first, finite, setting)
