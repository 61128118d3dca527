"""Derivatives of a function of rows by its linear predictors, computed once whatever the number of tangents.

Laplace's approximation and quadrature differentiate a function of rows up to four times, along every parameter and every
latent variable.  All of these enter through one or few linear predictors, so that the chain rule needs the derivatives of each
row by its own predictors only; the rest are products of matrices.

Models of one formula, with random effects of one grouping factor and at most six further parameters, have score and information
from :mod:`mlejax.latent.second_order`.  The rules here serve the rest: formulas for several parameters, more parameters,
nested and crossed effects, simulation; and for all models values, scores of single units, and many data sets at once.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.custom_derivatives import SymbolicZero

from mlejax.execution import inlined
from mlejax.shapes import Device, PyTree

Rows = Callable[[list[Any], PyTree], Device]  # predictors (n,) each and any other arguments -> (n,)
ORDERS = {1: 4, 2: 2}  # derivatives taken by the predictors, by their number: pairs, triples, ... of more cost too much


def by_predictors(function: Rows, n: int) -> Rows:
    """Return a function with the same arguments and values, and rules for its derivatives by its n predictors.

    The rules hold up to the fourth derivative for one predictor, up to the second for two; for more there are none.  The function
    is traced once for each shape of its arguments.

    Args:
        function: function of (predictors, others); its entry i depends on entry i of each predictor, and it closes over no
            traced arrays.  Derivatives by ``others`` are taken as usual.
        n: number of predictors.
    """
    return _ruled(inlined(function), n, ORDERS.get(n, 0))


def _ruled(function: Rows, n: int, order: int) -> Rows:
    """Return the function with a rule for its derivatives by n predictors up to this order; unchanged for order 0."""
    if order == 0:
        return function
    slopes = [_ruled(inlined(_slope(function, a)), n, order - 1) for a in range(n)]
    lower = _ruled(function, n, order - 1)

    @jax.custom_jvp
    def ruled(predictors: list[Any], others: PyTree) -> Device:
        return function(predictors, others)

    def rule(primals: Any, tangents: Any) -> tuple[Device, Device]:
        (predictors, others), (along, beside) = primals, tangents
        value = ruled(predictors, others)
        total = jnp.zeros_like(value)
        for slope, tangent in zip(slopes, along, strict=True):
            if not isinstance(tangent, SymbolicZero):
                total = total + slope(predictors, others) * tangent
        leaves, tree = jax.tree.flatten(others)
        moving = {i: t for i, t in enumerate(jax.tree.leaves(beside)) if not isinstance(t, SymbolicZero)}
        if moving:

            def of_moving(parts: list[Any]) -> Device:
                whole = {**dict(enumerate(leaves)), **dict(zip(moving, parts, strict=True))}
                return lower(predictors, jax.tree.unflatten(tree, whole.values()))

            total = total + jax.jvp(of_moving, ([leaves[i] for i in moving],), (list(moving.values()),))[1]
        return value, total

    ruled.defjvp(rule, symbolic_zeros=True)
    return ruled


def _slope(function: Rows, a: int) -> Rows:
    """Return the derivative of the function by predictor a, a function of the same arguments."""

    def slope(predictors: list[Any], others: PyTree) -> Device:
        one = lambda eta: function([*predictors[:a], eta, *predictors[a + 1 :]], others)
        return jax.jvp(one, (predictors[a],), (jnp.ones_like(predictors[a]),))[1]

    return slope
