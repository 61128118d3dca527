"""Adam (Kingma & Ba 2015), through optax: for structures too large for second derivatives."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import jax

from mlejax.optimize import first_order
from mlejax.optimize.contract import Point, Setting, Update
from mlejax.optimize.minibatch import PATIENCE, check_batches, refuse_batches
from mlejax.optimize.options import check

__all__ = ["Adam"]


@dataclass(frozen=True)
class Adam:
    """Adam, on all rows at every step or, with `batch_size`, on minibatches.

    Args:
        learning_rate: length of a typical move in each coordinate of u; a number, or a schedule of optax (steps so far
            -> number).
        tol: settle when the log-likelihood rose by at most this over `patience` turns.
        max_steps: steps tried after the start.
        patience: length of that window in turns (100). With `batch_size`: epochs without a higher held-out log-likelihood
            after which training stops (10).
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

    learning_rate: Any = 0.01
    tol: float = 1e-6
    max_steps: int = 10_000
    patience: int | None = None
    batch_size: int | None = None
    epochs: int | None = None
    seed: int = 0
    dense: ClassVar[bool] = False

    def __post_init__(self) -> None:
        if not callable(self.learning_rate) and not self.learning_rate > 0:
            raise ValueError(
                f"Adam(learning_rate={self.learning_rate!r}): expected a positive number, or a schedule of optax"
            )
        check(self)
        check_batches(self)

    def gradient_transformation(self) -> Any:
        """Adam as optax has it."""
        import optax

        return optax.adam(self.learning_rate)

    def evaluate(self, objective: Any, u: jax.Array) -> tuple[Any, Any, Any]:
        """Value and gradient."""
        return (*objective.value_and_grad(u), None)

    def start(self, u0: Any) -> first_order.FirstOrderState:
        """Memory before the first evaluation."""
        refuse_batches(self)
        return first_order.start(self.gradient_transformation(), u0)

    def update(
        self, inner: first_order.FirstOrderState, old: Point, new: Point, first: Any, finite: Any, setting: Setting
    ) -> Update:
        """One turn of Adam."""
        return first_order.update(
            self.gradient_transformation(), self.tol, self.patience or PATIENCE, inner, old, new, first, finite, setting
        )
