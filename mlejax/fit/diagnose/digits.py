"""Ends where the user's formula has lost its digits: the search goes back along the coordinate that ran away.

A negative binomial written with gamma functions is rounding noise where its dispersion is 1e-8, and a search that runs there
finds maxima in the noise.  The error bars of log-likelihood, score and information (`mlejax.objective.error_bars`) show it.  Then
the coordinate that ran away is put at points on its way, and the others are maximised at each.  Among the points with good
digits the profile has a maximum, or levels off, or still rises where the digits end.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np

from mlejax import linalg
from mlejax.fit.diagnose import ends, movements, rays
from mlejax.fit.diagnose.edges import others_maximised
from mlejax.fit.diagnose.falls import falls_as_it_should
from mlejax.fit.maximise import maximise
from mlejax.objective import SingleEvaluator
from mlejax.objective.error_bars import MOST_ROWS, ErrorBars, Unknown, error_bars, loglik_bar
from mlejax.optimize import Newton, OptimizeResult
from mlejax.parameters import Space
from mlejax.shapes import Bool, Float, Host
from mlejax.status import End
from mlejax.verdict import Direction

FAR = 5.0  # logarithms and logits, from the start, beyond which digits are looked at
EXTREME = 12.0  # logarithms and logits, from 0, beyond which they are wherever the search began
NEARER = 1e-3  # share of the start's distance to an edge, below which they are
ALLOWED = 0.01  # error bar of the log-likelihood, and of score and information in standard errors
HALF = 0.5  # error bar of a log-likelihood, above which it is no number to show
LEAST_SHARE = 0.1  # error bar over a gain, above which the gain is not believed
RUNGS = 60
ALONG = 0.1  # share of the way of a coordinate that another goes which moves along with it
LONGEST = 41.0  # way of a logarithm, that many doublings
REST = 0.01  # error of what is left to rise where the log-likelihood levels off
FLAT = 1e-7  # gain of a doubling that is none
UNEXPLAINED = 3e-3  # `OptimizeResult.mismatch` above which the digits are looked at: good ones give 1e-4 and less
FLAT_NOISE = 1e-9  # scaled curvature, of which flat directions of healthy formulas have much less
VANISHES = 1e-14  # decrement of a score that is 0 to 1e-7 standard errors
END_OF_NUMBERS = 100.0  # logarithms and logits from 0, within which a formula ought to be finite
# gain of a doubling over that of the one before, below which the log-likelihood levels off: 0.5 where the rest goes like 1/x,
# 0.71 where it goes like the root of that
SHRINKS = 0.75


# What users' formulas lose digits on, and the functions that keep them: the one list for messages.
STABLE_FORMS = (
    "counts whose overdispersion or correlation goes to 0 (nb2_logpmf, betabinom_logpmf), tails that become normal (t_logpdf, "
    "t_logpdf_inverse, skewt_logpdf), shapes and powers that go through 0 (gev_logpdf, gpd_logpdf, gengamma_logpdf, boxcox), and "
    "concentrations that grow (gamma_logpdf, invgauss_logpdf, vonmises_logpdf, tweedie_logpdf)"
)
STABLE_FORM = (
    f"Fix the parameter there, or write the formula with a stable one of mle.special, which has {STABLE_FORMS}."
)
OR_ANOTHER_START = (
    f"Begin elsewhere, with another start=, or write the formula with a stable one of mle.special, which has {STABLE_FORMS}."
)
LOST_AT_START = "the formula has lost its digits where the search began and where it ended"


class Regained(NamedTuple):
    """What the points with good digits say.

    Attributes:
        point: where to go on from, (p,), if the profile has a maximum on the way; else None.
        end: the last point with good digits, as an end.
        direction: along which the log-likelihood rises, with its supremum, if it levels off; else None.
        words: what to say where it neither has a maximum nor levels off before the digits end.
        at_start: the digits were lost there already, so that nothing can be said.
        on_edge: ``end`` is the limit on a closed edge, where the log-likelihood is highest.
    """

    point: Float[Host, " p"] | None
    end: OptimizeResult
    direction: Direction | None
    words: str
    at_start: bool = False
    on_edge: bool = False


def suspect(result: OptimizeResult, u0: Float[Host, "*sets p"], space: Space) -> Bool[Host, "*sets"]:
    """Flags of the ends at which the formula may have lost its digits.

    The information there does not explain how the score changed on the way, or a coordinate went far, or the score vanished
    at once after a point that was not curved downwards.  These cost nothing to find; the error bars, which decide, cost about
    as much as a fit.  Of a search that began where it ended, it tells that the score vanishes there to many digits.
    """
    with np.errstate(invalid="ignore"):
        vanishes = np.isinf(result.mismatch) & (result.decrement <= VANISHES)
        explained = (result.mismatch <= UNEXPLAINED) | vanishes
        return np.asarray(far_from_start(result.u, u0, space).any(axis=-1) | ~explained | _vanished_at_once(result))


def _vanished_at_once(result: OptimizeResult) -> Bool[Host, "*sets"]:
    """Flags of searches whose decrement was 0 to many digits right after a point at which there was none."""
    known = np.asarray(result.decrements)
    length = known.shape[-1]
    seen = np.arange(length) >= length - 1 - np.asarray(result.n_steps)[..., None]
    before, after = known[..., :-1], known[..., 1:]
    return np.asarray((seen[..., :-1] & np.isinf(before) & (after <= VANISHES)).any(axis=-1))


def far_from_start(u: Float[Host, "*sets p"], u0: Float[Host, "*sets p"], space: Space) -> Bool[Host, "*sets p"]:
    """Flags of logarithms and logits far from where they began, and of coordinates much nearer to an edge."""
    with np.errstate(invalid="ignore"):
        far = ends.curved(space) & ((np.abs(u - u0) > FAR) | (np.abs(u) > EXTREME))
        if space.boxed:
            near = np.minimum(u - space.lower, space.upper - u)
            far |= (near > 0) & (near < NEARER * np.minimum(u0 - space.lower, space.upper - u0))
    return np.asarray(far)


class Digits(NamedTuple):
    """Which digits of an end are good.

    Attributes:
        first: those of log-likelihood and score.
        second: those of the information.
        worst: the coordinate with the fewest.
        loglik: the error bar of the log-likelihood.
        known: the bars of score and information are known; where not, their digits count as good here.
    """

    first: bool
    second: bool
    worst: int
    loglik: float
    known: bool

    @property
    def good(self) -> bool:
        """Nothing is lost."""
        return self.first and self.second


def lost(evaluator: SingleEvaluator, end: OptimizeResult) -> bool:
    """An error bar exceeds 0.01: of the log-likelihood, or of score and information in standard errors.

    False also where the rounding of an operation is not known.
    """
    found = digits(evaluator, end)
    return found is not None and not found.good


def digits(evaluator: SingleEvaluator, end: OptimizeResult) -> Digits | None:
    """The digits of an end by their error bars; None where these are not known."""
    bars = _bars(evaluator, end.u)
    if bars is None:
        return None
    free = ends.interior(evaluator.spec.space, end.u)
    information = linalg.symmetric(end.information).block(free)
    of_information = bars.information[np.ix_(free, free)]
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
    """The bars of the score in standard errors of the parameters, and those of the standard errors, relative."""
    V, variance = np.abs(inverse), np.maximum(inverse.diagonal(), 1e-300)
    return (V @ score) / np.sqrt(variance), (V @ information @ V).diagonal() / (2.0 * variance)


def bars_of_end(evaluator: SingleEvaluator, end: OptimizeResult) -> dict[str, Any]:
    """The error bars at an end: of the log-likelihood, of the score in standard errors, of the standard errors (relative).

    The last two are the largest of all parameters; NaN, with the reason under ``unknown``, where they are not known.
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
    """The curvature along the weakest direction is within its error bar, and that is more than the arithmetic alone leaves."""
    if not np.isfinite(information).all():
        return False
    d = 1.0 / np.sqrt(np.maximum(np.abs(information.diagonal()), 1e-300))
    values, vectors = np.linalg.eigh(information * d[:, None] * d)
    v = d * np.abs(vectors[:, 0])
    return bool(v @ bars @ v > max(abs(values[0]), FLAT_NOISE))


def with_differences(
    evaluator: SingleEvaluator, end: OptimizeResult, found: Digits
) -> tuple[SingleEvaluator, OptimizeResult] | None:
    """The end with an information of differences of the score, where only the second derivatives have lost their digits.

    None where that is not so, or the differences are no better: near an edge they reach over it, and the log-likelihood one
    standard error away does not fall as they say.
    """
    if not found.first or evaluator.spec.hessian == "differenced":
        return None
    after, result = maximise(evaluator.with_spec(replace(evaluator.spec, hessian="differenced")), Newton(), end.u[None])
    again = result.of(0)
    if not linalg.all_finite(linalg.dense_each(again.information)) or lost(after, again):
        return None
    if not falls_as_it_should(after, again, found.loglik):
        return None
    return after, again._replace(n_steps=end.n_steps + again.n_steps, polished=end.polished)


def gain_is_real(evaluator: SingleEvaluator, u: Float[Host, " p"], gain: float) -> bool:
    """Whether a gain of the log-likelihood at u is not within its own rounding there; true where that is not known."""
    bars = _bars(evaluator, u)
    return bars is None or bars.loglik <= LEAST_SHARE * gain


def value_is_real(evaluator: SingleEvaluator, u: Float[Host, " p"]) -> bool:
    """Whether the log-likelihood at u is right to half a unit; true where its rounding is not known."""
    bars = _bars(evaluator, u)
    return bars is None or bars.loglik <= HALF


def rounding_in_words(evaluator: SingleEvaluator, u: Float[Host, " p"]) -> str:
    """What is known of the rounding at u, for the evidence of a verdict."""
    bars, unknown = _known(evaluator, u)
    said = "error bars" if bars is None else f"error bar of the log-likelihood {bars.loglik:.1e}"
    if unknown is None:
        return said
    why = f": no rule for {', '.join(unknown.primitives)}" if unknown.primitives else ""
    return f"{said}{' not known' if bars is None else '; of its derivatives not known'}{why}"


def _bars(evaluator: SingleEvaluator, u: Float[Host, " p"]) -> ErrorBars | None:
    """The error bars, those of the derivatives NaN where just the log-likelihood's is known, or None."""
    return _known(evaluator, u)[0]


def _known(evaluator: SingleEvaluator, u: Float[Host, " p"]) -> tuple[ErrorBars | None, Unknown | None]:
    """What is known of the error bars, and why it is not all."""
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


def regained(evaluator: SingleEvaluator, u0: Float[Host, " p"], end: OptimizeResult, e: int) -> Regained:
    """The profile along the coordinate that went furthest, or else has the fewest digits (e), as far as they are good."""
    space = evaluator.spec.space
    far = far_from_start(end.u, u0, space)
    e = int(np.argmax(np.where(far, travelled(end.u, u0, space), -1.0))) if far.any() else e
    way = _way(float(u0[e]), float(end.u[e]), space, e)
    u = np.array(u0)
    found: list[tuple[float, np.ndarray, OptimizeResult]] = []
    for at in way:
        u[e] = at
        u, loglik = others_maximised(evaluator, u, e)
        here = end_at(evaluator, u, end)
        kept = None if here is None else digits(evaluator, here)
        if not np.isfinite(loglik) or here is None or (kept is not None and not kept.good):
            break
        gains = np.diff([value for value, _, _ in found])
        if kept is not None and found and abs(loglik - found[-1][0]) <= kept.loglik and rest_to_rise(gains) is not None:
            break  # it has levelled off, and what follows is rounding
        found.append((loglik, u.copy(), here))
    if not found:
        return Regained(None, end, None, LOST_AT_START, at_start=True)
    values = np.array([loglik for loglik, _, _ in found])
    last, best = found[-1][2], int(np.argmax(values))
    gains = np.diff(values)
    if best < len(values) - 1 and values[best] > values[-1] + FLAT:
        return Regained(found[best][1], last, None, "")
    rest = rest_to_rise(gains)
    if rest is not None:
        limit = _limit_on_edge(space, [end for _, _, end in found[-2:]], e)
        if limit is not None:
            return Regained(None, limit, None, "", on_edge=True)
    onward = along(evaluator, found[-2][1] if len(found) > 1 else u0, last.u, e)
    if rest is not None:
        risen = replace(onward, gain=float(values[-1] - values[0]), supremum=float(values[-1]) + rest)
        return Regained(None, last, risen, "")
    movement = onward.movement
    rise = f", where it still rises by {gains[-1]:.2g} a doubling" if gains.size else ""
    said = f"the formula loses its digits along {movement}: from log-likelihood {values[-1]:.6g} on{rise}"
    return Regained(None, last, None, said)


def along(evaluator: SingleEvaluator, before: Float[Host, " p"], last: Float[Host, " p"], e: int) -> Direction:
    """From a point of the profile of coordinate e to the last: the direction in which its others go along with it."""
    space, way = evaluator.spec.space, last - before
    vector = np.where(np.abs(way) > ALONG * abs(way[e]), way, 0.0)
    vector /= np.abs(vector).max()
    words = partial(movements.describe_movement, last, last + 10.0 * vector, space, evaluator.fixed)
    return Direction("rises", vector, words=words)


def _limit_on_edge(space: Space, last: Sequence[OptimizeResult], e: int) -> OptimizeResult | None:
    """The end on a closed edge that coordinate e approaches, from the last two points, each half as far from it.

    Score, information and the other coordinates are extrapolated, and the log-likelihood follows from the score by the
    trapezoidal rule.  None if the score there pushes inwards.
    """
    before, after = last
    edge = space.lower[e] if after.u[e] < before.u[e] else space.upper[e]
    if not np.isfinite(edge):
        return None
    u, score = 2.0 * after.u - before.u, 2.0 * after.score - before.score
    information = 2.0 * linalg.dense_each(after.information) - linalg.dense_each(before.information)
    u[e] = edge
    loglik = after.loglik - 0.5 * (after.u[e] - edge) * (after.score[e] + score[e])
    others = np.arange(u.size) != e
    score[others] = 0.0
    pushing = -score[e] if edge == space.lower[e] else score[e]
    if not pushing > -ends.CLEAR * np.sqrt(abs(information[e, e])):
        return None
    done = np.asarray(int(End.CONVERGED), np.int32)
    known = after.decrements * 0.0
    return after._replace(
        u=u, loglik=np.asarray(loglik), score=score, information=information, decrements=known, status=done
    )


def rest_to_rise(gains: Float[Host, " k"]) -> float | None:
    """What is left to rise, by the last gains of a doubling; None if these do not shrink, or do not say it to 0.01."""
    if len(gains) < 3:
        return None
    last = gains[-3:]
    if (np.abs(last) <= FLAT).all():
        return 0.0
    if not (last[1] <= SHRINKS * last[0] + FLAT and last[2] <= SHRINKS * last[1] + FLAT):
        return None
    before, rest = (
        max(b, 0.0) * share / (1.0 - share)
        for a, b in pairwise(last)
        for share in [float(np.clip(b / a if a > FLAT else 0.5, 0.0, SHRINKS))]
    )
    return float(rest) if abs(before - last[2] - rest) <= REST else None


def travelled(u: Float[Host, " p"], u0: Float[Host, " p"], space: Space) -> Float[Host, " p"]:
    """How far each coordinate went, in logarithms."""
    bent = ends.curved(space)
    with np.errstate(invalid="ignore", divide="ignore"):
        before, after = (np.minimum(x - space.lower, space.upper - x) for x in (u0, u))
        return np.where(bent, np.abs(u - u0), np.where(np.isfinite(after), np.abs(np.log(after / before)), 0.0))


def _way(start: float, stop: float, space: Space, e: int) -> Float[Host, " k"]:
    """Points from the start on, each twice as far as the one before: in logarithms, or towards the edge of a box.

    A coordinate without edges may be a logarithm in the formula, unless it went too far for one.
    """
    k = np.arange(RUNGS)
    bent = ends.curved(space)[e]
    if bent or not np.isfinite([space.lower[e], space.upper[e]]).any():
        steps = np.log(2.0) * k if bent or abs(stop - start) < LONGEST else 2.0 ** (k - 3.0)
        points = start + np.sign(stop - start) * steps
        return points[np.abs(points - start) <= abs(stop - start)]
    edge = space.lower[e] if stop - space.lower[e] <= space.upper[e] - stop else space.upper[e]
    points = edge + (start - edge) * 0.5**k
    return points[np.abs(points - edge) >= abs(stop - edge)]


def end_at(evaluator: SingleEvaluator, u: Float[Host, " p"], like: OptimizeResult) -> OptimizeResult | None:
    """The point as an end, or None where its derivatives are not finite."""
    found = evaluator.evaluate(u[None])
    assert found.score is not None
    assert found.information is not None
    if not (linalg.all_finite(found.score) and linalg.finite_each(found.information).all()):
        return None
    return like._replace(u=u.copy(), loglik=found.loglik[0], score=found.score[0], information=found.information[0])


def with_good_digits(
    evaluator: SingleEvaluator, end: OptimizeResult, found: Sequence[Direction]
) -> tuple[tuple[Direction, ...], str]:
    """Of the directions found by rays from an end, what is no rounding; and where numbers end first, in words.

    A higher point counts if its gain exceeds its error bar; a supremum, if the log-likelihood has digits where it was seen.
    """
    real = []
    for d in found:
        rises = d.behaviour == "rises"
        if (
            d.point is None
            or (rises and (not d.bounded or d.gain <= ALLOWED))
            or gain_is_real(evaluator, d.point, d.gain)
        ):
            real.append(d)
        else:
            real.append(_cut(evaluator, end, d))
    early = next((d for d in real if _numbers_end(evaluator.spec.space, d)), None)
    if early is None:
        return tuple(real), ""
    words = (
        f"the formula ends along {early.movement}: no finite number, or no digits, beyond a log-likelihood of "
        f"{early.supremum:.6g}, where it still rises"
    )
    return tuple(d for d in real if d.behaviour != "rises" or d.bounded), words


def _numbers_end(space: Space, d: Direction) -> bool:
    """A direction moves logarithms and logits alone, and the formula ends far before their numbers do."""
    if d.point is None or d.behaviour != "rises" or d.bounded:
        return False
    share = np.abs(d.vector) / np.maximum(1.0, np.abs(d.point))
    moved = share > 0.01 * share.max()
    return bool(ends.curved(space)[moved].all() and (np.abs(d.point[moved]) < END_OF_NUMBERS).all())


def _cut(evaluator: SingleEvaluator, end: OptimizeResult, d: Direction) -> Direction:
    """A direction followed again, as far as the digits of the log-likelihood are good."""

    def digits_only(points: Float[Host, "m p"]) -> Float[Host, " m"]:
        values = evaluator.logliks({0: points})[0]
        good = [bool(np.isfinite(v)) and gain_is_real(evaluator, u, 1.0) for u, v in zip(points, values, strict=True)]
        return np.where(good, values, np.nan)

    space, information = evaluator.spec.space, linalg.dense_each(end.information)
    origin = rays.Origin(end.u, float(end.loglik), information, space, evaluator.fixed)
    ray = rays.make_rays(d.vector[None], end.u, end.score, information, ends.curved(space))[0]
    cut = rays.answered(rays.follow(ray, origin), digits_only)
    return replace(cut, bounded=True) if cut.gain <= ALLOWED else cut
