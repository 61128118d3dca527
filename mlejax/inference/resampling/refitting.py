"""Refits of one fit under many weights, or of many simulated data sets, as labelled numbers with what failed counted."""

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
from mlejax.inference.resampling.simulator import columns_of, looking_up, simulator_of, stack
from mlejax.inference.row_effects import Random
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
    """Estimates of many refits, NaN where one failed.

    Attributes:
        values: (B, r) entries of ``params``, natural scale.
        params: the user's structure with a leading axis (B, ...).
        good: (B,) flags of those that ended at a maximum.
        failures: how many failed, by reason.
        finished: nothing was cut short by the keyboard.
    """

    values: np.ndarray
    params: PyTree
    good: np.ndarray
    failures: Mapping[str, int]
    finished: bool = True


def check_fit(fit: Fit, what: str) -> None:
    """Refuse what cannot be refitted.

    Raises:
        ValueError: a result from a file, no maximum, too many parameters, a training on minibatches.
    """
    if fit.loaded.remembered is not None:
        raise ValueError(f"{what} needs the data and the model, which are not kept in files: fit the model anew")
    if fit.spec.space.n_free == 0:
        raise ValueError(f"{what}: every parameter is fixed, so that there is nothing to estimate again")
    if fit.spec.space.n_free > COVARIANCE_LIMIT:
        raise ValueError(
            f"{what} refits by Newton's method, which is not done above {COVARIANCE_LIMIT} parameters; here there are "
            f"{fit.spec.space.n_free}"
        )
    if not fit.verdict.converged:
        raise ValueError(
            f"{what} is refused: the fit did not end at a maximum ({fit.verdict.code.replace('_', ' ')}), so that "
            f"its refits estimate nothing.  {fit.verdict.advice}"
        )


def check_separable(fit: Fit, what: str, instead: str) -> None:
    """Refuse models of the whole data, whose contributions cannot be left out or repeated."""
    if fit.loaded.with_total:
        raise ValueError(
            f"{what} is refused for an extended likelihood, in which the number of rows is an outcome: leaving rows out says "
            "nothing of it.  res.bootstrap() draws Poisson numbers of rows"
        )
    if fit.loaded.problem.data.mode == "whole":
        raise ValueError(
            f"{what} is refused for rowwise=False: the function sees the whole data in their order, and a data set with rows "
            f"left out or repeated is another series.  {instead}"
        )
    effects = fit.loaded.effects
    if effects is not None and effects.given.any():
        raise ValueError(
            f"{what} is not offered with an intercept beside the effects of {effects.key.by}, which a resample without its first "
            "level does not have: leave the intercept out, and the effects have it"
        )
    refuse_connected(fit.loaded, fit.spec.likelihood, what)
    warn_of_count(fit, what)


def check_one_step(fit: Fit) -> None:
    """Refuse one-step approximations where a Newton step on rows alone is not what a refit would start with."""
    spec = fit.spec
    reason = ""
    if spec.adjusted:
        reason = "the fit is penalised or bias-reduced"
    elif spec.hessian != "autodiff":
        reason = "its second derivatives are differences"
    elif not fit.interior.all():
        reason = "an estimate is on the edge of its support"
    elif spec.likelihood.effects:
        reason = "effects by index are found anew in each refit"
    elif spec.space.boxed:
        reason = "a parameter has a closed support, over whose edge one step may lead"
    if reason:
        raise ValueError(f"approximate='one-step' is refused: {reason}; leave it out for exact refits")


def check_approximate(approximate: str | None) -> bool:
    """Whether ``approximate=`` asks for one-step approximations."""
    if approximate not in (None, "one-step"):
        raise ValueError(
            f"approximate={approximate!r}: expected None (exact refits) or 'one-step' (one Newton step from the estimate)"
        )
    return approximate is not None


def refit_weights(
    fit: Fit, weights: Draws, n: int, approximate: bool, memory_limit: float | None, progress: bool | None
) -> tuple[Replicates, Refits]:
    """Estimates under n weight vectors, starting at the estimate."""
    with progress_line(progress, f"refits of {fit.spec.likelihood.name}"), missing_derivatives(fit.spec.likelihood):
        if fit.loaded.levels is not None:
            done = _with_effects(fit, weights, n)
        elif approximate:
            done = _steps(fit, weights, n)
        else:
            data, cut = fit.loaded.problem.data, budget(memory_limit, progress)
            done = refit(fit.spec, optimize.Newton(), data, weights, n, fit.u, fit.fixed, cut, fit.loaded.hyper)
    return _replicates(fit, done, approximate), done


def _with_effects(fit: Fit, weights: Draws, n: int) -> Refits:
    """Refits with effects by index, one after the other: each finds the effects of the levels that have rows."""
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
    """Several sets of refits as one."""
    if len(parts) == 1:
        return parts[0]
    together = lambda *a: np.concatenate(a)
    names = ("u", "theta", "llf", "clean", "end", "n_steps")
    arrays = {name: together(*(getattr(part, name) for part in parts)) for name in names}
    params = jax.tree.map(together, *(part.params for part in parts))
    return Refits(**arrays, params=params, finished=all(part.finished for part in parts))


def _replicates(fit: Fit, done: Refits, approximate: bool = False) -> Replicates:
    """Estimates of refits, NaN where one failed; failures counted by reason."""
    space, n = fit.spec.space, len(done.u)
    values = reported(space, done.params, n)
    finite = done.clean & np.isfinite(values).all(axis=1)
    good = finite & ~_jumps(fit, done.u) if approximate else finite
    values[~good] = np.nan
    reasons = [_reason(End(end), approximate, ok) for end, ok in zip(done.end[~good], finite[~good], strict=True)]
    return Replicates(values, done.params, good, dict(Counter(reasons).most_common()), done.finished)


def _reason(end: End, approximate: bool, finite: bool) -> str:
    if approximate:
        return JUMPED if finite else "the weighted information is not positive definite"
    if end == End.CONVERGED:
        return "not a clean maximum"
    return "not run: interrupted" if end == End.INTERRUPTED else end.name.lower().replace("_", " ")


def _jumps(fit: Fit, u: Float[Host, "B p"]) -> Bool[Host, " B"]:
    """Newton steps that are too long to approximate a refit: more than `FAR` standard errors on the scale of a log or logit.

    Such a step multiplies the estimate by a factor that no refit has; where the parameter itself is the scale, a long step
    is that of a sample with outliers.
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
    """Estimates from n data sets drawn from the model at its estimates, starting there."""
    what = f"bootstrap(kind='parametric') of {fit.spec.likelihood.name}"
    return _replicates(fit, refits_of_drawn(fit, [(fit, fit.u)], n, seed, what, memory_limit, progress, random)[0])


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
    """Refits of several models, of the same rows, to n data sets drawn from one of them; arguments as of `refits_by_chunk`."""
    with progress_line(progress, f"refits of {drawn.spec.likelihood.name}"):
        chunks = refits_by_chunk(drawn, targets, n, seed, what, memory_limit, progress, random)
        parts = [[done for _, done in chunk] for chunk in chunks]
    return [joined([chunk[k] for chunk in parts]) for k in range(len(targets))]


def drawn_sets(fit: Fit, n: int, seed: int, what: str) -> Iterator[tuple[DataSets, Refits]]:
    """n data sets drawn from a fit, with its refits to them, some at a time."""
    for chunk in refits_by_chunk(fit, [(fit, fit.u)], n, seed, what):
        yield chunk[0]


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
    """Data sets drawn from one fit at its estimates, and the refits of several models of the same rows, some at a time.

    Args:
        drawn: the fit whose simulator draws.
        targets: fits, and the start of their refits.
        n, seed: of the data sets.
        what: needs them, for messages.
        memory_limit, progress: as in ``Model.fit_batch``.
        random: the effects of the units of the data sets, as of `simulator`.
    """
    if any(fit.loaded.weights is not None for fit in (drawn, *(fit for fit, _ in targets))):
        raise ValueError(
            f"{what} is refused with weights: a simulated row is one observation and has no "
            "weight; use kind='case', or expand the rows of frequency weights"
        )
    loaded = drawn.loaded
    if loaded.with_total:
        raise ValueError(
            f"{what} is refused for an extended likelihood: a simulator draws as many rows as there are, and here their number "
            "is an outcome.  kind='case' draws Poisson numbers of rows"
        )
    if loaded.crossing is not None:
        raise ValueError(
            f"{what} is not offered for latents of several columns ({drawn.spec.likelihood.unit}): simulate data by "
            "model.simulate, and fit them in a loop"
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
                read = {key: value for key, value in made.items() if key in columns}
                sets = stacked(fit.spec.likelihood, stack(columns, read, len(numbers)), structure, "raise")
                sets = replace(sets, space=fit.loaded.problem.space, designs=fit.loaded.designs)
                done = refit_data(fit.spec, optimize.Newton(), sets, u0, fit.fixed, cut, fit.loaded.hyper)
            chunk.append((sets, done))
        yield chunk
        if not all(done.finished for _, done in chunk):
            return


def check_made(likelihood: Likelihood, made: Any, columns: Mapping[Any, Any], used: Collection[Hashable]) -> None:
    """A simulator has to draw something that the log-likelihood reads, and nothing that formulas are made of.

    Raises:
        ValueError: else.
    """
    if not any(key in columns for key in made):
        raise ValueError(
            f"the simulator of {likelihood.name} returns {', '.join(map(repr, made))}, of which its log-likelihood reads nothing "
            f"(it reads {', '.join(repr(key) for key in columns if isinstance(key, str))})"
        )
    both = [key for key in made if key in set(used)]
    if both:
        raise ValueError(
            f"the simulator of {likelihood.name} draws {', '.join(map(repr, both))}, which formulas of the model use: covariates "
            "keep the values that they have in the data"
        )


def chunk_of(columns: Mapping[Any, Any], n_rows: int, memory: int) -> int:
    """Number of simulated data sets in memory at once."""
    sizes = [8 * int(np.prod(np.shape(a))) for v in columns.values() for a in jax.tree.leaves(v) if hasattr(a, "shape")]
    each = max(4 * (sum(sizes) + 8 * n_rows), 1)
    return max(int(min(STACK_BYTES, memory) // each), 1)
