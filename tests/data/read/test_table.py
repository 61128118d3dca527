"""The data room, good paths: what is accepted, which reads are recorded, what arrives at the user's function."""

import collections
import dataclasses
import json
import subprocess
import sys
import types
from fractions import Fraction

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest

from mlejax.data import (
    DataError,
    DataTypeError,
    Fingerprint,
    MissingColumnError,
    Prepared,
    Shared,
    Static,
    assemble,
    column_labels,
    fingerprint,
    ingest,
    pack,
)


@pytest.fixture(autouse=True)
def x64():
    with jax.enable_x64(True):
        yield


def trace(f, data, n_rows=8, mask=False):
    """The output struct of f on the traced data, the columns it reads, and the source."""
    source, reads = ingest(data), set()
    extra = {"mask": jnp.ones(n_rows, bool)} if mask else None
    out = jax.eval_shape(lambda t: f(source.view(t, reads, extra)), source.abstract(n_rows))
    return out, reads, source


def through(f, data, n_rows=8):
    """f on the data as at run time: traced, converted, packed and assembled; jitted."""
    _, reads, source = trace(f, data, n_rows)
    prepared = pack(source.convert(reads), mode="whole")
    return np.asarray(jax.jit(lambda p: f(assemble(p.rows, p.shared, p.statics)))(prepared))


X = [1.5, -2.0, 4.0]
SAME = {
    "list": X,
    "numpy": np.array(X),
    "numpy float32": np.array(X, np.float32),
    "numpy float16": np.array(X, np.float16),
    "big-endian": np.array(X, ">f8"),
    "strided": np.array(X * 2).reshape(2, 3)[0],
    "reversed view": np.array(X[::-1])[::-1],
    "read-only": np.frombuffer(np.array(X).tobytes()),
    "masked, nothing masked": np.ma.MaskedArray(X),
    "long double": np.array(X, np.longdouble),
    "list of NumPy scalars": [np.float64(v) for v in X],
    "list of jax scalars": [np.float32(v) for v in X],
    "series": pd.Series(X, index=["a", "b", "c"]),
    "nullable": pd.Series(X, dtype="Float64"),
    "arrow": pd.Series(X, dtype="double[pyarrow]"),
    "extension array": pd.array(X, dtype="Float64"),
    "index": pd.Index(X),
    "memoryview": memoryview(np.array(X)),
}


@pytest.mark.parametrize("kind", SAME)
def test_every_kind_of_float_column_arrives_as_float64(kind):
    rows = ingest({"x": SAME[kind]}).convert(["x"])
    assert rows.leaves[0].dtype == np.float64
    assert type(rows.leaves[0]) is np.ndarray
    np.testing.assert_array_equal(rows["x"], X)
    np.testing.assert_array_equal(through(lambda d: d["x"] * 2, {"x": SAME[kind]}), 2 * np.array(X))


INTS = {
    "list": [1, 0, 3],
    "range": range(1, 4),
    "deque": collections.deque([1, 0, 3]),
    "int8": np.array([1, 0, 3], np.int8),
    "uint64": np.array([1, 0, 3], np.uint64),
    "nullable": pd.Series([1, 0, 3], dtype="Int64"),
    "nullable unsigned": pd.Series([1, 0, 3], dtype="UInt64"),
    "arrow": pd.Series([1, 0, 3], dtype="int32[pyarrow]"),
    "arrow unsigned": pd.Series([1, 0, 3], dtype="uint64[pyarrow]"),
    "range index": pd.RangeIndex(3),
}


@pytest.mark.parametrize("kind", INTS)
def test_every_kind_of_integer_column_arrives_as_int64(kind):
    values = ingest({"x": INTS[kind]}).convert(["x"])["x"]
    assert values.dtype == np.int64
    assert values.tolist() == list(INTS[kind])


@pytest.mark.parametrize(
    "column",
    [
        [True, False],
        np.array([True, False]),
        jnp.array([True, False]),
        pd.Series([True, False]),
        pd.Series([True, False], dtype="boolean"),
        pd.Series([True, False], dtype="bool[pyarrow]"),
    ],
    ids=["list", "numpy", "jax", "series", "nullable", "arrow"],
)
def test_booleans_stay_booleans(column):
    values = ingest({"x": column}).convert(["x"])["x"]
    assert values.dtype == np.bool_
    assert values.tolist() == [True, False]


def test_large_integers_keep_every_digit():
    big = 2**63 - 1
    for column in ([big, -big], np.array([big, 5], np.uint64), pd.Series([big, 1], dtype="Int64")):
        assert int(ingest({"x": column}).convert(["x"])["x"][0]) == big


def test_jax_float32_widens_exactly_and_is_remembered():
    column = jnp.asarray([0.1, 0.2], jnp.float32)
    rows = ingest({"x": column, "y": np.array([0.1, 0.2])}).convert(["x", "y"])
    assert rows.float32 == ("x",)
    assert rows["x"].tolist() == [float(np.float32(0.1)), float(np.float32(0.2))]


def test_bfloat16_widens_exactly():
    rows = ingest({"x": jnp.asarray([1.5, 3.0], jnp.bfloat16)}).convert(["x"])
    assert rows["x"].dtype == np.float64
    assert rows["x"].tolist() == [1.5, 3.0]
    assert rows.float32 == ("x",)


def test_float64_is_not_copied():
    column = np.arange(1e5)
    assert ingest({"x": column}).convert(["x"])["x"] is column
    frame = pd.DataFrame({"x": column})
    assert np.shares_memory(ingest(frame).convert(["x"])["x"], frame["x"].to_numpy())


def test_huge_finite_values_pass_though_their_sum_overflows():
    assert ingest({"x": np.array([1e308, 1e308, -5.0])}).convert(["x"]).n == 3


def test_matrix_values_and_labels():
    frame = pd.DataFrame({"age": [1, 2], "dose": [0.5, 1.5]})
    rows = ingest({"X": frame, "Z": [[1, 2], [3, 4]], "flag": pd.DataFrame({"a": [True, False]})}).convert()
    np.testing.assert_array_equal(rows["X"], [[1, 0.5], [2, 1.5]])
    assert rows["Z"].dtype == np.int64
    assert rows["flag"].dtype == np.bool_
    nullable = pd.DataFrame({"a": pd.array([1, 2], "Int64"), "b": pd.array([True, False], "boolean")})
    assert ingest({"X": nullable}).convert(["X"])["X"].tolist() == [[1, 1], [2, 0]]


def test_dataframe_by_position_with_any_index_and_any_column_names():
    frame = pd.DataFrame({1: [1.0, 2.0], ("a", "b"): [3.0, 4.0], "t": ["u", "v"]}, index=["r", "r"])
    out, reads, source = trace(lambda d: d[1] + d["a", "b"], frame)
    assert out.shape == (8,)
    assert reads == {1, ("a", "b")}
    np.testing.assert_array_equal(through(lambda d: d[1] + d["a", "b"], frame), [4.0, 6.0])
    assert list(source.convert(reads).index) == ["r", "r"]


def test_multiindex_columns():
    frame = pd.DataFrame([[1.0, 2.0], [3.0, 4.0]], columns=pd.MultiIndex.from_tuples([("a", 1), ("a", 2)]))
    np.testing.assert_array_equal(through(lambda d: d["a", 2], frame), [2.0, 4.0])


Pair = collections.namedtuple("Pair", ["x", "y"])


@pytest.mark.parametrize(
    ("data", "f"),
    [
        ((np.array(X), [1, 2, 3]), lambda d: d[0] + d[1]),
        (Pair(pd.Series(X), jnp.array([1, 2, 3])), lambda d: d.x + d.y),
        ((np.array(X), {"a": (np.array([1.0, 2.0, 3.0]),)}), lambda d: d[0] + d[1]["a"][0]),
        ({"g": {"x": X, "y": np.array([1, 2, 3])}, "unused": ["t"] * 3}, lambda d: d["g"]["x"] + d["g"]["y"]),
        ({"g": Pair(X, [1, 2, 3])}, lambda d: d["g"].x + d["g"].y),
        (np.array([X, [1, 2, 3]]).T, lambda d: d[:, 0] + d[:, 1]),
        (types.MappingProxyType({"x": X, "y": [1, 2, 3]}), lambda d: d["x"] + d["y"]),
        ({1: X, "y": [1, 2, 3], None: "unused"}, lambda d: d[1] + d["y"]),
    ],
    ids=["tuple", "namedtuple", "nested tuple", "nested dict", "namedtuple in dict", "array", "mapping", "odd keys"],
)
def test_structures_come_back_as_the_user_made_them(data, f):
    np.testing.assert_array_equal(through(f, data), np.array(X) + [1, 2, 3])


def test_single_containers():
    for data in (X, np.array(X), jnp.array(X), pd.Series(X)):
        np.testing.assert_array_equal(through(lambda d: d + 1, data), np.array(X) + 1)


def test_shared_and_static_reach_the_function_unwrapped():
    data = {
        "x": X,
        "knots": Shared([0, 1]),
        "net": Shared({"w": np.ones((2, 3), np.float32), "b": [np.zeros(2), np.ones(3)]}),
        "open": Shared([-np.inf, np.inf]),
        "layers": Shared([[np.zeros(2), np.ones(3)]]),
        "scale": Shared(2.0),
        "k": Static(3),
        "nested": (X, Static("logit"), Shared(5)),
    }

    def f(d):
        assert d["k"] == 3
        assert type(d["k"]) is int
        assert d["nested"][1] == "logit"
        assert d["knots"].shape == (2,)
        assert isinstance(d["net"]["b"], list)
        assert [part.shape for part in d["layers"][0]] == [(2,), (3,)]
        bounds = jnp.where(jnp.isinf(d["open"]), 0.0, 1.0).sum()
        return d["x"] * d["k"] * d["scale"] + d["net"]["w"].sum() + d["nested"][2] + d["net"]["b"][1].sum() + bounds

    np.testing.assert_array_equal(through(f, data), np.array(X) * 6 + 6 + 5 + 3)


def test_static_values_of_different_type_are_different_keys():
    assert Static(1) != Static(1.0) != Static(True)
    assert Static((1, 2)) != Static((1.0, 2))
    assert Static(frozenset([1])) != Static(frozenset([1.0]))
    assert len({Static(1), Static(1.0), Static(True), Static(1)}) == 3
    assert Static(Fraction(1, 2)) == Static(Fraction(1, 2))


def test_static_is_part_of_the_compilation_key_and_n_is_not():
    traces = []

    @jax.jit
    def total(p):
        traces.append(1)
        d = assemble(p.rows, p.shared, p.statics)
        return jnp.sum(p.weights * d["x"]) * d["k"] / p.n

    for n in range(97, 105):
        p = pack(ingest({"x": np.ones(n), "k": Static(2)}).convert())
        assert float(total(p)) == 2.0
        assert int(p.n) == n
    assert len(traces) == 1
    assert float(total(pack(ingest({"x": np.ones(97), "k": Static(3)}).convert()))) == 3.0
    assert len(traces) == 2
    # 3 == 3.0, yet a float may trace to another program
    assert float(total(pack(ingest({"x": np.ones(97), "k": Static(3.0)}).convert()))) == 3.0
    assert len(traces) == 3


def test_unused_columns_are_not_looked_at():
    data = {"x": X, "short": [1.0], "nan": [np.nan] * 3, "text": ["a"] * 3, "none": None, "gen": (i for i in range(3))}
    np.testing.assert_array_equal(through(lambda d: d["x"], data), X)
    frame = pd.DataFrame([[1.0, 2.0, 3.0, "t"]] * 2, columns=["x", "dup", "dup", "t"])
    np.testing.assert_array_equal(through(lambda d: d["x"], frame), [1.0, 1.0])


def test_drop_is_joint_over_all_used_columns_and_counted():
    frame = pd.DataFrame(
        {
            "x": [1.0, np.nan, 3.0, 4.0, 5.0],
            "y": pd.array([1, 2, None, 4, 5], "Int64"),
            "region": ["a", "b", "a", None, "b"],
            "unused": [np.nan] * 5,
        },
        index=list("pqrst"),
    )
    rows = ingest(frame).convert(["x", "y"], missing="drop", others=["region"])
    assert rows["x"].tolist() == [1.0, 5.0]
    assert rows["y"].tolist() == [1, 5]
    assert rows["y"].dtype == np.int64
    assert (rows.n, rows.n_dropped) == (2, 3)
    assert rows.kept.tolist() == [0, 4]
    assert list(rows.index) == ["p", "t"]
    assert ingest(frame).convert(["x", "y"], missing="drop").n == 3


def test_drop_from_lists_masked_arrays_and_matrices():
    data = {
        "a": [1, None, 3, 4],
        "b": np.ma.MaskedArray([1.0, 2.0, 3.0, 4.0], [0, 0, 1, 0]),
        "c": [[1.0, 2.0], [3.0, 4.0], [5.0, 6.0], [7.0, np.nan]],
    }
    rows = ingest(data).convert(missing="drop")
    assert rows["a"].tolist() == [1]
    assert rows["a"].dtype == np.int64
    assert rows["c"].tolist() == [[1.0, 2.0]]
    assert rows.n_dropped == 3


def test_select_brings_outside_values_to_the_rows_kept():
    rows = ingest({"x": [1.0, np.nan, 3.0]}).convert(missing="drop")
    frame = pd.DataFrame({"g": ["a", "b", "c"]}, index=[9, 8, 7])
    assert rows.select(["a", "b", "c"]) == ["a", "c"]
    assert rows.select(np.arange(3)).tolist() == [0, 2]
    assert rows.select(jnp.arange(3)).tolist() == [0, 2]
    assert rows.select(frame["g"]).index.tolist() == [9, 7]
    assert rows.select(frame).shape == (2, 1)
    assert list(rows.select(pd.Categorical(["a", "b", "c"]))) == ["a", "c"]
    whole = [1, 2, 3]
    assert ingest({"x": [1.0, 2.0, 3.0]}).convert(missing="drop").select(whole) is whole


def test_nothing_to_drop_is_not_a_copy():
    x = np.arange(5.0)
    rows = ingest({"x": x}).convert(["x"], missing="drop")
    assert rows["x"] is x
    assert rows.n_dropped == 0
    assert rows.kept is None


def test_take_resamples_all_columns_together():
    rows = ingest({"x": [1.0, 2.0, 3.0], "X": [[1, 2], [3, 4], [5, 6]]}).convert()
    again = rows.take(np.array([2, 2, 0]))
    assert again["x"].tolist() == [3.0, 3.0, 1.0]
    assert again["X"].tolist() == [[5, 6], [5, 6], [1, 2]]
    assert again.n == 3


def test_column_labels():
    frame = pd.DataFrame({"age": [1.0], 7: [2.0]})
    source = ingest({"X": frame, "Z": np.zeros((1, 3)), "a": [1.0], "b": [2], "t": ["u"], "g": {"q": [1.0]}})
    assert column_labels(source, "X") == (("age", "7"), 2)
    assert column_labels(source, "Z") == (None, 3)
    assert column_labels(source, ["a", "b"]) == (("a", "b"), 2)
    assert column_labels(source, ("b", "a")) == (("b", "a"), 2)
    assert column_labels(ingest(frame), ["age"]) == (("age",), 1)
    with pytest.raises(DataError, match=r"matrix.*columns=\['a'\] for one column"):
        column_labels(source, "a")
    with pytest.raises(DataError, match=r"single columns.*'X'.*write columns='X' for a matrix"):
        column_labels(source, ["a", "X"])
    with pytest.raises(MissingColumnError, match="no column 'XX'"):
        column_labels(source, "XX")
    with pytest.raises(DataTypeError, match="column 't'"):
        column_labels(source, ["t"])
    with pytest.raises(DataError, match="expected an array, got a dict; make its arrays columns"):
        column_labels(source, "g")
    with pytest.raises(DataError, match="expected an array, got a Static; name columns of numbers"):
        column_labels(ingest({"k": Static(3), "y": [1.0]}), "k")
    with pytest.raises(DataError, match="at least one name"):
        column_labels(source, [])
    with pytest.raises(DataError, match="needs data with column names"):
        column_labels(ingest(np.zeros((3, 2))), "X")


def test_prepared_is_a_tree_under_jit_vmap_and_grad():
    def one(values):
        return pack(ingest({"x": values, "s": Shared(2.0), "k": Static(3)}).convert())

    def total(p):
        assert isinstance(p, Prepared)
        d = assemble(p.rows, p.shared, p.statics)
        return jnp.sum(p.weights * d["x"]) * d["s"] * d["k"] / p.n

    a, b = one([1.0, 2.0]), one([3.0, 5.0])
    stacked = jax.tree.map(lambda *v: jnp.stack([jnp.asarray(u) for u in v]), a, b)
    assert jax.vmap(total)(stacked).tolist() == [9.0, 24.0]
    leaves, treedef = jax.tree.flatten(a)
    assert isinstance(jax.tree.unflatten(treedef, [object()] * len(leaves)), Prepared)
    grad = jax.grad(total, allow_int=True)(jax.tree.map(jnp.asarray, a))
    assert grad.rows[0].tolist() == [3.0, 3.0] + [0.0] * 14, "padded rows have no influence"
    assert a.statics == b.statics
    assert hash(treedef) == hash(jax.tree.structure(b))


def test_pack_modes():
    rows = ingest({"x": np.arange(100.0)}).convert()
    blocked = pack(rows, block=32)
    assert (blocked.n_blocks, blocked.block, blocked.n_padded) == (8, 32, 256)
    whole = pack(rows, mode="whole")
    assert whole.rows[0] is rows["x"]
    assert (whole.n_blocks, whole.n_padded) == (1, 100)
    assert pack(rows, np.ones(7), mode="whole").weights.shape == (7,)
    with pytest.raises(DataError, match="mode='row'"):
        pack(rows, mode="row")


def test_fingerprint_is_equal_for_equal_data_whatever_its_memory():
    rng = np.random.default_rng(0)
    x = rng.normal(size=200_000)
    x -= x.mean()
    strided = np.stack([x, x + 1], axis=1)[:, 0]
    frame = pd.DataFrame({"x": x, "y": x})
    prints = [fingerprint(ingest(d).convert(["x"])) for d in ({"x": x}, {"x": strided}, frame, {"x": x.tolist()})]
    assert len(set(prints)) == 1
    assert Fingerprint(**json.loads(json.dumps(dataclasses.asdict(prints[0])))) == prints[0]
    other = x.copy()
    other[17] += 1e-3
    assert fingerprint(ingest({"x": other}).convert()) != prints[0]


def test_fingerprint_compares_the_columns_in_common():
    def one(**data):
        return fingerprint(ingest(data).convert())

    a = one(y=[1.0, 2.0], x=[3, 4])
    assert a.difference(one(y=[1.0, 2.0])) is None
    assert a != one(y=[1.0, 2.0])
    assert a.difference(one(y=[1.0, 2.5])) == "column 'y' has different values"
    assert a.difference(one(y=[2.0, 1.0])) is None  # the order of rows is not part of it
    assert a.difference(one(y=[1.0])) == "2 rows and 1 rows"
    assert fingerprint(ingest({"y": [1.0]}).convert(), design=np.ones((1, 2))).columns["design"] == (2.0, 2.0)


def test_ingest_of_a_source_is_itself():
    source = ingest({"x": X})
    assert ingest(source) is source


def test_pandas_is_not_imported_for_numpy_data():
    code = (
        "import sys, numpy as np; from mlejax.data import ingest, pack, fingerprint, group_codes, units\n"
        "r = ingest({'x': np.ones(3), 'y': [1, None, 2]}).convert(missing='drop')\n"
        "pack(r); fingerprint(r); group_codes(['a', 'b']); units(r, [1, 1])\n"
        "try: ingest({'x': ['a']}).convert()\n"
        "except TypeError: pass\n"
        "assert 'pandas' not in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
