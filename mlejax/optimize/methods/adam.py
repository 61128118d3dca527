"""Adam (Kingma & Ba 2015), through optax: for structures too large for second derivatives."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from mlejax.optimize.method import Transformation, check_options
from mlejax.optimize.methods.first_order import OptaxMethod
from mlejax.optimize.minibatch import check_batches

__all__ = ["Adam"]


@dataclass(frozen=True)
class Adam(OptaxMethod):
    """Adam, on all rows at every step or, with `batch_size`, on minibatches.

    Args:
        learning_rate: length of a typical move in each coordinate of u; a number, or a schedule of optax (steps so far
            -> number).
        tol: settle when the log-likelihood rose by at most this over `patience` turns.
        max_steps: steps tried after the start.
        patience: length of that window in turns (100). With `batch_size`: epochs without a higher validation
            log-likelihood after which training stops (10).
        batch_size: rows (or units) of a minibatch; None takes all of them at every step.
        epochs: passes through the data at most, 100 by default; only with `batch_size`, instead of `tol` and `max_steps`.
        seed: of the shuffling; only with `batch_size`.

    Raises:
        ValueError: an option is not positive, or means nothing beside the others.

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
        if not callable(self.learning_rate) and not self.learning_rate > 0:
            raise ValueError(
                f"Adam(learning_rate={self.learning_rate!r}): expected a positive number, or a schedule of optax"
            )
        check_options(self)
        check_batches(self)

    def gradient_transformation(self) -> Transformation:
        """Adam as optax has it."""
        import optax

        return optax.adam(self.learning_rate)
