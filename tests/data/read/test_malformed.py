"""Malformed data of every kind in every container: always a documented error that names the column, never silence."""

import decimal
import re

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mlejax.data import DataError, DataTypeError, MissingColumnError, Static, ingest

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


NAN = float("nan")
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
N_EXAMPLES = settings.default.max_examples  # of the profile


@settings(max_examples=5 * N_EXAMPLES, **QUICK)
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
        assert row in rows_named(message) or damage == "NaT", message
    assert len(message) > len(where(name)) + 20


@settings(max_examples=2 * N_EXAMPLES, **QUICK)
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


@settings(max_examples=2 * N_EXAMPLES, **QUICK)
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


@settings(max_examples=2 * N_EXAMPLES, **QUICK)
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


@settings(max_examples=2 * N_EXAMPLES, **QUICK)
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


@settings(max_examples=2 * N_EXAMPLES, **QUICK)
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
