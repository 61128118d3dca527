"""The printed reports, pinned. MLEJAX_UPDATE_GOLDEN=1 rewrites the files; read them before committing them."""

import os
from pathlib import Path

import pytest

from tests.report.samples import SAMPLES
from tests.report.samples_comparison import COMPARISONS

GOLDEN = Path(__file__).parent / "golden"


def check(path, text):
    if os.environ.get("MLEJAX_UPDATE_GOLDEN") == "1":
        path.parent.mkdir(exist_ok=True)
        path.write_text(text + "\n", encoding="utf-8")
    assert path.exists(), f"{path.name} is missing: run once with MLEJAX_UPDATE_GOLDEN=1"
    assert path.read_text(encoding="utf-8") == text + "\n"


@pytest.mark.parametrize("name", SAMPLES)
def test_text(name):
    check(GOLDEN / f"{name}.txt", str(SAMPLES[name]))


@pytest.mark.parametrize("name", SAMPLES)
def test_html(name):
    check(GOLDEN / f"{name}.html", SAMPLES[name].to_html())


@pytest.mark.parametrize("name", SAMPLES)
def test_latex(name):
    check(GOLDEN / f"{name}.tex", SAMPLES[name].to_latex(label=f"tab:{name}"))


@pytest.mark.parametrize("name", SAMPLES)
def test_markdown(name):
    check(GOLDEN / f"{name}.md", SAMPLES[name].to_markdown())


@pytest.mark.parametrize("name", COMPARISONS)
def test_comparison(name):
    table = COMPARISONS[name]
    check(GOLDEN / f"{name}.txt", str(table))
    check(GOLDEN / f"{name}.html", table.to_html())
    check(GOLDEN / f"{name}.tex", table.to_latex(caption="", label=None))
    check(GOLDEN / f"{name}.md", table.to_markdown())


def test_no_golden_file_is_left_behind():
    assert {path.stem for path in GOLDEN.iterdir()} == {*SAMPLES, *COMPARISONS}
