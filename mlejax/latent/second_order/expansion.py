r"""Value, score and Hessian of one unit's integral over random effects in a linear predictor.

With the predictor eta_j = x_j'beta + o_j + z_j'v of row j and the effects v = L z, z standard normal, the integrand is

    f(beta, L, z) = sum_j l_j(eta_j) - |z|^2 / 2 - (q/2) log 2 pi,

and its integral by adaptive quadrature is the log of sum_k w_k |C| exp f(beta, L, zhat + C t_k), with the mode zhat of f, and
C C' = H^-1, H = -f_zz there.  The total derivatives by psi = (beta, L) follow by the chain rule from l_j to l_j'''' at the mode
and l_j to l_j'' at the points.  Second derivatives of mode and curvature are not computed: they are

    zhat_ab = H^-1 f_z,yy[y_a, y_b],        H_ab = -f_zz,yy[y_a, y_b] - f_zzz zhat_ab,        y = (psi, zhat(psi)),

and only their products with the derivatives of the integral by zhat and H are needed, which are sums over rows with one weight
for each row.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from mlejax.data import divisor
from mlejax.latent.integral import grid
from mlejax.latent.mode import IntegrandCurve, climb
from mlejax.latent.variable import Quadrature
from mlejax.linalg import entrywise
from mlejax.shapes import Data, Device, Either, Params, PyTree

Terms = Callable[[Any], Any]  # predictor of the rows of a unit (m,) -> log densities (m,); entry i depends on entry i only
AT_ONCE = 16_384  # values of the row function that are in the cache together
UNITS = 512  # most units of a block
_LOG_2_PI = float(np.log(2.0 * np.pi))


class Unit(NamedTuple):
    """The rows of one unit, given parameters.

    Attributes:
        fixed: predictor without random effects (m,).
        x: its derivatives by the coefficients (m, p).
        z: columns of the random effects (m, q).
        mask: True for real rows (m,).
        others: further arguments of the row function.
    """

    fixed: Device
    x: Device
    z: Device
    mask: Device
    others: PyTree


@dataclass(frozen=True)
class SecondOrder:
    """How the log integrals of units and their first two derivatives are computed.

    Attributes:
        terms: log densities of the rows of a unit (m,), of their linear predictor (m,) and the other columns.
        how: the quadrature.
        coefficients, spread: names of the coefficients (p,), and of the standard deviations (q,) or the Cholesky factor (q, q).
        unit: (params, data of a unit) -> `Unit`.
    """

    terms: Callable[[Any, Any], Any]
    how: Quadrature
    coefficients: str
    spread: str
    unit: Callable[[Any, Any], Unit]

    @staticmethod
    def n_blocks(n: int) -> int:
        """Return the number of equal blocks of n units: a power of two, or 1."""
        blocks = 1
        while n > blocks * UNITS and n % (2 * blocks) == 0:
            blocks *= 2
        return blocks

    def coordinates(self, params: Params) -> Device:
        """Return psi (k,): the coefficients, then the standard deviations or the lower triangle of the factor."""
        spread = params[self.spread]
        own = spread if spread.ndim == 1 else spread[np.tril_indices(len(spread))]
        return jnp.concatenate([params[self.coefficients], own])

    def sums(
        self, params: Params, seen: Callable[[Any], Data], rows: PyTree, weights: Device
    ) -> tuple[Device, Device, Device]:
        """Return the weighted sum over units of the log integrals (), and its first two derivatives by psi (k,), (k, k).

        ``seen``: arrays of a unit -> data of that unit.
        """
        spread = params[self.spread]
        eye = np.eye(spread.shape[0])
        i, j = np.tril_indices(len(eye)) if spread.ndim > 1 else np.diag_indices(len(eye))
        factor = spread if spread.ndim > 1 else spread * eye
        units = jax.vmap(lambda part: self.unit(params, seen(part)))(rows)
        return _summed(self.terms, units, weights, factor, eye[i][:, :, None] * eye[j][:, None, :], self.how)

    @staticmethod
    def expansion(value: Device, score: Device, hessian: Device, step: Device) -> Device:
        """Return the sum after a ``step`` of psi (k,), by its expansion to second order."""
        return value + score @ step + 0.5 * step @ hessian @ step


class _AtMode(NamedTuple):
    """The mode of a unit's integrand.

    Attributes:
        z: the mode (q,).
        eta: the linear predictor there (m,).
        slopes: derivatives of the terms by it, of order 1 to 4, 0 in the padding (m,) each.
        spread: C (q, q), upper triangular, with C C' the inverse of the curvature there.
        log_det: log |C| ().
    """

    z: Either
    eta: Device
    slopes: tuple[Device, ...]
    spread: Device
    log_det: Either


class _AtNodes(NamedTuple):
    """Sums over the points of a unit with their shares of the integral as weights.

    Attributes:
        value: log of the sum of the integrand, without |C| ().
        mean, cov: mean (d,) and covariance (d, d) of the features of a point: sums over rows of l' (x, z), then t_d times the
            sums of l' z, then t, then the products of t.
        weights: mean of l'' times products of (1, t), for each row ((q + 1) (q + 2) / 2, m).
    """

    value: Device
    mean: Device
    cov: Device
    weights: Device


def _derivatives(terms: Terms, eta: Device, order: int) -> tuple[Device, ...]:
    """Return the terms (m,) and their derivatives by their own predictor up to ``order``."""
    out, function = [terms(eta)], terms
    for _ in range(order):
        function = _slope(function)
        out.append(function(eta))
    return tuple(out)


def _slope(function: Terms) -> Terms:
    return lambda eta: jax.jvp(function, (eta,), (jnp.ones_like(eta),))[1]


def _summed(
    terms: Callable[[Any, Any], Any], units: Unit, weights: Device, factor: Device, basis: np.ndarray, how: Quadrature
) -> tuple[Device, Device, Device]:
    """Return the weighted sums over units of log integrals (), of their scores (k,) and of their Hessians (k, k) in psi.

    Args:
        terms: function of (predictors (m,), others) of a unit.
        units: the units, with a leading axis (n, ...).
        weights: their weights (n,).
        factor: L (q, q).
        basis: derivatives of L by its free entries (l, q, q); k = p + l.
        how: the quadrature; with ``how.held`` derivatives leave out how mode and curvature move.
    """
    at = jax.vmap(lambda unit: _at_mode(terms, unit, factor, how.held))(units)
    n, m = units.mask.shape
    together = divisor(n, max(AT_ONCE // (m * how.points ** factor.shape[0]), 1))
    nodes = lambda pair: _at_nodes(terms, pair[0], pair[1], factor, how.points)
    found = lax.map(nodes, (units, at), batch_size=together)
    one = lambda unit, mode, node: _total(unit, mode, node, factor, basis, how.held)
    values, scores, hessians = jax.vmap(one)(units, at, found)
    return weights @ values, weights @ scores, jnp.tensordot(weights, hessians, axes=1)


def _at_mode(terms: Callable[[Any, Any], Any], unit: Unit, factor: Device, held: bool) -> _AtMode:
    own, q = unit.z @ factor, factor.shape[0]

    def at(z: Either, order: int) -> tuple[Device, list[Any]]:
        eta = unit.fixed + own @ z
        slopes = _derivatives(lambda t: terms(t, unit.others), eta, order)
        return eta, [jnp.where(unit.mask, a, 0.0) for a in slopes]

    def curve(z: Device) -> IntegrandCurve:
        _, (value, slope, bend) = at(z, 2)
        total = jnp.sum(value) - 0.5 * jnp.dot(z, z) - 0.5 * q * _LOG_2_PI
        return IntegrandCurve(total, slope @ own - z, _curvature(own, bend))

    found = climb(curve, jnp.zeros(q))
    z = found.z + entrywise.solve(entrywise.cholesky(found.at.curvature, safe=True), found.at.gradient)
    eta, (_, *slopes) = at(z, 2 if held else 4)  # higher ones are not used, and JAX may not have them
    root = entrywise.cholesky(_curvature(own, slopes[1]))
    spread = jnp.stack([jnp.stack(entrywise.solve_upper(root, e)) for e in np.eye(q)], axis=1)
    slopes += [jnp.zeros_like(eta)] * (4 - len(slopes))
    return _AtMode(z, eta, tuple(slopes), spread, -entrywise.log_diagonal(root))


def _curvature(own: Device, bend: Device) -> Device:
    """Return I - Z'diag(l'')Z (q, q) for columns Z (m, q) that multiply z."""
    q = own.shape[1]
    entries = [[jnp.sum(bend * own[:, i] * own[:, j]) for j in range(i + 1)] for i in range(q)]
    return jnp.stack([jnp.stack([float(i == j) - entries[max(i, j)][min(i, j)] for j in range(q)]) for i in range(q)])


def _products(t: Either, q: int) -> Any:
    """Return the products of pairs of columns of t, in the order of `_pairs` (k, q (q + 1) / 2)."""
    return t[:, [i for i, _ in _pairs(q)]] * t[:, [j for _, j in _pairs(q)]]


def _pairs(q: int) -> list[tuple[int, int]]:
    """Return the pairs (i, j) with i <= j < q."""
    return [(i, j) for i in range(q) for j in range(i, q)]


def _at_nodes(terms: Callable[[Any, Any], Any], unit: Unit, at: _AtMode, factor: Device, points: int) -> _AtNodes:
    """Evaluate the terms of a unit at all points of its quadrature."""
    q = factor.shape[0]
    t, log_w = grid(points, q)
    eta = at.eta + (t @ at.spread.T) @ (unit.z @ factor).T
    found = jax.vmap(lambda e: _derivatives(lambda s: terms(s, unit.others), e, 2))(eta)
    value, slope, bend = (jnp.where(unit.mask, a, 0.0) for a in found)
    z = at.z + t @ at.spread.T
    logs = jnp.sum(value, axis=1) - 0.5 * jnp.sum(z * z, axis=1) + (log_w - 0.5 * q * _LOG_2_PI)
    share = jax.nn.softmax(logs)
    sums = slope @ jnp.concatenate([unit.x, unit.z], axis=1)
    by_effect = sums[:, -q:]
    moved = [t[:, i : i + 1] * by_effect for i in range(q)]
    features = jnp.concatenate([sums, *moved, t, _products(t, q)], axis=1)
    mean = share @ features
    away = features - mean
    ones = np.concatenate([np.ones((len(t), 1)), t], axis=1)
    weights = (share[:, None] * _products(ones, q + 1)).T @ bend
    return _AtNodes(jax.nn.logsumexp(logs), mean, (away * share[:, None]).T @ away, weights)


class _Moves(NamedTuple):
    """First derivatives by psi of a unit: mode (q, k), curvature between C' and C (k, q, q), the factor C (k, q, q), predictors
    through (x, z) (p + q, k), and Z'diag(l'')Z, which enters the curvature (k, q, q).
    """

    z: Device
    between: Device
    spread: Device
    rows: Device
    bends: Device


class _Sums(NamedTuple):
    """Sums over rows at the mode, with r = (x, z): of l' z (q,), l'' z z' (q, q), l'' z r' (q, p + q) and l''' z z' r
    (q, q, p + q).
    """

    slope: Device
    bend: Device
    bend_rows: Device
    third: Device


def _upper(matrices: Device) -> Device:
    """Return the upper triangles of matrices (..., q, q), with half of the diagonals."""
    q = matrices.shape[-1]
    return matrices * (np.triu(np.ones((q, q)), 1) + 0.5 * np.eye(q))


def _symmetric(matrix: Device) -> Device:
    return 0.5 * (matrix + matrix.T)


def _total(
    unit: Unit, at: _AtMode, nodes: _AtNodes, factor: Device, basis: np.ndarray, held: bool
) -> tuple[Device, Device, Device]:
    """Return the log integral of a unit (), its score (k,) and its Hessian (k, k) in psi."""
    p, q = unit.x.shape[1], factor.shape[0]
    r, (_, bend, third, _) = jnp.concatenate([unit.x, unit.z], axis=1), at.slopes
    sums = _Sums(
        at.slopes[0] @ unit.z,
        (unit.z * bend[:, None]).T @ unit.z,
        (unit.z * bend[:, None]).T @ r,
        jnp.stack([((unit.z[:, i] * third)[:, None] * unit.z).T @ r for i in range(q)]),
    )
    by_psi = np.concatenate([np.zeros((p, q, q)), basis])  # derivatives of L (k, q, q)
    moves = _moves(at, sums, factor, by_psi, p, held)
    score, hessian = _of_nodes(r, at, nodes, moves, factor, by_psi)
    if not held:
        hessian = hessian + _of_movements(r, at, nodes, moves, sums, factor, by_psi)
    return at.log_det + nodes.value + 0.5 * q * np.log(2.0), score, _symmetric(hessian)


def _moves(at: _AtMode, sums: _Sums, factor: Device, by_psi: np.ndarray, p: int, held: bool) -> _Moves:
    """Return first derivatives by psi; with ``held`` those for a fixed mode and C."""
    k, q = by_psi.shape[:2]
    still = jnp.concatenate([jnp.eye(p, k), jnp.einsum("aik,k->ia", by_psi, at.z)])
    if held:
        return _Moves(jnp.zeros((q, k)), *(jnp.zeros((k, q, q)),) * 2, still, jnp.zeros((k, q, q)))
    slope = factor.T @ (sums.bend_rows @ still) + jnp.einsum("aik,i->ka", by_psi, sums.slope)
    z = at.spread @ (at.spread.T @ slope)
    rows = still + jnp.concatenate([jnp.zeros((p, k)), factor @ z])
    bends = jnp.einsum("ijd,da->aij", sums.third, rows)
    one = jnp.einsum("aji,jk,kl->ail", by_psi, sums.bend, factor)
    curvature = -(one + jnp.swapaxes(one, 1, 2) + factor.T @ bends @ factor)
    between = at.spread.T @ curvature @ at.spread
    return _Moves(z, between, -at.spread @ _upper(between), rows, bends)


def _of_nodes(
    r: Device, at: _AtMode, nodes: _AtNodes, moves: _Moves, factor: Device, by_psi: np.ndarray
) -> tuple[Device, Device]:
    """Return the score (k,), and the Hessian (k, k) without the second derivatives of mode and C (`_of_movements`)."""
    q = factor.shape[0]
    p = r.shape[1] - q
    slope, crossed, t, tt = _means(nodes, p, q)
    # derivatives of the effects by psi at a point, v = L (zhat + C t): of its constant and of the coefficients of t
    by_t = [jnp.einsum("aik,k->ia", by_psi, at.spread[:, d]) + factor @ moves.spread[:, :, d].T for d in range(q)]
    inner = at.spread.T @ moves.spread
    inner = inner + jnp.swapaxes(inner, 1, 2)
    along = at.spread.T @ moves.z + jnp.einsum("akd,k->da", moves.spread, at.z)
    squares = jnp.stack([inner[:, i, j] * (0.5 if i == j else 1.0) for i, j in _pairs(q)])
    jacobian = jnp.concatenate([moves.rows, *by_t, -along, -squares])
    score = nodes.mean @ jacobian - at.z @ moves.z - 0.5 * jnp.trace(moves.between, axis1=1, axis2=2)
    hessian = jacobian.T @ nodes.cov @ jacobian
    # l'' times the derivatives of the predictor, twice
    z, parts = r[:, p:], [moves.rows, *by_t]
    for weight, (d, e) in zip(nodes.weights, _pairs(q + 1), strict=True):
        left, right = (z if d else r), (z if e else r)
        term = parts[d].T @ ((left * weight[:, None]).T @ right) @ parts[e]
        hessian = hessian + (term if d == e else term + term.T)
    # l' times the second derivative of v, with fixed second derivatives of zhat and C
    of_effects = jnp.einsum("aik,i->ak", by_psi, slope) @ moves.z
    of_effects = of_effects + jnp.einsum("aik,id,bkd->ab", by_psi, crossed, moves.spread)
    mean = jnp.einsum("akd,d->ka", moves.spread, t)
    norms = moves.z.T @ moves.z + jnp.einsum("aid,de,bie->ab", moves.spread, tt, moves.spread)
    norms = norms + moves.z.T @ mean + mean.T @ moves.z
    return score, hessian + of_effects + of_effects.T - norms


def _means(nodes: _AtNodes, p: int, q: int) -> tuple[Device, ...]:
    """Return means over the points: of the sums of l' z (q,), their products with t (q, q), t (q,) and its products (q, q)."""
    mean = nodes.mean[p:]
    crossed = jnp.stack([mean[q * (d + 1) : q * (d + 2)] for d in range(q)], axis=1)
    t, squares = mean[q + q * q : 2 * q + q * q], mean[2 * q + q * q :]
    place = {pair: i for i, pair in enumerate(_pairs(q))}
    tt = jnp.stack([jnp.stack([squares[place[min(i, j), max(i, j)]] for j in range(q)]) for i in range(q)])
    return mean[:q], crossed, t, tt


def _of_movements(
    r: Device, at: _AtMode, nodes: _AtNodes, moves: _Moves, sums: _Sums, factor: Device, by_psi: np.ndarray
) -> Device:
    """Return the part of the Hessian (k, k) that is due to second derivatives of the mode and of C, not symmetrised."""
    q = factor.shape[0]
    p = r.shape[1] - q
    z, (_, _, third, fourth) = r[:, p:], at.slopes
    slope, crossed, t, tt = _means(nodes, p, q)
    by_mode = factor.T @ slope - at.z - at.spread @ t  # derivative of the integral by zhat
    by_spread = at.spread.T @ (factor.T @ crossed - jnp.outer(at.z, t) - at.spread @ tt)  # C' times that by C
    upper, half = _upper(by_spread), _upper(moves.between)
    hessian = 0.5 * jnp.einsum("aij,bij->ab", moves.between, moves.between)
    hessian = hessian + jnp.einsum("ij,bik,akj->ab", by_spread, half, half)
    hessian = hessian + jnp.einsum("ij,bki,akj->ab", upper, half, moves.between)
    hessian = hessian + jnp.einsum("ij,aik,bkj->ab", upper, moves.between, half)
    by_curvature = at.spread @ (-_symmetric(upper) - 0.5 * np.eye(q)) @ at.spread.T
    among_effects = factor @ by_curvature @ factor.T
    through = jnp.einsum("ij,ijd->d", among_effects, sums.third[:, :, p:])
    steps = at.spread @ (at.spread.T @ (by_mode - factor.T @ through))
    of_effects = factor @ steps
    weight = third * (z @ of_effects) - fourth * jnp.sum((z @ among_effects) * z, axis=1)
    hessian = hessian + moves.rows.T @ ((r * weight[:, None]).T @ r) @ moves.rows
    by_effects = sums.bend_rows[:, p:].T @ of_effects - through
    more = jnp.einsum("k,aik,id,db->ab", steps, by_psi, sums.bend_rows, moves.rows)
    more = more + jnp.einsum("i,aik,kb->ab", by_effects, by_psi, moves.z)
    more = more - jnp.einsum("aik,ij,bjl,kl->ab", by_psi, sums.bend, by_psi, by_curvature)
    more = more - 2.0 * jnp.einsum("aik,bij,jk->ab", by_psi, moves.bends, factor @ by_curvature)
    return hessian + 2.0 * more
