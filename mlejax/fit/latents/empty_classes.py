"""Fits of models with latent classes in which a class probability is 0 at the maximum.

Softmax coordinates approach such a maximum and never reach it.  So the search is continued with the probabilities themselves as
coordinates, all but the largest of each vector, with lower bound 0; whether 0 is the maximum is decided as at any bound.  The
parameters of a class of probability 0 are fixed at their current values, because the log-likelihood does not depend on them.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import jax.numpy as jnp
import numpy as np

from mlejax import transforms
from mlejax.execution import float64
from mlejax.fit.continuing import continued
from mlejax.fit.finish.finish import Fit
from mlejax.fit.latents.labels import probability_leaves
from mlejax.fit.prepare.streaming import evaluator_of
from mlejax.objective import Objective
from mlejax.parameters import Space
from mlejax.shapes import Either, Float, Host, PyTree

NEAR = 0.01  # a probability that may be 0 at the maximum
LOST = 1e-6  # log-likelihood that going onto the bound may cost
ASIDE = 0.01  # relative distance of a second point, at which parameters without an effect on the log-likelihood have score 0 too


def on_closed_bounds(done: Fit, values: list[Any]) -> Fit | None:
    """Continue a fit with vanishing class probabilities set to 0.

    Returns None if that is not a maximum, if no probability is small, if the log-likelihood of the fit does not approach a
    supremum, and under constraints.

    Args:
        done: a fit whose log-likelihood levels off while class probabilities go to 0.
        values: its parameters, one array per leaf, natural scale, with the classes in the final order.
    """
    space = done.spec.space
    if space.ties is not None or space.mapped or done.verdict.supremum is None:
        return None
    leaves, found = list(space.leaves), False
    for i in probability_leaves(done.spec):
        leaf, p = leaves[i], np.asarray(values[i]).reshape(-1, leaves[i].shape[-1])
        if leaf.free is None and (p < NEAR).any() and type(leaf.transform) is transforms.Simplex:
            found, rest = True, tuple(p.argmax(axis=1).tolist())
            leaves[i] = replace(leaf, transform=transforms.ClosedSimplex(rest))
    return _continued(done, Space(space.groups, tuple(leaves)), values) if found else None


def _on_bounds(done: Fit, space: Space, fixed: Host, values: list[Any]) -> Float[Host, " p"]:
    """Return u, (p,), of the parameters ``values`` with small probabilities set to 0: those below 0.01 that, each by itself, can
    be 0 without lowering the log-likelihood by more than 1e-6.
    """
    u = np.array(space.u_from_params(space.build(values)))
    closed = [isinstance(leaf.transform, transforms.ClosedSimplex) for leaf in space.leaves]
    of_law = np.concatenate([np.full(leaf.n_free, flag) for leaf, flag in zip(space.leaves, closed, strict=True)])
    near = np.flatnonzero(of_law & (u < NEAR))
    points = np.tile(u, (len(near) + 1, 1))
    points[np.arange(len(near)), near] = 0.0
    *there, here = evaluator_of(replace(done.spec, space=space), done.loaded, fixed).logliks({0: points})[0]
    u[near[np.array(there) > here - LOST]] = 0.0
    return u


def _with_bounds(space: Space, params: PyTree) -> Space:
    """Return the layout with the positions of zero probabilities in ``params`` recorded in its closed simplices."""
    leaves = [
        replace(leaf, transform=replace(leaf.transform, edges=tuple(np.flatnonzero(np.asarray(value) == 0.0).tolist())))
        if isinstance(leaf.transform, transforms.ClosedSimplex)
        else leaf
        for leaf, value in zip(space.leaves, space.split(params), strict=True)
    ]
    return Space(space.groups, tuple(leaves))


def _largest_scores(objective: Objective, u: Either) -> PyTree:
    """Return the largest absolute score of a row or unit in each parameter (p,)."""
    return jnp.max(jnp.abs(objective.scores(u)), axis=0)


def _continued(done: Fit, space: Space, values: list[Any]) -> Fit | None:
    """Search from ``values`` in the layout with bounded probabilities.

    None if no maximum is found, if the log-likelihood is lower than that of ``done``, or if parameters of an empty class cannot
    be fixed one by one (transitions from its state).
    """
    fixed = np.concatenate([np.ravel(v) for v in values])
    with float64():
        u = _on_bounds(done, space, fixed, values)
        at = space.params_from_u(u)
        space, fixed = _with_bounds(space, at), np.concatenate([np.ravel(v) for v in space.split(at)])
        evaluator: Any = evaluator_of(replace(done.spec.plain, space=space), done.loaded, fixed)
        # at a maximum the score of a single unit is 0 in every parameter, so another point is looked at too
        aside = np.where(np.isfinite(space.lower) | np.isfinite(space.upper), u, u + ASIDE * (1.0 + np.abs(u)))
        largest = np.maximum(*(evaluator.map_reduce(_largest_scores, np.maximum, point) for point in (u, aside)))
    idle = [space.theta_labels[j] for j in np.flatnonzero(largest == 0.0)]
    try:
        space = space.fix(idle)
    except ValueError:  # what leads from a state that no step leads to: transitions are not fixed one by one
        return None
    with float64():
        u = np.asarray(space.u_from_params(at))
    again = continued(replace(done, spec=replace(done.spec, space=space), fixed=fixed), u, done.note)
    reached = _with_bounds(again.spec.space, again.params)
    if reached != again.spec.space:  # errors beside a bound are those with the probability fixed there
        again = continued(replace(again, spec=replace(again.spec, space=reached)), again.u, done.note)
    if not again.verdict.converged or again.llf < done.llf - LOST:
        return None
    if idle:
        values_of = "keeps its last value" if len(idle) == 1 else "keep their last values"
        more = f"{', '.join(idle)} of an empty class {values_of}, because the log-likelihood does not depend on it"
        again = replace(again, verdict=again.verdict.amended(note=more))
    return replace(again, n_steps=done.n_steps + again.n_steps, modes=done.modes, history=done.history, path=done.path)
