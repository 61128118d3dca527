"""Fits at the limits of their families: the record of `benchmarks/limits.py`, and some of it again."""

from __future__ import annotations

import json

import pytest

from benchmarks.limits import MODELS, run
from benchmarks.recorded import RESULTS

QUICK = ("nb, log alpha", "frontier, right skew")


def test_the_record_has_no_untrue_statement() -> None:
    record = json.loads((RESULTS / "limits.json").read_text())
    assert set(record["kinds"]) == set(MODELS)
    assert record["untrue"] == 0
    assert record["right"] >= 0.95 * record["fits"]


@pytest.mark.parametrize("kind", [pytest.param(k, marks=() if k in QUICK else pytest.mark.slow) for k in MODELS])
def test_one_sample_again(kind: str) -> None:
    assert run(kind, 1)["right"] == 2
