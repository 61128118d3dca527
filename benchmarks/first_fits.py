"""How long the first fit of a model takes in a new process, beside the bare compilation of value, score and Hessian.

    python benchmarks/first_fits.py            # print
    python benchmarks/first_fits.py --write    # and keep it: benchmarks/results/first_fits.json, docs/benchmarks/speed.md

Nearly all of a first fit is compilation.  `bare` is what a user who writes the program by hand waits for: `jax.jit` of the
summed log-likelihood, its gradient and `jax.hessian`, with XLA's own options, called once.  After the first fit come `other n`,
a fit to a tenth more rows, `nlcom` and `predict` of functions that are new, and a bootstrap of eight; `unclean` is a first fit to
data that have no maximum.  Every kind runs in a process of its own without a cache on disk; the smallest of three.  The
table tells seconds of the cores, which other work on the machine changes less than those of the clock.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pandas  # noqa: F401 - tables come as DataFrames; what the import costs is no part of a fit
from jax.scipy.special import gammaln

sys.path.insert(0, str(Path(__file__).parent.parent))

import mlejax as mle
from benchmarks import tables
from benchmarks.recorded import circumstances, keep

N = 500


def censored_gamma(params: Any, data: Any) -> Any:
    """A gamma law by shape and scale, censored on the right."""
    k, scale = params["shape"], jnp.exp(data["X"] @ params["beta"])
    z = data["t"] / scale
    exact = (k - 1.0) * jnp.log(z) - z - gammaln(k) - jnp.log(scale)
    return jnp.where(data["dead"] > 0, exact, mle.special.log_gammaincc(k, z))


def negative_binomial(params: Any, data: Any) -> Any:
    """NB2."""
    mu, r, y = jnp.exp(data["X"] @ params["beta"]), 1.0 / params["alpha"], data["y"]
    own = gammaln(y + r) - gammaln(r) - gammaln(y + 1.0)
    return own + r * jnp.log(r / (r + mu)) + y * jnp.log(mu / (r + mu))


def logit(params: Any, data: Any) -> Any:
    """A logit."""
    return jax.nn.log_sigmoid((2.0 * data["d"] - 1.0) * (data["X"] @ params["beta"]))


def gev(params: Any, data: Any) -> Any:
    """Generalised extreme values, as written by hand."""
    z, xi = (data["t"] - data["X"] @ params["beta"]) / params["sigma"], params["xi"]
    t = 1.0 + xi * z
    inside = t > 0
    log_t = jnp.log(jnp.where(inside, t, 1.0))
    value = -jnp.log(params["sigma"]) - (1.0 + 1.0 / xi) * log_t - jnp.exp(-log_t / xi)
    return jnp.where(inside, value, -jnp.inf)


def weibull(params: Any, data: Any) -> Any:
    """A Weibull regression, censored on the right."""
    z = (jnp.log(data["t"]) - data["X"] @ params["beta"]) / params["sigma"]
    return data["dead"] * (z - jnp.log(params["sigma"] * data["t"])) - jnp.exp(z)


BETA = {"beta": mle.Real(columns="X")}
MODELS: dict[str, tuple[Any, dict[str, Any]]] = {
    "logit": (logit, BETA),
    "Weibull, censored": (weibull, BETA | {"sigma": mle.Positive()}),
    "negative binomial": (negative_binomial, BETA | {"alpha": mle.Positive()}),
    "gamma, censored": (censored_gamma, BETA | {"shape": mle.Positive()}),
    "GEV": (gev, BETA | {"sigma": mle.Positive(), "xi": mle.Real()}),
}


def table(n: int, seed: int = 0) -> dict[str, np.ndarray]:
    """Columns for all models."""
    rng = np.random.default_rng(seed)
    x = np.column_stack([np.ones(n), rng.normal(size=(n, 2))])
    eta = x @ np.array([0.3, 0.4, -0.2])
    times = np.exp(eta) * rng.gamma(2.0, 1.0, n)
    return {
        "X": x,
        "d": (rng.random(n) < 1.0 / (1.0 + np.exp(-eta))).astype(float),
        "y": rng.negative_binomial(2.0, 2.0 / (2.0 + np.exp(eta))).astype(float),
        "t": np.minimum(times, 6.0),
        "dead": (times < 6.0).astype(float),
    }


def without_a_maximum(name: str) -> dict[str, np.ndarray]:
    """Data that no parameters fit best: a separated logit, no overdispersion, all censored, one repeated number."""
    data = table(N)
    data["d"] = (data["X"][:, 1] > 0).astype(float)
    data["y"] = np.random.default_rng(1).binomial(6, 0.2 + 0.1 * (data["X"][:, 1] > 0)).astype(float)
    data["dead"] = np.zeros(N)
    data["t"] = np.full(N, 2.0)
    return data


def bare(name: str) -> None:
    """Value, gradient and Hessian of the sum, compiled as they are and run once."""
    function, declared = MODELS[name]
    sizes = {key: 3 if key == "beta" else 1 for key in declared}
    positive = [key for key in declared if key in ("alpha", "sigma", "shape")]

    def total(u: Any, data: Any) -> Any:
        parts = jnp.split(u, np.cumsum(list(sizes.values()))[:-1])
        params = {k: v if sizes[k] > 1 else v[0] for k, v in zip(sizes, parts, strict=True)}
        params |= {k: jnp.exp(params[k]) for k in positive}
        return jnp.sum(function(params, data))

    with jax.enable_x64(True):
        program = jax.jit(lambda u, data: (total(u, data), jax.grad(total)(u, data), jax.hessian(total)(u, data)))
        jax.block_until_ready(program(np.full(sum(sizes.values()), 0.1), table(N)))


def times_of(name: str, kind: str) -> dict[str, float]:
    """Seconds of the work named, in this process."""
    out: dict[str, float] = {}

    def timed(what: str, work: Any) -> Any:
        began, cpu = time.perf_counter(), time.process_time()
        done = work()
        out[what], out[what + " cpu"] = time.perf_counter() - began, time.process_time() - cpu
        return done

    jax.block_until_ready(jax.jit(lambda x: x + 1.0)(np.ones(3)))  # start XLA
    if kind == "bare":
        timed("bare", lambda: bare(name))
        return out
    function, declared = MODELS[name]
    model = mle.model(**declared)(function)
    if kind == "unclean":
        data = without_a_maximum(name)
        timed("unclean", lambda: model.fit(data))
        return out
    data, more = table(N), table(N + N // 10, 1)
    fitted = timed("first", lambda: model.fit(data))
    timed("again", lambda: model.fit(data))
    timed("other n", lambda: model.fit(more))
    timed("nlcom", lambda: fitted.nlcom(lambda p: jnp.exp(p["beta"][1]) / (1.0 + jnp.exp(p["beta"][0]))))
    timed("predict", lambda: fitted.predict(lambda p, d: jnp.exp(d["X"] @ p["beta"]) ** 2, more))
    timed("bootstrap of 8", lambda: fitted.bootstrap(8))
    return out


def measured(name: str, rounds: int) -> dict[str, float]:
    """The smallest of some rounds of each kind."""
    best: dict[str, float] = {}
    for _ in range(rounds):
        for kind in ("bare", "fits", "unclean"):
            line = [sys.executable, "-W", "ignore", __file__, "--one", name, kind]
            found = json.loads(subprocess.run(line, check=True, capture_output=True, text=True).stdout.splitlines()[-1])
            best |= {key: min(value, best.get(key, np.inf)) for key, value in found.items()}
    return best


def main() -> None:
    """Measure all, print, and keep where that is asked for."""
    if "--one" in sys.argv:
        print(json.dumps(times_of(*sys.argv[-2:])))
        return
    rounds = next((int(a) for a in sys.argv[1:] if a.isdigit()), 3)
    names = ["bare", "first", "again", "other n", "unclean", "nlcom", "predict", "bootstrap of 8"]
    head = f"{'':20}" + "".join(f"{name:>16}" for name in names) + f"{'first / bare':>16}"
    print(head)
    rows, facts = [], circumstances()
    for name in MODELS:
        found = measured(name, rounds)
        rows.append({"model": name, **found})
        cells = "".join(f"{found[k]:8.2f} ({found[k + ' cpu']:.2f})".rjust(16) for k in names)
        print(f"{name:20}{cells}{found['first'] / found['bare']:16.2f}", flush=True)
    if "--write" in sys.argv:
        keep("first_fits", {"circumstances": facts, "rows": rows})
        tables.paste("first_fits", tables.first_fits(rows))


if __name__ == "__main__":
    main()
