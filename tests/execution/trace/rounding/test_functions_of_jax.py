"""Bounds of the rounding of every function of one or two real arguments that JAX has: known or named as unknown, no exception."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import jax.scipy.special as jsp
import numpy as np
import pytest
from scipy.optimize import minimize_scalar
from scipy.special import expn

import mlejax as mle
from mlejax.execution.trace.rounding.adjoint_rounding import AdjointBound
from mlejax.execution.trace.rounding.forward_rounding import LEAKED, RunningBound

X = np.linspace(0.2, 0.8, 6)
AT = np.array([0.9, 0.4])
FURTHER: dict[str, Callable[..., Any]] = {
    "bessel_jn": lambda a, b: jsp.bessel_jn(b, v=2),
    "expn": lambda a, b: jsp.expn(2, b),
    "hyp1f1": lambda a, b: jsp.hyp1f1(a, b, 0.3),
    "hyp2f1": lambda a, b: jsp.hyp2f1(a, b, 1.5, 0.3),
    "betainc": lambda a, b: jsp.betainc(1.3, 2.1, a),
    "zeta": lambda a, b: jsp.zeta(b + 1.5, a),
    "polygamma": lambda a, b: jsp.polygamma(2, b),
    "multigammaln": lambda a, b: jsp.multigammaln(b + 3.0, 2),
    "logsumexp": lambda a, b: jsp.logsumexp(jnp.stack([a, b]), 0),
    "einsum": lambda a, b: jnp.einsum("i,i->", a, b),
    "sort": lambda a, b: jnp.sort(a * b),
    "quantile": lambda a, b: jnp.quantile(a, 0.3),
}


def real(out: Any) -> Any:
    """The sum of the real arrays in a result; None if there is none."""
    leaves = [leaf for leaf in jax.tree.leaves(out) if jnp.issubdtype(jnp.result_type(leaf), jnp.inexact)]
    return sum(jnp.sum(jnp.real(leaf)) for leaf in leaves) if leaves else None


def functions(room: Any) -> dict[str, Callable[..., Any]]:
    """The functions of a module that take one or two arrays and return arrays, as functions of two arrays."""
    found = {}
    for name in sorted(n for n in dir(room) if not n.startswith("_") and "print" not in n and "load" not in n):
        function = getattr(room, name)
        if not callable(function) or inspect.isclass(function):
            continue
        for form in (lambda a, b, f=function: f(a), lambda a, b, f=function: f(a, b)):
            try:
                total = jax.eval_shape(lambda u, form=form: real(form(u[0] * X, u[1] + X)), AT)
            except Exception:  # not a function of such arguments
                continue
            if total is not None:
                found[f"{room.__name__}.{name}"] = form
    return found


def bounded(function: Callable[..., Any]) -> None:
    def total(u: Any) -> Any:
        return real(function(u[0] * X, u[1] + X))

    for order, made in enumerate((total, jax.grad(total), jax.hessian(total))):
        try:
            program = jax.make_jaxpr(made)(AT)
        except (NotImplementedError, ValueError, TypeError):  # JAX has no such derivative
            return
        bound = RunningBound(program, X.size)
        if not bound.unknown:
            assert np.isfinite(bound([AT]).outputs[0]).all() or not np.isfinite(made(AT)).all()
        if order == 0:
            carried = AdjointBound(program, X.size)
            if not carried.unknown:
                value, error = carried([AT], None)
                rounding = 2.0 * error if np.isfinite(error) else 0.0  # some sums cancel: each of the two within the bound
                np.testing.assert_allclose(value, made(AT), rtol=1e-9, atol=min(rounding, 1e-13))


@pytest.mark.slow
@pytest.mark.parametrize("room", [jsp, jax.nn, jnp], ids=lambda room: room.__name__)
def test_no_function_of_jax_fails_inside_the_bound(room: Any) -> None:
    with jax.enable_x64(True):
        found = functions(room)
        assert len(found) > 20
        for function in found.values():
            bounded(function)


@pytest.mark.parametrize("name", FURTHER)
def test_functions_of_other_arguments_do_not_fail_either(name: str) -> None:
    with jax.enable_x64(True):
        bounded(FURTHER[name])


def test_a_value_of_another_trace_is_named() -> None:
    """JAX 0.10's second derivative of expn keeps one, and cannot be run; here one is put in."""
    left: list[Any] = []
    with jax.enable_x64(True):
        jax.make_jaxpr(lambda x: left.append(x) or x)(X)
        program = jax.make_jaxpr(lambda u: jnp.sum(u[0] * jnp.asarray(X)))(AT)
        assert RunningBound(program).unknown == ()
        assert len(program.consts) == 1
        assert RunningBound(program.replace(consts=left)).unknown == (LEAKED,)


def test_a_likelihood_whose_second_derivative_cannot_be_run_is_fitted() -> None:
    y = np.random.default_rng(0).exponential(size=60)

    @mle.model(a=mle.Interval(0.2, 4.0))
    def model(params: Any, data: Any) -> Any:
        a = params["a"]
        return jnp.log(a) - a * data["y"] + 0.1 * jnp.log(jsp.expn(2, a * (data["y"] + 0.1)))

    def minus(a: float) -> float:
        return -float(np.sum(np.log(a) - a * y + 0.1 * np.log(expn(2, a * (y + 0.1)))))

    truth = minimize_scalar(minus, bounds=(0.2, 4.0), method="bounded", options={"xatol": 1e-9})
    res = model.fit({"y": y})
    assert res.verdict.code == "verified"
    assert res.llf == pytest.approx(-truth.fun, abs=1e-6)
    assert res.params["a"] == pytest.approx(truth.x, abs=1e-5)
