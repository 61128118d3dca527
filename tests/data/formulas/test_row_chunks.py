"""Designs evaluated piece by piece are those of all rows at once; formulas that need all rows get them."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import jax
import numpy as np
import pandas as pd
import pytest

import mlejax as mle
from mlejax.data import formulas, ingest
from mlejax.data.formulas import row_chunks
from mlejax.data.formulas.parsing import parse
from mlejax.execution import Limits, use_limits
from mlejax.fit.prepare.loading import load

N = 1_000


def table() -> pd.DataFrame:
    rng = np.random.default_rng(0)
    text = np.resize(["b", "c"], N).astype(object)
    text[-3:] = "a"  # a level of the last rows only, and the first in order
    return pd.DataFrame(
        {
            "x": rng.standard_normal(N),
            "positive": rng.random(N) + 0.1,
            "count": rng.integers(0, 9, N),
            "narrow": rng.integers(0, 9, N).astype(np.int8),
            "flag": np.arange(N) > N - 5,
            "text": text,
            "region": pd.Categorical(text, ["c", "a", "b", "nowhere"]),
            "year": np.resize([2003, 2001, 2002], N),
            "a b": rng.standard_normal(N),
            "y": rng.standard_normal(N),
        }
    )


@pytest.fixture
def small_chunks() -> Iterator[None]:
    with use_limits(Limits(read_rows=64)):
        yield


def design(formula: str, chunk: int) -> tuple[formulas.FittedFormula, np.ndarray, bool]:
    """The design, and whether its formula can be evaluated in chunks of so many rows."""
    with use_limits(Limits(read_rows=chunk)):
        made, values = formulas.evaluate(formula, ingest(table()), None, "test")
        found = row_chunks.in_chunks(parse(formula, "test"), table(), lambda make, part: make(part))
    return made, values, found is not None


@pytest.mark.parametrize(
    "formula",
    [
        "x",
        "0 + x + count + narrow",
        "x + flag",
        "x * positive",
        "log(positive) + np.sqrt(positive)",
        "I(x**2) + {x / (1 + positive)} + {-x}",
        "text",
        "0 + text",
        "region",
        "C(year)",
        "C(text):x + C(region)",
        "text * C(year) + np.exp(-x)",
        "`a b` + x",
        "1",
    ],
)
def test_chunks_are_the_whole(formula: str) -> None:
    whole, values, cut = design(formula, N)
    assert not cut
    pieces, other, cut = design(formula, 64)
    assert cut
    np.testing.assert_array_equal(values, other)
    assert pieces.labels == whole.labels
    assert formulas.levels(pieces) == formulas.levels(whole)
    new = ingest(table().iloc[-40:].reset_index(drop=True))
    for piece in (whole, pieces):
        np.testing.assert_array_equal(formulas.evaluate_again(piece, new, None, "test"), values[-40:])


@pytest.mark.parametrize(
    "formula",
    [
        "scale(x)",
        "x + center(count)",
        "poly(x, 3)",
        "bs(x, df=4)",
        "{x - x.mean()}",
        "{x - np.mean(x)}",
        "I(np.cumsum(x))",
        "{x / max(x)}",
        "C(year, contr.sum)",
        "C(count > 4)",
        "hashed(text, levels=4)",
        "np.power(x, 2)",
    ],
)
def test_other_formulas_see_all_rows(formula: str) -> None:
    _, values, _ = design(formula, N)
    _, other, cut = design(formula, 64)
    assert not cut
    np.testing.assert_array_equal(values, other)


@pytest.mark.usefixtures("small_chunks")
@pytest.mark.parametrize("name", ["log", "C"])
def test_columns_named_like_functions(name: str) -> None:
    """A column hides the function of its name, so that what is called is not what it seems."""
    frame = table().rename(columns={"positive": name})
    parsed = parse(f"{name}(count)", "test")
    assert row_chunks.in_chunks(parsed, frame, lambda make, part: make(part)) is None


@pytest.mark.usefixtures("small_chunks")
def test_values_that_are_not_finite_are_named_by_their_row() -> None:
    df = table()
    df.loc[700, "positive"] = 0.0
    with pytest.raises(mle.DataError, match=r"missing or infinite.*row 700"):
        formulas.evaluate("x + log(positive)", ingest(df), None, "test")


@pytest.mark.usefixtures("small_chunks")
@pytest.mark.parametrize("formula", ["x + text + C(year)", "x + scale(count) + text"])
def test_rows_dropped_are_rows_that_were_never_there(formula: str) -> None:
    @mle.model(mu=mle.Real(), sigma=mle.Positive())
    def gaussian(params: Any, data: Any) -> Any:
        z = (data["y"] - params["mu"]) / params["sigma"]
        return -0.5 * z**2

    df = table()
    df.loc[df.index[10::7], "x"] = np.nan
    df.loc[N - 1, "y"] = np.nan
    likelihood = gaussian.regress(mu=formula).likelihood
    complete = df.dropna().reset_index(drop=True)
    with jax.enable_x64(True):  # as a fit does
        found, wanted = load(likelihood, df, None, "drop"), load(likelihood, complete, None, "raise")
    assert found.rows.n_dropped == len(df) - len(complete)
    for one, other in zip(found.rows.leaves, wanted.rows.leaves, strict=True):
        np.testing.assert_array_equal(one, other)
    assert found.fingerprint == wanted.fingerprint


MEMORY = """
import sys, threading
import numpy as np, pandas as pd
import mlejax as mle

@mle.model(eta=mle.Real())
def bernoulli(params, data):
    return data["y"] * params["eta"] - mle.special.softplus(params["eta"])

def resident():
    return int(open("/proc/self/statm").read().split()[1]) * 4096

names = [f"x{j}" for j in range(10)]
missing = sys.argv[1]

def draws(n):
    rng = np.random.default_rng(0)
    df = pd.DataFrame({name: rng.standard_normal(n) for name in [*names, "y"]}, copy=False)
    df["y"] = np.where(df["y"] + 0.3 * df["x0"] > 0, 1.0, 0.0)
    if missing == "drop":
        df.loc[::1000, "x3"] = np.nan
    return df

model = bernoulli.regress(eta=sys.argv[2])
model.fit(draws(140_000), missing=missing)  # the program and the libraries are in memory before
df = draws(5_000_000)
size, before, peak, done = 88 * len(df), resident(), [0], threading.Event()

def watch():
    while not done.wait(0.002):
        peak[0] = max(peak[0], resident())

watching = threading.Thread(target=watch)
watching.start()
assert model.fit(df, missing=missing).verdict.code == "verified"
done.set()
watching.join()
print((peak[0] - before) / size)
"""


@pytest.mark.slow
@pytest.mark.skipif(not os.path.exists("/proc/self/statm"), reason="reads Linux's own count of resident memory")
@pytest.mark.parametrize(
    ("missing", "first", "limit"), [("raise", "x0", 1.5), ("drop", "x0", 2.9), ("raise", "poly(x0, 3)", 2.9)]
)
def test_memory_of_formulas_beyond_the_data(missing: str, first: str, limit: float) -> None:
    """The design (dropped rows: and the rows that are kept; a basis of a whole column: and its terms)."""
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}
    formula = " + ".join([first, *(f"x{j}" for j in range(1, 10))])
    done = subprocess.run([sys.executable, "-c", MEMORY, missing, formula], env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert float(done.stdout.split()[-1]) < limit
