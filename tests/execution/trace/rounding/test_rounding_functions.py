"""The rounding of functions of one operand, as XLA computes them, against 40 digits."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import mpmath as mp
import numpy as np
import pytest
from jax import lax
from jax.scipy import special

from mlejax.execution.trace.rounding.rounding_functions import FUNCTIONS, own_rounding_of_function

_rng = np.random.default_rng(11)
ANY = np.concatenate([_rng.uniform(-25.0, 25.0, 250), _rng.uniform(-1.0, 1.0, 150)])
LARGE = np.concatenate([ANY, _rng.uniform(-700.0, 700.0, 100)])
POSITIVE = np.concatenate([np.exp(_rng.uniform(-20.0, 20.0, 200)), _rng.uniform(0.1, 5.0, 400)])
# where log1p loses digits, and with it atanh and erf_inv, and both ends
INSIDE = np.concatenate([_rng.uniform(-1.0, 1.0, 200), np.linspace(0.3, 0.7, 400), 1.0 - np.exp(_rng.uniform(-30.0, -1.0, 100))])
ABOVE_MINUS_1 = np.concatenate([np.expm1(_rng.uniform(-20.0, 20.0, 150)), np.linspace(-0.5, -0.3, 150)])

TRUTH: dict[str, tuple[Callable[[Any], Any], Callable[[Any], Any], np.ndarray]] = {
    "exp": (jnp.exp, mp.exp, LARGE),
    "exp2": (jnp.exp2, lambda x: mp.mpf(2) ** x, ANY),
    "log": (jnp.log, mp.log, POSITIVE),
    "log1p": (jnp.log1p, mp.log1p, ABOVE_MINUS_1),
    "expm1": (jnp.expm1, mp.expm1, ANY),
    "tanh": (jnp.tanh, mp.tanh, ANY),
    # the formula by which JAX 0.12 lowers its primitive of this name, which older versions lack
    "one_minus_square": (lambda x: (1.0 + x) * (1.0 - x), lambda x: 1 - x * x, np.concatenate([ANY, INSIDE])),
    "logistic": (lax.logistic, lambda x: 1 / (1 + mp.exp(-x)), ANY),
    "sin": (jnp.sin, mp.sin, ANY),
    "cos": (jnp.cos, mp.cos, ANY),
    "tan": (jnp.tan, mp.tan, ANY),
    "asin": (jnp.arcsin, mp.asin, INSIDE),
    "acos": (jnp.arccos, mp.acos, INSIDE),
    "atan": (jnp.arctan, mp.atan, ANY),
    "sinh": (jnp.sinh, mp.sinh, LARGE),
    "cosh": (jnp.cosh, mp.cosh, LARGE),
    "asinh": (jnp.arcsinh, mp.asinh, ANY),
    "acosh": (jnp.arccosh, mp.acosh, 1.0 + POSITIVE),
    "atanh": (jnp.arctanh, mp.atanh, INSIDE),
    "sqrt": (jnp.sqrt, mp.sqrt, POSITIVE),
    "rsqrt": (lax.rsqrt, lambda x: 1 / mp.sqrt(x), POSITIVE),
    "cbrt": (jnp.cbrt, mp.cbrt, POSITIVE),
    # since JAX 0.12 an operation of its own
    "log2": (getattr(lax, "log2", jnp.log2), lambda x: mp.log(x, 2), POSITIVE),
    "lgamma": (lax.lgamma, mp.loggamma, POSITIVE),
    "digamma": (lax.digamma, mp.digamma, POSITIVE),
    "erf": (special.erf, mp.erf, ANY),
    "erfc": (special.erfc, mp.erfc, ANY),
    "erf_inv": (special.erfinv, mp.erfinv, INSIDE),
    "bessel_i0e": (special.i0e, lambda x: mp.besseli(0, x) * mp.exp(-abs(x)), ANY),
    "bessel_i1e": (special.i1e, lambda x: mp.besseli(1, x) * mp.exp(-abs(x)), ANY),
}


def test_every_function_has_its_truth() -> None:
    assert sorted(TRUTH) == sorted(FUNCTIONS)


@pytest.mark.parametrize("name", sorted(TRUTH))
def test_rounding_is_below_its_bound(name: str) -> None:
    function, truth, x = TRUTH[name]
    with jax.enable_x64(True):
        computed = np.asarray(jax.jit(function)(x))
        in_jax = np.asarray(own_rounding_of_function(name, jnp.asarray(x), jnp.asarray(computed), jnp))
    bound = own_rounding_of_function(name, x, computed, np)
    with mp.workdps(40):
        right = [truth(mp.mpf(a)) for a in x.tolist()]
        errors = np.array([float(abs(mp.mpf(c) - t) * 2**53) for c, t in zip(computed.tolist(), right, strict=True)])
    assert np.all(errors <= bound), (name, x[np.argmax(errors / bound)], np.max(errors / bound))
    np.testing.assert_allclose(in_jax, bound, rtol=1e-12)


def test_erfc_is_bounded_at_infinity() -> None:
    """Of the values 0 and 2 that erfc has there."""
    bound = own_rounding_of_function("erfc", np.array([np.inf, -np.inf]), np.array([0.0, 2.0]), np)
    assert np.isfinite(bound).all()
