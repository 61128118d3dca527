"""The first start of a fit: estimated from a subsample if there are many rows, or from the sample of a stream."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from mlejax import optimize
from mlejax.data import DataError
from mlejax.execution import limits
from mlejax.fit.effects_evaluation import effects_evaluator_of
from mlejax.fit.elimination_checks import settled_levels
from mlejax.fit.prepare.loaded import Loaded
from mlejax.fit.prepare.streaming import AnyEvaluator
from mlejax.fit.search import start_of_one
from mlejax.fit.start import subsample
from mlejax.linalg import scaled_inverse
from mlejax.objective import ChunkedEvaluator, EffectsEvaluator, PartitionedEvaluator
from mlejax.optimize import Method
from mlejax.shapes import Float, Host
from mlejax.status import End


def first_start(
    evaluator: AnyEvaluator, method: Method, loaded: Loaded, given: list[Any], seed: int
) -> Float[Host, " p"]:
    """Return u of the first start, (p,): the given start, or the best candidate. If there are many rows, a search on a subsample
    improves it, or, where parameters are too many for that, a step of the coefficients.

    ``given``: for each leaf the value under ``start=``, or None; with any value there is no search on a subsample.
    """
    if isinstance(evaluator, PartitionedEvaluator):
        return _start_of_stream(evaluator, method, loaded, given, seed)
    spec, data = evaluator.spec, loaded.problem.data
    if isinstance(evaluator, EffectsEvaluator):
        if evaluator.streamed is not None:
            return _start_of_stream_with_effects(evaluator, method, loaded, given, seed)
        return start_of_one(evaluator, loaded, given, seed)
    if any(v is not None for v in given):
        return start_of_one(evaluator, loaded, given, seed)
    if not subsample.worthwhile(spec, data, method):
        plain = start_of_one(evaluator, loaded, given, seed)
        many = int(data.n) >= limits().sampled_rows and isinstance(method, optimize.Newton)
        return _coefficients_first(evaluator, loaded, plain) if many else plain
    sample = subsample.first_rows(spec, data)
    of_sample = ChunkedEvaluator(spec, sample, evaluator.fixed, program_of=data)
    plain = start_of_one(of_sample, loaded, given, seed)
    try:
        near = subsample.improved(spec, data, sample, plain, evaluator.fixed)
    except NotImplementedError:  # JAX lacks a second derivative
        near = None
    return plain if near is None else subsample.chosen(evaluator, near, plain)


def _coefficients_first(evaluator: ChunkedEvaluator, loaded: Loaded, u0: Float[Host, " p"]) -> Float[Host, " p"]:
    """Return u after a Newton step of the coefficients of formulas alone, (p,), if the log-likelihood is higher there; else u0.

    Far from the estimate a step of all parameters misjudges a scale, whose information depends on how well the coefficients fit,
    while coefficients of a mean hardly depend on the scale.  Where there are no other parameters, it is Newton's own first step.
    """
    space, designs = evaluator.spec.space, loaded.designs
    if designs is None or evaluator.spec.adjusted:
        return u0
    names = {design.predictor.name for design in designs.designs}
    own = np.array([leaf.name in names for leaf in space.leaves])[space.leaf_numbers]
    if own.all() or not own.any():
        return u0
    method = optimize.Newton()
    try:
        value, score, curvature = evaluator.minimised(method, u0)
    except NotImplementedError:  # JAX lacks a second derivative
        return u0
    inverse = scaled_inverse(curvature[np.ix_(own, own)])
    if not (inverse.ok and np.isfinite(score).all()):
        return u0
    u = u0.copy()
    u[own] -= inverse.inverse @ score[own]
    u = np.clip(u, space.lower, space.upper)
    return u if evaluator.minimised(method, u)[0] < value else u0


def _start_of_stream(
    evaluator: PartitionedEvaluator, method: Method, loaded: Loaded, given: list[Any], seed: int
) -> Float[Host, " p"]:
    """Return u of the first start of a stream, (p,).

    This is the given start, or the best candidate on a sample of its rows. Without given values it is the point one step from
    the estimate on that sample, unless the log-likelihood of all rows is lower at that estimate than at the best candidate.
    """
    evaluator.compile_ahead(method)
    of_sample = evaluator.of_sample(evaluator.some)
    plain = start_of_one(of_sample, loaded.seen, given, seed)
    if any(v is not None for v in given) or not plain.size:
        return plain
    try:
        near = subsample.estimate(of_sample, plain)
    except NotImplementedError:  # JAX lacks a second derivative
        near = None
    if near is None:
        return plain
    begin = subsample.chosen(evaluator, near, plain)
    return subsample.onward(evaluator, of_sample, near) if begin is near else begin


def _start_of_stream_with_effects(
    evaluator: EffectsEvaluator, method: Method, loaded: Loaded, given: list[Any], seed: int
) -> Float[Host, " p"]:
    """Return u of the first start of a stream with effects, (p,): the given one, or the best candidate on a sample of its rows.

    Without given values it is the estimate from that sample instead, if the search for it converges, improved by at most eight
    Newton steps on all rows (none with a penalty).

    The effects of the sample's levels are the start of the effects in the evaluator; other levels begin at their median.
    """
    sample = replace(loaded.seen, hyper=loaded.hyper)
    on_sample = effects_evaluator_of(evaluator.spec, sample, evaluator.fixed)
    plain = start_of_one(on_sample, sample, given, seed)
    if not plain.size:
        return plain
    try:
        settling = settled_levels(on_sample, sample, plain, "drop")
        inside, near, found = settling.evaluator, plain, False
        if not any(v is not None for v in given):
            end = inside.run(method, plain[None]).of(0)
            found = bool(end.status == End.CONVERGED)
            near = end.u if found else plain
        values = dict(zip(inside.levels.labels.tolist(), inside.eliminated(near).effects.tolist(), strict=True))
    except (NotImplementedError, DataError):  # JAX lacks a second derivative; or no level of the sample has a finite effect
        return plain
    known = np.array([values.get(label, np.nan) for label in evaluator.levels.labels.tolist()])
    fine = np.isfinite(known)
    if fine.any():
        evaluator.begin_near(np.where(fine, known, np.median(known[fine])))
    return evaluator.approached(near) if found and evaluator.spec.penalty is None else near
