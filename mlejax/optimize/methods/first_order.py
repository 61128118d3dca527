"""First-order methods: any optax gradient transformation in the common drivers, projected onto the box.

Each turn feeds the gradient at the current point to the transformation and moves by what comes out,

    u <- clip(u + shrink * update, lower, upper),

while the best point met so far is kept apart. A point that is not finite sends the search back to the best one, with
its memory cleared and its moves halved. It stops as `progress` says.
"""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from mlejax.optimize.arrays import promoting
from mlejax.optimize.box import active_bounds, clip
from mlejax.optimize.method import Method, Point, Setting, Step, Transformation, check_options
from mlejax.optimize.methods.progress import Progress, no_progress, watch
from mlejax.optimize.minibatch import PATIENCE, check_batches, refuse_batches
from mlejax.shapes import Either, Float, PyTree, Scalar
from mlejax.status import End

__all__ = ["FirstOrder", "FirstOrderState", "OptaxMethod", "cast_like", "strong"]

LEAST_SHRINK = 1e-12


class FirstOrderState(NamedTuple):
    """State between turns.

    Attributes:
        memory: the transformation's own state.
        trial: the point to evaluate next, shape (p,).
        shrink: factor on the transformation's updates, halved at each point that was not finite, ().
        progress: the window in which the log-likelihood should rise.
    """

    memory: PyTree
    trial: Float[Either, " p"]
    shrink: Scalar
    progress: Progress


class OptaxMethod(Method):
    """Methods that are an optax gradient transformation."""

    patience: int | None

    @abstractmethod
    def gradient_transformation(self) -> Transformation:
        """The transformation, an `optax.GradientTransformation`."""

    def init(self, u: Float[Either, " p"]) -> FirstOrderState:
        """State before the first evaluation."""
        refuse_batches(self)
        memory = strong(self.gradient_transformation().init(jnp.asarray(u)))
        return FirstOrderState(memory, u, np.ones((), u.dtype), no_progress(u.dtype))

    def propose(self, state: FirstOrderState, kept: Point) -> Float[Either, " p"]:
        """The point that the transformation moves to."""
        return state.trial

    def update(self, state: FirstOrderState, kept: Point, new: Point, setting: Setting) -> tuple[FirstOrderState, Step]:
        """Keep the new point if it is the best, and move on from it."""
        import optax

        first, finite = jnp.isinf(kept.f), jnp.isfinite(new.f)
        better = new.f < kept.f
        best, here = (Point(*(jnp.where(c, b, a) for a, b in zip(kept, new, strict=True))) for c in (better, finite))
        transformation = optax.with_extra_args_support(self.gradient_transformation())
        cleared = strong(transformation.init(here.u))
        memory = jax.tree.map(lambda a, b: jnp.where(finite, a, b), state.memory, cleared)
        shrink = jnp.where(finite, state.shrink, 0.5 * state.shrink)
        slope = jnp.where(active_bounds(here, setting), 0.0, here.g)
        with promoting():
            move, after = transformation.update(slope, memory, here.u, value=here.f, grad=slope)
        move = jnp.where(jnp.isfinite(move), move, 0.0)
        trial = clip(here.u + shrink * move, setting)

        progress, settled, _ = watch(state.progress, best, first, setting, self.tol, self.patience or PATIENCE)
        status = jnp.where(settled, int(End.SETTLED), int(End.RUNNING))
        status = jnp.where(shrink < LEAST_SHRINK, int(End.STALLED), status)
        return FirstOrderState(cast_like(after, memory), trial, shrink, progress), Step(better, status, finite)


@dataclass(frozen=True)
class FirstOrder(OptaxMethod):
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

    transformation: Transformation
    tol: float = 1e-6
    max_steps: int = 10_000
    patience: int | None = None
    batch_size: int | None = None
    epochs: int | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        if not all(callable(getattr(self.transformation, part, None)) for part in ("init", "update")):
            raise TypeError(f"expected an optax gradient transformation, got {self.transformation!r}")
        check_options(self)
        check_batches(self)

    def gradient_transformation(self) -> Transformation:
        """The transformation itself."""
        return self.transformation


def strong(tree: PyTree) -> PyTree:
    """The same numbers without JAX's weak types, so that a loop's carry does not change type after the first turn."""
    return cast_like(tree, tree)


def cast_like(tree: PyTree, like: PyTree) -> PyTree:
    """The numbers of one tree with the types of another."""
    return jax.tree.map(lambda a, b: jnp.asarray(a, jnp.asarray(b).dtype), tree, like)
