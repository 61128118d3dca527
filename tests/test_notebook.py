"""What notebooks show: well-formed HTML with the words that print, tables as tables, in the colours of the page."""

import copy
import pickle
from xml.etree import ElementTree

import jax
import numpy as np
import pandas as pd
import pytest
from jax.scipy.stats import norm

import mlejax as mle
from mlejax.notebook import STYLE, CellText, Text


@mle.model(mu=mle.Real(), sigma=mle.Positive())
def gaussian(params, data):
    return norm.logpdf(data["height"], params["mu"], params["sigma"])


@gaussian.simulator
def _(key, params, data):
    return {"height": params["mu"] + params["sigma"] * jax.random.normal(key, (data.n_rows,))}


@pytest.fixture(scope="module")
def shown() -> dict[str, object]:
    heights = pd.read_csv("examples/data/heights.csv").dropna()
    model = gaussian.regress(mu="sex")
    res, simple = model.fit(heights), gaussian.fit(heights)
    boot = res.bootstrap(200, seed=1)
    return {
        "verdict": res.verdict, "model": model, "check": model.check(heights), "wald": res.wald_test("mu[sex[T.male]] = 0"),
        "t": res.t_test("mu[sex[T.male]] = 0"), "lr": res.lr_test(simple), "nlcom": res.nlcom(lambda p: {"v <": p["sigma"] ** 2}),
        "boot": boot, "its summary": boot.summary(), "batch": gaussian.fit_groups(heights, by="sex"),
        "profile": res.profile("sigma"), "influence": res.influence(), "residuals": res.residuals(),
        "folds": res.cross_validate(3), "margins": res.margins(),
    }  # fmt: skip


TABLES = {"t", "nlcom", "boot", "its summary", "batch", "profile", "influence", "folds", "margins"}


def test_words_are_those_that_print(shown: dict[str, object]) -> None:
    """In their order, but for rules; none as one line of preformatted text."""
    for name, thing in shown.items():
        tree = ElementTree.fromstring(thing._repr_html_().replace("&emsp;", " "))
        text = str(thing.summary() if hasattr(thing, "summary") else thing)
        if name == "verdict":
            text = f"{thing}\n{thing.advice}\nSee {thing.address}"
        if name == "model":
            text = "mlejax model gaussian\nmu ~ sex\nsigma=Positive()"
        words = " ".join(part for node in tree.iter() if node.tag != "style" for part in (node.text, node.tail) if part)
        found, wanted = ([word for word in page.split() if word.strip("-")] for page in (words, text))
        if name == "folds":  # numbers there are rounded, and pandas puts the name of the index below the heads
            assert len(found) == len(wanted)
        else:
            assert found == wanted, name
        assert (tree.find("table") is not None) is (name in TABLES), name
        assert tree.find("pre") is None


def test_style_has_no_colours() -> None:
    """A dark page stays dark: colours are inherited, borders take the colour of the text."""
    for rule in STYLE.replace("}", ";").split(";"):
        key, _, value = rule.split("{")[-1].partition(":")
        assert value.strip() in ("inherit", "none") or key.strip() not in ("color", "background", "border"), rule


def test_text_is_a_string() -> None:
    """It prints at the prompt as by print, and is copied and pickled as the string that it is."""
    text = Text(["a", CellText("x  y\n1  2", [("x", "y"), ("1", "2")])])
    assert repr(text) == str(text) == text == "a\nx  y\n1  2"
    assert pickle.loads(pickle.dumps(text)) == copy.deepcopy(text) == text
    assert Text([text, "b"]).parts == (*text.parts, "b")
    assert np.asarray(text).item() == text
