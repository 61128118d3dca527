"""The one recipe: check the data, choose starts, maximise, diagnose the ends that are not clean, finish.

The arithmetic runs over L >= 1 data sets (:mod:`mlejax.fit.search`).  A single fit is L = 1; what differs is the evaluator.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

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
from mlejax.fit.elimination_checks import check_options, refuse_effects, settled_levels
from mlejax.fit.finish.finish import Fit, finish, nothing_to_estimate, with_effects
from mlejax.fit.maximise.em_steps import climb
from mlejax.fit.maximise.training import held_out_data, train
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
                refuse_effects(likelihood, "a stream", "load the columns that are used into memory")
                check_stream_options(algorithm, bias_reduction, validation)
                loaded = load_stream(likelihood, data, start, missing, groups, weights, weight_kind, engine)
            else:
                loaded = load(likelihood, data, start, missing, groups, weights, weight_kind)
                loaded = loaded if arranged is None else arranged(loaded)
            reading = (start, missing, weights, weight_kind)
            loaded, held_out = held_out_data(likelihood, loaded, algorithm, n_starts, validation, reading)
            given = start_room.given_values(loaded.problem.space, likelihood.parameters, start)
            space, held = fix_on_host(loaded.problem.space, fixed)
            if method == "newton" and space.n_free > MANY_PARAMETERS:
                warn_of_dense_steps(likelihood.name, space.n_free)
            remark, labels, modes, begun = "", tuple[str, ...](), tuple[Mode, ...](), None
            places = None if engine is not None else on
            if optimize.batched(algorithm) and (restrict is not None or bias_reduction is not None):
                raise ValueError("constraints= and bias_reduction= are for methods on all rows; leave out batch_size")
            wanted = None if restrict is None else restrict(space)
            if wanted is not None and wanted.functions:
                plainly = evaluator_of(Spec(likelihood, space), loaded, held, resume, places)
                begun = begin(space, held, wanted, likelihood, algorithm, _first_start(plainly, algorithm, loaded, given, seed))
                space, held, labels = begun.space, begun.reference, begun.equations.labels
            elif wanted is not None:
                space, labels, remark = restricted(space, held, wanted)
            penalty, hyper = bind_penalty(penalty, hyper, loaded.problem.space)
            reduction = checked_reduction(bias_reduction, likelihood, penalty, loaded, space)
            if reduction is not None and begun is not None:
                raise ValueError("bias_reduction is not offered under constraints= given as functions; give linear ones as text")
            if penalty is not None or reduction is not None:
                loaded = replace(unscaled(loaded), hyper=hyper)
            # equal specifications are one object: looked up at every dispatch
            make = lambda: Spec(likelihood, space)
            spec = cached(likelihood, ("spec", space), make) if begun is None else make()
            if penalty is not None or reduction is not None:
                spec = replace(spec, penalty=penalty, reduction=reduction)
            evaluator = evaluator_of(spec, loaded, held, resume, places)
            doing("choosing a start")
            u0 = _first_start(evaluator, algorithm, loaded, given, seed) if begun is None else begun.u
            check_rows_once(likelihood, space, loaded.seen.problem.data, u0, held)
            settling = None
            if isinstance(evaluator, EffectsEvaluator):
                settling = settled_levels(evaluator, loaded, u0, separated)
                loaded, evaluator = settling.loaded, settling.evaluator
                remark = " ".join(n for n in (remark, settling.remark) if n)
        if space.n_free == 0:
            done = replace(nothing_to_estimate(evaluator, loaded), constraints=labels, note=remark)
            return done if settling is None else with_effects(done, evaluator, settling)
        if start is not None and labels:
            remark += start_moved(space, given, u0, held)
        history, reached, climbed = None, None, None
        watch = Watch(line)
        if isinstance(algorithm, optimize.EM):
            climbed = climb(evaluator, algorithm, u0, watch)
            u0, algorithm = climbed.u, optimize.Newton()
        if optimize.batched(algorithm):
            reached, history = train(evaluator.spec, algorithm, loaded, u0, held, held_out, watch)
            reached = reached.alone()

        def searched(evaluator: AnyEvaluator, u0: Float[Host, " p"]) -> tuple[AnyEvaluator, Diagnosed, Problems]:
            problems = problems_of(algorithm, evaluator.fixed, seed, lambda _: loaded, lambda _: given)
            outcome = _centred(problems, evaluator, loaded, u0) or search_all(
                problems, evaluator, u0[None], np.zeros(1, np.int64), reached=reached, report=watch
            )
            return evaluator.with_spec(outcome.spec), outcome.diagnosed(0), problems

        evaluator, found, problems = searched(evaluator, u0)
        for _ in range(CHOICES):
            other = begun and another_choice(begun.equations, evaluator.spec.space, found.end.u, evaluator.fixed)
            if other is None or found.end.end == End.INTERRUPTED:
                break
            space, held, u0 = other
            evaluator = evaluator_of(replace(evaluator.spec, space=space), loaded, held, resume, places)
            evaluator, found, problems = searched(evaluator, u0)
        if n_starts > 1 and found.end.end != End.INTERRUPTED:
            more = [start_room.given_values(space, likelihood.parameters, s) for s in listed[1:]]
            found, modes = several_starts(problems, evaluator, loaded, found, given, more, n_starts)
        check_rows_once(likelihood, space, loaded.seen.problem.data, found.end.u, held)
        loaded = with_fingerprint(loaded)
        done = at_estimate(finish(evaluator, loaded, found, algorithm))
        if settling is not None:
            done = with_effects(done, evaluator, settling)
        if loaded.designs is not None and done.verdict.code != "verified":
            remark = " ".join(n for n in (remark, formulas.remark(loaded.designs, loaded.seen.rows)) if n)
        note = f"Held out to watch the training: {held_out.origin}." if held_out is not None else found.note
        text = " ".join(n for n in (note, remark) if n)
        path = watch.path(loaded.scale * float(evaluator.scale)) if history is None else ()
        done = replace(done, note=text, modes=modes, constraints=labels, history=history, path=path)
        done = with_modes(done, modes)
        if climbed is not None:
            done = replace(done, method=f"{climbed.text}; {done.method}", n_steps=done.n_steps + climbed.n_steps)
    return done


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
        raise ValueError("this fit cannot be repeated with entries fixed: fit the smaller model, and compare by lr_test")
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
