r"""Laplace's approximation for random effects of several grouping factors, crossed or nested.

The log density h of the rows and of the standard normal random effects z of all levels has its mode at zhat, with the curvature

    H = ( A  B )      A block diagonal, a block (q, q) for each level of the factor with the most random effects,
        ( B' D )      D dense, for the levels of all other factors,

so that log int exp h dz ~ h(zhat) - (log det A + log det (D - B' A^-1 B)) / 2, without the factors (2 pi)^-1/2 of the normal
densities.
This is exact for linear mixed models.  Bates et al. (2015), J. Stat. Softw. 67(1).  Derivatives as in `mlejax.latent.integral`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from mlejax.latent.mode import CLOSE, MOST_STEPS
from mlejax.linalg import entrywise
from mlejax.linalg.entrywise import Entries
from mlejax.shapes import Count, Device, PyTree

LEVELS = ("mlejax", "levels")  # columns: the level of each row within its unit, one for each factor
THERE = ("mlejax", "there")  # for each factor flags of the levels of a unit, (G,)

OfRows = Callable[[Any], Any]  # random effects of each row (m, q) -> log density of every row (m,)


@dataclass(frozen=True)
class Structure:
    """The levels of each row in several grouping factors.

    Attributes:
        codes: for each factor, the level of every row (m,).
        sizes: for each factor, the number of levels.
        widths: for each factor, the number of random effects of a level; columns of row-wise effects are in the order of
            the factors.
    """

    codes: tuple[Any, ...]
    sizes: tuple[int, ...]
    widths: tuple[int, ...]

    @property
    def eliminated(self) -> int:
        """The position of the factor with the most random effects."""
        totals = [g * q for g, q in zip(self.sizes, self.widths, strict=True)]
        return totals.index(max(totals))

    def columns(self, factor: int) -> range:
        """Return the positions of the effects of a factor (its number) among the columns of `by_row`."""
        first = sum(self.widths[:factor])
        return range(first, first + self.widths[factor])

    def by_row(self, z: Sequence[Any]) -> PyTree:
        """Return the random effects of each row, (m, sum of q_k): those of its level of every factor, side by side.

        ``z``: for each factor k the random effects of its levels, (G_k, q_k).
        """
        return jnp.concatenate([part[code] for part, code in zip(z, self.codes, strict=True)], axis=1)

    def zeros(self) -> tuple[Any, ...]:
        """Return random effects of 0 for each factor (G, q)."""
        return tuple(jnp.zeros((g, q)) for g, q in zip(self.sizes, self.widths, strict=True))


class Factor(NamedTuple):
    """The factorisation that solves systems with H, for G levels of q effects in A and T effects in D: the Cholesky factor L of A
    entry by entry, (G,) each; L^-1 B as an array (T, q, G); and the Cholesky factor of the Schur complement (T, T).
    """

    of_blocks: Entries
    coupling: Device
    of_border: Device


def _derivatives(f: OfRows, s: Structure, z: PyTree) -> tuple[Any, Any, Any]:
    """Return values (m,), gradients (m, q) and Hessians (m, q, q) of the rows' log densities in their own random effects."""
    rows, q = s.by_row(z), sum(s.widths)

    def first(t: PyTree) -> tuple[Any, Any]:
        return jax.jacfwd(lambda v: (f(rows + v),) * 2, has_aux=True)(t)

    def second(t: PyTree) -> tuple[Any, tuple[Any, Any]]:
        gradient, value = first(t)
        return gradient, (value, gradient)

    hessian, (value, gradient) = jax.jacfwd(second, has_aux=True)(jnp.zeros(q))
    return value, gradient, hessian


def _first(f: OfRows, s: Structure, z: PyTree) -> PyTree:
    """Return the gradients (m, q) of the rows' log densities in their own random effects."""
    rows = s.by_row(z)
    return jax.jacfwd(lambda v: f(rows + v))(jnp.zeros(sum(s.widths)))


def _gradient(s: Structure, z: PyTree, by_row: PyTree) -> tuple[Any, ...]:
    """Return the gradient, for each factor an array (G, q), of the log density of rows and standard normal random effects in the
    effects, at ``z``, from the rows' gradients ``by_row`` (m, q).
    """
    parts = [by_row[:, jnp.array(s.columns(k))] for k in range(len(s.codes))]
    sums = [jax.ops.segment_sum(p, c, g) for p, c, g in zip(parts, s.codes, s.sizes, strict=True)]
    return tuple(total - part for total, part in zip(sums, z, strict=True))


def _factor(s: Structure, hessian: PyTree, safe: bool = False) -> Factor:
    """Return the factorisation of H from the rows' Hessians (m, q, q).

    If H is not positive definite, the factors have NaN; with ``safe`` they are those of a positive definite matrix in its place.
    """
    e = s.eliminated
    others = [k for k in range(len(s.codes)) if k != e]
    own, g, q = jnp.array(s.columns(e)), s.sizes[e], s.widths[e]
    rest = jnp.array([j for k in others for j in s.columns(k)])
    index, first = [], 0
    for k in others:
        index.append(first + s.codes[k][:, None] * s.widths[k] + jnp.arange(s.widths[k]))
        first += s.sizes[k] * s.widths[k]
    at, code = jnp.concatenate(index, axis=1), s.codes[e]
    a = jnp.eye(q) - jax.ops.segment_sum(hessian[:, own[:, None], own], code, g)
    b = (
        jnp.zeros((first, q, g))
        .at[at[:, :, None], jnp.arange(q), code[:, None, None]]
        .add(-hessian[:, rest[:, None], own])
    )
    d = jnp.eye(first).at[at[:, :, None], at[:, None, :]].add(-hessian[:, rest[:, None], rest])
    of_blocks = entrywise.cholesky(jnp.moveaxis(a, 0, -1), safe=safe)
    coupling = jnp.stack(entrywise.solve_lower(of_blocks, jnp.moveaxis(b, 1, 0)), axis=1)  # (T, q, G)
    flat = jnp.reshape(coupling, (first, q * g))
    schur = d - flat @ flat.T
    border = jnp.linalg.cholesky(schur)
    if safe:
        plain = jnp.diag(jnp.sqrt(jnp.abs(jnp.diag(d))))
        border = jnp.where(jnp.isfinite(border).all(), border, plain)
    return Factor(of_blocks, coupling, border)


def _solve(s: Structure, by: Factor, right: tuple[Any, ...]) -> tuple[Any, ...]:
    """Return H^-1 right, for the factorisation ``by`` of the curvature H; the result and ``right`` have an array (G, q) for each
    factor.
    """
    e = s.eliminated
    others = [k for k in range(len(s.codes)) if k != e]
    first = jnp.stack(entrywise.solve_lower(by.of_blocks, right[e].T))  # (q, G)
    border = jnp.concatenate([jnp.reshape(right[k], (-1,)) for k in others]) - jnp.tensordot(by.coupling, first, axes=2)
    half = jax.scipy.linalg.solve_triangular(by.of_border, border, lower=True)
    x = jax.scipy.linalg.solve_triangular(by.of_border, half, lower=True, trans=1)
    back = jnp.stack(entrywise.solve_upper(by.of_blocks, first - jnp.tensordot(x, by.coupling, axes=1)), axis=1)
    out, at = {e: back}, 0
    for k in others:
        n = s.sizes[k] * s.widths[k]
        out[k] = jnp.reshape(x[at : at + n], (s.sizes[k], s.widths[k]))
        at += n
    return tuple(out[k] for k in range(len(s.codes)))


def _dot(a: Sequence[Device], b: Sequence[Device]) -> Any:
    return sum(jnp.sum(x * y) for x, y in zip(a, b, strict=True))


class _State(NamedTuple):
    z: PyTree
    value: Device
    step: PyTree
    length: Any
    decrement: Any
    n: Count


def find(f: OfRows, s: Structure) -> tuple[Any, Any]:
    """Return the mode of each factor's random effects (G, q), and the Newton decrement () there, which is above 1e-13 or NaN if
    no mode was found in 100 steps.

    ``f`` must not contain tracers that are differentiated.
    """

    def turn(state: _State) -> _State:
        trial = tuple(a + state.length * b for a, b in zip(state.z, state.step, strict=True))
        values, by_row, hessian = _derivatives(f, s, trial)
        value = jnp.sum(values) - 0.5 * _dot(trial, trial)
        known = jnp.isfinite(value) & jnp.isfinite(by_row).all() & jnp.isfinite(hessian).all()
        better = known & (value >= state.value - 1e-12 * (1.0 + jnp.abs(value)))
        slope = _gradient(s, trial, by_row)
        step = _solve(s, _factor(s, hessian, safe=True), slope)
        moved = _State(trial, value, step, jnp.ones(()), _dot(step, slope), state.n + 1)
        shorter = state._replace(length=0.25 * state.length, n=state.n + 1)
        return jax.tree.map(lambda x, y: jnp.where(better, x, y), moved, shorter)

    zero = s.zeros()
    begun = _State(zero, jnp.array(-jnp.inf), zero, jnp.ones(()), jnp.array(jnp.inf), jnp.zeros((), jnp.int32))
    state = lax.while_loop(lambda now: (now.n < MOST_STEPS) & ~(now.decrement <= CLOSE), turn, begun)
    return state.z, state.decrement


def log_laplace(f: OfRows, stopped: OfRows, s: Structure) -> Device:
    """Return Laplace's approximation to the log of the integral over all random effects of a unit (); NaN if the curvature at
    the point found is not positive definite.

    Args:
        f: log density of the rows (m,) as a function of their random effects (m, q).
        stopped: the same function without derivatives in its parameters.
        s: the levels of each row.
    """
    z = jax.tree.map(lax.stop_gradient, find(stopped, s)[0])
    by = jax.tree.map(lax.stop_gradient, _factor(s, _derivatives(stopped, s, z)[2], safe=True))
    for _ in range(2):
        step = _solve(s, by, _gradient(s, z, _first(f, s, z)))
        z = tuple(a + b for a, b in zip(z, step, strict=True))
    values, _, hessian = _derivatives(f, s, z)
    at = _factor(s, hessian)
    log_root = jnp.sum(entrywise.log_diagonal(at.of_blocks)) + jnp.sum(jnp.log(jnp.diag(at.of_border)))
    return jnp.sum(values) - 0.5 * _dot(z, z) - log_root


def conditional(f: OfRows, s: Structure) -> tuple[Any, Any, Any]:
    """Return, for each factor, the mode (G, q) and covariance (G, q, q) of the levels' random effects given the rows; and the
    Newton decrement () at the mode.  Covariances are NaN if the curvature there is not positive definite.
    """
    z, decrement = find(f, s)
    by, e = _factor(s, _derivatives(f, s, z)[2]), s.eliminated
    q, g = s.widths[e], s.sizes[e]
    half = jax.scipy.linalg.solve_triangular(
        by.of_border, jnp.reshape(by.coupling, (by.coupling.shape[0], -1)), lower=True
    )
    half = jnp.reshape(half, (-1, q, g))
    inner = jnp.eye(q)[:, :, None] + jnp.einsum("tig,tjg->ijg", half, half)
    left = jnp.stack([jnp.stack(entrywise.solve_upper(by.of_blocks, inner[:, j])) for j in range(q)], axis=1)
    blocks = jnp.stack([jnp.stack(entrywise.solve_upper(by.of_blocks, left[i])) for i in range(q)])
    root = jax.scipy.linalg.solve_triangular(by.of_border, jnp.eye(by.of_border.shape[0]), lower=True)
    border, out, at = root.T @ root, {e: jnp.moveaxis(blocks, -1, 0)}, 0
    for k in range(len(s.codes)):
        if k != e:
            n = s.sizes[k] * s.widths[k]
            each = jnp.reshape(border[at : at + n, at : at + n], (s.sizes[k], s.widths[k], s.sizes[k], s.widths[k]))
            out[k] = jnp.einsum("gigj->gij", each)
            at += n
    return z, tuple(out[k] for k in range(len(s.codes))), decrement
