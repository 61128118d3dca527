r"""Value, score and Hessian of one unit's integral over random effects in a linear predictor.

With the predictor eta_j = x_j'beta + o_j + z_j'v of row j and the effects v = L z, z standard normal, the integrand is

    f(beta, L, z) = sum_j l_j(eta_j) - |z|^2 / 2 - (q/2) log 2 pi,

and its integral by adaptive quadrature is the log of sum_k w_k |C| exp f(beta, L, zhat + C t_k), with the mode zhat of f, and
C C' = H^-1, H = -f_zz there.  The total derivatives by psi = (beta, L) follow by the chain rule from l_j to l_j'''' at the mode
and l_j to l_j'' at the points.  Second derivatives of mode and curvature are not computed: they are

    zhat_ab = H^-1 f_z,yy[y_a, y_b],        H_ab = -f_zz,yy[y_a, y_b] - f_zzz zhat_ab,        y = (psi, zhat(psi)),

and only their products with the derivatives of the integral by zhat and H are needed, which are sums over rows with one weight
for each row.

Parameters phi common to all rows (the dispersion of a negative binomial, a residual standard deviation) belong to psi as well:
each derivative of l_j by eta_j along psi has that by phi added, and the second derivatives by phi of l_j, l_j' and l_j'' are
needed too.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from mlejax.data import divisor
from mlejax.latent.second_order.at_modes import Terms, Unit, at_mode, by_shared
from mlejax.latent.second_order.at_points import at_points
from mlejax.latent.second_order.chain_rule import (
    CholeskyFactor,
    block_of,
    jacobian,
    moves_of,
    of_mode,
    of_points,
    sums_of,
)
from mlejax.latent.second_order.first_estimate import first_estimate
from mlejax.latent.variable import Quadrature
from mlejax.linalg import entrywise
from mlejax.shapes import Data, Device, Params, PyTree

AT_ONCE = 16_384  # values of the row function that are in the cache together
UNITS = 512  # most units of a block
MOST_COMMON = 6  # entries of common parameters, whose pairs have derivatives for each row


@dataclass(frozen=True)
class SecondOrder:
    """How the log integrals of units and their first two derivatives are computed.

    Attributes:
        terms: log densities of the rows of a unit (m,), of their linear predictor (m,), the common parameters (r,) and the other
            columns.
        how: the quadrature.
        coefficients, spread: names of the coefficients (p,), and of the standard deviations (q,) or the Cholesky factor (q, q).
        common: names of the parameters common to all rows, of any shapes, with r entries in all.
        unit: (params, data of a unit) -> `Unit`.
    """

    terms: Terms
    how: Quadrature
    coefficients: str
    spread: str
    common: tuple[str, ...]
    unit: Callable[[Any, Any], Unit]

    @staticmethod
    def n_blocks(n: int) -> int:
        """Return the number of equal blocks into which n units are cut: the least power of two that leaves at most 512 units in a
        block, or a smaller one if n cannot be divided so.
        """
        blocks = 1
        while n > blocks * UNITS and n % (2 * blocks) == 0:
            blocks *= 2
        return blocks

    def coordinates(self, params: Params) -> Device:
        """Return psi (k,): coefficients, common parameters, and the standard deviations or the lower triangle of the factor."""
        spread = params[self.spread]
        own = spread if spread.ndim == 1 else spread[np.tril_indices(len(spread))]
        return jnp.concatenate([params[self.coefficients], self._shared(params), own])

    def _shared(self, params: Params) -> Device:
        return jnp.concatenate([jnp.zeros(0), *(jnp.ravel(params[name]) for name in self.common)])

    def sums(
        self, params: Params, seen: Callable[[Any], Data], rows: PyTree, weights: Device
    ) -> tuple[Device, Device, Device]:
        """Return the weighted sum over n units of the log integrals (), and its first two derivatives by psi (k,), (k, k).

        Args:
            params: parameters in the user's structure.
            seen: function from the arrays of a unit to the data of that unit.
            rows: arrays of the units (n, ...).
            weights: weights of the units (n,).
        """
        spread = params[self.spread]
        eye = np.eye(spread.shape[0])
        i, j = np.tril_indices(len(eye)) if spread.ndim > 1 else np.diag_indices(len(eye))
        factor = CholeskyFactor(spread if spread.ndim > 1 else spread * eye, i, j)
        units = jax.vmap(lambda part: self.unit(params, seen(part)))(rows)
        return _summed(self.terms, units, weights, self._shared(params), factor, self.how)

    def first_estimate(self, params: Params, seen: Callable[[Any], Data], rows: PyTree, weights: Device) -> Params | None:
        """Return a rough estimate of coefficients and of the standard deviations or Cholesky factor, by name, natural scale
        (:mod:`mlejax.latent.second_order.first_estimate`); None for models with parameters common to all rows.

        ``params``: any values, of which shapes are used; other arguments as in :meth:`sums`.
        """
        if self.common:
            return None
        spread = params[self.spread]
        none = {**params, self.coefficients: jnp.zeros_like(params[self.coefficients])}
        units = jax.vmap(lambda part: self.unit(none, seen(part)))(rows)
        b, covariance = first_estimate(self.terms, units, weights, spread.ndim > 1)
        root = entrywise.cholesky(covariance, safe=True)
        q = spread.shape[0]
        matrix = jnp.stack([jnp.stack([*row, *[jnp.zeros(())] * (q - len(row))]) for row in root])
        return {self.coefficients: b, self.spread: matrix if spread.ndim > 1 else jnp.diagonal(matrix)}

    @staticmethod
    def expansion(value: Device, score: Device, hessian: Device, step: Device) -> Device:
        """Return the weighted sum of the log integrals () after a ``step`` (k,) of psi, expanded to second order: ``value`` +
        score'step + step'hessian step / 2.
        """
        return value + score @ step + 0.5 * step @ hessian @ step


def _summed(
    terms: Terms, units: Unit, weights: Device, shared: Device, factor: CholeskyFactor, how: Quadrature
) -> tuple[Device, Device, Device]:
    """Return the weighted sums over units of log integrals (), of their scores (k,) and of their Hessians (k, k) in psi.

    Args:
        terms: log densities of the rows of a unit.
        units: the units, with a leading axis (n, ...).
        weights: their weights (n,).
        shared: the common parameters (r,).
        factor: L.
        how: the quadrature; with ``how.fixed_mode`` derivatives treat mode and curvature as constants.
    """
    at = jax.vmap(lambda unit: at_mode(terms, unit, shared, factor.matrix, how.fixed_mode))(units)
    common = None
    if shared.size:  # with points that do not move only the common parameters themselves are differentiated at the mode
        order = 0 if how.fixed_mode else 2
        common = jax.vmap(lambda unit, mode: by_shared(terms, unit, shared, mode.eta, order))(units, at)
    block, q = block_of(units, at, factor, common), factor.matrix.shape[0]
    sums = sums_of(block, how.fixed_mode)
    moves = moves_of(block, sums, how.fixed_mode)
    if how.points == 1 and not how.fixed_mode:
        values = at.log_det + at.value + 0.5 * q * (np.log(2.0) + np.log(np.pi))
        score, hessian = of_mode(block, sums, moves, weights)
    else:
        together = divisor(len(weights), max(AT_ONCE // (units.mask.shape[1] * how.points**q), 1))
        one = lambda part: at_points(terms, part[0], part[1], part[2], shared, factor.matrix, how.points)
        found = lax.map(one, (units, at, jacobian(block, moves)), batch_size=together)
        values = at.log_det + found.value + 0.5 * q * np.log(2.0)
        score, hessian = of_points(block, sums, moves, found, weights, how.fixed_mode)
    return weights @ values, score, 0.5 * (hessian + hessian.T)
