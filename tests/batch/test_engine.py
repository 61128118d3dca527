"""How the work is cut: threads change no number, memory is bounded, Ctrl-C returns what is finished."""

from __future__ import annotations

import gc
import subprocess
import sys
import warnings
import weakref
from typing import Any

import jax
import numpy as np
import pytest

import mlejax as mle
from mlejax import batch
from mlejax.batch import cutting, engine, fitting, flagged, products
from tests.batch.test_fit_batch import START, logit, logits, quietly

SMALL = 60_000  # bytes: blocks of a few data sets


def fit(data: Any, workers: int, memory: int = SMALL) -> batch.Batch:
    sets = batch.stacked(logit.likelihood, data, None, "raise")
    return batch.fit_many(logit.likelihood, sets, start=START, limits=engine.Limits(memory, workers, False))


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
        limits = engine.Limits(memory, 2, False)
        cut = engine.chunks(sets, sets.usable, 3, limits)
        assert sorted(np.concatenate([lanes for lanes, _, _ in cut]).tolist()) == list(range(90))
        for lanes, width, capacity in cut:
            assert capacity % width == 0
            assert len(lanes) <= capacity
            assert 2 * limits.workers * capacity * sets.lane_bytes(60) <= memory


def test_few_data_sets_are_shared_among_the_threads() -> None:
    sets = batch.stacked(logit.likelihood, logits(90), None, "raise")
    assert len(engine.chunks(sets, sets.usable, 3, engine.Limits(10**9, 2, False))) == 2


@pytest.mark.parametrize("workers", [1, 2])
def test_ctrl_c_returns_what_is_finished(workers: int, monkeypatch: pytest.MonkeyPatch) -> None:
    data = logits(90)
    whole = fit(data, 1)
    calls, real = [0], engine.advance_lanes

    def interrupted(*args: Any, **kwds: Any) -> Any:
        calls[0] += 1
        if calls[0] == 3:
            raise KeyboardInterrupt
        return real(*args, **kwds)

    monkeypatch.setattr(engine, "advance_lanes", interrupted)
    done = fit(data, workers)
    assert not done.finished
    ran = done.converged
    assert 0 < ran.sum() < 90
    np.testing.assert_array_equal(done.theta[ran], whole.theta[ran])
    assert set(done.codes[~ran]) == {"stopped_early"}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        res = mle.BatchResults.make(logit, done, None, None)
    assert set(res.failed["reason"]) == {"not run: interrupted"}
    assert res.params[~ran].isna().all().all()
    assert "Interrupted" in res.summary()


def test_an_error_in_a_thread_is_not_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*args: Any, **kwds: Any) -> Any:
        raise RuntimeError("broken")

    monkeypatch.setattr(engine, "advance_lanes", broken)
    for workers in (1, 2):
        with pytest.raises(RuntimeError, match="broken"):
            fit(logits(90), workers)


def test_progress_shows(capfd: pytest.CaptureFixture[str]) -> None:
    quietly(logit.fit_batch, logits(), START, progress=True)
    assert "data set" in capfd.readouterr().err
    quietly(logit.fit_batch, logits(), START)
    assert capfd.readouterr().err == ""


def test_hard_data_sets_do_not_hold_up_the_others() -> None:
    """The rounds after the first hold only what is still running."""
    data = logits(90)
    data["y"][17] = (data["X"][17, :, 1] > 0).astype(float)
    sizes: list[int] = []
    real = engine.chunks

    def seen(sets: Any, lanes: np.ndarray, p: int, limits: Any) -> Any:
        sizes.append(len(lanes))
        return real(sets, lanes, p, limits)

    with pytest.MonkeyPatch.context() as patch, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        patch.setattr(engine, "chunks", seen)
        done = fit(data, 1, 10**9)
    assert sizes[0] == 90
    assert max(sizes[1:]) <= 3
    assert done.codes[17] == "no_finite_maximum"
    assert done.ends.n_steps[17] > engine.ROUNDS[0]


@pytest.mark.parametrize("share", [0.05, 0.6])
def test_what_waits_for_the_second_round_changes_no_number(share: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """Separated and collinear data sets need more than Newton steps: few of them wait, many do not."""
    data = logits(200)
    for i in range(0, int(200 * share), 2):
        data["y"][i] = (data["X"][i, :, 1] > 0).astype(float)
        data["X"][i + 1, :, 2] = data["X"][i + 1, :, 1]
    real, bends, running = engine.advance_lanes, [], []

    def seen(*args: Any, **kwds: Any) -> Any:
        out = real(*args, **kwds)
        bends.append(bool(kwds["bends"]))
        running.append(int((np.asarray(out.status) == 0).sum()))
        return out

    monkeypatch.setattr(engine, "advance_lanes", seen)
    waited = fit(data, 1)
    assert not bends[0]
    assert bends[-1]
    assert running[0] > 0
    many = [b for b, r in zip(bends, running, strict=True) if not b and r]
    assert len(many) == 1 if share > 0.5 else len(many) >= 1
    monkeypatch.setattr(engine, "advance_lanes", lambda *a, **k: real(*a, **{**k, "bends": np.bool_(True)}))
    at_once = fit(data, 1)
    for name in ("theta", "information", "score"):
        np.testing.assert_array_equal(getattr(waited, name), getattr(at_once, name))
    for name in ("n_steps", "end", "loglik"):
        np.testing.assert_array_equal(getattr(waited.ends, name), getattr(at_once.ends, name))
    assert waited.codes.tolist() == at_once.codes.tolist()


def test_without_a_limit_of_the_users_a_large_data_set_is_taken_alone() -> None:
    scarce = engine.Limits(1000, 2, False, given=False)
    assert cutting.capacity_of(60, 2000, 3, scarce) == (1, 1)
    with pytest.raises(ValueError, match=r"do not hold one data set of 60 rows.*takes 9\.44e\+03"):
        cutting.capacity_of(60, 2000, 3, engine.Limits(1000, 2, False))


def test_neighbours_in_memory_change_no_number() -> None:
    """A chunk holds the data sets that follow beside those it works on, whatever these are."""
    data = logits(90)
    sets = batch.stacked(logit.likelihood, data, None, "raise")
    alone = fit(data, 2)
    for lanes, _, capacity in engine.chunks(sets, sets.usable, 3, engine.Limits(10**9, 2, False)):
        fetched = sets.fetch(lanes, capacity)
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
        cut = engine.chunks(sets, sets.usable, 3, engine.Limits(40_000 * workers, workers, False))
        assert len(cut) % workers == 0 or len(cut) == 23, "or each is one block"
        blocks = [-(-len(lanes) // width) for lanes, width, _ in cut]
        assert max(blocks) - min(blocks) <= 1


def interrupt(monkeypatch: pytest.MonkeyPatch, room: Any, name: str, call: int) -> None:
    """The keyboard interrupts when a program is called for the so-manieth time."""
    calls, real = [0], getattr(room, name)

    def interrupted(*args: Any, **kwds: Any) -> Any:
        calls[0] += 1
        if calls[0] >= call:
            raise KeyboardInterrupt
        return real(*args, **kwds)

    monkeypatch.setattr(room, name, interrupted)


def test_ctrl_c_among_ray_tests_loses_no_finished_data_set(monkeypatch: pytest.MonkeyPatch) -> None:
    data = logits(90)
    data["y"][[3, 50]] = 1.0  # no maximum
    whole = fit(data, 1)
    interrupt(monkeypatch, flagged, "loglik_lanes", 1)
    done = fit(data, 1)
    assert not done.finished
    assert whole.finished
    rest = np.delete(np.arange(90), [3, 50])
    np.testing.assert_array_equal(done.theta[rest], whole.theta[rest])
    assert done.codes[rest].tolist() == whole.codes[rest].tolist()
    assert set(done.codes[[3, 50]]) == {"stopped_early"}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        res = mle.BatchResults.make(logit, done, None, None)
    assert set(res.failed["reason"]) == {"interrupted before its end was examined"}
    assert res.bse.iloc[[3, 50]].isna().all().all()
    assert res[3].verdict.code == "stopped_early"


def test_ctrl_c_among_covariances_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    done = fit(logits(90), 1)
    interrupt(monkeypatch, products, "meat_lanes", 1)
    res = mle.BatchResults.make(logit, done, "HC0", None)
    assert res.bse.isna().all().all()
    assert set(res.tidy()["note"]) == {"no standard error: its scores were not summed, or are not finite"}


def test_ctrl_c_before_the_penalty_is_taken_off_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    sets = batch.stacked(logit.likelihood, logits(90), None, "raise")
    real = fitting._without_penalty

    def from_now_on(*args: Any) -> Any:
        interrupt(monkeypatch, fitting, "evaluate_lanes", 1)
        return real(*args)

    monkeypatch.setattr(fitting, "_without_penalty", from_now_on)
    limits = engine.Limits(10**9, 1, False)
    done = batch.fit_many(logit.likelihood, sets, start=START, penalty=mle.l2(1.0), limits=limits)
    assert not done.finished
    assert set(done.codes) == {"stopped_early"}
    assert set(done.statements.values()) == {"interrupted before its end was examined"}


@pytest.mark.parametrize("p", [2, 6, 10, 20, 30, 60, 200])
def test_no_call_of_lapack_is_cut_up_among_the_threads_that_wait_for_it(p: int) -> None:
    """jaxlib cuts calls of more than 200,000 operations: with one such call a thread, nobody is left to do the work."""
    for size in (8, 50, 200, 1000):
        width = cutting.width_of(size, 8 * size * (p + 1), p)
        assert width == 1 or width * p**3 < 200_000


def test_many_parameters_on_all_cores_come_to_an_end() -> None:
    """These calls waited for each other for ever; the time limit is what this is about."""
    code = """
import numpy as np, mlejax as mle
import mlejax.batch.cutting as cutting
cutting.n_cores = lambda: 2
@mle.model(b=mle.Real(columns="X"))
def wide(params, data):
    return -0.5 * (data["y"] - data["X"] @ params["b"]) ** 2
rng = np.random.default_rng(0)
for p, sets in ((60, 5), (12, 1100)):
    X, y = rng.normal(size=(sets, 2 * p, p)), rng.normal(size=(sets, 2 * p))
    for _ in range(3):
        res = wide.fit_batch({"y": y, "X": X}, {"b": np.zeros(p)}, progress=False)
    assert res.converged.all()
    exact = np.linalg.solve(np.swapaxes(X, 1, 2) @ X, np.swapaxes(X, 1, 2) @ y[..., None])[..., 0]
    assert np.abs(res.params.to_numpy() - exact).max() < 1e-8
"""
    done = subprocess.run([sys.executable, "-c", code], timeout=150, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("cores", [2, 4, 7])
def test_every_core_has_equally_many_chunks(cores: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """One thread more than cores prepares the next chunk; the work is that of the cores."""
    monkeypatch.setattr(cutting, "n_cores", lambda: cores)
    sets = batch.stacked(logit.likelihood, logits(9000), None, "raise")
    *parts, last = cutting.chunks(sets, sets.usable, 3, cutting.Limits(1 << 32, cores + 1))
    assert sorted(np.concatenate([lanes for lanes, _, _ in (*parts, last)]).tolist()) == list(range(9000))
    assert len(parts) % cores == 0
    assert last[0][0] == 0
    assert last[0][-1] == 8999  # what has to be copied comes last, where a core is idle


def test_threads_are_kept_but_no_data(monkeypatch: pytest.MonkeyPatch) -> None:
    """The places where threads put their chunks go with the fit."""
    seen, original = [], engine._placed

    def spy(data: Any, own_rows: bool, places: Any) -> Any:
        seen.append(weakref.ref(places))
        return original(data, own_rows, places)

    monkeypatch.setattr(engine, "_placed", spy)
    res = quietly(logit.fit_batch, logits(90), START)
    gc.collect()
    assert res.converged.any()
    assert seen
    assert all(ref() is None for ref in seen)
    assert engine._threads(2) is engine._threads(2)
