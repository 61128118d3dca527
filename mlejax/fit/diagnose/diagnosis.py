"""From ends to findings: where an end is not clean, rays are tested, and the search goes on from a higher point.

The diagnosis of one data set is a generator that asks for log-likelihoods along rays; those of many data sets are
answered together, in chunks.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np

from mlejax import linalg, optimize
from mlejax.data import formulas
from mlejax.fit.diagnose import ends, movements, rays
from mlejax.fit.diagnose.centring import Mapped, coordinates_for, mapped
from mlejax.fit.diagnose.digits import (
    digits,
    lost,
    regained,
    rounding_in_words,
    suspect,
    with_differences,
    with_good_digits,
)
from mlejax.fit.diagnose.directions import RaysOfEnd, probe_directions, rays_of_many
from mlejax.fit.diagnose.edges import held_on_edges, off_the_edges
from mlejax.fit.diagnose.ends import Findings, clean, doubtful, information_over, interior, is_clean, onto_edges
from mlejax.fit.diagnose.flat_directions import independent, nearby_point, settle_flat
from mlejax.fit.diagnose.inflections import off_an_inflection
from mlejax.fit.diagnose.rays import Asks
from mlejax.fit.loading import Loaded
from mlejax.fit.maximise import maximise
from mlejax.fit.penalties import finite_penalty
from mlejax.objective import ChunkedEvaluator, Evaluator, SingleEvaluator, Spec, row_terms
from mlejax.optimize import Method, OptimizeResult
from mlejax.parameters import Space
from mlejax.parameters.coordinates import split_constants
from mlejax.shapes import Float, Host
from mlejax.status import End
from mlejax.verdict import Evidence

MAX_RESTARTS = 4
N_SCATTERED = 4  # further starts where the first search did not leave its start, or ended at infinity
SCATTERED_STEPS = 60
MOST_SCATTERED = 50  # parameters
TOGETHER = 1024  # data sets that are diagnosed at one time, at most
SAME_LEVEL = 1e-9  # log-likelihood, relative: no loss from moving onto an edge
HIGHER = 1e-8, 1e-10  # log-likelihood, absolute and relative: a restart that gains more is kept
ADVICE_AFTER_TRAINING = (
    "Training ends where it is told to, short of a maximum; so no standard errors come with it. res.subset_errors(...) gives "
    "those of some parameters, and says what they mean; fit(start=res.params_tree, fixed=...) maximises over a few, given "
    "the others."
)


@dataclass(frozen=True, eq=False)
class Problems:
    """L >= 1 data sets of one declaration, as the recipe and the diagnosis see them.

    Attributes:
        method: the optimiser.
        fixed: values under ``fixed=``, or None.
        seed: of random candidates among starts.
        loaded: number of a data set -> its checked data.
        one: (evaluator of all, number) -> evaluator of one data set.
        given: number -> for each leaf its given start or None.
        start_anew: (evaluator of one, checked data, given starts) -> another start u (p,), chosen on all rows.
        scattered: (layout, checked data, given starts, end) -> further starts in u, (N_SCATTERED, p).
        together: data sets diagnosed at one time, at most.
    """

    method: Method
    fixed: Any
    seed: int
    loaded: Callable[[int], Loaded]
    one: Callable[[Evaluator, int], SingleEvaluator]
    given: Callable[[int], list[Any]]
    start_anew: Callable[[SingleEvaluator, Loaded, list[Any]], Float[Host, " p"]]
    scattered: Callable[[Space, Loaded, list[Any], OptimizeResult], Float[Host, "n p"]]
    together: int = TOGETHER


class Diagnosed(NamedTuple):
    """One data set after its diagnosis: its final end, what was found, and a remark on its start."""

    spec: Spec
    end: OptimizeResult
    findings: Findings
    note: str = ""


def diagnose(
    problems: Problems, evaluator: Evaluator, u0: Float[Host, "L p"], result: OptimizeResult, which: Sequence[int]
) -> Iterator[tuple[int, Diagnosed]]:
    """For each of the data sets ``which``, whose ends are not clean: (number, what the diagnosis found).

    Raises:
        KeyboardInterrupt: what has been yielded until then stands.
    """
    for k in range(0, len(which), problems.together):
        some = list(which[k : k + problems.together])
        loaded = {i: problems.loaded(i) for i in some}
        one = {i: problems.one(evaluator, i) for i in some}
        for i in list(some):
            centred = search_centred(problems, one[i], loaded[i], u0[i], result.of(i))
            if centred is not None:
                some.remove(i)
                yield i, centred
        if not some:
            continue
        first = rays_of_many(evaluator.spec, {i: result.of(i) for i in some}, u0)
        asks = {i: search_on(problems, one[i], loaded[i], u0[i], result.of(i), first.get(i)) for i in some}
        if len(which) == 1:  # one alone is answered by its own program, compiled for its own size
            i = some[0]
            found = {i: rays.answered(asks[i], lambda at, own=one[i]: own.logliks({0: at})[0])}  # type: ignore[misc]
        else:
            found = rays.answer_together(asks, evaluator.logliks)
        found = {i: _started_anew(problems, one[i], loaded[i], i, found[i]) for i in some}
        found |= _from_elsewhere(problems, evaluator, one, loaded, found)
        yield from found.items()


def _from_elsewhere(
    problems: Problems,
    evaluator: Evaluator,
    one: dict[int, SingleEvaluator],
    loaded: dict[int, Loaded],
    found: dict[int, Diagnosed],
) -> dict[int, Diagnosed]:
    """Data sets that did not leave their start, or ended at infinity: searched again from a few scattered starts.

    A maximum found there counts if the log-likelihood is higher than where the first search ended or levels off.
    """
    again = [i for i, d in found.items() if _worth_another_start(d)]
    if not again:
        return {}
    space, which = evaluator.spec.space, np.array(again)
    starts = {i: problems.scattered(space, loaded[i], problems.given(i), found[i].end) for i in again}
    best: dict[int, OptimizeResult] = {}
    for k in range(N_SCATTERED):
        u0 = np.zeros((evaluator.n_sets, space.n_free))
        u0[which] = [starts[i][k] for i in again]
        runner, result = maximise(evaluator, optimize.Newton(max_steps=SCATTERED_STEPS), u0, which)
        evaluator = runner
        good = clean(result, space)
        for i in which[good[which]].tolist():
            end = result.of(i)
            if end.loglik > _level(best[i] if i in best else found[i]) and not lost(one[i], end):
                best[i] = end
    out = {}
    for i, end in best.items():
        asks = search_on(problems, one[i], loaded[i], end.u, end)
        elsewhere = rays.answered(asks, lambda at, own=one[i]: own.logliks({0: at})[0])  # type: ignore[misc]
        steps = found[i].end.n_steps + elsewhere.end.n_steps
        out[i] = elsewhere._replace(end=elsewhere.end._replace(n_steps=steps), note=found[i].note)
    return out


def _worth_another_start(d: Diagnosed) -> bool:
    """The search stopped at its start, or the log-likelihood levels off along a direction in which a scale or shape moves."""
    if d.end.information is None or d.end.end in (End.INTERRUPTED, End.START_NOT_FINITE, End.MAX_STEPS):
        return False
    rising = [x for x in d.findings.directions if x.behaviour == "rises"]
    bent = ends.curved(d.spec.space)
    plateau = bool(rising) and all(x.bounded and bool(np.abs(x.vector)[bent].any()) for x in rising)
    stuck = int(d.end.n_steps) == 0 and not is_clean(d.end, d.spec.space)
    return d.spec.space.n_free <= MOST_SCATTERED and (stuck or plateau)


def _level(found: Diagnosed | OptimizeResult) -> float:
    """The log-likelihood that another maximum has to exceed: at an end, or where it levels off."""
    if isinstance(found, OptimizeResult):
        return float(found.loglik)
    suprema = [d.supremum for d in found.findings.directions if d.behaviour == "rises"]
    return max([float(found.end.loglik), *suprema]) + SAME_LEVEL


def _started_anew(
    problems: Problems, evaluator: SingleEvaluator, loaded: Loaded, i: int, before: Diagnosed
) -> Diagnosed:
    """Where the first start was not usable, the diagnosis from another one, if that is usable."""
    if before.end.end != End.START_NOT_FINITE:
        return before
    space = before.spec.space
    given = [v if leaf.kind == "Free" else None for v, leaf in zip(problems.given(i), space.leaves, strict=True)]
    again = search(problems, evaluator, loaded, problems.start_anew(evaluator, loaded, given))
    if again.end.end == End.START_NOT_FINITE:
        return before
    return again._replace(note=f"The first start was not usable ({before.findings.rows}); started elsewhere.")


def search(
    problems: Problems, evaluator: SingleEvaluator, loaded: Loaded, u0: Float[Host, " p"], method: Method | None = None
) -> Diagnosed:
    """One data set from a start to its diagnosed end."""
    maximised, result = maximise(evaluator, method or problems.method, u0[None])
    asks = search_on(problems, maximised, loaded, u0, result.of(0))
    return rays.answered(asks, lambda at: maximised.logliks({0: at})[0])


def search_centred(
    problems: Problems,
    evaluator: SingleEvaluator,
    loaded: Loaded,
    u0: Float[Host, " p"],
    end: OptimizeResult,
    always: bool = False,
) -> Diagnosed | None:
    """On from an end in centred and scaled coordinates, where its columns ask for them; None where they do not.

    Args:
        u0: where the search began; ``end`` may be that point, not yet evaluated.
        always: also where the columns would do as they are.
    """
    if not isinstance(end.information, np.ndarray) or not np.isfinite(end.u).all():
        return None
    if not isinstance(evaluator, ChunkedEvaluator) or end.end in (End.INTERRUPTED, End.START_NOT_FINITE):
        return None
    if end.end == End.MAX_STEPS and _limited(problems.method):
        return None
    coordinates = coordinates_for(evaluator, u0, end.u, always)
    if coordinates is None:
        return None
    inside, result = _restart(mapped(evaluator, coordinates), problems.method, coordinates.to_v(end.u))
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
    """From the optimiser's end on: back to good digits, onto edges, along rays, and on from a higher point if there is one.

    ``first`` are the rays from that end, where they are known already.
    """
    evaluator, found = _with_good_digits(evaluator, u0, end)
    if isinstance(found, OptimizeResult):
        found = yield from _searched_on(problems, evaluator, loaded, u0, found, first)
        rising = any(d.behaviour == "rises" for d in found.findings.directions)
        evaluator, again = _with_good_digits(evaluator.with_spec(found.spec), u0, found.end, last=not rising)
        if isinstance(again, Diagnosed):
            return again._replace(note=found.note)
        if again is not found.end:
            found = yield from _searched_on(problems, evaluator, loaded, u0, again, None)
    if any(d.behaviour == "rises" and not d.bounded for d in found.findings.directions):
        information = evaluator.with_spec(found.spec).evaluate(u0[None]).information
        convex = information is not None and bool((information[0].diagonal() < 0.0).all())
        found = found._replace(findings=replace(found.findings, convex=convex))
    if found.end.information is not None and suspect(found.end, u0, found.spec.space):
        said = rounding_in_words(evaluator.with_spec(found.spec), found.end.u)
        found = found._replace(findings=replace(found.findings, rounding=said))
    return found


def _with_good_digits(
    evaluator: SingleEvaluator, u0: Float[Host, " p"], end: OptimizeResult, last: bool = False
) -> tuple[SingleEvaluator, OptimizeResult | Diagnosed]:
    """The end itself where its digits are good; else the end of a search that keeps them, or why there is none.

    That the digits end where the log-likelihood still rises is said only of an end that would be called a maximum, once the
    rays from it have shown no more (``last``).
    """
    if end.end == End.INTERRUPTED or not np.isfinite(end.loglik) or not linalg.all_finite(end.score):
        return evaluator, end
    if end.information is None or not suspect(end, u0, evaluator.spec.space):
        return evaluator, end
    with np.errstate(all="ignore"):
        found = digits(evaluator, end)
        if found is None or found.good:
            return evaluator, end
        better = with_differences(evaluator, end, found)
        if better is not None:
            return better
        back = regained(evaluator, u0, end, found.worst)
    if back.point is not None:
        evaluator, again = _restart(evaluator, optimize.Newton(), back.point)
        return evaluator, again._replace(n_steps=end.n_steps + again.n_steps, polished=end.polished)
    if back.on_edge:
        return evaluator, Diagnosed(evaluator.spec, back.end, Findings(limit=True))
    nothing_left = back.at_start and not found.first
    if back.words and not (last and (nothing_left or is_clean(end, evaluator.spec.space))):
        return evaluator, end
    at = back.end._replace(status=np.asarray(int(End.DIVERGED), np.int32))
    along = () if back.direction is None else (back.direction,)
    return evaluator, Diagnosed(evaluator.spec, at, Findings(along, rows=back.words))


def _searched_on(
    problems: Problems,
    evaluator: SingleEvaluator,
    loaded: Loaded,
    u0: Float[Host, " p"],
    end: OptimizeResult,
    first: RaysOfEnd | None,
) -> Asks[Diagnosed]:
    spec, space = evaluator.spec, evaluator.spec.space
    if end.end == End.INTERRUPTED:
        return Diagnosed(spec, end, Findings())
    if not np.isfinite(end.loglik) or not linalg.all_finite(end.score):
        return Diagnosed(spec, end, Findings(rows=explain(evaluator, end.u)))
    if end.information is None:
        return Diagnosed(spec, end, Findings())
    steps = end.n_steps
    onto = onto_edges(end, space)
    if onto is not None:
        again = held_on_edges(evaluator, onto, end)
        steps = again.n_steps
        if again.loglik >= end.loglik - SAME_LEVEL * max(1.0, abs(float(end.loglik))):
            end = again
    onward = problems.method if isinstance(problems.method, optimize.Newton) else optimize.Newton()
    for restarts in range(MAX_RESTARTS + 1):
        findings, unfinished = Findings(), end.end == End.MAX_STEPS
        if unfinished and not end.polished and restarts < MAX_RESTARTS and not _limited(problems.method):
            bent = off_an_inflection(evaluator, end)  # along a ridge that bends the profile gets further than steps
            evaluator, again = _restart(evaluator, optimize.Newton(), np.asarray(bent[0].point) if bent else end.u)
            steps = steps + again.n_steps
            if again.end != End.INTERRUPTED and again.loglik > end.loglik:
                end = again
                continue
        point = None if is_clean(end, space) else off_the_edges(evaluator, end)
        if point is None and not is_clean(end, space):
            findings = yield from _followed(problems, evaluator, loaded, u0, end, first)
            real, words = with_good_digits(evaluator, end, findings.directions)
            findings = replace(findings, directions=real, rows=words)
            if (
                unfinished and not end.polished and _limited(problems.method)
            ):  # further steps may pass what is seen here
                findings = replace(findings, directions=tuple(d for d in real if d.behaviour != "rises"))
            if not words and not unfinished and all(d.behaviour not in ("rises", "higher", "flat") for d in real):
                findings = replace(findings, directions=(*real, *off_an_inflection(evaluator, end)))
        higher = [d for d in findings.directions if d.behaviour in ("higher", "inflection") and d.point is not None]
        point = max(higher, key=lambda d: d.gain).point if higher else point
        if point is None and any(d.behaviour == "ridge" for d in findings.directions):
            point = nearby_point(end, space, far=True)
        if unfinished and end.polished and any(d.behaviour == "rises" for d in findings.directions):
            point, unfinished = end.u, False  # a few Newton steps after another method: not the user's limit
        # max_steps= is the user's limit: it does not start anew
        if point is None or unfinished or restarts == MAX_RESTARTS:
            break
        evaluator, again = _restart(evaluator, onward, np.asarray(point))
        steps = steps + again.n_steps
        gained = again.loglik > end.loglik + HIGHER[0] + HIGHER[1] * abs(end.loglik)
        gained |= end.end == End.MAX_STEPS and again.loglik >= end.loglik and again.end != End.MAX_STEPS
        if again.end == End.INTERRUPTED or not gained:
            break
        end = again._replace(polished=end.polished)
    return Diagnosed(evaluator.spec, end._replace(n_steps=steps), findings)


def _limited(method: Any) -> bool:
    """Whether the user set a limit on the steps that is not the method's own."""
    return bool(getattr(method, "max_steps", None) != getattr(type(method), "max_steps", None))


def _restart(evaluator: SingleEvaluator, method: Method, u0: Any) -> tuple[SingleEvaluator, OptimizeResult]:
    after, result = maximise(evaluator, method, u0[None])
    return after, result.of(0)


def _followed(
    problems: Problems,
    evaluator: SingleEvaluator,
    loaded: Loaded,
    u0: Any,
    end: OptimizeResult,
    first: RaysOfEnd | None,
) -> Asks[Findings]:
    """What the log-likelihood does around an end that is not clean."""
    spec = evaluator.spec
    # a penalty may tell apart what the rows cannot
    known = [] if spec.penalty is not None else formulas.null_directions(loaded.designs, spec.space, loaded.rows)
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
        findings = replace(findings, blurred=blurred(evaluator, end))
    return findings if known else (yield from settle_flat(evaluator, end, findings))


def blurred(evaluator: SingleEvaluator, end: OptimizeResult) -> bool:
    """Rounding of the log-likelihood outweighs its curvature in a coordinate whose error is beyond belief.

    The change of the log-likelihood over half a unit either way is compared with the integral of its score, by Simpson's
    rule: they agree where the formula keeps its digits.
    """
    assert end.information is not None
    space = evaluator.spec.space
    free = interior(space, end.u)
    errors = ends.errors_over(information_over(end.information, free), free)
    bent = ends.curved(space)
    for j in np.flatnonzero(free & (errors > ends.believable(end.u, space))):
        h = 0.5 if bent[j] else errors[j]
        at = np.tile(end.u, (2, 1))
        at[:, j] += [-h, h]
        at = np.clip(at, space.lower, space.upper)
        low, high = (evaluator.evaluate(u[None], 1) for u in at)
        values = np.array([low.loglik[0], high.loglik[0]])
        if not np.isfinite(values).all():
            continue  # the numbers end there, which ray tests see
        slope = sum(np.asarray(at.score)[0, j] for at in (low, high)) + 4.0 * end.score[j]
        if not abs(values[1] - values[0] - h / 3.0 * slope) <= 0.05 * np.abs(values - end.loglik).max() + 1e-9:
            return True
    return False


def explain(evaluator: SingleEvaluator, u: Float[Host, " p"]) -> str:
    """Which rows and parameters make the log-likelihood or its score not finite at u."""
    spec, fixed = evaluator.spec, evaluator.fixed
    values, scores, *_ = row_terms(evaluator, u)
    own, held = spec.space.in_own(u, fixed)
    theta = np.asarray(spec.space.own.theta_from_u(own, held))
    at = ", ".join(f"{name} = {x:.6g}" for name, x in list(zip(spec.space.theta_labels, theta, strict=True))[:6])
    found = movements.explain_non_finite(values, scores, spec.space.theta_labels, at)
    if found:
        return found
    if spec.reduction is not None:
        return (
            f"the information is not positive definite at {at}, or not finite, so that bias reduction "
            f"({spec.reduction.kind}) is not defined there"
        )
    if spec.penalty is not None and not finite_penalty(spec, u, fixed, evaluator.hyper):
        return f"the penalty, its gradient or its curvature is not finite at {at}"
    return f"the sum of the log-likelihood or its score overflows at {at}"


def evidence_at(space: Space, fixed: Any, end: OptimizeResult, findings: Findings) -> Evidence:
    """What :func:`mlejax.verdict.judge` looks at."""
    if findings.mapped is not None:
        space, fixed, end = findings.mapped.space, findings.mapped.constants, findings.mapped.end
    free = interior(space, end.u)
    smallest, condition, definite, doubted = float("nan"), float("nan"), False, False
    if end.information is not None:
        inner = information_over(end.information, free)
        (smallest, condition), definite = inner.conditioning(), inner.ok
        if definite:
            doubted = bool((np.sqrt(inner.inverse_diagonal()) > ends.believable(end.u, space)[free]).any())
    theta = np.asarray(space.theta_from_u(end.u, fixed)) if not free.all() else end.u
    edges = tuple((space.theta_labels[j], float(theta[j]), float(end.score[j])) for j in np.flatnonzero(~free).tolist())
    return Evidence(
        end=end.end,
        decrement=float(end.decrement),
        decrements=() if end.information is None else tuple(end.decrements.tolist()),
        mismatch=float(end.mismatch),
        smallest_eigenvalue=smallest,
        condition=condition,
        definite=definite,
        edges=edges,
        directions=findings.directions,
        doubtful=doubted,
        blurred=findings.blurred,
        rounding=findings.rounding,
        limit=findings.limit,
        rows=findings.rows,
        deciding=findings.deciding,
        convex=findings.convex,
        n_steps=int(end.n_steps),
        dense=end.information is not None,
        message=end.message,
        advice=ADVICE_AFTER_TRAINING if end.message else "",
    )
