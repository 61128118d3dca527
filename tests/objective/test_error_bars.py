"""Error bars of whole log-likelihoods: small where formula and data are healthy, and never a number where they are not known."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import mpmath as mp
import numpy as np
import pytest
from jax import lax
from jax.scipy import special, stats

import mlejax as mle
from mlejax.fit.prepare.loading import load
from mlejax.objective import ChunkedEvaluator, Spec
from mlejax.objective.error_bars import ErrorBars, Unknown, error_bars, loglik_bar


@mle.model(a=mle.Real(), b=mle.Real())
def logit(params: Any, data: Any) -> Any:
    eta = params["a"] + params["b"] * data["x"]
    return data["y"] * jax.nn.log_sigmoid(eta) + (1.0 - data["y"]) * jax.nn.log_sigmoid(-eta)


@mle.model(mu=mle.Real(), sigma=mle.Positive())
def normal(params: Any, data: Any) -> Any:
    return stats.norm.logpdf(data["y"], params["mu"], params["sigma"])


@mle.model(a=mle.Real(), b=mle.Real())
def poisson(params: Any, data: Any) -> Any:
    eta = params["a"] + params["b"] * data["x"]
    return data["y"] * eta - jnp.exp(eta) - special.gammaln(data["y"] + 1.0)


@mle.model(scale=mle.Positive(), shape=mle.Positive())
def weibull(params: Any, data: Any) -> Any:
    z = jnp.log(data["y"] / params["scale"])
    return jnp.log(params["shape"]) + params["shape"] * z - jnp.log(data["y"]) - jnp.exp(params["shape"] * z)


@mle.model(m=mle.Real(shape=2), s=mle.Positive(shape=2), p=mle.Interval(0, 1))
def mixture(params: Any, data: Any) -> Any:
    weights = jnp.stack([jnp.log(params["p"]), jnp.log1p(-params["p"])])
    return special.logsumexp(weights + stats.norm.logpdf(data["y"][:, None], params["m"], params["s"]), axis=1)


@mle.model(mu=mle.Real(), sigma=mle.Positive())
def tobit(params: Any, data: Any) -> Any:
    z = (data["y"] - params["mu"]) / params["sigma"]
    return jnp.where(data["d"] > 0, stats.norm.logpdf(z) - jnp.log(params["sigma"]), stats.norm.logcdf(z))


@mle.model(mu=mle.Positive(), alpha=mle.Positive())
def nb2(params: Any, data: Any) -> Any:
    y, mu, r = data["y"], params["mu"], 1.0 / params["alpha"]
    terms = special.gammaln(y + r) - special.gammaln(r) - special.gammaln(y + 1.0)
    return terms + r * jnp.log(r / (r + mu)) + y * jnp.log(mu / (r + mu))


@mle.model(theta=mle.Real(shape=2), rowwise=False)
def moving_average(params: Any, data: Any) -> Any:
    def step(past: Any, y: Any) -> Any:
        e = y - params["theta"] @ past
        return jnp.stack([e, past[0]]), stats.norm.logpdf(e)

    return lax.scan(step, jnp.zeros(2), data["y"])[1]


@mle.model(mu=mle.Real(), rho=mle.Real(), rowwise=False)
def autoregression(params: Any, data: Any) -> Any:
    e = data["y"] - params["mu"]
    return stats.norm.logpdf(e[1:] - jnp.tanh(params["rho"]) * e[:-1])


@mle.model(mu=mle.Real(), sigma=mle.Positive(), tau=mle.Positive(), unit="g")
def random_intercepts(params: Any, data: Any) -> Any:
    m, v = data["mask"], params["sigma"] ** 2
    r = jnp.where(m, data["y"] - params["mu"], 0.0)
    n = jnp.sum(m)
    total = v + n * params["tau"] ** 2
    squares = jnp.sum(r**2) - params["tau"] ** 2 * jnp.sum(r) ** 2 / total
    return -0.5 * ((n - 1) * jnp.log(v) + jnp.log(total) + squares / v)


def columns(n: int, rng: np.random.Generator) -> dict[str, Any]:
    """Outcomes of all kinds."""
    z = rng.standard_normal(n)
    return {"z": z, "x": rng.standard_normal(n), "g": np.arange(n) // 5}


def data_of(name: str, n: int = 400) -> dict[str, Any]:
    rng = np.random.default_rng(3)  # anew, so that nothing depends on the order of the tests
    c = columns(n, rng)
    normal_mixture = np.where(rng.random(n) < 0.4, c["z"], 3.0 + c["z"])
    return {
        "logit": {"x": c["x"], "y": (c["z"] > c["x"]) * 1.0},
        "uncentred": {"x": 2000.0 + np.arange(n) % 23, "y": (c["z"] > 0) * 1.0},
        "normal": {"y": c["z"]},
        "poisson": {"x": c["x"], "y": rng.poisson(np.exp(0.3 + 0.2 * c["x"])).astype(float)},
        "weibull": {"y": rng.weibull(1.5, n)},
        "mixture": {"y": normal_mixture},
        "tobit": {"y": np.maximum(c["z"], -0.5), "d": (c["z"] > -0.5) * 1.0},
        "autoregression": {"y": c["z"]},
        "random_intercepts": {"y": c["z"] + np.repeat(rng.standard_normal(-(-n // 5)), 5)[:n], "g": c["g"]},
        "nb2": {"y": rng.poisson(2.0, n).astype(float)},
        "moving_average": {"y": c["z"]},
    }[name]


MODELS = {"uncentred": logit} | {
    m.likelihood.name: m
    for m in (logit, normal, poisson, weibull, mixture, tobit, autoregression, random_intercepts, nb2, moving_average)
}


def bars_of(name: str, data: Any, u: Any, fixed: Any = None, rows: Any = None) -> tuple[Any, Spec, Any]:
    model = MODELS[name]
    with jax.enable_x64(True):
        problem = load(model.likelihood, data, None, "raise").problem
        spec = Spec(model.likelihood, problem.space)
        return error_bars(spec, problem.data, np.asarray(u, float), fixed, rows), spec, problem.data


HEALTHY = {
    "logit": [0.1, -0.9], "uncentred": [-20.0, 0.01], "normal": [0.1, 0.05], "poisson": [0.3, 0.2], "weibull": [0.1, 0.4],
    "mixture": [0.1, 3.1, 0.0, 0.1, -0.4], "tobit": [0.1, 0.0], "autoregression": [0.1, 0.3],
    "random_intercepts": [0.1, 0.0, 0.1],
}  # fmt: skip


@pytest.mark.parametrize("name", HEALTHY)
def test_healthy_models_have_small_bars(name: str) -> None:
    bars, spec, data = bars_of(name, data_of(name), HEALTHY[name])
    assert isinstance(bars, ErrorBars)
    with jax.enable_x64(True):
        found = ChunkedEvaluator(spec, data, None).evaluate(np.array([HEALTHY[name]]))
    covariance = np.linalg.inv(found.information[0])
    errors = np.sqrt(np.diag(covariance))
    relative = np.diag(np.abs(covariance) @ bars.information @ np.abs(covariance)) / (2.0 * errors**2)
    assert 0.0 < bars.loglik < 1e-8
    assert np.all(bars.score * errors < 1e-6)
    assert np.all(relative < 1e-6)


def test_the_score_loses_its_digits_before_the_value() -> None:
    bars, *_ = bars_of("nb2", data_of("nb2"), [np.log(2.0), np.log(1e-7)])
    assert isinstance(bars, ErrorBars)
    assert bars.loglik < 1e-3
    assert bars.score[1] > 1e-6  # in log(alpha), in which the score itself is about 1e-5
    lost, *_ = bars_of("nb2", data_of("nb2"), [np.log(2.0), np.log(1e-20)])
    assert lost.loglik > 0.5


def test_a_recursion_has_a_bar_of_its_value_alone() -> None:
    """A stable moving average; a bound that is carried forward would be 1e135."""
    data = data_of("moving_average", 500)
    bars, spec, prepared = bars_of("moving_average", data, [-1.6, 0.8])
    assert bars == Unknown(("scan",))
    with jax.enable_x64(True):
        point = np.array([-1.6, 0.8])
        bar = loglik_bar(spec, prepared, point, None)
        computed = ChunkedEvaluator(spec, prepared, None).evaluate(point[None], 0).loglik[0]
    assert isinstance(bar, float)
    with mp.workdps(50):
        past, total = (mp.mpf(0), mp.mpf(0)), mp.mpf(0)
        for y in data["y"].tolist():
            e = mp.mpf(y) + mp.mpf(1.6) * past[0] - mp.mpf(0.8) * past[1]
            past, total = (e, past[0]), total - e**2 / 2 - mp.log(2 * mp.pi) / 2
        error = abs(float(mp.mpf(float(computed)) - total))
    assert error <= bar < 1000.0 * max(error, 1e-13)
    assert 1e-12 < bar < 1e-8


@pytest.mark.parametrize("name", HEALTHY)
def test_both_bounds_of_the_value_agree(name: str) -> None:
    bars, spec, data = bars_of(name, data_of(name), HEALTHY[name])
    with jax.enable_x64(True):
        adjoint = loglik_bar(spec, data, np.array(HEALTHY[name]), None)
    assert isinstance(adjoint, float)
    assert 0.2 <= adjoint / bars.loglik <= 1.5


def test_many_rows_are_sampled() -> None:
    data, u = data_of("poisson", 20_000), HEALTHY["poisson"]
    few, *_ = bars_of("poisson", {k: v[:500] for k, v in data.items()}, u)
    many, *_ = bars_of("poisson", data, u)
    assert 10.0 < many.loglik / few.loglik < 100.0  # forty times the rows, in deeper sums
    data["y"][17_003] = 1e9  # the one row that matters has the largest number of its column
    found, *_ = bars_of("poisson", data, u)
    assert 1e-8 < found.loglik < 1e-3
    data["y"][17_004] = 0.99e9  # and now one that has not, and has to be named
    named, *_ = bars_of("poisson", data, u, rows=np.array([17_004]))
    assert 1.5 * found.loglik < named.loglik < 1e-3


def test_weights_scale_the_bars() -> None:
    with jax.enable_x64(True):
        data, u = data_of("poisson"), np.array(HEALTHY["poisson"])
        plain, heavy = (
            load(poisson.likelihood, data, None, "raise", (), w, None if w is None else "importance").problem
            for w in (None, np.full(400, 8.0))
        )
        spec = Spec(poisson.likelihood, plain.space)
        one, eight = (error_bars(spec, replaced, u, None) for replaced in (plain.data, heavy.data))
    ratio = eight.information / one.information
    assert np.allclose(ratio, ratio[0, 0])
