"""The operation of the user's function that makes terms, or their scores, not finite.

The program is followed in forward order, for scores with a tangent in a direction in which all parameters move. If a result is
not finite, its origin is that of an operand that is not finite, or, if all operands are finite, the operation itself. Of
`jnp.where` only the branch that is used counts. In reverse mode a score may also be NaN because of a branch that is not used;
its origin is then the first derivative in the program that is not finite.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from mlejax.execution.trace.jaxprs import Equation, Program, is_literal, part_of
from mlejax.execution.trace.rounding.forward_rounding import entered
from mlejax.objective import Objective, SingleEvaluator
from mlejax.shapes import Either, Float, Host

OVERFLOWS = frozenset(
    {"exp", "exp2", "expm1", "mul", "square", "cosh", "sinh", "add", "sub", "reduce_sum"}
)
OTHERS = {"log": "a logarithm is taken of 0 or less", "div": "a division is by 0, or its result overflows"}
UNUSED_BRANCH = "in a branch of jnp.where that is not used: put a safe value there too"
FINITE = np.iinfo(np.int32).max  # origin of what is finite
GIVEN = FINITE - 1  # origin of what came so: data and numbers in the function


class TracedValue(NamedTuple):
    """A number of the program with its derivative, and the operations at which each became not finite.

    Attributes:
        value: the number.
        tangent: its derivative along the direction, or None.
        value_from, tangent_from: origins, (): twice the number of the operation, plus 1 if its derivative is what is not
            finite; `FINITE` if the number is finite, `GIVEN` if it came so with the data or the function.
    """

    value: Any
    tangent: Any
    value_from: Any
    tangent_from: Any


def first_operation(evaluator: SingleEvaluator, u: Float[Host, " p"]) -> str:
    """Return a phrase on the operation that makes terms not finite at u, (p,): "exp overflows", "lgamma is not finite"; empty
    if no operation is found.
    """
    eqns, origin, _ = _found(evaluator, u, scores=False)
    return _words(eqns, origin)


def first_derivative(evaluator: SingleEvaluator, u: Float[Host, " p"]) -> str:
    """Return a phrase on the operation that makes scores of terms not finite at u, (p,): "the derivative of sqrt is not finite
    there"; empty if no operation is found.
    """
    eqns, origin, anywhere = _found(evaluator, u, scores=True)
    made = _words(eqns, origin if origin < FINITE else anywhere)
    return made and made + (f" there, {UNUSED_BRANCH}" if origin == FINITE else " there")


def _found(evaluator: SingleEvaluator, u: Float[Host, " p"], scores: bool) -> tuple[list[Equation], int, int]:
    """Return the equations of the program of a chunk in order, the origin of the terms (or of the ``scores``) that are not
    finite, and the origin of the first tangent in the program that is not finite.
    """
    origin, anywhere = evaluator.map_reduce(_origins_of_scores if scores else _origins_of_values, np.minimum, u).tolist()
    objective = Objective(evaluator.spec.plain, evaluator.sample(8), evaluator.fixed, None, 1.0)
    return list(_operations(_traced(objective, u).jaxpr, scores)), origin, anywhere


def _words(eqns: Sequence[Equation], origin: int) -> str:
    """Return the phrase for an origin (see `TracedValue`); empty for `FINITE` and `GIVEN`."""
    if origin >= GIVEN:
        return ""
    name = _name(eqns[origin // 2])
    if origin % 2:
        return f"the derivative of {name} is not finite"
    return f"{name} overflows" if name in OVERFLOWS else OTHERS.get(name, f"{name} is not finite")


def _name(eqn: Equation) -> str:
    """Return the name of the primitive of an equation; if the equation calls a function with a derivative rule of its own, the
    name of that function.
    """
    if not _own_derivative(eqn):
        return str(eqn.primitive.name)
    program: Any = eqn.params.get("call_jaxpr") or eqn.params.get("fun_jaxpr")
    return getattr(getattr(program, "jaxpr", program).debug_info, "func_name", "") or str(eqn.primitive.name)


def _own_derivative(eqn: Equation) -> bool:
    """True if the equation calls a function with a derivative rule of its own, such as `xlogy`."""
    return str(eqn.primitive.name).startswith(("custom_jvp", "custom_vjp"))


def _traced(objective: Objective, u: Either) -> Any:
    """Return the closed jaxpr of all terms at u; its arguments are u and the arrays of the rows."""
    return jax.make_jaxpr(objective.contributions)(u, objective.prepared.rows)


def _origins_of_values(objective: Objective, u: Either) -> Either:
    """Return the origin of the terms of positive weight that are not finite, and `FINITE` in place of that of a tangent, (2,).
    """
    values = objective.contributions(u, objective.prepared.rows)
    return _origins(objective, u, ~jnp.isfinite(values), None)


def _origins_of_scores(objective: Objective, u: Either) -> Either:
    """Return the origin of the scores of terms of positive weight that are not finite, and of the first tangent in the program
    that is not finite, (2,).
    """
    scores = objective.values_and_scores(u)[1]
    return _origins(objective, u, ~jnp.isfinite(scores).all(axis=1), 1.0 / (2.0 + jnp.arange(u.size)))


def _origins(objective: Objective, u: Either, bad: Either, tangent: Either | None) -> Either:
    """Evaluate the program of all terms operation by operation, and return the two origins of the terms in the mask ``bad``,
    (n,): of their values or tangents, and of the first tangent that is not finite, (2,). ``tangent``: direction of u, (p,), or
    None.
    """
    program, rows = _traced(objective, u), jax.tree.leaves(objective.prepared.rows)
    used = bad & (objective.prepared.weights > 0)
    anywhere: list[Any] = [jnp.asarray(FINITE)]
    operands = [TracedValue(u, tangent, FINITE, FINITE), *(_given(a, used) for a in rows)]
    (out,) = _follow(program.jaxpr, program.consts, operands, used, anywhere, tangent is not None)
    origin = out.value_from if tangent is None else out.tangent_from
    return jnp.stack([jnp.asarray(origin), jnp.min(jnp.stack(anywhere))])


def _given(value: Any, bad: Either) -> TracedValue:
    """Return data, or a constant of the function, as a `TracedValue` without tangent."""
    return TracedValue(value, None, jnp.where(_lost(value, bad), GIVEN, FINITE), FINITE)


def _inner(eqn: Equation, whole: bool) -> Any:
    """Return the program that an equation calls, as `entered` does; None if ``whole`` is True and the called function has a
    derivative rule of its own.
    """
    return None if whole and _own_derivative(eqn) else entered(eqn)


def _operations(program: Program, whole: bool) -> Iterator[Equation]:
    """Yield the equations of a program and of the programs that it calls, in order; if ``whole`` is True, a call of a function
    with a derivative rule of its own is one equation.
    """
    for eqn in program.eqns:
        inner = _inner(eqn, whole)
        yield from [eqn] if inner is None else _operations(inner.program, whole)


def _follow(
    program: Program, consts: Sequence[Any], operands: Sequence[TracedValue], bad: Either, anywhere: list[Any], whole: bool
) -> list[TracedValue]:
    """Evaluate a program with its constants and operands, and return its results.

    Args:
        program, consts, operands: the program and its inputs.
        bad: mask of the terms whose origins are wanted, (n,).
        anywhere: a list, to which the origin of the tangents of each of the `_operations` is appended.
        whole: if True, a function with a derivative rule of its own is evaluated as one operation.
    """
    known = dict(zip(program.constvars, (_given(c, bad) for c in consts), strict=True))
    known.update(zip(program.invars, operands, strict=True))
    read = lambda v: _given(v.val, bad) if is_literal(v) else known[v]
    for eqn in program.eqns:
        at, inner = [read(v) for v in eqn.invars], _inner(eqn, whole)
        if inner is not None:
            results = _follow(inner.program, inner.consts, at[inner.first :], bad, anywhere, whole)
        else:
            number = len(anywhere) - 1
            results = _applied(eqn, at, bad, number)
            anywhere.append(jnp.min(jnp.stack([jnp.asarray(r.tangent_from) for r in results])))
        known.update(zip(eqn.outvars, results, strict=True))
    return [read(v) for v in program.outvars]


def _applied(eqn: Equation, at: Sequence[TracedValue], bad: Either, number: int) -> list[TracedValue]:
    """Return the results of equation ``eqn``, which has this number in the program, at its operands ``at``; ``bad``: as in
    `_follow`.
    """
    moving = [i for i, one in enumerate(at) if one.tangent is not None]

    def results_at(*some: Any) -> list[Any]:
        operands = [one.value for one in at]
        for i, value in zip(moving, some, strict=True):
            operands[i] = value
        if _own_derivative(eqn):
            return _alone(eqn, operands)
        found = eqn.primitive.bind(*operands, **eqn.params)
        return list(found) if eqn.primitive.multiple_results else [found]

    if moving:
        results, tangents = jax.jvp(results_at, [at[i].value for i in moving], [at[i].tangent for i in moving])
    else:
        results = results_at()
        tangents = [None] * len(results)
    tangents = [t if jnp.issubdtype(jnp.result_type(r), jnp.floating) else None for r, t in zip(results, tangents, strict=True)]
    of_values, of_tangents = _inherited(eqn, at, bad)
    both = jnp.minimum(of_tangents, jnp.where(of_tangents < FINITE, FINITE, of_values))
    out = []
    for result, tangent in zip(results, tangents, strict=True):
        value_from = jnp.where(_lost(result, bad), jnp.where(of_values < FINITE, of_values, 2 * number), FINITE)
        beside = jnp.where(value_from < FINITE, value_from, 2 * number + 1)  # a result that is not finite has no derivative
        own = jnp.where(both < FINITE, both, beside)
        tangent_from = FINITE if tangent is None else jnp.where(_lost(tangent, bad), own, FINITE)
        out.append(TracedValue(result, tangent, value_from, tangent_from))
    return out


def _alone(eqn: Equation, operands: Sequence[Any]) -> list[Any]:
    """Return the results of an equation at its operands; a function that it calls keeps its own derivative rule."""
    variables = {v: a for v, a in zip(eqn.invars, operands, strict=True) if not is_literal(v)}
    example = jax.make_jaxpr(lambda: ())()
    return part_of(example, invars=list(variables), outvars=eqn.outvars, eqns=[eqn])(*variables.values())


def _inherited(eqn: Equation, at: Sequence[TracedValue], bad: Either) -> tuple[Either, Either]:
    """Return the first origin among the operands' values, and the first among their tangents; of `jnp.where` only the entries
    that are used count.
    """
    values, tangents = [one.value_from for one in at], [one.tangent_from for one in at]
    if eqn.primitive.name == "select_n":
        which = jnp.asarray(at[0].value).astype(jnp.int32)
        for i, one in enumerate(at[1:]):
            for part, origins in ((one.value, values), (one.tangent, tangents)):
                if part is not None:
                    used = _lost(jnp.where(which == i, part, jnp.zeros_like(part)), bad)
                    origins[i + 1] = jnp.where(used, origins[i + 1], FINITE)
    # an operation such as iota has no operands
    first = [jnp.min(jnp.stack([jnp.asarray(o) for o in (FINITE, *origins)])) for origins in (values, tangents)]
    return first[0], first[1]


def _lost(out: Either | float, bad: Either) -> Either:
    """True if a floating-point result is not finite in one of the ``bad`` terms, a mask (n,), along its first axis of length n;
    of a result without such an axis: if any entry is not finite.
    """
    if not jnp.issubdtype(jnp.result_type(out), jnp.floating):
        return jnp.asarray(False)
    lost = ~jnp.isfinite(out)
    axis = next((i for i, size in enumerate(jnp.shape(out)) if size == bad.size), None)
    if axis is not None:
        lost = lost & jnp.reshape(bad, [bad.size if i == axis else 1 for i in range(jnp.ndim(out))])
    return lost.any()
