"""Edges, and columns in any order, shift and scale: a twentieth of `benchmarks/torture.py` again."""

from __future__ import annotations

import pytest

from benchmarks.torture import DESIGN_KINDS, KINDS, run, run_designs

QUICK = ("moving average, closed", "random intercepts, sd >= 0")
QUICK_DESIGNS = (("shifted", "logit"), ("collinear", "logit"))


@pytest.mark.parametrize("kind", [pytest.param(k, marks=() if k in QUICK else pytest.mark.slow) for k in KINDS])
def test_edges(kind: str) -> None:
    found = run(kind, 1)
    assert found["untrue"] == {}
    assert found["right"] == found["fits"] == 2


@pytest.mark.parametrize(
    ("what", "family"), [pytest.param(*k, marks=() if k in QUICK_DESIGNS else pytest.mark.slow) for k in DESIGN_KINDS]
)
def test_designs(what: str, family: str) -> None:
    found = run_designs(what, family, 1)
    assert found["right"] == found["fits"] >= 36
