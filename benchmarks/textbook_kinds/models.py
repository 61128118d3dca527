"""Copulas, series, regressions, curves, mixtures and random effects."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.special import gammaln
from jax.scipy.stats import norm
from scipy import special, stats

import mlejax as mle
from benchmarks.textbook_kinds.kind import (
    N_ROWS,
    Data,
    Textbook,
    best,
    inside,
    kind_of,
    nonnegative,
    normal_at,
    positive,
    real,
    share,
    y_only,
)

expit = jax.nn.sigmoid
BINOMIAL = special.comb(np.arange(16)[:, None], np.arange(16)[None])
GRID, WEIGHTS = np.polynomial.hermite_e.hermegauss(25)
WEIGHTS = WEIGHTS / WEIGHTS.sum()


def _pairs(rho: float) -> Callable[[np.random.Generator], Data]:
    def draw(rng: np.random.Generator) -> Data:
        z = rng.multivariate_normal([0, 0], [[1, rho], [rho, 1]], size=N_ROWS)
        u = stats.norm.cdf(z)
        return {"u": u[:, 0], "v": u[:, 1]}

    return draw


def _clayton(d: Data, q: np.ndarray) -> float:
    (t,), a, b = q, -np.log(d["u"]), -np.log(d["v"])
    if t <= 0:
        return -np.inf
    return float((np.log1p(t) + (1 + t) * (a + b) - (2 + 1 / t) * np.log1p(np.expm1(t * a) + np.expm1(t * b))).sum())


def _frank(d: Data, q: np.ndarray) -> float:
    (t,), u, v = q, d["u"], d["v"]
    if abs(t) < 1e-9:
        return 0.0
    e = lambda x: -np.expm1(-t * x)
    return float((np.log(t * e(1)) - t * (u + v) - 2 * np.log(np.abs(e(1) - e(u) * e(v)))).sum())


def _gumbel(d: Data, q: np.ndarray) -> float:
    t, x, y = 1 + q[0], -np.log(d["u"]), -np.log(d["v"])
    if t < 1:
        return -np.inf
    s = x**t + y**t
    r = s ** (1 / t)
    return float((-r + x + y + (t - 1) * np.log(x * y) + (2 - 2 * t) * np.log(r) + np.log1p((t - 1) / r)).sum())


def _gumbel_formula(p: Any, d: Any) -> Any:
    t, x, y = 1 + p["a"], -jnp.log(d["u"]), -jnp.log(d["v"])
    s = x**t + y**t
    log_copula = -(s ** (1 / t)) - jnp.log(d["u"] * d["v"]) + (t - 1) * jnp.log(x * y)
    return log_copula + (2 / t - 2) * jnp.log(s) + jnp.log(1 + (t - 1) * s ** (-1 / t))


def _arch(d: Data, q: np.ndarray) -> float:
    y = d["y"]
    if q[0] <= 0 or q[1] < 0:
        return -np.inf
    return float(stats.norm.logpdf(y[1:], 0, np.sqrt(q[0] + q[1] * y[:-1] ** 2)).sum())


def _level_formula(p: Any, d: Any) -> Any:
    """Kalman filter of a random walk observed with noise, given the first value."""

    def step(state: Any, y: Any) -> Any:
        a, P = state
        P = P + p["q"] ** 2
        f = P + p["s"] ** 2
        return (a + P / f * (y - a), P * (1 - P / f)), norm.logpdf(y, a, jnp.sqrt(f))

    _, terms = jax.lax.scan(step, (d["y"][0], p["s"] ** 2), d["y"][1:])
    return terms


def _level(d: Data, q: np.ndarray) -> float:
    """The same from the covariance of the differences."""
    sd, noise = q
    if sd < 0 or noise <= 0:
        return -np.inf
    z = np.diff(d["y"])
    m = len(z)
    S = (sd**2 + 2 * noise**2) * np.eye(m) - noise**2 * (np.eye(m, k=1) + np.eye(m, k=-1))
    return float(-0.5 * (m * np.log(2 * np.pi) + np.linalg.slogdet(S)[1] + z @ np.linalg.solve(S, z)))


def _walk(rng: np.random.Generator) -> Data:
    n = 60
    return {"y": 10 + np.cumsum(rng.choice([0.0, 0.1, 0.5]) * rng.normal(size=n)) + rng.normal(size=n)}


def _inar_formula(p: Any, d: Any) -> Any:
    """A count that survives with probability alpha each, and Poisson arrivals."""
    before, now = d["y"][:-1].astype(int), d["y"][1:]
    k = jnp.arange(16)
    survive = jnp.asarray(BINOMIAL)[before] * p["alpha"] ** k * (1 - p["alpha"]) ** (before[:, None] - k)
    arrive = jnp.where(
        k <= now[:, None],
        jnp.exp(-p["lam"]) * p["lam"] ** (now[:, None] - k) / jnp.exp(gammaln(now[:, None] - k + 1.0)),
        0.0,
    )
    return jnp.log(jnp.sum(jnp.where(k <= before[:, None], survive, 0.0) * arrive, axis=1))


def _inar(d: Data, q: np.ndarray) -> float:
    alpha, lam = q
    if not 0 <= alpha < 1 or lam <= 0:
        return -np.inf
    y, k = d["y"], np.arange(16)
    table = stats.binom.pmf(k, y[:-1, None], alpha) * stats.poisson.pmf(y[1:, None] - k, lam)
    return float(np.log(table.sum(axis=1)).sum())


def _ordered(d: Data, q: np.ndarray, cuts: int = 3) -> float:
    b, c = q[0], np.cumsum(q[1 : 1 + cuts])
    if (q[2 : 1 + cuts] < 0).any():
        return -np.inf
    edges = np.concatenate([[-np.inf], c, [np.inf]])
    k = d["y"].astype(int) if cuts == 3 else np.minimum(d["y"].astype(int), 2)
    upper, lower = edges[k + 1] - b * d["x"], edges[k] - b * d["x"]
    return float(np.log(special.expit(upper) - special.expit(lower)).sum())


def _ordered_formula(p: Any, d: Any) -> Any:
    c = jnp.array([-jnp.inf, 0.0, 0.0, 0.0, jnp.inf])
    c = c.at[1].set(p["c"]).at[2].set(p["c"] + p["d2"]).at[3].set(p["c"] + p["d2"] + p["d3"])
    k, eta = d["y"].astype(int), p["b"] * d["x"]
    upper = jnp.where(k == 3, 1.0, expit(jnp.where(k == 3, 0.0, c[k + 1]) - eta))
    lower = jnp.where(k == 0, 0.0, expit(jnp.where(k == 0, 0.0, c[k]) - eta))
    return jnp.log(upper - lower)


def _unused(rng: np.random.Generator) -> Data:
    """A category, the third of four, that nobody chose."""
    x = rng.normal(size=N_ROWS)
    latent = 0.8 * x + rng.logistic(size=N_ROWS)
    return {"x": x, "y": np.select([latent < -0.5, latent < 1.0], [0.0, 1.0], 3.0)}


def _curve(f: Callable[..., Any]) -> Callable[[Data, np.ndarray], float]:
    """A normal log-likelihood about a curve, its last parameter the standard deviation; all others positive."""

    def loglik(d: Data, q: np.ndarray) -> float:
        if (np.asarray(q) <= 0).any():
            return -np.inf
        return float(stats.norm.logpdf(d["y"], f(np, d["x"], *q[:-1]), q[-1]).sum())

    return loglik


def _rise(lib: Any, x: Any, a: Any, b: Any) -> Any:
    return a * (1 - lib.exp(-b * x))


def _saturation(lib: Any, x: Any, top: Any, half: Any) -> Any:
    return top * x / (half + x)


def _dose(lib: Any, x: Any, low: Any, rise: Any, middle: Any, slope: Any) -> Any:
    return low + rise / (1 + (x / middle) ** slope)


def _decays(lib: Any, x: Any, a: Any, k: Any, b: Any, more: Any) -> Any:
    return a * lib.exp(-k * x) + b * lib.exp(-(k + more) * x)


def _transition(lib: Any, x: Any, low: Any, rise: Any, middle: Any, slope: Any) -> Any:
    return low + rise / (1 + lib.exp(-slope * (x - middle)))


def _steps_best(d: Data) -> float:
    """The best step."""
    order = np.argsort(d["x"])
    y, n = d["y"][order], len(d["y"])
    found = [normal_at(np.concatenate([y[:i] - y[:i].mean(), y[i:] - y[i:].mean()])) for i in range(1, n)]
    return max(found)


def _fit_curve(f: Callable[..., Any], names: str) -> Callable[[Any, Any], Any]:
    return lambda p, d: norm.logpdf(d["y"], f(jnp, d["x"], *(p[n] for n in names.split())), p["s"])


def _through(rng: np.random.Generator) -> Data:
    x = rng.uniform(0.5, 5, N_ROWS)
    return {"x": x, "y": 2 * x + rng.normal(size=N_ROWS)}


def _saturated(rng: np.random.Generator) -> Data:
    x = rng.uniform(5, 50, N_ROWS)
    return {"x": x, "y": 10 + rng.normal(size=N_ROWS)}


def _doses(rng: np.random.Generator) -> Data:
    x = np.repeat([0.0, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0], 12)
    return {"x": x, "y": 1 + 9 / (1 + (x / 3) ** 1.3) + 0.5 * rng.normal(size=len(x))}


def _one_decay(rng: np.random.Generator) -> Data:
    x = rng.uniform(0, 5, N_ROWS)
    return {"x": x, "y": 10 * np.exp(-0.7 * x) + 0.3 * rng.normal(size=N_ROWS)}


def _step(rng: np.random.Generator) -> Data:
    x = rng.uniform(1, 9, N_ROWS)
    return {"x": x, "y": 2 + 3 * (x > 5) + 0.5 * rng.normal(size=N_ROWS)}


def _straight_best(d: Data) -> float:
    return normal_at(d["y"] - d["x"] * (d["x"] @ d["y"]) / (d["x"] @ d["x"]))


def _mixture(d: Data, q: np.ndarray) -> float:
    w, a, b, s = q
    if not 0 < w < 1 or s <= 0:
        return -np.inf
    two = [np.log(w) + stats.norm.logpdf(d["y"], a, s), np.log1p(-w) + stats.norm.logpdf(d["y"], b, s)]
    return float(np.logaddexp(*two).sum())


def _meta(d: Data, q: np.ndarray) -> float:
    return inside(q[1] >= 0, lambda: stats.norm.logpdf(d["y"], q[0], np.hypot(d["se"], q[1])))


def _studies(rng: np.random.Generator) -> Data:
    se = rng.uniform(0.1, 0.5, 15)
    return {"y": 0.3 + rng.choice([0.0, 0.1, 0.3]) * rng.normal(size=15) + se * rng.normal(size=15), "se": se}


def _overdispersed(d: Data, q: np.ndarray) -> float:
    rate = np.exp(q[0] + q[1] * GRID)
    return float(np.log(stats.poisson.pmf(d["y"][:, None], rate) @ WEIGHTS).sum())


def _overdispersed_formula(p: Any, d: Any) -> Any:
    eta = p["a"] + p["sigma"] * GRID
    terms = d["y"][:, None] * eta - jnp.exp(eta) - gammaln(d["y"] + 1)[:, None]
    return jnp.log(jnp.exp(terms) @ WEIGHTS)


def _matches(rng: np.random.Generator) -> Data:
    """Five players of whom the first, by far the best, may lose to nobody."""
    strength = np.array([2.5, 0.5, 0.2, 0.0, -0.3])
    i, j = np.array([(i, j) for i in range(5) for j in range(i)] * 8).T
    win = (rng.random(len(i)) < special.expit(strength[i] - strength[j])) * 1.0
    return {"i": i, "j": j, "win": win}


def _bradley(d: Data, q: np.ndarray) -> float:
    s = np.append(q, 0.0)
    return float(special.log_expit((2 * d["win"] - 1) * (s[d["i"]] - s[d["j"]])).sum())


def _bradley_formula(p: Any, d: Any) -> Any:
    s = jnp.append(p["s"], 0.0)
    eta = s[d["i"]] - s[d["j"]]
    return d["win"] * eta - jnp.log(1 + jnp.exp(eta))


def _equal_rates(d: Data, rate: float) -> float:
    """One decay and its derivative by the rate, which is what two decays become as their rates become equal."""
    decay = np.exp(-rate * d["x"])
    X = np.column_stack([decay, d["x"] * decay])
    return normal_at(d["y"] - X @ np.linalg.lstsq(X, d["y"], rcond=None)[0])


def _censored(rng: np.random.Generator) -> Data:
    x = 1e4 * rng.normal(size=N_ROWS)
    return {"x": x, "y": np.maximum(0.0, 1 + 2e-3 * x + rng.normal(size=N_ROWS))}


def _rare(rng: np.random.Generator) -> Data:
    x = 1e-3 * rng.normal(size=400)
    return {"x": x, "y": (rng.random(400) < -np.expm1(-np.exp(-4 + 1e3 * x))) * 1.0}


KINDS: dict[str, Textbook] = {
    "Tobit, log of cdf": kind_of(
        {"a": real, "b": real, "s": positive},
        lambda p, d: jnp.where(
            d["y"] > 0,
            norm.logpdf(d["y"], p["a"] + p["b"] * d["x"], p["s"]),
            jnp.log(norm.cdf(-(p["a"] + p["b"] * d["x"]) / p["s"])),
        ),
        _censored,
        lambda d, q: inside(
            q[2] > 0,
            lambda: np.where(
                d["y"] > 0,
                stats.norm.logpdf(d["y"], q[0] + q[1] * d["x"], q[2]),
                special.log_ndtr(-(q[0] + q[1] * d["x"]) / q[2]),
            ),
        ),
        lambda d: [[1.0, 2e-3, 1.0]],
    ),
    "Clayton, hardly dependent": kind_of(
        {"theta": positive},
        lambda p, d: jnp.log(1 + p["theta"])
        - (1 + p["theta"]) * (jnp.log(d["u"]) + jnp.log(d["v"]))
        - (2 + 1 / p["theta"]) * jnp.log(d["u"] ** -p["theta"] + d["v"] ** -p["theta"] - 1),
        _pairs(0.0), _clayton, lambda d: [[0.05], [0.5]], lambda d: 0.0,
    ),
    "Frank, hardly dependent": kind_of(
        {"theta": real},
        lambda p, d: jnp.log(p["theta"] * (1 - jnp.exp(-p["theta"])))
        - p["theta"] * (d["u"] + d["v"])
        - 2
        * jnp.log(
            jnp.abs(
                1 - jnp.exp(-p["theta"])
                - (1 - jnp.exp(-p["theta"] * d["u"])) * (1 - jnp.exp(-p["theta"] * d["v"]))
            )
        ),
        _pairs(0.0), _frank, lambda d: [[0.5], [-0.5]],
    ),
    "Gumbel copula, hardly dependent": kind_of(
        {"a": nonnegative}, _gumbel_formula, _pairs(0.0), _gumbel, lambda d: [[0.05], [0.3]], lambda d: 0.0,
    ),
    "ARCH(1), no ARCH": kind_of(
        {"w": positive, "a": nonnegative},
        lambda p, d: norm.logpdf(d["y"][1:], 0.0, jnp.sqrt(p["w"] + p["a"] * d["y"][:-1] ** 2)),
        y_only(lambda rng: rng.normal(0, 0.01, N_ROWS)), _arch,
        lambda d: [[d["y"].var(), 0.05], [d["y"].var() / 2, 0.3]], edges=((1, 0.0),), rowwise=False,
    ),
    "local level, sd": kind_of(
        {"q": nonnegative, "s": positive}, _level_formula, _walk, _level,
        lambda d: [[0.05, 1.0], [0.4, 0.9]], edges=((0, 0.0),), rowwise=False,
    ),
    "INAR(1), independent counts": kind_of(
        {"alpha": mle.Interval(0, 1, closed="left"), "lam": positive}, _inar_formula,
        y_only(lambda rng: np.minimum(rng.poisson(2, N_ROWS), 15)), _inar,
        lambda d: [[0.05, 2.0], [0.3, 1.5]], edges=((0, 0.0),), rowwise=False,
    ),
    "ordered logit, an unused category": kind_of(
        {"b": real, "c": real, "d2": positive, "d3": positive}, _ordered_formula, _unused,
        lambda d, q: _ordered(d, q), lambda d: [[0.8, -0.5, 1.5, 0.01]],
        lambda d: best(lambda q: -_ordered(d, q, 2), [0.8, -0.5, 1.5]),
    ),
    "complementary log-log, rare": kind_of(
        {"a": real, "b": real},
        lambda p, d: jnp.where(
            d["y"] > 0,
            jnp.log(1 - jnp.exp(-jnp.exp(p["a"] + p["b"] * d["x"]))),
            -jnp.exp(p["a"] + p["b"] * d["x"]),
        ),
        _rare,
        lambda d, q: inside(
            True,
            lambda: np.where(
                d["y"] > 0, np.log(-np.expm1(-np.exp(q[0] + q[1] * d["x"]))), -np.exp(q[0] + q[1] * d["x"])
            ),
        ),
        lambda d: [[-4.0, 1e3]],
    ),
    "exponential rise, a straight line": kind_of(
        {"a": positive, "b": positive, "s": positive}, _fit_curve(_rise, "a b"), _through, _curve(_rise),
        lambda d: [[20.0, 0.1, 1.0], [100.0, 0.02, 1.0]], _straight_best,
    ),
    "Michaelis-Menten, saturated": kind_of(
        {"top": positive, "half": positive, "s": positive}, _fit_curve(_saturation, "top half"), _saturated,
        _curve(_saturation), lambda d: [[10.0, 0.1, 1.0], [11.0, 1.0, 1.0]],
        lambda d: normal_at(d["y"] - d["y"].mean()),
    ),
    "dose-response with a dose of 0": kind_of(
        {"low": positive, "rise": positive, "middle": positive, "slope": positive, "s": positive},
        _fit_curve(_dose, "low rise middle slope"), _doses, _curve(_dose), lambda d: [[1.0, 9.0, 3.0, 1.3, 0.5]],
    ),
    "two decays where there is one": kind_of(
        {"a": positive, "k": positive, "b": positive, "more": positive, "s": positive},
        _fit_curve(_decays, "a k b more"), _one_decay, _curve(_decays),
        lambda d: [
            [9.0, 0.7, 1.0, 1.0, 0.3], [5.0, 0.6, 5.0, 0.3, 0.3], [9.9, 0.7, 0.3, 10.0, 0.3], [0.3, 0.05, 9.5, 0.7, 0.3],
        ],
        lambda d: best(lambda q: -_equal_rates(d, q[0]), [0.7]),
    ),
    "smooth transition, a step": kind_of(
        {"low": positive, "rise": positive, "middle": positive, "slope": positive, "s": positive},
        _fit_curve(_transition, "low rise middle slope"), _step, _curve(_transition),
        lambda d: [[2.0, 3.0, 5.0, k, 0.5] for k in (3.0, 10.0, 40.0)], _steps_best,
    ),
    "two normals where there is one": kind_of(
        {"w": share, "a": real, "b": real, "s": positive},
        lambda p, d: jnp.log(
            p["w"] * norm.pdf(d["y"], p["a"], p["s"]) + (1 - p["w"]) * norm.pdf(d["y"], p["b"], p["s"])
        ),
        y_only(lambda rng: rng.normal(10, 2, N_ROWS)), _mixture,
        lambda d: [
            [w, 10 + x, 10 + y, s]
            for w, x, y, s in ((0.5, -1, 1, 1.5), (0.1, 4, 0, 1.8), (0.1, -4, 0, 1.8), (0.02, 6, 0, 2), (0.02, -6, 0, 2))
        ],
        lambda d: normal_at(d["y"] - d["y"].mean()),
    ),
    "Bradley-Terry, a strong player": kind_of(
        {"s": mle.Real(shape=4)}, _bradley_formula, _matches, _bradley,
        lambda d: [[2.0, 0.5, 0.2, 0.0], [10.0, 0.5, 0.2, 0.0], [25.0, 0.5, 0.2, 0.0]],
    ),
    "Poisson-lognormal by quadrature, sd real": kind_of(
        {"a": real, "sigma": real}, _overdispersed_formula, y_only(lambda rng: rng.poisson(3, N_ROWS)),
        _overdispersed, lambda d: [[np.log(d["y"].mean()), s] for s in (0.0, 0.1, 0.4)],
    ),
    "meta-analysis, sd": kind_of(
        {"mu": real, "tau": nonnegative}, lambda p, d: norm.logpdf(d["y"], p["mu"], jnp.sqrt(d["se"] ** 2 + p["tau"] ** 2)),
        _studies, _meta, lambda d: [[0.3, 0.05], [0.3, 0.3]], edges=((1, 0.0),),
    ),
}  # fmt: skip
