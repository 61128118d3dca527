"""How long fits take here and in programs made for one model: a table per question, answers compared before times.

    python benchmarks/speed.py                     # all questions, one core; JSON under benchmarks/results/
    python benchmarks/speed.py logit garch         # some of them
    python benchmarks/speed.py logit --cores 2     # with two cores
    python benchmarks/speed.py logit --clock cpu   # seconds of the processor, where the machine has other work
    python benchmarks/speed.py --small             # a tenth of the rows, to see that it works
    python benchmarks/speed.py --show FILE         # the tables of a JSON file once more

Every tool gets the same arrays, ends at the same maximum (estimates within 1e-3 standard errors of ours, standard errors
within 1e-3 of ours, or the row says by how much not) and is timed from arrays to estimates with a covariance matrix: median
and range of some rounds, in which the tools take turns, after one round that is not counted (compilation).  scikit-learn
has no standard errors: the information matrix is added in NumPy.  Ours use `softplus` and `gammaln` of `mle.special`, whose
derivatives are cheaper than those of JAX's own; `cold` uses JAX's.  `cold` runs whole processes, from nothing to the table,
TMB with the compilation of its C++.  Newton's method by hand and a fit from the same start say how often they went over the
rows.  Peers (benchmarks/peers_speed.py, benchmarks/peers_r.py) that are not installed are left out, and said.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("questions", nargs="*", help="logit weibull negbin garch cold scaling overhead; all if none")
parser.add_argument("--cores", type=int, default=1)
parser.add_argument("--rounds", type=int, default=5)
parser.add_argument(
    "--clock", choices=("wall", "cpu"), default="wall", help="cpu: the process's own time, where others work"
)
parser.add_argument("--small", action="store_true")
parser.add_argument("--show", metavar="FILE")
parser.add_argument("--write", action="store_true", help="keep the JSON under benchmarks/results/")
options = parser.parse_args()
if hasattr(os, "sched_setaffinity"):  # before anything starts threads
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[-options.cores :])
for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[name] = str(options.cores)

import jax  # noqa: E402
import jax.numpy as jnp  # noqa: E402
import numpy as np  # noqa: E402

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))

import mlejax as mle  # noqa: E402
from benchmarks import peers_r, peers_speed, tables  # noqa: E402
from benchmarks.recorded import circumstances  # noqa: E402
from mlejax.objective import ChunkedEvaluator  # noqa: E402
from mlejax.special import gammaln, softplus  # noqa: E402

RESULTS = ROOT / "benchmarks" / "results"
SIZE = 0.1 if options.small else 1.0
Answer = tuple[np.ndarray, np.ndarray]  # estimates and standard errors
Tool = Callable[[], Answer]


class Timed(tuple[np.ndarray, np.ndarray]):
    """An answer whose tool knows how long it took."""

    seconds: float


# ---- models


@mle.model(beta=mle.Real(columns="X"))
def logit(params: Any, data: Any) -> Any:
    eta = data["X"] @ params["beta"]
    return data["y"] * eta - softplus(eta)


@mle.model(beta=mle.Real(columns="X"), sigma=mle.Positive())
def weibull(params: Any, data: Any) -> Any:
    z = (jnp.log(data["t"]) - data["X"] @ params["beta"]) / params["sigma"]
    return data["d"] * (z - jnp.log(params["sigma"]) - jnp.log(data["t"])) - jnp.exp(z)


@mle.model(beta=mle.Real(columns="X"), alpha=mle.Positive())
def negbin(params: Any, data: Any) -> Any:
    y, mu, size = data["y"], jnp.exp(data["X"] @ params["beta"]), 1.0 / params["alpha"]
    count = gammaln(y + size) - gammaln(size) - gammaln(y + 1.0)
    return count + size * jnp.log(size / (size + mu)) + y * jnp.log(mu / (size + mu))


@mle.model(omega=mle.Positive(), alpha=mle.Interval(0, 1), beta=mle.Interval(0, 1), rowwise=False)
def garch(params: Any, data: Any) -> Any:
    y2 = data["y"] ** 2

    def step(variance: Any, before: Any) -> Any:
        variance = params["omega"] + params["alpha"] * before + params["beta"] * variance
        return variance, variance

    first = params["omega"] + (params["alpha"] + params["beta"]) * data["backcast"]
    rest = jax.lax.scan(step, first, y2[:-1])[1]
    h = jnp.concatenate([first[None], rest])
    return -0.5 * (jnp.log(2 * jnp.pi) + jnp.log(h) + y2 / h)


def of(res: Any) -> Answer:
    return np.asarray(res.params), np.asarray(res.bse)


# ---- data


def design(n: int, p: int, rng: np.random.Generator) -> np.ndarray:
    return np.column_stack([np.ones(n), rng.standard_normal((n, p - 1))])


def logit_data(n: int, p: int) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(1)
    X = design(n, p, rng)
    beta = np.concatenate([[-0.5], np.linspace(-0.4, 0.4, p - 1)]) if p > 1 else np.array([-0.5])
    return {"X": X, "y": (rng.random(n) < 1 / (1 + np.exp(-X @ beta))).astype(float)}


def weibull_data(n: int, p: int) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(2)
    X = design(n, p, rng)
    t = np.exp(X @ np.concatenate([[1.0], np.linspace(-0.3, 0.3, p - 1)])) * rng.weibull(1.6, n)
    censored = rng.exponential(6.0, n)
    return {"X": X, "t": np.minimum(t, censored), "d": (t <= censored).astype(float)}


def negbin_data(n: int, p: int) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(3)
    X = design(n, p, rng)
    mu = np.exp(X @ np.concatenate([[1.0], np.linspace(-0.2, 0.2, p - 1)]))
    return {"X": X, "y": rng.poisson(mu * rng.gamma(2.0, 0.5, n)).astype(float)}


def garch_data(n: int) -> dict[str, Any]:
    rng = np.random.default_rng(4)
    y, h = np.zeros(n), 1.0
    for t in range(n):
        y[t] = np.sqrt(h) * rng.standard_normal()
        h = 0.05 + 0.08 * y[t] ** 2 + 0.88 * h
    tau = min(75, n)
    w = 0.94 ** np.arange(tau)
    return {"y": y, "backcast": mle.Shared(np.asarray(np.sum(y[:tau] ** 2 * w / w.sum())))}


# ---- measuring


def clock() -> float:
    return time.process_time() if options.clock == "cpu" else time.perf_counter()


def passes_of(fit: Callable[[], Any]) -> int:
    """How often a fit evaluates the derivatives of all rows."""
    seen: list[int] = []
    original = ChunkedEvaluator._minimised

    def counting(self: ChunkedEvaluator, method: Any, u: Any) -> Any:
        seen.append(self.data.n_padded)
        return original(self, method, u)

    ChunkedEvaluator._minimised = counting  # type: ignore[method-assign]
    try:
        fit()
    finally:
        ChunkedEvaluator._minimised = original  # type: ignore[method-assign]
    return seen.count(max(seen))


def by_hand(
    data: Any, model: Any, start: np.ndarray, program: Any, names: dict[str, Any], **more: dict[str, Any]
) -> tuple[dict[str, Tool], dict[str, int]]:
    """Tools from the same start: ours, and Newton's method written for the model; and the passes of each.

    Args:
        start: natural values; ``names``: the parameters' entries in it.
        program: in NumPy; ``more``: its variants, label -> keywords.
    """
    begin = {name: start[at] for name, at in names.items()}
    ours = lambda: of(model.fit(data, start=begin))
    tools, passes = {"mlejax, from the start of NumPy's": ours}, {}
    passes["mlejax, from the start of NumPy's"] = passes_of(ours)
    for label, kwds in {"NumPy, by hand": {}, **more}.items():
        counter = peers_speed.Passes()
        tools[label] = lambda kwds=kwds, counter=counter: program(data, start, counter, **kwds)
        tools[label]()
        passes[label] = counter.n
    return tools, passes


def compare(
    title: str, tools: dict[str, Tool], rounds: int, passes: dict[str, int] | None = None
) -> list[dict[str, Any]]:
    """Times of all tools, in turns; the first one is ours, the others' answers are compared with it."""
    answers: dict[str, Answer] = {}
    first: dict[str, float] = {}
    for name, tool in list(tools.items()):
        began = clock()
        try:
            answers[name] = tool()
        except ImportError as error:
            print(f"  {name}: left out ({error})")
            del tools[name]
        first[name] = clock() - began
    seconds: dict[str, list[float]] = {name: [] for name in tools}
    for _ in range(rounds):
        for name, tool in tools.items():
            if first[name] > 60 and seconds[name]:
                continue  # slow ones once
            began = clock()
            answer = tool()
            seconds[name].append(getattr(answer, "seconds", clock() - began))
    ours = answers[next(iter(tools))]
    rows = [row(title, name, answers[name], ours, seconds[name], first[name]) for name in tools]
    return [{**r, "passes": passes[r["tool"]]} if passes and r["tool"] in passes else r for r in rows]


def with_r(rows: list[dict[str, Any]], tool: str, script: str, data: Any, ours: Answer, rounds: int) -> None:
    """Add the row of an R program, timed by its own clock."""
    found = peers_r.r_times(script, data, rounds + 1)
    if found is None:
        print(f"  {tool}: left out")
        return
    answer, seconds = found
    rows.append(row(rows[0]["question"], tool, answer, ours, seconds[1:], seconds[0]))


def row(title: str, name: str, answer: Answer, ours: Answer, seconds: list[float], first: float) -> dict[str, Any]:
    apart = float(np.max(np.abs(answer[0] - ours[0]) / ours[1]))
    errors = float(np.max(np.abs(answer[1] / ours[1] - 1.0)))
    return {
        "question": title, "tool": name, "median": median(seconds), "least": min(seconds), "most": max(seconds),
        "rounds": len(seconds), "first_call": first, "estimates_apart_in_se": apart, "errors_apart": errors,
        "agrees": apart < 1e-3 and errors < 1e-3,
    }  # fmt: skip


def show(rows: list[dict[str, Any]]) -> None:
    """The tables of all questions among the rows."""
    print(f"\n{tables.speed(rows)}", flush=True)


# ---- questions


def ask_logit(rounds: int) -> list[dict[str, Any]]:
    n, p = int(1e6 * SIZE), 20
    d = logit_data(n, p)
    hand, passes = by_hand(d, logit, np.zeros(p), peers_speed.numpy_logit, {"beta": slice(None)})
    tools: dict[str, Tool] = {
        "mlejax": lambda: of(logit.fit(d)),
        "scikit-learn newton-cholesky": lambda: peers_speed.sklearn_logit("newton-cholesky", d["X"], d["y"]),
        "scikit-learn lbfgs": lambda: peers_speed.sklearn_logit("lbfgs", d["X"], d["y"]),
        "glum": lambda: peers_speed.glum_logit(d["X"], d["y"]),
        "statsmodels Logit, Newton": lambda: peers_speed.statsmodels_fit("Logit", d, method="newton", tol=1e-10),
        **hand,
    }
    passes["mlejax"] = passes_of(tools["mlejax"])
    return compare(f"logit, n = {n:,}, p = {p}", tools, rounds, passes)


def ask_weibull(rounds: int) -> list[dict[str, Any]]:
    n, p = int(1e5 * SIZE), 10
    d = weibull_data(n, p)
    log_t = np.log(d["t"])
    least = np.linalg.lstsq(d["X"], log_t, rcond=None)[0]
    scale = np.sqrt(6.0) / np.pi * np.std(log_t - d["X"] @ least)  # moments of the logarithm
    start = np.concatenate([least + 0.5772 * scale * np.eye(p)[0], [scale]])
    names = {"beta": slice(0, p), "sigma": p}
    hand, passes = by_hand(d, weibull, start, peers_speed.numpy_weibull, names)
    tools: dict[str, Tool] = {
        "mlejax": lambda: of(weibull.fit(d)),
        **hand,
        "statsmodels GenericLikelihoodModel, BFGS": lambda: peers_speed.statsmodels_weibull(d, np.append(least, 0.0)),
    }
    passes["mlejax"] = passes_of(tools["mlejax"])
    rows = compare(f"Weibull regression with censoring, n = {n:,}, p = {p}", tools, rounds, passes)
    ours = tools["mlejax"]()
    with_r(rows, "R survreg (survreg.fit)", peers_r.SURVREG, d, ours, rounds)
    with_r(rows, "R maxLik, NR with exact derivatives", peers_r.MAXLIK, d, ours, rounds)
    return rows


def ask_negbin(rounds: int) -> list[dict[str, Any]]:
    n, p = int(1e5 * SIZE), 10
    d = negbin_data(n, p)
    start = np.concatenate([[np.log(d["y"].mean())], np.zeros(p - 1), [1.0]])
    names = {"beta": slice(0, p), "alpha": p}
    tabulated = {"NumPy, by hand, digamma of distinct counts only": {"tabulated": True}}
    hand, passes = by_hand(d, negbin, start, peers_speed.numpy_negbin, names, **tabulated)
    statsmodels = lambda **kwds: peers_speed.statsmodels_fit("NegativeBinomial", d, **kwds)
    tools: dict[str, Tool] = {
        "mlejax": lambda: of(negbin.fit(d)),
        **hand,
        "statsmodels NegativeBinomial, Newton": lambda: statsmodels(method="newton", tol=1e-10, maxiter=100),
        "statsmodels NegativeBinomial, BFGS": lambda: statsmodels(gtol=1e-7, maxiter=500),
    }
    passes["mlejax"] = passes_of(tools["mlejax"])
    return compare(f"negative binomial, n = {n:,}, p = {p}", tools, rounds, passes)


def ask_garch(rounds: int) -> list[dict[str, Any]]:
    d = garch_data(5000)
    tools: dict[str, Tool] = {
        "mlejax": lambda: of(garch.fit(d)),
        "mlejax, from a start": lambda: of(garch.fit(d, start={"omega": 0.1, "alpha": 0.1, "beta": 0.8})),
        "arch": lambda: peers_speed.arch_garch(d["y"]),
    }
    return compare("GARCH(1,1), T = 5,000", tools, rounds)


COLD = {
    "mlejax": """
import jax.numpy as jnp, numpy as np, mlejax as mle
{cache}
{data}
@mle.model(beta=mle.Real(columns="X"){extra})
def model(params, data):
{body}
res = model.fit({{"X": X, "y": y}})
print(res.summary(), flush=True)
import json, time
print("TABLE", time.time())
print("ANSWER", json.dumps([np.asarray(res.params).tolist(), np.asarray(res.bse).tolist()]))
""",
    "statsmodels": """
import numpy as np, statsmodels.api as sm
{data}
res = sm.{name}(y, X).fit(disp=0{options})
print(res.summary(), flush=True)
import json, time
print("TABLE", time.time())
print("ANSWER", json.dumps([np.asarray(res.params).tolist(), np.asarray(res.bse).tolist()]))
""",
}
COLD_DATA = """
rng = np.random.default_rng(0); n = 1000
X = np.column_stack([np.ones(n), rng.standard_normal((n, 3))]); eta = X @ np.array([0.5, 0.3, -0.3, 0.2])
"""
COLD_MODELS = {
    "Logit": (
        "y = (rng.random(n) < 1 / (1 + np.exp(-eta))).astype(float)",
        "",
        '    eta = data["X"] @ params["beta"]\n    return data["y"] * eta - jnp.logaddexp(0.0, eta)',
        "",
    ),
    "NegativeBinomial": (
        "y = rng.poisson(np.exp(eta) * rng.gamma(2.0, 0.5, n)).astype(float)",
        ", alpha=mle.Positive()",
        "    from jax.scipy.special import gammaln\n"
        '    y, mu, a = data["y"], jnp.exp(data["X"] @ params["beta"]), 1.0 / params["alpha"]\n'
        "    return (gammaln(y + a) - gammaln(a) - gammaln(y + 1) + a * jnp.log(a / (a + mu)) + y * jnp.log(mu / (a + mu)))",
        ', method="newton", maxiter=100',
    ),
}


def ask_cold(rounds: int) -> list[dict[str, Any]]:
    """Processes from their start to the printed table: imports, compilation, fit; of TMB, to its end, only three rounds."""
    rows = []
    for name, (response, extra, body, fit_options) in COLD_MODELS.items():
        data = COLD_DATA + response
        with tempfile.TemporaryDirectory() as kept:
            kwds = {"data": data, "extra": extra, "body": body, "name": name, "options": fit_options}
            cached = f"mle.enable_compilation_cache({kept!r})"
            programs = {
                "mlejax, no cache": COLD["mlejax"].format(cache="", **kwds),
                "mlejax, cache": COLD["mlejax"].format(cache=cached, **kwds),
                "statsmodels": COLD["statsmodels"].format(**kwds),
            }
            env = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE" and "CACHE" not in k}
            env |= {
                "PYTHONPYCACHEPREFIX": f"{kept}/bytecode",
                "PYTHONPATH": os.pathsep.join([str(ROOT), *sys.path[1:]]),
            }
            arrays: dict[str, Any] = {"np": np}
            exec(data, arrays)
            folder = Path(kept) / "tmb"
            folder.mkdir()
            peers_r.tmb_folder(name, {"X": arrays["X"], "y": arrays["y"]}, folder)

            def python(program: str, env: dict[str, str] = env) -> Answer:
                began = time.time()
                done = subprocess.run(
                    [sys.executable, "-c", program], env=env, check=True, capture_output=True, text=True
                )
                answer = Timed(peers_r.answer_of(done.stdout))
                answer.seconds = float(done.stdout.split("TABLE ")[1].split()[0]) - began  # what checks it is not timed
                return answer

            tools: dict[str, Tool] = {tool: lambda text=text: python(text) for tool, text in programs.items()}
            title = f"from nothing to the table: {name}, n = 1,000"
            rows += compare(title, tools, rounds)  # the round that is not counted writes byte code and fills the cache
            tmb = lambda folder=folder: peers_r.tmb_run(folder)
            try:
                tmb()
            except (FileNotFoundError, RuntimeError) as error:
                print(f"  TMB: left out ({error})")
                continue
            beside = {"mlejax, no cache": tools["mlejax, no cache"], "TMB, with its C++ compilation": tmb}
            rows.append(compare(title, beside, min(rounds, 3))[1])
    return rows


def ask_scaling(rounds: int) -> list[dict[str, Any]]:
    """Seconds of a warm fit of the logit against n, p and the number of data sets."""
    rows = []

    def measured(title: str, tool: Callable[[], Any]) -> None:
        tool()
        seconds = []
        for _ in range(rounds):
            began = time.perf_counter()
            tool()
            seconds.append(time.perf_counter() - began)
        rows.append({"question": "scaling of the logit", "tool": title, "median": median(seconds), "least": min(seconds),
                     "most": max(seconds), "rounds": rounds, "agrees": True})  # fmt: skip
        print(f"  {title}: {median(seconds):.4g} s", flush=True)

    for n in (10**3, 10**4, 10**5, 10**6, 10**7):
        d = logit_data(int(n * SIZE), 10)
        measured(f"n = {n:,}, p = 10", lambda d=d: of(logit.fit(d)))
    for p in (2, 5, 20, 50, 100, 200):
        d = logit_data(int(20_000 * SIZE), p)
        measured(f"n = 20,000, p = {p}", lambda d=d: of(logit.fit(d)))
    for sets in (1, 10, 100, 1000, 10_000, 100_000):
        parts = logit_data(100 * sets, 4)
        stacked = {"X": parts["X"].reshape(sets, 100, 4), "y": parts["y"].reshape(sets, 100)}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            measured(f"{sets:,} data sets of 100 rows, p = 4", lambda d=stacked: logit.fit_batch(d))
    return rows


OVERHEAD = """
import json, time
clock = time.perf_counter
began = clock(); import jax, numpy as np; after_jax = clock()
import mlejax as mle; after_mlejax = clock()
rng = np.random.default_rng(0); n, p = 1000, 4
X = np.column_stack([np.ones(n), rng.standard_normal((n, p - 1))]); ys = (rng.random((101, n)) < 0.5).astype(float)
@mle.model(beta=mle.Real(columns="X"))
def model(params, data):
    eta = data["X"] @ params["beta"]
    return data["y"] * eta - jax.numpy.logaddexp(0.0, eta)
first = clock(); model.fit({"X": X, "y": ys[0]}).bse; first = clock() - first
warm = []
for y in ys[1:]:  # new data each time: nothing of an earlier fit is known
    at = clock(); model.fit({"X": X, "y": y}).bse; warm.append(clock() - at)
from mlejax.objective import ChunkedEvaluator as Evaluator
real, counted = Evaluator._minimised, [0]
def call(self, *args):
    counted[0] += 1
    return real(self, *args)
Evaluator._minimised = call
for y in ys[1:]:
    model.fit({"X": X, "y": y})
Evaluator._minimised = real
from mlejax.objective import Spec
from mlejax.optimize import Newton
with jax.enable_x64(True):
    problem = model.prepare({"X": X, "y": ys[0]})
    evaluate, passes = Evaluator(Spec(model.likelihood, problem.space), problem.data, None, None), []
    for _ in range(100):
        at = clock(); evaluate._minimised(Newton(), np.zeros(p)); passes.append(clock() - at)
warm, one, each = float(np.median(warm)), float(np.median(passes)), counted[0] / 100
print(json.dumps([after_jax - began, after_mlejax - after_jax, first, warm, one, warm - each * one]))
"""


def ask_overhead(rounds: int) -> list[dict[str, Any]]:
    """What is not the likelihood: imports, a first fit with its compilation, a warm fit of little data."""
    names = ["import jax and numpy", "import mlejax after it", "first fit with bse, n = 1,000, p = 4",
             "the same, warm, new data", "one evaluation of value, score and Hessian",
             "the warm fit without its evaluations"]  # fmt: skip
    seconds: list[list[float]] = [[] for _ in names]
    with tempfile.TemporaryDirectory() as kept:
        env = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE" and "CACHE" not in k}
        env |= {"PYTHONPYCACHEPREFIX": kept, "PYTHONPATH": os.pathsep.join([str(ROOT), *sys.path[1:]])}
        for i in range(rounds + 1):
            done = subprocess.run([sys.executable, "-c", OVERHEAD], env=env, check=True, capture_output=True, text=True)
            for kept_seconds, s in zip(seconds, json.loads(done.stdout.splitlines()[-1]), strict=True):
                kept_seconds.extend([s] if i else [])  # the first round writes byte code
    return [
        {"question": "overhead", "tool": name, "median": median(s), "least": min(s), "most": max(s), "rounds": len(s),
         "agrees": True}
        for name, s in zip(names, seconds, strict=True)
    ]  # fmt: skip


QUESTIONS = {
    "logit": ask_logit, "weibull": ask_weibull, "negbin": ask_negbin, "garch": ask_garch, "cold": ask_cold,
    "scaling": ask_scaling, "overhead": ask_overhead,
}  # fmt: skip


def main() -> None:
    if options.show:
        show(json.loads(Path(options.show).read_text())["rows"])
        return
    asked = options.questions or list(QUESTIONS)
    unknown = set(asked) - set(QUESTIONS)
    if unknown:
        sys.exit(f"unknown questions {sorted(unknown)}; there are {list(QUESTIONS)}")
    facts = circumstances("scipy", "scikit-learn", "statsmodels", "glum", "arch")
    facts = {**facts, "cores_used": options.cores, "size": SIZE, "r": peers_r.r_versions()}
    out = {"circumstances": facts, "rows": []}
    print(json.dumps(out["circumstances"], indent=1))
    for name in asked:
        when = {"date": time.strftime("%Y-%m-%d"), "load_before": os.getloadavg()[0]}
        rows = [{**r, **when} for r in QUESTIONS[name](options.rounds)]
        out["rows"] += rows
        show(rows)
    if options.write:
        RESULTS.mkdir(exist_ok=True)
        suffix = "" if options.cores == 1 else f"_{options.cores}_cores"
        kept = RESULTS / f"speed{suffix}.json"
        before = json.loads(kept.read_text()) if kept.exists() and options.questions else {"rows": []}
        again = {r["question"] for r in out["rows"]}
        rest = [r for r in before["rows"] if r["question"] not in again]  # of questions that were not asked now
        out["rows"] = [*rest, *out["rows"]]
        kept.write_text(json.dumps(out, indent=1) + "\n")
        if options.cores == 1:
            tables.paste("speed", tables.TABLES["speed"](out["rows"]))
    apart = [f"{r['question']}: {r['tool']}" for r in out["rows"] if not r["agrees"]]
    if apart:
        print("\nanswers apart by more than a thousandth of a standard error:", *apart, sep="\n  ")


if __name__ == "__main__":
    main()
