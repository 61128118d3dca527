"""One data set under many weight vectors, as data sets that share their rows.

The rows are neither copied nor gathered: over the data sets of a block the linear predictors are one matrix product, and
the memory is that of the weights alone.  Several starts on one data set are the case of equal weights.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import jax
import numpy as np

from mlejax.data import Prepared
from mlejax.execution.chunking import budget
from mlejax.objective.blocks import budget_for
from mlejax.objective.evaluator import SingleEvaluator
from mlejax.objective.evaluators.chunked import ChunkedEvaluator
from mlejax.objective.evaluators.data_sets import DataSetsEvaluator
from mlejax.optimize import Method, OptimizeResult
from mlejax.shapes import Float, Host, Int, PyTree

Weights = Float[Host, "B n"] | Callable[[Int[Host, " k"]], Float[Host, "k n"]]


@dataclass(frozen=True, eq=False)
class Reweighted:
    """Data sets that differ in their weights alone.

    Attributes:
        data: the rows, one data set on the host.
        weights: (B, n), or a function of the numbers of some (k,) -> (k, n), so that they need not all be in memory.
        n: how many, B.
        own_rows: every data set gets rows of its own, in which rows of weight 0 are replaced by one of positive weight
            (0 times infinity is NaN: the row that a resample leaves out may be the one that sets the support).
    """

    data: Prepared
    weights: Weights
    n: int
    own_rows: bool = False
    in_place: bool = False
    unweighted: bool = False

    @property
    def sizes(self) -> np.ndarray:
        """Padded numbers of contributions, (B,)."""
        return np.full(self.n, self.data.n_padded, np.int64)

    @property
    def lengths(self) -> None:
        """All data sets have the same number of contributions."""
        return None

    @property
    def total_weights(self) -> np.ndarray:
        """The sum of each weight vector, (B,)."""
        return self.of(np.arange(self.n)).sum(axis=1)

    def of(self, which: np.ndarray) -> np.ndarray:
        """The weights of some, (k, n)."""
        return self.weights(which) if callable(self.weights) else self.weights[which]

    def viewable_run(self, capacity: int) -> tuple[int, int]:
        """There is no table of data sets that could be read in place."""
        return 0, 0

    def data_set_bytes(self, size: int) -> int:
        """Bytes of one data set of this size."""
        rows = sum(8 * int(np.prod(leaf.shape, dtype=np.int64)) for leaf in self.data.rows)
        return 8 * size + (rows if self.own_rows else 0)

    def fetch(self, which: np.ndarray, capacity: int, *, views: bool = False) -> Prepared:
        """The data of some, with a leading axis (capacity, ...) for what each has of its own."""
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
        """The data of one, without a leading axis."""
        given = self.of(np.array([i]))[0]
        weights = np.zeros(self.data.n_padded)
        weights[: given.size] = given
        return replace(self.data, weights=weights)


def run_of_starts(evaluator: SingleEvaluator, method: Method, u0: Float[Host, "m p"]) -> OptimizeResult:
    """The method from many starts on one data set, side by side where it is in memory; INTERRUPTED where the keyboard stopped
    it."""
    if not isinstance(evaluator, ChunkedEvaluator):
        return OptimizeResult.joined([evaluator.run(method, start[None]) for start in u0])
    data = jax.tree.map(np.asarray, evaluator.data)
    sets = Reweighted(data, lambda which: np.broadcast_to(data.weights, (len(which), data.n_padded)), len(u0))
    spec, fixed, hyper = evaluator.spec, evaluator.fixed, evaluator.hyper
    cut = budget_for(spec, data, sets.data_set_bytes(data.n_padded), fixed, hyper, budget(None, None))
    return DataSetsEvaluator(spec, sets, cut, fixed, hyper).run(method, u0)
