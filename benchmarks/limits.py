"""Fits at the limits of their families: what the verdict says, and the truth from another source.

    python benchmarks/limits.py            # 5 samples of each kind
    python benchmarks/limits.py --write    # 20 samples, kept in benchmarks/results/limits.json

Every sample is drawn where the usual formula is in danger: a negative binomial of Poisson counts, Student's t of normal data,
a frontier skewed either way, a skew-normal of nearly normal data, covariates far from 0.  The truth is scipy's: the highest
log-likelihood of scipy's own densities that Nelder and Mead find from several starts, or that of the simpler model at the
limit, whichever is higher.

A fit is *right* if it is clean and within 1e-4 of the highest, or says that the log-likelihood levels off, with a supremum
within 0.01 of it.  It is *untrue* if it is clean at a lower point, or at one that is higher than there is, or names another
supremum.  All else is *honest*: it says that it found no maximum.
"""

import argparse
import collections
import sys
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax.scipy.special import gammaln
from jax.scipy.stats import norm
from scipy import stats
from scipy.optimize import minimize

sys.path.insert(0, str(Path(__file__).parent.parent))

import mlejax as mle
from benchmarks import tables
from benchmarks.recorded import circumstances, keep
from mlejax.special import betaln  # JAX's is wrong by up to 1e-6
from mlejax.verdict import NEGATED

N_SAMPLES, N_ROWS, A_FEW = 20, 150, 5
CLOSE, SUPREMUM, SAME = 1e-4, 0.01, 1e-6


def negative_binomial(y: Any, mu: Any, alpha: Any) -> Any:
    r = 1 / alpha
    return gammaln(y + r) - gammaln(r) - gammaln(y + 1) + r * jnp.log(r / (r + mu)) + y * jnp.log(mu / (r + mu))


def student(y: Any, m: Any, s: Any, v: Any) -> Any:
    z = (y - m) / s
    constant = gammaln((v + 1) / 2) - gammaln(v / 2) - 0.5 * jnp.log(v * jnp.pi) - jnp.log(s)
    return constant - (v + 1) / 2 * jnp.log1p(z * z / v)


def beta_binomial(y: Any, a: Any, b: Any, n: float = 10.0) -> Any:
    return betaln(y + a, n - y + b) - betaln(a, b) + gammaln(n + 1) - gammaln(y + 1) - gammaln(n - y + 1)


def frontier(e: Any, sv: Any, su: Any) -> Any:
    s = jnp.sqrt(sv**2 + su**2)
    return jnp.log(2.0) - jnp.log(s) + norm.logpdf(e / s) + norm.logcdf(-e * su / sv / s)


real, positive, nonnegative = mle.Real(), mle.Positive(), mle.NonNegative()
y_of = lambda d: d["y"]
MODELS = {
    "nb, alpha > 0": mle.model(mu=positive, alpha=positive)(
        lambda p, d: negative_binomial(y_of(d), p["mu"], p["alpha"])
    ),
    "nb, alpha >= 0": mle.model(mu=positive, alpha=nonnegative)(
        lambda p, d: negative_binomial(y_of(d), p["mu"], p["alpha"])
    ),
    "nb, theta": mle.model(mu=positive, theta=positive)(
        lambda p, d: negative_binomial(y_of(d), p["mu"], 1 / p["theta"])
    ),
    "nb, log alpha": mle.model(mu=positive, la=real)(
        lambda p, d: negative_binomial(y_of(d), p["mu"], jnp.exp(p["la"]))
    ),
    "nb regression": mle.model(b=mle.Real(shape=2), alpha=positive)(
        lambda p, d: negative_binomial(y_of(d), jnp.exp(p["b"][0] + p["b"][1] * d["x"]), p["alpha"])
    ),
    "t, df": mle.model(m=real, s=positive, df=positive)(lambda p, d: student(y_of(d), p["m"], p["s"], p["df"])),
    "t, log df": mle.model(m=real, s=positive, ld=real)(
        lambda p, d: student(y_of(d), p["m"], p["s"], jnp.exp(p["ld"]))
    ),
    "t, 1/df >= 0": mle.model(m=real, s=positive, k=nonnegative)(
        lambda p, d: student(y_of(d), p["m"], p["s"], 1 / p["k"])
    ),
    "beta-binomial, a and b": mle.model(a=positive, b=positive)(lambda p, d: beta_binomial(y_of(d), p["a"], p["b"])),
    "beta-binomial, rho": mle.model(q=mle.Interval(0, 1), rho=mle.Interval(0, 1))(
        lambda p, d: beta_binomial(y_of(d), p["q"] * (1 / p["rho"] - 1), (1 - p["q"]) * (1 / p["rho"] - 1))
    ),
    "modified normal": mle.model(m=real, s=positive, tau=positive)(
        lambda p, d: (
            -jnp.log(p["tau"])
            + 0.5 * (p["s"] / p["tau"]) ** 2
            - (y_of(d) - p["m"]) / p["tau"]
            + norm.logcdf((y_of(d) - p["m"]) / p["s"] - p["s"] / p["tau"])
        )
    ),
    "frontier, right skew": mle.model(b=real, sv=positive, su=nonnegative)(
        lambda p, d: frontier(y_of(d) - p["b"], p["sv"], p["su"])
    ),
    "frontier, no skew": mle.model(b=real, sv=positive, su=nonnegative)(
        lambda p, d: frontier(y_of(d) - p["b"], p["sv"], p["su"])
    ),
    "skew-normal": mle.model(loc=real, scale=positive, a=real)(
        lambda p, d: (
            jnp.log(2.0)
            + norm.logpdf(y_of(d), p["loc"], p["scale"])
            + norm.logcdf(p["a"] * (y_of(d) - p["loc"]) / p["scale"])
        )
    ),
    "uncentred line": mle.model(a=real, b=real, s=positive)(
        lambda p, d: norm.logpdf(y_of(d), p["a"] + p["b"] * d["x"], p["s"])
    ),
    "millionths": mle.model(a=real, b=real, s=positive)(
        lambda p, d: norm.logpdf(y_of(d), p["a"] + p["b"] * d["x"], p["s"])
    ),
    "generalised Pareto": mle.model(s=positive, xi=real)(
        lambda p, d: -jnp.log(p["s"]) - (1 + 1 / p["xi"]) * jnp.log(jnp.maximum(1 + p["xi"] * y_of(d) / p["s"], 1e-300))
    ),
    "extreme values": mle.model(loc=real, scale=positive, xi=real)(
        lambda p, d: mle.special.gev_logpdf(y_of(d), p["loc"], p["scale"], p["xi"])
    ),
}


def by_scipy(minus: Callable[[np.ndarray], float], starts: list[list[float]], limit: float = -np.inf) -> float:
    """The highest log-likelihood from several starts, or the limit."""
    options = {"maxiter": 4000, "maxfev": 8000, "xatol": 1e-8, "fatol": 1e-10}
    with np.errstate(all="ignore"):
        ends = [
            minimize(lambda q: float(np.nan_to_num(minus(q), nan=1e9)), x, method="Nelder-Mead", options=options)
            for x in starts
        ]
    return max(limit, *(-float(end.fun) for end in ends))


def normal(y: np.ndarray) -> float:
    """Log-likelihood of the normal at its maximum."""
    return float(stats.norm.logpdf(y, y.mean(), y.std()).sum())


def sample(kind: str, rng: np.random.Generator) -> dict[str, np.ndarray]:
    """A data set of the kind."""
    n, x = N_ROWS, rng.normal(size=N_ROWS)
    if kind == "nb regression":
        return {"x": x, "y": rng.poisson(np.exp(1 + 0.4 * x)).astype(float)}
    if kind.startswith("nb"):
        return {"y": rng.poisson(3.0, size=n).astype(float)}
    if kind.startswith("t,"):
        return {"y": rng.normal(2.0, 1.5, size=n)}
    if kind.startswith("beta"):
        return {"y": rng.binomial(10, 0.3, size=n).astype(float)}
    if kind.startswith("frontier"):
        return {"y": 1 + 0.6 * rng.normal(size=n) - (0.9 if "right" in kind else 0.0) * np.abs(rng.normal(size=n))}
    if kind == "uncentred line":
        x = x + 3e5 * rng.choice([1.0, 3.0])
        return {"x": x, "y": 1.0 + 0.5 * (x - x.mean()) + rng.normal(size=n)}
    if kind == "millionths":
        return {"x": 1e6 * x, "y": 1e-6 * (1 + 2 * x + rng.normal(size=n))}
    if kind == "generalised Pareto":
        return {"y": rng.exponential(2.0, size=n)}
    if kind == "extreme values":
        return {"y": rng.gumbel(30.0, 5.0, size=n)}
    return {"y": rng.normal(2.0, 1.5, size=n)}


def highest(kind: str, d: dict[str, np.ndarray]) -> float:
    """The highest log-likelihood, or its supremum, by scipy."""
    y = d["y"]
    if kind == "nb regression":
        X = np.column_stack([np.ones(len(y)), d["x"]])
        eta = lambda q: q[0] + q[1] * d["x"]
        poisson = -minimize(lambda q: -stats.poisson.logpmf(y, np.exp(X @ q)).sum(), [1.0, 0.4], tol=1e-10).fun
        nb = lambda q: (
            -stats.nbinom.logpmf(y, np.exp(q[2]), 1 / (1 + np.exp(eta(q) - q[2]))).sum() if q[2] < 12 else np.inf
        )
        return by_scipy(nb, [[1.0, 0.4, 2.0], [1.0, 0.4, 5.0]], poisson)
    if kind.startswith("nb"):
        nb = lambda q: (
            -stats.nbinom.logpmf(y, np.exp(q[1]), 1 / (1 + np.exp(q[0] - q[1]))).sum() if q[1] < 12 else np.inf
        )
        return by_scipy(nb, [[np.log(y.mean()), 2.0], [np.log(y.mean()), 5.0]], stats.poisson.logpmf(y, y.mean()).sum())
    if kind.startswith("t,"):
        t = lambda q: -stats.t.logpdf(y, np.exp(q[2]), q[0], np.exp(q[1])).sum() if q[2] < 12 else np.inf
        return by_scipy(t, [[y.mean(), np.log(y.std()), v] for v in (1.5, 3.0, 5.0)], normal(y))
    if kind.startswith("beta"):
        bb = lambda q: -stats.betabinom.logpmf(y, 10, *np.exp(q)).sum() if max(q) < 12 else np.inf
        q = y.mean() / 10
        return by_scipy(
            bb, [[np.log(q * m), np.log((1 - q) * m)] for m in (10, 100)], stats.binom.logpmf(y, 10, q).sum()
        )
    if kind == "modified normal":
        emg = lambda q: (
            -stats.exponnorm.logpdf(y, np.exp(q[2] - q[1]), q[0], np.exp(q[1])).sum() if q[2] > -4 else np.inf
        )
        return by_scipy(emg, [[y.mean() - t, np.log(y.std()), np.log(t)] for t in (0.3, 1.0)], normal(y))
    if kind.startswith("frontier") or kind == "skew-normal":
        most = 0.0 if kind.startswith("frontier") else np.inf
        skew = lambda q: -stats.skewnorm.logpdf(y, *q[:2], np.exp(q[2])).sum() if q[0] <= most else np.inf
        starts = [
            [a, y.mean() + c * y.std(), np.log(y.std())]
            for a in (-3.0, -1.0, 1.0, 3.0)
            for c in (-0.8, 0.8)
            if a <= most
        ]
        return by_scipy(skew, starts, normal(y))
    if kind in ("uncentred line", "millionths"):
        x = d["x"] - d["x"].mean()
        rest = y - y.mean() - x * (x @ y) / (x @ x)
        return float(stats.norm.logpdf(rest, 0.0, rest.std()).sum())
    if kind == "generalised Pareto":
        gp = lambda q: -stats.genpareto.logpdf(y, q[0], scale=np.exp(q[1])).sum()
        return by_scipy(
            gp, [[xi, np.log(y.mean())] for xi in (-0.2, 0.01, 0.3)], stats.expon.logpdf(y, scale=y.mean()).sum()
        )
    gev = lambda q: -stats.genextreme.logpdf(y, q[0], q[1], np.exp(q[2])).sum()
    return by_scipy(gev, [[c, np.median(y), np.log(y.std() * 0.7)] for c in (-0.2, 0.01, 0.2)])


@dataclass(frozen=True)
class Judged:
    """One fit: right, honest or untrue; its verdict, and how far from the truth its number is."""

    what: str
    code: str
    off: float


def judged(verdict: mle.Verdict, llf: float, truth: float) -> Judged:
    """What a fit is worth beside the truth; to ask a right function for its sign is untrue."""
    supremum = verdict.supremum
    if NEGATED in verdict.statement:
        return Judged("untrue", verdict.code, float("nan"))
    if verdict.converged:
        off = llf - truth
        what = "right" if -CLOSE <= off <= SUPREMUM else "untrue"
        return Judged(what, verdict.code, off)
    if supremum is not None:
        off = supremum - truth
        return Judged("right" if abs(off) <= SUPREMUM else "untrue", verdict.code, off)
    unbounded = verdict.code == "no_finite_maximum"
    return Judged("untrue" if unbounded else "honest", verdict.code, float("nan"))


def run(kind: str, n: int) -> dict[str, Any]:
    """All samples of a kind in one batch, and every fourth alone too."""
    rng = np.random.default_rng(sorted(MODELS).index(kind))
    sets = [sample(kind, rng) for _ in range(n)]
    truths = [highest(kind, d) for d in sets]
    model = MODELS[kind]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", mle.ConvergenceWarning)
        many = model.fit_batch({name: np.stack([d[name] for d in sets]) for name in sets[0]})
        found = {f"{i} in a batch": judged(many[i].verdict, float(many.llf[i]), truths[i]) for i in range(n)}
        for i in range(0, n, 4):
            one = model.fit(sets[i])
            found[f"{i}"] = judged(one.verdict, one.llf, truths[i])
    untrue = {name: [j.code, j.off] for name, j in found.items() if j.what == "untrue"}
    counts = collections.Counter(f"{j.what}: {j.code}" for j in found.values())
    right = sum(j.what == "right" for j in found.values())
    return {"fits": len(found), "right": right, "untrue": untrue, "counts": dict(counts)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--write", action="store_true", help="20 samples of each kind, kept in benchmarks/results/limits.json"
    )
    parser.add_argument("kinds", nargs="*", help="of these kinds only")
    options = parser.parse_args()
    n = N_SAMPLES if options.write else A_FEW
    found = {}
    for kind in options.kinds or MODELS:
        found[kind] = run(kind, n)
        print(f"{kind:24} {found[kind]['right']:4} of {found[kind]['fits']} right  {found[kind]['counts']}", flush=True)
    fits, right, untrue = (
        sum(len(f[k]) if k == "untrue" else f[k] for f in found.values()) for k in ("fits", "right", "untrue")
    )
    print(f"{fits} fits, {right} right ({right / fits:.1%}), {untrue} untrue")
    if options.write and not options.kinds:
        keep("limits", {**circumstances("scipy"), "fits": fits, "right": right, "untrue": untrue, "kinds": found})
        tables.paste("counts", tables.counts())


if __name__ == "__main__":
    main()
