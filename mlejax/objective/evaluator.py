"""The interface between a fit and its data: an :class:`Evaluator` of the log-likelihoods of L >= 1 data sets.

A fit does not depend on where the data are.  Evaluators sum over rows in memory, over chunks in threads, over many
data sets at once, or over partitions of a table; all have the same methods, in log-likelihood units.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Literal, NamedTuple, Protocol, TypeVar, runtime_checkable

import jax.numpy as jnp
import numpy as np

from mlejax.data import Prepared
from mlejax.objective.objective import Objective
from mlejax.objective.specification import Spec
from mlejax.optimize import Method, OptimizeResult
from mlejax.shapes import Either, Float, Host, Int, PyTree, Shaped

Points = Mapping[int, Float[Host, "m p"]]
FromData = Callable[[Int[Host, " m"], Prepared], Float[Host, "m *points p"]]
Report = Callable[[int, float, float], None]
Task = Callable[[Objective, Any], Any]
E = TypeVar("E", bound="SearchEvaluator")


class Evaluation(NamedTuple):
    """The (penalised) log-likelihoods of m data sets at one point each: weighted sums over rows, with derivatives in u.

    Attributes:
        u: points of evaluation, unconstrained (m, p).
        loglik: (penalised) log-likelihoods (m,).
        score: gradients in u (m, p), or None if only values were requested.
        information: minus the Hessians (m, p, p), or None.  For large p it may be an array of `Symmetric` objects (m,).
    """

    u: Float[Host, "m p"]
    loglik: Float[Host, " m"]
    score: Float[Host, "m p"] | None = None
    information: Float[Host, "m p p"] | Shaped[Host, " m"] | None = None


@runtime_checkable
class SearchEvaluator(Protocol):
    """Log-likelihoods of L >= 1 data sets of one specification: the methods that an optimiser and the check of its result
    need.
    """

    @property
    def spec(self) -> Spec:
        """What is compiled: likelihood, parameter space, penalty."""
        ...

    @property
    def n_sets(self) -> int:
        """The number L of data sets."""
        ...

    def with_spec(self: E, spec: Spec) -> E:
        """Return the same data with another specification of the same parameter space: without the penalty, or with
        differenced Hessians.
        """
        ...

    def evaluate(
        self, u: Float[Host, "m p"], order: Literal[0, 1, 2] = 2, which: Int[Host, " m"] | None = None
    ) -> Evaluation:
        """Return the (penalised) log-likelihoods of the data sets ``which`` (default: all), each at its own u; from order 1 on
        also the scores, with order 2 also the information.
        """
        ...

    def run(
        self,
        method: Method,
        u0: Float[Host, "L p"],
        which: Int[Host, " m"] | None = None,
        report: Report | None = None,
    ) -> OptimizeResult:
        """Run the method from u0 for the data sets ``which`` (None: all); return arrays over all L data sets, with status
        INTERRUPTED for those not run.

        ``report``: function that is called after every step, or every few, with the number of accepted steps, the
        (penalised) log-likelihood over the sum of the weights, and half the Newton decrement; or None.  It is not called for
        many data sets.
        """
        ...


@runtime_checkable
class Evaluator(SearchEvaluator, Protocol):
    """Log-likelihoods of L >= 1 data sets of one specification, with the methods that the choice of starts and the
    diagnosis need.
    """

    @property
    def total_weights(self) -> Float[Host, " L"]:
        """The sum of the weights of each data set (L,)."""
        ...

    def evaluate(
        self, u: Float[Host, "m p"] | FromData, order: Literal[0, 1, 2] = 2, which: Int[Host, " m"] | None = None
    ) -> Evaluation:
        """Evaluate as `SearchEvaluator.evaluate`; ``u`` may also be a function of (numbers of data sets, their data with a
        leading axis) that returns the points.
        """
        ...

    def best(
        self, points: FromData, which: Int[Host, " m"] | None = None, n_rows: int | None = None
    ) -> Float[Host, "m p"]:
        """Return, for each of the data sets ``which`` (None: all), the point with the highest log-likelihood among those
        (m, k, p) that ``points`` makes of its data, compared on at most ``n_rows`` rows (None: all).
        """
        ...

    def logliks(self, points: Points) -> dict[int, Float[Host, " m"]]:
        """Return the (penalised) log-likelihoods (m,) of some data sets, by number, each at its own points (m, p)."""
        ...


@runtime_checkable
class SingleEvaluator(Evaluator, Protocol):
    """Log-likelihood of one data set, wherever its rows are: with the further methods that the diagnosis needs."""

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
        """The number of terms of the log-likelihood: rows, units, or the terms that a model with ``rowwise=False`` returns."""
        ...

    def map_reduce(self, task: Task, merge: Callable[[Any, Any], Any], u: Float[Host, " p"]) -> PyTree:
        """Return a statistic of all rows: ``task(objective of a partition, u)`` for every partition, merged in pairs.

        Args:
            task: a pure JAX function defined at the top of a module (compiled once) that returns a pytree of arrays.
            merge: an associative function of the results of two consecutive partitions, as NumPy arrays.
            u: point of evaluation (p,).
        """
        ...

    def sample(self, n_rows: int) -> Prepared:
        """Return at most ``n_rows`` rows (or units) spread over the data, with weights under which their sums estimate
        those of all rows; data of mode "whole" are returned unchanged.
        """
        ...


class RowTerms(NamedTuple):
    """The terms of the log-likelihood and their scores, unweighted, in the order of the rows.

    Attributes:
        values: terms of the log-likelihood (n,).
        scores: gradients of the terms in u (n, p).
        weights: weights of the terms (n,).
    """

    values: Float[Host, " n"]
    scores: Float[Host, "n p"]
    weights: Float[Host, " n"]


def _padded_terms(objective: Objective, u: Either) -> tuple[Any, ...]:
    """Return values, scores and weights as in `RowTerms`, with padding, and True for the rows that are not padding."""
    data = objective.prepared
    real = jnp.arange(data.n_padded) < (data.n_padded if data.mode == "whole" else data.n)
    return *objective.values_and_scores(u), data.weights, real


def _joined(a: tuple[Any, ...], b: tuple[Any, ...]) -> tuple[Any, ...]:
    return tuple(np.concatenate(parts) for parts in zip(a, b, strict=True))


def evaluate_one(evaluator: SearchEvaluator, u: Float[Host, " p"]) -> tuple[Any, Float[Host, " p"], Any]:
    """Return the (penalised) log-likelihood (), the score (p,) and the information (p, p) of a single data set at u (p,).

    For large p the information may be a `Symmetric` object.
    """
    at = evaluator.evaluate(u[None])
    assert at.score is not None
    assert at.information is not None
    return at.loglik[0], at.score[0], at.information[0]


def row_terms(evaluator: SingleEvaluator, u: Float[Host, " p"]) -> RowTerms:
    """Return the terms of the log-likelihood at u (p,), one for each row or unit, and their scores, both unweighted, and their
    weights.
    """
    *terms, real = evaluator.map_reduce(_padded_terms, _joined, u)
    n = int(real.sum())
    if real[:n].all():  # padding is at the end, and nothing has to be copied
        return RowTerms(*(a[:n] for a in terms))
    return RowTerms(*(a[real] for a in terms))
