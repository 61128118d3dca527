"""Dask, Ray and Spark in their local modes: a pass beside threads, groups beside pandas UDFs, a logit beside MLlib.

    make test-engines                                  # makes the environment
    .venv-engines/bin/python benchmarks/engines.py [--only mllib] [--rows 10_000_000] [--groups 100_000] [--write]

All on the cores of this machine, Spark as ``local[2]``.  What is compared runs one after the other in the same run.  The logit is
told in seconds of the clock and of the cores, those of Spark's Java process too.  ``--only`` keeps the rest of the last record;
each part is kept with its own date, load and versions.
"""

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ["RAY_worker_niceness"] = "0"  # noqa: SIM112
os.environ |= {
    "PYSPARK_PYTHON": sys.executable,
    "SPARK_LOCAL_IP": "127.0.0.1",
    "PYTHONPATH": str(Path(__file__).parent.parent),
}
sys.path.insert(0, str(Path(__file__).parent.parent))

import numpy as np
import pandas as pd

import mlejax as mle
from benchmarks.recorded import RESULTS, circumstances, keep
from benchmarks.streamed import NAMES, generate, model
from benchmarks.tables import markdown, paste

SIZE, UDF_GROUPS, PARTITIONS = 30, 2_000, 8


@mle.model(eta=mle.Real())
def outcome(params: Any, data: Any) -> Any:
    import jax

    return data["y"] * params["eta"] - jax.nn.softplus(params["eta"])


def timed(work: Callable[[], Any]) -> tuple[float, Any]:
    begin = time.perf_counter()
    found = work()
    return time.perf_counter() - begin, found


def passes(folder: Path) -> dict[str, float]:
    """Median seconds of a warm pass over 8 small partitions, by threads, Dask and Ray."""
    import distributed
    import ray

    from mlejax.data.streams import Streamed

    rng = np.random.default_rng(0)
    table = pd.DataFrame({"x": rng.standard_normal(800 * PARTITIONS)}).assign(y=lambda d: (d["x"] > 0.3) * 1.0)
    table.loc[::3, "y"] = 1.0
    table.to_parquet(folder / "small.parquet", row_group_size=800)
    source, logit = mle.Parquet(folder / "small.parquet"), outcome.regress(eta="x")
    plain, took = Streamed.pass_over, []

    def watched(self: Any, work: Any) -> Any:
        seconds, found = timed(lambda: plain(self, work))
        took.append(seconds)
        return found

    def median(on: Any) -> float:
        logit.fit(source, on=on)
        took.clear()
        for _ in range(5):
            logit.fit(source, on=on)
        return statistics.median(took)

    Streamed.pass_over = watched  # type: ignore[method-assign]
    try:
        out = {"threads": median(None)}
        options: dict[str, Any] = {"n_workers": 2, "threads_per_worker": 1, "dashboard_address": None}
        with distributed.LocalCluster(**options) as cluster, distributed.Client(cluster) as client:
            out["Dask"] = median(client)
        ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False)
        out["Ray"] = median(ray)
        ray.shutdown()
    finally:
        Streamed.pass_over = plain  # type: ignore[method-assign]
    return out


def spark_session() -> Any:
    from pyspark.sql import SparkSession

    build = (
        SparkSession.builder.master("local[2]").config("spark.ui.enabled", "false").config("spark.driver.memory", "6g")
    )
    session = build.config("spark.driver.bindAddress", "127.0.0.1").getOrCreate()
    session.sparkContext.setLogLevel("OFF")
    return session


def by_group(rows: pd.DataFrame) -> pd.DataFrame:
    """A logit of one group by statsmodels."""
    import statsmodels.api as sm

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = sm.Logit(rows["y"], sm.add_constant(rows[["x"]])).fit(disp=False)
    return pd.DataFrame({"g": rows["g"].iloc[:1], "b": [found.params["x"]], "se": [found.bse["x"]]})


def groups(spark: Any, folder: Path, n: int) -> dict[str, float]:
    """Seconds for n logits of 30 rows on Spark, and of 2,000 of them by a pandas UDF with statsmodels."""
    rng = np.random.default_rng(1)
    x = rng.standard_normal(n * SIZE)
    y = (rng.random(n * SIZE) < 1.0 / (1.0 + np.exp(-0.5 * x))) * 1.0
    pd.DataFrame({"g": np.repeat(np.arange(n), SIZE), "x": x, "y": y}).to_parquet(folder / "groups.parquet")
    table, logit = spark.read.parquet(str(folder / "groups.parquet")), outcome.regress(eta="x")
    few = table.where(f"g < {UDF_GROUPS}")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        logit.fit_groups(few, by="g", on=spark)  # workers start and compile
        ours, res = timed(lambda: logit.fit_groups(table, by="g", on=spark))
        udf = few.repartition(2, "g").groupBy("g").applyInPandas(by_group, "g long, b double, se double")
        theirs, found = timed(udf.toPandas)
    found = found.set_index("g").sort_index()
    good = [g for g in found.index if res.verdict[g] == "verified"]
    apart = float((res.params.loc[good, "eta[x]"] - found.loc[good, "b"]).abs().max())
    return {"groups": n, "ours": ours, "udf_groups": UDF_GROUPS, "udf": theirs, "apart": apart}


def cores() -> float:
    """Seconds of the cores that this process and its children (Spark's Java) have taken."""
    import psutil

    me = psutil.Process()
    return sum(sum(p.cpu_times()[:2]) for p in (me, *me.children(recursive=True)))


def mllib(spark: Any, folder: Path, rows: int) -> dict[str, float]:
    """Seconds of a logit with HC1 from Parquet, and of MLlib's, which has no errors."""
    from pyspark.ml.classification import LogisticRegression
    from pyspark.ml.feature import VectorAssembler

    generate(folder / str(rows), rows)
    path = str(folder / str(rows) / "*.parquet")
    spark.range(10).count()  # Java is awake
    begun = cores()
    ours, res = timed(lambda: model().fit(mle.Parquet(path), cov_type="HC1"))
    middle = cores()

    def theirs_() -> Any:
        table = VectorAssembler(inputCols=NAMES, outputCol="features").transform(spark.read.parquet(path))
        return LogisticRegression(labelCol="y", regParam=0.0, standardization=True, tol=1e-8).fit(table)

    theirs, found = timed(theirs_)
    each = {"ours_cores": middle - begun, "mllib_cores": cores() - middle, "iterations": found.summary.totalIterations}
    apart = float(np.abs(np.append(found.coefficients, found.intercept) - res.params.to_numpy()).max())
    return {"rows": rows, "ours": ours, "mllib": theirs, **each, "apart": apart}


def table_of(record: dict[str, Any]) -> str:
    p, g, m = record["passes"], record["groups"], record["mllib"]
    scaled = g["udf"] * g["groups"] / g["udf_groups"]
    rows = [
        [
            f"a pass over {PARTITIONS} small partitions, {name}",
            f"{1e3 * p[name]:.0f} ms",
            f"{1e3 * p['threads']:.0f} ms by threads",
        ]
        for name in ("Dask", "Ray")
    ]
    rows += [
        [
            f"`fit_groups`, {g['groups']:,} logits of {SIZE} rows, Spark", f"{g['ours']:.1f} s",
            f"`applyInPandas` with statsmodels: {scaled:.0f} s ({g['udf_groups']:,} groups took {g['udf']:.1f} s)",
        ],
        [
            f"logit, {m['rows']:,} × 20, HC1", f"{m['ours']:.1f} s ({m['ours_cores']:.1f} s of the cores)",
            f"Spark MLlib, without errors: {m['mllib']:.1f} s ({m['mllib_cores']:.1f} s of the cores)",
        ],
    ]  # fmt: skip
    loads = ", ".join(f"{part['load_before']:.1f}" for part in (p, g, m))
    return (
        f"{markdown(['work', 'here', 'against'], rows)}\nCompilation is counted for the logit, and not for the groups. "
        f"Groups: {scaled / g['ours']:.0f}× faster, estimates {g['apart']:.1g} apart; "
        f"MLlib, {m['iterations']} iterations: {m['ours'] / m['mllib']:.2f} of its time by the clock, "
        f"{m['ours_cores'] / m['mllib_cores']:.2f} of the cores, estimates {m['apart']:.1g} apart. Load before "
        f"each of the three: {loads} on {m['cores_of_the_machine']} cores, {m['date']}.\n"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    number = lambda text: int(text.replace("_", ""))
    parser.add_argument("--only", choices=("passes", "groups", "mllib"))
    parser.add_argument("--rows", type=number, default=10_000_000)
    parser.add_argument("--groups", type=number, default=100_000)
    parser.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir()) / "streamed")
    parser.add_argument("--write", action="store_true")
    asked = parser.parse_args()
    record = json.loads((RESULTS / "engines.json").read_text()) if asked.only else {}
    facts = lambda: circumstances("dask", "distributed", "ray", "pyspark", "statsmodels", "pyarrow")
    asked.folder.mkdir(parents=True, exist_ok=True)
    if asked.only in (None, "passes"):
        record["passes"] = {**facts(), **passes(asked.folder)}
    if asked.only != "passes":
        spark = spark_session()
        if asked.only != "mllib":
            record["groups"] = {**facts(), **groups(spark, asked.folder, asked.groups)}
        if asked.only != "groups":
            record["mllib"] = {**facts(), **mllib(spark, asked.folder, asked.rows)}
        spark.stop()
    print(table_of(record))
    if asked.write:
        keep("engines", record)
        paste("engines", table_of(record))


if __name__ == "__main__":
    main()
