"""Rises that end where the numbers end: which terms are not finite there, and which operation of the function makes them so.

A logit written as log(exp(e) / (1 + exp(e))) is NaN in a row once e exceeds 709.  Where other rows still rise along a ray that
ends so, nothing is known of the log-likelihood beyond.  A rise is believed if it has levelled off before, or if the terms that
end are those that carry it (a spike, or a scale that underflows in all terms).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from mlejax import linalg
from mlejax.execution.trace.jaxprs import Equation, Program, is_literal
from mlejax.execution.trace.rounding.forward_rounding import entered
from mlejax.fit.diagnose.directions.movements import describe_movement
from mlejax.fit.diagnose.ends import interior
from mlejax.fit.diagnose.evidence import explain
from mlejax.objective import Objective, SingleEvaluator, row_terms
from mlejax.optimize import OptimizeResult
from mlejax.shapes import Either, Float, Host
from mlejax.status import End
from mlejax.verdict import Direction

LEAST_PROMISE = 1e-6  # decrement, above which an end is no maximum
N_HALVES, STUCK = 50, 0.1  # of a step, and the share of its promise that a search may leave at points it can reach
CARRIED = 0.5  # share of a rise by terms that stay finite, above which the terms that end do not carry it
OVERFLOWS = frozenset(
    {"exp", "exp2", "expm1", "mul", "square", "cosh", "sinh", "add", "sub", "reduce_sum"}
)
OTHERS = {"log": "a logarithm is taken of 0 or less", "div": "a division is by 0, or its result overflows"}
STAYS_FINITE = (
    "Write it with a form that stays finite: mle.special.log_sigmoid(e) and log_sigmoid(-e) for the logarithms of a logit's "
    "probabilities, jax.scipy.stats.norm.logcdf(e) and logcdf(-e) for a probit's, jax.nn.log_softmax for those of several "
    "outcomes, jax.scipy.special.logsumexp for logarithms of sums, jnp.log(-jnp.expm1(-h)) for log(1 - exp(-h)).  Or scale "
    "columns with values far from the others, or begin with another start=."
)


def where_it_ends(evaluator: SingleEvaluator, end: OptimizeResult, d: Direction, levelled: bool) -> str:
    """A statement on a rise along d that ends with the numbers in terms that do not carry it; empty if it does not.

    Args:
        evaluator: evaluator of one data set.
        end: the final point from which d starts.
        d: a direction of behaviour ``rises``.
        levelled: the log-likelihood levels off before.
    """
    if d.point is None or d.behaviour != "rises" or levelled:
        return ""
    space = evaluator.spec.space
    beyond = np.clip(2.0 * d.point - end.u, space.lower, space.upper)
    if np.isfinite(evaluator.logliks({0: beyond[None]})[0][0]):
        return ""
    here, far, ended = (row_terms(evaluator, u) for u in (end.u, d.point, beyond))
    bad = ~np.isfinite(ended.values) & (ended.weights > 0)
    change = np.where(here.weights > 0, here.weights * (far.values - here.values), 0.0)
    rise = change.sum()
    if not bad.any() or not rise > 0.0 or not change[~bad].sum() > CARRIED * rise:
        return ""
    return _not_known_beyond(evaluator, beyond, d.movement)


def where_it_stopped(evaluator: SingleEvaluator, end: OptimizeResult) -> str:
    """A statement on a search that stopped short of a maximum because the function is not finite just beyond; else empty.

    That is, a Newton step promises a rise, mostly of terms that stay finite, and next to nothing of it is to be had at those
    shares of the step (halves of halves) where the function is finite.
    """
    space = evaluator.spec.space
    free = interior(space, end.u)
    inverse = linalg.scaled_inverse(linalg.symmetric(end.information).block(free))
    if end.end == End.CONVERGED or not inverse.ok or not end.decrement > LEAST_PROMISE:
        return ""
    step = np.zeros(free.size)
    step[free] = inverse.inverse @ end.score[free]
    points = np.clip(end.u + 0.5 ** np.arange(N_HALVES)[:, None] * step, space.lower, space.upper)
    values = evaluator.logliks({0: points})[0]
    finite = np.isfinite(values)
    if finite.all() or (values[finite] - end.loglik > STUCK * end.decrement).any():
        return ""
    beyond = points[np.flatnonzero(~finite)[-1]]
    here, ended = row_terms(evaluator, end.u), row_terms(evaluator, beyond)
    bad = ~np.isfinite(ended.values) & (ended.weights > 0)
    assert here.scores is not None
    promised = np.where(here.weights > 0, here.weights * (here.scores @ step), 0.0)
    if not bad.any() or not promised[~bad].sum() > CARRIED * promised.sum():
        return ""
    return _not_known_beyond(evaluator, beyond, describe_movement(end.u, end.u + step, space, evaluator.fixed)[0])


def _not_known_beyond(evaluator: SingleEvaluator, beyond: Float[Host, " p"], movement: str) -> str:
    """The statement on a rise that ends at the point ``beyond``, (p,), where the function is not finite."""
    made = first_operation(evaluator, beyond)
    because = f", because {made} there" if made else ""
    return (
        f"the log-likelihood still rises along {movement} where the formula ends, so whether it has a maximum beyond is not "
        f"known: {explain(evaluator, beyond)}{because}"
    )


def first_operation(evaluator: SingleEvaluator, u: Float[Host, " p"]) -> str:
    """What happens first in the terms that are not finite at u, (p,): "exp overflows", "lgamma is not finite"; empty if no
    operation is found."""
    numbers = evaluator.map_reduce(_first_not_finite, np.minimum, u)
    objective = Objective(evaluator.spec.plain, evaluator.sample(8), evaluator.fixed, None, 1.0)
    names = [eqn.primitive.name for eqn in _operations(_traced(objective, u).jaxpr)]
    if int(numbers) >= len(names):
        return ""
    name = names[int(numbers)]
    return f"{name} overflows" if name in OVERFLOWS else OTHERS.get(name, f"{name} is not finite")


def _traced(objective: Objective, u: Either) -> Any:
    """The closed jaxpr of all terms at u; its arguments are u and the arrays of the rows."""
    return jax.make_jaxpr(objective.contributions)(u, objective.prepared.rows)


def _first_not_finite(objective: Objective, u: Either) -> Either:
    """Number of the first operation, in the order of `_operations`, whose result is not finite in a term that is not, ().

    The number of operations if there is none.
    """
    weights = objective.prepared.weights
    bad = ~jnp.isfinite(objective.contributions(u, objective.prepared.rows)) & (weights > 0)
    flags: list[Any] = []
    program = _traced(objective, u)
    _follow(program.jaxpr, program.consts, [u, *jax.tree.leaves(objective.prepared.rows)], bad, flags)
    flags.append(jnp.asarray(True))
    return jnp.argmax(jnp.stack(flags))


def _operations(program: Program) -> Iterator[Equation]:
    """The equations of a program and of those that it calls, in order."""
    for eqn in program.eqns:
        inner = entered(eqn)
        yield from [eqn] if inner is None else _operations(inner.program)


def _follow(program: Program, consts: Sequence[Any], operands: Sequence[Any], bad: Either, flags: list[Any]) -> list[Any]:
    """Evaluate a program with its constants and operands, and return its results.

    To ``flags`` is appended, for each of `_operations`, whether its result is not finite in a term of the mask ``bad``, (n,).
    """
    values = dict(zip([*program.constvars, *program.invars], [*consts, *operands], strict=True))
    read = lambda v: v.val if is_literal(v) else values[v]
    for eqn in program.eqns:
        at, inner = [read(v) for v in eqn.invars], entered(eqn)
        if inner is not None:
            results = _follow(inner.program, inner.consts, at[inner.first :], bad, flags)
        else:
            found = eqn.primitive.bind(*at, **eqn.params)
            results = list(found) if eqn.primitive.multiple_results else [found]
            flags.append(sum((_lost(out, bad) for out in results), jnp.asarray(False)))
        values.update(zip(eqn.outvars, results, strict=True))
    return [read(v) for v in program.outvars]


def _lost(out: Either, bad: Either) -> Either:
    """True if a result is not finite in one of the ``bad`` terms, (n,), or anywhere if it does not belong to terms."""
    if not jnp.issubdtype(jnp.result_type(out), jnp.floating):
        return jnp.asarray(False)
    lost = ~jnp.isfinite(out)
    axis = next((i for i, size in enumerate(jnp.shape(out)) if size == bad.size), None)
    if axis is not None:
        lost = lost & jnp.reshape(bad, [bad.size if i == axis else 1 for i in range(jnp.ndim(out))])
    return lost.any()
