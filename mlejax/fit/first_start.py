"""The first start of a fit: estimated from a subsample if there are many rows, or from the sample of a stream."""

from __future__ import annotations

from typing import Any

from mlejax.fit.prepare.loaded import Loaded
from mlejax.fit.prepare.streaming import AnyEvaluator
from mlejax.fit.search import start_of_one
from mlejax.fit.start import subsample
from mlejax.objective import ChunkedEvaluator, EffectsEvaluator, PartitionedEvaluator
from mlejax.optimize import Method
from mlejax.shapes import Float, Host


def first_start(
    evaluator: AnyEvaluator, method: Method, loaded: Loaded, given: list[Any], seed: int
) -> Float[Host, " p"]:
    """u of the first start, (p,): the given one, or the best candidate, improved by a search on a subsample if rows are many.

    ``given``: for each leaf the value under ``start=``, or None; with any value there is no search on a subsample.
    """
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
    """u of the first start of a stream, (p,).

    The given one, or the best candidate on a sample of its rows; without given values the estimate from that sample instead, if
    the log-likelihood of all rows is higher there.
    """
    of_sample = evaluator.of_sample(evaluator.some)
    plain = start_of_one(of_sample, loaded.seen, given, seed)
    if any(v is not None for v in given) or not plain.size:
        return plain
    try:
        near = subsample.estimate(of_sample, plain)
    except NotImplementedError:  # JAX lacks a second derivative
        near = None
    return plain if near is None else subsample.chosen(evaluator, near, plain)
