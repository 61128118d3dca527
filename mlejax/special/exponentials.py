r"""Powers and exponentials that are analytic at the exponent 0, and functions with separate formulas for value and derivatives.

.. math:: R(w, q) = \frac{e^{qw} - 1}{q}, \qquad S(w, q) = \frac{e^{qw} - 1 - qw}{q^2} = \int_0^w R(s, q)\, ds

R is the Box-Cox transform of :math:`e^w`, S the exponent of the generalised gamma distribution. Their derivatives in q
are :math:`w^{n+1} G_n(qw)` and :math:`w^{n+2} E_n(qw)` with :math:`G_n(t) = \int_0^1 s^n e^{ts} ds` and
:math:`E_n(t) = \int_0^1 (1-s) s^n e^{ts} ds`.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from mlejax.special.kernels import horner

# Below this |t| the integrals are power series; 24 terms leave 1e-18.
_NEAR, _TERMS = 1.5, 24


def _series(n: int, weighted: bool) -> np.ndarray:
    """Return the first 24 power series coefficients in t of G_n(t), or of E_n(t) if ``weighted``, defined in `_integrals`."""
    k = np.arange(_TERMS)
    share = 1.0 / (k + n + 1.0)
    if weighted:
        share = share / (k + n + 2.0)
    return share / np.array([math.factorial(i) for i in k], dtype=float)


def _integrals(n: int, t: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Return G_n(t) = int_0^1 s^n exp(t s) ds and E_n(t) = int_0^1 (1 - s) s^n exp(t s) ds, elementwise."""
    near = jnp.abs(t) < _NEAR
    small, x = jnp.where(near, t, 0.0), jnp.where(near, _NEAR, t)
    grown = jnp.exp(x)
    before, last = jnp.zeros_like(x), jnp.expm1(x) / x
    for k in range(1, n + 1):
        before, last = last, (grown - k * last) / x
    weighted = ((n + 1) * last - (1.0 if n == 0 else n * before)) / x
    return jnp.where(near, horner(_series(n, False), small), last), jnp.where(
        near, horner(_series(n, True), small), weighted
    )


@partial(jax.custom_jvp, nondiff_argnums=(0,))
def _expm1_over(n: int, w: jax.Array, q: jax.Array) -> jax.Array:
    """Return the derivative of order n in q of R(w, q) = (exp(q w) - 1) / q, elementwise."""
    return w ** (n + 1) * _integrals(n, q * w)[0]


@_expm1_over.defjvp
def _expm1_over_jvp(n: int, primals: tuple[jax.Array, ...], tangents: tuple[jax.Array, ...]) -> tuple[jax.Array, jax.Array]:
    (w, q), (dw, dq) = primals, tangents
    return _expm1_over(n, w, q), w**n * jnp.exp(q * w) * dw + _expm1_over(n + 1, w, q) * dq


@partial(jax.custom_jvp, nondiff_argnums=(0,))
def _expm1_rest(n: int, w: jax.Array, q: jax.Array) -> jax.Array:
    """Return the derivative of order n in q of S(w, q) = (exp(q w) - 1 - q w) / q^2, elementwise."""
    return w ** (n + 2) * _integrals(n, q * w)[1]


@_expm1_rest.defjvp
def _expm1_rest_jvp(n: int, primals: tuple[jax.Array, ...], tangents: tuple[jax.Array, ...]) -> tuple[jax.Array, jax.Array]:
    (w, q), (dw, dq) = primals, tangents
    return _expm1_rest(n, w, q), _expm1_over(n, w, q) * dw + _expm1_rest(n + 1, w, q) * dq


def expm1_over(w: jax.Array, q: jax.Array) -> jax.Array:
    """Return R(w, q) = (exp(q w) - 1) / q, elementwise, with derivatives of every order; it is w at q = 0."""
    return _expm1_over(0, w, q)


def expm1_rest(w: jax.Array, q: jax.Array) -> jax.Array:
    """Return S(w, q) = (exp(q w) - 1 - q w) / q^2, elementwise, with derivatives of every order; it is w^2 / 2 at q = 0."""
    return _expm1_rest(0, w, q)


def differentiated_as(
    plain: Callable[..., jax.Array],
) -> Callable[[Callable[..., jax.Array]], Callable[..., jax.Array]]:
    """Return a decorator: the decorated function keeps its values, and gets the derivatives of ``plain``.

    ``plain`` is the same function as a difference of terms: accurate in its derivatives, but not in its value if the terms
    are nearly equal.
    """

    def decorate(stable: Callable[..., jax.Array]) -> Callable[..., jax.Array]:
        function = jax.custom_jvp(stable)

        @function.defjvp
        def _(primals: tuple[jax.Array, ...], tangents: tuple[jax.Array, ...]) -> tuple[jax.Array, jax.Array]:
            return function(*primals), jax.jvp(plain, primals, tangents)[1]

        return function

    return decorate
