"""First-order methods: any optax gradient transformation in the common loop, projected onto the box.

Each turn feeds the gradient at the current point to the transformation and moves by what comes out,

    u <- clip(u + shrink * update, lower, upper),

while the best point met so far is kept apart. A point that is not finite sends the search back to the best one, with
its memory cleared and its moves halved. It settles when the log-likelihood has risen by no more than `tol` over
`patience` turns; without curvature that is no proof of a maximum, and the status says so (`SETTLED`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from mlejax.optimize.box import clip, outward
from mlejax.optimize.contract import Point, Setting, Update
from mlejax.optimize.minibatch import PATIENCE, check_batches, refuse_batches
from mlejax.optimize.options import check
from mlejax.status import End

__all__ = ["FirstOrder", "FirstOrderState", "start", "update"]

LEAST_SHRINK = 1e-12


class FirstOrderState(NamedTuple):
    """Memory between turns.

    Attributes:
        transformation: the transformation's own state.
        shrink: factor on its updates, halved at each point that was not finite.
        mark: objective of the best point when the current window began.
        age: turns since then, int32.
    """

    transformation: Any
    shrink: Any
    mark: Any
    age: Any


@dataclass(frozen=True)
class FirstOrder:
    """Any optax `GradientTransformation` as an optimiser; two are equal if their transformation is the same object.

    Args:
        transformation: what optax's constructors return; one that searches along a line needs values elsewhere and is
            refused when it is used.
        tol: settle when the log-likelihood rose by at most this over `patience` turns.
        max_steps: steps tried after the start.
        patience, batch_size, epochs, seed: as in :class:`Adam`.

    Raises:
        ValueError: an option is not positive, or means nothing beside the others.
        TypeError: not a gradient transformation.

    Example:
        >>> import optax
        >>> from mlejax.optimize import FirstOrder
        >>> FirstOrder(optax.sgd(0.1)).patience
        100
    """

    transformation: Any
    tol: float = 1e-6
    max_steps: int = 10_000
    patience: int | None = None
    batch_size: int | None = None
    epochs: int | None = None
    seed: int = 0
    dense: ClassVar[bool] = False

    def __post_init__(self) -> None:
        if not all(callable(getattr(self.transformation, part, None)) for part in ("init", "update")):
            raise TypeError(f"expected an optax gradient transformation, got {self.transformation!r}")
        check(self)
        check_batches(self)

    def gradient_transformation(self) -> Any:
        """The transformation itself."""
        return self.transformation

    def evaluate(self, objective: Any, u: jax.Array) -> tuple[Any, Any, Any]:
        """Value and gradient."""
        return (*objective.value_and_grad(u), None)

    def start(self, u0: Any) -> FirstOrderState:
        """Memory before the first evaluation."""
        refuse_batches(self)
        return start(self.transformation, u0)

    def update(
        self, inner: FirstOrderState, old: Point, new: Point, first: Any, finite: Any, setting: Setting
    ) -> Update:
        """One turn of the transformation."""
        return update(self.transformation, self.tol, self.patience or PATIENCE, inner, old, new, first, finite, setting)


def start(transformation: Any, u0: Any) -> FirstOrderState:
    """Memory before the first evaluation; u0 has shape (p,)."""
    xp: Any = jnp if isinstance(u0, jax.core.Tracer) else np
    return FirstOrderState(
        transformation=strong(transformation.init(jnp.asarray(u0))),
        shrink=xp.ones((), u0.dtype),
        mark=xp.full((), np.inf, u0.dtype),
        age=xp.zeros((), np.int32),
    )


def strong(tree: Any) -> Any:
    """The same numbers with types of their own, so that a loop's carry does not change type after the first turn."""
    return jax.tree.map(lambda a: jnp.asarray(a, jnp.asarray(a).dtype), tree)


def update(
    transformation: Any,
    tol: float,
    patience: int,
    state: FirstOrderState,
    old: Point,
    new: Point,
    first: Any,
    finite: Any,
    setting: Setting,
) -> Update:
    """One turn: keep the new point if it is the best, and move on from it."""
    import optax

    better = finite & (first | (new.f < old.f))
    kept = Point(*(jnp.where(better, b, a) for a, b in zip(old, new, strict=True)))
    here = Point(*(jnp.where(finite, b, a) for a, b in zip(kept, new, strict=True)))
    cleared = strong(transformation.init(here.u))
    memory = jax.tree.map(lambda a, b: jnp.where(finite, a, b), state.transformation, cleared)
    shrink = jnp.where(finite, state.shrink, 0.5 * state.shrink)
    slope = jnp.where(outward(here.u, here.g, setting), 0.0, here.g)
    move, after = optax.with_extra_args_support(transformation).update(slope, memory, here.u, value=here.f, grad=slope)
    after = jax.tree.map(lambda a, b: jnp.asarray(a, b.dtype), after, memory)
    move = jnp.where(jnp.isfinite(move), move, 0.0)
    trial = clip(here.u + shrink * move, setting)

    age = jnp.where(first, 0, state.age + 1)
    full_window = age >= patience
    mark = jnp.where(first, kept.f, state.mark)
    settled = full_window & (setting.scale * (mark - kept.f) <= tol)
    status = jnp.where(settled, int(End.SETTLED), int(End.RUNNING))
    status = jnp.where(shrink < LEAST_SHRINK, int(End.STALLED), status)
    return Update(
        kept=kept,
        accepted=finite,
        trial=trial,
        decrement=jnp.full((), jnp.inf, old.u.dtype),
        full=jnp.zeros((), bool),
        status=status,
        inner=FirstOrderState(
            transformation=after,
            shrink=shrink,
            mark=jnp.where(full_window, kept.f, mark),
            age=jnp.where(full_window, 0, age).astype(jnp.int32),
        ),
    )
