"""Convert the user's `method=` to a `Method`."""

from __future__ import annotations

import difflib
from typing import Any, Literal, TypeAlias

from mlejax.optimize.method import Method, Transformation
from mlejax.optimize.method_checks import complete, made
from mlejax.optimize.methods import BHHH, EM, LBFGS, Adam, FirstOrder, Newton

__all__ = ["MethodLike", "evaluating", "named_newton", "resolve"]

MethodLike: TypeAlias = Literal["newton", "bhhh", "lbfgs", "adam", "em"] | Method | type[Method] | Transformation

NAMES: dict[str, Any] = {"newton": Newton, "bhhh": BHHH, "lbfgs": LBFGS, "adam": Adam, "em": EM}


def resolve(method: Any) -> Method:
    """Return the `Method` for what a user gave as ``method=``.

    Args:
        method: "newton", "bhhh", "lbfgs", "adam" or "em" (case, "-" and "_" do not matter), an instance of a `Method`, a class
            derived from it that needs no options, or an optax transformation.

    Returns:
        A hashable method: a new one for a name, a class or a transformation (`FirstOrder`), else ``method`` itself.

    Raises:
        ValueError: an unknown name, or an object of another kind; an invalid ``tol``, ``max_steps`` or ``curvature`` of a
            user's method.
        TypeError: a class that needs options; a user's method that is not hashable, lacks a part of `Method`, or whose functions
            cannot be traced, return another shape than they should, or change the structure or types of its state.

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
    if isinstance(method, type) and Method in method.__mro__:
        method = made(method)
    if type(method) in (*NAMES.values(), FirstOrder):
        return method
    if not isinstance(method, type) and all(callable(getattr(method, part, None)) for part in ("propose", "update")):
        return complete(method)
    if callable(getattr(method, "init", None)) and callable(getattr(method, "update", None)):
        return FirstOrder(method)
    raise ValueError(f"unknown method {method!r}. Expected {_EXPECTED}")


def named_newton(method: Any) -> bool:
    """True if ``method=`` is the name of Newton's method, as by default, and not an instance or a class; errors as in
    `resolve`.
    """
    return isinstance(method, str) and isinstance(resolve(method), Newton)


def evaluating(method: Method) -> Method:
    """Return a method that evaluates the same derivatives as ``method``: one for each ``curvature``, so that methods share
    compiled programs; ``method`` itself if it has its own ``evaluate``.
    """
    if type(method).evaluate is not Method.evaluate:
        return method
    return _EVALUATING[method.curvature]


_EVALUATING: dict[str, Method] = {"hessian": Newton(), "opg": BHHH(), "none": LBFGS()}
_EXPECTED = (
    ", ".join(map(repr, NAMES))
    + ", a method such as Newton(tol=1e-8), or an optax gradient transformation such as optax.sgd(0.1)"
)
