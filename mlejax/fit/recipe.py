"""The one recipe: check the data, choose starts, maximise, diagnose the ends that are not clean, finish.

The arithmetic runs over L >= 1 data sets (:func:`search_all`).  A single fit is L = 1; what differs is the evaluator.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import jax
import numpy as np

from mlejax import optimize
from mlejax.data import formulas
from mlejax.execution import cached, float64
from mlejax.fit import start as start_room
from mlejax.fit.common import check_count
from mlejax.fit.diagnose import (
    N_SCATTERED,
    TOGETHER,
    Diagnosed,
    Findings,
    Problems,
    clean,
    diagnose,
    search_centred,
    suspect,
)
from mlejax.fit.finish import Fit, finish, nothing_to_estimate
from mlejax.fit.fixed import fix
from mlejax.fit.loading import Loaded, load, unscaled
from mlejax.fit.maximise import POLISH_LIMIT, maximise
from mlejax.fit.natural import InTheta
from mlejax.fit.penalties import bind_penalty
from mlejax.fit.start import Mode, subsample
from mlejax.fit.training import held_out_data, train
from mlejax.likelihood import (
    Likelihood,
    check_rows_once,
    missing_derivatives,
)
from mlejax.objective import (
    BiasReduction,
    ChunkedEvaluator,
    Evaluator,
    SingleEvaluator,
    Spec,
    check_reduction,
    run_of_starts,
    with_leading_axis,
)
from mlejax.optimize import OptimizeResult
from mlejax.parameters import Space
from mlejax.shapes import Bool, Float, Host, Int, PyTree
from mlejax.status import End
from mlejax.verdict import ConvergenceWarning

MOST_STARTS = 1_000_000


# ---- over L data sets


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
    report: Callable[[int, float], None] | None = None,
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
    if reached is None:
        evaluator, reached = maximise(evaluator, problems.method, u0, which, report)
    at = in_theta(reached) if in_theta is not None and reached.information is not None else None
    good = clean(reached, evaluator.spec.space, at)
    good &= ~suspect(reached, u0, evaluator.spec.space)
    ran = np.asarray(reached.status)[which] != int(End.INTERRUPTED)
    outcome = Outcome(evaluator.spec, reached, good, finished=bool(ran.all()), at=at)
    unclean = [i for i in which[ran].tolist() if not good[i]]
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


# ---- one data set


def fit(
    likelihood: Likelihood,
    data: Any,
    *,
    start: Any = None,
    fixed: Mapping[str, Any] | None = None,
    weights: Any = None,
    weight_kind: str | None = None,
    method: Any = "newton",
    missing: str = "raise",
    seed: int = 0,
    progress: bool | None = None,
    groups: Sequence[str] = (),
    n_starts: int | None = None,
    penalty: Any = None,
    hyper: PyTree = None,
    restrict: Callable[[Space], Any] | None = None,
    bias_reduction: str | None = None,
    validation: Any = None,
) -> Fit:
    """Maximum likelihood for one data set; arguments as in ``Model.fit``.

    ``groups`` are the columns of clusters, if any; ``restrict`` gives the constraints in a layout as matrix R, values r and
    labels, R reported = r.
    """
    algorithm, seed = optimize.resolve(method), check_count("seed", seed, 0)
    start, listed = _listed_starts(likelihood, start)
    n_starts = check_n_starts(n_starts, len(listed))
    with float64(), missing_derivatives(likelihood), outside_transformations():
        with _before_the_first_step(likelihood):
            loaded = load(likelihood, data, start, missing, groups, weights, weight_kind)
            reading = (start, missing, weights, weight_kind)
            loaded, held_out = held_out_data(likelihood, loaded, algorithm, n_starts, validation, reading)
            given = start_room.given_values(loaded.problem.space, likelihood.parameters, start)
            space, held = fix_on_host(loaded.problem.space, fixed)
            remark, labels, modes = "", tuple[str, ...](), tuple[Mode, ...]()
            if optimize.batched(algorithm) and (restrict is not None or bias_reduction is not None):
                raise ValueError("constraints= and bias_reduction= are for methods on all rows; leave out batch_size")
            if restrict is not None:
                space, labels, remark = _restricted(space, held, restrict)
            penalty, hyper = bind_penalty(penalty, hyper, loaded.problem.space)
            reduction = _checked_reduction(bias_reduction, likelihood, penalty, loaded, space)
            if penalty is not None or reduction is not None:
                loaded = replace(unscaled(loaded), hyper=hyper)
            # equal specifications are one object: looked up at every dispatch
            spec = cached(likelihood, ("spec", space), lambda: Spec(likelihood, space))
            if penalty is not None or reduction is not None:
                spec = replace(spec, penalty=penalty, reduction=reduction)
            evaluator = ChunkedEvaluator(spec, loaded.problem.data, held, loaded.hyper)
            u0 = _first_start(evaluator, algorithm, loaded, given, seed)
            check_rows_once(likelihood, space, loaded.problem.data, u0, held)
        if space.n_free == 0:
            return replace(nothing_to_estimate(evaluator, loaded), constraints=labels, note=remark)
        if start is not None and labels:
            remark += _start_moved(space, given, u0, held)
        problems = problems_of(algorithm, held, seed, lambda _: loaded, lambda _: given)
        history, reached = None, None
        with _reporter(progress, algorithm, space.n_free) as report:
            if optimize.batched(algorithm):
                reached, history = train(evaluator.spec, algorithm, loaded, u0, held, held_out, report)
                reached = reached.alone()
            outcome = _centred(problems, evaluator, loaded, u0) or search_all(
                problems, evaluator, u0[None], np.zeros(1, np.int64), reached=reached, report=report
            )
            found = outcome.diagnosed(0)
            evaluator = evaluator.with_spec(outcome.spec)
            if n_starts > 1 and found.end.end != End.INTERRUPTED:
                more = [start_room.given_values(space, likelihood.parameters, s) for s in listed[1:]]
                found, modes = several_starts(problems, evaluator, loaded, found, given, more, n_starts)
        check_rows_once(likelihood, space, loaded.problem.data, found.end.u, held)
        done = finish(evaluator, loaded, found, algorithm)
        if loaded.designs is not None and done.verdict.code != "verified":
            remark = " ".join(n for n in (remark, formulas.remark(loaded.designs, loaded.rows)) if n)
        note = f"Held out to watch the training: {held_out.origin}." if held_out is not None else found.note
        text = " ".join(n for n in (note, remark) if n)
        done = replace(done, note=text, modes=modes, constraints=labels, history=history)
        done = with_modes(done, modes)
    if not done.verdict.converged:
        warnings.warn(f"{likelihood.name}: {done.verdict}. {done.verdict.advice}", ConvergenceWarning, stacklevel=3)
    return done


def continued(fit: Fit, u0: Float[Host, " p"]) -> Fit:
    """The fit of the same data by Newton's method from another point u0 (p,)."""
    loaded, method, space = fit.loaded, optimize.Newton(), fit.spec.space
    with float64(), missing_derivatives(fit.spec.likelihood), outside_transformations():
        evaluator = ChunkedEvaluator(fit.spec, loaded.problem.data, fit.fixed, loaded.hyper)
        problems = problems_of(method, fit.fixed, 0, lambda _: loaded, lambda _: [None] * len(space.leaves))
        found = search_all(problems, evaluator, u0[None], np.zeros(1, np.int64)).diagnosed(0)
        done = finish(evaluator.with_spec(found.spec), loaded, found, method)
    return replace(done, note="Begun at a point that a profile met.", constraints=fit.constraints)


@contextmanager
def _before_the_first_step(likelihood: Likelihood) -> Iterator[None]:
    """Ctrl-C says that there is no estimate yet."""
    try:
        yield
    except KeyboardInterrupt:
        raise KeyboardInterrupt(
            f"{likelihood.name}: interrupted before the first step; nothing was estimated"
        ) from None


def _centred(problems: Problems, evaluator: ChunkedEvaluator, loaded: Loaded, u0: Float[Host, " p"]) -> Outcome | None:
    """The whole search in centred and scaled coordinates where bias reduction differences gradients, by steps of one scale."""
    if evaluator.spec.reduction is None:
        return None
    start = OptimizeResult.empty(1, u0.size, dense=True).of(0)._replace(u=u0, status=np.asarray(int(End.RUNNING)))
    found = search_centred(problems, evaluator, loaded, u0, start, always=True)
    if found is None:
        return None
    return Outcome(
        found.spec, found.end.alone(), np.zeros(1, bool), {0: found.findings}, {0: found.note} if found.note else {}
    )


def problems_of(
    method: Any,
    fixed: Any,
    seed: int,
    loaded: Callable[[int], Loaded],
    given: Callable[[int], list[Any]],
    one: Callable[[Any, int], SingleEvaluator] = lambda evaluator, _: evaluator,
    together: int = TOGETHER,
) -> Problems:
    """Data sets as the recipe sees them; by default one, whose evaluator is that of all."""
    again = partial(start_of_one, seed=seed, n_ranked=None)
    scattered = partial(_scattered, n=N_SCATTERED, seed=seed)
    return Problems(method, fixed, seed, loaded, one, given, again, scattered, together)


def _scattered(
    space: Space, loaded: Loaded, given: list[Any], end: OptimizeResult, n: int, seed: int
) -> Float[Host, "n p"]:
    """Starts in u around an end and on the scales of the data."""
    one = end.alone()
    data = with_leading_axis(loaded.problem.data)
    return start_room.scatter(space, data, given, one.u, one.information, n, seed)[0]


def with_modes(done: Fit, modes: tuple[Mode, ...]) -> Fit:
    """The fit with its verdict's statement of the maxima that were found, if there were several starts."""
    if not modes or not done.verdict.converged:
        return done
    n_starts = sum(mode.n_starts for mode in modes)
    return replace(done, verdict=done.verdict.with_note(start_room.statement(modes, n_starts)))


def _checked_reduction(
    kind: Any, likelihood: Likelihood, penalty: Any, loaded: Loaded, space: Space
) -> BiasReduction | None:
    reduction = check_reduction(kind, likelihood.companions.get("expected_information"))
    if reduction is None:
        return None
    if penalty is not None:
        raise ValueError("give penalty= or bias_reduction=, not both: bias reduction is a penalty of its own")
    if space.n_free > POLISH_LIMIT:
        raise ValueError(f"bias_reduction needs a dense information; it is offered for up to {POLISH_LIMIT} parameters")
    if reduction.kind == "empirical":
        if loaded.weights is not None and loaded.weights.kind != "frequency":
            raise ValueError(
                f"bias_reduction='empirical' sums squares of scores, which {loaded.weights.kind} weights have no one meaning "
                "for; leave out the weights, or use frequency weights"
            )
        if loaded.problem.data.mode == "whole" and loaded.problem.data.n_contributions <= 1:
            raise ValueError(
                "bias_reduction='empirical' sums the scores of separate contributions, but the model returns one scalar"
            )
    return reduction


def _listed_starts(likelihood: Likelihood, start: Any) -> tuple[Any, list[Any]]:
    """``start=`` as the first start and the list of all; a bare model's own structure may be a list: it is one start."""
    if likelihood.parameters is None or not isinstance(start, (list, tuple)):
        return start, [start]
    if not start:
        raise ValueError("start= is an empty list; expected a start, or a list of starts")
    return start[0], list(start)


def check_n_starts(n_starts: Any, n_listed: int) -> int:
    """``n_starts=`` as a number.

    Raises:
        ValueError: no whole number of at least 1, or less than the starts that were listed.
    """
    if n_starts is None:
        return n_listed
    if isinstance(n_starts, bool) or not isinstance(n_starts, (int, np.integer)) or n_starts < 1:
        raise ValueError(f"n_starts= expected a whole number of at least 1, got {n_starts!r}")
    if n_starts > MOST_STARTS:
        raise ValueError(f"n_starts= expected at most {MOST_STARTS:,}, got {n_starts:.3g}")
    if n_starts < n_listed:
        raise ValueError(f"n_starts={n_starts} is less than the {n_listed} starts in start=")
    return int(n_starts)


class outside_transformations:
    """``fit`` works on numbers: inside ``jit`` even constants are traced, which JAX reports less clearly."""

    def __enter__(self) -> None: ...

    def __exit__(self, kind: Any, error: Any, where: Any) -> None:
        if isinstance(error, jax.errors.TracerArrayConversionError):
            raise TypeError(
                "fit was called inside jax.jit, vmap or grad; it needs numbers.  Call it outside, or use the pure core "
                "mle.solve(model, model.prepare(data), start) there"
            ) from error


# ---- starting


def fix_on_host(space: Space, fixed: Mapping[str, Any] | None) -> tuple[Space, np.ndarray | None]:
    """``fixed=`` -> the layout with those entries fixed, and the vector of all values on the host, or None."""
    if fixed is not None and not isinstance(fixed, Mapping):
        raise TypeError(f"fixed= expected a dict of address -> value, {{'sigma': 1.0}}, got {type(fixed).__name__}")
    layout, values = fix(space, fixed)
    return layout, None if values is None else np.asarray(values)


def _restricted(
    space: Space, held: np.ndarray | None, restrict: Callable[[Space], Any]
) -> tuple[Space, tuple[str, ...], str]:
    """The layout under linear constraints, their labels, and a remark on those that follow from others."""
    R, r, labels = restrict(space)
    tied, redundant = space.tie(R, r, labels, held)
    if not redundant:
        return tied, tuple(labels), ""
    one = len(redundant) == 1
    remark = f"Constraint{'' if one else 's'} {', '.join(redundant)} follow{'s' * one} from the others."
    return tied, tuple(label for label in labels if label not in redundant), remark


def _start_moved(space: Space, given: list[Any], u0: np.ndarray, held: np.ndarray | None) -> str:
    """A remark if the start that was given breaks the constraints."""
    at = space.split(jax.tree.map(np.asarray, space.params_from_u(u0, held)))
    for leaf, wanted, value in zip(space.leaves, given, at, strict=True):
        if wanted is None:
            continue
        asked = np.isfinite(np.ravel(wanted)) & (True if leaf.free is None else np.asarray(leaf.free))
        if not np.allclose(np.ravel(wanted)[asked], np.ravel(value)[asked], rtol=1e-6, atol=1e-9):
            return "start= does not satisfy the constraints: it was moved to where it does."
    return ""


def _first_start(
    evaluator: ChunkedEvaluator, method: Any, loaded: Loaded, given: list[Any], seed: int
) -> Float[Host, " p"]:
    """u of the start, from a subsample of many rows."""
    spec, data = evaluator.spec, loaded.problem.data
    if any(v is not None for v in given) or not subsample.worthwhile(spec, data, method):
        return start_of_one(evaluator, loaded, given, seed)
    sample = subsample.first_rows(spec, data)
    of_sample = ChunkedEvaluator(spec, sample, evaluator.fixed, program_of=data)
    plain = start_of_one(of_sample, loaded, given, seed)
    try:
        near = subsample.improved(spec, data, sample, plain, evaluator.fixed)
    except NotImplementedError:  # JAX lacks a second derivative
        near = None
    return plain if near is None else subsample.chosen(evaluator, near, plain)


def start_of_one(
    evaluator: Evaluator, loaded: Loaded, given: list[Any], seed: int, n_ranked: int | None = start_room.N_RANKED
) -> Float[Host, " p"]:
    """u of one data set's start: the given one, or the best found."""
    spec, designs = evaluator.spec, loaded.designs
    if spec.space.n_free == 0:
        return np.zeros(0)
    one = np.zeros(1, np.int64)
    return start_room.choose(evaluator, one, given, None, designs, spec.likelihood.parameters, seed, n_ranked)[0][0]


@contextmanager
def _reporter(progress: bool | None, method: Any, p: int) -> Iterator[Callable[..., None] | None]:
    """A progress bar for long fits: a callback, or None."""
    wanted = progress if progress is not None else (not isinstance(method, optimize.Newton) and p > 1000)
    if not wanted:
        yield None
        return
    from tqdm.auto import tqdm

    epochs = method.epochs if optimize.batched(method) else None
    with tqdm(unit="step" if epochs is None else "epoch", total=epochs) as bar:

        def show(n_done: int, mean_loglik: float, held_out: float | None = None) -> None:
            bar.update(n_done - bar.n)
            more = "" if held_out is None else f", held out {held_out:.6g}"
            bar.set_postfix_str(f"mean log-likelihood {mean_loglik:.6g}{more}")

        yield show
