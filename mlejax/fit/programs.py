"""The host shell around the pure core: one or a few turns of the optimiser a dispatch, so that Ctrl-C and progress work.

Every program here is compiled once per (declaration, layout, shapes, method): the data are arguments, never closures.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from jax import lax

from mlejax import optimize
from mlejax.data import Prepared
from mlejax.execution import compiled
from mlejax.fit import closed
from mlejax.fit.common import POLISH_LIMIT, POLISH_STEPS, AtOptimum, objective_of, off_edges, to_theta
from mlejax.fit.evaluating import Evaluated, Evaluator
from mlejax.objective import Spec
from mlejax.parameters import Space
from mlejax.status import End

Array = Any
DENSE_LIMIT = 2000
RUNNING = int(End.RUNNING)
FIRST_DISPATCH = 32
LAST_DISPATCH = 4096
HEAVY = 10_000_000  # rows times parameters, above which the first dispatch is short
DISPATCH_SECONDS = 0.2
RANKED_TOGETHER = 8
PROBES = 24
# takes the evaluator, gives a start and what Newton's method evaluates there
First = Callable[[Evaluator], tuple[np.ndarray, Evaluated]]


@partial(compiled, static=("spec", "method"))
def _advance(spec: Spec, method: Any, carry: Any, data: Prepared, fixed: Any, hyper: Any, n_turns: Array) -> Any:
    objective = objective_of(spec, data, fixed, hyper)
    # bounds as NumPy: where all are infinite, no code for boxes is compiled
    return optimize.advance(method, objective, carry, spec.space.lower, spec.space.upper, objective.scale, n_turns)


@partial(compiled, static=("spec",))
def _at_optimum(spec: Spec, u: Array, score: Array, information: Array, fixed: Any) -> tuple[AtOptimum, Any]:
    return to_theta(spec.space, u, fixed, score, information), spec.space.params_from_u(u, fixed)


def at_optimum(spec: Spec, u: Array, score: Array, information: Array, fixed: Any) -> tuple[AtOptimum, Any]:
    """Score and information in theta, and params, at the end of a fit."""
    return closed.at_optimum(spec.space, u, score, information, fixed) or _at_optimum(
        spec, u, score, information, fixed
    )


@partial(compiled, static=("space",))
def _to_u(space: Space, values: list[Array]) -> Array:
    return off_edges(space, space.u_from_params(space.build(values)))


def to_u(space: Space, values: list[Array]) -> Array:
    """Natural values, one array a leaf -> u (p,)."""
    u = closed.to_u(space, values)
    return _to_u(space, values) if u is None else u


@partial(compiled, static=("spec",))
def rank_starts(spec: Spec, values: list[Array], data: Prepared, fixed: Any, hyper: Any = None) -> tuple[Array, Array]:
    """Candidate starts, one stacked array a leaf (m, ...) -> their u (m, p) and (penalised) log-likelihoods (m,)."""
    objective = objective_of(spec, data, fixed, hyper)

    def one(parts: list[Array]) -> tuple[Array, Array]:
        u = off_edges(spec.space, spec.space.u_from_params(spec.space.build(parts)))
        return u, -objective.value(u) * objective.scale

    m = values[0].shape[0]
    full = [jnp.concatenate([v, v[: -m % RANKED_TOGETHER]]) for v in values]  # a remainder would be compiled apart
    points, found = lax.map(one, full, batch_size=RANKED_TOGETHER)
    return points[:m], found[:m]


@partial(compiled, static=("spec",))
def loglik_many(spec: Spec, u: Array, data: Prepared, fixed: Any, hyper: Any = None) -> Array:
    """Log-likelihoods (m,), penalised if there is a penalty, at many points (m, p)."""
    objective = objective_of(spec, data, fixed, hyper)
    return lax.map(lambda t: -objective.value(t) * objective.scale, u, batch_size=8)


def in_parts(program: Callable[[np.ndarray], Any], points: np.ndarray) -> np.ndarray:
    """A program over points (m, p), compiled once for ``PROBES`` of them whatever m."""
    out = []
    for i in range(0, len(points), PROBES):
        part = points[i : i + PROBES]
        out.append(np.asarray(program(np.resize(part, (PROBES, part.shape[1]))))[: len(part)])
    return out[0] if len(out) == 1 else np.concatenate(out)


def logliks(spec: Spec, data: Any, held: Any, hyper: Any = None) -> Callable[[np.ndarray], np.ndarray]:
    """(Penalised) log-likelihoods (m,) at points (m, p)."""
    return partial(in_parts, lambda points: loglik_many(spec, points, data, held, hyper))


@partial(compiled, static=("spec",))
def evaluate_rows(spec: Spec, u: Array, data: Prepared, fixed: Any) -> tuple[Array, Array]:
    """Contributions (N,) and their scores in u (N, p), padding included."""
    objective = objective_of(spec, data, fixed, None)
    return objective.all_contributions(u), objective.scores(u)


@partial(compiled, static=("spec",))
def loglik(spec: Spec, u: Array, data: Prepared, fixed: Any) -> Array:
    """The log-likelihood at one point, ()."""
    return objective_of(spec, data, fixed, None).loglik(u)


@partial(compiled, static=("spec",))
def value_and_score(spec: Spec, u: Array, data: Prepared, fixed: Any, hyper: Any = None) -> tuple[Array, Array]:
    """What is minimised () and its gradient (p,): minus the (penalised) log-likelihood over the sum of weights."""
    return objective_of(spec, data, fixed, hyper).value_and_grad(u)


class Ended(NamedTuple):
    """The optimiser's end on the host: NumPy, log-likelihood units, in u."""

    u: np.ndarray
    loglik: float
    score: np.ndarray
    information: np.ndarray | None
    decrement: float
    decrements: tuple[float, ...]
    n_steps: int
    end: End
    polished: bool
    message: str


def run(
    spec: Spec,
    method: Any,
    data: Prepared,
    u0: np.ndarray,
    fixed: np.ndarray | None,
    hyper: Any,
    on_dispatch: Callable[[int, float], None] | None = None,
    first: First | None = None,
) -> tuple[Spec, Ended]:
    """Optimise on the host, a few turns a dispatch; call inside ``jax.enable_x64(True)``.

    ``first``, for methods with curvature, takes the evaluator of the data, and gives the start that is used in place of u0 with
    what Newton's method evaluates there.

    Ends with up to ten Newton steps whatever ``method`` was (p <= 500), so that score and information are exact.
    Returns the spec as well, because a likelihood without a second derivative switches to a differenced Hessian.
    """
    p = spec.space.n_free
    newton = isinstance(method, optimize.Newton)
    if newton and p > DENSE_LIMIT:
        raise ValueError(
            f"method='newton' forms a Hessian of {p} x {p} numbers ({8 * p * p / 1e9:.3g} GB); for more than {DENSE_LIMIT} "
            "parameters use method='lbfgs' or 'adam'"
        )
    steps = 0
    polished = False
    if not newton:
        spec, carry, end = _loop(spec, method, data, u0, fixed, hyper, on_dispatch, first)
        steps = int(carry.n_steps)
        if p > POLISH_LIMIT or end == End.START_NOT_FINITE:
            return spec, _ended(carry, data, end, steps, dense=False)
        u0, method, polished = np.asarray(carry.u), optimize.Newton(max_steps=POLISH_STEPS), True
        if end == End.INTERRUPTED:
            return spec, _ended(carry, data, end, steps, dense=False)
    spec, carry, end = _loop(spec, method, data, u0, fixed, hyper, on_dispatch, first if newton else None)
    ended = _ended(carry, data, end, steps + int(carry.n_steps), dense=True)
    return spec, ended._replace(polished=polished)


def _loop(
    spec: Spec, method: Any, data: Prepared, u0: np.ndarray, fixed: Any, hyper: Any, on_dispatch: Any, first: Any
) -> tuple[Spec, Any, End]:
    """The optimiser to its end: methods with curvature turn by turn on the host, others many turns a dispatch."""
    search = _loop_on_host if method.dense else _loop_of_dispatches
    while True:
        try:
            carry, end = search(spec, method, data, u0, fixed, hyper, on_dispatch, first)
            return spec, carry, end
        except NotImplementedError as error:
            if spec.hessian == "differenced" or "ifferentiation rule" not in str(error):
                raise
            spec = replace(spec, hessian="differenced")


def _loop_on_host(
    spec: Spec, method: Any, data: Prepared, u0: np.ndarray, fixed: Any, hyper: Any, on_dispatch: Any, first: Any
) -> tuple[Any, End]:
    """One evaluation a dispatch; the step, a p x p problem, in NumPy (compiled it would cost several times the rest)."""
    carry = optimize.begin(method, u0)
    evaluate = Evaluator(spec, data, fixed, hyper)
    lower, upper = (spec.space.lower, spec.space.upper) if spec.space.boxed else (None, None)
    setting = optimize.setting_of(carry.u, lower, upper, evaluate.scale)
    previous = carry
    try:
        with np.errstate(all="ignore"):
            evaluated = None
            if first is not None:
                u0, evaluated = first(evaluate)
                evaluated = evaluated if isinstance(method, optimize.Newton) else None
                previous = carry = optimize.begin(method, u0)
            while carry.status == RUNNING:
                previous = carry
                evaluated = evaluated or evaluate(method, carry.trial)
                carry, evaluated = optimize.take_turn(method, evaluated, carry, setting), None
                if on_dispatch is not None:
                    on_dispatch(int(carry.n_steps), -float(carry.f))
    except KeyboardInterrupt:
        return previous, End.INTERRUPTED
    finally:
        evaluate.close()
    return carry, End(int(carry.status))


def _loop_of_dispatches(
    spec: Spec, method: Any, data: Prepared, u0: np.ndarray, fixed: Any, hyper: Any, on_dispatch: Any, _: Any
) -> tuple[Any, End]:
    carry = optimize.begin(method, jnp.asarray(u0))
    turns = 2 if data.weights.shape[0] * spec.space.n_free > HEAVY else FIRST_DISPATCH
    while True:
        previous = carry
        began = time.perf_counter()
        try:
            carry = _advance(spec, method, carry, data, fixed, hyper, jnp.asarray(turns, jnp.int32))
            status = End(int(carry.status))
        except KeyboardInterrupt:
            return previous, End.INTERRUPTED
        if on_dispatch is not None:
            on_dispatch(int(carry.n_steps), -float(carry.f))
        if status != End.RUNNING:
            return carry, status
        # short enough that Ctrl-C is heard and progress shows, long enough that dispatching costs nothing
        room = DISPATCH_SECONDS / max(time.perf_counter() - began, 1e-6)
        turns = int(min(max(turns * min(room, 4.0), 1.0), LAST_DISPATCH))


def _ended(carry: Any, data: Prepared, end: End, steps: int, dense: bool) -> Ended:
    scale = data.total_weight
    decrements = tuple(np.asarray(carry.decrements).tolist()) if dense else ()
    return Ended(
        u=np.asarray(carry.u),
        loglik=-float(carry.f) * scale,
        score=-np.asarray(carry.g) * scale,
        information=np.asarray(carry.H) * scale if dense else None,
        decrement=decrements[-1] if decrements else float("nan"),
        decrements=decrements,
        n_steps=steps,
        end=end,
        polished=False,
        message="",
    )
