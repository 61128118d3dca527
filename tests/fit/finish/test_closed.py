"""Both ends of a fit in NumPy, for real and positive parameters: the numbers of the general way."""

from __future__ import annotations

import jax
import numpy as np
import pytest

from mlejax.fit.finish import closed
from mlejax.fit.finish.natural import to_theta
from mlejax.parameters import Interval, Positive, Real, make_space
from mlejax.parameters.fixed import fix

DECLARED = {"mu": Real(), "rate": Positive(shape=3), "beta": Real(shape=2), "sigma": Positive()}
FIXED = [None, {"mu": 0.5}, {"rate[1]": 2.0, "sigma": 0.3}, {"beta": [1.0, 2.0], "rate": [1.0, 2.0, 3.0]}]


@pytest.mark.parametrize("fixed", FIXED, ids=["none", "whole", "entries", "vectors"])
def test_the_general_way_gives_the_same(fixed: dict[str, object] | None) -> None:
    rng = np.random.default_rng(2)
    with jax.enable_x64(True):
        space, held = fix(make_space(DECLARED, {}), fixed)
        held = None if held is None else np.asarray(held)
        values = [rng.exponential(size=leaf.shape) for leaf in space.leaves]
        u = closed.to_u(space, values)
        assert u is not None
        np.testing.assert_allclose(u, space.u_from_params(space.build(values)), rtol=1e-14)
        half = rng.standard_normal((u.size, u.size))
        score, information = rng.standard_normal(u.size), half @ half.T
        found = closed.at_optimum(space, u, score, information, held)
        assert found is not None
        for one, other in zip(found[0], to_theta(space, u, held, score, information), strict=True):
            np.testing.assert_allclose(one, other, rtol=1e-12, atol=1e-14)
        want = space.params_from_u(u, held)
        for name in DECLARED:
            np.testing.assert_allclose(found[1][name], want[name], rtol=1e-14)
            assert np.shape(found[1][name]) == np.shape(want[name])


def test_other_parameters_take_the_general_way() -> None:
    space = make_space({"share": Interval(0, 1), "mu": Real()}, {})
    assert closed.to_u(space, [np.asarray(0.5), np.asarray(0.0)]) is None
    assert closed.at_optimum(space, np.zeros(2), np.zeros(2), np.eye(2), None) is None
