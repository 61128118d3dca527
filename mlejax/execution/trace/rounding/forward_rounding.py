"""First-order bounds of the rounding errors of the results of a traced program, computed forward with each value.

The program is run in NumPy, operation by operation, and nothing is compiled. Arguments count as exact. The bound is right
within a factor of about ten for programs without recursions: in a stable recursion it grows without limit, and programs with
loops are therefore refused by the name of the operation (see `adjoint_rounding`).
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.typing import ArrayLike

from mlejax.execution.devices import device_kind
from mlejax.execution.trace.jaxprs import Closed, Equation, Program, called_program, is_literal
from mlejax.execution.trace.rounding.rounding_rules import Bound, Operation, Rule, scalar_rule, sum_units
from mlejax.shapes import DTypeLike, Host

from . import rounding_arrays, rounding_sums

__all__ = ["UNIT", "Entered", "Rounded", "RunningBound", "bound", "entered"]

LEAKED = "a constant of another trace"  # what stands among the unknown operations for it
UNIT = 2.0**-53  # largest relative error of one operation in float64


class Rounded(NamedTuple):
    """The results of a program with bounds of their rounding.

    Attributes:
        outputs: the results in NumPy; empty if an operation has no rule.
        bounds: bounds of the absolute rounding errors, each of the shape of its output; NaN or inf where none is known.
        unknown: names of the operations without a rule.
    """

    outputs: tuple[Any, ...]
    bounds: tuple[Any, ...]
    unknown: tuple[str, ...]


class Entered(NamedTuple):
    """A program that an equation calls, the arrays that it closes over, and which operand of the equation is its first."""

    program: Program
    consts: Sequence[Any]
    first: int


class _Step(NamedTuple):
    rule: Rule
    operands: tuple[int, ...]
    results: tuple[int, ...]
    several: bool  # the rule returns tuples
    units: float  # further rounding of a result of less precision than float64
    last: tuple[int, ...] = ()  # values that no later step reads


class RunningBound:
    """A closed jaxpr prepared for repeated evaluation in NumPy, with bounds of the rounding errors of its results.

    Inner programs are inlined, repeated and unused operations left out, and constants computed once.

    Args:
        program: a closed jaxpr, traced on a block of the data.
        n_rows: number of rows of the block: a sum over this many terms counts as a sum over all rows of the data, with the
            rounding ``row_units`` that is passed to ``__call__``.

    Attributes:
        unknown: names of the operations without a rule; the program is evaluated only if there are none.
    """

    def __init__(self, program: Closed, n_rows: int | None = None) -> None:
        self._values: list[Any] = [np.float64(0.0)]  # slot 0 has the rounding of sums over rows
        self._bounds: list[Bound] = [None]
        self._constant: list[bool] = [False]
        self._steps: list[_Step] = []
        self._seen: dict[Any, tuple[int, ...]] = {}
        self._n_rows = n_rows
        unknown: dict[str, None] = {}
        self._inputs = [self._new() for _ in program.jaxpr.invars]
        with np.errstate(all="ignore"):
            self._outputs = self._enter(program.jaxpr, program.consts, self._inputs, unknown)
        self._avals = [v.aval for v in program.jaxpr.outvars]
        self.unknown = tuple(unknown)
        self._drop_unused()

    def __call__(self, arguments: Sequence[Any], row_units: float | None = None) -> Rounded:
        """Return results and bounds at these arguments, arrays in the order of the program's inputs.

        Args:
            row_units: rounding of a sum over all rows, in units of 2**-53 of the sum of the absolute values; by default that of
                a sum of ``n_rows`` terms.
        """
        if self.unknown:
            return Rounded((), (), self.unknown)
        with np.errstate(all="ignore"):
            values, bounds = self._run(arguments, row_units, careful=False)
            if any(e is not None and np.isnan(e).any() for e in bounds):
                values, bounds = self._run(arguments, row_units, careful=True)
        shaped = [np.broadcast_to(v, a.shape) for v, a in zip(values, self._avals, strict=True)]
        scaled = [np.zeros(a.shape) if e is None else UNIT * e for e, a in zip(bounds, self._avals, strict=True)]
        return Rounded(tuple(shaped), tuple(scaled), ())

    def _run(self, arguments: Sequence[Any], row_units: float | None, careful: bool) -> tuple[list[Any], list[Bound]]:
        values, bounds = self._values.copy(), self._bounds.copy()
        values[0] = np.float64(sum_units(self._n_rows or 1) if row_units is None else row_units)
        for slot, argument in zip(self._inputs, arguments, strict=True):
            values[slot] = np.asarray(argument)[()]
        for step in self._steps:
            _evaluate(step, values, bounds)
            if careful:
                _cap_bounds(step, bounds)
            for slot in step.last:  # of a network together they would not fit into memory
                values[slot] = bounds[slot] = None
        return [values[i] for i in self._outputs], [bounds[i] for i in self._outputs]

    # ---- preparation

    def _new(self, value: Host | None = None, constant: bool = False) -> int:
        self._values.append(value)
        self._bounds.append(None)
        self._constant.append(constant)
        return len(self._values) - 1

    def _literal(self, value: ArrayLike, dtype: DTypeLike) -> int:
        value = np.asarray(value, dtype)[()]
        if value.size > 1:
            return self._new(value, constant=True)
        key = ("literal", value.shape, str(value.dtype), value.tobytes())
        if key not in self._seen:
            self._seen[key] = (self._new(value, constant=True),)
        return self._seen[key][0]

    def _enter(
        self, program: Program, consts: Sequence[Any], operands: Sequence[int], unknown: dict[str, None]
    ) -> list[int]:
        """Add the operations of a program to the prepared steps; return the positions of its results among the stored values.

        Args:
            program: the program.
            consts: its constants.
            operands: positions of its arguments.
            unknown: names of operations without a rule are added to it.
        """
        slots: dict[Any, int] = dict(zip(program.invars, operands, strict=True))
        for v, value in zip(program.constvars, consts, strict=True):
            if isinstance(value, jax.core.Tracer):  # as the second derivative of JAX's own expn keeps one
                unknown[LEAKED] = None
                slots[v] = self._new()
            else:
                slots[v] = self._literal(value, v.aval.dtype)
        slot = lambda v: self._literal(v.val, v.aval.dtype) if is_literal(v) else slots[v]
        for eqn in program.eqns:
            at = tuple(slot(v) for v in eqn.invars)
            inner = entered(eqn)
            if inner is not None:
                results: Sequence[int] = self._enter(inner.program, inner.consts, at[inner.first :], unknown)
            else:
                results = self._add(eqn, at, unknown)
            slots.update(zip(eqn.outvars, results, strict=True))
        return [slot(v) for v in program.outvars]

    def _add(self, eqn: Equation, operands: tuple[int, ...], unknown: dict[str, None]) -> tuple[int, ...]:
        key = self._key(eqn, operands)
        if key is not None and key in self._seen:
            return self._seen[key]
        results = tuple(self._new() for _ in eqn.outvars)
        operation = self._operation(eqn, operands)
        rule = _rule(operation)
        if rule is None:
            unknown[operation.name] = None
        else:
            if operation.name in rounding_sums.SUMS:
                lengths = rounding_sums.terms(operation)
                units = sum_units(int(np.prod(lengths, dtype=np.int64)))
                over_rows = self._n_rows is not None and self._n_rows in lengths
                operands = (0 if over_rows else self._literal(units, np.float64), *operands)
            step = _Step(rule, operands, results, eqn.primitive.multiple_results, _lower_precision(eqn))
            if all(self._constant[i] for i in operands):
                _evaluate(step, self._values, self._bounds)
                for i in results:
                    self._constant[i] = True
            else:
                self._steps.append(step)
        if key is not None:
            self._seen[key] = results
        return results

    def _operation(self, eqn: Equation, operands: Sequence[int]) -> Operation:
        exact = [self._values[i] if self._constant[i] and self._bounds[i] is None else None for i in operands]
        shapes = [v.aval.shape for v in eqn.invars]
        return Operation(eqn.primitive.name, eqn.params, shapes, exact, eqn.outvars[0].aval)

    def _key(self, eqn: Equation, operands: tuple[int, ...]) -> Hashable:
        try:
            key = eqn.primitive, operands, frozenset(eqn.params.items())
            hash(key)
        except TypeError:  # a parameter without a hash
            return None
        return key

    def _drop_unused(self) -> None:
        used, kept = set(self._outputs), []
        for step in reversed(self._steps):
            if used.intersection(step.results):
                last = {*step.operands, *step.results}.difference(used)
                used.update(last)
                kept.append(step._replace(last=tuple(last)))
        self._steps = kept[::-1]
        self._seen = {}


def bound(program: Closed, arguments: Sequence[Any]) -> Rounded:
    """Return the results of a closed jaxpr at these arguments, with bounds of their absolute rounding errors.

    Example:
        >>> import jax
        >>> import numpy as np
        >>> from mlejax.execution.trace.rounding.forward_rounding import bound
        >>> with jax.enable_x64(True):
        ...     program = jax.make_jaxpr(lambda x: (1.0 + x) - 1.0)(1e-9)
        >>> result = bound(program, [1e-9])
        >>> bool(1e-17 < abs(result.outputs[0] - 1e-9) < result.bounds[0] < 1e-15)
        True
    """
    return RunningBound(program)(arguments)


def _evaluate(step: _Step, values: list[Any], bounds: list[Bound]) -> None:
    rule, operands, results, several, units, _ = step
    v, e = rule(*map(values.__getitem__, operands), *map(bounds.__getitem__, operands))
    if units:
        e = units * abs(v) + (0.0 if e is None else e)
    if several:
        for slot, value, error in zip(results, v, e, strict=True):
            values[slot], bounds[slot] = value, error
    else:
        values[results[0]], bounds[results[0]] = v, e


def _cap_bounds(step: _Step, bounds: list[Bound]) -> None:
    """Limit the bounds of the results of a step to 1e250 and replace NaN by it, in place, so that their product with 0 is 0 and
    not NaN.
    """
    for slot in step.results:
        error = bounds[slot]
        if error is not None:
            bounds[slot] = np.minimum(np.where(np.isnan(error), _LARGEST_BOUND, error), _LARGEST_BOUND)


_LARGEST_BOUND = 1e250  # stands for inf, so that a product with 0 is 0


def _rule(operation: Operation) -> Rule | None:
    """Return the rule that gives value and rounding bound of an operation; None if there is none."""
    if not hasattr(operation.out, "dtype") or operation.out.dtype.kind not in "fiub":
        return None
    make = rounding_arrays.RULES.get(operation.name)
    return scalar_rule(operation) if make is None else make(operation)


def entered(eqn: Equation) -> Entered | None:
    """Return the program that an equation calls, or its branch for this platform; None for any other equation."""
    called = called_program(eqn)
    if called is not None:
        return Entered(*called, 0)
    params: Mapping[str, Any] = eqn.params
    if eqn.primitive.name.startswith("custom_vjp_call"):
        return _closed(params.get("call_jaxpr") or params.get("fun_jaxpr"), 0)
    platforms = params.get("branches_platforms") if eqn.primitive.name == "cond" else None
    if platforms is None:
        return None
    own = [i for i, names in enumerate(platforms) if names is None or device_kind() in names]
    return _closed(params["branches"][own[0]], 1)


def _closed(program: Any, first: int) -> Entered:
    return Entered(getattr(program, "jaxpr", program), getattr(program, "consts", ()), first)


def _lower_precision(eqn: Equation) -> float:
    """Return the additional relative rounding of a float32 or narrower result, in units of 2**-53; 0 for results in float64 or
    without a fraction, and for rearranged entries of the same type.
    """
    dtype = eqn.outvars[0].aval.dtype
    narrow = [v.aval.dtype for v in eqn.invars if getattr(v.aval, "dtype", dtype).kind == "f"]
    if dtype.kind != "f" or dtype == np.float64 or (all(d == dtype for d in narrow) and not _computes(eqn)):
        return 0.0
    return 32.0 * float(np.finfo(dtype).eps) / (2.0 * UNIT)


def _computes(eqn: Equation) -> bool:
    return eqn.primitive.name not in rounding_arrays.RULES or eqn.primitive.name in rounding_sums.SUMS
