"""Warnings about the code of a traced function: float32 constants, random numbers, inaccurate functions, calls that can
deadlock.
"""

from __future__ import annotations

import inspect
import math
import random
import traceback
from collections.abc import Iterator
from functools import cache
from math import lgamma as gamma_log
from types import CodeType
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from mlejax import misuse
from mlejax.execution import lapack, limits
from mlejax.execution.trace.jaxprs import Equation, Program, closed_over, inner_programs, is_literal
from mlejax.likelihood.declaration import Likelihood, LikelihoodError
from mlejax.likelihood.forms.regressed import Regressed
from mlejax.parameters import Space
from mlejax.shapes import DTypeLike

_LAST_OF_ALGDIV = -0.165322962780713e-02  # a coefficient of the series in JAX's betaln, by which its use is recognised
_RANDOM = frozenset(("random_bits", "random_seed", "random_wrap", "threefry2x32", "rng_bit_generator", "random_gamma"))
_GENERATORS = frozenset(("default_rng", "RandomState"))


DRAWS = (
    "draws random numbers: a log-likelihood must be a function of its parameters and data, evaluated on blocks of rows which "
    "would all get the same draws.  Draw once outside, and pass the draws as a column or as mle.Shared(draws)"
)


def warn_of_constants(likelihood: Likelihood, program: Any, draws: bool) -> None:
    """Warn of float32 constants in a float64 fit, and of random numbers of JAX or of a generator that the function makes.

    Args:
        likelihood: the declaration.
        program: the traced program of its function.
        draws: True if NumPy or Python drew random numbers while the function was traced.

    Raises:
        LikelihoodError: ``draws`` is True.
    """
    name = likelihood.name
    shown = outside(likelihood, dtype=np.float32)
    if not shown:
        shapes = (np.shape(c) for c in closed_over(program) if getattr(c, "dtype", None) == np.float32)
        shown = ", ".join(f"of shape {shape}" for shape in shapes)
    if shown and jnp.result_type(float) == np.float64:
        misuse.warn(
            f"{name} uses float32 constants that were made outside the function: {shown}.  What is computed from them alone is "
            "computed in float32, although the fit is in float64.  Make them with NumPy (np.arange for jnp.arange), or inside "
            "the function",
            RuntimeWarning,
            "float32-constants",
            stacklevel=2,
        )
    if draws:
        raise misuse.linked(LikelihoodError(f"{name} {DRAWS}"), "random-numbers")
    if any(eqn.primitive.name in _RANDOM for eqn in _equations(program)) or _makes_generators(likelihood):
        misuse.warn(
            f"{name} {DRAWS}",
            RuntimeWarning,
            "random-numbers",
            stacklevel=2,
        )


def warn_of_betaln(likelihood: Likelihood, program: Program) -> None:
    """Warn if the traced program uses JAX's betaln, in float64 and in a version of JAX in which that is inaccurate.

    The use is recognised by a coefficient of its series.
    """
    numbers = (np.asarray(v.val) for eqn in _equations(program) for v in eqn.invars if is_literal(v))
    used = any(x.shape == () and x.dtype.kind == "f" and abs(float(x) - _LAST_OF_ALGDIV) < 1e-10 for x in numbers)
    if used and jnp.result_type(float) == np.float64 and _betaln_error() > 1e-9:
        misuse.warn(
            f"{likelihood.name} uses jax.scipy.special.betaln (jax.scipy.stats.beta and betabinom call it), which is wrong by up "
            "to 1e-6 in this JAX where its larger argument is 8 or more; estimates follow.  Use mle.special.betaln: the "
            "log-density of a beta is (a - 1) * jnp.log(y) + (b - 1) * jnp.log1p(-y) - mle.special.betaln(a, b)",
            RuntimeWarning,
            "betaln",
            stacklevel=2,
        )


@cache
def _betaln_error() -> float:
    return abs(float(jax.scipy.special.betaln(2.5, 9.0)) - (gamma_log(2.5) + gamma_log(9.0) - gamma_log(11.5)))


def warn_of_waiting(likelihood: Likelihood, space: Space, calls: list[tuple[int, int]]) -> None:
    """Warn of a large call of LAPACK for many matrices inside the user's function, which can deadlock and cannot be split from
    outside; not for row-wise models, and not with a version of jaxlib that does not have this defect.

    A call is large if its operations, times the number of free parameters, exceed ``Limits.lapack_work``.  ``calls``: for each
    call the number of matrices and the approximate number of operations on one.
    """
    m = max((m for m, work in calls if m > 1 and m * work * max(space.n_free, 1) > limits().lapack_work), default=0)
    if m and likelihood.mode != "rows" and lapack.splits_large_calls():
        whole = likelihood.mode == "whole"
        by_unit = "Declare unit= and write the function for one matrix, or use" if whole else "Use"
        misuse.warn(
            f"{likelihood.name} factorises {m} matrices in one call of LAPACK, which this jaxlib splits among the threads that "
            "such calls run on: on few cores two calls can wait for each other for ever (a deadlock).  "
            f"{by_unit} jax.lax.map in the place of jax.vmap, or jaxlib 0.12, which does not split them",
            RuntimeWarning,
            "lapack",
            stacklevel=2,
        )


def _equations(program: Program) -> Iterator[Equation]:
    for eqn in program.eqns:
        yield eqn
        for inner in inner_programs(eqn):
            yield from _equations(inner)


def _function(likelihood: Likelihood) -> Any:
    """Return the function that the user wrote, without what wraps or decorates it."""
    function = likelihood.function
    return inspect.unwrap(function.function if isinstance(function, Regressed) else function)


def _taken(likelihood: Likelihood) -> dict[str, Any]:
    """Return the globals and closure variables that the function uses, by name; empty for an object that is called."""
    try:
        names = inspect.getclosurevars(_function(likelihood))
    except TypeError:  # a callable object
        return {}
    return {**names.globals, **names.nonlocals}


def outside(likelihood: Likelihood, n: int | None = None, dtype: DTypeLike | None = None) -> str:
    """Return a phrase that names the arrays, with their shapes, that the function takes from outside; empty if there are none.

    ``n``: only those with n rows, if given.  ``dtype``: only those of this type, if given; otherwise tables too.
    """
    found = [
        f"{name} (shape {np.shape(value)})"
        for name, value in _taken(likelihood).items()
        if (isinstance(value, (np.ndarray, np.floating, jax.Array)) or (dtype is None and is_table(value)))
        and (n is None or np.shape(value)[:1] == (n,))
        and (dtype is None or value.dtype == dtype)
    ]
    return ", ".join(found)


def is_table(value: Any) -> bool:
    """True for a table or a column of pandas, polars or similar libraries."""
    return hasattr(value, "shape") and (hasattr(value, "columns") or hasattr(value, "to_numpy"))


def tables_outside(likelihood: Likelihood) -> str:
    """Return advice about tables that the function takes from outside; empty if there are none."""
    found = [name for name, value in _taken(likelihood).items() if is_table(value)]
    if not found:
        return ""
    return f"It uses {', '.join(found)} from outside: read columns from the second argument of the function, data['...'].  "


def generators(likelihood: Likelihood) -> list[Any]:
    """Return the random generators that the function takes from outside."""
    return [v for v in _taken(likelihood).values() if isinstance(v, (np.random.Generator, random.Random))]


def _makes_generators(likelihood: Likelihood) -> bool:
    """True if the function makes a NumPy random generator each time it is traced."""
    codes = [getattr(_function(likelihood), "__code__", None)]
    for code in codes:
        if code is not None:
            if not _GENERATORS.isdisjoint(code.co_names):
                return True
            codes += [inner for inner in code.co_consts if isinstance(inner, CodeType)]
    return False


def scalar_functions(error: BaseException) -> str:
    """Return the functions of Python's math (``math.exp, math.log``) that are used where the error arose, in the innermost
    function that is not JAX's; empty if there are none.
    """
    frames = [
        frame for frame, _ in traceback.walk_tb(error.__traceback__) if "jax" not in frame.f_globals.get("__name__", "")
    ]
    code, taken = frames[-1].f_code, frames[-1].f_globals
    names = [name for name in code.co_names if callable(getattr(math, name, None))]
    own = [name for name in names if getattr(taken.get(name), "__module__", "") == "math"]
    by_module = [name for name in names if any(taken.get(other) is math for other in code.co_names)]
    return ", ".join(f"math.{name}" for name in dict.fromkeys([*own, *by_module]))
