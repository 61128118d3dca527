"""Diagnose final points that are not clearly maxima: test rays, and continue the search from a higher point.

The diagnosis of one data set is a generator that yields points along rays and is sent their log-likelihoods; the points of many
data sets are evaluated together, in chunks.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from mlejax import linalg, optimize
from mlejax.fit.diagnose import ends
from mlejax.fit.diagnose.bounds import others_maximised
from mlejax.fit.diagnose.directions import rays
from mlejax.fit.diagnose.directions.probes import rays_of_many
from mlejax.fit.diagnose.ends import clean, is_clean
from mlejax.fit.diagnose.onward import SAME_LEVEL, limited, search, search_centred, search_on
from mlejax.fit.diagnose.problems import Diagnosed, Problems
from mlejax.fit.diagnose.rounding.digits import digits
from mlejax.fit.diagnose.rounding.last_digits import REST
from mlejax.fit.maximise.maximise import maximise
from mlejax.fit.prepare.loaded import Loaded
from mlejax.objective import Evaluator, SingleEvaluator, evaluate_one
from mlejax.optimize import OptimizeResult
from mlejax.parameters import Space
from mlejax.shapes import Float, Host
from mlejax.status import End
from mlejax.verdict import Direction, steepest

N_SCATTERED = 4  # further starts where the first search did not leave its start, or ended at infinity
SCATTERED_STEPS = 60
OTHER_SIDE = np.arange(1.0, 7.0)  # logarithms or logits beyond the start of a coordinate, away from where it went
MOST_SCATTERED = 50  # parameters


def diagnose(
    problems: Problems, evaluator: Evaluator, u0: Float[Host, "L p"], result: OptimizeResult, which: Sequence[int]
) -> Iterator[tuple[int, Diagnosed]]:
    """Diagnose the data sets ``which``, whose final points are not clearly maxima, and yield (number, `Diagnosed`) for each.

    Args:
        problems: the data sets.
        evaluator: evaluator of all L data sets.
        u0: starts, (L, p).
        result: final points of all L data sets.
        which: numbers of the data sets to diagnose.

    Raises:
        KeyboardInterrupt: after Ctrl-C; diagnoses already yielded remain valid.
    """
    for k in range(0, len(which), problems.together):
        some = list(which[k : k + problems.together])
        loaded = {i: problems.loaded(i) for i in some}
        one = {i: problems.one(evaluator, i) for i in some}
        found: dict[int, Diagnosed] = {}
        for i in some:
            centred = search_centred(problems, one[i], loaded[i], u0[i], result.of(i))
            if centred is not None:
                found[i] = centred
        found |= _followed_from(problems, evaluator, one, loaded, u0, {i: result.of(i) for i in some if i not in found})
        found |= _from_elsewhere(problems, evaluator, one, loaded, u0, found)
        yield from found.items()


def _followed_from(
    problems: Problems,
    evaluator: Evaluator,
    one: dict[int, SingleEvaluator],
    loaded: dict[int, Loaded],
    u0: Float[Host, "L p"],
    reached: dict[int, OptimizeResult],
) -> dict[int, Diagnosed]:
    """Diagnose data sets from the final points ``reached`` (by number); rays of all are evaluated together.

    ``one``, ``loaded``: evaluator and data of each data set, by number; ``u0``: the starts, (L, p).
    """
    if not reached:
        return {}
    first = rays_of_many(evaluator.spec, reached, u0)
    asks = {i: search_on(problems, one[i], loaded[i], u0[i], end, first.get(i)) for i, end in reached.items()}
    if len(asks) == 1:  # one alone is answered by its own program, compiled for its own size
        found = {i: rays.answered(ask, lambda at, own=one[i]: own.logliks({0: at})[0]) for i, ask in asks.items()}  # type: ignore[misc]
    else:
        found = rays.answer_together(asks, evaluator.logliks)
    return {i: _started_anew(problems, one[i], loaded[i], i, found[i]) for i in reached}


def _from_elsewhere(
    problems: Problems,
    evaluator: Evaluator,
    one: dict[int, SingleEvaluator],
    loaded: dict[int, Loaded],
    u0: Float[Host, "L p"],
    found: dict[int, Diagnosed],
) -> dict[int, Diagnosed]:
    """Search again, from a few starts, random or chosen from the data, those data sets that are `_worth_another_start`.

    A maximum found in this way replaces the first diagnosis in three cases: its log-likelihood is higher than that of the first
    final point and its suprema; that log-likelihood is not known; or it is unbounded, which the new findings then mention. A new
    final point that is not clearly a maximum replaces the first diagnosis only if it is above the supremum of the first.

    ``found``: the first diagnoses, by number; other arguments as in `_followed_from`.

    Returns:
        New diagnoses by number, only of data sets whose diagnosis changed.
    """
    again = [i for i, d in found.items() if _worth_another_start(d, limited(problems.method))]
    if not again:
        return {}
    starts = {i: _starts_elsewhere(problems, one[i], loaded[i], i, u0[i], found[i]) for i in again}
    out = {}
    for i in again:
        if _rising(found[i]) or _lost_there(found[i]):
            out[i] = found[i]._replace(findings=replace(found[i].findings, n_retried=len(starts[i])))
    for i, end in _highest_ends(evaluator, one, starts, found).items():
        asks = search_on(problems, one[i], loaded[i], end.u, end)
        elsewhere = rays.answered(asks, lambda at, own=one[i]: own.logliks({0: at})[0])  # type: ignore[misc]
        if not is_clean(end, evaluator.spec.space) and not _level(elsewhere) > _level(found[i]):
            continue
        steps = found[i].end.n_steps + elsewhere.end.n_steps
        higher = steepest(found[i].findings.directions)
        beside = ""
        if higher is not None and not higher.bounded:
            if elsewhere.findings.directions:  # no maximum either: what is known of the first end stays
                continue
            beside = f"elsewhere the log-likelihood rises without bound, along {higher.movement}"
        findings = replace(elsewhere.findings, beside=beside)
        at = elsewhere.end._replace(n_steps=steps)
        note = f"The first search failed ({found[i].findings.rows}); another start led here." if _lost_there(found[i]) else ""
        out[i] = elsewhere._replace(end=at, findings=findings, note=found[i].note or note)
    return out


def _starts_elsewhere(
    problems: Problems, evaluator: SingleEvaluator, loaded: Loaded, i: int, u0: Float[Host, " p"], found: Diagnosed
) -> Float[Host, "k p"]:
    """Return the starts, (k, p), of the further searches of data set number i, whose first diagnosis is ``found``.

    They are random ones, from `Problems.scattered`. Before these come the best candidates made from the data, if the function
    failed at the final point or the log-likelihood is unbounded; or, if it levels off, a point on the other side of the start.
    """
    space, rising, lost_there = evaluator.spec.space, _rising(found), _lost_there(found)
    around = _started_at(evaluator, u0, found) if rising or lost_there else found.end
    given = _of_structures(space, problems.given(i)) if lost_there else problems.given(i)
    starts = problems.scattered(space, loaded, given, around)
    if lost_there or not all(d.bounded for d in rising):
        listed = problems.candidates(evaluator.spec, loaded, given)
        starts = np.concatenate([_off_guards(evaluator, listed)[:N_SCATTERED], starts])
    elif rising:
        starts = np.concatenate([_on_the_other_side(evaluator, u0, found, rising[0]), starts])
    return starts


def _highest_ends(
    evaluator: Evaluator,
    one: dict[int, SingleEvaluator],
    starts: dict[int, Float[Host, "k p"]],
    found: dict[int, Diagnosed],
) -> dict[int, OptimizeResult]:
    """Search from all starts, (k, p) of each data set, and return the highest final points, by number.

    ``one``: evaluator of each data set, by number.
    A final point counts if it is higher than the first diagnosis ``found`` and rounding errors do not dominate there. It must be
    a clear maximum, unless the first search found a supremum at which the log-likelihood levels off: then it must be higher than
    that by more than 0.01, the error of a supremum, and its error bars must be known.
    """
    space, best = evaluator.spec.space, dict[int, OptimizeResult]()
    for k in range(max(map(len, starts.values()))):
        which = np.array([i for i in starts if k < len(starts[i])])
        begin = np.zeros((evaluator.n_sets, space.n_free))
        begin[which] = [starts[i][k] for i in which]
        evaluator, result = maximise(evaluator, optimize.Newton(max_steps=SCATTERED_STEPS), begin, which)
        good = clean(result, space)
        for i in which.tolist():
            end, level = result.of(i), _level(found[i])
            above = end.loglik > (_level(best[i]) if i in best else level)
            levels = bool(_rising(found[i])) and np.isfinite(level) and level + REST < end.loglik < np.inf
            if above and (good[i] or levels):
                kept = digits(one[i], end)
                if good[i] if kept is None else kept.good:
                    best[i] = end
    return best


def _off_guards(evaluator: SingleEvaluator, points: Float[Host, "n p"]) -> Float[Host, "k p"]:
    """Return those of the points (n, p) at which every diagonal entry of the information is positive, highest log-likelihood
    first, (k, p).

    Functions that add a tiny number to avoid log(0) are flat where it dominates, with log-likelihoods that may exceed those at
    any maximum; this test excludes such points.
    """
    kept = []
    for u in np.unique(points, axis=0):
        loglik, _, information = evaluate_one(evaluator, u)
        if np.isfinite(loglik) and (linalg.symmetric(information).diagonal() > 0.0).all():
            kept.append((float(loglik), u))
    kept.sort(key=lambda pair: -pair[0])
    return np.array([u for _, u in kept]).reshape(-1, points.shape[1])


def _on_the_other_side(
    evaluator: SingleEvaluator, u0: Float[Host, " p"], found: Diagnosed, rising: Direction
) -> Float[Host, "k p"]:
    """Return a point where the log-likelihood is above the supremum that it approaches along the direction ``rising``, as one row
    (1, p); no row if none is seen.

    The transformed coordinate that changes most along ``rising`` is set to six values on the other side of its start u0, (p,), at
    distances 1 to 6 in u; all others are maximised at each.
    """
    space, level = found.spec.space, _level(found)
    moved = np.where(ends.curved(space), rising.vector, 0.0)
    e = int(np.argmax(np.abs(moved)))
    u, higher = found.end.u.copy(), [np.zeros((0, u0.size))]
    for far in OTHER_SIDE:
        u[e] = u0[e] - np.sign(moved[e]) * far
        u, loglik = others_maximised(evaluator.with_spec(found.spec), u, e, level)
        if loglik > level:
            level, higher = loglik, [u[None].copy()]
    return higher[0]


def _rising(found: Diagnosed) -> list[Direction]:
    """Return the directions along which the log-likelihood rises without a maximum."""
    return [d for d in found.findings.directions if d.behaviour == "rises"]


def _started_at(evaluator: SingleEvaluator, u0: Float[Host, " p"], found: Diagnosed) -> OptimizeResult:
    """Return the final point of ``found`` with u and information replaced by those at the start u0, (p,), around which random
    starts are then drawn.
    """
    return found.end._replace(u=u0, information=evaluate_one(evaluator.with_spec(found.spec), u0)[2])


def _lost_there(found: Diagnosed) -> bool:
    """True if the function is not finite, or rounding errors dominate it, where the search ended."""
    return bool(found.findings.rows)


def _of_structures(space: Space, given: list[Any]) -> list[Any]:
    """Return the given starts, one for each leaf, with None in place of those of parameters that are not structures
    (`mle.Free`), which can be chosen from the data instead.
    """
    return [v if leaf.kind == "Free" else None for v, leaf in zip(given, space.leaves, strict=True)]


def _worth_another_start(d: Diagnosed, limited: bool) -> bool:
    """True if the search stopped at its start, on a plateau, or where the function is not finite or dominated by rounding
    errors, or if the log-likelihood is unbounded or levels off as a transformed parameter moves.

    False for more than 50 parameters, without second derivatives, if the function may return minus the log-likelihood, if its
    value at the start was not finite, and if the search was interrupted or used up the user's ``max_steps`` (``limited``: the
    user set it).
    """
    if d.end.information is None or d.end.end == End.INTERRUPTED or d.findings.negated:
        return False
    if d.end.end == End.MAX_STEPS and limited:
        return False
    rising = _rising(d)
    bent = ends.curved(d.spec.space)
    plateau = bool(rising) and all(bool(np.abs(x.vector)[bent].any()) for x in rising)
    infinite = plateau or not all(x.bounded for x in rising)
    stuck = int(d.end.n_steps) == 0 and not is_clean(d.end, d.spec.space)
    stuck |= any(x.behaviour == "plateau" for x in d.findings.directions)
    return d.spec.space.n_free <= MOST_SCATTERED and (stuck or infinite or _lost_there(d))


def _level(found: Diagnosed | OptimizeResult) -> float:
    """Return the log-likelihood that another maximum must exceed: at the final point, or its supremum; -inf if it is unbounded
    or not known.
    """
    if isinstance(found, OptimizeResult):
        return float(found.loglik)
    suprema = [d.supremum for d in _rising(found)]
    if any(not d.bounded for d in _rising(found)):
        return -np.inf
    return max([float(np.nan_to_num(found.end.loglik, nan=-np.inf)), *suprema]) + SAME_LEVEL


def _started_anew(
    problems: Problems, evaluator: SingleEvaluator, loaded: Loaded, i: int, before: Diagnosed
) -> Diagnosed:
    """If the log-likelihood was not finite at the start, search and diagnose from another start, and return that diagnosis with
    a note on the new start.

    The first diagnosis, ``before``, is returned unchanged if it was finite there, or is not finite at the other start either.
    """
    if before.end.end != End.START_NOT_FINITE:
        return before
    space = before.spec.space
    given = _of_structures(space, problems.given(i))
    again = search(problems, evaluator, loaded, problems.start_anew(evaluator, loaded, given))
    if again.end.end == End.START_NOT_FINITE:
        return before
    return again._replace(
        note=f"The log-likelihood or its score is not finite at the first start ({before.findings.rows}). The search began from "
        "a start chosen from the data instead; values of start= for declared parameters were not used."
    )
