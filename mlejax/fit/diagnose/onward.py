"""Diagnose one data set from where an optimiser stopped, and continue its search where the log-likelihood is higher.

In turn: go back to points with small rounding errors, set coordinates to bounds, test rays, and restart from a higher point.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from mlejax import linalg, optimize
from mlejax.data import formulas
from mlejax.fit.diagnose.bounds import decided_within, maximised_on_bounds, off_the_bounds
from mlejax.fit.diagnose.centring import Mapped, coordinates_for, mapped
from mlejax.fit.diagnose.directions import rays
from mlejax.fit.diagnose.directions.bending_ridges import levelled
from mlejax.fit.diagnose.directions.falls import minimum_of
from mlejax.fit.diagnose.directions.flat_directions import independent, nearby_point, settle_flat
from mlejax.fit.diagnose.directions.inflections import off_an_inflection
from mlejax.fit.diagnose.directions.probes import RaysOfEnd, probe_directions
from mlejax.fit.diagnose.directions.rays import Asks, Origin
from mlejax.fit.diagnose.ends import curved, doubtful, is_clean, onto_bounds
from mlejax.fit.diagnose.evidence import blurred, explain
from mlejax.fit.diagnose.problems import Diagnosed, Problems
from mlejax.fit.diagnose.rounding.accurate_ends import accurate_end, without_noise
from mlejax.fit.diagnose.rounding.digits import by_score, digits, rounding_in_words, suspect
from mlejax.fit.diagnose.rounding.ends_of_numbers import STAYS_FINITE, where_it_stopped
from mlejax.fit.diagnose.rounding.last_digits import STABLE_FORM, limit_on_bound, with_good_digits
from mlejax.fit.maximise.maximise import maximise_one
from mlejax.fit.prepare.loaded import Loaded
from mlejax.objective import ChunkedEvaluator, SingleEvaluator, evaluate_one
from mlejax.optimize import Method, OptimizeResult
from mlejax.parameters import Space
from mlejax.parameters.coordinates import split_constants
from mlejax.shapes import Float, Host
from mlejax.status import End
from mlejax.verdict import Direction, Findings

MAX_RESTARTS = 4
WELL_TOLD_APART = 1e-3  # smallest eigenvalue of the scaled information at a maximum, above which no columns are nearly collinear
SAME_LEVEL = 1e-9  # log-likelihood, relative: no loss from moving onto a bound
HIGHER = 1e-8, 1e-10  # log-likelihood, absolute and relative: a restart that gains more is kept


def search(problems: Problems, evaluator: SingleEvaluator, loaded: Loaded, u0: Float[Host, " p"]) -> Diagnosed:
    """Maximise the log-likelihood of one data set from the start u0, (p,), and diagnose the final point."""
    maximised, result = maximise_one(evaluator, problems.method, u0)
    asks = search_on(problems, maximised, loaded, u0, result)
    return rays.answered(asks, lambda at: maximised.logliks({0: at})[0])


def search_centred(
    problems: Problems,
    evaluator: SingleEvaluator,
    loaded: Loaded,
    u0: Float[Host, " p"],
    end: OptimizeResult,
    always: bool = False,
) -> Diagnosed | None:
    """Continue a search in centred and scaled coordinates, if columns are nearly collinear, and return its diagnosis.

    Return None if no columns are nearly collinear (see `coordinates_for`), if the rows are not in memory, if the final point has
    no derivatives or is not finite, after Ctrl-C, and if the search used up the ``max_steps`` that the user set.

    Args:
        problems: the data sets.
        evaluator: evaluator of one data set.
        loaded: its data.
        u0: start of the search, (p,).
        end: where the search stopped, or the start itself, not yet evaluated.
        always: use these coordinates even if no columns are nearly collinear.
    """
    if not isinstance(end.information, np.ndarray) or not np.isfinite(end.u).all():
        return None
    if not isinstance(evaluator, ChunkedEvaluator) or end.end in (End.INTERRUPTED, End.START_NOT_FINITE):
        return None
    if end.end == End.MAX_STEPS and limited(problems.method):
        return None
    clear = not always and is_clean(end, evaluator.spec.space)
    if clear and linalg.symmetric(end.information).conditioning()[0] > WELL_TOLD_APART:
        return None
    coordinates = coordinates_for(evaluator, u0, end.u, always)
    if coordinates is None:
        return None
    inside, result = maximise_one(mapped(evaluator, coordinates), problems.method, coordinates.to_v(end.u))
    assert inside.fixed is not None
    asks = search_on(replace(problems, fixed=inside.fixed), inside, loaded, coordinates.to_v(u0), result)
    found = rays.answered(asks, lambda at: inside.logliks({0: at})[0])
    spec = replace(found.spec, space=found.spec.space.own)
    at = found.end._replace(n_steps=end.n_steps + found.end.n_steps)
    own = Mapped(coordinates, at, found.spec.space, inside.fixed)
    return Diagnosed(spec, own.end_in_u, replace(found.findings, mapped=own), found.note)


def search_on(
    problems: Problems,
    evaluator: SingleEvaluator,
    loaded: Loaded,
    u0: Float[Host, " p"],
    end: OptimizeResult,
    first: RaysOfEnd | None = None,
) -> Asks[Diagnosed]:
    """Diagnose the final point ``end``, as a generator that yields points (m, p) and is sent their log-likelihoods (m,).

    Args:
        problems: the data sets.
        evaluator: evaluator of one data set.
        loaded: its data.
        u0: start of the search, (p,).
        end: where the optimiser stopped.
        first: the rays from that point, if they were made already.
    """
    evaluator, found = accurate_end(evaluator, u0, end)
    if isinstance(found, OptimizeResult):
        found = yield from _searched_on(problems, evaluator, loaded, u0, found, first)
        if found.findings.advice == STAYS_FINITE:
            return found
        rising = any(d.behaviour == "rises" for d in found.findings.directions)
        evaluator, again = accurate_end(evaluator.with_spec(found.spec), u0, found.end, last=not rising)
        if isinstance(again, Diagnosed):
            return _perhaps_negated(evaluator, u0, again._replace(note=found.note))
        if again is not found.end:
            found = yield from _searched_on(problems, evaluator, loaded, u0, again, None)
    if found.end.information is not None and suspect(evaluator.with_spec(found.spec), found.end.alone(), u0[None])[0]:
        at_end = evaluator.with_spec(found.spec)
        said, advice = rounding_in_words(at_end, found.end.u), found.findings.advice
        kept = digits(at_end, found.end) if found.end.end in (End.STALLED, End.PRECISION_FLOOR) and not advice else None
        advice = STABLE_FORM if kept is not None and not kept.good else advice
        found = found._replace(findings=replace(found.findings, rounding=said, advice=advice))
    return _perhaps_negated(evaluator, u0, without_noise(evaluator.with_spec(found.spec), u0, found))


def _perhaps_negated(evaluator: SingleEvaluator, u0: Float[Host, " p"], found: Diagnosed) -> Diagnosed:
    """Return the diagnosis with ``negated`` True if the final point is no maximum and the log-likelihood has a minimum (the
    user's function may return minus the log-likelihood), and False if it has none.

    If the log-likelihood rises without bound along the line from the minimum to the final point, but the diagnosis has no
    direction of that kind (at the final point numbers may be as large as 1e300), that line replaces its directions. The diagnosis
    is returned unchanged for a maximum, for a flat direction or a plateau if no direction rises, at the limit at a bound, after
    Ctrl-C, and without second derivatives.
    """
    end, seen = found.end, {d.behaviour for d in found.findings.directions}
    if end.information is None or end.end == End.INTERRUPTED or found.findings.limit:
        return found
    if "rises" not in seen and seen & {"flat", "plateau"}:
        return found
    if is_clean(end, found.spec.space) and not found.findings.rows:
        return found
    evaluator = evaluator.with_spec(found.spec)
    with np.errstate(all="ignore"):
        minimum = minimum_of(evaluator, u0)
    findings = replace(found.findings, negated=minimum is not None)
    if minimum is not None and not any(d.behaviour == "rises" and not d.bounded for d in findings.directions):
        upwards = _rise_from(evaluator, minimum, end.u)
        if upwards.behaviour == "rises" and not upwards.bounded:
            findings = replace(findings, directions=(upwards,), rows="", advice="", blurred=False)
    return found._replace(findings=findings)


def _rise_from(evaluator: SingleEvaluator, u: Float[Host, " p"], towards: Float[Host, " p"]) -> Direction:
    """Return a `Direction`: what the log-likelihood does along the line from u, (p,), towards another point, (p,)."""
    space, (loglik, score, curvature) = evaluator.spec.space, evaluate_one(evaluator, u)
    information = linalg.dense_each(curvature)
    origin = Origin(u, float(loglik), information, space, evaluator.fixed)
    ray = rays.make_rays((towards - u)[None], u, score, information, curved(space))[0]
    return rays.answered(rays.follow(ray, origin), lambda points: evaluator.logliks({0: points})[0])


def _searched_on(
    problems: Problems,
    evaluator: SingleEvaluator,
    loaded: Loaded,
    u0: Float[Host, " p"],
    end: OptimizeResult,
    first: RaysOfEnd | None,
) -> Asks[Diagnosed]:
    """Diagnose a final point with small rounding errors as `search_on` does: set coordinates to bounds, test rays, restart from
    higher points.

    ``u0``: the start of the search; ``end``: its result; ``first``: the rays to test first, None to find them here.
    """
    if end.end == End.INTERRUPTED:
        return Diagnosed(evaluator.spec, end, Findings())
    if not np.isfinite(end.loglik) or not linalg.all_finite(end.score):
        return _without_derivatives(evaluator, loaded, u0, end)
    if end.information is None:
        return Diagnosed(evaluator.spec, end, Findings())
    end, steps = _moved_to_bounds(evaluator, by_score(evaluator, end))
    onward = problems.method if isinstance(problems.method, optimize.Newton) else optimize.Newton()
    for restarts in range(MAX_RESTARTS + 1):
        findings, unfinished = Findings(), end.end == End.MAX_STEPS
        if unfinished and not end.polished and restarts < MAX_RESTARTS and not limited(problems.method):
            evaluator, again = _along_ridge(evaluator, u0, end)
            if isinstance(again, Direction):
                findings = Findings((again,))
                break
            steps = steps + again.n_steps
            if again.end != End.INTERRUPTED and again.loglik > end.loglik:
                moved = again.end != End.MAX_STEPS or _higher(again, end)
                end = again
                if moved:
                    continue
        inside = None if is_clean(end, evaluator.spec.space) else off_the_bounds(evaluator, end)
        if inside is None and not is_clean(end, evaluator.spec.space):
            findings = yield from _findings_at(problems.method, evaluator, loaded, u0, end, first)
        point = _point_to_restart_from(end, evaluator.spec.space, findings, inside)
        if point is None or restarts == MAX_RESTARTS:
            break
        evaluator, again = maximise_one(evaluator, onward, point)
        steps = steps + again.n_steps
        finished = unfinished and again.loglik >= end.loglik and again.end != End.MAX_STEPS
        if again.end == End.INTERRUPTED or not (_higher(again, end) or finished):
            break
        end = again._replace(polished=end.polished)
    return _concluded(problems.method, evaluator, loaded, u0, end._replace(n_steps=steps), findings)


def _moved_to_bounds(evaluator: SingleEvaluator, end: OptimizeResult) -> tuple[OptimizeResult, np.ndarray]:
    """Return a final point with the coordinates within 1e-4 standard errors of a bound set to it, and the others maximised; and
    the number of steps of both searches.

    The point is unchanged if no coordinate is so close (see `onto_bounds`), or if the log-likelihood is lower at the bound.
    """
    onto = onto_bounds(end, evaluator.spec.space)
    if onto is None:
        return end, end.n_steps
    moved = maximised_on_bounds(evaluator, onto, end)
    no_loss = moved.loglik >= end.loglik - SAME_LEVEL * max(1.0, abs(float(end.loglik)))
    return (moved if no_loss else end), moved.n_steps


def _along_ridge(
    evaluator: SingleEvaluator, u0: Float[Host, " p"], end: OptimizeResult
) -> tuple[SingleEvaluator, OptimizeResult | Direction]:
    """Continue a search that used up its steps by Newton's method, from a higher point of the profile along a curved ridge, from
    a point beside an inflection, or from its final point.

    Returns:
        The evaluator and the result; or the evaluator and the direction along which the log-likelihood levels off, if it does.
    """
    levels = levelled(evaluator, u0, end)
    if levels is not None and levels.point is None:
        return evaluator, levels
    higher = off_an_inflection(evaluator, end) if levels is None else (levels,)
    return maximise_one(evaluator, optimize.Newton(), np.asarray(higher[0].point) if higher else end.u)


def _findings_at(
    method: Method,
    evaluator: SingleEvaluator,
    loaded: Loaded,
    u0: Float[Host, " p"],
    end: OptimizeResult,
    first: RaysOfEnd | None,
) -> Asks[Findings]:
    """Test rays and inflections at a final point that is not clearly a maximum; return the findings that exceed rounding.

    A generator, with arguments as of `_searched_on`.  If the search used up the ``max_steps`` that the user set, directions in
    which the log-likelihood rises without a limit are left out, since further steps may pass the rise.
    """
    findings = yield from _followed(evaluator, loaded, u0, end, first)
    real, words, advice = with_good_digits(evaluator, loaded, u0, end, findings.directions)
    unfinished = end.end == End.MAX_STEPS
    shown = real
    if unfinished and not end.polished and limited(method):
        shown = tuple(d for d in real if d.behaviour != "rises")
    if not words and not unfinished and all(d.behaviour not in ("rises", "higher", "flat", "plateau") for d in real):
        shown = (*real, *off_an_inflection(evaluator, end))
    return replace(findings, directions=shown, rows=words, advice=advice)


def _point_to_restart_from(
    end: OptimizeResult, space: Space, findings: Findings, inside: Float[Host, " p"] | None
) -> Float[Host, " p"] | None:
    """Return the point from which the search goes on, (p,); None if there is none, or if ``max_steps`` was used up.

    It is the highest point found, else the point ``inside`` the bounds (if not None), else, for a ridge, a random point nearby.
    If what was used up are the few Newton steps after another method, and the log-likelihood still rises, it is the final point,
    since their number is not the user's ``max_steps``.
    """
    if end.end == End.MAX_STEPS:
        return end.u if end.polished and any(d.behaviour == "rises" for d in findings.directions) else None
    higher = [d for d in findings.directions if d.behaviour in ("higher", "inflection") and d.point is not None]
    if higher:
        return np.asarray(max(higher, key=lambda d: d.gain).point)
    if inside is None and any(d.behaviour == "ridge" for d in findings.directions):
        return nearby_point(end, space, far=True)
    return inside


def _concluded(
    method: Method,
    evaluator: SingleEvaluator,
    loaded: Loaded,
    u0: Float[Host, " p"],
    end: OptimizeResult,
    findings: Findings,
) -> Diagnosed:
    """Return the diagnosis of the last final point of all searches.

    If it is not clearly a maximum and the findings do not say why, the rows or the operation at which the function stops being
    finite are looked for.
    """
    if not is_clean(end, evaluator.spec.space):
        known = findings.rows or any(d.behaviour not in ("falls", "unknown") for d in findings.directions)
        stopped = "" if known or limited(method) else where_it_stopped(evaluator, loaded, end)
        if stopped:
            findings = replace(findings, rows=stopped, advice=STAYS_FINITE)
        findings = replace(findings, within=decided_within(evaluator, end))
        if not linalg.all_finite(end.score):  # a higher point, or a bound, from which no search can go on
            without = _without_derivatives(evaluator, loaded, u0, end)
            if without.findings.limit or not any(d.behaviour == "rises" for d in findings.directions):
                return without  # else the score overflowed on the way up, where the rise is known already
    return Diagnosed(evaluator.spec, end, findings)


def _without_derivatives(
    evaluator: SingleEvaluator, loaded: Loaded, u0: Float[Host, " p"], end: OptimizeResult
) -> Diagnosed:
    """Return the diagnosis of a final point whose log-likelihood or score is not finite: the limit at a bound, or the rows."""
    limit = limit_on_bound(evaluator, u0, end)
    if limit is not None:
        return Diagnosed(evaluator.spec, limit, Findings(limit=True))
    return Diagnosed(evaluator.spec, end, Findings(rows=explain(evaluator, loaded, end.u)))


def limited(method: Method) -> bool:
    """True if the user changed ``max_steps`` from the method's default."""
    return bool(getattr(method, "max_steps", None) != getattr(type(method), "max_steps", None))


def _higher(after: OptimizeResult, before: OptimizeResult) -> bool:
    """True if the log-likelihood of the second result exceeds that of the first by more than rounding."""
    return bool(after.loglik > before.loglik + HIGHER[0] + HIGHER[1] * abs(before.loglik))


def _followed(
    evaluator: SingleEvaluator,
    loaded: Loaded,
    u0: Host,
    end: OptimizeResult,
    first: RaysOfEnd | None,
) -> Asks[Findings]:
    """Test rays from a final point that is not clearly a maximum, and return the findings (a generator, as `search_on`).

    ``first``: as in `_searched_on`.
    """
    spec = evaluator.spec
    # a penalty may tell apart what the rows cannot
    known = [] if spec.penalty is not None else formulas.null_directions(loaded.designs, spec.space, loaded.seen.rows)
    if spec.space.mapped:
        assert evaluator.fixed is not None
        matrix = split_constants(evaluator.fixed, end.u.size)[0].matrix
        known = [np.linalg.solve(matrix, vector) for vector in known]
    found = yield from probe_directions(evaluator, end, u0, known, first)
    directions = independent(found, end)
    findings = Findings(directions)
    if any(d.behaviour == "rises" for d in directions):
        return findings
    if doubtful(end, spec.space):
        found_digits = digits(evaluator, end)
        lost_there = blurred(evaluator, end) if found_digits is None else not found_digits.good
        findings = replace(findings, blurred=lost_there)
    return findings if known else (yield from settle_flat(evaluator, end, findings))
