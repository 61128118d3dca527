"""The frozen declaration of a log-likelihood: the user's function, its parameters, and the meaning of its terms.

Three kinds of terms:

* *rows* (default): the function returns one value per row, and entry i uses row i only;
* *units* (``unit="subject"``): the function gets the rows of ONE unit, padded, with ``data["mask"]``, and returns one
  scalar; it is mapped over units;
* *whole* (``rowwise=False``): the function gets the whole data, unpadded, and returns one value per time
  point or group, or one scalar.

Nothing here fits anything or changes a sign.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from mlejax import data as data_room
from mlejax.execution import cached
from mlejax.execution.trace import invariants
from mlejax.likelihood import loops
from mlejax.likelihood.forms.natural_values import natural_values
from mlejax.likelihood.loops import Terms
from mlejax.parameters import (
    Declaration,
    FreeParameter,
    Parameter,
    Predictor,
    Real,
    Space,
    make_space,
    tree_space,
    with_coefficients,
)
from mlejax.portable import Named, find, key_of, name_of, portable, recall, reduced, restore
from mlejax.shapes import Data, Params, PyTree, Reduced

EVERY_ROW = ("mlejax", "rows")  # key of an array of ones, from which a model with a latent class knows the number of rows


class LikelihoodError(ValueError):
    """The user's function does not return what its declaration requires, or cannot be traced."""


@dataclass(frozen=True, eq=False)
class Joint:
    """The log-likelihood of each row given the latent variables, before these are integrated out.

    Attributes:
        function: the user's ``f(params, data) -> (n,)``, called with params that contain the latent variables, one value per row.
        latents: shape of one value of each latent variable, by the name of the variable.
        evaluations: number of points (quadrature nodes, draws or classes) at which each row is evaluated; blocks of units are
            smaller by this factor.
        classes: True if the latent variable is discrete (a class), so that it is summed over, not integrated.
        time: name of the column with the times of a Markov chain; None if the model has no Markov chain.
        factors: names of the columns of each grouping factor, if latent variables are nested or crossed; else empty.
        chain: True if the latent variable is a Markov chain.
    """

    function: Callable[[Any, Any], jax.Array]
    latents: Mapping[str, tuple[int, ...]]
    evaluations: int = 1
    classes: bool = False
    time: str | None = None
    factors: tuple[tuple[str, ...], ...] = ()
    chain: bool = False

    def __reduce__(self) -> Reduced:
        return reduced(self, "function")


@dataclass(frozen=True, eq=False)
class Likelihood:
    """A log-likelihood as declared: hashable by identity, part of the compilation key.

    Attributes:
        function: the user's ``f(params, data)``.
        parameters: declarations by name in declared order, or None for the bare form (structure from ``start=``).
        rowwise: True if entry i of the returned vector depends on row i only.
        unit: the column that names the unit of each row, or None.
        natural: the same likelihood without formulas, or None if there are none.
        predictors: predictors of the parameters with a formula.
        joint: the likelihood of rows and latent variables, if ``function`` integrates these out; otherwise None.
        companions: further functions of the model, by name, such as ``"expected_information"``.
        open_columns: columns that may have missing or infinite entries.
    """

    function: Callable[[Any, Any], jax.Array]
    parameters: Mapping[str, Declaration] | None
    rowwise: bool = True
    unit: str | None = None
    natural: Likelihood | None = None
    predictors: tuple[Predictor, ...] = ()
    joint: Joint | None = None
    companions: Mapping[str, Callable[..., Any]] = field(default_factory=dict, repr=False)
    open_columns: data_room.OpenColumns = field(default_factory=data_room.OpenColumns)

    def __reduce__(self) -> Reduced:
        """Pickle by the name of the model if it can be imported, otherwise by its parts."""
        named = name_of(self.written)
        if named is not None and getattr(find(named), "likelihood", None) is not self:
            named = None
        parts = (
            portable(self.function), self.parameters, self.rowwise, self.unit, self.natural, self.predictors,
            self.joint, self.open_columns,
        )  # fmt: skip
        companions = {name: portable(f) for name, f in self.companions.items()}
        return _unpickled, (named, key_of(self, (parts, companions)), parts, companions)

    @property
    def mode(self) -> str:
        """What a term of the log-likelihood is of: ``"units"`` if a column names them, ``"whole"`` (the whole data) if
        ``rowwise`` is False, otherwise ``"rows"``.
        """
        return "units" if self.unit is not None else ("rows" if self.rowwise else "whole")

    @cached_property
    def effects(self) -> tuple[data_room.EffectKey, ...]:
        """Keys of the effects of ``mle.Real(by=...)`` that are eliminated and come with the data; empty for most models."""
        return getattr(self.function, "effects", ())

    @cached_property
    def coded(self) -> tuple[data_room.EffectKey, ...]:
        """Keys of the effects of ``mle.Real(by=...)`` that are not eliminated: each has a vector of coefficients that is looked
        up by level codes.
        """
        return getattr(self.function, "coded", ())

    @property
    def grouping(self) -> tuple[str, ...]:
        """Columns that define the units, with nested or crossed latent variables those of all their factors; empty for models
        without units.
        """
        if self.joint is not None and self.joint.factors:
            return tuple(dict.fromkeys(name for factor in self.joint.factors for name in factor))
        return () if self.unit is None else (self.unit,)

    @property
    def per_unit(self) -> tuple[str, ...]:
        """Columns of which the function of a unit gets a single value; empty for most models."""
        return getattr(self.function, "per_unit", ())

    @property
    def written(self) -> Callable[[Any, Any], Any]:
        """The function that the user wrote, without what integrates out latent variables or adds effects of levels; for a model
        with formulas or an expected total the wrapped ``function``.
        """
        if self.predictors or not (self.joint or self.effects or self.per_unit):
            return self.function
        wrapper: Any = self.joint or self.function
        return wrapper.function

    @property
    def name(self) -> str:
        """The name of the user's function; of its class if it is an object without a name."""
        return getattr(self.function, "__name__", type(self.function).__name__)

    def contributions(self, params: Params, rows: PyTree, shared: PyTree, layout: data_room.Layout) -> jax.Array:
        """Return the terms l_i of a block of rows or units (N,), or of a model of the whole data (T,); a scalar becomes
        (1,).

        Args:
            params: parameters in the user's structure.
            rows: arrays of the rows or units.  Further arrays after those of ``layout`` are values that were computed beforehand
                since they do not depend on params (:meth:`split`); they are ignored if their shapes do not fit these rows.
            shared: arrays that are common to all rows.
            layout: how these arrays make up the data that the function takes.

        Raises:
            LikelihoodError: a row-wise model with latent variables on data without column names.
        """
        beside = rows[layout.n_leaves :] if isinstance(rows, tuple) else ()
        if not beside:
            return self._contributions(params, rows, shared, layout)
        own = rows[: layout.n_leaves]
        parts = self.split(params, own, shared, layout)
        shapes = () if parts is None else parts.shapes
        if parts is None or [(a.shape, a.dtype) for a in beside] != [(s.shape, s.dtype) for s in shapes]:
            # the function may do something else with another number of rows
            return self._contributions(params, own, shared, layout)
        return parts.rest(params, own, shared, beside)

    def split(self, params: Params, rows: PyTree, shared: PyTree, layout: data_room.Layout) -> invariants.Split | None:
        """Return the terms split into a part that depends on the data alone, and the rest; None if there is no such part.

        Arguments as in :meth:`contributions`, of which only shapes and types are used.
        """
        return invariants.split(
            lambda p, r, s: self._contributions(p, r, s, layout), params, rows, shared, _replaced_in(layout)
        )

    def _contributions(self, params: Params, rows: PyTree, shared: PyTree, layout: data_room.Layout) -> jax.Array:
        def terms(params: Params, rows: PyTree, shared: PyTree) -> jax.Array:
            def call(part: PyTree) -> jax.Array:
                return jnp.asarray(self.function(params, self.seen(part, shared, layout)))

            if self.predictors and data_room.by_row(layout.keys):
                out = jax.vmap(lambda row: call(jax.tree.map(lambda a: a[None], row))[0])(rows)
            else:
                out = jax.vmap(call)(rows) if self.mode == "units" else call(rows)
            return jnp.reshape(out, (-1,)).astype(jnp.result_type(float))

        if cached(self, "forward mode", lambda: self._needs_forward_mode(terms, params, rows, shared, layout)):
            return loops.by_forward_mode(terms, params, rows, shared)
        return terms(params, rows, shared)

    def seen(self, rows: PyTree, shared: PyTree, layout: data_room.Layout) -> Data:
        """Return the data of rows, or of one unit, in the form that :attr:`function` takes; in a model with a latent variable
        for each row they have a further column, ``EVERY_ROW``, of ones.

        Raises:
            LikelihoodError: a row-wise model with latent variables on data without column names.
        """
        data = data_room.assemble(rows, shared, layout)
        if self.joint is None or self.mode != "rows":
            return data
        if layout.kind != "mapping":
            raise self._needs_names()
        return {**data, EVERY_ROW: jnp.ones(rows[0].shape[:1], bool)}

    def _needs_names(self) -> LikelihoodError:
        return LikelihoodError(
            f"{self.name} has a latent variable and needs data with column names: pass a dict or a DataFrame, {{'y': values}}"
        )

    def _needs_forward_mode(
        self, terms: Terms, params: Params, rows: PyTree, shared: PyTree, layout: data_room.Layout
    ) -> bool:
        if self.joint is None or self.joint.classes:
            return loops.needs_forward_mode(terms, params, rows, shared)
        # the loop that finds the mode of an integrand is not differentiated: what matters is the function inside of it
        unit = jax.tree.map(lambda a: jax.ShapeDtypeStruct(a.shape[1:], a.dtype), rows)
        latents = self.example_latents(unit[layout.position("mask")].shape[0])
        inside = lambda p, r, s: self.given_latents(p[0], p[1], data_room.assemble(r, s, layout))
        return loops.needs_forward_mode(inside, (params, latents), unit, shared)

    def example_latents(self, n: int) -> dict[str, jax.ShapeDtypeStruct]:
        """Return abstract latent variables of n rows by name, for tracing a model that has some; integers for classes."""
        assert self.joint is not None
        dtype = jnp.result_type(int if self.joint.classes else float)
        return {name: jax.ShapeDtypeStruct((n, *shape), dtype) for name, shape in self.joint.latents.items()}

    def given_latents(self, params: Params, latents: PyTree, data: Data) -> jax.Array:
        """Return the log-likelihood of rows (N,) given row-wise latent variables, for a model that has some.

        Raises:
            LikelihoodError: ``data`` have no column names.
        """
        assert self.joint is not None
        if not isinstance(data, Mapping):
            raise self._needs_names()
        if not isinstance(data, data_room.View):
            data = {key: value for key, value in data.items() if key != "mask"}
        params, data = natural_values(self.predictors, params, data)
        return jnp.asarray(self.joint.function({**params, **latents}, data))

    def second_order(self, params: Params, rows: PyTree, shared: PyTree, layout: data_room.Layout) -> Any:
        """Return how a model of units computes its terms and their first two derivatives without differentiating the function
        of a unit (a `mlejax.latent.SecondOrder`); None if it has no such way.  Arguments as in :meth:`contributions`.
        """
        make = getattr(getattr(self.function, "function", None), "second_order", None)
        if make is None or self.mode != "units" or not self.predictors:
            return None
        return make(self.predictors, params, self.seen(jax.tree.map(lambda a: a[0], rows), shared, layout))

    def weighted_sum(
        self,
        function: Callable[[Any, Any], jax.Array],
        params: Params,
        rows: PyTree,
        weights: jax.Array,
        prepared: data_room.Prepared,
    ) -> jax.Array:
        """Return the weighted sum of a companion function's values for rows or units (N, ...).

        Args:
            function: the companion ``f(params, data)``, which for units gets the rows of one.
            params: parameters in the user's structure.
            rows: arrays of the rows or units.
            weights: their weights (N,).
            prepared: the data they are from, of which the shared arrays and the layout are used.

        Raises:
            LikelihoodError: the function does not return N values.
        """

        def call(part: PyTree) -> jax.Array:
            return jnp.asarray(function(params, data_room.assemble(part, prepared.shared, prepared.statics)))

        values = jax.vmap(call)(rows) if self.mode == "units" else call(rows)
        if values.shape[:1] != weights.shape:
            raise LikelihoodError(
                f"{getattr(function, '__name__', 'the companion')} of {self.name} should return one value for each "
                f"contribution, shape ({weights.shape[0]}, ...), got {values.shape}"
            )
        return jnp.tensordot(weights, values, axes=1)

    def with_companion(self, name: str, function: Callable[..., Any]) -> Likelihood:
        """Return the same declaration with one more companion function, in the place of one of the same name."""
        return replace(self, companions={**self.companions, name: function})

    def space(self, table: data_room.Table, start: PyTree = None) -> Space:
        """Return the parameter space for these data, from which come shapes and labels of ``columns=``, of the levels of
        ``by=`` and of the coefficients of formulas; ``start`` gives the structure if no parameters are declared.

        Raises:
            ValueError: no parameters are declared and there is no ``start``.
            DataError, DataTypeError, MissingColumnError: a column of ``columns=`` is missing, not numeric, or of another shape.
        """
        if self.parameters is None:
            made = bare_space(start, self.name)
        else:
            columns: dict[str, tuple[tuple[str, ...] | None, int]] = {
                key.parameter: (key.labels, len(key.labels)) for key in data_room.codes_keys(table.keys)
            }
            columns |= {
                name: data_room.column_labels(table, parameter.columns)
                for name, parameter in self.parameters.items()
                if isinstance(parameter, Parameter) and parameter.shape is None and parameter.by is None
            }
            made = make_space(self.parameters, columns)
        if self.predictors:
            keys = [k for k in table.keys if isinstance(k, data_room.DesignKey) and k.part == "design"]
            widths = {key.parameter: data_room.design_labels(table, key) for key in keys}
            made = with_coefficients(made, self.predictors, widths)
        return cached(self, ("space", made), lambda: made)  # equal layouts are one object: looked up at every dispatch


def _replaced_in(layout: data_room.Layout) -> tuple[int, ...]:
    """Return the positions of the row-wise arrays that are replaced by others: design matrices by linear predictors, and columns
    of effects by the effects of each evaluation.
    """
    moving = (
        e
        for e in layout.entries
        if isinstance(e.key, data_room.EffectKey) or (isinstance(e.key, data_room.DesignKey) and e.key.part == "design")
    )
    return tuple(slot.position for e in moving for slot in e.slots)


def _unpickled(
    named: Named | None, key: bytes | None, parts: tuple[Any, ...], companions: Mapping[str, Any]
) -> Likelihood:
    there = None if named is None else getattr(find(named), "likelihood", None)
    if isinstance(there, Likelihood):
        return there

    def make() -> Likelihood:
        function, parameters, rowwise, unit, natural, predictors, joint, columns = parts
        restored = {name: restore(f) for name, f in companions.items()}
        return Likelihood(restore(function), parameters, rowwise, unit, natural, predictors, joint, restored, columns)

    return recall(key, make)


def bare_space(start: PyTree, name: str) -> Space:
    """Return the parameter space of a model without declared parameters: the structure of ``start``, unconstrained.

    Raises:
        ValueError: ``start`` is None; ``name``, of the function, is for the message.
    """
    if start is None:
        raise ValueError(
            f"{name} declares no parameters, so that start= must give their structure: "
            f"{name}.fit(data, start={{'beta': np.zeros(3)}}); or declare them: @mle.model(beta=mle.Real(shape=3))"
        )
    if isinstance(start, Mapping) and all(isinstance(k, str) for k in start):
        return make_space({k: _free(v) for k, v in start.items()}, {})
    group, leaves = tree_space(start, None)
    return Space((group,), tuple(leaves))


def _free(value: PyTree) -> Declaration:
    if isinstance(value, (int, float, np.ndarray, jax.Array, list)) and np.asarray(value).dtype.kind in "fiu":
        return Real(shape=np.shape(value))
    return FreeParameter(value)


def example_params(space: Space, by_row: Collection[str] = (), n: int = 0) -> Params:
    """Return abstract params (ShapeDtypeStructs) for tracing the user's function; those named in ``by_row`` have a leading axis
    of n rows.
    """
    dtype = jnp.result_type(float)
    shapes = [(n, *leaf.shape) if leaf.name in by_row else leaf.shape for leaf in space.leaves]
    return space.build([jax.ShapeDtypeStruct(shape, dtype) for shape in shapes])
