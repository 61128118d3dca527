"""The one loop around every algorithm: it owns counting, finiteness, limits and status.

Each turn evaluates the algorithm's derivative set exactly once, at the trial point, and lets the algorithm accept or
reject it and propose the next. The start is the first trial point, so a compiled program holds one copy of the
objective. There is no inner line search: under `vmap` every lane would pay for the slowest one.

    carry = begin(method, u0)
    carry = advance(method, objective, carry, lower, upper, scale, n_turns)

`advance` runs at most n_turns turns, fewer if the algorithm stops: the whole of it inside one `jit` with a large
n_turns, or a few turns per call from a host loop that shows progress and can be interrupted. A finished carry passes
through unchanged. What comes after an evaluation is `take_turn`: the host loop of a single fit calls it with NumPy arrays.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from mlejax.linalg import FEW
from mlejax.optimize.arrays import arrays
from mlejax.optimize.box import setting_of
from mlejax.optimize.contract import HISTORY, Carry, Method, Objective, Point, Setting
from mlejax.status import End

__all__ = ["advance", "begin", "take_turn"]

RUNNING, MAX_STEPS, START_NOT_FINITE = np.int32(End.RUNNING), np.int32(End.MAX_STEPS), np.int32(End.START_NOT_FINITE)


def begin(method: Method, u0: Any, lower: Any = None, upper: Any = None) -> Carry:
    """Carry of an optimisation that has not evaluated anything yet.

    Args:
        method: algorithm.
        u0: start, shape (p,); its dtype is the dtype of the run.
        lower: lower edges of the box, shape (p,), or None; the start is moved into the box.
        upper: upper edges of the box, shape (p,), or None.

    Returns:
        `Carry` with status RUNNING and the start as its trial point.

    Raises:
        ValueError: u0 is not a vector of floats.

    Example:
        >>> import jax.numpy as jnp
        >>> from mlejax.optimize import Newton, begin
        >>> carry = begin(Newton(), jnp.zeros(2))
        >>> carry.trial.tolist(), int(carry.n_evaluations)
        ([0.0, 0.0], 0)
    """
    tracer = jax.core.Tracer
    traced = isinstance(u0, tracer) or isinstance(lower, tracer) or isinstance(upper, tracer)
    # On the host plain NumPy arrays of exact type are cheapest to make, and compile to the same program.
    xp: Any = jnp if traced else np
    u = xp.asarray(u0)
    if u.ndim != 1 or not (u.dtype.kind == "f" or jnp.issubdtype(u.dtype, jnp.floating)):
        raise ValueError(f"expected the start as a vector of floats, got shape {u.shape} and dtype {u.dtype}")
    if lower is not None:
        u = xp.maximum(u, xp.asarray(lower, u.dtype))
    if upper is not None:
        u = xp.minimum(u, xp.asarray(upper, u.dtype))
    p = u.shape[0]
    size = p if method.dense else 0
    few = xp is np and p <= FEW
    known = _blank_on_host(p, size, u.dtype) if few else _blank(p, size, u.dtype, xp)
    f, g, H, decrements, full_steps, status, none = known
    return Carry(u, f, g, H, u, decrements, full_steps, status, none, none, method.start(u))


def _blank(p: int, size: int, dtype: Any, xp: Any) -> tuple[Any, ...]:
    """What a carry holds before anything is known: f, g, H, decrements, whole steps, status, a count of nothing."""
    return (
        xp.full((), np.inf, dtype),
        xp.zeros((p,), dtype),
        xp.zeros((size, size), dtype),
        xp.full((HISTORY,), np.inf, dtype),
        xp.zeros((HISTORY,), bool),
        xp.full((), int(End.RUNNING), np.int32),
        xp.zeros((), np.int32),
    )


@lru_cache(maxsize=64)
def _blank_on_host(p: int, size: int, dtype: Any) -> tuple[Any, ...]:
    """`_blank` of few parameters in NumPy's scalars and arrays, which all fits share: nothing can be written into them."""
    known = _blank(p, size, dtype, np)
    for a in known:
        a.setflags(write=False)
    return tuple(a[()] for a in known)


def advance(
    method: Method,
    objective: Objective,
    carry: Carry,
    lower: Any,
    upper: Any,
    scale: Any,
    n_turns: Any,
    bends: Any = None,
) -> Carry:
    """Take at most n_turns further turns.

    Args:
        method: algorithm, the one that the carry was begun with.
        objective: function to minimise, with derivatives.
        carry: where the run stands.
        lower: lower edges of the box, shape (p,), -inf where there is none; None for none at all. NumPy edges that are
            all infinite are seen when the program is built, and nothing of a box is compiled.
        upper: upper edges of the box, likewise.
        scale: what the log-likelihood was divided by, so that scale * g'H^-1 g is in its units, shape ().
        n_turns: turns, each one evaluation; may be traced.
        bends: of a method with curvature, False to stop before a turn that needs more than one factorisation: under
            `vmap` all lanes would pay for it. The turn is made when it is asked for again with True. May be traced.

    Returns:
        `Carry`; its status is RUNNING if the turns ran out first, or a turn waits.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> from mlejax.optimize import Newton, advance, begin
        >>> class Bowl:
        ...     def with_hessian(self, u):
        ...         return 0.5 * jnp.sum((u - 3.0) ** 2), u - 3.0, jnp.eye(2)
        >>> with jax.enable_x64(True):
        ...     carry = advance(Newton(), Bowl(), begin(Newton(), jnp.zeros(2)), None, None, 1.0, 50)
        >>> carry.u.tolist(), int(carry.status)
        ([3.0, 3.0], 1)
    """
    if carry.u.shape[0] == 0:
        return _nothing_free(objective, carry, n_turns)
    carry = jax.tree.map(jnp.asarray, carry)  # a start is of the host, the objective may be traced
    setting = setting_of(carry.u, lower, upper, scale)._replace(bends=bends)
    limit = jnp.asarray(n_turns, jnp.int32)

    def more(state: tuple[jax.Array, Carry]) -> jax.Array:
        return (state[0] < limit) & (state[1].status == int(End.RUNNING))

    def turn(state: tuple[jax.Array, Carry]) -> tuple[jax.Array, Carry]:
        turns, before = state
        after = take_turn(method, method.evaluate(objective, before.trial), before, setting)
        if bends is None:
            return turns + 1, after
        waits = jnp.logical_not(bends) & ~jnp.isfinite(after.trial).all()
        after = jax.tree.map(lambda a, b: jnp.where(waits, a, b), before, after)
        return jnp.where(waits, limit, turns + 1), after

    return jax.lax.while_loop(more, turn, (jnp.zeros((), jnp.int32), carry))[1]


def _nothing_free(objective: Objective, carry: Carry, n_turns: Any) -> Carry:
    """A problem without unknowns: evaluated once, and solved."""
    value = jnp.asarray(objective.value(carry.u), carry.u.dtype)
    due = (jnp.asarray(n_turns) > 0) & (carry.status == int(End.RUNNING))
    ended = jnp.where(jnp.isfinite(value), int(End.CONVERGED), int(End.START_NOT_FINITE))
    return carry._replace(
        f=jnp.where(due, value, carry.f),
        decrements=jnp.where(due, jnp.zeros_like(carry.decrements), carry.decrements),
        status=jnp.where(due, ended, carry.status).astype(jnp.int32),
        n_evaluations=carry.n_evaluations + due.astype(jnp.int32),
    )


def take_turn(method: Method, evaluated: tuple[Any, Any, Any], carry: Carry, setting: Setting) -> Carry:
    """What follows from one evaluation at the trial point: judge it, keep it or not, propose the next, count.

    Args:
        method: algorithm, the one that the carry was begun with.
        evaluated: what `method.evaluate` gave at `carry.trial`: value (), gradient (p,), curvature (p, p) or None.
        carry: where the run stands; all NumPy to take the turn on the host (methods with curvature, under
            `np.errstate(all="ignore")`), traced or JAX arrays otherwise.
        setting: box and scale, of the same kind.

    Returns:
        `Carry` after the turn.

    Example:
        >>> import numpy as np
        >>> from mlejax.optimize import Newton, begin, setting_of, take_turn
        >>> u = np.zeros(2)
        >>> carry, setting = begin(Newton(), u), setting_of(u, None, None, 1.0)
        >>> while carry.status == 0:
        ...     away = carry.trial - 3.0
        ...     carry = take_turn(Newton(), (0.5 * away @ away, away, np.eye(2)), carry, setting)
        >>> carry.u.tolist(), int(carry.status)
        ([3.0, 3.0], 1)
    """
    xp = arrays(carry.u)
    dtype = carry.u.dtype
    value, grad, curvature = evaluated
    new = Point(
        carry.trial,
        xp.scalar(value, dtype),
        xp.asarray(grad, dtype),
        carry.H if curvature is None else xp.asarray(curvature, dtype),
    )
    finite = xp.all_finite(new.f, new.g, new.H)
    first = carry.n_evaluations == 0
    # algorithms compute with the new point even where it is rejected: give them finite numbers, or NaN would spread
    safe = new
    if not xp.surely(finite):
        safe = xp.either(finite, new, Point(new.u, np.finfo(dtype).max, carry.g, carry.H))
    update = method.update(carry.inner, Point(carry.u, carry.f, carry.g, carry.H), safe, first, finite, setting)
    n_evaluations = carry.n_evaluations + 1
    used_up = (update.status == RUNNING) & (n_evaluations > method.max_steps)
    bad_start = first & ~finite
    status = xp.where(used_up, MAX_STEPS, xp.integer(update.status))
    status = xp.where(bad_start, START_NOT_FINITE, status)
    counted = update.accepted & ~bad_start
    kept: Point = xp.either(bad_start, new, update.kept)
    return Carry(
        *kept,
        trial=xp.where(bad_start, carry.trial, update.trial),
        decrements=xp.push(carry.decrements, update.decrement, counted),
        full_steps=xp.push(carry.full_steps, update.full, counted),
        status=status,
        n_steps=carry.n_steps + (update.accepted & ~first),
        n_evaluations=n_evaluations,
        inner=update.inner,
    )
