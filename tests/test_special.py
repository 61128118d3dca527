"""Special functions against mpmath: values, all first and second derivatives, tails, edges, transformations of JAX.

The references are computed here in 70 digits, derivatives by fourth-order differences of step 1e-13 of the argument,
whose error is far below float64's rounding.
"""

import functools
import itertools

import jax
import jax.numpy as jnp
import mpmath as mp
import numpy as np
import pytest

from mlejax import special

GAMMA_POINTS = [
    (0.5, 0.3),
    (1.0, 1.0),
    (1.0, 0.999),
    (2.5, 2.5),
    (2.5, 1e-6),
    (2.5, 60.0),
    (0.02, 1e-8),
    (0.02, 0.5),
    (0.02, 3.0),
    (0.9999, 0.7),
    (7.9, 12.0),
    (8.1, 4.0),
    (30.0, 3.0),
    (30.0, 29.5),
    (30.0, 120.0),
    (800.0, 790.0),
    (800.0, 1000.0),
    (2e4, 1.96e4),
    (2e4, 2.03e4),
]
BETA_POINTS = [
    (0.5, 0.5, 0.3),
    (1.0, 1.0, 0.5),
    (2.0, 3.0, 0.4),
    (2.0, 3.0, 1e-9),
    (2.0, 3.0, 1 - 2.0**-30),
    (0.03, 0.04, 0.2),
    (0.03, 5.0, 1e-4),
    (0.03, 5.0, 0.6),
    (6.0, 0.03, 0.7),
    (6.0, 0.03, 1 - 2.0**-40),
    (1.0, 0.02, 0.4999),
    (40.0, 2.0, 0.96),
    (40.0, 2.0, 0.5),
    (300.0, 500.0, 0.36),
    (300.0, 500.0, 0.45),
    (2000.0, 0.7, 0.9995),
    (0.7, 2000.0, 2e-4),
    (2000.0, 3600.0, 0.35),
]
STUDENT_POINTS = [
    (df, t)
    for df, t in itertools.product((0.05, 1.0, 4.5, 19.99, 20.01, 300.0, 1e6), (-25.0, -3.0, -1.42, -1.41, -0.2))
    if not (df == 1e6 and t == -25.0)
]

WORKING_DIGITS = 70


def lower_gamma(a, x):
    return mp.gammainc(a, 0, x, regularized=True)


def upper_gamma(a, x):
    return mp.gammainc(a, x, mp.inf, regularized=True)


def beta_series(a, b, x):
    """I_x(a, b) by the series of positive terms x^a (1-x)^b / (a B(a, b)) sum (a+b)_n / (a+1)_n x^n (DLMF 8.17.8)."""
    term = total = mp.mpf(1)
    n = 0
    while term > mp.eps * total or (a + b + n) * x > a + 1 + n:
        term *= (a + b + n) / (a + 1 + n) * x
        total += term
        n += 1
    return total * mp.exp(a * mp.log(x) + b * mp.log1p(-x) + mp.loggamma(a + b) - mp.loggamma(a + 1) - mp.loggamma(b))


def lower_beta(a, b, x):
    return beta_series(a, b, x) if x * (a + b + 2) < a + 1 else 1 - beta_series(b, a, 1 - x)


def upper_beta(a, b, x):
    return beta_series(b, a, 1 - x) if x * (a + b + 2) >= a + 1 else 1 - beta_series(a, b, x)


def student(df, t):
    tail = mp.betainc(df / 2, mp.mpf(1) / 2, 0, df / (df + t * t), regularized=True) / 2
    return tail if t < 0 else 1 - tail


def reference(f, point):
    """Value, gradient and Hessian of f at a point, in high precision, as float arrays."""
    with mp.workdps(WORKING_DIGITS):
        x = [mp.mpf(v) for v in point]
        n = len(x)
        # Towards 1 the argument of a beta function is known by its distance from 1.
        h = [mp.mpf(10) ** -13 * (min(abs(v), abs(1 - v)) if i == 2 else abs(v)) for i, v in enumerate(x)]
        known = {}

        def at(*moves):
            if moves not in known:
                known[moves] = f(*(v + m * d for v, m, d in zip(x, moves, h, strict=True)))
            return known[moves]

        def move(**steps):
            return at(*(steps.get(f"_{i}", 0) for i in range(n)))

        value = move()
        gradient, hessian = np.zeros(n), np.zeros((n, n))
        for i in range(n):
            f2, f1, b1, b2 = (move(**{f"_{i}": k}) for k in (2, 1, -1, -2))
            gradient[i] = float((b2 - 8 * b1 + 8 * f1 - f2) / (12 * h[i]))
            hessian[i, i] = float((-b2 + 16 * b1 - 30 * value + 16 * f1 - f2) / (12 * h[i] ** 2))
            for j in range(i):
                cross = sum(s * r * move(**{f"_{i}": s, f"_{j}": r}) for s in (1, -1) for r in (1, -1))
                hessian[i, j] = hessian[j, i] = float(cross / (4 * h[i] * h[j]))
        return float(value), gradient, hessian


@functools.cache
def references(f, points):
    values, gradients, hessians = zip(*(reference(f, p) for p in points), strict=True)
    return np.array(values), np.array(gradients), np.array(hessians)


@functools.cache
def computed(f, points):
    """Value, gradient and Hessian in all arguments by one compiled program."""
    arguments = tuple(np.array(c) for c in zip(*points, strict=True))
    every = tuple(range(len(arguments)))
    with jax.enable_x64(True):

        def gradient_and_value(*p):
            value, gradient = jax.value_and_grad(f, every)(*p)
            return jnp.stack(gradient), (value, jnp.stack(gradient))

        def all_of_them(*p):
            hessian, (value, gradient) = jax.jacfwd(gradient_and_value, every, has_aux=True)(*p)
            return value, gradient, jnp.stack(hessian, axis=-1)

        program = jax.jit(jax.vmap(all_of_them))
        return tuple(np.asarray(a) for a in program(*arguments))


def of_logarithm(values, gradients, hessians):
    """Value, gradient and Hessian of log f from those of f."""
    g = gradients / values[:, None]
    return np.log(values), g, hessians / values[:, None, None] - g[:, :, None] * g[:, None, :]


FUNCTIONS = [
    (special.gammainc, lower_gamma, GAMMA_POINTS),
    (special.gammaincc, upper_gamma, GAMMA_POINTS),
    (special.betainc, lower_beta, BETA_POINTS),
    (special.betaincc, upper_beta, BETA_POINTS),
    (special.stdtr, student, STUDENT_POINTS),
]
LOGARITHMS = [
    (special.log_gammainc, lower_gamma, GAMMA_POINTS),
    (special.log_gammaincc, upper_gamma, GAMMA_POINTS),
    (special.log_betainc, lower_beta, BETA_POINTS),
    (special.log_betaincc, upper_beta, BETA_POINTS),
    (special.log_stdtr, student, STUDENT_POINTS),
]


def name(f):
    return getattr(f, "__name__", None)


def scale_of_second(values, gradients, hessians):
    """A second derivative may pass through 0: measured against the size of its terms g g' / f there."""
    terms = np.abs(gradients[:, :, None] * gradients[:, None, :]) / np.abs(values[:, None, None])
    return np.maximum(np.abs(hessians), terms)


@pytest.mark.parametrize(("f", "exact", "points"), FUNCTIONS, ids=name)
def test_value_and_derivatives(f, exact, points):
    value, gradient, hessian = computed(f, tuple(points))
    v, g, h = references(exact, tuple(points))
    np.testing.assert_allclose(value, v, rtol=5e-12)
    np.testing.assert_allclose(gradient, g, rtol=2e-12)
    assert (np.abs(hessian - h) <= 2e-11 * scale_of_second(v, g, h)).all()
    np.testing.assert_allclose(hessian, np.swapaxes(hessian, 1, 2), rtol=1e-9, atol=1e-12 * np.abs(hessian).max())


@pytest.mark.parametrize(("f", "exact", "points"), LOGARITHMS, ids=name)
def test_logarithm_and_derivatives(f, exact, points):
    value, gradient, hessian = computed(f, tuple(points))
    raw = references(exact, tuple(points))
    v, g, h = of_logarithm(*raw)
    # Where f is near 1, log f and its derivatives are those of f: compare on the scale of 1 - f, from the reference.
    near_one = raw[0] > 1 - 1e-6
    assert (np.abs(value - v) <= 5e-12 * np.maximum(np.abs(v), 1.0) + 1e-16)[~near_one].all()
    np.testing.assert_allclose(gradient, g, rtol=1e-11)
    scale = np.maximum(np.abs(h), np.abs(g[:, :, None] * g[:, None, :]))
    with np.errstate(over="ignore"):
        assert (np.abs(hessian - h) <= 5e-11 * scale)[~near_one].all()


def test_the_reference_is_the_incomplete_beta_function():
    with mp.workdps(40):
        for a, b, x in ((2.0, 3.0, 0.4), (0.5, 7.0, 0.2), (3.0, 0.5, 0.99)):
            exact = mp.betainc(a, b, 0, x, regularized=True)
            assert abs(lower_beta(mp.mpf(a), mp.mpf(b), mp.mpf(x)) / exact - 1) < 1e-35


def test_far_tails_of_the_logarithms():
    """Beyond the range of float64 itself: log P = a log x - x - log Gamma(a+1) + ... as x -> 0, and alike."""
    with jax.enable_x64(True), mp.workdps(60):
        cases = [
            (special.log_gammainc, lower_gamma, (500.0, 1.0)),
            (special.log_gammaincc, upper_gamma, (2.5, 3000.0)),
            (special.log_betainc, lower_beta, (400.0, 3.0, 1e-3)),
            (special.log_betaincc, upper_beta, (3.0, 400.0, 0.999)),
        ]
        for f, exact, point in cases:
            expected = mp.log(exact(*(mp.mpf(v) for v in point)))
            assert expected < -745
            assert float(f(*point)) == pytest.approx(float(expected), rel=1e-14)
        # log of the left tail of t with 300 degrees of freedom at -1e6 (P about 1e-1100).
        assert float(special.log_stdtr(300.0, -1e6)) == pytest.approx(
            float(mp.log(student(mp.mpf(300), mp.mpf(-1e6)))), rel=1e-13
        )


def test_derivatives_in_x_are_densities():
    from jax.scipy import stats

    with jax.enable_x64(True):
        x = jnp.linspace(0.05, 0.95, 7)
        density = jax.vmap(jax.grad(special.betainc, 2), (None, None, 0))(2.5, 0.7, x)
        np.testing.assert_allclose(density, stats.beta.pdf(x, 2.5, 0.7), rtol=1e-13)
        density = jax.vmap(jax.grad(special.gammainc, 1), (None, 0))(2.5, x)
        np.testing.assert_allclose(density, stats.gamma.pdf(x, 2.5), rtol=1e-13)
        density = jax.vmap(jax.grad(special.stdtr, 1), (None, 0))(2.5, x)
        np.testing.assert_allclose(density, stats.t.pdf(x, 2.5), rtol=1e-13)


def test_third_derivative_in_the_shape():
    """One order more than a likelihood needs; a regularised P(1, x) has d^3/da^3 by differences of mpmath."""
    with jax.enable_x64(True):
        third = jax.grad(jax.grad(jax.grad(special.gammainc)))(1.7, 2.0)
    with mp.workdps(WORKING_DIGITS):
        expected = float(mp.diff(lambda a: lower_gamma(a, mp.mpf(2)), mp.mpf(1.7), 3))
    assert float(third) == pytest.approx(expected, rel=1e-10)


def test_edges():
    with jax.enable_x64(True):
        for f, argument, expected in (
            (special.gammainc, (2.0, 0.0), 0.0),
            (special.gammainc, (2.0, np.inf), 1.0),
            (special.gammaincc, (2.0, 0.0), 1.0),
            (special.gammaincc, (2.0, np.inf), 0.0),
            (special.log_gammainc, (2.0, 0.0), -np.inf),
            (special.betainc, (2.0, 3.0, 0.0), 0.0),
            (special.betainc, (2.0, 3.0, 1.0), 1.0),
            (special.betaincc, (2.0, 3.0, 1.0), 0.0),
            (special.log_betaincc, (2.0, 3.0, 1.0), -np.inf),
            (special.stdtr, (3.0, 0.0), 0.5),
            (special.stdtr, (3.0, -np.inf), 0.0),
            (special.stdtr, (3.0, np.inf), 1.0),
            (special.log_stdtr, (3.0, -np.inf), -np.inf),
        ):
            assert float(f(*argument)) == expected, (f, argument)


def test_derivatives_at_the_ends_of_the_support_are_not_nan():
    """A censoring point at 0 is a value of 0 for every shape, with density a > 1 -> 0, a = 1 -> 1."""
    with jax.enable_x64(True):
        assert float(jax.grad(special.gammainc)(2.0, 0.0)) == 0.0
        assert float(jax.grad(special.gammainc, 1)(2.0, 0.0)) == 0.0
        assert float(jax.grad(special.gammainc, 1)(1.0, 0.0)) == 1.0
        assert float(jax.grad(special.gammainc, 1)(0.5, 0.0)) == np.inf
        assert float(jax.grad(special.gammaincc)(2.0, np.inf)) == 0.0
        # x (1-x)^2 12: density of beta(2, 3) is 0 at both ends; that of beta(1, 3) is 3 at 0, of beta(3, 1) 3 at 1.
        assert [float(jax.grad(special.betainc, i)(2.0, 3.0, 0.0)) for i in range(3)] == [0.0, 0.0, 0.0]
        assert float(jax.grad(special.betainc, 2)(1.0, 3.0, 0.0)) == 3.0
        assert float(jax.grad(special.betainc, 2)(3.0, 1.0, 1.0)) == 3.0
        assert float(jax.grad(special.stdtr)(2.0, 0.0)) == 0.0
        # The density of t with 1 degree of freedom at 0 is 1/pi, of 2 it is 1/sqrt(8).
        assert float(jax.grad(special.stdtr, 1)(1.0, 0.0)) == pytest.approx(1 / np.pi, rel=1e-14)
        assert float(jax.grad(special.stdtr, 1)(2.0, 0.0)) == pytest.approx(1 / np.sqrt(8), rel=1e-14)


def test_outside_the_domain_is_nan():
    with jax.enable_x64(True):
        for f, argument in (
            (special.gammainc, (-1.0, 1.0)),
            (special.gammainc, (1.0, -1.0)),
            (special.gammaincc, (np.nan, 1.0)),
            (special.betainc, (0.0, 1.0, 0.5)),
            (special.betainc, (1.0, 1.0, 1.5)),
            (special.betainc, (1.0, 1.0, np.nan)),
            (special.stdtr, (-1.0, 0.3)),
            (special.stdtr, (2.0, np.nan)),
        ):
            assert np.isnan(float(f(*argument))), (f, argument)


def test_infinite_degrees_of_freedom_are_normal():
    with jax.enable_x64(True):
        t = np.array([-8.0, -1.0, 0.5, 3.0])
        np.testing.assert_allclose(special.stdtr(np.inf, t), jax.scipy.stats.norm.cdf(t), rtol=1e-12)


def test_broadcasting_precision_and_integer_arguments():
    with jax.enable_x64(True):
        assert special.betainc(np.ones((3, 1)), 2.0, np.full(4, 0.5)).shape == (3, 4)
        assert float(special.gammainc(1, 1)) == pytest.approx(1 - np.exp(-1), rel=1e-14)
        assert special.gammainc(jnp.float32(2), jnp.float32(1)).dtype == np.float32
    single = special.betainc(jnp.float32(2), jnp.float32(2), jnp.float32(0.25))
    assert single.dtype == np.float32
    assert float(single) == pytest.approx(0.15625, rel=3e-6)


def test_hessian_of_a_censored_likelihood_by_row_blocks():
    """jit(scan(hessian)), as a fit evaluates it, against the plain sum; the censoring points are data."""
    with jax.enable_x64(True):
        y = jnp.asarray(np.random.default_rng(4).gamma(2.0, 1.0, size=24))

        def total(theta, y):
            return jnp.sum(special.log_gammaincc(jnp.exp(theta[0]), y * jnp.exp(theta[1])))

        def blocked(theta):
            add = lambda h, block: (h + jax.hessian(total)(theta, block), None)
            return jax.lax.scan(add, jnp.zeros((2, 2)), y.reshape(3, 8))[0]

        theta = jnp.array([0.5, -0.2])
        whole = jax.jit(jax.hessian(total))(theta, y)
        np.testing.assert_allclose(jax.jit(blocked)(theta), whole, rtol=1e-13)
        step = 1e-5
        gradient = jax.jit(jax.grad(total))
        differences = [(gradient(theta + step * e, y) - gradient(theta - step * e, y)) / (2 * step) for e in np.eye(2)]
        np.testing.assert_allclose(whole, differences, rtol=1e-8)
