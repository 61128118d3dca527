"""Rows over two processes of JAX's own runtime on one machine, with collectives of the CPU."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import textwrap
from typing import Any

import numpy as np
import pytest

from tests.data.streams.samples import frame, in_order, logit, outcome, told, told_alike

pytestmark = pytest.mark.slow

SCRIPT = """
import json, sys, warnings
import jax
jax.distributed.initialize(coordinator_address=sys.argv[1], num_processes=2, process_id=int(sys.argv[2]))
import numpy as np
import mlejax as mle
from mlejax.engines import on_processes
from tests.data.streams.samples import by_unit, frame, in_order, logit, outcome, told

me, everywhere = int(sys.argv[2]), jax.devices()
assert len({device.process_index for device in everywhere}) == 2
on_processes.ROWS = 1000
table = frame()
table = table.assign(g=np.where((table["g"] == "d") & (np.arange(len(table)) < 1500), "a", table["g"]))  # no d in the first
mine = table.iloc[:1500] if me == 0 else table.iloc[1500:]
out = {}


def tell(name, res):
    out[name] = [list(map(float, res.params)), list(map(float, res.bse)), float(res.llf), float(res.nobs), res.verdict.code]


tell("HC1", logit.fit(mine, on=everywhere, cov_type="HC1"))
tell("cluster", logit.fit(mine, on=everywhere, cov_type="cluster", cov_kwds={"groups": "c"}))
tell("formula", outcome.regress(eta="x0 * g").fit(mine, on=everywhere, weights="w", weight_kind="sampling", cov_type="HC0"))
halves = mle.Stream(lambda: [mine.iloc[:700], mine.iloc[700:]])
tell("stream", logit.fit(halves, on=everywhere))


def refused(call):
    try:
        call()
    except Exception as error:
        return str(error) + " ".join(getattr(error, "__notes__", []))


bad = mine.assign(x1=np.where((np.arange(len(mine)) == 1205) & (me == 1), np.nan, mine["x1"]))
out["missing"] = refused(lambda: logit.fit(bad, on=everywhere, start={"a": 0.0, "b": [0.0, 0.0]}))

out["whole"] = refused(lambda: logit.fit(mine, on=everywhere, method="lbfgs"))
units = in_order()
border = int(np.searchsorted(units["c"], 7))
ours = units.iloc[:border] if me == 0 else units.iloc[border:]
out["cases"] = {name: told(name, ours, everywhere) for name in ("effects", "units", "quadrature", "classes")}
out["cut"] = refused(lambda: by_unit.fit(units.iloc[: border + 5] if me == 0 else units.iloc[border + 5 :], on=everywhere))
print(json.dumps(out))
"""

CUT_SHORT = """
import json, os, signal, sys, warnings
import jax
jax.distributed.initialize(coordinator_address=sys.argv[1], num_processes=2, process_id=int(sys.argv[2]))
import mlejax as mle
from tests.data.streams.samples import frame, logit

me, sign, passes = int(sys.argv[2]), getattr(signal, sys.argv[3]), 0
mine = frame().iloc[:1500] if me == 0 else frame().iloc[1500:]


def rows():
    global passes
    passes += 1
    yield mine.iloc[:700]
    if me == 1 and passes == 4:
        os.kill(os.getpid(), sign)
    yield mine.iloc[700:]


warnings.simplefilter("ignore")
try:
    said = logit.fit(mle.Stream(rows), on=jax.devices(), start={"a": 1.0, "b": [1.0, 1.0]}).verdict.code
    print(json.dumps([said, logit.fit(mle.Stream(rows), on=jax.devices()).verdict.code]), flush=True)
except RuntimeError as error:
    print(json.dumps(str(error)), flush=True)
    os._exit(0)  # else JAX's shutdown waits for the other process
"""


def both(script: str, *arguments: str) -> list[tuple[int, str, str]]:
    """Exit status, output and errors of a script in each of two processes."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    env = {**os.environ, "PYTHONPATH": os.getcwd(), "JAX_PLATFORMS": "cpu"}
    running = [
        subprocess.Popen(
            [sys.executable, "-c", textwrap.dedent(script), address, str(i), *arguments],
            env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )
        for i in range(2)
    ]  # fmt: skip
    ended = [process.communicate(timeout=900) for process in running]
    return [(process.returncode, *texts) for process, texts in zip(running, ended, strict=True)]


def last_line(code: int, printed: str, errors: str) -> Any:
    """What the process said at its end."""
    assert code == 0, errors[-3000:]
    return json.loads(printed.splitlines()[-1])


@pytest.fixture(scope="module")
def found() -> list[dict[str, Any]]:
    return [last_line(*each) for each in both(SCRIPT)]


def reference(name: str) -> Any:
    table = frame()
    table = table.assign(g=np.where((table["g"] == "d") & (np.arange(len(table)) < 1500), "a", table["g"]))
    if name == "formula":
        return outcome.regress(eta="x0 * g").fit(table, weights="w", weight_kind="sampling", cov_type="HC0")
    kinds = {"HC1": ("HC1", None), "cluster": ("cluster", {"groups": "c"}), "stream": (None, None)}
    return logit.fit(table, cov_type=kinds[name][0], cov_kwds=kinds[name][1])


@pytest.mark.parametrize("name", ["effects", "units", "quadrature", "classes"])
def test_every_model_in_both_processes(found: list[dict[str, Any]], name: str) -> None:
    """Units lie in one process each; a cluster and a level may be in both."""
    assert found[0]["cases"][name] == found[1]["cases"][name]
    told_alike(found[0]["cases"][name], told(name, in_order()))


@pytest.mark.parametrize("name", ["HC1", "cluster", "formula", "stream"])
def test_both_processes_have_the_answer_for_all_rows(found: list[dict[str, Any]], name: str) -> None:
    assert found[0][name] == found[1][name]
    want = reference(name)
    params, errors, llf, nobs, verdict = found[0][name]
    np.testing.assert_allclose(params, want.params, rtol=1e-9)
    np.testing.assert_allclose(errors, want.bse, rtol=1e-9)
    assert llf == pytest.approx(want.llf, rel=1e-12)
    assert (nobs, verdict) == (want.nobs, want.verdict.code)


def test_a_unit_in_both_processes_is_refused_in_both(found: list[dict[str, Any]]) -> None:
    for each in found:
        assert re.search(r"rows of c 7 are in several places: in process 0, .*, and again in process 1", each["cut"])


def test_a_bad_value_in_one_process_is_raised_in_both(found: list[dict[str, Any]]) -> None:
    for each in found:
        assert "process 1, rows 1000 to 1999: column 'x1': 1 missing values" in each["missing"]
        assert "happened in process 1 of 2" in each["missing"]
        assert "method='lbfgs' is not supported for a stream" in each["whole"]


def test_ctrl_c_in_one_process_ends_the_fit_in_both() -> None:
    """And the next fit runs."""
    for each in both(CUT_SHORT, "SIGINT"):
        assert last_line(*each) == ["stopped_early", "verified"]


def test_a_process_that_is_killed_leaves_none_waiting() -> None:
    survivor, killed = both(CUT_SHORT, "SIGKILL")
    assert "one of them has ended" in last_line(*survivor)
    assert killed[0] == -signal.SIGKILL
