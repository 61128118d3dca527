"""The same answers from Dask, Ray and Spark, each in its local mode on two cores; `make test-engines` installs them."""

from __future__ import annotations

import importlib
import os
import re
import signal
import sys
import textwrap
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import mlejax as mle
from mlejax.data import DataError
from tests.data.streams.samples import N, by_unit, frame, in_order, logit, outcome, parts, told, told_alike, write
from tests.engines.local_modes import dask, own_table

pytestmark = [pytest.mark.engines, pytest.mark.filterwarnings("ignore")]
MEAN = float(frame()["x0"].astype(float).mean())
START = {"a": 0.0, "b": [0.0, 0.0]}


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> mle.Parquet:
    return write(tmp_path_factory.mktemp("rows"), parts())


@pytest.mark.parametrize("kind", ["nonrobust", "HC1", "opg", "cluster"])
def test_the_same_answer_bit_by_bit(on: Any, files: mle.Parquet, kind: str) -> None:
    """Workers have the processor of this process and one thread each; the tree of sums is that of threads."""
    kwds = {"groups": ("c", "g")} if kind == "cluster" else None
    options: dict[str, Any] = {"cov_type": kind, "cov_kwds": kwds, "start": START}
    found, plain, memory = (
        logit.fit(files, on=on, **options),
        logit.fit(files, **options),
        logit.fit(frame(), **options),
    )
    assert found.verdict.code == plain.verdict.code == memory.verdict.code == "verified"
    for name in ("params", "bse"):
        np.testing.assert_allclose(getattr(found, name), getattr(plain, name), rtol=1e-12)
        np.testing.assert_allclose(getattr(found, name), getattr(memory, name), rtol=1e-12)
    assert found.llf == pytest.approx(memory.llf, rel=1e-12)


@pytest.mark.parametrize("name", ["effects", "units", "quadrature", "classes"])
def test_every_model(on: Any, tmp_path: Path, name: str) -> None:
    """Row groups cut units and levels; the caller puts whole units together."""
    files = write(tmp_path, parts(in_order()))
    told_alike(told(name, files, on, few=True), told(name, in_order(), few=True))


def test_units_that_partitions_of_a_table_cut_are_refused(on: Any, tmp_path: Path) -> None:
    if type(on).__module__.startswith("pyspark"):
        pytest.skip("fit takes files, and no DataFrame of Spark")
    table = in_order()
    with pytest.raises(DataError, match=r"rows of c \d+ are in several places: in \w+ \d, and again in \w+ \d"):
        by_unit.fit(own_table(on, table, tmp_path), on=on)


def test_formulas_and_weights(on: Any, files: mle.Parquet) -> None:
    options: dict[str, Any] = {"weights": "w", "weight_kind": "sampling", "cov_type": "HC1"}
    model = outcome.regress(eta="C(g) * x0")
    found, memory = model.fit(files, on=on, **options), model.fit(frame(), **options)
    np.testing.assert_allclose(found.params, memory.params, rtol=1e-9)
    np.testing.assert_allclose(found.bse, memory.bse, rtol=1e-9)


def test_a_model_from_a_module_that_workers_do_not_have(on: Any, files: mle.Parquet, tmp_path: Path) -> None:
    (tmp_path / "only_here.py").write_text(
        textwrap.dedent(
            """
            import jax
            import mlejax as mle
            def helper(eta):
                return jax.nn.softplus(eta)
            @mle.model(m=mle.Real())
            def constant(params, data):
                return data["y"] * params["m"] - helper(params["m"] + 0.0 * data["y"])
            """
        )
    )
    sys.path.insert(0, str(tmp_path))
    try:
        module = importlib.import_module("only_here")
    finally:
        sys.path.remove(str(tmp_path))
    found = module.constant.fit(files, on=on)
    y = frame()["y"].mean()
    assert found.params["m"] == pytest.approx(np.log(y / (1 - y)))


def test_bad_values_and_errors_come_back_with_their_partition(on: Any, files: mle.Parquet, tmp_path: Path) -> None:
    frames = parts()
    frames[3] = frames[3].assign(x1=np.where(np.arange(len(frames[3])) == 2345, np.nan, frames[3]["x1"]))
    with pytest.raises(DataError, match=r"^part-3.parquet, row group 2: column 'x1': 1 missing values.* row 345"):
        logit.fit(write(tmp_path, frames), on=on)
    here = os.getpid()

    @mle.model(m=mle.Real())
    def broken(params: Any, data: Any) -> Any:
        if os.getpid() != here:
            raise ZeroDivisionError("in the model")
        return -((data["y"] - params["m"]) ** 2)

    with pytest.raises(ZeroDivisionError, match="in the model") as error:
        broken.fit(files, on=on)
    assert re.search(r"on a worker, in part-\d.parquet, row group \d", " ".join(error.value.__notes__))


@mle.model(m=mle.Real())
def square(params: Any, data: Any) -> Any:
    return -0.5 * (data["x0"] - params["m"]) ** 2


def _once(flag: Path, here: int, act: Callable[[], None]) -> Any:
    """A model that acts once, on a worker, in the middle of a pass."""

    @mle.model(m=mle.Real())
    def acting(params: Any, data: Any) -> Any:
        if os.getpid() != here:
            try:
                flag.unlink()  # one worker alone succeeds
            except FileNotFoundError:
                pass
            else:
                act()
        return -0.5 * (data["x0"] - params["m"]) ** 2

    flag.touch()
    return acting


def test_a_worker_that_dies_in_the_middle(on: Any, files: mle.Parquet, tmp_path: Path) -> None:
    """Its partitions are worked on by another, and the answer is the same to the bit."""
    flag = tmp_path / "alive"
    dying = _once(flag, os.getpid(), lambda: os.kill(os.getpid(), signal.SIGKILL))
    found, plain = dying.fit(files, on=on, start={"m": 1.0}), square.fit(files, on=on, start={"m": 1.0})
    assert not flag.exists()
    assert found.params["m"] == plain.params["m"] == pytest.approx(MEAN, rel=1e-9)


def test_ctrl_c_ends_a_fit_and_leaves_the_engine_usable(on: Any, files: mle.Parquet, tmp_path: Path) -> None:
    flag, here = tmp_path / "running", os.getpid()

    def interrupt() -> None:
        os.kill(here, signal.SIGINT)
        time.sleep(2.0)

    try:
        res = _once(flag, here, interrupt).fit(files, on=on, start={"m": 5.0})
    except KeyboardInterrupt:
        pass
    else:
        assert res.verdict.code == "stopped_early"
    assert not flag.exists()
    again = square.fit(files, on=on)
    assert again.params["m"] == pytest.approx(MEAN, rel=1e-9)


def test_bitwise_equal_for_any_number_of_workers(files: mle.Parquet) -> None:
    pytest.importorskip("distributed")
    found = []
    for n in (1, 3):
        with dask(n) as client:
            found.append(logit.fit(files, on=client, cov_type="HC1"))
    np.testing.assert_array_equal(*(res.params for res in found))
    np.testing.assert_array_equal(*(res.bse for res in found))


def test_data_in_memory_are_refused(on: Any) -> None:
    with pytest.raises(ValueError, match=r"give mle\.Parquet"):
        logit.fit(frame(), on=on)


def test_tables_of_the_engine(on: Any, tmp_path: Path) -> None:
    """Fitted where they lie; Spark's from files."""
    table, model = own_table(on, frame(), tmp_path), outcome.regress(eta="x0 + g")
    if type(table).__module__.startswith("pyspark"):
        with pytest.raises(TypeError, match=r"df\.write\.parquet"):
            model.fit(table, on=on)
        return
    found, memory = model.fit(table, on=on), model.fit(frame())
    np.testing.assert_allclose(found.params, memory.params, rtol=1e-9)
    np.testing.assert_allclose(found.bse, memory.bse, rtol=1e-9)


def skewed() -> pd.DataFrame:
    """Half of all rows in one group, one row in another, a missing value in a third, and a level that a fourth lacks."""
    c = np.where(np.arange(N) < N // 2, 0, 1 + np.arange(N) % 23)
    c[-1] = 99
    table = frame().assign(c=c)
    table.loc[table["c"] == 7, "x0"] = np.where(np.arange((c == 7).sum()) == 3, np.nan, table["x0"][c == 7])
    table.loc[(table["c"] == 8) & (table["g"] == "d"), "g"] = "a"
    return table


@pytest.mark.parametrize("model", [logit, outcome.regress(eta="x0 + g")], ids=["columns", "formula"])
def test_groups_are_fitted_whole_on_workers(on: Any, model: Any, tmp_path: Path) -> None:
    table = skewed()
    options: dict[str, Any] = {"by": "c", "cov_type": "HC1", "weights": "w", "weight_kind": "importance"}
    found = model.fit_groups(own_table(on, table, tmp_path), on=on, **options)
    memory = model.fit_groups(table.sort_values("c", kind="stable"), **options)
    assert list(found) == list(memory) == sorted(table["c"].unique())
    assert found.verdict.tolist() == memory.verdict.tolist()
    assert found.verdict[7] == "not_computable"
    good = memory.converged.to_numpy()
    assert good.sum() > 20
    np.testing.assert_allclose(found.params[good], memory.params[good], rtol=1e-7, atol=1e-9)
    np.testing.assert_allclose(found.bse[good], memory.bse[good], rtol=1e-7)
    np.testing.assert_allclose(found.llf[good], memory.llf[good], rtol=1e-9)
    np.testing.assert_array_equal(found.params.isna(), memory.params.isna())
    assert found.tidy()["note"].tolist() == memory.tidy()["note"].tolist()
    assert found.nobs.tolist() == memory.nobs.tolist()


def test_groups_that_workers_cannot_fit(on: Any, files: mle.Parquet, tmp_path: Path) -> None:
    table = own_table(on, frame(), tmp_path)
    with pytest.raises(DataError, match=r"expected a table of the engine.*spark\.read\.parquet"):
        logit.fit_groups(files, by="c", on=on)
    with pytest.raises(ValueError, match=r"one start= for all|start of a: expected shape \(\), got \(30,\)"):
        logit.fit_groups(table, by="c", on=on, start={"a": np.zeros(30)})
    with pytest.raises(mle.MissingColumnError, match="no column 'cc'"):
        logit.fit_groups(table, by="cc", on=on)
