r"""Models whose maximum likelihood estimate, score and observed information are known in closed form.

Nothing here calls the library except to declare parameters: estimates, scores and information are written out in NumPy,
log-likelihoods are SciPy's.  Every formula is general in the parameters, so that one of them serves the free fit, the
fit with a parameter held fixed, and the fit that ends on the edge of a closed support (there the maximum over the rest
is the one with the parameter held at the edge).  ``test_zoo.py`` first checks the formulas against each other.

Sources: Johnson, Kotz & Balakrishnan, Continuous Univariate Distributions (inverse Gaussian, Pareto, Weibull);
Magnus & Neudecker (1988), ch. 15 (multivariate normal); Searle, Casella & McCulloch (1992), ch. 3 (balanced one-way
layout: estimates of the variance components inside and on the edge).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.special import expit
from jax.scipy.stats import norm
from scipy import special, stats

import mlejax as mle

Array = Any
Params = dict[str, Any]
Data = dict[str, Any]
N = 61  # no bucket size: three padded rows


@dataclass(frozen=True, eq=False)
class Bounded:
    """The model with other declarations; ``edge`` holds what the estimate has to be where the bound is active."""

    label: str
    declared: Mapping[str, Any]
    edge: Mapping[str, Any] = field(default_factory=dict)
    shift: Callable[[Data], Data] = lambda data: data


@dataclass(frozen=True, eq=False)
class Member:
    """One model with everything known about it.

    Attributes:
        theta: addresses of the free natural coordinates.
        estimate: ``(data, fixed) -> params``, the maximum with those held fixed.
        loglik: ``(params, data) -> (n,)`` by SciPy.
        scores: ``(params, data) -> (n, p)``.
        information: ``(params, data) -> (p, p)``, minus the Hessian at any params.
        start: a point that a user might give.
        expand: (r, p) derivative of the reported entries by theta; None for the identity.
    """

    name: str
    declared: Mapping[str, Any]
    function: Callable[[Any, Any], Any]
    make: Callable[[int], Data]
    theta: tuple[str, ...]
    estimate: Callable[[Data, Mapping[str, Any]], Params]
    loglik: Callable[[Params, Data], np.ndarray]
    scores: Callable[[Params, Data], np.ndarray]
    information: Callable[[Params, Data], np.ndarray]
    start: Params
    fixed: tuple[Mapping[str, Any], ...] = ()
    bounded: tuple[Bounded, ...] = ()
    reported: tuple[str, ...] = ()
    expand: np.ndarray | None = None
    flat: Callable[[Params], np.ndarray] | None = None
    unit: str | None = None

    @property
    def labels(self) -> tuple[str, ...]:
        return self.reported or self.theta

    @cached_property
    def plain(self) -> mle.Model:
        """The model as declared: one object for all tests of a session, so that its programs are compiled once."""
        return self.model()

    def model(self, **changed: Any) -> mle.Model:
        """A fresh model with its declarations, some of them changed."""
        made: mle.Model = mle.model(params={**self.declared, **changed}, unit=self.unit)(self.function)
        return made

    def vector(self, params: Params) -> np.ndarray:
        """The reported entries of a structure, in the order of the labels."""
        if self.flat is not None:
            return self.flat(params)
        return np.concatenate([np.ravel(np.asarray(params[name], float)) for name in self.declared])


@dataclass(frozen=True, eq=False)
class Truth:
    """What a fit has to find.

    ``held`` flags the coordinates of theta that ``fixed=`` holds, ``edge`` those on an edge of their support.
    """

    member: Member
    data: Data
    params: Params
    held: np.ndarray
    edge: np.ndarray

    @property
    def values(self) -> np.ndarray:
        return self.member.vector(self.params)

    @property
    def llf(self) -> float:
        return float(np.sum(self.member.loglik(self.params, self.data)))

    @property
    def open(self) -> np.ndarray:
        return ~self.held & ~self.edge

    @property
    def information(self) -> np.ndarray:
        """Over what is not held fixed."""
        return self.member.information(self.params, self.data)[np.ix_(~self.held, ~self.held)]

    @property
    def scores(self) -> np.ndarray:
        return self.member.scores(self.params, self.data)[:, ~self.held]

    def covariance(self, kind: str, correction: str = "G") -> np.ndarray:
        """Covariance of the reported entries; NaN for what is held fixed or on an edge."""
        member = self.member
        free = self.open
        information = member.information(self.params, self.data)[np.ix_(free, free)]
        scores = member.scores(self.params, self.data)[:, free]
        n, k = scores.shape
        bread = np.linalg.inv(information)
        if kind == "nonrobust":
            inner = bread
        elif kind == "opg":
            inner = np.linalg.inv(scores.T @ scores)
        elif kind in ("HC0", "HC1"):
            inner = bread @ scores.T @ scores @ bread * (1.0 if kind == "HC0" else n / (n - k))
        else:
            groups = clusters(member, self.data)
            names = np.unique(groups)
            sums = np.stack([scores[groups == name].sum(axis=0) for name in names])
            count = len(names)
            factor = {"none": 1.0, "G": count / (count - 1), "full": count / (count - 1) * (n - 1) / (n - k)}[
                correction
            ]
            inner = bread @ sums.T @ sums @ bread * factor
        whole = np.full((len(self.held), len(self.held)), np.nan)
        whole[np.ix_(free, free)] = inner
        if member.expand is None:
            return whole
        assert free.all() or not free.any(), "structured members are free or fixed as a whole"
        return np.asarray(member.expand @ whole @ member.expand.T)


def truth(
    member: Member, data: Data, fixed: Mapping[str, Any] | None = None, edge: Mapping[str, Any] | None = None
) -> Truth:
    """The closed form for these data, with some parameters held fixed and some on an edge."""
    fixed, edge = dict(fixed or {}), dict(edge or {})
    params = member.estimate(data, {**fixed, **edge})
    return Truth(member, data, params, _flags(member, fixed), _flags(member, edge))


def _flags(member: Member, addresses: Mapping[str, Any]) -> np.ndarray:
    names = member.theta
    return np.array([any(n == a or n.startswith((a + "[", a + ".")) for a in addresses) for n in names], dtype=bool)


def clusters(member: Member, data: Data) -> np.ndarray:
    """The cluster of every contribution."""
    if member.unit is None:
        return np.asarray(data["village"])
    _, first = np.unique(np.asarray(data[member.unit]), return_index=True)
    return np.asarray(data["village"])[np.sort(first)]


def _data(rng: np.random.Generator, n: int = N, **columns: Any) -> Data:
    return {**columns, "village": rng.integers(0, 9, n).astype(str)}


# ---- normal and lognormal


def _normal_scores(e: np.ndarray, sigma: float) -> np.ndarray:
    return np.column_stack([e / sigma**2, -1.0 / sigma + e**2 / sigma**3])


def _normal_information(e: np.ndarray, sigma: float) -> np.ndarray:
    n, cross = e.size, 2.0 * e.sum() / sigma**3
    return np.array([[n / sigma**2, cross], [cross, -n / sigma**2 + 3.0 * (e @ e) / sigma**4]])


def _normal_estimate(y: np.ndarray, fixed: Mapping[str, Any]) -> Params:
    mu = fixed.get("mu", y.mean())
    return {"mu": mu, "sigma": fixed.get("sigma", np.sqrt(np.mean((y - mu) ** 2)))}


GAUSSIAN = Member(
    name="gaussian",
    declared={"mu": mle.Real(), "sigma": mle.Positive()},
    function=lambda p, d: norm.logpdf(d["y"], p["mu"], p["sigma"]),
    make=lambda seed: _data(rng := np.random.default_rng(seed), y=rng.normal(1.5, 1.7, N)),
    theta=("mu", "sigma"),
    estimate=lambda d, fixed: _normal_estimate(d["y"], fixed),
    loglik=lambda p, d: stats.norm.logpdf(d["y"], p["mu"], p["sigma"]),
    scores=lambda p, d: _normal_scores(d["y"] - p["mu"], p["sigma"]),
    information=lambda p, d: _normal_information(d["y"] - p["mu"], p["sigma"]),
    start={"mu": 0.5, "sigma": 1.0},
    fixed=({"sigma": 1.3}, {"mu": 0.5}),
    bounded=(
        Bounded("inside", {"mu": mle.Interval(0.0, 3.0, closed="both")}),
        Bounded("lower", {"mu": mle.Interval(2.5, 9.0, closed="both")}, {"mu": 2.5}),
        Bounded("upper", {"sigma": mle.Interval(0.1, 1.0, closed="right")}, {"sigma": 1.0}),
        Bounded("zero", {"mu": mle.NonNegative()}, {"mu": 0.0}, lambda d: {**d, "y": d["y"] - 2.5}),
    ),
)

LOGNORMAL = Member(
    name="lognormal",
    declared={"mu": mle.Real(), "sigma": mle.Positive()},
    function=lambda p, d: norm.logpdf(jnp.log(d["y"]), p["mu"], p["sigma"]) - jnp.log(d["y"]),
    make=lambda seed: _data(rng := np.random.default_rng(seed), y=rng.lognormal(0.4, 0.6, N)),
    theta=("mu", "sigma"),
    estimate=lambda d, fixed: _normal_estimate(np.log(d["y"]), fixed),
    loglik=lambda p, d: stats.lognorm.logpdf(d["y"], p["sigma"], scale=np.exp(p["mu"])),
    scores=lambda p, d: _normal_scores(np.log(d["y"]) - p["mu"], p["sigma"]),
    information=lambda p, d: _normal_information(np.log(d["y"]) - p["mu"], p["sigma"]),
    start={"mu": 0.0, "sigma": 1.0},
    fixed=({"mu": 0.2},),
    bounded=(Bounded("upper", {"mu": mle.Interval(-1.0, 0.1, closed="both")}, {"mu": 0.1}),),
)

# ---- one parameter


def _only(name: str, value: float, fixed: Mapping[str, Any]) -> Params:
    return {name: fixed.get(name, value)}


EXPONENTIAL = Member(
    name="exponential",
    declared={"rate": mle.Positive()},
    function=lambda p, d: jnp.log(p["rate"]) - p["rate"] * d["t"],
    make=lambda seed: _data(rng := np.random.default_rng(seed), t=rng.exponential(0.4, N)),
    theta=("rate",),
    estimate=lambda d, fixed: _only("rate", 1.0 / d["t"].mean(), fixed),
    loglik=lambda p, d: stats.expon.logpdf(d["t"], scale=1.0 / p["rate"]),
    scores=lambda p, d: (1.0 / p["rate"] - d["t"])[:, None],
    information=lambda p, d: np.array([[d["t"].size / p["rate"] ** 2]]),
    start={"rate": 1.0},
    fixed=({"rate": 2.0},),
    bounded=(Bounded("lower", {"rate": mle.Interval(4.0, 9.0, closed="left")}, {"rate": 4.0}),),
)


def _real(counts: Any) -> Any:
    """Whole numbers as floats: JAX promotes them by itself, but not where strict promotion is asked for."""
    return counts.astype(float)


POISSON = Member(
    name="poisson",
    declared={"lambda": mle.Positive()},
    function=lambda p, d: (
        _real(d["y"]) * jnp.log(p["lambda"]) - p["lambda"] - jax.scipy.special.gammaln(_real(d["y"]) + 1.0)
    ),
    make=lambda seed: _data(rng := np.random.default_rng(seed), y=rng.poisson(2.3, N)),
    theta=("lambda",),
    estimate=lambda d, fixed: _only("lambda", d["y"].mean(), fixed),
    loglik=lambda p, d: stats.poisson.logpmf(d["y"], p["lambda"]),
    scores=lambda p, d: (d["y"] / p["lambda"] - 1.0)[:, None],
    information=lambda p, d: np.array([[d["y"].sum() / p["lambda"] ** 2]]),
    start={"lambda": 1.0},
    fixed=({"lambda": 2.0},),
    bounded=(
        Bounded("upper", {"lambda": mle.Interval(0.5, 1.0, closed="both")}, {"lambda": 1.0}),
        Bounded("inside", {"lambda": mle.NonNegative()}),
    ),
)

BERNOULLI = Member(
    name="bernoulli",
    declared={"p": mle.Interval(0.0, 1.0)},
    function=lambda p, d: jnp.where(d["y"], jnp.log(p["p"]), jnp.log1p(-p["p"])),
    make=lambda seed: _data(rng := np.random.default_rng(seed), y=rng.random(N) < 0.4),
    theta=("p",),
    estimate=lambda d, fixed: _only("p", d["y"].mean(), fixed),
    loglik=lambda p, d: stats.bernoulli.logpmf(d["y"], p["p"]),
    scores=lambda p, d: (d["y"] / p["p"] - (1 - d["y"]) / (1 - p["p"]))[:, None],
    information=lambda p, d: np.array([[d["y"].sum() / p["p"] ** 2 + (1 - d["y"]).sum() / (1 - p["p"]) ** 2]]),
    start={"p": 0.5},
    fixed=({"p": 0.5},),
    bounded=(
        Bounded("upper", {"p": mle.Interval(0.0, 0.2, closed="right")}, {"p": 0.2}),
        Bounded("inside", {"p": mle.Interval(0.1, 0.9, closed="both")}),
    ),
)

GEOMETRIC = Member(
    name="geometric",
    declared={"p": mle.Interval(0.0, 1.0)},
    function=lambda p, d: jnp.log(p["p"]) + _real(d["trials"] - 1) * jnp.log1p(-p["p"]),
    make=lambda seed: _data(rng := np.random.default_rng(seed), trials=rng.geometric(0.3, N)),
    theta=("p",),
    estimate=lambda d, fixed: _only("p", 1.0 / d["trials"].mean(), fixed),
    loglik=lambda p, d: stats.geom.logpmf(d["trials"], p["p"]),
    scores=lambda p, d: (1.0 / p["p"] - (d["trials"] - 1) / (1 - p["p"]))[:, None],
    information=lambda p, d: np.array([[N / p["p"] ** 2 + (d["trials"] - 1).sum() / (1 - p["p"]) ** 2]]),
    start={"p": 0.5},
    fixed=({"p": 0.25},),
    bounded=(Bounded("lower", {"p": mle.Interval(0.6, 1.0, closed="left")}, {"p": 0.6}),),
)

PARETO = Member(
    name="pareto",
    declared={"alpha": mle.Positive()},
    function=lambda p, d: jnp.log(p["alpha"]) + p["alpha"] * jnp.log(d["least"]) - (p["alpha"] + 1) * jnp.log(d["y"]),
    make=lambda seed: _data(
        rng := np.random.default_rng(seed), y=2.0 * (1.0 + rng.pareto(3.0, N)), least=mle.Shared(2.0 * np.ones(()))
    ),
    theta=("alpha",),
    estimate=lambda d, fixed: _only("alpha", 1.0 / np.log(d["y"] / 2.0).mean(), fixed),
    loglik=lambda p, d: stats.pareto.logpdf(d["y"], p["alpha"], scale=2.0),
    scores=lambda p, d: (1.0 / p["alpha"] - np.log(d["y"] / 2.0))[:, None],
    information=lambda p, d: np.array([[N / p["alpha"] ** 2]]),
    start={"alpha": 1.0},
    fixed=({"alpha": 2.5},),
    bounded=(Bounded("upper", {"alpha": mle.Interval(0.5, 2.0, closed="both")}, {"alpha": 2.0}),),
)

SHAPE = 3

WEIBULL = Member(
    name="weibull",
    declared={"scale": mle.Positive()},
    function=lambda p, d: (
        jnp.log(d["shape"] / p["scale"])
        + (d["shape"] - 1) * jnp.log(d["t"] / p["scale"])
        - (d["t"] / p["scale"]) ** d["shape"]
    ),
    make=lambda seed: _data(rng := np.random.default_rng(seed), t=2.0 * rng.weibull(SHAPE, N), shape=mle.Static(SHAPE)),
    theta=("scale",),
    estimate=lambda d, fixed: _only("scale", np.mean(d["t"] ** SHAPE) ** (1.0 / SHAPE), fixed),
    loglik=lambda p, d: stats.weibull_min.logpdf(d["t"], SHAPE, scale=p["scale"]),
    scores=lambda p, d: (-SHAPE / p["scale"] + SHAPE * d["t"] ** SHAPE / p["scale"] ** (SHAPE + 1))[:, None],
    information=lambda p, d: np.array(
        [[-N * SHAPE / p["scale"] ** 2 + SHAPE * (SHAPE + 1) * np.sum(d["t"] ** SHAPE) / p["scale"] ** (SHAPE + 2)]]
    ),
    start={"scale": 1.0},
    fixed=({"scale": 1.8},),
    bounded=(Bounded("lower", {"scale": mle.Interval(2.6, 9.0, closed="both")}, {"scale": 2.6}),),
)

# ---- multinomial: every probability reported, the last one not free

K = 4


def _multinomial_information(p: np.ndarray, counts: np.ndarray) -> np.ndarray:
    return np.diag(counts[:-1] / p[:-1] ** 2) + counts[-1] / p[-1] ** 2


def _multinomial_scores(p: np.ndarray, y: np.ndarray) -> np.ndarray:
    indicator = y[:, None] == np.arange(K)
    return indicator[:, :-1] / p[:-1] - indicator[:, -1:] / p[-1]


MULTINOMIAL = Member(
    name="multinomial",
    declared={"pi": mle.Simplex(K)},
    function=lambda p, d: jnp.log(p["pi"])[d["y"]],
    make=lambda seed: _data(rng := np.random.default_rng(seed), y=rng.choice(K, N, p=[0.2, 0.35, 0.15, 0.3])),
    theta=("pi[0]", "pi[1]", "pi[2]"),
    reported=("pi[0]", "pi[1]", "pi[2]", "pi[3]"),
    expand=np.vstack([np.eye(K - 1), -np.ones(K - 1)]),
    estimate=lambda d, fixed: {"pi": np.asarray(fixed.get("pi", np.bincount(d["y"], minlength=K) / N))},
    loglik=lambda p, d: stats.multinomial.logpmf(np.eye(K)[d["y"]], 1, p["pi"]),
    scores=lambda p, d: _multinomial_scores(p["pi"], d["y"]),
    information=lambda p, d: _multinomial_information(p["pi"], np.bincount(d["y"], minlength=K)),
    start={"pi": np.full(K, 0.25)},
    fixed=({"pi": np.array([0.1, 0.4, 0.2, 0.3])},),
)

# ---- linear regression, as a labelled vector and as a structure of any kind

COLUMNS = ("one", "age", "height")


def _regression_data(seed: int) -> Data:
    rng = np.random.default_rng(seed)
    X = np.column_stack([np.ones(N), rng.normal(0.3, 1.0, (N, 2))])
    return _data(rng, X=X, y=X @ [1.0, -0.7, 0.4] + rng.normal(0.0, 0.8, N))


def _coefficients(p: Params) -> np.ndarray:
    return np.asarray(p["beta"], float) if "beta" in p else np.concatenate([[p["net"]["bias"]], p["net"]["weights"]])


def _least_squares(d: Data, fixed: Mapping[str, Any], names: tuple[str, ...]) -> tuple[np.ndarray, float]:
    """Least squares with some coefficients held, and the root mean square of the residuals."""
    X, y = d["X"], d["y"]
    held = {names.index(a): v for a, v in fixed.items() if a in names}
    rest = [j for j in range(X.shape[1]) if j not in held]
    beta = np.zeros(X.shape[1])
    for j, value in held.items():
        beta[j] = value
    beta[rest] = np.linalg.lstsq(X[:, rest], y - X @ beta, rcond=None)[0]
    e = y - X @ beta
    return beta, fixed.get("sigma", np.sqrt(np.mean(e**2)))


def _regression_scores(p: Params, d: Data) -> np.ndarray:
    e = d["y"] - d["X"] @ _coefficients(p)
    return np.column_stack([d["X"] * e[:, None] / p["sigma"] ** 2, _normal_scores(e, p["sigma"])[:, 1]])


def _regression_information(p: Params, d: Data) -> np.ndarray:
    X, s = d["X"], p["sigma"]
    e = d["y"] - X @ _coefficients(p)
    cross = 2.0 * (X.T @ e)[:, None] / s**3
    return np.block([[X.T @ X / s**2, cross], [cross.T, _normal_information(e, s)[1:, 1:]]])


def _vector_estimate(d: Data, fixed: Mapping[str, Any]) -> Params:
    beta, sigma = _least_squares(d, fixed, ("beta[0]", "beta[1]", "beta[2]"))
    return {"beta": beta, "sigma": sigma}


REGRESSION = Member(
    name="regression",
    declared={"beta": mle.Real(columns="X"), "sigma": mle.Positive()},
    function=lambda p, d: norm.logpdf(d["y"], d["X"] @ p["beta"], p["sigma"]),
    make=_regression_data,
    theta=("beta[0]", "beta[1]", "beta[2]", "sigma"),
    estimate=_vector_estimate,
    loglik=lambda p, d: stats.norm.logpdf(d["y"], d["X"] @ p["beta"], p["sigma"]),
    scores=_regression_scores,
    information=_regression_information,
    start={"beta": np.zeros(3), "sigma": 1.0},
    fixed=({"beta[1]": -0.5}, {"sigma": 1.0}, {"beta[0]": 1.0, "beta[2]": 0.0}),
    bounded=(
        Bounded("edge", {"beta": mle.NonNegative(columns="X")}, {"beta[1]": 0.0}),
        Bounded("inside", {"beta": mle.Interval(-5.0, 5.0, 3, closed="both")}),
    ),
)


def _net_estimate(d: Data, fixed: Mapping[str, Any]) -> Params:
    beta, sigma = _least_squares(d, fixed, ("net.bias", "net.weights[0]", "net.weights[1]"))
    return {"net": {"bias": beta[0], "weights": beta[1:]}, "sigma": sigma}


NET = Member(
    name="net",
    declared={"net": mle.Free(start={"bias": 0.0, "weights": np.zeros(2)}), "sigma": mle.Positive()},
    function=lambda p, d: norm.logpdf(d["y"], p["net"]["bias"] + d["X"][:, 1:] @ p["net"]["weights"], p["sigma"]),
    make=_regression_data,
    theta=("net.bias", "net.weights[0]", "net.weights[1]", "sigma"),
    estimate=_net_estimate,
    loglik=lambda p, d: stats.norm.logpdf(d["y"], d["X"] @ _coefficients(p), p["sigma"]),
    scores=_regression_scores,
    information=_regression_information,
    start={"net": {"bias": 0.0, "weights": np.zeros(2)}, "sigma": 1.0},
    fixed=({"net.weights[0]": -0.5}, {"net.bias": 1.2}),
    bounded=(Bounded("upper", {"sigma": mle.Interval(0.1, 0.5, closed="both")}, {"sigma": 0.5}),),
    flat=lambda p: np.concatenate([_coefficients(p), [p["sigma"]]]),
)

# ---- bivariate normal

_E = np.array([[[1.0, 0.0], [0.0, 0.0]], [[0.0, 1.0], [1.0, 0.0]], [[0.0, 0.0], [0.0, 1.0]]])


def _bivariate_logpdf(p: Any, d: Any) -> Any:
    L = jnp.linalg.cholesky(p["Sigma"])
    z = jax.scipy.linalg.solve_triangular(L, (d["Y"] - p["mu"]).T, lower=True)
    return -0.5 * jnp.sum(z**2, axis=0) - jnp.sum(jnp.log(jnp.diag(L))) - jnp.log(2 * jnp.pi)


def _bivariate_estimate(d: Data, fixed: Mapping[str, Any]) -> Params:
    mu = np.asarray(fixed.get("mu", d["Y"].mean(axis=0)))
    centred = d["Y"] - mu
    return {"mu": mu, "Sigma": np.asarray(fixed.get("Sigma", centred.T @ centred / len(centred)))}


def _bivariate_scores(p: Params, d: Data) -> np.ndarray:
    P = np.linalg.inv(p["Sigma"])
    z = (d["Y"] - p["mu"]) @ P
    second = [0.5 * np.einsum("ni,ij,nj->n", z, E, z) - 0.5 * np.trace(P @ E) for E in _E]
    return np.column_stack([z, *second])


def _bivariate_information(p: Params, d: Data) -> np.ndarray:
    P = np.linalg.inv(p["Sigma"])
    z = (d["Y"] - p["mu"]) @ P
    S = z.T @ z
    out = np.zeros((5, 5))
    out[:2, :2] = len(z) * P
    for j, A in enumerate(_E):
        out[:2, 2 + j] = out[2 + j, :2] = P @ A @ z.sum(axis=0)
        for k, B in enumerate(_E):
            out[2 + j, 2 + k] = np.sum(S * (A @ P @ B + B @ P @ A)) / 2 - len(z) / 2 * np.trace(P @ A @ P @ B)
    return out


BIVARIATE = Member(
    name="bivariate",
    declared={"mu": mle.Real(2), "Sigma": mle.Covariance(2)},
    function=_bivariate_logpdf,
    make=lambda seed: _data(
        rng := np.random.default_rng(seed), Y=rng.multivariate_normal([1.0, -2.0], [[2.0, 0.7], [0.7, 0.9]], N)
    ),
    theta=("mu[0]", "mu[1]", "Sigma[0,0]", "Sigma[1,0]", "Sigma[1,1]"),
    estimate=_bivariate_estimate,
    loglik=lambda p, d: stats.multivariate_normal.logpdf(d["Y"], p["mu"], p["Sigma"]),
    scores=_bivariate_scores,
    information=_bivariate_information,
    start={"mu": np.zeros(2), "Sigma": np.eye(2)},
    fixed=({"mu": np.array([1.0, -1.5])}, {"Sigma": np.array([[2.0, 0.5], [0.5, 1.0]])}),
    flat=lambda p: np.concatenate([p["mu"], np.asarray(p["Sigma"])[[0, 1, 1], [0, 0, 1]]]),
)

# ---- inverse Gaussian


def _wald_estimate(d: Data, fixed: Mapping[str, Any]) -> Params:
    y = d["y"]
    mu = fixed.get("mu", y.mean())
    return {"mu": mu, "shape": fixed.get("shape", 1.0 / np.mean((y - mu) ** 2 / (mu**2 * y)))}


def _wald_scores(p: Params, d: Data) -> np.ndarray:
    y, mu, shape = d["y"], p["mu"], p["shape"]
    return np.column_stack([shape * (y - mu) / mu**3, 0.5 / shape - (y - mu) ** 2 / (2 * mu**2 * y)])


def _wald_information(p: Params, d: Data) -> np.ndarray:
    y, mu, shape = d["y"], p["mu"], p["shape"]
    cross = -np.sum(y - mu) / mu**3
    return np.array([[shape * np.sum(1 / mu**3 + 3 * (y - mu) / mu**4), cross], [cross, y.size / (2 * shape**2)]])


INVERSE_GAUSSIAN = Member(
    name="inverse_gaussian",
    declared={"mu": mle.Positive(), "shape": mle.Positive()},
    function=lambda p, d: (
        0.5 * jnp.log(p["shape"] / (2 * jnp.pi * d["y"] ** 3))
        - p["shape"] * (d["y"] - p["mu"]) ** 2 / (2 * p["mu"] ** 2 * d["y"])
    ),
    make=lambda seed: _data(rng := np.random.default_rng(seed), y=rng.wald(1.4, 2.2, N)),
    theta=("mu", "shape"),
    estimate=_wald_estimate,
    loglik=lambda p, d: stats.invgauss.logpdf(d["y"], p["mu"] / p["shape"], scale=p["shape"]),
    scores=_wald_scores,
    information=_wald_information,
    start={"mu": 1.0, "shape": 1.0},
    fixed=({"mu": 1.2},),
    bounded=(
        Bounded("upper", {"shape": mle.Interval(0.1, 1.0, closed="both")}, {"shape": 1.0}),
        Bounded("lower", {"mu": mle.Interval(1.9, 5.0, closed="both")}, {"mu": 1.9}),
    ),
)

# ---- ordered logit without covariates: cut points are logits of cumulative proportions


def _ordered_logpmf(p: Any, d: Any) -> Any:
    below = jnp.concatenate([jnp.zeros(1), expit(p["cut"]), jnp.ones(1)])
    return jnp.log(jnp.diff(below))[d["y"]]


def _ordered_probabilities(cut: np.ndarray) -> np.ndarray:
    return np.diff(np.concatenate([[0.0], special.expit(cut), [1.0]]))


def _ordered_scores(p: Params, d: Data) -> np.ndarray:
    F, P = special.expit(p["cut"]), _ordered_probabilities(p["cut"])
    indicator = (d["y"][:, None] == np.arange(K)) / P
    return F * (1 - F) * (indicator[:, :-1] - indicator[:, 1:])


def _ordered_information(p: Params, d: Data) -> np.ndarray:
    F, P = special.expit(p["cut"]), _ordered_probabilities(p["cut"])
    f, n = F * (1 - F), np.bincount(d["y"], minlength=K)
    ratio, curved = n / P, n / P**2
    diagonal = -f * (1 - 2 * F) * (ratio[:-1] - ratio[1:]) + f**2 * (curved[:-1] + curved[1:])
    off = -f[:-1] * f[1:] * curved[1:-1]
    return np.diag(diagonal) + np.diag(off, 1) + np.diag(off, -1)


ORDERED = Member(
    name="ordered",
    declared={"cut": mle.Ordered(K - 1)},
    function=_ordered_logpmf,
    make=lambda seed: _data(rng := np.random.default_rng(seed), y=rng.choice(K, N, p=[0.2, 0.35, 0.15, 0.3])),
    theta=("cut[0]", "cut[1]", "cut[2]"),
    estimate=lambda d, fixed: {
        "cut": np.asarray(fixed.get("cut", special.logit(np.cumsum(np.bincount(d["y"], minlength=K))[:-1] / N)))
    },
    loglik=lambda p, d: np.log(_ordered_probabilities(p["cut"]))[d["y"]],
    scores=_ordered_scores,
    information=_ordered_information,
    start={"cut": np.array([-1.0, 0.0, 1.0])},
    fixed=({"cut": np.array([-1.2, 0.1, 0.9])},),
)

# ---- balanced one-way random effects: units, and a variance that may be 0

FAMILIES, CHILDREN = 24, 4


def _family_data(seed: int, spread: float = 0.9) -> Data:
    rng = np.random.default_rng(seed)
    family = np.repeat(np.arange(FAMILIES), CHILDREN)
    y = 2.0 + spread * rng.normal(size=FAMILIES)[family] + rng.normal(size=family.size)
    return {"y": y, "family": family, "village": np.repeat(rng.integers(0, 7, FAMILIES).astype(str), CHILDREN)}


def _alike(d: Data) -> Data:
    """The same children in families that are all but alike, so that the variance between them is estimated as 0."""
    y = np.asarray(d["y"]).reshape(FAMILIES, CHILDREN)
    return {**d, "y": (y - 0.97 * (y.mean(axis=1, keepdims=True) - y.mean())).ravel()}


def _family_logpdf(p: Any, d: Any) -> Any:
    """exchangeable normal: within-family variance sigma2, total of a family's mean sigma2/m + tau2."""
    m = _real(jnp.sum(d["mask"]))
    y = jnp.where(d["mask"], d["y"], 0.0)
    mean = jnp.sum(y) / m
    within = jnp.sum(jnp.where(d["mask"], (d["y"] - mean) ** 2, 0.0))
    whole = p["sigma2"] + m * p["tau2"]
    quadratic = within / p["sigma2"] + m * (mean - p["mu"]) ** 2 / whole
    return -0.5 * (m * jnp.log(2 * jnp.pi) + (m - 1) * jnp.log(p["sigma2"]) + jnp.log(whole) + quadratic)


def _family_sums(d: Data) -> tuple[np.ndarray, np.ndarray]:
    y = np.asarray(d["y"]).reshape(FAMILIES, CHILDREN)
    return y.mean(axis=1), ((y - y.mean(axis=1, keepdims=True)) ** 2).sum(axis=1)


def _family_estimate(d: Data, fixed: Mapping[str, Any]) -> Params:
    mean, within = _family_sums(d)
    mu = fixed.get("mu", mean.mean())
    between = CHILDREN * np.sum((mean - mu) ** 2)
    whole = between / FAMILIES
    sigma2 = fixed.get("sigma2", within.sum() / (FAMILIES * (CHILDREN - 1)))
    if fixed.get("tau2") == 0.0:
        return {"mu": mu, "tau2": 0.0, "sigma2": (between + within.sum()) / (FAMILIES * CHILDREN)}
    assert "tau2" not in fixed
    assert whole > sigma2, "the estimate is on the edge: say so with tau2 = 0"
    return {"mu": mu, "tau2": (whole - sigma2) / CHILDREN, "sigma2": sigma2}


def _family_loglik(p: Params, d: Data) -> np.ndarray:
    V = p["sigma2"] * np.eye(CHILDREN) + p["tau2"]
    y = np.asarray(d["y"]).reshape(FAMILIES, CHILDREN)
    return np.asarray(stats.multivariate_normal.logpdf(y, np.full(CHILDREN, p["mu"]), V))


_CHAIN = np.array(
    [[1.0, 0.0, 0.0], [0.0, 0.0, 1.0], [0.0, CHILDREN, 1.0]]
)  # d (mu, sigma2, whole) / d (mu, tau2, sigma2)


def _family_scores(p: Params, d: Data) -> np.ndarray:
    m, s = CHILDREN, p["sigma2"]
    whole = s + m * p["tau2"]
    mean, within = _family_sums(d)
    e = mean - p["mu"]
    plain = [m * e / whole, -(m - 1) / (2 * s) + within / (2 * s**2), -1 / (2 * whole) + m * e**2 / (2 * whole**2)]
    return np.column_stack(plain) @ _CHAIN


def _family_information(p: Params, d: Data) -> np.ndarray:
    m, a, s = CHILDREN, FAMILIES, p["sigma2"]
    whole = s + m * p["tau2"]
    mean, within = _family_sums(d)
    e = mean - p["mu"]
    plain = np.zeros((3, 3))
    plain[0, 0] = a * m / whole
    plain[0, 2] = plain[2, 0] = m * e.sum() / whole**2
    plain[1, 1] = -a * (m - 1) / (2 * s**2) + within.sum() / s**3
    plain[2, 2] = -a / (2 * whole**2) + m * (e @ e) / whole**3
    return np.asarray(_CHAIN.T @ plain @ _CHAIN)


FAMILY = Member(
    name="family",
    declared={"mu": mle.Real(), "tau2": mle.NonNegative(), "sigma2": mle.Positive()},
    function=_family_logpdf,
    make=_family_data,
    theta=("mu", "tau2", "sigma2"),
    estimate=_family_estimate,
    loglik=_family_loglik,
    scores=_family_scores,
    information=_family_information,
    start={"mu": 0.0, "tau2": 0.5, "sigma2": 1.0},
    fixed=({"mu": 1.8}, {"sigma2": 1.1}),
    bounded=(
        Bounded("zero", {}, {"tau2": 0.0}, _alike),
        Bounded("open", {"tau2": mle.Positive()}),
    ),
    unit="family",
)

ZOO = (
    GAUSSIAN,
    LOGNORMAL,
    EXPONENTIAL,
    POISSON,
    BERNOULLI,
    GEOMETRIC,
    PARETO,
    WEIBULL,
    MULTINOMIAL,
    REGRESSION,
    NET,
    BIVARIATE,
    INVERSE_GAUSSIAN,
    ORDERED,
    FAMILY,
)
