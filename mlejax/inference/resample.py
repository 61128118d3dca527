r"""The bootstrap and the jackknife: refits of a fit, many at a time.

Case, cluster and Bayesian resamples are weights: with N_i the times that row (unit, cluster) i was drawn, a replicate
maximises sum_i N_i w_i l_i.  Parametric ones are data drawn from the model at its estimates.
"""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np

from mlejax.fit import Fit
from mlejax.inference.refitting import (
    Replicates,
    check_approximate,
    check_count,
    check_fit,
    check_one_step,
    check_seed,
    check_separable,
    refit_simulated,
    refit_weights,
)
from mlejax.inference.resample_table import Bootstrap, Jackknife
from mlejax.inference.resample_weights import draws, pool_of, without_one
from mlejax.status import End
from mlejax.verdict import ConvergenceWarning

KINDS = ("case", "cluster", "bayesian", "parametric")
EXACT_JACKKNIFE = 5000  # refits for the acceleration of BCa intervals; beyond, one step each


def bootstrap(
    fit: Fit,
    n: int = 1000,
    kind: str = "case",
    *,
    seed: int = 0,
    groups: Any = None,
    approximate: str | None = None,
    memory_limit: float | None = None,
    progress: bool | None = None,
) -> Bootstrap:
    """The bootstrap distribution of the estimates; arguments as in ``Results.bootstrap``."""
    n, seed, short = check_count("n", n, 2), check_seed(seed), check_approximate(approximate)
    if kind not in KINDS:
        raise ValueError(f"kind={kind!r}: expected one of {', '.join(map(repr, KINDS))}")
    what = f"bootstrap(kind={kind!r})"
    check_fit(fit, what)
    space = fit.spec.space
    facts: dict[str, Any] = {
        "labels": tuple(space.labels),
        "estimate": space.reported(fit.params),
        "fixed": np.asarray(space.reported_fixed),
        "kind": kind,
        "seed": seed,
        "approximate": short,
        "model": fit.spec.likelihood.name,
        "fit": fit,
        "groups": groups,
    }
    if kind == "parametric":
        if groups is not None or short:
            raise ValueError(
                "kind='parametric' draws whole data sets and fits them: groups= and approximate= do not go with it"
            )
        return _said(
            Bootstrap(refits=refit_simulated(fit, n, seed, memory_limit, progress), drawn="data sets", **facts)
        )
    check_separable(fit, what, "kind='parametric' simulates such data from the model")
    if kind == "cluster" and groups is None:
        raise ValueError("kind='cluster' needs groups=: a column's name, or one label for each row")
    if kind == "case" and groups is not None:
        raise ValueError("groups= goes with kind='cluster' (whole groups are drawn) or kind='bayesian'")
    if short:
        check_one_step(fit)
    pool = pool_of(fit, groups)
    refits, _ = refit_weights(fit, draws(pool, kind, seed, n), n, short, memory_limit, progress)
    return _said(Bootstrap(refits=refits, drawn=f"{pool.total} {pool.what}", **facts))


def _said(made: Bootstrap) -> Bootstrap:
    if made.refits.failures:
        warnings.warn(
            f"bootstrap of {made.model}: {made.failed_statement}; they are left out of errors and intervals",
            ConvergenceWarning,
            stacklevel=4,
        )
    return made


def jackknife(
    fit: Fit,
    groups: Any = None,
    *,
    approximate: str | None = None,
    memory_limit: float | None = None,
    progress: bool | None = None,
) -> Jackknife:
    """Estimates with every row (unit, group) left out in turn; arguments as in ``Results.jackknife``."""
    short = check_approximate(approximate)
    check_fit(fit, "jackknife()")
    check_separable(fit, "jackknife()", "There is no estimate without one of its rows")
    if short:
        check_one_step(fit)
    pool = pool_of(fit, groups)
    refits, done = refit_weights(fit, without_one(pool), pool.m, short, memory_limit, progress)
    if (done.end == int(End.INTERRUPTED)).any():
        raise KeyboardInterrupt
    space = fit.spec.space
    made = Jackknife(
        labels=tuple(space.labels),
        estimate=space.reported(fit.params),
        fixed=np.asarray(space.reported_fixed),
        refits=refits,
        copies=pool.copies,
        left_out=pool.what,
        approximate=short,
        model=fit.spec.likelihood.name,
    )
    if refits.failures:
        warnings.warn(
            f"jackknife of {made.model}: {made.failed_statement}; there are no jackknife errors without them",
            ConvergenceWarning,
            stacklevel=3,
        )
    return made


def acceleration_jackknife(fit: Fit, groups: Any, short: bool) -> tuple[Replicates, np.ndarray, str]:
    """What the acceleration of BCa intervals is made of: estimates without one thing, their copies, and how made."""
    pool = pool_of(fit, groups)
    exact = not short and pool.m <= EXACT_JACKKNIFE
    if not exact:
        check_one_step(fit)
    refits, _ = refit_weights(fit, without_one(pool), pool.m, not exact, None, None)
    how = "exact refits" if exact else "one Newton step each"
    return refits, pool.copies, f"jackknife of {pool.m} {pool.what}, {how}"
