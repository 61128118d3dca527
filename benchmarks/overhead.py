"""What a verdict costs where nothing is wrong: its share of a warm fit, of a first one and of a batch.

    python benchmarks/overhead.py            # print
    python benchmarks/overhead.py --write    # and keep it: benchmarks/results/overhead.json, docs/benchmarks/speed.md

The verdict of a clean fit comes from numbers that the fit has anyway: the scaled information's eigenvalues, the last
decrements, the score at edges, the share of the score's change that the information explains (the screen for rounding).  The
time inside these steps is taken while whole fits run, each with its standard errors.  Medians of 30, of large ones 7.
"""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

import jax
import numpy as np

sys.path.insert(0, str(Path(__file__).parent.parent))

import mlejax as mle
from benchmarks import tables
from benchmarks.recorded import circumstances, keep
from mlejax.fit import search
from mlejax.fit.finish import finish

STEPS = ((search, "clean"), (search, "suspect"), (finish, "evidence_at"), (finish, "judge"))
SIZES = ((1, 1_000, 4, 30), (1, 10_000, 10, 30), (1, 100_000, 20, 30), (1, 1_000_000, 10, 7), (5_000, 100, 4, 7))


@contextmanager
def timed() -> Iterator[list[float]]:
    """A list that grows by the seconds spent in each step of the verdict."""
    spent: list[float] = []

    def with_clock(step: Callable[..., Any]) -> Callable[..., Any]:
        def run(*args: Any, **kwargs: Any) -> Any:
            began = time.perf_counter()
            try:
                return step(*args, **kwargs)
            finally:
                spent.append(time.perf_counter() - began)

        return run

    with ExitStack() as stack:
        for module, name in STEPS:
            stack.enter_context(mock.patch.object(module, name, with_clock(getattr(module, name))))
        yield spent


def measured(work: Callable[[], Any], rounds: int) -> dict[str, float]:
    """Seconds of the whole and of the verdict, medians after a first run, and those of the first verdict."""
    whole, part = [], []
    for _ in range(rounds + 1):
        with timed() as spent:
            began = time.perf_counter()
            work()
            whole.append(time.perf_counter() - began)
        part.append(sum(spent))
    return {"fit": float(np.median(whole[1:])), "verdict": float(np.median(part[1:])), "first": part[0]}


def main() -> None:
    rows, facts = [], circumstances()
    for sets, n, p, rounds in SIZES:

        @mle.model(beta=mle.Real(columns="X"))
        def logit(params, data):
            return jax.nn.log_sigmoid((2 * data["y"] - 1) * (data["X"] @ params["beta"]))

        rng = np.random.default_rng(0)
        x = np.concatenate([np.ones((sets, n, 1)), rng.normal(size=(sets, n, p - 1))], axis=2)
        y = (rng.random((sets, n)) < 1 / (1 + np.exp(-x @ np.full(p, 0.2)))).astype(float)
        data = {"X": x, "y": y} if sets > 1 else {"X": x[0], "y": y[0]}
        fit = logit.fit_batch if sets > 1 else logit.fit
        rows.append({"sets": sets, "n": n, "p": p, **measured(lambda fit=fit, data=data: fit(data).bse, rounds)})
        print(rows[-1], flush=True)

    print(tables.overhead(rows))
    if "--write" in sys.argv:
        keep("overhead", {"circumstances": facts, "rows": rows})
        tables.paste("overhead", tables.overhead(rows))


if __name__ == "__main__":
    main()
