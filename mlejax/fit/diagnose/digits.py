"""Ends where the user's formula has lost its digits: the search goes back along the coordinate that ran away.

A negative binomial written with gamma functions is rounding noise where its dispersion is 1e-8, and a search that runs there
finds maxima in the noise.  The error bars of log-likelihood, score and information (`mlejax.objective.error_bars`) show it.  Then
the coordinate that ran away is put at points on its way, and the others are maximised at each.  Among the points with good
digits the profile has a maximum, or levels off, or still rises where the digits end.
"""

from __future__ import annotations

from functools import partial
from itertools import pairwise
from typing import NamedTuple

import numpy as np

from mlejax import linalg
from mlejax.fit.diagnose import ends, movements
from mlejax.fit.diagnose.edges import others_maximised
from mlejax.objective import SingleEvaluator
from mlejax.objective.error_bars import MOST_ROWS, ErrorBars, Unknown, error_bars
from mlejax.optimize import OptimizeResult
from mlejax.parameters import Space
from mlejax.shapes import Bool, Float, Host
from mlejax.verdict import Direction

FAR = 5.0  # logarithms and logits, from the start, beyond which digits are looked at
EXTREME = 12.0  # logarithms and logits, from 0, beyond which they are wherever the search began
NEARER = 1e-3  # share of the start's distance to an edge, below which they are
ALLOWED = 0.01  # error bar of the log-likelihood, and of score and information in standard errors
HALF = 0.5  # error bar of a log-likelihood, above which it is no number to show
LEAST_SHARE = 0.1  # error bar over a gain, above which the gain is not believed
RUNGS = 60
REST = 0.01  # error of what is left to rise where the log-likelihood levels off
FLAT = 1e-7  # gain of a doubling that is none
SHRINKS = 0.6  # gain of a doubling over that of the one before, below which the log-likelihood levels off


LOST_AT_START = (
    "the formula has lost its digits where the search began and where it ended.  Begin elsewhere, with another start=, or write "
    "it with a stable one of mle.special"
)


class Regained(NamedTuple):
    """What the points with good digits say.

    Attributes:
        point: where to go on from, (p,), if the profile has a maximum on the way; else None.
        end: the last point with good digits, as an end.
        direction: along which the log-likelihood rises, with its supremum, if it levels off; else None.
        words: what to say where it neither has a maximum nor levels off before the digits end.
        at_start: the digits were lost there already, so that nothing can be said.
    """

    point: Float[Host, " p"] | None
    end: OptimizeResult
    direction: Direction | None
    words: str
    at_start: bool = False


def far_from_start(u: Float[Host, "*sets p"], u0: Float[Host, "*sets p"], space: Space) -> Bool[Host, "*sets p"]:
    """Flags of the coordinates that went so far that the formula may have lost its digits there."""
    with np.errstate(invalid="ignore"):
        far = ends.curved(space) & ((np.abs(u - u0) > FAR) | (np.abs(u) > EXTREME))
        if space.boxed:
            near = np.minimum(u - space.lower, space.upper - u)
            far |= (near > 0) & (near < NEARER * np.minimum(u0 - space.lower, space.upper - u0))
    return np.asarray(far)


def lost(evaluator: SingleEvaluator, end: OptimizeResult) -> bool:
    """An error bar exceeds 0.01: of the log-likelihood, or of score and information in standard errors.

    False also where the rounding of an operation is not known.
    """
    bars = _bars(evaluator, end.u)
    if bars is None:
        return False
    if not bars.loglik <= ALLOWED:
        return True
    free = ends.interior(evaluator.spec.space, end.u)
    information = linalg.symmetric(end.information).block(free)
    inverse = linalg.scaled_inverse(information)
    if not inverse.ok:
        bar = bars.information[np.ix_(free, free)].diagonal()
        return not (bar <= np.abs(information.diagonal())).all()
    V = np.abs(inverse.inverse)
    variance = np.maximum(inverse.inverse.diagonal(), 1e-300)
    of_score = (V @ bars.score[free]) / np.sqrt(variance)
    of_information = (V @ bars.information[np.ix_(free, free)] @ V).diagonal() / (2.0 * variance)
    return not (of_score.max() <= ALLOWED and of_information.max() <= ALLOWED)


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
    bars = _error_bars(evaluator, u)
    if isinstance(bars, ErrorBars):
        return f"error bar of the log-likelihood {bars.loglik:.1e}"
    return "error bars not known" + (f": no rule for {', '.join(bars.primitives)}" if bars.primitives else "")


def _bars(evaluator: SingleEvaluator, u: Float[Host, " p"]) -> ErrorBars | None:
    """The error bars, or None where they are not known."""
    bars = _error_bars(evaluator, u)
    return bars if isinstance(bars, ErrorBars) else None


def _error_bars(evaluator: SingleEvaluator, u: Float[Host, " p"]) -> ErrorBars | Unknown:
    try:
        return error_bars(
            evaluator.spec, evaluator.sample(MOST_ROWS), u, evaluator.fixed, n_rows=evaluator.n_contributions
        )
    except TypeError:  # keys of random numbers among the constants, which NumPy does not hold
        return Unknown(("random keys",))
    except NotImplementedError:  # JAX has no second derivative
        return Unknown(("the second derivative",))


def regained(evaluator: SingleEvaluator, u0: Float[Host, " p"], end: OptimizeResult, far: Bool[Host, " p"]) -> Regained:
    """The profile along the coordinate that ran furthest, as far as its digits are good."""
    space = evaluator.spec.space
    e = int(np.argmax(np.where(far, _travelled(end.u, u0, space), -1.0)))
    way = _way(float(u0[e]), float(end.u[e]), space, e)
    u, found = np.array(u0), []
    for at in way:
        u[e] = at
        u, loglik = others_maximised(evaluator, u, e)
        here = _end_at(evaluator, u, end)
        if not np.isfinite(loglik) or here is None or lost(evaluator, here):
            break
        found.append((loglik, u.copy(), here))
    if not found:
        return Regained(None, end, None, LOST_AT_START, at_start=True)
    values = np.array([loglik for loglik, _, _ in found])
    last, best = found[-1][2], int(np.argmax(values))
    gains = np.diff(values)
    if best < len(values) - 1 and values[best] > values[-1] + FLAT:
        return Regained(found[best][1], last, None, "")
    vector = np.zeros(u.size)
    vector[e] = np.sign(end.u[e] - u0[e])
    words = partial(movements.describe_movement, last.u, last.u + 10.0 * vector, space, evaluator.fixed)
    rest = _rest(gains)
    if rest is not None:
        supremum = float(values[-1]) + rest
        return Regained(None, last, Direction("rises", vector, float(values[-1] - values[0]), supremum, words), "")
    movement = Direction("rises", vector, words=words).movement
    rise = f", where it still rises by {gains[-1]:.2g} a doubling" if gains.size else ""
    said = (
        f"the formula loses its digits along {movement}: from log-likelihood {values[-1]:.6g} on{rise}.  "
        "Fix the parameter there, or write the formula with a stable one of mle.special"
    )
    return Regained(None, last, None, said)


def _rest(gains: Float[Host, " k"]) -> float | None:
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


def _travelled(u: Float[Host, " p"], u0: Float[Host, " p"], space: Space) -> Float[Host, " p"]:
    """How far each coordinate went, in logarithms."""
    bent = ends.curved(space)
    with np.errstate(invalid="ignore", divide="ignore"):
        before, after = (np.minimum(x - space.lower, space.upper - x) for x in (u0, u))
        return np.where(bent, np.abs(u - u0), np.where(np.isfinite(after), np.abs(np.log(after / before)), 0.0))


def _way(start: float, stop: float, space: Space, e: int) -> Float[Host, " k"]:
    """Points from the start on, each twice as far as the one before: in logarithms, or towards the edge of a box."""
    k = np.arange(RUNGS)
    if ends.curved(space)[e]:
        points = start + np.sign(stop - start) * np.log(2.0) * k
        return points[np.abs(points - start) <= abs(stop - start)]
    edge = space.lower[e] if stop - space.lower[e] <= space.upper[e] - stop else space.upper[e]
    points = edge + (start - edge) * 0.5**k
    return points[np.abs(points - edge) >= abs(stop - edge)]


def _end_at(evaluator: SingleEvaluator, u: Float[Host, " p"], like: OptimizeResult) -> OptimizeResult | None:
    """The point as an end, or None where its derivatives are not finite."""
    found = evaluator.evaluate(u[None])
    assert found.score is not None
    assert found.information is not None
    if not (linalg.all_finite(found.score) and linalg.finite_each(found.information).all()):
        return None
    return like._replace(u=u.copy(), loglik=found.loglik[0], score=found.score[0], information=found.information[0])


def digits_of(evaluator: SingleEvaluator, u0: Float[Host, " p"], end: OptimizeResult) -> Regained | None:
    """What to make of an end whose digits are lost; None where they are good, or cannot be had."""
    if end.information is None:
        return None
    far = far_from_start(end.u, u0, evaluator.spec.space)
    with np.errstate(all="ignore"):
        if not far.any() or not lost(evaluator, end):
            return None
        return regained(evaluator, u0, end, far)
