"""The same fits on a GPU and on all cores of its machine: answers compared before times, one table.

    python benchmarks/gpu.py --write          # JSON under benchmarks/results/, with the device's name
    python benchmarks/gpu.py --small          # a hundredth, to see that it works; without a GPU it compares the CPU with itself

Each platform runs in a process of its own, from NumPy arrays to NumPy results: copies to the device and back are part of the
time.  The first call, which compiles, stands apart.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from statistics import median
from typing import Any

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--rounds", type=int, default=5)
parser.add_argument("--small", action="store_true")
parser.add_argument("--write", action="store_true", help="keep the JSON under benchmarks/results/")
parser.add_argument("--timing", action="store_true", help=argparse.SUPPRESS)  # one platform, in a process of its own
options = parser.parse_args()

import jax  # noqa: E402
import jax.numpy as jnp  # noqa: E402
import numpy as np  # noqa: E402

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))

import mlejax as mle  # noqa: E402
from benchmarks.recorded import circumstances  # noqa: E402

SIZE = 0.01 if options.small else 1.0


@mle.model(beta=mle.Real(columns="X"))
def logit(params: Any, data: Any) -> Any:
    return mle.special.log_sigmoid(data["s"] * (data["X"] @ params["beta"]))


@mle.model(scale=mle.Positive(), shape=mle.Positive())
def weibull(params: Any, data: Any) -> Any:
    z = params["shape"] * (jnp.log(data["t"]) - jnp.log(params["scale"]))
    return data["d"] * (jnp.log(params["shape"]) - jnp.log(data["t"]) + z) - jnp.exp(z)


def logits(*lead: int, p: int) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    X = rng.standard_normal((*lead, p))
    X[..., 0] = 1.0
    eta = X @ np.resize([-0.5, 0.5, 0.3, -0.3, 0.2], p)
    return {"X": X, "s": np.where(rng.random(lead) < 1 / (1 + np.exp(-eta)), 1.0, -1.0)}


def censored(*lead: int) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(1)
    true, end = 2.0 * rng.weibull(1.5, lead), rng.uniform(0.5, 5.0, lead)
    return {"t": np.minimum(true, end), "d": (true <= end).astype(float)}


def time_all() -> None:
    """Prints, for each piece of work, the seconds of the first call and of the rounds, and some of the numbers."""
    many = int(100_000 * SIZE)
    work = {
        f"{many:,} logits, n = 200, p = 4": (logit, logits(many, 200, p=4), True, {"beta": np.zeros(4)}),
        f"{many:,} censored Weibulls, n = 100": (weibull, censored(many, 100), True, {"scale": 1.0, "shape": 1.0}),
        f"one logit, n = {int(1e6 * SIZE):,}, p = 20": (logit, logits(int(1e6 * SIZE), p=20), False, None),
        f"one logit, n = {int(1e7 * SIZE):,}, p = 10": (logit, logits(int(1e7 * SIZE), p=10), False, None),
    }
    out: dict[str, Any] = {"device": jax.devices()[0].device_kind, "platform": jax.default_backend(), "work": {}}
    for title, (model, data, batch, start) in work.items():
        fit = lambda: model.fit_batch(data, start, progress=False) if batch else model.fit(data)  # noqa: B023 - called here
        seconds = []
        for _ in range(options.rounds + 1):
            began = time.perf_counter()
            res = fit()
            numbers = np.atleast_2d(res.params.to_numpy())[:1000], np.atleast_2d(res.bse.to_numpy())[:1000]
            seconds.append(time.perf_counter() - began)
        assert np.all(res.converged)
        out["work"][title] = {
            "first": seconds[0], "seconds": seconds[1:], "params": numbers[0].tolist(), "bse": numbers[1].tolist(),
        }  # fmt: skip
    print(json.dumps(out))


def on(platform: str) -> dict[str, Any]:
    arguments = ["--timing", "--rounds", str(options.rounds), *(["--small"] * options.small)]
    env = {**os.environ, "JAX_PLATFORMS": platform} if platform else dict(os.environ)
    done = subprocess.run(
        [sys.executable, __file__, *arguments], env=env, check=True, stdout=subprocess.PIPE, text=True
    )
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def main() -> None:
    if options.timing:
        time_all()
        return
    facts = {**circumstances(), "size": SIZE, "rounds": options.rounds}
    theirs, ours = on("cpu"), on("")  # the platform that JAX prefers
    facts["device"], facts["platform"] = ours["device"], ours["platform"]
    rows = []
    print(f"{ours['device']} ({ours['platform']}) against {os.cpu_count()} cores\n")
    print("| work | device, s | all cores, s | ratio | first call, s | answers |")
    print("|---|---|---|---|---|---|")
    for title, here in ours["work"].items():
        there = theirs["work"][title]
        bse = np.asarray(there["bse"])
        apart = float(np.max(np.abs(np.asarray(here["params"]) - np.asarray(there["params"])) / bse))
        errors = float(np.max(np.abs(np.asarray(here["bse"]) / bse - 1.0)))
        row = {
            "work": title, "median": median(here["seconds"]), "range": [min(here["seconds"]), max(here["seconds"])],
            "first": here["first"], "cpu": median(there["seconds"]), "cpu_range": [min(there["seconds"]), max(there["seconds"])],
            "estimates_apart_in_se": apart, "errors_apart": errors,
        }  # fmt: skip
        rows.append(row)
        said = f"{apart:.0e} SE, errors {errors:.0e} apart"
        ratio = row["cpu"] / row["median"]
        print(f"| {title} | {row['median']:.3g} | {row['cpu']:.3g} | {ratio:.2g} | {row['first']:.3g} | {said} |")
        if apart > 1e-4 or errors > 1e-6:
            raise SystemExit(f"{title}: the answers differ")
    if options.write:
        kept = ROOT / "benchmarks" / "results" / "gpu.json"
        kept.write_text(json.dumps({"circumstances": facts, "rows": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
