"""Newton's method on problems with known answers: where it ends, why, and what it reports about the way."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mlejax.optimize import Newton, advance, begin
from mlejax.status import End
from tests.optimize.problems import GROUP, POISSON_GROUPS, Plain, Y, poisson_groups, rosenbrock, run, terms_objective


def test_quadratic_needs_three_evaluations_and_reports_its_decrements() -> None:
    """f = (u1^2 + 4 u2^2) / 2 from (3, 1): H = diag(1, 4), g = (3, 4), N = 10 (9 + 4) = 130, then 0 twice."""
    carry = run(Newton(), Plain(lambda u: 0.5 * (u[0] ** 2 + 4.0 * u[1] ** 2)), [3.0, 1.0], scale=10.0)
    assert End(int(carry.status)) is End.CONVERGED
    # the start is outside the first radius of 1, so the second evaluation is a shortened step; the rest are exact
    assert carry.n_evaluations == carry.n_steps + 1 <= 6
    np.testing.assert_allclose(carry.u, 0.0, atol=1e-15)
    assert carry.decrements[-1] <= 1e-25
    first = run(Newton(), Plain(lambda u: 0.5 * (u[0] ** 2 + 4.0 * u[1] ** 2)), [3.0, 1.0], scale=10.0, turns=1)
    assert End(int(first.status)) is End.RUNNING
    np.testing.assert_allclose(first.decrements, [np.inf, np.inf, np.inf, 130.0], rtol=1e-14)
    np.testing.assert_array_equal(first.u, [3.0, 1.0])
    np.testing.assert_allclose(first.H, [[1.0, 0.0], [0.0, 4.0]])


def test_full_newton_steps_by_hand() -> None:
    """f = exp(u) - u from 0.5: u <- u - 1 + exp(-u), N = (exp(u) - 1)^2 / exp(u)."""
    u, path = 0.5, []
    for _ in range(6):
        path.append((np.exp(u) - 1.0) ** 2 / np.exp(u))
        u = u - 1.0 + np.exp(-u)
    carry = run(Newton(), Plain(lambda u: jnp.exp(u[0]) - u[0]), [0.5])
    done = int(carry.n_steps)
    assert done == 5  # N: 0.26, 3e-3, 5e-6, 1e-12 <= tol, and the confirming step after it
    np.testing.assert_allclose(carry.decrements[-2:-1], path[done - 1 : done], rtol=1e-3)
    np.testing.assert_allclose(carry.decrements[0], path[done - 3], rtol=1e-10)


def test_poisson_means() -> None:
    carry = run(Newton(), terms_objective(poisson_groups), [0.0, 0.0], scale=200.0)
    assert End(int(carry.status)) is End.CONVERGED
    np.testing.assert_allclose(carry.u, POISSON_GROUPS, rtol=1e-13)


@pytest.mark.parametrize("start", [(-1.2, 1.0), (10.0, -10.0), (0.0, 100.0), (-30.0, 5.0)])
def test_rosenbrock(start: tuple[float, float]) -> None:
    carry = run(Newton(), Plain(rosenbrock), start)
    assert End(int(carry.status)) is End.CONVERGED
    np.testing.assert_allclose(carry.u, 1.0, rtol=1e-9)


def test_leaves_a_stationary_saddle() -> None:
    """x^4 - x^2 + y^2 has zero gradient at 0 and minima -1/4 at x = +-1/sqrt(2)."""
    carry = run(Newton(), Plain(lambda u: u[0] ** 4 - u[0] ** 2 + u[1] ** 2), [0.0, 0.0])
    assert End(int(carry.status)) is End.CONVERGED
    np.testing.assert_allclose(np.abs(carry.u), [np.sqrt(0.5), 0.0], atol=1e-12)
    np.testing.assert_allclose(carry.f, -0.25, rtol=1e-14)


def test_leaves_a_stationary_maximum() -> None:
    carry = run(Newton(), Plain(lambda u: jnp.cos(u[0]) + 0.5 * (u[1] - 2.0) ** 2), [0.0, 2.0])
    assert End(int(carry.status)) is End.CONVERGED
    np.testing.assert_allclose(np.cos(carry.u[0]), -1.0, atol=1e-14)


def test_start_at_the_solution_is_confirmed_at_once() -> None:
    carry = run(Newton(), Plain(lambda u: 0.5 * jnp.sum((u - 1e6) ** 2)), [1e6, 1e6])
    assert End(int(carry.status)) is End.CONVERGED
    assert carry.n_evaluations == 2


def test_step_below_the_resolution_of_u_is_no_fading_curvature() -> None:
    """From 2^-29 away at 1e6 the confirming step is rounded: still a maximum, not a plateau."""
    carry = run(Newton(), Plain(lambda u: 0.5 * (u[0] - 1e6 - 1.0 / 3.0) ** 2), [1e6 + 1.0 / 3.0 + 2.0**-29])
    assert End(int(carry.status)) is End.CONVERGED


# ---- no maximum, or none that is unique


def test_separated_data_end_as_diverged_with_linear_decrements() -> None:
    """log(1 + exp(-u)) falls forever: far out a Newton step moves by 1 and N falls by the factor e."""
    carry = run(Newton(), Plain(lambda u: -jax.nn.log_sigmoid(u[0])), [0.0], scale=50.0)
    assert End(int(carry.status)) is End.DIVERGED
    ratios = carry.decrements[1:] / carry.decrements[:-1]
    np.testing.assert_allclose(ratios, np.exp(-1.0), rtol=1e-3)


@pytest.mark.parametrize("power", [4, 6])
def test_degenerate_minimum_is_not_called_converged(power: int) -> None:
    """u^4 has its minimum at 0, where the information is 0: no standard error could stand behind it."""
    carry = run(Newton(), Plain(lambda u: u[0] ** power), [1.0])
    assert End(int(carry.status)) in (End.DIVERGED, End.SINGULAR)


def test_plateau_towards_infinity_is_not_called_converged() -> None:
    carry = run(Newton(), Plain(lambda u: 1.0 / (1.0 + u[0] ** 2) + (u[1] - 1.0) ** 2), [1.5, 0.0], scale=10.0)
    assert End(int(carry.status)) is End.DIVERGED


def test_unbounded_below_is_not_called_converged() -> None:
    """The spike of a mixture: f falls linearly in log sigma, forever."""
    carry = run(Newton(), Plain(lambda u: u[0] + jnp.exp(-2.0 * u[1]) + u[1]), [0.0, 0.0])
    assert End(int(carry.status)) not in (End.CONVERGED, End.PRECISION_FLOOR, End.RUNNING)


def test_collinear_parameters_end_as_singular_at_a_solution() -> None:
    """Only u1 + 2 u2 matters; its best value is 3. The free direction does not wander."""
    carry = run(Newton(), Plain(lambda u: (u[0] + 2.0 * u[1] - 3.0) ** 2), [0.0, 0.0], scale=100.0)
    assert End(int(carry.status)) is End.SINGULAR
    np.testing.assert_allclose(carry.u[0] + 2.0 * carry.u[1], 3.0, rtol=1e-9)
    assert np.max(np.abs(carry.u)) < 4.0


def test_unused_parameter_ends_as_singular_and_stays_where_it_was() -> None:
    carry = run(Newton(), Plain(lambda u: jnp.cosh(u[0] - 1.0)), [0.0, 7.0], scale=100.0)
    assert End(int(carry.status)) is End.SINGULAR
    np.testing.assert_allclose(carry.u, [1.0, 7.0], rtol=1e-6)


# ---- regions that are not finite


def test_start_that_is_not_finite_is_said() -> None:
    carry = run(Newton(), Plain(lambda u: -jnp.log(u[0]) + u[0]), [-1.0])
    assert End(int(carry.status)) is End.START_NOT_FINITE
    assert carry.n_evaluations == 1
    assert carry.n_steps == 0
    np.testing.assert_array_equal(carry.u, [-1.0])


def test_steps_into_nan_are_shortened() -> None:
    """u - log u from 1.99: the Newton step lands at 2 u - u^2 = 0.02; from 5 it would land at -15, where f is NaN."""
    for start in (1.99, 5.0, 50.0):
        carry = run(Newton(), Plain(lambda u: u[0] - jnp.log(u[0])), [start])
        assert End(int(carry.status)) is End.CONVERGED
        np.testing.assert_allclose(carry.u, 1.0, rtol=1e-12)


def test_descends_from_an_overflow_in_a_few_steps() -> None:
    """exp(u) - u from 600: plain Newton steps are of length 1."""
    carry = run(Newton(), Plain(lambda u: jnp.exp(u[0]) - u[0]), [600.0])
    assert End(int(carry.status)) is End.CONVERGED
    assert carry.n_evaluations < 40
    np.testing.assert_allclose(carry.u, 0.0, atol=1e-12)


# ---- boxes


def test_solution_at_the_edge_of_a_box() -> None:
    """(u1 + 1)^2 + (u2 - 2)^2 + u1 u2 on u1 >= 0: at u1 = 0, u2 = 2, with gradient (2 + 2, 0)."""
    objective = Plain(lambda u: (u[0] + 1.0) ** 2 + (u[1] - 2.0) ** 2 + u[0] * u[1])
    lower, upper = np.array([0.0, -np.inf]), np.full(2, np.inf)
    carry = run(Newton(), objective, [3.0, -5.0], lower, upper)
    assert End(int(carry.status)) is End.CONVERGED
    np.testing.assert_allclose(carry.u, [0.0, 2.0], atol=1e-12)
    assert carry.u[0] == 0.0
    np.testing.assert_allclose(carry.g, [4.0, 0.0], atol=1e-12)


def test_box_that_does_not_bind_changes_nothing() -> None:
    carry = run(Newton(), Plain(rosenbrock), [0.1, 0.9], np.zeros(2), np.full(2, 5.0))
    assert End(int(carry.status)) is End.CONVERGED
    np.testing.assert_allclose(carry.u, 1.0, rtol=1e-10)


def test_rosenbrock_in_a_box_that_cuts_the_valley() -> None:
    """With u1 <= 1/2 the solution is (1/2, 1/4)."""
    carry = run(Newton(), Plain(rosenbrock), [-1.2, 1.0], np.full(2, -np.inf), np.array([0.5, np.inf]))
    assert End(int(carry.status)) is End.CONVERGED
    np.testing.assert_allclose(carry.u, [0.5, 0.25], rtol=1e-10)


def test_leaves_an_edge_that_does_not_bind() -> None:
    """A start on the edge with the descent direction pointing inside."""
    carry = run(Newton(), Plain(lambda u: (u[0] - 2.0) ** 2 + u[1] ** 2), [0.0, 0.0], np.zeros(2), np.full(2, np.inf))
    assert End(int(carry.status)) is End.CONVERGED
    np.testing.assert_allclose(carry.u, [2.0, 0.0], atol=1e-12)


def test_correlated_quadratic_in_an_orthant_satisfies_its_conditions() -> None:
    """u >= 0, g >= 0 and u g = 0 (Karush, Kuhn & Tucker) for random positive definite quadratics."""
    rng = np.random.default_rng(4)
    lower, upper = np.zeros(6), np.full(6, np.inf)

    @jax.jit  # one program for all five
    def solve(a: Any, b: Any, carry: Any) -> Any:
        return advance(Newton(), Plain(lambda u: 0.5 * u @ a @ u - b @ u), carry, lower, upper, 1.0, 1000)

    for _ in range(5):
        x = rng.normal(size=(12, 6))
        a, b = x.T @ x, rng.normal(size=6) * 5.0
        with jax.enable_x64(True):
            carry = jax.tree.map(np.asarray, solve(a, b, begin(Newton(), np.ones(6), lower, upper)))
        assert End(int(carry.status)) is End.CONVERGED
        gradient = a @ carry.u - b
        assert np.all(carry.u >= 0)
        assert np.all(gradient >= -1e-8)
        np.testing.assert_allclose(carry.u * gradient, 0.0, atol=1e-8)


# ---- invariance, laws of the loop


@pytest.mark.parametrize("factor", [1e-6, 1e6])
def test_rescaling_u_changes_nothing(factor: float) -> None:
    scales = np.array([factor, 1.0])
    plain = run(Newton(), Plain(rosenbrock), [-1.2, 1.0])
    scaled = run(Newton(), Plain(lambda u: rosenbrock(u * scales)), np.array([-1.2, 1.0]) / scales)
    assert plain.n_evaluations == scaled.n_evaluations
    np.testing.assert_allclose(scaled.u * scales, plain.u, rtol=1e-9)


def test_objective_never_rises_and_the_kept_point_is_the_evaluated_one() -> None:
    with jax.enable_x64(True):
        objective, method = Plain(rosenbrock), Newton()
        step = jax.jit(lambda carry: advance(method, objective, carry, None, None, 1.0, 1))
        carry = step(begin(method, np.array([-1.2, 1.0])))
        while carry.status == int(End.RUNNING):
            after = step(carry)
            assert after.f <= carry.f + 1e-15
            np.testing.assert_allclose(after.f, rosenbrock(after.u), rtol=1e-6, atol=1e-20)
            carry = after
        assert carry.status == int(End.CONVERGED)


def test_exhaustion_is_said_and_counted() -> None:
    carry = run(Newton(max_steps=5), Plain(rosenbrock), [-1.2, 1.0])
    assert End(int(carry.status)) is End.MAX_STEPS
    assert carry.n_evaluations == 6


def test_float32_ends_without_claiming_what_it_cannot_see() -> None:
    y, group = Y.astype(np.float32), GROUP.astype(np.float32)
    eta = lambda u: u[0] + (u[1] - u[0]) * group
    objective = Plain(lambda u: jnp.mean(jnp.exp(eta(u)) - y * eta(u)))
    solve = jax.jit(lambda carry: advance(Newton(), objective, carry, None, None, 200.0, 1000))
    carry = solve(begin(Newton(), np.zeros(2, np.float32)))
    assert carry.u.dtype == jnp.float32
    assert End(int(carry.status)) in (End.CONVERGED, End.PRECISION_FLOOR)
    np.testing.assert_allclose(carry.u, POISSON_GROUPS, rtol=1e-4)


def test_derivatives_that_do_not_belong_to_the_function_stall() -> None:
    class Wrong:
        def with_hessian(self, u: Any) -> Any:
            return jnp.sum(u**2), -2.0 * u, 2.0 * jnp.eye(2)

    carry = run(Newton(), Wrong(), [1.0, 2.0])
    assert End(int(carry.status)) is End.STALLED
    np.testing.assert_array_equal(carry.u, [1.0, 2.0])


def test_of_many_rows_a_step_that_fell_far_confirms_itself() -> None:
    """f = exp(u) - u with N = 1e4 (exp(u) - 1)^2 / exp(u): from 0.05 N is 25, 1.6e-2, 6e-9, 1e-21, of which the last needs no
    other."""
    bowl = Plain(lambda u: jnp.exp(u[0]) - u[0])
    few, many = run(Newton(), bowl, [0.05], scale=999.0), run(Newton(), bowl, [0.05], scale=10_000.0)
    assert End(int(few.status)) is End(int(many.status)) is End.CONVERGED
    assert many.decrements[-2] <= 1e-5
    assert many.decrements[-1] <= 1e-20
    assert many.n_evaluations == 4
    u, path = 0.05, []
    for _ in range(4):
        path.append(1e4 * (np.exp(u) - 1.0) ** 2 / np.exp(u))
        u = u - 1.0 + np.exp(-u)
    np.testing.assert_allclose(many.decrements[:3], path[:3], rtol=1e-6)
    assert abs(many.u[0]) < 1e-12


def test_of_very_many_rows_it_ends_as_near_in_units_of_the_data() -> None:
    """f = exp(u) - u with N about 1e7 u^2 at 0.04, 8e-4, 3e-7, 5e-14: the last is 2e-20, where few rows need a step more."""
    bowl = Plain(lambda u: jnp.exp(u[0]) - u[0])
    found = run(Newton(), bowl, [0.04], scale=1e7)
    assert End(int(found.status)) is End.CONVERGED
    assert 1e-20 < found.decrements[-1] <= 1e-18
    assert found.n_evaluations == 4
    assert abs(found.u[0]) < 3e-13


@pytest.mark.parametrize("tol", [1e-10, pytest.param(1e-3, marks=pytest.mark.slow), 0.5])
@pytest.mark.parametrize("scale", [1e3, pytest.param(1e6, marks=pytest.mark.slow)])
def test_nothing_flat_confirms_itself(tol: float, scale: float) -> None:
    flat = {
        "separated": (Plain(lambda u: -jax.nn.log_sigmoid(u[0])), [0.0]),
        "quartic": (Plain(lambda u: u[0] ** 4), [1.0]),
        "plateau": (Plain(lambda u: 1.0 / (1.0 + u[0] ** 2) + (u[1] - 1.0) ** 2), [1.5, 0.0]),
    }
    for name, (function, start) in flat.items():
        carry = run(Newton(tol=tol), function, start, scale=scale)
        assert End(int(carry.status)) in (End.DIVERGED, End.SINGULAR, End.STALLED), name


# ---- ridges


@functools.cache
def box_cox(unit: float) -> tuple[Plain, np.ndarray]:
    """Box & Cox (1964) with a normal mean and spread, and the start at lam = 1; y in units of `unit`."""
    y = np.random.default_rng(0).gamma(3.0, size=200) * unit

    def minus_mean_loglik(u: Any) -> Any:
        lam, mu, log_sigma = u
        z = (y**lam - 1.0) / lam
        return jnp.mean(0.5 * ((z - mu) * jnp.exp(-log_sigma)) ** 2 + log_sigma - (lam - 1.0) * jnp.log(y))

    return Plain(minus_mean_loglik), np.array([1.0, y.mean() - 1.0, np.log(y.std())])


@pytest.mark.parametrize("unit", [1e-3, 1.0, 1e3])
def test_box_cox_has_one_maximum_in_all_units(unit: float) -> None:
    """lam does not depend on the units of y. The log-likelihoods differ by n log(unit)."""
    plain, scaled = (run(Newton(), *box_cox(k), scale=200.0) for k in (1.0, unit))
    assert End(int(scaled.status)) is End.CONVERGED
    np.testing.assert_allclose(scaled.u[0], plain.u[0], rtol=1e-6)
    np.testing.assert_allclose(scaled.f, plain.f + np.log(unit), rtol=1e-9)


def test_a_ridge_narrower_than_its_bend_uses_up_the_steps_and_says_so() -> None:
    """In millionths the mean has to follow lam to 1e-6 while it bends by 1/lam^2: steps of about 1e-3, whatever the scaling."""
    objective, start = box_cox(1e-6)
    carry = run(Newton(), objective, start, scale=200.0)
    assert End(int(carry.status)) is End.MAX_STEPS
    assert carry.n_evaluations == Newton().max_steps + 1
    assert carry.f < float(run(Newton(max_steps=20), objective, start, scale=200.0).f)
