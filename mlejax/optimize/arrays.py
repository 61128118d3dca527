"""One set of formulas, two kinds of arrays: JAX inside a trace, NumPy on the host.

A trust-region step is a few dozen operations on a p x p matrix. Compiled, they cost seconds (about 120 small kernels, four
times the value, score and Hessian of a typical likelihood), in NumPy a tenth of a millisecond a turn. A single fit
therefore takes its steps on the host; `vmap`, `lax.map` and the pure core trace the same functions.

    xp = arrays(u)
    xp.where(u > 0, a, b)

On the host every scalar is a NumPy scalar (`np.float64`, `np.bool_`), for which `~` and `&` mean what they mean for
arrays, and `where` with a scalar condition hands on one of its two sides.  What only one side of a scalar condition needs
is written as `choose(condition, lambda: a, lambda: b)`: traced, both are computed and one is selected; on the host only that
one is computed, which for a small problem is most of a turn's time.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from mlejax.linalg import solve_spd, solve_spd_host

__all__ = ["HOST", "TRACED", "arrays"]


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
    eigh = staticmethod(jnp.linalg.eigh)
    solve_spd = staticmethod(solve_spd)
    while_loop = staticmethod(jax.lax.while_loop)
    fori_loop = staticmethod(jax.lax.fori_loop)

    @staticmethod
    def choose(condition: Any, yes: Callable[[], Any], no: Callable[[], Any]) -> Any:
        """`yes()` where a scalar condition holds, else `no()`: arrays, or named tuples of them."""
        a, b = yes(), no()
        if isinstance(a, tuple):
            return a.__class__(*(jnp.where(condition, x, y) for x, y in zip(a, b, strict=True)))
        return jnp.where(condition, a, b)

    @staticmethod
    def push(history: Any, value: Any) -> Any:
        """A history with its oldest entry dropped and a value added at its end."""
        return jnp.concatenate([history[1:], jnp.asarray(value, history.dtype).reshape(1)])

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

    abs = staticmethod(np.abs)
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
    solve_spd = staticmethod(solve_spd_host)

    @staticmethod
    def where(condition: Any, yes: Any, no: Any) -> Any:
        """Entry by entry, or one side as it is where the condition is a scalar."""
        if condition.__class__ is not np.bool_ and condition.ndim:
            return np.where(condition, yes, no)
        side = yes if condition else no
        return np.asarray(side)[()] if side.__class__ in _PYTHON else side

    @staticmethod
    def choose(condition: Any, yes: Callable[[], Any], no: Callable[[], Any]) -> Any:
        """One of two sides, and only that one computed."""
        side = yes() if condition else no()
        return np.asarray(side)[()] if side.__class__ in _PYTHON else side

    @staticmethod
    def maximum(a: Any, b: Any) -> Any:
        """The larger one, entry by entry; NaN where one of them is."""
        if a.__class__ in _SCALARS and b.__class__ in _SCALARS:  # a tenth of the time of the general function
            return np.float64(a if a > b or a != a else b)
        return np.maximum(a, b)

    @staticmethod
    def minimum(a: Any, b: Any) -> Any:
        """The smaller one, entry by entry; NaN where one of them is."""
        if a.__class__ in _SCALARS and b.__class__ in _SCALARS:
            return np.float64(a if a < b or a != a else b)
        return np.minimum(a, b)

    @staticmethod
    def push(history: Any, value: Any) -> Any:
        """A history with its oldest entry dropped and a value added at its end."""
        out = np.empty_like(history)
        out[:-1] = history[1:]
        out[-1] = value
        return out

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
        return np.asarray(x, dtype)[()]


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
