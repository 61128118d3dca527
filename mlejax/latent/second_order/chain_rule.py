"""Scores and Hessians of the log integrals of all units of a block, summed, by the chain rule of `expansion`.

Arrays have the units in their last axis, or rows within units (n, m), and the k coordinates psi in their first.  Products over
the few random effects are written out, since matrices so small are multiplied one by one; sums over units and rows are products
of large matrices.
"""

from __future__ import annotations

from typing import NamedTuple

import jax.numpy as jnp
import numpy as np

from mlejax.latent.second_order.at_modes import AtMode, ByShared, Unit
from mlejax.latent.second_order.at_points import AtPoints, Means, means, pairs
from mlejax.latent.second_order.small_matrices import (
    apply,
    gram,
    padded,
    summed,
    symmetric,
    times,
    total,
    transposed,
    upper_half,
)
from mlejax.shapes import Device, Either


class CholeskyFactor(NamedTuple):
    """The factor L (q, q) of the covariance of the effects, and the rows and columns of its free entries (l,) each."""

    matrix: Device
    rows: np.ndarray
    columns: np.ndarray


class Block(NamedTuple):
    """The rows of n units, and their modes, as :mod:`mlejax.latent.second_order.at_modes` finds them, units last.

    Attributes:
        x: columns of the coefficients, then r of zeros for the parameters common to all rows (p + r, n, m).
        z: columns of the random effects (q, n, m).
        mode: the modes (q, n).
        slopes: derivatives of the terms by the predictor, of order 1 to 4 (n, m) each.
        spread: C (q, q, n).
        factor: the factor of the covariance.
        first, second: derivatives by the common parameters, as in `ByShared` (4, r, n, m), (3, r, r, n, m), or None.
    """

    x: Device
    z: Device
    mode: Device
    slopes: tuple[Device, ...]
    spread: Device
    factor: CholeskyFactor
    first: Device | None
    second: Device | None

    def by_factor(self, v: Either) -> Device:
        """Return the derivatives (k, q, n) by psi of L v, for a vector v (q, n) of each unit that does not depend on psi."""
        rows, columns = self.factor.rows, self.factor.columns
        eye = np.eye(self.z.shape[0])[rows]
        return padded(eye[:, :, None] * v[columns][:, None], self.x.shape[0])

    def by_transposed(self, v: Either) -> Device:
        """Return the derivatives (k, q, ..., n) by psi of L' v, for an array v (q, ..., n) that does not depend on psi."""
        rows, columns = self.factor.rows, self.factor.columns
        eye = np.eye(self.z.shape[0])[columns]
        one = v[rows][:, None]
        return padded(eye.reshape(*eye.shape, *[1] * (one.ndim - 2)) * one, self.x.shape[0])

    def of_common(self, a: Device) -> Device:
        """Return an array of the r common parameters (r, ...) as one of all psi (k, ...), 0 for the others."""
        return padded(a, self.x.shape[0] - len(a), len(self.factor.rows))


class UnitSums(NamedTuple):
    """Sums over the rows of each of n units, at its mode, with l', l'', l''' the derivatives of a row's log density by its
    predictor: of l' z (q, n), l'' z z' (q, q, n) and l''' z z' z (q, q, q, n), and the derivatives by psi of the first two at
    constant effects (k, q, n), (k, q, q, n): l'' z x and l''' z z' x for coefficients.
    """

    slope: Device
    bend: Device
    third: Device
    bend_x: Device
    third_x: Device


class Moves(NamedTuple):
    """First derivatives by psi: of the mode (k, q, n), of the curvature between C' and C (k, q, q, n), of C (k, q, q, n), of the
    effects (k, q, n) and predictors (k, n, m), and of Z'diag(l'')Z through l'' (k, q, q, n); Z'diag(l'') times the derivatives of
    the predictors (k, q, n).
    """

    z: Device
    between: Device
    spread: Device
    effects: Device
    predictors: Device
    bends: Device
    bend_rows: Device


class Along(NamedTuple):
    """Derivatives of the integrals by l' and l'' of each row, through mode and curvature (n, m) each."""

    slope: Device
    bend: Device

    def predictors(self, block: Block) -> Device:
        """Return, for each row, the derivative by l' times the second derivative of l' by the predictor, plus the derivative by
        l'' times the second derivative of l'' by the predictor (n, m).
        """
        return self.slope * block.slopes[2] + self.bend * block.slopes[3]

    def mixed(self, block: Block) -> Device:
        """Return the sum of `predictors` with mixed second derivatives, by the predictor and each of r common parameters, in
        place of those by the predictor (r, n, m).
        """
        assert block.first is not None
        return self.slope * block.first[2] + self.bend * block.first[3]

    def second(self, block: Block) -> Device:
        """Return the sum of `predictors` with second derivatives by each pair of r common parameters in place of those by the
        predictor (r, r, n, m).
        """
        assert block.second is not None
        return self.slope * block.second[1] + self.bend * block.second[2]


def block_of(units: Unit, at: AtMode, factor: CholeskyFactor, common: ByShared | None) -> Block:
    """Return units, modes and derivatives by r common parameters, which have their units first (n, ...), as a `Block`."""
    last = lambda a: jnp.moveaxis(a, 0, -1)
    first = lambda a: jnp.moveaxis(a, -1, 0)
    rows = lambda a: jnp.moveaxis(a, 0, -2)
    by_common = (None, None) if common is None else (rows(common.first), rows(common.second))
    x = first(units.x) if common is None else padded(first(units.x), after=common.first.shape[2])
    return Block(x, first(units.z), last(at.z), at.slopes, last(at.spread), factor, *by_common)


def sums_of(block: Block, fixed_mode: bool) -> UnitSums:
    """Return the sums over the rows of each unit at its mode; with ``fixed_mode`` the higher-order sums, which are not needed
    then, are None.
    """
    q, extra = block.z.shape[0], len(block.factor.rows)
    slope, bend, third, _ = block.slopes
    over = lambda a, b: jnp.sum(a * b, axis=-1)
    slope = jnp.stack([over(slope, z) for z in block.z])
    weighted = [bend * z for z in block.z]
    bends = symmetric(lambda i, j: over(weighted[i], block.z[j]), q, 2)
    bend_x = padded(jnp.stack([over(block.x, w) for w in weighted], axis=1), after=extra)
    if block.first is not None and not fixed_mode:
        bend_x = bend_x + block.of_common(jnp.stack([over(block.first[1], z) for z in block.z], axis=1))
    if fixed_mode:
        return UnitSums(slope, bends, None, bend_x, None)  # type: ignore[arg-type]
    twice = {(i, j): third * block.z[i] * block.z[j] for i, j in pairs(q)}
    thirds = symmetric(lambda i, j, k: over(twice[i, j], block.z[k]), q, 3)
    thirds_x = symmetric(lambda i, j: over(block.x, twice[i, j]), q, 2)
    third_x = padded(jnp.moveaxis(thirds_x, 2, 0), after=extra)
    if block.first is not None:
        common = block.first[2]
        found = symmetric(lambda i, j: over(common, block.z[i] * block.z[j]), q, 2)
        third_x = third_x + block.of_common(jnp.moveaxis(found, 2, 0))
    return UnitSums(slope, bends, thirds, bend_x, third_x)


def moves_of(block: Block, sums: UnitSums, fixed_mode: bool) -> Moves:
    """Return the `Moves`, first derivatives by psi; with ``fixed_mode`` the mode and C are constants."""
    q, k = block.z.shape[0], sums.bend_x.shape[0]
    matrix = block.factor.matrix[:, :, None]
    effects = block.by_factor(block.mode)
    predictors = lambda v: padded(block.x, after=k - block.x.shape[0]) + summed(
        v[:, i][:, :, None] * block.z[i] for i in range(q)
    )
    if fixed_mode:
        zero = jnp.zeros((k, q, *block.mode.shape))
        return Moves(jnp.zeros_like(effects), zero, zero, effects, predictors(effects), zero, zero)
    slope = apply(transposed(matrix), sums.bend_x + apply(sums.bend, effects)) + block.by_transposed(sums.slope)
    z = apply(block.spread, apply(transposed(block.spread), slope))
    effects = effects + apply(matrix, z)
    bends = sums.third_x + summed(sums.third[:, :, i] * effects[:, i][:, None, None] for i in range(q))
    one = block.by_transposed(times(sums.bend, matrix))
    curvature = -(one + transposed(one) + times(times(transposed(matrix), bends), matrix))
    between = times(times(transposed(block.spread), curvature), block.spread)
    spread = -times(block.spread, upper_half(between))
    return Moves(z, between, spread, effects, predictors(effects), bends, sums.bend_x + apply(sums.bend, effects))


def of_mode(block: Block, sums: UnitSums, moves: Moves, weights: Device) -> tuple[Device, Device]:
    """Return score (k,) and Hessian (k, k) of Laplace's approximation, summed with the weights of units (n,)."""
    each = weights[:, None]
    slope, bend, *_ = block.slopes
    score = total(moves.predictors, slope * each) + _own_score(block, moves, weights)
    more, along = _of_movements(block, sums, moves, None, weights)
    hessian = gram(moves.predictors, moves.predictors * ((bend + along.predictors(block)) * each))
    effects = gram(block.by_transposed(sums.slope), moves.z * weights)
    if block.first is not None and block.second is not None:
        score = score + block.of_common(jnp.sum(block.first[0] * each, axis=(-2, -1)))
        mixed = block.of_common(block.first[1] + along.mixed(block))
        hessian = hessian + 2.0 * gram(mixed, moves.predictors * each)
        hessian = hessian + _among_common(block, jnp.sum((block.second[0] + along.second(block)) * each, axis=(-2, -1)))
    return score, hessian + more + 2.0 * effects - gram(moves.z, moves.z * weights)


def jacobian(block: Block, moves: Moves) -> Device:
    """Return the coefficients of the features of points (`at_points`) in derivatives by psi (n, features, k)."""
    q = block.z.shape[0]
    along, squares = _quadratic(block, moves)
    parts = [moves.effects, *_by_t(block, moves), -along, -squares]
    assert all(part.shape[1] in (q, len(pairs(q))) for part in parts)
    return jnp.transpose(jnp.concatenate(parts, axis=1), (2, 1, 0))


def of_points(
    block: Block, sums: UnitSums, moves: Moves, at: AtPoints, weights: Device, fixed_mode: bool
) -> tuple[Device, Device]:
    """Return score (k,) and Hessian (k, k) of quadrature, summed with the weights of units (n,)."""
    q = block.z.shape[0]
    each, mean = weights[:, None], means(at, q)
    score = weights @ at.score + _own_score(block, moves, weights)
    hessian = jnp.tensordot(weights, at.cov, axes=1)
    more, moving = (0.0, None) if fixed_mode else _of_movements(block, sums, moves, mean, weights)
    # l'' times the derivatives of the predictor, twice
    along = [moves.predictors, *(summed(v[:, i][:, :, None] * block.z[i] for i in range(q)) for v in _by_t(block, moves))]
    means_of = {pair: at.weights[:, i] for i, pair in enumerate(pairs(q + 1))}
    if moving is not None:
        means_of[0, 0] = means_of[0, 0] + moving.predictors(block)
    for d, left in enumerate(along):
        row = summed(along[e] * means_of[min(d, e), max(d, e)] for e in range(q + 1))
        hessian = hessian + gram(left, row * each)
    if at.mixed is not None and at.second is not None:
        for d, left in enumerate(along):
            row = jnp.moveaxis(at.mixed[:, :, d], 0, 1)
            row = row + moving.mixed(block) if d == 0 and moving is not None else row
            hessian = hessian + 2.0 * gram(block.of_common(row), left * each)
        found = jnp.tensordot(weights, at.second, axes=1)
        found = found if moving is None else found + jnp.sum(moving.second(block) * each, axis=(-2, -1))
        hessian = hessian + _among_common(block, found)
    # l' times the second derivative of v, with fixed second derivatives of zhat and C
    effects = gram(block.by_transposed(mean.slope), moves.z * weights)
    effects = effects + gram(block.by_transposed(mean.crossed), moves.spread * weights)
    effects = effects - gram(moves.z, apply(moves.spread, mean.t) * weights)
    norms = gram(moves.z, moves.z * weights) + gram(moves.spread, times(moves.spread, mean.products) * weights)
    return score, hessian + more + 2.0 * effects - norms


def _among_common(block: Block, a: Device) -> Device:
    """Return a matrix of the common parameters (r, r) as one of all psi (k, k), 0 elsewhere."""
    before, after = block.x.shape[0] - len(a), len(block.factor.rows)
    return jnp.pad(a, ((before, after), (before, after)))


def _own_score(block: Block, moves: Moves, weights: Device) -> Device:
    """Return the part of the score (k,) that is due to the normal density of z at the mode and to |C|, summed with the weights of
    units (n,).
    """
    trace = summed(moves.between[:, i, i] for i in range(block.z.shape[0]))
    return -(total(moves.z, block.mode * weights) + 0.5 * (trace @ weights))


def _by_t(block: Block, moves: Moves) -> list[Device]:
    """Return, for each entry t_d of a point t, the derivatives (k, q, n) by psi of its coefficient in the effects L (zhat + C t).
    """
    matrix = block.factor.matrix[:, :, None]
    return [
        block.by_factor(block.spread[:, d]) + apply(matrix, moves.spread[:, :, d])
        for d in range(block.z.shape[0])
    ]


def _quadratic(block: Block, moves: Moves) -> tuple[Device, Device]:
    """Return derivatives by psi of the coefficients of t (k, q, n) and of its products (k, q (q + 1) / 2, n) in |z|^2 / 2 of a
    point z = zhat + C t.
    """
    inner = times(transposed(block.spread), moves.spread)
    inner = inner + transposed(inner)
    along = apply(transposed(block.spread), moves.z) + apply(transposed(moves.spread), block.mode)
    squares = [inner[:, i, j] * (0.5 if i == j else 1.0) for i, j in pairs(block.z.shape[0])]
    return along, jnp.stack(squares, axis=1)


def _of_movements(
    block: Block, sums: UnitSums, moves: Moves, at: Means | None, weights: Device
) -> tuple[Device, Along]:
    """Return the part of the Hessian that is due to second derivatives of the mode and of C (k, k), without that of the second
    derivatives of l' and l'' of the rows; and, as `Along`, the weights of the latter.

    ``at``: means over points; None for one point.
    """
    q, p = block.z.shape[0], block.x.shape[0]
    matrix, spread, between = block.factor.matrix[:, :, None], block.spread, moves.between
    hessian = 0.5 * gram(between, between * weights)
    # derivatives of the integral by zhat, and by the curvature between C' and C
    by_mode = apply(transposed(matrix), sums.slope if at is None else at.slope) - block.mode
    by_curvature = jnp.asarray(-0.5 * np.eye(q)[:, :, None])
    if at is not None:
        by_mode = by_mode - apply(spread, at.t)
        inner = times(transposed(matrix), at.crossed) - block.mode[:, None] * at.t - times(spread, at.products)
        by_spread = times(transposed(spread), inner)  # C' times the derivative by C
        upper, half = upper_half(by_spread), upper_half(between)
        by_curvature = by_curvature - 0.5 * (upper + transposed(upper))
        hessian = hessian + gram(times(by_spread, transposed(half)), half * weights)
        hessian = hessian + gram(between, times(half, upper) * weights)
        hessian = hessian + gram(times(transposed(upper), between), transposed(half) * weights)
    by_curvature = times(times(spread, by_curvature), transposed(spread))
    among = times(times(matrix, by_curvature), transposed(matrix))
    through = summed(sums.third[i, j] * among[i, j] for i in range(q) for j in range(q))
    steps = apply(spread, apply(transposed(spread), by_mode - apply(transposed(matrix), through)))
    effects = apply(matrix, steps)
    squares = summed(block.z[i] * block.z[j] * among[i, j][:, None] for i in range(q) for j in range(q))
    along = Along(summed(effects[i][:, None] * block.z[i] for i in range(q)), -squares)
    more = gram(block.by_factor(steps), moves.bend_rows * weights)
    more = more + gram(block.by_transposed(apply(sums.bend, effects) - through), moves.z * weights)
    i, j = block.factor.rows, block.factor.columns
    twice = -2.0 * (times(moves.bends, times(matrix, by_curvature))[:, i, j] @ weights).T
    both = -(sums.bend[i][:, i] * by_curvature[j][:, j]) @ weights
    more = more + padded(twice, p) + jnp.pad(both, ((p, 0), (p, 0)))
    return hessian + 2.0 * more, along
