"""Maximum simulated likelihood: random effects integrated out over draws, with the Monte Carlo error of every estimate."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from mlejax import data as data_room
from mlejax import linalg, optimize
from mlejax.execution import float64
from mlejax.fit.continuing import continued
from mlejax.fit.finish.finish import Fit, Integration
from mlejax.fit.prepare.loaded import Loaded
from mlejax.fit.prepare.loading import most_units
from mlejax.fit.recipe import fit_once
from mlejax.latent import LAPLACE, POINTS, Draws, Simulated, Sobol, around, checks, integrated, marginal_in, of_law
from mlejax.likelihood import Likelihood
from mlejax.shapes import Data

MOST_BYTES = 2 << 30  # of points
FEW, THINNED = 32, 8  # draws that give a start, of one in so many


def simulated(likelihood: Likelihood, how: Sobol | Draws, data: Data, options: dict[str, Any]) -> Fit:
    """Fit one data set by maximum simulated likelihood.

    With `Sobol` points, the fit is repeated with twice as many until all Monte Carlo errors are at most ``how.within`` (None:
    not repeated), the fit does not converge, or twice as many points would take more than 2 GiB.

    Args:
        likelihood: the model.
        how: Sobol points, or draws that the user gave.
        data: as ``Model.fit`` takes them.
        options: fields of `Request`.

    Raises:
        DataError: draws for another number of units.
        Errors of `fit_once`.
    """
    if isinstance(how, Draws):
        return _with_errors(_by_draws(likelihood, of_law(how), data, options), how.values.shape[1])
    done = fit_once(integrated(likelihood, LAPLACE), data, **options)
    while done.information is not None and done.u.size > 0:
        spec, loaded = done.spec, done.loaded
        with float64():
            laplace = replace(spec, likelihood=integrated(spec.likelihood, LAPLACE))
            where = checks.standardised_modes(laplace, done.u, loaded.problem.data, done.fixed)
            own = integrated(spec.likelihood, Simulated(how.repeats * how.each, how.repeats))
            begun = replace(done, spec=replace(spec, likelihood=own), loaded=with_points(own, loaded, around(how, *where)))
        done = _with_errors(continued(begun, done.u, done.note), how.repeats).after(done)
        error = max(done.integration.monte_carlo, default=0.0)  # type: ignore[union-attr]
        more = replace(how, draws=2 * how.repeats * how.each)
        values = more.draws * loaded.problem.data.n_padded * (where[0].shape[1] + 1)
        if how.within is None or not error > how.within or not done.verdict.converged or 8 * values > MOST_BYTES:
            break
        how = more
    return done


def _by_draws(likelihood: Likelihood, points: np.ndarray, data: Data, options: dict[str, Any]) -> Fit:
    """Fit with given draws, by BHHH unless the user chose a method: scores cost an eighth of a Hessian.

    With at least 256 draws for a unit and without ``start=``, a fit with one draw in eight gives the start if it converges.
    """
    if optimize.named_newton(options.get("method", "newton")):
        options = {**options, "method": "bhhh"}
    if points.shape[1] >= FEW * THINNED and options.get("start") is None:  # a start by some of the draws
        some = points[:, ::THINNED] + np.eye(points.shape[2])[-1] * np.log(points.shape[1] / len(points[0, ::THINNED]))
        near = _at_points(likelihood, some, data, options)
        if near.verdict.converged:
            options = {**options, "start": near.params}
    return _at_points(likelihood, points, data, options)


def _at_points(likelihood: Likelihood, points: np.ndarray, data: Data, options: dict[str, Any]) -> Fit:
    """Fit with these points of every unit, (n, D, q + 1); ``options``: further arguments of the fit."""
    own = integrated(likelihood, Simulated(points.shape[1], 1))
    return fit_once(own, data, arranged=lambda loaded: with_points(own, loaded, points), **options)



def with_points(likelihood: Likelihood, loaded: Loaded, points: np.ndarray) -> Loaded:
    """Return the data with integration points as a further column (replaced if there is one).

    Args:
        likelihood: the model.
        loaded: the data.
        points: D points of q random effects, with their log weight, for each of n units, (n, D, q + 1).

    Raises:
        DataError: another number of units.
    """
    data, labels = loaded.problem.data, loaded.unit_labels
    n = int(data.n)
    if len(points) != n:
        raise data_room.DataError(
            f"mle.Draws: expected draws for each of the {n} {likelihood.unit} in the data (the first is "
            f"{'' if labels is None else labels.tolist()[0]!r}), got draws for {len(points)}"
        )
    entries = tuple(entry for entry in data.statics.entries if entry.key != POINTS)
    layout = replace(data.statics, entries=entries)
    leaves = tuple(leaf[:n] for leaf in data.rows[: layout.n_leaves])
    block = most_units(likelihood, leaves[layout.position("mask")].shape[1])
    n_blocks, size = data_room.blocks(n, block)
    rows, weights = data_room.pad((*leaves, points), np.asarray(data.weights)[:n], n_blocks * size)
    packed = replace(
        data, rows=rows, weights=weights, statics=layout.with_column(POINTS, None, layout.n_leaves), block=size
    )
    return replace(loaded, problem=replace(loaded.problem, data=packed))


def _with_errors(done: Fit, repeats: int) -> Fit:
    """Return the fit with the Monte Carlo error of every estimate, from the variation between ``repeats`` parts of the draws.

    Without errors if there are no free parameters or the information is missing or not positive definite.
    """
    marginal = marginal_in(done.spec.likelihood)
    points = marginal.how.points
    found = Integration(tuple(marginal.latents), points, repeats=repeats, kind="simulation")
    if done.information is None or done.u.size == 0:
        return replace(done, integration=found)
    with float64():
        own = replace(done.spec, likelihood=integrated(done.spec.likelihood, Simulated(points, repeats)))
        data = done.loaded.problem.data
        relative, slope, of_score = checks.simulation_error(own, done.u, data, done.fixed)
    free, p = done.interior, done.u.size
    inverse = linalg.scaled_inverse(linalg.symmetric(done.information).block(free))
    if not inverse.ok or done.jacobian is None:
        return replace(done, integration=found)
    lever = np.zeros((p, p))
    lever[np.ix_(free, free)] = done.loaded.scale * np.asarray(inverse.inverse)  # of weights as they are in the data
    to_theta = np.linalg.pinv(done.jacobian).T  # scores in u to scores in theta
    of_score, bias = to_theta @ of_score @ to_theta.T, lever @ to_theta @ (-0.5 * slope)
    errors, random = np.sqrt(np.diag(lever)), np.maximum(np.diag(lever @ of_score @ lever), 0.0)
    share = np.divide(np.sqrt(random + bias**2), errors, out=np.zeros(p), where=errors > 0)
    loglik = 0.5 * relative * done.loaded.scale
    return replace(done, integration=replace(found, monte_carlo=tuple(map(float, share)), loglik=loglik))
