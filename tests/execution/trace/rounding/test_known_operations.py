"""Densities of JAX have bounds of their rounding: every operation that they trace to is known."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import jax.scipy.stats
import mpmath as mp
import numpy as np
import pytest
from jax import lax

from mlejax.execution.trace.rounding.adjoint_rounding import AdjointBound
from mlejax.execution.trace.rounding.forward_rounding import RunningBound, bound

X = np.array([0.2, 0.3, 0.4, 0.6])
ARGUMENTS: dict[str, dict[str, Any]] = {
    "dirichlet": {"x": np.array([0.4, 0.6]), "alpha": np.array([1.0, 2.0])},
    "multinomial": {"x": np.array([1, 2]), "n": np.array(3), "p": np.array([0.4, 0.6])},
    "multivariate_normal": {"x": np.ones((3, 2)), "mean": np.zeros(2), "cov": np.eye(2)},
}
FACTORISED = {"cholesky", "triangular_solve", "empty2"}  # these have adjoint bounds
WITHOUT_DERIVATIVE = {"beta.logcdf", "beta.logsf", "gumbel_l.logpdf", "gumbel_r.logpdf"}  # JAX raises


def functions() -> list[str]:
    laws = (name for name in dir(jax.scipy.stats) if not name.startswith("_") and name != "gaussian_kde")
    kinds = ("logpdf", "logpmf", "logcdf", "logsf")
    found = [f"{law}.{kind}" for law in laws for kind in kinds if hasattr(getattr(jax.scipy.stats, law), kind)]
    return [name for name in found if name not in WITHOUT_DERIVATIVE]


def traced(function: Callable[..., Any], arguments: list[Any]) -> tuple[Any, Any]:
    """The closed jaxprs of the sum of a function, and of that sum with its gradient in all arguments that are floats."""
    floats = [i for i, a in enumerate(arguments) if a.dtype.kind == "f"]
    total = lambda *a: jnp.sum(function(*a))
    with jax.enable_x64(True):
        return jax.make_jaxpr(total)(*arguments), jax.make_jaxpr(jax.value_and_grad(total, floats))(*arguments)


@pytest.mark.parametrize("name", functions())
def test_all_operations_of_a_density_are_known(name: str) -> None:
    law, kind = name.split(".")
    function = getattr(getattr(jax.scipy.stats, law), kind)
    given = ARGUMENTS.get(law, {})
    names = [p for p in inspect.signature(function).parameters if p != "allow_singular"]
    arguments = [given.get(p, X) for p in names]
    value, both = traced(function, arguments)
    assert AdjointBound(value).unknown == ()
    assert set(RunningBound(both).unknown) <= (FACTORISED if law == "multivariate_normal" else set())


def test_all_operations_of_activations_are_known() -> None:
    names = ("celu", "elu", "gelu", "leaky_relu", "log_sigmoid", "log_softmax", "logsumexp", "mish", "relu", "relu6", "selu")
    names += ("sigmoid", "silu", "soft_sign", "softmax", "softplus", "squareplus", "standardize", "hard_tanh", "hard_sigmoid")
    value, both = traced(lambda x: sum(jnp.sum(getattr(jax.nn, name)(x)) for name in names), [X])
    assert AdjointBound(value).unknown == RunningBound(both).unknown == ()


def test_rounding_to_whole_numbers_is_exact() -> None:
    x = np.array([-2.5, -0.5, 0.4, 0.5, 1.5, 2.5, 7.0])
    for method in lax.RoundingMethod:
        function = partial(lax.round, rounding_method=method)
        with jax.enable_x64(True):
            result, right = bound(jax.make_jaxpr(function)(x), [x]), np.asarray(function(x))
        assert np.array_equal(result.outputs[0], right)
        assert not result.bounds[0].any()


@pytest.mark.parametrize("name", ["igamma", "igammac", "igamma_grad_a"])
def test_bounds_of_incomplete_gamma_functions_hold(name: str) -> None:
    """Against 30 digits of mpmath; a and x are either exact, or off by the rounding of a first step."""
    rng = np.random.default_rng(3)
    a = np.exp(rng.uniform(np.log(0.02), np.log(500.0 if name != "igamma_grad_a" else 50.0), 12))
    x = a * np.exp(rng.normal(0.0, 1.0, 12) * np.minimum(1.0, 3.0 / np.sqrt(a)))
    sizes = np.full(12, 1e5)

    def shifted(a: Any, x: Any, far: Any) -> Any:
        return getattr(lax, name)((a + far) - far, (x + far) - far)

    def right(a: float, x: float) -> mp.mpf:
        if name == "igamma_grad_a":
            return mp.diff(lambda s: mp.gammainc(s, 0, x, regularized=True), a)
        return mp.gammainc(a, *((0, x) if name == "igamma" else (x, mp.inf)), regularized=True)

    with mp.workdps(30):
        truth = [right(mp.mpf(s), mp.mpf(t)) for s, t in zip(a.tolist(), x.tolist(), strict=True)]
    for far, most in ((0.0 * sizes, 1e3), (sizes, 1e5)):
        with jax.enable_x64(True):
            computed = np.asarray(shifted(a, x, far)).tolist()
            bars = bound(jax.make_jaxpr(shifted)(a, x, far), [a, x, far]).bounds[0]
        with mp.workdps(30):
            errors = np.array([abs(float(mp.mpf(c) - t)) for c, t in zip(computed, truth, strict=True)])
        assert np.all(errors <= bars)
        assert np.max(bars) <= most * np.max(errors)


def _slope(function: Callable[[Any], Any]) -> Callable[[Any], Any]:
    return lambda x: jax.jvp(function, (x,), (jnp.ones_like(x),))[1]


POINTS = np.linspace(0.3, 3.2, 12)
# of several operations, which are others in JAX 0.12: polynomials, the upper halves of numbers, logarithms to base 2
SEVERAL: dict[str, tuple[Callable[[Any], Any], Callable[[mp.mpf], mp.mpf]]] = {
    "slope of erf": (_slope(jax.scipy.special.erf), lambda x: 2 / mp.sqrt(mp.pi) * mp.exp(-x * x)),
    "slope of erfc": (_slope(jax.scipy.special.erfc), lambda x: -2 / mp.sqrt(mp.pi) * mp.exp(-x * x)),
    "sinc": (jnp.sinc, mp.sincpi),
    "slope of log2": (_slope(jnp.log2), lambda x: 1 / (x * mp.log(2))),
    "polyval": (lambda x: jnp.polyval(jnp.array([1.0, -5.0, 9.0, -7.0, 2.0]), x), lambda x: (x - 1) ** 3 * (x - 2)),
    "ndtri": (lambda x: jax.scipy.special.ndtri(x / 4), lambda x: mp.sqrt(2) * mp.erfinv(x / 2 - 1)),
}


@pytest.mark.parametrize("name", SEVERAL)
def test_bounds_of_functions_of_several_operations_hold(name: str) -> None:
    """Against 40 digits of mpmath; x is either exact, or off by the rounding of a first step."""
    function, right = SEVERAL[name]
    shifted = lambda x, far: function((x + far) - far)
    with mp.workdps(40):
        truth = [right(mp.mpf(x)) for x in POINTS.tolist()]
    for far in np.zeros(12), np.full(12, 1e5):
        with jax.enable_x64(True):
            computed = np.asarray(shifted(POINTS, far)).tolist()
            forwards = bound(jax.make_jaxpr(shifted)(POINTS, far), [POINTS, far])
            backwards = AdjointBound(jax.make_jaxpr(shifted)(POINTS[0], far[0]))
            bars = [np.array([backwards([x, far[0]])[1] for x in POINTS])]
        assert backwards.unknown == ()
        if name in ("polyval", "ndtri") and forwards.unknown == ("scan",):  # before JAX 0.12
            continue
        assert forwards.unknown == ()
        errors = np.array([abs(float(mp.mpf(c) - t)) for c, t in zip(computed, truth, strict=True)])
        for bar in (*bars, forwards.bounds[0]):
            assert np.all(errors <= bar)
            assert np.max(bar) <= 100.0 * np.max(errors)
