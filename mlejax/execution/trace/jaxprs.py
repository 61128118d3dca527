"""Helper functions and types for the analysis of traced programs (jaxprs).

A pass asks four things of a program: which equations depend on certain variables (`dependence`), which programs an equation
contains (`inner_programs`), which one it simply calls (`called_program`), and a function made of some of its equations
(`part_of`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import cache
from typing import Any, NamedTuple, Protocol, runtime_checkable

import jax

__all__ = [
    "Closed",
    "Equation",
    "Program",
    "Repetitions",
    "Variable",
    "called_program",
    "closed_over",
    "dependence",
    "inner_programs",
    "is_literal",
    "part_of",
    "without_repetitions",
]


@runtime_checkable
class Variable(Protocol):
    """An operand or result of an equation: a variable, or a literal number."""

    @property
    def aval(self) -> Any: ...


@runtime_checkable
class Equation(Protocol):
    """One operation of a jaxpr: primitive, operands, results and parameters."""

    primitive: Any
    invars: Sequence[Any]
    outvars: Sequence[Any]
    params: Mapping[str, Any]


@runtime_checkable
class Closed(Protocol):
    """A closed jaxpr: a program with the arrays that it closes over."""

    @property
    def jaxpr(self) -> Any: ...
    @property
    def consts(self) -> Sequence[Any]: ...


@runtime_checkable
class Program(Protocol):
    """The interface of a traced program, JAX's ``Jaxpr``; its ``constvars`` are variables whose values are the arrays that the
    function closes over.
    """

    @property
    def invars(self) -> Sequence[Any]: ...
    @property
    def outvars(self) -> Sequence[Any]: ...
    @property
    def constvars(self) -> Sequence[Any]: ...
    @property
    def eqns(self) -> Sequence[Any]: ...


class Called(NamedTuple):
    """A program that an equation calls once with its own operands, and the arrays that it closes over."""

    program: Program
    consts: Sequence[Any]


# Equations that compute what the program in this parameter computes.
_CALLS = {
    "jit": "jaxpr",
    "pjit": "jaxpr",
    "closed_call": "call_jaxpr",
    "core_call": "call_jaxpr",
    "remat": "jaxpr",
    "remat2": "jaxpr",
    "checkpoint": "jaxpr",
    "custom_jvp_call": "call_jaxpr",
}


def is_literal(v: Variable) -> bool:
    """Return True if an operand is a literal number, not a variable."""
    from jax.extend import core  # only when it is needed: it imports all of Pallas

    return isinstance(v, core.Literal)


def _inside(eqn: Equation) -> Iterator[Any]:
    """Yield the programs in an equation's parameters, as jaxprs or closed jaxprs."""
    for value in eqn.params.values():
        for part in value if isinstance(value, (tuple, list)) else (value,):
            if hasattr(getattr(part, "jaxpr", part), "eqns"):
                yield part


def inner_programs(eqn: Equation) -> Iterator[Program]:
    """Yield the programs that an equation contains (of a call, bodies of loops, branches, traced derivative rules), but not the
    programs inside these.
    """
    if eqn.primitive.name == "polynomial":
        yield _polynomial(*(v.aval for v in eqn.invars)).jaxpr
    yield from (getattr(part, "jaxpr", part) for part in _inside(eqn))


def closed_over(program: Any) -> Iterator[Any]:
    """Yield the arrays that a program and the programs inside it close over."""
    yield from getattr(program, "consts", ())
    for eqn in getattr(program, "jaxpr", program).eqns:
        for part in _inside(eqn):
            yield from closed_over(part)


def called_program(eqn: Equation) -> Called | None:
    """Return the program that an equation calls once; None for any other equation, loops and branches included.

    Since JAX 0.12 a polynomial is one operation; its program here has the products and sums of Horner's rule.
    """
    name = eqn.primitive.name
    inner = _polynomial(*(v.aval for v in eqn.invars)) if name == "polynomial" else eqn.params.get(_CALLS.get(name, ""))
    return None if inner is None else Called(getattr(inner, "jaxpr", inner), getattr(inner, "consts", ()))


@cache
def _polynomial(x: jax.core.ShapedArray, *coefficients: jax.core.ShapedArray) -> Any:
    """Return the program of c_0 + x (c_1 + x (c_2 + ...)), for operands of these shapes and types."""

    def horner(x: jax.Array, *coefficients: jax.Array) -> jax.Array:
        value = coefficients[-1]
        for c in coefficients[-2::-1]:
            value = value * x + c
        return value

    with jax.enable_x64(True):
        return jax.make_jaxpr(horner)(x, *coefficients)


def dependence(program: Program, sources: Iterable[Variable]) -> Iterator[tuple[Equation, list[Any]]]:
    """Yield every equation of a program in order, with the list of its operands that depend on the variables ``sources``."""
    depends = set(sources)
    for eqn in program.eqns:
        touched = [v for v in eqn.invars if not is_literal(v) and v in depends]
        if touched:
            depends.update(eqn.outvars)
        yield eqn, touched


def part_of(closed: Any, **replaced: Sequence[Any]) -> Callable[..., list[Any]]:
    """Return a closed jaxpr as a function of arrays, with its ``invars``, ``outvars`` or ``eqns`` replaced by those given."""
    from jax.extend import core

    jaxpr = closed.jaxpr
    if replaced:
        jaxpr = jaxpr.replace(**replaced, debug_info=jaxpr.debug_info.with_unknown_names())
    function: Callable[..., list[Any]] = core.jaxpr_as_fun(core.ClosedJaxpr(jaxpr, closed.consts))
    return function


class Repetitions:
    """Common subexpressions: operations that a traced function contains twice, ``log(t)`` and ``log(t)``."""

    def __init__(self) -> None:
        self.seen: dict[Any, Any] = {}
        self.aliases: dict[Any, Any] = {}

    def first(self, v: Variable) -> Variable:
        """Return the first variable that has the same value as v."""
        return v if is_literal(v) else self.aliases.get(v, v)

    def note(self, eqn: Equation) -> bool:
        """Record an operation and return True if an equal one was recorded before; then its results are aliases of those."""
        operands = tuple((repr(v.val), v.aval) if is_literal(v) else self.first(v) for v in eqn.invars)
        try:
            first = self.seen.setdefault((eqn.primitive, operands, frozenset(eqn.params.items())), eqn)
        except TypeError:  # a parameter without a hash
            return False
        self.aliases |= {v: w for v, w in zip(eqn.outvars, first.outvars, strict=True) if v is not w}
        return first is not eqn


def without_repetitions(closed: Any) -> Any:
    """Return a closed jaxpr in which every operation is done once; unchanged if it has side effects."""
    jaxpr = closed.jaxpr
    if jaxpr.effects:
        return closed
    same, eqns = Repetitions(), []
    for eqn in jaxpr.eqns:
        if not same.note(eqn):
            eqns.append(eqn.replace(invars=[same.first(v) for v in eqn.invars]))
    outvars = [same.first(v) for v in jaxpr.outvars]
    return closed.replace(jaxpr=jaxpr.replace(eqns=eqns, outvars=outvars, debug_info=jaxpr.debug_info.with_unknown_names()))
