"""Labels of latent classes: whether classes can be exchanged without changing the log-likelihood, and sorting them.

Classes are sorted by the first entry of the first parameter with one value per class.  In unconstrained coordinates an exchange
of classes is a linear map u' = M u: softmax coordinates are differences of logarithms, all others are permuted.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import combinations
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from mlejax import transforms
from mlejax.data import Prepared
from mlejax.execution import float64
from mlejax.latent import mixture_in, mixture_of, posterior
from mlejax.objective import Spec
from mlejax.optimize import OptimizeResult
from mlejax.parameters import Space
from mlejax.shapes import Bool, Either, Float, Host, Int, PyTree

SAME = 1e-9  # log-likelihood, relative, of exchanged classes
MOST_TRIED = 64  # sets of parameters that are exchanged


def probability_leaves(spec: Spec) -> list[int]:
    """Return the positions, among the parameter arrays (leaves), of the probabilities of latent classes."""
    mixture = mixture_in(spec.likelihood)
    names = set(mixture.latent.names(mixture.name).values())
    return [i for i, leaf in enumerate(spec.space.leaves) if leaf.name in names]


def exchangeable(spec: Spec, u: Float[Host, " p"], data: Prepared, fixed: Either | None) -> tuple[int, ...] | None:
    """Find the leaves whose classes can be exchanged together without changing the log-likelihood at u, (p,).

    Returns:
        Positions of these leaves, the probabilities included.  None if there are none, the model has no classes, or it has a
        penalty, constraints, or class parameters or probabilities that are fixed.
    """
    mixture, space = mixture_of(spec.likelihood), spec.space
    if mixture is None or space.ties is not None or space.mapped or spec.penalty is not None:
        return None
    k, law = mixture.latent.n, probability_leaves(spec)
    others = [i for i, leaf in enumerate(space.leaves) if i not in law and leaf.shape[:1] == (k,) and leaf.size]
    plain = all(type(space.leaves[i].transform) is transforms.Simplex for i in law)
    if not others or not plain or any(space.leaves[i].free is not None for i in (*law, *others)):
        return None
    value = lambda at: float(np.asarray(data.weights) @ np.asarray(posterior(spec, at, data, fixed).loglik))
    turned = np.roll(np.arange(k), 1)
    with float64():
        here = value(u)
        for some in _subsets(others):
            if any(_increasing(space, i) for i in some):
                continue
            there = value(np.asarray(permuted(spec, u, fixed, (*some, *law), turned)))
            if abs(there - here) <= SAME * (1.0 + abs(here)):
                return (*some, *law)
    return None


def _increasing(space: Space, i: int) -> bool:
    """True if leaf i is declared as an increasing vector (`Ordered`), so that its classes cannot be exchanged."""
    return isinstance(space.leaves[i].transform, transforms.Ordered) and len(space.leaves[i].shape) == 1


def _subsets(leaves: list[int]) -> Iterator[tuple[int, ...]]:
    """Return the non-empty subsets of the leaves, the largest first, at most 64."""
    several = (some for size in range(len(leaves), 0, -1) for some in combinations(leaves, size))
    yield from (some for _, some in zip(range(MOST_TRIED), several, strict=False))


def exchanged(spec: Spec, params: PyTree, leaves: tuple[int, ...], order: Int[Host, " k"]) -> list[Any]:
    """Return the parameters, one array per leaf, with the classes of the given ``leaves`` permuted by ``order``, (k,)."""
    mixture, space = mixture_in(spec.likelihood), spec.space
    values, square = space.split(params), mixture.latent.square(mixture.name)
    for i in leaves:
        values[i] = values[i][order]
        if space.leaves[i].name in square:
            values[i] = values[i][:, order]
    return values


def permuted(spec: Spec, u: Either, fixed: Either | None, leaves: tuple[int, ...], order: Int[Host, " k"]) -> Either:
    """Return u, (p,), with the classes of the given ``leaves`` permuted by ``order``, (k,)."""
    space = spec.space
    return space.u_from_params(space.build(exchanged(spec, space.params_from_u(u, fixed), leaves, order)))


def first_of(space: Space, leaves: tuple[int, ...]) -> int:
    """Return the position of the leaf by whose values classes are sorted: the first with an elementwise transform, else the
    first.
    """
    return next((i for i in leaves if space.leaves[i].transform.elementwise), leaves[0])


def order_of(space: Space, params: PyTree, leaves: tuple[int, ...]) -> Either:
    """Return the permutation, (k,), that sorts the classes by the first entry of the leaf `first_of`, increasing; a JAX array.
    """
    values = jnp.asarray(space.split(params)[first_of(space, leaves)])
    return jnp.argsort(jnp.reshape(values, (values.shape[0], -1))[:, 0], stable=True)


def in_order(spec: Spec, ends: OptimizeResult, good: Bool[Host, " L"], data: Prepared, fixed: Either | None) -> OptimizeResult:
    """Return the results of many searches with classes sorted as by `order_of`: u, scores and informations are permuted.

    They are unchanged if classes cannot be exchanged or there is no information.

    Args:
        spec: the specification, the same for all.
        ends: results of L data sets.
        good: mask, (L,), of those that are maxima; the others stay as they are.
        data: data of the first of these, at whose estimate exchangeability is tested.
        fixed: values under ``fixed=``, or None.
    """
    at, space = np.flatnonzero(good), spec.space
    leaves = exchangeable(spec, ends.u[at[0]], data, fixed) if at.size else None
    if leaves is None or ends.information is None:
        return ends
    u, score, information = (np.array(a) for a in (ends.u, ends.score, ends.information))
    with float64():
        orders = np.asarray(jax.vmap(lambda x: order_of(space, space.params_from_u(x, fixed), leaves))(u[at]))
        for order in np.unique(orders, axis=0):
            which = at[(orders == order).all(axis=1)]
            columns = [np.asarray(permuted(spec, e, fixed, leaves, order)) for e in np.eye(space.n_free)]
            back = np.linalg.inv(np.stack(columns, axis=1))  # u = back u'
            u[which] = np.linalg.solve(back, u[which].T).T
            score[which] = score[which] @ back
            information[which] = back.T @ information[which] @ back
    return ends._replace(u=u, score=score, information=information)
