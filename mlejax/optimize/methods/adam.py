"""Adam (Kingma & Ba 2015), through optax: for structures too large for second derivatives."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from numbers import Real
from typing import Any

from mlejax import misuse
from mlejax.optimize.method import Transformation, check_options
from mlejax.optimize.methods.first_order import OptaxMethod
from mlejax.optimize.minibatch import check_batches

__all__ = ["Adam"]


@misuse.constructor
@dataclass(frozen=True)
class Adam(OptaxMethod):
    """The Adam optimiser, on all rows at every step or, with `batch_size`, on minibatches.

    Args:
        learning_rate: typical size of a step in each unconstrained coordinate; a number, or an optax schedule (number of
            steps so far -> number).
        tol: stop when the log-likelihood increased by at most this over `patience` evaluations.
        max_steps: most evaluations after the start.
        patience: number of evaluations in that rule, default 100. With `batch_size`: stop after this many epochs without a
            higher validation log-likelihood, default 10.
        batch_size: rows (or units) of a minibatch; None for all of them at every step.
        epochs: most passes through the data, default 100; only with `batch_size`, instead of `tol` and `max_steps`.
        seed: seed of the shuffling; only with `batch_size`.

    Raises:
        ValueError: an option is not positive or not a whole number, or has no effect in combination with the others.

    Example:
        >>> from mlejax.optimize import Adam
        >>> Adam(learning_rate=0.1).max_steps
        10000
    """

    learning_rate: float | Callable[..., Any] = 0.01
    tol: float = 1e-6
    max_steps: int = 10_000
    patience: int | None = None
    batch_size: int | None = None
    epochs: int | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        if not callable(self.learning_rate) and not (isinstance(self.learning_rate, Real) and self.learning_rate > 0):
            raise ValueError(
                f"Adam(learning_rate={self.learning_rate!r}): expected a positive number, or an optax schedule"
            )
        check_options(self)
        check_batches(self)

    def gradient_transformation(self) -> Transformation:
        """Return ``optax.adam`` with this learning rate."""
        import optax

        return optax.adam(self.learning_rate)
