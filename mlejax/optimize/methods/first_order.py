"""First-order methods: any optax gradient transformation in the common drivers, projected onto the bounds.

Each turn passes the gradient at the current point to the transformation and adds the update that it returns,

    u <- clip(u + shrink * update, lower, upper),

while the best point so far is stored as the kept point. If the objective is not finite at a point, the search goes back to the
best one, resets the transformation's state and halves ``shrink``. The stopping rule is in `progress`.
"""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from mlejax.misuse import constructor
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
        shrink: factor on the transformation's updates, halved after each point where the objective was not finite, ().
        progress: the state of the stopping rule.
    """

    memory: PyTree
    trial: Float[Either, " p"]
    shrink: Scalar
    progress: Progress


class OptaxMethod(Method):
    """Base class of methods whose steps are those of an optax gradient transformation."""

    patience: int | None

    @abstractmethod
    def gradient_transformation(self) -> Transformation:
        """Return the optax gradient transformation whose updates are the steps."""

    def init(self, u: Float[Either, " p"]) -> FirstOrderState:
        """Return the state before the first evaluation; ValueError if the method trains on minibatches, for which see `epoch`."""
        refuse_batches(self)
        memory = strong(self.gradient_transformation().init(jnp.asarray(u)))
        return FirstOrderState(memory, u, np.ones((), u.dtype), no_progress(u.dtype))

    def propose(self, state: FirstOrderState, kept: Point) -> Float[Either, " p"]:
        """Return ``state.trial``, the point to which the transformation's last update leads, (p,)."""
        return state.trial

    def update(self, state: FirstOrderState, kept: Point, new: Point, setting: Setting) -> tuple[FirstOrderState, Step]:
        """Keep the new point if it is the best so far, and compute the next trial point by the transformation; arguments as in
        `Method.update`.

        The next point starts from the new one, or, if f is not finite there, from the kept one with the transformation's state
        reset and its updates halved. Status SETTLED without progress (`watch`), STALLED if updates were halved below 1e-12.
        """
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


@constructor
@dataclass(frozen=True)
class FirstOrder(OptaxMethod):
    """Any optax `GradientTransformation` as an optimiser; two are equal if their transformation is the same object.

    Args:
        transformation: such as ``optax.sgd(0.1)``. Transformations with a line search are not supported, because they
            evaluate the objective at further points; they raise an error in the fit.
        tol: stop when the log-likelihood increased by at most this over `patience` evaluations.
        max_steps: most evaluations after the start.
        patience: number of evaluations in that rule, default 100. With `batch_size`: stop after this many epochs without a
            higher validation log-likelihood, default 10.
        batch_size: rows (or units) of a minibatch; None for all of them at every step.
        epochs, seed: most passes through the data, default 100, and seed of the shuffling; only with `batch_size`.

    Raises:
        ValueError: an option is not positive or not a whole number, or has no effect in combination with the others.
        TypeError: ``transformation`` lacks ``init`` or ``update``.

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
            raise TypeError(f"FirstOrder: expected an optax gradient transformation, optax.sgd(0.1), got {self.transformation!r}")
        check_options(self)
        check_batches(self)

    def gradient_transformation(self) -> Transformation:
        """Return ``transformation``."""
        return self.transformation


def strong(tree: PyTree) -> PyTree:
    """Return a pytree as JAX arrays of the same dtypes that are not weak types, so that the carry of a JAX loop keeps its
    types.
    """
    return cast_like(tree, tree)


def cast_like(tree: PyTree, like: PyTree) -> PyTree:
    """Return a pytree as JAX arrays with the dtypes of ``like``, a pytree of the same structure."""
    return jax.tree.map(lambda a, b: jnp.asarray(a, jnp.asarray(b).dtype), tree, like)
