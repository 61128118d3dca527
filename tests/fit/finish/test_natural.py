"""Both ends of a fit, for real and positive parameters: theta = u or exp(u), whose derivatives are known."""

from __future__ import annotations

import jax
import numpy as np
import pytest

from mlejax.fit.finish.natural import estimates, to_u
from mlejax.parameters import Positive, Real, make_space
from mlejax.parameters.fixed import fix

DECLARED = {"mu": Real(), "rate": Positive(shape=3), "beta": Real(shape=2), "sigma": Positive()}
FIXED = [None, {"mu": 0.5}, {"rate[1]": 2.0, "sigma": 0.3}, {"beta": [1.0, 2.0], "rate": [1.0, 2.0, 3.0]}]


@pytest.mark.parametrize("fixed", FIXED, ids=["none", "whole", "entries", "vectors"])
def test_logarithms(fixed: dict[str, object] | None) -> None:
    """With D = diag(d theta / d u): theta's score is D^-1 s, its information D^-1 (I + diag(s)) D^-1 in the logarithms."""
    rng = np.random.default_rng(2)
    with jax.enable_x64(True):
        space, held = fix(make_space(DECLARED, {}), fixed)
        held = None if held is None else np.asarray(held)
        values = [rng.exponential(size=leaf.shape) for leaf in space.leaves]
        u = to_u(space, values)
        free = [np.ones(leaf.size, bool) if leaf.free is None else np.array(leaf.free) for leaf in space.leaves]
        flat = np.concatenate([np.ravel(v)[own] for v, own in zip(values, free, strict=True)])
        logs = np.array([not label.startswith(("mu", "beta")) for label in space.theta_labels])
        np.testing.assert_allclose(u, np.where(logs, np.log(flat), flat), rtol=1e-14)
        half = rng.standard_normal((u.size, u.size))
        score, information = rng.standard_normal(u.size), half @ half.T
        found, params = estimates(space, u, score, information, held)
    slope = np.where(logs, flat, 1.0)
    np.testing.assert_allclose(found.theta, flat, rtol=1e-14)
    np.testing.assert_allclose(found.jacobian, np.diag(slope), rtol=1e-14)
    np.testing.assert_allclose(found.score, score / slope, rtol=1e-12)
    curved = information + np.diag(np.where(logs, score, 0.0))
    np.testing.assert_allclose(found.information, curved / np.outer(slope, slope), rtol=1e-12, atol=1e-14)
    given = {} if fixed is None else {name.partition("[")[0]: value for name, value in fixed.items() if "[" not in name}
    for name, value in zip(DECLARED, values, strict=True):
        want = np.array(given.get(name, value), float)
        if fixed is not None and f"{name}[1]" in fixed:
            want[1] = fixed[f"{name}[1]"]
        np.testing.assert_allclose(params[name], want, rtol=1e-14)
        assert np.shape(params[name]) == np.shape(want)
