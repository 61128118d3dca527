"""Pickles of models and results: functions travel by name where they can be imported, else by value."""

from __future__ import annotations

import copy
import os
import pickle
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import cloudpickle
import jax
import numpy as np
import pandas as pd
import pytest
from jax.scipy.stats import norm

import mlejax as mle
from tests.files.importable import MAKERS, gaussian, result, table

ROOT = Path(__file__).parent.parent.parent


@pytest.mark.parametrize("name", MAKERS)
def test_round_trip(name: str) -> None:
    res = result(name)
    back = pickle.loads(pickle.dumps(res))
    assert str(back.summary()) == str(res.summary())
    pd.testing.assert_frame_equal(back.tidy(), res.tidy(), check_exact=True)
    assert jax.tree.structure(back.params_tree) == jax.tree.structure(res.params_tree)


def test_everything_works_where_the_model_can_be_imported() -> None:
    res = result("frequency")
    back = pickle.loads(pickle.dumps(res))
    assert back.model.likelihood is gaussian.likelihood
    np.testing.assert_array_equal(back.score_obs, res.score_obs)
    np.testing.assert_array_equal(
        back.with_cov("cluster", {"groups": "g"}).bse, res.with_cov("cluster", {"groups": "g"}).bse
    )
    regressed = pickle.loads(pickle.dumps(result("formulas")))
    assert repr(regressed.model) == repr(result("formulas").model)
    np.testing.assert_allclose(regressed.with_cov("HC0").bse, result("formulas").with_cov("HC0").bse, rtol=1e-12)
    assert regressed.model.fit(table(), missing="drop").llf == pytest.approx(result("formulas").llf, rel=1e-12)
    assert str(copy.deepcopy(res).summary()) == str(res.summary())


def local_model(shift: float = 0.5) -> Any:
    @mle.model(mu=mle.Real())
    def local(params: Any, data: Any) -> Any:
        return norm.logpdf(data["y"], params["mu"] + shift)

    return local


def test_functions_that_cannot_be_imported_travel_by_value() -> None:
    res = local_model().fit({"y": [1.0, 2.0, 4.0]})
    back = pickle.loads(pickle.dumps(res))
    assert str(back.summary()) == str(res.summary())
    assert back.model.likelihood is res.model.likelihood  # in the same process the same object, with its programs
    np.testing.assert_array_equal(back.with_cov("HC0").bse, res.with_cov("HC0").bse)
    assert pickle.dumps(res.model) == pickle.dumps(res.model)
    penalised = gaussian.fit(table(), penalty=lambda params: params["mu"] ** 2)
    again = pickle.loads(pickle.dumps(penalised))
    assert str(again.summary()) == str(penalised.summary())
    np.testing.assert_array_equal(again.with_cov("HC0").bse, penalised.with_cov("HC0").bse)
    np.testing.assert_allclose(again.bootstrap(20).replicates, penalised.bootstrap(20).replicates, rtol=1e-12)
    batches = pickle.loads(pickle.dumps(mle.Adam(batch_size=3)))
    assert batches == mle.Adam(batch_size=3)


def test_links_companions_and_functions_that_refer_to_their_model() -> None:
    model = local_model()

    @model.mean
    def mean(params: Any, data: Any) -> Any:
        assert model.likelihood.unit is None
        return params["mu"] + 0.0 * data["y"]

    regressed = model.regress(mu=mle.Linear("x", link=(lambda m: m / 2, lambda eta: 2 * eta)))
    data = {"y": [1.0, 2.0, 4.0, 0.0], "x": [0.0, 1.0, 2.0, 1.0]}
    res = regressed.fit(data)
    back = pickle.loads(cloudpickle.dumps(res))
    pd.testing.assert_frame_equal(back.predict(data), res.predict(data))
    pd.testing.assert_frame_equal(back.predict("mean", data), res.predict("mean", data))


def locked_model() -> Any:
    lock = threading.Lock()

    @mle.model(mu=mle.Real())
    def locked(params: Any, data: Any) -> Any:
        with lock:
            return norm.logpdf(data["y"], params["mu"])

    return locked


SCRIPT = """
import multiprocessing, os, sys
import joblib, numpy as np
import mlejax as mle
from jax.scipy.stats import norm

OFFSET = 1.5

@mle.model(mu=mle.Real(), sigma=mle.Positive())
def shifted(params, data):
    return norm.logpdf(data["y"] - OFFSET, params["mu"], params["sigma"])

def data(seed):
    return {"y": np.random.default_rng(seed).normal(size=50)}

def fit(model, seed):
    return model.fit(data(seed))

def place(model):
    return os.getpid(), id(model.likelihood)

def one(seed):
    return float(shifted.fit(data(seed)).llf)

if __name__ == "__main__":
    here = [one(seed) for seed in range(3)]
    assert joblib.Parallel(2)(joblib.delayed(one)(seed) for seed in range(3)) == here
    results = joblib.Parallel(2)(joblib.delayed(fit)(shifted, seed) for seed in range(3))
    assert [r.llf for r in results] == here
    assert results[0].with_cov("HC0").bse.notna().all() and "shifted" in repr(results[0].model)
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        for model in (shifted, shifted.regress(mu="1")):
            found = pool.starmap(fit, [(model, seed) for seed in range(3)])
            assert np.allclose([r.llf for r in found], here, rtol=1e-12)
            assert found[0].with_cov("HC0").bse.notna().all()
    assert len(set(joblib.Parallel(2)(joblib.delayed(place)(shifted) for _ in range(6)))) <= 2  # one object in each worker
    open(sys.argv[1], "wb").write(__import__("pickle").dumps(results[0]))
    print("done")
"""


def test_models_of_a_script_travel_to_loky_and_spawn_and_into_files(tmp_path: Path) -> None:
    script, path = tmp_path / "script.py", tmp_path / "res.pickle"
    script.write_text(SCRIPT)
    run = subprocess.run(
        [sys.executable, str(script), str(path)], capture_output=True, text=True, check=False, timeout=300,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert run.stdout == "done\n", run.stderr
    back = pickle.loads(path.read_bytes())
    assert back.with_cov("HC0").bse.notna().all()
    assert back.model({"mu": 0.0, "sigma": 1.0}, {"y": 1.5}) == pytest.approx(norm.logpdf(0.0))


def test_another_process_reads_it(tmp_path: Path) -> None:
    """By name where the model can be imported; and without the function where it cannot be pickled at all."""
    locked = locked_model().fit({"y": [1.0, 2.0, 4.0]})
    (tmp_path / "res").write_bytes(pickle.dumps((result("dropped"), result("frequency"), locked)))
    program = f"""
import pickle, sys
sys.path.insert(0, {str(ROOT)!r})
regressed, weighted, locked = pickle.load(open({str(tmp_path / "res")!r}, "rb"))
print(repr(regressed.model), regressed.llf, weighted.model.__module__, float(weighted.with_cov("HC0").bse.iloc[0]))
print(locked.wald_test("mu = 0").pvalue)
try:
    locked.with_cov("HC0")
except ValueError as error:
    print(error)
"""
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    expected = float(result("frequency").with_cov("HC0").bse.iloc[0])
    one, p_value, said = run.stdout.splitlines()
    assert one.split() == [
        *repr(result("dropped").model).split(),
        str(result("dropped").llf),
        "tests.files.importable",
        str(expected),
    ]
    assert float(p_value) == pytest.approx(locked.wald_test("mu = 0").pvalue)
    assert said.startswith(
        "this needs the log-likelihood of locked, but its function could not be pickled (TypeError: "
    )
