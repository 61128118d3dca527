"""Saved results: the same tables to the byte, the same inference, without data and model; hostile files are refused."""

from __future__ import annotations

import copy
import dataclasses
import hashlib
import json
import os
import random
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pandas as pd
import pytest

import mlejax as mle
from mlejax.files import saved as saving
from mlejax.files.formulas import refuse_unknown
from mlejax.fit import Fit, Loaded
from mlejax.objective import Spec
from mlejax.portable import AbsentError
from tests.files.importable import MAKERS, gaussian, result, table
from tests.zoo import REGRESSION


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("saved")


def saved(folder: Path, name: str) -> Path:
    path = folder / f"{name}.json"
    if not path.exists():
        result(name).save(path)
    return path


def forge(path: Path, content: Any) -> Path:
    """A file with a right checksum over other content."""
    body = json.dumps(content).encode()
    digest = hashlib.sha256(body).hexdigest()
    head = f'{{"format": "mlejax results", "format_version": 1, "sha256": "{digest}", "content":\n'
    path.write_bytes(head.encode() + body + b"\n}\n")
    return path


def same(a: Any, b: Any) -> None:
    """Equal frames, series, arrays or trees, NaN included, to the last bit."""
    if isinstance(a, (pd.DataFrame, pd.Series)):
        (pd.testing.assert_frame_equal if isinstance(a, pd.DataFrame) else pd.testing.assert_series_equal)(
            a, b, check_exact=True
        )
    else:
        assert jax.tree.structure(a) == jax.tree.structure(b)
        for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
            np.testing.assert_array_equal(x, y)


@pytest.mark.parametrize("name", MAKERS)
def test_a_loaded_result_says_the_same(folder: Path, name: str) -> None:
    res, back = result(name), mle.load(saved(folder, name))
    assert str(back.summary()) == str(res.summary())
    assert str(back.summary(alpha=0.2)) == str(res.summary(alpha=0.2))
    assert back._repr_html_() == res._repr_html_()
    assert back.to_latex() == res.to_latex()
    assert repr(back) == repr(res)
    same(back.params, res.params)
    same(back.params_tree, res.params_tree)
    same(back.tidy(), res.tidy())
    same(back.glance(), res.glance())
    same(back.modes, res.modes)
    assert (back.nobs, back.n_units, back.n_dropped, back.df_resid) == (
        res.nobs,
        res.n_units,
        res.n_dropped,
        res.df_resid,
    )
    if name == "trained":
        assert back.history is not None
        same(back.history, res.history)
    else:
        for ask in (
            lambda r: r.bse,
            lambda r: r.pvalues,
            lambda r: r.conf_int(),
            lambda r: r.conf_int(scale="natural"),
            lambda r: r.cov_params(),
            lambda r: r.information,
        ):
            same(ask(back), ask(res))
    assert dict(back.saved_with or {}).keys() == {"python", "mlejax", "jax", "numpy", "formulaic"}
    assert res.saved_with is None
    again = folder / "again.json"
    back.save(again)
    assert again.read_bytes() == saved(folder, name).read_bytes()


def test_inference_goes_on(folder: Path) -> None:
    res, back = result("regression"), mle.load(saved(folder, "regression"))
    held = mle.load(saved(folder, "fixed"))
    assert str(back.wald_test("beta[0] = beta[1], sigma = 1")) == str(res.wald_test("beta[0] = beta[1], sigma = 1"))
    assert str(back.t_test("beta[0] - 2*beta[2] = 0.1")) == str(res.t_test("beta[0] - 2*beta[2] = 0.1"))
    assert str(back.lr_test(held)) == str(res.lr_test(result("fixed"))) == str(res.lr_test(held))
    assert str(mle.compare(back, held)) == str(mle.compare(res, result("fixed")))
    with pytest.raises(ValueError, match="different data"):
        back.lr_test(mle.load(saved(folder, "units")))
    assert back.aic == res.aic
    ratio = lambda p: p["beta"][0] / p["sigma"]
    same(back.nlcom(ratio).table(), res.nlcom(ratio).table())
    data = REGRESSION.make(13)
    mean = lambda p, d: d["X"] @ p["beta"]
    same(back.predict(mean, data), res.predict(mean, data))
    plain = mle.load(saved(folder, "cluster")).with_cov("nonrobust")
    same(plain.bse, res.bse)
    bayes = mle.load(saved(folder, "penalty")).with_cov("bayes")
    same(bayes.bse, result("penalty").with_cov("bayes").bse)


def test_predictions_of_regressed_parameters(folder: Path) -> None:
    res, back = result("formulas"), mle.load(saved(folder, "formulas"))
    new = table().iloc[[0, 7, 14, 21]]
    for param in ("mu", "sigma"):
        same(back.predict(new, param=param), res.predict(new, param=param))
        same(back.predict(new, param=param, scale="link"), res.predict(new, param=param, scale="link"))
    upper = lambda p, d: p["mu"] + 2 * p["sigma"] + 0.0 * d["y"]
    same(back.predict(upper, new), res.predict(upper, new))
    with pytest.raises(mle.DataError, match="level 'zz'"):
        back.predict(new.assign(g="zz"), param="mu")
    assert str(back.summary(eform=["mu[center(x)]"])) == str(res.summary(eform=["mu[center(x)]"]))
    own = mle.load(saved(folder, "own_link"))
    with pytest.raises(ValueError, match="functions of the user's own"):
        own.predict(table(), param="sigma")


def test_levels_that_a_file_cannot_hold_cost_the_predictions_only(tmp_path: Path) -> None:
    data = table().assign(band=pd.cut(table()["log pop"], 3))
    res = gaussian.regress(mu="band").fit(data)
    res.save(tmp_path / "a.json")
    back = mle.load(tmp_path / "a.json")
    assert str(back.summary()) == str(res.summary())
    with pytest.raises(ValueError, match=r"predict needs the formulas.*could not be saved.*Interval"):
        back.predict(data, param="mu")


def test_what_needs_the_likelihood_says_so(folder: Path) -> None:
    back = mle.load(saved(folder, "regression"))
    for ask in (
        lambda: back.score_obs,
        lambda: back.with_cov("HC0"),
        lambda: back.with_cov("cluster", {"groups": "village"}),
        lambda: back.subset_errors("sigma"),
        lambda: back.model.fit(REGRESSION.make(13)),
        lambda: back.model(back.params_tree, REGRESSION.make(13)),
    ):
        with pytest.raises(AbsentError, match="neither the function nor the data"):
            ask()
    assert "from a file" in repr(back.model)


def test_no_data_in_the_file(folder: Path) -> None:
    text = saved(folder, "regression").read_text()
    assert all(repr(float(y)) not in text for y in REGRESSION.make(13)["y"])


# ---- damaged files


def test_damage_is_noticed_wherever_it_is(folder: Path, tmp_path: Path) -> None:
    data = saved(folder, "formulas").read_bytes()
    path, rng = tmp_path / "b.json", random.Random(0)
    for _ in range(300):
        kind, at = rng.choice(("flip", "cut", "double", "swap")), rng.randrange(len(data))
        bad = {
            "flip": data[:at] + bytes([data[at] ^ (1 << rng.randrange(8))]) + data[at + 1 :],
            "cut": data[:at],
            "double": data[:at] + data[at : at + 7] + data[at:],
            "swap": data[:at] + data[at : at + 2][::-1] + data[at + 2 :],
        }[kind]
        path.write_bytes(bad)
        if bad == data:
            continue
        with pytest.raises(mle.FileError, match=r"b\.json: "):
            mle.load(path)


def _places(node: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    inside = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
    return [path, *(p for key, value in inside for p in _places(value, (*path, key)))]


def _put(content: Any, path: tuple[Any, ...], value: Any) -> Any:
    out = copy.deepcopy(content)
    at = out
    for key in path[:-1]:
        at = at[key]
    if value is _GONE:
        del at[path[-1]]
    else:
        at[path[-1]] = value
    return out


_GONE = object()
WRONG: list[Any] = [None, True, -1, 10**30, 0.5, "", "Log", [], {}, [[1]], {"$float": "nan"}, {"$tuple": []}, _GONE]
WRONG += [{"$object": "Spec", "fields": {}}]
WRONG += [{"$array": {"dtype": "float64", "shape": [1], "data": [0.0]}}, {"$object": "Log", "fields": {}}]


@pytest.mark.parametrize("name", ["formulas", "constraints", "penalty", "net"])
def test_forged_content_is_refused_or_harmless(folder: Path, tmp_path: Path, name: str) -> None:
    """Whatever stands in a file with a right checksum: FileError, or a result that prints; never another error."""
    content = json.loads(saved(folder, name).read_text())["content"]
    places, rng = _places(content)[1:], random.Random(1)
    refused = 0
    for _ in range(250):
        path = forge(tmp_path / "f.json", _put(content, rng.choice(places), rng.choice(WRONG)))
        try:
            back = mle.load(path)
        except mle.FileError:
            refused += 1
        else:
            assert str(back.summary())
            assert back.to_latex()
    assert refused > 100


def test_huge_shapes_are_not_allocated(folder: Path, tmp_path: Path) -> None:
    content = json.loads(saved(folder, "regression").read_text())["content"]
    leaf = content["space"]["fields"]["leaves"]["$tuple"][0]["fields"]
    leaf["shape"] = {"$tuple": [2**40, 2**40]}
    with pytest.raises(mle.FileError):
        mle.load(forge(tmp_path / "f.json", content))


# ---- formulas from a file


def test_known_formulas_pass() -> None:
    columns = ("x", "z", "w", "k", "g", "age", "region", "log pop", "pop")
    for text in (
        "x",
        "1 + age + C(region) + age:C(region)",
        "C(g, contr.sum)",
        "C(g, contr.treatment(base='c'))",
        "C(k, levels=[3, 2, 1])",
        "poly(x, 2) + bs(z, df=5) + cr(w, df=4)",
        "scale(log(x)) + center(np.sqrt(z)) + I(x**2) + I(x / (1 + z))",
        "{x > 3} + {x + 1} + {np.where(x > 0, x, 0)}",
        "np.log(`log pop`)",
        "0 + {log(pop)}",
        "C(g, {'odd': [1, 0, 0]}) + C(k, Treatment) + C(region, Sum)",
        "x + {x * np.pi}",
    ):
        assert refuse_unknown(text, columns, "mu") is None, text


HOSTILE = [
    "{__import__('os').system('touch SENTINEL')}",
    "{open('SENTINEL', 'w').write('x')}",
    "I(eval('1'))",
    "{x.__class__}",
    "{x.to_csv('SENTINEL')}",
    "{np.save('SENTINEL', x)}",
    "{np.load('SENTINEL')}",
    "{np.testing}",
    "{(lambda: 1)()}",
    "{[i for i in x]}",
    "{x if x else 1}",
    "{x[0]}",
    "{getattr(x, 'y')}",
    "{'a' * 1000000000}",
    "{[0] * 1000000000}",
    "{9 ** 9 ** 9}",
    "{x ** 1000000}",
    "{f'{x}'}",
    "{log(*x)}",
    "{log(open('SENTINEL'))}",
    "{contr.__class__}",
    "{(y := 1)}",
    "C(g, levels=list(open('SENTINEL')))",
    "hashed(x, levels=2, hash_func=eval)",
    "hashed(x, levels=2, hash_func=np.load)",
    "{eval}",
    "`eval`",
    "x + print",
]


@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_formulas_are_refused_before_anything_is_evaluated(folder: Path, tmp_path: Path, text: str) -> None:
    sentinel = tmp_path / "sentinel"
    content = json.loads(saved(folder, "dropped").read_text())["content"]
    piece = content["designs"]["designs"]["$tuple"][0]["fields"]["piece"]
    assert piece["text"] == "x"
    piece["text"] = text.replace("SENTINEL", str(sentinel))
    with pytest.raises(mle.FileError, match=r"formula|content"):
        mle.load(forge(tmp_path / "f.json", content))
    assert not sentinel.exists()


def test_a_formula_that_calls_something_else_is_taken_if_trusted(tmp_path: Path) -> None:
    res = gaussian.regress(mu="{k.clip(1, 2)} + b").fit(table())
    res.save(tmp_path / "a.json")
    with pytest.raises(mle.FileError, match=r"calls k.clip.*trust_formulas=True"):
        mle.load(tmp_path / "a.json")
    back = mle.load(tmp_path / "a.json", trust_formulas=True)
    same(back.predict(table(), param="mu"), res.predict(table(), param="mu"))


def test_a_formula_that_gives_other_columns_is_refused(folder: Path, tmp_path: Path) -> None:
    content = json.loads(saved(folder, "formulas").read_text())["content"]
    piece = content["designs"]["designs"]["$tuple"][0]["fields"]["piece"]
    piece["text"] = piece["text"].replace("center", "scale")
    with pytest.raises(mle.FileError, match="gives other columns here"):
        mle.load(forge(tmp_path / "f.json", content))


def test_a_missing_file_is_an_ordinary_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        mle.load(tmp_path / "none.json")
    assert os.listdir(tmp_path) == []


def test_a_column_that_is_none_does_not_reach_builtins(folder: Path, tmp_path: Path) -> None:
    """hashed() may call hash_func on every value: eval under the name of a column would run text from the file."""
    sentinel = tmp_path / "sentinel"
    content = json.loads(saved(folder, "dropped").read_text())["content"]
    piece = content["designs"]["designs"]["$tuple"][0]["fields"]["piece"]
    piece["text"] = "hashed(g, levels=2, hash_func=eval)"
    piece["columns"] = {"$tuple": ["g", "eval"]}
    texts = [f"__import__('pathlib').Path({str(sentinel)!r}).touch()"] * piece["n_rows"]
    piece["rows"] = [{"$tuple": ["g", {"texts": texts}]}]
    with pytest.raises(mle.FileError, match="other columns than there are rows of"):
        mle.load(forge(tmp_path / "f.json", content))
    assert not sentinel.exists()
    piece["columns"] = {"$tuple": ["g"]}
    with pytest.raises(mle.FileError, match="uses eval"):
        mle.load(forge(tmp_path / "f.json", content))
    assert not sentinel.exists()


def test_every_field_of_a_fit_is_saved_or_left_out_on_purpose() -> None:
    """A new field of a fit, of its data or of a covariance has to be thought of here."""
    fields = lambda cls: {f.name for f in dataclasses.fields(cls)}
    elsewhere = {"spec", "loaded", "params", "backend", "directions"}  # their statement is in the verdict
    assert {*saving._DIRECT, *saving._OBJECTS} | elsewhere == fields(Fit)
    assert fields(Loaded) == {
        "problem",  # its mode and counts
        "rows",  # their number, those dropped, float32 columns
        "source",
        "unit_codes",
        "fingerprint",
        "weights",  # their kind, scale and statement
        "designs",  # formulas
        "hyper",
        "remembered",
    }
    assert fields(Spec) == {"likelihood", "space", "penalty", "hessian", "reduction"}
    assert fields(mle.Results) == {"model", "cov_type", "_fit", "_cov"}
