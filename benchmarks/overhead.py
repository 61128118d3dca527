"""What a verdict costs where nothing is wrong: its share of a warm fit.

    python benchmarks/overhead.py            # print
    python benchmarks/overhead.py --write    # and keep it: benchmarks/results/overhead.json, docs/benchmarks/speed.md

The verdict of a clean fit comes from numbers that the fit has anyway: the scaled information's eigenvalues, the last
decrements, the score at edges.  Timed here are these steps alone, beside a warm fit with everything.  Medians of 30.
"""

import sys
import time
from pathlib import Path

import jax
import numpy as np

sys.path.insert(0, str(Path(__file__).parent.parent))

import mlejax as mle
from benchmarks import tables
from benchmarks.recorded import circumstances, keep
from mlejax.fit.diagnose import Findings, clean, evidence_at
from mlejax.optimize import OptimizeResult
from mlejax.status import End
from mlejax.verdict import judge


@mle.model(beta=mle.Real(columns="X"))
def logit(params, data):
    return jax.nn.log_sigmoid((2 * data["y"] - 1) * (data["X"] @ params["beta"]))


def median(work, rounds: int = 30) -> float:
    """Seconds, the median of so many rounds after one that is not counted."""
    work()
    times = []
    for _ in range(rounds):
        began = time.perf_counter()
        work()
        times.append(time.perf_counter() - began)
    return float(np.median(times))


def main() -> None:
    rows, facts = [], circumstances()
    for n, p in ((1_000, 4), (10_000, 10), (100_000, 20)):
        rng = np.random.default_rng(0)
        x = np.column_stack([np.ones(n), rng.normal(size=(n, p - 1))])
        data = {"X": x, "y": (rng.random(n) < 1 / (1 + np.exp(-x @ np.full(p, 0.2)))).astype(float)}
        done = logit.fit(data)._fit
        known = done.verdict.evidence
        end = OptimizeResult(
            u=done.u, loglik=np.float64(done.llf), score=done.score, information=done.information,
            decrements=np.asarray(known["decrements"]), mismatch=np.asarray(known["mismatch"]),
            n_steps=np.asarray(done.n_steps), status=np.asarray(int(End.CONVERGED)),
        )  # fmt: skip

        def verdict(done=done, end=end) -> None:
            clean(end.alone(), done.spec.space)
            judge(evidence_at(done.spec.space, done.fixed, end, Findings()))

        whole, part = median(lambda data=data: logit.fit(data).bse), median(verdict)
        rows.append({"n": n, "p": p, "fit": whole, "verdict": part})

    print(tables.overhead(rows))
    if "--write" in sys.argv:
        keep("overhead", {"circumstances": facts, "rows": rows})
        tables.paste("overhead", tables.overhead(rows))


if __name__ == "__main__":
    main()
