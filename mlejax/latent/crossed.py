r"""Laplace's approximation where rows share latents of several columns: crossed and nested factors.

The log density h of the rows and of all levels' standard normal latents z has its mode at zhat, and there the curvature

    H = ( A  B )      A block diagonal, a block (q, q) for each level of the factor with most latent numbers,
        ( B' D )      D dense, of the levels of all others,

so that log int exp h dz ~ h(zhat) - (log det A + log det (D - B' A^-1 B)) / 2 for densities up to (2 pi)^-1/2 a number.
Linear mixed models are exact so.  Bates et al. (2015), J. Stat. Softw. 67(1).  Derivatives as in `mlejax.latent.integral`.
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

OfRows = Callable[[Any], Any]  # latents by row (m, q) -> log density of every row (m,)


@dataclass(frozen=True)
class Structure:
    """Which latents belong to which rows.

    Attributes:
        codes: level of each row, (m,), factor by factor.
        sizes: numbers of levels.
        widths: latent numbers of a level; the columns of latents by row are in the order of the factors.
    """

    codes: tuple[Any, ...]
    sizes: tuple[int, ...]
    widths: tuple[int, ...]

    @property
    def eliminated(self) -> int:
        """The factor with most latent numbers."""
        totals = [g * q for g, q in zip(self.sizes, self.widths, strict=True)]
        return totals.index(max(totals))

    def columns(self, factor: int) -> range:
        """Those of a factor among latents by row."""
        first = sum(self.widths[:factor])
        return range(first, first + self.widths[factor])

    def by_row(self, z: Sequence[Any]) -> PyTree:
        """Latents by level (G, q), factor by factor, as latents by row (m, q)."""
        return jnp.concatenate([part[code] for part, code in zip(z, self.codes, strict=True)], axis=1)

    def zeros(self) -> tuple[Any, ...]:
        """Latents of 0."""
        return tuple(jnp.zeros((g, q)) for g, q in zip(self.sizes, self.widths, strict=True))


class Factor(NamedTuple):
    """What solves systems with H: the lower factor of A, entry by entry (G,); L^-1 B (T, q G); and the lower factor of S."""

    of_blocks: Entries
    coupling: Device
    of_border: Device


def _derivatives(f: OfRows, s: Structure, z: PyTree) -> tuple[Any, Any, Any]:
    """Values (m,), gradients (m, q) and Hessians (m, q, q) of rows in their own latents."""
    rows, q = s.by_row(z), sum(s.widths)

    def first(t: PyTree) -> tuple[Any, Any]:
        return jax.jacfwd(lambda v: (f(rows + v),) * 2, has_aux=True)(t)

    def second(t: PyTree) -> tuple[Any, tuple[Any, Any]]:
        gradient, value = first(t)
        return gradient, (value, gradient)

    hessian, (value, gradient) = jax.jacfwd(second, has_aux=True)(jnp.zeros(q))
    return value, gradient, hessian


def _first(f: OfRows, s: Structure, z: PyTree) -> PyTree:
    """Gradients of rows in their own latents, (m, q)."""
    rows = s.by_row(z)
    return jax.jacfwd(lambda v: f(rows + v))(jnp.zeros(sum(s.widths)))


def _gradient(s: Structure, z: PyTree, by_row: PyTree) -> tuple[Any, ...]:
    """The gradient of h by level, factor by factor."""
    parts = [by_row[:, jnp.array(s.columns(k))] for k in range(len(s.codes))]
    sums = [jax.ops.segment_sum(p, c, g) for p, c, g in zip(parts, s.codes, s.sizes, strict=True)]
    return tuple(total - part for total, part in zip(sums, z, strict=True))


def _factor(s: Structure, hessian: PyTree, safe: bool = False) -> Factor:
    """H factored, from the Hessians of rows."""
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
    """H^-1 applied to latents by level."""
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
    """The mode by level, factor by factor, and the Newton decrement there; ``f`` free of tracers that are differentiated."""

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
    """Laplace's approximation to the log of the integral over all latents of a unit, (); NaN where there is no mode.

    Args:
        f: log density of rows, of latents by row.
        stopped: the same without derivatives in its parameters.
        s: which latents are whose.
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
    """Of all latents given the rows: the mode (G, q) and the covariance (G, q, q) of each level, factor by factor; decrement."""
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
