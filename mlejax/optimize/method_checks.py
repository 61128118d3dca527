"""Checks of a user's own method before any data are read: it has all parts of `Method`, and its functions can be traced."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from mlejax.execution import float64
from mlejax.optimize.box import setting_of
from mlejax.optimize.method import Method, Point, Step, check_options
from mlejax.shapes import Either, PyTree, Scalar

__all__ = ["complete", "made"]

CURVATURES = ("none", "hessian", "opg")
P = 3  # parameters of the turn that is traced


def made(kind: type[Method]) -> Method:
    """Return an instance of a class of methods; TypeError if the class cannot be called without options."""
    try:
        return kind()
    except TypeError as error:
        name = kind.__name__
        raise TypeError(f"method={name} cannot be made without options ({error}): give an instance, {name}(...)") from error


def complete(method: Any) -> Method:
    """Return a user's method, after checks.

    Raises:
        TypeError: a part of `Method` is missing, the method is not hashable, or its functions cannot be traced or return what
            a compiled loop cannot use (`_check_turn`).
        ValueError: ``curvature`` is unknown, or ``tol`` or ``max_steps`` is not positive.
    """
    missing = [part for part in ("tol", "max_steps", "curvature", "init", "evaluate") if not hasattr(method, part)]
    if missing:
        raise TypeError(f"method {method!r} has no {', '.join(missing)}: derive its class from mle.Method")
    try:
        hash(method)
    except TypeError as error:
        raise TypeError(f"method {method!r} is not hashable: make its class a frozen dataclass") from error
    if method.curvature not in CURVATURES:
        expected = ", ".join(map(repr, CURVATURES))
        raise ValueError(f"{type(method).__name__}.curvature = {method.curvature!r}: expected one of {expected}")
    check_options(method)
    _check_turn(method)
    return method


@lru_cache(maxsize=64)
def _check_turn(method: Method) -> None:
    """Raise TypeError unless ``init``, ``propose`` and ``update`` can be traced (here with 3 parameters), ``propose`` returns
    an array like u, and ``update`` returns a `Step` and a state of the structure, shapes and dtypes that ``init`` returns.
    """
    name, q = type(method).__name__, P if method.dense else 0
    u, f, H = (jax.ShapeDtypeStruct(shape, np.float64) for shape in ((P,), (), (q, q)))

    def update(state: PyTree, u: Either, f: Scalar, H: Either) -> PyTree:
        point = Point(u, f, u, H)
        found = method.update(state, point, point, setting_of(u, None, None, f))
        if not (isinstance(found, tuple) and len(found) == 2 and isinstance(found[1], Step)):
            raise TypeError(f"expected a pair, the state and mle.Step(...), got {found!r:.60}")
        return jax.tree.map(jnp.asarray, found[0])

    with float64():
        state = _traced(f"{name}.init", lambda u: jax.tree.map(jnp.asarray, method.init(u)), u)
        propose = lambda state, u, f, H: method.propose(state, Point(u, f, u, H))
        trial = _traced(f"{name}.propose", propose, state, u, f, H)
        if getattr(trial, "shape", None) != (P,):
            raise TypeError(
                f"{name}.propose: expected an array like u, of shape ({P},), got {_shown(trial)} (when it was traced with {P} "
                "parameters): return the next point, such as kept.u plus a step"
            )
        after = _traced(f"{name}.update", update, state, u, f, H)
    first, then = (str(jax.tree.structure(found)) for found in (state, after))
    if first != then:
        raise TypeError(f"{name}.update: expected a state of the structure that init returns, {first}, got {then}")
    pairs = zip(jax.tree_util.tree_leaves_with_path(state), jax.tree.leaves(after), strict=True)
    for (path, before), now in pairs:
        if (before.shape, before.dtype) != (now.shape, now.dtype):
            raise TypeError(
                f"{name}.update: state{jax.tree_util.keystr(path)} is {_shown(before)} from init and {_shown(now)} from update; "
                f"expected one shape and dtype in both: .astype({before.dtype}) in update, or begin with {now.dtype} in init"
            )


def _traced(what: str, function: Any, *arguments: Any) -> Any:
    """Return the shapes and dtypes of what a function of a user's method returns, by tracing it.

    Args:
        what: the name of the function, for messages.
        function, arguments: the function and the shapes of its arguments.

    Raises:
        TypeError: the function branches on a traced value or converts one to NumPy. Other errors are those of the function.
    """
    try:
        return jax.eval_shape(function, *arguments)
    except jax.errors.TracerBoolConversionError as error:
        raise TypeError(
            f"{what} branches on a value (if, and, or, while), but JAX traces it: use jnp.where(condition, a, b)"
        ) from error
    except jax.errors.TracerArrayConversionError as error:
        raise TypeError(
            f"{what} hands a traced array to NumPy: use jax.numpy, or xp = mlejax.optimize.namespace(u), the module that fits u"
        ) from error
    except Exception as error:
        error.add_note(f"in {what}, when it was traced with {P} parameters, before any data were read")
        raise


def _shown(array: Any) -> str:
    return f"{array.dtype}{array.shape}" if hasattr(array, "dtype") else repr(array)
