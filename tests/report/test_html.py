"""The HTML: well formed, escaped, self-contained, and with the same cells as the text."""

from html.parser import HTMLParser

import pytest

from mlejax.report import render_html
from mlejax.report.cells import estimates_grid
from tests.report.samples import SAMPLES

VOID = {"br"}


class Reader(HTMLParser):
    def __init__(self):
        super().__init__()
        self.open, self.seen, self.cells, self.attributes = [], [], [], []

    def handle_starttag(self, tag, attrs):
        self.seen.append(tag)
        self.attributes += attrs
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] in ("td", "th"):
            self.cells.append(data)


@pytest.mark.parametrize("name", SAMPLES)
def test_well_formed_and_complete(name):
    reader = Reader()
    reader.feed(render_html(SAMPLES[name]))
    reader.close()
    assert reader.open == []
    for row in estimates_grid(SAMPLES[name]).rows:
        for cell in row[:7]:
            assert not cell or cell in reader.cells
    assert not {"script", "link", "img", "i", "b"} & set(reader.seen)
    assert not any(key in ("src", "href", "onclick") for key, _ in reader.attributes)


def test_markers_lead_to_their_notes():
    text = render_html(SAMPLES["missing"])
    assert "mu[b]<sup>a</sup>" in text
    assert '<p class="note"><sup>b</sup> at its lower edge 0' in text


def test_no_colours_are_fixed():
    text = render_html(SAMPLES["regression"])
    assert "#" not in text.split("</style>")[0]
    assert "background: none" in text
