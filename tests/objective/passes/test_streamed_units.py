"""Models of units over files whose row groups cut units: the same as in memory; units in several places are refused."""

from __future__ import annotations

import itertools
import pickle
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest

import mlejax as mle
from mlejax.data import DataError
from mlejax.execution import Limits, use_limits
from tests.data.streams.samples import same, same_covariances, small_scale, write

_small_scale = small_scale(block_rows=64, grouped_rows=700)
N_UNITS = 400
START = {"a": 0.1, "b": 0.2, "s": 0.5}


def table() -> pd.DataFrame:
    """Units of 1 to 11 rows, and one of 1,500, which is longer than two row groups; counts with a normal effect of each unit."""
    rng = np.random.default_rng(0)
    lengths = rng.integers(1, 12, N_UNITS)
    lengths[60] = 1500
    n = int(lengths.sum())
    by_unit = lambda values: np.repeat(values, lengths)
    x, u = rng.standard_normal(n), by_unit(0.6 * rng.standard_normal(N_UNITS))
    return pd.DataFrame(
        {
            "g": by_unit([f"unit {i}" for i in range(N_UNITS)]),
            "x": x,
            "y": rng.poisson(np.exp(0.3 + 0.5 * x + u)),
            "w": by_unit(rng.integers(0, 4, N_UNITS)),
            "c": by_unit(rng.integers(0, 30, N_UNITS)),
            "z": by_unit(rng.standard_normal(N_UNITS)),
            "i": np.arange(n),
        }
    )


CUTS = (0, 500, 500, 501, 1700, 100_000)


def parts(frame: pd.DataFrame) -> list[pd.DataFrame]:
    return [frame.iloc[a:b] for a, b in itertools.pairwise(CUTS)]


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> mle.Parquet:
    return write(tmp_path_factory.mktemp("units"), parts(table()))


@mle.model(a=mle.Real(), b=mle.Real(), s=mle.Positive(), unit="g", per_unit=["z"])
def intercepts(params: Any, data: Any) -> Any:
    """Normal rows of variance 1 with a normal effect of each unit, integrated in closed form."""
    mask = data["mask"]
    rest = jnp.where(mask, data["y"] - params["a"] - params["b"] * (data["x"] + data["z"]), 0.0)
    k, v = mask.sum(), params["s"] ** 2
    return -0.5 * (jnp.sum(rest**2) - jnp.sum(rest) ** 2 * v / (1 + k * v)) - 0.5 * jnp.log1p(k * v)


@pytest.mark.parametrize("weights", [None, "frequency", "importance", "sampling"])
def test_every_covariance_with_weights_and_without(files: mle.Parquet, weights: Any) -> None:
    options: dict[str, Any] = {} if weights is None else {"weights": "w", "weight_kind": weights}
    streamed, memory = (intercepts.fit(data, start=START, **options) for data in (files, table()))
    same(streamed, memory)
    shown = [str(res.summary()).splitlines() for res in (streamed, memory)]
    one, other = ([line for line in text if "Converged:" not in line] for text in shown)
    assert one == other
    same_covariances(streamed, memory, weights)


def test_a_start_from_whole_units_of_the_sample(files: mle.Parquet) -> None:
    streamed, memory = intercepts.fit(files), intercepts.fit(table())
    same(streamed, memory, 1e-9)


def test_readers_and_formulas() -> None:
    frame = table().assign(k=lambda d: d["i"] % 3)
    model = intercepts.regress(a="C(k) + x")
    streamed = model.fit(mle.Stream(lambda: (frame.iloc[a : a + 333] for a in range(0, len(frame), 333))))
    same(streamed, model.fit(frame), 1e-9)


def test_resamples_of_units(files: mle.Parquet) -> None:
    streamed, memory = (intercepts.fit(data, start=START) for data in (files, table()))
    for groups in ("c", None):
        mine, theirs = (r.jackknife(groups, approximate="one-step") for r in (streamed, memory))
        np.testing.assert_allclose(mine.bse, theirs.bse, rtol=1e-9)
        assert str(mine).splitlines()[0] == str(theirs).splitlines()[0]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", mle.ConvergenceWarning)  # long steps of s, on a log scale
        boot = streamed.bootstrap(400, approximate="one-step", seed=3)
    np.testing.assert_allclose(boot.bse[:2], streamed.with_cov("HC0").bse[:2], rtol=0.2)
    assert f"{N_UNITS} units" in str(boot)


def test_pickled_and_repeated(files: mle.Parquet, tmp_path: Path) -> None:
    res = intercepts.fit(files, start=START, resume=tmp_path)
    same(intercepts.fit(files, start=START, resume=tmp_path), res)
    again = pickle.loads(pickle.dumps(res))
    np.testing.assert_allclose(again.with_cov("HC1").bse, res.with_cov("HC1").bse, rtol=1e-12)


# ---- data that cannot be used


def test_rows_that_are_not_sorted_are_refused_with_the_unit(tmp_path: Path) -> None:
    frame = table()
    far = frame.assign(g=np.where(frame["i"] == len(frame) - 1, "unit 3", frame["g"]))
    with pytest.raises(
        DataError, match=r"rows of g 'unit 3' are in several places: in part-0\S* row group 0, and again in .*sort_values\('g'\)"
    ):
        intercepts.fit(write(tmp_path, parts(far)))
    near = frame.assign(g=np.where(frame["i"] == 30, "unit 0", frame["g"]))
    with pytest.raises(DataError, match=r"^part-0\S* row group 0: the rows of g 'unit 0' are in several places: at row 0 and"):
        intercepts.fit(write(tmp_path, parts(near)))


def test_missing_labels_and_values_are_named(tmp_path: Path) -> None:
    frame = table()
    unknown = frame.assign(g=np.where(frame["i"] == 30, None, frame["g"]))
    with pytest.raises(DataError, match=r"^part-0\S* row group 0: column 'g': 1 of \d+ labels are missing, at row 30"):
        intercepts.fit(write(tmp_path, parts(unknown)))
    gone = frame.assign(x=np.where(frame["i"] == 1800, np.nan, frame["x"]))
    with pytest.raises(DataError, match=r"^part-\S+ row group \d(, from row \d+ on)?: column 'x': 1 missing values") as error:
        intercepts.fit(write(tmp_path, parts(gone)))
    assert "filters=" in str(error.value)


@pytest.mark.parametrize(
    ("column", "options", "message"),
    [
        ("z", {}, r"column 'z' \(per_unit=\): expected one value per unit, but unit 'unit \d+' has"),
        ("w", {"weights": "w", "weight_kind": "sampling"}, r"weights: expected one value per unit, but unit"),
    ],
)
def test_what_varies_within_a_unit_is_refused(tmp_path: Path, column: str, options: Any, message: str) -> None:
    frame = table()
    frame.loc[500, column] += 1
    with pytest.raises(DataError, match=message):
        intercepts.fit(write(tmp_path, parts(frame)), **options)


def test_clusters_that_vary_within_a_unit_are_refused(tmp_path: Path) -> None:
    frame = table()
    frame.loc[500, "c"] += 1
    res = intercepts.fit(write(tmp_path, parts(frame)), start=START)
    with pytest.raises(DataError, match=r"groups column 'c': expected one value per unit"):
        res.with_cov("cluster", {"groups": "c"})


def test_units_that_change_between_passes_stop_the_fit() -> None:
    frame, turn = table(), iter(range(1000))
    border = int(np.flatnonzero(frame["g"] == "unit 1")[0])

    def batches() -> Iterator[Any]:
        late = next(turn) > 3
        yield frame.assign(g=np.where(late & (frame["i"] == border), "unit 0", frame["g"]))

    with pytest.raises(DataError, match=r"batch 0 is not what it was in the first pass: other values"):
        intercepts.fit(mle.Stream(batches))


def test_a_log_likelihood_that_is_not_finite_is_named(tmp_path: Path) -> None:
    frame = table()
    frame.loc[1700, "x"] = 50.0

    @mle.model(m=mle.Real(), unit="g")
    def undefined(params: Any, data: Any) -> Any:
        values = -0.5 * (data["y"] - params["m"]) ** 2 + 0.0 * jnp.log(40.0 - data["x"])
        return jnp.sum(jnp.where(data["mask"], values, 0.0))

    with pytest.warns(mle.ConvergenceWarning, match=rf"1 of {N_UNITS} units \(part-\d.parquet.*, row \d+; first: nan\)"):
        res = undefined.fit(write(tmp_path, parts(frame)))
    assert res.verdict.code == "not_computable"


@pytest.mark.parametrize("kind", ["frequency"])
def test_clusters_where_a_whole_chunk_has_weight_zero(tmp_path: Path, kind: str) -> None:
    """The rows of later chunks keep their numbers."""
    frame = table()
    frame["w"] = np.where(frame["g"].isin([f"unit {i}" for i in range(55)]), 0, frame["w"])
    options: dict[str, Any] = {"weights": "w", "weight_kind": kind, "start": START}
    options |= {"cov_type": "cluster", "cov_kwds": {"groups": "c"}}
    with use_limits(Limits(chunk_rows=64, block_rows=8, grouped_rows=700)):
        same(intercepts.fit(write(tmp_path, parts(frame)), **options), intercepts.fit(frame, **options))
