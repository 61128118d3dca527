"""Coverage and levels beside their exact probabilities: the record of `benchmarks/calibration.py`, and a twentieth again."""

from __future__ import annotations

import json
import warnings
from typing import Any

import pytest

from benchmarks.calibration import CHUNKS, FAR, STUDIES, WRONG_LAW, WRONG_SETS, chunk, off, wrong_law
from benchmarks.recorded import RESULTS

RECORD: dict[str, Any] = {row["name"]: row for row in json.loads((RESULTS / "calibration.json").read_text())["rows"]}


@pytest.mark.parametrize("name", RECORD)
def test_what_was_recorded(name: str) -> None:
    """10,000 data sets and more; the exact probability within 3.5 binomial errors; errors 5 % off are outside."""
    one = RECORD[name]
    assert one["n_sets"] >= 10_000
    if name == WRONG_LAW:
        assert all(0.93 <= share <= 0.96 for share in one["coverage"]["HC0"].values())
        assert not all(0.93 <= share <= 0.96 for share in one["coverage"]["nonrobust"].values())
        return
    assert one["exact"] == pytest.approx(STUDIES[name].exact, rel=1e-9)
    right, *planted = (off(n, one["n_sets"], one["exact"]) for n in one["covered"])
    assert abs(right) < FAR
    assert len(planted) == 2
    assert all(abs(wrong) > FAR for wrong in planted)


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in RECORD if name != WRONG_LAW])
def test_a_twentieth_again(name: str) -> None:
    """The same data sets give the same counts, but for one on the very edge of an interval; with errors 5 % off they do not."""
    found, recorded = chunk(name, 0), RECORD[name]["chunks"][0]
    for mine, theirs in zip(found, recorded, strict=True):
        assert abs(mine - theirs) <= 1
    assert all(abs(wrong - recorded[0]) > 1 for wrong in found[1:])


@pytest.mark.slow
@pytest.mark.skipif(WRONG_LAW not in RECORD, reason="not recorded")
def test_a_twentieth_under_a_wrong_law() -> None:
    one = RECORD[WRONG_LAW]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = wrong_law(one["truth"], 0, WRONG_SETS // CHUNKS)
    for kind, counts in one["chunks"][0].items():
        for entry, n in counts.items():
            assert abs(found[kind][entry] - n) <= 1


def test_every_procedure_was_recorded() -> None:
    assert set(STUDIES) <= set(RECORD)
