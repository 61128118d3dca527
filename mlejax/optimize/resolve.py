"""Convert the user's `method=` to a `Method`."""

from __future__ import annotations

import difflib
from typing import Any, Literal, TypeAlias

from mlejax.optimize.method import Method, Transformation
from mlejax.optimize.methods import BHHH, EM, LBFGS, Adam, FirstOrder, Newton

__all__ = ["MethodLike", "resolve"]

MethodLike: TypeAlias = Literal["newton", "bhhh", "lbfgs", "adam"] | Method | type[Method] | Transformation

NAMES: dict[str, Any] = {"newton": Newton, "bhhh": BHHH, "lbfgs": LBFGS, "adam": Adam, "em": EM}


def resolve(method: Any) -> Method:
    """Return the `Method` for what a user gave as ``method=``.

    Args:
        method: "newton", "bhhh", "lbfgs", "adam" or "em" in any case, a `Method`, a class of this package, or an optax
            transformation.

    Returns:
        A frozen, hashable method.

    Raises:
        ValueError: an unknown name, with near matches, or an object of another kind.
        TypeError: a method that is not hashable, or lacks a part of `Method`.

    Example:
        >>> from mlejax.optimize import resolve
        >>> resolve("newton")
        Newton(tol=1e-10, max_steps=500)
        >>> resolve("newtom")
        Traceback (most recent call last):
        ...
        ValueError: unknown method 'newtom': did you mean 'newton'? Expected 'newton', 'bhhh', 'lbfgs', 'adam', 'em', ...
    """
    if isinstance(method, str):
        name = method.lower().replace("-", "").replace("_", "").strip()
        if name in NAMES:
            return NAMES[name]()
        near = difflib.get_close_matches(name, NAMES, n=2, cutoff=0.6)
        hint = f" did you mean {' or '.join(map(repr, near))}?" if near else ""
        raise ValueError(f"unknown method {method!r}:{hint} Expected {_EXPECTED}")
    if isinstance(method, type) and method in NAMES.values():
        return method()
    if not isinstance(method, type) and all(callable(getattr(method, part, None)) for part in ("propose", "update")):
        return _complete(method)
    if callable(getattr(method, "init", None)) and callable(getattr(method, "update", None)):
        return FirstOrder(method)
    raise ValueError(f"unknown method {method!r}. Expected {_EXPECTED}")


def _complete(method: Any) -> Method:
    """Return a user's method unchanged; TypeError if it lacks an attribute of `Method` or is not hashable."""
    missing = [part for part in ("tol", "max_steps", "curvature", "init", "evaluate") if not hasattr(method, part)]
    if missing:
        raise TypeError(f"method {method!r} has no {', '.join(missing)}: derive its class from mle.Method")
    try:
        hash(method)
    except TypeError as error:
        raise TypeError(f"method {method!r} is not hashable: make its class a frozen dataclass") from error
    return method


_EXPECTED = (
    ", ".join(map(repr, NAMES))
    + ", a method such as Newton(tol=1e-8), or an optax gradient transformation such as optax.sgd(0.1)"
)
