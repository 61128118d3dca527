"""What is maximised: a model, its parameter space, and the penalty or bias reduction; the penalty with its derivatives."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property, partial
from typing import Any

import jax.numpy as jnp

from mlejax.execution import compiled
from mlejax.likelihood import Likelihood
from mlejax.objective import derivatives
from mlejax.objective.bias_reduction import BiasReduction
from mlejax.parameters import Space
from mlejax.portable import reduced
from mlejax.shapes import Device, Either, Float, PyTree, Reduced

Minimised = tuple[Float[Device, ""], Float[Device, " p"], Float[Device, "p p"]]


@dataclass(frozen=True)
class Spec:
    """The specification of an objective that is fixed at compilation.

    Attributes:
        likelihood: the user's model.
        space: the parameter space.
        penalty: ``penalty(params)`` or ``penalty(params, hyper)``, or None.
        hessian: ``"autodiff"``, or ``"differenced"`` if JAX has no second derivative, or one that is inaccurate or not finite.
        reduction: the kind of bias reduction, or None.
    """

    likelihood: Likelihood
    space: Space
    penalty: Callable[..., Any] | None = None
    hessian: str = "autodiff"
    reduction: BiasReduction | None = None

    def __hash__(self) -> int:
        return self._hash

    @cached_property
    def _hash(self) -> int:
        return hash((self.likelihood, self.space, self.penalty, self.hessian, self.reduction))

    def __reduce__(self) -> Reduced:
        return reduced(self, "penalty")

    @property
    def plain(self) -> Spec:
        """The specification without penalty and bias reduction."""
        return replace(self, penalty=None, reduction=None)

    @property
    def adjusted(self) -> bool:
        """True if a penalty or a bias-reduction term is subtracted from the log-likelihood."""
        return self.penalty is not None or self.reduction is not None


def penalty_at(spec: Spec, params: PyTree, hyper: PyTree) -> Float[Device, ""]:
    """Return the penalty of a specification that has one at parameters in the user's structure (); ``hyper``: its second
    argument, None if it takes one argument.
    """
    assert spec.penalty is not None
    return jnp.asarray(spec.penalty(params) if hyper is None else spec.penalty(params, hyper), jnp.result_type(float))


@partial(compiled, static=("spec",))
def penalty_value(spec: Spec, u: Float[Either, " p"], fixed: Either | None, hyper: PyTree) -> Float[Device, ""]:
    """Return the penalty of a specification that has one at u (); ``fixed``: values under ``fixed=``, or None; ``hyper``: its
    second argument, None if it takes one argument.
    """
    return penalty_at(spec, spec.space.params_from_u(u, fixed), hyper)


@partial(compiled, static=("spec",))
def penalty_derivatives(spec: Spec, u: Float[Either, " p"], fixed: Either | None, hyper: PyTree) -> Minimised:
    """Return the penalty of a specification that has one (), its gradient (p,) and its Hessian (p, p) in u; ``fixed``: values
    under ``fixed=``, or None; ``hyper``: its second argument, None if it takes one argument.
    """
    return derivatives.value_grad_hessian(lambda t: penalty_at(spec, spec.space.params_from_u(t, fixed), hyper), u)
