"""Rows over several devices of one machine: four CPU devices, in a process that asks for them before JAX begins."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap
from typing import Any

import pytest

from mlejax.data import DataTypeError
from mlejax.engines import source_of
from mlejax.execution import Limits, use_limits
from tests.data.streams.samples import in_order, told, told_alike

SCRIPT = """
import json
import jax
jax.config.update("jax_num_cpu_devices", 4)
import numpy as np
from jax.sharding import Mesh
import mlejax as mle
from mlejax.execution import Limits, use_limits
from tests.data.streams.samples import effects, frame, in_order, logit, outcome, told

out = {}
with use_limits(Limits(block_rows=256, chunk_rows=1024)):
    table = frame()
    plain = logit.fit(table, cov_type="HC1")
    for name, on in {"list": jax.devices(), "mesh": Mesh(np.array(jax.devices()[:3]), ("x",)), "one": jax.devices()[1]}.items():
        res = logit.fit(table, on=on, cov_type="HC1")
        differ = lambda a, b: float(np.abs(np.asarray(a) / np.asarray(b) - 1.0).max())
        out[name] = {
            "params": differ(res.params, plain.params),
            "information": differ(res.information, plain.information),  # wrong by the number of devices under check_vma
            "bse": differ(res.bse, plain.bse),
            "verdict": res.verdict.code,
        }
    penalty = {"penalty": mle.l2(5.0, "b"), "weights": "w", "weight_kind": "frequency", "fixed": {"a": 0.2}}
    a, b = logit.fit(table, on=jax.devices(), **penalty), logit.fit(table, **penalty)
    out["cases"] = {name: told(name, in_order(), jax.devices()) for name in ("rows", "units", "quadrature", "classes")}
    try:
        effects.fit(table, on=jax.devices())
    except ValueError as error:
        out["effects"] = str(error)
    out["options"] = {"params": float(np.abs(a.params - b.params).max()), "llf": float(a.llf - b.llf)}
print(json.dumps(out))
"""


@pytest.fixture(scope="module")
def found() -> Any:
    ran = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(SCRIPT)],
        env={**os.environ, "PYTHONPATH": os.getcwd(), "JAX_PLATFORMS": "cpu"},
        capture_output=True,
        text=True,
    )
    assert ran.returncode == 0, ran.stderr[-3000:]
    return json.loads(ran.stdout.splitlines()[-1])


@pytest.mark.slow
@pytest.mark.parametrize("on", ["list", "mesh", "one"])
def test_estimates_information_and_errors_are_those_of_one_device(found: Any, on: str) -> None:
    assert found[on]["verdict"] == "verified"
    assert found[on]["params"] < 1e-9
    assert found[on]["information"] < 1e-9
    assert found[on]["bse"] < 1e-9


@pytest.mark.slow
@pytest.mark.parametrize("name", ["rows", "units", "quadrature", "classes"])
def test_every_model(found: Any, name: str) -> None:
    """With the covariances and the latents of one device; of effects by index the reason why not."""
    with use_limits(Limits(block_rows=256, chunk_rows=1024)):
        told_alike(found["cases"][name], told(name, in_order()))
    assert "on= several devices is not supported with alpha=Real(by='c')" in found["effects"]


@pytest.mark.slow
def test_with_a_penalty_weights_and_a_fixed_value(found: Any) -> None:
    assert found["options"]["params"] < 1e-9
    assert abs(found["options"]["llf"]) < 1e-7


def test_a_table_of_a_cluster_is_told_what_to_give() -> None:
    spark, dask = (type("DataFrame", (), {"__module__": m, "to_delayed": None})() for m in ("pyspark.sql", "dask_expr"))
    with pytest.raises(DataTypeError, match=r"give on=df\.sparkSession, its SparkSession"):
        source_of(spark, None, groups=True)
    with pytest.raises(DataTypeError, match="give on=client"):
        source_of(dask, None)
