"""Resamples of a fit, each by one Newton step from the estimate that needs only sums of scores and informations. For a stream
the sums come from one pass; for models with effects of levels the step moves the effects too.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

from mlejax.batch import one_step_of
from mlejax.data import DataError
from mlejax.execution import float64, progress_line
from mlejax.fit import Fit, effects_evaluator_of, evaluator_of
from mlejax.inference.resampling.draws import Draws, Pool, draws, pool_of, without_one
from mlejax.inference.resampling.refitting import Replicates, replicates
from mlejax.objective import (
    EffectSums,
    EffectValues,
    PartitionedEvaluator,
    RowDerivatives,
    derivatives_in_memory,
    drawn_sums,
    effect_sums,
    streamed_effect_sums,
    sums_by_label,
    sums_by_level,
)
from mlejax.shapes import Float, Host

EXACT = "approximate='one-step' is needed for a stream, whose rows are not in memory for exact refits: add it"
NO_ROWS = (
    "leaving out each row in turn keeps an estimate for every row, and the rows of a stream are not in memory: use "
    "cov_type='HC3', whose errors are those of these steps, or give groups=, the name of a column of groups to leave out"
)
Weighing = Callable[[Float[Host, "B K"]], Float[Host, "B k"]]
"""Function from weights of clusters (B, K) to sums of score and information under them (B, p + p^2)."""


def by_sums(fit: Fit, short: bool) -> bool:
    """True if resamples of a fit are made by this module: for a stream, and for a model with effects of levels if one Newton
    step is requested (``short``).
    """
    return fit.loaded.stream is not None or (short and fit.loaded.effects is not None)


def bootstrapped_by_sums(
    fit: Fit, kind: str, n: int, seed: int, groups: Any, short: bool, progress: bool | None
) -> tuple[Replicates, str]:
    """Return n one-step replicates of the estimates, and what was drawn, in words.

    Args:
        fit: fit of a stream, or of a model with effects of levels.
        kind: "bayesian" for random weights, any other kind for numbers of draws.  Rows have independent exponential weights, or
            Poisson numbers, of mean 1 (w for a row of frequency weight w); clusters and levels have Dirichlet weights, or are
            drawn with replacement.
        n: number of replicates.
        seed: seed of the draws.
        groups: clusters that are drawn whole: the name of a column, or labels if the rows are in memory; None draws levels, or
            without effects rows.
        short: one Newton step from the estimate each, the only choice for a stream.
        progress: a progress line; None shows it in a terminal.

    Raises:
        DataError: not ``short``; labels in place of the name of a column, a column that cannot be labels, fewer than two
            clusters with rows of positive weight, or too many parameters for the memory.
    """
    if not short:
        raise DataError(EXACT)
    with progress_line(progress, f"resamples of {fit.spec.likelihood.name}"):
        if groups is not None or fit.loaded.effects is not None:
            pool, weighing = _clusters(fit, groups)
            return _stepped(fit, weighing, draws(pool, kind, seed), n), f"{pool.total} {pool.what}"
        with float64():
            evaluator: Any = evaluator_of(fit.spec.plain, fit.loaded, fit.fixed)
            found = drawn_sums(evaluator, fit.u, kind == "bayesian", n, seed, fit.weight_kind == "frequency")
    counted = fit.loaded.stream.n_used if fit.loaded.stream is not None else 0
    how = "exponential weights" if kind == "bayesian" else "a Poisson number of times each"
    of = fit.spec.likelihood.mode
    return replicates(fit, one_step_of(fit.spec, fit.u, found, fit.fixed), True), f"{counted} {of}, {how}"


def jackknifed_by_sums(fit: Fit, groups: Any, short: bool, progress: bool | None) -> tuple[Replicates, Pool]:
    """Return the one-step estimates without each group, in order of first appearance, and the groups; by default without each
    level or unit.

    Arguments and errors are those of `bootstrapped_by_sums`; ``groups=None`` (each row in turn) is a DataError too for models
    of rows without effects.
    """
    unit = fit.spec.likelihood.unit
    if groups is None and unit is None and fit.loaded.effects is None:
        raise DataError(NO_ROWS)
    if not short:
        raise DataError(EXACT)
    with progress_line(progress, f"resamples of {fit.spec.likelihood.name}"):
        pool, weighing = _clusters(fit, unit if groups is None else groups)
        pool = replace(pool, what="units") if groups is None and unit is not None else pool
        return _stepped(fit, weighing, without_one(pool), pool.m), pool


def _clusters(fit: Fit, groups: Any) -> tuple[Pool, Weighing]:
    """Return the clusters with rows of positive weight, as the pool to draw from, and the function from weights of the clusters
    to the weighted sums of score and information at the estimate.

    Raises:
        DataError: for a stream, labels in place of the name of a column; a column that cannot be labels; fewer than two clusters
            with rows of positive weight; or too many parameters for the memory.
    """
    streamed, what = fit.loaded.stream is not None, "clusters"
    if streamed and not (isinstance(groups, str) or (groups is None and fit.loaded.effects is not None)):
        raise DataError("groups=: for a stream, expected the name of a column of it, got labels; add them as a column")
    with float64():
        if fit.loaded.effects is None:
            evaluator: Any = evaluator_of(fit.spec.plain, fit.loaded, fit.fixed)
            sums = sums_by_label(evaluator, fit.u, groups)
            m, weighing = len(sums), lambda weights: weights @ sums
        else:
            found = _with_effects_of_stream(fit, groups) if streamed else _with_effects_in_memory(fit, groups)
            m, weighing = len(found.clusters), found.weighted
            what = what if groups is not None else f"levels of {fit.loaded.effects.key.by}"
    if m < 2:
        raise DataError(f"resampling needs at least two {what}, got {m}")
    return Pool(what, np.arange(m), np.ones(m), np.ones(m, np.int64), False), weighing


def _with_effects_in_memory(fit: Fit, groups: Any) -> EffectSums:
    """Return the sums by cluster and level of rows in memory; without groups each level is a cluster."""
    pool = pool_of(fit, groups)
    evaluator = effects_evaluator_of(fit.spec.plain, fit.loaded, fit.fixed)
    assert fit.loaded.effects is not None
    data = evaluator.at_effects(fit.loaded.effects.values)
    values = derivatives_in_memory(evaluator.spec, evaluator.position, fit.u, data, fit.fixed)
    used = pool.codes >= 0
    weighted = values[used] * pool.base[used, None]
    return effect_sums(weighted, len(fit.u), evaluator.levels.codes[used], pool.codes[used])


def _with_effects_of_stream(fit: Fit, groups: str | None) -> EffectSums:
    """Return the sums by cluster and level of a stream, by one pass; without groups each level is a cluster."""
    evaluator = effects_evaluator_of(fit.spec.plain, fit.loaded, fit.fixed)
    effects, levels, stream = fit.loaded.effects, evaluator.streamed, fit.loaded.stream
    assert effects is not None
    assert levels is not None
    assert stream is not None
    if groups is None:
        program = RowDerivatives(evaluator.spec, evaluator.position, fit.u, fit.fixed)
        return sums_by_level(levels.run(program, effects.values, program.n_terms)[1], len(fit.u))
    within = PartitionedEvaluator(evaluator.spec, stream, fit.loaded.seen.problem.data, fit.fixed)
    return streamed_effect_sums(within, EffectValues(evaluator.position, effects.values), fit.u, groups)


def _stepped(fit: Fit, weighing: Weighing, weights: Draws, n: int) -> Replicates:
    """Return n replicates of one Newton step each, from sums under weights of clusters, 1,024 replicates at a time."""
    parts = [np.arange(i, min(i + 1024, n)) for i in range(0, n, 1024)]
    together = np.concatenate([weighing(weights(at)) for at in parts])
    return replicates(fit, one_step_of(fit.spec, fit.u, together, fit.fixed), True)
