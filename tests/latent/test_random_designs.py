"""A twentieth of the random designs of `benchmarks/random_designs.py`, and what the committed numbers of all of them say."""

import json
from pathlib import Path

import pytest

from benchmarks.random_designs import REACH, one

KEPT = Path(__file__).parents[2] / "benchmarks" / "results" / "random_designs.json"


def most_points(row: dict) -> dict:
    """Distances with the most points that were tried: 41, more where those were not enough."""
    return row[max((key for key in row if key.isdigit()), key=int)]


def test_the_committed_designs_are_within_reach() -> None:
    """Quadrature beside brute force; the default within its own 1e-3 standard errors."""
    rows = json.loads(KEPT.read_text())["rows"]
    for row in rows:
        assert all(most_points(row)[name] <= reach for name, reach in REACH.items()), row
        assert max(row["default"]["estimates"], row["default"]["errors"]) < 1e-3, row


@pytest.mark.slow
@pytest.mark.parametrize(("family", "q"), [("poisson", 1), ("binomial", 1), ("binary", 1), ("poisson", 2), ("binary", 2)])
@pytest.mark.parametrize("seed", [0, 1])
def test_random_designs(family: str, q: int, seed: int) -> None:
    row = one(family, q, seed)
    if row is None:
        pytest.skip("its maximum is on an edge")
    assert all(most_points(row)[name] <= reach for name, reach in REACH.items())
    assert max(row["default"]["estimates"], row["default"]["errors"]) < 1e-3
