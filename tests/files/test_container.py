"""The container: what is written comes back, everything else is refused in words; saving is atomic."""

from __future__ import annotations

import hashlib
import json
import multiprocessing
import os
import pickle
import stat
import threading
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlejax.files import container
from mlejax.files.container import FORMAT_VERSION, FileError, read, replacing, write

CONTENT = {"numbers": [1.5, "nan", -0.0], "text": "é \U0001f600 [{", "none": None}


def saved(tmp_path: Path, content: container.Json) -> bytes:
    write(tmp_path / "a", content)
    return (tmp_path / "a").read_bytes()


def forged(path: Path, body: bytes, version: int = FORMAT_VERSION) -> Path:
    """A file with a right checksum over any content."""
    digest = hashlib.sha256(body).hexdigest()
    head = f'{{"format": "mlejax results", "format_version": {version}, "sha256": "{digest}", "content":\n'
    path.write_bytes(head.encode() + body + b"\n}\n")
    return path


# ---- bytes


@given(st.binary(max_size=200))
def test_foreign_bytes_are_refused(tmp_path_factory: pytest.TempPathFactory, data: bytes) -> None:
    path = tmp_path_factory.getbasetemp() / "foreign"
    path.write_bytes(data)
    with pytest.raises(FileError):
        read(path)


def test_every_flipped_bit_and_every_truncation_is_noticed(tmp_path: Path) -> None:
    data = saved(tmp_path, CONTENT)
    assert read(tmp_path / "a") == (FORMAT_VERSION, CONTENT)
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


def test_messages_say_what_it_is(tmp_path: Path) -> None:
    path = tmp_path / "b"
    data = saved(tmp_path, CONTENT)
    for bad, said in (
        (pickle.dumps({"a": 1}), "pickle"),
        (b"PK\x03\x04", "zip"),
        (b"", "empty"),
        (b'{"format": "other"}', "first line is not that of a result saved by mlejax"),
        (data.replace(b"mlejax results", b"mlejax garbage"), "got 'mlejax garbage'"),
        (data.replace(b'"format_version": 2', b'"format_version": 3'), "of a newer mlejax"),
        (data.replace(b'"format_version": 2', b'"format_version": 0'), "does not exist"),
        (data[:-5], "does not end as a saved result does"),
        (data.replace(b"none", b"some"), "checksum"),
    ):
        path.write_bytes(bad)
        with pytest.raises(FileError, match=said):
            read(path)
    with pytest.raises(FileNotFoundError):
        read(tmp_path / "missing")
    with pytest.raises(FileError, match="folder or a device"):
        read(tmp_path)
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(FileError, match="folder or a device"):
        read(tmp_path / "pipe")


def test_a_foreign_file_is_refused_from_its_first_bytes(tmp_path: Path) -> None:
    path = tmp_path / "large"
    with open(path, "wb") as file:
        file.write(b"\x00\x01")
        file.truncate(1 << 40)  # sparse: reading it would take for ever
    with pytest.raises(FileError, match="first line is not that of a result saved by mlejax"):
        read(path)


def test_the_file_is_one_json_document(tmp_path: Path) -> None:
    document = json.loads(saved(tmp_path, CONTENT))
    assert document["content"] == CONTENT
    assert document["format"] == "mlejax results"


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b"[" * 100_000, "levels of nesting"),
        (b'{"a":' * 50_000, "levels of nesting"),
        (b"[" + b"[]," * 600_000 + b"[]]", "at most 200000"),
        (b'["' + b'","' * 600_000 + b'"]', "at most 200000"),
        (b'["' + b"x" * 200_000 + b'"]', "bytes in one string, got 200002"),
        (b'["' + rb"\"" * 100_000 + b'"]', "bytes in one string, got 200002"),
        (b'{"a": 1, "a": 2}', "occurs twice"),
        (b'{"a": nan}', "not JSON"),
        (b'{"a": ' + b"9" * 10_000 + b"}", "not JSON"),
        (b'{"a": "\xff"}', "not JSON"),
        (b"\xef\xbb\xbf{}", "not JSON"),
        (b'{"a": 1} {"b": 2}', "not JSON"),
        (b'{"a": "unterminated', "not JSON"),
        ('{"a": 1}'.encode("utf-16"), "not JSON"),
    ],
    ids=range(14),
)
def test_hostile_json_is_refused(tmp_path: Path, body: bytes, said: str) -> None:
    with pytest.raises(FileError, match=said):
        read(forged(tmp_path / "f", body))


def test_what_is_too_large_to_read_is_not_written(tmp_path: Path) -> None:
    with pytest.raises(FileError, match=r"a: the result cannot be saved: .*at most 200000"):
        write(tmp_path / "a", [[]] * 600_000)
    assert os.listdir(tmp_path) == []


@pytest.mark.slow
def test_many_numbers_are_read_in_few_copies(tmp_path: Path) -> None:
    path = forged(tmp_path / "f", json.dumps(np.random.default_rng(0).normal(size=(1000, 2000)).tolist()).encode())
    assert path.stat().st_size > 40e6
    tracemalloc.start()
    read(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 140e6, peak  # the text, and the numbers as Python's floats in lists


# ---- atomic writing


def test_a_failed_save_leaves_the_old_file(tmp_path: Path) -> None:
    data = saved(tmp_path, CONTENT)
    with pytest.raises(ZeroDivisionError), replacing(tmp_path / "a") as file:
        file.write(b"half" * (1 // 0))
    assert (tmp_path / "a").read_bytes() == data
    assert os.listdir(tmp_path) == ["a"]


def test_a_link_that_leads_to_itself_stays(tmp_path: Path) -> None:
    link = tmp_path / "link"
    link.symlink_to(link)
    with pytest.raises(OSError, match="leads back to itself"):
        write(link, CONTENT)
    assert os.listdir(tmp_path) == ["link"]
    assert link.is_symlink()


def test_mode_and_links_are_kept(tmp_path: Path) -> None:
    target, link = tmp_path / "real", tmp_path / "link"
    write(target, CONTENT)
    umask = os.umask(0)
    os.umask(umask)
    assert stat.S_IMODE(target.stat().st_mode) == 0o666 & ~umask
    target.chmod(0o640)
    link.symlink_to(target)
    write(link, {"other": 1})
    assert link.is_symlink()
    assert stat.S_IMODE(target.stat().st_mode) == 0o640
    assert read(target)[1] == {"other": 1}
    assert sorted(os.listdir(tmp_path)) == ["link", "real"]
    target.chmod(0o600)
    with replacing(target) as file:  # a private file is never readable by others, not even on its way
        (beside,) = set(os.listdir(tmp_path)) - {"link", "real"}
        assert stat.S_IMODE((tmp_path / beside).stat().st_mode) == 0o600
        file.write(b"x")
    assert stat.S_IMODE(target.stat().st_mode) == 0o600


def test_no_file_can_be_planted_under_the_temporary_name(tmp_path: Path) -> None:
    """The temporary file is created exclusively and under a name that differs each time."""
    seen = set()
    for _ in range(20):
        with replacing(tmp_path / "a") as file:
            seen.update(set(os.listdir(tmp_path)) - {"a"})
            file.write(b"x")
    assert len(seen) == 20


def test_wrong_places_are_told(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"expected an existing folder, but .*none does not exist"):
        write(tmp_path / "none" / "a", CONTENT)
    with pytest.raises(OSError, match="got a folder or a device"):
        write(tmp_path, CONTENT)
    with pytest.raises(OSError, match="got a folder or a device"):
        write("/dev/null", CONTENT)
    assert os.path.exists("/dev/null")


def _save_often(path: str, n: int) -> None:
    for i in range(n):
        write(path, {"numbers": [float(i)] * 2000})


def test_threads_and_processes_leave_one_whole_file(tmp_path: Path) -> None:
    path, errors, broken, ended = str(tmp_path / "a"), [], [], threading.Event()
    write(path, CONTENT)

    def save() -> None:
        try:
            _save_often(path, 20)
        except Exception as error:
            errors.append(error)

    def load() -> None:
        while not ended.is_set():
            try:
                read(path)
            except Exception as error:
                broken.append(error)

    reader = threading.Thread(target=load)
    writers = [threading.Thread(target=save) for _ in range(6)]
    others = [multiprocessing.get_context("spawn").Process(target=_save_often, args=(path, 20)) for _ in range(2)]
    for worker in (reader, *others, *writers):
        worker.start()
    for worker in (*writers, *others):
        worker.join(120)
    ended.set()
    reader.join(10)
    assert errors == []
    assert broken == []
    assert [p.exitcode for p in others] == [0, 0]
    assert os.listdir(tmp_path) == ["a"]
    assert len(read(path)[1]["numbers"]) == 2000
