r"""Penalties: how they are declared and checked, their derivatives, and whether they are smooth at the estimate.

A fit maximises l(params) - P(params), natural scale, summed (not divided by n).  At the estimate the score of l is not 0 but
the gradient of P, so that the information I of l in natural coordinates is taken from the derivatives of l itself.

A penalty with a kink at the estimate (the absolute value at 0) has no curvature there, and standard errors from it would mean
nothing.  The change of its gradient over a small and over a smaller step tells the two apart: at a kink it stays, on a smooth
curve it shrinks with the step.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from sys import float_info
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from mlejax.execution import compiled, lapack
from mlejax.likelihood import LikelihoodError, example_params
from mlejax.objective import Spec, penalty_at, penalty_derivatives
from mlejax.parameters import Space
from mlejax.shapes import Bool, Device, Either, Float, Host, PyTree
from mlejax.status import CovarianceState
from mlejax.verdict import Verdict

_WIDE, _NARROW = 1e-2, 1e-4  # steps, in standard errors, over which the gradient of a penalty is compared
SMOOTH_LIMIT = 500


@dataclass(frozen=True)
class L2:
    """Half the strength times a sum of squares; made by :func:`l2`."""

    names: tuple[str, ...]
    strength: float | None
    space: Space | None = None

    def __repr__(self) -> str:
        inside = ["" if self.strength is None else f"{self.strength:g}", *(repr(n) for n in self.names)]
        return f"l2({', '.join(part for part in inside if part)})"

    def bind(self, space: Space) -> L2:
        """The same penalty for one model's parameters; unknown addresses raise at once.

        Raises:
            AddressError: no such parameter.
        """
        for name in self.names:
            space.locate(name)
        return replace(self, space=space)

    def __call__(self, params: PyTree, hyper: PyTree = None) -> Device | float:
        """The penalty at ``params``, (); ``hyper`` is the strength if it is given."""
        strength = self.strength if hyper is None else hyper
        if strength is None:
            raise ValueError("l2(None, ...) takes its strength as hyper=: fit(..., hyper=2.0)")
        if self.space is None:
            raise ValueError(
                "l2(...) is not bound to a model: give it as penalty= to fit or solve, or call bind(space)"
            )
        values = self.space.split(params)
        everything = [(i, None) for i in range(len(values))]
        chosen = [at for name in self.names for at in self.space.locate(name)] if self.names else everything
        index: dict[int, set[int]] = {}
        for i, entries in chosen:
            reported = self.space.leaves[i].reported_index
            index.setdefault(i, set()).update(int(j) for j in (reported if entries is None else entries))
        parts = [jnp.sum(jnp.square(jnp.reshape(values[i], (-1,))[np.array(sorted(at))])) for i, at in index.items()]
        return 0.5 * strength * sum(parts)


def l2(strength: float | None, *names: str) -> L2:
    """A quadratic (ridge) penalty, P = strength / 2 * sum of squares: a normal prior of variance 1 / strength.

    Args:
        strength: a number >= 0, on the scale of the summed log-likelihood; None to give it as ``hyper=``.
        *names: addresses of what is penalised, ``"beta"``, ``"beta[age]"``; all parameters by default, natural scale.

    Example:
        >>> import mlejax as mle
        >>> @mle.model(mu=mle.Real())
        ... def shifted(params, data):
        ...     return -0.5 * (data["y"] - params["mu"]) ** 2
        >>> res = shifted.fit({"y": [1.0, 2.0, 6.0]}, penalty=mle.l2(1.5))
        >>> round(float(res.params["mu"]), 9)  # 9 / (3 + 1.5)
        2.0
    """
    if strength is not None:
        if isinstance(strength, (str, bytes)) or np.ndim(strength) or not 0 <= strength <= float_info.max:
            raise ValueError(f"l2: expected a strength >= 0 and then addresses, l2(2.0, 'beta'), got {strength!r:.40}")
        strength = float(strength)
    for name in names:
        if not isinstance(name, str):
            raise TypeError(f"l2: expected addresses such as 'beta', got {name!r}")
    return L2(tuple(names), strength)


def bind_penalty(
    penalty: Callable[..., Any] | None, hyper: PyTree, space: Space
) -> tuple[Callable[..., Any] | None, Any]:
    """Check a penalty and its hyper-parameters, and give them the form that compiled programs take.

    The strength of :func:`l2` becomes the hyper-parameter, so that all strengths share a program.

    Raises:
        TypeError, ValueError: not a function, the wrong number of arguments, no scalar, or hyper without penalty.
        LikelihoodError: it cannot be traced.
    """
    if penalty is None:
        if hyper is not None:
            raise ValueError("hyper= is the second argument of penalty(params, hyper), but there is no penalty=")
        return None, None
    if not callable(penalty):
        raise TypeError(f"penalty= expected a function penalty(params) or mle.l2(strength), got {penalty!r}")
    if isinstance(penalty, L2):
        hyper = penalty.strength if hyper is None else hyper
        if hyper is None:
            raise ValueError("l2(None, ...) takes its strength as hyper=: fit(..., hyper=2.0)")
        penalty = replace(penalty.bind(space), strength=None)
    _check_arguments(penalty, hyper)
    if hyper is not None:
        hyper = jax.tree.map(_number, hyper)
    _check_value(penalty, hyper, space)
    return penalty, hyper


def _number(leaf: Either) -> Either:
    if isinstance(leaf, jax.Array):  # a tracer, too
        return leaf
    array = np.asarray(leaf)
    if array.dtype.kind not in "fiub":
        raise TypeError(f"hyper= expected numbers or arrays of them, got {leaf!r}")
    if not np.isfinite(array).all():
        raise ValueError(f"hyper= expected finite numbers, got {leaf!r}")
    return array.astype(np.float64)


def _check_arguments(penalty: Callable[..., Any], hyper: PyTree) -> None:
    given: tuple[Any, ...] = (None,) if hyper is None else (None, None)
    try:
        inspect.signature(penalty).bind(*given)
    except TypeError as error:
        name = getattr(penalty, "__name__", repr(penalty))
        hint = "give hyper= as well" if hyper is None else "leave out hyper=, which it does not take"
        raise TypeError(
            f"penalty={name}{inspect.signature(penalty)}: expected penalty(params), or penalty(params, hyper) with hyper=; {hint}"
        ) from error
    except ValueError:
        return


def _check_value(penalty: Callable[..., Any], hyper: PyTree, space: Space) -> None:
    name = getattr(penalty, "__name__", repr(penalty))
    arguments = (example_params(space),) if hyper is None else (example_params(space), hyper)
    try:
        out = jax.eval_shape(penalty, *arguments)
    except (jax.errors.TracerArrayConversionError, jax.errors.ConcretizationTypeError) as error:
        raise LikelihoodError(
            f"penalty {name} cannot be traced: use jax.numpy (jnp.abs for np.abs), and jnp.where instead of if.  "
            f"JAX said: {str(error).splitlines()[0]}"
        ) from error
    leaves = jax.tree.leaves(out)
    if len(leaves) != 1 or not hasattr(out, "shape"):
        raise LikelihoodError(f"penalty {name} should return one number, got {type(out).__name__}")
    if out.shape != ():
        raise LikelihoodError(f"penalty {name} should return one number, got shape {out.shape}; sum over the entries")
    if not (jnp.issubdtype(out.dtype, jnp.floating) or jnp.issubdtype(out.dtype, jnp.integer)):
        raise LikelihoodError(f"penalty {name} should return a real number, got {out.dtype}")


# ---- at the estimate


@dataclass(frozen=True, eq=False)
class Penalised:
    """A penalised fit at its estimate.

    Attributes:
        value: the penalty.
        information: minus the Hessian of the penalised log-likelihood in theta (p, p), or None.
        kinks: addresses along which the penalty is not smooth; empty where it is.
        name: of the penalty, for the summary.
    """

    value: float
    information: np.ndarray | None
    kinks: tuple[str, ...]
    name: str


def finite_penalty(spec: Spec, u: Float[Host, " p"], fixed: Either | None, hyper: PyTree) -> bool:
    """Whether the penalty and its first two derivatives in u are finite."""
    return all(bool(jnp.isfinite(a).all()) for a in penalty_derivatives(spec, u, fixed, hyper))


@partial(compiled, static=("spec",))
def _gradients(spec: Spec, theta: Float[Any, "m p"], fixed: Either | None, hyper: PyTree) -> Float[Device, "m p"]:
    """Gradients of the penalty in theta at many points."""
    gradient = jax.grad(lambda t: penalty_at(spec, spec.space.params_from_theta(t, fixed), hyper))
    return jax.lax.map(gradient, theta, batch_size=min(64, lapack.side_by_side(theta.shape[1])))


def kinks(
    spec: Spec,
    theta: Float[Host, " p"],
    information: Float[Host, "p p"],
    interior: Bool[Host, " p"],
    fixed: Either | None,
    hyper: PyTree,
) -> tuple[str, ...]:
    """Addresses along which the gradient of the penalty jumps at theta by enough to change the standard errors.

    Args:
        spec, fixed, hyper: the problem.
        theta: the estimate, free natural coordinates.
        information: of the log-likelihood alone: the penalty's own curvature next to a kink has no bound.
        interior: coordinates away from the edges of their supports.
    """
    p = theta.size
    if p > SMOOTH_LIMIT:
        return ()
    diagonal = np.diag(information)
    usable = np.isfinite(diagonal) & (diagonal > 0)
    size = np.where(usable, 1.0 / np.sqrt(np.where(usable, diagonal, 1.0)), np.maximum(1.0, np.abs(theta)))
    along = np.flatnonzero(interior)
    if not along.size:
        return ()
    steps = np.zeros((along.size, p))
    steps[np.arange(along.size), along] = size[along]
    points = np.concatenate([theta + s * h * steps for h in (_WIDE, _NARROW) for s in (1.0, -1.0)])
    padded = np.concatenate([points, np.broadcast_to(theta, (4 * p - len(points), p))])
    found = np.asarray(_gradients(spec, padded, fixed, hyper))[: len(points)].reshape(2, 2, along.size, p) * size
    wide, narrow = np.abs(found[:, 0] - found[:, 1])
    with np.errstate(invalid="ignore"):
        jumps = ~np.isfinite(wide + narrow) | ((narrow > 0.1 * wide) & (narrow > 1e-4))
    return tuple(spec.space.theta_labels[j] for j, bad in zip(along, jumps.any(axis=1), strict=True) if bad)


def at_kink(verdict: Verdict, penalised: Penalised) -> Verdict:
    """The verdict on a search that stopped where the penalty has a kink: the score cannot vanish there."""
    if verdict.converged or not penalised.kinks or verdict.code == "not_computable":
        return verdict
    where = ", ".join(penalised.kinks[:6]) + (", ..." if len(penalised.kinks) > 6 else "")
    statement = (
        f"the search ended where the penalty has a kink along {where}: the score does not vanish there, so that it cannot "
        "show whether this is the maximum"
    )
    return replace(verdict, code="stopped_early", statement=statement, advice=CovarianceState.PENALTY_NOT_SMOOTH.advice)
