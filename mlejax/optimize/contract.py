"""What an objective offers, what an algorithm does, and what the loop carries between turns.

The objective is f(u) = -(sum of contributions) / scale, minimised over a flat vector u of length p within a box
[lower, upper] (infinite where free). With that sign and scale

    N = scale * g' H^-1 g

is the Newton decrement in log-likelihood units: twice the rise that a quadratic approximation still promises.

An algorithm is a frozen, hashable dataclass with two options (`tol`, `max_steps`) and three functions: what to
evaluate at a point (`evaluate`), its memory at the start (`start`), and what to make of a new evaluation (`update`):
keep it or not, and where to go next. Counting, finiteness, limits and status belong to the loop alone.
"""

from __future__ import annotations

from typing import Any, NamedTuple, Protocol

import jax

__all__ = ["Carry", "Method", "Objective", "Point", "Setting", "Update"]

HISTORY = 4  # decrements kept: enough to tell a linear from a quadratic sequence


class Objective(Protocol):
    """A function to minimise, with its derivatives; pure functions of u, shape (p,)."""

    def value(self, u: Any, /) -> Any:
        """f(u), ()."""
        ...

    def value_and_grad(self, u: Any, /) -> tuple[Any, Any]:
        """f(u) () and its gradient (p,)."""
        ...

    def with_hessian(self, u: Any, /) -> tuple[Any, Any, Any]:
        """f(u) (), its gradient (p,) and its Hessian (p, p)."""
        ...

    def with_opg(self, u: Any, /) -> tuple[Any, Any, Any]:
        """f(u) (), its gradient (p,) and the mean outer product of the contributions' gradients (p, p)."""
        ...


class Point(NamedTuple):
    """A point and what is known there.

    Attributes:
        u: shape (p,).
        f: objective, shape ().
        g: gradient, shape (p,).
        H: curvature, shape (p, p); shape (0, 0) for first-order methods.
    """

    u: jax.Array
    f: jax.Array
    g: jax.Array
    H: jax.Array


class Setting(NamedTuple):
    """What stays the same over a whole run: the box, shape (p,) each, or None for no box; and the scale, shape ().

    ``bends``: False where no step may be looked for that takes more than one factorisation, shape (), bool; such a step
    is NaN then.  None: any may.
    """

    lower: jax.Array | None
    upper: jax.Array | None
    scale: jax.Array
    bends: jax.Array | None = None


class Carry(NamedTuple):
    """State of an optimisation between turns; arrays only, so it passes through `jit`, `vmap` and a host loop.

    Attributes:
        u: best accepted point, shape (p,); the start until it has been evaluated.
        f: objective there, shape (); +inf until the start has been evaluated.
        g: gradient there, shape (p,).
        H: curvature there, shape (p, p); shape (0, 0) for first-order methods.
        trial: the point that the next turn evaluates, shape (p,).
        decrements: undamped Newton decrements of the last four accepted points, log-likelihood units, most recent last,
            shape (4,); inf where the curvature was not positive definite or nothing is known.
        full_steps: whether the step that led to each of these points was a whole undamped Newton step, shape (4,).
        status: an `End` code, shape (), int32.
        n_steps: accepted steps, shape (), int32.
        n_evaluations: evaluations of the derivative set, the start included, shape (), int32.
        inner: the algorithm's own memory.
    """

    u: jax.Array
    f: jax.Array
    g: jax.Array
    H: jax.Array
    trial: jax.Array
    decrements: jax.Array
    full_steps: jax.Array
    status: jax.Array
    n_steps: jax.Array
    n_evaluations: jax.Array
    inner: Any


class Update(NamedTuple):
    """What an algorithm makes of one evaluation.

    Attributes:
        kept: the point to keep: the new one, or the one before.
        accepted: whether the step counts, bool.
        trial: where to evaluate next, shape (p,).
        decrement: undamped Newton decrement at the kept point, inf when unknown, shape ().
        full: whether the accepted step was a whole undamped Newton step, bool.
        status: RUNNING, or why to stop, int32.
        inner: the algorithm's memory from here on.
    """

    kept: Point
    accepted: jax.Array
    trial: jax.Array
    decrement: jax.Array
    full: jax.Array
    status: jax.Array
    inner: Any


class Method(Protocol):
    """An optimisation algorithm: frozen and hashable, so that it can be a static argument of `jit`."""

    @property
    def tol(self) -> float:
        """When to stop, in log-likelihood units."""
        ...

    @property
    def max_steps(self) -> int:
        """Steps tried after the start."""
        ...

    @property
    def dense(self) -> bool:
        """Whether it evaluates a p x p curvature."""
        ...

    def evaluate(self, objective: Any, u: jax.Array) -> tuple[Any, Any, Any]:
        """Value, gradient and curvature at u: one evaluation of the objective; curvature None if it uses none."""
        ...

    def start(self, u0: Any) -> Any:
        """Memory before the first evaluation."""
        ...

    def update(self, inner: Any, old: Point, new: Point, first: Any, finite: Any, setting: Setting) -> Update:
        """Judge the new point against the kept one, and propose the next.

        Args:
            inner: the algorithm's memory.
            old: the kept point (meaningless when first).
            new: the point just evaluated.
            first: whether new is the start, bool.
            finite: whether everything at new is finite, bool.
            setting: box and scale.
        """
        ...
