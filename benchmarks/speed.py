"""How long fits take here and in programs made for one model: a table per question, answers compared before times.

    python benchmarks/speed.py                     # all questions, one core; JSON under benchmarks/results/
    python benchmarks/speed.py logit garch         # some of them
    python benchmarks/speed.py logit --cores 2     # with two cores
    python benchmarks/speed.py --small             # a tenth of the rows, to see that it works
    python benchmarks/speed.py --show FILE         # the tables of a JSON file once more

Every tool gets the same arrays, ends at the same maximum (estimates within 1e-3 standard errors of ours, standard errors
within 1e-3 of ours, or the row says by how much not) and is timed from arrays to estimates with a covariance matrix: median
and range of some rounds, in which the tools take turns, after one round that is not counted (compilation).  scikit-learn
has no standard errors: the information matrix is added in NumPy.  Ours use `softplus` and `gammaln` of `mle.special`, whose
derivatives are cheaper than those of JAX's own; `cold` uses JAX's.  `cold` runs whole processes, from nothing to the table.
Peers that are not installed are left out, and said.
"""

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from statistics import median
from typing import Any

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("questions", nargs="*", help="logit weibull negbin garch cold scaling overhead; all if none")
parser.add_argument("--cores", type=int, default=1)
parser.add_argument("--rounds", type=int, default=5)
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

import mlejax as mle  # noqa: E402
from mlejax.special import gammaln, softplus  # noqa: E402

ROOT = Path(__file__).parent.parent
RESULTS = ROOT / "benchmarks" / "results"
SIZE = 0.1 if options.small else 1.0
Answer = tuple[np.ndarray, np.ndarray]  # estimates and standard errors
Tool = Callable[[], Answer]


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


# ---- peers


def numpy_logit(X: np.ndarray, y: np.ndarray) -> Answer:
    """Newton's method by hand, all rows at once: what a careful user of NumPy writes."""
    beta = np.zeros(X.shape[1])
    while True:
        mean = 1.0 / (1.0 + np.exp(-(X @ beta)))
        information = (X * (mean * (1 - mean))[:, None]).T @ X
        score = X.T @ (y - mean)
        step = np.linalg.solve(information, score)
        beta = beta + step
        if score @ step < 1e-10:
            return beta, np.sqrt(np.diag(np.linalg.inv(information)))


def numpy_weibull(X: np.ndarray, t: np.ndarray, d: np.ndarray) -> Answer:
    """The same for the Weibull regression, in (beta, log sigma)."""
    log_t, p = np.log(t), X.shape[1]
    beta = np.linalg.lstsq(X, log_t, rcond=None)[0]
    s = np.sqrt(6.0) / np.pi * np.std(log_t - X @ beta)  # moments of the logarithm
    beta[0] += 0.5772 * s
    u = np.concatenate([beta, [np.log(s)]])
    while True:
        s = np.exp(u[p])
        z = (log_t - X @ u[:p]) / s
        e = np.exp(z)
        r = e - d
        score = np.concatenate([X.T @ r / s, [np.sum(r * z - d)]])
        cross = X.T @ (r + z * e) / s
        information = np.empty((p + 1, p + 1))
        information[:p, :p] = (X * (e / s**2)[:, None]).T @ X
        information[:p, p] = information[p, :p] = cross
        information[p, p] = np.sum(z * r + z * z * e)
        step = np.linalg.solve(information, score)
        u = u + step * min(1.0, 2.0 / np.abs(step).max())
        if score @ step < 1e-10:
            error = np.sqrt(np.diag(np.linalg.inv(information)))
            return np.concatenate([u[:p], [s]]), np.concatenate([error[:p], [s * error[p]]])


def sklearn_logit(solver: str, X: np.ndarray, y: np.ndarray) -> Answer:
    from sklearn.linear_model import LogisticRegression

    model = LogisticRegression(C=np.inf, solver=solver, fit_intercept=False, tol=1e-8, max_iter=500).fit(X, y)
    beta = model.coef_[0]
    mean = 1.0 / (1.0 + np.exp(-(X @ beta)))
    information = (X * (mean * (1 - mean))[:, None]).T @ X
    return beta, np.sqrt(np.diag(np.linalg.inv(information)))


def glum_logit(X: np.ndarray, y: np.ndarray) -> Answer:
    from glum import GeneralizedLinearRegressor

    model = GeneralizedLinearRegressor(family="binomial", alpha=0.0, fit_intercept=False, gradient_tol=1e-8)
    model.fit(X, y)
    return model.coef_, model.std_errors(X, y, robust=False, expected_information=True)


def statsmodels_fit(name: str, data: dict[str, np.ndarray], **kwds: Any) -> Answer:
    import statsmodels.api as sm

    res = getattr(sm, name)(data["y"], data["X"]).fit(disp=0, **kwds)
    return np.asarray(res.params), np.asarray(res.bse)


def statsmodels_weibull(data: dict[str, np.ndarray], start: np.ndarray) -> Answer:
    from statsmodels.base.model import GenericLikelihoodModel

    class Weibull(GenericLikelihoodModel):  # type: ignore[misc]
        def nloglikeobs(self, params: np.ndarray) -> np.ndarray:
            t, d = self.endog[:, 0], self.endog[:, 1]
            z = (np.log(t) - self.exog @ params[:-1]) / np.exp(params[-1])
            return -(d * (z - params[-1] - np.log(t)) - np.exp(z))

    model = Weibull(np.column_stack([data["t"], data["d"]]), data["X"], extra_params_names=["log_sigma"])
    res = model.fit(start_params=start, method="bfgs", gtol=1e-6, disp=0)
    estimate, error = np.array(res.params), np.array(res.bse)
    estimate[-1] = np.exp(estimate[-1])
    error[-1] *= estimate[-1]
    return estimate, error


def arch_garch(y: np.ndarray) -> Answer:
    from arch import arch_model

    res = arch_model(y, mean="Zero", vol="GARCH", p=1, q=1, rescale=False).fit(disp="off", options={"ftol": 1e-12})
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        classic = np.sqrt(np.diag(np.linalg.inv(_information(res))))
    return np.asarray(res.params), classic


def _information(res: Any) -> np.ndarray:
    """The observed information that `arch` computes for its covariances, by differences."""
    return np.linalg.inv(np.asarray(res.model.compute_param_cov(res.params, robust=False)))


SURVREG = """
suppressMessages(library(survival)); a <- commandArgs(TRUE)
d <- read.csv(a[1]); X <- as.matrix(d[, grep("^x", names(d))]); s <- Surv(d$t, d$d)
secs <- c()
for (k in 1:as.integer(a[2])) secs <- c(secs, system.time(f <- survreg.fit(X, s, NULL, NULL, NULL,
  survreg.control(rel.tolerance = 1e-12), survreg.distributions$weibull, 0, 1, NULL))[["elapsed"]])
k <- ncol(X); est <- c(f$coefficients[1:k], exp(f$coefficients[k + 1]))
se <- sqrt(diag(f$var)); se[k + 1] <- se[k + 1] * est[k + 1]
cat(paste(est, collapse = " "), "\\n"); cat(paste(se, collapse = " "), "\\n"); cat(paste(secs, collapse = " "), "\\n")
"""


def r_survreg(data: dict[str, np.ndarray], rounds: int) -> tuple[Answer, list[float]] | None:
    """R's survreg on the logarithm of time: estimates, standard errors and its own times."""
    with tempfile.TemporaryDirectory() as folder:
        table = np.column_stack([data["X"], np.log(data["t"]), data["d"]])
        header = ",".join([*(f"x{j}" for j in range(data["X"].shape[1])), "t", "d"])
        np.savetxt(f"{folder}/d.csv", table, delimiter=",", header=header, comments="", fmt="%.17g")
        Path(f"{folder}/run.R").write_text(
            SURVREG.replace("survreg.distributions$weibull", "survreg.distributions$extreme")
        )
        try:
            command = ["Rscript", f"{folder}/run.R", f"{folder}/d.csv", str(rounds)]
            done = subprocess.run(command, capture_output=True, text=True, timeout=600)
        except FileNotFoundError:
            return None
    if done.returncode:
        print("R:", done.stderr.strip().splitlines()[-1:])
        return None
    lines = [np.array(line.split(), float) for line in done.stdout.strip().splitlines()]
    return (lines[0], lines[1]), lines[2].tolist()


# ---- measuring


def compare(title: str, tools: dict[str, Tool], rounds: int) -> list[dict[str, Any]]:
    """Times of all tools, in turns; the first one is ours, the others' answers are compared with it."""
    answers: dict[str, Answer] = {}
    first: dict[str, float] = {}
    for name, tool in list(tools.items()):
        began = time.perf_counter()
        try:
            answers[name] = tool()
        except ImportError as error:
            print(f"  {name}: left out ({error})")
            del tools[name]
        first[name] = time.perf_counter() - began
    seconds: dict[str, list[float]] = {name: [] for name in tools}
    for _ in range(rounds):
        for name, tool in tools.items():
            if first[name] > 60 and seconds[name]:
                continue  # slow ones once
            began = time.perf_counter()
            tool()
            seconds[name].append(time.perf_counter() - began)
    ours = answers[next(iter(tools))]
    return [row(title, name, answers[name], ours, seconds[name], first[name]) for name in tools]


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
    for title in dict.fromkeys(r["question"] for r in rows):
        part = [r for r in rows if r["question"] == title]
        print(f"\n{title}\n")
        if "estimates_apart_in_se" in part[0]:
            show_compared(part)
        else:
            show_times(part)
    sys.stdout.flush()


def show_times(rows: list[dict[str, Any]]) -> None:
    print("| | median s | range |")
    print("|---|---|---|")
    for r in rows:
        print(f"| {r['tool']} | {r['median']:.3g} | {r['least']:.3g} to {r['most']:.3g} |")


def show_compared(rows: list[dict[str, Any]]) -> None:
    base = rows[0]["median"]
    print("| tool | median s | range | ours / tool | answers |")
    print("|---|---|---|---|---|")
    for r in rows:
        said = "agree" if r["agrees"] else f"{r['estimates_apart_in_se']:.1g} SE, errors {r['errors_apart']:.1g} apart"
        span = f"{r['least']:.3g} to {r['most']:.3g}"
        print(f"| {r['tool']} | {r['median']:.3g} | {span} | {base / r['median']:.2g} | {said} |")


# ---- questions


def ask_logit(rounds: int) -> list[dict[str, Any]]:
    n, p = int(1e6 * SIZE), 20
    d = logit_data(n, p)
    tools: dict[str, Tool] = {
        "mlejax": lambda: of(logit.fit(d)),
        "scikit-learn newton-cholesky": lambda: sklearn_logit("newton-cholesky", d["X"], d["y"]),
        "scikit-learn lbfgs": lambda: sklearn_logit("lbfgs", d["X"], d["y"]),
        "glum": lambda: glum_logit(d["X"], d["y"]),
        "statsmodels Logit, Newton": lambda: statsmodels_fit("Logit", d, method="newton", tol=1e-10),
        "NumPy, by hand": lambda: numpy_logit(d["X"], d["y"]),
    }
    return compare(f"logit, n = {n:,}, p = {p}", tools, rounds)


def ask_weibull(rounds: int) -> list[dict[str, Any]]:
    n, p = int(1e5 * SIZE), 10
    d = weibull_data(n, p)
    start = np.concatenate([np.linalg.lstsq(d["X"], np.log(d["t"]), rcond=None)[0], [0.0]])
    title = f"Weibull regression with censoring, n = {n:,}, p = {p}"
    tools: dict[str, Tool] = {
        "mlejax": lambda: of(weibull.fit(d)),
        "NumPy, by hand": lambda: numpy_weibull(d["X"], d["t"], d["d"]),
        "statsmodels GenericLikelihoodModel, BFGS": lambda: statsmodels_weibull(d, start),
    }
    rows = compare(title, tools, rounds)
    found = r_survreg(d, rounds)
    if found is not None:
        rows.append(row(title, "R survreg (survreg.fit)", found[0], of(weibull.fit(d)), found[1], found[1][0]))
    return rows


def ask_negbin(rounds: int) -> list[dict[str, Any]]:
    n, p = int(1e5 * SIZE), 10
    d = negbin_data(n, p)
    tools: dict[str, Tool] = {
        "mlejax": lambda: of(negbin.fit(d)),
        "statsmodels NegativeBinomial, Newton": lambda: statsmodels_fit(
            "NegativeBinomial", d, method="newton", tol=1e-10, maxiter=100
        ),
        "statsmodels NegativeBinomial, BFGS": lambda: statsmodels_fit("NegativeBinomial", d, gtol=1e-7, maxiter=500),
    }
    return compare(f"negative binomial, n = {n:,}, p = {p}", tools, rounds)


def ask_garch(rounds: int) -> list[dict[str, Any]]:
    d = garch_data(5000)
    tools: dict[str, Tool] = {
        "mlejax": lambda: of(garch.fit(d)),
        "mlejax, from a start": lambda: of(garch.fit(d, start={"omega": 0.1, "alpha": 0.1, "beta": 0.8})),
        "arch": lambda: arch_garch(d["y"]),
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
print(model.fit({{"X": X, "y": y}}).summary())
""",
    "statsmodels": """
import numpy as np, statsmodels.api as sm
{data}
print(sm.{name}(y, X).fit(disp=0{options}).summary())
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
    """Whole processes: imports, compilation, fit, printed table."""
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
            seconds: dict[str, list[float]] = {tool: [] for tool in programs}
            env = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE" and "CACHE" not in k}
            env |= {
                "PYTHONPYCACHEPREFIX": f"{kept}/bytecode",
                "PYTHONPATH": os.pathsep.join([str(ROOT), *sys.path[1:]]),
            }
            for i in range(rounds + 1):
                for tool, program in programs.items():
                    began = time.perf_counter()
                    subprocess.run([sys.executable, "-c", program], env=env, check=True, capture_output=True)
                    if i:  # the first round writes byte code and fills the cache
                        seconds[tool].append(time.perf_counter() - began)
            rows += [
                {"question": f"from nothing to the table: {name}, n = 1,000", "tool": tool, "median": median(s),
                 "least": min(s), "most": max(s), "rounds": len(s), "agrees": True}
                for tool, s in seconds.items()
            ]  # fmt: skip
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

    for n in (10**3, 10**4, 10**5, 10**6):
        d = logit_data(int(n * SIZE), 10)
        measured(f"n = {n:,}, p = 10", lambda d=d: of(logit.fit(d)))
    for p in (2, 5, 20, 50, 100, 200):
        d = logit_data(int(20_000 * SIZE), p)
        measured(f"n = 20,000, p = {p}", lambda d=d: of(logit.fit(d)))
    for sets in (1, 10, 100, 1000, 10_000):
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
X = np.column_stack([np.ones(n), rng.standard_normal((n, p - 1))]); y = (rng.random(n) < 0.5).astype(float)
@mle.model(beta=mle.Real(columns="X"))
def model(params, data):
    eta = data["X"] @ params["beta"]
    return data["y"] * eta - jax.numpy.logaddexp(0.0, eta)
first = clock(); model.fit({"X": X, "y": y}).bse; first = clock() - first
warm = []
for _ in range(100):
    at = clock(); model.fit({"X": X, "y": y}).bse; warm.append(clock() - at)
from mlejax.fit.evaluating import Evaluator
from mlejax.objective import Spec
from mlejax.optimize import Newton
with jax.enable_x64(True):
    problem = model.prepare({"X": X, "y": y})
    evaluate, passes = Evaluator(Spec(model.likelihood, problem.space), problem.data, None, None), []
    for _ in range(100):
        at = clock(); evaluate(Newton(), np.zeros(p)); passes.append(clock() - at)
print(json.dumps([after_jax - began, after_mlejax - after_jax, first, float(np.median(warm)), float(np.median(passes))]))
"""


def ask_overhead(rounds: int) -> list[dict[str, Any]]:
    """What is not the likelihood: imports, a first fit with its compilation, a warm fit of little data."""
    names = ["import jax and numpy", "import mlejax after it", "first fit with bse, n = 1,000, p = 4",
             "the same, warm", "one evaluation of value, score and Hessian"]  # fmt: skip
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


def circumstances() -> dict[str, Any]:
    """Versions, machine and date."""
    versions = {}
    for package in ("mlejax", "jax", "jaxlib", "numpy", "scipy", "scikit-learn", "statsmodels", "glum", "arch"):
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            versions[package] = "not installed"
    cpu = platform.processor()
    if Path("/proc/cpuinfo").exists():
        names = [x.split(":")[1].strip() for x in Path("/proc/cpuinfo").read_text().splitlines() if "model name" in x]
        cpu = names[0] if names else cpu
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else float("nan")
    return {
        "date": time.strftime("%Y-%m-%d"), "python": platform.python_version(), "system": platform.platform(),
        "cpu": cpu, "cores_used": options.cores, "cores_of_the_machine": os.cpu_count(), "load_before": load,
        "size": SIZE, "versions": versions,
    }  # fmt: skip


def main() -> None:
    if options.show:
        show(json.loads(Path(options.show).read_text())["rows"])
        return
    asked = options.questions or list(QUESTIONS)
    unknown = set(asked) - set(QUESTIONS)
    if unknown:
        sys.exit(f"unknown questions {sorted(unknown)}; there are {list(QUESTIONS)}")
    out = {"circumstances": circumstances(), "rows": []}
    print(json.dumps(out["circumstances"], indent=1))
    for name in asked:
        rows = QUESTIONS[name](options.rounds)
        out["rows"] += rows
        show(rows)
    if options.write:
        RESULTS.mkdir(exist_ok=True)
        suffix = "" if options.cores == 1 else f"_{options.cores}_cores"
        kept = RESULTS / f"speed{suffix}.json"
        before = json.loads(kept.read_text()) if kept.exists() and options.questions else {"rows": []}
        again = {r["question"] for r in out["rows"]}
        rest = [r for r in before["rows"] if r["question"] not in again]  # of questions that were not asked now
        kept.write_text(json.dumps({**out, "rows": [*rest, *out["rows"]]}, indent=1) + "\n")
    apart = [f"{r['question']}: {r['tool']}" for r in out["rows"] if not r["agrees"]]
    if apart:
        print("\nanswers apart by more than a thousandth of a standard error:", *apart, sep="\n  ")


if __name__ == "__main__":
    main()
