"""Many rows: a start from a sample, few passes over all of them, on all cores, with the answer of the plain way."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import mlejax as mle
from mlejax.execution import Limits, use_limits
from mlejax.fit.start import subsample
from mlejax.objective import ChunkedEvaluator, Spec, sample_chunks
from mlejax.objective.evaluators import chunked
from mlejax.optimize import Newton


@mle.model(beta=mle.Real(columns="X"))
def logit(params: Any, data: Any) -> Any:
    eta = data["X"] @ params["beta"]
    return data["y"] * eta - jax.nn.softplus(eta)


@contextmanager
def passes() -> Iterator[list[int]]:
    """The numbers of rows, padding included, of every evaluation of the derivatives inside."""
    seen: list[int] = []
    original = ChunkedEvaluator._minimised

    def counting(self: ChunkedEvaluator, method: Any, u: Any) -> Any:
        seen.append(self.data.n_padded)
        return original(self, method, u)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ChunkedEvaluator, "_minimised", counting)
        yield seen


def draws(n: int, p: int, intercept: float = 0.3, seed: int = 0) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    X = np.column_stack([np.ones(n), rng.standard_normal((n, p - 1))])
    beta = np.concatenate([[intercept], np.linspace(-0.5, 0.5, p - 1)])
    return {"X": X, "y": (rng.random(n) < 1 / (1 + np.exp(-X @ beta))).astype(float)}


@pytest.fixture
def small_scale() -> Iterator[None]:
    """Everything that happens with many rows, with a tenth or less of them."""
    with use_limits(Limits(sampled_rows=20_000, chunk_rows=4_096)):
        yield


@pytest.fixture
def small_chunks() -> Iterator[None]:
    with use_limits(Limits(chunk_rows=4_096)):
        yield


def same_answer(res: Any, plain: Any) -> None:
    assert res.verdict.code == plain.verdict.code == "verified"
    np.testing.assert_allclose(res.params, plain.params, rtol=0, atol=1e-6 * plain.bse.min())
    np.testing.assert_allclose(res.bse, plain.bse, rtol=1e-6)
    assert res.llf == pytest.approx(plain.llf, rel=1e-12)


N = 40_000


def test_three_passes_and_the_one_that_confirms() -> None:
    data = draws(150_000, 4)
    with passes() as seen:
        res = logit.fit(data)
    size = min(seen)
    assert size < max(seen) / 8
    assert seen.count(max(seen)) <= 4
    assert sum(n for n in seen if n < max(seen)) < max(seen), "the start costs less than a pass over the data"
    with passes() as plain_seen:
        plain = logit.fit(data, start={"beta": np.zeros(4)})
    assert len(plain_seen) > seen.count(max(seen))
    same_answer(res, plain)
    again = logit.fit(data)
    np.testing.assert_array_equal(again.params, res.params)
    np.testing.assert_array_equal(again.bse, res.bse)


@pytest.mark.usefixtures("small_scale")
def test_rare_events_are_estimated_from_all_rows() -> None:
    """One in 5,000: a sample has an event or none."""
    data = draws(N, 4, intercept=-8.6, seed=3)
    assert 4 < data["y"].sum() < 16
    same_answer(logit.fit(data), logit.fit(data, start={"beta": np.zeros(4)}))


@pytest.mark.usefixtures("small_scale")
@pytest.mark.parametrize("n_level", [12, 200])
def test_a_rare_level_of_a_factor(n_level: int) -> None:
    data = draws(N, 4, seed=5)
    level = np.zeros(N)
    level[1_000 : 1_000 + n_level] = 1.0
    data["X"][:, 3] = level
    with passes() as seen:
        res = logit.fit(data)
    assert min(seen) < max(seen)
    same_answer(res, logit.fit(data, start={"beta": np.zeros(4)}))


@pytest.mark.usefixtures("small_scale")
def test_data_sorted_by_the_outcome() -> None:
    data = draws(N, 4, seed=6)
    order = np.argsort(data["y"], kind="stable")
    data = {name: column[order] for name, column in data.items()}
    with passes() as seen:
        res = logit.fit(data)
    assert seen.count(max(seen)) <= 5
    same_answer(res, logit.fit(data, start={"beta": np.zeros(4)}))


@pytest.mark.usefixtures("small_scale")
def test_with_weights_and_scales_far_from_one() -> None:
    @mle.model(mu=mle.Real(), sigma=mle.Positive())
    def gaussian(params: Any, data: Any) -> Any:
        z = (data["y"] - params["mu"]) / params["sigma"]
        return -0.5 * z**2 - jnp.log(params["sigma"]) - 0.5 * jnp.log(2 * jnp.pi)

    rng = np.random.default_rng(1)
    y, w = 1e4 + 50.0 * rng.standard_normal(N), rng.integers(0, 4, N).astype(float)
    res = gaussian.fit({"y": y}, weights=w, weight_kind="frequency")
    mean = np.average(y, weights=w)
    sigma = np.sqrt(np.average((y - mean) ** 2, weights=w))
    np.testing.assert_allclose(res.params, [mean, sigma], rtol=1e-9)
    np.testing.assert_allclose(res.bse, [sigma / np.sqrt(w.sum()), sigma / np.sqrt(2 * w.sum())], rtol=1e-7)


@mle.model(mu=mle.Positive())
def poisson(params: Any, data: Any) -> Any:
    return data["y"] * jnp.log(params["mu"]) - params["mu"]


@pytest.mark.parametrize(("seed", "method"), [(0, "newton"), (1, "newton"), (0, "bhhh")])
def test_a_few_rows_that_weigh_more_than_the_sample(seed: int, method: str) -> None:
    """Of a skewed covariate, whose largest values bend the answer: the sample's is far from a maximum of all rows."""
    rng = np.random.default_rng(seed)
    x = np.exp(2.0 * rng.standard_normal(70_000))
    data = {"x": x, "y": rng.poisson(np.exp(np.minimum(0.02 * x, 6.0))).astype(float)}
    model = poisson.regress(mu="x")
    with passes() as seen:
        res = model.fit(data, method=method)
    with pytest.MonkeyPatch.context() as patch, passes() as usual:
        patch.setattr(subsample, "worthwhile", lambda *_: False)
        plain = model.fit(data, method=method)
    same_answer(res, plain)
    whole = max(seen)
    assert seen.count(whole) <= usual.count(whole) + 2  # to look at both starts


def test_the_sums_do_not_depend_on_the_number_of_threads(small_chunks: None) -> None:
    problem = logit.prepare(draws(N, 4))
    spec, u = Spec(logit.likelihood, problem.space), np.full(4, 0.1)
    found = {}
    with jax.enable_x64(True):
        for threads in (1, 2, 3, 8):
            evaluate = ChunkedEvaluator(spec, problem.data, None, None, threads=threads)
            found[threads] = evaluate.minimised(Newton(), u)
            assert len(evaluate._chunks.chunks) >= 8
            evaluate.close()
        whole = Newton().evaluate(chunked.objective_of(spec, problem.data, None, None), jnp.asarray(u))
    for threads in (2, 3, 8):
        for one, other in zip(found[1], found[threads], strict=True):
            np.testing.assert_array_equal(one, other)
    for one, other in zip(found[1], whole, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-10, atol=1e-13)


def test_blocks_of_padding_are_not_evaluated() -> None:
    """The last chunk has blocks without rows, which would make every sum NaN."""
    problem = logit.prepare(draws(N, 3))
    data, spec = problem.data, Spec(logit.likelihood, problem.space)
    assert N % chunked.chunk_size(data) <= chunked.chunk_size(data) - data.block
    spoiled = tuple(np.array(a) for a in data.rows)
    for a in spoiled:
        a[-(-N // data.block) * data.block :] = np.nan
    with jax.enable_x64(True):
        of = [ChunkedEvaluator(spec, each, None) for each in (data, replace(data, rows=spoiled))]
        plain, other = (each.minimised(Newton(), np.full(3, 0.1)) for each in of)
    for a, b in zip(plain, other, strict=True):
        np.testing.assert_array_equal(a, b)


def test_a_sample_is_made_of_other_rows_when_told_to_skip(small_chunks: None) -> None:
    data = logit.prepare({"X": np.arange(N, dtype=float)[:, None], "y": np.zeros(N)}).data
    rows = [set(np.asarray(sample_chunks(data, 1, 16, skip).rows[0])[:, 0]) for skip in (0.0, 0.2, 0.4, 0.6, 0.8)]
    assert all(len(r) == chunked.chunk_size(data) for r in rows)
    assert len(set.union(*rows)) == sum(len(r) for r in rows)
    assert max(max(r) for r in rows) < N, "no padding in a sample"


@pytest.mark.slow
def test_a_million_rows() -> None:
    data = draws(1_000_000, 5)
    with passes() as seen:
        res = logit.fit(data)
    assert seen.count(max(seen)) <= 4
    assert sum(seen) < 5 * max(seen), "the start included"
    same_answer(res, logit.fit(data, start={"beta": np.zeros(5)}))


def test_bias_reduction_belongs_to_the_sum(small_chunks: None) -> None:
    """Jeffreys' prior on an exponential rate gives (n - 1) / sum t, once, however the rows are cut."""

    @mle.model(rate=mle.Positive())
    def exponential(params: Any, data: Any) -> Any:
        return jnp.log(params["rate"]) - params["rate"] * data["t"]

    t = np.random.default_rng(3).exponential(2.0, 9_000)
    res = exponential.fit({"t": t}, bias_reduction="jeffreys")
    assert res.params["rate"] == pytest.approx(8_999 / t.sum(), rel=1e-9)


MEMORY = """
import threading, time
import numpy as np
import mlejax as mle

@mle.model(beta=mle.Real(columns="X"))
def logit(params, data):
    eta = data["X"] @ params["beta"]
    return data["y"] * eta - mle.special.softplus(eta)

def resident():
    return int(open("/proc/self/statm").read().split()[1]) * 4096

def draws(n):
    rng = np.random.default_rng(0)
    X = rng.standard_normal((n, 10))
    y = np.empty(n)
    for i in range(0, n, 100_000):
        part = slice(i, i + 100_000)
        y[part] = rng.random(y[part].size) < 1 / (1 + np.exp(-X[part].sum(axis=1) / 5))
    return {"X": X, "y": y}

logit.fit(draws(20_000))  # the program and the libraries are in memory before
data = draws(6_000_000)
size, before, peak, done = sum(a.nbytes for a in data.values()), resident(), [0], threading.Event()

def watch():
    while not done.wait(0.002):
        peak[0] = max(peak[0], resident())

watching = threading.Thread(target=watch)
watching.start()
assert logit.fit(data).verdict.code == "verified"
done.set()
watching.join()
print((peak[0] - before) / size)
"""


@pytest.mark.slow
@pytest.mark.skipif(not os.path.exists("/proc/self/statm"), reason="reads Linux's own count of resident memory")
def test_memory_beyond_the_data() -> None:
    """Weights, and what chunks take while they are looked at: a fraction of the data on top of them."""
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}
    done = subprocess.run([sys.executable, "-c", MEMORY], env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert float(done.stdout.split()[-1]) < 0.5
