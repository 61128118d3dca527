"""One set of formulas, two array namespaces: `jax.numpy` inside a trace, NumPy on the host.

A trust-region step is a few dozen operations on a p x p matrix. Compiling them takes seconds (about 120 small kernels, four
times the value, score and Hessian of a typical likelihood); in NumPy they take a fraction of a millisecond. A single fit
therefore takes its steps on the host; batches and the pure core trace the same functions.

    xp = namespace(u)
    xp.sqrt(u)

The functions below have different names, or different costs, in the two namespaces. Call NumPy's under
``np.errstate(all="ignore")``, since both sides of a ``where`` are computed.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np

from mlejax import linalg
from mlejax.execution import on_cpu
from mlejax.shapes import Either, Flag, Float, Scalar, Shaped

__all__ = [
    "all_finite", "eigh", "maximum", "namespace", "norm", "not_", "possible", "promoting", "push", "scalar", "select",
    "solve_scaled", "where", "while_loop",
]  # fmt: skip

NUMBER = (np.floating, float)
HOST = (np.ndarray, np.generic, float, int)
T = TypeVar("T")
Tuple = TypeVar("Tuple", bound=tuple[Any, ...])


def namespace(x: object) -> ModuleType:
    """NumPy for NumPy's arrays and scalars, else `jax.numpy`.

    Example:
        >>> import numpy as np
        >>> from mlejax.optimize.arrays import namespace
        >>> namespace(np.zeros(2)) is np
        True
    """
    return np if isinstance(x, HOST) else jnp


def scalar(x: Any, dtype: Any) -> Any:
    """x in the given type, (): on the host one of NumPy's scalars, which are ten times as fast as its arrays of shape ()."""
    if isinstance(x, np.generic) and x.dtype == dtype:
        return x
    return np.dtype(dtype).type(x) if isinstance(x, HOST) else jnp.asarray(x, dtype)


def not_(flag: Any) -> Any:
    """``~flag``, (): of NumPy's flags by a quicker operation."""
    return flag ^ np.True_ if isinstance(flag, np.bool_) else ~flag


def maximum(a: Any, b: Any) -> Any:
    """As `jnp.maximum`; of two numbers on the host a plain choice, for which `np.maximum` takes ten times as long."""
    if isinstance(a, NUMBER) and isinstance(b, NUMBER):
        chosen = a if a >= b or a != a else b
        return np.float64(chosen) if type(chosen) is float else chosen
    return (np if isinstance(a, HOST) and isinstance(b, HOST) else jnp).maximum(a, b)


def all_finite(f: Any, g: Any, H: Any) -> Flag:
    """Whether a value (), its gradient (p,) and its curvature (q, q) are finite throughout, ()."""
    if isinstance(g, np.ndarray):
        return np.bool_(math.isfinite(f) and linalg.all_finite(g) and linalg.all_finite(H))
    return jnp.isfinite(f) & jnp.isfinite(g).all() & jnp.isfinite(H).all()


def norm(x: Float[Either, " p"]) -> Scalar:
    """The length of a vector, by a sum of squares: under `vmap` no library is called for it."""
    return np.sqrt(x.dot(x)) if isinstance(x, HOST) else jnp.sqrt((x * x).sum())


def select(condition: Any, a: Tuple, b: Tuple) -> Tuple:
    """One of two named tuples of arrays of the same shapes."""
    if isinstance(condition, HOST):
        return a if condition else b
    return a.__class__(*(jnp.where(condition, x, y) for x, y in zip(a, b, strict=True)))


def possible(flag: Flag) -> bool:
    """False only for a flag of NumPy that is not set: what depends on it need not be computed.

    Example:
        >>> import numpy as np
        >>> possible(np.bool_(False)), possible(jnp.asarray(False))
        (False, True)
    """
    return bool(flag) if isinstance(flag, HOST) else True


def where(condition: Flag, a: Any, b: Any) -> Any:
    """As `jnp.where`; with one flag of NumPy a plain choice, for which `np.where` takes a hundred times as long.

    Example:
        >>> import numpy as np
        >>> where(np.bool_(True), 1.0, np.zeros(2)), where(np.array([True, False]), 1.0, 0.0).tolist()
        (np.float64(1.0), [1.0, 0.0])
    """
    if isinstance(condition, np.generic):
        chosen = a if condition else b
        return np.float64(chosen) if type(chosen) is float else chosen
    return namespace(condition).where(condition, a, b)


@contextmanager
def promoting() -> Iterator[None]:
    """A scope for optax's own arithmetic, which promotes types and ranks also where the user's JAX is set to refuse that."""
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        yield


def push(history: Shaped[Either, " k"], value: Any, wanted: Flag) -> Shaped[Either, " k"]:
    """A history without its oldest entry and with a value added at its end, if wanted."""
    if isinstance(history, HOST):
        return np.array([*history.tolist()[1:], value], history.dtype) if wanted else history
    longer = jnp.concatenate([history[1:], jnp.asarray(value, history.dtype).reshape(1)])
    return jnp.where(wanted, longer, history)


@jax.custom_batching.sequential_vmap
def _eigh_one_by_one(A: Float[jax.Array, "p p"]) -> tuple[Float[jax.Array, " p"], Float[jax.Array, "p p"]]:
    values, vectors = jnp.linalg.eigh(A)
    return values, vectors


def eigh(A: Float[Either, "p p"]) -> tuple[Float[Either, " p"], Float[Either, "p p"]]:
    """Eigenvalues (p,) and vectors (p, p); under `vmap` on the CPU one matrix at a time (see `execution.lapack`)."""
    if namespace(A) is np:
        values, vectors = np.linalg.eigh(A)
    elif on_cpu() and A.shape[-1] > linalg.UNROLLED:
        values, vectors = _eigh_one_by_one(A)
    else:
        values, vectors = jnp.linalg.eigh(A)
    return values, vectors


def solve_scaled(A: Any, b: Any) -> tuple[Any, Any, Any]:
    """`linalg.solve_scaled`: the solution x (p,), b'x (), and whether A is safely positive definite ()."""
    return linalg.solve_scaled_host(A, b) if namespace(A) is np else linalg.solve_scaled(A, b)


def while_loop(more: Callable[[T], Any], body: Callable[[T], T], state: T) -> T:
    """As `jax.lax.while_loop`."""
    if namespace(jax.tree.leaves(state)[0]) is np:
        while more(state):
            state = body(state)
        return state
    return jax.lax.while_loop(more, body, state)
