"""What a method of the user's own has to satisfy, checked before any data are read: its parts, and one turn that is traced."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import jax
import jax.numpy as jnp

from mlejax.execution import float64
from mlejax.optimize.box import setting_of
from mlejax.optimize.drivers import begin
from mlejax.optimize.method import Method, Point, Step, check_options
from mlejax.shapes import PyTree

__all__ = ["complete", "made"]

CURVATURES = ("none", "hessian", "opg")
P = 3  # parameters of the turn that is traced


def made(kind: type[Method]) -> Method:
    """The method of a class that was given in place of an instance; TypeError where it needs options."""
    try:
        return kind()
    except TypeError as error:
        name = kind.__name__
        raise TypeError(f"method={name} cannot be made without options ({error}): give an instance, {name}(...)") from error


def complete(method: Any) -> Method:
    """A user's method, if it has every part of `Method` and its functions can be traced."""
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
    """TypeError for functions whose results a compiled loop could not carry from turn to turn."""
    name, q = type(method).__name__, P if method.dense else 0
    with float64():
        u = jax.ShapeDtypeStruct((P,), jnp.float64)
        number = jax.ShapeDtypeStruct((), jnp.float64)
        point = Point(u, number, u, jax.ShapeDtypeStruct((q, q), jnp.float64))
        state = _traced(f"{name}.init", lambda u: jax.tree.map(jnp.asarray, begin(method, u).inner), u)
        trial = _traced(f"{name}.propose", method.propose, state, point)
        if getattr(trial, "shape", None) != (P,):
            raise TypeError(f"{name}.propose: expected an array like u, of shape ({P},), got {_shown(trial)}")

        def update(state: PyTree, kept: Point, new: Point, scale: Any) -> Any:
            after = method.update(state, kept, new, setting_of(kept.u, None, None, scale))
            if not (isinstance(after, tuple) and len(after) == 2 and isinstance(after[1], Step)):
                raise TypeError(f"expected a pair, the state and mle.Step(...), got {after!r:.60}")
            return jax.tree.map(jnp.asarray, after[0])

        after = _traced(f"{name}.update", update, state, point, point, number)
    if jax.tree.structure(state) != jax.tree.structure(after):
        raise TypeError(
            f"{name}.update: expected a state of the structure that init returns, {jax.tree.structure(state)}, got "
            f"{jax.tree.structure(after)}"
        )
    pairs = zip(jax.tree_util.tree_leaves_with_path(state), jax.tree.leaves(after), strict=True)
    for (path, before), now in pairs:
        if (before.shape, before.dtype) != (now.shape, now.dtype):
            raise TypeError(
                f"{name}.update: state{jax.tree_util.keystr(path)} is {_shown(before)} from init and {_shown(now)} from update; "
                f"a loop carries one type: .astype({before.dtype}) in update, or begin with {now.dtype} in init"
            )


def _traced(what: str, function: Any, *arguments: Any) -> Any:
    """Shapes and types that a function of the method returns; its errors with its name and the reason."""
    try:
        return jax.eval_shape(function, *arguments)
    except jax.errors.TracerBoolConversionError as error:
        raise TypeError(
            f"{what} branches on a value (if, and, or, while); it is traced: use jnp.where(condition, a, b)"
        ) from error
    except jax.errors.TracerArrayConversionError as error:
        raise TypeError(
            f"{what} hands a traced array to NumPy; use jax.numpy, or xp = mlejax.optimize.namespace(u), which is either"
        ) from error
    except Exception as error:
        error.add_note(f"in {what}, when it was traced with {P} parameters, before any data were read")
        raise


def _shown(array: Any) -> str:
    return f"{array.dtype}{array.shape}" if hasattr(array, "dtype") else repr(array)
