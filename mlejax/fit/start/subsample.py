"""A start for many rows, from some of them: a search on one chunk costs less than one pass over the data.

The estimate from m of n rows is within about sqrt(p n / m) standard errors of the full one, from where Newton's method takes
three passes, and one that confirms, instead of six to ten.  The search begins on as many blocks of rows (or whole units) as
hold 200 for every parameter, goes one step further on the 8,192 to 16,384 rows of a chunk of the evaluator (whose program
serves all samples: nothing further is compiled), and one more on a fifth of the data.  Each sample is sixteen pieces of
neighbouring rows spread over the data.  A ridge worth one observation keeps what the first rows say nothing about (a rare
level of a factor) where it was.

It is a start and nothing more: it is left where the search on the sample does not converge (a rare event may be separated
there), or where it is far from a maximum of other rows, not in the sample, or in the end of all of them, and these are more
likely at the default start.  The answer is the one of all rows in any case.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from mlejax import linalg, optimize
from mlejax.data import Prepared
from mlejax.fit.evaluating import Evaluated, Evaluator, chunk_size, sample_chunks, splits, with_known
from mlejax.objective import Spec
from mlejax.status import End

LARGE_N = 65_536  # rows or units from which a start is sought on a sample
PIECES = 16
ROWS_PER_PARAMETER = 200
ENOUGH = 0.5  # decrement, for each parameter, at which the search on a sample ends: the estimate's own error is worth 1
CONCAVE = 1e-8  # least eigenvalue of a curvature, scaled to unit diagonal, that is taken for that of a maximum
SHARE = 5  # one of so many chunks takes part in the further step
_SEARCH = optimize.Newton(max_steps=20)


def worthwhile(spec: Spec, data: Prepared, method: Any) -> bool:
    """Whether the data are large, separable, and a chunk of them enough for this many parameters."""
    p = spec.space.n_free
    if data.mode == "whole" or spec.adjusted or not method.dense or p == 0 or int(data.n) < LARGE_N:
        return False
    return 4 * _n_chunks(data, p) * chunk_size(data) <= int(data.n) and chunk_size(data) % PIECES == 0


def _n_chunks(data: Prepared, p: int) -> int:
    """Chunks in the sample: a power of two, enough for p parameters."""
    return 1 << max(0, math.ceil(math.log2(ROWS_PER_PARAMETER * p / chunk_size(data))))


def first_rows(spec: Spec, data: Prepared) -> Prepared:
    """The rows on which the search begins: as few blocks of a chunk as are enough for the parameters."""
    p, size = spec.space.n_free, chunk_size(data)
    n_blocks = math.ceil(ROWS_PER_PARAMETER * p / data.block)
    if n_blocks * data.block >= size or data.block % PIECES:
        return sample_chunks(data, _n_chunks(data, p), PIECES)
    rows = sample_chunks(data, 1, PIECES, n_blocks=n_blocks)
    return with_known(spec, rows) if splits(spec, data) else rows  # once for all that look at them


def improved(spec: Spec, data: Prepared, first: Prepared, u0: np.ndarray, fixed: Any) -> np.ndarray | None:
    """A start near the estimate from a sample, found on the `first_rows` of it, or None where u0 is the safer one."""
    near, sample = _searched(spec, data, first, u0, fixed), first
    if int(first.n) < first.n_padded:  # one step on a whole chunk, and a search there if that is no place to step from
        sample = sample_chunks(data, 1, PIECES)
        begin = u0 if near is None else near
        near = None if near is None else _one_step(spec, data, sample, near, fixed)
        near = _searched(spec, data, sample, begin, fixed) if near is None else near
    if near is None:
        return None
    # rows that the sample does not have judge it, and bring it one step further
    n_others = max(1, int(data.n) // (SHARE * sample.n_padded))

    def others(i: int) -> Evaluator:
        rows = sample_chunks(data, sample.n_padded // chunk_size(data), PIECES, skip=(i + 1) / (n_others + 1))
        return Evaluator(spec, rows, fixed, None, like=data)

    judge = others(0)
    found = judge(_SEARCH, near)
    if not _expected(found, judge.scale) and not found[0] < judge(_SEARCH, u0)[0]:
        return None
    scale = judge.scale
    del judge  # the next one takes its memory
    every = [found, *(others(i)(_SEARCH, near) for i in range(1, n_others))]
    score = np.sum([part[1] for part in every], axis=0) / (n_others + 1)  # that of the sample is about zero
    curvature = np.mean([part[2] for part in every], axis=0)
    onward = _stepped(spec, near, score, curvature)
    if onward is None or _expected((0.0, score, curvature), n_others * scale):
        return near if onward is None else onward
    # a step may be thrown far by what a few rows decide: it is not taken where it makes the judging rows less likely, by more
    # than the sample's error explains
    slack = 0.5 * (10.0 * near.size + 20.0) / scale
    return onward if others(0)(_SEARCH, onward)[0] <= found[0] + slack else near


def chosen(evaluate: Evaluator, near: np.ndarray, u0: np.ndarray) -> tuple[np.ndarray, Evaluated]:
    """``near``, or u0 if all rows find that far from a maximum and are more likely at u0; with Newton's evaluation there."""
    found = evaluate(_SEARCH, near)
    if _expected(found, evaluate.scale):
        return near, found
    plain = evaluate(_SEARCH, u0)
    return (u0, plain) if plain[0] < found[0] or not np.isfinite(found[0]) else (near, found)


def _one_step(spec: Spec, data: Prepared, rows: Prepared, near: np.ndarray, fixed: Any) -> np.ndarray | None:
    """Newton's step on some rows from the estimate of others, None where that is not near to their own."""
    evaluate = Evaluator(spec, rows, fixed, None, like=data)
    found = evaluate(_SEARCH, near)
    return _stepped(spec, near, *found[1:]) if _expected(found, evaluate.scale) else None


def _stepped(spec: Spec, u: np.ndarray, score: np.ndarray, curvature: np.ndarray) -> np.ndarray | None:
    """u after Newton's step, within the bounds; None where there is none."""
    inverse = linalg.scaled_inverse(curvature)
    onward = np.clip(u - inverse.inverse @ score, spec.space.lower, spec.space.upper)
    return onward if inverse.ok and np.isfinite(onward).all() else None


def _expected(found: tuple[Any, np.ndarray, np.ndarray], scale: float) -> bool:
    """Whether a point is as near to a maximum of these rows as an estimate from as many others is: 2 p, in its decrement."""
    _, score, curvature = found
    if not (linalg.all_finite(score) and linalg.surely_definite(curvature, CONCAVE)):
        return False
    return bool(scale * linalg.solve_scaled_host(curvature, score)[1] <= 10.0 * score.size + 20.0)


def _searched(spec: Spec, data: Prepared, sample: Prepared, u0: np.ndarray, fixed: Any) -> np.ndarray | None:
    """The end of Newton's method on the sample, a full step beyond where it is within the sample's own error."""
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


def _with_ridge(found: Evaluated, ridge: np.ndarray, away: np.ndarray) -> Evaluated:
    value, score, curvature = found
    return value + 0.5 * np.sum(ridge * away**2), score + ridge * away, curvature + np.diag(ridge)
