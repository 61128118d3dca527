"""Small problems with solutions known in closed form, as objectives."""

import functools
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
    edges = tuple(None if edge is None else tuple(edge) for edge in (lower, upper))
    with jax.enable_x64(True):
        carry = begin(method, np.asarray(u0, np.float64), lower, upper)
        return jax.tree.map(np.asarray, _program(method, objective, edges)(carry, np.float64(scale), np.int32(turns)))


@functools.lru_cache(maxsize=32)
def _program(method: Any, objective: Any, edges: tuple[Any, Any]) -> Callable[..., Carry]:
    """Compiled once for all starts of the same method and objective."""
    lower, upper = (None if edge is None else np.array(edge) for edge in edges)
    return jax.jit(lambda carry, scale, turns: advance(method, objective, carry, lower, upper, scale, turns))


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
