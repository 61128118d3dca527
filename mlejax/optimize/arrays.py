"""Array functions that work both on NumPy arrays and on JAX arrays (traced or not).

A trust-region step is a few dozen operations on a p x p matrix. Compiling them takes seconds (about 120 small kernels, four
times the value, score and Hessian of a typical likelihood); in NumPy they take a fraction of a millisecond. A single fit
therefore computes its steps in NumPy; batches and the pure core trace the same functions.

    xp = namespace(u)
    xp.sqrt(u)

The functions below have different names, or different costs, in NumPy and JAX. On NumPy arrays, call them under
``np.errstate(all="ignore")``, since both branches of a ``where`` are computed.
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
    """Return the module `numpy` for NumPy arrays and scalars and Python numbers, else `jax.numpy`.

    Example:
        >>> import numpy as np
        >>> from mlejax.optimize.arrays import namespace
        >>> namespace(np.zeros(2)) is np
        True
    """
    return np if isinstance(x, HOST) else jnp


def scalar(x: Any, dtype: Any) -> Any:
    """Return x as a scalar of the given dtype: of a NumPy array or a Python number a NumPy scalar (faster than an array of shape
    ()), else a JAX array.
    """
    if isinstance(x, np.generic) and x.dtype == dtype:
        return x
    return np.dtype(dtype).type(x) if isinstance(x, HOST) else jnp.asarray(x, dtype)


def not_(flag: Any) -> Any:
    """Return the logical negation of a flag, ``~flag``; for `np.bool_` by a faster operation."""
    return flag ^ np.True_ if isinstance(flag, np.bool_) else ~flag


def maximum(a: Any, b: Any) -> Any:
    """Return the elementwise maximum of a and b, NaN where one is NaN; two floats are compared in Python, ten times as fast as by
    `np.maximum`.
    """
    if isinstance(a, NUMBER) and isinstance(b, NUMBER):
        chosen = a if a >= b or a != a else b
        return np.float64(chosen) if type(chosen) is float else chosen
    return (np if isinstance(a, HOST) and isinstance(b, HOST) else jnp).maximum(a, b)


def all_finite(f: Any, g: Any, H: Any) -> Flag:
    """Return True, (), if all entries of a value (), its gradient (p,) and its curvature matrix (q, q) are finite."""
    if isinstance(g, np.ndarray):
        return np.bool_(math.isfinite(f) and linalg.all_finite(g) and linalg.all_finite(H))
    return jnp.isfinite(f) & jnp.isfinite(g).all() & jnp.isfinite(H).all()


def norm(x: Float[Either, " p"]) -> Scalar:
    """Return the Euclidean norm of a vector, (), as the root of a sum of squares."""
    return np.sqrt(x.dot(x)) if isinstance(x, HOST) else jnp.sqrt((x * x).sum())


def select(condition: Any, a: Tuple, b: Tuple) -> Tuple:
    """Return the named tuple ``a`` if the scalar condition holds, else ``b``; their arrays have the same shapes."""
    if isinstance(condition, HOST):
        return a if condition else b
    return a.__class__(*(jnp.where(condition, x, y) for x, y in zip(a, b, strict=True)))


def possible(flag: Flag) -> bool:
    """Return False only if the flag is known to be False (NumPy); True for JAX arrays, which may be traced.

    Example:
        >>> import numpy as np
        >>> possible(np.bool_(False)), possible(jnp.asarray(False))
        (False, True)
    """
    return bool(flag) if isinstance(flag, HOST) else True


def where(condition: Flag, a: Any, b: Any) -> Any:
    """Return ``a`` where ``condition`` holds, else ``b``, elementwise; of a NumPy scalar condition ``a`` or ``b`` itself, a
    hundred times as fast as `np.where`.

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
    """Return a context in which JAX promotes dtypes and ranks implicitly, as optax needs, even if the user's settings forbid
    it.
    """
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        yield


def push(history: Shaped[Either, " k"], value: Any, wanted: Flag) -> Shaped[Either, " k"]:
    """Return the history (k,) without its first entry and with ``value`` as its last if ``wanted``, else the history itself."""
    if isinstance(history, HOST):
        return np.array([*history.tolist()[1:], value], history.dtype) if wanted else history
    longer = jnp.concatenate([history[1:], jnp.asarray(value, history.dtype).reshape(1)])
    return jnp.where(wanted, longer, history)


@jax.custom_batching.sequential_vmap
def _eigh_one_by_one(A: Float[jax.Array, "p p"]) -> tuple[Float[jax.Array, " p"], Float[jax.Array, "p p"]]:
    """Return what `jnp.linalg.eigh` returns; under `vmap` matrices are decomposed in a loop, one after the other."""
    values, vectors = jnp.linalg.eigh(A)
    return values, vectors


def eigh(A: Float[Either, "p p"]) -> tuple[Float[Either, " p"], Float[Either, "p p"]]:
    """Return the eigenvalues (p,), ascending, and the eigenvectors, columns of (p, p), of a symmetric matrix of finite entries.

    Under `vmap` on the CPU matrices of more than `linalg.UNROLLED` rows are decomposed one after the other (see
    `execution.lapack`).
    """
    if namespace(A) is np:
        values, vectors = np.linalg.eigh(A)
    elif on_cpu() and A.shape[-1] > linalg.UNROLLED:
        values, vectors = _eigh_one_by_one(A)
    else:
        values, vectors = jnp.linalg.eigh(A)
    return values, vectors


def solve_scaled(A: Any, b: Any) -> tuple[Any, Any, Any]:
    """Solve A x = b for a symmetric matrix A (p, p): return x (p,), b'x () and whether A is safely positive definite (); if it
    is not, x and b'x are those that `linalg.solve_scaled` returns.
    """
    return linalg.solve_scaled_host(A, b) if namespace(A) is np else linalg.solve_scaled(A, b)


def while_loop(more: Callable[[T], Any], body: Callable[[T], T], state: T) -> T:
    """Apply ``body`` to the state while ``more(state)`` is True, and return the last state: by `jax.lax.while_loop`, or by a
    Python loop if the first array of the state is a NumPy array.
    """
    if namespace(jax.tree.leaves(state)[0]) is np:
        while more(state):
            state = body(state)
        return state
    return jax.lax.while_loop(more, body, state)
