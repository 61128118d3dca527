"""Groups from files that are sorted by group: the same answers as in memory, batch by batch, and what cannot be asked of them."""

from __future__ import annotations

import pickle
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

import mlejax as mle
from mlejax.data import DataError
from mlejax.data.streams import whole_groups
from mlejax.execution import Limits, use_limits
from tests.batch.test_fit_batch import gaussian
from tests.data.streams.samples import write

BEGIN = {"mu": 0.0, "sigma": 1.0}


@pytest.fixture(autouse=True)
def _small_scale() -> Iterator[None]:
    with use_limits(Limits(grouped_rows=150)), warnings.catch_warnings():
        warnings.simplefilter("ignore", mle.ConvergenceWarning)
        yield


def table() -> pd.DataFrame:
    """Groups of 1 to 300 rows; one has a missing value, one no spread, one lacks a level."""
    rng = np.random.default_rng(4)
    sizes = [20, 1, 300, 31, 30, 30, 45, 12]
    frame = pd.DataFrame(
        {"store": np.repeat([f"store {i}" for i in range(8)], sizes), "x": rng.normal(size=sum(sizes))}
    )
    frame = frame.assign(k=rng.choice(list("ab"), len(frame)), y=2.0 + frame["x"] + rng.normal(size=len(frame)))
    frame.loc[frame["store"] == "store 4", "y"] = np.where(np.arange(30) == 7, np.nan, 1.0)
    frame.loc[frame["store"] == "store 5", "y"] = 3.0
    frame.loc[frame["store"] == "store 6", "k"] = "a"
    return frame


@pytest.fixture
def files(tmp_path: Path) -> mle.Parquet:
    frame = table()
    return write(tmp_path, [frame.iloc[:90], frame.iloc[90:90], frame.iloc[90:]])


@pytest.mark.parametrize("formula", [False, True])
def test_the_answers_are_those_of_memory(files: mle.Parquet, formula: bool) -> None:
    model = gaussian.regress(mu="x + k") if formula else gaussian
    options: dict[str, Any] = {"by": "store", "cov_type": "HC1", "start": None if formula else BEGIN}
    found, memory = model.fit_groups(files, **options), model.fit_groups(table(), **options)
    assert list(found) == list(memory)
    assert found.verdict.tolist() == memory.verdict.tolist()
    pd.testing.assert_frame_equal(found.tidy(), memory.tidy(), rtol=1e-8)
    good = memory.converged.to_numpy()  # the others end somewhere along their way to infinity
    pd.testing.assert_frame_equal(found.glance()[good], memory.glance()[good], rtol=1e-8)
    assert found.failed.index.tolist() == memory.failed.index.tolist()
    assert "column 'y': 1 missing values (NaN or NA), at row 7" in found.failed.loc["store 4", "reason"]
    assert str(found.summary()) == str(memory.summary())
    back = pickle.loads(pickle.dumps(found))
    pd.testing.assert_frame_equal(back.tidy(), found.tidy())


def test_several_columns_and_a_reader() -> None:
    frame = table().query("store != 'store 4'").sort_values(["store", "k"], kind="stable")
    found = gaussian.fit_groups(
        mle.Stream(lambda: [frame.iloc[:100], frame.iloc[100:]]), by=["store", "k"], start=BEGIN
    )
    by = frame.groupby(["store", "k"])["y"].mean()
    assert found.params.index.names == ["store", "k"]
    np.testing.assert_allclose(found.params["mu"][found.converged], by[found.params.index[found.converged]], rtol=1e-8)


def test_what_needs_the_rows_is_refused(files: mle.Parquet) -> None:
    res = gaussian.fit_groups(files, by="store", start=BEGIN)
    for ask in (
        lambda: res["store 0"],
        lambda: res.with_cov("HC0"),
        lambda: res.conf_int(method="profile"),
    ):
        with pytest.raises(DataError, match=r"needs the rows of the groups.*filters="):
            ask()
    with pytest.raises(KeyError, match="store 0"):
        res["store0"]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"start": "pooled"}, "one start= for all groups"),
        ({"by": np.zeros(3)}, "the name of a column"),
        ({"weights": np.ones(3), "weight_kind": "frequency"}, "expected names of columns as weights= and clusters"),
        ({"cov_type": "cluster", "cov_kwds": {"groups": np.zeros(3)}}, "expected names of columns as weights= and clusters"),
        ({"by": "shop"}, "no column 'shop'"),
        ({"on": 5}, "on= expected a list of JAX devices"),
    ],
)
def test_options_that_need_all_rows_are_refused_by_name(files: mle.Parquet, options: dict[str, Any], said: str) -> None:
    with pytest.raises((ValueError, TypeError, KeyError), match=said):
        gaussian.fit_groups(files, **{"by": "store", "start": BEGIN, **options})


def test_rows_that_are_not_sorted_are_refused_with_the_group(tmp_path: Path) -> None:
    frame = table().query("store != 'store 4'").sample(frac=1.0, random_state=0)
    with pytest.raises(DataError, match=r"the rows of group 'store \d' are in several places: .* sorted by store"):
        gaussian.fit_groups(write(tmp_path, [frame]), by="store", start=BEGIN)


@pytest.mark.parametrize("rows", [1, 7, 50, 1000])
def test_no_group_is_split(rows: int) -> None:
    """Batches of any size, groups of any length, text and numbers and dictionaries as labels."""
    rng = np.random.default_rng(rows)
    a, b = np.sort(rng.integers(0, 30, 200)), rng.integers(0, 2, 200)
    full = pa.Table.from_pandas(
        pd.DataFrame({"a": a, "b": b, "i": np.arange(200)}).sort_values(["a", "b"]), preserve_index=False
    )
    full = full.set_column(1, "b", full["b"].cast(pa.string()).dictionary_encode())
    with use_limits(Limits(grouped_rows=rows)):
        for by in (["a"], ["a", "b"]):
            cut = list(whole_groups(full.to_batches(max_chunksize=13), by))
            assert pa.concat_tables(cut)["i"].to_pylist() == full["i"].to_pylist()
            groups = [set(map(tuple, t.select(by).to_pandas().astype(str).to_numpy())) for t in cut]
            assert sum(map(len, groups)) == len(set().union(*groups))
            assert (len(cut) > 1) == (rows < 200)
