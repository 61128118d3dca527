"""Saved results: the same tables to the byte, the same inference, without data and model; formulas are shown, never evaluated."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest
from jax.scipy.stats import norm

import mlejax as mle
from mlejax.files.schema import CONTENT
from mlejax.fit import Fit, Loaded
from mlejax.objective import Spec
from mlejax.portable import AbsentError
from tests.files.importable import FORMULAS, MAKERS, gaussian, result, table
from tests.files.test_container import forged
from tests.zoo import REGRESSION


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("saved")


def saved(folder: Path, name: str) -> Path:
    path = folder / f"{name}.json"
    if not path.exists():
        result(name).save(path)
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
    same(back.nlcom(ratio).frame(), res.nlcom(ratio).frame())
    data = REGRESSION.make(13)
    mean = lambda p, d: d["X"] @ p["beta"]
    same(back.predict(mean, data), res.predict(mean, data))
    plain = mle.load(saved(folder, "cluster")).with_cov("nonrobust")
    same(plain.bse, res.bse)
    bayes = mle.load(saved(folder, "penalty")).with_cov("bayes")
    same(bayes.bse, result("penalty").with_cov("bayes").bse)


# ---- predictions, with the user's own model

MODELS = {
    "formulas": gaussian.regress(FORMULAS),
    "dropped": gaussian.regress(mu="x"),
    "own_link": gaussian.regress(sigma=mle.Linear("k", link=(jnp.log, jnp.exp))),
}


def test_predictions_of_regressed_parameters(folder: Path) -> None:
    res, back = result("formulas"), mle.load(saved(folder, "formulas"), model=MODELS["formulas"])
    new = table().iloc[[0, 7, 14, 21]]
    for param in ("mu", "sigma"):
        same(back.predict(new, param=param), res.predict(new, param=param))
        same(back.predict(new, param=param, scale="link"), res.predict(new, param=param, scale="link"))
    upper = lambda p, d: p["mu"] + 2 * p["sigma"] + 0.0 * d["y"]
    same(back.predict(upper, new), res.predict(upper, new))
    with pytest.raises(mle.DataError, match="level 'zz'"):
        back.predict(new.assign(g="zz"), param="mu")
    assert str(back.summary(eform=["mu[center(x)]"])) == str(res.summary(eform=["mu[center(x)]"]))
    assert str(res.summary(eform="mu[center(x)]")) == str(res.summary(eform=["mu[center(x)]"]))
    own = mle.load(saved(folder, "own_link"), model=MODELS["own_link"])
    same(own.predict(table(), param="sigma"), result("own_link").predict(table(), param="sigma"))
    back.save(folder / "with_model.json")
    assert (folder / "with_model.json").read_bytes() == saved(folder, "formulas").read_bytes()


@pytest.mark.parametrize(
    "formula",
    [
        "poly(x, 2) + scale(k)",
        "cr(x, df=3, constraints='center')",
        "0 + cc(x, df=3)",
        "C(k, contr.sum) + standardize(x):c",
        "C(g, levels=['d', 'c', 'b', 'a'])",
        "{np.log(`log pop`)} + {k > 1}",
        "`log pop`",
        "{k.clip(1, 2)} + x",
        "1",
    ],
)
def test_what_transforms_have_learnt_comes_back(tmp_path: Path, formula: str) -> None:
    model = gaussian.regress(mu=formula)
    res = model.fit(table(), missing="drop")
    res.save(tmp_path / "a.json")
    new = table().iloc[[0, 7, 14, 21]]
    same(mle.load(tmp_path / "a.json", model=model).predict(new), res.predict(new))


def test_a_simplex_regressed_on_a_design_matrix(tmp_path: Path) -> None:
    @mle.model(p=mle.Simplex(shape=3))
    def choice(params: Any, data: Any) -> Any:
        return jnp.log(jnp.take_along_axis(params["p"], data["y"][:, None], axis=1)[:, 0])

    X = np.column_stack([np.ones(60), table()["k"]])
    data = {"y": np.random.default_rng(1).integers(0, 3, 60), "X": X, "offset": np.linspace(0, 1, 60)}
    model = choice.regress(p=mle.Linear("X", baseline=1))
    res = model.fit(data)
    res.save(tmp_path / "a.json")
    same(mle.load(tmp_path / "a.json", model=model).predict(data), res.predict(data))


def test_predict_without_the_model_says_what_to_do(folder: Path) -> None:
    back = mle.load(saved(folder, "dropped"))
    for ask in (lambda: back.predict(table()), lambda: back.predict(lambda p, d: p["mu"], table())):
        with pytest.raises(ValueError, match=r"never evaluated\. Pass your own model .* mle\.load\(path, model=reg\)"):
            ask()
    with pytest.raises(AbsentError, match=r"this needs the mean of .*mle\.load\(path, model="):
        mle.load(saved(folder, "weights")).predict("mean", table())


def test_the_model_has_the_formulas_of_the_file(folder: Path) -> None:
    path = saved(folder, "dropped")

    @mle.model(mu=mle.Real(), sigma=mle.NonNegative())
    def other(params: Any, data: Any) -> Any:
        return norm.logpdf(data["y"], params["mu"], params["sigma"])

    for model, said in (
        (gaussian, r"formulas of the file\n  file:  mu ~ x\n  model: none"),
        (gaussian.regress(mu="x + 1 + b"), r"file:  mu ~ x\n  model: mu ~ x \+ 1 \+ b"),
        (gaussian.regress(sigma="x"), r"model: sigma ~ x"),
        (gaussian.regress(mu=mle.Linear("x", offset="k")), r"model: mu ~ x \[offset k\]"),
        (gaussian.regress(mu="x", sigma="1"), r"model: mu ~ x; sigma ~ 1"),
        (
            other.regress(mu="x"),
            r"parameters of the file\n  file:  mu: Identity\(\), sigma: Log\(\)\n  model: .*sigma: Box",
        ),
    ):
        with pytest.raises(mle.FileError, match=said):
            mle.load(path, model=model)
    with pytest.raises(TypeError, match=r"expected a model made by @mle\.model, got a str"):
        mle.load(path, model="gaussian")


def test_other_learnt_values_are_noticed(folder: Path, tmp_path: Path) -> None:
    content = json.loads(saved(folder, "formulas").read_text())["content"]
    found = content["designs"]["evaluated"][0]["formula"]
    found["learnt"]["center(x)"]["center"] += 1.0
    path = forged(tmp_path / "f.json", json.dumps(content).encode())
    with pytest.raises(mle.FileError, match="gives other columns or values than when the result was saved"):
        mle.load(path, model=MODELS["formulas"])


HOSTILE = [
    "{__import__('os').system('touch SENTINEL')}",
    "hashed(x, levels=2, hash_func=eval)",
    "I('`' or __import__('pathlib').Path('SENTINEL').touch()) + I('`')",
    "bs(x, df=10**9)",
    "*".join("abcdefghijklmnopqrstuvwxyz"),
    "{9 ** 9 ** 9}",
    "{'a' * 1000000000}",
]


@pytest.mark.parametrize("text", HOSTILE)
def test_a_formula_of_a_file_is_shown_and_never_evaluated(folder: Path, tmp_path: Path, text: str) -> None:
    sentinel = tmp_path / "sentinel"
    text = text.replace("SENTINEL", str(sentinel))
    content = json.loads(saved(folder, "dropped").read_text())["content"]
    content["regressions"][0]["formula"] = text
    path = forged(tmp_path / "f.json", json.dumps(content).encode())
    back = mle.load(path)
    assert "".join(f"mu ~ {text}".split()) in "".join(str(back.summary()).split())
    with pytest.raises(ValueError, match="never evaluated"):
        back.predict(table())
    with pytest.raises(mle.FileError, match="formulas of the file"):
        mle.load(path, model=MODELS["dropped"])
    assert not sentinel.exists()


@pytest.mark.parametrize("n", [10**12, 2**52, 3])
def test_a_count_of_arrays_that_is_not_there_takes_no_memory(folder: Path, tmp_path: Path, n: int) -> None:
    content = json.loads(saved(folder, "dropped").read_text())["content"]
    content["structure"][0]["n_arrays"] = n
    with pytest.raises(mle.FileError, match="the number of its arrays do not match"):
        mle.load(forged(tmp_path / "f.json", json.dumps(content).encode()))


def test_a_column_of_a_file_is_no_function(folder: Path, tmp_path: Path) -> None:
    """Columns and levels of a hostile file are values, whatever their names."""
    sentinel = tmp_path / "sentinel"
    content = json.loads(saved(folder, "dropped").read_text())["content"]
    found = content["designs"]["evaluated"][0]["formula"]
    found["columns"] = ["x", "eval"]
    call = f"__import__('pathlib').Path({str(sentinel)!r}).touch()"
    found["rows"]["eval"] = {"values": [call] * 6, "levels": None, "ordered": False}
    found["learnt"] = {call: {"0": 1.0}}
    found["kinds"][call] = "categorical"
    found["levels"] = {call: [call]}
    path = forged(tmp_path / "f.json", json.dumps(content).encode())
    with contextlib.suppress(ValueError):
        mle.load(path, model=MODELS["dropped"]).predict(table().assign(eval=call))
    assert not sentinel.exists()


def test_levels_that_a_file_cannot_hold_cost_the_predictions_only(tmp_path: Path) -> None:
    data = table().assign(band=pd.cut(table()["log pop"], 3))
    model = gaussian.regress(mu="band")
    res = model.fit(data)
    res.save(tmp_path / "a.json")
    for back in (mle.load(tmp_path / "a.json"), mle.load(tmp_path / "a.json", model=model)):
        assert str(back.summary()) == str(res.summary())
        with pytest.raises(ValueError, match=r"could not be saved: the values of band are of type Interval"):
            back.predict(data, param="mu")
        with pytest.raises(ValueError, match="margins evaluates the formulas of the model on new data, but those of this"):
            back.margins("pop", data=data)


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


# ---- format 1

FORMAT1 = Path(__file__).parent / "format1"


@pytest.mark.parametrize("path", sorted(FORMAT1.glob("*.json")), ids=lambda path: path.stem)
def test_files_of_format_1_load(path: Path, tmp_path: Path) -> None:
    """Files that mlejax 0.1.0 wrote, read beside the numbers in them."""
    back, content = mle.load(path), json.loads(path.read_text())["content"]
    assert back.saved_with is not None
    assert back.saved_with["mlejax"] == "0.1.0"
    assert back.llf == content["fit"]["llf"]
    assert back.verdict.statement == content["fit"]["verdict"]["fields"]["statement"]
    written = [x for array in content["params"] for x in array["$array"]["data"]]
    np.testing.assert_array_equal(np.concatenate([np.ravel(x) for x in jax.tree.leaves(back.params_tree)]), written)
    cov = content["cov"]["fields"]["matrix"]["$array"]
    if path.stem != "constraints":
        variances = np.array([float(x) for x in cov["data"]]).reshape(cov["shape"]).diagonal()
        np.testing.assert_allclose(back.bse, np.sqrt(variances), rtol=1e-14)
    back.save(tmp_path / "a.json")
    again = mle.load(tmp_path / "a.json")
    assert str(again.summary()) == str(back.summary())
    again.save(tmp_path / "b.json")
    assert (tmp_path / "a.json").read_bytes() == (tmp_path / "b.json").read_bytes()


def test_predictions_from_files_of_format_1() -> None:
    new = table().iloc[[0, 7, 14, 21]]
    for name, param in (("formulas", "mu"), ("formulas", "sigma"), ("own_link", "sigma")):
        back = mle.load(FORMAT1 / f"{name}.json", model=MODELS[name])
        pd.testing.assert_frame_equal(back.predict(new, param=param), result(name).predict(new, param=param), rtol=1e-9)
    with pytest.raises(ValueError, match="never evaluated"):
        mle.load(FORMAT1 / "formulas.json").predict(new)


def test_a_missing_file_is_an_ordinary_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        mle.load(tmp_path / "none.json")
    assert os.listdir(tmp_path) == []


def test_every_field_of_a_fit_is_saved_or_left_out_on_purpose(folder: Path) -> None:
    """A new field of a fit, of its data or of a covariance has to be thought of here."""
    fields = lambda cls: {f.name for f in dataclasses.fields(cls)}
    content = CONTENT.read(json.loads(saved(folder, "regression").read_text())["content"], "content")
    assert set(content.fit) | {"spec", "loaded", "params", "jacobian", "directions"} == fields(Fit)
    assert fields(Loaded) == {
        "problem",  # its mode and counts
        "rows",  # their number, those dropped, float32 columns
        "source",
        "unit_codes",
        "unit_labels",
        "fingerprint",
        "weights",  # their kind, scale and statement
        "designs",  # formulas
        "hyper",
        "remembered",
        "stream",  # read in passes: nothing of it is kept
        "effects",  # of each level
        "levels",
        "coded",  # long factors: their names and levels are those of the designs
        "left_out",  # levels of effects without rows
        "crossing",  # levels of latents of several columns: found again in the data
        "of_sample",
        "with_total",  # of an extended likelihood: the counts that are saved leave it out
    }
    assert fields(Spec) == {"likelihood", "space", "penalty", "hessian", "reduction"}
    assert fields(mle.Results) == {"_model", "cov_type", "_fit", "_cov"}
