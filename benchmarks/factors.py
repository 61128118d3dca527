"""A factor of 200 levels in a formula, 100,000 rows: Poisson, logit and normal regressions, ours, pyfixest's and statsmodels'.

    OMP_NUM_THREADS=1 python benchmarks/factors.py [--rows N --levels G] [--pyfixest PYTHON] [--statsmodels] [--write]

PYTHON is an interpreter that has pyfixest; it runs the same data, one after the other. Times are the least of five warm fits
with standard errors (statsmodels: one fit), in seconds of the clock and of all processors. Ours and statsmodels' have a
coefficient, with its error, for every level; pyfixest absorbs them.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pandas as pd

sys.path.insert(0, str(Path(__file__).parent.parent))

from benchmarks import tables
from benchmarks.recorded import circumstances, keep

PYFIXEST = """
import json, sys, time
import numpy as np, pandas as pd, pyfixest as pf
table = pd.DataFrame(dict(np.load(sys.argv[1])))
fits = {
    "poisson": lambda: pf.fepois("y ~ x1 + x2 | g", table, vcov="iid"),
    "logit": lambda: pf.feglm("z ~ x1 + x2 | g", table, family="logit", vcov="iid"),
    "normal": lambda: pf.feols("w ~ x1 + x2 | g", table, vcov="iid"),
}
out = {}
for name, fit in fits.items():
    res, times = fit(), []
    for _ in range(5):
        wall, cpu = time.perf_counter(), time.process_time()
        res = fit()
        times.append((time.perf_counter() - wall, time.process_time() - cpu))
    out[name] = [min(t) for t in zip(*times)], res.coef().tolist()
print(json.dumps(out))
"""


def simulated(n: int, levels: int) -> pd.DataFrame:
    """Counts, binary and normal outcomes of two covariates and the levels, which are text."""
    rng = np.random.default_rng(1)
    g, x = rng.integers(0, levels, n), rng.standard_normal((n, 2))
    eta = 0.3 * x[:, 0] - 0.2 * x[:, 1] + 0.5 * rng.standard_normal(levels)[g]
    return pd.DataFrame(
        {
            "y": rng.poisson(np.exp(eta)),
            "z": (rng.random(n) < 1 / (1 + np.exp(-eta))).astype(int),
            "w": eta + rng.standard_normal(n),
            "x1": x[:, 0],
            "x2": x[:, 1],
            "g": [f"g{i:03d}" for i in g],
        }
    )


def least(fit, repeats: int = 5) -> list[float]:
    """Seconds of the clock and of all processors, after a first fit."""
    fit()
    times = []
    for _ in range(repeats):
        wall, cpu = time.perf_counter(), time.process_time()
        fit()
        times.append((time.perf_counter() - wall, time.process_time() - cpu))
    return [min(t) for t in zip(*times, strict=True)]


def ours(table: pd.DataFrame) -> dict:
    """Least times and slopes."""
    import jax
    import jax.numpy as jnp
    from jax.scipy.stats import norm, poisson

    import mlejax as mle

    formula = "x1 + x2 + C(g)"
    models = {
        "poisson": mle.model(params={"mu": mle.Positive()})(lambda p, d: poisson.logpmf(d["y"], p["mu"])).regress(mu=formula),
        "logit": mle.model(params={"eta": mle.Real()})(
            lambda p, d: jax.nn.log_sigmoid(jnp.where(d["z"] == 1, p["eta"], -p["eta"]))
        ).regress(eta=formula),
        "normal": mle.model(params={"mu": mle.Real(), "sigma": mle.Positive()})(
            lambda p, d: norm.logpdf(d["w"], p["mu"], p["sigma"])
        ).regress(mu=formula),
    }
    out = {}
    for name, model in models.items():
        res = model.fit(table)
        assert res.converged
        out[name] = least(lambda model=model: model.fit(table).bse), res.params[1:3].tolist()
    return out


def statsmodels(table: pd.DataFrame) -> dict:
    """Times of one fit by formula, and slopes."""
    import statsmodels.formula.api as smf
    from statsmodels.genmod.families import Binomial, Poisson

    fits = {
        "poisson": lambda: smf.glm("y ~ x1 + x2 + C(g)", table, family=Poisson()).fit(),
        "logit": lambda: smf.glm("z ~ x1 + x2 + C(g)", table, family=Binomial()).fit(),
        "normal": lambda: smf.ols("w ~ x1 + x2 + C(g)", table).fit(),
    }
    out = {}
    for name, fit in fits.items():
        wall, cpu = time.perf_counter(), time.process_time()
        res = fit()
        out[name] = [time.perf_counter() - wall, time.process_time() - cpu], res.params[["x1", "x2"]].tolist()
    return out


def main() -> None:
    """Print one line a model."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--levels", type=int, default=200)
    parser.add_argument("--pyfixest", default=None)
    parser.add_argument("--statsmodels", action="store_true")
    parser.add_argument("--write", action="store_true", help="keep the times and the table")
    options = parser.parse_args()
    facts, rows = circumstances(), {}
    table, theirs = simulated(options.rows, options.levels), {}
    if options.pyfixest:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "table.npz"
            np.savez(path, **{name: table[name].to_numpy().astype("U4" if name == "g" else float) for name in table})
            done = subprocess.run(
                [options.pyfixest, "-c", PYFIXEST, str(path)], capture_output=True, text=True, check=True
            )
            theirs["pyfixest"] = json.loads(done.stdout.splitlines()[-1])
    if options.statsmodels:
        theirs["statsmodels"] = statsmodels(table)
    for name, ((wall, cpu), slopes) in ours(table).items():
        line, rows[name] = f"{name:8} {wall:6.2f} s, processors {cpu:6.2f} s", {"mlejax": [wall, cpu]}
        for other, found in theirs.items():
            (their_wall, their_cpu), b = found[name]
            apart = np.abs(np.divide(slopes, b) - 1).max()
            line += f"   {other} {their_wall:6.2f} s, processors {their_cpu:6.2f} s, apart {apart:.0e}"
            rows[name] |= {other: [their_wall, their_cpu], "apart": float(apart)}
        print(line, flush=True)
    if options.write:
        record = {"circumstances": facts, "rows_of_data": options.rows, "levels": options.levels, "rows": rows}
        keep("factors", record)
        tables.paste("factors", tables.by_levels(record))


if __name__ == "__main__":
    main()
