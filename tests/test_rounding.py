"""Formulas near limits at which they lose their digits: the records of `benchmarks/rounding.py` and `benchmarks/screen.py`, and
a few data sets again."""

from __future__ import annotations

import json

import numpy as np
import pytest

import mlejax as mle
from benchmarks import screen
from benchmarks.limits import MODELS, sample
from benchmarks.recorded import RESULTS
from benchmarks.rounding import KINDS, run


def test_the_record_has_no_miss() -> None:
    record = json.loads((RESULTS / "rounding.json").read_text())
    assert set(record["kinds"]) <= set(KINDS)
    assert record["misses"] == 0
    assert record["fits"] == sum(kind["fits"] for kind in record["kinds"].values()) >= 100


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_a_few_again(kind: str) -> None:
    assert run(kind, 5)["misses"] == {}


def test_the_screen_of_a_batch_missed_none_of_ten_thousand_faults() -> None:
    record = json.loads((RESULTS / "screen.json").read_text())
    assert set(record["kinds"]) == set(screen.NOISE)
    assert record["faults"] == sum(kind["faults"] for kind in record["kinds"].values()) >= 10_000
    assert record["misses"] == 0


@pytest.mark.parametrize(
    "kind", [pytest.param(k, marks=() if k == "nb, log alpha" else pytest.mark.slow) for k in screen.NOISE]
)
def test_a_twentieth_of_the_screen_again(kind: str) -> None:
    found = screen.run(kind, screen.MANY // 20)
    assert found["faults"] > found["ends"] // 4
    assert found["misses"] == []


@pytest.mark.parametrize("alpha", [1e-8, 1e-11, 1e-14])
def test_a_start_amid_the_noise_is_no_maximum(alpha: float) -> None:
    """The score is 0 to the last digit there, and the information positive."""
    y = sample("nb, alpha >= 0", np.random.default_rng(0))["y"]
    with pytest.warns(mle.ConvergenceWarning):
        res = MODELS["nb, alpha >= 0"].fit({"y": y}, start={"mu": y.mean(), "alpha": alpha})
    assert not res.converged
    assert np.isnan(res.bse).all()
