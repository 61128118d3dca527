"""A start for many rows, estimated from a sample of them: a search on one chunk costs less than one pass over the data.

The estimate from m of n rows is within about sqrt(p n / m) standard errors of the full one.  From there Newton's method takes
three passes over the data and one that confirms, instead of six to ten.

1. The search begins on a few blocks of rows (or whole units), at least 200 rows for every parameter.
2. It takes one more step on a whole chunk of the evaluator, 8,192 to 16,384 rows; all samples use that chunk's program.
3. It takes one more step on a fifth of the data.

Each sample consists of sixteen runs of consecutive rows, spread over the data.  A ridge penalty worth one observation keeps
parameters at their start if the sample does not inform about them (a rare level of a factor).

Of a stream the sample in memory takes part in one step more (`onward`), after which two passes are enough.

The sample only gives a start; the estimate is that of all rows.  The default start is used instead if the search on the sample
does not converge (a rare event may be separated there), or if the sample's estimate is far from a maximum for other rows (in
the end: for all rows) and the default start has a higher log-likelihood there.
"""

from __future__ import annotations

import math

import numpy as np

from mlejax import linalg, optimize
from mlejax.data import Prepared
from mlejax.execution import limits
from mlejax.objective import (
    ChunkedEvaluator,
    Minimised,
    PartitionedEvaluator,
    Spec,
    chunk_size,
    hoists,
    sample_chunks,
    with_invariants,
)
from mlejax.optimize import Method
from mlejax.shapes import Float, Host
from mlejax.status import End

N_RUNS = 16  # runs of neighbouring rows in a sample
ROWS_PER_PARAMETER = 200
ENOUGH = 0.5  # Newton decrement per parameter at which the search on a sample ends; the sampling error is worth 1
DEFINITE = 1e-8  # least eigenvalue of the information, scaled to unit diagonal, of a maximum
SHARE = 5  # one in five chunks takes part in the last step
SMALL = 0.1  # of the squared length of the Newton step, up to which a correction of it is trusted
_SEARCH = optimize.Newton(max_steps=20)


def worthwhile(spec: Spec, data: Prepared, method: Method) -> bool:
    """True if a search that begins on a subsample is expected to save time: many rows (or units), a method with curvature, few
    enough parameters, and neither penalty nor bias reduction.
    """
    p = spec.space.n_free
    if data.mode == "whole" or spec.adjusted or not method.dense or p == 0 or int(data.n) < limits().sampled_rows:
        return False
    return 4 * _n_chunks(data, p) * chunk_size(data) <= int(data.n) and chunk_size(data) % N_RUNS == 0


def _n_chunks(data: Prepared, p: int) -> int:
    """Return of how many chunks the sample consists: the smallest power of two with which the whole sample has at least 200 p
    rows (or units), p being the number of parameters.
    """
    return 1 << max(0, math.ceil(math.log2(ROWS_PER_PARAMETER * p / chunk_size(data))))


def first_rows(spec: Spec, data: Prepared) -> Prepared:
    """Return the sample of rows on which the search begins: as few blocks as have 200 rows for each parameter."""
    p, size = spec.space.n_free, chunk_size(data)
    n_blocks = math.ceil(ROWS_PER_PARAMETER * p / data.block)
    if n_blocks * data.block >= size or data.block % N_RUNS:
        return sample_chunks(data, _n_chunks(data, p), N_RUNS)
    rows = sample_chunks(data, 1, N_RUNS, n_blocks=n_blocks)
    return with_invariants(spec, rows) if hoists(spec, data) else rows


def improved(
    spec: Spec, data: Prepared, first: Prepared, u0: Float[Host, " p"], fixed: Host | None
) -> Float[Host, " p"] | None:
    """Return a start near the estimate, (p,), from a search on samples that begins at u0; None if that search
    fails or u0 is the better start.

    Args:
        spec: the specification.
        data: all rows.
        first: the first sample, from `first_rows`.
        u0: the default start, (p,).
        fixed: values under ``fixed=``, or None.
    """

    def of(rows: Prepared) -> ChunkedEvaluator:
        return ChunkedEvaluator(spec, rows, fixed, program_of=data)

    near, sample = _searched(of(first), u0), first
    if int(first.n) < first.n_padded:  # one step on a whole chunk; a search there if the step is not safe
        sample = sample_chunks(data, 1, N_RUNS)
        begin = u0 if near is None else near
        near = None if near is None else _one_step(of(sample), near)
        near = _searched(of(sample), begin) if near is None else near
    if near is None:
        return None
    # rows outside the sample decide whether the start is used, and give the last step
    n_others = max(1, int(data.n) // (SHARE * sample.n_padded))

    def others(i: int) -> ChunkedEvaluator:
        return of(sample_chunks(data, sample.n_padded // chunk_size(data), N_RUNS, skip=(i + 1) / (n_others + 1)))

    judge = others(0)
    found = judge.minimised(_SEARCH, near)
    if not _expected(found, judge.scale) and not found[0] < judge.minimised(_SEARCH, u0)[0]:
        return None
    scale, last = judge.scale, judge if n_others == 1 else None
    del judge  # free its memory for the next one
    every = [found, *(others(i).minimised(_SEARCH, near) for i in range(1, n_others))]
    score = np.sum([part[1] for part in every], axis=0) / (n_others + 1)  # the sample's own score is about zero
    curvature = np.mean([part[2] for part in every], axis=0)
    onward = _stepped(spec, near, score, curvature)
    if onward is None or _expected((0.0, score, curvature), n_others * scale):
        return near if onward is None else onward
    # a few rows may make the step too long: refuse it if it lowers the log-likelihood of the first of these samples by more
    # than the sampling error explains
    slack = 0.5 * _most(near.size) / scale
    last = others(0) if last is None else last
    return onward if last.minimised(_SEARCH, onward)[0] <= found[0] + slack else near


def estimate(evaluator: PartitionedEvaluator, u0: Float[Host, " p"]) -> Float[Host, " p"] | None:
    """Return u, (p,), near the estimate from a stream's sample of rows in memory, to within its sampling error; None if the
    search fails.

    Args:
        evaluator: evaluator of the sample.
        u0: start of the search, (p,).
    """
    on_few = evaluator.of_sample(evaluator.sampled(limits().sampled_rows))
    near = _searched(on_few, u0)
    onward = None if near is None else _one_step(evaluator, near)
    return onward if onward is not None or near is None else _searched(evaluator, near)


def chosen(
    evaluator: ChunkedEvaluator | PartitionedEvaluator, near: Float[Host, " p"], u0: Float[Host, " p"]
) -> Float[Host, " p"]:
    """Return the start, ``near`` or u0, (p,), with the higher log-likelihood on all rows.

    u0 is evaluated only if ``near`` is far from a maximum.
    """
    found, times = evaluator.minimised(_SEARCH, near), 1.0
    if isinstance(evaluator, PartitionedEvaluator):  # the estimate from rows that are few beside all of them
        times = max(1.0, evaluator.n_contributions / evaluator.some.n_contributions)
    if _expected(found, evaluator.scale / times):
        return near
    plain = evaluator.minimised(_SEARCH, u0)
    return u0 if plain[0] < found[0] or not np.isfinite(found[0]) else near


def onward(
    evaluator: PartitionedEvaluator, of_sample: PartitionedEvaluator, u: Float[Host, " p"]
) -> Float[Host, " p"]:
    """Return a point, (p,), nearer to the estimate than that to which the Newton step from u leads; u itself if there is none, or
    with a penalty.  All rows are evaluated at u only.

    The derivative of a surrogate is about zero there: the quadratic that has score and curvature of all rows at u, plus what is
    left of the log-likelihood of the sample without its own quadratic at u.  Newton's step neglects all of that remainder, this
    one only the sampling error in it.

    Reference: Jordan, Lee & Yang (2019), JASA 114, 668 (whose surrogate has the curvature of the sample).

    Args:
        evaluator: evaluator of all rows.
        of_sample: evaluator of the sample of rows in memory.
        u: the point, (p,).
    """
    if evaluator.spec.penalty is not None:
        return u
    _, score, curvature = evaluator.minimised(_SEARCH, u)
    _, own_score, own_curvature = of_sample.minimised(_SEARCH, u)
    newton = _stepped(evaluator.spec, u, score, curvature)
    if newton is None:
        return u
    _, there, bend = of_sample.minimised(_SEARCH, newton)
    step = newton - u
    left = score + curvature @ step + there - own_score - own_curvature @ step
    point = _stepped(evaluator.spec, newton, left, curvature + bend - own_curvature)
    if point is None:
        return u
    length = lambda s: float(s @ curvature @ s)
    return point if length(point - newton) <= SMALL * length(step) else u


def _one_step(evaluator: ChunkedEvaluator | PartitionedEvaluator, near: Float[Host, " p"]) -> Float[Host, " p"] | None:
    """Return the point (p,) one Newton step from ``near`` for the rows of the evaluator; None if ``near`` is not near a maximum
    of their log-likelihood.
    """
    found = evaluator.minimised(_SEARCH, near)
    return _stepped(evaluator.spec, near, *found[1:]) if _expected(found, evaluator.scale) else None


def _stepped(spec: Spec, u: Float[Host, " p"], score: Host, curvature: Host) -> Float[Host, " p"] | None:
    """Return u after a Newton step, (p,), projected onto the bounds; None if the information is not positive definite.

    ``score`` and ``curvature`` are the derivatives of the minimised objective.
    """
    inverse = linalg.scaled_inverse(curvature)
    onward = np.clip(u - inverse.inverse @ score, spec.space.lower, spec.space.upper)
    return onward if inverse.ok and np.isfinite(onward).all() else None


def _most(p: int) -> float:
    """Return the upper limit, 10 p + 20, of the Newton decrement expected at an estimate from as many other rows (its mean is 2
    p).
    """
    return 10.0 * p + 20.0


def _expected(found: Minimised, scale: float) -> bool:
    """True if the Newton decrement at an evaluated point is at most `_most`: as small as expected if the point is an estimate
    from as many other rows.

    False if the information is not positive definite.  ``scale``: factor that converts the minimised function, and so the
    decrement, to log-likelihood units.
    """
    _, score, curvature = found
    inverse = linalg.scaled_inverse(curvature)
    if not (inverse.smallest > DEFINITE and np.isfinite(score).all()):
        return False
    return bool(scale * (score @ inverse.inverse @ score) <= _most(score.size))


def _searched(
    evaluator: ChunkedEvaluator | PartitionedEvaluator, u0: Float[Host, " p"]
) -> Float[Host, " p"] | None:
    """Run Newton's method on a sample from u0, (p,), until the Newton decrement is at most p / 2 (the sampling error is worth p);
    return the point, (p,), to which the next step leads.

    The objective is the log-likelihood with a weak normal penalty around u0. Return None if the search stops earlier.
    """
    space, scale = evaluator.spec.space, evaluator.scale
    carry = optimize.begin(_SEARCH, u0)
    setting = optimize.setting_of(carry.u, space.lower, space.upper, scale)
    ridge: np.ndarray | None = None
    with np.errstate(all="ignore"):
        while carry.status == End.RUNNING:
            value, score, curvature = evaluator.minimised(_SEARCH, np.asarray(carry.trial))
            if ridge is None:
                size = np.abs(np.diag(curvature))
                ridge = np.where(np.isfinite(size) & (size > 0), size, 1.0) / scale
            away = np.asarray(carry.trial) - u0
            found = value + 0.5 * np.sum(ridge * away**2), score + ridge * away, curvature + np.diag(ridge)
            carry = optimize.take_turn(_SEARCH, found, carry, setting)
            if carry.decrements[-1] <= ENOUGH * u0.size:
                return np.asarray(carry.trial)
    return None
