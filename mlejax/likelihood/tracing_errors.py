"""Errors for functions that JAX cannot trace, which say what to change."""

from __future__ import annotations

from typing import Any

import jax

from mlejax.data import DataError, MissingColumnError, Table
from mlejax.likelihood.declaration import Likelihood, LikelihoodError
from mlejax.likelihood.doubtful_code import scalar_functions, tables_outside
from mlejax.misuse import linked
from mlejax.parameters import Space, near
from mlejax.shapes import PyTree


def clear_error(
    likelihood: Likelihood, table: Table, space: Space, reads: set[Any], structs: PyTree, error: Exception
) -> Exception | None:
    """Return an error that says what to do, for a function that cannot be traced; None if its own error is clear.

    Args:
        likelihood: the declaration.
        table: the data.
        space: the layout of the parameters.
        reads: keys of the columns that were read before it failed.
        structs: the abstract columns on which it was traced.
        error: the error.

    Raises:
        DataError: the columns that were read have different lengths.
    """
    said = f"JAX said: {(str(error) or type(error).__name__).splitlines()[0]}"
    if isinstance(error, jax.errors.TracerArrayConversionError):
        text = (
            f"{likelihood.name} hands parameters or data to NumPy, SciPy or pandas, which cannot be traced: use jax.numpy "
            f"(jnp.exp for np.exp) and jax.scipy.  {said}"
        )
        return linked(LikelihoodError(text), "numpy")
    if isinstance(error, (jax.errors.ConcretizationTypeError, jax.errors.NonConcreteBooleanIndexError)):
        text = (
            f"{likelihood.name} needs the concrete value of a parameter or of data while it is traced (Python if, "
            "float(), int(), boolean indexing, a shape computed from values).  Use jnp.where instead of if; pass sizes, "
            f"lags and numbers of categories as mle.Static(value).  {said}"
        )
        return _calls_math(likelihood, error) or linked(LikelihoodError(text), "concrete-value")
    if isinstance(error, AttributeError):
        return _wrong_attribute(likelihood, space, error)
    if isinstance(error, KeyError):
        return _wrong_key(likelihood, table, space, error)
    if not isinstance(error, (TypeError, ValueError)):
        return None
    if type(error) is TypeError and (called := _calls_math(likelihood, error)) is not None:
        return called
    outside = tables_outside(likelihood)
    if reads and table.kind == "mapping":
        table.length(reads)  # columns of different lengths: a clearer message than JAX's on broadcasting
        if not isinstance(error, (DataError, LikelihoodError)) and _about_shapes(error):
            return LikelihoodError(
                f"{likelihood.name} cannot combine what it read: {_shapes(table, reads, structs)}.  "
                + (outside or "Check that each column has one value per row.  ")
                + said
            )
    if outside and not isinstance(error, (DataError, LikelihoodError)):
        text = f"{likelihood.name} fails.  {outside}The error: {(str(error) or type(error).__name__).splitlines()[0]}"
        return linked(LikelihoodError(text), "outside-table")
    return None


def _calls_math(likelihood: Likelihood, error: BaseException) -> LikelihoodError | None:
    """Return the error for functions of Python's math, if the user's function calls some; otherwise None."""
    called = scalar_functions(error)
    if not called:
        return None
    return linked(
        LikelihoodError(
            f"{likelihood.name} calls {called}, which takes one number and cannot be differentiated: write "
            f"{called.replace('math.', 'jnp.')} (import jax.numpy as jnp), which takes arrays"
        ),
        "math",
    )


def _wrong_attribute(likelihood: Likelihood, space: Space, error: AttributeError) -> Exception:
    """Return the error for a parameter that was read as an attribute; other errors unchanged."""
    if isinstance(error.obj, dict) and error.name in [group.name for group in space.groups]:
        said = f"{likelihood.name} reads params.{error.name}: a parameter is read as params[{error.name!r}]"
        return linked(LikelihoodError(said), "attributes")
    return error


def _wrong_key(likelihood: Likelihood, table: Table, space: Space, error: KeyError) -> Exception:
    """Return the error for a name that is neither a parameter nor a column, or that was looked up in the wrong argument; a column
    that does not exist, or a key in a model without named parameters, keeps its own error.
    """
    params = [group.name for group in space.groups if group.name is not None]
    missing = isinstance(error, MissingColumnError)
    key = error.args[-1] if error.args else None
    name = likelihood.name
    if (missing and key in params) or (not missing and key in table):
        there, kind = ("data", "a parameter") if missing else ("params", "a column of the data")
        return linked(
            LikelihoodError(
                f"{name} reads {there}[{key!r}], but {key!r} is {kind}: expected a function of (params, data), in this order"
            ),
            "swapped-arguments",
        )
    if missing or not isinstance(key, str) or not params:
        return error
    return linked(
        LikelihoodError(
            f"{name} looks up {key!r}, which is not declared{near(key, params)}; the parameters are {', '.join(params)}.  "
            f"Declare it, @mle.model(..., {key}=mle.Real()), or correct the name"
        ),
        "undeclared",
    )


def _about_shapes(error: Exception) -> bool:
    """True if JAX's error message is about shapes (its exceptions have no class of their own for them)."""
    text = str(error).lower()
    return any(word in text for word in ("shape", "broadcast", "dot_general", "dimension"))


def _shapes(table: Table, reads: set[Any], structs: PyTree) -> str:
    """Return a phrase with the shapes of the columns that were read before the function failed: ``'y' of shape (12, 2), 'x'
    of shape (12,)``; ``structs``: the abstract columns of the table.
    """
    view = table.view(structs, set())
    parts = []
    for name in sorted(reads, key=str):
        shapes = [tuple(leaf.shape) for leaf in jax.tree.leaves(view[name]) if hasattr(leaf, "shape")]
        parts.append(f"{name!r} of shape {shapes[0] if len(shapes) == 1 else shapes}")
    return ", ".join(parts)
