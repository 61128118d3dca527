"""What a recipe asks of the data: an :class:`Evaluator` over L >= 1 data sets, and what it answers.

A fit knows nothing of where the data lie.  An evaluator sums over rows in memory, over chunks on host threads, over many
data sets side by side, over partitions of a table; the recipe asks all of them the same questions, in log-likelihood
units.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Literal, NamedTuple, Protocol, TypeVar, runtime_checkable

import jax.numpy as jnp
import numpy as np

from mlejax.data import Prepared
from mlejax.objective.objective import Objective, Spec
from mlejax.optimize import Method, OptimizeResult
from mlejax.shapes import Either, Float, Host, Int, PyTree, Shaped

Points = Mapping[int, Float[Host, "m p"]]
FromData = Callable[[Int[Host, " m"], Prepared], Float[Host, "m *points p"]]
Report = Callable[[int, float, float], None]
Task = Callable[[Objective, Any], Any]
E = TypeVar("E", bound="SearchEvaluator")


class Evaluation(NamedTuple):
    """The (penalised) log-likelihood of m data sets with its derivatives in u, summed and weighted.

    Attributes:
        u: where they were evaluated, (m, p).
        loglik: (m,).
        score: (m, p), or None where only values were asked for.
        information: minus the Hessian, (m, p, p), or None.  Where p is large it may be an array of `Symmetric` objects (m,).
    """

    u: Float[Host, "m p"]
    loglik: Float[Host, " m"]
    score: Float[Host, "m p"] | None = None
    information: Float[Host, "m p p"] | Shaped[Host, " m"] | None = None


@runtime_checkable
class SearchEvaluator(Protocol):
    """L >= 1 data sets of one specification, as a search and the check of its end ask for them."""

    @property
    def spec(self) -> Spec:
        """What is fixed at compilation."""
        ...

    @property
    def n_sets(self) -> int:
        """L."""
        ...

    def with_spec(self: E, spec: Spec) -> E:
        """The same data under another specification of equal layout: without the penalty, or with differenced Hessians."""
        ...

    def evaluate(
        self, u: Float[Host, "m p"], order: Literal[0, 1, 2] = 2, which: Int[Host, " m"] | None = None
    ) -> Evaluation:
        """Values (order 0), scores (1) and information (2) of the data sets ``which`` (default: all), each at its own u."""
        ...

    def run(
        self,
        method: Method,
        u0: Float[Host, "L p"],
        which: Int[Host, " m"] | None = None,
        report: Report | None = None,
    ) -> OptimizeResult:
        """The method from u0 to its end, for the data sets ``which``; arrays of all L, INTERRUPTED where nothing ran."""
        ...


@runtime_checkable
class Evaluator(SearchEvaluator, Protocol):
    """L >= 1 data sets of one specification, with what choosing starts and diagnosis ask for besides."""

    @property
    def total_weights(self) -> Float[Host, " L"]:
        """The sum of the weights of each data set."""
        ...

    def evaluate(
        self, u: Float[Host, "m p"] | FromData, order: Literal[0, 1, 2] = 2, which: Int[Host, " m"] | None = None
    ) -> Evaluation:
        """As of a search; ``u`` may be a function of (numbers of some data sets, their data with a leading axis) as well."""
        ...

    def best(
        self, points: FromData, which: Int[Host, " m"] | None = None, n_rows: int | None = None
    ) -> Float[Host, "m p"]:
        """Of the points (m, k, p) that are made of the data the most likely one for each, on at most ``n_rows`` rows."""
        ...

    def logliks(self, points: Points) -> dict[int, Float[Host, " m"]]:
        """Log-likelihoods of some data sets, by number, each at many points of its own."""
        ...


@runtime_checkable
class SingleEvaluator(Evaluator, Protocol):
    """One data set, wherever its rows lie: what the diagnosis asks beyond sums."""

    @property
    def fixed(self) -> Float[Host, " v"] | None:
        """Values under ``fixed=``, or None."""
        ...

    @property
    def hyper(self) -> PyTree:
        """Second argument of the penalty, or None."""
        ...

    @property
    def n_contributions(self) -> int:
        """How many contributions the log-likelihood sums: rows, units, or the entries of a whole model."""
        ...

    def map_reduce(self, task: Task, merge: Callable[[Any, Any], Any], u: Float[Host, " p"]) -> PyTree:
        """Any statistic of all rows: ``task(objective of a partition, u)`` for every partition, merged in pairs.

        Args:
            task: a pure traced function at the top of a module, for which a program is compiled once; a pytree of arrays.
            merge: associative; of what two neighbouring partitions gave, in their order, NumPy.
            u: where, (p,).
        """
        ...

    def sample(self, n_rows: int) -> Prepared:
        """At most ``n_rows`` rows (or units) spread over the data, with weights under which they stand for all; models of
        mode "whole" as they are."""
        ...


class RowTerms(NamedTuple):
    """What each contribution adds, unweighted, in the order of the rows.

    Attributes:
        values: contributions to the log-likelihood, (n,).
        scores: their gradients in u, (n, p).
        weights: (n,).
    """

    values: Float[Host, " n"]
    scores: Float[Host, "n p"]
    weights: Float[Host, " n"]


def _padded_terms(objective: Objective, u: Either) -> tuple[Any, ...]:
    """As `RowTerms`, and flags of the rows that are no padding."""
    data = objective.prepared
    real = jnp.arange(data.n_padded) < (data.n_padded if data.mode == "whole" else data.n)
    return *objective.values_and_scores(u), data.weights, real


def _joined(a: tuple[Any, ...], b: tuple[Any, ...]) -> tuple[Any, ...]:
    return tuple(np.concatenate(parts) for parts in zip(a, b, strict=True))


def row_terms(evaluator: SingleEvaluator, u: Float[Host, " p"]) -> RowTerms:
    """What each contribution adds at u (p,)."""
    *terms, real = evaluator.map_reduce(_padded_terms, _joined, u)
    n = int(real.sum())
    if real[:n].all():  # padding is at the end, and nothing has to be copied
        return RowTerms(*(a[:n] for a in terms))
    return RowTerms(*(a[real] for a in terms))
