"""The search of L >= 1 data sets: maximise from a start, accept clear maxima, and diagnose the other final points."""

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
from mlejax.latent import marginal_of, mixture_of
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
from mlejax.verdict import Findings

FEW_UNITS, FEW_ROWS = (24, 64), 640  # of latents, on which candidates for a start are compared at least: units, with rows
ROUGH_ROWS = 4_096  # of latents, from which a rough estimate is made


@dataclass(frozen=True, eq=False)
class Outcome:
    """The result of the searches of L data sets.

    Attributes:
        spec: the specification; with a differenced Hessian if JAX's second derivatives were missing, not finite or, of a single
            data set, inaccurate.
        result: final points, arrays with a leading axis L.
        clean: mask, (L,), of the final points that are accepted as maxima without further tests.
        findings, notes: findings and notes of the diagnosis, by number of the data set.
        finished: False if Ctrl-C interrupted the searches or the diagnosis.
        unexamined: numbers of the data sets that were not diagnosed before the interruption.
        at: the final points in natural coordinates, before the diagnosis; None if they were not computed.
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
        """Return the final point of data set number i with its diagnosis (empty `Findings` if it was not diagnosed)."""
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
    """Maximise from u0, and diagnose final points that are not clear maxima, continuing from higher points.

    Args:
        problems: the data sets, for the diagnosis.
        evaluator: evaluator of the same data sets.
        u0: starts, (L, p).
        which: numbers of the data sets to work on.
        reached: results of searches from u0, if they were made already.
        report: called after each step with (number of steps, mean log-likelihood).
        in_theta: converts final points to natural coordinates; the check for clear maxima uses the inverse information from it.

    Returns:
        The `Outcome`; Ctrl-C during the search or the diagnosis ends it with ``finished=False``.
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
    """Search one data set from further starts, listed and random, and return the highest maximum that any start reached.

    Args:
        problems: the data set, for the diagnosis.
        evaluator: its evaluator.
        loaded: its data.
        first: the diagnosis of the first search.
        given: for each leaf the value under ``start=``, or None.
        listed: further starts that the user gave, each like ``given``.
        n_starts: number of starts in total; those not listed are random.

    Returns:
        The diagnosis at the highest maximum (``first`` if there is none), and the points that the starts reached.

    Raises:
        ValueError: more than 500 free parameters.
    """
    space = evaluator.spec.space
    if space.n_free > POLISH_LIMIT:
        raise ValueError(
            f"n_starts={n_starts} runs Newton's method from every start, which is supported for up to {POLISH_LIMIT} parameters, "
            f"and this model has {space.n_free}: leave out n_starts="
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
    """Make the `Problems` of the data sets; by default of a single one, whose evaluator is the one of all.

    Args:
        method, fixed, seed, together: as in `Problems`.
        loaded: number of a data set -> its data.
        given: number -> for each leaf the value under ``start=``, or None.
        one: (evaluator of all, number) -> evaluator of one data set.
    """
    again = partial(start_of_one, seed=seed, n_ranked=None)
    scattered = partial(_scattered, n=N_SCATTERED, seed=seed)
    listed = partial(_candidates, seed=seed)
    return Problems(method, fixed, seed, loaded, one, given, again, scattered, listed, together)


def _scattered(
    space: Space, loaded: Loaded, given: list[Any], end: OptimizeResult, n: int, seed: int
) -> Float[Host, "n p"]:
    """Return n random starts in u, (n, p): half around the final point ``end``, half on the scales of the data's columns."""
    one = end.alone()
    data = with_leading_axis(loaded.seen.problem.data)
    return start_room.scatter(space, data, given, one.u, one.information, n, seed)[0]


def _candidates(spec: Spec, loaded: Loaded, given: list[Any], seed: int) -> Float[Host, "n p"]:
    """Return the candidates among which a first start is chosen, in u, (n, p)."""
    data = with_leading_axis(loaded.seen.problem.data)
    declared, own, first = spec.likelihood.parameters, [False] * len(given), np.zeros(1, np.int64)
    values = start_room.candidates(spec.space, given, own, first, data, seed, loaded.designs, declared)
    return many_to_u(spec.space, [v[0] for v in values])


def start_of_one(
    evaluator: SingleEvaluator, loaded: Loaded, given: list[Any], seed: int, n_ranked: int | None = start_room.N_RANKED
) -> Float[Host, " p"]:
    """Return u of the start of one data set, (p,), as `choose` does: the given start, the first guess if it is acceptable, or
    the best candidate on ``n_ranked`` rows (None: on all rows, without the first guess).

    For models with latent variables, whose terms belong to units, the first guess is a rough estimate, if there is one, from as
    many units as have 4,096 rows together, but at least 64.  Candidates are compared on as many units as have ``n_ranked`` rows
    together, but at least on 64 units; if units have more than 10 rows, at least on those with 640 rows together, 24 or more.
    """
    spec, designs = evaluator.spec, loaded.designs
    if spec.space.n_free == 0:
        return np.zeros(0)
    one, rough = np.zeros(1, np.int64), None
    if n_ranked is not None and marginal_of(spec.likelihood) is not None:  # units of many rows
        per_row = loaded.problem.data.n_contributions / max(loaded.rows.n, 1)
        n_ranked = max(int(np.clip(FEW_ROWS * per_row, *FEW_UNITS)), int(n_ranked * per_row))
        rough = start_room.rough_estimate(evaluator, given, designs, max(int(ROUGH_ROWS * per_row), FEW_UNITS[1]))
    declared = spec.likelihood.parameters
    return start_room.choose(evaluator, one, given, None, designs, declared, seed, n_ranked, rough)[0][0]


def with_modes(done: Fit, modes: tuple[Mode, ...]) -> Fit:
    """Add what several starts found (``modes``) to the verdict; unchanged with one start (no modes) or without convergence."""
    if not modes or not done.verdict.converged:
        return done
    n_starts = sum(mode.n_starts for mode in modes)
    return replace(done, verdict=done.verdict.amended(note=start_room.statement(modes, n_starts), starts=False))
