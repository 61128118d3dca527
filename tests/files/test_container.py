"""The container and its values: what is written comes back to the last bit, everything else is refused in words."""

from __future__ import annotations

import json
import math
import pickle

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from mlejax.files.container import FORMAT_VERSION, FileError, read, write
from mlejax.files.values import decode, encode, of_dataclass
from mlejax.verdict import Verdict

CODEC = of_dataclass(Verdict)
BY_NAME = {CODEC.name: CODEC}

TEXT = st.text(st.characters(), max_size=8)  # lone surrogates included
SCALARS = st.none() | st.booleans() | st.integers(-(2**80), 2**80) | st.floats() | TEXT
KEYS = st.text(max_size=5) | st.sampled_from(["$array", "$float", "$"])
ARRAYS = st.sampled_from([np.float64, np.float32, np.int64, np.int32, np.bool_]).flatmap(
    lambda t: arrays.arrays(t, arrays.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=3))
)
VALUES = st.recursive(
    SCALARS | ARRAYS,
    lambda inside: (
        st.lists(inside, max_size=3)
        | st.lists(inside, max_size=3).map(tuple)
        | st.dictionaries(KEYS, inside, max_size=3)
        | st.builds(Verdict, st.text(max_size=3), st.text(max_size=3), st.dictionaries(KEYS, inside, max_size=2))
    ),
    max_leaves=8,
)


def same(a: object, b: object) -> bool:
    """Equal in type and to the last bit; NaN is NaN, -0.0 is not 0.0."""
    if type(a) is not type(b):
        return False
    if isinstance(a, np.ndarray):
        assert isinstance(b, np.ndarray)
        return a.dtype == b.dtype and a.shape == b.shape and np.array_equal(a, b, equal_nan=a.dtype.kind == "f")
    if isinstance(a, float):
        assert isinstance(b, float)
        return (math.isnan(a) and math.isnan(b)) or (a == b and math.copysign(1, a) == math.copysign(1, b))
    if isinstance(a, (list, tuple)):
        return len(a) == len(b) and all(map(same, a, b))
    if isinstance(a, dict):
        return list(a) == list(b) and all(same(a[k], b[k]) for k in a)
    if isinstance(a, Verdict):
        return same(a.code, b.code) and same(dict(a.evidence), dict(b.evidence)) and same(a.advice, b.advice)
    return a == b


@given(VALUES)
def test_values_come_back(value: object) -> None:
    text = json.dumps(encode(value, (CODEC,)), allow_nan=False)
    assert same(decode(json.loads(text), BY_NAME), value)


def test_floats_to_the_last_bit() -> None:
    rng = np.random.default_rng(0)
    x = rng.integers(0, 2**63, 1000, dtype=np.int64).view(np.float64)
    back = decode(json.loads(json.dumps(encode(x))))
    np.testing.assert_array_equal(back.view(np.int64)[~np.isnan(x)], x.view(np.int64)[~np.isnan(x)])


@given(st.binary(max_size=200))
def test_foreign_bytes_are_refused(tmp_path_factory: pytest.TempPathFactory, data: bytes) -> None:
    path = tmp_path_factory.getbasetemp() / "foreign"
    path.write_bytes(data)
    with pytest.raises(FileError):
        read(path)


def saved(tmp_path, content: dict) -> bytes:
    write(tmp_path / "a", content)
    return (tmp_path / "a").read_bytes()


CONTENT = {"numbers": encode(np.array([1.5, math.nan, -0.0])), "text": "é \U0001f600", "none": None}


def test_every_flipped_bit_and_every_truncation_is_noticed(tmp_path) -> None:
    data = saved(tmp_path, CONTENT)
    assert read(tmp_path / "a") == CONTENT
    path = tmp_path / "b"
    for i in range(len(data)):
        path.write_bytes(data[:i] + bytes([data[i] ^ (1 << i % 8)]) + data[i + 1 :])
        with pytest.raises(FileError):
            read(path)
        path.write_bytes(data[:i])
        with pytest.raises(FileError):
            read(path)
    path.write_bytes(data + b"\n")
    with pytest.raises(FileError):
        read(path)


def test_messages_say_what_it_is(tmp_path) -> None:
    path = tmp_path / "b"
    data = saved(tmp_path, CONTENT)
    for bad, said in (
        (pickle.dumps({"a": 1}), "pickle"),
        (b"PK\x03\x04", "zip"),
        (b"", "empty"),
        (b'{"format": "other"}', "not a result saved by mlejax"),
        (data.replace(b"mlejax results", b"mlejax garbage"), "its format is 'mlejax garbage'"),
        (data.replace(b'"format_version": 1', b'"format_version": 2'), "by a newer mlejax"),
        (data.replace(b'"format_version": 1', b'"format_version": 0'), "does not exist"),
        (data[:-5], "truncated"),
        (data.replace(b"none", b"some"), "checksum"),
    ):
        path.write_bytes(bad)
        with pytest.raises(FileError, match=said):
            read(path)
    assert FORMAT_VERSION == 1
    with pytest.raises(FileNotFoundError):
        read(tmp_path / "missing")


def test_the_file_is_one_json_document(tmp_path) -> None:
    document = json.loads(saved(tmp_path, CONTENT))
    assert document["content"] == CONTENT
    assert document["format"] == "mlejax results"


def forged(tmp_path, body: bytes) -> None:
    """A file with a right checksum over hostile content."""
    import hashlib

    digest = hashlib.sha256(body).hexdigest()
    head = f'{{"format": "mlejax results", "format_version": 1, "sha256": "{digest}", "content":\n'
    (tmp_path / "f").write_bytes(head.encode() + body + b"\n}\n")


@pytest.mark.parametrize(
    "body",
    [
        b"[" * 100_000,
        b'{"a":' * 50_000,
        b'{"a": 1, "a": 2}',
        b'{"a": NaN}',
        b'{"a": Infinity}',
        b"[1]",
        b'"text"',
        b'{"a": ' + b"9" * 10_000 + b"}",
        b'{"a": "\xff"}',
        b"\xef\xbb\xbf{}",
        b'{"a": 1} {"b": 2}',
        '{"a": 1}'.encode("utf-16"),
    ],
    ids=range(12),
)
def test_hostile_json_is_refused(tmp_path, body: bytes) -> None:
    forged(tmp_path, body)
    with pytest.raises(FileError):
        read(tmp_path / "f")


@pytest.mark.parametrize(
    "value",
    [
        {"$array": {"dtype": "object", "shape": [1], "data": ["x"]}},
        {"$array": {"dtype": "O", "shape": [1], "data": [1]}},
        {"$array": {"dtype": "float64", "shape": [2], "data": [1.0]}},
        {"$array": {"dtype": "float64", "shape": [2**62, 2**62], "data": []}},
        {"$array": {"dtype": "float64", "shape": [-1], "data": [1.0]}},
        {"$array": {"dtype": "float64", "shape": [True], "data": [1.0]}},
        {"$array": {"dtype": "float64", "shape": [1], "data": ["1.0"]}},
        {"$array": {"dtype": "float64", "shape": [1], "data": [None]}},
        {"$array": {"dtype": "float64", "shape": [1], "data": [[1.0]]}},
        {"$array": {"dtype": "float64", "shape": [1], "data": [10**400]}},
        {"$array": {"dtype": "int64", "shape": [1], "data": ["nan"]}},
        {"$array": {"dtype": "int64", "shape": [1], "data": [1.5]}},
        {"$array": {"dtype": "int64", "shape": [1], "data": [2**63]}},
        {"$array": {"dtype": "bool", "shape": [1], "data": [1]}},
        {"$array": {"dtype": "float64", "shape": [1]}},
        {"$array": [1.0]},
        {"$float": "1.0"},
        {"$float": "nan", "more": 1},
        {"a": 1, "$float": "nan"},
        {"$tuple": {"a": 1}},
        {"$dict": [["a"]]},
        {"$dict": [[[1], 2]]},
        {"$dict": [[{"$tuple": [[1]]}, 2]]},
        {"$object": "os.system", "fields": {"command": "true"}},
        {"$object": "Verdict", "fields": {"code": "a"}},
        {"$object": "Verdict", "fields": {"code": "a", "statement": "b", "more": 1}},
        {"$object": ["Verdict"], "fields": {}},
        {"$object": "Verdict"},
        {"$unknown": 1},
    ],
    ids=str,
)
def test_hostile_values_are_refused(value: object) -> None:
    with pytest.raises(FileError):
        decode(value, BY_NAME)


def test_what_cannot_be_saved_is_named() -> None:
    for value in (lambda: 0, np.array([object()]), np.array([1j]), {1, 2}, np.array(["a"])):
        with pytest.raises(TypeError, match=r"fit\.x"):
            encode(value, where="fit.x")


def test_a_failed_save_leaves_the_old_file(tmp_path) -> None:
    data = saved(tmp_path, CONTENT)
    with pytest.raises(TypeError):
        write(tmp_path / "a", {"a": object()})
    assert (tmp_path / "a").read_bytes() == data
    assert [p.name for p in tmp_path.iterdir()] == ["a"]
