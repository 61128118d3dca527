"""Profile-likelihood intervals of all parameters of a logit, beside a warm fit and beside iminuit's MINOS; and what each row does
to the estimates, beside one evaluation of value, score and Hessian.

MINOS gets the same log-likelihood and the same exact gradient, compiled, and begins at the maximum with its Hessian known.  All
three are run in turn.  Shown are seconds of the clock and of all threads' processor time: the former are what a user waits, on
a quiet machine; the latter depend less on other work.

    python benchmarks/profiles.py            # 15 rounds
    python benchmarks/profiles.py --write    # kept in benchmarks/results/profiles.json
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

sys.path.insert(0, str(Path(__file__).parent.parent))

import mlejax as mle
from benchmarks.recorded import circumstances, keep
from mlejax.execution import float64
from mlejax.objective import ChunkedEvaluator

N, P = 10_000, 10


@mle.model(beta=mle.Real(shape=P))
def logit(params: Any, data: Any) -> Any:
    eta = data["X"] @ params["beta"]
    return data["y"] * eta - jnp.logaddexp(0.0, eta)


def data(n: int = N, seed: int = 0) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    X = np.column_stack([np.ones(n), rng.normal(size=(n, P - 1))])
    return {"X": X, "y": (rng.random(n) < 1 / (1 + np.exp(-X @ rng.normal(0, 0.3, P)))).astype(float)}


def minuit(d: dict[str, np.ndarray], estimate: np.ndarray) -> Any:
    """Minuit at the maximum, with the exact gradient."""
    from iminuit import Minuit

    with jax.enable_x64(True):
        X, y = jnp.asarray(d["X"]), jnp.asarray(d["y"])
        negative = lambda b: -jnp.sum(y * (X @ b) - jnp.logaddexp(0.0, X @ b))
        value, gradient = jax.jit(negative), jax.jit(jax.grad(negative))
        m = Minuit(lambda b: float(value(b)), estimate, grad=lambda b: np.asarray(gradient(b)))
        m.errordef = Minuit.LIKELIHOOD
        m.migrad()
        m.hesse()
    return m


def timed(function: Callable[[], Any]) -> tuple[np.ndarray, Any]:
    """Seconds of the clock and of the processor, (2,), and what the function returns."""
    now = lambda: np.array([time.perf_counter(), time.process_time()])
    begin = now()
    found = function()
    return now() - begin, found


def influence_in_hessians(rounds: int, n: int = 100_000) -> np.ndarray:
    """Processor time of ``res.influence()`` of n rows in evaluations of value, score and Hessian, (rounds,)."""
    fit = logit.fit(data(n))
    evaluator, rng = ChunkedEvaluator(fit._fit.spec, fit._fit.loaded.problem.data, None), np.random.default_rng(0)

    def hessian() -> None:
        with float64():
            evaluator.minimised(mle.Newton(), fit._fit.u + 1e-9 * rng.normal(size=P))

    hessian()
    fit.influence()
    return np.array([timed(fit.influence)[0][1] / timed(hessian)[0][1] for _ in range(rounds)])


def main(rounds: int, write: bool) -> None:
    d = data()
    res = logit.fit(d)
    m = minuit(d, res.params.to_numpy())
    res.conf_int(method="profile")
    times: dict[str, list[np.ndarray]] = {"fit": [], "profile": [], "minos": []}
    for _ in range(rounds):
        times["fit"].append(timed(lambda: logit.fit(d))[0])
        t, ours = timed(lambda: res.conf_int(method="profile"))
        times["profile"].append(t)
        with jax.enable_x64(True):
            times["minos"].append(timed(lambda: m.minos(cl=0.95))[0])
    theirs = np.array([[m.values[i] + e.lower, m.values[i] + e.upper] for i, e in enumerate(m.merrors.values())])
    off = np.abs(ours[["lower", "upper"]].to_numpy() - theirs) / res.bse.to_numpy()[:, None]
    print(f"logit, n = {N}, p = {P}, {2 * P} ends at 95 %; {rounds} rounds in turn")
    record: dict[str, Any] = {
        "n": N,
        "p": P,
        "ends": 2 * P,
        "rounds": rounds,
        "largest_difference_in_se": float(off.max()),
    }
    for i, clock in enumerate(("wall", "processor")):
        in_ms = {f"{name}, ms": 1e3 * np.array(t)[:, i] for name, t in times.items()}
        fit, profile, minos = in_ms.values()
        shown = {**in_ms, "all ends in warm fits": profile / fit, "faster than MINOS": minos / profile}
        for name, numbers in shown.items():
            low, middle, high = np.quantile(numbers, (0.25, 0.5, 0.75))
            print(f"{clock:10} {name:22} median {middle:7.2f}  quartiles {low:7.2f} {high:7.2f}", end="")
            print(f"  all {min(numbers):7.2f} to {max(numbers):7.2f}")
        record[clock] = {
            name: [round(x, 2) for x in np.quantile(numbers, (0.25, 0.5, 0.75))] for name, numbers in shown.items()
        }
    influence = influence_in_hessians(rounds)
    print(f"influence of 100,000 rows: {np.median(influence):.2f} evaluations of value, score and Hessian (median)")
    if write:
        record["influence_in_hessians"] = round(float(np.median(influence)), 2)
        keep("profiles", {**record, "quartiles": [0.25, 0.5, 0.75], "made_with": circumstances("iminuit")})
    print(f"MINOS is off by up to {off.max():.1e} standard errors; mlejax's log-likelihoods are verified to 1e-8")


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("rounds", nargs="?", type=int, default=15)
    parser.add_argument("--write", action="store_true")
    options = parser.parse_args()
    main(options.rounds, options.write)
