"""The steps of methods with curvature, taken in NumPy on the host: the same as those that are traced."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mlejax.linalg import solve_spd, solve_spd_host
from mlejax.optimize import BHHH, Carry, Newton, run_on_host
from mlejax.status import End
from tests.optimize.problems import POISSON_GROUPS, Plain, poisson_groups, rosenbrock, run, terms_objective


def on_host(method: Any, objective: Any, u0: Any, lower: Any = None, upper: Any = None, scale: float = 1.0) -> Carry:
    """As `problems.run`, with every step in NumPy."""
    with jax.enable_x64(True):
        evaluate = jax.jit(lambda u: method.evaluate(objective, u))
        in_numpy = lambda u: tuple(np.asarray(a) for a in evaluate(u))
        return run_on_host(method, in_numpy, np.asarray(u0, np.float64), (lower, upper), scale)


def saddle(u: Any) -> Any:
    """Starts on the ridge between two minima."""
    return 0.25 * u[0] ** 4 - 0.5 * u[0] ** 2 + 0.5 * u[1] ** 2


def cliff(u: Any) -> Any:
    """Not a number beyond 2, with the minimum near it."""
    return -jnp.log(2.0 - u[0]) - 3.0 * u[0] + u[1] ** 2


def far(u: Any) -> Any:
    """Down an exponential from a height at which its logarithm is modelled."""
    return jnp.exp(u[0]) - 2.0 * u[0] + (u[1] - u[0]) ** 2


BOX = (np.array([-np.inf, 0.5]), np.array([0.25, np.inf]))
CASES = {
    "counts": (Newton(), terms_objective(poisson_groups), [0.0, 0.0], None, None, 200.0),
    "outer products": (BHHH(), terms_objective(poisson_groups), [0.0, 0.0], None, None, 200.0),
    "valley": (Newton(), Plain(rosenbrock), [-1.2, 1.0], None, None, 100.0),
    "valley in a box": (Newton(), Plain(rosenbrock), [-1.2, 1.0], *BOX, 100.0),
    "saddle": (Newton(), Plain(saddle), [0.0, 1.0], None, None, 10.0),
    "cliff": (Newton(), Plain(cliff), [-3.0, 1.0], None, None, 10.0),
    "far": (Newton(), Plain(far), [20.0, 3.0], None, None, 10.0),
    "no minimum": (Newton(), Plain(lambda u: jnp.exp(-u[0]) + u[1] ** 2), [0.0, 1.0], None, None, 100.0),
    "flat": (Newton(), Plain(lambda u: (u[0] - 1.0) ** 2 + 0.0 * u[1]), [0.0, 0.0], None, None, 100.0),
    "start not finite": (Newton(), Plain(lambda u: jnp.log(u[0]) + u[1]), [-1.0, 0.0], None, None, 100.0),
    "step limit": (Newton(max_steps=3), Plain(rosenbrock), [-1.2, 1.0], None, None, 100.0),
}


@pytest.mark.parametrize("case", CASES)
def test_the_host_walks_the_same_path(case: str) -> None:
    method, objective, u0, lower, upper, scale = CASES[case]
    traced = run(method, objective, u0, lower, upper, scale)
    host = on_host(method, objective, u0, lower, upper, scale)
    assert End(int(host.status)) == End(int(traced.status))
    assert int(host.n_steps) == int(traced.n_steps)
    assert int(host.n_evaluations) == int(traced.n_evaluations)
    np.testing.assert_allclose(host.u, traced.u, rtol=1e-9, atol=1e-12)
    assert {type(a) for a in jax.tree.leaves(host)} == {np.ndarray}
    assert [np.asarray(a).dtype for a in jax.tree.leaves(host)] == [a.dtype for a in jax.tree.leaves(traced)]


def test_the_host_reaches_the_closed_form() -> None:
    found = on_host(*CASES["counts"])
    np.testing.assert_allclose(found.u, POISSON_GROUPS, rtol=1e-10)
    assert End(int(found.status)) == End.CONVERGED


@pytest.mark.parametrize("p", [1, 3, 5, 8])
def test_both_solvers_agree_on_what_is_positive_definite(p: int) -> None:
    rng = np.random.default_rng(p)
    factor = rng.standard_normal((p, p + 2))
    a = factor @ factor.T
    a /= np.sqrt(np.outer(np.diag(a), np.diag(a)))
    b = rng.standard_normal(p)
    matrices = {"definite": a, "not finite": np.full((p, p), np.nan), "negative": -a}
    if p > 1:
        flat = np.ones((p, p))
        matrices |= {"singular": flat, "indefinite": 2.0 * flat - np.eye(p), "barely": flat + 1e-9 * np.eye(p)}
    traced_solve = jax.jit(solve_spd)
    for name, matrix in matrices.items():
        with jax.enable_x64(True):
            x, ok = traced_solve(matrix, b)
        y, okay = solve_spd_host(matrix, b)
        assert bool(ok) == bool(okay) == (name in ("definite", "barely")), name
        assert np.isfinite(y).all()
        if name == "definite":
            np.testing.assert_allclose(y, np.asarray(x), rtol=1e-9)
