"""Accuracy of each unit's integral (against twice the points and a fixed grid), and the latent variables given the data."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from itertools import product
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from mlejax import data as data_room
from mlejax.execution import compiled
from mlejax.latent import crossed
from mlejax.latent.integral import grid
from mlejax.latent.marginal import Marginal, integrated, marginal_in, marginal_of
from mlejax.latent.mode import curve, find
from mlejax.latent.simulation import POINTS, log_mean
from mlejax.latent.variable import LAPLACE, Quadrature
from mlejax.likelihood import natural_values
from mlejax.linalg import entrywise
from mlejax.shapes import Data, Device, Either, Float, Host, Params, PyTree

if TYPE_CHECKING:
    from mlejax.objective import Objective, Spec

WIDTH, PRIOR = 10.0, 7.0  # half-widths of the fixed grids: in conditional and in prior standard deviations
FAR, FALL = 4.0, 1e-3  # at a mode, the log integrand falls by at least FALL within FAR standard deviations
AXIS = {1: 101, 2: 101, 3: 33}  # points of a fixed grid along each axis


def _by_unit(spec: Spec, u: Either, data: data_room.Prepared, fixed: Either | None, one: Callable[..., Any]) -> PyTree:
    """Return ``one(marginal, params, data of a unit)`` for every unit, stacked (N, ...), padding included; computed in blocks."""
    likelihood = spec.likelihood
    marginal = marginal_of(likelihood)
    params = spec.space.params_from_u(u, fixed)

    def unit(rows: PyTree) -> PyTree:
        own = data_room.assemble(rows, data.shared, data.statics)
        return one(marginal, *natural_values(likelihood.predictors, params, own))

    return lax.map(unit, data.rows, batch_size=data.block)


class Compared(NamedTuple):
    """Integrals of units by two quadratures, and the modes at which their points are centred.

    Attributes:
        values: log-likelihood of each unit by the quadrature of the model, and by one of more points (n, 2); NaN where the
            curvature is not positive definite.
        modes: modes of the standardised latent variables (n, q).
        curvatures: minus the Hessians of the log integrands there (n, q, q).
    """

    values: Any
    modes: Any
    curvatures: Any


@partial(compiled, static=("spec", "finer"))
def _two(spec: Spec, finer: Quadrature, u: Either, data: data_room.Prepared, fixed: Either | None) -> PyTree:
    def one(marginal: Marginal, params: Params, own: Data) -> PyTree:
        f, q = marginal.joint(params, own), marginal.q
        mode = find(f, jnp.zeros(q))
        factor = entrywise.cholesky(mode.at.curvature)
        grids = [grid(how.points, q) for how in (marginal.how, finer)]
        where, log_w = (np.concatenate(parts) for parts in zip(*grids, strict=True))
        logs = jax.vmap(lambda t: f(mode.z + jnp.stack(entrywise.solve_upper(factor, t))))(jnp.asarray(where)) + log_w
        first = len(grids[0][0])
        found = jnp.stack([jax.nn.logsumexp(logs[:first]), jax.nn.logsumexp(logs[first:])])
        return Compared(found + 0.5 * q * np.log(2.0) - entrywise.log_diagonal(factor), mode.z, mode.at.curvature)

    return _by_unit(spec, u, data, fixed, one)


@dataclass(frozen=True)
class TwoValues:
    """A function of an objective and u that returns the log-likelihoods of its units by two quadratures; ``finer``: that with
    more points.
    """

    finer: Quadrature

    def __call__(self, objective: Objective, u: Either) -> PyTree:
        """Return the log-likelihoods of every unit by both quadratures at u, as `Compared`, padding included."""
        return _two(objective.spec, self.finer, u, objective.prepared, objective.fixed)


def two_values(spec: Spec, finer: Quadrature, u: Either, data: data_room.Prepared, fixed: Either | None) -> Compared:
    """Return the log-likelihoods of the n units at u by the quadrature of the likelihood, and by ``finer``, of more points, as
    `Compared`.
    """
    return Compared._make(np.asarray(a)[: int(data.n)] for a in _two(spec, finer, u, data, fixed))


@partial(compiled, static=("spec",), how="host")
def _on_grid(
    spec: Spec, u: Either, data: data_room.Prepared, fixed: Either | None, modes: Either, curvatures: Either
) -> PyTree:
    likelihood, q = spec.likelihood, modes.shape[1]
    marginal, params = marginal_in(likelihood), spec.space.params_from_u(u, fixed)
    axis = np.linspace(-WIDTH, WIDTH, AXIS[q])
    where = np.array(list(product(axis, repeat=q)))
    wide = np.linspace(-PRIOR, PRIOR, AXIS[q])

    def one(rows: PyTree, mode: Either, curvature: Either) -> PyTree:
        own = data_room.assemble(rows, data.shared, data.statics)
        f = marginal.joint(*natural_values(likelihood.predictors, params, own))
        factor = entrywise.cholesky(curvature)
        at = lambda t: f(mode + jnp.stack(entrywise.solve_upper(factor, t)))
        values = jax.vmap(at)(where) if q == 1 else lax.map(at, jnp.asarray(where), batch_size=512)
        narrow = jax.nn.logsumexp(values) + q * np.log(axis[1] - axis[0]) - entrywise.log_diagonal(factor)
        if q > 1:
            return narrow
        # where the unit says little: also mass far from the mode
        over = jax.nn.logsumexp(jax.vmap(f)(wide[:, None])) + np.log(wide[1] - wide[0])
        return jnp.where(1.0 / factor[0][0] > wide[1] - wide[0], jnp.maximum(narrow, over), narrow)

    return jax.vmap(one)(data.rows, modes, curvatures)


def on_grid(
    spec: Spec, u: Either, some: data_room.Prepared, fixed: Either | None, modes: Either, curvatures: Either
) -> Float[Host, " m"]:
    """Return the log-likelihood (m,) of ``some`` units, with up to three latent variables, by the trapezoidal rule on a fixed
    grid of 10 conditional standard deviations around the mode.

    With one latent variable the value is the larger of this and of the sum over a grid from -7 to 7, unless the conditional
    standard deviation is below the spacing of the latter; this serves units whose rows give little information.

    Args:
        spec: specification of the objective.
        u: coordinates of the parameters (p,).
        some: the m units.
        fixed: fixed values, or None.
        modes, curvatures: of the units, as in `Compared` (m, q), (m, q, q).
    """
    same = replace(spec, likelihood=integrated(spec.likelihood, LAPLACE))  # one program whatever the quadrature
    return np.asarray(_on_grid(same, u, some, fixed, modes, curvatures))


@partial(compiled, static=("spec",))
def _conditional(spec: Spec, u: Either, data: data_room.Prepared, fixed: Either | None) -> PyTree:
    def one(marginal: Marginal, params: Params, own: Data) -> PyTree:
        f = marginal.joint(params, own)
        mode = find(f, jnp.zeros(marginal.q))
        named = lambda z: marginal.stacked(params, z)
        if marginal.how == LAPLACE:  # the curvature at the mode
            factor = entrywise.cholesky(curve(f, mode.z).curvature)
            slope = jax.jacfwd(named)(mode.z)
            spread = jnp.stack([jnp.stack(entrywise.solve_lower(factor, row)) for row in slope])
            return named(mode.z), named(mode.z), jnp.sqrt(jnp.sum(spread**2, axis=1)), mode.decrement
        points, log_w = marginal.nodes(f, own)
        weights = jax.nn.softmax(jax.vmap(f)(points) + log_w)
        values = jax.vmap(named)(points)
        mean = weights @ values
        return named(mode.z), mean, jnp.sqrt(weights @ (values - mean) ** 2), mode.decrement

    return _by_unit(spec, u, data, fixed, one)


def conditional(spec: Spec, u: Either, data: data_room.Prepared, fixed: Either | None) -> tuple[np.ndarray, ...]:
    """Return mode, mean and standard deviation (n, q) of every unit's latent variables given its rows, on the scale on which the
    user's function reads them, and the Newton decrement at the mode (n,).

    With Laplace's approximation the mean is the mode, and the standard deviation is by the curvature there.  Where that is not
    positive definite, standard deviations and (by quadrature) means are NaN; by simulation they are not.
    """
    return tuple(np.asarray(a)[: int(data.n)] for a in _conditional(spec, u, data, fixed))


def conditional_at(objective: Objective, points: Either) -> PyTree:
    """Return mode, mean and standard deviation (N, q) of the units' latent variables given their rows at the first of some points
    u (m, p), and the means at the others (m - 1, N, q), as in `conditional`, padding included.
    """
    of = lambda u: _conditional(objective.spec, u, objective.prepared, objective.fixed)
    mode, mean, sd, _ = of(points[0])
    return mode, mean, sd, lax.map(lambda u: of(u)[1], points[1:])


@partial(compiled, static=("spec",))
def _at_zero(spec: Spec, u: Either, data: data_room.Prepared, fixed: Either | None) -> PyTree:
    def one(marginal: Marginal, params: Params, own: Data) -> PyTree:
        return jnp.sum(marginal.of_rows(params, own)(jnp.zeros((*own["mask"].shape, marginal.q))))

    return _by_unit(spec, u, data, fixed, one)


def at_zero(spec: Spec, u: Either, data: data_room.Prepared, fixed: Either | None) -> Float[Host, " n"]:
    """Return the log-likelihood (n,) of each unit's rows with all latent variables at 0, without the density of these."""
    return np.asarray(_at_zero(spec, u, data, fixed))[: int(data.n)]


@partial(compiled, static=("spec",))
def _by_level(spec: Spec, u: Either, data: data_room.Prepared, fixed: Either | None) -> PyTree:
    def one(marginal: Marginal, params: Params, own: Data) -> PyTree:
        s = marginal.structure(own)
        z, covariances, decrement = crossed.conditional(marginal.of_rows(params, own), s)
        slope, out = jax.jacfwd(lambda at: marginal.stacked(params, at))(jnp.zeros(marginal.q)), []
        for k, (mode, covariance) in enumerate(zip(z, covariances, strict=True)):
            own_slope = slope[np.ix_(s.columns(k), s.columns(k))]
            variance = jnp.einsum("ij,gjk,ik->gi", own_slope, covariance, own_slope)
            out.append((mode @ own_slope.T, jnp.sqrt(variance)))
        return tuple(out), decrement

    return _by_unit(spec, u, data, fixed, one)


def by_level(
    spec: Spec, u: Either, data: data_room.Prepared, fixed: Either | None, levels: data_room.Crossing
) -> list[tuple[np.ndarray, np.ndarray]]:
    """Return, for each grouping factor of nested or crossed latent variables, a pair: mode and standard deviation (by the
    curvature at the mode) of the latent variables of its G levels, (G, q) each, on the scale of the user's function.

    ``levels``: for each factor, the unit of every level and the number of the level within its unit.
    """
    found, _ = _by_level(spec, u, data, fixed)
    pairs = zip(levels.unit, levels.within, strict=True)
    return [(np.asarray(mode)[at], np.asarray(sd)[at]) for (mode, sd), at in zip(found, pairs, strict=True)]


@partial(compiled, static=("spec",))
def _standardised(spec: Spec, u: Either, data: data_room.Prepared, fixed: Either | None) -> PyTree:
    def one(marginal: Marginal, params: Params, own: Data) -> PyTree:
        mode = find(marginal.joint(params, own), jnp.zeros(marginal.q))
        factor = entrywise.cholesky(mode.at.curvature, safe=True)
        return mode.z, jnp.stack([jnp.stack(entrywise.solve_upper(factor, e)) for e in jnp.eye(marginal.q)], axis=1)

    return _by_unit(spec, u, data, fixed, one)


def standardised_modes(spec: Spec, u: Either, data: data_room.Prepared, fixed: Either | None) -> tuple[np.ndarray, np.ndarray]:
    """Return the mode (n, q) of every unit's standardised latent variables, and A (n, q, q) with A A' the inverse of the
    curvature there; where the curvature is not positive definite, of a positive definite matrix in its place.
    """
    mode, factor = _standardised(spec, u, data, fixed)
    return np.asarray(mode)[: int(data.n)], np.asarray(factor)[: int(data.n)]


@partial(compiled, static=("spec",))
def _has_mode(spec: Spec, u: Either, data: data_room.Prepared, fixed: Either | None) -> PyTree:
    def one(marginal: Marginal, params: Params, own: Data) -> PyTree:
        f = marginal.joint(params, own)
        mode = find(f, jnp.zeros(marginal.q))
        factor = entrywise.cholesky(mode.at.curvature)
        axes = jnp.stack([jnp.stack(entrywise.solve_upper(factor, e)) for e in jnp.eye(marginal.q)])
        around = jax.vmap(lambda step: f(mode.z + step))(FAR * jnp.concatenate([axes, -axes]))
        return jnp.isfinite(mode.at.value) & (around < mode.at.value - FALL).all()  # NaN where the curvature has no factor

    return _by_unit(spec, u, data, fixed, one)


def has_mode(objective: Objective, u: Either) -> PyTree:
    """Return for each unit (N,), padding included, True if its integrand has a maximum by the test of `without_mode`."""
    return _has_mode(objective.spec, u, objective.prepared, objective.fixed)


def without_mode(spec: Spec, u: Either, data: data_room.Prepared, fixed: Either | None) -> np.ndarray:
    """Return the positions, from 0, of the units of positive weight whose integrand has no maximum.

    That is, at the point found its logarithm is not finite, or the curvature is not positive definite, or the logarithm is not
    lower by 0.001 at four standard deviations (by that curvature) along every axis, in both directions.
    """
    has, used = (np.asarray(a)[: int(data.n)] for a in (_has_mode(spec, u, data, fixed), data.weights))
    return np.flatnonzero(~has & (used > 0))


@partial(compiled, static=("spec",))
def _repeats(spec: Spec, u: Either, data: data_room.Prepared, fixed: Either | None) -> PyTree:
    likelihood, repeats = spec.likelihood, marginal_of(spec.likelihood).how.repeats  # type: ignore[union-attr]

    def unit(rows: PyTree) -> PyTree:
        own = data_room.assemble(rows, data.shared, data.statics)

        def logs(t: Device) -> tuple[Any, Any]:
            params = spec.space.params_from_u(t, fixed)
            values = natural_values(likelihood.predictors, params, own)
            marginal = marginal_in(likelihood)
            found = log_mean(marginal.joint(*values), own[POINTS], repeats)
            return found, found

        score, value = jax.jacfwd(logs, has_aux=True)(u)
        share = jax.nn.softmax(value) * repeats  # f_r / mean f
        off = share[:, None] * (score - share @ score / repeats)
        scale = 1.0 / (repeats * (repeats - 1))
        return scale * jnp.sum((share - 1.0) ** 2), 2.0 * scale * (share - 1.0) @ off, scale * off.T @ off

    return lax.map(unit, data.rows, batch_size=data.block)


def simulation_error(
    spec: Spec, u: Either, data: data_room.Prepared, fixed: Either | None
) -> tuple[float, np.ndarray, np.ndarray]:
    """Return, for simulated integrals f_i, the weighted sum over units of Var(f_i) / f_i^2, its gradient in u (p,), and the
    variance of the weighted score in u (p, p), all estimated from the independent repeats.
    """
    w = np.asarray(data.weights)[: int(data.n)]
    relative, slope, of_score = (np.asarray(a)[: int(data.n)] for a in _repeats(spec, u, data, fixed))
    return float(w @ relative), w @ slope, np.tensordot(w**2, of_score, axes=1)


@partial(compiled, static=("spec",))
def _modes(spec: Spec, u: Either, data: data_room.Prepared, fixed: Either | None) -> PyTree:
    def one(marginal: Marginal, params: Params, own: Data) -> PyTree:
        q = marginal.q
        mode = find(marginal.joint(params, own), jnp.zeros(q))
        factor = entrywise.cholesky(mode.at.curvature)
        named = lambda z: marginal.stacked(params, z)
        slope = jax.jacfwd(named)(mode.z)
        return named(mode.z), jnp.stack([jnp.stack(entrywise.solve_lower(factor, row)) for row in slope])

    return _by_unit(spec, u, data, fixed, one)


def modes(spec: Spec, u: Either, data: data_room.Prepared, fixed: Either | None) -> tuple[np.ndarray, np.ndarray]:
    """Return the mode (n, q) of every unit's latent variables given its rows, as the user's function reads them, and S (n, q, q)
    with S S' their covariance by the curvature at the mode; S is NaN where the curvature is not positive definite.
    """
    mode, spread = _modes(spec, u, data, fixed)
    return np.asarray(mode)[: int(data.n)], np.asarray(spread)[: int(data.n)]
