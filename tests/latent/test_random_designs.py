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


DESIGNS = [("poisson", 1, 0), ("poisson", 1, 1), ("binomial", 1, 0), ("binomial", 1, 1), ("binary", 1, 0), ("binary", 1, 1),
           ("binary", 1, 17), ("poisson", 2, 0), ("poisson", 2, 1), ("binary", 2, 3)]  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize(("family", "q", "seed"), DESIGNS)
def test_random_designs(family: str, q: int, seed: int) -> None:
    row = one(family, q, seed)
    assert row is not None
    assert all(most_points(row)[name] <= reach for name, reach in REACH.items())
    assert max(row["default"]["estimates"], row["default"]["errors"]) < 1e-3
