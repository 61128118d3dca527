"""Poisson random intercepts, 10,000 groups of 10 rows: a warm fit by Laplace, by quadrature, and the `glmm` package beside it.

    python benchmarks/latent.py            # print
    python benchmarks/latent.py --write    # and keep it: benchmarks/results/latent.json

Seconds of CPU (of all threads) and of the clock, medians of five warm fits, verdict included.  `glmm` (PyPI, Rust) is timed in
the same run where it is installed; it has no verdict, and by default errors of the coefficients only.
"""

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
    """The first fit's seconds, medians of later ones, by clock and CPU, and the last result."""
    began = time.perf_counter()
    res = fit()
    first, wall, cpu = time.perf_counter() - began, [], []
    for _ in range(repeats):
        began, busy = time.perf_counter(), time.process_time()
        res = fit()
        wall.append(time.perf_counter() - began)
        cpu.append(time.process_time() - busy)
    return {"first": first, "wall": float(np.median(wall)), "cpu": float(np.median(cpu))}, res


def main():
    """Time all ways of integrating."""
    data, out = simulate(), {}
    for name, how in (("laplace", "laplace"), ("9 points", mle.Quadrature(9)), ("auto", "auto")):
        out[name], res = timed(lambda how=how: counts.fit(data, integrate=how))
        out[name] |= {"llf": res.llf, "sd": float(res.params["sd"]), "points": res.integration.points}
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
    main()
