"""Fits that were killed go on from the passes in their folder; passes of other data, models and points are made again."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import mlejax as mle
from mlejax.data import DataError
from mlejax.data.streams import Streamed
from mlejax.data.streams.kept_passes import NotKept, described
from mlejax.execution import Limits, use_limits
from tests.data.streams.samples import by_unit, classes, effects, frame, intercepts, logit, outcome, parts, write

MODELS = {"rows": logit, "effects": effects, "units": by_unit, "quadrature": intercepts, "classes": classes}
SMALL = {"chunk_rows": 512, "block_rows": 256, "grouped_rows": 700}


@pytest.fixture(autouse=True)
def _small_scale() -> Iterator[None]:
    with use_limits(Limits(**SMALL)):
        yield


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> mle.Parquet:
    """Rows that are sorted by c, the column of units and levels."""
    return write(tmp_path_factory.mktemp("sorted"), parts(frame().sort_values("c", kind="stable", ignore_index=True)))


@pytest.fixture
def passes(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """A list to which every pass over a stream adds an entry."""
    made, plain = list[int](), Streamed.pass_over

    def counted(self: Any, *given: Any) -> Any:
        found = plain(self, *given)
        made.append(1)
        return found

    monkeypatch.setattr(Streamed, "pass_over", counted)
    return made


KILLED = """
import os, signal
from mlejax.data.streams import Streamed
from mlejax.execution import Limits, use_limits
from tests.data.streams.test_kept_passes import MODELS, SMALL, mle
plain, made = Streamed.pass_over, []
def dying(self, *given):
    if len(made) == {at}:
        os.kill(os.getpid(), signal.SIGKILL)
    made.append(1)
    return plain(self, *given)
Streamed.pass_over = dying
with use_limits(Limits(**SMALL)):
    MODELS[{name!r}].fit(mle.Parquet({path!r}), resume={folder!r})
"""


@pytest.mark.parametrize(
    ("name", "at"),
    [
        ("rows", 2),
        ("effects", 2),
        pytest.param("units", 2, marks=pytest.mark.slow),
        pytest.param("quadrature", 2, marks=pytest.mark.slow),
        pytest.param("quadrature", 5, marks=pytest.mark.slow),
        pytest.param("classes", 4, marks=pytest.mark.slow),
    ],
)
def test_a_fit_that_was_killed_loses_the_pass_that_it_was_in(
    files: mle.Parquet, tmp_path: Path, passes: list[int], name: str, at: int
) -> None:
    """In the pass after ``at`` others: these are not made again, and the answer has the same bits."""
    model, folder = MODELS[name], tmp_path / "passes"
    whole = model.fit(files, resume=tmp_path / "others")  # a point that comes again is found there too
    needed = len(passes)
    assert needed > at
    script = KILLED.format(at=at, name=name, path=files.path, folder=str(folder))
    ran = subprocess.run([sys.executable, "-c", textwrap.dedent(script)], env={**os.environ, "PYTHONPATH": os.getcwd()})
    assert ran.returncode == -signal.SIGKILL
    passes.clear()
    res = model.fit(files, resume=folder)
    assert len(passes) == needed - at
    np.testing.assert_array_equal(res.params, whole.params)
    np.testing.assert_array_equal(res.bse, whole.bse)
    assert str(res.verdict) == str(whole.verdict)
    kept = len(list(folder.iterdir()))
    res.with_cov("HC1")
    assert len(list(folder.iterdir())) == kept, "the fit has ended"


def test_a_fit_with_all_of_its_passes_makes_none(files: mle.Parquet, tmp_path: Path, passes: list[int]) -> None:
    for options in ({}, {"cov_type": "HC1"}, {"weights": "w", "weight_kind": "sampling"}, {"penalty": mle.l2(5.0, "b")}):
        first = logit.fit(files, resume=tmp_path, **options)
        passes.clear()
        again = logit.fit(files, resume=tmp_path, **options)
        assert not passes
        np.testing.assert_array_equal(again.bse, first.bse)


def test_levels_that_are_left_out(files: mle.Parquet, tmp_path: Path, passes: list[int]) -> None:
    """Rows of few levels, and the rows without them, are other passes."""
    table = frame()
    table["y"] = np.where(table["c"] == 3, 0, table["y"])
    stored = write(tmp_path, parts(table))
    first = effects.fit(stored, resume=tmp_path / "passes")
    passes.clear()
    again = effects.fit(stored, resume=tmp_path / "passes")
    assert not passes
    assert "1 level of c" in str(again.verdict)
    assert str(again.verdict) == str(first.verdict) == str(effects.fit(table).verdict)
    np.testing.assert_array_equal(again.params, first.params)


def scaled(factor: float, array: Any = None) -> Any:
    """A model with a constant, and an array that it closes over."""

    @mle.model(m=mle.Real())
    def shifted(params: Any, data: Any) -> Any:
        more = 0.0 if array is None else jnp.asarray(array)[data["c2"]]
        return -0.5 * ((data["x0"] - params["m"] - more) / factor) ** 2

    return shifted


def test_another_model_is_not_answered_by_the_passes_of_one(files: mle.Parquet, tmp_path: Path) -> None:
    """Its names and its operations are the same, and its constants are not."""
    for model in (scaled(1.0), scaled(2.0), scaled(1.0, np.arange(7.0)), scaled(1.0, -np.arange(7.0))):
        kept, plain = model.fit(files, resume=tmp_path), model.fit(files)
        assert kept.llf == plain.llf
        np.testing.assert_array_equal(kept.params, plain.params)


@pytest.fixture
def few_sampled() -> Iterator[None]:
    with use_limits(Limits(**SMALL, stream_sample_rows=400, batch_sample_rows=400)):
        yield


@pytest.mark.usefixtures("few_sampled")
def test_other_data_are_not_answered_by_the_passes_of_some(tmp_path: Path) -> None:
    """The files were written again, with other values in rows that are in no sample."""
    frames = parts()
    for add in (0.0, 1.0):
        frames[4] = frames[4].assign(x0=frames[4]["x0"] + add * (np.arange(len(frames[4])) // 10 == 50))
        stored = write(tmp_path, frames)
        os.utime(tmp_path / "part-4.parquet", (add, add))
        kept, plain = logit.fit(stored, resume=tmp_path / "passes"), logit.fit(stored)
        np.testing.assert_array_equal(kept.params, plain.params)


@pytest.mark.usefixtures("few_sampled")
def test_a_change_since_the_fit_was_killed_is_found_by_its_next_pass(tmp_path: Path) -> None:
    """A reader has no files whose times are known: checksums are compared with those of the first pass, in the folder."""
    table = frame()
    logit.fit(mle.Stream(lambda: [table]), resume=tmp_path)
    late = max(tmp_path.iterdir(), key=lambda file: file.stat().st_mtime_ns)
    late.unlink()
    turned = table.copy()
    turned.loc[[3301, 3302], "y"] = 1 - turned.loc[[3301, 3302], "y"]
    with pytest.raises(DataError, match="batch 0 is not what it was in the first pass"):
        logit.fit(mle.Stream(lambda: [turned]), resume=tmp_path)


@pytest.mark.filterwarnings("ignore::mlejax.ConvergenceWarning")
def test_rows_that_are_not_finite_are_named_again(tmp_path: Path) -> None:
    frames = parts()
    frames[3] = frames[3].assign(x1=np.where(np.arange(len(frames[3])) == 2345, -50.0, frames[3]["x1"]))
    stored = write(tmp_path, frames)

    @mle.model(a=mle.Real())
    def undefined(params: Any, data: Any) -> Any:
        return -0.5 * (data["x0"] - params["a"]) ** 2 + 0.0 * jnp.log(data["x1"] + 40.0)

    for _ in range(2):
        verdict = undefined.fit(stored, resume=tmp_path / "passes").verdict
        assert "1 of 6011 rows (part-3.parquet, row group 2, row 345; first: nan)" in str(verdict)


def test_data_in_memory_have_no_passes(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="leave it out for data in memory"):
        outcome.fit(frame(), resume=tmp_path)


# ---- descriptions


@dataclass(frozen=True)
class Facts:
    """A description of its fields."""

    a: Any


def test_what_is_equal_is_described_alike() -> None:
    of = lambda value: b"".join(described(value))
    same = [
        (1.5, "a", None, np.arange(3)),
        Facts((1, Facts(np.ones(2)))),
        described,
        {"b": 1, "a": np.array(["x"], object)},
    ]
    for value in same:
        assert of(value) == of(value)
    different = [1, 1.0, "1", (1,), [1, 1], np.ones(1), np.ones((1, 1)), np.ones(2, np.float32), Facts(1), Facts(2), Facts, Path]
    assert len({of(value) for value in different}) == len(different)
    assert of(jax.numpy.ones(2)) == of(np.ones(2, np.float32))


def test_what_may_differ_between_processes_is_not_described() -> None:
    x = 1
    for value in (lambda: x, object(), Facts(object())):
        with pytest.raises(NotKept):
            list(described(value))
