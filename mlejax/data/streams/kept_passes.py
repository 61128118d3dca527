"""A folder that stores the result of every pass over a stream, so that a fit that was killed can resume without repeating
passes.

A repeated fit makes the same passes in the same order, so that nothing else has to be stored.  The name of a file is a hash of
what the pass computes and of the data: their size, a sample, and the sizes and times of Parquet files.  The file also has the
checksums of all partitions, with which the next pass is compared.
"""

from __future__ import annotations

import dataclasses
import hashlib
import inspect
import json
import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import FunctionType
from typing import TYPE_CHECKING, Any

import jax
import numpy as np

from mlejax.data.packing.prepared import Prepared
from mlejax.data.streams.checksums import Seen
from mlejax.data.streams.sources import Parquet

if TYPE_CHECKING:
    from mlejax.data.streams.passes import Streamed


class NotKept(Exception):
    """Raised if the result of a pass cannot be stored: its description would not be the same in another process, or its result
    is not made of arrays and tuples.
    """


class KeptPasses:
    """A folder in which the results of passes over a stream are stored.

    Args:
        folder: path of the folder; it is created.
        some: a sample of the rows.
    """

    def __init__(self, folder: str | os.PathLike[str], some: Prepared) -> None:
        self.folder = Path(folder)
        self.folder.mkdir(parents=True, exist_ok=True)
        self.sample = [float(np.sum(a)) for a in some.rows if np.asarray(a).dtype.kind in "fiub"]

    def result(self, rows: Streamed, facts: Any, work: Callable[[], Any]) -> Any:
        """Return the result of a pass from its file; if there is none, compute it by ``work`` and write the file, unless the
        description or the result cannot be stored (`NotKept`).

        Args:
            rows: the rows that the pass reads; the summaries of their partitions are stored too.
            facts: a description of what the pass computes: numbers, texts, arrays, functions of modules, dataclasses, and
                tuples of these.
            work: makes the pass; its result is made of arrays and tuples, and a NamedTuple becomes a tuple.
        """
        try:
            parts = b"".join(described((self.sample, _of_data(rows), facts)))
        except NotKept:
            return work()
        path = self.folder / f"pass-{hashlib.sha256(parts).hexdigest()[:24]}.npz"
        if path.exists():
            with np.load(path) as saved:
                if rows.seen is None:
                    rows.seen = _unpacked(saved)
                return _decoded(json.loads(str(saved["tree"])), saved)
        found, arrays = work(), dict[str, Any]()
        try:
            tree = json.dumps(_encoded(found, arrays))
        except NotKept:
            return found
        part = path.with_suffix(
            f".{os.getpid()}.part.npz"
        )  # a kill while it is written leaves no half file under the name
        np.savez(part, tree=np.array(tree), **arrays, **_packed(rows.seen or []))
        part.replace(path)
        return found


def _of_data(rows: Streamed) -> tuple[Any, ...]:
    """Return the values that distinguish the rows of a stream from those of another stream."""
    cut, source = rows.cut, getattr(rows.source, "source", rows.source)
    files = [_file(group) for group in source.partitions()] if isinstance(source, Parquet) else []
    instructions = cut.columns, cut.weights, cut.weight_kind, cut.scale, cut.size, cut.block, dict(cut.left_out)
    kept = None if cut.levels is None else [str(label) for label in cut.levels.kept]
    return rows.n, rows.n_used, rows.sum_weights, rows.n_left_out, rows.sizes, instructions, kept, files


def _file(group: Any) -> tuple[Any, ...]:
    path = group.fragment.path
    facts = os.stat(path) if os.path.exists(path) else None
    return group.name, group.n_rows, *(() if facts is None else (facts.st_size, facts.st_mtime_ns))


def described(value: Any) -> Iterator[bytes]:
    """Yield bytes that are the same in another process for an equal value, and differ for another one.

    A function is its module and its name: what users' functions compute is described by their traced programs.

    Raises:
        NotKept: the value has a part for which no such bytes are known.
    """
    if value is None or isinstance(value, (bool, int, float, str, bytes)):
        yield repr(value).encode() + b";"
    elif isinstance(value, (np.ndarray, np.generic, jax.Array)):
        array = np.asarray(value)
        if array.dtype == object:
            yield from described(array.tolist())
        else:
            yield f"{array.dtype}{array.shape}".encode() + array.tobytes() + b";"
    elif isinstance(value, (tuple, list)):
        yield f"({len(value)}".encode()
        for part in value:
            yield from described(part)
    elif isinstance(value, Mapping):
        yield from described(sorted(value.items(), key=lambda item: str(item[0])))
    elif dataclasses.is_dataclass(value) and not isinstance(value, type):
        yield f"{type(value).__module__}.{type(value).__qualname__}".encode()
        yield from described([getattr(value, f.name) for f in dataclasses.fields(value)])
    elif isinstance(value, type) or (isinstance(value, FunctionType) and inspect.unwrap(value).__closure__ is None):
        yield f"{value.__module__}.{value.__qualname__};".encode()
    else:
        raise NotKept(type(value).__name__)


def _encoded(value: Any, arrays: dict[str, Any]) -> Any:
    """Return the structure of a value, for JSON, and put its arrays into ``arrays``."""
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, (tuple, list)):
        return {"tuple" if isinstance(value, tuple) else "list": [_encoded(part, arrays) for part in value]}
    array = np.asarray(value)
    text = array.dtype == object and all(isinstance(one, str) for one in array.ravel())
    if array.dtype.kind not in "biufU" and not text:
        raise NotKept(str(array.dtype))
    name = f"a{len(arrays)}"
    arrays[name] = array.astype(str) if text else array
    return {"text" if text else "array": name}


def _decoded(tree: Any, saved: Mapping[str, Any]) -> Any:
    if not isinstance(tree, dict):
        return tree
    ((kind, inside),) = tree.items()
    if kind in ("array", "text"):
        return saved[inside] if kind == "array" else saved[inside].astype(object)
    parts = [_decoded(part, saved) for part in inside]
    return tuple(parts) if kind == "tuple" else parts


def _packed(seen: list[Seen | None]) -> dict[str, Any]:
    real = [s for s in seen if s is not None]
    n = np.array([-1 if s is None else s.n for s in seen])
    return {"n": n, **{k: np.array([getattr(s, k) for s in real]) for k in ("checksum", "size", "moments")}}


def _unpacked(saved: Mapping[str, Any]) -> list[Seen | None]:
    rest = zip(saved["checksum"], saved["size"], saved["moments"], strict=True)
    return [None if n < 0 else Seen(int(n), *next(rest)) for n in saved["n"]]
