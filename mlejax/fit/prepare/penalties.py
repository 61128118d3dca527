r"""Penalties: declaration, checks, derivatives, and whether they are smooth at the estimate.

A fit maximises l(params) - P(params), natural scale, summed (not divided by n).  At the estimate the score of l is not 0 but
the gradient of P, so that the information I of l in natural coordinates is taken from the derivatives of l itself.

A penalty with a kink at the estimate (the absolute value at 0) has no curvature there, and standard errors from it would have no
meaning.  Kinks are found by the change of the gradient over a small and a smaller step: at a kink it stays the same, on a smooth
curve it shrinks with the step.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from sys import float_info
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from mlejax.execution import compiled, lapack
from mlejax.likelihood import LikelihoodError, example_params
from mlejax.misuse import door
from mlejax.objective import Spec, penalty_at, penalty_derivatives
from mlejax.parameters import Space
from mlejax.shapes import Bool, Device, Either, Float, Host, PyTree
from mlejax.status import CovarianceState
from mlejax.verdict import Verdict

_WIDE, _NARROW = 1e-2, 1e-4  # steps, in standard errors, over which the gradient of a penalty is compared
SMOOTH_LIMIT = 500


@dataclass(frozen=True)
class L2:
    """The penalty ``strength / 2 * sum of squares``, made by :func:`l2`.

    Attributes:
        names: names of the penalised parameters or entries; empty for all.
        strength: the strength, or None if it is given as ``hyper=``.
        space: layout of the parameters, once bound to a model.
    """

    names: tuple[str, ...]
    strength: float | None
    space: Space | None = None

    def __repr__(self) -> str:
        inside = ["" if self.strength is None else f"{self.strength:g}", *(repr(n) for n in self.names)]
        return f"l2({', '.join(part for part in inside if part)})"

    def bind(self, space: Space) -> L2:
        """Return the same penalty bound to the parameters of one model.

        Raises:
            AddressError: a name that is not a parameter of the model.
        """
        for name in self.names:
            space.locate(name)
        return replace(self, space=space)

    def __call__(self, params: PyTree, hyper: PyTree = None) -> Device | float:
        """Evaluate the penalty at ``params``, natural scale, (); ``hyper``, if given, is the strength.

        Of each pair of equal entries of a symmetric matrix one counts.

        Raises:
            ValueError: no strength, or not bound to a model.
        """
        strength = self.strength if hyper is None else hyper
        if strength is None:
            raise ValueError("l2(None, ...) has no strength: give it as hyper=, fit(..., hyper=2.0)")
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


@door
def l2(strength: float | None, *names: str) -> L2:
    """Return a quadratic (ridge) penalty, P = strength / 2 * sum of squares: a normal prior of variance 1 / strength.

    Args:
        strength: a number >= 0, on the scale of the summed log-likelihood; None to give it as ``hyper=``.
        *names: names of the parameters or entries to penalise, ``"beta"``, ``"beta[age]"``, on the natural scale; default all.

    Returns:
        The penalty, for ``penalty=``; a name that the model does not have raises an AddressError there.

    Raises:
        ValueError: the strength is not a finite number >= 0.
        TypeError: a name is not a string.

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
            raise ValueError(f"l2: expected a strength >= 0, then names of parameters, l2(2.0, 'beta'), got {strength!r:.40}")
        strength = float(strength)
    for name in names:
        if not isinstance(name, str):
            raise TypeError(f"l2: expected names of parameters such as 'beta', got {name!r}")
    return L2(tuple(names), strength)


def bind_penalty(
    penalty: Callable[..., Any] | None, hyper: PyTree, space: Space
) -> tuple[Callable[..., Any] | None, Any]:
    """Check a penalty and its hyper-parameters, and convert them to the form that compiled programs take.

    The strength of :func:`l2` becomes the hyper-parameter, so that all strengths share a program.

    Args:
        penalty: the user's function, or None.
        hyper: its second argument, or None.
        space: layout of the parameters.

    Returns:
        The penalty and its hyper-parameters, in arrays; None for what is not given.

    Raises:
        TypeError, ValueError: not a function, the wrong number of arguments, hyper without penalty, ``l2`` without a strength,
            or hyper-parameters that are not finite numbers.
        AddressError: ``l2`` names a parameter that the model does not have.
        LikelihoodError: it cannot be traced, or does not return one real number.
        Exception: other errors of the penalty, unchanged.
    """
    if penalty is None:
        if hyper is not None:
            raise ValueError("hyper= is the second argument of penalty(params, hyper): give penalty= too, or leave hyper= out")
        return None, None
    if not callable(penalty):
        raise TypeError(f"penalty= expected a function penalty(params) or mle.l2(strength), got {penalty!r}")
    if isinstance(penalty, L2):
        hyper = penalty.strength if hyper is None else hyper
        if hyper is None:
            raise ValueError("l2(None, ...) has no strength: give it as hyper=, fit(..., hyper=2.0)")
        penalty = replace(penalty.bind(space), strength=None)
    _check_arguments(penalty, hyper)
    if hyper is not None:
        hyper = jax.tree.map(_number, hyper)
    _check_value(penalty, hyper, space)
    return penalty, hyper


def _number(leaf: object) -> Either:
    """Return a hyper-parameter as a float64 array (tracers and JAX arrays unchanged); TypeError or ValueError if it is not made
    of finite numbers.
    """
    if isinstance(leaf, jax.Array):  # a tracer, too
        return leaf
    array = np.asarray(leaf)
    if array.dtype.kind not in "fiub":
        raise TypeError(f"hyper= expected numbers or arrays of them, got {leaf!r}")
    if not np.isfinite(array).all():
        raise ValueError(f"hyper= expected finite numbers, got {leaf!r}")
    return array.astype(np.float64)


def _check_arguments(penalty: Callable[..., Any], hyper: PyTree) -> None:
    """Raise TypeError unless the penalty takes (params), or (params, hyper) if hyper is given; unknown signatures pass."""
    given: tuple[Any, ...] = (None,) if hyper is None else (None, None)
    other: tuple[Any, ...] = (None, None) if hyper is None else (None,)
    try:
        inspect.signature(penalty).bind(*given)
    except TypeError as error:
        name, hint = getattr(penalty, "__name__", repr(penalty)), "change its arguments"
        with suppress(TypeError):
            inspect.signature(penalty).bind(*other)
            hint = "give hyper= as well" if hyper is None else "leave out hyper=, which it does not take"
        raise TypeError(
            f"penalty={name}{inspect.signature(penalty)}: expected penalty(params), or penalty(params, hyper) with hyper=; {hint}"
        ) from error
    except ValueError:
        return


def _check_value(penalty: Callable[..., Any], hyper: PyTree, space: Space) -> None:
    """Raise LikelihoodError unless the penalty can be traced and returns one real number; ``hyper``: its second argument, or
    None.
    """
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
        raise LikelihoodError(
            f"penalty {name} should return a real number (floating-point or integer), got dtype {out.dtype}"
        )


# ---- at the estimate


@dataclass(frozen=True, eq=False)
class Penalised:
    """The penalty at the estimate of a penalised fit.

    Attributes:
        value: value of the penalty, ().
        information: minus the Hessian of the penalised log-likelihood with respect to theta, (p, p); None without second
            derivatives.
        kinks: names of the parameters in which the penalty is not smooth at the estimate; empty if it is smooth.
        name: name of the penalty, for the summary.
    """

    value: float
    information: np.ndarray | None
    kinks: tuple[str, ...]
    name: str


def finite_penalty(spec: Spec, u: Float[Host, " p"], fixed: Either | None, hyper: PyTree) -> bool:
    """True if the penalty and its first two derivatives with respect to u are finite at u, (p,)."""
    return all(bool(jnp.isfinite(a).all()) for a in penalty_derivatives(spec, u, fixed, hyper))


@partial(compiled, static=("spec",))
def _gradients(spec: Spec, theta: Float[Any, "m p"], fixed: Either | None, hyper: PyTree) -> Float[Device, "m p"]:
    """Return the gradients of the penalty with respect to theta at m points, (m, p)."""
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
    """Return the names of the parameters in which the gradient of the penalty jumps at theta or is not finite, so that the
    penalty has no curvature there.

    Args:
        spec, fixed, hyper: specification, fixed values, and hyper-parameters of the penalty.
        theta: the estimate, free parameters on the natural scale, (p,).
        information: information of the log-likelihood without the penalty, (p, p), which scales the steps.
        interior: mask of the parameters that are not at a bound of their support, (p,).

    Returns:
        The names; empty for more than 500 parameters, which are not checked.
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
    """Change a verdict that is not a maximum to say that the search stopped at a kink of the penalty, if it did.

    Unchanged for "not_computable", and without ``penalised.kinks``.
    """
    if verdict.converged or not penalised.kinks or verdict.code == "not_computable":
        return verdict
    where = ", ".join(penalised.kinks[:6]) + (", ..." if len(penalised.kinks) > 6 else "")
    statement = (
        f"the search stopped where the penalty has a kink in {where}: the score does not vanish there, so that it cannot "
        "show whether this is the maximum"
    )
    return verdict.amended("stopped_early", statement, CovarianceState.PENALTY_NOT_SMOOTH.advice)
