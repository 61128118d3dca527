"""Every optimiser on every zoo model: one estimate, one covariance, one verdict; jit = eager and vmap = loop for `solve`."""

from __future__ import annotations

import functools
from dataclasses import replace
from typing import Any

import jax
import numpy as np
import optax
import pytest

import mlejax as mle
from tests.zoo import FAMILY, GAUSSIAN, REGRESSION, ZOO, Truth, truth

NAMES = {member.name: member for member in ZOO}
METHODS = {
    "newton": "newton",
    "bhhh": "bhhh",
    "lbfgs": "lbfgs",
    "adam": mle.Adam(learning_rate=0.05),
    "sgd": mle.FirstOrder(optax.sgd(0.05, momentum=0.9)),
}
QUICK = {("gaussian", m) for m in METHODS} | {("family", "newton"), ("family", "bhhh"), ("family", "lbfgs")}
PAIRS = [
    pytest.param(name, method, marks=() if (name, method) in QUICK else pytest.mark.slow)
    for name in NAMES
    for method in METHODS
]


def slow(*names: str) -> list[Any]:
    return [pytest.param(name, marks=pytest.mark.slow) for name in names]


@functools.cache
def fitted(name: str, method: str) -> tuple[mle.Results, Truth]:
    member = NAMES[name]
    data = member.make(5)
    return member.plain.fit(data, start=member.start, method=METHODS[method]), truth(member, data)


@pytest.mark.parametrize(("name", "method"), PAIRS)
def test_every_optimiser_finds_the_maximum(name: str, method: str) -> None:
    res, want = fitted(name, method)
    assert res.verdict.code == "verified", res.verdict
    spread = np.sqrt(np.diag(want.covariance("nonrobust")))
    assert (np.abs(res.params.to_numpy() - want.values) < 1e-6 * spread).all()
    assert res.llf == pytest.approx(want.llf, rel=1e-12)
    # the score in units of its own standard deviation
    size = np.sqrt(np.diag(want.information))
    assert (np.abs(res.score_obs.sum().to_numpy()) < 1e-5 * size).all()


@pytest.mark.parametrize(("name", "method"), PAIRS)
def test_covariances_do_not_depend_on_the_optimiser(name: str, method: str) -> None:
    """Not the optimiser's curvature (BHHH's outer products, L-BFGS's history): the same matrices whatever it was."""
    res, want = fitted(name, method)
    for kind in ("nonrobust", "opg", "HC0"):
        expected = want.covariance(kind)
        root = np.sqrt(np.diag(expected))
        got = res.with_cov(kind).cov_params().to_numpy()
        assert np.max(np.abs(got - expected) / np.outer(root, root)) < 1e-6


@pytest.mark.parametrize("method", ["newton", "lbfgs", *slow("bhhh", "adam", "sgd")])
def test_every_optimiser_stops_on_the_edge(method: str) -> None:
    variant = FAMILY.bounded[0]
    data = variant.shift(FAMILY.make(5))
    want = truth(FAMILY, data, edge=variant.edge)
    res = FAMILY.plain.fit(data, start=FAMILY.start, method=METHODS[method])
    assert res.verdict.code == "boundary"
    assert res.params["tau2"] == 0.0
    np.testing.assert_allclose(res.params, want.values, rtol=1e-6)
    np.testing.assert_allclose(res.cov_params(), want.covariance("nonrobust"), rtol=1e-5, atol=1e-12)


def test_the_method_is_named() -> None:
    texts = {method: str(fitted("gaussian", method)[0].summary()) for method in METHODS}
    assert "newton" in texts["newton"]
    assert "polished" not in texts["newton"]
    for method, name in (("bhhh", "bhhh"), ("lbfgs", "lbfgs"), ("adam", "adam"), ("sgd", "firstorder")):
        assert name in texts[method]
        assert "polished by Newton" in texts[method]


# ---- the pure core


def tree_close(a: Any, b: Any, rtol: float = 1e-9) -> None:
    for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
        np.testing.assert_allclose(np.asarray(x), np.asarray(y), rtol=rtol, atol=1e-11)


@pytest.mark.parametrize("name", [GAUSSIAN.name, *slow(*(m.name for m in ZOO if m is not GAUSSIAN))])
def test_solve_is_the_fit_with_and_without_jit(name: str) -> None:
    member = NAMES[name]
    data = member.make(5)
    res = fitted(name, "newton")[0]
    prepared = member.plain.prepare(data)

    def solve(problem: Any) -> Any:
        return mle.solve(member.plain, problem, member.start)

    with jax.enable_x64(True):
        eager, traced = solve(prepared), jax.jit(solve)(prepared)
    for solution in (eager, traced):
        assert bool(solution.converged)
        tree_close(solution.params, res.params_tree)
        assert float(solution.llf) == pytest.approx(res.llf, rel=1e-13)
        scale = np.sqrt(np.diag(res.information))
        difference = np.asarray(solution.information) - res.information.to_numpy()
        assert np.max(np.abs(difference) / np.outer(scale, scale)) < 1e-8
    tree_close((eager.params, eager.llf, eager.information), (traced.params, traced.llf, traced.information))


@pytest.mark.parametrize("name", [REGRESSION.name, *slow(*(m.name for m in ZOO if m is not REGRESSION))])
def test_vmap_is_the_loop(name: str) -> None:
    """Data sets stacked along a new axis: the same answers as one after the other, and as the closed forms."""
    member = NAMES[name]
    sets = [member.make(seed) for seed in (5, 6, 8)]
    problems = [member.plain.prepare(data) for data in sets]
    stacked = replace(problems[0], data=stack([p.data for p in problems]))
    single = jax.jit(lambda problem: mle.solve(member.plain, problem, member.start))
    with jax.enable_x64(True):
        together = jax.jit(jax.vmap(lambda problem: mle.solve(member.plain, problem, member.start)))(stacked)
        alone = [single(problem) for problem in problems]
    assert np.asarray(together.converged).all()
    for i, data in enumerate(sets):
        one = jax.tree.map(lambda a, i=i: np.asarray(a)[i], together)
        tree_close((one.params, one.llf), (alone[i].params, alone[i].llf))
        np.testing.assert_allclose(member.vector(one.params), truth(member, data).values, rtol=1e-8)


def stack(parts: list[Any]) -> Any:
    """Prepared data sets of one layout, stacked leaf by leaf."""
    return jax.tree.map(lambda *leaves: np.stack(leaves), *parts)


def test_there_is_a_member_for_every_kind_of_support() -> None:
    tested: set[str] = {type(d.transform).__name__ for m in ZOO for d in m.declared.values() if hasattr(d, "transform")}
    assert tested >= {"Identity", "Log", "Logit", "Box", "Simplex", "Ordered", "Covariance"}

