"""L-BFGS: curvature from the last few gradients (Liu & Nocedal 1989), through optax, projected onto the bounds.

The direction is optax's two-loop recursion. Its line search is not used: each turn of a driver evaluates one point, and a step
that fails the Armijo condition is shortened on the next turn by interpolation. A pair of differences with no positive curvature
is replaced by one with positive curvature (in the spirit of Powell 1978), so that directions are descent directions on functions
that are not convex. It stops with status SETTLED when the predicted increase -scale * g'd is at most `tol` at two accepted points
in a row, or when the log-likelihood has increased by no more than `tol` over `patience` evaluations.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from mlejax import misuse
from mlejax.optimize.arrays import norm, promoting, select
from mlejax.optimize.box import active_bounds
from mlejax.optimize.method import Count, Flag, Method, Point, Setting, Step, Transformation, check_options
from mlejax.optimize.methods.first_order import cast_like, strong
from mlejax.optimize.methods.progress import Progress, no_progress, watch
from mlejax.optimize.methods.subproblem import without
from mlejax.shapes import Either, Float, PyTree, Scalar
from mlejax.status import End

__all__ = ["LBFGS", "LBFGSState"]

ARMIJO = 1e-4
LEAST_CURVATURE = 1e-8  # cosine between differences of points and of gradients below which a pair is replaced
RESTART, GIVE_UP = 12, 40  # rejections in a row
NEAR_RISE, NEAR_WINDOW = 1e-4, 1e-6  # increases below which the status after GIVE_UP is SETTLED, not STALLED


class LBFGSState(NamedTuple):
    """State between turns.

    Attributes:
        memory: optax's state, with the last differences of points and of gradients.
        direction: search direction from the kept point, shape (p,).
        length: factor on the direction for the next step, ().
        below_tolerance: number of accepted points in a row with a predicted increase of at most tol, ().
        rejected: number of steps rejected in a row, ().
        progress: the state of the stopping rule.
    """

    memory: PyTree
    direction: Float[Either, " p"]
    length: Scalar
    below_tolerance: Count
    rejected: Count
    progress: Progress


@misuse.constructor
@dataclass(frozen=True)
class LBFGS(Method):
    """L-BFGS with backtracking.

    Args:
        memory: number of pairs of differences (of points and of gradients) from which curvature is approximated.
        tol: stop when the predicted increase of the log-likelihood is at most this at two accepted points in a row.
        max_steps: most evaluations after the start, rejected steps included.
        patience: stop when the log-likelihood increased by at most ``tol`` over this many evaluations.

    Raises:
        ValueError: tol is not a positive number, or memory or max_steps not a positive whole number.

    Example:
        >>> from mlejax.optimize import LBFGS
        >>> LBFGS(memory=20).memory
        20
    """

    memory: int = 10
    tol: float = 1e-8
    max_steps: int = 5_000
    patience: int = 50

    def __post_init__(self) -> None:
        if not (isinstance(self.memory, int) and self.memory > 0):
            raise ValueError(f"LBFGS(memory={self.memory!r}): expected a positive whole number")
        check_options(self)

    def _transformation(self) -> Transformation:
        """Return optax's L-BFGS preconditioner, which has no line search."""
        import optax

        return optax.scale_by_lbfgs(self.memory)

    def init(self, u: Float[Either, " p"]) -> LBFGSState:
        """Return the state before the first evaluation: no pairs of differences, direction 0."""
        none = np.zeros((), np.int32)
        memory = strong(self._transformation().init(jnp.asarray(u)))
        return LBFGSState(memory, np.zeros(u.shape, u.dtype), np.ones((), u.dtype), none, none, no_progress(u.dtype))

    def propose(self, state: LBFGSState, kept: Point) -> Float[Either, " p"]:
        """Return the kept point plus ``length`` times ``direction``, (p,)."""
        return kept.u + state.length * state.direction

    def update(self, state: LBFGSState, kept: Point, new: Point, setting: Setting) -> tuple[LBFGSState, Step]:
        """Accept or reject the new point (`_judge`); if accepted, add a pair of differences and find a direction, else shorten
        the step; arguments as in `Method.update`.

        After 12 rejections in a row the memory is cleared and the direction is minus the gradient. Status SETTLED by ``tol`` or
        ``patience``, or if the gradient is 0. After 40 rejections in a row it is SETTLED if the log-likelihood is predicted to
        rise by at most 1e-4, or rose by at most 1e-6 in the current window of ``patience`` evaluations; else STALLED.
        """
        first = jnp.isinf(kept.f)
        accepted, shorter = _judge(kept, new, setting)
        best = select(accepted, new, kept)
        rejected = jnp.where(accepted, 0, state.rejected + 1)
        restart = rejected == RESTART

        direction, extended = self._direction(state, kept, best, setting)
        cleared = strong(self._transformation().init(best.u))
        memory = jax.tree.map(
            lambda a, b, c: jnp.where(accepted, a, jnp.where(restart, c, b)), extended, state.memory, cleared
        )
        gradient = _free_gradient(best, setting)
        down = -gradient / jnp.maximum(norm(gradient), 1.0)
        usable = jnp.all(jnp.isfinite(direction)) & (direction @ best.g < 0)
        direction = jnp.where(usable, direction, down)
        direction = jnp.where(accepted, direction, jnp.where(restart, down, state.direction))
        length = jnp.where(accepted | restart, 1.0, shorter * state.length)

        predicted = -setting.scale * (direction @ gradient)
        small = jnp.where(accepted, predicted <= self.tol, False)
        below = jnp.where(accepted & ~small, 0, state.below_tolerance + small.astype(jnp.int32))
        progress, no_rise, rise = watch(state.progress, best, first, setting, self.tol, self.patience)
        settled = (below >= 2) | no_rise | (~jnp.any(gradient != 0) & ~first)
        near = (predicted <= NEAR_RISE) | (rise <= NEAR_WINDOW)
        status = jnp.where(rejected >= GIVE_UP, jnp.where(near, int(End.SETTLED), int(End.STALLED)), int(End.RUNNING))
        status = jnp.where(settled, int(End.SETTLED), status)
        counts = below.astype(jnp.int32), rejected.astype(jnp.int32)
        return LBFGSState(memory, direction, length, *counts, progress), Step(accepted, status)

    def _direction(
        self, state: LBFGSState, kept: Point, best: Point, setting: Setting
    ) -> tuple[Float[Either, " p"], Any]:
        """Return the search direction at the best point, (p,), 0 for active coordinates and for those that it would move across
        their bound, and the memory with the pair of differences between ``kept`` and ``best`` added.

        A pair without positive curvature is replaced by one with it; the direction may still not be one of descent. Arguments are
        those of `update`, with ``best`` the point that is kept after it.
        """
        s, y = best.u - kept.u, best.g - kept.g
        bent = (s @ y < LEAST_CURVATURE * norm(s) * norm(y)) & ~jnp.isinf(kept.f)
        # a stand-in pair of positive curvature, as steep as the change of the gradient was
        steep = norm(y) / jnp.maximum(norm(s), jnp.finfo(s.dtype).tiny)
        y = jnp.where(bent, steep * s, y)
        memory = state.memory._replace(params=kept.u, updates=best.g - y)
        with promoting():
            direction, after = self._transformation().update(best.g, memory, best.u)
        # optax forms the pair from full gradients; only the direction is restricted to the coordinates that may move
        active = active_bounds(best, setting) | active_bounds(best._replace(g=direction), setting)
        return without(-direction, active), cast_like(after, state.memory)


def _judge(kept: Point, new: Point, setting: Setting) -> tuple[Flag, Scalar]:
    """Return whether the new point is accepted, and the factor on the step's length if it is rejected, between 0.1 and 0.5.

    It is accepted if it is the start, if f falls enough from ``kept`` (Armijo condition), or if f changes only by rounding and
    the gradient became smaller; never if f is not finite. ``setting`` has the bounds.
    """
    first, finite = jnp.isinf(kept.f), jnp.isfinite(new.f)
    slope = kept.g @ (new.u - kept.u)  # 0 at the start
    fall = jnp.where(first, 0.0, kept.f) - new.f
    rounding = 10.0 * float(jnp.finfo(new.u.dtype).eps) * jnp.maximum(1.0, jnp.abs(new.f))
    size = lambda point: jnp.sum(_free_gradient(point, setting) ** 2)
    quieter = (jnp.abs(slope) <= rounding) & (jnp.abs(fall) <= rounding) & (size(new) < size(kept))
    accepted = finite & (first | ((slope < 0) & (fall >= -ARMIJO * slope)) | quieter)
    # the minimum of the parabola through the two values and the slope; a quarter where the new value is of no use
    convex = finite & (fall + slope < 0)
    best = -slope / (2.0 * jnp.where(convex, -(fall + slope), 1.0))
    return accepted, jnp.where(convex, jnp.clip(best, 0.1, 0.5), 0.25)


def _free_gradient(point: Point, setting: Setting) -> Float[Either, " p"]:
    """Return the gradient at a point, (p,), with 0 for the coordinates that are active under the bounds (`active_bounds`)."""
    return without(point.g, active_bounds(point, setting))
