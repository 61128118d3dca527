"""Chunks of data sets that are read in place, against the same data sets cut out by NumPy."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import mlejax as mle
from mlejax.batch.reading import stacked
from mlejax.execution.chunking import STEP, Budget, can_be_viewed, chunks, view_chunk
from tests.test_compilations import compilations

CAPACITY = 8


def table(n_sets: int, size: int, *more: int, offset: int = 0, dtype: type = np.float64) -> np.ndarray:
    """Rows of many data sets, that begin ``offset`` numbers after a multiple of 64 bytes."""
    count = n_sets * size * int(np.prod(more, dtype=int))
    room = np.arange(count + 2 * STEP, dtype=dtype)
    begin = -(room.ctypes.data // 8) % STEP + offset
    return room[begin : begin + count].reshape(n_sets * size, *more)


@pytest.mark.parametrize("dtype", [np.float64, np.int64])
@pytest.mark.parametrize("offset", range(STEP))
@pytest.mark.parametrize(("size", "more"), [(5, ()), (3, (2,)), (8, ()), (1, (2, 3))])
def test_every_run_of_lanes_is_what_numpy_cuts_out(size: int, more: tuple[int, ...], offset: int, dtype: type) -> None:
    n_sets = 31
    leaf = table(n_sets, size, *more, offset=offset, dtype=dtype)
    stack = leaf.reshape(n_sets, size, *more)
    copied = 0
    with jax.enable_x64(True):
        for first in range(n_sets):
            which = np.arange(first, min(first + CAPACITY - first % 3, n_sets))
            chunk = view_chunk(leaf, which, size, CAPACITY, min(CAPACITY, len(which) + 2))
            assert chunk.values.shape == (CAPACITY * size * int(np.prod(more, dtype=int)) + STEP,)
            assert chunk.values.ctypes.data % 64 == 0
            copied += not np.shares_memory(chunk.values, leaf)
            seen = np.concatenate([chunk.block(np.int32(i), 2) for i in range(0, CAPACITY, 2)])
            assert seen.dtype == leaf.dtype
            np.testing.assert_array_equal(seen[: len(which)], stack[which])
    each = size * int(np.prod(more, dtype=int))
    at_the_ends = (
        1 + STEP // each + CAPACITY + -(-STEP // each)
    )  # those that begin or end within a step of the table's ends
    assert copied <= at_the_ends < n_sets


def test_lanes_that_do_not_follow_each_other_are_copied() -> None:
    leaf = table(40, 6, offset=3)
    which = np.array([2, 3, 7, 30])
    chunk = view_chunk(leaf, which, 6, CAPACITY, 6)
    assert not np.shares_memory(chunk.values, leaf)
    with jax.enable_x64(True):
        np.testing.assert_array_equal(chunk.block(np.int32(0), 4), leaf.reshape(40, 6)[which])
        np.testing.assert_array_equal(chunk.block(np.int32(4), 2), leaf.reshape(40, 6)[[2, 2]])


def test_what_is_not_eight_bytes_long_or_not_contiguous_is_not_read_in_place() -> None:
    assert can_be_viewed(np.zeros((4, 3)))
    assert can_be_viewed(np.zeros(4, np.int64))
    assert not can_be_viewed(np.zeros((4, 3), np.float32))
    assert not can_be_viewed(np.zeros(4, bool))
    assert not can_be_viewed(np.zeros((3, 4)).T)
    assert not can_be_viewed(np.zeros(9, np.uint8)[1:].view(np.float64))


@mle.model(mu=mle.Real(), sigma=mle.Positive())
def gaussian(params, data):
    z = (data["y"] - params["mu"]) / params["sigma"]
    return -0.5 * z * z - jnp.log(params["sigma"]) - 0.5 * jnp.log(2 * jnp.pi)


@pytest.mark.parametrize("n_sets", [1, 7, 64, 1030, 2500])
@pytest.mark.parametrize("offset", [0, 5])
def test_a_batch_is_the_same_wherever_its_numbers_lie(n_sets: int, offset: int) -> None:
    rng = np.random.default_rng(3)
    y = table(n_sets, 13, offset=offset).reshape(n_sets, 13)
    y[...] = rng.normal(1.0, 2.0, y.shape)
    assert stacked(gaussian.likelihood, {"y": y}, None, "raise").in_place
    res = gaussian.fit_batch({"y": y}, progress=False)
    wide = gaussian.fit_batch({"y": np.asfortranarray(y)}, progress=False)
    narrow = stacked(gaussian.likelihood, {"y": np.where(y > 1, 1, 0).astype(bool)}, None, "raise")
    assert not narrow.in_place
    np.testing.assert_array_equal(res.params, wide.params)
    np.testing.assert_allclose(res.params["mu"], y.mean(axis=1), rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(res.params["sigma"], y.std(axis=1), rtol=1e-7)


def test_one_program_serves_every_place_and_every_number_of_data_sets() -> None:
    rng = np.random.default_rng(4)
    y = table(3001, 11, offset=3).reshape(3001, 11)
    y[...] = rng.normal(size=y.shape)
    start = {"mu": 0.0, "sigma": 1.0}
    gaussian.fit_batch({"y": y}, start, progress=False)
    with compilations() as count:
        for n in (1100, 1777, 3000):
            gaussian.fit_batch({"y": y[-n:]}, start, progress=False)
    assert count[0] == 0


@pytest.mark.parametrize("workers", [1, 3])
@pytest.mark.parametrize("size", [3, 40, 700, 4096])
def test_every_lane_is_in_one_chunk_and_few_are_copied(size: int, workers: int) -> None:
    for n_sets in (1, 2, 63, 64, 65, 100, 127, 128, 129, 192, 193, 400, 2048, 2049, 5000):
        if n_sets * size > 1_000_000:
            continue
        y = table(n_sets, size, offset=3).reshape(n_sets, size)
        sets = stacked(gaussian.likelihood, {"y": y}, None, "raise")
        limits = Budget(10**9, workers, False)
        for which in (np.arange(n_sets), np.arange(n_sets // 3, n_sets), np.arange(0, n_sets, 2)):
            cut = chunks(sets, which, 2, limits)
            assert (np.sort(np.concatenate([mine for mine, _, _ in cut])) == which).all()
            assert all(0 < mine.size <= capacity and capacity % width == 0 for mine, width, capacity in cut)
            with jax.enable_x64(True):
                fetched = [(sets.fetch(mine, capacity, views=True).rows[0], mine.size) for mine, _, capacity in cut]
            copied = sum(m for chunk, m in fetched if not np.shares_memory(chunk.values, sets.leaves[0]))
            if which.size == n_sets and n_sets > 2 * cut[0][2]:
                assert copied <= 4 * 64, "the first and last data sets alone"


def test_columns_of_no_width_and_values_whose_sum_is_not_finite(recwarn: pytest.WarningsRecorder) -> None:
    @mle.model(mu=mle.Real(), beta=mle.Real(columns="X"))
    def with_nothing(params, data):
        return -0.5 * (data["y"] - params["mu"] - data["X"] @ params["beta"]) ** 2

    y = np.random.default_rng(5).normal(size=(50, 9))
    res = with_nothing.fit_batch({"y": y, "X": np.empty((50, 9, 0))}, progress=False)
    np.testing.assert_allclose(res.params["mu"], y.mean(axis=1), atol=1e-9)
    y[3, :2] = np.inf, -np.inf
    y[7, :3] = 1.7e308
    bad = gaussian.fit_batch({"y": y}, {"mu": 0.0, "sigma": 1.0}, progress=False)
    assert bad.converged[[0, 1, 2, 4, 5, 6]].all()
    assert not bad.converged[3]
    assert not [w for w in recwarn if w.category is RuntimeWarning]
