"""Lifetimes, counts, angles and shares."""

from typing import Any

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
    positive,
    real,
    share,
    y_only,
)


def _weibull(d: Data, k: float, scale: float) -> float:
    e = d.get("e", np.ones_like(d["t"]))
    z = d["t"] / scale
    return inside(k > 0 and scale > 0, lambda: e * (np.log(k / scale) + (k - 1) * np.log(z)) - z**k)


def _weibull_best(d: Data) -> float:
    return best(lambda q: -_weibull(d, *np.exp(q)), [0.3, np.log(d["t"].mean())])


def _censored_weibull(rng: np.random.Generator) -> Data:
    t, c = 3 * rng.weibull(1.5, N_ROWS), rng.uniform(2, 12, N_ROWS)
    return {"t": np.minimum(t, c), "e": (t <= c) * 1.0}


def _hazard(p: Any, d: Any) -> tuple[Any, Any]:
    """log hazard and cumulative hazard of a Weibull."""
    z = d["t"] / p["scale"]
    return jnp.log(p["k"] / p["scale"]) + (p["k"] - 1) * jnp.log(z), z ** p["k"]


def _frailty(d: Data, q: np.ndarray) -> float:
    k, scale, theta = q
    if min(q) <= 0:
        return -np.inf
    z = d["t"] / scale
    return float(
        (d["e"] * (np.log(k / scale) + (k - 1) * np.log(z)) - (d["e"] + 1 / theta) * np.log1p(theta * z**k)).sum()
    )


def _cured(d: Data, q: np.ndarray) -> float:
    k, scale, pi = q
    if k <= 0 or scale <= 0 or not 0 <= pi < 1:
        return -np.inf
    z = d["t"] / scale
    H = z**k
    log_f = np.log(k / scale) + (k - 1) * np.log(z) - H
    return float(np.where(d["e"] > 0, np.log1p(-pi) + log_f, np.log(pi + (1 - pi) * np.exp(-H))).sum())


def _makeham(d: Data, q: np.ndarray) -> float:
    c, a, b = q
    t = d["t"]
    return inside(
        c >= 0 and a > 0 and b > 0, lambda: np.log(c + a * np.exp(b * t)) - c * t - a / b * np.expm1(b * t)
    )


def _gompertz(rng: np.random.Generator) -> Data:
    return {"t": np.log1p(0.1 / 0.002 * rng.exponential(size=N_ROWS)) / 0.1}


def _times(rng: np.random.Generator) -> Data:
    """Seconds, of the order of nanoseconds, by calendar year."""
    x = rng.uniform(1990, 2020, N_ROWS)
    return {"x": x, "t": 1e-9 * np.exp(0.5 * (x - 2000) / 10 + rng.logistic(size=N_ROWS) / 2)}


def _log_logistic(d: Data, q: np.ndarray) -> float:
    a, b, k = q
    if k <= 0:
        return -np.inf
    w = k * (np.log(d["t"]) - a - b * d["x"])
    return float((np.log(k / d["t"]) + w - 2 * np.logaddexp(0, w)).sum())


def _log_logistic_formula(p: Any, d: Any) -> Any:
    scale = jnp.exp(p["a"] + p["b"] * d["x"])
    z = (d["t"] / scale) ** p["k"]
    return jnp.log(p["k"] / d["t"] * z) - 2 * jnp.log(1 + z)


def _yeo_johnson(p: Any, d: Any) -> Any:
    y, lam = d["y"], p["lam"]
    up, down = jnp.where(y >= 0, y, 0.0), jnp.where(y < 0, -y, 0.0)
    z = jnp.where(y >= 0, ((up + 1) ** lam - 1) / lam, -((down + 1) ** (2 - lam) - 1) / (2 - lam))
    return norm.logpdf(z, p["m"], p["s"]) + (lam - 1) * jnp.sign(y) * jnp.log1p(jnp.abs(y))


def _yeo_by_scipy(d: Data, q: np.ndarray) -> float:
    lam, m, s = q
    steepness = (lam - 1) * np.sign(d["y"]) * np.log1p(np.abs(d["y"]))
    return inside(s > 0, lambda: stats.norm.logpdf(stats.yeojohnson(d["y"], lam), m, s) + steepness)


def _yeo_best(d: Data) -> float:
    return best(lambda q: -stats.yeojohnson_llf(q[0], d["y"]) + len(d["y"]) / 2 * (np.log(2 * np.pi) + 1), [1.0], [0.3])


def _discrete_weibull(d: Data, q: np.ndarray) -> float:
    p, b = q
    y = d["y"]
    return inside(0 < p < 1 and b > 0, lambda: y**b * np.log(p) + np.log(-np.expm1(((y + 1) ** b - y**b) * np.log(p))))


def _consul(d: Data, q: np.ndarray) -> float:
    lam, theta, y = *q, d["y"]
    if lam <= 0 or abs(theta) >= 1 or (lam + theta * y <= 0).any():
        return -np.inf
    return float((np.log(lam) + (y - 1) * np.log(lam + theta * y) - lam - theta * y - special.gammaln(y + 1)).sum())


def _pig(p: Any, d: Any, most: int = 16) -> Any:
    """Poisson-inverse Gaussian by its recursion (Dean, Lawless & Willmot 1989)."""
    mu, tau = p["mu"], p["tau"]
    c = 1 + 2 * mu * tau
    before, now = jnp.exp((1 - jnp.sqrt(c)) / tau), mu / jnp.sqrt(c) * jnp.exp((1 - jnp.sqrt(c)) / tau)
    table = [before, now]
    for y in range(2, most):
        table.append(2 * mu * tau / c * (1 - 1.5 / y) * table[-1] + mu**2 / (c * y * (y - 1)) * table[-2])
    return jnp.log(jnp.stack(table))[d["y"].astype(int)]


def _pig_by_bessel(d: Data, q: np.ndarray) -> float:
    """The same in closed form, by modified Bessel functions."""
    mu, tau = q
    if mu <= 0 or tau <= 0:
        return -np.inf
    y = d["y"]
    z = np.sqrt(1 / tau**2 + 2 * mu / tau)
    # p(y) = sqrt(2 z / pi) mu^y exp(1/tau) K_{y-1/2}(z) / ((z tau)^y y!)
    k = np.log(special.kve(y - 0.5, z)) - z
    return float(
        (0.5 * np.log(2 * z / np.pi) + y * np.log(mu) + 1 / tau + k - y * np.log(z * tau) - special.gammaln(y + 1)).sum()
    )


def _poisson_best(d: Data) -> float:
    return float(stats.poisson.logpmf(d["y"], d["y"].mean()).sum())


def _dirichlet_multinomial(d: Data, q: np.ndarray) -> float:
    if (q <= 0).any():
        return -np.inf
    y = np.column_stack([d["a"], d["b"], d["c"]])
    n, A = y.sum(axis=1), q.sum()
    return float(
        (
            special.gammaln(A) - special.gammaln(n + A) + special.gammaln(n + 1)
            + (special.gammaln(y + q) - special.gammaln(q) - special.gammaln(y + 1)).sum(axis=1)
        ).sum()
    )  # fmt: skip


def _multinomial(rng: np.random.Generator) -> Data:
    y = rng.multinomial(20, [0.2, 0.3, 0.5], size=N_ROWS).astype(float)
    return dict(zip("abc", y.T, strict=True))


def _multinomial_best(d: Data) -> float:
    y = np.column_stack([d["a"], d["b"], d["c"]])
    return float(stats.multinomial.logpmf(y, 20, y.sum(axis=0) / y.sum()).sum())


def _dm_formula(p: Any, d: Any) -> Any:
    y, a = jnp.stack([d["a"], d["b"], d["c"]], axis=-1), p["alpha"]
    n, A = y.sum(-1), a.sum()
    each = gammaln(y + a) - gammaln(a) - gammaln(y + 1)
    return gammaln(A) - gammaln(n + A) + gammaln(n + 1) + each.sum(-1)


def _zinb(d: Data, q: np.ndarray) -> float:
    pi, mu, alpha = q
    if not 0 <= pi < 1 or mu <= 0 or alpha <= 1e-7:
        return -np.inf
    l = stats.nbinom.logpmf(d["y"], 1 / alpha, 1 / (1 + alpha * mu))
    return float(np.where(d["y"] > 0, np.log1p(-pi) + l, np.log(pi + (1 - pi) * np.exp(l))).sum())


def _zip_best(d: Data) -> float:
    def minus(q: np.ndarray) -> float:
        pi, mu = q
        l = stats.poisson.logpmf(d["y"], mu)
        return -float(np.where(d["y"] > 0, np.log1p(-pi) + l, np.log(pi + (1 - pi) * np.exp(l))).sum())

    return max(_poisson_best(d), best(lambda q: minus(q) if 0 < q[0] < 1 and q[1] > 0 else 1e9, [0.1, d["y"].mean()]))


def _zinb_formula(p: Any, d: Any) -> Any:
    y, r = d["y"], 1 / p["alpha"]
    nb = gammaln(y + r) - gammaln(r) - gammaln(y + 1) + r * jnp.log(r / (r + p["mu"])) + y * jnp.log(p["mu"] / (r + p["mu"]))
    return jnp.where(y > 0, jnp.log(1 - p["pi"]) + nb, jnp.log(p["pi"] + (1 - p["pi"]) * jnp.exp(nb)))


def _asinh_normal(d: Data, q: np.ndarray) -> float:
    m, s, e, k = q
    if s <= 0 or k <= 0:
        return -np.inf
    z = (d["y"] - m) / s
    w = k * np.arcsinh(z) - e
    return float((np.log(k / s) + np.log(np.cosh(w)) - 0.5 * np.log1p(z**2) - 0.5 * np.sinh(w) ** 2).sum()) - 0.5 * len(
        z
    ) * np.log(2 * np.pi)


def _asinh_formula(p: Any, d: Any) -> Any:
    z = (d["y"] - p["m"]) / p["s"]
    w = p["k"] * jnp.log(z + jnp.sqrt(z**2 + 1)) - p["e"]
    sinh = 0.5 * (jnp.exp(w) - jnp.exp(-w))
    cosh = 0.5 * (jnp.exp(w) + jnp.exp(-w))
    return jnp.log(p["k"] * cosh) - jnp.log(p["s"] * jnp.sqrt(2 * jnp.pi * (1 + z**2))) - 0.5 * sinh**2


def _cells(d: Data, q: np.ndarray) -> float:
    m, s = q
    if s <= 0:
        return -np.inf
    a, b = (d["y"] - 0.5 - m) / s, (d["y"] + 0.5 - m) / s
    flip = a > 0
    a, b = np.where(flip, -b, a), np.where(flip, -a, b)
    return float((special.log_ndtr(b) + np.log(-np.expm1(special.log_ndtr(a) - special.log_ndtr(b)))).sum())


def _cells_best(d: Data) -> float:
    """Within two neighbouring cells any small spread gives their shares."""
    values, counts = np.unique(d["y"], return_counts=True)
    return float((counts * np.log(counts / counts.sum())).sum()) if np.ptp(values) <= 1 else -np.inf


KINDS: dict[str, Textbook] = {
    "truncated normal, exponential data": kind_of(
        {"m": real, "s": positive},
        lambda p, d: norm.logpdf(d["y"], p["m"], p["s"]) - jnp.log(norm.cdf(p["m"] / p["s"])),
        y_only(lambda rng: rng.exponential(3, N_ROWS)),
        lambda d, q: inside(q[1] > 0, lambda: stats.norm.logpdf(d["y"], *q) - special.log_ndtr(q[0] / q[1])),
        lambda d: [[float(d["y"].mean()), float(d["y"].std())], [-3.0, 4.0], [-30.0, 10.0]],
        lambda d: -len(d["y"]) * (np.log(d["y"].mean()) + 1),
    ),
    "Gompertz-Makeham, no Makeham": kind_of(
        {"c": nonnegative, "a": positive, "b": positive},
        lambda p, d: jnp.log(p["c"] + p["a"] * jnp.exp(p["b"] * d["t"]))
        - p["c"] * d["t"]
        - p["a"] / p["b"] * (jnp.exp(p["b"] * d["t"]) - 1),
        _gompertz, _makeham, lambda d: [[1e-3, 2e-3, 0.1], [1e-4, 1e-3, 0.12]], edges=((0, 0.0),),
    ),
    "gamma frailty, Weibull data": kind_of(
        {"k": positive, "scale": positive, "theta": positive},
        lambda p, d: d["e"] * _hazard(p, d)[0] - (d["e"] + 1 / p["theta"]) * jnp.log(1 + p["theta"] * _hazard(p, d)[1]),
        _censored_weibull, _frailty, lambda d: [[1.5, 3.0, 0.1], [1.5, 3.0, 1.0]], _weibull_best,
    ),
    "cured share, none cured": kind_of(
        {"k": positive, "scale": positive, "pi": share},
        lambda p, d: jnp.where(
            d["e"] > 0,
            jnp.log(1 - p["pi"]) + _hazard(p, d)[0] - _hazard(p, d)[1],
            jnp.log(p["pi"] + (1 - p["pi"]) * jnp.exp(-_hazard(p, d)[1])),
        ),
        _censored_weibull, _cured, lambda d: [[1.5, 3.0, 0.02], [1.5, 3.0, 0.1]], _weibull_best,
    ),
    "log-logistic in nanoseconds": kind_of(
        {"a": real, "b": real, "k": positive}, _log_logistic_formula,
        _times,
        _log_logistic, lambda d: [[-20.7 - 100, 0.05, 2.0]],
    ),
    "Dirichlet-multinomial, multinomial data": kind_of(
        {"alpha": mle.Positive(shape=3)}, _dm_formula, _multinomial, _dirichlet_multinomial,
        lambda d: [[20.0, 30.0, 50.0], [100.0, 150.0, 250.0]], _multinomial_best,
    ),
    "Poisson-inverse Gaussian, Poisson data": kind_of(
        {"mu": positive, "tau": positive}, _pig, y_only(lambda rng: np.minimum(rng.poisson(3, N_ROWS), 15)),
        _pig_by_bessel, lambda d: [[3.0, 0.05], [3.0, 0.3]], _poisson_best,
    ),
    "cardioid, too concentrated": kind_of(
        {"mu": real, "rho": mle.Interval(-0.5, 0.5, closed="both")},
        lambda p, d: jnp.log((1 + 2 * p["rho"] * jnp.cos(d["y"] - p["mu"])) / (2 * jnp.pi)),
        y_only(lambda rng: rng.vonmises(1.0, 2.5, N_ROWS)),
        lambda d, q: inside(
            abs(q[1]) <= 0.5, lambda: np.log1p(2 * q[1] * np.cos(d["y"] - q[0])) - np.log(2 * np.pi)
        ),
        lambda d: [[1.0, 0.4], [1.0, 0.49]], edges=((1, 0.5), (1, -0.5)),
    ),
    "wrapped Cauchy, nearly uniform": kind_of(
        {"mu": real, "rho": share},
        lambda p, d: jnp.log((1 - p["rho"] ** 2) / (1 + p["rho"] ** 2 - 2 * p["rho"] * jnp.cos(d["y"] - p["mu"])))
        - jnp.log(2 * jnp.pi),
        y_only(lambda rng: rng.uniform(-np.pi, np.pi, N_ROWS)),
        lambda d, q: inside(
            0 <= q[1] < 1,
            lambda: np.log1p(-(q[1] ** 2)) - np.log(1 + q[1] ** 2 - 2 * q[1] * np.cos(d["y"] - q[0])) - np.log(2 * np.pi),
        ),
        lambda d: [[m, 0.1] for m in (-2.0, 0.0, 2.0)],
    ),
    "discrete Weibull, geometric counts": kind_of(
        {"q": share, "b": positive},
        lambda p, d: jnp.log(p["q"] ** (d["y"] ** p["b"]) - p["q"] ** ((d["y"] + 1) ** p["b"])),
        y_only(lambda rng: rng.geometric(0.3, N_ROWS) - 1), _discrete_weibull, lambda d: [[0.7, 1.0]],
    ),
    "log-series, nearly all 1": kind_of(
        {"p": share},
        lambda p, d: jnp.log(-1 / jnp.log(1 - p["p"])) + d["y"] * jnp.log(p["p"]) - jnp.log(d["y"]),
        y_only(lambda rng: rng.logseries(0.01, N_ROWS)),
        lambda d, q: inside(
            0 < q[0] < 1, lambda: d["y"] * np.log(q[0]) - np.log(-np.log1p(-q[0])) - np.log(d["y"])
        ),
        lambda d: [[0.01], [0.1]], lambda d: 0.0 if (d["y"] == 1).all() else -np.inf,
    ),
    "Kumaraswamy near 1": kind_of(
        {"a": positive, "b": positive},
        lambda p, d: jnp.log(p["a"] * p["b"]) + (p["a"] - 1) * jnp.log(d["y"]) + (p["b"] - 1) * jnp.log(1 - d["y"] ** p["a"]),
        y_only(lambda rng: 1 - 1e-4 * rng.beta(2, 3, N_ROWS)),
        lambda d, q: inside(
            min(q) > 0,
            lambda: np.log(q[0] * q[1]) + (q[0] - 1) * np.log(d["y"]) + (q[1] - 1) * np.log(-np.expm1(q[0] * np.log(d["y"]))),
        ),
        lambda d: [[1e4, 2.0], [3e4, 2.0], [1e3, 2.0]],
        # a to infinity at b: Gumbel-like, exponentiated exponential in -log y
        lambda d: -np.inf,
    ),
    "Yeo-Johnson, normal data": kind_of(
        {"lam": real, "m": real, "s": positive}, _yeo_johnson, y_only(lambda rng: rng.normal(0.5, 2, N_ROWS)),
        _yeo_by_scipy, lambda d: [[1.0, 0.5, 2.0]], _yeo_best,
    ),
    "generalised Poisson, underdispersed": kind_of(
        {"lam": positive, "theta": mle.Interval(-1, 1)},
        lambda p, d: jnp.log(p["lam"]) + (d["y"] - 1) * jnp.log(p["lam"] + p["theta"] * d["y"])
        - p["lam"] - p["theta"] * d["y"] - gammaln(d["y"] + 1),
        y_only(lambda rng: rng.binomial(6, 0.5, N_ROWS)), _consul, lambda d: [[3.0, -0.02], [4.0, -0.3]],
    ),
    "zero-inflated negative binomial, Poisson data": kind_of(
        {"pi": share, "mu": positive, "alpha": positive}, _zinb_formula, y_only(lambda rng: rng.poisson(2, N_ROWS)),
        _zinb, lambda d: [[0.05, 2.0, 0.05], [0.01, 2.0, 0.2]], _zip_best,
    ),
    "sinh-arcsinh, normal data": kind_of(
        {"m": real, "s": positive, "e": real, "k": positive}, _asinh_formula, y_only(lambda rng: rng.normal(50, 4, N_ROWS)),
        _asinh_normal, lambda d: [[50.0, 4.0, 0.0, 1.0], [50.0, 8.0, 0.0, 1.5], [50.0, 2.0, 0.0, 0.8]],
    ),
    "normal rounded to whole numbers": kind_of(
        {"m": real, "s": positive},
        lambda p, d: jnp.log(
            norm.cdf((d["y"] + 0.5 - p["m"]) / p["s"]) - norm.cdf((d["y"] - 0.5 - p["m"]) / p["s"])
        ),
        y_only(lambda rng: np.round(rng.normal(5.2, 0.25, N_ROWS))), _cells, lambda d: [[5.2, 0.3], [5.3, 0.2]],
        _cells_best,
    ),
}  # fmt: skip
