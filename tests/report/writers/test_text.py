"""What every text table keeps, whatever the numbers."""

import math
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlejax.inference.tables.formatting import format_estimates, format_p, format_statistic, percent_labels
from mlejax.report import Summary, Term
from tests.report.samples import EDGE, SAMPLES, term

sizes = st.tuples(st.floats(1, 9.99), st.integers(-9, 9), st.sampled_from([-1, 1])).map(
    lambda t: t[2] * t[0] * 10 ** t[1]
)


def number(text):
    return math.nan if text == "." else float(text)


@given(st.lists(st.tuples(sizes, sizes.map(abs)), min_size=1, max_size=5))
def test_what_is_printed_is_the_number(pairs):
    rows = [(b, s, b - 2 * s, b + 2 * s) for b, s in pairs]
    for row, texts in zip(rows, format_estimates(rows), strict=True):
        for value, text in zip(row, texts, strict=True):
            # Right to a twentieth of the standard error, or to its own leading digits.
            assert abs(number(text) - value) <= max(0.051 * row[1], 0) + 1e-12 * abs(value)
            assert value == 0 or number(text) != 0
        assert abs(number(texts[1]) / row[1] - 1) <= 0.051


@given(st.lists(st.tuples(sizes, sizes.map(abs)), min_size=1, max_size=5))
def test_columns_are_aligned(pairs):
    text = str(Summary("t", terms=tuple(term(f"b[{i}]", b, s) for i, (b, s) in enumerate(pairs))))
    lines = text.split("\n")
    width = len(lines[1])
    assert all(len(line) == width for line in lines[2:] if line)
    assert width >= 78


@pytest.mark.parametrize("name", SAMPLES)
def test_reports_are_plain_and_within_their_width(name):
    text = str(SAMPLES[name])
    assert text.isascii()
    lines = text.split("\n")
    assert not any(line != line.rstrip() for line in lines)
    assert max(map(len, lines)) == len(lines[1])
    # No printed number is a zero that stands for something else.
    printed = [t for t in SAMPLES[name].terms if t.coef == 0 or t.z == 0]
    assert printed or not re.search(r"(?<![\d.])-?0\.0+(?![\d])", text)


def test_p_values():
    assert [format_p(p) for p in (0.0, 9e-4, 0.001, 0.0499, 1.0)] == ["<0.001", "<0.001", "0.001", "0.050", "1.000"]


def test_statistics_are_never_a_false_zero():
    assert format_statistic(0.0004) == "4.0e-04"
    assert format_statistic(0.0) == format_statistic(-0.0) == "0.000"
    assert format_statistic(math.inf) == "inf"


def test_percent_labels():
    assert percent_labels(0.1) == ("[0.05", "0.95]")
    assert percent_labels(0.01) == ("[0.005", "0.995]")
    assert percent_labels(1e-4) == ("[0.00005", "0.99995]")


def test_equal_notes_share_a_marker_and_every_marker_is_explained():
    text = str(SAMPLES["missing"])
    rows = {line.split()[0]: line for line in text.split("\n") if line and not line.startswith(("=", "-"))}
    assert rows["mu[b]"].split()[-1] == rows["mu[c]"].split()[-1] == "a"
    assert rows["tau2"].split()[-1] == "b"
    assert rows["mu[b]"].count(" . ") + rows["mu[b]"].count(" .  ") > 0
    assert rows["(b)"] == f"(b) {EDGE}"
    assert rows["mu[a]"].split()[-1] == "0.990"


def test_many_markers():
    terms = tuple(Term(f"b{i}", 1.0, note=f"reason {i}") for i in range(28))
    lines = str(Summary("t", terms=terms)).split("\n")
    assert "(ab) reason 27" in lines


def test_fixed_rows_show_the_value_exactly_enough():
    terms = (term("a", 1.0, 0.1), Term("b", 0.0001234567, fixed=True), Term("c", 2.0, 99.0, fixed=True))
    lines = str(Summary("t", terms=terms)).split("\n")
    assert [line.split()[1:] for line in lines[5:7]] == [["0.000123457", "(fixed)"], ["2.000", "(fixed)"]]


def test_z_has_no_mark_where_it_has_no_meaning():
    line = str(Summary("t", terms=(term("sigma", 2.0, 0.5, tested=False),))).split("\n")[4]
    assert line.split() == ["sigma", "2.000", "0.500", "1.020", "2.980"]


def test_wide_names_widen_the_table():
    text = str(SAMPLES["long_names"])
    assert SAMPLES["long_names"].terms[0].name in text
    assert len(text.split("\n")[1]) > 100


def test_an_empty_report():
    assert str(Summary("nothing")).split("\n") == ["nothing".center(78).rstrip(), "=" * 78]


def test_a_summary_shows_itself():
    summary = SAMPLES["year"]
    assert str(summary) == repr(summary) == summary.as_text()
    assert summary._repr_html_() == summary.to_html()
