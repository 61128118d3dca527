"""The trace of the user's function on abstract data: the columns that it reads, its output, and arrays that it takes from
outside.

A row-wise function is traced with another number of rows than the data have, because rows are evaluated in blocks. Code that
works only for the number of rows of the data (a column that the function closes over) is found here and named.
"""

from __future__ import annotations

import random
import threading
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from mlejax import data as data_room
from mlejax.data import DataError, DataTypeError, MissingColumnError, Table
from mlejax.data.errors import type_name
from mlejax.execution import cached
from mlejax.execution.trace import lapack_calls
from mlejax.execution.trace.jaxprs import Program
from mlejax.likelihood.declaration import Likelihood, LikelihoodError, example_params
from mlejax.likelihood.doubtful_code import (
    generators,
    outside,
    warn_of_betaln,
    warn_of_constants,
    warn_of_waiting,
)
from mlejax.likelihood.tracing_errors import clear_error
from mlejax.misuse import linked
from mlejax.parameters import Space
from mlejax.shapes import PyTree


class _Trace(NamedTuple):
    """A traced function.

    Attributes:
        reads: keys of the columns that it reads, sorted.
        n_out: number of values that it returns.
        jaxpr: the traced program.
        draws: True if it used random numbers of NumPy or Python while it was traced.
    """

    reads: tuple[Any, ...]
    n_out: int
    jaxpr: Program
    draws: bool


def trace_reads(
    likelihood: Likelihood, table: Table, space: Space, by_row: bool = False, regressed: frozenset[str] = frozenset()
) -> tuple[tuple[Any, ...], int]:
    """Return the keys of the columns that the function reads, and the number of rows (of terms, if the mode is "whole").

    Warns of float32 constants, random numbers, and calls of betaln or LAPACK that are inaccurate or can deadlock.

    Args:
        likelihood: the likelihood whose function is traced.
        table: the data.
        space: the parameter space.
        by_row: if True, the function is called with one row.
        regressed: names of the parameters that it gets as arrays with a row axis.

    Raises:
        LikelihoodError: it does not return what its declaration requires, needs concrete values, reads a
            parameter that is not declared, draws random numbers, or works only for the number of rows of these data.
        DataError, DataTypeError, MissingColumnError: it reads a column that is missing or not numeric, or columns of different
            lengths.
        Exception: other errors of the function, unchanged.
    """
    whole = likelihood.mode == "whole"
    key = ("reads", table.signature, space, table.n_rows if whole else None, by_row, regressed)
    names, n_out = cached(likelihood, key, lambda: _read_by(likelihood, table, space, by_row, regressed))
    return names, n_out if whole else _n_rows(table, names)


def _read_by(
    likelihood: Likelihood, table: Table, space: Space, by_row: bool, regressed: frozenset[str]
) -> tuple[tuple[Any, ...], int]:
    whole = likelihood.mode == "whole"
    if (likelihood.mode == "units" and likelihood.joint is None) or by_row:
        found = _traced_alone(likelihood, table, space, 1 if by_row else data_room.TRACED_UNIT_LENGTH, regressed)
    elif whole:
        found = _traced(likelihood, table, space, None, regressed)
    else:
        found = _traced_by_rows(likelihood, table, space, regressed)
    warn_of_waiting(likelihood, space, list(lapack_calls(found.jaxpr)))
    warn_of_constants(likelihood, found.jaxpr, found.draws)
    warn_of_betaln(likelihood, found.jaxpr)
    return found.reads, found.n_out if whole else _n_rows(table, found.reads)


def calls_lapack(likelihood: Likelihood, space: Space, rows: PyTree, shared: PyTree, layout: data_room.Layout) -> bool:
    """True if the function factorises matrices or solves linear systems, for data of these shapes.

    Args:
        likelihood: the likelihood whose function is traced.
        space: the parameter space.
        rows: the row-wise or unit-wise arrays (N, ...), of which only shapes and types are used (N only if the mode is "whole").
        shared, layout: as in `Prepared`.
    """
    lead = (lambda a: a.shape) if likelihood.mode == "whole" else (lambda a: (2, *a.shape[1:]))
    structs = tuple(jax.ShapeDtypeStruct(lead(a), a.dtype) for a in rows)

    def trace() -> bool:
        function = lambda params, part: likelihood.contributions(params, part, shared, layout)
        return any(lapack_calls(jax.make_jaxpr(function)(example_params(space), structs).jaxpr))

    shapes = tuple((a.shape, a.dtype) for a in structs)
    return cached(likelihood, ("calls lapack", space, layout, shapes, tuple(map(np.shape, shared))), trace)


def regressed_reads(likelihood: Likelihood, table: Table, natural: Space) -> tuple[str, tuple[Any, ...]]:
    """Return how the user's function takes parameters with a formula, "array" or "row", and the keys of the columns that it
    reads.

    A scalar parameter is passed as a vector with a row axis if the function can be traced so. A vector or a simplex (in
    row-wise models) is passed row by row with its declared shape, as in the same model without covariates. If the function
    cannot be traced so, the other form is tried; models that are not row-wise get arrays.

    ``natural``: the parameter space of the model without formulas.

    Raises:
        DataError, DataTypeError, MissingColumnError: as :func:`trace_reads`, without trying the other form.
        Exception: the function fails in both forms: the error of the first, with a note on shapes.
    """
    base = likelihood.natural
    assert base is not None
    names = frozenset(p.name for p in likelihood.predictors)
    views = ["array", "row"] if all(p.scalar for p in likelihood.predictors) else ["row", "array"]
    first: Exception | None = None
    for view in views if likelihood.mode == "rows" else ["array"]:
        try:
            if view == "row":
                return view, trace_reads(base, table, natural, by_row=True)[0]
            return view, trace_reads(base, table, natural, regressed=names)[0]
        except (DataError, DataTypeError, MissingColumnError):
            raise
        except Exception as error:
            first = first or error
    assert first is not None
    shown = ", ".join(f"params[{name!r}]" for name in sorted(names))
    first.add_note(
        f"In a model with formulas {shown} varies by row: a scalar is then a vector with one entry per row, a vector of K "
        "entries an array (rows, K)."
    )
    raise first


def _n_rows(table: Table, names: Sequence[Any]) -> int:
    return table.length(names) if names else table.n_rows


def _traced_by_rows(likelihood: Likelihood, table: Table, space: Space, regressed: frozenset[str]) -> _Trace:
    """Return the trace of a row-wise function with one row more than the data have.

    Raises:
        LikelihoodError: it works with the number of rows of the data only.
        Exception: it fails with that number too; errors as in :func:`_traced`.
    """
    n = table.most_rows
    try:
        return _traced(likelihood, table, space, n + 1, regressed)
    except (DataError, DataTypeError, MissingColumnError):
        raise
    except Exception as caught:
        error = caught  # what is raised below, outside of the except clause, does not show it
    _traced(likelihood, table, space, n, regressed)  # raises what is wrong with these data, too
    outside = _rows_from_outside(likelihood, table, space, regressed)
    raise LikelihoodError(
        f"{likelihood.name} works with the {n} rows of these data and fails with {n + 1}; a row-wise function is "
        "evaluated on blocks of rows, so that it must work for any number of them.  "
        + (outside or "Do not use the number of rows, or arrays made outside that have one entry per row.  ")
        + ("If the rows are dependent, declare rowwise=False or unit=.  " if likelihood.joint is None else "")
        + f"The error with {n + 1} rows: {str(error).splitlines()[0]}"
    ) from error


def _traced_alone(likelihood: Likelihood, table: Table, space: Space, n: int, regressed: frozenset[str]) -> _Trace:
    """Return the trace of a function of one row, or of the rows of one unit, with n rows; errors as in :func:`_traced`."""
    try:
        return _traced(likelihood, table, space, n, regressed)
    except LikelihoodError as error:
        outside = _rows_from_outside(likelihood, table, space, regressed) if table.most_rows > n else ""
        if not outside:
            raise
        part = "one row" if likelihood.unit is None else f"the rows of one {likelihood.unit}"
        raise LikelihoodError(
            f"{likelihood.name} gets {part} at a time, and fails there.  {outside}The error: {str(error).splitlines()[0]}"
        ) from error


def _traced(likelihood: Likelihood, table: Table, space: Space, n: int | None, regressed: frozenset[str]) -> _Trace:
    """Return the trace with n rows (None: those of the data), after checking its output against the declaration; ``regressed``
    as in :func:`trace_reads`.

    Raises:
        LikelihoodError: the output is not as declared, or the function cannot be traced for a reason that is known.
        Exception: another error of the user's function, unchanged.
    """
    reads: set[Any] = set()
    units = likelihood.mode == "units" and likelihood.joint is None
    structs = table.abstract(n)
    mask = jax.ShapeDtypeStruct((n or 0,), bool)
    before = _random_states(likelihood)

    lead = table.most_rows if n is None and regressed else n or 0
    latents = {} if likelihood.joint is None else likelihood.example_latents(lead)

    def run(params: PyTree, columns: PyTree, extra: PyTree, latents: PyTree) -> PyTree:
        view = table.view(columns, reads, {"mask": extra} if units else None)
        return likelihood.given_latents(params, latents, view) if latents else likelihood.function(params, view)

    params = example_params(space, regressed, lead)
    error: Exception | None = None
    try:
        jaxpr, out = jax.make_jaxpr(run, return_shape=True)(params, structs, mask, latents)
    except Exception as caught:
        error = caught
    if error is not None:  # outside of the except clause, so that no traceback shows it
        explained = clear_error(likelihood, table, space, reads, structs, error)
        if explained is None and table.kind == "tree" and isinstance(error, TypeError):
            explained = _names_in_a_tree(likelihood, table, params)
        if explained is None or explained is error:
            raise error
        raise explained from error
    _check_output(likelihood, out, 1 if n is None else n)
    n_out = int(np.prod(out.shape, dtype=np.int64))
    draws = _random_states(likelihood) != before
    for _ in range(3):  # another thread may have drawn meanwhile, but hardly at every repetition
        if draws and threading.active_count() > 1:
            before = _random_states(likelihood)
            jax.make_jaxpr(lambda *given: run(*given))(params, structs, mask, latents)
            draws = _random_states(likelihood) != before
    return _Trace(tuple(sorted(reads, key=str)), n_out, jaxpr, draws)


class _Asked(Exception):
    """Raised by `_Names`; its argument is the name that was looked up."""


class _Names:
    """Stands for the data while a function is traced, to find whether it looks up a column by name: it raises `_Asked` then."""

    def __getitem__(self, key: Any) -> Any:
        if isinstance(key, str):
            raise _Asked(key)
        raise TypeError


def _names_in_a_tree(likelihood: Likelihood, table: Table, params: PyTree) -> Exception | None:
    """Return the error for data without names (one array, a tuple of arrays) in which the function looks up a name; None if
    it does not.
    """
    try:
        jax.eval_shape(lambda p: likelihood.function(p, _Names()), params)
    except _Asked as asked:
        name, given = asked.args[0], type_name(table.raw)
    except Exception:
        return None
    else:
        return None
    several = isinstance(table.raw, (tuple, dict))
    what = f"a {given} of {len(table.raw)} arrays" if several else f"one array, a {given}"
    values = "array, ..." if several else "array"
    text = f"{likelihood.name} reads data[{name!r}], but the data are {what} without names: give {{{name!r}: {values}}}"
    return linked(DataTypeError(text), "names")


# ---- what the function takes from outside


def _rows_from_outside(likelihood: Likelihood, table: Table, space: Space, regressed: frozenset[str]) -> str:
    """Return advice on arrays that the function takes from outside with one entry per row, by name or as constants of the
    traced program; empty if there are none, or if it cannot be traced with the rows of the data.
    """
    n = table.most_rows
    found = outside(likelihood, n)
    if not found:
        try:
            view = lambda params, columns, mask: likelihood.function(params, table.view(columns, set(), {"mask": mask}))
            arguments = example_params(space, regressed, n), table.abstract(n), jax.ShapeDtypeStruct((n,), bool)
            consts = jax.make_jaxpr(view)(*arguments).consts
        except Exception:  # it does not work with these rows either: nothing is known
            return ""
        shapes = [str(np.shape(c)) for c in consts if np.shape(c)[:1] == (n,)]
        found = f"an array of shape {', '.join(shapes)}" if shapes else ""
    if not found:
        return ""
    return (
        f"It uses {found} from outside: make that a column of the data and read it as data['...'], or pass it as "
        "mle.Shared(...) if it is not by row.  "
    )


def _random_states(likelihood: Likelihood) -> tuple[Any, ...]:
    """Return the states of NumPy's and Python's global random generators and of those that the function takes from outside:
    they differ after a draw.
    """
    state: Mapping[str, Any] = np.random.get_state(legacy=False)  # noqa: NPY002
    own = [
        repr(g.bit_generator.state if isinstance(g, np.random.Generator) else g.getstate())
        for g in generators(likelihood)
    ]
    return state["state"]["pos"], int(state["state"]["key"][0]), state["has_gauss"], hash(random.getstate()), *own


def _check_output(likelihood: Likelihood, out: Any, n: int) -> None:
    """Raise LikelihoodError unless ``out``, the abstract output for n rows, is one real array of the shape that is declared."""
    name = likelihood.name
    leaves = jax.tree.leaves(out)
    if len(leaves) != 1 or not hasattr(out, "shape"):
        nothing = "; is the return statement missing?" if out is None else ""
        raise LikelihoodError(f"{name} must return one array of log-likelihood values, got {type(out).__name__}{nothing}")
    if jnp.issubdtype(out.dtype, jnp.complexfloating):
        raise LikelihoodError(f"{name} returns complex numbers; expected real log-likelihood values: take the real part")
    if not jnp.issubdtype(out.dtype, jnp.floating):
        raise LikelihoodError(f"{name} returns {out.dtype}, not floating-point log-likelihood values")
    shape = tuple(out.shape)
    if likelihood.mode == "units" and likelihood.joint is None:
        if shape != ():
            raise LikelihoodError(
                f"{name} is declared with unit={likelihood.unit!r}: it gets the rows of one unit and should return one "
                f"scalar, got shape {shape}; sum over the unit's rows with data['mask'], "
                "e.g. jnp.sum(jnp.where(data['mask'], l, 0.0))"
            )
    elif likelihood.mode == "whole":
        if len(shape) > 1:
            raise LikelihoodError(
                f"{name} should return one value per time point or group, or one scalar, got shape {shape}; sum over the other "
                "axes"
            )
    elif shape == ():
        whole = "; if there is no value for each row (a time series, one joint density), declare @mle.model(..., rowwise=False)"
        whole = whole if likelihood.joint is None else ""  # with latents rows are independent
        raise linked(
            LikelihoodError(
                f"{name} returns one scalar, but a row-wise model returns one log-likelihood value per row, here ({n},).  "
                f"Leave out the final .sum() or .mean(){whole}"
            ),
            "scalar",
        )
    elif shape != (n,):
        hint = (
            "take [:, 0]"
            if shape == (n, 1)
            else "sum over the other axes"
            if shape[:1] == (n,)
            else "declare unit= or rowwise=False if one contribution is not one row"
            if likelihood.joint is None
            else "a choice among alternatives is one row here: columns of shape (rows, alternatives)"
        )
        raise LikelihoodError(
            f"{name} returns shape {shape}, but a row-wise model returns one value per row, here ({n},); {hint}"
        )
