"""Malformed data: every refusal says what was expected, what came, where and what to do; nothing passes silently."""

import collections
import datetime
import decimal
import re

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest
import scipy.sparse
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mlejax.data import DataError, DataTypeError, MissingColumnError, Shared, Static, ingest

DOCUMENTED = (DataError, DataTypeError, MissingColumnError)


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
    ("arrays", column([np.ones(2)] * 3), DataTypeError, ["column 'x'", "rows or columns?", "np.stack"]),
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
    with pytest.raises(DataError, match=r"leaves no row: all 2 .*column 'x' \(1\), column 'y' \(1\)"):
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


def test_structured_array_as_data():
    with pytest.raises(DataTypeError, match=r"the data.*dtype\.names"):
        ingest(np.zeros(3, [("a", float)]))


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


# ---- property tests: valid data, one damage at a random place, any container -------------------------------------

NAMES = ["height", "x", "a b", "Größe", "t0"]
VALUES = {
    "float": st.floats(-1e6, 1e6, allow_subnormal=False).map(lambda v: round(v, 3)),
    "int": st.integers(-1000, 1000),
    "bool": st.booleans(),
}
FORMS = {
    "dict of arrays": np.asarray,
    "dict of lists": lambda v: np.asarray(v).tolist(),
    "dict of jax arrays": lambda v: jnp.asarray(v),
    "dict of float32": lambda v: np.asarray(v, np.float32) if np.asarray(v).dtype.kind == "f" else np.asarray(v),
    "dict of series": pd.Series,
    "dict of nullable": lambda v: pd.Series(v).convert_dtypes(),
    "dict of arrow": lambda v: pd.Series(v).convert_dtypes(dtype_backend="pyarrow"),
    "dataframe": pd.Series,
    "tuple": np.asarray,
    "nested dict": np.asarray,
    "nested tuple": lambda v: np.asarray(v).tolist(),
}


def put(values, row, new):
    """A list of the values with one replaced."""
    out = np.asarray(values).tolist()
    out[row] = new
    return out


def objects(values):
    out = np.empty(len(values), object)
    out[:] = values
    return out


def masked(values, row):
    mask = np.zeros(len(values), bool)
    mask[row] = True
    return np.ma.MaskedArray(np.asarray(values), mask)


def nested(values, row, new):
    out = [[v, 0.5] for v in np.asarray(values, float).tolist()]
    out[row][0] = new
    return out


# name -> (damage(values, row), does the message name the row). Damages that need another length come apart below.
DAMAGES = {
    "nan": (lambda v, r: np.asarray(put(v, r, NAN), float), True),
    "inf": (lambda v, r: np.asarray(put(v, r, np.inf), float), True),
    "-inf": (lambda v, r: np.asarray(put(v, r, -np.inf), float), True),
    "float32 nan": (lambda v, r: np.asarray(put(v, r, NAN), np.float32), True),
    "jax inf": (lambda v, r: jnp.asarray(put(v, r, np.inf), float), True),
    "None in list": (lambda v, r: [*put(v, r, None), 0][: len(v)], True),
    "NA in list": (lambda v, r: put(v, r, pd.NA), True),
    "NaN in list": (lambda v, r: put(v, r, NAN), True),
    "None in objects": (lambda v, r: objects(put(v, r, None)), True),
    "numbers as objects": (lambda v, r: objects(np.asarray(v).tolist()), False),
    "text in list": (lambda v, r: put(v, r, "oops"), True),
    "text in objects": (lambda v, r: objects(put(v, r, "oops")), True),
    "text in array": (lambda v, r: np.asarray([str(u) for u in put(np.asarray(v, float), r, "oops")]), True),
    "number text": (lambda v, r: np.asarray([str(u) for u in np.asarray(v, float).tolist()]), False),
    "bytes in list": (lambda v, r: put(v, r, b"oops"), True),
    "Int64 NA": (lambda v, r: pd.Series(put(np.arange(len(v)), r, None), dtype="Int64"), True),
    "Float64 NA": (lambda v, r: pd.Series(put(np.asarray(v, float), r, None), dtype="Float64"), True),
    "boolean NA": (lambda v, r: pd.Series(put(np.ones(len(v), bool), r, None), dtype="boolean"), True),
    "arrow NA": (lambda v, r: pd.Series(put(np.arange(len(v)), r, None), dtype="int64[pyarrow]"), True),
    "arrow inf": (lambda v, r: pd.Series(put(np.asarray(v, float), r, np.inf), dtype="double[pyarrow]"), True),
    "masked": (masked, True),
    "matrix nan": (lambda v, r: np.asarray(nested(v, r, NAN)), True),
    "matrix None": (lambda v, r: nested(v, r, None), True),
    "matrix text": (lambda v, r: nested(v, r, "oops"), True),
    "frame nan": (lambda v, r: pd.DataFrame(nested(v, r, NAN), columns=["u", "w"]), True),
    "frame text": (lambda v, r: pd.DataFrame(nested(v, r, "oops"), columns=["u", "w"]), True),
    "uint64": (lambda v, r: np.asarray(put(np.arange(len(v)), r, 2**63), np.uint64), True),
    "huge int": (lambda v, r: put(np.arange(len(v)), r, 2**80), True),
    "complex": (lambda v, r: np.asarray(put(v, r, 1j)), False),
    "complex in list": (lambda v, r: put(v, r, 1j), True),
    "Decimal": (lambda v, r: put(v, r, decimal.Decimal("1.5")), False),
    "dates": (lambda v, r: np.arange(len(v)).astype("M8[s]"), False),
    "Timestamps": (lambda v, r: put(v, r, pd.Timestamp("2020-01-01")), True),
    "NaT": (lambda v, r: objects([pd.NaT] * len(v)), True),
    "timedelta": (lambda v, r: pd.Series(np.arange(len(v)).astype("m8[s]")), False),
    "tz": (lambda v, r: pd.Series(pd.date_range("2020", periods=len(v), tz="UTC")), False),
    "period": (lambda v, r: pd.Series(pd.period_range("2020", periods=len(v))), False),
    "categorical": (lambda v, r: pd.Series(v).astype("category"), False),
    "sparse": (lambda v, r: pd.Series(pd.arrays.SparseArray(np.asarray(v, float))), False),
    "list in row": (lambda v, r: put(v, r, [1.0, 2.0]), len),
    "list per row": (lambda v, r: objects([[1.0]] * len(v)), False),
    "object in row": (lambda v, r: put(v, r, object()), len),
    "arrays in list": (lambda v, r: [np.ones(2)] * len(v), False),
    "structured": (lambda v, r: np.zeros(len(v), [("q", float)]), False),
    "0-d": (lambda v, r: np.asarray(1.5), False),
    "scalar": (lambda v, r: 1.5, False),
    "None": (lambda v, r: None, False),
    "a string": (lambda v, r: "oops", False),
    "a set": (lambda v, r: set(range(len(v))), False),
    "a generator": (lambda v, r: (u for u in v), False),
    "shorter": (lambda v, r: np.ones(len(v) + 1), False),
    "longer": (lambda v, r: list(range(len(v) + 7)), False),
    "no rows": (lambda v, r: np.zeros(0), False),
}
NOT_IN_A_FRAME = {
    "0-d", "scalar", "None", "a string", "a set", "a generator", "shorter", "longer", "no rows", "matrix nan",
    "matrix None", "matrix text", "frame nan", "frame text", "arrays in list", "structured", "list in row",
}  # fmt: skip


def series(value):
    """A column of a DataFrame that keeps the damaged dtype."""
    if isinstance(value, pd.Series):
        return value
    if isinstance(value, list):
        value = objects(value)
    return pd.Series(np.asarray(value) if not isinstance(value, np.ma.MaskedArray) else objects(value.tolist()))


@st.composite
def tables(draw, at_least=1):
    """(columns by name, number of rows, form)."""
    n = draw(st.integers(2, 12))
    names = draw(st.lists(st.sampled_from(NAMES), min_size=at_least, max_size=4, unique=True))
    table = {}
    for name in names:
        kind = draw(st.sampled_from(list(VALUES)))
        table[name] = draw(st.lists(VALUES[kind], min_size=n, max_size=n))
    return table, n, draw(st.sampled_from(list(FORMS)))


def container(form, columns):
    """The data, and how a function reads the column of a name, and how a message names it."""
    order = list(columns)
    if form == "dataframe":
        return pd.DataFrame(columns), lambda d, k: d[k], lambda k: f"column {k!r}"
    if form in ("tuple", "nested tuple"):
        if form == "tuple":
            return tuple(columns.values()), lambda d, k: d[order.index(k)], lambda k: f"data[{order.index(k)}]"
        data = ({"inner": tuple(columns.values())}, Static(1))
        return data, lambda d, k: d[0]["inner"][order.index(k)], lambda k: f"data[0]['inner'][{order.index(k)}]"
    if form == "nested dict":
        return {"g": dict(columns)}, lambda d, k: d["g"][k], lambda k: f"data['g'][{k!r}]"
    return dict(columns), lambda d, k: d[k], lambda k: f"column {k!r}"


def rows_named(message):
    """All row numbers that a message names."""
    found = re.findall(r"\brows? ((?:\d+(?:, )?)+)", message)
    return {int(number) for group in found for number in re.findall(r"\d+", group)}


QUICK = {"deadline": None, "suppress_health_check": list(HealthCheck)}


@settings(max_examples=1500, **QUICK)
@given(tables(), st.sampled_from(list(DAMAGES)), st.data())
def test_damage_in_a_column_that_is_read_is_refused_with_its_name_and_row(table, damage, data):
    plain, n, form = table
    if form == "dataframe" and damage in NOT_IN_A_FRAME:
        form = "dict of arrays"
    if len(plain) == 1 and damage in ("shorter", "longer"):
        plain = {**plain, "other": [1.0] * n}
    name, row = data.draw(st.sampled_from([k for k in plain if k != "other"])), data.draw(st.integers(0, n - 1))
    inject, names_row = DAMAGES[damage]
    bad = inject(plain[name], row)
    columns = {k: FORMS[form](v) for k, v in plain.items()}
    columns[name] = series(bad) if form == "dataframe" else bad
    table, read, where = container(form, columns)
    with pytest.raises(DOCUMENTED) as caught:
        consume(table, lambda d: [read(d, k) for k in plain])
    message = str(caught.value)
    assert where(name) in message
    if names_row is True and not (form == "dataframe" and damage == "complex in list"):
        assert row in rows_named(message) or (damage == "NaT" and n > 5), message
    assert len(message) > len(where(name)) + 20


@settings(max_examples=400, **QUICK)
@given(tables(at_least=2), st.sampled_from(list(DAMAGES)), st.data())
def test_damage_in_a_column_that_is_not_read_does_no_harm(table, damage, data):
    plain, n, form = table
    if form in ("tuple", "nested tuple", "nested dict") or (form == "dataframe" and damage in NOT_IN_A_FRAME):
        form = "dict of arrays"  # what is inside a tree cannot be told apart
    name, row = data.draw(st.sampled_from(list(plain))), data.draw(st.integers(0, n - 1))
    columns = {k: FORMS[form](v) for k, v in plain.items()}
    bad = DAMAGES[damage][0](plain[name], row)
    columns[name] = series(bad) if form == "dataframe" else bad
    table, read, _ = container(form, columns)
    used = [k for k in plain if k != name]
    rows = consume(table, lambda d: [read(d, k) for k in used])
    assert rows.n == n
    assert rows.layout.keys == tuple(used)
    for k in used:
        np.testing.assert_array_equal(rows[k], np.asarray(FORMS[form](plain[k]), rows[k].dtype))


@settings(max_examples=300, **QUICK)
@given(tables(), st.data())
def test_undamaged_data_arrive_unchanged(table, data):
    plain, n, form = table
    columns = {k: FORMS[form](v) for k, v in plain.items()}
    table, read, _ = container(form, columns)
    rows = consume(table, lambda d: [read(d, k) for k in plain])
    assert rows.n == n
    tree = rows.tree()
    for k, values in plain.items():
        got = read(tree, k)
        assert got.dtype in (np.float64, np.int64, np.bool_)
        # convert_dtypes makes integers of whole floats; float32 is compared as float32
        np.testing.assert_array_equal(np.asarray(got, float), np.asarray(FORMS[form](values), float))


GAPS = {
    "array": lambda v, gone: np.where(gone, NAN, np.asarray(v, float)),
    "list": lambda v, gone: [None if g else u for u, g in zip(v, gone, strict=True)],
    "nullable": lambda v, gone: pd.Series(v).convert_dtypes().mask(gone, pd.NA),
    "masked": lambda v, gone: np.ma.MaskedArray(np.asarray(v), gone),
    "arrow": lambda v, gone: pd.Series(v).convert_dtypes(dtype_backend="pyarrow").mask(gone, pd.NA),
    "matrix": lambda v, gone: np.stack([np.where(gone, NAN, np.asarray(v, float)), np.ones(len(v))], axis=1),
}


@settings(max_examples=300, **QUICK)
@given(tables(), st.data())
def test_drop_leaves_exactly_the_complete_rows(table, data):
    plain, n, _ = table
    gone = {k: np.array(data.draw(st.lists(st.booleans(), min_size=n, max_size=n))) for k in plain}
    for k in gone:  # a list of None alone has no type, and is refused
        gone[k] &= ~gone[k].all()
    kinds = {k: data.draw(st.sampled_from(list(GAPS))) for k in plain}
    columns = {k: GAPS[kinds[k]](v, gone[k]) for k, v in plain.items()}
    keep = ~np.any([gone[k] for k in plain], axis=0)

    def read_all(d):
        return [d[k] for k in plain]

    if not keep.any():
        with pytest.raises(DataError, match="leaves no row"):
            consume(columns, read_all, missing="drop")
        return
    rows = consume(columns, read_all, missing="drop")
    assert (rows.n, rows.n_dropped) == (keep.sum(), n - keep.sum())
    for k, values in plain.items():
        got = rows[k][:, 0] if kinds[k] == "matrix" else rows[k]
        np.testing.assert_array_equal(np.asarray(got, float), np.asarray(values, float)[keep])
    if rows.n_dropped:
        assert rows.kept.tolist() == np.flatnonzero(keep).tolist()
        with pytest.raises(DataError, match="missing values"):
            consume(columns, read_all)


@settings(max_examples=200, **QUICK)
@given(tables(), st.text(min_size=1, max_size=8))
def test_a_column_that_is_not_there_is_named_with_those_that_are(table, name):
    plain, _, form = table
    if name in plain:
        return
    form = "dataframe" if form == "dataframe" else "dict of arrays"
    data, _, _ = container(form, {k: FORMS[form](v) for k, v in plain.items()})
    with pytest.raises(MissingColumnError) as caught:
        consume(data, lambda d: d[name])
    assert repr(name) in str(caught.value)
    assert all(repr(k) in str(caught.value) for k in plain)


@settings(max_examples=200, **QUICK)
@given(tables(), st.data())
def test_two_damages_are_still_refused(table, data):
    plain, n, _ = table
    columns = {k: np.asarray(v) for k, v in plain.items()}
    hit = {}
    for _ in range(2):
        name = data.draw(st.sampled_from(list(plain)))
        hit[name] = data.draw(st.sampled_from(list(DAMAGES)))
    for name, damage in hit.items():
        columns[name] = DAMAGES[damage][0](plain[name], data.draw(st.integers(0, n - 1)))
    if set(hit.values()) <= {"shorter", "longer"} and len({np.shape(c)[0] for c in columns.values()}) == 1:
        return  # all of another length: valid again
    with pytest.raises(DOCUMENTED) as caught:
        consume(columns, lambda d: [d[k] for k in plain])
    assert any(f"column {k!r}" in str(caught.value) for k in hit)
