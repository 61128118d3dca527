"""Data in Parquet files, and models, for the tests of what is read in passes."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet
import pytest

import mlejax as mle
from mlejax.execution import Limits, use_limits

N = 6_011


@mle.model(b=mle.Real(columns=["x0", "x1"]), a=mle.Real())
def logit(params: Any, data: Any) -> Any:
    eta = params["a"] + jnp.stack([data["x0"], data["x1"]], axis=1) @ params["b"]
    return data["y"] * eta - jax.nn.softplus(eta)


@mle.model(eta=mle.Real())
def outcome(params: Any, data: Any) -> Any:
    return data["y"] * params["eta"] - jax.nn.softplus(params["eta"])


@mle.model(m=mle.Real(), s=mle.Positive(), unit="c")
def by_unit(params: Any, data: Any) -> Any:
    """Normal rows of variance 1 with a normal effect of each unit, integrated in closed form."""
    rest = jnp.where(data["mask"], data["x0"] + 0.1 * data["c2"] - params["m"], 0.0)
    k, v = data["mask"].sum(), params["s"] ** 2
    return -0.5 * (jnp.sum(rest**2) - jnp.sum(rest) ** 2 * v / (1 + k * v)) - 0.5 * jnp.log1p(k * v)


@mle.model(b=mle.Real(), alpha=mle.Real(by="c"))
def effects(params: Any, data: Any) -> Any:
    eta = params["b"] * data["x0"] + params["alpha"]
    return data["y"] * eta - jax.nn.softplus(eta)


@mle.model(a=mle.Real(), b=mle.Real(), s=mle.NonNegative(), u=mle.Latent(by="c"))
def intercepts(params: Any, data: Any) -> Any:
    mean = params["a"] + params["b"] * data["x0"] + params["s"] * params["u"]
    return jax.scipy.stats.norm.logpdf(data["x1"] + 0.3 * data["c2"], mean, 1.0)


@mle.model(m=mle.Real(shape=2), s=mle.Positive(), kind=mle.Discrete(2))
def classes(params: Any, data: Any) -> Any:
    return jax.scipy.stats.norm.logpdf(data["x0"] + 3.0 * (data["c2"] < 2), params["m"][params["kind"]], params["s"])


def frame() -> pd.DataFrame:
    """Rows of float32, int8 and int64 numbers and of text."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal((N, 2)).astype(np.float32)
    g, c = rng.choice(list("abcd"), N), rng.integers(0, 30, N)
    p = 1.0 / (1.0 + np.exp(-(0.3 + x @ [-0.5, 0.4] + 0.3 * (g == "b"))))
    table = pd.DataFrame(x, columns=["x0", "x1"]).assign(g=g, c=c, c2=c % 7, w=rng.integers(0, 4, N))
    return table.assign(y=(rng.random(N) < p).astype(np.int8))


def in_order() -> pd.DataFrame:
    """These rows sorted by c, the column of units, levels and latents."""
    return frame().sort_values("c", kind="stable", ignore_index=True)


CASES: dict[str, tuple[Any, dict[str, Any]]] = {
    "rows": (logit, {"start": {"a": 0.0, "b": [0.0, 0.0]}}),
    "effects": (effects, {}),
    "units": (by_unit, {"start": {"m": 0.0, "s": 1.0}}),
    "quadrature": (intercepts, {"start": {"a": 0.1, "b": 0.0, "s": 0.5}}),
    "laplace": (intercepts, {"start": {"a": 0.1, "b": 0.0, "s": 0.5}, "integrate": "laplace"}),
    "classes": (classes, {"start": {"m": [0.0, 3.0]}}),
}
"""Models that every evaluator has to fit alike, with options of the fit; rows in the order of `in_order`."""


def told(name: str, data: Any, on: Any = None, few: bool = False) -> dict[str, Any]:
    """What a fit of a case says, in numbers and texts for JSON: estimates, errors of every kind, effects or latents, and errors
    by one step without each cluster; ``few``: errors of two kinds alone, where each is compiled in several processes.
    """
    model, options = CASES[name]
    res = model.fit(data, on=on, **options)
    kinds: list[tuple[str, Any]] = [("HC1", None), ("cluster", {"groups": "c2" if name == "units" else "c"})]
    kinds += [] if name == "classes" else [("HC3", None)]
    kinds = kinds[1:2] if few else kinds
    out: dict[str, Any] = {"verdict": str(res.verdict), "llf": float(res.llf), "nobs": float(res.nobs), "note": res._fit.note}
    out |= {"params": res.params.tolist(), "nonrobust": res.bse.tolist()}
    out |= {kind: res.with_cov(kind, options).bse.tolist() for kind, options in kinds}
    own = res.effects() if name == "effects" else res.latent() if name in ("quadrature", "laplace") else None
    if own is not None:
        out["own"] = own.select_dtypes("number").to_numpy(float).tolist()
    out["one step"] = res.jackknife("c2", approximate="one-step").bse.tolist() if name in ("rows", "effects") else []
    return out


def told_alike(found: dict[str, Any], want: dict[str, Any], rtol: float = 1e-9) -> None:
    assert list(found) == list(want)
    for name, value in want.items():
        if isinstance(value, str):
            assert found[name] == value
        else:
            np.testing.assert_allclose(found[name], value, rtol=rtol, atol=1e-11, err_msg=name)


def small_scale(**more: int) -> Any:
    """A fixture for a whole module: chunks of 512 rows, and other limits."""

    @pytest.fixture(autouse=True)
    def _small_scale() -> Iterator[None]:
        with use_limits(Limits(chunk_rows=512, **more)):
            yield

    return _small_scale


def same(streamed: Any, memory: Any, rtol: float = 1e-12, at_a_maximum: bool = True) -> None:
    """A fit of a stream is that of the same rows in memory; ``at_a_maximum``: and verified."""
    assert str(streamed.verdict) == str(memory.verdict)
    assert streamed.verdict.code == "verified" or not at_a_maximum
    assert list(streamed.params.index) == list(memory.params.index)
    np.testing.assert_allclose(streamed.params, memory.params, rtol=rtol, atol=1e-14)
    np.testing.assert_allclose(streamed.bse, memory.bse, rtol=rtol)
    np.testing.assert_allclose(streamed.llf, memory.llf, rtol=rtol)
    assert (streamed.nobs, streamed.cov_type) == (memory.nobs, memory.cov_type)


COVARIANCES: list[tuple[str, Any]] = [
    *((kind, None) for kind in ("nonrobust", "opg", "HC0", "HC1", "HC2", "HC3", "HC4")),
    ("cluster", {"groups": "c", "correction": "full"}),
    ("cluster", {"groups": ("c", "g")}),
]


def same_covariances(streamed: Any, memory: Any, weights: str | None) -> None:
    """Covariances of every kind that these weights have; others are refused."""
    for kind, kwds in COVARIANCES:
        if weights == "frequency" and kind in ("HC2", "HC3", "HC4"):
            with pytest.raises(ValueError, match="does not support frequency weights"):
                streamed.with_cov(kind)
        elif weights != "sampling" or kind not in ("nonrobust", "opg"):
            same(streamed.with_cov(kind, kwds), memory.with_cov(kind, kwds))


CUTS = (0, 1500, 1500, 1501, 5200, N)  # a file without rows, one of a single row, one of most


def parts(table: pd.DataFrame | None = None) -> list[pd.DataFrame]:
    table = frame() if table is None else table
    return [table.iloc[a:b] for a, b in itertools.pairwise(CUTS)]


def write(folder: Path, frames: list[pd.DataFrame]) -> mle.Parquet:
    """Files part-0, part-1, ... with row groups of 1,000 rows."""
    for i, each in enumerate(frames):
        table = pa.Table.from_pandas(each, preserve_index=False)
        pyarrow.parquet.write_table(table, folder / f"part-{i}.parquet", row_group_size=1000)
    return mle.Parquet(str(folder / "*.parquet"))
