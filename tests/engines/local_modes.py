"""Dask, Ray and Spark in their local modes on two cores; skipped where one is not installed, and Spark where there is no Java."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pandas as pd
import pytest


@contextmanager
def dask(n_workers: int = 2) -> Iterator[Any]:
    distributed = pytest.importorskip("distributed")
    options = {"n_workers": n_workers, "threads_per_worker": 1, "dashboard_address": None}
    with distributed.LocalCluster(**options) as cluster, distributed.Client(cluster) as client:
        yield client


@contextmanager
def ray_local() -> Iterator[Any]:
    os.environ["RAY_worker_niceness"] = "0"  # noqa: SIM112 - else its workers wait behind everything else on the machine
    ray = pytest.importorskip("ray")
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False)
    yield ray
    ray.shutdown()


@contextmanager
def spark() -> Iterator[Any]:
    sql = pytest.importorskip("pyspark.sql")
    if shutil.which("java") is None:
        pytest.skip("Spark needs Java, and there is none on this machine")
    os.environ |= {"PYSPARK_PYTHON": sys.executable, "SPARK_LOCAL_IP": "127.0.0.1"}
    build = sql.SparkSession.builder.master("local[2,3]")  # a task whose worker dies is tried three times
    options = {"spark.ui.enabled": "false", "spark.driver.bindAddress": "127.0.0.1", "spark.sql.shuffle.partitions": "4"}
    session = build.config(map=options).getOrCreate()
    session.sparkContext.setLogLevel("OFF")
    yield session
    session.stop()


def own_table(engine: Any, frame: pd.DataFrame, folder: Path) -> Any:
    """The rows as a table of the engine, in several partitions."""
    frame.to_parquet(folder / "rows.parquet", row_group_size=1000)
    library = getattr(engine, "__name__", type(engine).__module__).partition(".")[0]
    if library == "distributed":
        import dask.dataframe as dd

        return dd.from_pandas(frame, npartitions=5)
    if library == "ray":
        return engine.data.from_pandas([frame.iloc[at : at + 1000] for at in range(0, len(frame), 1000)])
    return engine.read.parquet(str(folder / "rows.parquet")).repartition(5)
