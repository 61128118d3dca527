r"""One data set whose level effects are eliminated: the log-likelihood maximised over them, as a function of the other
parameters u.

With alpha(u) the maximising effects, the profile log-likelihood has the estimates and the maximum of the full log-likelihood:

.. math:: \ell_p(u) = \ell(u, \alpha(u)), \qquad
          \nabla \ell_p = s_u + C' H^{-1} s_\alpha, \qquad
          -\nabla^2 \ell_p = I_{uu} - C' H^{-1} C,

where H = diag(h_g) and C = d^2 l / d alpha du, so that the inverse of the last, a Schur complement of the full information,
is the covariance of u with the effects estimated (Patefield 1977, Sankhya B 39, 92).  The terms in s_alpha correct value and
score to second order in the remaining error of the effects.  Cost O(n p^2 + G p^2) for G levels.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from typing import Any, Literal

import numpy as np

from mlejax import optimize
from mlejax.data import Elsewhere, Levels, Prepared, effect_position
from mlejax.execution import limits
from mlejax.objective.elimination.effects_search import EffectsSearch
from mlejax.objective.elimination.eliminated import Eliminated, with_values
from mlejax.objective.elimination.grouped import RowsByLevel
from mlejax.objective.elimination.row_derivatives import effect_scores
from mlejax.objective.elimination.streamed_levels import StreamedLevels
from mlejax.objective.evaluator import Evaluation, FromData, Report, RowTerms, Task, row_terms
from mlejax.objective.evaluators.chunked import ChunkedEvaluator
from mlejax.objective.evaluators.hoisting import hoists, with_invariants
from mlejax.objective.sampling import sample_of_one, with_leading_axis
from mlejax.objective.specification import Spec, penalty_derivatives, penalty_value
from mlejax.optimize import Method, OptimizeResult
from mlejax.shapes import Bool, Either, Float, Host, PyTree

N_RANKED = 4096  # smallest number of rows on which starts are compared


class EffectsEvaluator:
    """One data set with effects of ``mle.Real(by=...)`` that are eliminated; a :class:`mlejax.objective.SingleEvaluator` of
    the other parameters.

    Args:
        spec: what is compiled: likelihood, parameter space, penalty.
        data: the prepared rows, in the user's order; of mode "rows".
        fixed: values under ``fixed=``, or None.
        hyper: second argument of the penalty, or None.
        levels: the level of each row.
        given: True for levels whose effect is fixed at 0 (G,), or None.
        grouped: the same rows sorted by level, if they were sorted before; for rows that are read in passes (``data`` has no
            rows then) their sums by level.
    """

    n_sets = 1

    def __init__(
        self,
        spec: Spec,
        data: Prepared | Elsewhere,
        fixed: Host | None,
        hyper: PyTree = None,
        *,
        levels: Levels,
        given: Bool[Host, " levels"] | None = None,
        grouped: RowsByLevel | StreamedLevels | None = None,
    ) -> None:
        self.spec, self.fixed, self.hyper, self.levels = spec, fixed, hyper, levels
        self.data: Prepared = data  # type: ignore[assignment]  # the rows of a placeholder raise where they are read
        self.position = effect_position(data.statics, spec.likelihood.effects[0])
        complete = partial(_with_invariants, spec)
        self.grouped = grouped or RowsByLevel(self.data, levels.codes, len(levels), self.position, complete)
        self.streamed = self.grouped if isinstance(self.grouped, StreamedLevels) else None
        self.scale = max(data.total_weight if self.streamed is None else self.streamed.total_weight, 1e-300)
        self.given = np.zeros(len(levels), bool) if given is None else given
        work = self.grouped.n_rows * max(spec.space.n_free, 1)
        self.how = "careful" if work >= limits().long_work else "quick"
        self._search = EffectsSearch(spec, fixed, self.grouped, self.position, self.given, self.how)

    def with_spec(self, spec: Spec) -> EffectsEvaluator:
        """Return the same data with another specification of the same parameter space.

        ValueError for one with a differenced Hessian: the effects are eliminated by exact second derivatives.
        """
        return self if spec == self.spec else self._with(spec, self.given)

    @property
    def nearest(self) -> Float[Host, " levels"]:
        """The effects (G,) at the end of the last evaluation."""
        return self._search.near

    @property
    def signs(self) -> Float[Host, " levels"]:
        """1 or -1 for levels whose effect was found to diverge to plus or minus infinity, 0 for all others (G,)."""
        return self._search.signs

    def near(self, values: Float[Host, " levels"]) -> EffectsEvaluator:
        """Return the same evaluator, with these effects as the start of its inner searches."""
        one = self._with(self.spec, self.given)
        one.begin_near(values)
        return one

    def knowing(self, at: Eliminated) -> EffectsEvaluator:
        """Return the same evaluator, which knows an evaluation and begins its inner searches there."""
        one = self._with(self.spec, self.given)
        one._search.begin_at(at)
        return one

    def begin_near(self, values: Float[Host, " levels"]) -> None:
        """Begin the next inner search at these effects."""
        self._search.begin_near(values)

    def with_given(self, given: Bool[Host, " levels"]) -> EffectsEvaluator:
        """Return the same data with the effects of some levels fixed at 0."""
        return self._with(self.spec, given)

    def _with(self, spec: Spec, given: Bool[Host, " levels"]) -> EffectsEvaluator:
        if spec.hessian == "differenced":
            raise ValueError(
                f"{spec.likelihood.name}: JAX has no second derivative of this log-likelihood, or none that is finite at the "
                f"start, and it is needed to eliminate the effects of {spec.likelihood.effects[0].by}; use functions that have "
                "one, such as those of mle.special, or give another start="
            )
        one = EffectsEvaluator(
            spec, self.data, self.fixed, self.hyper, levels=self.levels, given=given, grouped=self.grouped
        )
        shift = self.nearest[given].mean() if given.any() and not self.given.any() else 0.0
        one.begin_near(self.nearest - shift)
        one._search.signs = self.signs
        return one

    def without_levels(
        self, gone: Bool[Host, " levels"], data: Prepared, levels: Levels, u: Float[Host, " p"]
    ) -> EffectsEvaluator:
        """Return the evaluator of the data without the rows of some levels, which knows the evaluation at u.

        Args:
            gone: True for the levels that are left out (G,).
            data, levels: the rows of the other levels, with the same weights, and the level of each.
            u: where this evaluator was evaluated last (p,).
        """
        assert isinstance(self.grouped, RowsByLevel)
        grouped, given = self.grouped.without(data, levels.codes, gone), self.given[~gone]
        one = EffectsEvaluator(self.spec, data, self.fixed, self.hyper, levels=levels, given=given, grouped=grouped)
        known = self._search.without(u, gone)
        if known is None:
            one.begin_near(self.nearest[~gone])
        else:
            one._search.begin_at(known)
        return one

    def eliminated(self, u: Float[Host, " p"]) -> Eliminated:
        """Evaluate the log-likelihood at u (p,), maximised over the effects, with score and information, without a penalty."""
        return self._search.eliminated(u)

    def exactly(self, u: Float[Host, " p"]) -> Eliminated:
        """Return what `eliminated` returns at u (p,), with derivatives at effects that are exact to rounding."""
        return self._search.exactly(u)

    def diverging(self, u: Float[Host, " p"]) -> Float[Host, " levels"]:
        """Search for the maximising effects at u (p,); return 1 or -1 for levels whose effect diverges to plus or minus infinity,
        0 for all others (G,).  Afterwards ``nearest`` has the effects at which the search ended.
        """
        return self._search.diverging(u)

    def approached(self, u: Float[Host, " p"]) -> Float[Host, " p"]:
        """Return a start near the estimate from a stream, (p,): by at most eight Newton steps from u (p,), one pass each, as
        `EffectsSearch.approached` makes them.
        """
        return self._search.approached(u)

    # ---- an evaluator

    @property
    def total_weights(self) -> np.ndarray:
        """The sum of the weights (1,)."""
        return np.array([self.scale])

    @property
    def n_contributions(self) -> int:
        """The number of rows."""
        return self.data.n_contributions

    @property
    def example(self) -> Prepared:
        """Rows in memory from which candidates for the start are computed: all rows, or for a stream a sample; the values in
        the column of effects are not used.
        """
        return self.data if self.streamed is None else self.streamed.sample_rows

    def of_sample(self) -> EffectsEvaluator:
        """Return the evaluator of the sample in memory of a stream's rows."""
        assert self.streamed is not None
        rows, levels = self.streamed.sample_rows, self.streamed.sample_levels
        return EffectsEvaluator(self.spec, rows, self.fixed, self.hyper, levels=levels)

    def in_memory(self) -> tuple[EffectsEvaluator, list[tuple[str, Host]]]:
        """Return the evaluator of a stream's rows of positive weight, gathered by a pass, and for each partition its name and the
        numbers of these rows in it.
        """
        assert self.streamed is not None
        data, places = self.streamed.gathered(np.ones(len(self.levels), bool))
        levels = Levels(np.asarray(data.rows[self.position]).astype(np.int64), self.levels.labels)
        made = EffectsEvaluator(self.spec, data, self.fixed, self.hyper, levels=levels, given=self.given)
        return made.near(self.nearest), places

    def evaluate(self, u: Host | FromData, order: Literal[0, 1, 2] = 2, which: Host | None = None) -> Evaluation:
        """Return the (penalised) log-likelihood, maximised over the effects, its score and information at u (1, p), or at the
        point that ``u(which, data)`` returns.

        With order 0 only the log-likelihood; ``which`` is not used.
        """
        u = np.asarray(u(np.zeros(1, np.int64), with_leading_axis(self.example)) if callable(u) else u)
        if order == 0:
            return Evaluation(u, self.logliks({0: u})[0])
        found = self.eliminated(u[0])
        value, score, information = found.loglik, found.score, found.information
        if self.spec.penalty is not None:
            more = (np.asarray(a) for a in penalty_derivatives(self.spec, u[0], self.fixed, self.hyper))
            penalty, slope, bend = more
            value, score, information = value - float(penalty), score - slope, information + bend
        return Evaluation(u, np.array([value]), score[None], information[None])

    def logliks(self, points: Mapping[int, Any]) -> dict[int, np.ndarray]:
        """Return the (penalised) log-likelihoods (m,) at points (m, p)."""
        at = np.asarray(points[0])
        out = self._search.logliks(at)
        if self.spec.penalty is not None:
            out = [
                v - float(penalty_value(self.spec, u, self.fixed, self.hyper))
                for v, u in zip(out, points[0], strict=True)
            ]
        return {0: np.array(out)}

    def best(self, points: FromData, which: Host | None = None, n_rows: int | None = None) -> np.ndarray:
        """Return, of the points (1, m, p) that ``points(which, data)`` returns, the one with the highest log-likelihood (1,
        p).

        They are compared on the rows of random levels, about ``n_rows`` rows and at least 4096; None: on all rows.  Those of a
        stream are compared on its sample.
        """
        if self.streamed is not None:
            return self.of_sample().best(points, which, n_rows)
        at = points(np.zeros(1, np.int64), with_leading_axis(self.data))[0]
        on = self if n_rows is None else self._some(max(n_rows, N_RANKED))
        values = on.logliks({0: at})[0]
        return at[int(np.argmax(np.where(np.isfinite(values), values, -np.inf)))][None]

    def _some(self, n_rows: int) -> EffectsEvaluator:
        """Return the evaluator of the rows of some randomly chosen levels, about ``n_rows`` rows; of all if there are no more."""
        counts = self.grouped.counts
        if counts.sum() <= n_rows:
            return self
        spread = np.random.default_rng(0).permutation(counts.size)
        chosen = np.zeros(counts.size, bool)
        chosen[spread[: 1 + int(np.searchsorted(np.cumsum(counts[spread]), n_rows))]] = True
        weights = np.asarray(self.data.weights)[: len(self.levels.codes)]
        return self.weighted(np.where(chosen[self.levels.codes], weights, 0.0))

    def weighted(self, weights: Float[Host, " n"]) -> EffectsEvaluator:
        """Return the same rows with other weights; rows of weight 0 are left out, and so are levels without any other row."""
        index = np.flatnonzero(weights > 0)
        rows, there = self.data.taken(index), np.bincount(self.levels.codes[index], minlength=len(self.levels)) > 0
        some = replace(self.data, rows=rows, weights=weights[index], n=np.asarray(index.size, np.int64), block=index.size)
        levels, given = self.levels.of_rows(index), self.given[there]
        one = EffectsEvaluator(self.spec, some, self.fixed, self.hyper, levels=levels, given=given)
        one.begin_near(self.nearest[there])
        return one

    def minimised(self, u: Either) -> tuple[Any, Any, Any]:
        """Return minus the (penalised) log-likelihood, maximised over the effects, over the sum of the weights (), with its
        gradient (p,) and Hessian (p, p).
        """
        _, value, score, information = self.evaluate(np.asarray(u)[None])
        assert score is not None
        assert information is not None
        return -value[0] / self.scale, -score[0] / self.scale, np.asarray(information[0] / self.scale, np.float64)

    def run(self, method: Method, u0: Host, which: Host | None = None, report: Report | None = None) -> OptimizeResult:
        """Run Newton's method from u0 (1, p); the result has a leading axis of length 1.

        ``which`` is not used; ``report``: function that is called after every step, or every few, with the number of
        accepted steps, the (penalised) log-likelihood over the sum of the weights, and half the Newton decrement; or None.

        Raises:
            ValueError: another method.
        """
        if not isinstance(method, optimize.Newton):
            raise ValueError(
                f"method={type(method).__name__.lower()!r} is not supported with effects of "
                f"{self.spec.likelihood.effects[0].by}, "
                "which are eliminated by Newton's method; leave out method="
            )
        space = self.spec.space
        bounds = (space.lower, space.upper) if space.boxed else (None, None)
        carry: Any = optimize.run_on_host(method, self.minimised, u0[0], bounds, self.scale, report)
        end = (carry.u, -carry.f * self.scale, -carry.g * self.scale, carry.H * self.scale)
        return OptimizeResult(*end, carry.decrements, carry.mismatch, carry.n_steps, carry.status).alone()

    # ---- the rows, with the effects in their place

    def filled(self, u: Float[Host, " p"]) -> Prepared:
        """Return the rows in the user's order, with the maximising effects at u in their column."""
        return self.at_effects(self.eliminated(u).effects)

    def at_effects(self, values: Float[Host, " levels"]) -> Prepared:
        """Return the rows in the user's order, with ``values`` as the effects of the levels in their column."""
        return with_values(self.data, self.position, self.levels, values)

    def map_reduce(
        self,
        task: Task,
        merge: Callable[[Any, Any], Any],
        u: Float[Host, " p"],
        finish: Callable[..., Any] | None = None,
    ) -> PyTree:
        """Return ``task(objective of all rows, u)`` as NumPy arrays; the rows have the effects that maximise the log-likelihood
        at u.

        For a stream, ``finish`` (if given) is applied on the host to the result of every chunk, and ``merge`` makes one of two
        consecutive results; for rows in memory neither is called.
        """
        if self.streamed is not None:
            values = self.eliminated(u).effects
            return self.streamed.map_reduce(self.spec, self.fixed, u, values, task, merge, finish)
        return ChunkedEvaluator(self.spec, self.filled(u), self.fixed, self.hyper).map_reduce(task, merge, u)

    def sample(self, n_rows: int) -> Prepared:
        """Return at most ``n_rows`` rows at the effects of the last evaluation, with weights under which their sums
        estimate those of all rows.
        """
        if self.streamed is not None:
            return self.streamed.sample(self.nearest, n_rows)
        data = with_values(self.data, self.position, self.levels, self.nearest)
        return sample_of_one(data, n_rows)

    def row_terms(self, u: Float[Host, " p"]) -> RowTerms:
        """Return each row's log-likelihood at u, and its score with the effects partialled out: s_u + (d alpha / du) s_alpha,
        with s_u its score in u, s_alpha its score in the effect of its level, and alpha the effect that maximises the
        log-likelihood of that level at u.
        """
        data, found = self.filled(u), self.eliminated(u)
        plain = row_terms(ChunkedEvaluator(self.spec, data, self.fixed, self.hyper), u)
        alone = self.effect_scores(u)[:, None]
        return plain._replace(scores=plain.scores - found.arrow.lever[self.levels.codes] * alone)

    def effect_scores(self, u: Float[Host, " p"]) -> Float[Host, " n"]:
        """Return the derivative of each row's log-likelihood by the effect of its level (n,), at the maximising effects at u."""
        return np.asarray(effect_scores(self.spec, self.position, u, self.filled(u), self.fixed))[: len(self.levels.codes)]


def _with_invariants(spec: Spec, chunk: Prepared) -> Prepared:
    return with_invariants(spec, chunk) if hoists(spec, chunk) else chunk
