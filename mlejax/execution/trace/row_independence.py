"""Row independence, proved from the traced function, so that nothing has to be evaluated.

A row-wise log-likelihood is traced at two numbers of rows.  The axis of the rows is followed through every operation:
elementwise operations, products and sums over other axes, and look-ups in tables of parameters keep it; a sum, a sort or a shift
along it does not.  The two traces must be the same but for their shapes, so that nothing depends on the number of rows.  An
operation without a rule here proves nothing; then rows are checked by evaluating them together and alone
(:func:`mlejax.likelihood.check_rows_once`), which takes a program of its own: a third of a first fit.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, TypeAlias

import jax
import numpy as np

from mlejax.shapes import Params, PyTree

from .jaxprs import Equation, Program, Variable, called_program, is_literal

__all__ = ["rows_apart"]

SIZES = (3, 4096)
_NAMES = (
    "abs acos acosh add add_any and asin asinh atan atan2 atanh bessel_i0e bessel_i1e bitcast_convert_type cbrt ceil clamp "
    "convert_element_type copy copy_p cos cosh digamma div eq erf erf_inv erfc exp exp2 expm1 floor ge gt "
    "integer_pow is_finite le le_to lgamma log log1p log2 logistic lt lt_to max min mul ne neg nextafter not "
    "one_minus_square or polygamma pow reduce_precision regularized_incomplete_beta rem round rsqrt select_n shift_left "
    "shift_right_arithmetic shift_right_logical sign sin sinh sqrt square stop_gradient sub tan tanh xor zeta "
    "igamma igammac igamma_grad_a random_gamma_grad "
)
_ELEMENTWISE = frozenset(_NAMES.split())
_REDUCTIONS = (
    "reduce_sum",
    "reduce_max",
    "reduce_min",
    "reduce_prod",
    "reduce_and",
    "reduce_or",
    "reduce_xor",
    "argmax",
    "argmin",
)
_CUMULATIVE = ("cumsum", "cumprod", "cummax", "cummin", "cumlogsumexp")


_SIZED: dict[str, tuple[str, ...]] = {  # parameters that may contain the number of rows
    "broadcast_in_dim": ("shape",),
    "iota": ("shape",),
    "reshape": ("new_sizes",),
    "slice": ("start_indices", "limit_indices"),
}


_MOVES = ("reshape", "squeeze", "transpose", "slice")


class _Rows(NamedTuple):
    """State of an array that has the rows of the data along ``axis``."""

    axis: int


class _Same(NamedTuple):
    """State of an array that depends on no row of the data; ``uniform``: the axes along which all its entries are equal."""

    uniform: frozenset[int]


class _Unproved(Exception):
    """Raised if row independence cannot be proved for an operation."""


_State: TypeAlias = _Rows | _Same


def rows_apart(
    function: Callable[..., Any], params: Params, rows: Callable[[int], list[Any]], others: list[Any]
) -> bool:
    """Return True if entry i of ``function(params, rows, others)`` provably depends on row i only, for every number of rows.

    The same is then true of its first derivatives in the parameters, custom rules included.  False only means that there is
    no proof.

    Args:
        function: function that returns an array (N,).
        params, others: abstract arguments that are the same for all rows.
        rows: function of a number of rows N that returns abstract columns (N, ...).
    """

    def with_score(at: PyTree, columns: PyTree, beside: PyTree) -> PyTree:
        point, direction = at
        return jax.jvp(lambda p: function(p, columns, beside), (point,), (direction,))

    twice = (params, params)
    try:
        traces = [jax.make_jaxpr(with_score)(twice, rows(n), others) for n in SIZES]
    except Exception:  # no proof without a trace at these sizes; the evaluation that follows will say why
        return False
    n_params, n_rows = len(jax.tree.leaves(twice)), len(rows(1))
    short, long = (t.jaxpr for t in traces)
    if any(not _equal(a, b) for a, b in zip(*(t.consts for t in traces), strict=True)):
        return False
    states: list[Any] = [_Same(frozenset())] * len(short.invars)
    states[n_params : n_params + n_rows] = [_Rows(0)] * n_rows
    try:
        value, score = _walk(short, long, states)
    except _Unproved:
        return False
    return value == _Rows(0) and score in (_Rows(0), _Same(frozenset({0})))


def _equal(a: Any, b: Any) -> bool:
    """True if two constants have equal shapes and entries (NaN equals NaN); constants without a value, if their types are equal.
    """
    if a is b or np.shape(a) != np.shape(b):
        return a is b
    one, other = np.asarray(a), np.asarray(b)
    if one.dtype.kind == "V":  # tangents of integers, which have no value
        return one.dtype == other.dtype
    return bool(np.array_equal(one, other, equal_nan=one.dtype.kind in "fc"))


def _need(condition: object) -> None:
    """Raise `_Unproved` unless the condition is true."""
    if not condition:
        raise _Unproved


def _walk(short: Program, long: Program, states: list[_State]) -> list[_State]:
    """Return the states of the results of one function, traced at two numbers of rows, given the states of its arguments.

    Raises:
        _Unproved: the traces differ in more than their shapes, or an operation has no rule.
    """
    known: dict[Any, _State] = dict(zip(short.invars, states, strict=True))
    known |= {v: _Same(frozenset()) for v in short.constvars}
    _need(len(short.eqns) == len(long.eqns))

    def state(v: Variable) -> _State:
        return _Same(frozenset()) if is_literal(v) else known[v]

    for a, b in zip(short.eqns, long.eqns, strict=True):
        _need(a.primitive is b.primitive and len(a.invars) == len(b.invars))
        for v, w in zip(a.invars, b.invars, strict=True):
            _need(is_literal(v) == is_literal(w))
            _need(not is_literal(v) or _equal(v.val, w.val))
        found = _step(a, b, [state(v) for v in a.invars])
        known |= dict(zip(a.outvars, found, strict=True))
    return [state(v) for v in short.outvars]


def _step(a: Equation, b: Equation, states: list[_State]) -> list[_State]:
    """Return the states of the results of an operation, given as equation a of one trace and b of the other."""
    name = a.primitive.name
    inner, other = called_program(a), called_program(b)
    if inner is not None and other is not None:
        _need(all(_equal(c, d) for c, d in zip(inner.consts, other.consts, strict=True)))
        return _walk(inner.program, other.program, states)
    if name == "scan":
        return _scan(a, b, states)
    if name == "optimization_barrier":
        return states
    found = _result(name, a, b, states)
    left_out = _SIZED.get(name, ())
    for key in a.params:
        _need(key in left_out or str(a.params[key]) == str(b.params[key]))
    for v, w in zip(a.outvars, b.outvars, strict=True):
        # the number of rows stands nowhere but along the axis of the rows
        _need(not isinstance(found, _Rows) or _but(v.aval.shape, found.axis) == _but(w.aval.shape, found.axis))
    return [found] * len(a.outvars)


def _scan(a: Equation, b: Equation, states: list[_State]) -> list[_State]:
    """Return the states of the results of a loop of a fixed number of steps, whose body keeps the rows apart.

    A value that is passed from one step of the loop to the next may depend on no row before the loop, and on each row's own
    values after a step: states are computed step by step until they repeat.
    """
    p, q = a.params, b.params
    n_consts, n_carried = _scan_sizes(a)
    _need(_scan_sizes(b) == (n_consts, n_carried) and all(p[key] == q[key] for key in ("length", "reverse")))
    short, long = p["jaxpr"], q["jaxpr"]
    _need(all(_equal(c, d) for c, d in zip(short.consts, long.consts, strict=True)))
    consts, carried = states[:n_consts], states[n_consts : n_consts + n_carried]
    steps: list[_State] = []
    for s in states[n_consts + n_carried :]:
        _need(not isinstance(s, _Rows) or s.axis > 0)
        inside = _Rows(s.axis - 1) if isinstance(s, _Rows) else _Same(frozenset(d - 1 for d in s.uniform if d > 0))
        steps.append(inside)
    for _ in range(2 * n_carried + 2):
        found = _walk(short.jaxpr, long.jaxpr, [*consts, *carried, *steps])
        after = [_both(s, t) for s, t in zip(carried, found[:n_carried], strict=True)]
        if after == carried:
            each = [_Rows(s.axis + 1) if isinstance(s, _Rows) else _Same(frozenset()) for s in found[n_carried:]]
            return [*carried, *each]
        carried = after
    raise _Unproved


def _scan_sizes(eqn: Equation) -> tuple[int, int]:
    """Return how many of the first operands of a ``scan`` are the same in all steps, and how many of the next are carried from
    step to step; since JAX 0.12 its parameters have both as the sizes of two subtrees of ``ft_in``.
    """
    if "ft_in" not in eqn.params:
        return eqn.params["num_consts"], eqn.params["num_carry"]
    consts, carried, _ = eqn.params["ft_in"].unpack()
    return len(consts), len(carried)


def _both(s: _State, t: _State) -> _State:
    """Return the weakest state that is true of an array in state s and of one in state t; raise `_Unproved` if there is none.
    """
    if isinstance(s, _Rows):
        _need(t == s or (isinstance(t, _Same) and s.axis in t.uniform))
        return s
    if isinstance(t, _Rows):
        _need(t.axis in s.uniform)
        return t
    return _Same(s.uniform & t.uniform)


def _result(name: str, a: Equation, b: Equation, states: list[_State]) -> _State:
    """Return the state of the results of an operation, in traces a and b; raise `_Unproved` if it mixes rows or has no rule."""
    if name in _ELEMENTWISE:
        return _elementwise(a, states)
    if name == "broadcast_in_dim":
        return _broadcast(a, states[0])
    if name == "iota":
        return _Same(frozenset(range(len(a.params["shape"]))) - {a.params["dimension"]})
    if name in _MOVES and states[0] == _Same(frozenset(range(len(a.invars[0].aval.shape)))):
        return _Same(frozenset(range(len(a.outvars[0].aval.shape))))  # all entries are equal, in another shape
    if not any(isinstance(s, _Rows) for s in states):
        # a function of parameters and constants alone, whose size does not follow the rows
        pairs = zip([*a.invars, *a.outvars], [*b.invars, *b.outvars], strict=True)
        _need(all(v.aval.shape == w.aval.shape for v, w in pairs))
        return _Same(frozenset())
    rule = _RULES.get(name)
    if rule is None:
        raise _Unproved
    axis = rule(a, states)
    if name == "slice":
        for key in ("start_indices", "limit_indices"):
            _need(_but(a.params[key], axis) == _but(b.params[key], axis))
    return _Rows(axis)


def _but(shape: Sequence[int], axis: int) -> tuple[int, ...]:
    """Return the sizes of all axes of a shape but this one."""
    return tuple(int(d) for i, d in enumerate(shape) if i != axis)


def _elementwise(eqn: Equation, states: list[_State]) -> _State:
    axes = {s.axis for s in states if isinstance(s, _Rows)}
    _need(len(axes) <= 1)
    n_axes = len(eqn.outvars[0].aval.shape)
    uniform = frozenset(range(n_axes))
    for v, s in zip(eqn.invars, states, strict=True):
        if isinstance(s, _Same) and len(v.aval.shape) == n_axes:
            uniform &= s.uniform | {d for d, size in enumerate(v.aval.shape) if size == 1}
    if not axes:
        return _Same(uniform)
    _need(axes <= uniform)
    return _Rows(*axes)


def _broadcast(eqn: Equation, s: _State) -> _State:
    to = eqn.params["broadcast_dimensions"]
    if isinstance(s, _Rows):
        return _Rows(int(to[s.axis]))
    before, after = eqn.invars[0].aval.shape, eqn.params["shape"]
    kept = {int(d) for i, d in enumerate(to) if before[i] == after[d] and before[i] != 1 and i not in s.uniform}
    return _Same(frozenset(range(len(after))) - kept)


def _reshape(eqn: Equation, states: list[Any]) -> int:
    """Return the axis of the rows after a reshape; raise `_Unproved` if the reshape mixes rows."""
    (axis,), before, after = states[0], eqn.invars[0].aval.shape, eqn.outvars[0].aval.shape
    n, ahead = before[axis], int(np.prod(before[:axis]))
    fits = [b for b in range(len(after)) if after[b] == n and int(np.prod(after[:b])) == ahead]
    _need(fits and eqn.params.get("dimensions") is None)
    return fits[-1] if ahead == 1 and n == 1 else fits[0]


def _without(axis: int, axes: Sequence[int]) -> int:
    """Return the position of an axis after the ``axes`` were removed; raise `_Unproved` if it is one of them."""
    _need(axis not in axes)
    return axis - sum(1 for d in axes if d < axis)


def _slice(eqn: Equation, states: list[Any]) -> int:
    (axis,), p = states[0], eqn.params
    whole = p["start_indices"][axis] == 0 and p["limit_indices"][axis] == eqn.invars[0].aval.shape[axis]
    _need(whole and (p["strides"] is None or p["strides"][axis] == 1))
    return axis


def _pad(eqn: Equation, states: list[Any]) -> int:
    _need(isinstance(states[0], _Rows) and isinstance(states[1], _Same))
    _need(tuple(map(int, eqn.params["padding_config"][states[0].axis])) == (0, 0, 0))
    return int(states[0].axis)


def _joined(states: list[Any]) -> int:
    """Return the axis of the rows, the same in all operands; raise `_Unproved` if other operands vary along it."""
    axes = {s.axis for s in states if isinstance(s, _Rows)}
    _need(len(axes) == 1)
    (axis,) = axes
    _need(all(axis in s.uniform for s in states if isinstance(s, _Same)))
    return int(axis)


def _concatenate(eqn: Equation, states: list[Any]) -> int:
    axis = _joined(states)
    _need(eqn.params["dimension"] != axis)
    return axis


def _stack(eqn: Equation, states: list[Any]) -> int:
    axis = _joined(states)
    return axis + (eqn.params["axis"] <= axis)


def _dot_general(eqn: Equation, states: list[Any]) -> int:
    contracted, batched = eqn.params["dimension_numbers"]
    free = [
        [d for d in range(len(v.aval.shape)) if d not in contracted[i] and d not in batched[i]]
        for i, v in enumerate(eqn.invars)
    ]
    at = []
    for i, s in enumerate(states):
        if not isinstance(s, _Rows):
            continue
        _need(s.axis not in contracted[i])
        if s.axis in batched[i]:
            place = list(batched[i]).index(s.axis)
            other = states[1 - i]
            across = batched[1 - i][place]
            _need(other == _Rows(across) if isinstance(other, _Rows) else across in other.uniform)
            at.append(place)
        else:
            _need(not isinstance(states[1 - i], _Rows))
            at.append(len(batched[0]) + free[i].index(s.axis) + (len(free[0]) if i == 1 else 0))
    _need(len(set(at)) == 1)
    return at[0]


def _gather(eqn: Equation, states: list[Any]) -> int:
    """Return the axis of the rows in the result of looking up a table of parameters by a column of the data."""
    d, (table, index) = eqn.params["dimension_numbers"], states[:2]
    _need(isinstance(table, _Same) and isinstance(index, _Rows) and not d.operand_batching_dims)
    _need(index.axis < len(eqn.invars[1].aval.shape) - 1)
    kept = [i for i in range(len(eqn.outvars[0].aval.shape)) if i not in d.offset_dims]
    return kept[index.axis]


def _along(parameter: str) -> Callable[[Any, list[Any]], int]:
    """Return the rule of an operation along one axis (named by ``parameter``), which raises `_Unproved` if that is the axis of
    the rows, or if the operands differ in theirs.
    """

    def rule(eqn: Equation, states: list[Any]) -> int:
        _need(len(set(states)) == 1 and eqn.params[parameter] != states[0].axis)
        return int(states[0].axis)

    return rule


_RULES: dict[str, Callable[[Any, list[Any]], int]] = {
    "reshape": _reshape,
    "squeeze": lambda eqn, s: _without(s[0].axis, eqn.params["dimensions"]),
    "transpose": lambda eqn, s: list(eqn.params["permutation"]).index(s[0].axis),
    "slice": _slice,
    "pad": _pad,
    "concatenate": _concatenate,
    "stack": _stack,
    "unstack": lambda eqn, s: _without(s[0].axis, (eqn.params["axis"],)),
    "dot_general": _dot_general,
    "gather": _gather,
    "sort": _along("dimension"),
    "split": _along("axis"),
    **{name: lambda eqn, s: _without(s[0].axis, eqn.params["axes"]) for name in _REDUCTIONS},
    **{name: _along("axis") for name in _CUMULATIVE},
}
