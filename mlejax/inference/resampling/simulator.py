"""Data drawn from a model: its simulator over many random keys, as one compiled program."""

from __future__ import annotations

import functools
from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from mlejax import data as data_room
from mlejax.companions import Columns, CompanionError, check_columns, companion
from mlejax.data import Shared, Static
from mlejax.data.formulas import DesignValues, design_columns, first_design, joined
from mlejax.execution import cached, compiled, float64
from mlejax.fit import Fit
from mlejax.fit.common import check_count
from mlejax.fit.start import given_values
from mlejax.inference.row_designs import designs_of
from mlejax.inference.row_effects import Random, check_random, row_effects
from mlejax.latent import Marginal, marginal_of
from mlejax.likelihood import Likelihood
from mlejax.parameters import Space
from mlejax.shapes import Count, Data, Device, Params, PyTree

AT_ONCE = 256
NUMBERS = 2_000_000


@dataclass(frozen=True, eq=False)
class Simulator:
    """A model's simulator, bound to its data.

    Attributes:
        n_rows: rows of a data set.
        columns: those of the data that the simulator reads.
        made: the names of the columns that are drawn.
    """

    n_rows: int
    columns: Mapping[Hashable, Any]
    made: tuple[Hashable, ...]
    _draw: Callable[..., Any]

    def draw(self, params: PyTree, seed: int, numbers: np.ndarray) -> dict[Hashable, np.ndarray]:
        """The drawn columns of some data sets, (k, n_rows, ...), by number: the same number gives the same data set.

        Args:
            params: what the simulator sees: natural scale, regressed parameters by row.
            seed: of all.
            numbers: (k,) of the data sets.
        """
        k, step = len(numbers), max(1, min(AT_ONCE, NUMBERS // self.n_rows))
        parts = []
        with float64():
            for first in range(0, k, step):  # always so many at once, so that one program serves any number
                mine = np.resize(np.asarray(numbers[first : first + step], np.uint32), step)
                parts.append(jax.tree.map(np.asarray, self._draw(params, dict(self.columns), seed, mine)))
        return {key: jax.tree.map(lambda *a: np.concatenate(a)[:k], *(p[key] for p in parts)) for key in self.made}


def simulator(
    likelihood: Likelihood,
    params: PyTree,
    n_rows: int,
    lookup: Callable[[Hashable], Any] | None,
    why: str,
    random: Random = "integrate",
) -> Simulator:
    """A simulator ready to draw.

    Args:
        likelihood: of the model.
        params: what the simulator sees: natural scale, regressed parameters by row.
        n_rows: rows of a data set.
        lookup: column name -> values (an array, or a ``Static``), or None where there is no such column.
        why: what needs it, for messages.
        random: of models with latents: ``"integrate"`` draws them; ``"zero"``: they are 0; ``"mode"``: params have them by row.

    Raises:
        CompanionError: there is none, or it does not return columns by row.
    """
    function = _with_latents(companion(likelihood, "simulator", why), likelihood, why, random)
    statics: dict[Hashable, Any] = {}

    def looked_up(key: Hashable) -> PyTree:
        found = None if lookup is None else lookup(key)
        if isinstance(found, Static):
            statics[key] = found.value
            return found.value
        return found

    seen = Columns({}, n_rows, looked_up)

    def once(key: Device, params: PyTree) -> PyTree:
        return _new(function(key, params, seen), seen)

    with float64():
        try:
            made = jax.eval_shape(once, jax.random.key(0), params)
        except (jax.errors.TracerArrayConversionError, jax.errors.ConcretizationTypeError) as error:
            raise CompanionError(
                f"the simulator of {likelihood.name} cannot be traced: draw with jax.random and jax.numpy, not with NumPy, and "
                f"use jnp.where instead of if.  JAX said: {str(error).splitlines()[0]}"
            ) from error
    names = tuple(check_columns(likelihood.name, made, n_rows, seen.absent))
    columns = {key: value for key, value in seen.items() if key not in statics}
    known = tuple((key, Static(value)) for key, value in statics.items())
    return Simulator(n_rows, columns, names, functools.partial(_drawn_sets, function, n_rows, known, names))


@functools.partial(compiled, static=("function", "n_rows", "statics", "names"))
def _drawn_sets(
    function: Callable[..., Any],
    n_rows: int,
    statics: tuple[tuple[Hashable, Static], ...],
    names: tuple[Hashable, ...],
    params: PyTree,
    columns: Any,
    seed: Count,
    numbers: Device,
) -> PyTree:
    """The columns ``names`` of several data sets, by their numbers."""
    root, known = jax.random.key(seed), {key: static.value for key, static in statics}

    def one(number: Count) -> PyTree:
        made = function(jax.random.fold_in(root, number), params, Columns({**columns, **known}, n_rows))
        return {key: made[key] for key in names}

    return jax.vmap(one)(numbers)


def _with_latents(
    function: Callable[..., Any], likelihood: Likelihood, why: str, random: Random
) -> Callable[..., Any]:
    """The simulator of a model with latents, which draws them, one value a unit; the same where there are none."""
    marginal, unit = marginal_of(likelihood), likelihood.unit
    if marginal is None:
        return function
    if random == "integrate" and any(latent.law != "normal" for latent in marginal.latents.values()):
        raise ValueError(
            f"{why}: latents are drawn where their law is 'normal'; random='zero' has latents of 0, and data with others are "
            f"drawn with NumPy, and fitted by {likelihood.name}"
        )

    def drawn(key: Device, params: Params, data: Data) -> PyTree:
        if random == "mode":
            return function(key, marginal.seen(params), data)
        own, rest = jax.random.split(key)
        if random == "zero":
            z = jnp.zeros((data.n_rows, marginal.q))
        elif not marginal.crossed and len(marginal.factors[0]) == 1:
            z = jax.random.normal(own, (data.n_rows, marginal.q))[jnp.asarray(data[unit]).astype(int)]  # by the unit's number
        else:
            z = jnp.concatenate([_drawn(own, factor, marginal, data) for factor in marginal.factors], axis=1)
        latents = jax.vmap(lambda one: marginal.values(params, one)[0])(z)
        return function(rest, marginal.seen({**params, **latents}), data)

    made: Callable[..., Any] = cached(likelihood, ("simulator with latents", function, random), lambda: drawn)
    return made


def _drawn(key: Device, factor: tuple[str, ...], marginal: Marginal, data: Data) -> PyTree:
    """Standard normal draws for the levels of one or several columns, by row (n, width)."""
    width = sum(v.size for v in marginal.latents.values() if v.factor == factor)
    own = jax.random.fold_in(key, marginal.factors.index(factor))
    codes = jnp.stack([jnp.asarray(data[name]).astype(jnp.uint32) for name in factor], axis=1)
    of_level = lambda code: jax.random.normal(functools.reduce(jax.random.fold_in, code, own), (width,))
    return jax.vmap(of_level)(codes)


def _new(made: PyTree, seen: Mapping[Hashable, Any]) -> PyTree:
    """The columns that a simulator made, without those that it passed through (``{**data, "y": y}``)."""
    if not isinstance(made, Mapping):
        return None
    return {key: value for key, value in made.items() if not (key in seen and value is seen[key])}


def looking_up(likelihood: Likelihood, source: data_room.Table, rows: data_room.Rows | None) -> Callable[..., Any]:
    """Column name -> its values in the rows that are used, converted and checked when they are read.

    The column of units is given as numbers 0, 1, ...
    """
    if source.kind != "mapping":
        raise CompanionError(
            f"simulators of {likelihood.name} work on data with names, a dict or a DataFrame, not on a "
            f"{type(source.raw).__name__}"
        )

    def lookup(key: Hashable) -> PyTree:
        if key not in source:
            return None
        raw = source.raw[key]
        if isinstance(raw, Static):
            return raw
        if isinstance(raw, Shared):
            return jax.tree.map(lambda a: np.asarray(a, np.float64), raw.value)
        select = (lambda v: v) if rows is None else rows.select
        if key in likelihood.grouping:
            return data_room.group_codes(select(source.column(key)), f"unit column {key!r}")[0]
        found = source.convert([key])[key]
        return found if rows is None or rows.kept is None else jax.tree.map(lambda a: a[rows.kept], found)

    return lookup


def with_rows(likelihood: Likelihood, source: data_room.Table) -> tuple[data_room.Table, dict[str, Any]]:
    """The data with the designs of a regressed model beside them, without looking at what its function reads.

    Returns:
        The data, and the columns of every regressed parameter.
    """
    natural = (likelihood.natural or likelihood).space(source)
    made: dict[str, Any] = {}
    more: dict[Any, Any] = {}
    for p in likelihood.predictors:
        design, made[p.name] = first_design(p, source, None, natural)
        more.update(design_columns(design, made[p.name], "array"))
    return joined(source, source.keys, more), made


def seen_params(likelihood: Likelihood, params: PyTree, made: Mapping[str, DesignValues]) -> PyTree:
    """Params as the user's functions see them: regressed ones by row, of the columns ``made``."""
    if not likelihood.predictors:
        return params
    with float64():
        values = {p.name: np.asarray(p.value(params[p.name], *made[p.name][:3])) for p in likelihood.predictors}
    return {**params, **values}


def columns_of(rows: data_room.Rows) -> dict[Hashable, Any]:
    """The checked columns by name, wrapped as the user wraps them where they are not by row."""
    out: dict[Hashable, Any] = {}
    for entry in rows.layout.entries:
        value = rows[entry.key]
        sources = {slot.source for slot in entry.slots}
        if sources <= {"row"}:
            out[entry.key] = value
        elif sources <= {"static"} and len(entry.slots) == 1:
            out[entry.key] = Static(value)
        elif sources <= {"shared", "shared_tree"} and len(entry.slots) == 1:
            out[entry.key] = Shared(value)
        else:
            raise CompanionError(
                f"column {entry.key!r} mixes arrays by row with shared ones, which simulated data cannot: give it as two"
            )
    return out


def stack(columns: Mapping[Hashable, Any], drawn: Mapping[Hashable, np.ndarray], k: int) -> dict[Hashable, Any]:
    """k data sets as one stack of arrays (k, n_rows, ...): drawn columns, and the others as they are in each."""
    repeated = lambda a: np.broadcast_to(np.asarray(a)[None], (k, *np.shape(a)))
    whole = lambda value: value if isinstance(value, (Shared, Static)) else jax.tree.map(repeated, value)
    return {key: drawn[key] if key in drawn else whole(value) for key, value in columns.items()}


def natural_space(likelihood: Likelihood, source: data_room.Table, params: PyTree) -> tuple[Space, dict[str, Any]]:
    """The layout of the parameters for data whose response need not be there yet, and the designs."""
    if not likelihood.predictors:
        return likelihood.space(source, params), {}
    joined, made = with_rows(likelihood, source)
    return likelihood.space(joined, params), made


@dataclass(frozen=True, eq=False)
class SimulationDesign:
    """Data to simulate from: parameters on the natural scale, and how to draw.

    Attributes:
        source: the data as they came; without columns where only a number of rows is known.
        params: the user's structure.
        seen: what the simulator sees of them.
        simulator: ready to draw.
    """

    source: data_room.Table
    params: PyTree
    seen: Params
    simulator: Simulator


def design(
    likelihood: Likelihood, params: PyTree, data_or_n_rows: Any, why: str, random: Random = "integrate"
) -> SimulationDesign:
    """Parameters and data, or a number of rows, read and checked for drawing.

    Raises:
        ValueError, TypeError: parameters that are not there or outside their support; a regressed model without data.
        CompanionError: there is no simulator, or it does not do what it should.
    """
    counted = isinstance(data_or_n_rows, (int, np.integer)) and not isinstance(data_or_n_rows, bool)
    companion(likelihood, "simulator", why)
    if counted and data_or_n_rows < 1:
        raise ValueError(f"{why}: expected at least one row, got {data_or_n_rows}")
    if counted and likelihood.predictors:
        raise ValueError(
            f"{why}: {likelihood.name} is regressed on covariates, so that a number of rows is not enough; give data with them"
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
                f"{why}: params= has no value for {', '.join(absent)}; all of them are needed to draw data"
            )
        structure = space.build([np.asarray(v, np.float64) for v in given])
        n = int(data_or_n_rows) if counted else data_room.n_rows(source)
    seen = seen_params(likelihood, structure, made)
    return SimulationDesign(source, structure, seen, simulator(likelihood, seen, n, lookup, why, random))


def simulate(likelihood: Likelihood, params: PyTree, data_or_n_rows: Any, seed: int, random: Random) -> dict[Any, Any]:
    """One data set drawn from the model; arguments as in ``Model.simulate``."""
    why = f"simulate() of {likelihood.name}"
    check_random(random, likelihood)
    if random == "mode":
        raise ValueError(f"{why}: modes are those of the units of a fit; call simulate(random='mode') of a result")
    made = design(likelihood, params, data_or_n_rows, why, random)
    return _one_set(made.seen, made.simulator, seed)


def simulator_of(
    fit: Fit, why: str, random: Random = "integrate", table: data_room.Table | None = None
) -> tuple[Params, Simulator]:
    """What the simulator of a fit sees of the estimates, and the simulator, in the rows of the fit or those of new data.

    Raises:
        ValueError, CompanionError: no such option, units without a mode, no simulator.
    """
    loaded, likelihood = fit.loaded, fit.spec.likelihood
    check_random(random, likelihood)
    if table is None:
        made, n, rows = designs_of(loaded), loaded.rows.n, loaded.rows
    else:
        made, n, rows = {} if loaded.designs is None else loaded.designs.again(table), data_room.n_rows(table), None
    seen, own = seen_params(likelihood, fit.params, made), row_effects(fit, table, random)
    if own is not None:
        at = np.append(fit.theta, np.zeros(own.n_more))
        with float64():
            seen = {**seen, **jax.tree.map(np.asarray, own.at(at))}
    lookup = looking_up(likelihood, loaded.source if table is None else table, rows)
    return seen, simulator(likelihood, seen, n, lookup, why, random)


def simulate_fit(fit: Fit, data: Any = None, seed: int = 0, *, random: Random = "integrate") -> dict[Any, Any]:
    """One data set drawn from the model at the estimates, by its :meth:`Model.simulator`.

    Args:
        data: new data, with the columns of the formulas; default the rows of the fit (those that were used).
        seed: of the draw.
        random: of models with random effects: ``"integrate"`` draws new effects from their law; ``"mode"`` takes those of units
            of the fit, at their modes; ``"zero"``: effects of 0.  Effects by index are those of each row's own level.

    Returns:
        The columns that the simulator makes, NumPy.

    Raises:
        CompanionError: the model has no simulator; the message shows the lines to add.
        ValueError: units without a mode, another option, rows that are not in memory.

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
    if loaded.remembered is not None or (data is None and loaded.stream is not None):
        raise ValueError(
            "simulate() draws in the rows of the fit, which this result does not hold; use model.simulate(params, data)"
        )
    table = None if data is None else data_room.with_observed(data_room.ingest(data), likelihood.open_columns)
    return _one_set(*simulator_of(fit, f"simulate() of {likelihood.name}", random, table), seed)


def _one_set(seen: Params, sim: Simulator, seed: int) -> dict[Any, Any]:
    drawn = sim.draw(seen, check_count("seed", seed, 0), np.zeros(1, np.uint32))
    return {key: jax.tree.map(lambda a: a[0], value) for key, value in drawn.items()}
