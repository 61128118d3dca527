"""The table of what other programs say: as recorded, complete, and true of mlejax."""

from __future__ import annotations

import json
from importlib.metadata import PackageNotFoundError

import pytest

from benchmarks import peers, tables, verdicts
from tests.test_docs import differences

RECORD = json.loads((verdicts.RESULTS / "verdicts.json").read_text())
CODES = {
    "separation": "no_finite_maximum",
    "sum": "not_identified",
    "variance": "boundary",
    "zeros": "no_finite_maximum",
    "cauchy": "verified",
    "mixture": "verified",
    "nb": "no_finite_maximum",
    "t": "no_finite_maximum",
    "frontier": "verified",
    "wrong skew": "boundary",
    "time": "verified",
}


def test_the_page_shows_the_record() -> None:
    assert tables.pasted("verdicts") == verdicts.table(RECORD)


def test_the_page_counts_what_the_records_count() -> None:
    assert tables.pasted("counts") == tables.counts()


def test_every_program_speaks_of_every_data_set() -> None:
    """None is dropped, installed or not, and R's part can be read without R."""
    wanted = {(name, tool) for name in CODES for tool in verdicts.TOOLS}
    assert {(entry["data_set"], entry["tool"]) for entry in RECORD["said"]} == wanted
    by_r = json.loads((verdicts.RESULTS / "verdicts_r.json").read_text())
    assert set(by_r["software"]) == {"R", *verdicts.R_TOOLS}
    assert [entry for entry in RECORD["said"] if entry["tool"] in verdicts.R_TOOLS] == [
        peers.as_json(verdicts.said_from(entry))
        for entry in sorted(by_r["said"], key=lambda e: list(CODES).index(e["data_set"]))
    ]


def test_a_program_that_is_missing_is_shown_as_such(monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(name: str) -> str:
        raise PackageNotFoundError(name)

    monkeypatch.setattr(peers, "version", absent)
    monkeypatch.setattr(verdicts.shutil, "which", lambda name: None)
    said = peers.ask("iminuit", peers.data_sets()[0])
    assert said.says == "not installed"
    assert verdicts.cell(said) == "not installed"
    from_record, software = verdicts.by_r()
    assert len(from_record) == len(CODES) * len(verdicts.R_TOOLS)
    assert "R" in software


@pytest.mark.parametrize(
    ("x", "text"), [(None, "none"), (0.034, "0.034"), (2643.2, "2643"), (4.13e5, "4.1e5"), (1e-8, "1.0e-8")]
)
def test_short_numbers(x: float | None, text: str) -> None:
    assert verdicts.short(x) == text


@pytest.mark.slow
@pytest.mark.parametrize("data_set", peers.data_sets(), ids=lambda d: d.name)
def test_what_mlejax_says(data_set: peers.DataSet) -> None:
    """The code, and the cell of the page; the two-mode Cauchy ends at the lower maximum and claims no more."""
    said = verdicts.by_mlejax(data_set)
    assert said.says == CODES[data_set.name]
    (recorded,) = [e for e in RECORD["said"] if (e["data_set"], e["tool"]) == (data_set.name, "mlejax")]
    # elsewhere the point depends on where the search was stopped
    if data_set.name in ("sum", "variance", "cauchy", "frontier", "wrong skew", "time", "mixture"):
        assert (
            differences(
                verdicts.cell(verdicts.said_from(recorded)).replace("<br>", " "),
                verdicts.cell(said).replace("<br>", " "),
            )
            == []
        )
    else:
        assert said.se is None
        assert verdicts.cell(said) == verdicts.cell(verdicts.said_from(recorded))
    if data_set.name == "mixture":  # R's estimate, as in tests/test_reference_cases.py, and no word that it is the highest
        assert said.estimate == pytest.approx(5.8712, abs=1e-4)
        assert "elsewhere the log-likelihood rises without bound, along sigma1 -> 0" in said.message
    if data_set.name == "cauchy":
        assert said.estimate == pytest.approx(2.81747216557313, abs=1e-8)
        assert said.message.startswith("a local maximum")
