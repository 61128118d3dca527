r"""Linear predictors in a row-wise log-likelihood, found in its trace: the Hessian of a regression from few tangents.

Where the coefficients enter only through products with matrices of data, eta_a = X_a beta_a, and l_i uses row i only, the
chain rule gives, with h_ab,i = d^2 l_i / d eta_ai d eta_bi and the other parameters theta,

.. math:: H_{\beta_a \beta_b} = X_a' \mathrm{diag}(h_{ab}) X_b, \qquad
          H_{\beta_a \theta} = X_a' \, [\partial^2 l_i / \partial\eta_{ai} \partial\theta'], \qquad H_{\theta\theta}.

This takes one tangent for each predictor (ones in every row, since rows are independent) and one for each entry of theta,
instead of one for each coefficient.  It is the usual formula of generalised linear models, for any likelihood that has such
products: ``data["X"] @ params["beta"]``, several of them, nonlinear links, regressed parameters.  A product with a matrix of
coefficients, ``data["X"] @ params["B"]`` of a multinomial logit, is one predictor for each of its columns.

A look-up by codes, ``params["alpha"][data["firm"]]``, is the product with a matrix of dummies that is never formed: its sums are
sums by code, O(n) whatever the number of levels.  Predictors that are only added share their tangent (`predictor_groups`).

The products are found by tracing the log-likelihood's terms and following slices of u into ``dot_general`` and ``gather``.
Entries of a slice that is used in any other way belong to theta.  Where nothing is gained, the plain derivatives are taken of
the same trace.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from mlejax.execution.trace import dummies
from mlejax.execution.trace.dummies import Dummies, PredictorSums, pair_sums, rows_times, times
from mlejax.shapes import Device, Either, Float, PyTree

from . import softplus_calls
from .jaxprs import Equation, dependence, is_literal, part_of, without_repetitions
from .predictor_groups import groups_of

FEW_COORDINATES = 64  # up to which products with unit vectors place a block of the Hessian
MOST_PREDICTORS = 24  # of products with matrices of coefficients: each pair of predictors is a term of the program
_SAME = ("reshape", "squeeze", "copy", "copy_p")


@dataclass(frozen=True, eq=False)
class Traced:
    """The traced log-likelihood terms of one block of N rows, split at its linear predictors.

    Attributes:
        whole: function (u, *others) -> [terms of the log-likelihood (N,)].
        inner: function (u, *others, *results of the products) -> [terms (N,)]; None if splitting saves no work.
        data: function (u, *others) -> the matrices of the products and the codes of the look-ups, which depend on others only;
            ``whole`` if ``inner`` is None.
        products: the products and look-ups that give the predictors; empty if ``inner`` is None.
        theta: indices of the entries of u that are used in any other way (s,); all if ``inner`` is None.
        groups: for each predictor the number of the sum that it enters: predictors of one sum have the same derivatives.
        own: number of the sum that the effects enter; None if they enter none, or there are no effects.
    """

    whole: Callable[..., Any]
    inner: Callable[..., Any] | None
    data: Callable[..., Any]
    products: tuple[Product | Lookup, ...]
    theta: np.ndarray
    groups: tuple[int, ...] = ()
    own: int | None = None

    @property
    def places(self) -> list[np.ndarray]:
        """Indices in u of the coefficients beta_a of each predictor, arrays (k_a,)."""
        return [product.at[:, j] for product in self.products for j in range(product.at.shape[1])]

    @property
    def firsts(self) -> list[int]:
        """The first predictor of each sum."""
        return [a for a, group in enumerate(self.groups) if group not in self.groups[:a]]

    @property
    def tangents(self) -> list[int]:
        """The position, among ``firsts``, of the sum that each predictor enters."""
        numbers = [self.groups[a] for a in self.firsts]
        return [numbers.index(group) for group in self.groups]

    def matrices(self, multiplied: list[jax.Array], n: int) -> list[jax.Array | Dummies]:
        """Return the matrix X_a (N, k_a) of each predictor, from what ``data`` returned and the number n of rows."""
        out: list[jax.Array | Dummies] = []
        for x, product in zip(multiplied, self.products, strict=True):
            k, m = product.at.shape
            if isinstance(product, Lookup):
                out.append(Dummies(jnp.reshape(x, (n,)), k, product.fill, product.reference))
                continue
            out += [jnp.reshape(jnp.moveaxis(x, product.axis, -1), (n, k))] * m
        return out

    def arguments(self, predictors: list[jax.Array]) -> list[jax.Array]:
        """Return the results of the products in the shapes that ``inner`` takes, from the predictors (N,)."""
        out, first = [], 0
        for product in self.products:
            own = predictors[first : first + product.at.shape[1]]
            first += len(own)
            last = isinstance(product, Product) and product.last
            together = own[0] if len(own) == 1 else jnp.stack(own, axis=1 if last else 0)
            out.append(jnp.reshape(together, product.shape))
        return out


class Product(NamedTuple):
    """A product of a matrix of data with coefficients, found in the trace.

    Attributes:
        axis: axis of the matrix that is summed over.
        at: indices in u of the coefficients (k, m), for m predictors.
        shape: shape of the result.
        last: True if the predictors are along the last axis of the result, False if along the first.
    """

    axis: int
    at: np.ndarray
    shape: tuple[int, ...]
    last: bool


class Lookup(NamedTuple):
    """A look-up of one coefficient for each row by its code, found in the trace.

    Attributes:
        at: indices in u of the coefficients (k, 1).
        shape: shape of the result.
        fill: True if codes out of range give NaN, False if they are clipped to the last coefficient.
        reference: True if code 0 gives 0 and the coefficients have the codes from 1 on.
    """

    at: np.ndarray
    shape: tuple[int, ...]
    fill: bool
    reference: bool


def trace(
    function: Callable[..., jax.Array],
    u: PyTree,
    others: list[Any],
    softplus: Callable[[Any], Any] | None = None,
    effects: bool = False,
) -> Traced:
    """Trace ``function(u, *others) -> (N,)``, the terms of N rows, and return it split at its linear predictors.

    Args:
        function, u, others: the function and its arguments, abstract or concrete.
        softplus: if given, calls of JAX's own softplus become calls of this.
        effects: True if the first of ``others`` is a column (N,) of effects, of which second derivatives are wanted too; then
            products of one coefficient with a column are predictors as well.
    """
    closed: Any = jax.make_jaxpr(function)(u, *others)
    closed = closed if softplus is None else softplus_calls.replaced(closed, softplus)
    closed = without_repetitions(closed) if effects else closed
    jaxpr = closed.jaxpr
    p, n = int(u.shape[0]), int(jaxpr.outvars[0].aval.shape[0])
    places: dict[Any, np.ndarray] = {jaxpr.invars[0]: np.arange(p)}
    data_alone: list[Equation] = []
    used = np.zeros(p, bool)
    products: list[tuple[Any, Any, Product | Lookup]] = []  # equation, matrix or codes
    for eqn, touched in dependence(jaxpr, jaxpr.invars[:1]):
        if not touched:
            data_alone.append(eqn)
            continue
        place = _moved(eqn, places)
        if place is not None:
            places[eqn.outvars[0]] = place
            continue
        found: tuple[Any, Product | Lookup] | None = None
        if len(touched) == 1:
            found = _product(eqn, places, n) or _lookup(eqn, places, n) or (_column(eqn, places, n) if effects else None)
        if found is not None:
            products.append((eqn, *found))
            continue
        for v in touched:
            if v in places:
                used[places[v][places[v] >= 0]] = True
    for v in jaxpr.outvars:
        if not is_literal(v) and v in places:
            used[:] = True
    whole = part_of(closed)
    results = [(eqn.outvars[0], product.at.shape[1]) for eqn, _, product in products]
    groups, own = groups_of(jaxpr, results, jaxpr.invars[1] if effects else None)
    if not products or len(set(groups)) + used.sum() >= p + (own is not None):
        return Traced(whole, None, whole, (), np.arange(p))
    removed = {id(eqn) for eqn, *_ in products}
    return Traced(
        whole,
        part_of(
            closed,
            invars=[*jaxpr.invars, *(eqn.outvars[0] for eqn, *_ in products)],
            eqns=[eqn for eqn in jaxpr.eqns if id(eqn) not in removed],
        ),
        part_of(closed, outvars=[matrix for _, matrix, _ in products], eqns=data_alone),
        tuple(product for *_, product in products),
        np.flatnonzero(used),
        groups,
        own,
    )


def _moved(eqn: Equation, places: dict[Any, np.ndarray]) -> np.ndarray | None:
    """Return the indices in u of the entries of the result, in its shape, -1 for 0; None unless the equation only rearranges
    entries of u, by concatenation, a slice without steps, transposition or another shape, or puts a 0 before them.

    ``places``: these indices for the variables that earlier equations made, in the shape of each.
    """
    if eqn.primitive.name == "pad":
        vector, value = eqn.invars
        known = not is_literal(vector) and vector in places and is_literal(value) and value.val == 0
        first = known and tuple(eqn.params["padding_config"]) == ((1, 0, 0),)
        return np.append(-1, places[vector]) if first else None
    if any(is_literal(v) or v not in places for v in eqn.invars) or len(eqn.outvars) != 1:
        return None
    at, name = places[eqn.invars[0]], eqn.primitive.name
    if name == "concatenate":
        return np.concatenate([places[v] for v in eqn.invars], axis=eqn.params["dimension"])
    if name == "slice" and eqn.params["strides"] is None:
        limits = zip(eqn.params["start_indices"], eqn.params["limit_indices"], strict=True)
        return at[tuple(slice(int(start), int(limit)) for start, limit in limits)]
    if name == "transpose":
        return at.transpose(eqn.params["permutation"])
    shape = eqn.outvars[0].aval.shape
    return at.reshape(shape) if name in _SAME and len(eqn.invars) == 1 and at.size == np.prod(shape) else None


def _product(eqn: Equation, places: dict[Any, np.ndarray], n: int) -> tuple[Any, Product] | None:
    """Return (matrix, `Product`) if the equation is data (N, ..., k) times coefficients (k,) or (k, m); else None.

    ``places``: positions in u of the entries of the variables that are coefficients; ``n``: number of rows.
    """
    if eqn.primitive.name != "dot_general":
        return None
    (left_axes, right_axes), batched = eqn.params["dimension_numbers"]
    sides = [(eqn.invars[0], tuple(left_axes)), (eqn.invars[1], tuple(right_axes))]
    if any(axes for axes in batched) or any(is_literal(v) for v, _ in sides):
        return None
    for (beta, beta_axes), (matrix, axes) in (sides, sides[::-1]):
        if beta not in places or matrix in places or len(axes) != 1 or places[beta].ndim > 2:
            continue
        if (places[beta] < 0).any():
            continue
        at = places[beta]
        at = at[:, None] if at.ndim == 1 else np.moveaxis(at, beta_axes[0], 0)
        free = np.delete(matrix.aval.shape, axes[0])
        if not free.size or free[0] != n or np.prod(free) != n or at.shape[1] > MOST_PREDICTORS:
            continue
        return matrix, Product(int(axes[0]), at, eqn.outvars[0].aval.shape, beta is eqn.invars[1])
    return None


def _lookup(eqn: Equation, places: dict[Any, np.ndarray], n: int) -> tuple[Any, Lookup] | None:
    """Return (codes, `Lookup`) if the equation looks up one of k coefficients for each of N rows; else None.

    ``places``, ``n``: as for :func:`_product`.
    """
    if eqn.primitive.name != "gather":
        return None
    beta, codes = eqn.invars
    shape = eqn.outvars[0].aval.shape
    if is_literal(codes) or beta not in places or places[beta].ndim != 1 or eqn.params["slice_sizes"] != (1,):
        return None
    at = places[beta]
    reference = at[0] < 0
    own = at[1:] if reference else at
    if shape[:1] != (n,) or np.prod(shape) != n or (own < 0).any() or not own.size:
        return None
    fill = eqn.params["mode"] == jax.lax.GatherScatterMode.FILL_OR_DROP
    return codes, Lookup(own[:, None], shape, fill, bool(reference))


def _column(eqn: Equation, places: dict[Any, np.ndarray], n: int) -> tuple[Any, Product] | None:
    """Return (column, `Product`) if the equation is a column of data (N,) times one coefficient; else None.

    ``places``, ``n``: as for :func:`_product`.
    """
    shape = eqn.outvars[0].aval.shape
    if eqn.primitive.name != "mul" or np.prod(shape) != n or shape[:1] != (n,):
        return None
    for beta, column in (eqn.invars, eqn.invars[::-1]):
        if not is_literal(beta) and beta in places and places[beta].size == 1 and not is_literal(column):
            return (column, Product(0, places[beta].reshape(1, 1), shape, True)) if column.aval.shape == shape else None
    return None


def _at_predictors(
    traced: Traced, u: Either, others: list[jax.Array], weights: jax.Array, shared: bool
) -> tuple[list[jax.Array | Dummies], list[jax.Array], Callable[..., PyTree]]:
    """Return for one block the matrices X_a, the first predictors X_a beta_a (N,) of each sum, and a function of derivatives.

    The function maps (u, these predictors) to (gradients, (value, gradients)), the gradients in both arguments.
    """
    assert traced.inner is not None
    inner, firsts = traced.inner, traced.firsts
    matrices = traced.matrices(traced.data(u, *others), weights.shape[0])
    etas = [times(x, u[at], shared) for x, at in zip(matrices, traced.places, strict=True)]

    def total(t: jax.Array, moving: list[jax.Array]) -> jax.Array:
        predictors = list(etas)
        for a, eta in zip(firsts, moving, strict=True):
            predictors[a] = eta
        return jnp.sum(weights * inner(t, *others, *traced.arguments(predictors))[0])

    def pair(t: jax.Array, moving: list[jax.Array]) -> PyTree:
        value, grads = jax.value_and_grad(total, argnums=(0, 1))(t, moving)
        return grads, (value, grads)

    return matrices, [etas[a] for a in firsts], pair


def score_sums(
    traced: Traced, u: Either, others: list[jax.Array], weights: jax.Array
) -> tuple[Float[Device, ""], Float[Device, " p"]]:
    """Return the weighted sum of the log-likelihood terms of one block () and its gradient (p,) at u; many u share the rows under
    one ``vmap``.

    ``others``: the further arguments of the traced function.
    """
    matrices, etas, pair = _at_predictors(traced, u, others, weights, shared=True)
    _, (value, (grad, slopes)) = pair(u, etas)
    for x, at, i in zip(matrices, traced.places, traced.tangents, strict=True):
        grad = grad.at[at].add(rows_times(slopes[i][None], x)[0])
    return value, grad


def sums(
    traced: Traced,
    u: Either,
    others: list[jax.Array],
    weights: jax.Array,
    products: Callable[..., jax.Array] | None = None,
) -> PredictorSums:
    """Return the weighted sums of derivatives of one block.

    Args:
        traced: the traced terms; ``inner`` must not be None.
        u, others: arguments of the traced function.
        weights: weights of the rows (N,).
        products: (X (N, k), w (N,), Y (N, l)) -> X' diag(w) Y (k, l); None for the plain one.
    """
    matrices, etas, pair = _at_predictors(traced, u, others, weights, products is not None)
    g, s, n = len(etas), traced.theta.size, weights.shape[0]
    q, of = len(matrices), traced.tangents
    plain = products or (lambda a, w, b: (a * w[:, None]).T @ b)

    def along(dt: jax.Array, de: list[jax.Array]) -> PyTree:
        _, bend, at = jax.jvp(pair, (u, etas), (dt, de), has_aux=True)
        return bend, at

    dt = np.zeros((g + s, u.shape[0]), u.dtype)
    dt[g + np.arange(s), traced.theta] = 1.0
    on = np.eye(g + s, dtype=u.dtype)
    de = [jnp.broadcast_to(on[:, i, None], (g + s, n)) for i in range(g)]
    (bend_u, bend_e), (value, (grad, slopes)) = jax.vmap(along, out_axes=(0, None))(jnp.asarray(dt), de)
    x = matrices[0]
    if q == 1 and not isinstance(x, Dummies) and (k := x.shape[1]) <= dummies.NARROW and products is None:  # X is read once
        every = jnp.concatenate([(x * bend_e[0][0][:, None]).T, slopes[0][None], bend_e[0][1:]]) @ x
        return PredictorSums(value, grad, [every[k]], [every[:k]], [every[k + 1 :].T], bend_u[1:])
    # one product with each matrix: further ones would read it again
    rows = [jnp.concatenate([slopes[i][None], bend_e[i][g:]]) for i in of]
    bend = [[bend_e[j][i] for i in of] for j in of]
    if any(isinstance(x, Dummies) for x in matrices):
        once, pairs = dummies.sums_with_dummies(matrices, rows, bend, plain)
    else:
        once = [rows_times(own, x) for own, x in zip(rows, matrices, strict=True)]
        pairs = pair_sums(matrices, bend, plain)
    return PredictorSums(value, grad, [found[0] for found in once], pairs, [found[1:].T for found in once], bend_u[g:])


def assemble(
    places: Sequence[np.ndarray], theta: np.ndarray, sums: PredictorSums, p: int
) -> tuple[Float[Device, ""], Float[Device, " p"], Float[Device, "p p"]]:
    """Return the weighted log-likelihood (), its gradient (p,) and its Hessian (p, p) in u, p coordinates, from the sums over all
    blocks; no sign is changed.  ``places``, ``theta``: as of `Traced`.
    """
    dtype = sums.grad.dtype
    few = p <= FEW_COORDINATES
    eye = np.eye(p if few else 0, dtype=dtype)
    grad = sums.grad
    hessian = eye[theta].T @ sums.theta if few else jnp.zeros((p, p), dtype).at[theta].add(sums.theta)

    def added(total: jax.Array, block: jax.Array, at: np.ndarray, to: np.ndarray) -> jax.Array:
        if block.ndim == 1:
            return total.at[at, to].add(block)
        return total + eye[at].T @ block @ eye[to] if few else total.at[at[:, None], to].add(block)

    pairs = iter(sums.pairs)
    for a, at in enumerate(places):
        grad = grad + sums.betas[a] @ eye[at] if few else grad.at[at].add(sums.betas[a])
        hessian = added(hessian, sums.crosses[a], at, theta)
        hessian = added(hessian, sums.crosses[a].T, theta, at)
        for b in range(a, len(places)):
            block, to = next(pairs), places[b]
            hessian = added(hessian, block, at, to)
            if a != b:
                hessian = added(hessian, block.T, to, at)
    return sums.value, grad, hessian
