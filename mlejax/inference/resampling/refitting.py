"""Refits of one fit with many weight vectors or to many simulated data sets; failures are counted."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import jax
import numpy as np

from mlejax import optimize
from mlejax.batch import Refits, budget, one_step, refit, refit_data, row_derivatives, stacked
from mlejax.batch.sets import DataSets
from mlejax.covariance import COVARIANCE_LIMIT
from mlejax.execution import float64, progress_line
from mlejax.fit import Fit, effects_evaluator_of, refuse_connected
from mlejax.fit.diagnose.ends import clean
from mlejax.inference.covariances.expected_counts import warn_of_count
from mlejax.inference.resampling.draws import Draws
from mlejax.inference.row_effects import Random
from mlejax.inference.simulation.simulated_data import simulator_of
from mlejax.inference.simulation.simulator import as_seen, columns_of, looking_up, stack
from mlejax.inference.tables.entries import reported
from mlejax.likelihood import Likelihood, missing_derivatives
from mlejax.linalg import scaled_inverse
from mlejax.shapes import Bool, Float, Host, PyTree
from mlejax.status import End

STACK_BYTES = 64 * 1024 * 1024
AT_ONCE = 1024
FAR = 4.0
JUMPED = f"a step of more than {FAR:g} standard errors on a log or logit scale"


@dataclass(frozen=True, eq=False)
class Replicates:
    """Estimates of B refits, those that were not run included.

    Attributes:
        values: entries of ``params``, natural scale (B, r); NaN in the rows of refits that failed or were not run.
        params: the user's structure with a leading axis B; not an estimate where ``good`` is False.  None for the half-panel
            jackknife.
        good: True for refits that ended at a maximum (B,).
        failures: dict from reason to the number of refits that failed, or were not run, for it.
        finished: False if Ctrl-C interrupted the refits, so that some were not run.
    """

    values: np.ndarray
    params: PyTree
    good: np.ndarray
    failures: Mapping[str, int]
    finished: bool = True


def check_fit(fit: Fit, what: str) -> None:
    """Raise ValueError for fits that cannot be refitted: from a file, without a free parameter, with more than 2,000, or
    without a maximum.

    ``what``: the feature, first words of the messages.
    """
    if fit.loaded.remembered is not None:
        raise ValueError(f"{what} needs the data and the model, which a result from a file does not hold; fit the model again")
    if fit.spec.space.n_free == 0:
        raise ValueError(f"{what} needs a parameter to estimate, and all are fixed; leave one out of fixed=")
    if fit.spec.space.n_free > COVARIANCE_LIMIT:
        raise ValueError(
            f"{what} refits by Newton's method: expected at most {COVARIANCE_LIMIT} parameters, got {fit.spec.space.n_free}; fix "
            "some with fixed= in the fit"
        )
    if not fit.verdict.converged:
        raise ValueError(
            f"{what} needs a fit that ended at a maximum; this one did not ({fit.verdict.code.replace('_', ' ')}).  "
            f"{fit.verdict.advice}"
        )


def check_separable(fit: Fit, what: str, instead: str) -> None:
    """Raise ValueError for models whose rows cannot be left out or repeated: extended likelihoods, ``rowwise=False``, effects
    of ``mle.Real(by=...)`` beside an intercept, and random effects that connect all rows.  Warn if the function reads its
    number of rows (`warn_of_count`).

    Args:
        fit: the fit.
        what: the feature, first words of the messages.
        instead: a sentence that says what to do, for ``rowwise=False``.
    """
    if fit.loaded.with_total:
        raise ValueError(
            f"{what} does not support extended likelihoods: the number of rows is an outcome, and leaving rows out does not tell "
            "its variance.  Use res.bootstrap(), which draws Poisson numbers of rows"
        )
    if fit.loaded.problem.data.mode == "whole":
        raise ValueError(
            f"{what} does not support rowwise=False: the function receives the whole data in their order, and with rows left "
            f"out or repeated its terms would be other ones.  {instead}"
        )
    effects = fit.loaded.effects
    if effects is not None and effects.given.any():
        raise ValueError(
            f"{what} does not support an intercept together with effects of {effects.key.by}: the intercept is the first level's "
            "effect, and a resample may not contain that level.  Leave the intercept out"
        )
    refuse_connected(fit.loaded, fit.spec.likelihood, what)
    warn_of_count(fit, what)


def check_one_step(
    fit: Fit, what: str = "approximate='one-step' is not supported", instead: str = "leave it out for exact refits"
) -> None:
    """Raise ValueError if one Newton step does not approximate a refit of this fit: with a penalty, bias reduction,
    differenced Hessians, an estimate at a bound, effects of ``mle.Real(by=...)`` of several columns, or a closed support.

    ``what``, ``instead``: the beginning of the message, and its end, which says what to do.
    """
    spec = fit.spec
    reason = ""
    if spec.adjusted:
        reason = f"the fit is {'penalised' if spec.reduction is None else 'bias-reduced'}"
    elif spec.hessian != "autodiff":
        reason = "its second derivatives are numerical differences"
    elif not fit.interior.all():
        reason = "an estimate is at a bound of its support"
    elif spec.likelihood.coded:
        reason = "effects of mle.Real(by=...) of several columns are estimated again in each refit"
    elif spec.space.boxed:
        reason = "a parameter has a closed support, and one step may leave it"
    if reason:
        raise ValueError(f"{what} here: {reason}; {instead}")


def check_approximate(approximate: str | None) -> bool:
    """True if ``approximate`` is "one-step", False if it is None; ValueError for other values."""
    if approximate not in (None, "one-step"):
        raise ValueError(
            f"approximate={approximate!r}: expected None (exact refits) or 'one-step' (one Newton step from the estimate)"
        )
    return approximate is not None


def refit_weights(
    fit: Fit, weights: Draws, n: int, approximate: bool, memory_limit: float | None, progress: bool | None
) -> tuple[Replicates, Refits]:
    """Return the estimates under n weight vectors, each refit started at the estimate: with failures counted and set to NaN
    (`Replicates`), and as the refits ended (`Refits`).

    Args:
        fit: the fit.
        weights: function from the numbers of k replicates to their weights (k, n_terms).
        n: number of replicates.
        approximate: one Newton step each in place of a refit (not with effects of ``mle.Real(by=...)``).
        memory_limit, progress: as in ``Model.fit_batch``.
    """
    with progress_line(progress, f"refits of {fit.spec.likelihood.name}"), missing_derivatives(fit.spec.likelihood):
        if fit.loaded.levels is not None:
            done = _with_effects(fit, weights, n)
        elif approximate:
            done = _steps(fit, weights, n)
        else:
            data, cut = fit.loaded.problem.data, budget(memory_limit, progress)
            done = refit(fit.spec, optimize.Newton(), data, weights, n, fit.u, fit.fixed, cut, fit.loaded.hyper)
    return replicates(fit, done, approximate), done


def _with_effects(fit: Fit, weights: Draws, n: int) -> Refits:
    """Refit a model with effects of ``mle.Real(by=...)`` under n weight vectors, one after the other; levels whose rows all
    have weight 0 have no effect.
    """
    whole, space = effects_evaluator_of(fit.spec, fit.loaded, fit.fixed), fit.spec.space
    with float64():
        ends = [whole.weighted(weights(np.array([b]))[0]).run(optimize.Newton(), fit.u[None]) for b in range(n)]
        theta = [np.asarray(space.theta_from_u(end.u[0], fit.fixed)) for end in ends]
        params = [space.params_from_u(end.u[0], fit.fixed) for end in ends]
    return Refits(
        u=np.stack([end.u[0] for end in ends]),
        theta=np.stack(theta),
        params=jax.tree.map(lambda *each: np.stack([np.asarray(a) for a in each]), *params),
        llf=np.array([float(end.loglik[0]) for end in ends]),
        clean=np.array([clean(end, space)[0] for end in ends]),
        end=np.array([int(end.status[0]) for end in ends]),
        n_steps=np.array([int(end.n_steps[0]) for end in ends]),
    )


def _steps(fit: Fit, weights: Draws, n: int) -> Refits:
    parts = [np.arange(i, min(i + AT_ONCE, n)) for i in range(0, n, AT_ONCE)]
    data = fit.loaded.problem.data
    known = row_derivatives(fit.spec, fit.u, data, fit.fixed)
    return joined([one_step(fit.spec, fit.u, data, weights(at), fit.fixed, known) for at in parts])


def joined(parts: list[Refits]) -> Refits:
    """Concatenate several sets of refits; finished if all of them are."""
    if len(parts) == 1:
        return parts[0]
    together = lambda *a: np.concatenate(a)
    names = ("u", "theta", "llf", "clean", "end", "n_steps")
    arrays = {name: together(*(getattr(part, name) for part in parts)) for name in names}
    params = jax.tree.map(together, *(part.params for part in parts))
    return Refits(**arrays, params=params, finished=all(part.finished for part in parts))


def replicates(fit: Fit, done: Refits, approximate: bool = False) -> Replicates:
    """Return the entries of the refits, NaN where one failed, with failures counted by reason.

    Steps in place of refits (``approximate``) fail also if they are too long (`_jumps`).
    """
    space, n = fit.spec.space, len(done.u)
    values = reported(space, done.params, n)
    finite = done.clean & np.isfinite(values).all(axis=1)
    good = finite & ~_jumps(fit, done.u) if approximate else finite
    values[~good] = np.nan
    reasons = [_reason(End(end), approximate, ok) for end, ok in zip(done.end[~good], finite[~good].tolist(), strict=True)]
    return Replicates(values, done.params, good, dict(Counter(reasons).most_common()), done.finished)


def _reason(end: End, approximate: bool, finite: bool) -> str:
    if approximate:
        return JUMPED if finite else "the weighted information is not positive definite"
    if end == End.CONVERGED:
        return "not a clean maximum"
    return "not run: interrupted" if end == End.INTERRUPTED else end.name.lower().replace("_", " ")


def _jumps(fit: Fit, u: Float[Host, "B p"]) -> Bool[Host, " B"]:
    """Return True for refits u (B, p) that are more than 4 standard errors from the estimate in a coordinate that is
    transformed (by a log or logit, say), (B,); False for all with linear constraints.

    Such a step does not approximate a refit.  In untransformed coordinates long steps are kept: they occur in samples with
    outliers.
    """
    space = fit.spec.space
    curved = np.zeros(u.shape[1], bool)
    if space.ties is not None:
        return np.zeros(len(u), bool)
    for leaf, at in zip(space.leaves, space.u_slices, strict=True):
        curved[at] = not leaf.transform.unchanged
    assert fit.information is not None
    assert fit.jacobian is not None
    spread = np.sqrt(np.diag(scaled_inverse(fit.jacobian.T @ fit.information @ fit.jacobian).inverse))
    with np.errstate(invalid="ignore"):
        return (np.abs(u - fit.u) > FAR * spread)[:, curved].any(axis=1)


def refit_simulated(
    fit: Fit, n: int, seed: int, memory_limit: float | None, progress: bool | None, random: Random = "integrate"
) -> Replicates:
    """Return estimates from n data sets simulated from the model at its estimates, where the refits start; arguments and
    errors as in `refits_by_chunk`.
    """
    what = f"bootstrap(kind='parametric') of {fit.spec.likelihood.name}"
    return replicates(fit, refits_of_drawn(fit, [(fit, fit.u)], n, seed, what, memory_limit, progress, random)[0])


def refits_of_drawn(
    drawn: Fit,
    targets: Sequence[tuple[Fit, Float[Host, " p"]]],
    n: int,
    seed: int,
    what: str,
    memory_limit: float | None = None,
    progress: bool | None = None,
    random: Random = "integrate",
) -> list[Refits]:
    """Return for each target its refits to the n data sets simulated from ``drawn``; arguments and errors as in
    `refits_by_chunk`.
    """
    with progress_line(progress, f"refits of {drawn.spec.likelihood.name}"):
        chunks = refits_by_chunk(drawn, targets, n, seed, what, memory_limit, progress, random)
        parts = [[done for _, done in chunk] for chunk in chunks]
    return [joined([chunk[k] for chunk in parts]) for k in range(len(targets))]


def refits_by_chunk(
    drawn: Fit,
    targets: Sequence[tuple[Fit, Float[Host, " p"]]],
    n: int,
    seed: int,
    what: str,
    memory_limit: float | None = None,
    progress: bool | None = None,
    random: Random = "integrate",
) -> Iterator[list[tuple[DataSets, Refits]]]:
    """Simulate data sets from one fit and refit several models of the same rows to them; yield one chunk of data sets at a
    time: for each target, the data sets as it reads them, and its refits.  Ends early after Ctrl-C.

    Args:
        drawn: the fit whose simulator is used.
        targets: the fits to refit, each with the start u of its refits.
        n, seed: number of data sets and seed of the draws.
        what: name of the caller, for messages.
        memory_limit, progress: as in ``Model.fit_batch``.
        random: how random effects are simulated, as in `simulator`.

    Raises:
        ValueError: weights, an extended likelihood, random effects of several grouping columns, or a simulator that draws no
            column that is read, or one of a formula.
        CompanionError: no simulator.
    """
    if any(fit.loaded.weights is not None for fit in (drawn, *(fit for fit, _ in targets))):
        raise ValueError(
            f"{what} does not support weights: a simulated row is one observation and has no weight; repeat each row by its "
            "frequency weight, or resample the rows themselves by res.bootstrap(kind='case')"
        )
    loaded = drawn.loaded
    if loaded.with_total:
        raise ValueError(
            f"{what} does not support extended likelihoods: the number of rows is an outcome, and a simulator draws a fixed "
            "number.  For standard errors, res.bootstrap(kind='case') draws Poisson numbers of rows"
        )
    if loaded.crossing is not None:
        raise ValueError(
            f"{what} does not support random effects of several grouping columns ({drawn.spec.likelihood.unit}): simulate data "
            "by model.simulate, and fit them in a loop"
        )
    lookup = looking_up(drawn.spec.likelihood, loaded.source, loaded.rows)
    seen, sim = simulator_of(drawn, what, random)
    cut, every = budget(memory_limit, progress), []
    for fit, _ in targets:
        likelihood, mine = fit.spec.likelihood, fit.loaded
        columns = columns_of(mine.rows)
        check_made(likelihood, sim.made, columns, () if mine.designs is None else mine.designs.used)
        if likelihood.unit is not None:
            columns[likelihood.unit] = lookup(likelihood.unit)
        every.append(columns)
    step = min(chunk_of(columns, loaded.rows.n, cut.memory) for columns in every)
    for first in range(0, n, step):
        numbers = np.arange(first, min(first + step, n))
        made, chunk = sim.draw(seen, seed, numbers), []
        for (fit, u0), columns in zip(targets, every, strict=True):
            with float64(), missing_derivatives(fit.spec.likelihood):
                structure = fit.params if fit.spec.likelihood.parameters is None else None
                new = as_seen(fit.spec.likelihood, made, columns)
                read = {key: value for key, value in new.items() if key in columns}
                sets = stacked(fit.spec.likelihood, stack(columns, read, len(numbers)), structure, "raise")
                sets = replace(sets, space=fit.loaded.problem.space, designs=fit.loaded.designs)
                done = refit_data(fit.spec, optimize.Newton(), sets, u0, fit.fixed, cut, fit.loaded.hyper)
            chunk.append((sets, done))
        yield chunk
        if not all(done.finished for _, done in chunk):
            return


def check_made(likelihood: Likelihood, made: Any, columns: Mapping[Any, Any], used: Collection[Hashable]) -> None:
    """Check that a simulator draws a column that the log-likelihood reads, and none that formulas use.

    Args:
        likelihood: the model.
        made: names of the columns that the simulator draws.
        columns: the columns that the log-likelihood reads.
        used: names of the columns that formulas use.

    Raises:
        ValueError: it draws no column that is read, or a column of a formula.
    """
    if not any(key in columns for key in made):
        raise ValueError(
            f"the simulator of {likelihood.name} returns {', '.join(map(repr, made))}; expected a column that the log-likelihood "
            f"reads ({', '.join(repr(key) for key in columns if isinstance(key, str))})"
        )
    both = [key for key in made if key in set(used)]
    if both:
        raise ValueError(
            f"the simulator of {likelihood.name} draws {', '.join(map(repr, both))}, which formulas of the model use; return "
            "outcomes only, covariates are taken from the data"
        )


def chunk_of(columns: Mapping[Any, Any], n_rows: int, memory: int) -> int:
    """Return how many simulated data sets to hold in memory at once, at least 1: a quarter of ``memory`` bytes, at most 16
    MB, for data sets of these columns.
    """
    sizes = [8 * int(np.prod(np.shape(a))) for v in columns.values() for a in jax.tree.leaves(v) if hasattr(a, "shape")]
    each = max(4 * (sum(sizes) + 8 * n_rows), 1)
    return max(int(min(STACK_BYTES, memory) // each), 1)
