"""A start for many rows, from a sample of them: a search on one chunk costs less than one pass over the data.

The estimate from m of n rows is within about sqrt(p n / m) standard errors of the full one.  From there Newton's method takes
three passes over the data and one that confirms, instead of six to ten.

1. The search begins on as many blocks of rows (or whole units) as hold 200 rows for every parameter.
2. It takes one more step on a whole chunk of the evaluator, 8,192 to 16,384 rows; all samples share that chunk's program.
3. It takes one more step on a fifth of the data.

Each sample consists of sixteen runs of neighbouring rows, spread over the data.  A ridge worth one observation keeps
parameters where they were if the sample says nothing about them (a rare level of a factor).

The sample only gives a start; the answer is that of all rows.  The default start is used instead if the search on the sample
does not converge (a rare event may be separated there), or if the sample's estimate is far from a maximum of other rows (in
the end: of all rows) and these rows are more likely at the default start.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from mlejax import linalg, optimize
from mlejax.data import Prepared
from mlejax.fit.evaluating import Evaluated, Evaluator, chunk_size, sample_chunks, splits, with_known
from mlejax.objective import Spec
from mlejax.shapes import Float, Host
from mlejax.status import End

LARGE_N = 65_536  # rows or units from which a start is sought on a sample
N_RUNS = 16  # runs of neighbouring rows in a sample
ROWS_PER_PARAMETER = 200
ENOUGH = 0.5  # Newton decrement per parameter at which the search on a sample ends; the sampling error is worth 1
DEFINITE = 1e-8  # least eigenvalue of the information, scaled to unit diagonal, of a maximum
SHARE = 5  # one in five chunks takes part in the last step
_SEARCH = optimize.Newton(max_steps=20)


def worthwhile(spec: Spec, data: Prepared, method: Any) -> bool:
    """Whether a sample is worth its cost: many rows, a sum over rows, and few parameters for the size of a chunk."""
    p = spec.space.n_free
    if data.mode == "whole" or spec.adjusted or not method.dense or p == 0 or int(data.n) < LARGE_N:
        return False
    return 4 * _n_chunks(data, p) * chunk_size(data) <= int(data.n) and chunk_size(data) % N_RUNS == 0


def _n_chunks(data: Prepared, p: int) -> int:
    """The number of chunks in the sample: a power of two that suffices for p parameters."""
    return 1 << max(0, math.ceil(math.log2(ROWS_PER_PARAMETER * p / chunk_size(data))))


def first_rows(spec: Spec, data: Prepared) -> Prepared:
    """The rows on which the search begins: the least number of blocks that suffices for the parameters."""
    p, size = spec.space.n_free, chunk_size(data)
    n_blocks = math.ceil(ROWS_PER_PARAMETER * p / data.block)
    if n_blocks * data.block >= size or data.block % N_RUNS:
        return sample_chunks(data, _n_chunks(data, p), N_RUNS)
    rows = sample_chunks(data, 1, N_RUNS, n_blocks=n_blocks)
    return with_known(spec, rows) if splits(spec, data) else rows  # once, for all evaluations


def improved(
    spec: Spec, data: Prepared, first: Prepared, u0: Float[Host, " p"], fixed: Any
) -> Float[Host, " p"] | None:
    """A start near the estimate, from a search that begins at u0 on the `first_rows`; None if u0 is the better start."""
    near, sample = _searched(spec, data, first, u0, fixed), first
    if int(first.n) < first.n_padded:  # one step on a whole chunk; a search there if the step is not safe
        sample = sample_chunks(data, 1, N_RUNS)
        begin = u0 if near is None else near
        near = None if near is None else _one_step(spec, data, sample, near, fixed)
        near = _searched(spec, data, sample, begin, fixed) if near is None else near
    if near is None:
        return None
    # rows outside the sample decide whether the start is used, and give the last step
    n_others = max(1, int(data.n) // (SHARE * sample.n_padded))

    def others(i: int) -> Evaluator:
        rows = sample_chunks(data, sample.n_padded // chunk_size(data), N_RUNS, skip=(i + 1) / (n_others + 1))
        return Evaluator(spec, rows, fixed, None, like=data)

    judge = others(0)
    found = judge(_SEARCH, near)
    if not _expected(found, judge.scale) and not found[0] < judge(_SEARCH, u0)[0]:
        return None
    scale = judge.scale
    del judge  # free its memory for the next one
    every = [found, *(others(i)(_SEARCH, near) for i in range(1, n_others))]
    score = np.sum([part[1] for part in every], axis=0) / (n_others + 1)  # the sample's own score is about zero
    curvature = np.mean([part[2] for part in every], axis=0)
    onward = _stepped(spec, near, score, curvature)
    if onward is None or _expected((0.0, score, curvature), n_others * scale):
        return near if onward is None else onward
    # a few rows may make the step too long: refuse it if it lowers the log-likelihood of the first of these samples by more
    # than the sampling error explains
    slack = 0.5 * (10.0 * near.size + 20.0) / scale
    return onward if others(0)(_SEARCH, onward)[0] <= found[0] + slack else near


def chosen(evaluate: Evaluator, near: Float[Host, " p"], u0: Float[Host, " p"]) -> tuple[Float[Host, " p"], Evaluated]:
    """The better of ``near`` and u0 on all rows, with Newton's evaluation there; u0 is evaluated only if ``near`` is far from a
    maximum."""
    found = evaluate(_SEARCH, near)
    if _expected(found, evaluate.scale):
        return near, found
    plain = evaluate(_SEARCH, u0)
    return (u0, plain) if plain[0] < found[0] or not np.isfinite(found[0]) else (near, found)


def _one_step(
    spec: Spec, data: Prepared, rows: Prepared, near: Float[Host, " p"], fixed: Any
) -> Float[Host, " p"] | None:
    """Newton's step on these rows, or None if the point is not near a maximum of theirs."""
    evaluate = Evaluator(spec, rows, fixed, None, like=data)
    found = evaluate(_SEARCH, near)
    return _stepped(spec, near, *found[1:]) if _expected(found, evaluate.scale) else None


def _stepped(
    spec: Spec, u: Float[Host, " p"], score: Float[Host, " p"], curvature: Float[Host, "p p"]
) -> Float[Host, " p"] | None:
    """u after Newton's step, within the bounds; None if the information is not positive definite."""
    inverse = linalg.scaled_inverse(curvature)
    onward = np.clip(u - inverse.inverse @ score, spec.space.lower, spec.space.upper)
    return onward if inverse.ok and np.isfinite(onward).all() else None


def _expected(found: tuple[Any, np.ndarray, np.ndarray], scale: float) -> bool:
    """Whether the Newton decrement is as small as at the estimate from as many other rows, where its mean is 2 p."""
    _, score, curvature = found
    if not (linalg.all_finite(score) and linalg.surely_definite(curvature, DEFINITE)):
        return False
    return bool(scale * linalg.solve_scaled_host(curvature, score)[1] <= 10.0 * score.size + 20.0)


def _searched(
    spec: Spec, data: Prepared, sample: Prepared, u0: Float[Host, " p"], fixed: Any
) -> Float[Host, " p"] | None:
    """Newton's method on the sample until it is within the sampling error, and a full step from there; None if it fails."""
    evaluate = Evaluator(spec, sample, fixed, None, like=data)
    carry = optimize.begin(_SEARCH, u0)
    setting = optimize.setting_of(carry.u, spec.space.lower, spec.space.upper, evaluate.scale)
    ridge: np.ndarray | None = None
    with np.errstate(all="ignore"):
        while carry.status == End.RUNNING:
            found = evaluate(_SEARCH, carry.trial)
            if ridge is None:
                size = np.abs(np.diag(found[2]))
                ridge = np.where(np.isfinite(size) & (size > 0), size, 1.0) / evaluate.scale
            carry = optimize.take_turn(_SEARCH, _with_ridge(found, ridge, np.asarray(carry.trial) - u0), carry, setting)
            if carry.decrements[-1] <= ENOUGH * u0.size:
                return np.asarray(carry.trial)
    return None


def _with_ridge(found: Evaluated, ridge: Float[Host, " p"], away: Float[Host, " p"]) -> Evaluated:
    value, score, curvature = found
    return value + 0.5 * np.sum(ridge * away**2), score + ridge * away, curvature + np.diag(ridge)
