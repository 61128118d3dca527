"""Expectation-maximisation: its options. The steps need the likelihood itself: :mod:`mlejax.fit.maximise.em_steps`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from mlejax.optimize.method import Method, Point, Setting, Step, check_options
from mlejax.shapes import Either, Float, PyTree

__all__ = ["EM"]


@dataclass(frozen=True)
class EM(Method):
    """EM for models with a class, :class:`mlejax.Discrete` or :class:`mlejax.Markov`, then Newton's method to the end.

    The M step takes Newton steps on the expected log-likelihood of data and classes, for any likelihood; the log-likelihood
    never falls.  Extrapolated steps are kept where it rises (SQUAREM, Varadhan & Roland 2008).  ``res.path`` lists the steps.
    Newton's method is faster, and finds the same maxima; EM needs no second look at a start far away.

    Args:
        tol: EM stops, and Newton's method begins, when a step gains at most this, log-likelihood units.
        max_steps: EM steps at most.
        accelerate: extrapolate.
        inner: Newton steps of an M step at most.

    Raises:
        ValueError: an option is not positive.

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
        if isinstance(self.inner, bool) or not isinstance(self.inner, int) or self.inner < 1:
            raise ValueError(f"EM(inner={self.inner!r}): expected a positive whole number")

    def init(self, u: Float[Either, " p"]) -> PyTree:
        """Refused: where there is no likelihood to take expectations of."""
        raise ValueError(
            "method='em' is offered by fit, for one data set in memory and models with mle.Discrete or mle.Markov; leave it "
            "out here: Newton's method maximises the same log-likelihood"
        )

    def propose(self, state: PyTree, kept: Point) -> Float[Either, " p"]:
        """Never reached."""
        return kept.u

    def update(self, state: PyTree, kept: Point, new: Point, setting: Setting) -> tuple[Any, Step]:
        """Never reached."""
        return state, Step(True)
