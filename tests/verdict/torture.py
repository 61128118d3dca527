"""Data sets whose truth is known by construction: families x pathologies x sizes x seeds, for the verdicts.

    for problem in problems(seeds=range(10)):
        problem.model.fit(problem.data, start=problem.start)

``truth`` says what a fit may end as:

* ``clean``: an ordinary sample, large for its few parameters: ``verified``.
* ``none``: no maximum: separation, all-zero outcomes, a scale that shrinks to 0.
* ``flat``: an exactly flat direction: ``not_identified``.
* ``edge``: the maximum lies on a closed edge, shown by a closed form: ``boundary``.
* ``hard``: a maximum exists, but the start is bad (a saddle, a plateau, a minimum, far away): either honest failure or a
  true local maximum, which the test checks by moving every parameter.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.special import gammaln
from jax.scipy.stats import norm

import mlejax as mle

Data = dict[str, Any]


@dataclass(frozen=True, eq=False)
class Problem:
    """One data set.

    Attributes:
        name: family, pathology, size and seed.
        model: the likelihood.
        data, start: for ``fit``.
        truth: see the module.
        names: addresses that an honest statement names.
    """

    name: str
    model: mle.Model
    data: Data
    truth: str
    start: Any = None
    names: tuple[str, ...] = ()


# ---- families


@mle.model(beta=mle.Real(columns="X"))
def logit(params, data):
    return jax.nn.log_sigmoid((2 * data["y"] - 1) * (data["X"] @ params["beta"]))


@mle.model(beta=mle.Real(columns="X"))
def probit(params, data):
    return norm.logcdf((2 * data["y"] - 1) * (data["X"] @ params["beta"]))


@mle.model(beta=mle.Real(columns="X"))
def poisson(params, data):
    eta = data["X"] @ params["beta"]
    return data["y"] * eta - jnp.exp(eta) - gammaln(data["y"] + 1.0)


@mle.model(beta=mle.Real(columns="X"), sigma=mle.Positive())
def linear(params, data):
    return norm.logpdf(data["y"], data["X"] @ params["beta"], params["sigma"])


@mle.model(beta=mle.Real(columns="X"), theta=mle.Positive())
def negbin(params, data):
    """In a form that keeps its digits as theta grows: gamma(y + r) / gamma(r) as a product, for counts below 64."""
    eta, r, y = data["X"] @ params["beta"], params["theta"], data["y"]
    j = jnp.arange(64.0)
    rising = jnp.where(j < y[:, None], jnp.log1p(j / r), 0.0).sum(axis=1)
    return rising + y * eta - gammaln(y + 1.0) - (y + r) * jnp.log1p(jnp.exp(eta) / r)


@mle.model(beta=mle.Real(columns="X"), shape=mle.Positive())
def weibull(params, data):
    k = params["shape"]
    z = k * (jnp.log(data["t"]) - data["X"] @ params["beta"])
    return data["event"] * (jnp.log(k) - jnp.log(data["t"]) + z) - jnp.exp(z)


@mle.model(mu=mle.Real(), scale=mle.Positive())
def cauchy(params, data):
    return -jnp.log(jnp.pi * params["scale"]) - jnp.log1p(((data["y"] - params["mu"]) / params["scale"]) ** 2)


@mle.model(w=mle.Interval(0, 1), m1=mle.Real(), m2=mle.Real(), s1=mle.Positive(), s2=mle.Positive())
def mixture(params, data):
    one = jnp.log(params["w"]) + norm.logpdf(data["y"], params["m1"], params["s1"])
    two = jnp.log1p(-params["w"]) + norm.logpdf(data["y"], params["m2"], params["s2"])
    return jnp.logaddexp(one, two)


@mle.model(cuts=mle.Ordered(2), slope=mle.Real())
def ordered(params, data):
    eta, c, y = params["slope"] * data["x"], params["cuts"], data["y"]
    low, high = c[0] - eta, c[1] - eta
    middle = jax.nn.log_sigmoid(high) + jax.nn.log_sigmoid(-low) + jnp.log(-jnp.expm1(low - high))
    return jnp.where(y == 0, jax.nn.log_sigmoid(low), jnp.where(y == 2, jax.nn.log_sigmoid(-high), middle))


@mle.model(mu=mle.Real(), tau=mle.NonNegative(), sigma=mle.Positive(), unit="g")
def intercepts(params, data):
    """Random intercepts, the integral in closed form."""
    mask, n = data["mask"], jnp.sum(data["mask"])
    r = jnp.where(mask, data["y"] - params["mu"], 0.0)
    s2, t2 = params["sigma"] ** 2, params["tau"] ** 2
    total = s2 + n * t2
    quadratic = (jnp.sum(r**2) - t2 / total * jnp.sum(r) ** 2) / s2
    return -0.5 * (n * jnp.log(2 * jnp.pi) + (n - 1) * jnp.log(s2) + jnp.log(total) + quadratic)


@mle.model(a=mle.Real(), b=mle.Real(), sigma=mle.Positive())
def sum_only(params, data):
    return norm.logpdf(data["y"], params["a"] + params["b"], params["sigma"])


@mle.model(a=mle.Positive(), b=mle.Positive(), sigma=mle.Positive())
def product(params, data):
    return norm.logpdf(data["y"], params["a"] * params["b"], params["sigma"])


@mle.model(a=mle.Real(), b=mle.Real(), spare=mle.Positive())
def unused(params, data):
    eta = params["a"] + params["b"] * data["x"]
    return data["y"] * eta - jnp.exp(eta)


@mle.model(level=mle.NonNegative(), sigma=mle.Positive())
def floor(params, data):
    return norm.logpdf(data["y"], params["level"], params["sigma"])


# ---- samples


def design(rng: np.random.Generator, n: int, p: int = 2) -> np.ndarray:
    return np.column_stack([np.ones(n), rng.normal(size=(n, p))])


def outcome(family: mle.Model, rng: np.random.Generator, x: np.ndarray, beta: np.ndarray) -> Data:
    """A sample of a regression family at these coefficients."""
    eta, n = x @ beta, len(x)
    if family is logit:
        return {"X": x, "y": (rng.random(n) < 1 / (1 + np.exp(-eta))).astype(float)}
    if family is probit:
        return {"X": x, "y": (rng.normal(size=n) < eta).astype(float)}
    if family is poisson:
        return {"X": x, "y": rng.poisson(np.exp(eta)).astype(float)}
    if family is negbin:
        return {"X": x, "y": np.minimum(rng.poisson(np.exp(eta) * rng.gamma(1.5, 1 / 1.5, n)), 63).astype(float)}
    if family is linear:
        return {"X": x, "y": eta + 0.7 * rng.normal(size=n)}
    t, c = np.exp(eta + rng.gumbel(size=n) * -0.5), rng.exponential(8.0, n)
    return {"X": x, "t": np.minimum(t, c), "event": (t <= c).astype(float)}


REGRESSIONS = {
    "logit": logit,
    "probit": probit,
    "poisson": poisson,
    "negbin": negbin,
    "linear": linear,
    "weibull": weibull,
}
BETA = np.array([0.4, 0.5, -0.3])


def clean(rng: np.random.Generator, n: int) -> Iterator[tuple[str, mle.Model, Data]]:
    """Ordinary samples, on ordinary and on wild scales, with and without noise columns."""
    for name, family in REGRESSIONS.items():
        x = design(rng, n)
        data = outcome(family, rng, x, BETA)
        yield name, family, data
        scale = np.concatenate([[1.0], 10.0 ** rng.uniform(-8, 8, 2)])
        yield f"{name}, wild scales", family, {**data, "X": x * scale}
        noise = np.column_stack([x, 10.0 ** rng.uniform(-3, 3) * rng.normal(size=n)])
        yield f"{name}, a noise column", family, {**data, "X": noise}
    yield "cauchy", cauchy, {"y": 3.0 + 2.0 * rng.standard_cauchy(n)}
    yield "ordered", ordered, _ordered(rng, n)
    groups = np.repeat(np.arange(n // 5), 5)
    y = rng.normal(size=n // 5)[groups] * 1.5 + rng.normal(size=n)
    yield "intercepts", intercepts, {"y": y, "g": groups}
    yield "floor", floor, {"y": 1.0 + rng.normal(size=n)}


def _ordered(rng: np.random.Generator, n: int) -> Data:
    x = rng.normal(size=n)
    z = 0.8 * x + rng.logistic(size=n)
    return {"x": x, "y": (z > -0.7).astype(float) + (z > 0.9)}


def without_maximum(rng: np.random.Generator, n: int) -> Iterator[tuple[str, mle.Model, Data, Any, tuple[str, ...]]]:
    """Complete and quasi-complete separation, zeros, scales that shrink to 0; with the addresses that run away."""
    for name, family in (("logit", logit), ("probit", probit)):
        x = design(rng, n)
        x[:, 1] += np.sign(x[:, 1]) * 0.05
        y = (x[:, 1] > 0).astype(float)
        yield f"{name}, separation", family, {"X": x, "y": y}, None, ("beta[1]",)
        scale = 10.0 ** rng.uniform(-8, 8)
        yield f"{name}, separation, wild scale", family, {"X": x * [1.0, scale, 1.0], "y": y}, None, ("beta[1]",)
        dummy = (np.arange(n) < max(3, n // 20)).astype(float)
        y = np.where(dummy > 0, 1.0, outcome(family, rng, x, BETA)["y"])
        quasi = {"X": np.column_stack([x[:, [0, 2]], dummy]), "y": y}
        yield f"{name}, quasi-separation", family, quasi, None, ("beta[2]",)
        yield f"{name}, all ones", family, {"X": x[:, :1], "y": np.ones(n)}, None, ("beta[0]",)
    x = design(rng, n)
    for name, family in (("poisson", poisson), ("negbin", negbin)):
        yield f"{name}, all zero", family, {"X": x[:, :1], "y": np.zeros(n)}, None, ("beta[0]",)
    cell = (np.arange(n) < max(4, n // 15)).astype(float)
    y = np.where(cell > 0, 0.0, rng.poisson(2.0, n)).astype(float)
    yield "poisson, a cell of zeros", poisson, {"X": np.column_stack([x[:, :1], cell]), "y": y}, None, ("beta[1]",)
    yield "linear, exact", linear, {"X": x, "y": x @ BETA}, None, ("sigma",)
    yield "linear, constant", linear, {"X": x[:, :1], "y": np.full(n, 3.0)}, None, ("sigma",)
    under = rng.binomial(8, 0.5, n).astype(float)
    yield "negbin, underdispersed", negbin, {"X": x[:, :1], "y": under}, None, ("theta",)
    one_sided = _ordered(rng, n)
    split = {"x": one_sided["x"], "y": np.digitize(one_sided["x"], [-0.5, 0.5]).astype(float)}
    yield "ordered, separation", ordered, split, None, ("slope",)


def flat(rng: np.random.Generator, n: int) -> Iterator[tuple[str, mle.Model, Data, tuple[str, ...]]]:
    """Collinear columns of any scale, a sum of two parameters, a parameter that is not used."""
    for name, family in REGRESSIONS.items():
        x = design(rng, n)
        scale = 10.0 ** rng.uniform(-6, 6)
        double = np.column_stack([x, scale * (x[:, 1] - 2.0 * x[:, 2])])
        yield (
            f"{name}, collinear",
            family,
            {**outcome(family, rng, x, BETA), "X": double},
            ("beta[1]", "beta[2]", "beta[3]"),
        )
        empty = np.column_stack([x, np.zeros(n)])
        yield f"{name}, a column of zeros", family, {**outcome(family, rng, x, BETA), "X": empty}, ("beta[3]",)
    yield "a + b", sum_only, {"y": 10.0 ** rng.uniform(-4, 4) * (2.0 + rng.normal(size=n))}, ("a", "b")
    yield "a * b", product, {"y": 10.0 ** rng.uniform(-4, 4) * (3.0 + rng.normal(size=n))}, ("a", "b")
    x = rng.normal(size=n)
    yield "unused", unused, {"x": x, "y": rng.poisson(np.exp(0.3 * x)).astype(float)}, ("spare",)


def edges(rng: np.random.Generator, n: int) -> Iterator[tuple[str, mle.Model, Data, tuple[str, ...]]]:
    """A mean below the floor; group means that vary no more than chance (balanced: between <= within, in closed form)."""
    y = rng.normal(size=n)
    yield "floor, below", floor, {"y": y - y.mean() - 0.5}, ("level",)
    groups = np.repeat(np.arange(n // 5), 5)
    residual = rng.normal(size=n)
    means = np.array([residual[groups == g].mean() for g in range(n // 5)])
    yield "intercepts, none", intercepts, {"y": residual - 0.95 * means[groups], "g": groups}, ("tau",)


def hard(rng: np.random.Generator, n: int) -> Iterator[tuple[str, mle.Model, Data, Any]]:
    """Bad starts: saddles, plateaus, minima between modes, far away."""
    x = design(rng, n)
    for name, family in (("logit", logit), ("probit", probit)):
        data = outcome(family, rng, x, BETA)
        yield f"{name}, far", family, data, {"beta": 20.0 * rng.normal(size=3)}
    yield "poisson, far", poisson, outcome(poisson, rng, x, BETA), {"beta": [8.0, -3.0, 2.0]}
    yield "linear, tiny scale", linear, outcome(linear, rng, x, BETA), {"beta": [50.0, 0, 0], "sigma": 1e-3}
    yield "weibull, far", weibull, outcome(weibull, rng, x, BETA), {"beta": [9.0, 1.0, 1.0], "shape": 6.0}
    y = np.concatenate([rng.normal(-4, 1, n // 2), rng.normal(4, 1, n - n // 2)])
    spike = {"w": 2.0 / n, "m1": float(y[0]), "m2": 0.0, "s1": 1e-3, "s2": 4.0}
    yield "mixture, a spike", mixture, {"y": y}, spike
    even = {"w": 0.5, "m1": 0.0, "m2": 0.0, "s1": 4.0, "s2": 4.0}
    yield "mixture, equal components", mixture, {"y": y}, even
    yield "mixture, far", mixture, {"y": y}, {"w": 0.5, "m1": -300.0, "m2": 200.0, "s1": 1.0, "s2": 1.0}
    yield "cauchy, far", cauchy, {"y": 2 * rng.standard_cauchy(n)}, {"mu": 1e4, "scale": 1.0}
    yield "cauchy, between modes", cauchy, {"y": np.concatenate([y - 6, y + 6])}, {"mu": 0.0, "scale": 0.1}


def problems(seeds: Iterable[int], sizes: Iterable[int] = (60, 300)) -> Iterator[Problem]:
    """All problems of these sizes and seeds."""
    for n in sizes:
        for seed in seeds:
            rng = np.random.default_rng([n, seed])
            at = f"n={n}, seed={seed}"
            # an ordinary sample is large for its model: small ones may well be separated
            for name, model, data in clean(rng, max(n, 200)):
                yield Problem(f"clean: {name}, {at}", model, data, "clean")
            for name, model, data, start, names in without_maximum(rng, n):
                yield Problem(f"none: {name}, {at}", model, data, "none", start, names)
            for name, model, data, names in flat(rng, max(n, 200)):
                yield Problem(f"flat: {name}, {at}", model, data, "flat", None, names)
            for name, model, data, names in edges(rng, n):
                yield Problem(f"edge: {name}, {at}", model, data, "edge", None, names)
            for name, model, data, start in hard(rng, n):
                yield Problem(f"hard: {name}, {at}", model, data, "hard", start)
