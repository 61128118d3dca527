"""Drivers, which run any method: they evaluate, count, check finiteness, apply bounds and limits, and set the status.

Each turn evaluates the objective and its derivatives exactly once, at the trial point; the method accepts or rejects that point
and proposes the next. The start is the first trial point, so a compiled program holds one copy of the objective. There is no
inner line search: under `vmap` every data set would take as many evaluations as the slowest one.

    advance            many turns in one traced loop: inside `jit`, `vmap`, or the caller's trace
    run_on_host        one evaluation per turn, the step in NumPy: for a single fit, whose steps are not compiled
    run_in_dispatches  many turns per call of a compiled `advance`, so that progress shows and Ctrl-C works

All three call `take_turn`. A carry whose status is not RUNNING is returned unchanged.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from types import ModuleType
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from mlejax.optimize.arrays import all_finite, namespace, not_, possible, push, scalar, select, where
from mlejax.optimize.box import clip, setting_of
from mlejax.optimize.method import HISTORY, Carry, DifferentiableObjective, Evaluated, Method, Point, Setting
from mlejax.shapes import Count, Either, Flag, Scalar
from mlejax.status import End

__all__ = ["advance", "begin", "run_in_dispatches", "run_on_host", "take_turn"]

RUNNING, MAX_STEPS, BAD_START = (np.int32(end) for end in (End.RUNNING, End.MAX_STEPS, End.START_NOT_FINITE))
DISPATCH_SECONDS = 0.2  # short enough for Ctrl-C and progress, long enough that dispatching costs nothing
MOST_TURNS = 4096
INFORMATIVE = 1e-8  # decrement where a step begins, above which the change of the gradient along it exceeds rounding errors

Report = Callable[[int, float, float], None]


def begin(method: Method, u0: Either, lower: Either | None = None, upper: Either | None = None) -> Carry:
    """Return the initial state of an optimisation, before any evaluation.

    Args:
        method: the method.
        u0: start, shape (p,); its dtype is the dtype of the run.
        lower: lower bounds, shape (p,), or None for none.
        upper: upper bounds, shape (p,), or None for none.

    Returns:
        `Carry` with status RUNNING and the start, projected onto the bounds, as its trial point; f and decrements are inf,
        derivatives 0. NumPy arrays unless an argument is traced.

    Raises:
        ValueError: u0 is not a vector of floats.

    Example:
        >>> import jax.numpy as jnp
        >>> from mlejax.optimize import Newton, begin
        >>> carry = begin(Newton(), jnp.zeros(2))
        >>> carry.trial.tolist(), int(carry.n_evaluations)
        ([0.0, 0.0], 0)
    """
    traced = any(isinstance(a, jax.core.Tracer) for a in (u0, lower, upper))
    xp: ModuleType = jnp if traced else np  # NumPy's arrays are cheapest to make, and compile to the same program
    u = xp.asarray(u0)
    if u.ndim != 1 or not jnp.issubdtype(u.dtype, jnp.floating):
        raise ValueError(f"expected the start as a vector of floats, got shape {u.shape} and dtype {u.dtype}")
    if lower is not None:
        u = xp.maximum(u, xp.asarray(lower, u.dtype))
    if upper is not None:
        u = xp.minimum(u, xp.asarray(upper, u.dtype))
    size = u.shape[0] if method.dense else 0
    return Carry(
        u=u,
        f=scalar(np.inf, u.dtype),
        g=xp.zeros_like(u),
        H=xp.zeros((size, size), u.dtype),
        trial=u,
        decrements=xp.full((HISTORY,), np.inf, u.dtype),
        mismatch=scalar(np.inf, u.dtype),
        status=RUNNING,
        n_steps=np.int32(0),
        n_evaluations=np.int32(0),
        inner=method.init(u),
    )


def advance(
    method: Method,
    objective: DifferentiableObjective,
    carry: Carry,
    lower: Either | None,
    upper: Either | None,
    scale: Scalar,
    n_turns: Count | None,
    allow_trust_region_solve: Flag | None = None,
) -> Carry:
    """Take at most n_turns further turns (one evaluation each) in a traced loop, until the status is no longer RUNNING.

    Args:
        method: the method that `begin` got.
        objective: function to minimise, with the derivatives that the method evaluates (`DifferentiableObjective`); without
            parameters (p = 0) its value is evaluated once.
        carry: state of the run.
        lower: lower bounds, shape (p,), -inf for no bound; None if no coordinate has one. If NumPy bounds are all infinite,
            no code for bounds is compiled.
        upper: upper bounds, likewise.
        scale: what the log-likelihood was divided by, so that scale * g'H^-1 g is in its units, shape ().
        n_turns: most turns, each one evaluation; may be traced.
        allow_trust_region_solve: for methods with curvature; if False, stop before a turn that must solve the trust-region
            subproblem: under `vmap` that would slow all data sets down. The turn is taken when `advance` is called again with
            True. Affects speed, not results. May be traced. None for always allowed.

    Returns:
        `Carry`; its status is RUNNING if n_turns was reached first, or a turn was not allowed.

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
        return _without_unknowns(objective, carry, n_turns)
    carry = jax.tree.map(jnp.asarray, carry)  # a start is of the host, the objective may be traced
    allowed = allow_trust_region_solve
    setting = setting_of(carry.u, lower, upper, scale)._replace(allow_trust_region_solve=allowed)
    limit = jnp.asarray(n_turns, jnp.int32)

    def more(state: tuple[jax.Array, Carry]) -> jax.Array:
        return (state[0] < limit) & (state[1].status == RUNNING)

    def turn(state: tuple[jax.Array, Carry]) -> tuple[jax.Array, Carry]:
        turns, before = state
        after = take_turn(method, method.evaluate(objective, before.trial), before, setting)
        if allowed is None:
            return turns + 1, after
        deferred = jnp.logical_not(allowed) & ~jnp.isfinite(after.trial).all()
        after = jax.tree.map(lambda a, b: jnp.where(deferred, a, b), before, after)
        return jnp.where(deferred, limit, turns + 1), after

    return jax.lax.while_loop(more, turn, (jnp.zeros((), jnp.int32), carry))[1]


def _without_unknowns(objective: DifferentiableObjective, carry: Carry, n_turns: Count | None) -> Carry:
    """Return the carry after evaluating an objective of no variables (p = 0) once: with status CONVERGED if its value is finite,
    else START_NOT_FINITE; unchanged if ``n_turns`` is 0 or the status is not RUNNING.
    """
    value = jnp.asarray(objective.value(carry.u), carry.u.dtype)
    due = (jnp.asarray(n_turns) > 0) & (carry.status == RUNNING)
    status = jnp.where(jnp.isfinite(value), int(End.CONVERGED), BAD_START)
    return carry._replace(
        f=jnp.where(due, value, carry.f),
        decrements=jnp.where(due, jnp.zeros_like(carry.decrements), carry.decrements),
        status=jnp.where(due, status, carry.status).astype(jnp.int32),
        n_evaluations=carry.n_evaluations + due.astype(jnp.int32),
    )


def take_turn(method: Method, evaluated: Evaluated, carry: Carry, setting: Setting) -> Carry:
    """Update the state after one evaluation at the trial point: accept or reject the point, propose the next, count.

    Args:
        method: the method that `begin` got.
        evaluated: what `method.evaluate` returned at `carry.trial`: value (), gradient (p,), curvature (p, p) or None.
        carry: state of the run; either all NumPy arrays (call under `np.errstate(all="ignore")`), or JAX arrays.
        setting: bounds and scale, arrays of the same kind.

    Returns:
        `Carry` after the turn; its status is START_NOT_FINITE if this was the start and a value or derivative is not finite.

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
    xp, dtype = namespace(carry.u), carry.u.dtype
    kept = Point(carry.u, carry.f, carry.g, carry.H)
    value, gradient, curvature = evaluated
    H = carry.H if curvature is None else xp.asarray(curvature, dtype)
    raw = Point(carry.trial, scalar(value, dtype), xp.asarray(gradient, dtype), H)
    finite = all_finite(raw.f, raw.g, raw.H)
    # a method computes with the new point even where it rejects it: give it finite derivatives, or NaN would spread
    new = select(finite, raw, Point(raw.u, scalar(np.inf, dtype), carry.g, carry.H))
    inner, step = method.update(carry.inner, kept, new, setting)

    later = carry.n_evaluations > 0
    bad_start = not_(later | finite)
    point: Point = select(bad_start, raw, select(scalar(step.keep, bool), new, kept))
    accepted = scalar(step.keep if step.accepted is None else step.accepted, bool) & not_(bad_start)
    n_evaluations = carry.n_evaluations + 1
    status = scalar(step.status, np.int32)
    status = where((status == RUNNING) & (n_evaluations > method.max_steps), MAX_STEPS, status)
    return Carry(
        *point,
        trial=where(bad_start, carry.trial, clip(method.propose(inner, point), setting)),
        decrements=push(carry.decrements, step.decrement, accepted),
        mismatch=_mismatch(carry, new, accepted & later) if method.curvature == "hessian" else carry.mismatch,
        status=where(bad_start, BAD_START, status),
        n_steps=where(accepted & later, carry.n_steps + 1, carry.n_steps),
        n_evaluations=n_evaluations,
        inner=inner,
    )


def _mismatch(carry: Carry, new: Point, accepted: Flag) -> Scalar:
    """Return `Carry.mismatch` after a step from the kept point of ``carry`` to ``new``: the largest part of the gradient's change
    that the mean of both Hessians does not explain, over the largest part of the change, with coordinates scaled by the diagonal
    of the Hessian.

    Near a minimum that mean explains the change to second order in the length of the step, unless rounding dominates one of
    the Hessians.  Returns the previous mismatch if the step is not accepted or began within 1e-4 standard errors of a minimum.
    """
    told = accepted & (carry.decrements[-1] > INFORMATIVE)
    if not possible(told):
        return carry.mismatch
    xp = namespace(new.u)
    weight = 1.0 / xp.sqrt(xp.abs(new.H.diagonal()) + np.finfo(new.u.dtype).tiny)
    change = weight * (new.g - carry.g)
    explained: Either = (0.5 * (carry.H + new.H)).dot(new.u - carry.u)  # `@` takes NumPy five times as long
    unexplained = change - weight * explained
    return where(told, xp.abs(unexplained).max() / (xp.abs(change).max() + np.finfo(new.u.dtype).tiny), carry.mismatch)


def run_on_host(
    method: Method,
    evaluate: Callable[[Any], Evaluated],
    u0: np.ndarray,
    bounds: tuple[Any, Any] = (None, None),
    scale: Scalar = 1.0,
    report: Report | None = None,
    enough: Callable[[Carry], bool] | None = None,
) -> Carry:
    """Run a method until it stops, with one call of ``evaluate`` per turn and the steps in NumPy.

    Args:
        method: the method.
        evaluate: u (p,) -> value (), gradient (p,) and curvature (p, p) or None, as NumPy arrays.
        u0: start, shape (p,).
        bounds: lower and upper bounds, shape (p,) each; None for none.
        scale: what the log-likelihood was divided by, ().
        report: called after every turn with the number of accepted steps, minus the objective at the kept point, and half the
            Newton decrement there (the predicted increase of the log-likelihood, its units; inf where unknown).
        enough: called after every turn with the state; if it returns True, the run ends with the status as it is.

    Returns:
        `Carry` of NumPy arrays; its status is INTERRUPTED after a KeyboardInterrupt (Ctrl-C).

    Example:
        >>> import numpy as np
        >>> from mlejax.optimize import Newton, run_on_host
        >>> carry = run_on_host(Newton(), lambda u: (0.5 * (u - 3.0) @ (u - 3.0), u - 3.0, np.eye(2)), np.zeros(2))
        >>> carry.u.tolist()
        [3.0, 3.0]
    """
    carry = begin(method, u0, *bounds)
    setting = setting_of(carry.u, *bounds, scale)
    try:
        with np.errstate(all="ignore"):
            while carry.status == RUNNING:
                carry = take_turn(method, evaluate(carry.trial), carry, setting)
                if report is not None:
                    report(int(carry.n_steps), -float(carry.f), 0.5 * float(carry.decrements[-1]))
                if enough is not None and enough(carry):
                    break
    except KeyboardInterrupt:
        carry = carry._replace(status=np.asarray(End.INTERRUPTED, np.int32))
    return jax.tree.map(np.asarray, carry)


def run_in_dispatches(
    dispatch: Callable[[Carry, Any], Carry], carry: Carry, turns: int = 32, report: Report | None = None
) -> Carry:
    """Run a method until it stops, by repeated calls of a compiled function that takes many turns.

    Args:
        dispatch: (carry, number of turns) -> carry: a compiled `advance`.
        carry: from `begin`.
        turns: number of turns of the first call; later calls take as many as fit in about `DISPATCH_SECONDS`.
        report: called after every call with the number of accepted steps, minus the objective at the kept point, and half the
            Newton decrement there (the predicted increase of the log-likelihood, its units; inf where unknown).

    Returns:
        `Carry` of NumPy arrays; its status is INTERRUPTED after a KeyboardInterrupt (Ctrl-C).

    Example:
        >>> import jax
        >>> import jax.numpy as jnp
        >>> from mlejax.optimize import LBFGS, advance, begin, run_in_dispatches
        >>> class Bowl:
        ...     def value_and_grad(self, u):
        ...         return 0.5 * jnp.sum((u - 3.0) ** 2), u - 3.0
        >>> go = jax.jit(lambda carry, turns: advance(LBFGS(), Bowl(), carry, None, None, 1.0, turns))
        >>> run_in_dispatches(go, begin(LBFGS(), jnp.zeros(2))).u.round(6).tolist()
        [3.0, 3.0]
    """
    try:
        while carry.status == RUNNING:
            began = time.perf_counter()
            carry = dispatch(carry, jnp.asarray(turns, jnp.int32))
            if report is not None:
                report(int(carry.n_steps), -float(carry.f), 0.5 * float(carry.decrements[-1]))
            room = DISPATCH_SECONDS / max(time.perf_counter() - began, 1e-6)
            turns = int(min(max(turns * min(room, 4.0), 1.0), MOST_TURNS))
    except KeyboardInterrupt:
        carry = carry._replace(status=np.asarray(End.INTERRUPTED, np.int32))
    return jax.tree.map(np.asarray, carry)
