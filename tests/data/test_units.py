"""Groups and units."""

import datetime

import jax
import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlejax.data import DataError, DataTypeError, assemble, bucket, constant_within, group_codes, ingest, pack, units

LABELS = {
    "list of text": ["b", "a", "b", "c"],
    "text array": np.array(["b", "a", "b", "c"]),
    "object array": np.array(["b", "a", "b", "c"], object),
    "series": pd.Series(["b", "a", "b", "c"]),
    "categorical": pd.Series(["b", "a", "b", "c"], dtype=pd.CategoricalDtype(["z", "a", "b", "c"])),
    "bare categorical": pd.Categorical(["b", "a", "b", "c"]),
    "arrow text": pd.Series(["b", "a", "b", "c"], dtype="string[pyarrow]"),
    "ints": [20, 10, 20, 30],
    "int array": np.array([20, 10, 20, 30], np.uint8),
    "nullable": pd.Series([20, 10, 20, 30], dtype="Int64"),
    "floats": np.array([2.0, 1.0, 2.0, 3.0]),
    "mixed": [2, "a", 2, (1, "b")],
    "dates": [
        datetime.date(2020, 1, 2),
        datetime.date(2020, 1, 1),
        datetime.date(2020, 1, 2),
        datetime.date(2021, 1, 1),
    ],
    "datetimes": pd.Series(pd.to_datetime(["2020-02-01", "2020-01-01", "2020-02-01", "2021-01-01"])),
    "masked, nothing masked": np.ma.MaskedArray([2, 1, 2, 3]),
}


@pytest.mark.parametrize("kind", LABELS)
def test_codes_are_in_order_of_first_appearance(kind):
    codes, labels = group_codes(LABELS[kind])
    assert codes.dtype == np.int64
    assert codes.tolist() == [0, 1, 0, 2]
    assert len(labels) == 3
    assert all(label == value for label, value in zip(labels[codes], LABELS[kind], strict=True))


@settings(max_examples=150, deadline=None)
@given(st.lists(st.sampled_from(["a", "b", "c", "dd", ""]), min_size=1, max_size=30))
def test_codes_agree_between_containers(values):
    expected, labels = group_codes(values)
    for other in (np.array(values), pd.Series(values), pd.Categorical(values), np.array(values, object)):
        codes, names = group_codes(other)
        assert codes.tolist() == expected.tolist()
        assert list(names) == list(labels)


@pytest.mark.parametrize(
    ("values", "error", "message"),
    [
        (["a", None, "b"], DataError, "village: 1 of 3 labels are missing, at row 1"),
        (np.array([1.0, 2.0, np.nan]), DataError, "1 of 3 labels are missing, at row 2"),
        (pd.Series(["a", None], index=["p", "q"]), DataError, r"at row 1 \(index label 'q'\)"),
        (pd.Series([1, None], dtype="Int64"), DataError, "at row 1"),
        (pd.Categorical(["a", None]), DataError, "at row 1"),
        (np.array(["2020-01-01", "NaT"], "M8[D]"), DataError, "at row 1"),
        (np.ma.MaskedArray([1, 2], [False, True]), DataError, "at row 1"),
        (np.zeros((2, 2)), DataError, r"got shape \(2, 2\)"),
        ([], DataError, "zero rows"),
        ("store", DataTypeError, "got a str"),
        (7, DataTypeError, "got a int"),
        (pd.DataFrame({"a": [1]}), DataTypeError, "DataFrame"),
        ([["a"], ["b"]], DataTypeError, "got a list in row 0"),
        (np.array([1j]), DataTypeError, "complex"),
    ],
)
def test_bad_labels_are_refused(values, error, message):
    with pytest.raises(error, match=message):
        group_codes(values, "village")


@settings(max_examples=150, deadline=None)
@given(st.lists(st.integers(0, 6), min_size=1, max_size=60))
def test_units_hold_every_row_once_in_order(groups):
    n = len(groups)
    x, big = np.arange(1.0, n + 1), np.arange(2 * n).reshape(n, 2)
    grouped = units(ingest({"x": x, "X": big}).convert(), groups)
    values, mask = grouped.rows["x"], grouped.rows["mask"]
    assert values.shape == mask.shape == (len(set(groups)), bucket(max(groups.count(g) for g in groups)))
    assert list(grouped.labels) == list(dict.fromkeys(groups))
    for i, label in enumerate(grouped.labels):
        mine = [v for v, g in zip(x, groups, strict=True) if g == label]
        assert values[i][mask[i]].tolist() == mine
        assert (values[i][~mask[i]] == mine[-1]).all()
        assert grouped.rows["X"][i][mask[i]].tolist() == big[(x - 1).astype(int)][np.array(groups) == label].tolist()
        assert grouped.lengths[i] == len(mine)
    assert sorted(grouped.positions[mask]) == list(range(n))
    assert (np.array(grouped.labels)[grouped.codes] == np.array(groups)).all()


def test_a_unit_reaches_the_function_as_its_rows_with_a_mask():
    with jax.enable_x64(True):
        data = ingest({"y": [1.0, 2.0, 4.0, 8.0, 16.0]}).convert()
        grouped = units(data, ["a", "b", "a", "a", "b"])
        prepared = pack(grouped.rows, mode="units")

        def one(rows):
            d = assemble(rows, prepared.shared, prepared.statics)
            assert d["y"].shape == (3,)
            return jax.numpy.where(d["mask"], d["y"], 0.0).sum()

        out = jax.vmap(one)(prepared.rows)
        assert out.tolist() == [13.0, 18.0]
        assert int(prepared.n) == 2


def test_units_refuse():
    rows = ingest({"y": [1.0, 2.0]}).convert()
    with pytest.raises(DataError, match="subject: expected one label per row, 2, got 3"):
        units(rows, [1, 2, 3], "subject")
    with pytest.raises(DataError, match="column 'mask'"):
        units(ingest({"mask": [1.0, 2.0]}).convert(), [1, 2])
    with pytest.raises(DataError, match="needs data with column names"):
        units(ingest(np.ones(2)).convert(), [1, 2])


def test_constant_within_names_the_first_unit_that_varies():
    codes, labels = group_codes(["u", "v", "u", "v", "w", "w"])
    assert constant_within(np.array([1.0, 5.0, 1.0, 5.0, 2.0, 2.0]), codes).tolist() == [1.0, 5.0, 2.0]
    assert constant_within(["n", "s", "n", "s", "s", "s"], codes).tolist() == ["n", "s", "s"]
    with pytest.raises(DataError, match=r"weights: .*unit 'v' has .*5\.0.* in row 1 and .*6\.0.* \(2 units vary\)"):
        constant_within(np.array([1.0, 5.0, 1.0, 6.0, 2.0, 3.0]), codes, labels)
    with pytest.raises(DataError, match="one value per row, 6, got shape"):
        constant_within([1.0], codes)
