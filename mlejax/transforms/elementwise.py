"""Elementwise bijections: identity, log, scaled logit, closed and half-open intervals.

An open end of an interval is reached only as u goes to infinity. A closed end is a bound of u, where the derivative of the value
is not zero, so that the score there shows whether it is the maximum. Near an end the distance to *that* end is computed, so
that a probability of 1e-300 keeps all its digits. If the end is not 0, float64 limits how near a value can come,
and ``forward`` then returns at most the next representable number inside an open end.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from math import inf, isfinite, prod
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.typing import ArrayLike

Shape = tuple[int, ...]


def as_float(x: ArrayLike) -> jax.Array:
    """Return x as a JAX array of floats: of its own dtype, or of JAX's default one for integers and booleans."""
    a = jnp.asarray(x)
    return a if jnp.issubdtype(a.dtype, jnp.floating) else a.astype(float)


def indices(shape: Shape) -> tuple[Shape, ...]:
    """Return all index tuples of a shape, in row-major order; ``((),)`` for a scalar."""
    return tuple(np.ndindex(*shape))


def read(value: ArrayLike) -> np.ndarray | str:
    """Return a value as a float64 array, or a string that says what is wrong if it is not an array of finite numbers."""
    try:
        a = np.asarray(value, dtype=np.float64)
    except (TypeError, ValueError):
        return f"{value!r} is not an array of numbers"
    return first_bad(a, ~np.isfinite(a), "a finite number") or a


def first_bad(a: np.ndarray, bad: np.ndarray, expected: str) -> str | None:
    """Return a phrase on the first entry of ``a`` where the mask ``bad`` is True (index, value, what was expected) and the
    number of others; None if the mask is False throughout.
    """
    where = np.argwhere(bad)
    if not len(where):
        return None
    index = tuple(int(i) for i in where[0])
    subject = f"entry {list(index)}" if index else "value"
    others = f" (and {len(where) - 1} more)" if len(where) > 1 else ""
    return f"{subject} is {float(a[index])!r}, expected {expected}{others}"


class Transform(ABC):
    """The interface of every bijection, with default methods.

    ``shape`` is always the shape of the value, a tuple of ints; ``k = n_free(shape)``. ``forward``, ``inverse``,
    ``free`` and ``expand`` are pure JAX functions in JAX's default precision; the others use NumPy.
    They raise ValueError for a shape that the transform cannot have.

    Attributes:
        elementwise: True if each entry of the value is transformed by itself.
        unchanged: True if u equals theta.
    """

    elementwise: ClassVar[bool]
    unchanged: ClassVar[bool] = False

    @abstractmethod
    def n_free(self, shape: Shape) -> int:
        """Return the number k of coordinates of ``u``, which is also that of ``theta``."""

    @abstractmethod
    def forward(self, u: ArrayLike, shape: Shape) -> jax.Array:
        """Return the value, natural scale, at coordinates ``u`` of shape (k,); first and second derivatives are finite unless
        the value overflows.
        """

    @abstractmethod
    def inverse(self, value: ArrayLike) -> jax.Array:
        """Return the coordinates ``u``, shape (k,), of a value inside the support; of another one they are NaN, infinite or
        meaningless.
        """

    def free(self, value: ArrayLike) -> jax.Array:
        """Return the free natural coordinates ``theta``, shape (k,), a selection of the value's entries."""
        return as_float(value).reshape(-1)

    def expand(self, theta: ArrayLike, shape: Shape) -> jax.Array:
        """Return the value at free natural coordinates ``theta`` of shape (k,): affine, the inverse of ``free``."""
        self.n_free(shape)  # refuses an impossible shape
        return as_float(theta).reshape(shape)

    def bounds(self, shape: Shape) -> tuple[np.ndarray, np.ndarray]:
        """Return the lower and the upper bounds of ``u``, float64, shape (k,) each; -inf and inf for no bound."""
        k = self.n_free(shape)
        return np.full(k, -inf), np.full(k, inf)

    def reported(self, shape: Shape) -> tuple[Shape, ...]:
        """Return the index tuples of the value's distinct entries, in the order in which tables show them."""
        return indices(shape)

    @abstractmethod
    def interval_links(self, shape: Shape) -> tuple[Transform, ...]:
        """Return, for each of the `reported` entries, the elementwise bijection on whose ``u`` scale its confidence interval is
        computed.
        """

    def problem(self, value: ArrayLike) -> str | None:
        """Return a phrase that says why a value (not traced) is not an array of finite numbers inside the support; None if it
        is.
        """
        a = read(value)
        return a if isinstance(a, str) else self._outside(a)

    @abstractmethod
    def _outside(self, a: np.ndarray) -> str | None:
        """Return what `problem` does, for an array of finite numbers."""


class Elementwise(Transform):
    """Base class of bijections that transform every entry by itself; values may have any shape."""

    elementwise: ClassVar[bool] = True

    def n_free(self, shape: Shape) -> int:
        return prod(shape)

    def interval_links(self, shape: Shape) -> tuple[Transform, ...]:
        return (self,) * prod(shape)


def _bounds(name: str, lo: float, hi: float) -> tuple[float, float]:
    """Return the bounds of an interval as floats; ValueError unless they and their difference are finite, and lo < hi. ``name``
    is that of the transform.
    """
    lo, hi = float(lo), float(hi)
    if not (isfinite(lo) and isfinite(hi) and lo < hi and isfinite(hi - lo)):
        raise ValueError(
            f"{name}: expected two finite bounds lo < hi with a finite difference, got lo={lo!r}, hi={hi!r}. "
            "For a support with one bound only use Log (open) or Box (closed)."
        )
    return lo, hi


def _step_inside(bound: float, towards: float, dtype: np.dtype) -> float:
    """Return the number of this dtype next to a bound, in the direction of ``towards``; next to 0 the smallest normal number (XLA
    flushes subnormal ones), with the sign of ``towards``.
    """
    kind = np.dtype(dtype).type
    if bound == 0.0:
        return float(np.copysign(np.finfo(kind).tiny, towards))
    return float(np.nextafter(kind(bound), kind(towards)))


def _keep_between(v: jax.Array, low: float, high: float) -> jax.Array:
    """Return a value clipped to [low, high], with the derivatives that it has without clipping."""
    return v + lax.stop_gradient(jnp.clip(v, low, high) - v)


class _Unchanged(Elementwise):
    """Base class of bijections with value = u."""

    unchanged: ClassVar[bool] = True

    def forward(self, u: ArrayLike, shape: Shape) -> jax.Array:
        return as_float(u).reshape(shape)

    def inverse(self, value: ArrayLike) -> jax.Array:
        return as_float(value).reshape(-1)

    def interval_links(self, shape: Shape) -> tuple[Transform, ...]:
        return (Identity(),) * prod(shape)


@dataclass(frozen=True)
class Identity(_Unchanged):
    """The real line: value = u.

    Example:
        >>> Identity().n_free((3,))
        3
    """

    def _outside(self, a: np.ndarray) -> str | None:
        return None


@dataclass(frozen=True)
class Log(Elementwise):
    """The positive numbers: value = exp(u).

    Example:
        >>> Log().problem([1.0, -0.3])
        'entry [1] is -0.3, expected > 0'
    """

    def forward(self, u: ArrayLike, shape: Shape) -> jax.Array:
        return jnp.exp(as_float(u)).reshape(shape)

    def inverse(self, value: ArrayLike) -> jax.Array:
        return jnp.log(as_float(value)).reshape(-1)

    def _outside(self, a: np.ndarray) -> str | None:
        return first_bad(a, a <= 0, "> 0")


@dataclass(frozen=True)
class Logit(Elementwise):
    """The open interval (lo, hi): value = lo + (hi - lo) / (1 + exp(-u)).

    Args:
        lo, hi: the bounds, natural scale, finite.

    Raises:
        ValueError: the bounds or their difference are not finite, or not lo < hi.

    Example:
        >>> float(Logit(-1, 1).forward([0.0], ()))
        0.0
    """

    lo: float
    hi: float

    def __post_init__(self) -> None:
        lo, hi = _bounds("Logit", self.lo, self.hi)
        object.__setattr__(self, "lo", lo)
        object.__setattr__(self, "hi", hi)

    def forward(self, u: ArrayLike, shape: Shape) -> jax.Array:
        u = as_float(u).reshape(shape)
        width, middle = self.hi - self.lo, 0.5 * self.lo + 0.5 * self.hi
        # Each piece is relatively accurate where it is used: from the lower bound, the middle, the upper bound.
        low = self.lo + width * jax.nn.sigmoid(u)
        mid = middle + 0.5 * width * jnp.tanh(0.5 * u)
        high = self.hi - width * jax.nn.sigmoid(-u)
        v = jnp.where(u < -1.0, low, jnp.where(u > 1.0, high, mid))
        return _keep_between(v, _step_inside(self.lo, self.hi, v.dtype), _step_inside(self.hi, self.lo, v.dtype))

    def inverse(self, value: ArrayLike) -> jax.Array:
        v = as_float(value).reshape(-1)
        width, middle = self.hi - self.lo, 0.5 * self.lo + 0.5 * self.hi
        x = (v - middle) / (0.5 * width)
        central = jnp.abs(x) < 0.5
        outer = jnp.log(v - self.lo) - jnp.log(self.hi - v)
        return jnp.where(central, 2.0 * jnp.arctanh(jnp.where(central, x, 0.0)), outer)

    def _outside(self, a: np.ndarray) -> str | None:
        return first_bad(a, (a <= self.lo) | (a >= self.hi), f"> {self.lo:g} and < {self.hi:g}")


@dataclass(frozen=True)
class Box(_Unchanged):
    """The closed interval [lo, hi]: value = u, with lo <= u <= hi.

    Args:
        lo, hi: the bounds, natural scale; one or both may be infinite.

    Raises:
        ValueError: not lo < hi.

    Example:
        >>> Box(0, float("inf")).bounds(())
        (array([0.]), array([inf]))
    """

    lo: float
    hi: float

    def __post_init__(self) -> None:
        lo, hi = float(self.lo), float(self.hi)
        if not lo < hi:
            raise ValueError(f"Box: expected bounds lo < hi, got lo={lo!r}, hi={hi!r}")
        object.__setattr__(self, "lo", lo)
        object.__setattr__(self, "hi", hi)

    def bounds(self, shape: Shape) -> tuple[np.ndarray, np.ndarray]:
        k = prod(shape)
        return np.full(k, self.lo), np.full(k, self.hi)

    def _outside(self, a: np.ndarray) -> str | None:
        sides = [f">= {self.lo:g}"] * (self.lo > -inf) + [f"<= {self.hi:g}"] * (self.hi < inf)
        return first_bad(a, (a < self.lo) | (a > self.hi), " and ".join(sides))


@dataclass(frozen=True)
class HalfOpen(Elementwise):
    """An interval closed on one side: [lo, hi) or (lo, hi].

    ``closed="left"``: value = lo + (hi - lo) (1 - exp(-u)) with u >= 0; ``closed="right"``: value = hi - (hi - lo)
    (1 - exp(u)) with u <= 0. The value increases with u, and its derivative at the closed end is hi - lo.

    Args:
        lo, hi: the bounds, natural scale, finite.
        closed: "left" or "right".

    Raises:
        ValueError: the bounds or their difference are not finite, or not lo < hi; ``closed`` is neither "left" nor "right".

    Example:
        >>> float(HalfOpen(0, 1, closed="left").forward([0.0], ()))
        0.0
    """

    lo: float
    hi: float
    closed: str = "left"

    def __post_init__(self) -> None:
        lo, hi = _bounds("HalfOpen", self.lo, self.hi)
        if self.closed not in ("left", "right"):
            raise ValueError(f'HalfOpen: expected closed="left" or closed="right", got {self.closed!r}')
        object.__setattr__(self, "lo", lo)
        object.__setattr__(self, "hi", hi)

    def forward(self, u: ArrayLike, shape: Shape) -> jax.Array:
        u = as_float(u).reshape(shape)
        width = self.hi - self.lo
        if self.closed == "left":
            v = jnp.where(u < 1.0, self.lo - width * jnp.expm1(-u), self.hi - width * jnp.exp(-u))
            return _keep_between(v, -inf, _step_inside(self.hi, self.lo, v.dtype))
        v = jnp.where(u > -1.0, self.hi + width * jnp.expm1(u), self.lo + width * jnp.exp(u))
        return _keep_between(v, _step_inside(self.lo, self.hi, v.dtype), inf)

    def inverse(self, value: ArrayLike) -> jax.Array:
        v = as_float(value).reshape(-1)
        width = self.hi - self.lo
        near, far = (v - self.lo, self.hi - v) if self.closed == "left" else (self.hi - v, v - self.lo)
        x = near / width
        u = jnp.where(x < 0.5, -jnp.log1p(-jnp.where(x < 0.5, x, 0.0)), -jnp.log(far / width))
        return u if self.closed == "left" else -u

    def bounds(self, shape: Shape) -> tuple[np.ndarray, np.ndarray]:
        k = prod(shape)
        return (np.zeros(k), np.full(k, inf)) if self.closed == "left" else (np.full(k, -inf), np.zeros(k))

    def interval_links(self, shape: Shape) -> tuple[Transform, ...]:
        return (Logit(self.lo, self.hi),) * prod(shape)

    def _outside(self, a: np.ndarray) -> str | None:
        if self.closed == "left":
            return first_bad(a, (a < self.lo) | (a >= self.hi), f">= {self.lo:g} and < {self.hi:g}")
        return first_bad(a, (a <= self.lo) | (a > self.hi), f"> {self.lo:g} and <= {self.hi:g}")
