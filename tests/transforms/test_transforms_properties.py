"""Property tests of the transforms: round trips, supports, gradients near edges. One compilation per transform."""

import functools
import math

import jax
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlejax.transforms import (
    Box,
    Correlation,
    Covariance,
    HalfOpen,
    Identity,
    Log,
    Logit,
    Ordered,
    Simplex,
)

EPS = np.finfo(np.float64).eps
# Transform, shape, half-width of the drawn coordinates, tolerance of u -> value -> u (absolute). An open edge away
# from 0 limits how far out u can be told from the value: the spacing of float64 there over the derivative.
CASES = [
    (Identity(), (3,), 1e6, 0.0),
    (Log(), (3,), 700.0, 3e-13),
    (Logit(0, 1), (3,), 14.0, 1e-9),
    (Logit(-2, 5), (3,), 14.0, 1e-8),
    (Box(-1, 2), (3,), 2.0, 0.0),
    (Box(0, math.inf), (3,), 1e6, 0.0),
    (HalfOpen(-1, 2, "left"), (3,), 14.0, 1e-9),
    (HalfOpen(-1, 2, "right"), (3,), 14.0, 1e-9),
    (Simplex(), (2, 3), 300.0, 3e-13),
    (Ordered(), (4,), 5.0, 1e-11),
    (Covariance(), (2, 3, 3), 2.0, 1e-9),
    (Correlation(), (4, 4), 2.0, 1e-7),
]
IDS = [f"{t}-{shape}" for t, shape, _, _ in CASES]


@functools.cache
def compiled(transform, shape):
    """value, coordinates, theta and back, first derivative: one program for each transform."""

    def everything(u):
        value = transform.forward(u, shape)
        jacobian = jax.jacfwd(lambda u: transform.forward(u, shape).ravel())(u)
        second = jax.hessian(lambda u: transform.forward(u, shape).ravel())(u)
        return value, transform.inverse(value), transform.expand(transform.free(value), shape), jacobian, second

    return jax.jit(everything), jax.jit(lambda v: transform.forward(transform.inverse(v), shape))


def draw_coordinates(data, transform, shape, width):
    lower, upper = transform.bounds(shape)
    return np.array(
        [
            data.draw(st.floats(max(lo, -width), min(hi, width), allow_subnormal=False))
            for lo, hi in zip(lower, upper, strict=True)
        ]
    )


@pytest.mark.parametrize(("transform", "shape", "width", "tolerance"), CASES, ids=IDS)
@given(data=st.data())
def test_from_coordinates(transform, shape, width, tolerance, data):
    """u -> value -> u; the value is in the support; theta -> value; derivatives finite and not singular."""
    u = draw_coordinates(data, transform, shape, width)
    with jax.enable_x64(True):
        value, back, expanded, jacobian, second = map(np.asarray, compiled(transform, shape)[0](u))
        again = np.asarray(compiled(transform, shape)[1](value))
    assert transform.problem(value) is None
    np.testing.assert_allclose(back, u, rtol=0, atol=tolerance)
    scale = np.abs(value).max()
    # theta is a selection of the value: only the last entry of a simplex, 1 minus the others, is computed anew
    np.testing.assert_allclose(expanded, value, rtol=0, atol=16 * EPS if isinstance(transform, Simplex) else 0.0)
    np.testing.assert_allclose(again, value, rtol=2e4 * EPS, atol=100 * EPS * scale * (not transform.elementwise))
    assert np.isfinite(jacobian).all()
    assert np.isfinite(second).all()
    # Every coordinate moves the value, in one direction only where the transform is elementwise.
    assert (np.abs(jacobian).max(axis=0) > 0).all()
    if transform.elementwise:
        assert (np.diag(jacobian) > 0).all()


@pytest.mark.parametrize("transform", [Log(), Logit(0, 1), HalfOpen(0, 1, "left"), HalfOpen(0, 1, "right")], ids=repr)
@given(exponents=st.lists(st.floats(-300, -0.01), min_size=3, max_size=3))
def test_from_small_values(transform, exponents):
    """value -> u -> value over 300 orders of magnitude."""
    value = 10.0 ** np.array(exponents)
    assert transform.problem(value) is None
    with jax.enable_x64(True):
        again = np.asarray(compiled(transform, (3,))[1](value))
    np.testing.assert_allclose(again, value, rtol=1e4 * EPS)


@pytest.mark.parametrize(
    "transform", [Logit(-2, 5), HalfOpen(-1, 2, "left"), HalfOpen(-1, 2, "right"), Logit(0, 1)], ids=repr
)
@given(u=st.lists(st.floats(0, 700, allow_subnormal=False), min_size=3, max_size=3), sign=st.sampled_from([-1.0, 1.0]))
def test_far_out_stays_inside_with_a_gradient(transform, u, sign):
    """However far out, the value is in the support and the derivative is positive."""
    lower, upper = transform.bounds((3,))
    u = np.clip(sign * np.array(u), lower, upper)
    with jax.enable_x64(True):
        value, _, _, jacobian, second = map(np.asarray, compiled(transform, (3,))[0](u))
    assert transform.problem(value) is None
    assert (np.diag(jacobian) > 0).all()
    assert np.isfinite(second).all()


@given(weights=st.lists(st.floats(1e-6, 1.0), min_size=6, max_size=6))
def test_simplex_from_values(weights):
    value = np.array(weights).reshape(2, 3)
    value = value / value.sum(axis=1, keepdims=True)
    assert Simplex().problem(value) is None
    assert Simplex().problem(value * 1.001) is not None
    with jax.enable_x64(True):
        np.testing.assert_allclose(compiled(Simplex(), (2, 3))[1](value), value, rtol=1e3 * EPS)


@given(numbers=st.lists(st.floats(-1e3, 1e3), min_size=4, max_size=4))
def test_ordered_accepts_exactly_increasing_values(numbers):
    value = np.array(numbers)
    increasing = bool((np.diff(value) > 0).all())
    assert (Ordered().problem(value) is None) == increasing
    if increasing:
        with jax.enable_x64(True):
            again = np.asarray(compiled(Ordered(), (4,))[1](value))
        np.testing.assert_allclose(again, value, rtol=0, atol=1e4 * EPS * np.abs(value).max())


@given(numbers=st.lists(st.floats(-3, 3), min_size=6, max_size=6), shift=st.floats(-2, 2))
def test_covariance_accepts_exactly_definite_matrices(numbers, shift):
    value = np.zeros((3, 3))
    value[np.tril_indices(3)] = numbers
    value = value + np.tril(value, -1).T + shift * np.eye(3)
    diagonal = np.diag(value)
    if (diagonal > 1e-6).all():
        scaled = value / np.sqrt(np.outer(diagonal, diagonal))
        smallest = np.linalg.eigvalsh(scaled)[0]
        if abs(smallest) < 1e-9:
            return
        definite = smallest > 0
    else:
        definite = False
        if (diagonal > 0).all():
            return
    assert (Covariance().problem(value) is None) == definite
    stacked = np.stack([value, np.eye(3)])
    if definite:
        with jax.enable_x64(True):
            again = np.asarray(compiled(Covariance(), (2, 3, 3))[1](stacked))
        np.testing.assert_allclose(again, stacked, rtol=0, atol=100 * EPS * np.abs(value).max())


@given(value=st.floats(-10, 10))
def test_problem_is_none_exactly_on_the_support(value):
    assert (Log().problem(value) is None) == (value > 0)
    assert (Logit(-2, 5).problem(value) is None) == (-2 < value < 5)
    assert (Box(-2, 5).problem(value) is None) == (-2 <= value <= 5)
    assert (HalfOpen(-2, 5, "left").problem(value) is None) == (-2 <= value < 5)
    assert (HalfOpen(-2, 5, "right").problem(value) is None) == (-2 < value <= 5)
