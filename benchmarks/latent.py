"""Poisson random intercepts, 10,000 groups of 10 rows: a warm fit by Laplace, by quadrature, and the `glmm` package beside it.

    python benchmarks/latent.py            # print
    python benchmarks/latent.py --write    # and keep it: benchmarks/results/latent.json
    python benchmarks/latent.py auto       # the first fit of this process alone: laplace, "9 points" or auto

Seconds of CPU (of all threads) and of the clock, medians of five warm fits, verdict included.  `first` is the CPU time of the
first fit with its table in a process of its own, without a cache on disk and without the import.  `glmm` (PyPI, Rust) is timed in
the same run where it is installed; it has no verdict, and by default errors of the coefficients only.
"""

import os
import subprocess
import sys
import time
from pathlib import Path

import jax.numpy as jnp
import numpy as np
from jax.scipy.special import gammaln

sys.path.insert(0, str(Path(__file__).parent.parent))

import mlejax as mle
from benchmarks import tables
from benchmarks.recorded import circumstances, keep

GROUPS, ROWS, REPEATS = 10_000, 10, 5
WAYS = {"laplace": "laplace", "9 points": mle.Quadrature(9), "auto": "auto"}


@mle.model(beta=mle.Real(shape=2), sd=mle.NonNegative(), u=mle.Latent(by="group"))
def counts(params, data):
    """Log-likelihood of every count given its group's effect, (n,)."""
    eta = params["beta"][0] + params["beta"][1] * data["x"] + params["sd"] * params["u"]
    return data["y"] * eta - jnp.exp(eta) - gammaln(data["y"] + 1.0)


def simulate(seed=1):
    """Columns y, x and group."""
    rng = np.random.default_rng(seed)
    group = np.repeat(np.arange(GROUPS), ROWS)
    x, u = rng.normal(size=len(group)), rng.normal(size=GROUPS)
    return {"y": rng.poisson(np.exp(0.5 + 0.3 * x + 0.7 * u[group])).astype(float), "x": x, "group": group}


def timed(fit, repeats=REPEATS):
    """Medians of the seconds of fits after a first one, by clock and CPU, and the last result."""
    fit()
    wall, cpu = [], []
    for _ in range(repeats):
        began, busy = time.perf_counter(), time.process_time()
        res = fit()
        wall.append(time.perf_counter() - began)
        cpu.append(time.process_time() - busy)
    return {"wall": float(np.median(wall)), "cpu": float(np.median(cpu))}, res


def first(name):
    """CPU seconds of a first fit in this process, its table included."""
    data, busy = simulate(), time.process_time()
    str(counts.fit(data, integrate=WAYS[name]).summary())
    return time.process_time() - busy


def first_alone(name):
    """The same in a process of its own, without a cache on disk; the smallest of three."""
    alone = {key: value for key, value in os.environ.items() if key != "JAX_COMPILATION_CACHE_DIR"}
    call = [sys.executable, __file__, name]
    runs = [subprocess.run(call, env=alone, capture_output=True, text=True, check=True).stdout for _ in range(3)]
    return min(float(text.split()[-1]) for text in runs)


def main():
    """Time all ways of integrating."""
    data, out = simulate(), {}
    for name, how in WAYS.items():
        out[name], res = timed(lambda how=how: counts.fit(data, integrate=how))
        out[name] |= {"first": first_alone(name), "llf": res.llf, "sd": float(res.params["sd"]), "points": res.integration.points}
    try:
        import glmm
    except ImportError:
        print("glmm is not installed (pip install glmm): no peer")
    else:
        for name, points in (("glmm laplace", 1), ("glmm 9 points", 9)):
            fit = lambda points=points: glmm.fit(data, "y ~ x + (1 | group)", "poisson", nagq=points, anova_test="Wald")
            out[name], _ = timed(fit)
    for name, row in out.items():
        print(f"{name:14}", "  ".join(f"{k} {v:.6g}" for k, v in row.items()))
    if "--write" in sys.argv:
        keep("latent", {"circumstances": circumstances(), "rows": out})
        tables.paste("random_effects", tables.random_effects())


if __name__ == "__main__":
    alone = [name for name in sys.argv[1:] if name in WAYS]
    if alone:
        print(first(alone[0]))
    else:
        main()
