"""Rounding errors of the log-likelihood, its score and its information at the final point of a search.

A negative binomial written with gamma functions is dominated by rounding errors at a dispersion of 1e-8, and a search that goes
there finds maxima in the noise.  Bounds on the rounding errors (error bars, `mlejax.objective.error_bars`) show it.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np

from mlejax import linalg
from mlejax.fit.diagnose import ends
from mlejax.fit.diagnose.directions.falls import falls_as_it_should
from mlejax.fit.maximise.maximise import maximise
from mlejax.objective import SearchEvaluator, SingleEvaluator, evaluate_one
from mlejax.objective.error_bars import MOST_ROWS, ErrorBars, Unknown, error_bars, loglik_bar
from mlejax.optimize import Newton, OptimizeResult
from mlejax.parameters import Space
from mlejax.shapes import Bool, Float, Host, Int
from mlejax.status import End
from mlejax.verdict import SMALL_DECREMENT

FAR = 5.0  # logarithms and logits, from the start, beyond which digits are looked at
EXTREME = 12.0  # logarithms and logits, from 0, beyond which they are wherever the search began
NEARER = 1e-3  # share of the start's distance to a bound, below which they are, and the reverse
ALLOWED = 0.01  # error bar of the log-likelihood, and of score and information in standard errors
HALF = 0.5  # error bar of a log-likelihood, above which it is no number to show
FAR_BELOW = 1e-3  # error bar over a rise, below which it is one though single units are lost
LEAST_SHARE = 0.1  # error bar over a gain, above which the gain is not believed
UNEXPLAINED = 3e-3  # `OptimizeResult.mismatch` above which the digits are looked at: good ones give 1e-4 and less
FLAT_NOISE = 1e-9  # scaled curvature, of which flat directions of healthy formulas have much less
VANISHES = 1e-14  # decrement of a score that is 0 to 1e-7 standard errors
BESIDE = 1e-3  # standard errors from an end at which its score is looked at
OF_ROOM = 0.01  # share of the distance to the nearest bound, the farthest
AT_ONCE = 1e-9  # decrements above this, whose square is so many times the next one, ended faster than Newton's method does


def suspect(
    evaluator: SearchEvaluator, result: OptimizeResult, u0: Float[Host, "L p"], among: Bool[Host, " L"] | None = None
) -> Bool[Host, " L"]:
    """Return a boolean mask, (L,), of the final points at which rounding errors may be large.

    These are points where the information does not explain how the score changed during the search, or a transformed coordinate
    moved far, or the score vanished at once after a point where the log-likelihood was not concave.  These checks cost nothing;
    error bars, which decide, cost about as much as a fit.  If the search ended at its start, or the score vanished faster than
    quadratically, the score is evaluated 0.001 standard errors away, to see whether the information explains the difference.

    Args:
        evaluator: evaluator of the L data sets.
        result: their final points.
        u0: starts of the searches, (L, p).
        among: mask, (L,), of the points for which that further evaluation may be made; default all.
    """
    with np.errstate(invalid="ignore"):
        other = far_from_start(result.u, u0, evaluator.spec.space).any(axis=-1) | _vanished_at_once(result)
        doubted = np.asarray(other | ~(result.mismatch <= UNEXPLAINED))
        still = (np.isinf(result.mismatch) | _sudden(result)) & ~other & (result.decrement <= VANISHES)
    which = np.flatnonzero(still if among is None else still & among)
    if which.size:
        doubted[which] = ~_explained_beside(evaluator, result, which)
    return doubted


def _explained_beside(evaluator: SearchEvaluator, result: OptimizeResult, which: Int[Host, " m"]) -> Bool[Host, " m"]:
    """Return a boolean mask, (m,), of the final points of data sets ``which`` at which the information explains the change of
    the score over 0.001 standard errors, or over a hundredth of the distance to a bound that is nearer than 0.1 standard
    errors.

    A log-likelihood that is skewed on that scale (of a small standard deviation, whose error is many times its size) is tried
    to both sides. Coordinates at a bound are fixed there, as in the standard errors of the others. False for all if, for one of
    the data sets, the information of the other coordinates is not positive definite; True for all without an information matrix
    or without coordinates.
    """
    if not isinstance(result.information, np.ndarray) or not result.u.shape[-1]:
        return np.ones(which.size, bool)
    space, u = evaluator.spec.space, result.u[which]
    free = ends.interior(space, u)
    information = np.where(free[:, :, None] & free[:, None, :], result.information[which], np.eye(u.shape[-1]))
    try:
        factor = np.linalg.cholesky(information)
    except np.linalg.LinAlgError:
        return np.zeros(which.size, bool)
    step = np.linalg.solve(factor.transpose(0, 2, 1), BESIDE * free[:, :, None])[:, :, 0]
    if space.boxed:
        room = np.where(free, np.minimum(u - space.lower, space.upper - u), np.inf)
        step *= np.minimum(1.0, OF_ROOM * (room / np.maximum(np.abs(step), 1e-300)).min(axis=1))[:, None]
    allowed = UNEXPLAINED * np.abs(np.einsum("mji,mj->mi", factor, step)).max(axis=1)

    def score(u: Float[Host, "k p"], sets: Int[Host, " k"]) -> Float[Host, "k p"]:
        found = evaluator.evaluate(u, 1, sets).score
        assert found is not None
        return found

    def explained(change: Float[Host, "k p"], sets: Any) -> Bool[Host, " k"]:
        rest = np.where(free[sets], change, 0.0)[:, :, None] + information[sets] @ step[sets][:, :, None]
        with np.errstate(invalid="ignore"):
            return np.abs(np.linalg.solve(factor[sets], rest)[:, :, 0]).max(axis=1) <= allowed[sets]

    beside = score(u + step, which)
    good = explained(beside - result.score[which], slice(None))
    skewed = np.flatnonzero(~good)
    if skewed.size:
        good[skewed] = explained(0.5 * (beside[skewed] - score((u - step)[skewed], which[skewed])), skewed)
    return good


def _vanished_at_once(result: OptimizeResult) -> Bool[Host, "*sets"]:
    """True for searches whose Newton decrement went at once from infinite (not concave) to at most 1e-14."""
    before, after = result.decrements[..., :-1], result.decrements[..., 1:]
    return np.asarray((_steps_seen(result)[..., :-1] & np.isinf(before) & (after <= VANISHES)).any(axis=-1))


def _sudden(result: OptimizeResult) -> Bool[Host, "*sets"]:
    """True for searches whose last decrements fell far faster than quadratically, or from infinite (not concave) to tiny."""
    before, after = result.decrements[..., :-1], result.decrements[..., 1:]
    with np.errstate(invalid="ignore", over="ignore"):
        faster = (before > AT_ONCE) & (after <= AT_ONCE * before**2)  # also where it was infinite
    return np.asarray((_steps_seen(result)[..., :-1] & faster).any(axis=-1))


def _steps_seen(result: OptimizeResult) -> Bool[Host, "*sets history"]:
    """True for the stored decrements that the search wrote: the last n_steps + 1 entries of each history."""
    length = result.decrements.shape[-1]
    return np.asarray(np.arange(length) >= length - 1 - np.asarray(result.n_steps)[..., None])


def far_from_start(u: Float[Host, "*sets p"], u0: Float[Host, "*sets p"], space: Space) -> Bool[Host, "*sets p"]:
    """Return a boolean mask, (..., p), of coordinates that moved far from their start u0.

    Logarithms and logits that moved by more than 5 or exceed 12 in size, and coordinates whose distance to a bound changed by a
    factor of more than 1000.
    """
    with np.errstate(invalid="ignore"):
        far = ends.curved(space) & ((np.abs(u - u0) > FAR) | (np.abs(u) > EXTREME))
        if space.boxed:
            near, before = (np.minimum(x - space.lower, space.upper - x) for x in (u, u0))
            far |= (near > 0) & ((near < NEARER * before) | ((before > 0) & (before < NEARER * near)))
    return np.asarray(far)


class Digits(NamedTuple):
    """Whether the rounding errors at a final point are small.

    Attributes:
        first: the error bars of log-likelihood and score are at most 0.01 (units; standard errors).
        second: the error bars of the standard errors are at most 0.01 (relative).
        worst: number of the coordinate with the largest relative error of its information.
        loglik: the error bar of the log-likelihood.
        known: the error bars of score and information are known; if not, ``first`` and ``second`` assume that they are small.
    """

    first: bool
    second: bool
    worst: int
    loglik: float
    known: bool

    @property
    def good(self) -> bool:
        """True if the error bars of the log-likelihood, the score and the standard errors are all small."""
        return self.first and self.second


def lost(evaluator: SingleEvaluator, end: OptimizeResult) -> bool:
    """True if an error bar exceeds 0.01: of the log-likelihood, of the score in standard errors, or of a standard error.

    False also if the error bars are not known.
    """
    found = digits(evaluator, end)
    return found is not None and not found.good


def digits(evaluator: SingleEvaluator, end: OptimizeResult, held: int | None = None) -> Digits | None:
    """Return a `Digits`: whether rounding errors at a final point are small, by their error bars; None if not even that of the
    log-likelihood is known.

    ``held``: number of a coordinate that is not estimated, whose score and information may have any error.
    """
    bars = _bars(evaluator, end.u)
    if bars is None:
        return None
    free = ends.interior(evaluator.spec.space, end.u) & (np.arange(end.u.size) != held)
    information = linalg.symmetric(end.information).block(free)
    of_information = bars.information[np.ix_(free, free)]
    with np.errstate(over="ignore", invalid="ignore"):
        share = np.nan_to_num(of_information.diagonal() / np.maximum(np.abs(information.diagonal()), 1e-300), posinf=np.inf)
    worst = int(np.flatnonzero(free)[np.argmax(share)]) if free.any() else 0
    known = not bool(np.isnan(bars.score).any())
    inverse = linalg.scaled_inverse(information)
    if not inverse.ok:
        second = bool((share <= ALLOWED).all()) and not _weakest_is_noise(information, of_information)
        return Digits(bool(bars.loglik <= ALLOWED), second, worst, float(bars.loglik), known)
    score, of_errors = _in_errors(inverse.inverse, bars.score[free], of_information)
    first = bool(bars.loglik <= ALLOWED and not (score > ALLOWED).any())  # NaN where not known
    second = not (of_errors > ALLOWED).any()
    return Digits(first, second, worst, float(bars.loglik), known)


def _in_errors(
    inverse: Float[Host, "q q"], score: Float[Host, " q"], information: Float[Host, "q q"]
) -> tuple[Float[Host, " q"], Float[Host, " q"]]:
    """Convert error bars of score and information: to shifts of the estimates in standard errors, (q,), and relative errors of
    the standard errors, (q,).  ``inverse``: the inverse information, (q, q)."""
    V, variance = np.abs(inverse), np.maximum(inverse.diagonal(), 1e-300)
    return (V @ score) / np.sqrt(variance), (V @ information @ V).diagonal() / (2.0 * variance)


def bars_of_end(evaluator: SingleEvaluator, end: OptimizeResult) -> dict[str, Any]:
    """Return the error bars at a final point, for `Verdict.evidence`.

    Returns:
        "loglik": of the log-likelihood; "score": largest effect on an estimate, in standard errors; "information": largest
        relative error of a standard error.  NaN if not known; "unknown" then holds the reasons.  The last two are NaN, too, if
        the information is not positive definite or no coordinate is off its bounds.
    """
    with np.errstate(all="ignore"):
        bars, unknown = _known(evaluator, end.u)
        free = ends.interior(evaluator.spec.space, end.u)
        inverse = linalg.scaled_inverse(linalg.symmetric(end.information).block(free))
        found = dict.fromkeys(("loglik", "score", "information"), float("nan"))
        if bars is not None:
            found["loglik"] = float(bars.loglik)
            if inverse.ok and free.any():
                relative = _in_errors(inverse.inverse, bars.score[free], bars.information[np.ix_(free, free)])
                found |= {name: float(np.max(each)) for name, each in zip(("score", "information"), relative, strict=True)}
    return found if unknown is None else {**found, "unknown": unknown.primitives or ("too many terms",)}


def _weakest_is_noise(information: Float[Host, "q q"], bars: Float[Host, "q q"]) -> bool:
    """True if the error bar of the smallest eigenvalue of the scaled information exceeds the size of that eigenvalue and 1e-9;
    False if the information is not finite.  ``bars``: error bars of the information, (q, q).
    """
    if not np.isfinite(information).all():
        return False
    d = 1.0 / np.sqrt(np.maximum(np.abs(information.diagonal()), 1e-300))
    values, vectors = np.linalg.eigh(information * d[:, None] * d)
    v = d * np.abs(vectors[:, 0])
    return bool(v @ bars @ v > max(abs(values[0]), FLAT_NOISE))


def with_differences(
    evaluator: SingleEvaluator, end: OptimizeResult, found: Digits
) -> tuple[SingleEvaluator, OptimizeResult] | None:
    """Continue with an information from finite differences of the score, if only the second derivatives are inaccurate.

    Returns:
        The evaluator and the result with that information; None if the score is inaccurate too, the information is differenced
        already, the model has fixed effects, or the differences are no better (near a bound they may cross it, and then the
        log-likelihood one standard error away does not fall by half a unit).
    """
    if not found.first or evaluator.spec.hessian == "differenced" or evaluator.spec.likelihood.effects:
        return None
    after, result = maximise(evaluator.with_spec(replace(evaluator.spec, hessian="differenced")), Newton(), end.u[None])
    again = result.of(0)
    if not linalg.all_finite(linalg.dense_each(again.information)) or lost(after, again):
        return None
    if not falls_as_it_should(after, again, found.loglik):
        return None
    return after, again._replace(n_steps=end.n_steps + again.n_steps, polished=end.polished)


def by_score(evaluator: SingleEvaluator, end: OptimizeResult) -> OptimizeResult:
    """Take further Newton steps, judged by the score alone, if rounding errors of the log-likelihood are larger than its
    increase.

    Returns ``end`` unchanged if the search did not stop for that reason, if no error bar is known, if that of the score exceeds
    0.01 standard errors, or if the information is not positive definite.
    """
    hidden = end.end in (End.STALLED, End.PRECISION_FLOOR) and end.decrement > SMALL_DECREMENT
    bars = _bars(evaluator, end.u) if hidden else None
    if bars is None or not end.decrement <= bars.loglik:
        return end
    free = ends.interior(evaluator.spec.space, end.u)
    inverse = linalg.scaled_inverse(linalg.symmetric(end.information).block(free))
    if inverse.ok and (_in_errors(inverse.inverse, bars.score[free], bars.information[np.ix_(free, free)])[0] > ALLOWED).any():
        return end
    while inverse.ok and end.decrement > SMALL_DECREMENT:
        u = end.u.copy()
        u[free] += inverse.inverse @ end.score[free]
        loglik, score, information = evaluate_one(evaluator, u)
        inverse = linalg.scaled_inverse(linalg.symmetric(information).block(free))
        decrement = score[free] @ inverse.inverse @ score[free] if inverse.ok else np.nan
        if not 0.0 <= decrement < 0.25 * end.decrement or not ends.interior(evaluator.spec.space, u)[free].all():
            break
        decrements = np.append(end.decrements[1:], decrement)
        status = End.CONVERGED if decrement <= SMALL_DECREMENT else end.end
        end = end._replace(
            u=u, loglik=loglik, score=score, information=information, decrements=decrements,
            n_steps=end.n_steps + 1, status=np.asarray(int(status), np.int32),
        )  # fmt: skip
    return end


def gain_is_real(evaluator: SingleEvaluator, u: Float[Host, " p"], gain: float) -> bool:
    """True if a gain of the log-likelihood at u, (p,), is at least ten times its rounding error there, or if that error
    is not known.
    """
    bars = _bars(evaluator, u)
    return bars is None or bars.loglik <= LEAST_SHARE * gain


def bar_of_value(evaluator: SingleEvaluator, u: Float[Host, " p"]) -> float:
    """Return the error bar of the log-likelihood at u, (p,); 0 if it is not known."""
    bars = _bars(evaluator, u)
    return 0.0 if bars is None else float(bars.loglik)


def value_is_real(evaluator: SingleEvaluator, u: Float[Host, " p"], since: Float[Host, " p"] | None = None) -> bool:
    """True if the rounding error of the log-likelihood at u, (p,), is at most half a unit, or is not known.

    With ``since``, (p,), also if it is at most a thousandth of the increase of the log-likelihood from there to u.
    """
    bars = _bars(evaluator, u)
    if bars is None or bars.loglik <= HALF:
        return True
    if since is None:
        return False
    at, before = evaluator.logliks({0: np.stack([u, since])})[0]
    return bool(bars.loglik <= FAR_BELOW * (at - before))


def rounding_in_words(evaluator: SingleEvaluator, u: Float[Host, " p"]) -> str:
    """Return a phrase on the rounding error of the log-likelihood at u, (p,), for the evidence of a verdict."""
    bars, unknown = _known(evaluator, u)
    said = "error bars" if bars is None else f"error bar of the log-likelihood {bars.loglik:.1e}"
    if unknown is None:
        return said
    why = f": no rule for {', '.join(unknown.primitives)}" if unknown.primitives else ""
    return f"{said}{' not known' if bars is None else '; of its derivatives not known'}{why}"


def _bars(evaluator: SingleEvaluator, u: Float[Host, " p"]) -> ErrorBars | None:
    """Return the error bars at u, (p,); NaN for derivatives if only the log-likelihood's is known, None if that is not known
    either.
    """
    return _known(evaluator, u)[0]


def _known(evaluator: SingleEvaluator, u: Float[Host, " p"]) -> tuple[ErrorBars | None, Unknown | None]:
    """Return the error bars at u, (p,), and the reason why some are not known (None if all are).

    Those of derivatives are NaN if only that of the log-likelihood is known; the result is None if that is not known either.
    """
    at = (evaluator.spec, evaluator.sample(MOST_ROWS), u, evaluator.fixed)
    try:
        found = error_bars(*at, n_rows=evaluator.n_contributions)
        if isinstance(found, ErrorBars):
            return found, None
        value = loglik_bar(*at, n_rows=evaluator.n_contributions)
    except TypeError:  # keys of random numbers among the constants, which NumPy does not hold
        return None, Unknown(("random keys",))
    except NotImplementedError:  # JAX has no second derivative
        return None, Unknown(("the second derivative",))
    if isinstance(value, Unknown):
        return None, value
    nothing = np.full(u.size, np.nan)
    return ErrorBars(value, nothing, np.full((u.size, u.size), np.nan)), found
