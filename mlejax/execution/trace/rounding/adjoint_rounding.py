r"""First-order bound of the rounding error of one number that a traced program computes, from one reverse pass.

    |error| <= 2**-53 * sum_k |d value / d v_k| m_k

over all intermediate values v_k, where m_k is the rounding of the operation that makes v_k: |v_k| for one addition, the sum of
the absolute terms for a sum, |L| |x| on the right side of a triangular system, |L| |L|' on the matrix of a Cholesky factor.
Derivatives keep their signs, so that the bound is right for recursions, products and solves, whereas a bound computed forward
(`forward_rounding`) grows without limit.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from mlejax.execution.compilation import compiled
from mlejax.execution.trace.jaxprs import Closed, Equation, Program, is_literal
from mlejax.execution.trace.rounding.forward_rounding import UNIT, Entered, entered
from mlejax.execution.trace.rounding.rounding_functions import FUNCTIONS, own_rounding_of_function
from mlejax.execution.trace.rounding.rounding_rules import Operation, scalar_rule, sum_units
from mlejax.shapes import Either, PyTree

from . import rounding_arrays, rounding_incomplete, rounding_sums

__all__ = ["AdjointBound"]

_UNITS = {"add": 1.0, "add_any": 1.0, "sub": 1.0, "mul": 1.0, "div": 1.0, "square": 1.0, "polygamma": 16.0}
_EXACT = frozenset({"neg", "abs", "max", "min", "clamp", "sign", "floor", "ceil", "round", "rem", "is_finite", "copy", "copy_p"})
_EXACT |= {"stop_gradient", "dynamic_update_slice", "cummax", "cummin", "argmax", "argmin", "real", "reduce_precision"}
_EXACT |= {"bitcast_convert_type"}
_ROUNDING_ARRAYS = frozenset({"reduce_sum", "dot_general", "cumsum", "reduce_prod", "scatter-add"})
_INPUTS = {"cholesky": 0, "triangular_solve": 1}  # the operand that stands for the rounding of the operation


class AdjointBound:
    """Evaluates a closed jaxpr and a bound of the absolute rounding error of its first result, a scalar.

    Compiled at the first call.

    Args:
        program: a closed jaxpr in float64, traced on a block of the data.
        n_rows: number of rows of the block: a sum over this many terms counts as a sum over all rows of the data, with the
            rounding ``row_units`` that is passed to ``__call__``.

    Attributes:
        unknown: names of the operations without a rule; the bound is valid only if there are none.
    """

    def __init__(self, program: Closed, n_rows: int | None = None) -> None:
        self.unknown = tuple(dict.fromkeys(_unknown(program.jaxpr)))

        def evaluate(arguments: Sequence[Any], row_units: Either) -> tuple[Any, Any]:
            run = _Run(n_rows, row_units)

            def value(changes: PyTree) -> tuple[Any, Any]:
                results, sizes = run(program.jaxpr, program.consts, arguments, changes)
                return results[0], sizes

            out, pull, sizes = jax.vjp(value, _no_changes(program.jaxpr), has_aux=True)
            slopes = pull(jnp.ones_like(out))[0]
            term = lambda g, m: jnp.sum(jnp.where(g == 0.0, 0.0, jnp.abs(g) * m))
            return out, UNIT * sum(jax.tree.leaves(jax.tree.map(term, slopes, sizes)), jnp.zeros(()))

        self._evaluate = compiled(evaluate, how="once")
        self._row_units = sum_units(n_rows or 1)

    def __call__(self, arguments: Sequence[Any], row_units: float | None = None) -> tuple[float, float]:
        """Return (value, bound of its absolute rounding error) at these arguments; the bound is NaN or inf if numbers are too
        large or not finite, and not valid if there are ``unknown`` operations.

        ``arguments``: arrays in the order of the program's inputs; ``row_units``: rounding of a sum over all rows, in units of
        2**-53 of the sum of the absolute values, by default that of a sum of ``n_rows`` terms.
        """
        value, error = self._evaluate(list(arguments), self._row_units if row_units is None else row_units)
        return float(value), float(error)


def _inner(eqn: Equation) -> Entered | None:
    """Return the program that an equation calls once, or the body of a scan; None for any other equation."""
    if eqn.primitive.name == "scan":
        return Entered(eqn.params["jaxpr"].jaxpr, eqn.params["jaxpr"].consts, 0)
    return entered(eqn)


def _unknown(program: Program) -> Iterable[str]:
    for eqn in program.eqns:
        inner = _inner(eqn)
        if inner is not None:
            yield from _unknown(inner.program)
        elif eqn.primitive.name not in _EXACT and eqn.primitive.name not in _INPUTS and not _has_rule(eqn):
            yield eqn.primitive.name


def _has_rule(eqn: Equation) -> bool:
    name, out = eqn.primitive.name, eqn.outvars[0].aval
    if name in rounding_arrays.RULES or name in _ROUNDING_ARRAYS:
        return True
    kind = getattr(getattr(out, "dtype", None), "kind", "")
    if kind == "f" and out.dtype != np.float64:
        return False
    operation = Operation(name, eqn.params, [v.aval.shape for v in eqn.invars], [None] * len(eqn.invars), out)
    return kind in ("f", "i", "u", "b") and scalar_rule(operation) is not None


def _changed(eqn: Equation) -> PyTree:
    """Return shape and type of the array to which an equation's rounding is added (its result or an operand); None if exact."""
    name = eqn.primitive.name
    if name in _INPUTS:
        return eqn.invars[_INPUTS[name]].aval
    out = eqn.outvars[0].aval
    exact = name in _EXACT or (name in rounding_arrays.RULES and name not in _ROUNDING_ARRAYS)
    return None if exact or name == "convert_element_type" or out.dtype != np.float64 else out


def _no_changes(program: Program) -> list[Any]:
    """Return zero perturbations of a program, an entry for each equation: an array, a list for an inner program, or None."""
    changes: list[Any] = []
    for eqn in program.eqns:
        inner = _inner(eqn)
        if inner is not None:
            within = _no_changes(inner.program)
            if eqn.primitive.name == "scan":
                n = eqn.params["length"]
                within = jax.tree.map(lambda a, n=n: jnp.zeros((n, *a.shape), a.dtype), within)
            changes.append(within)
        else:
            changed = _changed(eqn)
            changes.append(None if changed is None else jnp.zeros(changed.shape, changed.dtype))
    return changes


class _Run:
    """Evaluates a program with perturbations added; returns its results and, in the structure of the perturbations, the rounding
    of each perturbed value in units of 2**-53.
    """

    def __init__(self, n_rows: int | None, row_units: Either) -> None:
        self.n_rows, self.row_units = n_rows, row_units

    def __call__(
        self, program: Program, consts: Sequence[Any], arguments: Sequence[Any], changes: Sequence[Any]
    ) -> tuple[list[Any], list[Any]]:
        values: dict[Any, Any] = dict(zip(program.constvars, consts, strict=True))
        values.update(zip(program.invars, arguments, strict=True))
        read = lambda v: v.val if is_literal(v) else values[v]
        sizes: list[Any] = []
        for eqn, change in zip(program.eqns, changes, strict=True):
            operands = [read(v) for v in eqn.invars]
            inner = _inner(eqn)
            if eqn.primitive.name == "scan":
                results, size = self._scan(eqn, operands, change)
            elif inner is not None:
                results, size = self(inner.program, inner.consts, operands[inner.first :], change)
            else:
                results, size = self._operation(eqn, operands, change)
            values.update(zip(eqn.outvars, results, strict=True))
            sizes.append(size)
        return [read(v) for v in program.outvars], sizes

    def _scan(self, eqn: Equation, operands: Sequence[Any], changes: PyTree) -> tuple[list[Any], Any]:
        params, body = eqn.params, eqn.params["jaxpr"]
        # what is scanned over, or stacked, has an axis more outside; JAX's versions count the rest under different names
        shapes = lambda variables: [v.aval.shape for v in variables]
        n_xs = sum(a != b for a, b in zip(shapes(eqn.invars), shapes(body.jaxpr.invars), strict=True))
        n_carry = sum(a == b for a, b in zip(shapes(eqn.outvars), shapes(body.jaxpr.outvars), strict=True))
        n_consts = len(operands) - n_carry - n_xs
        consts, carry, xs = operands[:n_consts], operands[n_consts:][:n_carry], operands[n_consts + n_carry :]

        def step(carry: PyTree, x: PyTree) -> tuple[Any, Any]:
            own, change = x
            results, sizes = self(body.jaxpr, body.consts, [*consts, *carry, *own], change)
            return results[:n_carry], (results[n_carry:], sizes)

        carry = [jnp.asarray(c, v.aval.dtype) for c, v in zip(carry, body.jaxpr.invars[n_consts:], strict=False)]
        last, (ys, sizes) = lax.scan(
            step, carry, (xs, changes), length=params["length"], reverse=params["reverse"], unroll=params["unroll"]
        )
        return [*last, *ys], sizes

    def _operation(self, eqn: Equation, operands: list[Any], change: PyTree) -> tuple[list[Any], Any]:
        name = eqn.primitive.name
        if change is not None and name in _INPUTS:
            operands[_INPUTS[name]] = operands[_INPUTS[name]] + change
        if name == "clamp":  # JAX has no derivative by a bound that is one number for many
            operands = list(jnp.broadcast_arrays(*operands))
        results = eqn.primitive.bind(*operands, **eqn.params)
        results = list(results) if eqn.primitive.multiple_results else [results]
        if change is None:
            return results, None
        size = self._size(eqn, [lax.stop_gradient(a) for a in operands], lax.stop_gradient(results[0]))
        if name not in _INPUTS:
            results[0] = results[0] + change
        return results, jnp.broadcast_to(size, change.shape)

    def _size(self, eqn: Equation, operands: Sequence[Any], v: Either) -> Either:
        """Return the rounding of an operation with these operands and result v, in units of 2**-53, as an array."""
        name, params = eqn.primitive.name, eqn.params
        if name in ("reduce_sum", "dot_general", "cumsum"):
            of_sizes = eqn.primitive.bind(*(jnp.abs(a) for a in operands), **params)
            return self._sum_units(eqn) * of_sizes
        if name == "scatter-add":
            added = eqn.primitive.bind(jnp.abs(operands[0]), operands[1], jnp.abs(operands[2]), **params)
            return sum_units(int(np.prod(eqn.invars[2].aval.shape, dtype=np.int64))) * added
        if name == "reduce_prod":
            return float(np.prod(eqn.invars[0].aval.shape)) * jnp.abs(v)
        if name == "cholesky":
            factor = jnp.abs(jnp.tril(v))
            return (v.shape[-1] + 1.0) * factor @ jnp.swapaxes(factor, -1, -2)
        if name == "triangular_solve":
            matrix = jnp.abs(jnp.tril(operands[0]) if params["lower"] else jnp.triu(operands[0]))
            matrix = jnp.swapaxes(matrix, -1, -2) if params["transpose_a"] else matrix
            product = matrix @ jnp.abs(v) if params["left_side"] else jnp.abs(v) @ matrix
            return (matrix.shape[-1] + 1.0) * product
        if name == "integer_pow":
            return abs(params["y"]) * jnp.abs(v)
        if name in rounding_incomplete.RULES:
            return rounding_incomplete.own_rounding(name, operands[0], operands[1], v, lax.lgamma, jnp)
        if name in FUNCTIONS:
            return own_rounding_of_function(name, operands[0], v, jnp)
        return _UNITS.get(name, 4.0) * jnp.abs(v)

    def _sum_units(self, eqn: Equation) -> Either | float:
        if eqn.primitive.name == "cumsum":
            return sum_units(eqn.invars[0].aval.shape[eqn.params["axis"]])
        shapes = [v.aval.shape for v in eqn.invars]
        lengths = rounding_sums.terms(Operation(eqn.primitive.name, eqn.params, shapes, (), eqn.outvars[0].aval))
        own = 1.0 if eqn.primitive.name == "dot_general" else 0.0
        if self.n_rows is not None and self.n_rows in lengths:
            return self.row_units + own
        return sum_units(int(np.prod(lengths, dtype=np.int64))) + own
