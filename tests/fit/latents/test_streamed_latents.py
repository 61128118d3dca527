"""Latents over files whose row groups cut units: the same estimates, errors, integrals and verdicts as in memory."""

from __future__ import annotations

import itertools
import warnings
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest

import mlejax as mle
from mlejax.data import DataError
from mlejax.execution import Limits, use_limits
from tests.data.streams.samples import same, same_covariances, small_scale, write
from tests.fit.latents.test_class_search import quiet
from tests.fit.latents.test_empty_classes import COUNTS, with_zeros
from tests.latent.discrete.test_classes import normals

N_UNITS = 150


_small_scale = small_scale(block_rows=64, grouped_rows=300)


def table() -> pd.DataFrame:
    """Counts of units of 1 to 11 rows, with a normal effect of each unit, and of two kinds of units."""
    rng = np.random.default_rng(2)
    lengths = rng.integers(1, 12, N_UNITS)
    n = int(lengths.sum())
    by_unit = lambda values: np.repeat(values, lengths)
    x, kind = rng.standard_normal(n), by_unit(rng.random(N_UNITS) < 0.4)
    y = rng.poisson(np.exp(0.3 + 0.5 * x + by_unit(0.7 * rng.standard_normal(N_UNITS))))
    return pd.DataFrame(
        {
            "g": by_unit(np.arange(N_UNITS) * 7),
            "t": np.concatenate([np.arange(k) for k in lengths]),
            "x": x,
            "y": y,
            "kinds": rng.poisson(np.where(kind, 6.0, 1.0)),
            "chain": rng.poisson(np.where(np.cumsum(rng.random(n) < 0.25) % 2, 6.0, 1.0)),
            "c": by_unit(rng.integers(0, 30, N_UNITS)),
            "w": by_unit(rng.integers(0, 4, N_UNITS)),
        }
    )


CUTS = (0, 250, 250, 251, 600, 100_000)


def stored(folder: Path, frame: pd.DataFrame) -> mle.Parquet:
    frames = [frame.iloc[a:b] for a, b in itertools.pairwise(CUTS)]
    return write(folder, [part.iloc[a : a + 170] for part in frames for a in range(0, max(len(part), 1), 170)])


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> mle.Parquet:
    return stored(tmp_path_factory.mktemp("latents"), table())


@mle.model(a=mle.Real(), b=mle.Real(), s=mle.NonNegative(), u=mle.Latent(by="g"))
def intercepts(params: Any, data: Any) -> Any:
    eta = params["a"] + params["b"] * data["x"] + params["s"] * params["u"]
    return data["y"] * eta - jnp.exp(eta)


START = {"a": 0.1, "b": 0.2, "s": 0.5}

@pytest.mark.parametrize("weights", [None, "frequency", "sampling"])
def test_a_poisson_intercept_with_every_covariance(files: mle.Parquet, weights: Any) -> None:
    options: dict[str, Any] = {} if weights is None else {"weights": "w", "weight_kind": weights}
    streamed, memory = (intercepts.fit(data, start=START, **options) for data in (files, table()))
    assert memory.verdict.code == "verified"
    same(streamed, memory)
    one, two = streamed._fit.integration, memory._fit.integration
    assert (one.points, one.tried, one.accepted) == (two.points, two.tried, True)
    np.testing.assert_allclose([one.shift, one.errors], [two.shift, two.errors], rtol=1e-4)
    np.testing.assert_allclose(one.off, two.off, atol=1e-12)
    same_covariances(streamed, memory, weights)


MANY = Limits(chunk_rows=512, block_rows=64, grouped_rows=300, sampled_rows=100)


def test_many_rows(files: mle.Parquet) -> None:
    """Their search has exact scores, begins elsewhere, takes few passes, and ends at the same point with every covariance."""
    with use_limits(MANY):
        streamed = intercepts.fit(files)
    memory = intercepts.fit(table())
    same(streamed, memory)
    assert (streamed._fit.integration.points, streamed._fit.integration.tried) == (39, 19)
    assert streamed._fit.loaded.stream.n_passes <= 16
    with use_limits(MANY):
        same_covariances(streamed, memory, None)


def test_an_end_does_not_depend_on_the_start() -> None:
    """Though the searches with fewer points end where the decrement is 1e-7."""
    one, two = (intercepts.fit(table(), start=start) for start in (START, {"a": -0.3, "b": 0.9, "s": 1.5}))
    moved = (one.params - two.params) / one.bse
    np.testing.assert_allclose(moved, 0.0, atol=1e-12)
    np.testing.assert_allclose(one.bse, two.bse, rtol=1e-12)


def test_many_units_of_little_variance_have_as_many_points_as_in_memory(tmp_path: Path) -> None:
    """9 points would be enough, and are not accepted, since a fit in memory begins with 19."""
    rng = np.random.default_rng(3)
    g, x = np.repeat(np.arange(1_020), 2), rng.standard_normal(2_040)
    frame = pd.DataFrame({"g": g, "x": x, "y": rng.poisson(np.exp(1.0 + 0.3 * x + 0.3 * rng.standard_normal(1_020)[g]))})
    with use_limits(MANY):
        streamed = intercepts.fit(stored(tmp_path, frame))
    memory = intercepts.fit(frame)
    assert streamed._fit.integration.points == memory._fit.integration.points == 39
    same(streamed, memory)


def test_laplace_and_the_start_of_a_sample(files: mle.Parquet) -> None:
    options: dict[str, Any] = {"integrate": "laplace", "cov_type": "HC1"}
    same(*(intercepts.fit(data, start=START, **options) for data in (files, table())))
    same(*(intercepts.fit(data, **options) for data in (files, table())))


def test_the_unit_that_is_integrated_worst_is_named_as_in_memory(tmp_path: Path) -> None:
    """Few points, and a unit whose integrand is far from normal."""
    frame = table()
    frame.loc[frame["g"] == 7 * 77, "y"] = 3_000
    found = []
    for data in (stored(tmp_path, frame), frame):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", mle.ConvergenceWarning)
            found.append(intercepts.fit(data, start=START))
    one, two = (res._fit.integration for res in found)
    assert one.worst == two.worst
    np.testing.assert_allclose(one.off, two.off, rtol=1e-6, atol=1e-12)


@mle.model(eta=mle.Real())
def counts(params: Any, data: Any) -> Any:
    return data["y"] * params["eta"] - jnp.exp(params["eta"])


@pytest.mark.slow
@pytest.mark.parametrize("how", ["laplace", mle.Quadrature(5)])
def test_two_effects_of_a_formula(files: mle.Parquet, how: Any) -> None:
    model = counts.regress(eta=mle.Linear("x", random="1 + x || g"))
    streamed, memory = (quiet(model.fit, data, integrate=how) for data in (files, table()))
    assert streamed.verdict.code == memory.verdict.code == "boundary"  # no slope varies
    assert streamed.params["sd(eta|g)[x]"] == memory.params["sd(eta|g)[x]"] == 0.0
    same(streamed, memory, 1e-8, at_a_maximum=False)


@pytest.mark.parametrize(
    ("random", "how"), [("1 | g", "laplace"), pytest.param("1 + x | t", "auto", marks=pytest.mark.slow)]
)
def test_effects_of_a_formula_have_the_same_information(tmp_path: Path, random: str, how: Any) -> None:
    """From another start, with second derivatives by formula; of two effects also by scores of points that do not move."""
    rng = np.random.default_rng(5)
    frame = table().sort_values("t", kind="stable")
    slope = 0.4 * rng.standard_normal(40)[frame["t"]]
    frame["y"] = rng.poisson(np.exp(0.3 + (0.5 + slope) * frame["x"] + 0.6 * rng.standard_normal(40)[frame["t"]]))
    frame = frame if random.endswith("t") else table()
    model = counts.regress(eta=mle.Linear("x", random=random))
    memory = model.fit(frame, integrate=how)
    with use_limits(MANY):
        streamed = model.fit(stored(tmp_path, frame), integrate=how)
    assert memory.verdict.code == "verified"
    same(streamed, memory)
    same(streamed.with_cov("HC1"), memory.with_cov("HC1"))


@mle.model(m=mle.Real(shape=2), k=mle.Discrete(2, by="g"))
def classes(params: Any, data: Any) -> Any:
    eta = params["m"][params["k"]] + 0.3 * data["x"]
    return data["y"] * eta - jnp.exp(eta)


@mle.model(m=mle.Real(shape=2), k=mle.Discrete(2))
def row_classes(params: Any, data: Any) -> Any:
    eta = params["m"][params["k"]]
    return data["kinds"] * eta - jnp.exp(eta)


@mle.model(m=mle.Real(shape=2), k=mle.Markov(2, by="g", time="t"))
def states(params: Any, data: Any) -> Any:
    eta = params["m"][params["k"]]
    return data["chain"] * eta - jnp.exp(eta)


@pytest.mark.parametrize("model", [classes, row_classes, states], ids=["of units", "of rows", "chains"])
def test_classes_and_chains(files: mle.Parquet, model: Any) -> None:
    streamed, memory = (model.fit(data, cov_type="HC0") for data in (files, table()))
    assert memory.verdict.code == "verified"
    same(streamed, memory, 1e-9)
    assert streamed._fit.note == memory._fit.note  # the order of the labels


def test_a_class_that_is_too_many_is_named(files: mle.Parquet) -> None:
    """Two equal classes stay equal."""
    start = {"m": [0.5, 0.5], "k_probs": [0.5, 0.5]}
    found = []
    for data in (files, table()):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", mle.ConvergenceWarning)
            found.append(classes.fit(data, start=start))
    assert found[0].verdict.code == found[1].verdict.code


# ---- latents and classes of every unit


def same_table(streamed: Any, memory: Any, rtol: float = 1e-9) -> None:
    assert list(streamed.columns) == list(memory.columns)
    assert len(streamed) == len(memory)
    for name in memory.columns:
        mine, theirs = streamed[name].to_numpy(), memory[name].to_numpy()
        if theirs.dtype.kind == "f":
            np.testing.assert_allclose(mine, theirs, rtol=rtol, atol=1e-12)
        else:
            assert (mine == theirs).all()


@pytest.mark.parametrize("how", ["laplace", mle.Quadrature(9)], ids=["laplace", "quadrature"])
def test_latents_of_every_unit(files: mle.Parquet, how: Any) -> None:
    """By one pass, with the errors that the estimates add to theirs."""
    streamed, memory = (intercepts.fit(data, start=START, integrate=how) for data in (files, table()))
    before = streamed._fit.loaded.stream.n_passes
    same_table(streamed.latent(), memory.latent())
    assert streamed._fit.loaded.stream.n_passes == before + 1


def test_units_of_weight_zero_have_no_latents(files: mle.Parquet) -> None:
    options: dict[str, Any] = {"start": START, "integrate": "laplace", "weights": "w", "weight_kind": "importance"}
    streamed, memory = (intercepts.fit(data, **options).latent() for data in (files, table()))
    used = table().groupby("g")["w"].first() > 0
    same_table(streamed, memory[used.to_numpy()])


@pytest.mark.parametrize("model", [classes, row_classes, states], ids=["of units", "of rows", "chains"])
def test_classes_of_every_row_and_unit(files: mle.Parquet, model: Any) -> None:
    streamed, memory = (model.fit(data).latent() for data in (files, table()))
    same_table(streamed, memory, 1e-7)


# ---- classes that a search has too many, or none of


@pytest.mark.slow
def test_an_empty_class_is_closed_as_in_memory() -> None:
    """The zero-inflated Poisson model where there are few zeros: its mean is the rate, with the error sqrt(mean / n)."""
    y = COUNTS["y"]
    parts = [{"y": part} for part in np.array_split(y, 3)]
    streamed = quiet(with_zeros.fit, mle.Stream(lambda: parts))
    memory = quiet(with_zeros.fit, COUNTS)
    assert streamed.verdict.code == memory.verdict.code == "boundary"
    assert "the class 1 of z is empty; z_probs[1] is at the bound 0 of its support" in streamed.verdict.statement
    assert streamed.verdict.statement == memory.verdict.statement
    assert streamed.params["rate"] == pytest.approx(y.mean(), rel=1e-9)
    assert streamed.bse["rate"] == pytest.approx(np.sqrt(y.mean() / len(y)), rel=1e-8)


@pytest.mark.slow
def test_a_search_with_a_class_too_many_is_repeated_as_in_memory() -> None:
    """One normal sample, two classes with a scale each: the first search ends where one class collapses."""
    y = np.round(np.random.default_rng(5).standard_normal(60), 3)
    parts = [{"y": part} for part in np.array_split(y, 3)]
    found = [quiet(normals.fit, data) for data in (mle.Stream(lambda: parts), {"y": y})]
    assert found[0].verdict.code == found[1].verdict.code
    assert len(found[0].modes) == len(found[1].modes) > 0
    np.testing.assert_allclose(found[0].llf, found[1].llf, rtol=1e-8)


# ---- what cannot be


def test_times_that_skip_are_refused(tmp_path: Path) -> None:
    frame = table()
    frame.loc[frame.index[-1], "t"] += 1
    with pytest.raises(DataError, match=r"t goes from \d+ to \d+ within g \d+: expected steps of 1"):
        states.fit(stored(tmp_path, frame))


def test_units_in_several_places_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"rows of g \d+ are in several places"):
        intercepts.fit(stored(tmp_path, table().sample(frac=1.0, random_state=0)))


def test_draws_for_every_unit_are_refused(files: mle.Parquet) -> None:
    with pytest.raises(ValueError, match=r"integrate=.*Sobol.* is not supported for a stream"):
        intercepts.fit(files, integrate=mle.Sobol(100))
