"""Many data sets in one call against loops over other programs: answers compared before times, one table.

    python benchmarks/batch.py                     # all questions; JSON with --write
    python benchmarks/batch.py logits ragged       # some of them
    python benchmarks/batch.py --small             # a tenth of the data sets, to see that it works

One core (the last of those that may be used), but for the row that says so.  Tools take turns, several rounds after one that
is not counted (compilation); the table gives medians and ranges.  Loops over statsmodels and SciPy run over some of the data
sets and are scaled to all; the table says over how many.
"""

import argparse
import json
import os
import platform
import subprocess
import sys
import time
import warnings
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from statistics import median
from typing import Any

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("questions", nargs="*", help="logits cores weibull bad bootstrap ragged; all if none")
parser.add_argument("--rounds", type=int, default=7)
parser.add_argument(
    "--clock", choices=("wall", "cpu"), default="wall", help="cpu: the process's own time, where others work"
)
parser.add_argument("--small", action="store_true")
parser.add_argument("--cores", type=int, default=1, help=argparse.SUPPRESS)
parser.add_argument(
    "--half", type=int, choices=(0, 1), help=argparse.SUPPRESS
)  # of the data sets, on a core of its own
parser.add_argument("--timing", action="store_true", help=argparse.SUPPRESS)  # a process of its own, on so many cores
parser.add_argument("--write", action="store_true", help="keep the JSON under benchmarks/results/")
options = parser.parse_args()
CORES = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else [0]
if hasattr(os, "sched_setaffinity"):  # before anything starts threads
    os.sched_setaffinity(0, CORES[-options.cores :] if options.half is None else CORES[-1 - options.half :][:1])
for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[name] = "1"

import jax  # noqa: E402
import jax.numpy as jnp  # noqa: E402
import numpy as np  # noqa: E402
import scipy.optimize  # noqa: E402
import statsmodels.api as sm  # noqa: E402
from jax import lax  # noqa: E402

import mlejax as mle  # noqa: E402
from benchmarks import tables  # noqa: E402
from mlejax.inference.resampling.draws import draws, pool_of  # noqa: E402

ROOT = Path(__file__).parent.parent
SIZE = 0.1 if options.small else 1.0
SAMPLED = 200  # data sets that loops run over
rows: list[dict[str, Any]] = []
warnings.simplefilter("ignore", mle.ConvergenceWarning)


# ---- models


@mle.model(beta=mle.Real(columns="X"))
def logit(params: Any, data: Any) -> Any:
    return mle.special.log_sigmoid(data["s"] * (data["X"] @ params["beta"]))


@mle.model(beta=mle.Real(columns="X"))
def logit_jax(params: Any, data: Any) -> Any:
    return jax.nn.log_sigmoid(data["s"] * (data["X"] @ params["beta"]))


@mle.model(scale=mle.Positive(), shape=mle.Positive())
def weibull(params: Any, data: Any) -> Any:
    z = params["shape"] * (jnp.log(data["t"]) - jnp.log(params["scale"]))
    return data["d"] * (jnp.log(params["shape"]) - jnp.log(data["t"]) + z) - jnp.exp(z)


def logits(n_sets: int, n: int, p: int, seed: int = 0) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n_sets, n, p))
    X[..., 0] = 1.0
    eta = X @ np.resize([-0.5, 0.5, 0.3, -0.3, 0.2], p)
    return {"X": X, "s": np.where(rng.random((n_sets, n)) < 1 / (1 + np.exp(-eta)), 1.0, -1.0)}


def zeros(p: int) -> dict[str, np.ndarray]:
    return {"beta": np.zeros(p)}


# ---- timing


def clock() -> float:
    return time.process_time() if options.clock == "cpu" else time.perf_counter()


def turns(tools: dict[str, Callable[[], Any]], rounds: int | None = None) -> dict[str, list[float]]:
    """Seconds of every tool, taking turns."""
    for tool in tools.values():
        tool()
    seen: dict[str, list[float]] = {name: [] for name in tools}
    for _ in range(rounds or options.rounds):
        for name, tool in tools.items():
            began = clock()
            tool()
            seen[name].append(clock() - began)
    return seen


def loop(each: Callable[[int], Any], n: int) -> float:
    """Seconds for n data sets, from the median of some."""
    each(0)
    seen = []
    for i in range(min(SAMPLED, n)):
        began = clock()
        each(i)
        seen.append(clock() - began)
    return median(seen) * n


def say(work: str, against: str, ours: list[float], theirs: list[float] | float, wanted: str, agree: str) -> None:
    """One row: what, against what, both times, their ratio."""
    other = theirs if isinstance(theirs, float) else median(theirs)
    ratio = other / median(ours)
    entry = {
        "work": work, "against": against, "seconds": median(ours), "range": [min(ours), max(ours)], "other": other,
        "other_range": None if isinstance(theirs, float) else [min(theirs), max(theirs)], "ratio": ratio, "wanted": wanted,
        "agreement": agree,
    }  # fmt: skip
    rows.append(entry)
    spread = f"{min(ours):.3g}-{max(ours):.3g}"
    print(
        f"{work:54} {median(ours):8.3g} s ({spread:>13})  {against:44} {other:8.3g} s  {ratio:7.2f}x  {wanted}; {agree}"
    )


def gap(a: np.ndarray, b: np.ndarray, errors: np.ndarray) -> str:
    worst = float(np.nanmax(np.abs(np.asarray(a) - np.asarray(b)) / np.asarray(errors)))
    if worst > 1e-4:
        raise SystemExit(f"answers differ by {worst:.2g} standard errors: nothing was timed")
    return f"answers within {worst:.0e} SE"


# ---- questions


def irls_program(width: int) -> Callable[[np.ndarray, np.ndarray], Any]:
    """Newton's method for logits written by hand: estimates, log-likelihood, errors, to the same tolerance."""

    def one(d: Any) -> Any:
        x, s = d
        p = x.shape[1]

        def body(c: Any) -> Any:
            beta, k, _, done, _, _ = c
            eta = s * (x @ beta)
            e = jnp.exp(-jnp.abs(eta))
            q = jnp.where(eta >= 0, e, 1.0) / (1.0 + e)  # 1 - mu
            value = jnp.sum(jnp.minimum(eta, 0.0) - jnp.log1p(e))
            g, H = x.T @ (s * q), (x * (q * (1 - q))[:, None]).T @ x
            step = jax.scipy.linalg.cho_solve((jnp.linalg.cholesky(H), True), g)
            small = g @ step <= 1e-10
            return beta + jnp.where(done, 0.0, step), k + 1, small & done, small, value, H

        begin = (jnp.zeros(p), 0, False, False, 0.0, jnp.zeros((p, p)))
        end = lax.while_loop(lambda c: ~c[2] & (c[1] < 40), body, begin)
        return end[0], end[4], jnp.sqrt(jnp.diag(jnp.linalg.inv(end[5]))), end[2]

    return jax.jit(lambda X, s: lax.map(one, (X, s), batch_size=width))


def run_irls(program: Any, data: dict[str, np.ndarray]) -> list[np.ndarray]:
    with jax.enable_x64(True):
        return [np.asarray(a) for a in program(data["X"], data["s"])]


def statsmodels_logit(X: np.ndarray, s: np.ndarray) -> Any:
    found = sm.Logit(s > 0, X).fit(disp=0, tol=1e-10)
    return found.params, found.bse, found.llf


def question_logits() -> None:
    n_sets = int(10_000 * SIZE)
    data = logits(n_sets, 200, 4)

    def ours(model: Any = logit, search: bool = False) -> Any:
        res = model.fit_batch(data, None if search else zeros(4), progress=False)
        return res.params.to_numpy(), res.bse.to_numpy(), res.converged.to_numpy()

    values, errors, fine = ours()
    assert fine.all()
    theirs = np.array([statsmodels_logit(data["X"][i], data["s"][i])[:2] for i in range(50)])
    agree = gap(values[:50], theirs[:, 0], errors[:50])
    widths = {w: irls_program(w) for w in (16, 32, 64)}
    gap(values, run_irls(widths[32], data)[0], errors)
    seen = turns(
        {
            "ours": ours,
            "searched": lambda: ours(search=True),
            "jax": lambda: ours(logit_jax),
            **{f"irls {w}": (lambda program=program: run_irls(program, data)) for w, program in widths.items()},
        }
    )
    work = f"{n_sets} logits, n=200, p=4, errors and verdicts"
    scaled = loop(lambda i: statsmodels_logit(data["X"][i], data["s"][i]), n_sets)
    label = f"statsmodels Logit in a loop (scaled from {SAMPLED})"
    say(work, label, seen["ours"], scaled, "12x, aim 25x", agree)
    say(work + ", a start of its own for each", label, seen["searched"], scaled, "", agree)
    say(work + ", jax.nn.log_sigmoid", label, seen["jax"], scaled, "", agree)
    best = min(widths, key=lambda w: median(seen[f"irls {w}"]))
    say(
        work,
        f"hand-written IRLS, lax.map({best})",
        seen["ours"],
        seen[f"irls {best}"],
        "at least 0.67x, aim 0.91x",
        agree,
    )


def time_logits() -> None:
    """Of a process of its own, whose threads all see the same cores: seconds of each round, and a sum of the estimates."""
    data = logits(int(10_000 * SIZE), 200, 4)
    if options.half is not None:
        data = {name: a[options.half :: 2].copy() for name, a in data.items()}
    res = logit.fit_batch(data, zeros(4), progress=False)
    seen = []
    for _ in range(options.rounds):
        began = time.perf_counter()
        logit.fit_batch(data, zeros(4), progress=False)
        seen.append(time.perf_counter() - began)
    print(json.dumps({"seconds": seen, "sum": float(res.params.to_numpy().sum())}))


def question_cores() -> None:
    both = len(CORES[-2:])
    found: dict[int, list[float]] = {1: [], both: []}
    sums = set()

    def started(*more: str) -> subprocess.Popen[str]:
        arguments = ["--timing", *more, "--rounds", str(options.rounds), *(["--small"] * options.small)]
        return subprocess.Popen(
            [sys.executable, __file__, *arguments], stdout=subprocess.PIPE, text=True,
            preexec_fn=lambda: os.sched_setaffinity(0, CORES),  # what this process took is not the child's
        )  # fmt: skip

    def ended(child: subprocess.Popen[str]) -> dict[str, Any]:
        printed, _ = child.communicate()
        if child.returncode:
            raise SystemExit("a process that was to be timed failed")
        out: dict[str, Any] = json.loads(printed.splitlines()[-1])
        return out

    halves: list[float] = []
    for _ in range(3):
        for cores in found:
            out = ended(started("--cores", str(cores)))
            found[cores] += out["seconds"]
            sums.add(out["sum"])
        for child in [started("--half", str(half)) for half in range(both)]:
            halves += ended(child)["seconds"]
    assert len(sums) == 1, "cores change numbers"
    work = f"{int(10_000 * SIZE)} logits on {both} cores (wall clock)"
    say(work, "the same on one", found[both], found[1], "1.7x", "bitwise equal")
    say("half of them in each of two processes, a core each", "the same on one", halves, found[1], "the limit", "")


def question_weibull() -> None:
    n_sets, n = int(10_000 * SIZE), 100
    rng = np.random.default_rng(1)
    true, end = 2.0 * rng.weibull(1.5, (n_sets, n)), rng.uniform(0.5, 5.0, (n_sets, n))
    data = {"t": np.minimum(true, end), "d": (true <= end).astype(float)}
    begin = {"scale": 1.0, "shape": 1.0}

    def ours() -> Any:
        res = weibull.fit_batch(data, begin, progress=False)
        return res.params.to_numpy(), res.bse.to_numpy()

    def loss(u: Any, t: Any, d: Any) -> Any:
        return -jnp.sum(weibull({"scale": jnp.exp(u[0]), "shape": jnp.exp(u[1])}, {"t": t, "d": d}))

    gradient = jax.jit(jax.value_and_grad(loss))

    def scipy_fit(i: int) -> np.ndarray:
        with jax.enable_x64(True):
            t, d = jax.device_put(data["t"][i]), jax.device_put(data["d"][i])
            both = lambda u: tuple(np.asarray(a, np.float64) for a in gradient(u, t, d))
            return np.exp(scipy.optimize.minimize(both, np.zeros(2), jac=True, method="BFGS", tol=1e-6).x)

    values, errors = ours()
    agree = gap(values[:50], np.array([scipy_fit(i) for i in range(50)]), errors[:50])
    seen = turns({"ours": ours})
    scaled = loop(scipy_fit, n_sets)
    label = f"scipy BFGS, jitted JAX gradient (scaled from {SAMPLED})"
    say(f"{n_sets} censored Weibulls, n={n}, errors and verdicts", label, seen["ours"], scaled, "50x", agree)


def question_bad() -> None:
    n_sets = int(10_000 * SIZE)
    data = logits(n_sets, 200, 4)
    bad = {name: a.copy() for name, a in data.items()}
    hit = np.linspace(7, n_sets - 9, n_sets // 200).astype(int)
    separated, collinear = hit[::2], hit[1::2]
    bad["s"][separated] = np.where(bad["X"][separated, :, 1] > 0, 1.0, -1.0)
    bad["X"][collinear, :, 2] = bad["X"][collinear, :, 1]
    fit = lambda d: logit.fit_batch(d, zeros(4), progress=False)
    clean, mixed = fit(data), fit(bad)
    assert set(mixed.verdict[separated]) == {"no_finite_maximum"}
    assert set(mixed.verdict[collinear]) == {"not_identified"}
    rest = np.setdiff1d(np.arange(n_sets), hit)
    agree = gap(mixed.params.to_numpy()[rest], clean.params.to_numpy()[rest], clean.bse.to_numpy()[rest])
    seen = turns({"bad": lambda: fit(bad), "clean": lambda: fit(data)})
    work = f"{n_sets} logits, {hit.size} separated or collinear"
    say(work, "the same batch without these", seen["bad"], seen["clean"], "at least 0.77x", agree)


def question_bootstrap() -> None:
    n, n_refits = 1000, int(10_000 * SIZE)
    data = {name: a[0] for name, a in logits(1, n, 5, seed=3).items()}
    res = logit.fit(data, zeros(5))
    weights = draws(pool_of(res._fit, None), "case", 0)(np.arange(n_refits))  # those that bootstrap() makes
    exact = lambda: res.bootstrap(n_refits, seed=0, progress=False)
    short = lambda: res.bootstrap(n_refits, seed=0, approximate="one-step")

    def theirs(i: int) -> np.ndarray:
        at = np.repeat(np.arange(n), weights[i].astype(int))
        return np.asarray(sm.Logit(data["s"][at] > 0, data["X"][at]).fit(disp=0, tol=1e-10).params)

    done = exact()
    assert done.n_failed == 0
    agree = gap(done.replicates[:30].to_numpy(), np.array([theirs(i) for i in range(30)]), res.bse.to_numpy())
    near = (short().bse / done.bse - 1.0).abs().max()
    seen = turns({"exact": lambda: exact().bse, "short": lambda: short().bse})  # draws and errors included
    scaled = loop(theirs, n_refits)
    label = f"statsmodels refits in a loop (scaled from {SAMPLED})"
    say(f"{n_refits} bootstrap refits, n={n}, p=5 logit, exact", label, seen["exact"], scaled, "12x", agree)
    say(
        "the same, one step", label, seen["short"], scaled, "50x", f"its standard errors within {near:.1%} of the exact"
    )


def question_ragged() -> None:
    n_groups = int(5_000 * SIZE)
    rng = np.random.default_rng(4)
    sizes = rng.integers(20, 2001, n_groups)
    sizes[-1] += -sizes.sum() % n_groups + (n_groups if sizes[-1] < 20 else 0)
    total = int(sizes.sum())
    flat = {name: a[0] for name, a in logits(1, total, 4, seed=5).items()}
    ragged = np.repeat(np.arange(n_groups), sizes)
    equal = np.repeat(np.arange(n_groups), total // n_groups)
    fit = lambda by: logit.fit_groups(flat, by=by, start=zeros(4), progress=False)
    res = fit(ragged)
    for g in (0, 1, 2):
        one = statsmodels_logit(flat["X"][ragged == g], flat["s"][ragged == g])
        agree = gap(res.params.loc[g], one[0], one[1])
    seen = turns({"ragged": lambda: fit(ragged), "equal": lambda: fit(equal)})
    work = f"{n_groups} groups of 20 to 2000 rows ({total / 1e6:.2g} million), p=4"
    say(work, "the same rows in equal groups", seen["ragged"], seen["equal"], "at least 0.67x", agree)


QUESTIONS = {name[9:]: f for name, f in list(globals().items()) if name.startswith("question_")}


def main() -> None:
    if options.timing:
        time_logits()
        return
    packages = ("jax", "numpy", "scipy", "statsmodels")
    facts = {
        "python": platform.python_version(), "mlejax": mle.__version__, **{name: version(name) for name in packages},
        "machine": platform.processor() or platform.machine(), "cores": len(CORES), "load": os.getloadavg()[0],
        "date": time.strftime("%Y-%m-%d"), "rounds": options.rounds, "clock": options.clock, "size": SIZE,
    }  # fmt: skip
    print(", ".join(f"{k} {v}" for k, v in facts.items()))
    for name in options.questions or QUESTIONS:
        QUESTIONS[name]()
    if options.write:
        out = ROOT / "benchmarks" / "results" / "batch.json"
        out.parent.mkdir(exist_ok=True)
        out.write_text(json.dumps({"facts": facts, "rows": rows}, indent=1) + "\n")
        tables.paste("batch", tables.batch(rows))


if __name__ == "__main__":
    main()
