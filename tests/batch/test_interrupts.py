"""Ctrl-C and errors in a batch: what is finished is returned, and what is not says so; hard data sets run by themselves."""

from __future__ import annotations

import warnings
from dataclasses import dataclass, field, fields
from typing import Any

import numpy as np
import pytest

import mlejax as mle
from mlejax import batch
from mlejax.batch import DataSets
from mlejax.execution.chunking import Budget
from tests.batch.test_fit_batch import START, logit, logits

SMALL = 60_000  # bytes: chunks of a few data sets


@dataclass(frozen=True, eq=False)
class Watched(DataSets):
    """Data sets that write down which chunks are fetched, and raise an error from a certain one on."""

    error: type[BaseException] | None = None
    good: int = 0
    fetched: list[np.ndarray] = field(default_factory=list)

    def fetch(self, which: np.ndarray, *args: Any, **kwds: Any) -> Any:
        self.fetched.append(np.array(which))
        if self.error is not None and len(self.fetched) > self.good:
            raise self.error("in a chunk")
        return super().fetch(which, *args, **kwds)


def watched(data: Any, error: type[BaseException] | None = None, good: int = 0) -> Watched:
    sets = batch.stacked(logit.likelihood, data, None, "raise")
    return Watched(**{f.name: getattr(sets, f.name) for f in fields(DataSets)}, error=error, good=good)


def fit(sets: DataSets, workers: int = 1, memory: int = SMALL, **options: Any) -> batch.Batch:
    return batch.fit_many(logit.likelihood, sets, start=START, budget=Budget(memory, workers, False), **options)


def results(done: batch.Batch, cov_type: str | None = None) -> mle.BatchResults:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return mle.BatchResults.make(logit, done, cov_type, None)


@pytest.mark.parametrize("workers", [1, 2])
def test_ctrl_c_returns_what_is_finished(workers: int) -> None:
    whole = fit(watched(logits(90)))
    done = fit(watched(logits(90), KeyboardInterrupt, 4), workers)
    assert not done.finished
    ran = done.converged
    assert 0 < ran.sum() < 90
    np.testing.assert_array_equal(done.theta[ran], whole.theta[ran])
    assert set(done.codes[~ran]) == {"stopped_early"}
    res = results(done)
    assert set(res.failed["reason"]) == {"not run: interrupted"}
    assert res.params[~ran].isna().all().all()
    assert "Interrupted" in res.summary()


@pytest.mark.parametrize("workers", [1, 2])
def test_an_error_in_a_thread_is_not_lost(workers: int) -> None:
    with pytest.raises(RuntimeError, match="in a chunk"):
        fit(watched(logits(90), RuntimeError), workers)


def test_hard_data_sets_do_not_hold_up_the_others() -> None:
    """The rounds after the first hold only what is still running."""
    data = logits(90)
    data["y"][17] = (data["X"][17, :, 1] > 0).astype(float)
    sets = watched(data)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        done = fit(sets, memory=10**9)
    sizes = [len(which) for which in sets.fetched]
    assert max(sizes[sizes.index(90) + 1 :]) <= 3
    assert done.codes[17] == "no_finite_maximum"


def test_ctrl_c_among_ray_tests_loses_no_finished_data_set() -> None:
    data = logits(90)
    data["y"][[3, 50]] = 1.0  # no maximum
    sets = watched(data)
    whole = fit(sets, memory=10**9)
    assert whole.finished
    last_search = max(i for i, which in enumerate(sets.fetched) if len(which) > 2)
    searches = next(i for i in range(last_search + 1, len(sets.fetched)))
    done = fit(watched(data, KeyboardInterrupt, searches + 1), memory=10**9)
    assert not done.finished
    rest = np.delete(np.arange(90), [3, 50])
    np.testing.assert_array_equal(done.theta[rest], whole.theta[rest])
    assert done.codes[rest].tolist() == whole.codes[rest].tolist()
    assert set(done.codes[[3, 50]]) == {"stopped_early"}
    res = results(done)
    assert all("interrupted" in reason for reason in res.failed["reason"])
    assert res.bse.iloc[[3, 50]].isna().all().all()
    assert res[3].verdict.code == "stopped_early"


def test_ctrl_c_among_covariances_says_so() -> None:
    sets = watched(logits(90))
    done = fit(sets)
    object.__setattr__(sets, "error", KeyboardInterrupt)
    res = results(done, "HC0")
    assert res.bse.isna().all().all()
    assert set(res.tidy()["note"]) == {"interrupted before its standard errors were computed"}


def test_ctrl_c_before_the_penalty_is_taken_off_says_so() -> None:
    counted = watched(logits(90))
    whole = fit(counted, memory=10**9, penalty=mle.l2(1.0))
    assert whole.finished
    last = watched(logits(90), KeyboardInterrupt, len(whole.sets.fetched) - 1)  # type: ignore[attr-defined]
    done = fit(last, memory=10**9, penalty=mle.l2(1.0))
    assert not done.finished
    assert set(done.codes) == {"stopped_early"}
    assert set(done.statements.values()) == {"interrupted before its final point was examined"}
