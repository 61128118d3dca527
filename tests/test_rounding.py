"""Formulas near limits at which they lose their digits: the record of `benchmarks/rounding.py`, and a few data sets again."""

from __future__ import annotations

import json

import pytest

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
