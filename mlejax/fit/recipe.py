"""The one recipe: check the data, choose starts, maximise, diagnose the ends that are not clean, finish.

The arithmetic runs over L >= 1 data sets (:mod:`mlejax.fit.search`).  A single fit is L = 1; what differs is the evaluator.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np

from mlejax import optimize
from mlejax.data import formulas
from mlejax.data.streams import Engine
from mlejax.execution import cached, doing, float64, progress_line
from mlejax.fit import start as start_room
from mlejax.fit.common import check_count
from mlejax.fit.diagnose import (
    Diagnosed,
    Problems,
    search_centred,
)
from mlejax.fit.elimination_checks import (
    check_options,
    refuse_effects,
    settled_levels,
    with_more_levels_eliminated,
    without_open_levels,
)
from mlejax.fit.finish.finish import Fit, finish, nothing_to_estimate, with_effects
from mlejax.fit.maximise.em_steps import Climbed, climb
from mlejax.fit.maximise.training import History, ValidationData, held_out_data, train
from mlejax.fit.prepare.arguments import (
    MANY_PARAMETERS,
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
from mlejax.fit.prepare.constrained import CHOICES, Restrictions, another_choice, at_estimate, begin
from mlejax.fit.prepare.loaded import Loaded, unscaled
from mlejax.fit.prepare.loading import load
from mlejax.fit.prepare.penalties import bind_penalty
from mlejax.fit.prepare.streaming import (
    AnyEvaluator,
    check_place,
    check_stream_options,
    evaluator_of,
    is_stream,
    load_stream,
    with_fingerprint,
)
from mlejax.fit.search import Outcome, problems_of, search_all, several_starts, start_of_one, with_modes
from mlejax.fit.start import Mode, subsample
from mlejax.likelihood import (
    Likelihood,
    check_rows_once,
    missing_derivatives,
)
from mlejax.objective import (
    ChunkedEvaluator,
    EffectsEvaluator,
    PartitionedEvaluator,
    Spec,
)
from mlejax.optimize import OptimizeResult
from mlejax.parameters import Space
from mlejax.shapes import Float, Host, PyTree
from mlejax.status import End


def fit_once(
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
    restrict: Callable[[Space], Restrictions] | None = None,
    bias_reduction: str | None = None,
    validation: Any = None,
    resume: Any = None,
    on: Any = None,
    engine: Engine | None = None,
    separated: str = "report",
    arranged: Callable[[Loaded], Loaded] | None = None,
) -> Fit:
    """Maximum likelihood for one data set; arguments as in ``Model.fit``.

    ``groups`` are the columns of clusters, if any; ``restrict`` gives the constraints in a layout; ``on`` are devices,
    ``engine`` runs the passes over a stream; ``arranged`` adds to data in memory.
    """
    likelihood = likelihood if is_stream(data) else with_more_levels_eliminated(likelihood, data)
    algorithm, seed = optimize.resolve(method), check_count("seed", seed, 0)
    start, listed = listed_starts(likelihood, start)
    n_starts = check_n_starts(n_starts, len(listed))
    check_options(likelihood, separated, algorithm, bias_reduction, n_starts, start, fixed)
    epochs: int | None = getattr(algorithm, "epochs", None) if optimize.batched(algorithm) else None
    with (
        progress_line(progress, f"fit of {likelihood.name}", "step" if epochs is None else "epoch", epochs) as line,
        float64(),
        missing_derivatives(likelihood),
        outside_transformations(),
    ):
        doing("reading the data")
        with before_the_first_step(likelihood):
            if on is not None:
                check_place(data, on, engine)
            if is_stream(data):
                check_stream_options(algorithm, bias_reduction, validation)
            loaded = _load(likelihood, data, start, missing, groups, weights, weight_kind, engine)
            if arranged is not None and loaded.stream is None:
                loaded = arranged(loaded)
            if likelihood.coded:
                loaded = without_open_levels(likelihood, loaded, separated)
            reading = (start, missing, weights, weight_kind)
            loaded, kept_back = held_out_data(likelihood, loaded, algorithm, n_starts, validation, reading)
            given = start_room.given_values(loaded.problem.space, likelihood.parameters, start)
            space, values = fix_on_host(loaded.problem.space, fixed)
            if method == "newton" and space.n_free > MANY_PARAMETERS:
                warn_of_dense_steps(likelihood.name, space.n_free)
            if optimize.batched(algorithm) and (restrict is not None or bias_reduction is not None):
                raise ValueError("constraints= and bias_reduction= are for methods on all rows; leave out batch_size")
            remark, labels, begun = "", tuple[str, ...](), None
            places = None if engine is not None else on
            wanted = None if restrict is None else restrict(space)
            if wanted is not None and wanted.functions:
                plainly = evaluator_of(Spec(likelihood, space), loaded, values, resume, places)
                plain_start = _first_start(plainly, algorithm, loaded, given, seed)
                begun = begin(space, values, wanted, likelihood, algorithm, plain_start)
                space, values, labels = begun.space, begun.reference, begun.equations.labels
            elif wanted is not None:
                space, labels, remark = restricted(space, values, wanted)
            if begun is not None and bias_reduction is not None:
                raise ValueError(
                    "bias_reduction is not offered under constraints= given as functions; give linear ones as text"
                )
            loaded, spec = _specified(likelihood, loaded, space, penalty, hyper, bias_reduction, keep=begun is None)
            evaluator = evaluator_of(spec, loaded, values, resume, places)
            doing("choosing a start")
            u0 = _first_start(evaluator, algorithm, loaded, given, seed) if begun is None else begun.u
            check_rows_once(likelihood, space, loaded.seen.problem.data, u0, values)
            settling = None
            if isinstance(evaluator, EffectsEvaluator):
                settling = settled_levels(evaluator, loaded, u0, separated)
                loaded, evaluator = settling.loaded, settling.evaluator
                remark = _joined(remark, settling.remark)
        if space.n_free == 0:
            done = replace(nothing_to_estimate(evaluator, loaded), constraints=labels, note=remark)
            return done if settling is None else with_effects(done, evaluator, settling)
        if start is not None and labels:
            remark += start_moved(space, given, u0, values)
        starts = [given, *(start_room.given_values(space, likelihood.parameters, s) for s in listed[1:])]

        def rechosen(evaluator: AnyEvaluator, u: Float[Host, " p"]) -> tuple[AnyEvaluator, Float[Host, " p"]] | None:
            """Constraints that are functions, solved for other parameters than before; None where these will do."""
            other = begun and another_choice(begun.equations, evaluator.spec.space, u, evaluator.fixed)
            if other is None:
                return None
            space, values, u0 = other
            return evaluator_of(replace(evaluator.spec, space=space), loaded, values, resume, places), u0

        watch = Watch(line)
        searched = _searched(evaluator, algorithm, loaded, u0, starts, n_starts, kept_back, watch, seed, rechosen)
        check_rows_once(likelihood, searched.space, loaded.seen.problem.data, searched.found.end.u, searched.fixed)
        loaded, evaluator = with_fingerprint(loaded), searched.evaluator
        done = at_estimate(finish(evaluator, loaded, searched.found, searched.method))
        if settling is not None:
            done = with_effects(done, evaluator, settling)
        if loaded.designs is not None and done.verdict.code != "verified":
            remark = _joined(remark, formulas.remark(loaded.designs, loaded.seen.rows))
        note = f"Held out to watch the training: {kept_back.origin}." if kept_back is not None else searched.found.note
        path = watch.path(loaded.scale * float(evaluator.scale)) if searched.history is None else ()
        done = replace(done, note=_joined(note, remark), modes=searched.modes, constraints=labels)
        done = with_modes(replace(done, history=searched.history, path=path), searched.modes)
        climbed = searched.climbed
        if climbed is not None:
            done = replace(done, method=f"{climbed.text}; {done.method}", n_steps=done.n_steps + climbed.n_steps)
    return done


def _load(
    likelihood: Likelihood,
    data: Any,
    start: Any,
    missing: str,
    groups: Sequence[str],
    weights: Any,
    weight_kind: str | None,
    engine: Engine | None,
) -> Loaded:
    """The data, in memory or as a stream."""
    if not is_stream(data):
        return load(likelihood, data, start, missing, groups, weights, weight_kind)
    refuse_effects(likelihood, "a stream", "load the columns that are used into memory")
    return load_stream(likelihood, data, start, missing, groups, weights, weight_kind, engine)


def _specified(
    likelihood: Likelihood,
    loaded: Loaded,
    space: Space,
    penalty: Any,
    hyper: PyTree,
    bias_reduction: str | None,
    keep: bool,
) -> tuple[Loaded, Spec]:
    """What is maximised: the log-likelihood, with a penalty or bias reduction if there is one; and the data, on its scale.

    ``keep``: equal specifications are one object, looked up at every dispatch.
    """
    make = lambda: Spec(likelihood, space)
    spec = cached(likelihood, ("spec", space), make) if keep else make()
    penalty, hyper = bind_penalty(penalty, hyper, loaded.problem.space)
    reduction = checked_reduction(bias_reduction, likelihood, penalty, loaded, space)
    if penalty is None and reduction is None:
        return loaded, spec
    return replace(unscaled(loaded), hyper=hyper), replace(spec, penalty=penalty, reduction=reduction)


class Searched(NamedTuple):
    """Where the searches of a fit ended.

    Attributes:
        found: the end, with what was diagnosed there.
        evaluator: at its specification, which a search in other coordinates may have changed.
        space, fixed: the layout that was searched, and the values under ``fixed=`` in it.
        method: of the last search.
        modes: the maxima that several starts reached.
        history: of the training on minibatches, or None.
        climbed: what EM did first, or None.
    """

    found: Diagnosed
    evaluator: AnyEvaluator
    space: Space
    fixed: Float[Host, " p"] | None
    method: Any
    modes: tuple[Mode, ...]
    history: History | None
    climbed: Climbed | None


def _searched(
    evaluator: AnyEvaluator,
    method: Any,
    loaded: Loaded,
    u0: Float[Host, " p"],
    starts: list[list[Any]],
    n_starts: int,
    validation: ValidationData | None,
    watch: Watch,
    seed: int,
    rechosen: Callable[[AnyEvaluator, Float[Host, " p"]], tuple[AnyEvaluator, Float[Host, " p"]] | None],
) -> Searched:
    """Search from u0, by EM or minibatches first where the method says so, then from further starts.

    Args:
        evaluator, method, loaded: the log-likelihood, the method and the data.
        u0: the first start, (p,).
        starts: the starts that the user gave, each as values by parameter.
        n_starts: starts in total, with those that are drawn.
        validation: data that are watched during training.
        watch: called after every step.
        seed: of starts that are drawn.
        rechosen: an evaluator in other coordinates and a start in them, where these coordinates do not suit the end.
    """
    climbed, reached, history, modes = None, None, None, tuple[Mode, ...]()
    if isinstance(method, optimize.EM):
        climbed = climb(evaluator, method, u0, watch)
        u0, method = climbed.u, optimize.Newton()
    if optimize.batched(method):
        reached, history = train(evaluator.spec, method, loaded, u0, evaluator.fixed, validation, watch)
        reached = reached.alone()
    for choices_left in reversed(range(CHOICES + 1)):
        space, fixed = evaluator.spec.space, evaluator.fixed
        problems = problems_of(method, fixed, seed, lambda _: loaded, lambda _: starts[0])
        outcome = _centred(problems, evaluator, loaded, u0) or search_all(
            problems, evaluator, u0[None], np.zeros(1, np.int64), reached=reached, report=watch
        )
        evaluator, found = evaluator.with_spec(outcome.spec), outcome.diagnosed(0)
        other = None if found.end.end == End.INTERRUPTED else rechosen(evaluator, found.end.u)
        if other is None or not choices_left:
            break
        evaluator, u0 = other
    if n_starts > 1 and found.end.end != End.INTERRUPTED:
        found, modes = several_starts(problems, evaluator, loaded, found, starts[0], starts[1:], n_starts)
    return Searched(found, evaluator, space, fixed, method, modes, history, climbed)


def _joined(*sentences: str) -> str:
    return " ".join(s for s in sentences if s)


def continued(fit: Fit, u0: Float[Host, " p"], note: str) -> Fit:
    """The fit of the same data by Newton's method from another point u0 (p,)."""
    loaded, method, space = fit.loaded, optimize.Newton(), fit.spec.space
    with float64(), missing_derivatives(fit.spec.likelihood), outside_transformations():
        evaluator = evaluator_of(fit.spec, loaded, fit.fixed)
        problems = problems_of(method, fit.fixed, 0, lambda _: loaded, lambda _: [None] * len(space.leaves))
        found = search_all(problems, evaluator, u0[None], np.zeros(1, np.int64)).diagnosed(0)
        done = at_estimate(finish(evaluator.with_spec(found.spec), loaded, found, method))
    return replace(done, note=note, constraints=fit.constraints, integration=fit.integration)


def with_fixed(fit: Fit, fixed: Mapping[str, float]) -> Fit:
    """The fit of the same data with these entries fixed, by Newton's method from near the estimate.

    Raises:
        ValueError: entries that cannot be fixed, or a fit under constraints, of a stream, or of effects by index.
    """
    loaded, method, likelihood = fit.loaded, optimize.Newton(), fit.spec.likelihood
    if fit.constraints or loaded.stream is not None or loaded.remembered is not None or likelihood.effects:
        raise ValueError(
            "this fit cannot be repeated with entries fixed: fit the smaller model, and compare by lr_test"
        )
    with float64(), missing_derivatives(likelihood), outside_transformations():
        space, held = fix_on_host(loaded.problem.space, fixed)
        evaluator = evaluator_of(replace(fit.spec, space=space), loaded, held)
        given = start_room.given_values(space, likelihood.parameters, fit.params)
        u0 = _first_start(evaluator, method, loaded, given, 0)
        problems = problems_of(method, held, 0, lambda _: loaded, lambda _: given)
        found = search_all(problems, evaluator, u0[None], np.zeros(1, np.int64)).diagnosed(0)
        return finish(evaluator.with_spec(found.spec), loaded, found, method)


def _centred(problems: Problems, evaluator: AnyEvaluator, loaded: Loaded, u0: Float[Host, " p"]) -> Outcome | None:
    """The whole search in centred and scaled coordinates where bias reduction differences gradients, by steps of one scale."""
    if evaluator.spec.reduction is None or not isinstance(evaluator, ChunkedEvaluator):
        return None
    start = OptimizeResult.empty(1, u0.size, dense=True).of(0)._replace(u=u0, status=np.asarray(int(End.RUNNING)))
    found = search_centred(problems, evaluator, loaded, u0, start, always=True)
    if found is None:
        return None
    return Outcome(
        found.spec, found.end.alone(), np.zeros(1, bool), {0: found.findings}, {0: found.note} if found.note else {}
    )


def _first_start(
    evaluator: AnyEvaluator, method: Any, loaded: Loaded, given: list[Any], seed: int
) -> Float[Host, " p"]:
    """u of the start, from a subsample of many rows."""
    if isinstance(evaluator, PartitionedEvaluator):
        return _start_of_stream(evaluator, loaded, given, seed)
    spec, data = evaluator.spec, loaded.problem.data
    if isinstance(evaluator, EffectsEvaluator):
        return start_of_one(evaluator, loaded, given, seed)
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


def _start_of_stream(evaluator: PartitionedEvaluator, loaded: Loaded, given: list[Any], seed: int) -> Float[Host, " p"]:
    """u of the start: the estimate from the rows of the sample, if it serves all rows."""
    of_sample = ChunkedEvaluator(evaluator.spec, evaluator.some, evaluator.fixed, evaluator.hyper)
    plain = start_of_one(of_sample, loaded.seen, given, seed)
    if any(v is not None for v in given) or not plain.size:
        return plain
    try:
        near = subsample.estimate(of_sample, plain)
    except NotImplementedError:  # JAX lacks a second derivative
        near = None
    return plain if near is None else subsample.chosen(evaluator, near, plain)
