"""Pickles of results: whole where the model can be imported, without its function where not."""

from __future__ import annotations

import copy
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pandas as pd
import pytest
from jax.scipy.stats import norm

import mlejax as mle
from mlejax.portable import AbsentError
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
    assert back.model is gaussian
    np.testing.assert_array_equal(back.score_obs, res.score_obs)
    np.testing.assert_array_equal(
        back.with_cov("cluster", {"groups": "g"}).bse, res.with_cov("cluster", {"groups": "g"}).bse
    )
    regressed = pickle.loads(pickle.dumps(result("formulas")))
    assert repr(regressed.model) == repr(result("formulas").model)
    np.testing.assert_allclose(regressed.with_cov("HC0").bse, result("formulas").with_cov("HC0").bse, rtol=1e-12)
    assert regressed.model.fit(table(), missing="drop").llf == pytest.approx(result("formulas").llf, rel=1e-12)
    assert str(copy.deepcopy(res).summary()) == str(res.summary())


def test_what_cannot_be_pickled_is_left_out() -> None:
    shift = 0.5

    @mle.model(mu=mle.Real())
    def local(params: Any, data: Any) -> Any:
        return norm.logpdf(data["y"], params["mu"] + shift)

    res = local.fit({"y": [1.0, 2.0, 4.0]})
    back = pickle.loads(pickle.dumps(res))
    assert str(back.summary()) == str(res.summary())
    assert str(back.wald_test("mu = 0")) == str(res.wald_test("mu = 0"))
    with pytest.raises(AbsentError, match="local, but its function could not be pickled"):
        back.with_cov("HC0")
    penalised = gaussian.fit(table(), penalty=lambda params: params["mu"] ** 2)
    again = pickle.loads(pickle.dumps(penalised))
    assert str(again.summary()) == str(penalised.summary())
    np.testing.assert_array_equal(again.with_cov("HC0").bse, penalised.with_cov("HC0").bse)
    batches = pickle.loads(pickle.dumps(mle.Adam(batch_size=3)))
    assert batches == mle.Adam(batch_size=3)


def test_another_process_reads_it(tmp_path: Path) -> None:
    (tmp_path / "res").write_bytes(pickle.dumps((result("dropped"), result("frequency"))))
    program = f"""
import pickle, sys
sys.path.insert(0, {str(ROOT)!r})
regressed, weighted = pickle.load(open({str(tmp_path / "res")!r}, "rb"))
print(repr(regressed.model), regressed.llf, weighted.model.__module__, float(weighted.with_cov("HC0").bse.iloc[0]))
"""
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    expected = float(result("frequency").with_cov("HC0").bse.iloc[0])
    assert run.stdout.split() == [
        *repr(result("dropped").model).split(),
        str(result("dropped").llf),
        "tests.files.importable",
        str(expected),
    ]
