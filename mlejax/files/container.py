r"""The container of a saved result: header, checksum, limits and atomic writing.  ``docs/file-format.md`` describes it.

The first line names the format and holds the SHA-256 of the content; the content is one JSON object; the last line closes
the document::

    {"format": "mlejax results", "format_version": 2, "sha256": "...", "content":
    {...}
    }

Other files raise FileError after their first bytes.  The checksum detects accidents (a truncated copy, a flipped bit), not
malice, so the size, the nesting, the number of parts and the length of every string are limited before the JSON is parsed,
and :mod:`mlejax.files.schema` checks every field afterwards.
"""

from __future__ import annotations

import functools
import hashlib
import json
import os
import re
import secrets
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TypeAlias

import numpy as np

Json: TypeAlias = "bool | int | float | str | list[Json] | dict[str, Json] | None"
PathLike: TypeAlias = "str | os.PathLike[str]"

FORMAT = "mlejax results"
FORMAT_VERSION = 2
MAX_BYTES = 1 << 30
MAX_DEPTH = 64
MAX_PARTS = 200_000  # most strings; also most lists and objects
MAX_TEXT = 100_000  # most bytes of one string
_HEADER = re.compile(
    rb'\{"format": "([^"\\]{1,60})", "format_version": (\d{1,6}), "sha256": "([0-9a-f]{64})", "content":\n'
)
_HEADER_BYTES = 400
_END = b"\n}\n"
_TEXT = re.compile(rb'"(?:[^"\\]++|\\.)*+"', re.DOTALL)
_OTHER_BYTES = bytes(set(range(256)) - set(b"[{]}"))
_DIGITS = b"0123456789.-+eE, "
_STEPS = bytes.maketrans(b"[{]}", b"\x01\x01\xff\xff")  # 1 down, -1 up
_NOT_FINITE = (b'"nan"', b'"inf"', b'"-inf"')


class FileError(ValueError):
    """A file is no saved result, damaged, incomplete, too large, of a newer version or of another model; or a result cannot be
    saved.
    """


# ---- writing


@contextmanager
def replacing(path: PathLike) -> Iterator[IO[bytes]]:
    """Context manager: a new binary file that replaces ``path`` when the block ends, and is deleted if the block fails.

    The new file is created in the same folder under a random name, and is synchronised to the disk before it replaces the old
    one.  The mode of an existing file is kept; for a symbolic link the target is replaced.

    Raises:
        OSError: the folder does not exist (FileNotFoundError), there is no permission (PermissionError), or ``path`` is not a
            regular file, or a link to itself.
    """
    target = Path(os.path.realpath(path))
    if target.is_symlink():
        raise OSError(f"{os.fspath(path)}: expected the path of a file, got a symbolic link that leads back to itself")
    if not target.parent.is_dir():
        raise FileNotFoundError(f"{os.fspath(path)}: expected an existing folder, but {target.parent} does not exist")
    mode = stat.S_IMODE(target.stat().st_mode) if target.exists() else None
    if mode is not None and not target.is_file():
        raise OSError(f"{os.fspath(path)}: expected the path of a file, got a folder or a device")
    if mode is not None and not os.access(target, os.W_OK):
        raise PermissionError(f"{os.fspath(path)}: the file is read-only; give another path, or make it writable")
    beside = target.parent / f".{secrets.token_hex(8)}.part"
    try:
        # until it has the mode of the old file, the new one is for its owner alone
        own = functools.partial(os.open, mode=0o666 if mode is None else 0o600)
        with open(beside, "xb", opener=own) as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        if mode is not None:
            os.chmod(beside, mode)
        os.replace(beside, target)
    finally:
        beside.unlink(missing_ok=True)


def write(path: PathLike, content: Json) -> None:
    """Write JSON content to a file, completely or not at all.

    Raises:
        FileError: the content exceeds the limits of this module: its size, nesting, number of parts or length of a string.
        OSError: the folder does not exist, there is no permission, or ``path`` is not a regular file.
    """
    body = json.dumps(content, allow_nan=False, separators=(",", ": ")).encode("ascii")
    try:
        _check_bounds(body)
    except FileError as error:
        raise FileError(f"{os.fspath(path)}: the result cannot be saved: {error}") from None
    digest = hashlib.sha256(body).hexdigest()
    head = f'{{"format": "{FORMAT}", "format_version": {FORMAT_VERSION}, "sha256": "{digest}", "content":\n'
    with replacing(path) as file:
        file.write(head.encode("ascii"))
        file.write(body)
        file.write(_END)


# ---- reading


def read(path: PathLike) -> tuple[int, Json]:
    """Return the format version and the content of a file that :func:`write` made; the content is not checked further.

    Raises:
        FileError: the path is a folder or device, or the file is not one of mlejax, is of a newer version, truncated, altered,
            not JSON, or beyond the limits of this module.
        OSError: the file cannot be opened.
    """
    if not stat.S_ISREG(os.stat(path).st_mode):
        raise FileError("expected a file, got a folder or a device")
    with open(path, "rb") as file:
        first = file.read(_HEADER_BYTES)
        header = _HEADER.match(first)
        if header is None:
            raise FileError(_foreign(first))
        version, size = _version(header), os.fstat(file.fileno()).st_size
        _refuse_above(MAX_BYTES, size, "bytes")
        file.seek(header.end())
        body = file.read(max(0, size - header.end() - len(_END)))
        if file.read(len(_END) + 1) != _END:
            raise FileError(
                "the file does not end as a saved result does, and so is not complete or has further content. Copy it anew"
            )
    if hashlib.sha256(body).hexdigest().encode("ascii") != header[3]:
        raise FileError("the checksum does not match the content, which has changed since it was saved. Save it anew")
    _check_bounds(body)
    try:
        text = body.decode("ascii")
        del body  # of a large file there is one copy at a time
        return version, json.loads(text, object_pairs_hook=_unique)
    except FileError:
        raise
    except (ValueError, RecursionError) as error:
        raise FileError(f"the content is not JSON ({type(error).__name__}: {str(error)[:200]}): save the result again") from None


def _version(header: re.Match[bytes]) -> int:
    if header[1] != FORMAT.encode("ascii"):
        raise FileError(f"expected the format {FORMAT!r}, got {header[1].decode('ascii', 'replace')!r}")
    version = int(header[2])
    if version > FORMAT_VERSION:
        raise FileError(
            f"the file has format {version}, of a newer mlejax; this one reads formats up to {FORMAT_VERSION}. Install a "
            "newer mlejax"
        )
    if version < 1:
        raise FileError(f"format {version} does not exist; copy the file anew")
    return version


def _foreign(first: bytes) -> str:
    ours = "mle.load reads only what Results.save wrote"
    if not first:
        return "the file is empty"
    if first.startswith((b"\x80", b"(lp", b"(dp")):
        return f"the file is a pickle, which could execute code when read; {ours}"
    if first.startswith((b"PK", b"\x93NUMPY", b"\x1f\x8b", b"PAR1")):
        return f"the file is a zip, NumPy, gzip or Parquet file; {ours}"
    return f"the first line is not that of a result saved by mlejax; {ours}"


def _check_bounds(body: bytes) -> None:
    """Raise FileError if the content exceeds a limit: bytes, number of strings, number of lists and objects, nesting, length of
    a string.  The JSON is not parsed for that.
    """
    _refuse_above(MAX_BYTES - _HEADER_BYTES, len(body), "bytes of content")
    texts = body.count(b'"') // 2 - sum(map(body.count, _NOT_FINITE))
    _refuse_above(MAX_PARTS, texts, "strings")
    # of a large file nearly all bytes are digits, which go first: only what follows is copied
    brief = body.translate(None, _DIGITS)
    steps = np.frombuffer(_TEXT.sub(b"", brief).translate(_STEPS, _OTHER_BYTES), np.int8)
    _refuse_above(MAX_PARTS, int(np.count_nonzero(steps == 1)), "lists and objects")
    _refuse_above(MAX_DEPTH, int(np.cumsum(steps, dtype=np.int64).max(initial=0)), "levels of nesting")
    _refuse_above(MAX_TEXT, max((m.end() - m.start() for m in _TEXT.finditer(body)), default=0), "bytes in one string")


def _refuse_above(limit: int, found: int, what: str) -> None:
    if found > limit:
        raise FileError(f"expected at most {limit} {what}, got {found}")


def _unique(pairs: list[tuple[str, Json]]) -> dict[str, Json]:
    out = dict(pairs)
    if len(out) != len(pairs):
        raise FileError("a key occurs twice in one object of the content: save the result again")
    return out
