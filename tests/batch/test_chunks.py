"""How the work is cut: threads change no number, memory is bounded, Ctrl-C returns what is finished."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from typing import Any

import jax
import numpy as np
import pytest

from mlejax import batch
from mlejax.execution import chunking, limits, use_limits
from tests.batch.test_fit_batch import START, logit, logits, quietly

SMALL = 60_000  # bytes: blocks of a few data sets


def fit(data: Any, workers: int, memory: int = SMALL) -> batch.Batch:
    sets = batch.stacked(logit.likelihood, data, None, "raise")
    return batch.fit_many(logit.likelihood, sets, start=START, budget=chunking.Budget(memory, workers, False))


def test_threads_change_no_number() -> None:
    data = logits(90)
    one, two = fit(data, 1), fit(data, 2)
    for name in ("theta", "information", "inverse", "score"):
        np.testing.assert_array_equal(getattr(one, name), getattr(two, name))
    np.testing.assert_array_equal(one.ends.loglik, two.ends.loglik)
    assert jax.config.jax_enable_x64 is False


def test_chunks_stay_below_the_limit() -> None:
    data = logits(90)
    sets = batch.stacked(logit.likelihood, data, None, "raise")
    for memory in (20_000, 200_000, 10**9):
        limits = chunking.Budget(memory, 2, False)
        cut = chunking.chunks(sets, sets.usable, 3, limits)
        assert sorted(np.concatenate([which for which, _, _ in cut]).tolist()) == list(range(90))
        for which, width, capacity in cut:
            assert capacity % width == 0
            assert len(which) <= capacity
            assert 2 * limits.workers * capacity * sets.data_set_bytes(60) <= memory


def test_few_data_sets_are_shared_among_the_threads() -> None:
    sets = batch.stacked(logit.likelihood, logits(90), None, "raise")
    assert len(chunking.chunks(sets, sets.usable, 3, chunking.Budget(10**9, 2, False))) == 2


def test_progress_shows(capfd: pytest.CaptureFixture[str]) -> None:
    quietly(logit.fit_batch, logits(), START, progress=True)
    assert "data set" in capfd.readouterr().err
    quietly(logit.fit_batch, logits(), START)
    assert capfd.readouterr().err == ""


def test_without_a_limit_of_the_users_a_large_data_set_is_taken_alone() -> None:
    scarce = chunking.Budget(1000, 2, False, given=False)
    assert chunking.capacity_of(60, 2000, 3, scarce) == (1, 1)
    with pytest.raises(ValueError, match=r"are too few for one data set of 60 rows.*at least 9\.44e\+03"):
        chunking.capacity_of(60, 2000, 3, chunking.Budget(1000, 2, False))


def test_neighbours_in_memory_change_no_number() -> None:
    """A chunk holds the data sets that follow beside those it works on, whatever these are."""
    data = logits(90)
    sets = batch.stacked(logit.likelihood, data, None, "raise")
    alone = fit(data, 2)
    for which, _, capacity in chunking.chunks(sets, sets.usable, 3, chunking.Budget(10**9, 2, False)):
        fetched = sets.fetch(which, capacity)
        assert len(fetched.rows[0]) == len(fetched.weights) == capacity
    odd = {name: a.copy() for name, a in data.items()}
    odd["y"][45:] = 1.0  # no maximum, in the second half, beside the last of the first
    mixed = fit(odd, 2)
    np.testing.assert_array_equal(mixed.theta[:45], alone.theta[:45])
    np.testing.assert_array_equal(mixed.inverse[:45], alone.inverse[:45])


def test_chunks_end_together() -> None:
    """As many blocks for every thread, but for one."""
    sets = batch.stacked(logit.likelihood, logits(90), None, "raise")
    for workers in (1, 2, 3):
        cut = chunking.chunks(sets, sets.usable, 3, chunking.Budget(40_000 * workers, workers, False))
        assert len(cut) % workers == 0 or len(cut) == 23, "or each is one block"
        blocks = [-(-len(which) // width) for which, width, _ in cut]
        assert max(blocks) - min(blocks) <= 1


@pytest.mark.parametrize("p", [2, 6, 10, 20, 30, 60, 200])
def test_no_call_of_lapack_is_cut_up_among_the_threads_that_wait_for_it(p: int) -> None:
    """jaxlib cuts calls of more than 200,000 operations: with one such call a thread, nobody is left to do the work."""
    for size in (8, 50, 200, 1000):
        width = chunking.width_of(size, 8 * size * (p + 1), p)
        assert width == 1 or width * p**3 < 200_000


def test_many_parameters_on_all_cores_come_to_an_end() -> None:
    """These calls waited for each other for ever; the time limit is what this is about."""
    code = """
import numpy as np, mlejax as mle
from mlejax.execution import Limits, use_limits
@mle.model(b=mle.Real(columns="X"))
def wide(params, data):
    return -0.5 * (data["y"] - data["X"] @ params["b"]) ** 2
rng = np.random.default_rng(0)
for p, sets in ((60, 5), (12, 1100)):
    X, y = rng.normal(size=(sets, 2 * p, p)), rng.normal(size=(sets, 2 * p))
    with use_limits(Limits(cores=2)):
        for _ in range(3):
            res = wide.fit_batch({"y": y, "X": X}, {"b": np.zeros(p)}, progress=False)
    assert res.converged.all()
    exact = np.linalg.solve(np.swapaxes(X, 1, 2) @ X, np.swapaxes(X, 1, 2) @ y[..., None])[..., 0]
    assert np.abs(res.params.to_numpy() - exact).max() < 1e-8
"""
    done = subprocess.run([sys.executable, "-c", code], timeout=150, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("cores", [2, 4, 7])
def test_every_core_has_equally_many_chunks(cores: int) -> None:
    """One thread more than cores prepares the next chunk; the work is that of the cores."""
    sets = batch.stacked(logit.likelihood, logits(9000), None, "raise")
    with use_limits(replace(limits(), cores=cores)):
        *parts, last = chunking.chunks(sets, sets.usable, 3, chunking.Budget(1 << 32, cores + 1))
    assert sorted(np.concatenate([which for which, _, _ in (*parts, last)]).tolist()) == list(range(9000))
    assert len(parts) % cores == 0
    assert last[0][0] == 0
    assert last[0][-1] == 8999  # what has to be copied comes last, where a core is idle
