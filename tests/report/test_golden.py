"""The printed reports, pinned. MLEJAX_UPDATE_GOLDEN=1 rewrites the files; read them before committing them."""

import os
from pathlib import Path

import pytest

from mlejax.report import render_html, render_text
from tests.report.samples import SAMPLES

GOLDEN = Path(__file__).parent / "golden"


def check(path, text):
    if os.environ.get("MLEJAX_UPDATE_GOLDEN") == "1":
        path.parent.mkdir(exist_ok=True)
        path.write_text(text + "\n", encoding="utf-8")
    assert path.exists(), f"{path.name} is missing: run once with MLEJAX_UPDATE_GOLDEN=1"
    assert path.read_text(encoding="utf-8") == text + "\n"


@pytest.mark.parametrize("name", SAMPLES)
def test_text(name):
    check(GOLDEN / f"{name}.txt", render_text(SAMPLES[name]))


@pytest.mark.parametrize("name", SAMPLES)
def test_html(name):
    check(GOLDEN / f"{name}.html", render_html(SAMPLES[name]))


def test_no_golden_file_is_left_behind():
    assert {path.stem for path in GOLDEN.iterdir()} == set(SAMPLES)
