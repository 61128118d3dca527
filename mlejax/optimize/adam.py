"""Adam (Kingma & Ba 2015) on the full gradient, through optax: for structures too large for second derivatives."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import jax

from mlejax.optimize import first_order
from mlejax.optimize.contract import Point, Setting, Update
from mlejax.optimize.options import check

__all__ = ["Adam"]


@dataclass(frozen=True)
class Adam:
    """Adam with a constant learning rate.

    Args:
        learning_rate: length of a typical move in each coordinate of u.
        tol: settle when the log-likelihood rose by at most this over `patience` turns.
        max_steps: steps tried after the start.
        patience: length of that window in turns.

    Raises:
        ValueError: an option is not positive.

    Example:
        >>> from mlejax.optimize import Adam
        >>> Adam(learning_rate=0.1).max_steps
        10000
    """

    learning_rate: float = 0.01
    tol: float = 1e-6
    max_steps: int = 10_000
    patience: int = 100
    dense: ClassVar[bool] = False

    def __post_init__(self) -> None:
        if not self.learning_rate > 0:
            raise ValueError(f"Adam(learning_rate={self.learning_rate!r}): expected a positive number")
        check(self)

    def _transformation(self) -> Any:
        import optax

        return optax.adam(self.learning_rate)

    def evaluate(self, objective: Any, u: jax.Array) -> tuple[Any, Any, Any]:
        """Value and gradient."""
        return (*objective.value_and_grad(u), None)

    def start(self, u0: Any) -> first_order.FirstOrderState:
        """Memory before the first evaluation."""
        return first_order.start(self._transformation(), u0)

    def update(
        self, inner: first_order.FirstOrderState, old: Point, new: Point, first: Any, finite: Any, setting: Setting
    ) -> Update:
        """One turn of Adam."""
        return first_order.update(
            self._transformation(), self.tol, self.patience, inner, old, new, first, finite, setting
        )
