"""One data set in partitions that are read in every pass: a :class:`mlejax.objective.SingleEvaluator`.

In a pass, a `Job` reads every partition, evaluates its chunks by one compiled program, and returns sums.  The sums of
partitions are merged in a fixed tree, so that the result does not depend on the order in which they arrive.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, wait
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Literal, TypeVar

import jax
import numpy as np
from jax import lax

from mlejax import linalg, optimize
from mlejax.data import DataError, Prepared
from mlejax.data.streams import Streamed, Threads
from mlejax.data.streams.cutting import Cut
from mlejax.execution import float64, kept_pool
from mlejax.objective.evaluator import Evaluation, FromData, Report, Task
from mlejax.objective.evaluators.chunked import POINTS, ChunkedEvaluator, Minimised
from mlejax.objective.objective import Objective
from mlejax.objective.passes.facts_of_passes import facts_of
from mlejax.objective.passes.jobs import EffectValues, Job
from mlejax.objective.sampling import sample_of_one, with_leading_axis
from mlejax.objective.specification import Spec, penalty_derivatives, penalty_value
from mlejax.optimize import Method, OptimizeResult
from mlejax.shapes import Either, Float, Host, PyTree

P = TypeVar("P", bound="PartitionedEvaluator")


def _score(objective: Objective, u: Either) -> PyTree:
    value, grad = objective.value_and_grad(u)
    return -value * objective.scale, -grad * objective.scale


def _logliks(objective: Objective, u: Either) -> PyTree:
    return lax.map(objective.loglik, u)


def _by_weight(objective: Objective, u: Either) -> PyTree:
    return objective.score_products(u, True)


def _by_square(objective: Objective, u: Either) -> PyTree:
    return objective.score_products(u, False)


PRODUCTS: dict[bool, Task] = {True: _by_weight, False: _by_square}
NEARLY = 1e-5  # Newton decrement, log-likelihood units, after which the next point may be the estimate


@dataclass(frozen=True)
class Curvature:
    """The task that evaluates what an optimisation method needs: summed log-likelihood, score and curvature.

    Attributes:
        method: the method with default options, since its tolerances are not a part of the program.
    """

    method: Method

    def __call__(self, objective: Objective, u: Either) -> PyTree:
        """Return log-likelihood (), score (p,) and curvature (p, p) of the objective at u, summed."""
        return objective.in_loglik_units(*self.method.evaluate(replace(objective, last=True), u))


@dataclass(frozen=True)
class CurvatureAndProducts:
    """The task that evaluates, by one program, what `Curvature` does, and sums the outer products of scores.

    Attributes:
        method: the method with default options.
        by_root: True if products are weighted by w, False by w^2.
    """

    method: Method
    by_root: bool

    def __call__(self, objective: Objective, u: Either) -> PyTree:
        """Return the result of `Curvature`, and the products (p, p)."""
        if self.method.curvature != "hessian":
            return Curvature(self.method)(objective, u), objective.score_products(u, self.by_root)
        found, products = replace(objective, last=True).with_hessian_and_products(u, self.by_root)
        return objective.in_loglik_units(*found), products


def added(a: PyTree, b: PyTree) -> PyTree:
    """Return the sum of two pytrees, entry by entry."""
    return jax.tree.map(np.add, a, b)


def in_pairs(parts: list[Any], merge: Callable[[Any, Any], Any]) -> PyTree:
    """Merge the results ``parts``, at least one, in pairs of neighbours until one is left: the order of the sums is fixed."""
    while len(parts) > 1:
        merged = [merge(a, b) for a, b in zip(parts[::2], parts[1::2], strict=False)]
        parts = merged + parts[len(merged) * 2 :]
    return parts[0]


class InPairs:
    """Results that are merged in the fixed tree of `in_pairs` as they come, so that few are kept.

    Args:
        merge: function that merges two consecutive results.
    """

    def __init__(self, merge: Callable[[Any, Any], Any]) -> None:
        self.merge = merge
        self._parts: list[tuple[int, Any]] = []

    def add(self, part: Any) -> None:
        """Merge the next result into the tree."""
        size = 1
        while self._parts and self._parts[-1][0] == size:
            part, size = self.merge(self._parts.pop()[1], part), 2 * size
        self._parts.append((size, part))

    @property
    def total(self) -> Any:
        """All results merged; there must be one."""
        total = self._parts[-1][1]
        for _, part in reversed(self._parts[:-1]):
            total = self.merge(part, total)
        return total


class SampledRows:
    """Rows in memory as chunks of the shape of a stream's, so that the program of its passes evaluates them.

    Args:
        some: the rows.
        cut: how the partitions of the stream are divided into chunks.

    Attributes:
        products_wanted: None: sums of products of scores are not computed beside others.
    """

    products_wanted: bool | None = None

    def __init__(self, some: Prepared, cut: Cut) -> None:
        self.some, self.cut = some, cut
        self.n_terms, self.sum_weights = int(some.n), some.total_weight * cut.scale

    def kept_pass(self, facts: Callable[[], Any], work: Callable[[], Any]) -> Any:
        """Return ``work()``: no results of passes over rows in memory are stored, so that ``facts`` is not used."""
        return work()

    def pass_over(self, work: Job) -> list[Any]:
        """Return the results of the job ``work`` for each chunk of the rows, in order, as NumPy arrays; the first one is
        evaluated alone, so that its program is compiled once.
        """

        def run(chunk: Prepared) -> PyTree:
            with float64():
                return jax.tree.map(np.asarray, work.of_chunk(chunk))

        first, *others = self.chunks()
        return [run(first), *kept_pool("mlejax partitions", Threads().n).map(run, others)]

    def chunks(self) -> Iterator[Prepared]:
        """Yield the chunks of the rows, in order."""
        size, some = self.cut.size, self.some
        for at in range(0, max(self.n_terms, 1), size):
            n = min(size, some.n_padded - at)
            rows, weights = some.taken(slice(at, at + n)), np.zeros(size)
            weights[:n] = some.weights[at : at + n]
            if n < size:
                rows = tuple(np.concatenate([a, np.broadcast_to(a[:1], (size - n, *a.shape[1:]))]) for a in rows)
            n_rows, cut = np.asarray(min(n, self.n_terms - at), np.int64), self.cut
            yield Prepared(rows, cut.shared, weights, n_rows, cut.layout, cut.mode, cut.block)


class PartitionedEvaluator:
    """One data set in partitions that are read in every pass; a :class:`mlejax.objective.SingleEvaluator`.

    Args:
        spec: what is compiled: likelihood, parameter space, penalty.
        rows: the partitions.
        some: a sample of their rows in memory, for starts.
        fixed: values under ``fixed=``, or None.
        hyper: second argument of the penalty, or None.
    """

    n_sets = 1

    def __init__(
        self,
        spec: Spec,
        rows: Streamed | SampledRows,
        some: Prepared,
        fixed: Host | None = None,
        hyper: PyTree = None,
    ) -> None:
        self.spec, self.some, self.fixed, self.hyper = spec, some, fixed, hyper
        self.rows: Any = rows  # those of a sample have no passes to compare, columns to add or results to keep
        self.scale = max(rows.sum_weights / rows.cut.scale, 1e-300)
        self._last: tuple[Any, Minimised] | None = None
        self._ahead: Future[None] | None = None

    def with_spec(self: P, spec: Spec) -> P:
        """Return the same data with another specification of the same parameter space."""
        if spec == self.spec:
            return self
        return type(self)(spec, self.rows, self.some, self.fixed, self.hyper)

    def of_sample(self, some: Prepared) -> PartitionedEvaluator:
        """Return an evaluator of the rows ``some`` in memory that uses the compiled program of this evaluator's passes."""
        return PartitionedEvaluator(self.spec, SampledRows(some, self.rows.cut), some, self.fixed, self.hyper)

    @property
    def total_weights(self) -> np.ndarray:
        """The sum of the weights (1,)."""
        return np.array([self.scale])

    @property
    def n_contributions(self) -> int:
        """The number of rows, or of units."""
        return self.rows.n_terms

    @cached_property
    def _plain(self) -> Spec:
        return self.spec.plain if self.spec.penalty is not None else self.spec

    def map_reduce(
        self,
        task: Task,
        merge: Callable[[Any, Any], Any],
        u: Float[Host, "*points p"],
        finish: Callable[..., Any] | None = None,
        effects: EffectValues | None = None,
    ) -> PyTree:
        """Make one pass: return ``task(objective, u)`` of every chunk, processed by ``finish`` on the host, merged; NumPy
        arrays.  The objective is without the penalty.  ``effects``: effects of levels, which the task receives in place of the
        codes in the chunk; or None.
        """
        job = Job(self._plain, self.fixed, self.rows.cut, task, merge, np.asarray(u), finish, effects)

        def facts() -> tuple[Any, ...]:
            return facts_of(self._plain, self.fixed, self.some), task, merge, np.asarray(u), finish, effects

        return self.rows.kept_pass(facts, lambda: in_pairs(self.rows.pass_over(job), merge))

    def sampled(self, n_rows: int) -> Prepared:
        """Return at most ``n_rows`` of the rows in memory, with weights under which their sums estimate those of these rows."""
        return sample_of_one(self.some, n_rows)

    def sample(self, n_rows: int) -> Prepared:
        """Return at most ``n_rows`` of the rows in memory, with weights under which their sums estimate those of all rows."""
        some = self.sampled(n_rows)
        return replace(some, weights=np.asarray(some.weights) * (self.scale / max(some.total_weight, 1e-300)))

    def evaluate(self, u: Host | FromData, order: Literal[0, 1, 2] = 2, which: Host | None = None) -> Evaluation:
        """Return the (penalised) log-likelihood, score (from order 1) and information (order 2) at u (1, p), or at the point that
        ``u(which, data)`` makes of the sample; ``which`` is not used.
        """
        u = u(np.zeros(1, np.int64), with_leading_axis(self.some)) if callable(u) else u
        if order == 0:
            return Evaluation(u, self.logliks({0: u})[0])
        if order == 1:
            value, score = self.map_reduce(_score, added, u[0])
            if self.spec.penalty is not None:
                more, slope, _ = self._penalty(u[0])
                value, score = value - more, score - slope
            return Evaluation(u, np.asarray(value)[None], score[None])
        value, grad, curvature = (np.asarray(a)[None] * self.scale for a in self.minimised(optimize.Newton(), u[0]))
        return Evaluation(u, -value, -grad, curvature)

    def logliks(self, points: Mapping[int, Any]) -> dict[int, np.ndarray]:
        """Return the (penalised) log-likelihoods (m,) at points (m, p), 24 points per pass."""
        at, out = points[0], []
        for i in range(0, len(at), POINTS):
            part = at[i : i + POINTS]
            values = self.map_reduce(_logliks, added, np.resize(part, (POINTS if len(at) > 1 else 1, at.shape[1])))
            out.append(np.asarray(values)[: len(part)])
        found = np.concatenate(out) if out else np.zeros(0)
        if self.spec.penalty is not None:
            found = found - [float(penalty_value(self.spec, u, self.fixed, self.hyper)) for u in at]
        return {0: found}

    def best(self, points: FromData, which: Host | None = None, n_rows: int | None = None) -> np.ndarray:
        """Return, of the points (1, m, p) that ``points(which, data)`` makes of the sample, the one with the highest
        log-likelihood on the sample, or on at most ``n_rows`` rows of it (1, p).
        """
        return ChunkedEvaluator(self.spec, self.some, self.fixed, self.hyper).best(points, which, n_rows)

    def minimised(self, method: Method, u: Host) -> Minimised:
        """Return minus the (penalised) log-likelihood over the sum of the weights (), its gradient (p,) and the curvature that
        ``method`` uses (p, p), by one pass; without a pass if the last evaluation was at u.
        """
        key = optimize.evaluating(method), np.asarray(u).tobytes()
        if self._last is None or self._last[0] != key:
            loglik, score, information = self._curvature(method, np.asarray(u))
            found = -loglik / self.scale, -score / self.scale, information / self.scale
            if self.spec.penalty is not None:
                more, slope, bend = (a / self.scale for a in self._penalty(u))
                scores = method.curvature == "opg"  # made of scores, without the penalty
                found = found[0] + more, found[1] + slope, found[2] + (np.zeros_like(bend) if scores else bend)
            self._last = key, found
        return self._last[1]

    def _penalty(self, u: Either) -> tuple[Any, ...]:
        return tuple(np.asarray(a) for a in penalty_derivatives(self.spec, u, self.fixed, self.hyper))

    def _curvature(self, method: Method, u: Host) -> tuple[Any, ...]:
        """Return the log-likelihood at u, its score and the curvature that ``method`` uses, as sums without the penalty.

        If products of scores will be needed and the search is nearly done, the same pass also sums the outer products of scores
        and keeps the sum for `products`.
        """
        if self.rows.products_wanted is None or not self._nearly_done():
            return self.map_reduce(Curvature(optimize.evaluating(method)), added, u)
        if self._ahead is not None:
            wait([self._ahead])
        found, products = self.map_reduce(self._last_task(method), added, u)
        self.rows.products = self._at(u, self.rows.products_wanted), products
        return found

    def _last_task(self, method: Method) -> Task:
        """Return the task of the last pass of a fit that needs products of scores."""
        return CurvatureAndProducts(optimize.evaluating(method), self.rows.products_wanted)

    def compile_ahead(self, method: Method) -> None:
        """Compile the program of the last pass of a fit that needs products of scores in a thread, while this one seeks a start;
        nothing if the passes are made elsewhere, or by one thread.  An error is left to the pass.
        """
        rows = self.rows
        if rows.products_wanted is None or not isinstance(rows.engine, Threads) or rows.engine.n < 2:
            return
        u = np.zeros(self.spec.space.n_free)
        job = Job(self._plain, self.fixed, rows.cut, self._last_task(method), added, u)
        chunk = next(SampledRows(self.some, rows.cut).chunks())

        def run() -> None:
            with float64():
                job.of_chunk(chunk)

        self._ahead = kept_pool("mlejax compilation", 1).submit(run)

    def _nearly_done(self) -> bool:
        """True if the last evaluation was so near a maximum that the next one is probably at the estimate."""
        if self._last is None:
            return False
        _, score, curvature = self._last[1]
        inverse = linalg.scaled_inverse(curvature)
        return inverse.ok and bool(self.scale * (score @ inverse.inverse @ score) <= NEARLY)

    def _at(self, u: Either, by_root: bool) -> tuple[Any, ...]:
        fixed = () if self.fixed is None else tuple(np.asarray(self.fixed).tolist())
        return self._plain, fixed, np.asarray(u).tobytes(), by_root

    def products(self, u: Either, by_root: bool) -> Float[Host, "p p"]:
        """Return the sum of outer products of scores at u (p, p), weighted by w (``by_root``) or w^2: the sum that the last
        pass of the fit kept, if it was at this point, else that of a further pass.
        """
        kept = self.rows.products
        if kept is not None and kept[0] == self._at(u, by_root):
            return np.asarray(kept[1])
        return np.asarray(self.map_reduce(PRODUCTS[by_root], added, np.asarray(u)))

    def run(self, method: Method, u0: Host, which: Host | None = None, report: Report | None = None) -> OptimizeResult:
        """Run the method from u0 (1, p); the result has a leading axis of length 1.

        ``which`` is not used; ``report``: function that is called after every step, or every few, with the number of
        accepted steps, the (penalised) log-likelihood over the sum of the weights, and half the Newton decrement; or None.

        Raises:
            DataError: a method without curvature.
        """
        if not method.dense:
            raise DataError(
                f"method={type(method).__name__.lower()!r} is not supported for rows of a stream, since it needs very "
                "many passes over "
                "the data: use a method with second derivatives, 'newton' or 'bhhh'"
            )
        space = self.spec.space
        bounds = (space.lower, space.upper) if space.boxed else (None, None)

        def minimised(u: Host) -> Minimised:
            with float64():
                return self.minimised(method, u)

        carry = optimize.run_on_host(method, minimised, u0[0], bounds, self.scale, report)
        end = (carry.u, -carry.f * self.scale, -carry.g * self.scale, carry.H * self.scale)
        rest = (carry.decrements, carry.mismatch, carry.n_steps, carry.status)
        return OptimizeResult._make([*map(np.asarray, (*end, *rest)), False, ""]).alone()
