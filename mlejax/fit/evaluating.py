"""Value, score and curvature of one data set at one point after another: one compiled program, on all cores where it pays.

Many rows are cut into equal chunks of at most 16,384, whose sums are added in the order of the rows:

* the program is compiled for the chunk, so that all large data sets share eight sizes, and a sample of the rows, from which
  a large fit starts, is a few more chunks for the same program;
* host threads, one a core, each take a run of chunks (dispatches from one thread to one CPU device follow each other), and
  the sums do not depend on how many there are;
* chunks are views of the prepared rows, so that no second copy of large data is made; of very large ones they are views of
  the user's array, copied to the device one after the other in every pass;
* a penalty is no part of the program: its derivatives are added to the sums, so that a penalised fit has the program of the
  plain one.  What reduces bias is a function of the sums over all rows, and is evaluated with them.
"""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import lru_cache, partial
from itertools import pairwise
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from mlejax import data as data_room
from mlejax import optimize
from mlejax.compiling import compiled, on_cpu
from mlejax.data import Prepared
from mlejax.fit.common import objective_of
from mlejax.fit.penalties import penalty_derivatives
from mlejax.likelihood import example_params
from mlejax.objective import Spec

Array = Any
CHUNK = 16_384
LONG = 20_000_000  # rows times parameters from which XLA may take its time over the code
SHORT = 16_384  # and up to which evaluations take next to nothing
MOST_THREADS = 8
MOST_KNOWN = 2  # times the memory of the data that what is known of them may take
AHEAD = 2  # chunks asked for before a result is waited for: waiting for each leaves the core idle in between

Evaluated = tuple[np.ndarray, np.ndarray, np.ndarray]


def _filled(data: Prepared) -> Array:
    """The number of blocks that hold rows: a sample may fill its chunk in part."""
    return jnp.minimum(-(-data.n // data.block), data.n_blocks)


def _evaluate(spec: Spec, method: Any, u: Array, data: Prepared, fixed: Any, hyper: Any) -> Array:
    """Value, score and curvature one after the other: of little data one array is fetched in half the time of three."""
    # bias reduction differentiates the sum, in reverse mode, and a GPU waits for the host at loops of unknown length
    filled = None if data.n_blocks <= 1 or spec.reduction is not None or not on_cpu() else _filled(data)
    value, score, curvature = method.evaluate(objective_of(spec, data, fixed, hyper, filled), u)
    return jnp.concatenate([jnp.reshape(value, (1,)), score, jnp.reshape(curvature, (-1,))])


_quickly = compiled(_evaluate, static=("spec", "method"))
_hastily = compiled(_evaluate, static=("spec", "method"), how="hasty")
_carefully = compiled(_evaluate, static=("spec", "method"), how="careful")


@lru_cache
def _bare(method: type) -> Any:
    """A method as it is compiled, of which tolerances and limits are no part."""
    return method()


def _exact() -> bool:
    """In a scope of double precision already, as a fit is; to enter another takes longer than to look."""
    return bool(getattr(jax.config, "jax_enable_x64"))  # noqa: B009 - not known to type checkers


def n_cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def chunk_size(data: Prepared) -> int:
    """Rows of a chunk: all of few rows; else a whole number of blocks, of which there is a power of two of chunks."""
    if data.mode == "whole" or data.n_padded <= CHUNK or not on_cpu():
        return data.n_padded
    return max(data_room.blocks(data.n_padded, CHUNK)[1], data.block)


class Evaluator:
    """What a method with curvature needs, at one point after another.

    Args:
        spec: what is compiled.
        data: the prepared rows.
        fixed, hyper: as in `objective_of`.
        threads: how many at most; None for one a core.
        like: the data of which ``data`` are a sample: the program is the one that was compiled for them.
    """

    def __init__(
        self,
        spec: Spec,
        data: Prepared,
        fixed: Any,
        hyper: Any,
        *,
        threads: int | None = None,
        like: Prepared | None = None,
    ) -> None:
        size = data.n_padded if spec.reduction is not None else chunk_size(data)
        self.whole, self.fixed, self.hyper = spec, fixed, hyper
        self.spec = spec if spec.penalty is None else replace(spec, penalty=None)
        work = (like or data).n_padded * spec.space.n_free
        self.program = _carefully if work >= LONG else _hastily if work < SHORT and data.mode == "rows" else _quickly
        self.scale = max(data.total_weight, 1e-300)
        self.chunks, self.share = [data], [1.0]
        if size != data.n_padded:
            self.chunks = _cut(data, size)
            self.share = [max(float(np.sum(c.weights)), 1e-300) / self.scale for c in self.chunks]
        copied = len(self.chunks) > 1 and not (data.streamed or _lie_well(self.chunks))
        if copied or not on_cpu():
            self.chunks = [jax.device_put(c) for c in self.chunks]  # once, and not at every point
        full = like or data
        self.splits = full.n_padded > chunk_size(full) and splits(spec, full)
        self.ahead = 1 if data.streamed else AHEAD  # copies of chunks that wait would leave the cache
        self.threads = 1
        if len(self.chunks) > 1:
            self.threads = min(n_cores() if threads is None else threads, len(self.chunks), MOST_THREADS)
        self.pool = ThreadPoolExecutor(self.threads - 1, "mlejax") if self.threads > 1 else None

    def __call__(self, method: Any, u: Any) -> Evaluated:
        """Value (), score (p,) and curvature (p, p) of the objective that is minimised, NumPy."""
        value, score, curvature = self._summed(method, u)
        if self.whole.penalty is None:
            return value, score, curvature
        with jax.enable_x64(True):
            added = penalty_derivatives(self.whole, u, self.fixed, self.hyper)
            more, slope, bend = (np.asarray(a) / self.scale for a in added)
        if isinstance(method, optimize.BHHH):  # its curvature is made of scores
            bend = np.zeros_like(curvature)
        return value + more, score + slope, curvature + bend

    def _summed(self, method: Any, u: Any) -> Evaluated:
        """The same without the penalty: sums of the chunks."""
        kind: Any = type(method)
        bare = _bare(kind)
        n, p = len(self.chunks), len(u)
        if n == 1 and _exact() and not self.splits:
            total = np.asarray(self.program(self.spec, bare, u, self.chunks[0], self.fixed, None))
        else:
            ends = [round(i * n / self.threads) for i in range(self.threads + 1)]
            runs = [range(a, b) for a, b in pairwise(ends)]
            waiting = [self.pool.submit(self._run, bare, u, run) for run in runs[1:]] if self.pool else []
            found = self._run(bare, u, runs[0])
            for other in waiting:
                found += other.result()
            total = found[0] if n == 1 else np.asarray(sum(w * part for w, part in zip(self.share, found, strict=True)))
        return total[0], total[1 : p + 1], total[p + 1 :].reshape(p, p)

    def _run(self, method: Any, u: Any, run: range) -> list[np.ndarray]:
        with jax.enable_x64(True):  # a thread does not inherit the scope that it was started in
            out: list[Any] = []
            for i in run:
                if self.splits:
                    self.chunks[i] = with_known(self.spec, self.chunks[i])
                out.append(self.program(self.spec, method, u, self.chunks[i], self.fixed, None))
                if len(out) > self.ahead:
                    out[-1 - self.ahead] = np.asarray(out[-1 - self.ahead])
            return [np.asarray(found) for found in out]

    def close(self) -> None:
        """Let the threads go."""
        if self.pool is not None:
            self.pool.shutdown(wait=False)


def _lie_well(chunks: list[Prepared]) -> bool:
    """Whether programs read these chunks where they lie; else they would be copied for each of them."""
    return all(a.ctypes.data % 64 == 0 for c in chunks for a in (*c.rows, c.weights) if isinstance(a, np.ndarray))


def splits(spec: Spec, data: Prepared) -> bool:
    """Whether a part of the contributions depends on the data alone, and is worth keeping as further columns."""
    if data.mode == "whole" or data.streamed:
        return False
    shapes = tuple((a.shape[1:], a.dtype) for a in data.rows), tuple((np.shape(a), np.result_type(a)) for a in data.shared)
    key = ("splits", data.statics, spec.space, data.block, shapes)
    memory = spec.likelihood.memory
    if key not in memory:
        with jax.enable_x64(True):
            block = tuple(jax.ShapeDtypeStruct((data.block, *a.shape[1:]), a.dtype) for a in data.rows)
            parts = spec.likelihood.split(example_params(spec.space), block, data.shared, data.statics)
        size = lambda arrays: sum(math.prod(a.shape) * a.dtype.itemsize for a in arrays)
        memory[key] = parts is not None and size(parts.shapes) <= MOST_KNOWN * size(block)
    return bool(memory[key])


def with_known(spec: Spec, data: Prepared) -> Prepared:
    """A chunk with what is known of it at all points as further arrays by row, if they are not there already."""
    if len(data.rows) > data.statics.n_leaves:
        return data
    return replace(data, rows=(*data.rows, *_known(spec, data)))


@partial(compiled, static=("spec",))
def _known(spec: Spec, data: Prepared) -> Any:
    likelihood, filled = spec.likelihood, _filled(data)
    cut = jax.tree.map(lambda a: jnp.reshape(a, (data.n_blocks, data.block, *a.shape[1:])), data.rows)

    def of(rows: Any) -> Any:
        parts = likelihood.split(example_params(spec.space), rows, data.shared, data.statics)
        return () if parts is None else parts.known(rows, data.shared)

    def block(part: Any) -> Any:
        i, rows = part
        return lax.cond(i < filled, of, lambda r: jax.tree.map(jnp.zeros_like, jax.eval_shape(of, r)), rows)

    found = lax.map(block, (jnp.arange(data.n_blocks), cut))
    return jax.tree.map(lambda a: jnp.reshape(a, (-1, *a.shape[2:])), found)


def plain_derivatives(spec: Spec, u: Array, data: Prepared, fixed: Any) -> Evaluated:
    """Log-likelihood (), score (p,) and information (p, p) in u, without penalty and bias reduction."""
    evaluate = Evaluator(spec.plain, data, fixed, None)
    try:
        value, score, curvature = evaluate(optimize.Newton(), u)
    finally:
        evaluate.close()
    return -value * evaluate.scale, -score * evaluate.scale, curvature * evaluate.scale


def _cut(data: Prepared, size: int) -> list[Prepared]:
    """Chunks of so many rows each; views, in the order of the rows; none that holds padding only."""
    runs = [slice(at, at + size) for at in range(0, int(data.n), size)]
    return [replace(data, rows=data.taken(run), weights=data.weights[run]) for run in runs]


def sample_chunks(data: Prepared, n: int, pieces: int, skip: float = 0.0, n_blocks: int | None = None) -> Prepared:
    """n chunks (a power of two) made of equal pieces of neighbouring rows (or units), spread over the data.

    Args:
        data: more real rows than n chunks have.
        pieces: how many; a chunk is a multiple of so many rows.
        skip: how far into the gaps between pieces the pieces lie, from 0 to 1: another value gives other rows, as long as
            the gaps are longer than the pieces.
        n_blocks: rows for so many blocks only; the rest of a chunk stays empty: for an `Evaluator`, which does not look at it.
    """
    full = n * chunk_size(data)
    size = (full if n_blocks is None else n_blocks * data.block) // pieces
    room = (int(data.n) - size) / pieces
    runs = [slice(b, b + size) for b in (int(room * (i + skip)) for i in range(pieces))]
    *rows, weights = (
        _joined(parts, full) for parts in zip(*((*data.taken(run), data.weights[run]) for run in runs), strict=True)
    )
    return replace(data, rows=tuple(rows), weights=weights, n=np.asarray(pieces * size, np.int64))


def _joined(parts: Sequence[np.ndarray], n: int) -> np.ndarray:
    """Pieces one after the other and zeros up to n rows, where XLA takes them as they lie."""
    out = data_room.aligned((n, *parts[0].shape[1:]), parts[0].dtype)
    used = sum(map(len, parts))
    np.concatenate(parts, out=out[:used])
    out[used:] = 0
    return out
