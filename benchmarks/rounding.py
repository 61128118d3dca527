"""Batched fits of formulas that lose their digits: does a clean verdict ever stand on noise?

    python benchmarks/rounding.py            # 10 data sets of each kind
    python benchmarks/rounding.py --write    # 100 of each, kept in benchmarks/results/rounding.json

Each data set is drawn where a textbook formula is in danger, and is fitted twice in a batch: by that formula, and by the form of
`mle.special` that keeps its digits (right to 1e-12 against mpmath, `tests/special/densities/test_special_densities.py`).  A fit
by the textbook formula is a *miss* if its verdict is clean and the log-likelihood is off by more than 0.01, or a standard error
by more than 1 %, or the other form has no maximum there.
"""

import argparse
import sys
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax.scipy.special import gammaln

sys.path.insert(0, str(Path(__file__).parent.parent))

import mlejax as mle
from benchmarks import tables
from benchmarks.limits import beta_binomial, negative_binomial, student
from benchmarks.recorded import circumstances, keep
from mlejax import special

N_ROWS, MANY, A_FEW = 100, 100, 10
CLOSE, SE = 0.01, 0.01

Formula = Callable[[Any, Any], Any]


@dataclass(frozen=True)
class Kind:
    """One family near its limit.

    Attributes:
        declared: the parameters.
        textbook, stable: the log-density of the outcome at the parameters, in two forms.
        draw: a data set of n rows.
    """

    declared: dict[str, Any]
    textbook: Formula
    stable: Formula
    draw: Callable[[np.random.Generator, int], np.ndarray]


def gamma_textbook(y: Any, mean: Any, shape: Any) -> Any:
    return shape * jnp.log(shape / mean) - gammaln(shape) + (shape - 1) * jnp.log(y) - shape * y / mean


def generalised_pareto(y: Any, s: Any, xi: Any) -> Any:
    return -jnp.log(s) - (1 + 1 / xi) * jnp.log(jnp.maximum(1 + xi * y / s, 1e-300))


def extreme_value(y: Any, loc: Any, s: Any, xi: Any) -> Any:
    t = jnp.maximum(1 + xi * (y - loc) / s, 1e-300)
    return -jnp.log(s) - (1 + 1 / xi) * jnp.log(t) - t ** (-1 / xi)


def power_normal(y: Any, m: Any, s: Any, lam: Any) -> Any:
    z = ((y**lam - 1) / lam - m) / s
    return -0.5 * z * z - jnp.log(s) - 0.5 * jnp.log(2 * jnp.pi) + (lam - 1) * jnp.log(y)


def power_normal_stable(y: Any, m: Any, s: Any, lam: Any) -> Any:
    z = (special.boxcox(y, lam) - m) / s
    return -0.5 * z * z - jnp.log(s) - 0.5 * jnp.log(2 * jnp.pi) + special.boxcox_logjac(y, lam)


real, positive, nonnegative, share = mle.Real(), mle.Positive(), mle.NonNegative(), mle.Interval(0, 1)
poisson = lambda rng, n: rng.poisson(3.0, n).astype(float)
normal = lambda rng, n: rng.normal(2.0, 1.5, n)
binomial = lambda rng, n: rng.binomial(10, 0.3, n).astype(float)
KINDS = {
    "nb, alpha > 0": Kind(
        {"mu": positive, "alpha": positive},
        lambda p, y: negative_binomial(y, p["mu"], p["alpha"]),
        lambda p, y: special.nb2_logpmf(y, p["mu"], p["alpha"]),
        poisson,
    ),
    "nb, alpha >= 0": Kind(
        {"mu": positive, "alpha": nonnegative},
        lambda p, y: negative_binomial(y, p["mu"], p["alpha"]),
        lambda p, y: special.nb2_logpmf(y, p["mu"], p["alpha"]),
        poisson,
    ),
    "nb, log alpha": Kind(
        {"mu": positive, "la": real},
        lambda p, y: negative_binomial(y, p["mu"], jnp.exp(p["la"])),
        lambda p, y: special.nb2_logpmf(y, p["mu"], jnp.exp(p["la"])),
        poisson,
    ),
    "t, df": Kind(
        {"m": real, "s": positive, "df": positive},
        lambda p, y: student(y, p["m"], p["s"], p["df"]),
        lambda p, y: special.t_logpdf(y, p["df"], p["m"], p["s"]),
        normal,
    ),
    "t, log df": Kind(
        {"m": real, "s": positive, "ld": real},
        lambda p, y: student(y, p["m"], p["s"], jnp.exp(p["ld"])),
        lambda p, y: special.t_logpdf(y, jnp.exp(p["ld"]), p["m"], p["s"]),
        normal,
    ),
    "t, 1/df >= 0": Kind(
        {"m": real, "s": positive, "k": nonnegative},
        lambda p, y: student(y, p["m"], p["s"], 1 / p["k"]),
        lambda p, y: special.t_logpdf_inverse(y, p["k"], p["m"], p["s"]),
        normal,
    ),
    "beta-binomial, rho": Kind(
        {"q": share, "rho": share},
        lambda p, y: beta_binomial(y, p["q"] * (1 / p["rho"] - 1), (1 - p["q"]) * (1 / p["rho"] - 1)),
        lambda p, y: special.betabinom_logpmf(y, 10.0, p["q"], p["rho"]),
        binomial,
    ),
    "gamma, large shape": Kind(
        {"mean": positive, "shape": positive},
        lambda p, y: gamma_textbook(y, p["mean"], p["shape"]),
        lambda p, y: special.gamma_logpdf(y, p["mean"], p["shape"]),
        lambda rng, n: 5.0 + 10.0 ** rng.uniform(-7.0, -1.0) * rng.normal(size=n),
    ),
    "generalised Pareto": Kind(
        {"s": positive, "xi": real},
        lambda p, y: generalised_pareto(y, p["s"], p["xi"]),
        lambda p, y: special.gpd_logpdf(y, p["s"], p["xi"]),
        lambda rng, n: rng.exponential(2.0, n),
    ),
    "extreme values": Kind(
        {"loc": real, "s": positive, "xi": real},
        lambda p, y: extreme_value(y, p["loc"], p["s"], p["xi"]),
        lambda p, y: special.gev_logpdf(y, p["loc"], p["s"], p["xi"]),
        lambda rng, n: rng.gumbel(3.0, 1.0, n),
    ),
    "power normal": Kind(
        {"m": real, "s": positive, "lam": real},
        lambda p, y: power_normal(y, p["m"], p["s"], p["lam"]),
        lambda p, y: power_normal_stable(y, p["m"], p["s"], p["lam"]),
        lambda rng, n: np.exp(rng.normal(0.5, 0.4, n)),
    ),
}


def fitted(declared: dict[str, Any], formula: Formula, ys: np.ndarray) -> Any:
    """All data sets in one batch."""
    model = mle.model(**declared)(lambda p, d: formula(p, d["y"]))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return model.fit_batch({"y": ys})


def run(name: str, n: int) -> dict[str, Any]:
    """Counts of verdicts by the textbook formula, and the misses among them."""
    kind = KINDS[name]
    rng = np.random.default_rng(sorted(KINDS).index(name))
    ys = np.stack([kind.draw(rng, N_ROWS) for _ in range(n)])
    begun = time.process_time()
    usual = fitted(kind.declared, kind.textbook, ys)
    spent = time.process_time() - begun
    right = fitted(kind.declared, kind.stable, ys)
    codes, other = np.array(usual.verdict), np.array(right.verdict)
    clean = np.isin(codes, ("verified", "boundary"))
    a, b = np.asarray(usual.bse, float), np.asarray(right.bse, float)
    with np.errstate(invalid="ignore", divide="ignore"):
        off = np.where(np.isnan(a) & np.isnan(b), 0.0, np.abs(a / b - 1.0)).max(axis=1)
    llf = np.abs(np.asarray(usual.llf) - np.asarray(right.llf))
    none = ~np.isin(other, ("verified", "boundary"))
    missed = np.flatnonzero(clean & (none | ~(llf <= CLOSE) | ~(off <= SE)))
    return {
        "fits": n,
        "codes": {code: int((codes == code).sum()) for code in sorted(set(codes))},
        "by the stable form": {code: int((other == code).sum()) for code in sorted(set(other))},
        "misses": {int(i): [codes[i], other[i], float(llf[i]), float(off[i])] for i in missed},
        "cpu_seconds": round(spent, 1),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--write", action="store_true", help="100 data sets of each kind, kept in benchmarks/results/rounding.json"
    )
    parser.add_argument("kinds", nargs="*", help="of these kinds only")
    options = parser.parse_args()
    n = MANY if options.write else A_FEW
    found: dict[str, Any] = {}
    for name in options.kinds or KINDS:
        found[name] = run(name, n)
        print(name, found[name], flush=True)
        fits, misses = sum(f["fits"] for f in found.values()), sum(len(f["misses"]) for f in found.values())
        if options.write:  # kind by kind, since all take long
            keep("rounding", {**circumstances(), "fits": fits, "misses": misses, "kinds": found})
            tables.paste("counts", tables.counts())
    print(f"{fits} fits, {misses} misses")


if __name__ == "__main__":
    main()
