"""One set of formulas, two kinds of arrays: JAX inside a trace, NumPy on the host.

A trust-region step is a few dozen operations on a p x p matrix. Compiled, they cost seconds (about 120 small kernels, four
times the value, score and Hessian of a typical likelihood), in NumPy a tenth of a millisecond a turn. A single fit
therefore takes its steps on the host; `vmap`, `lax.map` and the pure core trace the same functions.

    xp = arrays(u)
    xp.where(u > 0, a, b)

On the host every scalar is a NumPy scalar (`np.float64`, `np.bool_`), for which `~` and `&` mean what they mean for
arrays, and `where` with a scalar condition hands on one of its two sides.  What only one side of a scalar condition needs
is left out where `never(condition)` or `surely(condition)` says so, which they do on the host alone: there a turn takes the
time of its operations, not of the data.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from mlejax.execution import on_cpu
from mlejax.linalg import FEW, UNROLLED, all_finite, solve_scaled, solve_scaled_host

__all__ = ["HOST", "TRACED", "arrays"]


@jax.custom_batching.sequential_vmap
def _eigh_alone(a: Any) -> tuple[Any, Any]:
    values, vectors = jnp.linalg.eigh(a)
    return values, vectors


def _eigh(a: Any) -> tuple[Any, Any]:
    """Eigenvalues and vectors; on the CPU of one matrix after the other (`lapack.side_by_side` says why)."""
    if on_cpu() and a.shape[-1] > UNROLLED:
        values, vectors = _eigh_alone(a)
    else:
        values, vectors = jnp.linalg.eigh(a)
    return values, vectors


class _Traced:
    """The JAX side."""

    where = staticmethod(jnp.where)
    maximum = staticmethod(jnp.maximum)
    minimum = staticmethod(jnp.minimum)
    abs = staticmethod(jnp.abs)
    sqrt = staticmethod(jnp.sqrt)
    exp = staticmethod(jnp.exp)
    log = staticmethod(jnp.log)
    clip = staticmethod(jnp.clip)
    isfinite = staticmethod(jnp.isfinite)
    concatenate = staticmethod(jnp.concatenate)
    asarray = staticmethod(jnp.asarray)
    zeros = staticmethod(jnp.zeros)
    full = staticmethod(jnp.full)
    broadcast_to = staticmethod(jnp.broadcast_to)
    eye = staticmethod(jnp.eye)
    eigh = staticmethod(_eigh)
    solve_scaled = staticmethod(solve_scaled)
    while_loop = staticmethod(jax.lax.while_loop)
    fori_loop = staticmethod(jax.lax.fori_loop)

    @staticmethod
    def either(condition: Any, a: Any, b: Any) -> Any:
        """One of two named tuples of arrays."""
        return a.__class__(*(jnp.where(condition, x, y) for x, y in zip(a, b, strict=True)))

    @staticmethod
    def never(condition: Any) -> bool:
        """Whether a scalar condition is known not to hold, so that what only it needs can be left out."""
        return False

    @staticmethod
    def surely(condition: Any) -> bool:
        """Whether a scalar condition is known to hold."""
        return False

    @staticmethod
    def positive(x: Any) -> Any:
        """x, with 1 for what is not positive."""
        return jnp.where(x > 0, x, 1.0)

    @staticmethod
    def norm(x: Any) -> Any:
        """The length of a vector, by a sum of squares: under `vmap` no library is called for it."""
        return jnp.sqrt((x * x).sum())

    @staticmethod
    def all_finite(f: Any, g: Any, H: Any) -> Any:
        """Whether a number, a vector and a matrix are finite throughout."""
        return jnp.isfinite(f) & jnp.isfinite(g).all() & jnp.isfinite(H).all()

    @staticmethod
    def push(history: Any, value: Any, wanted: Any) -> Any:
        """A history with its oldest entry dropped and a value added at its end, if wanted."""
        longer = jnp.concatenate([history[1:], jnp.asarray(value, history.dtype).reshape(1)])
        return jnp.where(wanted, longer, history)

    @staticmethod
    def integer(x: Any) -> Any:
        """x as int32."""
        return jnp.asarray(x, jnp.int32)

    @staticmethod
    def scalar(x: Any, dtype: Any) -> Any:
        """x, one number, in the given type."""
        return jnp.asarray(x, dtype)


_PYTHON = frozenset((float, int, bool))
_SCALARS = frozenset((float, np.float64))


class _Host:
    """The NumPy side; call it under `np.errstate`, since both sides of a `where` are computed."""

    abs = staticmethod(abs)
    sqrt = staticmethod(np.sqrt)
    exp = staticmethod(np.exp)
    log = staticmethod(np.log)
    clip = staticmethod(np.clip)
    isfinite = staticmethod(np.isfinite)
    concatenate = staticmethod(np.concatenate)
    asarray = staticmethod(np.asarray)
    zeros = staticmethod(np.zeros)
    full = staticmethod(np.full)
    broadcast_to = staticmethod(np.broadcast_to)
    eye = staticmethod(np.eye)
    eigh = staticmethod(np.linalg.eigh)
    solve_scaled = staticmethod(solve_scaled_host)
    never = staticmethod(operator.not_)
    surely = staticmethod(operator.truth)

    @staticmethod
    def where(condition: Any, yes: Any, no: Any) -> Any:
        """Entry by entry, or one side as it is where the condition is a scalar."""
        if condition.__class__ is not np.bool_ and condition.ndim:
            return np.where(condition, yes, no)
        side = yes if condition else no
        return np.asarray(side)[()] if side.__class__ in _PYTHON else side

    @staticmethod
    def either(condition: Any, a: Any, b: Any) -> Any:
        """One of two named tuples of arrays."""
        return a if condition else b

    @staticmethod
    def maximum(a: Any, b: Any) -> Any:
        """The larger one, entry by entry; NaN where one of them is."""
        if a.__class__ in _SCALARS and b.__class__ in _SCALARS:  # a tenth of the time of the general function
            larger = a if a > b or a != a else b
            return larger if larger.__class__ is np.float64 else np.float64(larger)
        return np.maximum(a, b)

    @staticmethod
    def minimum(a: Any, b: Any) -> Any:
        """The smaller one, entry by entry; NaN where one of them is."""
        if a.__class__ in _SCALARS and b.__class__ in _SCALARS:
            smaller = a if a < b or a != a else b
            return smaller if smaller.__class__ is np.float64 else np.float64(smaller)
        return np.minimum(a, b)

    @staticmethod
    def positive(x: Any) -> Any:
        """x, with 1 for what is not positive."""
        least = min(x.tolist()) if x.size <= FEW else x.min()
        return x if least > 0 else np.where(x > 0, x, 1.0)

    @staticmethod
    def norm(x: Any) -> Any:
        """The length of a vector."""
        return np.float64(math.hypot(*x.tolist())) if x.size <= FEW else np.sqrt(x.dot(x))

    @staticmethod
    def all_finite(f: Any, g: Any, H: Any) -> Any:
        """Whether a number, a vector and a matrix are finite throughout."""
        return np.bool_(math.isfinite(f) and all_finite(g) and all_finite(H))

    @staticmethod
    def push(history: Any, value: Any, wanted: Any) -> Any:
        """A history with its oldest entry dropped and a value added at its end, if wanted."""
        if not wanted:
            return history
        return np.array([*history.tolist()[1:], value], history.dtype)

    @staticmethod
    def while_loop(more: Callable[[Any], Any], body: Callable[[Any], Any], state: Any) -> Any:
        """As `jax.lax.while_loop`."""
        while more(state):
            state = body(state)
        return state

    @staticmethod
    def fori_loop(begin: int, end: int, body: Callable[[Any, Any], Any], state: Any) -> Any:
        """As `jax.lax.fori_loop`."""
        for i in range(begin, end):
            state = body(i, state)
        return state

    @staticmethod
    def integer(x: Any) -> Any:
        """x as int32."""
        return np.int32(x)

    @staticmethod
    def scalar(x: Any, dtype: Any) -> Any:
        """x, one number, in the given type."""
        kind = np.dtype(dtype).type
        return x if x.__class__ is kind else kind(x)


TRACED: Any = _Traced()
HOST: Any = _Host()


def arrays(x: Any) -> Any:
    """The side that x belongs to: NumPy arrays and scalars are of the host, everything else is traced.

    Example:
        >>> import numpy as np
        >>> from mlejax.optimize.arrays import HOST, arrays
        >>> arrays(np.zeros(2)) is HOST
        True
    """
    return HOST if isinstance(x, (np.ndarray, np.generic)) else TRACED
