"""A folder that stores the results of passes over a stream, so that a fit that was killed can resume without repeating
them.

A repeated fit evaluates the same points in the same order, so that nothing else has to be stored.  The name of a file is a
hash of the point, the model (its function's code, its parameters) and the data (their size and a sample); the file also has the
checksums of all partitions, with which the next pass is compared.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from mlejax.data import Prepared
from mlejax.data.streams import Seen, Streamed
from mlejax.objective.specification import Spec
from mlejax.shapes import Either, Host

NAMES = ("loglik", "score", "information")


class Kept:
    """A folder of results of passes.

    Args:
        folder: path of the folder; it is created.
        rows: the rows of the stream.
        spec, fixed: the model, and values under ``fixed=``.
        some: a sample of the rows.
    """

    def __init__(
        self, folder: str | os.PathLike[str], rows: Streamed, spec: Spec, some: Prepared, fixed: Host | None
    ) -> None:
        self.folder, self.rows = Path(folder), rows
        self.folder.mkdir(parents=True, exist_ok=True)
        code = getattr(spec.likelihood.function, "__code__", None)
        facts = [spec.likelihood.name, spec.space.labels, rows.cut.columns, rows.n, rows.sum_weights, fixed]
        facts += [] if code is None else [code.co_code, code.co_names, code.co_varnames]
        facts += [float(np.sum(a)) for a in some.rows]
        self.digest = hashlib.sha256(repr(facts).encode())

    def sums(self, method: str, u: Either, work: Callable[[], Any]) -> tuple[Any, ...]:
        """Return the sums at u from their file; if there is none, compute them by ``work`` and write the file."""
        digest = self.digest.copy()
        digest.update(method.encode() + np.asarray(u).tobytes())
        path = self.folder / f"pass-{digest.hexdigest()[:24]}.npz"
        if path.exists():
            with np.load(path) as saved:
                if self.rows.seen is None:
                    self.rows.seen = _unpacked(saved)
                return tuple(saved[name] for name in NAMES)
        found = work()
        part = path.with_suffix(".part.npz")  # a kill in the middle of writing leaves no half file under the name
        np.savez(part, **dict(zip(NAMES, found, strict=True)), **_packed(self.rows.seen or []))
        part.replace(path)
        return tuple(found)


def _packed(seen: list[Seen | None]) -> dict[str, Any]:
    real = [s for s in seen if s is not None]
    n = np.array([-1 if s is None else s.n for s in seen])
    return {"n": n, **{k: np.array([getattr(s, k) for s in real]) for k in ("checksum", "size", "moments")}}


def _unpacked(saved: Mapping[str, Any]) -> list[Seen | None]:
    rest = zip(saved["checksum"], saved["size"], saved["moments"], strict=True)
    return [None if n < 0 else Seen(int(n), *next(rest)) for n in saved["n"]]
