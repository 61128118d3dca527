"""The kinds of fields: values come back to the last bit; wrong types, unknown and missing fields are refused with their place."""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlejax.files.container import FileError
from mlejax.files.fields import (
    Field,
    count,
    flag,
    label,
    list_of,
    mapping_of,
    matrix,
    number,
    one_of,
    optional,
    plain,
    record,
    text,
    to_json,
    vector,
)


def back(field: Field[Any], value: Any) -> Any:
    return field.read(json.loads(json.dumps(field.write(value, "x"), allow_nan=False)), "x")


@given(st.floats())
def test_a_number_comes_back(x: float) -> None:
    again = back(number, x)
    assert (math.isnan(again) and math.isnan(x)) or (again == x and math.copysign(1, again) == math.copysign(1, x))


def test_arrays_to_the_last_bit() -> None:
    x = np.random.default_rng(0).integers(0, 2**63, 1000, dtype=np.int64).view(np.float64)
    again = back(vector, x)
    np.testing.assert_array_equal(again.view(np.int64)[~np.isnan(x)], x.view(np.int64)[~np.isnan(x)])
    np.testing.assert_array_equal(np.isnan(again), np.isnan(x))
    for shape in ((0, 0), (1, 1), (3, 2), (2, 0)):
        np.testing.assert_array_equal(back(matrix, np.ones(shape)), np.ones(shape))


@pytest.mark.parametrize(
    ("field", "value"),
    [
        (text, 1),
        (flag, 1),
        (count, -1),
        (count, True),
        (count, 1.0),
        (count, 1 << 60),
        (number, True),
        (number, "1.0"),
        (number, None),
        (number, 10**400),
        (number, math.inf),  # JSON reads 1e999 so
        (label, None),
        (label, [1]),
        (plain, {"number": "text"}),
        (plain, math.inf),
        (vector, 1.0),
        (vector, [1.0, None]),
        (vector, [[1.0]]),
        (vector, [math.inf]),
        (vector, ["1.0"]),
        (matrix, [1.0]),
        (matrix, [[1.0], [1.0, 2.0]]),
        (one_of("a", "b"), "c"),
        (one_of("a", "b"), ["a"]),
        (list_of(count), {"a": 1}),
        (mapping_of(count), [1]),
        (optional(count), "a"),
        (record(dict, a=count), {}),
        (record(dict, a=count), {"a": 1, "b": 1}),
        (record(dict, a=count), [1]),
    ],
    ids=lambda value: None if isinstance(value, Field) else repr(value)[:20],
)
def test_wrong_values_are_refused_with_their_place(field: Field[Any], value: Any) -> None:
    with pytest.raises(FileError, match="here"):
        field.read(value, "here")


def test_the_place_is_that_of_the_value() -> None:
    nested = record(dict, rows=list_of(record(dict, a=optional(count))))
    with pytest.raises(FileError, match=r"content\.rows\[1\]\.a: expected a count, got 'x' \(str\)"):
        nested.read({"rows": [{"a": None}, {"a": "x"}]}, "content")


def test_what_cannot_be_saved_is_named() -> None:
    for value in (lambda: 0, np.array([object()]), np.array([1j]), {1, 2}, b"a"):
        with pytest.raises(TypeError, match=r"fit\.x"):
            to_json({"x": value}, "fit")
