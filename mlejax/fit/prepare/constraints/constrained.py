"""Nonlinear constraints: check them, find a point that satisfies them, and solve them for some of the coordinates.

The search runs over the other (kept) coordinates, as any search does (:mod:`mlejax.parameters.constraints.curved_ties`). Which
ones are kept is decided at the first point and again at the final one: if the equations are nearly singular there in the
dependent coordinates (such as at a point of a circle a quarter turn from the first one), the search continues with another
choice.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple

import jax
import numpy as np

from mlejax.execution import compiled
from mlejax.fit.finish.finish import Fit
from mlejax.fit.prepare.constraints.equations import Equations, equations_of, params_at, satisfied
from mlejax.likelihood import Likelihood
from mlejax.optimize import EM, Method
from mlejax.parameters import CurvedTies, Space
from mlejax.shapes import Either, Float, Host, PyTree

WORSE = 0.1  # determinant of the coordinates that follow, relative to the best choice, at which another is taken
CHOICES = 4  # of the kept coordinates


@partial(compiled, static=("space",))
def _u_of(space: Space, fixed: Either) -> Either:
    """Convert the vector ``fixed`` of all natural values, (k,), to u, (n,), compiled."""
    return space.u_from_params(space.at_fixed(fixed))


@partial(compiled, static=("space",))
def _tangent(space: Space, theta: Either, fixed: Either | None) -> Either:
    """Return the derivatives (n, q), under the constraints, of all n natural coordinates with respect to the q kept ones, whose
    values are ``theta``, (q,).
    """
    ties: Any = space.ties
    return jax.jacfwd(lambda t: ties.in_theta(space.untied, t, fixed))(theta)


class Restrictions(NamedTuple):
    """``constraints=`` for one layout of parameters.

    Attributes:
        R, r: linear constraints R x = r on the reported entries x (those that tables show), natural scale, (m, n_reported)
            and (m,).
        labels: m labels of the linear constraints.
        functions: nonlinear constraints, g(params) = 0, natural scale.
    """

    R: Float[Host, "m reported"]
    r: Float[Host, " m"]
    labels: tuple[str, ...]
    functions: tuple[Callable[[Any], Any], ...] = ()


class Begun(NamedTuple):
    """Start of a search under nonlinear constraints.

    Attributes:
        equations: the constraints.
        space: the layout with the constraints solved for some coordinates.
        reference: all natural values at a point that satisfies the constraints, (k,), passed as fixed values.
        u: the kept coordinates there, (q,).
    """

    equations: Equations
    space: Space
    reference: Float[Host, " k"]
    u: Float[Host, " q"]


def begin(
    space: Space,
    fixed: Either | None,
    wanted: Restrictions,
    likelihood: Likelihood,
    method: Method,
    u: Float[Host, " n"],
) -> Begun:
    """Prepare a search under nonlinear constraints: find a point near u that satisfies them, and solve them for some coordinates.

    Args:
        space, fixed: layout and fixed values, without constraints.
        wanted: the constraints.
        likelihood: the model.
        method: the method of the search.
        u: a start that need not satisfy the constraints, (n,).

    Raises:
        TypeError: a constraint function that `equations_of` refuses.
        ValueError: constraints that `satisfied` refuses, such as those for which it finds no point; a model with fixed effects;
            or method EM.
    """
    if likelihood.effects:
        raise ValueError(
            "constraints= given as functions are not supported with effects of mle.Real(by=...), which are eliminated one level "
            "at a time; write linear constraints as strings"
        )
    if isinstance(method, EM):
        raise ValueError("constraints= given as functions are not supported with method='em'; leave out method=")
    regressed = [p.name for p in likelihood.predictors]
    equations = equations_of(space, fixed, wanted.functions, regressed, wanted[:3], u)
    if fixed is None:
        fixed = np.zeros(space.n_values)
    point = satisfied(equations, u, fixed)
    tied, reference = tied_at(equations, point, fixed)
    assert tied.ties is not None
    return Begun(equations, tied, reference, point[tied.ties.index])


# ---- the coordinates that are kept


def _dependent(slope: Float[Host, "m n"], u: Float[Host, " n"], space: Space) -> tuple[list[int], float]:
    """Choose m of n coordinates to solve the equations for, by elimination with complete pivoting.

    Coordinates with bounds are avoided if possible.

    Args:
        slope: derivatives of the equations, (m, n).
        u: the point, (n,).
        space: the layout.

    Returns:
        Their numbers, and the absolute determinant of their scaled derivatives.  If that is 0, fewer than m may be chosen.
    """
    weight = np.maximum(1.0, np.abs(u))
    boxed = np.isfinite(space.lower) | np.isfinite(space.upper)
    rest = slope * weight * np.where(boxed, 1e-6, 1.0)
    rest = rest / np.maximum(np.linalg.norm(rest, axis=1, keepdims=True), 1e-300)
    chosen, size = list[int](), 1.0
    for _ in range(len(rest)):
        free = np.abs(rest)
        free[:, chosen] = 0.0
        i, j = np.unravel_index(int(np.argmax(free)), free.shape)
        chosen.append(int(j))
        pivot = rest[i, j]
        size *= abs(float(pivot))
        if pivot == 0:
            return chosen, 0.0
        rest = rest - np.outer(rest[:, j] / pivot, rest[i])
    return chosen, size


def tied_at(equations: Equations, u: Float[Host, " n"], fixed: Either | None) -> tuple[Space, Float[Host, " k"]]:
    """Choose the coordinates that the equations are to be solved for, at a point u, (n,), that satisfies them.

    Returns:
        The layout whose coordinates are the others, with the derivatives of all coordinates with respect to them, and all
        natural values at u, (k,), as in `Begun.reference`.
    """
    space = equations.space
    dependent, _ = _dependent(equations.at(u, fixed)[1], u, space)
    kept = tuple(np.setdiff1d(np.arange(u.size), dependent).tolist())
    reference = _vector(space, jax.tree.map(np.asarray, params_at(space, u, fixed)))
    return with_tangent(replace(space, ties=replace(equations.ties, kept=kept)), reference), reference


def _vector(space: Space, params: PyTree) -> Float[Host, " k"]:
    """Return all natural values of params as one vector, (k,)."""
    return np.concatenate([np.ravel(np.asarray(v, np.float64)) for v in space.split(params)])


def with_tangent(space: Space, reference: Float[Host, " k"]) -> Space:
    """Return the layout with the derivatives of all coordinates with respect to the kept ones, computed at ``reference``, a point
    given by all its natural values, (k,).
    """
    assert isinstance(space.ties, CurvedTies)
    theta = np.asarray(space.untied.theta_from_u(_u_of(space.untied, reference)))
    matrix = np.asarray(_tangent(space, theta[space.ties.index], reference))
    ties = replace(space.ties, matrix_bytes=matrix.tobytes(), reference_bytes=theta.tobytes())
    return replace(space, ties=ties)


def another_choice(
    equations: Equations, space: Space, u: Float[Host, " q"], fixed: Either | None
) -> tuple[Space, Float[Host, " k"], Float[Host, " q"]] | None:
    """Choose other kept coordinates, if the equations are nearly singular in the dependent ones at u, (q,).

    Returns:
        Layout, reference and start (see `Begun`); None if the present choice is good enough, or a coordinate is not finite.
    """
    assert isinstance(space.ties, CurvedTies)
    full = np.asarray(_completed(space, u, fixed))
    if not np.isfinite(full).all():
        return None
    slope = equations.at(full, fixed)[1]
    best = _dependent(slope, full, space.untied)
    mine = space.ties.dependent
    weight = np.maximum(1.0, np.abs(full))
    scaled = slope * weight / np.maximum(np.linalg.norm(slope * weight, axis=1, keepdims=True), 1e-300)
    sizes = [abs(np.linalg.det(scaled[:, list(which)])) for which in (mine, best[0])]
    if set(best[0]) == set(mine.tolist()) or sizes[0] > WORSE * sizes[1]:
        return None
    tied, reference = tied_at(equations, full, fixed)
    assert tied.ties is not None
    return tied, reference, full[tied.ties.index]


@partial(compiled, static=("space",))
def _completed(space: Space, u: Either, fixed: Either | None) -> Either:
    """Return all coordinates, (n,), from the kept ones, (q,), by solving the constraints; compiled."""
    ties: Any = space.ties
    return ties.in_u(space.untied, u, fixed)


def at_estimate(fit: Fit) -> Fit:
    """Return the fit with the derivatives of nonlinear constraints taken at its estimate, as the covariance needs them.

    Return the fit itself if it has no nonlinear constraints, or if an estimate is not finite.
    """
    space = fit.spec.space
    if not isinstance(space.ties, CurvedTies):
        return fit
    reference = _vector(space, fit.params)
    if not np.isfinite(reference).all():
        return fit
    return replace(fit, spec=replace(fit.spec, space=with_tangent(space, reference)), fixed=reference)
