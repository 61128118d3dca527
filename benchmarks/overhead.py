"""What a verdict costs where nothing is wrong: its share of a warm fit, of a first one and of a batch.

    python benchmarks/overhead.py            # print
    python benchmarks/overhead.py --write    # and keep it: benchmarks/results/overhead.json, docs/benchmarks/speed.md
    python benchmarks/overhead.py --digits   # only what an end costs whose digits are looked at; kept beside the rest

The verdict of a clean fit comes from numbers that the fit has anyway: the scaled information's eigenvalues, the last
decrements, the score at edges, the share of the score's change that the information explains (the screen for rounding).  The
time inside these steps is taken while whole fits run, each with its standard errors.  Medians of 30, of large ones 7.
"""

import json
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

import jax
import numpy as np
from jax.scipy.special import gammaln

sys.path.insert(0, str(Path(__file__).parent.parent))

import mlejax as mle
from benchmarks import tables
from benchmarks.recorded import RESULTS, circumstances, keep
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


def digits() -> list[dict[str, float]]:
    """Seconds of the processor for an end whose digits are looked at (a dispersion far from its start), error bars and rows with
    extreme values included: of the first fit of three equal models one after the other, and of their second fits.

    The first model of a process also imports scipy.special.
    """
    rng = np.random.default_rng(0)
    x = np.column_stack([np.ones(1000), rng.normal(size=(1000, 3))])
    y = rng.negative_binomial(3, 3 / (3 + np.exp(x @ np.full(4, 0.3)))).astype(float)
    spent: list[float] = []

    def with_clock(*args: Any) -> Any:
        began = time.process_time()
        found = list(diagnose(*args))
        spent.append(time.process_time() - began)
        return iter(found)

    diagnose = search.diagnose
    with mock.patch.object(search, "diagnose", with_clock):
        for _ in range(3):

            @mle.model(beta=mle.Real(columns="X"), alpha=mle.Positive())
            def negative_binomial(params, data):
                mu, r, y = jax.numpy.exp(data["X"] @ params["beta"]), 1.0 / params["alpha"], data["y"]
                ways = gammaln(y + r) - gammaln(r) - gammaln(y + 1.0)
                return ways + r * jax.numpy.log(r / (r + mu)) + y * jax.numpy.log(mu / (r + mu))

            for _ in range(2):
                assert negative_binomial.fit({"X": x, "y": y}, start={"alpha": 1e-3}).verdict.code == "verified"
    return [{"first": first, "second": second} for first, second in zip(spent[::2], spent[1::2], strict=True)]


def main() -> None:
    if "--digits" in sys.argv:
        found = digits()
        print(found)
        keep("overhead", json.loads((RESULTS / "overhead.json").read_text()) | {"digits": found})
        return
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
        keep("overhead", {"circumstances": facts, "rows": rows, "digits": digits()})
        tables.paste("overhead", tables.overhead(rows))


if __name__ == "__main__":
    main()
