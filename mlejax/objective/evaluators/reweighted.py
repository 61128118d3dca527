"""One data set under many weight vectors, treated as many data sets that share their rows.

The rows are not copied: the linear predictors of all data sets of a block are one matrix product, and only the weights need
memory. Several starts on one data set are treated as data sets of equal weights.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Literal

import jax
import numpy as np

from mlejax.data import Prepared
from mlejax.execution import run_tasks
from mlejax.execution.chunking import Budget, budget
from mlejax.objective.blocks import budget_for
from mlejax.objective.evaluator import Evaluation, Report, SingleEvaluator
from mlejax.objective.evaluators.chunked import ChunkedEvaluator
from mlejax.objective.evaluators.data_sets import DataSetsEvaluator
from mlejax.objective.specification import Spec
from mlejax.optimize import Method, OptimizeResult
from mlejax.shapes import Float, Host, Int, PyTree
from mlejax.status import End

Weights = Float[Host, "B n"] | Callable[[Int[Host, " k"]], Float[Host, "k n"]]


@dataclass(frozen=True, eq=False)
class Reweighted:
    """Data sets that differ in their weights alone.

    Attributes:
        data: the rows of one data set on the host.
        weights: the weight vectors (B, n), or a function from numbers of vectors (k,) to the vectors (k, n), so that they need
            not all be in memory.
        n: number B of weight vectors.
        own_rows: if True, each data set has a copy of the rows, in which rows of weight 0 are replaced by a row of positive
            weight (since 0 times infinity is NaN: a row that a resample leaves out may have likelihood 0).
        in_place: False: chunks are not views of a table.
        unweighted: False: the weights of a data set need not sum to its number of terms.
    """

    data: Prepared
    weights: Weights
    n: int
    own_rows: bool = False
    in_place: bool = False
    unweighted: bool = False

    @property
    def sizes(self) -> np.ndarray:
        """The padded number of rows or units of each data set (B,)."""
        return np.full(self.n, self.data.n_padded, np.int64)

    @property
    def lengths(self) -> None:
        """None: all data sets have the same number of rows or units."""
        return None

    @property
    def total_weights(self) -> np.ndarray:
        """The sum of each weight vector (B,)."""
        return self.of(np.arange(self.n)).sum(axis=1)

    def of(self, which: np.ndarray) -> np.ndarray:
        """Return the weight vectors with the numbers ``which`` (k, n)."""
        return self.weights(which) if callable(self.weights) else self.weights[which]

    def viewable_run(self, capacity: int) -> tuple[int, int]:
        """Return (0, 0): the data sets are not stored as a table that could be read in place."""
        return 0, 0

    def data_set_bytes(self, size: int) -> int:
        """Return the bytes of one data set with this padded number of rows or units: its weights and, with ``own_rows``, its copy
        of the rows; shared rows are not counted.
        """
        rows = sum(8 * int(np.prod(leaf.shape, dtype=np.int64)) for leaf in self.data.rows)
        return 8 * size + (rows if self.own_rows else 0)

    def fetch(self, which: np.ndarray, capacity: int, *, views: bool = False) -> Prepared:
        """Return the data under the weight vectors ``which``: ``weights``, ``n`` and, with ``own_rows``, the rows have a leading
        axis (capacity, ...), the other arrays none.  Places after those of ``which`` repeat the first.  ``views`` is not used.
        """
        given = self.of(which)
        weights = np.zeros((capacity, self.data.n_padded))
        weights[: len(which), : given.shape[1]] = given
        weights[len(which) :] = weights[0]
        n = np.full(capacity, int(self.data.n))
        if not self.own_rows:
            return replace(self.data, weights=weights, n=n)
        donor = np.argmax(weights > 0, axis=1)[:, None]
        source = np.where(weights > 0, np.arange(weights.shape[1])[None, :], donor)
        rows: PyTree = jax.tree.map(lambda a: np.asarray(a)[source], self.data.rows)
        return replace(self.data, rows=rows, weights=weights, n=n)

    def single(self, i: int) -> Prepared:
        """Return the data of one weight vector, without a leading axis."""
        many = self.fetch(np.array([i]), 1)
        rows = jax.tree.map(lambda a: a[0], many.rows) if self.own_rows else many.rows
        return replace(many, rows=rows, weights=many.weights[0], n=self.data.n)


class SeparateEvaluator:
    """The data sets of `Reweighted`, evaluated one by one by the already compiled program of a single fit.

    It has the methods of a `SearchEvaluator`.  Each thread of the budget runs one data set at a time.

    Args:
        spec: what is compiled: likelihood, parameter space, penalty.
        sets: the data sets.
        budget: number of threads, and whether progress is shown.
        fixed, hyper: values under ``fixed=`` and the second argument of the penalty, common to all data sets; or None.
    """

    def __init__(
        self, spec: Spec, sets: Reweighted, budget: Budget, fixed: Host | None = None, hyper: PyTree = None
    ) -> None:
        self.spec, self.sets, self.budget, self.fixed, self.hyper = spec, sets, budget, fixed, hyper

    @property
    def n_sets(self) -> int:
        """The number L of data sets."""
        return self.sets.n

    def with_spec(self, spec: Spec) -> SeparateEvaluator:
        """Return an evaluator of the same data sets with another specification of the same parameter space."""
        return SeparateEvaluator(spec, self.sets, self.budget, self.fixed, self.hyper)

    def evaluate(
        self, u: Float[Host, "m p"], order: Literal[0, 1, 2] = 2, which: Int[Host, " m"] | None = None
    ) -> Evaluation:
        """Return the (penalised) log-likelihoods of the data sets ``which`` (default: all) at u (m, p), from order 1 on also the
        scores, with order 2 also the information.
        """
        numbers = range(self.n_sets) if which is None else which.tolist()
        one = lambda i: ChunkedEvaluator(self.spec, self.sets.single(i), self.fixed, self.hyper, threads=1)
        found = [one(i).evaluate(at[None], order) for i, at in zip(numbers, u, strict=True)]
        parts: list[Any] = [None if each[0] is None else np.concatenate(each) for each in zip(*found, strict=True)]
        return Evaluation(*parts)

    def run(
        self, method: Method, u0: Float[Host, "L p"], which: Int[Host, " m"] | None = None, report: Report | None = None
    ) -> OptimizeResult:
        """Run the method from u0 (L, p) for the data sets ``which`` (None: all), one by one; status INTERRUPTED for data sets
        that a KeyboardInterrupt stopped.  ``report`` is not used.
        """
        ends = OptimizeResult.empty(len(u0), u0.shape[1], method.dense)
        which = np.arange(self.n_sets) if which is None else which
        ends.status[which] = int(End.INTERRUPTED)

        def work(i: int) -> int:
            one = ChunkedEvaluator(self.spec, self.sets.single(i), self.fixed, self.hyper, threads=1)
            ends.put(np.array([i]), one.run(method, u0[[i]]))
            if ends.status[i] == int(End.INTERRUPTED):
                raise KeyboardInterrupt
            return 1

        run_tasks(which.tolist(), work, self.budget, "data set", len(which))
        return ends


def run_of_starts(evaluator: SingleEvaluator, method: Method, u0: Float[Host, "m p"]) -> OptimizeResult:
    """Run the method from many starts (m, p) on one data set, all together if it is in memory; status INTERRUPTED for
    starts that a KeyboardInterrupt stopped.
    """
    if not isinstance(evaluator, ChunkedEvaluator):
        return OptimizeResult.joined([evaluator.run(method, start[None]) for start in u0])
    data = jax.tree.map(np.asarray, evaluator.data)
    sets = Reweighted(data, lambda which: np.broadcast_to(data.weights, (len(which), data.n_padded)), len(u0))
    spec, fixed, hyper = evaluator.spec, evaluator.fixed, evaluator.hyper
    cut = budget_for(spec, data, sets.data_set_bytes(data.n_padded), fixed, hyper, budget(None, None))
    return DataSetsEvaluator(spec, sets, cut, fixed, hyper).run(method, u0)
