"""How often programs are compiled: once per (model, padded size, options), never for new numbers."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats
from jax.scipy.stats import norm

import mlejax as mle
from mlejax.data import size_class

COMPILED = "/jax/core/compile/backend_compile_duration"
_seen: list[str] = []
jax.monitoring.register_event_duration_secs_listener(lambda name, *_, **__: _seen.append(name))


class Counted:
    """A Gaussian log-likelihood that counts how often it is traced."""

    __name__ = "counted"

    def __init__(self) -> None:
        self.traces = 0

    def __call__(self, params: Any, data: Any) -> Any:
        self.traces += 1
        return norm.logpdf(data["y"], params["mu"], params["sigma"])


@contextmanager
def compilations() -> Iterator[list[int]]:
    """A list whose one entry is, at the end, the number of programs compiled inside."""
    out = [0]
    before = _seen.count(COMPILED)
    yield out
    out[0] = _seen.count(COMPILED) - before


def gaussian() -> tuple[mle.Model, Counted]:
    counted = Counted()
    return mle.model(mu=mle.Real(), sigma=mle.Positive())(counted), counted


START = {"mu": 0.0, "sigma": 1.0}


def normal(n: int, seed: int = 0) -> dict[str, Any]:
    rng = np.random.default_rng(seed)
    return {"y": rng.normal(2.0, 3.0, n), "g": rng.integers(0, 6, n)}


def test_the_counter_counts() -> None:
    """Otherwise every test here could only pass."""
    with jax.enable_x64(True), compilations() as n:
        jax.jit(lambda x: x * 3.25 + 1)(np.arange(7.0)).block_until_ready()
    assert n[0] >= 1


def test_a_second_fit_compiles_nothing() -> None:
    model, counted = gaussian()
    with compilations() as first:
        a = model.fit(normal(50), start=START)
    assert first[0] >= 1
    traced = counted.traces
    with compilations() as second:
        b = model.fit(normal(50, seed=1), start={"mu": 1.0, "sigma": 2.0})
    assert second[0] == 0
    assert counted.traces <= traced + 1, "the shapes are evaluated again, nothing else"
    assert a.params["mu"] != b.params["mu"]


def test_a_first_fit_compiles_one_program() -> None:
    """The derivatives: rows are proved apart, the start is good as it is, and what follows is NumPy."""

    @mle.model(beta=mle.Real(columns="X"), sigma=mle.Positive())
    def weibull(params: Any, data: Any) -> Any:
        z = (jnp.log(data["t"]) - data["X"] @ params["beta"]) / params["sigma"]
        return z - jnp.log(params["sigma"]) - jnp.exp(z)

    rng = np.random.default_rng(0)
    data = {"X": np.column_stack([np.ones(80), rng.normal(size=80)]), "t": rng.weibull(1.2, 80) + 0.01}
    with compilations() as n:
        res = weibull.fit(data)
        str(res.summary())
    assert res.converged
    assert n[0] == 1


def test_a_second_fit_without_a_start_compiles_nothing() -> None:
    model, _ = gaussian()
    model.fit(normal(50))
    with compilations() as second:
        res = model.fit(normal(50, seed=1))
    assert res.converged
    assert second[0] == 0


def test_other_numbers_of_rows_share_programs() -> None:
    """Twenty numbers of rows up to 3,000 are seven sizes, and each of them is compiled once."""

    @mle.model(rate=mle.Positive())
    def model(params: Any, data: Any) -> Any:
        return jnp.log(params["rate"]) - params["rate"] * data["t"]

    seen = set()
    for n in (5, 900, 17, 12, 700, 61, 100, 250, 30, 300, 1000, 2000, 400, 3000, 77, 640, 1500, 16, 2500, 257):
        with compilations() as count:
            t = np.random.default_rng(n).exponential(2.0, n)
            res = model.fit({"t": t}, start={"rate": 1.0})
        assert res.params["rate"] == pytest.approx(1 / t.mean(), rel=1e-9)
        assert res.bse["rate"] == pytest.approx(1 / t.mean() / np.sqrt(n), rel=1e-9)
        assert not (count[0] and size_class(n) in seen), f"n = {n} was compiled again"
        seen.add(size_class(n))
    assert len(seen) == 7


@pytest.mark.slow
def test_large_numbers_of_rows_share_programs() -> None:
    """Chunks of large data are of two sizes, and those of very large data of one."""

    @mle.model(rate=mle.Positive())
    def model(params: Any, data: Any) -> Any:
        return jnp.log(params["rate"]) - params["rate"] * data["t"]

    compiled_at = []
    for n in (20_000, 30_000, 131_072, 160_000, 17_000, 40_000, 66_000, 99_000, 200_000, 300_001):
        t = np.random.default_rng(n).exponential(2.0, n)
        with compilations() as count:
            res = model.fit({"t": t}, start={"rate": 1.0})
        assert res.params["rate"] == pytest.approx(1 / t.mean(), rel=1e-9)
        if count[0]:
            compiled_at.append(n)
    assert len(compiled_at) <= 3, compiled_at


def test_another_covariance_compiles_once() -> None:
    model, counted = gaussian()
    res = model.fit(normal(50), start=START)
    traced = counted.traces
    res.with_cov("nonrobust").bse  # noqa: B018
    assert counted.traces == traced, "the inverse information needs no evaluation"
    with compilations() as first:
        res.with_cov("HC0").bse  # noqa: B018
    assert first[0] >= 1
    traced = counted.traces
    with compilations() as more:
        for kind in ("HC1", "opg", "HC0"):
            assert np.isfinite(res.with_cov(kind).bse).all()
        assert np.isfinite(res.with_cov("cluster", {"groups": "g"}).bse).all()
        assert np.isfinite(model.fit(normal(50, seed=2), start=START, cov_type="HC0").bse).all()
    assert more[0] == 0
    assert counted.traces <= traced + 1


def test_values_held_fixed_are_arguments() -> None:
    model, _ = gaussian()
    model.fit(normal(50), start=START, fixed={"sigma": 2.0})
    with compilations() as n:
        res = model.fit(normal(50), start=START, fixed={"sigma": 3.0})
    assert n[0] == 0
    assert res.params["sigma"] == 3.0
    assert res.bse["mu"] == pytest.approx(3.0 / np.sqrt(50), rel=1e-12)


def test_static_values_are_part_of_the_program_and_shared_arrays_are_not() -> None:
    @mle.model(mu=mle.Real())
    def powered(params: Any, data: Any) -> Any:
        assert isinstance(data["power"], int)
        return -(jnp.abs(data["y"] - params["mu"] - data["offset"]) ** data["power"])

    def fit(seed: int, power: int, offset: float) -> mle.Results:
        data = {"y": normal(40, seed)["y"], "power": mle.Static(power), "offset": mle.Shared(np.asarray(offset))}
        return powered.fit(data, start={"mu": 0.0})

    fit(0, 2, 0.0)
    with compilations() as same:
        res = fit(1, 2, 5.0)
    assert same[0] == 0
    assert res.params["mu"] == pytest.approx(normal(40, 1)["y"].mean() - 5.0, rel=1e-9)
    with compilations() as other:
        fit(1, 4, 5.0)
    assert other[0] >= 1
    with compilations() as again:
        fit(2, 4, 1.0)
        fit(2, 2, 1.0)
    assert again[0] == 0


def test_solve_is_compiled_by_the_caller_only_once() -> None:
    model, counted = gaussian()
    solve = jax.jit(lambda problem: mle.solve(model, problem, START).params)
    with jax.enable_x64(True):
        solve(model.prepare(normal(50)))
        traced = counted.traces
        with compilations() as n:
            problem = model.prepare(normal(50, seed=3))
            out = solve(problem)
    assert n[0] == 0
    assert counted.traces <= traced + 1
    assert float(out["mu"]) == pytest.approx(normal(50, 3)["y"].mean(), rel=1e-9)


def test_small_functions_and_few_refits_compile_nothing() -> None:
    """Functions of the estimates are run in NumPy, and a few refits by the program of the fit."""
    model, _ = gaussian()
    res = model.fit(normal(50))
    with compilations() as n:
        ratio = res.nlcom(lambda p: jnp.log(p["mu"]) / jax.nn.sigmoid(p["sigma"]))
        above = res.predict(lambda p, d: norm.sf(d["at"], p["mu"], p["sigma"]), {"at": np.arange(4.0)})
        res.bootstrap(8, seed=1)
    assert n[0] <= 1, "the array `at` is brought to the device"
    mu, sigma = res.params["mu"], res.params["sigma"]
    assert ratio.params[0] == pytest.approx(np.log(mu) * (1 + np.exp(-sigma)), rel=1e-12)
    assert above["estimate"].iloc[3] == pytest.approx(scipy.stats.norm.sf(3.0, mu, sigma), rel=1e-12)
