"""Interfaces: what an objective computes (`DifferentiableObjective`), what a method does (`Method`), the state of a driver
(`Carry`).

The objective is f(u) = -(sum of log-likelihood terms) / scale, minimised over a flat vector u of length p subject to bounds
lower <= u <= upper (infinite for no bound). With that sign and scale

    N = scale * g' H^-1 g

is the Newton decrement in log-likelihood units: twice the increase that a quadratic approximation predicts.

A method is a frozen, hashable dataclass: its options, the derivatives that it needs, and three functions on arrays. Drivers
do everything else: evaluation, counting, checks of finiteness, bounds, the limit on steps and the status.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from typing import Any, ClassVar, Literal, NamedTuple, Protocol, TypeAlias, runtime_checkable

import numpy as np

from mlejax.shapes import Count, Either, Flag, Float, PyTree, Scalar
from mlejax.status import End

__all__ = ["Carry", "DifferentiableObjective", "Method", "Point", "Setting", "Step", "check_options"]

HISTORY = 4  # number of decrements kept: enough to tell a linear from a quadratic sequence
Evaluated: TypeAlias = tuple[Scalar, Either, Either | None]


@runtime_checkable
class Transformation(Protocol):
    """An optax ``GradientTransformation``."""

    @property
    def init(self) -> Callable[..., PyTree]: ...
    @property
    def update(self) -> Callable[..., PyTree]: ...


@runtime_checkable
class DifferentiableObjective(Protocol):
    """A function f to minimise, with its derivatives: pure functions of u, shape (p,). A method calls one of them."""

    def value(self, u: Either, /) -> Scalar:
        """Return f(u), ()."""

    def value_and_grad(self, u: Either, /) -> tuple[Any, Any]:
        """Return f(u), (), and its gradient, (p,)."""

    def with_hessian(self, u: Either, /) -> Evaluated:
        """Return f(u), (), its gradient, (p,), and its Hessian, (p, p)."""

    def with_opg(self, u: Either, /) -> Evaluated:
        """Return f(u), (), its gradient, (p,), and the sum of the outer products of the scores of the log-likelihood's terms,
        divided by the scale, (p, p).
        """


class Point(NamedTuple):
    """A point, and the objective and its derivatives there.

    Attributes:
        u: coordinates, shape (p,).
        f: objective, shape (); +inf if the objective or a derivative is not finite, or before the first evaluation.
        g: gradient, shape (p,); finite.
        H: curvature matrix (Hessian or outer products), shape (p, p), finite; shape (0, 0) for first-order methods.
    """

    u: Float[Either, " p"]
    f: Scalar
    g: Float[Either, " p"]
    H: Float[Either, "q q"]


class Setting(NamedTuple):
    """Constants of a run.

    Attributes:
        lower: lower bounds, shape (p,), -inf for no bound; None if no coordinate has a bound.
        upper: upper bounds, likewise.
        scale: what the log-likelihood was divided by, shape ().
        allow_trust_region_solve: if False, a method with curvature returns a step of NaN instead of solving the trust-region
            subproblem, so that the caller can retry; shape (). None for always allowed.
    """

    lower: Float[Either, " p"] | None
    upper: Float[Either, " p"] | None
    scale: Scalar
    allow_trust_region_solve: Flag | None = None


class Step(NamedTuple):
    """A method's decision about one evaluated point.

    Attributes:
        keep: whether the new point replaces the kept one, shape (), bool.
        status: `End.RUNNING`, or the reason to stop, shape (), int32.
        accepted: whether the step is counted in `Carry.n_steps`, shape (), bool; None for the same as ``keep``.
        decrement: Newton decrement at the new kept point, log-likelihood units, shape (); inf where unknown.
    """

    keep: Flag
    status: Count = End.RUNNING
    accepted: Flag | None = None
    decrement: Scalar = float("inf")


class Carry(NamedTuple):
    """State of a driver between turns (a turn is one evaluation and what the method makes of it); arrays only, so that it
    passes through `jit`, `vmap` and a Python loop.

    Attributes:
        u: kept point (the best or current one, by the method's rule), shape (p,); the start until it has been evaluated.
        f: objective there, shape (); +inf until the start has been evaluated.
        g: gradient there, shape (p,).
        H: curvature matrix there, shape (p, p); shape (0, 0) for first-order methods.
        trial: the point that the next turn evaluates, shape (p,).
        decrements: Newton decrements at the last four accepted points, log-likelihood units, most recent last, shape (4,);
            inf where the curvature was not positive definite or is not known.
        mismatch: share of the gradient's change along a step that the mean of the Hessians at the step's beginning and end does
            not explain, for the last accepted step that began more than 1e-4 standard errors from a minimum, (); inf if there
            was none.
        status: an `End` code, shape (), int32.
        n_steps: number of accepted steps, shape (), int32.
        n_evaluations: number of evaluations of the objective with its derivatives, the start included, shape (), int32.
        inner: the method's own state.
    """

    u: Float[Either, " p"]
    f: Scalar
    g: Float[Either, " p"]
    H: Float[Either, "q q"]
    trial: Float[Either, " p"]
    decrements: Float[Either, " 4"]
    mismatch: Scalar
    status: Count
    n_steps: Count
    n_evaluations: Count
    inner: PyTree


@runtime_checkable
class Method(Protocol):
    r"""An optimisation method: subclass it with a frozen dataclass and give it to ``model.fit(method=...)``.

    The functions take and return arrays and must not branch on their values: drivers trace and vmap them, and they are traced
    once before any data are read. They minimise f, which is minus the log-likelihood divided by ``setting.scale``. A driver
    projects the point that ``propose`` returns onto the bounds, evaluates it and passes it to ``update``. The first point is
    the start, for which ``kept.f`` is inf. If the objective or a derivative is not finite, ``new.f`` is inf and the
    derivatives are those of the kept point.

    A single fit takes the steps of a method with curvature on the host, on NumPy's arrays, where jax.numpy is slow;
    ``xp = mlejax.optimize.namespace(u)`` is numpy or jax.numpy, as u is. Projected onto bounds, a step need not lead downhill:
    with bounds, a method with curvature computes its step in ``update``, which has the ``setting``, for the coordinates that
    are not in ``mlejax.optimize.active_bounds(point, setting)``, and returns it in its state for ``propose``.

    Attributes:
        curvature: derivatives that the method needs beyond the gradient: "none", "hessian", or "opg" for the outer products of
            the scores, summed and divided by ``setting.scale``.
        tol: tolerance of the method's stopping rule, log-likelihood units.
        max_steps: most evaluations after the start, rejected steps included; then the status is `End.MAX_STEPS`.

    Example:
        Steepest ascent of the log-likelihood with a fixed rate, until a step gains next to nothing:

        >>> from dataclasses import dataclass
        >>> import jax.numpy as jnp
        >>> import mlejax as mle
        >>> from mlejax.status import End
        >>> @dataclass(frozen=True)
        ... class SteepestAscent(mle.Method):
        ...     rate: float = 0.5
        ...     tol: float = 1e-9
        ...     max_steps: int = 1000
        ...
        ...     def init(self, u):
        ...         return ()
        ...
        ...     def propose(self, state, kept):
        ...         return kept.u - self.rate * kept.g
        ...
        ...     def update(self, state, kept, new, setting):
        ...         gain = setting.scale * (kept.f - new.f)
        ...         return (), mle.Step(new.f < kept.f, jnp.where(gain <= self.tol, int(End.SETTLED), int(End.RUNNING)))
        >>> @mle.model(mu=mle.Real())
        ... def shifted(params, data):
        ...     return -0.5 * (data["y"] - params["mu"]) ** 2
        >>> res = shifted.fit({"y": [1.0, 2.0, 6.0]}, method=SteepestAscent())
        >>> round(float(res.params["mu"]), 6), res.verdict.code
        (3.0, 'verified')
    """

    curvature: ClassVar[Literal["none", "hessian", "opg"]] = "none"

    tol: float
    max_steps: int

    @property
    def dense(self) -> bool:
        """True if the method evaluates a p x p curvature matrix."""
        return self.curvature != "none"

    def evaluate(self, objective: DifferentiableObjective, u: Either) -> Evaluated:
        """Evaluate the objective at u: return its value (), its gradient (p,), and the curvature (p, p), None if ``curvature`` is
        "none".
        """
        if self.curvature == "hessian":
            return objective.with_hessian(u)
        if self.curvature == "opg":
            return objective.with_opg(u)
        return (*objective.value_and_grad(u), None)

    @abstractmethod
    def init(self, u: Float[Either, " p"]) -> PyTree:
        """Return the method's state before the first evaluation, a pytree of arrays that depends only on the shape and dtype of
        u.

        The start is evaluated later, like every other point, so that a compiled loop holds one copy of the objective.
        """

    @abstractmethod
    def propose(self, state: PyTree, kept: Point) -> Float[Either, " p"]:
        """Return the point to evaluate next, shape (p,); the driver projects it onto the bounds.

        Args:
            state: the method's state, as the last `update` returned it.
            kept: the point kept by the last `update`.
        """

    @abstractmethod
    def update(self, state: PyTree, kept: Point, new: Point, setting: Setting) -> tuple[Any, Step]:
        """Decide whether to keep a new point and whether to stop.

        Args:
            state: the method's state.
            kept: the kept point; for the start its f is inf and its derivatives are 0.
            new: the point just evaluated; its f is inf if its value or a derivative is not finite.
            setting: bounds and scale.

        Returns:
            The new state and the `Step`. The start must be kept.
        """


def check_options(method: Method) -> None:
    """Check ``tol`` and ``max_steps`` of a method; called by its constructor.

    Raises:
        ValueError: tol is not a positive number, or max_steps is not a positive whole number.
    """
    name = type(method).__name__
    if not (isinstance(method.tol, int | float) and method.tol > 0):
        raise ValueError(f"{name}(tol={method.tol!r}): expected a positive number, in log-likelihood units")
    if isinstance(method.max_steps, bool) or not (isinstance(method.max_steps, (int, np.integer)) and method.max_steps > 0):
        raise ValueError(f"{name}(max_steps={method.max_steps!r}): expected a positive whole number")
