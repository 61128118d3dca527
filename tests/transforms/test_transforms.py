"""Transforms: values and derivatives against closed forms and differences, edges, messages, the common interface."""

import math
import pickle

import jax
import jax.numpy as jnp
import mpmath as mp
import numpy as np
import pytest

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

# Transform, shape of the value, n_free, number of reported entries.
CASES = [
    (Identity(), (), 1, 1),
    (Identity(), (2, 3), 6, 6),
    (Log(), (3,), 3, 3),
    (Logit(0, 1), (3,), 3, 3),
    (Logit(-1, 1), (2, 2), 4, 4),
    (Logit(-5.0, -2.0), (), 1, 1),
    (Box(0, math.inf), (3,), 3, 3),
    (Box(-1, 2), (3,), 3, 3),
    (HalfOpen(-1, 2, "left"), (3,), 3, 3),
    (HalfOpen(-1, 2, "right"), (3,), 3, 3),
    (Simplex(), (4,), 3, 4),
    (Simplex(), (2, 3), 4, 6),
    (Ordered(), (4,), 4, 4),
    (Ordered(), (2, 3), 6, 6),
    (Covariance(), (3, 3), 6, 6),
    (Covariance(), (2, 2, 2), 6, 6),
    (Correlation(), (4, 4), 6, 6),
    (Correlation(), (2, 3, 3), 6, 6),
    (Correlation(), (1, 1), 0, 0),
    (Covariance(), (0, 2, 2), 0, 0),
]
IDS = [f"{t}-{shape}" for t, shape, _, _ in CASES]


def coordinates(transform, shape, seed=0):
    """Random coordinates strictly inside the bounds."""
    lower, upper = transform.bounds(shape)
    u = np.random.default_rng(seed).normal(size=len(lower))
    u = np.where(np.isfinite(lower) & ~np.isfinite(upper), lower + np.abs(u) + 0.1, u)
    u = np.where(~np.isfinite(lower) & np.isfinite(upper), upper - np.abs(u) - 0.1, u)
    both = np.isfinite(lower) & np.isfinite(upper)
    return np.where(both, lower + (upper - lower) / (1 + np.exp(-u)), u) if both.any() else u


def derivative_by_differences(f, u):
    """Fourth-order central differences of a vector function, accurate to about 1e-11 at values near 1."""
    h, columns = 1e-3, []
    for e in np.eye(len(u)):
        columns.append((f(u - 2 * h * e) - 8 * f(u - h * e) + 8 * f(u + h * e) - f(u + 2 * h * e)) / (12 * h))
    return np.stack(columns, axis=-1)


def there_and_back(transform, shape):
    """Value, theta, the value from theta and the coordinates from the value, in one program."""

    @jax.jit
    def program(u):
        value = transform.forward(u, shape)
        theta = transform.free(value)
        return value, theta, transform.expand(theta, shape), transform.inverse(value)

    return program


def compiled(transform, shape):
    """Flat value, forward and reverse first derivative, and second derivative, in one program."""
    f = lambda u: transform.forward(u, shape).ravel()
    program = jax.jit(lambda u: (f(u), jax.jacfwd(f)(u), jax.jacrev(f)(u), jax.hessian(f)(u)))
    return lambda u: tuple(np.asarray(a) for a in program(np.asarray(u, dtype=float)))


def along(transform, points):
    """Value, first and second derivative of a scalar transform at each of the points."""
    f = lambda u: transform.forward(u[None], ())
    program = jax.jit(jax.vmap(lambda u: (f(u), jax.grad(f)(u), jax.grad(jax.grad(f))(u))))
    return tuple(np.asarray(a) for a in program(np.asarray(points, dtype=float)))


# --- the interface ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("transform", "shape", "k", "n_reported"), CASES, ids=IDS)
def test_interface_is_consistent(transform, shape, k, n_reported):
    lower, upper = transform.bounds(shape)
    assert transform.n_free(shape) == k
    assert lower.shape == upper.shape == (k,)
    assert lower.dtype == upper.dtype == np.float64
    assert (lower < upper).all()
    reported, links = transform.reported(shape), transform.interval_links(shape)
    assert len(reported) == len(links) == n_reported
    assert len(set(reported)) == n_reported
    assert all(link.elementwise and link.n_free(()) == 1 for link in links)
    with jax.enable_x64(True):
        u = coordinates(transform, shape)
        value, theta, expanded, back = (np.asarray(a) for a in there_and_back(transform, shape)(u))
        assert value.shape == shape
        assert value.dtype == np.float64
        assert theta.shape == (k,)
        np.testing.assert_allclose(expanded, value, rtol=0, atol=1e-15)
        np.testing.assert_allclose(back, u, rtol=1e-12, atol=1e-13)
    assert transform.problem(value) is None


@pytest.mark.parametrize(("transform", "shape", "k", "n_reported"), CASES, ids=IDS)
def test_derivatives_equal_differences(transform, shape, k, n_reported):
    if not k:
        return
    with jax.enable_x64(True):
        u = coordinates(transform, shape, seed=1)
        program = compiled(transform, shape)
        _, jacobian, reverse, second = program(u)
        np.testing.assert_allclose(
            jacobian, derivative_by_differences(lambda u: program(u)[0], u), rtol=1e-8, atol=1e-9
        )
        np.testing.assert_allclose(second, derivative_by_differences(lambda u: program(u)[1], u), rtol=1e-8, atol=1e-9)
        # Reverse mode, as a likelihood uses it.
        np.testing.assert_allclose(reverse, jacobian, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize(("transform", "shape", "k", "n_reported"), CASES, ids=IDS)
def test_hashable_static_argument_that_survives_pickling(transform, shape, k, n_reported):
    again = pickle.loads(pickle.dumps(transform))
    assert again == transform
    assert hash(again) == hash(transform)
    forward = jax.jit(lambda t, u: t.forward(u, shape), static_argnums=0)
    forward(transform, np.zeros(k))
    forward(again, np.zeros(k))
    assert forward._cache_size() == 1


@pytest.mark.parametrize(("transform", "shape", "k", "n_reported"), CASES, ids=IDS)
def test_follows_the_ambient_precision(transform, shape, k, n_reported):
    u = coordinates(transform, shape).astype(np.float32)
    value, theta, expanded, back = there_and_back(transform, shape)(u)
    assert value.dtype == theta.dtype == expanded.dtype == back.dtype == np.float32
    np.testing.assert_allclose(back, u, rtol=2e-3, atol=2e-4)


def test_stacked_copies_are_independent():
    with jax.enable_x64(True):
        for transform, one, n in ((Covariance(), (2, 2), 3), (Correlation(), (3, 3), 3), (Simplex(), (4,), 3)):
            u = np.random.default_rng(2).normal(size=2 * n)
            stacked = transform.forward(u, (2, *one))
            alone = np.stack([transform.forward(u[:n], one), transform.forward(u[n:], one)])
            np.testing.assert_allclose(stacked, alone, rtol=1e-14)


# --- elementwise -----------------------------------------------------------------------------------------------------


def test_log_spans_the_whole_range():
    with jax.enable_x64(True):
        values = 10.0 ** np.linspace(-300, 300, 61)
        np.testing.assert_allclose(Log().forward(Log().inverse(values), (61,)), values, rtol=2e-13)


@pytest.mark.parametrize(("lo", "hi"), [(0.0, 1.0), (-1.0, 1.0), (-3.0, 0.0), (2.0, 5.0), (-1e-3, 1e6)])
def test_logit_value_and_derivatives_against_closed_form(lo, hi):
    """Value, first and second derivative; relative to the distance from 0 that float64 can represent."""
    points = [-700.0, -300.0, -40.0, -5.0, -1.0, -0.3, 0.0, 1e-9, 0.7, 1.0, 2.0, 36.0, 300.0, 700.0]
    with jax.enable_x64(True):
        values, firsts, seconds = along(Logit(lo, hi), points)
    # Rounding to an edge that is not 0 leaves forward one representable number inside.
    absolute = 1e-15 * max(abs(lo), abs(hi))
    with mp.workdps(400):
        for u, value, first, second in zip(points, values, firsts, seconds, strict=True):
            s, width = 1 / (1 + mp.exp(-mp.mpf(u))), mp.mpf(hi) - mp.mpf(lo)
            d1 = width * s * (1 - s)
            assert lo < value < hi
            away = lo * hi != 0 or abs(u) < 30 or (u < 0) != (lo == 0)
            assert value == pytest.approx(float(mp.mpf(lo) + width * s), rel=1e-13, abs=absolute * away)
            assert first == pytest.approx(float(d1), rel=1e-13, abs=0)
            assert second == pytest.approx(float(d1 * (1 - 2 * s)), rel=1e-12, abs=1e-16 * float(width))


def test_logit_keeps_relative_accuracy_at_an_edge_at_zero():
    with jax.enable_x64(True):
        values = 10.0 ** np.linspace(-300, -1, 40)
        for t, v in ((Logit(0, 1), values), (Logit(-1, 0), -values)):
            np.testing.assert_allclose(t.forward(t.inverse(v), v.shape), v, rtol=2e-13)


def test_logit_inverse_near_the_middle_and_the_far_edge():
    with jax.enable_x64(True):
        # atanh(x) = x + x^3/3 + ... in the middle; log(2^52 (2 - 2^-52)) at the last numbers below 1.
        x = np.array([1e-12, -1e-9, 1e-5])
        np.testing.assert_allclose(Logit(-1, 1).inverse(x), 2 * (x + x**3 / 3), rtol=1e-14)
        np.testing.assert_allclose(Logit(0, 1).inverse(1 - 2.0**-52), 52 * math.log(2), rtol=1e-14)


@pytest.mark.parametrize("closed", ["left", "right"])
def test_half_open_edges(closed):
    t = HalfOpen(-1, 3, closed)
    edge, open_edge, sign = (-1.0, 3.0, 1.0) if closed == "left" else (3.0, -1.0, -1.0)
    points = np.array([0.0, 0.3, 1.0, 5.0, 30.0, 700.0])
    with jax.enable_x64(True):
        values, firsts, seconds = along(t, sign * points)
        assert float(t.inverse(edge)[0]) == 0.0
    assert values[0] == edge
    assert ((values >= -1) & (values <= 3) & (values != open_edge)).all()
    np.testing.assert_allclose(values, edge + sign * -4 * np.expm1(-points), rtol=1e-14)
    np.testing.assert_allclose(firsts, 4 * np.exp(-points), rtol=1e-13)
    np.testing.assert_allclose(seconds, -sign * 4 * np.exp(-points), rtol=1e-13)
    lower, upper = t.bounds(())
    assert (lower[0], upper[0]) == ((0.0, math.inf) if closed == "left" else (-math.inf, 0.0))


def test_half_open_keeps_relative_accuracy_at_both_edges():
    with jax.enable_x64(True):
        v = 10.0 ** np.linspace(-300, -1, 40)
        left, right = HalfOpen(0, 1, "left"), HalfOpen(0, 1, "right")
        np.testing.assert_allclose(left.forward(left.inverse(v), v.shape), v, rtol=1e-13)
        np.testing.assert_allclose(right.forward(right.inverse(v), v.shape), v, rtol=2e-13)


def test_box_is_the_identity_with_bounds():
    t = Box(-1, 2)
    with jax.enable_x64(True):
        assert np.asarray(t.forward([-1.0, 2.0], (2,))).tolist() == [-1.0, 2.0]
    lower, upper = t.bounds((2,))
    assert lower.tolist() == [-1, -1]
    assert upper.tolist() == [2, 2]


# --- structured ------------------------------------------------------------------------------------------------------


def test_simplex_against_softmax_in_high_precision():
    u = np.array([-30.0, 0.5, 2.0, -600.0, 12.0])
    with mp.workdps(50):
        weights = [mp.exp(mp.mpf(v)) for v in [*u, 0.0]]
        expected = [float(w / sum(weights)) for w in weights]
    with jax.enable_x64(True):
        np.testing.assert_allclose(Simplex().forward(u, (6,)), expected, rtol=2e-13)


def test_simplex_far_out_is_finite_and_positive():
    with jax.enable_x64(True):
        program = compiled(Simplex(), (3,))
        for u in ([700.0, -700.0], [-700.0, -700.0], [700.0, 700.0], [0.0, 700.0]):
            value, *derivatives = program(u)
            assert (value > 0).all()
            assert abs(value.sum() - 1) < 1e-15
            assert np.isfinite(np.log(value)).all()
            assert all(np.isfinite(d).all() for d in derivatives)


def test_simplex_small_probabilities_keep_their_digits():
    with jax.enable_x64(True):
        p = np.array([1e-200, 0.3, 0.7 - 1e-15, 1e-15])
        np.testing.assert_allclose(Simplex().forward(Simplex().inverse(p), (4,)), p / p.sum(), rtol=1e-12)
        # d log p_k / d u_k = 1 - p_k, also where p_k is tiny.
        g = jax.grad(lambda u: jnp.log(Simplex().forward(u, (2,))[0]))(jnp.array([-600.0]))
        assert float(g[0]) == pytest.approx(1.0, rel=1e-13)


def test_ordered_is_first_entry_and_log_differences():
    with jax.enable_x64(True):
        np.testing.assert_allclose(
            Ordered().inverse(np.array([-2.0, 1.0, 1.5])), [-2, math.log(3), math.log(0.5)], rtol=1e-14
        )
        np.testing.assert_allclose(Ordered().forward(np.array([-2.0, math.log(3), 0.0]), (3,)), [-2, 1, 2], rtol=1e-14)


def test_covariance_against_numpy_and_symmetric_to_the_bit():
    with jax.enable_x64(True):
        u = np.array([0.3, -1.2, 0.1, 2.0, 0.7, -0.4])
        factor = np.zeros((3, 3))
        factor[np.tril_indices(3)] = u
        factor[np.diag_indices(3)] = np.exp(np.diag(factor))
        value = np.asarray(Covariance().forward(u, (3, 3)))
        np.testing.assert_allclose(value, factor @ factor.T, rtol=1e-14)
        assert (value == value.T).all()
        scale = np.diag([1e-150, 1.0, 1e120])
        np.testing.assert_allclose(
            Covariance().forward(Covariance().inverse(scale @ value @ scale), (3, 3)), scale @ value @ scale, rtol=1e-12
        )


def test_covariance_with_a_large_off_diagonal_coordinate():
    """exp of an off-diagonal coordinate must not leak into values or derivatives."""
    with jax.enable_x64(True):
        value, *derivatives = compiled(Covariance(), (2, 2))([0.0, 1e4, 0.0])
        np.testing.assert_allclose(value, [1, 1e4, 1e4, 1e8 + 1], rtol=1e-14)
        assert all(np.isfinite(d).all() for d in derivatives)


def test_correlation_is_the_partial_correlation_construction():
    with jax.enable_x64(True):
        u = np.array([0.4, -0.8, 1.1])
        r12, r13, r23_1 = np.tanh(u)
        r23 = r12 * r13 + r23_1 * math.sqrt((1 - r12**2) * (1 - r13**2))
        value = np.asarray(Correlation().forward(u, (3, 3)))
        np.testing.assert_allclose(value[np.tril_indices(3, -1)], [r12, r13, r23], rtol=1e-14)
        assert (np.diag(value) == 1.0).all()
        assert (value == value.T).all()


def test_correlation_inverse_is_stable_near_singularity():
    with jax.enable_x64(True):
        for r in (0.5, -0.99, 1 - 1e-6, 1 - 1e-10, 1e-14):
            value = np.array([[1.0, r], [r, 1.0]])
            # atanh r = log((1+r)/(1-r))/2
            with mp.workdps(40):
                expected = float(mp.atanh(mp.mpf(r)))
            assert float(Correlation().inverse(value)[0]) == pytest.approx(expected, rel=1e-15 / (1 - abs(r)) + 1e-14)


def test_correlation_derivatives_far_out_are_finite():
    with jax.enable_x64(True):
        program = compiled(Correlation(), (3, 3))
        for u in ([0.0, 0.0, 0.0], [300.0, -300.0, 5.0], [-700.0, 700.0, 700.0]):
            assert all(np.isfinite(a).all() for a in program(u))


def test_coordinate_order_of_matrices_is_row_by_row():
    value = np.array([[1.0, 2.0, 3.0], [2.0, 5.0, 6.0], [3.0, 6.0, 9.0]])
    with jax.enable_x64(True):
        assert np.asarray(Covariance().free(value)).tolist() == [1, 2, 5, 3, 6, 9]
        assert np.asarray(Correlation().free(value)).tolist() == [2, 3, 6]
    assert Covariance().reported((2, 2)) == ((0, 0), (1, 0), (1, 1))
    assert Correlation().reported((2, 2, 2)) == ((0, 1, 0), (1, 1, 0))
    assert Simplex().reported((2,)) == ((0,), (1,))
    assert Log().reported(()) == ((),)


def test_interval_links():
    assert Log().interval_links((2,)) == (Log(), Log())
    assert Logit(0, 3).interval_links(()) == (Logit(0, 3),)
    assert Box(0, math.inf).interval_links(()) == (Identity(),)
    assert HalfOpen(0, 1).interval_links(()) == (Logit(0, 1),)
    assert Simplex().interval_links((2,)) == (Logit(0, 1),) * 2
    assert Ordered().interval_links((2,)) == (Identity(),) * 2
    assert Covariance().interval_links((2, 2)) == (Log(), Identity(), Log())
    assert Correlation().interval_links((2, 2)) == (Logit(-1, 1),)


# --- messages --------------------------------------------------------------------------------------------------------

PROBLEMS = [
    (Identity(), [1.0, math.nan], "entry [1] is nan, expected a finite number"),
    (Identity(), math.inf, "value is inf, expected a finite number"),
    (Identity(), "a", "'a' is not an array of numbers"),
    (Log(), [1.0, -0.3], "entry [1] is -0.3, expected > 0"),
    (Log(), 0.0, "value is 0.0, expected > 0"),
    (Log(), [[1.0, 0.0], [-1.0, 2.0]], "entry [0, 1] is 0.0, expected > 0 (and 1 more)"),
    (Logit(0, 1), [0.5, 1.0], "entry [1] is 1.0, expected > 0 and < 1"),
    (Box(0, math.inf), [0.0, -1.0], "entry [1] is -1.0, expected >= 0"),
    (Box(-math.inf, 3), 4, "value is 4.0, expected <= 3"),
    (Box(0, 1), [2.0, 0.0], "entry [0] is 2.0, expected >= 0 and <= 1"),
    (HalfOpen(0, 1, "left"), 1.0, "value is 1.0, expected >= 0 and < 1"),
    (HalfOpen(0, 1, "right"), 0.0, "value is 0.0, expected > 0 and <= 1"),
    (Simplex(), [0.5, 0.4], "sums to 0.9, expected 1"),
    (Simplex(), [[0.5, 0.5], [0.5, 0.6]], "row [1] sums to 1.1, expected 1"),
    (Simplex(), [0.5, 0.5, 0.0], "entry [2] is 0.0, expected > 0"),
    (Simplex(), 1.0, "expected a shape (..., K) with K >= 2, got ()"),
    (Ordered(), [0.0, 2.0, 2.0], "entry [2] is 2.0, not above entry [1], which is 2.0"),
    (Ordered(), [[0.0, 1.0], [3.0, 2.0]], "entry [1, 1] is 2.0, not above entry [1, 0], which is 3.0"),
    (Covariance(), [1.0, 2.0], "expected a shape (..., d, d) of square matrices, got (2,)"),
    (Covariance(), [[1.0, 0.5], [0.4, 1.0]], "not symmetric: entry [1, 0] is 0.4, but entry [0, 1] is 0.5"),
    (Covariance(), [[1.0, 0.0], [0.0, -1.0]], "entry [1, 1] is -1.0, expected a variance > 0"),
    (
        Covariance(),
        [[1.0, 4.0], [4.0, 4.0]],
        "not positive definite: the smallest eigenvalue of its correlations is -1",
    ),
    (
        Covariance(),
        [np.eye(2), [[1.0, 1.0], [1.0, 1.0]]],
        "matrix [1] is not positive definite: the smallest eigenvalue of its correlations is",
    ),
    (
        Correlation(),
        [[1.0, 0.0], [0.0, 2.0]],
        "entry [1, 1] is 2.0, expected 1 on the diagonal of a correlation matrix",
    ),
    (Correlation(), [[1.0, 1.5], [1.5, 1.0]], "entry [1, 0] is 1.5, expected a correlation between -1 and 1"),
    (
        Correlation(),
        np.full((3, 3), -0.6) + 1.6 * np.eye(3),
        "not positive definite: the smallest eigenvalue of its correlations is -0.2",
    ),
]


@pytest.mark.parametrize(("transform", "value", "message"), PROBLEMS)
def test_problem_names_entry_value_and_expectation(transform, value, message):
    found = transform.problem(value)
    assert found is not None
    assert found.startswith(message)


def test_valid_values_on_closed_edges_have_no_problem():
    for transform, value in (
        (Box(0, math.inf), 0.0),
        (Box(0, 1), [0.0, 1.0]),
        (HalfOpen(0, 1, "left"), 0.0),
        (HalfOpen(0, 1, "right"), 1.0),
        (Log(), 5e-300),
        (Identity(), 3),
    ):
        assert transform.problem(value) is None


def test_badly_scaled_covariances_are_accepted():
    """The units of the variables say nothing about definiteness."""
    assert Covariance().problem(np.diag([1e-200, 1e200])) is None
    assert Covariance().problem([[1e-16, 0.5e-8], [0.5e-8, 1.0]]) is None


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: Logit(1, 0), "lo < hi"),
        (lambda: Logit(0, math.inf), "use Log"),
        (lambda: Box(1, 1), "lo < hi"),
        (lambda: Box(0, math.nan), "lo < hi"),
        (lambda: HalfOpen(0, 1, "both"), 'closed="left"'),
        (lambda: HalfOpen(0, math.inf), "Box"),
        (lambda: Simplex().n_free((1,)), "K >= 2"),
        (lambda: Ordered().n_free(()), "K >= 1"),
        (lambda: Covariance().n_free((2, 3)), "square"),
        (lambda: Correlation().forward(np.zeros(1), (2,)), "square"),
    ],
)
def test_static_misuse_raises(make, words):
    with pytest.raises(ValueError, match=words):
        make()
