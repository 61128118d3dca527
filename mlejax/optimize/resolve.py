"""From what a user writes for `method=` to an algorithm."""

from __future__ import annotations

import difflib
from typing import Any

from mlejax.optimize.adam import Adam
from mlejax.optimize.bhhh import BHHH
from mlejax.optimize.contract import Method
from mlejax.optimize.first_order import FirstOrder
from mlejax.optimize.lbfgs import LBFGS
from mlejax.optimize.newton import Newton

__all__ = ["resolve"]

NAMES: dict[str, Any] = {"newton": Newton, "bhhh": BHHH, "lbfgs": LBFGS, "adam": Adam}


def resolve(method: Any) -> Method:
    """Algorithm that a user named.

    Args:
        method: "newton", "bhhh", "lbfgs" or "adam" in any case, an algorithm, its class, or an optax transformation.

    Returns:
        A frozen, hashable algorithm.

    Raises:
        ValueError: nothing of the kind, with near matches.

    Example:
        >>> from mlejax.optimize import resolve
        >>> resolve("newton")
        Newton(tol=1e-10, max_steps=500)
        >>> resolve("newtom")
        Traceback (most recent call last):
        ...
        ValueError: unknown method 'newtom': did you mean 'newton'? Expected 'newton', 'bhhh', 'lbfgs', 'adam', ...
    """
    if isinstance(method, str):
        name = method.lower().replace("-", "").replace("_", "").strip()
        if name in NAMES:
            return NAMES[name]()
        near = difflib.get_close_matches(name, NAMES, n=2, cutoff=0.5)
        hint = f" did you mean {' or '.join(map(repr, near))}?" if near else ""
        raise ValueError(f"unknown method {method!r}:{hint} Expected {_EXPECTED}")
    if isinstance(method, type) and method in NAMES.values():
        return method()
    if all(callable(getattr(method, part, None)) for part in ("evaluate", "start", "update")):
        return method
    if callable(getattr(method, "init", None)) and callable(getattr(method, "update", None)):
        return FirstOrder(method)
    raise ValueError(f"unknown method {method!r}. Expected {_EXPECTED}")


_EXPECTED = (
    ", ".join(map(repr, NAMES))
    + ", an algorithm such as Newton(tol=1e-8), or an optax gradient transformation such as optax.sgd(0.1)"
)
