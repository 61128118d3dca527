"""The search for the maximising effects of all levels at points u, one evaluation after the other.

The effects at the next point are predicted from the derivatives at the last one, and Newton's method for all levels
(`mlejax.objective.elimination.inner`) begins there.
"""

from __future__ import annotations

from functools import partial

import numpy as np

from mlejax.linalg import Arrow, scaled_inverse
from mlejax.objective.elimination.eliminated import Eliminated, with_digits
from mlejax.objective.elimination.grouped import RowsByLevel
from mlejax.objective.elimination.inner import (
    LOOK_AFTER,
    WAY,
    Settled,
    Terms,
    excess,
    infinite,
    newton_steps,
    settle,
    still_to_gain,
)
from mlejax.objective.elimination.row_derivatives import ALONE, RowTermsByLevel
from mlejax.objective.elimination.streamed_levels import LastEvaluation, StreamedLevels
from mlejax.objective.specification import Spec
from mlejax.shapes import Bool, Either, Float, Host, PyTree

SHORT_WAY = 1e-5  # predicted effects are tried before others if their squared change in standard errors is at most this
SHARE = 1e-3  # error of the log-likelihood that effects may leave, as a share of its changes from the last point and to the next
EXACT = 1e-22  # Newton decrement of a level whose curvature has all digits, log-likelihood units
TOGETHER = 8  # Newton steps of effects and other parameters together, before a search
LONGEST = 2.0  # step of an effect in these
NEARLY = 1e-7  # Newton decrement, log-likelihood units, up to which they are small
FEW_MOVING = 0.1  # share of the rows whose effects may still move


class EffectsSearch:
    """The search for the maximising effects of one data set.

    Args:
        spec, fixed: what is compiled, and values under ``fixed=``.
        grouped: the rows by level.
        position: position of the column of effects.
        given: True for levels whose effect is fixed at 0 (G,).
        how: effort of the compilation.

    Attributes:
        near: the effects at the end of the last evaluation (G,).
        signs: 1 or -1 for levels whose effect was found to diverge to plus or minus infinity, 0 for all others (G,). Diverging
            effects are set to large values at which their log-likelihood is constant to rounding.
    """

    def __init__(
        self,
        spec: Spec,
        fixed: Host | None,
        grouped: RowsByLevel | StreamedLevels,
        position: int,
        given: Bool[Host, " levels"],
        how: str,
    ) -> None:
        self.spec, self.fixed, self.grouped, self.position, self.given, self.how = spec, fixed, grouped, position, given, how
        self.streamed = grouped if isinstance(grouped, StreamedLevels) else None
        self.signs, self.near = np.zeros(given.size), np.zeros(given.size)
        self._last: Eliminated | None = None
        self._known: list[Eliminated] = []  # the last two evaluations at maximising effects

    def begin_near(self, values: Float[Host, " levels"]) -> None:
        """Begin the next search at these effects."""
        self.near, self._last, self._known = np.where(self.given, 0.0, values), None, []

    def begin_at(self, known: Eliminated) -> None:
        """Let the next search begin at the effects of a known evaluation; if the search is at the u of that evaluation, return
        that one without a search.
        """
        self.begin_near(np.where(np.isfinite(known.effects), known.effects, 0.0))
        self._last, self._known = known, [known]

    def _program(self, of: str, u: Either) -> RowTermsByLevel:
        return RowTermsByLevel(of, self.how, self.spec, self.position, u, self.fixed)

    def _terms(self, u: Either, values: PyTree, some: Host | None) -> np.ndarray:
        return self.grouped.run(self._program("effect", u), values, ALONE, some)[1]

    @property
    def _free(self) -> Bool[Host, " levels"]:
        """True for levels whose effect is estimated (G,): neither fixed at 0 nor diverging."""
        return ~self.given & (self.signs == 0)

    def _predicted(self, u: Float[Host, " p"]) -> tuple[Float[Host, " levels"], bool]:
        """Return the effects at u predicted to first order from the last evaluation (G,), and True if they are probably near
        enough to the maximising ones.
        """
        values, last = self.near, self._last
        if last is None or not np.isfinite(last.arrow.border).all():
            return np.where(self.given, 0.0, values), False
        with np.errstate(all="ignore"):
            way = -(last.arrow.lever @ (u - last.u))
            squared = way**2 * last.arrow.shaft
            near = bool((squared <= SHORT_WAY).all()) or excess(squared**2) <= self._slack(u)
        return np.where(self.given, 0.0, np.where(np.isfinite(way), values + way, values)), near

    def _slack(self, u: Float[Host, " p"]) -> float:
        """Return the error of the log-likelihood at u that is allowed because the effects are not exactly those that maximise it.

        It is a small share of the change of the log-likelihood that the scores at the last evaluated points predict for a move
        to u.
        """
        return SHARE * min((abs(float(known.score @ (u - known.u))) for known in self._known), default=0.0)

    def _enough(self, terms: Float[Host, "3 levels"], slack: float) -> bool:
        """True if the search for the effects may end at effects where the levels have these ``terms``: all levels have converged,
        or one more Newton step leaves an error of at most ``slack`` in the log-likelihood.

        ``terms``: log-likelihood, score and minus the second derivative of every level.
        """
        still = newton_steps(terms, self._free)[1]
        return not still.any() or still_to_gain(terms, still) <= slack

    def _found(self, u: Float[Host, " p"], found: Settled, last: LastEvaluation, slack: float) -> bool:
        """True if the search for the effects may end at ``found``, where all derivatives were evaluated (``last``): `_enough` is
        true, and the error of the log-likelihood is a small share of the increase that the next Newton step of u predicts.
        """
        if not self._enough(found.terms, slack):
            return False
        still = newton_steps(found.terms, self._free)[1]
        if not still.any():
            return True
        at = self._made(u, found, last)
        inverse = scaled_inverse(at.information)
        gain = float(at.score @ inverse.inverse @ at.score) if inverse.ok else 0.0
        return still_to_gain(found.terms, still) <= SHARE * gain

    def _settled(
        self,
        u: Float[Host, " p"],
        terms: Terms,
        known: Settled | None = None,
        only_signs: bool = False,
        slack: float = 0.0,
    ) -> Settled:
        """Return the maximising effects at u, by Newton's method from the predicted effects, or from ``known`` effects with
        their terms; ``slack``: error of the log-likelihood up to which the search may end early, as in `settle`.

        Levels whose effect diverges are recorded in ``signs`` and get a large effect. With ``only_signs`` the search ends as
        soon as the effects of some levels are found to diverge.
        """
        values, here = (self._predicted(u)[0], None) if known is None else (known.values, known.terms)
        found = settle(terms, values, self._free, LOOK_AFTER, here, slack)
        if not found.open.any():
            return found
        signs = infinite(terms, found)
        if signs.any():
            self.signs, self._known = np.where(signs != 0, signs, self.signs), []
            found = found._replace(values=found.values + signs * WAY[-1])
            if only_signs:
                return found
        return settle(terms, found.values, self._free)

    def diverging(self, u: Float[Host, " p"]) -> Float[Host, " levels"]:
        """Search for the maximising effects at u (p,); return 1 or -1 for levels whose effect diverges to plus or minus infinity,
        0 for all others (G,).

        Afterwards ``near`` has the effects at u; for a stream those at which the search ended, as soon as some diverged.
        """
        if self.streamed is None:
            self.eliminated(u)
            return self.signs
        found, last = self._searched(u, only_signs=True)
        if self.signs.any():
            self.begin_near(found.values)
        else:
            self._keep(u, found, last)
        return self.signs

    def eliminated(self, u: Float[Host, " p"]) -> Eliminated:
        """Evaluate the log-likelihood at u (p,), maximised over the effects, with score and information, without a penalty."""
        for known in self._known:
            if np.array_equal(known.u, u):
                self._last, self.near = known, np.where(np.isfinite(known.effects), known.effects, 0.0)
                return known
        return self._keep(u, *self._searched(u))

    def exactly(self, u: Float[Host, " p"]) -> Eliminated:
        """Return what `eliminated` returns at u, with derivatives at effects that are exact to rounding, which standard errors of
        effects need.
        """
        found = self.eliminated(u)
        if not found.remaining > EXACT or found.open.any():
            return found
        terms = np.zeros((ALONE, len(found.effects)))
        return self._keep(u, Settled(found.effects, terms, found.open), self._evaluation(u))

    def without(self, u: Float[Host, " p"], gone: Bool[Host, " levels"]) -> Eliminated | None:
        """Return what `eliminated` returns at u, for the rows without the levels of the mask ``gone`` (G,): from the evaluation
        of all rows, minus the terms of these levels at the effects that it found.

        None for a stream, if no row or more than a quarter of the rows are gone, or if the difference is not finite.
        """
        found = self.eliminated(u)
        if not isinstance(self.grouped, RowsByLevel) or not self.grouped.few(gone):
            return None
        made, terms = self.grouped.run(self._program("all", u), found.effects, ALONE + len(u), gone)
        gradient, hessian = (np.sum([np.asarray(one[k]) for one in made], axis=0) for k in (0, 1))
        head = found.arrow.head + 0.5 * (hessian + hessian.T)
        arrow = Arrow(found.arrow.shaft[~gone], found.arrow.border[~gone], head)
        loglik, score = found.loglik - float(terms[0, gone].sum()), found.score - gradient
        if not (np.isfinite(loglik) and np.isfinite(score).all() and np.isfinite(arrow.schur).all()):
            return None
        effects, open_ = found.effects[~gone], found.open[~gone]
        return Eliminated(found.u, effects, loglik, *with_digits(arrow, score), arrow, open_, found.remaining)

    def _keep(self, u: Float[Host, " p"], found: Settled, last: LastEvaluation) -> Eliminated:
        last.every(found.values)
        made = self._made(u, found, last)
        self._known = [made, *self._known[:1]]
        return made

    def _searched(self, u: Float[Host, " p"], only_signs: bool = False) -> tuple[Settled, LastEvaluation]:
        """Return the maximising effects at u, and the last evaluation of all derivatives (its ``values`` are None if there was
        none); ``only_signs``: if True, end as soon as some effects are found to diverge.
        """
        values, near = self._predicted(u)
        found = Settled(values, np.zeros((ALONE, len(values))), np.zeros(len(values), bool))
        last = self._evaluation(u)
        if near or self.streamed is not None:
            last.every(values)
            found = found._replace(terms=last.terms[:ALONE])
        reached = last.values is not None and np.isfinite(last.terms).all()
        slack = self._slack(u)
        if reached and self._found(u, found, last, slack):
            return found, last
        # a pass over rows of a stream costs more than second derivatives that are not needed
        terms = partial(self._terms, u) if self.streamed is None else last.of_some
        found = self._settled(u, terms, found if reached else None, only_signs, slack)
        if found.early:
            last.every(found.values)
            found = Settled(found.values, last.terms[:ALONE], found.open)
            if not self._found(u, found, last, slack):
                found = self._settled(u, terms, found)
        return found, last

    def approached(self, u: Float[Host, " p"]) -> Float[Host, " p"]:
        """Return a start near the estimate, by Newton steps of u (p,) and the effects together, one pass over a stream each.

        They end where the steps of u are small, and those of the effects too, except in levels that together have at most a tenth
        of the rows (they may have no maximum); after 8 steps; where the information is not positive definite; or where the
        log-likelihood falls or is not finite: then at the point before.  The next inner search begins at the effects of the
        returned point.
        """
        assert self.streamed is not None
        space, before, best = self.spec.space, -np.inf, (u, self.near)
        for _ in range(TOGETHER):
            values, last = self._predicted(u)[0], self._evaluation(u)
            last.every(values)
            value = float(last.terms[0].sum())
            if not np.isfinite(last.terms).all() or not value >= before - 1e-9 * (1.0 + abs(before)):
                self.begin_near(best[1])
                return best[0]
            before, best = value, (u, values)
            step, open_ = newton_steps(last.terms[:ALONE], self._free)
            at = self._made(u, Settled(values, last.terms[:ALONE], open_), last, LONGEST)
            inverse = scaled_inverse(at.information)
            if not inverse.ok:
                return u
            onward = inverse.inverse @ at.score
            moving = last.terms[1] * step > NEARLY
            few = self.grouped.counts[moving].sum() <= FEW_MOVING * self.grouped.n_rows
            u = np.clip(u + onward, space.lower, space.upper)
            if few and at.score @ onward <= NEARLY:
                break
        return u

    def _evaluation(self, u: Float[Host, " p"]) -> LastEvaluation:
        return LastEvaluation(self.grouped, self._program("all", u), self._program("effect", u), ALONE + len(u))

    def _made(self, u: Float[Host, " p"], found: Settled, last: LastEvaluation, most: float = np.inf) -> Eliminated:
        """Return the `Eliminated` log-likelihood at u, from the derivatives ``last`` at the effects ``found``: one Newton step of
        every effect, of length ``most`` at most, is accounted for to second order.

        It is stored, and the effects at the next point are predicted from it.
        """
        terms = last.terms
        gradient, hessian = (np.sum([np.asarray(one[k]) for one in last.made], axis=0) for k in (0, 1))
        free = self._free
        step = np.clip(newton_steps(terms[:ALONE], free)[0], -most, most)
        border = np.where(free[:, None], -terms[ALONE:].T, 0.0)
        # the curvature of a level that is not sought is used by nothing: 1 keeps the matrix positive definite
        shaft = np.where(free, terms[2], 1.0)
        with np.errstate(all="ignore"):
            loglik = float(terms[0].sum() + 0.5 * (terms[1] * step).sum())
            score = gradient - border.T @ step
        values = found.values + step
        self.near = np.where(np.isfinite(values), values, 0.0)
        arrow = Arrow(shaft, border, -0.5 * (hessian + hessian.T))
        remaining = float(np.max(terms[1] * step, initial=0.0))
        self._last = Eliminated(np.array(u), values, loglik, *with_digits(arrow, score), arrow, found.open, remaining)
        return self._last

    def logliks(self, points: Float[Host, "m p"]) -> list[float]:
        """Return the log-likelihoods at m points, each maximised over the effects, without a penalty; for a stream the effects at
        all points are sought in the same passes.
        """
        if self.streamed is not None:
            programs = [self._program("effect", u) for u in points]
            return self.streamed.logliks(programs, np.array([self._predicted(u)[0] for u in points]), self._free)
        out = []
        for u in points:
            found = self._settled(u, partial(self._terms, u))
            step, _ = newton_steps(found.terms, self._free)
            out.append(float(found.terms[0].sum() + 0.5 * (found.terms[1] * step).sum()))
        return out
