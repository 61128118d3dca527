"""How often intervals cover and tests reject, beside what they should: 10,000 data sets and more of each kind.

    python benchmarks/calibration.py            # a twentieth of each
    python benchmarks/calibration.py --write    # all of them, kept in benchmarks/results/calibration.json

Every data set counts, with a verdict that is clean or not: one without an interval is one that does not cover.  The exact
probability of each procedure is known, at a small number of rows, from a distribution of its sufficient statistic, so that the
error of a study is binomial.  Every count is made three times: as it is, and with errors that are 5 % too small and too large,
which have to be found out.  (A coverage of 95 % moves by 1.2 % then.)
"""

import argparse
import itertools
import json
import math
import os
import sys
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax.scipy.stats import bernoulli, norm
from scipy import stats

sys.path.insert(0, str(Path(__file__).parent.parent))

import mlejax as mle
from benchmarks.recorded import RESULTS, circumstances, keep
from benchmarks.tables import TABLES, paste

CHUNKS, PLANTED = 20, (1.0, 0.95, 1.05)
FAR = 3.5  # binomial standard errors
Z, CUT, LEVEL = stats.norm.ppf(0.975), stats.chi2.ppf(0.95, 1), 0.05 + 1e-12

Counts = list[int]


@dataclass(frozen=True)
class Study:
    """One procedure.

    Attributes:
        covers: (a generator, number of data sets) -> flags (3, n): covered or not rejected, for each factor of `PLANTED`.
        exact: the probability of it.
        n_sets: data sets in all.
    """

    covers: Callable[[np.random.Generator, int], np.ndarray]
    exact: float
    n_sets: int = 20_000


@mle.model(rate=mle.Positive())
def exponential(params: Any, data: Any) -> Any:
    return jnp.log(params["rate"]) - params["rate"] * data["t"]


@mle.model(p=mle.Interval(0, 1))
def shares(params: Any, data: Any) -> Any:
    return bernoulli.logpmf(data["y"], params["p"])


@mle.model(mu=mle.Real(), sigma=mle.Positive())
def gaussian(params: Any, data: Any) -> Any:
    return norm.logpdf(data["y"], params["mu"], params["sigma"])


@mle.model(a=mle.Real(), b=mle.Real())
def two_groups(params: Any, data: Any) -> Any:
    """Least squares: the variances of the groups are not in the model."""
    return norm.logpdf(data["y"], params["a"] + params["b"] * data["x"], 1.0)


@mle.model(mu=mle.Real())
def mean(params: Any, data: Any) -> Any:
    return norm.logpdf(data["y"], params["mu"], 1.0)


@exponential.simulator
def _(key: Any, params: Any, data: Any) -> Any:
    import jax

    return {"t": jax.random.exponential(key, (data.n_rows,)) / params["rate"]}


# ---- how intervals and tests are counted


def covered(ends: Any, estimate: Any, truth: float, link: Callable[[Any], Any] = lambda x: x) -> np.ndarray:
    """Flags (3, n) of intervals that hold the truth, stretched about the estimate on the scale of their link."""
    with np.errstate(all="ignore"):
        low, high, at, true = (link(np.asarray(x, float)) for x in (ends["lower"], ends["upper"], estimate, truth))
        return np.array([(at + c * (low - at) <= true) & (true <= at + c * (high - at)) for c in PLANTED])


def not_rejected(statistic: Any) -> np.ndarray:
    """Flags (3, n) of chi-squared statistics with one degree of freedom below the 5 % point."""
    return np.array([np.asarray(statistic, float) / c**2 <= CUT for c in PLANTED])


def of_batch(
    fit: Callable[[np.random.Generator, int], mle.BatchResults],
    term: str,
    truth: float,
    link: Callable[[Any], Any] = lambda x: x,
    method: Any = "wald",
) -> Callable[[np.random.Generator, int], np.ndarray]:
    """Intervals of one entry in a batch."""

    def covers(rng: np.random.Generator, n: int) -> np.ndarray:
        many = fit(rng, n)
        ends = many.conf_int(method=method).xs(term, level="term")
        return covered(ends, many.params[term], truth, link)

    return covers


# ---- exponential: n rate mean is Gamma(n, 1)

N_EXP = 10


def exponentials(rng: np.random.Generator, n: int) -> mle.BatchResults:
    return exponential.fit_batch({"t": rng.exponential(size=(n, N_EXP))}, start={"rate": 1.0})


def between(statistic: Callable[[Any], Any], law: Any, cut: float, middle: float) -> float:
    """P(statistic(S) <= cut) for a statistic that falls to 0 at the middle and rises from there."""
    from scipy.optimize import brentq

    low, high = law.ppf(1e-14), law.ppf(1 - 1e-14)
    ends = [x if statistic(x) <= cut else brentq(lambda s: statistic(s) - cut, *sorted((x, middle))) for x in (low, high)]
    return float(law.cdf(ends[1]) - law.cdf(ends[0]))


def exponential_score(rng: np.random.Generator, n: int) -> np.ndarray:
    sets = rng.exponential(size=(n, N_EXP))
    return not_rejected([exponential.fit({"t": t}, fixed={"rate": 1.0}).score_test().statistic for t in sets])


def exponential_bootstrap(rng: np.random.Generator, n: int) -> np.ndarray:
    """p <= 5 % of 19 draws where none is larger: the statistic is a pivot, so that this has probability 1/20."""
    out = []
    for t in rng.exponential(size=(n, N_EXP)):
        full, null = exponential.fit({"t": t}), exponential.fit({"t": t}, fixed={"rate": 1.0})
        test = full.lr_test(null, bootstrap=19, seed=int(rng.integers(2**31)))
        out.append([test.pvalue > LEVEL, *(bool((test.statistic / c**2 <= test.replicates).any()) for c in PLANTED[1:])])
    return np.array(out).T


GAMMA = stats.gamma(N_EXP)
EXPONENTIAL = {
    "exponential rate, Wald": Study(
        of_batch(exponentials, "rate", 1.0, np.log),
        float(GAMMA.cdf(N_EXP * math.exp(Z / N_EXP**0.5)) - GAMMA.cdf(N_EXP * math.exp(-Z / N_EXP**0.5))),
    ),
    "exponential rate, profile": Study(
        of_batch(exponentials, "rate", 1.0, np.log, "profile"),
        between(lambda s: 2 * (N_EXP * np.log(N_EXP / s) - N_EXP + s), GAMMA, CUT, N_EXP),
    ),
    "exponential rate, score test": Study(
        exponential_score, between(lambda s: (N_EXP - s) ** 2 / N_EXP, GAMMA, CUT, N_EXP)
    ),
    "exponential rate, likelihood ratio by bootstrap": Study(exponential_bootstrap, 0.95, 10_000),
}


# ---- binomial: all numbers of successes

# Outcomes are few, so that the designs are some in which errors 5 % off move one across an end of the interval, both ways.
FOR_WALD, FOR_PROFILE = (20, 0.3), (40, 0.4)


def binomials(size: int, p: float) -> Callable[[np.random.Generator, int], mle.BatchResults]:
    return lambda rng, n: shares.fit_batch({"y": (rng.random((n, size)) < p).astype(float)}, start={"p": 0.5})


def enumerated(size: int, p: float, holds: Callable[[Any], Any]) -> float:
    k = np.arange(1, size)  # 0 and all have no finite maximum, hence no interval
    return float(stats.binom(size, p).pmf(k) @ holds(k / size))


def logit(p: Any) -> Any:
    return np.log(p) - np.log1p(-p)


def in_wald(share: Any) -> Any:
    n, p = FOR_WALD
    return np.abs(logit(share) - logit(p)) <= Z / np.sqrt(n * share * (1 - share))


def in_profile(share: Any) -> Any:
    n, p = FOR_PROFILE
    return 2 * n * (share * np.log(share / p) + (1 - share) * np.log((1 - share) / (1 - p))) <= CUT


BINOMIAL = {
    "binomial share, Wald": Study(
        of_batch(binomials(*FOR_WALD), "p", FOR_WALD[1], logit), enumerated(*FOR_WALD, in_wald)
    ),
    "binomial share, profile": Study(
        of_batch(binomials(*FOR_PROFILE), "p", FOR_PROFILE[1], logit, "profile"), enumerated(*FOR_PROFILE, in_profile)
    ),
}

# ---- normal: t of the mean, chi-squared of the variance

N_NORMAL = 8
T, CHI2 = stats.t(N_NORMAL - 1), stats.chi2(N_NORMAL - 1)


def normals(rng: np.random.Generator, n: int) -> mle.BatchResults:
    return gaussian.fit_batch({"y": rng.normal(size=(n, N_NORMAL))}, start={"mu": 0.0, "sigma": 1.0})


def normal_ratio(rng: np.random.Generator, n: int) -> np.ndarray:
    y = rng.normal(size=(n, N_NORMAL))
    full = gaussian.fit_batch({"y": y}, start={"mu": 0.0, "sigma": 1.0})
    null = gaussian.fit_batch({"y": y}, start={"sigma": 1.0}, fixed={"mu": 0.0})
    return not_rejected(2 * (full.llf - null.llf))


NORMAL = {
    "normal mean, likelihood ratio": Study(
        normal_ratio, float(1 - 2 * T.sf(math.sqrt((N_NORMAL - 1) * math.expm1(CUT / N_NORMAL))))
    ),
    "normal mean, Wald": Study(
        of_batch(normals, "mu", 0.0), float(1 - 2 * T.sf(Z * ((N_NORMAL - 1) / N_NORMAL) ** 0.5))
    ),
    "normal mean, profile": Study(
        of_batch(normals, "mu", 0.0, method="profile"),
        float(1 - 2 * T.sf(math.sqrt((N_NORMAL - 1) * math.expm1(CUT / N_NORMAL)))),
    ),
    "normal standard deviation, Wald": Study(
        of_batch(normals, "sigma", 1.0, np.log),
        float(np.diff(CHI2.cdf(N_NORMAL * np.exp(np.array([-2, 2]) * Z / math.sqrt(2 * N_NORMAL))))[0]),
    ),
    "normal standard deviation, profile": Study(
        of_batch(normals, "sigma", 1.0, np.log, "profile"),
        between(lambda w: N_NORMAL * (w / N_NORMAL - 1 - np.log(w / N_NORMAL)), CHI2, CUT, N_NORMAL),
    ),
}

# ---- two groups of unequal variances: the estimated variance is a sum of two chi-squares

ROWS, SPREADS = (6, 12), (2.0, 1.0)


def groups_of(kind: Any) -> Callable[[np.random.Generator, int], mle.BatchResults]:
    x = np.repeat([0.0, 1.0], ROWS)

    def fit(rng: np.random.Generator, n: int) -> mle.BatchResults:
        y = rng.normal(size=(n, x.size)) * np.repeat(SPREADS, ROWS)
        return two_groups.fit_batch({"y": y, "x": np.tile(x, (n, 1))}, start={"a": 0.0, "b": 0.0}, cov_type=kind)

    return fit


def welch(divisors: tuple[float, float]) -> float:
    """E P(|N(0, V)| <= z v^(1/2)) with V = sum s^2 / n and v = sum of squares over the divisors; at 2,000^2 quantiles."""
    V = sum(s**2 / n for s, n in zip(SPREADS, ROWS, strict=True))
    shares = (np.arange(2000) + 0.5) / 2000
    squares = [stats.chi2(n - 1).ppf(shares) * s**2 / d for s, n, d in zip(SPREADS, ROWS, divisors, strict=True)]
    return float(np.mean(1 - 2 * stats.norm.sf(Z * np.sqrt((squares[0][:, None] + squares[1]) / V))))


ROBUST = {
    f"difference of two groups, {kind}": Study(
        of_batch(groups_of(kind), "b", 0.0), welch((divide(ROWS[0]), divide(ROWS[1]))), n_sets
    )
    for kind, divide, n_sets in (
        ("HC0", lambda n: n * n, 20_000), ("HC2", lambda n: n * (n - 1), 10_000), ("HC3", lambda n: (n - 1) ** 2, 10_000)
    )
}  # fmt: skip

# ---- few clusters: the mean of 8 of them

G, SIZE = 8, 5
T_G, CLUSTERS = stats.t(G - 1), np.repeat(np.arange(G), SIZE)


def clustered(rng: np.random.Generator, n: int) -> np.ndarray:
    return (rng.normal(size=(n, G, 1)) + 0.5 * rng.normal(size=(n, G, SIZE))).reshape(n, -1)


def clusters_of(kind: Any) -> Callable[[np.random.Generator, int], mle.BatchResults]:
    def fit(rng: np.random.Generator, n: int) -> mle.BatchResults:
        data = {"y": clustered(rng, n), "g": np.tile(CLUSTERS, (n, 1))}
        return mean.fit_batch(data, start={"mu": 0.0}, cov_type=kind, cov_kwds={"groups": "g"})

    return fit


def wild(rng: np.random.Generator, n: int) -> np.ndarray:
    """All 256 signs: the statistics of w and -w are equal, so that p <= 5 % has probability 12/256."""
    options: dict[str, Any] = {"cov_type": "cluster", "cov_kwds": {"groups": CLUSTERS}, "bootstrap": 999}
    out = []
    for y in clustered(rng, n):
        test = mean.fit({"y": y}, fixed={"mu": 0.0}).score_test(**options)
        planted = [np.mean(test.replicates >= test.statistic / c**2 * (1 - 1e-10)) > LEVEL for c in PLANTED[1:]]
        out.append([test.pvalue > LEVEL, *planted])
    return np.array(out).T


FEW_CLUSTERS = {
    "mean of 8 clusters, cluster": Study(of_batch(clusters_of("cluster"), "mu", 0.0), float(1 - 2 * T_G.sf(Z))),
    "mean of 8 clusters, CR2": Study(of_batch(clusters_of("CR2"), "mu", 0.0), 0.95),
    "mean of 8 clusters, CR3": Study(
        of_batch(clusters_of("CR3"), "mu", 0.0), float(1 - 2 * T_G.sf(T_G.ppf(0.975) * math.sqrt(G / (G - 1))))
    ),
    "mean of 8 clusters, wild score bootstrap": Study(wild, 1 - 12 / 256, 10_000),
}

STUDIES = {**EXPONENTIAL, **BINOMIAL, **NORMAL, **ROBUST, **FEW_CLUSTERS}
SLOW = ("exponential rate, score test", "mean of 8 clusters, wild score bootstrap",
        "exponential rate, likelihood ratio by bootstrap")  # fmt: skip  # one data set at a time


# ---- a wrong law of random effects: 500 units, four binary outcomes each

UNITS, TIMES = 500, np.arange(4.0)
LAW = ((0.5, -1.5, -1.5), (0.5, 0.5, 1.5))  # probability, intercept and slope of two kinds of units; the model has one slope
PATTERNS = np.array(list(itertools.product((0.0, 1.0), repeat=TIMES.size)))
ROWS_OF_PATTERNS = {
    "id": np.repeat(np.arange(len(PATTERNS)), TIMES.size), "t": np.tile(TIMES, len(PATTERNS)), "y": PATTERNS.ravel()
}  # fmt: skip
WRONG_LAW, WRONG_SETS, POINTS = "a wrong law of random effects", 10_000, mle.Quadrature(31)


@mle.model(b0=mle.Real(), b1=mle.Real(), sd=mle.NonNegative(), u=mle.Latent(by="id"))
def intercepts(params: Any, data: Any) -> Any:
    eta = params["b0"] + params["b1"] * data["t"] + params["sd"] * params["u"]
    return mle.special.log_sigmoid(jnp.where(data["y"] > 0, eta, -eta))


def of_patterns() -> np.ndarray:
    """The true probability of each pattern of outcomes, (16,)."""
    total = np.zeros(len(PATTERNS))
    for share, a, b in LAW:
        p = 1 / (1 + np.exp(-(a + b * TIMES)))
        total += share * np.prod(np.where(PATTERNS > 0, p, 1 - p), axis=1)
    return total


def pseudo_truth() -> dict[str, float]:
    """Where the estimate goes: the fit to 2,000,000 units in which every pattern has its exact share."""
    weights = np.repeat(2e6 * of_patterns(), TIMES.size)
    options: Any = {"weight_kind": "importance", "start": {"b0": -1.0, "b1": 0.3, "sd": 4.0}, "integrate": POINTS}
    res = intercepts.fit(ROWS_OF_PATTERNS, weights=weights, **options)
    assert res.verdict.code == "verified"
    return {name: float(value) for name, value in res.params.items()}


def wrong_law(truth: dict[str, float], number: int, n: int) -> dict[str, dict[str, int]]:
    """Covered by sandwich and by model-based errors, of one chunk of n data sets."""
    rng = np.random.default_rng([1000, number])
    weights = np.repeat(rng.multinomial(UNITS, of_patterns(), size=n), TIMES.size, axis=1).astype(float)
    tiled = {key: np.tile(v, (n, 1)) for key, v in ROWS_OF_PATTERNS.items()}
    options: Any = {"weight_kind": "frequency", "start": truth, "integrate": POINTS}
    many = intercepts.fit_batch(tiled, weights=weights, **options)
    out = {}
    for kind in ("HC0", "nonrobust"):
        ends = many.with_cov(kind).conf_int()
        of = {name: ends.xs(name, level="term") for name in truth}
        out[kind] = {k: int(((e["lower"] <= truth[k]) & (truth[k] <= e["upper"])).sum()) for k, e in of.items()}
    return out


def study_wrong_law(n_chunks: int) -> dict[str, Any]:
    """The record: coverage of the pseudo-true values."""
    truth, n = pseudo_truth(), WRONG_SETS // CHUNKS
    chunks = [wrong_law(truth, number, n) for number in range(n_chunks)]
    found = {
        kind: {name: sum(c[kind][name] for c in chunks) / (n * n_chunks) for name in truth} for kind in chunks[0]
    }
    return {"truth": truth, "n_sets": n * n_chunks, "coverage": found, "chunks": chunks}


# ---- running


def chunk(name: str, number: int) -> list[Counts]:
    """Data sets that are covered, for each factor of the errors, and the number of data sets, of one of 20 chunks."""
    study, rng = STUDIES[name], np.random.default_rng([list(STUDIES).index(name), number])
    n = study.n_sets // CHUNKS
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of data sets without a maximum
        found = study.covers(rng, n)
    assert found.shape == (len(PLANTED), n)
    return [int(x) for x in found.sum(axis=1)]  # type: ignore[misc]


def off(covered: int, n: int, exact: float) -> float:
    """Binomial standard errors by which a count is off."""
    return float((covered - n * exact) / math.sqrt(n * exact * (1 - exact)))


def summed(name: str, chunks: list[Any]) -> dict[str, Any]:
    """The record of one study."""
    study = STUDIES[name]
    n, total = len(chunks) * (study.n_sets // CHUNKS), np.sum(chunks, axis=0)
    return {
        "exact": study.exact, "n_sets": n, "covered": [int(x) for x in total],
        "off": [round(off(int(x), n, study.exact), 2) for x in total], "chunks": chunks,
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--write", action="store_true")
    parser.add_argument("names", nargs="*", default=[name for name in STUDIES if name not in SLOW] + [WRONG_LAW, *SLOW])
    options, record = parser.parse_args(), {}
    kept = RESULTS / "calibration.json"
    if options.write and kept.exists():
        rows = json.loads(kept.read_text())["rows"]
        record = {row.pop("name"): row for row in rows if row["name"] in {*STUDIES, WRONG_LAW}}
    if WRONG_LAW in options.names:
        options.names.remove(WRONG_LAW)
        record[WRONG_LAW] = study_wrong_law(CHUNKS if options.write else 1)
        print(WRONG_LAW, record[WRONG_LAW]["coverage"], flush=True)
        write(record, options.write)
    for name in options.names:
        begin = time.perf_counter()
        chunks = [chunk(name, number) for number in range(CHUNKS if options.write else 1)]
        record[name] = one = summed(name, chunks)
        rate = one["covered"][0] / one["n_sets"]
        print(f"{name:50} exact {one['exact']:.4f}  found {rate:.4f} of {one['n_sets']:6}  off {one['off']}"
              f"  {time.perf_counter() - begin:.0f} s", flush=True)  # fmt: skip
        write(record, options.write)


def write(record: dict[str, Any], wanted: bool) -> None:
    """Keep the record as it is: the slow studies can be repeated by themselves."""
    if wanted:
        made_with = circumstances("scipy")
        rows = [{"name": name, **record[name]} for name in (*STUDIES, WRONG_LAW) if name in record]
        keep("calibration", {"factors_of_errors": list(PLANTED), "rows": rows, "made_with": made_with})
        paste("calibration", TABLES["calibration"](rows))


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    main()
