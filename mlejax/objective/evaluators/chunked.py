"""One data set on the host: one compiled program that evaluates chunks of its rows, on all cores if there are many rows.

Many rows are divided into equal chunks, whose sums are added in the order of the rows:

* the program is compiled for a chunk, so that all large data sets share eight sizes, and a sample of the rows is a few
  more chunks for the same program;
* each host thread, one for each core, evaluates consecutive chunks, and the sums do not depend on the number of threads;
* chunks are views of the prepared rows; those of very large tables are views of the user's array, copied to the device
  one after the other in every pass;
* a penalty is not a part of the program: its derivatives are added to the sums, so that fits with and without a penalty share the
  program.  Bias reduction is a function of the sums over all rows and is evaluated with them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from itertools import pairwise
from typing import Any, Literal, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from mlejax import optimize
from mlejax.data import Prepared
from mlejax.execution import aligned, compiled, float64, is_aligned, kept_pool, limits, n_cores, on_cpu
from mlejax.objective.embedding import embedding
from mlejax.objective.evaluator import Evaluation, FromData, Report, Task
from mlejax.objective.evaluators.hoisting import blocks_used, hoists, with_invariants
from mlejax.objective.objective import objective_of, to_loglik
from mlejax.objective.sampling import sample_of_one, with_leading_axis
from mlejax.objective.specification import Spec, penalty_derivatives
from mlejax.optimize import Carry, Method, OptimizeResult
from mlejax.shapes import Count, Either, Float, Host, PyTree

C = TypeVar("C", bound="ChunkedEvaluator")
POINTS = 17  # points evaluated in one call of the program of `logliks`; candidates for a start are 33, 41 or 49 in small models
FEW = 64  # a sample of at most one row in so many is evaluated by programs that take little time to compile

Minimised = tuple[Any, Any, Any]  # value (), gradient (p,) and curvature (p, p) of what is minimised


def _evaluate(spec: Spec, method: Any, u: Either, data: Prepared, fixed: Either | None) -> PyTree:
    """Return, in one vector (1 + p + p^2,), because one array is fetched faster than three: minus the log-likelihood over the sum
    of the weights, its gradient, and the curvature that ``method`` uses; without a penalty.
    """
    # bias reduction differentiates the sum in reverse mode, and a GPU waits for the host at loops of unknown length
    filled = None if data.n_blocks <= 1 or spec.reduction is not None or not on_cpu() else blocks_used(data)
    value, score, curvature = method.evaluate(replace(objective_of(spec, data, fixed, None, filled), last=True), u)
    return jnp.concatenate([jnp.reshape(value, (1,)), score, jnp.reshape(curvature, (-1,))])


_PROGRAMS = {how: compiled(_evaluate, static=("spec", "method"), how=how) for how in ("quick", "hasty", "careful")}


@partial(compiled, static=("spec", "method"))
def _advance(
    spec: Spec, method: Method, carry: Carry, data: Prepared, fixed: Either | None, hyper: PyTree, n_turns: Count
) -> PyTree:
    objective = objective_of(spec, data, fixed, hyper)
    # bounds as NumPy: where all are infinite, no code for boxes is compiled
    return optimize.advance(method, objective, carry, spec.space.lower, spec.space.upper, objective.scale, n_turns)


def _logliks(spec: Spec, u: Either, data: Prepared, fixed: Either | None, hyper: PyTree) -> PyTree:
    objective = objective_of(spec, data, fixed, hyper)
    return lax.map(lambda t: -objective.value(t) * objective.scale, u, batch_size=8)


_LOGLIKS = {how: compiled(_logliks, static=("spec",), how=how) for how in ("quick", "once")}


@partial(compiled, static=("spec",))
def _value_and_grad(spec: Spec, u: Either, data: Prepared, fixed: Either | None, hyper: PyTree) -> PyTree:
    return objective_of(spec, data, fixed, hyper).value_and_grad(u)


def _mapped(spec: Spec, task: Task, u: Either, data: Prepared, fixed: Either | None, hyper: PyTree) -> PyTree:
    return task(objective_of(spec, data, fixed, hyper), u)


_MAPPED = {how: compiled(_mapped, static=("spec", "task"), how=how) for how in ("quick", "once")}


def chunk_size(data: Prepared) -> int:
    """Return the number of rows of a chunk, a multiple of the block size.

    With mode "whole", and without a limit ``limits().chunk_rows``, a chunk has all rows.  Else it has ``chunk_rows`` if the rows
    are more than 8 times as many and a multiple of it; otherwise the rows are halved until a chunk has at most ``chunk_rows``, or
    its half would not consist of whole blocks.
    """
    most, size = limits().chunk_rows, data.n_padded
    if data.mode == "whole" or most is None or size <= most:
        return size
    if size > 8 * most and size % most == 0 and most % data.block == 0:
        return most
    while size > most and size % (2 * data.block) == 0:
        size //= 2
    return size


class ChunkedEvaluator:
    """One data set in memory; a :class:`mlejax.objective.SingleEvaluator`.

    Args:
        spec: what is compiled: likelihood, parameter space, penalty.
        data: the prepared rows.
        fixed: values under ``fixed=``, or None.
        hyper: second argument of the penalty, or None.
        threads: largest number of threads; None for one for each core.
        program_of: the full data of which ``data`` is a sample, so that the program compiled for them is used.
    """

    n_sets = 1

    def __init__(
        self,
        spec: Spec,
        data: Prepared,
        fixed: Host | None,
        hyper: PyTree = None,
        *,
        threads: int | None = None,
        program_of: Prepared | None = None,
    ) -> None:
        self.spec, self.data, self.fixed, self.hyper = spec, data, fixed, hyper
        self.scale = max(data.total_weight, 1e-300)
        self._threads, self._program_of = threads, program_of
        self._chunks: Chunks | None = None
        self._last: tuple[Any, Minimised] | None = None  # the search begins where its start was evaluated
        self._embedding = embedding(spec, fixed)

    def with_spec(self: C, spec: Spec) -> C:
        """Return the same data with another specification of the same parameter space."""
        if spec == self.spec:
            return self
        return type(self)(spec, self.data, self.fixed, self.hyper, threads=self._threads, program_of=self._program_of)

    def evaluate(self, u: Host | FromData, order: Literal[0, 1, 2] = 2, which: Host | None = None) -> Evaluation:
        """Return the (penalised) log-likelihood at u (1, p), or at the point that ``u(which, data)`` returns; from ``order`` 1 on
        also the score, with 2 also the information.
        """
        u = u(np.zeros(1, np.int64), with_leading_axis(self.data)) if callable(u) else u
        if order == 0:
            return Evaluation(u, self.logliks({0: u})[0])
        if order == 1:
            value, grad = _value_and_grad(self.spec, u[0], self.data, self.fixed, self.hyper)
            found: Any = to_loglik(np.asarray(value), np.asarray(grad), None, np.float64(self.scale))
        else:
            found = to_loglik(*self.minimised(optimize.Newton(), u[0]), np.float64(self.scale))
        return Evaluation._make([u, *(None if a is None else np.asarray(a)[None] for a in found)])

    def logliks(self, points: Mapping[int, Any]) -> dict[int, np.ndarray]:
        """Return the (penalised) log-likelihoods (m,) at points (m, p)."""
        return {0: self._logliks(points[0], "quick")}

    def _logliks(self, at: Host, how: str) -> np.ndarray:
        out, spec, fixed = [], self.spec, self.fixed
        if self._embedding is not None:
            at, spec, fixed = self._embedding.full(at), self._embedding.spec, None
        for i in range(0, len(at), POINTS):
            part = np.resize(at[i : i + POINTS], (POINTS, at.shape[1]))
            values = _LOGLIKS[how](spec, part, self.data, fixed, self.hyper)
            out.append(np.asarray(values)[: len(at) - i])
        return np.concatenate(out) if out else np.zeros(0)

    def best(self, points: FromData, which: Host | None = None, n_rows: int | None = None) -> np.ndarray:
        """Return, of the points (1, m, p) that ``points(which, data)`` returns, the one with the highest log-likelihood (1,
        p).

        They are compared on at most ``n_rows`` rows.
        """
        at = points(np.zeros(1, np.int64), with_leading_axis(self.data))[0]
        some = self.data if n_rows is None else self.sample(n_rows)
        on = self if some is self.data else ChunkedEvaluator(self.spec, some, self.fixed, self.hyper)
        values = on._logliks(at, "once" if FEW * some.n_padded <= self.data.n_padded else "quick")
        return at[int(np.argmax(np.where(np.isfinite(values), values, -np.inf)))][None]

    @property
    def total_weights(self) -> np.ndarray:
        """The sum of the weights (1,)."""
        return np.array([self.scale])

    @property
    def n_contributions(self) -> int:
        """The number of terms of the log-likelihood: rows, units, or the terms that a model with ``rowwise=False`` returns."""
        return self.data.n_contributions

    def map_reduce(self, task: Task, merge: Callable[[Any, Any], Any], u: Float[Host, " p"]) -> PyTree:
        """Return ``task(objective of all rows, u)`` as NumPy arrays; there is one partition, so that nothing is merged."""
        how = "once" if self.data.n_padded * self.spec.space.n_free < limits().short_work else "quick"
        return jax.tree.map(np.asarray, _MAPPED[how](self.spec, task, u, self.data, self.fixed, self.hyper))

    def sample(self, n_rows: int) -> Prepared:
        """Return at most ``n_rows`` rows (or units), with weights under which their sums estimate those of all rows."""
        return sample_of_one(self.data, n_rows)

    def minimised(self, method: Method, u: Host) -> Minimised:
        """Return minus the (penalised) log-likelihood over the sum of the weights (), its gradient (p,) and the curvature that
        ``method`` uses (p, p), as NumPy arrays.
        """
        evaluating = optimize.evaluating(method)
        key = evaluating, np.asarray(u).tobytes()
        if self._last is None or self._last[0] != key:
            self._last = key, self._minimised(evaluating, u)
        return self._last[1]

    def _minimised(self, method: Method, u: Host) -> Minimised:
        value, grad, curvature = self._summed(method, u)
        if self.spec.penalty is None:
            return value, grad, curvature
        more, slope, bend = (
            np.asarray(a) / self.scale for a in penalty_derivatives(self.spec, u, self.fixed, self.hyper)
        )
        if method.curvature == "opg":  # made of scores, without the penalty
            bend = np.zeros_like(curvature)
        return value + more, grad + slope, curvature + bend

    def _summed(self, method: Method, u: Host) -> Minimised:
        """Return what `minimised` does, without the penalty: from the program of the full model (`embedding`) if its numbers are
        finite, else from the program of the model with fixed values.
        """
        if self._embedding is not None:
            found = self._chunked(self._embedding.spec, None).summed(method, self._embedding.full(u))
            value, grad, curvature = self._embedding.of_free(*found)
            if np.isfinite(value) and np.isfinite(grad).all() and np.isfinite(curvature).all():
                return value, grad, curvature
            self.close()
            self._embedding = None
        return self._chunked(self.spec, self.fixed).summed(method, u)

    def _chunked(self, spec: Spec, fixed: Host | None) -> Chunks:
        if self._chunks is None:
            self._chunks = Chunks(spec, self.data, fixed, self.scale, self._threads, self._program_of)
        return self._chunks

    def run(self, method: Method, u0: Host, which: Host | None = None, report: Report | None = None) -> OptimizeResult:
        """Run the method from u0 (1, p); the result has a leading axis of length 1.

        ``which`` is not used; ``report``: function that is called after every step, or every few, with the number of
        accepted steps, the (penalised) log-likelihood over the sum of the weights, and half the Newton decrement; or None.
        """
        space = self.spec.space
        if method.dense:
            bounds = (space.lower, space.upper) if space.boxed else (None, None)
            carry = optimize.run_on_host(method, partial(self.minimised, method), u0[0], bounds, self.scale, report)
            self.close()
        else:
            turns = 2 if self.data.n_padded * space.n_free > limits().dispatch_work else limits().first_dispatch
            dispatch = lambda carry, n: _advance(self.spec, method, carry, self.data, self.fixed, self.hyper, n)
            begun = optimize.begin(method, jnp.asarray(u0[0]))
            carry = optimize.run_in_dispatches(dispatch, begun, turns, report)
        curvature = np.asarray(carry.H) if method.dense else None
        found = to_loglik(np.float64(carry.f), np.asarray(carry.g), curvature, np.float64(self.scale))
        rest = carry.decrements, carry.mismatch, carry.n_steps, carry.status
        return OptimizeResult._make([np.asarray(carry.u), *found, *map(np.asarray, rest), False, ""]).alone()

    def close(self) -> None:
        """Free the device's copies of the data; the next evaluation makes them again."""
        self._chunks = None


class Chunks:
    """The rows of one data set in chunks, and the program that evaluates one chunk.

    Args:
        spec, data, fixed: what is compiled, the prepared rows, and values under ``fixed=`` or None.
        scale: the sum of the weights.
        threads: largest number of threads; None for one for each core, in either case at most ``limits().max_threads``.
        program_of: the full data of which ``data`` is a sample, or None.
    """

    def __init__(
        self,
        spec: Spec,
        data: Prepared,
        fixed: Host | None,
        scale: float,
        threads: int | None,
        program_of: Prepared | None,
    ) -> None:
        at = limits()
        size = data.n_padded if spec.reduction is not None else chunk_size(data)
        full = data if program_of is None else program_of
        self.fixed = fixed
        self.spec = spec if spec.penalty is None else replace(spec, penalty=None)
        work = full.n_padded * spec.space.n_free
        how = (
            "careful" if work >= at.long_work else "hasty" if work < at.short_work and data.mode == "rows" else "quick"
        )
        self.program = _PROGRAMS[how]
        self.chunks, self.share = [data], [1.0]
        if size != data.n_padded:
            self.chunks = _cut(data, size)
            self.share = [max(float(np.sum(c.weights)), 1e-300) / scale for c in self.chunks]
        copied = len(self.chunks) > 1 and not (data.streamed or _aligned(self.chunks))
        if copied or not on_cpu():
            self.chunks = [jax.device_put(c) for c in self.chunks]  # once, and not at every point
        self.hoists = full.n_padded > chunk_size(full) and hoists(spec, full)
        self.ahead = 1 if data.streamed else at.chunks_ahead  # copies of waiting chunks would leave the cache
        self.threads = 1
        if len(self.chunks) > 1:
            self.threads = min(n_cores() if threads is None else threads, len(self.chunks), at.max_threads)
        self.pool = kept_pool("mlejax rows", self.threads - 1) if self.threads > 1 else None
        ends = [round(i * len(self.chunks) / self.threads) for i in range(self.threads + 1)]
        self.runs = [range(a, b) for a, b in pairwise(ends)]

    def summed(self, method: Method, u: Either) -> Minimised:
        """Return minus the log-likelihood over the sum of the weights (), its gradient (p,) and the curvature that ``method``
        uses (p, p), without the penalty.
        """
        p = len(u)
        total = self.total(lambda chunk: self.program(self.spec, method, u, chunk, self.fixed))
        return total[0], total[1 : p + 1], total[p + 1 :].reshape(p, p)

    def total(self, program: Callable[[Prepared], Any]) -> np.ndarray:
        """Return the mean over all chunks of the array that a program returns for a chunk, each chunk weighted by the sum of its
        weights.
        """
        waiting = [self.pool.submit(self._in_thread, program, run) for run in self.runs[1:]] if self.pool else []
        found = self._run(program, self.runs[0])
        for other in waiting:
            found += other.result()
        return (
            found[0]
            if len(found) == 1
            else np.asarray(sum(w * part for w, part in zip(self.share, found, strict=True)))
        )

    def _in_thread(self, program: Callable[[Prepared], Any], run: range) -> list[np.ndarray]:
        with float64():  # a thread does not inherit the scope that it was started in
            return self._run(program, run)

    def _run(self, program: Callable[[Prepared], Any], run: range) -> list[np.ndarray]:
        out: list[Any] = []
        for i in run:
            if self.hoists:
                self.chunks[i] = with_invariants(self.spec, self.chunks[i])
            out.append(program(self.chunks[i]))
            if len(out) > self.ahead:
                out[-1 - self.ahead] = np.asarray(out[-1 - self.ahead])
        return [np.asarray(found) for found in out]


def _aligned(chunks: list[Prepared]) -> bool:
    """True if programs read these chunks in place; otherwise each call would copy them."""
    return all(is_aligned(a) for c in chunks for a in (*c.rows, c.weights) if isinstance(a, np.ndarray))


def _cut(data: Prepared, size: int) -> list[Prepared]:
    """Return chunks of ``size`` rows each as views, in the order of the rows, without chunks that are only padding; the blocks of
    padding in the last one are not evaluated, since its ``n`` is the number of its rows.
    """
    starts = range(0, int(data.n), size)
    left = [np.asarray(min(int(data.n) - at, size), np.int64) for at in starts]
    runs = [slice(at, at + size) for at in starts]
    return [replace(data, rows=data.taken(r), weights=data.weights[r], n=n) for r, n in zip(runs, left, strict=True)]


def sample_chunks(data: Prepared, n: int, pieces: int, skip: float = 0.0, n_blocks: int | None = None) -> Prepared:
    """Return a sample of n chunks (a power of two) made of equal pieces of consecutive rows (or units), spread over the
    data.

    Args:
        data: the data, with more real rows than n chunks.
        n: number of chunks.
        pieces: number of pieces; the rows of a chunk must be a multiple of it.
        skip: shift of the pieces, from 0 to 1, as a share of their distance: another value gives other rows, as long as
            the gaps are longer than the pieces.
        n_blocks: fill only this many blocks with rows; the rest of the chunks is padding.
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
    """Return the arrays ``parts`` joined along their rows and extended by zeros to n rows, in aligned memory."""
    out = aligned((n, *parts[0].shape[1:]), parts[0].dtype)
    used = sum(map(len, parts))
    np.concatenate(parts, out=out[:used])
    out[used:] = 0
    return out
