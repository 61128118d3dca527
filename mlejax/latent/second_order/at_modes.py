"""The modes of the integrands of units, and the derivatives of the rows by their linear predictor there."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from mlejax.latent.mode import IntegrandCurve, climb
from mlejax.linalg import entrywise
from mlejax.shapes import Device, Either, PyTree

# predictor of the rows of a unit (m,), parameters common to all rows (r,), others -> log densities (m,), entry by entry
Terms = Callable[[Any, Any, Any], Any]
_LOG_2_PI = float(np.log(2.0 * np.pi))


class Unit(NamedTuple):
    """The rows of one unit, given parameters.

    Attributes:
        fixed: predictor without random effects (m,).
        x: its derivatives by the coefficients (m, p).
        z: columns of the random effects (m, q).
        mask: True for real rows (m,).
        others: further arguments of the row function that have a value for each row.
    """

    fixed: Device
    x: Device
    z: Device
    mask: Device
    others: PyTree


class AtMode(NamedTuple):
    """The mode of the integrand of one unit, and the quantities that were evaluated at the mode.

    Attributes:
        z: the mode (q,).
        eta: the linear predictor there (m,).
        value: log of the integrand there ().
        slopes: derivatives of the terms by the linear predictor, of order 1 to 4, 0 in the padding (m,) each.
        spread: C (q, q), upper triangular, with C C' the inverse of the curvature there.
        log_det: log |C| ().
    """

    z: Either
    eta: Device
    value: Either
    slopes: tuple[Device, ...]
    spread: Device
    log_det: Either


class ByShared(NamedTuple):
    """Derivatives by the r common parameters of the terms of rows and of their derivatives by the predictor, 0 in the padding.

    Attributes:
        first: first derivatives, of orders 0 to 3 by the predictor (4, r, m).
        second: second derivatives, of orders 0 to 2 by the predictor (3, r, r, m).
    """

    first: Device
    second: Device


def by_shared(terms: Terms, unit: Unit, shared: Device, eta: Device, order: int) -> ByShared:
    """Return derivatives by the common parameters (r,) at predictors ``eta`` (m,): first ones (order + 2, r, m) of the terms and
    their derivatives by the predictor up to ``order`` + 1; second ones (order + 1, r, r, m) of those up to ``order``.
    """

    def stacked(s: Device, n: int) -> Device:
        found = jnp.stack(derivatives(lambda t: terms(t, s, unit.others), eta, n))
        return jnp.where(unit.mask, found, 0.0)

    first = jax.jacfwd(lambda s: stacked(s, order + 1))(shared)
    second = jax.jacfwd(jax.jacfwd(lambda s: stacked(s, order)))(shared)
    return ByShared(jnp.moveaxis(first, -1, 1), jnp.moveaxis(second, (-2, -1), (1, 2)))


def at_mode(terms: Terms, unit: Unit, shared: Device, factor: Device, fixed_mode: bool) -> AtMode:
    """Find the mode of a unit's integrand over z (q,), whose random effects are L z with the ``factor`` L (q, q).

    With ``fixed_mode`` derivatives above the second, which are not used then, are zeros: JAX may not have them.
    """
    own, q = unit.z @ factor, factor.shape[0]

    def at(z: Either, order: int) -> tuple[Device, list[Any]]:
        eta = unit.fixed + own @ z
        slopes = derivatives(lambda t: terms(t, shared, unit.others), eta, order)
        return eta, [jnp.where(unit.mask, a, 0.0) for a in slopes]

    def total(value: Device, z: Either) -> Device:
        return jnp.sum(value) - 0.5 * jnp.dot(z, z) - 0.5 * q * _LOG_2_PI

    def curve(z: Device) -> IntegrandCurve:
        _, (value, slope, bend) = at(z, 2)
        return IntegrandCurve(total(value, z), slope @ own - z, _curvature(own, bend))

    found = climb(curve, jnp.zeros(q))
    z = found.z + entrywise.solve(entrywise.cholesky(found.at.curvature, safe=True), found.at.gradient)
    eta, (value, *slopes) = at(z, 2 if fixed_mode else 4)
    root = entrywise.cholesky(_curvature(own, slopes[1]))
    spread = jnp.stack([jnp.stack(entrywise.solve_upper(root, e)) for e in np.eye(q)], axis=1)
    slopes += [jnp.zeros_like(eta)] * (4 - len(slopes))
    return AtMode(z, eta, total(value, z), tuple(slopes), spread, -entrywise.log_diagonal(root))


def derivatives(terms: Callable[[Any], Any], eta: Device, order: int) -> tuple[Device, ...]:
    """Return the terms (m,) and their derivatives by their own predictor up to ``order``."""
    out, function = [terms(eta)], terms
    for _ in range(order):
        function = _slope(function)
        out.append(function(eta))
    return tuple(out)


def _slope(function: Callable[[Any], Any]) -> Callable[[Any], Any]:
    return lambda eta: jax.jvp(function, (eta,), (jnp.ones_like(eta),))[1]


def _curvature(own: Device, bend: Device) -> Device:
    """Return I - Z'diag(l'')Z (q, q) for columns Z (m, q) that multiply z."""
    q = own.shape[1]
    entries = [[jnp.sum(bend * own[:, i] * own[:, j]) for j in range(i + 1)] for i in range(q)]
    return jnp.stack([jnp.stack([float(i == j) - entries[max(i, j)][min(i, j)] for j in range(q)]) for i in range(q)])
