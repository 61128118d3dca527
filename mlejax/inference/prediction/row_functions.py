"""Functions of params and rows, rewritten as functions of theta, of design matrices and of the columns that they read."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from mlejax import data as data_room
from mlejax.companions import companion, registered
from mlejax.data.formulas import Designs, DesignValues
from mlejax.data.packing.layout import Layout
from mlejax.fit import Fit
from mlejax.inference.prediction.latents import over_latents
from mlejax.parameters import Predictor
from mlejax.shapes import Data, Device, Either, Params, PyTree

ParamsAt = Callable[[Any], Any]


def of_theta(
    function: Callable[[Any, Any], Any],
    data: Data,
    params_at: ParamsAt,
    theta: np.ndarray,
    designs: Designs | None,
    by_row: Callable[[Any], dict[str, Any]] = lambda _: {},
) -> Callable[[Any], Any]:
    """Return ``function(params, data)`` as a function of theta (p,) alone.

    Args:
        function: function of params and data, which JAX can trace.
        data: the rows, with the columns of the formulas, if there are any.
        params_at: function from theta to params, natural scale, with the coefficients of formulas.
        theta: the estimates, for their shape.
        designs: designs of the parameters with a formula, or None.
        by_row: function from theta to further parameters that have one value for each row, by name.
    """
    opened = in_parts(function, data, params_at, theta, designs, by_row)
    return lambda t: opened.call(t, opened.made, opened.leaves)


class InParts(NamedTuple):
    """A function of params and rows whose design matrices and columns are explicit arguments, so that they can be
    differentiated or replaced.

    Attributes:
        function: the function of params and data.
        predictors: linear predictors of the parameters with a formula.
        form: how the function takes parameters with a formula: ``"array"``, all rows at once; ``"row"``, one row at a time;
            ``"plain"``, there are none.
        layout: layout of the columns that the function reads; None if it reads none.
        params_at, more: functions from theta to params, and to further parameters with one value for each row.
        made: design matrices of the parameters with a formula.
        leaves, shared: arrays that the function reads: row-wise (n, ...), and shared by all rows.
    """

    function: Callable[[Any, Any], Any]
    predictors: tuple[Predictor, ...]
    form: str
    layout: Layout | None
    params_at: ParamsAt
    more: Callable[[Any], dict[str, Any]]
    made: dict[str, DesignValues]
    leaves: tuple[Any, ...]
    shared: PyTree

    def call(self, theta: Either, made: PyTree, leaves: PyTree) -> Device:
        """Evaluate the function at theta (p,), with design matrices and row-wise arrays in place of ``made`` and ``leaves``."""
        params, more = self.params_at(theta), self.more(theta)
        statics = (self.function, self.predictors, self.form, self.layout)
        return evaluated_rows(*statics, params, made, leaves, self.shared, more)

    @property
    def columns(self) -> dict[Any, int]:
        """Dict from the name of a column to its position in ``leaves``; columns that hold trees are left out."""
        entries = () if self.layout is None else self.layout.entries
        plain = (e for e in entries if e.treedef is None and e.slots[0].source == "row")
        return {e.key: e.slots[0].position for e in plain}


def check_arguments(function: Callable[..., Any], what: str) -> None:
    """Raise TypeError if a user's function cannot be called as ``function(params, data)``; ``what`` begins the message."""
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):  # a function written in C has none
        return
    try:
        signature.bind(None, None)
    except TypeError:
        raise TypeError(
            f"{what} expected a function of params and data, lambda params, data: ..., got one with the arguments {signature}"
        ) from None


def evaluated_rows(
    function: Callable[..., Any],
    predictors: Sequence[Predictor],
    form: str,
    layout: Layout | None,
    params: Params,
    made: PyTree,
    leaves: PyTree,
    shared: PyTree,
    more: dict[str, Any],
) -> Device:
    """Return ``function(params, data)``, in whose params those with a formula have one value for each row.

    Arguments are the attributes of `InParts`, and:

    Args:
        params: natural scale, with coefficients of the formulas.
        more: further parameters that have one value for each row.
    """
    assembled = lambda rows: {} if layout is None else data_room.assemble(rows, shared, layout)
    if form == "plain":
        return function({**params, **more} if more else params, assembled(leaves))
    values = {p.name: p.value(params[p.name], *made[p.name][:3]) for p in predictors} | more
    if form == "array":
        return function({**params, **values}, assembled(leaves))
    one = lambda value, row: function({**params, **value}, assembled([a[None] for a in row]))
    out = jax.vmap(one)(values, leaves)
    return jax.tree.map(lambda a: a[:, 0] if a.ndim > 1 and a.shape[1] == 1 else a, out)


def in_parts(
    function: Callable[[Any, Any], Any],
    data: Data,
    params_at: ParamsAt,
    theta: np.ndarray,
    designs: Designs | None,
    by_row: Callable[[Any], dict[str, Any]] = lambda _: {},
) -> InParts:
    """Return ``function(params, data)`` as an `InParts`, prepared for the given data; arguments as in `of_theta`."""
    source, made, form = data_room.ingest(data), {}, "plain"
    if designs is None:
        reads: set[Any] = set()
        given = lambda t: {**params_at(t), **by_row(t)} if by_row(t) else params_at(t)
        _traced(function, jax.eval_shape(given, theta), source, source.abstract(), reads)
        if not reads and not by_row(theta):
            raise ValueError(
                "the function of params and data reads no column, so that it has no value for each row: for a function of the "
                "parameters alone use res.nlcom(lambda p: ...)"
            )
        rows: data_room.Rows | None = source.convert(reads)
    else:
        made = {name: DesignValues(*_on_device(values)) for name, values in designs.again(source).items()}
        form, reads = _form(function, source, designs, {name: np.shape(v)[1:] for name, v in by_row(theta).items()})
        rows = source.convert(reads) if reads else None
    predictors = () if designs is None else tuple(d.predictor for d in designs.designs)
    statics = (function, predictors, form, None if rows is None else rows.layout)
    leaves, shared = ((), ()) if rows is None else (_on_device(rows.leaves), rows.shared)
    return InParts(*statics, params_at, by_row, made, leaves, shared)


def _traced(
    function: Callable[[Any, Any], Any], params: PyTree, source: data_room.Table, structs: PyTree, reads: set[Any]
) -> None:
    """Trace ``function(params, data)`` and add the names of the columns that it reads to ``reads``.

    A function that calls NumPy is refused with a TypeError. Another TypeError or ValueError of it, unless it is an error about
    the data (DataError, DataTypeError), gets a note with the shapes of the parameters and of the columns that it had read.

    Args:
        function: function of params and data.
        params: the parameters, as shapes and dtypes.
        source: the data.
        structs: shapes and dtypes of the arrays of the data, as `Table.abstract` returns them.
        reads: set to which the names are added.
    """
    try:
        jax.eval_shape(lambda p, a: function(p, source.view(a, reads)), params, structs)
    except (data_room.DataError, data_room.DataTypeError, data_room.MissingColumnError):
        raise
    except jax.errors.TracerArrayConversionError as error:
        raise TypeError(
            "the function of params and data hands them to NumPy or SciPy, which cannot be differentiated: write jnp.exp for "
            f"np.exp (import jax.numpy as jnp).  JAX said: {str(error).splitlines()[0]}"
        ) from error
    except (TypeError, ValueError) as error:
        named = params if isinstance(params, Mapping) else {}
        got = [f"params[{name!r}] of shape {one.shape}" for name, one in named.items() if hasattr(one, "shape")]
        got += [f"data[{name!r}] of shape {source.contents(name).rows[0].probe.shape}" for name in _single(source, reads)]
        if None in reads:
            got.append("data, one array without names: for data['x'] give {'x': array}")
        if got:
            error.add_note(f"The function of params and data got {', '.join(got)}")
        raise


def _single(source: data_room.Table, names: Iterable[Any]) -> list[Any]:
    """Return those names of columns, in order, under which there is one array."""
    return sorted((name for name in names if len(source.contents(name).rows) == 1), key=str)


def _on_device(arrays: PyTree) -> tuple[Any, ...]:
    return tuple(None if a is None else jnp.asarray(a) for a in arrays)


def _form(
    function: Callable[[Any, Any], Any], source: data_room.Table, designs: Designs, more: Mapping[str, Any]
) -> tuple[str, set[Any]]:
    """Return how the function takes parameters with a formula ("array": all rows at once, "row": one row at a time), and the
    names of the columns that it reads.

    Args:
        function: function of params and data.
        source: the data.
        designs: designs of the parameters with a formula.
        more: further row-wise parameters -> shape of their value in one row.

    Raises:
        Exception: that of the function, if it can be traced in neither way.
    """
    named = {d.predictor.name for d in designs.designs}

    def reads_of(n: int, lead: tuple[int, ...]) -> set[Any]:
        reads: set[Any] = set()
        dtype = jnp.result_type(float)
        params = {
            leaf.name: jax.ShapeDtypeStruct((*lead, *leaf.shape) if leaf.name in named else leaf.shape, dtype)
            for leaf in designs.natural.leaves
        } | {name: jax.ShapeDtypeStruct((*lead, *shape), dtype) for name, shape in more.items()}
        _traced(function, params, source, source.abstract(n), reads)
        return reads

    n, first = source.most_rows, None
    forms = ("array", "row") if designs.view == "array" else ("row", "array")
    for form in ("array",) if any(d.random for d in designs.designs) else forms:
        try:
            return form, reads_of(n, (n,)) if form == "array" else reads_of(1, ())
        except (data_room.DataError, data_room.DataTypeError, data_room.MissingColumnError):
            raise
        except Exception as error:
            first = first or error
    assert first is not None
    raise first


def function_of(fit: Fit, of: Callable[..., Any] | None, random: str) -> Callable[[Any, Any], Any]:
    """Return the function of params and rows whose margins are computed, without random effects among its arguments.

    ``of``: a function, ``"mean"``, the name of a parameter with a formula, or None: the declared mean, else the only
    parameter with a formula.  ``random``: random effects are averaged over ("integrate"), at their modes ("mode") or 0 ("zero").

    Raises:
        ValueError: there is no such parameter; or None, no mean is declared, and not exactly one parameter has a formula.
        CompanionError: no mean is declared.
    """
    likelihood, designs = fit.spec.likelihood, fit.loaded.designs
    regressed = [] if designs is None else [d.predictor.name for d in designs.designs]
    if callable(of):
        check_arguments(of, "margins")
        return over_latents(of, likelihood, random)
    if of == "mean" or (of is None and registered(likelihood, "mean") is not None):
        return over_latents(companion(likelihood, "mean", "margins"), likelihood, random)
    if of is None and likelihood.joint is not None and len(regressed) != 1:
        raise ValueError(
            f"margins: {likelihood.name} has random effects and declares no mean; give a function to average, of=lambda params, "
            "data: ...; it may read the random effects, over whose distribution it is averaged"
        )
    if of is None and len(regressed) != 1:
        what = f"several parameters have a formula ({', '.join(regressed)})" if regressed else "no parameter has a formula"
        by_name = f"the parameter to average, {' or '.join(f'of={name!r}' for name in regressed)}, or " if regressed else ""
        raise ValueError(
            f"margins: {likelihood.name} declares no mean and {what}; give {by_name}a function to average, "
            "of=lambda params, data: ..."
        )
    name = regressed[0] if of is None else of
    if name not in regressed:
        raise ValueError(f"of={of!r}: expected a function, 'mean', or a parameter with a formula (there are: {regressed})")
    predictor = next(d.predictor for d in designs.designs if d.predictor.name == name)  # type: ignore[union-attr]
    if not predictor.random and random == "integrate":
        return _value_of(name)
    return over_latents(_value_of(name), likelihood, random)


@lru_cache(maxsize=64)
def _value_of(name: str) -> Callable[[Any, Any], Any]:
    """Return the function that reads the named parameter; the same object each time, so that it is compiled once."""
    return lambda params, data: params[name]
