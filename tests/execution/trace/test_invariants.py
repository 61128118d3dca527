"""What is computed of the data alone is split off the traced contributions, and the answer is the one of the whole."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest

import mlejax as mle
from mlejax import optimize
from mlejax.execution import Limits, limits, use_limits
from mlejax.execution.trace import split
from mlejax.fit.prepare.loading import load
from mlejax.fit.start import subsample
from mlejax.objective import ChunkedEvaluator, Spec, hoists, with_invariants
from mlejax.objective.evaluators import chunked
from mlejax.special import gammaln

N = 12
_rng = np.random.default_rng(4)
X, T = _rng.standard_normal((N, 2)), _rng.exponential(size=N)
SHARED = np.array([0.5, 2.0])


def weibull(params: Any, rows: Any, shared: Any) -> Any:
    x, t = rows
    z = (jnp.log(t) - x @ params["b"]) / params["s"]
    return z - jnp.log(params["s"]) - jnp.log(t) - jnp.exp(z)


def poisson(params: Any, rows: Any, shared: Any) -> Any:
    x, t = rows
    eta = x @ params["b"]
    return jnp.floor(t) * eta - jnp.exp(eta) - gammaln(jnp.floor(t) + 1.0)


def basis(params: Any, rows: Any, shared: Any) -> Any:
    x, t = rows
    columns = jnp.stack([jnp.sin(t), jnp.exp(-t * shared[0])], axis=1)
    return -((columns @ params["b"] - x[:, 0]) ** 2)


def nested(params: Any, rows: Any, shared: Any) -> Any:
    x, t = rows
    power = jax.jit(lambda v: jnp.where(v > 1.0, v, v**2.5))(t * shared[1])
    return -((power - x @ params["b"]) ** 2)


def two_results(params: Any, rows: Any, shared: Any) -> Any:
    x, t = rows
    best, which = jax.lax.top_k(x, 1)
    return params["b"][0] * jnp.sqrt(best[:, 0] ** 2) + params["b"][1] * which[:, 0] - params["b"][0] ** 2 * t


def no_row_of_its_own(params: Any, rows: Any, shared: Any) -> Any:
    x, t = rows
    return -((x @ params["b"] - jnp.log(shared[1])) ** 2) * t


def cheap(params: Any, rows: Any, shared: Any) -> Any:
    x, t = rows
    return -((2.0 * t + 1.0 / (1.0 + x[:, 0] ** 2) - x @ params["b"]) ** 2)


PARAMS = {"b": np.array([0.3, -0.2]), "s": 0.7}


@pytest.mark.parametrize(
    ("function", "shapes"),
    [
        (weibull, [(N,)]),
        (poisson, [(N,)]),
        (basis, [(N, 2)]),
        (nested, [(N,)]),
        (two_results, [(N,), (N,)]),
        (no_row_of_its_own, []),
        (cheap, []),
    ],
)
def test_the_parts_make_the_whole(function: Callable[..., Any], shapes: list[tuple[int, ...]]) -> None:
    with jax.enable_x64(True):
        parts = split(function, PARAMS, (X, T), SHARED)
        if not shapes:
            assert parts is None
            return
        assert parts is not None
        assert [s.shape for s in parts.shapes] == shapes
        known = parts.known((X, T), SHARED)
        assert [a.shape for a in known] == shapes

        def pieces(params: Any) -> Any:
            return parts.rest(params, (X, T), SHARED, known)

        whole = lambda params: function(params, (X, T), SHARED)
        np.testing.assert_allclose(pieces(PARAMS), whole(PARAMS), rtol=1e-14, atol=1e-14)
        for derivative in (jax.jacfwd, jax.hessian):
            for a, b in zip(*(jax.tree.leaves(derivative(f)(PARAMS)) for f in (pieces, whole)), strict=True):
                np.testing.assert_allclose(a, b, rtol=1e-13, atol=1e-13)


def test_nothing_dear_is_left_to_the_rest() -> None:
    with jax.enable_x64(True):
        parts = split(weibull, PARAMS, (X, T), SHARED)
        assert parts is not None
        known = parts.known((X, T), SHARED)
        left = str(jax.make_jaxpr(lambda p: parts.rest(p, (X, T), SHARED, known))(PARAMS))
    assert left.count(" log ") == 1  # of the scale: the two of the times are one column now


def test_rows_that_are_replaced_are_not_data() -> None:
    with jax.enable_x64(True):
        assert split(weibull, PARAMS, (X, T), SHARED, replaced=[1]) is None
        assert split(weibull, PARAMS, (X, T), SHARED, replaced=[0]) is not None


def test_calls_that_return_nothing_and_scalars_that_cost_something() -> None:
    @jax.jit
    def look(x: Any) -> None:
        assert x.ndim == 1

    def function(params: Any, rows: Any, shared: Any) -> Any:
        x, t = rows
        look(t)
        look(t * params["s"])
        eta = x @ params["b"] * jnp.log(shared[1])
        return jax.jit(lambda v: v)(t) * eta - jnp.exp(eta) - t / jnp.sqrt(shared[0]) * params["s"]

    with jax.enable_x64(True):
        assert split(function, PARAMS, (X, T), SHARED) is None
        parts = split(lambda p, r, s: function(p, r, s) - gammaln(r[1]), PARAMS, (X, T), SHARED)
        assert parts is not None
        assert [s.shape for s in parts.shapes] == [(N,)]


def test_zeros_of_two_signs_are_two_numbers() -> None:
    def function(params: Any, rows: Any, shared: Any) -> Any:
        t = rows[1]
        return params["s"] * jnp.arctan2(0.0, -t) - params["b"][0] * jnp.arctan2(-0.0, -t)

    with jax.enable_x64(True):
        parts = split(function, PARAMS, (X, T), SHARED)
        assert parts is not None
        known = parts.known((X, T), SHARED)
        np.testing.assert_allclose(parts.rest(PARAMS, (X, T), SHARED, known), (0.7 + 0.3) * np.pi, rtol=1e-14)


def test_what_prints_is_left_alone() -> None:
    def printing(params: Any, rows: Any, shared: Any) -> Any:
        jax.debug.print("here")
        return weibull(params, rows, shared)

    with jax.enable_x64(True):
        assert split(printing, PARAMS, (X, T), SHARED) is None


# ---- in a fit


@mle.model(beta=mle.Real(columns="X"), sigma=mle.Positive())
def survival(params: Any, data: Any) -> Any:
    z = (jnp.log(data["t"]) - data["X"] @ params["beta"]) / params["sigma"]
    return data["d"] * (z - jnp.log(params["sigma"]) - jnp.log(data["t"])) - jnp.exp(z)


@mle.model(mu=mle.Positive(), alpha=mle.Positive())
def counts(params: Any, data: Any) -> Any:
    y, mu, size = data["y"], params["mu"], 1.0 / params["alpha"]
    shared = gammaln(y + size) - gammaln(size) - gammaln(y + 1.0)
    return shared + size * jnp.log(size / (size + mu)) + y * jnp.log(mu / (size + mu))


@mle.model(mu=mle.Real(), sigma=mle.Positive(), tau=mle.Positive(), unit="who")
def random_intercepts(params: Any, data: Any) -> Any:
    m, v = data["mask"], params["sigma"] ** 2
    r = jnp.where(m, jnp.log(data["t"]) - params["mu"], 0.0)
    n = jnp.sum(m)
    total = v + n * params["tau"] ** 2
    return -0.5 * (
        (n - 1) * jnp.log(v) + jnp.log(total) + (jnp.sum(r**2) - params["tau"] ** 2 * jnp.sum(r) ** 2 / total) / v
    )


def survival_data(n: int) -> dict[str, Any]:
    rng = np.random.default_rng(2)
    X = np.column_stack([np.ones(n), rng.standard_normal((n, 2))])
    t = np.exp(X @ [1.0, 0.3, -0.2]) * rng.weibull(1.6, n)
    return {"X": X, "t": np.minimum(t, 3.0), "d": (t <= 3.0).astype(float), "g": rng.integers(0, 40, n)}


def count_data(n: int) -> pd.DataFrame:
    rng = np.random.default_rng(3)
    x = rng.standard_normal(n)
    mu = np.exp(0.5 + 0.3 * x)
    return pd.DataFrame({"x": x, "y": rng.poisson(mu * rng.gamma(2.0, 0.5, n)), "w": rng.integers(1, 4, n)})


def panel(n: int) -> dict[str, Any]:
    rng = np.random.default_rng(5)
    who = np.repeat(np.arange(n // 3), 3)
    return {"t": np.exp(0.4 + rng.standard_normal(n // 3)[who] + 0.5 * rng.standard_normal(who.size)), "who": who}


@pytest.fixture
def small_chunks() -> Iterator[None]:
    """Samples that fill a chunk in part, and several chunks, with a tenth of the rows."""
    with use_limits(Limits(sampled_rows=6_000, chunk_rows=2_048, block_rows=512)):
        yield


FITS: dict[str, Callable[[], Any]] = {
    "matrix": lambda: survival.fit(survival_data(10_000)),
    "clusters": lambda: survival.fit(survival_data(10_000), cov_type="cluster", cov_kwds={"groups": "g"}),
    "bhhh": lambda: survival.fit(survival_data(10_000), method="bhhh"),
    "penalty": lambda: survival.fit(survival_data(10_000), penalty=lambda p: 3.0 * jnp.sum(p["beta"] ** 2)),
    "formula": lambda: counts.regress(mu="x").fit(count_data(10_000)),
    "weights": lambda: counts.regress(mu="x").fit(count_data(10_000), weights="w", weight_kind="frequency"),
    "fixed": lambda: survival.fit(survival_data(10_000), fixed={"sigma": 0.6}),
    "start": lambda: survival.fit(survival_data(10_000), start={"beta": np.zeros(3), "sigma": 1.0}),
    "units": lambda: random_intercepts.fit(panel(24_000)),
}


@pytest.mark.usefixtures("small_chunks")
@pytest.mark.parametrize("which", FITS)
def test_the_answer_is_that_of_the_whole(which: str, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: set[int] = set()
    original = chunked.with_invariants

    def watched(spec: Any, data: Any) -> Any:
        found = original(spec, data)
        seen.add(len(found.rows) - data.statics.n_leaves)
        return found

    monkeypatch.setattr(chunked, "with_invariants", watched)
    apart = FITS[which]()
    assert seen == {3 if which == "units" else 1}  # log(t); and the number of rows of a unit, and one less
    monkeypatch.setattr(chunked, "hoists", lambda spec, data: False)
    whole = FITS[which]()
    assert apart.verdict.code == whole.verdict.code == "verified"
    assert apart.llf == pytest.approx(whole.llf, rel=1e-13)
    free = whole.bse > 0
    np.testing.assert_allclose(((apart.params - whole.params) / whole.bse)[free], 0.0, atol=1e-8)
    np.testing.assert_allclose(apart.bse, whole.bse, rtol=1e-9)


def prepared(model: Any, data: Any) -> tuple[Spec, Any]:
    with jax.enable_x64(True):
        loaded = load(model.likelihood, data, None, "raise")
    return Spec(model.likelihood, loaded.problem.space), loaded.problem.data


@pytest.mark.usefixtures("small_chunks")
def test_what_takes_much_more_than_the_data_is_not_kept() -> None:
    @mle.model(a=mle.Real(), s=mle.Positive())
    def wide(params: Any, data: Any) -> Any:
        waves = jnp.sin(data["t"][:, None] * jnp.arange(1.0, 9.0))
        return -0.5 * jnp.sum((waves * params["a"] / params["s"]) ** 2, axis=1) - jnp.log(params["s"])

    with jax.enable_x64(True):
        spec, data = prepared(wide, {"t": survival_data(10_000)["t"]})
        assert not hoists(spec, data)
        spec, data = prepared(survival, survival_data(10_000))
        assert hoists(spec, data)
        kept = with_invariants(spec, data)
        assert len(kept.rows) == len(data.rows) + 1
        assert with_invariants(spec, kept) is kept


@mle.model(a=mle.Real(), s=mle.Positive())
def bumps(params: Any, data: Any) -> Any:
    knots = data["knots"]
    mean = params["a"] * data["t"]
    if knots.shape[0]:
        mean = mean + jnp.sum(jnp.exp(-((data["t"][:, None] - knots) ** 2)), axis=1)
    return -0.5 * ((data["y"] - mean) / params["s"]) ** 2 - jnp.log(params["s"])


@pytest.mark.usefixtures("small_chunks")
def test_shared_arrays_of_another_size_are_another_split() -> None:
    data = survival_data(10_000)
    for n, kept in ((2, True), (0, False), (3, True)):
        knots = np.arange(float(n))
        y = 0.3 * data["t"] + np.exp(-((data["t"][:, None] - knots) ** 2)).sum(axis=1) + np.sin(1e3 * data["t"])
        given = {"t": data["t"], "y": y, "knots": mle.Shared(knots)}
        assert hoists(*prepared(bumps, given)) == kept
        res = bumps.fit(given)
        centred = y - np.exp(-((data["t"][:, None] - knots) ** 2)).sum(axis=1)
        assert res.verdict.code == "verified"
        assert res.params["a"] == pytest.approx(data["t"] @ centred / (data["t"] @ data["t"]), rel=1e-9)


@pytest.mark.usefixtures("small_chunks")
def test_a_sample_has_the_program_of_data_read_where_they_lie() -> None:
    with use_limits(replace(limits(), streamed_bytes=100_000)):
        spec, data = prepared(survival, survival_data(10_000))
        assert data.streamed
        part = subsample.first_rows(spec, data)
        assert not part.streamed
        assert not hoists(spec, data)


@pytest.mark.usefixtures("small_chunks")
def test_a_chunk_that_is_filled_in_part() -> None:
    spec, data = prepared(survival, survival_data(10_000))
    u = np.array([0.8, 0.2, -0.1, -0.3])
    with jax.enable_x64(True):
        part = subsample.first_rows(spec, data)
    n = int(part.n)
    assert n < part.n_padded
    assert not part.weights[n:].any()
    with jax.enable_x64(True):
        evaluate = ChunkedEvaluator(spec, part, None, None, program_of=data)
        found = evaluate.minimised(optimize.Newton(), u)
    own = part.rows[: part.statics.n_leaves]
    rows = {key: column[:n] for key, column in zip(part.statics.keys, own, strict=True)}
    small, few = prepared(survival, rows)
    with jax.enable_x64(True):
        plain = ChunkedEvaluator(small, few, None, None).minimised(optimize.Newton(), u)
    for a, b in zip(found, plain, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-12)


@pytest.mark.usefixtures("small_chunks")
@pytest.mark.parametrize("rare", [3, 40])
def test_what_the_first_rows_do_not_show(rare: int) -> None:
    """Few events among many rows: none or hardly any of them are where the search begins."""
    data = survival_data(10_000)
    data["d"] = np.zeros(10_000)
    data["d"][np.random.default_rng(rare).choice(10_000, rare, replace=False)] = 1.0
    res = survival.fit(data)
    plain = survival.fit(data, start={"beta": np.array([5.0, 0.0, 0.0]), "sigma": 1.0})
    assert res.verdict.code == plain.verdict.code
    assert res.llf == pytest.approx(plain.llf, abs=1e-8)
