"""Random intercepts and slopes beside the `glmm` package, and 10,000 small models in one call beside a loop of glmmTMB.

    python benchmarks/latent_peers.py            # print
    python benchmarks/latent_peers.py --write    # and keep it: benchmarks/results/latent_peers.json

Seconds of CPU and of the clock, medians of warm fits of one process, ours with errors of all parameters and a verdict.  Both
estimates of a data set are compared by their deviance, evaluated with 51 points a dimension.  glmmTMB (R) is timed over 50 of the
10,000 data sets, and scaled.  What is not installed is left out.
"""

import subprocess
import sys
import tempfile
import warnings
from pathlib import Path

import jax.numpy as jnp
import numpy as np
from jax.scipy.stats import bernoulli, poisson

sys.path.insert(0, str(Path(__file__).parent.parent))

import mlejax as mle
from benchmarks import tables
from benchmarks.latent import timed
from benchmarks.recorded import circumstances, keep

SIZES, ROWS = (3_000, 20_000), 20
SETS, UNITS, IN_UNIT, LOOP = 10_000, 20, 10, 50


@mle.model(rate=mle.Positive())
def counts(params, data):
    """Poisson log-likelihood of every row, (n,)."""
    return poisson.logpmf(data["y"], params["rate"])


@mle.model(p=mle.Interval(0.0, 1.0))
def binary(params, data):
    """Bernoulli log-likelihood of every row, (n,)."""
    return bernoulli.logpmf(data["y"], params["p"])


MODELS = {
    "poisson": counts.regress(rate=mle.Linear("x", random="1 + x | g")),
    "binomial": binary.regress(p=mle.Linear("x", random="1 + x | g")),
}


@mle.model(beta=mle.Real(shape=2), sd=mle.NonNegative(), u=mle.Latent(by="g"))
def small(params, data):
    """Log-likelihood of counts given their unit's effect, (n,)."""
    return poisson.logpmf(data["y"], jnp.exp(params["beta"][0] + params["beta"][1] * data["x"] + params["sd"] * params["u"]))


def slopes(family, n, seed=1):
    """Columns y, x, g: intercepts and slopes of n / 20 units with standard deviations 0.7 and 0.4, correlation 0.3."""
    rng = np.random.default_rng(seed)
    g = np.repeat(np.arange(n // ROWS), ROWS)
    b = rng.normal(size=(n // ROWS, 2)) @ np.linalg.cholesky([[0.49, 0.084], [0.084, 0.16]]).T
    x = rng.normal(size=n)
    eta = 0.3 + b[g, 0] + (0.5 + b[g, 1]) * x
    y = rng.poisson(np.exp(eta)) if family == "poisson" else rng.random(n) < 1.0 / (1.0 + np.exp(-eta))
    return {"y": y.astype(float), "x": x, "g": g}


def deviance(model, data, values):
    """Minus twice the log-likelihood at given values of all parameters, with 51 points a dimension."""
    return -2.0 * model.fit(data, fixed=values, integrate=mle.Quadrature(51)).llf


def beside_glmm(out):
    """Laplace and 9 points of both packages, and the deviance that each reaches."""
    import glmm

    for family, model in MODELS.items():
        for n in SIZES:
            data = slopes(family, n)
            for points in (1, 9):
                row, res = timed(lambda: model.fit(data, integrate=mle.Quadrature(points)))  # noqa: B023
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore")
                    fit = lambda: glmm.fit(data, "y ~ x + (1 + x | g)", family, nagq=points, anova_test="Wald")  # noqa: B023
                    peer, theirs = timed(fit)
                row = {"seconds": row["cpu"], "glmm": peer["cpu"], "ratio": row["cpu"] / peer["cpu"]}
                row["verdict"] = res.verdict.code
                if points == 9:
                    name = next(iter(model.likelihood.predictors)).name
                    first, both, second = theirs.varcorr[0]
                    factor = np.linalg.cholesky([[first, both], [both, second]])
                    row["deviance"] = deviance(model, data, dict(res.params_tree))
                    row["glmm_deviance"] = deviance(model, data, {name: np.asarray(theirs.beta), f"chol({name}|g)": factor})
                out[f"{family} {n} {'laplace' if points == 1 else '9 points'}"] = row
                print(family, n, points, row, flush=True)


def many():
    """Columns (10,000, 200) of counts in 20 units of 10 rows."""
    rng = np.random.default_rng(2)
    x, u = rng.normal(size=(SETS, UNITS * IN_UNIT)), rng.normal(size=(SETS, UNITS))
    y = rng.poisson(np.exp(0.5 + 0.3 * x + 0.7 * np.repeat(u, IN_UNIT, axis=1)))
    return {"y": y.astype(float), "x": x, "g": np.tile(np.repeat(np.arange(UNITS), IN_UNIT), (SETS, 1))}


LOOP_IN_R = """
suppressMessages(library(glmmTMB))
d <- read.csv("DATA")
fit <- function(i) glmmTMB(y ~ x + (1 | g), family = poisson, data = d[d$set == i, ])
invisible(fit(0))
cat(system.time(for (i in unique(d$set)) fit(i))[["user.self"]])
"""


def loop_of_glmmtmb(data):
    """CPU seconds of the first 50 data sets, fitted one after the other."""
    columns = {name: values[:LOOP].ravel() for name, values in data.items()}
    table = np.column_stack([np.repeat(np.arange(LOOP), UNITS * IN_UNIT), *columns.values()])
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "data.csv"
        np.savetxt(path, table, delimiter=",", header=",".join(["set", *columns]), comments="")
        script = LOOP_IN_R.replace("DATA", str(path))
        made = subprocess.run(["Rscript", "-e", script], capture_output=True, text=True, check=False)
    return float(made.stdout) if made.returncode == 0 else None


def main():
    """Time all of it."""
    out = {}
    try:
        beside_glmm(out)
    except ImportError:
        print("glmm is not installed (pip install glmm)")
    data = many()
    row, res = timed(lambda: small.fit_batch(data, integrate="laplace"), repeats=1)
    loop = loop_of_glmmtmb(data)
    row = {"seconds": row["cpu"], "wall": row["wall"], "converged": int(res.converged.sum())}
    if loop is not None:
        row |= {"glmmtmb": loop * SETS / LOOP, "times": loop * SETS / LOOP / row["seconds"]}
    out["10,000 models"] = row
    print(row)
    if "--write" in sys.argv:
        keep("latent_peers", {"circumstances": circumstances(), "rows": out})
        tables.paste("random_effects", tables.random_effects())


if __name__ == "__main__":
    main()
