"""The HTML: well formed, escaped, self-contained, and with the same cells as the text."""

from html.parser import HTMLParser

import pytest

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
    reader.feed(SAMPLES[name].to_html())
    reader.close()
    assert reader.open == []
    for line in SAMPLES[name].page().tables[0].lines:
        for cell in (line.name, *line.cells):
            assert not cell.text or cell.text in reader.cells
    assert not {"script", "link", "img", "i", "b"} & set(reader.seen)
    assert not any(key in ("src", "href", "onclick") for key, _ in reader.attributes)


def test_markers_lead_to_their_notes():
    text = SAMPLES["missing"].to_html()
    assert "mu[b]<sup>a</sup>" in text
    assert '<p class="note"><sup>b</sup> at its lower edge 0' in text


def test_no_colours_are_fixed():
    text = SAMPLES["regression"].to_html()
    assert "#" not in text.split("</style>")[0]
    assert "background: none" in text
