"""Every refusal of the data room: it says what was expected, what came, where, and what to do."""

import collections
import datetime
import decimal

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest
import scipy.sparse

from mlejax.data import DataError, DataTypeError, MissingColumnError, Shared, Static, ingest


@pytest.fixture(autouse=True)
def x64():
    with jax.enable_x64(True):
        yield


def consume(data, f, missing="raise"):
    """The way of data through the library: traced, reads recorded, these converted."""
    source, reads = ingest(data), set()
    jax.eval_shape(lambda t: f(source.view(t, reads)), source.abstract(8))
    return source.convert(reads, missing=missing)


def read_x(d):
    return d["x"]


def column(value, n=3):
    return {"x": value, "y": np.ones(n)}


NAN = float("nan")
REFUSED = [
    # what, data, error, parts of the message
    ("NaN", column([1.0, NAN, NAN]), DataError, ["column 'x'", "2 missing values", "rows 1, 2", "missing='drop'"]),
    ("inf", column(np.array([1, np.inf, 2])), DataError, ["column 'x'", "1 infinite", "row 1", "first: inf"]),
    ("-inf", column(np.array([1, 2, -np.inf])), DataError, ["column 'x'", "row 2", "first: -inf"]),
    ("many NaN", {"x": np.full(9, NAN)}, DataError, ["9 missing", "rows 0, 1, 2, 3, 4, ...", "9 of 9 rows"]),
    ("float32 NaN", column(jnp.array([1, NAN, 2], jnp.float32)), DataError, ["column 'x'", "row 1"]),
    ("NaN in DataFrame", pd.DataFrame({"x": [1, NAN]}, index=["p", "q"]), DataError, ["row 1 (index label 'q')"]),
    ("inf in DataFrame", pd.DataFrame({"x": [np.inf, 1]}, index=[7, 8]), DataError, ["row 0 (index label 7)"]),
    ("None in list", column([1.0, None, 2.0]), DataError, ["column 'x'", "1 missing", "row 1"]),
    ("NA in list", column([1, pd.NA, 2]), DataError, ["column 'x'", "1 missing", "row 1"]),
    ("Int64 NA", column(pd.Series([1, None, 2], dtype="Int64")), DataError, ["column 'x'", "1 missing", "row 1"]),
    ("Float64 NA", column(pd.Series([1, 2, None], dtype="Float64")), DataError, ["1 missing", "row 2"]),
    ("boolean NA", column(pd.Series([None, True, False], dtype="boolean")), DataError, ["1 missing", "row 0"]),
    ("Arrow NA", column(pd.Series([1, None, 2], dtype="int64[pyarrow]")), DataError, ["1 missing", "row 1"]),
    ("masked", column(np.ma.MaskedArray([1.0, 2, 3], [0, 0, 1])), DataError, ["1 missing", "row 2"]),
    ("matrix", {"x": np.array([[1, 2], [3, NAN]])}, DataError, ["column 'x'", "row 1", "column 1 of the matrix"]),
    ("frame NaN", {"x": pd.DataFrame({"a": [1, 2], "b": [1, NAN]})}, DataError, ["row 1", "column 'b' of the matrix"]),
    ("list rows", {"x": [[1.0, 2.0], [None, 3.0]]}, DataError, ["column 'x'", "row 1", "column 0 of the matrix"]),
    ("zero rows", {"x": np.zeros(0)}, DataError, ["zero rows", "column 'x' has shape (0,)"]),
    ("empty list", {"x": []}, DataError, ["zero rows", "column 'x'"]),
    ("empty frame", pd.DataFrame({"x": np.zeros(0)}), DataError, ["zero rows"]),
    ("ragged", column([[1.0], [1.0, 2.0], [3.0]]), DataError, ["column 'x'", "row 0 has 1 values, row 1 has 2 values"]),
    ("ragged scalar", column([[1.0], 2.0, [3.0]]), DataError, ["column 'x'", "sequences", "a single value in row 1"]),
    ("object rows", column(np.array([[1], [1, 2], None], object)), DataError, ["column 'x'", "sequence", "np.stack"]),
    ("uint64", column(np.array([1, 2**63, 3], np.uint64)), DataTypeError, ["column 'x'", "uint64", "row 1", "2**63"]),
    ("huge list", column([1, 2**70, 3]), DataTypeError, ["column 'x'", str(2**70), "row 1"]),
    ("mixed signs", column([-1, 2**63, 3]), DataTypeError, ["column 'x'", str(2**63), "row 1"]),
    ("lost digits", column([0.5, 2**53 + 1, 3]), DataTypeError, ["column 'x'", str(2**53 + 1), "row 1"]),
    ("nested lost", column([[0.5], [2**53 + 1], [3]]), DataTypeError, ["column 'x'", str(2**53 + 1), "row 1"]),
    ("text", column(np.array(["a", "b", "a"])), DataTypeError, ["column 'x'", "text", "'a' in row 0", "codes or dumm"]),
    ("text list", column(["1", "2", "x7"]), DataTypeError, ["column 'x'", "1 values are not numbers", "'x7' in row 2"]),
    ("bytes", column([b"a", b"b", b"c"]), DataTypeError, ["column 'x'", "b'a' in row 0"]),
    ("number text", column(["1", "2.5", "3"]), DataTypeError, ["column 'x'", "written as text", "pd.to_numeric"]),
    (
        "str dtype",
        column(pd.Series(["a", None, "b"])),
        DataTypeError,
        ["column 'x'", "text", "1 are missing, at row 1"],
    ),
    ("mixed", column([1.0, "a", 2.0]), DataTypeError, ["column 'x'", "mixed types", "'a' (str) in row 1"]),
    (
        "mixed array",
        column(np.array([1, 2, "z"], object)),
        DataTypeError,
        ["mixed types", "'z' (str) in row 2", "1 of 3"],
    ),
    ("mixed nested", column([[1.0], ["a"], [2.0]]), DataTypeError, ["mixed types", "'a' (str) in row 1"]),
    (
        "objects",
        column(np.array([1, 2.5, 3], object)),
        DataTypeError,
        ["numbers stored as Python obj", "pd.to_numeric"],
    ),
    (
        "object None",
        column(np.array([1, None, 3], object)),
        DataTypeError,
        ["1 are missing, at row 1", "pd.to_numeric"],
    ),
    ("all None", column([None, None, None]), DataTypeError, ["only missing values", "rows 0, 1, 2"]),
    ("Decimal", column([decimal.Decimal(1)] * 3), DataTypeError, ["column 'x'", "numbers stored as Python objects"]),
    (
        "datetime",
        column(np.array(["2020-01-01"] * 3, "M8[D]")),
        DataTypeError,
        ["datetime64[D]", "seconds since a start"],
    ),
    ("tz", column(pd.Series(pd.to_datetime([0, 1, 2], utc=True))), DataTypeError, ["datetime", "total_seconds"]),
    ("dates", column([datetime.date(2020, 1, 1)] * 3), DataTypeError, ["dates or times", "seconds since"]),
    ("timedelta", column(pd.Series(pd.to_timedelta([0, 1, 2]))), DataTypeError, ["timedelta", "total_seconds"]),
    ("period", column(pd.Series(pd.period_range("2020", periods=3))), DataTypeError, ["period", "to_timestamp"]),
    ("interval", column(pd.Series(pd.interval_range(0, 3))), DataTypeError, ["interval", ".array.mid"]),
    (
        "category",
        column(pd.Series(list("aba"), dtype="category")),
        DataTypeError,
        ["categorical", ".cat.codes", "formulas"],
    ),
    ("Categorical", column(pd.Categorical(list("aba"))), DataTypeError, ["column 'x'", "categorical"]),
    ("complex", column(np.array([1j, 2, 3])), DataTypeError, ["column 'x'", "complex128", "two columns"]),
    ("complex list", column([1j, 2, 3]), DataTypeError, ["column 'x'", "complex"]),
    ("0-d", column(np.array(3.0)), DataTypeError, ["column 'x'", "one value per row", "mle.Shared"]),
    ("scalar", column(3.0), DataTypeError, ["column 'x'", "a single float (0-d)", "mle.Shared", "mle.Static"]),
    ("string", column("age"), DataTypeError, ["column 'x'", "the single string 'age'", "mle.Static"]),
    ("None", column(None), DataTypeError, ["column 'x'", "got None"]),
    ("tuple", column((1.0, 2.0, 3.0)), DataTypeError, ["data['x'][0]", "as a list or an array"]),
    ("arrays", column([np.ones(2)] * 3), DataTypeError, ["column 'x'", "rows of a matrix", "np.stack"]),
    ("records", column([{"a": 1}] * 3), DataTypeError, ["column 'x'", "pd.DataFrame(records)"]),
    ("scipy sparse", column(scipy.sparse.eye(3).tocsr()), DataTypeError, ["column 'x'", "sparse", ".toarray()"]),
    ("pandas sparse", column(pd.Series(pd.arrays.SparseArray([0.0, 0, 1]))), DataTypeError, ["sparse", "to_dense"]),
    ("set", column({1.0, 2.0, 3.0}), DataTypeError, ["column 'x'", "got a set"]),
    ("generator", column(i for i in range(3)), DataTypeError, ["column 'x'", "got a generator"]),
    ("structured", column(np.zeros(3, [("a", float)])), DataTypeError, ["column 'x'", "dtype.names"]),
    ("key", column(jax.random.split(jax.random.key(0), 3)), DataTypeError, ["column 'x'", "key"]),
    ("object()", column([object()] * 3), DataTypeError, ["column 'x'", "Python objects (object)"]),
    ("frame text", {"x": pd.DataFrame({"a": [1], "b": ["u"]})}, DataTypeError, ["column 'x' (entry 'b')", "text"]),
    ("frame dup", {"x": pd.DataFrame([[1, 2]], columns=["a", "a"])}, DataError, ["duplicate column names 'a'"]),
    ("dup", pd.DataFrame([[1.0, 2.0]], columns=["x", "x"]), DataError, ["column 'x'", "2 columns of the DataFrame"]),
    ("nested", {"x": {"u": [1.0], "v": ["t"]}}, DataTypeError, ["data['x']['v']", "text"]),
    ("Shared text", {"x": [1.0], "y": Shared("logit")}, None, []),
]


@pytest.mark.parametrize(("data", "error", "parts"), [r[1:] for r in REFUSED], ids=[r[0] for r in REFUSED])
def test_refusals_say_what_where_and_what_to_do(data, error, parts):
    if error is None:
        assert consume(data, read_x).n == 1
        return
    with pytest.raises(error) as caught:
        consume(data, read_x)
    for part in parts:
        assert part in str(caught.value), str(caught.value)


@pytest.mark.skipif(np.finfo(np.longdouble).nmant <= 52, reason="long double is double on this machine")
def test_long_double_that_would_be_rounded_is_refused():
    values = np.array([1, 0, 2], np.longdouble)
    values[1] = np.longdouble(1) + np.finfo(np.longdouble).eps
    with pytest.raises(DataTypeError, match=r"column 'x'.*row 1.*astype"):
        consume({"x": values}, read_x)


def test_missing_column_lists_near_matches_and_columns():
    with pytest.raises(MissingColumnError) as caught:
        consume({"height": [1.0], "weight": [2.0], "age": [3.0]}, lambda d: d["Heigth"])
    message = str(caught.value)
    assert message.startswith("no column 'Heigth'")
    assert "Near matches: 'height'" in message
    assert "columns 'height', 'weight', 'age'" in message
    with pytest.raises(MissingColumnError, match=r"\(30 in all\)"):
        consume({f"c{i}": [1.0] for i in range(30)}, lambda d: d["zzz"])
    with pytest.raises(KeyError):
        ingest({"a": [1.0]}).convert(["b"])
    with pytest.raises(MissingColumnError, match="no columns"):
        consume({}, lambda d: d["x"])


def test_lengths_are_listed():
    with pytest.raises(DataError) as caught:
        consume(
            {"x": [1.0, 2.0], "y": np.ones(3), "z": np.ones(2), "unused": [1.0]}, lambda d: d["x"] + d["y"] + d["z"]
        )
    message = str(caught.value)
    assert "column 'x' has 2, column 'y' has 3, column 'z' has 2" in message
    assert "unused" not in message
    with pytest.raises(DataError, match=r"data\[0\] has 1, data\[1\] has 2"):
        consume((np.ones(1), np.ones(2)), lambda d: d[0] + d[1])


def test_all_columns_with_missing_values_are_named():
    with pytest.raises(DataError, match=r"'x': 1 missing.*row 0; column 'y': 2 missing.*rows 0, 1. 2 of 3 rows"):
        consume({"x": [NAN, 1, 2], "y": [NAN, NAN, 1]}, lambda d: d["x"] + d["y"])


def test_others_count_for_missing_values_and_lengths():
    source = ingest({"x": [1.0, 2.0], "g": ["a", None], "h": ["a"], "when": np.array(["2020", "NaT"], "M8[D]")})
    with pytest.raises(DataError, match=r"column 'g': 1 missing values .* row 1"):
        source.convert(["x"], others=["g"])
    with pytest.raises(DataError, match=r"column 'when': 1 missing values .* row 1"):
        source.convert(["x"], others=["when"])
    with pytest.raises(DataError, match="column 'x' has 2, column 'h' has 1"):
        source.convert(["x"], others=["h"])
    with pytest.raises(MissingColumnError, match="no column 'q'"):
        source.convert(["x"], others=["q"])


def test_drop_still_refuses_infinities_and_the_loss_of_all_rows():
    with pytest.raises(DataError, match="column 'x': 1 infinite values, at row 1"):
        consume({"x": [NAN, np.inf, 1.0]}, read_x, missing="drop")
    with pytest.raises(DataError, match=r"leaves no row: each of the 2 .*column 'x' \(1\), column 'y' \(1\)"):
        consume({"x": [NAN, 1.0], "y": [1.0, NAN]}, lambda d: d["x"] + d["y"], missing="drop")
    with pytest.raises(DataError, match="missing='ignore': expected 'raise' or 'drop'"):
        consume({"x": [1.0]}, read_x, missing="ignore")


def test_series_with_different_row_labels_are_refused():
    frame = pd.DataFrame({"x": [1.0, 2.0, 3.0], "y": [3.0, 1.0, 2.0]}, index=["a", "b", "c"])
    data = {"x": frame["x"], "y": frame.sort_values("y")["y"]}
    with pytest.raises(DataError, match=r"column 'x' and column 'y' differ, first in row 0: 'a' and 'b'.*to_numpy"):
        consume(data, lambda d: d["x"] + d["y"])
    assert consume(data, read_x).n == 3
    data["y"] = data["y"].to_numpy()
    assert consume(data, lambda d: d["x"] + d["y"]).n == 3


def test_tracers_of_an_outer_transformation_point_to_solve():
    def inner(x):
        return consume({"x": x}, read_x)

    for transform in (jax.jit, jax.grad, lambda f: jax.vmap(f, in_axes=0)):
        with pytest.raises(DataTypeError, match=r"column 'x'.*tracers.*mle\.solve"):
            transform(inner)(jnp.ones(3))
    with pytest.raises(DataTypeError, match=r"tracers.*mle\.solve"):
        jax.jit(ingest)(jnp.ones(3))
    with pytest.raises(DataTypeError, match=r"Shared.*tracers.*mle\.solve"):
        jax.jit(lambda s: consume({"x": Shared(s)}, read_x))(jnp.ones(3))
    with pytest.raises(DataTypeError, match=r"column 'x'.*tracers.*mle\.solve"):
        jax.jit(lambda s: consume({"x": [s, s]}, read_x))(1.0)


@pytest.mark.parametrize(
    "data",
    ["x", 3.0, None, np.float64(1), Static(1), Shared([1.0]), (i for i in range(3)), {1.0, 2.0}, object(), len],
    ids=lambda v: type(v).__name__,
)
def test_what_is_no_data_is_refused_at_once(data):
    with pytest.raises(DataTypeError, match="the data"):
        ingest(data)


def test_trees_name_the_leaf():
    Pair = collections.namedtuple("Pair", ["x", "y"])
    with pytest.raises(DataTypeError, match=r"^data\.y: .*text"):
        consume(Pair([1.0], ["a"]), lambda d: d.x)
    with pytest.raises(DataError, match=r"^data\[1\]\['a'\]: 1 missing"):
        consume((np.ones(1), {"a": np.array([NAN])}), lambda d: d[0])
    with pytest.raises(DataError, match=r"^the data: 1 infinite"):
        consume(np.array([np.inf]), lambda d: d)


def test_shared_refuses_missing_values_text_and_wrappers():
    with pytest.raises(DataError, match=r"Shared column 's': 1 of 2 values are missing"):
        consume({"x": [1.0], "s": Shared([1.0, NAN])}, lambda d: d["x"] + d["s"].sum())
    with pytest.raises(DataError, match=r"Shared data\['s'\]\['a'\]: 1 of 1"):
        consume({"x": [1.0], "s": {"a": Shared([NAN])}}, lambda d: d["x"] + d["s"]["a"].sum())
    with pytest.raises(DataTypeError, match=r"Shared column 's'.*the single string 'logit'.*mle\.Static"):
        consume({"x": [1.0], "s": Shared("logit")}, lambda d: d["x"] * d["s"])
    with pytest.raises(DataTypeError, match=r"got a mlejax\.Static"):
        Shared(Static(1))
    with pytest.raises(DataTypeError, match=r"got a mlejax\.Shared"):
        Static(Shared(1))


@pytest.mark.parametrize("value", [[1], {"a": 1}, {1}, np.ones(2), (1, [2])], ids=lambda v: type(v).__name__)
def test_static_refuses_what_is_not_hashable(value):
    with pytest.raises(DataTypeError, match=r"hashable.*Shared"):
        Static(value)


def test_no_column_read():
    with pytest.raises(DataError, match="number of rows is unknown"):
        consume({"x": [1.0], "k": Static(2)}, lambda d: d["k"] * jnp.ones(3))
    with pytest.raises(DataError, match="number of rows is unknown"):
        consume({"s": Shared([1.0])}, lambda d: d["s"])


TEXT = {"x": [1.0, 2.0], "name": ["a", "b"]}


@pytest.mark.parametrize(
    ("f", "error", "message"),
    [
        (lambda d: d.x, AttributeError, r'no attribute \'x\'; a column is read as data\["x"\]'),
        (lambda d: d[["x", "name"]], DataTypeError, r"the name of one column.*jnp\.stack"),
        (lambda d: d.__setitem__("x", 1), DataTypeError, r"cannot be changed; write \{\*\*data, 'x': value\}"),
        (lambda d: d.__delitem__("x"), DataTypeError, "cannot be changed"),
        (lambda d: d["name"], DataTypeError, "column 'name'.*text.*'a' in row 0"),
        (lambda d: d.get("name", 0), DataTypeError, "column 'name'"),
        (lambda d: "name" in d, DataTypeError, "column 'name'"),
        (lambda d: dict(d), DataTypeError, r"all columns.*column 'name'.*data\[\['a', 'b'\]\]"),
        (lambda d: sum(d.values()), DataTypeError, "column 'name'"),
        (lambda d: jax.tree.map(jnp.exp, d), DataTypeError, "column 'name'"),
    ],
)
def test_uses_of_the_data_that_cannot_work(f, error, message):
    with pytest.raises(error, match=message):
        consume(TEXT, f)
