"""A rough estimate of coefficients and covariance of random effects in one linear predictor, where a search may begin.

1. Newton steps for the coefficients without random effects.
2. The variance of effect j by moments, from sums s and h of l' z_j and -l'' z_j^2 over the rows of each unit there: the sum of
   s^2 - h over units, divided by the sum of h^2.
3. Joint Newton steps for coefficients and effects v; after each the covariance is the mean of v v' + C, with C the inverse of
   the curvature of the unit's integrand in v (penalised quasi-likelihood; Breslow & Clayton 1993, JASA 88, 9).

Each step takes as long as one step towards the modes of the units.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from mlejax.latent.second_order.at_modes import Terms, Unit, derivatives
from mlejax.latent.second_order.small_matrices import apply, gram, total
from mlejax.linalg import entrywise, solve_spd
from mlejax.shapes import Device

ALONE, JOINT = 6, 6  # steps without random effects, and with them
FAR = 3.0  # most by which a step changes the predictor of a row
LEAST = 0.05  # least variance, in units of 1 / (mean of h)


def first_estimate(terms: Terms, units: Unit, weights: Device, correlated: bool) -> tuple[Device, Device]:
    """Return estimates of the coefficients (p,) and of the covariance of the effects (q, q), diagonal unless ``correlated``.

    They are not finite, or far from a maximum, if Newton's steps do not converge.

    Args:
        terms: log densities of the rows of a unit.
        units: the units, with a leading axis (n, ...); the predictor without random effects has coefficients of 0.
        weights: their weights (n,).
    """
    x, z = jnp.moveaxis(units.x, -1, 0), jnp.moveaxis(units.z, -1, 0)
    q, each, n = z.shape[0], weights[:, None], jnp.sum(weights)

    def rows(change: Device) -> tuple[Device, Device]:
        """Return l' and -l'' of each row (n, m) after a change of its predictor."""
        one = lambda eta, others: derivatives(lambda t: terms(t, jnp.zeros(0), others), eta, 2)
        _, slope, bend = jax.vmap(one)(units.fixed + change, units.others)
        return jnp.where(units.mask, slope, 0.0), jnp.where(units.mask, -bend, 0.0)

    def short(change: Device) -> Device:
        return jnp.minimum(1.0, FAR / jnp.maximum(jnp.max(jnp.where(units.mask, jnp.abs(change), 0.0)), 1e-300))

    def alone(_: Any, b: Device) -> Device:
        slope, bend = rows(jnp.tensordot(b, x, axes=1))
        step, _ = solve_spd(gram(x, x * (bend * each)), total(x, slope * each))
        return b + step * short(jnp.tensordot(step, x, axes=1))

    def joint(_: Any, state: tuple[Device, Device, Device]) -> tuple[Device, Device, Device]:
        b, v, covariance = state
        slope, bend = rows(jnp.tensordot(b, x, axes=1) + jnp.sum(z * v[:, :, None], axis=0))
        precision = _inverse(covariance[:, :, None])
        curvature = jnp.stack([jnp.sum(z * (bend * z[i]), axis=-1) for i in range(q)]) + precision
        c = _inverse(curvature)
        score = jnp.sum(z * slope, axis=-1) - apply(precision, v)
        crossed = jnp.stack([jnp.sum(x * (bend * z[i]), axis=-1) for i in range(q)], axis=1)
        lever = apply(c, crossed)
        information = gram(x, x * (bend * each)) - gram(crossed, lever * weights)
        step, _ = solve_spd(information, total(x, slope * each) - total(lever, score * weights))
        moved = apply(c, score) - jnp.tensordot(step, lever, axes=1)
        size = short(jnp.tensordot(step, x, axes=1) + jnp.sum(z * moved[:, :, None], axis=0))
        b, v = b + size * step, v + size * moved
        found = (c + v[:, None] * v[None]) @ weights / n
        return b, v, found if correlated else found * np.eye(q)

    b = lax.fori_loop(0, ALONE, alone, jnp.zeros(x.shape[0]))
    slope, bend = rows(jnp.tensordot(b, x, axes=1))
    s, h = jnp.sum(z * slope, axis=-1), jnp.sum(z * z * bend, axis=-1)
    variances = jnp.maximum((s * s - h) @ weights / ((h * h) @ weights), LEAST * n / (h @ weights))
    begun = b, jnp.zeros(s.shape), variances * np.eye(q)
    b, _, covariance = lax.fori_loop(0, JOINT, joint, begun)
    return b, covariance


def _inverse(matrices: Device) -> Device:
    """Return the inverses (q, q, n) of n positive definite matrices (q, q, n)."""
    factor = entrywise.cholesky(matrices, safe=True)
    return jnp.stack([entrywise.solve(factor, e[:, None] * jnp.ones(matrices.shape[2:])) for e in np.eye(len(matrices))])
