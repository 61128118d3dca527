"""Functions of the data alone in a traced log-likelihood, split off so that they are computed once for a whole fit.

``gammaln(y + 1)`` and ``log(t)`` do not change during a fit.  The traced log-likelihood is split at such arrays: one part
computes them, the other takes them as further columns.  Only what costs more to compute than to read is split off; additions,
products and choices are not.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax

from mlejax.shapes import Params, PyTree

from .jaxprs import Equation, Repetitions, dependence, inner_programs, is_literal, part_of

_NAMES = (
    "abs add add_any and bitcast_convert_type broadcast_in_dim ceil clamp concatenate convert_element_type copy copy_p div eq "
    "floor ge gt integer_pow iota is_finite le lt max min mul ne neg not one_minus_square or real reshape round select_n sign "
    "slice split square squeeze stop_gradient sub transpose xor "
)
_CHEAP = frozenset(_NAMES.split())  # cheaper than to read a further column


class Split(NamedTuple):
    """The terms of a log-likelihood in two parts: functions of the data alone, and the rest.

    Attributes:
        shapes: shapes and types of the arrays that the first part computes; their first axis is that of the rows.
        known: the first part, a function (rows, shared) -> these arrays.
        rest: the second part, a function (params, rows, shared, these arrays) -> terms of the log-likelihood (N,).
    """

    shapes: tuple[jax.ShapeDtypeStruct, ...]
    known: Callable[[Any, Any], tuple[jax.Array, ...]]
    rest: Callable[[Any, Any, Any, Sequence[jax.Array]], jax.Array]


def split(
    function: Callable[[Any, Any, Any], jax.Array],
    params: Params,
    rows: Sequence[Any],
    shared: PyTree,
    replaced: Sequence[int] = (),
) -> Split | None:
    """Split ``function(params, rows, shared) -> (N,)`` at costly functions of the data alone; None if there are none, or if the
    function has side effects.

    Args:
        function: terms of the log-likelihood of N rows.
        params, rows, shared: its arguments, abstract or concrete; rows are arrays (N, ...).
        replaced: positions in ``rows`` of design matrices; functions of these are not split off.
    """
    closed, out = jax.make_jaxpr(function, return_shape=True)(params, rows, shared)
    jaxpr, n = closed.jaxpr, out.shape[0]
    if jaxpr.effects:
        return None
    n_params = len(jax.tree.leaves(params))
    data = jaxpr.invars[n_params:]
    moving = [*jaxpr.invars[:n_params], *(data[i] for i in replaced)]
    before, after = [], []
    dear: set[Any] = set()  # by row, of the data alone, and worth keeping
    single: set[Any] = set()  # the only result of its operation
    found: list[Any] = []
    same = Repetitions()
    for eqn, touched in dependence(jaxpr, moving):
        operands = [v for v in eqn.invars if not is_literal(v)]
        if touched:
            after.append(eqn)
            found += [v for v in operands if v in single and v not in found]
            continue
        before.append(eqn)
        same.note(eqn)
        by_row = [v for v in eqn.outvars if v.aval.shape[:1] == (n,)]
        if any(v in dear for v in operands) or not _cheap(eqn):
            dear.update(by_row)
            single.update(by_row if len(eqn.outvars) == 1 else ())
    if not found:
        return None
    between = list(dict.fromkeys(same.first(v) for v in found))
    places = [between.index(same.first(v)) for v in found]
    others = [
        eqn for eqn in before if not any(v in found for v in eqn.outvars)
    ]  # without those that only the first part needs
    make = part_of(closed, invars=data, outvars=between, eqns=before)
    go_on = part_of(closed, invars=[*jaxpr.invars, *found], eqns=[*others, *after])

    def known(rows: PyTree, shared: PyTree) -> tuple[jax.Array, ...]:
        return tuple(make(*jax.tree.leaves((rows, shared))))

    def rest(params: Params, rows: PyTree, shared: PyTree, values: Sequence[jax.Array]) -> jax.Array:
        return go_on(*jax.tree.leaves((params, rows, shared)), *(values[i] for i in places))[0]

    return Split(tuple(jax.ShapeDtypeStruct(v.aval.shape, v.aval.dtype) for v in between), known, rest)


def _cheap(eqn: Equation) -> bool:
    """True if an operation, with all that it contains, costs less than reading a further column."""
    inside = list(inner_programs(eqn))
    return all(_cheap(e) for inner in inside for e in inner.eqns) if inside else eqn.primitive.name in _CHEAP
