"""Families of scipy.stats without a start: 100 rows, written as in a textbook, from regular samples and from their limits.

    python benchmarks/families.py            # 2 samples of each, regular and at the limit
    python benchmarks/families.py --write    # 10 and 10, kept in benchmarks/results/families.json

The truth is scipy's: the highest log-likelihood of scipy's own ``logpdf`` that L-BFGS-B and Nelder and Mead find from 20 starts,
the true values among them, or that of the family at the limit (a normal for Student's t), whichever is higher.  What is
*right*, *honest* and *untrue* is said in ``limits.py``; a maximum higher than the one that scipy found is right where scipy's
``logpdf`` gives the same number there, and a lower one is counted as such where scipy's ``logpdf`` has a maximum there too.
"""

import argparse
import collections
import json
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from jax.scipy.special import erf, gammaln, i0e, log_ndtr
from jax.scipy.stats import norm
from scipy import stats
from scipy.optimize import minimize

sys.path.insert(0, str(Path(__file__).parent.parent))

import mlejax as mle
from benchmarks import tables
from benchmarks.limits import Judged, judged
from benchmarks.recorded import RESULTS, circumstances, keep
from mlejax.special import betaln  # JAX's is wrong by up to 1e-6

N_SAMPLES, A_FEW, N_ROWS, N_STARTS, ONE = 10, 2, 100, 20, 5
CLOSE, A_RISE = 1e-6, 1e-5
P, R = "positive", "real"
KINDS = {P: mle.Positive(), R: mle.Real()}


class Family(NamedTuple):
    """One family of scipy's.

    Attributes:
        shapes: names of its shapes in scipy's order, with their support.
        true: their values in a regular sample.
        where: "line" (location and scale), "half" (scale), "unit" (neither).
        log_density: of z = (y - location) / scale, given the shapes.
        limit: scipy's name of the simplest family that it has as a limit, and that family's shapes.
    """

    shapes: dict[str, str]
    true: tuple[float, ...]
    where: str
    log_density: Callable[..., Any]
    limit: tuple[str, tuple[float, ...]] | None = None


half_log_2pi = 0.5 * np.log(2 * np.pi)
FAMILIES = {
    # ---- on the line
    "norm": Family({}, (), "line", lambda z: -0.5 * z**2 - half_log_2pi),
    "logistic": Family({}, (), "line", lambda z: -z - 2 * jnp.log1p(jnp.exp(-z))),
    "gumbel_r": Family({}, (), "line", lambda z: -z - jnp.exp(-z)),
    "gumbel_l": Family({}, (), "line", lambda z: z - jnp.exp(z)),
    "cauchy": Family({}, (), "line", lambda z: -jnp.log(jnp.pi) - jnp.log1p(z**2)),
    "hypsecant": Family({}, (), "line", lambda z: -jnp.log(jnp.pi * jnp.cosh(z))),
    "moyal": Family({}, (), "line", lambda z: -0.5 * (z + jnp.exp(-z)) - half_log_2pi),
    "t": Family(
        {"df": P}, (4.0,), "line",
        lambda z, v: gammaln((v + 1) / 2) - gammaln(v / 2) - 0.5 * jnp.log(v * jnp.pi) - (v + 1) / 2 * jnp.log1p(z**2 / v),
        ("norm", ()),
    ),
    "skewnorm": Family(
        {"a": R}, (4.0,), "line", lambda z, a: jnp.log(2.0) + norm.logpdf(z) + log_ndtr(a * z), ("norm", ())
    ),
    "exponnorm": Family(
        {"K": P}, (2.0,), "line", lambda z, k: -jnp.log(k) + 0.5 / k**2 - z / k + log_ndtr(z - 1 / k), ("norm", ())
    ),
    "genlogistic": Family(
        {"c": P}, (2.0,), "line", lambda z, c: jnp.log(c) - z - (c + 1) * jnp.log1p(jnp.exp(-z)), ("gumbel_r", ())
    ),
    "johnsonsu": Family(
        {"a": R, "b": P}, (-1.0, 1.5), "line",
        lambda z, a, b: jnp.log(b) - 0.5 * jnp.log(z**2 + 1) + norm.logpdf(a + b * jnp.log(z + jnp.sqrt(z**2 + 1))),
        ("norm", ()),
    ),
    "loggamma": Family({"c": P}, (1.5,), "line", lambda z, c: c * z - jnp.exp(z) - gammaln(c), ("norm", ())),
    "powernorm": Family({"c": P}, (3.0,), "line", lambda z, c: jnp.log(c) + norm.logpdf(z) + (c - 1) * norm.logcdf(-z)),
    "jf_skew_t": Family(
        {"a": P, "b": P}, (6.0, 2.5), "line",
        lambda z, a, b: (
            (a + 0.5) * jnp.log1p(z / jnp.sqrt(a + b + z**2))
            + (b + 0.5) * jnp.log1p(-z / jnp.sqrt(a + b + z**2))
            - (a + b - 1) * jnp.log(2.0) - betaln(a, b) - 0.5 * jnp.log(a + b)
        ),
        # no samples of a limit: that of a to infinity at a fixed b is above the normal, and scipy overflows on the way
    ),
    "genextreme": Family(
        {"c": R}, (-0.2,), "line",
        lambda z, c: -((1 - c * z) ** (1 / c)) + (1 / c - 1) * jnp.log(1 - c * z),
        ("gumbel_r", ()),
    ),
    # ---- on a half-line
    "expon": Family({}, (), "half", lambda z: -z),
    "rayleigh": Family({}, (), "half", lambda z: jnp.log(z) - 0.5 * z**2),
    "maxwell": Family({}, (), "half", lambda z: 0.5 * jnp.log(2 / jnp.pi) + 2 * jnp.log(z) - 0.5 * z**2),
    "halfnorm": Family({}, (), "half", lambda z: 0.5 * jnp.log(2 / jnp.pi) - 0.5 * z**2),
    "halfcauchy": Family({}, (), "half", lambda z: jnp.log(2 / jnp.pi) - jnp.log1p(z**2)),
    "halflogistic": Family({}, (), "half", lambda z: jnp.log(2.0) - z - 2 * jnp.log1p(jnp.exp(-z))),
    "levy": Family({}, (), "half", lambda z: -half_log_2pi - 1.5 * jnp.log(z) - 0.5 / z),
    "gamma": Family({"a": P}, (2.5,), "half", lambda z, a: (a - 1) * jnp.log(z) - z - gammaln(a)),
    "invgamma": Family({"a": P}, (3.0,), "half", lambda z, a: -(a + 1) * jnp.log(z) - 1 / z - gammaln(a)),
    "weibull_min": Family({"c": P}, (2.0,), "half", lambda z, c: jnp.log(c) + (c - 1) * jnp.log(z) - z**c),
    "invweibull": Family({"c": P}, (3.0,), "half", lambda z, c: jnp.log(c) - (c + 1) * jnp.log(z) - z ** (-c)),
    "lognorm": Family({"s": P}, (0.7,), "half", lambda z, s: norm.logpdf(jnp.log(z) / s) - jnp.log(s * z)),
    "fisk": Family({"c": P}, (3.0,), "half", lambda z, c: jnp.log(c) + (c - 1) * jnp.log(z) - 2 * jnp.log1p(z**c)),
    "invgauss": Family(
        {"mu": P}, (0.8,), "half", lambda z, m: -half_log_2pi - 1.5 * jnp.log(z) - (z - m) ** 2 / (2 * z * m**2)
    ),
    "recipinvgauss": Family(
        {"mu": P}, (0.8,), "half", lambda z, m: -half_log_2pi - 0.5 * jnp.log(z) - (1 - m * z) ** 2 / (2 * z * m**2)
    ),
    "nakagami": Family(
        {"nu": P}, (1.8,), "half",
        lambda z, v: jnp.log(2.0) + v * jnp.log(v) - gammaln(v) + (2 * v - 1) * jnp.log(z) - v * z**2,
    ),
    "chi": Family(
        {"df": P}, (4.0,), "half",
        lambda z, v: jnp.log(2.0) - v / 2 * jnp.log(2.0) - gammaln(v / 2) + (v - 1) * jnp.log(z) - z**2 / 2,
    ),
    "rice": Family(
        {"b": P}, (2.0,), "half",
        lambda z, b: jnp.log(z) - 0.5 * (z - b) ** 2 + jnp.log(i0e(z * b)),
        ("rayleigh", ()),
    ),
    "foldnorm": Family(
        {"c": P}, (2.0,), "half",
        lambda z, c: 0.5 * jnp.log(2 / jnp.pi) + jnp.log(jnp.cosh(c * z)) - 0.5 * (z**2 + c**2),
        ("halfnorm", ()),
    ),
    "foldcauchy": Family(
        {"c": P}, (3.0,), "half",
        lambda z, c: jnp.log(1 / (1 + (z - c) ** 2) + 1 / (1 + (z + c) ** 2)) - jnp.log(jnp.pi),
        ("halfcauchy", ()),
    ),
    "lomax": Family({"c": P}, (2.5,), "half", lambda z, c: jnp.log(c) - (c + 1) * jnp.log1p(z), ("expon", ())),
    "genpareto": Family({"c": R}, (0.3,), "half", lambda z, c: -(1 + 1 / c) * jnp.log1p(c * z), ("expon", ())),
    "burr": Family(
        {"c": P, "d": P}, (3.0, 1.5), "half",
        lambda z, c, d: jnp.log(c * d) - (c + 1) * jnp.log(z) - (d + 1) * jnp.log1p(z ** (-c)),
        ("invweibull", (3.0,)),
    ),
    "burr12": Family(
        {"c": P, "d": P}, (3.0, 1.5), "half",
        lambda z, c, d: jnp.log(c * d) + (c - 1) * jnp.log(z) - (d + 1) * jnp.log1p(z**c),
        ("weibull_min", (2.0,)),
    ),
    "mielke": Family(
        {"k": P, "s": P}, (2.5, 3.5), "half",
        lambda z, k, s: jnp.log(k) + (k - 1) * jnp.log(z) - (1 + k / s) * jnp.log1p(z**s),
        ("invweibull", (3.0,)),
    ),
    "gengamma": Family(
        {"a": P, "c": P}, (2.0, 1.5), "half",
        lambda z, a, c: jnp.log(c) + (c * a - 1) * jnp.log(z) - z**c - gammaln(a),
        ("lognorm", (0.7,)),
    ),
    "exponweib": Family(
        {"a": P, "c": P}, (2.0, 1.5), "half",
        lambda z, a, c: (
            jnp.log(a) + jnp.log(c) + (a - 1) * jnp.log(-jnp.expm1(-(z**c))) - z**c + (c - 1) * jnp.log(z)
        ),
        ("weibull_min", (2.0,)),
    ),
    "exponpow": Family(
        {"b": P}, (2.0,), "half", lambda z, b: 1 + jnp.log(b) + (b - 1) * jnp.log(z) + z**b - jnp.exp(z**b)
    ),
    "gompertz": Family({"c": P}, (0.5,), "half", lambda z, c: jnp.log(c) + z - c * (jnp.exp(z) - 1), ("expon", ())),
    "fatiguelife": Family(
        {"c": P}, (0.8,), "half",
        lambda z, c: jnp.log(z + 1) - jnp.log(2 * c) - half_log_2pi - 1.5 * jnp.log(z) - (z - 1) ** 2 / (2 * z * c**2),
    ),
    "f": Family(
        {"m": P, "n": P}, (5.0, 8.0), "half",
        lambda z, m, n: (
            m / 2 * jnp.log(m / n) + (m / 2 - 1) * jnp.log(z) - (m + n) / 2 * jnp.log1p(m / n * z) - betaln(m / 2, n / 2)
        ),
        ("gamma", (2.5,)),
    ),
    "betaprime": Family(
        {"a": P, "b": P}, (3.0, 4.0), "half",
        lambda z, a, b: (a - 1) * jnp.log(z) - (a + b) * jnp.log1p(z) - betaln(a, b),
        ("gamma", (2.5,)),
    ),
    "kappa3": Family(
        {"a": P}, (2.0,), "half", lambda z, a: jnp.log(a) - (a + 1) / a * jnp.log(a + z**a)
    ),
    "powerlognorm": Family(
        {"c": P, "s": P}, (2.0, 0.7), "half",
        lambda z, c, s: (
            jnp.log(c) - jnp.log(z * s) + norm.logpdf(jnp.log(z) / s) + (c - 1) * norm.logcdf(-jnp.log(z) / s)
        ),
        ("lognorm", (0.7,)),
    ),
    "alpha": Family(
        {"a": P}, (2.0,), "half",
        lambda z, a: -2 * jnp.log(z) - norm.logcdf(a) + norm.logpdf(a - 1 / z),
    ),
    # ---- on the unit interval
    "beta": Family(
        {"a": P, "b": P}, (2.0, 3.0), "unit",
        lambda z, a, b: (a - 1) * jnp.log(z) + (b - 1) * jnp.log1p(-z) - betaln(a, b),
    ),
    "powerlaw": Family({"a": P}, (2.5,), "unit", lambda z, a: jnp.log(a) + (a - 1) * jnp.log(z)),
    "bradford": Family(
        {"c": P}, (3.0,), "unit", lambda z, c: jnp.log(c) - jnp.log1p(c * z) - jnp.log(jnp.log1p(c)), ("uniform", ())
    ),
    "johnsonsb": Family(
        {"a": R, "b": P}, (0.5, 1.2), "unit",
        lambda z, a, b: jnp.log(b) - jnp.log(z * (1 - z)) + norm.logpdf(a + b * jnp.log(z / (1 - z))),
    ),
    "argus": Family(
        {"chi": P}, (2.0,), "unit",
        lambda z, c: (
            3 * jnp.log(c) - half_log_2pi - jnp.log(0.5 * erf(c / jnp.sqrt(2.0)) - c * jnp.exp(norm.logpdf(c)))
            + jnp.log(z) + 0.5 * jnp.log1p(-(z**2)) - 0.5 * c**2 * (1 - z**2)
        ),
    ),
}  # fmt: skip
LOCATION, SCALE = 10.0, 3.0


def model_of(name: str) -> mle.Model:
    """The family with its shapes, a location on the line, and a scale but on the unit interval."""
    family = FAMILIES[name]
    declared = {shape: KINDS[kind] for shape, kind in family.shapes.items()}
    if family.where == "line":
        declared["loc"] = mle.Real()
    if family.where != "unit":
        declared["scale"] = mle.Positive()

    @mle.model(params=declared)
    def density(q: Any, data: Any) -> Any:
        z = (data["y"] - q.get("loc", 0.0)) / q.get("scale", 1.0)
        return family.log_density(z, *(q[shape] for shape in family.shapes)) - jnp.log(q.get("scale", 1.0))

    return density


def arguments(name: str, q: Any) -> tuple[float, ...]:
    """(shapes, location, scale) as scipy's from the parameters in the model's order."""
    n = len(FAMILIES[name].shapes)
    where = FAMILIES[name].where
    return (*q[:n], q[n] if where == "line" else 0.0, q[-1] if where != "unit" else 1.0)


def drawn(name: str, shapes: tuple[float, ...], where: str, n: int, seed: int) -> np.ndarray:
    """n samples of 100 rows."""
    at = {"line": (LOCATION, SCALE), "half": (0.0, SCALE), "unit": (0.0, 1.0)}[where]
    return np.asarray(
        getattr(stats, name).rvs(*shapes, *at, size=(n, N_ROWS), random_state=np.random.default_rng(seed))
    )


def highest(name: str, y: np.ndarray, true: tuple[float, ...]) -> float:
    """The highest stationary point of scipy's log-likelihood from 20 starts, in logarithms of what is positive."""
    family = FAMILIES[name]
    kinds = [
        *family.shapes.values(),
        *([R] if family.where == "line" else []),
        *([P] if family.where != "unit" else []),
    ]
    positive = np.array([kind == P for kind in kinds])
    to_natural = lambda u: np.where(positive, np.exp(np.where(positive, u, 0.0)), u)
    logpdf = getattr(stats, name).logpdf

    def minus(u: np.ndarray) -> float:
        if (np.abs(u[positive]) > 12).any():
            return 1e9  # scipy's own formulas lose their digits there
        return float(np.nan_to_num(-logpdf(y, *arguments(name, to_natural(u))).sum(), nan=1e9, posinf=1e9))

    full = [*true, *([LOCATION] if family.where == "line" else []), *([SCALE] if family.where != "unit" else [])]
    u0 = np.where(positive, np.log(np.where(positive, full, 1.0)), full)
    spread = np.where(positive, 0.7, 0.5 + 0.3 * np.abs(full))
    rng, best = np.random.default_rng(0), np.inf
    for k in range(N_STARTS):
        start = u0 + (k > 0) * spread * rng.normal(size=u0.size)
        end = minimize(minus, start, method="L-BFGS-B")
        best = min(best, end.fun) if end.fun < 1e8 else best
    for start in (u0, u0 + 0.3):
        end = minimize(minus, start, method="Nelder-Mead", options={"maxiter": 1500, "xatol": 1e-8, "fatol": 1e-10})
        best = min(best, end.fun)
    return -best


def is_a_maximum(name: str, y: np.ndarray, q: list[float]) -> bool:
    """Whether scipy's log-likelihood has a maximum there, as far as Nelder and Mead find nothing higher nearby."""
    minus = lambda x: float(
        np.nan_to_num(-getattr(stats, name).logpdf(y, *arguments(name, x)).sum(), nan=1e9, posinf=1e9)
    )
    return bool(
        minus(q) - minimize(minus, q, method="Nelder-Mead", options={"xatol": 1e-9, "fatol": 1e-11}).fun < A_RISE
    )


def truth(name: str, y: np.ndarray) -> float:
    """Of one sample: the highest of the family and of its limit."""
    family = FAMILIES[name]
    own = highest(name, y, family.true)
    if family.limit is None or family.limit[0] == "uniform":
        return max(own, 0.0) if family.limit is not None else own
    return max(own, highest(family.limit[0], y, family.limit[1]))


def run(name: str, n: int) -> dict[str, Any]:
    """Regular samples and samples of the limit, each in one batch, and every fifth alone too."""
    family, model, out = FAMILIES[name], model_of(name), {}
    numbers = {"regular": (name, family.true)} | ({"limit": family.limit} if family.limit is not None else {})
    for kind, (source, shapes) in numbers.items():
        y = drawn(source, shapes, family.where, n, 7 + sorted(FAMILIES).index(name))
        found: dict[str, Judged] = {}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", mle.ConvergenceWarning)
            many = model.fit_batch({"y": y})
            results = {f"{i} in a batch": many[i] for i in range(n)} | {
                f"{i}": model.fit({"y": y[i]}) for i in range(0, n, ONE)
            }
        truths = [truth(name, y[i]) for i in range(n)]
        for label, res in results.items():
            i = int(label.split()[0])
            llf = res.llf
            with np.errstate(all="ignore"):  # a higher point counts at scipy's own density
                there = float(getattr(stats, name).logpdf(y[i], *arguments(name, list(res.params))).sum())
            level = max(truths[i], there) if abs(there - llf) <= CLOSE * max(1.0, abs(there)) else truths[i]
            found[label] = judged(res.verdict, llf, level)
            lower = res.verdict.converged and llf < level - CLOSE
            if lower and is_a_maximum(name, y[i], list(res.params)):  # "a local maximum" is what the verdict says
                found[label] = Judged("a lower maximum", res.verdict.code, llf - level)
        out[kind] = {
            "fits": len(found),
            "right": sum(j.what == "right" for j in found.values()),
            "untrue": {k: [j.code, j.off] for k, j in found.items() if j.what == "untrue"},
            "counts": dict(collections.Counter(f"{j.what}: {j.code}" for j in found.values())),
        }
    return out


def summed(families: dict[str, Any]) -> dict[str, Any]:
    """Numbers of fits over all families, of regular samples and of those at the limit."""
    out = {}
    for kind in ("regular", "limit"):
        each = [f[kind] for f in families.values() if kind in f]
        right, untrue = sum(f["right"] for f in each), sum(len(f["untrue"]) for f in each)
        out[kind] = {"fits": sum(f["fits"] for f in each), "right": right, "untrue": untrue}
    return out


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--write", action="store_true", help="10 samples of each, kept in benchmarks/results/families.json"
    )
    parser.add_argument("families", nargs="*", help="of these families only; the record keeps the others")
    options = parser.parse_args()
    record = RESULTS / "families.json"
    n, found = N_SAMPLES if options.write else A_FEW, {}
    for name in options.families or FAMILIES:
        found[name] = run(name, n)
        for kind, f in found[name].items():
            print(
                f"{name:14} {kind:8} {f['right']:3} of {f['fits']:3} right  {f['counts']}  {f['untrue'] or ''}",
                flush=True,
            )
        if options.write:
            before = json.loads(record.read_text())["families"] if record.exists() else {}
            now = {key: (before | found)[key] for key in FAMILIES if key in before | found}
            keep("families", {**circumstances("scipy"), **summed(now), "families": now})
            tables.paste("counts", tables.counts())
    for kind, f in summed(found).items():
        print(
            f"{kind}: {f['fits']} fits, {f['right']} right ({f['right'] / max(f['fits'], 1):.1%}), {f['untrue']} untrue"
        )


if __name__ == "__main__":
    main()
