r"""Simulation studies: data drawn from a model at known parameters, fitted, and compared with the truth.

The Cramer-Rao bound is M I^{-1} M' with I the expected information at the truth, here the mean of minus the Hessians of up
to 1,000 of the data sets drawn, and M the matrix from the free coordinates to the entries of the table.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import jax
import numpy as np
from jax import lax

from mlejax import covariance as cov_room
from mlejax.batch import Batch, Budget, budget, fit_many, stacked
from mlejax.companions import companion
from mlejax.data import Prepared
from mlejax.execution import compiled, float64
from mlejax.fit.common import check_count
from mlejax.fit.prepare.loaded import Loaded
from mlejax.fit.prepare.loading import load
from mlejax.inference.covariances.covariances import covariances_of
from mlejax.inference.normal import check_alpha
from mlejax.inference.resampling.refitting import check_made, chunk_of
from mlejax.inference.simulation.simulated_data import SimulationDesign, design
from mlejax.inference.simulation.simulation_results import SimulationStudy, Studied
from mlejax.inference.simulation.simulator import as_seen, columns_of, looking_up, stack
from mlejax.inference.tables.entries import entry_intervals, reported, standard_errors_of
from mlejax.likelihood import Likelihood, calls_lapack
from mlejax.misuse import door
from mlejax.objective import Spec, sum_over_blocks
from mlejax.optimize import MethodLike
from mlejax.parameters import Space
from mlejax.shapes import Device, Either, Float, Host, Int, PyTree

N_INFORMATION = 1000


@door
def simulation_study(
    model: Any,
    params: PyTree,
    data_or_n_rows: Any = (50, 200, 1000),
    n_reps: int = 10_000,
    *,
    seed: int = 0,
    start: str = "truth",
    fixed: Mapping[str, Any] | None = None,
    method: MethodLike = "newton",
    cov_type: str | None = None,
    alpha: float = 0.05,
    memory_limit: float | None = None,
    progress: bool | None = None,
) -> SimulationStudy:
    """Simulate n_reps data sets from the model at ``params``, fit each, and compare the estimates with ``params``.

    Args:
        model: a model with a ``simulator``; if it has formulas, the simulator is that of the model without them.
        params: the true values of all parameters, natural scale: the user's structure or a dict of entry names.
        data_or_n_rows: one or several numbers of rows; or data with the covariates (used as they are), or a list of such
            data.
        n_reps: number of data sets of each size.
        seed: seed of the draws.
        start: ``"truth"`` starts every fit at ``params``, which is fast; ``"search"`` lets each data set find its own start, as
            ``fit`` does, which matters where there are several maxima.
        fixed, method, cov_type: as in ``fit``.
        alpha: one minus the nominal coverage of the intervals.
        memory_limit, progress: as in ``fit_batch``.

    Returns:
        :class:`mlejax.inference.SimulationStudy`: prints as a table; ``frame()``, ``verdicts()``, ``params(n)``, ``plot()``.
        Bias, errors and coverage are over the fits that ended at a maximum; ``verdicts()`` has the share of each verdict.
        After Ctrl-C it holds the data sets finished so far.

    Raises:
        KeyboardInterrupt: Ctrl-C before the first data sets of a size were finished.
        CompanionError: the model has no simulator; the message shows the lines to add.
        ValueError, TypeError: parameters or options that the model does not take, a simulator that draws columns which it must
            not change, or random effects of several grouping columns, which are not supported.

    Example:
        >>> import jax, jax.numpy as jnp, mlejax as mle
        >>> @mle.model(rate=mle.Positive())
        ... def exponential(params, data):
        ...     return jnp.log(params["rate"]) - params["rate"] * data["t"]
        >>> @exponential.simulator
        ... def _(key, params, data):
        ...     return {"t": jax.random.exponential(key, (data.n_rows,)) / params["rate"]}
        >>> study = mle.simulation_study(exponential, {"rate": 2.0}, 50, n_reps=500, seed=1)
        >>> abs(float(study.frame()["bias"].iloc[0]) - 2 / 49) < 0.06  # E(estimate) = rate n / (n - 1)
        True
    """
    likelihood = getattr(model, "likelihood", None)
    if not isinstance(likelihood, Likelihood):
        raise TypeError(f"simulation_study expected a model made by @mle.model, got {type(model).__name__}")
    n_reps, seed = check_count("n_reps", n_reps, 2), check_count("seed", seed, 0)
    check_alpha(alpha)
    if start not in ("truth", "search"):
        raise ValueError(f"start={start!r}: expected 'truth' or 'search'")
    kind, options = cov_room.check_kind(cov_type, None, None)
    companion(likelihood, "simulator", f"simulation_study of {likelihood.name}")
    cut = budget(memory_limit, progress)
    fitting = {"fixed": fixed, "method": method, "start": None if start == "search" else params}
    parts: list[Studied] = []
    for i, one in enumerate(_designs(data_or_n_rows)):
        made = design(likelihood, params, one, f"simulation_study of {likelihood.name}")
        numbers = np.arange(n_reps) + i * n_reps
        parts.append(_study(likelihood, made, numbers, seed, (kind, options), fitting, alpha, cut))
        if len(parts[-1].codes) < n_reps:
            break
    return SimulationStudy(tuple(parts), likelihood.name, kind, n_reps, seed, alpha, start)


def _designs(given: Any) -> Sequence[Any]:
    if isinstance(given, (list, tuple)) and given:
        return given
    return [given]


def _study(
    likelihood: Likelihood,
    made: SimulationDesign,
    numbers: np.ndarray,
    seed: int,
    cov: tuple[str, Any],
    fitting: dict[str, Any],
    alpha: float,
    cut: Budget,
) -> Studied:
    """Simulate and fit all data sets of one design, in chunks that fit into memory.

    Args:
        likelihood: the model.
        made: the design: true parameters, columns and simulator.
        numbers: number of each data set, (R,), which with ``seed`` determines its draw.
        seed: seed of the draws.
        cov: kind and options of the covariance.
        fitting: ``fixed``, ``method`` and ``start`` of the fits.
        alpha: one minus the nominal coverage.
        cut: memory and progress bar.

    Raises:
        KeyboardInterrupt: interrupted before the first chunk was finished; later, the chunks finished are returned.
        ValueError, TypeError: the model cannot be fitted to any of the data sets (as in ``fit_batch``).
    """
    loaded, columns = _template(likelihood, made, seed, numbers[:1])
    step = chunk_of(columns, made.simulator.n_rows, cut.memory)
    pieces: list[tuple[np.ndarray, ...]] = []
    information: np.ndarray | float = 0.0
    n_information = 0
    batch: Batch | None = None
    for first in range(0, len(numbers), step):
        mine = numbers[first : first + step]
        drawn = as_seen(likelihood, made.simulator.draw(made.seen, seed, mine), columns)
        with float64():
            structure = made.params if likelihood.parameters is None else None
            sets = stacked(likelihood, stack(columns, drawn, len(mine)), structure, "raise")
            sets = replace(sets, space=loaded.problem.space, designs=loaded.designs)
        start = made.params if fitting["start"] is None and likelihood.parameters is None else fitting["start"]
        batch = fit_many(likelihood, sets, budget=cut, **{**fitting, "start": start})
        if not batch.finished:
            break
        found = covariances_of(batch, *cov)
        space = batch.spec.space
        values = reported(space, batch.params, len(mine))
        pieces.append((values, standard_errors_of(space, found.matrix), batch.codes.astype(object)))
        few = np.array([i for i in range(min(len(mine), N_INFORMATION - n_information)) if i not in sets.bad], int)
        if few.size:
            information = information + _information(batch, made, few).sum(axis=0)
            n_information += few.size
    if not pieces or batch is None:
        raise KeyboardInterrupt
    values, errors, codes = (np.concatenate(parts) for parts in zip(*pieces, strict=True))
    space = batch.spec.space
    limits = entry_intervals(space, values, errors, alpha)
    return Studied(
        n_rows=made.simulator.n_rows,
        labels=tuple(space.labels),
        truth=space.reported(made.params),
        fixed=np.asarray(space.reported_fixed),
        values=values,
        errors=errors,
        low=limits.low.reshape(values.shape),
        high=limits.high.reshape(values.shape),
        codes=codes,
        bound=_bound(space, information / max(n_information, 1)),
    )


def _template(likelihood: Likelihood, made: SimulationDesign, seed: int, number: np.ndarray) -> tuple[Loaded, dict[Any, Any]]:
    """Load the simulated data set with this ``number``, (1,), as a fit does; return it and its columns, name -> array.

    Raises:
        ValueError: random effects of several grouping columns, or a simulator that draws columns which it must not change.
    """
    new = as_seen(likelihood, made.simulator.draw(made.seen, seed, number), made.source.raw)
    drawn = {key: jax.tree.map(lambda a: a[0], v) for key, v in new.items()}
    table = {key: made.source.raw[key] for key in made.source.keys if key not in drawn} | drawn
    with float64():
        loaded = load(likelihood, table, made.params if likelihood.parameters is None else None, "raise")
        if loaded.crossing is not None:
            raise ValueError(
                f"simulation_study does not support random effects of several grouping columns ({likelihood.unit}): "
                "simulate by model.simulate, and fit in a loop"
            )
        columns = columns_of(loaded.rows)
        check_made(likelihood, tuple(drawn), columns, () if loaded.designs is None else loaded.designs.used)
        if likelihood.unit is not None:
            columns[likelihood.unit] = looking_up(likelihood, loaded.source, None)(likelihood.unit)
    return loaded, columns


@partial(compiled, static=("spec",))
def _information_each(
    spec: Spec, theta: Float[Host, " p"], data: Prepared, fixed: Either | None
) -> Float[Device, "C p p"]:
    """Return minus the Hessian in theta of the summed log-likelihood of each of the C data sets in ``data``, at the same
    theta, (C, p, p).
    """

    def one(data_set: tuple[Any, Device]) -> Device:
        rows, weights = data_set

        def total(t: Device) -> Device:
            params = spec.space.params_from_theta(t, fixed)
            part = lambda r, w: (w * spec.likelihood.contributions(params, r, data.shared, data.statics)).sum()
            return sum_over_blocks(part, rows, weights, data.n_blocks)

        return -jax.hessian(total)(theta)

    structs = [jax.ShapeDtypeStruct(a.shape[1:], a.dtype) for a in data.rows]
    lapack = calls_lapack(spec.likelihood, spec.space, structs, data.shared, data.statics)
    return lax.map(one, (data.rows, data.weights), batch_size=1 if lapack else 8)


def _information(batch: Batch, made: SimulationDesign, which: Int[Host, " m"]) -> Float[Host, "m p p"]:
    """Return the information at the true values, ``made.params``, of the data sets at the positions ``which``, (m, p, p)."""
    spec, space = batch.spec, batch.spec.space
    out = []
    with float64():
        theta = np.asarray(space.theta_from_u(space.u_from_params(made.params), batch.fixed))
        capacity = min(len(which), 64)
        for first in range(0, len(which), capacity):
            mine = which[first : first + capacity]
            data = batch.sets.fetch(mine, capacity)
            out.append(np.asarray(_information_each(spec, theta, data, batch.fixed))[: len(mine)])
    return np.concatenate(out)


def _bound(space: Space, information: Host | float) -> np.ndarray:
    """Return the Cramer-Rao bounds of the variances of all entries (r,); NaN for all if the information (p, p) is not finite
    and positive definite, and for fixed entries.
    """
    matrix = space.reported_matrix
    information = np.asarray(information)
    if not np.isfinite(information).all() or (np.linalg.eigvalsh(information) <= 0).any():
        return np.full(len(matrix), np.nan)
    out = np.einsum("rp,pq,rq->r", matrix, np.linalg.inv(information), matrix)
    return np.where(out > 0, out, np.nan)
