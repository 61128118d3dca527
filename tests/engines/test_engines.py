"""The same answers from Dask, Ray and Spark, each in its local mode on two cores; `make test-engines` installs them."""

from __future__ import annotations

import importlib
import os
import shutil
import signal
import sys
import textwrap
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import mlejax as mle
from mlejax.data import DataError
from mlejax.execution import Limits, use_limits
from tests.data.streams.samples import frame, logit, outcome, parts, write

pytestmark = [pytest.mark.engines, pytest.mark.filterwarnings("ignore")]
START = {"a": 0.0, "b": [0.0, 0.0]}


@contextmanager
def _dask() -> Iterator[Any]:
    distributed = pytest.importorskip("distributed")
    options = {"n_workers": 2, "threads_per_worker": 1, "dashboard_address": None}
    with distributed.LocalCluster(**options) as cluster, distributed.Client(cluster) as client:
        yield client


@contextmanager
def _ray() -> Iterator[Any]:
    ray = pytest.importorskip("ray")
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False)
    yield ray
    ray.shutdown()


@contextmanager
def _spark() -> Iterator[Any]:
    sql = pytest.importorskip("pyspark.sql")
    if shutil.which("java") is None:
        pytest.skip("Spark needs Java, and there is none on this machine")
    os.environ |= {"PYSPARK_PYTHON": sys.executable, "SPARK_LOCAL_IP": "127.0.0.1"}
    build = sql.SparkSession.builder.master("local[2]").config("spark.ui.enabled", "false")
    session = build.config("spark.driver.bindAddress", "127.0.0.1").getOrCreate()
    session.sparkContext.setLogLevel("OFF")
    yield session
    session.stop()


@pytest.fixture(scope="module", params=["dask", "ray", "spark"])
def on(request: pytest.FixtureRequest) -> Iterator[Any]:
    with {"dask": _dask, "ray": _ray, "spark": _spark}[request.param]() as engine:
        yield engine


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


def test_bad_values_and_errors_come_back_with_their_partition(on: Any, tmp_path: Path) -> None:
    frames = parts()
    frames[3] = frames[3].assign(x1=np.where(np.arange(len(frames[3])) == 2345, np.nan, frames[3]["x1"]))
    with pytest.raises(DataError, match=r"^part-3.parquet, row group 2: column 'x1': 1 missing values.* row 345"):
        logit.fit(write(tmp_path, frames), on=on)

    @mle.model(m=mle.Real())
    def broken(params: Any, data: Any) -> Any:
        if data["y"].shape[0] > 300:
            raise ZeroDivisionError("in the model")
        return -((data["y"] - params["m"]) ** 2)

    (tmp_path / "good").mkdir()
    source = write(tmp_path / "good", parts())
    with pytest.raises(ZeroDivisionError, match="in the model"):
        broken.fit(source, on=on)


def test_data_in_memory_are_refused(on: Any) -> None:
    with pytest.raises(ValueError, match=r"give mle\.Parquet"):
        logit.fit(frame(), on=on)


def test_a_worker_that_is_killed(files: mle.Parquet) -> None:
    """Its partitions are worked on by another; Dask only, whose workers can be named."""
    with warnings.catch_warnings(), _dask() as client:
        warnings.simplefilter("ignore")
        plain = logit.fit(files, start=START)
        killed = iter([True])

        from mlejax.engines.on_dask import Dask

        class Killing(Dask):
            def map(self, work: Any, partitions: Any) -> Iterator[Any]:
                for i, found in enumerate(super().map(work, partitions)):
                    if i == 2 and next(killed, False):
                        os.kill(next(iter(client.run(os.getpid).values())), signal.SIGKILL)
                    yield found

        from mlejax.fit import recipe

        found = recipe.fit_once(logit.likelihood, files, start=START, engine=Killing(client))
        np.testing.assert_array_equal(found.theta, plain._fit.theta)


def test_dask_dataframes() -> None:
    dd = pytest.importorskip("dask.dataframe")
    with _dask() as client:
        table = dd.from_pandas(frame(), npartitions=5)
        found, memory = outcome.regress(eta="x0 + g").fit(table, on=client), outcome.regress(eta="x0 + g").fit(frame())
        np.testing.assert_allclose(found.params, memory.params, rtol=1e-9)
        np.testing.assert_allclose(found.bse, memory.bse, rtol=1e-9)


def test_ray_datasets(files: mle.Parquet) -> None:
    with _ray() as ray:
        found = logit.fit(ray.data.read_parquet(str(files.path).replace("/*.parquet", "")), on=ray)
        memory = logit.fit(frame())
        np.testing.assert_allclose(found.params, memory.params, rtol=1e-9)
        np.testing.assert_allclose(found.bse, memory.bse, rtol=1e-9)


@pytest.fixture(autouse=True)
def _small_scale() -> Iterator[None]:
    with use_limits(Limits(chunk_rows=512, block_rows=256)):
        yield
