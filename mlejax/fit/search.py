"""The search of L >= 1 data sets: maximise from a start, test whether the end is a maximum, diagnose the others."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import numpy as np

from mlejax import optimize
from mlejax.execution import doing
from mlejax.fit import start as start_room
from mlejax.fit.diagnose import (
    N_SCATTERED,
    TOGETHER,
    Diagnosed,
    Findings,
    Problems,
    clean,
    diagnose,
    suspect,
)
from mlejax.fit.finish.finish import Fit
from mlejax.fit.finish.natural import InTheta, many_to_u
from mlejax.fit.maximise.em_steps import class_starts
from mlejax.fit.maximise.maximise import POLISH_LIMIT, maximise
from mlejax.fit.prepare.loaded import Loaded
from mlejax.fit.start import Mode
from mlejax.latent import mixture_of
from mlejax.objective import (
    ChunkedEvaluator,
    Evaluator,
    SingleEvaluator,
    Spec,
    run_of_starts,
    with_leading_axis,
)
from mlejax.optimize import Method, OptimizeResult
from mlejax.parameters import Space
from mlejax.shapes import Bool, Float, Host, Int
from mlejax.status import End


@dataclass(frozen=True, eq=False)
class Outcome:
    """What the recipe found for L data sets.

    Attributes:
        spec: with a differenced Hessian where JAX lacked a second derivative.
        result: the ends, arrays of all L.
        clean: flags (L,) of the ends that are maxima without further tests.
        findings, notes: of the diagnosis, by number of the data set.
        finished: nothing was cut short by the keyboard.
        unexamined: numbers of the data sets whose ends were not examined before the keyboard interrupted.
        at: the ends in natural coordinates before the diagnosis, where they were formed.
    """

    spec: Spec
    result: OptimizeResult
    clean: Bool[Host, " L"]
    findings: dict[int, Findings] = field(default_factory=dict)
    notes: dict[int, str] = field(default_factory=dict)
    finished: bool = True
    unexamined: tuple[int, ...] = ()
    at: InTheta | None = None

    def diagnosed(self, i: int) -> Diagnosed:
        """One data set's end with what was found."""
        return Diagnosed(self.spec, self.result.of(i), self.findings.get(i, Findings()), self.notes.get(i, ""))


def search_all(
    problems: Problems,
    evaluator: Evaluator,
    u0: Float[Host, "L p"],
    which: Int[Host, " m"],
    *,
    reached: OptimizeResult | None = None,
    report: Callable[..., None] | None = None,
    in_theta: Callable[[OptimizeResult], InTheta] | None = None,
) -> Outcome:
    """Maximise from u0; diagnose the ends that are not clean, and go on from where the log-likelihood is higher.

    Args:
        problems: the data sets, as the diagnosis asks for them.
        evaluator: of the same data sets.
        u0: starts, (L, p).
        which: numbers of the data sets to work on.
        reached: ends that were reached already.
        report: called with (steps, mean log-likelihood) on the way.
        in_theta: how to form ends in natural coordinates, whose inverses the clean test then uses.
    """
    searched = reached is None
    if reached is None:
        evaluator, reached = maximise(evaluator, problems.method, u0, which, report)
    at = in_theta(reached) if in_theta is not None and reached.information is not None else None
    good = clean(reached, evaluator.spec.space, at)
    good &= ~suspect(evaluator, reached, u0, good)
    ran = np.asarray(reached.status)[which] != int(End.INTERRUPTED)
    outcome = Outcome(evaluator.spec, reached, good, finished=bool(ran.all()), at=at)
    unclean = [i for i in which[ran].tolist() if not good[i]]
    if unclean and searched:
        doing("examining the end")
    try:
        for i, found in diagnose(problems, evaluator, u0, reached, unclean):
            reached.put(i, found.end)
            outcome.findings[i] = found.findings
            if found.note:
                outcome.notes[i] = found.note
            if evaluator.n_sets == 1:  # of many, one may have ended where only differences of scores are right
                outcome = replace(outcome, spec=found.spec)
    except KeyboardInterrupt:
        left = tuple(i for i in unclean if i not in outcome.findings)
        return replace(outcome, finished=False, unexamined=left)
    return outcome


def several_starts(
    problems: Problems,
    evaluator: SingleEvaluator,
    loaded: Loaded,
    first: Diagnosed,
    given: list[Any],
    listed: Sequence[Any],
    n_starts: int,
) -> tuple[Diagnosed, tuple[Mode, ...]]:
    """Run further starts of one data set, listed and drawn, and go to the highest maximum that any of them reached."""
    space = evaluator.spec.space
    if space.n_free > POLISH_LIMIT:
        raise ValueError(
            f"n_starts={n_starts} runs Newton's method from every start, which is offered for up to {POLISH_LIMIT} parameters; "
            f"here are {space.n_free}"
        )
    points = [start_of_one(evaluator, loaded, values, problems.seed) for values in listed]
    n_drawn = n_starts - 1 - len(points)
    if mixture_of(evaluator.spec.likelihood) is not None and isinstance(evaluator, ChunkedEvaluator):
        drawn = class_starts(evaluator, start_of_one(evaluator, loaded, given, problems.seed), n_drawn, problems.seed)
    else:
        drawn = _scattered(space, loaded, given, first.end, n_drawn, problems.seed)
    u0 = np.concatenate([np.reshape(points, (-1, space.n_free)), drawn])
    method = problems.method if isinstance(problems.method, optimize.Newton) else optimize.Newton()
    method = replace(method, max_steps=min(method.max_steps, start_room.MAX_STEPS))
    found = run_of_starts(evaluator, method, u0)
    reached = [found.of(i) for i in np.flatnonzero(found.status != int(End.INTERRUPTED))]
    modes, best = start_room.modes_of(problems, evaluator, loaded, [first.end, *reached])
    if best is None:
        return first, modes
    steps = sum(int(e.n_steps) for e in (first.end, *reached))
    best = best._replace(end=best.end._replace(n_steps=np.asarray(steps), polished=first.end.polished), note=first.note)
    return best, modes


def problems_of(
    method: Method,
    fixed: Host | None,
    seed: int,
    loaded: Callable[[int], Loaded],
    given: Callable[[int], list[Any]],
    one: Callable[[Any, int], SingleEvaluator] = lambda evaluator, _: evaluator,
    together: int = TOGETHER,
) -> Problems:
    """Data sets as the recipe sees them; by default one, whose evaluator is that of all."""
    again = partial(start_of_one, seed=seed, n_ranked=None)
    scattered = partial(_scattered, n=N_SCATTERED, seed=seed)
    listed = partial(_candidates, seed=seed)
    return Problems(method, fixed, seed, loaded, one, given, again, scattered, listed, together)


def _scattered(
    space: Space, loaded: Loaded, given: list[Any], end: OptimizeResult, n: int, seed: int
) -> Float[Host, "n p"]:
    """Starts in u around an end and on the scales of the data."""
    one = end.alone()
    data = with_leading_axis(loaded.seen.problem.data)
    return start_room.scatter(space, data, given, one.u, one.information, n, seed)[0]


def _candidates(spec: Spec, loaded: Loaded, given: list[Any], seed: int) -> Float[Host, "n p"]:
    """The candidates among which a first start is chosen, in u."""
    data = with_leading_axis(loaded.seen.problem.data)
    declared, own, first = spec.likelihood.parameters, [False] * len(given), np.zeros(1, np.int64)
    values = start_room.candidates(spec.space, given, own, first, data, seed, loaded.designs, declared)
    return many_to_u(spec.space, [v[0] for v in values])


def start_of_one(
    evaluator: Evaluator, loaded: Loaded, given: list[Any], seed: int, n_ranked: int | None = start_room.N_RANKED
) -> Float[Host, " p"]:
    """u of one data set's start: the given one, or the best found."""
    spec, designs = evaluator.spec, loaded.designs
    if spec.space.n_free == 0:
        return np.zeros(0)
    one = np.zeros(1, np.int64)
    return start_room.choose(evaluator, one, given, None, designs, spec.likelihood.parameters, seed, n_ranked)[0][0]


def with_modes(done: Fit, modes: tuple[Mode, ...]) -> Fit:
    """The fit with its verdict's statement of the maxima that were found, if there were several starts."""
    if not modes or not done.verdict.converged:
        return done
    n_starts = sum(mode.n_starts for mode in modes)
    return replace(done, verdict=done.verdict.with_note(start_room.statement(modes, n_starts)))
