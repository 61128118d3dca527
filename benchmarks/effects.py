"""Fixed effects by index against pyfixest: Poisson, logit and negative binomial, a million rows and 50,000 levels.

    python benchmarks/effects.py [--rows N --levels G] [--pyfixest PYTHON] [--write]

PYTHON is an interpreter that has pyfixest; it runs the same data, one after the other. Times are the least of three warm fits
with HC1 errors, in seconds of the clock and of all processors (the second one holds on a busy machine too). pyfixest has no
negative binomial.
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
    "poisson": lambda: pf.fepois("y ~ x1 + x2 | firm", table, vcov="hetero"),
    "logit": lambda: pf.feglm("z ~ x1 + x2 | firm", table, family="logit", vcov="hetero"),
}
out = {}
for name, fit in fits.items():
    res, times = fit(), []
    for _ in range(3):
        wall, cpu = time.perf_counter(), time.process_time()
        res = fit()
        times.append((time.perf_counter() - wall, time.process_time() - cpu))
    out[name] = [min(t) for t in zip(*times)], res.coef().tolist(), res.se().tolist()
print(json.dumps(out))
"""


def simulated(n: int, levels: int) -> pd.DataFrame:
    """Counts and binary outcomes of two covariates and the levels."""
    rng = np.random.default_rng(1)
    firm, x = rng.integers(0, levels, n), rng.standard_normal((n, 2))
    eta = 0.3 * x[:, 0] - 0.2 * x[:, 1] + 0.5 * rng.standard_normal(levels)[firm]
    y, z = rng.poisson(np.exp(eta)), (rng.random(n) < 1 / (1 + np.exp(-eta))).astype(int)
    k = rng.negative_binomial(2.0, 2.0 / (2.0 + np.exp(eta)))
    return pd.DataFrame({"y": y, "z": z, "k": k, "x1": x[:, 0], "x2": x[:, 1], "firm": firm})


def ours(table: pd.DataFrame) -> dict:
    """Least times, slopes and errors."""
    import jax
    import jax.numpy as jnp
    from jax.scipy.stats import poisson

    import mlejax as mle

    declared = {"beta": mle.Real(columns=["x1", "x2"]), "alpha": mle.Real(by="firm")}

    def eta(params, data):
        return data["x1"] * params["beta"][0] + data["x2"] * params["beta"][1] + params["alpha"]

    models = {
        "poisson": mle.model(params=declared)(lambda p, d: poisson.logpmf(d["y"], jnp.exp(eta(p, d)))),
        "logit": mle.model(params=declared)(
            lambda p, d: jax.nn.log_sigmoid(jnp.where(d["z"] == 1, eta(p, d), -eta(p, d)))
        ),
        "negative binomial": mle.model(params={**declared, "size": mle.Positive()})(
            lambda p, d: mle.special.nb2_logpmf(d["k"], jnp.exp(eta(p, d)), p["size"])
        ),
    }
    out = {}
    for name, model in models.items():
        res, times = model.fit(table, cov_type="HC1"), []
        for _ in range(3):
            wall, cpu = time.perf_counter(), time.process_time()
            res = model.fit(table, cov_type="HC1")
            times.append((time.perf_counter() - wall, time.process_time() - cpu))
        assert res.converged
        out[name] = [min(t) for t in zip(*times, strict=True)], res.params[:2].tolist(), res.bse[:2].tolist()
    return out


def main() -> None:
    """Print one line a model."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--levels", type=int, default=50_000)
    parser.add_argument("--pyfixest", default=None)
    parser.add_argument("--write", action="store_true", help="keep the times and the table")
    options = parser.parse_args()
    facts, rows = circumstances(), {}
    table, theirs = simulated(options.rows, options.levels), {}
    if options.pyfixest:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "table.npz"
            np.savez(path, **{name: table[name].to_numpy() for name in table})
            done = subprocess.run(
                [options.pyfixest, "-c", PYFIXEST, str(path)], capture_output=True, text=True, check=True
            )
            theirs = json.loads(done.stdout.splitlines()[-1])
    for name, ((wall, cpu), params, errors) in ours(table).items():
        line, rows[name] = f"{name:18} {wall:7.2f} s, processors {cpu:7.2f} s", {"mlejax": [wall, cpu]}
        if name in theirs:
            (their_wall, their_cpu), b, se = theirs[name]
            apart = max(np.abs(np.divide(params, b) - 1).max(), np.abs(np.divide(errors, se) - 1).max())
            line += f"   pyfixest {their_wall:7.2f} s, processors {their_cpu:7.2f} s   apart {apart:.1e}"
            rows[name] |= {"pyfixest": theirs[name][0], "apart": float(apart)}
        print(line, flush=True)
    if options.write:
        record = {"circumstances": facts, "rows_of_data": options.rows, "levels": options.levels, "rows": rows}
        keep("effects", record)
        tables.paste("effects", tables.by_levels(record))


if __name__ == "__main__":
    main()
