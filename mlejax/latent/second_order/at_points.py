"""Evaluation of the integrand of a unit at the points of its quadrature, and means over these points."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from mlejax.latent.integral import grid
from mlejax.latent.second_order.at_modes import AtMode, Terms, Unit, by_shared, derivatives
from mlejax.shapes import Device, Either

_LOG_2_PI = float(np.log(2.0 * np.pi))


class AtPoints(NamedTuple):
    """Means over the points of a unit, with their shares of the integral as weights.

    Attributes:
        value: log of the sum of the integrand, without |C| ().
        features: means of what enters the derivatives at a point: sums over rows of l' z, then t_d times these, then t, then the
            products of t.
        score: mean of the derivatives by psi of the log of the integrand at a point that moves, without those of the density
            of z at the mode and of |C| (k,).
        cov: covariance of the same (k, k).
        weights: means of l'' times products of (1, t), for each row ((q + 1) (q + 2) / 2, m).
        mixed: means of the derivatives of l' by the common parameters times (1, t), for each row (r, q + 1, m).
        second: means of the sums over rows of the second derivatives of l by them (r, r); both None if there are none.
    """

    value: Device
    features: Device
    score: Device
    cov: Device
    weights: Device
    mixed: Device | None
    second: Device | None


def at_points(
    terms: Terms, unit: Unit, at: AtMode, jacobian: Device, shared: Device, factor: Device, points: int
) -> AtPoints:
    """Evaluate the rows of a unit at all points of its quadrature, and return the means over the points.

    ``jacobian``: coefficients of the features in the derivatives by psi (features, k); the sums of l' x are added to the first,
    those of the derivatives by the common parameters ``shared`` (r,) to the next.
    """
    p, q, r = unit.x.shape[1], factor.shape[0], shared.shape[0]
    t, log_w = grid(points, q)
    eta = at.eta + (t @ at.spread.T) @ (unit.z @ factor).T
    found = jax.vmap(lambda e: derivatives(lambda s: terms(s, shared, unit.others), e, 2))(eta)
    value, slope, bend = (jnp.where(unit.mask, a, 0.0) for a in found)
    z = at.z + t @ at.spread.T
    logs = jnp.sum(value, axis=1) - 0.5 * jnp.sum(z * z, axis=1) + (log_w - 0.5 * q * _LOG_2_PI)
    share = jax.nn.softmax(logs)
    sums = slope @ jnp.concatenate([unit.x, unit.z], axis=1)
    by_effect = sums[:, p:]
    moved = [t[:, i : i + 1] * by_effect for i in range(q)]
    features = jnp.concatenate([by_effect, *moved, t, products(t, q)], axis=1)
    scores = features @ jacobian
    ones = np.concatenate([np.ones((len(t), 1)), t], axis=1)
    if r:
        common = jax.vmap(lambda e: by_shared(terms, unit, shared, e, 0))(eta)
        direct = jnp.concatenate([sums[:, :p], jnp.sum(common.first[:, 0], axis=-1)], axis=1)
        mixed = jnp.einsum("t,td,tam->adm", share, ones, common.first[:, 1])
        second = jnp.tensordot(share, jnp.sum(common.second[:, 0], axis=-1), axes=1)
    else:
        direct, mixed, second = sums[:, :p], None, None
    scores = jnp.concatenate([scores[:, : p + r] + direct, scores[:, p + r :]], axis=1)
    score = share @ scores
    away = scores - score
    weights = (share[:, None] * products(ones, q + 1)).T @ bend
    cov = (away * share[:, None]).T @ away
    return AtPoints(jax.nn.logsumexp(logs), share @ features, score, cov, weights, mixed, second)


class Means(NamedTuple):
    """Means over the quadrature points t of n units with q random effects: of the sums over rows of l' z (q, n), with l' the
    derivative of a log density by its predictor; of these sums times t (q, q, n); of t (q, n); and of t t' (q, q, n).
    """

    slope: Device
    crossed: Device
    t: Device
    products: Device


def means(at: AtPoints, q: int) -> Means:
    """Return the means over the points of n units with q random effects, from ``at`` with the units first (n, ...)."""
    found = at.features.T
    crossed = jnp.stack([found[q * (d + 1) : q * (d + 2)] for d in range(q)], axis=1)
    t, squares = found[q + q * q : 2 * q + q * q], found[2 * q + q * q :]
    place = {pair: i for i, pair in enumerate(pairs(q))}
    both = jnp.stack([jnp.stack([squares[place[min(i, j), max(i, j)]] for j in range(q)]) for i in range(q)])
    return Means(found[:q], crossed, t, both)


def products(t: Either, q: int) -> Any:
    """Return the products (k, q (q + 1) / 2) of the pairs of the q columns of t (k, q), squares included, ordered as `pairs`."""
    return t[:, [i for i, _ in pairs(q)]] * t[:, [j for _, j in pairs(q)]]


def pairs(q: int) -> list[tuple[int, int]]:
    """Return the pairs (i, j) with i <= j < q."""
    return [(i, j) for i in range(q) for j in range(i, q)]
