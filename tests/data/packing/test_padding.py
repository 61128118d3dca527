"""Padding: sizes, waste, weights, and that no row of weight 0 reaches the function."""

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlejax.data import (
    DataError,
    DataTypeError,
    blocks,
    bucket,
    check_weights,
    ingest,
    pack,
    pad,
    row_blocks,
    size_class,
)


@pytest.fixture(autouse=True)
def x64():
    with jax.enable_x64(True):
        yield


def test_buckets_are_eight_per_octave_tight_and_monotone():
    sizes = [bucket(n) for n in range(1, 5000)]
    assert sizes[:16] == list(range(1, 17))
    assert all(n <= b < 1.125 * n for n, b in enumerate(sizes, 1))
    assert sizes == sorted(sizes)
    for m in (16, 64, 1024):
        assert len({b for b in sizes if m < b <= 2 * m}) == 8
    assert all(bucket(b) == b for b in set(sizes))


@settings(deadline=None)
@given(st.integers(1, 10**9), st.integers(16, 2**18))
def test_blocks_hold_the_rows_with_little_waste(n, block):
    n_blocks, size = blocks(n, block)
    assert n_blocks * size == bucket(n)
    assert size <= block
    assert size > block / 2 or n_blocks == 1
    assert n_blocks & (n_blocks - 1) == 0


@settings(deadline=None)
@given(st.integers(1, 10**9), st.integers(1, 2**18))
def test_rows_of_one_data_set_have_few_sizes(n, block):
    size = size_class(n)
    assert n <= size
    assert size <= max(4 * n, 16)
    assert size <= 1.5 * n or n <= 1 << 14
    assert size <= 1.125 * n or n <= 1 << 17
    assert size_class(size) == size
    n_blocks, each = row_blocks(n, block)
    assert n_blocks * each == size
    assert each <= block
    assert each == 1 << (each.bit_length() - 1)
    usual = row_blocks(n)[1]
    assert -(-n // usual) * usual < 1.6 * n or n <= 1280, "of which few are evaluated in vain"


def test_the_sizes_of_rows():
    sizes = sorted({size_class(n) for n in range(1, 2**17 + 1)})
    assert sizes == [16, 64, 256, 512, 1024, 2048, 4096, 8192, 16384, 24576, 32768, 49152, 65536, 98304, 131072]


def test_few_block_shapes():
    assert len({row_blocks(n)[1] for n in range(4097, 400_000, 11)}) == 2
    assert len({blocks(n) for n in range(4097, 8193)}) == 8
    assert len({blocks(n)[1] for n in range(4097, 400_000, 11)}) == 8


def test_refuses_sizes_that_make_no_sense():
    with pytest.raises(DataError, match="n >= 1"):
        bucket(0)
    with pytest.raises(DataError, match="block >= 1 "):
        blocks(100, 0)
    with pytest.raises(DataError, match="n_padded >= 3"):
        pad({"x": np.ones(3)}, None, 2)


def test_pad_copies_nothing_when_nothing_changes():
    rows = {"x": np.arange(3.0)}
    weights = np.array([1.0, 2.0, 3.0])
    same, w = pad(rows, weights, 3)
    assert same is rows
    assert w is weights
    assert pad(rows, None, 3)[1].tolist() == [1.0, 1.0, 1.0]


def test_pad_leaves_the_users_arrays_alone():
    x, w = np.array([7.0, 8.0]), np.array([0.0, 1.0])
    rows, weights = pad({"x": x}, w, 4)
    assert rows["x"].tolist() == [8.0] * 4
    assert weights.tolist() == [0.0, 1.0, 0.0, 0.0]
    assert x.tolist() == [7.0, 8.0]
    assert w.tolist() == [0.0, 1.0]


@settings(deadline=None)
@given(st.data())
def test_only_rows_of_positive_weight_reach_the_function(data):
    n = data.draw(st.integers(1, 40))
    weights = np.array(data.draw(st.lists(st.sampled_from([0.0, 0.5, 3.0]), min_size=n, max_size=n)))
    weights[data.draw(st.integers(0, n - 1))] = 1.0
    x = np.arange(1.0, n + 1)
    poisoned = np.where(weights > 0, x, -1e9)
    rows = ingest({"x": poisoned, "X": np.stack([poisoned, poisoned], 1), "b": weights > 0}).convert()
    prepared = pack(rows, weights, block=16)
    padded, big, flags = prepared.rows
    assert (padded > 0).all()
    assert (big > 0).all()
    assert flags.all()
    assert prepared.weights @ padded == weights @ x
    np.testing.assert_array_equal(padded[:n][weights > 0], x[weights > 0])


def test_the_gradient_survives_a_row_outside_the_support():
    # log(x - m) at a row with x < m is NaN, in value and gradient, and 0 * NaN is NaN: the row must be replaced.
    prepared = pack(ingest({"x": np.array([1.0, 5.0, 6.0])}).convert(), np.array([0.0, 1.0, 1.0]))

    def loglik(m, p):
        return jnp.sum(p.weights * jnp.log(p.rows[0] - m))

    value, slope = jax.value_and_grad(loglik)(2.0, prepared)
    assert float(value) == pytest.approx(np.log(3) + np.log(4), rel=1e-14)
    assert float(slope) == pytest.approx(-1 / 3 - 1 / 4, rel=1e-14)


@pytest.mark.parametrize(
    ("weights", "error", "message"),
    [
        ([1.0, -2.0, 1.0], DataError, r"1 of 3 are negative, at row 1; first: -2.0"),
        ([1.0, np.nan, np.nan], DataError, r"2 of 3 are missing \(NaN\), at rows 1, 2"),
        ([np.inf, 1.0, 1.0], DataError, r"1 of 3 are infinite, at row 0"),
        ([0.0, 0.0, 0.0], DataError, r"all 3 are zero"),
        ([1.0, 1.0], DataError, r"shape \(3,\), got shape \(2,\)"),
        ([[1.0], [1.0], [1.0]], DataError, r"got shape \(3, 1\)"),
        (1.0, DataTypeError, r"expected one value per row, got a single float"),
        (["a", "b", "c"], DataTypeError, r"got text .* first 'a' in row 0"),
        ([1.0, None, 1.0], DataError, r"1 of 3 are missing \(NaN\), at row 1"),
        (pd.Series([1, None, 2], dtype="Int64"), DataError, r"1 of 3 are missing \(NaN\), at row 1"),
        ([1 + 1j] * 3, DataTypeError, r"got complex"),
    ],
)
def test_weights_are_checked(weights, error, message):
    with pytest.raises(error, match="weights: .*" + message):
        check_weights(weights, 3)


def test_weights_of_every_kind():
    for weights in ([1, 0, 2], np.array([1, 0, 2], np.int8), pd.Series([1, 0, 2], dtype="Int64"), jnp.array([1, 0, 2])):
        assert check_weights(weights, 3).tolist() == [1.0, 0.0, 2.0]
    assert check_weights([True, False, True], 3).tolist() == [1.0, 0.0, 1.0]
    with pytest.raises(DataError, match=r"weights column 'wt': .* at row 1 \(index label 'q'\)"):
        check_weights([1.0, -1.0], 2, "wt", pd.Index(["p", "q"]))
