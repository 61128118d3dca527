"""The frozen declaration of a log-likelihood: the user's function, its parameters, and what one contribution is.

Three kinds of contribution:

* *rows* (default): the function returns one value per row, and entry i uses row i only;
* *units* (``unit="subject"``): the function gets the rows of ONE unit, padded, with ``data["mask"]``, and returns one
  scalar; it is mapped over units;
* *whole* (``rowwise=False``): the function sees the whole data in its exact length and returns one value per time
  point or group, or one scalar.

Nothing here fits anything or changes a sign.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from mlejax import data as data_room
from mlejax import known, linalg
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
from mlejax.portable import Named, find, key_of, name_of, portable, recall, restore

Array = Any
N_CHECKED_ROWS = 256
_UNIT_LENGTH = data_room.TRACED_UNIT_LENGTH


class LikelihoodError(ValueError):
    """The user's function does not return what its declaration promises."""


@dataclass(frozen=True, eq=False)
class Likelihood:
    """A log-likelihood as declared: hashable by identity, part of the compilation key.

    Attributes:
        function: the user's ``f(params, data)``.
        parameters: name -> declaration in declared order, or None for the bare form (structure from ``start=``).
        rowwise: entry i of the returned vector uses row i only.
        unit: the column that names the unit of each row, or None.
        memory: what has been found out by tracing, by structure of the data (not part of the declaration).
        natural: the same likelihood without regressed parameters, or None if there are none.
        predictors: of the regressed parameters.
        companions: further functions that belong to the model, by name, such as ``"expected_information"``.
    """

    function: Callable[[Any, Any], Array]
    parameters: Mapping[str, Declaration] | None
    rowwise: bool = True
    unit: str | None = None
    memory: dict[Any, Any] = field(default_factory=dict, repr=False)
    natural: Likelihood | None = None
    predictors: tuple[Predictor, ...] = ()
    companions: dict[str, Callable[..., Any]] = field(default_factory=dict, repr=False)

    def __reduce__(self) -> Any:
        """By the name of its model where that can be imported, else by its parts; ``memory`` stays here."""
        named = name_of(self.function)
        if named is not None and getattr(find(named), "likelihood", None) is not self:
            named = None
        parts = (portable(self.function), self.parameters, self.rowwise, self.unit, self.natural, self.predictors)
        companions = {name: portable(f) for name, f in self.companions.items()}
        return _unpickled, (named, key_of(self, (parts, companions)), parts, companions)

    @property
    def mode(self) -> str:
        """``"rows"``, ``"units"`` or ``"whole"``."""
        return "units" if self.unit is not None else ("rows" if self.rowwise else "whole")

    @property
    def calls_lapack(self) -> bool:
        """Whether the function factorises matrices or solves systems, as far as it has been traced (`trace_reads`)."""
        return bool(self.memory.get("lapack", False))

    @property
    def name(self) -> str:
        return getattr(self.function, "__name__", type(self.function).__name__)

    def contributions(self, params: Any, rows: Any, shared: Any, layout: data_room.Layout) -> Array:
        """l_i for a block of rows or units (N,), or the entries of a whole model (T,); a scalar becomes (1,).

        ``rows`` may have more arrays than ``layout``: what :meth:`split` found to be the same at all params.
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

    def split(self, params: Any, rows: Any, shared: Any, layout: data_room.Layout) -> known.Split | None:
        """The contributions in what depends on the data alone, and the rest."""
        return known.split(
            lambda p, r, s: self._contributions(p, r, s, layout), params, rows, shared, _designs_in(layout)
        )

    def _contributions(self, params: Any, rows: Any, shared: Any, layout: data_room.Layout) -> Array:
        def call(part: Any) -> Array:
            return jnp.asarray(self.function(params, data_room.assemble(part, shared, layout)))

        if self.predictors and data_room.by_row(layout.keys):
            out = jax.vmap(lambda row: call(jax.tree.map(lambda a: a[None], row))[0])(rows)
        else:
            out = jax.vmap(call)(rows) if self.mode == "units" else call(rows)
        return jnp.reshape(out, (-1,)).astype(jnp.result_type(float))

    def weighted_sum(
        self,
        function: Callable[[Any, Any], Array],
        params: Any,
        rows: Any,
        weights: Array,
        prepared: data_room.Prepared,
    ) -> Array:
        """The weighted sum of a companion's values by row or unit (N, ...)."""

        def call(part: Any) -> Array:
            return jnp.asarray(function(params, data_room.assemble(part, prepared.shared, prepared.statics)))

        values = jax.vmap(call)(rows) if self.mode == "units" else call(rows)
        if values.shape[:1] != weights.shape:
            raise LikelihoodError(
                f"{getattr(function, '__name__', 'the companion')} of {self.name} should return one value for each "
                f"contribution, shape ({weights.shape[0]}, ...), got {values.shape}"
            )
        return jnp.tensordot(weights, values, axes=1)

    def space(self, source: data_room.Source, start: Any = None) -> Space:
        """The layout of the parameters for these data (shapes and labels of ``columns=`` come from them)."""
        if self.parameters is None:
            made = bare_space(start, self.name)
        else:
            columns, widths = {}, {}
            for name, parameter in self.parameters.items():
                if isinstance(parameter, Parameter) and parameter.shape is None:
                    columns[name] = data_room.column_labels(source, parameter.columns)
            if self.predictors:
                keys = {
                    k.parameter: k for k in source.keys if isinstance(k, data_room.DesignKey) and k.part == "design"
                }
                widths = {name: data_room.column_labels(source, key) for name, key in keys.items()}
            columns_known = ("columns", *columns.items(), None, *widths.items())
            if columns_known in self.memory:
                return self.memory[columns_known]
            made = make_space(self.parameters, columns)
            if self.predictors:
                made = with_coefficients(made, self.predictors, widths)
            return self.memory.setdefault(columns_known, self.memory.setdefault(("space", made), made))
        return self.memory.setdefault(("space", made), made)


def _designs_in(layout: data_room.Layout) -> tuple[int, ...]:
    """Which arrays by row are designs, for which linear predictors may stand."""
    designs = (e for e in layout.entries if isinstance(e.key, data_room.DesignKey) and e.key.part == "design")
    return tuple(slot.position for e in designs for slot in e.slots)


def _unpickled(
    named: Named | None, key: bytes | None, parts: tuple[Any, ...], companions: Mapping[str, Any]
) -> Likelihood:
    there = None if named is None else getattr(find(named), "likelihood", None)
    if isinstance(there, Likelihood):
        return there

    def make() -> Likelihood:
        function, parameters, rowwise, unit, natural, predictors = parts
        kept = {name: restore(f) for name, f in companions.items()}
        return Likelihood(restore(function), parameters, rowwise, unit, {}, natural, predictors, kept)

    return recall(key, make)


def bare_space(start: Any, name: str) -> Space:
    """The layout of a bare ``@mle.model``: whatever structure ``start`` has, unconstrained."""
    if start is None:
        raise ValueError(
            f"{name} declares no parameters, so their structure must come with start=: "
            f"{name}.fit(data, start={{'beta': np.zeros(3)}}); or declare them: @mle.model(beta=mle.Real(shape=3))"
        )
    if isinstance(start, Mapping) and all(isinstance(k, str) for k in start):
        return make_space({k: _free(v) for k, v in start.items()}, {})
    group, leaves = tree_space(start, None)
    return Space((group,), tuple(leaves))


def _free(value: Any) -> Declaration:
    if isinstance(value, (int, float, np.ndarray, jax.Array, list)) and np.asarray(value).dtype.kind in "fiu":
        return Real(shape=np.shape(value))
    return FreeParameter(value)


def example_params(space: Space) -> Any:
    """Abstract params (ShapeDtypeStructs) for tracing the user's function without numbers."""
    dtype = jnp.result_type(float)
    return space.build([jax.ShapeDtypeStruct(leaf.shape, dtype) for leaf in space.leaves])


def trace_reads(
    likelihood: Likelihood, source: data_room.Source, space: Space, by_row: bool = False
) -> tuple[tuple[Any, ...], int]:
    """Trace the function on abstract data: the columns that it reads, and the number of contributions of a whole model.

    ``by_row``: it is called with one row.

    Raises:
        LikelihoodError: it returns something else than its declaration promises, or needs concrete values.
        DataError, DataTypeError, MissingColumnError: it reads a column that is missing or not numeric.
    """
    whole = likelihood.mode == "whole"
    key = ("reads", source.signature, space, source.n_rows if whole else None, by_row)
    if key in likelihood.memory:
        names, n_out = likelihood.memory[key]
        return names, n_out if whole else (source.length(names) if names else source.n_rows)
    reads: set[Any] = set()
    units = likelihood.mode == "units"
    structs = source.abstract(_UNIT_LENGTH if units else 1 if by_row else None)
    mask = jax.ShapeDtypeStruct((_UNIT_LENGTH,), bool)

    def run(params: Any, columns: Any, extra: Any) -> Any:
        view = source.view(columns, reads, {"mask": extra} if units else None)
        return likelihood.function(params, view)

    try:
        traced, out = jax.make_jaxpr(run, return_shape=True)(example_params(space), structs, mask)
    except jax.errors.TracerArrayConversionError as error:
        raise LikelihoodError(
            f"{likelihood.name} hands parameters or data to NumPy, SciPy or pandas, which cannot be traced: use jax.numpy "
            f"(jnp.exp for np.exp) and jax.scipy.  JAX said: {str(error).splitlines()[0]}"
        ) from error
    except (jax.errors.ConcretizationTypeError, jax.errors.NonConcreteBooleanIndexError) as error:
        raise LikelihoodError(
            f"{likelihood.name} needs the concrete value of a parameter or of data while it is traced (Python if, "
            "float(), int(), boolean indexing, a shape computed from values).  Use jnp.where instead of if; pass sizes, "
            f"lags and numbers of categories as mle.Static(value).  JAX said: {str(error).splitlines()[0]}"
        ) from error
    except (TypeError, ValueError) as error:
        if reads and source.kind == "mapping":
            source.length(reads)  # columns of different lengths: a clearer message than JAX's on broadcasting
            if not isinstance(error, data_room.DataError) and _about_shapes(error):
                raise LikelihoodError(
                    f"{likelihood.name} cannot combine what it read: {_shapes(source, reads, structs)}.  Check that each column "
                    f"has one value per row.  JAX said: {str(error).splitlines()[0]}"
                ) from error
        raise
    names = tuple(sorted(reads, key=str))
    n = source.length(names) if names else source.n_rows
    _check_output(likelihood, out, 1 if by_row else n)
    n_out = int(np.prod(out.shape, dtype=np.int64)) if whole else n
    likelihood.memory[key] = names, n_out
    calls = list(linalg.lapack_calls(traced.eqns))
    likelihood.memory["lapack"] = likelihood.calls_lapack or bool(calls)
    _warn_of_waiting(likelihood, space, calls)
    return names, n_out


def _warn_of_waiting(likelihood: Likelihood, space: Space, calls: list[tuple[int, int]]) -> None:
    """Of what cannot be taken apart from outside: one call of LAPACK for many matrices inside the user's function."""
    m = max((m for m, work in calls if m > 1 and m * work * max(space.n_free, 1) > linalg.ALONE), default=0)
    if m and likelihood.mode != "rows" and linalg.cuts_calls_up():
        warnings.warn(
            f"{likelihood.name} factorises {m} matrices in one call of LAPACK, which this jaxlib cuts up among the threads that "
            "such calls run on: on few cores two of them can wait for each other for ever.  Declare unit= and write the "
            "function for one matrix, or use jax.lax.map in the place of jax.vmap; jaxlib 0.12 needs neither",
            RuntimeWarning,
            stacklevel=2,
        )


def _about_shapes(error: Exception) -> bool:
    text = str(error).lower()
    return any(word in text for word in ("shape", "broadcast", "dot_general", "dimension"))


def _shapes(source: data_room.Source, reads: set[Any], structs: Any) -> str:
    """``'y' of shape (12, 2), 'x' of shape (12,)``: the columns that were read before the function failed."""
    view = source.view(structs, set())
    parts = []
    for name in sorted(reads, key=str):
        shapes = [tuple(leaf.shape) for leaf in jax.tree.leaves(view[name]) if hasattr(leaf, "shape")]
        parts.append(f"{name!r} of shape {shapes[0] if len(shapes) == 1 else shapes}")
    return ", ".join(parts)


def _check_output(likelihood: Likelihood, out: Any, n: int) -> None:
    name = likelihood.name
    leaves = jax.tree.leaves(out)
    if len(leaves) != 1 or not hasattr(out, "shape"):
        raise LikelihoodError(
            f"{name} should return one array of log-likelihood contributions, got {type(out).__name__}"
        )
    if jnp.issubdtype(out.dtype, jnp.complexfloating):
        raise LikelihoodError(f"{name} returns complex numbers; a log-likelihood is real")
    if not jnp.issubdtype(out.dtype, jnp.floating):
        raise LikelihoodError(f"{name} returns {out.dtype}, not floating-point log-likelihood values")
    shape = tuple(out.shape)
    if likelihood.mode == "units":
        if shape != ():
            raise LikelihoodError(
                f"{name} is declared with unit={likelihood.unit!r}: it gets the rows of one unit and should return one "
                f"scalar, got shape {shape}; sum over the unit's rows with data['mask'], "
                "e.g. jnp.sum(jnp.where(data['mask'], l, 0.0))"
            )
    elif likelihood.mode == "whole":
        if len(shape) > 1:
            raise LikelihoodError(
                f"{name} should return one value per time point or group, or one scalar, got shape {shape}"
            )
    elif shape == ():
        raise LikelihoodError(
            f"{name} returns one scalar, but a row-wise model returns one log-likelihood value per row, here ({n},).  "
            "Leave out the final .sum() or .mean(); if the rows cannot be told apart (a time series, one joint "
            "density), declare @mle.model(..., rowwise=False)"
        )
    elif shape != (n,):
        hint = (
            "take [:, 0]"
            if shape == (n, 1)
            else "sum over the other axes"
            if shape[:1] == (n,)
            else "declare unit= or rowwise=False if one contribution is not one row"
        )
        raise LikelihoodError(
            f"{name} returns shape {shape}, but a row-wise model returns one value per row, here ({n},); {hint}"
        )


class missing_derivatives:
    """Turns JAX's error on an operation that it cannot differentiate into one that names the way out."""

    def __init__(self, likelihood: Likelihood) -> None:
        self.likelihood = likelihood

    def __enter__(self) -> None: ...

    def __exit__(self, kind: Any, error: Any, where: Any) -> None:
        if not isinstance(error, (NotImplementedError, ValueError)):
            return
        text = str(error)
        if "ifferentiation rule" not in text and "gradient with respect to" not in text:
            return
        raise LikelihoodError(
            f"{self.likelihood.name} uses an operation that JAX cannot differentiate as often as needed "
            f"({text.splitlines()[0]}).  "
            "mle.special has betainc, gammainc, gammaincc and stdtr with all derivatives in their parameters; for another "
            "function write a jax.custom_jvp rule"
        ) from error


def row_check(
    likelihood: Likelihood, space: Space, u: Array, fixed: Any, rows: Any, shared: Any, layout: Any
) -> tuple[Array, Array]:
    """Values and one random directional score per row, evaluated in company and alone: two arrays (2, 2, N).

    ``u`` is (2, p): the start and one random interior point.  Entry i of a row-wise model does not change when row i is alone.
    """
    direction = np.random.default_rng(7).standard_normal(u.shape[1:]).astype(u.dtype)

    def both(function: Callable[[Array], Array], at: Array) -> Array:
        return jnp.stack(jax.jvp(function, (at,), (direction,)))

    def company(at: Array) -> Array:
        return both(lambda t: likelihood.contributions(space.params_from_u(t, fixed), rows, shared, layout), at)

    def alone(at: Array) -> Array:
        def one(row: Any) -> Array:
            part = jax.tree.map(lambda a: a[None], row)
            return both(lambda t: likelihood.contributions(space.params_from_u(t, fixed), part, shared, layout), at)[
                :, 0
            ]

        return jax.vmap(one)(rows).T

    return jax.vmap(company)(u), jax.vmap(alone)(u)


def unit_check(
    likelihood: Likelihood, space: Space, u: Array, fixed: Any, rows: Any, shared: Any, layout: Any
) -> tuple[Array, Array]:
    """Contributions of some units as they are and with two more padded rows each, at the points u (2, p): (2, N) each."""
    *columns, mask = rows

    def longer(a: Array) -> Array:
        return jnp.concatenate([a, a[:, -1:], a[:, -1:]], axis=1)

    padded = (*(longer(c) for c in columns), jnp.concatenate([mask, jnp.zeros((mask.shape[0], 2), bool)], axis=1))

    def at(part: Any) -> Array:
        return jax.vmap(lambda t: likelihood.contributions(space.params_from_u(t, fixed), part, shared, layout))(u)

    return at(tuple(rows)), at(padded)


def refuse_unmasked_units(likelihood: Likelihood, as_they_are: np.ndarray, longer: np.ndarray) -> bool:
    """Raise LikelihoodError if a unit's contribution changes with its padding; returns whether the check saw enough."""
    finite = np.isfinite(as_they_are) & np.isfinite(longer)
    with np.errstate(invalid="ignore"):
        same = (as_they_are == longer) | (np.isnan(as_they_are) & np.isnan(longer))
        size = np.maximum(np.abs(as_they_are), np.abs(longer))
        bad = ~same & (~finite | (np.abs(as_they_are - longer) > 1e-8 * (1.0 + size)))
    if bad.any():
        point, unit = (int(x) for x in np.argwhere(bad)[0])
        raise LikelihoodError(
            f"{likelihood.name} is declared with unit={likelihood.unit!r}, but counts padded rows: with two more of them the "
            f"log-likelihood of unit {unit} is {longer[point, unit]:.6g} instead of {as_they_are[point, unit]:.6g}.  Sum with "
            "jnp.sum(jnp.where(data['mask'], l, 0.0)), and use data['mask'] in means and counts too"
        )
    return bool(finite.any(axis=1).all())


def refuse_dependent_rows(likelihood: Likelihood, company: np.ndarray, alone: np.ndarray) -> bool:
    """Raise LikelihoodError if row-wise contributions or scores change with the company of other rows.

    Returns:
        Whether the check saw enough: finite values and scores of some row at both points.
    """
    finite = np.isfinite(company) & np.isfinite(alone)
    with np.errstate(invalid="ignore"):
        same = (company == alone) | (np.isnan(company) & np.isnan(alone))
        size = np.maximum(np.abs(company), np.abs(alone))
        typical = np.median(size[finite]) if finite.any() else 0.0
        # not finite alone, finite in company: a column scaled by its own spread, which one row does not have
        bad = ~same & (~finite | (np.abs(company - alone) > 1e-6 * size + 1e-9 * (1.0 + typical)))
    if not bad.any():
        return bool(finite.all(axis=1).any(axis=1).all())
    where = np.argwhere(bad)
    point, kind, row = (int(x) for x in where[0])
    what = "log-likelihood" if kind == 0 else "score"
    raise LikelihoodError(
        f"{likelihood.name} is declared row-wise, but its entries use other rows: for row {row} the {what} is "
        f"{company[point, kind, row]:.6g} in company and {alone[point, kind, row]:.6g} alone "
        f"({len(set(where[:, 2].tolist()))} of {bad.shape[-1]} rows checked differ).  "
        "If it centres or scales a column, do that beforehand or pass the mean as "
        "mle.Shared(mean); do not divide by the number of rows; if the rows are truly joined (a time series, groups), "
        "declare @mle.model(..., rowwise=False) or unit="
    )
