"""From ends to findings: where an end is not clean, rays are tested, and the search goes on from a higher point.

The diagnosis of one data set is a generator that asks for log-likelihoods along rays; those of many data sets are
answered together, in chunks.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from mlejax import optimize
from mlejax.fit.diagnose import ends
from mlejax.fit.diagnose.directions import rays
from mlejax.fit.diagnose.directions.probes import rays_of_many
from mlejax.fit.diagnose.ends import clean, is_clean
from mlejax.fit.diagnose.onward import SAME_LEVEL, search, search_centred, search_on
from mlejax.fit.diagnose.problems import Diagnosed, Problems
from mlejax.fit.diagnose.rounding.digits import (
    lost,
)
from mlejax.fit.maximise.maximise import maximise
from mlejax.fit.prepare.loaded import Loaded
from mlejax.objective import Evaluator, SingleEvaluator
from mlejax.optimize import OptimizeResult
from mlejax.shapes import Float, Host
from mlejax.status import End

N_SCATTERED = 4  # further starts where the first search did not leave its start, or ended at infinity
SCATTERED_STEPS = 60
MOST_SCATTERED = 50  # parameters


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
