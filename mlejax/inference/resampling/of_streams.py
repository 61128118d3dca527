"""Resamples of a stream: one Newton step from the estimate each, from sums of scores and informations in one pass."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from mlejax.batch import one_step_of
from mlejax.data import DataError
from mlejax.execution import float64, progress_line
from mlejax.fit import Fit, evaluator_of
from mlejax.inference.resampling.draws import Draws, Pool, draws, without_one
from mlejax.inference.resampling.refitting import Replicates, replicates
from mlejax.objective import drawn_sums, sums_by_label
from mlejax.shapes import Float, Host

EXACT = "approximate='one-step' is needed for a stream, whose rows are not in memory for exact refits: add it"
NO_ROWS = (
    "leaving out each row in turn needs all rows in memory, and the data are a stream: give groups=, the name of a column of "
    "groups to leave out, or use standard errors such as cov_type='HC1'"
)


def bootstrapped_stream(
    fit: Fit, kind: str, n: int, seed: int, groups: Any, short: bool, progress: bool | None
) -> tuple[Replicates, str]:
    """Return n one-step replicates of the estimates of a stream, and what was drawn, in words.

    Args:
        fit: fit of a stream.
        kind: "bayesian" for exponential weights of mean 1; with any other kind a row is drawn a Poisson(1) number of times. Both
            have mean w for a row of frequency weight w.
        n: number of replicates.
        seed: seed of the draws.
        groups: name of a column whose groups are drawn whole, as clusters in memory are (with replacement, or exponential
            weights); None draws rows.
        short: one Newton step from the estimate each, the only choice for a stream.
        progress: a progress line; None shows it in a terminal.

    Raises:
        DataError: not ``short``; labels in place of the name of a column, a column that cannot be labels, fewer than two
            clusters with rows of positive weight, or too many parameters for the memory.
    """
    if not short:
        raise DataError(EXACT)
    with progress_line(progress, f"resamples of {fit.spec.likelihood.name}"):
        if groups is not None:
            pool, sums = _clusters(fit, groups)
            return _stepped(fit, sums, draws(pool, kind, seed), n), f"{pool.total} clusters"
        with float64():
            evaluator: Any = evaluator_of(fit.spec.plain, fit.loaded, fit.fixed)
            found = drawn_sums(evaluator, fit.u, kind == "bayesian", n, seed, fit.weight_kind == "frequency")
    counted = fit.loaded.stream.n_used if fit.loaded.stream is not None else 0
    how = "exponential weights" if kind == "bayesian" else "a Poisson number of times each"
    of = fit.spec.likelihood.mode
    return replicates(fit, one_step_of(fit.spec, fit.u, found, fit.fixed), True), f"{counted} {of}, {how}"


def jackknifed_stream(fit: Fit, groups: Any, short: bool, progress: bool | None) -> tuple[Replicates, Pool]:
    """Return the one-step estimates without each group of a stream, in order of first appearance, and the groups; by default
    without each unit.

    Arguments and errors are those of `bootstrapped_stream`; ``groups=None`` (each row in turn) is a DataError too for models of
    rows.
    """
    unit = fit.spec.likelihood.unit
    if groups is None and unit is None:
        raise DataError(NO_ROWS)
    if not short:
        raise DataError(EXACT)
    with progress_line(progress, f"resamples of {fit.spec.likelihood.name}"):
        pool, sums = _clusters(fit, unit if groups is None else groups)
        pool = replace(pool, what="units") if groups is None else pool
        return _stepped(fit, sums, without_one(pool), pool.m), pool


def _clusters(fit: Fit, groups: Any) -> tuple[Pool, Float[Host, "G k"]]:
    """Return the clusters in a column with rows of positive weight, as the pool to draw from, and each one's weighted sums of
    score and information at the estimate (k = p + p^2).

    Raises:
        DataError: as `bootstrapped_stream` because of ``groups`` or of the memory.
    """
    if not isinstance(groups, str):
        raise DataError("groups=: for a stream, expected the name of a column of it, got labels; add them as a column")
    with float64():
        evaluator: Any = evaluator_of(fit.spec.plain, fit.loaded, fit.fixed)
        sums = sums_by_label(evaluator, fit.u, groups)
    m = len(sums)
    if m < 2:
        raise DataError(f"resampling needs at least two clusters, got {m}")
    return Pool("clusters", np.arange(m), np.ones(m), np.ones(m, np.int64), False), sums


def _stepped(fit: Fit, sums: Float[Host, "G k"], weights: Draws, n: int) -> Replicates:
    """Return n replicates of one Newton step each, from clusters' sums of score and information and their weights, 1,024
    replicates at a time.
    """
    parts = [np.arange(i, min(i + 1024, n)) for i in range(0, n, 1024)]
    together = np.concatenate([weights(at) @ sums for at in parts])
    return replicates(fit, one_step_of(fit.spec, fit.u, together, fit.fixed), True)
