"""Simulate data from a model: its simulator runs over many random keys in one compiled program."""

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
from mlejax.execution import cached, compiled, float64
from mlejax.inference.row_effects import Random
from mlejax.latent import Marginal, latents_of, marginal_of, mixture_of
from mlejax.likelihood import Likelihood
from mlejax.shapes import Count, Data, Device, Params, PyTree

AT_ONCE = 256
NUMBERS = 2_000_000


@dataclass(frozen=True, eq=False)
class Simulator:
    """A model's simulator, bound to its data.

    Attributes:
        n_rows: number of rows of a data set.
        columns: columns of the data that the simulator reads.
        made: names of the columns that it draws.
    """

    n_rows: int
    columns: Mapping[Hashable, Any]
    made: tuple[Hashable, ...]
    _draw: Callable[..., Any]

    def draw(self, params: PyTree, seed: int, numbers: np.ndarray) -> dict[Hashable, np.ndarray]:
        """Return the drawn columns (k, n_rows, ...) of the k data sets with these numbers; a number and seed always give
        the same data set.

        Args:
            params: params as the simulator receives them: natural scale, with one value for each row of parameters with a
                formula.
            seed: seed of all data sets.
            numbers: numbers of the data sets (k,).
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
    """Return a model's simulator, bound to its data and checked by tracing it once.

    Args:
        likelihood: declaration of the model.
        params: params as the simulator receives them: natural scale, with one value for each row of parameters with a formula.
        n_rows: number of rows of a data set.
        lookup: function from a column name to its values (an array, or a ``Static``), None if there is no such column.
        why: name of the caller, for messages.
        random: for models with random effects: ``"integrate"`` draws them; ``"zero"`` sets them to 0; ``"mode"``: params
            already hold the effects of each row.

    Raises:
        CompanionError: the model has no simulator; or it cannot be traced, reads what is no parameter, does not use its key, or
            does not return columns with one value for each row.
        ValueError: random effects are to be drawn whose ``law`` is not ``"normal"``.
    """
    own = companion(likelihood, "simulator", why)
    function = _with_latents(own, likelihood, why, random)
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
        except KeyError as error:
            if not error.args or not isinstance(params, Mapping) or error.args[0] in params:
                raise
            raise CompanionError(_no_parameter(likelihood, error.args[0], params)) from error
        check_columns(likelihood.name, made, n_rows, seen.absent)
        if function is own and not _uses_its_key(once, params):
            raise CompanionError(
                f"the simulator of {likelihood.name} does not use its key, so that all data sets would be the same: draw with "
                "jax.random, as in jax.random.normal(key, (data.n_rows,)); what NumPy draws is drawn once"
            )
    names = tuple(made)
    columns = {key: value for key, value in seen.items() if key not in statics}
    known = tuple((key, Static(value)) for key, value in statics.items())
    return Simulator(n_rows, columns, names, functools.partial(_drawn_sets, function, n_rows, known, names))


def _uses_its_key(function: Callable[..., Any], params: PyTree) -> bool:
    """Return True if an operation of a function of a random key and params has the key as an operand."""
    jaxpr = jax.make_jaxpr(lambda key: function(key, params))(jax.random.key(0)).jaxpr
    key = jaxpr.invars[0]
    return any(operand is key for eqn in jaxpr.eqns for operand in eqn.invars)


def _no_parameter(likelihood: Likelihood, name: Hashable, params: Mapping[str, Any]) -> str:
    """Return the message for a simulator that reads ``params[name]``, which does not exist."""
    said = f"the simulator of {likelihood.name} reads params[{name!r}], "
    classes = {} if mixture_of(likelihood) is None else latents_of(likelihood)
    if name in classes:
        return (
            f"{said}but classes are not drawn for it: draw them in the simulator from their probabilities, which are params too "
            f"({', '.join(map(repr, params))}), as by jax.random.categorical(key, jnp.log(probabilities), shape=(data.n_rows,))"
        )
    return f"{said}which is not a parameter; expected one of {', '.join(map(repr, params))}"


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
    """Return the columns ``names`` (k, n_rows, ...) of the k data sets with the given numbers.

    Args:
        function: simulator of key, params and data.
        n_rows: number of rows of a data set.
        statics: columns that are not arrays, (name, value).
        names: the columns that are returned.
        params: params as the simulator receives them.
        columns: columns of the data that the simulator reads.
        seed: seed of all data sets.
        numbers: numbers of the data sets (k,).
    """
    root, known = jax.random.key(seed), {key: static.value for key, static in statics}

    def one(number: Count) -> PyTree:
        made = function(jax.random.fold_in(root, number), params, Columns({**columns, **known}, n_rows))
        return {key: made[key] for key in names}

    return jax.vmap(one)(numbers)


def _with_latents(
    function: Callable[..., Any], likelihood: Likelihood, why: str, random: Random
) -> Callable[..., Any]:
    """Return the simulator with random effects drawn (the same for all rows of a unit), 0, or as params have them, by
    ``random``; unchanged for models without random effects.

    ``why``: the feature, first words of the message.

    Raises:
        ValueError: effects are to be drawn whose ``law`` is not ``"normal"``.
    """
    marginal, unit = marginal_of(likelihood), likelihood.unit
    if marginal is None:
        return function
    if random == "integrate" and any(latent.law != "normal" for latent in marginal.latents.values()):
        raise ValueError(
            f"{why}: random effects can be simulated only with law='normal'; use random='zero' for effects of 0, or simulate the "
            f"data in NumPy and fit them by {likelihood.name}"
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
    """Return standard normal draws for the random effects of one grouping factor, (n, width): the same for all rows of a level.

    Args:
        key: random key of the data set.
        factor: names of the columns whose combinations are the levels.
        marginal: the random effects, some of which belong to this factor.
        data: columns by name, with the level numbers of these columns.
    """
    width = sum(v.size for v in marginal.latents.values() if v.factor == factor)
    own = jax.random.fold_in(key, marginal.factors.index(factor))
    codes = jnp.stack([jnp.asarray(data[name]).astype(jnp.uint32) for name in factor], axis=1)
    of_level = lambda code: jax.random.normal(functools.reduce(jax.random.fold_in, code, own), (width,))
    return jax.vmap(of_level)(codes)


def _new(made: PyTree, seen: Mapping[Hashable, Any]) -> PyTree:
    """Return the columns that a simulator drew, without those of ``seen`` that it passed through (``{**data, "y": y}``); None
    if it did not return a dict.
    """
    if not isinstance(made, Mapping):
        return None
    return {key: value for key, value in made.items() if not (key in seen and value is seen[key])}


def looking_up(likelihood: Likelihood, source: data_room.Table, rows: data_room.Rows | None) -> Callable[..., Any]:
    """Return a function from a column name to its values in the rows used, converted and checked when it is called.

    Args:
        likelihood: the model, which names the columns of units.
        source: the data.
        rows: the rows used; None: all rows of the data.

    The function returns None for a column that does not exist, numbers 0, 1, ... for a column of units, and arrays of
    `Shared`, but `Static` values as they are.

    Raises:
        CompanionError: the data have no column names.
    """
    if source.kind != "mapping":
        raise CompanionError(
            f"simulators of {likelihood.name} expected data with column names, a dict or a DataFrame, got a "
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


def columns_of(rows: data_room.Rows) -> dict[Hashable, Any]:
    """Return the checked columns by name; those that are not row-wise are wrapped in ``Shared`` or ``Static``.

    Raises:
        CompanionError: a column has row-wise and other values.
    """
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
                f"column {entry.key!r} mixes row-wise arrays with shared ones, which simulated data do not support: split it "
                "into two columns"
            )
    return out


def as_seen(likelihood: Likelihood, drawn: Mapping[Hashable, Any], columns: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
    """Return drawn columns (k, n_rows, ...) as the log-likelihood reads them: those of ``optional=`` and ``infinite=`` with
    finite values and new masks.

    Args:
        likelihood: the model, which declares these columns.
        drawn: the columns that a simulator drew.
        columns: the other columns, with the masks of the data.

    Raises:
        DataError: +inf and -inf in one column.
    """
    masks = columns.get(data_room.OBSERVED, {})
    known = masks if isinstance(masks, Mapping) else {}
    return data_room.observed_in_sets(drawn, likelihood.open_columns, known, f"the simulator of {likelihood.name}")


def stack(columns: Mapping[Hashable, Any], drawn: Mapping[Hashable, np.ndarray], k: int) -> dict[Hashable, Any]:
    """Return the columns of k data sets as arrays (k, n_rows, ...): the drawn ones, and the others of ``columns`` repeated
    (``Shared`` and ``Static`` as they are).
    """
    repeated = lambda a: np.broadcast_to(np.asarray(a)[None], (k, *np.shape(a)))
    whole = lambda value: value if isinstance(value, (Shared, Static)) else jax.tree.map(repeated, value)
    return {key: drawn[key] if key in drawn else whole(value) for key, value in columns.items()}
