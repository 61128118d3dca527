"""Small problems with solutions known in closed form, as objectives."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from mlejax.optimize import Carry, advance, begin


@dataclass(frozen=True)
class Plain:
    """An objective from a function of u; the outer products are those of `terms`, whose mean is f."""

    function: Callable[[Any], Any]
    terms: Callable[[Any], Any] | None = None

    def value(self, u: Any) -> Any:
        return self.function(u)

    def value_and_grad(self, u: Any) -> Any:
        return jax.value_and_grad(self.function)(u)

    def with_hessian(self, u: Any) -> Any:
        return self.function(u), jax.grad(self.function)(u), jax.hessian(self.function)(u)

    def with_opg(self, u: Any) -> Any:
        assert self.terms is not None
        scores = jax.jacfwd(self.terms)(u)
        return self.function(u), jax.grad(self.function)(u), scores.T @ scores / scores.shape[0]


def terms_objective(terms: Callable[[Any], Any]) -> Plain:
    """The objective that is the mean of `terms`."""
    return Plain(lambda u: jnp.mean(terms(u)), terms)


def run(
    method: Any, objective: Any, u0: Any, lower: Any = None, upper: Any = None, scale: float = 1.0, turns: int = 100_000
) -> Carry:
    """One whole optimisation in float64, as NumPy."""
    with jax.enable_x64(True):
        u0 = np.asarray(u0, np.float64)
        carry = begin(method, u0, lower, upper)
        carry = jax.jit(lambda c: advance(method, objective, c, lower, upper, scale, turns))(carry)
        return jax.tree.map(np.asarray, carry)


# Poisson counts and a covariate, made once; the estimates that tests compare with come from closed forms.
_rng = np.random.default_rng(20)
X = np.column_stack([np.ones(200), _rng.normal(size=200)])
Y = _rng.poisson(np.exp(X @ np.array([0.5, 0.7]))).astype(float)
GROUP = (np.arange(200) % 2).astype(float)


def poisson_groups(u: Any) -> Any:
    """Minus log-likelihood (without constants) of counts with a mean per group; the estimates are log group means."""
    eta = jnp.where(GROUP == 1.0, u[1], u[0])
    return jnp.exp(eta) - Y * eta


POISSON_GROUPS = np.log([Y[GROUP == 0].mean(), Y[GROUP == 1].mean()])


def rosenbrock(u: Any) -> Any:
    """The banana valley, minimum 0 at (1, 1)."""
    return 100.0 * (u[1] - u[0] ** 2) ** 2 + (1.0 - u[0]) ** 2
