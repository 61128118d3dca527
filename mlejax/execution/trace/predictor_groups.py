"""Predictors that a traced function adds: the terms of one sum have the same derivatives, which are computed once.

A log-likelihood of eta = X beta + alpha, with alpha a look-up or a column of effects, depends on the sum alone, so that one
tangent gives the second derivatives by all its terms.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np

from .jaxprs import Program, dependence, is_literal

_ADDING, _SAME = ("add", "add_any"), ("reshape", "squeeze", "copy", "copy_p")


def groups_of(jaxpr: Program, products: Sequence[tuple[Any, int]], effects: Any = None) -> tuple[tuple[int, ...], int | None]:
    """Return for each predictor the number of the sum that it enters, and that of the effects (None if they enter none).

    A predictor is in a sum with others if it is used once, to be added to them, and so is their sum so far.  What depends neither
    on coefficients nor on effects may be added, too.

    Args:
        jaxpr: the program; its first argument has the coefficients.
        products: results of its products, with the number of predictors of each; a product of several is in no sum.
        effects: its argument that is a column of effects, or None.
    """
    terms = [v for v, _ in products] + ([] if effects is None else [effects])
    added = _sums_of(jaxpr, terms)
    own = added.pop() if effects is not None and added.count(added[-1]) > 1 else None
    groups: list[int] = []
    for number, (_, m) in zip(added, products, strict=False):
        new = len(terms) + len(groups)
        groups += [number] if m == 1 else range(new, new + m)
    return tuple(groups), own


def _sums_of(jaxpr: Program, terms: Sequence[Any]) -> list[int]:
    """Return for each term, a variable, the number of the sum that it enters, counted from 0."""
    uses = Counter(v for eqn in jaxpr.eqns for v in eqn.invars if not is_literal(v))
    uses.update(v for v in jaxpr.outvars if not is_literal(v))
    parent = list(range(len(terms)))
    member = {v: i for i, v in enumerate(terms)}

    def root(i: int) -> int:
        return i if parent[i] == i else root(parent[i])

    for eqn, touched in dependence(jaxpr, [jaxpr.invars[0], *terms]):
        alone = [v for v in touched if v in member and uses[v] == 1]
        if not touched or len(alone) < len(touched) or any(out in member for out in eqn.outvars):
            continue
        size = np.prod(eqn.outvars[0].aval.shape)
        if eqn.primitive.name not in (*_ADDING, *_SAME) or any(np.prod(v.aval.shape) != size for v in alone):
            continue
        first = root(member[alone[0]])
        for v in alone[1:]:
            parent[root(member[v])] = first
        member[eqn.outvars[0]] = first
    numbers: dict[int, int] = {}
    return [numbers.setdefault(root(i), len(numbers)) for i in range(len(terms))]
