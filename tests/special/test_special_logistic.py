"""log_sigmoid and softplus against mpmath, with their derivatives, in the tails and at 0."""

from __future__ import annotations

import jax
import mpmath
import numpy as np
import pytest

from mlejax.special import log_sigmoid, softplus


@pytest.mark.parametrize("x", [-700.0, -30.0, -1.5, -1e-9, 0.0, 1e-9, 0.7, 35.0, 700.0])
def test_values_and_derivatives(x: float) -> None:
    with mpmath.workdps(400):
        exact = [mpmath.log(1 / (1 + mpmath.exp(-mpmath.mpf(x))))]
        s = 1 / (1 + mpmath.exp(-mpmath.mpf(x)))
        exact += [1 - s, -s * (1 - s), -s * (1 - s) * (1 - 2 * s)]
        wanted = [float(v) for v in exact]
    with jax.enable_x64(True):
        f = log_sigmoid
        found = [float(log_sigmoid(x))]
        for _ in range(3):
            f = jax.grad(f)
            found.append(float(f(x)))
        assert float(softplus(-x)) == -found[0]
    np.testing.assert_allclose(found, wanted, rtol=1e-14, atol=1e-17)
