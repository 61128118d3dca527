"""The steps of a fit: check the data, choose starts, maximise, diagnose final points that are not clear maxima, finish.

The search runs over L >= 1 data sets (:mod:`mlejax.fit.search`); here L = 1.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np

from mlejax import optimize
from mlejax.data import formulas
from mlejax.execution import cached, doing, float64, progress_line
from mlejax.fit import start as start_room
from mlejax.fit.common import check_count
from mlejax.fit.diagnose import (
    Diagnosed,
    Problems,
    search_centred,
)
from mlejax.fit.elimination_checks import (
    Settling,
    check_options,
    settled_levels,
    with_more_levels_eliminated,
    without_open_levels,
)
from mlejax.fit.finish.finish import Fit, finish, nothing_to_estimate, with_effects
from mlejax.fit.first_start import first_start
from mlejax.fit.maximise.em_steps import Climbed, climb
from mlejax.fit.maximise.maximise import maximise
from mlejax.fit.maximise.training import History, ValidationData, train, validation_data
from mlejax.fit.prepare.arguments import (
    Watch,
    before_the_first_step,
    check_n_starts,
    checked_reduction,
    fix_on_host,
    listed_starts,
    outside_transformations,
    restricted,
    start_moved,
    warn_of_dense_steps,
)
from mlejax.fit.prepare.constraints.constrained import CHOICES, Restrictions, another_choice, at_estimate, begin
from mlejax.fit.prepare.loaded import Loaded, unscaled
from mlejax.fit.prepare.loading import load
from mlejax.fit.prepare.penalties import bind_penalty
from mlejax.fit.prepare.request import Request
from mlejax.fit.prepare.streaming import (
    AnyEvaluator,
    check_place,
    check_stream_options,
    evaluator_of,
    is_stream,
    keep_passes,
    load_stream,
    with_fingerprint,
    without_rows_of_stream,
)
from mlejax.fit.search import Outcome, problems_of, search_all, several_starts, start_of_one, with_modes
from mlejax.fit.separation_by_effects import separation_of, with_separated_told, without_rows
from mlejax.fit.start import Mode
from mlejax.likelihood import (
    Likelihood,
    check_rows_once,
    missing_derivatives,
)
from mlejax.objective import (
    ChunkedEvaluator,
    EffectsEvaluator,
    Spec,
)
from mlejax.optimize import Method, OptimizeResult
from mlejax.parameters import Space
from mlejax.shapes import Data, Float, Host
from mlejax.status import End


def fit_once(likelihood: Likelihood, data: Data, **asked: Any) -> Fit:
    """Fit one data set by (penalised or bias-reduced) maximum likelihood and return the `Fit`.

    If fixed effects and parameters separate some rows, the fit is repeated without these.  ``asked``: fields of `Request`.
    Errors are those of ``Model.fit``.
    """
    request = Request(**asked)
    likelihood = likelihood if is_stream(data) else with_more_levels_eliminated(likelihood, data)
    method, seed = optimize.resolve(request.method), check_count("seed", request.seed, 0)
    start, listed = listed_starts(likelihood, request.start)
    n_starts = check_n_starts(request.n_starts, len(listed))
    check_options(likelihood, request.separated, method, request.bias_reduction, n_starts, start, request.fixed)
    request = replace(request, start=start, seed=seed, n_starts=n_starts)
    epochs: int | None = getattr(method, "epochs", None) if optimize.batched(method) else None
    with (
        progress_line(
            request.progress, f"fit of {likelihood.name}", "step" if epochs is None else "epoch", epochs
        ) as line,
        float64(),
        missing_derivatives(likelihood),
        outside_transformations(),
    ):
        with before_the_first_step(likelihood):
            ready = _ready(likelihood, data, method, request, listed)
        if ready.evaluator.spec.space.n_free == 0:
            done = nothing_to_estimate(ready.evaluator, ready.loaded)
            done = replace(done, constraints=ready.constraints, note=ready.remark)
            return done if ready.settling is None else with_effects(done, ready.evaluator, ready.settling)
        watch, reached, separation = Watch(line), None, None
        if isinstance(ready.evaluator, EffectsEvaluator):
            reached = maximise(ready.evaluator, method, ready.u0[None], report=watch)[1]
            separation = separation_of(ready.evaluator, ready.loaded, ready.u0, reached, request.separated)
        if separation is None:
            return _finished(ready, _searched(ready, method, n_starts, watch, seed, reached), watch)
    rows = [*request.left_out, *separation.rows]
    return with_separated_told(fit_once(likelihood, data, **{**asked, "left_out": rows}), separation, request.separated)


class Ready(NamedTuple):
    """Everything that a search needs.

    Attributes:
        evaluator: evaluator of the log-likelihood.
        loaded: the data.
        u0: the first start, (p,).
        starts: the starts that the user gave, each a list with an array or None for every leaf.
        validation: validation data of a training on minibatches, or None.
        constraints: labels of the constraints.
        remark: a note for the user; may be empty.
        settling: levels of fixed effects that were left out, or None.
        rechosen: (evaluator, final point) -> evaluator and start in other coordinates, or None if these suit the point.  Used
            for nonlinear constraints, which are solved for some of the parameters.
    """

    evaluator: AnyEvaluator
    loaded: Loaded
    u0: Float[Host, " p"]
    starts: list[list[Any]]
    validation: ValidationData | None
    constraints: tuple[str, ...]
    remark: str
    settling: Settling | None
    rechosen: Callable[[AnyEvaluator, Float[Host, " p"]], tuple[AnyEvaluator, Float[Host, " p"]] | None]


def _ready(likelihood: Likelihood, data: Data, method: Method, request: Request, listed: list[Any]) -> Ready:
    """Read the data, apply fixed values and constraints, make the evaluator and choose the start.

    ``listed``: all starts that the user gave, the first of which is also ``request.start`` (None if none was given).
    """
    doing("reading the data")
    loaded, validation = _read(likelihood, data, method, request)
    given = start_room.given_values(loaded.problem.space, likelihood.parameters, request.start)
    space, fixed = fix_on_host(loaded.problem.space, request.fixed)
    unused = start_room.unused_starts(space, listed, fixed)
    constrained = None if request.restrict is None else request.restrict(space)
    _check_constrained(constrained, method, request.bias_reduction)
    places = None if request.engine is not None else request.on
    labels, remark, begun = tuple[str, ...](), "", None
    if constrained is not None and constrained.functions:
        plain = evaluator_of(Spec(likelihood, space), loaded, fixed, places)
        begun = begin(
            space, fixed, constrained, likelihood, method, first_start(plain, method, loaded, given, request.seed)
        )
        space, fixed, labels = begun.space, begun.reference, begun.equations.labels
    elif constrained is not None:
        space, labels, remark = restricted(space, fixed, constrained)
    loaded, spec = _specified(likelihood, loaded, space, request, keep=begun is None)
    evaluator = evaluator_of(spec, loaded, fixed, places)
    doing("choosing a start")
    u0 = first_start(evaluator, method, loaded, given, request.seed) if begun is None else begun.u
    check_rows_once(likelihood, space, loaded.seen.problem.data, u0, fixed, loaded.rows if loaded.stream is None else None)
    settling = None
    if isinstance(evaluator, EffectsEvaluator):
        settling = settled_levels(evaluator, loaded, u0, request.separated)
        loaded, evaluator, remark = settling.loaded, settling.evaluator, _joined(remark, settling.remark)
    if optimize.named_newton(request.method):
        warn_of_dense_steps(likelihood.name, evaluator, u0)
    starts = [given, *(start_room.given_values(space, likelihood.parameters, s) for s in listed[1:])]
    if labels and space.n_free:
        points = [u0, *(start_of_one(evaluator, loaded, values, request.seed) for values in starts[1:])]
        asked = [pair for start, pair in zip(listed, zip(starts, points, strict=True), strict=True) if start is not None]
        remark = _joined(remark, next(filter(None, (start_moved(space, values, u, fixed) for values, u in asked)), ""))

    def rechosen(evaluator: AnyEvaluator, u: Float[Host, " p"]) -> tuple[AnyEvaluator, Float[Host, " p"]] | None:
        """Solve the nonlinear constraints for other parameters if they are nearly singular at u, (p,).

        Return the new evaluator and the start in its coordinates; None without nonlinear constraints, or if the equations are
        not nearly singular in the present coordinates.
        """
        other = begun and another_choice(begun.equations, evaluator.spec.space, u, evaluator.fixed)
        if other is None:
            return None
        space, fixed, u0 = other
        return evaluator_of(replace(evaluator.spec, space=space), loaded, fixed, places), u0

    return Ready(evaluator, loaded, u0, starts, validation, labels, _joined(unused, remark), settling, rechosen)


def _read(likelihood: Likelihood, data: Data, method: Method, request: Request) -> tuple[Loaded, ValidationData | None]:
    """Load the data of the fit, in memory or as a stream, and the validation data (None if there are none).

    ``request``: the arguments of the fit; errors as in `load` and `load_stream`, and for options that a stream does not support.
    """
    start, missing, weights, kind = request.start, request.missing, request.weights, request.weight_kind
    if request.on is not None:
        check_place(data, request.on, request.engine)
    if is_stream(data):
        check_stream_options(method, request.bias_reduction, request.validation)
        if likelihood.coded:
            names = ", ".join(key.by for key in (*likelihood.effects, *likelihood.coded))
            raise ValueError(
                f"a stream supports effects of one column, and {likelihood.name} has effects of {names}: load the columns that "
                "are used into memory, or give the column with few levels dummies, by C(...) in a formula"
            )
        loaded = load_stream(likelihood, data, start, missing, request.groups, weights, kind, request.engine)
        if loaded.stream is not None:
            loaded.stream.products_wanted = request.products
        keep_passes(loaded, request.resume)
        loaded = without_rows_of_stream(loaded, request.left_out)
    else:
        loaded = load(likelihood, data, start, missing, request.groups, weights, kind)
        loaded = loaded if request.arranged is None else request.arranged(loaded)
        loaded = without_rows(loaded, request.left_out)
        keep_passes(loaded, request.resume)
    if likelihood.coded:
        loaded = without_open_levels(likelihood, loaded, request.separated)
    assert request.n_starts is not None
    reading = (start, missing, weights, kind)
    return validation_data(likelihood, loaded, method, request.n_starts, request.validation, reading)


def _check_constrained(constrained: Restrictions | None, method: Method, bias_reduction: object) -> None:
    """Raise ValueError for minibatches with constraints or bias reduction, and for nonlinear constraints with bias reduction."""
    if optimize.batched(method) and (constrained is not None or bias_reduction is not None):
        raise ValueError("constraints= and bias_reduction= are not supported on minibatches: leave out batch_size=")
    if constrained is not None and constrained.functions and bias_reduction is not None:
        raise ValueError(
            "bias_reduction= is not supported with constraints= given as functions; write linear constraints as strings, or "
            "leave bias_reduction= out"
        )


def _finished(ready: Ready, searched: Searched, watch: Watch) -> Fit:
    """Make the `Fit` from the result of the searches, with notes, path, modes and number of steps.

    Args:
        ready: data, constraints and what else was prepared.
        searched: the result.
        watch: the log-likelihoods seen during the searches.

    Raises:
        LikelihoodError: terms depend on other rows or on padding, if the check at the start could not tell.
    """
    loaded, evaluator, climbed = ready.loaded, searched.evaluator, searched.climbed
    data, at = loaded.seen.problem.data, searched.found.end.u
    rows = loaded.rows if loaded.stream is None else None
    check_rows_once(evaluator.spec.likelihood, searched.space, data, at, searched.fixed, rows)
    loaded = with_fingerprint(loaded)
    done = at_estimate(finish(evaluator, loaded, searched.found, searched.method))
    if ready.settling is not None:
        done = with_effects(done, evaluator, ready.settling)
    remark, kept_back = ready.remark, ready.validation
    if loaded.designs is not None and done.verdict.code != "verified":
        remark = _joined(remark, formulas.remark(loaded.designs, loaded.seen.rows))
    note = f"Validation data: {kept_back.origin}." if kept_back is not None else searched.found.note
    path = watch.path(loaded.scale * float(evaluator.scale)) if searched.history is None else ()
    done = replace(
        done,
        note=_joined(note, remark),
        constraints=ready.constraints,
        history=searched.history,
        path=path,
        modes=searched.modes,
    )
    done = with_modes(done, searched.modes)
    if climbed is not None:
        done = replace(done, method=f"{climbed.text}; {done.method}", n_steps=done.n_steps + climbed.n_steps)
    return done


def _specified(
    likelihood: Likelihood,
    loaded: Loaded,
    space: Space,
    request: Request,
    keep: bool,
) -> tuple[Loaded, Spec]:
    """Return the data and the specification of what is maximised: the log-likelihood, with a penalty or bias reduction if given.

    With a penalty or bias reduction the weights of the data are not rescaled. ``request``: the arguments of the fit; ``keep``:
    cache the specification, so that equal ones are one object.

    Raises:
        ValueError, TypeError, LikelihoodError: the penalty, its ``hyper`` or ``bias_reduction`` is not valid.
    """
    make = lambda: Spec(likelihood, space)
    spec = cached(likelihood, ("spec", space), make) if keep else make()
    penalty, hyper = bind_penalty(request.penalty, request.hyper, loaded.problem.space)
    reduction = checked_reduction(request.bias_reduction, likelihood, penalty, loaded, space)
    if penalty is None and reduction is None:
        return loaded, spec
    return replace(unscaled(loaded), hyper=hyper), replace(spec, penalty=penalty, reduction=reduction)


class Searched(NamedTuple):
    """The result of the searches of a fit.

    Attributes:
        found: the final point and its diagnosis.
        evaluator: evaluator with the specification of the last search.
        space, fixed: layout of the parameters in the last search, and its fixed values (or None).
        method: method of the last search.
        modes: points that the starts reached, if there were several starts.
        history: history of a training on minibatches, or None.
        climbed: result of the EM steps, or None.
    """

    found: Diagnosed
    evaluator: AnyEvaluator
    space: Space
    fixed: Float[Host, " p"] | None
    method: Method
    modes: tuple[Mode, ...]
    history: History | None
    climbed: Climbed | None


def _searched(
    ready: Ready, method: Method, n_starts: int, watch: Watch, seed: int, reached: OptimizeResult | None
) -> Searched:
    """Search from the first start (by EM or minibatches first if ``method`` is one of these), then from further starts.

    Args:
        ready: evaluator, data and starts.
        method: from ``optimize.resolve``.
        n_starts: number of starts in total, random ones included.
        watch: called after every step.
        seed: seed of random starts.
        reached: result of the search from the first start, if it was made already.
    """
    evaluator, loaded, u0, starts = ready.evaluator, ready.loaded, ready.u0, ready.starts
    climbed, history, modes = None, None, tuple[Mode, ...]()
    if isinstance(method, optimize.EM):
        climbed = climb(evaluator, method, u0, watch)
        u0, method = climbed.u, optimize.Newton()
    if optimize.batched(method):
        reached, history = train(evaluator.spec, method, loaded, u0, evaluator.fixed, ready.validation, watch)
        reached = reached.alone()
    for choices_left in reversed(range(CHOICES + 1)):
        space, fixed = evaluator.spec.space, evaluator.fixed
        problems = problems_of(method, fixed, seed, lambda _: loaded, lambda _: starts[0])
        outcome = _centred(problems, evaluator, loaded, u0) or search_all(
            problems, evaluator, u0[None], np.zeros(1, np.int64), reached=reached, report=watch
        )
        evaluator, found = evaluator.with_spec(outcome.spec), outcome.diagnosed(0)
        other = None if found.end.end == End.INTERRUPTED else ready.rechosen(evaluator, found.end.u)
        if other is None or not choices_left:
            break
        (evaluator, u0), reached = other, None
    if n_starts > 1 and found.end.end != End.INTERRUPTED:
        found, modes = several_starts(problems, evaluator, loaded, found, starts[0], starts[1:], n_starts)
    return Searched(found, evaluator, space, fixed, method, modes, history, climbed)


def _joined(*sentences: str) -> str:
    """Join the sentences that are not empty by spaces."""
    return " ".join(s for s in sentences if s)


def _centred(problems: Problems, evaluator: AnyEvaluator, loaded: Loaded, u0: Float[Host, " p"]) -> Outcome | None:
    """Run the whole search in centred and scaled coordinates, for a fit with bias reduction of data in memory.

    Bias reduction takes finite differences of gradients, whose steps need coordinates of one scale.  Returns None for other
    fits, and if such coordinates cannot be found (see `search_centred`).
    """
    if evaluator.spec.reduction is None or not isinstance(evaluator, ChunkedEvaluator):
        return None
    start = OptimizeResult.empty(1, u0.size, dense=True).of(0)._replace(u=u0, status=np.asarray(int(End.RUNNING)))
    found = search_centred(problems, evaluator, loaded, u0, start, always=True)
    if found is None:
        return None
    return Outcome(
        found.spec, found.end.alone(), np.zeros(1, bool), {0: found.findings}, {0: found.note} if found.note else {}
    )
