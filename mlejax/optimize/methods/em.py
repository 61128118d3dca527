"""Options of expectation-maximisation. Its steps, which need the likelihood, are in :mod:`mlejax.fit.maximise.em_steps`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from mlejax import misuse
from mlejax.optimize.method import Method, Point, Setting, Step, check_options
from mlejax.shapes import Either, Float, PyTree

__all__ = ["EM"]


@misuse.constructor
@dataclass(frozen=True)
class EM(Method):
    """EM for models with a class, :class:`mlejax.Discrete` or :class:`mlejax.Markov`, then Newton's method to the end.

    The M step takes Newton steps on the expected log-likelihood of data and classes, for any likelihood; the log-likelihood
    never decreases.  Extrapolated steps are kept if they increase it (SQUAREM, Varadhan & Roland 2008).  ``res.path`` lists the
    steps.  Newton's method is faster and finds the same maxima; EM is more robust to a start that is far away.

    Args:
        tol: stop EM, and begin Newton's method, when a step increases the log-likelihood by at most this.
        max_steps: most EM steps.
        accelerate: if True, extrapolate (SQUAREM).
        inner: most Newton steps in one M step.

    Raises:
        ValueError: tol is not a positive number, or max_steps or inner not a positive whole number.

    Example:
        >>> import mlejax as mle
        >>> mle.EM(tol=1e-4)
        EM(tol=0.0001, max_steps=1000, accelerate=True, inner=10)
    """

    tol: float = 1e-6
    max_steps: int = 1000
    accelerate: bool = True
    inner: int = 10

    def __post_init__(self) -> None:
        check_options(self)
        if isinstance(self.inner, bool) or not isinstance(self.inner, (int, np.integer)) or self.inner < 1:
            raise ValueError(f"EM(inner={self.inner!r}): expected a positive whole number")

    def init(self, u: Float[Either, " p"]) -> PyTree:
        """Raise ValueError: drivers of methods call this, and EM runs in ``model.fit`` alone, without them."""
        raise ValueError(
            "method='em' is supported by model.fit only, for one data set in memory and models with mle.Discrete or mle.Markov; "
            "leave it out here: Newton's method maximises the same log-likelihood"
        )

    def propose(self, state: PyTree, kept: Point) -> Float[Either, " p"]:
        """Required by `Method`; never called, since ``init`` raises."""
        return kept.u

    def update(self, state: PyTree, kept: Point, new: Point, setting: Setting) -> tuple[Any, Step]:
        """Required by `Method`; never called, since ``init`` raises."""
        return state, Step(True)
