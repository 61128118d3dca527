"""Data simulated from a model, at given params or at the estimates of a fit."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import jax
import numpy as np

from mlejax import data as data_room
from mlejax.companions import companion
from mlejax.execution import float64
from mlejax.fit import Fit
from mlejax.fit.common import check_count
from mlejax.fit.start import given_values
from mlejax.inference.row_designs import designs_of, natural_space, seen_params
from mlejax.inference.row_effects import Random, check_random, row_effects
from mlejax.inference.simulation.simulator import Simulator, looking_up, simulator
from mlejax.likelihood import Likelihood
from mlejax.shapes import Params, PyTree


@dataclass(frozen=True, eq=False)
class SimulationDesign:
    """Data to simulate from, with true parameters and a prepared simulator.

    Attributes:
        source: the data as given; without columns if only a number of rows is given.
        params: the user's structure, natural scale.
        seen: params as the simulator receives them.
        simulator: the prepared simulator.
    """

    source: data_room.Table
    params: PyTree
    seen: Params
    simulator: Simulator


def design(
    likelihood: Likelihood, params: PyTree, data_or_n_rows: Any, why: str, random: Random = "integrate"
) -> SimulationDesign:
    """Check parameters and data (or a number of rows) and prepare them for simulation.

    Args:
        likelihood: the model.
        params: values of all parameters, natural scale: the user's structure, or a dict of entry names.
        data_or_n_rows: data with the columns of formulas and of the simulator, or a number of rows.
        why: the feature, first words of the messages.
        random: random effects are drawn ("integrate") or 0 ("zero").

    Raises:
        ValueError, TypeError: parameters are missing or outside their support; a model with formulas is given no data; or
            fewer than one row.
        CompanionError: the model has no simulator, or it does not return columns.
    """
    counted = isinstance(data_or_n_rows, (int, np.integer)) and not isinstance(data_or_n_rows, bool)
    companion(likelihood, "simulator", why)
    if counted and data_or_n_rows < 1:
        raise ValueError(f"{why}: expected at least one row, got {data_or_n_rows}")
    if counted and likelihood.predictors:
        raise ValueError(
            f"{why}: {likelihood.name} has formulas; expected data with their columns, got a number of rows"
        )
    source = data_room.Table("mapping", {}, ()) if counted else data_room.ingest(data_or_n_rows)
    source = source if counted else data_room.with_observed(source, likelihood.open_columns)
    lookup = None if counted else looking_up(likelihood, source, None)
    with float64():
        space, made = natural_space(likelihood, source, params)
        given = given_values(space, None, params)
        absent = [leaf.name for leaf, v in zip(space.leaves, given, strict=True) if v is None or np.isnan(v).any()]
        if absent:
            raise ValueError(
                f"{why}: params= has no value for {', '.join(absent)}; give values of all parameters"
            )
        structure = space.build([np.asarray(v, np.float64) for v in given])
        n = int(data_or_n_rows) if counted else source.most_rows
    seen = seen_params(likelihood, structure, made)
    return SimulationDesign(source, structure, seen, simulator(likelihood, seen, n, lookup, why, random))


def simulate(likelihood: Likelihood, params: PyTree, data_or_n_rows: Any, seed: int, random: Random) -> dict[Any, Any]:
    """Return one data set, column -> array, simulated from the model at given params.

    Args:
        likelihood: the model, which has a simulator.
        params: values of all parameters, natural scale: the user's structure, or a dict of entry names.
        data_or_n_rows: data with the columns of formulas and of the simulator, or a number of rows.
        seed: seed of the draws.
        random: ``"integrate"`` draws random effects, ``"zero"`` sets them to 0.

    Raises:
        ValueError, CompanionError: as in `design`; ``random="mode"``, or another option.
    """
    why = f"simulate() of {likelihood.name}"
    check_random(random, likelihood)
    if random == "mode":
        raise ValueError(f"{why}: random='mode' needs the units of a fit; call simulate(random='mode') of a result")
    made = design(likelihood, params, data_or_n_rows, why, random)
    return _one_set(made.seen, made.simulator, seed)


def simulator_of(
    fit: Fit, why: str, random: Random = "integrate", table: data_room.Table | None = None
) -> tuple[Params, Simulator]:
    """Return the params that the simulator receives at the estimates, and the simulator, for the rows of the fit or of new data.

    Args:
        fit: the fit.
        why: the feature, first words of the messages.
        random: random effects are drawn ("integrate"), at the modes of their units ("mode") or 0 ("zero").
        table: new data; None: the rows of the fit.

    Raises:
        ValueError, CompanionError: another option, units or levels that were not in the fit, or as in `simulator`.
        MissingColumnError: new data lack a column that is needed.
    """
    loaded, likelihood = fit.loaded, fit.spec.likelihood
    check_random(random, likelihood)
    if table is None:
        made, n, rows = designs_of(loaded), loaded.rows.n, loaded.rows
    else:
        made, n, rows = {} if loaded.designs is None else loaded.designs.again(table), table.most_rows, None
    seen, own = seen_params(likelihood, fit.params, made), row_effects(fit, table, random)
    if own is not None:
        at = np.append(fit.theta, np.zeros(own.n_more))
        with float64():
            seen = {**seen, **jax.tree.map(np.asarray, own.at(at))}
    lookup = looking_up(likelihood, loaded.source if table is None else table, rows)
    return seen, simulator(likelihood, seen, n, lookup, why, random)


def simulate_fit(fit: Fit, data: Any = None, seed: int = 0, *, random: Random = "integrate") -> dict[Any, Any]:
    """Simulate one data set from the model at the estimates, by its :meth:`Model.simulator`.

    Args:
        data: new data, with the columns of the formulas; by default the rows used in the fit.
        seed: seed of the draws.
        random: for models with random effects. ``"integrate"``: draw new effects from their estimated distribution;
            ``"mode"``: use the modes of the fitted units' effects; ``"zero"``: set effects to 0.  Effects of
            ``mle.Real(by=...)`` always take the estimate of the row's level.

    Returns:
        Dict of the drawn columns, NumPy arrays.

    Raises:
        CompanionError: the model has no simulator; the message shows the lines to add.
        ValueError: an unknown option, units or levels that were not in the fit, random effects that cannot be drawn (their
            ``law`` is not ``"normal"``), a result from a file, or rows that are not in memory.
        MissingColumnError: the data lack a column that is needed.

    Example:
        >>> import jax, mlejax as mle
        >>> from jax.scipy.stats import norm
        >>> @mle.model(mu=mle.Real(), sigma=mle.Positive())
        ... def gaussian(params, data):
        ...     return norm.logpdf(data["y"], params["mu"], params["sigma"])
        >>> @gaussian.simulator
        ... def _(key, params, data):
        ...     return {"y": params["mu"] + params["sigma"] * jax.random.normal(key, (data.n_rows,))}
        >>> res = gaussian.fit({"y": [1.0, 2.0, 6.0, 3.0]})
        >>> res.simulate(seed=1)["y"].shape
        (4,)
    """
    loaded, likelihood = fit.loaded, fit.spec.likelihood
    if loaded.remembered is not None:
        raise ValueError("simulate() needs the model, which a result from a file does not hold; use model.simulate(params, data)")
    if data is None and loaded.stream is not None:
        raise ValueError("simulate() needs rows in memory, and the data of this fit are a stream; give some as data=")
    table = None if data is None else data_room.with_observed(data_room.ingest(data), likelihood.open_columns)
    return _one_set(*simulator_of(fit, f"simulate() of {likelihood.name}", random, table), seed)


def _one_set(seen: Params, sim: Simulator, seed: int) -> dict[Any, Any]:
    drawn = sim.draw(seen, check_count("seed", seed, 0), np.zeros(1, np.uint32))
    return {key: jax.tree.map(lambda a: a[0], value) for key, value in drawn.items()}
