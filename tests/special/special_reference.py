"""References for the special functions: mpmath in 70 digits, derivatives by fourth-order differences.

The step is 1e-13 of the argument, so that the error of the differences is far below float64's rounding.
"""

import functools

import jax
import jax.numpy as jnp
import mpmath as mp
import numpy as np

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


def gradients(f, points):
    """Gradients of f in all arguments, (n_points, n_arguments)."""
    arguments = [np.array(c, dtype=float) for c in zip(*points, strict=True)]
    program = jax.jit(jax.vmap(jax.grad(f, tuple(range(len(arguments))))))
    return np.stack([np.asarray(g) for g in program(*arguments)], axis=-1)


def of_logarithm(values, gradients, hessians):
    """Value, gradient and Hessian of log f from those of f."""
    g = gradients / values[:, None]
    return np.log(values), g, hessians / values[:, None, None] - g[:, :, None] * g[:, None, :]


def name(f):
    return getattr(f, "__name__", None)


def scale_of_second(values, gradients, hessians):
    """A second derivative may pass through 0: measured against the size of its terms g g' / f there."""
    terms = np.abs(gradients[:, :, None] * gradients[:, None, :]) / np.abs(values[:, None, None])
    return np.maximum(np.abs(hessians), terms)


def check_values(f, exact, points):
    """Value, gradient and Hessian of f in all arguments."""
    value, gradient, hessian = computed(f, tuple(points))
    v, g, h = references(exact, tuple(points))
    np.testing.assert_allclose(value, v, rtol=5e-12)
    np.testing.assert_allclose(gradient, g, rtol=2e-12)
    assert (np.abs(hessian - h) <= 2e-11 * scale_of_second(v, g, h)).all()
    np.testing.assert_allclose(hessian, np.swapaxes(hessian, 1, 2), rtol=1e-9, atol=1e-12 * np.abs(hessian).max())


def check_logarithms(f, exact, points):
    """The same of log f, whose references follow from those of f."""
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
