"""Fits whose truth is known from elsewhere: edges at which scores vanish, columns of any order, shift and scale.

    python benchmarks/torture.py            # 2 samples of each kind
    python benchmarks/torture.py --write    # 20 of each, kept in benchmarks/results/torture.json

*Edges* are moving averages and ARMA models near and at a unit root, and standard deviations of random effects near and at 0, by
hand and by `mle.Latent`.  Their truth is a second formula in NumPy (the eigenvalues of the covariance of a moving average, its
Cholesky factor for ARMA, a fixed grid for random effects), of which Nelder and Mead look for the highest point, also along edges.
*Designs* are logits, Poisson and normal regressions whose columns are permuted, or shifted by up to 10^6 of their spreads and
multiplied by 1e±9; their truth is iterated least squares on orthonormal columns.  *Constructions* are the data sets of
`tests/verdict/torture.py`.

A fit is *right* if it is clean and within 1e-4 of the highest log-likelihood (a design: with slopes and errors to 1e-6), or says
that the log-likelihood levels off, with a supremum within 0.01 of it.  It is *untrue* if it says anything else that is not so.
A clean fit at a lower maximum of the second formula is neither: a local maximum is what the verdict says.  All other verdicts
are *honest*: they say that no maximum was found.
"""

import argparse
import collections
import itertools
import json
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.special import gammaln
from jax.scipy.stats import norm
from scipy import special
from scipy.linalg import cho_factor, cho_solve, toeplitz
from scipy.optimize import minimize

sys.path.insert(0, str(Path(__file__).parent.parent))

import mlejax as mle
from benchmarks import tables
from benchmarks.limits import CLOSE, Judged, judged
from benchmarks.recorded import RESULTS, circumstances, keep
from tests.verdict.test_torture import HONEST, stacks, verdicts
from tests.verdict.torture import problems

N_SAMPLES, A_FEW, EVERY = 20, 2, 4
SAME = 1e-6
Data = dict[str, Any]


@dataclass(frozen=True)
class Kind:
    """A family near an edge.

    Attributes:
        model: the likelihood.
        draw: a data set.
        loglik: (data, natural parameters in the model's order) -> the log-likelihood, by a formula of its own.
        starts: data -> points from which its highest point is looked for.
        edges: numbers of parameters that may lie on an edge or limit, with it.
        scale: the last parameter is a scale, above 0.
    """

    model: mle.Model
    draw: Callable[[np.random.Generator], Data]
    loglik: Callable[[Data, np.ndarray], float]
    starts: Callable[[Data], list[list[float]]]
    edges: tuple[tuple[int, float], ...]
    scale: bool = True


# ---- moving averages and ARMA


def innovations(y: Any, theta: Any, sigma: Any) -> Any:
    """The exact log-likelihood of a moving average of order 1, term by term, by the innovations algorithm."""

    def step(before: Any, value: Any) -> Any:
        error, variance = before
        now = 1 + theta**2 - theta**2 / variance
        e = value - theta * error / variance
        return (e, now), (e, now)

    first = (y[0], 1 + theta**2)
    _, (e, v) = jax.lax.scan(step, first, y[1:])
    e, v = jnp.append(y[0], e), jnp.append(1 + theta**2, v)
    return -0.5 * (jnp.log(2 * jnp.pi * sigma**2 * v) + e**2 / (sigma**2 * v))


def by_eigenvalues(y: np.ndarray, theta: float, sigma: float) -> float:
    """The same in closed form: the covariance has eigenvalues 1 + theta^2 + 2 theta cos(pi j / (n + 1)) in the sine basis."""
    n = len(y)
    j = np.arange(1, n + 1)
    values = sigma**2 * (1 + theta**2 + 2 * theta * np.cos(np.pi * j / (n + 1)))
    z = np.sqrt(2 / (n + 1)) * np.sin(np.pi * np.outer(j, j) / (n + 1)) @ y
    return float(-0.5 * (np.log(2 * np.pi * values) + z**2 / values).sum())


def kalman(y: Any, phi: Any, theta: Any, sigma: Any) -> Any:
    """The exact log-likelihood of ARMA(1, 1), term by term, by the Kalman filter of (state, theta * noise)."""
    first = jnp.array([[(1 + 2 * phi * theta + theta**2) / (1 - phi**2), theta], [theta, theta**2]])
    to, noise = jnp.array([[phi, 1.0], [0.0, 0.0]]), jnp.outer(jnp.array([1.0, theta]), jnp.array([1.0, theta]))

    def step(before: Any, value: Any) -> Any:
        a, P = before
        e, f = value - a[0], P[0, 0]
        k = to @ P[:, 0] / f
        return (to @ a + k * e, to @ P @ to.T + noise - f * jnp.outer(k, k)), (e, f)

    _, (e, f) = jax.lax.scan(step, (jnp.zeros(2), first), y)
    return -0.5 * (jnp.log(2 * jnp.pi * sigma**2 * f) + e**2 / (sigma**2 * f))


def by_factor(y: np.ndarray, phi: float, theta: float, sigma: float) -> float:
    """The same by the Cholesky factor of the covariance."""
    if not (abs(phi) < 1 and sigma > 0):
        return -np.inf
    gamma0 = (1 + 2 * phi * theta + theta**2) / (1 - phi**2)
    gamma1 = (1 + phi * theta) * (phi + theta) / (1 - phi**2)
    lags = np.arange(len(y) - 1)
    try:
        factor = cho_factor(sigma**2 * toeplitz(np.append(gamma0, gamma1 * phi**lags)), lower=True)
    except np.linalg.LinAlgError:
        return -np.inf
    return float(-np.log(np.diag(factor[0])).sum() - 0.5 * (y @ cho_solve(factor, y) + len(y) * np.log(2 * np.pi)))


def moving_average(rng: np.random.Generator, n: int = 60) -> Data:
    theta = rng.choice([-1.0, -0.97, -0.9, 0.0, 0.9, 1.0])
    e = rng.normal(size=n + 1)
    return {"y": 1.5 * (e[1:] + theta * e[:-1])}


def arma(rng: np.random.Generator, n: int = 60) -> Data:
    phi, theta, y = rng.choice([-0.5, 0.6, 0.9]), rng.choice([-1.0, -0.9, 0.5, 1.0]), 0.0
    e, out = rng.normal(size=n + 101), []
    for t in range(1, n + 101):
        y = phi * y + e[t] + theta * e[t - 1]
        out.append(y)
    return {"y": np.array(out[-n:])}


BOTH = mle.Interval(-1, 1, closed="both")
ROOTS = [[a, 0.7] for a in (-0.99, -0.6, 0.0, 0.6, 0.99)]


def _scaled(points: list[list[float]]) -> Callable[[Data], list[list[float]]]:
    return lambda d: [[*point[:-1], point[-1] * float(np.std(d["y"]))] for point in points]


def _ma(theta: Any, edges: tuple[tuple[int, float], ...]) -> Kind:
    model = mle.model(theta=theta, sigma=mle.Positive(), rowwise=False)(
        lambda p, d: innovations(d["y"], p["theta"], p["sigma"])
    )
    return Kind(model, moving_average, lambda d, q: by_eigenvalues(d["y"], *q), _scaled(ROOTS), edges)


MA_EDGES = ((0, -1.0), (0, 1.0))
KINDS = {
    "moving average, closed": _ma(BOTH, MA_EDGES),
    "moving average, open": _ma(mle.Interval(-1, 1), MA_EDGES),
    "moving average, real": _ma(mle.Real(), ()),
    "moving average about a mean": Kind(
        mle.model(mu=mle.Real(), theta=BOTH, sigma=mle.Positive(), rowwise=False)(
            lambda p, d: innovations(d["y"] - p["mu"], p["theta"], p["sigma"])
        ),
        lambda rng: {"y": 5.0 + moving_average(rng)["y"]},
        lambda d, q: by_eigenvalues(d["y"] - q[0], *q[1:]),
        lambda d: [[float(d["y"].mean()), a, 0.7 * float(d["y"].std())] for a in (-0.99, -0.6, 0.0, 0.6, 0.99)],
        ((1, -1.0), (1, 1.0)),
    ),
    "ARMA(1, 1)": Kind(
        mle.model(phi=mle.Interval(-1, 1), theta=BOTH, sigma=mle.Positive(), rowwise=False)(
            lambda p, d: kalman(d["y"], p["phi"], p["theta"], p["sigma"])
        ),
        arma,
        lambda d, q: by_factor(d["y"], *q),
        _scaled([[f, t, 0.7] for f in (-0.8, 0.0, 0.8) for t in (-0.9, 0.0, 0.9)]),
        ((1, -1.0), (1, 1.0)),
    ),
    "AR(1) about a mean": Kind(
        mle.model(mu=mle.Real(), phi=mle.Interval(-1, 1), sigma=mle.Positive(), rowwise=False)(
            lambda p, d: kalman(d["y"] - p["mu"], p["phi"], 0.0, p["sigma"])
        ),
        lambda rng: {"y": np.cumsum(rng.normal(size=60)) if rng.random() < 0.5 else rng.normal(size=60)},
        lambda d, q: by_factor(d["y"] - q[0], q[1], 0.0, q[2]),
        lambda d: [[float(d["y"].mean()), f, float(d["y"].std()) * np.sqrt(1 - f**2)] for f in (0.0, 0.7, 0.97)],
        (),
    ),
}


# ---- standard deviations of random effects

UNITS, EACH = 24, 5
AT_ZERO = ((1, 0.0),)
UNIT = np.repeat(np.arange(UNITS), EACH)
SPREADS = (0.0, 0.0, 0.1, 0.3, 0.8)
NODES = np.linspace(-8.5, 8.5, 401)
LAW = -0.5 * NODES**2 - 0.5 * np.log(2 * np.pi) + np.log(NODES[1] - NODES[0])


def on_grid(terms: np.ndarray) -> float:
    """log of the integral over a standard normal effect, from log densities of rows (rows, nodes)."""
    return float(special.logsumexp(np.add.reduceat(terms, np.arange(0, len(terms), EACH)) + LAW, axis=1).sum())


def normal_units(d: Data, q: np.ndarray) -> float:
    """Random intercepts with balanced units, by the variances of unit means and of deviations from them."""
    mu, variance, sigma = q
    if variance < 0:
        return -np.inf
    y = d["y"].reshape(UNITS, EACH)
    means = y.mean(axis=1)
    total = sigma**2 + EACH * variance
    within = ((y - means[:, None]) ** 2).sum() / sigma**2 + UNITS * (EACH - 1) * np.log(sigma**2)
    between = EACH * ((means - mu) ** 2).sum() / total + UNITS * np.log(total)
    return float(-0.5 * (within + between + y.size * np.log(2 * np.pi)))


def effects(family: str) -> Callable[[np.random.Generator], Data]:
    def draw(rng: np.random.Generator) -> Data:
        u = rng.choice(SPREADS) * rng.normal(size=UNITS)[UNIT]
        if family == "poisson":
            return {"g": UNIT, "y": rng.poisson(np.exp(0.6 + u)).astype(float)}
        if family == "logit":
            return {"g": UNIT, "y": (rng.random(UNIT.size) < special.expit(0.3 + 1.5 * u)).astype(float)}
        if family == "slope":
            x = rng.normal(size=UNIT.size)
            return {"g": UNIT, "x": x, "y": 1 + 0.5 * x + u * x + rng.normal(size=UNIT.size)}
        return {"g": UNIT, "y": 2 + u + rng.normal(size=UNIT.size)}

    return draw


def intercepts_by_hand(y: Any, mask: Any, mu: Any, variance: Any, sigma: Any) -> Any:
    n, r = jnp.sum(mask), jnp.where(mask, y - mu, 0.0)
    total = sigma**2 + n * variance
    quadratic = (jnp.sum(r**2) - variance / total * jnp.sum(r) ** 2) / sigma**2
    return -0.5 * (n * jnp.log(2 * jnp.pi) + (n - 1) * jnp.log(sigma**2) + jnp.log(total) + quadratic)


def slopes_by_hand(p: Any, d: Any) -> Any:
    """Random slopes: the determinant and the inverse of sigma^2 I + tau^2 x x'."""
    mask, x = d["mask"], jnp.where(d["mask"], d["x"], 0.0)
    r = jnp.where(mask, d["y"] - p["a"] - p["b"] * d["x"], 0.0)
    s2, t2, xx = p["sigma"] ** 2, p["tau"] ** 2, jnp.sum(x * x)
    quadratic = (jnp.sum(r * r) - t2 * jnp.sum(r * x) ** 2 / (s2 + t2 * xx)) / s2
    n = jnp.sum(mask)
    return -0.5 * (n * jnp.log(2 * jnp.pi * s2) + jnp.log1p(t2 * xx / s2) + quadratic)


def slopes_by_factor(d: Data, q: np.ndarray) -> float:
    a, b, tau, sigma = q
    x = d["x"].reshape(UNITS, EACH)
    r = d["y"].reshape(UNITS, EACH) - a - b * x
    covariance = sigma**2 * np.eye(EACH) + tau**2 * x[:, :, None] * x[:, None, :]
    quadratic = (r * np.linalg.solve(covariance, r[:, :, None])[:, :, 0]).sum()
    return float(-0.5 * (np.linalg.slogdet(covariance)[1].sum() + quadratic + r.size * np.log(2 * np.pi)))


def _by_hand(declared: Any, variance: Callable[[Any], Any], edges: tuple[tuple[int, float], ...]) -> Kind:
    """Random intercepts by hand, where the parameter's variance is that function of it."""
    model = mle.model(mu=mle.Real(), tau=declared, sigma=mle.Positive(), unit="g")(
        lambda p, d: intercepts_by_hand(d["y"], d["mask"], p["mu"], variance(p["tau"]), p["sigma"])
    )
    starts = lambda d: [[float(d["y"].mean()), t, float(d["y"].std())] for t in (0.1, 0.6)]
    return Kind(
        model, effects("normal"), lambda d, q: normal_units(d, np.array([q[0], variance(q[1]), q[2]])), starts, edges
    )


def _latent(family: str, row: Callable[[Any, Any, Any], Any], numpy_row: Callable[[Any, Any, Any], Any]) -> Kind:
    """One latent intercept, on the linear predictor of a family with a single other parameter."""
    model = mle.model(a=mle.Real(), tau=mle.NonNegative(), u=mle.Latent(by="g"))(
        lambda p, d: row(d["y"], p["a"], p["tau"] * p["u"])
    )
    return Kind(
        model,
        effects(family),
        lambda d, q: on_grid(numpy_row(d["y"][:, None], q[0], q[1] * NODES)),
        lambda d: [[0.3, 0.1], [0.3, 0.7]],
        AT_ZERO,
        scale=False,
    )


square, same = lambda t: t**2, lambda t: t
KINDS |= {
    "random intercepts, sd >= 0": _by_hand(mle.NonNegative(), square, AT_ZERO),
    "random intercepts, sd > 0": _by_hand(mle.Positive(), square, AT_ZERO),
    "random intercepts, variance >= 0": _by_hand(mle.NonNegative(), same, AT_ZERO),
    "random intercepts, sd real": _by_hand(mle.Real(), square, AT_ZERO),
    "random slopes, sd >= 0": Kind(
        mle.model(a=mle.Real(), b=mle.Real(), tau=mle.NonNegative(), sigma=mle.Positive(), unit="g")(slopes_by_hand),
        effects("slope"),
        slopes_by_factor,
        lambda d: [[1.0, 0.5, t, 1.0] for t in (0.1, 0.6)],
        ((2, 0.0),),
    ),
    "latent intercepts, normal": Kind(
        mle.model(mu=mle.Real(), tau=mle.NonNegative(), sigma=mle.Positive(), u=mle.Latent(by="g"))(
            lambda p, d: norm.logpdf(d["y"], p["mu"] + p["tau"] * p["u"], p["sigma"])
        ),
        effects("normal"),
        lambda d, q: normal_units(d, np.array([q[0], q[1] ** 2, q[2]])),
        lambda d: [[float(d["y"].mean()), t, float(d["y"].std())] for t in (0.1, 0.6)],
        AT_ZERO,
    ),
    "latent intercepts, Poisson": _latent(
        "poisson",
        lambda y, a, u: y * (a + u) - jnp.exp(a + u) - gammaln(y + 1),
        lambda y, a, u: y * (a + u) - np.exp(a + u) - special.gammaln(y + 1),
    ),
    "latent intercepts, logit": _latent(
        "logit",
        lambda y, a, u: jax.nn.log_sigmoid((2 * y - 1) * (a + u)),
        lambda y, a, u: special.log_expit((2 * y - 1) * (a + u)),
    ),
}


def highest(kind: Kind, d: Data) -> float:
    """The highest point of the second formula, in the interior and along each edge."""
    options = {"maxiter": 3000, "maxfev": 6000, "xatol": 1e-9, "fatol": 1e-11}
    best = -np.inf
    for fixed in (None, *kind.edges):
        keep_at = [] if fixed is None else [fixed[0]]

        def whole(x: np.ndarray, fixed: Any = fixed) -> np.ndarray:
            return x if fixed is None else np.insert(x, fixed[0], fixed[1])

        for start in kind.starts(d):
            minus = lambda x, whole=whole: _minus(kind, d, whole(x))
            end = minimize(minus, np.delete(start, keep_at), method="Nelder-Mead", options=options)
            best = max(best, -end.fun)
    return best


def _minus(kind: Kind, d: Data, q: np.ndarray) -> float:
    """Minus the second formula, without a limit outside its domain: scales positive, standard deviations of either sign."""
    if any(abs(q[i]) > abs(edge) > 0 for i, edge in kind.edges) or (kind.scale and q[-1] <= 0):
        return 1e9
    with np.errstate(all="ignore"):
        return float(np.nan_to_num(-kind.loglik(d, np.asarray(q)), nan=1e9, posinf=1e9, neginf=1e9))


def judged_one(kind: Kind, d: Data, res: Any, truth: float) -> Judged:
    """A fit beside the truth."""
    found = judged(res.verdict, float(res.llf), truth)
    if found.what != "untrue" or not res.verdict.converged or found.off > 0:
        return found
    q = np.asarray(res.params, float)
    end = minimize(lambda x: _minus(kind, d, x), q, method="Nelder-Mead", options={"xatol": 1e-9, "fatol": 1e-11})
    local = abs(_minus(kind, d, q) + res.llf) < CLOSE and _minus(kind, d, q) - end.fun < CLOSE
    return Judged("a lower maximum", found.code, found.off) if local else found


def run(name: str, n: int) -> dict[str, Any]:
    """Samples of a kind of edge, all in one batch, and every fourth alone too."""
    kind, rng = KINDS[name], np.random.default_rng(sorted(KINDS).index(name))
    sets = [kind.draw(rng) for _ in range(n)]
    truths = [highest(kind, d) for d in sets]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", mle.ConvergenceWarning)
        many = kind.model.fit_batch({key: np.stack([d[key] for d in sets]) for key in sets[0]})
        found = {f"{i} in a batch": judged_one(kind, sets[i], many[i], truths[i]) for i in range(n)}
        for i in range(0, n, EVERY):
            found[f"{i}"] = judged_one(kind, sets[i], kind.model.fit(sets[i]), truths[i])
    return counted(found)


def counted(found: dict[str, Judged]) -> dict[str, Any]:
    return {
        "fits": len(found),
        "right": sum(j.what == "right" for j in found.values()),
        "untrue": {key: [j.code, j.off] for key, j in found.items() if j.what == "untrue"},
        "counts": dict(collections.Counter(f"{j.what}: {j.code}" for j in found.values())),
    }


# ---- columns in any order, shift and scale

real, positive = mle.Real, mle.Positive
DESIGNS = {
    "logit": mle.model(b=real(columns="X"))(lambda p, d: jax.nn.log_sigmoid((2 * d["y"] - 1) * (d["X"] @ p["b"]))),
    "Poisson": mle.model(b=real(columns="X"))(
        lambda p, d: d["y"] * (d["X"] @ p["b"]) - jnp.exp(d["X"] @ p["b"]) - gammaln(d["y"] + 1)
    ),
    "normal": mle.model(b=real(columns="X"), s=positive())(lambda p, d: norm.logpdf(d["y"], d["X"] @ p["b"], p["s"])),
}
PREDICTORS = {
    "logit": mle.model(a=real(), b=real())(
        lambda p, d: jax.nn.log_sigmoid((2 * d["y"] - 1) * (p["a"] + p["b"] * d["x"]))
    ),
    "Poisson": mle.model(a=real(), b=real())(
        lambda p, d: d["y"] * (p["a"] + p["b"] * d["x"]) - jnp.exp(p["a"] + p["b"] * d["x"]) - gammaln(d["y"] + 1)
    ),
    "normal": mle.model(a=real(), b=real(), s=positive())(
        lambda p, d: norm.logpdf(d["y"], p["a"] + p["b"] * d["x"], p["s"])
    ),
}
ORDERS = list(itertools.permutations(range(4)))
SHIFTS = [(s * 2.0**k, 2.0**m) for s in (1, -1) for k in (0, 10, 20) for m in (-30, 0, 30)]


def outcome(family: str, rng: np.random.Generator, eta: np.ndarray) -> np.ndarray:
    if family == "logit":
        return (rng.random(len(eta)) < special.expit(eta)).astype(float)
    return rng.poisson(np.exp(0.5 * eta)).astype(float) if family == "Poisson" else eta + rng.normal(size=len(eta))


def least_squares(family: str, X: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Estimates and standard errors by iterated least squares on orthonormal columns."""
    Q, R = np.linalg.qr(X)
    b, back = np.zeros(X.shape[1]), np.linalg.inv(R)
    if family == "normal":
        b, weights = Q.T @ y, np.full(len(y), 1 / np.mean((y - Q @ (Q.T @ y)) ** 2))
    else:
        for _ in range(60):
            eta = Q @ b
            mean = special.expit(eta) if family == "logit" else np.exp(eta)
            weights = mean * (1 - mean) if family == "logit" else mean
            b = b + np.linalg.solve(Q.T @ (weights[:, None] * Q), Q.T @ (y - mean))
    covariance = back @ np.linalg.inv(Q.T @ (weights[:, None] * Q)) @ back.T
    return back @ b, np.sqrt(np.diag(covariance))


@dataclass(frozen=True)
class Wanted:
    """What a fit of a design has to say: slopes and errors of some addresses, or a code and the addresses that it names."""

    slopes: dict[str, tuple[float, float]]
    code: str = "verified"
    names: tuple[str, ...] = ()


def of_design(res: Any, wanted: Wanted) -> Judged:
    """A fit of a design beside what it has to say."""
    code, clean = res.verdict.code, res.verdict.converged
    if wanted.code != "verified":
        named = all(name in res.verdict.statement for name in wanted.names)
        return Judged("right" if code == wanted.code and named else "untrue" if clean else "honest", code, 0.0)
    if not clean:
        return Judged("honest", code, float("nan"))  # counted as a false alarm
    off = max(
        max(abs(res.params[k] / b - 1), abs(res.bse[k] / e - 1)) if b else 0.0 for k, (b, e) in wanted.slopes.items()
    )
    return Judged("right" if off <= SAME else "untrue", code, float(off))


def permuted(family: str, what: str, rng: np.random.Generator) -> Iterator[tuple[Data, Wanted]]:
    """A design of four columns on scales of their own, in every order."""
    n = 120
    z = rng.normal(size=(n, 3))
    scales = 2.0 ** np.append(0, rng.integers(-25, 25, 3))
    X = np.column_stack([np.ones(n), z])
    y = outcome(family, rng, X @ np.array([0.3, 0.5, -0.4, 0.2]))
    if what == "separated":
        y = (z[:, 0] > 0).astype(float)
    if what == "collinear":
        X[:, 3] = X[:, 1] - 2 * X[:, 2]
        scales = np.array([1.0, 4.0, 4.0, 4.0])
    b, e = least_squares(family, X, y) if what == "clean" else (np.zeros(4), np.zeros(4))
    for order in ORDERS:
        at = {k: f"b[{order.index(k)}]" for k in range(4)}
        data = {"X": (X * scales)[:, order], "y": y}
        if what == "clean":
            yield data, Wanted({at[k]: (b[k] / scales[k], e[k] / scales[k]) for k in range(1, 4)})
        elif what == "separated":
            yield data, Wanted({}, "no_finite_maximum", (at[1],))
        else:
            yield data, Wanted({}, "not_identified", (at[1], at[2], at[3]))


def shifted(family: str, rng: np.random.Generator) -> Iterator[tuple[Data, Wanted]]:
    """A line whose covariate is moved and scaled, exact in binary."""
    z = np.round(rng.normal(size=100) * 2**12) / 2**12
    y = outcome(family, rng, 0.3 + z)
    b, e = least_squares(family, np.column_stack([np.ones(100), z]), y)
    for shift, scale in SHIFTS:
        yield {"x": (shift + z) * scale, "y": y}, Wanted({"b": (b[1] / scale, e[1] / scale)})


def run_designs(what: str, family: str, seeds: int) -> dict[str, Any]:
    """All orders, or shifts and scales, alone (of the first seed) and in batches."""
    model, found = (PREDICTORS if what == "shifted" else DESIGNS)[family], {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", mle.ConvergenceWarning)
        for seed in range(seeds):
            rng = np.random.default_rng([seed, sorted(DESIGNS).index(family)])
            cases = list(shifted(family, rng) if what == "shifted" else permuted(family, what, rng))
            many = model.fit_batch({key: np.stack([d[key] for d, _ in cases]) for key in cases[0][0]})
            found |= {f"{seed}.{i} in a batch": of_design(many[i], w) for i, (_, w) in enumerate(cases)}
            if seed == 0:
                found |= {f"{i}": of_design(model.fit(d), w) for i, (d, w) in enumerate(cases)}
    return counted(found)


DESIGN_KINDS = [("clean", f) for f in DESIGNS] + [("shifted", f) for f in DESIGNS]
DESIGN_KINDS += [("separated", "logit"), *(("collinear", f) for f in DESIGNS)]


# ---- the torture set


def run_constructions(seeds: int) -> dict[str, Any]:
    """The problems of `tests/verdict/torture.py`, alone and in batches: false alarms on clean ones, and what is dishonest."""
    counts, wrong = verdicts(problems(range(1, 1 + max(1, seeds // 5))))
    for size in (60, 300):
        for name, group in stacks(range(20, 20 + seeds), size).items():
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", mle.ConvergenceWarning)
                data = {k: np.stack([np.asarray(p.data[k]) for p in group]) for k in group[0].data}
                codes = group[0].model.fit_batch(data).glance()["verdict"].tolist()
            for problem, code in zip(group, codes, strict=True):
                counts[problem.truth, code] += 1
                if problem.truth != "clean" and code not in HONEST[problem.truth]:
                    wrong.append(f"{name}: {code}")
    best = {"clean": "verified", "none": "no_finite_maximum", "flat": "not_identified", "edge": "boundary"}
    clean = {code: k for (truth, code), k in counts.items() if truth == "clean"}
    right = sum(k for (truth, code), k in counts.items() if code == best.get(truth, "verified"))
    return {
        "fits": sum(counts.values()),
        "right": right,
        "untrue": dict(enumerate(wrong)),
        "clean": sum(clean.values()),
        "false alarms": sum(k for code, k in clean.items() if code != "verified"),
        "counts": {f"{truth}: {code}": k for (truth, code), k in sorted(counts.items())},
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--write", action="store_true", help="20 samples of each kind, kept in torture.json")
    parser.add_argument("kinds", nargs="*", help="of these kinds only; the record keeps the others")
    options = parser.parse_args()
    n = N_SAMPLES if options.write else A_FEW
    work: dict[str, Callable[[], dict[str, Any]]] = {name: lambda name=name: run(name, n) for name in KINDS}
    for what, family in DESIGN_KINDS:
        work[f"{family}, {what}"] = lambda what=what, family=family: run_designs(what, family, max(1, n // 5))
    work["constructions"] = lambda: run_constructions(n)
    record = RESULTS / "torture.json"
    found = json.loads(record.read_text())["kinds"] if options.write and options.kinds and record.exists() else {}
    for name in options.kinds or work:
        begun = time.process_time()
        found[name] = work[name]()
        f = found[name]
        print(
            f"{name:34} {f['right']:4} of {f['fits']} right  {f['counts']}  {f['untrue'] or ''}  "
            f"{time.process_time() - begun:.0f} s",
            flush=True,
        )
        total = {key: sum(g[key] for g in found.values()) for key in ("fits", "right")}
        total["untrue"] = sum(len(g["untrue"]) for g in found.values())
        designs = [g for key, g in found.items() if "clean" in key or "shifted" in key]
        total["clean"] = sum(g["fits"] for g in designs) + found.get("constructions", {}).get("clean", 0)
        alarms = sum(k for g in designs for what, k in g["counts"].items() if what.startswith("honest"))
        total["false alarms"] = alarms + found.get("constructions", {}).get("false alarms", 0)
        if options.write:
            keep("torture", {**circumstances("scipy"), **total, "kinds": found})
            tables.paste("counts", tables.counts())
    print(total)


if __name__ == "__main__":
    main()
