"""Bounds of rounding hold against sixty digits and more, and stay near the true error."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any

import jax
import jax.numpy as jnp
import mpmath as mp
import numpy as np
import pytest
from jax import lax
from jax.scipy import special

from mlejax.execution.trace.rounding.forward_rounding import RunningBound, bound
from mlejax.objective.derivatives import value_grad_hessian

DIGITS = 140
_rng = np.random.default_rng(11)
COUNTS = _rng.poisson(2.0, 200).astype(float)
NORMALS = _rng.standard_normal(200)
MU = 2.125


def traced(function: Callable[..., Any], *arguments: Any) -> Any:
    with jax.enable_x64(True):
        return jax.make_jaxpr(function)(*arguments)


def nb2(alpha: Any, y: Any) -> Any:
    r = 1.0 / alpha
    terms = special.gammaln(y + r) - special.gammaln(r) - special.gammaln(y + 1.0)
    return jnp.sum(terms + r * jnp.log(r / (r + MU)) + y * jnp.log(MU / (r + MU)))


def student(nu: Any, z: Any) -> Any:
    scale = special.gammaln(0.5 * (nu + 1.0)) - special.gammaln(0.5 * nu) - 0.5 * jnp.log(nu * jnp.pi)
    return jnp.sum(scale - 0.5 * (nu + 1.0) * jnp.log(1.0 + z**2 / nu))


def nb2_truth(alpha: float) -> tuple[mp.mpf, mp.mpf, mp.mpf]:
    with mp.workdps(DIGITS):
        r, mu, total = 1 / mp.mpf(alpha), mp.mpf(MU), mp.matrix([0, 0, 0])
        values, numbers = np.unique(COUNTS, return_counts=True)
        for y, n in zip(values.tolist(), numbers.tolist(), strict=True):
            # gamma functions at y + r by their recurrence: y is a whole number
            steps = [r + k for k in range(int(y))]
            gammas = mp.fsum(map(mp.log, steps)), mp.fsum(1 / s for s in steps), -mp.fsum(1 / s**2 for s in steps)
            value = gammas[0] - mp.loggamma(y + 1) + r * mp.log(r / (r + mu)) + y * mp.log(mu / (r + mu))
            slope = gammas[1] + mp.log(r / (r + mu)) + 1 - (r + y) / (r + mu)
            bend = gammas[2] + 1 / r - 1 / (r + mu) - (mu - y) / (r + mu) ** 2
            total += n * mp.matrix([value, -(r**2) * slope, r**4 * bend + 2 * r**3 * slope])
        return total[0], total[1], total[2]


def student_truth(nu: float) -> tuple[mp.mpf, mp.mpf, mp.mpf]:
    with mp.workdps(DIGITS):
        v, n = mp.mpf(nu), len(NORMALS)
        half = mp.mpf(1) / 2
        scale = mp.loggamma((v + 1) / 2) - mp.loggamma(v / 2) - half * mp.log(v * mp.pi)
        slope = half * (mp.digamma((v + 1) / 2) - mp.digamma(v / 2) - 1 / v)
        bend = (mp.polygamma(1, (v + 1) / 2) - mp.polygamma(1, v / 2)) / 4 + half / v**2
        total = mp.matrix([n * scale, n * slope, n * bend])
        for z in NORMALS.tolist():
            s = mp.mpf(z) ** 2
            total[0] -= half * (v + 1) * mp.log(1 + s / v)
            ratio = s / (v * (v + s))  # minus the derivative of log(1 + s/v)
            total[1] += -half * mp.log(1 + s / v) + half * (v + 1) * ratio
            total[2] += ratio - half * (v + 1) * s * (2 * v + s) / (v * (v + s)) ** 2
        return total[0], total[1], total[2]


@lru_cache
def program(function: Callable[[Any, Any], Any]) -> tuple[Callable[..., Any], RunningBound]:
    def derivatives(t: Any, data: Any) -> Any:
        return value_grad_hessian(lambda t: function(t[0], data), t)

    data = COUNTS if function is nb2 else NORMALS
    return jax.jit(derivatives), RunningBound(traced(derivatives, np.ones(1), data), len(data))


CASES = [(nb2, COUNTS, nb2_truth, a) for a in (1e-1, 1e-3, 1e-5, 1e-7, 1e-9, 1e-12)]
CASES += [(student, NORMALS, student_truth, v) for v in (3.0, 1e2, 1e4, 1e6, 1e8, 1e12, 1e16)]


@pytest.mark.parametrize(("function", "data", "truth", "at"), CASES)
def test_value_score_and_curvature_lie_within_their_bars(function: Any, data: Any, truth: Any, at: float) -> None:
    """Negative binomial near the Poisson, Student t near the normal: also where no digit is left."""
    compiled, running = program(function)
    errors, bars = np.zeros((4, 3)), np.zeros((4, 3))
    for i, factor in enumerate((1.0, 1.1, 1.37, 1.7)):  # one error alone may be small by chance
        point = np.array([factor * at])
        with jax.enable_x64(True):
            computed = [float(np.ravel(c)[0]) for c in compiled(point, data)]
        bars[i] = [float(np.ravel(b)[0]) for b in running([point, data]).bounds]
        with mp.workdps(DIGITS):
            errors[i] = [abs(float(mp.mpf(c) - t)) for c, t in zip(computed, truth(float(point[0])), strict=True)]
    assert np.all(errors <= bars)
    near = np.max(bars, axis=0) <= 1000.0 * np.max(errors, axis=0)
    # the derivatives of a Student t with more degrees of freedom are computed as 0, which is right to 1e-16
    assert np.all(near if function is nb2 or at < 1e8 else near[0])


# ---- each operation


def elementwise(x: Any) -> Any:
    y = jnp.abs(x) + 0.5
    small = 0.4 * jnp.tanh(x)
    return (
        jnp.sin(x) * jnp.cos(y) + jnp.tan(small) + jnp.arcsin(small) + jnp.arccos(small) + jnp.arctan2(x, y)
        + jnp.sinh(small) + jnp.cosh(small) + jnp.arctanh(small) + jnp.arcsinh(x) + jnp.arccosh(1.0 + y)
        + jnp.expm1(x) + jnp.log1p(y) + jnp.sqrt(y) + lax.rsqrt(y) + jnp.cbrt(y) + special.erf(x) + special.erfc(x)
        + lax.erf_inv(small) + special.digamma(y) + special.polygamma(1, y) + special.polygamma(2, y) + jnp.exp2(x)
        + y**2.5 + y**-3 + jax.nn.sigmoid(x) + jnp.clip(x, -0.5, 0.5) + jnp.maximum(x, y) + jnp.minimum(x, y)
        + jnp.where(x > 0, x, -y) + jnp.sign(x) * jnp.floor(y) + special.gammaln(y) + jnp.arctan(x)
        + special.i0e(x) + special.i1e(x)
    )  # fmt: skip


INDEX = np.array([2, 0, 5, 2, 7])


def arrays(x: Any) -> Any:
    table = jnp.reshape(x, (4, 2))
    product = table @ jnp.exp(table).T
    parts = jnp.concatenate([table.T, jnp.exp(table.T)], axis=0)
    first, second = jnp.split(product, 2, axis=1)
    return (
        jnp.cumsum(jnp.exp(x)), lax.cumsum(x, reverse=True), product, jnp.einsum("ij,kj->jik", table, table), parts,
        first * second, jnp.pad(jnp.exp(x), (2, 1)), lax.pad(x, 0.0, [(1, -1, 2)]), x[::-1], x[INDEX], table[INDEX[:2], 1],
        jnp.zeros(9).at[INDEX].add(jnp.exp(x[:5])), lax.dynamic_slice(jnp.exp(x), (3,), (2,)), jnp.prod(jnp.exp(x)),
        jnp.max(table, axis=0), jnp.min(table), jnp.sum(table, axis=1), jnp.sort(jnp.exp(x)), special.logsumexp(table, axis=1),
        jax.vmap(lambda row, i: row[i])(jnp.exp(table), INDEX[:4] % 2), jnp.stack([x, x * x]), jax.checkpoint(jnp.exp)(x),
        jnp.all(table > -9, axis=0) * 1.0, jnp.any(table > 9) * 1.0, jnp.arange(8) * x, jnp.squeeze(table[:, None]),
        jax.ops.segment_sum(jnp.exp(x), np.array([0, 1, 1, 0, 2, 2, 2, 9]), num_segments=3),
    )  # fmt: skip


@pytest.mark.parametrize("function", [elementwise, arrays])
def test_operations_give_the_values_of_jax(function: Callable[[Any], Any]) -> None:
    x = _rng.standard_normal(8)
    result = bound(traced(function, x), [x])
    assert result.unknown == ()
    with jax.enable_x64(True):
        expected = [np.asarray(a) for a in jax.tree.leaves(function(x))]
    for value, bar, right in zip(result.outputs, result.bounds, expected, strict=True):
        assert value.shape == bar.shape == right.shape
        assert np.all(np.abs(value - right) <= bar + 1e-300)
        assert np.all(bar <= 1e-12)


def test_bounds_follow_first_order_changes() -> None:
    """An error of the argument moves the results by no more than its bound: here one that a first step makes."""
    x = _rng.standard_normal(8)
    for function in (elementwise, arrays):

        def shifted(t: Any, function: Any = function) -> Any:
            return function((t + 1e6) - 1e6)

        result = bound(traced(shifted, x), [x])
        with jax.enable_x64(True):
            right = [np.asarray(a) for a in jax.tree.leaves(function(x))]
        for value, bar, wanted in zip(result.outputs, result.bounds, right, strict=True):
            assert np.all(np.abs(value - wanted) <= bar + 1e-15)


def test_exact_operations_have_no_error() -> None:
    x = _rng.standard_normal(8)
    exact = bound(traced(lambda x: -2.0 * jnp.abs(x[::-1]) / 4.0, x), [x])
    assert np.all(exact.bounds[0] == 0.0)
    matrix = _rng.standard_normal((5, 3))
    assert np.all(bound(traced(lambda a: a @ jnp.eye(3), matrix), [matrix]).bounds[0] == 0.0)


def test_lower_precision_counts() -> None:
    x = _rng.standard_normal(8)
    narrow = bound(traced(lambda x: jnp.exp(x.astype(jnp.float32)).astype(float), x), [x])
    with jax.enable_x64(True):
        assert np.all(np.abs(narrow.outputs[0] - np.exp(x)) <= narrow.bounds[0])
    assert np.all(narrow.bounds[0] < 1e-4)


def test_operations_without_a_rule_are_named() -> None:
    def recursion(x: Any) -> Any:
        return lax.scan(lambda s, v: (0.5 * s + v, s), 0.0, x)[0]

    x = _rng.standard_normal(8)
    result = bound(traced(recursion, x), [x])
    assert result == ((), (), ("scan",))
    matrix = np.eye(3)
    assert bound(traced(jnp.linalg.cholesky, matrix), [matrix]).unknown == ("cholesky",)


def test_a_choice_hides_what_is_no_number() -> None:
    def safe(t: Any, x: Any) -> Any:
        inside = jnp.where(x > 0, x, 1.0)
        return jnp.sum(jnp.where(x > 0, t * jnp.log(inside), 0.0) + jnp.where(x > 0, 0.0, t / (x - jnp.abs(x))))

    x = _rng.standard_normal(8)
    result = bound(traced(safe, 1.5, x), [1.5, x])
    assert all(np.isfinite(bar).all() and np.all(bar < 1e-12) for bar in result.bounds)


def test_the_power_0_of_0_is_exact() -> None:
    """0**0 = 1 with a derivative of 0, also where the base has an error: a share at an edge."""
    k = np.arange(4)
    total = lambda p: jnp.sum(((p + 1.0) - 1.0) ** k)
    result = bound(traced(jax.value_and_grad(total), 0.0), [0.0])
    assert [float(v) for v in result.outputs] == [1.0, 1.0]
    assert all(np.all(bar <= 1e-14) for bar in result.bounds)


def test_tails_of_a_censored_normal() -> None:
    z = np.linspace(-8.0, 25.0, 50)
    function = lambda z: jnp.log(0.5 * special.erfc(z / np.sqrt(2.0)))
    result = bound(traced(function, z), [z])
    with mp.workdps(40):
        right = [mp.log(mp.erfc(mp.mpf(v) / mp.sqrt(2)) / 2) for v in z.tolist()]
        with jax.enable_x64(True):
            computed = np.asarray(function(z)).tolist()
        errors = [abs(float(mp.mpf(c) - r)) for c, r in zip(computed, right, strict=True)]
    assert np.all(np.array(errors) <= result.bounds[0])
    assert np.all(result.bounds[0] <= 2e-12 * np.abs(result.outputs[0]) + 1e-12)
