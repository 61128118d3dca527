"""Every evaluator gives the same answers, and the recipe reaches the same end through each of them.

Toy evaluators stand for data that lie elsewhere (partitions) and for an information too large to be formed (an arrow).
"""

from __future__ import annotations

import itertools
import re
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.scipy.stats import norm

import mlejax as mle
from mlejax import batch, optimize
from mlejax.execution import Limits, use_limits
from mlejax.execution.chunking import Budget
from mlejax.fit import recipe, search
from mlejax.fit.finish.finish import Fit, finish
from mlejax.fit.prepare.loading import load
from mlejax.fit.prepare.streaming import evaluator_of, load_stream
from mlejax.linalg import Dense, dense_each, diagonal_each, finite_each
from mlejax.objective import ChunkedEvaluator, DataSetsEvaluator, Reweighted, Spec, row_terms, run_of_starts
from mlejax.status import End
from tests.data.streams.samples import CASES, N, in_order, told, told_alike, write
from tests.objective.evaluators.toys import Arrow, Bordered, Partitioned

N_GROUPS, N_ROWS, N_SETS = 5, 203, 3
NEWTON = optimize.Newton()


@mle.model(a=mle.Real(shape=N_GROUPS), b=mle.Real(), sigma=mle.Positive())
def effects(params: Any, data: Any) -> Any:
    return norm.logpdf(data["y"], params["a"][data["g"]] + params["b"] * data["x"], params["sigma"])


@mle.model(a=mle.Real(shape=N_GROUPS), b=mle.Real(), sigma=mle.Positive(), unit="row")
def effects_by_unit(params: Any, data: Any) -> Any:
    """The same in units of one row each."""
    return jnp.sum(jnp.where(data["mask"], effects.likelihood.function(params, data), 0.0))


def table(i: int = 0) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(i)
    g, x = np.arange(N_ROWS) % N_GROUPS, rng.standard_normal(N_ROWS)
    return {"g": g, "x": x, "y": 0.3 * g + 0.8 * x + 0.5 * rng.standard_normal(N_ROWS)}


def formula(u: Any, data: Any, weights: Any) -> Any:
    """The log-likelihood at u = (a, b, log sigma), written once more."""
    z = (data["y"] - u[data["g"]] - u[N_GROUPS] * data["x"]) / jnp.exp(u[-1])
    return jnp.sum(weights * (-0.5 * z**2 - u[-1] - 0.5 * np.log(2.0 * np.pi)))


def least_squares(data: Any, weights: np.ndarray) -> np.ndarray:
    """The maximum in closed form: (a, b, log sigma)."""
    design = np.column_stack([np.eye(N_GROUPS)[data["g"]], data["x"]]) * np.sqrt(weights)[:, None]
    target = data["y"] * np.sqrt(weights)
    beta, rest, *_ = np.linalg.lstsq(design, target)
    return np.append(beta, 0.5 * np.log(rest[0] / weights.sum()))


@dataclass(frozen=True, eq=False)
class Form:
    """An evaluator over data sets (table, weights) that it has to agree with."""

    evaluator: Any
    sets: tuple[tuple[dict[str, np.ndarray], np.ndarray], ...]

    @property
    def single(self) -> bool:
        return hasattr(self.evaluator, "map_reduce")


def make(name: str) -> Form:
    ones = np.ones(N_ROWS)
    loaded = load(effects.likelihood, table(), None, "raise")
    spec, data = Spec(effects.likelihood, loaded.problem.space), loaded.problem.data
    one = ((table(), ones),)
    if name == "chunked":
        return Form(ChunkedEvaluator(spec, data, None), one)
    if name == "partitions":
        return Form(Partitioned.of(spec, data, 7), one)
    if name == "arrow":
        return Form(Bordered.of(spec, data, 3), one)
    if name == "streamed":  # batches of no row, of one, and of most
        at = (0, 0, 1, 90, N_ROWS)
        batches = [{k: v[a:b] for k, v in table().items()} for a, b in itertools.pairwise(at)]
        streamed = load_stream(effects.likelihood, mle.Stream(lambda: batches), None, "raise")
        return Form(evaluator_of(Spec(effects.likelihood, streamed.problem.space), streamed, None), one)
    if name == "streamed units":
        own = {**table(), "row": np.arange(N_ROWS)}
        batches = [{k: v[a:b] for k, v in own.items()} for a, b in itertools.pairwise((0, 0, 1, 90, N_ROWS))]
        streamed = load_stream(effects_by_unit.likelihood, mle.Stream(lambda: batches), None, "raise")
        return Form(evaluator_of(Spec(effects_by_unit.likelihood, streamed.problem.space), streamed, None), one)
    if name == "data sets":
        tables = [table(i) for i in range(N_SETS)]
        stack = {k: np.stack([t[k] for t in tables]) for k in tables[0]}
        sets = batch.stacked(effects.likelihood, stack, None, "raise")
        evaluator = DataSetsEvaluator(Spec(effects.likelihood, sets.space), sets, Budget(10**8, 2, False))
        return Form(evaluator, tuple((t, ones) for t in tables))
    weights = np.random.default_rng(7).integers(1, 4, (N_SETS, N_ROWS)).astype(float)
    shared = Reweighted(jax.tree.map(np.asarray, data), weights, N_SETS)
    return Form(DataSetsEvaluator(spec, shared, Budget(10**8, 2, False)), tuple((table(), w) for w in weights))


FORMS = ("chunked", "partitions", "arrow", "streamed", "streamed units", "data sets", "reweighted")
SINGLE = FORMS[:5]


@pytest.fixture(scope="module", autouse=True)
def _in_float64() -> Iterator[None]:
    with jax.enable_x64(True), use_limits(Limits(chunk_rows=64, block_rows=32, grouped_rows=50)):
        yield


@pytest.fixture(scope="module", params=FORMS)
def form(request: pytest.FixtureRequest) -> Form:
    return make(request.param)


@pytest.fixture(scope="module", params=SINGLE)
def single(request: pytest.FixtureRequest) -> Form:
    return make(request.param)


def points(n: int) -> np.ndarray:
    return 0.4 * np.random.default_rng(3).standard_normal((n, N_GROUPS + 2))


@pytest.mark.parametrize("order", [0, 1, 2])
def test_values_scores_and_information(form: Form, order: int) -> None:
    u = points(len(form.sets))
    found = form.evaluator.evaluate(u, order)
    np.testing.assert_array_equal(found.u, u)
    for i, (data, weights) in enumerate(form.sets):
        of = lambda t, data=data, weights=weights: formula(t, data, weights)
        np.testing.assert_allclose(found.loglik[i], of(u[i]), rtol=1e-12)
        if order > 0:
            np.testing.assert_allclose(found.score[i], jax.grad(of)(u[i]), rtol=1e-10, atol=1e-10)
        if order > 1:
            want = -np.asarray(jax.hessian(of)(u[i]))
            np.testing.assert_allclose(dense_each(found.information[i]), want, rtol=1e-10, atol=1e-9)
            np.testing.assert_allclose(diagonal_each(found.information)[i], want.diagonal(), rtol=1e-10)
            assert finite_each(found.information)[i]


def test_some_of_the_data_sets(form: Form) -> None:
    which = np.arange(len(form.sets))[::-1][:2].copy()
    u = points(len(form.sets))[which]
    found = form.evaluator.evaluate(u, 1, which)
    want = [formula(at, *form.sets[i]) for at, i in zip(u, which, strict=True)]
    np.testing.assert_allclose(found.loglik, want, rtol=1e-12)


def test_many_points(form: Form) -> None:
    at = points(9)
    numbers = [len(form.sets) - 1]
    found = form.evaluator.logliks(dict.fromkeys(numbers, at))
    assert list(found) == numbers
    want = [formula(u, *form.sets[numbers[0]]) for u in at]
    np.testing.assert_allclose(found[numbers[0]], want, rtol=1e-12)


def test_the_best_of_points_that_are_made_of_the_data(form: Form) -> None:
    truth = np.stack([least_squares(*each) for each in form.sets])

    def candidates(which: Any, data: Any) -> np.ndarray:
        assert data.weights.ndim == 2, "with a leading axis of data sets"
        return np.stack([truth[which] + 3.0, truth[which], truth[which] - 1.0], axis=1)

    np.testing.assert_array_equal(form.evaluator.best(candidates, None, 32), truth)


def test_a_start_made_of_the_data(form: Form) -> None:
    made = form.evaluator.evaluate(lambda which, data: np.zeros((len(which), N_GROUPS + 2)), 2)
    given = form.evaluator.evaluate(np.zeros((len(form.sets), N_GROUPS + 2)), 2)
    np.testing.assert_allclose(made.loglik, given.loglik, rtol=1e-14)


def test_another_specification(form: Form) -> None:
    other = form.evaluator.with_spec(replace(form.evaluator.spec, hessian="differenced"))
    u = points(len(form.sets))
    one, two = (dense_each(e.evaluate(u, 2).information) for e in (form.evaluator, other))
    np.testing.assert_allclose(one, two, rtol=1e-6, atol=1e-5)


def test_a_run_of_some_data_sets(form: Form) -> None:
    which = np.arange(len(form.sets))[-1:]
    end = form.evaluator.run(NEWTON, np.zeros((len(form.sets), N_GROUPS + 2)), which)
    np.testing.assert_allclose(end.u[which[0]], least_squares(*form.sets[which[0]]), atol=1e-8)
    ended = np.isin(np.arange(len(form.sets)), which)
    np.testing.assert_array_equal(end.status == int(End.CONVERGED), ended)
    np.testing.assert_array_equal(end.status == int(End.INTERRUPTED), ~ended)
    np.testing.assert_allclose(form.evaluator.total_weights, [w.sum() for _, w in form.sets])


# ---- one data set


def _rows_and_weight(objective: Any, u: Any) -> Any:
    return jnp.sum(objective.prepared.weights), objective.prepared.rows[0][:1]


def test_a_statistic_of_all_rows_in_their_order(single: Form) -> None:
    joined = lambda a, b: (a[0] + b[0], np.concatenate([a[1], b[1]]))
    total, firsts = single.evaluator.map_reduce(_rows_and_weight, joined, points(1)[0])
    assert total == N_ROWS
    first_column = single.evaluator.sample(N_ROWS).rows[0]
    np.testing.assert_array_equal(firsts[0], first_column[0])


def test_a_task_is_traced_once(single: Form) -> None:
    """Points and partitions are arguments of one program."""
    chex.clear_trace_counter()
    task = chex.assert_max_traces(lambda objective, u: objective.loglik(u), n=1)
    for u in points(3):
        found = single.evaluator.map_reduce(task, np.add, u)
        np.testing.assert_allclose(found, formula(u, *single.sets[0]), rtol=1e-12)


def test_terms_of_every_row(single: Form) -> None:
    u, data = points(1)[0], table()
    values, scores, weights = row_terms(single.evaluator, u)
    each = lambda t: norm.logpdf(data["y"], t[data["g"]] + t[N_GROUPS] * data["x"], jnp.exp(t[-1]))
    np.testing.assert_allclose(values, each(u), rtol=1e-12)
    np.testing.assert_allclose(scores, jax.jacobian(each)(u), rtol=1e-10, atol=1e-12)
    assert weights.tolist() == [1.0] * N_ROWS == [1.0] * single.evaluator.n_contributions


@pytest.mark.parametrize("n", [40, 10_000])
def test_a_sample_stands_for_all_rows(single: Form, n: int) -> None:
    some = single.evaluator.sample(n)
    assert some.weights.size <= max(n + 7, N_ROWS + 7), "up to a row a partition, and padding"
    np.testing.assert_allclose(some.weights.sum(), N_ROWS)
    known = {tuple(row) for row in zip(*(np.asarray(v, float) for v in table().values()), strict=True)}
    leaves = some.rows[: len(table())]  # the mask of units comes last
    picked = zip(*(np.asarray(leaf, float).reshape(len(leaf), -1)[:, 0] for leaf in leaves), strict=True)
    assert {frozenset(row) for row in picked} <= {frozenset(row) for row in known}


def test_several_starts(single: Form) -> None:
    ends = run_of_starts(single.evaluator, NEWTON, points(3))
    assert ends.u.shape == (3, N_GROUPS + 2)
    np.testing.assert_allclose(ends.u, np.tile(least_squares(*single.sets[0]), (3, 1)), atol=1e-8)


# ---- effects that are eliminated, in memory and in passes


@mle.model(b=mle.Real(), sigma=mle.Positive(), a=mle.Real(by="g"))
def by_index(params: Any, data: Any) -> Any:
    return norm.logpdf(data["y"], params["a"] + params["b"] * data["x"], params["sigma"])


def profiled(u: Any, data: Any) -> Any:
    """The log-likelihood at u = (b, log sigma), with the effects in closed form: means of the groups."""
    rest = data["y"] - u[0] * data["x"]
    means = jnp.array([jnp.mean(rest[data["g"] == g]) for g in range(N_GROUPS)])
    z = (rest - means[data["g"]]) / jnp.exp(u[1])
    return jnp.sum(-0.5 * z**2 - u[1] - 0.5 * np.log(2.0 * np.pi))


@pytest.fixture(scope="module", params=["memory", "passes"])
def with_effects(request: pytest.FixtureRequest) -> Any:
    if request.param == "memory":
        loaded = load(by_index.likelihood, table(), None, "raise")
    else:
        at = (0, 0, 1, 90, N_ROWS)
        batches = [{k: v[a:b] for k, v in table().items()} for a, b in itertools.pairwise(at)]
        loaded = load_stream(by_index.likelihood, mle.Stream(lambda: batches), None, "raise")
    return evaluator_of(Spec(by_index.likelihood, loaded.problem.space), loaded, None)


def test_eliminated_effects_are_the_closed_form(with_effects: Any) -> None:
    at = 0.4 * np.random.default_rng(3).standard_normal((9, 2))
    of = lambda t: profiled(t, table())
    for u in at[:3]:
        found = with_effects.evaluate(u[None], 2)
        np.testing.assert_allclose(found.loglik[0], of(u), rtol=1e-12)
        np.testing.assert_allclose(found.score[0], jax.grad(of)(u), rtol=1e-9, atol=1e-10)
        np.testing.assert_allclose(found.information[0], -np.asarray(jax.hessian(of)(u)), rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(with_effects.logliks({0: at})[0], [of(u) for u in at], rtol=1e-12)
    end = with_effects.run(NEWTON, np.zeros((1, 2)))
    np.testing.assert_allclose(end.u[0], least_squares(table(), np.ones(N_ROWS))[-2:], atol=1e-8)
    truth = end.u
    best = with_effects.best(lambda which, data: np.stack([truth + 3.0, truth, truth - 1.0], axis=1), None, 32)
    np.testing.assert_array_equal(best, truth)


def test_rows_have_their_effects(with_effects: Any) -> None:
    """Statistics of all rows and samples of them, at the maximising effects."""
    data, u = table(), np.array([0.5, -0.2])
    rest = data["y"] - u[0] * data["x"]
    means = np.array([rest[data["g"] == g].mean() for g in range(N_GROUPS)])
    values, _, weights = row_terms(with_effects, u)
    np.testing.assert_allclose(values, norm.logpdf(rest, means[data["g"]], np.exp(u[1])), rtol=1e-11)
    assert weights.tolist() == [1.0] * N_ROWS == [1.0] * with_effects.n_contributions
    total, _ = with_effects.map_reduce(_rows_and_weight, lambda a, b: (a[0] + b[0], a[1]), u)
    assert total == N_ROWS
    np.testing.assert_allclose(with_effects.sample(40).weights.sum(), N_ROWS)


# ---- the recipe


@mle.model(c=mle.Real(), d=mle.Real())
def logit(params: Any, data: Any) -> Any:
    eta = params["c"] * (data["g"] == 0) + params["d"] * data["x"]
    return data["y"] * eta - jnp.logaddexp(0.0, eta)


def through(evaluator: Any, loaded: Any, u0: np.ndarray) -> Fit:
    problems = search.problems_of(
        NEWTON, None, 0, lambda _: loaded, lambda _: [None] * len(evaluator.spec.space.leaves)
    )
    outcome = search.search_all(problems, evaluator, u0[None], np.zeros(1, np.int64))
    return finish(evaluator.with_spec(outcome.spec), loaded, outcome.diagnosed(0), NEWTON)


def same_fit(found: Fit, want: Fit) -> None:
    assert found.verdict.code == want.verdict.code
    np.testing.assert_allclose(found.llf, want.llf, rtol=1e-10)
    if want.verdict.converged:
        np.testing.assert_allclose(found.theta, want.theta, atol=1e-8)
        covariances = [np.linalg.inv(fit.information) for fit in (found, want)]
        np.testing.assert_allclose(*covariances, rtol=1e-7, atol=1e-12)


@pytest.mark.parametrize("toy", [Partitioned, Bordered])
@pytest.mark.parametrize("case", ["clean", "collinear"])
def test_the_recipe_reaches_the_same_end(toy: Any, case: str) -> None:
    """Estimate, covariance and verdict are those of the ordinary fit; with x constant within groups b is not identified."""
    data = table() if case == "clean" else {**table(), "x": table()["g"] ** 2.0}
    loaded = load(effects.likelihood, data, None, "raise")
    spec, u0 = Spec(effects.likelihood, loaded.problem.space), np.zeros(N_GROUPS + 2)
    found = through(toy.of(spec, loaded.problem.data, 3), loaded, u0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", mle.ConvergenceWarning)
        want = recipe.fit_once(effects.likelihood, data)
    assert want.verdict.code == ("verified" if case == "clean" else "not_identified")
    same_fit(found, want)
    if case == "clean":
        beta = least_squares(data, np.ones(N_ROWS))
        np.testing.assert_allclose(found.u, beta, atol=1e-8)
        design = np.column_stack([np.eye(N_GROUPS)[data["g"]], data["x"]])
        want_covariance = np.exp(2 * beta[-1]) * np.linalg.inv(design.T @ design)
        np.testing.assert_allclose(np.linalg.inv(found.information)[:-1, :-1], want_covariance, rtol=1e-7, atol=1e-12)


@pytest.mark.parametrize("case", ["separated", "not finite"])
def test_rows_that_decide_are_found_in_partitions(case: str) -> None:
    rng = np.random.default_rng(1)
    data = {"g": (np.arange(60) >= 4) * 1, "x": rng.standard_normal(60), "y": (rng.random(60) < 0.5) * 1.0}
    if case == "separated":
        data["y"][:4] = 1.0  # every row of the dummy has the same outcome
    loaded = load(logit.likelihood, data, None, "raise")
    start = np.zeros(2) if case == "separated" else np.array([0.0, np.inf])
    found = through(Partitioned.of(Spec(logit.likelihood, loaded.problem.space), loaded.problem.data, 4), loaded, start)
    one = through(
        ChunkedEvaluator(Spec(logit.likelihood, loaded.problem.space), loaded.problem.data, None), loaded, start
    )
    digits = re.compile(r"g'H\^-1 g = \S+")  # of a decrement at the maximum, which is rounding
    assert digits.sub("", str(found.verdict)) == digits.sub("", str(one.verdict))
    if case == "separated":
        assert found.verdict.code == "no_finite_maximum"
        assert "rows 0, 1, 2, 3" in str(found.verdict) + found.verdict.advice


# ---- information that is not formed


def test_an_arrow_is_what_it_stands_for() -> None:
    rng = np.random.default_rng(0)
    border, head = rng.standard_normal((6, 2)), np.array([[9.0, 1.0], [1.0, 7.0]])
    arrow = Arrow(2.0 + rng.random(6), border, head)
    full, v = dense_each(arrow), rng.standard_normal(8)
    dense = Dense(full)
    np.testing.assert_array_equal(full, full.T)
    assert arrow.ok
    assert dense.ok
    np.testing.assert_allclose(arrow.matvec(v), full @ v)
    for a in (arrow, dense):
        np.testing.assert_allclose(a.solve(v), np.linalg.solve(full, v), rtol=1e-10)
        np.testing.assert_allclose(a.inverse_diagonal(), np.linalg.inv(full).diagonal(), rtol=1e-10)
        np.testing.assert_allclose(a.block(np.array([0, 7])), full[np.ix_([0, 7], [0, 7])])
        few = np.arange(8) % 3 > 0
        np.testing.assert_allclose(dense_each(a.among(few)), full[np.ix_(few, few)])
        root = np.sqrt(full.diagonal())
        values = np.linalg.eigvalsh(full / root[:, None] / root)
        np.testing.assert_allclose(a.conditioning(), (values[0], values[-1] / values[0]), rtol=1e-6)


def test_a_singular_matrix_is_not_solved() -> None:
    for a in (Dense(np.ones((2, 2))), Arrow(np.ones(1), np.ones((1, 1)), np.ones((1, 1)))):
        assert not a.ok
        assert np.isnan(a.solve(np.ones(2))).all()
        assert np.isnan(a.inverse_diagonal()).all()


# ---- models with units, effects and latents, from the door to what is asked afterwards


@pytest.fixture(scope="module")
def whole_fits() -> dict[str, Any]:
    return {name: told(name, in_order()) for name in CASES}


@pytest.mark.slow
@pytest.mark.parametrize("where", ["chunks", "files", "batches"])
@pytest.mark.parametrize("name", CASES)
def test_every_model_everywhere(whole_fits: dict[str, Any], tmp_path: Path, name: str, where: str) -> None:
    """tests/engines has the same cases on engines, devices and processes."""
    at = (0, 0, 1, 2_100, 2_100, N)
    table, batches = in_order(), [in_order().iloc[a:b] for a, b in itertools.pairwise(at)]
    data = {"chunks": table, "files": write(tmp_path, batches), "batches": mle.Stream(lambda: batches)}[where]
    with use_limits(Limits(chunk_rows=512, block_rows=256, grouped_rows=700)):
        told_alike(told(name, data), whole_fits[name])
