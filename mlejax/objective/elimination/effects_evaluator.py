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
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Literal

import numpy as np

from mlejax import optimize
from mlejax.data import Levels, Prepared, effect_position
from mlejax.execution import limits
from mlejax.linalg import Arrow
from mlejax.objective.elimination.grouped import RowsByLevel
from mlejax.objective.elimination.inner import LOOK_AFTER, WAY, Settled, infinite, newton_steps, settle
from mlejax.objective.elimination.row_derivatives import ALONE, by_all, by_effect, effect_scores
from mlejax.objective.evaluator import Evaluation, FromData, Report, RowTerms, Task, row_terms
from mlejax.objective.evaluators.chunked import ChunkedEvaluator
from mlejax.objective.objective import Spec, penalty_derivatives, penalty_value
from mlejax.objective.sampling import sample_of_one, with_leading_axis
from mlejax.optimize import Method, OptimizeResult
from mlejax.shapes import Bool, Either, Float, Host, PyTree

ABSORBED = 1e-11  # eigenvalues of the scaled Schur complement up to this are rounding errors
SHORT_WAY = 1e-5  # predicted effects are used without iterations if their squared change in standard errors is at most this
N_RANKED = 4096  # smallest number of rows on which starts are compared


@dataclass(frozen=True, eq=False)
class Eliminated:
    """The log-likelihood at u, maximised over the effects of all levels, with derivatives in u.

    Attributes:
        u: the other parameters, unconstrained (p,).
        effects: the maximising effects of the levels (G,).
        loglik: the log-likelihood, summed and weighted, without a penalty.
        score: gradient in u (p,).
        information: minus the Hessian in u (p, p), the Schur complement of the full information.
        arrow: the full information, effects first; the off-diagonal rows of effects that are not estimated are 0.
        open: True for levels whose maximising effect was not found (G,).
    """

    u: Float[Host, " p"]
    effects: Float[Host, " levels"]
    loglik: float
    score: Float[Host, " p"]
    information: Float[Host, "p p"]
    arrow: Arrow
    open: Bool[Host, " levels"]


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
        grouped: the same rows sorted by level, if they were sorted before.

    Attributes:
        signs: 1 or -1 for levels whose effect was found to diverge to plus or minus infinity, 0 for all others (G,). Diverging
            effects are set to large values at which their log-likelihood is constant to rounding.
    """

    n_sets = 1

    def __init__(
        self,
        spec: Spec,
        data: Prepared,
        fixed: Host | None,
        hyper: PyTree = None,
        *,
        levels: Levels,
        given: Bool[Host, " levels"] | None = None,
        grouped: RowsByLevel | None = None,
    ) -> None:
        self.spec, self.data, self.fixed, self.hyper, self.levels = spec, data, fixed, hyper, levels
        self.scale = max(data.total_weight, 1e-300)
        self.position = effect_position(data.statics, spec.likelihood.effects[0])
        self.grouped = grouped or RowsByLevel(data, levels.codes, len(levels), self.position)
        self.given = np.zeros(len(levels), bool) if given is None else given
        work = self.grouped.n_rows * max(spec.space.n_free, 1)
        self.how = "careful" if work >= limits().long_work else "quick"
        self.signs = np.zeros(len(levels))
        self._near = np.zeros(len(levels))
        self._last: Eliminated | None = None

    def with_spec(self, spec: Spec) -> EffectsEvaluator:
        """Return the same data with another specification of the same parameter space.

        ValueError for one with a differenced Hessian: the effects are eliminated by exact second derivatives.
        """
        return self if spec == self.spec else self._with(spec, self.given)

    @property
    def nearest(self) -> Float[Host, " levels"]:
        """The effects (G,) at the end of the last evaluation."""
        return self._near

    def near(self, values: Float[Host, " levels"]) -> EffectsEvaluator:
        """Return the same evaluator, with these effects as the start of its inner searches."""
        one = self._with(self.spec, self.given)
        one._near = np.where(self.given, 0.0, values)
        return one

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
        shift = self._near[given].mean() if given.any() and not self.given.any() else 0.0
        one._near, one.signs = np.where(given, 0.0, self._near - shift), self.signs
        return one

    # ---- the log-likelihood with its effects at their best

    def _terms(self, u: Either, values: PyTree, some: Host | None) -> np.ndarray:
        program = by_effect[self.how]
        return self.grouped.run(
            lambda rows: program(self.spec, self.position, u, rows, self.fixed), values, ALONE, some
        )[1]

    @property
    def _free(self) -> Bool[Host, " levels"]:
        """True for levels whose effect is estimated (G,): neither fixed at 0 nor diverging."""
        return ~self.given & (self.signs == 0)

    def _predicted(self, u: Float[Host, " p"]) -> tuple[Float[Host, " levels"], bool]:
        """Return the effects at u predicted to first order from the last evaluation (G,), and True if they need no further
        iteration.
        """
        values, last = self._near, self._last
        if last is None or not np.isfinite(last.arrow.border).all():
            return np.where(self.given, 0.0, values), False
        with np.errstate(all="ignore"):
            way = -(last.arrow.lever @ (u - last.u))
            near = bool((way**2 * last.arrow.shaft <= SHORT_WAY).all())
        return np.where(self.given, 0.0, np.where(np.isfinite(way), values + way, values)), near

    def _settled(self, u: Float[Host, " p"]) -> Settled:
        """Return the maximising effects at u, by Newton's method from the predicted effects.

        Levels whose effect diverges are recorded in ``signs`` and get a large effect.
        """
        terms = partial(self._terms, u)
        found = settle(terms, self._predicted(u)[0], self._free, LOOK_AFTER)
        if not found.open.any():
            return found
        signs = infinite(terms, found)
        if signs.any():
            self.signs = np.where(signs != 0, signs, self.signs)
            found = found._replace(values=found.values + signs * WAY[-1])
        return settle(terms, found.values, self._free)

    def eliminated(self, u: Float[Host, " p"]) -> Eliminated:
        """Evaluate the log-likelihood at u (p,), maximised over the effects, with score and information, without a penalty."""
        if self._last is not None and np.array_equal(self._last.u, u):
            return self._last
        program, p = by_all[self.how], len(u)
        every = lambda values: self.grouped.run(
            lambda rows: program(self.spec, self.position, u, rows, self.fixed), values, ALONE + p
        )
        values, near = self._predicted(u)
        found = Settled(values, np.zeros((ALONE, len(values))), np.zeros(len(values), bool))
        if near:
            made, terms = every(values)
        if not near or not np.isfinite(terms).all() or newton_steps(terms[:ALONE], self._free)[1].any():
            found = self._settled(u)
            made, terms = every(found.values)
        gradient, hessian = (np.sum([np.asarray(one[k]) for one in made], axis=0) for k in (0, 1))
        free = self._free
        step, _ = newton_steps(terms[:ALONE], free)
        border = np.where(free[:, None], -terms[ALONE:].T, 0.0)
        # the curvature of a level that is not sought is used by nothing: 1 keeps the matrix positive definite
        shaft = np.where(free, terms[2], 1.0)
        with np.errstate(all="ignore"):
            loglik = float(terms[0].sum() + 0.5 * (terms[1] * step).sum())
            score = gradient - border.T @ step
        values = found.values + step
        self._near = np.where(np.isfinite(values), values, 0.0)
        arrow = Arrow(shaft, border, -0.5 * (hessian + hessian.T))
        self._last = Eliminated(np.array(u), values, loglik, *_with_digits(arrow, score), arrow, found.open)
        return self._last

    def _loglik(self, u: Float[Host, " p"]) -> float:
        found = self._settled(u)
        step, _ = newton_steps(found.terms, self._free)
        return float(found.terms[0].sum() + 0.5 * (found.terms[1] * step).sum())

    # ---- an evaluator

    @property
    def total_weights(self) -> np.ndarray:
        """The sum of the weights (1,)."""
        return np.array([self.scale])

    @property
    def n_contributions(self) -> int:
        """The number of rows."""
        return self.data.n_contributions

    def evaluate(self, u: Host | FromData, order: Literal[0, 1, 2] = 2, which: Host | None = None) -> Evaluation:
        """Evaluate the (penalised) value, score and information at u (1, p), or at the point that ``u(which, data)`` returns.

        With order 0 only the value; ``which`` is not used.
        """
        u = np.asarray(u(np.zeros(1, np.int64), with_leading_axis(self.data)) if callable(u) else u)
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
        out = [self._loglik(np.asarray(u)) for u in points[0]]
        if self.spec.penalty is not None:
            out = [
                v - float(penalty_value(self.spec, u, self.fixed, self.hyper))
                for v, u in zip(out, points[0], strict=True)
            ]
        return {0: np.array(out)}

    def best(self, points: FromData, which: Host | None = None, n_rows: int | None = None) -> np.ndarray:
        """Return, of the points (1, m, p) that ``points(which, data)`` returns, the one with the highest log-likelihood (1,
        p).

        They are compared on the rows of random levels, about ``n_rows`` rows and at least 4096; None: on all rows.
        """
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
        one._near = self._near[there]
        return one

    def minimised(self, u: Either) -> tuple[Any, Any, Any]:
        """Return value (), gradient (p,) and Hessian (p, p) of the objective that is minimised."""
        _, value, score, information = self.evaluate(np.asarray(u)[None])
        assert score is not None
        assert information is not None
        return -value[0] / self.scale, -score[0] / self.scale, np.asarray(information[0] / self.scale, np.float64)

    def run(self, method: Method, u0: Host, which: Host | None = None, report: Report | None = None) -> OptimizeResult:
        """Run Newton's method from u0 (1, p); the result has a leading axis of length 1.

        ``which`` is not used; ``report`` is called as by `mlejax.optimize.run_on_host`.

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

    def map_reduce(self, task: Task, merge: Callable[[Any, Any], Any], u: Float[Host, " p"]) -> PyTree:
        """Return ``task(objective of all rows with the effects at u, u)`` as NumPy arrays; ``merge`` as of `ChunkedEvaluator`."""
        return ChunkedEvaluator(self.spec, self.filled(u), self.fixed, self.hyper).map_reduce(task, merge, u)

    def sample(self, n_rows: int) -> Prepared:
        """Return at most ``n_rows`` rows at the effects of the last evaluation, with weights under which their sums
        estimate those of all rows.
        """
        data = with_values(self.data, self.position, self.levels, self._near)
        return sample_of_one(data, n_rows)

    def row_terms(self, u: Float[Host, " p"]) -> RowTerms:
        """Return each row's log-likelihood at u, and its score with the effects partialled out, s_u + (C' H^-1)_g s_alpha."""
        data, found = self.filled(u), self.eliminated(u)
        plain = row_terms(ChunkedEvaluator(self.spec, data, self.fixed, self.hyper), u)
        alone = self.effect_scores(u)[:, None]
        return plain._replace(scores=plain.scores - found.arrow.lever[self.levels.codes] * alone)

    def effect_scores(self, u: Float[Host, " p"]) -> Float[Host, " n"]:
        """Return the derivative of each row's log-likelihood by the effect of its level (n,), at the maximising effects at u."""
        return np.asarray(effect_scores(self.spec, self.position, u, self.filled(u), self.fixed))[: len(self.levels.codes)]


def _with_digits(arrow: Arrow, score: Float[Host, " p"]) -> tuple[Float[Host, " p"], Float[Host, "p p"]]:
    """Return the score and the Schur complement of ``arrow`` without the directions in which that is only rounding error.

    Such a direction is collinear with the effects: a column that is constant within every level.  Both are unchanged if there is
    none, or if the Schur complement is not finite.
    """
    schur, root = arrow.schur, np.sqrt(np.abs(arrow.head.diagonal()))
    root = np.where(root > 0, root, 1.0)
    scaled = schur / np.outer(root, root)
    if not np.isfinite(scaled).all():
        return score, schur
    values, vectors = np.linalg.eigh(scaled)
    lost = np.abs(values) <= ABSORBED
    if not lost.any():
        return score, schur
    kept = vectors[:, ~lost]
    information = (kept * values[~lost]) @ kept.T * np.outer(root, root)
    alone = ~(np.abs(kept) > 1e-6).any(axis=1)
    information[alone], information[:, alone] = 0.0, 0.0  # exactly: nothing is known of these coordinates
    return root * (kept @ (kept.T @ (score / root))), information


def with_values(data: Prepared, position: int, levels: Levels, values: Float[Host, " levels"]) -> Prepared:
    """Return the data with the effect of every row in the column of effects, at ``position``, from the values by level; the
    padding has the effect of the first row of positive weight.
    """
    column = np.empty(data.n_padded)
    column[: len(levels.codes)] = values[levels.codes]
    donor = int(np.argmax(np.asarray(data.weights) > 0))
    column[len(levels.codes) :] = column[donor]
    rows = (*data.rows[:position], column, *data.rows[position + 1 :])
    return replace(data, rows=rows)
