"""Constraints as equations c(params) = 0 for the free coordinates, and a point near the start that satisfies them."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import numpy as np

from mlejax.execution import compiled
from mlejax.parameters import CurvedTies, Space, with_addresses
from mlejax.shapes import Bool, Either, Float, Host, PyTree

TRIES = 12  # points from which the equations are solved
SPREAD = 0.1  # distance of nearby points at which derivatives are compared, in units of max(1, |u|)
SINGULAR = 1e-5  # derivative at a solution, relative to nearby points, below which it counts as 0
DEPENDENT = 1e-7  # relative part of a derivative outside the span of the others, below which it counts as 0
SATISFIED = 1e-8  # largest violation of an equation, relative to its derivative times max(1, |u|)


@dataclass(frozen=True)
class Equations:
    """The constraints as m equations c(params) = 0 for n free coordinates.

    Attributes:
        space: the layout without constraints.
        ties: the functions and the linear constraints; its ``kept`` is empty.
        labels: one label for each scalar equation.
    """

    space: Space
    ties: CurvedTies
    labels: tuple[str, ...]

    def at(self, u: Float[Host, " n"], fixed: Either | None) -> tuple[Float[Host, " m"], Float[Host, "m n"]]:
        """Return the values of the equations at u, (m,), and their derivatives with respect to u, (m, n)."""
        with np.errstate(all="ignore"):
            value, slope = _values(self.ties, self.space, u, fixed)
        return np.asarray(value), np.asarray(slope)


@partial(compiled, static=("ties", "space"))
def _values(ties: CurvedTies, space: Space, u: Either, fixed: Either | None) -> PyTree:
    """Return the residuals of the equations ``ties`` at u, and their derivatives with respect to u: the compiled part of
    `Equations.at`.
    """
    residual = lambda t: ties.residuals(space, space.params_from_u(t, fixed))
    return residual(u), jax.jacfwd(residual)(u)


@partial(compiled, static=("space",))
def params_at(space: Space, u: Either, fixed: Either | None) -> PyTree:
    """Convert u, (n,), to the user's params, compiled."""
    return space.params_from_u(u, fixed)


def equations_of(
    space: Space,
    fixed: Either | None,
    functions: Sequence[Callable[[Any], Any]],
    regressed: Sequence[str],
    linear: tuple[np.ndarray, np.ndarray, Sequence[str]],
    u: Float[Host, " n"],
) -> Equations:
    """Make `Equations` from nonlinear and linear constraints.

    Args:
        space, fixed: layout and fixed values.
        functions: nonlinear constraints, g(params) = 0.
        regressed: names of parameters that have a formula.
        linear: R, r and labels of linear constraints (see `Restrictions`).
        u: any point, (n,), whose params are used to trace the functions.

    Raises:
        TypeError: a function that does not take params alone, cannot be traced, or does not return floating-point numbers.
        Exception: other errors of a function, unchanged.
    """
    labels = list[str]()
    params = params_at(space, u, fixed)
    for k, function in enumerate(functions):
        name = getattr(function, "__name__", type(function).__name__)
        name = f"function {k + 1}" if name == "<lambda>" else name
        size = _n_equations(function, name, with_addresses(function, space, regressed), params)
        labels += [f"{name}(params) = 0"] if size == 1 else [f"{name}(params)[{i}] = 0" for i in range(size)]
    R, r, more = linear
    lines = (R.tobytes(), np.asarray(r, np.float64).tobytes()) if len(r) else None
    ties = CurvedTies((), space.n_free, tuple(functions), lines, tuple(regressed))
    return Equations(space, ties, (*labels, *more))


def _n_equations(function: Callable[..., Any], name: str, of_params: Callable[[Any], Any], params: PyTree) -> int:
    """Return the number of scalar values that a constraint function returns, by ``jax.eval_shape``.

    Args:
        function: the user's function.
        name: its name, for messages.
        of_params: the same function, made to accept names such as "mu[age]" in params.
        params: example parameters.

    Raises:
        TypeError: it does not take params alone, cannot be traced, or does not return floating-point numbers.
    """
    try:
        needed = [
            p
            for p in inspect.signature(function).parameters.values()
            if p.default is p.empty and p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)
        ]
    except (TypeError, ValueError):
        needed = [None]  # type: ignore[list-item]
    if len(needed) != 1:
        raise TypeError(
            f"constraints= {name}: expected a function of params alone, got one of {len(needed)} arguments.  A constraint cannot "
            "depend on the data: write a relation that differs by row into the log-likelihood"
        )
    try:
        found = jax.tree.leaves(jax.eval_shape(of_params, params))
    except TypeError as error:
        concrete = isinstance(error, (jax.errors.TracerArrayConversionError, jax.errors.ConcretizationTypeError))
        advice = "write it with jax.numpy, without if on values" if concrete else "correct it"
        raise TypeError(
            f"constraints= {name}: JAX cannot trace it as a function that returns numbers ({str(error).splitlines()[0][:200]}); "
            f"{advice}"
        ) from error
    if any(leaf.dtype == bool for leaf in found):
        raise TypeError(
            f"constraints= {name} returns booleans; return the difference of both sides, lambda p: p['a'] * p['b'] - 1, "
            "which is kept at 0 (inequalities are not supported: declare a support, mle.Interval(lo, hi))"
        )
    if not found or any(not np.issubdtype(leaf.dtype, np.floating) for leaf in found):
        kinds = ", ".join(str(leaf.dtype) for leaf in found) or "nothing"
        raise TypeError(f"constraints= {name}: expected a function that returns floating-point numbers, got {kinds}")
    return sum(int(np.prod(leaf.shape)) for leaf in found)


def satisfied(equations: Equations, u: Float[Host, " n"], fixed: Either | None) -> Float[Host, " n"]:
    """Find a point near u that satisfies the equations, (n,).

    Raises:
        ValueError: as many equations as parameters or more; no such point was found; an equation is not finite or constant; the
            derivatives of the equations are 0 or linearly dependent there.
    """
    m, n = len(equations.labels), u.size
    if m >= n:
        raise ValueError(
            f"constraints= are {m} equation{'s' * (m > 1)} for {n} free parameter{'s' * (n > 1)}, so that nothing is left to "
            "estimate; give the values that they imply as fixed="
        )
    _refuse_constants(equations, u, fixed)
    rng, best = np.random.default_rng(0), (np.inf, "")
    every = np.ones(m, bool)
    for k in range(TRIES):
        begin = u if k == 0 else u + (0.3, 1.0, 3.0)[k % 3] * np.maximum(1.0, np.abs(u)) * rng.normal(size=n)
        found = _solved(equations, _inside(equations.space, begin), fixed, every)
        if found[1]:
            _refuse_singular(equations, found[0], fixed)
            return found[0]
        worst = int(np.nanargmax(np.abs(found[2]))) if np.isfinite(found[2]).any() else 0
        size = abs(found[2][worst])
        best = min(best, (size if np.isfinite(size) else np.inf, equations.labels[worst]))
    raise ValueError(
        f"constraints= cannot be satisfied: from {TRIES} starting points no parameter values were found at which all hold.  "
        f"At the nearest, {best[1]} is violated by {best[0]:.3g}.  Check that they contradict neither each other nor "
        "fixed= nor the supports, or give start= near values that satisfy them"
    )


def _inside(space: Space, u: Float[Host, " n"]) -> Float[Host, " n"]:
    """Project u onto the bounds."""
    return np.clip(u, space.lower, space.upper)


def _refuse_constants(equations: Equations, u: Float[Host, " n"], fixed: Either | None) -> None:
    """Raise ValueError for an equation whose derivatives are all 0, or whose value or derivatives are not finite, at each of four
    points: u, (n,), and three random ones near it."""
    rng, seen = np.random.default_rng(1), np.zeros(len(equations.labels), bool)
    bad, without_value = np.ones((2, len(equations.labels)), bool)
    for k in range(4):
        point = u if k == 0 else u + np.maximum(1.0, np.abs(u)) * rng.normal(size=u.size)
        value, slope = equations.at(_inside(equations.space, point), fixed)
        seen |= (slope != 0).any(axis=1)
        without_value &= ~np.isfinite(value)
        bad &= ~np.isfinite(value) | ~np.isfinite(slope).all(axis=1)
    for label, moves, wrong, no_value in zip(equations.labels, seen, bad, without_value, strict=True):
        if wrong:
            what = "value is" if no_value else "value or a derivative is"
            raise ValueError(
                f"constraints= {label}: its {what} not finite at the start and near it; give a start= where both are finite"
            )
        if not moves:
            raise ValueError(f"constraints= {label}: it does not depend on the free parameters; leave it out")


def _solved(
    equations: Equations, u: Float[Host, " n"], fixed: Either | None, of: Bool[Host, " m"]
) -> tuple[Float[Host, " n"], bool, Float[Host, " m"]]:
    """Solve some of the equations (mask ``of``) by Gauss-Newton steps of minimum length from u.

    Returns:
        The final point, (n,), whether these equations hold there, and the values of all equations, (m,).
    """
    space = equations.space
    value, slope = equations.at(u, fixed)
    first = np.abs(slope) @ np.maximum(1.0, np.abs(u))
    for _ in range(100):
        weight = np.maximum(1.0, np.abs(u))
        rows = np.maximum(np.abs(slope[of]) @ weight, 1e-300)
        c, A = value[of] / rows, slope[of] * weight / rows[:, None]
        if not (np.isfinite(c).all() and np.isfinite(A).all()):
            return u, False, value
        step = -weight * (np.linalg.pinv(A, rcond=1e-10) @ c)
        size, t = np.abs(c).max(), 1.0
        if np.abs(step / weight).max() <= 1e-14:
            break
        while t > 1e-6:
            trial = _inside(space, u + t * step)
            new, new_slope = equations.at(trial, fixed)
            if np.isfinite(new).all() and np.abs(new[of] / rows).max() < size:
                break
            t *= 0.5
        else:
            break
        u, value, slope = trial, new, new_slope
    scale = np.maximum(np.abs(slope) @ np.maximum(1.0, np.abs(u)), np.where(np.isfinite(first), first, 0.0))
    return u, bool((np.abs(value[of]) <= SATISFIED * scale[of]).all()), value


def _refuse_singular(equations: Equations, u: Float[Host, " n"], fixed: Either | None) -> None:
    """Raise ValueError if the derivatives of the equations are 0 or linearly dependent at a solution u, (n,), also because one
    equation follows from the others.
    """
    rng, weight = np.random.default_rng(2), np.maximum(1.0, np.abs(u))
    beside = [_inside(equations.space, u + SPREAD * weight * rng.normal(size=u.size)) for _ in range(5)]
    slope = equations.at(u, fixed)[1] * weight
    norms = np.linalg.norm(slope, axis=1)
    usual = np.nanmax([np.linalg.norm(equations.at(b, fixed)[1] * weight, axis=1) for b in beside], axis=0)
    for label, here, there in zip(equations.labels, norms, usual, strict=True):
        if here <= SINGULAR * there:
            raise ValueError(
                f"constraints= {label}: its derivative is 0 where the constraint is satisfied, as that of a square, so that no "
                "covariance can be computed; write it so that it changes sign there, a - b instead of (a - b)**2"
            )
    unit, basis, kept = slope / norms[:, None], list[np.ndarray](), np.zeros(len(norms), bool)
    for j, row in enumerate(unit):
        rest = row - sum((b @ row) * b for b in basis)
        rest = rest - sum((b @ rest) * b for b in basis)
        size = float(np.linalg.norm(rest))
        if size > DEPENDENT:
            basis.append(rest / size)
            kept[j] = True
            continue
        others = [_solved(equations, b, fixed, kept) for b in beside]
        gaps = [abs(value[j]) / norms[j] for _, holds, value in others if holds]
        if gaps and max(gaps) <= 1e-6:
            raise ValueError(
                f"constraints= {equations.labels[j]} follows from the others ({', '.join(_first(equations.labels, kept))}): "
                "leave it out"
            )
        raise ValueError(
            f"constraints= have derivatives of rank {int(kept.sum())} of {len(norms)} where they are satisfied: "
            f"{equations.labels[j]} is tangent to the others ({', '.join(_first(equations.labels, kept))}), so that "
            "no covariance can be computed.  Fix the parameters that they determine with fixed="
        )


def _first(labels: Sequence[str], which: Bool[Host, " m"]) -> list[str]:
    """Return the first six of the labels where the mask ``which`` is True."""
    return [labels[i] for i in np.flatnonzero(which)[:6]]
