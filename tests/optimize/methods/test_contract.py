"""Every method through the same contract, and the drivers: solution, status, jit in pieces, vmap, one compilation, boxes."""

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.scipy.stats import norm

import mlejax as mle
from mlejax.optimize import (
    BHHH,
    LBFGS,
    Adam,
    FirstOrder,
    Newton,
    OptimizeResult,
    advance,
    begin,
    resolve,
    run_in_dispatches,
    run_on_host,
)
from mlejax.optimize.arrays import namespace
from mlejax.status import End
from tests.optimize.problems import GROUP, POISSON_GROUPS, Plain, Y, poisson_groups, run, terms_objective

METHODS = [
    Newton(),
    BHHH(),
    LBFGS(),
    Adam(learning_rate=0.05, tol=1e-10),
    FirstOrder(optax.sgd(0.2, momentum=0.5), tol=1e-10),
]
NAMES = [type(method).__name__ for method in METHODS]
DENSE = [method for method in METHODS if method.dense]
each = pytest.mark.parametrize("method", METHODS, ids=NAMES)

OBJECTIVE = terms_objective(poisson_groups)


@each
def test_solves_and_says_how_it_ended(method: Any) -> None:
    carry = run(method, OBJECTIVE, [0.0, 0.0], scale=200.0)
    assert End(int(carry.status)) is (End.CONVERGED if method in DENSE else End.SETTLED)
    np.testing.assert_allclose(carry.u, POISSON_GROUPS, atol=1e-5 if method in DENSE else 1e-3)
    with jax.enable_x64(True):
        np.testing.assert_allclose(carry.f, np.mean(poisson_groups(carry.u)), rtol=1e-12)
    assert carry.H.shape == ((2, 2) if method in DENSE else (0, 0))
    assert 0 < carry.n_steps < carry.n_evaluations <= method.max_steps + 1


@each
def test_in_pieces_is_the_same_as_at_once(method: Any) -> None:
    whole = run(method, OBJECTIVE, [0.0, 0.0], scale=200.0)
    with jax.enable_x64(True):
        piece = jax.jit(lambda carry, turns: advance(method, OBJECTIVE, carry, None, None, 200.0, turns))
        carry, dispatches = begin(method, np.zeros(2)), 0
        while carry.status == int(End.RUNNING):
            carry, dispatches = piece(carry, jnp.asarray(7, jnp.int32)), dispatches + 1
        again = piece(carry, jnp.asarray(7, jnp.int32))
    assert dispatches == -(-int(whole.n_evaluations) // 7)
    for a, b, c in zip(*map(jax.tree.leaves, (whole, carry, again)), strict=True):
        np.testing.assert_allclose(b, a, rtol=1e-12, atol=1e-300)
        np.testing.assert_array_equal(c, b)  # a finished run passes through


def test_a_turn_that_solves_the_subproblem_is_deferred_where_it_is_not_allowed() -> None:
    method, start = DENSE[0], np.array([3.0, -9.0])  # too far for a whole step
    with jax.enable_x64(True):
        go = jax.jit(lambda carry, allowed: advance(method, OBJECTIVE, carry, None, None, 200.0, 400, allowed))
        whole = jax.jit(lambda carry: advance(method, OBJECTIVE, carry, None, None, 200.0, 400))(begin(method, start))
        first = go(begin(method, start), False)
        again = go(first, False)
        done = go(first, True)
    assert first.status == int(End.RUNNING)
    assert first.n_evaluations < whole.n_evaluations
    for a, b in zip(jax.tree.leaves(first), jax.tree.leaves(again), strict=True):
        np.testing.assert_array_equal(b, a)  # the state is unchanged
    assert np.isfinite(first.trial).all()
    for a, b in zip(jax.tree.leaves(whole), jax.tree.leaves(done), strict=True):
        np.testing.assert_allclose(b, a, rtol=1e-12, atol=1e-300)


@each
def test_repeated_calls_compile_once(method: Any) -> None:
    traces: list[int] = []
    compilations: list[str] = []

    def listen(event: str, duration: float, **_: Any) -> None:
        if event.endswith("backend_compile_duration"):
            compilations.append(event)

    def traced(carry: Any, turns: Any, lift: Any) -> Any:
        traces.append(1)
        objective = Plain(lambda u: OBJECTIVE.function(u) + lift, OBJECTIVE.terms)
        return advance(method, objective, carry, None, None, jnp.asarray(200.0), turns)

    with jax.enable_x64(True):
        call = jax.jit(traced)
        begin(method, np.zeros(2))  # optax initialises its state operation by operation: compiled once as well
        jax.monitoring.register_event_duration_secs_listener(listen)
        try:
            for start in (0.0, 0.3):
                carry = begin(method, np.full(2, start))
                for _ in range(3):
                    carry = call(carry, np.asarray(2, np.int32), np.asarray(start))
        finally:
            jax.monitoring.unregister_event_duration_listener(listen)
    assert len(traces) == 1
    assert len(compilations) == 1


@each
def test_the_objective_is_traced_once(method: Any) -> None:
    calls = []

    class Counting(Plain):
        def value_and_grad(self, u: Any) -> Any:
            calls.append(1)
            return super().value_and_grad(u)

        def with_hessian(self, u: Any) -> Any:
            calls.append(1)
            return super().with_hessian(u)

        def with_opg(self, u: Any) -> Any:
            calls.append(1)
            return super().with_opg(u)

    with jax.enable_x64(True):
        counting = Counting(OBJECTIVE.function, OBJECTIVE.terms)
        jax.jit(lambda u: advance(method, counting, begin(method, u), None, None, 200.0, 9)).trace(np.zeros(2))
    assert len(calls) == 1


@each
def test_lanes_of_vmap_are_the_runs_alone(method: Any) -> None:
    """Lanes that stop early, one whose start is not finite and one far away do not touch each other."""
    starts = np.array([[0.0, 0.0], [3.0, -2.0], [np.nan, 0.0], [0.6, 0.6]])

    def solve(u0: Any) -> Any:
        return advance(method, OBJECTIVE, begin(method, u0), None, None, 200.0, 400)

    with jax.enable_x64(True):
        together = jax.jit(jax.vmap(solve))(starts)
        one = jax.jit(solve)
        alone = [one(start) for start in starts]
    assert End(int(together.status[2])) is End.START_NOT_FINITE
    for i, single in enumerate(alone):
        assert int(together.status[i]) == int(single.status)
        np.testing.assert_allclose(together.u[i], single.u, rtol=1e-10, atol=1e-12)
        np.testing.assert_allclose(together.f[i], single.f, rtol=1e-12)
        assert int(together.n_evaluations[i]) == int(single.n_evaluations)


@each
def test_stays_in_the_box_and_finds_its_edge(method: Any) -> None:
    """With u1 <= 1/2 below its best value, the first coordinate ends on the edge and the second is not affected."""
    upper = np.array([0.5, np.inf])
    assert POISSON_GROUPS[0] > 0.5

    class Guarded(Plain):
        """Not finite outside the box: nothing may look there."""

    guarded = Guarded(lambda u: jnp.where(u[0] > 0.5, jnp.nan, OBJECTIVE.function(u)), lambda u: poisson_groups(u))
    carry = run(method, guarded, [3.0, 0.0], np.full(2, -np.inf), upper, scale=200.0)
    assert End(int(carry.status)) in (End.CONVERGED, End.SETTLED)
    assert carry.u[0] == 0.5
    np.testing.assert_allclose(carry.u[1], POISSON_GROUPS[1], atol=1e-5 if method in DENSE else 1e-3)


@each
def test_a_start_that_is_not_finite(method: Any) -> None:
    carry = run(method, Plain(lambda u: jnp.log(u[0]), lambda u: jnp.log(u)), [-1.0])
    assert End(int(carry.status)) is End.START_NOT_FINITE
    assert carry.n_steps == 0


@each
def test_comes_back_from_regions_that_are_not_finite(method: Any) -> None:
    """Exponential durations w with rate u: mean(w) u - log u is NaN below 0; the estimate is 1 / mean(w)."""
    durations = np.random.default_rng(1).exponential(size=400)
    carry = run(method, terms_objective(lambda u: durations * u[0] - jnp.log(u[0])), [0.05], scale=400.0)
    assert End(int(carry.status)) in (End.CONVERGED, End.SETTLED)
    np.testing.assert_allclose(carry.u, 1.0 / durations.mean(), atol=2e-3)


@each
def test_too_few_steps_are_said(method: Any) -> None:
    import dataclasses

    carry = run(dataclasses.replace(method, max_steps=2), OBJECTIVE, [0.0, 0.0], scale=200.0)
    assert End(int(carry.status)) is End.MAX_STEPS
    assert carry.n_evaluations == 3


@each
def test_nothing_to_estimate(method: Any) -> None:
    carry = run(method, Plain(lambda u: jnp.asarray(1.5)), np.zeros(0))
    assert End(int(carry.status)) is End.CONVERGED
    assert carry.f == 1.5


@each
def test_is_hashable_and_equal_to_its_copy(method: Any) -> None:
    import copy

    assert hash(copy.copy(method)) == hash(method)
    assert copy.copy(method) == method


def test_bhhh_uses_outer_products_only() -> None:
    class First:
        def with_opg(self, u: Any) -> Any:
            return OBJECTIVE.with_opg(u)

    carry = run(BHHH(), First(), [0.0, 0.0], scale=200.0)
    assert End(int(carry.status)) is End.CONVERGED
    # the mean outer product at the solution: (y - mean)^2 averaged within each group, halved by the group's share
    means = np.exp(POISSON_GROUPS)
    expected = [np.sum((Y[k == GROUP] - means[k]) ** 2) / 200 for k in (0, 1)]
    np.testing.assert_allclose(np.diag(carry.H), expected, rtol=1e-4)


def test_lbfgs_on_a_surface_that_is_not_convex() -> None:
    """x^4 - x^2 + y^2 from a point of negative curvature; the minima are at x = +-1/sqrt(2)."""
    carry = run(LBFGS(tol=1e-12), Plain(lambda u: u[0] ** 4 - u[0] ** 2 + u[1] ** 2), [0.05, 1.0])
    assert End(int(carry.status)) is End.SETTLED
    np.testing.assert_allclose(np.abs(carry.u), [np.sqrt(0.5), 0.0], atol=1e-5)


def test_lbfgs_rosenbrock_in_many_dimensions() -> None:
    objective = Plain(lambda u: jnp.sum(100.0 * (u[1:] - u[:-1] ** 2) ** 2 + (1.0 - u[:-1]) ** 2))
    carry = run(LBFGS(tol=1e-12), objective, np.zeros(30))
    assert End(int(carry.status)) is End.SETTLED
    np.testing.assert_allclose(carry.u, 1.0, atol=1e-4)


def test_resolve() -> None:
    assert resolve("newton") == Newton()
    assert resolve("L-BFGS") == LBFGS()
    assert resolve("Adam") == Adam()
    assert resolve(BHHH) == BHHH()
    assert resolve(Newton(tol=1e-6)) == Newton(tol=1e-6)
    transformation = optax.sgd(0.1)
    assert resolve(transformation) == FirstOrder(transformation)
    assert hash(resolve(transformation)) == hash(FirstOrder(transformation))
    assert resolve(optax.sgd(0.1)) != FirstOrder(transformation)


@pytest.mark.parametrize("wrong", ["newtom", "bfgs", "", 3, None, object()])
def test_resolve_refuses(wrong: Any) -> None:
    with pytest.raises(ValueError, match="unknown method"):
        resolve(wrong)


def test_resolve_names_near_matches() -> None:
    with pytest.raises(ValueError, match="did you mean 'newton'"):
        resolve("newtom")
    with pytest.raises(ValueError, match="did you mean 'lbfgs'"):
        resolve("bfgs")


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: Newton(tol=0.0), "tol"),
        (lambda: Newton(tol=float("nan")), "tol"),
        (lambda: BHHH(max_steps=0), "max_steps"),
        (lambda: Newton(max_steps=1.5), "max_steps"),  # type: ignore[arg-type]
        (lambda: Adam(learning_rate=-1.0), "learning_rate"),
        (lambda: LBFGS(memory=0), "memory"),
    ],
)
def test_options_that_cannot_work_are_refused(make: Any, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        make()


def test_first_order_refuses_what_is_no_transformation() -> None:
    with pytest.raises(TypeError, match="gradient transformation"):
        FirstOrder(lambda u: u)


def test_start_is_moved_into_the_box_and_checked() -> None:
    carry = begin(Newton(), np.array([-5.0, 5.0]), lower=np.zeros(2), upper=np.ones(2))
    np.testing.assert_array_equal(carry.trial, [0.0, 1.0])
    with pytest.raises(ValueError, match="vector of floats"):
        begin(Newton(), np.zeros((2, 2)))
    with pytest.raises(ValueError, match="vector of floats"):
        begin(Newton(), np.array([1, 2]))


@dataclass(frozen=True)
class GradientAscent(mle.Method):
    """Ascent with a fixed rate: the least that a user's method can be."""

    rate: float = 0.5
    tol: float = 1e-10
    max_steps: int = 500

    def init(self, u: Any) -> Any:
        return ()

    def propose(self, state: Any, kept: Any) -> Any:
        return kept.u - self.rate * kept.g

    def update(self, state: Any, kept: Any, new: Any, setting: Any) -> Any:
        gain = setting.scale * (kept.f - new.f)
        return (), mle.Step(new.f < kept.f, jnp.where(gain <= self.tol, int(End.SETTLED), int(End.RUNNING)))


@dataclass(frozen=True)
class PlainNewton(mle.Method):
    """Full Newton steps without any safeguard."""

    tol: float = 1e-10
    max_steps: int = 50
    curvature = "hessian"

    def init(self, u: Any) -> Any:
        return ()

    def propose(self, state: Any, kept: Any) -> Any:
        return kept.u - namespace(kept.u).linalg.solve(kept.H, kept.g)

    def update(self, state: Any, kept: Any, new: Any, setting: Any) -> Any:
        xp = namespace(new.u)
        decrement = setting.scale * (new.g @ xp.linalg.solve(new.H, new.g))
        status = xp.where(decrement <= self.tol, int(End.CONVERGED), int(End.RUNNING))
        return (), mle.Step(True, status, decrement=decrement)


HEIGHTS = {"y": np.random.default_rng(3).normal(1.5, 2.0, size=60)}


@mle.model(mu=mle.Real(), sigma=mle.Positive())
def gaussian(params: Any, data: Any) -> Any:
    return norm.logpdf(data["y"], params["mu"], params["sigma"])


@pytest.mark.parametrize("method", [GradientAscent(), PlainNewton()], ids=lambda m: type(m).__name__)
def test_a_users_method_fits_a_model(method: Any) -> None:
    """Through fit, solve and a batch: the closed form of the normal model."""
    start = {"mu": 1.0, "sigma": 1.5}
    y = HEIGHTS["y"]
    truth = {"mu": y.mean(), "sigma": y.std()}
    res = gaussian.fit(HEIGHTS, start=start, method=method)
    assert res.verdict.code == "verified"
    np.testing.assert_allclose([res.params[k] for k in truth], list(truth.values()), rtol=1e-6)
    with jax.enable_x64(True):
        solve = jax.jit(lambda problem: mle.solve(gaussian, problem, start, method=method))
        pure = solve(gaussian.prepare(HEIGHTS))
        np.testing.assert_allclose([pure.params[k] for k in truth], list(truth.values()), rtol=1e-6)
    many = gaussian.fit_batch({"y": np.stack([y, y[::-1] + 1.0])}, start=start, method=method)
    np.testing.assert_allclose(many.params["mu"], [y.mean(), y.mean() + 1.0], rtol=1e-6)


def test_a_users_method_stays_in_the_box_and_its_steps_are_counted() -> None:
    carry = run(GradientAscent(), Plain(lambda u: jnp.sum((u + 1.0) ** 2)), [3.0, 0.5], np.zeros(2), np.full(2, np.inf))
    assert End(int(carry.status)) is End.SETTLED
    np.testing.assert_array_equal(carry.u, [0.0, 0.0])
    short = run(GradientAscent(rate=0.01, max_steps=7), OBJECTIVE, [0.0, 0.0], scale=200.0)
    assert End(int(short.status)) is End.MAX_STEPS
    assert (int(short.n_evaluations), int(short.n_steps)) == (8, 7)


@dataclass(frozen=True)
class Scaled(PlainNewton):
    """A required option, which the evaluation reads: a Hessian twice as large takes half of each Newton step."""

    tol: float = 1e-12
    max_steps: int = 100
    factor: float = None  # type: ignore[assignment]

    def __post_init__(self) -> None:
        if self.factor is None:
            raise TypeError("factor is required")

    def evaluate(self, objective: Any, u: Any) -> Any:
        f, g, H = objective.with_hessian(u)
        return f, g, self.factor * H


def test_options_are_read_in_evaluations() -> None:
    start = {"mu": 1.0, "sigma": 1.5}
    steps = [gaussian.fit(HEIGHTS, start=start, method=Scaled(factor=factor)).n_steps for factor in (1.0, 2.0)]
    assert steps[1] > 2 * steps[0]


@pytest.mark.slow
def test_options_are_read_alike_by_a_fit_and_a_batch() -> None:
    start, method = {"mu": 1.0, "sigma": 1.5}, Scaled(factor=2.0)
    one = gaussian.fit(HEIGHTS, start=start, method=method).n_steps
    many = gaussian.fit_batch({"y": np.stack([HEIGHTS["y"]] * 2)}, start=start, method=method)
    assert many.glance()["n_steps"].tolist() == [one, one]


def test_a_class_is_accepted_that_needs_no_options() -> None:
    assert resolve(PlainNewton) == PlainNewton()
    with pytest.raises(TypeError, match=r"method=Scaled cannot be made without options .*give an instance, Scaled\(...\)"):
        resolve(Scaled)


@dataclass(frozen=True)
class AtOnce(GradientAscent):
    """Says at its start that it has converged."""

    def update(self, state: Any, kept: Any, new: Any, setting: Any) -> Any:
        return (), mle.Step(True, End.CONVERGED)


def test_a_fit_says_nothing_of_the_method_that_newton_finishes() -> None:
    """What a method is worth is tested by the drivers alone: a fit polishes its end by Newton steps, and verifies that."""
    carry = run(AtOnce(), OBJECTIVE, [0.0, 0.0], scale=200.0)
    assert (End(int(carry.status)), int(carry.n_steps), carry.u.tolist()) == (End.CONVERGED, 0, [0.0, 0.0])
    res = gaussian.fit(HEIGHTS, start={"mu": 1.0, "sigma": 1.5}, method=AtOnce)
    assert res.verdict.code == "verified"
    assert "polished by Newton" in str(res.summary())


@dataclass(frozen=True)
class Counting(GradientAscent):
    def init(self, u: Any) -> Any:
        return {"n": jnp.zeros((), jnp.int32), "u": u}

    def update(self, state: Any, kept: Any, new: Any, setting: Any) -> Any:
        return {"n": state["n"] + jnp.sum(new.g > 0), "u": new.u}, mle.Step(True)


class Branching(GradientAscent):
    def update(self, state: Any, kept: Any, new: Any, setting: Any) -> Any:
        return (), mle.Step(True) if new.f < kept.f else mle.Step(False, End.SETTLED)


class OnNumPy(GradientAscent):
    def propose(self, state: Any, kept: Any) -> Any:
        return np.clip(np.asarray(kept.u), 0.0, 1.0)


class Shapeless(GradientAscent):
    def propose(self, state: Any, kept: Any) -> Any:
        return jnp.sum(kept.u)


class Grown(GradientAscent):
    def update(self, state: Any, kept: Any, new: Any, setting: Any) -> Any:
        return (new.u,), mle.Step(True)


class Stepless(GradientAscent):
    def update(self, state: Any, kept: Any, new: Any, setting: Any) -> Any:
        return (), True


class Misspelt(GradientAscent):
    def propose(self, state: Any, kept: Any) -> Any:
        return kept.u - self.rates * kept.g  # type: ignore[attr-defined]


class Capital(GradientAscent):
    curvature = "Hessian"  # type: ignore[assignment]


@pytest.mark.parametrize(
    ("method", "said"),
    [
        (Counting, r"Counting.update: state\['n'\] is int32\(\) from init and int64\(\) from update.*\.astype\(int32\)"),
        (Branching, r"Branching.update branches on a value .*jnp.where"),
        (OnNumPy, r"OnNumPy.propose hands a traced array to NumPy.*namespace"),
        (Shapeless, r"Shapeless.propose: expected an array like u, of shape \(3,\), got float64\(\)"),
        (Grown, r"Grown.update: expected a state of the structure that init returns"),
        (Stepless, r"expected a pair, the state and mle.Step\(...\), got \(\(\), True\)"),
        (Misspelt, r"no attribute 'rates'"),
        (Capital, r"Capital.curvature = 'Hessian': expected one of 'none', 'hessian', 'opg'"),
        (lambda: GradientAscent(tol=-1.0), r"GradientAscent\(tol=-1.0\): expected a positive number"),
    ],
)
def test_what_cannot_work_is_refused_before_data_are_read(method: Any, said: str) -> None:
    with pytest.raises((TypeError, ValueError, AttributeError), match=said) as caught:
        gaussian.fit({}, method=method())
    if method is Misspelt:
        assert "in Misspelt.propose" in caught.value.__notes__[0]


def test_a_method_that_lacks_a_part_is_refused() -> None:
    class Unfrozen(GradientAscent):
        __hash__ = None  # type: ignore[assignment]

    class Bare:
        def propose(self, state: Any, kept: Any) -> Any: ...
        def update(self, state: Any, kept: Any, new: Any, setting: Any) -> Any: ...

    with pytest.raises(TypeError, match="frozen dataclass"):
        resolve(Unfrozen())
    with pytest.raises(
        TypeError, match=r"no tol, max_steps, curvature, init, evaluate: derive its class from mle.Method"
    ):
        resolve(Bare())


# ---- the drivers


@each
def test_many_turns_a_dispatch_give_the_same_run(method: Any) -> None:
    whole = run(method, OBJECTIVE, [0.0, 0.0], scale=200.0)
    shown: list[int] = []
    with jax.enable_x64(True):
        go = jax.jit(lambda carry, turns: advance(method, OBJECTIVE, carry, None, None, 200.0, turns))
        carry = run_in_dispatches(go, begin(method, np.zeros(2)), 3, lambda steps, f, gap: shown.append(steps))
    assert int(carry.status) == int(whole.status)
    np.testing.assert_allclose(carry.u, whole.u, rtol=1e-12)
    assert shown == sorted(shown)
    assert shown[-1] == int(whole.n_steps)


@pytest.mark.parametrize("driver", ["host", "dispatches"])
def test_ctrl_c_keeps_the_best_point(driver: str) -> None:
    def interrupt(steps: int, f: float, gap: float) -> None:
        if steps >= 2:
            raise KeyboardInterrupt

    with jax.enable_x64(True):
        if driver == "host":
            derivatives = jax.jit(OBJECTIVE.with_hessian)
            evaluate = lambda u: tuple(np.asarray(a) for a in derivatives(u))
            carry = run_on_host(Newton(), evaluate, np.zeros(2), scale=200.0, report=interrupt)
        else:
            go = jax.jit(lambda carry, turns: advance(Newton(), OBJECTIVE, carry, None, None, 200.0, turns))
            carry = run_in_dispatches(go, begin(Newton(), np.zeros(2)), 3, interrupt)
        start = float(OBJECTIVE.value(np.zeros(2)))
    assert int(carry.status) == int(End.INTERRUPTED)
    assert int(carry.n_steps) == 2
    assert carry.f < start


# ---- results


def test_a_result_has_an_optional_axis_of_data_sets() -> None:
    many = OptimizeResult.empty(5, 2, dense=True)
    assert many.status.tolist() == [int(End.INTERRUPTED)] * 5
    one = many.of(0)._replace(u=np.array([1.0, 2.0]), status=np.asarray(int(End.CONVERGED)))
    many.put(3, one)
    many.put(np.array([0, 1]), many.of(np.array([3, 3])))
    assert many.u[[0, 1, 3]].tolist() == [[1.0, 2.0]] * 3
    assert many.of(3).end is End.CONVERGED
    assert one.alone().u.shape == (1, 2)
    assert OptimizeResult.empty(5, 2, dense=False).information is None
