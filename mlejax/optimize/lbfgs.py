"""L-BFGS: curvature from the last few gradients (Liu & Nocedal 1989), through optax, projected onto the box.

The direction is optax's two-loop recursion. Its line search is not used: each turn of the common loop tries one point,
and a step that does not bring an Armijo share of the promised fall is shortened on the next turn by interpolation. A
pair of differences with no positive curvature along it is replaced by one that has some (in the spirit of Powell 1978),
so that directions stay downhill on surfaces that are not convex. It settles when -scale * g'd, its stand-in for the
Newton decrement, is at most `tol` twice running, or when the log-likelihood has risen by no more than `tol` over
`patience` turns.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from mlejax.optimize.box import clip, outward
from mlejax.optimize.contract import Point, Setting, Update
from mlejax.optimize.first_order import strong
from mlejax.optimize.options import check
from mlejax.status import End

__all__ = ["LBFGS", "LBFGSState"]

ARMIJO = 1e-4
LEAST_CURVATURE = 1e-8  # cosine between differences of points and of gradients below which a pair is damped
RESTART, GIVE_UP = 12, 40


class LBFGSState(NamedTuple):
    """Memory between turns.

    Attributes:
        memory: optax's pairs of differences.
        direction: from the kept point, shape (p,).
        step: length of the pending step along it.
        calm: accepted points in a row with a small promised rise, int32.
        rejected: steps rejected in a row, int32.
        mark: objective when the current window began.
        age: turns since then, int32.
    """

    memory: Any
    direction: Any
    step: Any
    calm: Any
    rejected: Any
    mark: Any
    age: Any


@dataclass(frozen=True)
class LBFGS:
    """L-BFGS with backtracking.

    Args:
        memory: pairs of differences kept.
        tol: settle when the promised rise of the log-likelihood is at most this.
        max_steps: points tried after the start.
        patience: length of the window without progress, in turns.

    Raises:
        ValueError: an option is not positive.

    Example:
        >>> from mlejax.optimize import LBFGS
        >>> LBFGS(memory=20).memory
        20
    """

    memory: int = 10
    tol: float = 1e-8
    max_steps: int = 5_000
    patience: int = 50
    dense: ClassVar[bool] = False

    def __post_init__(self) -> None:
        if not (isinstance(self.memory, int) and self.memory > 0):
            raise ValueError(f"LBFGS(memory={self.memory!r}): expected a positive whole number")
        check(self)

    def _transformation(self) -> Any:
        import optax

        return optax.scale_by_lbfgs(self.memory)

    def evaluate(self, objective: Any, u: jax.Array) -> tuple[Any, Any, Any]:
        """Value and gradient."""
        return (*objective.value_and_grad(u), None)

    def start(self, u0: Any) -> LBFGSState:
        """Memory before the first evaluation."""
        xp: Any = jnp if isinstance(u0, jax.core.Tracer) else np
        return LBFGSState(
            memory=strong(self._transformation().init(jnp.asarray(u0))),
            direction=xp.zeros(u0.shape, u0.dtype),
            step=xp.ones((), u0.dtype),
            calm=xp.zeros((), np.int32),
            rejected=xp.zeros((), np.int32),
            mark=xp.full((), np.inf, u0.dtype),
            age=xp.zeros((), np.int32),
        )

    def update(self, inner: LBFGSState, old: Point, new: Point, first: Any, finite: Any, setting: Setting) -> Update:
        """One turn: judge the new point, extend the memory if it is kept, propose the next."""
        eps = float(jnp.finfo(old.u.dtype).eps)
        s = new.u - old.u
        slope = jnp.where(first, 0.0, old.g) @ s
        fall = jnp.where(first, 0.0, old.f) - new.f
        noise = 10.0 * eps * jnp.maximum(1.0, jnp.abs(new.f))
        pull_at = lambda point: jnp.where(outward(point.u, point.g, setting), 0.0, point.g)
        quieter = (
            (jnp.abs(slope) <= noise)
            & (jnp.abs(fall) <= noise)
            & (jnp.sum(pull_at(new) ** 2) < jnp.sum(pull_at(old) ** 2))
        )
        accepted = finite & (first | ((slope < 0) & (fall >= -ARMIJO * slope)) | quieter)
        kept = Point(*(jnp.where(accepted, b, a) for a, b in zip(old, new, strict=True)))

        direction, memory = self._direction(inner, old, kept, first, setting)
        # the parabola through the two values and the slope; a quarter where the new value is of no use
        best = -slope / (2.0 * jnp.where(fall + slope < 0, -(fall + slope), 1.0))
        shorter = jnp.where(finite & (fall + slope < 0), jnp.clip(best, 0.1, 0.5), 0.25)
        rejected = jnp.where(accepted, 0, inner.rejected + 1)
        restart = rejected == RESTART
        memory = jax.tree.map(
            lambda a, b, c: jnp.where(accepted, a, jnp.where(restart, c, b)),
            memory,
            inner.memory,
            strong(self._transformation().init(kept.u)),
        )
        pull = pull_at(kept)
        down = -pull / jnp.maximum(jnp.sqrt(jnp.sum(pull**2)), 1.0)
        usable = jnp.all(jnp.isfinite(direction)) & (direction @ kept.g < 0)
        direction = jnp.where(accepted, jnp.where(usable, direction, down), jnp.where(restart, down, inner.direction))
        step = jnp.where(accepted | restart, 1.0, shorter * inner.step)

        promise = -setting.scale * (direction @ pull)
        calm = jnp.where(accepted & (promise <= self.tol), inner.calm + 1, jnp.where(accepted, 0, inner.calm))
        age = jnp.where(first, 0, inner.age + 1)
        mark = jnp.where(first, kept.f, inner.mark)
        full_window = age >= self.patience
        settled = (calm >= 2) | (full_window & (setting.scale * (mark - kept.f) <= self.tol))
        settled = settled | (~jnp.any(pull != 0) & ~first)
        near = setting.scale * (mark - kept.f) <= 1e-6
        status = jnp.where(settled, int(End.SETTLED), int(End.RUNNING))
        stuck = jnp.where((promise <= 1e-4) | near, int(End.SETTLED), int(End.STALLED))
        status = jnp.where((rejected >= GIVE_UP) & ~settled, stuck, status)
        return Update(
            kept=kept,
            accepted=accepted,
            trial=clip(kept.u + step * direction, setting),
            decrement=jnp.full((), jnp.inf, old.u.dtype),
            full=jnp.zeros((), bool),
            status=status,
            inner=LBFGSState(
                memory=memory,
                direction=direction,
                step=step,
                calm=calm.astype(jnp.int32),
                rejected=rejected.astype(jnp.int32),
                mark=jnp.where(full_window, kept.f, mark),
                age=jnp.where(full_window, 0, age).astype(jnp.int32),
            ),
        )

    def _direction(
        self, inner: LBFGSState, old: Point, kept: Point, first: Any, setting: Setting
    ) -> tuple[jax.Array, Any]:
        """Downhill direction at the kept point, and the memory with its newest pair."""
        memory = inner.memory
        s, y = kept.u - old.u, kept.g - old.g
        norms = jnp.sqrt(jnp.sum(s**2)) * jnp.sqrt(jnp.sum(y**2))
        bent = (s @ y < LEAST_CURVATURE * norms) & ~first
        # a stand-in pair of positive curvature, as steep as the change of the gradient was
        steep = jnp.sqrt(jnp.sum(y**2)) / jnp.maximum(jnp.sqrt(jnp.sum(s**2)), jnp.finfo(s.dtype).tiny)
        y = jnp.where(bent, steep * s, y)
        memory = memory._replace(params=old.u, updates=kept.g - y)
        direction, after = self._transformation().update(kept.g, memory, kept.u)
        # optax forms the pair from full gradients; only the direction is restricted to the coordinates that may move
        held = outward(kept.u, kept.g, setting) | outward(kept.u, direction, setting)
        return jnp.where(held, 0.0, -direction), strong_like(after, inner.memory)


def strong_like(tree: Any, like: Any) -> Any:
    """The numbers of one tree with the types of another."""
    return jax.tree.map(lambda a, b: jnp.asarray(a, jnp.asarray(b).dtype), tree, like)
