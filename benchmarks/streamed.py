"""A logit of many rows in Parquet, in passes: against its parts, each measured alone in the same run.

    python benchmarks/streamed.py [--rows 10_000_000] [--folder FOLDER] [--write]

Rows are drawn with a fixed seed, 20 columns of float32 and an outcome, in row groups of 250,000.  Every step runs in a process
of its own, on the machine's cores, and is told in seconds of the clock and of the cores.  The fit is with HC1 errors.
"""

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent.parent))

from benchmarks.recorded import circumstances, keep
from benchmarks.tables import markdown, paste

P, GROUP = 20, 250_000
NAMES = [f"x{j}" for j in range(P)]
PARTS = ("decode", "convert", "memory")


def generate(folder: Path, rows: int) -> None:
    """Write the rows, unless they are there."""
    import numpy as np
    import pyarrow as pa
    import pyarrow.parquet as pq

    folder.mkdir(parents=True, exist_ok=True)
    beta = np.linspace(-0.4, 0.4, P)
    for i, begin in enumerate(range(0, rows, 1_000_000)):
        path = folder / f"rows-{i:03d}.parquet"
        if path.exists():
            continue
        n = min(1_000_000, rows - begin)
        rng = np.random.default_rng(i)
        x = rng.standard_normal((P, n), dtype=np.float32)
        y = rng.random(n) < 1.0 / (1.0 + np.exp(-(0.2 + beta @ x)))
        table = pa.table({**dict(zip(NAMES, x, strict=True)), "y": y.astype(np.int8)})
        pq.write_table(table, path, row_group_size=GROUP, compression="none", use_dictionary=False)


def model() -> Any:
    import jax
    import jax.numpy as jnp

    import mlejax as mle

    @mle.model(beta=mle.Real(columns=NAMES), alpha=mle.Real())
    def logit(params: Any, data: Any) -> Any:
        eta = params["alpha"] + jnp.stack([data[name] for name in NAMES], axis=1) @ params["beta"]
        return data["y"] * eta - jax.nn.softplus(eta)

    return logit


def decode(folder: Path) -> None:
    """All row groups into Arrow, and forgotten."""
    from mlejax.data.streams import Parquet, Threads

    groups = Parquet(str(folder / "*.parquet")).partitions()
    for _ in Threads().map(lambda group: group.read([*NAMES, "y"]).num_rows, groups):
        pass


def convert(folder: Path) -> None:
    """As many float32 numbers to float64, in the cache, as the rows have."""
    import numpy as np

    from mlejax.data.streams import Parquet, Threads

    n = sum(group.n_rows for group in Parquet(str(folder / "*.parquet")).partitions())

    def work(_: Any) -> None:
        source, target = np.ones((P, 16_384), np.float32), np.empty((P, 16_384))
        for _ in range(GROUP // 16_384):
            target[...] = source

    for _ in Threads().map(work, range(-(-n // GROUP))):  # type: ignore[arg-type]
        pass


def memory(folder: Path) -> list[float]:
    """Log-likelihood, score and information of 1,000,000 rows in memory; the seconds are a row's."""
    import jax
    import numpy as np
    import pyarrow.parquet as pq

    from mlejax.fit.prepare.loading import load
    from mlejax.objective import ChunkedEvaluator, Spec
    from mlejax.optimize import Newton

    table = pq.read_table(folder / "rows-000.parquet")
    with jax.enable_x64(True):
        loaded = load(model().likelihood, {name: table[name].to_numpy() for name in table.column_names}, None, "raise")
        evaluator = ChunkedEvaluator(Spec(model().likelihood, loaded.problem.space), loaded.problem.data, None)
        evaluator.minimised(Newton(), np.zeros(P + 1))
        took = _clock(lambda: evaluator.minimised(Newton(), np.full(P + 1, 0.01)))
        return [took["clock"] / table.num_rows, took["cores"] / table.num_rows]


def fit(folder: Path) -> dict[str, Any]:
    """The fit with HC1, its passes, and its peak of resident memory."""
    import mlejax as mle

    passes: list[dict[str, float]] = []
    from mlejax.data.streams import Streamed

    plain = Streamed.pass_over

    def timed(self: Any, work: Any) -> Any:
        out: list[Any] = []
        passes.append(_clock(lambda: out.append(plain(self, work))))
        return out[0]

    Streamed.pass_over = timed  # type: ignore[method-assign]
    res = model().fit(mle.Parquet(str(folder / "*.parquet")), cov_type="HC1")
    return {
        "passes": passes,
        "verdict": res.verdict.code,
        "n": int(res.nobs),
        "peak_gb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20,
        "bse": [float(v) for v in res.bse[:2]],
    }


def _clock(work: Any) -> dict[str, float]:
    clock, cores = time.perf_counter(), time.process_time()
    work()
    return {"clock": time.perf_counter() - clock, "cores": time.process_time() - cores}


def alone(step: str, folder: Path) -> Any:
    """A step in a process of its own."""
    command = [sys.executable, __file__, "--step", step, "--folder", str(folder)]
    ran = subprocess.run(
        command, check=True, capture_output=True, text=True, env={**os.environ, "JAX_PLATFORMS": "cpu"}
    )
    return json.loads(ran.stdout.splitlines()[-1])


def table_of(record: dict[str, Any]) -> str:
    """The steps, and what was to be reached."""
    found, n = record["steps"], record["rows"]
    rows = [[f"{name} alone", f"{found[name]['clock']:.2f}", f"{found[name]['cores']:.2f}"] for name in PARTS]
    passes = found["fit"]["passes"]
    names = [f"pass {i + 1}" for i in range(len(passes))]
    names[-1] += ", with the sums for HC1"
    rows += [[name, f"{p['clock']:.2f}", f"{p['cores']:.2f}"] for name, p in zip(names, passes, strict=True)]
    whole = found["fit"]["whole"]
    rows.append(["the whole fit, compilation too", f"{whole['clock']:.2f}", f"{whole['cores']:.2f}"])
    parts = sum(found[name]["cores"] for name in PARTS)
    best = statistics.median(p["cores"] for p in passes)
    text = markdown([f"{n:,} rows × {P}, float32", "seconds", "core seconds"], rows)
    return (
        f"{text}\nPasses over all rows, HC1 and the check of values included: {len(passes)}. The median pass takes "
        f"{best / parts:.2f} times the core seconds of its three parts. "
        f"Resident memory at the peak: {found['fit']['peak_gb']:.2f} GB. Load before: "
        f"{record['load_before']:.1f} on {record['cores_of_the_machine']} cores, {record['date']}.\n"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=lambda text: int(text.replace("_", "")), default=10_000_000)
    parser.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir()) / "streamed")
    parser.add_argument("--step")
    parser.add_argument("--write", action="store_true")
    asked = parser.parse_args()
    if asked.step:
        import mlejax.data.streams  # noqa: F401 - what an import costs is no part of a step

        out: list[Any] = []
        took = _clock(lambda: out.append(globals()[asked.step](asked.folder)))
        if asked.step == "fit":
            took = {**out[0], "whole": took}
        print(json.dumps({"found": out[0], **took} if asked.step == "memory" else took))
        return
    folder = asked.folder / str(asked.rows)
    generate(folder, asked.rows)
    steps = {step: alone(step, folder) for step in (*PARTS, "fit")}
    clock, cores = steps["memory"]["found"]
    steps["memory"] = {"clock": clock * asked.rows, "cores": cores * asked.rows}
    record = {**circumstances("pyarrow"), "rows": asked.rows, "steps": steps}
    print(table_of(record))
    if asked.write:
        name = "streamed" if asked.rows <= 10_000_000 else "streamed_large"
        keep(name, record)
        paste(name, table_of(record))


if __name__ == "__main__":
    main()
