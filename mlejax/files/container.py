r"""The container: one JSON document with a checksum. ``docs/file-format.md`` describes it for other programs.

The first line says what the file is and holds the SHA-256 of the content's bytes; the content follows; the last line
closes the document::

    {"format": "mlejax results", "format_version": 1, "sha256": "...", "content":
    {...}
    }

Reading a file executes nothing: no pickle, no imports, no evaluation; names of objects are looked up in a fixed table by
:mod:`mlejax.files.values`. The checksum tells accidents (a truncated copy, a flipped bit), not malice: what the content
claims is checked as well.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from pathlib import Path
from typing import Any

FORMAT = "mlejax results"
FORMAT_VERSION = 1
MAX_BYTES = 4 << 30
_HEADER = re.compile(
    rb'\{"format": "([^"\\]{1,60})", "format_version": (\d{1,6}), "sha256": "([0-9a-f]{64})", "content":\n'
)
_HEADER_BYTES = 400
_END = b"\n}\n"


class FileError(ValueError):
    """A file that is no saved result, or one that is damaged, incomplete or written by a newer version."""


def write(path: Any, content: dict[str, Any]) -> None:
    """Write JSON-able content, whole or not at all: a file of that name is replaced only at the end.

    Args:
        path: where to.
        content: dicts, lists, strings, finite numbers, booleans and None.
    """
    target = Path(path)
    body = json.dumps(content, allow_nan=False, separators=(",", ": ")).encode("ascii")
    digest = hashlib.sha256(body).hexdigest()
    head = f'{{"format": "{FORMAT}", "format_version": {FORMAT_VERSION}, "sha256": "{digest}", "content":\n'
    beside = target.with_name(f".{target.name}.{os.getpid()}.part")
    try:
        with open(beside, "wb") as file:
            file.write(head.encode("ascii"))
            file.write(body)
            file.write(_END)
        os.replace(beside, target)
    finally:
        beside.unlink(missing_ok=True)


def read(path: Any) -> dict[str, Any]:
    """The content of a file that :func:`write` made.

    Raises:
        FileError: a foreign, newer, truncated or altered file; the message says which.
        OSError: the file cannot be opened.
    """
    target = Path(path)
    size = target.stat().st_size
    if size > MAX_BYTES:
        raise FileError(f"{target}: {size} bytes; a saved result of more than {MAX_BYTES} bytes is not read")
    data = target.read_bytes()
    body = _checked(data, str(target))
    try:
        content = json.loads(body.decode("utf-8"), object_pairs_hook=_unique, parse_constant=_no_constant)
    except FileError as error:
        raise FileError(f"{target}: {error}") from None
    except (ValueError, RecursionError) as error:
        raise FileError(f"{target}: the content is no JSON ({type(error).__name__}: {error})") from None
    if not isinstance(content, dict):
        raise FileError(f"{target}: the content is no JSON object")
    return content


def _checked(data: bytes, name: str) -> bytes:
    """The bytes of the content, after the header, the end and the checksum have been looked at."""
    found = _HEADER.match(data[:_HEADER_BYTES])
    if found is None:
        raise FileError(f"{name}: {_foreign(data)}")
    if found[1] != FORMAT.encode("ascii"):
        raise FileError(f"{name}: its format is {found[1].decode('ascii', 'replace')!r}, not {FORMAT!r}")
    version = int(found[2])
    if version > FORMAT_VERSION:
        raise FileError(
            f"{name}: written in format {version}, by a newer mlejax; this one reads formats up to {FORMAT_VERSION}: "
            "install a newer mlejax"
        )
    if version < 1:
        raise FileError(f"{name}: format {version} does not exist; the file is damaged")
    body = data[found.end() : -len(_END)]
    if not data.endswith(_END) or len(data) < found.end() + len(_END):
        raise FileError(f"{name}: the end is missing: the file is truncated (an interrupted copy or download?)")
    if hashlib.sha256(body).hexdigest().encode("ascii") != found[3]:
        raise FileError(
            f"{name}: the checksum does not match: the file was damaged or edited since it was saved. Save it anew"
        )
    return body


def _foreign(data: bytes) -> str:
    if not data:
        return "the file is empty"
    if data.startswith((b"\x80", b"(lp", b"(dp")):
        return "this is a pickle, which could execute code when read; mle.load reads only what Results.save wrote"
    if data.startswith((b"PK", b"\x93NUMPY", b"\x1f\x8b")):
        return "this is a zip, NumPy or gzip file; mle.load reads only what Results.save wrote"
    return "not a result saved by mlejax, or its first line is damaged; mle.load reads only what Results.save wrote"


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    out = dict(pairs)
    if len(out) != len(pairs):
        raise FileError("a key occurs twice in one object of the content")
    return out


def _no_constant(text: str) -> Any:
    raise FileError(f"{text} is no JSON number")
