"""Elementary pieces of the special functions: logarithmic kernels, and quadrature of a tail.

The kernels are written with deviances and Stirling remainders (Loader 2000), so that they keep their digits at large
arguments, where differences of log-gamma functions lose them; each has its derivative in closed form, of elementary
operations only, as XLA takes seconds to compile the second derivative of ``lgamma``.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cache, partial

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.custom_derivatives import SymbolicZero
from jax.typing import ArrayLike

from mlejax.shapes import Count

HALF_LOG_2PI = 0.5 * float(np.log(2.0 * np.pi))
# The integrand of a tail at the end of its range is exp(-DEPTH) of its start: below float64's rounding.
DEPTH = 40.0


def floats(*args: ArrayLike) -> list[jax.Array]:
    """Return the arguments as arrays of their common float type (the default one for integers), broadcast to one shape."""
    with jax.numpy_dtype_promotion("standard"):
        dtype = jnp.result_type(*args)
    if not jnp.issubdtype(dtype, jnp.floating):
        dtype = jnp.result_type(float)
    shape = np.broadcast_shapes(*[np.shape(x) for x in args])
    return [jnp.broadcast_to(jnp.asarray(x, dtype), shape) for x in args]


def last_axis(constants: np.ndarray, x: jax.Array) -> np.ndarray:
    """Return constants (k,) with the type of x, as an array (1, ..., 1, k) that broadcasts with ``x[..., None]``."""
    return constants.astype(x.dtype).reshape((1,) * x.ndim + (-1,))


def derivatives_at_hand(
    function: Callable[..., jax.Array], *slopes: Callable[..., jax.Array] | None, orders: int = 2
) -> Callable[..., jax.Array]:
    """Return an elementwise function with a derivative rule that evaluates each partial derivative once, as an array.

    JAX differentiates all operations of a function for each direction of a Hessian; with this rule a direction costs one
    product with a partial derivative, which is evaluated once for all directions.

    Args:
        function: elementwise function of arrays of one shape.
        slopes: its partial derivatives, of the same arguments; JAX derives those that are None, and all if none is given.
        orders: number of derivatives with this rule; JAX derives higher ones.
    """
    if not orders:
        return function
    f = jax.custom_jvp(function)

    def along(k: int, *args: jax.Array) -> jax.Array:
        of_one = lambda x: function(*args[:k], x, *args[k + 1 :])
        return jax.jvp(of_one, (args[k],), (jnp.ones_like(args[k]),))[1]

    given = dict(enumerate(slopes))
    slope = cache(lambda k: derivatives_at_hand(given.get(k) or partial(along, k), orders=orders - 1))

    def rule(args: tuple[jax.Array, ...], tangents: tuple[jax.Array, ...]) -> tuple[jax.Array, jax.Array]:
        moved = [slope(k)(*args) * t for k, t in enumerate(tangents) if not isinstance(t, SymbolicZero)]
        return f(*args), sum(moved, jnp.zeros_like(args[0]))

    f.defjvp(rule, symbolic_zeros=True)
    return f


def _rule(n: int) -> tuple[np.ndarray, np.ndarray]:
    """Return n nodes r = v^2 and weights on [0, 1], v being Gauss-Legendre nodes: denser near 0, where the integrand is large."""
    z, w = np.polynomial.legendre.leggauss(n)
    v = 0.5 * (z + 1.0)
    return v * v, w * v


# 32 nodes leave errors of 1e-11 in the worst corners, 40 and 64 the same 1e-13 of rounding.
_USUAL = _rule(40)
FINE = _rule(96)  # for integrands that fall slowly at first and sharply in the end


def reach(
    exponent: Callable[[jax.Array], tuple[jax.Array, jax.Array]], slope: jax.Array, curve: jax.Array
) -> jax.Array:
    """Return R with phi(R) about 40 (``DEPTH``), up to which exp(-phi) is integrated; elementwise, by Newton's method on log phi.

    Args:
        exponent: function from r to phi(r) and its derivative; phi is convex with phi(0) = 0. Its parameters must be
            constants: the caller stops their gradients.
        slope, curve: phi'(0) >= 0 and phi''(0) > 0.
    """
    start = 2.0 * DEPTH / (slope + jnp.sqrt(slope * slope + 2.0 * curve * DEPTH))

    def step(_: Count, r: jax.Array) -> jax.Array:
        value, derivative = exponent(r)
        return jnp.clip(r - jnp.log(value / DEPTH) * value / derivative, 0.25 * r, 4.0 * r)

    return lax.fori_loop(0, 7, step, start)


def integrate(
    length: jax.Array,
    exponent: Callable[[jax.Array], jax.Array],
    rule: tuple[np.ndarray, np.ndarray] = _USUAL,
) -> jax.Array:
    """Return the integral of exp(-exponent(r)) over r in [0, length], an array of the shape of ``length``.

    Args:
        length: the upper limits.
        exponent: function of r, called with an array (*shape of length, n_nodes).
        rule: nodes and weights on [0, 1], arrays (n_nodes,).
    """
    nodes, weights = rule
    r = length[..., None] * last_axis(nodes, length)
    return length * jnp.sum(last_axis(weights, length) * jnp.exp(-exponent(r)), axis=-1)


# Coefficients of a^-1, a^-3, ... in the Stirling series, and how far the recurrence raises a smaller argument.
_STIRLING = np.array([1 / 12, -1 / 360, 1 / 1260, -1 / 1680, 1 / 1188, -691 / 360360, 1 / 156, -3617 / 122400])
_RAISE = 8.0
_STEPS = np.arange(_RAISE)


def horner(coefficients: np.ndarray, z: jax.Array) -> jax.Array:
    """Return the polynomial sum_k coefficients[k] z^k, elementwise."""
    total = jnp.full_like(z, float(coefficients[-1]))
    for c in coefficients[-2::-1]:
        total = total * z + float(c)
    return total


@jax.custom_jvp
def stirling(a: jax.Array) -> jax.Array:
    """Return Stirling's remainder log Gamma(a) - ((a - 1/2) log a - a + log(2 pi)/2) for a > 0.

    Elementary operations with short derivatives: XLA takes seconds to compile those of ``lgamma``.
    """
    large = a >= _RAISE
    s, top = jnp.where(large, 1.0, a), jnp.where(large, a, a + _RAISE)
    ratio = jnp.prod((s[..., None] + last_axis(_STEPS, s)) / (s[..., None] + _RAISE), axis=-1)
    raised = (s - 0.5) * (jnp.log(s + _RAISE) - jnp.log(s)) - jnp.log(ratio) - _RAISE
    return horner(_STIRLING, 1.0 / (top * top)) / top + jnp.where(large, 0.0, raised)


def stirling_slope(a: jax.Array) -> jax.Array:
    """Return the derivative of :func:`stirling`."""
    large = a >= _RAISE
    s, top = jnp.where(large, 1.0, a), jnp.where(large, a, a + _RAISE)
    raised = (
        jnp.log(s + _RAISE)
        - jnp.log(s)
        + (s - 0.5) * (1.0 / (s + _RAISE) - 1.0 / s)
        - jnp.sum(1.0 / (s[..., None] + last_axis(_STEPS, s)), axis=-1)
        + _RAISE / (s + _RAISE)
    )
    i = 1.0 / (top * top)
    return jnp.where(large, 0.0, raised) - i * horner(_STIRLING * np.arange(1, 16, 2), i)


@stirling.defjvp
def _stirling_jvp(primals: tuple[jax.Array, ...], tangents: tuple[jax.Array, ...]) -> tuple[jax.Array, jax.Array]:
    (a,), (da,) = primals, tangents
    return stirling(a), stirling_slope(a) * da


# Below this |w| the integrals of powers over 1 + w t are power series; 26 terms leave 1e-17.
_NEAR, _TERMS = 0.2, 26


def _log1p_series(power: int, order: int) -> np.ndarray:
    """Return power series coefficients in w, at 0, of the derivative of order ``order`` of int_0^1 t^(power-1) / (1 + w t) dt."""
    k = np.arange(_TERMS)
    falling = np.ones(_TERMS)
    for j in range(1, order + 1):
        falling = falling * (k + j)
    return np.where((k + order) % 2 == 0, 1.0, -1.0) * falling / (k + order + power)


@jax.custom_jvp
def relative_excess(p: jax.Array, q: jax.Array, difference: jax.Array) -> jax.Array:
    """Return p / q - 1 as difference / q, for a ``difference`` that is more accurate than p - q; derivatives in p and q are those
    of p / q, in ``difference`` 0.
    """
    return difference / q


@relative_excess.defjvp
def _relative_excess_jvp(
    primals: tuple[jax.Array, ...], tangents: tuple[jax.Array, ...]
) -> tuple[jax.Array, jax.Array]:
    p, q, difference = primals
    return relative_excess(p, q, difference), (tangents[0] - p / q * tangents[1]) / q


@partial(jax.custom_jvp, nondiff_argnums=(0, 1))
def _log1p_integral(power: int, order: int, w: jax.Array, ratio: jax.Array) -> jax.Array:
    """Return the derivative in w, of order ``order``, of int_0^1 t^(power - 1) / (1 + w t) dt; power is 1 or 2, ratio 1 + w.

    A power series near w = 0, elsewhere a recurrence by Leibniz's rule from w L = log(1 + w) or w^2 M = w - log(1 + w).
    Its derivatives are those in w alone.
    """
    near = jnp.abs(w) < _NEAR
    series = horner(_log1p_series(power, order), jnp.where(near, w, 0.0))
    x, r = jnp.where(near, 1.0, w), jnp.where(near, 2.0, ratio)
    logarithm = jnp.where(jnp.abs(x) < 0.5, jnp.log1p(jnp.where(jnp.abs(x) < 0.5, x, 0.0)), jnp.log(r))
    last, before = jnp.zeros_like(x), jnp.zeros_like(x)
    for n in range(order + 1):
        slope = logarithm if n == 0 else (-1.0) ** (n - 1) * math.factorial(n - 1) / r**n
        if power == 1:
            now = (slope - n * last) / x
        else:
            rest = (x if n == 0 else 1.0 if n == 1 else 0.0) - slope
            now = ((rest - n * (n - 1) * before) / x - 2.0 * n * last) / x
        last, before = now, last
    return jnp.where(near, series, last)


@_log1p_integral.defjvp
def _log1p_integral_jvp(
    power: int, order: int, primals: tuple[jax.Array, ...], tangents: tuple[jax.Array, ...]
) -> tuple[jax.Array, jax.Array]:
    w, ratio = primals
    value = _log1p_integral(power, order, w, ratio)
    return value, _log1p_integral(power, order + 1, w, ratio) * tangents[0]


@partial(jax.custom_jvp, nondiff_argnums=(0,))
def _log1p_over(order: int, z: jax.Array, a: jax.Array) -> jax.Array:
    """Return the derivative in a, of order ``order``, of log(1 + a z) / a."""
    w = a * z
    return z ** (order + 1) * _log1p_integral(1, order, w, 1.0 + w)


@_log1p_over.defjvp
def _log1p_over_jvp(
    order: int, primals: tuple[jax.Array, ...], tangents: tuple[jax.Array, ...]
) -> tuple[jax.Array, jax.Array]:
    (z, a), (dz, da) = primals, tangents
    # The derivative in z is that of 1 / (1 + a z): by itself, as it is far smaller than its terms where a z is large.
    shrink = 1.0 / (1.0 + a * z)
    slope = math.factorial(order) * (-z * shrink) ** order * shrink
    return _log1p_over(order, z, a), slope * dz + _log1p_over(order + 1, z, a) * da


def log1p_over(z: jax.Array, a: jax.Array) -> jax.Array:
    """Return log(1 + a z) / a for 1 + a z > 0, elementwise, with derivatives of every order; it is z at a = 0."""
    return _log1p_over(0, z, a)


def log1p_rest(w: jax.Array, ratio: jax.Array | None = None, order: int = 0) -> jax.Array:
    """Return M(w) = (w - log(1 + w)) / w^2 for w > -1, elementwise, with derivatives of every order; it is 1/2 at 0.

    ``ratio`` is 1 + w, given if it is more accurate than the sum (w near -1); ``order`` is that of a derivative of M.
    """
    return _log1p_integral(2, order, w, 1.0 + w if ratio is None else ratio)


@jax.custom_jvp
def gumbel_exponent(t: jax.Array) -> jax.Array:
    """Return t + exp(-t); its derivative 1 - exp(-t) is accurate near t = 0."""
    return t + jnp.exp(-t)


@gumbel_exponent.defjvp
def _gumbel_exponent_jvp(
    primals: tuple[jax.Array, ...], tangents: tuple[jax.Array, ...]
) -> tuple[jax.Array, jax.Array]:
    return gumbel_exponent(primals[0]), one_minus_exp(primals[0]) * tangents[0]


@jax.custom_jvp
def one_minus_exp(t: jax.Array) -> jax.Array:
    """Return 1 - exp(-t), with accurate derivatives: JAX's of ``expm1``, its value plus 1, lose all digits for large t."""
    return -jnp.expm1(-t)


@one_minus_exp.defjvp
def _one_minus_exp_jvp(primals: tuple[jax.Array, ...], tangents: tuple[jax.Array, ...]) -> tuple[jax.Array, jax.Array]:
    return one_minus_exp(primals[0]), jnp.exp(-primals[0]) * tangents[0]


def log1mexp(t: jax.Array) -> jax.Array:
    """Return log(1 - exp(-t)) for t >= 0, accurate for small and large t; -inf at 0."""
    small = t < 0.6931471805599453
    low, high = jnp.where(small, t, 0.5), jnp.where(small, 1.0, t)
    return jnp.where(small, jnp.log(one_minus_exp(low)), jnp.log1p(-jnp.exp(-high)))


def stirling_inverse(b: jax.Array, order: int = 0) -> jax.Array:
    """Return :func:`stirling` at 1/b for 0 <= b <= 1/8, as a power series in b, or its derivative in b of this order, up to 2."""
    power = np.arange(1, 16, 2)
    if order == 2:
        return b * horner((_STIRLING * power * (power - 1))[1:], b * b)
    return horner(_STIRLING * power, b * b) if order else b * horner(_STIRLING, b * b)


def stirling_of_inverse(alpha: jax.Array) -> jax.Array:
    """Return :func:`stirling` at 1/alpha for alpha >= 0, with derivatives of every order; it is 0 at alpha = 0."""
    large = alpha <= 0.08  # where the series has its second derivative to the last digit, too
    a = jnp.where(large, 0.08, alpha)
    s = a / (1.0 + _RAISE * a)
    ratio = jnp.ones_like(a)
    for k in _STEPS[1:]:
        ratio = ratio * (1.0 - float(k) * s)  # (1 + (8 - k) a) / (1 + 8 a): their product does not overflow
    raised = 0.5 * jnp.log1p(_RAISE * a) - _RAISE * _RAISE * a * log1p_rest(_RAISE * a) - jnp.log(ratio) + stirling_inverse(s)
    return jnp.where(large, stirling_inverse(jnp.where(large, alpha, 0.0)), raised)


def _stirling_change(b: jax.Array, shrink: jax.Array) -> jax.Array:
    """Return stirling_inverse(b / (1 + shrink)) - stirling_inverse(b) for 0 <= b <= 1/8, accurate for small ``shrink`` too."""
    c = b / (1.0 + shrink)
    value, slope = jnp.full_like(b, float(_STIRLING[-1])), jnp.zeros_like(b)
    for k in range(2 * len(_STIRLING) - 2, -1, -1):
        slope = slope * c + value
        value = value * b + (float(_STIRLING[k // 2]) if k % 2 else 0.0)
    return -shrink * c * slope


def log_rising(y: jax.Array, a: jax.Array) -> jax.Array:
    """Return log Gamma(y + 1/a) - log Gamma(1/a) + y log a for 0 <= y <= 8, a >= 0: the sum of log(1 + k a) over k < y.

    Analytic at a = 0, where it is 0; at a = 1 it is log Gamma(y + 1). Stirling's series for 1/a + 8 and the recurrence
    down to 1/a, with log(8 a) and other terms that diverge at a = 0 removed by hand.
    """
    s = a / (1.0 + _RAISE * a)
    w = y * s
    value = y * jnp.log1p(_RAISE * a) + (y - 0.5) * w - ((y - 0.5) * w + y) * w * log1p_rest(w) + _stirling_change(s, w)
    ratio = 1.0 + y * a
    for k in _STEPS[1:]:
        ratio = ratio * (1.0 + y * (a / (1.0 + float(k) * a)))
    return value - jnp.log(ratio)


def log_ratio(ratio: jax.Array, excess: jax.Array) -> jax.Array:
    """Return log(ratio); near ratio = 1 computed from ``excess``, which is ratio - 1 without its rounding error."""
    near = jnp.abs(excess) < 0.35
    return jnp.where(near, jnp.log1p(jnp.where(near, excess, 0.0)), jnp.log(jnp.where(near, 1.0, ratio)))


@jax.custom_jvp
def log_ratio_minus(ratio: jax.Array, excess: jax.Array) -> jax.Array:
    """Return log(ratio) - excess, where ratio = 1 + excess, without cancellation near excess = 0.

    With e the excess and q = e/(2+e) it is -q e + 2 (q^3/3 + q^5/5 + ...). It is differentiated as log(1 + excess) - excess, a
    function of ``excess`` alone.
    """
    near = jnp.abs(excess) < 0.15
    e = jnp.where(near, excess, 0.0)
    q = e / (2.0 + e)
    q2 = q * q
    series = horner(1.0 / np.arange(3, 19, 2), q2)
    return jnp.where(near, 2.0 * q * q2 * series - q * e, jnp.log(jnp.where(near, 1.0, ratio)) - excess)


@log_ratio_minus.defjvp
def _log_ratio_minus_jvp(
    primals: tuple[jax.Array, ...], tangents: tuple[jax.Array, ...]
) -> tuple[jax.Array, jax.Array]:
    ratio, excess = primals
    return log_ratio_minus(ratio, excess), -excess / ratio * tangents[1]


@jax.custom_jvp
def gamma_kernel(a: jax.Array, x: jax.Array) -> jax.Array:
    """Return L = log(x^a exp(-x) / Gamma(a)) for a, x > 0, accurate also for large a and x."""
    return a * log_ratio_minus(x / a, (x - a) / a) + 0.5 * jnp.log(a) - HALF_LOG_2PI - stirling(a)


@gamma_kernel.defjvp
def _gamma_kernel_jvp(primals: tuple[jax.Array, ...], tangents: tuple[jax.Array, ...]) -> tuple[jax.Array, jax.Array]:
    (a, x), (da, dx) = primals, tangents
    excess = (x - a) / a
    slope = log_ratio(x / a, excess) + 0.5 / a - stirling_slope(a)
    return gamma_kernel(a, x), slope * da - excess * a / x * dx


@jax.custom_jvp
def beta_kernel(a: jax.Array, b: jax.Array, x: jax.Array, y: jax.Array) -> jax.Array:
    """Return L = log(x^a y^b / B(a, b)) for a, b > 0 and 0 < x < 1; ``y`` is 1 - x without its rounding error."""
    lean = b * x - a * y
    s = a + b
    deviance = a * log_ratio_minus(x * s / a, lean / a) + b * log_ratio_minus(y * s / b, -lean / b)
    at_s, at_a, at_b = stirling(jnp.stack([s, a, b]))
    return deviance + 0.5 * (jnp.log(a) + jnp.log(b / s)) - HALF_LOG_2PI + at_s - at_a - at_b


@beta_kernel.defjvp
def _beta_kernel_jvp(primals: tuple[jax.Array, ...], tangents: tuple[jax.Array, ...]) -> tuple[jax.Array, jax.Array]:
    (a, b, x, y), (da, db, dx, dy) = primals, tangents
    lean = b * x - a * y
    s = a + b
    at_s, at_a, at_b = 0.5 / jnp.stack([s, a, b]) - stirling_slope(jnp.stack([s, a, b]))
    slope_a = log_ratio(x * s / a, lean / a) + at_a - at_s
    slope_b = log_ratio(y * s / b, -lean / b) + at_b - at_s
    return beta_kernel(a, b, x, y), slope_a * da + slope_b * db + a / x * dx + b / y * dy
